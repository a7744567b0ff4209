"""A stream is a list with a moving left edge and a lid: chance histories on real backends, every
reading compared with Python lists.

| done to a stream              | read by                                     | compared with          |
| ----------------------------- | ------------------------------------------- | ---------------------- |
| append: any split of points   | index, slice (any bounds, any step)         | `list.__getitem__`     |
| send … join by a new writer   | cursors at several places, `last_only` too  | the list from there on |
| trim, seal, late writes       | one group over all streams, views' get_data | the same               |

    index    0   1   2   3   4   5   6
    entries  ╳   ╳   ╳ [3       ][6]      left edge: 3, lid: when sealed
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from blissdata import DataStore
from blissdata.exceptions import (
    EndOfStream,
    IndexNoMoreThereError,
    IndexNotYetThereError,
    IndexWontBeThereError,
    StreamConflictError,
    StreamRewoundError,
    StreamSealedError,
)
from blissdata.streams import Cursor, CursorGroup
from blissdata.streams.encoding import EncodedBatch
from blissdata.streams.event_log import AppendRequest, SealRequest, SpanRequest

IDENTITY = {"name": "machine", "number": 1, "data_policy": "none"}


@dataclass(frozen=True)
class Kind:
    """A kind of stream: how point number `i` looks, and how protocol 1 writes it."""

    dtype: str
    shape: tuple[int, ...] | None

    def point(self, i: int) -> Any:
        """Point number `i`, different from its neighbours."""
        if self.dtype == "json":
            return {"i": i, "x": [None, True, 1.5][i % 3]}
        if self.shape and -1 in self.shape:
            return np.full((1 + (i // 3) % 2, 2), i % 120, self.dtype)
        return np.full(self.shape or (), i % 120, self.dtype)[()]

    def payload(self, points: list[Any]) -> bytes:
        """One entry with these points (protocol 1, "Events")."""
        if self.dtype == "json":
            (point,) = points
            return json.dumps(point).encode()
        raw = b"".join(np.asarray(p).tobytes() for p in points)
        if self.shape and -1 in self.shape:
            return msgpack.packb([list(points[0].shape), raw])
        return raw

    def may_share_an_entry(self, points: list[Any]) -> bool:
        """Whether one entry may hold all of these points."""
        if self.dtype == "json":
            return len(points) == 1
        return len({np.shape(p) for p in points}) == 1

    def check(self, found: Any, expected: list[Any]) -> None:
        """Asserts that `found` is these points, in the type that API.md says."""
        if self.dtype == "json":
            assert isinstance(found, list)
            assert found == expected
            return
        assert len(found) == len(expected)
        if isinstance(found, np.ndarray):
            assert found.dtype.str == self.dtype
        if self.shape is None or -1 not in self.shape:
            assert found.shape == (len(expected), *(self.shape or ()))
        for a, b in zip(found, expected, strict=True):
            assert np.array_equal(a, b)

    def check_point(self, found: Any, expected: Any) -> None:
        """Asserts that `found` is this point."""
        if self.dtype == "json":
            assert found == expected
        else:
            assert found.dtype.str == self.dtype
            assert np.shape(found) == np.shape(expected)
            assert np.array_equal(found, expected)


KINDS = {
    "scalars": Kind("<f8", None),
    "swapped pairs": Kind(">i2", (2,)),
    "ragged": Kind("|u1", (-1, 2)),
    "json": Kind("json", None),
}


@dataclass
class Model:
    """A stream as a list with a left edge and a lid."""

    points: list[Any] = field(default_factory=list)
    entries: list[tuple[int, int]] = field(default_factory=list)  # those that are there
    sealed: bool = False

    @property
    def left(self) -> int:
        """Index of the first point that is there."""
        return self.entries[0][0] if self.entries else len(self.points)

    def trim(self, index: int) -> int:
        last = self.entries[-1:] if not self.sealed else []
        kept = [e for e in self.entries if e[1] > index or e in last]
        gone = len(self.entries) - len(kept)
        self.entries = kept
        return gone


@dataclass
class Place:
    """A cursor, and where it should be."""

    cursor: Cursor
    position: int = 0
    ended: bool = False


names = st.sampled_from(sorted(KINDS))
bounds = st.none() | st.integers(-12, 12) | st.sampled_from([-(10**20), 10**20])
splits = st.lists(st.integers(1, 4), min_size=1, max_size=4)


class StreamMachine(RuleBasedStateMachine):
    """One scan with a stream of each kind, several cursors on each and one group over all."""

    def __init__(self, store: DataStore) -> None:
        super().__init__()
        self.store = store
        self.scan = store.create_scan(IDENTITY)
        for name, kind in KINDS.items():
            self.scan.create_stream(name, dtype=kind.dtype, shape=kind.shape)
        self.scan.prepare()
        self.reader = store.load_scan(self.scan.key)
        self.streams = self.reader.streams
        self.model = {name: Model() for name in KINDS}
        self.places = {name: [Place(stream.cursor())] for name, stream in self.streams.items()}
        self.group = CursorGroup(self.streams)
        self.group_places = dict.fromkeys(KINDS, 0)
        self.group_active = set(KINDS)

    # ------------------------------------------------------------------------------ writing

    def _next(self, name: str, lengths: list[int]) -> list[list[Any]]:
        """New points, in groups of these lengths or shorter, such that one entry can hold one."""
        kind, i = KINDS[name], len(self.model[name].points)
        groups = []
        for length in lengths:
            group = [kind.point(i)]
            while len(group) < length and kind.may_share_an_entry(
                [*group, kind.point(i + len(group))]
            ):
                group.append(kind.point(i + len(group)))
            i += len(group)
            groups.append(group)
        return groups

    def _append(self, name: str, index: int, groups: list[list[Any]]) -> int | Exception:
        batches = tuple(EncodedBatch(KINDS[name].payload(g), len(g)) for g in groups)
        key = self.streams[name].key
        request = AppendRequest(index, batches, self.scan.key)
        return self.store.event_log.append({key: request})[key]

    @rule(name=names, lengths=splits)
    def append(self, name, lengths):
        model = self.model[name]
        groups = self._next(name, lengths)
        outcome = self._append(name, len(model.points), groups)
        if model.sealed:
            assert isinstance(outcome, StreamSealedError)
            return
        for group in groups:
            model.entries.append((len(model.points), len(model.points) + len(group)))
            model.points += group
        assert outcome == len(model.points)

    @initialize(lengths=splits)
    def begin(self, lengths):
        for name in KINDS:
            self.append(name, lengths)

    @rule(name=names, lengths=splits, off=st.sampled_from([-3, -1, 1, 7]))
    def append_where_it_does_not_end(self, name, lengths, off):
        model = self.model[name]
        index = max(0, len(model.points) + off)
        if index == len(model.points):
            return
        outcome = self._append(name, index, self._next(name, lengths))
        if model.sealed:
            assert isinstance(outcome, StreamSealedError)
        elif off < 0:
            assert isinstance(outcome, StreamConflictError)
        else:
            assert isinstance(outcome, StreamRewoundError)

    @rule(name=names, lengths=splits, joins=st.booleans())
    def send_and_join(self, name, lengths, joins):
        model = self.model[name]
        writer = self.reader.get_writer_stream(name)
        groups = self._next(name, lengths)
        if model.sealed:
            writer.send(groups[0][0])
            with pytest.raises(StreamSealedError):
                writer.join()
            with pytest.raises(StreamSealedError):
                writer.send(groups[0][0])
            assert writer.seal() == len(model.points)
            return
        for group in groups:
            if len(group) == 1:
                writer.send(group[0])
            else:
                writer.send(np.stack(group, dtype=KINDS[name].dtype))
            if joins:
                writer.join()
        writer.join()
        start = len(model.points)
        model.points += [point for group in groups for point in group]
        self._take_split(name, start)

    def _take_split(self, name: str, start: int) -> None:
        """How the publisher split what it was given is its own affair, as long as it fits."""
        ((_, entries),) = self.store.event_log.span([SpanRequest(self.streams[name].key, start)])
        end = start
        for entry in entries:
            assert entry.index == end
            end = entry.end
            self.model[name].entries.append((entry.index, entry.end))
        assert end == len(self.model[name].points)

    @rule(name=names, index=st.integers(0, 30) | st.just(10**6))
    def trim(self, name, index):
        key = self.streams[name].key
        assert self.store.event_log.trim({key: index})[key] == self.model[name].trim(index)

    @rule(name=names, by_writer=st.booleans())
    def seal(self, name, by_writer):
        model, stream = self.model[name], self.streams[name]
        if by_writer:
            assert self.reader.get_writer_stream(name).seal() == len(model.points)
        else:
            request = SealRequest(len(model.points), self.scan.key)
            outcome = self.store.event_log.seal({stream.key: request})
            assert outcome == {stream.key: len(model.points)}
        model.sealed = True

    @rule(name=names)
    def wait_for_the_seal(self, name):
        if self.model[name].sealed:
            assert self.streams[name].wait_seal()

    # ------------------------------------------------------------------------------ reading

    @rule(name=names, index=st.integers(-14, 40) | st.sampled_from([2**63, 2**64, -(2**64)]))
    def index(self, name, index):
        model, stream = self.model[name], self.streams[name]
        length = len(model.points)
        error: type[Exception] | None = None
        if index < 0 and not model.sealed:
            error = IndexNotYetThereError
        elif index < -length:
            error = IndexError
        elif index >= length:
            error = IndexWontBeThereError if model.sealed else IndexNotYetThereError
        elif index % length < model.left:
            error = IndexNoMoreThereError
        if error is None:
            KINDS[name].check_point(stream[index], model.points[index])
            KINDS[name].check_point(stream[np.int64(index)], model.points[index])
        else:
            with pytest.raises(IndexError) as caught:
                stream[index]
            assert type(caught.value) is error

    @rule(name=names, start=bounds, stop=bounds, step=st.none() | st.integers(-4, 4))
    def slice(self, name, start, stop, step):
        model, stream = self.model[name], self.streams[name]
        selection = slice(start, stop, step)
        if step == 0:
            with pytest.raises(ValueError, match="zero"):
                stream[selection]
            return
        selected = range(len(model.points))[selection]
        from_the_end = any(b is not None and b < 0 for b in (start, stop, step))
        if from_the_end and not model.sealed:
            with pytest.raises(IndexNotYetThereError):
                stream[selection]
        elif any(i < model.left for i in selected):
            with pytest.raises(IndexNoMoreThereError):
                stream[selection]
        else:
            KINDS[name].check(stream[selection], model.points[selection])

    @rule(name=names)
    def new_cursor(self, name):
        self.places[name].append(Place(self.streams[name].cursor()))

    @rule(
        name=names, which=st.integers(0, 3), last_only=st.booleans(), wait=st.booleans(), cut=bounds
    )
    def read(self, name, which, last_only, wait, cut):
        place = self.places[name][which % len(self.places[name])]
        model, length = self.model[name], len(self.model[name].points)
        news = place.position < length
        timeout = {"block": wait and news}
        if place.ended or (not news and model.sealed):
            place.ended = True
            with pytest.raises(EndOfStream):
                place.cursor.read(last_only=last_only, **timeout)
        else:
            view = place.cursor.read(last_only=last_only, **timeout)
            if news:
                self._check_view(name, view, place.position, last_only, cut)
                place.ended = model.sealed
                place.position = length
            else:
                assert view is None
        assert place.cursor.position == place.position

    @rule(last_only=st.booleans(), cut=bounds)
    def read_group(self, last_only, cut):
        expected = {
            name
            for name in self.group_active
            if self.group_places[name] < len(self.model[name].points)
        }
        at_their_end = {n for n in self.group_active - expected if self.model[n].sealed}
        if at_their_end == self.group_active:
            with pytest.raises(EndOfStream):
                self.group.read(block=False, last_only=last_only)
            self.group_active = set()
        else:
            views = self.group.read(block=False, last_only=last_only)
            assert {stream.name for stream in views} == expected
            for stream, view in views.items():
                name = stream.name
                self._check_view(name, view, self.group_places[name], last_only, cut)
                self.group_places[name] = len(self.model[name].points)
                if self.model[name].sealed:
                    self.group_active.discard(name)
            self.group_active -= at_their_end
        found = {stream.name: place for stream, place in self.group.position.items()}
        assert found == self.group_places

    def _check_view(self, name, view, position, last_only, cut):
        model, kind = self.model[name], KINDS[name]
        length = len(model.points)
        first = length - 1 if last_only else position
        assert (view.index, view.last_index, len(view)) == (first, length - 1, length - first)
        expired = max(0, min(model.left, length) - first)
        points = model.points[first:]
        for start, stop in [
            (None, None),
            (expired, None),
            (cut, None),
            (None, cut),
            (expired, cut),
        ]:
            selected = range(len(points))[start:stop]
            if any(i < expired for i in selected):
                with pytest.raises(IndexNoMoreThereError):
                    view.get_data(start, stop)
            else:
                kind.check(view.get_data(start, stop), points[start:stop])
        if not expired:
            assert len(list(view)) == len(points)

    # ------------------------------------------------------------------------------ always

    @invariant()
    def lengths_and_lids_are_known(self):
        for name, stream in self.streams.items():
            assert len(stream) == len(self.model[name].points)
            assert stream.is_sealed() == self.model[name].sealed

    @precondition(lambda self: all(model.sealed for model in self.model.values()))
    @rule()
    def iterate_over_what_is_left(self):
        for name, stream in self.streams.items():
            model = self.model[name]
            if model.left == 0:
                found = list(stream)
                assert len(found) == len(model.points)
                for a, b in zip(found, model.points, strict=True):
                    KINDS[name].check_point(a, b)


def test_streams_are_lists_with_a_left_edge_and_a_lid(store):
    run_state_machine_as_test(
        lambda: StreamMachine(store), settings=settings(max_examples=50, stateful_step_count=30)
    )
