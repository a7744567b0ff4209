"""The live file: entries, paths and links, values, and what waits for what."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.h5api.live import PATH, external, group, new_scan, root, send, soft, started, stream
from tests.round_trips import round_trips

from blissdata import DataStore, ScanState
from blissdata.exceptions import (
    DataFileMissingError,
    DataFileRefusedError,
    DataTimeoutError,
    IndexNoMoreThereError,
    IndexNotYetThereError,
    IndexWontBeThereError,
    LayoutError,
    StreamVanishedError,
)
from blissdata.h5api import abstract, live_scans
from blissdata.h5api.redis_hdf5 import Attributes, Dataset, File, Group

LONG_S = 30.0
PENDING = object()


@contextmanager
def running(*work: Callable[[], Any]) -> Iterator[list[Any]]:
    """Does each piece of work in a thread meanwhile; the results, `PENDING` before they are there."""
    results: list[Any] = [PENDING] * len(work)

    def run(i: int) -> None:
        try:
            results[i] = work[i]()
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(work))]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        for thread in threads:
            thread.join(LONG_S)
        assert not any(thread.is_alive() for thread in threads)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# ------------------------------------------------------------------------------------ the talk


def test_the_talks_example_prints_the_values(
    plain_store: DataStore, server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "/tmp/scans/test_session/data.h5"
    frames = np.arange(12 * 4, dtype="uint16").reshape(12, 2, 2)
    layout = group(instrument=group(diode=stream("diode"), my_camera=stream("camera")))
    scan, streams = started(
        plain_store, layout, path=path, diode=(float, ()), camera=("uint16", (2, 2))
    )
    send(streams["diode"], np.array([0.5, 1.5, 2.5]))
    send(streams["camera"], frames)
    scan.stop()
    scan.close()
    names: dict[str, Any] = {"redis_url": server.url}
    exec(  # noqa: S102 — the program itself is what is tested
        """
from blissdata.redis_engine.store import DataStore
from blissdata.h5api.redis_hdf5 import File

data_store = DataStore(redis_url)
f = File(data_store, "/tmp/scans/test_session/data.h5")

for value in f["/instrument/diode"]:
    print(value)
