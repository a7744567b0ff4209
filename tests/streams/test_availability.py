"""Where points are, as rules: sets of indices, and what follows from what each place says it has.

index      0 1 2 3 4 5 6 7 8 9 │ 10 …
file       ■ ■ ■ ■ ■ · · · · · │ ·
memory               ■ ■ ■ ■   │ ·       (places may overlap)
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blissdata.exceptions import IndexNoMoreThereError, IndexWontBeThereError
from blissdata.streams.availability import (
    END,
    NOTHING,
    Availability,
    EventBounds,
    Holding,
    Looks,
    Place,
    Ranges,
)

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6)


def indices(ranges: Ranges) -> set[int]:
    return {i for start, stop in ranges for i in range(start, stop)}


def as_set(spans: list[tuple[int, int]]) -> set[int]:
    return {i for start, stop in spans for i in range(start, stop)}


# ------------------------------------------------------------------------------ ranges


@given(SPANS, SPANS)
def test_ranges_are_sets_of_indices(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    a, b = Ranges.of(one), Ranges.of(other)
    x, y = as_set(one), as_set(other)
    for found, expected in ((a, x), (a | b, x | y), (a & b, x & y), (a - b, x - y)):
        assert indices(found) == expected
        assert found.count == len(expected)
        assert bool(found) == bool(expected)
        assert [i in found for i in range(-1, 32)] == [i in expected for i in range(-1, 32)]
        # One form for one set: equal sets are equal values.
        assert found == Ranges.of((i, i + 1) for i in expected)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(-5, 5).filter(bool))
def test_a_python_range_is_a_set_of_indices(start: int, stop: int, step: int) -> None:
    wanted = range(start, stop, step)
    assert indices(Ranges.at(wanted)) == set(wanted)


@pytest.mark.parametrize(
    ("spans", "text"),
    [
        ([], ""),
        ([(3, 4)], "3"),
        ([(0, 100), (120, 121), (200, 202)], "0–99, 120, 200–201"),
        ([(7, END)], "7–"),
    ],
)
def test_ranges_for_people_and_for_json(spans: list[tuple[int, int]], text: str) -> None:
    ranges = Ranges.of(spans)
    assert str(ranges) == text
    assert json.loads(json.dumps(ranges.as_json())) == [list(span) for span in spans]


# ------------------------------------------------------------------------------ places


def saved(
    there: Ranges = NOTHING,
    coming: Ranges = NOTHING,
    why: str | None = None,
    may_pass: bool = False,
    hidden: Ranges = NOTHING,
) -> Holding:
    return Holding(
        Place.FILE,
        there,
        coming,
        "/data/scan.h5",
        "/1.1/d",
        why,
        looked_at=True,
        hidden=hidden,
        may_pass=may_pass,
    )


def between(start: int, stop: int) -> Ranges:
    return Ranges.between(start, stop)


def of(*holdings: Holding, length: int = 10, sealed: bool = False, **more: object) -> Availability:
    return Availability("diode", "k", length, sealed, holdings, **more)  # type: ignore[arg-type]


def memory(start: int, length: int = 10, sealed: bool = False) -> Holding:
    return EventBounds(start, length, sealed).in_memory()


def test_a_plain_stream_is_in_memory_or_gone() -> None:
    found = of(memory(4))
    assert (found.memory, found.gone) == (between(4, 10), between(0, 4))
    assert found.file == found.detector == found.pending == found.unknown == NOTHING
    assert found.readable == between(4, 10)
    assert found.places == (Place.MEMORY,)
    assert [found.where(i) for i in (0, 4, 9, 10)] == ["gone", "memory", "memory", "later"]


def test_a_point_may_be_in_two_places() -> None:
    found = of(memory(3), saved(between(0, 5), between(5, END)))
    assert (found.memory, found.file) == (between(3, 10), between(0, 5))
    assert found.readable == between(0, 10)
    assert found.gone == found.pending == NOTHING
    assert [found.where(i) for i in (0, 3, 8)] == ["file", "memory", "memory"]


def test_what_left_memory_and_is_not_in_the_file_yet_is_pending() -> None:
    found = of(memory(8), saved(between(0, 5), between(5, END)))
    assert (found.pending, found.gone) == (between(5, 8), NOTHING)
    assert found.where(6) == "pending"


def test_what_no_file_will_have_is_gone() -> None:
    found = of(memory(8, sealed=True), saved(between(0, 5), NOTHING), sealed=True)
    assert (found.pending, found.gone) == (NOTHING, between(5, 8))
    assert found.where(10) == "never"


def test_a_file_that_is_longer_than_the_stream_shows_what_was_published() -> None:
    found = of(memory(10), saved(between(0, 1000)))
    assert found.file == between(0, 10)


def test_several_files_are_one_place() -> None:
    found = of(saved(between(0, 3)), saved(between(5, 7)))
    assert found.file == Ranges.of([(0, 3), (5, 7)])
    assert len(found.files) == 2
    assert found.places == (Place.FILE,)


def test_of_a_plugin_that_does_not_tell_the_rest_is_unknown() -> None:
    found = of(memory(4), complete=False)
    assert (found.memory, found.unknown, found.gone) == (between(4, 10), between(0, 4), NOTHING)
    assert found.where(2) == "unknown"


def test_what_may_be_in_a_file_that_must_not_be_opened_is_unknown_and_not_waited_for() -> None:
    found = of(memory(8), saved(why="it lies elsewhere", hidden=between(0, END)))
    assert (found.unknown, found.gone) == (between(0, 8), NOTHING)
    assert found.sets()["unknown"] == between(0, 8)
    assert found.sets()["gone"] == NOTHING
    assert found.where(3) == "unknown"
    assert found.where(9) == "memory"
    missing = found.missing(between(3, 9), None)
    assert found.lost(missing, None) == between(3, 8)
    told = str(found.why_lost(between(3, 8), None, "Stream 'diode'"))
    assert "may be in a file that this reader must not open" in told
    assert "it lies elsewhere" in told


def test_json_holds_everything() -> None:
    found = of(memory(8), saved(between(0, 5), between(5, END), "it has 5 points"))
    assert json.loads(json.dumps(found.as_json())) == {
        "name": "diode",
        "key": "k",
        "length": 10,
        "sealed": False,
        "memory": [[8, 10]],
        "file": [[0, 5]],
        "detector": [],
        "pending": [[5, 8]],
        "gone": [],
        "unknown": [],
        "files": [
            {
                "path": "/data/scan.h5",
                "item": "/1.1/d",
                "points": [[0, 5]],
                "why": "it has 5 points",
            }
        ],
        "problem": None,
    }
    assert repr(found) == (
        "<Availability of 'diode': 10 points (open); memory 8–9; file 0–4; pending 5–7>"
    )


# ------------------------------------------------------------------------------ waiting


@pytest.mark.parametrize("place", [None, Place.MEMORY, Place.FILE])
def test_what_is_missing_is_told_from_what_is_lost(place: Place | None) -> None:
    found = of(memory(8), saved(between(0, 5), between(5, END)))
    wanted = between(4, 12)
    missing = {None: Ranges.of([(5, 8), (10, 12)]), Place.MEMORY: Ranges.of([(4, 8), (10, 12)])}
    lost = {None: NOTHING, Place.MEMORY: between(4, 8), Place.FILE: NOTHING}
    found_missing = found.missing(wanted, place)
    assert found_missing == missing.get(place, between(5, 12))
    assert found.lost(found_missing, place) == lost[place]


def test_after_the_seal_nothing_more_comes() -> None:
    found = of(memory(0, sealed=True), sealed=True)
    missing = found.missing(between(8, 12), None)
    lost = found.lost(missing, None)
    assert lost == missing == between(10, 12)
    error = found.why_lost(lost, None, "Stream 'diode'")
    assert isinstance(error, IndexWontBeThereError)
    assert (
        str(error) == "Stream 'diode': it was sealed with 10 points, there will be no index 10–11"
    )


def test_an_error_says_why_a_place_has_it_not_and_which_has() -> None:
    found = of(memory(8), saved(between(0, 5), NOTHING, "it has 5 points"))
    error = found.why_lost(between(2, 5), Place.MEMORY, "Stream 'diode'")
    assert isinstance(error, IndexNoMoreThereError)
    assert str(error) == (
        "Stream 'diode': points 2–4 are not there (memory), and will not be: memory: they left the "
        "server's memory. file has 2–4"
    )
    error = found.why_lost(between(5, 8), None, "Stream 'diode'")
    assert isinstance(error, IndexNoMoreThereError)
    assert "/data/scan.h5: it has 5 points" in str(error)
    assert "memory: they left the server's memory" in str(error)


def test_of_a_plugin_that_does_not_tell_published_points_count_as_there() -> None:
    found = of(length=5, complete=False)
    assert found.missing(between(0, 7), None) == between(5, 7)
    assert found.lost(between(5, 7), None) == NOTHING
    assert of(length=5, complete=False, sealed=True).lost(between(5, 7), None) == between(5, 7)


def test_files_are_looked_at_only_where_something_may_come_to_them() -> None:
    found = of(memory(8), saved(between(0, 5), between(5, 8)))
    assert found.looked_for(between(5, 8), None)
    assert not found.looked_for(between(8, 9), None)
    assert not found.looked_for(between(5, 8), Place.MEMORY)
    absent = of(memory(8), saved(may_pass=True))
    assert absent.looked_for(between(5, 8), Place.FILE)
    assert absent.may_pass(None)
    assert not absent.may_pass(Place.MEMORY)


def test_looks_are_rationed() -> None:
    looks = Looks(1.0, 0.5)
    assert looks.may_look(None)
    assert looks.may_look(1.0)
    assert not looks.may_look(0.9)
    looks.took(0.6)
    assert not looks.may_look(9.0)
    assert looks.may_look(10.0)
    assert looks.may_look(None)  # the first look is always worth it
