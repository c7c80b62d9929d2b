"""An SSH server that lets in as it is told: `ssh_logins_server.py KIND FOLDER HOST_KEY`. tests/bed/ssh_logins_server.rs says what the kinds are.

What is tried is printed, never what it was tried with. The file `port` in the folder says where it listens, `secret` has what it wants.
"""

import asyncio
import json
import pathlib
import sys
import urllib.error
import urllib.request

import asyncssh

MUCH = 4 << 20
KIND, FOLDER, HOST_KEY = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]


def wanted():
    return (FOLDER / "secret").read_text()


def tried(what, counts):
    print("tried", what, "counts" if counts else "does not count", flush=True)
    return counts


def still_counts(user, password):
    """What vault-ssh-helper asks, and what it makes of the answer."""
    body = json.dumps({"otp": password}).encode()
    request = urllib.request.Request(wanted(), data=body, headers={"Content-Type": "application/json"}, method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            said = json.load(answer)["data"]
    except urllib.error.HTTPError:
        return False
    return said["username"] == user and said["ip"] == "127.0.0.1"


class Door(asyncssh.SSHServer):
    def begin_auth(self, username):
        self.user, self.asked = username, 0
        return True

    def password_auth_supported(self):
        return KIND in ("password", "once", "lasts", "not_strict")

    async def validate_password(self, username, password):
        if KIND == "once":
            with (FOLDER / "seen").open("a") as seen:
                print(password, file=seen)
            return tried("password", await asyncio.to_thread(still_counts, username, password))
        if KIND == "lasts":
            return tried("password", True)
        return tried("password", password == wanted())

    def kbdint_auth_supported(self):
        return KIND in ("prompts", "asks_twice")

    def get_kbdint_challenge(self, username, lang, submethods):
        return "", "", "", [("Password: ", False)]

    def validate_kbdint_response(self, username, responses):
        self.asked += 1
        if self.asked == 1 and KIND == "asks_twice":
            return "", "", "", [("Code from the other device: ", False)]
        return tried("keyboard-interactive", list(responses) == [wanted()])


async def session(process):
    process.stdout.write(f"in as {process.get_extra_info('username')}\n")
    if KIND == "lasts":
        await process.stdin.read()
    if KIND == "not_strict":
        process.stdout.write("0123456789abcdef" * (MUCH // 16))
    process.exit(0)


def forget_strict_kex():
    """It has no option for this: it takes part in it as soon as the client does."""
    asyncssh.connection.SSHConnection._strict_kex = property(lambda of: False, lambda of, wanted: None)
    asyncssh.connection.SSHConnection._get_extra_kex_algs = lambda of: [b"ext-info-s"]
    # Its nonces are the numbers of packets.
    return {"encryption_algs": ["chacha20-poly1305@openssh.com"]}


async def main():
    options = forget_strict_kex() if KIND == "not_strict" else {}
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Door, server_host_keys=[HOST_KEY], process_factory=session, **options
    )
    (FOLDER / "port.new").write_text(str(server.get_port()))
    (FOLDER / "port.new").rename(FOLDER / "port")
    await server.wait_closed()


asyncio.run(main())
