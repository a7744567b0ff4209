"""What the journals of publisher and readers, and what is left on the server, say together: pure.

confirmed ≤ on the server ≤ sent, each point once and as its formula says; a reader saw what the
server has; where the server lost what it had confirmed, publisher and readers were told; of two writers
of one stream one was told, with the index, and wrote no more.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tests.faults.formula import Author, from_payload

__all__ = ["Broken", "Gap", "Journal", "Stall", "Verdict", "judge", "read_journal", "worst_stalls"]

SEAL = b"18446744073709551615-18446744073709551615"

Stream = tuple[str, str]
"""Key of the scan, and name."""

Entries = Sequence[tuple[bytes, Mapping[bytes, bytes]]]
"""A stream as it is on the server: ids and fields."""


SHORT_S = 1.0
"""A time without a word that is shorter is not worth an explanation [s]."""


@dataclass(frozen=True)
class Gap:
    """A time in which a program had nothing to tell."""

    begin: float
    end: float
    """Monotonic times [s], the same for all programs of a machine."""
    before: str
    after: str
    """The words around it."""
    again: Mapping[str, int]
    """The calls that failed meanwhile, and were repeated, by the type of their error."""


@dataclass(frozen=True)
class Broken:
    """A time in which something was broken."""

    what: str
    begin: float
    end: float


@dataclass(frozen=True)
class Stall:
    """A program that had nothing to tell, and why."""

    who: str
    gap: Gap
    during: Sequence[Broken]

    @property
    def seconds(self) -> float:
        return self.gap.end - self.gap.begin

    @property
    def beyond(self) -> float:
        """How much of it passed while nothing was broken [s]."""
        broken = sum(
            min(one.end, self.gap.end) - max(one.begin, self.gap.begin) for one in self.during
        )
        return self.seconds - broken

    def __str__(self) -> str:
        faults = ", ".join(f"{one.what} {one.end - one.begin:.1f} s" for one in self.during)
        again = ", ".join(f"{count} × {kind}" for kind, count in self.gap.again.items())
        return (
            f"{self.seconds:.1f} s, {self.beyond:.1f} s of it with nothing broken: {self.who} between "
            f"{self.gap.before} and {self.gap.after}; broken: {faults or 'nothing'}"
            + (f"; tried again: {again}" if again else "")
        )


@dataclass
class Journal:
    """What one program has written down."""

    name: str
    scans: dict[str, int] = field(default_factory=dict)
    reached: dict[Stream, int] = field(default_factory=dict)
    """How many points were confirmed, or read."""
    ended: dict[Stream, int] = field(default_factory=dict)
    """Lengths of streams that were sealed, or read to their end."""
    told: dict[tuple[str | None, str | None], tuple[str, str]] = field(default_factory=dict)
    opened: dict[Stream, int] = field(default_factory=dict)
    """Where this program, beside the publisher, began to write into a stream."""
    wrong: list[tuple[str, str, int, str]] = field(default_factory=list)
    again: Counter[str] = field(default_factory=Counter)
    gaps: list[Gap] = field(default_factory=list)
    over: bool = False

    def was_told(self, stream: Stream) -> tuple[str, str] | None:
        """What it was told of the stream, or of its scan."""
        key, _ = stream
        return self.told.get(stream) or self.told.get((key, None)) or self.told.get((None, None))


def read_journal(name: str, paths: Iterable[Path]) -> Journal:
    """One program's journal, also over several runs. A last line that was cut off does not count."""
    journal = Journal(name)
    last: tuple[float, str] | None = None
    again: Counter[str] = Counter()
    for path in paths:
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                when, word, *rest = json.loads(line)
            except ValueError:
                continue
            _note(journal, word, rest)
            if word == "again":
                again[rest[-1]] += 1
                continue
            said = " ".join(str(part)[:40] for part in [word, *rest[1:]])
            if last is not None and when - last[0] > SHORT_S and word != "over":
                journal.gaps.append(Gap(last[0], when, last[1], said, dict(again)))
            last, again = (when, said), Counter()
    return journal


def worst_stalls(journals: Iterable[Journal], broken: Sequence[Broken]) -> list[Stall]:
    """The longest time without a word, and the one with the most time in which nothing was broken."""
    stalls = [
        Stall(journal.name, gap, [b for b in broken if b.begin < gap.end and b.end > gap.begin])
        for journal in journals
        for gap in journal.gaps
    ]
    if not stalls:
        return []
    longest = max(stalls, key=lambda stall: stall.seconds)
    furthest = max(stalls, key=lambda stall: stall.beyond)
    return [longest] if longest is furthest else [longest, furthest]


