"""The publisher under faults: no hole, nothing lost, repeated or reordered, and nothing hangs.

| fault                         | memory backend      | real server                              |
| ----------------------------- | ------------------- | ---------------------------------------- |
| full, and freed again         | `full`              | CONFIG SET maxmemory, noeviction         |
| away, and back                | `away`              | connections cut, SIGSTOP                 |
| replies lost                  | `lose_replies`      | reply thrown away, SIGSTOP past a timeout|
| killed and restarted          | –                   | SIGKILL; appendfsync always              |
| restarted from an older state | –                   | SIGKILL; snapshot, or nothing kept       |
| full or away for too long     | both switches       | maxmemory                                |
| somebody else writes or seals | raw append and seal | the same                                 |

What was published is read back by a raw client, and compared with what was sent.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgpack
import numpy as np
import pytest
import redis

from blissdata import DataStore, ScanState
from blissdata.exceptions import (
    NoWritePermission,
    PublishError,
    PublishTimeoutError,
    ServerFullError,
    StoreConnectionError,
    StreamConflictError,
    StreamRewoundError,
    StreamSealedError,
    StreamVanishedError,
)
from blissdata.redis_engine.backends.wire import Link
from blissdata.streams import sink as sink_module
from blissdata.streams.encoding import EncodedBatch
from blissdata.streams.event_log import AppendRequest, SealRequest
from blissdata.testing import MemoryBackend
from blissdata.testing.servers import TestServer

IDENTITY = {"name": "sink", "number": 1, "data_policy": "none"}
LONG_S = 30.0
KINDS = {"joined": ("float64", None), "images": ("uint16", (8, 8)), "ragged": ("int32", (-1,))}


class Publication:
    """Streams of every kind in one scan, points 0, 1, 2, … in each, and what must be there."""

    def __init__(self, store: DataStore, each: int = 2) -> None:
        self.scan = store.create_scan(IDENTITY)
        self.streams: dict[str, Any] = {}
        for i in range(each):
            for kind, (dtype, shape) in KINDS.items():
                name = f"{kind} {i}"
                self.streams[name] = self.scan.create_stream(name, dtype=dtype, shape=shape)
            self.streams[f"json {i}"] = self.scan.create_stream(f"json {i}", dtype="json")
        self.scan.prepare()
        self.scan.start()
        self.sent = dict.fromkeys(self.streams, 0)

    def point(self, name: str, i: int) -> Any:
        kind = name.split()[0]
        if kind == "joined":
            return np.float64(i)
        if kind == "images":
            return np.full((8, 8), i % 60_000, "uint16")
        if kind == "ragged":
            return np.full(1 + i % 5, i, "int32")
        return {"i": i}

    def send(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            for name, stream in self.streams.items():
                stream.send(self.point(name, self.sent[name]))
                self.sent[name] += 1

    def join(self) -> None:
        for stream in self.streams.values():
            stream.join()

    def check(self, store: DataStore) -> None:
        """Exactly what was sent is there, in one piece, in order, once."""
        reader = store.load_scan(self.scan.key)
        for name, stream in reader.streams.items():
            found = stream[:]
            assert len(stream) == len(found) == self.sent[name], name
            for i, value in enumerate(found):
                assert np.array_equal(value, self.point(name, i)), (name, i)

    def check_raw(self, client: redis.Redis) -> None:
        """The same, read by somebody else (protocol 1, "Events")."""
        for name, stream in self.streams.items():
            end = 0
            for ident, fields in client.xrange(stream.key):
                if b"payload" not in fields:
                    assert int(fields[b"id"]) == end
                    continue
                assert ident == b"%d-1" % end, f"{name}: a hole, or an overlap, at {end}"
                count = int(fields.get(b"len", 1))
                expected = [self.point(name, i) for i in range(end, end + count)]
                assert fields[b"payload"] == payload(name, expected), (name, end)
                end += count
            assert end == self.sent[name], name


def payload(name: str, points: list[Any]) -> bytes:
    """One entry with these points (protocol 1, "Events")."""
    if name.startswith("json"):
        (point,) = points
        return json.dumps(point).encode()
    raw = np.concatenate([np.atleast_1d(p) for p in points]).tobytes()
    if name.startswith("ragged"):
        (point,) = points
        return msgpack.packb([list(point.shape), raw])
    return raw


def longer_and_longer(seconds: float) -> Callable[[], object]:
    """Waits that long, and each time a little longer: a fault that came back too soon for a slow machine
    would never let anything through."""
    pauses = (min(seconds * 1.2**n, 2.0) for n in itertools.count())
    return lambda: threading.Event().wait(next(pauses))


@contextmanager
def meanwhile(fault: Callable[[], Any]) -> Iterator[threading.Event]:
    """Calls `fault` again and again in a thread; the event is set once it was called a few times."""
    stop, busy = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        count = 0
        try:
            while not stop.is_set():
                fault()
                count += 1
                if count >= 5:
                    busy.set()
        except BaseException as error:
            failures.append(error)
            busy.set()

    thread = threading.Thread(target=run, name="fault")
    thread.start()
    try:
        yield busy
    finally:
        stop.set()
        thread.join()
    assert not failures, failures


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)


def pending(store: DataStore) -> int:
    return store.publisher._queued


@pytest.fixture
def backend():
    backend = MemoryBackend()
    backend.initialise()
    return backend


@pytest.fixture
def memory(backend):
    """A store in memory which gives up soon."""
    with DataStore(backend=backend, publish_timeout=20) as store:
        yield store
        backend.full = backend.away = False


@pytest.fixture
def hasty(backend):
    """A store in memory which gives up at once."""
    store = DataStore(backend=backend, publish_timeout=0.05)
    yield store
    backend.full = backend.away = False
    with suppress(PublishError):
        store.close()


@pytest.fixture(autouse=True)
def quick_thread(monkeypatch):
    """The publisher's thread ends soon after its work."""
    monkeypatch.setattr(sink_module, "IDLE_S", 0.1)


