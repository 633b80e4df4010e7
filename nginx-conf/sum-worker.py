#!/usr/bin/env python3
"""The worker of request-response.conf: adds two numbers for whoever asks.

A question comes on work:sum:ID, its answer goes to reply:ID. Needs nothing but Python 3.

    sum-worker.py [--host 127.0.0.1] [--port 6380]
"""

import argparse
import json
import socket
import sys
import time

WORK = "work:sum:"
REPLY = "reply:"


class Redis:
    """One connection; just enough of the protocol (RESP2) to subscribe and to publish."""

    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), timeout=5)
        self.socket.settimeout(None)
        self.lines = self.socket.makefile("rb")

    def send(self, *words):
        words = [word if isinstance(word, bytes) else word.encode() for word in words]
        parts = [b"*%d\r\n" % len(words)]
        parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self.socket.sendall(b"".join(parts))

    def read(self):
        line = self.lines.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis went away")
        kind, rest = line[:1], line[1:-2]
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        if kind == b"$":
            return self.lines.read(int(rest) + 2)[:-2] if int(rest) >= 0 else None
        if kind == b"-":
            raise ConnectionError(f"Redis says: {rest.decode()}")
        return int(rest) if kind == b":" else rest


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def answer(question):
    """The JSON text that answers `question`, the bytes that a client sent."""
    try:
        request = json.loads(question)
        if not isinstance(request, dict):
            raise ValueError("want an object")
        a, b = request.get("a"), request.get("b")
        if not (is_number(a) and is_number(b)):
            raise ValueError('want numbers "a" and "b"')
        return json.dumps({"sum": a + b}, allow_nan=False, separators=(",", ":"))
    except (ValueError, OverflowError, RecursionError) as error:
        return json.dumps({"error": str(error)}, separators=(",", ":"))


def serve(host, port):
    """Answers until Redis goes away, then raises OSError."""
    subscriber, publisher = Redis(host, port), Redis(host, port)
    subscriber.send("PSUBSCRIBE", WORK + "*")
    while True:
        kind, *fields = subscriber.read()
        if kind == b"psubscribe":
            print("sum-worker: ready", flush=True)
        if kind == b"pmessage":
            _pattern, channel, question = fields
            client = channel[len(WORK) :]
            publisher.send("PUBLISH", REPLY.encode() + client, answer(question))
            publisher.read()


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=6380)
    options = options.parse_args()
    while True:
        try:
            serve(options.host, options.port)
        except OSError as error:
            print(f"sum-worker: {error}; again in a second", file=sys.stderr, flush=True)
            time.sleep(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
