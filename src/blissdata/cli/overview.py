"""What `ls` and `show` say about a scan, as values; and the few round trips that find it out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blissdata.cli.names import created_at
from blissdata.cli.text import age, moment, plain
from blissdata.exceptions import ScanLoadError, ScanNotFoundError, ScanValidationError

if TYPE_CHECKING:
    from blissdata import DataStore, Scan
    from blissdata.streams import BaseStream
    from blissdata.streams.entries import Tail
    from blissdata.streams.heartbeat import Life

__all__ = [
    "ScanRow",
    "StreamRow",
    "check_not_deleted",
    "lengths",
    "lost_publishers",
    "lost_text",
    "npoints_of",
    "quiet_library",
    "rows_of",
    "scan_row",
    "scan_rows",
    "stream_rows",
    "unit_of",
]

LIVES_AT_ONCE = 1000
"""How many scans' publishers are asked for in one round trip."""


@dataclass(frozen=True, slots=True)
class ScanRow:
    """One scan in a list."""

    key: str
    """Its key."""

    identity: Mapping[str, Any]
    """Its searchable fields."""

    state: str
    """`CREATED` … `CLOSED`; `?` if it cannot be loaded."""

    created: float | None = None
    """Unix time [s]; None if its key does not say."""

    age: float | None = None
    """Time since then [s]."""

    points: int = 0
    """How many points its longest stream has."""

    npoints: int | None = None
    """How many there will be, if its info says so."""

    streams: tuple[str, ...] = ()
    """The names of its streams, as far as they are known."""

    problem: str | None = None
    """Why it cannot be shown, or who has left it."""

    silence: float | None = None
    """Time since its publisher's last sign of life [s]; None if it gives none, or the scan is closed."""

    lost: bool = False
    """True if that is longer than a publisher that lives would take."""

    def as_json(self) -> dict[str, Any]:
        """For `--json`; the identity fields stand among the others."""
        return {
            "key": self.key,
            **{str(name): plain(found) for name, found in self.identity.items()},
            "state": self.state,
            "created": moment(self.created),
            "age": self.age,
            "points": self.points,
            "npoints": self.npoints,
            "streams": list(self.streams),
            "silence": None if self.silence is None else round(self.silence, 3),
            "lost": self.lost,
            **({"problem": self.problem} if self.problem else {}),
        }


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One stream of a scan."""

    name: str
    """Its name."""

    key: str
    """Its key."""

    kind: str | None = None
    """`array`, `json`, `scan`, or its plugin's word; None where that cannot be known here."""

    dtype: str | None = None
    """As numpy names it."""

    shape: tuple[int, ...] | None = None
    """That of one point; -1 for a dimension that varies."""

    unit: str | None = None
    """From the stream's info, else from the scan's `channels`."""

    points: int | None = None
    """How many were published so far, expired ones included."""

    sealed: bool | None = None
    """True if that is final."""

    expired: tuple[int, int] | None = None
    """Indices of the points that have left the server's memory, from … to (exclusive)."""

    plugin: str | None = None
    """Which plugin interprets it."""

    problem: str | None = None
    """Why it cannot be read here."""

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.name,
            "key": self.key,
            "kind": self.kind,
            "dtype": self.dtype,
            "shape": None if self.shape is None else list(self.shape),
            "unit": self.unit,
            "points": self.points,
            "sealed": self.sealed,
            "expired": None if self.expired is None else list(self.expired),
            "plugin": self.plugin,
            "problem": self.problem,
        }


# ---------------------------------------------------------------------------------- pure


def npoints_of(info: Mapping[str, Any]) -> int | None:
    """How many points the scan's info announces (of a sequence, how many scans); None if it does not,
    or says 0 for endless."""
    about = info.get("sequence_info")  # the points of a sequence are scans
    scans = about.get("scan_count") if isinstance(about, Mapping) else None
    for found in (info.get("npoints"), scans):
        if isinstance(found, int) and not isinstance(found, bool) and found > 0:
            return found
    return None


def unit_of(name: str, stream_info: Mapping[str, Any], scan_info: Mapping[str, Any]) -> str | None:
    """The unit of a stream, from its own info, else from the scan's `channels`."""
    channels = scan_info.get("channels")
    channel = channels.get(name) if isinstance(channels, dict) else None
    for source in (stream_info, channel):
        unit = source.get("unit") if isinstance(source, dict) else None
        if isinstance(unit, str) and unit:
            return unit
    return None


def lost_text(silence: float) -> str:
    """What is wrong with a scan whose publisher was silent for so long [s]."""
    return f"its publisher is lost: no sign of life for {age(silence)}"


def scan_row(scan: Scan, points: int, now: float, life: Life) -> ScanRow:
    """What a list says about a scan, at the time `now`."""
    created, silence = created_at(scan.key), life.silence
    return ScanRow(
        key=scan.key,
        identity=scan.identity,
        state=scan.state.name,
        created=created,
        age=None if created is None else round(max(0.0, now - created), 3),
        points=points,
        npoints=npoints_of(scan.info),
        streams=tuple(scan.streams),
        problem=lost_text(silence) if life.silent and silence is not None else None,
        silence=silence,
        lost=life.silent,
    )


# ---------------------------------------------------------------------------------- the server


