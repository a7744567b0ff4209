"""Lima's VIDEO_IMAGE: one picture for the eye as a block of bytes, as `video_last_image` gives it.

Grey pictures come as they are, colour as RGB. What is not plain RGB needs OpenCV.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blissdata.exceptions import ImageFormatNotSupported, MissingExtraError
from blissdata.lima.array_block import bytes_of_pair, pixels
from blissdata.lima.image_data import ImageData

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["VIDEO_MODES", "decode_devencoded_video", "decode_rgb_data"]

PAIR_NAME = "VIDEO_IMAGE"

MAGIC = 0x5644454F
"""`VDEO`"""

VERSION = 1

NO_FRAME = -1
"""The frame number of a detector that has taken none."""

_HEADER = Struct("!IHHqiiHHHH")


class VIDEO_MODES(Enum):  # noqa: N801 — the name that clients import
    """How the pixels of a video picture are stored."""

    Y8 = 0
    Y16 = 1
    Y32 = 2
    Y64 = 3
    RGB555 = 4
    RGB565 = 5
    RGB24 = 6
    RGB32 = 7
    BGR24 = 8
    BGR32 = 9
    BAYER_RG8 = 10
    BAYER_RG16 = 11
    BAYER_BG8 = 12
    BAYER_BG16 = 13
    I420 = 14
    YUV411 = 15
    YUV422 = 16
    YUV444 = 17
    YUV411PACKED = 18
    YUV422PACKED = 19
    YUV444PACKED = 20


_GREY: dict[VIDEO_MODES, np.dtype[Any]] = {
    VIDEO_MODES.Y8: np.dtype("u1"),
    VIDEO_MODES.Y16: np.dtype("<u2"),
    VIDEO_MODES.Y32: np.dtype("<i4"),
    VIDEO_MODES.Y64: np.dtype("<i8"),
}


@dataclass(frozen=True, slots=True)
class _Colour:
    """How one mode becomes RGB."""

    shape: Callable[[int, int], tuple[int, ...]]
    """From height and width, that of the stored array."""

    dtype: str = "u1"
    """Of the stored array."""

    conversion: str | None = None
    """OpenCV's name; None: it is RGB already."""

    shift: int = 0
    """By how many bits the converted values are too large for a byte."""


_BITS_ABOVE_A_BYTE = 4
"""The 16-bit Bayer modes hold 12 bits."""

_COLOURS = {
    VIDEO_MODES.RGB24: _Colour(lambda h, w: (h, w, 3)),
    VIDEO_MODES.RGB32: _Colour(lambda h, w: (h, w, 4)),
    VIDEO_MODES.BGR24: _Colour(lambda h, w: (h, w, 3), conversion="COLOR_BGR2RGB"),
    VIDEO_MODES.I420: _Colour(lambda h, w: (h + h // 2, w), conversion="COLOR_YUV2RGB_I420"),
    VIDEO_MODES.YUV422PACKED: _Colour(lambda h, w: (h, w, 2), conversion="COLOR_YUV2RGB_Y422"),
    VIDEO_MODES.BAYER_RG8: _Colour(lambda h, w: (h, w), conversion="COLOR_BayerRG2BGR"),
    VIDEO_MODES.BAYER_BG8: _Colour(lambda h, w: (h, w), conversion="COLOR_BayerRG2RGB"),
    VIDEO_MODES.BAYER_RG16: _Colour(
        lambda h, w: (h, w), "<u2", "COLOR_BayerRG2BGR", _BITS_ABOVE_A_BYTE
    ),
    VIDEO_MODES.BAYER_BG16: _Colour(
        lambda h, w: (h, w), "<u2", "COLOR_BayerRG2RGB", _BITS_ABOVE_A_BYTE
    ),
}


def decode_devencoded_video(raw_data: Buffer | tuple[str, Buffer]) -> ImageData | None:
    """The picture in a VIDEO_IMAGE block: the bytes, or Tango's pair `("VIDEO_IMAGE", bytes)`.

    None if the detector has taken no frame yet. Grey modes give `(height, width)` of uint8, uint16,
    int32 or int64; `RGB24` `(height, width, 3)` and `RGB32` `(height, width, 4)` of uint8, and what
    OpenCV converts `(height, width, 3)` of uint8. `acq_tag` is None. Raises
    `ImageFormatNotSupported` (a `ValueError`) for whatever is no such block, and
    `MissingExtraError` if OpenCV is needed and not there."""
    raw = bytes_of_pair(raw_data, PAIR_NAME)
    if len(raw) < _HEADER.size:
        raise _refused(f"{len(raw)} bytes are too short for a header of {_HEADER.size}")
    magic, version, number, frame, width, height, endianness, size, *_ = _HEADER.unpack_from(raw)
    if magic != MAGIC:
        raise _refused(f"the magic number is {magic:#x}, expected {MAGIC:#x}")
    if version != VERSION:
        raise _refused(f"the header has version {version}, expected {VERSION}")
    if frame == NO_FRAME:
        return None
    if endianness != 0:
        raise _refused(f"endianness {endianness} is not known, expected 0 (little)")
    if size < _HEADER.size or len(raw) < size:
        raise _refused(f"it states a header of {size} bytes, and there are {len(raw)} in all")
    if width < 0 or height < 0:
        raise _refused(f"it states a picture of {width} × {height} pixels")
    try:
        mode = VIDEO_MODES(number)
    except ValueError:
        raise _refused(f"mode {number} is not known") from None
    if mode in _GREY:
        array = pixels(raw, size, (height, width), _GREY[mode], PAIR_NAME)
    elif mode in _COLOURS:
        array = _rgb(raw, size, width, height, mode)
    else:
        raise _refused(f"mode {mode.name} is not supported")
    return ImageData(array, frame, None)


def decode_rgb_data(
    raw_data: Buffer, width: int, height: int, mode: Enum, offset: int = 0
) -> NDArray[Any]:
    """The colour picture that begins at `offset` of these bytes and ends with them.

    Raises `ValueError` for a mode without colour or one that is not supported, and for more or less
    bytes than such a picture has; `MissingExtraError` if OpenCV is needed and not there."""
    if not isinstance(mode, VIDEO_MODES) or mode not in _COLOURS:
        known = ", ".join(known.name for known in _COLOURS)
        raise ValueError(f"Video mode {mode} is not supported; those in colour are {known}")
    return _rgb(memoryview(raw_data).cast("B"), offset, width, height, mode)


def _rgb(raw: memoryview, offset: int, width: int, height: int, mode: VIDEO_MODES) -> NDArray[Any]:
    colour = _COLOURS[mode]
    array: NDArray[Any] = pixels(
        raw, offset, colour.shape(height, width), np.dtype(colour.dtype), PAIR_NAME
    )
    if colour.conversion is None:
        return array
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError(
            f'A picture of mode {mode.name} needs OpenCV: pip install "blissdata[video]"'
        ) from error
    try:
        converted: NDArray[Any] = cv2.cvtColor(array, getattr(cv2, colour.conversion))
    except cv2.error as error:
        raise _refused(f"OpenCV cannot convert {width} × {height} pixels: {error}") from error
    if colour.shift:
        converted = (converted >> colour.shift).astype(np.uint8)
    return converted


def _refused(why: str) -> ImageFormatNotSupported:
    return ImageFormatNotSupported(f"{PAIR_NAME} that cannot be read: {why}")
