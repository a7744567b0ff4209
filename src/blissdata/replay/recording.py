"""The recording of a scan as a file: its format, written and read. See docs/reference/recording.md.

JSON Lines: a header, then one event a line, in the order in which they happened. Nothing in here
knows a server, and nothing in a file is trusted: lengths, order, indices and types are checked line
by line, in the table `_READERS` and the rules of `_Rules`.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import json
import math
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, cast

from blissdata.exceptions import RecordingError
from blissdata.streams.encoding import EncodedBatch

__all__ = [
    "FORMAT",
    "VERSION",
    "EndEvent",
    "EntryEvent",
    "Event",
    "GapEvent",
    "Header",
    "Recording",
    "RecordingWriter",
    "SealEvent",
    "StateEvent",
    "StreamHeader",
    "StreamsEvent",
    "Summary",
    "is_recording",
    "open_recording",
    "write_atomically",
]

FORMAT = "blissdata recording"
"""The first thing that a recording says about itself."""

VERSION = 1
"""Grows with every change that an older reader would misread."""

STATES = ("CREATED", "PREPARED", "STARTED", "STOPPED", "CLOSED")
"""In this order; a scan may go to CLOSED from any."""

MAX_LINE = 4 * (512 * 2**20) // 3 + 2**16
"""Longest line [bytes]: the largest payload that a server takes, in base64, and what surrounds it."""

MAX_HEADER = 2**26
"""Longest header [bytes]: the info has 2**20 characters at most, each stream's info some more."""

MAX_AT = 10 * 366 * 86400.0
"""Latest time of an event, ten years after the start [s]: a replay may wait for it."""

MAX_INDEX = 2**63

_GZIP_MAGIC = b"\x1f\x8b"
_NONE: Mapping[str, Any] = MappingProxyType({})


# ---------------------------------------------------------------------------------- what is in it


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """A stream, without its points."""

    encoding: Mapping[str, Any]
    """As the scan document has it."""

    info: Mapping[str, Any]
    """The stream's metadata."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line."""

    identity: Mapping[str, Any]
    """The searchable fields."""

    info: Mapping[str, Any]
    """The scan's info as readers had it while it ran."""

    streams: Mapping[str, StreamHeader]
    """The streams that were there at PREPARED, in the scan's order."""

    key: str | None = None
    """The scan that was recorded; for people."""

    recorded: str | None = None
    """When, ISO 8601; for people."""


@dataclass(frozen=True, slots=True)
class _Timed:
    at: float
    """When it happened, seconds since the scan was created; never earlier than the event before."""

    estimated: bool
    """True if it was there before the recorder: then `at` is computed, not seen."""

    line: int
    """Its line in the file, from 1; 0 while it is written."""


@dataclass(frozen=True, slots=True)
class StateEvent(_Timed):
    """The scan reached a state."""

    state: str
    """One of `STATES`, but CREATED."""

    info: Mapping[str, Any] | None = None
    """The final info, with CLOSED, if it is not that of the header."""


@dataclass(frozen=True, slots=True)
class StreamsEvent(_Timed):
    """More streams, of which readers learned with the next step."""

    streams: Mapping[str, StreamHeader]
    """By name."""


@dataclass(frozen=True, slots=True)
class EntryEvent(_Timed):
    """Points arrived."""

    stream: str
    """Where."""

    index: int
    """Index of the first point."""

    batch: EncodedBatch
    """The points of one entry on the server."""


@dataclass(frozen=True, slots=True)
class GapEvent(_Timed):
    """Points that had left the server before they were recorded."""

    stream: str
    """Where."""

    index: int
    """Index of the first of them."""

    length: int
    """How many."""


@dataclass(frozen=True, slots=True)
class SealEvent(_Timed):
    """A stream ended."""

    stream: str
    """Which."""

    length: int
    """How many points it has, those in gaps included."""


