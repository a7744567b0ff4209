"""A stream that is also in a file: whatever was trimmed comes from the file, the rest from memory, and
the reader cannot tell, except where the file does not have it: then the error says why.

|                     | in one slice, view, point | waits for it | error |
| --- | --- | --- | --- |
| file complete       | right numbers | | |
| not there, short    | | yes | PointsNotInFileError |
| preallocated        | | yes | PointsNotInFileError, never fill values |
| locked by a writer  | what has reached the file | yes | PointsNotInFileError |
| other shape, dtype  | | no | PointsNotInFileError |
| outside the roots   | | no | PointsNotInFileError |
| replaced meanwhile  | if the points are the same | no | PointsNotInFileError |
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from blissdata import DataStore, Scan, checked_hdf5, hdf5_handles
from blissdata.checked_hdf5 import CheckedDataset
from blissdata.exceptions import (
    DataFileBusyError,
    DataFileContentError,
    DataFileError,
    DataFileIncompleteError,
    DataFileMissingError,
    DataFileRefusedError,
    DataTimeoutError,
    IndexNoMoreThereError,
    IndexNotYetThereError,
    IndexWontBeThereError,
    PointsNotInFileError,
    ScanNotFoundError,
)
from blissdata.streams import CursorGroup, Ranges, availability_of, where
from blissdata.streams.availability import NOTHING, Looks
from blissdata.streams.default import Stream
from blissdata.streams.hdf5_fallback import Hdf5BackedStream, Hdf5BackedView

DATA_PATH = "/1.1/measurement/diode"
POINTS = np.arange(20, dtype=np.float64) ** 2 + 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scan.h5"


@pytest.fixture(autouse=True)
def no_roots(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("BLISSDATA_DATA_ROOTS", raising=False)
    monkeypatch.delenv("BLISSDATA_FILE_TIMEOUT", raising=False)
    # On a slow machine, what a test has just written shall not be old before it is looked at.
    monkeypatch.setattr(checked_hdf5, "SETTLE_S", 600.0)
    yield
    hdf5_handles.close_files()


class Acquisition:
    """A scan with one file-backed stream, as its publisher and as a reader have it."""

    def __init__(self, store: DataStore, path: Path, points: Any = POINTS, **where: Any) -> None:
        self.points = np.asarray(points)
        identity = {"name": "ascan", "number": 1, "data_policy": "none", "path": str(path)}
        self.scan = store.create_scan(identity)
        definition = Hdf5BackedStream.make_definition(
            "diode",
            where.get("file_path", path),
            where.get("data_path", DATA_PATH),
            self.points.dtype,
            self.points.shape[1:],
            {"unit": "A"},
        )
        self.stream = self.scan.create_stream(definition)
        self.scan.prepare()
        self.scan.start()
        for at in range(0, len(self.points), 2):  # entries of two points
            self.stream.send(self.points[at : at + 2])
            self.stream.join()
        self.store = store

    def trim(self, index: int) -> Acquisition:
        (outcome,) = self.store.event_log.trim({self.stream.key: index}).values()
        assert isinstance(outcome, int)
        return self

    def reader(self) -> Hdf5BackedStream:
        stream = self.store.load_scan(self.scan.key).streams["diode"]
        assert isinstance(stream, Hdf5BackedStream)
        return stream

    def close(self) -> None:
        with suppress(ScanNotFoundError):
            self.scan.close()


@pytest.fixture
def acquire(store: DataStore, path: Path) -> Iterator[Callable[..., Acquisition]]:
    made: list[Acquisition] = []

    def acquire(*args: Any, **where: Any) -> Acquisition:
        made.append(Acquisition(store, path, *args, **where))
        return made[-1]

    yield acquire
    for acquisition in made:
        acquisition.close()


Acquire = Callable[..., Acquisition]


def save(path: Path, points: Any = POINTS, **kwargs: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(DATA_PATH, data=points, **kwargs)
    make_old(path)


def between(start: int, stop: int) -> Ranges:
    return Ranges.between(start, stop)


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, "waiting") as pool:
        yield pool


def make_old(path: Path) -> None:
    """As if the file had been left alone for a while."""
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))


of_files = pytest.mark.parametrize("store", ["memory"], indirect=True)
"""For tests of what is in files: which server there is makes no difference."""


# ------------------------------------------------------------------------------ what it is


def test_the_definition_says_where_the_points_are_saved() -> None:
    given = {"unit": "A"}
    made = Hdf5BackedStream.make_definition("d", "/data/f.h5", "/1.1/d", "uint16", (2, 3), given)
    assert made.info == {
        "unit": "A",
        "file_path": "/data/f.h5",
        "data_path": "/1.1/d",
        "save": True,
        "plugin": "hdf5_fallback",
        "dtype": "uint16",
        "shape": (2, 3),
    }
    assert made.encoder.info() == {"type": "numeric", "dtype_str": "<u2", "shape": [2, 3]}
    assert given == {"unit": "A"}


def test_json_has_no_file() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Hdf5BackedStream.make_definition("d", "/data/f.h5", "/1.1/d", "json")


def test_it_is_a_plain_stream_to_whoever_does_not_ask(acquire: Acquire) -> None:
    made = acquire()
    for stream in (made.stream, made.reader()):
        assert isinstance(stream, Stream)
        assert (stream.kind, stream.plugin) == ("array", "hdf5_fallback")
        assert (stream.dtype, stream.shape, len(stream)) == (np.float64, (), 20)
        assert stream.info["unit"] == "A"
        np.testing.assert_array_equal(stream[:], POINTS)  # no file is needed for what is there


# ------------------------------------------------------------------------------ reading


def selections() -> list[Any]:
    chance = random.Random(6)
    bounds = [None, *range(0, 24)]
    slices = [
        slice(chance.choice(bounds), chance.choice(bounds), chance.choice([None, 1, 2, 3]))
        for _ in range(60)
    ]
    return [*slices, np.s_[:], np.s_[7:9], np.s_[0:1], np.s_[19:]]


@pytest.mark.parametrize("trimmed", [0, 1, 7, 8, 20])
def test_slices_are_numpys_wherever_the_points_are(
    acquire: Acquire, path: Path, trimmed: int
) -> None:
    save(path)
    stream = acquire().trim(trimmed).reader()
    for selection in selections():
        found = stream[selection]
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, POINTS[selection], str(selection))


def test_points_are_numpys_wherever_they_are(acquire: Acquire, path: Path) -> None:
    save(path)
    stream = acquire().trim(9).reader()
    for index in range(20):
        assert stream[index] == POINTS[index]
        assert type(stream[index]) is np.float64
    with pytest.raises(IndexNotYetThereError):
        stream[20]
    with pytest.raises(IndexNotYetThereError):
        stream[-1]
    with pytest.raises(TypeError):
        stream["1"]  # type: ignore[index]


def test_once_sealed_and_gone_from_memory_everything_comes_from_the_file(
    acquire: Acquire, path: Path
) -> None:
    save(path)
    made = acquire()
    made.scan.stop()
    stream = made.trim(20).reader()
    assert len(stream) == 20
    for selection in [np.s_[::-1], np.s_[-3:], np.s_[:-15:2], np.s_[15:2:-4], np.s_[5:5]]:
        np.testing.assert_array_equal(stream[selection], POINTS[selection])
    assert [stream[i] for i in range(-20, 0)] == POINTS.tolist()
    with pytest.raises(IndexWontBeThereError):
        stream[20]
    with pytest.raises(IndexError):
        stream[-21]


@pytest.mark.parametrize(
    "points",
    [
        np.arange(20 * 6, dtype=">u2").reshape(20, 2, 3),
        np.arange(20, dtype=np.int64) % 2 == 0,
        np.arange(20) * (1 + 2j),
        np.arange(20, dtype=np.float32) / 7,
    ],
    ids=["images, big-endian", "bool", "complex", "float32"],
)
def test_any_dtype_and_shape_is_joined_seamlessly(
    acquire: Acquire, path: Path, points: np.ndarray[Any, Any]
) -> None:
    save(path, points)
    stream = acquire(points).trim(11).reader()
    assert stream[:].dtype == points.dtype
    np.testing.assert_array_equal(stream[:], points)
    np.testing.assert_array_equal(stream[3], points[3])
    np.testing.assert_array_equal(stream[5:17:3], points[5:17:3])


def test_a_file_in_the_other_byte_order_is_the_same_numbers(acquire: Acquire, path: Path) -> None:
    save(path, POINTS.astype(">f8"))
    stream = acquire().trim(11).reader()
    assert stream[:].dtype == np.dtype("<f8")
    np.testing.assert_array_equal(stream[:], POINTS)


def test_points_whose_shape_varies_are_listed(
    store: DataStore, path: Path, acquire: Acquire
) -> None:
    identity = {"name": "ascan", "number": 1, "data_policy": "none", "path": str(path)}
    points = [np.arange(3) + i for i in range(4)] + [np.arange(5)]
    with store.create_scan(identity) as scan:
        stream = scan.create_stream(
            Hdf5BackedStream.make_definition("mca", path, DATA_PATH, "int64", (-1,))
        )
        scan.prepare()
        for point in points:
            stream.send(point)
            stream.join()
        store.event_log.trim({stream.key: 2})
        save(path, np.array(points[:4]))
        assert [p.tolist() for p in stream[:]] == [p.tolist() for p in points]
        np.testing.assert_array_equal(stream[1:4], np.array(points[1:4]))


# ------------------------------------------------------------------------------ views


def test_a_view_that_lost_points_reads_them_from_the_file(acquire: Acquire, path: Path) -> None:
    save(path)
    made = acquire().trim(8)
    view = made.reader().cursor().read()
    assert isinstance(view, Hdf5BackedView)
    assert (view.index, len(view), view.last_index) == (0, 20, 19)
    assert list(view) == POINTS.tolist()
    for start in (None, 0, 3, 8, 11, 20, -5, -20):
        for stop in (None, 0, 5, 8, 9, 20, -1, -13):
            np.testing.assert_array_equal(view.get_data(start, stop), POINTS[start:stop])


def test_a_view_that_is_kept_reads_what_the_server_forgot_before_it_was_made(
    acquire: Acquire, path: Path
) -> None:
    made = acquire().trim(8)
    view = made.reader().cursor().read()
    assert view is not None
    np.testing.assert_array_equal(view.get_data(8), POINTS[8:])
    with pytest.raises(PointsNotInFileError):
        view.get_data()
    save(path)
    np.testing.assert_array_equal(view.get_data(), POINTS)


def test_groups_and_last_only_find_what_was_trimmed_behind_the_seal(
    acquire: Acquire, path: Path
) -> None:
    save(path)
    made = acquire()
    made.scan.stop()
    stream = made.trim(20).reader()
    views = CursorGroup([stream]).read()
    np.testing.assert_array_equal(views[stream].get_data(), POINTS)
    newest = stream.cursor().read(last_only=True)
    assert newest is not None
    assert (newest.index, newest.get_data().tolist()) == (19, [POINTS[19]])


def test_iterating_over_the_stream_needs_no_memory_on_the_server(
    acquire: Acquire, path: Path
) -> None:
    save(path)
    made = acquire()
    made.scan.stop()
    assert list(made.trim(20).reader()) == POINTS.tolist()


def test_a_view_outlives_its_scan(acquire: Acquire, path: Path, store: DataStore) -> None:
    save(path)
    made = acquire().trim(8)
    view = made.reader().cursor().read()
    assert view is not None
    store.delete_scan(made.scan.key, force=True)
    np.testing.assert_array_equal(view.get_data(), POINTS)


# ------------------------------------------------------------------------------ why not


def refused(read: Callable[[], Any], cause: type[Exception], *words: str) -> None:
    with pytest.raises(PointsNotInFileError) as found:
        read()
    assert isinstance(found.value, IndexNoMoreThereError)
    assert type(found.value.__cause__) is cause
    assert "diode" in str(found.value)
    for word in words:
        assert word in str(found.value)


def test_no_file_yet(acquire: Acquire, path: Path) -> None:
    stream = acquire().trim(8).reader()
    refused(lambda: stream[3], DataFileMissingError, "index 3", str(path), "file_timeout")
    refused(lambda: stream[3:12], DataFileMissingError, "points 3 to 7", DATA_PATH)
    np.testing.assert_array_equal(stream[8:12], POINTS[8:12])


def test_no_such_dataset_yet(acquire: Acquire, path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("1.1")
    stream = acquire().trim(8).reader()
    refused(lambda: stream[3], DataFileIncompleteError, "'measurement'")


def test_shorter_than_the_stream(acquire: Acquire, path: Path) -> None:
    save(path, POINTS[:5])
    stream = acquire().trim(8).reader()
    np.testing.assert_array_equal(stream[2:5], POINTS[2:5])
    refused(lambda: stream[4:12], DataFileIncompleteError, "points 4 to 7", "has 5 points")
    refused(lambda: stream[6], DataFileIncompleteError, "index 6")


def test_truncated(acquire: Acquire, path: Path) -> None:
    save(path, np.arange(10000.0))
    os.truncate(path, 20000)
    refused(lambda: acquire().trim(8).reader()[3], DataFileIncompleteError, "cut off")


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (POINTS.astype("f4"), "float32"),
        (POINTS.astype("i8"), "int64"),
        (POINTS.reshape(20, 1), "(20, 1)"),
        (POINTS.reshape(2, 10), "(2, 10)"),
        (np.float64(3), "()"),
        (np.array(["text"] * 20, dtype="S4"), "S4"),
    ],
)
def test_something_else_is_never_taken_for_the_points(
    acquire: Acquire, path: Path, saved: Any, words: str
) -> None:
    save(path, saved)
    stream = acquire().trim(8).reader()
    stream.file_timeout = None  # it will never be right, so nothing is waited for
    refused(lambda: stream[3], DataFileContentError, words)
    refused(lambda: stream[:], DataFileContentError, words)


def virtual(path: Path, source: str) -> None:
    """A file of which the points are those of another file."""
    layout = h5py.VirtualLayout((20,), "f8")
    layout[:] = h5py.VirtualSource(source, DATA_PATH, (20,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset(DATA_PATH, layout)


def raw(path: Path, source: str) -> None:
    """A file of which the points are bytes in another file."""
    with h5py.File(path, "w") as file:
        file.create_dataset(DATA_PATH, (20,), "f8", external=[(source, 0, 160)])


def linked(path: Path, source: str) -> None:
    """A file that leads to another one."""
    with h5py.File(path, "w") as file:
        file[DATA_PATH] = h5py.ExternalLink(source, DATA_PATH)


def led_by_a_symlink(make: Callable[[Path, str], None], path: Path, target: Path) -> None:
    """What the file names lies beside it, but is a symlink."""
    (path.parent / "beside").symlink_to(target)
    make(path, "beside")


REFUSED: dict[str, Callable[[Path, Path], object]] = {
    "symlink": lambda path, secret: path.symlink_to(secret),
    "external link": lambda path, secret: linked(path, "../secret.h5"),
    "external link, absolute": lambda path, secret: linked(path, str(secret)),
    "external link to a symlink": lambda path, secret: led_by_a_symlink(linked, path, secret),
    "virtual source": lambda path, secret: virtual(path, "../secret.h5"),
    "virtual source, a symlink": lambda path, secret: led_by_a_symlink(virtual, path, secret),
    "raw file": lambda path, secret: raw(path, "/etc/passwd"),
    "raw file, a symlink": lambda path, secret: led_by_a_symlink(raw, path, secret),
    "directory": lambda path, secret: path.mkdir(),
    "FIFO": lambda path, secret: os.mkfifo(path),
    "symlink to a device": lambda path, secret: path.symlink_to("/dev/zero"),
}


@of_files
@pytest.mark.parametrize("what", REFUSED)
def test_nothing_outside_the_roots_is_opened(store: DataStore, tmp_path: Path, what: str) -> None:
    save(tmp_path / "secret.h5")
    below = tmp_path / "data"
    below.mkdir()
    path = below / "scan.h5"
    REFUSED[what](path, tmp_path / "secret.h5")
    made = Acquisition(store, path).trim(8)
    stream = made.reader()
    stream.file_timeout = None  # it is not waited for
    for read in (lambda: stream[3], lambda: stream[:], lambda: stream.cursor().read().get_data()):
        refused(read, DataFileRefusedError, str(path))
    found = stream.availability()
    assert (found.file, found.gone, found.unknown) == (between(0, 0), NOTHING, between(0, 8))
    with pytest.raises(
        IndexNoMoreThereError, match="may be in a file that this reader must not open"
    ):
        stream.wait_available(3)
    made.close()


@of_files
@pytest.mark.parametrize("make", [linked, virtual, raw], ids=["link", "virtual source", "raw file"])
def test_what_a_file_points_at_is_read_where_it_is_below_the_roots(
    acquire: Acquire, path: Path, make: Callable[[Path, str], None]
) -> None:
    target = path.with_name("target")
    if make is raw:
        POINTS.tofile(target)
    else:
        save(target)
    make(path, "target")
    stream = acquire().trim(8).reader()
    np.testing.assert_array_equal(stream[:], POINTS)
    assert stream.availability().file == between(0, 20)
    target.unlink()
    hdf5_handles.close_files()
    refused(lambda: stream[3], DataFileMissingError, "target")
    assert stream.availability().file == between(0, 0)


@of_files
@pytest.mark.parametrize("named", ["scan.h5", "../data/scan.h5", "", "/"])
def test_a_path_that_names_no_file_is_refused(store: DataStore, tmp_path: Path, named: str) -> None:
    made = Acquisition(store, tmp_path / "scan.h5", file_path=named or "./").trim(8)
    stream = made.reader()
    stream.file_timeout = None
    refused(lambda: stream[3], DataFileRefusedError)
    made.close()


@of_files
def test_a_file_that_becomes_something_else_is_refused(acquire: Acquire, path: Path) -> None:
    save(path)
    stream = acquire().trim(8).reader()
    stream.file_timeout = None
    assert stream[3] == POINTS[3]
    path.unlink()
    path.symlink_to("/etc/passwd")
    refused(lambda: stream[3], DataFileRefusedError, "/etc/passwd")
    path.unlink()
    os.mkfifo(path)
    refused(lambda: stream[3], DataFileRefusedError, "FIFO")


@pytest.mark.parametrize("selection", [0, 9, slice(None), slice(2, 11), slice(0, 20, 3)], ids=str)
def test_points_may_be_trimmed_between_len_and_the_read(
    acquire: Acquire, path: Path, selection: Any
) -> None:
    save(path)
    made = acquire()
    stream = made.reader()
    assert len(stream) == 20
    made.trim(12)
    np.testing.assert_array_equal(stream[selection], POINTS[selection])


@of_files
@pytest.mark.parametrize("selection", [slice(None), slice(2, 11), slice(0, 20, 3)], ids=str)
def test_points_may_be_trimmed_in_the_middle_of_a_read(
    acquire: Acquire, path: Path, store: DataStore, monkeypatch: pytest.MonkeyPatch, selection: Any
) -> None:
    """Between the entry that holds the first point and those behind it: what one command still found is
    gone before the next one, and a part of what is left has holes."""
    save(path)
    made = acquire()
    stream = made.reader()
    really = store.event_log.span

    def with_a_hole(requests: Any) -> Any:
        ((tail, entries),) = really(requests)
        kept = [e for e in entries if e.index <= requests[0].start or e.index >= 8]
        return [(tail, kept)]

    monkeypatch.setattr(store.event_log, "span", with_a_hole)
    np.testing.assert_array_equal(stream[selection], POINTS[selection])


def test_points_may_expire_in_the_middle_of_a_blocking_read(
    plain_store: DataStore, path: Path, background: ThreadPoolExecutor
) -> None:
    """The reader waits at index 20. When it is woken, 20 to 25 have come and gone."""
    points = np.arange(28, dtype=np.float64) ** 2 + 1
    made = Acquisition(plain_store, path, points[:20])
    save(path, points)
    cursor = made.reader().cursor()
    first = cursor.read()
    assert first is not None
    assert first.last_index == 19
    waiting = background.submit(cursor.read, timeout=30)
    both = plain_store._redis.pipeline(transaction=True)
    for index in range(20, 28, 2):
        both.xadd(
            made.stream.key,
            {"payload": points[index : index + 2].tobytes(), "len": 2},
            id=f"{index}-1",
        )
    both.xtrim(made.stream.key, minid="26-1", approximate=False)
    both.execute()
    view = waiting.result(30)
    assert (view.index, len(view)) == (20, 8)
    np.testing.assert_array_equal(view.get_data(), points[20:])
    made.stream.event_stream.sink._end = 28  # the publisher learns of it
    plain_store.delete_scan(made.scan.key, force=True)


def test_roots_may_be_given_or_named_by_the_environment(
    store: DataStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "elsewhere.h5"
    save(outside)
    made = Acquisition(store, tmp_path / "data" / "scan.h5", file_path=outside).trim(8)
    events = made.reader().event_stream
    refused(lambda: Hdf5BackedStream(events)[3], DataFileRefusedError, "BLISSDATA_DATA_ROOTS")
    assert Hdf5BackedStream(events, roots=[tmp_path])[3] == POINTS[3]
    refused(lambda: Hdf5BackedStream(events, roots=["/nowhere"])[3], DataFileRefusedError)
    monkeypatch.setenv("BLISSDATA_DATA_ROOTS", str(tmp_path))
    assert made.reader()[3] == POINTS[3]
    made.close()


def test_another_file_may_be_named_by_the_reader(acquire: Acquire, path: Path) -> None:
    copy = path.with_name("copy.h5")
    save(copy)
    stream = acquire().trim(8).reader()
    refused(lambda: stream[3], DataFileMissingError)
    assert Hdf5BackedStream(stream.event_stream, str(copy))[3] == POINTS[3]


@pytest.mark.parametrize("info", [{"file_path": 3}, {"data_path": None}, {"data_path": ["/"]}])
def test_a_stream_that_names_no_file_says_so(
    store: DataStore, info: dict[str, Any], path: Path
) -> None:
    identity = {"name": "ascan", "number": 1, "data_policy": "none"}
    definition = Hdf5BackedStream.make_definition("diode", path, DATA_PATH, "f8")
    definition.info.update(info)
    with store.create_scan(identity) as scan:
        stream = scan.create_stream(definition)
        scan.prepare()
        stream.send(POINTS[:2])
        stream.join()
        stream.send(POINTS[2:])
        stream.join()
        store.event_log.trim({stream.key: 2})
        with pytest.raises(IndexNoMoreThereError, match="names no file"):
            scan.streams["diode"][0]


# ------------------------------------------------------------------------------ a file in the making


def test_points_that_nobody_has_written_are_not_fill_values(acquire: Acquire, path: Path) -> None:
    with h5py.File(path, "w") as file:
        points = file.create_dataset(DATA_PATH, (20,), "f8", chunks=(5,))
        points[:5] = POINTS[:5]
    make_old(path)
    stream = acquire().trim(20).reader()
    np.testing.assert_array_equal(stream[:5], POINTS[:5])
    refused(lambda: stream[3:8], DataFileIncompleteError, "points 5 to 7", "nobody has written")


def test_zeros_at_the_end_of_a_file_in_the_making_may_not_be_written_yet(
    acquire: Acquire, path: Path
) -> None:
    points = np.array([1.0, 0, 2, 0, 0, *range(6, 21)])
    with h5py.File(path, "w") as file:
        saved = file.create_dataset(DATA_PATH, (5,), "f8", maxshape=(None,), chunks=(100,))
        saved[:] = points[:5]
    stream = acquire(points).trim(20).reader()
    np.testing.assert_array_equal(stream[:3], points[:3])
    assert stream[1] == 0
    refused(lambda: stream[3], DataFileIncompleteError, "nobody has written")
    refused(lambda: stream[:5], DataFileIncompleteError, "points 3 to 4")
    make_old(path)
    np.testing.assert_array_equal(stream[:5], points[:5])
    with h5py.File(path, "a") as file:
        file[DATA_PATH].resize((8,))
        file[DATA_PATH][5:] = points[5:8]
    np.testing.assert_array_equal(stream[:5], points[:5])


@of_files
def test_zeros_before_other_points_are_written(acquire: Acquire, path: Path) -> None:
    """A stretch of zeros that fills chunks is readable as soon as something was written behind it."""
    points = np.array([*[0.0] * 12, *range(13, 21)])
    with h5py.File(path, "w") as file:
        saved = file.create_dataset(DATA_PATH, (11,), "f8", maxshape=(None,), chunks=(4,))
        saved[:] = points[:11]
    stream = acquire(points).trim(20).reader()
    refused(lambda: stream[0], DataFileIncompleteError, "nobody has written")
    with h5py.File(path, "a") as file:
        file[DATA_PATH].resize((14,))
        file[DATA_PATH][11:] = points[11:14]
    np.testing.assert_array_equal(stream[:14], points[:14])
    assert stream[2] == 0
    assert stream.availability().file == between(0, 14)


WRITER = """
import sys, h5py
path, data_path, locking = sys.argv[1:]
with h5py.File(path, "a", locking=locking == "lock", libver="latest" if locking == "swmr" else None) as file:
    points = file.require_group("/1.1/measurement").require_dataset(
        "diode", (0,), "f8", maxshape=(None,), chunks=(4,))
    if locking == "swmr":
        file.swmr_mode = True
    print("open", flush=True)
    for line in sys.stdin:
        n = int(line)
        points.resize((n,))
        points[:] = [i**2 + 1 for i in range(n)]
        file.flush()
        print("written", flush=True)
