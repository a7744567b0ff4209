"""Frames whose content follows from their number, so that every reader can check every one.

A pattern is made once; frame `i` is the pattern with the words of 8 bytes of frame `i` added, so every
frame differs from every other one in every word, and a frame of two halves is neither.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["frame", "is_right", "number_of", "words"]

STEP = 0x9E37_79B9_7F4A_7C15
"""Odd, so that its multiples are all different."""


@cache
def _pattern(nwords: int) -> NDArray[np.uint64]:
    return np.random.default_rng(nwords).integers(0, 2**63, nwords, np.uint64)


def words(index: int, nbytes: int, out: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
    """The frame as words; `nbytes` is a multiple of 8."""
    shift = np.uint64((index + 1) * STEP % 2**64)
    return np.add(_pattern(nbytes // 8), shift, out=out)


def frame(index: int, shape: tuple[int, ...], dtype: Any = np.uint16) -> NDArray[Any]:
    """Frame `index`."""
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return words(index, nbytes).view(dtype).reshape(shape)


def is_right(found: NDArray[Any], index: int) -> bool:
    """Whether that is frame `index`, to the last bit."""
    return np.array_equal(
        np.ascontiguousarray(found).reshape(-1).view(np.uint64), words(index, found.nbytes)
    )


def number_of(found: NDArray[Any]) -> int | None:
    """Which frame that is; None if it is none: torn, or something else."""
    flat = np.ascontiguousarray(found).reshape(-1).view(np.uint64)
    pattern = _pattern(len(flat))
    shift = int(flat[0]) - int(pattern[0])
    index = shift * pow(STEP, -1, 2**64) % 2**64 - 1
    return index if 0 <= index < 2**62 and is_right(found, index) else None
