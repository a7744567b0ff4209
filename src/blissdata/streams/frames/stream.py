"""Frames of a detector as a stream: counters through the server, frames by their own path.

    ring in shared memory ◀── this host ──┐
    frame server          ◀── elsewhere ──┼── FramesStream ◀── reader
    files                 ◀── both ───────┘         ▲
    [taken, saved] ──▶ server ──▶ events ───────────┘

Only the newest event matters: a view covers all frames between two of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blissdata.data_roots import DataRoots
from blissdata.exceptions import (
    DataFileError,
    DataFileRefusedError,
    EmptyViewException,
    ImageServerError,
    IndexNoMoreThereError,
    IndexNotYetThereError,
    MissingExtraError,
    NoWritePermission,
    PayloadError,
    PointsNotInFileError,
    PublishError,
)
from blissdata.lima.layout import ImageReference
from blissdata.streams.availability import (
    END,
    NOTHING,
    Availability,
    EventBounds,
    Holding,
    Looks,
    Place,
    Ranges,
)
from blissdata.streams.base import BaseStream, StreamDefinition
from blissdata.streams.entries import Tail, check_index, resolve_slice
from blissdata.streams.event_stream import EventStream
from blissdata.streams.frames.arrays import ArrayMemory
from blissdata.streams.frames.buffer import PLUGIN, FrameBuffer, buffer_of
from blissdata.streams.frames.layout import MAX_INDEX, FramesInfo, frame_point
from blissdata.streams.frames.remote import FrameConnection
from blissdata.streams.frames.ring import RingReader, RingUnreachableError
from blissdata.streams.frames.saved import SavedFrames
from blissdata.streams.frames.wire import Reply, Status
from blissdata.streams.seen_files import SeenFiles
from blissdata.streams.views import BaseView, EventRange

__all__ = ["FramesStream", "FramesView"]

AT_ONCE_NBYTES = 2**26
"""How much an iteration fetches at once from elsewhere [bytes]."""

_memory = ArrayMemory()
"""Of all arrays that this process gets."""

_NOT_IN_THE_FILE = (DataFileError, MissingExtraError, ValueError, RuntimeError)
"""What goes wrong with a file: it is not there, damaged or refused; fabio is missing."""


class FramesView(BaseView):
    """Frames that a cursor has passed. They are fetched when they are asked for, and may have left
    the detector's ring by then."""

    def __init__(self, stream: FramesStream, start: int, stop: int) -> None:
        self._stream = stream
        self._frames = range(start, stop)

    @property
    def index(self) -> int:
        return self._frames.start

    def __len__(self) -> int:
        return len(self._frames)

    def get_data(self, start: int | None = None, stop: int | None = None) -> NDArray[Any]:
        """An array of shape `(frames, *shape)`; see `FramesStream.__getitem__`."""
        return self._stream.frames(self._frames[start:stop])

    def get_references(
        self, start: int | None = None, stop: int | None = None
    ) -> list[ImageReference]:
        """Where the frames are saved, now or later. Raises `RuntimeError` if they are not."""
        return self._stream.references(self._frames[start:stop])

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Frame by frame: all of them at once may be more than memory holds."""
        return self._stream.each(self._frames)


class FramesStream(BaseStream):
    """Frames of a detector, by index, from wherever they are.

    `roots` are the directories below which its files may be opened (default:
    `$BLISSDATA_DATA_ROOTS`, else the directory of the scan's own file).
    """

    def __init__(
        self,
        event_stream: EventStream,
        *,
        roots: Iterable[str | PathLike[str]] | str | PathLike[str] | None = None,
    ) -> None:
        super().__init__(event_stream)
        try:
            self._layout = FramesInfo.from_info(self.info.get("frames"))
            self._point = frame_point(self.info.get("shape") or (), str(self.info.get("dtype")))
        except ValueError as error:
            raise ValueError(
                f"{event_stream.what}: its info does not tell of frames: {error}"
            ) from error
        self._given_roots = None if roots is None else DataRoots.choose(roots)
        self._buffer: FrameBuffer | None = None
        if event_stream.writable:
            self._buffer = buffer_of(self._layout.ring)
            if self._buffer is not None:
                self._buffer.bind(event_stream)
        self._taken = self._saved = 0
        self._sealed = False
        self._counted = True
        self._ring: RingReader | None = None
        self._no_ring: str | None = None
        self._remote: FrameConnection | None = None
        if self._layout.server is not None:
            self._remote = FrameConnection(self._layout.server, self._point.nbytes)
        self._files: SavedFrames | None = None
        if self._layout.files is not None:
            self._files = SavedFrames(self._layout.files, self._point, self._roots)
            self._files_seen = SeenFiles(self._files.look_at)
        self.fetched: Counter[str] = Counter()
        """How many frames this object fetched from the `ring`, the `server`, the `file`."""

    @staticmethod
    def make_definition(
        buffer: FrameBuffer, name: str, info: Mapping[str, Any] | None = None
    ) -> StreamDefinition:
        """What to give `scan.create_stream`; `buffer.definition(name, info)` is the same."""
        return buffer.definition(name, info)

    # ------------------------------------------------------------------------------ what it is

    @property
    def kind(self) -> str:
        return "array"

    @property
    def plugin(self) -> str:
        return PLUGIN

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of a frame."""
        return self._point.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame, usually `(rows, columns)`."""
        return self._point.shape

    # ------------------------------------------------------------------------------ writing

    def send(self, data: Any) -> None:
        """Puts a frame, or a batch of frames with one more leading dimension, into the buffer; see
        `FrameBuffer.put`. Raises `PublishError` where the buffer is not in this process."""
        buffer = self._own_buffer()
        frames = data if np.ndim(data) == len(self.shape) + 1 else [data]
        for frame in frames:
            buffer.put(frame)

    def join(self) -> None:
        """Waits until readers can know of every frame that was put."""
        if self._buffer is not None:
            self._buffer.flush()
        super().join()

    def seal(self) -> int:
        """Waits until what was put is saved, if the buffer saves it; then ends the stream. Gives how many
        frames there are."""
        self.before_seal()
        super().seal()
        return len(self)

    def before_seal(self) -> None:
        """Waits until every frame is saved; see `FrameBuffer.settle`."""
        if self._buffer is not None:
            self._buffer.settle()

    def _own_buffer(self) -> FrameBuffer:
        if not self.event_stream.writable:
            raise NoWritePermission(f"{self.event_stream.what} is read-only")
        if self._buffer is None:
            raise PublishError(
                f"{self.event_stream.what}: its buffer is not in this process, or was closed. Only who "
                "has it puts frames into it"
            )
        return self._buffer

    # ------------------------------------------------------------------------------ reading

    def __len__(self) -> int:
        """How many frames were taken so far. One round trip."""
        self._refresh()
        return self._taken

    def __getitem__(self, key: int | slice) -> NDArray[Any]:
        """A frame, or those of a slice that were taken so far, `(frames, *shape)`: an array of the caller's
        own. No round trip for a frame that is known to be taken and still in the ring of this host.

        Comes from the ring, else from the detector's frame server, else from its file. Never waits for
        one to be saved. Raises `IndexNotYetThereError` for a frame that is not taken yet, or that left
        the ring and is not saved yet; `IndexWontBeThereError`; `IndexNoMoreThereError` for one that can
        be had from nowhere, saying why (all `IndexError`); `MissingExtraError` if it could be had with
        fabio; `TypeError` for anything but integers and slices."""
        if isinstance(key, slice):
            bounds = [_index(b) for b in (key.start, key.stop, key.step) if b is not None]
            if not bounds or min(bounds) < 0 or key.stop is None or key.stop > self._taken:
                self._refresh()
            frames = resolve_slice(key, Tail(self._taken, self._sealed), self.event_stream.what)
            return self.frames(frames)
        index = _index(key)
        if not 0 <= index < self._taken:
            self._refresh()
            tail = Tail(self._taken, self._sealed)
            index = check_index(index, tail, self.event_stream.what)
        return self._some(range(index, index + 1))[0]

    def frames(self, frames: range) -> NDArray[Any]:
        """These frames, which were taken, in one array."""
        out = _memory.empty((len(frames), *self._point.shape), self._point.dtype)
        if frames:
            self._fill(frames, out)
        return out

    def each(self, frames: range) -> Iterator[NDArray[Any]]:
        """These frames, which were taken, one by one; from elsewhere some at once are fetched."""
        together = 1
        if self._ring is None and self._open_ring() is None:
            together = max(1, AT_ONCE_NBYTES // self._point.nbytes)
        for start in range(0, len(frames), together):
            yield from self._some(frames[start : start + together])

    def _some(self, frames: range) -> list[NDArray[Any]]:
        """These frames, each in an array of its own."""
        ring = self._ring or self._open_ring()
        if ring is not None or self._remote is None:
            return list(self.frames(frames))
        found: dict[int, NDArray[Any]] = {}

        def place(position: int) -> memoryview:
            found[position] = frame = _memory.empty(self._point.shape, self._point.dtype)
            return frame.reshape(-1).view(np.uint8).data

        if len(frames) > 1 and self._files is None:
            # Who lags behind is told at once, not after fetching all those that are still there.
            with suppress(ImageServerError):
                if frames[0] < self._remote.held().start:
                    self.frames(frames[:1])
        for at in self._ask_elsewhere(frames, range(len(frames)), place, {}):
            found[at] = self.frames(frames[at : at + 1])[0]
        return [found[at] for at in range(len(frames))]

    def get_references(self, key: int | slice) -> ImageReference | list[ImageReference]:
        """Where a frame is saved, now or later; for a slice, those frames of it that were taken so
        far. One round trip. Raises `RuntimeError` if frames are not saved."""
        self._refresh()
        if isinstance(key, slice):
            return self.references(range(*key.indices(self._taken)))
        tail = Tail(self._taken, self._sealed)
        index = check_index(_index(key), tail, self.event_stream.what)
        return self.references(range(index, index + 1))[0]

    def references(self, frames: range) -> list[ImageReference]:
        """Where these frames are saved, now or later. Raises `RuntimeError` if they are not."""
        if self._layout.files is None:
            raise RuntimeError(f"{self.event_stream.what}: its frames are not saved in files")
        return [self._layout.files.reference(frame) for frame in frames]

    def _need_last_only(self, last_only: bool) -> bool:
        return last_only

    def _build_view_from_events(
        self, index: int, events: EventRange, last_only: bool
    ) -> FramesView:
        self._take(events.index + len(events), events.data, events.end_of_stream)
        stop = self._taken
        if stop <= index:
            raise EmptyViewException(f"{self.event_stream.what}: no frame after {index} yet")
        return FramesView(self, stop - 1 if last_only else index, stop)

    # ------------------------------------------------------------------------------ from wherever

    def _fill(self, frames: range, out: NDArray[Any]) -> None:
        """Puts these frames into `out`. Raises for the first that can be had from nowhere."""
        pixels = out.reshape(-1).view(np.uint8).reshape(len(frames), self._point.nbytes)
        missing = self._from_ring(frames, pixels)
        if not missing:
            return
        why: dict[int, str | Exception] = {}
        if self._ring is None and self._remote is not None:
            missing = self._from_elsewhere(frames, missing, pixels, why)
        if missing and self._files is not None:
            missing = self._from_files(frames, missing, out, why)
            if missing:
                missing = self._from_ring(frames, pixels, missing)
        if missing:
            raise self._nowhere(frames[missing[0]], why.get(missing[0]))

    def _from_ring(
        self, frames: range, pixels: NDArray[np.uint8], wanted: Sequence[int] | None = None
    ) -> list[int]:
        """Positions of those that are not in the ring of this host."""
        positions = range(len(frames)) if wanted is None else wanted
        ring = self._ring or self._open_ring()
        if ring is None:
            return list(positions)
        read = ring.read_into
        missing = [at for at in positions if not read(frames[at], pixels[at])]
        self.fetched["ring"] += len(positions) - len(missing)
        if missing and not ring.is_open:
            self._no_ring = "the detector's buffer was closed"
            self._ring = None
        return missing

    def _open_ring(self) -> RingReader | None:
        if self._no_ring is None:
            layout = self._layout
            try:
                self._ring = RingReader.open(layout.ring, layout.slots, self._point.nbytes)
            except RingUnreachableError as error:
                self._no_ring = str(error)
        return self._ring

    def _from_elsewhere(
        self,
        frames: range,
        wanted: list[int],
        pixels: NDArray[np.uint8],
        why: dict[int, str | Exception],
    ) -> list[int]:
        """Positions of those that the detector's frame server does not have."""

        return self._ask_elsewhere(frames, wanted, lambda position: pixels[position].data, why)

    def _ask_elsewhere(
        self,
        frames: range,
        wanted: Sequence[int],
        place: Callable[[int], memoryview],
        why: dict[int, str | Exception],
    ) -> list[int]:
        """Asks the detector's frame server, but not for what left the ring long ago; `place(position)` is
        where a frame goes. Gives the positions of those that do not come."""
        wanted = list(wanted)
        if self._remote is None:
            return wanted
        first = max(0, self._taken - self._layout.slots)
        asked = [at for at in wanted if frames[at] >= first]
        if not asked:
            return wanted
        try:
            found = self._remote.fetch([frames[at] for at in asked], lambda i: place(asked[i]))
        except ImageServerError as error:
            why.update(dict.fromkeys(asked, error))
            return wanted
        self.fetched["server"] += len(asked) - len(found)
        why.update((asked[i], _said(reply)) for i, reply in found.items())
        still = {asked[i] for i in found} | (set(wanted) - set(asked))
        return [at for at in wanted if at in still]

    def _from_files(
        self,
        frames: range,
        wanted: list[int],
        out: NDArray[Any],
        why: dict[int, str | Exception],
    ) -> list[int]:
        """Positions of those that are in no file."""
        if self._files is None:
            return wanted
        if any(frames[at] >= self._saved for at in wanted) and not self._sealed:
            self._refresh()
        missing: list[int] = []
        for run in _consecutive(wanted, frames):
            numbers = range(frames[run[0]], frames[run[0]] + len(run))
            for piece in self._files.runs(numbers):
                at = run[0] + piece.start - numbers.start
                target = out[at : at + len(piece)]
                try:
                    self._files.read_into(piece, target, told=piece.stop <= self._saved)
                except _NOT_IN_THE_FILE as error:
                    left = range(at, at + len(piece))
                    if len(piece) > 1 and isinstance(error, DataFileError):
                        left_there = self._one_by_one(piece, at, out, why)
                        missing += left_there
                    else:
                        why.update(dict.fromkeys(left, error))
                        missing += left
        self.fetched["file"] += len(wanted) - len(missing)
        return sorted(missing)

    def _one_by_one(
        self, piece: range, at: int, out: NDArray[Any], why: dict[int, str | Exception]
    ) -> list[int]:
        """As far as they are there: the last ones of many may not be."""
        if self._files is None:
            return []
        for i, frame in enumerate(piece):
            try:
                self._files.read_into(
                    range(frame, frame + 1), out[at + i : at + i + 1], told=frame < self._saved
                )
            except _NOT_IN_THE_FILE as error:
                left = list(range(at + i, at + len(piece)))
                why.update(dict.fromkeys(left, error))
                return left
        return []

    def _nowhere(self, frame: int, reason: str | Exception | None) -> Exception:
        """The error for a frame that can be had from nowhere."""
        if isinstance(reason, MissingExtraError):
            return reason
        where = f"{self.event_stream.what}: frame {frame}"
        gone = self._gone_from_ring(frame)
        if self._files is None:
            why = f"{reason}; " if isinstance(reason, ImageServerError) else ""
            return IndexNoMoreThereError(
                f"{where} is gone: {gone}; {why}the frames of this stream were in the detector's buffer alone, "
                "they are not saved"
            )
        if frame >= self._saved and not self._sealed and isinstance(reason, DataFileError | None):
            return IndexNotYetThereError(
                f"{where} left the detector's buffer and is not saved yet ({self._saved} frames are): "
                f"{gone}. wait_available({frame}, 'file') waits for it"
            )
        path = self._files.files.reference(frame).file_path
        said = str(reason) if path in str(reason) else f"{path}: {reason}"
        if isinstance(reason, DataFileRefusedError):
            found = "left the detector's buffer, and its file must not be opened here"
        else:
            found = "can be had from nowhere"
        error = PointsNotInFileError(f"{where} {found}: {gone}; {said}")
        error.__cause__ = reason if isinstance(reason, Exception) else None
        return error

    def _gone_from_ring(self, frame: int) -> str:
        """Since when the buffer does not have it."""
        slots = self._layout.slots
        known = f"the buffer keeps {slots} frames, and frame {frame + slots} took its place"
        taken = max(self._taken, self._ring.taken if self._ring is not None else 0)
        if frame + slots >= taken:
            return self._no_ring or "the buffer does not have it"
        since = self._ring.lost_since(frame) if self._ring is not None else None
        if since is None:
            return f"{known}, before frame {taken - 1}"
        by, when = since
        clock = datetime.fromtimestamp(when).astimezone().strftime("%H:%M:%S on %d %B %Y")
        return f"{known} {'at' if by == frame + slots else 'before'} {clock}"

    # ------------------------------------------------------------------------------ where they are

    _asks_for_newest = True

    def _availability(self, events: EventBounds) -> Availability:
        """With the detector, in files, or both. The events tell; a detector elsewhere is asked."""
        self._take(events.length, [] if events.newest is None else [events.newest], events.sealed)
        to_come = NOTHING if self._sealed else Ranges.between(self._taken, END)
        held, why = self._held()
        places = [Holding(Place.DETECTOR, held, to_come, why=why)]
        if self._files is not None:
            places.append(self._in_files(self._files, events.looks))
        return Availability(self.name, self.key, self._taken, self._sealed, tuple(places))

    def _held(self) -> tuple[Ranges, str]:
        """The frames that the detector has for this reader, and why not others."""
        ring = self._ring or self._open_ring()
        if ring is not None and ring.is_open:
            held = ring.held()
            return Ranges.at(held), f"its buffer has only the newest {self._layout.slots} frames"
        if self._remote is None:
            return NOTHING, self._no_ring or "the detector's buffer was closed"
        try:
            return Ranges.at(self._remote.held()), "its buffer has only its newest frames"
        except ImageServerError as error:
            return NOTHING, str(error)

    def _in_files(self, saved: SavedFrames, looks: Looks) -> Holding:
        files, stop = saved.files, self._saved
        needed = files.place(stop - 1)[0] + 1 if stop else 0
        seen, why = self._files_seen.among(needed, looks)
        missed = seen != Ranges.between(0, needed)
        per_file = files.frames_per_file or stop
        there = Ranges.of((first * per_file, min(last * per_file, stop)) for first, last in seen)
        unseen = Ranges.between(0, stop) - there
        refused = self._files_seen.refused
        return Holding(
            Place.FILE,
            there,
            NOTHING if self._sealed or refused else Ranges.between(stop, END) | unseen,
            files.path,
            files.data_path,
            why or f"frames {stop} and later are not saved",
            looked_at=missed,
            hidden=Ranges.between(0, END) - there if refused else NOTHING,
            may_pass=missed and not refused,
        )

    # ------------------------------------------------------------------------------ news

    def _refresh(self) -> None:
        """Takes the newest event; no round trip once there can be none."""
        if not self._sealed or not self._counted:
            tail, newest = self.event_stream.newest()
            self._take(tail.length, newest, tail.sealed)

    def _take(self, end: int, newest: Sequence[Any], sealed: bool) -> None:
        """What the newest of `end` events says; it is not there if it has left the server."""
        if len(newest):
            taken, saved = _counters(newest[-1], self.event_stream.what, end - 1)
            self._taken = max(self._taken, taken)
            self._saved = max(self._saved, saved)
        self._counted = bool(len(newest)) or not end or (self._sealed and self._counted)
        if not self._counted:
            self._count_otherwise()
        self._sealed = self._sealed or sealed

    def _count_otherwise(self) -> None:
        """No event is left to tell how many frames there are: the ring does, or the files."""
        ring = self._ring or self._open_ring()
        if ring is not None and ring.is_open:
            self._taken, self._saved = max(self._taken, ring.taken), max(self._saved, ring.saved)
            self._counted = True
            return
        try:
            if self._files is None:
                raise DataFileError("frames are not saved")
            saved = self._files.count()
        except _NOT_IN_THE_FILE as error:
            raise IndexNoMoreThereError(
                f"{self.event_stream.what}: what told how many frames there are has left the "
                f"server's memory, and the files do not tell: {error}"
            ) from error
        self._taken, self._saved = max(self._taken, saved), max(self._saved, saved)
        self._counted = True

    def _roots(self) -> DataRoots:
        return self._given_roots or DataRoots.choose(None, self.event_stream.scan_path)


def _index(key: object) -> int:
    if isinstance(key, bool | np.bool_) or not hasattr(key, "__index__"):
        raise TypeError(f"frame indices must be integers or slices, not {type(key).__name__}")
    return int(key.__index__())


def _counters(event: Any, what: str, index: int) -> tuple[int, int]:
    """How many frames are taken, and how many saved, as an event says it."""
    found = np.asarray(event)
    if found.shape == (2,) and found.dtype.kind == "i":
        taken, saved = int(found[0]), int(found[1])
        if 0 <= saved <= taken <= MAX_INDEX:
            return taken, saved
    raise PayloadError(
        f"{what}, event {index}: found {str(event)[:80]}, expected how many frames were taken, and how "
        "many of them saved"
    )


def _said(reply: Reply) -> str:
    if reply.status == Status.GONE:
        return f"its place was taken by frame {reply.taken}"
    return "the detector says that it is not taken yet"


def _consecutive(positions: Sequence[int], frames: range) -> Iterator[range]:
    """The positions in pieces whose frames follow one another."""
    start = 0
    for end in range(1, len(positions) + 1):
        if end == len(positions) or positions[end] != positions[end - 1] + 1 or frames.step != 1:
            yield range(positions[start], positions[end - 1] + 1)
            start = end
