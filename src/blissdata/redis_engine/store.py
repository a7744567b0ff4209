"""The entrance: a data store is a server, and the scans on it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from blissdata.exceptions import (
    BeaconConnectionError,
    BeaconError,
    BeaconTimeoutError,
    NoScanAvailable,
    ScanKeyError,
    ScanLoadError,
    ScanNotClosedError,
    ScanNotFoundError,
    ScanValidationError,
    StoreError,
    UnauthorizeStateTransition,
)
from blissdata.old_names import once_called
from blissdata.redis_engine.documents import ScanDocument, StreamDocument, info_text
from blissdata.redis_engine.keys import DELETION_GRACE_S, new_ulid, pin_key
from blissdata.redis_engine.pins import PinKeeper
from blissdata.redis_engine.scan import Scan, ScanState, known_state, known_states
from blissdata.streams.deadline import Deadline
from blissdata.streams.durability import Durability
from blissdata.streams.event_log import SealRequest
from blissdata.streams.event_stream import WAIT_SLICE_S
from blissdata.streams.heartbeat import Heartbeat, Life, LostPublisher
from blissdata.streams.sink import PUBLISH_TIMEOUT_S, Publisher

if TYPE_CHECKING:
    from pydantic import BaseModel

    from blissdata.redis_engine.backends.abstract import Backend, Catalog, LoadedScan, PinState
    from blissdata.streams.event_log import EventLog

__all__ = ["DataStore", "close_and_delete", "close_for_publisher", "reset_redis_db", "server_url"]


class DataStore:
    """A server and its scans.

    `url` is one of `redis:// rediss:// valkey:// valkeys:// unix://` (with redis-py's options, as in
    `?socket_timeout=30`), or a directory: then a private embedded server keeps its data there.
    Without `url`: `$BLISSDATA_URL`, else the server that the Beacon server at `$BEACON_HOST` names,
    else your own local server, which is started if it is not running.

    `identity_model_cls` is the pydantic model of the searchable fields (default:
    `blissdata.redis_engine.identities.ESRFIdentityModel`). `init_db` prepares an empty server.
    `publish_timeout` [s] is how long points are offered to a server that is away or full.
    `lost_publisher` says what a publisher that was killed, or is cut off, means to who reads its
    streams: `"error"` raises `PublisherLostError`, `"end"` ends them there; cursors may choose anew.

    Raises `StoreConnectionError` (also a `redis.ConnectionError`) when nobody answers, and
    `ProtocolVersionError` or `ServerNotEmptyError` (both `RuntimeError`) for a server that is not
    prepared for this version, or must not be prepared. One round trip.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        identity_model_cls: type[BaseModel] | None = None,
        init_db: bool = False,
        *,
        publish_timeout: float = PUBLISH_TIMEOUT_S,
        lost_publisher: LostPublisher | str = LostPublisher.ERROR,
        backend: Backend | None = None,
    ) -> None:
        self._lost_publisher = LostPublisher(lost_publisher)
        if identity_model_cls is None:
            from blissdata.redis_engine.identities import ESRFIdentityModel

            identity_model_cls = ESRFIdentityModel
        from blissdata.redis_engine.identities import (
            identity_fields,
            identity_numbers,
            identity_prefix,
        )

        self._identity_model = identity_model_cls
        self._fields = identity_fields(identity_model_cls)
        prefix = identity_prefix(identity_model_cls)
        self._backend = _open(url, init_db) if backend is None else backend
        numbers = identity_numbers(identity_model_cls)
        self._catalog = self._backend.catalog(prefix, self._fields, numbers)
        self._publisher = Publisher(self._backend.event_log, publish_timeout)
        self._heartbeat = Heartbeat(self._catalog.beat)
        self._pin_keeper = PinKeeper(lambda: self._backend.pins)
        self._redis = self._backend.client

    # ------------------------------------------------------------------------------ for the layers

    @property
    def backend(self) -> Backend:
        """The server's kind."""
        return self._backend

    @property
    def catalog(self) -> Catalog:
        """The server's scans."""
        return self._catalog

    @property
    def event_log(self) -> EventLog:
        """The server's streams."""
        return self._backend.event_log

    @property
    def publisher(self) -> Publisher:
        """The one publisher of this store in this process."""
        return self._publisher

    @property
    def lost_publisher(self) -> LostPublisher:
        """What a publisher that is lost means to readers of this store, unless they choose."""
        return self._lost_publisher

    def scan_states(self, keys: Sequence[str]) -> dict[str, int | None]:
        """The state of each scan, None for those that are gone. One round trip."""
        return self._catalog.states(keys)

    def scan_lives(self, keys: Sequence[str]) -> dict[str, Life]:
        """The state of each scan, and for how long its publisher was silent. One round trip."""
        return self._catalog.lives(keys)

    @property
    def heartbeat(self) -> Heartbeat:
        """The signs of life that this process gives for the scans that it publishes in this store."""
        return self._heartbeat

    @property
    def pin_keeper(self) -> PinKeeper:
        """The pins that this process holds in this store."""
        return self._pin_keeper

    def current_acquisition(self, detector: str) -> int | None:
        """The number of the acquisition that this detector, named by its address, was prepared for
        last; None if there was none. One round trip."""
        return self._backend.current_acquisition(detector)

    def begin_acquisition(self, detector: str) -> int:
        """Counts the detector's next acquisition and gives its number, from 0 on. One round trip."""
        return self._backend.begin_acquisition(detector)

    def _stream_model(self, encoding: Mapping[str, Any], info: Mapping[str, Any]) -> StreamDocument:
        """A stream that belongs to no scan, for `EventStream.create`: programs written for
        blissdata 2.x make such streams by this name. No round trip."""
        document = self._catalog.new_stream(new_ulid(), dict(encoding), _json_copy(info))
        return replace(document, scan_key=None)

    # ------------------------------------------------------------------------------ scans

    def create_scan(
        self,
        identity: Mapping[str, Any],
        info: Mapping[str, Any] | None = None,
        *,
        durability: Durability | str = Durability.MEMORY,
    ) -> Scan:
        """A new scan, in state CREATED, announced to everybody who waits for one. One round trip.

        `durability` says what points survive once `join`, `seal` or `stop` confirmed them: "memory"
        (the server has them), "disk" (an fsync came before) or "replica" (another server has them as
        well). Raises `DurabilityUnavailableError` if this server cannot give it.

        Raises `pydantic.ValidationError` if the identity does not fit the model (unknown fields are
        ignored), `TypeError` if JSON cannot hold the info, `ScanTooLargeError` above 2**20
        characters."""
        from blissdata.redis_engine.identities import validated_identity

        wanted = Durability(durability)
        self.event_log.require(wanted)
        if not isinstance(identity, Mapping):
            raise TypeError(f"The identity of a scan is a dict, not a {type(identity).__name__}")
        fields = validated_identity(self._identity_model, identity)
        if info is not None and not isinstance(info, Mapping):
            raise TypeError(f"The info of a scan is a dict, not a {type(info).__name__}")
        text = info_text(info or {})
        pk = new_ulid()
        document = ScanDocument(pk, fields, text, self._catalog.new_state_pk(pk))
        loaded = self._catalog.create(document)
        return Scan(self, self._catalog.scan_key(pk), loaded, writable=True, durability=wanted)

    def load_scan(self, key: str) -> Scan:
        """The scan under that key, for reading. One round trip.

        Raises `ScanNotFoundError` (also once it is deleted), `ScanValidationError`, and
        `RuntimeError` for a key that cannot be a scan's."""
        self._check_key(key)
        return self._read_only(key, self._catalog.load(key))

    def load_scans(self, keys: Sequence[str]) -> dict[str, Scan | ScanLoadError]:
        """Many scans, for reading; in the place of those that cannot be loaded, what `load_scan`
        raises. One round trip. Raises `RuntimeError` for a key that cannot be a scan's."""
        self._check_keys(keys)
        found: dict[str, Scan | ScanLoadError] = {}
        for key, loaded in self._catalog.load_many(keys).items():
            try:
                found[key] = (
                    loaded if isinstance(loaded, Exception) else self._read_only(key, loaded)
                )
            except ScanLoadError as error:
                found[key] = error
        return found

    def _read_only(self, key: str, loaded: LoadedScan) -> Scan:
        from blissdata.redis_engine.identities import misfit, validated_identity

        try:
            validated_identity(self._identity_model, loaded.document.identity)
        except ValueError as error:  # pydantic's own is one
            raise ScanValidationError(
                f"Scan {key} has an identity that does not fit {self._identity_model.__name__}: "
                f"{misfit(error)}"
            ) from error
        return Scan(self, key, loaded, writable=False)

    def get_last_scan(self) -> tuple[str, str]:
        """`(timetag, key)` of the newest scan that is not deleted. Raises `NoScanAvailable`."""
        newest = self._catalog.newest()
        if not newest:
            raise NoScanAvailable("There is no scan on this server")
        return newest[0].timetag, newest[0].key

    def newest_scans(self, count: int, before: str | None = None) -> list[tuple[str, str]]:
        """`(timetag, key)` of the newest scans that are not deleted, `count` at most, the newest first;
        with `before` those before that timetag, which pages through all scans there are:

            page = store.newest_scans(100)
            older = store.newest_scans(100, before=page[-1][0])

        One round trip or two, whose cost does not grow with the number of scans on the server. (On
        protocol 1 the first page behind the newest 2048 scans does look at all of them.) Raises
        `ValueError` for what is no timetag."""
        tag = None if before is None else _timetag(before)
        return [(a.timetag, a.key) for a in self._catalog.newest(count, tag)]

    def get_last_scan_timetag(self) -> str:
        """The timetag of the newest scan, deleted or not; `"0-0"` if there was none."""
        return self._catalog.timetag()

    def get_next_scan(
        self, since: str | int | None = None, block: bool = True, timeout: float = 0
    ) -> tuple[str, str]:
        """`(timetag, key)` of the first scan after the timetag `since` (0: of all; None: from now
        on) that is not deleted.

        Waits for one, `timeout` [s] at most (0: for ever); `block=False` does not wait. Raises
        `NoScanAvailable` when the time is up, `ValueError` for what is no timetag."""
        deadline = Deadline.from_2x(block, timeout)
        after = self._catalog.timetag() if since is None else _timetag(since)
        while True:
            before = after
            after, found = self._catalog.announced(after, wait=deadline.remaining(WAIT_SLICE_S))
            if found:
                return found[0].timetag, found[0].key
            # Where it came further it passed over deleted scans, and there may be more behind them.
            if after == before and deadline.passed:
                raise NoScanAvailable(f"No scan came after {after}")

    def search_existing_scans(self, **fields: Any) -> tuple[str, list[str]]:
        """The newest timetag, and the keys of all scans whose identity fields are these, oldest
        first: `search_existing_scans(session="ihr*", number=7)`. One round trip.

        Texts ignore case; `*` at the start or end of a text stands for anything; without fields,
        all scans. Both parts are taken at one instant, so `get_next_scan(since=timetag)` misses
        nothing. Raises `ValueError` for an unknown field or a `*` inside a text."""
        return self._catalog.find(fields)

    @once_called(keys="scan_keys")
    def get_scans_state(self, keys: Sequence[str]) -> dict[str, ScanState]:
        """The state of each scan. One round trip. Raises `ScanNotFoundError` naming those that are
        not there."""
        self._check_keys(keys)
        found = self._catalog.states(list(keys))
        missing = [key for key, state in found.items() if state is None]
        if missing:
            raise ScanNotFoundError(f"There is no scan {', '.join(missing)}: deleted or expired")
        return known_states(found)

    def scan_sizes(self, keys: Sequence[str]) -> dict[str, int]:
        """For each scan about how much of the server's memory it takes [bytes], its streams included: what
        deleting it gives back. 0 for one that is gone, or whose document cannot be read. Two round trips.
        Raises `RuntimeError` for a key that cannot be a scan's."""
        self._check_keys(keys)
        parts = {
            key: [] if isinstance(found, Exception) else self._catalog.keys_of(found.document)
            for key, found in self._catalog.load_many(keys).items()
        }
        sizes = self._backend.upkeep.sizes([part for found in parts.values() for part in found])
        return {key: sum(sizes[part] for part in parts.get(key, ())) for key in keys}

    @once_called(key="scan_key")
    def delete_scan(self, key: str, force: bool = False) -> None:
        """Deletes a scan that is CLOSED, with its streams: nobody finds or loads it any more, and the
        server forgets its points within 10 s. Unknown or deleted already: nothing happens.

        An open scan is a `RuntimeError`, or is closed first with `force`: its streams are sealed and
        its info says `end_reason: "DELETION"`. One that is damaged is a `ScanValidationError`, or is
        deleted as it is with `force`."""
        self._check_key(key)
        close_and_delete(self._catalog, self.event_log, key, force)

    def _check_keys(self, keys: Sequence[str]) -> None:
        is_scan_key = self._catalog.is_scan_key
        for key in keys:
            if not isinstance(key, str) or not is_scan_key(key):
                self._check_key(key)

    def _check_key(self, key: str) -> None:
        if not isinstance(key, str) or not self._catalog.is_scan_key(key):
            example = self._catalog.scan_key("…")
            raise ScanKeyError(f"Scan key should be like '{example}', not {key!r}")

    # ------------------------------------------------------------------------------ pins

    def pins(self) -> list[PinState]:
        """What consumers ask the memory tracker not to forget, on the whole server; also pins that hold
        nothing any more because their programs ended. Two round trips."""
        return self._backend.pins.all()

    def remove_pin(self, scan_key: str, name: str) -> bool:
        """Removes a pin, whoever holds it; its holder gets `PinGoneError` at the next move. True if
        there was one. One round trip."""
        self._check_key(scan_key)
        return self._backend.pins.release(pin_key(scan_key, name))

    # ------------------------------------------------------------------------------ the end

    def close(self) -> None:
        """Waits until every point that was sent has arrived, and closes the connections; from then on
        whatever needs the server raises `StoreClosedError`, also in scans and streams of this store.
        Raises what went wrong with points that nobody was told of. Repeatable."""
        try:
            self._publisher.close()
        finally:
            self._pin_keeper.close()
            self._heartbeat.close()
            self._backend.close()

    def __enter__(self) -> DataStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<DataStore: {self._backend!r}>"


