"""The rules of a stream, as pure functions: which points are in these entries, which are gone,
which are still to come.

A stream is a list of points with a moving left edge (trimming) and a lid (the seal). Its entries
each hold one or more consecutive points; how points are split into entries means nothing.

    index      0   1   2   3   4   5   6   7   8
    entries            [2       ][5][6       ]          | seal: 8
               └ expired ┘
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import eq
from typing import overload

from blissdata.exceptions import (
    IndexNoMoreThereError,
    IndexNotYetThereError,
    IndexWontBeThereError,
    PayloadError,
)
from blissdata.streams.encoding.base import Batches, EncodedBatch

__all__ = [
    "MAX_INDEX",
    "READ_LIMIT",
    "Entries",
    "Entry",
    "Run",
    "Tail",
    "check_index",
    "check_within",
    "cut",
    "cut_short",
    "entries_per_read",
    "newest_run",
    "next_run",
    "resolve_slice",
    "runs",
]

MAX_INDEX = 2**64 - 1
"""The index of the seal's entry id: no point can be there (protocol 1, "Events")."""

READ_LIMIT = 8 * 2**20
"""What one read of one stream aims at [bytes]."""

LARGE_ENTRY = 32 * 2**10
"""Assumed size of entries that were never seen [bytes]; ours join points up to 4 KiB."""

SMALLEST_ENTRY = 128
"""No entry costs less than about this [bytes], whatever it holds: index and field names."""

MOST_ENTRIES = 4096
"""A reader who lags asks for no more at once; joined entries make it fewer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a stream on the server."""

    index: int
    """Index of its first point."""

    batch: EncodedBatch
    """Its points."""

    @property
    def end(self) -> int:
        """Index after its last point."""
        return self.index + self.batch.len


