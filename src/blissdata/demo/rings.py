"""Images of a detector that does not exist: powder rings, spots, and noise. Each follows from its number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SimulatedImages"]

POOL = 16
"""Images with noise of their own; later ones use them again, with other spots."""

SPOTS = 12

_RADII = (0.21, 0.35, 0.42, 0.55, 0.62, 0.74)
_HEIGHTS = (300.0, 120.0, 220.0, 80.0, 60.0, 40.0)
_WIDTH = 0.006
"""The rings: where, as parts of half the smaller side, how high above the background, how wide."""


class SimulatedImages:
    """`image(i)` is always the same for the same `i`, `shape` `(rows, columns)` and `seed`: who reads it can
    check it. Pixels are uint16 counts."""

    def __init__(self, shape: tuple[int, int], seed: int = 0) -> None:
        self.shape = shape
        self._seed = seed
        rows, columns = shape
        y, x = np.ogrid[:rows, :columns]
        radius = np.hypot(y - (rows - 1) / 2, x - (columns - 1) / 2) / (max(min(shape), 2) / 2)
        expected = 20 * np.exp(-2 * radius) + 3
        for place, height in zip(_RADII, _HEIGHTS, strict=True):
            expected += height * np.exp(-(((radius - place) / _WIDTH) ** 2) / 2)
        random = np.random.default_rng(seed)
        self._pool = [random.poisson(expected).astype(np.uint16) for _ in range(POOL)]
        side = max(1, min(shape) // 100)
        near = np.exp(-((np.arange(-side, side + 1) / max(side / 2, 0.5)) ** 2) / 2)
        self._spot = (4000 * np.outer(near, near)).astype(np.uint16)

    def image(self, index: int, out: NDArray[np.uint16] | None = None) -> NDArray[np.uint16]:
        """The image of that number, `(rows, columns)`, in `out` if it is given."""
        found = np.empty(self.shape, np.uint16) if out is None else out
        np.copyto(found, self._pool[index % POOL])
        random = np.random.default_rng((self._seed, index))
        size = len(self._spot)
        if size < min(self.shape):
            rows = random.integers(0, self.shape[0] - size, SPOTS)
            columns = random.integers(0, self.shape[1] - size, SPOTS)
            for row, column in zip(rows, columns, strict=True):
                found[row : row + size, column : column + size] += self._spot
        return found
