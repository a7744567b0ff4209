"""What an image is, whatever it was read from."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

__all__ = ["ImageData"]


class ImageData(NamedTuple):
    """One image, and what its source says about it."""

    array: NDArray[Any]
    """The pixels, `(rows, columns)`, or `(rows, columns, channels)` in colour; writable."""

    frame_id: int | None
    """Index of the frame in the detector's acquisition; None if the source does not say."""

    acq_tag: int | None
    """A number that the detector gives each acquisition; None if the source does not say."""
