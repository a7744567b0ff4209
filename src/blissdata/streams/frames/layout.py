"""What a stream's info says of its frames: how large they are, which ring holds them, where they are saved.

Frames are counted from 0. They may go to one file, or to many that are numbered:

    frame           0 1 2 3 4 5 6 …        3 frames a file
    file            0     1     2
    index in it     0 1 2 0 1 2 0
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from blissdata.lima.layout import FilePattern, ImageReference

__all__ = ["FrameFiles", "FramePoint", "FramesInfo", "ServerAddress", "frame_point"]

VERSION = 1
"""The version of `frames` in a stream's info that is understood here."""

MAX_INDEX = 2**62
"""Nobody takes more frames; beyond, a number is a lie."""

RING_NAME = re.compile(r"blissdata-frames-[0-9a-f]{32}")
"""How a ring is called."""

TOKEN_NBYTES = 16
"""Length of the token that a frame server asks for [bytes]."""

_TOKEN = re.compile(rf"[0-9a-f]{{{2 * TOKEN_NBYTES}}}")
_ADDRESS = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.]+\]|[\w.-]+):(?P<port>\d{1,5})")

_FORMATS = ("HDF5", "EDF", "CBF", "TIF")
"""What the names of formats begin with that are read."""


@dataclass(frozen=True, slots=True)
class FramePoint:
    """What every frame of a stream is."""

    dtype: np.dtype[Any]
    """dtype of a pixel."""

    shape: tuple[int, ...]
    """`(rows, columns)`, usually."""

    @property
    def nbytes(self) -> int:
        """Size of a frame [bytes]."""
        return prod(self.shape) * self.dtype.itemsize


def frame_point(shape: Sequence[int], dtype: DTypeLike) -> FramePoint:
    """Frames of that shape and dtype. Raises `ValueError` for what no frame can be."""
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise ValueError(f"{dtype!r} is no dtype: {error}") from error
    if found.kind not in "biufc" or found.subdtype is not None:
        raise ValueError(
            f"A frame holds booleans, integers, floats or complex numbers, not {found}"
        )
    try:
        lengths = tuple(int(n.__index__()) for n in shape)
    except (TypeError, AttributeError):
        raise ValueError(f"The shape of a frame is a sequence of integers, not {shape!r}") from None
    if not lengths or len(lengths) > 8 or any(not 1 <= n < 2**31 for n in lengths):
        raise ValueError(
            f"A frame has 1 to 8 dimensions, each of at least 1, usually (rows, columns); not {lengths}"
        )
    return FramePoint(found, lengths)


