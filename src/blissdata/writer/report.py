"""What a writer says of itself on the server: which scans it writes, how far it is, what has failed. Pure
but for the two functions at the end.

`blissdata status` shows it. It stays when the writer has ended: the next one learns from it which scans
have failed, and up to which scan everything was taken in hand.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from blissdata.redis_engine.store import DataStore

__all__ = [
    "PIN",
    "SILENT_AFTER_S",
    "Event",
    "EventKind",
    "Report",
    "ScanReport",
    "read_report",
    "tell",
    "what_now",
]

PIN = "writer"
"""Name of the pin by which points stay on the server until they are in the file."""

KEPT_S = 100 * 86400.0
"""How long it stays on the server [s]."""

SILENT_AFTER_S = 15.0
"""A writer that said nothing for so long does not run any more [s]."""

MOST_REMARKS = 5
"""Remarks that are told of one scan; of more it gives the number."""


@dataclass(frozen=True, slots=True)
class ScanReport:
    """How far one scan is."""

    scan: str
    """Key of the scan."""

    number: Any
    """Its number."""

    files: Sequence[str]
    """Where it is written, as `file::/entry`."""

    outcome: str
    """`waiting`, `writing`, `failed`."""

    points: int = 0
    """Points in the file, of all streams."""

    behind: int = 0
    """Points that were published and are not there yet."""

    reason: str = ""
    """Why it failed."""

    remarks: Sequence[str] = ()
    """Items that were left out, and why."""


EventKind: TypeAlias = Literal["begun", "progress", "written", "failed", "stopped"]
"""`stopped`: the writer ends before the scan does, and the next one goes on."""


@dataclass(frozen=True, slots=True)
class Event:
    """What has just become of one scan."""

    kind: EventKind

    scan: ScanReport
    """How far it is."""

    expected: int | None = None
    """How many points, of all streams, it will have, if it says so."""

    at: float = field(default_factory=time.time)
    """When it was noticed [Unix time, s]."""

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps(
            {"event": self.kind, "at": self.at, **asdict(self.scan), "expected": self.expected}
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What a writer says of itself."""

    writer: str
    """Which program it is, for people."""

    roots: Sequence[str]
    """Below these it writes."""

    since: str = ""
    """Timetag of the newest scan up to which all were taken in hand."""

    written: int = 0
    """Scans that it has written since it began."""

    scans: Sequence[ScanReport] = ()
    """Those that it writes, or that have failed."""

    at: float = field(default_factory=time.time)
    """When it said so [Unix time, s]."""

    running: bool = True
    """False in the last one."""

    @property
    def failed(self) -> dict[str, ScanReport]:
        """Those that have failed, by key."""
        return {one.scan: one for one in self.scans if one.outcome == "failed"}

    def alive(self, now: float) -> bool:
        """Whether it runs, at that time [Unix time, s]."""
        return self.running and now - self.at < SILENT_AFTER_S

    def as_json(self, now: float) -> dict[str, Any]:
        """For people's programs, at that time [Unix time, s]."""
        return {**asdict(self), "alive": self.alive(now)}

    def to_json(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Report | None:
        """Out of that; None if it is nothing of the kind."""
        try:
            found = json.loads(text)
            scans = [ScanReport(**one) for one in found.pop("scans")]
            return cls(**found, scans=scans)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def what_now(scan: str, roots: Sequence[str], *, pinned: bool, can_be_mended: bool = True) -> str:
    """For whoever runs the writer, which writes below `roots`: where the points of a scan that has failed
    are, and the next step."""
    if not pinned:
        return "Its points are not pinned, and may leave the server"
    below = shlex.quote(os.pathsep.join(roots))
    retry = f"mend that, then blissdata write --retry {scan} --roots {below}"
    mend = retry if can_be_mended else "keep the points elsewhere"
    return (
        f"What is not written stays on the server: {mend}; or blissdata record {scan} FILE; or give the points "
        f"up: blissdata pins --remove {scan} {PIN}"
    )


def tell(store: DataStore, report: Report) -> None:
    """Says it. One round trip."""
    store.backend.pins.tell({"report": report.to_json()}, KEPT_S, "writer")


def read_report(store: DataStore) -> Report | None:
    """What the last writer of that server has said; None if there was none. One round trip."""
    told: Mapping[str, str] = store.backend.pins.told("writer")
    return Report.from_json(told["report"]) if "report" in told else None
