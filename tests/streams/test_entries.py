"""The rules of a stream, over all small cases: every split of a few points into entries, every left
edge, every lid, every position.

The expected values come from lists: `present` are the points that are there, in order.

| rule                             | cases                                            |
| -------------------------------- | ------------------------------------------------ |
| next_run                         | splits × left edges × seals × positions          |
| newest_run                       | splits × left edges × seals                      |
| cut                              | splits × left edges × ranges                     |
| runs                             | splits × holes × ranges                          |
| check_index, resolve_slice       | lengths × sealed or not × indices, bounds, steps |
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from blissdata.exceptions import (
    IndexNotYetThereError,
    IndexWontBeThereError,
    PayloadError,
)
from blissdata.streams.encoding import EncodedBatch
from blissdata.streams.entries import (
    Entry,
    Run,
    Tail,
    check_index,
    check_within,
    cut,
    cut_short,
    entries_per_read,
    newest_run,
    next_run,
    no_more_there,
    resolve_slice,
    runs,
)

LONGEST = 6


def entry(start: int, stop: int) -> Entry:
    """Its payload is its points, one byte each."""
    return Entry(start, EncodedBatch(bytes(range(start, stop)), stop - start))


def splits(length: int) -> Iterator[list[Entry]]:
    """Every way to put that many points into entries."""
    for cuts in itertools.product((False, True), repeat=max(0, length - 1)):
        edges = [0, *(i for i, is_cut in enumerate(cuts, 1) if is_cut), length]
        yield [entry(a, b) for a, b in itertools.pairwise(edges)] if length else []


STREAMS = [
    (length, split[gone:])
    for length in range(LONGEST + 1)
    for split in splits(length)
    for gone in range(len(split) + 1)
]
"""Every small stream: how many points there ever were, and the entries that are still there."""


def points(run: Run) -> list[int]:
    """Those of the run that are there."""
    joined = list(b"".join(batch.payload for batch in run.batches))
    return joined[run.skip : run.skip + run.count]


def left(length: int, entries: list[Entry]) -> int:
    return entries[0].index if entries else length


# ---------------------------------------------------------------------------------- next_run


@pytest.mark.parametrize("sealed", [False, True], ids=["open", "sealed"])
def test_a_run_is_everything_from_the_position_on(sealed):
    for length, there in STREAMS:
        for position in range(length + 1):
            # What a server gives: the entries that reach beyond the position.
            entries = [e for e in there if e.end > position]
            run = next_run(position, entries, length if sealed else None)
            if not entries and not sealed:
                assert run is None
                continue
            assert run is not None
            gone = max(0, left(length, there) - position)
            assert run.index == position
            assert run.nb_expired == gone
            assert points(run) == list(range(position + gone, length))
            assert run.end == length
            assert run.end_of_stream == sealed


def test_a_run_ends_before_a_gap_and_the_next_begins_with_it():
    for length, there in STREAMS:
        if not there:
            continue
        for missing in range(1, 3):
            beyond = entry(length + missing, length + missing + 2)
            run = next_run(there[0].index, [*there, beyond], beyond.end)
            assert run is not None
            assert run.end == length
            assert not run.end_of_stream
            rest = next_run(length, [beyond], beyond.end)
            assert rest is not None
            assert (rest.index, rest.nb_expired) == (length, missing)
            assert points(rest) == [length + missing, length + missing + 1]
            assert rest.end_of_stream


def test_points_that_are_missing_in_front_of_the_seal_belong_to_the_run_after():
    run = next_run(0, [entry(0, 3)], 5)
    assert run is not None
    assert points(run) == [0, 1, 2]
    assert not run.end_of_stream
    assert next_run(3, [], 5) == Run(3, 2, (), 0, 0, True)


def test_nothing_is_no_run():
    assert next_run(0, [], None) is None
    assert next_run(7, [], None) is None
    assert next_run(7, [], 7) == Run(7, 0, (), 0, 0, True)


def test_entries_that_overlap_are_damage():
    for length, there in STREAMS:
        if not there:
            continue
        for overlap in range(1, there[-1].batch.len + 1):
            lie = entry(length - overlap, length + 1)
            with pytest.raises(PayloadError, match="lies about its length"):
                next_run(there[0].index, [*there, lie], None)


def test_a_seal_shorter_than_the_entries_is_damage():
    for length, there in STREAMS:
        if not there:
            continue
        for short in range(1, length + 1):
            with pytest.raises(PayloadError, match=f"seal says {length - short} points"):
                next_run(there[0].index, there, length - short)
            with pytest.raises(PayloadError):
                check_within(there, Tail(length - short, True))
            check_within(there, Tail(length - short, False))  # nothing was promised
        check_within(there, Tail(length, True))


def test_a_run_cut_short_has_the_first_batches():
    for length, there in STREAMS:
        for position in range(length):
            entries = [e for e in there if e.end > position]
            run = next_run(position, entries, length)
            assert run is not None
            for count in range(1, len(run.batches) + 1):
                shorter = cut_short(run, count)
                start = position + run.nb_expired
                assert points(shorter) == list(range(start, entries[count - 1].end))
                assert (shorter.index, shorter.nb_expired) == (run.index, run.nb_expired)
                assert not shorter.end_of_stream


# ---------------------------------------------------------------------------------- newest_run


@pytest.mark.parametrize("sealed", [False, True], ids=["open", "sealed"])
def test_the_newest_point_is_the_last_one_or_gone(sealed):
    for length, there in STREAMS:
        run = newest_run(Tail(length, sealed), there[-1] if there else None)
        if length == 0:
            assert run is None
            continue
        assert run is not None
        assert run.end == length
        assert run.end_of_stream == sealed
        if there:
            assert (run.index, run.nb_expired) == (length - 1, 0)
            assert points(run) == [length - 1]
        else:
            assert (run.index, run.nb_expired, run.count) == (length - 1, 1, 0)


def test_the_newest_point_is_gone_if_there_is_a_hole_in_front_of_the_seal():
    run = newest_run(Tail(5, True), entry(0, 3))
    assert run == Run(4, 1, (), 0, 0, True)


def test_a_newest_entry_beyond_the_seal_is_damage():
    for seal in range(3):
        with pytest.raises(PayloadError, match="seal says"):
            newest_run(Tail(seal, True), entry(0, 3))


# ---------------------------------------------------------------------------------- cut


def test_a_cut_has_all_points_or_is_none():
    for length, there in STREAMS:
        for start, stop in itertools.combinations(range(length + 3), 2):
            found = cut(there, start, stop)
            if left(length, there) <= start and stop <= length:
                assert found is not None
                batches, skip = found
                joined = list(b"".join(batch.payload for batch in batches))
                assert joined[skip : skip + stop - start] == list(range(start, stop))
                assert skip < batches[0].len
            else:
                assert found is None


def test_a_cut_over_a_gap_is_none():
    entries = [entry(0, 2), entry(3, 5)]
    assert cut(entries, 1, 4) is None
    assert cut(entries, 2, 3) is None
    assert cut(entries, 3, 5) is not None


# ---------------------------------------------------------------------------------- indices


@pytest.mark.parametrize("length", range(5))
@pytest.mark.parametrize("index", [*range(-6, 7), 10**19, -(10**19)])
def test_indices_mean_what_they_mean_in_a_list(length, index):
    numbers = list(range(length))

    def of_a_list():
        try:
            return numbers[index]
        except IndexError:
            return None

    if index >= 0:
        expected = {True: IndexWontBeThereError, False: IndexNotYetThereError}
    else:
        expected = {True: IndexError, False: IndexNotYetThereError}
    for sealed in (True, False):
        if of_a_list() is not None and (index >= 0 or sealed):
            assert check_index(index, Tail(length, sealed), "it") == of_a_list()
        else:
            with pytest.raises(IndexError, match="it") as caught:
                check_index(index, Tail(length, sealed), "it")
            assert type(caught.value) is expected[sealed]


BOUNDS = [None, -(10**19), *range(-4, 5), 10**19]
STEPS = [None, -3, -1, 1, 2, 10**19]


@pytest.mark.parametrize("length", range(4))
def test_slices_select_what_they_select_of_a_list(length):
    for start, stop, step in itertools.product(BOUNDS, BOUNDS, STEPS):
        selection = slice(start, stop, step)
        expected = list(range(length))[selection]
        assert list(resolve_slice(selection, Tail(length, True), "it")) == expected
        if any(bound is not None and bound < 0 for bound in (start, stop, step)):
            with pytest.raises(IndexNotYetThereError, match="it"):
                resolve_slice(selection, Tail(length, False), "it")
        else:
            assert list(resolve_slice(selection, Tail(length, False), "it")) == expected


def test_a_step_of_nothing_is_refused():
    with pytest.raises(ValueError, match="zero"):
        resolve_slice(slice(None, None, 0), Tail(3, True), "it")


@pytest.mark.parametrize(
    ("start", "stop", "words"), [(3, 4, "index 3 left"), (3, 6, "points 3 to 5 left")]
)
def test_points_that_are_gone_are_named(start, stop, words):
    assert f"it: {words}" in str(no_more_there("it", start, stop))


# ---------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("nbytes", [None, 0, 1, 8, 4096, 10**5, 2**20, 2**24, 2**40])
@pytest.mark.parametrize("streams", [1, 10, 64, 1000, 10**5])
def test_one_read_asks_for_about_eight_megabytes_and_for_one_entry_at_least(nbytes, streams):
    count = entries_per_read(nbytes, streams)
    assert count >= 1
    assert count == 1 or count * (nbytes or 0) <= 8 * 2**20
    assert count <= entries_per_read(nbytes, 1)
    unseen = entries_per_read(None, streams)
    assert unseen == 1 or unseen * 64 * 2**10 <= 16 * 2**20


# ---------------------------------------------------------------------------------- runs


def test_runs_are_all_that_is_there_of_a_range():
    for split in splits(LONGEST):
        for kept in itertools.product((False, True), repeat=len(split)):
            there = list(itertools.compress(split, kept))
            indices = [i for e in there for i in range(e.index, e.end)]
            for start, stop in itertools.combinations_with_replacement(range(LONGEST + 2), 2):
                found = runs(there, start, stop)
                for run in found:
                    assert points(run) == list(range(run.index, run.index + run.count))
                together = [i for run in found for i in points(run)]
                assert together == [i for i in indices if start <= i < stop]
                for one, other in itertools.pairwise(found):
                    assert one.index + one.count < other.index
