"""Whatever the layout, the live file is read as h5py reads the same tree from a file.

A random layout and its points are published, and written with h5py, out of the same values; then
both are walked: names, links, classes, attributes, dtypes, shapes, random selections, refusals.

running     a part of the points is there: without waiting, and frozen
closed      as a file that follows
trimmed     the points have left the server, and come from the written file
expired     the scan has left it as well; for objects from before, and for new ones

Points of varying shape are lists of arrays in the live file, and in h5py what the writer makes of them:
there it is the arrays that are compared.
"""

from __future__ import annotations

import base64
import json
import os
import string
import tempfile
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.h5api.live import new_scan, root

from blissdata import DataStore
from blissdata.h5api.redis_hdf5 import Dataset, File, Group
from blissdata.testing import MemoryBackend

TEXT = h5py.string_dtype()

NAMES = st.text(string.ascii_letters + string.digits + " é:-_", min_size=1, max_size=6)

NUMBERS = {
    "bool": st.booleans(),
    "int8": st.integers(-128, 127),
    "uint16": st.integers(0, 2**16 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "float32": st.floats(width=32),
    "float64": st.floats(),
    "complex64": st.complex_numbers(max_magnitude=1e6, width=64),
}

SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...] | None = None) -> np.ndarray[Any, Any]:
    dtype = draw(st.sampled_from(sorted(NUMBERS)))
    shape = draw(SHAPES) if shape is None else shape
    size = int(np.prod(shape))
    return np.array(
        draw(st.lists(NUMBERS[dtype], min_size=size, max_size=size)), dtype=dtype
    ).reshape(shape)


