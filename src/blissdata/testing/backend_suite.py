"""The contract: what every server must do, whatever it stores scans in.

A backend proves itself by subclassing `BackendTests` and giving one fixture, `backend`: a fresh,
initialised `Backend`. What a server can be made to do is a capability, not a class: the hooks
`second`, `full` and `away` may be overridden, and tests that need one which is not there are skipped.

    class TestMyServer(BackendTests):
        @pytest.fixture
        def backend(self) -> Iterator[Backend]:
            backend = open_backend(url, prepare=True)
            yield backend
            backend.close()

The matrix (rows are classes below, each a part of `BackendTests`):

    EventLogTests   append      first, next, batches, many keys, refusals per key, stand or fall
                                together, conflict, rewound, sealed, vanished, repeats, full, races
                    read        positions, limits per key, seal, trimmed, woken by append and seal
                    span        tail, ranges, entry that straddles the start, many requests
                    holding     each point of an entry, beyond, trimmed
                    newest      last entry, sealed, sealed and trimmed, unknown
                    bounds      open, trimmed, sealed, nothing left, unknown, hundreds
                    seal        length, repeat, conflict, empty, many keys
                    trim        whole entries, the last one, sealed, far beyond, nothing
    CatalogTests    one scan    create, load, advance, wrong state, wait_state, steps, expire
                    life        first beat, silence, full, closed, deleted, away
                    many scans  states, find (wildcards, case, numbers, any character), timetag,
                                newest, announced (older than the history, deleted, other prefix)
    ServerTests     backend     info, protocol, initialise, flush, close, away, acquisitions
    UpkeepTests     upkeep      last entries, forgetting, the journal, announcements of any prefix,
                                scans that expire together, candidates
    PinTests        pins        positions, resumed, taken over, released, removed, lost points, scans
                                that are gone or expire, a server that is full or away, the tracker's word
    ScanTests       store       life cycle, info, search, next and last scan, delete, identity models
    StreamTests     store       encodings, indexing, slicing, views, cursors, groups, seal, trimmed
                                points, writers, plugins, a server that is full or away
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.metadata import EntryPoint
from typing import Any, ClassVar, TypeVar

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from blissdata import DataStore, Scan, ScanState
from blissdata.exceptions import (
    EndOfStream,
    IndexNoMoreThereError,
    IndexNotYetThereError,
    IndexWontBeThereError,
    MissingPluginException,
    NoScanAvailable,
    NoWritePermission,
    PayloadError,
    PinBrokenError,
    PinGoneError,
    PublishTimeoutError,
    ScanNotFoundError,
    ServerFullError,
    ServerNotEmptyError,
    StoreConnectionError,
    StreamConflictError,
    StreamError,
    StreamRewoundError,
    StreamSealedError,
    StreamVanishedError,
    UnauthorizeStateTransition,
)
from blissdata.redis_engine.backends.abstract import Announcement, Backend, Catalog, Upkeep
from blissdata.redis_engine.documents import ScanDocument
from blissdata.redis_engine.keys import DELETION_GRACE_S, HISTORY_LENGTH, new_ulid
from blissdata.redis_engine.store import reset_redis_db
from blissdata.streams import BaseStream, Cursor, CursorGroup, StreamDefinition
from blissdata.streams.default import BrokenPluginStream, MissingPluginStream, Stream
from blissdata.streams.encoding import EncodedBatch
from blissdata.streams.encoding.json import JsonStreamEncoder
from blissdata.streams.encoding.numeric import NumericStreamEncoder
from blissdata.streams.entries import MAX_INDEX, Entry, Tail
from blissdata.streams.event_log import (
    AppendRequest,
    Arrivals,
    Bounds,
    EventLog,
    SealRequest,
    Span,
    SpanRequest,
)
from blissdata.streams.heartbeat import Life

__all__ = [
    "BackendTests",
    "CatalogTests",
    "EventLogTests",
    "PinTests",
    "ScanTests",
    "ServerTests",
    "StreamTests",
    "UpkeepTests",
]

LONG_S = 60.0
"""What never takes so long on a healthy server [s]: tests fail after it instead of hanging."""

SHORT_S = 0.05
"""Long enough to see that something waits, short enough to wait for it [s]."""

IDENTITY: Mapping[str, Any] = {"name": "ascan", "number": 7, "data_policy": "esrf"}

FIELDS = (
    "name",
    "number",
    "data_policy",
    "session",
    "proposal",
    "collection",
    "dataset",
    "path",
)

T = TypeVar("T")


# ---------------------------------------------------------------------------------- the words of the tests


def batch(payload: bytes, points: int = 1) -> EncodedBatch:
    """An entry's content."""
    return EncodedBatch(payload, points)


def append(log: EventLog, key: str, index: int, *batches: EncodedBatch, **how: Any) -> Any:
    """The outcome of adding entries to one stream."""
    return log.append({key: AppendRequest(index, batches, **how)})[key]


def fill(log: EventLog, key: str, *lengths: int) -> list[Entry]:
    """Entries of these lengths in a new stream; each point is one byte, its index."""
    entries, index = [], 0
    for length in lengths:
        payload = bytes(i % 256 for i in range(index, index + length))
        entries.append(Entry(index, EncodedBatch(payload, length)))
        index += length
    assert append(log, key, 0, *(entry.batch for entry in entries)) == index
    return entries


def seal(log: EventLog, key: str, length: int | None = None) -> int | Exception:
    """The outcome of sealing one stream."""
    return log.seal({key: SealRequest(length)})[key]


def trim(log: EventLog, key: str, index: int) -> int | Exception:
    """The outcome of trimming one stream."""
    return log.trim({key: index})[key]


def everything(log: EventLog, key: str) -> tuple[Tail, list[Entry]]:
    """Where a stream ends, and all its entries."""
    tail, entries = spanned(log, SpanRequest(key))
    return tail, list(entries)


def spanned(log: EventLog, request: SpanRequest) -> Span:
    """The answer to one span request, of a stream that is not damaged."""
    (found,) = log.span([request])
    assert not isinstance(found, PayloadError)
    return found


def length(log: EventLog, key: str) -> int:
    """Where a stream ends now."""
    return spanned(log, SpanRequest(key, only_tail=True))[0].length


def document_for(
    catalog: Catalog, info: dict[str, Any] | None = None, **identity: Any
) -> ScanDocument:
    """A scan's document, not stored yet."""
    pk = new_ulid()
    fields: dict[str, Any] = {**dict.fromkeys(FIELDS), **IDENTITY, **identity}
    return ScanDocument(pk, fields, info or {}, catalog.new_state_pk(pk))


def new_scan(catalog: Catalog, **identity: Any) -> str:
    """The key of a scan that was created just now."""
    document = document_for(catalog, **identity)
    catalog.create(document)
    return catalog.scan_key(document.pk)


def delete(catalog: Catalog, key: str) -> None:
    """Deletes a scan, as far as readers can see."""
    catalog.expire(key, DELETION_GRACE_S)


def until(condition: Callable[[], bool]) -> None:
    """Waits for what must come."""
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.005)


@contextmanager
def in_background(work: Callable[[], T]) -> Iterator[Future[T]]:
    """Calls `work` in a thread that has begun when the block does, and ended when it has."""
    begun = threading.Event()

    def run() -> T:
        begun.set()
        return work()

    with ThreadPoolExecutor(1, "contract") as pool:
        future = pool.submit(run)
        assert begun.wait(LONG_S)
        yield future


def new_stream(store: DataStore, *dtype: Any, **options: Any) -> tuple[Scan, BaseStream]:
    """A started scan and its only stream, `s`, which writes and reads."""
    scan = store.create_scan(IDENTITY)
    stream = scan.create_stream(Stream.make_definition("s", *(dtype or (float,)), **options))
    scan.prepare()
    scan.start()
    return scan, stream


def publish(stream: BaseStream, values: Any, *lengths: int) -> None:
    """Sends points in batches of these lengths, each confirmed before the next, so that each is an
    entry of its own; what is left of the values goes last."""
    index = 0
    for length in (*lengths, len(values) - sum(lengths)):
        if length:
            stream.send(values[index : index + length])
            stream.join()
            index += length


def forget(store: DataStore, stream: BaseStream, index: int) -> None:
    """Trims a stream, as the memory tracker does."""
    assert not isinstance(trim(store.event_log, stream.key, index), Exception)


def step_to(scan: Scan, state: ScanState) -> None:
    """Moves a scan that was just created on to a state."""
    for step in (scan.prepare, scan.start, scan.stop, scan.close)[:state]:
        step()


class BackendKit:
    """What the parts of the suite share: the hooks, and the stores made from them."""

    @pytest.fixture
    def backend(self) -> Any:
        """A fresh, initialised backend, closed afterwards. To be overridden."""
        raise NotImplementedError(
            f"{type(self).__name__} needs a fixture `backend` that gives a fresh, initialised backend"
        )

    def second(self, backend: Backend) -> Backend:
        """Another client of the same server; the very same object where there is no such thing."""
        return backend

    def full(self, backend: Backend) -> AbstractContextManager[None] | None:
        """While it lasts, the server is at its memory limit. None: it cannot be brought there."""
        return None

    def away(self, backend: Backend) -> AbstractContextManager[None] | None:
        """While it lasts, nobody answers; the data are there again afterwards. None: impossible."""
        return None

    @pytest.fixture
    def log(self, backend: Backend) -> EventLog:
        """The server's streams."""
        return backend.event_log

    @pytest.fixture
    def catalog(self, backend: Backend) -> Catalog:
        """The server's scans."""
        return backend.catalog("esrf", FIELDS)

    @pytest.fixture
    def while_full(self, backend: Backend) -> AbstractContextManager[None]:
        """The hook `full`, or a skip."""
        found = self.full(backend)
        if found is None:
            pytest.skip("this server cannot be made full")
        return found

    @pytest.fixture
    def while_away(self, backend: Backend) -> AbstractContextManager[None]:
        """The hook `away`, or a skip."""
        found = self.away(backend)
        if found is None:
            pytest.skip("this server cannot be made to leave")
        return found

    @pytest.fixture
    def store(self, backend: Backend) -> Iterator[DataStore]:
        """A store on the server: the publisher's."""
        with DataStore(backend=backend) as store:
            yield store

    @pytest.fixture
    def reader(self, backend: Backend) -> Iterator[DataStore]:
        """Another store on the same server: the reader's."""
        other = self.second(backend)
        with DataStore(backend=other) as store:
            yield store


# ---------------------------------------------------------------------------------- the event log


