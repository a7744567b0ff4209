"""`python -m benchmarks.writer`: writing scans into files, beside bare h5py that writes the same chunks.

    scalars    1000 streams of 10 000 float64 each
    frames     1 GiB of 1024 × 1024 uint16 (`--gib 4` for four)

    bare     bare h5py has the points in memory, and writes them
    writer   so does the writer's own part: plan, items, points, a commit a second, `end_time` last
    whole    a follower's whole way: points that are on the server are read from there, and written
    read     what it takes to read them from there alone

All are measured until the disk has the file (fsync). `writer` and `whole` are to be at least 85 % as fast
as `bare`; the exit code tells of `writer`.
Rounds alternate, and each side's best one counts: other programs only ever take time away. `cpu` is what
the process itself used of the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from blissdata import DataStore, Scan
from blissdata.data_roots import DataRoots
from blissdata.exceptions import EndOfStream
from blissdata.streams import CursorGroup
from blissdata.testing.servers import TestServer
from blissdata.writer.files import OpenFiles
from blissdata.writer.follower import COMMIT_S, HELD_NBYTES, Follower
from blissdata.writer.plan import Pace, Points, plan_of, storage_of

LEAST = 0.85
"""Of the speed of bare h5py."""

FRAME = (1024, 1024)


def main() -> int:
    """The exit code: 1 if ours is slower than it may be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.writer", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--where", type=Path, help="directory for the files (default: a new one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    arguments = parser.parse_args()
    ratios: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=arguments.where) as place:
        for name, work in (
            ("scalars", lambda: scalars(arguments.streams, arguments.points)),
            ("frames", lambda: frames(int(arguments.gib * 2**30 / (2 * FRAME[0] * FRAME[1])))),
        ):
            ratios[name] = measured(name, work, Path(place), arguments.rounds)
    for name, found in ratios.items():
        told = ", ".join(
            f"{side} {100 * found['ratios'][side]:.0f} %" for side in ("writer", "whole")
        )
        print(f"{name}, of bare h5py: {told} (at least {100 * LEAST:.0f} %)")
    if arguments.json:
        from benchmarks.__main__ import environment, machine

        report = {"machine": machine(environment("peer")), "least": LEAST, "rows": ratios}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return int(any(found["ratios"]["writer"] < LEAST for found in ratios.values()))


Data = dict[str, np.ndarray[Any, Any]]


def scalars(streams: int, points: int) -> Data:
    """Numbers by name of their stream."""
    return {f"s{i:04}": np.arange(points) + i / 7 for i in range(streams)}


