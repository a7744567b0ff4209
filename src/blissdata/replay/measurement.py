"""One measurement as values: what a source file is read into, and what a player publishes.

Nothing here opens a file or knows a server. Arrays stay where they are until `Channel.read` is
called, so a measurement may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_AXIS", "Channel", "Measurement", "XAxis", "table_channels", "unique_names"]

MAX_AXIS = 16384
"""How many values of x axes are written into a scan's header, which has 2**20 characters; longer
ones are left to the channel that holds them."""


@dataclass(frozen=True, slots=True)
class XAxis:
    """What the values of a channel's spectra stand over."""

    channel: str
    """The channel that holds the axis as the file has it, as one point."""

    values: NDArray[Any] | None
    """One value for each of a spectrum's, the centres where the file has the edges of bins; None
    for an axis that is too long for a header."""

    edges: bool
    """True if the file has the edges of bins: one value more than a spectrum."""

    label: str | None = None
    """Its name for people."""

    unit: str | None = None
    """Its unit."""


@dataclass(frozen=True, slots=True)
class Channel:
    """What was measured, point by point."""

    name: str
    """Unique in its measurement."""

    points: int
    """How many points there are."""

    dtype: np.dtype[Any] | None
    """dtype of a point, byte order included; None for texts."""

    shape: tuple[int, ...]
    """Shape of one point; -1 for a dimension that varies."""

    read: Callable[[int, int], Any]
    """Points from a first to a last index (exclusive): an array of shape `(points, *shape)`, or a
    list for texts and for shapes that vary."""

    unit: str | None = None
    """As the file has it."""

    display_name: str | None = None
    """Its name for people, if the file has one."""

    device: str | None = None
    """What measured it, if the file says so by a group of its own."""

    x_axis: XAxis | None = None
    """What its spectra stand over."""

    block: int = 1
    """How many points are best read at once: a chunk of the file."""

    @property
    def point_nbytes(self) -> int:
        """Size of one point [bytes], roughly where it varies."""
        size = 64 if self.dtype is None else self.dtype.itemsize
        for length in self.shape:
            size *= max(length, 1) if length >= 0 else 64
        return size


@dataclass(frozen=True, slots=True)
class Measurement:
    """One entry of a file."""

    source: str
    """The file."""

    name: str
    """The entry's name in it, as in `1.1`."""

    title: str
    """What it was, for people."""

    channels: Sequence[Channel]
    """In the file's order."""

    number: int | None = None
    """Its number in the file, if it has one."""

    index: int = 0
    """Its position in the file, from 0."""

    start_time: str | None = None
    """When it was measured, as the file says it (ISO 8601, mostly)."""

    end_time: str | None = None
    """When it was over."""

    axes: Sequence[str] = ()
    """Names of the channels that the points stand over: a scan's motors."""

    positioners: Mapping[str, Any] = field(default_factory=dict)
    """Where motors stood that did not move."""

    notes: Sequence[str] = ()
    """What a person should know about how the file was read."""

    @property
    def npoints(self) -> int:
        """Points of the longest channel."""
        return max((channel.points for channel in self.channels), default=0)

    @property
    def label(self) -> str:
        """The entry as messages name it."""
        return f"{self.source}::{self.name}" if self.name else self.source


def table_channels(names: Sequence[str], table: NDArray[Any]) -> list[Channel]:
    """A channel for each column of a table of shape `(points, columns)`."""
    return [
        Channel(name, len(table), table.dtype, (), _reader(table[:, i]))
        for i, name in enumerate(unique_names(names))
    ]


def _reader(column: NDArray[Any]) -> Callable[[int, int], NDArray[Any]]:
    return lambda start, stop: np.ascontiguousarray(column[start:stop])


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, a repeated one with a number: `x`, `x_2`."""
    found: list[str] = []
    for name in names:
        unique, count = name, 1
        while unique in found:
            count += 1
            unique = f"{name}_{count}"
        found.append(unique)
    return found
