"""Shared memory in large pages, out of which frames are copied half as fast again as out of small ones."""

from __future__ import annotations

import ctypes
import mmap
import os

from blissdata.streams.large_pages import LARGE_PAGE

__all__ = ["reserve_large_pages"]

_SMALL_PAGE = 4096

_MADV_COLLAPSE = 25
_MAP_NORESERVE = 0x4000
_MAP_FIXED = 0x10
"""Of Linux (`include/uapi/asm-generic/mman-common.h`); Python 3.11 has no names for them."""


def reserve_large_pages(fd: int, size: int) -> None:
    """Reserves memory for a new file of `size` [bytes] in `/dev/shm`, as much as can be in large pages.

    Linux makes them on request from 6.1 on, whatever is set for shared memory (madvise(2), `MADV_COLLAPSE`).
    What it does not put into large pages is left to the caller. Raises `OSError` if there is no room."""
    pages = size // LARGE_PAGE
    if not pages:
        return
    os.ftruncate(fd, size)
    for number in range(pages):  # where there is nothing at all, nothing is made large
        os.posix_fallocate(fd, number * LARGE_PAGE, _SMALL_PAGE)
    _collapse(fd, pages * LARGE_PAGE)


def _collapse(fd: int, size: int) -> None:
    """The file has to be mapped for it, where a large page can begin."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    length, room = ctypes.c_size_t(size), ctypes.c_size_t(size + LARGE_PAGE)
    nowhere, first = ctypes.c_int(-1), ctypes.c_long(0)
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    found = libc.mmap(None, room, 0, private, nowhere, first)
    if found is None or found == ctypes.c_void_p(-1).value:
        return
    start = ctypes.c_void_p(-(-found // LARGE_PAGE) * LARGE_PAGE)
    both = mmap.PROT_READ | mmap.PROT_WRITE
    if libc.mmap(start, length, both, mmap.MAP_SHARED | _MAP_FIXED, fd, first) == start.value:
        libc.madvise(start, length, _MADV_COLLAPSE)
    libc.munmap(ctypes.c_void_p(found), room)