@dataclass(frozen=True, slots=True)
class EndEvent(_Timed):
    """The last line."""

    complete: bool
    """True if the scan was CLOSED and everything up to there is in the file."""

    events: int
    """How many lines there are between the header and this one."""

    reason: str | None = None
    """Why it is not complete."""


Event = StateEvent | StreamsEvent | EntryEvent | GapEvent | SealEvent | EndEvent


@dataclass
class Summary:
    """What a recording holds, counted."""

    points: dict[str, int] = field(default_factory=dict)
    """Points of each stream that are in the file."""

    gaps: dict[str, int] = field(default_factory=dict)
    """Points of each stream that are not, for streams with gaps."""

    entries: int = 0
    """Entries of all streams."""

    events: int = 0
    """Lines between the header and the last one."""

    estimated: bool = False
    """True if the times of some entries are estimated."""

    seconds: float = 0.0
    """From the scan's creation to the last event."""

    complete: bool = False
    """True if the scan was recorded to its end."""

    reason: str | None = None
    """Why it is not complete."""


# ---------------------------------------------------------------------------------- written


class RecordingWriter:
    """Writes events to an open binary file, in the order in which they come."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self._file = file
        self._rules = _Rules(header.streams)
        line = {
            "format": FORMAT,
            "version": VERSION,
            "key": header.key,
            "recorded": header.recorded,
            "identity": dict(header.identity),
            "info": dict(header.info),
            "streams": _streams_json(header.streams),
        }
        self._write(line)

    @property
    def summary(self) -> Summary:
        """What was written so far."""
        return self._rules.summary

    def write(self, event: Event) -> None:
        """One event. A time before that of the event in front of it becomes that one. Raises
        `RecordingError` for an event that cannot follow."""
        self._rules.check(event, at_least=True)
        found: dict[str, Any] = {"event": _NAMES[type(event)], "at": round(self._rules.at, 6)}
        if event.estimated:
            found["estimated"] = True
        match event:
            case StateEvent():
                found["state"] = event.state
                if event.info is not None:
                    found["info"] = dict(event.info)
            case StreamsEvent():
                found["streams"] = _streams_json(event.streams)
            case EntryEvent():
                payload = base64.b64encode(event.batch.payload).decode("ascii")
                found |= {"stream": event.stream, "index": event.index, "len": event.batch.len}
                found["payload"] = payload
            case GapEvent():
                found |= {"stream": event.stream, "index": event.index, "len": event.length}
            case SealEvent():
                found |= {"stream": event.stream, "len": event.length}
            case EndEvent():
                found |= {"complete": event.complete, "events": event.events}
                if event.reason is not None:
                    found["reason"] = event.reason
        self._write(found)

    def end(self, *, complete: bool, reason: str | None = None) -> None:
        """The last line."""
        self.write(EndEvent(0.0, False, 0, complete, self.summary.events, reason))

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            text = json.dumps(line, allow_nan=False)
        except ValueError:  # some publishers store NaN, which is no JSON
            text = json.dumps(_without_nan(line), allow_nan=False)
        self._file.write(text.encode("ascii") + b"\n")


def _streams_json(streams: Mapping[str, StreamHeader]) -> dict[str, Any]:
    return {
        name: {"encoding": dict(one.encoding), "info": dict(one.info)}
        for name, one in streams.items()
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _without_nan(item) for name, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, list | tuple) else value


@contextmanager
def write_atomically(path: Path, *, overwrite: bool) -> Iterator[IO[bytes]]:
    """A file that gets its name once it is whole: when the block ends without an error. Compressed
    if the name ends in `.gz`. Raises `RecordingError` if there is a file of that name, unless
    `overwrite`, and `OSError`; then nothing is left."""
    _check_free(path, overwrite)
    try:
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part"
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    try:
        with os.fdopen(handle, "wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                    yield cast(IO[bytes], packed)
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        _check_free(path, overwrite)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _check_free(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise RecordingError(f"{path} is a directory, expected the name of a file to write")
    if not overwrite and path.exists():
        raise RecordingError(
            f"{path} exists already: choose another name, or overwrite it (--force)"
        )


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


# ---------------------------------------------------------------------------------- read


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording on disk, of which the header was read."""

    path: Path
    """Where it is."""

    header: Header
    """Its first line."""

    def events(self) -> Iterator[Event]:
        """The events in order, each checked against those before it. Raises `RecordingError` naming
        the line that cannot be."""
        with _open(self.path) as file:
            _next_line(self.path, file, 1, MAX_HEADER)
            rules = _Rules(self.header.streams)
            for number in _count_from(2):
                text = _next_line(self.path, file, number, MAX_LINE)
                if not text:
                    raise RecordingError(
                        f"{self.path} ends after line {number - 1} without the event 'end', as every "
                        "recording has it: it was cut short. Copy it again"
                    )
                event = _in_line(self.path, number, lambda: _event(_object(text), number))  # noqa: B023 — called at once
                _in_line(self.path, number, lambda: rules.check(event))  # noqa: B023
                yield event
                if isinstance(event, EndEvent):
                    break
            if _next_line(self.path, file, number + 1, MAX_LINE):
                raise RecordingError(f"{self.path}, line {number + 1}: found a line after the end")

    def check(self, look: Callable[[Event], None] | None = None) -> Summary:
        """Reads the whole file and gives what it holds; `look` sees every event. Raises as `events`
        does."""
        rules = _Rules(self.header.streams)
        for event in self.events():
            rules.check(event)
            if look is not None:
                look(event)
        return rules.summary


