"""What every stream is: the class that plugins subclass."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from blissdata.streams.availability import Availability, EventBounds, Place
from blissdata.streams.cursor import Cursor, CursorGroup
from blissdata.streams.encoding import StreamEncoder
from blissdata.streams.event_stream import EventStream
from blissdata.streams.heartbeat import LostPublisher
from blissdata.streams.views import BaseView, EventRange
from blissdata.streams.where import availability, wait_available

__all__ = ["BaseStream", "BaseView", "Cursor", "CursorGroup", "EventRange", "StreamDefinition"]


@dataclass
class StreamDefinition:
    """What `scan.create_stream` needs to make a stream."""

    name: str
    """Unique in the scan."""

    info: dict[str, Any]
    """Metadata of the stream (JSON); `plugin` names the entry point that interprets it."""

    encoder: StreamEncoder
    """How its points travel."""


PATIENCE = 10.0
"""A plugin that took so long to say how many points there are is left alone so many times as long."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a plugin said, when it was asked for the length of a stream."""

    at: float
    """When, on the monotonic clock [s]."""

    took: float
    """How long that took [s]."""

    length: int | Exception
    """What it said, or raised."""

    @classmethod
    def of(cls, stream: BaseStream, now: float) -> _Asked:
        """Asks it. May take as long as it likes."""
        length: int | Exception
        try:
            length = len(stream)
        except Exception as error:  # noqa: BLE001 — a plugin may fail in any way; raised to who asks
            length = error
        return cls(now, time.monotonic() - now, length)


class BaseStream(ABC):
    """A named stream of a scan. Plugins subclass it; see `docs/explanations/design.md`.

    The constructor takes one argument, the `EventStream`.
    """

    def __init__(self, event_stream: EventStream) -> None:
        self._event_stream = event_stream

    # ---- what a plugin defines

    @property
    @abstractmethod
    def kind(self) -> str:
        """What the points are: `array`, `json`, `scan`, or the plugin's own word."""

    @property
    @abstractmethod
    def plugin(self) -> str | None:
        """The entry point that interprets the stream; None for a plain one."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """dtype of a point."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one point."""

    @staticmethod
    @abstractmethod
    def make_definition(*args: Any, **kwargs: Any) -> StreamDefinition:
        """What to give `scan.create_stream` for such a stream."""

    @abstractmethod
    def __len__(self) -> int:
        """How many points there are, or were."""

    @abstractmethod
    def __getitem__(self, key: int | slice) -> Any:
        """A point, or the points of a slice. Never waits."""

    @abstractmethod
    def _need_last_only(self, last_only: bool) -> bool:
        """True if the newest event is enough to build the view that a cursor was asked for."""

    @abstractmethod
    def _build_view_from_events(self, index: int, events: EventRange, last_only: bool) -> BaseView:
        """The view over `events`, which are never empty, for a cursor at point `index`; the cursor
        then stands at `view.index + len(view)`. Raises `EmptyViewException`: no view yet."""

    # ---- what a plugin may define

    _asks_for_newest: ClassVar[bool] = False
    """True if `_availability` needs the newest event."""

    def _availability(self, events: EventBounds) -> Availability:
        """Where the points are, given what the server says of the events. May look at files (as
        `events.looks` allows) and ask whom it must, but not long: it is called ten times a second.

        This one, for plugins that define none, tells how many points there are, and nothing of where.
        Some ask a detector for that, which may take long: then it is not asked often."""
        now = time.monotonic()
        asked = self._asked_for_length
        age = None if asked is None else now - asked.at - PATIENCE * asked.took
        if asked is None or events.looks.may_look(age):
            asked = self._asked_for_length = _Asked.of(self, now)
            events.looks.took(asked.took)
        if isinstance(asked.length, Exception):
            raise asked.length
        return Availability(self.name, self.key, asked.length, events.sealed, complete=False)

    _asked_for_length: _Asked | None = None

    def before_seal(self) -> None:  # noqa: B027 — a plugin may define it, most have nothing to do
        """Called where points are written, before the stream is sealed: what was sent by another path than
        the server must be complete by then. May wait. What it raises keeps the scan from going on, once."""

    # ---- what every stream has

    @property
    def name(self) -> str:
        """The stream's name in its scan."""
        return self._event_stream.name

    @property
    def key(self) -> str:
        """The stream's key on the server."""
        return self._event_stream.key

    @property
    def info(self) -> dict[str, Any]:
        """The stream's metadata."""
        return self._event_stream.info

    @property
    def event_stream(self) -> EventStream:
        """The events underneath."""
        return self._event_stream

    def cursor(self, *, lost_publisher: LostPublisher | str | None = None) -> Cursor:
        """A reader's place in the stream, at its first point. `lost_publisher` says what it means to
        this reader that the publisher is lost: `"error"` or `"end"` (None: as the store has it)."""
        return Cursor(self, lost_publisher=lost_publisher)

    def send(self, data: Any) -> None:
        """Adds one point or a batch, and returns at once; see `EventStream.send`."""
        self._event_stream.send(data)

    def join(self) -> None:
        """Waits until the server has confirmed everything sent before; see `EventStream.join`."""
        self._event_stream.join()

    def seal(self) -> int:
        """Ends the stream for good and gives its length; see `EventStream.seal`."""
        return self._event_stream.seal()

    def is_sealed(self) -> bool:
        """True if the length is final. One round trip."""
        return self._event_stream.is_sealed()

    def wait_seal(self, timeout: float = 0) -> bool:
        """Waits for the seal, `timeout` [s] at most (0: for ever); see `EventStream.wait_seal`."""
        return self._event_stream.wait_seal(timeout)

    def availability(self) -> Availability:
        """Which points are where now: on the server, in a file (which), with the detector, published
        but nowhere readable yet, gone. One round trip, a few more for some plugins, and a look at
        each file; never waits. For many streams at once: `scan.availability()`, or
        `blissdata.streams.availability_of`.

        Raises `StreamVanishedError` if the scan was deleted, and what is wrong with a stream whose
        plugin is missing or broken."""
        return availability(self)

    def wait_available(
        self,
        wanted: int | range,
        place: Place | str | None = None,
        timeout: float | None = None,
    ) -> Availability:
        """Waits until the point at that index, or all points of the range, can be read: from the place
        (`"memory"`, `"file"`, `"detector"`), or from any. Gives the availability then.

        `timeout` [s] bounds it (None: for ever; 0 does not wait). The server wakes it; only files are
        looked at, ten times a second. Raises `DataTimeoutError` when the time is up;
        `IndexWontBeThereError` if the stream is sealed before; `IndexNoMoreThereError` if a point will
        not come (any more), saying why and where else it is; `StreamAbandonedError`,
        `StreamVanishedError` and `PublisherLostError` as readers do; `ValueError` for a negative index,
        and for a place that such a stream does not have."""
        return wait_available(self, wanted, place, timeout)

    def __iter__(self) -> Iterator[Any]:
        """The points one by one, from the first on; waits for new ones until the stream ends."""
        for view in self.cursor():
            yield from view

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.key}>"


_OF_DEFAULT = frozenset(
    {"BrokenPluginStream", "BrokenStream", "MissingPluginStream", "Stream", "View"}
)
"""Names that programs written for blissdata 2.x import from here."""


def __getattr__(name: str) -> Any:
    """The plain stream and its kin, which are in `blissdata.streams.default`, above this module."""
    if name not in _OF_DEFAULT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("blissdata.streams.default"), name)
