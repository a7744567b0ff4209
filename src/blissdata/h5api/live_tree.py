"""Paths in a file that is not written yet: what stands where, by which way. Pure rules.

A layout is what JSON gives back of h5map's items (protocol 1, "HDF5 layout of a scan"): here only
their `type`, `children` and the targets of links are looked at, when a path leads through them; so a
mistake in one corner costs that corner alone.

    /  ── 5.1 ── instrument ── diode      entries stand at the top, and belong to scans
       ── 6.1 ── …
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = [
    "Elsewhere",
    "Entries",
    "Place",
    "children",
    "is_group",
    "item_type",
    "link_at",
    "resolve",
]

_TYPES = {
    "group",
    "dataset",
    "external_binary_dataset",
    "virtual_dataset",
    "soft_link",
    "external_link",
}


class Entries(Protocol):
    """What is at the top of a file."""

    def entry(self, name: str) -> Any:
        """The layout of `/<name>`, or None. May wait for it."""
        ...

    def default_entry(self) -> str | None:
        """Name of the entry in which paths are sought that begin with none."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads."""

    steps: tuple[tuple[str, Any], ...] = ()
    """Names and layouts from the top down; none for the top itself. There is no link among them."""

    @property
    def path(self) -> str:
        """The absolute path, with all links resolved."""
        return "/" + "/".join(name for name, _ in self.steps)

    @property
    def entry(self) -> str | None:
        """The entry that it is in; None for the top."""
        return self.steps[0][0] if self.steps else None

    @property
    def item(self) -> Any:
        """The layout of what is there; None for the top."""
        return self.steps[-1][1] if self.steps else None

    @property
    def up(self) -> Place:
        """The group that it is in; the top for the top itself."""
        return Place(self.steps[:-1])

    def below(self, name: str) -> str:
        """The path of something in it."""
        return f"{self.path.rstrip('/')}/{name}"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A path that an external link leads out of the file."""

    file: str
    """The other file, as the link names it."""

    path: str
    """The absolute path in there."""

    link: str
    """Absolute path of the link."""


def item_type(item: Any) -> str:
    """What an item is. What is nothing else is the value of a dataset."""
    found = item.get("type") if isinstance(item, Mapping) else None
    return found if isinstance(found, str) and found in _TYPES else "value"


def is_group(item: Any) -> bool:
    """True for a group's layout."""
    return item_type(item) == "group"


def children(item: Any) -> Mapping[str, Any]:
    """The layouts in a group, by name. A name that is a path (`a/b`) is a group and what is in it, as
    in h5py."""
    found = item.get("children")
    if not isinstance(found, Mapping):
        return {}
    return _spelled_out(found) if any("/" in name for name in found) else found


