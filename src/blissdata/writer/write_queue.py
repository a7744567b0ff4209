"""What HDF5 wrote, on its way to the disk: in its order, by a thread of its own.

    small pieces ──gathered──▶ 4 MiB ──┐                           ┌──▶ page cache ──▶ disk
                                       ├──▶ queue ──▶ thread ──────┤
    large ones ──copied──▶ whole pages ┘                           └──▶ disk, past the cache

HDF5 writes while it holds h5py's lock, and nothing may wait there: the thread may need that lock, for Python frees
objects of h5py wherever it happens to collect garbage. So `put` and `overlay`, which HDF5 calls, never wait;
`make_room` and `drain`, which are called without that lock, do.

The page cache would copy every byte of an image once more, find a page for each 4 KiB of it and write that later, in its
own time: this is most of what writing images costs, and with a full cache a program is stopped for as long as the
system likes. Nobody reads these pages soon: what is live comes from the server or the detector. A disk that is
slower than programs that write to it needs the cache, and a file system without direct writes has nothing
else: then everything goes through it.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeAlias

import numpy as np

from blissdata.streams.large_pages import private_memory

__all__ = ["LATE_PIECE", "PAGE", "WriteQueue"]

PAGE = 4096
"""Direct writes begin and end at multiples of this [bytes]."""

LATE_PIECE = 1 << 18
"""Pieces of this size and more [bytes] are large."""

LATE_NBYTES = 1 << 22
"""So much of small pieces is gathered [bytes]."""

BUFFER_NBYTES = 1 << 22
"""Size of one direct write, at most [bytes]."""

ROOM_NBYTES = 1 << 23
"""`make_room` waits until no more than so much is in the queue [bytes]."""

LEAST_SPEED = 1e8
"""A disk that takes direct writes more slowly than that [bytes/s] is written through the cache."""

JUDGED_NBYTES = 1 << 26
"""Its speed is the mean over so much [bytes]."""

_NOT_POSSIBLE = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}

_Pages: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"

Write: TypeAlias = Callable[[int, int, Any], None]
"""Writes to a descriptor, from a position on, all of a buffer; raises `OSError`."""


class _Waiting(Protocol):
    """Something that is to be written."""

    nbytes: int

    def pieces(self) -> Iterator[tuple[int, Any]]:
        """Where, and what."""


class _Small:
    """Small pieces in a buffer, those that follow each other together."""

    def __init__(self, buffer: memoryview) -> None:
        self.buffer = buffer
        self.nbytes = 0
        self._rows: list[list[int]] = []
        """Of each row: where it begins in the file, where in the buffer, and where it ends there."""
        self._end = -1

    def add(self, start: int, view: Any) -> None:
        begin, end = self.nbytes, self.nbytes + len(view)
        self.buffer[begin:end] = view
        self.nbytes = end
        if start == self._end:
            self._rows[-1][2] = end
        else:
            self._rows.append([start, begin, end])
        self._end = start + len(view)

    def pieces(self) -> Iterator[tuple[int, Any]]:
        for start, begin, end in self._rows:
            yield start, self.buffer[begin:end]


@dataclass
class _Run:
    """Large pieces that follow each other, from the beginning of a page on."""

    start: int
    buffer: _Pages
    nbytes: int = 0

    @property
    def stop(self) -> int:
        return self.start + self.nbytes

    def pieces(self) -> Iterator[tuple[int, Any]]:
        yield self.start, self.buffer[: self.nbytes]


class WriteQueue:
    """What is to be written to one file. Used by one thread at a time."""

    def __init__(self, descriptor: int, write: Write) -> None:
        """`descriptor` is the file's, open for writing through the cache; it remains the caller's."""
        self._cached = descriptor
        self._write = write
        self._direct = -1
        self._through_cache: bool | None = None
        self._small: _Small | None = None
        self._run: _Run | None = None
        self._queued: deque[_Waiting] = deque()
        """What was given to the thread, as long as it is not known to be written."""
        self._queued_nbytes = 0
        self._todo: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._free: list[_Pages] = []
        self._free_small: list[memoryview] = []
        self._trouble: BaseException | None = None
        self._judged = 0
        self._judged_s = 0.0
        self.cached_nbytes = 0
        """How much went through the cache so far [bytes]."""

    # ------------------------------------------------------------------------------ never waiting

    def put(self, start: int, view: Any) -> None:
        """Takes a copy of a piece."""
        run = self._run
        if len(view) < LATE_PIECE:
            if run is not None and start < run.stop and run.start < start + len(view):
                self._end_run()
            if self._add_small(start, view).nbytes >= LATE_NBYTES:
                self._end_small()
            return
        if run is not None and run.stop != start:
            self._end_run()
        self._end_small()
        data = np.frombuffer(view, np.uint8)
        if self._run is None:
            first = -(-start // PAGE) * PAGE
            head, data = data[: first - start], data[first - start :]
            if len(head):
                self._add_small(start, head)
                self._end_small()
            self._run = _Run(first, self._buffer())
        while len(data):
            run = self._run
            some = data[: len(run.buffer) - run.nbytes]
            run.buffer[run.nbytes : run.nbytes + len(some)] = some
            data, run.nbytes = data[len(some) :], run.nbytes + len(some)
            if run.nbytes == len(run.buffer):
                self._queue(run)
                self._run = _Run(run.stop, self._buffer())

    def overlay(self, start: int, view: memoryview) -> None:
        """Puts what is not written yet into what was read from the disk, from `start` on."""
        stop = start + len(view)
        for waiting in (*self._queued, self._small, self._run):
            for at, data in waiting.pieces() if waiting is not None else ():
                low, high = max(at, start), min(at + len(data), stop)
                if low < high:
                    view[low - start : high - start] = memoryview(data)[low - at : high - at]

    # ------------------------------------------------------------------------------ waiting

    def make_room(self) -> None:
        """Waits until not too much waits; raises what went wrong."""
        if self._queued and self._thread is None:
            self._thread = threading.Thread(
                target=self._run_thread, name="blissdata-writer-file", daemon=True
            )
            self._thread.start()
        self._look(ROOM_NBYTES)

    def drain(self) -> None:
        """Waits until all is written; raises what went wrong."""
        self._end_small()
        self._end_run()
        if self._thread is None:
            with suppress(Empty):
                while (waiting := self._todo.get_nowait()) is not None:
                    self._put_one(waiting)
        self._look(-1)

    def forget(self) -> None:
        """Forgets what waits, and what went wrong with it."""
        self._small = self._run = None
        with suppress(Empty):
            while True:
                self._todo.get_nowait()
                self._done.put(None)
        with suppress(Exception):
            self._look(-1)
        self._trouble = None

    def close(self) -> None:
        """Forgets what waits, and gives all back. Repeatable."""
        self.forget()
        if self._thread is not None:
            self._todo.put(None)
            self._thread.join()
            self._thread = None
        self._free.clear()
        self._free_small.clear()
        if self._direct >= 0:
            os.close(self._direct)
            self._direct = -1
            self._through_cache = True

    # ------------------------------------------------------------------------------ the queue

    def _buffer(self) -> _Pages:
        if self._free:
            return self._free.pop()
        return np.frombuffer(private_memory(BUFFER_NBYTES), np.uint8)

    def _add_small(self, start: int, view: Any) -> _Small:
        if self._small is None:
            if self._free_small:
                buffer = self._free_small.pop()
            else:
                buffer = memoryview(private_memory(LATE_NBYTES + LATE_PIECE, large_pages=False))
            self._small = _Small(buffer)
        self._small.add(start, view)
        return self._small

    def _end_small(self) -> None:
        small, self._small = self._small, None
        if small is not None:
            self._queue(small)

    def _end_run(self) -> None:
        """Queues the whole pages of the run, and what is left of it as a small piece."""
        run, self._run = self._run, None
        if run is None:
            return
        left = run.nbytes % PAGE
        run.nbytes -= left
        if left:
            self._add_small(run.stop, run.buffer[run.nbytes : run.nbytes + left])
        self._end_small()
        if run.nbytes:
            self._queue(run)
        else:
            self._free.append(run.buffer)

    def _queue(self, waiting: _Waiting) -> None:
        self._queued.append(waiting)
        self._queued_nbytes += waiting.nbytes
        self._todo.put(waiting)

    def _look(self, nbytes: int) -> None:
        """Waits until no more than so much is in the queue; raises what went wrong, now or before."""
        while self._queued:
            try:
                error = self._done.get(block=self._queued_nbytes > nbytes)
            except Empty:
                break
            done = self._queued.popleft()
            self._queued_nbytes -= done.nbytes
            if isinstance(done, _Small):
                self._free_small = [*self._free_small[-1:], done.buffer]
            elif isinstance(done, _Run):
                self._free = [*self._free[-2:], done.buffer]
            self._trouble = self._trouble or error
        if self._trouble is not None:
            raise self._trouble

    # ------------------------------------------------------------------------------ writing

    def _run_thread(self) -> None:
        while (waiting := self._todo.get()) is not None:
            self._put_one(waiting)
            del waiting

    def _put_one(self, waiting: _Waiting) -> None:
        error = None
        try:
            for start, data in waiting.pieces():
                if not (isinstance(waiting, _Run) and self._put_pages(start, data)):
                    self._write(self._cached, start, data)
                    self.cached_nbytes += len(data)
        except BaseException as found:  # noqa: BLE001 — raised where it is waited for
            error = found
        self._done.put(error)

    def _put_pages(self, start: int, pages: _Pages) -> bool:
        """Writes them past the cache; False if that cannot be, or should not."""
        if self._through_cache is None:
            self._direct = _opened_again(self._cached)
            self._through_cache = self._direct < 0
        if self._through_cache:
            return False
        began = time.monotonic()
        try:
            self._write(self._direct, start, pages)
        except OSError as error:
            if error.errno not in _NOT_POSSIBLE:
                raise
            self._through_cache = True
            return False
        self._judged += len(pages)
        self._judged_s += time.monotonic() - began
        if self._judged >= JUDGED_NBYTES:
            self._through_cache = self._judged < LEAST_SPEED * self._judged_s
            self._judged, self._judged_s = 0, 0.0
        return True


def _opened_again(descriptor: int) -> int:
    """The same file, open for direct writes; -1 if that cannot be."""
    direct = getattr(os, "O_DIRECT", None)
    if direct is None:
        return -1
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_CLOEXEC | direct)
    except OSError:
        return -1
