"""Recipe of `items.json`: what blissdata 2.4.5 makes of many items of a layout.

    pip install blissdata==2.4.5                      # into an environment of its own
    python tests/golden/h5map/capture.py > tests/golden/h5map/items.json

Each case is an expression. Told of each: the JSON that the item is written as, and what `decode()`
gives; or the kind of error. The same functions run on ours in `tests/h5map/test_golden.py`.
"""

from __future__ import annotations

import base64
import json
import platform
import sys
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
from pydantic import ValidationError


def b64(*values: Any, dtype: str = "<i2") -> str:
    """Base64 of some numbers, for the expressions below."""
    return base64.b64encode(np.array(values, dtype).tobytes()).decode()


RAW = """
1 | True | 1.5 | -0.0 | 1e300 | "a" | "" | "é" | [1, 2] | [[1, 2], [3, 4]] | [1, 2.3, "4.5"] | [True, 2]
[True, False] | [1, True, 2.5] | [] | [[]] | [[], []] | ["a", "bcd"] | [[1, "a"]] | (1, 2) | range(3)
[[1, 2], [3]] | [[1], 2] | None | [1, None] | b"x" | 1j | float("nan") | float("inf") | [1.0, float("-inf")]
2**31 | -2**63 | 2**63 - 1 | 2**64 | -2**63 - 1 | 10**40 | [2**63, -1] | {1, 2} | {} | object()
np.int8(3) | np.bool_(True) | np.float32(1.5) | np.str_("x") | np.longdouble(1.5) | np.uint8([1, 2])
np.array([1, 2], "i1") | np.array(["a", "bc"]) | np.array("abc") | np.array([[1.5]], "f4")
np.zeros((0, 3)) | np.array([b"x"]) | np.array([1j]) | np.array([np.nan]) | np.datetime64("2020-01-01")
np.array([object()])
"""

INLINE = """
bool True | bool 0 | bool [1, 0] | bool 2.5 | int8 127 | int8 128 | int8 -129 | uint8 -1 | int8 1.0 | int8 -1.5
int8 "3" | int8 "x" | int8 "nan" | int8 True | int8 [[1, 2], [3, 4]] | int8 [[1, 2], [3]] | int8 []
int16 [] | int16 [[], []] | int32 2.0**40 | uint8 ["1", "2"] | uint8 "300" | int64 2**63 - 1 | int64 2**63
int64 9007199254740993 | int64 [9007199254740993, "3"] | int64 "9223372036854775807" | uint64 2**64 - 1
float64 1 | float64 123.0 | float64 0.1 | float64 "nan" | float64 "-inf" | float64 "inf" | float64 "abc" | float64 ""
float64 float("nan") | float64 [1, float("inf")] | float64 [1, "nan"] | float64 [["nan", 1], [2, "3"]]
float64 True | float64 [True, 2] | float64 1j | float64 "1e400" | float32 1e300 | float32 "1e40" | float16 1e6
float32 0.1 | float128 1.5 | float128 "nan" | float128 "1e400" | complex64 "(1+23j)" | complex64 1+2j
complex128 1 | complex128 [1, "2j"] | complex128 "nan" | complex128 float("nan") | complex128 "1 + 2j"
complex256 "(1+2j)" | complex64 complex("nan+1j") | float64 None | float64 [None] | float64 {} | float64 {"a": 1}
str "a" | int7 1 | object 1 | float64 np.float32(0.1) | float64 np.array([1.5, np.nan]) | int8 np.int8(3)
complex64 np.array([1.5 + 2j, np.nan]) | float64 np.array([[1, 2]]) | float64 "1_000" | bool [[True], [False]]
"""

BASE64 = """
"<i2", b64(1, 2) | "<i2", b64(1, 2), [2] | "<i2", b64(1), [] | "<i2", b64(1) | ">i2", b64(1, 2), [2, 1]
"<i2", "AQAC" | "<i2", b64(1, 2), [3] | "<i2", "" | "<i2", "", [0] | "<i2", "", [0, 3] | "<i2", "", []
"<i2", b64(1, 2), [-1] | "i1", "AQI=" | "|i1", "AQI=" | "u1", "AQI=" | "|b1", "AAE=" | "b1", "AAE="
"=i2", "AQA=" | "i2", "AQA=" | "<i1", "AQA=" | "<U2", "AAAAAAAAAAA=" | "|S2", "AQA=" | "<c4", "AAAAAA=="
"<f2", b64(1.5, dtype="f2") | "<f4", b64(1.5, dtype="f4") | "<f8", b64(1.5, dtype="f8"), [1, 1, 1]
"<c8", b64(1j, dtype="c8") | ">c16", b64(1j, dtype=">c16"), [] | "<f16", "AAAAAAAAAMD/PwAAAAAAAA=="
"<c32", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAACA/z8AAAAAAAA=" | "<u8", b64(2**63, dtype="u8") | "<i2", "AQA" | "<i2", 3 | "<i2", None
"<i2", b64(1, 2).encode() | "<i2", bytearray(b"AQA=") | "<i2", b64(1), 2 | "<i2", b64(1, 2), (2,)
"""

