"""Large pieces of a file on their way to the disk, past the system's page cache.

    pieces    ──copied──▶ a buffer of pages ──thread──▶ disk       while the next buffer is filled
    what is left of a page at both ends of a row of pieces ──▶ cache

The cache would copy every byte once more, find a page for each 4 KiB of it and write that later, in its own
time: for images, this is most of what writing costs, and with a full cache a program is stopped for as long as
the system likes. Nobody reads these pieces soon: what is live comes from the server or the detector.

A disk that is slower than programs that write to it needs the cache, and a file system without direct
writes has nothing else: then everything goes through it.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from blissdata.streams.large_pages import private_memory

__all__ = ["PAGE", "PastCache"]

PAGE = 4096
"""Direct writes begin and end at multiples of this [bytes]."""

BUFFER_NBYTES = 1 << 22
"""Size of one direct write, at most [bytes]."""

BUFFERS = 3
"""So many are there for one file at most: two are written, one is filled."""

LEAST_SPEED = 1e8
"""A disk on which one direct write is slower than that [bytes/s] is written through the cache."""

JUDGED_NBYTES = 1 << 26
"""Its speed is the mean over so much [bytes]."""

_NOT_POSSIBLE = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}

_Pages: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"

Write: TypeAlias = Callable[[int, int, Any], None]
"""Writes to a descriptor, from a position on, all of a buffer; raises `OSError`."""


class _Run(NamedTuple):
    """Pieces that follow each other: where the first page is in the file, its buffer, and how much of that is
    full [bytes]."""

    start: int
    buffer: _Pages
    filled: int

    @property
    def stop(self) -> int:
        return self.start + self.filled


class PastCache:
    """The way of one file's large pieces. Used by one thread at a time."""

    def __init__(self, descriptor: int, write: Write) -> None:
        """`descriptor` is the file's, open for writing through the cache; it remains the caller's."""
        self._cached = descriptor
        self._write = write
        self._direct = _opened_again(descriptor)
        self._gave_up = self._direct < 0
        self._run: _Run | None = None
        self._free: list[_Pages] = []
        self._buffers = 0
        self._under_way: deque[tuple[int, int, _Pages, Future[None]]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._judged = 0
        self._judged_s = 0.0
        self.cached_nbytes = 0
        """How much went through the cache after all [bytes]."""

    def put(self, start: int, view: Any) -> None:
        """Takes a copy of a piece, and writes it sooner or later. Waits if too much is under way; raises the
        `OSError` of what was."""
        if self._run is not None and self._run.stop != start:
            self._end_run()
        if self._gave_up:
            self.settle()
            self._through_the_cache(start, view)
            return
        if self._is_under_way(start, start + len(view)):
            self._wait(0)
        data = np.frombuffer(view, np.uint8)
        if self._run is None:
            first = -(-start // PAGE) * PAGE
            head, data = data[: first - start], data[first - start :]
            if len(head):
                self._through_the_cache(start, head)
            self._run = _Run(first, self._buffer(), 0)
        while len(data):
            begin, buffer, filled = self._run
            some = data[: len(buffer) - filled]
            buffer[filled : filled + len(some)] = some
            data, filled = data[len(some) :], filled + len(some)
            if filled == len(buffer):
                self._run = None
                self._submit(begin, buffer, filled)
                begin, buffer, filled = begin + filled, self._buffer(), 0
            self._run = _Run(begin, buffer, filled)

    def holds(self, start: int, stop: int) -> bool:
        """Whether something of that range of the file is not written yet."""
        run = self._run
        return self._is_under_way(start, stop) or (
            run is not None and start < run.stop and run.start < stop
        )

    def settle(self) -> None:
        """Waits until all is written; raises what went wrong."""
        self._end_run()
        self._wait(0)

    def forget(self) -> None:
        """Writes nothing of what waits, and waits for what is under way, whatever comes of it."""
        if self._run is not None:
            self._free.append(self._run.buffer)
            self._run = None
        while self._under_way:
            with suppress(OSError):
                self._wait(0)

    def close(self) -> None:
        """Waits for what is under way, whatever comes of it. Repeatable."""
        self.forget()
        if self._pool is not None:
            self._pool.shutdown()
        self._free.clear()
        if self._direct >= 0:
            os.close(self._direct)
            self._direct = -1
            self._gave_up = True

    # ------------------------------------------------------------------------------ buffers

    def _is_under_way(self, start: int, stop: int) -> bool:
        return any(start < high and low < stop for low, high, _, _ in self._under_way)

    def _buffer(self) -> _Pages:
        """One that is free."""
        if not self._free and self._buffers < BUFFERS:
            self._buffers += 1
            return np.frombuffer(private_memory(BUFFER_NBYTES), np.uint8)
        if not self._free:
            self._wait(len(self._under_way) - 1)
        return self._free.pop()

    def _end_run(self) -> None:
        """Writes the whole pages of the run, and what is left of it through the cache."""
        run, self._run = self._run, None
        if run is None:
            return
        nbytes = run.filled // PAGE * PAGE
        left = run.buffer[nbytes : run.filled]
        if len(left):
            self._through_the_cache(run.start + nbytes, left)
        if nbytes:
            self._submit(run.start, run.buffer, nbytes)
        else:
            self._free.append(run.buffer)

    def _submit(self, start: int, buffer: _Pages, nbytes: int) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(2, thread_name_prefix="blissdata-writer-pages")
        future = self._pool.submit(self._put_pages, start, buffer[:nbytes])
        self._under_way.append((start, start + nbytes, buffer, future))

    def _wait(self, left: int) -> None:
        """Until no more than so many are under way."""
        while len(self._under_way) > left:
            _, _, buffer, future = self._under_way.popleft()
            try:
                future.result()
            finally:
                self._free.append(buffer)

    # ------------------------------------------------------------------------------ writing

    def _put_pages(self, start: int, pages: _Pages) -> None:
        """In a thread."""
        if not self._gave_up:
            began = time.monotonic()
            try:
                self._write(self._direct, start, pages)
            except OSError as error:
                if error.errno not in _NOT_POSSIBLE:
                    raise
                self._gave_up = True
            else:
                self._judge(len(pages), time.monotonic() - began)
                return
        self._through_the_cache(start, pages)

    def _judge(self, nbytes: int, seconds: float) -> None:
        """Gives up if the disk is slow."""
        with self._lock:
            self._judged += nbytes
            self._judged_s += seconds
            if self._judged >= JUDGED_NBYTES:
                self._gave_up = self._gave_up or self._judged < LEAST_SPEED * self._judged_s
                self._judged, self._judged_s = 0, 0.0

    def _through_the_cache(self, start: int, data: Any) -> None:
        self._write(self._cached, start, data)
        with self._lock:
            self.cached_nbytes += len(data)


def _opened_again(descriptor: int) -> int:
    """The same file, open for direct writes; -1 if that cannot be."""
    direct = getattr(os, "O_DIRECT", None)
    if direct is None:
        return -1
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_CLOEXEC | direct)
    except OSError:
        return -1
