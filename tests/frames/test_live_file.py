"""The live file gives the frames, from the ring and from their file, as h5py gives those of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.frames.formula import frame

from blissdata import DataStore
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
