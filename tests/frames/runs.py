"""Whole runs with programs of their own: everybody reads, writers overrun readers, detectors are killed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tests.frames.formula import words

from blissdata import DataStore
from blissdata.streams.frames import FrameBuffer
from blissdata.streams.frames.ring import Ring, leftovers

LONG_S = 300.0
PATIENCE_S = 20.0

READERS = {"fast": (), "slow": ("--slow",), "remote": ("--remote",)}


def program(name: str, *arguments: object) -> subprocess.Popen[str]:
    """One of the programs beside this module."""
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.frames.{name}", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def line(process: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(process: subprocess.Popen[str]) -> None:
    """Waits for its end, and closes its pipes."""
    with suppress(OSError):
        process.stdin.close()  # type: ignore[union-attr]
    process.wait(LONG_S)
    process.stdout.close()  # type: ignore[union-attr]


@contextmanager
def running(*processes: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever happens, they are gone afterwards."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            ended(process)


def go_on(process: subprocess.Popen[str]) -> None:
    """Lets a program go on that waits for a line."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


# ---------------------------------------------------------------------------------- everybody reads


@dataclass(frozen=True)
class Run:
    """What became of a run."""

    frames: int
    nbytes: int
    seconds: float
    readers: dict[str, dict[str, Any]]

    def __str__(self) -> str:
        rate = self.frames / self.seconds
        lines = [
            f"{self.frames} frames of {self.nbytes / 2**20:.3g} MiB: {rate:.0f} frames/s, "
            f"{rate * self.nbytes / 1e6:.0f} MB/s saved"
        ]
        for name, got in self.readers.items():
            sources = ", ".join(
                f"{count} {place}" for place, count in got["sources"].items() if count
            )
            lines.append(
                f"  {name:10} right {got['right']:6}  wrong {got['wrong']}  gone {got['gone']}  "
                f"from: {sources}"
            )
        return "\n".join(lines)


def everybody_reads(
    url: str, file: Path, frames: int, shape: tuple[int, int], slots: int = 64, rate: float = 0.0
) -> Run:
    """A run that is saved, with a fast, a slow and a remote reader, and one that comes afterwards; as fast as
    it goes, or so many frames per second. The file stays."""
    how = ["--frames", frames, "--slots", slots, "--save", file, "--rate", rate, "--shape", *shape]
    detector = program("detector", url, *how)
    with running(detector), ExitStack() as stack:
        key = line(detector).partition(" ")[2]
        readers = {name: program("reader", url, key, *how) for name, how in READERS.items()}
        stack.enter_context(running(*readers.values()))
        for reader in readers.values():
            assert line(reader) == "ready"
        go_on(detector)
        seconds = float(line(detector).partition(" ")[2])
        got = {name: json.loads(line(reader)) for name, reader in readers.items()}
        go_on(detector)
        ended(detector)
        late = program("reader", url, key)
        with running(late):
            assert line(late) == "ready"
            got["afterwards"] = json.loads(line(late))
    return Run(frames, shape[0] * shape[1] * 2, seconds, got)


# ---------------------------------------------------------------------------------- torn frames


def hunt(frames: int, nbytes: int, slots: int = 4, readers: int = 2) -> dict[str, int]:
    """A writer at full speed, and readers that it overruns: how many frames were accepted, how many of these
    were torn, how often a reader saw that a frame was overwritten under its hands."""
    ring = Ring(slots, nbytes)
    try:
        started = [
            program("overrun", ring.name, slots, nbytes, stride) for stride in range(1, readers + 1)
        ]
        with running(*started):
            for reader in started:
                assert line(reader) == "ready"
            for index in range(frames):
                words(index, nbytes, ring.begin(index).view(np.uint64))
                ring.commit(index)
            for reader in started:
                go_on(reader)
            found = [[int(number) for number in line(reader).split()] for reader in started]
    finally:
        ring.close()
    accepted, torn, overrun = (sum(numbers) for numbers in zip(*found, strict=True))
    return {"frames": frames, "accepted": accepted, "torn": torn, "overrun": overrun}


# ---------------------------------------------------------------------------------- kills


def kill(url: str, directory: Path, seed: int) -> dict[str, Any]:
    """A detector killed at a random instant, with two readers: how these ended, and what is left."""
    chance = random.Random(seed)
    save = ["--save", directory / f"killed_{seed}.h5"] if chance.random() < 0.5 else []
    detector = program("detector", url, "--frames", 10**6, "--rate", 300, "--slots", 64, *save)
    with running(detector):
        key = line(detector).partition(" ")[2]
        with DataStore(url) as store:
            ring = store.load_scan(key).streams["camera"].info["frames"]["ring"]
        assert ring in leftovers()
        readers = [program("reader", url, key), program("reader", url, key, "--remote")]
        with running(*readers):
            for reader in readers:
                assert line(reader) == "ready"
            go_on(detector)
            time.sleep(chance.uniform(0.0, 2.0))  # the instant is what is tried
            detector.kill()
            detector.wait(LONG_S)
            got = [json.loads(line(reader)) for reader in readers]
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with FrameBuffer((8, 8), np.uint16, 2, serve=False):
            pass  # the next start
        if ring not in leftovers() or time.monotonic() > deadline:
            break
        time.sleep(0.05)  # who saves what is left may still be at it
    return {
        "saved": bool(save),
        "right": [one["right"] for one in got],
        "wrong": sum(one["wrong"] for one in got),
        "ends": [one["end"] for one in got],
        "left": int(ring in leftovers()),
    }


def prepared(url: str) -> str:
    """The URL, of a server that is prepared."""
    DataStore(url, init_db=True).close()
    return url