class EventLogTests(BackendKit):
    """Entries in, entries out; no refused entry ever leaves a trace."""

    # ------------------------------------------------------------------------------ append

    def test_append_gives_the_index_after_the_last_point(self, log: EventLog) -> None:
        assert append(log, "s", 0, batch(b"a")) == 1
        assert append(log, "s", 1, batch(b"bcd", 3), batch(b"e")) == 5
        assert everything(log, "s") == (
            Tail(5, False),
            [Entry(0, batch(b"a")), Entry(1, batch(b"bcd", 3)), Entry(4, batch(b"e"))],
        )

    @pytest.mark.parametrize(
        "payload",
        [b"", b"\0", bytes(range(256)), b"payload", b"x" * 300_000],
        ids=["empty", "nul", "every byte", "a field's name", "large"],
    )
    def test_payloads_come_back_as_they_were(self, log: EventLog, payload: bytes) -> None:
        append(log, "s", 0, batch(payload, 2))
        assert everything(log, "s")[1] == [Entry(0, batch(payload, 2))]

    def test_append_serves_many_streams_at_once(self, log: EventLog) -> None:
        requests = {f"s{i}": AppendRequest(0, (batch(b"x", i + 1),)) for i in range(100)}
        assert log.append(requests) == {f"s{i}": i + 1 for i in range(100)}

    def test_append_of_nothing_does_nothing(self, log: EventLog) -> None:
        assert log.append({}) == {}

    def test_a_refusal_for_one_stream_does_not_touch_the_others(self, log: EventLog) -> None:
        fill(log, "ahead", 3)
        fill(log, "sealed", 1)
        seal(log, "sealed")
        outcomes = log.append(
            {
                "first": AppendRequest(0, (batch(b"1"),)),
                "ahead": AppendRequest(1, (batch(b"x"),)),
                "behind": AppendRequest(5, (batch(b"x"),)),
                "sealed": AppendRequest(1, (batch(b"x"),)),
                "last": AppendRequest(0, (batch(b"1"),)),
            }
        )
        assert (outcomes["first"], outcomes["last"]) == (1, 1)
        assert isinstance(outcomes["ahead"], StreamConflictError)
        assert isinstance(outcomes["behind"], StreamRewoundError)
        assert isinstance(outcomes["sealed"], StreamSealedError)
        assert [str(outcomes[key]).startswith(key) for key in ("ahead", "behind", "sealed")] == [
            True
        ] * 3

    @pytest.mark.parametrize("index", [0, 1, 2], ids=["at 0", "inside an entry", "at an entry"])
    def test_points_that_somebody_else_wrote_are_a_conflict(
        self, log: EventLog, index: int
    ) -> None:
        there = fill(log, "s", 2, 1)
        outcome = append(log, "s", index, batch(b"x"), batch(b"y"))
        assert isinstance(outcome, StreamConflictError)
        assert "3" in str(outcome)  # where it ends instead
        assert everything(log, "s") == (Tail(3, False), there)

    @pytest.mark.parametrize("length", [0, 3])
    def test_a_stream_that_ends_too_early_was_rewound(self, log: EventLog, length: int) -> None:
        there = fill(log, "s", length) if length else []
        outcome = append(log, "s", length + 2, batch(b"x"))
        assert isinstance(outcome, StreamRewoundError)
        assert everything(log, "s") == (Tail(length, False), there)

    def test_a_sealed_stream_takes_no_more(self, log: EventLog) -> None:
        there = fill(log, "s", 2)
        seal(log, "s")
        outcome = append(log, "s", 2, batch(b"x"))
        assert isinstance(outcome, StreamSealedError)
        assert everything(log, "s") == (Tail(2, True), there)

    def test_an_empty_sealed_stream_takes_no_more(self, log: EventLog) -> None:
        seal(log, "s")
        assert isinstance(append(log, "s", 0, batch(b"x")), StreamSealedError)

    def test_no_stream_begins_for_a_deleted_scan(self, log: EventLog, catalog: Catalog) -> None:
        key = new_scan(catalog)
        delete(catalog, key)
        assert isinstance(append(log, "s", 0, batch(b"x"), scan_key=key), StreamVanishedError)
        assert isinstance(
            log.seal({"s": SealRequest(0, key)})["s"],
            StreamVanishedError,
        )
        assert everything(log, "s") == (Tail(0, False), [])

    def test_a_stream_begins_for_a_scan_that_is_there(
        self, log: EventLog, catalog: Catalog
    ) -> None:
        key = new_scan(catalog)
        stream = catalog.new_stream(key, {}, {}).key()
        assert append(log, stream, 0, batch(b"x"), scan_key=key) == 1

    @pytest.mark.parametrize("batches", [(batch(b"ab", 2),), (batch(b"a"), batch(b"b"))])
    def test_a_repeat_after_a_lost_reply_is_harmless(
        self, log: EventLog, batches: tuple[EncodedBatch, ...]
    ) -> None:
        fill(log, "s", 1)
        assert append(log, "s", 1, *batches) == 3
        before = everything(log, "s")
        assert append(log, "s", 1, *batches, repeat=True) == 3
        assert everything(log, "s") == before

    def test_a_repeat_of_what_never_arrived_is_stored(self, log: EventLog) -> None:
        assert append(log, "s", 0, batch(b"a"), repeat=True) == 1
        assert everything(log, "s")[1] == [Entry(0, batch(b"a"))]

    def test_a_repeat_is_recognised_behind_the_seal(self, log: EventLog) -> None:
        append(log, "s", 0, batch(b"a"), batch(b"b"))
        seal(log, "s")
        assert append(log, "s", 0, batch(b"a"), batch(b"b"), repeat=True) == 2
        assert isinstance(append(log, "s", 2, batch(b"c"), repeat=True), StreamSealedError)

    @pytest.mark.parametrize(
        "there",
        [
            (batch(b"xy", 2),),
            (batch(b"ab", 1),),
            (batch(b"a"), batch(b"b")),
            (batch(b"ab", 2), batch(b"c")),
        ],
        ids=["other bytes", "another length", "another split", "shorter"],
    )
    def test_a_repeat_that_meets_other_entries_is_a_conflict(
        self, log: EventLog, there: tuple[EncodedBatch, ...]
    ) -> None:
        append(log, "s", 0, *there)
        before = everything(log, "s")
        mine = (batch(b"ab", 2), batch(b"d"))
        assert isinstance(append(log, "s", 0, *mine, repeat=True), StreamConflictError)
        assert everything(log, "s") == before

    def test_the_same_points_twice_are_a_conflict_unless_they_are_a_repeat(
        self, log: EventLog
    ) -> None:
        append(log, "s", 0, batch(b"a"))
        assert isinstance(append(log, "s", 0, batch(b"a")), StreamConflictError)

    def test_a_full_server_stores_all_of_a_request_or_nothing(
        self, log: EventLog, while_full: AbstractContextManager[None]
    ) -> None:
        there = fill(log, "s", 1)
        request = AppendRequest(1, (batch(b"b"), batch(b"c"), batch(b"de", 2)))
        with while_full:
            outcomes = log.append({"s": request, "t": AppendRequest(0, (batch(b"x"),))})
            assert isinstance(outcomes["s"], ServerFullError)
            assert isinstance(outcomes["t"], ServerFullError)
        assert everything(log, "s") == (Tail(1, False), there)
        assert everything(log, "t") == (Tail(0, False), [])
        assert log.append({"s": request}) == {"s": 5}

    def test_a_full_server_still_reads_trims_and_seals(
        self, log: EventLog, while_full: AbstractContextManager[None]
    ) -> None:
        there = fill(log, "s", 1, 1)
        with while_full:
            assert everything(log, "s")[1] == there
            assert trim(log, "s", 1) == 1
            assert seal(log, "s", 2) == 2
            assert trim(log, "s", 2) == 1
        assert everything(log, "s") == (Tail(2, True), [])

    def test_writers_that_race_never_leave_a_hole(self, log: EventLog) -> None:
        rounds, racers = 30, 4
        gate = threading.Barrier(racers)

        def race(racer: int) -> list[tuple[int, bytes]]:
            won = []
            gate.wait(LONG_S)
            for n in range(rounds):
                end = length(log, "s")
                payload = f"{racer} {n}".encode()
                outcome = append(log, "s", end, batch(payload, 1 + n % 3), batch(payload))
                if isinstance(outcome, int):
                    won.append((end, payload))
                else:
                    assert isinstance(outcome, StreamConflictError)
            return won

        with ThreadPoolExecutor(racers, "contract") as pool:
            won = dict(itertools.chain(*pool.map(race, range(racers))))
        tail, entries = everything(log, "s")
        ends = [0, *(entry.end for entry in entries)]
        assert [entry.index for entry in entries] == ends[:-1]
        assert tail.length == ends[-1]
        assert {e.index: e.batch.payload for e in entries[::2]} == won

    # ------------------------------------------------------------------------------ read

    def test_read_gives_what_came_at_or_after_a_position(self, log: EventLog) -> None:
        there = fill(log, "s", 2, 3, 1)
        assert log.read({"s": 0}, max_entries=10) == {"s": Arrivals(tuple(there), None)}
        assert log.read({"s": 2}, max_entries=10) == {"s": Arrivals(tuple(there[1:]), None)}
        assert log.read({"s": 6}, max_entries=10) == {}

    def test_read_leaves_out_streams_without_news(self, log: EventLog) -> None:
        there = fill(log, "s", 1)
        found = log.read({"unknown": 0, "s": 0, "at its end": 0}, max_entries=10)
        assert found == {"s": Arrivals(tuple(there), None)}

    def test_read_of_no_stream_gives_nothing(self, log: EventLog) -> None:
        assert log.read({}, max_entries=10) == {}

    def test_read_is_limited_stream_by_stream(self, log: EventLog) -> None:
        there = {key: fill(log, key, *[1] * 5) for key in ("a", "b", "c")}
        limits = {"a": 1, "b": 3, "c": 3}
        found = log.read(dict.fromkeys(there, 0), max_entries=limits)
        assert found == {k: Arrivals(tuple(there[k][:n]), None) for k, n in limits.items()}
        found = log.read({"a": 2}, max_entries=2)
        assert found == {"a": Arrivals(tuple(there["a"][2:4]), None)}

    def test_the_seal_comes_behind_the_last_entry(self, log: EventLog) -> None:
        there = fill(log, "s", 2, 1)
        seal(log, "s")
        assert log.read({"s": 0}, max_entries=10) == {"s": Arrivals(tuple(there), 3)}
        assert log.read({"s": 0}, max_entries=2) == {"s": Arrivals(tuple(there), None)}
        assert log.read({"s": 3}, max_entries=1) == {"s": Arrivals((), 3)}
        assert log.read({"s": MAX_INDEX}, max_entries=1) == {"s": Arrivals((), 3)}

    def test_a_position_that_was_trimmed_reads_from_the_first_entry_left(
        self, log: EventLog
    ) -> None:
        there = fill(log, "s", 2, 2, 2)
        trim(log, "s", 4)
        assert log.read({"s": 0}, max_entries=10) == {"s": Arrivals(tuple(there[2:]), None)}

    def test_reads_may_be_asked_for_ahead(self, log: EventLog) -> None:
        there = {key: fill(log, key, *[2] * 5) for key in ("a", "b", "c")}
        large = self._large(log)
        with log.ahead() as ahead:
            asked = {
                key: ahead.ask({key: 2}, max_entries={key: 3}, nbytes=nbytes)
                for key, nbytes in (("a", 0), ("b", 0), ("unknown", 0), ("large frames", large))
            }
            both = ahead.ask({"b": 4, "c": 0}, max_entries={"b": 2, "c": 2})
            dropped = ahead.ask({"a": 0}, max_entries={"a": 1})
            answers = {key: answer() for key, answer in reversed(asked.items()) if answer}
            assert answers["a"] == {"a": Arrivals(tuple(there["a"][1:4]), None)}
            assert answers["b"] == {"b": Arrivals(tuple(there["b"][1:4]), None)}
            assert answers["unknown"] == {}
            assert answers["large frames"] == log.read({"large frames": 2}, max_entries=3)
            assert both is not None
            assert both() == {
                "b": Arrivals(tuple(there["b"][2:4]), None),
                "c": Arrivals(tuple(there["c"][:2]), None),
            }
        assert dropped is not None
        assert dropped() is None
        assert log.read({"a": 8}, max_entries=3) == {"a": Arrivals(tuple(there["a"][4:]), None)}

    def _large(self, log: EventLog) -> int:
        """Publishes points that are received in place; the size of three [bytes]."""
        payloads = [bytes([i]) * 10**5 for i in range(6)]
        batches = tuple(EncodedBatch(payload, 1) for payload in payloads)
        outcome = log.append({"large frames": AppendRequest(0, batches)})
        assert outcome == {"large frames": 6}
        return 3 * 10**5

    def test_a_read_in_vain_ends_in_time(self, log: EventLog) -> None:
        fill(log, "s", 1)
        assert log.read({"s": 1, "unknown": 0}, wait=SHORT_S, max_entries=10) == {}
        assert log.read({"s": MAX_INDEX}, wait=SHORT_S, max_entries=10) == {}

    @pytest.mark.parametrize("length", [0, 2], ids=["empty", "with points"])
    def test_a_waiting_read_is_woken_by_an_append(
        self, backend: Backend, log: EventLog, length: int
    ) -> None:
        if length:
            fill(log, "s", length)
        other = self.second(backend)
        with in_background(lambda: log.read({"s": length}, wait=4, max_entries=9)) as future:
            append(other.event_log, "s", length, batch(b"x"))
            assert future.result(LONG_S) == {"s": Arrivals((Entry(length, batch(b"x")),), None)}
        other.close()

    def test_a_waiting_read_is_woken_by_the_seal(self, backend: Backend, log: EventLog) -> None:
        fill(log, "s", 2)
        other = self.second(backend)
        with in_background(lambda: log.read({"s": MAX_INDEX}, wait=4, max_entries=1)) as future:
            assert append(other.event_log, "s", 2, batch(b"x")) == 3  # … and by nothing else
            seal(other.event_log, "s", 3)
            assert future.result(LONG_S) == {"s": Arrivals((), 3)}
        other.close()

    def test_one_of_many_streams_wakes_a_waiting_read(
        self, backend: Backend, log: EventLog
    ) -> None:
        positions = {f"s{i}": 0 for i in range(50)}
        limits = {key: 1 + i % 3 for i, key in enumerate(positions)}
        other = self.second(backend)
        with in_background(lambda: log.read(positions, wait=4, max_entries=limits)) as future:
            append(other.event_log, "s33", 0, batch(b"x"))
            assert future.result(LONG_S) == {"s33": Arrivals((Entry(0, batch(b"x")),), None)}
        other.close()

    def test_one_append_wakes_every_reader(self, log: EventLog) -> None:
        with ThreadPoolExecutor(3, "contract") as pool:
            futures = [pool.submit(log.read, {"s": 0}, wait=4, max_entries=1) for _ in range(3)]
            append(log, "s", 0, batch(b"x"))
            assert [set(future.result(LONG_S)) for future in futures] == [{"s"}] * 3

    # ------------------------------------------------------------------------------ span

    def test_span_tells_where_a_stream_ends(self, log: EventLog) -> None:
        fill(log, "open", 2, 3)
        fill(log, "sealed", 4)
        seal(log, "sealed")
        keys = ("open", "unknown", "sealed")
        assert log.span([SpanRequest(key, only_tail=True) for key in keys]) == [
            (Tail(5, False), ()),
            (Tail(0, False), ()),
            (Tail(4, True), ()),
        ]

    @pytest.mark.parametrize("sealed", [False, True], ids=["open", "sealed"])
    @pytest.mark.parametrize(
        ("start", "stop", "expected"),
        [
            (0, None, [0, 1, 2, 3]),
            (0, 2, [0]),
            (0, 3, [0, 1]),
            (1, 2, [0]),
            (2, None, [1, 2, 3]),
            (4, 5, [1]),
            (4, 6, [1, 2]),
            (6, None, [3]),
            (6, 1000, [3]),
            (8, None, []),
            (50, 60, []),
        ],
    )
    def test_span_gives_the_entries_that_hold_a_range(
        self, log: EventLog, start: int, stop: int | None, expected: list[int], sealed: bool
    ) -> None:
        there = fill(log, "s", 2, 3, 1, 2)  # begin at 0, 2, 5, 6
        if sealed:
            seal(log, "s")
        tail, entries = spanned(log, SpanRequest("s", start, stop))
        assert tail == Tail(8, sealed)
        useful = [e for e in entries if e.end > start and (stop is None or e.index < stop)]
        assert useful == [there[i] for i in expected]

    def test_span_answers_many_requests_in_their_order(self, log: EventLog) -> None:
        a, b = fill(log, "a", 1, 1), fill(log, "b", 1)
        requests = [SpanRequest("b"), SpanRequest("a", 1), SpanRequest("a", 0, 1)]
        assert log.span(requests) == [
            (Tail(1, False), (b[0],)),
            (Tail(2, False), (a[1],)),
            (Tail(2, False), (a[0],)),
        ]
        assert log.span([]) == []

    def test_span_gives_what_is_left_of_a_trimmed_range(self, log: EventLog) -> None:
        there = fill(log, "s", 2, 2, 2)
        trim(log, "s", 2)
        assert log.span([SpanRequest("s", 0, 4)]) == [(Tail(6, False), (there[1],))]

    # ------------------------------------------------------------------------------ holding, newest

    def test_holding_finds_the_entry_of_every_point(self, log: EventLog) -> None:
        first, second = fill(log, "s", 3, 2)
        found = [log.holding("s", index) for index in range(7)]
        assert found == [first] * 3 + [second] * 2 + [None] * 2

    def test_holding_finds_nothing_that_was_trimmed(self, log: EventLog) -> None:
        _, second = fill(log, "s", 3, 2)
        trim(log, "s", 3)
        assert [log.holding("s", index) for index in (2, 3)] == [None, second]
        seal(log, "s")
        assert [log.holding("s", index) for index in (2, 3, 5)] == [None, second, None]
        assert log.holding("unknown", 0) is None

    def test_newest_gives_the_last_entry_of_many_streams(self, log: EventLog) -> None:
        open_, sealed, _ = (fill(log, key, 2, 3) for key in ("open", "sealed", "gone"))
        seal(log, "sealed")
        seal(log, "gone")
        trim(log, "gone", 5)
        seal(log, "empty")
        assert log.newest(["open", "sealed", "gone", "empty", "unknown"]) == {
            "open": (Tail(5, False), open_[1]),
            "sealed": (Tail(5, True), sealed[1]),
            "gone": (Tail(5, True), None),
            "empty": (Tail(0, True), None),
            "unknown": (Tail(0, False), None),
        }

    def test_bounds_tell_where_streams_begin_and_end(self, log: EventLog) -> None:
        for key in ("open", "trimmed", "last", "sealed", "left", "gone"):
            fill(log, key, 2, 3, 1)
        for key in ("sealed", "left", "gone", "empty"):
            seal(log, key)
        for key, index in {"trimmed": 4, "last": MAX_INDEX, "left": 5, "gone": MAX_INDEX}.items():
            trim(log, key, index)
        assert log.bounds(["open", "trimmed", "last", "sealed", "left", "gone", "empty", "no"]) == {
            "open": Bounds(0, Tail(6, False)),
            "trimmed": Bounds(2, Tail(6, False)),
            "last": Bounds(5, Tail(6, False)),
            "sealed": Bounds(0, Tail(6, True)),
            "left": Bounds(5, Tail(6, True)),
            "gone": Bounds(6, Tail(6, True)),
            "empty": Bounds(0, Tail(0, True)),
            "no": Bounds(0, Tail(0, False)),
        }
        assert log.bounds([]) == {}

    def test_bounds_of_more_streams_than_one_call_asks_for(self, log: EventLog) -> None:
        keys = [f"s{i}" for i in range(200)]
        for i, key in enumerate(keys):
            fill(log, key, 1 + i % 3)
        assert log.bounds(keys) == {
            key: Bounds(0, Tail(1 + i % 3, False)) for i, key in enumerate(keys)
        }

    # ------------------------------------------------------------------------------ seal, trim

    def test_seal_gives_the_length_again_and_again(self, log: EventLog) -> None:
        fill(log, "s", 2, 3)
        assert [seal(log, "s", 5), seal(log, "s", 5), seal(log, "s", None)] == [5, 5, 5]
        assert everything(log, "s")[0] == Tail(5, True)

    def test_a_stream_without_points_can_be_sealed(self, log: EventLog) -> None:
        assert [seal(log, "a", 0), seal(log, "b", None), seal(log, "a", 0)] == [0, 0, 0]
        assert everything(log, "a") == (Tail(0, True), [])

    def test_seal_is_refused_where_somebody_else_went_on(self, log: EventLog) -> None:
        fill(log, "s", 3)
        assert isinstance(seal(log, "s", 2), StreamConflictError)
        assert everything(log, "s")[0] == Tail(3, False)

    @pytest.mark.parametrize("length", [0, 3])
    def test_seal_is_refused_where_the_server_lost_points(self, log: EventLog, length: int) -> None:
        if length:
            fill(log, "s", length)
        assert isinstance(seal(log, "s", 5), StreamRewoundError)
        assert everything(log, "s")[0] == Tail(length, False)

    def test_seal_serves_many_streams_at_once(self, log: EventLog) -> None:
        fill(log, "a", 1)
        fill(log, "b", 2)
        outcomes = log.seal({"a": SealRequest(1), "b": SealRequest(1), "c": SealRequest(None)})
        assert (outcomes["a"], outcomes["c"]) == (1, 0)
        assert isinstance(outcomes["b"], StreamConflictError)
        assert log.seal({}) == {}

    @pytest.mark.parametrize(
        ("index", "gone"),
        [(0, 0), (1, 0), (2, 1), (4, 1), (5, 2), (6, 2), (1000, 2), (MAX_INDEX, 2)],
    )
    def test_trim_forgets_whole_entries_but_not_the_last(
        self, log: EventLog, index: int, gone: int
    ) -> None:
        there = fill(log, "s", 2, 3, 1)  # end at 2, 5, 6
        assert trim(log, "s", index) == gone
        assert everything(log, "s") == (Tail(6, False), there[gone:])
        assert trim(log, "s", index) == 0

    @pytest.mark.parametrize(
        ("index", "gone"), [(0, 0), (2, 1), (5, 2), (6, 3), (1000, 3), (MAX_INDEX, 3)]
    )
    def test_trim_of_a_sealed_stream_leaves_the_seal(
        self, log: EventLog, index: int, gone: int
    ) -> None:
        there = fill(log, "s", 2, 3, 1)
        seal(log, "s")
        assert trim(log, "s", index) == gone
        assert everything(log, "s") == (Tail(6, True), there[gone:])
        assert seal(log, "s") == 6

    def test_trim_serves_many_streams_at_once(self, log: EventLog) -> None:
        fill(log, "a", 1, 1)
        fill(log, "b", 1, 1, 1)
        assert log.trim({"a": 1, "unknown": 5, "b": 2}) == {"a": 1, "unknown": 0, "b": 2}
        assert log.trim({}) == {}

    def test_a_trimmed_stream_goes_on_where_it_was(self, log: EventLog) -> None:
        fill(log, "s", 2, 2)
        trim(log, "s", 4)
        assert append(log, "s", 4, batch(b"x")) == 5
        assert isinstance(append(log, "s", 0, batch(b"x")), StreamConflictError)


