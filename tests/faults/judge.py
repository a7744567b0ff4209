"""What the journals of publisher and readers, and what is left on the server, say together: pure.

confirmed ≤ on the server ≤ sent, each point once and as its formula says; a reader saw what the
server has; where the server lost what it had confirmed, publisher and readers were told.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.formula import check, from_payload, salt

__all__ = ["Journal", "Verdict", "judge", "read_journal"]

SEAL = b"18446744073709551615-18446744073709551615"

Stream = tuple[str, str]
"""Key of the scan, and name."""

Entries = Sequence[tuple[bytes, Mapping[bytes, bytes]]]
"""A stream as it is on the server: ids and fields."""


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
    wrong: list[tuple[str, str, int, str]] = field(default_factory=list)
    again: Counter[str] = field(default_factory=Counter)
    longest_stall: float = 0.0
    """The longest time without a word, between the first and the last one [s]."""
    over: bool = False

    def was_told(self, stream: Stream) -> tuple[str, str] | None:
        """What it was told of the stream, or of its scan."""
        key, _ = stream
        return self.told.get(stream) or self.told.get((key, None)) or self.told.get((None, None))


def read_journal(name: str, paths: Iterable[Path]) -> Journal:
    """One program's journal, also over several runs. A last line that was cut off does not count."""
    journal = Journal(name)
    before = None
    for path in paths:
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                when, word, *rest = json.loads(line)
            except ValueError:
                continue
            if before is not None and word != "again":
                journal.longest_stall = max(journal.longest_stall, when - before)
            if word != "again":
                before = when
            _note(journal, word, rest)
    return journal


def _note(journal: Journal, word: str, rest: list[Any]) -> None:
    if word == "scan":
        journal.scans[rest[0]] = rest[1]
    elif word in ("confirmed", "at"):
        journal.reached[rest[0], rest[1]] = rest[2]
    elif word in ("sealed", "end"):
        stream = (rest[0], rest[1])
        journal.ended[stream] = rest[2]
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
    was told."""
    lost_and_told: int = 0
    """Confirmed points that a server lost that had not promised more, and that publisher and readers
    were told of."""
    repeated: int = 0
    out_of_order: int = 0
    wrong: int = 0
    hung: int = 0
    gave_up: int = 0
    """Publishers that failed although nothing was lost."""
    longest_stall: float = 0.0
    trouble: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        """Takes the counts of another one in."""
        for name in ("scans", "confirmed", "lost", "lost_and_told", "repeated", "out_of_order"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("wrong", "hung", "gave_up"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.longest_stall = max(self.longest_stall, other.longest_stall)
        self.trouble += other.trouble

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
) -> Verdict:
    """`may_lose`: the durability allows that a server that was killed loses confirmed points;
    `killed`: publishers were, so streams may have no seal."""
    verdict = Verdict()
    numbers: dict[str, int] = {}
    for journal in [*publishers, *readers]:
        numbers.update(journal.scans)
        verdict.longest_stall = max(verdict.longest_stall, journal.longest_stall)
    verdict.scans = len(numbers)
    lengths: dict[Stream, int] = {}
    for (key, name), entries in server.items():
        if key in numbers:
            length = _length(verdict, f"{key} '{name}'", name, salt(numbers[key], name), entries)
            lengths[key, name] = length
    for journal in publishers:
        _judge_publisher(verdict, journal, readers, lengths, may_lose)
    for journal in readers:
        _judge_reader(verdict, journal, lengths, may_lose, killed)
    return verdict


def _length(verdict: Verdict, what: str, name: str, number: int, entries: Entries) -> int:
    """How many points a stream has on the server; each is looked at."""
    at = 0
    for ident, fields in entries:
        if ident == SEAL:
            sealed = int(fields[b"id"])
            if sealed != at:
                verdict.out_of_order += 1
                verdict.trouble.append(f"{what}: sealed with {sealed}, but {at} points are there")
            continue
        index, count = int(ident.split(b"-")[0]), int(fields.get(b"len", b"1"))
        if index < at:
            verdict.repeated += at - index
            verdict.trouble.append(f"{what}: points from {index} are there twice")
        elif index > at:
            verdict.lost += index - at
            verdict.trouble.append(f"{what}: points {at} to {index - 1} are missing")
        bad = check(name, number, index, from_payload(name, fields[b"payload"], count))
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
        # Who has sealed a stream asks no more about it.
        done = stream in publisher.ended or publisher.was_told(stream)
        untold = [] if done else ["the publisher"]
        untold += [
            r.name for r in readers if r.reached.get(stream, 0) > there and not r.was_told(stream)
        ]
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
        verdict.trouble.append(f"{publisher.name} did not end")


def _judge_reader(
    verdict: Verdict,
    reader: Journal,
    lengths: Mapping[Stream, int],
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
            verdict.trouble.append(f"{reader.name} was told of {key} '{name}': {kind}: {text}")
    if not reader.over:
        verdict.hung += 1
        verdict.trouble.append(f"{reader.name} hung")
