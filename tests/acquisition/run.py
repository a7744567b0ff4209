"""One acquisition larger than memory, from its first point to its last reader.

publisher ──► server (limit) ──► two readers from the start, one that begins at the end
                │   ▲                 ▲
                ▼   │ tracker         │ old points
              writer ──► HDF5 file ───┘◄── a reader that comes afterwards
              (perhaps killed and started again half-way; perhaps with a pin)
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tests.acquisition.points import IMAGE, image
from tests.acquisition.writer import changing

from blissdata import DataStore
from blissdata.streams.entries import READ_LIMIT
from blissdata.streams.hdf5_fallback import Hdf5BackedStream
from blissdata.streams.sink import MAX_REQUEST, MAX_TRIP
from blissdata.testing.servers import StackServer, TestServer

MB = 1 << 20
LONG_S = 300.0
TIMES = 4
"""So many times the server's limit is published."""

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Plan:
    """Which acquisition."""

    limit: int
    """The server's memory limit [bytes]."""

    pin: bool = False
    """True: the writer pins the scan, and nothing else is protected. False: what is younger than
    `protected` is."""

    kill: bool = False
    """True: the writer is killed half-way, and started again."""

    protected: int = 5
    """[s]"""

    stack: bool = False
    """True: on a server of protocol 1."""

    @property
    def points(self) -> int:
        """How many points each stream gets."""
        return TIMES * self.limit // (IMAGE * 8)

    def __str__(self) -> str:
        writer = "killed and restarted" if self.kill else "undisturbed"
        layout = "protocol 1, " if self.stack else ""
        return f"{layout}{'pin' if self.pin else f'{self.protected} s protected'}, writer {writer}"


@dataclass
class Outcome:
    """What came of it."""

    plan: Plan
    seconds: float = 0.0
    """Until the publisher had confirmed its last point [s]."""

    stored: int = 0
    """The most memory that points were seen to take on the server [bytes]."""

    peak: int = 0
    """The most memory that the server used, as it says itself [bytes]."""

    trimmed: int = 0
    """How often the tracker forgot something."""

    broken: int = 0
    """How often it broke a pin."""

    in_file: bool = False
    """Whether the writer has saved all."""

    readers: dict[str, Any] = field(default_factory=dict)

    @property
    def excess(self) -> int:
        """How much more than its limit the server used [bytes]."""
        return max(0, self.peak - self.plan.limit)

    def faults(self) -> list[str]:
        """What is not as it must be."""
        found = []
        for name, reader in self.readers.items():
            if any(n != self.plan.points for n in reader["seen"].values()):
                found.append(f"reader {name} saw {reader['seen']} of {self.plan.points} points")
            if reader["wrong"] or reader["missed"]:
                found.append(f"reader {name}: {reader['wrong']} wrong, {reader['missed']} missed")
        if self.excess > IN_FLIGHT:
            found.append(f"{self.excess / MB:.1f} MB more than the limit were used")
        if self.stored > self.plan.limit + MAX_REQUEST:
            found.append(f"{self.stored / MB:.1f} MB of points were stored at once")
        if not self.trimmed:
            found.append("nothing was forgotten")
        if not self.in_file:
            found.append("the writer has not saved all")
        if self.broken:
            found.append(f"a pin was broken {self.broken} times")
        return found

    def report(self) -> str:
        """For people."""
        plan, total = self.plan, self.plan.points * (IMAGE + 1) * 8
        lines = [
            f"{plan}: {plan.points} points in each of 2 streams, {total / MB:.0f} MB in "
            f"{self.seconds:.1f} s ({total / MB / self.seconds:.0f} MB/s)",
            f"  limit {plan.limit / MB:.0f} MB; at most {self.stored / MB:.1f} MB of points stored, "
            f"{self.peak / MB:.1f} MB used with all that was on its way; {self.trimmed} times forgotten",
        ]
        for name, reader in self.readers.items():
            images = reader["seen"]["images"]
            lines.append(
                f"  reader {name:12} {images - reader['from_file']:6} images from memory, "
                f"{reader['from_file']:6} from the file; {reader['wrong']} wrong, "
                f"{reader['missed']} missed"
            )
        return "\n".join(lines + [f"  FAULT: {fault}" for fault in self.faults()])


