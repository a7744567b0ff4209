"""A scan: a JSON header over streams, and the table of steps it goes through.

    CREATED ──prepare──▶ PREPARED ──start──▶ STARTED ──stop──▶ STOPPED ──close──▶ CLOSED
       └──────────────────────┴──────────────────┴────────────close──────────────────▲

Readers learn of streams at PREPARED, and of changes of `info` at PREPARED and CLOSED. Only
`Scan._advance` changes the state of a scan that is written, only `Scan._adopt` that of one that is
read.
"""

from __future__ import annotations

import atexit
import datetime
import hashlib
import json
import logging
import os
import time
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from types import TracebackType
from typing import Any, Protocol

from numpy.typing import DTypeLike

from blissdata.exceptions import (
    NoWritePermission,
    ScanInfoError,
    ScanNotFoundError,
    ScanValidationError,
    StoreConnectionError,
    StreamExistsError,
    StreamVanishedError,
    UnauthorizeStateTransition,
    UnknownEncodingError,
)
from blissdata.old_names import once_called
from blissdata.redis_engine.backends.abstract import Backend, Catalog, LoadedScan
from blissdata.redis_engine.documents import ScanDocument, StreamDocument, info_text
from blissdata.redis_engine.pins import Pin, PinKeeper
from blissdata.streams import plugins
from blissdata.streams.availability import Availability
from blissdata.streams.base import BaseStream, StreamDefinition
from blissdata.streams.deadline import Deadline
from blissdata.streams.default import Stream
from blissdata.streams.durability import Durability
from blissdata.streams.encoding import StreamEncoder
from blissdata.streams.event_log import StoreLike
from blissdata.streams.event_stream import WAIT_SLICE_S, EventStream
from blissdata.streams.heartbeat import Heartbeat, Suspicion, publisher_lost
from blissdata.streams.where import availability_of

__all__ = ["Scan", "ScanState", "known_state", "known_states"]

_logger = logging.getLogger(__name__)


class ScanState(IntEnum):
    """How far a scan is (protocol 1, "Life of a scan")."""

    CREATED = 0
    """Announced; nothing is known of its streams."""
    PREPARED = 1
    """The streams are known."""
    STARTED = 2
    """Points are coming."""
    STOPPED = 3
    """No more points: every stream is sealed."""
    CLOSED = 4
    """The header is final."""


_STEPS: dict[ScanState, frozenset[ScanState]] = {
    ScanState.PREPARED: frozenset({ScanState.CREATED}),
    ScanState.STARTED: frozenset({ScanState.PREPARED}),
    ScanState.STOPPED: frozenset({ScanState.STARTED}),
    ScanState.CLOSED: frozenset(ScanState) - {ScanState.CLOSED},
}
"""From which states each state is reached."""

_INFO_REACHES_READERS = frozenset({ScanState.PREPARED, ScanState.CLOSED})
"""The steps with which readers learn of changes of `info`."""

_SEALING = frozenset({ScanState.STOPPED, ScanState.CLOSED})
"""The steps that end every stream of this publisher first."""


class ScanStore(StoreLike, Protocol):
    """What a scan needs from the data store that it belongs to."""

    @property
    def backend(self) -> Backend:
        """The server's kind."""
        ...

    @property
    def catalog(self) -> Catalog:
        """The server's scans."""
        ...

    @property
    def heartbeat(self) -> Heartbeat:
        """The signs of life that this process gives."""
        ...

    @property
    def pin_keeper(self) -> PinKeeper:
        """The pins that this process holds."""
        ...


