"""What the layout of a scan asks of a file: groups, datasets, links, in the order of their creation. Pure.

    layout (JSON) ──▶ steps      one for each item; a mistake costs that item alone
    dtype, shape ──▶ Storage     chunks and compression, by what one point is and how often one comes

The layout is read as the live file reads it (`h5api.live_tree`), so that both have the same tree.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np

from blissdata.exceptions import LayoutError
from blissdata.h5api.live_files import validated
from blissdata.h5api.live_tree import children, is_group, item_type
from blissdata.h5map.data_items import DataItem
from blissdata.h5map.hdf5_items import (
    ExternalBinaryDataset,
    ExternalLink,
    SoftLink,
    VirtualDataset,
    VirtualSource,
)
from blissdata.h5map.mistakes import Mistake
from blissdata.h5map.tree import check_attribute_name

__all__ = [
    "Compression",
    "ExternalLinkStep",
    "GroupStep",
    "LinkStep",
    "Pace",
    "Plan",
    "Points",
    "RawStep",
    "Step",
    "Storage",
    "StreamStep",
    "ValueStep",
    "VirtualStep",
    "plan_of",
    "storage_of",
]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

Compression: TypeAlias = Literal["auto", "none", "gzip", "bitshuffle"]
"""What an operator may choose."""

LEAST_CHUNK_NBYTES = 1 << 12
USUAL_CHUNK_NBYTES = 1 << 14
MOST_CHUNK_NBYTES = 1 << 18
"""How large chunks of several points may be [bytes]: of those that come seldom, of those of which
nothing is known, of those that come often or are many."""

CHUNK_S = 10.0
"""The points of so long a time make a chunk [s], within these limits."""

LARGE_POINT_NBYTES = 1 << 13
"""Points of this size have a chunk each [bytes]: a spectrum, an image."""

SPLIT_NBYTES = 1 << 26
"""Points above are split [bytes]: chunks end at 4 GiB, and readers want a part."""

SLOW_NBYTES_PER_S = 2e7
"""What gzip keeps up with beside everything else [bytes/s]."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How many points are to be expected, and how often, if the scan says so."""

    points: int | None = None
    """In all."""

    per_second: float | None = None
    """[1/s]"""

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> Pace:
        """What `npoints`, `count_time` and `sleep_time` of a scan's info say; nonsense says nothing."""
        points = info.get("npoints")
        known = isinstance(points, int) and not isinstance(points, bool) and points > 0
        times = [info.get("count_time"), info.get("sleep_time")]
        seconds = sum(t for t in times if isinstance(t, int | float) and np.isfinite(t) and t > 0)
        return cls(int(points) if known and points else None, 1 / seconds if seconds > 0 else None)


