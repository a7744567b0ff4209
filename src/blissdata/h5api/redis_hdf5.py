"""A scan as an HDF5 file from its first second: what the file will hold, read from the server.

    File ── LiveScans      which scans it is made of, and their layouts       (live_scans)
     └ Group ── resolve    what stands where, by which links                  (live_tree)
        └ Dataset ── read  values, streams, raw files, parts of others        (live_arrays, live_files)

The file follows what happens: see `File` for what waits. Every look at a scan that goes on is at most
half a second old; a scan that is closed is never asked for again.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import (
    Callable,
    Hashable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from blissdata.exceptions import (
    DataFileContentError,
    DataFileError,
    DataFileMissingError,
    FileClosedError,
    LayoutError,
    PointsNotInFileError,
)
from blissdata.h5api import abstract
from blissdata.h5api.live_arrays import FixedArray, LeftServer, LiveArray, Patience, StreamArray
from blissdata.h5api.live_files import (
    LinkedFiles,
    Source,
    external_array,
    validated,
    virtual_array,
    virtual_sources,
)
from blissdata.h5api.live_hints import OtherFiles, entries_hint, named
from blissdata.h5api.live_scans import (
    AnyScan,
    FrozenScan,
    FrozenScans,
    LiveScan,
    LiveScans,
    WrittenScans,
)
from blissdata.h5api.live_tree import (
    Elsewhere,
    Place,
    children,
    is_group,
    item_type,
    link_at,
    resolve,
)
from blissdata.h5api.written_files import WrittenFile, WrittenItem, WrittenValue
from blissdata.hdf5_handles import close_files
from blissdata.streams.deadline import Deadline

if TYPE_CHECKING:
    from blissdata.data_roots import DataRoots
    from blissdata.redis_engine.store import DataStore
    from blissdata.streams import BaseStream
    from blissdata.streams.hdf5_fallback.source import FileSource

__all__ = ["Attributes", "Dataset", "File", "Group"]

_logger = logging.getLogger(__name__)

T = TypeVar("T")

_NO_SUCH_PATH = re.compile(r"No such path: '(.*)'", re.DOTALL)
"""What `live_tree` says, and 2.x does; the path is absolute."""

_ENTRY = re.compile(r"(\d+)\.\d+")
"""The name of an entry: the scan's number, and which part of it."""


class Attributes(abstract.Attributes):
    """Attributes of one node, as its layout has them: text is `str`, a scalar is a scalar."""

    def __init__(self, node: _Node) -> None:
        self._node = node

    def __getitem__(self, key: str) -> Any:
        if key == "NX_class" and self._node.name == "/" and self._node.file:
            return "NXroot"  # whatever happens on the server
        item = self._node.attribute_items()[key]
        return (
            item.value if isinstance(item, WrittenValue) else self._node.decode_attribute(key, item)
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._node.attribute_items())

    def __len__(self) -> int:
        return len(self._node.attribute_items())

    def __contains__(self, key: object) -> bool:
        return key in self._node.attribute_items()

    def __repr__(self) -> str:
        return f"<Attributes of live HDF5 object {self._node.name!r}>"


