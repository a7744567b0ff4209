"""Which points of a stream are where: in memory, in a file, with the detector, nowhere yet, gone.

Pure rules over what the places of a stream say they have; nothing here looks at a server or a disk.

    index      0  1  2  3  4  5  6  7  8  9 │ to come
    file          ■  ■  ■  ■  ·  ·  ·  ·  · │ ·  ·        ■ there   · may still come there
    memory                          ■  ■  ■ │ ·  ·
               └┘             └──┘
              gone           pending
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from blissdata.exceptions import IndexNoMoreThereError, IndexWontBeThereError

__all__ = ["END", "NOTHING", "Availability", "EventBounds", "Holding", "Looks", "Place", "Ranges"]

T = TypeVar("T")

END = 2**63 - 1
"""No stream has more points: where ranges end that have no end yet."""


class Place(StrEnum):
    """Where a point may be read from."""

    MEMORY = "memory"
    """The server has it."""

    FILE = "file"
    """It is in a file."""

    DETECTOR = "detector"
    """Whoever takes the points still holds it: a detector's ring, shared memory of its computer."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """A set of indices, as ranges. `|`, `&`, `-` and `in` are those of sets; empty is false."""

    spans: tuple[tuple[int, int], ...] = ()
    """`(start, stop)` each, stop exclusive: ascending, none empty, none touching the next one."""

    @classmethod
    def of(cls, spans: Iterable[tuple[int, int]]) -> Ranges:
        """Of spans in any order, which may overlap, touch or be empty."""
        found: list[tuple[int, int]] = []
        for start, stop in sorted(span for span in spans if span[0] < span[1]):
            if found and start <= found[-1][1]:
                found[-1] = (found[-1][0], max(found[-1][1], stop))
            else:
                found.append((start, stop))
        return cls(tuple(found))

    @classmethod
    def between(cls, start: int, stop: int) -> Ranges:
        """The indices from `start` to `stop` (exclusive)."""
        return cls(((start, stop),)) if start < stop else NOTHING

    @classmethod
    def at(cls, indices: range) -> Ranges:
        """Those of a range with any step."""
        if not indices:
            return NOTHING
        ascending = indices if indices.step > 0 else indices[::-1]
        if ascending.step == 1:
            return cls.between(ascending.start, ascending[-1] + 1)
        return cls(tuple((index, index + 1) for index in ascending))

    @property
    def count(self) -> int:
        """How many indices."""
        return sum(stop - start for start, stop in self.spans)

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __contains__(self, index: int) -> bool:
        place = bisect_right(self.spans, (index, END)) - 1
        return place >= 0 and index < self.spans[place][1]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The spans, `(start, stop)` each, stop exclusive."""
        return iter(self.spans)

    def __or__(self, other: Ranges) -> Ranges:
        if not self.spans or not other.spans:
            return self if self.spans else other
        return Ranges.of((*self.spans, *other.spans))

    def __and__(self, other: Ranges) -> Ranges:
        found: list[tuple[int, int]] = []
        ours, theirs = 0, 0
        while ours < len(self.spans) and theirs < len(other.spans):
            (a, b), (c, d) = self.spans[ours], other.spans[theirs]
            if max(a, c) < min(b, d):
                found.append((max(a, c), min(b, d)))
            if b < d:
                ours += 1
            else:
                theirs += 1
        return Ranges(tuple(found))

    def __sub__(self, other: Ranges) -> Ranges:
        if not self.spans or not other.spans:
            return self
        if len(self.spans) == len(other.spans) == 1:
            ((a, b),), ((c, d),) = self.spans, other.spans
            left, right = (a, min(b, c)), (max(a, d), b)
            return Ranges(tuple(span for span in (left, right) if span[0] < span[1]))
        edges = [0, *(edge for span in other.spans for edge in span), END]
        gaps = zip(edges[::2], edges[1::2], strict=True)
        return self & Ranges(tuple(gap for gap in gaps if gap[0] < gap[1]))

    def as_json(self) -> list[list[int]]:
        """`[[start, stop], …]`, stop exclusive."""
        return [[start, stop] for start, stop in self.spans]

    def __str__(self) -> str:
        """For people, both ends included: `0–99, 120`."""
        return ", ".join(
            f"{start}–{'' if stop >= END else stop - 1}" if stop - start > 1 else str(start)
            for start, stop in self.spans
        )


NOTHING = Ranges()
"""No index."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What one place has of a stream, as the stream's plugin says it."""

    place: Place

    there: Ranges
    """The points that can be read from it now."""

    coming: Ranges = NOTHING
    """Points that may still come to it, published or not; they may overlap `there`."""

    path: str | None = None
    """The file; with a `%` for their number if there are many."""

    item: str | None = None
    """The dataset in the file."""

    why: str | None = None
    """Why the other points are not there."""

    looked_at: bool = False
    """True if what comes is only seen by looking: no event tells of it."""

    may_pass: bool = False
    """True if nothing seems to come any more, but nothing forbids it either (a file that is not there
    and that nobody writes): who waits gives it a little time."""

    hidden: Ranges = NOTHING
    """Points that may well be there, in a file that this reader must not open: it lies outside the data
    roots, or belongs to others."""

    def as_json(self) -> dict[str, Any]:
        """Of a file."""
        return {
            "path": self.path,
            "item": self.item,
            "points": self.there.as_json(),
            **({"why": self.why} if self.why else {}),
        }


