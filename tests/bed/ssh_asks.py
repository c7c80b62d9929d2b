"""A client that asks for whatever it is told to, one line of standard input at a time; tests/bed/ssh_asks.rs says what there is."""

import ast
import os
import queue
import sys

import paramiko
from paramiko import common

replies = queue.Queue()


def connect():
    transport = paramiko.Transport((os.environ["SSH_HOST"], int(os.environ["SSH_PORT"])))
    transport.start_client(timeout=20)
    assert transport.get_remote_server_key().get_base64() == os.environ["SSH_HOST_KEY"].split()[1]
    transport.auth_publickey(os.environ["SSH_USER"], paramiko.Ed25519Key(filename=os.environ["SSH_KEY"]))
    # Its own handlers would close a channel at the first refusal.
    transport._channel_handler_table = dict(transport._channel_handler_table)
    transport._channel_handler_table[common.MSG_CHANNEL_SUCCESS] = lambda channel, message: replies.put("yes")
    transport._channel_handler_table[common.MSG_CHANNEL_FAILURE] = lambda channel, message: replies.put("no")
    return transport


def request(channel, name):
    message = paramiko.Message()
    message.add_byte(common.cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    name, _, value = name.partition(":")
    name, values = {"sftp": ("subsystem", ["sftp"]), "exec": ("exec", ["echo hello"]), "env": ("env", [value, "x"])}.get(name, (name, []))
    message.add_string(name)
    message.add_boolean(True)
    for value in values:
        message.add_string(value)
    return message


def pipelined(transport, names):
    channel = transport.open_session(timeout=20)
    messages = [request(channel, name) for name in names]
    for message in messages:
        transport._send_user_message(message)
    said = [replies.get(timeout=20) for _ in names]
    channel.close()
    return " ".join(said)


def answer(transport, what, rest):
    if what == "pipelined":
        return pipelined(transport, rest.split())
    name = ast.literal_eval(rest)
    if what == "request":
        return pipelined(transport, [name])
    if what == "global":
        return "no" if transport.global_request(name, wait=True) is None else "yes"
    if what == "forward":
        return "no" if transport.global_request("tcpip-forward", (name, 0), wait=True) is None else "yes"
    assert what == "open"
    try:
        transport.open_channel(name, dest_addr=("127.0.0.1", 1), src_addr=("127.0.0.1", 1), timeout=20)
        return "open"
    except paramiko.ChannelException as refused:
        return f"refused {refused.code}"


transport = connect()
for line in sys.stdin:
    what, _, rest = line.rstrip("\n").partition(" ")
    print(answer(transport, what, rest), flush=True)
transport.close()
