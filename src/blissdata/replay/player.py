"""Publishes what was measured before as a running scan: a measurement from a file, or a recording.

    open_source → Measurement ─┐
                               ├─▶ create_scan → prepare → start → points at their pace → close
    open_recording → Recording ┘

Whatever happens, the scan is closed: as SUCCESS, as USER_ABORT after Ctrl-C, else as FAILURE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgpack

from blissdata.exceptions import (
    MissingPluginException,
    NoScanAvailable,
    PayloadError,
    RecordingError,
    SourceFileError,
)
from blissdata.replay.header import now, scan_info
from blissdata.replay.measurement import Channel, Measurement
from blissdata.replay.pacing import Clock, Pace, checked, recorded_times, schedule
from blissdata.replay.recording import (
    EndEvent,
    EntryEvent,
    Event,
    GapEvent,
    Recording,
    SealEvent,
    StateEvent,
    StreamHeader,
    StreamsEvent,
)
from blissdata.streams import plugins
from blissdata.streams.base import BaseStream, StreamDefinition
from blissdata.streams.encoding import EncodedBatch, StreamEncoder, encoder_from_info

if TYPE_CHECKING:
    from blissdata import DataStore, Scan

__all__ = ["Played", "next_number", "play", "play_recording"]

BLOCK = 4 * 2**20
"""How much of a channel is read from the file at once [bytes]."""

AT_ONCE = 2**20
"""How much is sent between two looks at the clock [bytes]."""

_EMPTY = EncodedBatch(msgpack.packb([[0], b""], use_bin_type=True))
"""A point without values, of a stream whose points vary in length (protocol 1, "Events")."""

Progress = Callable[[int, int], None]
"""Called with the number of points that were sent, of the longest stream, and how many it has."""

Began = Callable[["Scan"], None]
"""Called once the scan is known to readers."""


@dataclass(frozen=True, slots=True)
class Played:
    """A scan that was published."""

    key: str
    """Its key."""

    identity: Mapping[str, Any]
    """Its searchable fields."""

    points: Mapping[str, int]
    """Points of each stream, as the server confirmed them."""

    seconds: float
    """How long it took."""


def next_number(store: DataStore) -> int:
    """The number after that of the store's newest scan; 1 if there is none. Two round trips."""
    try:
        _, key = store.get_last_scan()
        number = store.load_scan(key).identity.get("number")
    except (NoScanAvailable, SourceFileError, LookupError, ValueError):
        return 1
    return max(number, 0) + 1 if isinstance(number, int) else 1


# ---------------------------------------------------------------------------------- a measurement


