"""A layout as a whole: read from a scan's info, walked, and checked before a reader stumbles.

    info["h5maps"]   {file: group}; the group's children are the entries, `1.1`, …
    info["mapping"]  the talk's notation; it describes one entry of the scan's own file

A name may be a path: `{"a/b": …}` is item `b` in group `a`, as in h5py. Found here: a stream that the
scan does not have, two items at one path, a link to nowhere or in a circle, a value or attribute that
HDF5 cannot hold, sources that do not fit their virtual dataset. Each mistake names its path.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
from pydantic import ValidationError

from blissdata.exceptions import LayoutError
from blissdata.h5map.data_items import Compound, Stream
from blissdata.h5map.hdf5_items import (
    Dataset,
    ExternalBinaryDataset,
    ExternalLink,
    Group,
    SoftLink,
    SpaceSelection,
    VirtualDataset,
)
from blissdata.h5map.mapping import read_mapping
from blissdata.h5map.mistakes import Mistake, explain, joined, refuse

__all__ = [
    "Item",
    "Mistake",
    "check_attribute_name",
    "check_info",
    "check_layout",
    "check_prepared",
    "has_layout",
    "layouts",
    "read_layout",
    "streams_of",
    "walk",
]

Item: TypeAlias = Group | Dataset | ExternalBinaryDataset | VirtualDataset | SoftLink | ExternalLink

MAX_ATTRIBUTE_NBYTES = 65_000
"""An attribute stands in an object header message, which HDF5 limits to 64 KiB, head and name included."""

_VLEN_NBYTES = 16
"""What a text takes in an attribute: its length and where it is."""

_MAX_LINKS = 100
"""Soft links on one way: more are a circle, or nobody's intention."""

_NAMED = 10
"""Names of streams that a message lists."""


# -------------------------------------------------------------------------------- a scan's info


def has_layout(info: Mapping[str, Any]) -> bool:
    """Whether a scan's info says what its file will look like."""
    return bool(info.get("h5maps") or info.get("mapping"))


def layouts(
    info: Mapping[str, Any], path: str | None = None, entry: str = "1.1"
) -> dict[str, Group]:
    """The layouts in a scan's info, by file. `path` and `entry` are the scan's own file and the name
    of its entry there: `info["mapping"]` describes that. Raises `LayoutError` naming the path of each
    mistake."""
    found, mistakes = _read(info, path, entry)
    refuse(mistakes)
    return found


def check_info(
    info: Mapping[str, Any],
    streams: Collection[str],
    path: str | None = None,
    entry: str = "1.1",
) -> list[Mistake]:
    """All mistakes in the layouts of a scan's info; `streams` are the names of its streams."""
    found, mistakes = _read(info, path, entry)
    for file, group in found.items():
        mistakes += [one.of_file(file) for one in check_layout(group, streams)]
    return mistakes


def check_prepared(
    info: Mapping[str, Any],
    streams: Collection[str],
    path: str | None = None,
    entry: str = "1.1",
) -> list[Mistake]:
    """The mistakes in `info["h5maps"]`, for a scan that is about to be prepared; arguments as for
    `check_info`. Programs written for blissdata 2.x were never told of them, and stumble over none:
    they are for the log. Raises `LayoutError` naming each mistake in `info["mapping"]`."""
    mapped = {name: info[name] for name in ("h5maps",) if info.get(name)}
    try:
        doubtful = check_info(mapped, streams, path, entry)
    except RecursionError:
        doubtful = [Mistake("/", "more groups within each other than can be looked at")]
        mapped = {}
    if info.get("mapping"):
        mapped["mapping"] = info["mapping"]
        known = set(doubtful)
        refuse(one for one in check_info(mapped, streams, path, entry) if one not in known)
    return doubtful