# ---------------------------------------------------------------------------------- the catalogue


class CatalogTests(BackendKit):
    """Scans, one and many; document, state and announcement change together."""

    # ------------------------------------------------------------------------------ one scan

    def test_a_created_scan_can_be_loaded(self, catalog: Catalog) -> None:
        document = document_for(catalog, {"a": [1, None, "ü"]}, session="s", number=2)
        created = catalog.create(document)
        loaded = catalog.load(catalog.scan_key(document.pk))
        assert loaded == created
        assert (loaded.state, loaded.document) == (0, document)

    def test_creating_again_after_a_lost_reply_announces_once(self, catalog: Catalog) -> None:
        document = document_for(catalog)
        assert catalog.create(document) == catalog.create(document)
        _, announced = catalog.announced("0-0")
        assert [a.key for a in announced] == [catalog.scan_key(document.pk)]

    def test_a_scan_that_never_was_is_not_found(self, catalog: Catalog) -> None:
        key = catalog.scan_key(new_ulid())
        with pytest.raises(ScanNotFoundError, match="no scan") as caught:
            catalog.load(key)
        assert key in str(caught.value)

    def test_a_deleted_scan_is_not_found_at_once(self, catalog: Catalog) -> None:
        key = new_scan(catalog)
        delete(catalog, key)
        with pytest.raises(ScanNotFoundError):
            catalog.load(key)

    def test_advance_stores_state_and_document_together(self, catalog: Catalog) -> None:
        document = document_for(catalog)
        created = catalog.create(document)
        key = catalog.scan_key(document.pk)
        stream = catalog.new_stream(document.pk, {"type": "json"}, {"unit": "A"})
        document.info["new"] = 1
        document.streams["s"] = stream
        state_id = catalog.advance(key, 0, 1, document)
        loaded = catalog.load(key)
        assert (loaded.state, loaded.state_id) == (1, state_id)
        assert loaded.document.info == {"new": 1}
        assert loaded.document.streams["s"] == stream
        assert loaded.document.streams["s"].scan_key == key
        assert state_id != created.state_id

    def test_advance_from_another_state_than_the_scan_is_in_changes_nothing(
        self, catalog: Catalog
    ) -> None:
        document = document_for(catalog)
        catalog.create(document)
        key = catalog.scan_key(document.pk)
        catalog.advance(key, 0, 4, document)
        before = catalog.load(key)
        late = document_for(catalog, {"late": True})
        with pytest.raises(UnauthorizeStateTransition) as caught:
            catalog.advance(key, 0, 1, late)
        assert key in str(caught.value)
        assert caught.value.orig_state == "4"
        assert catalog.load(key) == before

    # ------------------------------------------------------------------------------ signs of life

    def test_the_publisher_of_a_new_scan_was_heard_of_just_now(self, catalog: Catalog) -> None:
        keys = [new_scan(catalog) for _ in range(3)]
        lives = catalog.lives(keys)
        assert [lives[key].state for key in keys] == [0, 0, 0]
        assert all(0 <= (lives[key].silence or 0.0) < LONG_S for key in keys)
        assert all(lives[key].silence is not None for key in keys)

    def test_silence_grows_until_the_next_beat(self, catalog: Catalog) -> None:
        beating, silent = new_scan(catalog), new_scan(catalog)
        until(lambda: (catalog.lives([silent])[silent].silence or 0.0) >= SHORT_S)
        catalog.beat([beating])
        lives = catalog.lives([beating, silent])
        assert (lives[beating].silence or 0.0) < (lives[silent].silence or 0.0)

    def test_a_full_server_takes_beats(
        self, catalog: Catalog, while_full: AbstractContextManager[None]
    ) -> None:
        beating, silent = new_scan(catalog), new_scan(catalog)
        until(lambda: (catalog.lives([silent])[silent].silence or 0.0) >= SHORT_S)
        with while_full:
            catalog.beat([beating])
            lives = catalog.lives([beating, silent])
        assert (lives[beating].silence or 0.0) < (lives[silent].silence or 0.0)

    def test_a_scan_that_is_over_has_no_publisher(self, catalog: Catalog) -> None:
        document = document_for(catalog)
        catalog.create(document)
        key = catalog.scan_key(document.pk)
        catalog.advance(key, 0, 4, document)
        catalog.beat([key])
        assert catalog.lives([key]) == {key: Life(4, None)}

    def test_a_scan_that_is_gone_has_no_life(self, catalog: Catalog) -> None:
        deleted, never = new_scan(catalog), catalog.scan_key(new_ulid())
        delete(catalog, deleted)
        catalog.beat([deleted, never])
        gone = Life(None, None)
        assert catalog.lives([deleted, never]) == {deleted: gone, never: gone}
        assert catalog.lives([]) == {}

    def test_a_server_that_is_away_takes_no_beats(
        self, catalog: Catalog, while_away: AbstractContextManager[None]
    ) -> None:
        key = new_scan(catalog)
        with while_away, pytest.raises(StoreConnectionError):
            catalog.beat([key])
        catalog.beat([key])

    def test_a_deleted_scan_does_not_advance(self, catalog: Catalog) -> None:
        document = document_for(catalog)
        key = catalog.scan_key(document.pk)
        with pytest.raises(ScanNotFoundError):
            catalog.advance(key, 0, 1, document)
        catalog.create(document)
        delete(catalog, key)
        with pytest.raises(ScanNotFoundError):
            catalog.advance(key, 0, 1, document)

    def test_a_full_server_refuses_scans_but_closes_those_it_has(
        self, catalog: Catalog, while_full: AbstractContextManager[None]
    ) -> None:
        document = document_for(catalog)
        catalog.create(document)
        key = catalog.scan_key(document.pk)
        with while_full:
            with pytest.raises(ServerFullError):
                new_scan(catalog)
            catalog.advance(key, 0, 4, document)
            assert catalog.find({})[1] == [key]
            delete(catalog, key)
        assert catalog.find({})[1] == []

    def test_wait_state_sees_a_change_that_was_there_already(self, catalog: Catalog) -> None:
        document = document_for(catalog)
        created = catalog.create(document)
        key = catalog.scan_key(document.pk)
        assert not catalog.wait_state(key, created.state_id, 0)
        assert not catalog.wait_state(key, created.state_id, SHORT_S)
        state_id = catalog.advance(key, 0, 1, document)
        assert catalog.wait_state(key, created.state_id, 0)
        assert catalog.wait_state(key, created.state_id, LONG_S)
        assert not catalog.wait_state(key, state_id, 0)

    def test_wait_state_is_woken(self, backend: Backend, catalog: Catalog) -> None:
        document = document_for(catalog)
        created = catalog.create(document)
        key = catalog.scan_key(document.pk)
        other = self.second(backend)
        with in_background(lambda: catalog.wait_state(key, created.state_id, 4)) as future:
            other.catalog("esrf", FIELDS).advance(key, 0, 1, document)
            assert future.result(LONG_S)
        other.close()

    def test_steps_tell_when_a_scan_reached_each_state(
        self, backend: Backend, catalog: Catalog
    ) -> None:
        began = backend.info().time
        document = document_for(catalog)
        state_ids = [catalog.create(document).state_id]
        key = catalog.scan_key(document.pk)
        for state in (1, 2, 4):
            state_ids.append(catalog.advance(key, min(state - 1, 2), state, document))
        steps = catalog.steps(key)
        assert [step.state for step in steps] == [0, 1, 2, 4]
        assert [step.state_id for step in steps] == state_ids
        times = [step.time for step in steps]
        # ids of a server's streams count milliseconds
        assert times == sorted(times)
        assert began - 0.002 <= times[0] <= times[-1] <= backend.info().time + 0.002

    def test_a_scan_that_never_was_took_no_steps(self, catalog: Catalog) -> None:
        with pytest.raises(ScanNotFoundError):
            catalog.steps(catalog.scan_key(new_ulid()))

    def test_expiry_never_lengthens(self, catalog: Catalog) -> None:
        key = new_scan(catalog)
        catalog.expire(key, 1000)
        assert catalog.load(key).state == 0
        catalog.expire(key, DELETION_GRACE_S)
        catalog.expire(key, 1000)
        with pytest.raises(ScanNotFoundError):
            catalog.load(key)

    def test_a_planned_expiry_leaves_the_scan_at_work(
        self, catalog: Catalog, log: EventLog
    ) -> None:
        document = document_for(catalog)
        catalog.create(document)
        key = catalog.scan_key(document.pk)
        catalog.expire(key, 1000)
        catalog.advance(key, 0, 1, document)
        stream = catalog.new_stream(document.pk, {}, {}).key()
        assert append(log, stream, 0, batch(b"x"), scan_key=key) == 1
        assert catalog.find({})[1] == [key]

    def test_expiring_what_is_gone_is_nothing(self, catalog: Catalog) -> None:
        catalog.expire(catalog.scan_key(new_ulid()), 5)
        key = new_scan(catalog)
        delete(catalog, key)
        delete(catalog, key)
        catalog.expire(key, 1000)

    def test_keys_are_recognised(self, catalog: Catalog) -> None:
        assert catalog.is_scan_key(catalog.scan_key(new_ulid()))
        assert not catalog.is_scan_key("")
        assert not catalog.is_scan_key("some:scan:key")
        assert not catalog.is_scan_key(catalog.new_stream(new_ulid(), {}, {}).key())

    # ------------------------------------------------------------------------------ many scans

    def test_a_step_with_a_document_as_stored_changes_the_state_alone(
        self, catalog: Catalog
    ) -> None:
        document = document_for(catalog, {"title": "t"})
        catalog.create(document)
        key = catalog.scan_key(document.pk)
        document.info["title"] = "not stored"
        state_id = catalog.advance(key, 0, 1, document, as_stored=True)
        loaded = catalog.load(key)
        assert (loaded.state, loaded.state_id) == (1, state_id)
        assert loaded.document.info == {"title": "t"}
        catalog.advance(key, 1, 2, document)
        assert catalog.load(key).document.info == {"title": "not stored"}

    def test_states_of_many_scans(self, catalog: Catalog) -> None:
        documents = [document_for(catalog) for _ in range(5)]
        keys = [catalog.scan_key(document.pk) for document in documents]
        for state, (key, document) in enumerate(zip(keys, documents, strict=True)):
            catalog.create(document)
            if state:
                catalog.advance(key, 0, state, document)
        deleted, unknown = new_scan(catalog), catalog.scan_key(new_ulid())
        delete(catalog, deleted)
        expected = {key: state for state, key in enumerate(keys)}
        assert catalog.states([*keys, deleted, unknown]) == {
            **expected,
            deleted: None,
            unknown: None,
        }
        assert catalog.states([keys[1], keys[1]]) == {keys[1]: 1}
        assert catalog.states([]) == {}

    def test_many_scans_are_loaded_as_they_are_one_by_one(self, catalog: Catalog) -> None:
        keys = [new_scan(catalog, number=number) for number in range(5)]
        catalog.advance(keys[3], 0, 1, catalog.load(keys[3]).document)
        deleted, unknown = new_scan(catalog), catalog.scan_key(new_ulid())
        delete(catalog, deleted)
        found = catalog.load_many([*keys, deleted, unknown, keys[0]])
        assert list(found) == [*keys, deleted, unknown]
        assert [found[key] for key in keys] == [catalog.load(key) for key in keys]
        for key in (deleted, unknown):
            assert isinstance(found[key], ScanNotFoundError)
            assert key in str(found[key])
        assert catalog.load_many([]) == {}

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({}, "abcd"),
            ({"session": "ihr_12"}, "a"),
            ({"session": "IHR_12"}, "a"),
            ({"session": "ihr*"}, "abc"),
            ({"session": "IHR*"}, "abc"),
            ({"session": "*_12"}, "ad"),
            ({"session": "*R_1*"}, "abc"),
            ({"session": "ihr"}, ""),
            ({"session": "ihr_123"}, "b"),
            ({"session": "*nowhere*"}, ""),
            ({"number": 1}, "ac"),
            ({"number": 2}, "b"),
            ({"number": 12}, ""),
            ({"session": "ihr*", "number": 1}, "ac"),
            ({"number": 1, "session": "*12"}, "a"),
            ({"session": "*", "number": 2}, "b"),
            ({"dataset": "only"}, "d"),
        ],
        ids=str,
    )
    def test_find(self, catalog: Catalog, fields: dict[str, Any], expected: str) -> None:
        keys = {
            "a": new_scan(catalog, session="ihr_12", number=1),
            "b": new_scan(catalog, session="ihr_123", number=2),
            "c": new_scan(catalog, session="IHR_1", number=1),
            "d": new_scan(catalog, session="x_12", number=-3, dataset="Only"),
        }
        assert catalog.find(fields) == (catalog.timetag(), [keys[name] for name in expected])

    @pytest.mark.parametrize(
        "text",
        [
            ",.<>{}[]\"':;!@#$%^&()-+=~?/",
            "a b",
            "back\\slash",
            "a|b",
            "Grüße ΣΑΣ 測定",
            "nul\0inside",
            "new\nline",
            "x" * 2000,
        ],
        ids=[
            "punctuation",
            "blank",
            "backslash",
            "bar",
            "unicode",
            "nul",
            "newline",
            "long",
        ],
    )
    def test_any_character_may_be_searched_for(self, catalog: Catalog, text: str) -> None:
        key = new_scan(catalog, session=text)
        new_scan(catalog, session="x")
        new_scan(catalog, session=None)
        for wanted in (text, text.upper(), text[:-1] + "*", "*" + text[1:], f"*{text[1:-1]}*"):
            assert catalog.find({"session": wanted})[1] == [key], wanted

    @pytest.mark.parametrize("text", ["a*b", "*a*b", "a*b*", "*a*b*"])
    def test_a_wildcard_inside_a_text_is_refused(self, catalog: Catalog, text: str) -> None:
        with pytest.raises(ValueError, match=r"\*"):
            catalog.find({"session": text})

    def test_find_finds_unset_fields_by_nothing(self, catalog: Catalog) -> None:
        new_scan(catalog, session=None)
        assert catalog.find({"session": "None"})[1] == []
        assert catalog.find({"session": "null"})[1] == []

    def test_find_drops_what_was_deleted(self, catalog: Catalog) -> None:
        first, second, third = (new_scan(catalog) for _ in range(3))
        delete(catalog, second)
        for fields in ({}, {"name": "ascan"}, {"number": 7}, {"name": "*SC*"}):
            assert catalog.find(fields)[1] == [first, third]

    def test_a_search_that_is_repeated_sees_what_changed(self, catalog: Catalog) -> None:
        searches: tuple[dict[str, Any], ...] = (
            {},
            {"name": "ascan"},
            {"number": 7},
            {"name": "*SC*"},
            {"name": "a*", "number": 7},
        )
        keys: list[str] = []
        for _ in range(3):
            keys.append(new_scan(catalog))
            for _ in range(2):
                for fields in searches:
                    assert catalog.find(fields) == (catalog.timetag(), keys)
        new_scan(catalog, name="other", number=1)
        assert catalog.find({"name": "ascan"})[1] == keys
        delete(catalog, keys.pop(1))
        for fields in searches[1:]:
            assert catalog.find(fields)[1] == keys
        catalog.expire_many([keys.pop()], DELETION_GRACE_S + 1)
        deadline = time.monotonic() + LONG_S
        while len(catalog.find({"name": "ascan"})[1]) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for fields in searches[1:]:
            assert catalog.find(fields)[1] == keys
        assert catalog.states(keys) == {keys[0]: 0}

    def test_what_a_search_gave_may_be_changed(self, catalog: Catalog) -> None:
        keys = [new_scan(catalog) for _ in range(3)]
        for fields in ({}, {"name": "ascan"}, {"number": 7}, {"name": "*SC*"}):
            for _ in range(3):
                found = catalog.find(fields)[1]
                assert found == keys
                found.clear()

    def test_find_gives_scans_in_order_of_creation(self, catalog: Catalog) -> None:
        documents = [document_for(catalog, number=i % 3) for i in range(30)]
        keys = []
        for document in documents:
            catalog.create(document)
            keys.append(catalog.scan_key(document.pk))
        for key, document in list(zip(keys, documents, strict=True))[::-1]:
            catalog.advance(key, 0, 1, document)  # what was written last does not come last
        assert catalog.find({})[1] == keys
        assert catalog.find({"number": 1})[1] == keys[1::3]
        assert catalog.find({"name": "a*", "number": 2})[1] == keys[2::3]

    def test_the_timetag_grows_from_scan_to_scan(self, catalog: Catalog) -> None:
        assert catalog.timetag() == "0-0"
        assert catalog.find({}) == ("0-0", [])
        tags = []
        for _ in range(5):
            new_scan(catalog)
            tags.append(tuple(int(part) for part in catalog.timetag().split("-")))
        assert tags == sorted(set(tags))

    def test_newest_is_the_newest_that_is_not_deleted(self, catalog: Catalog) -> None:
        assert catalog.newest() == []
        keys = [new_scan(catalog) for _ in range(3)]
        timetag = catalog.timetag()
        assert catalog.newest() == [Announcement(timetag, keys[2])]
        for key in keys[:0:-1]:
            delete(catalog, key)
        assert [a.key for a in catalog.newest()] == [keys[0]]
        delete(catalog, keys[0])
        assert catalog.newest() == []
        assert catalog.timetag() == timetag

    def test_the_newest_come_in_pages(self, catalog: Catalog) -> None:
        keys, tags = [], []
        for _ in range(7):
            keys.append(new_scan(catalog))
            tags.append(catalog.timetag())
        delete(catalog, keys[4])
        page = catalog.newest(3)
        assert page == [Announcement(tags[i], keys[i]) for i in (6, 5, 3)]
        page = catalog.newest(2, page[-1].timetag)
        assert page == [Announcement(tags[i], keys[i]) for i in (2, 1)]
        assert [a.key for a in catalog.newest(9, page[-1].timetag)] == [keys[0]]
        assert catalog.newest(9, tags[0]) == []
        assert catalog.newest(0) == []

    def test_announced_gives_what_came_since_a_timetag(self, catalog: Catalog) -> None:
        keys, tags = [], []
        for _ in range(4):
            keys.append(new_scan(catalog))
            tags.append(catalog.timetag())
        for since, expected in (("0-0", keys), (tags[1], keys[2:]), (tags[3], [])):
            upto, announced = catalog.announced(since)
            assert [a.key for a in announced] == expected
            assert [a.timetag for a in announced] == tags[4 - len(expected) :]
            assert upto == tags[3]

    def test_announced_skips_deleted_scans_and_says_how_far_it_looked(
        self, catalog: Catalog
    ) -> None:
        keys = [new_scan(catalog) for _ in range(3)]
        for key in keys[:2]:
            delete(catalog, key)
        assert [a.key for a in catalog.announced("0-0")[1]] == keys[2:]
        delete(catalog, keys[2])
        assert catalog.announced("0-0") == (catalog.timetag(), [])

    def test_announced_in_vain_ends_in_time(self, catalog: Catalog) -> None:
        assert catalog.announced("0-0", wait=SHORT_S) == ("0-0", [])
        new_scan(catalog)
        timetag = catalog.timetag()
        assert catalog.announced(timetag, wait=SHORT_S) == (timetag, [])

    def test_announced_is_woken(self, backend: Backend, catalog: Catalog) -> None:
        new_scan(catalog)
        timetag = catalog.timetag()
        other = self.second(backend)
        with in_background(lambda: catalog.announced(timetag, wait=4)) as future:
            key = new_scan(other.catalog("esrf", FIELDS))
            _, announced = future.result(LONG_S)
            assert [a.key for a in announced] == [key]
        other.close()

    def test_announced_reaches_scans_older_than_the_history(self, catalog: Catalog) -> None:
        count = HISTORY_LENGTH + 300  # a history is trimmed by whole blocks of up to 100 entries
        keys = [new_scan(catalog) for _ in range(count)]
        found: list[str] = []
        since, upto = "", "0-0"
        while upto != since:
            since = upto
            upto, announced = catalog.announced(since)
            found += [a.key for a in announced]
        assert found == keys
        assert catalog.find({})[1] == keys
        page, pages = catalog.newest(1000), []
        while page:
            pages += [a.key for a in page]
            page = catalog.newest(1000, page[-1].timetag)
        assert pages[::-1] == keys

    def test_scans_of_another_prefix_are_not_ours(self, backend: Backend, catalog: Catalog) -> None:
        other = backend.catalog("other", ["name", "number"])
        document = ScanDocument(pk := new_ulid(), {"name": "x", "number": 1}, {}, pk)
        other.create(document)
        key = new_scan(catalog)
        foreign = other.scan_key(pk)
        assert foreign != catalog.scan_key(pk)
        assert not catalog.is_scan_key(foreign)
        assert [catalog.find({})[1], other.find({})[1]] == [[key], [foreign]]
        assert [a.key for a in catalog.announced("0-0")[1]] == [key]
        assert [a.key for a in other.announced("0-0")[1]] == [foreign]
        assert [a.key for a in other.newest(9)] == [foreign]

    def test_waiting_for_a_scan_passes_over_those_of_another_prefix(
        self, backend: Backend, catalog: Catalog
    ) -> None:
        since = catalog.timetag()
        other = backend.catalog("other", ["name", "number"])
        for number in range(3):
            pk = new_ulid()
            other.create(ScanDocument(pk, {"name": "x", "number": number}, {}, pk))
        # Either it waits in vain, or says how far it looked: but it does not find them again for ever.
        upto = since
        for _ in range(3):
            upto, announced = catalog.announced(upto, wait=SHORT_S)
            assert announced == []
        with in_background(lambda: catalog.announced(upto, wait=4)) as future:
            key = new_scan(catalog)
            assert [a.key for a in future.result(LONG_S)[1]] == [key]