def is_recording(path: str | os.PathLike[str]) -> bool:
    """True if the file says of itself that it is a recording; False also for one that cannot be
    read."""
    try:
        with _open(Path(path)) as file:
            head = file.read(256)
    except (OSError, EOFError, zlib.error):
        return False
    return head.lstrip()[:1] == b"{" and FORMAT.encode() in head


def open_recording(path: str | os.PathLike[str]) -> Recording:
    """The recording in a file, compressed or not. Raises `RecordingError`."""
    path = Path(path)
    try:
        with _open(path) as file:
            text = _next_line(path, file, 1, MAX_HEADER)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error}") from error
    return Recording(path, _in_line(path, 1, lambda: _header(_object(text))))


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    with open(path, "rb") as raw:
        packed = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=raw, mode="rb") as unpacked:
                yield io.BufferedReader(unpacked)
        else:
            yield raw


def _next_line(path: Path, file: IO[bytes], number: int, limit: int) -> bytes:
    """The line with its end; empty at the end of the file."""
    try:
        text = file.readline(limit)
    except (OSError, EOFError, zlib.error) as error:
        raise RecordingError(f"{path}, line {number}: cannot be unpacked: {error}") from error
    if text and not text.endswith(b"\n"):
        found = f"more than {limit} bytes" if len(text) == limit else f"{len(text)} bytes"
        raise RecordingError(
            f"{path}, line {number}: found {found} without a line end, expected a whole line: the "
            "file was cut short or damaged. Copy it again"
        )
    return text


def _count_from(number: int) -> Iterator[int]:
    while True:
        yield number
        number += 1


