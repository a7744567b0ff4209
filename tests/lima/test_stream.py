"""Lima streams: published and read through a server, frames from a real device and real files.

definition    what it holds, word for word; what it refuses
status        what publishers may send, what readers make of what others sent
reading       length, frames, slices, references, live image, while running and after
cursors       views over the frames in between, newest only, groups, the end
forgotten     the events of a finished scan are trimmed: the files tell
waiting       woken by events, not by the clock; a scan that nobody continues
where         with the detector, in closed files, on their way, gone
old           streams of publishers that know no plugins
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lima_blocks import frame
from lima_kit import LONG_S, Camera, Files, wait_until

from blissdata import DataStore, Scan
from blissdata.exceptions import (
    DataTimeoutError,
    EndOfStream,
    IndexNoMoreThereError,
    IndexNotYetThereError,
    IndexWontBeThereError,
    NoWritePermission,
    PayloadError,
)
from blissdata.lima.client import (
    ImageReference,
    acquisition_on_server,
    prepare_next_lima_acquisition,
)
from blissdata.lima.image_utils import ImageData, NoImageAvailable
from blissdata.lima.layout import FilePattern, LimaLayout
from blissdata.streams import BaseStream, CursorGroup, Place, Ranges, availability_of
from blissdata.streams.default import BrokenPluginStream, Stream
from blissdata.streams.encoding import EncodedBatch
from blissdata.streams.entries import MAX_INDEX
from blissdata.streams.event_log import AppendRequest
from blissdata.streams.event_stream import WAIT_SLICE_S
from blissdata.streams.lima import LimaStream, LimaView, stream_cls, view_cls
from blissdata.streams.lima.stream import LimaDirectAccess

IDENTITY = {"name": "ascan", "number": 7, "data_policy": "none"}


def frames(*indices: int) -> np.ndarray[Any, Any]:
    """What slices of those frames are, in the first acquisition."""
    return np.stack([frame(0, index) for index in indices])


class Nobody:
    """In the place of a camera that nobody will ask."""

    url = "tango://127.0.0.1:1/nobody/is/there#dbase=no"


class Published:
    """A running scan with one detector, seen from both sides."""

    def __init__(self, store: DataStore, camera: Camera | Nobody, **options: Any) -> None:
        acquisition = prepare_next_lima_acquisition(store, camera.url)
        definition = LimaStream.make_definition(
            "camera", np.uint16, (6, 8), camera.url, 4, 100, acquisition, **options
        )
        self.store = store
        self.scan: Scan = store.create_scan({**IDENTITY})
        self.writer = self.scan.create_stream(definition)
        self.scan.prepare()
        self.scan.start()
        self.stream = self.opened()

    def opened(self) -> LimaStream:
        """The stream as a reader opens it now."""
        stream = self.store.load_scan(self.scan.key).streams["camera"]
        assert isinstance(stream, LimaStream)
        return stream

    def tell(self, **status: int) -> None:
        """Publishes how far the detector is."""
        self.writer.send(status)
        self.writer.join()


@pytest.fixture
def ring(store: DataStore, camera: Camera) -> Published:
    """Frames are not saved."""
    return Published(store, camera)


@pytest.fixture
def saved(store: DataStore, camera: Camera, files: Files) -> Published:
    """Frames are saved, 5 a file."""
    return Published(store, camera, saving=files.saving)


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


# ---------------------------------------------------------------------------------- definition


def test_a_definition_says_what_protocol_1_says() -> None:
    saving = {
        "file_path": "/data/img_%04d.h5",
        "data_path": None,
        "file_format": "HDF5BS",
        "file_offset": 2,
        "frames_per_file": 5,
    }
    given = {"unit": "counts", "plugin": "other"}
    definition = LimaStream.make_definition(
        "camera", "f4", [2, 3], "tango://camera", 10, 100, 4, saving, given
    )
    assert definition.name == "camera"
    assert definition.encoder.info() == {"type": "json"}
    assert definition.info == {
        "unit": "counts",
        "format": "lima_v1",
        "plugin": "lima",
        "dtype": "float32",
        "shape": [2, 3],
        "lima_info": {
            "protocol_version": 1,
            "server_url": "tango://camera",
            "buffer_max_number": 10,
            "frame_per_acquisition": 100,
            "acquisition_offset": 4,
            "file_path": "/data/img_%04d.h5",
            "data_path": None,
            "file_format": "HDF5BS",
            "file_offset": 2,
            "frame_per_file": 5,
        },
    }
    assert given == {"unit": "counts", "plugin": "other"}


def test_a_definition_without_files_does_not_speak_of_files() -> None:
    for saving in ({}, None):
        info = LimaStream.make_definition("c", "u2", (2, 3), "u", 1, 2, 3, saving).info["lima_info"]
        assert set(info) == {
            "protocol_version",
            "server_url",
            "buffer_max_number",
            "frame_per_acquisition",
            "acquisition_offset",
        }


@pytest.mark.parametrize("change", [{"colour": "red"}, {"file_offset": None}])
def test_saving_has_exactly_its_keys(change: dict[str, Any], files: Files) -> None:
    saving = {k: v for k, v in {**files.saving, **change}.items() if v is not None}
    with pytest.raises(ValueError, match=r"missing: .*unknown: "):
        LimaStream.make_definition("c", "u2", (2, 3), "u", 1, 2, 3, saving)


def test_a_stream_that_makes_no_sense_is_refused_at_its_creation(
    memory_store: DataStore, files: Files
) -> None:
    definition = LimaStream.make_definition(
        "c", "u2", (2, 3), "u", 1, 2, 3, {**files.saving, "frames_per_file": 0}
    )
    with pytest.raises(ValueError, match="frame_per_file"):
        memory_store.create_scan(IDENTITY).create_stream(definition)


def test_the_plugin_is_what_the_registry_expects(ring: Published) -> None:
    assert (stream_cls, view_cls) == (LimaStream, LimaView)
    for stream in (ring.stream, ring.writer):
        assert isinstance(stream, LimaStream)
        assert isinstance(stream, BaseStream)
        assert isinstance(stream, LimaDirectAccess)
        assert not isinstance(stream, Stream)
        assert (stream.kind, stream.plugin) == ("array", "lima")
        assert (stream.dtype, stream.shape) == (np.dtype("uint16"), (6, 8))


# ---------------------------------------------------------------------------------- status


@pytest.mark.parametrize(
    "status",
    [
        [],
        None,
        5,
        {"last_index": 1.5},
        {"last_index": True},
        {"last_index": "3"},
        {"last_index": -2},
        {"last_index_saved": None},
        {"last_index": 2**70},
        {"last_index": 3, "colour": "red"},
    ],
    ids=repr,
)
def test_a_status_that_readers_would_not_understand_is_refused(
    memory_store: DataStore, status: Any
) -> None:
    ring = Published(memory_store, Nobody())
    with pytest.raises(ValueError, match="Status of 'camera'"):
        ring.writer.send(status)
    ring.writer.join()
    assert len(ring.stream.event_stream) == 0


def test_the_entries_are_as_protocol_1_says(ring: Published) -> None:
    ring.tell(last_index=4, last_index_saved=2)
    entry = ring.store.event_log.holding(ring.stream.key, 0)
    assert entry is not None
    assert entry.batch.payload == b'{"last_index": 4, "last_index_saved": 2}'


@pytest.mark.parametrize(
    "payload",
    [b"[1]", b"5", b"null", b'{"last_index": "3"}', b'{"last_index": 1e99}', b"{", b"\xff"],
    ids=repr,
)
def test_a_status_that_lies_names_stream_and_event(memory_store: DataStore, payload: bytes) -> None:
    published = Published(memory_store, Nobody())
    published.tell(last_index=4)
    request = AppendRequest(1, (EncodedBatch(payload),))
    assert published.store.event_log.append({published.stream.key: request}) == {
        published.stream.key: 2
    }
    for use in (
        lambda: len(published.stream),
        lambda: published.stream[0],
        lambda: published.stream.cursor().read(block=False),
    ):
        with pytest.raises(PayloadError, match=r"Stream 'camera' of scan .*(event|index) 1"):
            use()


def test_what_else_a_status_says_is_ignored(memory_store: DataStore) -> None:
    published = Published(memory_store, Nobody())
    request = AppendRequest(0, (EncodedBatch(b'{"last_index": 6, "later": [1]}'),))
    published.store.event_log.append({published.stream.key: request})
    assert len(published.stream) == 7


def test_a_status_never_goes_back(ring: Published) -> None:
    ring.tell(last_index=4)
    assert len(ring.stream) == 5
    ring.tell(last_index=2)
    assert len(ring.stream) == 5
    ring.tell(last_index_saved=3)
    assert len(ring.stream) == 5


def test_a_reader_does_not_publish(ring: Published) -> None:
    with pytest.raises(NoWritePermission):
        ring.stream.send({"last_index": 1})


# ---------------------------------------------------------------------------------- reading


def test_frames_of_a_running_scan(ring: Published, camera: Camera) -> None:
    stream = ring.stream
    assert len(stream) == 0
    assert (stream[:].shape, stream[:].dtype) == ((0, 6, 8), np.uint16)
    with pytest.raises(IndexNotYetThereError):
        stream[0]
    with pytest.raises(NoImageAvailable):
        stream[-1]
    camera.acquire(6)
    ring.tell(last_index=5)
    assert len(stream) == 6
    np.testing.assert_array_equal(stream[3], frame(0, 3), strict=True)
    np.testing.assert_array_equal(stream[2:], frames(2, 3, 4, 5), strict=True)
    np.testing.assert_array_equal(stream[-2:], frames(4, 5), strict=True)
    np.testing.assert_array_equal(stream[5:1:-1], frames(5, 4, 3, 2), strict=True)
    with pytest.raises(IndexNoMoreThereError):
        stream[0]
    with pytest.raises(IndexNoMoreThereError):
        stream[:]
    camera.acquire(1)  # not told yet
    np.testing.assert_array_equal(stream[-1], frame(0, 6))
    with pytest.raises(IndexNotYetThereError):
        stream[6]
    live = stream.get_last_live_image()
    assert isinstance(live, ImageData)
    np.testing.assert_array_equal(live.array, frame(0, 6))
    assert (live.frame_id, live.acq_tag) == (6, None)


def test_what_was_published_reads_itself(ring: Published, camera: Camera) -> None:
    camera.acquire(2)
    ring.tell(last_index=1)
    np.testing.assert_array_equal(ring.writer[:], frames(0, 1))


def test_frames_move_from_the_ring_to_files(saved: Published, camera: Camera, files: Files) -> None:
    camera.acquire(9)
    files.save(0)
    saved.tell(last_index=8, last_index_saved=6)
    np.testing.assert_array_equal(saved.stream[:], frames(*range(9)), strict=True)
    saved.stream.file_timeout = 0.01
    camera.acquire(1)
    saved.tell(last_index=9, last_index_saved=6)
    with pytest.raises(IndexNotYetThereError, match="frame 5 is in no closed file yet"):
        saved.stream[5]
    files.save(1)
    saved.tell(last_index=9, last_index_saved=9)
    assert saved.writer.seal() == 3
    np.testing.assert_array_equal(saved.stream[:], frames(*range(10)), strict=True)
    np.testing.assert_array_equal(saved.stream[-1], frame(0, 9))
    np.testing.assert_array_equal(saved.stream[-10], frame(0, 0))
    with pytest.raises(IndexWontBeThereError):
        saved.stream[10]


def test_a_finished_scan_is_read_without_the_detector(
    saved: Published, camera: Camera, files: Files
) -> None:
    files.save(0)
    files.save(1, frames=3)
    saved.tell(last_index=7, last_index_saved=7)
    saved.scan.stop()
    saved.scan.close()
    prepare_next_lima_acquisition(saved.store, camera.url)
    camera.prepare()
    stream = saved.opened()
    assert len(stream) == 8
    np.testing.assert_array_equal(stream[:], frames(*range(8)), strict=True)
    np.testing.assert_array_equal(np.stack(list(stream)), frames(*range(8)), strict=True)


def test_references(saved: Published, files: Files) -> None:
    saved.tell(last_index=6)
    path = files.saving["file_path"]
    expected = [
        ImageReference("HDF5", path % (n // 5), files.saving["data_path"], n % 5) for n in range(20)
    ]
    assert saved.stream.get_references(3) == expected[3]
    assert saved.stream.get_references(19) == expected[19]  # where it will be
    assert saved.stream.get_references(slice(4, 20)) == expected[4:7]
    view = saved.stream.cursor().read()
    assert isinstance(view, LimaView)
    assert view.get_references() == expected[:7]
    assert view.get_references(5, 6) == expected[5:6]
    assert view.get_references(-2) == expected[5:7]


# ---------------------------------------------------------------------------------- cursors


def test_a_view_covers_the_frames_since_the_last(ring: Published, camera: Camera) -> None:
    cursor = ring.stream.cursor()
    assert cursor.read(block=False) is None
    ring.tell(last_index=-1)
    assert cursor.read(block=False) is None
    camera.acquire(4)
    for last in (0, 2, 3):
        ring.tell(last_index=last)
    view = cursor.read()
    assert isinstance(view, LimaView)
    assert (view.index, len(view), view.last_index, cursor.position) == (0, 4, 3, 4)
    np.testing.assert_array_equal(view.get_data(), frames(0, 1, 2, 3), strict=True)
    np.testing.assert_array_equal(view.get_data(1, 3), frames(1, 2), strict=True)
    np.testing.assert_array_equal(view.get_data(-1), frames(3), strict=True)
    assert view.get_data(2, 2).shape == (0, 6, 8)
    np.testing.assert_array_equal(np.stack(list(view)), frames(0, 1, 2, 3))
    ring.tell(last_index=3, last_index_saved=2)
    assert cursor.read(block=False) is None
    camera.acquire(2)
    ring.tell(last_index=5)
    view = cursor.read()
    assert view is not None
    assert (view.index, len(view), cursor.position) == (4, 2, 6)
    ring.writer.seal()
    with pytest.raises(EndOfStream):
        cursor.read()


def test_the_newest_frame_only(ring: Published, camera: Camera) -> None:
    camera.acquire(3)
    ring.tell(last_index=2)
    cursor = ring.stream.cursor()
    view = cursor.read(last_only=True)
    assert view is not None
    assert (view.index, len(view), cursor.position) == (2, 1, 3)
    np.testing.assert_array_equal(view.get_data(), frames(2))
    assert cursor.read(block=False, last_only=True) is None
    camera.acquire(3)
    ring.tell(last_index=5)
    ring.writer.seal()
    view = cursor.read(last_only=True)
    assert view is not None
    assert (view.index, len(view), cursor.position) == (5, 1, 6)
    with pytest.raises(EndOfStream):
        cursor.read(last_only=True)


def test_a_view_outlives_the_ring(ring: Published, camera: Camera) -> None:
    camera.acquire(3)
    ring.tell(last_index=2)
    view = ring.stream.cursor().read()
    assert view is not None
    camera.acquire(3)
    ring.tell(last_index=5)
    np.testing.assert_array_equal(view.get_data(2), frames(2))
    with pytest.raises(IndexNoMoreThereError, match="frame 0"):
        view.get_data()


def test_a_group_reads_a_detector_beside_numbers(
    store: DataStore, camera: Camera, background: ThreadPoolExecutor
) -> None:
    published = Published(store, camera)
    numbers = published.scan.create_stream("diode", dtype="float64")
    group = CursorGroup([published.stream, numbers])
    reading = background.submit(group.read)
    camera.acquire(1)
    published.tell(last_index=0)
    found = reading.result(LONG_S)
    assert list(found) == [published.stream]
    numbers.send(1.5)
    numbers.seal()
    published.writer.seal()
    views: dict[str, int] = {}
    for found in group:
        for stream, view in found.items():
            views[stream.name] = views.get(stream.name, 0) + len(view)
    assert views == {"diode": 1}


def test_a_cursor_may_begin_after_the_end(saved: Published, files: Files) -> None:
    files.save(0)
    saved.tell(last_index=4, last_index_saved=4)
    saved.writer.seal()
    cursor = saved.opened().cursor()
    view = cursor.read()
    assert view is not None
    np.testing.assert_array_equal(view.get_data(), frames(0, 1, 2, 3, 4))
    with pytest.raises(EndOfStream):
        cursor.read()


def test_an_empty_stream_ends_at_once(ring: Published) -> None:
    ring.writer.seal()
    with pytest.raises(EndOfStream):
        ring.stream.cursor().read(block=False)
    assert len(ring.stream) == 0
    with pytest.raises(IndexError):
        ring.stream[-1]


# ---------------------------------------------------------------------------------- forgotten events


def test_the_files_tell_what_the_server_has_forgotten(saved: Published, files: Files) -> None:
    for number, count in enumerate((5, 5, 5, 2)):
        files.save(number, count)
    saved.tell(last_index=12, last_index_saved=9)
    saved.tell(last_index=16, last_index_saved=16)
    saved.writer.seal()
    saved.store.event_log.trim({saved.stream.key: MAX_INDEX})
    stream = saved.opened()
    assert len(stream) == 17
    np.testing.assert_array_equal(stream[:], frames(*range(17)))
    view = saved.opened().cursor().read()
    assert view is not None
    assert (view.index, len(view)) == (0, 17)


def test_without_files_nobody_tells(ring: Published) -> None:
    ring.tell(last_index=12)
    ring.writer.seal()
    ring.store.event_log.trim({ring.stream.key: MAX_INDEX})
    stream = ring.opened()
    for use in (lambda: len(stream), lambda: stream[0], lambda: stream.cursor().read()):
        with pytest.raises(IndexNoMoreThereError, match="how many frames there are has left"):
            use()


def test_only_the_last_event_of_a_running_scan_is_needed(ring: Published, camera: Camera) -> None:
    camera.acquire(4)
    for last in range(4):
        ring.tell(last_index=last)
    ring.store.event_log.trim({ring.stream.key: 3})
    view = ring.opened().cursor().read()
    assert view is not None
    np.testing.assert_array_equal(view.get_data(), frames(0, 1, 2, 3))


# ---------------------------------------------------------------------------------- waiting


def test_a_waiting_reader_is_woken_by_events(
    saved: Published, camera: Camera, files: Files, background: ThreadPoolExecutor
) -> None:
    camera.acquire(9)
    saved.tell(last_index=8)
    reading = background.submit(lambda: saved.stream[0])
    files.save(0)
    saved.tell(last_index=8, last_index_saved=4)
    saved.tell(last_index=8, last_index_saved=5)
    np.testing.assert_array_equal(reading.result(LONG_S), frame(0, 0))


@pytest.mark.usefixtures("impatient")
def test_a_waiting_reader_learns_that_nobody_goes_on(
    plain_store: DataStore, camera: Camera, files: Files, background: ThreadPoolExecutor
) -> None:
    saved = Published(plain_store, camera, saving=files.saving)
    camera.acquire(9)
    saved.tell(last_index=8)
    reading = background.submit(lambda: saved.stream[0])
    # Closed by somebody else, as the memory tracker does with a scan whose publisher died.
    document = saved.store.catalog.load(saved.scan.key).document
    saved.store.catalog.advance(saved.scan.key, 2, 4, document)
    with pytest.raises(IndexNoMoreThereError, match="stopped before it was saved"):
        reading.result(LONG_S + 5 * WAIT_SLICE_S)


def test_the_files_beside_the_scans_own_may_be_read(
    memory_store: DataStore, camera: Camera, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BLISSDATA_DATA_ROOTS")
    files.save(0)
    for path, allowed in ((files.directory / "scan.h5", True), ("/elsewhere/scan.h5", False)):
        monkeypatch.setitem(IDENTITY, "path", str(path))
        saved = Published(memory_store, camera, saving=files.saving)
        saved.tell(last_index=4, last_index_saved=4)
        saved.writer.seal()
        for stream in (saved.stream, saved.writer):
            if allowed:
                np.testing.assert_array_equal(stream[0], frame(0, 0))
            else:
                with pytest.raises(IndexNoMoreThereError, match="not below the data roots"):
                    stream[0]


def test_the_roots_may_be_given(
    memory_store: DataStore,
    camera: Camera,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("BLISSDATA_DATA_ROOTS")
    files.save(0)
    saved = Published(memory_store, camera, saving=files.saving)
    saved.tell(last_index=4, last_index_saved=4)
    saved.writer.seal()
    with pytest.raises(IndexNoMoreThereError, match="not below the data roots"):
        saved.stream[0]
    stream = LimaStream(saved.stream.event_stream, roots=files.directory)
    np.testing.assert_array_equal(stream[0], frame(0, 0))
    stream = LimaStream(saved.stream.event_stream, roots=[files.directory / "elsewhere"])
    with pytest.raises(IndexNoMoreThereError, match="not below the data roots"):
        stream[0]


# ---------------------------------------------------------------------------------- broken ones


@pytest.mark.parametrize(
    "change",
    [
        {"lima_info": None},
        {"lima_info": {"protocol_version": 2}},
        {"lima_info": {"protocol_version": 1, "server_url": 5}},
        {"dtype": "no dtype"},
        {"shape": "6x8"},
    ],
    ids=str,
)
def test_a_stream_that_makes_no_sense_breaks_alone(
    memory_store: DataStore, change: dict[str, Any]
) -> None:
    info = LimaStream.make_definition("c", "u2", (6, 8), "u", 1, 2, 3).info
    scan = memory_store.create_scan(IDENTITY)
    diode = scan.create_stream("diode", dtype="float64")
    pk = scan.key.rpartition("{")[2].removesuffix("}")
    document = memory_store.catalog.new_stream(pk, {"type": "json"}, {**info, **change})
    scan._document.streams["camera"] = document
    scan.prepare()
    streams = memory_store.load_scan(scan.key).streams
    assert isinstance(streams["camera"], BrokenPluginStream)
    with pytest.raises((ValueError, TypeError)):
        len(streams["camera"])
    diode.send(1.5)
    diode.join()
    assert streams["diode"][0] == 1.5


def test_counters_are_where_protocol_1_has_them(stack_store: DataStore) -> None:
    url = "tango://host:10000/id00/camera/1"
    prepare_next_lima_acquisition(stack_store, url)
    assert prepare_next_lima_acquisition(stack_store, url) == 1
    assert stack_store._redis is not None
    assert stack_store._redis.get(url) == b"1"
    stack_store._redis.set(url, 41)
    assert acquisition_on_server(stack_store, url) == 41


def test_waiting_asks_the_device_once(
    saved: Published, camera: Camera, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    camera.acquire(3)
    saved.tell(last_index=2)
    with camera.held(tmp_path / "gate") as reached:
        reading = background.submit(lambda: saved.stream[1])
        wait_until(reached.exists)
    np.testing.assert_array_equal(reading.result(LONG_S), frame(0, 1))


# ---------------------------------------------------------------------------------- where frames are


def between(start: int, stop: int) -> Ranges:
    return Ranges.between(start, stop)


def test_frames_are_with_the_detector_in_closed_files_or_on_their_way(
    saved: Published, camera: Camera, files: Files
) -> None:
    found = saved.stream.availability()
    assert (found.length, found.places) == (0, (Place.DETECTOR, Place.FILE))
    saved.tell(last_index=6, last_index_saved=5)
    files.save(0)
    found = saved.stream.availability()
    assert (found.length, found.sealed) == (7, False)
    assert found.detector == between(3, 7)  # it keeps 4
    assert found.file == between(0, 5)  # 5 a file, and the next one is begun
    assert found.pending == found.gone == between(0, 0)
    saved.tell(last_index=12, last_index_saved=7)
    found = saved.stream.availability()
    assert (found.detector, found.file) == (between(9, 13), between(0, 5))
    assert found.pending == between(5, 9)
    (file,) = found.files
    assert file.path == files.saving["file_path"]
    assert file.item == "/entry_0000/measurement/data"


def test_what_was_not_saved_when_it_stopped_is_gone(saved: Published, files: Files) -> None:
    saved.tell(last_index=12, last_index_saved=6)
    files.save(0)
    files.save(1, frames=2)
    saved.scan.stop()
    found = saved.stream.availability()
    assert (found.file, found.detector) == (between(0, 7), between(9, 13))
    assert (found.pending, found.gone) == (between(0, 0), between(7, 9))
    with pytest.raises(IndexNoMoreThereError, match="frames 7 and later are in no closed file"):
        saved.stream.wait_available(8)


def test_frames_that_are_not_saved_are_gone_when_the_ring_went_round(ring: Published) -> None:
    ring.tell(last_index=9)
    found = ring.stream.availability()
    assert (found.detector, found.gone) == (between(6, 10), between(0, 6))
    with pytest.raises(ValueError, match="no place 'file'; its places are: detector"):
        ring.stream.wait_available(0, "file")
    with pytest.raises(IndexNoMoreThereError, match="its ring has only frames 6–9"):
        ring.stream.wait_available(0)


def test_a_detector_that_is_prepared_anew_has_none_of_the_frames(ring: Published) -> None:
    ring.tell(last_index=2)
    assert ring.stream.availability().detector == between(0, 3)
    prepare_next_lima_acquisition(ring.store, ring.stream.info["lima_info"]["server_url"])
    found = ring.stream.availability()
    assert (found.detector, found.gone) == (between(0, 0), between(0, 3))


def test_a_file_that_is_not_there_has_no_frames(saved: Published, files: Files) -> None:
    saved.tell(last_index=12, last_index_saved=10)
    files.save(1)
    found = saved.stream.availability()
    assert found.file == between(5, 10)
    assert "img_0000.h5" in str(found.files[0].why)
    files.save(0)
    assert saved.stream.availability().file == between(0, 10)


def test_a_detector_that_saved_more_than_can_be_is_not_believed(saved: Published) -> None:
    """However many files it speaks of, a question ends; and none of them is there."""
    saved.tell(last_index=2**61, last_index_saved=2**61)
    (found,) = availability_of([saved.stream]).values()
    assert found.problem is None
    assert found.file == between(0, 0)
    assert found.pending.count > 2**60
    with pytest.raises(DataTimeoutError):
        saved.stream.wait_available(3, "file", timeout=0)


def test_who_waits_for_a_frame_in_a_file_is_woken_by_the_detectors_news(
    saved: Published, files: Files, background: ThreadPoolExecutor
) -> None:
    saved.tell(last_index=3)
    waiting = background.submit(saved.stream.wait_available, 3, "file", LONG_S)
    files.save(0)
    saved.tell(last_index=6, last_index_saved=4)
    assert not waiting.done()
    saved.tell(last_index=6, last_index_saved=5)
    assert waiting.result(LONG_S).file == between(0, 5)
    assert saved.stream.wait_available(6, "detector", 0).length == 7


@pytest.mark.parametrize("offset", [0, 3])
def test_the_ring_holds_frames_of_one_acquisition(offset: int) -> None:
    """7 frames an acquisition, a ring of 4: the present acquisition's frames alone can be asked for."""
    layout = LimaLayout(
        "tango://camera", 4, 7, offset, FilePattern("/d/%04d.h5", None, "HDF5", 0, 3)
    )
    for last in range(30):
        for acquisition in range(-1, 5):
            found = layout.ring_of_acquisition(last, acquisition + offset)
            expected = [
                f for f in range(last + 1) if layout.in_ring(f, last) and f // 7 == acquisition
            ]
            assert list(found) == expected


@pytest.mark.parametrize("sealed", [False, True])
def test_closed_files_are_counted_as_each_frame_says(sealed: bool) -> None:
    layout = LimaLayout("tango://camera", 4, 7, 0, FilePattern("/d/%04d.h5", None, "HDF5", 0, 3))
    for last_saved in range(-1, 30):
        files, frames = layout.in_closed_files(last_saved, sealed)
        assert frames == sum(layout.is_closed(f, last_saved, sealed) for f in range(40))
        assert files == len({layout.file_index(f)[0] for f in range(frames)})
        assert [layout.first_of_file(n) for n in range(files)] == [
            f for f in range(frames) if layout.file_index(f)[1] == 0
        ]
