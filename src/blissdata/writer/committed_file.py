"""A file that is at every instant what its last commit made of it, for whoever reads it.

HDF5 changes its own bookkeeping in place, here and there, at times of its own. So it writes through
this file object, which lets new bytes through and holds back every change of old ones:

    bytes     0 ──────────── end of the last commit ─────────────▶
    write     held in memory   │ straight to the disk: nobody refers to it yet
    commit    1. what is held goes into a journal beside the file
              2. then to its place; the blocks that make new points visible are the last
              3. the journal is emptied

A program that is killed before 1 is complete leaves the last commit; after it, whoever opens the file
next to write finishes 2. The journal is a hidden file beside the file. Its lock keeps a second writer
away; readers lock nothing, and wait for nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator
from typing import Any, TypeAlias

from blissdata.exceptions import FileWriteError, FileWriteRefusedError

__all__ = ["CommittedFile"]

Buffer: TypeAlias = "bytes | bytearray | memoryview"

PAGE = 4096
"""In such pieces are changes held [bytes]."""

JOURNAL_MAGIC = b"blissdata journal 1\n"

_HEAD = struct.Struct("<QQQ")
"""After the magic: inode of the file, number of blocks, bytes of all of them with their heads."""

_BLOCK = struct.Struct("<QQ")
"""Before each block: where it belongs, and how long it is."""

_CHECK = struct.Struct("<I")
"""At the end: CRC 32 of all before."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_END_OF_FILE = slice(28, 36)
"""Where superblocks of version 2 and 3 say where the file ends (HDF5 File Format Specification, II.A)."""


