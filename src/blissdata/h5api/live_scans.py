"""The scans that make a file, found and followed on the server.

A scan belongs to the file that its identity's `path` names; what the file will hold of it stands in
its info: `h5maps` (a file's root, whose children are the entries) or the talk's `mapping` (one entry,
`/<number>.1`). Readers learn of that at PREPARED, and of changes at CLOSED. A scan that says nothing has
one entry all the same, which `h5map.nexus` makes of its streams and its info.

Scans that have left the server are entries of the written file alone, if there is one.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from blissdata.exceptions import DataFileError, ScanLoadError, ScanNotFoundError
from blissdata.h5api.live_arrays import Patience, lengths
from blissdata.h5api.live_tree import children, is_group, plotted_together
from blissdata.h5api.written_files import WrittenFile, WrittenValue
from blissdata.redis_engine.scan import Scan, ScanState
from blissdata.streams.deadline import Deadline
from blissdata.streams.event_stream import WAIT_SLICE_S

if TYPE_CHECKING:
    from blissdata.redis_engine.store import DataStore
    from blissdata.streams import BaseStream

__all__ = ["FrozenScan", "FrozenScans", "LiveScan", "LiveScans", "entries_of"]

_logger = logging.getLogger(__name__)

FRESH_S = 0.5
"""How long what a scan said of itself counts as new [s]: what is added at CLOSED shows within a
second, and a program that walks through a tree does not ask at every step."""

PENDING_SLICE_S = 0.5
"""How long one call waits for a scan to be prepared while others may come [s]: the server can wake
us for the steps of one scan, or for new scans, not for both."""

LOADED_AT_ONCE = 500
"""How many scans one round trip loads; their layouts may be large."""


class LiveScan:
    """One scan, and the entries that it has in the file."""

    def __init__(self, scan: Scan, filename: str) -> None:
        self._scan = scan
        self._filename = filename
        self._state_known: tuple[ScanState, dict[str, Any]] | None = None
        self._asked = time.monotonic()
        self._updating = threading.Lock()
        self.gone = False
        """True once the scan has left the server: what was known of it stays."""

    @property
    def scan(self) -> Scan:
        """The scan, as it was at the last look."""
        return self._scan

    @property
    def ready(self) -> bool:
        """True if the entries are known."""
        return self._scan.state >= ScanState.PREPARED

    @property
    def settled(self) -> bool:
        """True if nothing of it will change any more."""
        return self.gone or self._scan.state == ScanState.CLOSED

    @property
    def entries(self) -> dict[str, Any]:
        """The layouts of its entries by name; empty before PREPARED. No round trip."""
        state = self._scan.state
        if self._state_known is None or self._state_known[0] != state:
            entries = entries_of(self._scan, self._filename) if self.ready else {}
            self._state_known = state, entries
        return self._state_known[1]

    @property
    def streams(self) -> Mapping[str, BaseStream]:
        """The scan's streams by name. No round trip."""
        return self._scan.streams

    def refresh(self) -> None:
        """Looks whether there is anything new, unless it has done so just now. One round trip, one
        more if there is; none once the scan is closed."""
        if not self.settled and time.monotonic() - self._asked >= FRESH_S:
            self._asked = time.monotonic()
            if not self.told(self._scan.data_store.scan_states([self._scan.key])[self._scan.key]):
                self.update(Deadline(0))

    def has_left(self) -> bool:
        """True if the scan is not on the server any more. One round trip, none once that is known."""
        if not self.gone:
            self.told(self._scan.data_store.scan_states([self._scan.key])[self._scan.key])
        return self.gone

    def told(self, state: int | None) -> bool:
        """Takes note of the state that the scan is in now (None: it is gone); False if it must be
        loaded again."""
        self._asked = time.monotonic()
        self.gone = state is None
        return state is None or state == self._scan.state

    def adopt(self, scan: Scan) -> None:
        """Takes over what was loaded just now."""
        self.gone = False
        self._asked = time.monotonic()
        if scan.state != self._scan.state:
            self._scan = scan

    def update(self, deadline: Deadline) -> None:
        """Waits until the scan's state changes, for a few seconds at most."""
        seconds = max(deadline.remaining(WAIT_SLICE_S), 0.001)
        if not self._updating.acquire(blocking=False):
            # Another thread waits already: what it finds is there for all.
            if self._updating.acquire(timeout=seconds):
                self._updating.release()
            return
        try:
            self._scan.update(timeout=seconds)
        except ScanNotFoundError:
            self.gone = True
        finally:
            self._asked = time.monotonic()
            self._updating.release()

    def wait_ready(self, deadline: Deadline) -> bool:
        """Waits until the entries are known; True if they are."""
        while not self.ready and not self.gone:
            if deadline.passed:
                return False
            self.update(deadline)
        return self.ready

    def wait_settled(self, deadline: Deadline, at_most: float) -> bool:
        """Waits until the scan is closed or gone, `at_most` [s]; True if it is."""
        end = Deadline(deadline.remaining(at_most))
        while not self.settled and not end.passed:
            self.update(end)
        return self.settled


