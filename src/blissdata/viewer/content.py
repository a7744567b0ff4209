"""What H5Web asks of a file, answered for any file of ours: as h5grove answers for a file on disk.

    meta    what stands at a path: kind, attributes, shape, type; a group's children
    attr    the values of its attributes
    data    the values of a dataset, or of a part of it
    stats   minimum, maximum, mean and spread of these
    paths   every path below a group

Files are read through `blissdata.h5api`, so a running scan, a closed one and a written file give the same
answers. h5grove's helpers say what a type is and how values are encoded. Nothing here knows of the web.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import h5py
import numpy as np

from blissdata.exceptions import (
    BlissdataError,
    DataFileBusyError,
    DataFileError,
    DataFileRefusedError,
    MissingExtraError,
)
from blissdata.h5api.abstract import Dataset, File, Group

try:
    from h5grove import encoders, utils
except ImportError as error:
    raise MissingExtraError(
        'h5grove is not installed, and the viewer needs it: pip install "blissdata[web]"'
    ) from error

__all__ = [
    "MAX_PATHS",
    "MAX_SELECTION_NBYTES",
    "BadQuestionError",
    "Content",
    "Encoded",
    "NotNowError",
    "NotThereError",
    "RefusedError",
    "TooLargeError",
    "ViewerError",
    "encoded",
]

T = TypeVar("T")

MAX_SELECTION_NBYTES = 2**28
"""How much one answer may hold [bytes]."""

MAX_PATHS = 100_000
"""How many paths are listed of one file."""

_TEXT = h5py.string_dtype()

_FILTERS = {"gzip": (1, "deflate"), "szip": (4, "szip"), "lzf": (32000, "lzf")}
"""Numbers and names that HDF5 has for what h5py calls so."""


class ViewerError(BlissdataError):
    """A question that has no answer. `status` is what HTTP calls it."""

    status = 500


class NotThereError(ViewerError):
    """There is nothing of that name (any more, or yet)."""

    status = 404


class BadQuestionError(ViewerError):
    """The question cannot be understood, or makes no sense for what it is asked of."""

    status = 422


class RefusedError(ViewerError):
    """It may not be read here."""

    status = 403


class TooLargeError(ViewerError):
    """The answer would be too large."""

    status = 413


class NotNowError(ViewerError):
    """Somebody is writing it, or the server is away; later."""

    status = 503


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer as bytes."""

    body: bytes
    """What it is."""

    headers: Mapping[str, str]
    """What HTTP says of it: its type, and its name if it is to be saved."""


def encoded(answer: Any, form: str | None = "json") -> Encoded:
    """An answer in one of h5grove's forms: `json`, `bin`, `npy`, `csv` or `tiff`.

    Raises `BadQuestionError` for another form, and for values that do not fit into it."""
    form = form or "json"
    if form in ("bin", "npy", "csv", "tiff") and not _is_plain(answer):
        raise BadQuestionError(f"Only numbers can be had as {form}; ask for json")
    try:
        found = encoders.encode(answer, form)
    except (ValueError, TypeError, IndexError) as error:
        raise BadQuestionError(f"This cannot be had as {form}: {error}") from error
    return Encoded(found.content, found.headers)


def _is_plain(answer: Any) -> bool:
    return isinstance(answer, np.ndarray | np.generic) and answer.dtype.kind in "biufc"


