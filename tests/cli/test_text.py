"""Values as people and JSON read them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import numpy as np
import pytest

from blissdata.cli.tables import fitting
from blissdata.cli.text import (
    age,
    clock,
    compact_json,
    of_many,
    plain,
    point,
    points,
    printable,
    size,
    span_text,
    value,
    wrapped,
)

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def in_grenoble(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (1716393600.9, "2024-05-22 18:00:00"),
        ("2024-05-22T16:00:00+00:00", "2024-05-22 18:00:00"),
        ("2024-05-22T18:00:00.123456+02:00", "2024-05-22 18:00:00"),
        ("2024-01-22T18:00:00", "2024-01-22 18:00:00"),
        ("yesterday", "yesterday"),
        ("\x1b[31m", "\\x1b[31m"),
        (1e30, "1e+30"),
        (None, ""),
    ],
)
def test_times_are_shown_in_one_form(
    in_grenoble: None, found: float | str | None, text: str
) -> None:
    assert clock(found) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.9, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h 0 min"),
        (12_000, "3 h 20 min"),
        (100 * 3600, "4 d 4 h"),
    ],
)
def test_an_age_has_two_units_at_most(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.float64(1.5), 1.5),
        (np.array([1.0, NAN, INF, -INF]), [1.0, None, None, None]),
        (np.float32(NAN), None),
        (np.array([[1, 2], [3, 4]], "u1"), [[1, 2], [3, 4]]),
        (np.array([2**63 + 1], "u8"), [2**63 + 1]),
        (np.array([True, False]), [True, False]),
        (np.array([1 + 2j, complex(NAN, 0)]), [[1.0, 2.0], [None, 0.0]]),
        (np.array([1], "longdouble"), [1.0]),
        (np.array([1, 2], ">i2"), [1, 2]),
        ([np.array([1]), np.array([1, 2])], [[1], [1, 2]]),
        ({"a": (NAN, {"b": INF})}, {"a": [None, {"b": None}]}),
        (None, None),
        ("text", "text"),
    ],
)
def test_plain_values_are_what_json_can_say(given: object, expected: object) -> None:
    assert plain(given) == expected
    assert json.loads(compact_json(given)) == expected


def test_a_double_is_the_same_number_in_json() -> None:
    numbers = np.array([0.1, 1 / 3, 8977.302, 5e-324, 1.7976931348623157e308])
    assert json.loads(compact_json(numbers)) == numbers.tolist()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (np.float32(0.1), "0.1"),
        (np.array([1, 2, 3]), "[1 2 3]"),
        (np.zeros((4, 6), "u2"), "(4×6) uint16, min 0, max 0"),
        (np.arange(20) / 2, "(20) float64, min 0.0, max 9.5"),
        (np.array([[NAN, 2.0]]), "(1×2) float64, min 2.0, max 2.0, 1 NaN"),
        (np.full((2, 2), NAN), "(2×2) float64, all NaN"),
        (np.zeros((0, 3)), "(0×3) float64"),
        (np.zeros((3, 3), complex), "(3×3) complex128"),
        ({"a": [1, None]}, '{"a": [1, null]}'),
        ("\x1b[31mred", '"\\u001b[31mred"'),
    ],
)
def test_a_point_for_people(given: object, text: str) -> None:
    assert point(given) == text


def test_points_of_one_dtype_are_written_as_numpy_does() -> None:
    assert points(np.array([0.1, NAN], "f4")) == ["0.1", "nan"]


def test_what_a_publisher_wrote_does_not_reach_the_terminal_as_a_command() -> None:
    assert printable("a\x1b[2Jb\x9bc\nd\u202ee") == "a\\x1b[2Jb\\x9bc\\nd\\u202ee"
    assert printable("a\nb\x07", lines=True) == "a\nb\\x07"
    assert printable("größe µm 試料") == "größe µm 試料"


def test_values_of_a_header() -> None:
    assert value(None) == ""
    assert value("a\tb") == "a\\tb"
    assert value({"a": NAN}) == '{"a": null}'


def test_counts_and_ranges() -> None:
    assert of_many(3, None) == "3"
    assert of_many(3, 10) == "3/10"
    assert span_text((0, 100)) == "0–99"
    assert span_text((4, 5)) == "4"
    assert span_text((4, 4)) == span_text(None) == ""


def test_long_words_stay_whole() -> None:
    assert wrapped("a /very/long/path-name b", 6) == ["a", "/very/long/path-name", "b"]


@pytest.mark.parametrize(
    ("room", "kept"),
    [
        (None, [0, 1, 2, 3]),
        (34, [0, 1, 2, 3]),
        (33, [0, 1, 3]),
        (26, [0, 1, 3]),
        (25, [0, 1]),
        (11, [1]),
        (1, [1]),
    ],
)
def test_the_least_important_columns_go_first(room: int | None, kept: list[int]) -> None:
    assert fitting([2, 8, 6, 12], [6, 7, 1, 3], room) == kept


@pytest.mark.parametrize(
    ("nbytes", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1023, "1023 B"),
        (1024, "1 kB"),
        (3 << 19, "1.5 MB"),
        (4 << 30, "4 GB"),
        (5 << 40, "5 TB"),
    ],
)
def test_sizes_are_in_units_of_1024_as_servers_take_them(nbytes: int, shown: str) -> None:
    assert size(nbytes) == shown
