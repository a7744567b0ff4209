"""One scan on its way into its files: read as it comes, written in pieces, committed every second.

    scan ── plan ──▶ items                                 again whenever the layout changes
     └─ streams ── cursors ──▶ held ──▶ appended ──▶ committed ──▶ pin moves on

Only what is committed is given free on the server, so that a follower that is killed goes on where its
last commit ended: the lengths of the datasets in the file say where that was.
"""

from __future__ import annotations

import datetime
import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from blissdata.checked_hdf5 import CheckedFile
from blissdata.exceptions import (
    BlissdataError,
    DataFileError,
    DataFileRefusedError,
    EndOfStream,
    IndexNoMoreThereError,
    PinError,
    PinGoneError,
    PublisherLostError,
    ScanNotFoundError,
    StoreError,
    StreamVanishedError,
)
from blissdata.h5api.live_arrays import text_of_point
from blissdata.h5api.live_scans import entries_of
from blissdata.h5map.data_items import TEXT
from blissdata.h5map.mistakes import Mistake
from blissdata.redis_engine.scan import Scan, ScanState
from blissdata.streams.cursor import CursorGroup
from blissdata.streams.default import Stream
from blissdata.streams.views import gone_at_the_start
from blissdata.writer.images import ImageSource, saved_images, without_unsaved
from blissdata.writer.plan import (
    ExternalLinkStep,
    LinkStep,
    Pace,
    Plan,
    Points,
    Step,
    ValueStep,
    plan_of,
)
from blissdata.writer.report import PIN, what_now
from blissdata.writer.write_queue import LATE_PIECE

if TYPE_CHECKING:
    from blissdata.data_roots import DataRoots
    from blissdata.redis_engine.pins import Pin
    from blissdata.streams import BaseStream, BaseView
    from blissdata.streams.event_log import ReadsAhead
    from blissdata.writer.files import OpenFiles
    from blissdata.writer.nexus import Entry, NexusFile

__all__ = ["Follower", "Outcome", "Progress", "files_of", "together"]

_logger = logging.getLogger(__name__)

COMMIT_S = 1.0
"""How often what was written becomes visible, at most [s]."""

COMMIT_SHARE = 10
"""Committing takes no more than one part in so many of the time."""

HELD_NBYTES = 1 << 24
"""How much is held of points before they are written [bytes]."""

TOGETHER = 16
"""So many streams are read together while there is much to read: a chunk of each comes as a whole, and
what one read brings stays small."""

TOGETHER_NBYTES = 1 << 16
"""And no more than so much of a point of each, if their points are large [bytes]."""

ASKED_AHEAD = 3
"""Of so many groups of streams the next points are asked for while those of the first are taken: the server is
never without work."""

READS_AT_ONCE = 1024
"""After so many reads the next streams have their turn, even if their neighbours have more."""

HELD_AT_ONCE_NBYTES = 1 << 22
"""As `HELD_NBYTES`, meanwhile: the smaller, the sooner the disk has something to do."""

LARGE_NBYTES = LATE_PIECE
"""Points of this size and more [bytes] are written by a thread of their own: what it does is the disk's work. Of
small ones most is HDF5's, which would only keep the interpreter from who reads; the file has them written
meanwhile."""

SYNC_NBYTES = 1 << 24
"""After so much the disk begins with what the page cache was given [bytes]: the less is left for the end."""

LOOK_S = 1.0
"""How long one wait lasts at most, before the scan and the orders are looked at [s]."""

AWAY_S = 1.0
"""Pause while the server does not answer [s]."""

FILES_OPENED = 256
"""Of so many files of a detector, the last ones, it is looked how many images they have; of others only whether
they are there."""

IMAGES_S = 10.0
"""How long files that a detector saves are waited for after the scan has ended [s]."""

Outcome: TypeAlias = Literal["waiting", "writing", "written", "failed", "stopped", "nothing"]
"""How far a scan is. `stopped`: the writer was told to end, and will go on; `nothing`: there is nothing
to be written."""


@dataclass
class Progress:
    """How far one scan is, for whoever asks; the follower alone changes it."""

    scan: str
    """Key of the scan."""

    number: Any = None
    """Its number."""

    files: list[str] = field(default_factory=list)
    """Where it is written, as `file::/entry`."""

    outcome: Outcome = "waiting"

    points: int = 0
    """Points written so far, of all streams."""

    behind: int = 0
    """Points that were published and are not written yet."""

    reason: str = ""
    """Why it failed."""

    remarks: list[str] = field(default_factory=list)
    """Items that were left out, and why."""

    since: float = field(default_factory=time.time)
    """When it began [Unix time, s]."""


