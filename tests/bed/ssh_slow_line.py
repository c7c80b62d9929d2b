"""A line as far clients have it, slow and in small packets, for ssh's ProxyCommand: `ssh_slow_line.py PORT BYTES_A_SECOND`."""

import os
import socket
import sys
import threading
import time

PIECE = 16 * 1024
PORT, RATE = int(sys.argv[1]), int(sys.argv[2])


def up():
    while piece := os.read(0, PIECE):
        line.sendall(piece)
    line.shutdown(socket.SHUT_WR)


line = socket.socket()
# Before it connects: what the kernel keeps of a connection within one machine is megabytes else, on both sides.
line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
line.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
line.connect(("127.0.0.1", PORT))
threading.Thread(target=up, daemon=True).start()
due = time.monotonic()
while piece := line.recv(PIECE):
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    due = max(due + len(piece) / RATE, time.monotonic() - 0.1)
    time.sleep(max(0, due - time.monotonic()))