def _read(
    info: Mapping[str, Any], path: str | None, entry: str
) -> tuple[dict[str, Group], list[Mistake]]:
    found: dict[str, Group] = {}
    mistakes: list[Mistake] = []
    h5maps = info.get("h5maps") or {}
    if not isinstance(h5maps, Mapping):
        mistakes.append(Mistake("/", f"h5maps is {{file: group}}, found {type(h5maps).__name__}"))
        h5maps = {}
    for file, given in h5maps.items():
        group, wrong = _read_group(given)
        found[str(file)] = group
        mistakes += [one.of_file(str(file)) for one in wrong]
    mapping = info.get("mapping")
    if mapping:
        own = path or ""
        described, wrong = read_mapping(mapping, joined("/", entry))
        whole = Group(children={entry: described})
        if own in found:
            whole, clashes = _together([found[own], whole])
            wrong += clashes
        else:
            whole, clashes = _expanded(whole)
            wrong += clashes
        found[own] = whole
        mistakes += [one.of_file(own) for one in wrong]
    return found, mistakes


# ---------------------------------------------------------------------------------------- read


def read_layout(given: Any) -> Group:
    """The root group of a file, from a `Group` or from what JSON made of one. Names that are paths
    have become groups. Raises `LayoutError` naming the path of each mistake."""
    group, mistakes = _read_group(given)
    refuse(mistakes)
    return group


def _read_group(given: Any) -> tuple[Group, list[Mistake]]:
    if isinstance(given, Mapping) and not isinstance(given, dict):
        given = dict(given)
    try:
        group = Group.model_validate(given)
    except ValidationError as error:
        return Group(), explain(error)
    return _expanded(group)


def _expanded(group: Group) -> tuple[Group, list[Mistake]]:
    """The same layout without names that are paths."""
    if all(_is_name(name) for _, one in _groups(group) for name in one.children):
        return group, []
    return _together([group])


def _groups(root: Group, path: str = "/") -> Iterator[tuple[str, Group]]:
    waiting = [(path, root)]
    while waiting:
        path, group = waiting.pop()
        yield path, group
        waiting += [
            (joined(path, name), child)
            for name, child in group.children.items()
            if isinstance(child, Group)
        ]


def _is_name(name: str) -> bool:
    return bool(name) and "/" not in name and "\0" not in name and name not in (".", "..")


class _Place:
    """A path under construction: an item, or a group and what is below it."""

    def __init__(self) -> None:
        self.item: Item | None = None
        self.below: dict[str, _Place] = {}

    def build(self) -> Item:
        if self.item is not None and not isinstance(self.item, Group):
            return self.item
        attributes = {} if self.item is None else self.item.attributes
        children = {name: place.build() for name, place in self.below.items()}
        return Group(attributes=attributes, children=children)


def _together(roots: Sequence[Group]) -> tuple[Group, list[Mistake]]:
    """Several layouts of one file as one, names that are paths spelled out."""
    mistakes: list[Mistake] = []
    top = _Place()
    for root in roots:
        attributes = {} if top.item is None else top.item.attributes  # type: ignore[union-attr]
        top.item = Group(attributes={**attributes, **root.attributes})
        _fill(top, root, "/", mistakes)
    whole = top.build()
    return (whole if isinstance(whole, Group) else Group()), mistakes


def _fill(place: _Place, group: Group, path: str, mistakes: list[Mistake]) -> None:
    for name, child in group.children.items():
        where = joined(path, name)
        steps = [step for step in name.split("/") if step not in ("", ".")]
        if not steps or ".." in steps or "\0" in name:
            mistakes.append(Mistake(where, f"HDF5 has no items of the name {name[:60]!r}"))
            continue
        where = joined(path, *steps)
        at, owner = place, path
        for step in steps:
            if at.item is not None and not isinstance(at.item, Group):
                mistakes.append(Mistake(where, f"{owner} is a {at.item.type}, not a group"))
                break
            owner = joined(owner, step)
            at = at.below.setdefault(step, _Place())
        else:
            if at.item is not None or (at.below and not isinstance(child, Group)):
                mistakes.append(Mistake(where, "two items at one path"))
            else:
                at.item = child
                if isinstance(child, Group):
                    _fill(at, child, where, mistakes)