# ---------------------------------------------------------------------------------- memory


def switch(backend: MemoryBackend, fault: str) -> Callable[[], None]:
    """A fault that comes and goes."""

    def lose() -> None:
        backend.lose_replies = 1
        threading.Event().wait(0.02)

    def toggle() -> None:
        setattr(backend, fault, True)
        threading.Event().wait(0.003)
        setattr(backend, fault, False)
        threading.Event().wait(0.003)

    return lose if fault == "lose_replies" else toggle


@pytest.mark.parametrize("fault", ["full", "away", "lose_replies"])
def test_faults_that_pass_leave_no_trace(memory, backend, monkeypatch, fault):
    monkeypatch.setattr(sink_module, "RETRY_S", (0.001, 0.002))
    publication = Publication(memory)
    with meanwhile(switch(backend, fault)) as busy:
        while not busy.is_set() or publication.sent["joined 0"] < 50:
            publication.send(10)
            until(lambda: pending(memory) < 100_000)
    backend.lose_replies = 0
    publication.join()
    publication.check(memory)
    publication.scan.close()
    publication.check(memory)


def test_lost_replies_are_not_repeated_points(memory, backend):
    publication = Publication(memory)
    for _ in range(20):
        backend.lose_replies = 2
        publication.send(3)
        publication.join()
    publication.check(memory)


def test_an_entry_that_was_sent_goes_out_again_as_it_was(memory, backend, monkeypatch):
    """A reader may stand at its end, so it is never joined anew with what was sent meanwhile."""
    publication = Publication(memory, each=1)
    asked: list[dict[str, AppendRequest]] = []
    append = backend.append

    def watched(requests):
        if not asked:
            backend.lose_replies = 3
        asked.append(dict(requests))
        publication.send(2)  # there is always more by now
        return append(requests)

    publication.send(3)
    monkeypatch.setattr(backend, "append", watched)
    until(lambda: len(asked) > 6)
    monkeypatch.setattr(backend, "append", append)
    publication.join()
    first: dict[tuple[str, int], tuple[EncodedBatch, ...]] = {}
    repeats = 0
    for requests in asked:
        for key, request in requests.items():
            batches = first.setdefault((key, request.index), request.batches)
            assert [(b.payload, b.len) for b in request.batches] == [
                (b.payload, b.len) for b in batches
            ]
            repeats += request.repeat
    assert repeats
    publication.check(memory)


