"""The buffer: what it refuses, what is waited for, who saves, what readers get from where."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fabio
import h5py
import numpy as np
import psutil
import pytest
from tests.frames.formula import frame, is_right

from blissdata import DataStore, Scan
from blissdata.exceptions import (
    DataFileRefusedError,
    FileWriteError,
    ImageServerError,
    IndexNoMoreThereError,
    IndexNotYetThereError,
    MissingExtraError,
    PayloadError,
    PointsNotInFileError,
    PublishError,
)
from blissdata.streams.frames import FrameBuffer, FramesStream, Saving, buffer
from blissdata.streams.frames import stream as stream_module
from blissdata.streams.frames.ring import DIRECTORY_VARIABLE, RingUnreachableError

SHAPE = (8, 16)


def begun(scan: Scan, made: FrameBuffer) -> FramesStream:
    """The buffer's stream, of a scan that runs."""
    stream = scan.create_stream(made.definition("camera"))
    scan.prepare()
    scan.start()
    assert isinstance(stream, FramesStream)
    return stream


def opened(store: DataStore, scan: Scan, *, elsewhere: bool = False) -> Any:
    """The stream as a reader has it."""
    stream = store.load_scan(scan.key).streams["camera"]
    assert isinstance(stream, FramesStream)
    if elsewhere:
        stream._no_ring = "it is elsewhere"
    return stream


