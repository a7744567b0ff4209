"""What a memory tracker says of itself on its server, for `blissdata status`; pure values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from blissdata.redis_engine.limits import PinLimit
from blissdata.redis_engine.memory_tracker.options import Options

__all__ = ["FOREIGN_S", "MOST_ALARMS", "Alarm", "Next", "Report"]

FOREIGN_S = 120.0
"""So long after it wrote into the journal, another tracker is taken to be at work still [s]: four times the
period that a tracker of blissdata 2.x has unless it is told otherwise."""

MOST_ALARMS = 5
"""So many of the last alarms are told."""

_OPTIONS = (
    "cleaning_threshold",
    "protected_history",
    "monitoring_period",
    "closed_scan_deletion",
    "cleaning_time_slice",
)


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that an operator should know."""

    time: float
    """When, on the server's clock, Unix time [s]."""

    text: str


@dataclass(frozen=True, slots=True)
class Next:
    """What is forgotten first once memory reaches the threshold."""

    until: float
    """Points that came before, on the server's clock, Unix time [s]."""

    streams: int
    """Of so many streams."""

    scans: tuple[str, ...]
    """Of these scans; of many, the first few."""

    more: int = 0
    """Of how many further scans."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the tracker that works has to say after a round."""

    time: float
    """When, on the server's clock, Unix time [s]."""

    who: str
    """Which program it is, for people."""

    options: Options
    """How it runs."""

    scans: int = 0
    """How many scans it follows."""

    oldest: float | None = None
    """Since when, on the server's clock, Unix time [s], all points are there, as far as nobody deleted
    their scans; None if nothing was published yet."""

    forgot: bool = True
    """False if it has forgotten nothing yet: then `oldest` is when its journal begins, and there may be
    older points as well."""

    next: Next | None = None
    """What goes first; None if nothing may go now."""

    foreign: float | None = None
    """When a tracker of blissdata 2.x was last seen to be at work, too; None if none was."""

    alarms: tuple[Alarm, ...] = ()
    """The last ones, the newest last."""

    def as_texts(self) -> dict[str, str]:
        """As it is written on the server."""
        found: dict[str, Any] = {
            "time": self.time,
            "who": self.who,
            "options": {name: getattr(self.options, name) for name in _OPTIONS}
            | {"pin_limit": str(self.options.pin_limit), "yielding": self.options.yielding},
            "scans": self.scans,
            "oldest": self.oldest,
            "forgot": self.forgot,
            "next": None if self.next is None else _plain(self.next),
            "foreign": self.foreign,
            "alarms": [_plain(alarm) for alarm in self.alarms],
        }
        return {name: json.dumps(value) for name, value in found.items()}

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> Report | None:
        """From what is written on the server; None if that is nothing, or is not understood."""
        try:
            found = {name: json.loads(text) for name, text in texts.items()}
            options = found["options"]
            coming = found["next"]
            return cls(
                time=float(found["time"]),
                who=str(found["who"]),
                options=Options(
                    **{name: float(options[name]) for name in _OPTIONS},
                    pin_limit=PinLimit.of(options["pin_limit"]),
                    yielding=bool(options["yielding"]),
                ),
                scans=int(found["scans"]),
                oldest=_time(found["oldest"]),
                forgot=bool(found.get("forgot", True)),
                next=None
                if coming is None
                else Next(
                    float(coming["until"]),
                    int(coming["streams"]),
                    tuple(map(str, coming["scans"])),
                    int(coming["more"]),
                ),
                foreign=_time(found["foreign"]),
                alarms=tuple(Alarm(float(a["time"]), str(a["text"])) for a in found["alarms"]),
            )
        except (KeyError, TypeError, ValueError):
            return None


def _plain(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _time(found: Any) -> float | None:
    return None if found is None else float(found)
