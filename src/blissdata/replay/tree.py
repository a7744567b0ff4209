"""Entries of an HDF5-like tree (h5py, or what silx makes of other formats) as measurements.

Where a measurement's channels are found, the first that gives any:

1. the group `measurement` (BLISS, SPEC and image series as silx shows them): every dataset in it;
2. NeXus: every NXdata and NXmonitor of the entry, the default NXdata first, and of its NXdetectors
   the arrays with one value per point;
3. every numeric dataset below the entry.

The first axis of the signal counts the points. An array without that axis (a monitor's spectrum, the
edges of the bins) is measured once: a channel of one point. So every array of these groups is
published as the file has it, each of them once, however many names it has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from blissdata.exceptions import SourceFileError
from blissdata.replay.measurement import MAX_AXIS, Channel, Measurement, XAxis

__all__ = ["entry_names", "read_entry"]

MAX_DEPTH = 8
"""How deep groups are searched; links may go in circles."""

CHUNK_LIMIT = 64 * 2**20
"""A chunk of a file larger than this is read in parts [bytes]."""

_NUMBERED = re.compile(r"\d+(\.\d+)?$")
_NUMERIC = "biufc"


def entry_names(root: Any) -> list[str]:
    """The entries in the order in which they were measured: `2.1` before `10.1`. The empty name is
    the root itself, for a file without NXentry."""
    found = [name for name, node in _children(root) if _is_group(node) and _is_entry(node)]
    if all(_NUMBERED.match(name) for name in found):
        found.sort(key=lambda name: [int(part) for part in name.split(".")])
    return found or [""]


def read_entry(source: str, root: Any, name: str, index: int) -> Measurement:
    """One entry; nothing but shapes, attributes and short axes is read from the file yet."""
    entry = root[name] if name else root
    finder = _Finder(entry)
    channels = finder.channels()
    number = re.match(r"\d+", name)
    run = number or re.search(r"\d+", _text_at(entry, "run_number") or "")
    return Measurement(
        source=source,
        name=name,
        title=_text_at(entry, "title") or name or "data",
        channels=channels,
        number=int(run[0]) if run and len(run[0]) < 10 else None,
        index=index,
        start_time=_text_at(entry, "start_time"),
        end_time=_text_at(entry, "end_time"),
        axes=finder.axes(channels),
        positioners=_positioners(entry),
        notes=finder.notes,
    )


# ---------------------------------------------------------------------------------- one entry


@dataclass
class _Found:
    """A dataset that will be a channel."""

    name: str
    node: Any
    once: bool = False
    device: str | None = None
    x_axis: Any = None
    """The dataset of the axis of its spectra."""


@dataclass
class _Finder:
    """Looks for the channels of one entry."""

    entry: Any
    notes: list[str] = field(default_factory=list)
    _found: list[_Found] = field(default_factory=list)
    _seen: set[Any] = field(default_factory=set)
    _axes: list[str] = field(default_factory=list)

    def channels(self) -> list[Channel]:
        measurement = _get(self.entry, "measurement")
        if _is_group(measurement) and self._first_visit(measurement):
            self._measurement(measurement, "", 0)
        if not self._found:
            self._nexus()
        if not self._found and self._first_visit(self.entry):
            self._anything(self.entry, "", 0)
        channels = self.made()
        lengths = {c.name: c.points for c in channels if c.points != 1}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} {points}" for name, points in list(lengths.items())[:8])
            self.notes.append(f"channels of unequal length, each ends where its data end: {said}")
        return channels

    def made(self) -> list[Channel]:
        """What was taken, as channels; what cannot be one is noted."""
        names: dict[Any, str] = {_identity(found.node): found.name for found in self._found}
        made = [self._channel(found, names) for found in self._found]
        return [channel for channel in made if channel is not None]

    def axes(self, channels: Sequence[Channel]) -> list[str]:
        """The scalar channels that the points stand over: those of the NXdata, else those that are
        positioners too, else the first one."""
        scalars = [c.name for c in channels if not c.shape and c.dtype is not None and c.points > 1]
        stated = [name for name in self._axes if name in scalars]
        moved = [n for n, node in _children(_positioner_group(self.entry)) if _ndim(node) == 1]
        return stated or [name for name in scalars if name in moved] or scalars[:1]

    # ---- where they are

    def _measurement(self, group: Any, prefix: str, depth: int) -> None:
        for name, node in _children(group, self.notes):
            full = f"{prefix}{name}"
            if _is_dataset(node):
                self.add(_Found(full, node))
            elif _is_dataset(data := _get(node, "data")):
                self.add(_Found(full, data))
            elif _is_group(node) and depth < MAX_DEPTH and self._first_visit(node):
                self._measurement(node, f"{full}:", depth + 1)

    def _nexus(self) -> None:
        groups = [(n, g) for n, g in _children(self.entry) if _nx_class(g) == "NXdata"]
        default = _text(_attr(self.entry, "default"))
        groups.sort(key=lambda pair: pair[0] != default)  # stable: the default comes first
        monitors = [(n, g) for n, g in _children(self.entry) if _nx_class(g) == "NXmonitor"]
        npoints: int | None = None
        for name, group in [*groups, *monitors]:
            signal = _signal(group)
            if signal is None:
                continue
            shape = group[signal].shape
            if npoints is None and shape:
                npoints = shape[0]
            self._plottable(name, group, signal, npoints)
        if npoints is not None:
            self._detectors(npoints)

    def _plottable(self, name: str, group: Any, signal: str, npoints: int | None) -> None:
        """An NXdata or NXmonitor: its signal, the axes, whatever stands beside them."""
        main = not self._found
        axes = _axes(group, signal)
        over: list[Any] = [_get(group, axis) if axis else None for axis in axes]
        first: Any = over[0] if over else None
        same_axis = first is None or _identity(first) in self._seen
        once = not main and (
            group[signal].shape[:1] != (npoints,)
            or not (same_axis or (axes[0] in self._axes and _shape(first) == (npoints,)))
        )
        spectral = over[0 if once else 1 :]
        x_axis = next((a for a in spectral[:1] if _is_dataset(a)), None)
        if main:
            self._axes = [a for a, node in zip(axes, over, strict=True) if a and _ndim(node) == 1]
        order = [*[a for a in axes if a], signal]
        order += [n for n, node in _children(group) if _is_dataset(node) and n not in order]
        for part in order:
            node = x_axis if part in axes[-1:] and x_axis is not None else _get(group, part)
            if not _is_dataset(node) or (not main and node.size <= 1):
                continue
            plain = main or part == signal
            full = (part if main else name) if plain else f"{name}:{part}"
            is_signal = part == signal
            per_point = node.shape[:1] == (npoints,) or (main and len(axes) == 1)
            self.add(
                _Found(
                    full,
                    node,
                    once=once if is_signal else not per_point or (once and part in axes),
                    device=name if is_signal or node is x_axis else None,
                    x_axis=x_axis if is_signal else None,
                )
            )

    def _detectors(self, npoints: int) -> None:
        instrument = _get(self.entry, "instrument")
        for name, group in _children(instrument):
            if _nx_class(group) != "NXdetector":
                continue
            for part, node in _children(group):
                if _is_dataset(node) and node.shape[:1] == (npoints,) and npoints > 1:
                    self.add(_Found(f"{name}:{part}", node, device=name))

    def _anything(self, group: Any, prefix: str, depth: int) -> None:
        for name, node in _children(group, self.notes):
            if _is_dataset(node) and _ndim(node) and node.dtype.kind in _NUMERIC:
                self.add(_Found(f"{prefix}{name}", node))
            elif _is_group(node) and depth < MAX_DEPTH and self._first_visit(node):
                self._anything(node, f"{prefix}{name}:", depth + 1)

    def _first_visit(self, group: Any) -> bool:
        """False for a group that was looked into: links may go in circles."""
        identity = _identity(group)
        if identity in self._seen:
            return False
        self._seen.add(identity)
        return True

    def add(self, found: _Found) -> None:
        """Takes a dataset, unless it is there under another name."""
        identity = _identity(found.node)
        if identity in self._seen:
            return
        self._seen.add(identity)
        if any(other.name == found.name for other in self._found):
            device = found.device or "data"
            names = {other.name for other in self._found}
            candidates = (f"{device}:{found.name}{suffix}" for suffix in _suffixes())
            found = replace(found, name=next(n for n in candidates if n not in names))
        self._found.append(found)

    # ---- what they are

    def _channel(self, found: _Found, names: Mapping[Any, str]) -> Channel | None:
        node = found.node
        described = _described(node, found.once)
        if isinstance(described, str):
            self.notes.append(f"{found.name} is left out: {described}")
            return None
        points, dtype, shape, read = described
        unit = _text(_attr(node, "units"))
        x_axis = None
        if found.x_axis is not None and len(shape) == 1 and shape[0] > 0:
            x_axis = _x_axis(found.x_axis, names.get(_identity(found.x_axis), ""), shape[0])
        return Channel(
            name=found.name,
            points=points,
            dtype=dtype,
            shape=shape,
            read=read,
            unit=unit,
            display_name=_display_name(node, unit),
            device=found.device,
            x_axis=x_axis,
            block=_block(node) if not found.once else 1,
        )


def _suffixes() -> Iterator[str]:
    yield ""
    number = 2
    while True:
        yield f"_{number}"
        number += 1


Description = tuple[int, "np.dtype[Any] | None", tuple[int, ...], Callable[[int, int], Any]]


def _described(node: Any, once: bool) -> Description | str:
    """Number, dtype and shape of the points, and how to read them; or why that cannot be done."""
    shape = node.shape
    if shape is None:
        return "it is empty"
    dtype = node.dtype
    if dtype.kind == "O" and dtype.metadata and "vlen" in dtype.metadata:
        vlen = dtype.metadata["vlen"]
        if vlen in (str, bytes):
            return _texts(node)
        return _varying(node, np.dtype(vlen))
    if dtype.kind in "SUO":
        return _texts(node)
    if dtype.kind not in _NUMERIC:
        return f"its values are of the kind {str(dtype)[:60]}, expected numbers or texts"
    plain = np.dtype(dtype.str)
    if not shape or once:
        whole = tuple(int(n) for n in shape)
        if not prod(whole):
            return "it is empty"
        return 1, plain, whole, lambda start, stop: np.asarray(node[()], plain)[None][start:stop]
    point = tuple(int(n) for n in shape[1:])
    if shape[0] and not prod(point):
        return f"its points have the shape {point}, without a single value"
    return int(shape[0]), plain, point, lambda start, stop: np.asarray(node[start:stop], plain)


def _texts(node: Any) -> Description | str:
    if len(node.shape) > 1:
        return f"it has texts in {len(node.shape)} dimensions, expected one"
    if not node.shape:
        return 1, None, (), lambda start, stop: [_text(node[()]) or ""][start:stop]
    points = int(node.shape[0])
    return points, None, (), lambda start, stop: [_text(v) or "" for v in node[start:stop]]


def _varying(node: Any, dtype: np.dtype[Any]) -> Description | str:
    if len(node.shape) != 1 or dtype.kind not in _NUMERIC:
        return "its values are lists of things other than numbers, or in more than one dimension"

    def read(start: int, stop: int) -> list[Any]:
        return [np.asarray(point, dtype) for point in node[start:stop]]

    return int(node.shape[0]), dtype, (-1,), read


def _x_axis(node: Any, name: str, length: int) -> XAxis | None:
    if node.shape not in ((length,), (length + 1,)) or node.dtype.kind not in "iuf":
        return None
    edges = node.shape == (length + 1,)
    values = None
    if length <= MAX_AXIS:
        values = np.asarray(node[()], np.float64)
        if edges:
            values = (values[:-1] + values[1:]) / 2
    unit = _text(_attr(node, "units"))
    return XAxis(name, values, edges, _display_name(node, unit) or name, unit)


def _display_name(node: Any, unit: str | None) -> str | None:
    name = _text(_attr(node, "long_name"))
    if name and unit and name.endswith("]"):
        name = re.sub(r"\s*\[[^\[\]]*\]$", "", name)
    return name or None


def _block(node: Any) -> int:
    chunks = getattr(node, "chunks", None)
    if not chunks:
        return 1
    return int(chunks[0]) if prod(chunks) * node.dtype.itemsize <= CHUNK_LIMIT else 1


# ---------------------------------------------------------------------------------- NeXus


def _is_entry(node: Any) -> bool:
    return _nx_class(node) == "NXentry"


def _nx_class(node: Any) -> str | None:
    return _text(_attr(node, "NX_class")) if _is_group(node) else None


def _signal(group: Any) -> str | None:
    """The name of the dataset that is plotted: the attribute `signal` of the group, or, in files
    before 2014, of the dataset; a monitor's `data`."""
    name = _text(_attr(group, "signal"))
    if name and _is_dataset(_get(group, name)):
        return name
    for name, node in _children(group):
        if _is_dataset(node) and _text(_attr(node, "signal")) == "1":
            return name
    return "data" if _is_dataset(_get(group, "data")) else None


