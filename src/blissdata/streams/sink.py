"""The background publisher in front of `event_log.append`: coalesces, bounds memory, resends.

One publisher per store and process, with one thread, however many streams. A stream has at most one
unconfirmed request on the way; points that are sent meanwhile wait, and are joined into few entries
when their turn comes. So an idle publisher sends at once, and load itself makes entries longer.

    send → points, chunks ──form──▶ request (frozen) ──append──▶ confirmed
                                      ▲                  │
                                      └── resent as it is ┘ after a lost connection or a full server

A scalar costs its sender one `list.append`, without a lock: `points` holds them as they are, a few
hundred at most; then they become a chunk of bytes, which counts for the queue's limit.

Invariants, all under the publisher's lock:
  * `confirmed ≤ formed ≤ accepted`, all of them indices in the stream; only `_settle` moves
    `confirmed`, only `_form` moves `formed`; what `send` took is `accepted`;
  * a request never changes once it was sent;
  * a sink that has failed, or is sealed, holds no points and takes none;
  * `listed` is True while the thread will look at the sink again, soon. A sender appends first and
    looks at it then; the thread clears it first and looks for points then: one of them sees the
    other.
"""

from __future__ import annotations

import atexit
import logging
import mmap
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from blissdata.exceptions import (
    NotDurableYetError,
    PayloadError,
    PublishError,
    PublishTimeoutError,
    ServerBusyError,
    ServerFullError,
    StoreConnectionError,
    StreamConflictError,
    StreamRewoundError,
    StreamSealedError,
    StreamVanishedError,
)
from blissdata.streams.durability import Durability
from blissdata.streams.encoding.base import EncodedBatch, StreamEncoder
from blissdata.streams.event_log import AppendRequest, EventLog, SealRequest
from blissdata.streams.large_pages import LARGE_PAGE, private_memory

__all__ = ["Publisher", "StreamSink"]

_logger = logging.getLogger(__name__)

PUBLISH_TIMEOUT_S = 60.0
"""How long the publisher tries before it gives points up [s]."""

MAX_QUEUED = 128 * 2**20
"""How many bytes of points may wait in the publisher before `send` waits [bytes]."""

SURELY_ACCEPTED = 2**20
"""Payloads up to this size [bytes] are smaller than any limit that a server may have: Redis and
Valkey refuse a `proto-max-bulk-len` below 1 MiB."""

MAX_IDLE_MEMORY = 64 * 2**20
"""How much memory of payloads that arrived is kept for the next ones [bytes]."""

MAX_LOOSE = 512
"""How many points of one stream may lie loose, not yet counted for the queue's limit."""

MAX_JOINED = 4 * 2**10
"""Largest entry that is made by joining points [bytes]: one random index must not carry more."""

MAX_REQUEST = 2**20
"""Entries of one stream in one request end at about this size [bytes]; one entry may be larger."""

MAX_REQUEST_ENTRIES = 1024
"""Entries of one stream in one request, for points that cannot be joined."""

MAX_TRIP = 4 * 2**20
"""Requests that travel together end at about this size [bytes]."""

NO_HURRY_S = 0.001
"""An outcome that nobody waits for is looked at after this [s]: until then, the machine is for who
waits for the point."""

IDLE_S = 5.0
"""An idle publisher's thread ends after this [s]; the next `send` starts another."""

RETRY_S = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Pauses between attempts at a server that is full or away [s]; the last one repeats."""

EXIT_GRACE_S = 10.0
"""How long the end of the program waits for points that are still on their way [s]."""

_PASSING = (StoreConnectionError, ServerFullError, ServerBusyError)
"""Troubles that may pass: the request is sent again until the publisher's timeout."""

_UNKNOWN = StoreConnectionError("nobody was asked yet")

T = TypeVar("T")

_Posted = tuple[
    "dict[StreamSink, AppendRequest]", Callable[[], Mapping[str, int | Exception]] | None
]
"""Requests that were sent already, and what waits for their outcomes."""

_NOTHING_POSTED: _Posted = ({}, None)


