"""The talk's notation: its own example, what else it allows, and each way to get it wrong."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blissdata.exceptions import LayoutError
from blissdata.h5map import RAW, STREAM, Dataset, Group, Inline, Stream
from blissdata.h5map.mapping import group_of, read_mapping

TALK: dict[str, Any] = {
    "NX_class": "NXentry",
    "instrument": {
        "NX_class": "NXinstrument",
        "name": ({"short_name": "id00"}, RAW, "esrf-id00a"),
        "diode": (
            {"NX_class": "NXdetector"},
            {"data": ({}, STREAM, "simulation_diode_sampling_controller:diode")},
        ),
        "elapsed_time": (
            {"NX_class": "NXpositioner"},
            {"value": ({"units": "s"}, STREAM, "timer:elapsed_time")},
        ),
        "epoch": ({"NX_class": "NXpositioner"}, {"value": ({"units": "s"}, STREAM, "timer:epoch")}),
    },
    "measurement": (
        {},
        {
            "diode": ({}, STREAM, "simulation_diode_sampling_controller:diode"),
            "elapsed_time": ({"units": "s"}, STREAM, "timer:elapsed_time"),
            "epoch": ({"units": "s"}, STREAM, "timer:epoch"),
        },
    ),
}
"""The mapping on the talk's slide."""


def positioner(stream: str) -> Group:
    value = Dataset(value=Stream(stream=stream), attributes={"units": "s"})
    return Group(attributes={"NX_class": "NXpositioner"}, children={"value": value})


DIODE = Dataset(value=Stream(stream="simulation_diode_sampling_controller:diode"))
EXPECTED = Group(
    attributes={"NX_class": "NXentry"},
    children={
        "instrument": Group(
            attributes={"NX_class": "NXinstrument"},
            children={
                "name": Dataset(value="esrf-id00a", attributes={"short_name": "id00"}),
                "diode": Group(attributes={"NX_class": "NXdetector"}, children={"data": DIODE}),
                "elapsed_time": positioner("timer:elapsed_time"),
                "epoch": positioner("timer:epoch"),
            },
        ),
        "measurement": Group(
            children={
                "diode": DIODE,
                "elapsed_time": Dataset(
                    value=Stream(stream="timer:elapsed_time"), attributes={"units": "s"}
                ),
                "epoch": Dataset(value=Stream(stream="timer:epoch"), attributes={"units": "s"}),
            }
        ),
    },
)


def test_the_talk_s_mapping_is_the_tree_that_it_shows() -> None:
    assert group_of(TALK) == EXPECTED
    assert list(group_of(TALK).children["instrument"].children) == [
        "name",
        "diode",
        "elapsed_time",
        "epoch",
    ]


def test_it_is_the_same_after_json() -> None:
    assert group_of(json.loads(json.dumps(TALK))) == EXPECTED


def test_a_value_may_be_anything_that_a_dataset_holds() -> None:
    found = group_of(
        {
            "list": ({}, RAW, [1, 2]),
            "array": ({}, RAW, np.arange(3.0)),
            "nan": ({}, RAW, {"type": "inline", "dtype": "float64", "value": "nan"}),
            "model": ({}, RAW, Inline(dtype="int8", value=1)),
        }
    )
    assert found == Group(
        children={
            "list": [1, 2],
            "array": [0.0, 1.0, 2.0],
            "nan": Inline(dtype="float64", value="nan"),
            "model": Inline(dtype="int8", value=1),
        }
    )


def test_attributes_in_a_tuple_may_be_numbers_and_those_among_children_are_texts() -> None:
    found = group_of(({"version": 3, "axes": ["x", "y"]}, {"NX_class": "NXdata", "g": {}}))
    assert found == Group(
        attributes={"version": 3, "axes": ["x", "y"], "NX_class": "NXdata"}, children={"g": Group()}
    )


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"a": 3}, r"^/a: expected a dict .*found '3' \(int\)"),
        ({"a": {"b": None}}, r"^/a/b: expected a dict"),
        ({"a": ({}, "STREEM", "s")}, "^/a: expected RAW or STREAM, found 'STREEM'"),
        ({"a": ({}, STREAM)}, "^/a: expected a dict"),
        ({"a": ({}, STREAM, "s", 1)}, "^/a: expected a dict"),
        ({"a": ({}, {}, {})}, "^/a: expected a dict"),
        ({"a": ([], RAW, 1)}, "^/a: expected a dict"),
        ({"a": ({}, STREAM, 3)}, "^/a: stream: .*string"),
        ({"a": ({}, RAW, None)}, "^/a: a plain value .*found null"),
        ({"a": ({}, RAW, {"b": 1})}, "^/a: an object says by its .type. what it is"),
        ({"a": ({}, RAW, [[1], [2, 3]])}, "^/a: nested lists must form an array"),
        ({"g": ({"u": None}, {})}, "^/g, attribute 'u': .*found null"),
        ({"g": {"d": ({"u": {"x": 1}}, RAW, 1)}}, "^/g/d, attribute 'u': "),
        ({"g": ({"u": "m"}, {"u": "mm"})}, "^/g, attribute 'u': given twice"),
        ({3: {}}, "^/3: a name is a text, found 3"),
        (({}, STREAM, "s"), "^/: a mapping is a group, found a dataset"),
        ("text", "^/: expected a dict"),
    ],
    ids=repr,
)
def test_a_mistake_names_its_path(mapping: Any, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        group_of(mapping)


def test_all_mistakes_are_told_at_once_and_the_rest_is_there() -> None:
    group, mistakes = read_mapping({"a": 1, "b": {"c": 2}, "d": ({}, STREAM, "s")}, "/1.1")
    assert [one.path for one in mistakes] == ["/1.1/a", "/1.1/b/c"]
    assert group == Group(children={"b": Group(), "d": Stream(stream="s")})


def test_endless_nesting_is_a_mistake() -> None:
    mapping: Any = {}
    for _ in range(200):
        mapping = {"g": mapping}
    with pytest.raises(LayoutError, match="groups within each other"):
        group_of(mapping)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda below: (
        st.lists(below | st.sampled_from([RAW, STREAM, "s"]), max_size=3)
        | st.dictionaries(st.text(max_size=3), below, max_size=3)
    ),
    max_leaves=10,
)


@given(JSON)
def test_any_json_is_a_group_or_a_mistake(mapping: Any) -> None:
    group, mistakes = read_mapping(mapping)
    assert isinstance(group, Group)
    if not isinstance(mapping, dict | list):
        assert mistakes
    json.loads(group.model_dump_json())
