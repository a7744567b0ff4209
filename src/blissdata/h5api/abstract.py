"""The reading interface that every file has, whatever is behind it: h5py's.

    Node ── name attrs parent file
    ├── Group      a mapping of names to nodes ── File   also filename, close(), with
    └── Dataset    a sequence of points: dtype shape size ndim
    Attributes     a mapping of names to values

A subclass defines what is abstract here. The rest (`get`, `visititems`, `asstr`, what numpy, silx
and dask ask for) is made of that, and may be overridden by what knows better. What changes a file has
h5py's names too, and raises `ReadOnlyFileError`.

Two nodes are equal when they are of one class and stand for one path of one file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeAlias

import numpy as np

from blissdata.exceptions import ReadOnlyFileError
from blissdata.h5api.dataset_views import (
    AsType,
    Dimensions,
    Fields,
    StringReader,
    chunk_slices,
)

if TYPE_CHECKING:
    from silx.io.utils import H5Type

__all__ = [
    "AttributeType",
    "Attributes",
    "Dataset",
    "DatasetIndex",
    "File",
    "Group",
    "Node",
    "StringReader",
]

DatasetIndex: TypeAlias = (
    "int | slice | EllipsisType | str | Sequence[Any] | np.ndarray[Any, Any] | tuple[Any, ...]"
)
"""What selects in a dataset, as in h5py; see `blissdata.h5api.selection`."""

_TEXT: np.dtype[Any] = np.dtype("O", metadata={"vlen": str})
"""Text of any length, with the mark that h5py gives it."""


@dataclass(frozen=True, slots=True)
class AttributeType:
    """What kind of value an attribute has."""

    dtype: np.dtype[Any]
    """That in the file: text of any length is of dtype object, with h5py's mark."""

    shape: tuple[int, ...] | None
    """`()` for a scalar, None for one that has a type and no value."""

    @classmethod
    def of(cls, value: Any) -> AttributeType:
        """The kind of a value that h5py would give."""
        if isinstance(value, str):
            return cls(_TEXT, ())
        dtype: np.dtype[Any] = value.dtype
        if dtype.kind == "O" and not dtype.metadata and all(isinstance(t, str) for t in value.flat):
            dtype = _TEXT
        return cls(dtype, value.shape)


class Attributes(Mapping[str, Any]):
    """The attributes of one node: names to values, as h5py gives them. No such name: `KeyError`."""

    @abstractmethod
    def __getitem__(self, key: str) -> Any:
        """The value of that attribute: text is `str`, numbers are numpy's."""

    @abstractmethod
    def __iter__(self) -> Iterator[str]:
        """The names."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are now."""

    def get_id(self, name: str) -> AttributeType:
        """Type and shape of that attribute, which silx asks for; h5py gives HDF5's handle, of which our
        answer has `dtype` and `shape`. Raises `KeyError`."""
        return AttributeType.of(self[name])

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        """Two of them are equal if they are one object: comparing must never read a file."""
        return self is other

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of that attribute. No such name: `ReadOnlyFileError`, for it cannot be made."""
        return self[key] if key in self else _refuse(f"make attribute {key!r}")

    def __setitem__(self, key: str, value: Any) -> None:
        _refuse(f"set attribute {key!r}")

    def __delitem__(self, key: str) -> None:
        _refuse(f"delete attribute {key!r}")

    def _changed(self, *arguments: Any, **options: Any) -> NoReturn:
        """Raises `ReadOnlyFileError`."""
        _refuse("change attributes")

    clear = create = modify = pop = popitem = update = _changed


def _refuse(what: str) -> NoReturn:
    raise ReadOnlyFileError(
        f"Cannot {what}: this file is read-only. The publisher decides what is in it; "
        "h5py.File(path, 'r+') changes a file that is written and finished"
    )


class Node(ABC):
    """A group or a dataset: what stands at one path of a file."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The absolute path in the file, `/` for the file itself."""

    @property
    @abstractmethod
    def attrs(self) -> Attributes:
        """Its attributes."""

    @property
    @abstractmethod
    def parent(self) -> Group | None:
        """The group that it is in; None for a file on disk (`/` for a live one)."""

    @property
    @abstractmethod
    def file(self) -> File:
        """The file that it belongs to."""

    @property
    def identity(self) -> Hashable | None:
        """What is the same for all hard links to one object of a file; None where an object has one
        place alone, or nothing is known of it."""
        return None

    @property
    def h5_class(self) -> H5Type:
        """What it is, in silx's words. Needs silx."""
        from silx.io.utils import H5Type

        return {File: H5Type.FILE, Group: H5Type.GROUP, Dataset: H5Type.DATASET}[_kind(self)]

    @property
    def h5py_class(self) -> type:
        """The h5py class that it stands for: `h5py.File`, `h5py.Group` or `h5py.Dataset`."""
        import h5py

        found: type = {File: h5py.File, Group: h5py.Group, Dataset: h5py.Dataset}[_kind(self)]
        return found

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Node) or type(other) is not type(self):
            return NotImplemented
        if self.name != other.name:
            return False
        return self.file is other.file or self.file.filename == other.file.filename

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def __bool__(self) -> bool:  # as in h5py: it is there, be it empty
        return True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def _entry_row(file: File, name: str) -> tuple[str, str, str]:
    """The name of what is at the top of a file, its class and its title, as far as they can be read."""
    try:
        node = file[name]
        kind = str(node.attrs.get("NX_class", "")) or _kind(node).__name__.lower()
        title = node.get("title") if isinstance(node, Group) else None
        text = title[()] if isinstance(title, Dataset) else ""
        return name, kind, text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    except (LookupError, OSError, ValueError) as error:
        return name, "", f"({error})"


