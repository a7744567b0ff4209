"""The file of some scans, as HDF5: the calls of h5py that carry out a plan.

    NexusFile      one file, open for writing; opened again it goes on where its last commit ended
     └ Entry       one scan in it: items as its plan has them, points appended, `end_time` last

What readers see is what the last `commit` made of it; see `writer.committed_file`. Besides the layout
the file holds marks, attributes whose names begin with `blissdata_`: of the root, that this writer began
it; of an entry, which scan it is of, how far it is, and which points are missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from math import prod
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import h5py
import numpy as np

from blissdata.checked_hdf5 import COMMITTED_MARK
from blissdata.exceptions import (
    DataFileError,
    FileWriteError,
    FileWriteRefusedError,
    MissingExtraError,
)
from blissdata.h5map.mistakes import Mistake
from blissdata.writer.committed_file import CommittedFile
from blissdata.writer.plan import (
    Compression,
    ExternalLinkStep,
    GroupStep,
    LinkStep,
    Pace,
    Plan,
    Points,
    RawStep,
    Step,
    Storage,
    StreamStep,
    ValueStep,
    VirtualStep,
    storage_of,
)

if TYPE_CHECKING:
    from blissdata.data_roots import DataRoots
    from blissdata.h5map.hdf5_items import SpaceSelection
    from blissdata.writer.images import ImageSource

__all__ = [
    "MARK",
    "MARKS",
    "MISSING_MARK",
    "SCAN_MARK",
    "Entry",
    "EntryState",
    "NexusFile",
    "stored_as",
]

MARKS = "blissdata_"
"""The names of all marks begin so."""

MARK = COMMITTED_MARK
"""Attribute of the root: this writer began the file; its value is the version of these rules."""

SCAN_MARK = "blissdata_scan"
"""Attribute of an entry: key of its scan."""

STATE_MARK = "blissdata_state"
"""Attribute of an entry: an `EntryState`."""

MISSING_MARK = "blissdata_missing"
"""Attribute of an entry in which points are missing: JSON, for paths of datasets the ranges `[start, stop]`
(exclusive) for which fill values stand."""

EntryState: TypeAlias = Literal["RUNNING", "SUCCEEDED", "FAILED"]

ROOM_NBYTES = 64
"""Room in the header of a new dataset for what HDF5 adds [bytes]."""

LIBVER = ("v110", "v110")
"""The format: its index of chunks grows without moving what is there, and all metadata carry checksums."""


class NexusFile:
    """One HDF5 file below the roots, which scans share: see `use`.

    Raises `FileWriteRefusedError` for a path that may not be written: relative, outside the roots, a
    file that this writer did not begin, one that somebody else writes; other `OSError`s as they come."""

    def __init__(self, path: str, roots: DataRoots, compression: Compression = "auto") -> None:
        self.path = path
        """As the scan names it."""
        self.roots = roots
        """Below which it is, and whatever it points at."""
        self._lock = threading.RLock()
        self._broken = ""
        self._compression: Compression = compression
        self.real_path = _writable(roots, path)
        """Where it is."""
        self.is_new = not os.path.lexists(self.real_path)
        """True if it was not there before."""
        self._disk, self._file = self._begin() if self.is_new else self._resume()
        self._growing: set[_Growing] = set()
        self._entries: dict[str, h5py.Group] = {name: self._file[name] for name in self._file}
        self._scans = {
            name: group.attrs.get(SCAN_MARK, "") for name, group in self._entries.items()
        }
        self._root: h5py.Group = self._file["/"]
        self._replaced: list[h5py.Group] = []
        self._is_rebuilt = self.is_new
        self._is_closed = False

    def _begin(self) -> tuple[CommittedFile, h5py.File]:
        os.makedirs(os.path.dirname(self.real_path), exist_ok=True)
        disk = CommittedFile.begin(self.real_path)
        try:
            file = h5py.File(disk, "w", libver=LIBVER, fs_strategy="none", track_order=True)
            file.attrs["NX_class"] = "NXroot"
            file.attrs["creator"] = f"blissdata {metadata.version('blissdata')}"
            file.attrs[MARK] = 1
        except BaseException:
            disk.abandon()
            disk.close()
            raise
        return disk, file

    def _resume(self) -> tuple[CommittedFile, h5py.File]:
        try:
            disk = CommittedFile.resume(self.real_path)
        except FileWriteRefusedError as error:
            raise FileWriteRefusedError(f"{self.path} stays as it is: {error}") from error
        try:
            file = h5py.File(disk, "r+", libver=LIBVER)
            if MARK not in file.attrs:
                file.close()
                raise FileWriteRefusedError(
                    f"{self.path} stays as it is: this writer did not begin it. Move it away, or save "
                    "the scan to another file"
                )
        except BaseException:
            disk.abandon()
            disk.close()
            raise
        return disk, file

    @contextlib.contextmanager
    def use(self) -> Iterator[NexusFile]:
        """Nobody else uses the file meanwhile. What the disk refuses breaks it: it then stays as its last
        commit left it, and every further use raises `FileWriteError`."""
        with self._lock:
            if self._broken:
                raise FileWriteError(self._broken)
            try:
                yield self
            except FileWriteRefusedError:
                raise
            except Exception as error:
                if not self.is_refused(error):
                    raise
                why = self._disk.trouble or error
                self._broken = f"{self.path} cannot be written: {getattr(why, 'strerror', why)}"
                raise FileWriteError(self._broken) from error

    @property
    def file(self) -> h5py.File:
        """The file for h5py."""
        return self._file

    @property
    def cached_nbytes(self) -> int:
        """How much went through the system's page cache [bytes]."""
        return self._disk.cached_nbytes

    def entry(self, name: str, scan: str, streams: Mapping[str, Points], pace: Pace) -> Entry:
        """The entry of that scan, new or as it was left; `streams` are what the scan's streams are
        in a file. Raises `FileWriteRefusedError` if the name is another scan's."""
        found = self._entries.get(name)
        owner = scan if found is None else found.attrs.get(SCAN_MARK)
        if owner != scan:
            raise FileWriteRefusedError(
                f"{self.path}::/{name} stays as it is: it is of "
                f"{'nobody knows which scan' if owner is None else f'scan {owner}'}. Once the file is moved "
                "away, this scan begins a new one"
            )
        return Entry(self, name, scan, found, streams, pace, self._compression)

    def state_of(self, name: str, scan: str) -> str | None:
        """How far the entry of that scan is; None if there is none."""
        found = self._entries.get(name)
        if found is None or found.attrs.get(SCAN_MARK) != scan:
            return None
        return str(found.attrs.get(STATE_MARK))

    def new_group(self) -> h5py.Group:
        """A group that is nowhere in the file yet."""
        return self._file.create_group(None, track_order=True)

    def put(self, name: str, group: h5py.Group, scan: str) -> None:
        """The group is the entry of that name, and of that scan, from the next commit on."""
        if name in self._entries:
            self._replaced.append(self._entries[name])
        self._entries[name] = group
        self._scans[name] = scan
        self._is_rebuilt = True

    def _rebuild(self) -> None:
        """Makes the root anew: readers have either the one or the other."""
        root = self.new_group()
        for name in self._root.attrs:
            if name != "default":
                _copy_attribute(self._root, root, name)
        # A file that was killed and gone on with has its entries in the same order as any other.
        names = sorted(self._entries, key=lambda name: _age(self._scans[name]))
        if names:
            newest = self._scans[names[-1]]
            first = next(name for name in names if self._scans[name] == newest)
            root.attrs["default"] = first
        for name in names:
            root[name] = self._entries[name]
        # HDF5 removes what nobody can reach any more once it is let go of: readers still can.
        self._replaced.append(self._root)
        self._root = root
        self._disk.root = h5py.h5o.get_info(root.id).addr
        self._is_rebuilt = False

    def require_inside(self, name: str) -> None:
        """Raises `DataFileRefusedError` for a file outside the roots, named as from this one."""
        if name != ".":
            self.roots.place(os.path.join(os.path.dirname(self.real_path), name))

    def is_refused(self, error: Exception) -> bool:
        """True if it is the disk that raised the error."""
        of_the_disk = isinstance(error, OSError) and _is_of_the_disk(error)
        return self._disk.trouble is not None or of_the_disk

    def grew(self, dataset: _Growing) -> None:
        """Remembers that the dataset has points which no commit has made visible."""
        self._growing.add(dataset)

    def make_room(self) -> None:
        """Waits while too much waits for the disk. Raises `OSError`."""
        self._disk.make_room()

    def commit(self, *, final: bool = False) -> None:
        """Makes all changes visible. Raises `OSError`; readers then still see the last commit."""
        if not self._disk.is_there():
            raise FileWriteError(f"{self.path} was removed or replaced while it was written")
        if not self._disk.is_whole():
            self._broken = (
                f"{self.path} was truncated by somebody else while it was written: what it has left "
                "is not touched. Move it away, or bring it back from a copy"
            )
            raise FileWriteError(self._broken)
        if self._is_rebuilt:
            self._rebuild()
        self._file.flush()
        growing = list(self._growing)
        invisible = {one.open_chunk for one in growing if one.open_chunk is not None}
        self._disk.commit(invisible, final=final)
        for one in growing:
            one.committed()
        self._growing.clear()

    def sync(self) -> None:
        """Waits until the disk has what was committed."""
        self._disk.sync()

    def close(self) -> None:
        """Closes it; what is not committed is lost. Repeatable."""
        with self._lock:
            if not (self._broken or self._is_closed) and self._disk.has_committed:
                with contextlib.suppress(OSError):  # it is as the last commit left it
                    self._disk.finish()
            self._is_closed = True
            self._disk.abandon()
            with contextlib.suppress(Exception):  # whatever HDF5 says, nothing of it is written
                self._file.close()
            self._disk.close()


