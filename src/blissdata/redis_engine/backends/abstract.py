"""The seam: what the engine needs from a server besides streams. Each kind of server implements it.

`EventLog` (in `blissdata.streams.event_log`) is about points, `Catalog` about scans, `Backend` holds
both. Every method is one round trip and may be repeated after a lost reply.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from blissdata.exceptions import ScanLoadError
from blissdata.redis_engine.documents import ScanDocument, StreamDocument
from blissdata.streams.event_log import EventLog
from blissdata.streams.heartbeat import Life

__all__ = [
    "PIN_LAPSES_AFTER_S",
    "Announcement",
    "Backend",
    "Candidate",
    "Catalog",
    "LoadedScan",
    "PinLosses",
    "PinMove",
    "PinState",
    "Pins",
    "Record",
    "ServerInfo",
    "Step",
    "Upkeep",
    "Who",
]


@dataclass(frozen=True, slots=True)
class LoadedScan:
    """A scan as the server has it at one instant."""

    document: ScanDocument
    """The document."""

    state: int
    """Its state, 0 to 4."""

    state_id: str
    """Id of the state event that said so; `Catalog.wait_state` waits for the one after it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a scan's state stream."""

    state: int
    """The state that the scan reached, 0 to 4."""

    state_id: str
    """The event's id."""

    time: float
    """When, on the server's clock, Unix time [s]."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """One entry of the history of scans."""

    timetag: str
    """When, as `<ms>-<n>` on the server's clock; grows from scan to scan."""

    key: str
    """The scan."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a backend says about its server."""

    kind: str
    """`plain`, `memory`, …: how scans are stored."""

    why: str
    """Why this kind was chosen."""

    protocol: int | None
    """Version of the database; None: not prepared."""

    server: str
    """Product and version."""

    used_memory: int
    """[bytes]"""

    max_memory: int
    """[bytes]; 0: no limit."""

    clients: int
    """Open connections."""

    time: float
    """The server's clock, Unix time [s]."""


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the memory tracker's journal: where streams ended at one time."""

    ident: str
    """The entry's id, `<ms>-<n>` on the server's clock; grows from record to record."""

    ends: Mapping[str, int]
    """For each data stream the index of its last entry then; `MAX_INDEX` if it was sealed."""

    @property
    def time(self) -> float:
        """When, on the server's clock, Unix time [s]."""
        return int(self.ident.partition("-")[0]) / 1000


PIN_LAPSES_AFTER_S = 30.0
"""A pin whose holder was silent for longer holds nothing any more [s], unless it is a lasting one."""


@dataclass(frozen=True, slots=True)
class PinState:
    """A pin as the server has it: what a consumer of a scan asks the memory tracker not to forget."""

    key: str
    """Its key."""

    scan_key: str
    """The scan."""

    name: str
    """What the consumer calls it; one of that name per scan."""

    holder: str
    """Which program holds it, or held it last, for people."""

    lasting: bool
    """True if it holds until somebody decides, whether its program lives or not."""

    silence: float
    """Time since its holder's last sign of life [s]; 0 while the server refuses to take any."""

    everything: bool = True
    """True if streams without a position are held from their start on, False if not at all."""

    positions: Mapping[str, int] = field(default_factory=dict)
    """By key of a stream, the index from which on points are held."""

    lost: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """By key of a stream, the ranges of points (end exclusive) that were forgotten although the pin
    held them."""

    @property
    def silent(self) -> bool:
        """True if nothing was heard of its holder for so long that a pin lapses."""
        return self.silence > PIN_LAPSES_AFTER_S

    @property
    def lapsed(self) -> bool:
        """True if it holds nothing any more, because its holder is gone."""
        return self.silent and not self.lasting

    def position(self, stream_key: str) -> int | None:
        """From which index on it holds the points of a stream of its scan; None: none of them."""
        return self.positions.get(stream_key, 0 if self.everything else None)


@dataclass(frozen=True, slots=True)
class PinMove:
    """A sign of life of a pin's holder, and how far it has come."""

    key: str
    """The pin's."""

    scan_key: str
    """The scan."""

    token: str
    """By which the holder took the pin."""

    lasting: bool = False

    positions: Mapping[str, int] = field(default_factory=dict)
    """By key of a stream, the index in front of which points are of no interest any more. A pin never
    moves back."""


PinLosses = Mapping[str, tuple[tuple[int, int], ...]]
"""By key of a stream, ranges of points (end exclusive) that were forgotten although a pin held them."""


Who = Literal["tracker", "writer"]
"""Who says something of itself on the server."""


