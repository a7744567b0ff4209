"""The talk's notation of a layout, `scan.info["mapping"]`, made into items.

    {"NX_class": "NXentry", "instrument": {…}}       a dict is a group; its texts are attributes
    ({"NX_class": "NXdetector"}, {"data": …})        so is ({attributes}, {children})
    ({"units": "s"}, STREAM, "timer:elapsed_time")   a dataset: the points of a stream
    ({"short_name": "id00"}, RAW, "esrf-id00a")      a dataset: a value

JSON has no tuples: lists count as such. `RAW` and `STREAM` are texts, so that they survive it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from blissdata.exceptions import LayoutError
from blissdata.h5map.data_items import DataItem, Stream
from blissdata.h5map.hdf5_items import Dataset, Group
from blissdata.h5map.mistakes import Mistake, explain, joined, refuse

__all__ = ["RAW", "STREAM", "group_of", "read_mapping"]

RAW: Final = "RAW"
"""Marks a dataset whose value is in the layout."""

STREAM: Final = "STREAM"
"""Marks a dataset that is a stream of the scan."""

_MAX_DEPTH = 64
"""Groups within groups: a layout by a human has less than ten."""


def group_of(mapping: Any, path: str = "/") -> Group:
    """The group that a mapping describes; `path` is where it will stand in the file, for messages.
    Raises `LayoutError` naming the path of each mistake."""
    group, mistakes = read_mapping(mapping, path)
    refuse(mistakes)
    return group


def read_mapping(mapping: Any, path: str = "/") -> tuple[Group, list[Mistake]]:
    """The group that a mapping describes, without what is wrong in it; and that."""
    mistakes: list[Mistake] = []
    item = _item(mapping, path, mistakes, 0)
    if isinstance(item, Group):
        return item, mistakes
    if item is not None:
        mistakes.append(Mistake(path, "a mapping is a group, found a dataset"))
    return Group(), mistakes


def _item(given: Any, path: str, mistakes: list[Mistake], depth: int) -> Group | Dataset | None:
    if depth > _MAX_DEPTH:
        mistakes.append(Mistake(path, f"more than {_MAX_DEPTH} groups within each other"))
        return None
    match given:
        case Mapping():
            return _group({}, given, path, mistakes, depth)
        case (Mapping() as attributes, Mapping() as children):
            return _group(attributes, children, path, mistakes, depth)
        case (Mapping() as attributes, "RAW" | "STREAM" as kind, value):
            return _dataset(attributes, kind, value, path, mistakes)
        case (Mapping(), str() as kind, _):
            mistakes.append(Mistake(path, f"expected RAW or STREAM, found {kind[:60]!r}"))
        case _:
            mistakes.append(
                Mistake(
                    path,
                    "expected a dict (a group), ({attributes}, {children}), "
                    f"or ({{attributes}}, RAW | STREAM, value); found {str(given)[:60]!r} "
                    f"({type(given).__name__})",
                )
            )
    return None


def _group(
    attributes: Mapping[str, Any],
    children: Mapping[Any, Any],
    path: str,
    mistakes: list[Mistake],
    depth: int,
) -> Group:
    values = dict(attributes)
    items: dict[str, Any] = {}
    for name, child in children.items():
        if not isinstance(name, str):
            mistakes.append(Mistake(joined(path, name), f"a name is a text, found {name!r}"))
        elif not isinstance(child, str):
            item = _item(child, joined(path, name), mistakes, depth + 1)
            if item is not None:
                items[name] = item
        elif name in attributes:
            mistakes.append(Mistake(path, "given twice", attribute=name))
        else:
            values[name] = child
    return Group(attributes=_attributes(values, path, mistakes), children=items)


def _dataset(
    attributes: Mapping[str, Any], kind: str, value: Any, path: str, mistakes: list[Mistake]
) -> Dataset | None:
    found = _attributes(attributes, path, mistakes)
    try:
        if kind == STREAM:
            return Dataset(attributes=found, value=Stream(stream=value))
        return Dataset(attributes=found, value=DataItem.validate_python(value))
    except (ValidationError, LayoutError) as error:
        mistakes += _told(error, path)
        return None


def _attributes(given: Mapping[Any, Any], path: str, mistakes: list[Mistake]) -> dict[str, Any]:
    found = {}
    for name, value in given.items():
        try:
            if not isinstance(name, str):
                raise LayoutError(f"a name is a text, found {name!r}")
            found[name] = DataItem.validate_python(value)
        except (ValidationError, LayoutError) as error:
            mistakes += [
                Mistake(path, one.message, attribute=str(name)) for one in _told(error, path)
            ]
    return found


def _told(error: ValidationError | LayoutError, path: str) -> list[Mistake]:
    return (
        explain(error, path) if isinstance(error, ValidationError) else [Mistake(path, str(error))]
    )
