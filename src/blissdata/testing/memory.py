"""A server that is a dictionary: passes the same suite as the real ones, and is the model beside them.

It lives in one process, and forgets everything with it. Faults are switched on by hand: `full`,
`away`, `lose_replies`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from blissdata.exceptions import (
    DurabilityUnavailableError,
    PayloadError,
    PinGoneError,
    ScanLoadError,
    ScanNotFoundError,
    ServerFullError,
    ServerNotEmptyError,
    StoreConnectionError,
    StreamConflictError,
    StreamRewoundError,
    StreamSealedError,
    StreamVanishedError,
    UnauthorizeStateTransition,
)
from blissdata.redis_engine.backends.abstract import (
    Announcement,
    LoadedScan,
    PinLosses,
    PinMove,
    PinState,
    Record,
    ServerInfo,
    Step,
    Who,
)
from blissdata.redis_engine.backends.search import criteria, matches
from blissdata.redis_engine.documents import ScanDocument, StreamDocument
from blissdata.redis_engine.keys import (
    DELETION_GRACE_S,
    HISTORY_LENGTH,
    PLAIN_PROTOCOL,
    PlainKeys,
    new_ulid,
    pin_key,
)
from blissdata.streams.durability import Durability
from blissdata.streams.encoding import EncodedBatch
from blissdata.streams.entries import MAX_INDEX, Entry, Tail
from blissdata.streams.event_log import (
    AppendRequest,
    Arrivals,
    Bounds,
    SealRequest,
    SpanRequest,
)
from blissdata.streams.heartbeat import CLOSED, Life

__all__ = ["MemoryBackend"]


@dataclass
class _Stream:
    entries: list[Entry] = field(default_factory=list)
    end: int = 0
    sealed: bool = False

    @property
    def tail(self) -> Tail:
        return Tail(self.end, self.sealed)


@dataclass
class _StoredScan:
    text: str
    identity: dict[str, Any]
    timetag: tuple[int, int]
    states: list[int] = field(default_factory=lambda: [0])
    times: list[float] = field(default_factory=lambda: [time.time()])
    streams: set[str] = field(default_factory=set)
    expires: float | None = None
    pulse: float = field(default_factory=time.monotonic)

    @property
    def deleted(self) -> bool:
        return self.expires is not None and self.expires - time.monotonic() <= DELETION_GRACE_S


@dataclass
class _StoredPin:
    scan_key: str
    name: str
    token: str = ""
    holder: str = ""
    lasting: bool = False
    everything: bool = True
    positions: dict[str, int] = field(default_factory=dict)
    lost: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    beat: float = field(default_factory=time.monotonic)

    def losses(self) -> dict[str, tuple[tuple[int, int], ...]]:
        return {stream: tuple(ranges) for stream, ranges in self.lost.items()}

    def state(self, key: str) -> PinState:
        return PinState(
            key,
            self.scan_key,
            self.name,
            self.holder,
            self.lasting,
            time.monotonic() - self.beat,
            self.everything,
            dict(self.positions),
            self.losses(),
        )


class MemoryBackend:
    """`Backend`, `EventLog` and the source of `Catalog`s, in memory."""

    max_payload = 512 * 2**20
    session = 0

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.full = False
        """True: refuse new points and scans, as a server at its memory limit does."""
        self.away = False
        """True: raise `StoreConnectionError` at every call."""
        self.lose_replies = 0
        """How many of the next appends are carried out but answered by a lost connection."""
        self.streams: dict[str, _Stream] = {}
        self.scans: dict[str, _StoredScan] = {}
        self.history: list[tuple[tuple[int, int], str]] = []
        self.last_timetag = (0, 0)
        self.acquisitions: dict[str, int] = {}
        self.journal: list[Record] = []
        self.newest_record: str | None = None
        self.candidates: list[_MemoryCandidate] = []
        self.pinned: dict[str, _StoredPin] = {}
        self.said: dict[Who, tuple[float, dict[str, str]]] = {}
        self.version: int | None = None

    # ------------------------------------------------------------------------------ backend

    @property
    def event_log(self) -> MemoryBackend:
        return self

    @property
    def upkeep(self) -> _MemoryUpkeep:
        return _MemoryUpkeep(self)

    @property
    def pins(self) -> _MemoryPins:
        return _MemoryPins(self)

    @property
    def client(self) -> None:
        return None

    def catalog(
        self, prefix: str, identity_fields: Sequence[str], numbers: Collection[str] = ("number",)
    ) -> _MemoryCatalog:
        return _MemoryCatalog(self, prefix, identity_fields)

    def info(self) -> ServerInfo:
        return ServerInfo(
            "memory", "for tests", self.version, "memory 1", self.used_memory(), 0, 1, time.time()
        )

    def used_memory(self) -> int:
        self.check()
        return sum(len(e.batch.payload) for s in self.streams.values() for e in s.entries)

    def protocol(self) -> int | str | None:
        self.check()
        return self.version

    def initialise(self) -> None:
        self.check()
        with self.changed:
            if self.scans or self.streams:
                raise ServerNotEmptyError(
                    f"the server already holds {len(self.scans)} scans and {len(self.streams)} "
                    "streams, and only an empty one is prepared"
                )
            self.version = PLAIN_PROTOCOL

    def flush(self) -> None:
        self.check()
        with self.changed:
            self.streams.clear()
            self.scans.clear()
            self.history.clear()
            self.journal.clear()
            self.newest_record = None
            self.pinned.clear()
            self.acquisitions.clear()
            self.version = None

    def current_acquisition(self, detector: str) -> int | None:
        self.check()
        with self.changed:
            return self.acquisitions.get(detector)

    def begin_acquisition(self, detector: str) -> int:
        self.check()
        if self.full:
            raise ServerFullError("the memory server is full")
        with self.changed:
            number = self.acquisitions.get(detector, -1) + 1
            self.acquisitions[detector] = number
            return number

    def close(self) -> None:
        """Nothing to close: the data stay for other stores on this backend."""

    def check(self) -> None:
        """Raises if the server is switched away."""
        if self.away:
            raise StoreConnectionError("the memory server is away")

    # ------------------------------------------------------------------------------ event log

    def require(self, durability: Durability) -> None:
        """Memory is all there is."""
        if durability is not Durability.MEMORY:
            raise DurabilityUnavailableError(f"Points in memory cannot be kept on {durability}")

    def post(self, key: str, request: AppendRequest) -> None:
        """Nothing is sent apart from its outcome here."""

    def append(self, requests: Mapping[str, AppendRequest]) -> dict[str, int | Exception]:
        self.check()
        with self.changed:
            outcomes = {key: self._append(key, request) for key, request in requests.items()}
            self.changed.notify_all()
            if self.lose_replies:
                self.lose_replies -= 1
                raise StoreConnectionError("the reply was lost")
        return outcomes

    def _append(self, key: str, request: AppendRequest) -> int | Exception:
        if self.full:
            return ServerFullError("the memory server is full")
        stream = self.streams.get(key)
        if stream is None:
            if request.scan_key is not None and not self._alive(request.scan_key):
                return StreamVanishedError(f"{key}: its scan was deleted from the server")
            if request.index:
                return StreamRewoundError(f"{key}: the server has only 0 points")
            stream = self._begin(key, request.scan_key)
        if (stream.sealed or stream.end > request.index) and request.repeat:
            there = [e for e in stream.entries if request.index <= e.index < request.end]
            if there and there == _entries(request)[-len(there) :]:  # the first may be trimmed
                return request.end
        if stream.sealed and request.scan_key is not None and not self._alive(request.scan_key):
            return StreamVanishedError(f"{key}: its scan was deleted from the server")
        if stream.sealed:
            return StreamSealedError(f"{key}: it is sealed with {stream.end} points")
        if stream.end > request.index:
            return StreamConflictError(f"{key}: the stream goes to index {stream.end}")
        if stream.end < request.index:
            return StreamRewoundError(f"{key}: the server has only {stream.end} points")
        stream.entries += _entries(request)
        stream.end = request.end
        return request.end

    def _begin(self, key: str, scan_key: str | None) -> _Stream:
        stream = self.streams[key] = _Stream()
        if scan_key is not None:
            self.scans[scan_key].streams.add(key)
        return stream

    def _alive(self, scan_key: str) -> bool:
        scan = self.scans.get(scan_key)
        return scan is not None and not scan.deleted

    def read(
        self,
        positions: Mapping[str, int],
        *,
        wait: float = 0.0,
        max_entries: int | Mapping[str, int],
        nbytes: int = 0,
    ) -> dict[str, Arrivals | PayloadError]:
        self.check()
        deadline = time.monotonic() + wait
        with self.changed:
            while not (found := self._read(positions, max_entries)):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self.changed.wait(left)
                self.check()
        return found

    def ahead(self) -> _Ahead:
        return _Ahead(self)

    def _read(
        self, positions: Mapping[str, int], max_entries: int | Mapping[str, int]
    ) -> dict[str, Arrivals | PayloadError]:
        found: dict[str, Arrivals | PayloadError] = {}
        for key, position in positions.items():
            stream = self.streams.get(key)
            if stream is None:
                continue
            count = max_entries if isinstance(max_entries, int) else max_entries[key]
            entries = [e for e in stream.entries if e.index >= position]
            seal = stream.end if stream.sealed and len(entries) < count else None
            if entries or seal is not None:
                found[key] = Arrivals(tuple(entries[:count]), seal)
        return found

    def span(self, requests: Sequence[SpanRequest]) -> list[tuple[Tail, tuple[Entry, ...]]]:
        self.check()
        with self.changed:
            return [self._span(request) for request in requests]

    def _span(self, request: SpanRequest) -> tuple[Tail, tuple[Entry, ...]]:
        stream = self.streams.get(request.key, _Stream())
        stop = MAX_INDEX if request.stop is None else request.stop
        wanted = (
            ()
            if request.only_tail
            else tuple(e for e in stream.entries if e.end > request.start and e.index < stop)
        )
        return stream.tail, wanted

    def holding(self, key: str, index: int, nbytes: int = 0) -> Entry | None:
        ((_, entries),) = self.span([SpanRequest(key, index, index + 1)])
        return entries[0] if entries else None

    def newest(self, keys: Sequence[str]) -> dict[str, tuple[Tail, Entry | None]]:
        self.check()
        with self.changed:
            streams = {key: self.streams.get(key, _Stream()) for key in keys}
            return {
                key: (stream.tail, stream.entries[-1] if stream.entries else None)
                for key, stream in streams.items()
            }

    def bounds(self, keys: Sequence[str]) -> dict[str, Bounds]:
        self.check()
        with self.changed:
            streams = {key: self.streams.get(key, _Stream()) for key in keys}
            return {
                key: Bounds(stream.entries[0].index if stream.entries else stream.end, stream.tail)
                for key, stream in streams.items()
            }

    def seal(self, requests: Mapping[str, SealRequest]) -> dict[str, int | Exception]:
        self.check()
        with self.changed:
            outcomes = {key: self._seal(key, request) for key, request in requests.items()}
            self.changed.notify_all()
        return outcomes

    def _seal(self, key: str, request: SealRequest) -> int | Exception:
        stream = self.streams.get(key)
        if stream is not None and stream.sealed:
            return stream.end
        gone = request.scan_key is not None and not self._alive(request.scan_key)
        if stream is None and gone:
            return StreamVanishedError(f"{key}: its scan was deleted from the server")
        end = 0 if stream is None else stream.end
        if request.length is not None and request.length > end:
            return StreamRewoundError(f"{key}: the server has only {end} points")
        if request.length is not None and request.length < end:
            return StreamConflictError(f"{key}: the stream goes to index {end}")
        if stream is None:
            stream = self._begin(key, request.scan_key)
        stream.sealed = True
        return stream.end

    def trim(self, indices: Mapping[str, int]) -> dict[str, int | Exception]:
        self.check()
        with self.changed:
            return {key: self._trim(key, index) for key, index in indices.items()}

    def trim_entries(self, key: str, index: int) -> int:
        """Forgets the entries in front of the one at `index`, but never the last one."""
        stream = self.streams.get(key, _Stream())
        last = None if stream.sealed or not stream.entries else stream.entries[-1]
        kept = [e for e in stream.entries if e.index >= index or e is last]
        gone = len(stream.entries) - len(kept)
        stream.entries = kept
        return gone

    def _trim(self, key: str, index: int) -> int:
        stream = self.streams.get(key, _Stream())
        last = None if stream.sealed or not stream.entries else stream.entries[-1]
        kept = [e for e in stream.entries if e.end > index or e is last]
        gone = len(stream.entries) - len(kept)
        stream.entries = kept
        return gone


class _Ahead:
    """See `ReadsAhead`: what was there when it was asked for."""

    def __init__(self, server: MemoryBackend) -> None:
        self._server = server
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True

    def ask(
        self, positions: Mapping[str, int], *, max_entries: Mapping[str, int], nbytes: int = 0
    ) -> Callable[[], Mapping[str, Arrivals | PayloadError] | None]:
        found = self._server.read(positions, max_entries=max_entries, nbytes=nbytes)
        return lambda: None if self._is_over else found


class _MemoryUpkeep:
    """`Upkeep` of a `MemoryBackend`."""

    complete_records = False

    def __init__(self, server: MemoryBackend) -> None:
        self._server = server

    def last_entries(self, keys: Sequence[str]) -> dict[str, int | None]:
        self._server.check()
        with self._server.changed:
            return {key: self._last(self._server.streams.get(key)) for key in keys}

    def _last(self, stream: _Stream | None) -> int | None:
        if stream is None:
            return None
        if stream.sealed:
            return MAX_INDEX
        return stream.entries[-1].index if stream.entries else None

    def sizes(self, keys: Sequence[str]) -> dict[str, int]:
        self._server.check()
        with self._server.changed:
            return {key: self._size(key) for key in keys}

    def _size(self, key: str) -> int:
        scan, stream = self._server.scans.get(key), self._server.streams.get(key)
        entries = stream.entries if stream else []
        return len(scan.text if scan else "") + sum(len(e.batch.payload) for e in entries)

    def forget(self, ends: Mapping[str, int]) -> dict[str, int | Exception]:
        self._server.check()
        with self._server.changed:
            return {key: self._server.trim_entries(key, end) for key, end in ends.items()}

    def record(self, ends: Mapping[str, int]) -> str:
        self._server.check()
        if self._server.full:
            raise ServerFullError("the memory server is full")
        journal = self._server.journal
        ms, n = time.time_ns() // 1_000_000, 0
        if journal:
            last_ms, last_n = map(int, journal[-1].ident.split("-"))
            ms, n = max((ms, 0), (last_ms, last_n + 1))
        journal.append(Record(f"{ms}-{n}", dict(ends)))
        self._server.newest_record = journal[-1].ident
        return journal[-1].ident

    def records(self, after: str = "0-0", count: int | None = None) -> list[Record]:
        self._server.check()
        found = [r for r in self._server.journal if _order(r.ident) > _order(after)]
        return found[:count]

    def newest_record(self) -> str | None:
        self._server.check()
        return self._server.newest_record

    def forget_records(self, until: str) -> int:
        self._server.check()
        before = self._server.journal
        self._server.journal = [r for r in before if _order(r.ident) > _order(until)]
        return len(before) - len(self._server.journal)

    def announced(self, since: str) -> tuple[str, list[str]]:
        self._server.check()
        found = [(tag, key) for tag, key in self._server.history if tag > _order(since)]
        return (_text(found[-1][0]) if found else since), [key for _, key in found]

    def candidate(self, role: str) -> _MemoryCandidate:
        return _MemoryCandidate(self._server, role)


def _order(ident: str) -> tuple[int, int]:
    ms, _, n = ident.partition("-")
    return int(ms), int(n or 0)


class _MemoryCandidate:
    """`Candidate` among the users of a `MemoryBackend`."""

    def __init__(self, server: MemoryBackend, role: str) -> None:
        self._server = server
        self.role = role
        self.asked = 0.0

    def leads(self, patience: float) -> bool:
        self._server.check()
        with self._server.changed:
            if self not in self._server.candidates:
                self._server.candidates.append(self)
            self.asked = time.monotonic()
            present = [
                other
                for other in self._server.candidates
                if other is self
                or (other.role == self.role and self.asked - other.asked <= patience)
            ]
            return present[0] is self

    def close(self) -> None:
        with self._server.changed:
            if self in self._server.candidates:
                self._server.candidates.remove(self)


class _MemoryPins:
    """`Pins` of a `MemoryBackend`."""

    def __init__(self, server: MemoryBackend) -> None:
        self._server = server

    def prepare(self) -> None:
        """Nothing to bring."""

    def take(
        self,
        scan_key: str,
        name: str,
        token: str,
        *,
        holder: str,
        lasting: bool,
        everything: bool,
        begins: Mapping[str, int],
        positions: Mapping[str, int],
        keys: Collection[str],
    ) -> PinState:
        self._server.check()
        with self._server.changed:
            scan = self._server.scans.get(scan_key)
            if scan is None or scan.deleted:
                raise ScanNotFoundError(f"Scan {scan_key} cannot be pinned: it was deleted")
            scan.expires = None
            key = pin_key(scan_key, name)
            pin = self._server.pinned.setdefault(key, _StoredPin(scan_key, name))
            pin.token, pin.holder, pin.lasting, pin.everything = token, holder, lasting, everything
            pin.positions = {**begins, **pin.positions, **positions}
            pin.beat = time.monotonic()
            return pin.state(key)

    def move(self, moves: Sequence[PinMove]) -> list[PinLosses | Exception]:
        self._server.check()
        with self._server.changed:
            return [self._move(move) for move in moves]

    def _move(self, move: PinMove) -> PinLosses | Exception:
        pin = self._server.pinned.get(move.key)
        scan = self._server.scans.get(move.scan_key)
        if scan is None or scan.deleted:
            return PinGoneError(f"Pin {move.key} holds nothing any more: its scan was deleted")
        if pin is None:
            return PinGoneError(f"Pin {move.key} holds nothing any more: somebody removed it")
        if pin.token != move.token:
            return PinGoneError(
                f"Pin {move.key} holds nothing any more: {pin.holder} has taken it over"
            )
        for stream, index in move.positions.items():
            before = pin.positions.get(stream, 0 if pin.everything else None)
            if before is None or index > before:
                pin.positions[stream] = index
        pin.beat = time.monotonic()
        return pin.losses()

    def release(self, key: str, token: str | None = None) -> bool:
        self._server.check()
        with self._server.changed:
            pin = self._server.pinned.get(key)
            if pin is None or token not in (None, pin.token):
                return False
            del self._server.pinned[key]
            return True

    def all(self) -> list[PinState]:
        self._server.check()
        with self._server.changed:
            return [pin.state(key) for key, pin in sorted(self._server.pinned.items())]

    def lose(self, lost: Mapping[str, Mapping[str, int]]) -> None:
        self._server.check()
        with self._server.changed:
            for key, streams in lost.items():
                if key in self._server.pinned:
                    self._lose(self._server.pinned[key], streams)

    def _lose(self, pin: _StoredPin, streams: Mapping[str, int]) -> None:
        for stream, upto in streams.items():
            at = pin.positions.get(stream, 0 if pin.everything else upto)
            if at >= upto:
                continue
            ranges = pin.lost.setdefault(stream, [])
            if ranges and ranges[-1][1] == at:
                at, _ = ranges.pop()
            ranges.append((at, upto))
            pin.positions[stream] = upto

    def keep(self, keys: Collection[str]) -> None:
        self._server.check()
        with self._server.changed:
            for key in keys:
                if key in self._server.scans:
                    self._server.scans[key].expires = None

    def tell(self, about: Mapping[str, str], seconds: float, who: Who = "tracker") -> None:
        self._server.check()
        self._server.said[who] = (time.monotonic() + seconds, dict(about))

    def told(self, who: Who = "tracker") -> dict[str, str]:
        self._server.check()
        until, about = self._server.said.get(who, (0.0, {}))
        return dict(about) if time.monotonic() < until else {}


class _MemoryCatalog:
    """`Catalog` over a `MemoryBackend`."""

    def __init__(self, server: MemoryBackend, prefix: str, identity_fields: Sequence[str]) -> None:
        self._server = server
        self._keys = PlainKeys(prefix)
        self._fields = tuple(identity_fields)

    def create(self, document: ScanDocument) -> LoadedScan:
        self._server.check()
        if self._server.full:
            raise ServerFullError("the memory server is full")
        key = self._keys.scan(document.pk)
        with self._server.changed:
            if key in self._server.scans:
                return self.load(key)
            timetag = max(
                (time.time_ns() // 1_000_000, 0),
                (self._server.last_timetag[0], self._server.last_timetag[1] + 1),
            )
            self._server.last_timetag = timetag
            self._server.scans[key] = _StoredScan(
                document.to_json(), dict(document.identity), timetag
            )
            self._server.history = [*self._server.history, (timetag, key)][-HISTORY_LENGTH:]
            self._server.changed.notify_all()
        return self.load(key)

    def _stored(self, key: str) -> _StoredScan:
        self._server.check()
        scan = self._server.scans.get(key)
        if scan is None or scan.deleted:
            raise ScanNotFoundError(f"There is no scan {key}: it was deleted, or the key is wrong")
        return scan

    def load(self, key: str) -> LoadedScan:
        with self._server.changed:
            scan = self._stored(key)
            pk = self._keys.scan_pk(key)
            document = ScanDocument.from_json(key, scan.text, lambda s: self._keys.stream(pk, s))
            return LoadedScan(document, scan.states[-1], str(len(scan.states)))

    def load_many(self, keys: Sequence[str]) -> dict[str, LoadedScan | ScanLoadError]:
        found: dict[str, LoadedScan | ScanLoadError] = {}
        for key in keys:
            try:
                found[key] = self.load(key)
            except ScanLoadError as error:
                found[key] = error
        return found

    def advance(
        self,
        key: str,
        from_state: int,
        to_state: int,
        document: ScanDocument,
        *,
        as_stored: bool = False,
    ) -> str:
        with self._server.changed:
            scan = self._stored(key)
            if scan.states[-1] != from_state:
                raise UnauthorizeStateTransition(
                    str(scan.states[-1]), str(to_state), f"somebody else moved scan {key}"
                )
            if not as_stored:
                scan.text = document.to_json()
            scan.states.append(to_state)
            scan.times.append(time.time())
            self._server.changed.notify_all()
            return str(len(scan.states))

    def steps(self, key: str) -> list[Step]:
        with self._server.changed:
            scan = self._stored(key)
            pairs = enumerate(zip(scan.states, scan.times, strict=True), 1)
            return [Step(state, str(n), when) for n, (state, when) in pairs]

    def wait_state(self, key: str, state_id: str, wait: float) -> bool:
        self._server.check()

        def moved() -> bool:
            scan = self._server.scans.get(key)
            return scan is not None and len(scan.states) > int(state_id)

        with self._server.changed:
            return self._server.changed.wait_for(moved, wait)

    def states(self, keys: Sequence[str]) -> dict[str, int | None]:
        self._server.check()
        with self._server.changed:
            scans = {key: self._server.scans.get(key) for key in keys}
            return {
                key: None if scan is None or scan.deleted else scan.states[-1]
                for key, scan in scans.items()
            }

    def beat(self, keys: Collection[str]) -> None:
        self._server.check()
        with self._server.changed:
            for key in keys:
                if key in self._server.scans:
                    self._server.scans[key].pulse = time.monotonic()

    def lives(self, keys: Sequence[str]) -> dict[str, Life]:
        lives: dict[str, Life] = {}
        for key, state in self.states(keys).items():
            scan = self._server.scans.get(key)
            known = scan is not None and state is not None and state < CLOSED
            lives[key] = Life(state, time.monotonic() - scan.pulse if scan and known else None)
        return lives

    def _living(self) -> list[tuple[str, _StoredScan]]:
        prefix = self._keys.scan_prefix
        return [
            (key, scan)
            for key, scan in self._server.scans.items()
            if key.startswith(prefix) and not scan.deleted
        ]

    def find(self, fields: Mapping[str, Any]) -> tuple[str, list[str]]:
        wanted = criteria(fields, self._fields)
        with self._server.changed:
            self._server.check()
            found = sorted(key for key, scan in self._living() if matches(scan.identity, wanted))
            return self.timetag(), found

    def timetag(self) -> str:
        self._server.check()
        return _text(self._server.history[-1][0]) if self._server.history else "0-0"

    def newest(self, count: int = 1, before: str | None = None) -> list[Announcement]:
        self._server.check()
        with self._server.changed:
            living = sorted((scan.timetag, key) for key, scan in self._living())
        found = [pair for pair in living if before is None or pair[0] < _order(before)]
        return [Announcement(_text(tag), key) for tag, key in found[::-1][:count]]

    def announced(self, since: str, *, wait: float = 0.0) -> tuple[str, list[Announcement]]:
        self._server.check()
        ms, _, n = since.partition("-")
        after = (int(ms), int(n))

        def newer() -> list[tuple[tuple[int, int], str, bool]]:
            return sorted(
                (scan.timetag, key, scan.deleted)
                for key, scan in self._server.scans.items()
                if key.startswith(self._keys.scan_prefix) and scan.timetag > after
            )

        with self._server.changed:
            self._server.changed.wait_for(newer, wait)
            found = newer()
        last = max([after, *(timetag for timetag, _, _ in found)])
        living = [Announcement(_text(timetag), key) for timetag, key, gone in found if not gone]
        return _text(last), living

    def expire(self, key: str, seconds: int) -> None:
        self._server.check()
        with self._server.changed:
            scan = self._server.scans.get(key)
            if scan is not None:
                at = time.monotonic() + seconds
                scan.expires = at if scan.expires is None else min(at, scan.expires)
            self._server.changed.notify_all()

    def expire_many(self, keys: Sequence[str], seconds: int) -> None:
        for key in keys:
            self.expire(key, seconds)

    def sweep(self) -> int:
        self._server.check()
        return 0

    def is_scan_key(self, key: str) -> bool:
        return self._keys.is_scan(key)

    def scan_key(self, pk: str) -> str:
        return self._keys.scan(pk)

    def new_stream(
        self, scan_pk: str, encoding: dict[str, Any], info: dict[str, Any]
    ) -> StreamDocument:
        pk = new_ulid()
        key = self._keys.stream(scan_pk, pk)
        return StreamDocument(pk, encoding, info, key, self._keys.scan(scan_pk))

    def new_state_pk(self, scan_pk: str) -> str:
        return scan_pk

    def keys_of(self, document: ScanDocument) -> list[str]:
        streams = [stream.key() for stream in document.streams.values()]
        return [self._keys.scan(document.pk), self._keys.state(document.pk), *streams]


def _entries(request: AppendRequest) -> list[Entry]:
    entries, index = [], request.index
    for batch in request.batches:
        entries.append(Entry(index, EncodedBatch(bytes(batch.payload), batch.len)))
        index += batch.len
    return entries


def _text(timetag: tuple[int, int]) -> str:
    return f"{timetag[0]}-{timetag[1]}"
