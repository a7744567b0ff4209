"""Points that are kept, beside a list that keeps everything."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blissdata.viewer.points import Parts, Tail, chosen_range, for_plots


@given(
    st.lists(st.integers(0, 700), max_size=20),
    st.integers(1, 3000),
    st.lists(st.integers(0, 4000), min_size=2, max_size=2).map(sorted),
)
def test_a_tail_has_the_newest_points_and_no_others(
    sizes: list[int], limit: int, wanted: list[int]
) -> None:
    tail = Tail(np.dtype("i8"), (), 8 * limit)
    every = np.arange(sum(sizes))
    at = 0
    for size in sizes:
        tail.add(at, every[at : at + size])
        at += size
        assert tail.stop == at
        assert tail.stop - tail.start <= limit
    start, stop = wanted
    found = tail.get(start, stop)
    if found is None:
        assert start < tail.start or stop > tail.stop
    else:
        assert np.array_equal(found, every[start:stop])
    if at:
        assert tail.last() == at - 1
        assert tail.stop - tail.start >= min(at, max(limit // 2, 1), sizes[-1] or 1)


def test_a_gap_begins_a_tail_anew() -> None:
    tail = Tail(np.dtype("f4"), (2,), 10_000)
    tail.add(0, np.zeros((3, 2), "f4"))
    tail.add(10, np.ones((2, 2), "f4"))
    assert (tail.start, tail.stop) == (10, 12)
    assert tail.get(0, 3) is None


def test_what_is_given_does_not_change_with_the_tail() -> None:
    tail = Tail(np.dtype("i8"), (), 8 * 4)
    tail.add(0, np.arange(4))
    given_before = tail.get(2, 4)
    tail.add(4, np.arange(4, 8))
    assert given_before is not None
    assert given_before.tolist() == [2, 3]


@given(
    st.one_of(st.none(), st.integers(-12, 12)),
    st.one_of(st.none(), st.integers(-12, 12)),
    st.integers(0, 10),
)
def test_selections_are_pythons(start: int | None, stop: int | None, length: int) -> None:
    text = f"{'' if start is None else start}:{'' if stop is None else stop}"
    assert list(chosen_range(text, length)) == list(range(length))[start:stop]


@pytest.mark.parametrize("text", ["x", "1:2:3", "1.5", ":x"])
def test_what_is_no_selection_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=rf"selection='{text}': expected a:b"):
        chosen_range(text, 5)


@pytest.mark.parametrize("text", ["7", "-8"])
def test_an_index_that_is_not_there_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=rf"'{text}': there are 5 points"):
        chosen_range(text, 5)


def test_one_answer_is_made_for_all_who_wait_for_it() -> None:
    parts, made, begin = Parts(1000), [], threading.Event()

    def make() -> tuple[Any, int]:
        begin.wait(10)
        made.append(1)
        return "answer", 10

    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(parts.get, "key", make) for _ in range(5)]
        begin.set()
        assert [answer.result() for answer in answers] == ["answer"] * 5
    assert len(made) == 1


def test_what_fails_is_tried_again() -> None:
    parts = Parts(1000)

    def fail() -> tuple[Any, int]:
        raise KeyError("not now")

    with pytest.raises(KeyError):
        parts.get("key", fail)
    assert parts.get("key", lambda: (1, 8)) == 1


def test_the_oldest_answers_make_room() -> None:
    parts = Parts(100)
    for i in range(10):
        parts.get(i, lambda i=i: (i, 30))  # type: ignore[misc]
    assert parts.get(9, lambda: ("new", 1)) == 9
    assert parts.get(0, lambda: ("new", 1)) == "new"


def test_plots_get_float64() -> None:
    assert for_plots(np.array([3 + 4j])).tolist() == [5.0]
    assert for_plots(np.array([True, False])).tolist() == [1.0, 0.0]
    assert for_plots(np.array([1], ">i4")).dtype == np.dtype("<f8")
