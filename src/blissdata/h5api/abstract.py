"""The reading interface that every file has, whatever is behind it: h5py's.

    Node ── name attrs parent file
    ├── Group      a mapping of names to nodes ── File   also filename, close(), with
    └── Dataset    a sequence of points: dtype shape size ndim
    Attributes     a mapping of names to values

A subclass defines what is abstract here. The rest (`get`, `visititems`, `asstr`, what numpy, silx
and dask ask for) is made of that, and may be overridden by what knows better.

Two nodes are equal when they are of one class and stand for one path of one file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from silx.io.utils import H5Type

__all__ = ["Attributes", "Dataset", "DatasetIndex", "File", "Group", "Node", "StringReader"]

DatasetIndex: TypeAlias = (
    "int | slice | EllipsisType | str | Sequence[Any] | np.ndarray[Any, Any] | tuple[Any, ...]"
)
"""What selects in a dataset, as in h5py; see `blissdata.h5api.selection`."""


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

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        """Two of them are equal if they are one object: comparing must never read a file."""
        return self is other

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


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

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False:
            raise ValueError(f"{self.name} is read from a file: there is no array without a copy")
        return np.asarray(self[()], dtype)


class StringReader:
    """A dataset of text, read as `str`; made by `Dataset.asstr`."""

    def __init__(self, dataset: Dataset, encoding: str, errors: str) -> None:
        self._dataset = dataset
        self._encoding = encoding
        self._errors = errors

    def __getitem__(self, idx: DatasetIndex) -> Any:
        found = self._dataset[idx]
        if isinstance(found, bytes):
            return found.decode(self._encoding, self._errors)
        decoded = [value.decode(self._encoding, self._errors) for value in found.flat]
        return np.array(decoded, dtype=object).reshape(found.shape)

    def __len__(self) -> int:
        return len(self._dataset)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.asarray(self[()], dtype)


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