def _note(journal: Journal, word: str, rest: list[Any]) -> None:
    if word == "scan":
        journal.scans[rest[0]] = rest[1]
    elif word in ("confirmed", "at"):
        journal.reached[rest[0], rest[1]] = rest[2]
    elif word in ("sealed", "end"):
        stream = (rest[0], rest[1])
        journal.ended[stream] = rest[2]
    elif word == "opened":
        journal.opened[rest[0], rest[1]] = rest[2]
    elif word == "told":
        journal.told.setdefault((rest[0], rest[1]), (rest[2], rest[3]))
    elif word == "wrong":
        journal.wrong.append((rest[0], rest[1], rest[2], rest[3]))
    elif word == "again":
        journal.again[rest[-1]] += 1
    elif word == "over":
        journal.over = True


@dataclass
class Verdict:
    """The counts, and every fault found, in words."""

    scans: int = 0
    confirmed: int = 0
    lost: int = 0
    """Confirmed points that are not there although the durability promised them, or of which nobody
    was told; and those of holes."""
    holes: int = 0
    """Points that are missing in front of others."""
    lost_and_told: int = 0
    """Confirmed points that a server lost that had not promised more, and that publisher and readers
    were told of."""
    repeated: int = 0
    out_of_order: int = 0
    wrong: int = 0
    hung: int = 0
    """Programs that did not end."""
    gave_up: int = 0
    """Publishers that failed although nothing was lost."""
    left: int = 0
    """Streams that a reader was told to leave although nothing was lost."""
    stuck: list[str] = field(default_factory=list)
    """The programs that did not end."""
    crashed: list[str] = field(default_factory=list)
    """The programs that ended with an error that they did not expect."""
    conflicts: int = 0
    """Streams that two programs wrote into, of which one was told."""
    stalls: list[Stall] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        """Takes the counts of another one in."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    @property
    def longest_stall(self) -> float:
        """The longest time without a word of a program [s]; those below a second are not looked at."""
        return max((stall.seconds for stall in self.stalls), default=0.0)

    @property
    def longest_beyond(self) -> float:
        """The longest time without a word while nothing was broken [s]."""
        return max((stall.beyond for stall in self.stalls), default=0.0)

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return not self.trouble


def judge(
    publishers: Sequence[Journal],
    readers: Sequence[Journal],
    server: Mapping[Stream, Entries],
    *,
    may_lose: bool,
    killed: bool = False,
    rival: Journal | None = None,
    broken: Sequence[Broken] = (),
) -> Verdict:
    """`may_lose`: the durability allows that a server that was killed loses confirmed points;
    `killed`: publishers were, so streams may have no seal; `rival` wrote beside the publisher."""
    verdict = Verdict()
    numbers: dict[str, int] = {}
    for journal in [*publishers, *readers]:
        numbers.update(journal.scans)
    verdict.scans = len(numbers)
    verdict.stalls = worst_stalls([*publishers, *readers], broken)
    lengths: dict[Stream, int] = {}
    authors: dict[Stream, Author] = {}
    for (key, name), entries in server.items():
        if key in numbers:
            contested = rival is not None and (key, name) in rival.opened
            author = authors[key, name] = Author(numbers[key], name, contested=contested)
            lengths[key, name] = _length(verdict, f"{key} '{name}'", name, author, entries)
    if rival is not None:
        for journal in publishers:
            _judge_writers(verdict, journal, rival, authors, lengths)
    for journal in publishers:
        _judge_publisher(verdict, journal, readers, lengths, may_lose)
    published = {key for journal in publishers for key in journal.scans}
    for journal in readers:
        _judge_reader(verdict, journal, lengths, published, may_lose, killed)
    return verdict


def _judge_writers(
    verdict: Verdict,
    publisher: Journal,
    rival: Journal,
    authors: Mapping[Stream, Author],
    lengths: Mapping[Stream, int],
) -> None:
    """Whoever came second was told at which index, and none of his points is there. What the publisher
    was rightly told is taken out of its journal."""
    for stream, first in rival.opened.items():
        if stream not in authors:
            continue
        changed_at, what = authors[stream].changed_at, f"{stream} with two writers"
        own = publisher.told.get(stream) or publisher.told.get((stream[0], None))
        other = rival.told.get(stream)
        if rival.reached.get(stream, 0) > lengths[stream]:
            verdict.lost += rival.reached[stream] - lengths[stream]
            verdict.trouble.append(f"{what}: the second one's points are not there")
        if changed_at is None:  # the publisher was faster, or the second one never came to it
            if rival.reached.get(stream, first) > first or not _told_at(other, first, sealed=True):
                verdict.trouble.append(f"{what}: the second one was told {other} at {first}")
            verdict.conflicts += other is not None and "Conflict" in other[0]
            continue
        if publisher.reached.get(stream, 0) > changed_at or not _told_at(own, changed_at):
            verdict.trouble.append(f"{what}: the first one was told {own} at {changed_at}")
        if other is not None and "Sealed" not in other[0]:
            verdict.trouble.append(f"{what}: the second one, who was faster, was told {other}")
        verdict.conflicts += own is not None
        publisher.told.pop(stream, None)
        if "Conflict" in publisher.told.get((stream[0], None), ("",))[0]:
            del publisher.told[stream[0], None]


def _told_at(told: tuple[str, str] | None, index: int, *, sealed: bool = False) -> bool:
    """Whether a writer was told of a conflict at this index; or of nothing, as it had nothing more to send;
    or, where that may be, that the stream is `sealed`: its scan may be over first."""
    if told is None:
        return True
    kind, text = told
    if "Sealed" in kind:
        return sealed
    return "Conflict" in kind and f"points {index} to " in text


def _length(verdict: Verdict, what: str, name: str, author: Author, entries: Entries) -> int:
    """How many points a stream has on the server; each is looked at."""
    at = 0
    for ident, found in entries:
        if ident == SEAL:
            sealed = int(found[b"id"])
            if sealed != at:
                verdict.out_of_order += 1
                verdict.trouble.append(f"{what}: sealed with {sealed}, but {at} points are there")
            continue
        index, count = int(ident.split(b"-")[0]), int(found.get(b"len", b"1"))
        if index < at:
            verdict.repeated += at - index
            verdict.trouble.append(f"{what}: points from {index} are there twice")
        elif index > at:
            verdict.lost += index - at
            verdict.holes += index - at
            verdict.trouble.append(f"{what}: points {at} to {index - 1} are missing")
        bad = author.check(index, from_payload(name, found[b"payload"], count))
        if bad is not None:
            verdict.wrong += 1
            verdict.trouble.append(f"{what}: point {bad} is another one")
        at = index + count
    return at


def _judge_publisher(
    verdict: Verdict,
    publisher: Journal,
    readers: Sequence[Journal],
    lengths: Mapping[Stream, int],
    may_lose: bool,
) -> None:
    promised = dict(publisher.reached)
    for stream, length in publisher.ended.items():
        promised[stream] = max(length, promised.get(stream, 0))
    for stream, confirmed in promised.items():
        verdict.confirmed += confirmed
        there = lengths.get(stream, 0)
        if there >= confirmed:
            continue
        missing = confirmed - there
        what = f"{stream}: {confirmed} points were confirmed, {there} are there"
        # Who has sealed a stream, or read it to its seal, asks no more about it.
        done = [r for r in (publisher, *readers) if stream in r.ended or r.was_told(stream)]
        untold = [] if publisher in done else ["the publisher"]
        untold += [r.name for r in readers if r.reached.get(stream, 0) > there and r not in done]
        if may_lose and not untold:
            verdict.lost_and_told += missing
        else:
            verdict.lost += missing
            verdict.trouble.append(f"{what}; not told: {', '.join(untold) or 'nobody'}")
    if not may_lose:
        for (key, name), (kind, text) in publisher.told.items():
            verdict.gave_up += 1
            verdict.trouble.append(f"{publisher.name} gave up {key} '{name}': {kind}: {text}")
    if not publisher.over:
        verdict.hung += 1
        verdict.stuck.append(publisher.name)
        verdict.trouble.append(f"{publisher.name} did not end")


def _judge_reader(
    verdict: Verdict,
    reader: Journal,
    lengths: Mapping[Stream, int],
    published: Collection[str],
    may_lose: bool,
    killed: bool,
) -> None:
    for key, name, index, text in reader.wrong:
        verdict.wrong += 1
        verdict.trouble.append(f"{reader.name}: {key} '{name}' at {index}: {text}")
    for stream, end in reader.ended.items():
        if end != lengths.get(stream, 0) and not may_lose:
            verdict.lost += abs(lengths.get(stream, 0) - end)
            verdict.trouble.append(
                f"{reader.name}: {stream} ended at {end}, the server has {lengths.get(stream, 0)}"
            )
    if not (may_lose or killed):
        for (key, name), (kind, text) in reader.told.items():
            # A scan whose creator lost the reply is nobody's: readers are told so, rightly.
            if key is not None and key not in published and kind == "PublisherLostError":
                continue
            verdict.left += 1
            verdict.trouble.append(f"{reader.name} was told of {key} '{name}': {kind}: {text}")
    if not reader.over:
        verdict.hung += 1
        verdict.stuck.append(reader.name)
        verdict.trouble.append(f"{reader.name} hung")