class Looks:
    """How many looks at files one question may cost: what was looked at a moment ago is not looked at
    again, nor when the question has taken long enough already."""

    STALE_S = 10.0
    """Older looks are repeated in any case [s]."""

    def __init__(self, max_age: float, budget: float) -> None:
        """A look is good for `max_age` [s] (negative: look in any case); older ones are repeated until
        that took `budget` [s]."""
        self._max_age = max_age
        self._left = budget
        self._known: dict[Hashable, Any] = {}

    def may_look(self, age: float | None) -> bool:
        """Whether to look, where the last look is so old [s] (None: there was none)."""
        if age is None or age >= self.STALE_S:
            return True
        return age >= self._max_age and self._left > 0

    def once(self, what: Hashable, look: Callable[[], T]) -> T:
        """What `look` gives, which is called once in this question for all who ask `what`."""
        if what not in self._known:
            self._known[what] = look()
        found: T = self._known[what]
        return found

    def took(self, seconds: float) -> None:
        """So long took a look."""
        self._left -= seconds


@dataclass(frozen=True, slots=True)
class EventBounds:
    """What the server says of a stream's events, for its plugin to say where the points are."""

    start: int
    """Index of the first event that is on the server; the length if none is left."""

    length: int
    """How many there were, forgotten ones included."""

    sealed: bool
    """True if there will be no more."""

    newest: Any = None
    """The newest event, decoded, for plugins that ask for it (`_asks_for_newest`); None if there is
    none (any more)."""

    looks: Looks = field(default_factory=lambda: Looks(-END, END))
    """How many looks at files are allowed."""

    @property
    def there(self) -> Ranges:
        """The events that are on the server."""
        return Ranges.between(self.start, self.length)

    def in_memory(self) -> Holding:
        """What the server has, for a stream whose points are its events."""
        to_come = NOTHING if self.sealed else Ranges.between(self.length, END)
        return Holding(Place.MEMORY, self.there, to_come, why="they left the server's memory")