def test_streams_are_sealed_on_a_full_server(memory, backend):
    publication = Publication(memory)
    publication.send(3)
    publication.join()
    backend.full = True
    publication.scan.close()
    publication.check(memory)


@pytest.mark.parametrize("fault", ["full", "away"])
def test_trouble_for_too_long_surfaces_at_the_next_call(hasty, backend, fault):
    publication = Publication(hasty)
    stream, other = publication.streams["joined 0"], publication.streams["joined 1"]
    setattr(backend, fault, True)
    stream.send(1.0)
    with pytest.raises(PublishTimeoutError, match=r"'joined 0'.* points 0 to 0"):
        stream.join()
    for again in (stream.join, lambda: stream.send(2.0), stream.join):
        with pytest.raises(PublishTimeoutError):
            again()
    setattr(backend, fault, False)
    other.send(0.0)
    other.join()
    with pytest.raises(PublishTimeoutError):
        stream.send(2.0)  # it would make a hole
    assert stream.seal() == 0
    assert other.seal() == 1


def test_a_failure_that_nobody_heard_of_is_raised_by_seal_once(hasty, backend):
    publication = Publication(hasty)
    stream = publication.streams["joined 0"]
    backend.full = True
    stream.send(1.0)
    with pytest.raises(PublishTimeoutError):
        stream.seal()
    assert stream.seal() == 0


def test_a_failure_that_nobody_heard_of_is_raised_by_the_scan_once(hasty, backend):
    publication = Publication(hasty)
    backend.full = True
    publication.streams["joined 0"].send(1.0)
    until(lambda: not pending(hasty))
    with pytest.raises(PublishTimeoutError):
        publication.scan.close()
    assert publication.scan.state == ScanState.STARTED
    publication.scan.close()
    assert publication.scan.state == ScanState.CLOSED


def test_a_failure_that_nobody_heard_of_is_raised_by_the_store_once(hasty, backend):
    publication = Publication(hasty)
    backend.full = True
    publication.streams["joined 0"].send(1.0)
    with pytest.raises(PublishTimeoutError, match="'joined 0'"):
        hasty.close()
    hasty.close()


