"""A ring of frames in shared memory: one process writes, others on the host read, nobody waits.

    ┌────────┬──────────────────────┬────────┬────────┬────────┐
    │ header │ a mark for each slot │ slot 0 │ slot 1 │ slot 2 │     frame i is in slot i % slots
    └────────┴──────────────────────┴────────┴────────┴────────┘

A slot's mark is `2 i + 1` while frame `i` is being written into it and `2 i + 2` from then on. Who
reads looks at the mark before and after: it is the same, or the copy does not count. So a torn frame
is always noticed, and the writer never knows of readers. See decision 28.

The memory is a file of this user alone in `/dev/shm`, locked while somebody writes into it. The lock
goes with the process, however that ends; the next ring that is made removes what nobody holds.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import stat
import struct
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blissdata.exceptions import SharedMemoryError
from blissdata.streams.frames.large_pages import reserve_large_pages
from blissdata.streams.frames.layout import RING_NAME

__all__ = [
    "DIRECTORY",
    "DIRECTORY_VARIABLE",
    "Ring",
    "RingReader",
    "RingUnreachableError",
    "leftovers",
    "sweep",
]

DIRECTORY = "/dev/shm"  # noqa: S108 — shared memory has its place there, and names are not guessable
"""Where Linux has shared memory."""

DIRECTORY_VARIABLE = "BLISSDATA_RINGS"
"""Another directory for rings, in memory as well: for machines whose `/dev/shm` is kept small."""

PREFIX = "blissdata-frames-"

PAGE = 4096

MAGIC = b"BLISSFRM"
FORMAT = 1

_HEAD = struct.Struct("<8sIIQQQQ")
"""Magic, version, unused, slots, bytes a frame, bytes a slot, where the slots begin."""

_BEGIN = 5
_TAKEN = 16
_SAVED = 17
_STATE = 18
_SLEEPING = 19
_MARKS = 32
"""Where things are in the header, counted in words of 8 bytes."""

OPEN, CLOSED = 1, 2

POPULATED_NBYTES = 2**28
"""Rings up to that size are mapped with all their pages at once [bytes], a matter of milliseconds; of larger
ones each page costs something when it is read first."""

SWEEP_TRIES = 3
"""A reader may hold the lock for an instant, to see whether anybody else does."""

Pixels = NDArray[np.uint8]


class RingUnreachableError(Exception):
    """Frames cannot be had from a ring; says why. Never leaves this package."""


class _Shared:
    """The mapped memory, whoever maps it."""

    def __init__(self, memory: mmap.mmap, slots: int, nbytes: int) -> None:
        self.slots = slots
        self.nbytes = nbytes
        self._words = memoryview(memory).cast("q")
        stride, begin = _geometry(slots, nbytes)
        flat = np.frombuffer(memory, np.uint8)
        self._pixels: Pixels = np.lib.stride_tricks.as_strided(
            flat[begin:], (slots, nbytes), (stride, 1)
        )
        self._memory = memory
        self._lock = _native_lock()

    def _fence(self) -> None:
        """What was written before is seen before what is written after, and read likewise: taking a
        lock and giving it back are atomic operations on every machine that Python runs on."""
        lock = self._lock
        lock.acquire()
        lock.release()
        lock.acquire()
        lock.release()

    @property
    def taken(self) -> int:
        """How many frames were taken."""
        return self._words[_TAKEN]

    @property
    def saved(self) -> int:
        """How many of them are saved."""
        return self._words[_SAVED]

    @property
    def is_open(self) -> bool:
        """False once the buffer was closed."""
        return self._words[_STATE] == OPEN

    def has(self, frame: int) -> bool:
        """True if that frame is in the ring now."""
        return self._words[_MARKS + 2 * (frame % self.slots)] == 2 * frame + 2

    def held(self) -> range:
        """The frames that are in the ring now."""
        taken = self.taken
        first = max(0, taken - self.slots)
        while first < taken and not self.has(first):
            first += 1
        return range(first, taken)

    def read_into(self, frame: int, out: Pixels) -> bool:
        """Copies a frame into these bytes; False if it is not there (any more), and then `out` holds
        nothing of worth."""
        words, at = self._words, frame % self.slots
        mark, expected = _MARKS + 2 * at, 2 * frame + 2
        if words[mark] != expected:
            return False
        self._fence()
        np.copyto(out, self._pixels[at])
        self._fence()
        return words[mark] == expected

    def lost_since(self, frame: int) -> tuple[int, float] | None:
        """What took the frame's place, and when [s since 1970]; it may not have been the first.
        None if it is still there, or nothing is known."""
        at = _MARKS + 2 * (frame % self.slots)
        mark, when = self._words[at], self._words[at + 1]
        by = (mark - 1) // 2
        if by <= frame:
            return None
        return by, when / 1e9


class Ring(_Shared):
    """The ring of a writer, who makes it and removes it.

    Raises `SharedMemoryError` if there is not so much memory."""

    def __init__(self, slots: int, nbytes: int) -> None:
        stride, begin = _geometry(slots, nbytes)
        size = begin + slots * stride
        sweep()
        self.name, self._fd = _created(size)
        self._path = os.path.join(_directory(), self.name)
        try:
            memory = mmap.mmap(self._fd, size, flags=_flags(size))
        except (OSError, ValueError) as error:
            _removed(self._path, self._fd)
            raise SharedMemoryError(
                f"{size} bytes of shared memory cannot be mapped: {error}"
            ) from error
        super().__init__(memory, slots, nbytes)
        _HEAD.pack_into(memory, 0, MAGIC, FORMAT, 0, slots, nbytes, stride, begin)
        self._words[_STATE] = OPEN
        self._end = weakref.finalize(self, _end, os.getpid(), self._path, self._fd, memory)
        self.forked = False
        """True in a fork of the process that writes: it must not write as well."""
        _rings.add(self)

    @property
    def fd(self) -> int:
        """The file's descriptor; who inherits it holds the lock as well."""
        return self._fd

    def begin(self, frame: int) -> Pixels:
        """The bytes of the frame's slot, to be written; what was in there is lost."""
        at = frame % self.slots
        mark = _MARKS + 2 * at
        self._words[mark] = 2 * frame + 1
        self._words[mark + 1] = time.time_ns()
        self._fence()
        pixels: Pixels = self._pixels[at]
        return pixels

    def commit(self, frame: int) -> None:
        """The frame is complete."""
        self._fence()
        self._words[_MARKS + 2 * (frame % self.slots)] = 2 * frame + 2
        self._words[_TAKEN] = frame + 1

    def tell_saved(self, saved: int) -> None:
        """So many frames are saved."""
        self._words[_SAVED] = saved

    def sleeper(self) -> bool:
        """True, once, if somebody who saves sleeps until there is another frame."""
        self._fence()
        if not self._words[_SLEEPING]:
            return False
        self._words[_SLEEPING] = 0
        return True

    def close(self) -> None:
        """Removes it; who has it mapped sees that, and the memory is free at once. Repeatable."""
        self._words[_STATE] = CLOSED
        self._end()

    def leave_to_the_saver(self) -> None:
        """If this process ends without closing it, the saver removes it: when everything is saved."""
        self._end.atexit = False

    def leave_to_the_parent(self) -> None:
        """In a forked child: it neither writes nor holds the lock."""
        self.forked = True
        if self._end.detach() is not None:  # else its descriptor may be somebody else's by now
            with suppress(OSError):
                os.close(self._fd)


