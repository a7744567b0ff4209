"""Values: what `decode()` gives is what h5py gives back; nothing is lost on the way through JSON.

h5py     write the value with h5py, read it back, compare
JSON     dump, validate, same value (Hypothesis)
models   nesting of models, dicts and plain values; equality; order of fields
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import TypeAdapter, ValidationError

from blissdata.h5map import (
    Compound,
    DataItem,
    DataItemType,
    Inline,
    InlineBase64,
    InlineRaw,
    Stream,
)

Same = Callable[[Any, Any], None]


@pytest.fixture
def file() -> Iterator[h5py.File]:
    """A file in memory."""
    with h5py.File("values.h5", "w", driver="core", backing_store=False) as file:
        yield file


def read_back(file: h5py.File, value: Any, dtype: Any = None) -> Any:
    """The array that h5py gives after it wrote the value."""
    dataset = file.create_dataset("value", data=value, dtype=dtype)
    found = np.empty(dataset.shape, dataset.dtype)
    if dataset.size:
        dataset.read_direct(found)
    return found


# ---------------------------------------------------------------------------------------- h5py

RAW = [
    1,
    True,
    1.5,
    "text",
    "",
    "é 漢 🙂",
    [1, 2],
    [[1.5, 2.5], [3.5, 4.5]],
    [True, False],
    ["a", "bcd", ""],
    [["a"], ["b"]],
    [],
]


@pytest.mark.parametrize("value", RAW, ids=repr)
def test_a_plain_value_is_as_h5py_writes_it(file: h5py.File, value: Any, assert_same: Same) -> None:
    assert_same(InlineRaw(value).decode(), read_back(file, value))


@pytest.mark.parametrize(
    ("dtype", "value", "written"),
    [
        ("bool", [True, False], [True, False]),
        ("int8", [-128, 127], [-128, 127]),
        ("uint64", 2**64 - 1, 2**64 - 1),
        ("int64", [-(2**63), 9007199254740993], [-(2**63), 9007199254740993]),
        ("int16", [1.9, -1.9], [1.9, -1.9]),
        ("float16", [1.5, 1e9, "nan"], [1.5, 1e9, np.nan]),
        ("float32", ["-inf", 0.1], [-np.inf, 0.1]),
        ("float64", [["nan", 1], [2, "inf"]], [[np.nan, 1], [2, np.inf]]),
        ("float128", 1.5, np.longdouble(1.5)),
        ("complex64", "(1+23j)", 1 + 23j),
        ("complex128", ["nan", 1, "2j"], [np.nan, 1, 2j]),
        ("complex256", "(1+2j)", np.clongdouble(1 + 2j)),
        ("uint8", [], []),
    ],
)
def test_an_inline_value_is_as_h5py_writes_it(
    file: h5py.File, dtype: str, value: Any, written: Any, assert_same: Same
) -> None:
    with np.errstate(over="ignore"):
        expected = read_back(file, np.array(written).astype(dtype))
    assert_same(Inline(dtype=dtype, value=value).decode(), expected)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="<i2").reshape(2, 3),
        np.arange(6, dtype=">u4"),
        np.array(1.5, ">f8"),
        np.array([1j, 2], "<c8"),
        np.array([True, False]),
        np.zeros((0, 3), "<f4"),
        np.array([-1, 1], "i1"),
        np.array([1.5], "<f2"),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_base64_is_as_h5py_writes_the_array(
    file: h5py.File, array: Any, assert_same: Same, encoded: Callable[[Any], InlineBase64]
) -> None:
    assert_same(encoded(array).decode(), read_back(file, array))


def test_a_compound_is_as_h5py_writes_it(file: h5py.File, assert_same: Same) -> None:
    inner = np.dtype([("x", "<f4"), ("t", h5py.string_dtype())])
    written = np.empty(2, [("n", "<i8"), ("ok", "?"), ("z", "<c16"), ("in", inner)])
    written["n"], written["ok"], written["z"] = [1, 2], [True, False], [1j, np.nan]
    written["in"]["x"], written["in"]["t"] = [0.5, 1.5], ["a", "é"]
    item = Compound.model_validate_json(
        json.dumps(
            {
                "type": "compound",
                "columns": [
                    ["n", [1, 2]],
                    ["ok", [True, False]],
                    ["z", {"type": "inline", "dtype": "complex128", "value": ["1j", "nan"]}],
                    [
                        "in",
                        {
                            "type": "compound",
                            "columns": [
                                ["x", {"type": "inline", "dtype": "float32", "value": [0.5, 1.5]}],
                                ["t", ["a", "é"]],
                            ],
                        },
                    ],
                ],
            }
        )
    )
    assert_same(item.decode(), read_back(file, written))


@pytest.mark.parametrize(
    "item",
    [
        InlineRaw("é"),
        InlineRaw(["a", "bc"]),
        InlineRaw([[1, 2]]),
        Inline(dtype="complex64", value=["nan", "(1+2j)"]),
        InlineBase64(dtype=">i2", value="AQACAA==", shape=[2, 1]),
        Compound(columns=[("a", [1, 2]), ("t", ["x", "yy"])]),
    ],
    ids=lambda item: type(item).__name__,
)
def test_what_is_decoded_can_be_written_and_is_the_same_again(
    file: h5py.File, item: Any, assert_same: Same
) -> None:
    assert_same(read_back(file, item.decode()), item.decode())
    file.attrs["value"] = item.decode()


def test_a_text_s_dtype_is_that_of_h5py() -> None:
    dtype = InlineRaw("a").decode().dtype
    assert h5py.check_string_dtype(dtype) == h5py.check_string_dtype(h5py.string_dtype())


def test_decoding_gives_a_new_array_each_time() -> None:
    for item in (
        InlineRaw([1]),
        Inline(dtype="int8", value=[1]),
        InlineBase64(dtype="i1", value="AQ=="),
    ):
        item.decode()[0] = 7
        assert item.decode().tolist() == [1]


def test_an_item_does_not_share_the_caller_s_array() -> None:
    array = np.array([1, 2])
    item = InlineRaw(array)
    array[0] = 7
    assert item.root.tolist() == [1, 2]


def test_a_stream_has_no_value() -> None:
    with pytest.raises(TypeError, match=r"'diode'.*decode"):
        Stream(stream="diode").decode()


# ---------------------------------------------------------------------------------------- JSON

NUMBERS = st.one_of(
    hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    ),
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=0, max_dims=3, max_side=4)),
)
WRITABLE = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5)
TEXTS = WRITABLE | st.lists(WRITABLE, min_size=1, max_size=4)
INLINE_DTYPES = "bool int8 int64 uint8 uint64 float16 float32 float64 float128 complex64 complex256"
BINARY = st.sampled_from(
    ["<i2", ">i8", "|u1", "<u8", "<f2", ">f4", "<f8", "<c8", ">c16", "|b1", "<f16"]
).flatmap(
    lambda dtype: hnp.arrays(
        np.dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    )
)


@given(NUMBERS)
def test_numbers_survive_json(array: Any) -> None:
    item = InlineRaw(array)
    again = DataItem.validate_json(item.model_dump_json())
    if array.size:
        assert again == item
        assert again.decode().dtype == array.dtype
    assert again.decode().tolist() == array.tolist()


@given(TEXTS)
def test_texts_survive_json_and_hdf5(value: Any) -> None:
    item = DataItem.validate_json(InlineRaw(value).model_dump_json())
    with h5py.File("texts.h5", "w", driver="core", backing_store=False) as file:
        file["text"] = item.decode()
        found = file["text"].asstr()[()]
    assert (found if isinstance(value, str) else found.tolist()) == value


@given(st.data())
def test_any_number_of_a_dtype_survives_inline(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(INLINE_DTYPES.split()))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    array = data.draw(hnp.arrays(np.dtype(dtype), shape))
    item = Inline.model_validate_json(Inline(dtype=dtype, value=array).model_dump_json())
    found = item.decode()
    assert found.dtype == array.dtype
    if dtype == "complex256":  # its text has the digits of a double when it is read
        np.testing.assert_allclose(found, array, rtol=1e-15)
    else:
        np.testing.assert_array_equal(found, array)


@given(BINARY)
def test_any_array_survives_base64(array: Any) -> None:
    item = encoded_array(array)
    found = InlineBase64.model_validate_json(item.model_dump_json()).decode()
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda below: (
            st.lists(below, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "dtype", "value", "shape", "columns"]), below
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_is_a_value_or_refused(value: Any) -> None:
    try:
        item = DataItem.validate_python(value)
    except ValidationError:
        return
    assert DataItem.validate_json(item.model_dump_json()) == item


def encoded_array(array: Any) -> InlineBase64:
    import base64

    return InlineBase64(
        dtype=array.dtype.str,
        value=base64.b64encode(np.ascontiguousarray(array).tobytes()),
        shape=list(array.shape),
    )


@pytest.fixture
def encoded() -> Callable[[Any], InlineBase64]:
    """Makes an `InlineBase64` of an array."""
    return encoded_array


# -------------------------------------------------------------------------------------- models


def test_fields_are_dumped_in_the_order_of_the_wire_format() -> None:
    assert (
        Inline(value=1, dtype="int8").model_dump_json()
        == '{"type":"inline","dtype":"int8","value":1}'
    )
    assert (
        InlineBase64(value="AQ==", dtype="|i1").model_dump_json()
        == '{"type":"inline_b64","dtype":"|i1","shape":null,"value":"AQ=="}'
    )
    assert Stream(stream="s").model_dump_json() == '{"type":"stream","stream":"s"}'


def test_models_dicts_and_plain_values_nest_alike() -> None:
    made = Compound(columns=[("a", InlineRaw([1])), ("b", Inline(dtype="int8", value=[2]))])
    given = Compound(columns=[["a", [1]], ["b", {"type": "inline", "dtype": "int8", "value": [2]}]])
    assert made == given
    assert made.model_dump_json() == given.model_dump_json()


def test_a_plain_value_dumps_as_its_array() -> None:
    for value, dtype in [(3, "int64"), (1.5, "float64"), (True, "bool"), ("abc", "<U3")]:
        dumped = InlineRaw(value).model_dump()
        assert isinstance(dumped, np.ndarray)
        assert (dumped.shape, dumped.dtype) == ((), np.dtype(dtype))


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (3, 3, True),
        (3, 3.0, True),
        ([1, 2], [1, 2], True),
        ([1, 2], [1, 3], False),
        ([1, 2], [1, 2, 3], False),
        ([[1, 2]], [1, 2], False),
        ("1", 1, False),
        ("a", "a", True),
        (["a"], ["b"], False),
        ([], [], True),
    ],
)
def test_plain_values_are_equal_where_all_elements_are(one: Any, other: Any, equal: bool) -> None:
    assert (InlineRaw(one) == InlineRaw(other)) is equal
    assert (DataItem.validate_python(one) == DataItem.validate_python(other)) is equal


def test_a_plain_value_is_not_its_model() -> None:
    assert InlineRaw(3) != 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(InlineRaw(3))


def test_the_type_serves_in_other_models() -> None:
    adapter = TypeAdapter(dict[str, DataItemType])
    found = adapter.validate_python({"a": 1, "s": {"type": "stream", "stream": "x"}})
    assert found == {"a": InlineRaw(1), "s": Stream(stream="x")}
