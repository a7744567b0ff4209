"""The bare server: the same work as raw RESP on one connection, packed beforehand where that is fair.

What no client can beat: an upper bound on rates, a lower bound on waiting.
"""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import hiredis
import numpy as np

__all__ = ["Bare"]

FRAME_NBYTES = 2 * 2**20
TRIP = 500
"""Commands in one pipeline."""


class Bare:
    """One connection to a server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def close(self) -> None:
        """Closes it."""
        self._socket.close()

    def _reply(self) -> object:
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(2**18))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _ask(self, *command: object) -> object:
        self._socket.sendall(hiredis.pack_command(command))
        return self._reply()

    def send(self, streams: int, points: int) -> float:
        """Pipelined XADDs of one scalar each [points/s]."""
        keys = [f"bare:{i}" for i in range(streams)]
        payload = struct.pack("<d", 1.5)
        packed = [
            hiredis.pack_command(
                ("XADD", keys[i % streams], f"{i // streams}-1", "payload", payload)
            )
            for i in range(points)
        ]
        trips = [b"".join(packed[i : i + TRIP]) for i in range(0, points, TRIP)]
        begin = time.perf_counter()
        for i, trip in enumerate(trips):
            self._socket.sendall(trip)
            for _ in range(min(TRIP, points - i * TRIP)):
                self._reply()
        took = time.perf_counter() - begin
        self._ask("UNLINK", *keys)
        return points / took

    def write_frames(self, frames: int) -> float:
        """XADDs of 2 MiB each, the payload sent from where it is [MB/s]."""
        payload = bytes(FRAME_NBYTES)
        begin = time.perf_counter()
        for i in range(frames):
            ident = f"{i}-1".encode()
            head = (
                b"*5\r\n$4\r\nXADD\r\n$10\r\nbare:frame\r\n$%d\r\n%s\r\n$7\r\npayload\r\n$%d\r\n"
                % (
                    len(ident),
                    ident,
                    len(payload),
                )
            )
            self._socket.sendall(head)
            self._socket.sendall(payload)
            self._socket.sendall(b"\r\n")
            self._reply()
        took = time.perf_counter() - begin
        self._ask("UNLINK", "bare:frame")
        return frames * FRAME_NBYTES / took / 1e6

    def read_frames(self, key: str) -> float:
        """XREAD of 2 MiB entries, received straight into their place [MB/s]."""
        place = np.empty((4, FRAME_NBYTES), np.uint8)
        buffer = b""
        position, nbytes = 0, 0
        begin = time.perf_counter()
        while True:
            command = ("XRANGE", key, position, 2**64 - 2, "COUNT", 4)
            self._socket.sendall(hiredis.pack_command(command))
            entries, buffer = self._line(buffer)
            count = int(entries[1:])
            if not count:
                break
            for i in range(count):
                for line in range(7):
                    text, buffer = self._line(buffer)
                    if line == 2:
                        position = int(text.partition(b"-")[0]) + 1
                view = memoryview(place[i])
                there = min(len(buffer), FRAME_NBYTES)
                view[:there] = buffer[:there]
                buffer = buffer[there:]
                while there < FRAME_NBYTES:
                    there += self._socket.recv_into(view[there:])
                _, buffer = self._line(buffer)
                nbytes += FRAME_NBYTES
        return nbytes / (time.perf_counter() - begin) / 1e6

    def _line(self, buffer: bytes) -> tuple[bytes, bytes]:
        while b"\r\n" not in buffer:
            buffer += self._socket.recv(2**16)
        line, _, rest = buffer.partition(b"\r\n")
        return line, rest

    def group(self, keys: Sequence[str], points: int) -> float:
        """The XREADs of all entries of many streams, parsed, not decoded [points/s]."""
        at = dict.fromkeys(keys, "0")
        begin = time.perf_counter()
        while True:
            found = self._ask("XREAD", "COUNT", 64, "STREAMS", *at, *at.values())
            if not found:
                break
            for key, entries in found.items() if isinstance(found, dict) else found:  # type: ignore[attr-defined]
                at[key.decode()] = entries[-1][0]
        return points / (time.perf_counter() - begin)

    def index(self, key: str, length: int, reads: int) -> float:
        """Round trips for the entry at a random index [reads/s]."""
        rng = random.Random(1)
        commands = [
            hiredis.pack_command(("XREVRANGE", key, rng.randrange(length), "-", "COUNT", 1))
            for _ in range(reads)
        ]
        begin = time.perf_counter()
        for command in commands:
            self._socket.sendall(command)
            self._reply()
        return reads / (time.perf_counter() - begin)

    def latency(self, points: int, period: float) -> dict[str, float]:
        """From XADD to a blocked XREAD in another process [ms]."""
        self._ask("DEL", "bare:latency")
        command = [sys.executable, __file__, str(self._port), str(points)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdout is not None
            reader.stdout.readline()
            for i in range(points):
                time.sleep(period)
                now = struct.pack("<d", time.monotonic())
                self._ask("XADD", "bare:latency", f"{i + 1}-1", "payload", now)
            p50, p99 = map(float, reader.stdout.readline().split())
        self._ask("UNLINK", "bare:latency")
        return {"p50": p50, "p99": p99}

    def follow(self, points: int) -> Iterator[float]:
        """How long each point took [s]."""
        last: object = "0"
        for _ in range(points):
            found = self._ask("XREAD", "BLOCK", 10_000, "STREAMS", "bare:latency", last)
            now = time.monotonic()
            ((_, entries),) = found.items() if isinstance(found, dict) else found  # type: ignore[attr-defined]
            for ident, fields in entries:
                last = ident
                yield now - struct.unpack("<d", fields[1])[0]


def main() -> None:
    """The reader of `latency`."""
    bare = Bare(int(sys.argv[1]))
    print("ready", flush=True)
    points = int(sys.argv[2])
    took = []
    for seconds in bare.follow(points):
        took.append(seconds)
        if len(took) == points:
            break
    took.sort()
    print(took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3, flush=True)


if __name__ == "__main__":
    main()
