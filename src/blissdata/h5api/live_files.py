"""Data of a live file that lie in other files: raw bytes, and parts of datasets elsewhere.

Every file is checked by `DataRoots`. What is not there (yet) is waited for while its scan goes on, and
then an error: HDF5 would give fill values, which look like data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np

from blissdata.exceptions import (
    DataFileBusyError,
    DataFileContentError,
    DataFileIncompleteError,
    DataFileMissingError,
    LayoutError,
)
from blissdata.h5api.live_arrays import Patience, RowsArray

if TYPE_CHECKING:
    from blissdata.checked_hdf5 import CheckedFile
    from blissdata.data_roots import DataRoots
    from blissdata.streams.deadline import Deadline

__all__ = ["LinkedFiles", "external_array", "validated", "virtual_array", "virtual_sources"]

T = TypeVar("T")

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

FILE_PERIOD_S = 0.5
"""How often a file that is not there yet is looked for [s]: nobody tells when a detector has written
one; only the end of the scan is told."""

OPEN_FILES = 32
"""How many files are kept open."""

NOT_YET = (DataFileMissingError, DataFileIncompleteError, DataFileBusyError)
"""What passes when somebody goes on writing."""


class Source(Protocol):
    """A dataset that a virtual one takes parts of."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class VirtualPart(NamedTuple):
    """A part of a virtual dataset, with the names that h5py has for it."""

    vspace: Any
    """Where it is in the dataset: an `h5py.h5s.SpaceID`."""

    file_name: str
    """The file that it is in."""

    dset_name: str
    """The dataset in there."""

    src_space: Any
    """What is taken of that: an `h5py.h5s.SpaceID`."""


class Owner(Protocol):
    """The scan that a file belongs to."""

    def wait_settled(self, deadline: Deadline, at_most: float) -> bool:
        """Waits until nothing of it will change any more, `at_most` [s]; True if so."""
        ...


class LinkedFiles:
    """The files that a live file leads to, below the data roots."""

    def __init__(self, roots: DataRoots, directory: str) -> None:
        """`directory` is that of the live file, where relative names are sought."""
        self._roots = roots
        self._directory = directory
        self._open: dict[str, CheckedFile] = {}

    def path(self, name: str) -> str:
        """Where a file is that the layout names."""
        return os.path.join(self._directory, name)

    def hdf5(self, name: str) -> CheckedFile:
        """An HDF5 file, open until `close`. Raises a `DataFileError`."""
        from blissdata.checked_hdf5 import CheckedFile

        path = self.path(name)
        if path not in self._open:
            while len(self._open) >= OPEN_FILES:
                self.forget(next(iter(self._open)))
            self._open[path] = CheckedFile(path, self._roots)
        return self._open[path]

    def forget(self, name: str) -> None:
        """Closes a file, to see it anew."""
        found = self._open.pop(self.path(name), None)
        if found is not None:
            found.close()

    def read_bytes(self, name: str, offset: int, into: memoryview) -> None:
        """Fills `into` from a raw file. Raises a `DataFileError`."""
        path = self.path(name)
        with self._roots.open(path) as raw:
            raw.seek(offset)
            found = raw.readinto(into)
        if found < len(into):
            raise DataFileIncompleteError(
                f"{path} ends at byte {offset + found}, before byte {offset + len(into)} (yet)"
            )

    def close(self) -> None:
        """Closes them all. Repeatable."""
        while self._open:
            self._open.popitem()[1].close()


def validated(validate: Callable[[Any], T], item: Any, what: str) -> T:
    """The item of a layout as a model. Raises `LayoutError` naming what is wrong in it."""
    from pydantic import ValidationError

    from blissdata.h5map.mistakes import explain

    try:
        return validate(item)
    except ValidationError as error:
        mistakes = "; ".join(str(mistake) for mistake in explain(error, what))
        raise LayoutError(mistakes) from error


# --------------------------------------------------------------------------------------- raw files


def external_array(
    item: Mapping[str, Any], files: LinkedFiles, owner: Owner, what: str
) -> RowsArray:
    """The array whose bytes are parts of raw files, one after another, in C order."""
    from blissdata.h5map import ExternalBinaryDataset

    layout = validated(ExternalBinaryDataset.model_validate, item, what)
    dtype, shape = np.dtype(layout.dtype), tuple(layout.shape)
    row = prod(shape[1:]) * dtype.itemsize
    parts = [(part.name, part.offset, part.size) for part in layout.files]

    def rows(start: int, stop: int, patience: Patience) -> Array:
        data = np.empty((stop - start) * row, np.uint8)
        view = memoryview(data.data)
        _patiently(
            lambda: _read(files, parts, start * row, view, what), lambda: None, owner, patience
        )
        return data.view(dtype).reshape(stop - start, *shape[1:])

    return RowsArray(dtype, shape, rows)


def _read(
    files: LinkedFiles,
    parts: Sequence[tuple[str, int, int | None]],
    start: int,
    into: memoryview,
    what: str,
) -> None:
    """Fills `into` with the bytes from `start` on of the parts, joined."""
    stop, at = start + len(into), 0
    for name, offset, size in parts:
        end = stop if size is None else at + size
        low, high = max(start, at), min(stop, end)
        if low < high:
            files.read_bytes(name, offset + low - at, into[low - start : high - start])
        at = max(at, end)
    if at < stop:
        raise DataFileContentError(
            f"{what}: its raw files hold {at} bytes, and byte {stop} is asked for: the layout "
            "contradicts itself"
        )


