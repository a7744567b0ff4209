"""Where the points of streams are, asked of a server; and who waits until they are there.

| asked for             | ends with                                                        |
| --------------------- | ---------------------------------------------------------------- |
| what is there         | at once, with the availability                                   |
| what is published     | woken by the server                                              |
| what comes too late   | `DataTimeoutError`                                               |
| behind the seal       | `IndexWontBeThereError`                                          |
| what was trimmed      | `IndexNoMoreThereError`                                          |
| of a deleted scan     | `StreamVanishedError`                                            |
| of a scan left behind | `StreamAbandonedError`, `PublisherLostError`                     |

Files are in `test_hdf5_fallback.py`. A reader that waits sits in a thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from blissdata import DataStore, Scan
from blissdata.exceptions import (
    DataTimeoutError,
    IndexNoMoreThereError,
    IndexWontBeThereError,
    MissingPluginException,
    StreamAbandonedError,
    StreamVanishedError,
)
from blissdata.streams import BaseStream, Place, Ranges, availability_of, where
from blissdata.streams.default import Stream
from blissdata.streams.encoding import EncodedBatch
from blissdata.streams.event_log import AppendRequest
from blissdata.streams.plugins import _entry_points
from blissdata.streams.scan_sequence import ScanStream

IDENTITY = {"name": "where", "number": 1, "data_policy": "none"}
LONG_S = 30.0


def between(start: int, stop: int) -> Ranges:
    return Ranges.between(start, stop)


@pytest.fixture
def scan(store: DataStore) -> Iterator[Scan]:
    scan = store.create_scan(IDENTITY)
    for name in "abc":
        scan.create_stream(name, dtype="int64")
    scan.prepare()
    yield scan
    store.delete_scan(scan.key, force=True)


@pytest.fixture
def reader(store: DataStore, scan: Scan) -> Scan:
    return store.load_scan(scan.key)


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4, "waiting") as pool:
        yield pool


def publish(scan: Scan, name: str, *entries: int) -> None:
    """Entries of so many points each."""
    stream = scan.get_writer_stream(name)
    for count in entries:
        first = len(stream)
        stream.send(np.arange(first, first + count))
        stream.join()


def trim(store: DataStore, scan: Scan, **indices: int) -> None:
    keys = {scan.streams[name].key: index for name, index in indices.items()}
    outcomes = store.event_log.trim(keys)
    assert all(isinstance(outcome, int) for outcome in outcomes.values())


# ------------------------------------------------------------------------------ asking


def test_points_are_in_memory_until_they_are_trimmed(
    store: DataStore, scan: Scan, reader: Scan
) -> None:
    stream = reader.streams["a"]
    found = stream.availability()
    assert (found.name, found.key) == ("a", stream.key)
    assert (found.length, found.sealed, found.readable) == (0, False, between(0, 0))
    publish(scan, "a", 2, 3, 1, 4)
    assert stream.availability().memory == between(0, 10)
    trim(store, scan, a=6)
    found = stream.availability()
    assert (found.memory, found.gone, found.length) == (between(6, 10), between(0, 6), 10)
    for index in range(10):
        if index in found.memory:
            assert stream[index] == index
        else:
            with pytest.raises(IndexNoMoreThereError):
                stream[index]


def test_of_a_sealed_stream_nothing_may_be_left(store: DataStore, scan: Scan, reader: Scan) -> None:
    publish(scan, "a", 2, 3)
    scan.close()
    trim(store, scan, a=5)
    found = reader.streams["a"].availability()
    assert (found.length, found.sealed) == (5, True)
    assert (found.memory, found.gone) == (between(0, 0), between(0, 5))
    assert found.where(5) == "never"


def test_all_streams_of_a_scan_are_asked_at_once(
    store: DataStore, scan: Scan, reader: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(scan, "a", 3)
    publish(scan, "b", 1, 1)
    publish(scan, "c", 1)
    calls: list[int] = []
    really = store.event_log.bounds

    def counting(keys: Any) -> Any:
        calls.append(len(keys))
        return really(keys)

    monkeypatch.setattr(store.event_log, "bounds", counting)
    found = reader.availability()
    assert calls == [3]
    assert {name: one.memory for name, one in found.items()} == {
        "a": between(0, 3),
        "b": between(0, 2),
        "c": between(0, 1),
    }
    assert json.loads(json.dumps([one.as_json() for one in found.values()]))[1]["memory"] == [
        [0, 2]
    ]


def test_streams_of_several_stores_may_be_asked_together(
    store: DataStore, scan: Scan, reader: Scan
) -> None:
    from blissdata.testing import MemoryBackend

    backend = MemoryBackend()
    backend.initialise()
    publish(scan, "a", 3)
    with DataStore(backend=backend) as other, other.create_scan(IDENTITY) as second:
        elsewhere = second.create_stream("x", dtype="int64")
        elsewhere.send(np.arange(5))
        elsewhere.join()
        here = reader.streams["a"]
        found = availability_of([elsewhere, here])
    assert [found[elsewhere].length, found[here].length] == [5, 3]
    assert availability_of([]) == {}


def test_before_it_is_prepared_a_scan_has_no_streams_to_ask(store: DataStore) -> None:
    with store.create_scan(IDENTITY) as scan:
        assert scan.availability() == {}


def test_the_publisher_may_ask_as_well(scan: Scan) -> None:
    stream = scan.get_writer_stream("a")
    stream.send(np.arange(3))
    stream.join()
    assert stream.availability().memory == between(0, 3)


def test_a_deleted_scan_is_said(store: DataStore) -> None:
    scan = store.create_scan(IDENTITY)
    scan.create_stream("a", dtype="int64")
    scan.prepare()
    reader = store.load_scan(scan.key)
    store.delete_scan(scan.key, force=True)
    # The stream may be on the server for some seconds; what it says then is the truth as well.
    found = reader.availability()["a"]
    assert found.length == 0
    if found.problem is None:
        assert found.sealed
    else:
        assert "deleted" in found.problem


def test_a_stream_that_expired_before_its_scan_is_said(store: DataStore, scan: Scan) -> None:
    scan._writers.clear()  # nobody seals its streams
    scan.close()
    found = store.load_scan(scan.key).availability()["a"]
    assert found.problem is not None
    assert "nobody ever sealed it" in found.problem


# ------------------------------------------------------------------------------ other plugins


class Silent(BaseStream):
    """A plugin as it was written for 2.x: it knows nothing of places. Two points an event."""

    kind = "array"
    plugin = "silent"
    dtype = np.dtype("int64")
    shape = ()
    make_definition = staticmethod(Stream.make_definition)

    def __len__(self) -> int:
        return 2 * len(self.event_stream)

    def __getitem__(self, key: Any) -> Any:
        raise NotImplementedError

    def _need_last_only(self, last_only: bool) -> bool:
        return last_only

    def _build_view_from_events(self, index: int, events: Any, last_only: bool) -> Any:
        raise NotImplementedError


class Elsewhere(Stream):
    """A plugin that builds on the plain stream and reads old points from a place of its own."""

    plugin = "elsewhere"  # type: ignore[assignment]


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cls in (("silent", Silent), ("elsewhere", Elsewhere)):
        module = ModuleType(name)
        module.stream_cls = cls  # type: ignore[attr-defined]
        entry = type("Entry", (), {"load": lambda self, module=module: module})()
        monkeypatch.setitem(_entry_points(), name, entry)


@pytest.fixture
def mixed(store: DataStore, plugins: None) -> Iterator[Scan]:
    scan = store.create_scan(IDENTITY)
    scan.create_stream("plain", dtype="int64")
    scan.create_stream("silent", dtype="int64", plugin="silent")
    scan.create_stream("elsewhere", dtype="int64", plugin="elsewhere")
    document = scan._document
    encoding = document.streams["plain"].encoding
    document.streams["missing"] = store.catalog.new_stream(
        document.pk, encoding, {"plugin": "nobody's"}
    )
    scan.prepare()
    for name in ("plain", "silent", "elsewhere"):
        publish(scan, name, 1, 1, 1)
    yield scan
    store.delete_scan(scan.key, force=True)


def test_plugins_that_tell_nothing_of_places_still_work(store: DataStore, mixed: Scan) -> None:
    trim(store, mixed, elsewhere=2)
    found = store.load_scan(mixed.key).availability()
    assert (found["plain"].memory, found["plain"].unknown) == (between(0, 3), between(0, 0))
    assert (found["silent"].length, found["silent"].unknown) == (6, between(0, 6))
    assert found["silent"].gone == between(0, 0)
    assert (found["elsewhere"].memory, found["elsewhere"].unknown) == (between(2, 3), between(0, 2))


def test_a_plugin_that_takes_long_to_count_its_points_is_not_asked_often(
    store: DataStore, mixed: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def slow(self: Silent) -> int:
        asked.append(time.monotonic())
        time.sleep(0.2)
        raise ConnectionError("the detector does not answer")

    monkeypatch.setattr(Silent, "__len__", slow)
    monkeypatch.setattr(where, "MAX_AGE_S", LONG_S)
    reader = store.load_scan(mixed.key)
    for _ in range(10):
        found = reader.availability()
        assert found["silent"].problem == "the detector does not answer"
        assert found["plain"].length == 3
    assert len(asked) == 1


def test_a_stream_that_cannot_be_asked_costs_the_others_nothing(
    store: DataStore, mixed: Scan
) -> None:
    streams = store.load_scan(mixed.key).streams
    found = availability_of(streams.values())[streams["missing"]]
    assert found.problem is not None
    assert "nobody's" in found.problem
    assert "nobody's" in repr(found)
    with pytest.raises(MissingPluginException):
        streams["missing"].availability()
    with pytest.raises(MissingPluginException):
        streams["missing"].wait_available(0, timeout=LONG_S)


def test_points_of_a_silent_plugin_are_waited_for_until_they_are_published(
    mixed: Scan, store: DataStore, background: ThreadPoolExecutor
) -> None:
    stream = store.load_scan(mixed.key).streams["silent"]
    assert stream.wait_available(range(6)).length == 6
    waiting = background.submit(stream.wait_available, 7, None, LONG_S)
    publish(mixed, "silent", 1)
    assert waiting.result(LONG_S).length == 8
    with pytest.raises(ValueError, match="no place 'file'; its places are: none that it tells of"):
        stream.wait_available(0, "file")


# ------------------------------------------------------------------------------ a damaged entry


def test_a_damaged_stream_costs_the_others_nothing(server: Any) -> None:
    with DataStore(server.url, init_db=True) as store, store.create_scan(IDENTITY) as scan:
        good, bad = (scan.create_stream(name, dtype="int64") for name in ("good", "bad"))
        scan.prepare()
        good.send(np.arange(3))
        good.join()
        store._redis.xadd(bad.key, {"payload": b"x" * 8, "len": "many"}, id="0-1")
        found = scan.availability()
        assert found["good"].length == 3
        assert "many" in str(found["bad"].problem)
        store._redis.delete(bad.key)


# ------------------------------------------------------------------------------ waiting


Wait = Callable[..., Future[Any]]


@pytest.fixture
def wait(background: ThreadPoolExecutor, reader: Scan) -> Wait:
    def wait(*args: Any, **kwargs: Any) -> Future[Any]:
        return background.submit(
            reader.streams["a"].wait_available, *args, timeout=LONG_S, **kwargs
        )

    return wait


def test_what_is_there_is_not_waited_for(scan: Scan, reader: Scan) -> None:
    publish(scan, "a", 3, 3)
    stream = reader.streams["a"]
    for wanted in (0, 5, range(6), range(5, -1, -1), range(0, 6, 2), range(0), np.int64(2)):
        assert stream.wait_available(wanted, timeout=0).length == 6
    assert stream.wait_available(3, "memory", timeout=0).memory == between(0, 6)
    assert stream.wait_available(3, Place.MEMORY, timeout=0).length == 6


def test_who_waits_is_woken_by_the_point(scan: Scan, wait: Wait) -> None:
    waiting = wait(3)
    publish(scan, "a", 2)
    assert not waiting.done()
    publish(scan, "a", 2)
    found = waiting.result(LONG_S)
    assert 3 in found.memory


def test_a_range_is_waited_for_to_its_last_point(scan: Scan, wait: Wait) -> None:
    waiting = wait(range(1, 6))
    for count in (2, 2, 2):
        assert not waiting.done()
        publish(scan, "a", count)
    assert waiting.result(LONG_S).memory == between(0, 6)


def test_a_long_way_is_not_asked_for_at_every_point(
    store: DataStore, scan: Scan, wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast points come, it is a hundred questions a second at most."""
    asked: list[float] = []
    really = store.event_log.bounds

    def counting(keys: Any) -> Any:
        asked.append(time.monotonic())
        return really(keys)

    monkeypatch.setattr(store.event_log, "bounds", counting)
    waiting = wait(2999)
    stream = scan.get_writer_stream("a")
    began = time.monotonic()
    for i in range(3000):
        stream.send(i)
        stream.join()
    waiting.result(LONG_S)
    took = time.monotonic() - began
    assert len(asked) <= took / where.BREATH_S + 5


