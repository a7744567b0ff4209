"""The port: what the streams need from a server. Backends implement it; nothing here does I/O.

Every method is one round trip and takes a batch. Entries are the same on every server; see
`docs/reference/wire.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from blissdata.exceptions import PayloadError
from blissdata.streams.durability import Durability
from blissdata.streams.encoding.base import EncodedBatch
from blissdata.streams.entries import Entry, Tail
from blissdata.streams.heartbeat import Life, LostPublisher

__all__ = [
    "AppendRequest",
    "Arrivals",
    "Bounds",
    "EventLog",
    "ReadsAhead",
    "SealRequest",
    "Span",
    "SpanRequest",
    "StoreLike",
]

T = TypeVar("T")

Span = tuple[Tail, Sequence[Entry]]
"""Where a stream ends, and the entries that were asked for."""


@dataclass(slots=True)
class AppendRequest:
    """Entries for the end of one stream, which stand or fall together. Never changed once made."""

    index: int
    """Index of the first point: where the stream must end now."""

    batches: tuple[EncodedBatch, ...]
    """One entry each, in order. Frozen: a repeat carries the very same ones."""

    scan_key: str | None = None
    """The scan that owns the stream; a stream is not begun for a scan that is gone."""

    repeat: bool = False
    """True if these entries may have arrived before (the reply was lost): then finding the same
    bytes at the same indices means success."""

    session: int | None = None
    """The log's `session` in which the stream was seen to end at `index`, None if it was not."""

    durability: Durability = Durability.MEMORY
    """What must hold before these entries count as confirmed."""

    @property
    def end(self) -> int:
        """Index after the last point."""
        if len(self.batches) == 1:
            return self.index + self.batches[0].len
        return self.index + sum(batch.len for batch in self.batches)

    @property
    def nbytes(self) -> int:
        """Size of the payloads [bytes]."""
        return sum([len(batch.payload) for batch in self.batches])


@dataclass(frozen=True, slots=True)
class SealRequest:
    """The end of one stream."""

    length: int | None = None
    """Where the stream must end; None: wherever it does."""

    scan_key: str | None = None
    """The scan that owns the stream; an empty stream is not sealed for a scan that is gone."""

    durability: Durability = Durability.MEMORY
    """What must hold before the seal counts as confirmed."""


@dataclass(slots=True)
class Arrivals:
    """What a read found in one stream. Never changed once made."""

    entries: Sequence[Entry]
    """In ascending order."""

    seal: int | None
    """The stream's final length, if the seal stands behind these entries."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """From where to where a stream is on the server."""

    start: int
    """Index of the first point that is there; the length if none is left."""

    tail: Tail
    """Where the stream ends."""


@dataclass(frozen=True, slots=True)
class SpanRequest:
    """The entries that hold the points from `start` to `stop` of one stream, as far as they are
    there. The entry that holds `start` is included although it may begin before it."""

    key: str
    start: int = 0

    stop: int | None = None
    """Exclusive; None: to the end."""

    only_tail: bool = False
    """True to ask for nothing but where the stream ends."""

    point_nbytes: int | None = None
    """Size of a point [bytes], if it is known and the same for all: how best to ask depends on it."""


class ReadsAhead(Protocol):
    """Reads that are asked for before they are wanted, so that the server is at work meanwhile. Used by one
    thread, as a context manager: what was not taken is lost when it ends."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def ask(
        self, positions: Mapping[str, int], *, max_entries: Mapping[str, int], nbytes: int = 0
    ) -> Callable[[], Mapping[str, Arrivals | PayloadError] | None] | None:
        """Sends what `EventLog.read` without waiting would; gives what takes the answer, to be called
        once at most. None if nothing was sent; nor has a process an answer that has not asked itself
        (then that is None)."""
        ...


