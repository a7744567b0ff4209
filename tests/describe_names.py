"""Describes names of a package as they are at run time: what they are, and what they take.

    python describe_names.py < names.json > found.json

`names.json` is a list of `[module, dotted name]`; `found.json` gives for each `null` if it is not
there, else `{"is": …, "takes": [[name, kind, default], …] | null, "items": […] | null}`. Runs in every
environment, also where this checkout is not installed: standard library only.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import sys
import warnings
from typing import Any

REQUIRED = "required"
"""In the place of the default of a parameter that has none."""


def describe(module: str, dotted: str) -> dict[str, Any] | None:
    """What the name is; None if it is not there."""
    try:
        found: Any = importlib.import_module(module)
        holder: Any = None
        for part in dotted.split("."):
            holder, found = found, getattr(found, part)
    except (ImportError, AttributeError):
        return None
    static = inspect.getattr_static(holder, dotted.rpartition(".")[2], found)
    return {"is": _kind(static, found), "takes": _takes(static, found), "items": _items(found)}


def _kind(static: Any, found: Any) -> str:
    if inspect.isclass(found):
        return "class"
    if (
        isinstance(static, property)
        or hasattr(static, "func")
        or inspect.ismemberdescriptor(static)
    ):
        return "property"
    return "function" if callable(found) else f"value: {found!r}"


def _takes(static: Any, found: Any) -> list[list[str]] | None:
    if not callable(found):
        return None
    try:
        parameters = list(inspect.signature(found).parameters.values())
    except ValueError:  # made in C
        return None
    if inspect.isfunction(static) and parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    return [[p.name, p.kind.name, _default(p)] for p in parameters]


def _default(parameter: inspect.Parameter) -> str:
    return REQUIRED if parameter.default is parameter.empty else repr(parameter.default)


def _items(found: Any) -> list[str] | None:
    if inspect.isclass(found) and issubclass(found, enum.Enum):
        return [member.name for member in found]
    if hasattr(found, "__required_keys__"):
        return sorted(found.__required_keys__ | found.__optional_keys__)
    return None


def main() -> None:
    """From stdin to stdout."""
    warnings.simplefilter("ignore")
    json.dump([describe(module, dotted) for module, dotted in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
