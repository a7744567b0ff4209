"""Encodings: what goes in comes out, and what does not fit is refused, in the order that is written
down (API, "streams").

| encoding       | points                       | one point | batch | round trip                         |
| -------------- | ---------------------------- | --------- | ----- | ---------------------------------- |
| numeric, fixed | b i u f c, < and >, any shape| yes       | yes   | byte for byte, dtype and shape     |
| numeric, -1    | the same                     | yes       | yes   | one array if they agree, else list |
| json           | any JSON value               | yes       | –     | equal; NaN and infinities stay     |
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from blissdata.exceptions import PayloadError, UnknownEncodingError
from blissdata.streams.encoding import EncodedBatch, StreamEncoder, encoder_from_info
from blissdata.streams.encoding.json import JsonStreamEncoder
from blissdata.streams.encoding.numeric import NumericStreamEncoder

SCALARS = (
    "?",
    *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)),
    *("f2", "f4", "f8", "g", "c8", "c16", "G"),
)
DTYPES = sorted({np.dtype(t).newbyteorder(order).str for t in SCALARS for order in "<>"})


@st.composite
def fixed_batches(draw: st.DrawFn) -> tuple[NumericStreamEncoder, list[np.ndarray[Any, Any]]]:
    """An encoder of a fixed shape, and batches of at least one point for it."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=3))
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    return NumericStreamEncoder(dtype, shape), [
        _any_bytes(draw, dtype, (n, *shape)) for n in lengths
    ]