class EventLog(Protocol):
    """Streams of entries on a server. Safe to use from several threads.

    Every method raises `StoreConnectionError` when the server cannot be reached; what the server
    refuses for one stream is that stream's outcome and does not touch the others.
    """

    @property
    def max_payload(self) -> int:
        """Size of the largest payload that the server accepts [bytes]. May ask it, once."""
        ...

    session: int
    """Grows whenever the server may have forgotten what was appended before: it was away."""

    def require(self, durability: Durability) -> None:
        """Raises `DurabilityUnavailableError` if the server cannot give this durability. At most a
        few round trips."""
        ...

    def append(self, requests: Mapping[str, AppendRequest]) -> dict[str, int | Exception]:
        """Adds entries to many streams. For each key the index after its last point, or the error:

        `ServerFullError` (nothing was stored, may be sent again), `NotDurableYetError` (stored, but
        not as durable as asked; to be repeated), `StreamConflictError` (somebody
        else's points are there), `StreamSealedError`, `StreamRewoundError` (the stream ends before
        `index`), `StreamVanishedError` (it is gone, or its scan is). A refused request leaves no
        entry at all, so no hole either."""
        ...

    def post(
        self, key: str, request: AppendRequest
    ) -> Callable[[], Mapping[str, int | Exception]] | None:
        """Sends what `append` would, if that can be done without waiting and nothing else is under
        way; gives what waits for the outcome, to be called once, from any thread. None if it
        cannot: then nothing was sent. After an error it may have been sent."""
        ...

    def read(
        self,
        positions: Mapping[str, int],
        *,
        wait: float = 0.0,
        max_entries: int | Mapping[str, int],
        nbytes: int = 0,
    ) -> dict[str, Arrivals | PayloadError]:
        """What came at or after each position, at most `max_entries` entries a stream. An entry
        that is damaged is given as an error, once those before it were read.

        Waits up to `wait` [s] until one stream has news; streams without news are left out. A
        position is 0 or the end of an entry that was read; `MAX_INDEX` sees the seal alone."""
        ...

    def ahead(self) -> ReadsAhead:
        """For asking for what is read later, while something else is done."""
        ...

    def span(self, requests: Sequence[SpanRequest]) -> Sequence[Span | PayloadError]:
        """For each request, where the stream ends and the entries in that range, or the error if
        one of these is damaged. Never waits. The end is taken first: points that come in between
        may be among the entries."""
        ...

    def holding(self, key: str, index: int, nbytes: int = 0) -> Entry | None:
        """The entry that holds the point at `index`, if it is there; `nbytes` is what a large one
        is expected to have (a hint). Never waits. Raises `PayloadError` if it is damaged."""
        ...

    def newest(self, keys: Sequence[str]) -> Mapping[str, tuple[Tail, Entry | None] | PayloadError]:
        """For each stream, where it ends and its last entry, if that is still there; or the error
        if it is damaged. Never waits."""
        ...

    def bounds(self, keys: Sequence[str]) -> Mapping[str, Bounds | PayloadError]:
        """For each stream, where it begins and ends; no point is transferred. Never waits. A hole
        that a publisher left between two entries is not seen."""
        ...

    def seal(self, requests: Mapping[str, SealRequest]) -> dict[str, int | Exception]:
        """Seals streams. For each key the length, or the error: `StreamConflictError` if the stream
        goes on behind where it must end, `StreamRewoundError` if it ends before, and
        `StreamVanishedError` if its scan is gone. Repeatable: a sealed
        stream gives its length. Works on a full server."""
        ...

    def trim(self, indices: Mapping[str, int]) -> dict[str, int | Exception]:
        """Forgets the entries that end at or before the given index; for each key how many went.
        The last entry of an unsealed stream stays. Works on a full server."""
        ...


class PublisherLike(Protocol):
    """What opens a stream for writing: `blissdata.streams.sink.Publisher`."""

    def open(
        self,
        key: str,
        name: str,
        encoder: Any,
        *,
        scan_key: str | None,
        index: int,
        durability: Durability = Durability.MEMORY,
    ) -> Any:
        """A sink for the stream that ends at `index` now."""
        ...

    def persist(self, call: Callable[[], T]) -> T:
        """Calls until the server can be reached; only what may be repeated."""
        ...

    def seal(self, sinks: Any, *, tell_conflicts: bool = False) -> list[int]:
        """Seals many streams in one round trip."""
        ...


class StoreLike(Protocol):
    """What streams need from the data store that they belong to."""

    @property
    def event_log(self) -> EventLog:
        """The server's streams."""
        ...

    @property
    def publisher(self) -> PublisherLike:
        """The one publisher of this store in this process."""
        ...

    @property
    def lost_publisher(self) -> LostPublisher:
        """What a publisher that is lost means to readers, unless they choose."""
        ...

    def scan_states(self, keys: Sequence[str]) -> dict[str, int | None]:
        """The state of each scan, None for those that are gone. One round trip."""
        ...

    def scan_lives(self, keys: Sequence[str]) -> dict[str, Life]:
        """The state of each scan, and for how long its publisher was silent. One round trip."""
        ...

    def current_acquisition(self, detector: str) -> int | None:
        """The number of the acquisition that this detector, named by its address, was prepared for
        last; None if there was none. One round trip."""
        ...

    def load_scan(self, key: str) -> Any:
        """The scan under that key, read-only."""
        ...

    def load_scans(self, keys: Sequence[str]) -> dict[str, Any]:
        """Many scans, read-only; in the place of one that cannot be loaded, the error. One round
        trip."""
        ...