def close_and_delete(catalog: Catalog, event_log: EventLog, key: str, force: bool) -> None:
    """Deletes a scan, as `DataStore.delete_scan` says, under any prefix."""
    streams: Iterable[StreamDocument] = ()
    try:
        streams = _close_before_deletion(catalog, key, force)
    except ScanNotFoundError:
        return
    except ScanValidationError:
        if not force:
            raise
    catalog.expire(key, DELETION_GRACE_S)
    # Last: whoever meets the seal finds the scan deleted, and not finished.
    _seal(event_log, key, streams)


def _close_before_deletion(catalog: Catalog, key: str, force: bool) -> Iterable[StreamDocument]:
    """The streams that are to be sealed."""
    if not force:
        state = known_state(key, catalog.load(key).state)
        if state == ScanState.CLOSED:
            return ()
        raise ScanNotClosedError(
            f"Scan {key} is not terminated (it is {state.name}), use force=True to delete anyway."
        )
    return _close(catalog, key, "DELETION")


def close_for_publisher(catalog: Catalog, event_log: EventLog, key: str, reason: str) -> None:
    """Closes a scan in the place of its publisher, `reason` becoming its `end_reason`, and seals its
    streams where they end. A scan that is closed stays as it is. Raises `ScanLoadError`."""
    _seal(event_log, key, _close(catalog, key, reason))


