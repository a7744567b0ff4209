"""Values of a layout: what a dataset or an attribute holds, as JSON carries it.

    raw         a JSON scalar or nested list: bool, int64, float64 or text, as numpy makes of it
    inline      the same with a dtype; nan, inf and complex numbers travel as text
    inline_b64  bytes as base64, with dtype and shape
    compound    named columns of equal shape
    stream      the name of a stream; its points are not here

`decode()` gives the array that h5py would give back after writing the value: text as an object array
of bytes whose dtype says `{"vlen": str}`, a compound as a structured array, a scalar as a 0-d array.
"""

from __future__ import annotations

import base64
import binascii
import math
import string
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, Self, TypeAlias

import numpy as np
from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    RootModel,
    Tag,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)

from blissdata.exceptions import LayoutError, LayoutOverflowError

__all__ = [
    "Compound",
    "DataItem",
    "DataItemType",
    "Inline",
    "InlineBase64",
    "InlineRaw",
    "Stream",
    "type_of_value",
]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

MAX_NDIM = 32
"""Dimensions that HDF5 can have (H5S_MAX_RANK)."""

MAX_TEXT_NBYTES = 2**28
"""An array of texts costs its longest text at every point: a few bytes of JSON must not become more
[bytes] than this."""

INLINE_DTYPE = r"^(bool|(int|uint)(8|16|32|64)|float(16|32|64|128)|complex(64|128|256))$"
BINARY_DTYPE = r"^(\|?[iub]1|[><]([iuf][248]|[fc](8|16)|c32))$"

TEXT = np.dtype("O", metadata={"vlen": str})
"""The dtype of text as h5py reads it; the same as `h5py.string_dtype()`."""


# ----------------------------------------------------------------------------------------- raw


