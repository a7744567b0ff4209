"""One round of the memory tracker: find scans, record where their streams end, let go of the old.

announced ─► tracked scans ─► last entries ─► journal ─► (server fills up) ─► plan ─► forget
                 │ closed: expires, let go
                 │ publisher dead: closed, as a failure
                 └ nothing new for a day: closed and deleted
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from blissdata.exceptions import (
    BlissdataError,
    ScanLoadError,
    ScanNotFoundError,
    ServerFullError,
    StoreConnectionError,
)
from blissdata.redis_engine.backends.abstract import Catalog, LoadedScan
from blissdata.redis_engine.memory_tracker.policy import (
    DEAD_AFTER_S,
    AgedRecord,
    Plan,
    is_dead,
    plan,
)
from blissdata.redis_engine.scan import ScanState
from blissdata.redis_engine.store import DataStore, close_and_delete, close_for_publisher
from blissdata.streams.entries import MAX_INDEX

__all__ = ["MemoryTracker", "NoFreeableMemoryError"]

_logger = logging.getLogger(__name__)

RESYNC_PERIOD_S = 600.0
"""How often all scans are looked for again, whatever was announced, and the index is swept [s]."""

RETRY_FIRST_S = 10.0
RETRY_LONGEST_S = 600.0
"""A scan that cannot be read is tried again after so long, twice as long each time [s]."""

OBSERVED_S = 300.0
"""A scan is not taken for dead before this tracker itself has seen nothing happen for so long [s]."""

RECORDS_AT_ONCE = 100
"""How many records of the journal are read in one round trip."""

_BEGINNING = "0-0"


class NoFreeableMemoryError(BlissdataError):
    """Everything that is left is too recent to be forgotten."""


@dataclass(slots=True)
class _Tracked:
    """An open scan."""

    catalog: Catalog
    state: int
    streams: tuple[str, ...]
    """Keys of its data streams."""
    stepped: float
    """When it made its last step, on the monotonic clock [s]."""
    seen: float
    """When this tracker first saw it, on the monotonic clock [s]."""
    suspected: float | None = None
    """Since when its publisher was seen to be silent, on the monotonic clock [s]."""


@dataclass(slots=True)
class _SetAside:
    """A scan that cannot be read."""

    reason: str
    wait: float
    """How long until it is tried again [s]."""
    due: float
    """When, on the monotonic clock [s]."""


@dataclass(slots=True)
class _Moment:
    """What the journal says of one time, as far as it differs from the time before."""

    taken: float
    """When, on the monotonic clock [s]: whatever the server's clock does, it knows how old this is."""
    ends: dict[str, int]
    """Last entries, of those streams that have gone on."""
    ident: str | None
    """The record's id in the journal; None if the server was too full to take it."""


