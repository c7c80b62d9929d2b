"""paramiko, one step a run; tests/ssh_clients.rs says what the steps are and which variables say where and who."""

import base64
import hashlib
import os
import socket
import socketserver
import sys
import threading

import paramiko

env = os.environ.get


def connect(key_file=None, password=None):
    outer = paramiko.SSHClient()
    # By itself, since paramiko's reader of known_hosts stumbles over `@cert-authority`.
    kind, key = env("SSH_HOST_KEY").split()
    known = paramiko.PKey.from_type_string(kind, base64.b64decode(key))
    outer.get_host_keys().add(f"[{env('SSH_HOST')}]:{env('SSH_PORT')}", kind, known)
    outer.set_missing_host_key_policy(paramiko.RejectPolicy())
    plain = {"allow_agent": False, "look_for_keys": False, "timeout": 20, "banner_timeout": 20, "auth_timeout": 20}
    proof = {"password": env("SSH_PASSWORD")} if password else {"key_filename": key_file or env("SSH_KEY")}
    outer.connect(env("SSH_HOST"), int(env("SSH_PORT")), env("SSH_USER"), **proof, **plain)
    if not env("SSH_TARGET"):
        return outer
    channel = outer.get_transport().open_channel("direct-tcpip", (env("SSH_TARGET"), 22), ("127.0.0.1", 0))
    # It verifies no certificates of hosts: Keyward's own key is what it expects there.
    inner, transport = paramiko.SSHClient(), paramiko.Transport(channel)
    transport.start_client(timeout=20)
    assert transport.get_remote_server_key() == known
    transport.auth_none(env("SSH_TARGET_USER"))
    inner._transport = transport
    inner.outer = outer
    return inner


def say(*words):
    print(*words, flush=True)


def md5(data):
    return hashlib.md5(data).hexdigest()


def login():
    ssh = connect()
    stdin, stdout, stderr = ssh.exec_command("id -un; echo err >&2; cat; exit 3")
    stdin.write("from here")
    stdin.channel.shutdown_write()
    say(stdout.read().decode(), stderr.read().decode(), stdout.channel.recv_exit_status())


def password():
    _, stdout, _ = connect(password=True).exec_command("id -un")
    say(stdout.read().decode())


def wrong_key():
    try:
        connect(key_file=env("SSH_OTHER_KEY"))
        say("in")
    except paramiko.AuthenticationException as error:
        say(type(error).__name__, error)


def terminal():
    channel = connect().get_transport().open_session()
    channel.get_pty("vt220", 97, 31)
    channel.exec_command("stty size; read line; stty size; echo $TERM")
    said = channel.recv(100)
    channel.resize_pty(120, 40)
    channel.sendall(b"\n")
    while piece := channel.recv(100):
        said += piece
    say(said.decode().split(), channel.recv_exit_status())


def environment():
    channel = connect().get_transport().open_session()
    channel.set_environment_variable("LC_MINE", "ünïcode")
    channel.exec_command("echo $LC_MINE")
    say(channel.recv(100).decode())


def sftp():
    files = connect().open_sftp()
    data = os.urandom(1 << 20) * 5
    there = env("SSH_FOLDER") + "/file"
    with files.open(there, "wb") as file:
        file.set_pipelined(True)
        file.write(data)
    with files.open(there, "rb") as file:
        file.prefetch()
        say(md5(file.read()) == md5(data), files.stat(there).st_size)
    files.rename(there, there + "2")
    say(files.listdir(env("SSH_FOLDER")))
    files.remove(there + "2")
    try:
        files.stat(there)
    except FileNotFoundError as error:
        say(error)


def many():
    ssh = connect()
    said, kept = [None] * 30, []

    def one(number):
        # Its input is kept: an end of the input that crosses the end of the channel, as paramiko sends it, ends any connection.
        stdin, stdout, _ = ssh.exec_command(f"seq {number * 1000} | md5sum; exit {number}")
        kept.append(stdin)
        said[number] = (stdout.read().decode(), stdout.channel.recv_exit_status())

    threads = [threading.Thread(target=one, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(said)


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while piece := self.request.recv(65536):
            self.request.sendall(piece.upper())


def echo_server():
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address


def forward():
    channel = connect().get_transport().open_channel("direct-tcpip", echo_server(), ("127.0.0.1", 0))
    channel.sendall(b"hello")
    channel.shutdown_write()
    said = b""
    while piece := channel.recv(100):
        said += piece
    say(said)


def reverse():
    transport = connect().get_transport()
    port = transport.request_port_forward("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", port)) as outside:
        channel = transport.accept(20)
        outside.sendall(b"hello")
        say(channel.recv(100))
        channel.sendall(b"world")
        say(outside.recv(100))
        channel.close()
        say(outside.recv(100))
    transport.cancel_port_forward("127.0.0.1", port)


def rekey():
    """The other end asks for it: where paramiko does, in the middle of something, it loses its way with any server."""
    ssh = connect()
    _, stdout, _ = ssh.exec_command("seq 1500000")
    say(md5(stdout.read()))
    stdin, stdout, _ = ssh.exec_command("md5sum")
    stdin.write(b"0123456789" * 500000)
    stdin.channel.shutdown_write()
    say(stdout.read().decode())
    _, stdout, _ = ssh.exec_command("seq 1500000")
    say(md5(stdout.read()))


def unread():
    """A channel that nobody reads, and others beside it."""
    ssh = connect()
    stalled = ssh.get_transport().open_session()
    stalled.exec_command("yes")
    for number in range(3):
        _, stdout, _ = ssh.exec_command("seq 100000 | md5sum")
        say(stdout.read().decode())
    stalled.close()


globals()[sys.argv[1]]()