def _raw_array(value: Any) -> Array:
    """A value as the array that travels as plain JSON: bool, int64, float64 or text."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.array(value)
    else:
        array = _array_of_lists(value)
    if array.ndim > MAX_NDIM:
        raise ValueError(_NO_ARRAY)
    match array.dtype.kind:
        case "b":
            return array
        case "i" | "u":
            if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
                raise ValueError(
                    f"{array.max()} does not fit into int64: "
                    'give {"type": "inline", "dtype": "uint64", "value": …}'
                )
            return array.astype(np.int64)
        case "f":
            with np.errstate(over="ignore"):
                array = array.astype(np.float64)
            if not np.isfinite(array).all():
                raise ValueError(
                    "nan and inf are not JSON: "
                    'give {"type": "inline", "dtype": "float64", "value": "nan"}'
                )
            return array
        case "U":
            return array
        case "T":  # numpy 2's texts of any length
            return _array_of_lists(array.tolist())
        case _:
            raise ValueError(
                "a plain value is true or false, an integer of 64 bits, a finite number, text, or "
                f"nested lists of these; found {_described(value, array)}"
            )


def _array_of_lists(value: Any) -> Array:
    objects = _objects(value)
    kinds = set(map(type, objects.flat))
    if str in kinds:
        longest = max(len(v) for v in objects.flat if isinstance(v, str))
        if objects.size * longest * 4 > MAX_TEXT_NBYTES:
            raise ValueError(
                f"{objects.size} texts of which the longest has {longest} characters need more "
                f"than {MAX_TEXT_NBYTES >> 20} MiB as an array"
            )
    if kinds & {list, tuple}:
        raise ValueError(_NO_ARRAY)
    return np.array(value)


_NO_ARRAY = (
    f"nested lists must form an array of at most {MAX_NDIM} dimensions: found lists of different "
    "lengths, or too many in each other"
)


def _objects(value: Any) -> Array:
    """Nested lists as an array of Python objects; what is ragged stays a list in it."""
    try:
        objects = np.array(value, dtype=object)
    except ValueError as error:
        raise LayoutError(_NO_ARRAY) from error
    if objects.ndim > MAX_NDIM:
        raise LayoutError(_NO_ARRAY)
    return objects


def _described(value: Any, array: Array) -> str:
    if array.dtype.kind != "O":
        return f"{str(value)[:60]!r} ({array.dtype})"
    plain = (str, bool, int, float)
    odd = next((v for v in array.flat if not isinstance(v, plain)), array.flat[0])
    return "null" if odd is None else f"{str(odd)[:60]!r} ({type(odd).__name__})"


_JSON_SCALARS: list[dict[str, Any]] = [
    {"type": "boolean"},
    {"type": "number"},
    {"type": "string"},
    {"type": "array"},
]


class InlineRaw(
    RootModel[
        Annotated[
            Any,
            PlainValidator(_raw_array),
            PlainSerializer(lambda array: array.tolist(), when_used="json"),
            WithJsonSchema({"anyOf": _JSON_SCALARS}),
        ]
    ]
):
    """A JSON scalar or (nested) list, with the dtype that numpy gives it: bool, int64, float64 or
    text (`[1, 2.3, "4.5"]` is text).

    Takes lists, numbers, text and numpy arrays; refuses bytes, complex, nan, inf, null, integers
    beyond int64 and lists that form no array. `model_dump()` is the array itself, 0-d for a scalar,
    `<U…` for text; `model_dump_json()` the JSON. Equal where shape and all elements are.
    """

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InlineRaw):
            return NotImplemented
        mine, theirs = self.root, other.root
        if (mine.dtype.kind == "U") != (theirs.dtype.kind == "U"):
            return bool(mine.size == 0 and mine.shape == theirs.shape)
        return bool(np.array_equal(mine, theirs))

    __hash__ = None  # type: ignore[assignment]  # it holds an array

    def decode(self) -> Array:
        """The array, text as bytes. Raises `LayoutError` for text that HDF5 cannot hold."""
        array: Array = self.root
        return _text(array) if array.dtype.kind == "U" else array.copy()


def _text(array: Array) -> Array:
    found = np.empty(array.shape, TEXT)
    found.reshape(-1)[:] = [_encoded(text) for text in array.reshape(-1).tolist()]
    return found


def _encoded(text: str) -> bytes:
    if "\0" in text:
        raise LayoutError(f"HDF5 cannot hold text with a NUL character: {text[:60]!r}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise LayoutError(f"not every character of {text[:60]!r} is Unicode: {error}") from error


# -------------------------------------------------------------------------------------- inline


def _plain(value: Any, depth: int = 0) -> Any:
    """A value as JSON holds it: what JSON has no number for becomes text."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, np.longdouble | np.clongdouble):  # which Python has no numbers for
        return _long(value)
    match value:
        case bool() | int() | str():
            return value
        case bytes():
            return value.decode()
        case float():
            return value if math.isfinite(value) else str(value)
        case complex():
            return str(value)
        case list() | tuple() | range():
            if depth == MAX_NDIM:
                raise ValueError(_NO_ARRAY)
            return [_plain(one, depth + 1) for one in value]
        case _:
            found = "null" if value is None else f"{str(value)[:60]!r} ({type(value).__name__})"
            raise ValueError(
                "an inline value is true or false, a number, text, or nested lists of these; "
                f"found {found}"
            )


def _long(value: Any) -> float | str:
    """A number of more than 64 bits: as text, where a double does not hold all its digits."""
    if isinstance(value, np.clongdouble) or not np.isfinite(value):
        return str(value)
    short = float(value)
    return short if np.longdouble(short) == value else str(value)


InlineValue = RootModel[
    Annotated[Any, PlainValidator(_plain), WithJsonSchema({"anyOf": _JSON_SCALARS})]
]
"""What an `Inline` holds: numbers, truth values, texts, and nested lists of these."""