COMPOUND = """
[("a", 1)] | [("a", 1), ("b", "x")] | [("a", [1, 2]), ("b", ["x", "yy"])] | [["a", 1]] | [("a", True)]
[("a", 1), ("b", [1, 2])] | [("a", [1, 2]), ("b", [1])] | [("a", 1), ("a", 2)] | [] | {"a": 1} | [("a", 1, 2)]
[("a", m.Stream(stream="s"))] | [("a", {"type": "stream", "stream": "q"})] | [(1, 2)] | [("a", None)]
[("a", m.Compound(columns=[("b", 1)]))] | [("a b/é", 1)] | [("a", []), ("b", [])]
[("a", {"type": "compound", "columns": [["b", [1, 2]], ["t", ["x", "y"]]]}), ("c", [3, 4])]
[("a", m.Inline(dtype="int8", value=[1, 2])), ("b", {"type": "inline_b64", "dtype": "<f4", "value": b64(1, 2, dtype="<f4")})]
[("a", [[1, 2], [3, 4]]), ("b", [[1.5, 2], [3, 4]])] | [("a", m.Inline(dtype="int8", value="zz"))]
[("a", m.Inline(dtype="float64", value=[1, "nan"])), ("b", [1, 2, 3])]
"""

VALUES = """
m.Stream(stream="s") | m.Stream(stream="") | m.Stream(stream=1) | m.Stream() | m.Stream(stream="s", more=1)
m.Stream(type="inline", stream="s") | m.DataItem.validate_python({"type": "stream", "stream": "s"})
m.DataItem.validate_python({"type": "nonsense"}) | m.DataItem.validate_python({"a": 1})
m.DataItem.validate_python(m.InlineRaw(3)) | m.DataItem.validate_json("[1, 2.5]")
m.DataItem.validate_json("NaN") | m.DataItem.validate_json("null")
m.DataItem.validate_json('{"type": "inline", "dtype": "float64", "value": [1, NaN]}')
m.DataItem.validate_json('{"value": 1, "dtype": "int8", "type": "inline"}')
"""

ITEMS = """
{} | {"type": "group"} | {"type": "dataset"} | {"type": "dataset", "value": 3} | 3 | [1, 2.5] | "text" | None
{"type": "dataset", "value": 3, "attributes": {}} | {"type": "dataset", "value": None} | {"value": 3}
{"type": "dataset", "value": 3, "attributes": {"unit": "mm", "offset": [1, 2]}}
{"type": "dataset", "attributes": {"unit": "mm"}, "value": {"type": "stream", "stream": "s"}}
{"type": "dataset", "value": {"type": "group"}} | {"type": "nonsense"} | {"type": 1} | {"x": {"y": 1}}
{"type": "stream", "stream": "s"} | {"type": "inline", "dtype": "int8", "value": 1} | {"type": "stream"}
{"type": "inline_b64", "dtype": "<i2", "value": "AQA="} | {"type": "compound", "columns": [["a", 1]]}
{"type": "group", "attributes": {"NX_class": "NXroot", "n": {"type": "inline", "dtype": "uint8", "value": 1}}}
{"type": "group", "children": {"g": {"type": "group", "children": {"d": 1}}, "l": {"type": "soft_link", "target_path": "g/d"}}}
{"type": "group", "children": {"e": {"type": "external_link", "target_file": "f.h5", "target_path": "/1.1"}, "s": {"type": "stream", "stream": "q"}}}
{"type": "group", "attributes": {"a": None}} | {"type": "group", "attributes": {"a": {"type": "dataset", "value": 1}}}
{"type": "group", "attributes": {"a": {"type": "stream", "stream": "s"}}} | {"type": "group", "children": [1]}
{"type": "group", "children": {"a": {"type": "group", "children": {"b": None}}}} | {"type": "group", "children": {1: 1}}
{"type": "group", "children": {"a": {"type": "group", "children": {"b": {"type": "soft_link"}}}}}
{"type": "group", "children": None} | {"type": "group", "more": 1} | {"type": "soft_link", "target_path": 1}
{"type": "external_binary_dataset", "dtype": "<i2", "shape": [2, 3], "files": [{"name": "a", "offset": 0, "size": None}]}
{"type": "external_binary_dataset", "dtype": "<i2", "shape": [2, 3], "files": [{"name": "a", "offset": 3}, {"name": "b", "offset": 0, "size": 9}], "attributes": {"u": 1}}
{"type": "external_binary_dataset", "dtype": "<i2", "shape": [2, 3], "files": []}
{"type": "external_binary_dataset", "dtype": "<i2", "shape": [2, 3], "files": [{"name": "a"}]}
{"type": "external_binary_dataset", "dtype": "int16", "shape": [2], "files": [{"name": "a", "offset": 0}]}
{"type": "external_binary_dataset", "dtype": "<i2", "shape": [], "files": [{"name": "a", "offset": -1}]}
{"type": "external_binary_dataset", "dtype": "<i2", "shape": [1], "files": [{"name": "a", "offset": 1, "size": -1}]}
{"type": "external_binary_dataset", "dtype": "<i2", "shape": None, "files": [{"name": "a", "offset": 1}]}
{"type": "virtual_dataset", "dtype": "<i2", "shape": [2, 3], "virtual_sources": []}
{"type": "virtual_dataset", "dtype": "|u1", "shape": [2, 3], "virtual_sources": [{"vspace": {"start": [0, 0], "count": [1, 1], "block": [2, 3]}, "src_file": "f", "src_dataset": "d", "src_space": {"start": [0], "stride": [1], "count": [6], "block": [1]}}]}
{"type": "virtual_dataset", "dtype": ">f8", "shape": [4], "attributes": {"u": 1}, "virtual_sources": [{"vspace": {"start": [0], "stride": [2], "count": [2]}, "src_file": "f", "src_dataset": "d", "src_space": {"start": [5], "count": [2]}}]}
{"type": "virtual_dataset", "dtype": "<i2", "shape": [1], "virtual_sources": [{"vspace": {"start": [-1], "count": [1]}, "src_file": "f", "src_dataset": "d", "src_space": {"start": [0], "count": [1]}}]}
{"type": "virtual_dataset", "dtype": "<i2", "shape": [1], "virtual_sources": [{"vspace": {"start": [0], "count": [1]}, "src_file": "f"}]}
m.SoftLink(target_path="x") | m.Group(children={"x": m.Stream(stream="q"), "y": m.InlineRaw(3), "w": np.arange(3)})
m.Group(attributes={"NX_class": "NXentry"}, children={"z": m.Dataset(value=m.InlineRaw(2), attributes={"u": "m"})})
"""


