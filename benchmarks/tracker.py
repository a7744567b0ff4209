"""`python -m benchmarks.tracker`: one round of the memory tracker, by the number of streams.

Wall time is that of the tracker, on whatever machine this is; server time is what the server's own
count of its processor says, and is bounded: a round of 10 000 streams takes at most a second of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from blissdata import DataStore
from blissdata.redis_engine.memory_tracker import MemoryTracker
from blissdata.testing.servers import StackServer, TestServer

STREAMS = (10, 1000, 10_000)
MOST_SERVER_S = 1.0

IDENTITY = {"name": "benchmark", "number": 1, "data_policy": "none"}


def main() -> int:
    """The exit code: 1 if a round costs the server more than it may."""
    print(f"{'layout':8}{'streams':>8}  {'step':8}{'wall [s]':>10}{'server [s]':>12}")
    worst = 0.0
    for layout in ("plain", "stack"):
        for streams in STREAMS:
            for step, wall, server in measured(layout, streams):
                print(f"{layout:8}{streams:8}  {step:8}{wall:10.3f}{server:12.3f}", flush=True)
                worst = max(worst, server)
    return int(worst > MOST_SERVER_S)


def measured(layout: str, streams: int) -> list[tuple[str, float, float]]:
    """Name, wall time and server time [s] of the steps of a tracker: its first round, a round in which
    every stream has gone on, one in which none has, forgetting; then, with every scan pinned, a move of all
    streams, a round, and forgetting up to the pins."""
    per_scan = min(100, streams)
    made = TestServer() if layout == "plain" else StackServer("valkey")
    with made as server, DataStore(server.url, init_db=True) as store, server.client() as client:
        writers: list[Any] = []
        scans = []
        for number in range(streams // per_scan):
            scan = store.create_scan({**IDENTITY, "number": number})
            writers += [scan.create_stream(f"s{i}", dtype="f8") for i in range(per_scan)]
            scan.prepare()
            scans.append(scan)

        def publish() -> None:
            for writer in writers:
                writer.send(1.0)
            for writer in writers:
                writer.join()

        def timed(step: str, work: Callable[[], None]) -> tuple[str, float, float]:
            began, used = time.perf_counter(), processor(client)
            work()
            return step, time.perf_counter() - began, processor(client) - used

        tracker = MemoryTracker(store, 86400, 604800, 100)
        publish()
        found = [timed("first", tracker.update)]
        publish()
        found += [timed("all new", tracker.update), timed("idle", tracker.update)]
        found.append(timed("forget", lambda: tracker.reclaim_memory(0)))
        publish()
        pins = [scan.pin("benchmark") for scan in scans]
        for pin, scan in zip(pins, scans, strict=True):
            pin.move(dict.fromkeys(scan.streams, 2))
        found.append(timed("move", lambda: store.pin_keeper.tell(pins)))
        found.append(timed("pinned", tracker.update))
        found.append(timed("to pins", lambda: tracker.reclaim_memory(0)))
        for pin in pins:
            pin.release()
        for scan in scans:
            scan.close()
    return found


def processor(client: Any) -> float:
    """What the server has used of its processor so far [s]."""
    found = client.info("cpu")
    return float(found["used_cpu_sys"]) + float(found["used_cpu_user"])


if __name__ == "__main__":
    sys.exit(main())
