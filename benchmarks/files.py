"""`python -m benchmarks.files`: reading a scan as a file, beside the stream API and beside blissdata 2.4.5.

    reading     the same points as a dataset and as a stream, by one process of ours, in turns
    listing     File opened and its entries listed: ours and 2.4.5 on the same scans, in turns

Only ratios mean anything. Both sides work on one Valkey with RedisJSON and RediSearch.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tests.clients.environments import environment

from benchmarks.report import Row, beside, command_line, finished, limited
from blissdata import DataStore
from blissdata.h5api.redis_hdf5 import Dataset, File
from blissdata.redis_engine.backends.wire import Link
from blissdata.testing.servers import StackServer

PATH = "/data/visitor/id00/bench.h5"

FULL = {"points": 1_000_000, "frames": 100, "reads": 2000, "scans": 1000, "items": 50}
"""How much is read and listed; a layout has so many detectors, as those of BLISS have at least."""

QUICK = {"points": 2000, "frames": 5, "reads": 20, "scans": 20, "items": 3}
"""Enough to see that everything works."""

LEAST_OF_STREAM = 0.8
LEAST_OF_PEER = 10.0
MOST_TRIPS = 5

LISTING = """
import json, sys, time
from blissdata.redis_engine.store import DataStore
from blissdata.h5api.redis_hdf5 import File

url, path, expected = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = DataStore(url)
for line in sys.stdin:
    begin = time.perf_counter()
    names = list(File(path, data_store=store).keys())
    took = time.perf_counter() - begin
    if len(names) != expected:
        raise SystemExit(f"{len(names)} entries, not {expected}")
    print(json.dumps(took), flush=True)
"""
"""What either package does for a line of input: opens the file, lists it, tells how long that took."""

Samples = dict[str, list[tuple[float, float]]]
"""For each row, ours and the other side's of every round."""


def layout(number: int, items: int) -> dict[str, Any]:
    """The root of a file with one entry."""
    data = {
        "type": "dataset",
        "attributes": {"units": "A"},
        "value": {"type": "stream", "stream": "points"},
    }
    detector = {
        "type": "group",
        "attributes": {"NX_class": "NXdetector"},
        "children": {"data": data},
    }
    entry = {
        "type": "group",
        "attributes": {"NX_class": "NXentry"},
        "children": {
            "points": data,
            "frames": {"type": "stream", "stream": "frames"},
            **{f"d{i}": detector for i in range(items)},
        },
    }
    return {PATH: {"type": "group", "children": {f"{number}.1": entry}}}


def published(store: DataStore, number: int, sizes: dict[str, int], full: bool) -> None:
    """A closed scan; with data, or empty."""
    identity = {"name": "bench", "number": number, "data_policy": "none", "path": PATH}
    with store.create_scan(identity, {"h5maps": layout(number, sizes["items"])}) as scan:
        points = scan.create_stream("points", dtype="float64")
        frames = scan.create_stream("frames", dtype="uint16", shape=(1024, 1024))
        scan.prepare()
        scan.start()
        if full:
            for i in range(sizes["points"]):
                points.send(np.float64(i))
            frame = np.arange(1024 * 1024, dtype="uint16").reshape(1024, 1024)
            for i in range(sizes["frames"]):
                frames.send(frame + np.uint16(i))


def rate(read: Callable[[Any], int], of: Any) -> float:
    """How many points are read of that in a second."""
    begin = time.perf_counter()
    done = read(of)
    return done / (time.perf_counter() - begin)