class Entry:
    """One scan in a file, which whoever calls has in use.

    Its groups are never changed: they are made anew, and take over the datasets that there are."""

    def __init__(
        self,
        file: NexusFile,
        name: str,
        scan: str,
        group: h5py.Group | None,
        streams: Mapping[str, Points],
        pace: Pace,
        compression: Compression,
    ) -> None:
        self.name = name
        """Its name."""
        self.is_new = group is None
        """True if there was none of that name before."""
        self._file = file
        self._scan = scan
        self._streams = streams
        self._pace = pace
        self._compression: Compression = compression
        self._growing: dict[str, _Growing] = {}
        self._kinds: dict[tuple[Points, Storage], _Kind] = {}
        self._storages: dict[Points, Storage] = {}
        self._datasets: dict[str, h5py.HLObject] = {} if group is None else _datasets(group, name)
        self._made: dict[str, Step] = {}
        told = None if group is None else group.attrs.get(MISSING_MARK)
        self._missing: dict[str, list[list[int]]] = json.loads(told) if told else {}
        self.is_to_be_made_anew = False
        """True if points are missing of which the entry does not tell yet: `carry_out` does."""

    # ------------------------------------------------------------------------------ items

    def carry_out(
        self, plan: Plan, *, later: Iterable[str] = (), state: EntryState = "RUNNING"
    ) -> list[Mistake]:
        """Makes the entry what the plan asks for, but for the items at the paths `later`, and marks how
        far it is. What cannot be made is left out and told of; trouble with the disk is raised."""
        mistakes: list[Mistake] = []
        left_out = set(later)
        top = self._file.new_group()
        top.attrs[SCAN_MARK] = self._scan
        top.attrs[STATE_MARK] = state
        if self._missing:
            top.attrs[MISSING_MARK] = json.dumps(self._missing)
        self.is_to_be_made_anew = False
        groups = {f"/{self.name}": top}
        for step in plan.steps:
            parent, _, name = step.path.rpartition("/")
            if step.path in left_out or (parent and parent not in groups):
                continue
            try:
                self._make(step, groups.get(parent), name, groups)
            except _OF_ITEMS as error:
                if not isinstance(error, DataFileError) and self._file.is_refused(error):
                    raise
                mistakes.append(Mistake(step.path, _told(error)))
        self._file.put(self.name, top, self._scan)
        return mistakes

    def _make(
        self, step: Step, owner: h5py.Group | None, name: str, groups: dict[str, h5py.Group]
    ) -> None:
        item: Any
        match step:
            case GroupStep():
                if owner is not None:
                    groups[step.path] = owner.create_group(name, track_order=True)
                for attribute, value in step.attributes.items():
                    _set_attribute(groups[step.path], attribute, value)
                return
            case LinkStep():
                item = h5py.SoftLink(step.target)
            case ExternalLinkStep():
                self._file.require_inside(step.file)
                item = h5py.ExternalLink(step.file, step.target)
            case _:
                item = self._dataset(step)
        if item is None or owner is None:
            return
        if isinstance(item, h5py.HLObject):
            _link(owner, name, item)
        else:
            owner[name] = item

    def _dataset(self, step: ValueStep | StreamStep | RawStep | VirtualStep) -> Any:
        there = self._datasets.get(step.path)
        if isinstance(step, StreamStep):
            dataset = self._stream_dataset(step, there)
        elif there is not None and self._is_as_planned(step, there):
            dataset = there
        elif isinstance(step, ValueStep):
            dataset = self._file.file.create_dataset(None, data=step.value, track_order=True)
        elif isinstance(step, RawStep):
            dataset = self._raw_dataset(step)
        else:
            dataset = self._virtual_dataset(step)
        if dataset is not None:
            made = self._made.get(step.path) if dataset is there else None
            is_finished = not step.attributes and type(dataset) is _Alike and dataset is not there
            if not is_finished and (made is None or not _equal_attributes(made, step)):
                _set_attributes(dataset, step.attributes, is_new=dataset is not there)
            self._datasets[step.path] = dataset
            self._made[step.path] = step
        return dataset

    def _is_as_planned(self, step: ValueStep | RawStep | VirtualStep, there: h5py.HLObject) -> bool:
        if isinstance(step, ValueStep):
            return _same(there, step.value)
        made = self._made.get(step.path)
        return type(made) is type(step) and replace(made, attributes=step.attributes) == step

    def _stream_dataset(self, step: StreamStep, there: Any) -> Any:
        points = self._streams.get(step.stream)
        if points is None:  # nothing is known of it before it has ended
            return there
        if step.path in self._growing:
            return there
        if there is None or there.chunks is None:
            storage = self._storages.get(points)
            if storage is None:
                storage = storage_of(points, self._pace, self._compression)
                self._storages[points] = storage
            there = self._new_dataset(points, storage)
            kind = self._kinds[points, storage]
            self._growing[step.path] = _Growing(there, kind.dtype, kind.shape, points, storage)
        else:
            self._growing[step.path] = _Growing(
                there, there.dtype, there.shape, points, _storage_found(there)
            )
        return there

    def _new_dataset(self, points: Points, storage: Storage | None = None) -> h5py.HLObject:
        storage = storage or storage_of(points, self._pace, self._compression)
        kind = self._kinds.get((points, storage))
        if kind is not None:
            return kind.another(self._file.file)
        dtype, inner = stored_as(points)
        # A fixed dimension of 0 takes no chunk.
        maxshape = (None, *(n or None for n in inner))
        made = self._file.file.create_dataset(
            None,
            shape=(0, *inner),
            maxshape=maxshape,
            dtype=dtype,
            chunks=storage.chunks,
            track_order=True,
            **_filters(storage.compression),
        )
        self._kinds[points, storage] = _Kind(made)
        return made

    def _raw_dataset(self, step: RawStep) -> h5py.Dataset:
        for file, _, _ in step.files:
            self._file.require_inside(file)
        external = [
            (file, offset, h5py.h5f.UNLIMITED if size is None else size)
            for file, offset, size in step.files
        ]
        return self._file.file.create_dataset(
            None, step.shape, step.dtype, external=external, track_order=True
        )

    def _virtual_dataset(self, step: VirtualStep) -> h5py.Dataset:
        for source in step.sources:
            self._file.require_inside(source.src_file)
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        for source in step.sources:
            creation.set_virtual(
                _space(source.vspace, step.shape),
                source.src_file.encode(),
                source.src_dataset.encode(),
                _space(source.src_space, None),
            )
        return _new_virtual(self._file.file, step.shape, step.dtype, creation)

    def images(self, path: str, points: Points, sources: Sequence[ImageSource]) -> None:
        """Puts the dataset at that path together of images that a detector saved, in files inside the
        roots."""
        if not sources:
            self._datasets[path] = self._new_dataset(points)
            return
        shape = (sum(number for _, _, number in sources), *points.shape)
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        at = 0
        for file, dataset, number in sources:
            ours = h5py.h5s.create_simple(shape)
            ours.select_hyperslab((at, *(0 for _ in points.shape)), (number, *points.shape))
            theirs = h5py.h5s.create_simple((number, *points.shape))
            creation.set_virtual(ours, file.encode(), dataset.encode(), theirs)
            at += number
        self._datasets[path] = _new_virtual(self._file.file, shape, points.dtype, creation)

    # ------------------------------------------------------------------------------ points

    @property
    def missing(self) -> Mapping[str, Sequence[Sequence[int]]]:
        """By path of a dataset the ranges `[start, stop]` (exclusive) for which fill values stand, also those
        of a writer before this one."""
        return self._missing

    def lengths(self) -> dict[str, int]:
        """How many points the growing datasets have, by path."""
        return {path: one.length for path, one in self._growing.items()}

    def length(self, path: str) -> int | None:
        """How many points the dataset at that path has; None if there is none that grows."""
        found = self._growing.get(path)
        return None if found is None else found.length

    def append(self, path: str, blocks: Sequence[Any]) -> None:
        """Adds points to the dataset at that path: arrays, or lists for text and points that vary in
        shape."""
        dataset = self._growing[path]
        self._file.make_room()
        dataset.append(blocks)
        self._file.grew(dataset)

    def skip(self, path: str, number: int) -> None:
        """Leaves out so many points, which nobody has any more: fill values stand for them."""
        dataset = self._growing[path]
        self._missing.setdefault(path, []).append([dataset.length, dataset.length + number])
        self.is_to_be_made_anew = True
        dataset.skip(number)
        self._file.grew(dataset)


