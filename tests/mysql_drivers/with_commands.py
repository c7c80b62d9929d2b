"""Commands that no driver sends, by PyMySQL's login and its packets: what comes back, packet by packet. See tests/mysql_drivers.rs."""

import re
import struct
import sys

from with_pymysql import connect, md5, say

SLEEP, INIT_DB, FIELD_LIST, CREATE_DB, REFRESH, STATISTICS, PROCESS_INFO, CONNECT, DEBUG, PING, TIME = 0, 2, 4, 5, 7, 9, 10, 11, 13, 14, 15
QUERY, DELAYED_INSERT, PREPARE, EXECUTE, LONG_DATA, CLOSE, STMT_RESET, SET_OPTION, FETCH, DAEMON, RESET = 3, 16, 22, 23, 24, 25, 26, 27, 28, 29, 31


def send(db, command, payload=b"", sequence=0):
    data = bytes([command]) + payload
    db._write_bytes(struct.pack("<I", len(data))[:3] + bytes([sequence]) + data)
    db._next_seq_id = sequence + 1


def packet(db):
    """One packet, its sequence number before it; an error is a packet like others."""
    header = db._read_bytes(4)
    payload = db._read_bytes(int.from_bytes(header[:3], "little"))
    return header[3], payload


def shown(sequence, payload):
    if payload[0] == 0xFF:  # the numbers of statements are the server's, not the session's
        return f"{sequence} {struct.unpack('<H', payload[1:3])[0]} {re.sub(rb'[(][0-9]+[)]', b'N', payload[3:]).decode()}"
    return f"{sequence} {payload.hex() if len(payload) < 300 else md5(payload)}"


def ends(payload):
    return payload[0] in (0x00, 0xFF) or eof(payload)


def eof(payload):
    return payload[0] == 0xFE and len(payload) < 9 or payload[0] == 0xFF


def answer(db):
    """An OK, an error, or a result with its two EOFs."""
    sequence, payload = packet(db)
    said = [shown(sequence, payload)]
    if not ends(payload):
        for _ in range(2):
            while True:
                sequence, payload = packet(db)
                said.append(shown(sequence, payload))
                if eof(payload):
                    break
            if payload[0] == 0xFF:
                break
    return said


def rows(db):
    said = []
    while True:
        sequence, payload = packet(db)
        said.append(shown(sequence, payload))
        if eof(payload):
            return said


def prepare(db, text):
    send(db, PREPARE, text)
    sequence, payload = packet(db)
    say("prepared", payload[0], payload[5:9].hex())
    number, columns, parameters = struct.unpack("<IHH", payload[1:9])
    for many in (parameters, columns):
        if many:
            say("described", len(rows(db)) - 1)
    return number


def one(db, command, payload=b""):
    send(db, command, payload)
    say(command, *answer(db))


def simple():
    with connect() as db:
        send(db, STATISTICS)
        _, payload = packet(db)
        say(re.sub(rb"[\d.]+", b"N", payload))
        one(db, PING)
        one(db, INIT_DB, db.db.encode() if isinstance(db.db, str) else db.db)
        one(db, INIT_DB, b"there_is_none_such")
        one(db, SET_OPTION, struct.pack("<H", 1))
        one(db, QUERY, b"SELECT 1; SELECT 2")
        one(db, SET_OPTION, struct.pack("<H", 0))
        send(db, QUERY, b"SELECT 1")
        say(*answer(db))
        send(db, FIELD_LIST, b"numbers\0%")
        say(*rows(db))
        send(db, FIELD_LIST, b"there_is_none_such\0")
        say(*rows(db))
        one(db, RESET)
        one(db, QUERY, b"SELECT 'still here'")


def odd():
    with connect() as db:
        for command in (SLEEP, CREATE_DB, REFRESH, CONNECT, DEBUG, TIME, DELAYED_INSERT, DAEMON, 0x60, 0x7F, 0xFF):
            send(db, command, b"\x01")
            sequence, payload = packet(db)
            say(command, shown(sequence, payload))
        one(db, QUERY, b"SELECT 'still here'")


def statements():
    with connect() as db:
        select = prepare(db, b"SELECT id, word FROM numbers WHERE id < ? ORDER BY id")
        # Flag 1: a read-only cursor; no row comes with the answer.
        send(db, EXECUTE, struct.pack("<IBIBBHi", select, 1, 1, 0, 1, 3, 700))
        sequence, payload = packet(db)
        say("executed", shown(sequence, payload), *rows(db))
        for many in (1, 0, 300, 1000):
            send(db, FETCH, struct.pack("<II", select, many))
            fetched = rows(db)
            say("fetched", len(fetched), md5("".join(fetched)), fetched[-1])
        one(db, STMT_RESET, struct.pack("<I", select))
        send(db, FETCH, struct.pack("<II", select, 1))
        say(*rows(db))
        # In pieces, which nobody answers; the second command is behind 300 of them.
        long = prepare(db, b"SELECT length(?), sha2(?, 256)")
        for number in range(300):
            send(db, LONG_DATA, struct.pack("<IH", long, number % 2) + bytes([number % 256]) * 10000)
        send(db, EXECUTE, struct.pack("<IBIBBHH", long, 0, 1, 0, 1, 252, 252))
        say(*answer(db))
        send(db, CLOSE, struct.pack("<I", long))
        one(db, EXECUTE, struct.pack("<IBIBBHH", long, 0, 1, 0, 1, 252, 252))
        one(db, QUERY, b"SELECT 'still here'")


def pipelined():
    with connect() as db:
        whole = b""
        for number in range(500):
            data = b"\x03SELECT %d, REPEAT('x', %d)" % (number, number)
            whole += struct.pack("<I", len(data)) + data
        db._write_bytes(whole)
        said = [line for _ in range(500) for line in answer(db)]
        say(len(said), md5("".join(said)))
        # Header and body, byte by byte.
        data = b"\x03SELECT 'slowly'"
        for byte in struct.pack("<I", len(data)) + data:
            db._write_bytes(bytes([byte]))
        say(*answer(db))


def dump_refused():
    """Not directly: a server would begin to send its binary log."""
    with connect() as db:
        for command, payload in ((0x12, struct.pack("<IHI", 4, 0, 77) + b"binlog.000001"), (0x15, bytes(18)), (0x13, bytes(4)), (0x1E, bytes(22))):
            send(db, command, payload)
            _, payload = packet(db)
            say(command, payload[0], struct.unpack("<H", payload[1:3])[0], payload[3:9].decode())
        one(db, QUERY, b"SELECT 'still here'")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