def _axes(group: Any, signal: str) -> list[str]:
    """The names of the signal's axes, empty where a dimension has none."""
    stated = _attr(group, "axes")
    if stated is None:
        stated = _attr(group[signal], "axes")
    if stated is None:
        return []
    if isinstance(stated, str | bytes):
        names = re.split(r"[:,\s]+", (_text(stated) or "").strip("[] "))
    else:
        names = [_text(name) or "" for name in np.ravel(np.asarray(stated, object))]
    if len(names) == 1 and re.search(r"[:,]", names[0]):
        names = re.split(r"[:,]+", names[0].strip("[]"))
    return ["" if name in (".", "") else name for name in names]


def _positioner_group(entry: Any) -> Any:
    instrument = _get(entry, "instrument")
    for name in ("positioners_start", "positioners"):
        group = _get(instrument, name)
        if _is_group(group):
            return group
    return None


def _positioners(entry: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, node in _children(_positioner_group(entry)):
        if _is_dataset(node) and node.shape == () and node.dtype.kind in "iuf":
            found[name] = float(node[()])
    return found


# ---------------------------------------------------------------------------------- the tree


def _is_group(node: Any) -> bool:
    return hasattr(node, "keys") and hasattr(node, "attrs")


def _is_dataset(node: Any) -> bool:
    return hasattr(node, "shape") and hasattr(node, "dtype") and hasattr(node, "attrs")


def _shape(node: Any) -> Any:
    return node.shape if _is_dataset(node) else None


def _ndim(node: Any) -> int:
    return len(node.shape or ()) if _is_dataset(node) else 0


def _children(group: Any, notes: list[str] | None = None) -> list[tuple[str, Any]]:
    """Names and nodes; a link that leads nowhere is left out, and noted."""
    if not _is_group(group):
        return []
    found = []
    try:
        names = list(group)
    except (KeyError, OSError, RuntimeError) as error:
        raise SourceFileError(f"the group {group.name} cannot be read: {error}") from error
    for name in names:
        node = _get(group, name)
        if node is not None:
            found.append((name, node))
        elif notes is not None:
            notes.append(f"{name} is left out: its link leads nowhere")
    return found


def _get(group: Any, name: str) -> Any:
    if not _is_group(group):
        return None
    try:
        return group[name]
    except (KeyError, OSError, RuntimeError, ValueError):
        return None


def _attr(node: Any, name: str) -> Any:
    try:
        return node.attrs.get(name)
    except (KeyError, OSError, RuntimeError, TypeError):
        return None


def _identity(node: Any) -> Any:
    """The same for two names of one dataset."""
    ident = getattr(node, "id", None)
    if ident is None:
        return id(node)
    import h5py

    info = h5py.h5o.get_info(ident)
    return info.fileno, info.addr


def _text(found: Any) -> str | None:
    """A text in any of the forms that files have it in: str, bytes, an array of one."""
    if isinstance(found, np.ndarray):
        found = found.ravel()[0] if found.size == 1 else None
    if isinstance(found, bytes):
        return found.decode("utf-8", "replace")
    return None if found is None else str(found)


def _text_at(group: Any, name: str) -> str | None:
    node = _get(group, name)
    if not _is_dataset(node) or node.shape is None or node.size != 1:
        return None
    return _text(node[()])
