"""`python -m benchmarks.frames`: how fast frames go from a detector to its readers; ratios in one run.

Each row compares with what the machine itself can do, measured in alternating rounds: a copy in memory,
a bare socket, the bare server's wake-up. On a machine that does other things as well, absolute numbers
mean little and ratios a bit more.
"""

from __future__ import annotations

import multiprocessing
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from statistics import median
from typing import Any

import numpy as np

from benchmarks.bare import Bare
from benchmarks.report import Row, beside, command_line, finished, limited, say
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


def copier(pipe: Any, shape: tuple[int, ...], slots: int) -> None:
    """Milliseconds that a copy of a frame takes in a process that has just been woken: as `follow`, but in
    ordinary memory, and woken through a pipe."""
    frames = np.ones((slots, *shape), np.uint16)
    target = np.empty(shape, np.uint16)
    pipe.send("ready")
    found: list[float] = []
    while (index := pipe.recv()) is not None:
        begin = time.perf_counter()
        np.copyto(target, frames[index % slots])
        found.append((time.perf_counter() - begin) * 1e3)
    pipe.send(median(found))


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
        rows.append(beside(f"same host, {name} frames, one reader", a, "GB/s", "memcpy", b, 0.6))
        rows.append(beside(f"same host, {name} frames", a, "GB/s", "through events", c, 3.0))
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
    return [beside("put with four readers, 2 MiB", a, "ms", "put without", b, 0.9, less=True)]


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
        rows.append(beside(f"frame server, {name} frames", a, "GB/s", "bare socket", b, 0.5))
    return rows


def waking(url: str, sizes: dict[str, Any], rounds: int, bare: Bare) -> list[Row]:
    """From a frame that is complete, in the memory of its slot, to a waiting reader that has a copy; and the
    same from before `put`, which copies as well. Beside three wake-ups of the bare server's reader and the
    copies, in processes that waited as long: all of them find cold caches."""
    shape = SIZES["2 MiB"]
    frame = np.zeros(shape, np.uint16)
    committed, put, theirs, copies = [], [], [], []
    points, pause = max(5, sizes["latencies"] // rounds), 0.005

    def stamp(target: Any) -> None:
        target.reshape(-1)[:4] = np.frombuffer(struct.pack("<d", time.monotonic()), np.uint16)

    for _ in range(rounds):
        for found, in_place in ((committed, True), (put, False)):
            with _published(url, shape, 64) as (scan, buffer):
                reader = Worker("follow", url, scan.key)
                reader.answer()
                for _ in range(points):
                    time.sleep(pause)
                    if in_place:
                        stamp(buffer.next_slot())
                        buffer.commit()
                    else:
                        stamp(frame)
                        buffer.put(frame)
                scan.stop()
                found.append(median(reader.answer()))
                reader.end()
        theirs.append(bare.latency(points, pause)["p50"])
        copies.append(_woken_copy(shape, points, pause))
    rows = []
    for title, found, count, than in (
        ("in place to a waiting reader, 2 MiB, p50", committed, 1, "3 × bare + memcpy"),
        ("put to a waiting reader, 2 MiB, p50", put, 2, "3 × bare + 2 memcpy"),
    ):
        bounds = [3 * wake + count * copy for wake, copy in zip(theirs, copies, strict=True)]
        rows.append(beside(title, found, "ms", than, bounds, 1.0, less=True))
    return rows


def _woken_copy(shape: tuple[int, ...], count: int, pause: float) -> float:
    """Milliseconds that one copy takes in a process that waited for as long as the readers do."""
    worker = Worker("copier", shape, 64)
    worker.answer()
    for index in range(count):
        time.sleep(pause)
        worker.pipe.send(index)
    worker.pipe.send(None)
    found = float(worker.answer())
    worker.end()
    return found


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
    return [limited(title, moved, "MB/s", most=1.0)]


def _moved(client: Any) -> int:
    found = client.info("stats")
    return int(found["total_net_input_bytes"]) + int(found["total_net_output_bytes"])


def measure(rounds: int, sizes: dict[str, Any]) -> list[Row]:
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


def main() -> int:
    """The command line; 1 if a bound is missed."""
    options = command_line("benchmarks.frames", __doc__, 5).parse_args()
    return finished(measure(options.rounds, QUICK if options.quick else FULL), options)


if __name__ == "__main__":
    sys.exit(main())
