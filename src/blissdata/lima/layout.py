"""Where the frames of a scan are: the arithmetic of acquisitions, files and the detector's ring.

Frames are counted through the scan. The detector may be prepared several times for one scan, and
saves each acquisition to files of its own:

    frame           0 1 2 3 4 5 6 │ 7 8 9 10 …          7 frames an acquisition
    acquisition     0             │ 1
    in it           0 1 2 3 4 5 6 │ 0 1 2 3
    file            0     1     2 │ 3     4             3 frames a file
    index in it     0 1 2 0 1 2 0 │ 0 1 2 0
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FIELDS", "PROTOCOL_VERSION", "FilePattern", "ImageReference", "LimaLayout", "Place"]

PROTOCOL_VERSION = 1
"""The version of `lima_info` that is understood here."""

FIELDS = (
    "protocol_version",
    "server_url",
    "buffer_max_number",
    "frame_per_acquisition",
    "acquisition_offset",
    "file_path",
    "data_path",
    "file_format",
    "file_offset",
    "frame_per_file",
)
"""What `lima_info` may hold."""

MAX_INDEX = 2**62
"""Nobody takes more frames; beyond, a number is a lie."""

_CONVERSION = re.compile(r"%(?:%|[-+ 0#]*\d{0,2}(?:\.\d{1,2})?([dius]))")


@dataclass
class ImageReference:
    """Where in which file a frame is, or will be."""

    format: str
    """Lima's name of the file's format: `HDF5`, `HDF5BS`, `EDF`, …"""

    file_path: str
    """The file."""

    data_path: str | None
    """The dataset, for a format that has such a thing."""

    index: int
    """Index of the frame in the file (in the dataset)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one frame is."""

    frame: int
    """Its index in the scan."""

    acquisition: int
    """Which acquisition of the scan it is in."""

    index: int
    """Its index in that acquisition."""


@dataclass(frozen=True, slots=True)
class FilePattern:
    """How the files of a scan are named and filled."""

    path: str
    """With a conversion such as `%04d` for the number of the file."""

    data_path: str | None
    """The dataset in each file."""

    format: str
    """Lima's name of the format."""

    offset: int
    """Number of the first file."""

    frames: int
    """Frames a file."""

    def file_path(self, number: int) -> str:
        """The file with that number. Raises `ValueError` if the path has no place for it."""
        if "\0" in self.path:
            raise ValueError(f"The path of the files of a detector contains a NUL: {self.path!r}")
        conversions = [found[1] for found in _CONVERSION.finditer(self.path) if found[1]]
        if len(conversions) != 1 or "%" in _CONVERSION.sub("", self.path):
            raise ValueError(
                f"The path of the files of a detector has one place for their number, like '%04d'; "
                f"found {self.path!r}"
            )
        return self.path % number


