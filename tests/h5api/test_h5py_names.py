"""What programs written for h5py call, on each of our files, beside h5py on the same tree.

live       a scan that goes on, without waiting
written    the written file alone, by the live file's class
static     a finished file
dynamic    a file that may still be written
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.h5api.live import group, send, soft, started, stream

from blissdata import DataStore
from blissdata.exceptions import FileClosedError, NoWritePermission, ReadOnlyFileError
from blissdata.h5api import abstract, dynamic_hdf5, redis_hdf5, static_hdf5
from blissdata.testing import MemoryBackend

POINTS = np.arange(30, dtype="float64").reshape(10, 3)
TABLE = np.array([(1, 0.5), (2, np.nan)], dtype=[("n", "<i8"), ("x", "<f8")])
WORDS = ["diode", "é"]

ABSENT = {
    "id": "HDF5's own handle",
    "ref": "a pointer into a file",
    "regionref": "a pointer into a file",
    "driver": "how HDF5 opened a file",
    "in_memory": "how HDF5 opened a file",
    "libver": "how HDF5 opened a file",
    "meta_block_size": "how HDF5 opened a file",
    "filter_ids": "newer than the oldest h5py that we take",
    "filter_names": "newer than the oldest h5py that we take",
}
"""What h5py's objects have and ours do not, and why."""

PAIRS = [
    (h5py.File, abstract.File),
    (h5py.Group, abstract.Group),
    (h5py.Dataset, abstract.Dataset),
    (h5py.AttributeManager, abstract.Attributes),
]


@pytest.mark.parametrize(("theirs", "ours"), PAIRS, ids=lambda kind: kind.__name__)
def test_every_name_of_h5py_is_there_but_for_those_that_mean_nothing(
    theirs: type, ours: type
) -> None:
    public = {name for name in dir(theirs) if not name.startswith("_")}
    special = {"__setitem__", "__delitem__", "__reversed__", "__bool__", "__array__"}
    wanted = (public - ABSENT.keys()) | (special & vars(theirs).keys())
    assert [name for name in sorted(wanted) if getattr(ours, name, None) is None] == []


def test_the_page_of_names_lists_those_that_are_absent() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "h5api-files.md"
    table = page.read_text().partition("| not there | because it is |")[2].partition("\n\n")[0]
    rows = [row.strip("|").split(" | ") for row in table.splitlines()[2:]]
    told = {name: why.strip() for names, why in rows for name in re.findall(r"`(\w+)`", names)}
    assert told == ABSENT


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("names")
    with h5py.File(made / "f.h5", "w", track_order=True) as file:
        entry = file.create_group("1.1", track_order=True)
        entry.attrs["NX_class"] = "NXentry"
        entry["points"] = POINTS
        entry["points"].attrs["DIMENSION_LABELS"] = ["x", "y"]
        entry["table"] = TABLE
        entry["words"] = WORDS
        entry["three"] = 3
        entry.create_group("inside")["again"] = h5py.SoftLink("/1.1/points")
        entry["nowhere"] = h5py.SoftLink("/1.1/nothing")
    return made


LAYOUT = group(
    {"NX_class": "NXentry"},
    points=stream("points", DIMENSION_LABELS=["x", "y"]),
    table={
        "type": "compound",
        "columns": [["n", [1, 2]], ["x", {"type": "inline", "dtype": "float64", "value": [0.5, "nan"]}]],
    },
    words=WORDS,
    three=3,
    inside=group(again=soft("/1.1/points")),
    nowhere=soft("/1.1/nothing"),
)  # fmt: skip


@contextlib.contextmanager
def live(path: Path) -> Iterator[redis_hdf5.File]:
    backend = MemoryBackend()
    backend.initialise()
    with DataStore(backend=backend) as store:
        scan, streams = started(store, LAYOUT, path=str(path), points=("float64", (3,)))
        send(streams["points"], POINTS)
        with redis_hdf5.File(path, data_store=store, wait=False) as file:
            yield file
        scan.close()


@contextlib.contextmanager
def written(path: Path) -> Iterator[redis_hdf5.File]:
    backend = MemoryBackend()
    backend.initialise()
    with (
        DataStore(backend=backend) as store,
        redis_hdf5.File(path, data_store=store, wait=False) as file,
    ):
        yield file


def dynamic(path: Path) -> dynamic_hdf5.File:
    return dynamic_hdf5.File(path, retry_timeout=0)


@pytest.fixture(params=[live, written, static_hdf5.File, dynamic], ids=lambda kind: kind.__name__)
def file(request: pytest.FixtureRequest, directory: Path) -> Iterator[Any]:
    with request.param(directory / "f.h5") as found:
        yield found