# ---------------------------------------------------------------------------------------- walk


def walk(root: Group) -> Iterator[tuple[str, Item]]:
    """Every item below the root with its absolute path, a group before what is in it, in the order of
    creation. Links are given, not followed."""
    waiting: list[tuple[str, Item]] = _children("/", root)
    while waiting:
        path, item = waiting.pop()
        yield path, item
        if isinstance(item, Group):
            waiting += _children(path, item)


def _children(path: str, group: Group) -> list[tuple[str, Item]]:
    """Last one first, as a stack wants them."""
    return [(joined(path, name), child) for name, child in reversed(group.children.items())]


def streams_of(root: Group) -> dict[str, list[str]]:
    """Which streams the layout refers to, and at which paths (datasets and attributes)."""
    found: dict[str, list[str]] = {}
    for path, item in [("/", root), *walk(root)]:
        values = list(getattr(item, "attributes", {}).values())
        if isinstance(item, Dataset):
            values.append(item.value)
        for value in values:
            if isinstance(value, Stream):
                found.setdefault(value.stream, []).append(path)
    return found


# --------------------------------------------------------------------------------------- check


def check_layout(root: Group, streams: Collection[str]) -> list[Mistake]:
    """All mistakes in a layout that `read_layout` gave; `streams` are the names of the scan's streams."""
    mistakes: list[Mistake] = []
    known = frozenset(streams)
    for path, item in [("/", root), *walk(root)]:
        match item:
            case Dataset():
                mistakes += [Mistake(path, text) for text in _value(item.value, known)]
            case SoftLink():
                mistakes += [Mistake(path, text) for text in _link(root, path, item)]
            case VirtualDataset():
                mistakes += [Mistake(path, text) for text in _virtual(item)]
            case ExternalBinaryDataset():
                mistakes += [Mistake(path, text) for text in _external(item)]
            case _:
                pass
        for name, value in getattr(item, "attributes", {}).items():
            mistakes += [
                Mistake(path, text, attribute=name) for text in _attribute(name, value, known)
            ]
    return mistakes


def _value(value: Any, streams: frozenset[str]) -> Iterator[str]:
    if isinstance(value, Stream):
        if value.stream not in streams:
            names = sorted(streams)
            shown = ", ".join(map(repr, names[:_NAMED])) or "none"
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield f"the scan has no stream {value.stream!r}; it has {shown}{more}"
        return
    if isinstance(value, Compound) and not all(_columns(value)):
        yield "HDF5 wants a name for each column of a compound, found an empty one"
    try:
        value.decode()
    except LayoutError as error:
        yield str(error)


def _columns(compound: Compound) -> Iterator[str]:
    for name, value in compound.columns:
        yield name
        if isinstance(value, Compound):
            yield from _columns(value)


def _attribute(name: str, value: Any, streams: frozenset[str]) -> Iterator[str]:
    try:
        check_attribute_name(name)
    except LayoutError as error:
        yield str(error)
        return
    wrong = list(_value(value, streams))
    yield from wrong
    if not wrong and not isinstance(value, Stream):
        array = value.decode()
        nbytes = array.size * _stored_nbytes(array.dtype)
        if nbytes + _text_nbytes(name) > MAX_ATTRIBUTE_NBYTES:
            yield (
                f"{nbytes} bytes are too many for an attribute of HDF5, which holds "
                f"{MAX_ATTRIBUTE_NBYTES}, name included: make it a dataset"
            )


def check_attribute_name(name: str) -> None:
    """Raises `LayoutError` for a name that HDF5 gives no attribute. With one of 64 KiB it would make a
    file that it cannot read (seen with HDF5 2.0)."""
    if not name or "\0" in name:
        raise LayoutError(f"HDF5 has no attributes of the name {name[:60]!r}")
    nbytes = _text_nbytes(name)
    if nbytes > MAX_ATTRIBUTE_NBYTES:
        raise LayoutError(
            f"HDF5 has names of attributes up to {MAX_ATTRIBUTE_NBYTES} bytes, not of {nbytes}"
        )


