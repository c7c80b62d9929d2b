"""A jump whose client says where the inner link begins: `ssh_logins_jump.py ORIGINATOR ACCOUNT TARGET PORT`, a line for each proof it tries there.

Where and who is in the environment: SSH_PORT, SSH_USER, SSH_KEY.
"""

import os
import sys

import paramiko

ORIGINATOR, ACCOUNT, TARGET, PORT = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
KEY = paramiko.Ed25519Key.from_private_key_file(os.environ["SSH_KEY"])


def tries(name, proof):
    outer = paramiko.Transport(("127.0.0.1", int(os.environ["SSH_PORT"])))
    inner = None
    try:
        outer.start_client(timeout=20)
        outer.auth_publickey(os.environ["SSH_USER"], KEY)
        try:
            channel = outer.open_channel("direct-tcpip", (TARGET, PORT), (ORIGINATOR, 4711), timeout=20)
        except paramiko.ChannelException as error:
            return print(name, "has no channel", error.code)
        inner = paramiko.Transport(channel)
        inner.start_client(timeout=20)
        try:
            proof(inner)
        except paramiko.AuthenticationException:
            return print(name, "does not count")
        session = inner.open_session(timeout=20)
        session.exec_command("echo in")
        print(name, "lets", session.makefile().read().decode().strip())
    finally:
        if inner:
            inner.close()
        outer.close()


tries("none", lambda inner: inner.auth_none(ACCOUNT))
tries("key", lambda inner: inner.auth_publickey(ACCOUNT, KEY))
tries("another key", lambda inner: inner.auth_publickey(ACCOUNT, paramiko.ECDSAKey.generate()))
