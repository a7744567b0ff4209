"""An image as a screen has room for it: pure rules, no server.

one number for each block of step × step, the highest one:   4 1 | 0 2      4 2
                                                             1 0 | 1 0   →
so that a bright spot of one pixel is seen                   ----+----      9 3
                                                             0 0 | 3 0
                                                             9 0 | 0 0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Limits", "Picture", "limits_of", "pictured", "step_for"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_MASKED_KINDS = {"uint32", "uint64"}
"""Counters of so many bits do not reach their highest number: detectors write it where a pixel is masked."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Between which values the pixels of a whole image lie: the finite ones that are not masked."""

    lowest: float
    highest: float
    lowest_above_zero: float | None
    """For logarithms; None if no pixel is above zero."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image, or what a screen shows of it."""

    pixels: Array
    """Shape `(ceil(rows / step), ceil(columns / step))`, of the image's own type; magnitudes of complex
    numbers."""

    step: int
    """How many rows and columns of the image each of them stands for."""

    rows: int
    columns: int
    limits: Limits | None
    """Those of the image itself; None if nothing in it is finite."""


def step_for(shape: tuple[int, int], room: tuple[int, int]) -> int:
    """How many rows and columns become one, so that an image fits into a room of `(rows, columns)`."""
    return max(1, *(-(-size // max(space, 1)) for size, space in zip(shape, room, strict=True)))


def pictured(image: Array, step: int) -> Picture:
    """The picture of an image of two dimensions, of numbers."""
    if np.iscomplexobj(image):
        image = np.abs(image)
    rows, columns = image.shape
    limits = limits_of(image)
    pixels = _highest(_highest(image, step, 0), step, 1) if step > 1 else image
    return Picture(pixels, step, rows, columns, limits)


def limits_of(image: Array) -> Limits | None:
    """Between which values the finite numbers of an image lie; None if there are none."""
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        image = image[np.isfinite(image)]
    elif image.dtype.name in _MASKED_KINDS and image.size:
        masked = np.iinfo(image.dtype).max
        if image.max() == masked:
            image = image[image != masked]
    if image.size == 0:
        return None
    lowest = image.min()
    positive = lowest if lowest > 0 else _lowest_above_zero(image)
    return Limits(float(lowest), float(image.max()), None if positive is None else float(positive))


def _lowest_above_zero(image: Array) -> Any:
    found = image[image > 0]
    return found.min() if found.size else None


def _highest(image: Array, step: int, axis: int) -> Array:
    """The highest of each `step` neighbours along an axis, the last block being shorter; NaN and masked
    pixels count only where there is nothing else."""
    masked = np.iinfo(image.dtype).max if image.dtype.name in _MASKED_KINDS else None
    take = np.fmax if image.dtype.kind == "f" else np.maximum
    moved = np.moveaxis(image, axis, 0)
    found = moved[::step].copy()
    for k in range(1, min(step, len(moved))):
        more = moved[k::step]
        into = found[: len(more)]
        if masked is None:
            take(into, more, out=into)
        else:  # the masked value, shifted to 0, is below all others
            into[...] = np.maximum(into + 1, more + 1) - 1
    return np.moveaxis(found, 0, axis)
