"""Files as they were at one instant, shared by all who look at them.

A page asks for a snapshot, gets its version, and puts all its questions to that. Pages that ask at the
same time get the same one.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from blissdata.data_roots import DataRoots
from blissdata.exceptions import DataFileError, DataFileMissingError, DataFileRefusedError
from blissdata.h5api.redis_hdf5 import File
from blissdata.viewer.content import Content, NotThereError, RefusedError

if TYPE_CHECKING:
    from blissdata.redis_engine.store import DataStore

__all__ = ["Snapshot", "Snapshots"]

T = TypeVar("T")

SHARED_S = 1.0
"""A snapshot that is no older serves the next one who asks as well [s]."""

MOST = 32
"""How many snapshots are kept."""

_FILES = 16
"""How many files are kept open, to be frozen again."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file as it was."""

    version: int
    """By which it is asked for."""

    file: str
    """The file's path."""

    content: Content
    """What it answers."""

    tree: File
    """The same, to be walked."""

    taken: float
    """When, on this machine's monotonic clock [s]."""

    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: Callable[[Content], T]) -> T:
        """The answer to a question, one question at a time."""
        with self._lock:
            return question(self.content)


ADVICE = (
    "No scan on the server names it, and files without a scan are shown below directories that were allowed: "
    "blissdata web --root DIRECTORY"
)
"""For whoever asks for a file that may not be opened."""


class Snapshots:
    """The snapshots of all files."""

    def __init__(self, store: DataStore, roots: Iterable[str | os.PathLike[str]] | None) -> None:
        """`roots` are the directories below which files without a scan may be opened (None: those of
        `$BLISSDATA_DATA_ROOTS`)."""
        self._store = store
        chosen = DataRoots.choose(roots)
        source = chosen.source if roots is None else "--root"
        self._roots = DataRoots(chosen.directories, source, ADVICE)
        self._lock = threading.Lock()
        self._files: OrderedDict[str, File] = OrderedDict()
        self._kept: OrderedDict[int, Snapshot] = OrderedDict()
        self._newest: dict[str, Snapshot] = {}
        self._version = int(time.time() * 1000)  # never again that of another run of the program

    @property
    def roots(self) -> DataRoots:
        """The directories below which files without a scan may be opened."""
        return self._roots

    def take(self, file: str) -> Snapshot:
        """The file now, at most `SHARED_S` old. Raises `NotThereError` for a file that no scan and no
        allowed directory has, `RefusedError` for one that may not be opened."""
        path = _checked(file)
        with self._lock:
            known = self._newest.get(path)
            if known is not None and time.monotonic() - known.taken < SHARED_S:
                return known
            frozen = self._opened(path).snapshot()
            self._version += 1
            found = Snapshot(self._version, path, Content(frozen), frozen, time.monotonic())
            self._newest[path] = self._kept[self._version] = found
            while len(self._kept) > MOST:
                _, old = self._kept.popitem(last=False)
                if self._newest.get(old.file) is old:
                    del self._newest[old.file]
            return found

    def get(self, version: int, file: str) -> Snapshot:
        """A snapshot that was taken before. Raises `NotThereError` if it is not kept any more."""
        with self._lock:
            found = self._kept.get(version)
        if found is None or found.file != _checked(file):
            raise NotThereError(f"This view of {file} is not kept any more: take a new one")
        return found

    def _opened(self, path: str) -> File:
        known = self._files.get(path)
        if known is not None:
            self._files.move_to_end(path)
            return known
        explicit = self._roots.directories or None
        file = File(path, data_store=self._store, wait=False, roots=explicit)
        if not file.has_scans():
            # Without a scan that names it, its own directory is no reason to open it.
            file = File(path, data_store=self._store, wait=False, roots=self._roots.directories)
            try:
                with suppress(DataFileMissingError):
                    self._roots.real_path(path)
                file.require_file("/")
            except KeyError as error:
                raise NotThereError(
                    f"No scan is saved to {path}, and there is no such file"
                ) from error
            except DataFileRefusedError as error:
                raise RefusedError(str(error)) from error
            except DataFileError as error:
                raise NotThereError(str(error)) from error
        self._files[path] = file
        while len(self._files) > _FILES:
            self._files.popitem(last=False)
        return file

    def close(self) -> None:
        """Lets go of the files. Repeatable."""
        with self._lock:
            while self._files:
                self._files.popitem()[1].close()
            self._kept.clear()
            self._newest.clear()


def _checked(file: str) -> str:
    if "\0" in file or not os.path.isabs(file) or ".." in file.split("/"):
        raise RefusedError(f"{file!r} is not the absolute path of a file, without `..` in it")
    return file
