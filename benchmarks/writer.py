"""`python -m benchmarks.writer`: writing scans into files, beside bare h5py that writes the same chunks.

    numbers    1000 streams of 10 000 float64 each
    images     4 GiB of 1024 × 1024 uint16

    bare h5py    has the points in memory, and writes them
    in memory    so does the writer's own part: plan, items, points, a commit a second, `end_time` last
    from the server    a writer's whole way: points that are on the server are read from there, and written

All are measured until the disk has the file (fsync), in alternating rounds. What was loaded before is not
looked through by the garbage collector, for all sides alike: `blissdata write` has it so.
"""

from __future__ import annotations

import gc
import os
import subprocess
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

from benchmarks.report import Row, alternated, beside, command_line, finished, noted, say
from blissdata import DataStore, Scan
from blissdata.data_roots import DataRoots
from blissdata.testing.servers import TestServer
from blissdata.writer.files import OpenFiles
from blissdata.writer.follower import COMMIT_S, HELD_NBYTES, Follower
from blissdata.writer.plan import Pace, Points, plan_of, storage_of
from blissdata.writer.service import freeze_what_is_loaded

LEAST = 0.85
"""Of the speed of bare h5py."""

FRAME = (1024, 1024)

ROOT = Path(__file__).parents[1]


def main() -> int:
    """The exit code: 1 if ours is slower than it may be."""
    parser = command_line("benchmarks.writer", __doc__, rounds=5)
    parser.add_argument("--gib", type=float, default=4.0, help="of images (default: 4)")
    parser.add_argument("--where", type=Path, help="directory for the files (default: a new one)")
    options = parser.parse_args()
    freeze_what_is_loaded()
    points, gib = (100, 0.03) if options.quick else (10_000, options.gib)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=options.where) as place:
        for name, work in (
            (f"1000 × {points} numbers", lambda: numbers(1000, points)),
            (
                f"{gib:g} GiB of images",
                lambda: images(int(gib * 2**30 / (2 * FRAME[0] * FRAME[1]))),
            ),
        ):
            rows += measured(name, work(), Path(place), options.rounds)
    return finished(rows, options)


class Images:
    """Images of noise, 64 that are repeated; as far as this benchmark asks, an array."""

    def __init__(self, number: int) -> None:
        noise = np.random.default_rng(1).integers(0, 2**16, (min(number, 64), *FRAME), "u2")
        self._noise = np.concatenate([noise, noise])
        self._period = len(noise)
        self.dtype, self.shape = noise.dtype, (number, *FRAME)
        self.nbytes = number * noise[0].nbytes

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice) -> np.ndarray[Any, Any]:
        start, stop, _ = key.indices(len(self))
        at = start % self._period
        return self._noise[at : at + stop - start]


Data = dict[str, Any]


def numbers(streams: int, points: int) -> Data:
    """Numbers by name of their stream."""
    return {f"s{i:04}": np.arange(points) + i / 7 for i in range(streams)}


def images(number: int) -> Data:
    """Images by name of their stream."""
    return {"camera": Images(number)}


def measured(name: str, data: Data, place: Path, rounds: int) -> list[Row]:
    """Rows of one kind of points."""
    nbytes = sum(one.nbytes for one in data.values())
    with (
        TestServer(save="", appendonly="no") as server,
        DataStore(server.url, init_db=True) as store,
    ):
        scan = published(store, data, place)
        ways = {
            "bare": lambda: bare(data, place / "bare.h5"),
            "memory": lambda: written(data, place / "memory.h5"),
            "server": lambda: whole(store, scan.key, place),
        }
        turns = {
            side: (lambda way=way, side=side: nbytes / timed(place, side, nbytes, way) / 1e6)
            for side, way in ways.items()
        }
        speeds = alternated(rounds, turns)
        check(data, place)
        used = memory(server.url, scan.key, place)
    bare_h5py, unit = ("bare h5py", speeds["bare"]), "MB/s"
    return [
        beside(f"{name}, in memory", speeds["memory"], unit, *bare_h5py, LEAST),
        beside(f"{name}, from the server", speeds["server"], unit, *bare_h5py, LEAST),
        noted(f"{name}: memory of the writer", used, "MiB"),
    ]


def timed(place: Path, side: str, nbytes: int, work: Callable[[], None]) -> float:
    """How long it takes [s]; what others have left for the disk to do is done before.

    A virtual machine gives memory that is free for seconds back to its host, and has it again for ten times the
    price of a page: there is room for the file that is no longer free than that."""
    say(f"{side} …")
    for file in place.glob(f"*{side}.h5*"):
        file.unlink()
    block, room = bytes(1 << 23), place / "room"
    with room.open("wb", buffering=0) as file:
        for _ in range(nbytes // len(block) + 1):
            file.write(block)
    gc.collect()
    os.sync()
    room.unlink()
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def memory(url: str, key: str, place: Path) -> float:
    """The most that a process takes which writes the whole scan [MiB]."""
    (place / "server.h5").unlink()
    code = "import sys; from benchmarks.writer import write; write(*sys.argv[1:])"
    command = [sys.executable, "-c", code, url, key, str(place)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def write(url: str, key: str, place: str) -> None:
    """Writes the scan, and prints the most memory that this process took [MiB]."""
    with DataStore(url) as store:
        whole(store, key, Path(place))
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def published(store: DataStore, data: Data, place: Path) -> Scan:
    """A whole scan of these points."""
    path = str(place / "server.h5")
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


def whole(store: DataStore, key: str, place: Path) -> None:
    """The whole way from the server to the disk."""
    files = OpenFiles(DataRoots((str(place),), "of the benchmark"))
    progress = Follower(store.load_scan(key), files, threading.Event()).run()
    if progress.outcome != "written":
        raise RuntimeError(f"not written: {progress}")


def check(data: Data, place: Path) -> None:
    """All files are right, or `RuntimeError`."""
    with ExitStack() as stack:
        bare, memory, server = (
            stack.enter_context(h5py.File(place / f"{side}.h5"))
            for side in ("bare", "memory", "server")
        )
        for name in list(data)[:: max(1, len(data) // 7)]:
            length = len(data[name])
            for file in (bare, memory["1.1"], server["1.1"]):
                for start in (0, length - min(10, length)):
                    some = slice(start, start + min(10, length))
                    if not np.array_equal(file[name][some], data[name][some]):
                        raise RuntimeError(f"{file.file.filename}: {name} is not what was sent")
                if file[name].shape != data[name].shape:
                    raise RuntimeError(f"{file.file.filename}: {name} has {file[name].shape}")


if __name__ == "__main__":
    sys.exit(main())
