"""What has left the server is read from the written file, by the objects that a program has already.

points    trimmed: whichever of server and file has a point serves it
scans     expired: groups, attributes, links, datasets, waits and iterations go on in the file
files     of scans that nobody but the file has: entries, default, snapshots; refused, damaged, coming
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.h5api.layout_files import write_layout
from tests.h5api.live import external, group, root, send, soft, started, stream
from tests.h5api.test_redis_hdf5 import running, wait_until

from blissdata import DataStore
from blissdata.exceptions import (
    DataFileError,
    DataFileMissingError,
    DataFileRefusedError,
    IndexNoMoreThereError,
    PointsNotInFileError,
    StreamVanishedError,
)
from blissdata.h5api.redis_hdf5 import File

POINTS = np.arange(12.0)
FRAMES = np.arange(12 * 6, dtype="uint16").reshape(12, 2, 3)
WORDS = [{"word": n} for n in range(12)]
TEXTS = [f'{{"word": {n}}}' for n in range(12)]

LAYOUT = group(
    {"NX_class": "NXentry", "numbers": [1, 2]},
    title="takeover",
    d=stream("d", units="mm"),
    cam=stream("cam"),
    words=stream("words"),
    g=group({"NX_class": "NXdata"}, d=soft("/1.1/d")),
)

INDICES: list[Any] = [
    0, 5, 11, -1, -12, slice(None), slice(2, 9), slice(3, None, 4), slice(7, 3),
    [0, 4, 5, 11], np.arange(12) % 3 == 0, (), ..., slice(6, 99),
]  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "sample.h5")


def publish(store: DataStore, path: str, number: int = 1, layout: Any = None) -> Any:
    shapes: dict[str, Any] = {
        "d": (float, ()),
        "cam": ("uint16", (2, 3)),
        "words": ("json", ()),
    }
    scan, streams = started(store, layout or LAYOUT, number, path, **shapes)
    for at in range(0, 12, 3):
        send(streams["d"], POINTS[at : at + 3])
        send(streams["cam"], FRAMES[at : at + 3])
        for word in WORDS[at : at + 3]:
            streams["words"].send(word)
        streams["words"].join()
    return scan, streams


def trim(store: DataStore, streams: Any, index: int) -> None:
    store.event_log.trim({one.key: index for one in streams.values()})


def written(path: str, points: int = 12, number: int = 1, layout: Any = None) -> None:
    data = {"d": POINTS[:points], "cam": FRAMES[:points], "words": TEXTS[:points]}
    write_layout(path, root(**{f"{number}.1": layout or LAYOUT}), data, "a")


def forget(store: DataStore, scan: Any) -> None:
    """As when its time is up."""
    store.catalog.expire(scan.key, 0)
    wait_until(lambda: store.scan_states([scan.key])[scan.key] is None)


def close(scan: Any) -> None:
    scan.stop()
    scan.close()


def check_datasets(entry: Any) -> None:
    texts = np.array([text.encode() for text in TEXTS], object)
    for index in INDICES:
        for name, expected in (("d", POINTS), ("cam", FRAMES), ("words", texts), ("g/d", POINTS)):
            found = entry[name][index]
            assert np.array_equal(found, expected[index]), (name, index, found)
            assert name == "words" or found.dtype == expected.dtype
    assert entry["d"].shape == (12,)
    assert entry["cam"].shape == (12, 2, 3)
    assert np.array_equal(entry["cam"][1:3, :, 0], FRAMES[1:3, :, 0])
    assert list(entry["d"]) == POINTS.tolist()
    assert list(entry["words"]) == list(texts)


# ------------------------------------------------------------------------------------------ points


@pytest.mark.parametrize(("in_file", "trimmed"), [(12, 12), (6, 6), (12, 5), (9, 3)])
def test_whichever_source_has_a_point_serves_it(
    store: DataStore, path: str, in_file: int, trimmed: int
) -> None:
    scan, streams = publish(store, path)
    running_file = File(path, data_store=store, wait=False)
    datasets = {name: running_file[f"1.1/{name}"] for name in ("d", "cam", "words")}
    written(path, in_file)
    close(scan)
    trim(store, streams, trimmed)
    with File(path, data_store=store) as f:
        check_datasets(f["1.1"])
        check_datasets(f.snapshot()["1.1"])
    for name, dataset in datasets.items():  # those that were there before
        assert np.array_equal(dataset[2:8], running_file[f"1.1/{name}"][()][2:8])
    running_file.close()


@pytest.mark.parametrize("ndim", [1, 2])
def test_points_of_varying_shape_come_from_the_file_as_well(
    store: DataStore, path: str, ndim: int
) -> None:
    shape = (-1,) * ndim
    points = [
        np.arange(3.0**ndim).reshape((3,) * ndim),
        np.zeros((2,) * ndim),
        np.ones((1,) * ndim),
    ]
    scan, streams = started(store, group(v=stream("v")), path=path, v=(float, shape))
    for point in points:
        send(streams["v"], point)
    elements = h5py.vlen_dtype(float)
    dtype = elements if ndim == 1 else np.dtype([("shape", "i8", (2,)), ("data", elements)])
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("1.1/v", (2,), dtype)
        for i, point in enumerate(points[:2]):
            dataset[i] = point if ndim == 1 else (point.shape, point.reshape(-1))
    trim(store, streams, 1)
    with File(path, data_store=store) as f:
        for index in (0, 2, slice(0, 3), [0, 1]):
            found = f["1.1/v"][index]
            expected = points[index] if not isinstance(index, list) else points[:2]
            for one, other in zip(found, expected, strict=True):
                assert np.array_equal(one, other)
        close(scan)
        for one, other in zip(f["1.1/v"], points, strict=True):
            assert np.array_equal(one, other)
        trim(store, streams, 3)
        with pytest.raises(PointsNotInFileError, match="points 2 to 2"):
            f["1.1/v"][2]
    with h5py.File(path, "w") as file:
        file["1.1/v"] = np.zeros(3)
    with File(path, data_store=store) as f, pytest.raises(PointsNotInFileError, match="float64"):
        f["1.1/v"][0]


def test_points_of_neither_source_are_told(store: DataStore, path: str) -> None:
    scan, streams = publish(store, path)
    trim(store, streams, 6)
    with File(path, data_store=store) as f:
        with pytest.raises(PointsNotInFileError, match="There is no file"):
            f["d"][0]
        written(path, 4)
        assert f["d"][3] == 3
        assert f["d"][7] == 7
        with pytest.raises(IndexNoMoreThereError, match="points 2 to 5"):
            f["d"][2:8]
    close(scan)


def test_a_file_of_other_data_is_not_taken_for_the_streams(store: DataStore, path: str) -> None:
    scan, streams = publish(store, path)
    trim(store, streams, 12)
    with h5py.File(path, "w") as file:
        file["1.1/d"] = np.arange(12)
        file["1.1/cam"] = FRAMES[:, 0]
    with File(path, data_store=store) as f:
        for name, told in (("d", "int64"), ("cam", "shape"), ("words", "no 'words'")):
            with pytest.raises(PointsNotInFileError, match=told):
                f[name][0]
    close(scan)


def test_a_frozen_file_reads_what_leaves_the_server_meanwhile(store: DataStore, path: str) -> None:
    scan, streams = publish(store, path)
    frozen = File(path, data_store=store).snapshot()
    written(path)
    send(streams["d"], 99.0)
    close(scan)
    trim(store, streams, 12)
    with frozen:
        check_datasets(frozen["1.1"])


# ------------------------------------------------------------------------------------------- scans


def test_the_same_objects_go_on_in_the_file(store: DataStore, path: str) -> None:
    scan, _ = publish(store, path)
    with File(path, data_store=store) as f:
        entry, inner, d = f["1.1"], f["1.1/g"], f["1.1/d"]
        assert d[3] == 3
        written(path)
        with h5py.File(path, "a") as file:  # what only the file has
            file["1.1/end_time"] = "now"
            file["1.1/d"].attrs["extra"] = 7
            file["1.1"].attrs["version"] = "1.2"
        close(scan)
        forget(store, scan)
        wait_until(lambda: "end_time" in entry)
        check_datasets(entry)
        assert entry["end_time"][()] == b"now"
        assert dict(d.attrs) == {"units": "mm", "extra": 7}
        assert entry.attrs["version"] == "1.2"
        assert entry.attrs["numbers"].tolist() == [1, 2]
        assert list(entry) == ["title", "d", "cam", "words", "g", "end_time"]
        assert inner.get("d", getlink=True).path == "/1.1/d"
        assert inner.get("d", getclass=True) is h5py.Dataset
        assert inner["d"].name == "/1.1/d"
        assert (d.shape, d.size, len(d), d.maxshape) == ((12,), 12, 12, (None,))
        assert np.array_equal(d[()], POINTS)
        assert list(f.keys()) == ["1.1"]
        assert f["title"][()] == b"takeover"
        with pytest.raises(IndexError):
            d[12]
        with pytest.raises(KeyError) as caught:
            entry["nothing"]
        assert caught.value.args == ("No such path: '/1.1/nothing'",)


@pytest.mark.usefixtures("impatient")
def test_whoever_waits_for_the_end_gets_what_the_file_has(
    plain_store: DataStore, path: str
) -> None:
    store = plain_store
    scan, _ = publish(store, path)
    written(path)

    def vanish() -> None:
        forget(store, scan)

    with File(path, data_store=store) as f:
        d = f["d"]
        seen: list[Any] = []

        def follow() -> None:
            for point in d:
                seen.append(point)

        with running(follow, lambda: d[:], lambda: d[20:], lambda: d[-2]) as results:
            wait_until(lambda: len(seen) == 12)
            vanish()
    assert seen == POINTS.tolist()
    assert np.array_equal(results[1], POINTS)
    assert results[2].shape == (0,)
    assert results[3] == 10


@pytest.mark.usefixtures("impatient")
def test_attributes_that_streams_feed_come_from_the_file_s_attributes(
    store: DataStore, path: str
) -> None:
    layout = group({"text": {"type": "stream", "stream": "words"}}, d=stream("d", q=None))
    layout["children"]["d"]["attributes"]["q"] = {"type": "stream", "stream": "q"}
    kinds: dict[str, Any] = {"d": (float, ()), "q": (float, ()), "words": ("json", ())}
    scan, streams = started(store, layout, path=path, **kinds)
    send(streams["d"], np.arange(4.0))  # of the same kind as those of the attribute
    send(streams["q"], np.arange(10.0, 13.0))
    send(streams["words"], {"a": 1})
    held = File(path, data_store=store)
    entry, frozen = held["1.1"], held.snapshot()["1.1"]
    close(scan)
    trim(store, streams, 3)
    with pytest.raises(PointsNotInFileError, match=r"attribute 'q' of .*There is no file"):
        entry["d"].attrs["q"]
    with h5py.File(path, "w") as file:
        file["1.1/d"] = np.arange(4.0)
        file["1.1/d"].attrs["q"] = np.arange(10.0, 12.0)
        file["1.1"].attrs["text"] = np.array(['{"a": 1}'], h5py.string_dtype())
    with pytest.raises(PointsNotInFileError, match="2 of 3 points"):
        entry["d"].attrs["q"]
    with h5py.File(path, "r+") as file:
        file["1.1/d"].attrs["q"] = np.arange(10.0, 13.0)
    for node in (entry, frozen):
        assert node["d"].attrs["q"].tolist() == [10, 11, 12]
        assert node.attrs["text"].tolist() == ['{"a": 1}']
    store.catalog.expire(scan.key, 0)
    for node in (entry, File(path, data_store=store)["1.1"]):
        assert node["d"].attrs["q"].tolist() == [10, 11, 12]
        assert node.attrs["text"].tolist() == ['{"a": 1}']
    held.close()


def test_without_a_file_a_lost_scan_is_told_as_before(plain_store: DataStore, path: str) -> None:
    store = plain_store
    scan, _ = publish(store, path)
    with File(path, data_store=store) as f:
        d = f["d"]
        assert len(d) == 12
        with running(lambda: d[:], lambda: d[15]) as results:
            forget(store, scan)
        assert all(isinstance(one, StreamVanishedError | IndexError) for one in results)
        assert d.shape == (12,)  # as far as it was known
        with pytest.raises(IndexNoMoreThereError):
            d[0:4]


# ------------------------------------------------------------------------------------------- files


def test_a_file_of_expired_scans_is_read_like_any_other(memory_store: DataStore, path: str) -> None:
    for number in (2, 10, 1):
        layout = {**LAYOUT, "children": {**LAYOUT["children"], "g": group(own=number)}}
        written(path, number=number, layout=layout)
    with File(path, data_store=memory_store) as f:
        assert list(f.keys()) == ["1.1", "2.1", "10.1"]
        assert len(f) == 3
        assert [f[f"{n}.1/g/own"][()] for n in (1, 2, 10)] == [1, 2, 10]
        assert f.attrs["default"] == "10.1"
        assert f.attrs["NX_class"] == "NXroot"
        assert f["g/own"][()] == 10
        assert np.array_equal(f["10.1/d"][:], POINTS)
        assert list(f.snapshot()) == ["1.1", "2.1", "10.1"]
        assert np.array_equal(f.snapshot()["d"][()], POINTS)
        assert list(File(path, data_store=memory_store, wait=False)) == ["1.1", "2.1", "10.1"]
        assert list(File(path, data_store=memory_store, timeout=0.01)) == ["1.1", "2.1", "10.1"]
        with pytest.raises(KeyError, match=r"No such path: '/3\.1'"):
            f["3.1"]
    with h5py.File(path, "a") as file:
        file.attrs["default"] = "2.1"
        file.attrs["creator"] = "somebody"
    with File(path, data_store=memory_store) as f:
        assert f["g/own"][()] == 2
        assert f.attrs["creator"] == "somebody"


def test_scans_of_the_server_come_after_those_of_the_file_alone(
    memory_store: DataStore, path: str
) -> None:
    written(path, number=1)
    written(path, number=2)
    scan, _ = publish(memory_store, path, 2)
    with File(path, data_store=memory_store) as f:
        assert list(f.keys()) == ["1.1", "2.1"]
        assert f.attrs["default"] == "2.1"
        seen: list[str] = []

        def follow() -> None:
            for name in f:
                seen.append(name)
                if name == "3.1":
                    return

        with running(follow):
            wait_until(lambda: seen == ["1.1", "2.1"])
            publish(memory_store, path, 3)
    close(scan)


def test_a_file_that_comes_grows_or_goes_is_looked_at_anew(
    memory_store: DataStore, path: str
) -> None:
    with File(path, data_store=memory_store) as f:
        assert list(f.keys()) == []
        assert "1.1" not in f
        written(path, number=1)
        wait_until(lambda: list(f.keys()) == ["1.1"])
        d = f["1.1/d"]
        with h5py.File(path, "a") as file:
            file["1.1/d"].resize(14, axis=0)
            file["1.1/d"][12:] = 7
        wait_until(lambda: d.shape == (14,))
        assert d[13] == 7
        os.unlink(path)
        wait_until(lambda: list(f.keys()) == [])


def test_a_file_that_is_replaced_under_a_reader_is_read_as_it_is_now(
    memory_store: DataStore, path: str
) -> None:
    written(path)
    with File(path, data_store=memory_store) as f:
        entry, d, cam = f["1.1"], f["1.1/d"], f["1.1/cam"]
        assert (d[3], cam.shape, cam[1, 0, 0]) == (3, (12, 2, 3), 6)
        with h5py.File(f"{path}.new", "w") as file:
            file["1.1/d"] = np.arange(5) + 100
            file["1.1/more"] = 1
        os.replace(f"{path}.new", path)
        assert (d[3], d.shape, d.dtype) == (103, (5,), np.arange(5).dtype)
        with pytest.raises(IndexError):
            d[5]
        with pytest.raises(DataFileError, match="cam"):
            cam[0]
        wait_until(lambda: list(entry) == ["d", "more"])
        with pytest.raises(KeyError, match=r"No such path: '/1\.1/cam'"):
            entry["cam"]


def test_a_file_that_is_cut_under_a_reader_is_an_error_that_says_so(
    memory_store: DataStore, path: str
) -> None:
    written(path)
    with File(path, data_store=memory_store) as f:
        d = f["1.1/d"]
        assert d[3] == 3
        os.truncate(path, 2000)
        with pytest.raises(DataFileError, match=r"sample\.h5"):
            d[4]
        os.unlink(path)
        with pytest.raises(DataFileMissingError):
            d[4]


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all", None], ids=["empty", "text", "cut"])
def test_what_cannot_be_read_is_not_there_and_costs_nothing_else(
    memory_store: DataStore, path: str, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    scan, _ = publish(memory_store, path, 5)
    if content is None:
        written(path)
        content = Path(path).read_bytes()[:3000]
    Path(path).write_bytes(content)
    with File(path, data_store=memory_store) as f:
        assert list(f.keys()) == ["5.1"]
        assert f["5.1/d"][0] == 0
        assert "1.1" not in f
        assert f.attrs["default"] == "5.1"
    assert path in caplog.text
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    close(scan)


def test_a_file_outside_the_roots_is_not_opened(
    memory_store: DataStore, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(path)
    scan, streams = publish(memory_store, path, 2)
    trim(memory_store, streams, 6)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = str(elsewhere / "other.h5")
    linked, _ = started(memory_store, group(there=external(path, "/1.1/d")), 1, other)
    monkeypatch.setenv("BLISSDATA_DATA_ROOTS", str(elsewhere))
    with File(path, data_store=memory_store) as f:
        assert list(f.keys()) == ["2.1"]
        with pytest.raises(PointsNotInFileError, match="not below the data roots"):
            f["2.1/d"][0]
    with File(other, data_store=memory_store) as f, pytest.raises(KeyError):
        f["1.1/there"]
    close(scan)
    forget(memory_store, scan)
    with File(other, data_store=memory_store) as f, pytest.raises(DataFileRefusedError):
        f["1.1/there"]
    close(linked)


def test_links_in_a_written_file_lead_where_they_say(
    memory_store: DataStore, tmp_path: Path
) -> None:
    path, there = str(tmp_path / "here.h5"), str(tmp_path / "there.h5")
    with h5py.File(there, "w") as file:
        file["a/b"] = [1, 2, 3]
        file["c"] = 4
    layout = group(
        x=[5.0, 6.0],
        soft=soft("x"),
        dangling=soft("/1.1/nowhere"),
        out=external("there.h5", "/a"),
        top=external("there.h5", "/"),
        lost=external("nofile.h5", "/a"),
    )
    write_layout(path, root(**{"1.1": layout}), {})
    with h5py.File(path, "a") as file:
        file["1.1/hard"] = file["1.1/x"]
        space = h5py.VirtualLayout((3,), "int64")
        space[:] = h5py.VirtualSource("there.h5", "a/b", (3,))
        file["1.1"].create_virtual_dataset("virtual", space)
    with File(path, data_store=memory_store) as f:
        entry = f["1.1"]
        assert entry["soft"].name == "/1.1/x"
        assert entry["hard"][1] == 6
        assert entry["out/b"][1:].tolist() == [2, 3]
        assert entry["out"].file.filename == there
        assert list(entry["top"]) == ["a", "c"]  # nobody will add scans to it
        assert entry["virtual"].is_virtual
        assert entry["virtual"][()].tolist() == [1, 2, 3]
        assert not entry["x"].is_virtual
        assert isinstance(entry.get("out", getlink=True), h5py.ExternalLink)
        for name in ("dangling", "lost"):
            assert name not in entry
            with pytest.raises(KeyError, match="No such path"):
                entry[name]


def test_nothing_in_a_written_file_leads_out_of_the_roots(
    memory_store: DataStore, tmp_path: Path
) -> None:
    inside, secret = tmp_path / "in", tmp_path / "secret.h5"
    inside.mkdir()
    with h5py.File(secret, "w") as file:
        file["a"] = [1, 2, 3]
    raw = str(tmp_path / "secret.bin")
    Path(raw).write_bytes(bytes(range(24)))
    path = str(inside / "f.h5")
    (inside / "by_name.h5").symlink_to(secret)
    with h5py.File(path, "w") as file:
        file["1.1/link"] = h5py.ExternalLink("../secret.h5", "/a")
        file["1.1/by_name"] = h5py.ExternalLink("by_name.h5", "/a")
        file["1.1"].create_dataset("raw", (3,), "i8", external=[(raw, 0, 24)])
        space = h5py.VirtualLayout((3,), "int64")
        space[:] = h5py.VirtualSource(str(secret), "a", (3,))
        file["1.1"].create_virtual_dataset("virtual", space)
        file["1.1/own"] = 7
    with File(path, data_store=memory_store) as f:
        entry = f["1.1"]
        assert entry["own"][()] == 7
        for name in ("link", "by_name", "raw", "virtual"):
            with pytest.raises(DataFileRefusedError, match="not below the data roots"):
                entry[name][()]
    with File(path, data_store=memory_store, roots=tmp_path) as f:
        for name in ("link", "by_name", "virtual"):
            assert f["1.1"][name][:].tolist() == [1, 2, 3]
        assert f["1.1/raw"][1:].tobytes() == bytes(range(8, 24))


def test_hard_links_that_lead_round_are_visited_once(memory_store: DataStore, path: str) -> None:
    with h5py.File(path, "w") as file:
        file["1.1/a/x"] = 1
        for name in ("again", "and_again"):
            file[f"1.1/a/{name}"] = file["1.1"]
        file["1.1/b"] = file["1.1/a"]
        file["1.1/y"] = file["1.1/a/x"]
        expected: list[str] = []
        file["1.1"].visit(expected.append)
    with File(path, data_store=memory_store) as f:
        seen: list[str] = []
        f["1.1"].visit(seen.append)
        assert seen == expected == ["a", "a/x"]
        assert f["1.1/a/again/a/and_again/b/x"][()] == 1


def test_an_attribute_that_cannot_be_read_costs_no_other(
    memory_store: DataStore, path: str
) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("1.1")
        group.attrs["good"] = 7
        kind, space = h5py.h5t.UNIX_D32LE, h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5a.create(group.id, b"time", kind, space)  # for which numpy has nothing
        with pytest.raises(TypeError):
            group.attrs["time"]
    with File(path, data_store=memory_store) as f:
        attributes = f["1.1"].attrs
        assert sorted(attributes) == ["good", "time"]
        assert attributes["good"] == 7
        with pytest.raises(DataFileError, match=r"attribute .time."):
            attributes["time"]


def test_datasets_of_the_file_are_read_in_parts(
    memory_store: DataStore, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blissdata.checked_hdf5 import CheckedDataset

    data = np.arange(40 * 30 * 20, dtype="int32").reshape(40, 30, 20)
    with h5py.File(path, "w") as file:
        file.create_dataset("1.1/big", data=data, chunks=(1, 30, 20), compression="gzip")
        file["1.1/table"] = np.array([(1, 2.0), (3, 4.0)], [("a", int), ("b", float)])
    got: list[int] = []
    rows: Callable[..., Any] = CheckedDataset.rows
    item: Callable[..., Any] = CheckedDataset.__getitem__

    def counted(read: Callable[..., Any]) -> Callable[..., Any]:
        def run(self: Any, *arguments: Any) -> Any:
            found = read(self, *arguments)
            got.append(np.asarray(found).size)
            return found

        return run

    monkeypatch.setattr(CheckedDataset, "rows", counted(rows))
    monkeypatch.setattr(CheckedDataset, "__getitem__", counted(item))
    with File(path, data_store=memory_store) as f:
        big = f["1.1/big"]
        indices: list[Any] = [(slice(None), 3, 4), (5, [1, 7]), ([0, 39], slice(2, 4), 1), 7]
        indices += [(slice(0, 9, 4), ..., slice(0, 20, 7)), (np.arange(40) == 3, 1)]
        for index in indices:
            got.clear()
            found = big[index]
            assert np.array_equal(found, data[index]), index
            assert found.shape == data[index].shape
            assert sum(got) <= max(found.size, 1), index
        assert (big.compression, big.compression_opts, big.chunks) == ("gzip", 4, (1, 30, 20))
        assert f["1.1/table"]["b"].tolist() == [2.0, 4.0]
        assert f["1.1/table"]["a", 1] == 3