def test_the_time_is_up(scan: Scan, reader: Scan) -> None:
    publish(scan, "a", 2)
    stream = reader.streams["a"]
    with pytest.raises(
        DataTimeoutError, match="points 2–4 are not there in the time allowed; 2 are"
    ):
        stream.wait_available(range(5), timeout=0)
    began = time.monotonic()
    with pytest.raises(DataTimeoutError) as found:
        stream.wait_available(2, timeout=0.1)
    assert time.monotonic() - began >= 0.1
    assert isinstance(found.value, TimeoutError)


def test_the_server_is_not_polled(
    store: DataStore, reader: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    for name in ("bounds", "read", "span", "newest"):
        really = getattr(store.event_log, name)
        monkeypatch.setattr(
            store.event_log, name, lambda *a, r=really, **k: asked.append(a) or r(*a, **k)
        )
    with pytest.raises(DataTimeoutError):
        reader.streams["a"].wait_available(0, timeout=0.5)
    assert len(asked) <= 4


def test_behind_the_seal_nothing_comes(scan: Scan, reader: Scan, wait: Wait) -> None:
    waiting = wait(range(2, 5))
    publish(scan, "a", 4)
    assert not waiting.done()
    scan.get_writer_stream("a").seal()
    with pytest.raises(IndexWontBeThereError, match=r"sealed with 4 points.*no index 4"):
        waiting.result(LONG_S)
    stream = reader.streams["a"]
    assert stream.wait_available(range(4), timeout=None).sealed
    with pytest.raises(IndexWontBeThereError):
        stream.wait_available(4)


def test_what_was_trimmed_does_not_come_back(store: DataStore, scan: Scan, reader: Scan) -> None:
    publish(scan, "a", 2, 2, 2)
    trim(store, scan, a=4)
    stream = reader.streams["a"]
    for wanted in (0, range(3, 6), range(3, 100)):
        with pytest.raises(IndexNoMoreThereError, match="left the server's memory"):
            stream.wait_available(wanted)
    assert stream.wait_available(range(4, 6)).gone == between(0, 4)


def test_points_may_be_trimmed_while_they_are_waited_for(
    store: DataStore, scan: Scan, wait: Wait
) -> None:
    publish(scan, "a", 2)
    waiting = wait(range(0, 8))
    publish(scan, "a", 2, 2)
    trim(store, scan, a=4)
    publish(scan, "a", 2)
    with pytest.raises(IndexNoMoreThereError, match="points 0–3"):
        waiting.result(LONG_S)


@pytest.mark.usefixtures("impatient")
def test_a_scan_that_is_deleted_is_told(store: DataStore, background: ThreadPoolExecutor) -> None:
    scan = store.create_scan(IDENTITY)
    scan.create_stream("a", dtype="int64")
    scan.prepare()
    stream = store.load_scan(scan.key).streams["a"]
    waiting = background.submit(stream.wait_available, 5, None, LONG_S)
    store.catalog.expire(scan.key, 10)
    with pytest.raises(StreamVanishedError):
        waiting.result(LONG_S)


@pytest.mark.usefixtures("impatient")
def test_a_scan_that_nobody_continues_is_told(store: DataStore, scan: Scan, wait: Wait) -> None:
    publish(scan, "a", 2)
    waiting = wait(5)
    scan._writers.clear()  # nobody seals its streams
    scan.close()
    with pytest.raises(StreamAbandonedError, match="there are 2 points, and 5 will not come"):
        waiting.result(LONG_S)


@pytest.mark.parametrize("wrong", [-1, range(-3, 2), range(3, -2, -1)])
def test_indices_count_from_the_start(reader: Scan, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"from the end|from 0 on"):
        reader.streams["a"].wait_available(wrong)


@pytest.mark.parametrize("wrong", [None, 1.0, "1", [1], slice(3), True])
def test_only_indices_and_ranges_are_waited_for(reader: Scan, wrong: Any) -> None:
    with pytest.raises(TypeError, match="index or a range"):
        reader.streams["a"].wait_available(wrong)


def test_a_place_that_there_is_not_is_not_waited_for(reader: Scan) -> None:
    with pytest.raises(ValueError, match="no place 'file'; its places are: memory"):
        reader.streams["a"].wait_available(0, "file")
    with pytest.raises(ValueError, match="cellar"):
        reader.streams["a"].wait_available(0, "cellar")


# ------------------------------------------------------------------------------ sequences


def test_a_scan_of_a_sequence_is_gone_when_it_is_deleted(store: DataStore) -> None:
    children = [store.create_scan({**IDENTITY, "number": 2 + i}) for i in range(4)]
    with store.create_scan(IDENTITY) as parent:
        sequence = parent.create_stream(ScanStream.make_definition("subscans"))
        parent.prepare()
        for child in children[:2]:
            sequence.send({"key": child.key})
        sequence.event_stream.send({"no": "key"})
        sequence.join()
        stream = store.load_scan(parent.key).streams["subscans"]
        assert stream.availability().memory == between(0, 2)
        for child in children[2:]:
            sequence.send({"key": child.key})
        sequence.join()
        store.delete_scan(children[1].key, force=True)
        found = stream.availability()
        assert (found.length, found.memory) == (5, Ranges.of([(0, 1), (3, 5)]))
        assert found.gone == Ranges.of([(1, 3)])
        assert stream.wait_available(4, timeout=0).length == 5
        with pytest.raises(IndexNoMoreThereError, match="deleted"):
            stream.wait_available(1)
    for child in children:
        store.delete_scan(child.key, force=True)


def test_a_publisher_elsewhere_is_seen(store: DataStore, scan: Scan, reader: Scan) -> None:
    """Entries of any split, as others write them."""
    key = scan.streams["b"].key
    points = np.arange(7, dtype="int64")
    entries = (EncodedBatch(points[:5].tobytes(), 5), EncodedBatch(points[5:].tobytes(), 2))
    store.event_log.append({key: AppendRequest(0, entries, scan.key)})
    assert reader.streams["b"].wait_available(6, timeout=0).memory == between(0, 7)