@dataclass(frozen=True, slots=True)
class Availability:
    """Where the points of one stream are at a moment; `BaseStream.availability` gives it.

    A point may be in several places. Indices count points from 0; those from `length` on are not
    published yet and in none of the sets.
    """

    name: str
    """The stream's name in its scan."""

    key: str
    """The stream's key on the server."""

    length: int
    """How many points were published, forgotten ones included."""

    sealed: bool
    """True if that is final."""

    holdings: tuple[Holding, ...] = ()
    """What each place has; the same place may be there several times (files)."""

    complete: bool = True
    """False if the plugin does not tell of all its places."""

    problem: str | None = None
    """Why nothing can be said (then everything else is empty), or what disturbs."""

    def at(self, place: Place | str) -> Ranges:
        """The points that can be read from that place."""
        return self._published(h.there for h in self.holdings if h.place == place)

    @property
    def memory(self) -> Ranges:
        """Points that the server has."""
        return self.at(Place.MEMORY)

    @property
    def file(self) -> Ranges:
        """Points that are in a file, which `files` names."""
        return self.at(Place.FILE)

    @property
    def detector(self) -> Ranges:
        """Points that the detector still holds."""
        return self.at(Place.DETECTOR)

    @property
    def readable(self) -> Ranges:
        """Points that can be read from somewhere."""
        return self._published(h.there for h in self.holdings)

    @property
    def pending(self) -> Ranges:
        """Points that are published but nowhere readable yet: they may still come, to a file."""
        coming = self._published(h.coming for h in self.holdings)
        return coming - self.readable if coming else NOTHING

    @property
    def gone(self) -> Ranges:
        """Points that are nowhere, and nothing suggests that they will be."""
        return self._rest() - self._hidden() if self.complete else NOTHING

    @property
    def unknown(self) -> Ranges:
        """Points that may be somewhere: the stream's plugin does not tell, or their file is one that
        this reader must not open; `files` says why."""
        return self._rest() & self._hidden() if self.complete else self._rest()

    @property
    def files(self) -> tuple[Holding, ...]:
        """What each file has, and why it has not the rest."""
        return tuple(h for h in self.holdings if h.path is not None)

    @property
    def places(self) -> tuple[Place, ...]:
        """The places that such a stream has, empty ones too."""
        return tuple(dict.fromkeys(h.place for h in self.holdings))

    def _published(self, parts: Iterable[Ranges]) -> Ranges:
        length = self.length
        spans = [s for part in parts for s in part.spans if s[0] < length]
        if not spans:
            return NOTHING
        if len(spans) == 1:
            start, stop = spans[0]
            return Ranges.between(start, min(stop, length))
        return Ranges.of(spans) & Ranges.between(0, self.length)

    def _hidden(self) -> Ranges:
        return self._published(h.hidden for h in self.holdings)

    def _rest(self) -> Ranges:
        parts = [part for h in self.holdings for part in (h.there, h.coming)]
        known = self._published(parts)
        if known.spans == ((0, self.length),):
            return NOTHING
        return Ranges.between(0, self.length) - known

    def where(self, index: int) -> str:
        """In one word where a point is: `memory`, `file`, `detector`, the first of them that has it;
        `pending`, `gone`, `unknown`; `later` or `never` if it is not published."""
        if index >= self.length:
            return "never" if self.sealed else "later"
        for place in Place:
            if index in self.at(place):
                return place.value
        for word, ranges in (("pending", self.pending), ("unknown", self.unknown)):
            if index in ranges:
                return word
        return "gone"

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON: ranges are `[[start, stop], …]`, stop exclusive."""
        return {
            "name": self.name,
            "key": self.key,
            "length": self.length,
            "sealed": self.sealed,
            **{word: ranges.as_json() for word, ranges in self.sets().items()},
            "files": [holding.as_json() for holding in self.files],
            "problem": self.problem,
        }

    def sets(self) -> Mapping[str, Ranges]:
        """The sets of points by their names, places first."""
        memory, file, detector = self.memory, self.file, self.detector
        readable = memory | file | detector
        pending = self._published(h.coming for h in self.holdings) - readable
        whole = ((0, self.length),)
        if readable.spans == whole:
            rest = NOTHING
        else:
            rest = Ranges.between(0, self.length) - readable - pending
        return {
            "memory": memory,
            "file": file,
            "detector": detector,
            "pending": pending,
            "gone": rest - self._hidden() if self.complete else NOTHING,
            "unknown": rest & self._hidden() if self.complete else rest,
        }

    def __repr__(self) -> str:
        there = [f"{word} {ranges}" for word, ranges in self.sets().items() if ranges]
        end = "sealed" if self.sealed else "open"
        parts = [f"{self.length} points ({end})", *there]
        if self.problem:
            parts = [self.problem]
        return f"<Availability of '{self.name}': {'; '.join(parts)}>"

    # ------------------------------------------------------------------------------ for who waits

    def missing(self, wanted: Ranges, place: Place | None) -> Ranges:
        """Those of the points that are not there: at the place, or anywhere (None). Where a plugin
        does not tell, what is published counts as there."""
        if place is not None:
            return wanted - self.at(place)
        return wanted - self.readable - (NOTHING if self.complete else self.unknown)

    def lost(self, missing: Ranges, place: Place | None) -> Ranges:
        """Those of the missing points that will not come, as far as is known now."""
        coming = (h.coming for h in self.holdings if place in (None, h.place))
        later = NOTHING if self.sealed or self.complete else Ranges.between(self.length, END)
        return missing - Ranges.of(span for part in coming for span in part.spans) - later

    def why_lost(
        self, lost: Ranges, place: Place | None, what: str
    ) -> IndexWontBeThereError | IndexNoMoreThereError:
        """The error for points that will not come; `what` names the stream."""
        never = lost - Ranges.between(0, self.length)
        if never and self.sealed:
            return IndexWontBeThereError(
                f"{what}: it was sealed with {self.length} points, there will be no index {never}"
            )
        holdings = [h for h in self.holdings if place in (None, h.place)]
        reasons = "; ".join(
            f"{h.place}: {h.path + ': ' if h.path and h.path not in h.why else ''}{h.why}"
            for h in holdings
            if h.why
        )
        if Ranges.of(span for h in holdings for span in (h.hidden & lost).spans):
            where = "may be in a file that this reader must not open"
        elif place is None:
            where = "are nowhere (any more)"
        else:
            where = f"are not there ({place}), and will not be"
        elsewhere = [
            f"{word} has {ranges & lost}"
            for word, ranges in self.sets().items()
            if word in list(Place) and ranges & lost
        ]
        return IndexNoMoreThereError(
            f"{what}: points {lost} {where}{': ' if reasons else ''}{reasons}"
            + (f". {'; '.join(elsewhere)}" if elsewhere else "")
        )

    def looked_for(self, missing: Ranges, place: Place | None) -> bool:
        """True if some of the missing points may come to a place that must be looked at."""
        return any(
            h.looked_at and (h.may_pass or bool(h.coming & missing))
            for h in self.holdings
            if place in (None, h.place)
        )

    def may_pass(self, place: Place | None) -> bool:
        """True if there is a place where what seems lost may come all the same."""
        return any(h.may_pass for h in self.holdings if place in (None, h.place))
