"""The writer beside publishers: many scans at once, bad ones among them, and what is told of these."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.h5api.live import external, group, root, soft, stream
from tests.writer.kit import LONG_S, contents, new_scan, running

from blissdata import DataStore, Scan
from blissdata.checked_hdf5 import CheckedFile
from blissdata.cli import main
from blissdata.data_roots import DataRoots
from blissdata.exceptions import FileWriteError, FileWriteRefusedError
from blissdata.h5api.dynamic_hdf5 import File as DynamicFile
from blissdata.testing.servers import TestServer
from blissdata.writer import beside, follower
from blissdata.writer.committed_file import LEAST_AHEAD, CommittedFile
from blissdata.writer.images import without_unsaved
from blissdata.writer.report import read_report
from blissdata.writer.service import Writer


def measured(
    store: DataStore, path: Path | str, number: int = 1, points: int = 50, **info: Any
) -> Scan:
    """A whole scan of one counter."""
    with new_scan(store, path, number, **info) as scan:
        counter = scan.create_stream("counter", dtype="i8")
        scan.prepare()
        scan.start()
        counter.send(np.arange(points) * number)
    return scan


def with_layout(store: DataStore, path: Path, layout: dict[str, Any], **streams: Any) -> Scan:
    """A whole scan with that layout; of each stream the points are given."""
    with new_scan(store, path) as scan:
        made = {
            name: scan.create_stream(name, dtype="json")
            if isinstance(points, list)
            else scan.create_stream(name, dtype=points.dtype, shape=points.shape[1:])
            for name, points in streams.items()
        }
        scan.info["h5maps"] = {str(path): root(**{"1.1": layout})}
        scan.prepare()
        scan.start()
        for name, points in streams.items():
            for one in points if isinstance(points, list) else [points] * bool(len(points)):
                made[name].send(one)
    return scan


# ---------------------------------------------------------------------------------- many streams


def test_streams_are_caught_up_with_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch, plain_store: DataStore, tmp_path: Path
) -> None:
    monkeypatch.setattr(follower, "TOGETHER", 3)
    monkeypatch.setattr(follower, "READS_AT_ONCE", 2)
    data = {f"s{i}": np.arange(1000 + i) * (i + 1) for i in range(10)}
    with new_scan(plain_store, tmp_path / "a.h5") as scan:
        streams = {name: scan.create_stream(name, dtype="i8") for name in data}
        scan.info["mapping"] = {name: ({}, "STREAM", name) for name in data}
        scan.prepare()
        scan.start()
        for i, (name, points) in enumerate(data.items()):
            half = points[: len(points) // 2] if i % 3 else points
            for start in range(0, len(half), 100):
                streams[name].send(half[start : start + 100])
            if not i % 3:
                streams[name].seal()
        with running(plain_store, tmp_path) as writer:
            deadline = time.monotonic() + LONG_S
            while not any(one.points for one in writer.writer.progress.values()):
                assert time.monotonic() < deadline, "nothing is committed"
                time.sleep(0.005)
            for i, (name, points) in enumerate(data.items()):
                if i % 3:
                    streams[name].send(points[len(points) // 2 :])
            scan.close()
            writer.wait_written(scan)
    with h5py.File(tmp_path / "a.h5") as file:
        for name, points in data.items():
            np.testing.assert_array_equal(file["1.1"][name], points)


def test_a_file_promises_little_while_it_is_written_and_nothing_afterwards(
    monkeypatch: pytest.MonkeyPatch, plain_store: DataStore, tmp_path: Path
) -> None:
    monkeypatch.setattr(follower, "COMMIT_S", 0.0)
    monkeypatch.setattr(follower, "COMMIT_SHARE", 0)
    path, sizes = tmp_path / "a.h5", []
    with running(plain_store, tmp_path) as writer, new_scan(plain_store, path) as scan:
        counter = scan.create_stream("counter", dtype="f8")
        scan.prepare()
        scan.start()
        for i in range(20):  # each of them is committed, none of them needs room of its own
            counter.send(float(i))
            deadline = time.monotonic() + LONG_S
            while sum(one.points for one in writer.writer.progress.values()) <= i:
                assert time.monotonic() < deadline, "nothing is committed"
                time.sleep(0.005)
            sizes.append(path.stat().st_size)
        scan.close()
        writer.wait_written(scan)
    assert max(sizes) < sizes[0] + 3 * LEAST_AHEAD
    found = path.stat()
    assert found.st_size <= found.st_blocks * 512, "there is a hole at its end"
    with path.open("rb") as file:
        said = int.from_bytes(file.read(48)[28:36], "little")
    assert found.st_size == said, "the superblock says something else (HDF5 specification, II.A)"
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["1.1/measurement/counter"], np.arange(20.0))


def test_large_points_are_read_fewer_streams_at_a_time() -> None:
    assert follower.together({}) == []
    assert follower.together({"a": 8, "b": 8}) == [["a", "b"]]
    assert [len(some) for some in follower.together(dict.fromkeys(map(str, range(40)), 8))] == [
        16,
        16,
        8,
    ]
    image = 1 << 21
    assert follower.together({"a": image, "b": image, "c": 8}) == [["a"], ["b"], ["c"]]
    assert follower.together({"a": 8, "b": image, "c": 1 << 15, "d": 1 << 15}) == [
        ["a"],
        ["b"],
        ["c", "d"],
    ]


# ---------------------------------------------------------------------------------- many scans


def test_many_scans_of_some_files_are_written_at_once(
    plain_store: DataStore, tmp_path: Path
) -> None:
    with running(plain_store, tmp_path) as writer:
        scans = []
        for number in range(1, 13):
            scan = new_scan(plain_store, tmp_path / f"deep/{number % 3}.h5", number)
            counter = scan.create_stream("counter", dtype="i8")
            scan.prepare()
            scan.start()
            scans.append((scan, counter))
        for i in range(10):
            for scan, counter in scans:
                counter.send(np.arange(i * 100, (i + 1) * 100) * scan.number)
        for scan, _ in reversed(scans):
            scan.stop()
            scan.close()
        for scan, _ in scans:
            writer.wait_written(scan)
    for scan, _ in scans:
        with h5py.File(scan.path) as file:
            found = file[f"{scan.number}.1/instrument/counter/data"][:]
            assert np.array_equal(found, np.arange(1000) * scan.number)
    assert sorted(os.listdir(tmp_path / "deep")) == ["0.h5", "1.h5", "2.h5"]
    report = read_report(plain_store)
    assert report is not None
    assert (report.written, report.scans, report.running) == (12, [], False)


def test_a_scan_that_cannot_be_written_stops_no_other_and_its_points_are_pinned(
    plain_store: DataStore, tmp_path: Path
) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    with h5py.File(inside / "theirs.h5", "w") as file:
        file["precious"] = 1
    before = (inside / "theirs.h5").read_bytes()
    (inside / "directory.h5").mkdir()
    (inside / "link.h5").symlink_to(tmp_path / "elsewhere.h5")
    theirs = CommittedFile.begin(str(inside / "written.h5"))  # another writer, of another server
    bad = {
        tmp_path / "out.h5": "not below the data roots",
        "relative.h5": "relative path",
        inside / "theirs.h5": "stays as it is",
        inside / "written.h5": "another writer is writing",
        inside / "directory.h5": "a directory",
        inside / "link.h5": "not below the data roots",
        inside / ("n" * 250 + ".h5"): "name too long",
    }
    with running(plain_store, inside) as writer:
        scans = {path: measured(plain_store, path) for path in bad}
        good = measured(plain_store, inside / "good.h5")
        writer.wait_written(good)
        for path, words in bad.items():
            report = writer.wait_failed(scans[path])
            assert words.casefold() in report.reason.casefold(), report
    pinned = {pin.scan_key: pin for pin in plain_store.pins()}
    assert set(pinned) == {scan.key for scan in scans.values()}
    assert all(pin.lasting and pin.name == "writer" for pin in pinned.values())
    assert (inside / "theirs.h5").read_bytes() == before
    theirs.close()
    assert not (tmp_path / "out.h5").exists()
    assert not (tmp_path / "elsewhere.h5").exists()


def test_a_failed_scan_is_tried_again_when_somebody_says_so(
    plain_store: DataStore, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("a file where a directory should be")
    with running(plain_store, tmp_path) as writer:
        scan = measured(plain_store, tmp_path / "a" / "b.h5")
        assert "directory" in writer.wait_failed(scan).reason.lower()
    (tmp_path / "a").unlink()
    with running(plain_store, tmp_path) as writer:
        other = measured(plain_store, tmp_path / "other.h5")
        writer.wait_written(other)
        assert writer.wait_failed(scan)
    with running(plain_store, tmp_path, retry=[scan.key]) as writer:
        writer.wait_written(scan)
    with h5py.File(tmp_path / "a" / "b.h5") as file:
        assert len(file["1.1/measurement/counter"]) == 50


def test_a_writer_that_stands_by_asks_the_one_that_works_to_try_again(
    server: TestServer, plain_store: DataStore, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("a file where a directory should be")
    with DataStore(server.url) as other, running(plain_store, tmp_path) as writer:
        scan = measured(plain_store, tmp_path / "a" / "b.h5")
        writer.wait_failed(scan)
        writer.wait("FAILED", "mend that, then blissdata write --retry", f"record {scan.key} FILE")
        (tmp_path / "a").unlink()
        with running(other, tmp_path, retry=[scan.key, "another"]) as second:
            second.wait("nothing to try again: no scan another has failed")
            second.wait(f"asked to try scan {scan.key} again")
            writer.wait_written(scan)
    assert plain_store.pins() == []
    with h5py.File(tmp_path / "a" / "b.h5") as file:
        assert len(file["1.1/measurement/counter"]) == 50


@pytest.mark.parametrize("left", [0, 30], ids=["all in memory", "some gone"])
def test_a_file_that_was_removed_is_made_anew_of_what_there_is(
    plain_store: DataStore, tmp_path: Path, left: int
) -> None:
    path = tmp_path / "a.h5"
    with running(plain_store, tmp_path) as writer:
        scan = new_scan(plain_store, path)
        counter = scan.create_stream("counter", dtype="i8")
        scan.prepare()
        scan.start()
        for first in (1, 31):
            counter.send(np.arange(first, first + 30))
            counter.join()
        writer.wait("writing /")
        path.unlink()
        scan.stop()
        scan.close()
        writer.wait_failed(scan)
    plain_store.event_log.trim({counter.key: left})
    with running(plain_store, tmp_path, retry=True) as writer:
        if left:
            writer.wait("FAILED", scan.key, f"points 0 to {left - 1} of stream 'counter'")
        else:
            writer.wait_written(scan)
    with h5py.File(path) as file:
        entry = file["1.1"]
        found = entry["instrument/counter/data"][:]
        assert found.tolist() == [0] * left + list(range(left + 1, 61))
        assert entry.attrs["blissdata_state"] == ("FAILED" if left else "SUCCEEDED")
        missing = json.loads(entry.attrs.get("blissdata_missing", "{}"))
        assert missing == ({"/1.1/instrument/counter/data": [[0, left]]} if left else {})


def test_a_failed_scan_is_forgotten_when_its_pin_is_removed(
    plain_store: DataStore, tmp_path: Path
) -> None:
    with running(plain_store, tmp_path) as writer:
        scan = measured(plain_store, "/nowhere/x.h5")
        writer.wait_failed(scan)
        assert plain_store.remove_pin(scan.key, "writer")
    report = read_report(plain_store)
    assert report is not None
    assert report.failed == {}


def test_two_scans_with_one_number_do_not_mix(plain_store: DataStore, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with running(plain_store, tmp_path) as writer:
        first = measured(plain_store, path, points=5)
        writer.wait_written(first)
        second = measured(plain_store, path, points=7)
        assert "is of scan" in writer.wait_failed(second).reason
    with h5py.File(path) as file:
        assert len(file["1.1/instrument/counter/data"]) == 5


def test_scans_that_do_not_want_it_are_not_written(plain_store: DataStore, tmp_path: Path) -> None:
    with running(plain_store, tmp_path) as writer:
        measured(plain_store, tmp_path / "a.h5", save=False)
        measured(plain_store, tmp_path / "b.h5", data_writer="hdf5")
        plain_store.create_scan({"name": "s", "number": 1, "data_policy": "none"}).close()
        writer.wait_written(measured(plain_store, tmp_path / "c.h5", data_writer="nexus"))
    assert os.listdir(tmp_path) == ["c.h5"]
    assert plain_store.pins() == []


def test_a_writer_without_roots_does_not_begin(memory_store: DataStore) -> None:
    with pytest.raises(FileWriteRefusedError, match="BLISSDATA_DATA_ROOTS"):
        Writer(memory_store, DataRoots((), "none"))


def test_a_second_writer_stands_by(
    server: TestServer, plain_store: DataStore, tmp_path: Path
) -> None:
    with DataStore(server.url) as other, running(plain_store, tmp_path) as first:
        first.wait("writing scans below")
        first.wait_reported()
        with running(other, tmp_path) as third:
            third.wait("standing by")
        report = read_report(plain_store)
        assert report is not None
        assert report.running, "one that stood by has said that the writer has ended"
        with running(other, tmp_path) as second:
            second.wait("standing by")
            first.wait_written(measured(plain_store, tmp_path / "a.h5"))
            first.close()
            second.wait_written(measured(plain_store, tmp_path / "b.h5"))


# ---------------------------------------------------------------------------------- layouts


def test_mistakes_in_a_layout_cost_these_items_alone(
    plain_store: DataStore, tmp_path: Path
) -> None:
    layout = group(
        {"NX_class": "NXentry", "bad": {"type": "inline", "dtype": "int8", "value": 1000}},
        points=stream("a"),
        unknown=stream("nobody"),
        nowhere=soft("/1.1/not/there"),
        out=external("/etc/passwd", "/x"),
        raw={
            "type": "external_binary_dataset",
            "dtype": "|u1",
            "shape": [4],
            "files": [{"name": "/etc/passwd", "offset": 0}],
        },
        virtual={
            "type": "virtual_dataset",
            "dtype": "|u1",
            "shape": [4],
            "virtual_sources": [
                {
                    "vspace": {"start": [0], "count": [4]},
                    "src_file": "../../etc/x.h5",
                    "src_dataset": "/x",
                    "src_space": {"start": [0], "count": [4]},
                }
            ],
        },
        last=3,
    )
    layout["children"][""] = 1
    with running(plain_store, tmp_path) as writer:
        scan = with_layout(
            plain_store, tmp_path / "a.h5", layout, a=np.arange(5.0), forgotten=np.arange(3.0)
        )
        writer.wait_written(scan)
    (written,) = [event.scan for event in writer.events if event.kind == "written"]
    assert written.remarks[0] == "the layout has no place for: 'forgotten'"
    assert "a.h5::/1.1/unknown: the scan has no stream 'nobody'" in "\n".join(written.remarks)
    assert written.remarks[-1] == "… and 2 more"
    with h5py.File(tmp_path / "a.h5") as file:
        entry = file["1.1"]
        assert list(entry) == ["points", "nowhere", "last", "end_time"]
        assert entry["points"][:].tolist() == [0, 1, 2, 3, 4]
        assert "bad" not in entry.attrs
        assert entry.get("nowhere", getlink=True).path == "/1.1/not/there"


def test_streams_of_any_length_and_names_of_any_kind(
    plain_store: DataStore, tmp_path: Path
) -> None:
    long, odd = "n" * 70_000, "µ α/β"  # longer than what HDF5 has for an attribute
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0])
    layout = group(
        {"NX_class": "NXentry", "título": "Ångström", long: 1, long[:60_000]: 2},
        empty=stream("empty"),
        short=stream("short"),
        longer=stream("longer"),
        special=stream("special"),
        texts=stream("texts"),
        **{long: stream("short"), odd: stream("short")},
    )
    with running(plain_store, tmp_path) as writer:
        scan = with_layout(
            plain_store,
            tmp_path / "ü.h5",
            layout,
            empty=np.empty((0, 3), "u2"),
            short=np.arange(2),
            longer=np.arange(5000),
            special=special,
            texts=["é", None, {"a": float("nan")}],
        )
        writer.wait_written(scan)
    with h5py.File(tmp_path / "ü.h5") as file:
        entry = file["1.1"]
        assert entry.attrs["título"] == "Ångström"
        assert long not in entry.attrs
        assert entry.attrs[long[:60_000]] == 2
        assert entry["empty"].shape == (0, 3)
        assert entry["empty"].dtype == "u2"
        assert entry[long][:].tolist() == entry["µ α"]["β"][:].tolist() == [0, 1]
        assert np.array_equal(entry["longer"][:], np.arange(5000))
        assert entry["special"][:].tobytes() == special.tobytes()
        assert [bytes(one) for one in entry["texts"]] == [rb'"\u00e9"', b"null", b'{"a": NaN}']


def test_points_of_varying_shape_keep_their_shapes(plain_store: DataStore, tmp_path: Path) -> None:
    lists = [np.arange(n, dtype="f4") for n in (3, 1, 5, 5)]
    pairs = [np.full((n, 2), n, "i4") for n in (2, 3, 1, 1)]
    with running(plain_store, tmp_path) as writer:
        with new_scan(plain_store, tmp_path / "a.h5") as scan:
            one = scan.create_stream("one", dtype="f4", shape=(-1,))
            two = scan.create_stream("two", dtype="i4", shape=(-1, 2))
            scan.info["mapping"] = {
                "one": ({}, "STREAM", "one"),
                "two": ({}, "STREAM", "two"),
            }
            scan.prepare()
            scan.start()
            for a, b in zip(lists, pairs, strict=True):
                one.send(a)
                two.send(b)
        writer.wait_written(scan)
    with h5py.File(tmp_path / "a.h5") as file:
        for found, expected in zip(file["1.1/one"][:], lists, strict=True):
            assert np.array_equal(found, expected)
        for found, expected in zip(file["1.1/two"][:], pairs, strict=True):
            assert np.array_equal(found["data"].reshape(found["shape"]), expected)


def test_what_close_adds_to_a_layout_is_there_in_its_order(
    plain_store: DataStore, tmp_path: Path
) -> None:
    path = tmp_path / "a.h5"
    with running(plain_store, tmp_path) as writer:
        scan = new_scan(plain_store, path)
        a = scan.create_stream("a", dtype="f8")
        scan.info["h5maps"] = {
            str(path): root(**{"1.1": group({"NX_class": "NXentry", "n": 1}, a=stream("a"), z=2)})
        }
        scan.prepare()
        scan.start()
        a.send(np.arange(3.0))
        writer.wait("writing /")
        scan.stop()
        scan.info["h5maps"] = {
            str(path): root(
                **{
                    "1.1": group(
                        {"NX_class": "NXentry", "n": 7, "more": "x"},
                        first="new",
                        a=stream("a", units="mm"),
                        positioners=group(x=1.5),
                        z=3,
                        end_time="2026-11-25T10:00:00+01:00",
                    )
                }
            )
        }
        scan.close()
        writer.wait_written(scan)
    with h5py.File(path) as file:
        entry = file["1.1"]
        assert list(entry) == ["first", "a", "positioners", "z", "end_time"]
        assert (entry["z"][()], entry.attrs["n"], entry.attrs["more"]) == (3, 7, "x")
        assert entry["a"].attrs["units"] == "mm"
        assert entry["a"][:].tolist() == [0, 1, 2]
        assert entry["end_time"][()] == b"2026-11-25T10:00:00+01:00"


def test_images_that_a_detector_saved_are_put_together_where_they_are(
    plain_store: DataStore, tmp_path: Path
) -> None:
    from blissdata.streams.lima import LimaStream

    frames = np.arange(7 * 4 * 5, dtype="u2").reshape(7, 4, 5)
    saving = {
        "file_path": str(tmp_path / "raw" / "cam_%04d.h5"),
        "data_path": "/entry/data",
        "file_format": "HDF5",
        "file_offset": 3,
        "frames_per_file": 3,
    }
    definition = LimaStream.make_definition(
        "cam", "u2", (4, 5), "tango://nobody", 10, 0, 0, saving=saving
    )
    (tmp_path / "raw").mkdir()
    with running(plain_store, tmp_path) as writer:
        with new_scan(plain_store, tmp_path / "a.h5") as scan:
            cam = scan.create_stream(definition)
            scan.info["mapping"] = {"cam": ({"units": "counts"}, "STREAM", "cam")}
            scan.prepare()
            scan.start()
            for first in range(0, 7, 3):
                with h5py.File(tmp_path / "raw" / f"cam_{3 + first // 3:04d}.h5", "w") as file:
                    file["entry/data"] = frames[first : first + 3]
            cam.send({"last_index": 6, "last_index_saved": 6})
        writer.wait_written(scan)
    with h5py.File(tmp_path / "a.h5") as file:
        dataset = file["1.1/cam"]
        assert dataset.is_virtual
        assert [source.file_name for source in dataset.virtual_sources()] == [
            "raw/cam_0003.h5",
            "raw/cam_0004.h5",
            "raw/cam_0005.h5",
        ]
        assert dataset.attrs["units"] == "counts"
        assert np.array_equal(dataset[:], frames)


@pytest.mark.parametrize("per_file", [0, 3])
def test_frames_that_a_buffer_saved_are_put_together_where_they_are(
    plain_store: DataStore, tmp_path: Path, per_file: int
) -> None:
    from blissdata.streams.frames import FrameBuffer, Saving

    frames = np.arange(7 * 4 * 5, dtype="u2").reshape(7, 4, 5)
    path = tmp_path / "raw" / ("cam_%04d.h5" if per_file else "cam.h5")
    saving = Saving(path, data_path="/entry/data", frames_per_file=per_file)
    with (
        running(plain_store, tmp_path) as writer,
        FrameBuffer((4, 5), "u2", 2, saving=saving, serve=False) as buffer,
    ):
        with new_scan(plain_store, tmp_path / "a.h5") as scan:
            scan.create_stream(buffer.definition("cam"))
            scan.info["mapping"] = {"cam": ({"units": "counts"}, "STREAM", "cam")}
            scan.prepare()
            scan.start()
            for frame in frames:
                buffer.put(frame)
        writer.wait_written(scan)
    names = [f"raw/cam_{i:04d}.h5" for i in range(3)] if per_file else ["raw/cam.h5"]
    with h5py.File(tmp_path / "a.h5") as file:
        dataset = file["1.1/cam"]
        assert dataset.is_virtual
        assert [source.file_name for source in dataset.virtual_sources()] == names
        assert np.array_equal(dataset[:], frames)


# ---------------------------------------------------------------------------------- what is lost


@pytest.mark.parametrize(
    ("rows", "kept", "unsaved"),
    [
        ((3, 3, 1), [3, 3, 1], []),
        ((3, 3, 0), [3, 3], [range(6, 7)]),
        ((3, 1, 0), [3, 1], [range(4, 7)]),
        ((3, 0, 1), [3, 3, 1], [range(3, 6)]),
        ((0, 2, 1), [3, 3, 1], [range(3), range(5, 6)]),
        ((0, 0, 0), [], [range(7)]),
    ],
    ids=str,
)
def test_images_at_the_end_that_are_in_no_file_are_left_out_and_others_keep_their_place(
    rows: tuple[int, ...], kept: list[int], unsaved: list[range]
) -> None:
    sources = [(f"{number}.h5", "/data", count) for number, count in enumerate((3, 3, 1))]
    found, missing = without_unsaved(sources, rows)
    assert [source[2] for source in found] == kept
    assert [source[0] for source in found] == [f"{number}.h5" for number in range(len(kept))]
    assert missing == unsaved


@pytest.mark.parametrize("per_file", [0, 3])
def test_frames_that_were_never_saved_are_told_of_and_nothing_stands_for_them(
    plain_store: DataStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_file: int
) -> None:
    from blissdata.streams.frames import FrameBuffer, Saving

    monkeypatch.setattr(follower, "IMAGES_S", 0.2)
    frames = np.arange(1, 1 + 7 * 4 * 5, dtype="u2").reshape(7, 4, 5)
    path = tmp_path / ("cam_%04d.h5" if per_file else "cam.h5")
    saving = Saving(path, data_path="/entry/data", frames_per_file=per_file)
    with running(plain_store, tmp_path) as writer:
        scan = new_scan(plain_store, tmp_path / "a.h5")
        with pytest.raises(FileWriteError, match="are not saved"):  # noqa: PT012, SIM117 — close() raises it, or stop()
            with FrameBuffer((4, 5), "u2", 7, saving=saving, serve=False) as buffer:
                scan.create_stream(buffer.definition("cam"))
                scan.info["mapping"] = {"cam": ({}, "STREAM", "cam")}
                scan.prepare()
                scan.start()
                for frame in frames[:4]:
                    buffer.put(frame)
                buffer.finish()
                assert buffer._saver is not None
                saver = buffer._saver._process.pid
                os.kill(saver, signal.SIGSTOP)
                os.waitid(os.P_PID, saver, os.WSTOPPED | os.WNOWAIT)
                for frame in frames[4:]:
                    buffer.put(frame)
                buffer.flush()
                os.kill(saver, signal.SIGKILL)
                scan.stop()
        scan.close()
        report = writer.wait_failed(scan)
    assert "images 4 to 6 of stream 'cam'" in report.reason
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["1.1/cam"].shape == (4, 4, 5)
        assert file["1.1"].attrs["blissdata_state"] == "FAILED"
    found = []
    for name in sorted(
        tmp_path.glob("cam*")
    ):  # its saver died, so HDF5 takes it for open; SWMR does not mind
        with h5py.File(name, swmr=True) as file:
            found += list(file["entry/data"][:])
    assert np.array_equal(found, frames[:4])


def test_points_that_left_the_server_before_are_told_of_and_keep_their_place(
    plain_store: DataStore, tmp_path: Path
) -> None:
    with new_scan(plain_store, tmp_path / "a.h5") as scan:
        a = scan.create_stream("a", dtype="f8")
        scan.prepare()
        scan.start()
        for i in range(10):
            a.send(float(i + 1))
            a.join()
        plain_store.event_log.trim({a.key: 4})
        with running(plain_store, tmp_path) as writer:
            writer.wait("writing /")
            scan.stop()
            scan.close()
            report = writer.wait_failed(scan)
    assert "points 0 to 3 of stream 'a'" in report.reason
    with h5py.File(tmp_path / "a.h5") as file:
        found = file["1.1/instrument/a/data"][:]
        assert found.tolist() == [0, 0, 0, 0, 5, 6, 7, 8, 9, 10]
        assert file["1.1"].attrs["blissdata_state"] == "FAILED"


def test_a_scan_that_is_deleted_meanwhile_is_told_of(
    plain_store: DataStore, tmp_path: Path
) -> None:
    with running(plain_store, tmp_path) as writer:
        scan = new_scan(plain_store, tmp_path / "a.h5")
        scan.create_stream("a", dtype="f8")
        scan.prepare()
        writer.wait("writing /")
        plain_store.delete_scan(scan.key, force=True)
        writer.wait("a.h5::/1.1", "1.1")
        writer.wait_written(measured(plain_store, tmp_path / "b.h5"))


# ---------------------------------------------------------------------------------- beside readers


def test_the_dynamic_file_follows_what_is_written(plain_store: DataStore, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with running(plain_store, tmp_path) as writer:
        scan = new_scan(plain_store, path)
        a = scan.create_stream("a", dtype="f8")
        scan.prepare()
        scan.start()
        a.send(np.arange(10.0))
        with DynamicFile(path, retry_timeout=30) as file:
            points = iter(file["1.1/instrument/a/data"])
            assert [next(points) for _ in range(10)] == list(range(10))
            a.send(np.arange(10.0, 20.0))
            assert [next(points) for _ in range(5)] == list(range(10, 15))
            scan.stop()
            scan.close()
            assert list(points) == list(range(15, 20))
        writer.wait_written(scan)


def test_a_writer_that_was_told_to_end_goes_on_another_time(
    plain_store: DataStore, tmp_path: Path
) -> None:
    path = tmp_path / "a.h5"
    scan = new_scan(plain_store, path)
    a = scan.create_stream("a", dtype="i8")
    scan.prepare()
    scan.start()
    for i in range(5):
        a.send(np.arange(i * 1000, (i + 1) * 1000))
        a.join()
        with running(plain_store, tmp_path) as writer:
            writer.wait("writing /")
        with h5py.File(path) as file:
            found = file["1.1/instrument/a/data"][:]
            assert np.array_equal(found, np.arange(len(found)))
    assert [pin.scan_key for pin in plain_store.pins()] == [scan.key]
    scan.stop()
    scan.close()
    with running(plain_store, tmp_path) as writer:
        writer.wait_written(scan)
    once = measured_at_once(plain_store, tmp_path / "once.h5")
    assert without_times(contents(path)) == without_times(once)


def measured_at_once(store: DataStore, path: Path) -> dict[str, Any]:
    with running(store, path.parent) as writer:
        scan = new_scan(store, path)
        a = scan.create_stream("a", dtype="i8")
        scan.prepare()
        scan.start()
        a.send(np.arange(5000))
        scan.stop()
        scan.close()
        writer.wait_written(scan)
    return contents(path)


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    return {path: item for path, item in found.items() if not path.endswith("end_time")}


def test_status_tells_of_the_writer(
    server: TestServer,
    plain_store: DataStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with running(plain_store, tmp_path) as writer:
        scan = new_scan(plain_store, tmp_path / "a.h5")
        a = scan.create_stream("a", dtype="f8")
        scan.prepare()
        scan.start()
        a.send(np.arange(10.0))
        failed = measured(plain_store, "/nowhere/b.h5", 2)
        writer.wait_failed(failed)
        deadline = time.monotonic() + 60
        while "10 points written, 0 behind" not in (shown := status(server, capsys)):
            assert time.monotonic() < deadline, shown
        assert f"writes     {tmp_path}/a.h5::/1.1" in shown
        assert f"FAILED     /nowhere/b.h5 (scan {failed.key}): /nowhere/b.h5 is not below" in shown
        scan.stop()
        scan.close()
        writer.wait_written(scan)
    found = json.loads(status(server, capsys, "--json"))["writing"]
    assert (found["written"], found["alive"], found["roots"]) == (1, False, [str(tmp_path)])
    assert [one["scan"] for one in found["scans"]] == [failed.key]
    assert "not running" in status(server, capsys)


def status(server: TestServer, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["status", server.url, *options]) == 0
    return capsys.readouterr().out


def test_zeros_that_were_measured_are_read_from_a_file_that_is_written(
    plain_store: DataStore, tmp_path: Path
) -> None:
    path = tmp_path / "a.h5"
    with running(plain_store, tmp_path) as writer:
        scan = new_scan(plain_store, path)
        a = scan.create_stream("a", dtype="f8")
        scan.prepare()
        scan.start()
        a.send(np.zeros(100))
        a.join()
        writer.wait_committed(a.key, 100)
        with CheckedFile(path, DataRoots((str(tmp_path),), "given by the test")) as file:
            rows = file.dataset("/1.1/instrument/a/data").rows(0, 100, written_only=True)
            assert not rows.any()
        scan.stop()
        scan.close()
        writer.wait_written(scan)


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, 100)


def move_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(remove, "removed or replaced", id="removed"),
        pytest.param(truncate, "truncated by somebody else", id="truncated"),
        pytest.param(move_directory, "removed or replaced", id="its directory moved away"),
    ],
)
def test_a_file_that_others_damage_while_it_is_written_fails_its_scan_alone(
    plain_store: DataStore, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "deep" / "a.h5"
    with running(plain_store, tmp_path) as writer:
        scan = new_scan(plain_store, path)
        a = scan.create_stream("a", dtype="i8")
        scan.prepare()
        scan.start()
        a.send(np.arange(10))
        writer.wait_committed(a.key, 10)
        damage(path)
        a.send(np.arange(10, 20))
        scan.stop()
        scan.close()
        assert words in writer.wait_failed(scan).reason
        line = writer.wait("FAILED", scan.key)
        assert "--retry" in line
        assert f"give the points up: blissdata pins --remove {scan.key} writer" in line
        writer.wait_written(measured(plain_store, tmp_path / "b.h5"))
    assert [pin.scan_key for pin in plain_store.pins()] == [scan.key]
    assert damage is not truncate or path.stat().st_size == 100


def test_it_says_how_many_scans_ended_without_a_file(
    plain_store: DataStore, tmp_path: Path
) -> None:
    scans = [measured(plain_store, tmp_path / f"{number}.h5", number) for number in (1, 2)]
    measured(plain_store, "/elsewhere/3.h5", 3)
    measured(plain_store, tmp_path / "4.h5", 4, save=False)
    with running(plain_store, tmp_path) as writer:
        writer.wait("2 finished scans without file: --all writes them")
    with running(plain_store, tmp_path, all_scans=True) as writer:
        for scan in scans:
            writer.wait_written(scan)
    with running(plain_store, tmp_path) as writer:
        writer.wait("writing scans below")
    assert not any("without file" in line for line in writer.said)


def test_a_server_that_is_killed_and_comes_back_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with (
        TestServer(appendonly="yes", appendfsync="always") as server,
        DataStore(server.url, init_db=True) as store,
        DataStore(server.url) as other,
        running(other, tmp_path) as writer,
    ):
        scan = new_scan(store, path)
        a = scan.create_stream("a", dtype="i8")
        scan.prepare()
        scan.start()
        a.send(np.arange(1000))
        a.join()
        writer.wait("writing /")
        for start in (1000, 2000):
            server.kill()
            server.start()
            a.send(np.arange(start, start + 1000))
            a.join()
        scan.stop()
        scan.close()
        writer.wait_written(scan)
    with h5py.File(path) as file:
        assert np.array_equal(file["1.1/instrument/a/data"][:], np.arange(3000))


def test_a_terminal_that_nobody_reads_any_more_holds_no_scan_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`serve --write` tells it what becomes of scans."""
    read, write = os.pipe()
    monkeypatch.setattr(beside, "STDOUT", write)
    beside._tell("written \x1b[2Ja.h5")
    assert os.read(read, 100) == b"written \\x1b[2Ja.h5\n"
    for _ in range(10_000):  # far more than a pipe holds
        beside._tell("x" * 99)
    os.close(read)
    beside._tell("nobody is there at all")
    os.close(write)