class Inline(BaseModel):
    """A value with its dtype; numbers that JSON does not have are texts (`"nan"`, `"-inf"`,
    `"(1+23j)"`)."""

    type: Literal["inline"] = "inline"

    dtype: str = Field(pattern=INLINE_DTYPE)
    """numpy's name: `bool`, `int8` … `int64`, `uint8` … `uint64`, `float16` … `float128`,
    `complex64` … `complex256`."""

    value: InlineValue
    """A scalar or nested lists, of numbers, truth values and texts that are numbers. numpy arrays are
    taken too; null and objects are refused. Whether it is of that dtype shows at `decode()`."""

    def decode(self) -> Array:
        """The array. Raises `LayoutError` (a `ValueError`) where the value is not of that dtype,
        `LayoutOverflowError` (an `OverflowError` too) where it does not fit. As with h5py, floats
        are cut to integers, and what is too large for a float is inf."""
        objects = _objects(self.value.root)
        try:
            dtype = np.dtype(self.dtype)
        except TypeError as error:
            raise LayoutError(
                f"This machine has no {self.dtype}: its values need another"
            ) from error
        try:
            numbers = _numbers(objects.reshape(-1).tolist(), dtype)
        except OverflowError as error:
            raise LayoutOverflowError(f"A value does not fit into {self.dtype}: {error}") from error
        except (TypeError, ValueError) as error:
            ragged = any(isinstance(one, list) for one in objects.flat)
            reason = _NO_ARRAY if ragged else error
            raise LayoutError(f"The value is no {self.dtype}: {reason}") from error
        return numbers.reshape(objects.shape)


def _numbers(values: Sequence[Any], dtype: np.dtype[Any]) -> Array:
    """Numbers, some of them perhaps as text, as a 1-d array."""
    convert: Callable[[Any], Any]
    match dtype.kind:
        case "b":
            return np.array([_truth(one) for one in values], dtype)
        case "i" | "u":
            limits = np.iinfo(dtype)
            whole = [int(one) for one in values]
            for one in whole:
                if not limits.min <= one <= limits.max:
                    raise OverflowError(f"{one} is not from {limits.min} to {limits.max}")
            return np.array(whole, dtype)
        case "f":
            convert = np.longdouble if dtype.itemsize > 8 else float
        case _:
            convert = complex
    with np.errstate(over="ignore"):  # h5py writes inf, without a word
        return np.array([convert(one) for one in values]).astype(dtype)


def _truth(value: Any) -> bool:
    if isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise ValueError(f"{value[:60]!r} is neither true nor false")
        return value.lower() == "true"
    if isinstance(value, list):
        raise TypeError
    return bool(value)


# ---------------------------------------------------------------------------------- inline_b64


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes | bytearray):
        raise ValueError(f"expected base64, as text or bytes, found {type(value).__name__}")
    try:
        return base64.b64decode(
            bytes(value).translate(None, string.whitespace.encode()), validate=True
        )
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


class InlineBase64(BaseModel):
    """Numbers as bytes in C order, for what would be too long as JSON numbers."""

    type: Literal["inline_b64"] = "inline_b64"

    dtype: str = Field(pattern=BINARY_DTYPE)
    """Array-interface text: `|i1`, `|u1`, `|b1` (the bar may be left out), or `<` or `>` with `i2`
    `i4` `i8` `u2` `u4` `u8` `f2` `f4` `f8` `f16` `c8` `c16` `c32`."""

    shape: list[int] | None = None
    """`[]` is a scalar; null: one dimension, as long as the bytes."""

    value: Annotated[
        bytes,
        PlainValidator(_bytes),
        PlainSerializer(_base64, return_type=str),
        WithJsonSchema({"type": "string", "format": "base64"}),
    ]
    """Takes base64 (text or bytes, blanks ignored), holds the bytes; dumped as base64 text."""

    def decode(self) -> Array:
        """The array. Raises `LayoutError` (a `ValueError`) where bytes, dtype and shape disagree."""
        try:
            dtype = np.dtype(self.dtype)
        except TypeError as error:
            raise LayoutError(
                f"This machine has no {self.dtype}: its values need another"
            ) from error
        shape = [-1] if self.shape is None else self.shape
        try:
            if min(shape, default=0) < -1:
                raise ValueError("a dimension is negative")
            array = np.frombuffer(self.value, dtype).reshape(shape)
        except (ValueError, OverflowError) as error:
            raise LayoutError(
                f"{len(self.value)} bytes are no array of {self.dtype} with shape {self.shape}: {error}"
            ) from error
        # A copy, as the bytes are not writable; any byte but 0 is true, as in HDF5.
        return array.view(np.uint8) != 0 if dtype.kind == "b" else array.copy()