IN_FLIGHT = MAX_TRIP + 4 * READ_LIMIT
"""What may be on its way at one time [bytes]: the publisher's commands, and the replies to three readers and
the writer, which the server counts as memory that it uses."""


LOOK_S = 0.02
"""How often what is stored is looked at [s]."""


class Watch:
    """Looks from a thread, as long as it lasts, at how much memory streams take."""

    def __init__(self, server: TestServer, keys: Sequence[str]) -> None:
        self._server, self._keys = server, keys
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most = 0

    def _look(self) -> None:
        with self._server.client() as client:
            while not self._stop.wait(LOOK_S):
                sizes = (client.memory_usage(key, samples=0) or 0 for key in self._keys)
                self.most = max(self.most, sum(sizes))

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def acquire(plan: Plan, directory: Path) -> Outcome:
    """Runs it, in processes of their own but for the publisher."""
    path = directory / "scan.h5"
    identity = {"name": "timescan", "number": 1, "data_policy": "none", "path": str(path)}
    outcome = Outcome(plan)
    kind = StackServer if plan.stack else TestServer
    with (
        kind(maxmemory=plan.limit) as server,
        DataStore(server.url, init_db=True, publish_timeout=LONG_S) as store,
    ):
        protecting = ["--protected-history", "0" if plan.pin else str(plan.protected)]
        tracker = _start("blissdata.redis_engine.memory_tracker", "--redis-url", server.url,
                         *protecting, "--pin-limit", "100%")  # fmt: skip
        with store.create_scan(identity, {"save": True}) as scan:
            define = Hdf5BackedStream.make_definition
            images = scan.create_stream(define("images", path, "/images", "f8", (IMAGE,)))
            monitor = scan.create_stream(define("monitor", path, "/monitor", "f8"))
            scan.prepare()
            scan.start()
            arguments = [server.url, scan.key, str(path), "pin" if plan.pin else "free"]
            writer = _start("tests.acquisition.writer", *arguments)
            readers = {
                name: _start("tests.acquisition.reader", server.url, scan.key, "start")
                for name in ("start 1", "start 2")
            }
            for process in (writer, *readers.values()):
                _wait_for(process)
            with Watch(server, [images.key, monitor.key]) as watch:
                began = time.monotonic()
                for i in range(plan.points):
                    images.send(image(i))
                    monitor.send(np.float64(i))
                    if i == plan.points // 2:
                        if plan.kill:
                            with changing(str(path)):
                                writer.kill()
                                writer.communicate()
                            writer = _start("tests.acquisition.writer", *arguments)
                        readers["end"] = _start(
                            "tests.acquisition.reader", server.url, scan.key, "end"
                        )
                        _wait_for(readers["end"])
                scan.stop()
                outcome.seconds = time.monotonic() - began
            outcome.stored = watch.most
        out, _ = writer.communicate(timeout=LONG_S)
        outcome.in_file = out.endswith("complete\n") and writer.returncode == 0
        readers["afterwards"] = _start("tests.acquisition.reader", server.url, scan.key, "start")
        outcome.readers = {name: _result(reader) for name, reader in readers.items()}
        with server.client() as client:
            outcome.peak = int(client.info("memory")["used_memory_peak"])
        tracker.send_signal(signal.SIGTERM)
        said, _ = tracker.communicate(timeout=LONG_S)
        outcome.trimmed, outcome.broken = said.count("Trimmed"), said.count("BROKEN")
    return outcome


def _start(module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def _wait_for(process: subprocess.Popen[str]) -> None:
    """Until it says that it follows."""
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"


def _result(process: subprocess.Popen[str]) -> Any:
    out, _ = process.communicate(timeout=LONG_S)
    assert process.returncode == 0, out
    return json.loads(out.splitlines()[-1])
