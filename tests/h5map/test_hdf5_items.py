"""Items: how they nest, and how they are written.

Their JSON beside that of 2.4.5 is in `test_golden.py`; here is what the wire format says of them.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from blissdata.h5map import (
    Dataset,
    ExternalBinaryDataset,
    ExternalBinaryFile,
    ExternalLink,
    Group,
    HDF5Item,
    HDF5ItemType,
    Inline,
    InlineRaw,
    SoftLink,
    SpaceSelection,
    Stream,
    VirtualDataset,
    VirtualSource,
)


def test_a_bare_value_is_a_dataset_and_is_written_as_one() -> None:
    item = HDF5Item.validate_python([1, 2])
    assert item == Dataset(value=[1, 2])
    assert isinstance(item.value, InlineRaw)
    assert HDF5Item.dump_json(item) == b"[1,2]"
    np.testing.assert_array_equal(item.model_dump(), [1, 2])


def test_with_attributes_it_is_written_in_full() -> None:
    item = Dataset(value=Stream(stream="diode"), attributes={"unit": "mA"})
    assert json.loads(item.model_dump_json()) == {
        "type": "dataset",
        "attributes": {"unit": "mA"},
        "value": {"type": "stream", "stream": "diode"},
    }


def test_any_child_that_is_nothing_else_is_a_dataset() -> None:
    children = Group(
        children={
            "number": 3,
            "array": np.arange(2),
            "stream": Stream(stream="s"),
            "inline": {"type": "inline", "dtype": "int8", "value": 1},
            "dataset": Dataset(value=1),
            "group": {"type": "group"},
            "link": {"type": "soft_link", "target_path": "/x"},
        }
    ).children
    assert children == {
        "number": Dataset(value=3),
        "array": Dataset(value=[0, 1]),
        "stream": Dataset(value={"type": "stream", "stream": "s"}),
        "inline": Dataset(value=Inline(dtype="int8", value=1)),
        "dataset": Dataset(value=InlineRaw(1)),
        "group": Group(),
        "link": SoftLink(target_path="/x"),
    }
    assert type(children) is dict


def test_empty_attributes_and_children_are_left_out_and_type_comes_first() -> None:
    assert Group().model_dump_json() == '{"type":"group"}'
    assert Group(children={"a": 1}, attributes={"b": 2}).model_dump_json() == (
        '{"type":"group","attributes":{"b":2},"children":{"a":1}}'
    )
    file = ExternalBinaryFile(offset=0, name="raw.dat")
    assert ExternalBinaryDataset(files=[file], shape=[2], dtype="<i2").model_dump_json() == (
        '{"type":"external_binary_dataset","dtype":"<i2","shape":[2],'
        '"files":[{"name":"raw.dat","offset":0,"size":null}]}'
    )


def test_a_selection_of_ones_is_null() -> None:
    space = SpaceSelection(start=[0, 0], stride=[1, 1], count=[2, 3], block=[1, 1])
    assert space == SpaceSelection(start=[0, 0], count=[2, 3])
    assert space.model_dump() == {"start": [0, 0], "stride": None, "count": [2, 3], "block": None}
    assert SpaceSelection(start=[0], stride=[2], count=[1]).stride == [2]


def test_the_caller_s_dicts_stay_as_they_were() -> None:
    children = {"a": 1}
    group = Group(children=children)
    group.children["b"] = Dataset(value=2)
    assert children == {"a": 1}
    assert json.loads(group.model_dump_json())["children"] == {"a": 1, "b": 2}
    assert Group().children == {}


def test_a_misfit_names_the_way_to_it() -> None:
    layout = {"type": "group", "children": {"1.1": {"type": "group", "children": {"diode": None}}}}
    with pytest.raises(ValidationError, match=r"children\.`1\.1`\.\S*children\.diode.*\n.*null"):
        HDF5Item.validate_python(layout)


def test_the_type_serves_in_other_models() -> None:
    adapter = TypeAdapter(dict[str, HDF5ItemType])
    assert adapter.validate_python({"a": 1}) == {"a": Dataset(value=1)}


def test_a_json_schema_can_be_made() -> None:
    assert "Group" in HDF5Item.json_schema()["$defs"]


# -------------------------------------------------------------------------------- round trips

NAMES = st.text(max_size=4)
PLAIN = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4),
    st.lists(st.integers(-5, 5), max_size=3),
)
VALUES = PLAIN | st.builds(Stream, stream=NAMES)
ATTRIBUTES = st.dictionaries(NAMES, VALUES, max_size=2)
NATURAL = st.integers(0, 2**40)


@st.composite
def spaces(draw: st.DrawFn) -> SpaceSelection:
    ndim = draw(st.integers(0, 3))
    lists = {
        n: st.lists(NATURAL, min_size=ndim, max_size=ndim) for n in ("start", "count", "block")
    }
    stride = st.lists(st.integers(1, 5), min_size=ndim, max_size=ndim)
    return SpaceSelection(
        start=draw(lists["start"]),
        count=draw(lists["count"]),
        stride=draw(st.none() | stride),
        block=draw(st.none() | lists["block"]),
    )


SOURCES = st.builds(
    VirtualSource, vspace=spaces(), src_file=NAMES, src_dataset=NAMES, src_space=spaces()
)
LEAVES = st.one_of(
    st.builds(Dataset, value=VALUES, attributes=ATTRIBUTES),
    st.builds(SoftLink, target_path=NAMES),
    st.builds(ExternalLink, target_file=NAMES, target_path=NAMES),
    st.builds(
        ExternalBinaryDataset,
        dtype=st.sampled_from(["<i2", "|u1", "b1"]),
        shape=st.lists(NATURAL, max_size=3),
        files=st.lists(
            st.builds(ExternalBinaryFile, name=NAMES, offset=NATURAL, size=st.none() | NATURAL),
            min_size=1,
            max_size=2,
        ),
        attributes=ATTRIBUTES,
    ),
    st.builds(
        VirtualDataset,
        dtype=st.just(">f8"),
        shape=st.lists(NATURAL, max_size=3),
        virtual_sources=st.lists(SOURCES, min_size=1, max_size=2),
        attributes=ATTRIBUTES,
    ),
)
GROUPS = st.recursive(
    st.builds(Group, attributes=ATTRIBUTES, children=st.dictionaries(NAMES, LEAVES, max_size=3)),
    lambda below: st.builds(
        Group, attributes=ATTRIBUTES, children=st.dictionaries(NAMES, below | LEAVES, max_size=3)
    ),
    max_leaves=4,
)


@given(GROUPS)
def test_a_tree_survives_json_and_its_own_dump(group: Group) -> None:
    text = group.model_dump_json()
    assert HDF5Item.validate_json(text) == group
    assert HDF5Item.validate_python(json.loads(text)) == group
    assert HDF5Item.validate_python(group.model_dump()) == group
    assert json.loads(text) == group.model_dump(mode="json")


@given(
    st.recursive(
        PLAIN | st.none(),
        lambda below: (
            st.lists(below, max_size=2)
            | st.dictionaries(
                st.sampled_from(["type", "children", "attributes", "value", "a"]),
                below | st.sampled_from(["group", "dataset", "soft_link"]),
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_is_an_item_or_refused(value: Any) -> None:
    try:
        item = HDF5Item.validate_python(value)
    except ValidationError:
        return
    assert HDF5Item.validate_json(item.model_dump_json()) == item