# ---------------------------------------------------------------------------- stream, compound


class Stream(BaseModel):
    """The points of a stream of the scan."""

    type: Literal["stream"] = "stream"

    stream: str
    """Its name."""

    def decode(self) -> Array:
        """Raises `TypeError`: the points are on the server, not here."""
        raise TypeError(
            f"the item refers to stream {self.stream!r}, it holds no value to decode(): "
            "read the stream"
        )


def type_of_value(value: Any) -> str | None:
    """Which kind of value this is, by its `type`; None for an object without one."""
    if isinstance(value, dict):
        tag = value.get("type")
        return tag if isinstance(tag, str) or tag is None else str(tag)
    if isinstance(value, BaseModel) and not isinstance(value, InlineRaw):
        return str(getattr(value, "type", type(value).__name__))
    return "raw"


class Compound(BaseModel):
    """Named columns of equal shape; decoded, a structured array of that shape."""

    type: Literal["compound"] = "compound"

    columns: list[
        tuple[
            str,
            Annotated[
                Annotated[Inline, Tag("inline")]
                | Annotated[InlineBase64, Tag("inline_b64")]
                | Annotated[InlineRaw, Tag("raw")]
                | Annotated[Compound, Tag("compound")],
                Discriminator(type_of_value),
            ],
        ]
    ] = Field(min_length=1)
    """`[name, value]`, at least one; names are unique, values may be compounds, but no streams."""

    @model_validator(mode="after")
    def _columns_agree(self) -> Self:
        names = [name for name, _ in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"found columns with same name: {', '.join(map(repr, twice))}")
        shapes = {name: array.shape for name, array in self._arrays()}
        if len(set(shapes.values())) > 1:
            found = ", ".join(f"{name!r}: {shape}" for name, shape in shapes.items())
            raise ValueError(f"columns have different shapes, {found}")
        return self

    def _arrays(self) -> Iterable[tuple[str, Array]]:
        for name, item in self.columns:
            try:
                yield name, item.decode()
            except LayoutError as error:
                raise type(error)(f"column {name!r}: {error}") from error

    def decode(self) -> Array:
        """A structured array, a field per column."""
        arrays = dict(self._arrays())
        fields = {"names": list(arrays), "formats": [array.dtype for array in arrays.values()]}
        shape = next(iter(arrays.values())).shape
        found: Array = np.empty(shape, np.dtype(fields))  # type: ignore[call-overload]
        for name, array in arrays.items():
            found[name] = array
        return found


DataItemType: TypeAlias = Annotated[
    Annotated[Inline, Tag("inline")]
    | Annotated[InlineBase64, Tag("inline_b64")]
    | Annotated[Stream, Tag("stream")]
    | Annotated[InlineRaw, Tag("raw")]
    | Annotated[Compound, Tag("compound")],
    Discriminator(type_of_value),
]
"""Any value: what has no `type` is an `InlineRaw`."""

DataItem: TypeAdapter[Inline | InlineBase64 | Stream | InlineRaw | Compound] = TypeAdapter(
    DataItemType
)
"""Validates any value: `DataItem.validate_python(…)`, `DataItem.validate_json(…)`."""
