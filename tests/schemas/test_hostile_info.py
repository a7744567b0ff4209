"""`validate` and infos that nobody should publish: it answers, briefly, whatever it is given."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from blissdata.schemas import json_schema, validate
from blissdata.schemas.validation import MAX_COMPLAINTS

Info = dict[str, Any]

NAMES = sorted(
    {"axis", "timer", "diode", "deep"}.union(
        *(one["properties"] for one in (json_schema(), *json_schema()["$defs"].values()))
    )
)
TEXTS = (
    st.text(st.characters(), max_size=5)  # lone surrogates included
    | st.sampled_from(NAMES)
    | st.sampled_from(
        ["2025-03-14T09:26", "T", "9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00+23:59"]
    )
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just(10**4000)
JSON = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXTS, below, max_size=5)
)
OBJECTS = st.recursive(
    SCALARS | st.binary(max_size=3) | st.complex_numbers() | st.datetimes() | st.just(object()),
    lambda below: (
        st.lists(below, max_size=3)
        | st.tuples(below, below)
        | st.dictionaries(
            TEXTS | st.integers() | st.none() | st.binary(max_size=2), below, max_size=4
        )
    ),
)
MOMENTS = st.datetimes(timezones=st.none() | st.timezones()).map(lambda moment: moment.isoformat())


def answered(info: Any) -> None:
    found = validate(info)
    assert len(found) <= MAX_COMPLAINTS + 1
    for one in found:
        assert one.severity in ("error", "warning")
        text = str(one)
        assert text.encode("utf-8").decode().isprintable()
        assert len(text) < 8000
    assert validate(info) == found
    assert [one.severity for one in found[:MAX_COMPLAINTS]] == sorted(
        one.severity for one in found[:MAX_COMPLAINTS]
    )


@settings(max_examples=150, deadline=None)
@given(value=JSON)
def test_any_json(value: Any) -> None:
    answered(value)


@settings(max_examples=200, deadline=None)
@given(value=OBJECTS)
def test_any_objects(value: Any) -> None:
    answered(value)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_change_of_a_good_info(make_info: Callable[[], Info], data: st.DataObject) -> None:
    info = make_info()
    for _ in range(data.draw(st.integers(1, 4))):
        owner: Any = info
        while True:
            steps = list(owner) if isinstance(owner, dict) else list(range(len(owner)))
            if not steps:
                break
            step = data.draw(st.sampled_from(steps))
            if not isinstance(owner[step], dict | list) or data.draw(st.integers(0, 3)) == 0:
                owner[step] = data.draw(JSON)
                break
            owner = owner[step]
    answered(info)


@settings(max_examples=100, deadline=None)
@given(start=MOMENTS, end=MOMENTS)
def test_any_two_moments(make_info: Callable[[], Info], start: str, end: str) -> None:
    found = validate(make_info() | {"start_time": start, "end_time": end})
    assert all(one.severity == "warning" for one in found), found


@settings(max_examples=100, deadline=None)
@given(triggers=st.lists(st.lists(st.integers(0, 7), max_size=4), min_size=1, max_size=7))
def test_circles_are_found_where_there_are_some(
    make_info: Callable[[], Info], triggers: list[list[int]]
) -> None:
    """Compared with the powers of the matrix: a circle is a way back within as many steps."""
    size = len(triggers)
    info = make_info()
    for number, below in enumerate(triggers):
        names = [f"d{one}" for one in below if one < size]
        info["devices"][f"d{number}"] = {"name": "d", "triggered_devices": names}
    reach = [{one for one in below if one < size} for below in triggers]
    for _ in range(size):
        reach = [one.union(*(reach[other] for other in one)) for one in reach]
    circles = any(number in one for number, one in enumerate(reach))
    assert bool(validate(info)) == circles


def test_what_the_json_parser_lets_through(make_info: Callable[[], Info]) -> None:
    """Deeper nesting than Python's own parser reads, and the non-numbers that it does read."""
    info = make_info()
    for _ in range(300):
        info = {"x": info, "y": [math.nan, -math.inf]}
    text = json.dumps(info)
    answered(json.loads(text))
