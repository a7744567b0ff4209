"""`python -m tests.writer_kills`: a writer that is killed again and again, and the file that it leaves.

Scans of every kind of stream are published on two servers, the same points at the same time. On one of
them `blissdata write` runs undisturbed. On the other it is killed (SIGKILL) at random instants, and started
again. A reader that knows nothing of all this opens the file all the time, with plain h5py. In the end both
files are compared item by item.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tests.writer.kit import contents

from blissdata import DataStore, Scan
from blissdata.testing.servers import TestServer
from blissdata.writer.report import read_report

LONG_S = 90.0

KILL_AFTER_S = (0.7, 2.7)
"""A writer lives so long [s]; it needs most of a second to begin."""

POINTS_PER_STEP = 40

STREAMS: dict[str, dict[str, Any]] = {
    "counter": {"dtype": "i8"},
    "diode": {"dtype": "f8"},
    "spectrum": {"dtype": "f4", "shape": (512,)},
    "image": {"dtype": "u2", "shape": (64, 80)},
    "slow_image": {"dtype": "u2", "shape": (64, 80)},
    "peaks": {"dtype": "f8", "shape": (-1,)},
    "boxes": {"dtype": "i4", "shape": (-1, 4)},
    "note": {"dtype": "json"},
}

LOOKS = """
import sys, time
import h5py, numpy as np
path, looks, torn, wrong = sys.argv[1], 0, 0, 0
said = set()
print("ready", flush=True)
import select
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        with h5py.File(path, "r") as file:
            for entry in file.values():
                for name in ("counter", "diode"):
                    found = entry["points"][name][:]
                    if not np.array_equal(found, np.arange(len(found))):
                        wrong += 1
                images = entry["points/image"]
                if len(images) and (images[-1] != len(images) - 1).any():
                    wrong += 1
        looks += 1
    except FileNotFoundError:
        pass
    except Exception as error:
        torn += 1
        said.add(repr(error))
print(looks, torn, wrong, *list(said)[:3], sep="\\t", flush=True)
"""


@dataclass
class Found:
    """What a run has shown."""

    kills: int = 0
    scans: int = 0
    points: int = 0
    looks: int = 0
    torn: int = 0
    wrong: int = 0
    said: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.torn or self.wrong or self.different) and self.looks > 0


class WriterProcess:
    """`blissdata write`, to be killed."""

    def __init__(self, url: str, root: Path, log: Path) -> None:
        program = Path(sys.executable).with_name("blissdata")
        self._command = [str(program), "write", "--url", url]
        self._command += ["--roots", str(root)]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(LONG_S)
        if code:
            raise RuntimeError(f"a writer ended with code {code}: {self._log.read_text()[-3000:]}")


def measure(kills: int, seed: int, say: Any = lambda text: None) -> Found:
    """Publishes until the writer was killed so often."""
    chance, found = random.Random(seed), Found()
    with ExitStack() as stack:
        place = Path(tempfile.mkdtemp(prefix="bd-kills-"))
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        roots = [place / "killed", place / "whole"]
        stores, writers = [], []
        for root in roots:
            root.mkdir()
            server = stack.enter_context(TestServer())
            stores.append(stack.enter_context(DataStore(server.url, init_db=True)))
            writers.append(WriterProcess(server.url, root, place / f"{root.name}.log"))
        reader = stack.enter_context(looking(roots[0] / "data.h5"))
        for writer, store in zip(writers, stores, strict=True):
            writer.start()
            wait_begun(store)
        next_kill = time.monotonic() + chance.uniform(*KILL_AFTER_S)
        while found.kills < kills:
            found.scans += 1
            say(f"scan {found.scans}, {found.kills} of {kills} kills")
            pairs = [begin(s, r, found.scans) for s, r in zip(stores, roots, strict=True)]
            for step in range(chance.randrange(20, 40)):
                for _, streams in pairs:
                    send(streams, step)
                time.sleep(chance.uniform(0, 0.15))
                if time.monotonic() >= next_kill and found.kills < kills:
                    writers[0].kill()
                    found.kills += 1
                    writers[0].start()
                    next_kill = time.monotonic() + chance.uniform(*KILL_AFTER_S)
            for scan, _ in pairs:
                finish(scan)
                found.points += sum(len(s) for s in scan.streams.values())
        for store, root in zip(stores, roots, strict=True):
            wait_written(store, root / "data.h5", found.scans)
        found.looks, found.torn, found.wrong, found.said = reader()
        for writer in writers:
            writer.stop()
        found.different = differences(roots[0] / "data.h5", roots[1] / "data.h5")
        found.said += [(place / "killed.log").read_text()[-3000:]] if not found.good else []
    return found


@contextmanager
def looking(path: Path) -> Iterator[Any]:
    """A program that reads the file all the time; gives how often, and how often in vain."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOOKS, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()

    def ended() -> tuple[int, int, int, list[str]]:
        answer, _ = process.communicate("\n", LONG_S)
        looks, torn, wrong, *said = answer.strip("\n").split("\t")
        return int(looks), int(torn), int(wrong), said

    try:
        yield ended
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def begin(store: DataStore, root: Path, number: int) -> tuple[Scan, dict[str, Any]]:
    path = str(root / "data.h5")
    scan = store.create_scan({"name": "k", "number": number, "data_policy": "none", "path": path})
    streams = {
        name: scan.create_stream(name, dtype=spec["dtype"], shape=spec.get("shape"))
        for name, spec in STREAMS.items()
    }
    scan.info["count_time"] = 0.01
    scan.info["mapping"] = {
        "NX_class": "NXentry",
        "title": ({}, "RAW", f"scan {number}"),
        "points": {name: ({"units": "1"}, "STREAM", name) for name in STREAMS},
    }
    scan.prepare()
    scan.start()
    return scan, streams


