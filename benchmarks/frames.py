"""`python -m benchmarks.frames`: how fast frames go from a detector to its readers; ratios in one run.

Each row compares with what the machine itself can do, measured in alternating rounds: a copy in memory,
a bare socket, the bare server's wake-up. On a machine that does other things as well, absolute numbers
mean little and ratios a bit more.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.bare import Bare
from blissdata import DataStore, Scan
from blissdata.streams.frames import FrameBuffer, FramesStream
from blissdata.streams.frames.ring import RingReader, RingUnreachableError
from blissdata.testing.servers import TestServer

BURST = 16
"""Frames that are timed together; the fastest such burst of a round counts."""

LOOPBACK = "127.0.0.1"
IDENTITY = {"name": "frames", "number": 1, "data_policy": "none"}
SIZES = {"2 MiB": (1024, 1024), "16 MiB": (2048, 4096)}

FULL = {"frames": 1000, "latencies": 300, "puts": 400, "seconds": 3.0}
QUICK = {"frames": 8, "latencies": 5, "puts": 10, "seconds": 0.1}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    title: str
    ours: float
    other: float
    unit: str
    than: str
    """What the other side is."""

    ratio: float
    """Ours over the other; the other way round where less is better."""

    least: float

    @property
    def holds(self) -> bool:
        """Whether the ratio is good enough."""
        return self.ratio >= self.least


def _run(function: str, connection: Any, *arguments: Any) -> None:
    globals()[function](connection, *arguments)
    connection.close()


class Worker:
    """A function of this module in a process of its own, which talks over a pipe."""

    def __init__(self, function: str, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(function, theirs, *arguments))
        self._process.start()
        theirs.close()

    def answer(self) -> Any:
        """The next thing that it says."""
        return self.pipe.recv()

    def end(self) -> None:
        """Lets it end."""
        with ExitStack() as ignored:
            ignored.callback(self.pipe.close)
            with suppress(OSError):
                self.pipe.send(None)
        self._process.join()


# ---------------------------------------------------------------------------------- in workers


def _stream(store: DataStore, key: str, elsewhere: bool) -> Any:
    stream = store.load_scan(key).streams["camera"]
    if elsewhere and isinstance(stream, FramesStream):
        RingReader.open = _unreachable  # type: ignore[method-assign]
    return stream


def _unreachable(*_: Any) -> Any:
    raise RingUnreachableError("as if it were on another host")


def read(pipe: Any, url: str, key: str, frames: int, elsewhere: bool) -> None:
    """Bytes per second of reading all frames that there are: of the fastest time round, which was disturbed
    least."""
    with DataStore(url) as store:
        stream = _stream(store, key, elsewhere)
        there = len(stream)
        stream[0]
        while pipe.recv():
            done, nbytes, best = 0, stream[0].nbytes, 0.0
            while done < frames:
                begin = time.perf_counter()
                if elsewhere:
                    for _ in stream.each(range(there)):
                        pass
                else:
                    for index in range(there):
                        stream[index]
                best = max(best, there * nbytes / (time.perf_counter() - begin))
                done += there
            pipe.send(best)


def follow(pipe: Any, url: str, key: str) -> None:
    """Milliseconds from the time that is in a frame to when a reader that waits has it."""
    with DataStore(url) as store:
        stream = store.load_scan(key).streams["camera"]
        cursor = stream.cursor()
        pipe.send("ready")
        found: list[float] = []
        for view in cursor:
            try:
                frame = view.get_data(-1)[0]
            except IndexError:  # overwritten before: this reader is too slow for so small a ring
                continue
            now = time.monotonic()
            sent = struct.unpack("<d", frame.reshape(-1)[:4].tobytes())[0]
            if sent:
                found.append((now - sent) * 1e3)
        pipe.send(found)


def socket_reader(pipe: Any, nbytes: int) -> None:
    """Bytes per second that a bare socket brings."""
    memory = memoryview(bytearray(nbytes))
    with socket.create_server((LOOPBACK, 0)) as server:
        pipe.send(server.getsockname()[1])
        connection, _ = server.accept()
        with connection:
            while count := pipe.recv():
                best = 0.0
                for _ in range(0, count, BURST):
                    begin = time.perf_counter()
                    for _ in range(BURST):
                        left = memory
                        while left:
                            left = left[connection.recv_into(left) :]
                    best = max(best, BURST * nbytes / (time.perf_counter() - begin))
                pipe.send(best)


# ---------------------------------------------------------------------------------- the parts


@contextmanager
def _published(
    url: str, shape: tuple[int, ...], slots: int, **options: Any
) -> Iterator[tuple[Scan, FrameBuffer]]:
    with (
        DataStore(url) as store,
        FrameBuffer(shape, np.uint16, slots, **{"serve": False, **options}) as buffer,
        store.create_scan(IDENTITY) as scan,
    ):
        scan.create_stream(buffer.definition("camera"))
        scan.prepare()
        scan.start()
        yield scan, buffer


def _memcpy(shape: tuple[int, ...], count: int) -> float:
    """Bytes per second of copies to fresh memory, from memory that is as large as a ring."""
    frames = np.ones((BURST, *shape), np.uint16)
    best = 0.0
    for _ in range(0, count, BURST):
        begin = time.perf_counter()
        for index in range(BURST):
            frames[index].copy()
        best = max(best, BURST * frames[0].nbytes / (time.perf_counter() - begin))
    return best


def reading(url: str, sizes: dict[str, Any], rounds: int) -> list[Row]:
    """One reader on the same host, beside memcpy, and beside the same frames in events."""
    rows = []
    for name, shape in SIZES.items():
        count = sizes["frames"] if shape == SIZES["2 MiB"] else max(8, sizes["frames"] // 10)
        frame = np.ones(shape, np.uint16)
        with _published(url, shape, BURST) as (scan, buffer), DataStore(url) as store:
            for _ in range(BURST):
                buffer.put(frame)
            buffer.finish()
            with store.create_scan(IDENTITY) as plain:
                events = plain.create_stream("camera", dtype="uint16", shape=shape)
                plain.prepare()
                plain.start()
                for _ in range(BURST):
                    events.send(frame)
                events.join()
                workers = [Worker("read", url, key, count, False) for key in (scan.key, plain.key)]
                ours, memory, through_events = [], [], []
                for _ in range(rounds):
                    for worker, found in zip(workers, (ours, through_events), strict=True):
                        worker.pipe.send(True)
                        found.append(worker.answer())
                    memory.append(_memcpy(shape, count))
                for worker in workers:
                    worker.end()
            store.delete_scan(plain.key)
        a, b, c = (max(found) / 1e9 for found in (ours, memory, through_events))
        rows.append(
            Row(f"same host, {name} frames, one reader", a, b, "GB/s", "memcpy", a / b, 0.6)
        )
        rows.append(Row(f"same host, {name} frames", a, c, "GB/s", "through events", a / c, 3.0))
    return rows


def readers_cost(url: str, sizes: dict[str, Any], rounds: int) -> list[Row]:
    """What a put takes at 50 frames a second, without readers and with four that follow: time of this
    thread on a processor. Readers use processors as well, and where these are few, everything else waits."""
    shape = SIZES["2 MiB"]
    frame = np.ones(shape, np.uint16)
    frame.reshape(-1)[:4] = 0
    alone, watched = [], []
    for _ in range(rounds):
        for readers, found in ((0, alone), (4, watched)):
            with _published(url, shape, 64) as (scan, buffer):
                workers = [Worker("follow", url, scan.key) for _ in range(readers)]
                for worker in workers:
                    worker.answer()
                for index in range(64 + max(5, sizes["puts"] // rounds)):
                    time.sleep(0.02 if index >= 64 else 0)
                    begin = time.thread_time()
                    buffer.put(frame)
                    if index >= 64:
                        found.append((time.thread_time() - begin) * 1e3)
                scan.stop()
                for worker in workers:
                    worker.answer()
                    worker.end()
    a, b = median(watched), median(alone)
    return [Row("put with four readers, 2 MiB", a, b, "ms", "put without", b / a, 0.9)]


def serving(url: str, sizes: dict[str, Any], rounds: int) -> list[Row]:
    """The frame server on loopback, beside a bare socket that sends as many different frames."""
    rows = []
    for name, shape in SIZES.items():
        nbytes = int(np.prod(shape)) * 2
        count = sizes["frames"] if shape == SIZES["2 MiB"] else max(8, sizes["frames"] // 10)
        with _published(url, shape, BURST, serve=True, host=LOOPBACK) as (scan, buffer):
            for _ in range(BURST):
                buffer.put(np.ones(shape, np.uint16))
            buffer.finish()
            remote = Worker("read", url, scan.key, count, True)
            bare = Worker("socket_reader", nbytes)
            ours, theirs = [], []
            frames = np.ones((BURST, nbytes), np.uint8)
            with socket.create_connection((LOOPBACK, bare.answer())) as connection:
                for _ in range(rounds):
                    remote.pipe.send(True)
                    ours.append(remote.answer())
                    bare.pipe.send(count)
                    for _ in range(0, count, BURST):
                        for frame in frames:
                            connection.sendall(frame)
                    theirs.append(bare.answer())
                bare.pipe.send(0)
            remote.end()
            bare.end()
        a, b = max(ours) / 1e9, max(theirs) / 1e9
        rows.append(Row(f"frame server, {name} frames", a, b, "GB/s", "bare socket", a / b, 0.5))
    return rows


def waking(url: str, sizes: dict[str, Any], rounds: int, bare: Bare) -> list[Row]:
    """From a frame that is complete, in the memory of its slot, to a waiting reader that has a copy; and the
    same from before `put`, which copies as well."""
    shape = SIZES["2 MiB"]
    frame = np.zeros(shape, np.uint16)
    committed, put, theirs, copies = [], [], [], []
    points = max(5, sizes["latencies"] // rounds)

    def stamp(target: Any) -> None:
        target.reshape(-1)[:4] = np.frombuffer(struct.pack("<d", time.monotonic()), np.uint16)

    for _ in range(rounds):
        for found, in_place in ((committed, True), (put, False)):
            with _published(url, shape, 64) as (scan, buffer):
                reader = Worker("follow", url, scan.key)
                reader.answer()
                for _ in range(points):
                    time.sleep(0.005)
                    if in_place:
                        stamp(buffer.next_slot())
                        buffer.commit()
                    else:
                        stamp(frame)
                        buffer.put(frame)
                scan.stop()
                found.append(median(reader.answer()))
                reader.end()
        theirs.append(bare.latency(points, 0.005)["p50"])
        copies.append(frame.nbytes / _memcpy(shape, 4 * BURST) * 1e3)
    wake, copy = median(theirs), median(copies)
    rows = []
    for title, found, bound in (
        ("in place to a waiting reader, 2 MiB, p50", committed, 3 * wake + copy),
        ("put to a waiting reader, 2 MiB, p50", put, 3 * wake + 2 * copy),
    ):
        than = "3 × bare + memcpy" if found is committed else "3 × bare + 2 memcpy"
        rows.append(Row(title, median(found), bound, "ms", than, bound / median(found), 1.0))
    return rows


def traffic(url: str, sizes: dict[str, Any], rounds: int, server: TestServer) -> list[Row]:
    """What 10 000 frames a second cost the server, one reader following."""
    shape = (64, 128)
    frame = np.zeros(shape, np.uint16)
    with _published(url, shape, 256) as (scan, buffer), server.client() as client:
        reader = Worker("follow", url, scan.key)
        reader.answer()
        before, begin, count = _moved(client), time.perf_counter(), 0
        while (now := time.perf_counter() - begin) < sizes["seconds"]:
            if count < now * 10_000:
                buffer.put(frame)
                count += 1
            else:
                time.sleep(0.0001)
        moved, rate = (_moved(client) - before) / now / 1e6, count / now
        scan.stop()
        reader.answer()
        reader.end()
    title = f"server's traffic at {rate:.0f} frames/s"
    return [Row(title, moved, 1.0, "MB/s", "the limit", 1.0 / moved, 1.0)]


def _moved(client: Any) -> int:
    found = client.info("stats")
    return int(found["total_net_input_bytes"]) + int(found["total_net_output_bytes"])


def measure(rounds: int, sizes: dict[str, Any], say: Callable[[str], None]) -> list[Row]:
    """All rows."""
    with TestServer(tcp=True, save="", appendonly="no") as server:
        DataStore(server.url, init_db=True).close()
        rows: list[Row] = []
        for part in (reading, readers_cost, serving):
            say(part.__name__)
            rows += part(server.url, sizes, rounds)
        say("waking")
        bare = Bare(server.port)
        rows += waking(server.url, sizes, rounds, bare)
        bare.close()
        say("traffic")
        rows += traffic(server.url, sizes, rounds, server)
        return rows


def as_text(rows: list[Row]) -> str:
    """The table."""
    lines = [f"{'':44}{'ours':>9}{'other':>9}         {'than':20}{'ratio':>7}{'least':>7}"]
    for row in rows:
        mark = "" if row.holds else "  missed"
        lines.append(
            f"{row.title:44}{row.ours:9.3f}{row.other:9.3f}  {row.unit:7}{row.than:20}"
            f"{row.ratio:7.2f}{row.least:7.2f}{mark}"
        )
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frames", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (default: 5)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    rows = measure(options.rounds, sizes, lambda text: print(text, file=sys.stderr, flush=True))
    print(as_text(rows))
    if options.json:
        found = [
            {"title": r.title, "ours": r.ours, "other": r.other, "unit": r.unit, "than": r.than}
            | {"ratio": r.ratio, "least": r.least}
            for r in rows
        ]
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if not all(row.holds for row in rows) and not options.quick:
        sys.exit(1)


if __name__ == "__main__":
    main()