class WrittenScans:
    """The scans that only the written file has, all together: whatever stands at its top."""

    ready = settled = True
    gone = False
    streams: Mapping[str, BaseStream] = MappingProxyType({})

    def __init__(self, file: WrittenFile) -> None:
        self._file = file

    @property
    def entries(self) -> Mapping[str, Any]:
        """The layouts of the entries by name. A look at the disk, each half second at most."""
        root = self._file.root()
        return {} if root is None else root.children()

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Those of the file's root, if they can be read now. A look at the disk."""
        root = self._file.root()
        try:
            return {} if root is None else root["attributes"]
        except DataFileError:
            return {}

    def besides(self, live: Iterable[str]) -> list[str]:
        """The names of the entries that nobody has but the file; numbered ones in their order."""
        known = set(live)
        return sorted((name for name in self.entries if name not in known), key=_place)

    def default(self) -> str | None:
        """The entry that the file names as its default, else its last one."""
        entries, told = self.entries, self.attributes.get("default")
        named = None
        with suppress(DataFileError):
            named = told.value if isinstance(told, WrittenValue) else None
        if isinstance(named, str) and named in entries:
            return named
        return max(entries, key=_place, default=None)

    def refresh(self) -> None:
        """Each look at `entries` does."""

    def wait_ready(self, deadline: Deadline) -> bool:
        """True at once."""
        return True

    def wait_settled(self, deadline: Deadline, at_most: float) -> bool:
        """True at once."""
        return True


def _place(entry: str) -> tuple[bool, tuple[int, ...], str]:
    """Where an entry stands among others: by its numbers, if it has them, behind those that have
    none."""
    parts = entry.split(".")
    numbered = all(part.isascii() and part.isdigit() for part in parts)
    return numbered, tuple(map(int, parts)) if numbered else (), entry