class Content:
    """What a file answers. Give it a snapshot, then one question never contradicts the next."""

    def __init__(self, file: File) -> None:
        self._file = file

    # ------------------------------------------------------------------------------ questions

    def meta(self, path: str | None = "/", resolve_links: str | None = None) -> dict[str, Any]:
        """What stands at a path. `resolve_links` is `only_valid` (default: a link that leads nowhere is
        shown as a link), `none` or `all`. Raises `NotThereError`, `BadQuestionError`."""
        where = _normal(path)
        return self._meta(where, _resolution(resolve_links), children=True)

    def attr(self, path: str | None = "/", names: Sequence[str] | None = None) -> dict[str, Any]:
        """The values of the attributes of what stands at a path: of all, or of those names. Raises
        `NotThereError`."""
        where = _normal(path)
        attrs = self._node(where).attrs
        found: dict[str, Any] = {}
        for name in attrs if names is None else names:
            if name not in attrs:
                raise NotThereError(f"{where} has no attribute {name!r}")
            found[name] = _jsonable(attrs[name])
        return found

    def data(
        self,
        path: str | None,
        selection: str | None = None,
        dtype: str | None = None,
        flatten: bool = False,
    ) -> Any:
        """The values of a dataset, or of the part that a selection names: `5`, `1:3,:,0`, `::2`.

        `dtype` is `origin` (default) or `safe`: then numbers are of a type that JavaScript has, in its
        byte order. Raises `NotThereError`; `BadQuestionError` for a selection that is malformed or out
        of range; `TooLargeError` for one of more than `MAX_SELECTION_NBYTES`."""
        values = self._values(_normal(path), selection)
        if isinstance(values, h5py.Empty):
            return None
        if dtype not in (None, "", "origin") and not _is_plain(values):
            raise BadQuestionError(f"{path} holds no numbers: there is no dtype={dtype} of that")
        try:
            values = utils.convert(values, dtype or "origin") if _is_plain(values) else values
        except (ValueError, TypeError) as error:
            raise BadQuestionError(str(error)) from error
        return values.reshape(-1) if flatten and isinstance(values, np.ndarray) else values

    def stats(self, path: str | None, selection: str | None = None) -> dict[str, Any]:
        """Of the finite values: `min`, `max`, `mean`, `std`, and the smallest that are ≥ 0 and > 0; None
        where there are none. Raises as `data` does, also for what are no real numbers."""
        found = self._values(_normal(path), selection)
        if isinstance(found, h5py.Empty):
            raise BadQuestionError(f"{path} has no value: there are no statistics of that")
        if not isinstance(found, np.ndarray | np.generic):
            raise BadQuestionError(f"{path} holds no numbers: there are no statistics of that")
        values = np.asarray(found)
        if values.dtype.kind not in "biuf" and values.size:
            raise BadQuestionError(f"{path} holds {values.dtype}: there are no statistics of that")
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        return dict(utils.get_array_stats(values))

    def paths(self, path: str | None = "/") -> list[str]:
        """Every path below a group, its own first; links are listed and not followed. Raises
        `NotThereError`, `BadQuestionError` for a dataset, `TooLargeError` above `MAX_PATHS`."""
        where = _normal(path)
        group = self._node(where)
        if not isinstance(group, Group):
            raise BadQuestionError(f"{where} is a dataset, not a group")
        found = [where]
        for below in _asked(where, lambda: _walk(group, where)):
            found.append(below)
            if len(found) > MAX_PATHS:
                raise TooLargeError(f"{where} has more than {MAX_PATHS} paths; ask for one group")
        return found

    # ------------------------------------------------------------------------------ what stands where

    def _node(self, path: str) -> Any:
        def find() -> Any:
            return self._file if path == "/" else self._file[path]

        return _asked(path, lambda: [find()])[0]

    def _meta(self, path: str, resolution: str, *, children: bool) -> dict[str, Any]:
        name = path.rpartition("/")[2]
        link = self._link(path)
        if link is not None and resolution == "none":
            return {"name": name, **link}
        try:
            node = self._node(path)
        except (NotThereError, RefusedError):
            if link is None or resolution == "all":
                raise
            return {"name": name, **link}
        common = {"name": name, "attributes": _attributes(node)}
        if isinstance(node, Dataset):
            return {**common, "kind": "dataset", **_asked(path, lambda: [_described(node)])[0]}
        found = {**common, "kind": "group"}
        if children:
            names = _asked(path, lambda: _names(node))
            found["children"] = list(self._children(path, names))
        return found

    def _children(self, path: str, names: Iterable[str]) -> Iterator[dict[str, Any]]:
        """`resolve_links` is about what was asked for; in a group, links are followed where they lead
        somewhere."""
        for name in names:
            try:
                yield self._meta(f"{path.rstrip('/')}/{name}", "only_valid", children=False)
            except (NotThereError, RefusedError, BadQuestionError):
                continue  # gone meanwhile, or of a class that nobody can show

    def _link(self, path: str) -> dict[str, Any] | None:
        """The link that stands at a path, None if there is no link or only a hard one."""
        if path == "/":
            return None
        found = _asked(path, lambda: [self._file.get(path, getlink=True)])[0]
        if isinstance(found, h5py.SoftLink):
            return {"kind": "soft_link", "target_path": found.path}
        if isinstance(found, h5py.ExternalLink):
            return {
                "kind": "external_link",
                "target_file": found.filename,
                "target_path": found.path,
            }
        return None

    def _values(self, path: str, selection: str | None) -> Any:
        dataset = self._node(path)
        if not isinstance(dataset, Dataset):
            raise BadQuestionError(f"{path} is a group, not a dataset")

        def read() -> Any:
            if dataset.is_null:
                if selection:
                    raise BadQuestionError(f"{path} has no value: there is nothing to select from")
                return dataset[()]
            shape = dataset.shape
            index = _index(selection, shape)
            _require_small(path, index, shape, dataset.dtype)
            return dataset[index] if index else dataset[()]

        return _asked(path, lambda: [read()])[0]


# ---------------------------------------------------------------------------------- small rules


def _normal(path: str | None) -> str:
    """The path as everybody would write it."""
    if path is not None and "\0" in path:
        raise BadQuestionError("A path holds no NUL")
    return "/" + "/".join(part for part in (path or "/").split("/") if part not in ("", "."))