class StreamSink:
    """Where one stream's points go; made by `Publisher.open`. Safe to use from several threads."""

    def __init__(
        self,
        publisher: Publisher,
        key: str,
        name: str,
        encoder: StreamEncoder,
        scan_key: str | None,
        index: int,
        durability: Durability,
    ) -> None:
        self.key = key
        self.name = name
        self.encoder = encoder
        self.joins = encoder.joinable
        self.scan_key = scan_key
        self.durability = durability
        self.formed = index
        self.confirmed = index
        self.points: list[Any] = []
        self.listed = False
        self.chunks: deque[EncodedBatch] = deque()
        self.request: AppendRequest | None = None
        self.session: int | None = None
        self.trouble_since: float | None = None
        self.failure: Exception | None = None
        self.failure_known = False
        self.inherited = False
        self.sealed: int | None = None
        self.seal_seen = False
        self._publisher = publisher

    @property
    def accepted(self) -> int:
        """Index after the last point that was taken."""
        return self.formed + sum(chunk.len for chunk in self.chunks) + len(self.points)

    def allocate(self, nbytes: int) -> memoryview:
        """Memory for one payload that is to be put. It is used again once the payload arrived."""
        return self._publisher.memory.take(nbytes)

    def put_point(self, point: Any) -> None:
        """Takes one point that is as it travels: an immutable object whose buffer is its payload,
        a numpy scalar. Returns, or waits while the queue is full; see `EventStream.send`."""
        points = self.points
        if len(points) >= MAX_LOOSE:
            self._publisher.make_room(self)
            points = self.points
        points.append(point)
        if not self.listed:
            self._publisher.notice(self)

    def put(self, batch: EncodedBatch) -> None:
        """Takes the batch and returns, or waits while the queue is full; see `EventStream.send`.
        A large batch of small points becomes several entries."""
        if self.joins and batch.len > 1 and len(batch.payload) > MAX_JOINED:
            for piece in _split(batch, self.encoder.point_nbytes or 1):
                self._publisher.put(self, piece)
        else:
            self._publisher.put(self, batch)

    def put_entry(self, batch: EncodedBatch) -> None:
        """As `put`, but the batch becomes an entry of its own: from here on this sink joins none.
        For who publishes again what was split into entries once, and must split it alike."""
        self.joins = False
        self._publisher.put(self, batch)

    def join(self) -> None:
        """Waits until everything taken so far is confirmed; see `EventStream.join`."""
        self._publisher.join(self)

    def seal(self) -> int:
        """Waits for everything taken so far, then seals; see `EventStream.seal`."""
        return self._publisher.seal([self])[0]

    def gather(self) -> int:
        """Makes a chunk of the loose points; gives its size [bytes]. Under the publisher's lock.

        Ctrl-C may strike anywhere in here. A mark in front of the points tells the next call how far
        this one came, so that no point is lost, and none is there twice."""
        points, chunks = self.points, self.chunks
        if points and type(points[0]) is _Mark:
            moved = chunks and chunks[-1] is points[0].chunk
            del points[: points[0].chunk.len + 1 if moved else 1]
        count = len(points)  # others may append meanwhile: theirs stay
        if not count:
            return 0
        chunk = EncodedBatch(b"".join(points[:count]), count)
        points.insert(0, _Mark(chunk))
        chunks.append(chunk)
        del points[: count + 1]
        return len(chunk.payload)

    def shut(self) -> None:
        """Takes no more points: each is refused with the reason. Under the publisher's lock."""
        self.points = _Shut(self._publisher, self)
        self.listed = False

    @property
    def what(self) -> str:
        """The stream as messages name it."""
        return f"Stream '{self.name}'" + (f" of scan {self.scan_key}" if self.scan_key else "")


class _Memory:
    """Memory of large payloads that have arrived, for the next ones of the same size."""

    def __init__(self) -> None:
        self._idle: dict[int, list[bytearray | mmap.mmap]] = {}
        self._nbytes = 0

    def take(self, nbytes: int) -> memoryview:
        """Memory of that size, which nobody else uses."""
        try:
            memory = self._idle[nbytes].pop()
        except (KeyError, IndexError):
            return memoryview(_fresh(nbytes))
        self._nbytes -= nbytes
        return memoryview(memory)

    def give_back(self, payload: bytes | memoryview) -> None:
        """Whoever took it needs it no more. Under the publisher's lock."""
        memory = payload.obj if type(payload) is memoryview else None
        if (
            isinstance(memory, bytearray | mmap.mmap)
            and self._nbytes + len(memory) <= MAX_IDLE_MEMORY
        ):
            self._nbytes += len(memory)
            self._idle.setdefault(len(memory), []).append(memory)

    def clear(self) -> None:
        """Forgets what nobody uses."""
        self._idle.clear()
        self._nbytes = 0