class LiveScans:
    """All scans of one file, in the order of their creation; those that only the file has first."""

    def __init__(self, data_store: DataStore, filename: str, written: WrittenScans) -> None:
        self._store = data_store
        self._filename = filename
        self.written = written
        """Those that only the file has."""
        self._scans: dict[str, LiveScan] = {}
        self._owners: dict[str, LiveScan] = {}
        self._foreign: set[str] = set()
        self._unstarted: weakref.ref[_Names] | None = None

    # ------------------------------------------------------------------------------ what there is

    def look(self) -> list[LiveScan]:
        """Those that there are now, as they are now. Two round trips for up to 500 scans of which
        this object knows nothing final yet."""
        return self._find()[1]

    def names(self) -> list[str]:
        """The names of the entries that there are now."""
        found = self._find()
        # list(file) makes an iterator and then asks for the length: one look serves both.
        iterator = self._unstarted() if self._unstarted is not None else None
        if iterator is not None:
            iterator.start_from(found)
        return self._all_names(found[1])

    def _all_names(self, live: Sequence[LiveScan]) -> list[str]:
        names = dict.fromkeys(name for scan in live for name in scan.entries)
        return [*self.written.besides(names), *names]

    def met(self) -> bool:
        """True if a scan of this file was found before. No round trip."""
        return bool(self._scans)

    def known(self, entry: str) -> LiveScan:
        """The scan with an entry that was met before. No round trip."""
        owner = self._owners.get(entry)
        if owner is None or entry not in owner.entries or owner.gone:
            found = [scan for scan in self._scans.values() if entry in scan.entries]
            if found:
                owner = self._owners[entry] = min(found, key=lambda scan: scan.gone)
        if owner is None:
            raise KeyError(f"No such path: '/{entry}'")
        return owner

    def with_number(self, number: int, entry: str, deadline: Deadline) -> LiveScan | None:
        """The scan of that number, which is waited for if it is not prepared yet, if it has that
        entry. No round trip if it is known.

        Raises `RuntimeError` if two scans have the number."""
        owner = self._owners.get(entry)
        if owner is not None and entry in owner.entries and not owner.gone:
            owner.refresh()
            return owner
        found = self._find(number=number)[1]
        if len(found) > 1:
            keys = [scan.scan.key for scan in found]
            raise RuntimeError(f"Found multiple scans number {number} in {self._filename}: {keys}")
        for scan in found:
            if scan.wait_ready(deadline) and entry in scan.entries:
                self._owners[entry] = scan
                return scan
        return None

    def follow(self, patience: Patience, require_open: Callable[[], None]) -> Iterator[str]:
        """The names of the entries, existing ones first, then those to come, for ever; or until
        nothing came for so long. `require_open` raises what ends it once the file is closed."""
        iterator = _Names(self, patience, require_open)
        self._unstarted = weakref.ref(iterator)
        return iterator

    def names_from(
        self,
        found: tuple[str, list[LiveScan]] | None,
        patience: Patience,
        require_open: Callable[[], None],
    ) -> Iterator[str]:
        """The same, from what a look found on; None: from a look that is made now."""
        given: set[str] = set()
        since, following = found or self._find()
        seen = {scan.scan.key for scan in following}
        names = self._all_names(following)
        while True:
            for name in dict.fromkeys(names):
                if name not in given:
                    given.add(name)
                    yield name
            following = [scan for scan in following if not scan.settled]
            if not patience.wait:
                return
            deadline = patience.deadline()
            while not any(name not in given for scan in following for name in scan.entries):
                if deadline.passed:
                    return
                since, announced = self._wait(since, following, deadline)
                require_open()
                following += self._load([key for key in announced if key not in seen])
                seen.update(announced)
            names = [name for scan in following for name in scan.entries]

    def _wait(
        self, since: str, following: list[LiveScan], deadline: Deadline
    ) -> tuple[str, list[str]]:
        """Waits for a step of the first scan that is not prepared, or else for new scans. Gives the
        keys of new ones, and up to which timetag that is all."""
        pending = next((scan for scan in following if not scan.ready and not scan.gone), None)
        if pending is not None:
            pending.update(Deadline(deadline.remaining(PENDING_SLICE_S)))
        wait = 0.0 if pending is not None else deadline.remaining(WAIT_SLICE_S)
        since, announced = self._store.catalog.announced(since, wait=wait)
        self._compare(following)
        return since, [scan.key for scan in announced]

    def _find(self, **fields: Any) -> tuple[str, list[LiveScan]]:
        """The newest timetag, and the scans of this file with these fields."""
        path = self._filename
        if "*" in path:  # which would stand for anything
            path = path.partition("*")[0] + "*"
        timetag, keys = self._store.search_existing_scans(path=path, **fields)
        known = {key: self._scans[key] for key in keys if key in self._scans}
        self._compare([scan for scan in known.values() if not scan.settled])
        wanted = (key for key in keys if key not in known or known[key].gone)
        self._load([key for key in wanted if key not in self._foreign])
        return timetag, [self._scans[key] for key in keys if key in self._scans]

    def _compare(self, scans: list[LiveScan]) -> None:
        """Loads again, at once, those of which the state is another one than was known."""
        if not scans:
            return
        states = self._store.scan_states([scan.scan.key for scan in scans])
        moved = [scan for scan in scans if not scan.told(states[scan.scan.key])]
        self._load([scan.scan.key for scan in moved])

    def _load(self, keys: list[str]) -> list[LiveScan]:
        """Loads scans, and keeps those of this file; damaged ones are told of and left out."""
        loaded: list[LiveScan] = []
        for start in range(0, len(keys), LOADED_AT_ONCE):
            with _collector_paused():
                found = self._store.load_scans(keys[start : start + LOADED_AT_ONCE])
            for key, scan in found.items():
                if isinstance(scan, ScanNotFoundError):
                    continue
                if isinstance(scan, ScanLoadError):
                    _logger.warning("%s is without scan %s: %s", self._filename, key, scan)
                elif scan.identity.get("path") == self._filename:
                    loaded.append(self._keep(scan))
                    continue
                self._foreign.add(key)
        return loaded

    def _keep(self, scan: Scan) -> LiveScan:
        known = self._scans.get(scan.key)
        if known is None or known.gone:
            known = self._scans[scan.key] = LiveScan(scan, self._filename)
        else:
            known.adopt(scan)
        return known