class Entries(Sequence[Entry]):
    """Entries of one stream in ascending order, in columns. Never changed once made."""

    __slots__ = ("batches", "starts")

    def __init__(self, starts: Sequence[int], batches: Batches) -> None:
        """`starts` holds the index of the first point of each entry; a range (step 1) where each
        has one point and follows the one before."""
        self.starts = starts
        self.batches = batches

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Entries:
        """The same entries in columns."""
        if isinstance(entries, Entries):
            return entries
        found = list(entries)
        return cls([e.index for e in found], Batches.of(e.batch for e in found))

    @classmethod
    def joined(cls, parts: Sequence[Entries]) -> Entries:
        """All of them, in this order."""
        parts = [part for part in parts if part] or parts[:1]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls((), Batches(()))
        starts = [start for part in parts for start in part.starts]
        payloads = [payload for part in parts for payload in part.batches.payloads]
        lens = None
        if any(part.batches.lens is not None for part in parts):
            lens = [n for part in parts for n in part.batches.lens or [1] * len(part)]
        return cls(starts, Batches(payloads, lens))

    @property
    def end(self) -> int:
        """Index after the last point; 0 if there is none."""
        if not self.starts:
            return 0
        lens = self.batches.lens
        return int(self.starts[-1]) + (1 if lens is None else lens[-1])

    def ends(self) -> Sequence[int]:
        """The index after the last point of each entry."""
        lens = self.batches.lens
        if lens is None:
            starts = self.starts
            if isinstance(starts, range):
                return range(starts.start + 1, starts.stop + 1)
            return [start + 1 for start in starts]
        return [start + n for start, n in zip(self.starts, lens, strict=True)]

    def within(self, start: int, stop: int) -> Entries:
        """Those that hold a point from `start` to `stop` (exclusive)."""
        first = bisect_right(self.ends(), start)
        last = bisect_left(self.starts, stop)
        return self[first:last] if first or last < len(self) else self

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, key: int) -> Entry: ...
    @overload
    def __getitem__(self, key: slice) -> Entries: ...
    def __getitem__(self, key: int | slice) -> Entry | Entries:
        if isinstance(key, slice):
            return Entries(self.starts[key], self.batches[key])
        return Entry(self.starts[key], self.batches[key])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Entries: {len(self)} from index {self.starts[0] if self.starts else '-'}>"


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a stream ends at this moment."""

    length: int
    """How many points were ever published, forgotten ones included."""

    sealed: bool
    """True if the length is final."""


@dataclass(slots=True)
class Run:
    """The next consecutive points from a position on. Never changed once made; not frozen, which
    would take longer than all the rest."""

    index: int
    """Index of the first point: the position that was asked for."""

    nb_expired: int
    """How many points at the start are gone."""

    batches: Sequence[EncodedBatch]
    """The payloads that hold the rest."""

    skip: int
    """How many points at the start of the first payload lie before the run."""

    count: int
    """How many points the rest has."""

    end_of_stream: bool
    """True if the seal stands right behind the run."""

    @property
    def end(self) -> int:
        """Index after the run."""
        return self.index + self.nb_expired + self.count


def entries_per_read(entry_nbytes: int | None, streams: int = 1) -> int:
    """How many entries of each stream to ask for in one read of `streams` streams, when one has
    about `entry_nbytes` (None: not known yet), so that the reply stays near `READ_LIMIT` a stream
    for one, and in all for many. A power of 4: streams that are alike ask for the same."""
    size = LARGE_ENTRY if entry_nbytes is None else max(entry_nbytes, SMALLEST_ENTRY)
    wanted = min(READ_LIMIT // size, MOST_ENTRIES) // max(1, streams // 64)
    power: int = (max(1, wanted).bit_length() - 1) // 2
    return 1 << (2 * power)


def next_run(position: int, entries: Sequence[Entry], seal: int | None) -> Run | None:
    """The run of points at `position`, out of entries in ascending order that reach at or beyond
    it (the first may begin before it), and the length that a seal behind them states.

    None if there is nothing. A run ends before a gap: the next one begins with it. Raises
    `PayloadError` where entries overlap, or the seal contradicts them.
    """
    if not entries:
        if seal is None:
            return None
        return Run(position, max(0, seal - position), (), 0, 0, True)
    found = Entries.of(entries)
    first = found.starts[0]
    if first == position and seal is None and isinstance(found.starts, range):
        return Run(position, 0, found.batches, 0, len(found.starts), False)
    nb_expired = max(0, first - position)
    skip = max(0, position - first)
    following = _consecutive(found)
    kept = found if following == len(found) else found[:following]
    if seal is not None:
        check_within(found, Tail(seal, True))
    start = position + nb_expired
    end = kept.end
    last = following == len(found) and seal == end
    return Run(position, nb_expired, kept.batches, skip, end - start, last)


def _consecutive(entries: Entries) -> int:
    """How many entries at the start follow each other without a gap. Raises `PayloadError` where
    they overlap."""
    starts, lens = entries.starts, entries.batches.lens
    if isinstance(starts, range):
        return len(starts)
    if lens is None:
        lens = [1] * len(starts)
    expected = list(accumulate(lens, initial=starts[0]))
    if expected[:-1] == starts:
        return len(starts)
    i = next(i for i, start in enumerate(starts) if start != expected[i])
    if starts[i] < expected[i]:
        raise PayloadError(
            f"the entry at index {starts[i]} begins before the one in front of it "
            f"ends (index {expected[i]}): one of the two lies about its length"
        )
    return i


def check_within(entries: Iterable[Entry], tail: Tail) -> None:
    """Raises `PayloadError` if entries go beyond the length that a seal states."""
    if not tail.sealed:
        return
    end = max(Entries.of(entries).ends(), default=0)
    if end > tail.length:
        raise PayloadError(f"the seal says {tail.length} points, but entries reach to index {end}")


def cut_short(run: Run, batches: int) -> Run:
    """The first `batches` batches of the run, at least one."""
    kept = Batches.of(run.batches)[:batches]
    return replace(run, batches=kept, count=kept.points - run.skip, end_of_stream=False)


def newest_run(tail: Tail, newest: Entry | None) -> Run | None:
    """The newest point alone, out of the newest entry, if there is one; expired if it is not in
    there; None if there never was a point. Raises `PayloadError` where the entry goes beyond the
    seal."""
    if newest is not None:
        check_within([newest], tail)
    if not tail.length:
        return None
    last = tail.length - 1
    if newest is None or newest.end < tail.length:
        return Run(last, 1, (), 0, 0, tail.sealed)
    return Run(last, 0, (newest.batch,), newest.batch.len - 1, 1, tail.sealed)


def cut(entries: Sequence[Entry], start: int, stop: int) -> tuple[Batches, int] | None:
    """The batches that hold all points from `start` to `stop` (exclusive), and how many points of
    the first lie before `start`; None if one of the points is in none of the entries."""
    run = next_run(start, Entries.of(entries).within(start, stop), None)
    if run is None or run.nb_expired or run.end < stop:
        return None
    return Batches.of(run.batches), run.skip


def runs(entries: Sequence[Entry], start: int, stop: int) -> list[Run]:
    """All points from `start` to `stop` (exclusive) that are in the entries, in runs: what lies in
    front of each run, and behind the last, is in none of them."""
    left = [entry for entry in entries if entry.end > start and entry.index < stop]
    if start >= stop:
        return []
    found: list[Run] = []
    position = start
    while run := next_run(position, left, None):
        count = min(run.end, stop) - position - run.nb_expired
        found.append(replace(run, index=position + run.nb_expired, nb_expired=0, count=count))
        left = left[len(run.batches) :]
        position = run.end
    return found


def check_index(index: int, tail: Tail, what: str) -> int:
    """The index from the start, for an index that may be negative. `what` names the stream.

    Raises `IndexNotYetThereError` (also for negative ones before the seal),
    `IndexWontBeThereError`, or plain `IndexError` before the start of a sealed stream."""
    if index < 0:
        if not tail.sealed:
            raise IndexNotYetThereError(
                f"{what}: index {index} counts from the end, which is not known before the stream "
                "is sealed; wait_seal() waits for that"
            )
        if index + tail.length < 0:
            raise IndexError(f"{what}: index {index} is out of range, it has {tail.length} points")
        return index + tail.length
    if index >= tail.length:
        if tail.sealed:
            raise IndexWontBeThereError(
                f"{what}: it was sealed with {tail.length} points, there will be no index {index}"
            )
        raise IndexNotYetThereError(
            f"{what}: index {index} is not published yet, there are {tail.length} points so far"
        )
    return index


def resolve_slice(selection: slice, tail: Tail, what: str) -> range:
    """The indices that a slice selects of the points published so far.

    Negative bounds and steps count from the end, which only a sealed stream has: before,
    `IndexNotYetThereError`. A step of 0 is a `ValueError`, a bound that is no integer a `TypeError`.
    """
    selected = range(*selection.indices(tail.length))
    counts_from_end = any(
        bound is not None and bound < 0
        for bound in (selection.start, selection.stop, selection.step)
    )
    if counts_from_end and not tail.sealed:
        raise IndexNotYetThereError(
            f"{what}: a slice that counts from the end has no meaning before the stream is sealed; "
            "wait_seal() waits for that"
        )
    return selected


def no_more_there(
    what: str, start: int, stop: int, saved: str | None = None
) -> IndexNoMoreThereError:
    """The error for points that have left the server, `stop` exclusive; `saved` is the file that the
    scan says it is saved to."""
    points = f"index {start}" if stop == start + 1 else f"points {start} to {stop - 1}"
    hint = f". The scan is saved to {saved}: blissdata.h5api.redis_hdf5.File reads it there"
    return IndexNoMoreThereError(
        f"{what}: {points} left the server's memory, and this stream has no file to read them from"
        + (hint if saved else "")
    )
