"""A layout for scans that say nothing of their file: NeXus, made of what streams and info tell.

    1.1  NXentry           title, start_time, …, end_time
     ├── instrument        NXinstrument
     │    ├── diode        NXdetector      data ──► stream
     │    ├── sx           NXpositioner    value ──► stream
     │    └── positioners_start            where motors stood
     ├── measurement       NXcollection    a link per stream of numbers
     ├── records           NXcollection    streams of texts
     └── plot …            NXdata          signal and axes, links as well; the entry's default

What is a positioner, and what is plotted over what, the info's `channels` and `plots` say (see
`blissdata.schemas.scan_info`); without them the streams' names and shapes do. Nothing in an info can
make this fail: what is of another form than it should be is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol, TypeAlias

import numpy as np
from pydantic import ValidationError

from blissdata.exceptions import LayoutError
from blissdata.h5map.data_items import DataItem, Stream
from blissdata.h5map.hdf5_items import Dataset, Group, SoftLink
from blissdata.h5map.mistakes import joined

__all__ = ["StreamLike", "nexus_entry", "nexus_layout"]

_POSITIONER_PREFIXES = ("axis:", "timer:")
"""What BLISS calls the channels of motors and clocks."""

_AXIS_FIELDS = ("axis_id", "axis_kind", "axis_points", "axis_points_hint", "start", "stop")
"""What a channel says of itself that somebody moved."""

_FIRST = ("title", "start_time")
_LAST = ("end_reason", "end_time")
"""Fields of the entry that have their names in the info; those that come when the scan ends stand
last."""

_CAMERAS = ("lima", "lima2")

_INTERPRETATIONS = {1: "spectrum", 2: "image"}
"""NeXus says so what one point is, by its dimensions."""


class StreamLike(Protocol):
    """What is asked of a stream; those of a scan, for writing or for reading, are such."""

    @property
    def name(self) -> str: ...

    @property
    def info(self) -> Mapping[str, Any]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


Streams: TypeAlias = "Mapping[str, StreamLike] | Iterable[StreamLike]"


def nexus_layout(info: Mapping[str, Any], streams: Streams, number: int = 1) -> Group:
    """The root of a file with one entry, `<number>.1`, for a scan with this info and these streams
    (those that `create_stream` gave, or a prepared scan's `streams`):

        layout = nexus_layout(scan.info, [diode, camera])
        scan.info["h5maps"] = {path: layout.model_dump(mode="json")}
    """
    entry = f"{number}.1"
    return Group(children={entry: nexus_entry(info, streams, f"/{entry}")})


def nexus_entry(info: Mapping[str, Any], streams: Streams, path: str = "/1.1") -> Group:
    """The entry of a scan with this info and these streams, in the order in which they are given.
    `path` is where it will stand: the links in it are absolute, as HDF5 knows no `..`. The same
    arguments give the same layout; none of them is changed."""
    every = list(streams.values() if isinstance(streams, Mapping) else streams)
    return _Entry(info, every, path).group()


@dataclass(frozen=True, slots=True)
class _Channel:
    """One stream, and what the info says about it."""

    stream: str
    """The stream's name."""

    name: str
    """Its name in the file."""

    shape: tuple[int, ...] | None
    """Shape of one point; None for points that are no numbers."""

    moved: bool
    """True for what somebody set, false for what was measured."""

    unit: str
    """Unit of the values; empty without."""

    title: str
    """Its name for people; empty without."""

    device: Mapping[str, Any]
    """What the info says about the device that publishes it."""

    @property
    def path(self) -> str:
        """Where the points are, below the entry."""
        return f"instrument/{self.name}/{'value' if self.moved else 'data'}"

    @property
    def plottable(self) -> bool:
        """True for points of one shape."""
        return self.shape is not None and -1 not in self.shape


class _Entry:
    """One entry in the making."""

    def __init__(self, info: Mapping[str, Any], streams: list[StreamLike], path: str) -> None:
        self._info = info
        self._path = path
        self._told = _mapping(info.get("channels"))
        self._plots = [one for one in _list(info.get("plots")) if isinstance(one, Mapping)]
        self._devices = _devices(info)
        names = _short_names([self._wanted_names(stream) for stream in streams])
        axes = self._plotted_axes()
        every = [
            self._channel(stream, name, axes) for stream, name in zip(streams, names, strict=True)
        ]
        self._numbers = {one.stream: one for one in every if one.shape is not None}
        self._records = [one for one in every if one.shape is None]

    def _wanted_names(self, stream: StreamLike) -> list[str]:
        """Names in the file that a stream may have, the best first."""
        told, device = _mapping(self._told.get(stream.name)), self._device_of(stream.name)
        wanted = [told.get("display_name"), stream.name.rpartition(":")[2], stream.name]
        if device.get("type") in _CAMERAS and told.get("dim") == 2:
            wanted.insert(0, device.get("name"))
        return [name for one in wanted if (name := _safe(one))] or ["stream"]

    def _device_of(self, stream: str) -> Mapping[str, Any]:
        return self._devices.get(stream, {})

    def _channel(self, stream: StreamLike, name: str, axes: set[str]) -> _Channel:
        told, shape = _mapping(self._told.get(stream.name)), _shape(stream)
        moved = shape == () and (
            stream.name in axes
            or stream.name.startswith(_POSITIONER_PREFIXES)
            or any(told.get(field) is not None for field in _AXIS_FIELDS)
        )
        unit = _text(told.get("unit")) or _text(_mapping(stream.info).get("unit"))
        title = _text(told.get("display_name"))
        return _Channel(stream.name, name, shape, moved, unit, title, self._device_of(stream.name))

    def _plotted_axes(self) -> set[str]:
        """The streams over which the info's plots draw others."""
        found: set[str] = set()
        for plot in self._plots:
            for item in _items(plot):
                keys = ("x", "y") if plot.get("kind") == "scatter-plot" else ("x",)
                found.update(one for key in keys if (one := _text(item.get(key))))
        return found

    # ------------------------------------------------------------------------------ the tree

    def group(self) -> Group:
        children: dict[str, Any] = self._fields(_FIRST)
        program = _value(self._info.get("publisher"))
        if program is not None:
            version = _text(self._info.get("publisher_version"))
            attributes: dict[str, Any] = {"version": version} if version else {}
            children["program_name"] = Dataset(value=program, attributes=attributes)
        user = _value(self._info.get("user_name"))
        if user is not None:
            children["user"] = _group("NXuser", {"name": user})
        children["instrument"] = self._instrument()
        links = {one.name: self._link(one) for one in self._numbers.values()}
        children["measurement"] = _group("NXcollection", links)
        if self._records:
            records = {one.name: _dataset(one) for one in self._records}
            children["records"] = _group("NXcollection", records)
        default: dict[str, str] = {}
        for name, plot in self._data_groups().items():
            free = _free(name, children, *_LAST)
            children[free] = plot
            default.setdefault("default", free)
        children |= self._fields(_LAST)
        return _group("NXentry", children, **default)

    def _fields(self, names: Iterable[str]) -> dict[str, Any]:
        found = {name: _value(self._info.get(name)) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def _instrument(self) -> Group:
        children: dict[str, Any] = {}
        for one in self._numbers.values():
            children[one.name] = _positioner(one) if one.moved else _detector(one)
        positioners = _mapping(self._info.get("positioners"))
        units = _mapping(positioners.get("positioners_units"))
        for moment in ("positioners_start", "positioners_end"):
            stood: dict[str, Any] = {}
            for motor, given in _mapping(positioners.get(moment)).items():
                value, name = _value(given), _safe(motor)
                if value is not None and name:
                    attributes = _units(_text(units.get(motor)))
                    stood[_free(name, stood)] = Dataset(value=value, attributes=attributes)
            if stood:
                children[_free(moment, children)] = _group("NXcollection", stood)
        return _group("NXinstrument", children)

    def _link(self, channel: _Channel) -> SoftLink:
        return SoftLink(target_path=joined(self._path, channel.path))

    # ------------------------------------------------------------------------------ the plots

    def _data_groups(self) -> dict[str, Group]:
        """NXdata groups by name: those that the info asks for, else one of the scalars and one of
        each other detector."""
        found: dict[str, Group] = {}
        for plot in self._plots:
            for name, group in self._asked(plot):
                found[_free(name, found)] = group
        return found or self._obvious()

    def _asked(self, plot: Mapping[str, Any]) -> list[tuple[str, Group]]:
        kind, items = plot.get("kind"), _items(plot)
        name = _safe(plot.get("name")) or "plot"
        if kind == "curve-plot":
            return self._curves(name, items)
        if kind == "scatter-plot":
            drawn = [[self._number(item.get(k)) for k in ("value", "x", "y")] for item in items]
            return [
                (f"{name}_{value.name}" if len(items) > 1 else name, self._data([value], [x, y]))
                for value, x, y in drawn
                if value and x and y and value.shape == x.shape == y.shape == ()
            ]
        if kind == "1d-plot":
            spectra = [one for item in items if (one := self._number(item.get("y")))]
            return [
                (f"{name}_{one.name}" if len(spectra) > 1 else name, self._data([one]))
                for one in spectra
                if one.plottable and one.shape
            ]
        return []

    def _curves(self, name: str, items: list[Mapping[str, Any]]) -> list[tuple[str, Group]]:
        """One group per horizontal axis."""
        over: dict[str, list[_Channel]] = {}
        for item in items:
            signal = self._number(item.get("y"))
            if signal is not None and signal.shape == ():
                signals = over.setdefault(_text(item.get("x")), [])
                signals += [signal] if signal not in signals else []
        groups = []
        for x, signals in over.items():
            axis = self._number(x)
            axes = [axis] if axis is not None and axis.shape == () else []
            title = f"{name}_{axis.name}" if len(over) > 1 and axes and axis else name
            groups.append((title, self._data(signals, axes)))
        return groups

    def _obvious(self) -> dict[str, Group]:
        drawn = [one for one in self._numbers.values() if one.plottable]
        moved = [one for one in drawn if one.moved]
        moved.sort(key=lambda one: one.stream.startswith("timer:"))  # rather motors than clocks
        axes = moved[:1]
        scalars = [one for one in drawn if one.shape == () and not one.moved]
        found: dict[str, Group] = {}
        if scalars:
            found["plot"] = self._data(scalars, axes)
        for one in drawn:
            if one.shape:
                found[_free(f"plot_{one.name}", found)] = self._data([one], axes)
        return found

    def _data(self, signals: list[_Channel], axes: Iterable[_Channel] = ()) -> Group:
        """An NXdata group of these signals, of points of one shape, over axes of their points."""
        over, signal = list(axes), signals[0]
        attributes: dict[str, Any] = {"signal": signal.name}
        if len(signals) > 1:
            attributes["auxiliary_signals"] = [one.name for one in signals[1:]]
        children: dict[str, Any] = {one.name: self._link(one) for one in [*over, *signals]}
        names = [one.name for one in over] or ["."]
        names += ["." for _ in signal.shape or ()]
        x_axis = _x_axis(signal)
        if x_axis is not None and len(signal.shape or ()) == 1:
            label = _free(x_axis[0], children)
            names[-1] = label
            where = f"instrument/{signal.name}/{x_axis[0]}"
            children[label] = SoftLink(target_path=joined(self._path, where))
        if any(name != "." for name in names):
            attributes["axes"] = names
        return _group("NXdata", children, **attributes)

    def _number(self, stream: Any) -> _Channel | None:
        return self._numbers.get(stream) if isinstance(stream, str) else None


# ---------------------------------------------------------------------------------- groups


def _positioner(channel: _Channel) -> Group:
    children = {"name": _plain(channel.stream), "value": _dataset(channel)}
    return _group("NXpositioner", children)


def _detector(channel: _Channel) -> Group:
    children: dict[str, Any] = {
        "local_name": _plain(channel.stream),
        "data": _dataset(channel),
    }
    kind = _value(channel.device.get("type"))
    if kind is not None:
        children["type"] = kind
    x_axis = _x_axis(channel)
    if x_axis is not None:
        name, values, unit = x_axis
        children[name] = Dataset(value=values, attributes=_units(unit))
    return _group("NXdetector", children)


def _group(nx_class: str, children: Mapping[str, Any], **attributes: Any) -> Group:
    given: dict[str, Any] = {"NX_class": nx_class, **attributes}
    return Group(attributes=given, children=dict(children))


def _dataset(channel: _Channel) -> Dataset:
    attributes: dict[str, Any] = _units(channel.unit)
    if channel.title and channel.title != channel.name:
        attributes["long_name"] = _plain(channel.title)
    if channel.shape and len(channel.shape) in _INTERPRETATIONS:
        attributes["interpretation"] = _INTERPRETATIONS[len(channel.shape)]
    return Dataset(value=Stream(stream=channel.stream), attributes=attributes)


def _x_axis(channel: _Channel) -> tuple[str, Any, str] | None:
    """Name, values and unit of what a spectrum stands over, if they are known."""
    values = channel.device.get("xaxis_array")
    if channel.shape is None or len(channel.shape) != 1 or not isinstance(values, list):
        return None
    if len(values) != channel.shape[0] or not all(map(_is_number, values)):
        return None
    name = _safe(channel.device.get("xaxis_array_label")) or "x"
    name = f"{name}_axis" if name in ("local_name", "data", "type") else name
    return name, [float(one) for one in values], _text(channel.device.get("xaxis_array_unit"))


def _units(unit: str) -> dict[str, Any]:
    return {"units": _plain(unit)} if unit else {}


# ---------------------------------------------------------------------------------- what infos hold


def _devices(info: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Which device publishes a stream."""
    return {
        channel: device
        for device in _mapping(info.get("devices")).values()
        if isinstance(device, Mapping)
        for channel in _list(device.get("channels"))
        if isinstance(channel, str)
    }


def _shape(stream: StreamLike) -> tuple[int, ...] | None:
    """Shape of a point; None for points that are no numbers, or of which nothing is known here."""
    try:
        dtype, shape = stream.dtype, tuple(stream.shape)
    except Exception:  # noqa: BLE001 — its plugin may be missing, or fail in any way
        told = _mapping(stream.info)
        try:
            dtype, shape = np.dtype(told.get("dtype", object)), tuple(told.get("shape") or ())
        except (TypeError, ValueError):
            return None
    if np.dtype(dtype).kind not in "biufc" or not all(isinstance(n, int) for n in shape):
        return None
    return shape


def _mapping(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {}


def _list(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else []


def _items(plot: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [item for item in _list(plot.get("items")) if isinstance(item, Mapping)]


def _text(given: Any) -> str:
    return given if isinstance(given, str) else ""


def _plain(text: str) -> str:
    """The text, as HDF5 can hold it."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and isfinite(given)


def _value(given: Any) -> Any:
    """The layout of a value that HDF5 can hold, or None."""
    if given is None or isinstance(given, Mapping):
        return None
    try:
        item = DataItem.validate_python(_plain(given) if isinstance(given, str) else given)
        item.decode()
    except (ValidationError, LayoutError, OverflowError, RecursionError):
        return None
    return item


# ---------------------------------------------------------------------------------- names

_NOT_IN_NAMES = re.compile(r"[\0/:\s]+")


def _safe(given: Any) -> str:
    """As a name in a file; empty if nothing is left."""
    if not isinstance(given, str):
        return ""
    name = _NOT_IN_NAMES.sub("_", _plain(given)).strip("_")
    return "" if name in ("", ".", "..") else name


def _short_names(wanted: list[list[str]]) -> list[str]:
    """For each its first wanted name that nobody else has as well; the last one, made unique, if
    there is none."""
    level = [0] * len(wanted)
    while True:
        names = [ones[n] for ones, n in zip(wanted, level, strict=True)]
        times = Counter(names)
        clashing = [
            i for i, name in enumerate(names) if times[name] > 1 and level[i] + 1 < len(wanted[i])
        ]
        if not clashing:
            break
        for i in clashing:
            level[i] += 1
    taken: dict[str, Any] = {}
    for name in names:
        taken[_free(name, taken)] = None
    return list(taken)


def _free(name: str, taken: Mapping[str, Any], *kept: str) -> str:
    """The name, with a number if it is taken, or kept for something else."""
    if name not in taken and name not in kept:
        return name
    n = 2
    while f"{name}_{n}" in taken:
        n += 1
    return f"{name}_{n}"