@pytest.fixture
def there(directory: Path) -> Iterator[h5py.File]:
    with h5py.File(directory / "f.h5", locking=False) as found:
        yield found


def taken(dataset: Any, source: Any, dest: Any) -> np.ndarray[Any, Any]:
    array = np.full((10, 3), -1.0)
    dataset.read_direct(array, source, dest)
    return array


def sizes(view: Any) -> tuple[Any, ...]:
    return view.dtype, view.shape, view.ndim, view.size, len(view)


def links(group: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    group.visititems_links(lambda name, link: found.update({name: type(link).__name__}))
    return found


READS: dict[str, Callable[[Any], Any]] = {
    "astype": lambda e: e["points"].astype("int16")[1:3],
    "astype of one number": lambda e: e["points"].astype("f4")[2, 1],
    "astype of a scalar": lambda e: e["three"].astype(float)[()],
    "asarray of astype": lambda e: np.asarray(e["points"].astype("i4")),
    "what astype says of itself": lambda e: sizes(e["points"].astype("i4")),
    "one field": lambda e: e["table"].fields("x")[:1],
    "a field as an array": lambda e: np.asarray(e["table"].fields("n")),
    "several fields": lambda e: e["table"].fields(["n"])[()],
    "one point of several fields": lambda e: e["table"].fields(["n"])[1],
    "dtype of fields": lambda e: (e["table"].fields("n").dtype, e["table"].fields(["n"]).dtype),
    "asstr": lambda e: list(e["words"].asstr()),
    "a slice of asstr": lambda e: e["words"].asstr()[1:].tolist(),
    "what asstr says of itself": lambda e: (e["words"].asstr().shape, e["words"].asstr().size),
    "read_direct": lambda e: taken(e["points"], None, None),
    "read_direct of a part": lambda e: taken(e["points"], np.s_[2:4], np.s_[5:7]),
    "len": lambda e: e["points"].len(),
    "labels of axes": lambda e: [one.label for one in e["points"].dims],
    "number of axes": lambda e: (len(e["points"].dims), len(e["three"].dims)),
    "fillvalue": lambda e: (e["points"].fillvalue, e["words"].fillvalue),
    "filters": lambda e: (e["points"].shuffle, e["points"].fletcher32, e["points"].scaleoffset),
    "is_scale": lambda e: e["points"].is_scale,
    "links": links,
    "the first result ends a visit": lambda e: e.visit_links(lambda name: len(name) == 5 or None),
    "reversed": lambda e: list(reversed(e)),
    "reversed points": lambda e: [list(point) for point in reversed(e["points"])],
    "a point that is in it": lambda e: 3 in e["three"][...].ravel(),
    "items": lambda e: [name for name, _ in e["inside"].items()],
    "items of the file": lambda e: [name for name, _ in e.file.items()],
    "values": lambda e: [node.name for node in e.file.values()],
    "require_group": lambda e: e.require_group("inside").name,
    "require_dataset": lambda e: e.require_dataset("points", (10, 3), "f8").name,
    "type of an attribute": lambda e: (
        e.attrs.get_id("NX_class").shape,
        e.attrs.get_id("NX_class").dtype,
    ),
    "type of texts": lambda e: e["points"].attrs.get_id("DIMENSION_LABELS").shape,
    "setdefault": lambda e: e.setdefault("three", 4)[()],
    "modes": lambda e: (e.file.mode, e.file.swmr_mode, e.file.userblock_size),
    "nothing to flush": lambda e: (e.file.flush(), e["points"].flush(), e["points"].refresh()),
    "is there": lambda e: (bool(e), bool(e["points"]), bool(e.file)),
    "paths with slashes": lambda e: (e["inside/"].name, e["//1.1//three"].name, "inside/" in e),
}


@pytest.mark.parametrize("read", READS)
def test_it_is_read_as_by_h5py(file: Any, there: h5py.File, read: str) -> None:
    try:
        theirs = READS[read](there["1.1"])
    except AttributeError:
        pytest.skip("this h5py does not have it yet")
    ours = READS[read](file["1.1"])
    assert type(ours) is type(theirs)
    if isinstance(theirs, np.ndarray | np.generic):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tobytes() == theirs.tobytes()
    else:
        assert ours == theirs


MISTAKES: dict[str, Callable[[Any], Any]] = {
    "an array that does not fit": lambda e: e["points"].read_direct(np.zeros((4, 3))),
    "a field that is not there": lambda e: e["table"].fields("nope")[()],
    "fields of numbers": lambda e: e["points"].fields("x")[()],
    "another shape": lambda e: e.require_dataset("points", (3,), "f8"),
    "a group where a dataset is": lambda e: e.require_group("points"),
    "a dataset where a group is": lambda e: e.require_dataset("inside", (), "f8"),
    "parts of what has none": lambda e: e["points"].virtual_sources(),
    "chunks of what has none": lambda e: list(e["three"].iter_chunks()),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_h5py_refuses_is_refused_alike(file: Any, there: h5py.File, mistake: str) -> None:
    try:
        MISTAKES[mistake](there["1.1"])
    except Exception as error:
        with pytest.raises(type(error)):
            MISTAKES[mistake](file["1.1"])
    else:
        pytest.fail("h5py takes it")


CHANGES: dict[str, Callable[[Any], Any]] = {
    "dataset[...] =": lambda e: e["points"].__setitem__(0, 1),
    "group[...] =": lambda e: e.__setitem__("new", 1),
    "del group[...]": lambda e: e.__delitem__("points"),
    "attrs[...] =": lambda e: e.attrs.__setitem__("new", 1),
    "del attrs[...]": lambda e: e.attrs.__delitem__("NX_class"),
    "create_group": lambda e: e.create_group("new"),
    "create_dataset": lambda e: e.create_dataset("new", data=[1, 2]),
    "require_group": lambda e: e.require_group("new"),
    "require_dataset": lambda e: e.require_dataset("new", (2,), float),
    "setdefault": lambda e: e.setdefault("new", 1),
    "move": lambda e: e.move("points", "there"),
    "copy": lambda e: e.copy("points", "there"),
    "pop": lambda e: e.pop("points"),
    "update": lambda e: e.update(new=1),
    "clear": lambda e: e.clear(),
    "resize": lambda e: e["points"].resize((1, 1)),
    "write_direct": lambda e: e["points"].write_direct(POINTS),
    "make_scale": lambda e: e["points"].make_scale("x"),
    "attrs.create": lambda e: e.attrs.create("new", 1),
    "attrs.modify": lambda e: e.attrs.modify("NX_class", "NXroot"),
    "attrs.update": lambda e: e.attrs.update(new=1),
    "attrs.setdefault": lambda e: e.attrs.setdefault("new", 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whoever_would_change_it_is_told_that_it_is_read_only(file: Any, change: str) -> None:
    with pytest.raises(ReadOnlyFileError, match="this file is read-only") as told:
        CHANGES[change](file["1.1"])
    assert isinstance(told.value, OSError)
    assert isinstance(told.value, ValueError)
    assert isinstance(told.value, NoWritePermission)
    assert "new" not in file["1.1"]
    assert np.array_equal(file["1.1/points"][()], POINTS)


CHUNKED = [None, np.s_[2:9, 1:], np.s_[4:5], np.s_[3:3], np.s_[:, 2:], np.s_[20:]]


@pytest.mark.parametrize("selection", CHUNKED, ids=str)
def test_chunks_are_gone_through_as_by_h5py(tmp_path: Path, selection: Any) -> None:
    path = tmp_path / "chunks.h5"
    with h5py.File(path, "w") as there:
        dataset = there.create_dataset("d", data=POINTS, chunks=(4, 2))
        try:
            expected = list(dataset.iter_chunks(selection))
        except (ValueError, TypeError):  # h5py takes not all of them
            expected = None
    with static_hdf5.File(path) as file:
        found = list(file["d"].iter_chunks(selection))
        if expected is not None:
            assert found == [parts for parts in expected if all(p.start < p.stop for p in parts)]
        seen = np.zeros(POINTS.shape, int)
        for parts in found:
            seen[parts] += 1
        whole = np.zeros(POINTS.shape, int)
        whole[... if selection is None else selection] = 1
        assert np.array_equal(seen, whole)


def test_a_live_dataset_is_gone_through_chunk_by_chunk(directory: Path) -> None:
    with live(directory / "f.h5") as file:
        dataset = file["1.1/points"]
        parts = [dataset[chunk] for chunk in dataset.iter_chunks(np.s_[2:])]
        assert np.array_equal(np.concatenate(parts), POINTS[2:])


def test_parts_of_a_virtual_dataset_are_told_as_by_h5py(tmp_path: Path) -> None:
    path, source = tmp_path / "v.h5", tmp_path / "source.h5"
    with h5py.File(source, "w") as file:
        file["d"] = POINTS
    layout = h5py.VirtualLayout((4, 3), "float64")
    layout[1:3] = h5py.VirtualSource("source.h5", "d", POINTS.shape)[2:8:3]
    with h5py.File(path, "w") as file:
        file.create_group("1.1").create_virtual_dataset("v", layout)
    part = {
        "vspace": {"start": [1, 0], "count": [2, 3]},
        "src_file": "source.h5",
        "src_dataset": "d",
        "src_space": {"start": [2, 0], "stride": [3, 1], "count": [2, 3]},
    }
    item = {
        "type": "virtual_dataset",
        "dtype": "<f8",
        "shape": [4, 3],
        "virtual_sources": [part],
    }

    def told(dataset: Any) -> list[Any]:
        return [
            (one.file_name, one.dset_name, _elements(one.vspace), _elements(one.src_space))
            for one in dataset.virtual_sources()
        ]

    backend = MemoryBackend()
    backend.initialise()
    with h5py.File(path, locking=False) as there:
        expected = told(there["1.1/v"])
        with static_hdf5.File(path) as fixed, dynamic(path) as moving, written(path) as alone:
            assert told(fixed["1.1/v"]) == told(moving["1.1/v"]) == told(alone["1.1/v"]) == expected
    with DataStore(backend=backend) as store:
        scan, _ = started(store, group(v=item), path=str(path))
        with redis_hdf5.File(path, data_store=store) as file:
            assert told(file["1.1/v"]) == expected
        scan.close()


def test_an_empty_name_is_nothing_as_in_h5py(directory: Path) -> None:
    with live(directory / "f.h5") as file:
        assert "" not in file["1.1"]
        with pytest.raises(KeyError, match="a group's own is"):
            file["1.1"][""]


def _elements(space: Any) -> list[tuple[int, ...]]:
    """Where a selection lies; how it is composed may differ."""
    start, stride, count, block = space.get_regular_hyperslab()
    axes = [
        [a + i * step + j for i in range(n) for j in range(size)]
        for a, step, n, size in zip(start, stride, count, block, strict=True)
    ]
    return [tuple(axis) for axis in axes]


@pytest.mark.parametrize("kind", [live, written], ids=lambda kind: kind.__name__)
def test_a_closed_file_gives_nothing_more_and_says_so(directory: Path, kind: Any) -> None:
    with kind(directory / "f.h5") as file:
        entry, points, attrs = file["1.1"], file["1.1/points"], file["1.1"].attrs
        assert points[0].tolist() == POINTS[0].tolist()
        names, values = iter(file), iter(points)
        assert (next(names), next(values).tolist()) == ("1.1", POINTS[0].tolist())
        frozen = file.snapshot()
        file.close()
        for access in (
            lambda: file["1.1"],
            lambda: list(file.keys()),
            lambda: len(file),
            lambda: list(file),
            lambda: "1.1" in file,
            lambda: file.get("1.1"),
            lambda: file.get("1.1", getlink=True),
            lambda: file.attrs["NX_class"],
            file.snapshot,
            lambda: entry["three"],
            lambda: list(entry),
            lambda: attrs["NX_class"],
            lambda: list(attrs),
            lambda: points[0],
            lambda: points.shape,
            lambda: points.dtype,
            lambda: list(points),
            lambda: points.astype("i4")[0],
            lambda: next(names),
            lambda: next(values),
        ):
            with pytest.raises(FileClosedError, match=r"f\.h5 was closed.*open it again"):
                access()
        assert (bool(file), bool(entry), bool(points)) == (False, False, False)
        assert [repr(one)[:7] for one in (file, entry, points)] == ["<Closed"] * 3
        assert (file.filename, points.name) == (str(directory / "f.h5"), "/1.1/points")
        file.close()
        assert np.array_equal(frozen["1.1/points"][()], POINTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, "/f.h5"), "The data store is a blissdata.DataStore, not 3"),
        (("/f.h5", "r", "redis://elsewhere"), r"not 'redis://elsewhere': File\(path, data_store="),
        ((None,), "the path is missing behind None"),
    ],
)
def test_a_store_that_is_none_is_told(arguments: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        redis_hdf5.File(*arguments)


def test_a_store_without_a_path_is_told(memory_store: DataStore) -> None:
    with pytest.raises(TypeError, match="the path is missing behind <DataStore"):
        redis_hdf5.File(memory_store)
    with pytest.raises(ValueError, match="'' is not the path of a file"):
        redis_hdf5.File("", data_store=memory_store)


def test_names_that_are_waited_for_end_when_another_thread_closes_the_file(
    memory_store: DataStore,
) -> None:
    file = redis_hdf5.File("/data/none.h5", data_store=memory_store)
    names = iter(file)
    file.close()
    with pytest.raises(FileClosedError):
        next(names)
