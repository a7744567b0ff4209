"""Frames of one stream of a Lima detector, each from wherever it is.

    closed file  ──▶  the detector's ring, through Tango  ──▶  wait until the file is closed

What is known of the detector comes from the events of the stream: whoever makes a client tells it
(`update`), and gives it a way to ask for news. Rules are in `layout`; here they meet the world.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from blissdata.data_roots import DataRoots
from blissdata.exceptions import (
    DataFileError,
    DataFileMissingError,
    ImageError,
    ImageServerError,
    IndexNoMoreThereError,
    IndexNotYetThereError,
    IndexWontBeThereError,
    MissingExtraError,
)
from blissdata.lima.device import LimaDevice
from blissdata.lima.image_data import ImageData
from blissdata.lima.image_files import open_images, roots_of_a_caller
from blissdata.lima.layout import PROTOCOL_VERSION, ImageReference, LimaLayout, Place

__all__ = [
    "ImageReference",
    "LimaClient",
    "acquisition_on_server",
    "prepare_next_lima_acquisition",
]

FILE_TIMEOUT_S = 60.0
"""How long a frame that left the detector's ring is waited for while nothing is heard of the
detector [s]."""

NEWS_PERIOD_S = 0.1
"""How often a client that has no way to wait for news asks for them [s]."""


MAX_FILES = 2**24
"""No scan has more files."""


class AcquisitionCounts(Protocol):
    """What a client needs of the data store; `blissdata.DataStore` is one."""

    def current_acquisition(self, detector: str) -> int | None:
        """The number of the acquisition that this detector was prepared for last; None: none."""
        ...

    def begin_acquisition(self, detector: str) -> int:
        """Counts the detector's next acquisition."""
        ...


class AcquisitionNumbers(Protocol):
    """The reading half of `AcquisitionCounts`."""

    def current_acquisition(self, detector: str) -> int | None:
        """The number of the acquisition that this detector was prepared for last; None: none."""
        ...


def prepare_next_lima_acquisition(data_store: AcquisitionCounts, server_url: str) -> int:
    """To be called at each prepare of a detector: counts its acquisitions, the first is 0, and gives
    the number of the new one. From then on no reader takes what the detector's ring holds for
    frames of the acquisition before. One round trip."""
    return data_store.begin_acquisition(server_url)


def acquisition_on_server(data_store: AcquisitionNumbers, server_url: str) -> int:
    """The number of the detector's current acquisition; -1 if it was never prepared. One round
    trip."""
    number = data_store.current_acquisition(server_url)
    return -1 if number is None else number