def test_a_full_queue_makes_send_wait_until_there_is_room(memory, backend):
    publication = Publication(memory)
    memory.publisher.max_queued = 10_000
    backend.away = True
    stream = publication.streams["images 0"]
    point = publication.point("images 0", 0)
    for _ in range(10_000 // point.nbytes):
        stream.send(point)
    sender = threading.Thread(target=stream.send, args=[point])
    sender.start()
    until(lambda: memory.publisher._progress._waiters)
    assert sender.is_alive()
    assert pending(memory) <= 10_000
    backend.away = False
    sender.join(LONG_S)
    assert not sender.is_alive()
    stream.join()
    assert len(stream) == 10_000 // point.nbytes + 1


def test_a_queue_that_stays_full_says_why(backend):
    with DataStore(backend=backend, publish_timeout=0.3) as store:
        publication = Publication(store)
        store.publisher.max_queued = 1_000
        # The failure of the stream that fills the queue would make room: it keeps trying.
        store.publisher._keep = lambda *_: None
        backend.full = True
        publication.streams["images 0"].send(np.zeros((7, 8, 8), "uint16"))
        until(lambda: store.publisher._last_trouble)
        with pytest.raises(PublishTimeoutError, match=r"queue of 1000 bytes was full for .* full"):
            publication.streams["images 1"].send(np.zeros((8, 8), "uint16"))
        # It is tried again twice a second by now; from here on, all has the time that it needs.
        store.publisher.publish_timeout = LONG_S
        backend.full = False
        del store.publisher._keep
        publication.streams["images 1"].send(np.zeros((8, 8), "uint16"))  # not a failure for good
        publication.streams["images 1"].join()
        publication.streams["images 0"].join()


def test_one_point_may_be_larger_than_the_queue(memory):
    publication = Publication(memory)
    memory.publisher.max_queued = 10
    publication.send(2)
    publication.join()
    publication.check(memory)


@pytest.mark.parametrize("kind", ["memory", "plain"])
def test_a_point_larger_than_the_server_takes_is_refused_at_once(kind, request, backend):
    if kind == "memory":
        backend.max_payload = 2**20
        store = DataStore(backend=backend)
    else:
        server = request.getfixturevalue("server")
        with server.client() as client:
            client.config_set("proto-max-bulk-len", 2**20)
            request.addfinalizer(lambda: _reset_bulk_limit(server))
        store = DataStore(server.url, init_db=True)
    with store:
        scan = store.create_scan({"name": "large", "number": 1, "data_policy": "none"})
        images = scan.create_stream("images", dtype="uint8", shape=(2**20 + 1,))
        scan.prepare()
        with pytest.raises(ValueError, match="larger than the server accepts"):
            images.send(np.zeros(2**20 + 1, "uint8"))
        assert scan.close() is None
        assert len(images) == 0


def _reset_bulk_limit(server):
    with server.client() as client:
        client.config_set("proto-max-bulk-len", 512 * 2**20)


def test_the_thread_ends_when_there_is_nothing_to_do_and_starts_again(memory):
    publication = Publication(memory)
    for _ in range(2):
        publication.send()
        publication.join()
        until(lambda: memory.publisher._thread is None)
    publication.check(memory)


def test_points_on_the_way_arrive_before_the_store_is_closed(backend):
    store = DataStore(backend=backend)
    publication = Publication(store)
    publication.send(100)
    store.close()
    store.close()
    assert store.publisher._thread is None
    with DataStore(backend=backend) as other:
        publication.check(other)
    with pytest.raises(PublishError, match="closed"):
        publication.send()


def test_points_on_the_way_arrive_when_the_server_comes_back_while_closing(backend):
    store = DataStore(backend=backend)
    publication = Publication(store)
    backend.away = True
    publication.send(20)
    closing = threading.Thread(target=store.close)
    closing.start()
    until(lambda: store.publisher._closing)
    backend.away = False
    closing.join(LONG_S)
    assert not closing.is_alive()
    with DataStore(backend=backend) as other:
        publication.check(other)


def test_closing_confirms_no_more_than_is_there(backend):
    store = DataStore(backend=backend)
    publication = Publication(store, each=1)
    publication.send(2)
    publication.join()
    backend.full = True
    publication.send(3)
    store.publisher.publish_timeout = 0.1
    with pytest.raises(PublishTimeoutError, match=r"points 2 to 4 were not confirmed"):
        publication.scan.close()
    with suppress(PublishTimeoutError):
        publication.scan.close()
    backend.full = False
    with suppress(PublishTimeoutError):
        store.close()
    with DataStore(backend=backend) as other:
        for stream in other.load_scan(publication.scan.key).streams.values():
            assert (len(stream), stream.is_sealed(), len(stream[:])) == (2, True, 2)


def test_closing_a_store_without_a_server_ends(backend):
    store = DataStore(backend=backend, publish_timeout=0.1)
    publication = Publication(store)
    backend.away = True
    publication.send()
    with pytest.raises(PublishTimeoutError):
        store.close()
    backend.away = False


def test_no_thread_to_be_had_is_an_error_and_no_hang(memory, monkeypatch):
    publication = Publication(memory)

    def refused(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(PublishError, match="no thread"):
            publication.streams["joined 0"].send(0.0)
    publication.send()
    publication.join()
    publication.check(memory)


def test_what_goes_wrong_in_the_thread_reaches_the_caller(memory, monkeypatch):
    publication = Publication(memory)

    def broken(requests):
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(memory.event_log, "append", broken)
        publication.streams["joined 0"].send(0.0)
        with pytest.raises((PublishError, ZeroDivisionError), match="a bug"):
            publication.streams["joined 0"].join()
    publication.streams["joined 1"].send(0.0)
    publication.streams["joined 1"].join()


def test_many_threads_may_send(memory):
    publication = Publication(memory, each=4)

    def publish(name: str) -> None:
        for i in range(200):
            publication.streams[name].send(publication.point(name, i))
        publication.sent[name] = 200

    threads = [threading.Thread(target=publish, args=[name]) for name in publication.streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    publication.join()
    publication.check(memory)


# ---------------------------------------------------------------------------------- both


def test_a_second_writer_is_told_and_does_no_harm(store, caplog):
    publication = Publication(store)
    late = store.load_scan(publication.scan.key).get_writer_stream("joined 0")
    publication.send()
    publication.join()
    late.send(99.0)
    with pytest.raises(StreamConflictError, match="'joined 0'"):
        late.join()
    with pytest.raises(StreamConflictError):
        late.send(99.0)
    publication.send()
    publication.join()
    publication.check(store)
    assert late.seal() == 2
    assert "Cannot publish into stream 'joined 0' due to index discrepancy" in caplog.text
    assert late.seal() == 2


def test_two_writers_at_once_in_one_program(store):
    """Each gets an answer of its own; one wins."""
    publication = Publication(store)
    writers = [publication.scan.get_writer_stream("joined 0") for _ in range(2)]
    for i in range(50):
        for writer in writers:
            with suppress(StreamConflictError):
                writer.send(float(i))
    outcomes = []
    for writer in writers:
        try:
            writer.join()
            outcomes.append("all")
        except StreamConflictError:
            outcomes.append("conflict")
    assert sorted(outcomes) == ["all", "conflict"]
    assert publication.streams["joined 0"][:].tolist() == [float(i) for i in range(50)]


def test_a_stream_sealed_by_somebody_else_takes_no_more(store):
    publication = Publication(store)
    publication.send(2)
    publication.join()
    stream = publication.streams["joined 0"]
    outcome = store.event_log.seal({stream.key: SealRequest(2)})
    assert outcome == {stream.key: 2}
    stream.send(2.0)
    with pytest.raises(StreamSealedError, match="'joined 0'"):
        stream.join()
    with pytest.raises(StreamSealedError):
        stream.send(2.0)
    assert stream.seal() == 2
    publication.check(store)


def test_after_the_seal_nothing_is_taken(store):
    publication = Publication(store)
    publication.send(2)
    stream = publication.streams["joined 0"]
    assert stream.seal() == 2
    with pytest.raises(StreamSealedError, match="sealed with 2 points"):
        stream.send(2.0)
    assert stream.seal() == 2
    publication.join()
    publication.check(store)


def test_a_read_only_stream_does_not_write(store):
    publication = Publication(store)
    stream = store.load_scan(publication.scan.key).streams["joined 0"]
    for write in (lambda: stream.send(1.0), stream.join, stream.seal):
        with pytest.raises(NoWritePermission, match="get_writer_stream"):
            write()


def test_a_point_that_is_refused_is_not_half_taken(store):
    publication = Publication(store)
    stream = publication.streams["joined 0"]
    for bad in ([], 1, "x", np.zeros((2, 2))):
        with pytest.raises((TypeError, ValueError), match="'joined 0'"):
            stream.send(bad)
    publication.send()
    publication.join()
    publication.check(store)


def test_what_is_sent_is_copied(store):
    publication = Publication(store)
    point = np.zeros((8, 8), "uint16")
    for i in range(50):
        point[...] = i
        publication.streams["images 0"].send(point)
    publication.sent["images 0"] = 50
    publication.streams["images 0"].join()
    assert publication.streams["images 0"][:].max(axis=(1, 2)).tolist() == list(range(50))


def test_a_stream_is_not_begun_for_a_scan_that_is_gone(store):
    publication = Publication(store)
    store.delete_scan(publication.scan.key, force=True)
    for name in publication.streams:  # sealed by the deletion
        publication.streams[name].send(publication.point(name, 0))
        with pytest.raises((StreamSealedError, StreamVanishedError)):
            publication.streams[name].join()


@pytest.mark.parametrize("trimmed", [0, 1, 3], ids=lambda n: f"{n} entries trimmed meanwhile")
def test_entries_are_recognised_after_a_lost_reply(store, trimmed):
    publication = Publication(store)
    key = publication.streams["json 0"].key
    batches = tuple(EncodedBatch(b"%d" % i) for i in range(4))
    request = AppendRequest(0, batches, publication.scan.key)
    assert store.event_log.append({key: request}) == {key: 4}
    if trimmed:
        assert store.event_log.trim({key: trimmed}) == {key: trimmed}
    again = AppendRequest(0, batches, publication.scan.key, repeat=True)
    assert store.event_log.append({key: again}) == {key: 4}
    other = AppendRequest(0, (*batches[:3], EncodedBatch(b"7")), publication.scan.key, repeat=True)
    assert isinstance(store.event_log.append({key: other})[key], StreamConflictError)
    not_sent = AppendRequest(0, batches, publication.scan.key)
    assert isinstance(store.event_log.append({key: not_sent})[key], StreamConflictError)
    store.event_log.seal({key: SealRequest(4)})
    assert store.event_log.append({key: again}) == {key: 4}
    assert isinstance(store.event_log.append({key: not_sent})[key], StreamSealedError)


# ---------------------------------------------------------------------------------- real servers


def test_memory_full_and_freed_again_under_a_publisher():
    with (
        TestServer(maxmemory_policy="noeviction") as server,
        server.client() as client,
        DataStore(server.url, init_db=True) as store,
    ):
        publication = Publication(store, each=5)
        refused = client.info("stats")["total_error_replies"]

        def squeeze() -> None:
            client.config_set("maxmemory", 1)
            threading.Event().wait(0.01)
            client.config_set("maxmemory", 0)
            threading.Event().wait(0.01)

        with meanwhile(squeeze) as busy:
            while (
                not busy.is_set()
                or publication.sent["joined 0"] < 100
                or client.info("stats")["total_error_replies"] == refused
            ):
                publication.send(5)
                until(lambda: pending(store) < 2**20)
        publication.join()
        publication.check(store)
        client.config_set("maxmemory", 1)
        publication.scan.close()  # also on a full server
        client.config_set("maxmemory", 0)
        publication.check_raw(client)


def test_memory_full_for_too_long():
    with (
        TestServer(maxmemory_policy="noeviction") as server,
        server.client() as client,
        DataStore(server.url, init_db=True, publish_timeout=0.1) as store,
    ):
        publication = Publication(store, each=1)
        publication.send()
        publication.join()
        client.config_set("maxmemory", 1)
        stream = publication.streams["joined 0"]
        stream.send(1.0)
        with pytest.raises(PublishTimeoutError, match=r"memory limit.*maxmemory") as caught:
            stream.join()
        assert "points 1 to 1" in str(caught.value)
        with pytest.raises(ServerFullError) as full:
            store.create_scan(IDENTITY)
        assert isinstance(full.value, redis.exceptions.ResponseError)
        client.config_set("maxmemory", 0)
        publication.scan.close()
        publication.check_raw(client)


def test_connections_that_are_cut_cost_nothing(plain_store, server, monkeypatch):
    monkeypatch.setattr(sink_module, "RETRY_S", (0.001, 0.002))
    publication = Publication(plain_store)
    with server.client() as client:
        pause = longer_and_longer(0.02)

        def cut() -> None:
            client.client_kill_filter(_type="normal", skipme=True)
            pause()

        with meanwhile(cut) as busy:
            while not busy.is_set() or publication.sent["joined 0"] < 100:
                publication.send(5)
                until(lambda: pending(plain_store) < 2**20)
            publication.join()
        publication.check_raw(client)
    publication.scan.close()
    publication.check(plain_store)


def test_a_server_that_answers_late_does_not_repeat_points(monkeypatch):
    really = Link.set_timeout
    with (
        TestServer() as server,
        server.client() as client,
        DataStore(server.url, init_db=True) as store,
    ):
        publication = Publication(store)
        with monkeypatch.context() as patch:
            # The publisher's next connections wait for 0.05 s.
            patch.setattr(Link, "set_timeout", lambda link, _: really(link, 0.05))
            client.client_kill_filter(_type="normal", skipme=True)
            for _ in range(3):
                publication.send(3)
                publication.join()
                server.pause()
                try:
                    publication.send(3)
                    # It is asked again while the first request still waits in its socket.
                    until(lambda: isinstance(store.publisher._last_trouble, StoreConnectionError))
                finally:
                    server.resume()
                publication.join()
        publication.check_raw(client)
        publication.scan.close()


def test_a_server_killed_and_restarted_keeps_what_was_confirmed():
    with (
        TestServer(appendonly="yes", appendfsync="always") as server,
        DataStore(server.url, init_db=True) as store,
    ):
        publication = Publication(store)
        confirmed = []
        pause = longer_and_longer(0.02)

        def crash() -> None:
            server.kill()
            server.start()
            pause()

        with meanwhile(crash) as busy:
            while not busy.is_set():
                publication.send(5)
                publication.join()
                confirmed.append(publication.sent["joined 0"])
        publication.join()
        assert confirmed
        publication.check(store)
        publication.scan.close()
        with server.client() as client:
            publication.check_raw(client)


@pytest.mark.parametrize("kept", ["nothing", "a snapshot"])
def test_a_server_that_lost_what_it_had_confirmed(kept):
    with TestServer(appendonly="no") as server, DataStore(server.url, init_db=True) as store:
        publication = Publication(store, each=1)
        stream = publication.streams["joined 0"]
        publication.send(2)
        publication.join()
        if kept == "a snapshot":
            with server.client() as client:
                client.save()
        publication.send(3)
        publication.join()
        cursor = store.load_scan(publication.scan.key).streams["joined 0"].cursor()
        assert len(cursor.read()) == 5
        server.kill()
        server.start()

        stream.send(5.0)
        with pytest.raises(StreamRewoundError, match=r"'joined 0'.* points 5 to 5") as caught:
            stream.join()
        assert isinstance(caught.value, redis.exceptions.ResponseError)
        with pytest.raises(StreamRewoundError):
            stream.send(6.0)
        with pytest.raises(StreamRewoundError, match="5 points were read"):
            cursor.read(timeout=LONG_S)
        if kept == "a snapshot":
            with pytest.raises(StreamRewoundError):
                publication.scan.close()
            publication.scan.close()
            assert publication.streams["joined 0"][:].tolist() == [0.0, 1.0]


def test_a_server_that_lost_points_is_found_out_by_the_seal():
    with TestServer(appendonly="no") as server, DataStore(server.url, init_db=True) as store:
        publication = Publication(store, each=1)
        with server.client() as client:
            client.save()
        publication.send(3)
        publication.join()
        server.kill()
        server.start()
        with pytest.raises(StreamRewoundError, match="'joined 0'"):
            publication.streams["joined 0"].seal()
        assert publication.streams["joined 0"].seal() == 0


def test_nobody_listens_any_more():
    with TestServer() as server:
        store = DataStore(server.url, init_db=True, publish_timeout=0.2)
        publication = Publication(store, each=1)
        server.kill()
        stream = publication.streams["joined 0"]
        stream.send(0.0)
        with pytest.raises(PublishTimeoutError, match="connection"):
            stream.join()
        with pytest.raises(StoreConnectionError) as caught:
            stream.seal()
        assert isinstance(caught.value, redis.ConnectionError)
        with pytest.raises(StoreConnectionError):
            stream[0]
        store.close()
