"""Files that can be replayed, whatever their format: opened, told apart, read entry by entry.

HDF5 is read by h5py, SPEC and plain columns by `blissdata.replay.spec` and `columns`, and everything
else that `silx.io.open` knows by silx, which is optional: `pip install "blissdata[files]"`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blissdata.exceptions import MissingExtraError, SourceFileError
from blissdata.replay.columns import read_columns
from blissdata.replay.measurement import Measurement, table_channels
from blissdata.replay.rows import looks_like_text
from blissdata.replay.spec import is_spec, read_spec
from blissdata.replay.tree import entry_names, read_entry

__all__ = ["Source", "open_source"]

EXPECTED = (
    "SPEC (#S …), NeXus or HDF5, an image format that fabio reads, plain columns of numbers, or a "
    "recording of `blissdata record`"
)


@dataclass(frozen=True, slots=True)
class Source:
    """An open file."""

    path: Path
    """Where it is."""

    measurements: tuple[Measurement, ...]
    """Its entries that have points, in the order in which they were measured."""

    empty: tuple[str, ...]
    """The names of entries without points: aborted before the first, or of another kind."""

    def select(self, entry: str | None) -> tuple[Measurement, ...]:
        """The entry of that name (its number will do if it is the only one), or all of them.
        Raises `SourceFileError` naming the entries there are."""
        if entry is None:
            return self.measurements
        wanted = entry.strip("/")
        found = [m for m in self.measurements if m.name == wanted]
        found = found or [m for m in self.measurements if str(m.number) == wanted]
        if len(found) == 1:
            return tuple(found)
        if found or wanted in self.empty:
            why = "several entries have that number" if found else "it has no points"
            raise SourceFileError(f"{self.path}: entry {entry!r} cannot be chosen: {why}")
        names = ", ".join(m.name or "(the file)" for m in self.measurements[:20])
        more = ", …" if len(self.measurements) > 20 else ""
        raise SourceFileError(f"{self.path} has no entry {entry!r}; there are: {names}{more}")


@contextmanager
def open_source(path: str | os.PathLike[str]) -> Iterator[Source]:
    """The measurements in a file, to be read while the file is open. Data stay in an HDF5 file until
    they are asked for.

    Raises `SourceFileError`, naming the file, what was found, what was expected and what to do, for
    a file that is missing, empty, damaged or of no known format, and `MissingExtraError` if it
    takes silx to read it, which is not installed."""
    path = Path(path)
    with ExitStack() as stack:
        measurements = _measurements(path, stack)
        full = tuple(m for m in measurements if m.npoints)
        if not full:
            raise SourceFileError(
                f"{path}: found {len(measurements)} entries, and no point in any of them; expected "
                "measured numbers. Look at it with `silx view`"
            )
        yield Source(path, full, tuple(m.name for m in measurements if not m.npoints))


def _measurements(path: Path, stack: ExitStack) -> list[Measurement]:
    _check_readable(path)
    import h5py

    if h5py.is_hdf5(path):
        return _from_tree(path, stack.enter_context(_open_hdf5(path)))
    if looks_like_text(path):
        if is_spec(path):
            return read_spec(path)
        columns = read_columns(path)
        if columns is not None:
            names, table, notes = columns
            channels = table_channels(names, table)
            axes = [channels[0].name] if len(channels) > 1 else []
            return [Measurement(str(path), "", path.stem, channels, axes=axes, notes=notes)]
    return _from_tree(path, stack.enter_context(_open_with_silx(path)))


def _check_readable(path: Path) -> None:
    try:
        if path.is_dir():
            raise SourceFileError(f"{path} is a directory, expected a file: name the files in it")
        if not path.is_file():
            state = "is no regular file" if path.exists() else "does not exist"
            raise SourceFileError(f"{path} {state}, expected a file: {EXPECTED}")
        with open(path, "rb") as file:
            if not file.read(1):
                raise SourceFileError(f"{path} is empty, expected {EXPECTED}")
    except (OSError, ValueError) as error:
        if isinstance(error, SourceFileError):
            raise
        raise SourceFileError(f"{path} cannot be read: {error}") from error


# ---------------------------------------------------------------------------------- trees


@contextmanager
def _open_hdf5(path: Path) -> Iterator[Any]:
    import h5py

    try:
        file = h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        raise SourceFileError(
            f"{path} is HDF5 but cannot be opened: {error}. Is it whole, and is nobody writing it? "
            "A copy of a file that was cut short cannot be read; a file that is still being "
            "written can be replayed once it is closed"
        ) from error
    with file:
        yield file


@contextmanager
def _open_with_silx(path: Path) -> Iterator[Any]:
    silx_io = _silx_io(path)
    try:
        tree = silx_io.open(str(path))
    except Exception as error:
        with open(path, "rb") as file:
            head = file.read(24)
        raise SourceFileError(
            f"{path} is of no known format: it begins with {head!r}, expected {EXPECTED}"
        ) from error
    with tree:
        yield tree


def _silx_io(path: Path) -> Any:
    try:
        import silx.io
    except ImportError as error:
        raise MissingExtraError(
            f'It takes silx to read {path}, which is not installed: pip install "blissdata[files]"'
        ) from error
    return silx.io


def _from_tree(path: Path, root: Any) -> list[Measurement]:
    try:
        names = entry_names(root)
        return [read_entry(str(path), root, name, index) for index, name in enumerate(names)]
    except SourceFileError as error:
        raise SourceFileError(f"{path}: {error}") from error
    except (OSError, RuntimeError, KeyError) as error:
        raise SourceFileError(
            f"{path} is damaged: {error}. Is it whole? `h5dump -H` or `silx view` show what is left"
        ) from error