class RingReader(_Shared):
    """Somebody else's ring, for reading; `open` looks whether it is what it should be."""

    @classmethod
    def open(cls, name: str, slots: int, nbytes: int) -> RingReader:
        """The ring of that name on this host. Raises `RingUnreachableError`, saying why, also for a
        file that is not this user's, or not of the size that it should be."""
        if not RING_NAME.fullmatch(name):
            raise RingUnreachableError(f"{name[:80]!r} is not how a ring is called")
        path = os.path.join(_directory(), name)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise RingUnreachableError("the detector's ring is not on this host, or gone") from None
        except OSError as error:
            raise RingUnreachableError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            return cls(_mapped(fd, path, slots, nbytes, mmap.PROT_READ), slots, nbytes)
        finally:
            os.close(fd)

    @classmethod
    def inherited(cls, fd: int, slots: int, nbytes: int) -> RingReader:
        """The ring behind a descriptor that the writer passed on; it can be told what was saved."""
        prot = mmap.PROT_READ | mmap.PROT_WRITE
        return cls(_mapped(fd, "the ring", slots, nbytes, prot), slots, nbytes)

    def tell_saved(self, saved: int) -> None:
        """For who saves the frames: so many are saved."""
        self._words[_SAVED] = saved

    def sleep_until(self, wait: Callable[[], Any], taken: int) -> None:
        """Calls `wait` unless there are more than `taken` frames; the writer wakes who waits."""
        self._words[_SLEEPING] = 1
        self._fence()
        if self.taken == taken:
            wait()
        self._words[_SLEEPING] = 0

    def remove(self, name: str) -> None:
        """For who outlives the writer: the ring goes, for everybody."""
        self._words[_STATE] = CLOSED
        _freed(self._memory)
        with suppress(OSError):
            os.unlink(os.path.join(_directory(), name))


