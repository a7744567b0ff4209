"""The writer: every scan of a server into its file, as long as it is told to.

    announced ──▶ pinned ──▶ a follower (a thread) per scan that is prepared ──▶ written, released
                                                                            └──▶ failed, pin stays

A scan that fails stops no other one. What a writer that was killed had in hand is known from its pins and
its last report, and is gone on with.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blissdata.exceptions import (
    BlissdataError,
    DataFileError,
    FileWriteRefusedError,
    PayloadError,
    ScanLoadError,
    ScanNotFoundError,
    StoreError,
)
from blissdata.redis_engine.scan import Scan, ScanState
from blissdata.streams.default import Stream
from blissdata.streams.event_log import SpanRequest
from blissdata.writer.files import OpenFiles
from blissdata.writer.follower import Follower, Progress
from blissdata.writer.report import (
    MOST_REMARKS,
    PIN,
    Event,
    EventKind,
    Report,
    ScanReport,
    read_report,
    tell,
    what_now,
)

if TYPE_CHECKING:
    from blissdata.data_roots import DataRoots
    from blissdata.redis_engine.backends.abstract import PinState
    from blissdata.redis_engine.pins import Pin
    from blissdata.redis_engine.store import DataStore
    from blissdata.writer.plan import Compression

__all__ = ["Writer", "freeze_what_is_loaded"]

_logger = logging.getLogger(__name__)

ROLE = "writer"

RETRY_PIN = "writer-retry"
"""Name of the pin by which a writer that stands by asks the one that works to try a scan again."""

LISTEN_S = 1.0
"""How long one wait for new scans lasts at most, before everything else is looked at [s]."""

REPORT_S = 2.0
"""How often it says how far it is [s]."""

PROGRESS_S = 1.0
"""How often whoever watches is told how far each scan is [s]."""

AWAY_S = 1.0
"""Pause while the server does not answer [s]."""

PATIENCE_S = 60.0
"""A writer that has said nothing to the server for so long is passed over by one that stands by [s]."""

MOST_LOOKED_AT = 200
"""Of so many scans that ended before, it is looked whether they have a file."""

NO_PATH = "it names no file (`path` in its identity)"
"""Why a scan is not written whose publisher may have meant it to be."""

EXTERNAL = ("nexus", "blissdata")
"""The `data_writer` of a scan's info that is this one: `nexus` is what BLISS calls a program that writes
for it."""


def freeze_what_is_loaded() -> None:
    """For a program that does nothing but write: modules that are loaded are not looked through again
    by the garbage collector, which costs up to 70 ms each time."""
    import blissdata.writer.nexus  # noqa: F401 — h5py, which is loaded when the first scan comes

    gc.collect()
    gc.freeze()


class _Work:
    """One scan in hand."""

    def __init__(self, scan: Scan, pin: Pin | None) -> None:
        self.scan = scan
        self.pin = pin
        self.follower: Follower | None = None
        self.thread: threading.Thread | None = None
        self.progress = Progress(scan.key, scan.identity.get("number"))
        self.told: tuple[int, int] | None = None
        """Points and points behind, as they were told last; None: nothing yet."""


class Writer:
    """Writes the scans of one store below the roots, until `stop`. Of several on one server, one works
    and the others stand by.

    `retry` are keys of scans that have failed and shall be tried again (True: all of them), if need be by the
    one that works; `all_scans`
    takes those as well that were closed before any writer ran. `say` gets lines for people, from any
    thread; `watch` gets what becomes of each scan, in the thread of `run`. Raises
    `FileWriteRefusedError` without roots."""

    def __init__(
        self,
        data_store: DataStore,
        roots: DataRoots,
        *,
        compression: Compression = "auto",
        retry: Collection[str] | bool = (),
        all_scans: bool = False,
        say: Callable[[str], None] = _logger.info,
        watch: Callable[[Event], None] | None = None,
    ) -> None:
        if not roots.directories:
            raise FileWriteRefusedError(
                "A writer needs to know below which directories it may make files: set "
                "$BLISSDATA_DATA_ROOTS, or give --roots"
            )
        self._store = data_store
        self._roots = roots
        self._files = OpenFiles(roots, compression)
        self._retry = retry
        self._all = all_scans
        self._say = say
        self._watch = watch
        self._watched = 0.0
        self._stop = threading.Event()
        self._work: dict[str, _Work] = {}
        self._failed: dict[str, ScanReport] = {}
        self._since = ""
        self._written = 0
        self._reported = 0.0
        self._name = f"process {os.getpid()} on {socket.gethostname()}"

    def stop(self) -> None:
        """Makes `run` return soon: what is read is committed, and goes on another time. May be called
        from anywhere, a signal handler too."""
        self._stop.set()

    def run(self) -> None:
        """Writes, until `stop`."""
        candidate = self._store.backend.upkeep.candidate(ROLE)
        began = standing_by = False
        try:
            while not self._stop.is_set():
                try:
                    if not began:
                        if not candidate.leads(PATIENCE_S):
                            if not standing_by:
                                self._say("another writer writes this server's scans: standing by")
                                self._ask_to_retry()
                            standing_by = True
                            self._stop.wait(LISTEN_S)
                            continue
                        self._begin()
                        began = True
                    self._round()
                    candidate.leads(PATIENCE_S)
                except StoreError as error:
                    _logger.warning("%s", error)
                    self._stop.wait(AWAY_S)
        finally:
            self._end(began)
            candidate.close()

    @property
    def progress(self) -> Mapping[str, Progress]:
        """How far the scans in hand are, by key."""
        return {
            key: work.follower.progress if work.follower else work.progress
            for key, work in list(self._work.items())
        }

    # ------------------------------------------------------------------------------ beginning

    def _begin(self) -> None:
        """Takes in hand what a writer before had, and what is open."""
        before = read_report(self._store)
        pins = self._store.pins()
        pinned = {pin.scan_key for pin in pins if pin.name == PIN}
        asked = self._asked(pins)
        timetag, keys = self._store.search_existing_scans()
        failed = before.failed if before else {}
        self._failed = {
            key: one
            for key, one in failed.items()
            if key in pinned and key not in asked and not self._is_retried(key)
        }
        self._tell_of_unknown(failed)
        states = self._store.scan_states(keys)
        wanted = [
            key
            for key in keys
            if key in pinned or self._all or states[key] not in (None, ScanState.CLOSED)
        ]
        since = before.since if before else ""
        if since:
            while True:
                last, found = self._store.catalog.announced(since, wait=0)
                wanted += [one.key for one in found if one.key not in wanted]
                if last == since:
                    break
                since = last
        self._since = max(timetag, since, key=_order)
        where = ", ".join(self._roots.directories)
        self._say(
            f"writing scans below {where}; {len(wanted)} to look at, {len(self._failed)} failed"
        )
        for key in wanted:
            if key not in self._failed:
                self._take(key, quiet=states.get(key) == ScanState.CLOSED and key not in pinned)
        left = set(keys) - set(wanted) - self._failed.keys()
        self._tell_of_unwritten([key for key in left if states[key] == ScanState.CLOSED])
        self._report()

    def _tell_of_unwritten(self, keys: Sequence[str]) -> None:
        """Says how many scans ended before any writer ran, and what to do about it."""
        number = 0
        for key in keys[:MOST_LOOKED_AT]:
            if self._stop.is_set():
                return
            with suppress(ScanNotFoundError, ScanLoadError):
                number += self._has_no_file(self._store.load_scan(key))
        if number:
            more = " or more" if len(keys) > MOST_LOOKED_AT else ""
            one = number == 1 and not more
            self._say(
                f"{number}{more} finished scan{'' if one else 's'} without file: --all writes "
                f"{'it' if one else 'them'}"
            )

    def _has_no_file(self, scan: Scan) -> bool:
        path = scan.identity.get("path")
        if _not_written(scan.info, path):
            return False
        try:
            return not os.path.lexists(self._roots.place(str(path)))
        except DataFileError:
            return False

    def _is_retried(self, key: str) -> bool:
        return self._retry if isinstance(self._retry, bool) else key in self._retry

    def _tell_of_unknown(self, failed: Collection[str]) -> None:
        """Says which scans are to be tried again that have not failed."""
        named = [] if isinstance(self._retry, bool) else [k for k in self._retry if k not in failed]
        for key in named:
            self._say(f"nothing to try again: no scan {key} has failed")

    def _ask_to_retry(self) -> None:
        """Asks the writer that works to try scans again."""
        report = read_report(self._store)
        failed = report.failed if report else {}
        self._tell_of_unknown(failed)
        for key in filter(self._is_retried, failed):
            with suppress(ScanNotFoundError, ScanLoadError):
                self._store.load_scan(key).pin(RETRY_PIN, lasting=True)
                self._say(f"the other writer is asked to try scan {key} again")

    def _asked(self, pins: Iterable[PinState]) -> set[str]:
        """The scans that a writer which stands by has asked for, each once."""
        asked = {pin.scan_key for pin in pins if pin.name == RETRY_PIN}
        for key in asked:
            self._store.remove_pin(key, RETRY_PIN)
        return asked

    # ------------------------------------------------------------------------------ one round

    def _round(self) -> None:
        since, announced = self._store.catalog.announced(self._since, wait=self._wait())
        for one in announced:
            self._take(one.key)
        self._since = since
        self._step()
        if self._watch is not None and time.monotonic() - self._watched >= PROGRESS_S:
            self._tell_progress()
        if time.monotonic() - self._reported >= REPORT_S:
            self._report()

    def _wait(self) -> float:
        """How long to wait for new scans: nothing tells when one that is there is prepared."""
        waiting = any(work.thread is None for work in self._work.values())
        return 0.1 if waiting else LISTEN_S

    def _take(self, key: str, quiet: bool = False) -> None:
        """Takes a scan in hand, if it is to be written."""
        if key in self._work or self._stop.is_set():
            return
        try:
            scan = self._store.load_scan(key)
        except ScanNotFoundError:
            return
        except ScanLoadError as error:
            _logger.warning("Scan %s is not written: %s", key, error)
            return
        path = scan.identity.get("path")
        why_not = _not_written(scan.info, path)
        if why_not:
            say = self._say if why_not is NO_PATH and not quiet else _logger.info
            say(f"scan {key} is not written: {why_not}")
            return
        try:
            self._roots.place(str(path))
        except DataFileError as error:
            if not quiet:
                pinned = self._fail(scan, str(error))
                mendable = os.path.isabs(str(path))
                now = what_now(key, self._roots.directories, pinned=pinned, can_be_mended=mendable)
                self._say(f"FAILED {path} (scan {key}): {error}. {now}")
            return
        self._work[key] = _Work(scan, self._pinned(scan))

    def _fail(self, scan: Scan, reason: str) -> bool:
        """Whether its points are pinned."""
        pin = self._pinned(scan)
        number, path = scan.identity.get("number"), str(scan.identity.get("path"))
        failed = ScanReport(scan.key, number, [path], "failed", reason=reason)
        self._failed[scan.key] = failed
        self._tell("failed", failed)
        return pin is not None

    def _pinned(self, scan: Scan) -> Pin | None:
        try:
            return scan.pin(PIN, lasting=True)
        except BlissdataError as error:
            _logger.warning("Scan %s cannot be pinned: %s", scan.key, error)
            return None

    def _step(self) -> None:
        """Begins with scans that are prepared, and lets go of those that are done."""
        waiting = [work for work in self._work.values() if work.thread is None]
        states = self._store.scan_states([work.scan.key for work in waiting]) if waiting else {}
        for work in waiting:
            state = states[work.scan.key]
            if state is None:  # deleted
                del self._work[work.scan.key]
                self._store.remove_pin(work.scan.key, PIN)
            elif state >= ScanState.PREPARED:
                self._start(work)
        for key, work in list(self._work.items()):
            if work.thread is not None and not work.thread.is_alive():
                work.thread.join()
                self._done(key, work)

    def _start(self, work: _Work) -> None:
        work.scan.update(block=False)
        follower = Follower(work.scan, self._files, self._stop, work.pin, self._say)
        work.follower = follower
        work.thread = threading.Thread(
            target=follower.run, name=f"blissdata-writer-{work.scan.identity.get('number')}"
        )
        work.thread.start()

    def _done(self, key: str, work: _Work) -> None:
        del self._work[key]
        progress = work.follower.progress if work.follower else work.progress
        report = _scan_report(progress)
        if progress.outcome == "failed":
            report = replace(report, files=report.files or [str(work.scan.identity.get("path"))])
            self._failed[key] = report
        elif progress.outcome == "written":
            self._written += 1
        if progress.outcome in ("failed", "written", "stopped"):
            self._tell_begun(work)
            self._tell(progress.outcome, report, _expected(work))
        self._reported = 0.0

    # ------------------------------------------------------------------------------ telling

    def _tell(self, kind: EventKind, scan: ScanReport, expected: int | None = None) -> None:
        if self._watch is not None:
            self._watch(Event(kind, scan, expected))

    def _tell_begun(self, work: _Work) -> None:
        """Says that a scan has begun to be written, once."""
        follower = work.follower
        if work.told is None and follower is not None and follower.progress.files:
            work.told = (0, 0)
            begun = replace(_scan_report(follower.progress), outcome="writing", points=0, behind=0)
            self._tell("begun", replace(begun, reason="", remarks=()), _expected(work))

    def _tell_progress(self) -> None:
        """Says how far the scans in hand are, as far as they have moved."""
        self._watched = time.monotonic()
        self._measure()
        for work in self._work.values():
            if work.follower is None or work.follower.progress.outcome != "writing":
                continue
            self._tell_begun(work)
            progress = work.follower.progress
            if work.told != (now := (progress.points, progress.behind)):
                work.told = now
                self._tell("progress", _scan_report(progress), _expected(work))

    def _report(self, *, running: bool = True) -> None:
        self._measure()
        self._forget_decided()
        scans = [_scan_report(progress) for progress in self.progress.values()]
        report = Report(
            writer=self._name,
            roots=list(self._roots.directories),
            since=self._since,
            written=self._written,
            scans=[*scans, *self._failed.values()],
            running=running,
        )
        tell(self._store, report)
        self._reported = time.monotonic()

    def _measure(self) -> None:
        """How far the scans in hand are behind. One round trip for all plain streams."""
        followed = [
            (work.follower, stream, position)
            for work in self._work.values()
            if work.follower is not None
            for stream, position in work.follower.reached
            if isinstance(stream, Stream)
        ]
        if not followed:
            return
        requests = [SpanRequest(stream.key, only_tail=True) for _, stream, _ in followed]
        behind: dict[Follower, int] = {}
        spans = self._store.event_log.span(requests)
        for (follower, _, position), span in zip(followed, spans, strict=True):
            length = position if isinstance(span, PayloadError) else span[0].length
            behind[follower] = behind.get(follower, 0) + max(length - position, 0)
        for follower, points in behind.items():
            follower.progress.behind = points

    def _forget_decided(self) -> None:
        """Failed scans whose pin somebody has removed are decided; others may be asked for again."""
        if not self._failed:
            return
        pins = self._store.pins()
        pinned = {pin.scan_key for pin in pins if pin.name == PIN}
        again = self._asked(pins) & self._failed.keys() & pinned
        self._failed = {
            key: one for key, one in self._failed.items() if key in pinned and key not in again
        }
        for key in again:
            self._say(f"trying scan {key} again")
            self._take(key)

    def _end(self, began: bool) -> None:
        self._stop.set()
        left = [work for work in self._work.values() if work.thread and work.thread.is_alive()]
        if left:
            self._say(f"stopping: {_scans(len(left))} not complete yet; the next writer goes on")
        for work in self._work.values():
            if work.thread is not None:
                work.thread.join()
        with suppress(StoreError):
            for key, work in list(self._work.items()):
                if work.thread is not None:
                    self._done(key, work)
            if began:  # else there is another one, whose report stands
                self._report(running=False)


# ---------------------------------------------------------------------------------- small rules


def _not_written(info: Mapping[str, Any], path: object) -> str:
    """Why a scan is not to be written; nothing if it is."""
    if info.get("save") is False:
        return "its info says save: false"
    writer = info.get("data_writer")
    if writer is not None and writer not in EXTERNAL:
        return f"its info says data_writer: {writer!r}"
    if not isinstance(path, str) or not path:
        return NO_PATH
    return ""


def _scans(number: int) -> str:
    return f"{number} scan{' is' if number == 1 else 's are'}"


def _expected(work: _Work) -> int | None:
    """How many points a scan will have in all its streams, if it says so."""
    points = work.scan.info.get("npoints")
    known = isinstance(points, int) and not isinstance(points, bool) and points > 0
    streams = len(work.follower.reached) if work.follower else 0
    return int(points) * streams if known and points and streams else None


def _scan_report(progress: Progress) -> ScanReport:
    remarks = progress.remarks[:MOST_REMARKS]
    if len(progress.remarks) > MOST_REMARKS:
        remarks = [*remarks, f"… and {len(progress.remarks) - MOST_REMARKS} more"]
    return ScanReport(
        progress.scan,
        progress.number,
        list(progress.files),
        progress.outcome,
        progress.points,
        progress.behind,
        progress.reason,
        remarks,
    )


def _order(timetag: str) -> tuple[int, int]:
    milliseconds, _, number = timetag.partition("-")
    return (int(milliseconds or 0), int(number or 0))
