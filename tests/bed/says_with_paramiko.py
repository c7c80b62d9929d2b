"""Does what its arguments say on one SSH link, word by word, and prints what it hears. Where, and alice's key: SSH_PORT and SSH_KEY.

Words of a login: as:NAME; none, key, key:FILE, password:TEXT, prompt:TEXT (each prints `in` or `out`); early (a channel before the login),
another (as bob after all), silent.
Words of a link that is in: exec:COMMAND, session (it asks for nothing), flood:COUNT:KIND (of channels), inner:HOST:ACCOUNT (a jump there by
`none`, and a command), hold:HOST (the same, which says nothing), over (until the server ends it).
Between them: wait (prints `waiting`, goes on when a line comes), all (prints each message of the server's behind the first keys, in hex).
"""

import logging
import os
import socket
import sys
import time

import paramiko
from paramiko.message import Message
from paramiko.packet import Packetizer

logging.getLogger("paramiko").addHandler(logging.NullHandler())
HEARD = []
HELD = []
READ = Packetizer.read_message


def read_message(packetizer):
    number, message = READ(packetizer)
    # Not of the exchange of keys, nor what a server says of itself behind it.
    if not 20 <= number < 50 and number not in (2, 3, 4, 6, 7):
        HEARD.append(bytes([number]) + message.get_remainder())
    return number, message


Packetizer.read_message = read_message


def own_key(path):
    return paramiko.Ed25519Key.from_private_key_file(path)


def certified(path):
    key = own_key(path)
    if os.path.exists(path + "-cert.pub"):
        key.load_certificate(path + "-cert.pub")
    return key


def opening(kind, number, host="nowhere"):
    message = Message()
    message.add_byte(bytes([90]))
    message.add_string(kind)
    message.add_int(number)
    message.add_int(1 << 20)
    message.add_int(1 << 15)
    if kind == "direct-tcpip":
        message.add_string(host)
        message.add_int(22)
        message.add_string("127.0.0.1")
        message.add_int(4711)
    return message


class Link:
    def __init__(self, stream):
        self.transport = paramiko.Transport(stream)
        self.transport.start_client(timeout=20)
        self.name = "alice"

    def proves(self, proof):
        try:
            proof()
            print("in", flush=True)
        except paramiko.SSHException:
            print("out", flush=True)

    def until_over(self):
        for _ in range(1000):
            if not self.transport.is_active():
                return
            time.sleep(0.02)
        raise RuntimeError("the link does not end")

    def login(self, word, rest):
        transport, name = self.transport, self.name
        if word == "none":
            self.proves(lambda: transport.auth_none(name))
        elif word == "key":
            self.proves(lambda: transport.auth_publickey(name, certified(rest or os.environ["SSH_KEY"])))
        elif word == "password":
            self.proves(lambda: transport.auth_password(name, rest, fallback=False))
        elif word == "prompt":
            self.proves(lambda: transport.auth_interactive(name, lambda *_: [rest]))
        elif word == "early":
            transport._send_user_message(opening("session", 1))
            self.until_over()
        elif word == "another":
            self.login("none", "")
            self.name = "bob"
            self.login("none", "")
        elif word == "silent":
            self.until_over()
        else:
            return False
        return True

    def does(self, word, rest):
        transport = self.transport
        if word == "exec":
            try:
                channel = transport.open_session(timeout=60)
                channel.exec_command(rest)
                print("said", channel.makefile().read().decode().strip(), flush=True)
            except paramiko.SSHException:
                print("no command", flush=True)
        elif word == "session":
            transport.open_session(timeout=20)
        elif word == "flood":
            count, kind = rest.split(":")
            for number in range(int(count)):
                transport._send_user_message(opening(kind, 1000 + number))
        elif word == "inner":
            host, account = rest.split(":")
            try:
                channel = transport.open_channel("direct-tcpip", (host, 22), ("127.0.0.1", 4711), timeout=20)
            except paramiko.ChannelException as refused:
                return print("no channel", refused.code, flush=True)
            inner = Link(channel)
            inner.name = account
            inner.login("none", "")
            if inner.transport.is_authenticated():
                inner.does("exec", "echo in")
            inner.transport.close()
        elif word == "hold":
            try:
                HELD.append(transport.open_channel("direct-tcpip", (rest, 22), ("127.0.0.1", 4711), timeout=20))
                print("held", flush=True)
            except paramiko.ChannelException as refused:
                print("no channel", refused.code, flush=True)
        elif word == "over":
            self.until_over()
        else:
            raise ValueError(word)


def main(words):
    link = Link(socket.create_connection(("127.0.0.1", int(os.environ["SSH_PORT"]))))
    for word in words:
        word, _, rest = word.partition(":")
        if word == "as":
            link.name = rest
        elif word == "wait":
            print("waiting", flush=True)
            sys.stdin.readline()
        elif word == "all":
            for message in HEARD:
                print(message.hex(), flush=True)
        elif not link.login(word, rest):
            link.does(word, rest)
    link.transport.close()


main(sys.argv[1:])
