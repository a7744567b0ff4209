"""Groups and datasets of a written file that a live one leads to, below the data roots.

What HDF5 would open by itself (links, virtual sources, raw files) is checked like the file itself; see
`blissdata.checked_hdf5`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from blissdata.checked_hdf5 import CheckedDataset, CheckedFile
from blissdata.exceptions import DataFileIncompleteError
from blissdata.h5api import abstract
from blissdata.h5api.selection import parse

__all__ = ["LinkedAttributes", "LinkedDataset", "LinkedFile", "LinkedGroup"]


class LinkedAttributes(abstract.Attributes):
    """Attributes of a node in a written file."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class _Node(abstract.Node):
    def __init__(self, file: LinkedFile, path: str) -> None:
        self._file = file
        self._path = path

    @property
    def name(self) -> str:
        return self._path

    @property
    def file(self) -> LinkedFile:
        return self._file

    @property
    def parent(self) -> abstract.Group:
        return LinkedGroup(self._file, self._path.rpartition("/")[0] or "/")

    @property
    def attrs(self) -> LinkedAttributes:
        return LinkedAttributes(self._file.checked.attributes(self._path))


class LinkedGroup(_Node, abstract.Group):
    """A group of a written file."""

    def __getitem__(self, key: str) -> Any:
        return self._file.node(key if key.startswith("/") else f"{self._path.rstrip('/')}/{key}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.checked.names(self._path))

    def __len__(self) -> int:
        return len(self._file.checked.names(self._path))


class LinkedDataset(_Node, abstract.Dataset):
    """A dataset of a written file."""

    @property
    def _dataset(self) -> CheckedDataset:
        return self._file.checked.dataset(self._path)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dataset.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self._dataset.shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: abstract.DatasetIndex) -> Any:
        dataset = self._dataset
        shape = dataset.shape
        selected = parse(idx, len(shape), dataset.dtype).resolve(shape)
        if not shape:
            return selected.apply(np.asarray(dataset[()], dataset.dtype))
        runs = selected.runs(max_gap=0)
        blocks = [dataset.rows(run.start, run.stop) for run in runs]
        empty = np.empty((0, *shape[1:]), dataset.dtype)
        return selected.apply(np.concatenate(blocks) if blocks else empty)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


class LinkedFile(LinkedGroup, abstract.File):
    """A written file. `opened` gives it, open; whoever does that closes it."""

    def __init__(self, opened: Callable[[], CheckedFile]) -> None:
        self._opened = opened
        self._filename = opened().path
        super().__init__(self, "/")

    @property
    def checked(self) -> CheckedFile:
        """The file, which may have been closed and opened again in between."""
        return self._opened()

    @property
    def filename(self) -> str:
        return self._filename

    def close(self) -> None:
        """Nothing to do here."""

    def node(self, path: str) -> LinkedGroup | LinkedDataset:
        """The group or dataset at that path; links are followed. Raises `KeyError`."""
        path = "/" + path.strip("/")
        try:
            group = self.checked.is_group(path)
        except DataFileIncompleteError as error:
            raise KeyError(f"No such path: '{path}' in {self.filename}") from error
        return LinkedGroup(self, path) if group else LinkedDataset(self, path)
