"""The file that a layout promises, written with h5py by the rules of HDF5 alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from blissdata.h5map import (
    Dataset,
    ExternalBinaryDataset,
    ExternalLink,
    Group,
    SoftLink,
    Stream,
    VirtualDataset,
)
from blissdata.h5map.tree import read_layout, walk

TEXT = h5py.string_dtype()


def write_layout(path: str | Path, layout: Any, points: Mapping[str, Any], mode: str = "w") -> None:
    """Writes the entries of a root layout; `points` are those of its streams by name."""
    with h5py.File(path, mode, track_order=True) as file:
        for where, item in walk(read_layout(layout)):
            _write(file, where, item, points)


def _write(file: h5py.File, path: str, item: Any, points: Mapping[str, Any]) -> None:
    match item:
        case Group():
            node = file.create_group(path, track_order=True)
        case SoftLink():
            file[path] = h5py.SoftLink(item.target_path)
            return
        case ExternalLink():
            file[path] = h5py.ExternalLink(item.target_file, item.target_path)
            return
        case Dataset(value=Stream()):
            node = _stream(file, path, points[item.value.stream])
        case Dataset():
            value = item.value.decode()
            node = file.create_dataset(path, value.shape, value.dtype, data=value, track_order=True)
        case ExternalBinaryDataset():
            files = [
                (one.name, one.offset, h5py.h5s.UNLIMITED if one.size is None else one.size)
                for one in item.files
            ]
            node = file.create_dataset(path, tuple(item.shape), item.dtype, external=files)
        case VirtualDataset():
            raise NotImplementedError(path)
    for name, value in item.attributes.items():
        found = value.decode()
        node.attrs.create(name, found, found.shape, found.dtype)


def _stream(file: h5py.File, path: str, points: Any) -> h5py.Dataset:
    array = np.array(points, TEXT) if isinstance(points, list) else points
    chunks = (max(min(len(array), 4), 1), *(max(n, 1) for n in array.shape[1:]))
    return file.create_dataset(
        path,
        data=array,
        dtype=array.dtype,
        chunks=chunks,
        maxshape=(None, *array.shape[1:]),
        track_order=True,
    )