def frames(number: int) -> Data:
    """Images of noise."""
    noise = np.random.default_rng(1).integers(0, 2**16, (min(number, 64), *FRAME), "u2")
    return {"camera": np.concatenate([noise] * -(-number // len(noise)))[:number]}


def measured(name: str, work: Callable[[], Data], place: Path, rounds: int) -> dict[str, Any]:
    """Each side's best time [s], and the ratios of speeds to bare."""
    data = work()
    nbytes = sum(one.nbytes for one in data.values())
    options = {"save": "", "appendonly": "no"}
    best: dict[str, tuple[float, float]] = {}
    with TestServer(**options) as server, DataStore(server.url, init_db=True) as store:
        scan = published(store, data, place)
        for i in range(rounds):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            seconds = {
                "bare": timed(lambda: bare(data, place / "bare.h5")),
                "writer": timed(lambda: written(data, place / "writer.h5")),
                "whole": timed(lambda: whole(store, scan, place)),
                "read": timed(lambda: read(store, scan)),
            }
            check(data, place)
            for side, (wall, cpu) in seconds.items():
                before = best.get(side, (wall, cpu))
                best[side] = min(before[0], wall), min(before[1], cpu)
            said = "  ".join(f"{k} {w:6.2f} s, cpu {c:5.2f} s" for k, (w, c) in seconds.items())
            print(f"{name:8} round {i + 1}: {said}", flush=True)
    speeds = ", ".join(f"{side} {nbytes / wall / 1e6:.0f} MB/s" for side, (wall, _) in best.items())
    print(
        f"{name:8} best: {speeds}; cpu of writer {best['writer'][1] / best['bare'][1]:.2f} × bare"
    )
    return {
        "nbytes": nbytes,
        "rounds": rounds,
        "seconds": {side: round(wall, 3) for side, (wall, _) in best.items()},
        "ratios": {side: round(best["bare"][0] / wall, 3) for side, (wall, _) in best.items()},
    }


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Wall time and processor time [s]; what others have left for the disk to do is done before."""
    os.sync()
    begin, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begin, time.process_time() - used


def published(store: DataStore, data: Data, place: Path) -> Scan:
    """A whole scan of these points."""
    path = str(place / "whole.h5")
    identity = {"name": "benchmark", "number": 1, "data_policy": "none", "path": path}
    length = len(next(iter(data.values())))
    with store.create_scan(identity, {"npoints": length}) as scan:
        streams = {
            name: scan.create_stream(name, dtype=one.dtype, shape=one.shape[1:])
            for name, one in data.items()
        }
        scan.info["mapping"] = {name: ({}, "STREAM", name) for name in data}
        scan.prepare()
        scan.start()
        step = max(1, min(1000, 2**23 // next(iter(data.values()))[:1].nbytes))
        for start in range(0, length, step):
            for name, stream in streams.items():
                stream.send(data[name][start : start + step])
    return scan


def bare(data: Data, path: Path) -> None:
    """The same chunks, as h5py writes them; as long as it takes to be on the disk."""
    with h5py.File(path, "w", libver="latest") as file:
        for name, one in data.items():
            points = Points(one.dtype, one.shape[1:])
            chunks = storage_of(points, Pace(points=len(one))).chunks
            dataset = file.create_dataset(
                name, (0, *one.shape[1:]), one.dtype, chunks=chunks, maxshape=(None, *one.shape[1:])
            )
            for start in range(0, len(one), chunks[0]):
                block = one[start : start + chunks[0]]
                dataset.resize(start + len(block), 0)
                dataset[start : start + len(block)] = block
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def written(data: Data, path: Path) -> None:
    """The same, as the writer does it."""
    streams = {name: Points(one.dtype, one.shape[1:]) for name, one in data.items()}
    items = {name: {"type": "stream", "stream": name} for name in data}
    layout = {"type": "group", "attributes": {"NX_class": "NXentry"}, "children": items}
    length = len(next(iter(data.values())))
    files = OpenFiles(DataRoots((str(path.parent),), "of the benchmark"))
    file = files.take(str(path))
    with file.use():
        entry = file.entry("1.1", "a scan", streams, Pace(points=length))
        assert not entry.carry_out(plan_of("1.1", layout, set(data)))
        file.commit()
        committed = time.monotonic()
        rows = [storage_of(one, Pace(points=length)).chunks[0] for one in streams.values()]
        step = max(rows[0], HELD_NBYTES // sum(points.nbytes for points in streams.values()))
        for start in range(0, length, step):
            for name, one in data.items():
                entry.append(f"/1.1/{name}", [one[start : start + step]])
            if time.monotonic() - committed >= COMMIT_S:
                file.commit()
                committed = time.monotonic()
        file.commit()
        items["end_time"] = "2026-11-25T20:00:00+01:00"  # type: ignore[assignment]
        entry.carry_out(plan_of("1.1", layout, set(data)), state="SUCCEEDED")
        file.commit()
        file.sync()
    files.give_back(file)


def whole(store: DataStore, scan: Scan, place: Path) -> None:
    """The whole way from the server to the disk."""
    files = OpenFiles(DataRoots((str(place),), "of the benchmark"))
    progress = Follower(store.load_scan(scan.key), files, threading.Event()).run()
    assert progress.outcome == "written", progress


def read(store: DataStore, scan: Scan) -> None:
    """The way from the server alone."""
    group = CursorGroup(store.load_scan(scan.key).streams)
    try:
        while True:
            for view in group.read().values():
                view.get_data()
    except EndOfStream:
        return


def check(data: Data, place: Path) -> None:
    """All files are right."""
    with ExitStack() as stack:
        bare, writer, whole = (
            stack.enter_context(h5py.File(place / f"{side}.h5"))
            for side in ("bare", "writer", "whole")
        )
        for name in list(data)[:: max(1, len(data) // 7)]:
            for file in (bare, writer["1.1"], whole["1.1"]):
                assert np.array_equal(file[name][:10], data[name][:10])
                assert np.array_equal(file[name][-10:], data[name][-10:])
                assert file[name].shape == data[name].shape


if __name__ == "__main__":
    sys.exit(main())
