"""Frames of a Lima detector as a stream: counters through the server, frames by their own path.

    detector ──▶ ring ◀───────────── Tango ──┐
        │  └───▶ files ◀──────────────────── LimaClient ◀── LimaStream ◀── reader
        └──────▶ {"last_index": n, …} ──▶ server ──▶ events ─────┘

Only the newest event matters, so a cursor jumps to it, and its view covers the frames in between.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from blissdata.data_roots import DataRoots
from blissdata.exceptions import (
    EmptyViewException,
    IndexNoMoreThereError,
    PayloadError,
)
from blissdata.lima.client import ImageReference, LimaClient
from blissdata.lima.image_utils import ImageData
from blissdata.lima.layout import FIELDS, PROTOCOL_VERSION, FilePattern
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
from blissdata.streams.encoding.json import JsonStreamEncoder
from blissdata.streams.event_stream import WAIT_SLICE_S, AbandonWatch, EventStream
from blissdata.streams.lima.status import LimaStatus
from blissdata.streams.seen_files import SeenFiles
from blissdata.streams.views import BaseView, EventRange

__all__ = ["LimaDirectAccess", "LimaStream", "LimaView"]

PLUGIN = "lima"

FORMAT = "lima_v1"
"""What the stream's `format` says to readers that know no plugins."""

_SAVING = ("file_path", "data_path", "file_format", "file_offset", "frames_per_file")


class LimaDirectAccess(ABC):
    """A stream whose detector can be asked directly."""

    @abstractmethod
    def get_last_live_image(self) -> ImageData:
        """The newest image that the detector has, of whatever it acquires now."""


