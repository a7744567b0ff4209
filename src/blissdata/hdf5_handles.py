"""HDF5 files kept open for a burst of reads: one opening for many reads, and none left when idle.

A handle sees the file as it was when it was opened. So it is used again only while the file on disk
is the same and unchanged (or is appended to in SWMR mode, which the handle follows).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from blissdata.checked_hdf5 import CheckedFile
from blissdata.data_roots import DataRoots

__all__ = ["borrowed_file", "close_files", "open_files"]

IDLE_S = 1.0
"""How long a file stays open after its last use [s]."""

MAX_OPEN = 32
"""How many files stay open at most."""


class _Handle:
    """One open file, for one user at a time."""

    def __init__(self, file: CheckedFile) -> None:
        self.file = file
        self.used = time.monotonic()


class _Handles:
    """Those that are open in this process. A thread closes them when they are idle, and ends."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._idle: dict[tuple[str, DataRoots], _Handle] = {}
        self._closer: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, path: str, roots: DataRoots) -> _Handle:
        """An open handle, which is the caller's until it is given back."""
        real = roots.real_path(path)
        with self._lock:
            handle = self._idle.pop((real, roots), None)
        if handle is not None:
            if handle.file.is_current():
                return handle
            handle.file.close()
        return _Handle(CheckedFile(path, roots))

    def give_back(self, handle: _Handle) -> None:
        handle.used = time.monotonic()
        key = (handle.file.real_path, handle.file.roots)
        with self._lock:
            surplus = [self._idle.pop(key)] if key in self._idle else []
            self._idle[key] = handle
            while len(self._idle) > MAX_OPEN:
                surplus.append(self._idle.pop(next(iter(self._idle))))
            if self._closer is None:
                self._closer = threading.Thread(
                    target=self._close_idle, name="blissdata-files", daemon=True
                )  # daemonic: at the end of the program there is nothing to save
                self._closer.start()
        for other in surplus:
            other.file.close()

    def close(self) -> None:
        """Closes all that nobody is using."""
        with self._lock:
            closing, self._idle = list(self._idle.values()), {}
            self._lock.notify_all()
        for handle in closing:
            handle.file.close()

    def _close_idle(self) -> None:
        ended = False
        while not ended:
            with self._lock:
                self._lock.wait_for(lambda: not self._idle, IDLE_S / 2)
                before = time.monotonic() - IDLE_S
                old = [key for key, handle in self._idle.items() if handle.used < before]
                closing = [self._idle.pop(key) for key in old]
                if ended := not self._idle:
                    self._closer = None
            for handle in closing:
                handle.file.close()


_handles = _Handles()
_of_the_parent: list[_Handles] = []


def _forget_the_parents() -> None:
    """In a forked child: its parent's handles are not closed (HDF5 may have been at work in another
    thread), but never used."""
    global _handles
    _of_the_parent.append(_handles)
    _handles = _Handles()


os.register_at_fork(after_in_child=_forget_the_parents)


@contextlib.contextmanager
def borrowed_file(path: str | os.PathLike[str], roots: DataRoots) -> Iterator[CheckedFile]:
    """The HDF5 file, open for the time of the `with` block, and kept open a little longer in case
    that somebody wants it again. Raises as `CheckedFile` does; an error in the block closes it."""
    handles = _handles
    handle = handles.take(os.fspath(path), roots)
    try:
        yield handle.file
    except BaseException:
        handle.file.close()
        raise
    handles.give_back(handle)


def close_files() -> None:
    """Closes at once what is only kept open in case that somebody wants it again."""
    _handles.close()


def open_files() -> int:
    """How many files are open because they were used a moment ago."""
    return len(_handles)
