"""A scan as an HDF5 file of its own, written from what the viewer shows."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import h5py
import numpy as np

from blissdata.exceptions import BlissdataError
from blissdata.h5api.abstract import Dataset, Group
from blissdata.viewer.content import TooLargeError

__all__ = ["MAX_EXPORT_NBYTES", "export"]

MAX_EXPORT_NBYTES = 2**32
"""How large the data of an exported scan may be [bytes]."""

PIECE_NBYTES = 2**24
"""How much is read at once [bytes]."""


def export(tree: Group, entries: list[str], path: str) -> list[str]:
    """Writes these entries of a file into a new file at `path`: groups, attributes and soft links as they
    are, datasets with their values, also those that live in other files. Gives a line for each thing
    that could not be read, which is left out.

    Raises `TooLargeError` before anything is written, if there is more than `MAX_EXPORT_NBYTES`."""
    size = sum(_size(node) for entry in entries for node in _nodes(tree[entry]))
    if size > MAX_EXPORT_NBYTES:
        raise TooLargeError(
            f"This scan has {size} bytes of data, and {MAX_EXPORT_NBYTES} are the most that can be "
            "exported: copy its file instead"
        )
    problems: list[str] = []
    with h5py.File(path, "x", track_order=True) as file:
        _copy_attributes(tree, file, problems)
        if file.attrs.get("default") not in entries:
            file.attrs["default"] = entries[0]
        for entry in entries:
            _copy(tree[entry], file, entry, problems)
    return problems


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    if isinstance(node, Group):
        for name in list(node.keys()):
            if node.get(name, getclass=True, getlink=True) is not h5py.SoftLink:
                child = node.get(name)
                if child is not None:
                    yield from _nodes(child)


def _size(node: Any) -> int:
    if not isinstance(node, Dataset) or node.is_null:
        return 0
    try:
        return prod(max(n, 0) for n in node.shape) * node.dtype.itemsize
    except BlissdataError:
        return 0


def _copy(node: Any, parent: h5py.Group, name: str, problems: list[str]) -> None:
    try:
        if isinstance(node, Dataset):
            made = _copy_values(node, parent, name)
        else:
            made = parent.create_group(name, track_order=True)
    except (BlissdataError, OSError, KeyError, ValueError, TypeError) as error:
        problems.append(f"{node.name}: {error}")
        if name in parent:
            del parent[name]
        return
    _copy_attributes(node, made, problems)
    if isinstance(node, Group):
        for child in list(node.keys()):
            link = node.get(child, getlink=True)
            if isinstance(link, h5py.SoftLink):
                made[child] = link
                continue
            found = node.get(child)
            if found is None:
                problems.append(f"{node.name}/{child}: its link leads nowhere")
            else:
                _copy(found, made, child, problems)


def _copy_values(node: Dataset, parent: h5py.Group, name: str) -> h5py.Dataset:
    if node.is_null:
        return parent.create_dataset(name, data=node[()])
    shape = node.shape
    if not shape or any(n < 0 for n in shape):
        values = node[()]
        if shape:
            made = parent.create_dataset(name, (len(values),), h5py.vlen_dtype(node.dtype))
            for index, value in enumerate(values):
                made[index] = np.ravel(value)
            return made
        return parent.create_dataset(name, data=values, dtype=node.dtype)
    made = parent.create_dataset(name, shape, node.dtype)
    row = max(prod(shape[1:]) * node.dtype.itemsize, 1)
    step = max(PIECE_NBYTES // row, 1)
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        made[start:stop] = node[start:stop]
    return made


def _copy_attributes(node: Any, made: Any, problems: list[str]) -> None:
    for name, value in node.attrs.items():
        try:
            made.attrs[name] = value
        except (TypeError, ValueError, OSError) as error:
            problems.append(f"{node.name}, attribute {name!r}: {error}")
