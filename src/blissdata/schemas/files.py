"""JSON Schema (draft 2020-12) of the TypedDicts, so that programs in any language can check.

The shipped files are made by `python -m blissdata.schemas` from the classes and the texts below
their fields, without pydantic: its output changes with its version, these files must not.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

from blissdata.schemas.fields import (
    Anything,
    Field,
    Flag,
    Kind,
    ListOf,
    Number,
    OneOf,
    OneRecordOf,
    Record,
    TableOf,
    Text,
    record,
)
from blissdata.schemas.scan_info import ScanInfoDict

__all__ = ["FILES", "build", "documentation", "json_schema", "text_of"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

FILES = ("scan_info", "scan_info_display")
"""Names of the shipped schemas: the whole info, and the part of it that says how to show it."""


def json_schema(name: str = "scan_info") -> dict[str, Any]:
    """A shipped schema, one of `FILES`, as a new dict. Reads one file of the package."""
    if name not in FILES:
        raise ValueError(f"no schema is called {name!r}; there are {', '.join(FILES)}")
    schema: dict[str, Any] = json.loads(path_of(name).read_text(encoding="utf-8"))
    return schema


def path_of(name: str) -> Path:
    """Where a schema is shipped."""
    return Path(__file__).parent / f"{name}.schema.json"


def build(name: str) -> dict[str, Any]:
    """A schema, from the classes and their sources."""
    whole = record(ScanInfoDict)
    if name == "scan_info":
        head = {"$schema": DIALECT, **_record(whole)}
        return head | {"$defs": _definitions(list(whole.fields.values()))}
    fields = [whole.fields["plots"], whole.fields["display_extra"]]
    texts = documentation(ScanInfoDict)[1]
    return {
        "$schema": DIALECT,
        "title": "ScanInfoDict, the part about display",
        "description": "How a scan asks to be shown; other keys of its info are ignored.",
        "type": "object",
        "properties": {one.name: _field(one, texts[one.name]) for one in fields},
        "$defs": _definitions(fields),
    }


def text_of(schema: dict[str, Any]) -> str:
    """A schema as the file holds it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _definitions(fields: list[Field]) -> dict[str, Any]:
    found: dict[str, Record] = {}
    for one in fields:
        _collect(one.kind, found)
    return {name: _record(found[name]) for name in sorted(found)}


def _collect(kind: Kind, found: dict[str, Record]) -> None:
    """All records at or below a kind."""
    match kind:
        case ListOf():
            _collect(kind.item, found)
        case TableOf():
            _collect(kind.value, found)
        case OneRecordOf():
            for one in kind.records.values():
                _collect(one, found)
        case Record():
            found[kind.name] = kind
            for one_field in kind.fields.values():
                _collect(one_field.kind, found)
        case _:
            pass


def _record(one: Record) -> dict[str, Any]:
    own, texts = documentation(one.type)
    schema: dict[str, Any] = {
        "title": one.name,
        "description": own,
        "type": "object",
        "properties": {name: _field(field, texts[name]) for name, field in one.fields.items()},
    }
    required = [field.name for field in one.fields.values() if field.required]
    return schema | ({"required": required} if required else {})


def _field(field: Field, text: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": text, **_kind(field.kind)}
    if field.deprecated:
        schema["deprecated"] = True
        schema["description"] += f" Deprecated; instead, {field.deprecated.instead}."
    return schema


def _kind(kind: Kind) -> dict[str, Any]:
    match kind:
        case Text():
            known = {"examples": list(kind.known.values)} if kind.known else {}
            return {"type": "string", **known}
        case Number():
            least = {} if kind.least is None else {"minimum": kind.least}
            most = {} if kind.most is None else {"maximum": kind.most}
            return {"type": "integer" if kind.whole else "number", **least, **most}
        case Flag():
            return {"type": "boolean"}
        case OneOf():
            one = len(kind.values) == 1
            return {"const": kind.values[0]} if one else {"enum": list(kind.values)}
        case ListOf():
            return {"type": "array", "items": _kind(kind.item)}
        case TableOf():
            return {"type": "object", "additionalProperties": _kind(kind.value)}
        case Anything():
            return {"type": "object"}
        case Record():
            return {"$ref": f"#/$defs/{kind.name}"}
        case OneRecordOf():
            return {"anyOf": [_kind(one) for one in kind.records.values()]}


@cache
def documentation(typed_dict: Any) -> tuple[str, dict[str, str]]:
    """The docstring of a TypedDict, and the text below each of its fields, on one line each.
    Reads the source; raises `OSError` where that is not shipped, `ValueError` for a field without
    a text."""
    tree = ast.parse(inspect.getsource(sys.modules[typed_dict.__module__]))
    body = next(
        node.body
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == typed_dict.__name__
    )
    texts = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            match after:
                case ast.Expr(ast.Constant(str() as text)):
                    texts[node.target.id] = " ".join(text.split())
                case _:
                    raise ValueError(f"{typed_dict.__name__}.{node.target.id} has no text below it")
    return " ".join(textwrap.dedent(typed_dict.__doc__ or "").split()), texts
