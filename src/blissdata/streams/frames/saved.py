"""Frames from the files that they are saved to, below the data roots alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blissdata.data_roots import DataRoots
from blissdata.exceptions import DataFileContentError, DataFileMissingError
from blissdata.lima.image_files import open_images, register_filters
from blissdata.streams.frames.layout import FrameFiles, FramePoint

__all__ = ["SavedFrames"]

MAX_FILES = 2**24
"""No scan has more files."""


class SavedFrames:
    """The frames of one stream, in its files."""

    def __init__(
        self, files: FrameFiles, point: FramePoint, roots: Callable[[], DataRoots]
    ) -> None:
        self._files = files
        self._point = point
        self._roots = roots

    @property
    def files(self) -> FrameFiles:
        """How the files are named and filled."""
        return self._files

    def runs(self, frames: range) -> list[range]:
        """The frames in pieces, each in one file."""
        per_file = self._files.frames_per_file
        if not per_file or not frames:
            return [frames] if frames else []
        stops = [
            *range((frames.start // per_file + 1) * per_file, frames.stop, per_file),
            frames.stop,
        ]
        starts = [frames.start, *stops[:-1]]
        return [range(start, stop) for start, stop in zip(starts, stops, strict=True)]

    def read_into(self, run: range, out: NDArray[Any], *, told: bool) -> None:
        """Puts frames that are in one file into `out`, `(frames, *shape)`. `told` is True if who saves them
        says that they are saved.

        Raises a `DataFileError` for what is not there, is something else, may not be opened, or is in the
        making; `MissingExtraError` if its format needs fabio."""
        number, index = self._files.place(run[0])
        path = self._files.file_path(number)
        if self._files.is_hdf5:
            images = self._rows(path, index, index + len(run), told)
        else:
            with open_images(path, None, self._files.file_format, self._roots()) as file:
                images = file.images(index, index + len(run))
        self._check(path, images.dtype, images.shape[1:])
        out[...] = images

    def _rows(self, path: str, start: int, stop: int, told: bool) -> NDArray[Any]:
        from blissdata.hdf5_handles import borrowed_file

        register_filters()
        with borrowed_file(path, self._roots()) as file:
            dataset = file.dataset(str(self._files.data_path))
            shape = dataset.shape
            if shape == self._point.shape and stop == 1:  # a file of one image
                self._check(path, dataset.dtype, shape)
                return dataset.rows(0, shape[0])[np.newaxis]
            self._check(path, dataset.dtype, shape[1:])
            return dataset.rows(start, stop, written_only=not told)

    def _check(self, path: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        if dtype.newbyteorder("=") != self._point.dtype.newbyteorder("="):
            raise DataFileContentError(
                f"{path} holds {dtype}, but the frames of the stream are {self._point.dtype}"
            )
        if tuple(shape) != self._point.shape:
            raise DataFileContentError(
                f"{path} holds images {tuple(shape)}, but the frames of the stream are "
                f"{self._point.shape}"
            )

    def look_at(self, number: int) -> None:
        """Raises a `DataFileError` if that file, counted from 0, is not there or must not be opened."""
        self._roots().real_path(self._files.file_path(number))

    def count(self) -> int:
        """How many frames there are in the files, from the first on. Raises a `DataFileError`."""
        last = self._number_of_files() - 1
        if last < 0:
            raise DataFileMissingError(f"There is no file {self._files.file_path(0)}")
        path = self._files.file_path(last)
        register_filters()
        with open_images(
            path, self._files.data_path, self._files.file_format, self._roots()
        ) as file:
            return self._files.first_of_file(last) + len(file)

    def _number_of_files(self) -> int:
        """Numbered from 0 without a hole; found in few looks."""
        if not self._files.frames_per_file:
            return int(self._is_there(0))
        high = 1
        while self._is_there(high - 1) and high < MAX_FILES:
            high *= 2
        low = high // 2
        while low < high - 1:  # the first low are there, the one at high - 1 is not
            middle = (low + high) // 2
            low, high = (middle, high) if self._is_there(middle - 1) else (low, middle)
        return low

    def _is_there(self, number: int) -> bool:
        with suppress(DataFileMissingError):
            self.look_at(number)
            return True
        return False
