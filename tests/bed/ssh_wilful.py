"""A server that asks its clients for what they did not invite: `ssh_wilful.py HOST_KEY PORT_FILE`. Every command gets a report of it."""

import pathlib
import socket
import sys
import threading

import paramiko

HOST_KEY, PORT_FILE = sys.argv[1], pathlib.Path(sys.argv[2])
KINDS = ["x11", "auth-agent@openssh.com", "forwarded-tcpip", "session", "direct-tcpip", "made-up"]


class Door(paramiko.ServerInterface):
    def __init__(self, transport):
        self.transport = transport

    def get_allowed_auths(self, username):
        return "publickey"

    def check_auth_publickey(self, username, key):
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind, number):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_forward_agent_request(self, channel):
        return True

    def check_channel_x11_request(self, channel, single, protocol, cookie, screen):
        return True

    def check_channel_exec_request(self, channel, command):
        threading.Thread(target=self.ask, args=(channel,), daemon=True).start()
        return True

    def ask(self, channel):
        for kind in KINDS:
            channel.sendall(f"{kind}: {self.open(kind)}\n")
        for name in ["hostkeys-00@openssh.com", "made-up", "keepalive@openssh.com"]:
            answer = self.transport.global_request(name, wait=True)
            channel.sendall(f"{name} asked: {'no' if answer is None else 'yes'}\n")
        channel.send_exit_status(0)
        channel.close()

    def open(self, kind):
        try:
            self.transport.open_channel(kind, dest_addr=("127.0.0.1", 9), src_addr=("127.0.0.1", 9), timeout=20).close()
            return "open"
        except paramiko.ChannelException as refused:
            return f"refused {refused.code}"


listener = socket.create_server(("127.0.0.1", 0))
PORT_FILE.with_suffix(".new").write_text(str(listener.getsockname()[1]))
PORT_FILE.with_suffix(".new").rename(PORT_FILE)
while True:
    client, _ = listener.accept()
    transport = paramiko.Transport(client)
    transport.add_server_key(paramiko.Ed25519Key(filename=HOST_KEY))
    try:
        transport.start_server(server=Door(transport))
    except (paramiko.SSHException, EOFError):
        transport.close()