@dataclass
class _Target:
    """One entry in one file."""

    name: str
    """The file, as the scan names it."""

    file: NexusFile
    entry: Entry
    plan: Plan


class _Ended(Exception):  # noqa: N818 — no error
    """The writer was told to end."""


class Follower:
    """Writes one scan; `run` returns when that is done, has failed, or `stop` is set."""

    def __init__(
        self,
        scan: Scan,
        files: OpenFiles,
        stop: threading.Event,
        pin: Pin | None = None,
        say: Callable[[str], None] = _logger.info,
    ) -> None:
        """`scan` is loaded for reading; `files` gives files to be written; `pin` is the scan's pin, if
        it is taken already."""
        self._scan = scan
        self._files = files
        self._stop = stop
        self._pin = pin
        self._say = say
        self._targets: dict[str, _Target] = {}
        self._held: dict[str, list[Any]] = {}
        self._held_nbytes = 0
        self._pool: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None
        self._syncing: Future[None] | None = None
        self._synced = 0
        self._dirty = False
        self._committed_at = time.monotonic()
        self._looked = scan.state, self._committed_at
        self._pause = COMMIT_S
        self._failures: dict[str, str] = {}
        self._broken: set[str] = set()
        self._planned: tuple[Any, ...] | None = None
        self._asked: tuple[Any, dict[str, dict[str, Any]]] | None = None
        self._streams: Mapping[str, BaseStream] = {}
        self._points: dict[str, Points] = {}
        self._images: set[str] = set()
        self.progress = Progress(scan.key, scan.identity.get("number"))
        """How far it is."""
        self.reached: list[tuple[BaseStream, int]] = []
        """Streams, and up to where their points are committed."""

    # ------------------------------------------------------------------------------ the whole

    def run(self) -> Progress:
        """Follows the scan to its end. Whatever goes wrong is in the progress that it gives."""
        try:
            self._follow()
        except _Ended:
            self.progress.outcome = "stopped"
        except BlissdataError as error:
            self._fail(str(error))
        except OSError as error:
            self._fail(self._told(error))
        except Exception as error:
            _logger.exception("Scan %s: a fault of this program", self._scan.key)
            self._fail(f"a fault of this program: {type(error).__name__}: {error}")
        finally:
            if self._pool is not None:
                self._pool.shutdown()
            for target in self._targets.values():
                self._files.give_back(target.file)
        return self.progress

    def _follow(self) -> None:
        self._wait_for(ScanState.PREPARED)
        if not self._open():
            return
        self.progress.outcome = "writing"
        self._say(f"writing {self._where()} (scan {self._scan.key})")
        while True:
            state = self._scan.state
            self._read_streams()
            if state == ScanState.CLOSED:
                break
            self._commit()
            self._wait_for_news(state)
            self._carry_out()
        self._finish()

    def _open(self) -> bool:
        """Opens the files; False if all is there already."""
        wanted = self._layouts()
        if not wanted:
            self._be_done("nothing")
            return False
        if self._pin is None:
            self._take_pin()
        self._look_at_streams()
        pace, finished = Pace.from_info(self._scan.info), 0
        for name, layouts in wanted.items():
            for entry in layouts:
                file = self._files.take(name)
                with file.use():
                    if file.state_of(entry, self._scan.key) == "SUCCEEDED":
                        self._files.give_back(file)
                        finished += 1
                        continue
                    try:
                        made = file.entry(entry, self._scan.key, self._points, pace)
                    except BaseException:
                        self._files.give_back(file)
                        raise
                    # `_carry_out` plans it.
                    self._targets[f"{name}::/{entry}"] = _Target(name, file, made, Plan(entry))
        self.progress.files = list(self._targets)
        if not self._targets:
            self._be_done("written" if finished else "nothing")
            return False
        self._carry_out()
        for target in self._targets.values():
            self._remember_missing(target.entry, target.plan)
        # One that has ended appears when it is whole, or after `COMMIT_S`.
        if self._scan.state < ScanState.CLOSED:
            self._commit(now=True)
        return True

    def _remember_missing(self, entry: Entry, plan: Plan) -> None:
        """What a writer before this one could not write any more."""
        for stream, paths in plan.streams.items():
            for start, stop in (span for path in paths for span in entry.missing.get(path, ())):
                self._failures.setdefault(f"{stream} {start}", _gone(stream, start, stop))

    def _where(self) -> str:
        return ", ".join(self._targets)

    # ------------------------------------------------------------------------------ items

    def _look_at_streams(self) -> None:
        """What the streams are in a file."""
        self._streams = {
            # What has left the server is not to be read from the file that is being written.
            name: Stream(stream.event_stream, copies=False) if type(stream) is Stream else stream
            for name, stream in self._scan.streams.items()
        }
        for name, stream in self._streams.items():
            if name in self._points or name in self._images:
                continue
            try:
                if saved_images(stream.info, 0, "/") is not None:
                    self._images.add(name)
                elif stream.dtype == object:
                    self._points[name] = Points(TEXT)
                else:
                    self._points[name] = Points(stream.dtype, tuple(stream.shape))
            except Exception as error:  # noqa: BLE001 — a plugin may be missing, or fail in any way
                self._failures.setdefault(name, f"stream {name!r} cannot be read: {error}")

    def _layouts(self) -> dict[str, dict[str, Any]]:
        """What `files_of` gives, worked out once for each state of the scan."""
        info = self._scan.info
        if self._asked is None or self._asked[0] is not info:
            self._asked = info, files_of(self._scan)
        return self._asked[1]

    def _carry_out(self) -> None:
        """Makes the items that the layout asks for now."""
        layouts = self._layouts()
        planned = (list(self._scan.stream_names), layouts)
        if planned == self._planned:
            return
        self._planned = planned
        self._look_at_streams()
        remarks: list[str] = []
        for where, target in self._targets.items():
            layout = layouts.get(target.name, {}).get(target.entry.name)
            if layout is not None:
                target.plan = plan_of(target.entry.name, layout, set(self._scan.stream_names))
            with target.file.use():
                mistakes = target.entry.carry_out(target.plan, later=[_end_time(target)])
            file = where.rpartition("::")[0]
            remarks += [str(one.of_file(file)) for one in [*target.plan.mistakes, *mistakes]]
        for remark in remarks:
            if remark not in self.progress.remarks:
                _logger.warning("Scan %s: left out: %s", self._scan.key, remark)
        self.progress.remarks = remarks
        self._dirty = True

    def _remark_unplaced(self) -> None:
        """Says which streams the layout has no place for: nobody else would notice."""
        steps = [step for target in self._targets.values() for step in target.plan.steps]
        placed = {name for target in self._targets.values() for name in target.plan.streams}
        for step in steps:
            placed.update(getattr(step, "attribute_streams", {}).values())
        unplaced = [repr(name) for name in self._scan.stream_names if name not in placed]
        if unplaced:
            more = f" and {len(unplaced) - 10} more" if len(unplaced) > 10 else ""
            remark = f"the layout has no place for: {', '.join(unplaced[:10])}{more}"
            _logger.warning("Scan %s: not written: %s", self._scan.key, remark)
            self.progress.remarks.insert(0, remark)

    # ------------------------------------------------------------------------------ points

    def _read_streams(self) -> None:
        """Reads and writes until every stream has ended, or the scan has made a step."""
        positions = self._positions()
        names = [name for name in positions if name not in self._broken]
        self._looked = self._scan.state, time.monotonic()
        following: list[str] = []
        with self._scan.data_store.event_log.ahead() as ahead:
            groups = deque(
                (some, self._group(some, positions))
                for some in together({name: self._points[name].nbytes for name in names})
            )
            while groups:
                for _, group in itertools.islice(groups, ASKED_AHEAD):
                    group.ask(ahead)
                some, group = groups.popleft()
                if not self._read_some(some, group, positions, ahead):
                    following += some
        if following:
            self._read_some(following, self._group(following, positions), positions)
        self._write_held()

    def _read_some(
        self,
        names: Sequence[str],
        group: CursorGroup,
        positions: dict[str, int],
        ahead: ReadsAhead | None = None,
    ) -> bool:
        """Reads these streams from their positions on, and moves those: what is there, if something is
        asked for `ahead`, else until they end or there are others. True if they have ended."""
        at_once = ahead is not None
        held_nbytes = HELD_AT_ONCE_NBYTES if at_once else HELD_NBYTES
        reads = range(READS_AT_ONCE) if at_once else itertools.count()
        for _ in reads:
            self._check_orders()
            if group.ended:
                return True
            wait = max(self._until_commit(), 0.001)
            try:
                views = group.read(block=not at_once, timeout=wait)
            except EndOfStream:
                return True
            except (StoreError, StreamVanishedError) as error:
                self._away(error)
                continue
            except Exception as error:  # noqa: BLE001 — a stream's trouble costs that stream
                self._look_for_broken(names, error)
                positions |= self._positions()
                group = self._group(names, positions)
                continue
            if ahead is not None and views:
                group.ask(ahead)
            for stream, view in views.items():
                self._take(stream, view)
            if self._held_nbytes >= held_nbytes:
                self._write_held_meanwhile()
            if self._until_commit() <= 0:
                self._commit()
            if not views if at_once else self._has_others(positions):
                break
        positions |= {stream.name: index for stream, index in group.position.items()}
        return group.ended

    def _has_others(self, known: Collection[str]) -> bool:
        """Looks now and then what the scan is; True if there are streams to be written that are not known."""
        state, looked = self._looked
        if time.monotonic() - looked < LOOK_S:
            return False
        self._looked = state, time.monotonic()
        if not self._update() or self._scan.state == state:
            return False
        self._looked = self._scan.state, time.monotonic()
        self._carry_out()
        return any(name not in known for name in self._positions())

    def _group(self, names: Iterable[str], begin: Mapping[str, int]) -> CursorGroup:
        """These streams, as far as they are not broken, from there on."""
        streams = [self._streams[name] for name in names if name not in self._broken]
        positions = {stream.key: begin[stream.name] for stream in streams}
        while True:
            try:
                return CursorGroup(streams, begin_at=positions)
            except StoreError as error:
                self._away(error)

    def _positions(self) -> dict[str, int]:
        """By name of each stream that is written point by point, the next point to be written."""
        self._settle()
        found: dict[str, int] = {}
        for target, name, _, length in self._datasets():
            del target
            found[name] = min(length, found.get(name, length))
        return found

    def _datasets(self) -> Iterable[tuple[_Target, str, str, int]]:
        """Every growing dataset: its target, its stream, its path, its length."""
        for target in self._targets.values():
            lengths = target.entry.lengths()
            for name, paths in target.plan.streams.items():
                for path in paths:
                    if path in lengths:
                        yield target, name, path, lengths[path]

    def _take(self, stream: Any, view: BaseView) -> None:
        """Holds the points of a view."""
        points = self._points[stream.name]
        for start, block in self._blocks(stream, view):
            if block is None or not len(block):
                continue
            is_text = points.dtype.kind == "O"
            kept = [text_of_point(point) for point in block] if is_text else block
            self._held.setdefault(stream.name, []).append((start, kept))
            self._held_nbytes += len(block) * max(points.nbytes, 1)

    def _blocks(self, stream: Any, view: BaseView) -> Iterable[tuple[int, Any]]:
        """The view's points in blocks, each with its first index; a gap where they are gone."""
        try:
            yield view.index, view.get_data()
            return
        except IndexNoMoreThereError as error:
            gone, why = gone_at_the_start(view), str(error)
        if gone:
            start, stop = view.index, view.index + gone
            told = f"{_gone(stream.name, start, stop)}: {why}"
            self._failures.setdefault(f"{stream.name} {start}", told)
        if gone < len(view):
            yield view.index + gone, view.get_data(gone)

    def _write_held(self) -> None:
        """Writes what is held into the files."""
        self._settle()
        held, self._held, self._held_nbytes = self._held, {}, 0
        if held:
            self._append(held)

    def _write_held_meanwhile(self) -> None:
        """The same, while more is read."""
        self._settle()
        held, self._held, self._held_nbytes = self._held, {}, 0
        if self._pool is None:
            name = f"blissdata-writer-{self.progress.number}-points"
            self._pool = ThreadPoolExecutor(2, thread_name_prefix=name)
        if any(self._points[name].nbytes >= LARGE_NBYTES for name in held):
            self._writing = self._pool.submit(self._append, held)
        else:
            self._append(held)
        cached = sum(target.file.cached_nbytes for target in self._targets.values())
        if cached - self._synced >= SYNC_NBYTES and (not self._syncing or self._syncing.done()):
            self._sync_settle()
            self._synced = cached
            self._syncing = self._pool.submit(self._sync)

    def _settle(self) -> None:
        """Waits until what is being written is; raises what went wrong."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _sync(self) -> None:
        """Lets the disk begin with what was written, so that little is left for the end."""
        for target in self._targets.values():
            target.file.sync()

    def _sync_settle(self) -> None:
        """Waits until the disk has what it began with; raises what went wrong."""
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            syncing.result()

    def _append(self, held: Mapping[str, Sequence[tuple[int, Any]]]) -> None:
        for target in self._targets.values():
            with target.file.use():
                for name, blocks in held.items():
                    for path in target.plan.streams.get(name, ()):
                        length = target.entry.length(path)
                        if length is not None:
                            _append(target.entry, path, length, blocks)
        self._dirty = True

    # ------------------------------------------------------------------------------ committing

    def _until_commit(self) -> float:
        """How long until the next commit is due [s]."""
        if not (self._dirty or self._held or self._writing):
            return LOOK_S
        return min(self._committed_at + self._pause - time.monotonic(), LOOK_S)

    def _commit(self, *, now: bool = False) -> None:
        """Makes visible what was written, and gives it free on the server."""
        self._write_held()
        if self._dirty or now:
            began = time.monotonic()
            for target in self._targets.values():
                if target.entry.is_to_be_made_anew:
                    with target.file.use():
                        target.entry.carry_out(target.plan, later=[_end_time(target)])
            for file in {id(t.file): t.file for t in self._targets.values()}.values():
                with file.use():
                    file.commit()
            self._dirty = False
            self._committed_at = time.monotonic()
            self._pause = max(COMMIT_S, COMMIT_SHARE * (self._committed_at - began))
            self._move_pin()

    def _take_pin(self) -> None:
        try:
            self._pin = self._scan.pin(PIN, lasting=True)
        except BlissdataError as error:
            if isinstance(error, ScanNotFoundError):
                raise
            _logger.warning(
                "Scan %s cannot be pinned, its points may be gone before they are written: %s",
                self._scan.key,
                error,
            )

    def _move_pin(self) -> None:
        positions = self._positions()
        self.progress.points = sum(positions.values())
        self.reached = [(self._streams[name], index) for name, index in positions.items()]
        if self._pin is None or not positions:
            return
        try:
            self._pin.move(positions)
        except PinGoneError:
            self._pin = None
            with suppress(BlissdataError):
                self._take_pin()
        except PinError as error:
            _logger.warning("Scan %s: %s", self._scan.key, error)
        except KeyError:  # a stream that the server tells of at the next step only
            pass

    # ------------------------------------------------------------------------------ the end

    def _finish(self) -> None:
        """The scan is closed, and everything is read."""
        self._carry_out()
        self._remark_unplaced()
        for target in self._targets.values():
            images = self._images_of(target)
            with target.file.use():
                for path, (points, sources) in images.items():
                    target.entry.images(path, points, sources)
                self._put_attributes(target)
        self._write_held()
        failed = bool(self._failures)
        for target in self._targets.values():
            with target.file.use():
                self._put_end_time(target)
                target.entry.carry_out(target.plan, state="FAILED" if failed else "SUCCEEDED")
        self._commit(now=True)
        self._sync_settle()
        self._sync()
        if failed:
            self.progress.outcome = "failed"
            self.progress.reason = "; ".join(self._failures.values())
            told = f"FAILED {self._where()} (scan {self._scan.key}): {self.progress.reason}"
            self._say(f"{told}. {self._what_now()}")
        else:
            self._be_done("written")
            self._say(f"written {self._where()}: {self.progress.points} points")

    def _be_done(self, outcome: Outcome) -> None:
        self.progress.outcome = outcome
        self.progress.behind = 0
        if self._pin is not None:
            try:
                self._pin.release()
            except BlissdataError as error:
                _logger.warning("The pin of scan %s is not released: %s", self._scan.key, error)

    def _put_end_time(self, target: _Target) -> None:
        """The last thing in an entry: who follows the file knows by it that nothing more comes. An
        entry whose layout has none gets it all the same, or its readers would wait for ever."""
        path = _end_time(target)
        if not target.plan.is_nxentry or any(step.path == path for step in target.plan.steps):
            return
        said = self._scan.info.get("end_time")
        now = datetime.datetime.now(datetime.UTC).astimezone().isoformat()
        text = said if isinstance(said, str) and said and "\0" not in said else now
        step = ValueStep(path, value=np.array(text.encode(), TEXT))
        target.plan = replace(target.plan, steps=(*target.plan.steps, step))

    def _put_attributes(self, target: _Target) -> None:
        """Attributes that are streams have their values now."""
        steps = [self._with_stream_attributes(step) for step in target.plan.steps]
        target.plan = replace(target.plan, steps=tuple(steps))

    def _with_stream_attributes(self, step: Step) -> Step:
        if isinstance(step, LinkStep | ExternalLinkStep) or not step.attribute_streams:
            return step
        values = dict(step.attributes)
        for attribute, name in step.attribute_streams.items():
            try:
                stream = self._streams[name]
                points = stream[0 : len(stream)]
                if stream.dtype == object:
                    values[attribute] = np.array([text_of_point(one) for one in points], TEXT)
                else:
                    values[attribute] = np.asarray(points)
            except Exception as error:  # noqa: BLE001 — whatever it is, it costs this attribute
                mistake = Mistake(step.path, str(error), attribute=attribute)
                self._failures[str(mistake)] = str(mistake)
        return replace(step, attributes=values)

    def _images_of(self, target: _Target) -> dict[str, tuple[Points, list[ImageSource]]]:
        """Datasets that are put together of images which a detector saved, by path. Waits for its
        files."""
        found: dict[str, tuple[Points, list[ImageSource]]] = {}
        directory = os.path.dirname(target.file.real_path)
        for name, paths in target.plan.streams.items():
            if name not in self._images:
                continue
            stream = self._streams[name]
            try:
                points = Points(stream.dtype, tuple(stream.shape))
                sources = saved_images(stream.info, len(stream), directory) or []
                for file, _, _ in sources:
                    target.file.require_inside(file)
                rows = self._rows_of(target.file.roots, directory, sources)
                sources, unsaved = without_unsaved(sources, rows)
                if unsaved:
                    self._failures[name] = (
                        f"images {_told(unsaved)} of stream {name!r} are not there: its detector "
                        "took them, and no file has them"
                    )
                found |= dict.fromkeys(paths, (points, sources))
            except (BlissdataError, OSError) as error:
                self._failures[name] = f"images of stream {name!r}: {error}"
        return found

    def _rows_of(
        self, roots: DataRoots, directory: str, sources: Sequence[ImageSource]
    ) -> list[int]:
        """How many images each of the files has, at most those that belong to the scan. Waits for them for a
        while."""
        deadline = time.monotonic() + IMAGES_S
        found = []
        for at, (name, dataset, number) in enumerate(sources):
            path = os.path.join(directory, name)
            close = at >= len(sources) - FILES_OPENED
            while (
                rows := _rows(path, dataset, number, roots) if close else _promised(path, number)
            ) < number and time.monotonic() < deadline:
                if self._stop.wait(0.1):
                    raise _Ended
            found.append(rows)
        return found

    def _fail(self, reason: str) -> None:
        """Tells why, here, in the file if that is possible, and holds the points on the server."""
        self.progress.outcome = "failed"
        self.progress.reason = reason
        for target in self._targets.values():
            with suppress(Exception), target.file.use():
                self._settle()
                target.entry.carry_out(target.plan, state="FAILED")
                target.file.commit()
        if self._pin is None:
            with suppress(BlissdataError):
                self._take_pin()
        where = self._where() or ", ".join(files_of(self._scan)) or "nowhere"
        self._say(f"FAILED {where} (scan {self._scan.key}): {reason}. {self._what_now()}")

    def _what_now(self) -> str:
        roots = self._files.roots.directories
        return what_now(self._scan.key, roots, pinned=self._pin is not None)

    def _told(self, error: OSError) -> str:
        where = self._where() or ", ".join(files_of(self._scan))
        return f"{where}: {error.strerror or error}"

    # ------------------------------------------------------------------------------ waiting

    def _wait_for(self, state: ScanState) -> None:
        while self._scan.state < state:
            self._wait_for_news(self._scan.state)

    def _wait_for_news(self, state: ScanState) -> None:
        """Until the scan has made another step."""
        while self._scan.state == state:
            self._check_orders()
            self._update(wait=LOOK_S)

    def _update(self, wait: float | None = None) -> bool:
        """Looks what the scan is; True if it has made a step. A scan that left the server is an error
        once all is read that there is."""
        try:
            return self._scan.update(block=wait is not None, timeout=wait or 0)
        except PublisherLostError:  # the memory tracker closes it in the end
            return False
        except StoreError as error:
            self._away(error)
            return False

    def _away(self, error: Exception) -> None:
        """The server does not answer: it will."""
        if isinstance(error, StreamVanishedError):
            raise ScanNotFoundError(
                f"Scan {self._scan.key} was deleted before it was written"
            ) from error
        _logger.warning("%s", error)
        if self._stop.wait(AWAY_S):
            self._end()

    def _check_orders(self) -> None:
        if self._stop.is_set():
            self._end()

    def _end(self) -> None:
        self._commit()
        raise _Ended

    def _look_for_broken(self, names: Iterable[str], error: Exception) -> None:
        """Looks which of these streams cannot be read, and keeps what is wrong with it."""
        _logger.debug("looking which stream this is of: %s", error)
        self._write_held()
        positions = self._positions()
        for name in names:
            if name in self._broken:
                continue
            stream = self._streams[name]
            try:
                CursorGroup([stream], begin_at={stream.key: positions[name]}).read(block=False)
            except (EndOfStream, StoreError):
                pass
            except Exception as trouble:  # noqa: BLE001 — kept, and told in the end
                self._broken.add(name)
                self._failures[name] = f"stream {name!r}: {trouble}"


# ---------------------------------------------------------------------------------- small rules


def files_of(scan: Scan) -> dict[str, dict[str, Any]]:
    """The layouts of a scan's entries, by file and name of the entry."""
    maps = scan.info.get("h5maps")
    names = [str(name) for name in maps] if isinstance(maps, Mapping) else []
    own = scan.identity.get("path")
    if isinstance(own, str) and own and own not in names:
        names.append(own)
    found = {name: entries_of(scan, name) for name in names}
    return {name: entries for name, entries in found.items() if entries}