class _Alike(h5py.HLObject):  # type: ignore[misc]
    """A dataset that was made like another one; it costs less than what h5py knows of one."""


class _Kind:
    """A new dataset, of which more are made alike, at half of h5py's price for the first one."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.dtype: np.dtype[Any] = dataset.dtype
        self.shape: tuple[int, ...] = dataset.shape
        self._type = dataset.id.get_type()
        self._space = dataset.id.get_space()
        self._creation = dataset.id.get_create_plist()
        self._class = _Alike if _has_room(dataset) else h5py.Dataset

    def another(self, file: h5py.File) -> h5py.HLObject:
        """One more, which is nowhere in the file yet. An `_Alike` needs no more room in its header."""
        found = h5py.h5d.create(file.id, None, self._type, self._space, self._creation)
        return self._class(found)


class _Growing:
    """A dataset that points are added to."""

    def __init__(
        self,
        dataset: h5py.HLObject,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        points: Points,
        storage: Storage,
    ) -> None:
        self._dataset = dataset
        self._points = points
        self._id = dataset.id
        self._rows = storage.chunks[0]
        self._inner = shape[1:]
        self._dtype = dtype
        self._numbers = points.dtype.kind in "biufc" and not points.varies
        whole = storage.chunks[1:] == self._inner and 0 not in self._inner
        self._direct = self._numbers and storage.compression is None and whole
        self.length: int = shape[0]
        """How many points it has."""
        self.open_chunk: int | None = None
        """Offset of the chunk of which readers see only the first points."""
        self._number_of_open: int | None = None
        self.committed()

    def append(self, blocks: Sequence[Any]) -> None:
        """Adds points."""
        if not self._numbers:
            self._append_objects(blocks)
            return
        if self._rows == 1:  # large points: nothing is won by putting them together
            for block in blocks:
                self._append_numbers(block)
        else:
            self._append_numbers(blocks[0] if len(blocks) == 1 else np.concatenate(blocks))

    def _append_numbers(self, block: Any) -> None:
        start, stop = self.length, self.length + len(block)
        if stop == start:
            return
        self._id.set_extent((stop, *self._inner))
        at = start
        if self._direct:
            # Whole chunks go to the file as they are.
            head = min(-start % self._rows, len(block))
            whole = (len(block) - head) // self._rows
            if head:
                self._write(start, block[:head])
            at = start + head
            if whole:
                block = np.ascontiguousarray(block, self._dtype)
                zeros = (0,) * (block.ndim - 1)
                for i in range(whole):
                    low = head + i * self._rows
                    self._id.write_direct_chunk((at, *zeros), block[low : low + self._rows])
                    at += self._rows
        if at < stop:
            self._write(at, block[at - start :])
        self.length = stop

    def _write(self, start: int, block: Any) -> None:
        """Points from `start` on; what h5py's own indexing does, at a third of its price, and it takes
        arrays of one length for one array."""
        there = self._id.get_space()
        zeros = (0,) * len(self._inner)
        there.select_hyperslab((start, *zeros), (len(block), *self._inner))
        here = h5py.h5s.create_simple((len(block), *self._inner))
        stored = np.ascontiguousarray(block, self._dtype)
        self._id.write(here, there, stored, h5py.h5t.py_create(stored.dtype))

    def _append_objects(self, blocks: Sequence[Any]) -> None:
        points = [point for block in blocks for point in block]
        if not points:
            return
        stored = np.empty(len(points), self._dtype)
        if self._points.varies and len(self._points.shape) > 1:
            for i, point in enumerate(points):
                stored[i] = (point.shape, np.ravel(point))
        else:
            for i, point in enumerate(points):
                stored[i] = point
        start, stop = self.length, self.length + len(points)
        self._id.set_extent((stop,))
        self._write(start, stored)
        self.length = stop

    def skip(self, number: int) -> None:
        """Makes it longer by points that are fill values."""
        self.length += number
        self._id.set_extent((self.length, *self._inner))

    def committed(self) -> None:
        """Takes note that readers see all points."""
        number = self.length // self._rows if self._direct and self.length % self._rows else None
        if number == self._number_of_open:
            return
        self._number_of_open = number
        self.open_chunk = None
        if number is not None:
            at = (number * self._rows, *(0 for _ in self._inner))
            self.open_chunk = self._id.get_chunk_info_by_coord(at).byte_offset


# ---------------------------------------------------------------------------------- small rules


def _writable(roots: DataRoots, path: str) -> str:
    try:
        return roots.place(path)
    except DataFileError as error:
        raise FileWriteRefusedError(f"{path} is not written: {error}") from error


def _age(scan: str) -> str:
    """By which scans are sorted as they were created: their keys end with ULIDs."""
    return scan.rstrip("}")[-26:]


def _is_of_the_disk(error: OSError) -> bool:
    """True if the system said so; HDF5's own errors have no number."""
    return error.errno is not None


