"""Memory for arrays that readers get, in large pages: what they let go is used for the next ones.

Memory that is fresh costs as much again as copying a frame into it, and more so when the reader has just
been woken.
"""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blissdata.streams.large_pages import LARGE_PAGE, private_memory

__all__ = ["ArrayMemory"]

LEAST_NBYTES = 2**19
"""For smaller arrays, the usual memory is as good [bytes]."""

MOST_NBYTES = 2**25
"""For larger ones as well: they would be kept too seldom to be worth it [bytes]."""

IDLE_NBYTES = 2**26
"""How much memory that nobody uses is kept [bytes]."""


class _Block:
    """A piece of memory that begins where a large page can."""

    __slots__ = ("_memory", "address", "nbytes")

    def __init__(self, nbytes: int) -> None:
        self._memory = private_memory(nbytes + LARGE_PAGE)
        start = np.frombuffer(self._memory, np.uint8).ctypes.data
        self.address = -(-start // LARGE_PAGE) * LARGE_PAGE
        self.nbytes = nbytes


class _Lease:
    """Stands behind an array, and all views of it: goes with the last of them."""

    __slots__ = ("__array_interface__", "_block", "_memory")

    def __init__(self, memory: ArrayMemory, block: _Block) -> None:
        self._memory = memory
        self._block = block
        # https://numpy.org/doc/stable/reference/arrays.interface.html
        self.__array_interface__ = {
            "version": 3,
            "shape": (block.nbytes,),
            "typestr": "|u1",
            "data": (block.address, False),
        }

    def __del__(self) -> None:
        self._memory.take_back(self._block)


class ArrayMemory:
    """Gives arrays of any size; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # arrays may go at any time, also in here
        self._idle: dict[int, list[_Block]] = {}
        self._nbytes = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array of the caller's own, with whatever is in it, like `numpy.empty`."""
        nbytes = prod(shape) * dtype.itemsize
        if not LEAST_NBYTES <= nbytes <= MOST_NBYTES:
            return np.empty(shape, dtype)
        try:
            with self._lock:
                block = self._idle[nbytes].pop()
                self._nbytes -= nbytes
        except (KeyError, IndexError):
            block = _Block(nbytes)
        return np.asarray(_Lease(self, block)).view(dtype).reshape(shape)

    def take_back(self, block: _Block) -> None:
        """Nobody has an array of it any more."""
        with self._lock:
            if (
                self._nbytes + block.nbytes > IDLE_NBYTES
            ):  # what is wanted now is kept, of other sizes nothing
                self._idle = {block.nbytes: self._idle.get(block.nbytes, [])}
                self._nbytes = block.nbytes * len(self._idle[block.nbytes])
            if self._nbytes + block.nbytes <= IDLE_NBYTES:
                self._nbytes += block.nbytes
                self._idle.setdefault(block.nbytes, []).append(block)
