"""The words in which tests of the tracker's rounds speak."""

from __future__ import annotations

import numpy as np

from blissdata import DataStore
from blissdata.exceptions import IndexNoMoreThereError
from blissdata.redis_engine.memory_tracker import MemoryTracker
from blissdata.streams.base import BaseStream

IDENTITY = {"name": "ascan", "number": 1, "data_policy": "none"}
DAY = 86400.0


class Clock:
    """The monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def new_tracker(store: DataStore, inactive: float = DAY, slice_: float = 100) -> MemoryTracker:
    return MemoryTracker(store, inactive, 7 * DAY, slice_)


def publish(stream: BaseStream, start: int, stop: int) -> None:
    """Points one by one, each an entry of its own."""
    for i in range(start, stop):
        stream.send(np.full(1000, float(i)))
        stream.join()


def first_there(stream: BaseStream) -> int:
    """The index of the first point that is on the server; its length if there is none."""
    length = len(stream)
    for i in range(length):
        try:
            stream[i]
        except IndexNoMoreThereError:
            continue
        return i
    return length


def journal(store: DataStore) -> list[dict[str, int]]:
    return [dict(record.ends) for record in store.backend.upkeep.records()]