class CommittedFile:
    """One file, open for writing through HDF5 (`h5py.File(committed_file, …)`); `begin` and `resume`
    give one. Used by one thread at a time."""

    def __init__(self, path: str, descriptor: int, journal: _Journal, committed: int) -> None:
        self.path = path
        """Where the file is, or will be after the first commit."""
        self._fd = descriptor
        self._journal = journal
        self._committed = committed
        self._position = 0
        self._pages: dict[int, bytearray] = {}
        self._blocks: dict[int, int] = {}
        self._new_path: str | None = None
        self._abandoned = False
        self.trouble: OSError | None = None
        """What the disk refused; HDF5 may tell of it in words of its own."""
        self.written = 0
        """How much went to the disk so far [bytes], the journal included."""

    # ------------------------------------------------------------------------------ opening

    @classmethod
    def begin(cls, path: str) -> CommittedFile:
        """A file that is not there yet, and appears at its first commit, complete.

        Raises `FileWriteRefusedError` if another writer is about to make it, `FileExistsError` if it
        is there, and other `OSError`s."""
        journal = _Journal.locked(path)
        try:
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, "there is such a file", path)
            new = _beside(path, "new")
            with contextlib.suppress(FileNotFoundError):  # left by a writer that was killed
                os.unlink(new)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(new, flags, 0o666)
        except BaseException:
            journal.close()
            raise
        file = cls(path, descriptor, journal, 0)
        file._new_path = new
        return file

    @classmethod
    def resume(cls, path: str) -> CommittedFile:
        """A file that is there, as its last commit left it. What a writer that was killed had begun
        to commit is finished first.

        Raises `FileWriteRefusedError` if another writer has it, or if it is not of the kind that
        `begin` makes, and other `OSError`s."""
        journal = _Journal.locked(path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise FileWriteRefusedError(f"{path} is no regular file")
                _lock_shared(descriptor, path)
                journal.finish(descriptor)
                return cls(path, descriptor, journal, _end_of_file(descriptor, path))
            except BaseException:
                os.close(descriptor)
                raise
        except BaseException:
            journal.close()
            raise

    # ------------------------------------------------------------------------------ what HDF5 calls

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        start = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: self._position,
            os.SEEK_END: os.fstat(self._fd).st_size,
        }
        self._position = start[whence] + offset
        return self._position

    def tell(self) -> int:
        """As of any file."""
        return self._position

    def read(self, size: int) -> bytes:
        """As `readinto`; h5py knows file objects by this method."""
        found = bytearray(size)
        self.readinto(found)
        return bytes(found)

    def readinto(self, into: Any) -> int:
        """What was written, committed or not; 0 behind the end."""
        start, view = self._position, memoryview(into).cast("B")
        found = 0
        while found < len(view):
            n = os.preadv(self._fd, [view[found:]], start + found)
            if not n:
                view[found:] = bytes(len(view) - found)
                break
            found += n
        if self._pages and start < self._committed:
            for page, low, high in _pieces(start, min(start + len(view), self._committed)):
                held = self._pages.get(page)
                if held is not None:
                    at = page * PAGE
                    view[at + low - start : at + high - start] = held[low:high]
        self._position += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        """New bytes go to the disk, changes of committed ones are held until `commit`."""
        view = memoryview(data).cast("B")
        start, length = self._position, len(view)
        self._position += length
        if self._abandoned:
            return length
        held = min(max(self._committed - start, 0), length)
        if held:
            self._hold(start, view[:held])
        if held < length:
            self._put(start + held, view[held:])
        return length

    def truncate(self, size: int | None = None) -> int:
        """Makes the file as long as that, but never shorter than it was committed."""
        wanted = self._position if size is None else size
        if not self._abandoned and wanted > os.fstat(self._fd).st_size:
            os.ftruncate(self._fd, wanted)
        return wanted

    def flush(self) -> None:
        """Nothing: see `commit`."""

    def _hold(self, start: int, view: memoryview) -> None:
        for page, low, high in _pieces(start, start + len(view)):
            held = self._pages.get(page)
            if held is None:
                held = bytearray(PAGE)
                os.preadv(self._fd, [held], page * PAGE)
                self._pages[page] = held
            at = page * PAGE
            held[low:high] = view[at + low - start : at + high - start]
        self._blocks[start] = max(len(view), self._blocks.get(start, 0))

    def _put(self, start: int, view: Buffer) -> None:
        self.written += len(view)
        try:
            _write_all(self._fd, start, view)
        except OSError as error:
            self.trouble = error
            raise

    # ------------------------------------------------------------------------------ committing

    def commit(self, invisible: Collection[int] = (), last: Collection[int] = ()) -> None:
        """Makes everything that was written what readers see. Whoever opened the file before goes on
        seeing what was there.

        `invisible` are the offsets of blocks that may be changed at once, for readers do not look at
        what changes in them; `last` those of blocks that make others visible. Raises `OSError`; the
        file then stays as it was, and `resume` finishes what was begun."""
        if self._abandoned:
            raise FileWriteError(f"{self.path} was given up; nothing more is written to it")
        blocks = self._held_blocks()
        early = [start for start in blocks if start in invisible]
        for start in early:
            self._put(start, blocks.pop(start))
        if blocks:
            ordered = sorted(blocks.items(), key=lambda block: (block[0] in last, block[0]))
            if self._new_path is None:
                self.written += self._journal.write(os.fstat(self._fd).st_ino, ordered)
            for start, data in ordered:
                self._put(start, data)
            if self._new_path is None:
                self._journal.empty()
        self._pages.clear()
        self._blocks.clear()
        self._committed = max(self._committed, _end_of_file(self._fd, self.path))
        if self._new_path is not None:
            self._appear(self._new_path)

    def _held_blocks(self) -> dict[int, Buffer]:
        """What is held, as HDF5 wrote it: blocks by their offsets, none inside another."""
        found: dict[int, Buffer] = {}
        end = -1
        for start, length in sorted(self._blocks.items()):
            if start + length <= end:
                continue  # inside the one before, which has its bytes
            end = start + length
            data = bytearray(length)
            for page, low, high in _pieces(start, end):
                at = page * PAGE
                data[at + low - start : at + high - start] = self._pages[page][low:high]
            found[start] = data
        return found

    def _appear(self, new: str) -> None:
        try:
            os.link(new, self.path, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
            os.rename(new, self.path)
        else:
            os.unlink(new)
        self._new_path = None
        _lock_shared(self._fd, self.path)

    def sync(self) -> None:
        """Waits until the disk has what was committed."""
        if not self._abandoned:
            os.fsync(self._fd)

    def abandon(self) -> None:
        """From now on nothing is written any more: what HDF5 still writes while it closes is lost."""
        self._abandoned = True
        self._pages.clear()
        self._blocks.clear()

    def is_there(self) -> bool:
        """Whether the file at that path is still this one."""
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return self._new_path is not None
        mine = os.fstat(self._fd)
        return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)

    def close(self) -> None:
        """Gives the file free for others; what is not committed is lost. Repeatable."""
        if self._fd < 0:
            return
        if not self._abandoned and self._new_path is None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._committed)
        os.close(self._fd)
        self._fd = -1
        if self._new_path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._new_path)
        self._journal.close()