images = f["/instrument/my_camera"][0:10]
""",
        names,
    )
    names["data_store"].close()
    assert capsys.readouterr().out == "0.5\n1.5\n2.5\n"
    assert np.array_equal(names["images"], frames[:10])


def test_the_talks_mapping_is_a_layout(store: DataStore) -> None:
    from blissdata.h5map import RAW, STREAM

    scan = new_scan(store, 5)
    diode = scan.create_stream("simulation_diode_sampling_controller:diode", dtype=float)
    elapsed = scan.create_stream("timer:elapsed_time", dtype=float)
    epoch = scan.create_stream("timer:epoch", dtype=float)
    scan.info["mapping"] = {
        "NX_class": "NXentry",
        "instrument": {
            "NX_class": "NXinstrument",
            "name": ({"short_name": "id00"}, RAW, "esrf-id00a"),
            "diode": (
                {"NX_class": "NXdetector"},
                {"data": ({}, STREAM, "simulation_diode_sampling_controller:diode")},
            ),
            "elapsed_time": (
                {"NX_class": "NXpositioner"},
                {"value": ({"units": "s"}, STREAM, "timer:elapsed_time")},
            ),
            "epoch": (
                {"NX_class": "NXpositioner"},
                {"value": ({"units": "s"}, STREAM, "timer:epoch")},
            ),
        },
        "measurement": (
            {},
            {
                "diode": ({}, STREAM, "simulation_diode_sampling_controller:diode"),
                "elapsed_time": ({"units": "s"}, STREAM, "timer:elapsed_time"),
                "epoch": ({"units": "s"}, STREAM, "timer:epoch"),
            },
        ),
    }
    scan.prepare()
    scan.start()
    for one, start in ((diode, 0.0), (elapsed, 10.0), (epoch, 20.0)):
        send(one, start + np.arange(3))
    scan.stop()
    scan.close()

    f = File(store, PATH)
    assert list(f.keys()) == ["5.1"]
    entry = f["/5.1"]
    assert dict(entry.attrs) == {"NX_class": "NXentry"}
    assert list(entry) == ["instrument", "measurement"]
    assert list(f["/instrument/diode"]) == ["data"]  # a group iterates its names, as in h5py
    assert f["/instrument/diode"].attrs["NX_class"] == "NXdetector"
    assert f["/instrument/diode/data"].name == "/5.1/instrument/diode/data"
    assert f["/instrument/name"][()] == b"esrf-id00a"
    assert f["/instrument/name"].attrs["short_name"] == "id00"
    assert list(f["/instrument/diode/data"]) == [0, 1, 2]
    assert f["/measurement/epoch"].attrs["units"] == "s"
    assert np.array_equal(f["/measurement/epoch"][:], [20, 21, 22])


# ------------------------------------------------------------------------------------ entries


def test_each_scan_gives_its_entries(store: DataStore) -> None:
    for number in (1, 2):
        scan = new_scan(store, number)
        scan.info["h5maps"] = {
            PATH: root(**{f"{number}.1": group(), f"{number}.2": group()}),
            "/other.h5": root(**{"9.1": group()}),
        }
        scan.prepare()
    elsewhere = new_scan(store, 3, path="/elsewhere.h5")
    elsewhere.info["h5maps"] = {PATH: root(**{"3.1": group()})}
    elsewhere.prepare()
    other_case = new_scan(store, 4, path=PATH.upper())
    other_case.info["h5maps"] = {PATH.upper(): root(**{"4.1": group()})}
    other_case.prepare()

    f = File(PATH, data_store=store)
    assert list(f.keys()) == ["1.1", "1.2", "2.1", "2.2"]
    assert (len(f), len(f["/"])) == (4, 4)
    assert f["2.2"].name == "/2.2"
    assert [name in f for name in ("1.1", "/1.1", "2.2", "3.1", "4.1", "9.1", "1.3")] == [
        True,
        True,
        True,
        *[False] * 4,
    ]
    assert list(File(PATH, data_store=store, wait=False)) == list(f.keys())


def test_a_file_without_scans_is_empty(store: DataStore) -> None:
    with File("/nowhere.h5", "r", store) as f:
        assert (len(f), list(f.keys()), "1.1" in f) == (0, [], False)
        assert dict(f.attrs) == {"NX_class": "NXroot"}
        with pytest.raises(KeyError, match=r"No such path: '/1\.1'"):
            f["1.1"]
        with pytest.raises(KeyError, match="No such path: '/diode'"):
            f["diode"]


def test_scans_without_a_layout_or_with_a_wrong_one_cost_no_other(
    store: DataStore, caplog: pytest.LogCaptureFixture
) -> None:
    new_scan(store, 1, h5maps={"/elsewhere.h5": group()}).prepare()
    for number, layout in enumerate(({"type": "wrong"}, [1], 7, None), 2):
        new_scan(store, number, h5maps={PATH: layout}).prepare()
    new_scan(store, 6, h5maps=[1]).prepare()
    late = new_scan(store, 7)  # nobody checks what close() adds
    late.info["mapping"] = ["what", 1]
    late.close()
    started(store, group(x=1), 8)
    f = File(PATH, data_store=store)
    assert "8.1" in list(f.keys())
    assert f["x"][()] == 1
    for number in range(1, 7):
        with pytest.raises(KeyError, match=f"^\"No such path: '/{number}.1'\""):
            f[f"{number}.1"]
    assert "is no group" in caplog.text
    assert "info['mapping']" in caplog.text


def test_two_scans_of_one_number_are_an_error(store: DataStore) -> None:
    started(store, group(), 1)
    started(store, group(), 1)
    started(store, group(), 2)
    f = File(PATH, data_store=store)
    with pytest.raises(RuntimeError, match="multiple scans number 1"):
        f["1.1"]
    assert f["2.1"].name == "/2.1"
    assert list(f.keys()) == ["1.1", "2.1"]


def test_a_path_without_an_entry_is_sought_in_the_newest(store: DataStore) -> None:
    started(store, group(x=1, only=1), 1)
    f = File(PATH, data_store=store)
    assert f["x"][()] == 1
    started(store, group(x=2), 2)
    assert f["/x"][()] == 2
    assert f["x"].name == "/2.1/x"
    assert f["1.1"]["/x"][()] == 2
    assert "only" not in f
    with pytest.raises(KeyError, match="No such path: '/only'"):
        f["only"]


def test_iterating_the_file_goes_on_to_the_next_scans(store: DataStore) -> None:
    started(store, group(), 1)
    f = File(PATH, data_store=store)
    seen: list[str] = []

    def follow() -> None:
        for name in f:
            seen.append(name)
            if name == "4.1":
                return

    late = new_scan(store, 2)
    with running(follow):
        wait_until(lambda: seen == ["1.1"])
        started(store, group(), 3, path="/other.h5")
        started(store, group(), 3)
        wait_until(lambda: "3.1" in seen)  # one that is not prepared holds up no other
        late.info["h5maps"] = {PATH: root(**{"2.1": group(), "2.2": group()})}
        late.prepare()
        wait_until(lambda: "2.2" in seen)
        assert f["3.1"].name == "/3.1"
        started(store, group(), 4)
    assert seen == ["1.1", "3.1", "2.1", "2.2", "4.1"]


def test_iterating_the_file_stops_when_the_time_is_up(store: DataStore) -> None:
    started(store, group(), 1)
    new_scan(store, 2)
    assert list(File(PATH, data_store=store, timeout=0.05)) == ["1.1"]
    assert list(File(PATH, data_store=store, timeout=0)) == ["1.1"]


def test_iterating_the_file_goes_on_when_scans_are_deleted(store: DataStore) -> None:
    scans = {number: started(store, group(x=number), number)[0] for number in (1, 2, 3)}
    pending = new_scan(store, 4)
    f = File(PATH, data_store=store)
    seen: list[str] = []

    def follow() -> None:
        for name in f:
            seen.append(name)
            if name == "1.1":
                for scan in (scans[1], scans[2], pending):  # given, to be given, not prepared yet
                    store.delete_scan(scan.key, force=True)
                wait_until(lambda: list(f.keys()) == ["3.1"])
            if name == "5.1":
                return

    with running(follow):
        wait_until(lambda: "3.1" in seen)
        started(store, group(), 5)
    assert seen == ["1.1", "2.1", "3.1", "5.1"]  # as they were when the iteration began
    assert "2.1" not in f
    assert list(f.keys()) == ["3.1", "5.1"]


def test_a_scan_that_is_not_prepared_is_waited_for(store: DataStore) -> None:
    scan = new_scan(store, 1)
    f = File(PATH, data_store=store)
    assert (list(f.keys()), len(f)) == ([], 0)  # at once
    with running(lambda: f["1.1/x"][()], lambda: f["x"][()], lambda: "1.1" in f) as results:
        scan.info["h5maps"] = {PATH: root(**{"1.1": group(x=7)})}
        scan.prepare()
    assert results == [7, 7, True]


@pytest.mark.parametrize("options", [{"wait": False}, {"timeout": 0.05}], ids=str)
def test_a_scan_that_is_not_prepared_in_time_is_not_there(
    store: DataStore, options: dict[str, Any]
) -> None:
    new_scan(store, 1)
    f = File(PATH, data_store=store, **options)
    for path in ("1.1", "1.1/x", "x"):
        with pytest.raises(KeyError, match="No such path"):
            f[path]
    started(store, group(x=1), 2)
    new_scan(store, 3)
    assert f["x"][()] == 1  # the newest that is there


def test_a_scan_deleted_before_it_was_prepared_is_not_waited_for(store: DataStore) -> None:
    scan = new_scan(store, 1)
    f = File(PATH, data_store=store)
    with running(lambda: "1.1" in f) as results:
        store.delete_scan(scan.key, force=True)
    assert results == [False]


def test_what_close_adds_shows_in_objects_already_held(store: DataStore) -> None:
    scan, _ = started(store, group(g=group(), x=[1, 2]), 1)
    f = File(PATH, data_store=store)
    entry, inner, x = f["1.1"], f["1.1/g"], f["1.1/x"]
    assert (list(entry), list(inner), dict(inner.attrs), x.shape) == (["g", "x"], [], {}, (2,))
    scan.stop()
    layout = scan.info["h5maps"][PATH]["children"]
    layout["1.1"]["children"] |= {"end_time": "now", "x": [1, 2, 3]}
    layout["1.1"]["children"]["g"] |= {"attributes": {"a": 1}, "children": {"y": 1}}
    layout["1.2"] = group()
    scan.close()
    wait_until(lambda: "end_time" in entry)
    assert (list(entry), list(inner), dict(inner.attrs)) == (
        ["g", "x", "end_time"],
        ["y"],
        {"a": 1},
    )
    assert np.array_equal(x[()], [1, 2, 3])
    assert list(f.keys()) == ["1.1", "1.2"]


def test_a_deleted_scan_stays_as_far_as_it_was_known(store: DataStore) -> None:
    scan, _ = started(store, group(x=1), 1)
    f = File(PATH, data_store=store)
    entry = f["1.1"]
    store.delete_scan(scan.key, force=True)
    wait_until(lambda: list(f.keys()) == [])
    assert list(entry) == ["x"]
    assert entry["x"][()] == 1


def counted(work: Callable[[], Any]) -> tuple[Any, int]:
    """What the work gives, and how often it sent something to the server."""
    with round_trips() as trips:
        return work(), len(trips)


@pytest.mark.parametrize("kind", ["plain", "stack"])
def test_few_round_trips_list_a_thousand_scans(request: pytest.FixtureRequest, kind: str) -> None:
    store: DataStore = request.getfixturevalue(f"{kind}_store")
    for number in range(1000):
        scan = new_scan(store, number, h5maps={PATH: root(**{f"{number}.1": group(x=number)})})
        scan.prepare()
        if number % 2:
            scan.close()
    store.load_scan(
        store.get_last_scan()[1]
    )  # the functions are on the server, the connection is made
    expected = [f"{number}.1" for number in range(1000)]
    f = File(PATH, data_store=store)
    other = File(PATH, data_store=store, wait=False)
    third = File(PATH, data_store=store)
    for work, result, most in (
        (lambda: list(f.keys()), expected, 5),
        (lambda: len(f), 1000, 5),
        (lambda: list(other), expected, 5),
        (lambda: third["501.1/x"][()], 501, 4),
        (lambda: third["501.1/x"][()], 501, 0),
    ):
        found, trips = counted(work)
        assert found == result
        assert trips <= most


# ------------------------------------------------------------------------------------ the interface


def test_its_classes_are_those_of_the_common_interface(store: DataStore) -> None:
    started(store, group({"a": 1}, x=1), 1)
    f = File(PATH, data_store=store)
    assert [type(one) for one in (f, f["1.1"], f["1.1/x"], f.attrs)] == [
        File,
        Group,
        Dataset,
        Attributes,
    ]
    assert isinstance(f, abstract.File)
    assert isinstance(f, Group)
    assert isinstance(f["1.1"], abstract.Group)
    assert isinstance(f["1.1/x"], abstract.Dataset)
    assert isinstance(f.attrs, abstract.Attributes)


def test_a_node_knows_where_it_is(store: DataStore) -> None:
    started(store, group(g=group(x=1), short=soft("g")), 1)
    f = File(PATH, data_store=store)
    assert (f.name, f.filename, f.mode, f.file is f) == ("/", PATH, "r", True)
    assert (f.parent.name, f["/"].name, f["/"].parent.name) == ("/", "/", "/")
    x = f["1.1/short/x"]
    assert (x.name, x.parent.name, x.parent.parent.name) == ("/1.1/g/x", "/1.1/g", "/1.1")
    assert x.file is f
    assert x.parent == f["1.1/g"]
    assert x.parent["x"] == x
    assert dict(f.attrs) == {"NX_class": "NXroot", "default": "1.1"}
    assert [list(f["/"].keys()), dict(f["/"].attrs)] == [["1.1"], dict(f.attrs)]
    assert 'Live-HDF5 file "sample.h5"' in repr(f)
    assert repr(f["1.1"]) == '<Live-HDF5 group "/1.1" (2 members)>'
    assert repr(x) == '<Live-HDF5 dataset "x": shape (), type "<i8">'


def test_groups_are_mappings(store: DataStore) -> None:
    started(store, group(a=1, g=group(b=2)), 1)
    entry = File(PATH, data_store=store)["1.1"]
    assert (list(entry), len(entry), list(entry.keys())) == (["a", "g"], 2, ["a", "g"])
    assert [node.name for node in entry.values()] == ["/1.1/a", "/1.1/g"]
    assert [(key, node.name) for key, node in entry.items()] == [("a", "/1.1/a"), ("g", "/1.1/g")]
    assert ("a" in entry, "g/b" in entry, "z" in entry, "a/z" in entry) == (
        True,
        True,
        False,
        False,
    )
    assert (entry.get("z"), entry.get("z", 3), entry.get("g/b")[()]) == (None, 3, 2)
    assert entry[b"a"][()] == 1
    for key in (1, None, 1.5):
        with pytest.raises(TypeError):
            entry[key]
        with pytest.raises(TypeError):
            key in entry  # noqa: B015 — it raises
    visited: list[str] = []
    entry.visititems(lambda name, node: visited.append(name))
    assert visited == ["a", "g", "g/b"]


def test_links_show_as_in_h5py(store: DataStore) -> None:
    layout = group(
        g=group(x=1), s=soft("g/x"), e=external("other.h5", "/a"), lost=soft("z"), short=soft("g")
    )
    started(store, layout, 1)
    entry = File(PATH, data_store=store)["1.1"]
    assert entry.get("g", getclass=True) is h5py.Group
    assert entry.get("s", getclass=True) is h5py.Dataset
    assert entry.get("s", getclass=True, getlink=True) is h5py.SoftLink
    assert entry.get("s", getlink=True).path == "g/x"
    assert isinstance(entry.get("g", getlink=True), h5py.HardLink)
    assert entry.get("lost", getlink=True).path == "z"
    assert entry.get("z", 3, getlink=True) == 3
    found = entry.get("e", getlink=True)
    assert (type(found), found.filename, found.path) == (h5py.ExternalLink, "other.h5", "/a")
    assert "lost" not in entry
    assert "lost" in list(entry)
    visited: list[str] = []
    entry.visit(visited.append)
    assert visited == ["g", "g/x"]  # links are not followed
    assert entry["short/x"].name == "/1.1/g/x"


def test_values_and_attributes_of_every_kind(store: DataStore) -> None:
    compound = {"type": "compound", "columns": [["a", [1, 2]], ["b", ["x", "y"]]]}
    values: dict[str, tuple[Any, Any]] = {
        "text": ("é€", "é€"),
        "texts": (["a", "bc"], ["a", "bc"]),
        "int": (3, np.int64(3)),
        "float": (2.5, np.float64(2.5)),
        "bool": (True, np.True_),
        "ints": ([[1, 2]], np.array([[1, 2]])),
        "empty": ([], np.zeros(0)),
        "nan": (
            {"type": "inline", "dtype": "float32", "value": ["nan", 1]},
            np.float32(["nan", 1]),
        ),
        "complex": (
            {"type": "inline", "dtype": "complex64", "value": "(1+2j)"},
            np.complex64(1 + 2j),
        ),
        "uint64": ({"type": "inline", "dtype": "uint64", "value": 2**63}, np.uint64(2**63)),
        "b64": (
            {"type": "inline_b64", "dtype": ">i2", "shape": [1, 2], "value": "AAEAAg=="},
            np.array([[1, 2]], ">i2"),
        ),
    }
    raw = {name: given for name, (given, _) in values.items()}
    started(store, group(raw, compound=compound, **raw), 1)
    entry = File(PATH, data_store=store)["1.1"]
    assert list(entry.attrs) == list(values)
    for name, (_, expected) in values.items():
        attribute, value = entry.attrs[name], entry[name][()]
        if "text" in name:
            one = isinstance(expected, str)
            assert type(attribute) is (str if one else np.ndarray)
            assert type(value) is (bytes if one else np.ndarray)
            assert np.array_equal(attribute, expected)
            assert np.array_equal(entry[name].asstr()[()], expected)
            assert h5py.check_string_dtype(entry[name].dtype) == ("utf-8", None)
        else:
            for found in (attribute, value):
                assert type(found) is type(expected)
                assert found.dtype == expected.dtype
                assert np.array_equal(found, expected, equal_nan=True)
    table = entry["compound"]
    assert table.dtype.names == ("a", "b")
    assert np.array_equal(table["a"], [1, 2])
    assert table[1]["b"] == b"y"
    assert (entry.attrs.get("z"), "int" in entry.attrs, len(entry.attrs)) == (None, True, 11)
    with pytest.raises(KeyError, match="'z'"):
        entry.attrs["z"]


def test_scalars_have_no_length(store: DataStore) -> None:
    started(store, group(x=1), 1)
    x = File(PATH, data_store=store)["x"]
    assert (x.shape, x.size, x.ndim, x.maxshape, x.chunks) == ((), 1, 0, (), None)
    assert x[...].shape == ()
    with pytest.raises(TypeError, match="scalar"):
        len(x)
    with pytest.raises(TypeError, match="scalar"):
        iter(x)
    with pytest.raises(ValueError, match="scalar"):
        x[0]


def test_a_mistake_in_the_layout_costs_that_item_alone(store: DataStore) -> None:
    layout = group(
        {"bad": {"type": "inline", "dtype": "int8", "value": "x"}, "good": 1},
        bad={"type": "inline", "dtype": "int8", "value": 1000},
        odd={"type": "nonsense"},
        none=None,
        nostream=stream("zzz"),
        nofile={"type": "external_binary_dataset", "dtype": "<i4", "shape": [1], "files": []},
        good=[1],
    )
    started(store, layout, 1, other=(float, ()))
    entry = File(PATH, data_store=store)["1.1"]
    assert [node.name for node in entry.values()] == [f"/1.1/{name}" for name in layout["children"]]
    assert all(repr(node) for node in entry.values())
    for name in ("bad", "odd", "none", "nofile"):
        with pytest.raises(LayoutError, match=f"/1.1/{name}"):
            entry[name][()]
    with pytest.raises(LayoutError, match=r"attribute 'bad' of /1\.1"):
        entry.attrs["bad"]
    with pytest.raises(KeyError, match="no stream 'zzz', only: other"):
        entry["nostream"].shape  # noqa: B018 — it raises
    assert (entry["good"][0], entry.attrs["good"]) == (1, 1)


@pytest.mark.parametrize("mode", ["a", "w", "r+", "rb", None])
def test_a_live_file_is_read_only(store: DataStore, mode: Any) -> None:
    with pytest.raises(ValueError, match="only r is supported"):
        File(PATH, mode, store)


def test_without_a_store_the_environment_names_the_server(
    plain_store: DataStore, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BLISSDATA_URL", raising=False)
    monkeypatch.delenv("BEACON_HOST", raising=False)
    with pytest.raises(
        ValueError, match=r"No DataStore provided, .*: \$BEACON_HOST is not specified"
    ):
        File(PATH)
    started(plain_store, group(x=1), 1)
    monkeypatch.setenv("BLISSDATA_URL", server.url)
    with File(PATH) as f:
        assert f["x"][()] == 1


def test_a_relative_path_is_made_absolute(
    store: DataStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(store, group(x=1), 1, path=str(tmp_path / "f.h5"))
    monkeypatch.chdir(tmp_path)
    f = File(Path("f.h5"), data_store=store)
    assert (f.filename, f["x"][()]) == (str(tmp_path / "f.h5"), 1)


# ------------------------------------------------------------------------------------ streams


def test_a_stream_is_a_dataset_that_grows(store: DataStore) -> None:
    layout = group(diode=stream("diode", units="A"), cam=stream("cam"))
    _, streams = started(store, layout, diode=(float, ()), cam=("int32", (2, 3)))
    f = File(PATH, data_store=store)
    diode, cam = f["diode"], f["cam"]
    assert (diode.shape, cam.shape, len(cam), cam.size, cam.ndim) == ((0,), (0, 2, 3), 0, 0, 3)
    assert (diode[()].shape, cam[()].shape, cam[()].dtype) == ((0,), (0, 2, 3), np.dtype("int32"))
    frames = np.arange(24, dtype="int32").reshape(4, 2, 3)
    send(streams["cam"], frames)
    assert (cam.shape, cam.maxshape, cam.size, cam.dtype) == (
        (4, 2, 3),
        (None, 2, 3),
        24,
        np.dtype("int32"),
    )
    assert np.array_equal(cam[()], frames)
    assert np.array_equal(cam[...], frames)
    assert np.array_equal(cam[..., 1], frames[..., 1])
    assert np.array_equal(np.asarray(f["/cam"][0:4]), frames)
    assert diode.attrs["units"] == "A"
    assert cam.chunks[1:] == (2, 3)
    assert cam.compression is None


@pytest.mark.parametrize(
    "index",
    [
        3,
        np.int32(3),
        slice(0, 4),
        slice(1, 9, 2),
        slice(2, 2),
        [0, 3],
        np.array([1, 2]),
        slice(1, 8, 2),
    ],
    ids=str,
)
def test_an_index_waits_for_its_points_alone(store: DataStore, index: Any) -> None:
    _, streams = started(store, group(d=stream("d")), d=(float, ()))
    d = File(PATH, data_store=store)["d"]
    points = np.arange(8.0)
    with running(lambda: d[index]) as results:
        for point in points:
            streams["d"].send(point)
    assert np.array_equal(results[0], points[index])


@pytest.mark.parametrize(
    "index",
    [
        -1,
        slice(2, None),
        slice(None),
        slice(None, None, 2),
        slice(-2, None),
        slice(0, -1),
        slice(0, 99),
    ],
    ids=str,
)
def test_an_index_that_counts_from_the_end_waits_for_the_end(store: DataStore, index: Any) -> None:
    scan, streams = started(store, group(d=stream("d")), d=(float, ()))
    d = File(PATH, data_store=store)["d"]
    send(streams["d"], np.arange(3.0))
    with running(lambda: d[index]) as results:
        send(streams["d"], np.arange(3.0, 5.0))
        assert results == [PENDING]
        scan.stop()
    assert np.array_equal(results[0], np.arange(5.0)[index])


def test_without_waiting_everything_gives_what_is_there(store: DataStore) -> None:
    _, streams = started(store, group(d=stream("d"), e=stream("e")), d=(float, ()), e=(float, ()))
    f = File(PATH, data_store=store, wait=False)
    d = f["d"]
    points = np.arange(3.0)
    send(streams["d"], points)
    for index in (
        -1,
        slice(None),
        slice(1, None),
        slice(0, 99),
        slice(5, 9),
        (),
        ...,
        [0, 2],
        slice(-2, 9),
    ):
        expected = points if index == () else points[index]
        assert np.array_equal(d[index], expected)
    assert list(d) == [0, 1, 2]
    assert list(f["e"]) == []
    for index in (3, [0, 3]):
        with pytest.raises(IndexNotYetThereError, match=r"/1\.1/d"):
            d[index]
    with pytest.raises(IndexError):
        d[-4]
    with pytest.raises(IndexNotYetThereError):
        f["e"][0]


def test_when_the_time_is_up_it_is_told(store: DataStore) -> None:
    _, streams = started(store, group(d=stream("d")), d=(float, ()))
    send(streams["d"], np.arange(3.0))
    for index in (-1, 3, slice(0, 4), slice(None), [0, 5]):
        d = File(PATH, data_store=store, timeout=0.05)["d"]
        with pytest.raises(DataTimeoutError, match=r"/1.1/d .*has 3 points"):
            d[index]
    assert np.array_equal(d[0:3], [0, 1, 2])
    assert list(d) == [0, 1, 2]


def test_what_is_beyond_the_end_will_never_come(store: DataStore) -> None:
    scan, streams = started(store, group(d=stream("d"), e=stream("e")), d=(float, ()), e=(int, ()))
    f = File(PATH, data_store=store)
    d, e = f["d"], f["e"]
    send(streams["d"], np.arange(3.0))
    with running(lambda: d[7], lambda: list(e)) as results:
        scan.stop()
    assert (type(results[0]), results[1]) == (IndexWontBeThereError, [])
    with pytest.raises(IndexWontBeThereError, match=r"/1\.1/d"):
        d[[0, 3]]
    with pytest.raises(IndexError):
        d[-4]
    assert np.array_equal(d[1:99], [1, 2])
    assert (e[()].shape, e[:].dtype, list(e)) == ((0,), np.dtype(int), [])
    with pytest.raises(IndexError):
        e[-1]


def test_iteration_follows_until_the_end(store: DataStore) -> None:
    scan, streams = started(
        store, group(d=stream("d"), cam=stream("cam")), d=(float, ()), cam=(int, (2,))
    )
    f = File(PATH, data_store=store)
    seen: list[float] = []
    with running(lambda: seen.extend(f["d"]), lambda: [list(v) for v in f["cam"]]) as results:
        for n in range(5):
            send(streams["d"], float(n))
            wait_until(lambda n=n: seen[-1:] == [n])  # type: ignore[misc]
        send(streams["cam"], np.array([[1, 2], [3, 4]]))
        scan.stop()
    assert seen == [0, 1, 2, 3, 4]
    assert results[1] == [[1, 2], [3, 4]]


def test_masks_may_be_as_long_as_the_dataset_was_a_moment_ago(store: DataStore) -> None:
    _, streams = started(store, group(d=stream("d")), d=(float, ()))
    d = File(PATH, data_store=store)["d"]
    send(streams["d"], np.arange(3.0))
    mask = d[()] >= 1
    send(streams["d"], np.arange(3.0, 5.0))
    assert np.array_equal(d[mask], [1, 2])


def test_json_points_are_texts(store: DataStore) -> None:
    scan, streams = started(store, group(j=stream("j")), j=("json", ()))
    for value in ({"a": 1}, [1, "é"], None):
        streams["j"].send(value)
    scan.stop()
    j = File(PATH, data_store=store)["j"]
    assert (j.shape, j.ndim, h5py.check_string_dtype(j.dtype).encoding) == ((3,), 1, "utf-8")
    assert j[0] == b'{"a": 1}'
    assert list(j) == [b'{"a": 1}', b'[1, "\\u00e9"]', b"null"]
    assert j.asstr()[-1] == "null"


def test_points_of_varying_shape(store: DataStore) -> None:
    scan, streams = started(store, group(v=stream("v")), v=("int16", (-1,)))
    streams["v"].send(np.arange(3, dtype="int16"))
    streams["v"].send(np.arange(2, dtype="int16"))
    streams["v"].send(np.arange(2, 4, dtype="int16"))
    scan.stop()
    v = File(PATH, data_store=store)["v"]
    assert (v.shape, v.maxshape, v.ndim, len(v)) == ((3, -1), (None, None), 2, 3)
    assert np.array_equal(v[0], [0, 1, 2])
    assert [list(point) for point in v[()]] == [[0, 1, 2], [0, 1], [2, 3]]
    assert [list(point) for point in v] == [[0, 1, 2], [0, 1], [2, 3]]
    assert np.array_equal(v[1:3], [[0, 1], [2, 3]])
    assert np.array_equal(v[1:, 1], [1, 3])
    assert v[0, 2] == 2
    with pytest.raises(IndexError, match="different shapes"):
        v[:, 1]


def test_points_that_left_the_server_are_told_and_others_are_read(store: DataStore) -> None:
    _, streams = started(store, group(d=stream("d")), d=(float, ()))
    for point in range(5):
        send(streams["d"], float(point))
    store.event_log.trim({streams["d"].key: 3})
    d = File(PATH, data_store=store)["d"]
    assert d.shape == (5,)
    assert np.array_equal(d[3:5], [3, 4])
    for index in (0, slice(0, 5), (), [1, 4]):
        with pytest.raises(IndexNoMoreThereError):
            d[index]


def test_points_that_left_the_server_come_from_the_file_where_the_stream_has_one(
    store: DataStore, tmp_path: Path
) -> None:
    from blissdata.streams.hdf5_fallback import Hdf5BackedStream

    path = str(tmp_path / "f.h5")
    scan = new_scan(store, 1, path)
    backed = scan.create_stream(Hdf5BackedStream.make_definition("d", path, "/1.1/d", float))
    scan.info["h5maps"] = {path: root(**{"1.1": group(d=stream("d"))})}
    scan.prepare()
    scan.start()
    for point in range(6):
        send(backed, float(point))
    with h5py.File(path, "w") as file:
        file["1.1/d"] = np.arange(6.0)
    store.event_log.trim({backed.key: 4})
    d = File(path, data_store=store)["d"]
    for index in ((), 0, slice(1, 6), [0, 5]):
        assert np.array_equal(d[index], np.arange(6.0)[index])
    with running(lambda: list(d)) as results:
        scan.stop()
    assert results == [[0, 1, 2, 3, 4, 5]]


def test_a_stream_of_scans_gives_their_keys(store: DataStore) -> None:
    from blissdata.streams.scan_sequence import ScanStream

    scan, inner = new_scan(store, 1), new_scan(store, 2)
    scans = scan.create_stream(ScanStream.make_definition("scans"))
    scan.info["h5maps"] = {PATH: root(**{"1.1": group(scans=stream("scans"))})}
    scan.prepare()
    scan.start()
    scans.send({"key": inner.key})
    scan.stop()
    assert list(File(PATH, data_store=store)["1.1/scans"]) == [inner.key.encode()]


def test_only_the_points_that_are_needed_are_read(plain_store: DataStore) -> None:
    _, streams = started(plain_store, group(cam=stream("cam")), cam=("uint8", (100_000,)))
    for number in range(20):
        streams["cam"].send(np.full(100_000, number, "uint8"))
    streams["cam"].join()
    cam = File(PATH, data_store=plain_store)["cam"]
    asked: list[tuple[int, int]] = []
    original = type(streams["cam"]).__getitem__

    def spy(self: Any, key: Any) -> Any:
        asked.append((key.start, key.stop))
        return original(self, key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(streams["cam"]), "__getitem__", spy)
        assert np.array_equal(cam[[1, 2, 18], 7], [1, 2, 18])
        assert cam[5, 5] == 5
        assert np.array_equal(cam[0:20:10, 0], [0, 10])
    assert asked == [(1, 3), (18, 19), (5, 6), (0, 1), (10, 11)]


@pytest.mark.parametrize("frozen", [False, True])
def test_plain_indices_are_one_round_trip(
    plain_store: DataStore, monkeypatch: pytest.MonkeyPatch, frozen: bool
) -> None:
    monkeypatch.setattr(live_scans, "FRESH_S", LONG_S)  # however long the test takes
    layout = group(d=stream("d"), cam=stream("cam"))
    _, streams = started(plain_store, layout, d=("int64", ()), cam=("uint8", (2, 3)))
    numbers, frames = np.arange(10), np.arange(60, dtype="uint8").reshape(10, 2, 3)
    send(streams["d"], numbers)
    send(streams["cam"], frames)
    f = File(PATH, data_store=plain_store)
    f = f.snapshot() if frozen else f
    send(streams["d"], numbers)  # what comes later is in no frozen file
    for name, expected in (("d", numbers), ("cam", frames)):
        for index in (0, 7, np.int64(3), slice(2, 5), slice(0, 10), slice(None, 1)):
            dataset = f[name]
            found, trips = counted(lambda d=dataset, i=index: d[i])
            assert np.array_equal(found, expected[index])
            assert type(found) is type(expected[index])
            assert trips == 1
    dataset = f["cam"]
    found, trips = counted(lambda: dataset[()])
    assert np.array_equal(found, frames)
    assert trips == 1
    if frozen:
        assert len(f["d"][...]) == 10
        with pytest.raises(IndexError):
            f["d"][10]


@pytest.mark.usefixtures("impatient")
def test_a_reader_of_a_scan_that_is_closed_without_a_seal_goes_on(stack_store: DataStore) -> None:
    store = stack_store
    scan, streams = started(store, group(d=stream("d")), d=(float, ()))
    send(streams["d"], np.arange(2.0))
    f = File(PATH, data_store=store)
    # As a memory tracker of blissdata 2.x leaves it: closed, but not sealed.
    document = store.catalog.load(scan.key).document
    store.catalog.advance(scan.key, ScanState.STARTED, ScanState.CLOSED, document)
    with running(lambda: list(f["d"]), lambda: list(f["d"][:]), lambda: f["d"][5]) as results:
        pass
    assert results[:2] == [[0, 1], [0, 1]]
    assert isinstance(results[2], IndexWontBeThereError)


@pytest.mark.usefixtures("impatient")
def test_a_reader_of_a_scan_that_is_deleted_is_told(plain_store: DataStore) -> None:
    store = plain_store
    scan, streams = started(store, group(d=stream("d")), d=(float, ()))
    send(streams["d"], np.arange(2.0))
    d = File(PATH, data_store=store)["d"]
    with running(lambda: d[5]) as results:
        store.catalog.expire(scan.key, 0)
    assert isinstance(results[0], StreamVanishedError | IndexError)


# ------------------------------------------------------------------------------------ other files


def test_external_links_lead_to_other_live_files(store: DataStore, tmp_path: Path) -> None:
    here, there = str(tmp_path / "here.h5"), str(tmp_path / "there.h5")
    started(store, group(x=7, back=external("here.h5", "/1.1/own")), 1, path=there)
    layout = group(
        own=3,
        abs=external(there, "/1.1/x"),
        rel=external("there.h5", "1.1/x"),
        default=external(there, "x"),
        circle=external("there.h5", "/1.1/back"),
        me=external("here.h5", "/1.1/own"),
        loop=external("here.h5", "/1.1/loop"),
        entry=external("there.h5", "/1.1"),
        lost=external("there.h5", "/1.1/zzz"),
    )
    started(store, layout, 1, path=here)
    entry = File(here, data_store=store)["1.1"]
    for name in ("abs", "rel", "default"):
        assert (entry[name][()], entry[name].file.filename, entry[name].name) == (
            7,
            there,
            "/1.1/x",
        )
    assert entry["circle"][()] == 3
    assert entry["me"].name == "/1.1/own"
    assert entry["entry/x"][()] == 7
    with pytest.raises(KeyError, match="found link cycle"):
        entry["loop"]
    with pytest.raises(KeyError, match=r"No such path: '/1\.1/zzz'"):
        entry["lost"]


def test_external_links_lead_to_written_files_below_the_roots(
    store: DataStore, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    path = str(tmp_path / "in" / "f.h5")
    for name in ("in/there.h5", "outside.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["a/b"] = np.arange(12).reshape(4, 3)
            file["a"].attrs["NX_class"] = "NXdata"
            file["a/text"] = "é"
            file["a/out"] = h5py.ExternalLink(str(tmp_path / "outside.h5"), "/a/b")
    layout = group(
        data=external("there.h5", "/a/b"),
        group=external("there.h5", "a"),
        lost=external("there.h5", "/a/z"),
        outside=external("../outside.h5", "/a/b"),
        nofile=external("nofile.h5", "/a/b"),
    )
    started(store, layout, 1, path=path)
    f = File(path, data_store=store)
    expected = np.arange(12).reshape(4, 3)
    data = f["1.1/data"]
    assert (data.shape, data.size, data.ndim, len(data), data.name) == ((4, 3), 12, 2, 4, "/a/b")
    for index in ((), ..., 1, -1, slice(1, 3), (slice(None), 0), [0, 3], (2, 1), slice(5, 9)):
        assert np.array_equal(data[index], expected[index])
    assert np.array_equal(np.array(list(data)), expected)
    assert data.file.filename == str(tmp_path / "in" / "there.h5")
    assert data.parent.name == "/a"
    assert (list(f["1.1/group"]), len(f["1.1/group"])) == (["b", "out", "text"], 3)
    assert f["1.1/group"].attrs["NX_class"] == "NXdata"
    assert f["1.1/group/text"][()] == "é".encode()
    assert isinstance(f["1.1/group"], abstract.Group)
    for name in ("lost", "nofile"):
        with pytest.raises(KeyError, match="No such path"):
            f[f"1.1/{name}"]
    for name in ("outside", "group/out"):
        with pytest.raises(DataFileRefusedError):
            f[f"1.1/{name}"]
    f.close()


def test_raw_files_are_read_below_the_roots_alone(store: DataStore, tmp_path: Path) -> None:
    path = str(tmp_path / "in" / "f.h5")
    (tmp_path / "in").mkdir()
    numbers = np.arange(10, dtype="<i4")
    (tmp_path / "in" / "a.bin").write_bytes(b"head" + numbers[:4].tobytes() + b"rest")
    (tmp_path / "in" / "b.bin").write_bytes(numbers[4:].tobytes())
    (tmp_path / "secret.bin").write_bytes(numbers.tobytes())

    def external_binary(*files: tuple[str, int, int | None], shape: list[int]) -> dict[str, Any]:
        return {
            "type": "external_binary_dataset",
            "attributes": {"q": 1},
            "dtype": "<i4",
            "shape": shape,
            "files": [{"name": n, "offset": o, "size": s} for n, o, s in files],
        }

    layout = group(
        two=external_binary(("a.bin", 4, 16), ("b.bin", 0, None), shape=[5, 2]),
        scalar=external_binary(("b.bin", 4, 4), shape=[]),
        outside=external_binary(("../secret.bin", 0, None), shape=[3]),
        absolute=external_binary((str(tmp_path / "secret.bin"), 0, None), shape=[3]),
        missing=external_binary(("c.bin", 0, None), shape=[3]),
    )
    scan, _ = started(store, layout, path=path)
    entry = File(path, data_store=store)["1.1"]
    two, expected = entry["two"], numbers.reshape(5, 2)
    assert two.external == [("a.bin", 4, 16), ("b.bin", 0, None)]
    assert (two.is_virtual, two.attrs["q"], two.shape, two.dtype) == (
        False,
        1,
        (5, 2),
        numbers.dtype,
    )
    for index in ((), ..., 0, -1, (1, 1), slice(1, 4), (slice(None), 0), [0, 4]):
        assert np.array_equal(two[index], expected[index])
    assert [list(row) for row in two] == expected.tolist()
    assert entry["scalar"][()] == 5
    for name in ("outside", "absolute"):
        with pytest.raises(DataFileRefusedError):
            entry[name][()]
    with pytest.raises(DataFileMissingError):
        File(path, data_store=store, wait=False)["1.1/missing"][()]
    with running(lambda: entry["missing"][()]) as results:  # a scan that goes on may still write it
        (tmp_path / "in" / "c.part").write_bytes(numbers[:3].tobytes())
        (tmp_path / "in" / "c.part").rename(tmp_path / "in" / "c.bin")
    assert np.array_equal(results[0], [0, 1, 2])
    scan.stop()
    scan.close()
    (tmp_path / "in" / "c.bin").unlink()
    with pytest.raises(DataFileMissingError):
        entry["missing"][()]
    roots = File(path, data_store=store, roots=tmp_path)
    assert np.array_equal(roots["1.1/outside"][()], [0, 1, 2])


def test_virtual_datasets_are_composed_of_files_and_streams(
    store: DataStore, tmp_path: Path
) -> None:
    root_directory, outside = tmp_path / "in", tmp_path / "outside.h5"
    root_directory.mkdir()
    path = str(root_directory / "f.h5")
    frames = np.arange(6 * 4, dtype="uint16").reshape(6, 2, 2)
    for number, name in enumerate(["in/raw0.h5", "in/raw1.h5", "outside.h5"]):
        with h5py.File(tmp_path / name, "w") as file:
            file["a/data"] = frames[3 * (number % 2) : 3 * (number % 2) + 3]
            file["a/away"] = h5py.ExternalLink(str(outside), "/a/data")
    (root_directory / "link.h5").symlink_to(outside)

    def space(start: list[int], count: list[int], **more: Any) -> dict[str, Any]:
        return {"start": start, "stride": None, "count": count, "block": None, **more}

    def part(at: int, file: str, dataset: str, first: int, count: int) -> dict[str, Any]:
        return {
            "vspace": space([at, 0, 0], [count, 2, 2]),
            "src_file": file,
            "src_dataset": dataset,
            "src_space": space([first, 0, 0], [count, 2, 2]),
        }

    def virtual(shape: list[int], *parts: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "virtual_dataset",
            "dtype": "<u2",
            "shape": shape,
            "virtual_sources": list(parts),
        }

    every_second = {
        "vspace": space([0, 0], [3, 4]),
        "src_file": "raw1.h5",
        "src_dataset": "/a/data",
        "src_space": space([0, 0, 0], [3, 2, 2]),
    }
    layout = group(
        both=virtual(
            [6, 2, 2], part(0, "raw0.h5", "/a/data", 0, 3), part(3, "raw1.h5", "a/data", 0, 3)
        ),
        gap=virtual([6, 2, 2], part(1, "raw0.h5", "/a/data", 1, 2)),
        outside=virtual([3, 2, 2], part(0, "../outside.h5", "/a/data", 0, 3)),
        linked=virtual([3, 2, 2], part(0, "link.h5", "/a/data", 0, 3)),
        away=virtual([3, 2, 2], part(0, "raw0.h5", "/a/away", 0, 3)),
        flat=virtual([3, 4], every_second),
        mine=virtual([4, 2, 2], part(0, ".", "/1.1/cam", 1, 2), part(2, path, "/1.1/cam", 0, 2)),
        cam=stream("cam"),
    )
    _, streams = started(store, layout, path=path, cam=("uint16", (2, 2)))
    f = File(path, data_store=store)
    both = f["1.1/both"]
    assert (both.is_virtual, both.external, both.shape, both.dtype) == (
        True,
        None,
        (6, 2, 2),
        frames.dtype,
    )
    for index in ((), 0, -1, slice(2, 5), (slice(None), 1), [0, 3, 5], (4, 1, 1)):
        assert np.array_equal(both[index], frames[index])
    assert np.array_equal(np.array(list(both)), frames)
    expected = np.zeros_like(frames)
    expected[1:3] = frames[1:3]
    assert np.array_equal(f["1.1/gap"][()], expected)
    assert np.array_equal(f["1.1/flat"][()], frames[3:].reshape(3, 4))
    for name in ("outside", "linked", "away"):
        with pytest.raises(DataFileRefusedError, match=r"outside\.h5"):
            f[f"1.1/{name}"][()]
    with running(lambda: f["1.1/mine"][()]) as results:  # waits for the points of the stream
        send(streams["cam"], frames[:3])
    assert np.array_equal(results[0], frames[[1, 2, 0, 1]])


# ------------------------------------------------------------------------------------ snapshots


def nxdata(signal: str, axes: Any, **children: Any) -> dict[str, Any]:
    return group({"NX_class": "NXdata", "signal": signal, "axes": axes}, **children)


def test_a_snapshot_does_not_change(store: DataStore) -> None:
    scan, streams = started(store, group(d=stream("d"), x=1), 1, d=(float, ()))
    new_scan(store, 2)
    f = File(PATH, data_store=store)
    send(streams["d"], np.arange(3.0))
    frozen = f.snapshot()
    send(streams["d"], np.arange(3.0, 5.0))
    started(store, group(), 3)
    scan.stop()
    scan.info["h5maps"][PATH]["children"]["1.1"]["children"]["end_time"] = "now"
    scan.close()
    d = frozen["d"]
    assert (list(frozen), len(frozen), list(frozen.keys())) == (["1.1"], 1, ["1.1"])
    assert (d.shape, d.maxshape, len(d), list(d)) == ((3,), (3,), 3, [0, 1, 2])
    for index in ((), ..., slice(None), slice(1, 99), -1, [0, 2], slice(-2, None)):
        assert np.array_equal(d[index], np.arange(3.0)[index if index != () else ...])
    with pytest.raises(IndexError):
        d[3]
    assert np.array_equal(d[np.array([True, False, True])], [0, 2])
    assert "end_time" not in frozen["1.1"]
    assert "3.1" not in frozen
    assert frozen["x"][()] == 1
    assert list(frozen.snapshot()["d"]) == [0, 1, 2]
    assert list(f["1.1/d"]) == [0, 1, 2, 3, 4]


def test_what_is_plotted_together_has_one_length_in_a_snapshot(store: DataStore) -> None:
    layout = group(
        instrument=group(x=stream("x"), cam=stream("cam")),
        plot=nxdata("y", ["x"], x=soft("/1.1/instrument/x"), y=stream("y")),
        images=nxdata("cam", "z", cam=soft("/1.1/instrument/cam"), z=stream("z")),
        chained=nxdata("y", "w", y=soft("../plot/y"), w=stream("w")),
        alone=stream("alone"),
    )
    kinds: dict[str, Any] = dict.fromkeys(("x", "y", "z", "w", "alone"), (float, ()))
    scan, streams = started(store, layout, 1, cam=("uint8", (2,)), **kinds)
    counts = {"x": 5, "y": 7, "w": 4, "cam": 3, "z": 6, "alone": 9}
    for name, count in counts.items():
        send(streams[name], np.zeros((count, *streams[name].shape), streams[name].dtype))
    f = File(PATH, data_store=store)
    expected = {
        "plot/x": 4, "plot/y": 4, "chained/w": 4, "instrument/x": 4,
        "images/cam": 3, "images/z": 3, "alone": 9,
    }  # fmt: skip
    frozen = f.snapshot()
    assert {path: len(frozen[path]) for path in expected} == expected
    assert f["plot/y"].shape == (7,)
    scan.stop()
    scan.close()
    later = f.snapshot()
    assert {path: len(later[path]) for path in expected} == expected


# ------------------------------------------------------------------------------------ other libraries


def test_silx_finds_its_way(store: DataStore) -> None:
    silx = pytest.importorskip("silx.io")
    from silx.io.nxdata import NXdata, get_default, is_valid_nxdata
    from silx.io.utils import h5py_read_dataset

    layout = group(
        {"NX_class": "NXentry", "default": "plot"},
        title="a scan",
        plot=nxdata("y", ["x"], x=stream("x", units="mm"), y=stream("y")),
    )
    _, streams = started(store, layout, 1, x=(float, ()), y=(float, ()))
    send(streams["x"], np.arange(5.0))
    send(streams["y"], np.arange(7.0))
    f = File(PATH, data_store=store, wait=False)
    assert (silx.is_file(f), silx.is_group(f["1.1"]), silx.is_dataset(f["title"])) == (True,) * 3
    assert h5py_read_dataset(f["title"]) == "a scan"
    frozen = f.snapshot()
    assert is_valid_nxdata(frozen["plot"])
    for found in (NXdata(frozen["plot"]), get_default(frozen["1.1"]), get_default(frozen)):
        assert found.is_curve
        assert np.array_equal(found.signal[()], np.arange(5.0))
        assert np.array_equal(found.axes[0][()], np.arange(5.0))


def test_silx_copies_a_live_file_into_a_written_one(store: DataStore, tmp_path: Path) -> None:
    convert = pytest.importorskip("silx.io.convert")
    layout = group(
        {"NX_class": "NXentry"}, g=group(x=stream("x", units="mm")), text="a", short=soft("g")
    )
    _, streams = started(store, layout, 1, x=(float, ()))
    send(streams["x"], np.arange(5.0))
    convert.write_to_h5(File(PATH, data_store=store, wait=False), str(tmp_path / "copy.h5"))
    with h5py.File(tmp_path / "copy.h5") as copy:
        assert np.array_equal(copy["1.1/g/x"][()], np.arange(5.0))
        assert copy["1.1/g/x"].attrs["units"] == "mm"
        assert copy["1.1/text"].asstr()[()] == "a"
        assert copy["1.1"].attrs["NX_class"] == "NXentry"


# ------------------------------------------------------------------------------------ processes

PUBLISHER = """
import sys
import numpy as np
from blissdata import DataStore

