"""A file that is at every instant what its last commit made of it, for whoever reads it.

HDF5 changes its own bookkeeping in place, here and there, at times of its own. So it writes through
this file object, which lets new bytes through and holds back every change of old ones:

    bytes     0 ──────────── end of the last commit ─────────────▶
    write     held in memory   │ queued for the disk: nobody refers to it yet
    commit    1. what is queued goes to the disk, what is held into a journal beside the file
              2. then to its place: where chunks are, then how long datasets are, then the root
              3. the journal is emptied

A reader that has the file open meanwhile finds at each of these writes either what was, or more points
than there were: the root group is replaced as a whole (`root`), and nothing that the old one leads to is
moved, removed or used again. The superblock promises a little more than there is, so that a reader may
follow a dataset that grew after it had opened the file.

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
import time
import zlib
from collections.abc import Collection, Iterable, Iterator
from typing import Any, TypeAlias

from blissdata.exceptions import FileWriteError, FileWriteRefusedError
from blissdata.writer.write_queue import PAGE, WriteQueue

__all__ = ["CommittedFile"]

Buffer: TypeAlias = "bytes | bytearray | memoryview"

JOURNAL_MAGIC = b"blissdata journal 1\n"

_HEAD = struct.Struct("<QQQQ")
"""After the magic: inode of the file, where what was committed ends, number of blocks, bytes of all of
them with their heads."""

_BLOCK = struct.Struct("<QQ")
"""Before each block: where it belongs, and how long it is."""

_CHECK = struct.Struct("<I")
"""At the end: CRC 32 of all before."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SUPERBLOCK_SIZE = 48
_END_OF_FILE = slice(28, 36)
_ROOT = slice(36, 44)
_CHECKSUM = slice(44, 48)
"""What superblocks of version 2 and 3 hold, and where (HDF5 File Format Specification, II.A)."""

_OBJECT_HEADERS = (b"OHDR", b"OCHK")
"""How blocks begin that say how long a dataset is (the same, IV.A)."""

LEAST_AHEAD = 1 << 26
MOST_AHEAD = 1 << 30
"""How much more than there is the superblock promises while the file is written [bytes]: the disk has
a hole there, and readers may follow what comes meanwhile."""

LOOK_S = 0.05
"""Between its looks at how long the file is and at what the superblock promises, a reader that opens it is not
kept for longer than that [s]."""

AHEAD = 4
"""So many times what came since the commit before."""