class _Node(abstract.Node):
    """What stands at one path, as long as the file object lives."""

    def __init__(self, file: File, place: Place) -> None:
        self._file = file
        self._place = place

    @property
    def name(self) -> str:
        """The absolute path, with all links resolved."""
        return self._place.path

    @property
    def file(self) -> File:
        return self._file

    @property
    def identity(self) -> Hashable | None:
        item = self._place.item
        return item.identity() if isinstance(item, WrittenItem) else None

    @property
    def parent(self) -> abstract.Group:
        return self._file.group_at(self._place.up)

    @property
    def attrs(self) -> Attributes:
        return Attributes(self)

    def __bool__(self) -> bool:
        """False once the file is closed, as in h5py."""
        return not self._file.closed

    def refreshed(self) -> Any:
        """Its layout, half a second old at most while the scan goes on."""
        self._place = self._file.renewed(self._place)
        return self._place.item

    def attribute_items(self) -> Mapping[str, Any]:
        """The layouts of its attributes by name."""
        item = self.refreshed()
        found = item.get("attributes") if isinstance(item, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    def decode_attribute(self, key: str, item: Any) -> Any:
        """The value of an attribute."""
        if _type_of_value(item) == "stream":
            return self._file.stream_attribute(self._place, item["stream"], key)
        return _attribute_value(_decoded(item, f"attribute {key!r} of {self.name}"))


class Group(_Node, abstract.Group):
    """A group of a live file."""

    def __getitem__(self, key: str | bytes) -> Any:
        """The group or dataset at that path; links are followed. Nothing there: `KeyError`. A scan
        that is not prepared yet is waited for. A note on the error says what looks like it."""
        return self._file.open(self.name, _path(key), hint=True)

    def __contains__(self, key: object) -> bool:
        """True if there is something at that path, at the end of all links."""
        try:
            self._file.open(self.name, _path(key))
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        if not self._place.steps:
            return iter(self._file)
        return iter(list(children(self.refreshed())))

    def __len__(self) -> int:
        if not self._place.steps:
            return len(self._file)
        return len(children(self.refreshed()))

    def keys(self) -> KeysView[str]:
        """The names that there are now."""
        if not self._place.steps:
            return self._file.keys()
        return dict.fromkeys(self).keys()

    def values(self) -> ValuesView[Any]:
        """The groups and datasets that there are now."""
        return ValuesView(_Now(self))

    def items(self) -> ItemsView[str, Any]:
        """Names and what they stand for, as far as there are any now."""
        return ItemsView(_Now(self))

    def attribute_items(self) -> Mapping[str, Any]:
        return super().attribute_items() if self._place.steps else self._file.attribute_items()

    def get(
        self, key: str, default: Any = None, getclass: bool = False, getlink: bool = False
    ) -> Any:
        """As h5py's: the node at that path, its class, its link or the link's class; `default` if
        there is nothing."""
        if getlink:
            return self._file.link(self.name, _path(key), default, getclass)
        try:
            node = self._file.open(self.name, _path(key))
        except KeyError:
            return default
        return node.h5py_class if getclass else node

    def __repr__(self) -> str:
        if not self:
            return f'<Closed live-HDF5 group "{self.name}">'
        return f'<Live-HDF5 group "{self.name}" ({len(self)} members)>'


class Dataset(_Node, abstract.Dataset):
    """A dataset of a live file. Indexing waits for the points that it takes; see `File`."""

    def __init__(self, file: File, place: Place) -> None:
        super().__init__(file, place)
        self._array: tuple[Any, LiveArray] | None = None

    @property
    def array(self) -> LiveArray:
        """What is behind it: the file's dataset, once its scan has left the server. Raises `KeyError`
        for a stream that the scan does not have."""
        self._file.require_open()
        if self._array is not None and isinstance(self._array[1], StreamArray):
            return self._array[1]
        item = self.refreshed()
        if self._array is None or self._array[0] != item:
            self._array = item, self._file.array(self._place)
        return self._array[1]

    def _ask(self, work: Callable[[LiveArray], T]) -> T:
        """What the work gives; once more, if the scan leaves the server meanwhile."""
        try:
            return work(self.array)
        except LeftServer as left:
            return work(self._taken_over(left))

    def _taken_over(self, left: LeftServer) -> LiveArray:
        """What there is in the place of a stream that has left the server: the file's dataset, or
        else the stream as far as it is known."""
        self._file.look_again()
        item = self.refreshed()
        if isinstance(item, WrittenItem):
            self._array = item, self._file.array(self._place)
        elif left.__cause__ is not None:
            raise left.__cause__
        found = self.array
        if isinstance(found, StreamArray):
            found.without_file()
        return found

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """`(points, …)` now; `()` for a scalar. -1 for a dimension that varies from point to point.
        One round trip for a stream."""
        return self._ask(lambda array: array.shape)

    @property
    def size(self) -> int:
        """How many elements there are now; dimensions that vary do not count."""
        return prod(n for n in self.shape if n >= 0)

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def maxshape(self) -> tuple[int | None, ...]:
        return self.array.maxshape

    @property
    def chunks(self) -> tuple[int, ...] | None:
        return self.array.chunks

    @property
    def compression(self) -> str | None:
        return self.array.compression[0]

    @property
    def compression_opts(self) -> Any:
        return self.array.compression[1]

    @property
    def is_null(self) -> bool:
        return self._written_array(lambda array: array.is_null, False)

    @property
    def fillvalue(self) -> Any:
        return self._stored("fillvalue", lambda: super(Dataset, self).fillvalue)

    @property
    def shuffle(self) -> bool:
        return bool(self._stored("shuffle", lambda: False))

    @property
    def fletcher32(self) -> bool:
        return bool(self._stored("fletcher32", lambda: False))

    @property
    def scaleoffset(self) -> int | None:
        found: int | None = self._stored("scaleoffset", lambda: None)
        return found

    def virtual_sources(self) -> list[Any]:
        if item_type(self._place.item) == "virtual_dataset":
            return virtual_sources(self._place.item, f"{self._file.filename}::{self.name}")
        if not self.is_virtual:
            return super().virtual_sources()
        found: list[Any] = self._stored("virtual_sources", lambda: [])
        return found

    def _stored(self, what: str, otherwise: Callable[[], Any]) -> Any:
        """What HDF5 knows of it, if it is read from a file; `otherwise` what is so of all others."""
        if isinstance(self.refreshed(), WrittenItem):
            return self.array.stored(what)
        return otherwise()

    @property
    def is_virtual(self) -> bool:
        return item_type(self._place.item) == "virtual_dataset" or self._written_array(
            lambda array: array.is_virtual, False
        )

    @property
    def external(self) -> list[tuple[str, int, int | None]] | None:
        if item_type(self._place.item) == "external_binary_dataset":
            files = self._place.item.get("files") or []
            return [(file["name"], file["offset"], file.get("size")) for file in files]
        return self._written_array(lambda array: array.external, None)

    def _written_array(self, work: Callable[[LiveArray], T], otherwise: T) -> T:
        return work(self.array) if isinstance(self._place.item, WrittenItem) else otherwise

    def __len__(self) -> int:
        shape = self.shape
        if not shape:
            raise TypeError("Attempt to take len() of scalar dataset")
        return shape[0]

    def __getitem__(self, idx: abstract.DatasetIndex) -> Any:
        """What h5py would give, once the points that the index takes are there, or the end.

        Raises `IndexError` for what is out of range, `IndexNoMoreThereError` (one too) for points
        that have left the server and are in no file, `DataTimeoutError` (a `TimeoutError`) when the
        time is up."""
        try:
            return self.array.read(idx, self._file.patience)
        except LeftServer as left:
            return self._taken_over(left).read(idx, self._file.patience)

    def __iter__(self) -> Iterator[Any]:
        """The points one by one, as they come, until the end of the stream."""
        if not self.ndim:
            raise TypeError("Can't iterate over a scalar dataset")
        return self._follow()

    def _follow(self) -> Iterator[Any]:
        given, array = 0, self.array
        while True:
            try:
                for point in array.follow(self._file.patience, given):
                    self._file.require_open()
                    yield point
                    given += 1
            except LeftServer as left:
                array = self._taken_over(left)
            else:
                return

    def __repr__(self) -> str:
        name = self.name.rpartition("/")[2]
        if not self:
            return f'<Closed live-HDF5 dataset "{name}">'
        try:
            array = self.array
            shape = ", ".join("_" if n is None or n < 0 else str(n) for n in array.maxshape)
            comma = "," if array.ndim == 1 else ""
            return f'<Live-HDF5 dataset "{name}": shape ({shape}{comma}), type "{array.dtype.str}">'
        except Exception as error:  # noqa: BLE001 — whatever is wrong with it, it has a name
            return f'<Live-HDF5 dataset "{name}": {error}>'


class File(Group, abstract.File):
    """All scans of one file, as groups `/<number>.<n>`, read live from the server.

    `filepath` is the file as the scans' identity `path` has it; it need not exist. `data_store`:
    without one, the server that `$BLISSDATA_URL` or `$BEACON_HOST` names. `File(data_store, path)`
    works as well. `mode` is `r`.

    What waits, for `timeout` [s] at a time (None: for ever), woken by the server:

    * iterating the file: the entries, then those to come; iterating a dataset: the points as they
      come, until its stream ends. When the time is up, both stop.
    * `d[i]`, `d[a:b]`, lists, masks: until these points are there, or the end; `d[-1]`, `d[a:]`,
      `d[:]`: until the end. When the time is up: `DataTimeoutError`.
    * a path to a scan that is not prepared yet. When the time is up: `KeyError`.

    `keys()`, `len()`, `shape`, `d[()]` and `d[...]` give what is there. With `wait=False` nothing
    waits: everything gives what is there now. `snapshot()` freezes that.

    `keys()`, `values()` and `items()` of the file are those of now; only iterating it follows. After
    `close()` it is false, and it and what is in it raise `FileClosedError`.

    A path that begins with no entry is sought in the newest scan's first entry. `roots` are the
    directories below which other files are opened that a layout names (default:
    `$BLISSDATA_DATA_ROOTS`, else the directory of `filepath`).
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str] | DataStore,
        mode: str | os.PathLike[str] = "r",
        data_store: DataStore | str | None = None,
        *,
        wait: bool = True,
        timeout: float | None = None,
        roots: Iterable[str | os.PathLike[str]] | str | os.PathLike[str] | None = None,
    ) -> None:
        from blissdata.data_roots import DataRoots

        if not isinstance(filepath, str | os.PathLike):  # the talk's order
            if mode == "r" and data_store is None:
                raise TypeError(f"File(data_store, path): the path is missing behind {filepath!r}")
            filepath, mode, data_store = mode, data_store or "r", filepath  # type: ignore[assignment]
        if data_store is not None and not hasattr(data_store, "search_existing_scans"):
            raise TypeError(
                f"The data store is a blissdata.DataStore, not {data_store!r}: File(path, "
                "data_store=DataStore(url)) or File(DataStore(url), path)"
            )
        if mode != "r":
            raise ValueError(f"Invalid mode {mode!r}; only r is supported with live mode")
        if timeout is not None and not timeout >= 0:
            raise ValueError(
                f"A timeout is a number of seconds ≥ 0 (None: for ever), not {timeout}"
            )
        path = os.fspath(filepath)
        if not path or "\0" in path:
            raise ValueError(f"{path!r} is not the path of a file")
        self._closed = False
        self._filename = path if os.path.isabs(path) else os.path.abspath(path)
        self._own_store = data_store is None
        self._store = _environment_store() if data_store is None else cast("DataStore", data_store)
        self._patience = Patience(wait, timeout)
        self._roots = DataRoots.choose(roots, self._filename)
        self._linked = LinkedFiles(self._roots, os.path.dirname(self._filename))
        self._written = WrittenFile(self._filename, self._roots)
        written = WrittenScans(self._written)
        self._every_scan: LiveScans | FrozenScans = LiveScans(self._store, self._filename, written)
        self._others: dict[str, _Other] = {}
        self._neighbours = OtherFiles(self._store, self._filename)
        self._told = wait
        super().__init__(self, Place())

    # ------------------------------------------------------------------------------ the file

    @property
    def _scans(self) -> LiveScans | FrozenScans:
        self.require_open()
        return self._every_scan

    @property
    def closed(self) -> bool:
        """True after `close()`."""
        return self._closed

    def require_open(self) -> None:
        """Raises `FileClosedError` after `close()`."""
        if self._closed:
            raise FileClosedError(
                f"{self._filename} was closed, and its groups and datasets with it: open it again "
                "with File(path, data_store=…)"
            )

    @property
    def filename(self) -> str:
        """The path of the file."""
        return self._filename

    @property
    def data_store(self) -> DataStore:
        """The store that it is read from."""
        return self._store

    @property
    def roots(self) -> DataRoots:
        """The directories below which it opens other files."""
        return self._roots

    @property
    def patience(self) -> Patience:
        """How long its readers wait."""
        return self._patience

    @property
    def name(self) -> str:
        return "/"

    @property
    def parent(self) -> abstract.Group:
        """The group `/`."""
        return Group(self, Place())

    def close(self) -> None:
        """Closes the files that it opened, and the store if nobody gave it one; what others still
        read of it ends with `FileClosedError`. Snapshots stay open. Repeatable."""
        self._closed = True
        for other in self._others.values():
            other.close()
        self._linked.close()
        close_files()
        if self._own_store:
            self._store.close()

    def snapshot(self) -> File:
        """The file as it is now, as a file that never changes and never waits: lengths stay, and the
        signals and axes of one NXdata group have one length. Scans that are not prepared are not in it.

        Some round trips for each scan that goes on. Points are read when they are asked for: they may
        leave the server meanwhile. Of a path that no scan and no file has, a warning is logged."""
        scans, anything = self._scans, self.has_anything()
        if not anything:
            _logger.warning("%s", self._neighbours.told())
        return _Snapshot(self, scans, anything)

    def __iter__(self) -> Iterator[str]:
        """The entries' names: those that there are, then new ones as scans are prepared, for ever (see
        `File`)."""
        if not self._patience.wait:
            self.tell_if_nothing()
        return self._scans.follow(self._patience, self.require_open)

    def __len__(self) -> int:
        """How many entries there are now."""
        return len(self._names_now())

    def keys(self) -> KeysView[str]:
        """The names of the entries that there are now."""
        return dict.fromkeys(self._names_now()).keys()

    def _names_now(self) -> list[str]:
        names = self._scans.names()
        if not names:
            self.tell_if_nothing()
        return names

    def attribute_items(self) -> Mapping[str, Any]:
        """Those of NXroot, and those that the written file has; `default` is the newest entry."""
        entry = _Top(self._scans, Deadline(0)).default_entry()
        written = {n: v for n, v in self._scans.written.attributes.items() if n != "default"}
        return {**written, "NX_class": "NXroot"} | ({} if entry is None else {"default": entry})

    def __repr__(self) -> str:
        name = os.path.basename(self._filename)
        if self._closed:
            return f'<Closed live-HDF5 file "{name}" (mode r)>'
        try:
            nothing = "" if self.has_anything() else ", no scan of it yet"
            similar = self._neighbours.similar() if nothing else []
        except Exception:  # noqa: BLE001 — whatever is wrong with the server, it has a name
            nothing, similar = "", []
        hint = f"; there are: {named(similar)}" if similar else ""
        return f'<Live-HDF5 file "{name}" (mode r){nothing}{hint}>'

    def has_anything(self) -> bool:
        """True if a scan names it, or somebody has written it. Round trips until there is one."""
        return self.has_scans() or self._written.root() is not None

    def tell_if_nothing(self) -> None:
        """Logs once that no scan and no file has this path, if that is so, for who does not wait for one
        to come: perhaps it is mistyped."""
        if not self._told and not self.has_anything():
            self._told = True
            _logger.warning("%s", self._neighbours.told())

    def _add_hint(self, error: KeyError) -> None:
        """Notes on the error of a path that is not there what looks like it. A few round trips; none for
        other errors."""
        said = _NO_SUCH_PATH.fullmatch(str(error.args[0]) if error.args else "")
        if said is None or self._closed:
            return
        if not self.has_anything():
            error.add_note(self._neighbours.told())
            return
        group, _, name = said[1].rpartition("/")
        with suppress(KeyError, DataFileError):
            names = self.open("/", group).keys() if group else self._scans.names()
            error.add_note(entries_hint(f"{self._filename}::{group or '/'}", name, names))

    # ------------------------------------------------------------------------------ for its nodes

    def open(
        self, base: str, path: str, via: tuple[tuple[str, str], ...] = (), *, hint: bool = False
    ) -> Any:
        """The node at a path, from the group at `base` if it is relative; `via` are the external
        links that led here, by file and path. Raises `KeyError`; with `hint`, what looks like a name that
        is not in this file is noted on it."""
        try:
            found = resolve(_Top(self._scans, self._patience.deadline()), base, path)
        except KeyError as error:
            if hint:
                self._add_hint(error)
            raise
        return self._elsewhere(found, via) if isinstance(found, Elsewhere) else self._node(found)

    def _elsewhere(self, found: Elsewhere, via: tuple[tuple[str, str], ...]) -> Any:
        """The node that an external link leads to: of a file that is live as well, or that is there."""
        link = (self._filename, found.link)
        if link in via:
            circle = [f"{file}::{path}" for file, path in via]
            raise KeyError(f"{found.link!r}: path can't be resolved, found link cycle: {circle}")
        other = self._live(found.file)
        if other is not self and not other.has_scans():
            other.require_file(found.path)
        return other.open("/", found.path, (*via, link))

    def require_file(self, path: str) -> None:
        """Raises what keeps the written file from being read; `KeyError` if there is none, `path` is
        what is sought in it. A look at the disk."""
        try:
            self._written.require_root()
        except DataFileMissingError as error:
            first = "/" + path.strip("/").partition("/")[0]
            raise KeyError(f"No such path: '{first}'") from error

    def look_again(self) -> None:
        """Has the written file looked at anew, whenever that was done last."""
        self._written.look_again()

    def has_scans(self) -> bool:
        """True if there are scans of this file. Round trips until there are."""
        return bool(self._scans.met() or self._scans.look())

    def _live(self, name: str) -> File:
        """Another file that scans of this store belong to, or will."""
        path = self._linked.path(name)
        if path == self._filename:
            return self
        if path not in self._others:
            self._others[path] = _Other(
                path,
                data_store=self._store,
                wait=self._patience.wait,
                timeout=self._patience.timeout,
                roots=self._roots.directories,
            )
        return self._others[path]

    def array(self, place: Place) -> LiveArray:
        """What is behind the dataset at a place."""
        if isinstance(place.item, WrittenItem):
            return place.item.array()
        kind, item, what = item_type(place.item), place.item, f"{self._filename}::{place.path}"
        owner = self._scan_of(place)
        if kind == "external_binary_dataset":
            return external_array(item, self._linked, owner, what)
        if kind == "virtual_dataset":
            return virtual_array(item, self._linked, self._source, owner, what)
        value = item.get("value") if kind == "dataset" else item
        if _type_of_value(value) == "stream":
            return self.stream_array(place, value["stream"], place.path)
        return FixedArray(_decoded(value, what))

    def _source(self, file: str, path: str) -> Source:
        """A dataset that a virtual one takes parts of."""
        if file == "." or self._linked.path(file) == self._filename:
            found = self.open("/", path)
            if not isinstance(found, Dataset):
                raise KeyError(f"'{path}' is not a dataset")
            return found
        return self._linked.hdf5(file).dataset(path)

    def stream_array(self, place: Place, name: str, where: str) -> StreamArray:
        """The stream of that name in the scan that a place belongs to. Raises `KeyError`."""
        scan = self._scan_of(place)
        stream = scan.streams[name]
        length = scan.length(name) if isinstance(scan, FrozenScan) else None
        written = _WrittenStream(stream, self._written, place.path, self._roots, scan)
        return StreamArray(stream, f"{where} (stream {name!r})", length, written)

    def stream_attribute(self, place: Place, name: str, key: str) -> Any:
        """The value of an attribute that a stream feeds: its points now, or those that the written file
        has, once they have left the server. Raises `KeyError`."""
        scan = self._scan_of(place)
        stream = scan.streams[name]
        length = scan.length(name) if isinstance(scan, FrozenScan) else None
        written = _WrittenAttribute(stream, WrittenValue(self._written, place.path, key), scan)
        array = StreamArray(stream, f"attribute {key!r} (stream {name!r})", length, written)
        try:
            return _attribute_value(np.asarray(array.read((), Patience(False))))
        except LeftServer:
            return _attribute_value(np.asarray(written.points(0, None)))

    def _node(self, place: Place) -> Group | Dataset:
        group = not place.steps or is_group(place.item)
        return Group(self, place) if group else Dataset(self, place)

    def group_at(self, place: Place) -> Group:
        """The group at a place that is known."""
        return Group(self, place)

    def link(self, base: str, path: str, default: Any, getclass: bool) -> Any:
        """What h5py's `get(…, getlink=True)` gives."""
        import h5py

        top = _Top(self._scans, self._patience.deadline())
        try:
            _, _, item = link_at(top, base, path)
        except KeyError:
            return default
        kinds: dict[str, tuple[type, tuple[str, ...]]] = {
            "soft_link": (h5py.SoftLink, ("target_path",)),
            "external_link": (h5py.ExternalLink, ("target_file", "target_path")),
        }
        kind, fields = kinds.get(item_type(item), (h5py.HardLink, ()))
        return kind if getclass else kind(*(item[field] for field in fields))

    def renewed(self, place: Place) -> Place:
        """The same place as its scan has it now; as it was if it is no longer there."""
        if not place.steps:
            return place
        scan = self._scan_of(place)
        scan.refresh()
        entry = self._scans.written.entries.get(place.entry or "") if scan.gone else None
        if entry is None:
            entry = scan.entries.get(place.entry or "")
        if entry is place.steps[0][1]:
            return place
        steps = [(place.entry or "", entry)]
        for name, _ in place.steps[1:]:
            inside = children(steps[-1][1]) if is_group(steps[-1][1]) else {}
            if name not in inside:
                return place
            steps.append((name, inside[name]))
        return Place(tuple(steps))

    def _scan_of(self, place: Place) -> AnyScan:
        """The scan that a place belongs to."""
        if place.steps and isinstance(place.steps[0][1], WrittenItem):
            return self._scans.written
        return self._scans.known(place.entry or "")


