"""One round of the memory tracker: find scans, record where their streams end, let go of the old.

announced ─► tracked scans ─► last entries ─► journal ─► (server fills up) ─► plan ─► forget
                 │ closed: expires, let go                                     ▲
                 │ publisher dead: closed, as a failure                      pins
                 └ nothing new for a day: closed and deleted

A scan that is pinned neither expires nor is deleted, and stays tracked.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from blissdata.exceptions import (
    BlissdataError,
    ScanLoadError,
    ScanNotFoundError,
    ServerFullError,
    ServerRefusedError,
    StoreConnectionError,
)
from blissdata.redis_engine.backends.abstract import Catalog, LoadedScan, PinState
from blissdata.redis_engine.memory_tracker.policy import (
    DEAD_AFTER_S,
    AgedRecord,
    Plan,
    has_lapsed,
    held_back,
    is_dead,
    plan,
    slowest,
    thinned,
)
from blissdata.redis_engine.memory_tracker.report import Next
from blissdata.redis_engine.memory_tracker.sizes import human_size
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

NAMED_SCANS = 5
"""So many scans are named of those whose points go first."""

PIN_SLICE_PERCENT = 5.0
"""Which part of the time, at most, is forgotten at once past pins [%]: no more than need be."""

STRANGER_S = 600.0
"""Records that are not of this tracker, at two looks within this time [s], are those of blissdata 2.x."""

HELD_RECORDS = 1000
"""About so many records of what pins hold are remembered one by one; older ones are joined."""

_BEGINNING = "0-0"


class NoFreeableMemoryError(BlissdataError):
    """Everything that is left is too recent to be forgotten, or held by pins."""

    def __init__(self, message: str, pins: Sequence[PinState] = ()) -> None:
        """`pins` are those that hold what would be old enough."""
        super().__init__(message)
        self.pins = tuple(pins)


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
        self._all_pins: list[PinState] = []
        self._pins: list[PinState] = []
        self._gone: dict[str, int] = {}
        self._silent: dict[str, float] = {}
        self._lapsed: set[str] = set()
        self._kept: set[str] = set()
        self._newest_record: str | None = None
        self._stranger: float | None = None
        self._foreign: float | None = None
        self._forgotten: float | None = None
        self._scan_of: dict[str, str] = {}
        self._alarms: list[str] = []

    # ------------------------------------------------------------------------------ a round

    def update(self) -> None:
        """One round: finds new scans, records where all streams end, lets closed scans expire, and
        closes open ones whose publisher is dead, deletes those in which nothing happens any more.

        The round trips do not grow with the number of streams or open scans. On a full server the
        record is kept in memory. Raises `StoreConnectionError` when the server is away."""
        self._open_journal()
        self._find()
        self._refresh()
        self._look_at_pins()
        streams = [key for scan in self._open.values() for key in scan.streams]
        self._look_at(streams)
        self._record()
        self._let_closed_expire()
        self._delete_inactive()

    @property
    def pins(self) -> list[PinState]:
        """The pins that hold, at the last look."""
        return list(self._pins)

    @property
    def foreign(self) -> float | None:
        """When somebody else, a tracker of blissdata 2.x, was last seen to write into the journal, on the
        server's clock, Unix time [s]; None if nobody was."""
        return self._foreign

    @property
    def followed(self) -> int:
        """How many scans are followed."""
        return len(self._open)

    @property
    def forgot(self) -> bool:
        """Whether it has forgotten any points."""
        return self._forgotten is not None

    def oldest(self, now: float) -> float | None:
        """Since when, on the server's clock, on which it is `now`, all points are there; Unix times [s].
        None if nothing was published yet."""
        since = self._forgotten
        if since is None:
            if not self._moments:
                return None
            since = self._moments[0].taken
        return now - (time.monotonic() - since)

    def coming(self, now: float, protected_history: float) -> Next | None:
        """What `reclaim_memory` would forget; `now` as above. Asks nobody."""
        aged = self._aged()
        found = plan(aged, protected_history, self._slice, self._positions(), self._gone)
        if found is None:
            return None
        streams = [*found.ends, *(k for k, at in found.held.items() if at > self._gone.get(k, 0))]
        scans = list(dict.fromkeys(self._scan_of[key] for key in streams if key in self._scan_of))
        return Next(
            now - aged[found.used - 1].age,
            len(streams),
            tuple(scans[:NAMED_SCANS]),
            max(0, len(scans) - NAMED_SCANS),
        )

    def take_alarms(self) -> list[str]:
        """What an operator should know, since this was asked for the last time."""
        alarms, self._alarms = self._alarms, []
        return alarms

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
        self._scan_of |= dict.fromkeys(streams, key)
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
            if self._upkeep.complete_records:
                self._look_for_another_tracker()
            return
        self._store.backend.pins.prepare()
        after = _BEGINNING
        while records := self._upkeep.records(after, RECORDS_AT_ONCE):
            now = time.monotonic()
            for record in records:
                taken = now - max(0.0, self._server_time - record.time)
                self._remember(taken, record.ends, record.ident)
            after = records[-1].ident
        self._recorded = dict(self._known)
        self._newest_record = self._upkeep.newest_record()
        self._loaded = True

    def _look_for_another_tracker(self) -> None:
        """Only one that does not stand by, one of blissdata 2.x, writes into a journal that is ours."""
        newest = self._upkeep.newest_record()
        if newest in (None, self._newest_record):
            return
        self._newest_record = newest
        now, before = time.monotonic(), self._stranger
        self._stranger = now
        if before is None or now - before > STRANGER_S:
            return  # one of ours perhaps, which led for a round
        if self._foreign is None:
            _logger.warning(
                "A memory tracker of blissdata 2.x works on this server as well: it knows nothing of pins, "
                "so that they cannot be kept"
            )
        self._foreign = self._server_time

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
            self._newest_record = ident
        self._remember(now, self._ends, ident)

    # ------------------------------------------------------------------------------ the end of scans

    def _let_closed_expire(self) -> None:
        pinned = {pin.scan_key for pin in self._pins}
        closed = [
            key
            for key, scan in self._open.items()
            if scan.state >= ScanState.CLOSED and key not in pinned
        ]
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
        pinned = {pin.scan_key for pin in self._pins}
        for key, scan in list(self._open.items()):
            if key in pinned:
                continue
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

    # ------------------------------------------------------------------------------ pins

    def _look_at_pins(self) -> None:
        """Learns what consumers want to keep, and takes up their scans, closed ones too. Two round trips,
        more where a scan is new."""
        found = self._store.backend.pins.all()
        holding = [pin for pin in found if self._holds(pin)]
        wanted = {pin.scan_key for pin in holding}
        self._load([key for key in wanted if key not in self._open and key not in self._aside])
        self._done -= self._open.keys()
        gone = wanted - self._open.keys() - self._aside.keys()
        for pin in holding:
            if pin.scan_key in gone:
                _logger.warning(
                    "Pin %r of scan %s is removed: there is no such scan any more",
                    pin.name,
                    pin.scan_key,
                )
                self._store.backend.pins.release(pin.key)
        self._all_pins = [pin for pin in found if pin.scan_key not in gone]
        self._pins = [pin for pin in holding if pin.scan_key not in gone]
        self._keep_closed({pin.scan_key for pin in self._pins})
        keys = {pin.key for pin in self._all_pins}
        self._silent = {key: since for key, since in self._silent.items() if key in keys}
        self._lapsed &= keys
        positions = self._positions()
        self._gone = {key: end for key, end in self._gone.items() if key in positions}

    def _keep_closed(self, pinned: set[str]) -> None:
        """Takes back that closed scans expire which are pinned: they may have been pinned just when they
        were to expire."""
        self._kept &= pinned
        for key in pinned - self._kept:
            scan = self._open.get(key)
            if scan is None or scan.state < ScanState.CLOSED:
                continue
            self._kept.add(key)
            try:
                document = scan.catalog.load(key).document
            except ScanLoadError as error:
                _logger.debug("%s", error)
                continue
            self._store.backend.pins.keep(scan.catalog.keys_of(document))

    def _holds(self, pin: PinState) -> bool:
        """Whether it counts; says so when that changes."""
        now = time.monotonic()
        if not pin.silent:
            self._silent.pop(pin.key, None)
        since = self._silent.setdefault(pin.key, now) if pin.silent else None
        lapsed = has_lapsed(pin.lasting, None if since is None else now - since)
        if lapsed != (pin.key in self._lapsed):
            if lapsed:
                self._lapsed.add(pin.key)
                _logger.warning(
                    "Pin %r of scan %s has lapsed: nothing was heard of %s for %d s",
                    pin.name,
                    pin.scan_key,
                    pin.holder,
                    pin.silence,
                )
            else:
                self._lapsed.discard(pin.key)
                _logger.info("Pin %r of scan %s holds again", pin.name, pin.scan_key)
        return not lapsed

    def _positions(self) -> dict[str, int]:
        """For each stream that is pinned, where the slowest of these pins stands."""
        return slowest(
            (key, index)
            for pin in self._pins
            for key in self._streams_of(pin)
            if (index := pin.position(key)) is not None
        )

    def _streams_of(self, pin: PinState) -> Iterable[str]:
        scan = self._open.get(pin.scan_key)
        if scan is not None:
            return scan.streams
        known = [key for key, scan_key in self._scan_of.items() if scan_key == pin.scan_key]
        return [*known, *(key for key in pin.positions if key not in known)]  # it cannot be read

    def pins_have_moved(self) -> bool:
        """Looks at the pins again; True if another position is the slowest of one stream."""
        before = self._positions()
        self._look_at_pins()
        return before != self._positions()

    # ------------------------------------------------------------------------------ forgetting

    def reclaim_memory(self, protected_history: float, past_pins: bool = False) -> None:
        """Forgets the oldest part of the time that the journal covers, but nothing that came in the
        last `protected_history` [s], and nothing that a pin holds, unless it shall go `past_pins`:
        then those that it breaks are told, and said. Raises `NoFreeableMemoryError` if that is all
        there is.

        A few round trips. Works on a full server."""
        self._open_journal()
        self._look_at_pins()
        aged = self._aged()
        positions = {} if past_pins else self._positions()
        part = min(self._slice, PIN_SLICE_PERCENT) if past_pins else self._slice
        found = plan(aged, protected_history, part, positions, self._gone)
        if found is None:
            raise self._nothing_to_free(aged, protected_history, past_pins)
        pins = [pin for pin in self._all_pins if past_pins or pin not in self._pins]
        self._forget(found, _standing_before(pins, self._streams_of, {**found.ends, **found.held}))
        used, self._moments = self._moments[: found.used], self._moments[found.used :]
        self._forgotten = max(used[-1].taken, self._forgotten or used[-1].taken)
        self._keep_what_is_held(used, found.held)
        written = [moment.ident for moment in used if moment.ident is not None]
        if written:
            self._upkeep.forget_records(written[-1])
        self._drop(found, used)

    def _aged(self) -> list[AgedRecord]:
        now = time.monotonic()
        return [AgedRecord(now - moment.taken, moment.ends) for moment in self._moments]

    def _nothing_to_free(
        self, aged: Sequence[AgedRecord], protected: float, past_pins: bool
    ) -> NoFreeableMemoryError:
        if not aged:
            return NoFreeableMemoryError("The journal is empty: nothing was published yet")
        free = None if past_pins else plan(aged, protected, self._slice)
        if free is None:
            return NoFreeableMemoryError(
                f"Remaining data is too recent to be freed (protected_history: {protected} seconds)"
            )
        holding = [pin for pin, _ in _standing_before(self._pins, self._streams_of, free.ends)]
        names = ", ".join(f"{pin.name!r} of scan {pin.scan_key}" for pin in holding)
        return NoFreeableMemoryError(f"What is old enough to be freed is pinned: {names}", holding)

    def _forget(self, found: Plan, breaking: Sequence[tuple[PinState, dict[str, int]]]) -> None:
        """Forgets what is free by whole nodes, and exactly where a pin stands in it."""
        exactly = dict(found.held)
        for _, before in breaking:
            exactly |= {key: found.ends[key] for key in before if key in found.ends}
        roughly = {key: end for key, end in found.ends.items() if key not in exactly}
        used = self._store.backend.used_memory() if breaking else 0
        outcomes = [*self._upkeep.forget(roughly).values()]
        outcomes += self._store.event_log.trim(exactly).values() if exactly else ()
        failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if failed:
            _logger.warning("%d streams could not be trimmed: %s", len(failed), failed[0])
        self._gone |= found.held
        if breaking:
            self._tell_broken(breaking, used - self._store.backend.used_memory())

    def _tell_broken(self, breaking: Sequence[tuple[PinState, dict[str, int]]], freed: int) -> None:
        """Says loudly, and notes down for those who hold them, what pins could not keep."""
        keys = sorted({key for _, before in breaking for key in before})
        bounds = self._store.event_log.bounds(keys)
        starts = {key: b.start for key, b in bounds.items() if not isinstance(b, Exception)}
        lost = {
            pin.key: {key: starts[key] for key, at in before.items() if starts.get(key, 0) > at}
            for pin, before in breaking
        }
        try:
            self._store.backend.pins.lose(
                {key: streams for key, streams in lost.items() if streams}
            )
        except ServerRefusedError as error:
            _logger.warning("The holders of pins cannot be told what they have lost: %s", error)
        for pin, before in breaking:
            points = sum(start - before[key] for key, start in lost[pin.key].items())
            if not points:
                continue
            lapsed = pin.key in self._lapsed
            why = "had lapsed" if lapsed else "is BROKEN, memory is beyond the limit for pins"
            text = (
                f"Pin {pin.name!r} of scan {pin.scan_key} {why}: {points} points of "
                f"{len(lost[pin.key])} streams were forgotten before {pin.holder} had them "
                f"({human_size(max(freed, 0))} freed)"
            )
            _logger.log(logging.WARNING if lapsed else logging.CRITICAL, "%s", text)
            self._alarms.append(text)

    def _keep_what_is_held(self, used: Sequence[_Moment], held: Mapping[str, int]) -> None:
        """What these records say of streams that a pin holds is needed once it moves on."""
        now = time.monotonic()
        aged = [AgedRecord(now - moment.taken, moment.ends) for moment in used]
        records = thinned(held_back(aged, held), HELD_RECORDS)
        kept = [_Moment(now - record.age, dict(record.ends), None) for record in records]
        self._moments = kept + self._moments

    def _drop(self, done: Plan, used: Sequence[_Moment]) -> None:
        """Forgets what is over; what is held by a pin, and was in the journal, is to be recorded again:
        another tracker would not know of it."""
        written = {key for moment in used if moment.ident is not None for key in moment.ends}
        self._record_again(written & done.held.keys())
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
                self._scan_of.pop(key, None)

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


def _standing_before(
    pins: Iterable[PinState],
    streams_of: Callable[[PinState], Iterable[str]],
    ends: Mapping[str, int],
) -> list[tuple[PinState, dict[str, int]]]:
    """Those of the pins that hold something of what is to be forgotten up to these ends, and where they
    stand in each such stream."""
    found: list[tuple[PinState, dict[str, int]]] = []
    for pin in pins:
        before = {
            key: index
            for key in streams_of(pin)
            if (index := pin.position(key)) is not None and index < ends.get(key, 0)
        }
        if before:
            found.append((pin, before))
    return found


def _prefix(key: str) -> str:
    return key.partition(":scan:")[0]
