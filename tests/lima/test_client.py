"""A client of a detector: what it takes from where, with a real Tango device and real files.

counters      prepare_next_lima_acquisition, acquisition_on_server
ring          its two ends, another acquisition before and while reading, overrun while reading, frame
              ids, headers without one, a device that is away
files         closed ones first, missing, damaged, refused; whole slices at once
waiting       until the file is closed, until the detector stops, until the time is up
live          newest, none yet, accumulation of older versions, triggers
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lima_blocks import frame
from lima_kit import LONG_S, Camera, Files, wait_until

from blissdata import DataStore
from blissdata.exceptions import (
    ImageServerError,
    IndexNoMoreThereError,
    IndexNotYetThereError,
    IndexWontBeThereError,
    MissingExtraError,
)
from blissdata.lima import image_files
from blissdata.lima.client import (
    ImageReference,
    LimaClient,
    acquisition_on_server,
    prepare_next_lima_acquisition,
)
from blissdata.lima.image_utils import (
    NoImageAvailable,
    image_from_server,
    read_video_last_image,
)


class Detector:
    """What is known of a camera, and a client that asks for it."""

    def __init__(self, store: DataStore, camera: Camera, **lima_info: Any) -> None:
        self.status: dict[str, Any] = {}
        self.asked = 0
        self.client = LimaClient(
            store,
            self.tell,
            **{
                "protocol_version": 1,
                "server_url": camera.url,
                "buffer_max_number": 4,
                "frame_per_acquisition": 100,
                "acquisition_offset": 0,
                **lima_info,
            },
        )

    def tell(self) -> None:
        self.asked += 1
        self.client.update(**self.status)

    def knows(self, **status: Any) -> None:
        self.status = status
        self.tell()


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def test_acquisitions_are_counted_from_0(memory_store: DataStore) -> None:
    assert acquisition_on_server(memory_store, "camera") == -1
    assert prepare_next_lima_acquisition(memory_store, "camera") == 0
    assert prepare_next_lima_acquisition(memory_store, "camera") == 1
    assert acquisition_on_server(memory_store, "camera") == 1
    assert prepare_next_lima_acquisition(memory_store, "other") == 0


def test_the_protocol_is_checked(memory_store: DataStore) -> None:
    assert LimaClient.PROTOCOL_VERSION == 1
    with pytest.raises(ValueError, match="found version 2"):
        LimaClient(memory_store, lambda: None, protocol_version=2, server_url="x")


# ---------------------------------------------------------------------------------- the ring


@pytest.fixture
def prepared(memory_store: DataStore, camera: Camera) -> Detector:
    """A detector at its first acquisition, whose frames are not saved."""
    prepare_next_lima_acquisition(memory_store, camera.url)
    return Detector(memory_store, camera)


def test_frames_come_from_the_ring(prepared: Detector, camera: Camera) -> None:
    camera.acquire(6)
    prepared.knows(last_index=5)
    assert len(prepared.client) == 6
    for index in range(2, 6):
        np.testing.assert_array_equal(prepared.client[index], frame(0, index), strict=True)
    for index in range(2):
        with pytest.raises(IndexNoMoreThereError, match="keeps 4 frames, and has taken 6"):
            prepared.client[index]
    with pytest.raises(IndexNotYetThereError, match="6 frames so far"):
        prepared.client[6]
    np.testing.assert_array_equal(
        prepared.client[2:100], np.stack([frame(0, i) for i in range(2, 6)]), strict=True
    )
    np.testing.assert_array_equal(
        prepared.client[5:1:-2], np.stack([frame(0, 5), frame(0, 3)]), strict=True
    )
    assert len(prepared.client[6:]) == 0


def test_the_newest_is_what_the_detector_has(prepared: Detector, camera: Camera) -> None:
    with pytest.raises(NoImageAvailable):
        prepared.client[-1]
    camera.acquire(6)
    prepared.knows(last_index=2)
    np.testing.assert_array_equal(prepared.client[-1], frame(0, 5))
    with pytest.raises(IndexNotYetThereError, match="counts from the end"):
        prepared.client[-2]
    prepared.knows(last_index=5, sealed=True)
    np.testing.assert_array_equal(prepared.client[-1], frame(0, 5))
    np.testing.assert_array_equal(prepared.client[-3], frame(0, 3))
    with pytest.raises(IndexError, match="no index -7"):
        prepared.client[-7]
    with pytest.raises(IndexWontBeThereError, match="there will be no index 6"):
        prepared.client[6]


def test_a_sealed_stream_does_not_show_another_acquisition(
    prepared: Detector, camera: Camera, memory_store: DataStore
) -> None:
    camera.acquire(3)
    prepared.knows(last_index=2, sealed=True)
    prepare_next_lima_acquisition(memory_store, camera.url)
    camera.prepare()
    camera.acquire(3)
    with pytest.raises(IndexNoMoreThereError, match="is at its acquisition 1, the frame was in 0"):
        prepared.client[-1]


def test_another_acquisition_has_other_frames(
    prepared: Detector, camera: Camera, memory_store: DataStore
) -> None:
    camera.acquire(3)
    prepared.knows(last_index=2)
    prepare_next_lima_acquisition(memory_store, camera.url)
    with pytest.raises(IndexNoMoreThereError, match="is at its acquisition 1, the frame was in 0"):
        prepared.client[2]


def test_a_detector_that_was_never_prepared_has_none(
    memory_store: DataStore, camera: Camera
) -> None:
    detector = Detector(memory_store, camera)
    camera.acquire(1)
    detector.knows(last_index=0)
    with pytest.raises(IndexNoMoreThereError, match="is at its acquisition -1"):
        detector.client[0]


def test_a_scan_of_several_acquisitions(memory_store: DataStore, camera: Camera) -> None:
    prepare_next_lima_acquisition(memory_store, camera.url)
    offset = prepare_next_lima_acquisition(memory_store, camera.url)
    camera.prepare()
    detector = Detector(memory_store, camera, frame_per_acquisition=2, acquisition_offset=offset)
    camera.acquire(2)
    detector.knows(last_index=1)
    np.testing.assert_array_equal(detector.client[1], frame(1, 1))
    prepare_next_lima_acquisition(memory_store, camera.url)
    camera.prepare()
    camera.acquire(1)
    detector.knows(last_index=2)
    np.testing.assert_array_equal(detector.client[2], frame(2, 0))
    with pytest.raises(IndexNoMoreThereError):
        detector.client[1]


def test_an_endless_acquisition(memory_store: DataStore, camera: Camera) -> None:
    prepare_next_lima_acquisition(memory_store, camera.url)
    detector = Detector(memory_store, camera, frame_per_acquisition=0)
    camera.acquire(2000)
    detector.knows(last_index=1999)
    np.testing.assert_array_equal(detector.client[1998], frame(0, 1998))


def test_a_reply_with_another_frame_does_not_count(prepared: Detector, camera: Camera) -> None:
    camera.set(offset=1)
    camera.acquire(3)
    prepared.knows(last_index=2)
    with pytest.raises(IndexNoMoreThereError, match="asked for its frame 1, the detector gave 2"):
        prepared.client[1]


def test_a_reply_that_does_not_say_which_frame_it_is_counts(
    prepared: Detector, camera: Camera
) -> None:
    camera.set(header_version=1)
    camera.acquire(3)
    prepared.knows(last_index=2)
    np.testing.assert_array_equal(prepared.client[1], frame(0, 1))


def test_what_the_detector_refuses_is_nowhere(prepared: Detector, camera: Camera) -> None:
    prepared.knows(last_index=2)
    with pytest.raises(IndexNoMoreThereError, match="not available yet"):
        prepared.client[1]
    camera.set(slots=1)
    camera.acquire(3)
    with pytest.raises(IndexNoMoreThereError, match="no longer in the buffer"):
        prepared.client[1]


def test_an_acquisition_that_begins_while_a_frame_is_read_spoils_it(
    prepared: Detector,
    camera: Camera,
    memory_store: DataStore,
    tmp_path: Path,
    background: ThreadPoolExecutor,
) -> None:
    camera.acquire(3)
    prepared.knows(last_index=2)
    with camera.held(tmp_path / "gate") as reached:
        reading = background.submit(lambda: prepared.client[1])
        wait_until(reached.exists)
        prepare_next_lima_acquisition(memory_store, camera.url)
        camera.prepare()
        camera.acquire(3)  # it has a frame 1 again: another one
    with pytest.raises(IndexNoMoreThereError, match="is at its acquisition 1"):
        reading.result(LONG_S)


def test_a_ring_that_goes_round_while_a_frame_is_read_spoils_it(
    prepared: Detector, camera: Camera, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    camera.set(header_version=1, slots=100)  # it neither refuses nor tells which frame it gives
    camera.acquire(3)
    prepared.knows(last_index=2)
    with camera.held(tmp_path / "gate") as reached:
        reading = background.submit(lambda: prepared.client[1])
        wait_until(reached.exists)
        camera.acquire(7)
        prepared.status = {"last_index": 9}
    with pytest.raises(IndexNoMoreThereError, match="keeps 4 frames, and has taken 10"):
        reading.result(LONG_S)


def test_a_ring_that_goes_round_on_the_device_is_noticed_there(
    prepared: Detector, camera: Camera, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    camera.acquire(3)
    prepared.knows(last_index=2)
    with camera.held(tmp_path / "gate") as reached:
        reading = background.submit(lambda: prepared.client[1])
        wait_until(reached.exists)
        camera.acquire(7)
    with pytest.raises(IndexNoMoreThereError, match="no longer in the buffer"):
        reading.result(LONG_S)


def test_a_device_that_is_away_has_nothing(memory_store: DataStore, camera: Camera) -> None:
    url = "tango://127.0.0.1:1/test/camera/1#dbase=no"
    prepare_next_lima_acquisition(memory_store, url)
    detector = Detector(memory_store, camera, server_url=url)
    detector.knows(last_index=2)
    with pytest.raises(IndexNoMoreThereError, match=r"127\.0\.0\.1:1"):
        detector.client[1]
    with pytest.raises(ImageServerError, match=r"127\.0\.0\.1:1"):
        detector.client.get_last_live_image()


def test_the_device_is_asked_itself(prepared: Detector) -> None:
    import tango

    assert prepared.client.proxy.get_source() == tango.DevSource.DEV
    assert type(prepared.client.proxy) is tango.DeviceProxy


# ---------------------------------------------------------------------------------- files


def test_references_tell_where_frames_are_saved(
    memory_store: DataStore, camera: Camera, files: Files
) -> None:
    detector = Detector(memory_store, camera, **files.lima_info)
    client = detector.client
    second = str(files.directory / "img_0001.h5")
    expected = ImageReference("HDF5", second, "/entry_0000/measurement/data", 2)
    assert client.get_references(7) == expected
    assert client.get_references(slice(None)) == []
    detector.knows(last_index=7)
    assert client.get_references(-1) == expected
    found = client.get_references(slice(4, None))
    assert isinstance(found, list)
    assert [(Path(r.file_path).name, r.index) for r in found] == [
        ("img_0000.h5", 4),
        ("img_0001.h5", 0),
        ("img_0001.h5", 1),
        ("img_0001.h5", 2),
    ]
    with pytest.raises(IndexNotYetThereError):
        client.get_references(-2)
    detector.knows(last_index=8, sealed=True)
    assert client.get_references(-2) == expected


def test_frames_that_are_not_saved_have_no_reference(prepared: Detector) -> None:
    with pytest.raises(RuntimeError, match="not saved"):
        prepared.client.get_references(0)


@pytest.mark.parametrize("key", [1.0, "1", None, True, (1, 2)], ids=repr)
def test_indices_are_integers_and_slices(prepared: Detector, key: Any) -> None:
    with pytest.raises(TypeError, match="integers or slices"):
        prepared.client[key]
    with pytest.raises(TypeError, match="integers or slices"):
        prepared.client.get_references(key)


def test_closed_files_come_first_and_need_no_detector(
    memory_store: DataStore, files: Files
) -> None:
    client = LimaClient(
        memory_store,
        lambda: None,
        protocol_version=1,
        server_url="tango://127.0.0.1:1/nobody/is/there#dbase=no",
        buffer_max_number=100,
        frame_per_acquisition=100,
        acquisition_offset=0,
        **files.lima_info,
    )
    for number in range(3):
        files.save(number)
    client.update(last_index=14, last_index_saved=14, sealed=True)
    expected = np.stack([frame(0, i) for i in range(15)])
    for index in (0, 7, 14, -1, -15):
        np.testing.assert_array_equal(client[index], expected[index], strict=True)
    for key in (slice(None), slice(3, 12), slice(None, None, 4), slice(12, 2, -1), slice(4, 6)):
        np.testing.assert_array_equal(client[key], expected[key], strict=True)


def test_a_slice_opens_each_file_once(
    memory_store: DataStore, camera: Camera, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blissdata.lima import client as module

    detector = Detector(memory_store, camera, **files.lima_info)
    for number in range(3):
        files.save(number)
    detector.knows(last_index=14, last_index_saved=14, sealed=True)
    opened = []

    def counting(path: str, *args: Any) -> image_files.ImageFile:
        opened.append(Path(path).name)
        return image_files.open_images(path, *args)

    monkeypatch.setattr(module, "open_images", counting)
    assert len(detector.client[2:]) == 13
    assert opened == ["img_0000.h5", "img_0001.h5", "img_0002.h5"]


def test_a_closed_file_that_is_missing_leaves_the_ring(
    memory_store: DataStore, camera: Camera, files: Files
) -> None:
    prepare_next_lima_acquisition(memory_store, camera.url)
    detector = Detector(memory_store, camera, **files.lima_info)
    camera.acquire(10)
    detector.knows(last_index=9, last_index_saved=9, sealed=True)
    np.testing.assert_array_equal(detector.client[7], frame(0, 7))
    np.testing.assert_array_equal(detector.client[6:9], np.stack([frame(0, i) for i in (6, 7, 8)]))
    with pytest.raises(IndexNoMoreThereError, match=r"no file .*img_0000\.h5.*keeps 4 frames"):
        detector.client[3]
    files.save(0, frames=2)
    np.testing.assert_array_equal(detector.client[1], frame(0, 1))
    with pytest.raises(IndexNoMoreThereError, match="has 2 images, not 3"):
        detector.client[3]
    (files.directory / "img_0000.h5").write_bytes(b"no HDF5 at all")
    with pytest.raises(IndexNoMoreThereError, match="file signature not found"):
        detector.client[3]


def test_a_file_outside_the_roots_is_not_opened(
    memory_store: DataStore, camera: Camera, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.save(0)
    monkeypatch.setenv("BLISSDATA_DATA_ROOTS", str(files.directory / "elsewhere"))
    detector = Detector(memory_store, camera, **files.lima_info)
    detector.knows(last_index=4, last_index_saved=4, sealed=True)
    with pytest.raises(IndexNoMoreThereError, match="not below the data roots"):
        detector.client[0]


def test_frames_of_different_shapes_make_no_array(
    memory_store: DataStore, camera: Camera, files: Files
) -> None:
    import h5py

    detector = Detector(memory_store, camera, **files.lima_info)
    files.save(0)
    with h5py.File(files.save(1), "w") as file:
        file["/entry_0000/measurement/data"] = np.zeros((5, 3, 3))
    detector.knows(last_index=9, last_index_saved=9, sealed=True)
    with pytest.raises(ValueError, match="frame 5 is"):
        detector.client[:]
    assert detector.client[5].shape == (3, 3)


# ---------------------------------------------------------------------------------- waiting


@pytest.fixture
def saving(memory_store: DataStore, camera: Camera, files: Files) -> Detector:
    """A detector that has taken 10 frames; the ring has the last 4, and none is saved yet."""
    prepare_next_lima_acquisition(memory_store, camera.url)
    detector = Detector(memory_store, camera, **files.lima_info)
    camera.acquire(10)
    detector.knows(last_index=9)
    return detector


def test_a_frame_that_left_the_ring_is_waited_for(
    saving: Detector, files: Files, background: ThreadPoolExecutor
) -> None:
    reading = background.submit(lambda: saving.client[1])
    before = saving.asked
    wait_until(lambda: saving.asked > before + 1)
    files.save(0)
    saving.status = {"last_index": 9, "last_index_saved": 4}
    before = saving.asked
    wait_until(lambda: saving.asked > before + 1)
    assert not reading.done()  # saved, but its file is not closed yet
    saving.status = {"last_index": 9, "last_index_saved": 5}
    np.testing.assert_array_equal(reading.result(LONG_S), frame(0, 1))


def test_the_ring_is_not_waited_for(saving: Detector) -> None:
    before = saving.asked
    np.testing.assert_array_equal(saving.client[8], frame(0, 8))
    assert saving.asked == before + 1


def test_a_frame_that_will_never_be_saved_is_not_waited_for(
    saving: Detector, background: ThreadPoolExecutor
) -> None:
    reading = background.submit(lambda: saving.client[1])
    before = saving.asked
    wait_until(lambda: saving.asked > before + 1)
    saving.status = {"last_index": 9, "last_index_saved": 0, "sealed": True}
    with pytest.raises(IndexNoMoreThereError, match="stopped before it was saved"):
        reading.result(LONG_S)


def test_the_file_of_a_detector_that_stopped_is_closed(
    saving: Detector, files: Files, background: ThreadPoolExecutor
) -> None:
    reading = background.submit(lambda: saving.client[1])
    files.save(0, frames=3)
    saving.status = {"last_index": 9, "last_index_saved": 2, "sealed": True}
    np.testing.assert_array_equal(reading.result(LONG_S), frame(0, 1))


def test_a_wait_without_news_ends(saving: Detector) -> None:
    saving.client.file_timeout = 0.05
    with pytest.raises(IndexNotYetThereError, match=r"frame 1 is in no closed file yet.*0\.05 s"):
        saving.client[1]


def test_a_wait_goes_on_while_there_are_news(
    saving: Detector, files: Files, background: ThreadPoolExecutor
) -> None:
    saving.client.file_timeout = 3 * LONG_S
    started = time.monotonic()
    reading = background.submit(lambda: saving.client[1])
    stop = threading.Event()
    for last in range(10, 15):
        saving.status = {"last_index": last}
        before = saving.asked
        wait_until(lambda before=before: saving.asked > before)
    stop.set()
    files.save(0)
    saving.status = {"last_index": 15, "last_index_saved": 5}
    np.testing.assert_array_equal(reading.result(LONG_S), frame(0, 1))
    assert time.monotonic() - started < saving.client.file_timeout


# ---------------------------------------------------------------------------------- without Tango


def test_without_tango_files_still_work(
    memory_store: DataStore, camera: Camera, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tango", None)
    prepare_next_lima_acquisition(memory_store, camera.url)
    detector = Detector(memory_store, camera, **files.lima_info)
    detector.client.file_timeout = 0.01
    files.save(0)
    detector.knows(last_index=8, last_index_saved=5)
    np.testing.assert_array_equal(detector.client[:5], np.stack([frame(0, i) for i in range(5)]))
    for use in (lambda c: c[6], lambda c: c[-1], lambda c: c.get_last_live_image()):
        with pytest.raises(MissingExtraError, match=r"blissdata\[tango\]"):
            use(detector.client)
    with pytest.raises(IndexNotYetThereError):  # not in the ring anyway
        Detector(memory_store, camera, **files.lima_info).client[0]


def test_without_tango_a_frame_of_the_ring_is_awaited_in_its_file(
    saving: Detector,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    background: ThreadPoolExecutor,
) -> None:
    monkeypatch.setitem(sys.modules, "tango", None)
    reading = background.submit(lambda: saving.client[8])
    before = saving.asked
    wait_until(lambda: saving.asked > before + 1)
    files.save(1)
    saving.status = {"last_index": 10, "last_index_saved": 10}
    np.testing.assert_array_equal(reading.result(LONG_S), frame(0, 8))


def test_tango_is_not_imported_before_it_is_needed() -> None:
    program = (
        "import sys, blissdata.lima.client, blissdata.streams.lima\n"
        "heavy = {'tango', 'fabio', 'cv2', 'h5py', 'redis', 'hdf5plugin'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_under_gevent_it_is_tangos_cooperative_client_that_asks(camera: Camera) -> None:
    program = f"""