def _close(catalog: Catalog, key: str, reason: str) -> Iterable[StreamDocument]:
    """The streams of the scan, which is closed now; none if it was."""
    while True:  # until its publisher is not a step ahead of us; it has four of them
        loaded = catalog.load(key)
        state, document = known_state(key, loaded.state), loaded.document
        if state == ScanState.CLOSED:
            return ()
        document.info["end_reason"] = reason
        try:
            catalog.advance(key, state, ScanState.CLOSED, document)
        except UnauthorizeStateTransition:
            continue
        return document.streams.values()


def _seal(event_log: EventLog, key: str, streams: Iterable[StreamDocument]) -> None:
    event_log.seal({stream.key(): SealRequest(None, key) for stream in streams})


def reset_redis_db(data_store: DataStore) -> None:
    """Empties the whole server (FLUSHALL) and prepares it again."""
    data_store.backend.flush()
    data_store.backend.initialise()


def server_url(url: str | os.PathLike[str] | None = None) -> str | Path | None:
    """Where `DataStore(url)` looks for its server: a URL, the directory of an embedded server's data, or
    None for the user's local server. Without `url` it asks the Beacon server, where there is one; one
    round trip. Starts nothing."""
    if url is None:
        url = os.environ.get("BLISSDATA_URL") or None
    if url is None and os.environ.get("BEACON_HOST"):
        url = _ask_beacon()
    if url is None or not _is_directory(url):
        return None if url is None else str(url)
    return Path(url)