def send(streams: dict[str, Any], step: int) -> None:
    low, high = step * POINTS_PER_STEP, (step + 1) * POINTS_PER_STEP
    numbers = np.arange(low, high)
    streams["counter"].send(numbers)
    streams["diode"].send(numbers.astype("f8"))
    streams["spectrum"].send(np.repeat(numbers[:, None], 512, axis=1).astype("f4"))
    streams["image"].send(
        np.broadcast_to(numbers[:, None, None], (len(numbers), 64, 80)).astype("u2")
    )
    streams["slow_image"].send(np.full((64, 80), step, "u2"))
    for i in range(step % 3 + 1):
        streams["peaks"].send(np.arange(i + 1, dtype="f8") + step)
        streams["boxes"].send(np.full((i + 1, 4), step, "i4"))
        streams["note"].send({"step": step, "i": i, "text": "é" * i})


def finish(scan: Scan) -> None:
    scan.stop()
    scan.info["end_time"] = "2026-11-25T20:00:00+01:00"
    scan.close()


def wait_begun(store: DataStore) -> None:
    """Until the first writer of the server has begun: it does not write scans from before."""
    deadline = time.monotonic() + LONG_S
    while read_report(store) is None:
        if time.monotonic() > deadline:
            raise RuntimeError("the writer does not begin")
        time.sleep(0.05)


def wait_written(store: DataStore, path: Path, scans: int) -> None:
    """Until everything is in the file."""
    deadline = time.monotonic() + LONG_S
    states: list[str] = []
    while True:
        with suppress(FileNotFoundError), h5py.File(path, "r") as file:
            states = [entry.attrs["blissdata_state"] for entry in file.values()]
            if states == ["SUCCEEDED"] * scans and not store.pins():
                return
        if time.monotonic() > deadline:
            raise RuntimeError(f"is not written: {states}, {store.pins()}, {read_report(store)}")
        time.sleep(0.05)


def differences(one: Path, other: Path) -> list[str]:
    """The paths at which two files differ."""
    first, second = contents(one), contents(other)
    found = [f"only in one: {path}" for path in first.keys() ^ second.keys()]
    found += [path for path in first if path in second and first[path] != second[path]]
    return found if found or list(first) == list(second) else ["the order"]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 1 if anything was lost, torn or different."""
    parser = argparse.ArgumentParser(prog="python -m tests.writer_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args(argv)
    print(f"seed {arguments.seed}", flush=True)
    found = measure(arguments.kills, arguments.seed, lambda text: print(text, flush=True))
    print(f"{found.kills} kills of the writer over {found.scans} scans, {found.points} points")
    print(
        f"a plain reader looked {found.looks} times: {found.torn} times in vain, {found.wrong} wrong"
    )
    print(f"items that differ from those of a writer that nobody killed: {len(found.different)}")
    for text in [*found.different[:10], *found.said]:
        print(f"  {text}")
    print("files equal" if found.good else "NOT GOOD")
    return 0 if found.good else 1


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