def _plain(value: Any) -> Any:
    """As `inline` carries it."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, complex) or (isinstance(value, float) and not np.isfinite(value)):
        return str(value)
    return value


@st.composite
def values(draw: st.DrawFn) -> tuple[Any, np.ndarray[Any, Any]]:
    """The layout of a value, and the array that is meant."""
    kind = draw(st.sampled_from(["raw", "text", "inline", "b64", "compound"]))
    if kind == "text":
        texts = draw(st.one_of(WORDS, st.lists(WORDS, min_size=1, max_size=3)))
        return texts, np.array(texts, dtype=TEXT)
    if kind == "raw":
        one = draw(st.sampled_from([st.booleans(), st.integers(-9, 9), st.floats(-9, 9)]))
        raw = draw(st.one_of(one, st.lists(one, min_size=1, max_size=3)))
        return raw, np.array(raw)
    if kind == "compound":
        shape = draw(st.sampled_from([(), (2,)]))
        columns = [
            (name, draw(arrays(shape))) for name in draw(st.sampled_from([["a"], ["a", "é"]]))
        ]
        whole = np.empty(shape, [(name, column.dtype) for name, column in columns])
        for name, column in columns:
            whole[name] = column
        items = [[name, _inline(column)] for name, column in columns]
        return {"type": "compound", "columns": items}, whole
    array = draw(arrays())
    if kind == "b64" and array.dtype != bool:
        text = base64.b64encode(array.tobytes()).decode()
        shape = list(array.shape)
        return {
            "type": "inline_b64",
            "dtype": array.dtype.str.lstrip("|"),
            "shape": shape,
            "value": text,
        }, array
    array = array.reshape(()) if array.size == 1 else array[..., :0] if 0 in array.shape else array
    if 0 in array.shape:
        array = array.reshape(-1)
    return _inline(array), array


def _inline(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {"type": "inline", "dtype": array.dtype.name, "value": _plain(array.tolist())}


POINTS = st.tuples(
    st.integers(0, 6),
    st.sampled_from([(), (2,), (2, 3)]),
    st.sampled_from([*sorted(NUMBERS), "json"]),
)

ATTRIBUTES = st.dictionaries(NAMES, st.one_of(values(), values(), POINTS), max_size=3)
"""A value, or the points of a stream."""

VARYING = st.sampled_from([1, 2]).flatmap(
    lambda ndim: st.tuples(
        st.just(ndim),
        st.lists(st.lists(st.integers(1, 3), min_size=ndim, max_size=ndim), max_size=4),
    )
)
"""How many dimensions points of varying shape have, and the shapes."""

STRIDED = st.tuples(
    st.booleans(),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 1)), min_size=1, max_size=3),
)
"""A virtual dataset of several files: do their rows alternate, how many of each, and for each file from
which row on every how many rows are taken."""

LINKED = {
    "linked.h5": ["/a/b", "a/b", "/a", "/a/text", "/a/up", "/a/nowhere", "/nowhere", "/a/b/x"],
    "missing.h5": ["/a/b"],
}
"""Where external links lead."""

BYTES = st.sampled_from([(3,), (2, 2), (1, 4, 2)]).flatmap(
    lambda shape: arrays(shape).map(lambda a: a.view("u1") if a.dtype == bool else a)
)
"""What stands in other files."""

PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)

LEAVES = st.one_of(
    st.tuples(st.just("value"), ATTRIBUTES, values()),
    st.tuples(st.just("stream"), ATTRIBUTES, POINTS),
    st.tuples(st.just("link"), st.booleans(), st.integers(0, 10**6)),
    st.tuples(st.sampled_from(["raw", "virtual"]), ATTRIBUTES, BYTES),
    st.tuples(st.just("strided"), ATTRIBUTES, STRIDED),
    st.tuples(st.just("varying"), ATTRIBUTES, VARYING),
    st.tuples(
        st.just("external"),
        st.booleans(),
        st.sampled_from([(file, path) for file, paths in LINKED.items() for path in paths]),
    ),
)


def _groups(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just("group"), ATTRIBUTES, st.dictionaries(NAMES, children, max_size=4))


TREES = st.recursive(LEAVES, _groups, max_leaves=8)


class Tree:
    """A tree as both sides get it."""

    def __init__(self, tree: Any, directory: str) -> None:
        self._tree = tree
        self._paths = ["/1.1", *self._all_paths(tree, "/1.1")]
        self._directory = directory
        self._others: dict[str, Any] = {}
        self._write_linked()
        self.file = os.path.join(directory, "f.h5")
        self.points: dict[str, Any] = {}
        self.layout = self._item(tree, "/1.1")

    def _write_linked(self) -> None:
        with h5py.File(os.path.join(self._directory, "linked.h5"), "w") as file:
            file["a/b"] = np.arange(6.0).reshape(3, 2)
            file["a/b"].attrs["units"] = "mm"
            file["a/text"] = "é"
            file["a/up"] = h5py.SoftLink("/a/b")
            file["a"].attrs["NX_class"] = "NXdata"

    def _linked(self, relative: bool, inside: tuple[str, str]) -> tuple[str, str]:
        file, path = inside
        return file if relative else os.path.join(self._directory, file), path

    def _all_paths(self, tree: Any, path: str) -> list[str]:
        kind, _, inside = tree
        found: list[str] = []
        for name, child in inside.items() if kind == "group" else ():
            found += [f"{path}/{name}", *self._all_paths(child, f"{path}/{name}")]
        return found

    def _target(self, path: str, relative: bool, number: int) -> str:
        """Somewhere in the tree, or nowhere. HDF5 knows no `..`, so only what is below is relative."""
        here = path.rpartition("/")[0]
        if number % 7 == 0:
            return "nowhere" if relative else "/1.1/nowhere"
        below = [one for one in self._paths if one.startswith(f"{here}/")]
        if relative and below:
            return below[number % len(below)][len(here) + 1 :]
        return self._paths[number % len(self._paths)]

    def _item(self, tree: Any, path: str) -> Any:
        kind, attributes, inside = tree
        if kind == "link":
            return {"type": "soft_link", "target_path": self._target(path, attributes, inside)}
        if kind == "external":
            file, target = self._linked(attributes, inside)
            return {"type": "external_link", "target_file": file, "target_path": target}
        given = {
            name: value[0] if len(value) == 2 else self._stream(f"{path}@{name}", *value)
            for name, value in attributes.items()
        }
        if kind == "group":
            children = {name: self._item(child, f"{path}/{name}") for name, child in inside.items()}
            return {"type": "group", "attributes": given, "children": children}
        if kind == "value":
            return {"type": "dataset", "attributes": given, "value": inside[0]}
        if kind == "strided":
            return {"attributes": given, **self._strided(path, *inside)}
        if kind in ("raw", "virtual"):
            return {"attributes": given, **self._elsewhere(kind, path, inside)}
        made = self._varying(path, *inside) if kind == "varying" else self._stream(path, *inside)
        return {"type": "dataset", "attributes": given, "value": made}

    def _stream(self, name: str, number: int, shape: tuple[int, ...], dtype: str) -> dict[str, Any]:
        size = number * int(np.prod(shape))
        if dtype == "json":
            self.points[name] = [{"é": n, "nan": [None, 0.5]} for n in range(number)]
        else:
            self.points[name] = (np.arange(size) % 2 * 3).astype(dtype).reshape(number, *shape)
        return {"type": "stream", "stream": name}

    def _varying(self, name: str, ndim: int, shapes: list[list[int]]) -> dict[str, Any]:
        points = [np.arange(np.prod(shape), dtype="f4").reshape(shape) + 1 for shape in shapes]
        self.points[name] = Varying(points, ndim)
        return {"type": "stream", "stream": name}

    def _strided(
        self, path: str, alternate: bool, rows: int, parts: list[tuple[int, int]]
    ) -> dict[str, Any]:
        layout = h5py.VirtualLayout((rows * len(parts), 2), "i4")
        sources = []
        for number, (step, first) in enumerate(parts):
            name = f"{len(self._others)}.{number}.part"
            there = first + step * (rows - 1) + 1
            with h5py.File(os.path.join(self._directory, name), "w") as file:
                file["d"] = np.arange(2 * there, dtype="i4").reshape(there, 2) + 100 * number
            start, every = (number, len(parts)) if alternate else (number * rows, 1)
            source = h5py.VirtualSource(name, "d", (there, 2), "i4")
            layout[start : start + every * (rows - 1) + 1 : every] = source[first:there:step]
            here = {"start": [start, 0], "stride": [every, 1], "count": [rows, 2], "block": None}
            src = {"start": [first, 0], "stride": [step, 1], "count": [rows, 2], "block": None}
            sources.append({"vspace": here, "src_file": name, "src_dataset": "d", "src_space": src})
        self._others[path] = layout
        shape = [rows * len(parts), 2]
        return {
            "type": "virtual_dataset", "dtype": "<i4", "shape": shape, "virtual_sources": sources,
        }  # fmt: skip

    def _elsewhere(self, kind: str, path: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
        name = os.path.join(self._directory, f"{len(self._others)}.{kind}")
        self._others[path] = name
        described = {"dtype": array.dtype.str.lstrip("|"), "shape": list(array.shape)}
        if kind == "raw":
            array.tofile(name)
            files = [{"name": name, "offset": 0, "size": array.nbytes}]
            return {"type": "external_binary_dataset", **described, "files": files}
        with h5py.File(name, "w") as file:
            file["a/b"] = array
        whole = {"start": [0] * array.ndim, "count": list(array.shape)}
        part = {"vspace": whole, "src_file": name, "src_dataset": "/a/b", "src_space": whole}
        return {"type": "virtual_dataset", **described, "virtual_sources": [part]}

    def write(self, file: h5py.File, part: float) -> None:
        self._write(file.create_group("1.1", track_order=True), self._tree, "/1.1", part)

    def _write(self, node: Any, tree: Any, path: str, part: float) -> None:
        kind, attributes, inside = tree
        for name, value in attributes.items():
            points = value[1] if len(value) == 2 else self._some(f"{path}@{name}", part)
            node.attrs[name] = points
        for name, child in inside.items() if kind == "group" else ():
            there = f"{path}/{name}"
            if child[0] == "link":
                node[name] = h5py.SoftLink(self._target(there, child[1], child[2]))
                continue
            if child[0] == "external":
                node[name] = h5py.ExternalLink(*self._linked(child[1], child[2]))
                continue
            if child[0] == "group":
                made: Any = node.create_group(name, track_order=True)
            elif child[0] == "value":
                made = node.create_dataset(name, data=child[2][1], track_order=True)
            elif child[0] == "raw":
                array = child[2]
                storage = [(self._others[there], 0, array.nbytes)]
                made = node.create_dataset(name, array.shape, array.dtype, external=storage)
            elif child[0] == "virtual":
                layout = h5py.VirtualLayout(child[2].shape, child[2].dtype)
                source = h5py.VirtualSource(self._others[there], "a/b", child[2].shape)
                layout[...] = source
                made = node.create_virtual_dataset(name, layout)
            elif child[0] == "strided":
                made = node.create_virtual_dataset(name, self._others[there])
            elif child[0] == "varying":
                made = self._some(there, part).write(node, name)
            else:
                points = self._some(there, part)
                shape = (None, *points.shape[1:])
                chunks = (1, *(max(n, 1) for n in points.shape[1:]))
                made = node.create_dataset(
                    name, data=points, maxshape=shape, chunks=chunks, track_order=True
                )
            self._write(made, child, there, part)

    def _some(self, name: str, part: float) -> Any:
        """The points that are there at that time, as h5py takes them."""
        points = self.points[name][: int(part * len(self.points[name]))]
        if type(points) is list:
            return np.array([json.dumps(point) for point in points], dtype=TEXT)
        return points


class Varying(list[Any]):
    """Points of varying shape."""

    def __init__(self, points: list[Any], ndim: int) -> None:
        super().__init__(points)
        self.ndim = ndim
        self.dtype = np.dtype("f4")
        self.shape = (len(points), *[-1] * ndim)

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return Varying(found, self.ndim) if isinstance(index, slice) else found

    def write(self, group: h5py.Group, name: str) -> h5py.Dataset:
        """As the writer does."""
        elements = h5py.vlen_dtype(self.dtype)
        dtype = elements if self.ndim == 1 else [("shape", "i8", (self.ndim,)), ("data", elements)]
        made = group.create_dataset(
            name, (len(self),), dtype, maxshape=(None,), chunks=(1,), track_order=True
        )
        for i, point in enumerate(self):
            made[i] = point if self.ndim == 1 else (point.shape, point.reshape(-1))
        return made


def publish(store: DataStore, tree: Tree) -> tuple[Any, dict[str, Any]]:
    scan = new_scan(store, 1, tree.file)
    streams = {
        path: scan.create_stream(path, dtype="json")
        if type(points) is list
        else scan.create_stream(path, dtype=points.dtype, shape=points.shape[1:])
        for path, points in tree.points.items()
    }
    scan.info["h5maps"] = {tree.file: root(**{"1.1": tree.layout})}
    scan.prepare()
    scan.start()
    return scan, streams


# ------------------------------------------------------------------------------------ comparing


def outcome(node: Any, key: Any) -> tuple[Any, str | None]:
    try:
        return node[key], None
    except Exception as error:
        return None, type(error).__name__


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and a.dtype.names:
        return a.dtype == b.dtype and all(same(a[name], b[name]) for name in a.dtype.names)
    if isinstance(a, np.void):
        return a.dtype == b.dtype and all(same(a[name], b[name]) for name in a.dtype.names)
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        nan = a.dtype.kind in "fc"
        return (a.dtype, a.shape) == (b.dtype, b.shape) and np.array_equal(a, b, equal_nan=nan)
    return bool(a == b)


def assert_same_attributes(live: Any, there: Any, where: str) -> None:
    assert sorted(live) == sorted(there), where
    for name in there:
        assert same(live[name], there[name]), (where, name, live[name], there[name])
        ours, theirs = live.get_id(name), there.get_id(name)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), (where, name)
        assert h5py.check_string_dtype(ours.dtype) == h5py.check_string_dtype(theirs.dtype)


def assert_same_dataset(live: Dataset, there: h5py.Dataset, data: st.DataObject) -> None:
    where = there.name
    assert isinstance(live, Dataset)
    if varies(there.dtype):
        assert_same_points(live, there, data)
        return
    assert (live.shape, live.ndim, live.size) == (there.shape, there.ndim, there.size), where
    frozen = type(live.file) is not File
    assert live.maxshape == (there.shape if frozen else there.maxshape), where
    assert live.dtype == there.dtype
    assert h5py.check_string_dtype(live.dtype) == h5py.check_string_dtype(there.dtype)
    assert (live.is_virtual, live.external) == (there.is_virtual, there.external), where
    assert live.compression in (None, there.compression), where
    if there.shape:
        assert len(live) == len(there)
    for index in [(), ..., *data.draw(st.lists(indices(there.shape), min_size=1, max_size=4))]:
        ours, theirs = outcome(live, index), outcome(there, index)
        if isinstance(theirs[0], np.ndarray) and not theirs[0].size and ours[1]:
            continue  # h5py does not look at a list where nothing is to be read anyway
        assert (ours[1] is None) == (theirs[1] is None), (where, there.shape, index, ours, theirs)
        assert same(ours[0], theirs[0]), (where, there.shape, index, ours, theirs)
    if there.shape:
        for one, other in zip(live, there, strict=True):
            assert same(one, other)


def varies(dtype: np.dtype[Any]) -> bool:
    return h5py.check_vlen_dtype(dtype) not in (None, str, bytes) or dtype.names == (
        "shape",
        "data",
    )


def assert_same_points(live: Dataset, there: h5py.Dataset, data: st.DataObject) -> None:
    points = [
        one if there.dtype.names is None else one["data"].reshape(one["shape"]) for one in there
    ]
    assert len(live) == live.shape[0] == len(points)
    numbers = np.arange(len(points))
    of_points = indices((len(points),)).filter(lambda index: not isinstance(index, tuple))
    for index in [(), ..., *data.draw(st.lists(of_points, min_size=1, max_size=4))]:
        ours, theirs = outcome(live, index), outcome(numbers, index)
        assert (ours[1] is None) == (theirs[1] is None), (there.name, index, ours, theirs)
        if theirs[1] is None:
            single = not isinstance(theirs[0], np.ndarray)
            found = [ours[0]] if single else ours[0]
            assert_are_points(found, [points[i] for i in np.atleast_1d(theirs[0])])
    assert_are_points(list(live), points)


def assert_are_points(found: Any, expected: list[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        if one.dtype.names is not None:  # read from the file, as h5py does
            one = one["data"].reshape(one["shape"])
        assert same(one, other)


def _takes_masks_of_an_axis() -> bool:
    with h5py.File("masks", "w", driver="core", backing_store=False) as file:
        file["d"] = np.zeros((2, 2), "complex64")  # other dtypes go another way in there
        return outcome(file["d"], np.array([False, True]))[1] is None


MASKS_OF_AN_AXIS = _takes_masks_of_an_axis()
"""h5py 3.10 takes them on datasets of one axis alone, if these are complex or truth values."""


@st.composite
def indices(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """An index that may miss by a little; one list at most, as in h5py, or a mask of the whole."""
    if len(shape) > 1 and draw(st.integers(0, 9)) == 0:
        size = int(np.prod(shape))
        mask = draw(st.lists(st.booleans(), min_size=size, max_size=size))
        return np.array(mask, bool).reshape(shape)
    axes: list[Any] = []
    listed = False
    for n in shape[: draw(st.integers(0, len(shape)))]:
        bound = st.one_of(st.none(), st.integers(-n - 1, n + 1))
        kinds: list[st.SearchStrategy[Any]] = [
            st.integers(-n - 1, n),
            st.builds(slice, bound, bound, st.one_of(st.none(), st.integers(1, 3))),
            st.integers(0, n).map(np.int64),
        ]
        if not listed:
            several = st.sets(st.integers(0, n), min_size=1, max_size=3).map(sorted)
            kinds += [several, several.map(np.array)]
            if MASKS_OF_AN_AXIS or len(shape) == 1:
                masks = st.lists(st.booleans(), min_size=n, max_size=n)
                kinds.append(masks.map(lambda mask: np.array(mask, bool)))
        axes.append(draw(st.one_of(kinds)))
        listed = listed or isinstance(axes[-1], list | np.ndarray)
    # h5py refuses an ellipsis beside a mask on a dataset of one axis, for no reason that it tells.
    masked = any(isinstance(axis, np.ndarray) and axis.dtype == bool for axis in axes)
    if not masked and draw(st.booleans()):
        axes.insert(draw(st.integers(0, len(axes))), ...)
    return axes[0] if len(axes) == 1 else tuple(axes)


def assert_same_tree(live: Any, there: Any, data: st.DataObject) -> None:
    assert_same_attributes(live.attrs, there.attrs, there.name)
    if isinstance(there, h5py.Dataset):
        assert_same_dataset(live, there, data)
        return
    assert isinstance(live, Group)
    assert (list(live), len(live), list(live.keys())) == (
        list(there),
        len(there),
        list(there.keys()),
    )
    for name in there:
        link, theirs = live.get(name, getlink=True), there.get(name, getlink=True)
        assert type(link) is type(theirs)
        ours, expected = outcome(live, name), outcome(there, name)
        assert (name in live) == (expected[1] is None), (there.name, name)
        if expected[1] is None:
            assert live.get(name, getclass=True) is there.get(name, getclass=True)
        if isinstance(link, h5py.ExternalLink):
            assert (link.filename, link.path) == (theirs.filename, theirs.path)
            assert ours[1] == expected[1], (there.name, name, ours, expected)
            if expected[0] is not None:
                assert live[name].file.filename == expected[0].file.filename
                assert_same_tree(live[name], there[name], data)
        elif isinstance(link, h5py.SoftLink):
            assert link.path == theirs.path
            # h5py tells of links in a circle by a RuntimeError, and of others by a KeyError.
            assert ours[1] == (expected[1] and "KeyError"), (there.name, name, ours, expected)
            if expected[0] is not None:
                assert live[name].h5py_class is type(expected[0])
                if isinstance(expected[0], h5py.Dataset):
                    assert_same_dataset(live[name], there[name], data)
        else:
            assert live[name].name == there[name].name
            assert live[name].parent.name == there[name].parent.name
            assert_same_tree(live[name], there[name], data)


def send(streams: Mapping[str, Any], points: Mapping[str, Any], first: float, last: float) -> None:
    for path, every in points.items():
        some = every[int(first * len(every)) : int(last * len(every))]
        for point in some if isinstance(some, list) else [some] * bool(len(some)):  # a batch
            streams[path].send(point)
        streams[path].join()


def some(examples: int) -> settings:
    return settings(
        max_examples=examples,
        phases=(
            Phase.explicit,
            Phase.reuse,
            Phase.generate,
        ),  # shrinking takes longer than a test may
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
    )


@given(_groups(TREES), st.floats(0, 1), st.data())
@some(8)
def test_a_live_file_is_read_as_the_file_that_is_written(
    tree: Any, part: float, data: st.DataObject
) -> None:
    compare(tree, part, data)


@pytest.mark.slow
@given(_groups(TREES), st.floats(0, 1), st.data())
@some(90)
def test_many_live_files_are_read_as_the_files_that_are_written(
    tree: Any, part: float, data: st.DataObject
) -> None:
    compare(tree, part, data)


def compare(tree: Any, part: float, data: st.DataObject) -> None:
    backend = MemoryBackend()
    backend.initialise()
    with tempfile.TemporaryDirectory() as directory, DataStore(backend=backend) as store:
        whole = Tree(tree, directory)
        path = whole.file
        scan, streams = publish(store, whole)
        send(streams, whole.points, 0, part)
        with h5py.File(path + ".part", "w", track_order=True) as there:
            whole.write(there, part)
            with File(path, data_store=store, wait=False) as live:
                assert_same_tree(live["1.1"], there["1.1"], data)
        send(streams, whole.points, part, 1)
        scan.stop()
        scan.close()
        with h5py.File(path, "w", track_order=True) as there:
            whole.write(there, 1)
            held = File(path, data_store=store)
            entry = held["1.1"]
            assert_same_tree(entry, there["1.1"], data)
        os.utime(path, (0, 0))  # nobody is writing any more: zeros are what was measured
        frozen = held.snapshot()
        lengths = {streams[name].key: len(points) for name, points in whole.points.items()}
        store.event_log.trim(lengths)
        with h5py.File(path, "r") as there, held:
            assert_same_tree(held["1.1"], there["1.1"], data)
            assert_same_tree(frozen["1.1"], there["1.1"], data)
            store.catalog.expire(scan.key, 0)
            assert_same_tree(entry, there["1.1"], data)
            with File(path, data_store=store) as fresh:
                assert_same_tree(fresh["1.1"], there["1.1"], data)
