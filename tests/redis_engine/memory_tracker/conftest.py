"""A scan, and a clock, for the memory tracker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from tests.redis_engine.memory_tracker.rounds import IDENTITY, Clock

from blissdata import DataStore, Scan
from blissdata.exceptions import ScanNotFoundError
from blissdata.redis_engine.memory_tracker import tracker as tracker_module


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()

    class Time:
        monotonic = staticmethod(made.monotonic)

    monkeypatch.setattr(tracker_module, "time", Time)
    return made


@pytest.fixture
def scan(store: DataStore) -> Iterator[Scan]:
    scan = store.create_scan(IDENTITY)
    for name in ("a", "b", "empty"):
        scan.create_stream(name, dtype="f8", shape=(1000,))
    scan.prepare()
    scan.start()
    yield scan
    with suppress(ScanNotFoundError):
        scan.close()
