"""Cursors that wait, and what they are told when waiting is in vain.

| what happens                       | cursor                  | group                         |
| ---------------------------------- | ----------------------- | ----------------------------- |
| a point, the seal                  | woken by the server     | woken; only streams with news |
| nothing                            | None when the time is up| {}                            |
| scan closed, stream never sealed   | `StreamAbandonedError`  | dropped, then `EndOfStream`   |
| scan deleted                       | `StreamVanishedError`   | the same                      |
| server restarted from an old state | `StreamRewoundError`    | the same                      |
| Ctrl-C                             | leaves, store usable    | the same                      |

A reader that waits sits in a thread; nothing here sleeps.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from blissdata import DataStore, ScanState
from blissdata.exceptions import (
    EndOfStream,
    IndexNoMoreThereError,
    StoreConnectionError,
    StreamAbandonedError,
    StreamRewoundError,
    StreamVanishedError,
)
from blissdata.streams import Cursor, CursorGroup
from blissdata.streams.encoding import EncodedBatch
from blissdata.streams.event_log import AppendRequest, SealRequest
from blissdata.testing.servers import TestServer

IDENTITY = {"name": "cursor", "number": 1, "data_policy": "none"}
LONG_S = 30.0


@pytest.fixture
def scan(store):
    scan = store.create_scan(IDENTITY)
    for name in "ab":
        scan.create_stream(name, dtype="int64")
    scan.create_stream("j", dtype="json")
    scan.prepare()
    return scan


@pytest.fixture
def reader(store, scan):
    return store.load_scan(scan.key)


@pytest.fixture
def background():
    """Calls a function in a thread."""
    with ThreadPoolExecutor(4, "reader") as pool:
        yield pool.submit


def put(store: DataStore, stream: Any, start: int, stop: int) -> None:
    """Points with their own index as value, in one entry, straight into the log."""
    payload = np.arange(start, stop, dtype="int64").tobytes()
    request = AppendRequest(start, (EncodedBatch(payload, stop - start),))
    assert store.event_log.append({stream.key: request}) == {stream.key: stop}


def waiting_in(store: DataStore, monkeypatch) -> threading.Event:
    """Set when somebody begins to wait on the server."""
    waits = threading.Event()
    read = type(store.event_log).read

    def watched(self, positions, *, wait=0.0, **limits):
        if wait > 0:
            waits.set()
        return read(self, positions, wait=wait, **limits)

    monkeypatch.setattr(type(store.event_log), "read", watched)
    return waits


# ---------------------------------------------------------------------------------- woken up


@pytest.mark.parametrize("last_only", [False, True], ids=["all", "last_only"])
def test_a_point_wakes_a_cursor(store, scan, reader, background, monkeypatch, last_only):
    waits = waiting_in(store, monkeypatch)
    future = background(reader.streams["a"].cursor().read, last_only=last_only)
    assert waits.wait(LONG_S)
    put(store, reader.streams["a"], 0, 3)
    view = future.result(LONG_S)
    assert list(view) == ([2] if last_only else [0, 1, 2])


@pytest.mark.parametrize("last_only", [False, True], ids=["all", "last_only"])
def test_the_seal_wakes_a_cursor(store, scan, reader, background, monkeypatch, last_only):
    waits = waiting_in(store, monkeypatch)
    cursor = reader.streams["a"].cursor()
    future = background(cursor.read, last_only=last_only)
    assert waits.wait(LONG_S)
    assert scan.get_writer_stream("a").seal() == 0
    with pytest.raises(EndOfStream):
        future.result(LONG_S)
    with pytest.raises(EndOfStream):
        cursor.read(block=False)


@pytest.mark.parametrize("last_only", [False, True], ids=["all", "last_only"])
def test_a_point_of_one_stream_wakes_a_group(
    store, scan, reader, background, monkeypatch, last_only
):
    waits = waiting_in(store, monkeypatch)
    group = CursorGroup(reader.streams)
    future = background(group.read, last_only=last_only)
    assert waits.wait(LONG_S)
    put(store, reader.streams["b"], 0, 2)
    views = future.result(LONG_S)
    assert [stream.name for stream in views] == ["b"]
    assert list(views[reader.streams["b"]]) == ([1] if last_only else [0, 1])


def test_the_last_seal_wakes_a_group(store, scan, reader, background, monkeypatch):
    waits = waiting_in(store, monkeypatch)
    group = CursorGroup(reader.streams)
    future = background(group.read)
    assert waits.wait(LONG_S)
    assert not group.ended
    scan.close()
    with pytest.raises(EndOfStream):
        future.result(LONG_S)
    assert group.ended


def test_a_seal_wakes_who_waits_for_it(store, scan, reader, background, monkeypatch):
    waits = waiting_in(store, monkeypatch)
    future = background(reader.streams["a"].wait_seal)
    assert waits.wait(LONG_S)
    put(store, reader.streams["a"], 0, 2)
    scan.get_writer_stream("a").seal()
    assert future.result(LONG_S) is True


def test_iteration_follows_to_the_seal(store, scan, reader, background):
    future = background(lambda: [list(view) for view in reader.streams["a"].cursor()])
    points = background(lambda: list(reader.streams["a"]))
    writer = scan.get_writer_stream("a")
    for i in range(200):
        writer.send(i)
    writer.seal()
    assert [i for view in future.result(LONG_S) for i in view] == list(range(200))
    assert points.result(LONG_S) == list(range(200))


def test_many_readers_at_their_own_speed_get_the_same(store, scan, reader, background):
    def follow(stream: Any, size: int) -> list[int]:
        cursor, found = stream.cursor(), []
        while True:
            try:
                view = cursor.read()
            except EndOfStream:
                return found
            found += view.get_data(0, size).tolist() + view.get_data(size).tolist()

    futures = [background(follow, reader.streams["a"], size) for size in (1, 7, 10**6)]
    writer = scan.get_writer_stream("a")
    for i in range(300):
        writer.send(i)
        if i % 50 == 0:
            writer.join()
    writer.seal()
    assert [f.result(LONG_S) for f in futures] == [list(range(300))] * 3


# ---------------------------------------------------------------------------------- time is up


@pytest.mark.parametrize("last_only", [False, True], ids=["all", "last_only"])
@pytest.mark.parametrize(
    "arguments", [{"block": False}, {"timeout": 1e-5}, {"timeout": 0.01}], ids=str
)
def test_without_news_a_read_gives_nothing(reader, arguments, last_only):
    assert reader.streams["a"].cursor().read(**arguments, last_only=last_only) is None
    assert CursorGroup(reader.streams).read(**arguments, last_only=last_only) == {}
    assert reader.streams["a"].wait_seal(timeout=0.01) is False


def test_a_negative_timeout_is_refused(reader):
    with pytest.raises(ValueError, match="timeout"):
        reader.streams["a"].cursor().read(timeout=-1)
    with pytest.raises(ValueError, match="timeout"):
        CursorGroup(reader.streams).read(timeout=-1)


def test_a_group_of_nothing_is_at_its_end():
    for nothing in ([], {}):
        with pytest.raises(EndOfStream):
            CursorGroup(nothing).read()


def test_a_blocking_read_never_returns_empty(store, scan, reader, background, monkeypatch):
    """… also when one of its streams ends without a point while it waits."""
    waits = waiting_in(store, monkeypatch)
    group = CursorGroup([reader.streams["a"], reader.streams["b"]])
    future = background(group.read)
    assert waits.wait(LONG_S)
    waits.clear()
    scan.get_writer_stream("a").seal()
    assert waits.wait(LONG_S)
    assert not future.done()
    put(store, reader.streams["b"], 0, 1)
    assert [s.name for s in future.result(LONG_S)] == ["b"]
    assert group.position == {reader.streams["a"]: 0, reader.streams["b"]: 1}


def test_a_stream_can_be_dropped_from_a_group(store, reader):
    group = CursorGroup(reader.streams)
    del group._active_cursors[reader.streams["a"].key]
    put(store, reader.streams["a"], 0, 1)
    put(store, reader.streams["b"], 0, 1)
    assert [s.name for s in group.read()] == ["b"]


def indices(views: Any) -> dict[str, list[int]]:
    """What a read of a group gave."""
    return {stream.name: list(view.get_data()) for stream, view in views.items()}


def test_a_group_reads_what_was_asked_for_ahead_and_then_what_came_since(store, reader):
    a, b = reader.streams["a"], reader.streams["b"]
    one, other = CursorGroup([a]), CursorGroup([b])
    put(store, a, 0, 3)
    put(store, b, 0, 2)
    with store.event_log.ahead() as ahead:
        one.ask(ahead)
        other.ask(ahead)
        other.ask(ahead)  # is asked already
        put(store, a, 3, 5)
        assert indices(other.read(block=False)) == {"b": [0, 1]}
        found = indices(one.read(block=False))["a"]
        while len(found) < 5:
            found += indices(one.read(block=False))["a"]
        assert found == [0, 1, 2, 3, 4]
        one.ask(ahead)
        assert one.read(block=False) == {}
        one.ask(ahead)
        put(store, a, 5, 6)
        assert indices(one.read(timeout=LONG_S)) == {"a": [5]}
        one.ask(ahead)
        put(store, a, 6, 7)
        assert indices(one.read(last_only=True)) == {"a": [6]}
    assert one.position == {a: 7}
    assert one.read(block=False) == {}


def test_what_is_asked_for_ahead_is_read_all_the_same_if_that_ends_before(store, reader):
    group = CursorGroup(reader.streams)
    put(store, reader.streams["a"], 0, 3)
    with store.event_log.ahead() as ahead:
        group.ask(ahead)
    assert indices(group.read(block=False)) == {"a": [0, 1, 2]}


def test_a_group_that_lost_a_stream_reads_the_others_anew(store, reader):
    group = CursorGroup([reader.streams["a"], reader.streams["b"]])
    put(store, reader.streams["a"], 0, 3)
    put(store, reader.streams["b"], 0, 3)
    with store.event_log.ahead() as ahead:
        group.ask(ahead)
        del group._active_cursors[reader.streams["a"].key]
        assert indices(group.read(block=False)) == {"b": [0, 1, 2]}


def test_streams_that_end_are_told_by_what_was_asked_for_ahead(store, scan, reader):
    group = CursorGroup([reader.streams["a"], reader.streams["b"]])
    put(store, reader.streams["a"], 0, 3)
    store.event_log.seal({reader.streams[name].key: SealRequest() for name in "ab"})
    with store.event_log.ahead() as ahead:
        group.ask(ahead)
        assert indices(group.read()) == {"a": [0, 1, 2]}
        assert group.ended
        group.ask(ahead)
        with pytest.raises(EndOfStream):
            group.read()


def test_a_server_that_is_lost_meanwhile_is_told_by_the_read():
    with TestServer() as server, DataStore(server.url, init_db=True) as store:
        scan = store.create_scan(IDENTITY)
        stream = scan.create_stream("a", dtype="int64")
        scan.prepare()
        group = CursorGroup([stream])
        with store.event_log.ahead() as ahead:
            server.pause()
            group.ask(ahead)
            server.kill()
            with pytest.raises(StoreConnectionError):
                group.read(block=False)
            group.ask(ahead)  # says nothing
            with pytest.raises(StoreConnectionError):
                group.read(block=False)
        server.start()  # the publisher and its sign of life are there for the end


def test_readers_of_two_stores_do_not_fit_into_a_group(reader, server):
    with DataStore(server.url, init_db=not is_prepared(server)) as other:
        scan = other.create_scan(IDENTITY)
        scan.create_stream("x", dtype="int64")
        scan.prepare()
        with pytest.raises(ValueError, match="one store"):
            CursorGroup([reader.streams["a"], scan.streams["x"]])


def is_prepared(server) -> bool:
    with server.client() as client:
        return bool(client.exists("_PROTOCOL_VERSION_"))


# ---------------------------------------------------------------------------------- nobody comes

READS: dict[str, Callable[[Any], Any]] = {
    "waiting": lambda reader: reader.read(),
    "waiting a little at a time": lambda reader: reader.read(timeout=0.001),
    "asking again and again": lambda reader: reader.read(block=False),
    "waiting for the newest": lambda reader: reader.read(last_only=True),
    "asking for the newest": lambda reader: reader.read(block=False, last_only=True),
}


def until_it_raises(read: Callable[[], Any]) -> None:
    """Reads until that raises, or for a long time."""
    deadline = time.monotonic() + LONG_S
    while time.monotonic() < deadline:
        assert not read(), "there are points where there should be none"
    pytest.fail("the reader was never told")


def close_without_sealing(store: DataStore, key: str) -> None:
    loaded = store.catalog.load(key)
    store.catalog.advance(key, loaded.state, ScanState.CLOSED, loaded.document)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_closed_scan_without_seal_is_not_waited_for(store, scan, reader, impatient, read):
    put(store, reader.streams["a"], 0, 3)
    cursor = reader.streams["a"].cursor()
    assert list(cursor.read()) == [0, 1, 2]
    close_without_sealing(store, scan.key)
    with pytest.raises(StreamAbandonedError, match="'a'"):
        until_it_raises(lambda: read(cursor))
    with pytest.raises(EndOfStream):
        cursor.read()


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_group_drops_streams_that_nobody_seals(store, scan, reader, impatient, read):
    group = CursorGroup(reader.streams)
    put(store, reader.streams["a"], 0, 3)
    assert [s.name for s in group.read()] == ["a"]
    close_without_sealing(store, scan.key)
    with pytest.raises(EndOfStream):
        until_it_raises(lambda: read(group))


def test_points_of_an_abandoned_stream_are_read_first(store, scan, reader, impatient):
    put(store, reader.streams["a"], 0, 3)
    close_without_sealing(store, scan.key)
    views = reader.streams["a"].cursor()
    assert list(next(iter(views))) == [0, 1, 2]
    with pytest.raises(StreamAbandonedError):
        list(views)


def test_a_seal_that_never_comes_is_not_waited_for(store, scan, reader, impatient):
    close_without_sealing(store, scan.key)
    with pytest.raises(StreamAbandonedError, match="'a'"):
        reader.streams["a"].wait_seal()


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("make", [Cursor, lambda s: CursorGroup([s])], ids=["cursor", "group"])
def test_a_deleted_scan_is_not_waited_for(store, scan, reader, impatient, read, make):
    put(store, reader.streams["a"], 0, 3)
    reading = make(reader.streams["a"])
    assert reading.read()
    store.catalog.expire(scan.key, 1)  # deleted by somebody who did not seal
    with pytest.raises(StreamVanishedError, match="deleted"):
        until_it_raises(lambda: read(reading))


def test_a_running_scan_is_waited_for(store, scan, reader, impatient, background, monkeypatch):
    looked = threading.Semaphore(0)
    scan_lives = DataStore.scan_lives

    def counted(self, keys):
        looked.release()
        return scan_lives(self, keys)

    monkeypatch.setattr(DataStore, "scan_lives", counted)
    future = background(reader.streams["a"].cursor().read)
    for _ in range(4):
        assert looked.acquire(timeout=LONG_S)
    assert not future.done()
    put(store, reader.streams["a"], 0, 1)
    assert list(future.result(LONG_S)) == [0]


# ---------------------------------------------------------------------------------- rewound


def rewind(store: DataStore, stream: Any, length: int) -> None:
    """The stream as a server has it that was restarted from an older state."""
    if store._redis is None:
        stored = store.backend.streams[stream.key]
        stored.entries = [e for e in stored.entries if e.end <= length]
        stored.end = length
    else:
        kept = store._redis.xrange(stream.key, "-", f"({length}-0")
        store._redis.delete(stream.key)
        for ident, fields in kept:
            store._redis.xadd(stream.key, fields, id=ident)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("make", [Cursor, lambda s: CursorGroup([s])], ids=["cursor", "group"])
def test_a_reader_beyond_the_end_is_told(store, scan, reader, impatient, read, make):
    stream = reader.streams["a"]
    for i in range(4):
        put(store, stream, i, i + 1)
    reading = make(stream)
    assert reading.read()
    rewind(store, stream, 2)
    with pytest.raises(StreamRewoundError, match=r"4 points were read.* only 2"):
        until_it_raises(lambda: read(reading))


def test_other_points_under_the_same_indices_are_not_given(store, scan, reader):
    stream = reader.streams["a"]
    for i in range(4):
        put(store, stream, i, i + 1)
    cursor = stream.cursor()
    assert list(cursor.read()) == [0, 1, 2, 3]
    rewind(store, stream, 2)
    put(store, stream, 2, 7)  # one entry over the place where the cursor stands
    put(store, stream, 7, 9)
    with pytest.raises(StreamRewoundError, match="index 4"):
        cursor.read()


def test_a_seal_in_front_of_the_reader_is_told(store, scan, reader):
    stream = reader.streams["a"]
    for i in range(4):
        put(store, stream, i, i + 1)
    cursor = stream.cursor()
    assert list(cursor.read()) == [0, 1, 2, 3]
    rewind(store, stream, 2)
    assert scan.get_writer_stream("a").seal() == 2
    for last_only in (False, True):
        with pytest.raises(StreamRewoundError, match="4 points were read"):
            cursor.read(last_only=last_only)


def test_points_that_were_trimmed_are_a_gap_and_no_rewinding(store, scan, reader):
    stream = reader.streams["a"]
    cursor = stream.cursor()
    put(store, stream, 0, 2)
    assert list(cursor.read()) == [0, 1]
    for i in range(2, 6):
        put(store, stream, i, i + 1)
    store.event_log.trim({stream.key: 5})
    view = cursor.read()
    assert (view.index, len(view)) == (2, 4)
    assert view.get_data(3).tolist() == [5]
    with pytest.raises(IndexNoMoreThereError, match="points 2 to 4"):
        view.get_data()


# ---------------------------------------------------------------------------------- one of many


def test_trouble_in_one_stream_does_not_cost_the_others(store, scan, reader, impatient):
    """… neither their points nor their end."""
    good, bad = reader.streams["a"], reader.streams["b"]
    group = CursorGroup([bad, good])
    put(store, good, 0, 2)
    request = AppendRequest(0, (EncodedBatch(b"half"),))
    store.event_log.append({bad.key: request})
    found, errors = [], 0
    for i in range(2, 8):
        try:
            found += [p for s, view in group.read().items() for p in view]
        except ValueError as error:
            errors += 1
            assert "'b'" in str(error)  # noqa: PT017 — trouble and points take turns
        put(store, good, i, i + 1)
    assert errors
    assert found == list(range(len(found)))
    assert len(found) >= 4
    assert group.position[bad] == 0


def test_a_point_that_comes_between_two_looks_is_not_called_gone(store, reader, monkeypatch):
    stream = reader.streams["a"]
    holding = type(store.event_log).holding

    def late(self, key, index, nbytes):
        found = holding(self, key, index, nbytes)
        if found is None:
            put(store, stream, 0, 1)
        return found

    monkeypatch.setattr(type(store.event_log), "holding", late)
    assert stream[0] == 0


# ---------------------------------------------------------------------------------- Ctrl-C


@pytest.fixture
def ctrl_c():
    """Ctrl-C works, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "wait",
    [
        lambda scan: scan.streams["a"].cursor().read(),
        lambda scan: scan.streams["a"].cursor().read(last_only=True),
        lambda scan: CursorGroup(scan.streams).read(),
        lambda scan: scan.streams["a"].wait_seal(),
        lambda scan: list(scan.streams["a"]),
        lambda scan: scan.update(),
        lambda scan: scan._data_store.get_next_scan(),
    ],
    ids=["read", "last_only", "group", "wait_seal", "iteration", "update", "next scan"],
)
def test_ctrl_c_leaves_a_usable_store(store, scan, reader, ctrl_c, wait):
    in_the_wait = waits_in_memory if store._redis is None else waits_on_the_server
    done = threading.Event()

    def interrupt() -> None:
        in_the_wait(store)
        if not done.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            wait(reader)
    finally:
        done.set()
        thread.join()

    put(store, reader.streams["a"], 0, 3)
    assert reader.streams["a"][:].tolist() == [0, 1, 2]
    scan.close()
    assert reader.update()
    assert list(reader.streams["a"]) == [0, 1, 2]


def waits_on_the_server(store: DataStore) -> None:
    """Returns when a client is blocked on the server."""
    until(lambda: store._redis.info("clients")["blocked_clients"] > 0)


def waits_in_memory(store: DataStore) -> None:
    """Returns when somebody waits for a change."""
    until(lambda: store.backend.changed._waiters)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)


def test_a_group_goes_on_with_the_entry_that_its_reader_was_in(scan, reader):
    for name in "ab":
        writer = scan.get_writer_stream(name)
        for start in (0, 10):
            writer.send(np.arange(start, start + 10))
            writer.join()
    a, b = (reader.streams[name] for name in "ab")
    for index, first in ((17, 10), (10, 10), (7, 0), (0, 0)):
        view = CursorGroup([a, b], begin_at={a.key: index}).read()[a]
        assert (view.index, view.get_data().tolist()) == (first, list(range(first, 20)))
    group = CursorGroup([a, b], begin_at={a.key: 20, b.key: 20})
    assert group.read(block=False) == {}
    scan.get_writer_stream("a").send(np.int64(20))
    assert {stream.name: view.index for stream, view in group.read().items()} == {"a": 20}