class FrozenScan:
    """One scan as it was at one instant."""

    def __init__(self, live: LiveScan) -> None:
        self.scan = live.scan
        self.entries = dict(live.entries)
        self.streams = dict(live.streams)
        self.ready = True
        self.settled = True
        self.gone = False
        # The streams of a closed scan have their final lengths, whenever these are asked for.
        self._lengths = None if live.settled else self._common_lengths()

    def length(self, stream: str) -> int:
        """How many points a stream has in here."""
        if self._lengths is None:
            self._lengths = self._common_lengths()
        return self._lengths[stream]

    def _common_lengths(self) -> dict[str, int]:
        """The lengths now, cut to one for those that are plotted together."""
        found = lengths(self.streams.values())
        together = [streams & found.keys() for streams in plotted_together(self.entries)]
        while True:
            cut = {
                name: shortest
                for streams in together
                for shortest in [min((found[name] for name in streams), default=0)]
                for name in streams
                if found[name] > shortest
            }
            if not cut:
                return found
            found.update(cut)

    def refresh(self) -> None:
        """Nothing changes any more."""

    def wait_ready(self, deadline: Deadline) -> bool:
        """True at once."""
        return True

    def wait_settled(self, deadline: Deadline, at_most: float) -> bool:
        """True at once."""
        return True


class FrozenScans:
    """All scans of one file as they were at one instant: those that were prepared."""

    def __init__(self, live: LiveScans) -> None:
        self._scans = [FrozenScan(scan) for scan in live.look() if scan.ready]
        self.written = live.written
        """Those that only the file has."""
        self._besides = self.written.besides(name for scan in self._scans for name in scan.entries)

    def look(self) -> list[FrozenScan]:
        """All of them."""
        return self._scans

    def names(self) -> list[str]:
        """The names of the entries."""
        names = dict.fromkeys(name for scan in self._scans for name in scan.entries)
        return [*self._besides, *names]

    def met(self) -> bool:
        """True if there are any."""
        return bool(self._scans)

    def known(self, entry: str) -> FrozenScan:
        """The scan with that entry."""
        return next(scan for scan in self._scans if entry in scan.entries)

    def with_number(self, number: int, entry: str, deadline: Deadline) -> FrozenScan | None:
        """The scan with that entry. Raises `RuntimeError` if two scans have it."""
        found = [scan for scan in self._scans if entry in scan.entries]
        if len(found) > 1:
            keys = [scan.scan.key for scan in found]
            raise RuntimeError(f"Found multiple scans number {number}: {keys}")
        return found[0] if found else None

    def follow(self, patience: Patience, require_open: Callable[[], None]) -> Iterator[str]:
        """The names of the entries."""
        return iter(self.names())