def together(nbytes: Mapping[str, int]) -> list[list[str]]:
    """Streams that are read together while there is much to read; `nbytes` is the size of a point [bytes]
    by name."""
    found: list[list[str]] = []
    room = 0
    for name, size in nbytes.items():
        room -= size
        if not found or room < 0 or len(found[-1]) == TOGETHER:
            found.append([])
            room = TOGETHER_NBYTES - size
        found[-1].append(name)
    return found


def _promised(path: str, number: int) -> int:
    """How many images a file has that should have so many, as its name says."""
    return number if os.path.exists(path) else 0


def _rows(path: str, dataset: str, number: int, roots: DataRoots) -> int:
    """How many images a file has, at most `number`; 0 if it cannot be read."""
    try:
        with CheckedFile(path, roots) as file:
            shape = file.dataset(dataset).shape
    except DataFileRefusedError:
        raise
    except DataFileError:
        return 0
    return min(number, shape[0] if shape else 0)


def _told(ranges: Sequence[range]) -> str:
    """Ranges of indices, for people."""
    return ", ".join(
        f"{one[0]} to {one[-1]}" if len(one) > 1 else str(one[0]) for one in ranges[:5]
    ) + (", …" if len(ranges) > 5 else "")


def _gone(stream: str, start: int, stop: int) -> str:
    points = f"points {start} to {stop - 1}" if stop > start + 1 else f"point {start}"
    return f"{points} of stream {stream!r} were gone before they could be written"


def _end_time(target: _Target) -> str:
    return f"/{target.entry.name}/end_time"


def _append(entry: Entry, path: str, length: int, held: Sequence[tuple[int, Any]]) -> None:
    """Adds what the dataset does not have yet; fill values stand for what nobody has."""
    blocks: list[Any] = []
    for start, block in held:
        if start + len(block) <= length:
            continue
        if start > length:
            if blocks:
                entry.append(path, blocks)
                blocks = []
            entry.skip(path, start - length)
            length = start
        blocks.append(block[length - start :])
        length = start + len(block)
    if blocks:
        entry.append(path, blocks)
