"""One stream of events on the server: plain points by index, whatever a plugin makes of them.

Plugins receive an `EventStream`; `blissdata.streams.default.Stream` is the plain one over it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from blissdata.exceptions import (
    IndexNoMoreThereError,
    NoWritePermission,
    PayloadError,
    StreamAbandonedError,
    StreamVanishedError,
    UnknownEncodingError,
)
from blissdata.streams.deadline import Deadline
from blissdata.streams.durability import Durability
from blissdata.streams.encoding import EncodedBatch, StreamEncoder, encoder_from_info
from blissdata.streams.entries import (
    MAX_INDEX,
    Entry,
    Run,
    Tail,
    check_index,
    check_within,
    cut,
    cut_short,
    newest_run,
    next_run,
    no_more_there,
    resolve_slice,
    runs,
)
from blissdata.streams.event_log import EventLog, Span, SpanRequest, StoreLike
from blissdata.streams.heartbeat import CLOSED, Life, LostPublisher, Suspicion, publisher_lost
from blissdata.streams.sink import StreamSink

__all__ = ["EventStream", "StreamModel"]

_logger = logging.getLogger(__name__)

WAIT_SLICE_S = 2.0
"""How long one call blocks on the server before scan and stream are looked at again [s]."""

T = TypeVar("T")


class StreamModel(Protocol):
    """How the scan document describes a stream."""

    @property
    def encoding(self) -> Any:
        """What the stream's encoder says of itself."""
        ...

    @property
    def info(self) -> Any:
        """The stream's metadata."""
        ...

    def key(self) -> str:
        """The stream's key on the server."""
        ...


