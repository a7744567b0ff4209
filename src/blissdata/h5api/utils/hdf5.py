"""One HDF5 file that somebody else is writing: opened, read, closed and opened again until it works.

Every access is a *try* under a lock: open the file unless it is open and unchanged, find the item,
read. What fails in a way that may pass is tried again (`hdf5_retry`), on the file opened anew. No
h5py object outlives the state of the file that it was made in, so nothing old is ever read.

    call ─► try ─ fails ─► close, pause ─► try ─ … ─► result
                                            └ time is up ─► RetryTimeoutError (KeyError, end, 0)

What is *final* is told from what is *not yet* by two questions that subclasses answer: is the group
complete (`_is_initialized`), and does nobody write this item any more (`_is_finished`)? A plain file
says yes to both. The answer alone is not enough: what was read before it may be older than it. So the
file is then opened once more, and looked at for the last time.

A look may fall into the middle of a flush. HDF5 then finds a length, but not the new chunks, and gives
fill values; or it finds a chunk where another one has been written since. So points are believed

    when the file was at rest before they were read, and did not change meanwhile;
    when a later look, longer after it than a flush takes, finds the same, and the file changed;
    when their chunks are full, and were believed before;

else they are read again, a few times, at once.
"""

from __future__ import annotations

import logging
import os
import reprlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias, TypeVar

import h5py
import numpy as np

from blissdata.h5api import selection
from blissdata.h5api.utils.file_state import FileState
from blissdata.h5api.utils.hdf5_retry import (
    RetryError,
    RetryTimeoutError,
    retry_with_reset,
    return_on_retry_timeout,
    stop_iter_on_retry_timeout,
)
from blissdata.h5api.utils.lima import LimaDataset
from blissdata.h5api.utils.opening import open_hdf5

__all__ = ["DynamicHDF5Handler", "Item"]

_log = logging.getLogger(__name__)

Item: TypeAlias = "h5py.Group | h5py.Dataset | LimaDataset"
"""What may stand at a path: of the file, or instead of what the file does not have yet."""

ITERATION_BLOCK_BYTES = 1 << 20
"""Points are read ahead in blocks of about this size [bytes] while a dataset is iterated."""

KNOWN_ITEMS = 256
"""So many items are kept open while the file does not change, to be read again without looking."""

FLUSH_S = 0.05
"""A writer's flush is over after this time [s]."""

LOOKS = 40
LOOK_PAUSE_S = 0.005
"""So often, with that pause [s], points are read again that a flush may have torn: long enough to find
the file at rest, or changed. What is found in the last look is believed: a file that changes all the
time, and never gives the same twice, is like that (a dataset that is written over and over)."""

MAX_SOFT_LINKS = 40
"""More links than this on the way to an item are a cycle."""

T = TypeVar("T")


@dataclass
class _Shared:
    """A handler and how many use it."""

    handler: Any
    users: int


_SHARED: dict[str, list[_Shared]] = {}
"""The handlers in use, by the real path of their file."""

_SHARED_LOCK = threading.RLock()


class _SharedByPath(type):
    """Gives one handler to all who ask for the same real path, and counts them.

    The options of the first one hold. Only who asks for another kind of handler gets one of its own.
    """

    def __call__(cls, file: Any, *args: Any, **kwargs: Any) -> Any:
        path = os.path.realpath(file)
        with _SHARED_LOCK:
            for entry in _SHARED.get(path, ()):
                if cls in type(entry.handler).__mro__:
                    entry.users += 1
                    return entry.handler
            handler = super().__call__(file, *args, **kwargs)
            _SHARED.setdefault(path, []).append(_Shared(handler, users=1))
            return handler


def _let_go(handler: Any) -> bool:
    """One user less; True if that was the last."""
    with _SHARED_LOCK:
        for path, entries in _SHARED.items():
            for entry in entries:
                if entry.handler is handler:
                    entry.users -= 1
                    if not entry.users:
                        entries.remove(entry)
                        if not entries:
                            del _SHARED[path]
                    return not entry.users
    return False


