"""Has a file changed since it was opened? What its directory entry says, with the doubt it leaves."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace

__all__ = ["FileState"]

CLOCK_TICK_NS = 50_000_000
"""Two changes within this time may leave the same time stamp: file systems count in ticks of some
milliseconds. A file that changed so recently may have changed again."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as it was found: which one, how long, when it was last written."""

    device: int
    inode: int
    size: int
    """[bytes]"""

    modified_ns: int
    settled: bool
    """False if it was written so recently that the next change might not show."""

    @classmethod
    def of(cls, path: str) -> FileState:
        """The state of that file now; `OSError` (`FileNotFoundError`) if it cannot be told."""
        found = os.stat(path)
        settled = time.time_ns() - found.st_mtime_ns > CLOCK_TICK_NS
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, settled)

    def holds(self, path: str) -> bool:
        """True if the file is certainly still as it was then."""
        return self.settled and self.seems_to_hold(path)

    def seems_to_hold(self, path: str) -> bool:
        """True if nothing shows that the file is another than it was then."""
        try:
            now = self.of(path)
        except OSError:
            return False
        return self.same_as(now)

    def same_as(self, other: FileState) -> bool:
        """True if both tell of one file in one state."""
        return replace(self, settled=True) == replace(other, settled=True)