class MemoryTracker:
    """Keeps a server from filling up: journal, trimming, and the end of scans.

    `inactive_scan_deletion` [s] is after how long without anything new an open scan is closed and
    deleted; `closed_scan_deletion` [s] how long closed ones stay; `cleaning_time_slice` [%] which part
    of the time that the journal covers is forgotten at once.
    """

    def __init__(
        self,
        data_store: DataStore,
        inactive_scan_deletion: float,
        closed_scan_deletion: float,
        cleaning_time_slice: float,
    ) -> None:
        for name, value in (
            ("inactive_scan_deletion", inactive_scan_deletion),
            ("closed_scan_deletion", closed_scan_deletion),
        ):
            if not value >= 0:
                raise ValueError(f"{name} is a time of 0 s or more, not {value}")
        if not 0 < cleaning_time_slice <= 100:
            raise ValueError(
                f"cleaning_time_slice is a part above 0 and up to 100 %, not {cleaning_time_slice}"
            )
        self._store = data_store
        self._upkeep = data_store.backend.upkeep
        self._inactive_after = inactive_scan_deletion
        self._closed_expiry = int(closed_scan_deletion)
        self._slice = cleaning_time_slice
        self._catalogs: dict[str, Catalog] = {}
        self._timetag = _BEGINNING
        self._open: dict[str, _Tracked] = {}
        self._aside: dict[str, _SetAside] = {}
        self._done: set[str] = set()
        self._ends: dict[str, int] = {}
        self._changed: dict[str, float] = {}
        self._moments: list[_Moment] = []
        self._known: dict[str, int] = {}
        self._recorded: dict[str, int] = {}
        self._again: set[str] = set()
        self._loaded = False
        self._server_time = 0.0
        self._resynced: float | None = None
        self.pins: Mapping[str, int] = {}
        """For some streams, by key, the index from which on nothing may be forgotten."""

    # ------------------------------------------------------------------------------ a round

    def update(self) -> None:
        """One round: finds new scans, records where all streams end, lets closed scans expire, and
        closes open ones whose publisher is dead, deletes those in which nothing happens any more.

        The round trips do not grow with the number of streams or open scans. On a full server the
        record is kept in memory. Raises `StoreConnectionError` when the server is away."""
        self._open_journal()
        self._find()
        self._refresh()
        streams = [key for scan in self._open.values() for key in scan.streams]
        self._look_at(streams)
        self._record()
        self._let_closed_expire()
        self._delete_inactive()

    def _find(self) -> None:
        """Takes up scans that are new; now and then looks for all there are."""
        self._timetag, keys = self._upkeep.announced(self._timetag)
        now = time.monotonic()
        first = self._resynced is None
        if first or now - (self._resynced or 0.0) >= RESYNC_PERIOD_S:
            self._resynced = now
            self._catalog_of(self._store.catalog.scan_key("x"))
            for key in keys:
                self._catalog_of(key)
            found = [key for c in self._catalogs.values() for key in c.find({})[1]]
            there = set(found)
            self._done &= there
            keys = found
            if not first:
                self._prune_journal()
                for catalog in self._catalogs.values():
                    catalog.sweep()
        due = [key for key, aside in self._aside.items() if aside.due <= now]
        known = self._open.keys() | self._done | self._aside.keys()
        self._load([*(key for key in dict.fromkeys(keys) if key not in known), *due])

    def _catalog_of(self, key: str) -> Catalog | None:
        """The catalogue of the scan's prefix; None for a key that cannot be a scan's."""
        own = self._store.catalog
        if own.is_scan_key(key):
            return self._catalogs.setdefault(_prefix(key), own)
        prefix = _prefix(key)
        if prefix not in self._catalogs and ":scan:" in key:
            self._catalogs[prefix] = self._store.backend.catalog(prefix, ())
        return self._catalogs.get(prefix)

    def _load(self, keys: Sequence[str]) -> None:
        """Takes over what the documents of these scans say."""
        for catalog, some in self._by_catalog(keys):
            for key, loaded in catalog.load_many(some).items():
                self._take(key, catalog, loaded)

    def _by_catalog(self, keys: Iterable[str]) -> list[tuple[Catalog, list[str]]]:
        groups: dict[str, list[str]] = {}
        for key in keys:
            if self._catalog_of(key) is not None:
                groups.setdefault(_prefix(key), []).append(key)
        return [(self._catalogs[prefix], some) for prefix, some in groups.items()]

    def _take(self, key: str, catalog: Catalog, loaded: LoadedScan | ScanLoadError) -> None:
        if isinstance(loaded, ScanNotFoundError):
            self._forget_scan(key)
            return
        if isinstance(loaded, ScanLoadError):
            self._set_aside(key, str(loaded))
            return
        self._aside.pop(key, None)
        now = time.monotonic()
        streams = tuple(stream.key() for stream in loaded.document.streams.values())
        before = self._open.get(key)
        if before is None:
            _logger.info("Start tracking %s", key)
            stepped = now - self._silence(loaded)
            self._open[key] = _Tracked(catalog, loaded.state, streams, stepped, now)
        else:
            before.state, before.streams, before.stepped = loaded.state, streams, now

    def _silence(self, loaded: LoadedScan) -> float:
        """How long ago a scan made its last step [s]."""
        ms = loaded.state_id.partition("-")[0]
        return max(0.0, self._server_time - int(ms) / 1000) if len(ms) > 9 else 0.0

    def _set_aside(self, key: str, reason: str) -> None:
        before = self._aside.get(key)
        if before is None or before.reason != reason:
            _logger.warning("Scan %s is set aside, it cannot be read: %s", key, reason)
        wait = min(2 * before.wait, RETRY_LONGEST_S) if before else RETRY_FIRST_S
        self._aside[key] = _SetAside(reason, wait, time.monotonic() + wait)
        self._open.pop(key, None)

    def _forget_scan(self, key: str) -> None:
        self._aside.pop(key, None)
        if self._open.pop(key, None) is not None:
            _logger.info("Scan %s has been deleted, stop tracking", key)

    def _refresh(self) -> None:
        """Learns which scans have moved on, or are gone, and closes those of dead publishers."""
        changed: list[str] = []
        for catalog, some in self._by_catalog(self._open):
            try:
                lives = catalog.lives(some)
            except ScanLoadError as error:  # one of them, it does not say which
                _logger.debug("%s", error)
                changed += some
                continue
            for key, life in lives.items():
                if life.state is None:
                    self._forget_scan(key)
                elif life.state != self._open[key].state or self._closes_dead(key, life.silence):
                    changed.append(key)
        self._load(changed)

    def _closes_dead(self, key: str, silence: float | None) -> bool:
        """Closes the scan if its publisher is dead; True if it did."""
        scan, now = self._open[key], time.monotonic()
        if silence is None or silence < DEAD_AFTER_S:
            scan.suspected = None
            return False
        scan.suspected = now if scan.suspected is None else scan.suspected
        if not is_dead(silence, now - scan.suspected):
            return False
        _logger.warning(
            "The publisher of scan %s has given no sign of life for %d s, closing the scan",
            key,
            silence,
        )
        try:
            close_for_publisher(scan.catalog, self._store.event_log, key, "FAILURE")
        except StoreConnectionError:
            raise
        except BlissdataError as error:
            _logger.warning("Scan %s cannot be closed: %s", key, error)
            return False
        return True

    # ------------------------------------------------------------------------------ journal

    def _open_journal(self) -> None:
        """Takes over what an earlier tracker has written, the first time."""
        self._server_time = self._store.backend.info().time
        if self._loaded:
            return
        after = _BEGINNING
        while records := self._upkeep.records(after, RECORDS_AT_ONCE):
            now = time.monotonic()
            for record in records:
                taken = now - max(0.0, self._server_time - record.time)
                self._remember(taken, record.ends, record.ident)
            after = records[-1].ident
        self._recorded = dict(self._known)
        self._loaded = True

    def _remember(self, taken: float, ends: Mapping[str, int], ident: str | None) -> None:
        new = {key: end for key, end in ends.items() if self._known.get(key) != end}
        self._known |= new
        self._changed |= dict.fromkeys(new, taken)
        new |= {key: ends[key] for key in self._again & ends.keys()}
        self._again -= new.keys()
        self._moments.append(_Moment(taken, new, ident))

    def _look_at(self, streams: Sequence[str]) -> None:
        """Learns where the streams end; those that were sealed are not asked again."""
        asked = [key for key in streams if self._ends.get(key) != MAX_INDEX]
        found = self._upkeep.last_entries(asked)
        self._ends = {key: MAX_INDEX for key in streams if self._ends.get(key) == MAX_INDEX}
        self._ends |= {key: end for key, end in found.items() if end is not None}

    def _record(self) -> None:
        """Adds a record to the journal, unless there is nothing to say."""
        complete = self._upkeep.complete_records
        ends = {k: e for k, e in self._ends.items() if complete or self._recorded.get(k) != e}
        if not ends:
            return
        now = time.monotonic()
        ident = None
        try:
            ident = self._upkeep.record(ends)
        except ServerFullError as error:
            _logger.debug("%s", error)
        else:
            self._recorded |= ends
        self._remember(now, self._ends, ident)

    # ------------------------------------------------------------------------------ the end of scans

    def _let_closed_expire(self) -> None:
        closed = [key for key, scan in self._open.items() if scan.state >= ScanState.CLOSED]
        for catalog, some in self._by_catalog(closed):
            catalog.expire_many(some, self._closed_expiry)
        for key in closed:
            del self._open[key]
            self._done.add(key)
            _logger.info(
                "Scan %s is terminated, expiration set to %s seconds",
                key,
                datetime.timedelta(seconds=self._closed_expiry),
            )

    def _delete_inactive(self) -> None:
        now = time.monotonic()
        observed = min(self._inactive_after, OBSERVED_S)
        for key, scan in list(self._open.items()):
            active = max([scan.stepped, *(self._changed.get(s, 0.0) for s in scan.streams)])
            silent = now - active
            if silent < self._inactive_after or now - scan.seen < observed:
                continue
            _logger.warning(
                "Open scan %s was inactive for %s seconds, deleting now",
                key,
                datetime.timedelta(seconds=int(silent)),
            )
            try:
                close_and_delete(scan.catalog, self._store.event_log, key, force=True)
            except StoreConnectionError:
                raise
            except BlissdataError as error:
                self._set_aside(key, str(error))
                continue
            del self._open[key]
            self._done.add(key)

    # ------------------------------------------------------------------------------ forgetting

    def reclaim_memory(self, protected_history: float) -> None:
        """Forgets the oldest part of the time that the journal covers, but nothing that came in the
        last `protected_history` [s]. Raises `NoFreeableMemoryError` if that is all there is.

        A few round trips. Works on a full server."""
        self._open_journal()
        now = time.monotonic()
        aged = [AgedRecord(now - moment.taken, moment.ends) for moment in self._moments]
        found = plan(aged, protected_history, self._slice, self.pins)
        if found is None:
            raise NoFreeableMemoryError(
                f"Remaining data is too recent to be freed (protected_history: {protected_history} "
                "seconds)"
                if aged
                else "The journal is empty: nothing was published yet"
            )
        failed = [e for e in self._upkeep.forget(found.ends).values() if isinstance(e, Exception)]
        if failed:
            _logger.warning("%d streams could not be trimmed: %s", len(failed), failed[0])
        used, self._moments = self._moments[: found.used], self._moments[found.used :]
        written = [moment.ident for moment in used if moment.ident is not None]
        if written:
            self._upkeep.forget_records(written[-1])
        self._drop(found)

    def _drop(self, done: Plan) -> None:
        """Forgets what is over; what was held by a pin is to be recorded again."""
        self._record_again(done.held)
        self._let_go_of(done.ends)

    def _record_again(self, keys: Iterable[str]) -> None:
        """The next record names these streams, whether they have gone on or not."""
        for key in keys:
            self._again.add(key)
            self._recorded.pop(key, None)

    def _let_go_of(self, keys: Iterable[str]) -> None:
        """Forgets what is known of streams that belong to no open scan, and are in no record that is
        left."""
        later = {key for moment in self._moments for key in moment.ends}
        for key in keys:
            if key not in self._ends and key not in later:
                for known in (self._known, self._recorded, self._changed):
                    known.pop(key, None)

    def _prune_journal(self) -> None:
        """Drops records that are older than closed scans get: what they say is of open scans, and is
        said again, or of scans that have expired. So a journal of which nothing is ever used up, for
        there is memory enough, stays as long as it takes scans to expire."""
        limit = time.monotonic() - self._closed_expiry
        old = [moment for moment in self._moments if moment.taken < limit]
        if not old:
            return
        self._moments = self._moments[len(old) :]
        written = [moment.ident for moment in old if moment.ident is not None]
        if written:
            self._upkeep.forget_records(written[-1])
        keys = {key for moment in old for key in moment.ends}
        later = {key for moment in self._moments for key in moment.ends}
        self._record_again(key for key in keys - later if key in self._ends)
        self._let_go_of(keys)


def _prefix(key: str) -> str:
    return key.partition(":scan:")[0]
