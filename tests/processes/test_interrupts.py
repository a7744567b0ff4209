"""Ctrl-C at random instants in the middle of publishing, thousands of times, beside a real server.

A point that was being sent may have been taken or not. All others are there once, in order, and the
publisher goes on as if nothing had been.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from blissdata import DataStore

IDENTITY = {"name": "interrupts", "number": 1, "data_policy": "none"}
ROUNDS = 100
LONGEST_S = 0.002


class Interrupts:
    """A signal at a random instant raises KeyboardInterrupt in the block, wherever it is."""

    def __init__(self) -> None:
        self._armed = False
        self.count = 0

    def strike(self, *args: Any) -> None:
        if self._armed:
            self._armed = False
            self.count += 1
            raise KeyboardInterrupt

    def during(self, work: Callable[[], None]) -> None:
        """Works until it is interrupted. Where numpy looks for attributes, an exception is lost: then
        another one comes."""
        try:
            while True:
                if not self._armed:
                    self._armed = True
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, LONGEST_S))
                work()
        except KeyboardInterrupt:
            pass
        except (
            RuntimeError
        ) as error:  # threading.Condition.wait, interrupted as it lets go of its lock
            if not isinstance(error.__context__, KeyboardInterrupt):
                raise
        finally:
            self._armed = False


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    found = Interrupts()
    before = signal.signal(signal.SIGALRM, found.strike)
    yield found
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


KINDS: dict[str, tuple[Any, Callable[[int], Any]]] = {
    "scalars of numpy": ({"dtype": "int64"}, np.int64),
    "scalars of Python": ({"dtype": "int64"}, int),
    "arrays": ({"dtype": "int64", "shape": (3,)}, lambda i: np.full(3, i)),
    "batches": ({"dtype": "int64"}, lambda i: np.array([i])),
    "json": ({"dtype": "json"}, int),
}


# What is raised in a destructor is lost, and told as this warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("joins", [False, True], ids=["send", "send and join"])
@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_loses_and_repeats_no_other_point(
    plain_store: DataStore, interrupts: Interrupts, kind: str, joins: bool
) -> None:
    options, point = KINDS[kind]
    scan = plain_store.create_scan(IDENTITY)
    stream = scan.create_stream("x", **options)
    scan.prepare()
    sent: set[int] = set()
    doubtful: set[int] = set()
    current = 0

    def publish() -> None:
        nonlocal current
        current += 1
        doubtful.add(current)
        stream.send(point(current))
        sent.add(current)
        if joins and current % 5 == 0:
            stream.join()

    for _ in range(ROUNDS):
        interrupts.during(publish)
    assert interrupts.count >= ROUNDS
    stream.join()
    found = [int(np.ravel(p)[0]) for p in scan.streams["x"][:]]
    assert found == sorted(set(found)), "points are there twice, or out of order"
    assert sent <= set(found) <= doubtful
    current += 1
    stream.send(point(current))
    scan.close()
    assert int(np.ravel(scan.streams["x"][-1])[0]) == current