def _resolution(text: str | None) -> str:
    found = {None: "only_valid", "": "only_valid", "true": "all", "false": "none"}.get(text, text)
    if found not in ("only_valid", "none", "all"):
        raise BadQuestionError(f"resolve_links is only_valid, none or all, not {text!r}")
    return found


def _asked(path: str, work: Callable[[], Iterable[T]]) -> list[T]:
    """What the work gives; what it raises, as an answer."""
    try:
        return list(work())
    except ViewerError:
        raise
    except DataFileRefusedError as error:
        raise RefusedError(str(error)) from error
    except DataFileBusyError as error:
        raise NotNowError(str(error)) from error
    except KeyError as error:
        raise NotThereError(f"There is nothing at {path}: {error.args[0]}") from error
    except (DataFileError, ConnectionError) as error:
        if isinstance(error, LookupError | FileNotFoundError):
            raise NotThereError(str(error)) from error
        if isinstance(error, ConnectionError):
            raise NotNowError(str(error)) from error
        raise BadQuestionError(str(error)) from error
    except (IndexError, ValueError, TypeError, BlissdataError) as error:
        raise BadQuestionError(f"{path}: {error}") from error


def _names(group: Group) -> list[str]:
    return list(group.keys())


def _walk(group: Group, path: str) -> Iterator[str]:
    for name in sorted(_names(group)):  # as HDF5 visits them
        where = f"{path.rstrip('/')}/{name}"
        yield where
        link = group.get(name, getclass=True, getlink=True)
        if link is h5py.HardLink and group.get(name, getclass=True) is h5py.Group:
            yield from _walk(group[name], where)


def _attributes(node: Any) -> list[dict[str, Any]]:
    found = _asked(node.name, lambda: [dict(node.attrs.items())])[0]
    return [{"name": name, **_valued(value)} for name, value in found.items()]


def _valued(value: Any) -> dict[str, Any]:
    """Shape and type of an attribute's value."""
    if isinstance(value, h5py.Empty):
        return {"shape": None, "type": _type(value.dtype)}
    array = np.asarray(value)
    is_text = isinstance(value, str) or array.dtype.kind in "OU"
    return {"shape": array.shape, "type": _type(_TEXT if is_text else array.dtype)}


def _jsonable(value: Any) -> Any:
    return None if isinstance(value, h5py.Empty) else value


def _described(dataset: Dataset) -> dict[str, Any]:
    """Shape, type and storage of a dataset. Points whose shapes differ are what HDF5 calls of variable
    length."""
    if dataset.is_null:
        return {"shape": None, "type": _type(dataset.dtype), "chunks": None, "filters": None}
    shape: tuple[int, ...] = dataset.shape
    dtype = dataset.dtype
    if any(n < 0 for n in shape):
        shape, dtype = shape[:1], h5py.vlen_dtype(dtype)
    chunks = dataset.chunks if shape and all(n >= 0 for n in shape) else None
    return {
        "shape": shape,
        "type": _type(dtype),
        "chunks": chunks,
        "filters": _filters(dataset.compression),
    }


def _filters(compression: Any) -> list[dict[str, Any]] | None:
    if compression is None:
        return None
    number, name = _FILTERS.get(str(compression), (compression, str(compression)))
    return [{"id": number, "name": name}]


def _type(dtype: np.dtype[Any]) -> dict[str, Any]:
    found: dict[str, Any] = dict(utils.get_type_metadata(h5py.h5t.py_create(dtype, logical=True)))
    return found


def _index(selection: str | None, shape: tuple[int, ...]) -> tuple[int | slice, ...]:
    """What a selection names, one member for each axis it mentions. Out of range: `BadQuestionError`."""
    if not selection:
        return ()
    try:
        index = tuple(utils.parse_slice(selection))
    except ValueError as error:
        raise BadQuestionError(f"{selection!r} is no selection: {error}") from error
    if len(index) > len(shape):
        raise BadQuestionError(f"{selection!r} has more members than {len(shape)} axes")
    for member, length in zip(index, shape, strict=False):
        if isinstance(member, int):
            if length >= 0 and not -length <= member < length:
                raise BadQuestionError(
                    f"{selection!r}: index {member} is out of range, there are {length}"
                )
        elif member.step is not None and member.step < 1:
            raise BadQuestionError(f"{selection!r}: a step is 1 or more")
    return index


def _require_small(
    path: str, index: tuple[int | slice, ...], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    members = (*index, *[slice(None)] * (len(shape) - len(index)))
    counts = [
        1 if isinstance(member, int) else len(range(*member.indices(max(length, 1))))
        for member, length in zip(members, shape, strict=True)
    ]
    size = prod(counts) * dtype.itemsize
    if size > MAX_SELECTION_NBYTES:
        raise TooLargeError(
            f"{path}: {size} bytes are asked for at once, and {MAX_SELECTION_NBYTES} are the most; ask "
            "for a part: selection=a:b"
        )