@st.composite
def varying_batches(draw: st.DrawFn) -> tuple[NumericStreamEncoder, list[np.ndarray[Any, Any]]]:
    """The same with dimensions that vary from batch to batch."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    declared = draw(st.lists(st.sampled_from((-1, 1, 2)), min_size=1, max_size=3))
    declared[draw(st.integers(0, len(declared) - 1))] = -1
    sizes = st.tuples(
        st.integers(1, 4), *(st.integers(1, 3) if n == -1 else st.just(n) for n in declared)
    )
    batches = draw(st.lists(sizes, min_size=1, max_size=4))
    return NumericStreamEncoder(dtype, declared), [_any_bytes(draw, dtype, s) for s in batches]


def _any_bytes(draw: st.DrawFn, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    """An array with chance bytes (every NaN there is), or with numbers where bytes may not be."""
    count = math.prod(shape)
    if dtype.kind == "b":
        return np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count))).reshape(
            shape
        )
    seed = draw(st.integers(0, 2**32 - 1))
    raw = np.random.default_rng(seed).bytes(count * dtype.itemsize)
    return np.frombuffer(raw, dtype).reshape(shape)


def same(found: Any, expected: np.ndarray[Any, Any]) -> bool:
    """Same dtype with its byte order, same shape, same bytes."""
    return (
        isinstance(found, np.ndarray | np.generic)
        and found.dtype.str == expected.dtype.str
        and found.shape == expected.shape
        and found.tobytes() == expected.tobytes()
    )


# ---------------------------------------------------------------------------------- round trips


@given(fixed_batches())
def test_points_of_a_fixed_shape_come_back_byte_for_byte(case):
    encoder, batches = case
    expected = np.concatenate(batches, dtype=encoder.dtype)
    encoded = [encoder.encode(batch) for batch in batches]

    assert [batch.len for batch in encoded] == [len(batch) for batch in batches]
    assert same(encoder.decode(encoded), expected)
    assert same(encoder.decode(iter(encoded)), expected)
    assert same(encoder.decode(encoded[0]), batches[0])


@given(fixed_batches())
def test_a_fixed_payload_is_the_c_order_bytes_of_the_points(case):
    encoder, batches = case
    for batch in batches:
        assert encoder.encode(batch).payload == batch.tobytes("C")
        fortran = np.asfortranarray(batch)
        assert encoder.encode(fortran).payload == batch.tobytes("C")


@given(fixed_batches())
def test_payloads_of_a_fixed_shape_can_be_joined(case):
    encoder, batches = case
    assert encoder.joinable
    encoded = [encoder.encode(batch) for batch in batches]
    joined = EncodedBatch(b"".join(b.payload for b in encoded), sum(b.len for b in encoded))
    assert same(encoder.decode(joined), np.concatenate(batches, dtype=encoder.dtype))


@given(fixed_batches(), st.data())
def test_any_part_of_the_batches_decodes_as_numpy_slices(case, data):
    encoder, batches = case
    expected = np.concatenate(batches, dtype=encoder.dtype)
    encoded = [encoder.encode(batch) for batch in batches]
    # The points asked for begin in the first batch and end in the last one.
    start = data.draw(st.integers(0, len(batches[0]) - 1))
    stop = data.draw(
        st.integers(
            max(start, len(expected) - len(batches[-1])) + (len(batches) == 1), len(expected)
        )
    )
    assert same(encoder.decode_range(encoded, start, stop), expected[start:stop])
    offset = data.draw(st.integers(0, len(batches[0]) - 1))
    assert same(encoder.decode_point(encoded[0], offset), batches[0][offset])


@given(varying_batches())
def test_points_whose_shape_varies_come_back(case):
    encoder, batches = case
    encoded = [encoder.encode(batch) for batch in batches]
    found = encoder.decode(encoded)

    if len({batch.shape[1:] for batch in batches}) == 1:
        assert same(found, np.concatenate(batches, dtype=encoder.dtype))
    else:
        points = [point for batch in batches for point in batch]
        assert isinstance(found, list)
        assert len(found) == len(points)
        assert all(same(a, np.asarray(b)) for a, b in zip(found, points, strict=True))


@given(varying_batches())
def test_a_varying_payload_is_msgpack_of_shape_and_bytes(case):
    encoder, batches = case
    for batch in batches:
        encoded = encoder.encode(batch)
        assert encoded.payload == msgpack.packb([list(batch.shape[1:]), batch.tobytes()])
        assert encoded.len == len(batch)


@given(varying_batches(), st.data())
def test_any_part_of_varying_points_decodes_as_a_list_slices(case, data):
    encoder, batches = case
    points = [point for batch in batches for point in batch]
    encoded = [encoder.encode(batch) for batch in batches]
    start = data.draw(st.integers(0, len(points) - 1))
    stop = data.draw(st.integers(start + 1, len(points)))
    found = encoder.decode_range(encoded, start, stop)
    wanted = points[start:stop]

    assert len(found) == len(wanted)
    assert all(same(np.asarray(a), np.asarray(b)) for a, b in zip(found, wanted, strict=True))
    agree = len({point.shape for point in wanted}) == 1
    assert isinstance(found, np.ndarray) == agree
    for offset, point in enumerate(batches[0]):
        assert same(encoder.decode_point(encoded[0], offset), np.asarray(point))


@given(fixed_batches())
def test_what_was_decoded_is_the_readers_own(case):
    encoder, batches = case
    encoded = encoder.encode(batches[0])
    before = encoded.payload
    for found in (encoder.decode(encoded), encoder.decode_range([encoded], 0, len(batches[0]))):
        assert found.flags.writeable
        found[...] = 0
    assert encoded.payload == before


@given(fixed_batches() | varying_batches())
def test_the_description_leads_back_to_the_encoder(case):
    encoder, batches = case
    description = json.loads(json.dumps(encoder.info()))
    assert description == {
        "type": "numeric",
        "dtype_str": encoder.dtype.str,
        "shape": list(encoder.shape),
    }
    again = encoder_from_info(description, "x")
    assert (again.dtype.str, again.shape) == (encoder.dtype.str, encoder.shape)
    assert again.encode(batches[0]) == encoder.encode(batches[0])


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<c16", "|b1"])
@pytest.mark.parametrize("shape", [(), (2,), (0,), (-1,), (3, -1)])
def test_no_points_at_all_have_the_right_dtype_and_shape(dtype, shape):
    encoder = NumericStreamEncoder(dtype, shape)
    for nothing in (encoder.empty(), encoder.decode([]), encoder.decode_range([], 0, 0)):
        assert nothing.dtype.str == np.dtype(dtype).str
        assert nothing.shape == (0, *(max(n, 0) for n in shape))
    assert JsonStreamEncoder().empty() == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_point_and_a_batch_of_one_are_the_same(dtype):
    for shape, point in [((), np.ones((), dtype)), ((2, 2), np.ones((2, 2), dtype))]:
        encoder = NumericStreamEncoder(dtype, shape)
        assert encoder.encode(point) == encoder.encode(point[None])


# ---------------------------------------------------------------------------------- refusals

NATIVE, OTHER = ("<", ">") if np.little_endian else (">", "<")

REFUSED: dict[str, tuple[str, tuple[int, ...], Any, type[Exception], str]] = {
    "an empty list": ("f8", (), [], ValueError, "Cannot encode empty data"),
    "an empty array of another dtype": (
        "f8",
        (),
        np.zeros(0, "i4"),
        ValueError,
        "Cannot encode empty data",
    ),
    "a point without elements": (
        "f8",
        (-1,),
        np.zeros((3, 0)),
        ValueError,
        "Cannot encode empty data",
    ),
    "an int to a float stream": (
        "f8",
        (),
        3,
        TypeError,
        "Expected numpy.float64, received numpy.int64",
    ),
    "a float to an int stream": (
        "i4",
        (),
        3.0,
        TypeError,
        "Expected numpy.int32, received numpy.float64",
    ),
    "another size": (
        "f4",
        (),
        np.zeros(2),
        TypeError,
        "Expected numpy.float32, received numpy.float64",
    ),
    "another dtype and shape": (
        "f8",
        (2,),
        np.zeros((5, 5), "u2"),
        TypeError,
        "Expected numpy.float64, received numpy.uint16",
    ),
    "text": ("f8", (), "abc", TypeError, "Expected numpy.float64, received numpy."),
    "None": ("f8", (), None, TypeError, "Expected numpy.float64, received numpy.object"),
    "a structure": (
        "f8",
        (),
        np.zeros(1, "f8,i4"),
        TypeError,
        "Expected numpy.float64, received numpy.",
    ),
    "the other byte order": ("f8", (), np.zeros(3, f"{OTHER}f8"), TypeError, "endian"),
    "native to the other byte order": (f"{OTHER}i2", (), np.zeros(3, "i2"), TypeError, "endian"),
    "the other byte order and another shape": (
        "f8",
        (2,),
        np.zeros(3, f"{OTHER}f8"),
        TypeError,
        "endian",
    ),
    "another shape": ("f8", (2,), np.zeros(3), ValueError, "Expected shape (2,)"),
    "a batch of another shape": ("f8", (2,), np.zeros((4, 3)), ValueError, "Expected shape (2,)"),
    "two dimensions too many": (
        "f8",
        (2,),
        np.zeros((1, 1, 2)),
        ValueError,
        "Expected shape (2,)",
    ),
    "one dimension too few": ("f8", (2, 2), np.zeros(2), ValueError, "Expected shape (2, 2)"),
    "a batch for scalars, of two dimensions": (
        "f8",
        (),
        np.zeros((2, 2)),
        ValueError,
        "Expected shape ()",
    ),
    "another fixed dimension beside one that varies": (
        "f8",
        (-1, 3),
        np.zeros((5, 2)),
        ValueError,
        "Expected shape (-1, 3)",
    ),
}


@pytest.mark.parametrize(
    ("dtype", "shape", "data", "error", "words"), REFUSED.values(), ids=REFUSED.keys()
)
def test_data_that_do_not_fit_are_refused(dtype, shape, data, error, words):
    with pytest.raises(error) as caught:
        NumericStreamEncoder(dtype, shape).encode(data)
    assert words in str(caught.value)
    assert type(caught.value) is error


@pytest.mark.parametrize("dtype", ["O", "U3", "S3", "V8", "M8[s]", "m8[s]", "f8,i4", "(2,)f8"])
def test_dtypes_that_are_no_numbers_are_refused(dtype):
    with pytest.raises(ValueError, match="numeric stream holds"):
        NumericStreamEncoder(np.dtype(dtype))


@pytest.mark.parametrize(
    "shape",
    [(-2,), (1.5,), ("3",), (True,), (None,), 3, (1,) * 65, (2**62, 2**62), (10**30,)],
    ids=str,
)
def test_shapes_that_no_point_can_have_are_refused(shape):
    with pytest.raises(ValueError, match="shape of a point"):
        NumericStreamEncoder("f8", shape)


DESCRIPTIONS: dict[str, Any] = {
    "null": None,
    "empty": {},
    "a text": "numeric",
    "a list": ["numeric"],
    "another type": {"type": "pickle"},
    "a type that is no text": {"type": ["numeric"]},
    "no dtype": {"type": "numeric", "shape": []},
    "objects": {"type": "numeric", "dtype_str": "|O", "shape": []},
    "a structure": {"type": "numeric", "dtype_str": "f8,i4", "shape": []},
    "a structure with objects": {"type": "numeric", "dtype_str": "O,f8", "shape": []},
    "an array dtype": {"type": "numeric", "dtype_str": "(2,2)<f8", "shape": []},
    "an array dtype of objects": {"type": "numeric", "dtype_str": "(2,2)O", "shape": []},
    "text": {"type": "numeric", "dtype_str": "<U9999999", "shape": []},
    "dates": {"type": "numeric", "dtype_str": "<M8[ns]", "shape": []},
    "nonsense": {"type": "numeric", "dtype_str": "__import__('os')", "shape": []},
    "commas": {"type": "numeric", "dtype_str": ",,,", "shape": []},
    "an empty dtype": {"type": "numeric", "dtype_str": "", "shape": []},
    "a null byte": {"type": "numeric", "dtype_str": "<f8\0", "shape": []},
    "a surrogate": {"type": "numeric", "dtype_str": "\ud800", "shape": []},
    "a number as dtype": {"type": "numeric", "dtype_str": 8, "shape": []},
    "a dictionary as dtype": {
        "type": "numeric",
        "dtype_str": {"names": ["a"], "formats": ["O"]},
        "shape": [],
    },
    "a text as shape": {"type": "numeric", "dtype_str": "<f8", "shape": "22"},
    "a number as shape": {"type": "numeric", "dtype_str": "<f8", "shape": 2},
    "a negative shape": {"type": "numeric", "dtype_str": "<f8", "shape": [-7]},
    "floats as shape": {"type": "numeric", "dtype_str": "<f8", "shape": [2.0]},
    "booleans as shape": {"type": "numeric", "dtype_str": "<f8", "shape": [True]},
    "a huge shape": {"type": "numeric", "dtype_str": "<f8", "shape": [10**19]},
    "a shape beyond memory": {"type": "numeric", "dtype_str": "<f8", "shape": [2**40, 2**40]},
    "a thousand dimensions": {"type": "numeric", "dtype_str": "<f8", "shape": [1] * 1000},
    "a nested shape": {"type": "numeric", "dtype_str": "<f8", "shape": [[2]]},
}


@pytest.mark.parametrize("description", DESCRIPTIONS.values(), ids=DESCRIPTIONS.keys())
def test_a_description_that_cannot_be_is_an_unknown_encoding(description):
    with pytest.raises(UnknownEncodingError, match="'diode'"):
        encoder_from_info(description, "diode")


@pytest.mark.parametrize("count", [0, -1, -(10**19)])
def test_a_batch_holds_at_least_one_point(count):
    with pytest.raises(ValueError, match="at least one point"):
        EncodedBatch(b"", count)


def test_a_batch_of_one_point_states_no_length():
    assert EncodedBatch(b"ab").todict() == {"payload": b"ab"}
    assert EncodedBatch(b"ab", 1).todict() == {"payload": b"ab"}
    assert EncodedBatch(b"ab", 2).todict() == {"payload": b"ab", "len": 2}


@pytest.mark.parametrize("name", ["info", "from_info", "encode", "decode"])
def test_an_encoder_of_somebody_else_defines_what_api_says(name):
    assert name in StreamEncoder.__abstractmethods__


# ---------------------------------------------------------------------------------- lies


@given(fixed_batches(), st.binary(max_size=9), st.integers(1, 2**64))
def test_a_fixed_payload_of_another_size_is_damaged(case, extra, count):
    encoder, batches = case
    good = encoder.encode(batches[0])
    lies = [
        EncodedBatch(good.payload + extra, good.len),
        EncodedBatch(good.payload[: -1 - len(extra)], good.len),
        EncodedBatch(good.payload, count),
    ]
    for lie in lies:
        if (lie.payload, lie.len) == (good.payload, good.len):
            continue
        for read in (
            lambda lie=lie: encoder.decode(lie),
            lambda lie=lie: encoder.decode_point(lie, 0),
            lambda lie=lie: encoder.decode_range([lie], 0, 1),
            lambda lie=lie: encoder.decode([good, lie]),
        ):
            with pytest.raises(PayloadError):
                read()


@given(st.binary(max_size=40), st.integers(1, 5))
def test_chance_bytes_never_provoke_another_error(payload, count):
    batch = EncodedBatch(payload, count)
    encoders = (
        NumericStreamEncoder("f8", (-1,)),
        NumericStreamEncoder("f8", (-1, -1)),
        NumericStreamEncoder("u1", (2,)),
        JsonStreamEncoder(),
    )
    for encoder in encoders:
        try:
            found = encoder.decode(batch)
        except PayloadError:
            continue
        assert len(found) == count


shapes_on_the_wire = st.lists(st.integers(-(2**63), 2**64 - 1) | st.integers(-2, 4), max_size=4)


def an_array_can_have(shape: tuple[int, ...]) -> bool:
    """Whether numpy has arrays of that shape, small or without a single byte."""
    try:
        np.empty(shape, "u1")
    except (ValueError, OverflowError):
        return False
    return True


@given(shapes_on_the_wire, st.binary(max_size=64), st.integers(1, 2**64) | st.integers(1, 5))
def test_a_shape_that_lies_is_damage(shape, data, count):
    encoder = NumericStreamEncoder("u1", (-1, -1))
    batch = EncodedBatch(msgpack.packb([shape, data]), count)
    honest = (
        len(shape) == 2
        and all(n >= 0 for n in shape)
        and count * math.prod(shape) == len(data)
        and count <= 2**20
        and an_array_can_have((count, *shape))
    )
    if honest:
        assert encoder.decode(batch).shape == (count, *shape)
    else:
        with pytest.raises(PayloadError):
            encoder.decode(batch)


# ---------------------------------------------------------------------------------- json

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(json_values, min_size=1, max_size=5))
def test_json_values_come_back(values):
    encoder = JsonStreamEncoder()
    encoded = [encoder.encode(value) for value in values]
    assert all(batch.len == 1 and batch.payload.isascii() for batch in encoded)
    # repr tells NaN from numbers, 0.0 from -0.0 and True from 1
    assert repr(encoder.decode(encoded)) == repr(values)
    assert repr(encoder.decode_point(encoded[0], 0)) == repr(values[0])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, b"NaN"),
        (math.inf, b"Infinity"),
        (-math.inf, b"-Infinity"),
        ("é€𝄞", rb'"\u00e9\u20ac\ud834\udd1e"'),
        ({"a": [1, None, True]}, b'{"a": [1, null, true]}'),
    ],
    ids=["NaN", "Infinity", "-Infinity", "text beyond ASCII", "nested"],
)
def test_json_is_written_as_protocol_1_says(value, text):
    assert JsonStreamEncoder().encode(value).payload == text


def test_json_knows_itself():
    encoder = JsonStreamEncoder()
    assert encoder.info() == {"type": "json"}
    assert encoder.dtype == np.dtype(object)
    assert encoder.shape == ()
    assert not encoder.joinable
    assert isinstance(encoder_from_info({"type": "json"}, "x"), JsonStreamEncoder)


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [object(), b"bytes", {1, 2}, {(1, 2): 3}, np.zeros(2), 1j, _cycle(), _deep(10_000), 10**5000],
    ids=[
        *("object", "bytes", "set", "tuple as key", "array", "complex", "cycle"),
        *("nested too deep", "5001 digits"),
    ],
)
def test_what_json_cannot_hold_is_a_type_error(value):
    with pytest.raises(TypeError):
        JsonStreamEncoder().encode(value)


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"{", b"[1,", b"1 2", b"nul", b'"\xff"', b"\xff\xfe\xfd", b"'a'"),
        *(b"[" * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000, b"9" * 5000),
    ],
    ids=[
        *("nothing", "brace", "list cut", "two values", "word cut", "not UTF-8", "no text at all"),
        *("single quotes", "brackets", "nested too deep", "objects too deep", "5000 digits"),
    ],
)
def test_bytes_that_are_not_json_are_damage(payload):
    with pytest.raises(PayloadError):
        JsonStreamEncoder().decode(EncodedBatch(payload))


def test_several_json_points_in_one_entry_are_damage():
    with pytest.raises(PayloadError, match="2 JSON points"):
        JsonStreamEncoder().decode(EncodedBatch(b"[1, 2]", 2))


def test_masked_points_are_refused_and_unmasked_ones_are_not() -> None:
    encoder = NumericStreamEncoder("float64")
    with pytest.raises(ValueError, match="fill"):
        encoder.encode(np.ma.array([1.0, 2.0], mask=[False, True]))
    assert encoder.encode(np.ma.array([1.0, 2.0])).len == 2


def test_a_refused_dtype_says_how_to_convert() -> None:
    with pytest.raises(TypeError, match=r"numpy\.asarray\(data, 'float32'\)"):
        NumericStreamEncoder("float32").encode(1.0)