def expressions() -> list[str]:
    """All cases."""
    found = [f"m.InlineRaw({one})" for one in _cases(RAW)]
    for one in _cases(INLINE):
        dtype, value = one.split(" ", 1)
        found.append(f"m.Inline(dtype={dtype!r}, value={value})")
    for one in _cases(BASE64):
        found.append(f"base64_item({one})")
    found += [f"m.Compound(columns={one})" for one in _cases(COMPOUND)]
    found += _cases(VALUES)
    return found + [f"m.HDF5Item.validate_python({one})" for one in _cases(ITEMS)]


def _cases(text: str) -> list[str]:
    return [case.strip() for line in text.strip().splitlines() for case in line.split(" | ")]


def told(expression: str, m: Any) -> dict[str, Any]:
    """What becomes of one case; `m` is the module `blissdata.h5map`."""

    def base64_item(dtype: Any, value: Any, shape: Any = None) -> Any:
        return m.InlineBase64(dtype=dtype, value=value, shape=shape)

    names = {"m": m, "np": np, "b64": b64, "base64_item": base64_item}
    try:
        item = eval(expression, names)  # noqa: S307
    except ValidationError:
        return {"refused": True}
    except Exception as error:
        return {"fails": type(error).__name__}
    # Through json once, as pydantic's spelling of floats changes with its version.
    text = json.dumps(json.loads(item.model_dump_json()), ensure_ascii=False)
    found: dict[str, Any] = {"type": type(item).__name__, "json": text}
    if hasattr(item, "decode"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                array = item.decode()
            except Exception as error:
                return found | {"undecodable": _builtin(error)}
        found["decoded"] = {"dtype": _described(array.dtype), "shape": list(array.shape)}
        found["decoded"]["values"] = _spelled(array.tolist())
    return found


def _described(dtype: Any) -> Any:
    if dtype.fields:
        return [[name, _described(dtype.fields[name][0])] for name in dtype.names]
    vlen = (dtype.metadata or {}).get("vlen")
    return dtype.str if vlen is None else f"vlen {vlen.__name__}"


def _spelled(value: Any) -> str:
    """A value in text, alike in all versions of numpy."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_spelled, value))}]"
    return str(value) if isinstance(value, np.generic) else repr(value)


def _builtin(error: Exception) -> list[str]:
    """The errors that a caller may catch, without those that one side made for itself."""
    return [one.__name__ for one in type(error).__mro__ if one.__module__ == "builtins"][:-3]


def main() -> None:
    import blissdata.h5map as m

    packages = ("blissdata", "pydantic", "numpy")
    origin = {name: version(name) for name in packages} | {"python": platform.python_version()}
    cases = {expression: told(expression, m) for expression in expressions()}
    json.dump({"origin": origin, "cases": cases}, sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