class _Names(Iterator[str]):
    """Names of entries, beginning with those that there are at the first step, or a little before."""

    def __init__(
        self, scans: LiveScans, patience: Patience, require_open: Callable[[], None]
    ) -> None:
        self._scans = scans
        self._patience = patience
        self._require_open = require_open
        self._found: tuple[str, list[LiveScan]] | None = None
        self._names: Iterator[str] | None = None

    def start_from(self, found: tuple[str, list[LiveScan]]) -> None:
        """Takes what a look found just now, if it has not begun yet."""
        self._found = found

    def __next__(self) -> str:
        self._require_open()
        if self._names is None:
            self._names = self._scans.names_from(self._found, self._patience, self._require_open)
        return next(self._names)


AnyScan: TypeAlias = LiveScan | FrozenScan | WrittenScans
"""What an entry belongs to."""


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Without it, Python looks for cycles among a million new objects that have none, again and again
    while they are made: 1000 scans of 50 streams took 4.3 s to load instead of 0.4 s."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def entries_of(scan: Scan, filename: str) -> dict[str, Any]:
    """The entries that a scan has in the file. What is wrong is told of, and costs no other scan."""
    maps = scan.info.get("h5maps")
    if isinstance(maps, Mapping) and filename in maps:
        root = maps[filename]
        if isinstance(root, Mapping) and is_group(root):
            return dict(children(root))
        _logger.warning(
            "Scan %s: info['h5maps'][%r] is no group, expected {'type': 'group', …}",
            scan.key,
            filename,
        )
        return {}
    entry = f"{scan.identity.get('number')}.1"
    if scan.info.get("mapping"):
        return _from_mapping(scan, entry)
    if not maps and scan.stream_names:  # one that ended before it was prepared has nothing in it
        return {entry: _MadeUp(scan, entry)}
    _logger.info("Scan %s has no HDF5 layout for %s", scan.key, filename)
    return {}


class _MadeUp(Mapping[str, Any]):
    """The layout of an entry that nobody described, made when somebody looks into it: a listing of a
    thousand scans does not need it."""

    def __init__(self, scan: Scan, entry: str) -> None:
        self._scan = scan
        self._entry = entry
        self._made: dict[str, Any] | None = None

    @property
    def _layout(self) -> dict[str, Any]:
        if self._made is None:
            from blissdata.h5map.nexus import nexus_entry

            group = nexus_entry(self._scan.info, self._scan.streams, f"/{self._entry}")
            self._made = group.model_dump(mode="json")
        return self._made

    def __getitem__(self, key: str) -> Any:
        return "group" if key == "type" else self._layout[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout)

    def __len__(self) -> int:
        return len(self._layout)


def _from_mapping(scan: Scan, entry: str) -> dict[str, Any]:
    """The one entry that the talk's notation describes."""
    from blissdata.h5map.mapping import read_mapping

    group, mistakes = read_mapping(scan.info["mapping"], f"/{entry}")
    for mistake in mistakes:
        _logger.warning("Scan %s, info['mapping']: %s", scan.key, mistake)
    found = group.model_dump(mode="json")
    _end(found, scan)
    return {entry: found}


def _end(entry: dict[str, Any], scan: Scan) -> None:
    """An NXentry that has ended has `end_time` (NeXus, NXentry): who follows a file knows by it that
    nothing more comes. People who write a mapping leave it to us."""
    ended = scan.info.get("end_time") if scan.state == ScanState.CLOSED else None
    is_entry = entry.get("attributes", {}).get("NX_class") == "NXentry"
    if is_entry and isinstance(ended, str) and "\0" not in ended:
        entry.setdefault("children", {}).setdefault("end_time", ended)
