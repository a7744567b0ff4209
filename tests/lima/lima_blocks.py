"""Lima's binary blocks written by hand, from the format as `docs/reference/lima.md` states it."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

__all__ = ["frame", "image_block", "video_block"]

DATA_TYPES = (
    "uint8 uint16 uint32 uint64 int8 int16 int32 int64 float32 float64".split()  # noqa: SIM905 — as the format lists them
)


def image_block(
    array: NDArray[np.generic],
    version: int = 4,
    frame_id: int = 0,
    acq_tag: int = 0,
    **changed: int,
) -> bytes:
    """A DATA_ARRAY block. `changed` overrides fields of the head: `magic`, `header_size`, `category`,
    `data_type`, `endianness`, `dimensions`, `width`, `height`."""
    rows, columns = array.shape[-2:]
    size = 80 if version >= 4 else 64
    head = struct.pack(
        "<IHH", changed.get("magic", 0x44544159), version, changed.get("header_size", size)
    )
    head += struct.pack(
        "<IIHH",
        changed.get("category", 0),
        changed.get("data_type", DATA_TYPES.index(array.dtype.name)),
        changed.get("endianness", 0),
        changed.get("dimensions", 2),
    )
    head += struct.pack("<6H", changed.get("width", columns), changed.get("height", rows), *[0] * 4)
    steps = (array.itemsize, array.itemsize * columns, 0, 0, 0, 0)
    if version < 3:
        head += struct.pack("<8I", *steps, 0, 0)
    elif version == 3:
        head += struct.pack("<6IQ", *steps, frame_id)
    else:
        head += struct.pack("<6IQQII", *steps, frame_id, acq_tag, 0, 0)
    assert len(head) == size
    return head + array.tobytes()


def video_block(
    pixels: bytes, width: int, height: int, mode: int, frame_number: int = 0, **changed: int
) -> bytes:
    """A VIDEO_IMAGE block. `changed` overrides `magic`, `version`, `endianness`, `header_size`."""
    head = struct.pack(
        "!IHHqiiHHHH",
        changed.get("magic", 0x5644454F),
        changed.get("version", 1),
        mode,
        frame_number,
        width,
        height,
        changed.get("endianness", 0),
        changed.get("header_size", 32),
        0,
        0,
    )
    assert len(head) == 32
    return head + pixels


def frame(
    acquisition: int, index: int, shape: tuple[int, int] = (6, 8), dtype: str = "uint16"
) -> NDArray[np.generic]:
    """What the camera of these tests sees: no two frames are alike, nor two pixels of a frame."""
    pixels = np.arange(shape[0] * shape[1]).reshape(shape)
    return (pixels + 1000 * index + 100 * acquisition).astype(dtype)
