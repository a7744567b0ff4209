"""The plain stream, whose points are in its events; and the stand-ins for streams that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from blissdata.exceptions import IndexNoMoreThereError, MissingPluginException
from blissdata.streams.availability import Availability, EventBounds
from blissdata.streams.base import BaseStream, StreamDefinition
from blissdata.streams.copies import Copy, copy_of, joined, read_missing
from blissdata.streams.encoding.base import StreamEncoder
from blissdata.streams.encoding.json import JsonStreamEncoder
from blissdata.streams.encoding.numeric import NumericStreamEncoder
from blissdata.streams.entries import no_more_there
from blissdata.streams.event_stream import EventStream
from blissdata.streams.views import BaseView, EventRange

__all__ = ["BrokenPluginStream", "BrokenStream", "MissingPluginStream", "Stream", "View"]


class View(BaseView):
    """Points of a plain stream."""

    def __init__(
        self, event_range: EventRange, read_gone: Callable[[int, int], Any] | None = None
    ) -> None:
        """`read_gone(start, stop)` gives points that have left the server, by their index in the stream,
        if they are somewhere else."""
        self._events = event_range
        self._read_gone = read_gone

    @property
    def index(self) -> int:
        return self._events.index

    def __len__(self) -> int:
        return len(self._events)

    def get_data(self, start: int | None = None, stop: int | None = None) -> Any:
        """An array of shape `(points, *shape)`, or a list for JSON and for points whose shapes
        differ.

        Raises `IndexNoMoreThereError` if some of them are neither on the server nor anywhere else."""
        expired = self._events.nb_expired
        if start is stop is None and not expired:
            return self._events.data[:]
        first, last, _ = slice(start, stop).indices(len(self))
        if first < expired and first < last:
            gone = min(last, expired)
            if self._read_gone is None:
                raise no_more_there("This view", self.index + first, self.index + gone)
            old = self._read_gone(self.index + first, self.index + gone)
            if last <= expired:
                return old
            return joined([old, self._events.data[: last - expired]])
        return self._events.data[max(first - expired, 0) : max(last - expired, 0)]


class Stream(BaseStream):
    """A stream of numbers (any shape) or of JSON values, carried by the events themselves. Points that have
    left the server are read from the file of the scan, if a writer has saved them there."""

    def __init__(self, event_stream: EventStream, *, copies: bool = True) -> None:
        """Without `copies`, what has left the server is gone."""
        super().__init__(event_stream)
        self._copies = copies and type(self) is Stream

    @staticmethod
    def make_definition(
        name: str,
        dtype: DTypeLike | str,
        shape: Sequence[int] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> StreamDefinition:
        """What to give `scan.create_stream`. `dtype` is anything that numpy takes, or `"json"`;
        `shape` that of one point (None: scalars), -1 for dimensions that vary. `info` is copied.

        Raises `ValueError` for a shape with JSON, or a dtype that a stream cannot carry.
        """
        described = dict(info or {})
        encoder: StreamEncoder
        if isinstance(dtype, str) and dtype == "json":
            if shape is not None:
                raise ValueError(
                    f"Stream '{name}': JSON points have no shape, but {shape!r} was given"
                )
            encoder = JsonStreamEncoder()
        else:
            try:
                encoder = NumericStreamEncoder(dtype, () if shape is None else shape)
            except (TypeError, ValueError) as error:
                raise ValueError(f"Stream '{name}': {error}") from error
            described["dtype"] = encoder.dtype.name
            described["shape"] = encoder.shape
        return StreamDefinition(name, described, encoder)

    @property
    def kind(self) -> str:
        """`json` or `array`."""
        return "json" if self.dtype == object else "array"

    @property
    def plugin(self) -> str | None:
        return None

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.event_stream.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.event_stream.shape

    def __len__(self) -> int:
        """How many points were published so far, forgotten ones included. One round trip."""
        return len(self.event_stream)

    def __getitem__(self, key: int | slice) -> Any:
        """A point (numpy scalar, array or JSON value), or the points of a slice: an array whose
        first axis counts them, a list for JSON. One round trip, a few more and a look at a file for points
        that have left the server; never waits.

        Raises `IndexNotYetThereError`, `IndexNoMoreThereError`, `IndexWontBeThereError` (all
        `IndexError`); `TypeError` for anything but integers and slices. Negative indices have a
        meaning once the stream is sealed. A slice past the end gives what is there."""
        try:
            return self.event_stream[key]
        except IndexNoMoreThereError:
            copy = self._copy()
            if copy is None:
                raise
        return read_missing(self.event_stream, key, copy.read)

    def _copy(self) -> Copy | None:
        return copy_of(self.event_stream) if self._copies else None

    def _availability(self, events: EventBounds) -> Availability:
        """In memory, in the file that a writer has made, or gone. Of a class that builds on this one and says
        nothing itself, what is not in memory may be elsewhere."""
        copy = self._copy() if events.start else None
        saved = copy.holding(events) if copy is not None else None
        memory = events.in_memory()
        return Availability(
            self.name,
            self.key,
            events.length,
            events.sealed,
            (memory,) if saved is None else (memory, saved),
            complete=type(self) is Stream,
        )

    def _need_last_only(self, last_only: bool) -> bool:
        return last_only

    def _build_view_from_events(self, index: int, events: EventRange, last_only: bool) -> View:
        return View(events, self._read_gone if self._copies and events.nb_expired else None)

    def _read_gone(self, start: int, stop: int) -> Any:
        copy = self._copy()
        if copy is None:
            events = self.event_stream
            raise no_more_there(
                events.what, start, stop, events.scan_path if events.scan_saves else None
            )
        return copy.read(start, stop)


class BrokenStream(BaseStream):
    """In the place of a stream that cannot be made here: what its points would need raises
    `error`; its name, key and info, and the rest of the scan, work."""

    def __init__(self, event_stream: EventStream, error: Exception) -> None:
        super().__init__(event_stream)
        self._error = error

    def _fail(self) -> NoReturn:
        raise self._error

    @staticmethod
    def make_definition(*args: Any, **kwargs: Any) -> StreamDefinition:
        raise TypeError("A broken stream is never made on purpose")

    @property
    def kind(self) -> None:  # type: ignore[override] # programs sort streams by it; this is of none
        return None

    @property
    def plugin(self) -> str | None:
        plugin = self.info.get("plugin")
        return plugin if isinstance(plugin, str) else None

    @property
    def dtype(self) -> np.dtype[Any]:
        self._fail()

    @property
    def shape(self) -> tuple[int, ...]:
        self._fail()

    def __len__(self) -> int:  # noqa: PLE0303 — it never returns
        self._fail()

    def __getitem__(self, key: int | slice) -> Any:
        self._fail()

    def _availability(self, events: EventBounds) -> Availability:
        self._fail()

    def _need_last_only(self, last_only: bool) -> bool:
        self._fail()

    def _build_view_from_events(self, index: int, events: EventRange, last_only: bool) -> BaseView:
        self._fail()


class BrokenPluginStream(BrokenStream):
    """In the place of a stream whose plugin is there but does not work."""


class MissingPluginStream(BrokenStream):
    """In the place of a stream whose plugin is not installed."""

    def __init__(self, event_stream: EventStream, error: MissingPluginException) -> None:
        super().__init__(event_stream, error)
