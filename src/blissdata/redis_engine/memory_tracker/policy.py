"""What may be forgotten: pure rules over the journal, ages and pins.

    age [s]      oldest ◄─────────────────────────────────────────── now
    journal      │r0      │r1      │r2      │r3      │r4      │r5
    slice        └── 20 % ───┘
    protected                                    └──── untouched ───┘
                 r0, r1 are used up: streams are trimmed to where they ended at r1

A record tells where streams ended when it was taken. What lies in front of that end is older than the
record, so that forgetting up to the records of one age forgets the oldest points of all scans alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["AgedRecord", "Plan", "Watch", "horizon", "is_dead", "plan"]


@dataclass(frozen=True, slots=True)
class AgedRecord:
    """A record of the journal, and how old it is."""

    age: float
    """[s], ≥ 0."""

    ends: Mapping[str, int]
    """For each data stream the index of its last entry then; `MAX_INDEX` if it was sealed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to forget now."""

    used: int
    """How many of the oldest records are used up by it."""

    ends: dict[str, int] = field(default_factory=dict)
    """For each stream, up to which entry (exclusive); `MAX_INDEX`: all but the seal."""

    held: frozenset[str] = frozenset()
    """The streams of which less is forgotten than their age would allow, because of a pin. What is
    held must be recorded again: these records will be gone."""


def horizon(oldest: float, protected: float, slice_percent: float) -> float | None:
    """The age [s] from which on records are used up, for a journal whose oldest record has the age
    `oldest`: the oldest `slice_percent` [%] of the time, but nothing younger than `protected` [s]. None
    if not even the oldest record may be used."""
    if oldest < protected:
        return None
    return max(oldest * (100 - slice_percent) / 100, protected)


DEAD_AFTER_S = 30.0
"""A publisher that was silent for so long is taken for dead, and its scan is closed [s]. Readers are told
earlier, and may wait on; this cannot be undone."""

DOUBTED_S = 5.0
"""So long a tracker doubts what it sees [s]: after the server was away, publishers must reach it again."""


def is_dead(silence: float | None, suspected: float) -> bool:
    """Whether a publisher is dead that was silent for `silence` [s] (None: it gives no signs of life), and
    that this tracker has seen silent for `suspected` [s]."""
    return silence is not None and silence >= DEAD_AFTER_S and suspected >= DOUBTED_S


def plan(
    records: Sequence[AgedRecord],
    protected: float,
    slice_percent: float,
    pins: Mapping[str, int] | None = None,
) -> Plan | None:
    """What to forget, out of records from the oldest to the newest. `pins` are, for some streams, the
    entries from which on nothing may go. None if nothing may be forgotten.

    Of records whose ages do not fall, as after a step of a clock, each counts as at least as old as
    those behind it."""
    ages = _falling([record.age for record in records])
    limit = horizon(ages[0], protected, slice_percent) if ages else None
    if limit is None:
        return None
    used = sum(age >= limit for age in ages)
    ends: dict[str, int] = {}
    for record in records[:used]:
        for key, end in record.ends.items():
            ends[key] = max(end, ends.get(key, 0))
    held = frozenset(key for key, pin in (pins or {}).items() if pin < ends.get(key, 0))
    for key in held:
        ends[key] = (pins or {})[key]
    return Plan(used, ends, held)


def _falling(ages: Sequence[float]) -> list[float]:
    falling: list[float] = []
    for age in reversed(ages):
        falling.append(max(age, falling[-1]) if falling else age)
    return falling[::-1]


@dataclass(frozen=True, slots=True)
class Watch:
    """When the next round is due, from how memory grows between rounds.

    A round is due when memory reaches the threshold, when it has grown by a part of what is left below
    it (so that the journal knows the time within that part), and when the period is over."""

    threshold: int
    """From which use of memory on points are forgotten [bytes]."""

    period: float
    """Time between rounds while nothing happens [s]."""

    parts: int = 20
    """In how many steps of equal size memory is followed from nothing to the threshold."""

    shortest: float = 0.02
    """How often memory is looked at while it grows fast [s]."""

    longest: float = 1.0
    """How often it is looked at otherwise [s]."""

    def due(self, elapsed: float, used_then: int, used_now: int) -> bool:
        """Whether to begin the next round, `elapsed` [s] after the last one, at which `used_then`
        [bytes] were used."""
        grown = used_now - used_then
        return (
            elapsed >= self.period
            or used_now >= self.threshold
            or grown * self.parts >= self.threshold
        )

    def look_again(self, elapsed: float, used_then: int, used_now: int) -> float:
        """In which time [s] to look at memory again: well before the next step would be reached at the
        rate seen so far."""
        left = max(0.0, self.period - elapsed)
        soon = max(elapsed, self.shortest)  # as long again as the whole time that is known
        grown = used_now - used_then
        if grown > 0 and elapsed > 0:
            until_step = (self.threshold / self.parts - grown) / (grown / elapsed)
            soon = min(soon, max(until_step / 2, self.shortest))
        return min(soon, self.longest, left)