@dataclass(frozen=True, slots=True)
class LimaLayout:
    """What `lima_info` says; `from_info` checks it."""

    server_url: str
    """Address of the detector's server."""

    ring: int
    """How many frames the detector keeps."""

    per_acquisition: int
    """Frames an acquisition; 0: all are in one."""

    first_acquisition: int
    """The number, in the count of the detector's acquisitions, of the scan's first one."""

    files: FilePattern | None
    """None: the frames are not saved."""

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> LimaLayout:
        """Out of a stream's `lima_info`; unknown fields are ignored. Raises `ValueError` for
        another protocol version, and for a field that is missing or makes no sense."""
        version = info.get("protocol_version")
        if version != PROTOCOL_VERSION or isinstance(version, bool):
            raise ValueError(
                f"This version understands lima_info of protocol {PROTOCOL_VERSION}, found version "
                f"{version!r}"
            )
        return cls(
            _text(info, "server_url"),
            _number(info, "buffer_max_number"),
            _number(info, "frame_per_acquisition"),
            _number(info, "acquisition_offset"),
            _file_pattern(info) if info.get("file_path") else None,
        )

    def place(self, frame: int) -> Place:
        """Where that frame is."""
        if not self.per_acquisition:
            return Place(frame, 0, frame)
        return Place(frame, *divmod(frame, self.per_acquisition))

    def acquisition_number(self, place: Place) -> int:
        """What the detector's count of acquisitions says while the frame is in its ring."""
        return place.acquisition + self.first_acquisition

    def in_ring(self, frame: int, last_index: int) -> bool:
        """Whether the detector still has the frame, when `last_index` is its newest."""
        return 0 <= last_index - frame < self.ring

    def file_index(self, frame: int) -> tuple[int, int]:
        """Which of the scan's files holds the frame, counted from 0, and its index in there. Raises
        `RuntimeError` if frames are not saved."""
        place = self.place(frame)
        number, index = divmod(place.index, self._saved().frames)
        return place.acquisition * self._files_per_acquisition + number, index

    def _saved(self) -> FilePattern:
        if self.files is None:
            raise RuntimeError("Lima data is not saved in files: there is nothing to refer to")
        return self.files

    @property
    def _files_per_acquisition(self) -> int:
        """0 if all frames are in one acquisition."""
        return -(-self.per_acquisition // self._saved().frames)

    def reference(self, frame: int) -> ImageReference:
        """Where the frame is saved, now or later. Raises `RuntimeError` if frames are not saved,
        `ValueError` if the files have no numbers."""
        return self.reference_to_file(*self.file_index(frame))

    def reference_to_file(self, number: int, index: int) -> ImageReference:
        """To the image at `index` of one of the scan's files, counted from 0; raises as
        `reference` does."""
        files = self._saved()
        return ImageReference(
            files.format, files.file_path(number + files.offset), files.data_path, index
        )

    def is_closed(self, frame: int, last_saved: int, sealed: bool) -> bool:
        """Whether the frame's file is complete: the frame is saved, and so is one of a later file,
        or there will be no more."""
        if self.files is None or frame > last_saved:
            return False
        return sealed or self.file_index(last_saved)[0] > self.file_index(frame)[0]

    def in_closed_files(self, last_saved: int, sealed: bool) -> tuple[int, int]:
        """How many files are complete, by the same rule, and how many frames they hold."""
        if self.files is None or last_saved < 0:
            return 0, 0
        number = self.file_index(last_saved)[0]
        if sealed:
            return number + 1, last_saved + 1
        return number, self.first_of_file(number)

    def first_of_file(self, number: int) -> int:
        """The first frame in one of the scan's files, counted from 0."""
        return self.frames_of_files(number + 1, 0)

    def ring_of_acquisition(self, last_index: int, acquisition: int) -> range:
        """The frames that the detector has, when `last_index` is its newest and its count of
        acquisitions says that."""
        first, stop = max(0, last_index - self.ring + 1), last_index + 1
        number = acquisition - self.first_acquisition
        if not self.per_acquisition:
            return range(first, stop) if number == 0 else range(0)
        begin = number * self.per_acquisition
        return range(max(first, begin), min(stop, begin + self.per_acquisition))

    def frames_of_files(self, files: int, in_last: int) -> int:
        """How many frames there are if that many files are there, and the last holds `in_last`."""
        acquisition, number = 0, files - 1
        if self._files_per_acquisition:
            acquisition, number = divmod(number, self._files_per_acquisition)
        return acquisition * self.per_acquisition + number * self._saved().frames + in_last


def _file_pattern(info: Mapping[str, Any]) -> FilePattern:
    data_path = info.get("data_path")
    frames = _number(info, "frame_per_file")
    if not frames:
        raise ValueError("lima_info says that a file holds 0 frames (frame_per_file)")
    return FilePattern(
        _text(info, "file_path"),
        None if data_path is None else str(data_path),
        _text(info, "file_format"),
        _number(info, "file_offset"),
        frames,
    )


def _text(info: Mapping[str, Any], name: str) -> str:
    value = info.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"lima_info needs a text as its '{name}', found {value!r}")
    return value


def _number(info: Mapping[str, Any], name: str) -> int:
    value: Any = info.get(name)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"lima_info needs a number as its '{name}', found {value!r}")
    number = int(value.__index__())
    if not 0 <= number <= MAX_INDEX:
        raise ValueError(f"lima_info needs a number from 0 on as its '{name}', found {number}")
    return number