def _text_nbytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _stored_nbytes(dtype: np.dtype[Any]) -> int:
    if dtype.fields:
        return sum(_stored_nbytes(field[0]) for field in dtype.fields.values())
    return _VLEN_NBYTES if dtype.kind == "O" else dtype.itemsize


def _link(root: Group, path: str, link: SoftLink) -> Iterator[str]:
    steps = _steps(path)
    try:
        _follow(root, steps[:-1], link.target_path, [0])
    except LayoutError as error:
        yield f"links to {link.target_path!r}: {error}"


def _steps(path: str) -> list[str]:
    return [step for step in path.split("/") if step not in ("", ".")]


def _follow(root: Group, base: list[str], target: str, hops: list[int]) -> list[str] | None:
    """Where a link leads, as names from the root. None where the layout cannot tell: another scan's
    entry, another file. Raises `LayoutError` where it leads nowhere."""
    hops[0] += 1
    if hops[0] > _MAX_LINKS:
        raise LayoutError("found link cycle")
    at = [] if target.startswith("/") else list(base)
    for step in _steps(target):
        if step == "..":
            if not at:
                raise LayoutError("there is nothing above the root")
            at.pop()
            continue
        owner = _item_at(root, at)
        if not isinstance(owner, Group):
            raise LayoutError(f"'/{'/'.join(at)}' is a {owner.type}, not a group")
        child = owner.children.get(step)
        if child is None and not at:
            return None  # an entry of another scan
        if child is None:
            raise LayoutError(f"there is no '/{'/'.join([*at, step])}'")
        if isinstance(child, ExternalLink):
            return None
        if isinstance(child, SoftLink):
            further = _follow(root, at, child.target_path, hops)
            if further is None:
                return None
            at = further
        else:
            at = [*at, step]
    if not _steps(target) and not target.startswith("/"):
        raise LayoutError("an empty path is no target")
    return at


def _item_at(root: Group, steps: Sequence[str]) -> Item:
    item: Item = root
    for step in steps:
        if isinstance(item, Group):
            item = item.children[step]
    return item


def _virtual(item: VirtualDataset) -> Iterator[str]:
    for number, source in enumerate(item.virtual_sources):
        named = f"source {number} ({source.src_file}::{source.src_dataset})"
        ends = _ends(source.vspace)
        if len(ends) != len(item.shape):
            yield f"{named} selects in {len(ends)} dimensions, the dataset has {len(item.shape)}"
        elif any(end > length for end, length in zip(ends, item.shape, strict=True)):
            yield f"{named} fills up to {ends}, the dataset ends at {item.shape}"
        here, there = _points(source.vspace), _points(source.src_space)
        if here != there:
            yield f"{named} gives {there} points for {here}"


def _ends(space: SpaceSelection) -> list[int]:
    """Per dimension, the first index behind the selection."""
    ones = [1] * len(space.start)
    stride, block = space.stride or ones, space.block or ones
    return [
        start + (count - 1) * step + size if count and size else 0
        for start, step, count, size in zip(space.start, stride, space.count, block, strict=True)
    ]


def _points(space: SpaceSelection) -> int:
    return prod(space.count) * prod(space.block or [1])


def _external(item: ExternalBinaryDataset) -> Iterator[str]:
    sizes = [file.size for file in item.files]
    if None in sizes[:-1]:
        yield "only the last of its files may reach to the end: the size of another is null"
    elif sizes[-1] is not None:
        needed = prod(item.shape) * np.dtype(item.dtype).itemsize
        found = sum(size or 0 for size in sizes)
        if found < needed:
            yield f"its files hold {found} bytes, {item.dtype} of shape {item.shape} needs {needed}"