class CommittedFile:
    """One file, open for writing through HDF5 (`h5py.File(committed_file, …)`); `begin` and `resume`
    give one. Used by one thread at a time."""

    def __init__(self, path: str, descriptor: int, journal: _Journal, committed: int) -> None:
        self.path = path
        """Where the file is, or will be after the first commit."""
        self._fd = descriptor
        self._journal = journal
        self._committed = committed
        self._reach = 0
        self._position = 0
        self._queue = WriteQueue(descriptor, _write_all)
        self._pages: dict[int, bytearray] = {}
        self._blocks: dict[int, int] = {}
        self._new_path: str | None = None
        self._abandoned = False
        self._root: int | None = None
        self._shown_root: bytes = b""
        self._ahead = LEAST_AHEAD
        self._can_be_sparse = True
        self._long_since: float | None = None
        self._found_long: int | None = None
        self.has_committed = False
        """True once something was committed."""
        self.trouble: OSError | None = None
        """What the disk refused; HDF5 may tell of it in words of its own."""
        self._cached_nbytes = 0

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

    @property
    def cached_nbytes(self) -> int:
        """How much went through the system's page cache so far [bytes], the journal included."""
        return self._cached_nbytes + self._queue.cached_nbytes

    @property
    def root(self) -> int | None:
        """Address of the group that the next commit makes the root; None: HDF5's own."""
        return self._root

    @root.setter
    def root(self, address: int) -> None:
        self._root = address

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
                head = _superblock(descriptor, path)
                end = journal.end or _end_of(head)
                file = cls(path, descriptor, journal, end)
                file._shown_root = head[_ROOT]
                # HDF5 shall go on where the points end.
                file._hold(0, memoryview(_with(head, end, head[_ROOT])))
                file._blocks.clear()
                return file
            except BaseException:
                os.close(descriptor)
                raise
        except BaseException:
            journal.close()
            raise

    # ------------------------------------------------------------------------------ what HDF5 calls

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        if whence == os.SEEK_SET:
            self._position = offset
        elif whence == os.SEEK_CUR:
            self._position += offset
        else:
            length = 0 if self._fd < 0 else max(os.fstat(self._fd).st_size, self._reach)
            self._position = offset + length
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
        found = len(view) if self._fd < 0 else 0
        while found < len(view):
            n = os.preadv(self._fd, [view[found:]], start + found)
            if not n:
                view[found:] = bytes(len(view) - found)
                break
            found += n
        self._queue.overlay(start, view)
        if self._pages and start < self._committed:
            for page, low, high in _pieces(start, min(start + len(view), self._committed)):
                held = self._pages.get(page)
                if held is not None:
                    at = page * PAGE
                    view[at + low - start : at + high - start] = held[low:high]
        self._position += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        """New bytes go to the disk, later; changes of committed ones are held until `commit`. Does not wait."""
        view = memoryview(data).cast("B")
        start, length = self._position, len(view)
        self._position += length
        if self._abandoned:
            return length
        held = min(max(self._committed - start, 0), length)
        if held:
            self._hold(start, view[:held])
        if held < length:
            is_first = self._new_path is None and not self.has_committed
            if is_first and self._long_since is None:
                self._make_long()
            self._queue.put(start + held, view[held:])
            self._reach = max(self._reach, start + length)
        return length

    def _make_long(self) -> None:
        """Makes a file that was there already as long as the first commit will promise that it is."""
        self._long_since = time.monotonic()
        self._found_long = os.fstat(self._fd).st_size
        try:
            os.ftruncate(self._fd, max(self._found_long, self._committed + 3 * self._ahead))
        except OSError:  # a disk without holes, or a limit
            self._can_be_sparse = False

    def make_room(self) -> None:
        """Waits while too much waits for the disk; raises what went wrong. Not to be called by HDF5."""
        if not self._abandoned:
            with self._noting_trouble():
                self._queue.make_room()

    @contextlib.contextmanager
    def _noting_trouble(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.trouble = error
            raise

    def truncate(self, size: int | None = None) -> int:
        """Makes the file as long as that, but never shorter than it was committed."""
        wanted = max(self._position if size is None else size, self._reach)
        if not self._abandoned and wanted > os.fstat(self._fd).st_size:
            self._lengthen(wanted)
        return wanted

    def _lengthen(self, size: int) -> None:
        with self._noting_trouble():
            os.ftruncate(self._fd, size)

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
        self._cached_nbytes += len(view)
        with self._noting_trouble():
            _write_all(self._fd, start, view)

    # ------------------------------------------------------------------------------ committing

    def commit(self, invisible: Collection[int] = (), *, final: bool = False) -> None:
        """Makes everything that was written what readers see. Whoever opened the file before goes on
        seeing what was there.

        `invisible` are the offsets of blocks that may be changed at once, for readers do not look at
        what changes in them; `final` promises no more than there is. Raises `OSError`; the file then
        stays as it was, and `resume` finishes what was begun."""
        if self._abandoned:
            raise FileWriteError(f"{self.path} was given up; nothing more is written to it")
        with self._noting_trouble():
            self._queue.drain()
        self._found_long = None  # from here on, what is new belongs to the file
        blocks = self._held_blocks()
        for start in [start for start in blocks if start in invisible]:
            self._put(start, blocks.pop(start))
        first = bytes(blocks.pop(0, b""))
        if len(first) > _SUPERBLOCK_SIZE:
            blocks[_SUPERBLOCK_SIZE] = first[_SUPERBLOCK_SIZE:]
        head = first[:_SUPERBLOCK_SIZE] or os.pread(self._fd, _SUPERBLOCK_SIZE, 0)
        _require_superblock(head, self.path)
        # One that HDF5 did not write again is the one of the last commit, which promises more than there is.
        said = _end_of(head) if first or not self._committed else 0
        end = max(said, self._committed, self._reach)
        root = head[_ROOT] if self._root is None else self._root.to_bytes(8, "little")
        shown_end = end if final else end + self._choose_ahead(end)
        ordered = sorted(blocks.items(), key=lambda block: (_is_header(block[1]), block[0]))
        new = _with(head, shown_end, root)
        if self._shown_root and self._shown_root != root:
            ordered.insert(0, (0, _with(head, shown_end, self._shown_root)))
            ordered.append((0, new))
        else:
            ordered.insert(0, (0, new))
        if self._new_path is None:
            self._cached_nbytes += self._journal.write(os.fstat(self._fd).st_ino, end, ordered)
        for start, data in ordered:
            self._put(start, data)
        self._journal.empty(end)
        self._journal.needed = not final
        self._pages.clear()
        self._blocks.clear()
        self._committed, self._shown_root, self.has_committed = end, root, True
        # HDF5 is told of the true end, should it ever ask.
        self._hold(0, memoryview(_with(head, end, root)))
        self._blocks.clear()
        if final:
            os.ftruncate(self._fd, end)
        if self._new_path is not None:
            self._appear(self._new_path)

    def _choose_ahead(self, end: int) -> int:
        """How much to promise; the file is made as long."""
        if not self._can_be_sparse:
            self._lengthen(max(end, os.fstat(self._fd).st_size))
            return 0
        self._ahead = min(
            max(AHEAD * (end - self._committed), self._ahead // 2, LEAST_AHEAD), MOST_AHEAD
        )
        # A reader learns how long the file is before it reads what is promised: no more is promised than
        # the file was long at the commit before.
        before = os.fstat(self._fd).st_size
        if self._long_since is not None and not self.has_committed:
            time.sleep(max(0.0, self._long_since + LOOK_S - time.monotonic()))
        try:
            os.ftruncate(self._fd, max(end + 3 * self._ahead, before))
        except OSError:  # a disk without holes, or a limit
            self._can_be_sparse = False
            return self._choose_ahead(end)
        if self._new_path is not None:
            return self._ahead
        return max(0, min(self._ahead, before - end))

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

    def finish(self) -> None:
        """The superblock promises no more than there is from now on; what is not committed is lost."""
        self._queue.forget()
        self._pages.clear()
        self._blocks.clear()
        self.commit(final=True)

    def sync(self) -> None:
        """Waits until the disk has what was committed."""
        if not self._abandoned:
            os.fsync(self._fd)

    def abandon(self) -> None:
        """From now on nothing is written any more: what HDF5 still writes while it closes is lost."""
        self._abandoned = True
        self._queue.forget()
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

    def is_whole(self) -> bool:
        """Whether it is at least as long as it was at the last commit."""
        return os.fstat(self._fd).st_size >= self._committed

    def close(self) -> None:
        """Gives the file free for others; what is not committed is lost. Repeatable."""
        if self._fd < 0:
            return
        self._queue.close()
        if self._found_long is not None:  # no commit was begun
            with contextlib.suppress(OSError):  # it may as well be long
                os.ftruncate(self._fd, self._found_long)
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
        self._inode = 0
        self.end = 0
        """Where what was committed ends; 0: the superblock says so."""
        self.needed = False
        """True if it says more than the file itself."""

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

    def write(self, inode: int, end: int, blocks: Iterable[tuple[int, Buffer]]) -> int:
        """Keeps the changes; they are there completely or not at all. How much that was [bytes]."""
        parts: list[Buffer] = []
        count = 0
        for start, data in blocks:
            parts += [_BLOCK.pack(start, len(data)), data]
            count += 1
        size = sum(map(len, parts))
        parts.insert(0, JOURNAL_MAGIC + _HEAD.pack(inode, end, count, size))
        check = 0
        for part in parts:
            check = zlib.crc32(part, check)
        parts.append(_CHECK.pack(check))
        self._inode = inode
        at = 0
        try:
            for some in _batches(parts):
                joined = b"".join(some)
                _write_all(self._fd, at, joined)
                at += len(joined)
        except BaseException:
            self.empty(self.end)
            raise
        return at

    def empty(self, end: int) -> None:
        """Forgets them; `end` is where what was committed ends now."""
        self.end = end
        content = JOURNAL_MAGIC + _HEAD.pack(self._inode, end, 0, 0)
        with contextlib.suppress(OSError):  # the superblock will do
            os.ftruncate(self._fd, 0)
            _write_all(self._fd, 0, content + _CHECK.pack(zlib.crc32(content)))

    def finish(self, descriptor: int) -> None:
        """Makes the changes that are there completely in the file, and forgets them."""
        self._inode = os.fstat(descriptor).st_ino
        blocks = self._read()
        self.needed = bool(self.end)
        for start, data in blocks:
            _write_all(descriptor, start, data)
        self.empty(self.end)

    def _read(self) -> list[tuple[int, bytes]]:
        size = os.fstat(self._fd).st_size
        head_size = len(JOURNAL_MAGIC) + _HEAD.size
        content = os.pread(self._fd, size, 0)
        if size < head_size + _CHECK.size or not content.startswith(JOURNAL_MAGIC):
            return []
        owner, end, count, nbytes = _HEAD.unpack_from(content, len(JOURNAL_MAGIC))
        stop = head_size + nbytes
        if owner != self._inode or stop + _CHECK.size > len(content):
            return []
        if zlib.crc32(memoryview(content)[:stop]) != _CHECK.unpack_from(content, stop)[0]:
            return []
        found = []
        at = head_size
        for _ in range(count):
            start, length = _BLOCK.unpack_from(content, at)
            at += _BLOCK.size
            found.append((start, content[at : at + length]))
            at += length
        self.end = end
        return found

    def close(self) -> None:
        """Gives it free; removes it, if nothing is left to do."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            if not self.needed and _is_at(self._path, self._fd):
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


def _superblock(descriptor: int, path: str) -> bytes:
    head = os.pread(descriptor, _SUPERBLOCK_SIZE, 0)
    _require_superblock(head, path)
    return head


def _require_superblock(head: bytes, path: str) -> None:
    if len(head) < 48 or head[:8] != _SIGNATURE or head[8] not in (2, 3) or head[9] != 8:
        raise FileWriteRefusedError(
            f"{path} is not an HDF5 file as this writer makes them: it will not change it. Move it away, or "
            "save the scan to another file"
        )


def _end_of(head: bytes) -> int:
    """Where HDF5 says that the file ends."""
    return int.from_bytes(head[_END_OF_FILE], "little")


def _with(head: bytes, end: int, root: bytes) -> bytes:
    """The superblock with that end, and that root."""
    changed = bytearray(head)
    changed[_END_OF_FILE] = end.to_bytes(8, "little")
    changed[_ROOT] = root
    changed[_CHECKSUM] = lookup3(bytes(changed[: _CHECKSUM.start])).to_bytes(4, "little")
    return bytes(changed)


def _is_header(block: Buffer) -> bool:
    return bytes(block[:4]) in _OBJECT_HEADERS


def lookup3(data: bytes) -> int:
    """The checksum of HDF5's metadata: Bob Jenkins' lookup3, `hashlittle`, in the public domain."""
    a = b = c = (0xDEADBEEF + len(data)) & _32
    at = 0
    while len(data) - at > 12:
        x, y, z = struct.unpack_from("<III", data, at)
        a, b, c = _mixed((a + x) & _32, (b + y) & _32, (c + z) & _32)
        at += 12
    rest = data[at:]
    if not rest:
        return c
    x, y, z = struct.unpack("<III", rest.ljust(12, b"\0"))
    return _finally((a + x) & _32, (b + y) & _32, (c + z) & _32)


_32 = 0xFFFFFFFF


def _turned(x: int, k: int) -> int:
    return (x << k | x >> (32 - k)) & _32


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for k in (4, 6, 8, 16, 19, 4):
        a = ((a - c) & _32) ^ _turned(c, k)
        c = (c + b) & _32
        a, b, c = b, c, a
    return a, b, c


def _finally(a: int, b: int, c: int) -> int:
    for k in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turned(b, k)) & _32
        a, b, c = b, c, a
    return b