class LimaView(BaseView):
    """Frames that a cursor has passed. They are fetched when they are asked for, and may have left
    the detector's ring by then."""

    def __init__(self, stream: LimaStream, start: int, stop: int) -> None:
        self._stream = stream
        self._frames = range(start, stop)

    @property
    def index(self) -> int:
        return self._frames.start

    def __len__(self) -> int:
        return len(self._frames)

    def get_data(self, start: int | None = None, stop: int | None = None) -> NDArray[Any]:
        """An array of shape `(frames, rows, columns)`; see `LimaStream.__getitem__`."""
        frames = self._frames[start:stop]
        return self._stream[frames.start : frames.stop]

    def get_references(
        self, start: int | None = None, stop: int | None = None
    ) -> list[ImageReference]:
        """Where the frames are saved, now or later. Raises `RuntimeError` if they are not."""
        frames = self._frames[start:stop]
        references = self._stream.get_references(slice(frames.start, frames.stop))
        return references if isinstance(references, list) else [references]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Frame by frame: all of them at once may be more than memory holds."""
        return (self._stream[frame] for frame in self._frames)


class LimaStream(BaseStream, LimaDirectAccess):
    """Frames of a Lima detector, by index, from wherever they are.

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
        lima_info = self.info.get("lima_info")
        if not isinstance(lima_info, Mapping):
            raise ValueError(f"{event_stream.what} has no lima_info: {lima_info!r}")
        self._dtype = np.dtype(str(self.info.get("dtype")))
        self._shape = tuple(int(length) for length in self.info.get("shape") or ())
        self._given_roots = None if roots is None else DataRoots.choose(roots)
        self._watch = AbandonWatch(event_stream.data_store)
        self._events = 0
        self._is_final = False
        self._client = LimaClient(
            event_stream.data_store,
            self._refresh,
            roots=self._roots,
            wait_for_news=self._wait_for_news,
            **{name: lima_info[name] for name in FIELDS if name in lima_info},
        )
        self._files_seen = SeenFiles(self._client.look_at_file)

    @staticmethod
    def make_definition(
        name: str,
        dtype: DTypeLike,
        shape: Sequence[int],
        server_url: str,
        buffer_max_number: int,
        frames_per_acquisition: int,
        acquisition_offset: int,
        saving: Mapping[str, Any] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> StreamDefinition:
        """What to give `scan.create_stream`.

        `dtype` and `shape` `(rows, columns)` are those of a frame, `server_url` is the address of
        the detector's Tango device, `buffer_max_number` how many frames its ring holds,
        `frames_per_acquisition` how many it takes for one prepare (0: all), `acquisition_offset`
        what `prepare_next_lima_acquisition` gave for the scan's first one.

        `saving` has exactly `file_path` (with a conversion such as `%04d` for the number of the
        file), `data_path` (the dataset in it, or None), `file_format` (Lima's name: `HDF5`, `EDF`,
        …), `file_offset` (number of the first file), `frames_per_file`; empty: frames are not saved.
        Raises `ValueError` for other keys, and for what makes no sense; `info` is copied."""
        lima_info: dict[str, Any] = {
            "protocol_version": PROTOCOL_VERSION,
            "server_url": server_url,
            "buffer_max_number": int(buffer_max_number),
            "frame_per_acquisition": int(frames_per_acquisition),
            "acquisition_offset": int(acquisition_offset),
        }
        if saving:
            if set(saving) != set(_SAVING):
                missing = sorted(set(_SAVING) - set(saving))
                unknown = sorted(str(key) for key in set(saving) - set(_SAVING))
                raise ValueError(
                    f"Stream '{name}': 'saving' has exactly {', '.join(_SAVING)}; missing: "
                    f"{', '.join(missing) or 'none'}, unknown: {', '.join(unknown) or 'none'}"
                )
            lima_info |= {
                "file_path": saving["file_path"],
                "data_path": saving["data_path"],
                "file_format": saving["file_format"],
                "file_offset": int(saving["file_offset"]),
                "frame_per_file": int(saving["frames_per_file"]),
            }
        described = {
            **(info or {}),
            "format": FORMAT,
            "plugin": PLUGIN,
            "dtype": np.dtype(dtype).name,
            "shape": shape,
            "lima_info": lima_info,
        }
        return StreamDefinition(name, described, JsonStreamEncoder())

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
        return self._dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """`(rows, columns)` of a frame."""
        return self._shape

    @property
    def file_timeout(self) -> float | None:
        """How long a frame that is neither in a closed file nor in the detector's ring is waited for
        while nothing is heard of the detector [s]; None: for ever. May be set."""
        return self._client.file_timeout

    @file_timeout.setter
    def file_timeout(self, timeout: float | None) -> None:
        self._client.file_timeout = timeout

    # ------------------------------------------------------------------------------ writing

    def send(self, data: Any) -> None:
        """Tells readers how far the detector is: `{"last_index": n, "last_index_saved": m}`, either
        may be missing. Returns at once. Raises `ValueError` for what readers would not understand,
        and as `EventStream.send` does."""
        try:
            LimaStatus.check(data)
        except ValueError as error:
            raise ValueError(f"Status of '{self.name}': {error}") from error
        super().send(data)

    # ------------------------------------------------------------------------------ reading

    def __len__(self) -> int:
        """How many frames were taken so far. One round trip."""
        self._refresh()
        return len(self._client)

    def __getitem__(self, key: int | slice) -> NDArray[Any]:
        """A frame, `(rows, columns)`, or those of a slice that were taken so far,
        `(frames, rows, columns)`. `stream[-1]` is the newest that the detector has, while the stream
        is not sealed; slices count from the newest frame that is known of.

        Comes from a closed file, else from the detector's ring, else waits until the file is closed,
        `file_timeout` [s] at most without news of the detector. Raises `IndexNotYetThereError`,
        `IndexWontBeThereError`, `IndexNoMoreThereError` (all `IndexError`) for a frame that can be
        had from nowhere, saying why; `MissingExtraError` if it could be had with PyTango or fabio;
        `TypeError` for anything but integers and slices."""
        self._refresh()
        frames = self._client[key]
        if isinstance(key, slice) and not len(frames):
            return np.empty((0, *self._shape), self._dtype)
        return frames

    def get_references(self, key: int | slice) -> ImageReference | list[ImageReference]:
        """Where a frame is saved, now or later; for a slice, those frames of it that were taken so
        far. One round trip. Raises `RuntimeError` if frames are not saved."""
        self._refresh()
        return self._client.get_references(key)

    def get_last_live_image(self) -> ImageData:
        """The newest image that the detector has, of whatever it acquires now.

        Raises `NoImageAvailable` before its first, `ImageServerError` if nobody answers (both
        `RuntimeError`), `MissingExtraError` without PyTango."""
        self._refresh()
        return self._client.get_last_live_image()

    def _need_last_only(self, last_only: bool) -> bool:
        return True

    def _build_view_from_events(self, index: int, events: EventRange, last_only: bool) -> LimaView:
        self._take(events.index + len(events), events.data, events.end_of_stream)
        stop = len(self._client)
        if stop <= index:
            raise EmptyViewException(f"{self.event_stream.what}: no frame after {index} yet")
        return LimaView(self, stop - 1 if last_only else index, stop)

    # ------------------------------------------------------------------------------ where they are

    _asks_for_newest = True

    def _availability(self, events: EventBounds) -> Availability:
        """With the detector, in files that are closed, or both. The events tell; one round trip more for
        the detector's present acquisition."""
        self._take(events.length, [] if events.newest is None else [events.newest], events.sealed)
        length, final = len(self._client), self._client.is_final
        to_come = NOTHING if final else Ranges.between(length, END)
        ring = self._client.frames_in_ring()
        holdings = [
            Holding(
                Place.DETECTOR,
                Ranges.at(ring),
                to_come,
                why=f"its ring has only frames {Ranges.at(ring)}"
                if ring
                else "its ring has none of them",
            )
        ]
        files = self._client.layout.files
        if files is not None:
            holdings.append(self._in_files(files, final, events.looks))
        return Availability(self.name, self.key, length, final, tuple(holdings))

    def _in_files(self, pattern: FilePattern, final: bool, looks: Looks) -> Holding:
        layout = self._client.layout
        files, frames = self._client.closed_files()
        seen, why = self._files_seen.among(files, looks)
        missed = seen != Ranges.between(0, files)
        there = Ranges.of(
            (layout.first_of_file(first), min(layout.first_of_file(last), frames))
            for first, last in seen
        )
        if why is None:
            why = f"frames {frames} and later are in no closed file"
        unseen = Ranges.between(0, frames) - there if missed else NOTHING
        refused = self._files_seen.refused
        return Holding(
            Place.FILE,
            there,
            NOTHING if final or refused else Ranges.between(frames, END) | unseen,
            pattern.path,
            pattern.data_path,
            why,
            looked_at=missed,
            hidden=Ranges.between(0, END) - there if refused else NOTHING,
            may_pass=missed and not refused,
        )

    # ------------------------------------------------------------------------------ news

    def _refresh(self) -> None:
        """Takes the newest event; no round trip once there can be none."""
        if not self._is_final:
            tail, newest = self.event_stream.newest()
            self._take(tail.length, newest, tail.sealed)

    def _take(self, end: int, newest: Sequence[Any], sealed: bool) -> None:
        """What the newest of `end` events says; it is not there if it has left the server."""
        self._events = max(self._events, end)
        status = self._parsed(newest[-1], end - 1) if newest else LimaStatus()
        self._client.update(status.last_index, status.last_index_saved, sealed)
        if end and not newest and not self._is_final:
            self._count_what_was_saved()
        self._is_final = self._is_final or sealed

    def _parsed(self, event: Any, index: int) -> LimaStatus:
        try:
            return LimaStatus.parse(event)
        except ValueError as error:
            raise PayloadError(f"{self.event_stream.what}, event {index}: {error}") from error

    def _count_what_was_saved(self) -> None:
        """No event is left to tell how many frames there are: then the files must."""
        try:
            saved = self._client.count_saved()
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            raise IndexNoMoreThereError(
                f"{self.event_stream.what}: what told how many frames there are has left the "
                f"server's memory, and the files do not tell: {error}"
            ) from error
        self._client.update(saved - 1, saved - 1)

    def _wait_for_news(self, timeout: float) -> None:
        """Returns when there is a new event, or after `timeout` [s]."""
        wait = min(timeout, WAIT_SLICE_S)
        if self.event_stream.event_log.read({self.key: self._events}, wait=wait, max_entries=1):
            self._watch.restart()
        elif self._watch.due and self._watch.abandoned([self.event_stream]):
            self._client.update(sealed=True)  # nobody will ever seal it

    def _roots(self) -> DataRoots:
        return self._given_roots or DataRoots.choose(None, self.event_stream.scan_path)
