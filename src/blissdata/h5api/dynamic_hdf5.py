"""An HDF5 file that somebody is still writing: what is not there yet is waited for.

    file["1.1/measurement/diode"]    waits until it is there
    for value in dataset             follows until the scan has its `end_time`
    dataset[7]                       waits for that point; dataset[2:7] takes what is there

Nodes are names: they stay good while the file is closed, replaced, and opened again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from blissdata.h5api import abstract
from blissdata.h5api.utils.bliss import BlissDynamicHDF5Handler
from blissdata.h5api.utils.hdf5 import DynamicHDF5Handler

__all__ = ["Attributes", "Dataset", "File", "Group", "Node"]


class Attributes(abstract.Attributes):
    """The attributes of a node; those that are not there yet are waited for."""

    def __init__(self, file: File, name: str) -> None:
        self._file = file
        self._name = name

    def __getitem__(self, key: str) -> Any:
        return self._file.handler.get_attr(self._name, key)

    def __iter__(self) -> Iterator[str]:
        return self._file.handler.iter_attrs(self._name)

    def __len__(self) -> int:
        return self._file.handler.len_attrs(self._name)


class Node(abstract.Node):
    """A path in the file."""

    def __init__(self, file: File | None, name: str) -> None:
        self._file = file
        self._name = name

    def __bool__(self) -> bool:
        """False once the file is closed, as in h5py."""
        return bool(self._file)

    @property
    def name(self) -> str:
        return self._name

    @property
    def attrs(self) -> Attributes:
        return Attributes(self.file, self._name)

    @property
    def parent(self) -> Group | None:
        if self._name == "/":
            return None
        return Group(self.file, self._name.rpartition("/")[0] or "/")

    @property
    def file(self) -> File:
        if self._file is None:
            raise TypeError(f"{type(self).__name__} {self._name} is no file, and in none")
        return self._file


class Group(Node, abstract.Group):
    """A group of the file; names that are not there yet are waited for."""

    def __getitem__(self, key: str | bytes) -> Any:
        name = self._path_of(key)
        kind = Group if self.file.handler.is_group(name) else Dataset
        return kind(self.file, name)

    def __iter__(self) -> Iterator[str]:
        return self.file.handler.iter_group(self._name)

    def __len__(self) -> int:
        return self.file.handler.len_item(self._name)

    def get(
        self, key: str | bytes, default: Any = None, getclass: bool = False, getlink: bool = False
    ) -> Any:
        try:
            if getlink:
                above, _, last = self._path_of(key).rpartition("/")
                link = self.file.handler.get_link(above or "/", last)
                return type(link) if getclass else link
            found = self[key]
        except KeyError:
            return default
        return found.h5py_class if getclass else found

    def _path_of(self, key: object) -> str:
        if isinstance(key, bytes):
            key = key.decode()
        if not isinstance(key, str):
            raise TypeError(f"A group is accessed by names, bytes or str, not {type(key)}")
        whole = key if key.startswith("/") else f"{self._name}/{key}"
        return "/" + "/".join(part for part in whole.split("/") if part not in ("", "."))


class Dataset(Node, abstract.Dataset):
    """A dataset of the file. An index waits for its points, a slice takes those that are there; the
    shape is that of now."""

    def _now(self, attribute: str) -> Any:
        return self.file.handler.get_from_dataset(self._name, attribute)

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = self._now("dtype")
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        found: tuple[int, ...] = self._now("shape")
        return found

    @property
    def size(self) -> int:
        return int(self._now("size"))

    @property
    def ndim(self) -> int:
        return int(self._now("ndim"))

    @property
    def maxshape(self) -> tuple[int | None, ...]:
        found: tuple[int | None, ...] | None = self._now("maxshape")
        return (None, *self.shape[1:]) if found is None else found

    @property
    def chunks(self) -> tuple[int, ...] | None:
        found: tuple[int, ...] | None = self._now("chunks")
        return found

    @property
    def compression(self) -> str | None:
        found: str | None = self._now("compression")
        return found

    @property
    def compression_opts(self) -> Any:
        return self._now("compression_opts")

    @property
    def is_virtual(self) -> bool:
        return bool(self._now("is_virtual"))

    @property
    def external(self) -> list[tuple[str, int, int | None]] | None:
        found: list[tuple[str, int, int | None]] | None = self._now("external")
        return found

    @property
    def fillvalue(self) -> Any:
        return self._now("fillvalue")

    @property
    def shuffle(self) -> bool:
        return bool(self._now("shuffle"))

    @property
    def fletcher32(self) -> bool:
        return bool(self._now("fletcher32"))

    @property
    def scaleoffset(self) -> int | None:
        found: int | None = self._now("scaleoffset")
        return found

    def virtual_sources(self) -> list[Any]:
        if not self.is_virtual:
            return super().virtual_sources()
        found: list[Any] = self._now("virtual_sources")()
        return found

    def __getitem__(self, idx: Any) -> Any:
        return self.file.handler.slice_dataset(self._name, idx)

    def __iter__(self) -> Iterator[Any]:
        return self.file.handler.iter_dataset(self._name)

    def __len__(self) -> int:
        return self.file.handler.len_item(self._name)


class File(Group, abstract.File):
    """A file that somebody is still writing, or will create.

    `retry_timeout` [s]: how long an access waits (None: for ever, 0: one try), `retry_period` [s]:
    the pause between two tries (None: a short one). `lima_names`, `lima_url_template`,
    `lima_url_template_args`, `prioritize_non_native_h5items`, `instrument_name` (deprecated): see
    `BlissDynamicHDF5Handler`. Further `openargs` are those of `silx.io.h5py_utils.File` (`locking`,
    `swmr`, …). Files of one real path share one handler: the options of the first one hold.

    Nothing is opened before the first access. After `close()`: `RuntimeError`, also for the file's
    groups and datasets.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        hdf5_retry_handler: type[DynamicHDF5Handler] = BlissDynamicHDF5Handler,
        **openargs: Any,
    ) -> None:
        self._filename = os.fspath(file)
        self._handler: DynamicHDF5Handler | None = hdf5_retry_handler(file, **openargs)
        super().__init__(None, "/")

    @property
    def handler(self) -> DynamicHDF5Handler:
        """What reads the file; `RuntimeError` once it is closed."""
        if self._handler is None:
            raise RuntimeError(f"File was closed: {self._filename}")
        return self._handler

    @property
    def filename(self) -> str:
        if self._handler is None:
            raise RuntimeError(f"File was closed: {self._filename}")
        return self._filename

    @property
    def parent(self) -> None:
        return None

    @property
    def file(self) -> File:
        return self

    def __bool__(self) -> bool:
        return self._handler is not None

    def close(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.close()

    def __del__(self) -> None:
        if getattr(self, "_handler", None) is not None:
            self.close()