def paused(pid: int) -> None:
    """Stops a process where it is, and waits until it stands."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def put(made: FrameBuffer, count: int, shape: tuple[int, ...] = SHAPE) -> None:
    for index in range(made.taken, made.taken + count):
        made.put(frame(index, shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": 255}, "255 bytes is smaller than one frame, which has 256"),
        ({"slots": 0}, "at least one slot"),
        ({"slots": 4, "memory": 4096}, "not both"),
        ({"saving": Saving("img.h5")}, "absolute path"),
        ({"saving": Saving("/data/img.h5", frames_per_file=5)}, "one place for their number"),
        ({"saving": Saving("/data/%d.edf", file_format="EDF", frames_per_file=1)}, "by='detector'"),
        ({"saving": Saving("/data/a.h5", compression="zip")}, "compressed with"),  # type: ignore[arg-type]
    ],
    ids=["memory", "slots", "both", "relative", "no-number", "edf", "compression"],
)
def test_a_buffer_that_cannot_be_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrameBuffer(SHAPE, np.uint16, **{"serve": False, **options})


def test_as_many_slots_as_fit_into_the_memory() -> None:
    with FrameBuffer(SHAPE, np.uint16, memory=1000, serve=False) as made:
        assert made.slots == 3


def test_a_frame_that_does_not_fit_is_refused_and_the_next_one_is_taken(
    memory_store: DataStore, scan: Scan
) -> None:
    with FrameBuffer(SHAPE, np.uint16, 4, serve=False) as made:
        with pytest.raises(PublishError, match="belongs to no stream yet"):
            made.put(frame(0, SHAPE))
        camera = begun(scan, made)
        with pytest.raises(TypeError, match=r"expected numpy.uint16, received numpy.int32"):
            made.put(np.zeros(SHAPE, np.int32))
        with pytest.raises(ValueError, match=r"expected shape \(8, 16\), received \(16, 8\)"):
            camera.send(np.zeros((16, 8), np.uint16))
        with pytest.raises(TypeError, match="expected an array"):
            made.put([[1]])  # type: ignore[arg-type]
        assert made.put(frame(0, SHAPE)) == 0
        camera.join()
        assert is_right(opened(memory_store, scan)[0], 0)


def test_frames_are_written_in_place_or_not_at_all(memory_store: DataStore, scan: Scan) -> None:
    with FrameBuffer(SHAPE, np.uint16, 2, serve=False) as made:
        camera = begun(scan, made)
        with pytest.raises(RuntimeError, match="no slot to commit"):
            made.commit()
        with pytest.raises(ZeroDivisionError), made.writing() as slot:
            slot[:] = 1 // 0
        assert made.taken == 0
        with made.writing() as slot:
            slot[:] = frame(0, SHAPE)
        camera.send(np.stack([frame(1, SHAPE), frame(2, SHAPE)]))
        camera.join()
        reader = opened(memory_store, scan)
        assert all(is_right(reader[index], index) for index in (1, 2))
        with pytest.raises(IndexNoMoreThereError, match=r"frame 2 took its place at .* not saved"):
            reader[0]
        found = reader.availability()
        assert (str(found.detector), str(found.gone)) == ("1–2", "0")


def test_a_closed_buffer_takes_nothing_and_its_frames_are_gone(
    memory_store: DataStore, scan: Scan
) -> None:
    with FrameBuffer(SHAPE, np.uint16, 4, serve=False) as made:
        begun(scan, made)
        put(made, 2)
        scan.stop()
        reader = opened(memory_store, scan)
        assert is_right(reader[1], 1)
    with pytest.raises(PublishError, match="closed"):
        put(made, 1)
    with pytest.raises(IndexNoMoreThereError, match="the detector's buffer was closed"):
        reader[1]
    assert str(reader.availability().gone) == "0–1"
    assert len(reader) == 2


def test_a_fork_does_not_write_into_its_parents_ring(scan: Scan) -> None:
    with FrameBuffer(SHAPE, np.uint16, 4, serve=False) as made:
        begun(scan, made)
        put(made, 1)
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                put(made, 1)
            except PublishError as error:
                os.write(write, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(write)
        with os.fdopen(read) as said:
            assert "this one is a fork" in said.read()
        put(made, 1)


@pytest.mark.parametrize("compression", [None, "gzip", "bitshuffle"])
def test_what_the_buffer_saves_is_what_h5py_reads(
    memory_store: DataStore, scan: Scan, tmp_path: Path, compression: Any
) -> None:
    import hdf5plugin  # noqa: F401 — h5py alone does not read bitshuffle

    saving = Saving(tmp_path / "new" / "img_%03d.h5", frames_per_file=4, compression=compression)
    with FrameBuffer(SHAPE, np.uint16, 2, saving=saving, serve=False) as made:
        begun(scan, made)
        put(made, 10)
        scan.stop()
        assert made.saved == 10
        reader = opened(memory_store, scan)
        assert all(is_right(found, index) for index, found in enumerate(reader[:]))
        assert (reader.fetched["ring"], reader.fetched["file"]) == (2, 8)
    files = sorted((tmp_path / "new").iterdir())
    assert [file.name for file in files] == ["img_000.h5", "img_001.h5", "img_002.h5"]
    found = []
    for file in files:
        with h5py.File(file) as opened_file:
            found += list(opened_file["/entry/data/data"][()])
    assert len(found) == 10
    assert all(is_right(one, index) for index, one in enumerate(found))
    assert [r.index for r in reader.get_references(slice(2, 6))] == [2, 3, 0, 1]


def test_no_file_is_overwritten(scan: Scan, tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    path.write_bytes(b"somebody's")
    made = FrameBuffer(SHAPE, np.uint16, 2, saving=Saving(path), serve=False)
    with pytest.raises(FileWriteError, match=r"frame 0 cannot be saved.*exists"):
        made.definition("camera")
    assert path.read_bytes() == b"somebody's"


def test_a_saver_that_dies_is_told_of(memory_store: DataStore, scan: Scan, tmp_path: Path) -> None:
    with pytest.raises(FileWriteError, match="are not saved"):  # noqa: PT012, SIM117 — close() may raise it
        with FrameBuffer(
            SHAPE, np.uint16, 2, saving=Saving(tmp_path / "run.h5"), serve=False
        ) as made:
            begun(scan, made)
            put(made, 2)
            made.finish()
            assert made._saver is not None
            pid = made._saver._process.pid
            paused(pid)
            put(made, 1)  # taken for certain: one that is known to be dead is given no more
            os.kill(pid, signal.SIGKILL)
            put(made, 100)
    scan.close()
    reader = opened(memory_store, scan)
    found = reader.availability()
    assert (str(found.file), str(found.detector), str(found.pending)) == ("0–1", "", "")
    assert len(reader) > 2  # taken, and lost
    assert str(found.gone) == (f"2–{len(reader) - 1}" if len(reader) > 3 else "2")
    with pytest.raises(PointsNotInFileError, match="frame 2 can be had from nowhere"):
        reader[2]
    assert is_right(reader[1], 1)


def test_saving_that_does_not_keep_up_is_told_of(scan: Scan, tmp_path: Path) -> None:
    saving = Saving(tmp_path / "run.h5")
    with FrameBuffer(SHAPE, np.uint16, 2, saving=saving, serve=False, patience=0.1) as made:
        begun(scan, made)
        assert made._saver is not None
        pid = made._saver._process.pid
        paused(pid)
        with pytest.raises(FileWriteError, match="saving is behind"):
            put(made, 10)
        os.kill(pid, signal.SIGCONT)
        made._patience = 60.0
        put(made, 8)
        made.finish()
        assert made.saved == made.taken


def test_readers_elsewhere_get_frames_from_the_server(
    memory_store: DataStore, scan: Scan, tmp_path: Path
) -> None:
    with FrameBuffer((64, 64), np.uint16, 100, saving=Saving(tmp_path / "run.h5")) as made:
        begun(scan, made)
        put(made, 300, (64, 64))
        scan.stop()
        reader = opened(memory_store, scan, elsewhere=True)
        for found in (reader[:], list(reader), reader[299:150:-1][::-1]):
            first = 300 - len(found)
            assert all(is_right(one, first + index) for index, one in enumerate(found))
        assert reader.fetched["server"] > 0
        assert reader.fetched["file"] > 0
        assert str(reader.availability().detector) == "200–299"
        own = reader[299]
        own[:] = 0
        assert is_right(reader[299], 299)
    later = opened(memory_store, scan, elsewhere=True)
    assert is_right(later[299], 299)
    assert later.fetched["server"] == 0


def test_a_wrong_token_and_a_silent_server(memory_store: DataStore, scan: Scan) -> None:
    with FrameBuffer(SHAPE, np.uint16, 4) as made:
        begun(scan, made)
        put(made, 3)
        scan.stop()
        reader = opened(memory_store, scan, elsewhere=True)
        remote = reader._remote
        object.__setattr__(remote._server, "token", "00" * 16)
        with pytest.raises(IndexNoMoreThereError, match="the token of this stream is not its own"):
            reader[1]
        assert "token" in reader.availability().holdings[0].why
    gone = opened(memory_store, scan, elsewhere=True)
    with pytest.raises(IndexNoMoreThereError, match="nobody answers"):
        gone[1]
    with pytest.raises(ImageServerError, match="nobody answers"):
        gone._remote.held()


def test_without_hdf5plugin_there_is_a_name_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(buffer, "find_spec", lambda name: None)
    saving = Saving(tmp_path / "run.h5", compression="bitshuffle")
    with pytest.raises(MissingExtraError, match=r"bitshuffle.*blissdata\[files\]"):
        FrameBuffer(SHAPE, np.uint16, 4, saving=saving, serve=False)


def _save_others(file_format: str, path: str, images: list[Any]) -> None:
    if file_format == "EDF":
        fabio.edfimage.EdfImage(data=images[0]).write(path)
    elif file_format == "CBF":
        fabio.cbfimage.CbfImage(data=images[0].astype(np.int32)).write(path)
    elif file_format == "TIFF":
        fabio.tifimage.TifImage(data=images[0]).write(path)
    else:
        with h5py.File(path, "w") as file:
            file["/entry/data/data"] = np.stack(images)


@pytest.mark.parametrize(
    ("file_format", "per_file", "dtype"),
    [("EDF", 1, "u2"), ("CBF", 1, "i4"), ("TIFF", 1, "u2"), ("HDF5", 2, "u2"), ("HDF5", 0, "f4")],
    ids=str,
)
def test_files_that_the_detector_saves(
    memory_store: DataStore, scan: Scan, tmp_path: Path, file_format: str, per_file: int, dtype: str
) -> None:
    frames = [(np.arange(128) % 50 + index).reshape(SHAPE).astype(dtype) for index in range(4)]
    path = str(tmp_path / ("img_%02d.dat" if per_file else "img.h5"))
    saving = Saving(path, file_format=file_format, frames_per_file=per_file, by="detector")
    with FrameBuffer(SHAPE, dtype, 1, saving=saving, serve=False) as made:
        camera = begun(scan, made)
        for one in frames:
            made.put(one)
        with pytest.raises(ValueError, match="5 frames cannot be saved"):
            made.tell_saved(5)
        for number in range(0, 4, per_file or 4):
            name = path % (number // per_file) if per_file else path
            _save_others(file_format, name, frames[number : number + (per_file or 4)])
        camera.join()
        reader = opened(memory_store, scan)
        made.tell_saved(4)
        camera.join()
        np.testing.assert_array_equal(reader[:], np.stack(frames), strict=True)
        assert reader.fetched["file"] == 3


@pytest.mark.parametrize("trouble", ["missing", "dtype", "shape", "half", "outside", "fewer"])
def test_files_that_are_not_as_they_should_be(
    memory_store: DataStore,
    scan: Scan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    path = tmp_path / "img.h5"
    with FrameBuffer(SHAPE, np.uint16, 1, saving=Saving(path, by="detector"), serve=False) as made:
        begun(scan, made)
        put(made, 4)
        images = np.stack([frame(index, SHAPE) for index in range(4)])
        if trouble == "dtype":
            images = images.astype("i4")
        elif trouble == "shape":
            images = images.transpose(0, 2, 1)
        elif trouble == "fewer":
            images = images[:2]
        if trouble != "missing":
            _save_others("HDF5", str(path), list(images))
        if trouble == "half":
            path.write_bytes(path.read_bytes()[:600])
        if trouble == "outside":
            monkeypatch.setenv("BLISSDATA_DATA_ROOTS", "/nowhere")
        made.tell_saved(4)
        scan.stop()
        reader = opened(memory_store, scan)
        told = "left the detector's buffer, and its file must not be opened here"
        told = told if trouble == "outside" else "can be had from nowhere"
        with pytest.raises(PointsNotInFileError, match=rf"frame \d {told}") as raised:
            reader[:]
        if trouble == "outside":
            assert isinstance(raised.value.__cause__, DataFileRefusedError)
        assert is_right(reader[3], 3)  # the ring has it
        if trouble == "fewer":
            assert is_right(reader[1], 1)
        if trouble == "missing":
            assert str(reader.availability().gone) in ("", "0–2")


@pytest.mark.parametrize("file_format", ["EDF", "CBF", "TIFF", "HDF5"])
def test_a_file_that_is_half_written_gives_no_frame_and_the_whole_one_does(
    memory_store: DataStore, scan: Scan, tmp_path: Path, file_format: str
) -> None:
    dtype = "i4" if file_format == "CBF" else "u2"
    images = [(np.arange(128) * 31 % 97 + index).reshape(SHAPE).astype(dtype) for index in range(2)]
    saving = Saving(
        tmp_path / "img_%d.dat", file_format=file_format, frames_per_file=1, by="detector"
    )
    with FrameBuffer(SHAPE, dtype, 1, saving=saving, serve=False) as made:
        begun(scan, made)
        for one in images:
            made.put(one)
        made.tell_saved(2)
        scan.stop()
        path = tmp_path / "img_0.dat"
        _save_others(file_format, str(path), images[:1])
        whole = path.read_bytes()
        reader = opened(memory_store, scan)
        for length in (0, 3, len(whole) // 2, len(whole) - 100):
            path.write_bytes(whole[:length])
            with pytest.raises(PointsNotInFileError, match="frame 0 can be had from nowhere"):
                reader[0]
        path.write_bytes(whole)
        np.testing.assert_array_equal(reader[0], images[0], strict=True)


def test_files_that_come_out_of_order_are_read_as_they_come(
    memory_store: DataStore, scan: Scan, tmp_path: Path
) -> None:
    saving = Saving(tmp_path / "img_%02d.h5", frames_per_file=2, by="detector")
    images = [frame(index, SHAPE) for index in range(8)]
    with FrameBuffer(SHAPE, np.uint16, 1, saving=saving, serve=False) as made:
        begun(scan, made)
        put(made, 8)
        made.tell_saved(8)
        scan.stop()
        reader = opened(memory_store, scan)
        there: set[int] = {7}  # the ring has it
        for number in (2, 0, 3, 1):
            _save_others(
                "HDF5", str(tmp_path / f"img_{number:02d}.h5"), images[2 * number : 2 * number + 2]
            )
            there |= {2 * number, 2 * number + 1}
            for index in range(8):
                if index in there:
                    assert is_right(reader[index], index)
                else:
                    with pytest.raises(PointsNotInFileError, match=rf"frame {index} .*nowhere"):
                        reader[index]
        assert all(is_right(one, index) for index, one in enumerate(reader[:]))


def test_a_ring_that_somebody_removes_is_read_by_who_has_it_and_others_are_told(
    memory_store: DataStore, scan: Scan
) -> None:
    with FrameBuffer(SHAPE, np.uint16, 4, serve=False) as made:
        camera = begun(scan, made)
        put(made, 2)
        camera.join()
        before = opened(memory_store, scan)
        assert is_right(before[1], 1)
        Path(os.environ[DIRECTORY_VARIABLE], before.info["frames"]["ring"]).unlink()
        put(made, 1)
        camera.join()
        assert is_right(before[2], 2)
        with pytest.raises(IndexNoMoreThereError, match="not on this host, or gone"):
            opened(memory_store, scan)[2]


def test_a_frame_that_left_the_ring_and_is_not_saved_yet_is_awaited(
    memory_store: DataStore, scan: Scan, tmp_path: Path
) -> None:
    path = tmp_path / "img.h5"
    with FrameBuffer(SHAPE, np.uint16, 1, saving=Saving(path, by="detector"), serve=False) as made:
        camera = begun(scan, made)
        put(made, 3)
        camera.join()
        reader = opened(memory_store, scan)
        with pytest.raises(IndexNotYetThereError, match=r"not saved yet \(0 frames are\)"):
            reader[0]
        assert str(reader.availability().pending) == "0–1"
        _save_others("HDF5", str(path), [frame(index, SHAPE) for index in range(3)])
        made.tell_saved(3)
        reader.wait_available(0, "file", timeout=20)
        assert is_right(reader[0], 0)


def test_events_that_lie_are_told_of(memory_store: DataStore, scan: Scan) -> None:
    with FrameBuffer(SHAPE, np.uint16, 2, serve=False) as made:
        camera = begun(scan, made)
        camera.event_stream.send(np.array([1, 2], np.int64))
        camera.event_stream.join()
        with pytest.raises(PayloadError, match="expected how many frames"):
            len(opened(memory_store, scan))


def test_the_ring_of_another_host_is_not_looked_for_twice(
    memory_store: DataStore, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def elsewhere(*arguments: Any) -> None:
        asked.append(arguments)
        raise RingUnreachableError("the detector's ring is not on this host, or gone")

    with FrameBuffer(SHAPE, np.uint16, 2, serve=False) as made:
        begun(scan, made)
        put(made, 1)
        scan.stop()
        monkeypatch.setattr(stream_module.RingReader, "open", elsewhere)
        reader = opened(memory_store, scan)
        for _ in range(2):
            with pytest.raises(IndexNoMoreThereError, match="not on this host"):
                reader[0]
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", r"tcp://127\.0\.0\.1:\d+"), ("localhost", r"tcp://localhost:\d+")],
)
def test_the_server_is_known_by_the_name_that_it_was_given(
    memory_store: DataStore, scan: Scan, host: str, address: str
) -> None:
    with FrameBuffer(SHAPE, np.uint16, 4, host=host) as made:
        begun(scan, made)
        put(made, 1)
        scan.stop()
        reader = opened(memory_store, scan, elsewhere=True)
        assert re.fullmatch(address, reader.info["frames"]["server"]["address"])
        assert is_right(reader[0], 0)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", id="killed"),
        pytest.param("sys.exit()", id="forgot to close", marks=pytest.mark.slow),
    ],
)
def test_what_a_detector_took_is_saved_however_it_ends(tmp_path: Path, end: str) -> None:
    program = (
        "import numpy as np, os, signal, sys\n"
        "from blissdata import DataStore\n"
        "from blissdata.testing import MemoryBackend\n"
        "from blissdata.streams.frames import FrameBuffer, Saving\n"
        "backend = MemoryBackend(); backend.initialise()\n"
        "store = DataStore(backend=backend)\n"
        f"buffer = FrameBuffer((8, 16), np.uint16, 64, saving=Saving({str(tmp_path / 'run.h5')!r}))\n"
        "scan = store.create_scan({'name': 'x', 'number': 1, 'data_policy': 'none'})\n"
        "camera = scan.create_stream(buffer.definition('camera'))\n"
        "for i in range(50): buffer.put(np.full((8, 16), i, np.uint16))\n"
        "print(buffer._server._process.pid, buffer._saver._process.pid, flush=True)\n"
        f"{end}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)  # noqa: PLW1510
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    deadline = time.monotonic() + 30
    while any(_is_there(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with h5py.File(tmp_path / "run.h5") as file:  # what the dead detector took is saved
        assert file["/entry/data/data"][:, 0, 0].tolist() == list(range(50))


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False