def _kind(node: Node) -> type[Node]:
    for kind in (File, Group, Dataset):
        if isinstance(node, kind):
            return kind
    raise TypeError(f"{type(node).__name__} is neither a File nor a Group nor a Dataset")


class Group(Node, Mapping[str, Node]):
    """A group: names to groups and datasets. Names are paths: relative (`a`, `a/b`) or absolute
    (`/1.1/a`), then from the top of the file. Nothing there: `KeyError`."""

    @abstractmethod
    def __getitem__(self, key: str) -> Any:
        """The group or dataset at that path; links are followed. Nothing there: `KeyError`."""

    @abstractmethod
    def __iter__(self) -> Iterator[str]:
        """The names in this group."""

    @abstractmethod
    def __len__(self) -> int:
        """How many names there are now."""

    __hash__ = Node.__hash__
    __eq__ = Node.__eq__

    def get(
        self, key: str, default: Any = None, getclass: bool = False, getlink: bool = False
    ) -> Any:
        """The node at that path, or `default`.

        `getclass`: its h5py class instead. `getlink`: the link instead (`h5py.SoftLink(path)`, …),
        which is not followed; with `getclass` too, the link's class.
        """
        if key not in self:
            return default
        if getlink:
            import h5py

            return h5py.HardLink if getclass else h5py.HardLink()
        node = self[key]
        return node.h5py_class if getclass else node

    def visit(self, func: Callable[[str], Any]) -> Any:
        """Calls `func(name)` for everything below, as `visititems` does."""
        return self.visititems(lambda name, node: func(name))

    def visititems(self, func: Callable[[str, Any], Any]) -> Any:
        """Calls `func(name, node)` for everything below this group, depth first; names are
        relative to it. The first result that is not None ends it and is given back. Soft and external
        links are not followed, and an object with several hard links comes once."""
        return _visit(self, "", func, {self.identity} - {None})

    def visit_links(self, func: Callable[[str], Any]) -> Any:
        """Calls `func(name)` for each link below, as `visititems_links` does."""
        return self.visititems_links(lambda name, link: func(name))

    def visititems_links(self, func: Callable[[str, Any], Any]) -> Any:
        """Calls `func(name, link)` for each link below this group, depth first: `h5py.HardLink`,
        `SoftLink` or `ExternalLink`, of which only the first are followed. The first result that is
        not None ends it and is given back."""
        return _visit_links(self, "", func)

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self.keys()))

    def require_group(self, name: str) -> Any:
        """The group of that name. None there: `ReadOnlyFileError`, for it cannot be made; a dataset:
        `TypeError`."""
        if name not in self:
            _refuse(f"make group {name!r} in {self.name}")
        found = self[name]
        if not isinstance(found, Group):
            raise TypeError(f"{found.name} is a dataset, not a group")
        return found

    def require_dataset(self, name: str, shape: Any, dtype: Any, *_: Any, **options: Any) -> Any:
        """The dataset of that name. None there: `ReadOnlyFileError`; a group, or another shape or
        dtype: `TypeError`."""
        if name not in self:
            _refuse(f"make dataset {name!r} in {self.name}")
        found = self[name]
        if not isinstance(found, Dataset):
            raise TypeError(f"{found.name} is a group, not a dataset")
        wanted = (shape,) if isinstance(shape, int) else tuple(shape)
        exact = options.get("exact", False)
        fits = found.dtype == dtype if exact else np.can_cast(found.dtype, dtype)
        if found.shape != wanted or not fits:
            raise TypeError(
                f"{found.name} has shape {found.shape} and dtype {found.dtype}, not {wanted} and {dtype}"
            )
        return found

    def setdefault(self, name: str, default: Any = None) -> Any:
        """What stands at that path. Nothing there: `ReadOnlyFileError`."""
        return self[name] if name in self else _refuse(f"make {name!r} in {self.name}")

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse(f"make {name!r} in {self.name}")

    def __delitem__(self, name: str) -> None:
        _refuse(f"delete {name!r} in {self.name}")

    def _changed(self, *arguments: Any, **options: Any) -> NoReturn:
        """Raises `ReadOnlyFileError`. (`silx.io.convert` copies this tree into a file.)"""
        _refuse(f"change {self.name}")

    create_group = create_dataset = create_dataset_like = _changed
    create_virtual_dataset = build_virtual_dataset = _changed
    clear = copy = move = pop = popitem = update = _changed