from gevent import monkey
monkey.patch_all()
import gevent, tango, tango.gevent
from blissdata.lima.client import LimaClient
class Store:
    def current_acquisition(self, detector): return 0
client = LimaClient(Store(), lambda: None, protocol_version=1, server_url={camera.url!r},
                    buffer_max_number=4, frame_per_acquisition=9, acquisition_offset=0)
client.update(last_index=2)
assert client.proxy.get_green_mode() == tango.GreenMode.Gevent, client.proxy.get_green_mode()
greenlet = gevent.spawn(lambda: client[1])
print(greenlet.get(timeout=20)[0, :2].tolist())
"""
    camera.acquire(3)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[1000, 1001]", done.stderr


# ---------------------------------------------------------------------------------- live images


def test_the_live_image_is_the_newest(prepared: Detector, camera: Camera) -> None:
    with pytest.raises(NoImageAvailable, match="not available yet"):
        prepared.client.get_last_live_image()
    camera.acquire(3)
    image = prepared.client.get_last_live_image()
    np.testing.assert_array_equal(image.array, frame(0, 2))
    assert (image.frame_id, image.acq_tag) == (2, None)


@pytest.mark.parametrize(
    ("trigger", "last_index", "frame_id"),
    [
        ("INTERNAL_TRIGGER", 5, None),
        ("INTERNAL_TRIGGER", -1, None),
        ("INTERNAL_TRIGGER", 0, 0),
        ("EXTERNAL_TRIGGER", 5, 0),
    ],
)
def test_a_frame_id_of_0_may_mean_nothing(
    prepared: Detector, camera: Camera, trigger: str, last_index: int, frame_id: int | None
) -> None:
    camera.set(acq_trigger_mode=trigger, offset=-2)
    camera.acquire(3)
    prepared.knows(last_index=last_index)
    assert prepared.client.get_last_live_image().frame_id == frame_id


@pytest.mark.parametrize(
    ("mode", "version", "asks_for"),
    [
        ("ACCUMULATION", "1.9.9", 2),
        ("ACCUMULATION", "1.9", 2),
        ("ACCUMULATION", "1.10.0", -1),
        ("ACCUMULATION", "1.10", -1),
        ("ACCUMULATION", "2.0", -1),
        ("ACCUMULATION", "unknown", 2),
        ("SINGLE", "1.9.9", -1),
    ],
)
def test_old_versions_are_asked_otherwise_in_accumulation(
    prepared: Detector, camera: Camera, mode: str, version: str, asks_for: int
) -> None:
    camera.set(acq_mode=mode, lima_version=version)
    camera.acquire(3)
    image = prepared.client.get_last_live_image()
    np.testing.assert_array_equal(image.array, frame(0, 2))
    assert camera.device.last_asked == asks_for


def test_an_image_from_the_server(camera: Camera) -> None:
    with pytest.raises(NoImageAvailable, match="not available yet"):
        image_from_server(camera.device, 0)
    camera.acquire(6)
    image = image_from_server(camera.device, 3)
    np.testing.assert_array_equal(image.array, frame(0, 3))
    assert (image.frame_id, image.acq_tag) == (3, 0)
    with pytest.raises(RuntimeError, match="no longer in the buffer") as caught:
        image_from_server(camera.device, 0)
    assert not isinstance(caught.value, NoImageAvailable)


def test_an_error_that_is_not_tangos_is_not_explained_away() -> None:
    class Odd:
        def readImage(self, index: int) -> None:  # noqa: N802 — Lima's name
            raise ZeroDivisionError("odd")

    with pytest.raises(ZeroDivisionError):
        image_from_server(Odd(), 0)


def test_a_picture_from_the_server(camera: Camera) -> None:
    assert read_video_last_image(camera.device) is None
    camera.acquire(2)
    image = read_video_last_image(camera.device)
    assert image is not None
    np.testing.assert_array_equal(image.array, frame(0, 1))
    assert image.frame_id == 1
