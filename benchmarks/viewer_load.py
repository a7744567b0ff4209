"""What a publisher and the server lose to the viewer's browsers. `python -m benchmarks.viewer` prints it.

A publisher of 20 streams, the server, the viewer, and 50 browsers' websockets share the machine's processors.
The publisher works in short turns; in every other one the viewer and the browsers stand still. Their order
alternates, so that what the machine does meanwhile happens to both. Beside the rate stands what is the
viewer's own: its processor time, and what it asks of the server.
"""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.viewer.browser import TOKEN, Viewer

from benchmarks.report import Row, alternated, beside, limited, noted
from blissdata import DataStore
from blissdata.testing.servers import TestServer

STREAMS = 20
CLIENTS = 50
MANY, FEW = 100, 1
TURN_S = 0.5
SETTLE_S = 1.0

_TICKS = os.sysconf("SC_CLK_TCK")


def publish(url: str, pipe: Any) -> None:
    """Sends as fast as it can, or with pauses, for a turn; again and again."""
    identity = {"name": "load", "number": 4, "data_policy": "none"}
    with DataStore(url) as store, store.create_scan(identity) as scan:
        streams = [scan.create_stream(f"c{i}", dtype="f8") for i in range(STREAMS)]
        scan.prepare()
        scan.start()
        pipe.send(scan.key)
        for pause in iter(pipe.recv, None):
            end, count, busy = time.monotonic() + TURN_S, 0, time.process_time()
            while time.monotonic() < end:
                for stream in streams:
                    stream.send(float(count))
                count += 1
                if pause:
                    time.sleep(pause)
            for stream in streams:
                stream.join()
            pipe.send((count / TURN_S, (time.process_time() - busy) / max(count, 1)))
        scan.stop()


def listen(port: int, key: str, pipe: Any) -> None:
    """So many browsers' websockets as it is told, until it is told another number."""
    from websockets.asyncio.client import connect

    async def one(opened: asyncio.Semaphore) -> None:
        protocols = ["blissdata.viewer", f"token.{TOKEN}"]
        async with connect(f"ws://127.0.0.1:{port}/api/live", subprotocols=protocols) as socket:
            await socket.send(json.dumps({"type": "watch", "keys": [key]}))
            opened.release()
            async for _ in socket:
                await socket.send('{"type": "read"}')

    async def many() -> None:
        loop = asyncio.get_running_loop()
        count = await loop.run_in_executor(None, pipe.recv)
        while count is not None:
            opened = asyncio.Semaphore(0)
            tasks = [asyncio.create_task(one(opened)) for _ in range(count)]
            for _ in range(count):
                await opened.acquire()
            pipe.send(count)
            count = await loop.run_in_executor(None, pipe.recv)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(many())


class _Cast:
    """The processes, and what they are told."""

    def __init__(self, server: TestServer, viewer: Viewer) -> None:
        context = multiprocessing.get_context("spawn")
        self.server, self.viewer = server, viewer
        self._publisher, theirs = context.Pipe()
        processes = [context.Process(target=publish, args=(server.url, theirs))]
        processes[0].start()
        key = self._publisher.recv()
        self._browsers, theirs = context.Pipe()
        processes.append(context.Process(target=listen, args=(viewer.port, key, theirs)))
        processes[1].start()
        self._processes = processes

    def listening(self, count: int) -> None:
        self._browsers.send(count)
        self._browsers.recv()
        time.sleep(SETTLE_S)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """With the viewer and the browsers standing still."""
        pids = [self.viewer.pid, self._processes[1].pid]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            time.sleep(TURN_S / 4)  # what waited for them is over before it counts

    def turn(self, pause: float) -> tuple[float, float]:
        """Points a second of each stream, and the publisher's processor time for one of each [s]."""
        self._publisher.send(pause)
        return self._publisher.recv()

    def close(self) -> None:
        for pipe in (self._browsers, self._publisher):
            pipe.send(None)
        for process in self._processes:
            process.join()


@contextmanager
def _cast(server: TestServer, viewer: Viewer) -> Iterator[_Cast]:
    cast = _Cast(server, viewer)
    try:
        yield cast
    finally:
        cast.close()


def load(server: TestServer, viewer: Viewer, rounds: int) -> Iterator[Row]:
    """The rows of the load."""
    with _cast(server, viewer) as cast, server.client() as client:
        cast.listening(CLIENTS)
        for pause, name in ((0.005, "at 200 points/s"), (0.0, "as fast as it can")):
            shares: list[float] = []

            def heard(pause: float = pause, shares: list[float] = shares) -> tuple[float, float]:
                before = _processor_s(viewer.pid)
                found = cast.turn(pause)
                shares.append((_processor_s(viewer.pid) - before) / TURN_S)
                return found

            def alone(pause: float = pause) -> tuple[float, float]:
                with cast.frozen():
                    return cast.turn(pause)

            found = alternated(
                max(rounds // 4, 2) if pause else rounds, {"heard": heard, "alone": alone}
            )
            rates = {side: [rate for rate, _ in turns] for side, turns in found.items()}
            works = {side: [1e6 * work for _, work in turns] for side, turns in found.items()}
            what = f"publisher of {STREAMS} streams {name}, {CLIENTS} websockets"
            yield beside(what, rates["heard"], "/s", "without", rates["alone"], 0.95)
            low, high = lost(rates["heard"], rates["alone"])
            yield noted("… what it loses: the median's 95 % interval, from", 100 * low, "%")
            yield noted("… to", 100 * high, "%")
            title = "… its processor time for a point of each"
            yield beside(title, works["heard"], "µs", "without", works["alone"], less=True)
            yield noted("… the viewer's share of a core", 100 * statistics.mean(shares), "%")
        asked = {count: _asked(cast, client, count) for count in (FEW, MANY)}
        for what, unit in (("commands", "/s"), ("bytes out", "kB/s")):
            few, many = asked[FEW][what], asked[MANY][what]
            yield noted(f"{what} of the server, {FEW} websocket", few, unit)
            yield limited(f"… {MANY} websockets", many, unit, most=1.2 * few)


def lost(heard: Sequence[float], alone: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the rounds' median loss, as parts of 1; from their order alone, so that a few
    rounds in which the machine did something else do not matter."""
    losses = sorted(1 - with_ / without for with_, without in zip(heard, alone, strict=True))
    count = len(losses)
    out = max(int((count - 1.96 * math.sqrt(count)) / 2), 0)
    return losses[out], losses[count - 1 - out]


def _asked(cast: _Cast, client: Any, count: int) -> dict[str, float]:
    """What the server does while so many websockets listen, and a publisher publishes slowly."""
    cast.listening(count)
    before, began = client.info("stats"), time.monotonic()
    for _ in range(6):
        cast.turn(0.005)
    after, took = client.info("stats"), time.monotonic() - began
    names = {
        "commands": ("total_commands_processed", 1),
        "bytes out": ("total_net_output_bytes", 1000),
    }
    return {
        what: (after[name] - before[name]) / size / took for what, (name, size) in names.items()
    }


def _processor_s(pid: int) -> float:
    """How long a process has run on a processor [s]."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