class Pins(Protocol):
    """What consumers ask the memory tracker not to forget. Works on a full server, once it was used on
    that server before; answers, or raises `StoreConnectionError`, soon."""

    def prepare(self) -> None:
        """Brings the server what pins need there, for a time when it is full. A refusal is no error."""
        ...

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
        """A pin of that name, from now on that of the holder with this token. One that is there keeps
        its positions, but for `positions`; `begins` counts for streams that have none. `keys` are all
        those of the scan (`Catalog.keys_of`): if they were to expire, they are not any more. Raises
        `ScanNotFoundError`."""
        ...

    def move(self, moves: Sequence[PinMove]) -> list[PinLosses | Exception]:
        """Signs of life, and how far consumers have come. For each pin all that it has lost, or the
        error, `PinGoneError`. Repeatable."""
        ...

    def release(self, key: str, token: str | None = None) -> bool:
        """Removes a pin; with a token, if it is still that of this holder. True if it was there."""
        ...

    def all(self) -> list[PinState]:
        """Every pin on the server, of scans under any prefix; those that have lapsed or lost their
        scan stay until somebody removes them, or a day has passed. Two round trips."""
        ...

    def lose(self, lost: Mapping[str, Mapping[str, int]]) -> None:
        """Notes down what could not be kept: for pins, by key, the first index that is left of
        streams, by key. Where a pin stands before that index it has lost what is between, and stands
        there from now on. Repeatable."""
        ...

    def keep(self, keys: Collection[str]) -> None:
        """Takes back that these keys of a scan were to expire."""
        ...

    def tell(self, about: Mapping[str, str], seconds: float, who: Who = "tracker") -> None:
        """What the memory tracker, or the file writer, says of itself, for so long [s]."""
        ...

    def told(self, who: Who = "tracker") -> dict[str, str]:
        """What the memory tracker, or the file writer, has said of itself; nothing if that is over."""
        ...


class Candidate(Protocol):
    """One of several programs of which only one shall do the work."""

    def leads(self, patience: float) -> bool:
        """True if it is this one. One that has not asked for `patience` [s] is passed over. One round
        trip; the first time, and after trouble, a new connection."""
        ...

    def close(self) -> None:
        """Leaves it to the others. Repeatable."""
        ...


class Upkeep(Protocol):
    """What the memory tracker needs from a server. Every method takes a batch; the round trips do not
    grow with the number of streams or scans. Works on a full server, but for `record`."""

    @property
    def complete_records(self) -> bool:
        """True if every record must name every stream, not only those that went on since the last."""
        ...

    def last_entries(self, keys: Sequence[str]) -> dict[str, int | None]:
        """For each stream the index of its last entry; `MAX_INDEX` if it is sealed, None if there is
        nothing. What is no stream is nothing."""
        ...

    def sizes(self, keys: Sequence[str]) -> dict[str, int]:
        """For each key about how much of the server's memory it takes [bytes], its own overhead included;
        0 if it is not there, or the server does not tell."""
        ...

    def forget(self, ends: Mapping[str, int]) -> dict[str, int | Exception]:
        """Forgets the entries in front of the one at the given index, of which some may stay; with
        `MAX_INDEX` all of a sealed stream but its seal. For each stream how many went. The last entry
        of a stream always stays."""
        ...

    def record(self, ends: Mapping[str, int]) -> str:
        """Adds a record (see `Record.ends`) to the journal and gives its id. Raises `ServerFullError`."""
        ...

    def records(self, after: str = "0-0", count: int | None = None) -> list[Record]:
        """The oldest records after that id, at most `count`, oldest first."""
        ...

    def newest_record(self) -> str | None:
        """The id of the newest record that was ever written, whether it is forgotten or not; None:
        there was none."""
        ...

    def forget_records(self, until: str) -> int:
        """Forgets the records up to that id (inclusive) and gives how many went."""
        ...

    def announced(self, since: str) -> tuple[str, list[str]]:
        """The keys of the scans, under any prefix, that were announced after the timetag `since`,
        deleted or not, as far as the history reaches; and the timetag up to which that is all."""
        ...

    def candidate(self, role: str) -> Candidate:
        """This program as one that could do the work of that name on this server."""
        ...