@dataclass(frozen=True, slots=True)
class Points:
    """What the points of a stream are in a file."""

    dtype: np.dtype[Any]
    """dtype of an element; text for what is no number."""

    shape: tuple[int, ...] = ()
    """Shape of one point; -1 for dimensions that vary."""

    @property
    def varies(self) -> bool:
        """True if points may differ in shape."""
        return any(n < 0 for n in self.shape)

    @property
    def nbytes(self) -> int:
        """Size of one point [bytes]; a guess, if it varies."""
        return prod(abs(n) for n in self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Storage:
    """How a growing dataset is stored."""

    chunks: tuple[int, ...]
    """`(points, …)`."""

    compression: Literal["gzip", "bitshuffle"] | None = None
    """None: as the numbers are."""


def storage_of(points: Points, pace: Pace, wanted: Compression = "auto") -> Storage:
    """How these points are best stored.

    Small ones share a chunk, of as many as come in some seconds; large ones have one each, and are
    compressed where `wanted` is `auto`: with gzip, which every reader has, if it can keep up."""
    inner = tuple(1 if points.varies else max(n, 1) for n in points.shape)
    if points.varies:
        return Storage((64,))
    if points.nbytes < LARGE_POINT_NBYTES:
        return Storage((_rows(max(points.nbytes, 1), pace), *inner))
    size, i = points.nbytes, 0
    split = list(inner)
    while size > SPLIT_NBYTES and i < len(split):
        parts = min(split[i], -(-size // SPLIT_NBYTES))
        split[i] = -(-split[i] // parts)
        size = prod(split) * points.dtype.itemsize
        i += 1
    return Storage((1, *split), _compression(points, pace, wanted))


def _rows(nbytes: int, pace: Pace) -> int:
    least, most = -(-LEAST_CHUNK_NBYTES // nbytes), max(MOST_CHUNK_NBYTES // nbytes, 1)
    known = [pace.per_second * CHUNK_S] if pace.per_second is not None else []
    known += [pace.points] if pace.points is not None else []
    rows = int(min(known)) if known else USUAL_CHUNK_NBYTES // nbytes
    return max(min(max(rows, least), most), 1)


def _compression(
    points: Points, pace: Pace, wanted: Compression
) -> Literal["gzip", "bitshuffle"] | None:
    if wanted == "none" or points.dtype.kind not in "biufc":
        return None
    if wanted != "auto":
        return wanted
    rate = None if pace.per_second is None else pace.per_second * points.nbytes
    return "gzip" if rate is not None and rate <= SLOW_NBYTES_PER_S else None


# --------------------------------------------------------------------------------------- steps


@dataclass(frozen=True, slots=True)
class _Item:
    path: str
    """Absolute path in the file."""

    attributes: Mapping[str, Array] = field(default_factory=dict)
    """Values by name."""

    attribute_streams: Mapping[str, str] = field(default_factory=dict)
    """Names of streams by the names of the attributes that they become."""


@dataclass(frozen=True, slots=True)
class GroupStep(_Item):
    """A group, attributes included."""


@dataclass(frozen=True, slots=True)
class ValueStep(_Item):
    """A dataset whose value the layout has."""

    value: Array = field(default_factory=lambda: np.zeros(0))
    """As it is written."""


@dataclass(frozen=True, slots=True)
class StreamStep(_Item):
    """A dataset that the points of a stream make."""

    stream: str = ""
    """Its name in the scan."""


@dataclass(frozen=True, slots=True)
class RawStep(_Item):
    """A dataset whose bytes are in other files."""

    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype("u1"))
    """dtype of an element."""

    shape: tuple[int, ...] = ()
    """Of the whole."""

    files: Sequence[tuple[str, int, int | None]] = ()
    """`(name, offset, size)` [bytes]; None: to the end of the file."""


@dataclass(frozen=True, slots=True)
class VirtualStep(_Item):
    """A dataset made of parts of others."""

    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype("u1"))
    """dtype of an element."""

    shape: tuple[int, ...] = ()
    """Of the whole."""

    sources: Sequence[VirtualSource] = ()
    """Where the parts come from."""


@dataclass(frozen=True, slots=True)
class LinkStep:
    """Another name of an item in the file."""

    path: str
    """Of the link."""

    target: str
    """Absolute, or relative to the group that the link is in; without `..`, which HDF5 does not know."""


@dataclass(frozen=True, slots=True)
class ExternalLinkStep:
    """A name of an item in another file."""

    path: str
    """Of the link."""

    file: str
    """Absolute, or relative to the file's directory."""

    target: str
    """Path in that file."""


Step: TypeAlias = (
    GroupStep | ValueStep | StreamStep | RawStep | VirtualStep | LinkStep | ExternalLinkStep
)


@dataclass(frozen=True)
class Plan:
    """All steps for one entry, a group before what is in it, and what is wrong in the layout."""

    entry: str
    """Name of the entry."""

    steps: tuple[Step, ...] = ()
    """In the order of creation."""

    mistakes: tuple[Mistake, ...] = ()
    """Items that are left out, and why."""

    @property
    def is_nxentry(self) -> bool:
        """True if the entry says that it is one (NeXus, NXentry)."""
        top = self.steps[0] if self.steps else None
        found = top.attributes.get("NX_class") if isinstance(top, GroupStep) else None
        return found is not None and found.tolist() in (b"NXentry", "NXentry")

    @cached_property
    def streams(self) -> Mapping[str, Sequence[str]]:
        """The streams that are written: the paths of their datasets by name."""
        found: dict[str, list[str]] = {}
        for step in self.steps:
            if isinstance(step, StreamStep):
                found.setdefault(step.stream, []).append(step.path)
        return found


def plan_of(entry: str, layout: Any, streams: frozenset[str] | set[str]) -> Plan:
    """The steps for an entry with that layout (as JSON gives it back) of a scan with these streams."""
    mistakes: list[Mistake] = []
    steps: list[Step] = []
    for path, item in _walk(f"/{entry}", layout):
        if path == f"/{entry}" and not is_group(item):
            mistakes.append(Mistake(path, "an entry is a group, found something else"))
            break
        try:
            steps.append(_step(path, item, streams, mistakes))
        except LayoutError as error:
            mistakes.append(Mistake(path, str(error)))
    return Plan(entry, tuple(steps), tuple(mistakes))


def _walk(path: str, layout: Any) -> Iterator[tuple[str, Any]]:
    waiting = [(path, layout)]
    while waiting:
        path, item = waiting.pop()
        yield path, item
        if is_group(item):
            waiting += [(f"{path}/{name}", child) for name, child in _reversed(children(item))]


def _reversed(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(reversed(list(found.items())))


def _step(
    path: str, item: Any, streams: frozenset[str] | set[str], mistakes: list[Mistake]
) -> Step:
    name = path.rpartition("/")[2]
    if "\0" in name or name in ("", ".", ".."):
        raise LayoutError(f"HDF5 has no items of the name {name[:60]!r}")
    kind = item_type(item)
    if kind == "soft_link":
        link = validated(SoftLink.model_validate, item, path)
        return LinkStep(path, _plain_target(path, link.target_path))
    if kind == "external_link":
        away = validated(ExternalLink.model_validate, item, path)
        if "\0" in away.target_file or "\0" in away.target_path:
            raise LayoutError("a link with a NUL in it leads nowhere")
        return ExternalLinkStep(path, away.target_file, away.target_path)
    values, named = _attributes(path, item, streams, mistakes)
    if kind == "group":
        return GroupStep(path, values, named)
    if kind == "external_binary_dataset":
        raw = validated(ExternalBinaryDataset.model_validate, item, path)
        files = [(part.name, part.offset, part.size) for part in raw.files]
        return RawStep(path, values, named, np.dtype(raw.dtype), tuple(raw.shape), files)
    if kind == "virtual_dataset":
        virtual = validated(VirtualDataset.model_validate, item, path)
        shape = tuple(virtual.shape)
        sources = virtual.virtual_sources
        return VirtualStep(path, values, named, np.dtype(virtual.dtype), shape, sources)
    value = item.get("value") if kind == "dataset" else item
    stream = _stream(value, streams)
    if stream is not None:
        return StreamStep(path, values, named, stream)
    return ValueStep(path, values, named, _decoded(value, path))


def _attributes(
    path: str, item: Any, streams: frozenset[str] | set[str], mistakes: list[Mistake]
) -> tuple[dict[str, Array], dict[str, str]]:
    found = item.get("attributes") if isinstance(item, Mapping) else None
    values: dict[str, Array] = {}
    named: dict[str, str] = {}
    for name, value in found.items() if isinstance(found, Mapping) else ():
        try:
            check_attribute_name(name)
            stream = _stream(value, streams)
            if stream is None:
                values[name] = _decoded(value, path)
            else:
                named[name] = stream
        except LayoutError as error:
            mistakes.append(Mistake(path, str(error), attribute=name))
    return values, named


def _stream(value: Any, streams: frozenset[str] | set[str]) -> str | None:
    """The name of the stream that a value stands for. Raises `LayoutError` for an unknown one."""
    if not isinstance(value, Mapping) or value.get("type") != "stream":
        return None
    name = value.get("stream")
    if not isinstance(name, str) or name not in streams:
        known = ", ".join(map(repr, sorted(streams)[:10])) or "none"
        raise LayoutError(f"the scan has no stream {name!r}; it has {known}")
    return name


def _decoded(value: Any, path: str) -> Array:
    found: Array = validated(DataItem.validate_python, value, path).decode()
    return found


def _plain_target(path: str, target: str) -> str:
    if not target or "\0" in target:
        raise LayoutError(f"a link to {target!r} leads nowhere")
    if ".." not in target.split("/"):
        return target
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