class EventStream:
    """Points of one dtype and shape, counted from 0, in a stream on the server.

    `open` gives one for reading, `create` one that also writes. Plugins get one and build on it.
    """

    def __init__(
        self,
        data_store: StoreLike,
        name: str,
        model: StreamModel,
        encoder: StreamEncoder,
        sink: StreamSink | None = None,
    ) -> None:
        self._data_store = data_store
        self._name = name
        self._model = model
        self._key = model.key()
        self._encoder = encoder
        self._sink = sink
        self._final_length: int | None = None
        self._point_type, self._builtin = (None, None) if sink is None else encoder.quick_types

    @classmethod
    def open(cls, data_store: StoreLike, name: str, model: StreamModel) -> EventStream:
        """The stream for reading. No round trip. Raises `UnknownEncodingError`."""
        return cls(data_store, name, model, encoder_from_info(model.encoding, name))

    @classmethod
    def create(
        cls,
        data_store: StoreLike,
        name: str,
        model: StreamModel,
        index: int = 0,
        durability: Durability = Durability.MEMORY,
    ) -> EventStream:
        """The stream for writing from point `index` on, where it must end now. No round trip:
        the server meets the stream with its first point. Raises `UnknownEncodingError`."""
        encoder = encoder_from_info(model.encoding, name)
        sink = data_store.publisher.open(
            model.key(),
            name,
            encoder,
            scan_key=_scan_key(model),
            index=index,
            durability=durability,
        )
        return cls(data_store, name, model, encoder, sink)

    @classmethod
    def undecodable(
        cls, data_store: StoreLike, name: str, model: StreamModel, error: UnknownEncodingError
    ) -> EventStream:
        """A stand-in for a stream whose encoding is unknown: its points raise `error`."""
        return cls(data_store, name, model, _Undecodable(error))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} {self._key}>"

    # ------------------------------------------------------------------------------ from memory

    @property
    def name(self) -> str:
        """The stream's name in its scan."""
        return self._name

    @property
    def key(self) -> str:
        """The stream's key on the server."""
        return self._key

    @property
    def scan_key(self) -> str | None:
        """The key of the scan that owns the stream, if it is known."""
        return _scan_key(self._model)

    @property
    def scan_path(self) -> str | None:
        """The file that the scan says it is saved to, as far as it is known."""
        return getattr(self._model, "scan_path", None)

    @property
    def scan_saves(self) -> bool:
        """True if the scan says that it is saved."""
        return getattr(self._model, "scan_saves", False)

    @property
    def info(self) -> dict[str, Any]:
        """The stream's metadata."""
        return self._model.info or {}

    @property
    def encoding(self) -> dict[str, Any]:
        """The encoding as the scan document has it."""
        return self._model.encoding or {}

    @property
    def encoder(self) -> StreamEncoder:
        """What encodes and decodes the points."""
        return self._encoder

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of a point; `object` for JSON."""
        return self._encoder.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one point; -1 for a dimension that varies."""
        return self._encoder.shape

    @property
    def writable(self) -> bool:
        """True if this object can send."""
        return self._sink is not None

    @property
    def sink(self) -> StreamSink | None:
        """Where points that are sent go; None on a read-only stream."""
        return self._sink

    @property
    def data_store(self) -> StoreLike:
        """The store that the stream lives in."""
        return self._data_store

    @property
    def event_log(self) -> EventLog:
        """The server's streams."""
        return self._data_store.event_log

    @property
    def what(self) -> str:
        """The stream as messages name it."""
        scan = f" of scan {self.scan_key}" if self.scan_key else f" ({self._key})"
        return f"Stream '{self._name}'{scan}"

    # ------------------------------------------------------------------------------ writing

    def send(self, data: Any) -> None:
        """Adds one point, or a batch of points with one more leading dimension, and returns at once.

        `data` is copied; `join` waits until the server has it. Waits only while the publisher's
        queue is full. Raises `TypeError` or `ValueError` for data that do not fit the stream,
        `NoWritePermission` on a read-only stream, `StreamSealedError` after `seal`, and whatever
        went wrong with points sent before (`StreamConflictError`, `PublishError`, …).
        """
        sink = self._sink
        if sink is None:
            raise self._read_only()
        kind = type(data)
        if kind is self._point_type:
            sink.put_point(data)
            return
        if kind is self._builtin:
            with suppress(OverflowError):
                sink.put_point(self._point_type(data))  # type: ignore[misc]
                return
        try:
            batch = self._encoder.encode_in(data, sink.allocate)
        except (TypeError, ValueError) as error:
            raise type(error)(f"Encoding of '{self._name}': {error}") from error
        sink.put(batch)

    def join(self) -> None:
        """Waits until the server has confirmed every point sent before. Raises what went wrong,
        after the publisher's timeout at the latest."""
        if self._sink is None:
            raise self._read_only()
        self._sink.join()

    def seal(self) -> int:
        """Waits for the points sent before, then ends the stream for good; gives its length.

        Repeatable. If somebody else wrote into the stream, logs a warning, seals it where it ends
        on the server and gives that length. Other trouble is raised, once, after sealing."""
        if self._sink is None:
            raise self._read_only()
        return self._sink.seal()

    def _read_only(self) -> NoWritePermission:
        return NoWritePermission(
            f"{self.what} is read-only; scan.get_writer_stream({self._name!r}) gives one that writes"
        )

    # ------------------------------------------------------------------------------ reading

    def _tail(self) -> Tail:
        """Where the stream ends now. One round trip, none once the seal was seen."""
        if self._final_length is not None:
            return Tail(self._final_length, True)
        return self._span(self._request(only_tail=True))[0]

    def _request(
        self, start: int = 0, stop: int | None = None, *, only_tail: bool = False
    ) -> SpanRequest:
        return SpanRequest(self._key, start, stop, only_tail, self._encoder.point_nbytes)

    def _span(self, request: SpanRequest) -> Span:
        """One round trip. Raises `PayloadError` for what is damaged, or contradicts the seal."""
        (found,) = self.event_log.span([request])
        if isinstance(found, PayloadError):
            raise self.damaged(found)
        tail, entries = found
        self.decoding(request.start, lambda: check_within(entries, tail))
        if tail.sealed:
            self._final_length = tail.length
        return found

    def newest(self) -> tuple[Tail, Any]:
        """Where the stream ends now, and its newest point alone, decoded, as a batch of one; an
        empty batch if there was none yet, or it has left the server. One round trip."""
        return self.decode_newest(self.event_log.newest([self._key])[self._key])

    def decode_newest(self, found: tuple[Tail, Entry | None] | PayloadError) -> tuple[Tail, Any]:
        """What `newest` gives, of what the event log found. No round trip."""
        if isinstance(found, PayloadError):
            raise self.damaged(found)
        tail, entry = found
        run = self.decoding(tail.length, lambda: newest_run(tail, entry))
        if tail.sealed:
            self._final_length = tail.length
        return tail, self._encoder.empty() if run is None else self.decode_run(run)[1]

    def __len__(self) -> int:
        """How many points were published so far, forgotten ones included. One round trip."""
        return self._tail().length

    def is_sealed(self) -> bool:
        """True if the length is final. One round trip, none once it was True."""
        return self._tail().sealed

    def wait_seal(self, timeout: float = 0) -> bool:
        """Waits until the stream is sealed, `timeout` [s] at most (0: for ever); True if it is.

        Raises `StreamVanishedError` when the scan is deleted meanwhile, `StreamAbandonedError` when
        it was closed without sealing this stream, `PublisherLostError` while its publisher gives no
        sign of life any more (`StreamAbandonedError` where the store says that this is the end)."""
        deadline = Deadline.from_2x(True, timeout)
        watch = AbandonWatch(self._data_store)
        while not self.is_sealed():
            self.event_log.read(
                {self._key: MAX_INDEX}, wait=deadline.remaining(WAIT_SLICE_S), max_entries=1
            )
            if deadline.passed:
                return self.is_sealed()
            if watch.due and watch.abandoned([self]) and not self.is_sealed():
                why = "its publisher is lost" if watch.by_choice else "the scan is closed"
                raise StreamAbandonedError(f"{self.what}: {why}, but nobody sealed it")
        return True

    def __getitem__(self, selection: int | slice) -> Any:
        """A point by index, or the points of a slice, as the encoding gives them.

        Never waits. Raises as `blissdata.streams.entries.check_index` and `resolve_slice` say, and
        `IndexNoMoreThereError` if a selected point has left the server."""
        if isinstance(selection, slice):
            return self._slice(selection)
        if isinstance(selection, bool | np.bool_) or not hasattr(selection, "__index__"):
            raise TypeError(
                f"stream indices must be integers or slices, not {type(selection).__name__}"
            )
        return self._point(selection.__index__())

    def _point(self, index: int) -> Any:
        if not 0 <= index < (MAX_INDEX if self._final_length is None else self._final_length):
            index = check_index(index, self._reached(), self.what)
        entry = self._holding(index)
        if entry is None:
            check_index(index, self._reached(), self.what)
            entry = self._holding(index)  # it may have come between the two looks
        if entry is None:
            raise self._gone(index, index + 1)
        try:
            return self._encoder.decode_point(entry.batch, index - entry.index)
        except PayloadError as error:
            raise self._damaged_at(index, error) from error

    def _reached(self) -> Tail:
        """Where the stream ends, to tell of an index that is not there. Raises
        `IndexNoMoreThereError` if nothing is left of a stream whose scan is closed."""
        tail = self._tail()
        if tail == Tail(0, False) and self.scan_key:
            state = self._data_store.scan_states([self.scan_key])[self.scan_key]
            if state is not None and state >= CLOSED and self._tail() == tail:
                raise IndexNoMoreThereError(
                    f"{self.what}: the scan is closed, but the server has nothing of this stream, "
                    "not even its end: it expired before its scan did, or nobody ever sealed it"
                )
        return tail

    def _holding(self, index: int) -> Entry | None:
        try:
            return self.event_log.holding(self._key, index, self._encoder.point_nbytes or 0)
        except PayloadError as error:
            raise self.damaged(error) from error

    def _slice(self, selection: slice) -> Any:
        return self._pick(*self._selected(selection))

    def _selected(self, selection: slice) -> tuple[range, Sequence[Entry]]:
        """The indices that a slice selects, and the entries that hold them, as far as there are."""
        start, stop, step = (_bound(b) for b in (selection.start, selection.stop, selection.step))
        selection = slice(start, stop, step)
        forward = step is None or step > 0
        if forward and (start is None or start >= 0) and (stop is None or stop >= 0):
            # One round trip: where the stream ends, and the entries in the range.
            request = self._request(min(start or 0, MAX_INDEX - 1), stop)
            tail, entries = self._span(request)
            wanted = resolve_slice(selection, tail, self.what)
        else:
            wanted = resolve_slice(selection, self._tail(), self.what)
            if not wanted:
                return wanted, ()
            low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1
            _, entries = self._span(self._request(low, high))
        return wanted, entries

    def _pick(self, wanted: range, entries: Sequence[Entry]) -> Any:
        if not wanted:
            return self._encoder.empty()
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1
        found = self.decoding(low, lambda: cut(entries, low, high))
        if found is None:
            raise self._gone(low, high)
        batches, skip = found
        try:
            points = self._encoder.decode_range(batches, skip, skip + high - low)
        except PayloadError as error:
            raise self._first_damaged(low - skip, batches, error)[1] from error
        if wanted.step == 1:
            return points
        if wanted.step > 0:
            return points[:: wanted.step]
        return points[::-1][:: -wanted.step]

    def select(self, selection: slice) -> tuple[range, list[tuple[int, Any]]]:
        """The indices that a slice selects, and those points between the least and the greatest of
        them that are on the server: in ascending order, for each run of consecutive points the index
        of its first and the points, decoded. One round trip, two for a slice that counts from the
        end. Never waits; raises as `resolve_slice` does, but not for points that are gone."""
        wanted, entries = self._selected(selection)
        if not wanted:
            return wanted, []
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1
        found = self.decoding(low, lambda: runs(entries, low, high))
        return wanted, [
            (run.index, self.decoding(run.index, partial(self._decoded, run))) for run in found
        ]

    def _gone(self, start: int, stop: int) -> IndexNoMoreThereError:
        """The error for points that are not on the server any more, with the reason."""
        if self.scan_key and self._data_store.scan_states([self.scan_key])[self.scan_key] is None:
            return IndexNoMoreThereError(f"{self.what}: the scan was deleted from the server")
        return no_more_there(self.what, start, stop, self.scan_path if self.scan_saves else None)

    def decoding(self, index: int, decode: Callable[[], T]) -> T:
        """Calls `decode`; a payload that lies is reported with the stream and the index."""
        try:
            return decode()
        except PayloadError as error:
            raise self._damaged_at(index, error) from error

    def damaged(self, error: PayloadError) -> PayloadError:
        """What is wrong with an entry, which the error names, with the stream's name."""
        return PayloadError(f"{self.what}: {error}")

    def _damaged_at(self, index: int, error: PayloadError) -> PayloadError:
        return PayloadError(
            f"{self.what}, from index {index} on: {error}. The publisher wrote something that "
            f"is not its declared encoding {str(self.encoding)[:120]}"
        )

    def _first_damaged(
        self, index: int, batches: Sequence[EncodedBatch], error: PayloadError
    ) -> tuple[int, PayloadError]:
        """Which of the batches, the first of which begins at `index`, is the first one that does
        not decode, and what is wrong with it; `error` if it is only all of them together."""
        for i, batch in enumerate(batches):
            try:
                self._encoder.decode(batch)
            except PayloadError as found:
                return i, self._damaged_at(index, found)
            index += batch.len
        return 0, self._damaged_at(index, error)

    def decode_run(self, run: Run) -> tuple[Run, Any]:
        """The run, and those of its points that are there, decoded. It ends before a damaged entry;
        one at its start is raised."""
        if not run.count:
            return run, self._encoder.empty()
        try:
            return run, self._decoded(run)
        except PayloadError as error:
            start = run.index + run.nb_expired - run.skip
            sound, damage = self._first_damaged(start, run.batches, error)
            if not sound:
                raise damage from error
            run = cut_short(run, sound)
            return run, self._decoded(run)

    def _decoded(self, run: Run) -> Any:
        return self._encoder.decode_range(run.batches, run.skip, run.skip + run.count)

    def next_run(self, position: int, entries: Sequence[Entry], seal: int | None) -> Run | None:
        """`blissdata.streams.entries.next_run`, with the stream's name in what it raises."""
        try:
            return next_run(position, entries, seal)
        except PayloadError as error:
            raise self._damaged_at(position, error) from error


