"""The memory tracker of one beside scans of the other: it frees memory, and ends what is over."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.clients.environments import environment
from tests.clients.kinds import ALL_KINDS, POINTS, SAVED
from tests.clients.programs import Program, ProgramError
from tests.clients.scenarios import GONE, Findings

from blissdata.testing.servers import StackServer, TestServer

__all__ = ["Tracker", "crowded_server", "tracked"]

LONG_S = 60.0

MEMORY = "26mb"
"""The scan has 12 MB of points; the server with its modules needs some 2 MB before the first."""

OPTIONS = {
    "cleaning-threshold": 50,
    "protected-history": 1,
    "monitoring-period": 1,
    "inactive-scan-deletion": 86400,
    "closed-scan-deletion": 100,
    "cleaning-time-slice": 20,
}


class Tracker:
    """`memory_tracker` of an environment; a context manager."""

    def __init__(self, environment_name: str, url: str, log: Path) -> None:
        self._log = log
        command = [str(environment(environment_name).with_name("memory_tracker"))]
        command += ["--redis-url", url]
        for name, value in OPTIONS.items():
            command += [f"--{name}", str(value)]
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    k: v for k, v in os.environ.items() if not k.startswith(("BEACON", "BLISSDATA"))
                },
                start_new_session=True,
            )

    def wait_until_it_says(self, words: str) -> None:
        """Until its log has a line with these words. Raises `ProgramError`."""
        self.wait(lambda: words in self._log.read_text(), f"memory_tracker does not say {words!r}")

    def wait(self, condition: Callable[[], bool], complaint: str) -> None:
        """Until the condition holds. Raises `ProgramError` with the complaint."""
        deadline = time.monotonic() + LONG_S
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ProgramError(f"{complaint}:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.02)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(LONG_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def tracked(
    publisher: Program, reader: Program, tracker_in: str, server: TestServer, directory: Path
) -> Findings:
    """A scan that does not fit into memory, between two programs, under the tracker of an environment."""
    findings = Findings()
    look = findings.equal
    identity = {"name": "big", "number": 1, "data_policy": "none", "path": str(directory / "f.h5")}
    with Tracker(tracker_in, server.url, directory / "log") as tracker:
        tracker.wait_until_it_says("Memory usage: ")  # scans from before it are taken up in silence
        key = publisher.tell(
            "create", kind=SAVED, identity=identity, info={}, directory=str(directory)
        )
        publisher.tell("step", name="prepare")
        publisher.tell("step", name="start")
        tracker.wait_until_it_says(f"Start tracking {key}")
        reader.tell("load", key=key)
        for point in range(POINTS):
            publisher.tell("send", start=point, stop=point + 1)
            if point % 8 == 7:
                _next_round(tracker, server)
        tracker.wait_until_it_says("Trimmed off the oldest 20% of stream history")
        (big,) = (spec for spec in ALL_KINDS[SAVED] if spec.name == "big")
        look("length of a stream that was trimmed", reader.tell("length", stream="big"), POINTS)
        newest = reader.tell("read", stream="big", index=POINTS - 1)
        look("its newest point", newest, big.point(POINTS - 1))
        with findings.raises("its first point", *GONE):
            _until_gone(reader)
        publisher.tell("step", name="stop")
        publisher.tell("step", name="close")
        tracker.wait_until_it_says(
            f"Scan {key} is terminated, expiration set to 0:01:{OPTIONS['closed-scan-deletion'] - 60:02d} seconds"
        )
        streams = reader.tell("streams")
        with server.client() as client:
            for name in [key, *(told["key"] for told in streams.values())]:
                if client.exists(name):
                    left = client.ttl(name)
                    look(f"{name} is to expire ({left} s)", 10 < left <= 100, True)
        look("last state", reader.tell("states", keys=[key]), {key: 4})
    return findings


def _until_gone(reader: Program) -> None:
    """Reads the first point until that fails, while the tracker goes on."""
    deadline = time.monotonic() + LONG_S
    while time.monotonic() < deadline:
        reader.tell("read", stream="big", index=0)


def _next_round(tracker: Tracker, server: TestServer) -> None:
    """Waits until the tracker has looked once more: its journal has grown, or was cut."""

    def newest() -> object:
        with server.client() as client:
            return client.xrevrange("_MEMORY_TRACKING_", count=1)

    before = newest()
    tracker.wait(lambda: newest() != before, "memory_tracker makes no round")


def crowded_server() -> StackServer:
    """With little memory."""
    return StackServer("valkey", tcp=True, maxmemory=MEMORY, maxmemory_policy="noeviction")