class _Other(File):
    """A file that a link leads to. If no scan writes it, it is not followed either."""

    def __iter__(self) -> Iterator[str]:
        return super().__iter__() if self.has_scans() else iter(list(self.keys()))

    def tell_if_nothing(self) -> None:
        """Whoever follows the link is told."""


class _Snapshot(File):
    """A file as it was at one instant."""

    def __init__(self, file: File, scans: LiveScans | FrozenScans, anything: bool) -> None:
        super().__init__(
            file.filename, data_store=file.data_store, wait=False, roots=file.roots.directories
        )
        self._every_scan = FrozenScans(scans) if isinstance(scans, LiveScans) else scans
        self._anything = anything

    def has_anything(self) -> bool:
        return self._anything

    def tell_if_nothing(self) -> None:
        """That was told when it was made."""


class _Now(Mapping[str, Any]):
    """What is in a group now: iterating it follows nothing."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def __getitem__(self, key: str) -> Any:
        return self._group[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._group.keys())

    def __len__(self) -> int:
        return len(self._group)


class _Top:
    """The entries of a file, while one path is resolved."""

    def __init__(self, scans: LiveScans | FrozenScans, deadline: Deadline) -> None:
        self._scans = scans
        self._deadline = deadline
        self._looked: Sequence[LiveScan | FrozenScan] | None = None

    def entry(self, name: str) -> Any:
        numbered = _ENTRY.fullmatch(name)
        if numbered is not None:
            scan = self._scans.with_number(int(numbered[1]), name, self._deadline)
            if scan is not None:
                return scan.entries[name]
        found = [scan.entries[name] for scan in self._look() if name in scan.entries]
        return found[-1] if found else self._scans.written.entries.get(name)

    def default_entry(self) -> str | None:
        for scan in reversed(self._look()):
            if scan.wait_ready(self._deadline) and scan.entries:
                return next(iter(scan.entries))
        return self._scans.written.default()

    def _look(self) -> Sequence[LiveScan | FrozenScan]:
        if self._looked is None:
            self._looked = self._scans.look()
        return self._looked


class _WrittenStream:
    """Where the points of a stream are in the file."""

    def __init__(
        self, stream: BaseStream, file: WrittenFile, path: str, roots: DataRoots, scan: AnyScan
    ) -> None:
        self._stream = stream
        self._file = file
        self._path = path
        self._roots = roots
        self._scan = scan
        self._source: FileSource | None = None

    def points(self, start: int, stop: int) -> Any:
        """Points from the file. Raises `PointsNotInFileError`."""
        stream = self._stream
        shape = () if stream.dtype == object else stream.shape
        if any(n < 0 for n in shape):
            return self._varying(start, stop)
        if self._source is None:
            from blissdata.streams.hdf5_fallback.source import FileSource

            what, where = stream.event_stream.what, (self._file.path, self._path)
            self._source = FileSource(
                what, *where, stream.dtype, shape, lambda: self._roots, waits=""
            )
        return self._source.read(start, stop, timeout=0)

    def _varying(self, start: int, stop: int) -> list[np.ndarray[Any, Any]]:
        try:
            return self._file.varying_points(self._path, start, stop)
        except DataFileError as error:
            raise PointsNotInFileError(
                f"{self._stream.event_stream.what}: points {start} to {stop - 1} left the server's "
                f"memory, and cannot be read from {self._file.path}::{self._path}: {error}"
            ) from error

    def scan_left(self) -> bool:
        """True if the scan has left the server. One round trip."""
        return isinstance(self._scan, LiveScan) and self._scan.has_left()


class _WrittenAttribute:
    """Where the points of a stream are in the file that feeds an attribute."""

    def __init__(self, stream: BaseStream, value: WrittenValue, scan: AnyScan) -> None:
        self._stream = stream
        self._value = value
        self._scan = scan

    def points(self, start: int, stop: int | None) -> np.ndarray[Any, Any]:
        """Points from the file, `stop` exclusive; None: all. Raises `PointsNotInFileError`."""
        try:
            found = np.atleast_1d(np.asarray(self._value.value))
            self._check(found, stop)
        except (DataFileError, KeyError) as error:
            raise PointsNotInFileError(
                f"{self._stream.event_stream.what}: its points left the server's memory, and cannot be "
                f"read from attribute {self._value.name!r} of "
                f"{self._value.file.path}::{self._value.path}: {error}"
            ) from error
        return found[start:stop]

    def _check(self, found: np.ndarray[Any, Any], stop: int | None) -> None:
        stream = self._stream
        expected = (stream.dtype, () if stream.dtype == object else tuple(stream.shape))
        if (found.dtype, found.shape[1:]) != expected:
            raise DataFileContentError(
                f"it holds {found.dtype} {found.shape}, expected {expected[0]} with {expected[1]} each"
            )
        if stop is not None and len(found) < stop:
            raise DataFileContentError(f"it has {len(found)} of {stop} points")

    def scan_left(self) -> bool:
        """True if the scan has left the server. One round trip."""
        return isinstance(self._scan, LiveScan) and self._scan.has_left()


# ---------------------------------------------------------------------------------- small rules


def _path(key: object) -> str:
    if isinstance(key, bytes):
        key = key.decode()
    if not isinstance(key, str):
        raise TypeError(f"Accessing a group is done with bytes or str, not {type(key)}")
    if not key:
        raise KeyError("No such path: ''; a group's own is '.'")
    return key


def _type_of_value(item: Any) -> str:
    found = item.get("type") if isinstance(item, Mapping) else None
    return found if isinstance(found, str) else "raw"


def _decoded(item: Any, what: str) -> np.ndarray[Any, Any]:
    """The value that a layout holds. Raises `LayoutError` naming what it is of."""
    from blissdata.h5map import DataItem

    value = validated(DataItem.validate_python, item, what)
    try:
        found: np.ndarray[Any, Any] = value.decode()
    except LayoutError as error:
        raise type(error)(f"{what}: {error}") from error
    return found


def _attribute_value(array: np.ndarray[Any, Any]) -> Any:
    """As h5py gives it: a scalar without its array, text as `str`."""
    if array.dtype == object:
        texts = [text.decode() if isinstance(text, bytes) else text for text in array.flat]
        array = np.array([*texts, None], dtype=object)[:-1].reshape(array.shape)
    return array if array.ndim else array[()]


def _environment_store() -> DataStore:
    from blissdata.redis_engine.store import DataStore

    if not os.environ.get("BLISSDATA_URL") and not os.environ.get("BEACON_HOST"):
        raise ValueError(
            "No DataStore provided, and the environment names no server ($BLISSDATA_URL is not set). "
            "File(path, data_store=DataStore()) reads from your local server, which is not taken "
            "unasked: $BEACON_HOST is not specified"
        )
    return DataStore()