@contextmanager
def quiet_library() -> Iterator[None]:
    """Keeps the library's warnings off the terminal: commands say themselves what is wrong."""
    import logging

    logger, handler = logging.getLogger("blissdata"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def rows_of(store: DataStore, keys: Sequence[str]) -> list[ScanRow]:
    """What there is to say about each scan; those that are deleted meanwhile are left out. A round
    trip for all documents, one for all streams, one for all publishers."""
    scans, broken = [], {}
    for key, found in store.load_scans(keys).items():
        if isinstance(found, ScanValidationError):
            broken[key] = ScanRow(key, {}, "?", problem=str(found))
        elif not isinstance(found, ScanLoadError):
            scans.append(found)
    rows = {row.key: row for row in scan_rows(store, scans)} | broken
    return [rows[key] for key in keys if key in rows]


def scan_rows(store: DataStore, scans: Sequence[Scan]) -> list[ScanRow]:
    """What a list says about each of the scans. Two round trips, more for streams whose points are
    not their events."""
    found = lengths(store, [stream for scan in scans for stream in scan.streams.values()])
    lives = store.scan_lives([scan.key for scan in scans])
    now = time.time()
    rows = []
    for scan in scans:
        points = max((found[s.key] or 0 for s in scan.streams.values()), default=0)
        rows.append(scan_row(scan, points, now, lives[scan.key]))
    return rows


def check_not_deleted(scan: Scan) -> None:
    """Of a scan that ended while it was looked at: raises `ScanNotFoundError` if that was because it was
    deleted. One round trip."""
    scan.update(block=False)
    if scan.info.get("end_reason") == "DELETION":  # closed by force, about to go
        raise ScanNotFoundError(f"Scan {scan.key} was deleted while it was being read")


def lost_publishers(store: DataStore, keys: Sequence[str] | None = None) -> dict[str, float]:
    """The open scans among these (None: all there are) whose publisher is lost, and for how long it has
    given no sign of life [s]. One round trip for each thousand scans, and one to find them; more where
    some are damaged."""
    keys = store.search_existing_scans()[1] if keys is None else keys
    lost = {}
    for start in range(0, len(keys), LIVES_AT_ONCE):
        for key, life in _lives(store, keys[start : start + LIVES_AT_ONCE]).items():
            if life.silent and life.silence is not None:
                lost[key] = life.silence
    return lost


def _lives(store: DataStore, keys: Sequence[str]) -> dict[str, Life]:
    """What is known of these scans; those that are damaged are left out."""
    try:
        return store.scan_lives(keys)
    except ScanLoadError:  # it does not say of which
        if len(keys) == 1:
            return {}
    middle = len(keys) // 2
    return _lives(store, keys[:middle]) | _lives(store, keys[middle:])


def lengths(store: DataStore, streams: Iterable[BaseStream]) -> dict[str, int | None]:
    """How many points each stream has, by key; None where that cannot be known here."""
    streams = list(streams)
    tails = _tails(store, streams)
    return {stream.key: _length(stream, tails[stream.key])[0] for stream in streams}


def stream_rows(store: DataStore, scan: Scan) -> list[StreamRow]:
    """What there is to say about each stream of a scan. Two round trips, more for streams whose
    points are not their events."""
    streams = list(scan.streams.values())
    tails = _tails(store, streams)
    starts = _starts(store, streams)
    return [
        _stream_row(stream, scan.info, tails[stream.key], starts.get(stream.key))
        for stream in streams
    ]


def _stream_row(
    stream: BaseStream, scan_info: Mapping[str, Any], tail: Tail | Exception, start: int | None
) -> StreamRow:
    points, problem = _length(stream, tail)
    described: dict[str, Any] = {}
    try:
        described = {
            "kind": stream.kind, "dtype": stream.dtype.name, "shape": tuple(stream.shape)
        }  # fmt: skip
    except Exception as error:  # noqa: BLE001 — a plugin may fail in any way, and fails alone
        problem = problem or _reason(error)
    expired = None
    if points and start is not None and _counts_events(stream):
        expired = (0, min(start, points)) if start else None
    return StreamRow(
        name=stream.name,
        key=stream.key,
        unit=unit_of(stream.name, stream.info, scan_info),
        points=points,
        sealed=None if isinstance(tail, Exception) else tail.sealed,
        expired=expired,
        plugin=stream.plugin,
        problem=problem,
        **described,
    )


def _counts_events(stream: BaseStream) -> bool:
    """True if the stream's points are its events, so that the server knows how many there are."""
    from blissdata.streams.default import Stream

    return isinstance(stream, Stream) or "plugin" not in stream.info


def _length(stream: BaseStream, tail: Tail | Exception) -> tuple[int | None, str | None]:
    """How many points the stream has, and what went wrong."""
    if isinstance(tail, Exception):
        return None, _reason(tail)
    if _counts_events(stream):
        return tail.length, None
    try:
        return len(stream), None
    except Exception as error:  # noqa: BLE001 — a plugin may fail in any way, and fails alone
        return None, _reason(error)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _tails(store: DataStore, streams: Sequence[BaseStream]) -> dict[str, Tail | Exception]:
    from blissdata.streams.event_log import SpanRequest

    keys = [stream.key for stream in streams]
    if not keys:
        return {}
    found = store.event_log.span([SpanRequest(key, only_tail=True) for key in keys])
    return {
        key: one if isinstance(one, Exception) else one[0]
        for key, one in zip(keys, found, strict=True)
    }


def _starts(store: DataStore, streams: Sequence[BaseStream]) -> dict[str, int]:
    """Index of the first point of each stream that the server still has; the length of a sealed
    stream that has none."""
    keys = [stream.key for stream in streams]
    found = store.event_log.read(dict.fromkeys(keys, 0), max_entries=1) if keys else {}
    starts: dict[str, int] = {}
    for key, one in found.items():
        if isinstance(one, Exception):
            continue
        if one.entries:
            starts[key] = one.entries[0].index
        elif one.seal is not None:
            starts[key] = one.seal
    return starts
