"""The rules of a stream, as pure functions: which points are in these entries, which are gone,
which are still to come.

A stream is a list of points with a moving left edge (trimming) and a lid (the seal). Its entries
each hold one or more consecutive points; how points are split into entries means nothing.

    index      0   1   2   3   4   5   6   7   8
    entries            [2       ][5][6       ]          | seal: 8
               └ expired ┘
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from blissdata.exceptions import (
    IndexNoMoreThereError,
    IndexNotYetThereError,
    IndexWontBeThereError,
    PayloadError,
)
from blissdata.streams.encoding.base import EncodedBatch

__all__ = [
    "MAX_INDEX",
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
]

MAX_INDEX = 2**64 - 1
"""The index of the seal's entry id: no point can be there (protocol 1, "Events")."""

READ_LIMIT = 8 * 2**20
"""What one read of one stream aims at [bytes]."""

TYPICAL_ENTRY = 4 * 2**10
"""Assumed size of an entry of small points [bytes]; publishers join points up to 64 KiB."""


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


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a stream ends at this moment."""

    length: int
    """How many points were ever published, forgotten ones included."""

    sealed: bool
    """True if the length is final."""


@dataclass(frozen=True, slots=True)
class Run:
    """The next consecutive points from a position on."""

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


def entries_per_read(point_nbytes: int | None, streams: int = 1) -> int:
    """How many entries of each stream to ask for in one read of `streams` streams, so that the
    reply stays near `READ_LIMIT` a stream for one, and in all for many."""
    size = max(point_nbytes or 0, TYPICAL_ENTRY)
    return max(1, min(READ_LIMIT // size, 2048) // max(1, streams // 64))


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
    first = entries[0]
    nb_expired = max(0, first.index - position)
    skip = max(0, position - first.index)
    end = first.index
    batches: list[EncodedBatch] = []
    for entry in entries:
        if entry.index != end:
            if entry.index < end:
                raise PayloadError(
                    f"the entry at index {entry.index} begins before the one in front of it "
                    f"ends (index {end}): one of the two lies about its length"
                )
            break
        batches.append(entry.batch)
        end += entry.batch.len
    complete = len(batches) == len(entries)
    if seal is not None:
        check_within(entries, Tail(seal, True))
    start = position + nb_expired
    return Run(position, nb_expired, batches, skip, end - start, complete and seal == end)


def check_within(entries: Iterable[Entry], tail: Tail) -> None:
    """Raises `PayloadError` if entries go beyond the length that a seal states."""
    end = max((entry.end for entry in entries), default=0)
    if tail.sealed and end > tail.length:
        raise PayloadError(f"the seal says {tail.length} points, but entries reach to index {end}")


def cut_short(run: Run, batches: int) -> Run:
    """The first `batches` batches of the run, at least one."""
    kept = run.batches[:batches]
    count = sum(batch.len for batch in kept) - run.skip
    return replace(run, batches=kept, count=count, end_of_stream=False)


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


def cut(entries: Sequence[Entry], start: int, stop: int) -> tuple[list[EncodedBatch], int] | None:
    """The batches that hold all points from `start` to `stop` (exclusive), and how many points of
    the first lie before `start`; None if one of the points is in none of the entries."""
    run = next_run(start, [e for e in entries if e.end > start and e.index < stop], None)
    if run is None or run.nb_expired or run.end < stop:
        return None
    return list(run.batches), run.skip


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


def no_more_there(what: str, start: int, stop: int) -> IndexNoMoreThereError:
    """The error for points that have left the server, `stop` exclusive."""
    points = f"index {start}" if stop == start + 1 else f"points {start} to {stop - 1}"
    return IndexNoMoreThereError(
        f"{what}: {points} left the server's memory, and this stream has no file to read them from"
    )