def _told(error: Exception) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text or type(error).__name__


_OF_ITEMS = (OSError, ValueError, TypeError, KeyError, RuntimeError, OverflowError)
"""What h5py raises where an item cannot be made as it is asked for."""


def _datasets(group: h5py.Group, name: str) -> dict[str, h5py.Dataset]:
    """Every dataset in an entry of that name, by path; links are not followed."""
    found: dict[str, h5py.Dataset] = {}
    waiting = [(f"/{name}", group)]
    while waiting:
        path, item = waiting.pop()
        for child in item:
            if isinstance(item.get(child, getlink=True), h5py.HardLink):
                there = item[child]
                if isinstance(there, h5py.Group):
                    waiting.append((f"{path}/{child}", there))
                elif isinstance(there, h5py.Dataset):
                    found[f"{path}/{child}"] = there
    return found


def _equal_attributes(one: Step, other: Step) -> bool:
    ours, theirs = getattr(one, "attributes", {}), getattr(other, "attributes", {})
    return ours.keys() == theirs.keys() and all(
        value.dtype == theirs[name].dtype
        and value.shape == theirs[name].shape
        and _equal(value, theirs[name])
        for name, value in ours.items()
    )


def _storage_found(dataset: h5py.Dataset) -> Storage:
    """How a dataset that is there is stored, as far as that matters for adding points."""
    plain = not dataset.id.get_create_plist().get_nfilters()
    return Storage(dataset.chunks, None if plain else "gzip")