def _visit_links(group: Group, prefix: str, func: Callable[[str, Any], Any]) -> Any:
    import h5py

    for name in list(group.keys()):
        link = group.get(name, getlink=True)
        found = func(f"{prefix}{name}", link)
        if found is None and isinstance(link, h5py.HardLink):
            inside = group.get(name)
            if isinstance(inside, Group):
                found = _visit_links(inside, f"{prefix}{name}/", func)
        if found is not None:
            return found
    return None


def _visit(
    group: Group, prefix: str, func: Callable[[str, Any], Any], seen: set[Hashable | None]
) -> Any:
    import h5py

    for name in list(group):
        if group.get(name, getclass=True, getlink=True) is not h5py.HardLink:
            continue
        node = group[name]
        identity = node.identity
        if identity in seen:  # hard links may lead round in a circle
            continue
        if identity is not None:
            seen.add(identity)
        found = func(f"{prefix}{name}", node)
        if found is None and isinstance(node, Group):
            found = _visit(node, f"{prefix}{name}/", func, seen)
        if found is not None:
            return found
    return None


class Dataset(Node, Sequence[Any]):
    """A dataset: an array with a name, read by indexing. The first axis counts points."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """dtype of its elements; text is of dtype object, as in h5py."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """How long each axis is now: `(points, …)`, `()` for a scalar."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many elements there are now."""

    @property
    @abstractmethod
    def ndim(self) -> int:
        """How many axes there are."""

    @abstractmethod
    def __len__(self) -> int:
        """How long the first axis is now; `TypeError` for a scalar."""

    @abstractmethod
    def __getitem__(self, idx: DatasetIndex) -> Any:
        """What is selected, as h5py gives it: a scalar or an array; text is `bytes`."""

    @property
    def is_null(self) -> bool:
        """True if it has a type and no value, and so no shape either; `[()]` gives `h5py.Empty` then."""
        return False

    @property
    def nbytes(self) -> int:
        """Size in memory [bytes] of what there is now."""
        return self.size * self.dtype.itemsize

    @property
    def maxshape(self) -> tuple[int | None, ...]:
        """How long each axis may become; None: any length."""
        return self.shape

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of a chunk; None if it is not stored in chunks."""
        return None

    @property
    def compression(self) -> str | None:
        """The filter that compresses it, in h5py's words; None for none."""
        return None

    @property
    def compression_opts(self) -> Any:
        """What that filter was told."""
        return None

    @property
    def is_virtual(self) -> bool:
        """True if it is composed of parts of other datasets."""
        return False

    @property
    def external(self) -> list[tuple[str, int, int | None]] | None:
        """Where the bytes are, if they are in binary files: `(file, offset, size)` [bytes]."""
        return None

    def asstr(self, encoding: str | None = None, errors: str = "strict") -> StringReader:
        """The same dataset, indexed alike, whose text comes as `str`. Without `encoding`: the one
        that the dtype names. Not text: `TypeError`."""
        import h5py

        found = h5py.check_string_dtype(self.dtype)
        if found is None:
            raise TypeError(f"{self.name} holds {self.dtype}, not text")
        return StringReader(self, encoding or found.encoding, errors)

    def astype(self, dtype: Any) -> AsType:
        """The same dataset, indexed alike, of which each value is converted to that dtype."""
        return AsType(self, dtype)

    def fields(self, names: str | Sequence[str]) -> Fields:
        """Some fields of a compound dataset, indexed like it; one name: that field alone. No such
        field: `ValueError`."""
        return Fields(self, names)

    def len(self) -> int:
        """`len(dataset)`."""
        return len(self)

    def read_direct(
        self, dest: np.ndarray[Any, Any], source_sel: Any = None, dest_sel: Any = None
    ) -> None:
        """Reads into an array that exists: `dest[dest_sel] = dataset[source_sel]`; None takes all.
        Shapes that do not fit: `TypeError`."""
        found = self[() if source_sel is None else source_sel]
        try:
            dest[... if dest_sel is None else dest_sel] = found
        except ValueError as error:
            raise TypeError(f"{self.name}: {error}") from error

    def iter_chunks(self, sel: Any = None) -> Iterator[tuple[slice, ...]]:
        """The slices that lead from chunk to chunk of what there is now, inside `sel` (slices without
        a step). Not chunked: `TypeError`."""
        chunks = self.chunks
        if chunks is None:
            raise TypeError(f"{self.name} is not stored in chunks")
        return chunk_slices(self.shape, chunks, sel)

    @property
    def dims(self) -> Any:
        """Its axes, with the labels that `DIMENSION_LABELS` gives them."""
        labels = self.attrs.get("DIMENSION_LABELS")
        given = [] if labels is None else [_text(label) for label in np.ravel(labels)]
        return Dimensions([*given, *[""] * self.ndim][: self.ndim])

    @property
    def is_scale(self) -> bool:
        """True if it is a dimension scale."""
        return bool(_text(self.attrs.get("CLASS", "")) == "DIMENSION_SCALE")

    @property
    def fillvalue(self) -> Any:
        """What stands where nobody wrote."""
        return (
            b"" if self.dtype.hasobject and not self.dtype.names else np.zeros((), self.dtype)[()]
        )

    @property
    def shuffle(self) -> bool:
        """True if bytes are shuffled before they are compressed."""
        return False

    @property
    def fletcher32(self) -> bool:
        """True if chunks carry checksums."""
        return False

    @property
    def scaleoffset(self) -> int | None:
        """What that filter was told; None without it."""
        return None

    def virtual_sources(self) -> list[Any]:
        """The parts that it is composed of, as h5py's `VDSmap`s. Not virtual: `RuntimeError`."""
        raise RuntimeError(f"{self.name} is not a virtual dataset")

    def flush(self) -> None:
        """Nothing: what is read here is never changed here."""

    def refresh(self) -> None:
        """Nothing: each access looks at what there is now."""

    def __setitem__(self, idx: Any, value: Any) -> None:
        _refuse(f"write into {self.name}")

    def _changed(self, *arguments: Any, **options: Any) -> NoReturn:
        """Raises `ReadOnlyFileError`."""
        _refuse(f"change {self.name}")

    resize = write_direct = make_scale = _changed

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False:
            raise ValueError(f"{self.name} is read from a file: there is no array without a copy")
        return np.asarray(self[()], dtype)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class File(Group):
    """A file: its root group, which can be closed."""

    @property
    @abstractmethod
    def filename(self) -> str:
        """Where the file is."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the file. Closing again does nothing."""

    @property
    def mode(self) -> str:
        """Always `r`: files are read here."""
        return "r"

    @property
    def swmr_mode(self) -> bool:
        """False, as for every file that is not opened in HDF5's own way to follow a writer."""
        return False

    @property
    def userblock_size(self) -> int:
        """0: nothing stands in front of the HDF5 file [bytes]."""
        return 0

    def flush(self) -> None:
        """Nothing: what is read here is never changed here."""

    def _repr_html_(self) -> str:
        """What a notebook shows: what is at the top now."""
        from blissdata.notebook import file_html

        return file_html(self.filename, [_entry_row(self, name) for name in list(self.keys())])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
