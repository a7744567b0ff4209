"""The life of a scan, with a publisher and several readers: chance histories on real backends.

    CREATED ──▶ PREPARED ──▶ STARTED ──▶ STOPPED ──▶ CLOSED ──▶ deleted (or by force, from any state)

| the publisher        | a reader               | promise                                          |
| -------------------- | ---------------------- | ------------------------------------------------ |
| steps, in any order  | update                 | True exactly when the state moved since its last |
| info, between steps  | info                   | as it was at PREPARED and at CLOSED              |
| streams              | streams                | from PREPARED on; new ones with the next step    |
| points, by the way   | wait_state             | as soon as the state is reached                  |
| close, delete, force | states, search, errors | what is deleted is gone for everybody at once    |
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from blissdata import DataStore, Scan, ScanState
from blissdata.exceptions import (
    NoScanAvailable,
    NoWritePermission,
    ScanNotFoundError,
    StreamError,
    UnauthorizeStateTransition,
)

IDENTITY = {"name": "life", "number": 7, "data_policy": "none", "session": "machine"}

STEPS = {
    "prepare": (ScanState.CREATED, ScanState.PREPARED),
    "start": (ScanState.PREPARED, ScanState.STARTED),
    "stop": (ScanState.STARTED, ScanState.STOPPED),
}


@dataclass
class Copy:
    """A reader's copy of the scan, and what it should know."""

    scan: Scan
    state: ScanState
    info: dict
    streams: set[str] = field(default_factory=set)


