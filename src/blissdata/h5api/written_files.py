"""The file that somebody has written, in the place of what has left the server.

Its tree is shown as layouts are (`live_tree`): groups and links, made as paths lead through them, so one
set of rules serves both. Nothing but the data roots' files is opened; see `blissdata.checked_hdf5`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias, TypeVar

import numpy as np

from blissdata.checked_hdf5 import CheckedDataset, CheckedFile, stamp_of
from blissdata.data_roots import DataRoots
from blissdata.exceptions import (
    DataFileBusyError,
    DataFileContentError,
    DataFileError,
    DataFileMissingError,
)
from blissdata.h5api.live_arrays import FOLLOWED_NBYTES, LiveArray, Patience, gathered
from blissdata.h5api.selection import Selection, parse
from blissdata.hdf5_handles import borrowed_file

__all__ = ["WrittenArray", "WrittenFile", "WrittenItem", "WrittenValue"]

_logger = logging.getLogger(__name__)

T = TypeVar("T")

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

FRESH_S = 0.5
"""How long what was seen of the file counts as new [s], as for scans."""

LOOKS = 5
"""How often a file is opened again that somebody is changing at that moment."""

LOOK_PERIOD_S = 0.02
"""How long a writer is left alone in between [s]."""


class WrittenFile:
    """The file at a path, if there is one; it may come, grow, be replaced or go."""

    def __init__(self, path: str, roots: DataRoots) -> None:
        self._path = path
        self._roots = roots
        self._looked = -FRESH_S
        self._stamp: tuple[int, ...] | None = None
        self._root: WrittenItem | None = None
        self._told = ""

    @property
    def path(self) -> str:
        """Where it is, or will be."""
        return self._path

    def root(self) -> WrittenItem | None:
        """Its root group as it is now, half a second old at most; None if there is no file, or it
        cannot be read now. A look at the disk."""
        if time.monotonic() - self._looked >= FRESH_S:
            self._looked = time.monotonic()
            try:
                self._root = self.require_root()
            except DataFileMissingError:
                self._root = None
            except DataFileError as error:
                # What is known of it stays, if it is only that somebody is changing it.
                self._root = self._root if isinstance(error, DataFileBusyError) else None
                self._tell(str(error))
        return self._root

    def look_again(self) -> None:
        """The next `root` looks at the disk in any case."""
        self._looked = -FRESH_S

    def require_root(self) -> WrittenItem:
        """Its root group as it is now. A look at the disk. Raises a `DataFileError`."""
        stamp = self._now()
        if self._root is None or stamp != self._stamp:
            found = WrittenItem(self, "/", True)
            found.children()  # it can be read
            self._root, self._stamp = found, stamp
        return self._root

    def _now(self) -> tuple[int, ...]:
        real = self._roots.real_path(self._path)
        try:
            return stamp_of(real)
        except OSError as error:
            raise DataFileMissingError(f"The file {self._path} has just gone") from error

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            _logger.warning("What only the file has is not shown: %s", text)

    def varying_points(self, path: str, start: int, stop: int) -> list[Array]:
        """Points `start` to `stop` (exclusive) of a dataset whose points differ in shape: a list of
        numbers for each, or a record of `shape` and `data`. Raises a `DataFileError`."""
        rows = self.read(lambda file: file.dataset(path).rows(start, stop))
        if rows.dtype.names == ("shape", "data"):
            return [row["data"].reshape(row["shape"]) for row in rows]
        if not isinstance((rows.dtype.metadata or {}).get("vlen"), np.dtype):
            raise DataFileContentError(
                f"{self._path}::{path} holds {rows.dtype}, not points of varying shape"
            )
        return [np.asarray(row) for row in rows]

    def read(self, work: Callable[[CheckedFile], T]) -> T:
        """What the work gives on the open file. It is done again a few times while somebody is
        changing the file. Raises a `DataFileError`."""
        for _ in range(LOOKS - 1):
            try:
                with borrowed_file(self._path, self._roots) as file:
                    return work(file)
            except DataFileBusyError:
                time.sleep(LOOK_PERIOD_S)
        with borrowed_file(self._path, self._roots) as file:
            return work(file)


@dataclass(frozen=True, slots=True)
class WrittenValue:
    """An attribute, read when it is asked for: one that cannot be read costs no other."""

    file: WrittenFile
    """Where it is."""

    path: str
    """Of the group or dataset."""

    name: str
    """Its name."""

    @property
    def value(self) -> Any:
        """The value, as h5py gives it. Raises a `DataFileError`."""
        return self.file.read(lambda file: file.attribute(self.path, self.name))


class WrittenItem(Mapping[str, Any]):
    """What stands at a path of hard links, as the layout of a group or dataset."""

    def __init__(self, file: WrittenFile, path: str, is_group: bool | None = None) -> None:
        self._file = file
        self._path = path
        self._group = is_group
        self._children: dict[str, Any] | None = None

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def _is_group(self) -> bool:
        if self._group is None:
            self._group = self._file.read(lambda file: file.is_group(self._path))
        return self._group

    def __getitem__(self, key: str) -> Any:
        if key == "type":
            return "group" if self._is_group() else "dataset"
        if key == "attributes":
            names = self._file.read(lambda file: file.attribute_names(self._path))
            return {name: WrittenValue(self._file, self._path, name) for name in names}
        if key == "children" and self._is_group():
            return self.children()
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        yield from ("type", "attributes")
        if self._is_group():
            yield "children"

    def __len__(self) -> int:
        return 3 if self._is_group() else 2

    def children(self) -> Mapping[str, Any]:
        """The layouts in this group, by name. Raises a `DataFileError`."""
        if self._children is None:
            links = self._file.read(lambda file: file.links(self._path))
            self._children = {name: self._child(name, link) for name, link in links.items()}
        return self._children

    def _child(self, name: str, link: Any) -> Any:
        import h5py

        if isinstance(link, h5py.SoftLink):
            return {"type": "soft_link", "target_path": link.path}
        if isinstance(link, h5py.ExternalLink):
            return {
                "type": "external_link",
                "target_file": link.filename,
                "target_path": link.path,
            }
        return WrittenItem(self._file, f"{self._path.rstrip('/')}/{name}")

    def identity(self) -> tuple[Any, ...]:
        """What is the same for all hard links to this item."""
        return self._file.read(lambda file: file.identity(self._path))

    def array(self) -> WrittenArray:
        """What is behind this dataset."""
        return WrittenArray(self._file, self._path)


class WrittenArray(LiveArray):
    """A dataset of the file, as long as it is now. Nothing is waited for."""

    def __init__(self, file: WrittenFile, path: str) -> None:
        self._file = file
        self._path = path

    def _ask(self, work: Callable[[CheckedDataset], T]) -> T:
        return self._file.read(lambda file: work(file.dataset(self._path)))

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._ask(lambda dataset: dataset.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._ask(lambda dataset: dataset.shape)

    @property
    def maxshape(self) -> tuple[int | None, ...]:
        return self._ask(lambda dataset: dataset.maxshape)

    @property
    def chunks(self) -> tuple[int, ...] | None:
        return self._ask(lambda dataset: dataset.chunks)

    @property
    def compression(self) -> tuple[str | None, Any]:
        return self._ask(lambda dataset: dataset.compression)

    @property
    def is_null(self) -> bool:
        return self._ask(lambda dataset: dataset.is_null)

    @property
    def is_virtual(self) -> bool:
        return self._ask(lambda dataset: dataset.is_virtual)

    @property
    def external(self) -> list[tuple[str, int, int | None]] | None:
        return self._ask(lambda dataset: dataset.external)

    def stored(self, what: str) -> Any:
        return self._ask(lambda dataset: dataset.stored(what))

    def read(self, index: Any, patience: Patience) -> Any:
        return self._ask(lambda dataset: _read(dataset, index))

    def follow(self, patience: Patience, start: int = 0) -> Iterator[Any]:
        """The points that are there now, from `start` on."""
        shape, dtype = self.shape, self.dtype
        step = max(FOLLOWED_NBYTES // max(prod(shape[1:]) * dtype.itemsize, 1), 1)
        for first in range(start, shape[0], step):
            last = min(first + step, shape[0])
            yield from self._ask(lambda dataset, a=first, b=last: dataset.rows(a, b))  # type: ignore[misc]


def _read(dataset: CheckedDataset, index: Any) -> Any:
    if dataset.is_null and index in ((), Ellipsis):
        import h5py

        return h5py.Empty(dataset.dtype)
    shape, dtype = dataset.shape, dataset.dtype
    parsed = parse(index, len(shape), dtype)
    selected = parsed.resolve(shape)
    if not shape:
        return selected.apply(np.asarray(dataset[()], dtype))
    empty = np.empty((0, *shape[1:]), dtype)
    if parsed.mask is None and _takes_parts(selected, shape) and len(selected.points):
        points = selected.points
        rows = (
            slice(points.start, points.stop, points.step) if isinstance(points, range) else points
        )
        return selected.of_parts(dataset[(rows, *selected.of_block[1:])])
    row = prod(shape[1:]) * dtype.itemsize
    return selected.apply(gathered(selected, dataset.rows, row, empty))


def _takes_parts(selected: Selection, shape: tuple[int, ...]) -> bool:
    """True if not whole rows are wanted, so that HDF5 had better cut them."""
    return any(
        not isinstance(axis, slice) or len(range(*axis.indices(n))) < n
        for axis, n in zip(selected.of_block[1:], shape[1:], strict=True)
    )
