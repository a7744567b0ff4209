"""What may be forgotten: pure rules over the journal, ages and pins.

    age [s]      oldest ◄─────────────────────────────────────────── now
    journal      │r0      │r1      │r2      │r3      │r4      │r5
    slice        └── 20 % ───┘
    protected                                    └──── untouched ───┘
                 r0, r1 are used up: streams are trimmed to where they ended at r1

A record tells where streams ended when it was taken. What lies in front of that end is older than the
record, so that forgetting up to the records of one age forgets the oldest points of all scans alike.
Streams that are pinned are forgotten up to the slowest pin, and their records wait until it moves on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = [
    "AgedRecord",
    "Effort",
    "Plan",
    "Watch",
    "efforts",
    "has_lapsed",
    "held_back",
    "horizon",
    "is_dead",
    "plan",
    "slowest",
    "thinned",
]


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

    held: dict[str, int] = field(default_factory=dict)
    """For streams of which less is forgotten than their age would allow, because of a pin: up to which
    point (exclusive). What these records say of them is needed later."""


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


def has_lapsed(lasting: bool, suspected: float | None) -> bool:
    """Whether a pin holds nothing any more, of whose holder this tracker has heard nothing that counts
    for `suspected` [s] (None: it has)."""
    return not lasting and suspected is not None and suspected >= DOUBTED_S


def plan(
    records: Sequence[AgedRecord],
    protected: float,
    slice_percent: float,
    pins: Mapping[str, int] | None = None,
    gone: Mapping[str, int] | None = None,
) -> Plan | None:
    """What to forget, out of records from the oldest to the newest. `pins` are, for some streams, the
    points from which on nothing may go, and `gone` the points up to which they are forgotten already.
    None if nothing may be forgotten.

    Of records whose ages do not fall, as after a step of a clock, each counts as at least as old as
    those behind it. Records of which a pin holds everything do not count for where time begins."""
    pins, gone = pins or {}, gone or {}
    ages = _falling([record.age for record in records])
    counting = [a for a, r in zip(ages, records, strict=True) if _frees(r, pins, gone)]
    limit = horizon(counting[0], protected, slice_percent) if counting else None
    if limit is None:
        return None
    used = sum(age >= limit for age in ages)
    ends: dict[str, int] = {}
    for record in records[:used]:
        for key, end in record.ends.items():
            ends[key] = max(end, ends.get(key, 0))
    held = {key: pin for key, pin in pins.items() if pin < ends.get(key, 0)}
    for key in held:
        del ends[key]
    return Plan(used, ends, held)


def _frees(record: AgedRecord, pins: Mapping[str, int], gone: Mapping[str, int]) -> bool:
    """Whether anything may go because of this record: it is not all held by pins."""
    return not pins or any(
        key not in pins or end <= pins[key] or pins[key] > gone.get(key, 0)
        for key, end in record.ends.items()
    )


def slowest(positions: Iterable[tuple[str, int]]) -> dict[str, int]:
    """For each stream the smallest of the positions at which pins stand in it."""
    found: dict[str, int] = {}
    for key, index in positions:
        found[key] = min(index, found.get(key, index))
    return found


def held_back(used: Sequence[AgedRecord], held: Mapping[str, int]) -> list[AgedRecord]:
    """What records that are used up still say of streams that a pin holds: needed once it moves on."""
    left = [
        AgedRecord(record.age, {k: end for k, end in record.ends.items() if end > held.get(k, end)})
        for record in used
    ]
    return [record for record in left if record.ends]


def thinned(records: Sequence[AgedRecord], most: int) -> list[AgedRecord]:
    """At most about so many records, that say the same less precisely: every second of the older half
    becomes part of the one behind it, which is younger."""
    kept = list(records)
    while len(kept) > most:
        half = len(kept) // 2
        joined = [
            AgedRecord(after.age, {**before.ends, **after.ends})
            for before, after in zip(kept[: half - 1 : 2], kept[1:half:2], strict=False)
        ]
        kept = joined + kept[2 * len(joined) :]
    return kept


@dataclass(frozen=True, slots=True)
class Effort:
    """One way to make room."""

    protected: float
    """What is younger stays [s]."""

    past_pins: bool = False
    """True if pins do not count."""


def efforts(
    used: float, pin_limit: float, last_resort: float, protected: float, yielding: bool
) -> list[Effort]:
    """What to try, in this order, where `used` [bytes] are in use. From `pin_limit` on pins do not count
    any more; from `last_resort` on, a tracker that is `yielding` goes into the protected history, which
    costs nobody a point that it asked to keep, so that it comes before pins are broken."""
    found = [Effort(protected)]
    yields = yielding and used >= last_resort
    if yields:
        found.append(Effort(0))
    if used >= pin_limit:
        found.append(Effort(protected, past_pins=True))
        if yields:
            found.append(Effort(0, past_pins=True))
    return found


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