# ---------------------------------------------------------------------------------- the server


class ServerTests(BackendKit):
    """The server as a whole."""

    def test_info_says_what_the_server_is(self, backend: Backend) -> None:
        info = backend.info()
        assert info.kind
        assert info.why
        assert info.server
        assert isinstance(info.protocol, int)
        assert info.used_memory >= 0
        assert info.max_memory >= 0
        assert info.clients >= 1
        assert abs(info.time - time.time()) < 3600

    def test_the_protocol_is_a_number(self, backend: Backend) -> None:
        assert backend.protocol() == backend.info().protocol

    def test_a_prepared_server_without_scans_may_be_prepared_again(self, backend: Backend) -> None:
        protocol = backend.protocol()
        backend.initialise()
        assert backend.protocol() == protocol

    def test_a_used_server_is_not_prepared_again(self, backend: Backend, catalog: Catalog) -> None:
        key = new_scan(catalog)
        with pytest.raises(ServerNotEmptyError, match="already"):
            backend.initialise()
        assert catalog.load(key).state == 0

    def test_flush_forgets_everything(
        self, backend: Backend, catalog: Catalog, log: EventLog
    ) -> None:
        key = new_scan(catalog)
        fill(log, "s", 3)
        backend.flush()
        assert backend.protocol() is None
        backend.initialise()
        assert backend.protocol() is not None
        assert catalog.find({}) == ("0-0", [])
        assert catalog.states([key]) == {key: None}
        assert catalog.newest() == []
        assert everything(log, "s") == (Tail(0, False), [])

    def test_acquisitions_of_a_detector_are_counted_from_0(self, backend: Backend) -> None:
        camera, other = "tango://host:10000/id00/camera/1", "tango://host:10000/id00/camera/2"
        assert backend.current_acquisition(camera) is None
        assert [backend.begin_acquisition(camera) for _ in range(3)] == [0, 1, 2]
        assert backend.current_acquisition(camera) == 2
        assert backend.current_acquisition(other) is None
        assert backend.begin_acquisition(other) == 0
        assert backend.current_acquisition(camera) == 2

    def test_no_acquisition_has_the_number_of_another(self, backend: Backend) -> None:
        with ThreadPoolExecutor(4, "contract") as pool:
            numbers = list(pool.map(lambda _: backend.begin_acquisition("camera"), range(40)))
        assert sorted(numbers) == list(range(40))

    def test_a_full_server_counts_no_acquisition(
        self, backend: Backend, while_full: AbstractContextManager[None]
    ) -> None:
        with while_full, pytest.raises(ServerFullError):
            backend.begin_acquisition("camera")
        assert backend.begin_acquisition("camera") == 0

    def test_flush_forgets_acquisitions(self, backend: Backend) -> None:
        backend.begin_acquisition("camera")
        backend.flush()
        assert backend.current_acquisition("camera") is None
        backend.initialise()
        assert backend.begin_acquisition("camera") == 0

    def test_reset_redis_db_leaves_a_store_that_works(self, store: DataStore) -> None:
        key = store.create_scan(IDENTITY).key
        reset_redis_db(store)
        with pytest.raises(ScanNotFoundError):
            store.load_scan(key)
        assert store.load_scan(store.create_scan(IDENTITY).key).state == ScanState.CREATED

    def test_close_may_be_called_again(self, backend: Backend) -> None:
        backend.close()
        backend.close()

    def test_every_call_says_that_nobody_answers(
        self,
        backend: Backend,
        log: EventLog,
        catalog: Catalog,
        while_away: AbstractContextManager[None],
    ) -> None:
        document = document_for(catalog)
        key = catalog.scan_key(document.pk)
        calls: list[Callable[[], Any]] = [
            lambda: log.append({"s": AppendRequest(0, (batch(b"x"),))}),
            lambda: log.read({"s": 0}, max_entries=1),
            lambda: log.read({"s": 0}, wait=SHORT_S, max_entries=1),
            lambda: log.span([SpanRequest("s")]),
            lambda: log.holding("s", 0),
            lambda: log.newest(["s"]),
            lambda: log.bounds(["s"]),
            lambda: seal(log, "s"),
            lambda: trim(log, "s", 1),
            lambda: backend.current_acquisition("camera"),
            lambda: backend.begin_acquisition("camera"),
            lambda: catalog.create(document),
            lambda: catalog.load(key),
            lambda: catalog.advance(key, 0, 1, document),
            lambda: catalog.wait_state(key, "0-0", SHORT_S),
            lambda: catalog.steps(key),
            lambda: catalog.states([key]),
            lambda: catalog.find({}),
            catalog.timetag,
            catalog.newest,
            lambda: catalog.announced("0-0"),
            lambda: catalog.announced("0-0", wait=SHORT_S),
            lambda: catalog.expire(key, 5),
            backend.info,
            backend.protocol,
            backend.initialise,
            backend.flush,
        ]
        with while_away:
            for call in calls:
                with pytest.raises(StoreConnectionError):
                    call()
        assert everything(log, "s") == (Tail(0, False), [])
        assert catalog.find({}) == ("0-0", [])


# ---------------------------------------------------------------------------------- scans


class OtherIdentity(BaseModel):
    """An identity of another institute: other fields, another prefix."""

    sample: str
    run: int
    operator: str | None = None

    class Meta:
        """Where such scans are stored."""

        global_key_prefix: ClassVar[str] = "other"


_ORDER = list(ScanState)
_WRONG_STEPS = [
    (state, step)
    for state in _ORDER
    for step, source in {
        "prepare": ScanState.CREATED,
        "start": ScanState.PREPARED,
        "stop": ScanState.STARTED,
    }.items()
    if state != source
]