def _has_room(dataset: h5py.HLObject) -> bool:
    return bool(h5py.h5o.get_info(dataset.id).hdr.space.free >= ROOM_NBYTES)


def _leave_room(dataset: h5py.Dataset) -> None:
    """What HDF5 adds to its header later shall not make that a longer chain of blocks, of which readers
    could see one without the other."""
    if not _has_room(dataset):
        dataset.attrs["room"] = np.zeros(2 * ROOM_NBYTES, "u1")
        del dataset.attrs["room"]


def _copy_attribute(source: h5py.Group, target: h5py.Group, name: str) -> None:
    there = source.attrs.get_id(name)
    target.attrs.create(name, source.attrs[name], there.shape, there.dtype)


def _link(owner: h5py.Group, name: str, item: h5py.HLObject) -> None:
    """What `owner[name] = item` does, at half its price."""
    text = name.encode(errors="surrogateescape")
    h5py.h5o.link(item.id, owner.id, text, lcpl=_ASCII_NAME if name.isascii() else _NAME)


def _naming(encoding: int) -> Any:
    found = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    found.set_char_encoding(encoding)
    return found


_ASCII_NAME = _naming(h5py.h5t.CSET_ASCII)
_NAME = _naming(h5py.h5t.CSET_UTF8)


def _set_attributes(
    item: h5py.HLObject, wanted: Mapping[str, Any], *, is_new: bool = False
) -> None:
    for name in [] if is_new else list(item.attrs):
        if name not in wanted:
            del item.attrs[name]
    for name, value in wanted.items():
        _set_attribute(item, name, value)
    if is_new:
        _leave_room(item)


