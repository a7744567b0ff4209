"""The registry over the entry-point group `blissdata`: collect early, load late, fail softly.

An entry is a module with `stream_cls` (called with the event stream) and `view_cls`. A plugin that
is missing or broken takes nothing with it but its own streams.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

from blissdata.exceptions import MissingPluginException
from blissdata.streams.base import BaseStream
from blissdata.streams.default import (
    BrokenPluginStream,
    BrokenStream,
    MissingPluginStream,
    Stream,
)
from blissdata.streams.event_stream import EventStream

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["create_stream", "open_stream", "plugin_names"]

_logger = logging.getLogger(__name__)

GROUP = "blissdata"

_EXTRAS = {"lima2": 'pip install "blissdata[lima2]"', "mosca": "pip install blissdata-mosca"}
"""What brings a plugin that is known not to be part of this package."""


def plugin_names() -> list[str]:
    """The plugins that are installed, loaded or not."""
    return sorted(_entry_points())


def create_stream(event_stream: EventStream) -> BaseStream:
    """The stream for a publisher. Raises `MissingPluginException`, or what the plugin raises."""
    name = _plugin_of(event_stream)
    return Stream(event_stream) if name is None else _plugin_stream(event_stream, name)


def open_stream(event_stream: EventStream) -> BaseStream:
    """The stream for a reader. A plugin that is missing or fails gives a stand-in and a warning."""
    name = _plugin_of(event_stream)
    if name is None:
        return Stream(event_stream)
    try:
        return _plugin_stream(event_stream, name)
    except MissingPluginException as error:
        _logger.warning("%s", error)
        return MissingPluginStream(event_stream, error)
    except Exception as error:  # noqa: BLE001 — a plugin may fail in any way, and fails alone
        _logger.warning("%s: its plugin '%s' does not work: %r", event_stream.what, name, error)
        return BrokenPluginStream(event_stream, error)


def broken_stream(event_stream: EventStream, error: Exception) -> BrokenStream:
    """A stand-in for a stream that cannot be read for another reason, and a warning."""
    _logger.warning("%s", error)
    return BrokenStream(event_stream, error)


_OLDER_FORMATS = {"lima_v1": "lima", "lima_v2": "lima2", "subscan": "scan_sequence"}
"""How publishers that knew no plugins yet marked their JSON streams (protocol 1, "Streams with
plugins")."""


def _plugin_of(event_stream: EventStream) -> str | None:
    info = event_stream.info
    name = info.get("plugin")
    if name:
        return name if isinstance(name, str) else None
    kind = event_stream.encoding.get("type")
    if kind == "json":
        form = info.get("format")
        return _OLDER_FORMATS.get(form) if isinstance(form, str) else None
    if kind == "numeric" and info.get("data_path") and event_stream.scan_saves:
        return "hdf5_fallback"
    return None


def _plugin_stream(event_stream: EventStream, plugin: str) -> BaseStream:
    entry = _entry_points().get(plugin)
    if entry is None:
        hint = _EXTRAS.get(plugin, f"install the package that provides '{plugin}'")
        raise MissingPluginException(event_stream.name, plugin, hint)
    module: Any = entry.load()
    stream: Any = module.stream_cls(event_stream)
    if not isinstance(stream, BaseStream):
        raise TypeError(
            f"the stream_cls of plugin '{plugin}' gave a {type(stream).__name__}, which is not a "
            "BaseStream"
        )
    return stream


@cache
def _entry_points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # slow to import, and most streams need no plugin

    return {entry.name: entry for entry in entry_points(group=GROUP)}
