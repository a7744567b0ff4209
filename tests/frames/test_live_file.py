"""The live file gives the frames, from the ring and from their file, as h5py gives those of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.frames.formula import frame

from blissdata import DataStore
from blissdata.exceptions import IndexNoMoreThereError, PointsNotInFileError
from blissdata.h5api.redis_hdf5 import File
from blissdata.streams.frames import FrameBuffer, Saving

SHAPE = (6, 8)


@pytest.mark.parametrize("saved", [False, True])
def test_frames_are_a_dataset(memory_store: DataStore, tmp_path: Path, saved: bool) -> None:
    path = str(tmp_path / "scan.h5")
    identity = {"name": "camera", "number": 1, "data_policy": "none", "path": path}
    saving = Saving(tmp_path / "camera.h5") if saved else None
    slots = 3 if saved else 10
    expected = np.stack([frame(index, SHAPE) for index in range(8)])
    with (
        FrameBuffer(SHAPE, np.uint16, slots, saving=saving, serve=False) as buffer,
        memory_store.create_scan(identity) as scan,
    ):
        camera = scan.create_stream(buffer.definition("camera"))
        scan.info["mapping"] = {"camera": ({}, "STREAM", "camera")}
        scan.prepare()
        scan.start()
        for one in expected:
            buffer.put(one)
        camera.join()
        with File(path, data_store=memory_store) as file:
            dataset = file["1.1/camera"]
            assert (dataset.dtype, dataset.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(dataset[7], expected[7])
            np.testing.assert_array_equal(dataset[6:8, 2:4, ::3], expected[6:8, 2:4, ::3])
        scan.stop()
        with File(path, data_store=memory_store) as file:
            np.testing.assert_array_equal(file["1.1/camera"][()], expected)


def test_frames_in_a_file_outside_the_roots_are_named_and_so_are_the_roots(
    memory_store: DataStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    path = str(inside / "scan.h5")
    identity = {"name": "camera", "number": 1, "data_policy": "none", "path": path}
    with (
        FrameBuffer(SHAPE, np.uint16, 3, saving=Saving(outside / "c.h5"), serve=False) as buffer,
        memory_store.create_scan(identity) as scan,
    ):
        camera = scan.create_stream(buffer.definition("camera"))
        scan.prepare()
        scan.start()
        for index in range(8):
            buffer.put(frame(index, SHAPE))
        camera.join()
        scan.stop()
    monkeypatch.setenv("BLISSDATA_DATA_ROOTS", str(inside))
    stream = memory_store.load_scan(scan.key).streams["camera"]
    found = stream.availability()
    assert (found.where(0), str(found.unknown)) == ("unknown", "0–7")
    told = f"c.h5 is not below the data roots: {inside} .*BLISSDATA_DATA_ROOTS={inside}:{outside}"
    for read in (lambda: stream[0], lambda: stream.wait_available(0)):
        with pytest.raises(IndexNoMoreThereError, match=told):
            read()
    with File(path, data_store=memory_store) as file:
        with pytest.raises(PointsNotInFileError, match=told) as caught:
            file["1.1/measurement/camera"][0]
        assert "file_timeout" not in str(caught.value)