class AbandonWatch:
    """Tells a reader that waits, or asks again and again, whether somebody may still write: looked
    at every few seconds without news."""

    def __init__(self, data_store: StoreLike, lost_publisher: LostPublisher | None = None) -> None:
        """`lost_publisher` is what one means that is lost; None: what the store says."""
        self._data_store = data_store
        self._lost_publisher = lost_publisher or data_store.lost_publisher
        self.by_choice = False
        """True if the streams that were found abandoned are those of a publisher that is lost."""
        self._closed_before: set[str] = set()
        self._suspicion = Suspicion()
        self._told: frozenset[str] = frozenset()
        self._since = time.monotonic()

    def restart(self) -> None:
        """There was news."""
        self._closed_before = set()
        self._suspicion.forget()
        self._since = time.monotonic()

    @property
    def due(self) -> bool:
        """True when it is time to look: before one waits any more, since a wait that ends in a lost
        connection, again and again, would never come to it."""
        return time.monotonic() - self._since >= WAIT_SLICE_S

    def abandoned(self, streams: Sequence[EventStream]) -> list[EventStream]:
        """Those of the streams, all at the end of what there is, whose scan is closed since the
        last look at least. One round trip. Raises `StreamVanishedError` for a scan that is gone, and
        `PublisherLostError` for one whose publisher gives no sign of life any more: where others are
        waited for as well, only once. Where that means the end, these are abandoned, too."""
        owned = {key: stream for stream in streams if (key := stream.scan_key)}
        if not owned:
            self._since = time.monotonic()
            return []
        lives = self._data_store.scan_lives(list(owned))
        for key, life in lives.items():
            if life.state is None:
                raise StreamVanishedError(
                    f"{owned[key].what}: the scan was deleted from the server while it was being read"
                )
        self._since = time.monotonic()
        closed = {key for key, life in lives.items() if life.state and life.state >= CLOSED}
        confirmed = closed & self._closed_before
        self._closed_before = closed
        self.by_choice = not confirmed
        ended = confirmed or self._lost(lives, owned)
        return [stream for stream in streams if stream.scan_key in ended]

    def _lost(self, lives: Mapping[str, Life], owned: Mapping[str, EventStream]) -> frozenset[str]:
        """The scans that are at their end because their publisher is lost."""
        lost = self._suspicion.lost(lives)
        self._told &= lost
        new = lost if len(lost) == len(owned) else lost - self._told
        if not new:
            return frozenset()
        self._told |= new
        key = min(new)
        error = publisher_lost(owned[key].what, lives[key])
        if self._lost_publisher is LostPublisher.ERROR:
            raise error
        _logger.warning("%s. It ends here, as was chosen", str(error).partition(". ")[0])
        return new


class _Undecodable(StreamEncoder):
    """In the place of an encoding that this version does not know."""

    def __init__(self, error: UnknownEncodingError) -> None:
        self._error = error

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        raise self._error

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        raise self._error

    def info(self) -> dict[str, Any]:
        raise self._error

    @classmethod
    def from_info(cls, info: dict[str, Any]) -> StreamEncoder:
        raise UnknownEncodingError(str(info))

    def encode(self, data: Any) -> EncodedBatch:
        raise self._error

    def decode(self, batches: Any) -> Any:
        raise self._error

    def empty(self) -> Any:
        raise self._error


def _scan_key(model: StreamModel) -> str | None:
    return getattr(model, "scan_key", None)


def _bound(bound: Any) -> int | None:
    if bound is None:
        return None
    if isinstance(bound, bool | np.bool_) or not hasattr(bound, "__index__"):
        raise TypeError(f"slice indices must be integers or None, not {type(bound).__name__}")
    return int(bound.__index__())