def _same(dataset: h5py.HLObject, value: Any) -> bool:
    if not isinstance(dataset, h5py.Dataset):  # `_Alike`: it grows
        return False
    if dataset.chunks is not None or (dataset.shape, dataset.dtype) != (value.shape, value.dtype):
        return False
    return _equal(np.asarray(dataset[()]), value)


def _equal(found: Any, value: Any) -> bool:
    if found.dtype.kind == "O" or found.dtype.names:
        return bool(found.tolist() == value.tolist())
    return bool(found.tobytes() == value.tobytes())


def _set_attribute(item: h5py.HLObject, name: str, value: Any) -> None:
    if name in item.attrs:
        there = item.attrs.get_id(name)
        if (there.shape, there.dtype) == (value.shape, value.dtype):
            found = np.asarray(item.attrs[name], value.dtype)
            if _equal(_texts(found), _texts(value)):
                return
    item.attrs.create(name, value, dtype=value.dtype)


def _texts(array: Any) -> Any:
    if array.dtype.kind != "O":
        return array
    found = np.empty(array.shape, object)
    found.reshape(-1)[:] = [
        one.decode() if isinstance(one, bytes) else one for one in array.reshape(-1).tolist()
    ]
    return found


def stored_as(points: Points) -> tuple[Any, tuple[int, ...]]:
    """dtype and shape of a point in the file: HDF5 has lists of any length, but no arrays of any
    shape, so that these have their shape beside their elements."""
    if not points.varies:
        return points.dtype, points.shape
    elements = h5py.vlen_dtype(points.dtype)
    if len(points.shape) == 1:
        return elements, ()
    return np.dtype([("shape", "i8", (len(points.shape),)), ("data", elements)]), ()