class DynamicHDF5Handler(metaclass=_SharedByPath):
    """Reads a file that is being written, and waits for what is not there yet.

    `retry_timeout` [s]: how long a call waits (None: for ever, 0: one try); `retry_period` [s]: the
    pause between two tries (None: a short one). `openargs` are those of `silx.io.h5py_utils.File`.
    Nothing is opened before the first access. All methods may be called from several threads.

    Handlers of one real path are one object: each one made is to be closed once.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        retry_timeout: float | None = None,
        retry_period: float | None = None,
        **openargs: Any,
    ) -> None:
        for name, value in (("retry_timeout", retry_timeout), ("retry_period", retry_period)):
            if value is not None and not value >= 0:
                raise ValueError(f"{name} is a number of seconds ≥ 0, or None, not {value!r}")
        if openargs.pop("mode", "r") not in ("r", None):
            raise ValueError("A file that somebody else is writing is opened read-only: mode='r'")
        self._filename = os.fspath(file)
        self._path = os.path.abspath(self._filename)
        self._retry_options = {"retry_timeout": retry_timeout, "retry_period": retry_period}
        self._openargs = openargs
        self._native: h5py.File | None = None
        self._states: dict[str, FileState] = {}
        self._checked: set[tuple[str, str]] = set()
        self._sound: dict[tuple[Any, ...], int] = {}
        self._items: dict[str, Item] = {}
        self._lock = threading.RLock()
        self._closed = False

    # ---- what subclasses answer

    def _is_initialized(self, item: Item) -> bool:
        """True if the group, or the attributes, have all the names that they will have."""
        return True

    def _is_finished(self, item: Item) -> bool:
        """True if nobody writes into this group or dataset any more."""
        return True

    def _find(self, name: str) -> Item:
        """The item at that path; what h5py raises if it is not there."""
        found: Item = self._file()[name]
        return found

    # ---- the file

    @property
    def filename(self) -> str:
        """The file's name, as it was first given."""
        self._raise_if_closed()
        return self._filename

    def reset(self) -> None:
        """Closes the file; the next access opens it anew."""
        with self._lock:
            native, self._native = self._native, None
            self._states = {}
            self._checked = set()
            self._items = {}
            if native is not None:
                try:
                    native.close()
                except Exception as error:  # noqa: BLE001 — whatever h5py says: it was to be closed
                    _log.debug("Cannot close %s: %s", self._path, error)

    def close(self) -> None:
        """Lets go of the file; the last user closes it. From then on, all else is a
        `RuntimeError`."""
        if _let_go(self):
            with self._lock:
                self._closed = True
                self.reset()

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise RuntimeError(f"File was closed: {self._filename}")

    def _file(self) -> h5py.File:
        """The file, open, and as it is now."""
        if self._native is not None and not all(
            state.holds(path) for path, state in self._states.items()
        ):
            self.reset()
        if self._native is None:
            try:
                state = FileState.of(self._path)
            except OSError as error:
                raise RetryError(f"File {self._path} does not exist (yet)") from error
            try:
                self._native = open_hdf5(self._path, **self._openargs)
            except (TypeError, ValueError, KeyError) as error:  # of the options: they remain wrong
                raise _wrong_options(self._path, self._openargs, error) from error
            self._states = {self._path: state}
        return self._native

    def _depends_on(self, path: str) -> None:
        """Has the file opened anew when that other file changes, too."""
        if path not in self._states:
            try:
                self._states[path] = FileState.of(path)
            except OSError as error:
                raise RetryError(f"File {path} does not exist (yet)") from error

    # ---- one try

    @retry_with_reset
    def _retry(self, action: Callable[[], T]) -> T:
        with self._lock:
            self._raise_if_closed()
            return action()

    def _call(self, what: str, action: Callable[[], T]) -> T:
        """`action()`, tried until it works or the time is up."""
        try:
            return self._retry(action)
        except RetryTimeoutError as error:
            raise self._too_late(what, error) from error.__cause__

    def _too_late(self, what: str, error: RetryTimeoutError) -> RetryTimeoutError:
        waited = self._retry_options["retry_timeout"]
        return RetryTimeoutError(
            f"{what} in {self._path}: not there after {waited} s; last: {error.__cause__ or error}"
        )

    def _item(self, name: str) -> Item:
        """The item at that path. Not there, and never to come: `KeyError`."""
        self._file()  # lets go of what was found if the file has changed
        known = self._items.get(name)
        if known is not None:
            return known
        try:
            item = self._find(name)
        except RetryError:
            raise
        except (KeyError, RuntimeError) as error:  # RuntimeError: a cycle of links
            self._raise_if_missing_for_good(name, error)
            raise
        if not isinstance(item, LimaDataset):
            other = item.file.filename
            if os.path.abspath(other) != self._path:
                self._depends_on(os.path.abspath(other))
            if len(self._items) >= KNOWN_ITEMS:
                self._items.clear()
            self._items[name] = item
        return item

    def _raise_if_missing_for_good(self, name: str, error: Exception) -> None:
        where = self._where_it_ends(name)[0]
        if where is None or not self._is_finished(where):
            return
        self._look_anew()  # it may have come between the look and the answer
        try:
            self._find(name)
        except RetryError:
            raise
        except (KeyError, RuntimeError):
            where = self._where_it_ends(name)[0]
            if where is not None and self._is_finished(where):
                raise KeyError(
                    f"{name} does not exist in {self._path}, and nobody writes there any more"
                ) from error

    def _where_it_ends(self, name: str) -> tuple[Item | None, str]:
        """The last item on the way to `name` behind which HDF5 says that there is nothing, and the
        path that was sought, soft links resolved. No item: it is there, or it cannot be told."""
        at: Any = self._file()["/"]
        path, left = "", _parts(name)
        links = 0
        while left:
            part = left.pop(0)
            if not isinstance(at, h5py.Group):
                return at, "/".join([path, part, *left])
            link = at.get(part, getlink=True)
            if link is None:
                return at, "/".join([path, part, *left])
            if isinstance(link, h5py.SoftLink):
                links += 1
                if links > MAX_SOFT_LINKS:
                    return at, "/".join([path, part, *left])
                left = [*_parts(link.path), *left]
                if link.path.startswith("/"):
                    at, path = at.file["/"], ""
                continue
            try:
                at = at[part]
            except KeyError:
                if isinstance(link, h5py.ExternalLink) and self._opens(link.filename, at):
                    return at, "/".join([path, part, *left])
                return None, ""  # its file, or what it stands for, may come
            path = f"{path}/{part}"
        return None, ""

    def _opens(self, other: str, beside: Any) -> bool:
        path = os.path.join(os.path.dirname(os.path.abspath(beside.file.filename)), other)
        try:
            with open_hdf5(path, **self._openargs):
                return True
        except Exception:  # noqa: BLE001 — whatever is in the way
            return False

    def _final(self, name: str) -> Item | None:
        """The item as nobody will change it any more; None while somebody may."""
        if not self._is_finished(self._item(name)):
            return None
        self._look_anew()
        item = self._item(name)
        return item if self._is_finished(item) else None

    def _look_anew(self) -> None:
        """Opens the file anew, after the flush that has just told of an end."""
        if not all(state.settled for state in self._states.values()):
            time.sleep(FLUSH_S)
        self.reset()

    # ---- groups and attributes

    def is_group(self, name: str) -> bool:
        """True if there is a group at that path, False for a dataset. Not there in time, or never:
        `KeyError`."""
        try:
            return self._call(name, lambda: isinstance(self._item(name), h5py.Group))
        except RetryTimeoutError as error:
            raise KeyError(str(error)) from error

    def get_link(self, name: str, key: str) -> Any:
        """The link called `key` in that group, as h5py describes it, not followed."""

        def action() -> Any:
            group = self._item(name)
            link = group.get(key, getlink=True) if isinstance(group, h5py.Group) else None
            if link is None:
                self._item(f"{name}/{key}")
                return h5py.HardLink()  # a stand-in
            return link

        try:
            return self._call(f"{name}/{key}", action)
        except RetryTimeoutError as error:
            raise KeyError(str(error)) from error

    def get_attr(self, name: str, key: str) -> Any:
        """The value of that attribute. Not there in time, or never: `KeyError`."""

        def action() -> Any:
            item = self._item(name)
            if key in item.attrs:
                return item.attrs[key]
            if isinstance(item, LimaDataset):
                raise _no_attribute(name, key, self._path)
            final = self._final(name)
            if final is None:
                raise RetryError(f"{name} has no attribute {key!r} (yet)")
            if key not in final.attrs:
                raise _no_attribute(name, key, self._path)
            return final.attrs[key]

        try:
            return self._call(f"attribute {key!r} of {name}", action)
        except RetryTimeoutError as error:
            raise KeyError(str(error)) from error

    @return_on_retry_timeout(0)
    def len_item(self, name: str) -> int:
        """How many names or points there are now; 0 if the item is not there in time."""

        def action() -> int:
            item = self._item(name)
            if isinstance(item, h5py.Dataset) and not item.shape:
                raise TypeError(f"Attempt to take len() of scalar dataset {name}")
            return len(item)

        return self._call(name, action)

    @return_on_retry_timeout(0)
    def len_attrs(self, name: str) -> int:
        """How many attributes there are now; 0 if the item is not there in time."""
        return self._call(name, lambda: len(self._item(name).attrs))

    def iter_group(self, name: str) -> Iterator[str]:
        """The names in that group as they come, until it is complete or the time is up."""
        return self._iter_names(name, list)

    def iter_attrs(self, name: str) -> Iterator[str]:
        """The names of the attributes as they come, until they are complete or the time is up."""
        return self._iter_names(name, lambda item: list(item.attrs))

    @stop_iter_on_retry_timeout
    def _iter_names(self, name: str, names_of: Callable[[Any], list[str]]) -> Iterator[str]:
        seen: dict[str, None] = {}

        def step(_: int) -> tuple[list[str], bool]:
            item = self._item(name)
            complete = self._is_initialized(item)
            new = [found for found in names_of(item) if found not in seen]
            if complete and not new:
                self._look_anew()
                item = self._item(name)
                complete = self._is_initialized(item)
                new = [found for found in names_of(item) if found not in seen]
            if not new:
                return new, complete
            # Who looks while they are being written may see what is no name: a second look tells.
            self._look_anew()
            there = set(names_of(self._item(name)))
            new = [found for found in new if found in there]
            seen.update(dict.fromkeys(new))
            return new, False

        yield from self._iterate(step)

    # ---- datasets

    def get_from_dataset(self, name: str, attribute: str) -> Any:
        """`shape`, `dtype` and their like, as they are now; not there in time:
        `RetryTimeoutError`."""
        return self._call(
            f"{attribute} of {name}", lambda: getattr(self._item(name), attribute, None)
        )

    def slice_dataset(self, name: str, idx: Any) -> Any:
        """What `idx` selects in that dataset. Points that are not there yet are waited for:
        `RetryTimeoutError` when the time is up, `IndexError` if they will never come. What no point
        could make right is refused at once: `TypeError`, `ValueError`."""

        def action() -> Any:
            try:
                return self._whole(name, lambda item: self._read(item, idx))
            except RetryError:
                final = self._final(name)
                if final is None:
                    raise
            try:
                return self._read(final, idx)[0]
            except RetryError as error:
                raise IndexError(
                    f"{_shown(idx)} of {name} in {self._path} is not there, and nobody writes there "
                    f"any more: {error}"
                ) from error

        return self._call(f"{_shown(idx)} of {name}", action)

    def _whole(self, name: str, read: Callable[[Item], tuple[Any, int]]) -> Any:
        """What `read(item)` finds, believed only if no flush can have torn it (see above). `read` tells
        how many points from the start on it looked at."""
        before: tuple[float, FileState, Any] | None = None
        for _ in range(LOOKS):
            item = self._item(name)
            found, reach = read(item)
            if not isinstance(item, h5py.Dataset) or not item.chunks or self._is_sound(item, reach):
                return found
            state = self._states[os.path.abspath(item.file.filename)]
            if state.settled and self._seems_unchanged():
                self._found_sound(item)
                return found
            if self._is_finished(item):
                final = self._final(name)
                if final is not None:
                    return read(final)[0]
            now = time.monotonic()
            if before is None or not _begins_with(found, before[2]):
                before = (now, state, found) if _has_all_chunks(item) else None
            elif now - before[0] > FLUSH_S and not state.same_as(before[1]):
                return before[2]
            self.reset()
            time.sleep(LOOK_PAUSE_S)
        return found

    def _is_sound(self, item: h5py.Dataset, reach: int) -> bool:
        """True if these points lie in chunks that were found whole, and full, before."""
        found = self._sound.get(_identity(item))
        return found is not None and reach <= found <= len(item)

    def _found_sound(self, item: h5py.Dataset) -> None:
        """Notes that every chunk of the dataset is whole; the last one may still change."""
        if len(self._sound) >= KNOWN_ITEMS:
            self._sound.clear()
        self._sound[_identity(item)] = len(item) // item.chunks[0] * item.chunks[0]

    def _seems_unchanged(self) -> bool:
        return all(state.seems_to_hold(path) for path, state in self._states.items())

    def _read(self, item: Item, idx: Any) -> tuple[Any, int]:
        """One read, and how many points from the start on were looked at; `RetryError` for points that
        are not there."""
        if isinstance(item, LimaDataset):
            return item[idx], 0
        if not isinstance(item, h5py.Dataset):
            raise TypeError(f"{item.name} in {self._path} is a group: it has no {_shown(idx)}")
        self._check_dataset_before_read(item)
        args = idx if isinstance(idx, tuple) else (idx,)
        if item.shape is None or any(isinstance(arg, _H5PY_SELECTIONS) for arg in args):
            return item[idx], len(item) if item.shape else 0
        index = selection.parse(idx, item.ndim, item.dtype)
        if _mask_is_longer(index, item.shape):
            raise RetryError(f"The mask is longer than the dataset, of shape {item.shape}")
        try:
            points = index.resolve(item.shape).points
        except IndexError as error:
            raise RetryError(str(error)) from error
        return item[_for_h5py(index)], int(points[-1]) + 1 if len(points) else 0

    def _check_dataset_before_read(self, item: h5py.Dataset) -> None:
        """Called before each read; raises `RetryError` if it must wait. Of a virtual dataset, the
        last source must open: HDF5 gives fill values for what it cannot open."""
        if not item.is_virtual:
            return
        where = os.path.abspath(item.file.filename)
        if (where, item.name) in self._checked:
            return
        sources = item.virtual_sources()
        if sources and sources[-1].file_name != "." and "%b" not in sources[-1].file_name:
            path = os.path.normpath(os.path.join(os.path.dirname(where), sources[-1].file_name))
            try:
                self._depends_on(path)
                with open_hdf5(path, **self._openargs) as source:
                    source[sources[-1].dset_name]
            except Exception as error:
                raise RetryError(
                    f"cannot open '{path}', the last source of {item.name}: {error}"
                ) from error
        self._checked.add((where, item.name))

    @stop_iter_on_retry_timeout
    def iter_dataset(self, name: str) -> Iterator[Any]:
        """The points as they come, until nobody writes there any more or the time is up."""

        def step(at: int) -> tuple[Any, bool]:
            new = self._whole(name, lambda item: self._points(item, at))
            if len(new):
                return new, False
            final = self._final(name)
            if final is None:
                return new, False
            new = self._points(final, at)[0]
            return new, not len(new)

        yield from self._iterate(step)

    def _points(self, item: Item, at: int) -> tuple[Any, int]:
        """Some points from `at` on, and where they end; none if there are no more now."""
        if isinstance(item, h5py.Dataset):
            if not item.shape:
                raise TypeError(f"Can't iterate over a scalar dataset: {item.name}")
            self._check_dataset_before_read(item)
        elif isinstance(item, h5py.Group):
            raise TypeError(f"{item.name} in {self._path} is a group, not a dataset")
        elif not item.has_files():
            return (), 0
        shape = item.shape
        if at >= shape[0]:
            return (), 0
        size = max(1, item.dtype.itemsize * int(np.prod(shape[1:], dtype=int)))
        stop = min(shape[0], at + max(1, ITERATION_BLOCK_BYTES // size))
        return item[at:stop], stop

    # ---- iterating

    @retry_with_reset
    def _iterate(self, step: Callable[[int], tuple[Any, bool]], start_index: int = 0) -> Any:
        """What `step(how many were given)` finds, one by one, until it says that this is all."""
        at = start_index
        while True:
            with self._lock:
                self._raise_if_closed()
                new, ended = step(at)
            for one in new:
                at += 1
                yield one
            if ended:
                return
            if not len(new):
                raise RetryError("nothing new (yet)")


_H5PY_SELECTIONS = (h5py.MultiBlockSlice, h5py.RegionReference)
"""Ways to select that are h5py's alone."""


def _identity(item: h5py.Dataset) -> tuple[Any, ...]:
    """Which dataset that is, as long as its file is not replaced."""
    state = os.stat(item.file.filename)
    return (state.st_dev, state.st_ino, item.name)


def _has_all_chunks(item: h5py.Dataset) -> bool:
    """True if every point of the dataset has its chunk in the file."""
    lengths = zip(item.shape, item.chunks, strict=True)
    return bool(item.id.get_num_chunks() >= prod(-(-length // chunk) for length, chunk in lengths))


def _begins_with(whole: Any, part: Any) -> bool:
    """True if the points of `part` are the first ones of `whole`, to the byte."""
    if type(whole) is not type(part):
        return False
    if not isinstance(part, np.ndarray | np.generic):
        return bool(whole == part)
    if isinstance(part, np.ndarray) and part.ndim:
        whole = whole[: len(part)]
    if whole.shape != part.shape or whole.dtype != part.dtype:
        return False
    return bool(
        whole.tolist() == part.tolist()
        if part.dtype.hasobject
        else whole.tobytes() == part.tobytes()
    )


def _wrong_options(path: str, options: dict[str, Any], error: Exception) -> Exception:
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"Cannot open {path} with the options {options}: {error}")


def _shown(idx: Any) -> str:
    """The index for a message: not the thousand numbers of a list."""
    return f"[{reprlib.repr(idx)}]"


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _no_attribute(name: str, key: str, path: str) -> KeyError:
    return KeyError(f"{name} in {path} has no attribute {key!r}")


def _mask_is_longer(index: selection.Index, shape: tuple[int, ...]) -> bool:
    """True for a mask that would fit if the dataset had more points."""
    if index.mask is not None:
        return index.mask.shape[1:] == shape[1:] and len(index.mask) > shape[0]
    if not index.axes:
        return False
    first = index.axes[0]
    return isinstance(first, np.ndarray) and first.dtype.kind == "b" and len(first) > shape[0]


def _for_h5py(index: selection.Index) -> tuple[Any, ...]:
    """The same index, in a form that no version of h5py stumbles on."""
    if index.mask is not None:
        return (index.mask, *index.fields)
    if not index.axes:
        return (..., *index.fields) if index.keep_array else index.fields
    axes = (
        np.flatnonzero(axis) if isinstance(axis, np.ndarray) and axis.dtype.kind == "b" else axis
        for axis in index.axes
    )
    return (*axes, *index.fields)
