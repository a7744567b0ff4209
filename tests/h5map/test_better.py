"""Where 2.4.5 loses something, or lets something pass, ours does not. Seen on 2.4.5, each:

dumps        `InlineBase64.model_dump()` gives bytes, which a scan's info refuses
integers     2**63 in a plain value becomes -2**63; 2**64 inline is a TypeError about a ufunc
truth        "False" as a bool is True; numpy.True_ inline is 1.0
base64       characters that are not base64 are dropped without a word
selections   lists of different lengths, steps of 0
compounds    a value that overflows its dtype passes the validation as an OverflowError
texts        a NUL in a text decodes to what h5py refuses to write
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from blissdata.exceptions import LayoutError
from blissdata.h5map import (
    Compound,
    DataItem,
    Group,
    HDF5Item,
    Inline,
    InlineBase64,
    InlineRaw,
    SpaceSelection,
    VirtualDataset,
)


class TestDumps:
    def test_base64_is_dumped_as_text_that_validates_again(self) -> None:
        item = InlineBase64(dtype="<i2", value="AQACAA==")
        assert item.value == b"\x01\x00\x02\x00"
        assert item.model_dump()["value"] == "AQACAA=="
        assert InlineBase64.model_validate(item.model_dump()) == item

    def test_a_dumped_group_is_json_but_for_its_arrays(self) -> None:
        group = Group(children={"b": InlineBase64(dtype="|u1", value=b"AQ==")})
        json.dumps(group.model_dump())


class TestIntegers:
    @pytest.mark.parametrize("value", [2**63, [2**63, 2**63], np.uint64(2**64 - 1)], ids=repr)
    def test_a_plain_integer_beyond_64_bits_is_refused(self, value: Any) -> None:
        with pytest.raises(ValidationError, match=r"does not fit into int64.*uint64"):
            InlineRaw(value)

    def test_an_inline_integer_may_have_any_size(self) -> None:
        item = Inline(dtype="float64", value=2**64)
        assert (
            item.model_dump_json()
            == '{"type":"inline","dtype":"float64","value":18446744073709551616}'
        )
        assert item.decode() == 2.0**64

    def test_one_too_large_for_a_float_overflows(self) -> None:
        with pytest.raises(OverflowError, match="float64"):
            Inline(dtype="float64", value=10**400).decode()

    def test_what_overflows_in_a_compound_is_a_validation_error(self) -> None:
        with pytest.raises(ValidationError, match=r"column 'a': .*300 is not from 0 to 255"):
            Compound(columns=[("a", {"type": "inline", "dtype": "uint8", "value": 300})])


class TestTruth:
    @pytest.mark.parametrize(
        ("text", "expected"), [("True", True), ("true", True), ("False", False), ("FALSE", False)]
    )
    def test_a_text_is_as_true_as_it_says(self, text: str, expected: bool) -> None:
        assert Inline(dtype="bool", value=text).decode() == expected

    def test_another_text_is_no_truth(self) -> None:
        with pytest.raises(LayoutError, match="'x' is neither true nor false"):
            Inline(dtype="bool", value="x").decode()

    def test_numpy_s_truth_stays_one(self) -> None:
        assert Inline(dtype="bool", value=np.True_).value.model_dump_json() == "true"


class TestLongDoubles:
    """More digits than a double has travel as text."""

    def test_a_long_double_keeps_its_digits(self) -> None:
        third = np.longdouble(1) / 3
        item = Inline.model_validate_json(Inline(dtype="float128", value=third).model_dump_json())
        assert item.decode() == third

    def test_one_that_a_double_holds_is_a_number(self) -> None:
        assert Inline(dtype="float128", value=np.longdouble(1.5)).value.root == 1.5

    @pytest.mark.parametrize("name", ["inf", "-inf", "nan"])
    def test_what_is_not_finite_is_text(self, name: str) -> None:
        assert Inline(dtype="float128", value=np.longdouble(name)).value.root == name


class TestBase64:
    @pytest.mark.parametrize("text", ["@@@", "AQA=AQA=", "-_8=", "AQ\0A="])
    def test_what_is_not_base64_is_refused(self, text: str) -> None:
        with pytest.raises(ValidationError, match="not base64"):
            InlineBase64(dtype="<i2", value=text)

    def test_lines_and_blanks_are_fine(self) -> None:
        assert InlineBase64(dtype="<i2", value="AQ A=\n").value == b"\x01\x00"

    def test_any_byte_but_zero_is_true(self) -> None:
        found = InlineBase64(dtype="|b1", value="AAEC").decode()
        assert found.view("u1").tolist() == [0, 1, 1]

    @pytest.mark.parametrize("shape", [[-2], [-1, -1], [2**62, 2**62], [3]])
    def test_an_impossible_shape_is_told(self, shape: list[int]) -> None:
        with pytest.raises(LayoutError, match="4 bytes are no array of <i2 with shape"):
            InlineBase64(dtype="<i2", value="AQACAA==", shape=shape).decode()


class TestSelections:
    @pytest.mark.parametrize(
        "space",
        [
            {"start": [0, 0], "count": [1]},
            {"start": [0], "count": [1], "stride": [1, 1]},
            {"start": [0], "count": [1], "block": []},
        ],
    )
    def test_lists_have_one_number_per_dimension(self, space: Any) -> None:
        with pytest.raises(ValidationError, match="one number per dimension"):
            SpaceSelection(**space)

    def test_a_step_of_nothing_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="stride"):
            SpaceSelection(start=[0], count=[1], stride=[0])

    def test_a_shape_has_no_negative_dimension(self) -> None:
        space = {"start": [0], "count": [1]}
        source = {"vspace": space, "src_file": "f", "src_dataset": "d", "src_space": space}
        with pytest.raises(ValidationError, match="shape"):
            VirtualDataset(dtype="<i2", shape=[-1], virtual_sources=[source])


class TestHostileValues:
    def test_texts_of_very_different_lengths_do_not_fill_the_memory(self) -> None:
        with pytest.raises(ValidationError, match="need more than"):
            InlineRaw(["x" * 500_000] + [""] * 150_000)

    def test_a_list_has_as_many_dimensions_as_hdf5_at_most(self) -> None:
        deep: Any = 1
        for _ in range(32):
            deep = [deep]
        assert InlineRaw(deep).root.ndim == 32
        assert Inline(dtype="int8", value=deep).decode().ndim == 32
        for validate in (InlineRaw, lambda value: Inline(dtype="int8", value=value)):
            with pytest.raises(ValidationError):
                validate([deep])

    @pytest.mark.parametrize("depth", [100, 500, 100_000])
    def test_endless_nesting_is_an_error_not_a_crash(self, depth: int) -> None:
        lists: Any = []
        groups: Any = {"type": "group"}
        for _ in range(depth):
            lists = [lists]
            groups = {"type": "group", "children": {"g": groups}}
        for validate in (DataItem.validate_python, lambda v: Inline(dtype="int8", value=v)):
            with pytest.raises(ValidationError):
                validate(lists)
        if depth > 300:
            with pytest.raises(ValidationError):
                HDF5Item.validate_python(groups)

    def test_a_text_with_nul_is_told_at_decode(self) -> None:
        with pytest.raises(LayoutError, match="NUL"):
            InlineRaw("a\0b").decode()

    def test_half_a_character_is_told_at_decode(self) -> None:
        with pytest.raises(LayoutError, match="Unicode"):
            InlineRaw("\ud800").decode()

    def test_what_no_float_holds_becomes_inf_without_a_warning(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert Inline(dtype="float32", value=1e300).decode() == np.inf