def _filters(compression: Literal["gzip", "bitshuffle"] | None) -> dict[str, Any]:
    if compression is None:
        return {}
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    try:
        import hdf5plugin
    except ImportError as error:
        raise MissingExtraError(
            'Compression with bitshuffle needs hdf5plugin: pip install "blissdata[files]"'
        ) from error
    return dict(hdf5plugin.Bitshuffle())


def _space(selection: SpaceSelection, shape: tuple[int, ...] | None) -> Any:
    ones = [1] * len(selection.start)
    stride, block = selection.stride or ones, selection.block or ones
    if shape is None:
        shape = tuple(
            start + (count - 1) * step + size if count and size else start
            for start, step, count, size in zip(
                selection.start, stride, selection.count, block, strict=True
            )
        )
    space = h5py.h5s.create_simple(shape)
    if prod(selection.count) * prod(block):
        space.select_hyperslab(
            tuple(selection.start), tuple(selection.count), tuple(stride), tuple(block)
        )
    else:
        space.select_none()
    return space


def _new_virtual(file: h5py.File, shape: tuple[int, ...], dtype: Any, creation: Any) -> Any:
    # The order of attributes is kept as everywhere else.
    creation.set_attr_creation_order(h5py.h5p.CRT_ORDER_TRACKED | h5py.h5p.CRT_ORDER_INDEXED)
    space = h5py.h5s.create_simple(shape)
    kind = h5py.h5t.py_create(dtype, logical=True)
    return h5py.Dataset(h5py.h5d.create(file.id, None, kind, space, creation))