def _open(url: str | os.PathLike[str] | None, init_db: bool) -> Backend:
    from blissdata.redis_engine.backends.connect import open_backend

    found = server_url(url)
    if isinstance(found, str):
        return open_backend(found, prepare=init_db)
    from blissdata.redis_engine import local_server

    return open_backend(local_server.ensure_running(found), prepare=init_db, prepare_if_empty=True)


def _ask_beacon() -> str:
    """The URL of the store that the Beacon server at `$BEACON_HOST` names. One round trip."""
    from blissdata.beacon.data import BeaconData
    from blissdata.redis_engine.backends.client import (
        RedisStoreConnectionError,
        RedisStoreTimeoutError,
    )

    advice = "Give the store's URL (--url, or DataStore(url)), set $BLISSDATA_URL to it, or unset $BEACON_HOST"
    with BeaconData() as beacon:
        try:
            return beacon.get_redis_data_db()
        except BeaconTimeoutError as error:
            raise RedisStoreTimeoutError(f"{error}. {advice}") from error
        except BeaconConnectionError as error:
            raise RedisStoreConnectionError(f"{error} {advice}") from error
        except BeaconError as error:
            raise StoreError(
                f"{beacon!r} does not tell where the store is: {error}. {advice}"
            ) from error


def _is_directory(url: str | os.PathLike[str]) -> bool:
    """A path-like is a directory, and so is a text that is no URL but names a path."""
    if not str(url):
        raise StoreError(
            "An empty text names no server: without any your local one is found, and '.' would keep one "
            "in the working directory"
        )
    return not isinstance(url, str) or ("://" not in url and ("/" in url or Path(url).is_dir()))


def _json_copy(info: Mapping[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(info_text(info))
    return copy


def _timetag(since: str | int) -> str:
    """As `<ms>-<n>`. Raises `ValueError`."""
    ms, _, n = str(since).partition("-")
    if not ms.isdigit() or not (n or "0").isdigit():
        raise ValueError(f"A timetag is like '1716393600000-0', not {since!r}")
    return f"{int(ms)}-{int(n or 0)}"
