"""Which files a reader may open: those below the data roots, and as which real path.

A scan comes from anybody who can reach the server, and so does every path in it. A path is followed
through all symlinks first, and must then lie below one of the roots and be a regular file:

    roots   an argument  >  $BLISSDATA_DATA_ROOTS  >  the directory of the scan's own file

What a file points at in its turn is bound in the same way; see `blissdata.checked_hdf5`.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO

from blissdata.exceptions import DataFileError, DataFileMissingError, DataFileRefusedError

__all__ = ["ROOTS_VARIABLE", "DataRoots"]

ROOTS_VARIABLE = "BLISSDATA_DATA_ROOTS"
"""Directories, separated as in `PATH`, below which readers of this process may open data files."""

_GIVEN = "given as roots"
"""Where roots come from that `$BLISSDATA_DATA_ROOTS` has no say in."""


@dataclass(frozen=True, slots=True)
class DataRoots:
    """The directories below which data files may be opened. `DataRoots.choose` gives the usual ones."""

    directories: tuple[str, ...]
    """Absolute paths; symlinks in them are followed at each check."""

    source: str
    """Where they come from, for messages."""

    advice: str = ""
    """What to do about a file elsewhere, for messages; empty: that more roots can be given, or exported."""

    def __post_init__(self) -> None:
        for directory in self.directories:
            if not os.path.isabs(directory) or "\0" in directory:
                raise ValueError(
                    f"A data root is the absolute path of a directory, not {directory!r} "
                    f"({self.source})"
                )

    @classmethod
    def choose(
        cls,
        roots: Iterable[str | os.PathLike[str]] | str | os.PathLike[str] | None = None,
        scan_path: str | None = None,
    ) -> DataRoots:
        """Those given, else those of `$BLISSDATA_DATA_ROOTS`, else the directory of `scan_path`, the
        file that the scan says it is saved to. Raises `ValueError` for a root that is not absolute."""
        if roots is not None:
            given = [roots] if isinstance(roots, str | os.PathLike) else roots
            return cls(tuple(os.fspath(root) for root in given), _GIVEN)
        named = [root for root in os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep) if root]
        if named:
            return cls(tuple(named), f"from ${ROOTS_VARIABLE}")
        if scan_path and os.path.isabs(scan_path) and "\0" not in scan_path:
            return cls((os.path.dirname(scan_path),), "the directory of the scan's file")
        return cls((), f"${ROOTS_VARIABLE} is not set, and the scan names no file of its own")

    def place(self, path: str | os.PathLike[str]) -> str:
        """Where `path` leads after all symlinks, be there a file or not, if it may be written there.

        Raises `DataFileRefusedError` for a path that is relative, leaves the roots, or at which there
        is something else than a regular file."""
        text = os.fspath(path)
        _require_absolute(text)
        try:
            real = os.path.realpath(text)
            self._require_below(text, real, "If it may be written there, add the directory to them")
            with suppress(FileNotFoundError):
                self._require_regular(text, os.lstat(real).st_mode)
        except DataFileError:
            raise
        except OSError as error:
            raise DataFileRefusedError(f"{text} cannot be looked at: {error.strerror}") from error
        return real

    def real_path(self, path: str | os.PathLike[str]) -> str:
        """The file that `path` is after all symlinks, if it may be opened.

        Raises `DataFileRefusedError` for a path that is relative, leaves the roots, or is no regular
        file (a directory, a FIFO, a device, …), and `DataFileMissingError` for one below the roots
        where there is nothing (yet)."""
        text = os.fspath(path)
        _require_absolute(text)
        try:
            real = os.path.realpath(text)
            self._require_below(text, real)
            mode = os.lstat(real).st_mode
        except FileNotFoundError:
            raise DataFileMissingError(f"There is no file {text} (yet)") from None
        except NotADirectoryError:
            raise DataFileMissingError(
                f"There is no file {text} (yet): a part of its path is no directory"
            ) from None
        except DataFileError:
            raise
        except OSError as error:
            raise DataFileRefusedError(
                f"{text} cannot be looked at: {error.strerror}. This process may not be allowed to"
            ) from error
        self._require_regular(text, mode)
        return real

    def open(self, path: str | os.PathLike[str]) -> FileIO:
        """The file, open for reading its bytes, unbuffered; what was checked is what is open. Never waits, not
        even on a FIFO. Raises as `real_path` does."""
        text = os.fspath(path)
        real = self.real_path(text)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
        try:
            descriptor = os.open(real, flags)
        except FileNotFoundError:
            raise DataFileMissingError(f"The file {text} has just gone") from None
        except OSError as error:
            raise DataFileRefusedError(
                f"{text} cannot be opened for reading: {error.strerror}"
            ) from error
        try:
            found = os.fstat(descriptor)
            self._require_regular(text, found.st_mode)
            # Somebody may have swapped a directory for a symlink since: look where we came out.
            again = os.stat(self.real_path(text))
            if (again.st_dev, again.st_ino) != (found.st_dev, found.st_ino):
                raise DataFileMissingError(f"The file {text} was replaced while it was opened")
            return os.fdopen(descriptor, "rb", buffering=0)
        except BaseException:
            os.close(descriptor)
            raise

    def _require_below(self, path: str, real: str, hint: str = "") -> None:
        for root in self.directories:
            directory = os.path.realpath(root)
            if real.startswith(directory.rstrip("/") + "/"):
                return
        where = path if path == real else f"{path} (which is {real})"
        allowed = ", ".join(self.directories) or "none"
        directory = os.path.dirname(real)
        more = shlex.quote(os.pathsep.join([*self.directories, directory]))
        hint = (
            hint
            or self.advice
            or "If this reader may see it, "
            + (
                f"add {directory} to them"
                if self.source == _GIVEN
                else f"export {ROOTS_VARIABLE}={more}"
            )
        )
        raise DataFileRefusedError(
            f"{where} is not below the data roots: {allowed} ({self.source}). {hint}"
        )

    def _require_regular(self, path: str, mode: int) -> None:
        if not stat.S_ISREG(mode):
            kinds = {
                stat.S_IFDIR: "a directory",
                stat.S_IFIFO: "a FIFO",
                stat.S_IFCHR: "a device",
                stat.S_IFBLK: "a device",
                stat.S_IFSOCK: "a socket",
                stat.S_IFLNK: "a symlink that leads round in a circle",
            }
            kind = kinds.get(stat.S_IFMT(mode), "something else")
            raise DataFileRefusedError(f"{path} is {kind}, not a regular file")


def _require_absolute(path: str) -> None:
    if "\0" in path:
        raise DataFileRefusedError(f"{path[:200]!r} is no path: it contains a NUL")
    if not os.path.isabs(path):
        raise DataFileRefusedError(
            f"{path!r} is a relative path; only absolute ones name the same file everywhere"
        )
