"""The files that are being written: one object for each, shared by the scans that are in it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blissdata.data_roots import DataRoots
    from blissdata.writer.nexus import NexusFile
    from blissdata.writer.plan import Compression

__all__ = ["OpenFiles"]


class OpenFiles:
    """Files below the roots, opened for the first scan that needs them, closed after the last."""

    def __init__(self, roots: DataRoots, compression: Compression = "auto") -> None:
        self.roots = roots
        """Files are made and changed below these alone."""
        self._compression: Compression = compression
        self._lock = threading.Lock()
        self._open: dict[str, tuple[NexusFile, int]] = {}

    def take(self, path: str) -> NexusFile:
        """The file, open; to be given back. Raises as `NexusFile` does."""
        from blissdata.writer.nexus import NexusFile

        with self._lock:
            file, users = self._open.get(path, (None, 0))
            if file is None:
                file = NexusFile(path, self.roots, self._compression)
            self._open[path] = file, users + 1
        return file

    def give_back(self, file: NexusFile) -> None:
        """Closes it if nobody else has it."""
        with self._lock:
            found, users = self._open.get(file.path, (file, 1))
            if found is not file:
                return
            if users > 1:
                self._open[file.path] = file, users - 1
                return
            self._open.pop(file.path, None)
            file.close()