class Scan:
    """One scan, for writing (`DataStore.create_scan`) or for reading (`DataStore.load_scan`).

    The identity fields (`name`, `number`, `path`, …) are attributes as well. As a context manager
    it closes itself, and says in `info["end_reason"]` whether that was a success.
    """

    def __init__(
        self,
        data_store: ScanStore,
        key: str,
        loaded: LoadedScan,
        writable: bool,
        durability: Durability = Durability.MEMORY,
    ) -> None:
        self._data_store = data_store
        self._key = key
        self._writable = writable
        self._durability = durability
        if writable:
            self._pid = os.getpid()
            _written.add(self)
            data_store.heartbeat.begin(key)
        self._streams: dict[str, BaseStream] = {}
        self._writers: dict[str, BaseStream] = {}
        self._announced: set[str] = set()
        self._deleted = False
        self._suspicion = Suspicion()
        self._looked = time.monotonic()
        self._published_info = ""
        self._published_streams = b""
        self._adopt(loaded)

    def _adopt(self, loaded: LoadedScan) -> None:
        """Takes over what the server has."""
        self._document = loaded.document
        self._state = known_state(self._key, loaded.state)
        self._state_id = loaded.state_id
        self._announced = set(loaded.document.streams)
        if self._writable:
            self._published_info = loaded.document.info_json()
            self._published_streams = _digest(loaded.document.streams_json())

    # ------------------------------------------------------------------------------ what it is

    @property
    def key(self) -> str:
        """The scan's key on the server."""
        return self._key

    @property
    def data_store(self) -> ScanStore:
        """The store that the scan lives in."""
        return self._data_store

    @property
    def state(self) -> ScanState:
        """How far the scan is; on the reading side, at the last `update`."""
        return self._state

    @property
    def identity(self) -> dict[str, Any]:
        """The searchable fields (a copy)."""
        return dict(self._document.identity)

    @property
    def info(self) -> dict[str, Any]:
        """What the publisher says about the scan: a plain dict, to be changed in place.

        Readers learn of changes at `prepare` and `close`; each step replaces it by a copy as JSON
        gives it back (NaN and infinities become None, tuples lists). Changes on a read-only scan
        stay local."""
        return self._document.info

    @info.setter
    def info(self, info: dict[str, Any]) -> None:
        self._require_writable("replace its info")
        if not isinstance(info, dict):
            raise TypeError(f"scan.info is a dict, not a {type(info).__name__}")
        self._document.info = info

    @property
    def _model(self) -> _ScanModel:
        """The document, as programs written for blissdata 2.x see it: when `close` fails for what
        JSON cannot hold, they do `scan._model = scan._model.get(scan._model.pk)`, and close again."""
        return _ScanModel(self._document.pk, self.info, self._data_store.catalog)

    @_model.setter
    def _model(self, model: _ScanModel) -> None:
        self._require_writable("replace its document")
        self._document.info = model.info

    @property
    def streams(self) -> dict[str, BaseStream]:
        """The scan's streams by name, for reading: empty before PREPARED, then the same objects
        each time. No round trip."""
        if self._state < ScanState.PREPARED:
            return _Streams(self._key, self._state)
        for name, document in self._document.streams.items():
            if name in self._announced and name not in self._streams:
                self._streams[name] = self._open_stream(name, document)
        return _Streams(self._key, self._state, self._streams)

    @property
    def stream_names(self) -> list[str]:
        """The names of `streams`, of which none is opened for it. No round trip."""
        known = self._state >= ScanState.PREPARED
        return [name for name in self._document.streams if known and name in self._announced]

    def __getattr__(self, name: str) -> Any:
        document = self.__dict__.get("_document")
        if document is not None and name in document.identity:
            return document.identity[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._document.identity})

    def __repr__(self) -> str:
        return f'Scan(key:"{self._key}", {self._state.name})'

    def _repr_html_(self) -> str:
        """What a notebook shows; no round trip."""
        from blissdata.notebook import scan_html

        known = self.stream_names
        streams = [
            (name, *_described(document.info or {}))
            for name, document in self._document.streams.items()
            if name in known
        ]
        return scan_html(self._key, self._state.name, self.identity, self.info, streams)

    # ------------------------------------------------------------------------------ reading

    def update(self, block: bool = True, timeout: float = 0) -> bool:
        """Waits until the state changes and takes over what the server has; True if it changed.

        False when the time is up (`timeout` [s], 0: for ever; `block=False` does not wait), and at
        once when the scan is CLOSED. Raises `ScanNotFoundError` once the scan is deleted, and
        `PublisherLostError` while it waits and the publisher gives no sign of life any more."""
        deadline = Deadline.from_2x(block, timeout)
        while True:
            loaded = self._data_store.catalog.load(self._key)
            if loaded.state_id != self._state_id:
                changed = loaded.state != self._state
                self._adopt(loaded)
                self._suspicion.forget()
                self._looked = time.monotonic()
                if changed:
                    return True
            if self._state == ScanState.CLOSED or deadline.passed:
                return False
            waited = self._data_store.catalog.wait_state(
                self._key, self._state_id, deadline.remaining(WAIT_SLICE_S)
            )
            if not waited and time.monotonic() - self._looked >= WAIT_SLICE_S:
                self._look_for_the_publisher()

    def _look_for_the_publisher(self) -> None:
        self._looked = time.monotonic()
        lives = self._data_store.scan_lives([self._key])
        if self._suspicion.lost(lives):
            raise publisher_lost(f"Scan {self._key}", lives[self._key])

    def wait_state(self, state: ScanState, timeout: float | None = None) -> bool:
        """Waits until the scan has reached `state` or a later one, `timeout` [s] at most (None: for
        ever); True if it has. Raises as `update` does."""
        deadline = Deadline(timeout)
        self.update(block=False)
        while self._state < state:
            if deadline.passed:
                return False
            self.update(timeout=max(deadline.remaining(WAIT_SLICE_S), 0.001))
        return True

    def pin(
        self,
        name: str,
        positions: Mapping[str, int] | None = None,
        *,
        streams: Collection[str] | None = None,
        lasting: bool = False,
    ) -> Pin:
        """Asks the memory tracker not to forget what this program has not had yet: a `Pin` of that name,
        to be moved on. One round trip.

        Held are the points of all streams from their start on, also of streams that come later; or of
        `streams` alone. `positions` says, by name of a stream, from which index on. What is forgotten
        already does not come back; up to which memory pins are kept is the operator's choice (option
        `--pin-limit` of the tracker). A closed scan does not expire while it is pinned.

        A pin of that name that is there already is taken over, with its positions: a consumer that was
        killed goes on where it had told to be, and whoever held it gets `PinGoneError`. The pin of a
        program that ends without releasing it lapses after half a minute; a `lasting` one stays until
        somebody takes it over, or removes it (`DataStore.remove_pin`, `blissdata pins --remove`).

        Raises `ScanNotFoundError` for a scan that is deleted, `KeyError` for an unknown stream,
        `ValueError` for a name that is none."""
        return self._data_store.pin_keeper.take(
            self._key,
            name,
            lambda: {name: doc.key() for name, doc in self._document.streams.items()},
            self._data_store.catalog.keys_of(self._document),
            only=streams,
            positions=positions or {},
            lasting=lasting,
        )

    def availability(self) -> dict[str, Availability]:
        """For each stream by its name, where its points are now; one that cannot be asked has a
        `problem`. One or two round trips for all of them; never waits. Empty before PREPARED. See
        `BaseStream.availability`."""
        streams = self.streams
        found = availability_of(streams.values())
        return {name: found[stream] for name, stream in streams.items()}

    def _open_stream(self, name: str, document: StreamDocument) -> BaseStream:
        try:
            events = EventStream.open(self._data_store, name, document)
        except UnknownEncodingError as error:
            stand_in = EventStream.undecodable(self._data_store, name, document, error)
            return plugins.broken_stream(stand_in, error)
        return plugins.open_stream(events)

    # ------------------------------------------------------------------------------ writing

    @once_called(definition="stream_definition")
    def create_stream(
        self,
        definition: StreamDefinition | str,
        encoder: StreamEncoder | None = None,
        info: Mapping[str, Any] | None = None,
        *,
        dtype: DTypeLike | None = None,
        shape: Sequence[int] | None = None,
        **metadata: Any,
    ) -> BaseStream:
        """A new stream, which writes and reads. Readers see it from the next step on: where it is created
        after `prepare`, that is `start`, and after `start` not before `stop` (its points wait for them on
        the server).

        Either from a definition (`Stream.make_definition(…)`, or that of a plugin), or by name:
        `create_stream("diode", dtype="float64", unit="A")`, where `dtype` may be `"json"`, `shape`
        is that of one point and further keywords go into the stream's info.

        Raises `RuntimeError` if the name is taken, `UnauthorizeStateTransition` once the scan is
        stopped, `MissingPluginException`, or what the plugin's constructor raises.
        """
        self._require_writable("add a stream to it")
        if isinstance(definition, str):
            extra = {**(info or {}), **metadata}
            if encoder is not None:
                if not isinstance(encoder, StreamEncoder):
                    raise TypeError(
                        f"create_stream({definition!r}, …): found {encoder!r}, expected an encoder; the "
                        "dtype of the points is given by name, as in dtype='float64'"
                    )
                definition = StreamDefinition(definition, extra, encoder)
            elif dtype is not None:
                definition = Stream.make_definition(definition, dtype, shape, extra)
            else:
                raise TypeError(f"create_stream({definition!r}) needs the dtype of its points")
        elif not isinstance(definition, StreamDefinition):
            raise TypeError(
                f"create_stream() takes the name of a stream or its definition, not {definition!r}"
            )
        elif encoder is not None or dtype is not None or info is not None or metadata:
            raise TypeError("create_stream(definition) takes nothing else: it is all in there")
        if self._state >= ScanState.STOPPED:
            raise UnauthorizeStateTransition(
                self._state, self._state, f"scan {self._key} takes no more streams"
            )
        if not isinstance(definition.name, str) or not definition.name:
            raise ValueError(f"A stream has a text as its name, not {definition.name!r}")
        if definition.name in self._document.streams:
            raise StreamExistsError(
                f'Stream "{definition.name}" already exists in scan {self._key}.'
            )
        stream_info = json.loads(info_text(definition.info))
        document = self._data_store.catalog.new_stream(
            self._document.pk, definition.encoder.info(), stream_info
        )
        path = self._document.identity.get("path")
        document = replace(
            document,
            scan_path=path if isinstance(path, str) else None,
            scan_saves=self._document.says("save"),
        )
        events = EventStream.create(
            self._data_store, definition.name, document, durability=self._durability
        )
        stream = plugins.create_stream(events)
        self._document.streams[definition.name] = document
        self._writers[definition.name] = stream
        if self._state > ScanState.CREATED:
            _logger.warning(
                "Stream '%s' comes late: scan %s is %s, and readers learn of it with the next step",
                definition.name,
                self._key,
                self._state.name,
            )
        return stream

    def get_writer_stream(
        self, name: str, *, durability: Durability | str | None = None
    ) -> BaseStream:
        """One stream of a prepared scan, for writing, from its present end on; also on a scan that
        was loaded for reading. One round trip. `durability` as in `create_scan` (None: that of this
        object). Raises `KeyError` for an unknown name, `DurabilityUnavailableError`.

        Only one publisher may write at a time: whichever comes second gets `StreamConflictError`."""
        known = self._document.streams if self._writable else self.streams
        if name not in known:
            raise KeyError(
                f"Scan {self._key} has no stream '{name}', only: {', '.join(known) or 'none'}"
            )
        document = self._document.streams[name]
        end = len(EventStream.open(self._data_store, name, document))
        wanted = self._durability if durability is None else Durability(durability)
        self._data_store.event_log.require(wanted)
        events = EventStream.create(self._data_store, name, document, end, wanted)
        if events.sink is not None:
            self._data_store.heartbeat.follow(events.sink)
        return plugins.create_stream(events)

    def prepare(self) -> None:
        """Makes the streams known. CREATED → PREPARED.

        Raises `LayoutError` naming each mistake in the layout that `info["mapping"]` is; those in
        `info["h5maps"]` are a warning in the log."""
        self._advance(ScanState.PREPARED)

    def start(self) -> None:
        """Says that points are coming. PREPARED → STARTED."""
        self._advance(ScanState.STARTED)

    def stop(self) -> None:
        """Seals every stream that this object created. STARTED → STOPPED."""
        self._advance(ScanState.STOPPED)

    def close(self) -> None:
        """Seals what is not sealed yet and makes the header final; from any state. Closing again
        does nothing. Raises what was left unreported of points that could not be published; then
        nothing is closed yet, and closing again closes."""
        self._require_writable("close it")
        if self._state != ScanState.CLOSED:
            self._advance(ScanState.CLOSED)

    def _advance(self, target: ScanState) -> None:
        """The one place that moves a written scan on. All or nothing: a failed step changes no
        state."""
        self._require_writable(f"move it to {target.name}")
        if self._state not in _STEPS[target]:
            raise UnauthorizeStateTransition(
                self._state, target, f"allowed from {_names(_STEPS[target])}"
            )
        info = self._document.plain_info()
        if target not in _INFO_REACHES_READERS and (changed := self._changed_fields(info)):
            raise ScanInfoError(
                f"The info of scan {self._key} changed between PREPARED and {target.name}, where "
                f"readers do not see it (changed: {', '.join(changed)}). Change it before "
                "prepare() or between stop() and close()"
            )
        if target in _SEALING and self._writers:
            self._seal_streams()
        document = self._document.with_texts(info)
        if target == ScanState.PREPARED:
            self._check_layout(document)
            document = document.with_texts(info)
        streams = document.streams_json()
        stored = _digest(streams)
        as_stored = info == self._published_info and stored == self._published_streams
        sent = document if as_stored else document.with_texts(info, streams)
        state_id = self._advance_on_server(target, sent, as_stored=as_stored)
        self._document = document
        self._published_info = info
        self._published_streams = stored
        self._state = target
        self._state_id = state_id
        self._announced = set(document.streams)
        if target == ScanState.CLOSED:
            self._data_store.heartbeat.end(self._key)

    def _check_layout(self, document: ScanDocument) -> None:
        if not (document.says("mapping") or document.says("h5maps")):
            return
        from blissdata.h5map.mistakes import listed
        from blissdata.h5map.tree import check_prepared

        path = document.identity.get("path")
        doubtful = check_prepared(
            document.info,
            document.streams,
            path if isinstance(path, str) else None,
            f"{document.identity.get('number')}.1",
        )
        if doubtful:
            _logger.warning(
                "The layout of scan %s has mistakes, which cost its readers and writers these items:\n%s",
                self._key,
                listed(doubtful),
            )

    def _advance_on_server(
        self, target: ScanState, document: ScanDocument, *, as_stored: bool
    ) -> str:
        """The id of the state event. A server that is away for a while is asked again, as for points;
        a step whose reply was lost is recognised by what it left. A server that was restarted and has
        lost steps is brought up to date: nobody else takes a scan back."""
        catalog, asked, state = self._data_store.catalog, 0, int(self._state)

        def advance() -> str:
            nonlocal asked, state
            asked += 1
            try:
                return catalog.advance(
                    self._key,
                    state,
                    target,
                    document,
                    as_stored=as_stored and state == self._state,
                )
            except UnauthorizeStateTransition:
                loaded = catalog.load(self._key)
                same = loaded.document.to_json() == document.to_json()
                if asked > 1 and loaded.state == target and same:
                    return loaded.state_id
                if loaded.state >= state:
                    raise
                _logger.warning(
                    "The server says that scan %s is %s, and had confirmed that it was %s: it was "
                    "restarted from an older state. It becomes %s now",
                    self._key,
                    known_state(self._key, loaded.state).name,
                    self._state.name,
                    target.name,
                )
                state = loaded.state
                return catalog.advance(self._key, state, target, document)

        try:
            return self._data_store.publisher.persist(advance)
        except ScanNotFoundError as error:
            self._is_gone()
            raise ScanNotFoundError(
                f"Scan {self._key} cannot become {target.name}: the server has it no more. Somebody "
                "deleted it, or the server was restarted from an older state"
            ) from error
        except UnauthorizeStateTransition as error:
            self._follow_the_server()
            raise UnauthorizeStateTransition(
                self._state, target, "somebody else, the memory tracker perhaps, moved the scan"
            ) from error

    def _changed_fields(self, text: str) -> list[str]:
        """The fields of the info that are not as readers know them; their order means nothing."""
        if text == self._published_info:
            return []
        before, now = json.loads(self._published_info), json.loads(text)
        return [k for k in {**before, **now} if before.get(k, ...) != now.get(k, ...)]

    def _seal_streams(self) -> None:
        writing = [s for s in self._writers.values() if s.event_stream.writable]
        for stream in writing:
            stream.before_seal()
        sinks = [stream.event_stream for stream in writing]
        try:
            self._data_store.publisher.seal(
                [events.sink for events in sinks if events.sink], tell_conflicts=True
            )
        except StreamVanishedError:
            self._is_gone()
            raise

    def _follow_the_server(self) -> None:
        try:
            loaded = self._data_store.catalog.load(self._key)
        except ScanNotFoundError:
            self._is_gone()
            return
        self._state, self._state_id = ScanState(loaded.state), loaded.state_id
        if self._state == ScanState.CLOSED:
            self._data_store.heartbeat.end(self._key)

    def _is_gone(self) -> None:
        """It was deleted: there is nothing left to close."""
        self._deleted = True
        self._data_store.heartbeat.end(self._key)

    def _was_deleted(self) -> bool:
        """True if this publisher was told so, by a step or by a stream."""
        sinks = [stream.event_stream.sink for stream in self._writers.values()]
        return self._deleted or any(
            sink is not None and isinstance(sink.failure, StreamVanishedError) for sink in sinks
        )

    def _require_writable(self, doing: str) -> None:
        if not self._writable:
            raise NoWritePermission(
                f"Scan {self._key} is read-only here, you cannot {doing}; only the object that "
                "create_scan() gave can"
            )

    def __enter__(self) -> Scan:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._writable or self._state == ScanState.CLOSED:
            return
        if kind is None:
            reason = "SUCCESS"
        else:
            reason = "USER_ABORT" if issubclass(kind, KeyboardInterrupt) else "FAILURE"
        said = self.info.setdefault("end_reason", reason)
        now = datetime.datetime.now(datetime.UTC).astimezone()
        self.info.setdefault("end_time", now.isoformat())
        try:
            self.close()
        except Exception as trouble:
            if said == "SUCCESS":
                self.info["end_reason"] = "FAILURE"
            if not isinstance(trouble, StoreConnectionError):
                # Points were lost: it was told, so closing again closes; readers shall know as well.
                self._close_after(trouble)
            if kind is None:
                raise
            if not self._was_deleted():  # … which the error says that is under way
                _logger.error("Scan %s ended in a failure, and then: %s", self._key, trouble)

    def tell_if_left_open(self) -> None:
        """At the end of the program: a scan that nobody closed looks to readers as if it went on."""
        if self._state == ScanState.CLOSED or self._pid != os.getpid():
            return
        if not self._was_deleted():
            _logger.warning(
                "Scan %s is left in state %s: nobody closed it, and readers go on waiting. "
                "`with store.create_scan(…) as scan:` closes it whatever happens",
                self._key,
                self._state.name,
            )

    def _close_after(self, trouble: Exception) -> None:
        try:
            self.close()
        except Exception as again:  # noqa: BLE001 — the first one is raised
            if not self._was_deleted():
                trouble.add_note(f"The scan could not be closed either: {again}")


