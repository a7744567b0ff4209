"""What a replayed measurement says about itself: its `scan_info`, pure data.

One device, `replay`, is at the top and holds the scalar channels; each channel that a group of its
own in the file measured, or that has spectra over an axis, is a device below it. Fields:
docs/reference/scan_info.md.
"""

from __future__ import annotations

import datetime
import getpass
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blissdata.replay.measurement import MAX_AXIS, Channel, Measurement, XAxis

__all__ = ["now", "scan_info"]

MASTER = "replay"
"""The device at the top of the acquisition chain."""

MAX_DIM = 2
"""Points of more dimensions are published, but `channels` has no word for them."""

MAX_LIMITS = 10**6
"""The least and greatest value of an axis are looked for in so many points at most."""


def now() -> str:
    """The time as the header writes it: ISO 8601 with the time zone."""
    return datetime.datetime.now(datetime.UTC).astimezone().isoformat()


def scan_info(measurement: Measurement, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The header with which the measurement is published under this identity."""
    shown = [c for c in measurement.channels if len(c.shape) <= MAX_DIM]
    info: dict[str, Any] = {
        "title": measurement.title,
        "type": _type(measurement),
        "scan_nb": max(1, int(identity.get("number") or 1)),
        "start_time": now(),
        "npoints": measurement.npoints,
        "save": False,
        "session_name": identity.get("session") or "replay",
        "user_name": _user(),
        "data_policy": identity.get("data_policy") or "none",
        "data_writer": "null",
        "publisher": "blissdata replay",
        "publisher_version": _version(),
        "acquisition_chain": {MASTER: {"top_master": MASTER}},
        "devices": _devices(shown),
        "channels": {c.name: _channel(measurement, c) for c in shown},
        "plots": _plots(measurement, shown),
        "replay": {
            "file": Path(measurement.source).name,
            "entry": measurement.name,
            "start_time": measurement.start_time,
            "end_time": measurement.end_time,
        },
    }
    if measurement.positioners:
        info["positioners"] = {"positioners_start": dict(measurement.positioners)}
    return info


def _type(measurement: Measurement) -> str:
    """The first word of a command such as `ascan th 0 1 100 0.1`; else the kind of thing it is."""
    words = measurement.title.split()
    is_command = len(words) > 1 and words[0].isidentifier() and measurement.name[:1].isdigit()
    return words[0] if is_command else "replay"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def _version() -> str:
    from blissdata import __version__

    return __version__


def _channel(measurement: Measurement, channel: Channel) -> dict[str, Any]:
    found: dict[str, Any] = {
        "dim": len(channel.shape),
        "display_name": channel.display_name or channel.name,
        "points": channel.points,
    }
    if channel.unit:
        found["unit"] = channel.unit
    if channel.name in measurement.axes:
        found["axis_id"] = list(measurement.axes).index(channel.name)
        found |= _limits(channel)
    return found


def _limits(channel: Channel) -> dict[str, float]:
    if not 0 < channel.points <= MAX_LIMITS or channel.dtype is None or channel.dtype.kind == "c":
        return {}
    values = np.asarray(channel.read(0, channel.points), np.float64)
    found = {"start": values[0], "stop": values[-1]}
    finite = values[np.isfinite(values)]
    if len(finite):
        found |= {"min": finite.min(), "max": finite.max()}
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def _devices(channels: Sequence[Channel]) -> dict[str, Any]:
    below: dict[str, dict[str, Any]] = {}
    scalars: list[str] = []
    room = MAX_AXIS
    for channel in channels:
        device = channel.device or (channel.name if channel.x_axis else None)
        if device is None:
            scalars.append(channel.name)
            continue
        name = f"{device} device" if device == MASTER else device
        entry = below.setdefault(name, {"name": name, "channels": []})
        entry["channels"].append(channel.name)
        if channel.x_axis is not None:
            values = channel.x_axis.values
            fits = values is not None and len(values) <= room and np.isfinite(values).all()
            room -= len(values) if fits and values is not None else 0
            entry |= _x_axis(channel.x_axis, fits)
    top: dict[str, Any] = {"name": MASTER, "channels": scalars}
    if below:
        top["triggered_devices"] = list(below)
    return {MASTER: top, **below}


def _x_axis(axis: XAxis, fits: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"metadata": {"x_axis": {"channel": axis.channel, "edges": axis.edges}}}
    if fits and axis.values is not None:
        found["xaxis_array"] = axis.values.tolist()
    elif not axis.edges:
        found["xaxis_channel"] = axis.channel
    if axis.label:
        found["xaxis_array_label"] = axis.label
    if axis.unit:
        found["xaxis_array_unit"] = axis.unit
    return found


def _plots(measurement: Measurement, channels: Sequence[Channel]) -> list[dict[str, Any]]:
    """Curves of the scalars over the axis, or a scatter over two; the spectra of each device."""
    axes = list(measurement.axes)
    drawn = [c for c in channels if c.dtype is not None and c.dtype.kind != "c"]
    values = [c.name for c in drawn if not c.shape and c.points > 1 and c.name not in axes]
    plots: list[dict[str, Any]] = []
    if len(axes) == 2 and values:
        items = [{"kind": "scatter", "x": axes[0], "y": axes[1], "value": v} for v in values]
        plots.append({"kind": "scatter-plot", "name": "map", "items": items})
    elif axes and values:
        curves = [{"kind": "curve", "x": axes[0], "y": v, "y_axis": "left"} for v in values]
        plots.append({"kind": "curve-plot", "name": "curves", "items": curves})
    used_as_axis = {c.x_axis.channel for c in channels if c.x_axis is not None}
    for channel in drawn:
        if len(channel.shape) == 1 and channel.name not in used_as_axis:
            curve = {"kind": "curve", "y": channel.name}
            plots.append({"kind": "1d-plot", "name": channel.name, "items": [curve]})
    return plots