url, path = sys.argv[1:]
with DataStore(url) as store:
    for number in (1, 2):
        identity = {"name": "s", "number": number, "data_policy": "none", "path": path}
        with store.create_scan(identity) as scan:
            diode = scan.create_stream("diode", dtype="float64")
            camera = scan.create_stream("camera", dtype="uint16", shape=(2, 2))
            scan.info["mapping"] = {
                "diode": ({}, "STREAM", "diode"),
                "camera": ({}, "STREAM", "camera"),
            }
            scan.prepare()
            scan.start()
            for point in range(100):
                diode.send(100.0 * number + point)
                camera.send(np.full((2, 2), point, "uint16"))
                if point % 10 == 0:
                    camera.join()
                    sys.stdin.readline()  # the reader is as far
"""


def test_a_file_follows_a_publisher_in_another_process(plain_store: DataStore, server: Any) -> None:
    f = File(PATH, data_store=plain_store)
    publisher = subprocess.Popen(
        [sys.executable, "-c", PUBLISHER, server.url, PATH], stdin=subprocess.PIPE, text=True
    )
    assert publisher.stdin is not None
    try:
        names = iter(f)
        for number in (1, 2):
            name = next(names)
            assert name == f"{number}.1"
            points = []
            for point in f[name]["diode"]:
                points.append(point)
                if (len(points) - 1) % 10 == 0:
                    last = len(points) - 1
                    assert np.array_equal(f["camera"][last], np.full((2, 2), last))
                    publisher.stdin.write("\n")
                    publisher.stdin.flush()
            assert points == [100.0 * number + point for point in range(100)]
            assert np.array_equal(f[name]["camera"][:, 0, 1], np.arange(100))
            assert f[name]["camera"][-1, 0, 0] == 99
    finally:
        publisher.stdin.close()
        assert publisher.wait(LONG_S) == 0