def _fresh(nbytes: int) -> bytearray | mmap.mmap:
    """Memory for a payload, in large pages if it fills one and the system has them."""
    if nbytes < LARGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return bytearray(nbytes)
    return private_memory(nbytes)


class _Mark:
    """Stands in front of loose points while they are being made a chunk."""

    __slots__ = ("chunk",)

    def __init__(self, chunk: EncodedBatch) -> None:
        self.chunk = chunk


class _Shut(list[Any]):
    """In the place of a sink's loose points, when it takes no more."""

    def __init__(self, publisher: Publisher, sink: StreamSink) -> None:
        super().__init__()
        self._publisher = publisher
        self._sink = sink

    def append(self, point: Any) -> None:
        """Raises why."""
        self._publisher.refuse(self._sink)


class Publisher:
    """Delivers what the streams of one store send. Close it to be sure that all has arrived."""

    def __init__(
        self,
        event_log: EventLog,
        publish_timeout: float = PUBLISH_TIMEOUT_S,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self._log = event_log
        self.publish_timeout = publish_timeout
        self.max_queued = max_queued
        self.memory = _Memory()
        self._queued = 0
        # In the order in which they came to have work. By sink, not by key: there may be two for
        # one stream, and each gets its own answer.
        self._busy: dict[StreamSink, None] = {}
        self._failed: set[StreamSink] = set()  # failures that no caller has been told
        self._sinks: weakref.WeakSet[StreamSink] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._sleeping = False
        self._joining = 0
        self._posted: _Posted = _NOTHING_POSTED
        self._last_trouble: Exception | None = None
        self._in_trouble = False  # … of which a warning was logged
        self._reset_locks()
        _publishers.add(self)

    def _reset_locks(self) -> None:
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._progress = threading.Condition(self._lock)

    def open(
        self,
        key: str,
        name: str,
        encoder: StreamEncoder,
        *,
        scan_key: str | None,
        index: int,
        durability: Durability = Durability.MEMORY,
    ) -> StreamSink:
        """A sink for the stream that ends at `index` now. No round trip."""
        sink = StreamSink(self, key, name, encoder, scan_key, index, durability)
        with self._lock:
            self._sinks.add(sink)
        return sink

    # ------------------------------------------------------------------------------ callers

    def put(self, sink: StreamSink, batch: EncodedBatch) -> None:
        """Queues a batch; waits while the queue is full, `publish_timeout` at most."""
        size = len(batch.payload)
        if size > SURELY_ACCEPTED and size > self._log.max_payload:
            raise ValueError(
                f"{sink.what}: a payload of {size} bytes is larger than the server accepts "
                f"({self._log.max_payload} bytes). Send fewer points at once, or let a plugin carry "
                "the data"
            )
        with self._lock:
            self._raise_failure(sink)
            if self._queued and self._queued + size > self.max_queued:
                self._wait_for_room(sink, size)
            at_once = self._is_idle()
            if not at_once:
                self._list(sink)
            self._queued += sink.gather() + size
            sink.chunks.append(batch)
            if at_once:
                self._post(sink)

    def make_room(self, sink: StreamSink) -> None:
        """There are many loose points: they become a chunk, when the queue has room for it."""
        with self._lock:
            self._raise_failure(sink)
            if self._queued >= self.max_queued:
                self._wait_for_room(sink, 0)
            self._list(sink)
            self._queued += sink.gather()

    def notice(self, sink: StreamSink) -> None:
        """The sink, which was idle, has points now. Raises why it takes none."""
        with self._lock:
            if type(sink.points) is _Shut:  # it was shut while its sender was about to append
                self.refuse(sink)
            if sink.points and not self._busy and self._thread is not None:
                self._queued += sink.gather()
                self._post(sink)
            elif sink.points:
                try:
                    self._list(sink)
                except PublishError:
                    sink.points.pop()  # not taken; others who appended meanwhile fail here as well
                    raise

    def refuse(self, sink: StreamSink) -> None:
        """Raises why the sink takes no points."""
        with self._lock:
            self._raise_failure(sink)
            raise StreamSealedError(f"{sink.what} is being sealed and takes no more points")

    def _is_idle(self) -> bool:
        """True if nothing is under way, and the thread is there to take the outcome."""
        return not self._busy and self._thread is not None

    def _post(self, sink: StreamSink) -> None:
        """An idle publisher sends in its caller's thread: handing the points over to its own would
        take longer than sending them. The outcome is that thread's affair."""
        request = sink.request = _form(sink)
        self._busy[sink] = None
        try:
            outcomes = self._log.post(sink.key, request)
            if outcomes is not None:
                self._posted = ({sink: request}, outcomes)
        except BaseException as error:
            # It may have been sent, or not: the thread finds out, as after every lost connection.
            sink.request = replace(request, repeat=True)
            if not isinstance(error, Exception):
                raise
        finally:
            self._wake(sink)

    def _list(self, sink: StreamSink) -> None:
        """The thread shall look at the sink, and be quick about it."""
        if not sink.listed or sink not in self._busy:
            self._wake(sink)
            self._busy[sink] = None
            sink.listed = True

    def _wait_for_room(self, sink: StreamSink, size: int) -> None:
        start = time.monotonic()
        while self._queued and self._queued + size >= self.max_queued + bool(size):
            waited = time.monotonic() - start
            if waited >= self.publish_timeout:
                reason = self._last_trouble or "the server takes points more slowly than they come"
                raise PublishTimeoutError(
                    f"{sink.what}: index {sink.accepted} was not taken, the queue of "
                    f"{self.max_queued} bytes was full for {waited:.1f} s: {reason}"
                )
            self._progress.wait(self.publish_timeout - waited)
            self._raise_failure(sink)

    def _raise_failure(self, sink: StreamSink) -> None:
        if sink.failure is not None:
            sink.failure_known = True
            self._failed.discard(sink)
            raise _again(sink.failure)
        if sink.sealed is not None:
            raise StreamSealedError(
                f"{sink.what} is sealed with {sink.sealed} points and takes no more"
            )
        if self._closing:
            raise PublishError(f"{sink.what}: the data store was closed, it takes no more points")

    def join(self, sink: StreamSink) -> None:
        """Waits until the sink's points so far are confirmed, or have failed."""
        with self._lock:
            target = sink.accepted
            if (sink.points or sink.chunks) and sink.failure is None and not self._closing:
                self._list(sink)  # an interrupted sender may not have come to it
            self._joining += 1
            try:
                if self._sleeping and sink.confirmed < target:
                    self._work.notify()
                while sink.failure is None and sink.confirmed < target:
                    self._progress.wait()
            finally:
                self._joining -= 1
            if sink.failure is not None:
                self._raise_failure(sink)

    def seal(self, sinks: Iterable[StreamSink], *, tell_conflicts: bool = False) -> list[int]:
        """Seals the streams when all of their points are confirmed, in one round trip; gives their
        lengths. Seals all that can be sealed before it raises what went wrong with another.

        Points that were refused because somebody else wrote into the stream are a warning only (as
        `stream.seal()` has it), and with `tell_conflicts` an error too, unless it was told before. A
        stream into which this publisher wrote nothing is sealed wherever it ends. With
        `tell_conflicts`, streams that were sealed before are looked at once more: the server may have
        been restarted from an older state since."""
        sinks = list(sinks)
        requests: dict[str, SealRequest] = {}
        trouble: Exception | None = None
        for sink in sinks:
            if sink.sealed is not None:
                if tell_conflicts and not (sink.seal_seen or sink.inherited):
                    requests[sink.key] = SealRequest(sink.sealed, sink.scan_key, sink.durability)
                continue
            if sink.inherited:
                trouble = trouble or sink.failure  # it is the parent's to seal
                continue
            known = sink.failure_known
            try:
                with self._lock:  # whoever sends meanwhile is told, nothing is taken and forgotten
                    self._queued += sink.gather()
                    sink.shut()
                self.join(sink)
                length = sink.confirmed or None
                requests[sink.key] = SealRequest(length, sink.scan_key, sink.durability)
            except (StreamConflictError, StreamSealedError) as error:
                requests[sink.key] = SealRequest(None, sink.scan_key, sink.durability)
                _warn_of_discrepancy(sink)
                if tell_conflicts and not known:
                    trouble = trouble or error
            except Exception as error:  # noqa: BLE001 — kept, and raised when the others are sealed
                requests[sink.key] = SealRequest(None, sink.scan_key, sink.durability)
                trouble = trouble or (None if known else error)
        lengths, later = self._seal_on_server(requests, {sink.key: sink for sink in sinks})
        with self._lock:
            for sink in sinks:
                sink.seal_seen |= tell_conflicts and sink.key in lengths
                sink.sealed = lengths.get(sink.key, sink.sealed)
                if sink.sealed is None and sink.failure is None:
                    sink.points = []  # it goes on: it could not be sealed
        if not (tell_conflicts and isinstance(later, StreamVanishedError)):  # the scan's step tells
            trouble = trouble or later
        if trouble is not None:
            raise trouble
        return [sink.sealed or 0 for sink in sinks]

    def _seal_on_server(
        self, requests: Mapping[str, SealRequest], sinks: Mapping[str, StreamSink]
    ) -> tuple[dict[str, int], Exception | None]:
        if not requests:
            return {}, None
        outcomes = self._seal_at_last(requests)
        errors: list[Exception] = []
        anywhere: dict[str, SealRequest] = {}
        for key, outcome in outcomes.items():
            if isinstance(outcome, StreamConflictError):
                _warn_of_discrepancy(sinks[key])
                anywhere[key] = replace(requests[key], length=None)
            elif isinstance(outcome, StreamRewoundError):
                errors.append(_lost(sinks[key], outcome))
                anywhere[key] = replace(requests[key], length=None)
            elif isinstance(outcome, int) and outcome < (sinks[key].sealed or 0):
                errors.append(_sealed_short(sinks[key], outcome))
        if anywhere:
            outcomes |= self._seal_at_last(anywhere)
        lengths = {k: outcome for k, outcome in outcomes.items() if isinstance(outcome, int)}
        errors += [
            _unsealed(sinks[key], outcome)
            for key, outcome in outcomes.items()
            if isinstance(outcome, Exception)
        ]
        for key, outcome in outcomes.items():
            if isinstance(outcome, PayloadError):  # somebody sealed it, in words nobody can read
                lengths[key] = sinks[key].confirmed
        return lengths, _together(errors)

    def _seal_at_last(self, requests: Mapping[str, SealRequest]) -> dict[str, int | Exception]:
        """Seals; what a trouble that may pass has kept from it is asked for again, as `persist` does."""
        outcomes: dict[str, int | Exception] = {}

        def seal() -> None:
            left = {
                key: request
                for key, request in requests.items()
                if isinstance(outcomes.get(key, _UNKNOWN), _PASSING)
            }
            outcomes.update(self._log.seal(left))
            for outcome in outcomes.values():
                if isinstance(outcome, _PASSING):
                    raise outcome

        try:
            self.persist(seal)
        except _PASSING as error:
            return {key: outcomes.get(key, error) for key in requests}
        return outcomes

    def persist(self, call: Callable[[], T]) -> T:
        """Calls until it succeeds, for calls that may be repeated; raises the last passing trouble
        after `publish_timeout`, any other at once."""
        start = time.monotonic()
        attempt = 0
        while True:
            try:
                return call()
            except _PASSING:
                pause = _pause(attempt)
                attempt += 1
                if time.monotonic() + pause > start + self.publish_timeout:
                    raise
                time.sleep(pause)

    def close(self, timeout: float | None = None) -> None:
        """Waits until everything is confirmed or has failed, `timeout` [s] at most (None: as long
        as the publisher tries), and ends the thread. Raises a failure that nobody has been told of,
        `PublishTimeoutError` if points are still on their way. Repeatable."""
        deadline = time.monotonic() + (2 * self.publish_timeout if timeout is None else timeout)
        with self._lock:
            self._closing = True
            for sink in self._sinks:
                if sink.points:
                    self._list(sink)
                    self._queued += sink.gather()
                sink.shut()
            self._work.notify_all()
            while self._busy and (left := deadline - time.monotonic()) > 0:
                self._progress.wait(left)
            for sink in list(self._busy):
                self._fail(sink, PublishTimeoutError(f"{_unconfirmed(sink)}: the program ended"))
            failed, self._failed = list(self._failed), set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()) + 1.0)
        for sink in failed:
            sink.failure_known = True
        if failed:
            raise _again(failed[0].failure or PublishError(failed[0].what))

    # ------------------------------------------------------------------------------ the thread

    def _wake(self, sink: StreamSink) -> None:
        """There will be work when the lock is free again."""
        if self._thread is not None and self._thread.ident is not None:
            if self._sleeping:
                self._work.notify()
                self._sleeping = False  # not before: Ctrl-C may strike in between
            return
        # Ctrl-C may strike between any two of these: a thread that begins works only if it is this one.
        thread = threading.Thread(target=self._run, name="blissdata-publisher", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError as error:  # the interpreter is about to end, or has too many threads
            self._thread = None
            raise PublishError(
                f"{sink.what}: a point was not taken, there is no thread to deliver it: {error}"
            ) from error
        _deliver_before_a_child_ends()

    def _run(self) -> None:
        with self._lock:
            if self._thread is not threading.current_thread():
                return  # another one was begun in its place
        attempt = 0
        try:
            while requests := self._next_requests(_pause(attempt - 1) if attempt else 0.0):
                outcomes = self._outcomes(requests)
                with self._lock:
                    settled = self._settle(requests, outcomes)
                    attempt = 0 if settled else attempt + 1
                    self._progress.notify_all()
        except BaseException as error:
            with self._lock:
                self._thread = None
                for sink in list(self._busy):
                    self._fail(sink, PublishError(f"{_unconfirmed(sink)}: {error!r}"))
                self._progress.notify_all()
            raise

    def _next_requests(self, pause: float) -> dict[StreamSink, AppendRequest]:
        """The requests of the next trip, after a pause; {} when the thread shall end."""
        with self._lock:
            if pause:
                until = time.monotonic() + pause
                while (left := until - time.monotonic()) > 0 and not self._closing:
                    self._work.wait(left)
                if self._closing and left > 0:
                    self._progress.wait(min(left, 0.05))
            if self._posted[0] and not self._closing and not self._joining:
                self._sleeping = True
                self._work.wait(NO_HURRY_S)
                self._sleeping = False
            while not (requests := self._posted[0] or self._form_requests()):
                self._sleeping = not self._closing
                woken = self._sleeping and self._work.wait(IDLE_S)
                self._sleeping = False
                if not woken and not self._busy:
                    self._thread = None
                    self.memory.clear()
                    return {}
            return requests

    def _form_requests(self) -> dict[StreamSink, AppendRequest]:
        """One request for each stream that has points, as many as travel together."""
        requests: dict[StreamSink, AppendRequest] = {}
        taken: set[str] = set()
        size = 0
        for sink in list(self._busy):
            if sink.key in taken:
                continue
            if sink.request is None:
                self._queued += sink.gather()
                if not sink.chunks:  # its sender was interrupted before it could append
                    self._look_away(sink)
                    continue
                sink.request = _form(sink)
            taken.add(sink.key)
            requests[sink] = sink.request
            size += sink.request.nbytes
            if size >= MAX_TRIP:
                break
        return requests

    def _look_away(self, sink: StreamSink) -> None:
        """The sink has nothing under way; it stays listed, behind the others, if it has more."""
        del self._busy[sink]
        sink.listed = False
        if sink.chunks or sink.points:
            self._busy[sink] = None
            sink.listed = True

    def _outcomes(
        self, requests: Mapping[StreamSink, AppendRequest]
    ) -> Mapping[StreamSink, int | Exception]:
        _, posted = self._posted
        try:
            outcomes = (
                posted() if posted else self._log.append({s.key: r for s, r in requests.items()})
            )
            return {sink: outcomes[sink.key] for sink in requests}
        except Exception as error:  # noqa: BLE001 — reaches the caller at the next send, join or seal
            return dict.fromkeys(requests, error)
        finally:
            self._posted = _NOTHING_POSTED

    def _settle(
        self,
        requests: Mapping[StreamSink, AppendRequest],
        outcomes: Mapping[StreamSink, int | Exception],
    ) -> bool:
        """Books the outcomes; False if nothing got through for a reason that may pass."""
        now = time.monotonic()
        moved = False
        for sink, request in requests.items():
            if sink.request is not request:
                continue  # failed meanwhile
            outcome = outcomes[sink]
            if isinstance(outcome, int):
                moved = True
                self._confirm(sink, request)
            elif isinstance(outcome, _PASSING):
                self._last_trouble = outcome
                self._keep(sink, request, outcome, now)
            else:
                moved = True
                self._fail(sink, _explained(sink, outcome))
        return moved

    def _confirm(self, sink: StreamSink, request: AppendRequest) -> None:
        if self._in_trouble:
            self._in_trouble = False
            _logger.warning("The server takes points again (%s)", sink.what)
        sink.confirmed = request.end
        sink.session = self._log.session
        sink.request = None
        sink.trouble_since = None
        self._last_trouble = None
        self._queued -= request.nbytes
        for batch in request.batches:
            self.memory.give_back(batch.payload)
        self._look_away(sink)

    def _keep(
        self, sink: StreamSink, request: AppendRequest, trouble: Exception, now: float
    ) -> None:
        """The request is sent again, as it is, until the time is up."""
        if sink.trouble_since is None:
            sink.trouble_since = now
            if not self._in_trouble:
                self._in_trouble = True
                _logger.warning(
                    "%s. Points are kept and offered again for %g s",
                    str(trouble).rstrip("."),
                    self.publish_timeout,
                )
        tried = now - sink.trouble_since
        if tried >= self.publish_timeout:
            self._fail(
                sink,
                PublishTimeoutError(
                    f"{_unconfirmed(sink)} in {tried:.1f} s: {trouble}. "
                    "Points before these are on the server"
                ),
            )
        elif isinstance(trouble, StoreConnectionError | NotDurableYetError):
            sink.request = replace(request, repeat=True)

    def _fail(self, sink: StreamSink, error: Exception) -> None:
        sink.failure = error
        self._failed.add(sink)
        self._queued -= sum(len(chunk.payload) for chunk in sink.chunks)
        sink.chunks.clear()
        sink.shut()
        if sink.request is not None:
            self._queued -= sink.request.nbytes
            sink.request = None
        self._busy.pop(sink, None)
        self._progress.notify_all()

    # ------------------------------------------------------------------------------ forks

    def before_fork(self) -> None:
        """Nothing is half done while the process splits."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Goes on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """The parent delivers what was queued; here the streams must be opened anew."""
        self._reset_locks()
        self._thread = None
        self._joining = 0
        self._posted = _NOTHING_POSTED
        self._queued = 0
        self._busy.clear()
        self._failed.clear()
        for sink in self._sinks:
            sink.chunks.clear()
            sink.request = None
            sink.inherited = True
            sink.shut()
            sink.failure = PublishError(
                f"{sink.what} was opened for writing by process {os.getppid()}, of which this one "
                f"is a fork; open it here with scan.get_writer_stream({sink.name!r})"
            )


# ---------------------------------------------------------------------------------- helpers


def _form(sink: StreamSink) -> AppendRequest:
    """A request with the sink's oldest chunks, joined into as few entries as allowed."""
    if len(sink.chunks) == 1:
        return _request(sink, (sink.chunks.popleft(),))
    entries: list[EncodedBatch] = []
    group: list[EncodedBatch] = []
    group_size = total = 0
    chunks, joinable = sink.chunks, sink.joins
    while chunks and len(entries) < MAX_REQUEST_ENTRIES:
        size = len(chunks[0].payload)
        if total and total + size > MAX_REQUEST:
            break
        if group and (not joinable or group_size + size > MAX_JOINED):
            entries.append(_joined(group))
            group, group_size = [], 0
        group.append(chunks.popleft())
        group_size += size
        total += size
    if group:
        entries.append(_joined(group))
    return _request(sink, tuple(entries))


def _request(sink: StreamSink, entries: tuple[EncodedBatch, ...]) -> AppendRequest:
    request = AppendRequest(
        sink.formed, entries, sink.scan_key, False, sink.session, sink.durability
    )
    sink.formed = request.end
    return request


def _joined(group: list[EncodedBatch]) -> EncodedBatch:
    if len(group) == 1:
        return group[0]
    return EncodedBatch(b"".join([b.payload for b in group]), sum(b.len for b in group))


def _split(batch: EncodedBatch, point_nbytes: int) -> Iterator[EncodedBatch]:
    """The same points in batches of at most `MAX_JOINED` bytes, if a point is not larger."""
    points = max(1, MAX_JOINED // point_nbytes)
    for start in range(0, batch.len, points):
        stop = min(start + points, batch.len)
        yield EncodedBatch(batch.payload[start * point_nbytes : stop * point_nbytes], stop - start)


def _pause(attempt: int) -> float:
    return RETRY_S[min(attempt, len(RETRY_S) - 1)]


def _unconfirmed(sink: StreamSink) -> str:
    points = f"points {sink.confirmed} to {sink.accepted - 1}"
    return f"{sink.what}: {points} were not confirmed by the server"


def _explained(sink: StreamSink, error: Exception) -> Exception:
    """The same kind of error, with the stream and what is not on the server."""
    message = f"{_unconfirmed(sink)}: {error}"
    try:
        explained = type(error)(message)
    except TypeError:
        explained = PublishError(message)
    if error.__traceback__ is not None:  # else the message has all of it
        explained.__cause__ = error
    return explained


def _lost(sink: StreamSink, error: Exception) -> Exception:
    """The error of a stream that ends before what the server had confirmed."""
    explained = type(error)(
        f"{sink.what}: points up to {sink.confirmed - 1} were confirmed: {error}"
    )
    explained.__cause__ = error
    return explained


def _sealed_short(sink: StreamSink, length: int) -> Exception:
    """The error of a stream that somebody sealed after the server had lost its end."""
    return StreamRewoundError(
        f"{sink.what}: it was sealed with {sink.sealed} points, and now it is sealed with {length}: the "
        "server was restarted from an older state"
    )


def _together(errors: Sequence[Exception]) -> Exception | None:
    """The first of the errors, which tells of the others as well."""
    if not errors:
        return None
    for other in errors[1:]:
        errors[0].add_note(f"Also: {other}")
    return errors[0]


def _unsealed(sink: StreamSink, error: Exception) -> Exception:
    """The error of a stream that could not be sealed."""
    if not isinstance(error, StreamVanishedError):
        return error
    return type(error)(f"{sink.what} cannot be sealed: {error}")


def _again(error: Exception) -> Exception:
    """A fresh copy, so that raising it many times does not pile up tracebacks."""
    copy: Exception = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy


def _warn_of_discrepancy(sink: StreamSink) -> None:
    _logger.warning(
        "Cannot publish into stream '%s' due to index discrepancy: somebody else wrote into it "
        "from index %d on (%s). It is sealed where it ends on the server",
        sink.name,
        sink.confirmed,
        sink.scan_key or sink.key,
    )


_publishers: weakref.WeakSet[Publisher] = weakref.WeakSet()


def _at_exit() -> None:
    for publisher in list(_publishers):
        try:
            publisher.close(EXIT_GRACE_S)
        except Exception as error:  # noqa: BLE001 — nobody is left to raise to
            _logger.error("Points were lost at the end of the program: %s", error)


_flushed_in: int | None = None
"""The child process of `multiprocessing` at whose end `_at_exit` is called."""


def _deliver_before_a_child_ends() -> None:
    """A child process of `multiprocessing` ends without `atexit`."""
    global _flushed_in
    process, util = (sys.modules.get(f"multiprocessing.{name}") for name in ("process", "util"))
    if process and util and process.parent_process() is not None and _flushed_in != os.getpid():
        _flushed_in = os.getpid()
        util.Finalize(None, _at_exit, exitpriority=0)


_forking = threading.Lock()
"""Held while the process forks: one thread at a time."""

_held: list[Publisher] = []
"""Publishers whose lock is held while the process forks."""


def _before_fork() -> None:
    _forking.acquire()
    _held.extend(_publishers)
    for publisher in _held:
        publisher.before_fork()


def _after_fork_in_parent() -> None:
    for publisher in _held:
        publisher.after_fork_in_parent()
    _held.clear()
    _forking.release()


def _after_fork_in_child() -> None:
    for publisher in _held:
        publisher.after_fork_in_child()
    _held.clear()
    _forking.release()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