def play(
    store: DataStore,
    measurement: Measurement,
    identity: Mapping[str, Any],
    *,
    pace: Pace = "fast",
    progress: Progress | None = None,
    began: Began | None = None,
    clock: Callable[[], Clock] = Clock,
) -> Played:
    """Publishes the measurement as a scan under this identity, and waits until all has arrived.

    `pace` is in points per second (point `i` of every channel is sent `i / pace` after the start),
    or `"as-recorded"`: at the times that a channel of the file says; or `"fast"`. Channels are read
    from the file block by block. Raises `SourceFileError` if the file cannot be read any further or
    has no times, `ValueError` for what is no pace, and whatever publishing raises."""
    checked(pace)
    times = recorded_times(measurement) if pace == "as-recorded" else None
    with store.create_scan(identity, scan_info(measurement, identity)) as scan:
        feeds = [_Feed(measurement, channel, scan) for channel in measurement.channels]
        scan.prepare()
        if began is not None:
            began(scan)
        scan.start()
        size = sum(channel.point_nbytes for channel in measurement.channels)
        at_once = min(max(1, AT_ONCE // max(size, 1)), 4096)
        ticking = clock()
        npoints = measurement.npoints
        for start, stop in schedule(npoints, at_once, pace, times, ticking):
            for feed in feeds:
                feed.send(start, stop)
            if progress is not None:
                progress(stop, npoints)
        scan.stop()
        scan.info |= {"end_reason": "SUCCESS", "end_time": now()}
        scan.close()
        points = {feed.stream.name: feed.sent for feed in feeds}
        return Played(scan.key, scan.identity, points, ticking.now)


class _Feed:
    """One channel on its way into its stream, a block of the file at a time."""

    def __init__(self, measurement: Measurement, channel: Channel, scan: Scan) -> None:
        self._what = f"{measurement.label}: {channel.name}"
        self._channel = channel
        info: dict[str, Any] = {"dim": len(channel.shape)}
        if channel.unit:
            info["unit"] = channel.unit
        self.stream: BaseStream = scan.create_stream(
            channel.name,
            dtype="json" if channel.dtype is None else channel.dtype,
            shape=None if channel.dtype is None else channel.shape,
            info=info,
        )
        rows = max(1, BLOCK // max(channel.point_nbytes, 1))
        self._rows = -(-rows // channel.block) * channel.block
        self._one_by_one = channel.dtype is None or -1 in channel.shape
        self._block: Any = ()
        self._start = 0
        self.sent = 0

    def send(self, start: int, stop: int) -> None:
        """Sends the points from `start` to `stop` (exclusive), as far as there are any."""
        stop = min(stop, self._channel.points)
        while start < stop:
            if start >= self._start + len(self._block):
                self._read(start)
            piece = self._block[start - self._start : stop - self._start]
            if self._one_by_one:
                for point in piece:
                    self._send_one(point)
            else:
                self.stream.send(piece)
            start += len(piece)
            self.sent = start

    def _send_one(self, point: Any) -> None:
        events = self.stream.event_stream
        if self._channel.dtype is not None and not len(point) and events.sink is not None:
            events.sink.put(_EMPTY)  # `send` takes it for a mistake; in a file it is a point
        else:
            self.stream.send(point)

    def _read(self, start: int) -> None:
        stop = min(start + self._rows, self._channel.points)
        try:
            block = self._channel.read(start, stop)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise SourceFileError(
                f"{self._what} cannot be read from index {start} on: {error}"
            ) from error
        if len(block) != stop - start:
            raise SourceFileError(
                f"{self._what}: found {len(block)} points from index {start} on, expected "
                f"{stop - start}: the file changed while it was replayed"
            )
        self._block, self._start = block, start


# ---------------------------------------------------------------------------------- a recording


def play_recording(
    store: DataStore,
    recording: Recording,
    identity: Mapping[str, Any] | None = None,
    *,
    pace: Pace = "as-recorded",
    renumber: bool = False,
    progress: Progress | None = None,
    began: Began | None = None,
    clock: Callable[[], Clock] = Clock,
) -> Played:
    """Publishes a recording again: the same header, streams, and entries with the same points in
    each, in the same order. `identity` holds the fields that shall differ.

    A stream cannot begin at another index than 0, nor have a hole: points that had left the server
    when it was recorded raise `RecordingError`, unless `renumber` moves up those behind them. The
    whole file is looked through before anything is published. Raises `RecordingError` for one that
    is damaged, `UnknownEncodingError`, `MissingPluginException`, and whatever publishing raises."""
    checked(pace)
    summary = recording.check(_Preflight(recording).look)
    if summary.gaps and not renumber:
        stream, gap = next(iter(summary.gaps.items()))
        raise RecordingError(
            f"{recording.path}: {sum(summary.gaps.values())} points were no longer on the server "
            f"when it was recorded (first in stream '{stream}', {gap} points), and a stream has no "
            "holes. Renumbered (--renumber), the points behind them move up"
        )
    fields = {**recording.header.identity, **(identity or {})}
    longest = max(summary.points.values(), default=0)
    try:
        created = store.create_scan(fields, recording.header.info)
    except ValueError as error:  # pydantic's kind
        raise RecordingError(
            f"{recording.path}: its identity {fields} is not one of this store: {error}"
        ) from error
    with created as scan:
        player = _RecordingPlayer(scan, recording, began)
        ticking = clock()
        try:
            player.play(longest, pace, ticking, progress)
        except KeyboardInterrupt:
            scan.info["end_reason"] = "USER_ABORT"
            raise
        return Played(scan.key, scan.identity, player.sent, ticking.now)


class _Preflight:
    """Finds what cannot be published before anything is."""

    def __init__(self, recording: Recording) -> None:
        self._path = recording.path
        self._encoders: dict[str, StreamEncoder] = {}
        self._add(recording.header.streams)

    def look(self, event: Event) -> None:
        """Raises for an event that cannot be published."""
        if isinstance(event, StreamsEvent):
            self._add(event.streams)
        elif isinstance(event, EntryEvent):
            try:
                self._encoders[event.stream].decode(event.batch)
            except PayloadError as error:
                raise RecordingError(
                    f"{self._path}, line {event.line}: the payload for stream '{event.stream}' is "
                    f"not what its encoding says: {error}"
                ) from error

    def _add(self, streams: Mapping[str, StreamHeader]) -> None:
        for name, header in streams.items():
            self._encoders[name] = encoder_from_info(header.encoding, name)
            plugin = header.info.get("plugin")
            if isinstance(plugin, str) and plugin and plugin not in plugins.plugin_names():
                raise MissingPluginException(name, plugin, f"{self._path} cannot be replayed here")


class _RecordingPlayer:
    """Applies the events of a recording to a scan."""

    def __init__(self, scan: Scan, recording: Recording, began: Began | None) -> None:
        self._scan = scan
        self._recording = recording
        self._began = began
        self._streams: dict[str, BaseStream] = {}
        self.sent: dict[str, int] = {}
        self._create(recording.header.streams)

    def play(self, longest: int, pace: Pace, ticking: Clock, progress: Progress | None) -> None:
        """All events, each when it is due."""
        for event in self._recording.events():
            if pace == "as-recorded":
                ticking.wait_until(event.at)
            elif pace != "fast" and isinstance(event, EntryEvent):
                ticking.wait_until((event.index + event.batch.len - 1) / float(pace))
            self.apply(event)
            if progress is not None and isinstance(event, EntryEvent):
                progress(max(self.sent.values()), longest)

    def apply(self, event: Event) -> None:
        """One event, in the order of the file."""
        match event:
            case EntryEvent():
                self._put(event.stream, event.batch)
            case SealEvent():
                self._streams[event.stream].seal()
            case StateEvent():
                self._step(event)
            case StreamsEvent():
                self._create(event.streams)
            case EndEvent():
                self._end(event)
            case GapEvent():
                pass  # renumbered

    def _create(self, streams: Mapping[str, StreamHeader]) -> None:
        for name, header in streams.items():
            encoder = encoder_from_info(header.encoding, name)
            self._streams[name] = self._scan.create_stream(
                StreamDefinition(name, dict(header.info), encoder)
            )
            self.sent[name] = 0

    def _put(self, name: str, batch: EncodedBatch) -> None:
        events = self._streams[name].event_stream
        if events.sink is None:
            raise TypeError(f"{events.what} is not open for writing")
        events.sink.put_entry(batch)
        self.sent[name] += batch.len

    def _step(self, event: StateEvent) -> None:
        if event.info is not None:
            self._scan.info = dict(event.info)
        match event.state:
            case "PREPARED":
                self._scan.prepare()
                if self._began is not None:
                    self._began(self._scan)
            case "STARTED":
                self._scan.start()
            case "STOPPED":
                self._scan.stop()
            case "CLOSED":
                self._scan.close()

    def _end(self, event: EndEvent) -> None:
        """A recording that ended before the scan did leaves it to us to close it."""
        if self._scan.state != 4:
            self._scan.info["end_reason"] = "FAILURE"
            self._scan.info.setdefault("end_time", now())
            self._scan.close()
