"""Publishers, pins and a memory tracker in any order, beside a list per stream.

Whatever happens, what a pin holds is there and right, unless the tracker was sent past pins: then the pin tells
exactly which points are lost, and holds the rest. Lengths never change by forgetting, and what nobody holds
goes in the end.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.redis_engine.memory_tracker.rounds import IDENTITY, Clock

from blissdata import DataStore
from blissdata.redis_engine.memory_tracker import MemoryTracker, NoFreeableMemoryError
from blissdata.redis_engine.memory_tracker import tracker as tracker_module
from blissdata.testing import MemoryBackend

NAMES = ("a", "b")
streams_of = st.sampled_from(NAMES)


class Pinned(RuleBasedStateMachine):
    pins = Bundle("pins")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.time = mock.patch.object(tracker_module, "time", self.clock)
        self.time.start()
        self.backend = MemoryBackend()
        self.backend.initialise()
        self.store = DataStore(backend=self.backend)
        self.scan = self.store.create_scan(IDENTITY)
        self.writers: dict[str, Any] = {
            name: self.scan.create_stream(name, dtype="i8") for name in NAMES
        }
        self.keys = {name: stream.key for name, stream in self.writers.items()}
        self.scan.prepare()
        self.lengths = dict.fromkeys(NAMES, 0)
        self.sealed: set[str] = set()
        self.held: dict[str, dict[str, int | None]] = {}
        """By name of a pin and of a stream, from which index on points are held."""
        self.lost: dict[str, dict[str, set[int]]] = {}
        self.names = iter(range(10**6))
        self.tracker = self.new_tracker()

    def new_tracker(self) -> MemoryTracker:
        return MemoryTracker(self.store, 1e9, 1e9, 40)

    def teardown(self) -> None:
        try:
            self.everything_goes_in_the_end()
        finally:
            self.scan.close()
            self.store.close()
            self.time.stop()

    def everything_goes_in_the_end(self) -> None:
        """Once nobody pins it; but the last entry of a stream that is not sealed."""
        for pin in list(self.held):
            self.release(pin)
        self.tracker.update()
        self.clock.now += 1000
        while True:
            try:
                self.tracker.reclaim_memory(0)
            except NoFreeableMemoryError:
                break
        for name in NAMES:
            left = self.lengths[name] - self.first_there(name)
            assert left <= (0 if name in self.sealed else 5)
        self.lengths_stay()

    # -------------------------------------------------------------------------- what may happen

    @initialize(counts=st.lists(st.integers(1, 5), min_size=2, max_size=6))
    def begin(self, counts: list[int]) -> None:
        for name in NAMES:
            self.publish(name, counts, 10.0)

    @rule(
        name=streams_of,
        counts=st.lists(st.integers(1, 5), min_size=1, max_size=4),
        seconds=st.sampled_from([0.0, 1.0, 10.0, 100.0]),
    )
    def publish(self, name: str, counts: list[int], seconds: float) -> None:
        """Entries of so many points each, of which each has its index as its value; then a round of the
        tracker, and time."""
        for count in [] if name in self.sealed else counts:
            start = self.lengths[name]
            self.writers[name].send(np.arange(start, start + count))
            self.writers[name].join()
            self.lengths[name] += count
        self.tracker.update()
        self.clock.now += seconds

    @precondition(lambda self: len(self.sealed) < len(NAMES))
    @rule(name=streams_of)
    def seal(self, name: str) -> None:
        self.writers[name].seal()
        self.sealed.add(name)
        self.tracker.update()

    @rule()
    def restart_the_tracker(self) -> None:
        self.tracker = self.new_tracker()

    @rule(protected=st.sampled_from([0.0, 0.0, 5.0, 50.0]))
    def reclaim(self, protected: float) -> None:
        try:
            self.tracker.reclaim_memory(protected)
        except NoFreeableMemoryError:
            return

    @rule(protected=st.sampled_from([0.0, 5.0]))
    def reclaim_past_pins(self, protected: float) -> None:
        before = {name: self.first_there(name) for name in NAMES}
        try:
            self.tracker.reclaim_memory(protected, past_pins=True)
        except NoFreeableMemoryError:
            return
        for pin, held in self.held.items():
            for name, index in held.items():
                there = self.first_there(name)
                if index is not None and before[name] <= index < there:
                    self.lost[pin][name] |= set(range(index, there))
                    held[name] = there

    @rule(
        target=pins,
        only=st.none() | st.frozensets(streams_of),
        ahead=st.fixed_dictionaries({}, optional={n: st.integers(0, 12) for n in NAMES}),
    )
    def take(self, only: frozenset[str] | None, ahead: dict[str, int]) -> str:
        """Points that are gone are no matter of a pin that comes later: it stands behind them."""
        name = f"pin {next(self.names)}"
        held: dict[str, int | None] = {n: 0 if only is None or n in only else None for n in NAMES}
        positions = {n: self.first_there(n) + ahead.get(n, 0) for n in NAMES if held[n] is not None}
        self.held[name] = {**held, **positions}
        self.lost[name] = {n: set() for n in NAMES}
        self.backend.pins.take(
            self.scan.key,
            name,
            name,
            holder="somebody",
            lasting=True,
            everything=only is None,
            begins={},
            positions={self.keys[n]: index for n, index in positions.items()},
            keys=[],
        )
        return name

    @rule(pin=pins, name=streams_of, by=st.integers(-3, 6))
    def move(self, pin: str, name: str, by: int) -> None:
        held = self.held[pin]
        at = held[name]
        if at is None:
            return
        to = max(0, at + by)
        held[name] = max(at, to)
        self.tell(pin, {self.keys[name]: to})

    @rule(pin=consumes(pins))
    def let_go(self, pin: str) -> None:
        self.release(pin)

    def release(self, pin: str) -> None:
        assert self.store.remove_pin(self.scan.key, pin)
        del self.held[pin], self.lost[pin]

    def tell(self, pin: str, positions: dict[str, int]) -> None:
        from blissdata.redis_engine.backends.abstract import PinMove
        from blissdata.redis_engine.keys import pin_key

        key = pin_key(self.scan.key, pin)
        (reply,) = self.backend.pins.move([PinMove(key, self.scan.key, pin, True, positions)])
        assert not isinstance(reply, Exception)

    # -------------------------------------------------------------------------- what must hold

    def first_there(self, name: str) -> int:
        return self.backend.bounds([self.keys[name]])[self.keys[name]].start  # type: ignore[union-attr]

    @invariant()
    def lengths_stay(self) -> None:
        for name in NAMES:
            assert len(self.scan.streams[name]) == self.lengths[name]

    @invariant()
    def what_is_pinned_is_there_and_right(self) -> None:
        for held in self.held.values():
            for name, index in held.items():
                if index is not None and index < self.lengths[name]:
                    found = self.scan.streams[name][index : self.lengths[name]]
                    assert found.tolist() == list(range(index, self.lengths[name]))

    @invariant()
    def pins_tell_what_is_lost(self) -> None:
        names = {key: name for name, key in self.keys.items()}
        for pin in self.store.pins():
            for name in NAMES:
                assert pin.position(self.keys[name]) == self.held[pin.name][name]
            told = {
                names[key]: {i for start, stop in ranges for i in range(start, stop)}
                for key, ranges in pin.lost.items()
            }
            assert {n: lost for n, lost in self.lost[pin.name].items() if lost} == told


TestPinned = Pinned.TestCase
TestPinned.settings = settings(max_examples=100, stateful_step_count=30)
