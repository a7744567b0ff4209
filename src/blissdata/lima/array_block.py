"""Lima's DATA_ARRAY: one image as a block of bytes, as `readImage` gives it.

0      4        6             8
"YATD" │version │header size │ fields of that version … │ pixels, row by row
└────────────────── header size ───────────────────────┘
"""

from __future__ import annotations

from enum import Enum
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np

from blissdata.exceptions import ImageFormatNotSupported
from blissdata.lima.image_data import ImageData

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["IMAGE_MODES", "bytes_of_pair", "decode_devencoded_image", "pixels"]

PAIR_NAME = "DATA_ARRAY"

MAGIC = 0x44544159
"""`YATD`"""


class IMAGE_MODES(Enum):  # noqa: N801 — the name that clients import
    """Types of a pixel."""

    DARRAY_UINT8 = 0
    DARRAY_UINT16 = 1
    DARRAY_UINT32 = 2
    DARRAY_UINT64 = 3
    DARRAY_INT8 = 4
    DARRAY_INT16 = 5
    DARRAY_INT32 = 6
    DARRAY_INT64 = 7
    DARRAY_FLOAT32 = 8
    DARRAY_FLOAT64 = 9

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type as numpy has it, little-endian."""
        return np.dtype(self.name.removeprefix("DARRAY_").lower()).newbyteorder("<")


_HEAD = Struct("<IHH")

# Category, data type, endianness, number of dimensions; 6 lengths; then steps and what is known of
# the frame.
_WITHOUT_FRAME = Struct("<IIHHHHHHHHIIIIIIII")
_WITH_FRAME = Struct("<IIHHHHHHHHIIIIIIQ")
_WITH_TAG = Struct("<IIHHHHHHHHIIIIIIQQII")

_FRAME_ID = 16
_ACQ_TAG = 17


def _fields(version: int) -> Struct:
    if version >= 4:
        return _WITH_TAG
    return _WITH_FRAME if version == 3 else _WITHOUT_FRAME


def decode_devencoded_image(raw_data: Buffer | tuple[str, Buffer]) -> ImageData:
    """The image in a DATA_ARRAY block: the bytes, or Tango's pair `("DATA_ARRAY", bytes)`.

    `frame_id` is None before version 3 of the block, `acq_tag` before version 4. Raises
    `ImageFormatNotSupported` (a `ValueError`) for whatever is no such block."""
    raw = bytes_of_pair(raw_data, PAIR_NAME)
    if len(raw) < _HEAD.size:
        raise _refused(f"{len(raw)} bytes are too short for a header")
    magic, version, header_size = _HEAD.unpack_from(raw)
    if magic != MAGIC:
        raise _refused(f"the magic number is {magic:#x}, expected {MAGIC:#x}")
    if version < 1:
        raise _refused(f"the header has version {version}, expected 1 or later")
    layout = _fields(version)
    least = _HEAD.size + layout.size
    if header_size < least or len(raw) < header_size:
        raise _refused(
            f"a header of version {version} has at least {least} bytes; this one states "
            f"{header_size}, and there are {len(raw)}"
        )
    fields = layout.unpack_from(raw, _HEAD.size)
    _, data_type, endianness, dimensions, columns, rows = fields[:6]
    if endianness != 0:
        raise _refused(f"endianness {endianness} is not known, expected 0 (little)")
    if dimensions != 2:
        raise _refused(f"it has {dimensions} dimensions, expected 2")
    try:
        mode = IMAGE_MODES(data_type)
    except ValueError:
        raise _refused(f"data type {data_type} is not known") from None
    return ImageData(
        pixels(raw, header_size, (rows, columns), mode.dtype, PAIR_NAME),
        fields[_FRAME_ID] if version >= 3 else None,
        fields[_ACQ_TAG] if version >= 4 else None,
    )


def bytes_of_pair(raw_data: Buffer | tuple[str, Buffer], name: str) -> memoryview:
    """The bytes of one of Tango's pairs, or the bytes themselves. Raises
    `ImageFormatNotSupported` for a pair of another name, `TypeError` for anything else."""
    if isinstance(raw_data, tuple | list):
        if len(raw_data) != 2 or raw_data[0] != name:
            found = str(raw_data[0])[:40] if raw_data else "nothing"
            raise ImageFormatNotSupported(f"Expected encoded data of the kind {name}, not {found}")
        raw_data = raw_data[1]
    return memoryview(raw_data).cast("B")


def pixels(
    raw: memoryview,
    offset: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    name: str,
) -> np.ndarray[tuple[int, ...], np.dtype[Any]]:
    """A writable copy of the pixels that are all that follows `offset`, in native byte order."""
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    found = len(raw) - offset
    if found != expected:
        raise ImageFormatNotSupported(
            f"{name}: {found} bytes of pixels, expected {expected} for {shape} of {dtype.name}"
        )
    return np.frombuffer(raw, dtype, offset=offset).reshape(shape).astype(dtype.newbyteorder("="))


def _refused(why: str) -> ImageFormatNotSupported:
    return ImageFormatNotSupported(f"{PAIR_NAME} that cannot be read: {why}")