def _native_lock() -> Any:
    """A lock that is an atomic operation, which those are not that gevent puts in its place."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is None:
        return threading.Lock()
    return gevent.get_original("threading", "Lock")()


def leftovers() -> list[str]:
    """The names of rings of this user that are there, in use or not."""
    try:
        return sorted(name for name in os.listdir(_directory()) if RING_NAME.fullmatch(name))
    except OSError:
        return []


def sweep() -> list[str]:
    """Removes rings of this user whose writers are gone; gives their names."""
    return [name for name in leftovers() if _swept(os.path.join(_directory(), name))]


def _directory() -> str:
    return os.environ.get(DIRECTORY_VARIABLE) or DIRECTORY


def _swept(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
            return False
        for _ in range(SWEEP_TRIES):
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.001)
        else:
            return False
        if found.st_size >= PAGE:
            with suppress(OSError, ValueError):
                memory = mmap.mmap(fd, found.st_size)
                memoryview(memory).cast("q")[_STATE] = CLOSED
                _freed(memory)
        with suppress(OSError):
            os.unlink(path)
        return True
    finally:
        os.close(fd)


def _geometry(slots: int, nbytes: int) -> tuple[int, int]:
    """Bytes from slot to slot, and where the first one begins."""
    stride = -(-nbytes // PAGE) * PAGE if nbytes >= PAGE else -(-nbytes // 64) * 64
    return stride, -(-8 * (_MARKS + 2 * slots) // PAGE) * PAGE


def _created(size: int) -> tuple[str, int]:
    """A new file of that size, locked: its name and descriptor."""
    _require_space(size)
    while True:
        name = PREFIX + secrets.token_hex(16)
        path = os.path.join(_directory(), name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise SharedMemoryError(
                f"No shared memory can be made in {_directory()}: {error.strerror}"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # somebody sweeps, and takes it for a leftover
            os.close(fd)
            continue
        if not os.fstat(fd).st_nlink:
            os.close(fd)
            continue
        try:
            reserve_large_pages(fd, size)
            os.posix_fallocate(fd, 0, size)  # now, not as a bus error when a frame comes
        except OSError as error:
            _removed(path, fd)
            raise _no_space(size, error.strerror) from error
        return name, fd


def _require_space(size: int) -> None:
    try:
        found = os.statvfs(_directory())
    except OSError as error:
        raise SharedMemoryError(
            f"There is no shared memory on this machine: {_directory()}: {error.strerror}"
        ) from error
    if found.f_blocks and size > found.f_bavail * found.f_frsize:
        raise _no_space(size, f"{found.f_bavail * found.f_frsize} bytes are free")


def _no_space(size: int, why: str | None) -> SharedMemoryError:
    return SharedMemoryError(
        f"A ring of {size} bytes does not fit into {_directory()}: {why}. Take fewer slots, or have "
        f"its limit raised (mount -o remount,size=… {_directory()}; docker run --shm-size=…)"
    )


def _mapped(fd: int, path: str, slots: int, nbytes: int, prot: int) -> mmap.mmap:
    """The file's memory, if it is such a ring."""
    stride, begin = _geometry(slots, nbytes)
    size = begin + slots * stride
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        raise RingUnreachableError(f"{path} is no file of this user")
    if found.st_mode & 0o077:
        raise RingUnreachableError(f"{path} is open to others, which no ring is")
    if found.st_size != size:
        raise RingUnreachableError(
            f"{path} has {found.st_size} bytes, a ring of {slots} such frames has {size}"
        )
    try:
        memory = mmap.mmap(fd, size, flags=_flags(size), prot=prot)
    except (OSError, ValueError) as error:
        raise RingUnreachableError(f"{path} cannot be mapped: {error}") from error
    head = _HEAD.unpack_from(memory)
    if head[:2] != (MAGIC, FORMAT) or head[3:] != (slots, nbytes, stride, begin):
        raise RingUnreachableError(f"{path} is not the ring of this stream")
    return memory


def _flags(size: int) -> int:
    """How memory of that size is mapped."""
    return mmap.MAP_SHARED | (mmap.MAP_POPULATE if size <= POPULATED_NBYTES else 0)


def _freed(memory: mmap.mmap) -> None:
    """Gives the frames' memory back, whoever has them mapped. They read zeros from now on; so the marks
    go first, and a copy that has just been made does not count."""
    words = memoryview(memory).cast("q")
    begin = min(max(words[_BEGIN], PAGE), len(memory))
    marks = words[_MARKS : begin // 8]
    marks[:] = memoryview(bytes(8 * len(marks))).cast("q")
    lock = _native_lock()
    for _ in range(2):  # a fence, see `_Shared`
        lock.acquire()
        lock.release()
    with suppress(OSError, ValueError):
        memory.madvise(mmap.MADV_REMOVE, begin // PAGE * PAGE)


def _removed(path: str, fd: int) -> None:
    with suppress(OSError):
        os.unlink(path)
    with suppress(OSError):
        os.close(fd)


def _end(pid: int, path: str, fd: int, memory: mmap.mmap) -> None:
    """The end of a ring whose writer closes it, forgets it, or comes to its own end."""
    if os.getpid() == pid:
        _freed(memory)
        _removed(path, fd)


_rings: weakref.WeakSet[Ring] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for ring in list(_rings):
        ring.leave_to_the_parent()


os.register_at_fork(after_in_child=_after_fork_in_child)