def _in_line(path: Path, number: int, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (RecordingError, RecursionError) as error:
        what = "nested too deep" if isinstance(error, RecursionError) else error
        raise RecordingError(f"{path}, line {number}: {what}") from error


# ---- lines to values


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise RecordingError(f"found {text[:40]!r}…, expected JSON ({error})") from error
    if not isinstance(found, dict):
        raise RecordingError(f"found a {type(found).__name__}, expected a JSON object")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _header(raw: Mapping[str, Any]) -> Header:
    if raw.get("format") != FORMAT:
        raise RecordingError(
            f'found {str(raw.get("format"))[:40]!r} as format, expected "{FORMAT}"'
        )
    version = _whole(raw, "version", 1)
    if version > VERSION:
        raise RecordingError(
            f"found version {version} of the format, this program reads up to {VERSION}: update it"
        )
    return Header(
        identity=_dict(raw, "identity"),
        info=_dict(raw, "info"),
        streams=_streams(_dict(raw, "streams")),
        key=_optional_text(raw, "key"),
        recorded=_optional_text(raw, "recorded"),
    )


def _streams(raw: Mapping[str, Any]) -> dict[str, StreamHeader]:
    found = {}
    for name, one in raw.items():
        if not isinstance(one, dict):
            raise RecordingError(f"found no object for the stream {name[:60]!r}")
        _check_text(name)
        found[name] = StreamHeader(_dict(one, "encoding"), _dict(one, "info"))
    return found


def _event(raw: Mapping[str, Any], line: int) -> Event:
    kind = raw.get("event")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise RecordingError(
            f"found the event {str(kind)[:40]!r}, expected one of {', '.join(_READERS)}"
        )
    at = raw.get("at")
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at <= MAX_AT:
        raise RecordingError(f"found {str(at)[:40]} as 'at', expected seconds from 0 to {MAX_AT:g}")
    return read(raw, float(at), raw.get("estimated") is True, line)


def _state(raw: Mapping[str, Any], at: float, estimated: bool, line: int) -> StateEvent:
    state = _text(raw, "state")
    if state not in STATES[1:]:
        raise RecordingError(f"found the state {state[:40]!r}, expected one of {STATES[1:]}")
    info = _dict(raw, "info") if "info" in raw else None
    return StateEvent(at, estimated, line, state, info)


def _more_streams(raw: Mapping[str, Any], at: float, estimated: bool, line: int) -> StreamsEvent:
    return StreamsEvent(at, estimated, line, _streams(_dict(raw, "streams")))


def _entry(raw: Mapping[str, Any], at: float, estimated: bool, line: int) -> EntryEvent:
    try:
        payload = base64.b64decode(_text(raw, "payload"), validate=True)
    except (binascii.Error, ValueError) as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(f"found a payload that is no base64 ({error})") from error
    batch = EncodedBatch(payload, _whole(raw, "len", 1))
    return EntryEvent(at, estimated, line, _text(raw, "stream"), _whole(raw, "index", 0), batch)


def _gap(raw: Mapping[str, Any], at: float, estimated: bool, line: int) -> GapEvent:
    index, length = _whole(raw, "index", 0), _whole(raw, "len", 1)
    return GapEvent(at, estimated, line, _text(raw, "stream"), index, length)


def _seal(raw: Mapping[str, Any], at: float, estimated: bool, line: int) -> SealEvent:
    return SealEvent(at, estimated, line, _text(raw, "stream"), _whole(raw, "len", 0))


def _end(raw: Mapping[str, Any], at: float, estimated: bool, line: int) -> EndEvent:
    if not isinstance(raw.get("complete"), bool):
        raise RecordingError("found no 'complete', expected true or false")
    reason = _optional_text(raw, "reason")
    return EndEvent(at, estimated, line, raw["complete"], _whole(raw, "events", 0), reason)


_READERS: dict[str, Callable[[Mapping[str, Any], float, bool, int], Event]] = {
    "state": _state,
    "streams": _more_streams,
    "entry": _entry,
    "gap": _gap,
    "seal": _seal,
    "end": _end,
}

_NAMES: dict[type, str] = {
    StateEvent: "state",
    StreamsEvent: "streams",
    EntryEvent: "entry",
    GapEvent: "gap",
    SealEvent: "seal",
    EndEvent: "end",
}


def _dict(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = raw.get(name)
    if not isinstance(found, dict):
        raise RecordingError(f"found {type(found).__name__} as '{name}', expected an object")
    return found


def _text(raw: Mapping[str, Any], name: str) -> str:
    found = raw.get(name)
    if not isinstance(found, str):
        raise RecordingError(f"found {type(found).__name__} as '{name}', expected a text")
    return found


def _optional_text(raw: Mapping[str, Any], name: str) -> str | None:
    return None if raw.get(name) is None else _text(raw, name)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RecordingError(f"found half a character in the name {text[:60]!r}") from error


def _whole(raw: Mapping[str, Any], name: str, least: int) -> int:
    found = raw.get(name)
    if isinstance(found, bool) or not isinstance(found, int) or not least <= found < MAX_INDEX:
        raise RecordingError(
            f"found {str(found)[:40]} as '{name}', expected a whole number not below {least}"
        )
    return found


# ---------------------------------------------------------------------------------- the rules


class _Rules:
    """What may follow what: the same when writing and when reading."""

    def __init__(self, streams: Mapping[str, StreamHeader]) -> None:
        self.summary = Summary(points=dict.fromkeys(streams, 0))
        self.at = 0.0
        self._ends = dict.fromkeys(streams, 0)
        self._sealed: set[str] = set()
        self._state = "CREATED"
        self._ended = False

    def check(self, event: Event, *, at_least: bool = False) -> None:
        """Books the event. Raises `RecordingError` if it cannot follow those before it. With
        `at_least`, time may not run backwards and is not taken to."""
        if self._ended:
            raise RecordingError("found an event after the end")
        if event.at < self.at and not at_least:
            raise RecordingError(f"found {event.at} as 'at', but the event before has {self.at}")
        self.at = max(self.at, event.at)
        match event:
            case StateEvent():
                self._step(event)
            case StreamsEvent():
                self._add(event.streams)
            case EntryEvent():
                self._advance(event.stream, event.index, event.batch.len)
                self.summary.points[event.stream] += event.batch.len
                self.summary.entries += 1
                self.summary.estimated |= event.estimated
            case GapEvent():
                self._advance(event.stream, event.index, event.length)
                gaps = self.summary.gaps
                gaps[event.stream] = gaps.get(event.stream, 0) + event.length
            case SealEvent():
                self._advance(event.stream, event.length, 0)
                self._sealed.add(event.stream)
            case EndEvent():
                self._end(event)
                return
        self.summary.events += 1
        self.summary.seconds = self.at

    def _step(self, event: StateEvent) -> None:
        expected = STATES.index(self._state) + 1
        if event.state != "CLOSED" and STATES.index(event.state) != expected:
            raise RecordingError(f"found the state {event.state} after {self._state}")
        if self._state == "CLOSED":
            raise RecordingError(f"found the state {event.state} after CLOSED")
        if event.info is not None and event.state != "CLOSED":
            raise RecordingError(f"found an 'info' with {event.state}: only CLOSED has one")
        self._state = event.state

    def _add(self, streams: Mapping[str, StreamHeader]) -> None:
        if self._state in ("STOPPED", "CLOSED"):
            raise RecordingError(f"found new streams after {self._state}")
        for name in streams:
            if name in self._ends:
                raise RecordingError(f"found the stream {name[:60]!r} a second time")
            self._ends[name] = self.summary.points[name] = 0

    def _advance(self, stream: str, index: int, length: int) -> None:
        if stream not in self._ends:
            raise RecordingError(f"found the stream {stream[:60]!r}, which no header names")
        if stream in self._sealed:
            raise RecordingError(f"found points of '{stream}' after its seal")
        if self._state in ("STOPPED", "CLOSED"):
            raise RecordingError(f"found points of '{stream}' after {self._state}")
        if self._ends[stream] != index:
            raise RecordingError(
                f"found index {index} of '{stream}', expected {self._ends[stream]}, where it ended"
            )
        self._ends[stream] += length

    def _end(self, event: EndEvent) -> None:
        if event.events != self.summary.events:
            raise RecordingError(
                f"found {self.summary.events} events before the end, which says {event.events}: "
                "lines are missing"
            )
        if event.complete and self._state != "CLOSED":
            raise RecordingError(f"found the end of a complete recording after {self._state}")
        self._ended = True
        self.summary.complete, self.summary.reason = event.complete, event.reason