class LimaClient:
    """A sequence of frames: `client[i]` an array, `client[a:b]` an array of arrays.

    `request_update_cb` is called without arguments when news of the detector are needed, and calls
    `update` in its turn. `lima_info` is that of the stream. `roots` gives the data roots (None: those
    of a caller who names a file); `wait_for_news` is called with a time [s] and returns when there are
    news or it is over.

    Raises `ValueError` for a `lima_info` of another protocol, or one that makes no sense.
    """

    PROTOCOL_VERSION = PROTOCOL_VERSION

    def __init__(
        self,
        data_store: AcquisitionNumbers,
        request_update_cb: Callable[[], object],
        *,
        roots: Callable[[], DataRoots] | None = None,
        wait_for_news: Callable[[float], object] | None = None,
        **lima_info: Any,
    ) -> None:
        self._data_store = data_store
        self._request_update = request_update_cb
        self._roots = roots or roots_of_a_caller
        self._wait_for_news = wait_for_news or time.sleep
        self._news_period = NEWS_PERIOD_S if wait_for_news is None else FILE_TIMEOUT_S
        self._layout = LimaLayout.from_info(lima_info)
        self._device = LimaDevice(self._layout.server_url)
        self._last_index = -1
        self._last_saved = -1
        self._sealed = False
        self.file_timeout: float | None = FILE_TIMEOUT_S
        """How long a frame that is neither in a closed file nor in the detector's ring is waited for
        while nothing is heard of the detector [s]; None: for ever."""

    # ------------------------------------------------------------------------------ what is known

    def update(
        self, last_index: int = -1, last_index_saved: int = -1, sealed: bool = False
    ) -> None:
        """News: the newest frame that was taken, the newest that was saved, and whether there will be
        no more. Nothing of it ever goes back."""
        self._last_saved = max(self._last_saved, last_index_saved)
        self._last_index = max(self._last_index, last_index, last_index_saved)
        self._sealed = self._sealed or sealed

    @property
    def layout(self) -> LimaLayout:
        """Where frames are."""
        return self._layout

    @property
    def proxy(self) -> Any:
        """Tango's `DeviceProxy` of the detector's server. Raises `MissingExtraError` without
        PyTango, `ImageServerError` if nobody answers."""
        return self._device.proxy

    def __len__(self) -> int:
        """How many frames were taken, as far as is known. No round trip."""
        return self._last_index + 1

    @property
    def is_final(self) -> bool:
        """True if there will be no more frames."""
        return self._sealed

    # ------------------------------------------------------------------------------ where frames are

    def frames_in_ring(self) -> range:
        """The frames that the detector still has, as far as is known. One round trip."""
        current = acquisition_on_server(self._data_store, self._layout.server_url)
        return self._layout.ring_of_acquisition(self._last_index, current)

    def closed_files(self) -> tuple[int, int]:
        """How many of the scan's files are complete, and how many frames they hold."""
        return self._layout.in_closed_files(self._last_saved, self._sealed)

    def look_at_file(self, number: int) -> None:
        """Raises `DataFileError` if that file of the scan, counted from 0, is not there or must not be
        opened; `ValueError` if files have no numbers."""
        self._roots().real_path(self._layout.reference_to_file(number, 0).file_path)

    # ------------------------------------------------------------------------------ references

    def get_references(self, key: int | slice) -> ImageReference | list[ImageReference]:
        """Where a frame is saved, now or later; for a slice, those frames of it that were taken.

        -1 is the newest frame that is known of. Raises `RuntimeError` if frames are not saved."""
        if isinstance(key, slice):
            return [self._layout.reference(frame) for frame in range(*key.indices(len(self)))]
        index = _integer(key)
        if index < 0:
            index = len(self) - 1 if index == -1 and len(self) else self._checked(index)
        return self._layout.reference(index)

    # ------------------------------------------------------------------------------ frames

    def get_last_live_image(self) -> ImageData:
        """The newest image that the detector has, of whatever it acquires now. Raises
        `NoImageAvailable` before the first, `ImageServerError` if nobody answers,
        `MissingExtraError` without PyTango."""
        return self._device.newest(self._last_index)

    def __getitem__(self, key: int | slice) -> NDArray[Any]:
        """A frame, `(rows, columns)`, or those of a slice that were taken, `(frames, rows, columns)`.

        -1 is the detector's newest, as it has it now; of a sealed stream it is the last frame. Waits
        for a file that is not closed yet (see `file_timeout`) if the detector has the frame no more.
        Raises `IndexNotYetThereError`, `IndexWontBeThereError`, `IndexNoMoreThereError` for a frame
        that can be had from nowhere."""
        if isinstance(key, slice):
            return self._frames(range(*key.indices(len(self))))
        index = _integer(key)
        if index == -1 and not self._sealed:
            return self._device.newest(self._last_index).array
        return self._frame(self._checked(index))

    def _checked(self, index: int) -> int:
        """The index from the start on."""
        length = len(self)
        if index < 0:
            if not self._sealed:
                raise IndexNotYetThereError(
                    f"{self._what}: index {index} counts from the end, which is not known before the "
                    "stream is sealed; -1 is the detector's newest"
                )
            if index + length < 0:
                raise IndexError(f"{self._what} took {length} frames, there is no index {index}")
            return index + length
        if index >= length:
            if self._sealed:
                raise IndexWontBeThereError(
                    f"{self._what} took {length} frames, there will be no index {index}"
                )
            raise IndexNotYetThereError(
                f"{self._what} took {length} frames so far, index {index} is to come"
            )
        return index

    def _frames(self, frames: Sequence[int]) -> NDArray[Any]:
        found: NDArray[Any] | None = None
        at = 0
        for run in self._runs(frames):
            piece = self._piece(run)
            if len(run) == len(frames):
                return piece
            if found is None:
                found = np.empty((len(frames), *piece.shape[1:]), piece.dtype)
            if (piece.shape[1:], piece.dtype) != (found.shape[1:], found.dtype):
                raise ValueError(
                    f"{self._what}: frame {run[0]} is {piece.shape[1:]} of {piece.dtype}, the frames "
                    f"before it {found.shape[1:]} of {found.dtype}: they do not go into one array"
                )
            found[at : at + len(run)] = piece
            at += len(run)
        return np.empty((0,)) if found is None else found

    def _runs(self, frames: Sequence[int]) -> Iterator[Sequence[int]]:
        """The frames in pieces: alone, or side by side in one file that is closed."""
        start = 0
        for end in range(1, len(frames) + 1):
            if end == len(frames) or not self._continues(frames[end - 1], frames[end]):
                yield frames[start:end]
                start = end

    def _continues(self, before: int, frame: int) -> bool:
        """Whether both are in one closed file, one behind the other."""
        if frame != before + 1 or not self._is_closed(frame):
            return False
        return self._layout.file_index(before)[0] == self._layout.file_index(frame)[0]

    def _piece(self, run: Sequence[int]) -> NDArray[Any]:
        """An array of arrays."""
        if len(run) > 1:
            with suppress(*_NOT_IN_THE_FILE):
                return self._read_file(run[0], len(run))
        if len(run) == 1:
            return self._frame(run[0])[np.newaxis]
        # One by one: each may be elsewhere, and the error names it.
        return np.stack([self._frame(frame) for frame in run])

    def _frame(self, frame: int) -> NDArray[Any]:
        """One frame that was taken, from the first place that has it."""
        missed: list[Exception] = []
        if self._is_closed(frame):
            image = self._from_file(frame, missed)
            if image is None:
                image = self._from_ring(frame, missed)
        else:
            image = self._from_ring(frame, missed)
            if image is None and self._wait_until_closed(frame, missed):
                image = self._from_file(frame, missed)
        if image is None:
            raise self._in_none(frame, missed)
        return image

    def _in_none(self, frame: int, missed: Sequence[Exception]) -> Exception:
        """The error for a frame that can be had from nowhere."""
        for error in missed:
            if isinstance(error, MissingExtraError):
                return error
        reasons = [str(error) for error in missed]
        if self._layout.files is None:
            reasons.append("the frames of this scan are not saved")
        error = IndexNoMoreThereError(
            f"{self._what}: frame {frame} can be had from nowhere: {'; '.join(reasons)}"
        )
        error.__cause__ = missed[-1] if missed else None
        return error

    # ------------------------------------------------------------------------------ files

    def _is_closed(self, frame: int) -> bool:
        return self._layout.is_closed(frame, self._last_saved, self._sealed)

    def _from_file(self, frame: int, missed: list[Exception]) -> NDArray[Any] | None:
        try:
            image: NDArray[Any] = self._read_file(frame, 1)[0]
        except _NOT_IN_THE_FILE as error:
            missed.append(error)
            return None
        return image

    def _read_file(self, frame: int, count: int) -> NDArray[Any]:
        reference = self._layout.reference(frame)
        path, index = reference.file_path, reference.index
        with open_images(path, reference.data_path, reference.format, self._roots()) as file:
            return file.images(index, index + count)

    def count_saved(self) -> int:
        """How many frames there are in the files, for a scan that is over.

        Raises `RuntimeError` if frames are not saved, and what opening files raises."""
        last = number_of_files(self._file_is_there) - 1
        if last < 0:
            raise DataFileMissingError(
                f"There is no file {self._layout.reference_to_file(0, 0).file_path}"
            )
        reference = self._layout.reference_to_file(last, 0)
        path = reference.file_path
        with open_images(path, reference.data_path, reference.format, self._roots()) as file:
            return self._layout.frames_of_files(last + 1, len(file))

    def _file_is_there(self, number: int) -> bool:
        try:
            self.look_at_file(number)
        except DataFileMissingError:
            return False
        return True

    def _wait_until_closed(self, frame: int, missed: list[Exception]) -> bool:
        """Waits until the file that will hold the frame is closed; False if it never will.

        Raises `IndexNotYetThereError` if nothing is heard of the detector for `file_timeout`."""
        if self._layout.files is None:
            return False
        heard, since = self._heard, time.monotonic()
        while True:
            self._request_update()
            if self._is_closed(frame):
                return True
            if self._sealed:
                missed.append(DataFileMissingError("the detector stopped before it was saved"))
                return False
            if self._heard != heard:
                heard, since = self._heard, time.monotonic()
            left = self._news_period
            if self.file_timeout is not None:
                left = min(left, since + self.file_timeout - time.monotonic())
            if left <= 0:
                raise self._not_yet(frame, missed)
            self._wait_for_news(left)

    def _not_yet(self, frame: int, missed: Sequence[Exception]) -> Exception:
        for error in missed:
            if isinstance(error, MissingExtraError):
                return error
        reasons = "; ".join(str(error) for error in missed)
        return IndexNotYetThereError(
            f"{self._what}: frame {frame} is in no closed file yet ({reasons}), and nothing was heard "
            f"of the detector for {self.file_timeout:g} s (taken: {self._last_index}, saved: "
            f"{self._last_saved}). Try again later; `file_timeout` says how long to wait"
        )

    @property
    def _heard(self) -> tuple[int, int, bool]:
        """All that is known of the detector."""
        return self._last_index, self._last_saved, self._sealed

    # ------------------------------------------------------------------------------ the ring

    def _from_ring(self, frame: int, missed: list[Exception]) -> NDArray[Any] | None:
        """The frame, if the detector has it before and after it was read: while it is, the ring may
        go round, or another acquisition may begin."""
        place = self._layout.place(frame)
        try:
            self._check_ring(place)
            image = self._device.image(place.index)
            if image.frame_id not in (None, place.index):
                raise ImageServerError(
                    f"asked for its frame {place.index}, the detector gave {image.frame_id}"
                )
            self._request_update()
            self._check_ring(place)
        except (ImageError, MissingExtraError) as error:
            missed.append(error)
            return None
        return image.array

    def _check_ring(self, place: Place) -> None:
        """Raises `ImageServerError` if the detector cannot have the frame any more."""
        if not self._layout.in_ring(place.frame, self._last_index):
            raise ImageServerError(
                f"the detector keeps {self._layout.ring} frames, and has taken {len(self)}"
            )
        expected = self._layout.acquisition_number(place)
        found = acquisition_on_server(self._data_store, self._layout.server_url)
        if found != expected:
            raise ImageServerError(
                f"the detector is at its acquisition {found}, the frame was in {expected}"
            )

    @property
    def _what(self) -> str:
        """The detector as messages name it."""
        return f"Detector {self._layout.server_url}"


_NOT_IN_THE_FILE = (DataFileError, MissingExtraError, ValueError, RuntimeError)
"""What goes wrong with a file: it is not there, damaged or refused; fabio is missing; its name has
no place for a number; its format is not known."""


def number_of_files(is_there: Callable[[int], bool]) -> int:
    """How many files there are, numbered from 0 without a hole, in few looks."""
    high = 1
    while is_there(high - 1) and high < MAX_FILES:
        high *= 2
    low = high // 2
    while low < high - 1:  # the first low are there, the one at high - 1 is not
        middle = (low + high) // 2
        low, high = (middle, high) if is_there(middle - 1) else (low, middle)
    return low


def _integer(key: object) -> int:
    if isinstance(key, bool | np.bool_) or not hasattr(key, "__index__"):
        raise TypeError(f"frame indices must be integers or slices, not {type(key).__name__}")
    return int(key.__index__())
