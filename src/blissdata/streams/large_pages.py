"""Memory in large pages: a page fault for every 4 KiB takes several times as long as copying a frame."""

from __future__ import annotations

import mmap
from contextlib import suppress

__all__ = ["LARGE_PAGE", "private_memory"]

LARGE_PAGE = 2**21
"""Size of a large page [bytes]."""


def private_memory(nbytes: int, *, large_pages: bool = True) -> mmap.mmap:
    """Fresh memory [bytes] of this process, which the system is to give in large pages where it has them; a
    fork gets a copy. `large_pages=False` for memory of which little may be used."""
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if large_pages and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
