"""What an acquisition publishes: any point can be told right from wrong by its index."""

from __future__ import annotations

from typing import Any

import numpy as np

STREAMS = ("images", "monitor")
IMAGE = 1 << 14
"""Numbers in an image: 128 KiB."""

_PATTERN = np.arange(IMAGE, dtype=float)


def image(index: int) -> Any:
    """The image at that index."""
    return _PATTERN + index


def wrong(stream: str, start: int, points: Any) -> int:
    """How many of the points from index `start` on are not what was published."""
    expected = np.arange(start, start + len(points), dtype=float)
    if stream == "monitor":
        return int((np.asarray(points) != expected).sum())
    return sum(not np.array_equal(p, _PATTERN + n) for p, n in zip(points, expected, strict=True))