def _described(info: Mapping[str, Any]) -> tuple[str, str, str]:
    """dtype, shape and unit of a stream's points, as far as its info tells."""
    shape = info.get("shape")
    shown = " × ".join(str(n) for n in shape) if isinstance(shape, list | tuple) else ""
    return str(info.get("dtype", info.get("plugin") or "json")), shown, str(info.get("unit", ""))


@dataclass(frozen=True, slots=True)
class _ScanModel:
    """A scan's document, by the name and with the methods that existing programs use."""

    pk: str
    """Primary key."""

    info: dict[str, Any]
    """What the publisher says about the scan."""

    catalog: Catalog
    """Where it is stored."""

    def get(self, pk: str) -> _ScanModel:
        """The document as the server has it. One round trip. Raises `ScanNotFoundError`."""
        loaded = self.catalog.load(self.catalog.scan_key(pk))
        return _ScanModel(loaded.document.pk, loaded.document.info, self.catalog)


_written: weakref.WeakSet[Scan] = weakref.WeakSet()
"""The scans that this process writes."""


def _tell_of_open_scans() -> None:
    for scan in _written:
        scan.tell_if_left_open()


atexit.register(_tell_of_open_scans)


class _Streams(dict[str, BaseStream]):
    """Streams by name, whose `KeyError` says why there is none of that name."""

    def __init__(
        self, scan_key: str, state: ScanState, streams: Mapping[str, BaseStream] | None = None
    ) -> None:
        super().__init__(streams or {})
        self._scan = f"Scan {scan_key} is {state.name}"
        self._known = state >= ScanState.PREPARED

    def __missing__(self, name: str) -> BaseStream:
        if self._known:
            why = f"it has no stream {name!r}, only: {', '.join(self) or 'none'}"
        else:
            why = "its streams are known from PREPARED on: scan.wait_state(ScanState.PREPARED)"
        raise KeyError(f"{self._scan}, {why}")


def _digest(text: str) -> bytes:
    """By which a document is known again: large ones need not be kept."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


_BY_NUMBER = {int(state): state for state in ScanState}


def known_state(key: str, number: int) -> ScanState:
    """The state with that number. Raises `ScanValidationError` for one of a later version."""
    state = _BY_NUMBER.get(number)
    if state is None:
        raise ScanValidationError(
            f"Scan {key} is in state {number}, which this version does not know"
        )
    return state


def known_states(found: Mapping[str, int | None]) -> dict[str, ScanState]:
    """The states of scans that are there. Raises `ScanValidationError` as `known_state` does."""
    try:
        return {key: _BY_NUMBER[number] for key, number in found.items() if number is not None}
    except KeyError:
        return {key: known_state(key, n) for key, n in found.items() if n is not None}


def _names(states: frozenset[ScanState]) -> str:
    return ", ".join(state.name for state in sorted(states))
