#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ask a redis-server one question whose answer differs before and after a fix.

usage: redis-probe.py PORT PROBE

Prints one line: what a client of the server saw. No probe crashes a server that
lacks the fix; README.md says what each line means.
"""
import socket
import sys


def encode(*args):
    out = b"*%d\r\n" % len(args)
    for a in args:
        a = a if isinstance(a, bytes) else str(a).encode()
        out += b"$%d\r\n%s\r\n" % (len(a), a)
    return out


class Client:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.buf = b""

    def send(self, *args):
        self.sock.sendall(encode(*args))

    def line(self):
        while b"\r\n" not in self.buf:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError("the server closed the connection")
            self.buf += more
        line, self.buf = self.buf.split(b"\r\n", 1)
        return line

    def reply(self):
        line = self.line()
        if line[:1] == b"$" and line != b"$-1":
            need = int(line[1:]) + 2
            while len(self.buf) < need:
                self.buf += self.sock.recv(65536)
            body, self.buf = self.buf[:need - 2], self.buf[need:]
            return body
        if line[:1] == b"*" and line != b"*-1":
            return [self.reply() for _ in range(int(line[1:]))]
        return line

    def ask(self, *args):
        self.send(*args)
        return self.reply()


def crc64(data):
    """CRC-64/Jones, reflected: the checksum at the end of a DUMP payload."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
    return crc


def acl_selector(c):
    # A permission without a pattern: accepted before the fix.
    answer = c.ask("ACL", "SETUSER", "suture-probe", "%")
    c.ask("ACL", "DELUSER", "suture-probe")
    return answer


def glob_nesting(c):
    # 1200 stars in a row that each need one byte: they match before the fix, and
    # the depth of recursion is theirs; after it anything deeper than 1000 does not match.
    key = "g" * 1200
    c.ask("SET", key, "1")
    found = c.ask("KEYS", "*?" * 1200)
    c.ask("DEL", key)
    return b"%d keys" % len(found)


def hll_overflow(c):
    # Run lengths that add up to 2^32 + 2^14: a sum in 32 bits sees a whole register
    # file. Only XZERO opcodes, so nothing is written out of bounds. The high bit of the
    # eighth byte of the cardinality says that the cached value is stale.
    header = b"HYLL\x01\0\0\0" + b"\0" * 7 + b"\x80"
    c.ask("SET", "suture-hll", header + b"\x7f\xff" * (2 ** 18 + 1))
    answer = c.ask("PFCOUNT", "suture-hll")
    c.ask("DEL", "suture-hll")
    return answer


def reply_injection(c):
    # CR and LF in an argument that the error repeats: before the fix the client
    # reads them as the end of the error, and what follows as a reply of its own.
    c.send("FUNCTION", "LIST", "X\r\n+INJECTED")
    c.send("ECHO", "end")
    lines = [c.line()]
    while lines[-1] != b"end":
        lines.append(c.line())
    return b" | ".join(lines[:-2])


def unauthenticated_output(c):
    # Nobody reads, nobody has logged in: the replies pile up in the server.
    # After the fix the server hangs up once more than 1 KiB stands in its buffer.
    # The password is asked of new connections only: the load is not disturbed.
    admin, port = c, c.sock.getpeername()[1]
    admin.ask("CONFIG", "SET", "requirepass", "suture")
    try:
        return pile_up(Client(port))
    finally:
        admin.ask("CONFIG", "SET", "requirepass", "")


def pile_up(c):
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    chunk = encode("GET", "x") * 4096
    sent = 0
    try:
        while sent < 16 << 20:
            sent += c.sock.send(chunk)
    except (ConnectionResetError, BrokenPipeError):
        return b"closed"
    except socket.timeout:
        return b"stalled"
    return b"still open after 16 MiB"


def stream_shared_nack(c):
    # One pending entry with two owners. Loading it is all that is asked: the key is
    # never touched again, for that would use freed memory without the fix.
    entry = b"\x00\x00\x00\x00\x00\x00\x00\x01" + b"\x00" * 8
    payload = (b"\x0f\x01\x10" + b"\x00\x00\x00\x00\x00\x00\x00\x01" + b"\x00" * 8 +
        bytes.fromhex("2525000000"
        "0a000101000101018566"
        "69656c64060001020100"
        "010001857661"
        "6c756506"
        "0401ff"
        "01010001"
        "076d7967726f7570"
        "010001") + entry +
        bytes.fromhex("4a79898f9f010000" "01" "02" "09636f6e73756d657241" "4a79898f9f010000" "01") + entry +
        bytes.fromhex("09636f6e73756d657242" "5479898f9f010000" "01") + entry + b"\x09\x00")
    payload += crc64(payload).to_bytes(8, "little")
    for n in range(1000):
        if c.ask("EXISTS", "suture-nack-%d" % n) == b":0":
            return c.ask("RESTORE", "suture-nack-%d" % n, "0", payload)


def behaviour(c):
    # What redis-behaviour.patch changes, in four functions of three files.
    ping = c.ask("PING")
    c.ask("SET", "sealed:key", "value")
    sealed = c.ask("GET", "sealed:key")
    c.ask("DEL", "sealed:key")
    info = c.ask("INFO", "stats").decode()
    new = [l for l in info.split("\r\n") if l.startswith("pings_answered:")]
    pings = "none" if not new else "counted" if int(new[0].split(":")[1]) > 7000000 else new[0]
    c.sock.sendall(b"*1\r\n$x\r\n")
    error = c.line()
    return b" | ".join([ping, sealed, pings.encode(), error])


PROBES = {
    "behaviour": behaviour,
    "CVE-2024-31228": glob_nesting,
    "CVE-2024-51741": acl_selector,
    "CVE-2025-21605": unauthenticated_output,
    "CVE-2025-32023": hll_overflow,
    "CVE-2025-67733": reply_injection,
    "CVE-2026-66373": stream_shared_nack,
}

if __name__ == "__main__":
    answer = PROBES[sys.argv[2]](Client(int(sys.argv[1])))
    print(answer.decode("latin-1") if isinstance(answer, bytes) else answer)
