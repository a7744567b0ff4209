"""A finished HDF5 file, read-only: h5py behind the common interface, with silx's way to open it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np

from blissdata.h5api import abstract
from blissdata.h5api.utils.opening import open_hdf5

__all__ = ["Attributes", "Dataset", "File", "Group", "Node"]


class Attributes(abstract.Attributes):
    """The attributes of a node."""

    def __init__(self, attrs: h5py.AttributeManager) -> None:
        self._attrs = attrs

    def __getitem__(self, key: str) -> Any:
        return self._attrs[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._attrs)

    def __len__(self) -> int:
        return len(self._attrs)

    def get_id(self, name: str) -> Any:
        return self._attrs.get_id(name)


class Node(abstract.Node):
    """A group or dataset of a file."""

    def __init__(self, file: File | None, native: Any) -> None:
        self._file = file
        self._native = native
        self._name: str = native.name

    def __bool__(self) -> bool:
        """False once the file is closed, as in h5py."""
        return bool(self._native)

    @property
    def name(self) -> str:
        return self._name

    @property
    def attrs(self) -> Attributes:
        return Attributes(self._native.attrs)

    @property
    def parent(self) -> Group | None:
        return Group(self.file, self._native.parent)

    @property
    def file(self) -> File:
        if self._file is None:
            raise TypeError(f"{type(self).__name__} {self._name} is no file, and in none")
        return self._file


class Group(Node, abstract.Group):
    """A group of a file."""

    def __getitem__(self, key: str) -> Any:
        return self.file.node(self._native[key])

    def __contains__(self, key: object) -> bool:
        return key in self._native

    def __iter__(self) -> Iterator[str]:
        return iter(self._native)

    def __len__(self) -> int:
        return len(self._native)

    def get(
        self, key: str, default: Any = None, getclass: bool = False, getlink: bool = False
    ) -> Any:
        found = self._native.get(key, default, getclass=getclass, getlink=getlink)
        return self.file.node(found) if isinstance(found, h5py.Group | h5py.Dataset) else found

    def visititems(self, func: Callable[[str, Any], Any]) -> Any:
        return self._native.visititems(lambda name, found: func(name, self.file.node(found)))


class Dataset(Node, abstract.Dataset):
    """A dataset of a file."""

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = self._native.dtype
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        found: tuple[int, ...] = self._native.shape
        return found

    @property
    def size(self) -> int:
        return int(self._native.size)

    @property
    def ndim(self) -> int:
        return int(self._native.ndim)

    @property
    def maxshape(self) -> tuple[int | None, ...]:
        found: tuple[int | None, ...] = self._native.maxshape
        return found

    @property
    def chunks(self) -> tuple[int, ...] | None:
        found: tuple[int, ...] | None = self._native.chunks
        return found

    @property
    def compression(self) -> str | None:
        found: str | None = self._native.compression
        return found

    @property
    def compression_opts(self) -> Any:
        return self._native.compression_opts

    @property
    def is_null(self) -> bool:
        return self._native.shape is None

    @property
    def is_virtual(self) -> bool:
        return bool(self._native.is_virtual)

    @property
    def external(self) -> list[tuple[str, int, int | None]] | None:
        found: list[tuple[str, int, int | None]] | None = self._native.external
        return found

    @property
    def dims(self) -> Any:
        return self._native.dims

    @property
    def fillvalue(self) -> Any:
        return self._native.fillvalue

    @property
    def shuffle(self) -> bool:
        return bool(self._native.shuffle)

    @property
    def fletcher32(self) -> bool:
        return bool(self._native.fletcher32)

    @property
    def scaleoffset(self) -> int | None:
        found: int | None = self._native.scaleoffset
        return found

    def virtual_sources(self) -> list[Any]:
        found: list[Any] = self._native.virtual_sources()
        return found

    def __getitem__(self, idx: Any) -> Any:
        return self._native[idx]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._native)

    def __len__(self) -> int:
        return len(self._native)


class File(Group, abstract.File):
    """A finished file.

    `openargs` are those of `silx.io.h5py_utils.File` (`locking`, …); `mode` is ignored, the file is
    always opened read-only. Raises what h5py raises: `FileNotFoundError`, `OSError` for what is no
    HDF5 file.
    """

    def __init__(self, file: str | os.PathLike[str], **openargs: Any) -> None:
        openargs.pop("mode", None)
        self._filename = os.fspath(file)
        native = open_hdf5(self._filename, **openargs)
        super().__init__(None, native)

    def node(self, native: Any) -> Node:
        """The node of this file for an h5py object."""
        return Dataset(self, native) if isinstance(native, h5py.Dataset) else Group(self, native)

    @property
    def filename(self) -> str:
        return self._filename

    @property
    def parent(self) -> None:
        return None

    @property
    def file(self) -> File:
        return self

    @property
    def swmr_mode(self) -> bool:
        return bool(self._native.swmr_mode)

    @property
    def userblock_size(self) -> int:
        return int(self._native.userblock_size)

    def close(self) -> None:
        self._native.close()