@dataclass(frozen=True, slots=True)
class FrameFiles:
    """Where frames are saved."""

    path: str
    """Absolute; with a conversion such as `%04d` for the number of the file, if there are many."""

    data_path: str | None = None
    """The dataset in each file, for HDF5."""

    file_format: str = "HDF5"
    """`HDF5`, `EDF`, `CBF` or `TIFF`, or one of Lima's names that begins so."""

    frames_per_file: int = 0
    """0: all are in one file."""

    first_number: int = 0
    """Number of the first file."""

    def check(self) -> None:
        """Raises `ValueError` for what makes no sense."""
        if not isinstance(self.path, str) or not self.path.startswith("/") or "\0" in self.path:
            raise ValueError(f"Frames are saved below an absolute path, not {self.path!r}")
        if not isinstance(self.file_format, str) or not self._family:
            raise ValueError(
                f"Frames are read from HDF5, EDF, CBF and TIFF files, not from {self.file_format!r}"
            )
        if self._family == "HDF5" and (not isinstance(self.data_path, str) or not self.data_path):
            raise ValueError("Frames in HDF5 files need a data_path, the dataset in each file")
        for name in ("frames_per_file", "first_number"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_INDEX:
                raise ValueError(f"{name} is a number from 0 on, not {value!r}")
        self.file_path(0)

    @property
    def _family(self) -> str | None:
        upper = self.file_format.upper()
        return next((name for name in _FORMATS if upper.startswith(name)), None)

    @property
    def is_hdf5(self) -> bool:
        """True if frames are in a dataset."""
        return self._family == "HDF5"

    def place(self, frame: int) -> tuple[int, int]:
        """Which of the files holds the frame, counted from 0, and its index in there."""
        if not self.frames_per_file:
            return 0, frame
        return divmod(frame, self.frames_per_file)

    def file_path(self, number: int) -> str:
        """The file of that number, counted from 0. Raises `ValueError` if the path has no place for
        it."""
        if not self.frames_per_file:
            return self.path
        pattern = FilePattern(
            self.path, self.data_path, self.file_format, self.first_number, self.frames_per_file
        )
        return pattern.file_path(number + self.first_number)

    def first_of_file(self, number: int) -> int:
        """The first frame in one of the files, counted from 0."""
        return number * self.frames_per_file

    def reference(self, frame: int) -> ImageReference:
        """Where the frame is saved, now or later."""
        number, index = self.place(frame)
        return ImageReference(self.file_format, self.file_path(number), self.data_path, index)


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the frame server of a buffer is."""

    address: str
    """`tcp://host:port`"""

    token: str
    """What it asks for, as hexadecimal digits."""

    def __repr__(self) -> str:
        return f"ServerAddress({self.address!r}, token=…)"

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        found = _ADDRESS.fullmatch(self.address)
        if found is None:
            raise ValueError(f"{self.address!r} is no address of the form tcp://host:port")
        return found["host"].strip("[]"), int(found["port"])


@dataclass(frozen=True, slots=True)
class FramesInfo:
    """What a stream's `frames` says; `from_info` checks it."""

    ring: str
    """The name of the shared memory, on the host of the detector."""

    slots: int
    """How many frames the ring holds."""

    server: ServerAddress | None = None
    """None: only readers on the detector's host get frames that are not saved."""

    files: FrameFiles | None = None
    """None: frames are not saved."""

    def as_json(self) -> dict[str, Any]:
        """For the stream's info."""
        found: dict[str, Any] = {"version": VERSION, "ring": self.ring, "slots": self.slots}
        if self.server is not None:
            found["server"] = asdict(self.server)
        if self.files is not None:
            found["files"] = asdict(self.files)
        return found

    @classmethod
    def from_info(cls, info: Any) -> FramesInfo:
        """Out of a stream's `frames`; unknown fields are ignored. Raises `ValueError` for another
        version, and for a field that is missing or makes no sense."""
        if not isinstance(info, Mapping):
            raise ValueError(f"expected an object as 'frames', found {info!r}")
        version = info.get("version")
        if version != VERSION or isinstance(version, bool):
            raise ValueError(f"expected frames of version {VERSION}, found version {version!r}")
        ring, slots = info.get("ring"), info.get("slots")
        if not isinstance(ring, str) or not RING_NAME.fullmatch(ring):
            raise ValueError(f"expected the name of a ring as 'ring', found {str(ring)[:80]!r}")
        if isinstance(slots, bool) or not isinstance(slots, int) or not 1 <= slots <= 2**32:
            raise ValueError(f"expected a number from 1 on as 'slots', found {slots!r}")
        return cls(ring, slots, _server(info.get("server")), _files(info.get("files")))


def _server(info: Any) -> ServerAddress | None:
    if info is None:
        return None
    if not isinstance(info, Mapping):
        raise ValueError(f"expected an object as 'server', found a {type(info).__name__}")
    address, token = info.get("address"), info.get("token")
    if not isinstance(address, str) or not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise ValueError("expected 'address' and 'token' of the frame server")
    server = ServerAddress(address, token)
    _ = server.place
    return server


def _files(info: Any) -> FrameFiles | None:
    if info is None:
        return None
    if not isinstance(info, Mapping):
        raise ValueError(f"expected an object as 'files', found a {type(info).__name__}")
    names = FrameFiles.__dataclass_fields__
    if "path" not in info:
        raise ValueError("expected the 'path' of the files")
    files = FrameFiles(**{name: info[name] for name in names if name in info})
    files.check()
    return files