def _patiently(
    work: Callable[[], None], forget: Callable[[], None], owner: Owner, patience: Patience
) -> None:
    """Does the work again as long as something is not there that may still come; `forget` makes
    files be looked at anew."""
    deadline = patience.deadline()
    while True:
        # The order matters: what was written before the scan ended must be seen.
        settled = not patience.wait or owner.wait_settled(deadline, 0)
        try:
            work()
        except NOT_YET:
            forget()
            if settled or deadline.passed:
                raise
            owner.wait_settled(deadline, FILE_PERIOD_S)
        else:
            return


# ---------------------------------------------------------------------------------- virtual datasets


def virtual_array(
    item: Mapping[str, Any],
    files: LinkedFiles,
    source: Callable[[str, str], Source],
    owner: Owner,
    what: str,
) -> RowsArray:
    """The array that is composed of parts of others; `source(file, path)` opens one of these. What
    no part covers is 0, as in HDF5."""
    from blissdata.h5map import VirtualDataset

    layout = validated(VirtualDataset.model_validate, item, what)
    dtype, shape = np.dtype(layout.dtype), tuple(layout.shape)
    if not shape:
        raise DataFileContentError(f"{what}: a virtual dataset has dimensions, this one has none")
    parts = [
        (part.src_file, part.src_dataset, _axes(part.vspace, shape, what), part.src_space)
        for part in layout.virtual_sources
    ]

    def forget() -> None:
        for file, *_ in parts:
            files.forget(file)

    def rows(start: int, stop: int, patience: Patience) -> Array:
        found = np.zeros((stop - start, *shape[1:]), dtype)

        def fill() -> None:
            for file, path, target, taken in parts:
                low, high = np.searchsorted(target[0], (start, stop))
                if low < high:
                    wanted = [target[0][low:high], *target[1:]]
                    piece = _piece(source(file, path), taken, target, int(low), int(high), what)
                    found[np.ix_(wanted[0] - start, *wanted[1:])] = piece

        _patiently(fill, forget, owner, patience)
        return found

    return RowsArray(dtype, shape, rows)


def virtual_sources(item: Mapping[str, Any], what: str) -> list[VirtualPart]:
    """The parts of a virtual dataset. Raises `LayoutError`."""
    from blissdata.h5map import VirtualDataset

    layout = validated(VirtualDataset.model_validate, item, what)
    return [
        VirtualPart(
            _dataspace(part.vspace, tuple(layout.shape)),
            part.src_file,
            part.src_dataset,
            _dataspace(part.src_space, None),
        )
        for part in layout.virtual_sources
    ]


def _dataspace(space: Any, shape: tuple[int, ...] | None) -> Any:
    """A selection as HDF5 has it; without a shape, in a dataset that just holds it."""
    import h5py

    ones = (1,) * len(space.start)
    stride, block = tuple(space.stride or ones), tuple(space.block or ones)
    ends = zip(space.start, stride, space.count, block, strict=True)
    extent = shape or tuple(a + step * max(n - 1, 0) + size for a, step, n, size in ends)
    found = h5py.h5s.create_simple(extent)
    found.select_hyperslab(tuple(space.start), tuple(space.count), stride, block)
    return found


def _piece(
    source: Source, space: Any, target: Sequence[Array], low: int, high: int, what: str
) -> Array:
    """What belongs to rows `low` to `high` of the target's grid. Both grids have the same number of
    elements, which correspond in C order."""
    shape = source.shape
    axes = _axes(space, shape, f"{what}: its source")
    lengths = [len(axis) for axis in target]
    if prod(map(len, axes)) != prod(lengths):
        raise DataFileContentError(
            f"{what}: {prod(map(len, axes))} elements of a source for {prod(lengths)} of its own"
        )
    per_target, per_source = prod(lengths[1:]), prod(map(len, axes[1:]))
    first, last = low * per_target // per_source, -(-high * per_target // per_source)
    wanted = axes[0][first:last]
    begin = int(wanted[0])
    block = np.asarray(source[begin : int(wanted[-1]) + 1])[np.ix_(wanted - begin, *axes[1:])]
    skip = low * per_target - first * per_source
    flat: Array = block.reshape(-1)[skip : skip + (high - low) * per_target]
    return flat.reshape(high - low, *lengths[1:])


def _axes(space: Any, shape: tuple[int, ...], what: str) -> list[Array]:
    """The indices, per axis, of a regular selection in a dataset of that shape."""
    if len(space.start) != len(shape):
        raise DataFileContentError(
            f"{what} has {len(shape)} dimensions, and a selection of {len(space.start)} is taken of it"
        )
    ones = [1] * len(shape)
    found = []
    for length, start, stride, count, block in zip(
        shape, space.start, space.stride or ones, space.count, space.block or ones, strict=True
    ):
        end = start + stride * (count - 1) + block if count and block else start
        if end > length:
            raise DataFileIncompleteError(
                f"{what} has shape {shape}, and index {end - 1} is taken of it (yet)"
            )
        starts = start + stride * np.arange(count)
        found.append((starts[:, None] + np.arange(block)).reshape(-1))
    return found
