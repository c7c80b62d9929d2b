"""asyncssh, one step a run; tests/ssh_clients.rs says what the steps are and which variables say where and who."""

import asyncio
import hashlib
import os
import sys

import asyncssh

env = os.environ.get


def say(*words):
    print(*words, flush=True)


def md5(data):
    return hashlib.md5(data if isinstance(data, bytes) else data.encode()).hexdigest()


async def connect(**options):
    """Verifies Keyward's host key by the known_hosts file, and the inner link's certificate by its `@cert-authority` line."""
    proof = {"client_keys": [env("SSH_KEY")], "password": None}
    plain = {"known_hosts": env("SSH_KNOWN_HOSTS"), "agent_path": None, "config": None, "login_timeout": 20, "connect_timeout": 20}
    outer = await asyncssh.connect(env("SSH_HOST"), int(env("SSH_PORT")), username=env("SSH_USER"), **(plain | proof | options))
    if not env("SSH_TARGET"):
        return outer
    # It says that the channel comes from nowhere, not from this machine: the inner link asks for a proof of its own.
    return await asyncssh.connect(env("SSH_TARGET"), 22, username=env("SSH_TARGET_USER"), tunnel=outer, **(plain | proof | options))


async def login():
    async with await connect() as ssh:
        done = await ssh.run("id -un; echo err >&2; cat; exit 3", input="from here")
        say(done.stdout, done.stderr, done.exit_status)


async def password():
    async with await connect(client_keys=None, password=env("SSH_PASSWORD"), preferred_auth="password") as ssh:
        say((await ssh.run("id -un")).stdout)


async def keyboard_interactive():
    class Answers(asyncssh.SSHClient):
        def kbdint_auth_requested(self):
            return ""

        def kbdint_challenge_received(self, name, instructions, lang, prompts):
            say(len(prompts), [echo for _, echo in prompts])
            return [env("SSH_PASSWORD")] * len(prompts)

    async with await connect(client_keys=None, client_factory=Answers, preferred_auth="keyboard-interactive") as ssh:
        say((await ssh.run("id -un")).stdout)


async def ciphers():
    for cipher in ["aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"]:
        async with await connect(encryption_algs=[cipher]) as ssh:
            done = await ssh.run("echo in")
            say(cipher, ssh.get_extra_info("recv_cipher") in (cipher, cipher), done.stdout)


async def signal():
    async with await connect() as ssh:
        done = await ssh.run("kill -KILL $$")
        say(done.exit_status, done.exit_signal[0], done.exit_signal[1])
        async with ssh.create_process("trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.1; done") as process:
            say(await process.stdout.readline())
            process.send_signal("USR1")
            say(await process.stdout.read(), (await process.wait()).exit_status)


async def terminal():
    async with await connect() as ssh:
        async with ssh.create_process("stty size; read line; stty size; echo $TERM", term_type="vt220", term_size=(97, 31)) as process:
            say(await process.stdout.readline())
            process.change_terminal_size(120, 40)
            process.stdin.write("\n")
            say((await process.stdout.read()).split(), (await process.wait()).exit_status)


async def names():
    """What shows nowhere but in the server's log: a break."""
    async with await connect() as ssh:
        async with ssh.create_process("read line; echo $line", term_type="vt220") as process:
            process.send_break(100)
            process.stdin.write("gone on\n")
            say((await process.stdout.read()).split(), (await process.wait()).exit_status)


async def environment():
    async with await connect() as ssh:
        say((await ssh.run("echo $LC_MINE", env={"LC_MINE": "ünïcode"})).stdout)


async def sftp():
    async with await connect() as ssh, ssh.start_sftp_client() as files:
        data, there = os.urandom(1 << 20) * 5, env("SSH_FOLDER") + "/file"
        async with files.open(there, "wb") as file:
            await file.write(data)
        async with files.open(there, "rb") as file:
            say(md5(await file.read()) == md5(data), (await files.stat(there)).size)
        say(sorted(await files.listdir(env("SSH_FOLDER"))))
        await files.remove(there)
        try:
            await files.stat(there)
        except asyncssh.SFTPError as error:
            say(type(error).__name__, error.reason)


async def many():
    async with await connect() as ssh:

        async def one(number):
            done = await ssh.run(f"seq {number * 1000} | md5sum; exit {number}")
            return done.stdout, done.exit_status

        say(await asyncio.gather(*(one(number) for number in range(30))))


async def echo(reader, writer):
    while piece := await reader.read(65536):
        writer.write(piece.upper())
    writer.close()


async def echo_port():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    return server.sockets[0].getsockname()[1]


async def forward():
    async with await connect() as ssh:
        port = await echo_port()
        reader, writer = await ssh.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        writer.write_eof()
        say(await reader.read())
        listener = await ssh.forward_local_port("127.0.0.1", 0, "127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
        writer.write(b"again")
        writer.write_eof()
        say(await reader.read())


async def refused():
    async with await connect() as ssh:
        try:
            await ssh.open_connection("127.0.0.1", 1)
        except asyncssh.ChannelOpenError as error:
            say(error.code, error.reason)


async def reverse():
    async with await connect() as ssh:
        listener = await ssh.forward_remote_port("127.0.0.1", 0, "127.0.0.1", await echo_port())
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
        writer.write(b"hello")
        writer.write_eof()
        say(await reader.read())
        listener.close()
        await listener.wait_closed()


async def rekey():
    async with await connect(rekey_bytes="1M") as ssh:
        say(md5((await ssh.run("seq 1500000")).stdout))
        say((await ssh.run("md5sum", input="0123456789" * 500000)).stdout)


async def unread():
    """A channel that nobody reads, and others beside it."""
    async with await connect() as ssh:
        stalled = await ssh.create_process("yes")
        stalled.stdout.channel.pause_reading()
        for _ in range(3):
            say((await ssh.run("seq 100000 | md5sum")).stdout)
        stalled.close()


asyncio.run(globals()[sys.argv[1]]())