def reading(store: DataStore, sizes: dict[str, int], samples: Samples, turn: int) -> None:
    """Rows of the first table, one round; which side begins changes from one to the next."""
    scan = store.load_scan(store.search_existing_scans(path=PATH, number=0)[1][0])
    rng = np.random.default_rng(1)

    def everything(of: Any) -> int:
        return len(of[()] if isinstance(of, Dataset) else of[:])

    def single(size: int) -> Callable[[Any], int]:
        wanted = [int(i) for i in rng.integers(0, size, min(sizes["reads"], 5 * size))]
        return lambda of: len([of[i] for i in wanted])

    points, frames = sizes["points"], sizes["frames"]
    for name, unit, read in (
        ("all points, d[()]", "points", everything),
        ("all points, d[0:n]", "points", lambda of: len(of[0:points])),
        ("one point, d[i]", "points", single(points)),
        ("block of frames, d[0:n]", "frames", lambda of: len(of[0:frames])),
        ("one frame, d[i]", "frames", single(frames)),
    ):
        sides = {"file": File(PATH, data_store=store)[f"0.1/{unit}"], "stream": scan.streams[unit]}
        order = list(sides) if turn % 2 else list(reversed(sides))
        for side in order:  # memory that nobody had before is slow, whoever takes it first
            read(sides[side])
        rates = {side: rate(read, sides[side]) for side in order}
        samples.setdefault(name, []).append((rates["file"], rates["stream"]))


@contextlib.contextmanager
def lister(python: str | Path, url: str, scans: int) -> Iterator[Callable[[], float]]:
    """A process that lists the file each time it is asked, and tells how long that took [s]."""
    process = subprocess.Popen(
        [str(python), "-c", LISTING, url, PATH, str(scans)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    def ask() -> float:
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        return float(json.loads(process.stdout.readline()))  # type: ignore[union-attr]

    try:
        yield ask
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def trips(work: Callable[[], Any]) -> int:
    """How often the work sent something to the server; other threads give signs of life meanwhile."""
    here = threading.get_ident()
    originals = {name: getattr(Link, name) for name in ("send", "send_one")}
    sent = 0

    def counting(original: Callable[..., None]) -> Callable[..., None]:
        def send(self: Link, commands: Any) -> None:
            nonlocal sent
            sent += threading.get_ident() == here
            original(self, commands)

        return send

    for name, original in originals.items():
        setattr(Link, name, counting(original))
    try:
        work()
    finally:
        for name, original in originals.items():
            setattr(Link, name, original)
    return sent


def measure(rounds: int, sizes: dict[str, int]) -> tuple[Samples, Samples, dict[str, int]]:
    """What reading and listing gave, and how many round trips listings took."""
    peer = environment("peer")
    reads: Samples = {}
    lists: Samples = {}
    with (
        StackServer(tcp=True, save="", appendonly="no") as server,
        DataStore(server.url, init_db=True) as store,
    ):
        published(store, 0, sizes, full=True)
        for number in range(1, sizes["scans"]):
            published(store, number, sizes, full=False)
        for turn in range(2 * rounds):
            reading(store, sizes, reads, turn)
        with (
            lister(sys.executable, server.url, sizes["scans"]) as ours,
            lister(peer, server.url, sizes["scans"]) as theirs,
        ):
            for _ in range(rounds):
                lists.setdefault("open and list", []).append((ours(), theirs()))
        counts = {
            "list(file.keys())": trips(lambda: list(File(PATH, data_store=store).keys())),
            "list(File(…, wait=False))": trips(
                lambda: list(File(PATH, data_store=store, wait=False))
            ),
        }
    return reads, lists, counts


def rows(samples: tuple[Samples, Samples, dict[str, int]], scans: int) -> list[Row]:
    """The table, each row with its bound."""
    reads, lists, counts = samples
    found = []
    for name, rounds in reads.items():
        ours, theirs = zip(*rounds, strict=True)
        found.append(beside(name, ours, "/s", "the stream", theirs, LEAST_OF_STREAM))
    for name, rounds in lists.items():
        ours, theirs = zip(*rounds, strict=True)
        title = f"{name} {scans} scans"
        found.append(beside(title, ours, "s", "2.4.5", theirs, LEAST_OF_PEER, less=True))
    found += [
        limited(f"{name}, {scans} scans", count, "round trips", most=MOST_TRIPS)
        for name, count in counts.items()
    ]
    return found


def main() -> int:
    """The command line; 1 if a bound is missed."""
    options = command_line("benchmarks.files", __doc__, rounds=3).parse_args()
    sizes = QUICK if options.quick else FULL
    samples = measure(options.rounds, sizes)
    return finished(rows(samples, sizes["scans"]), options, environment("peer"))


if __name__ == "__main__":
    sys.exit(main())