class ScanMachine(RuleBasedStateMachine):
    """One scan after another; only the newest is looked at."""

    def __init__(self, store: DataStore) -> None:
        super().__init__()
        self.store = store
        self._begin()

    def _begin(self) -> None:
        self.since, _ = self.store.search_existing_scans()
        self.info: dict = {"title": "machine", "n": 0}
        self.scan = self.store.create_scan(IDENTITY, self.info)
        self.key = self.scan.key
        self.state = ScanState.CREATED
        self.deleted = False
        self.created: dict[str, int] = {}  # stream → points sent
        self.sealed = False
        self.published: set[str] = set()
        self.seen_info = dict(self.info)
        self.copies: list[Copy] = []
        self.writers = {}

    # ------------------------------------------------------------------------------ publisher

    def _stepped(self, target: ScanState) -> None:
        self.state = target
        self.published = set(self.created)
        self.seen_info = dict(self.info)
        if target >= ScanState.STOPPED:
            self.sealed = True

    @rule(step=st.sampled_from(sorted(STEPS)))
    def step(self, step):
        origin, target = STEPS[step]
        if self.state != origin:
            with pytest.raises(UnauthorizeStateTransition):
                getattr(self.scan, step)()
        elif self.deleted:
            with pytest.raises((ScanNotFoundError, StreamError)):
                getattr(self.scan, step)()
        else:
            getattr(self.scan, step)()
            self._stepped(target)

    @rule()
    def close(self):
        if self.state == ScanState.CLOSED:
            self.scan.close()  # again: nothing happens
        elif not self.deleted:
            self.scan.close()
            self._stepped(ScanState.CLOSED)

    @rule()
    def change_info(self):
        if self.state in (ScanState.CREATED, ScanState.STOPPED):
            self.info["n"] += 1
            self.scan.info["n"] = self.info["n"]

    @rule(name=st.sampled_from("abc"))
    def create_stream(self, name):
        if self.state >= ScanState.STOPPED:
            with pytest.raises(UnauthorizeStateTransition):
                self.scan.create_stream(name, dtype="int64")
        elif name in self.created:
            with pytest.raises(RuntimeError, match="already exists"):
                self.scan.create_stream(name, dtype="int64")
        else:
            self.writers[name] = self.scan.create_stream(name, dtype="int64")
            self.created[name] = 0

    @rule(name=st.sampled_from("abc"))
    def send(self, name):
        if name in self.writers and not self.sealed and not self.deleted:
            self.writers[name].send(self.created[name])
            self.created[name] += 1

    @rule(force=st.booleans())
    def delete(self, force):
        if self.deleted or self.state == ScanState.CLOSED or force:
            if force and not self.deleted:
                for name, writer in self.writers.items():
                    if not self.sealed:
                        writer.join()
                        assert len(writer) == self.created[name]
            self.store.delete_scan(self.key, force=force)
            self.deleted = True
        else:
            with pytest.raises(RuntimeError, match="not terminated"):
                self.store.delete_scan(self.key)

    @rule()
    def next_scan(self):
        if self.deleted or self.state == ScanState.CLOSED:
            self._begin()

    # ------------------------------------------------------------------------------ readers

    @rule()
    def load(self):
        if self.deleted:
            with pytest.raises(ScanNotFoundError):
                self.store.load_scan(self.key)
        else:
            copy = Copy(self.store.load_scan(self.key), self.state, dict(self.seen_info))
            copy.streams = set(self.published)
            self.copies.append(copy)
            self._check(copy)

    @rule(which=st.integers(0, 5), block=st.booleans())
    def update(self, which, block):
        if not self.copies:
            return
        copy = self.copies[which % len(self.copies)]
        if self.deleted:
            with pytest.raises(ScanNotFoundError):
                copy.scan.update()
            return
        moved = copy.state != self.state
        at_once = moved or copy.state == ScanState.CLOSED
        assert copy.scan.update(block=block and at_once) == moved
        copy.state, copy.info = self.state, dict(self.seen_info)
        copy.streams = set(self.published)
        self._check(copy)

    @rule(which=st.integers(0, 5), state=st.sampled_from(ScanState))
    def wait_state(self, which, state):
        if not self.copies:
            return
        copy = self.copies[which % len(self.copies)]
        if self.deleted:
            with pytest.raises(ScanNotFoundError):
                copy.scan.wait_state(state)
            return
        reached = self.state >= state
        assert copy.scan.wait_state(state, timeout=None if reached else 0) == reached
        copy.state, copy.info = self.state, dict(self.seen_info)
        copy.streams = set(self.published)
        self._check(copy)

    @rule()
    def readers_may_not_step(self):
        for copy in self.copies:
            for step in (*STEPS, "close"):
                with pytest.raises(NoWritePermission):
                    getattr(copy.scan, step)()

    @rule()
    def read_the_points(self):
        if self.deleted or not self.sealed:
            return
        streams = self.store.load_scan(self.key).streams
        for name, count in self.created.items():
            assert streams[name].is_sealed()
            assert streams[name][:].tolist() == list(range(count))

    def _check(self, copy: Copy) -> None:
        assert copy.scan.state == copy.state
        assert copy.scan.info == copy.info
        expected = copy.streams if copy.state >= ScanState.PREPARED else set()
        assert set(copy.scan.streams) == expected
        first = copy.scan.streams
        assert all(first[name] is stream for name, stream in copy.scan.streams.items())
        assert (copy.scan.number, copy.scan.session) == (7, "machine")

    # ------------------------------------------------------------------------------ everybody

    @invariant()
    def the_state_is_known_to_all(self):
        assert self.scan.state == self.state or self.deleted
        if self.deleted:
            with pytest.raises(ScanNotFoundError):
                self.store.get_scans_state([self.key])
            with pytest.raises(NoScanAvailable):
                self.store.get_next_scan(since=self.since, block=False)
        else:
            assert self.store.get_scans_state([self.key]) == {self.key: self.state}
            assert self.store.get_next_scan(since=self.since, block=False)[1] == self.key
        found = self.store.search_existing_scans(session="MACHINE", number=7)[1]
        assert (self.key in found) == (not self.deleted)


def test_the_life_of_a_scan(store):
    run_state_machine_as_test(
        lambda: ScanMachine(store), settings=settings(max_examples=50, stateful_step_count=30)
    )
