"""A jump whose client says where the inner link begins: `ssh_logins_jump.py ORIGINATOR PROOF...` tries each proof (none, key, other)
as deploy on web-1 and prints a line of it.

Where and who is in the environment: SSH_PORT, SSH_USER, SSH_KEY.
"""

import os
import sys

import paramiko

KEY = paramiko.Ed25519Key.from_private_key_file(os.environ["SSH_KEY"])


PROOFS = {
    "none": lambda inner: inner.auth_none("deploy"),
    "key": lambda inner: inner.auth_publickey("deploy", KEY),
    "other": lambda inner: inner.auth_publickey("deploy", paramiko.ECDSAKey.generate()),
}


def tries(originator, proof):
    outer = paramiko.Transport(("127.0.0.1", int(os.environ["SSH_PORT"])))
    inner = None
    try:
        outer.start_client(timeout=20)
        outer.auth_publickey(os.environ["SSH_USER"], KEY)
        try:
            channel = outer.open_channel("direct-tcpip", ("web-1", 22), (originator, 4711), timeout=20)
        except paramiko.ChannelException as error:
            return print(proof, "has no channel", error.code)
        inner = paramiko.Transport(channel)
        inner.start_client(timeout=20)
        try:
            PROOFS[proof](inner)
        except paramiko.AuthenticationException:
            return print(proof, "does not count")
        session = inner.open_session(timeout=20)
        session.exec_command("echo in")
        print(proof, "lets", session.makefile().read().decode().strip())
    finally:
        if inner:
            inner.close()
        outer.close()


for wanted in sys.argv[2:]:
    tries(sys.argv[1], wanted)