class _Journal:
    """The hidden file beside a file: its lock, and changes that are about to be made."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._fd = descriptor

    @classmethod
    def locked(cls, path: str) -> _Journal:
        """The one of the file at that path, which no other writer has now. Raises
        `FileWriteRefusedError` if one has it."""
        journal = _beside(path, "journal")
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(journal, flags, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(journal, descriptor):
                    return cls(journal, descriptor)
            except BlockingIOError as error:
                os.close(descriptor)
                raise FileWriteRefusedError(
                    f"Another writer is writing {path}: it holds {journal}"
                ) from error
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # it was removed just now by the one that had it

    def write(self, inode: int, blocks: Iterable[tuple[int, Buffer]]) -> int:
        """Keeps the changes; they are there completely or not at all. How much that was [bytes]."""
        parts: list[Buffer] = []
        count = 0
        for start, data in blocks:
            parts += [_BLOCK.pack(start, len(data)), data]
            count += 1
        size = sum(map(len, parts))
        parts.insert(0, JOURNAL_MAGIC + _HEAD.pack(inode, count, size))
        check = 0
        for part in parts:
            check = zlib.crc32(part, check)
        parts.append(_CHECK.pack(check))
        at = 0
        try:
            for some in _batches(parts):
                joined = b"".join(some)
                _write_all(self._fd, at, joined)
                at += len(joined)
        except BaseException:
            self.empty()
            raise
        return at

    def empty(self) -> None:
        """Forgets them."""
        os.ftruncate(self._fd, 0)

    def finish(self, descriptor: int) -> None:
        """Makes the changes that are there completely in the file, and forgets them."""
        for start, data in self._read(os.fstat(descriptor).st_ino):
            _write_all(descriptor, start, data)
        self.empty()

    def _read(self, inode: int) -> Iterator[tuple[int, bytes]]:
        size = os.fstat(self._fd).st_size
        head_size = len(JOURNAL_MAGIC) + _HEAD.size
        if size < head_size + _CHECK.size:
            return
        content = os.pread(self._fd, size, 0)
        if not content.startswith(JOURNAL_MAGIC):
            return
        owner, count, nbytes = _HEAD.unpack_from(content, len(JOURNAL_MAGIC))
        end = head_size + nbytes
        if owner != inode or end + _CHECK.size > len(content):
            return
        if zlib.crc32(memoryview(content)[:end]) != _CHECK.unpack_from(content, end)[0]:
            return
        at = head_size
        for _ in range(count):
            start, length = _BLOCK.unpack_from(content, at)
            at += _BLOCK.size
            yield start, content[at : at + length]
            at += length

    def close(self) -> None:
        """Gives it free; removes it, if nothing is left to do."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            if not os.fstat(self._fd).st_size and _is_at(self._path, self._fd):
                os.unlink(self._path)
        os.close(self._fd)
        self._fd = -1


# ---------------------------------------------------------------------------------- small rules


def _beside(path: str, what: str) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.blissdata-{what}")


def _pieces(start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """The pages of a range: number, and where in the page it begins and ends."""
    for page in range(start // PAGE, -(-stop // PAGE)):
        at = page * PAGE
        yield page, max(start - at, 0), min(stop - at, PAGE)


def _batches(parts: list[Buffer], nbytes: int = 1 << 24) -> Iterator[list[Buffer]]:
    some: list[Buffer] = []
    size = 0
    for part in parts:
        some.append(part)
        size += len(part)
        if size >= nbytes:
            yield some
            some, size = [], 0
    yield some


def _write_all(descriptor: int, start: int, data: Buffer) -> None:
    view = memoryview(data)
    while len(view):
        n = os.pwrite(descriptor, view, start)
        view, start = view[n:], start + n


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock_shared(descriptor: int, path: str) -> None:
    """As HDF5's readers lock: they may all read, and HDF5 lets nobody open the file for writing."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileWriteRefusedError(
            f"Another program has {path} open for writing, and has locked it"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.EINVAL):  # no locks on that disk
            raise


def _end_of_file(descriptor: int, path: str) -> int:
    """Where HDF5 says that the file ends."""
    head = os.pread(descriptor, 48, 0)
    if len(head) < 48 or head[:8] != _SIGNATURE or head[8] not in (2, 3) or head[9] != 8:
        raise FileWriteRefusedError(
            f"{path} is not an HDF5 file as this writer makes them: it will not change it"
        )
    return int.from_bytes(head[_END_OF_FILE], "little")