class ScanTests(BackendKit):
    """Scans as users see them, through a `DataStore`."""

    # ------------------------------------------------------------------------------ life cycle

    def test_a_scan_goes_through_its_states(self, store: DataStore, reader: DataStore) -> None:
        scan = store.create_scan(IDENTITY)
        copy = reader.load_scan(scan.key)
        seen = [copy.state]
        for step in (scan.prepare, scan.start, scan.stop, scan.close):
            step()
            assert copy.update(timeout=LONG_S)
            assert copy.state == scan.state
            seen.append(copy.state)
        assert seen == _ORDER == [0, 1, 2, 3, 4]
        assert not copy.update()  # at once: nothing comes after CLOSED

    @pytest.mark.parametrize(("state", "step"), _WRONG_STEPS, ids=str)
    def test_steps_out_of_order_are_refused(
        self, store: DataStore, state: ScanState, step: str
    ) -> None:
        scan = store.create_scan(IDENTITY)
        step_to(scan, state)
        with pytest.raises(UnauthorizeStateTransition, match=state.name) as caught:
            getattr(scan, step)()
        assert caught.value.orig_state == state
        assert scan.state == state
        assert store.load_scan(scan.key).state == state

    @pytest.mark.parametrize("state", _ORDER, ids=lambda state: state.name)
    def test_a_scan_closes_from_any_state(self, store: DataStore, state: ScanState) -> None:
        scan = store.create_scan(IDENTITY)
        step_to(scan, state)
        scan.close()
        assert store.load_scan(scan.key).state == ScanState.CLOSED

    @pytest.mark.parametrize("step", ["prepare", "start", "stop", "close"])
    def test_a_loaded_scan_is_read_only(self, store: DataStore, step: str) -> None:
        scan = store.create_scan(IDENTITY)
        copy = store.load_scan(scan.key)
        with pytest.raises(NoWritePermission, match=scan.key):
            getattr(copy, step)()
        with pytest.raises(NoWritePermission):
            copy.info = {}
        with pytest.raises(NoWritePermission):
            copy.create_stream("s", dtype=float)
        assert store.load_scan(scan.key).state == ScanState.CREATED

    def test_a_stopped_publisher_does_not_overwrite_what_somebody_else_closed(
        self, store: DataStore
    ) -> None:
        scan = store.create_scan(IDENTITY)
        document = store.catalog.load(scan.key).document
        document.info["end_reason"] = "DELETION"
        store.catalog.advance(scan.key, 0, 4, document)
        with pytest.raises(UnauthorizeStateTransition):
            scan.prepare()
        assert store.load_scan(scan.key).info == {"end_reason": "DELETION"}

    def test_identity_fields_are_attributes(self, store: DataStore) -> None:
        scan = store.create_scan({**IDENTITY, "session": "ihr"})
        for found in (scan, store.load_scan(scan.key)):
            assert (found.name, found.number, found.data_policy) == ("ascan", 7, "esrf")
            assert (found.session, found.path) == ("ihr", None)
            with pytest.raises(AttributeError, match="colour"):
                _ = found.colour

    def test_unknown_identity_fields_are_ignored(self, store: DataStore) -> None:
        scan = store.create_scan({**IDENTITY, "colour": "red"})
        assert "colour" not in scan.identity

    @pytest.mark.parametrize(
        "misfit",
        [{"name": "x", "number": 1}, {**IDENTITY, "number": "x"}, {**IDENTITY, "session": 5}],
        ids=["missing", "wrong type", "wrong optional"],
    )
    def test_a_misfit_identity_is_refused(self, store: DataStore, misfit: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            store.create_scan(misfit)
        assert store.search_existing_scans() == ("0-0", [])

    def test_a_waiting_update_is_woken(self, store: DataStore, reader: DataStore) -> None:
        scan = store.create_scan(IDENTITY)
        copy = reader.load_scan(scan.key)
        with in_background(copy.update) as future:
            scan.prepare()
            assert future.result(LONG_S)
        assert copy.state == ScanState.PREPARED

    def test_update_in_vain(self, store: DataStore) -> None:
        copy = store.load_scan(store.create_scan(IDENTITY).key)
        assert not copy.update(block=False)
        assert not copy.update(timeout=SHORT_S)
        assert not copy.update(timeout=1e-6)
        assert not copy.wait_state(ScanState.PREPARED, 0)
        assert not copy.wait_state(ScanState.PREPARED, SHORT_S)

    def test_wait_state_waits_for_a_state_or_a_later_one(
        self, store: DataStore, reader: DataStore
    ) -> None:
        scan = store.create_scan(IDENTITY)
        copy = reader.load_scan(scan.key)
        with in_background(lambda: copy.wait_state(ScanState.STARTED, LONG_S)) as future:
            step_to(scan, ScanState.STOPPED)
            assert future.result(LONG_S)
        assert copy.wait_state(ScanState.PREPARED)

    def test_a_scan_closes_itself_as_a_context_manager(self, store: DataStore) -> None:
        with store.create_scan(IDENTITY) as scan:
            scan.prepare()
        assert store.load_scan(scan.key).state == ScanState.CLOSED
        assert store.load_scan(scan.key).info["end_reason"] == "SUCCESS"

    @pytest.mark.parametrize(
        ("error", "reason"), [(ValueError, "FAILURE"), (KeyboardInterrupt, "USER_ABORT")]
    )
    def test_a_scan_that_fails_says_so(
        self, store: DataStore, error: type[BaseException], reason: str
    ) -> None:
        with pytest.raises(error), store.create_scan(IDENTITY) as scan:  # noqa: PT012 — the body fails on purpose
            scan.prepare()
            raise error
        copy = store.load_scan(scan.key)
        assert (copy.state, copy.info["end_reason"]) == (ScanState.CLOSED, reason)

    # ------------------------------------------------------------------------------ info

    def test_info_reaches_readers_at_creation_prepared_and_closed(self, store: DataStore) -> None:
        scan = store.create_scan(IDENTITY, {"title": "x"})
        copy = store.load_scan(scan.key)
        assert copy.info == {"title": "x"}
        scan.info["a"] = 1
        scan.prepare()
        copy.update()
        assert copy.info == {"title": "x", "a": 1}
        scan.start()
        scan.stop()
        scan.info["b"] = 2
        scan.close()
        copy.update()
        assert copy.info == {"title": "x", "a": 1, "b": 2}

    def test_info_is_as_json_gives_it_back(self, store: DataStore) -> None:
        given = {
            "nan": math.nan,
            "inf": [math.inf, -math.inf],
            "tuple": (1, (2.5, None)),
            "array": np.arange(6).reshape(2, 3),
            "holes": np.array([1.0, np.nan]),
            "numbers": [np.int16(3), np.float32(0.5), np.bool_(True), np.longdouble(1.5)],
            "nested": {"a": {"b": [True, "ü"]}},
        }
        expected = {
            "nan": None,
            "inf": [None, None],
            "tuple": [1, [2.5, None]],
            "array": [[0, 1, 2], [3, 4, 5]],
            "holes": [1.0, None],
            "numbers": [3, 0.5, True, 1.5],
            "nested": {"a": {"b": [True, "ü"]}},
        }
        scan = store.create_scan(IDENTITY, given)
        assert scan.info == expected
        assert type(scan.info) is dict
        assert store.load_scan(scan.key).info == expected
        scan.info = given
        assert scan.info is given
        scan.prepare()
        assert scan.info == expected
        assert scan.info is not given
        assert isinstance(given["tuple"], tuple)  # what the caller passed is as it was

    def test_info_changed_where_readers_cannot_see_it_is_an_error_at_the_step(
        self, store: DataStore
    ) -> None:
        scan = store.create_scan(IDENTITY, {"a": 1})
        scan.prepare()
        scan.info["late"] = 2
        with pytest.raises(RuntimeError, match="late"):
            scan.start()
        assert scan.state == ScanState.PREPARED
        del scan.info["late"]
        scan.start()
        scan.info = {"a": 2}  # the assignment itself is never refused
        with pytest.raises(RuntimeError, match=r"changed: a"):
            scan.stop()
        scan.close()
        assert store.load_scan(scan.key).info == {"a": 2}

    def test_an_equal_info_may_be_assigned_before_each_step(self, store: DataStore) -> None:
        scan = store.create_scan(IDENTITY, {"a": 1, "b": [1, 2]})
        for n, step in enumerate((scan.prepare, scan.start, scan.stop, scan.close)):
            scan.info = {"a": 1, "b": [1, 2]} if n % 2 else {"b": (1, 2), "a": 1}
            step()
        assert store.load_scan(scan.key).info == {"a": 1, "b": [1, 2]}

    def test_the_info_of_before_a_step_is_not_the_scans_any_more(self, store: DataStore) -> None:
        scan = store.create_scan(IDENTITY, {"a": 1})
        before = scan.info
        scan.prepare()
        before["late"] = 1
        scan.start()
        assert scan.info == {"a": 1}
        scan.close()
        assert store.load_scan(scan.key).info == {"a": 1}

    def test_what_a_stream_says_of_itself_is_known_as_it_is_at_each_step(
        self, store: DataStore
    ) -> None:
        scan = store.create_scan(IDENTITY)
        stream = scan.create_stream("a", dtype="float64")
        scan.prepare()
        stream.info["unit"] = "A"
        scan.start()
        assert store.load_scan(scan.key).streams["a"].info["unit"] == "A"
        scan.close()

    def test_an_info_that_json_cannot_hold_can_be_repaired(self, store: DataStore) -> None:
        scan = store.create_scan(IDENTITY)
        step_to(scan, ScanState.STOPPED)
        scan.info["bad"] = {"deep": [0, object()]}
        with pytest.raises(TypeError, match=r"bad.*deep.*1.*object"):
            scan.close()
        assert scan.state == ScanState.STOPPED
        del scan.info["bad"]
        scan.close()
        assert store.load_scan(scan.key).state == ScanState.CLOSED

    def test_an_info_above_the_limit_is_refused(self, store: DataStore) -> None:
        with pytest.raises(RuntimeError, match="metadata is taking"):
            store.create_scan(IDENTITY, {"big": "x" * 2**20})
        assert store.search_existing_scans()[1] == []
        scan = store.create_scan(IDENTITY, {"a": "x" * (2**20 - len('{"a": ""}'))})
        scan.info["b"] = 1
        with pytest.raises(RuntimeError, match="metadata is taking"):
            scan.prepare()
        assert scan.state == ScanState.CREATED

    def test_many_scans_are_loaded_at_once(self, store: DataStore) -> None:
        keys = [store.create_scan(IDENTITY, {"i": i}).key for i in range(3)]
        gone = store.catalog.scan_key(new_ulid())
        found = store.load_scans([keys[2], gone, keys[0]])
        assert list(found) == [keys[2], gone, keys[0]]
        assert isinstance(found.pop(gone), ScanNotFoundError)
        scans = [scan for scan in found.values() if isinstance(scan, Scan)]
        assert [(scan.key, scan.info) for scan in scans] == [
            (keys[2], {"i": 2}),
            (keys[0], {"i": 0}),
        ]

    def test_changes_on_a_loaded_scan_stay_local(self, store: DataStore) -> None:
        scan = store.create_scan(IDENTITY, {"maps": {"f": 1}})
        copy = store.load_scan(scan.key)
        del copy.info["maps"]["f"]
        assert store.load_scan(scan.key).info == scan.info == {"maps": {"f": 1}}

    # ------------------------------------------------------------------------------ finding scans

    def test_search_finds_scans_by_their_identity(self, store: DataStore) -> None:
        keys = [
            store.create_scan({**IDENTITY, "number": n, "session": f"ihr_{n % 2}"}).key
            for n in range(4)
        ]
        timetag = store.get_last_scan_timetag()
        assert store.search_existing_scans() == (timetag, keys)
        assert store.search_existing_scans(session="IHR_1") == (timetag, keys[1::2])
        assert store.search_existing_scans(session="ihr*", number=2) == (timetag, [keys[2]])
        assert store.search_existing_scans(number=99) == (timetag, [])

    def test_the_newest_scans_come_in_pages(self, store: DataStore) -> None:
        assert store.newest_scans(3) == []
        keys = []
        for number in range(5):
            with store.create_scan({**IDENTITY, "number": number}) as scan:
                keys.append(scan.key)
        page = store.newest_scans(3)
        assert [key for _, key in page] == keys[:1:-1]
        assert page[0] == store.get_last_scan()
        older = store.newest_scans(3, before=page[-1][0])
        assert [key for _, key in older] == keys[1::-1]
        assert store.newest_scans(3, before=older[-1][0]) == []
        with pytest.raises(ValueError, match="timetag"):
            store.newest_scans(3, before="yesterday")

    def test_search_misses_nothing_together_with_next_scan(self, store: DataStore) -> None:
        store.create_scan(IDENTITY)
        timetag, _ = store.search_existing_scans()
        key = store.create_scan(IDENTITY).key
        assert store.get_next_scan(since=timetag)[1] == key

    def test_an_unknown_search_field_is_refused(self, store: DataStore) -> None:
        with pytest.raises(ValueError, match=r"colour.*name"):
            store.search_existing_scans(colour="red")

    def test_without_scans_there_is_no_last_and_no_next_one(self, store: DataStore) -> None:
        assert store.get_last_scan_timetag() == "0-0"
        with pytest.raises(NoScanAvailable):
            store.get_last_scan()
        with pytest.raises(NoScanAvailable):
            store.get_next_scan(block=False)
        with pytest.raises(NoScanAvailable):
            store.get_next_scan(since=0, block=False)
        with pytest.raises(NoScanAvailable):
            store.get_next_scan(timeout=SHORT_S)
        with pytest.raises(NoScanAvailable):
            store.get_next_scan(timeout=1e-6)

    def test_next_scan_goes_from_scan_to_scan(self, store: DataStore) -> None:
        keys = [store.create_scan(IDENTITY).key for _ in range(3)]
        found, since = [], "0"
        for _ in keys:
            since, key = store.get_next_scan(since, block=False)
            found.append(key)
        assert found == keys
        assert (since, keys[-1]) == store.get_last_scan()
        assert since == store.get_last_scan_timetag()
        assert store.get_next_scan(since=0)[1] == keys[0]
        with pytest.raises(NoScanAvailable):
            store.get_next_scan(since, block=False)

    def test_next_scan_from_now_on_waits_for_one(self, store: DataStore, reader: DataStore) -> None:
        store.create_scan(IDENTITY)
        created: list[str] = []
        with in_background(lambda: reader.get_next_scan(timeout=LONG_S)) as future:
            while not future.done():  # "from now on" begins when the other thread gets there
                created.append(store.create_scan(IDENTITY).key)
            assert future.result()[1] in created

    def test_next_scan_waits_without_a_timeout(self, store: DataStore, reader: DataStore) -> None:
        since = store.get_last_scan_timetag()
        with in_background(lambda: reader.get_next_scan(since)) as future:
            key = store.create_scan(IDENTITY).key
            assert future.result(LONG_S)[1] == key

    def test_next_and_last_scan_skip_deleted_ones(self, store: DataStore) -> None:
        keys = [store.create_scan(IDENTITY).key for _ in range(4)]
        for key in (keys[0], keys[1], keys[3]):
            store.delete_scan(key, force=True)
        assert store.get_next_scan(0, block=False)[1] == keys[2]
        assert store.get_last_scan()[1] == keys[2]

    def test_next_scan_passes_over_very_many_deleted_ones(self, store: DataStore) -> None:
        for _ in range(300):
            delete(store.catalog, new_scan(store.catalog))
        key = store.create_scan(IDENTITY).key
        assert store.get_next_scan(0, block=False)[1] == key

    @pytest.mark.parametrize("since", ["", "x", "1-x", -1, "1.5", "-"])
    def test_what_is_no_timetag_is_refused(self, store: DataStore, since: Any) -> None:
        with pytest.raises(ValueError, match="timetag"):
            store.get_next_scan(since, block=False)

    def test_states_of_many_scans_at_once(self, store: DataStore) -> None:
        scans = [store.create_scan(IDENTITY) for _ in _ORDER]
        for scan, state in zip(scans, _ORDER, strict=True):
            step_to(scan, state)
        found = store.get_scans_state([scan.key for scan in scans])
        assert found == {scan.key: scan.state for scan in scans}
        assert all(isinstance(state, ScanState) for state in found.values())
        assert store.get_scans_state([]) == {}

    def test_a_missing_scan_has_no_state(self, store: DataStore) -> None:
        there, missing = store.create_scan(IDENTITY).key, store.catalog.scan_key(new_ulid())
        with pytest.raises(ScanNotFoundError) as caught:
            store.get_scans_state([there, missing])
        assert missing in str(caught.value)
        assert there not in str(caught.value)

    def test_a_key_that_cannot_be_ours_is_refused(self, store: DataStore) -> None:
        calls: list[Callable[[str], Any]] = [
            store.load_scan,
            store.delete_scan,
            lambda key: store.get_scans_state([key]),
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match=r"'other:x'.*|.*other:x"):
                call("other:x")

    def test_an_unknown_key_with_the_prefix_is_not_found(self, store: DataStore) -> None:
        with pytest.raises(ScanNotFoundError, match="esrf:scan:nothing"):
            store.load_scan("esrf:scan:nothing")
        store.delete_scan("esrf:scan:nothing")

    # ------------------------------------------------------------------------------ delete

    def test_a_deleted_scan_is_gone_for_everybody(
        self, store: DataStore, reader: DataStore
    ) -> None:
        scan = store.create_scan(IDENTITY)
        copy = reader.load_scan(scan.key)
        scan.close()
        store.delete_scan(scan.key)
        with pytest.raises(ScanNotFoundError):
            reader.load_scan(scan.key)
        with pytest.raises(ScanNotFoundError):
            copy.update()
        assert reader.search_existing_scans()[1] == []
        store.delete_scan(scan.key)  # again: nothing happens
        store.delete_scan(scan.key, force=True)

    @pytest.mark.parametrize("state", _ORDER[:-1], ids=lambda state: state.name)
    def test_an_open_scan_is_deleted_by_force_only(
        self, store: DataStore, state: ScanState
    ) -> None:
        scan = store.create_scan(IDENTITY)
        step_to(scan, state)
        with pytest.raises(RuntimeError, match="force=True"):
            store.delete_scan(scan.key)
        assert store.load_scan(scan.key).state == state
        store.delete_scan(scan.key, force=True)
        with pytest.raises(ScanNotFoundError):
            store.load_scan(scan.key)

    def test_deleting_by_force_seals_the_streams(self, store: DataStore, reader: DataStore) -> None:
        scan, stream = new_stream(store)
        empty = scan.create_stream("never prepared", dtype=float)
        stream.send(1.0)
        stream.join()
        copy = reader.load_scan(scan.key).streams["s"]
        reader.delete_scan(scan.key, force=True)
        assert copy.wait_seal(LONG_S)
        assert len(copy) == 1
        stream.send(2.0)
        with pytest.raises(StreamError):
            stream.join()
        empty.send(1.0)
        with pytest.raises(StreamVanishedError):
            empty.join()

    def test_a_publisher_learns_that_its_scan_was_deleted(
        self, store: DataStore, reader: DataStore
    ) -> None:
        scan = store.create_scan(IDENTITY)
        reader.delete_scan(scan.key, force=True)
        with pytest.raises((ScanNotFoundError, UnauthorizeStateTransition)):
            scan.prepare()

    # ------------------------------------------------------------------------------ identity models

    def test_another_identity_model_has_its_own_scans(
        self, backend: Backend, store: DataStore
    ) -> None:
        other = DataStore(backend=self.second(backend), identity_model_cls=OtherIdentity)
        ours = store.create_scan(IDENTITY)
        scan = other.create_scan({"sample": "Cu foil", "run": 3})
        assert (scan.sample, scan.run, scan.operator) == ("Cu foil", 3, None)
        assert other.load_scan(scan.key).sample == "Cu foil"
        assert other.search_existing_scans(sample="cu*", run=3)[1] == [scan.key]
        assert other.search_existing_scans()[1] == [scan.key]
        assert other.get_last_scan()[1] == scan.key
        assert other.get_next_scan(0, block=False)[1] == scan.key
        assert store.search_existing_scans()[1] == [ours.key]
        with pytest.raises(RuntimeError, match="other:scan:"):
            other.load_scan(ours.key)
        with pytest.raises(ValidationError):
            other.create_scan(IDENTITY)
        with pytest.raises(ValueError, match="session"):
            other.search_existing_scans(session="x")
        other.close()


# ---------------------------------------------------------------------------------- streams

VALUES = np.arange(10) * 1.5
_SPLITS = [(10,), (1,) * 10, (3, 4, 3), (9, 1)]
_SLICES: list[slice] = [
    slice(None),
    slice(0, 3),
    slice(3, 7),
    slice(2, 9, 3),
    slice(5, None),
    slice(None, 4),
    slice(7, 100),
    slice(10, None),
    slice(50, 60),
    slice(4, 4),
    slice(6, 2),
    slice(None, None, 4),
]
_SLICES_FROM_THE_END: list[slice] = [
    slice(-3, None),
    slice(None, -3),
    slice(-8, -2, 2),
    slice(-100, 4),
    slice(None, None, -1),
    slice(8, 2, -2),
    slice(-1, -4, -1),
    slice(None, -100),
]


class StreamTests(BackendKit):
    """Points as users see them: streams, cursors and groups, on both sides."""

    # ------------------------------------------------------------------------------ streams of a scan

    def test_streams_are_known_from_prepared_on(self, store: DataStore, reader: DataStore) -> None:
        scan = store.create_scan(IDENTITY)
        copy = reader.load_scan(scan.key)
        scan.create_stream("a", dtype="int32", unit="counts")
        assert scan.streams == copy.streams == {}
        scan.prepare()
        assert copy.streams == {}
        copy.update()
        for found in (scan, copy):
            stream = found.streams["a"]
            assert (stream.name, stream.dtype, stream.shape) == ("a", np.dtype("int32"), ())
            assert (stream.kind, stream.plugin) == ("array", None)
            assert stream.info["unit"] == "counts"
            assert found.streams["a"] is stream
            assert len({stream: 1, found.streams["a"]: 2}) == 1
        copy.streams.clear()
        assert list(copy.streams) == ["a"]

    def test_a_stream_added_later_appears_with_the_next_step(
        self, store: DataStore, reader: DataStore
    ) -> None:
        scan, _ = new_stream(store)
        copy = reader.load_scan(scan.key)
        late = scan.create_stream("late", dtype=float)
        late.send(1.0)
        assert list(copy.streams) == list(scan.streams) == ["s"]
        scan.stop()
        copy.update()
        assert list(copy.streams) == list(scan.streams) == ["s", "late"]
        assert copy.streams["late"][0] == 1.0

    def test_the_name_of_a_stream_is_taken_once(self, store: DataStore) -> None:
        scan = store.create_scan(IDENTITY)
        scan.create_stream("a", dtype=float)
        with pytest.raises(RuntimeError, match=r"a.*already exists"):
            scan.create_stream("a", dtype="json")

    @pytest.mark.parametrize(
        "make",
        [
            lambda scan: scan.create_stream(Stream.make_definition("s", float, (2,), {"u": 1})),
            lambda scan: scan.create_stream("s", NumericStreamEncoder(float, (2,)), info={"u": 1}),
            lambda scan: scan.create_stream("s", NumericStreamEncoder(float, (2,)), {"u": 1}),
            lambda scan: scan.create_stream("s", dtype="float64", shape=(2,), u=1),
            lambda scan: scan.create_stream(
                StreamDefinition("s", {"u": 1}, NumericStreamEncoder(float, (2,)))
            ),
        ],
        ids=["definition", "1.x by name", "1.x by position", "friendly", "by hand"],
    )
    def test_streams_may_be_created_in_many_ways(
        self, store: DataStore, make: Callable[[Scan], BaseStream]
    ) -> None:
        scan = store.create_scan(IDENTITY)
        stream = make(scan)
        assert isinstance(stream, Stream)
        scan.prepare()
        stream.send(np.array([1.0, 2.0]))
        stream.join()
        copy = store.load_scan(scan.key).streams["s"]
        assert (copy.shape, copy.dtype, copy.info["u"]) == ((2,), np.dtype(float), 1)
        assert copy[0].tolist() == [1.0, 2.0]

    # ------------------------------------------------------------------------------ encodings

    @pytest.mark.parametrize(
        "dtype",
        ["?", "i1", "<i2", ">i4", "<u8", "f2", "<f4", ">f8", "c8", "<c16", "g"],
    )
    @pytest.mark.parametrize("shape", [(), (3,), (2, 2)], ids=str)
    def test_numbers_of_every_dtype_and_shape(
        self, store: DataStore, reader: DataStore, dtype: str, shape: tuple[int, ...]
    ) -> None:
        scan, stream = new_stream(store, dtype, shape=shape)
        rng = np.random.default_rng(1)
        values = rng.integers(0, 100, (5, *shape)).astype(dtype)
        stream.send(values[0:1])
        stream.send(values[1:3])
        stream.send(values[3:])
        stream.seal()
        copy = reader.load_scan(scan.key).streams["s"]
        assert (copy.dtype, copy.shape) == (np.dtype(dtype), shape)
        found = copy[:]
        assert found.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found, values)
        np.testing.assert_array_equal(copy[3], values[3])
        view = copy.cursor().read()
        assert view is not None
        np.testing.assert_array_equal(view.get_data(), values)

    def test_dimensions_that_vary(self, store: DataStore) -> None:
        _, stream = new_stream(store, "int16", shape=(-1, 2))
        points = [np.arange(2 * n, dtype="int16").reshape(n, 2) for n in (1, 1, 3, 0, 3)]
        stream.send(np.stack(points[:2]))
        stream.send(points[2])
        stream.send(np.stack([points[4], points[4]]))
        assert stream.seal() == 5
        same = stream[0:2]
        assert isinstance(same, np.ndarray)
        np.testing.assert_array_equal(same, np.stack(points[:2]))
        mixed = stream[:]
        assert isinstance(mixed, list)
        for found, expected in zip(mixed, [*points[:3], points[4], points[4]], strict=True):
            np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(stream[-1], points[4])

    def test_json_points(self, store: DataStore, reader: DataStore) -> None:
        scan, stream = new_stream(store, "json")
        points: list[Any] = [{"a": [1, None]}, [1, 2], "text", 5, None, True, {"ü": math.inf}]
        for point in points:
            stream.send(point)
        stream.seal()
        copy = reader.load_scan(scan.key).streams["s"]
        assert (copy.kind, copy.dtype, copy.shape) == ("json", np.dtype(object), ())
        assert copy[:] == points
        assert [copy[i] for i in range(len(points))] == points
        assert copy[1:3] == points[1:3]
        assert copy[50:] == []
        assert list(copy) == points

    @pytest.mark.parametrize(
        "data", [object(), {1, 2}, b"bytes", np.arange(3)], ids=lambda data: type(data).__name__
    )
    def test_what_json_cannot_hold_is_refused(self, store: DataStore, data: Any) -> None:
        _, stream = new_stream(store, "json")
        with pytest.raises(TypeError, match="'s'"):
            stream.send(data)
        assert stream.seal() == 0

    @pytest.mark.parametrize(
        ("data", "error", "message"),
        [
            (np.empty(0), ValueError, "Cannot encode empty data"),
            (np.empty((0, 3), "int8"), ValueError, "Cannot encode empty data"),
            (np.array([1, 2, 3]), TypeError, "Expected numpy.float64, received numpy.int64"),
            (np.ones(3, "f4"), TypeError, "Expected numpy.float64, received numpy.float32"),
            (np.ones(3, ">f8"), TypeError, "endian"),
            (np.ones((2, 2, 3, 3)), ValueError, "Expected shape"),
            (np.ones(2), ValueError, "Expected shape"),
            (np.ones((5, 4)), ValueError, "Expected shape"),
            (1.0, ValueError, "Expected shape"),
            (1, TypeError, "Expected numpy.float64, received numpy.int64"),
        ],
        ids=[
            "empty",
            "empty before dtype",
            "integers",
            "another size",
            "another byte order",
            "too many dimensions",
            "another length",
            "batch of another length",
            "scalar",
            "dtype before shape",
        ],
    )
    def test_data_that_do_not_fit_are_refused_at_once(
        self, store: DataStore, data: Any, error: type[Exception], message: str
    ) -> None:
        _, stream = new_stream(store, "<f8", shape=(3,))
        with pytest.raises(error, match=message) as caught:
            stream.send(data)
        assert "'s'" in str(caught.value)
        stream.send(np.ones(3))
        assert stream.seal() == 1

    def test_what_was_sent_is_copied(self, store: DataStore) -> None:
        _, stream = new_stream(store, float, shape=(3,))
        data = np.ones(3)
        for i in range(20):
            data[:] = i
            stream.send(data)
        stream.seal()
        np.testing.assert_array_equal(stream[:], np.repeat(np.arange(20.0), 3).reshape(20, 3))

    # ------------------------------------------------------------------------------ index and slice

    @pytest.mark.parametrize("selection", _SLICES, ids=str)
    @pytest.mark.parametrize("split", _SPLITS, ids=str)
    def test_slices_of_an_open_stream_are_those_of_numpy(
        self, store: DataStore, selection: slice, split: tuple[int, ...]
    ) -> None:
        _, stream = new_stream(store)
        publish(stream, VALUES, *split)
        found = stream[selection]
        assert found.dtype == VALUES.dtype
        np.testing.assert_array_equal(found, VALUES[selection])

    @pytest.mark.parametrize("selection", [*_SLICES, *_SLICES_FROM_THE_END], ids=str)
    def test_slices_of_a_sealed_stream_are_those_of_numpy(
        self, store: DataStore, selection: slice
    ) -> None:
        _, stream = new_stream(store)
        publish(stream, VALUES, 3, 4)
        stream.seal()
        np.testing.assert_array_equal(stream[selection], VALUES[selection])

    @pytest.mark.parametrize("selection", [*_SLICES_FROM_THE_END[:4], -1, -10, -11], ids=str)
    def test_what_counts_from_the_end_has_no_meaning_before_the_seal(
        self, store: DataStore, selection: Any
    ) -> None:
        _, stream = new_stream(store)
        publish(stream, VALUES)
        with pytest.raises(IndexNotYetThereError, match="'s'"):
            stream[selection]

    @pytest.mark.parametrize("split", _SPLITS, ids=str)
    def test_every_point_by_its_index(self, store: DataStore, split: tuple[int, ...]) -> None:
        _, stream = new_stream(store)
        publish(stream, VALUES, *split)
        assert [stream[i] for i in range(10)] == VALUES.tolist()
        numpy_index: Any = np.int64(3)
        assert stream[numpy_index] == VALUES[3]
        with pytest.raises(IndexNotYetThereError, match="10"):
            stream[10]
        stream.seal()
        assert [stream[i] for i in range(-10, 0)] == VALUES.tolist()
        for index in (10, 11, 2**63, 2**64 - 1, 2**70):
            with pytest.raises(IndexWontBeThereError, match=str(index)):
                stream[index]
        with pytest.raises(IndexError) as caught:
            stream[-11]
        assert not isinstance(caught.value, IndexWontBeThereError | IndexNoMoreThereError)

    @pytest.mark.parametrize(
        "selection",
        ["a", 1.0, None, (1, 2), [1], True, slice("a", None), slice(1.5, None)],
        ids=repr,
    )
    def test_indices_are_integers_and_slices(self, store: DataStore, selection: Any) -> None:
        _, stream = new_stream(store)
        with pytest.raises(TypeError, match="ind"):
            stream[selection]

    def test_an_empty_slice_has_dtype_and_shape(self, store: DataStore) -> None:
        _, stream = new_stream(store, "int8", shape=(2, 3))
        for found in (stream[:], stream[5:9]):
            assert (found.dtype, found.shape) == (np.int8, (0, 2, 3))

    @pytest.mark.parametrize("sealed", [False, True], ids=["open", "sealed"])
    def test_points_that_were_trimmed_are_no_more_there(
        self, store: DataStore, sealed: bool
    ) -> None:
        _, stream = new_stream(store)
        publish(stream, VALUES, 3, 3)  # 0 1 2 | 3 4 5 | 6 7 8 9
        if sealed:
            stream.seal()
        forget(store, stream, 3)
        assert len(stream) == 10
        for index in (0, 2):
            with pytest.raises(IndexNoMoreThereError, match="'s'"):
                stream[index]
        for touching in (slice(None), slice(2, 5), slice(0, 1), slice(0, 9, 4)):
            with pytest.raises(IndexNoMoreThereError):
                stream[touching]
        for beside in (slice(3, None), slice(4, 8), slice(1, 1), slice(10, 20)):
            np.testing.assert_array_equal(stream[beside], VALUES[beside])
        assert [stream[i] for i in range(3, 10)] == VALUES[3:].tolist()

    def test_a_sealed_stream_that_was_trimmed_keeps_its_length(self, store: DataStore) -> None:
        _, stream = new_stream(store)
        publish(stream, VALUES, 5)
        stream.seal()
        forget(store, stream, 10)
        assert len(stream) == stream.seal() == 10
        with pytest.raises(IndexNoMoreThereError):
            stream[-1]
        with pytest.raises(IndexWontBeThereError):
            stream[10]

    # ------------------------------------------------------------------------------ seal

    def test_seal_ends_a_stream_for_good(self, store: DataStore, reader: DataStore) -> None:
        scan, stream = new_stream(store)
        copy = reader.load_scan(scan.key).streams["s"]
        assert not copy.is_sealed()
        assert not copy.wait_seal(timeout=SHORT_S)
        stream.send(VALUES)
        assert stream.seal() == 10
        assert stream.seal() == 10
        assert copy.is_sealed()
        assert copy.wait_seal()
        with pytest.raises(StreamSealedError, match=r"'s'.*10"):
            stream.send(1.0)

    def test_waiting_for_the_seal_is_woken(self, store: DataStore, reader: DataStore) -> None:
        scan, stream = new_stream(store)
        copy = reader.load_scan(scan.key).streams["s"]
        with in_background(copy.wait_seal) as future:
            stream.seal()
            assert future.result(LONG_S)

    @pytest.mark.parametrize("step", ["stop", "close"])
    def test_the_end_of_a_scan_seals_its_streams(
        self, store: DataStore, reader: DataStore, step: str
    ) -> None:
        scan, stream = new_stream(store)
        scan.create_stream("empty", dtype="json")
        stream.send(VALUES)
        getattr(scan, step)()
        streams = reader.load_scan(scan.key).streams
        assert [streams[name].is_sealed() for name in ("s", "empty")] == [True, True]
        assert [len(streams[name]) for name in ("s", "empty")] == [10, 0]

    def test_a_reader_cannot_write(self, store: DataStore) -> None:
        scan, _ = new_stream(store)
        for stream in (scan.streams["s"], store.load_scan(scan.key).streams["s"]):
            for call in (lambda s: s.send(1.0), lambda s: s.join(), lambda s: s.seal()):
                with pytest.raises(NoWritePermission, match="'s'"):
                    call(stream)

    # ------------------------------------------------------------------------------ cursors

    def test_a_cursor_reads_what_came_since(self, store: DataStore) -> None:
        _, stream = new_stream(store)
        cursor = stream.cursor()
        assert (cursor.position, cursor.read(block=False)) == (0, None)
        publish(stream, VALUES[:4])
        view = cursor.read()
        assert view is not None
        assert (view.index, view.last_index, len(view)) == (0, 3, 4)
        np.testing.assert_array_equal(view.get_data(), VALUES[:4])
        assert cursor.position == 4
        assert cursor.read(timeout=SHORT_S) is None
        publish(stream, VALUES[4:])
        view = cursor.read()
        assert view is not None
        assert (view.index, view.last_index, len(view)) == (4, 9, 6)
        assert list(view) == VALUES[4:].tolist()
        assert cursor.position == 10

    @pytest.mark.parametrize("selection", [s for s in _SLICES if s.step is None], ids=str)
    def test_views_are_sliced_as_numpy_does(self, store: DataStore, selection: slice) -> None:
        _, stream = new_stream(store)
        publish(stream, VALUES, 3, 4)
        view = stream.cursor().read()
        assert view is not None
        np.testing.assert_array_equal(
            view.get_data(selection.start, selection.stop), VALUES[selection]
        )

    def test_a_view_counts_from_its_own_start_and_end(self, store: DataStore) -> None:
        _, stream = new_stream(store)
        publish(stream, VALUES[:4])
        cursor = Cursor(stream)
        cursor.read()
        publish(stream, VALUES[4:])
        view = cursor.read()
        assert view is not None
        assert view.get_data(1, 2).tolist() == VALUES[5:6].tolist()
        assert view.get_data(-2).tolist() == VALUES[-2:].tolist()
        assert view.get_data(stop=-5).tolist() == VALUES[4:5].tolist()

    def test_the_end_comes_after_the_last_point(self, store: DataStore) -> None:
        _, stream = new_stream(store)
        cursor = stream.cursor()
        stream.send(VALUES)
        stream.seal()
        view = cursor.read()
        assert view is not None
        assert len(view) == 10
        for block in (True, False):
            with pytest.raises(EndOfStream, match="'s'"):
                cursor.read(block=block)
        assert cursor.position == 10

    def test_the_end_may_come_later_than_the_last_point(self, store: DataStore) -> None:
        _, stream = new_stream(store)
        cursor = stream.cursor()
        publish(stream, VALUES)
        cursor.read()
        assert cursor.read(block=False) is None
        stream.seal()
        with pytest.raises(EndOfStream):
            cursor.read(block=False)

    @pytest.mark.parametrize("last_only", [False, True])
    def test_an_empty_sealed_stream_ends_at_once(self, store: DataStore, last_only: bool) -> None:
        _, stream = new_stream(store)
        stream.seal()
        with pytest.raises(EndOfStream):
            stream.cursor().read(block=False, last_only=last_only)

    @pytest.mark.parametrize("last_only", [False, True])
    def test_a_waiting_cursor_is_woken(
        self, store: DataStore, reader: DataStore, last_only: bool
    ) -> None:
        scan, stream = new_stream(store)
        cursor = reader.load_scan(scan.key).streams["s"].cursor()
        with in_background(lambda: cursor.read(last_only=last_only)) as future:
            stream.send(1.5)
            view = future.result(LONG_S)
            assert view is not None
            assert view.get_data().tolist() == [1.5]
        with in_background(lambda: cursor.read(last_only=last_only)) as again:
            stream.seal()
            with pytest.raises(EndOfStream):
                again.result(LONG_S)

    def test_trimmed_points_belong_to_the_next_view(self, store: DataStore) -> None:
        _, stream = new_stream(store)
        cursor = stream.cursor()
        publish(stream, VALUES, 3, 3)
        forget(store, stream, 6)
        view = cursor.read()
        assert view is not None
        assert (view.index, len(view), view.last_index) == (0, 10, 9)
        np.testing.assert_array_equal(view.get_data(6), VALUES[6:])
        np.testing.assert_array_equal(view.get_data(-2), VALUES[-2:])
        for touching in ((None, None), (5, None), (0, 1), (None, 6)):
            with pytest.raises(IndexNoMoreThereError):
                view.get_data(*touching)
        assert cursor.position == 10

    def test_a_stream_that_was_trimmed_behind_its_seal_is_one_expired_view(
        self, store: DataStore
    ) -> None:
        _, stream = new_stream(store)
        cursor = stream.cursor()
        publish(stream, VALUES, 5)
        stream.seal()
        forget(store, stream, 10)
        view = cursor.read(block=False)
        assert view is not None
        assert (view.index, len(view)) == (0, 10)
        with pytest.raises(IndexNoMoreThereError):
            view.get_data()
        with pytest.raises(EndOfStream):
            cursor.read(block=False)

    def test_last_only_jumps_to_the_newest_point(self, store: DataStore) -> None:
        _, stream = new_stream(store)
        cursor = stream.cursor()
        assert cursor.read(block=False, last_only=True) is None
        publish(stream, VALUES, 3, 4)
        view = cursor.read(last_only=True)
        assert view is not None
        assert (view.index, len(view), view.get_data().tolist()) == (9, 1, [VALUES[9]])
        assert cursor.position == 10
        assert cursor.read(block=False, last_only=True) is None
        assert cursor.read(timeout=SHORT_S, last_only=True) is None
        publish(stream, VALUES)
        view = cursor.read()
        assert view is not None
        assert (view.index, len(view)) == (10, 10)
        stream.seal()
        with pytest.raises(EndOfStream):
            cursor.read(block=False, last_only=True)

    def test_last_only_of_a_sealed_stream(self, store: DataStore) -> None:
        _, stream = new_stream(store)
        publish(stream, VALUES)
        stream.seal()
        cursor = stream.cursor()
        view = cursor.read(last_only=True)
        assert view is not None
        assert view.get_data().tolist() == [VALUES[9]]
        with pytest.raises(EndOfStream):
            cursor.read(last_only=True)

    def test_last_only_of_what_was_trimmed_behind_the_seal(self, store: DataStore) -> None:
        _, stream = new_stream(store)
        publish(stream, VALUES)
        stream.seal()
        forget(store, stream, 10)
        cursor = stream.cursor()
        view = cursor.read(last_only=True)
        assert view is not None
        assert (view.index, len(view)) == (9, 1)
        with pytest.raises(IndexNoMoreThereError):
            view.get_data()
        with pytest.raises(EndOfStream):
            cursor.read()

    def test_iterating_a_stream_follows_it_to_the_seal(
        self, store: DataStore, reader: DataStore
    ) -> None:
        scan, stream = new_stream(store)
        copy = reader.load_scan(scan.key).streams["s"]
        with in_background(lambda: list(copy)) as future:
            for value in VALUES:
                stream.send(value)
            stream.seal()
            assert future.result(LONG_S) == VALUES.tolist()

    def test_iterating_a_cursor_gives_views_to_the_seal(
        self, store: DataStore, reader: DataStore
    ) -> None:
        scan, stream = new_stream(store)
        cursor = reader.load_scan(scan.key).streams["s"].cursor()
        with in_background(lambda: [view.get_data() for view in cursor]) as future:
            publish(stream, VALUES, 4, 4)
            stream.seal()
            np.testing.assert_array_equal(np.concatenate(future.result(LONG_S)), VALUES)

    # ------------------------------------------------------------------------------ cursor groups

    def test_a_group_returns_as_soon_as_one_stream_has_news(self, store: DataStore) -> None:
        scan = store.create_scan(IDENTITY)
        writers = {name: scan.create_stream(name, dtype=float) for name in "abc"}
        scan.prepare()
        group = CursorGroup(scan.streams)
        streams = scan.streams
        assert group.read(block=False) == {}
        assert group.read(timeout=SHORT_S) == {}
        publish(writers["b"], VALUES)
        views = group.read()
        assert list(views) == [streams["b"]]
        np.testing.assert_array_equal(views[streams["b"]].get_data(), VALUES)
        assert group.position == {streams["a"]: 0, streams["b"]: 10, streams["c"]: 0}

    def test_a_waiting_group_is_woken_and_never_returns_empty(
        self, store: DataStore, reader: DataStore
    ) -> None:
        scan = store.create_scan(IDENTITY)
        writers = {name: scan.create_stream(name, dtype=float) for name in "ab"}
        scan.prepare()
        group = CursorGroup(reader.load_scan(scan.key).streams.values())
        with in_background(group.read) as future:
            writers["a"].seal()  # an end alone is no news
            writers["b"].send(1.0)
            views = future.result(LONG_S)
            assert [stream.name for stream in views] == ["b"]
        with in_background(group.read) as future:
            writers["b"].seal()
            with pytest.raises(EndOfStream):
                future.result(LONG_S)
        assert sorted(group.position.values()) == [0, 1]

    def test_a_group_drops_streams_that_end(self, store: DataStore) -> None:
        scan = store.create_scan(IDENTITY)
        writers = {name: scan.create_stream(name, dtype=float) for name in "ab"}
        scan.prepare()
        streams = scan.streams
        group = CursorGroup(streams)
        for writer in writers.values():
            publish(writer, VALUES)
        writers["a"].seal()
        assert set(group.read()) == set(streams.values())
        publish(writers["b"], VALUES)
        assert set(group.read()) == {streams["b"]}
        assert group.read(block=False) == {}
        writers["b"].seal()
        for _ in range(2):
            with pytest.raises(EndOfStream):
                group.read()
        assert group.position == {streams["a"]: 10, streams["b"]: 20}

    def test_a_group_of_nothing_is_at_its_end(self) -> None:
        with pytest.raises(EndOfStream):
            CursorGroup([]).read(block=False)

    def test_a_group_can_jump_to_now(self, store: DataStore) -> None:
        scan = store.create_scan(IDENTITY)
        a, b = (scan.create_stream(name, dtype=float) for name in "ab")
        scan.prepare()
        group = CursorGroup(scan.streams)
        publish(a, VALUES, 5)
        views = group.read(block=False, last_only=True)
        assert {stream.name: view.get_data().tolist() for stream, view in views.items()} == {
            "a": [VALUES[9]]
        }
        publish(b, VALUES[:2])
        views = group.read(last_only=True)
        assert {stream.name: view.index for stream, view in views.items()} == {"b": 1}

    def test_one_stream_can_be_taken_out_of_a_group(self, store: DataStore) -> None:
        scan = store.create_scan(IDENTITY)
        a, b = (scan.create_stream(name, dtype=float) for name in "ab")
        scan.prepare()
        group = CursorGroup(scan.streams)
        publish(a, VALUES)
        publish(b, VALUES)
        del group._active_cursors[a.key]  # noqa: SLF001 — the name that clients touch
        assert [stream.name for stream in group.read()] == ["b"]

    # ------------------------------------------------------------------------------ writers

    def test_another_process_may_write_one_stream_of_a_scan(
        self, store: DataStore, reader: DataStore
    ) -> None:
        scan = store.create_scan(IDENTITY)
        scan.create_stream("s", dtype=float)
        with pytest.raises(KeyError):
            reader.load_scan(scan.key).get_writer_stream("s")
        scan.prepare()
        copy = reader.load_scan(scan.key)
        with pytest.raises(KeyError, match="nowhere"):
            copy.get_writer_stream("nowhere")
        writer = copy.get_writer_stream("s")
        writer.send(VALUES)
        writer.join()
        assert len(scan.streams["s"]) == 10
        again = copy.get_writer_stream("s")  # goes on where the stream ends
        again.send(VALUES)
        assert again.seal() == 20
        np.testing.assert_array_equal(scan.streams["s"][:], np.tile(VALUES, 2))

    def test_the_late_one_of_two_writers_is_told(
        self, store: DataStore, reader: DataStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        scan, late = new_stream(store)
        early = reader.load_scan(scan.key).get_writer_stream("s")
        publish(early, VALUES)
        late.send(-1.0)
        with pytest.raises(StreamConflictError, match="'s'"):
            late.join()
        with pytest.raises(StreamConflictError):
            late.send(-1.0)
        with caplog.at_level(logging.WARNING, "blissdata"):
            assert late.seal() == 10
        assert "Cannot publish into stream 's' due to index discrepancy" in caplog.text
        assert late.seal() == 10
        np.testing.assert_array_equal(scan.streams["s"][:], VALUES)

    def test_a_writer_that_sent_nothing_seals_what_another_wrote(
        self, store: DataStore, reader: DataStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        scan, idle = new_stream(store)
        publish(reader.load_scan(scan.key).get_writer_stream("s"), VALUES)
        with caplog.at_level(logging.WARNING, "blissdata"):
            assert idle.seal() == 10
        assert caplog.text == ""

    def test_a_writer_that_finds_the_stream_sealed_is_told(
        self, store: DataStore, reader: DataStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        scan, late = new_stream(store)
        early = reader.load_scan(scan.key).get_writer_stream("s")
        early.send(VALUES)
        early.seal()
        late.send(-1.0)
        with pytest.raises(StreamSealedError, match="'s'"):
            late.join()
        with caplog.at_level(logging.WARNING, "blissdata"):
            assert late.seal() == 10
        assert "Cannot publish into stream 's' due to index discrepancy" in caplog.text
        scan.stop()

    def test_two_writers_in_one_program_never_hang(self, store: DataStore) -> None:
        scan, first = new_stream(store)
        second = scan.get_writer_stream("s")
        outcomes: list[str] = []
        for value in range(50):
            first.send(float(value))
            if not outcomes:
                second.send(-1.0)
                try:
                    second.join()
                except StreamConflictError:
                    outcomes.append("conflict")
        for writer in (first, second):
            try:
                writer.join()
                outcomes.append("confirmed")
            except StreamConflictError:
                outcomes.append("conflict")
        assert "conflict" in outcomes
        assert first.seal() == second.seal() == len(scan.streams["s"])

    def test_a_full_server_delays_points_and_loses_none(
        self, store: DataStore, while_full: AbstractContextManager[None]
    ) -> None:
        _, stream = new_stream(store)
        publish(stream, VALUES[:5])
        with while_full:
            for value in VALUES[5:]:
                stream.send(value)
            assert len(stream) == 5
        assert stream.seal() == 10
        np.testing.assert_array_equal(stream[:], VALUES)

    def test_a_server_that_was_away_gets_every_point_once(
        self, store: DataStore, while_away: AbstractContextManager[None]
    ) -> None:
        _, stream = new_stream(store)
        publish(stream, VALUES[:5])
        with while_away:
            for value in VALUES[5:]:
                stream.send(value)
            with pytest.raises(StoreConnectionError):
                len(stream)
        assert stream.seal() == 10
        np.testing.assert_array_equal(stream[:], VALUES)

    def test_a_server_that_stays_full_is_reported_and_never_hangs(
        self, backend: Backend, while_full: AbstractContextManager[None]
    ) -> None:
        with DataStore(backend=self.second(backend), publish_timeout=0.1) as store:
            _, stream = new_stream(store)
            with while_full:
                stream.send(VALUES)
                with pytest.raises(PublishTimeoutError, match=r"'s'.*points 0 to 9"):
                    stream.join()
                with pytest.raises(PublishTimeoutError):
                    stream.send(1.0)
            assert stream.seal() == 0

    # ------------------------------------------------------------------------------ plugins

    def _scan_with_plugin(self, store: DataStore, plugin: str) -> str:
        """A prepared scan with two streams, one of them for a plugin; as another program would
        have made it, which has the plugin."""
        catalog = store.catalog
        document = document_for(catalog)
        encoding = json.loads(json.dumps(JsonStreamEncoder().info()))
        for name, info in (("plain", {}), ("special", {"plugin": plugin, "colour": "red"})):
            document.streams[name] = catalog.new_stream(document.pk, encoding, info)
        catalog.create(document)
        key = catalog.scan_key(document.pk)
        catalog.advance(key, 0, 1, document)
        return key

    def _check_stand_in(self, scan: Scan, error: type[Exception]) -> None:
        stream = scan.streams["special"]
        assert (stream.name, stream.plugin, stream.info["colour"]) == (
            "special",
            stream.info["plugin"],
            "red",
        )
        assert stream.key
        uses: Sequence[Callable[[], Any]] = [
            lambda: stream.dtype,
            lambda: stream.shape,
            lambda: len(stream),
            lambda: stream[0],
            lambda: stream.cursor().read(block=False),
            lambda: CursorGroup([stream]).read(block=False),
        ]
        for use in uses:
            with pytest.raises(error):
                use()
        assert scan.streams["plain"][:] == []
        assert Stream(stream.event_stream)[:] == []  # clients wrap anew

    def test_a_missing_plugin_leaves_a_stand_in(
        self, store: DataStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        scan = store.load_scan(self._scan_with_plugin(store, "no_such_plugin"))
        with caplog.at_level(logging.WARNING, "blissdata"):
            stream = scan.streams["special"]
        assert isinstance(stream, MissingPluginStream)
        assert "no_such_plugin" in caplog.text
        self._check_stand_in(scan, MissingPluginException)

    def test_a_broken_plugin_leaves_a_stand_in(
        self,
        store: DataStore,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        entry = EntryPoint("broken", "blissdata_no_such_module", "blissdata")
        monkeypatch.setattr("blissdata.streams.plugins._entry_points", lambda: {"broken": entry})
        scan = store.load_scan(self._scan_with_plugin(store, "broken"))
        with caplog.at_level(logging.WARNING, "blissdata"):
            stream = scan.streams["special"]
        assert isinstance(stream, BrokenPluginStream)
        assert not isinstance(stream, MissingPluginStream)
        assert "broken" in caplog.text
        self._check_stand_in(scan, ImportError)

    def test_a_missing_plugin_cannot_be_published_with(self, store: DataStore) -> None:
        scan = store.create_scan(IDENTITY)
        with pytest.raises(MissingPluginException, match="no_such_plugin"):
            scan.create_stream("s", dtype=float, plugin="no_such_plugin")
        scan.create_stream("s", dtype=float)  # the name is still free
        scan.prepare()
        assert list(scan.streams) == ["s"]


class UpkeepTests(BackendKit):
    """What keeps a server from filling up."""

    @pytest.fixture
    def upkeep(self, backend: Backend) -> Upkeep:
        """The server's upkeep."""
        return backend.upkeep

    # ------------------------------------------------------------------------------ streams

    def test_the_last_entry_of_each_stream(self, log: EventLog, upkeep: Upkeep) -> None:
        fill(log, "long", 1, 3, 2)
        fill(log, "single", 4)
        fill(log, "sealed", 2)
        seal(log, "sealed")
        seal(log, "empty")
        asked = ["long", "single", "sealed", "empty", "nothing"]
        assert upkeep.last_entries(asked) == {
            "long": 4,
            "single": 0,
            "sealed": MAX_INDEX,
            "empty": MAX_INDEX,
            "nothing": None,
        }
        assert upkeep.last_entries([]) == {}

    def test_what_keys_take_of_the_memory(self, log: EventLog, upkeep: Upkeep) -> None:
        """About: no less than what was sent as random bytes, and not twice as much."""
        payload = os.urandom(2**18)
        for index in range(4):
            assert isinstance(append(log, "large", index, batch(payload)), int)
        fill(log, "small", 1)
        sizes = upkeep.sizes(["small", "nothing", "large"])
        assert 2**20 <= sizes["large"] < 2**21
        assert 0 < sizes["small"] < 2**16
        assert sizes["nothing"] == 0
        assert upkeep.sizes([]) == {}

    def test_what_lies_in_front_of_an_entry_may_go(self, log: EventLog, upkeep: Upkeep) -> None:
        """A server may keep some of it, but never loses more."""
        entries = fill(log, "s", *[1] * 1000)
        outcome = upkeep.forget({"s": 700})["s"]
        assert isinstance(outcome, int)
        tail, left = everything(log, "s")
        assert tail == Tail(1000, False)
        assert left == entries[outcome:]
        assert 500 <= outcome <= 700

    def test_the_last_entry_stays(self, log: EventLog, upkeep: Upkeep) -> None:
        entries = fill(log, "many", *[1] * 300)
        fill(log, "one", 3)
        outcomes = upkeep.forget({"many": 299, "one": 0})
        assert outcomes["one"] == 0
        assert everything(log, "one")[1][0].end == 3
        tail, left = everything(log, "many")
        assert tail == Tail(300, False)
        assert left[-1] == entries[-1]

    def test_of_a_sealed_stream_all_goes_but_the_seal(self, log: EventLog, upkeep: Upkeep) -> None:
        fill(log, "s", 2, 3)
        seal(log, "s")
        assert upkeep.forget({"s": MAX_INDEX}) == {"s": 2}
        assert everything(log, "s") == (Tail(5, True), [])
        assert upkeep.forget({"s": MAX_INDEX}) == {"s": 0}

    def test_a_stream_that_is_not_there_costs_no_other(self, log: EventLog, upkeep: Upkeep) -> None:
        fill(log, "s", 1, 1)
        seal(log, "s")
        assert upkeep.forget({"nothing": 5, "s": MAX_INDEX, "none": MAX_INDEX}) == {
            "nothing": 0,
            "s": 2,
            "none": 0,
        }

    def test_a_full_server_forgets(
        self,
        log: EventLog,
        upkeep: Upkeep,
        catalog: Catalog,
        while_full: AbstractContextManager[None],
    ) -> None:
        fill(log, "s", 1, 1)
        seal(log, "s")
        key = new_scan(catalog)
        upkeep.record({"s": 1})
        with while_full:
            assert upkeep.last_entries(["s"]) == {"s": MAX_INDEX}
            with pytest.raises(ServerFullError):
                upkeep.record({"s": MAX_INDEX})
            assert upkeep.forget({"s": MAX_INDEX}) == {"s": 2}
            assert upkeep.forget_records(upkeep.records()[0].ident) == 1
            catalog.expire_many([key], 100)
            assert upkeep.candidate("work").leads(60)

    # ------------------------------------------------------------------------------ journal

    def test_the_journal_gives_what_was_recorded_oldest_first(self, upkeep: Upkeep) -> None:
        assert upkeep.records() == []
        assert upkeep.newest_record() is None
        before = time.time()
        idents = [upkeep.record({"s": i, "sealed": MAX_INDEX}) for i in range(5)]
        found = upkeep.records()
        assert [record.ident for record in found] == idents
        assert [record.ends for record in found] == [
            {"s": i, "sealed": MAX_INDEX} for i in range(5)
        ]
        assert all(abs(record.time - before) < 3600 for record in found)
        assert [record.time for record in found] == sorted(record.time for record in found)
        assert upkeep.newest_record() == idents[-1]
        assert upkeep.forget_records(idents[-1]) == 5
        assert upkeep.records() == []
        assert upkeep.newest_record() == idents[-1]

    def test_the_journal_is_read_in_parts(self, upkeep: Upkeep) -> None:
        idents = [upkeep.record({"s": i}) for i in range(5)]
        assert [r.ident for r in upkeep.records(count=2)] == idents[:2]
        assert [r.ident for r in upkeep.records(idents[1], 2)] == idents[2:4]
        assert [r.ident for r in upkeep.records(idents[3])] == idents[4:]
        assert upkeep.records(idents[4]) == []

    def test_records_that_are_used_up_are_forgotten(self, upkeep: Upkeep) -> None:
        idents = [upkeep.record({"s": i}) for i in range(5)]
        assert upkeep.forget_records(idents[2]) == 3
        assert [r.ident for r in upkeep.records()] == idents[3:]
        assert upkeep.forget_records(idents[2]) == 0
        later = upkeep.record({"s": 9})
        assert [r.ident for r in upkeep.records()] == [*idents[3:], later]

    # ------------------------------------------------------------------------------ scans

    def test_new_scans_of_every_prefix_are_announced(
        self, backend: Backend, upkeep: Upkeep, catalog: Catalog
    ) -> None:
        assert upkeep.announced("0-0") == ("0-0", [])
        other = backend.catalog("lab", FIELDS)
        keys = [new_scan(catalog), new_scan(other), new_scan(catalog)]
        since, found = upkeep.announced("0-0")
        assert found == keys
        assert since == catalog.timetag()
        assert upkeep.announced(since) == (since, [])
        later = new_scan(other)
        assert upkeep.announced(since)[1] == [later]

    def test_many_scans_expire_together(self, catalog: Catalog) -> None:
        keys = [new_scan(catalog) for _ in range(3)]
        catalog.expire_many(keys[:2], 1000)
        assert catalog.states(keys) == dict.fromkeys(keys, 0)
        catalog.expire_many([*keys[:2], catalog.scan_key(new_ulid())], DELETION_GRACE_S)
        assert catalog.states(keys) == {keys[0]: None, keys[1]: None, keys[2]: 0}
        catalog.expire_many([], 1000)
        assert catalog.sweep() >= 0
        assert catalog.find({})[1] == [keys[2]]

    # ------------------------------------------------------------------------------ candidates

    def test_of_several_candidates_one_leads(self, backend: Backend) -> None:
        other = self.second(backend)
        first = backend.upkeep.candidate("work")
        second = other.upkeep.candidate("work")
        elsewhere = other.upkeep.candidate("other work")
        try:
            assert first.leads(60)
            assert not second.leads(60)
            assert elsewhere.leads(60)
            assert first.leads(60)
            assert second.leads(-1)  # the other one has not asked for so long
            first.close()
            until(lambda: second.leads(60))  # the server notices the end of a connection by itself
            assert not first.leads(60)  # it comes back as the last one
            second.close()
            until(lambda: first.leads(60))
        finally:
            for candidate in (first, second, elsewhere):
                candidate.close()
            if other is not backend:
                other.close()


class PinTests(BackendKit):
    """What shall not be forgotten."""

    @pytest.fixture
    def scan(self, store: DataStore) -> Iterator[Scan]:
        """A scan with the streams `a` and `b`."""
        with suppress(ScanNotFoundError), store.create_scan(IDENTITY) as scan:
            for name in "ab":
                scan.create_stream(name, dtype=float)
            scan.prepare()
            yield scan

    def key(self, scan: Scan, name: str) -> str:
        """The key of one of its streams."""
        return scan.streams[name].key

    def test_a_pin_is_seen_by_all_with_its_positions(self, scan: Scan, reader: DataStore) -> None:
        assert reader.pins() == []
        with scan.pin("writer", {"b": 3}) as pin:
            assert (pin.name, pin.scan_key, pin.lasting) == ("writer", scan.key, False)
            (seen,) = reader.pins()
            assert (seen.name, seen.scan_key, seen.lasting) == ("writer", scan.key, False)
            assert seen.holder
            assert 0 <= seen.silence < LONG_S
            assert not seen.lapsed
            a, b = (self.key(scan, name) for name in "ab")
            assert seen.position(a) == 0
            assert seen.position(b) == 3
            assert seen.position("of a stream that comes later") == 0
            pin.move({"a": 5, "b": 1})
            pin.sync()
            (seen,) = reader.pins()
            assert (seen.position(a), seen.position(b)) == (5, 3)  # it never moves back
            assert pin.positions == {"a": 5, "b": 3}
        assert reader.pins() == []

    def test_a_move_arrives_by_itself(self, scan: Scan, reader: DataStore) -> None:
        with scan.pin("writer") as pin:
            for i in range(1000):
                pin.move({"a": i, "b": i + 1})
            key = self.key(scan, "b")
            deadline = time.monotonic() + LONG_S
            while reader.pins()[0].position(key) != 1000:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert reader.pins()[0].position(self.key(scan, "a")) == 999

    def test_a_pin_of_some_streams_holds_no_other(self, scan: Scan, reader: DataStore) -> None:
        a, b = (self.key(scan, name) for name in "ab")
        with scan.pin("peaks", streams=["a"]) as pin:
            (seen,) = reader.pins()
            assert (seen.position(a), seen.position(b)) == (0, None)
            pin.move({"b": 4})
            pin.sync()
            assert reader.pins()[0].position(b) == 4
        with scan.pin("peaks", {"b": 7}, streams=["a", "b"]):
            (seen,) = reader.pins()
            assert (seen.position(a), seen.position(b)) == (0, 7)

    def test_streams_and_pins_have_names_of_their_own(self, scan: Scan, reader: DataStore) -> None:
        with scan.pin("x") as one, scan.pin("y:{z}") as other:
            one.move({"a": 1})
            one.sync()
            other.move({"a": 2})
            other.sync()
            found = {pin.name: pin.position(self.key(scan, "a")) for pin in reader.pins()}
            assert found == {"x": 1, "y:{z}": 2}

    def test_who_comes_back_goes_on_where_it_was(self, scan: Scan, reader: DataStore) -> None:
        first = scan.pin("writer", lasting=True)
        first.move({"a": 8})
        first.sync()
        second = reader.load_scan(scan.key).pin("writer", {"b": 2}, lasting=True)
        assert second.positions == {"a": 8, "b": 2}
        with pytest.raises(PinGoneError, match="taken it over"):
            first.sync()
        with pytest.raises(PinGoneError, match="taken it over"):
            first.move({"a": 9})
        first.release()  # not its own any more
        assert [pin.name for pin in reader.pins()] == ["writer"]
        second.move({"a": 9})
        second.sync()
        second.release()
        second.release()
        assert reader.pins() == []
        with pytest.raises(PinGoneError, match="released"):
            second.move({"a": 10})

    def test_a_lasting_pin_outlives_a_failure_and_its_store(
        self, backend: Backend, scan: Scan, reader: DataStore
    ) -> None:
        with suppress(ZeroDivisionError), scan.pin("writer", lasting=True) as pin:
            pin.move({"a": 3})
            _ = 1 / 0
        with suppress(ZeroDivisionError), scan.pin("plot"):
            _ = 1 / 0
        scan.data_store.pin_keeper.close()  # as the store does
        (seen,) = reader.pins()
        assert (seen.name, seen.lasting, seen.lapsed) == ("writer", True, False)
        assert seen.position(self.key(scan, "a")) == 3
        assert reader.remove_pin(scan.key, "writer")
        assert not reader.remove_pin(scan.key, "writer")
        assert reader.pins() == []

    def test_a_holder_whose_pin_was_removed_is_told(self, scan: Scan, reader: DataStore) -> None:
        pin = scan.pin("writer")
        assert reader.remove_pin(scan.key, "writer")
        with pytest.raises(PinGoneError, match="removed"):
            pin.sync()
        pin.release()

    def test_what_is_lost_is_told_once(
        self, backend: Backend, scan: Scan, reader: DataStore
    ) -> None:
        a, b = (self.key(scan, name) for name in "ab")
        pin = scan.pin("writer", {"a": 2, "b": 9})
        (seen,) = reader.pins()
        for _ in range(2):  # a repeat changes nothing
            reader.backend.pins.lose({seen.key: {a: 5, b: 9}})
        with pytest.raises(PinBrokenError, match=r"a: 2 to 4"):
            pin.sync()
        assert pin.broken == {"a": [(2, 5)]}
        pin.move({"a": 6})
        pin.sync()
        reader.backend.pins.lose({seen.key: {a: 7}})
        reader.backend.pins.lose({seen.key: {a: 9}})
        with pytest.raises(PinBrokenError, match=r"a: 2 to 4, 6 to 8"):
            pin.sync()
        (seen,) = reader.pins()
        assert seen.lost == {a: ((2, 5), (6, 9))}
        assert (seen.position(a), seen.position(b)) == (9, 9)
        pin.release()
        reader.backend.pins.lose({seen.key: {a: 20}})  # nobody's any more
        assert reader.pins() == []

    def test_a_scan_that_is_gone_cannot_be_pinned(self, scan: Scan, reader: DataStore) -> None:
        pin = scan.pin("writer")
        reader.delete_scan(scan.key, force=True)
        with pytest.raises(ScanNotFoundError, match="pinned"):
            scan.pin("other")
        with pytest.raises(PinGoneError, match="deleted"):
            pin.sync()
        pin.release()
        assert reader.pins() == []

    def test_a_scan_that_is_to_expire_stays_while_it_is_pinned(
        self, backend: Backend, catalog: Catalog, scan: Scan
    ) -> None:
        stream = scan.get_writer_stream("a")
        stream.send(1.0)
        stream.join()
        catalog.expire(scan.key, DELETION_GRACE_S + 1)
        pin = scan.pin("writer")
        catalog.expire(scan.key, 10_000)  # only shortens: it has no end any more
        assert catalog.states([scan.key]) == {scan.key: 1}
        client = backend.client
        for key in catalog.keys_of(catalog.load(scan.key).document) if client else []:
            assert not client.exists(key) or client.ttl(key) > DELETION_GRACE_S + 1
        pin.release()

    @pytest.mark.parametrize("name", ["", "x" * 101, 7])
    def test_a_pin_has_a_name(self, scan: Scan, name: Any) -> None:
        with pytest.raises(ValueError, match="name"):
            scan.pin(name)

    def test_streams_and_indices_are_checked(self, scan: Scan, reader: DataStore) -> None:
        for wrong in ({"positions": {"c": 1}}, {"streams": ["c"]}):
            with pytest.raises(KeyError, match="no stream 'c', only: a, b"):
                scan.pin("writer", **wrong)
        with pytest.raises(ValueError, match="index 0"):
            scan.pin("writer", {"a": -1})
        assert reader.pins() == []
        with scan.pin("writer") as pin:
            with pytest.raises(KeyError, match="no stream 'c'"):
                pin.move({"a": 1, "c": 1})
            with pytest.raises(TypeError):
                pin.move({"a": 1.5})  # type: ignore[dict-item]
            assert pin.positions == {}

    def test_a_full_server_takes_moves_and_releases(
        self,
        scan: Scan,
        reader: DataStore,
        while_full: AbstractContextManager[None],
    ) -> None:
        a = self.key(scan, "a")
        with while_full:
            pin = scan.pin("writer")
            pin.move({"a": 4})
            pin.sync()
            assert reader.pins()[0].position(a) == 4
            reader.backend.pins.lose({reader.pins()[0].key: {a: 6}})
            reader.backend.pins.tell({"x": "y"}, 60)
            with pytest.raises(PinBrokenError):
                pin.sync()
            pin.release()
            assert reader.pins() == []

    def test_what_could_not_be_told_is_told_later(
        self, scan: Scan, reader: DataStore, while_away: AbstractContextManager[None]
    ) -> None:
        pin = scan.pin("writer")
        with while_away:
            pin.move({"a": 4})
            with pytest.raises(StoreConnectionError):
                pin.sync()
        pin.sync()
        assert reader.pins()[0].position(self.key(scan, "a")) == 4
        pin.release()

    def test_the_tracker_says_what_it_does_for_a_while(self, backend: Backend) -> None:
        assert backend.pins.told() == {}
        backend.pins.tell({"one": "1", "two": "2"}, 60)
        backend.pins.tell({"one": "3"}, 60)
        assert self.second(backend).pins.told() == {"one": "3"}
        backend.pins.tell({"one": "4"}, 0.001)
        deadline = time.monotonic() + LONG_S
        while backend.pins.told():
            assert time.monotonic() < deadline

    def test_the_file_writer_says_something_of_its_own(self, backend: Backend) -> None:
        backend.pins.tell({"one": "1"}, 60, "writer")
        backend.pins.tell({"one": "2"}, 60)
        assert self.second(backend).pins.told("writer") == {"one": "1"}


class BackendTests(
    EventLogTests, CatalogTests, ServerTests, UpkeepTests, PinTests, ScanTests, StreamTests
):
    """The whole contract. Subclass it, and give a fixture `backend`; see the module's docstring."""
