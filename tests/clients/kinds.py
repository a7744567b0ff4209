"""What the programs publish: kinds of streams, and every point of them by a formula.

Publisher and judge compute the same points from here with numpy; no expected value comes from a
reader or from a server. Runs in every environment: nothing but numpy is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["ALL_KINDS", "BREAKS", "FRAMES_PER_FILE", "KINDS", "POINTS", "SAVED", "StreamSpec"]

POINTS = 24
"""How many points each stream has in the end."""

FRAMES_PER_FILE = 5
"""Of the stream `lima`."""

BREAKS = (1, 6, 15)
"""How many of them are there after the first point, the first batch, the single ones after it."""

NUMBERS = ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"]
NUMBERS += ["<f2", "<f4", "<f8", "<f16", "<c8", "<c16"]


@dataclass(frozen=True)
class StreamSpec:
    """One stream: its name, what a point is, and how to compute them."""

    name: str
    dtype: str
    """numpy's `dtype.str`, or `json`."""
    shape: tuple[int, ...] = ()
    """Shape of one point; -1 where it varies."""
    plugin: str | None = None
    info: dict[str, Any] = field(default_factory=lambda: {"unit": "µm", "group": "g"})

    def point(self, index: int) -> Any:
        """Point `index`: an array of the stream's dtype, or what JSON holds."""
        if self.dtype == "json":
            return _json_point(index)
        shape = tuple(
            _varying(index, n) if side == -1 else side for n, side in enumerate(self.shape)
        )
        size = int(np.prod(shape, dtype=int))
        return _numbers(index * 1000 + np.arange(size), np.dtype(self.dtype)).reshape(shape)

    def points(self, start: int, stop: int) -> list[Any]:
        """Points `start` … `stop` - 1."""
        return [self.point(index) for index in range(start, stop)]

    @property
    def varies(self) -> bool:
        """Whether points differ in shape."""
        return -1 in self.shape


def _varying(index: int, dimension: int) -> int:
    """3 3 3 3 1 2 3 1 2 3 … for the first dimension: the same for a while, then another each time."""
    return 3 + dimension if index < 4 else 1 + (index + dimension + 2) % 3


def _numbers(k: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers that fill the range of the dtype; NaN, both infinities and -0.0 among the floats."""
    if dtype.kind == "b":
        return (k // 3 + k) % 2 == 0
    if dtype.kind in "iu":
        bits = k.astype("u8") * np.uint64(11400714819323198485) + np.uint64(12345)
        return (bits >> np.uint64(64 - 8 * dtype.itemsize)).astype(f"u{dtype.itemsize}").view(dtype)
    values = np.asarray(k, "f8") / 7 - 300
    special = {3000: np.nan, 7000: np.inf, 12000: -np.inf, 16000: -0.0}
    for at, value in special.items():
        values[k == at] = value
    if dtype.kind == "c":
        parts = np.stack([values, values[::-1]], axis=-1)
        return parts.view("c16")[..., 0].astype(dtype)
    return values.astype(dtype)


def _json_point(index: int) -> Any:
    choices: Sequence[Any] = [
        {"index": index, "text": "Ångström \u2028 \U0001f600", "nested": [{}, [], None, True]},
        index,
        index / 3,
        f'line {index}\n\t"\\',
        [],
        None,
        {"": {"": index}},
    ]
    return choices[index % len(choices)]


KINDS: dict[str, list[StreamSpec]] = {
    "numbers": [StreamSpec(f"n{dtype[1:]}", dtype) for dtype in NUMBERS],
    "arrays": [
        StreamSpec("spectrum", "<u4", (7,)),
        StreamSpec("image", "<u2", (3, 5)),
        StreamSpec("cube", "<f4", (2, 3, 2)),
    ],
    "varying": [StreamSpec("events", "<f8", (-1,)), StreamSpec("tracks", "<i4", (-1, 3))],
    "json": [StreamSpec("log", "json"), StreamSpec("positions", "json")],
    "hdf5_fallback": [
        StreamSpec("diode", "<f8", (), "hdf5_fallback"),
        StreamSpec("mca", "<u4", (4,), "hdf5_fallback"),
    ],
    "scan_sequence": [StreamSpec("subscans", "json", (), "scan_sequence")],
    "lima": [StreamSpec("frelon", "<u2", (4, 6), "lima")],
}
"""Each in a scan of its own."""

SAVED = "saved"
ALL_KINDS = {
    **KINDS,
    SAVED: [
        *(spec for specs in KINDS.values() for spec in specs),
        StreamSpec("big", "<f8", (128, 512)),
    ],
}
"""And a scan with all of them, and something big [512 kB a point], which a writer saves."""