def _spelled_out(found: Mapping[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for path, item in found.items():
        name, _, rest = path.strip("/").partition("/")
        if not rest:
            inside = whole.get(name)
            both = inside is not None and is_group(item)
            whole[name] = _joined(item, children(inside)) if both else item
        elif is_group(whole.setdefault(name, {"type": "group"})):
            whole[name] = _joined(whole[name], {rest: item})
    return whole


def _joined(group: Any, more: Mapping[str, Any]) -> dict[str, Any]:
    return {**group, "children": {**(group.get("children") or {}), **more}}


def resolve(entries: Entries, base: str, path: str) -> Place | Elsewhere:
    """Where `path` leads, from the group at the absolute path `base` if it is relative. Links are
    followed; `.` and `..` are understood.

    A path from the top that begins with no entry is sought in the default entry. Raises `KeyError`
    naming the first part that is not there, or the links that lead in a circle."""
    return _Walk(entries, path).from_base(base)


def link_at(entries: Entries, base: str, path: str) -> tuple[Place, str, Any]:
    """The group in which the last part of `path` stands, that part, and its layout: a link is not
    followed. Raises `KeyError`, also for a path that leads out of the file before its last part."""
    names = _names(path)
    if not names or names[-1] == "..":
        found = resolve(entries, base, path)
        if isinstance(found, Elsewhere):
            raise _no_such_path(path)
        return found.up, found.steps[-1][0] if found.steps else "/", found.item
    parent = ("/" if path.startswith("/") else "") + "/".join(names[:-1])
    walk = _Walk(entries, path)
    group = walk.from_base(base, parent)
    if isinstance(group, Elsewhere):
        raise _no_such_path(path)
    place = walk.child(group, names, len(names) - 1, asked=not group.steps)
    return place.up, place.steps[-1][0], place.item


def plotted_together(entries: Mapping[str, Any]) -> list[set[str]]:
    """For each NXdata group the streams of its signals and of the axis of their points (NeXus,
    NXdata: `signal`, `auxiliary_signals`, `axes`, `<axis>_indices`); those of one stream or none are
    left out."""
    found = [_plotted(entries, path, item) for path, item in _groups(entries)]
    return [streams for streams in found if len(streams) > 1]


def _groups(entries: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    waiting = [(f"/{name}", item) for name, item in entries.items()]
    while waiting:
        path, item = waiting.pop()
        if is_group(item):
            yield path, item
            waiting += [(f"{path}/{name}", child) for name, child in children(item).items()]


def _plotted(entries: Mapping[str, Any], path: str, item: Any) -> set[str]:
    attributes = item.get("attributes")
    if not isinstance(attributes, Mapping) or _values(attributes.get("NX_class")) != ["NXdata"]:
        return set()
    names = [*_values(attributes.get("signal")), *_values(attributes.get("auxiliary_signals"))]
    names += _values(attributes.get("axes"))[:1]
    for name, value in attributes.items():
        if name.endswith("_indices") and _values(value)[:1] == [0]:
            names.append(name.removesuffix("_indices"))
    streams = set()
    for name in names:
        try:
            place = resolve(_Only(entries), path, str(name))
        except KeyError:
            continue
        value = place.item if isinstance(place, Place) else None
        if isinstance(value, Mapping) and value.get("type") == "dataset":
            value = value.get("value")
        if isinstance(value, Mapping) and value.get("type") == "stream":
            streams.add(str(value.get("stream")))
    return streams


def _values(attribute: Any) -> list[Any]:
    """What an attribute holds, as a list, if it is plain enough to be a name or an index."""
    if isinstance(attribute, Mapping):
        attribute = attribute.get("value")
    return attribute if isinstance(attribute, list) else [] if attribute is None else [attribute]


class _Only:
    """Entries of one scan alone."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = entries

    def entry(self, name: str) -> Any:
        return self._entries.get(name)

    def default_entry(self) -> None:
        return None


class _Walk:
    """One way through the tree."""

    def __init__(self, entries: Entries, asked: str) -> None:
        self._entries = entries
        self._asked = asked

    def from_base(self, base: str, path: str | None = None) -> Place | Elsewhere:
        path = self._asked if path is None else path
        if path.startswith("/"):
            return self._go(Place(), _names(path), (), asked=True)
        start = self._go(Place(), _names(base), (), asked=False)
        if isinstance(start, Elsewhere):  # a base has no links, unless the layout changed under it
            raise _no_such_path(base)
        return self._go(start, _names(path), (), asked=True)

    def _go(
        self, place: Place, names: list[str], following: tuple[str, ...], asked: bool
    ) -> Place | Elsewhere:
        """Follows the names from a place on. `following` are the links that are being resolved;
        `asked` is True where a person's path may leave the entry out."""
        for i, name in enumerate(names):
            if name == "..":
                place = place.up
                continue
            place = self.child(place, names, i, asked=asked and not place.steps)
            kind = item_type(place.item)
            if kind == "external_link":
                target, file = _text(place, "target_path"), _text(place, "target_file")
                rest = "/".join([target.rstrip("/"), *names[i + 1 :]])
                return Elsewhere(file, "/" + rest.lstrip("/"), place.path)
            if kind == "soft_link":
                found = self._follow(place, following)
                if isinstance(found, Elsewhere):
                    rest = "/".join([found.path.rstrip("/"), *names[i + 1 :]])
                    return Elsewhere(found.file, rest or "/", found.link)
                place = found
        return place

    def _follow(self, link: Place, following: tuple[str, ...]) -> Place | Elsewhere:
        if link.path in following:
            raise KeyError(
                f"{self._asked!r}: path can't be resolved, found link cycle: {list(following)}"
            )
        target = _text(link, "target_path")
        start = Place() if target.startswith("/") else link.up
        return self._go(start, _names(target), (*following, link.path), asked=False)

    def child(self, place: Place, names: list[str], i: int, asked: bool) -> Place:
        """One step down, to whatever stands there."""
        name = names[i]
        if not place.steps:
            return self._at_the_top(name, asked)
        if not is_group(place.item):
            wanted = place.below("/".join(names[i:]))
            raise KeyError(f"'{place.path}' is not a Group, can't reach '{wanted}'")
        found = children(place.item)
        if name not in found:
            raise _no_such_path(place.below(name))
        return Place((*place.steps, (name, found[name])))

    def _at_the_top(self, name: str, asked: bool) -> Place:
        item = self._entries.entry(name)
        if item is not None:
            return Place(((name, item),))
        default = self._entries.default_entry() if asked else None
        if default is not None and (entry := self._entries.entry(default)) is not None:
            inside = children(entry) if is_group(entry) else {}
            if name in inside:
                return Place(((default, entry), (name, inside[name])))
        raise _no_such_path(f"/{name}")


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}]


def _text(place: Place, field: str) -> str:
    found = place.item.get(field)
    if not isinstance(found, str):
        raise KeyError(f"The link '{place.path}' has no {field}")
    return found


def _no_such_path(path: str) -> KeyError:
    return KeyError(f"No such path: '{path}'")
