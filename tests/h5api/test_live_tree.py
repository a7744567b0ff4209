"""Paths in a layout: links, what is missing, and circles. No server is needed for that."""

from __future__ import annotations

from typing import Any

import h5py
import pytest

from blissdata.h5api.live_tree import Elsewhere, Place, children, link_at, resolve


def group(**children: Any) -> dict[str, Any]:
    return {"type": "group", "children": children}


def soft(target: str) -> dict[str, Any]:
    return {"type": "soft_link", "target_path": target}


def external(file: str, target: str) -> dict[str, Any]:
    return {"type": "external_link", "target_file": file, "target_path": target}


TREE = {
    "1.1": group(
        title="a title",
        dset={"type": "dataset", "value": [1, 2]},
        g=group(
            x=1.0,
            up=soft("../title"),
            above=soft("../../2.1/y"),
            itself=soft("."),
            top=soft("/1.1"),
            here=soft("./x"),
            far=soft("/2.1/y"),
            first=soft("second"),
            second=soft("first"),
            own=soft("own"),
            dangling=soft("/1.1/nothing"),
            default=soft("/title"),
        ),
        short=soft("g"),
        ext=external("other.h5", "/a/b"),
        rel=external("other.h5", "a"),
        via=soft("ext"),
    ),
    "2.1": group(y=[3], title="newest"),
}


class Tree:
    def __init__(self, tree: dict[str, Any]) -> None:
        self._tree = tree

    def entry(self, name: str) -> Any:
        return self._tree.get(name)

    def default_entry(self) -> str | None:
        return max(self._tree, default=None)


def found(path: str, base: str = "/") -> Place | Elsewhere:
    return resolve(Tree(TREE), base, path)


@pytest.mark.parametrize(
    ("base", "path", "final"),
    [
        ("/", "1.1", "/1.1"),
        ("/", "/1.1/", "/1.1"),
        ("/", "//1.1//g/./x", "/1.1/g/x"),
        ("/", "/", "/"),
        ("/", "", "/"),
        ("/1.1", "", "/1.1"),
        ("/1.1", ".", "/1.1"),
        ("/1.1", "g/x", "/1.1/g/x"),
        ("/1.1/g", "/1.1/title", "/1.1/title"),
        ("/1.1/g", "..", "/1.1"),
        ("/1.1/g", "../..", "/"),
        ("/1.1/g", "../../../..", "/"),
        ("/", "1.1/g/../title", "/1.1/title"),
        ("/", "1.1/short/x", "/1.1/g/x"),
        ("/", "1.1/g/up", "/1.1/title"),
        ("/", "1.1/short/up", "/1.1/title"),
        ("/", "1.1/g/above", "/2.1/y"),
        ("/", "1.1/g/itself/itself/itself/x", "/1.1/g/x"),
        ("/", "1.1/g/top/short/top/title", "/1.1/title"),
        ("/", "1.1/g/here", "/1.1/g/x"),
        ("/", "1.1/g/far", "/2.1/y"),
        ("/", "/y", "/2.1/y"),
        ("/", "title", "/2.1/title"),
        ("/1.1", "/title", "/2.1/title"),
    ],
)
def test_a_path_leads_to_its_end(base: str, path: str, final: str) -> None:
    place = found(path, base)
    assert isinstance(place, Place)
    assert place.path == final


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nope", "No such path: '/nope'"),
        ("/3.1/x/y", "No such path: '/3.1'"),
        ("/1.1/abc/X", "No such path: '/1.1/abc'"),
        ("/1.1/g/X", "No such path: '/1.1/g/X'"),
        ("/1.1/short/X", "No such path: '/1.1/g/X'"),
        ("/1.1/g/dangling", "No such path: '/1.1/nothing'"),
        ("/1.1/g/default", "No such path: '/title'"),  # a link says exactly what it means
        ("/1.1/dset/none", "'/1.1/dset' is not a Group, can't reach '/1.1/dset/none'"),
        ("/1.1/title/a/b", "'/1.1/title' is not a Group, can't reach '/1.1/title/a/b'"),
    ],
)
def test_the_first_part_that_fails_is_told(path: str, message: str) -> None:
    with pytest.raises(KeyError) as caught:
        found(path)
    assert caught.value.args == (message,)


@pytest.mark.parametrize("path", ["1.1/g/first", "1.1/g/second", "1.1/g/own", "1.1/short/first/x"])
def test_links_in_a_circle_are_told(path: str) -> None:
    with pytest.raises(KeyError, match="found link cycle"):
        found(path)


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("1.1/ext", "/a/b"),
        ("1.1/ext/c/d", "/a/b/c/d"),
        ("1.1/rel", "/a"),
        ("1.1/via", "/a/b"),
        ("1.1/via/c", "/a/b/c"),
    ],
)
def test_an_external_link_leads_out(path: str, inside: str) -> None:
    place = found(path)
    assert isinstance(place, Elsewhere)
    assert (place.file, place.path) == ("other.h5", inside)


def test_the_last_link_is_not_followed_where_the_link_is_asked_for() -> None:
    tree = Tree(TREE)
    assert link_at(tree, "/1.1", "short/up")[2] == soft("../title")
    assert link_at(tree, "/", "/1.1/short")[2] == soft("g")
    assert link_at(tree, "/1.1/g", "..")[2] == TREE["1.1"]
    assert link_at(tree, "/", "title")[2] == "newest"
    with pytest.raises(KeyError):
        link_at(tree, "/1.1", "ext/a")


def test_names_that_are_paths_are_groups_as_in_h5py(tmp_path: Any) -> None:
    item = group(**{"a/b/c": 1, "a/b/d": 2, "e": group(f=3), "e/g": 4, "/h/": 5})
    with h5py.File(tmp_path / "f.h5", "w", track_order=True) as file:
        for name, value in item["children"].items():
            if name == "e":
                file["e/f"] = 3
            else:
                file[name.strip("/")] = value
        expected: list[str] = []
        file.visit(expected.append)

    def visit(item: Any, prefix: str) -> list[str]:
        names: list[str] = []
        for name, child in children(item).items():
            names.append(prefix + name)
            if isinstance(child, dict):
                names += visit(child, f"{prefix}{name}/")
        return names

    assert sorted(visit(item, "")) == sorted(expected)