class Catalog(Protocol):
    """Scans on a server."""

    def create(self, document: ScanDocument) -> LoadedScan:
        """Stores the document, in state 0, with a first beat, and announces the scan."""
        ...

    def load(self, key: str) -> LoadedScan:
        """The scan. Raises `ScanNotFoundError`, also for one that is deleted, and
        `ScanValidationError`."""
        ...

    def load_many(self, keys: Sequence[str]) -> dict[str, LoadedScan | ScanLoadError]:
        """Many scans; for those that are gone or damaged, what `load` raises."""
        ...

    def advance(
        self,
        key: str,
        from_state: int,
        to_state: int,
        document: ScanDocument,
        *,
        as_stored: bool = False,
    ) -> str:
        """Stores the document and the new state, if the scan is in `from_state`; gives the id of
        the state event. A document `as_stored`, by whoever brought the scan into `from_state`, need not
        be stored again. Works on a full server. Raises `UnauthorizeStateTransition` naming the
        state that was found otherwise, `ScanNotFoundError`."""
        ...

    def wait_state(self, key: str, state_id: str, wait: float) -> bool:
        """Waits up to `wait` [s] for a state event after `state_id`; True if there is one."""
        ...

    def steps(self, key: str) -> list[Step]:
        """The states that the scan went through so far, oldest first, CREATED included. Raises
        `ScanNotFoundError` if there are none."""
        ...

    def states(self, keys: Sequence[str]) -> dict[str, int | None]:
        """The state of each scan; None for those that are gone."""
        ...

    def beat(self, keys: Collection[str]) -> None:
        """The publishers of these scans are alive. Works on a full server, and answers or raises
        `StoreConnectionError` soon. What is no open scan, or never had a beat, stays without."""
        ...

    def lives(self, keys: Sequence[str]) -> dict[str, Life]:
        """The state of each scan, and for how long its publisher was silent. A scan that is closed has
        no publisher any more."""
        ...

    def find(self, fields: Mapping[str, Any]) -> tuple[str, list[str]]:
        """The newest timetag, and the keys of all scans that are not deleted and whose fields are
        these, at one instant and in order of creation. Texts ignore case; `*` at their start or
        end stands for anything. `ValueError` for a `*` elsewhere."""
        ...

    def timetag(self) -> str:
        """The timetag of the newest scan, deleted or not; `0-0` if there was none."""
        ...

    def newest(self, count: int = 1, before: str | None = None) -> list[Announcement]:
        """The newest scans that are not deleted, `count` at most, the newest first; with `before` those
        before that timetag. Costs time for each of them, not for each scan that there is."""
        ...

    def announced(self, since: str, *, wait: float = 0.0) -> tuple[str, list[Announcement]]:
        """The next scans after the timetag `since` that are not deleted, oldest first, and the
        timetag up to which that is all. Scans older than the server's history are included. Waits
        up to `wait` [s] for a new one if there is none."""
        ...

    def expire(self, key: str, seconds: int) -> None:
        """Lets the scan and all its streams expire, at once, in at most that time; never lengthens.
        A scan that is gone already is none of its business."""
        ...

    def expire_many(self, keys: Sequence[str], seconds: int) -> None:
        """The same for many scans, in one round trip if it is longer than the grace of deletion."""
        ...

    def sweep(self) -> int:
        """Takes what has expired out of the search index and gives how many members went. Its round
        trips grow with the size of the index."""
        ...

    def is_scan_key(self, key: str) -> bool:
        """True if the key could be a scan's."""
        ...

    def scan_key(self, pk: str) -> str:
        """The key of the scan with that primary key."""
        ...

    def new_stream(
        self, scan_pk: str, encoding: dict[str, Any], info: dict[str, Any]
    ) -> StreamDocument:
        """A new data stream for a scan; nothing is stored."""
        ...

    def new_state_pk(self, scan_pk: str) -> str:
        """The primary key for a new scan's state stream."""
        ...

    def keys_of(self, document: ScanDocument) -> list[str]:
        """Every key of a scan, as far as its document tells: what expires with it. Asks nobody."""
        ...


class Backend(Protocol):
    """One server, of one kind."""

    @property
    def event_log(self) -> EventLog:
        """Its streams."""
        ...

    @property
    def upkeep(self) -> Upkeep:
        """What keeps it from filling up."""
        ...

    @property
    def pins(self) -> Pins:
        """What shall not be forgotten."""
        ...

    @property
    def client(self) -> Any:
        """The Redis client, None if there is none."""
        ...

    def catalog(
        self, prefix: str, identity_fields: Sequence[str], numbers: Collection[str] = ("number",)
    ) -> Catalog:
        """Its scans under one prefix. `numbers` are those of the fields that hold numbers; the
        others hold texts."""
        ...

    def info(self) -> ServerInfo:
        """What it says about itself. One round trip."""
        ...

    def used_memory(self) -> int:
        """How much memory it uses [bytes]. One round trip, a short one."""
        ...

    def protocol(self) -> int | str | None:
        """The version of the database; a text if that is no number, None if it is not prepared."""
        ...

    def initialise(self) -> None:
        """Prepares an empty server; raises `ServerNotEmptyError` for one that holds anything, but
        is content with one that is prepared already and holds no scan."""
        ...

    def current_acquisition(self, detector: str) -> int | None:
        """The number of the acquisition that this detector, named by its address, was prepared for
        last; None if there was none. Raises `StoreError` for what is no number."""
        ...

    def begin_acquisition(self, detector: str) -> int:
        """Counts the detector's next acquisition and gives its number, from 0 on. A repeat counts
        another one, which nobody minds: the numbers only tell acquisitions apart."""
        ...

    def flush(self) -> None:
        """Forgets everything on the server."""
        ...

    def close(self) -> None:
        """Closes its connections, and makes no more: then `StoreClosedError` is raised. Repeatable."""
        ...