"""


class Writer:
    """Another process that has the file open and writes so many points whenever it is told."""

    def __init__(self, path: Path, how: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), DATA_PATH, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._expect("open")

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == word

    def write(self, points: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{points}\n")
        self._process.stdin.flush()
        self._expect("written")

    def close(self) -> None:
        self._process.communicate()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@of_files
@pytest.mark.parametrize("how", ["lock", "no lock", "swmr"])
def test_a_file_that_somebody_is_writing_gives_what_has_reached_it(
    acquire: Acquire, path: Path, how: str
) -> None:
    stream = acquire().trim(20).reader()
    writer = Writer(path, how)
    try:
        refused(lambda: stream[0], DataFileIncompleteError)
        for n in (3, 7, 8, 17):
            writer.write(n)
            np.testing.assert_array_equal(stream[:n], POINTS[:n])
            assert stream[n - 1] == POINTS[n - 1]
            refused(lambda n=n: stream[n], DataFileIncompleteError)  # type: ignore[misc]
    finally:
        writer.close()
    writer = Writer(path, how)  # nothing of ours kept it from opening the file again
    writer.write(18)
    writer.kill()
    assert stream[17] == POINTS[17]


def test_a_file_that_makes_no_sense_yet_is_waited_for_but_not_for_ever(
    acquire: Acquire, path: Path
) -> None:
    path.write_bytes(b"half a superblock" * 10)
    stream = acquire().trim(8).reader()
    refused(lambda: stream[3], DataFileBusyError, "writing")
    make_old(path)
    refused(lambda: stream[3], DataFileContentError, "cannot be opened as an HDF5 file")


def test_what_may_come_is_waited_for(acquire: Acquire, path: Path) -> None:
    stream = acquire().trim(20).reader()
    stream.file_timeout = 60
    seen: list[Any] = []
    reader = threading.Thread(target=lambda: seen.append(stream[:20]))
    reader.start()
    save(path, POINTS[:7])
    save(path.with_name("next"), POINTS)
    os.replace(path.with_name("next"), path)
    reader.join(60)
    np.testing.assert_array_equal(seen[0], POINTS)


def test_waiting_ends(acquire: Acquire, monkeypatch: pytest.MonkeyPatch) -> None:
    made = acquire().trim(8)
    monkeypatch.setenv("BLISSDATA_FILE_TIMEOUT", "0.2")
    stream = made.reader()
    assert stream.file_timeout == 0.2
    began = time.monotonic()
    refused(lambda: stream[3], DataFileMissingError)
    assert time.monotonic() - began >= 0.2


def test_a_timeout_that_is_none_is_said(acquire: Acquire, monkeypatch: pytest.MonkeyPatch) -> None:
    events = acquire().reader().event_stream
    monkeypatch.setenv("BLISSDATA_FILE_TIMEOUT", "soon")
    with pytest.raises(ValueError, match="soon"):
        Hdf5BackedStream(events)


def test_a_file_that_was_replaced_is_recognised_by_its_points(acquire: Acquire, path: Path) -> None:
    save(path)
    stream = acquire().trim(20).reader()
    np.testing.assert_array_equal(stream[2:6], POINTS[2:6])
    save(path.with_name("next"), POINTS)
    os.replace(path.with_name("next"), path)
    np.testing.assert_array_equal(stream[10:], POINTS[10:])
    save(path.with_name("next"), POINTS + 1)
    os.replace(path.with_name("next"), path)
    refused(lambda: stream[10:], DataFileContentError, "points 2 to 5", "replaced")
    with h5py.File(path, "w") as file:  # in place
        file[DATA_PATH] = POINTS[::-1]
    refused(lambda: stream[0:3], DataFileContentError, "replaced")


# ------------------------------------------------------------------------------ where points are


def test_points_are_in_memory_in_the_file_or_in_both(acquire: Acquire, path: Path) -> None:
    save(path)
    found = acquire().trim(8).reader().availability()
    assert (found.memory, found.file) == (between(8, 20), between(0, 20))
    assert found.pending == found.gone == between(0, 0)
    (file,) = found.files
    assert (file.path, file.item, file.why) == (str(path), DATA_PATH, None)


@of_files
def test_what_is_not_in_the_file_yet_is_pending_while_the_scan_runs(
    acquire: Acquire, path: Path
) -> None:
    made = acquire().trim(8)
    stream = made.reader()
    found = stream.availability()
    assert (found.file, found.pending) == (between(0, 0), between(0, 8))
    assert "no file" in str(found.files[0].why)
    save(path, POINTS[:5])
    found = stream.availability()
    assert (found.file, found.pending) == (between(0, 5), between(5, 8))
    assert found.files[0].why == "it has only points 0–4"
    made.scan.stop()
    found = stream.availability()
    assert (found.pending, found.gone) == (between(0, 0), between(5, 8))
    os.utime(path)  # somebody is writing it
    assert stream.availability().pending == between(5, 8)


@of_files
def test_what_is_said_of_a_file_is_what_a_read_gives(acquire: Acquire, path: Path) -> None:
    """Holes, places that nobody wrote, zeros: whatever is said to be in the file can be read."""
    points = POINTS.copy()
    points[[0, 1, 2, 3, 4, 9]] = 0
    with h5py.File(path, "w") as file:
        saved = file.create_dataset(DATA_PATH, (20,), "f8", chunks=(5,))
        saved[:10] = points[:10]
    stream = acquire(points).trim(20).reader()
    for written, expected in ((None, (0, 9)), ((15, 17), (0, 10)), ((10, 15), (0, 17))):
        if written is not None:
            with h5py.File(path, "a") as file:
                file[DATA_PATH][slice(*written)] = points[slice(*written)]
        found = stream.availability()
        assert found.file.spans[0] == expected
        for index in range(20):
            if index in found.readable:
                assert stream[index] == points[index]
            else:
                refused(lambda index=index: stream[index], DataFileIncompleteError)  # type: ignore[misc]
    make_old(path)
    assert stream.availability().file == between(0, 20)


@of_files
@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_what_is_said_is_so(store: DataStore, path: Path, seed: int) -> None:
    """Publish, forget, save, leave alone, replace, seal, in any order: after each step every point that is
    said to be readable is read, and every other one is an error."""
    chance = random.Random(seed)
    points = np.array([chance.choice([0.0, 1.0, 2.5]) for _ in range(60)])
    identity = {"name": "ascan", "number": 1, "data_policy": "none", "path": str(path)}
    with store.create_scan(identity) as scan:
        stream = scan.create_stream(
            Hdf5BackedStream.make_definition("diode", path, DATA_PATH, "f8")
        )
        scan.prepare()
        scan.start()
        reader = store.load_scan(scan.key).streams["diode"]
        published, sealed, complete = 0, False, False
        for _ in range(25):
            step = chance.choice(["publish", "publish", "trim", "save", "save", "old", "seal"])
            if step == "publish" and not sealed:
                count = min(chance.randrange(1, 6), len(points) - published)
                if count:
                    stream.send(points[published : published + count])
                    stream.join()
                published += count
            elif step == "trim":
                store.event_log.trim({stream.key: chance.randrange(published + 1)})
            elif step == "save":
                length = min(chance.randrange(1, published + 2), len(points))
                written = chance.choice([length, length // 2])
                with h5py.File(path, "w") as file:
                    saved = file.create_dataset(
                        DATA_PATH,
                        (length,),
                        "f8",
                        maxshape=(None,),
                        chunks=(chance.choice([3, 7]),),
                    )
                    saved[:written] = points[:written]
                complete = written == length
            elif step == "old" and complete:
                make_old(path)
            elif step == "seal" and chance.random() < 0.3:
                stream.seal()
                sealed = True
            found = reader.availability()
            assert (found.length, found.sealed) == (published, sealed)
            for index in range(published):
                if index in found.readable:
                    assert reader[index] == points[index]
                else:
                    assert index in found.pending or index in found.gone
                    with pytest.raises(IndexNoMoreThereError):
                        reader[index]


@of_files
def test_a_file_that_is_something_else_has_nothing(acquire: Acquire, path: Path) -> None:
    save(path, POINTS.astype("f4"))
    found = acquire().trim(8).reader().availability()
    assert (found.file, found.gone) == (between(0, 0), between(0, 8))
    assert "float32" in str(found.files[0].why)


@of_files
def test_a_file_outside_the_roots_is_not_looked_into(
    store: DataStore, tmp_path: Path, acquire: Acquire
) -> None:
    save(tmp_path / "elsewhere.h5")
    made = Acquisition(store, tmp_path / "data" / "scan.h5", file_path=tmp_path / "elsewhere.h5")
    found = made.trim(8).reader().availability()
    assert (found.unknown, found.gone) == (between(0, 8), NOTHING)
    assert "data roots" in str(found.files[0].why)
    with pytest.raises(IndexNoMoreThereError, match="data roots"):
        made.reader().wait_available(3)
    made.close()


@of_files
def test_a_file_is_looked_at_by_who_asks_often_now_and_then(
    acquire: Acquire, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(path, POINTS[:3])
    stream = acquire().trim(8).reader()
    opened = openings(monkeypatch)
    # On a slow machine, twenty questions take a second, or ten.
    monkeypatch.setattr(where, "MAX_AGE_S", 60.0)
    monkeypatch.setattr(Looks, "STALE_S", 60.0)
    for _ in range(20):
        hdf5_handles.close_files()
        assert availability_of([stream])[stream].file == between(0, 3)
    assert len(opened) == 1
    save(path, POINTS)
    assert stream.availability().file == between(0, 20)  # who asks for one stream wants to know


@of_files
def test_a_file_that_does_not_change_is_not_read_again(
    acquire: Acquire, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(path)
    stream = acquire().trim(8).reader()
    looked: list[int] = []
    really = CheckedDataset.extent
    monkeypatch.setattr(CheckedDataset, "extent", lambda self: looked.append(1) or really(self))
    for _ in range(5):
        assert stream.availability().file == between(0, 20)
    assert looked == [1]


def test_points_are_waited_for_until_they_are_in_the_file(
    acquire: Acquire, path: Path, background: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, "GRACE_S", 60.0)
    made = acquire().trim(8)
    stream = made.reader()
    in_file = background.submit(stream.wait_available, range(20), "file", 60)
    anywhere = background.submit(stream.wait_available, 3, None, 60)
    save(path, POINTS[:7])
    assert anywhere.result(60).where(3) == "file"
    assert not in_file.done()
    made.scan.stop()
    save(path, POINTS)
    assert in_file.result(60).file == between(0, 20)


@of_files
def test_points_that_nobody_writes_any_more_are_waited_for_a_little(
    acquire: Acquire, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = acquire().trim(8)
    save(path, POINTS[:5])
    stream = made.reader()
    with pytest.raises(DataTimeoutError, match=r"points 5–9.*\(file\).*it has only points 0–4"):
        stream.wait_available(range(10), "file", timeout=0.2)
    made.scan.stop()
    monkeypatch.setattr(where, "GRACE_S", 0.3)
    began = time.monotonic()
    with pytest.raises(IndexNoMoreThereError, match=r"it has only points 0–4. memory has 8–9"):
        stream.wait_available(range(10), "file")
    assert time.monotonic() - began >= 0.3
    assert stream.wait_available(range(8, 20)).memory == between(8, 20)
    with pytest.raises(IndexNoMoreThereError, match="points 5–7 are nowhere"):
        stream.wait_available(range(20), timeout=0)


@of_files
def test_waiting_for_a_file_asks_the_server_seldom(
    acquire: Acquire, store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = acquire().trim(8).reader()
    asked: list[Any] = []
    really = store.event_log.bounds
    monkeypatch.setattr(store.event_log, "bounds", lambda keys: asked.append(keys) or really(keys))
    monkeypatch.setattr(where, "WAIT_SLICE_S", 60.0)  # after that it is asked again
    with pytest.raises(DataTimeoutError):
        stream.wait_available(3, "file", timeout=0.5)
    assert len(asked) <= 1


@of_files
def test_a_stream_that_names_no_file_has_no_points_in_one(store: DataStore, path: Path) -> None:
    definition = Hdf5BackedStream.make_definition("diode", path, DATA_PATH, "f8")
    definition.info["data_path"] = None
    identity = {"name": "ascan", "number": 1, "data_policy": "none"}
    with store.create_scan(identity) as scan:
        stream = scan.create_stream(definition)
        scan.prepare()
        stream.send(POINTS)
        stream.join()
        found = scan.streams["diode"].availability()
        assert (found.memory, found.file) == (between(0, 20), between(0, 0))
        with pytest.raises(IndexNoMoreThereError, match="names none"):
            stream.wait_available(0, "file")


# ------------------------------------------------------------------------------ handles


def openings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Counts openings by h5py from now on."""
    names: list[str] = []
    really = h5py.File.__init__

    def counting(self: Any, name: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(name, h5py.h5f.FileID):
            names.append(str(name))
        really(self, name, *args, **kwargs)

    monkeypatch.setattr(h5py.File, "__init__", counting)
    return names


def test_a_burst_of_reads_opens_the_file_once(
    acquire: Acquire, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        hdf5_handles, "IDLE_S", 60.0
    )  # on a slow machine, a burst may take a second
    save(path)
    made = acquire().trim(20)
    first, second = made.reader(), made.reader()
    opened = openings(monkeypatch)
    for index in range(20):
        assert first[index] == second[index] == POINTS[index]
    assert len(opened) == 1


def open_descriptors(path: Path) -> int:
    return sum(
        os.path.realpath(f"/proc/self/fd/{n}") == str(path) for n in os.listdir("/proc/self/fd")
    )


def test_an_idle_file_is_closed(
    acquire: Acquire, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_handles, "IDLE_S", 0.05)
    save(path)
    assert acquire().trim(20).reader()[3] == POINTS[3]
    deadline = time.monotonic() + 30
    while open_descriptors(path) or hdf5_handles.open_files():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_failed_read_leaves_no_file_open(acquire: Acquire, path: Path) -> None:
    save(path, POINTS[:3])
    stream = acquire().trim(20).reader()
    refused(lambda: stream[5], DataFileIncompleteError)
    assert not open_descriptors(path)


def test_many_threads_read_at_once(acquire: Acquire, path: Path) -> None:
    save(path)
    stream = acquire().trim(10).reader()
    failures: list[BaseException] = []

    def read(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(50):
                start, stop = sorted(chance.choices(range(21), k=2))
                np.testing.assert_array_equal(stream[start:stop], POINTS[start:stop])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_forked_child_opens_files_of_its_own(path: Path) -> None:
    save(path)
    roots = hdf5_handles.DataRoots.choose([path.parent])
    with hdf5_handles.borrowed_file(path, roots) as file:
        parents = file.dataset(DATA_PATH).rows(0, 20)
    assert hdf5_handles.open_files()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            with hdf5_handles.borrowed_file(path, roots) as again:
                same = again is not file
                rows = again.dataset(DATA_PATH).rows(0, 20)
            os.write(writing, b"ok" if same and rows.tobytes() == parents.tobytes() else b"no")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 2) == b"ok"
    os.close(reading)
    os.close(writing)


# ------------------------------------------------------------------------------ older publishers


def older(store: DataStore, path: Path, save_: Any, **kinds: Any) -> Scan:
    """A scan of a publisher that knew no plugins."""
    identity = {"name": "ascan", "number": 1, "data_policy": "none", "path": str(path)}
    scan = store.create_scan(identity, {} if save_ is None else {"save": save_})
    for name, dtype in kinds.items():
        scan.create_stream(Stream.make_definition(name, dtype, info={"data_path": DATA_PATH}))
    scan.prepare()
    return scan


@pytest.mark.parametrize("saves", [True, False, None])
def test_a_saved_scan_of_an_older_publisher_is_its_streams_file(
    store: DataStore, path: Path, saves: bool | None
) -> None:
    save(path)
    with older(store, path, saves, diode="f8", text="json") as scan:
        written = scan.get_writer_stream("diode")
        for point in POINTS:
            written.send(point)
            written.join()
        store.event_log.trim({written.key: 8})
        read = store.load_scan(scan.key).streams
        assert type(read["text"]) is Stream
        if saves:
            assert isinstance(read["diode"], Hdf5BackedStream)
            assert read["diode"].plugin == "hdf5_fallback"
            np.testing.assert_array_equal(read["diode"][:], POINTS)
            assert isinstance(scan.streams["diode"], Hdf5BackedStream)
        else:
            assert type(read["diode"]) is Stream
            with pytest.raises(IndexNoMoreThereError):
                read["diode"][3]


# ------------------------------------------------------------------------------ a long acquisition


def test_readers_of_an_acquisition_larger_than_memory_miss_nothing(
    store: DataStore, path: Path
) -> None:
    """The publisher's points are trimmed all the time; a writer saves them behind; one reader follows
    slowly, one comes afterwards. What is neither in memory nor in the file yet is waited for."""
    total, step = 4000, 40
    expected = np.arange(total, dtype=np.float64) + 1
    identity = {"name": "timescan", "number": 1, "data_policy": "none", "path": str(path)}
    with store.create_scan(identity) as scan:
        written = scan.create_stream(
            Hdf5BackedStream.make_definition("diode", path, DATA_PATH, "f8")
        )
        scan.prepare()
        scan.start()
        stream = store.load_scan(scan.key).streams["diode"]
        assert isinstance(stream, Hdf5BackedStream)
        stream.file_timeout = 60
        seen: list[np.ndarray[Any, Any]] = []

        def follow() -> None:
            for view in stream.cursor():
                seen.append(view.get_data())

        reader = threading.Thread(target=follow)
        reader.start()
        with h5py.File(path, "w") as file:
            saved = file.create_dataset(DATA_PATH, (0,), "f8", maxshape=(None,), chunks=(64,))
            for at in range(0, total, step):
                written.send(expected[at : at + step])
                written.join()
                store.event_log.trim({written.key: at - step})
                if at % (5 * step) == 0:
                    saved.resize((at,))
                    saved[:] = expected[:at]
                    file.flush()
            saved.resize((total,))
            saved[:] = expected
        scan.stop()
        store.event_log.trim({written.key: total})
        reader.join(60)
        assert not reader.is_alive()
        np.testing.assert_array_equal(np.concatenate(seen), expected)
        np.testing.assert_array_equal(store.load_scan(scan.key).streams["diode"][:], expected)


def test_errors_of_files_are_one_family() -> None:
    for error in (DataFileBusyError, DataFileIncompleteError, DataFileRefusedError):
        assert issubclass(error, DataFileError)
        assert issubclass(error, OSError)
