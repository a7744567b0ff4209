"""What Lima's tests work with: a camera, the files that it saves, and a way to wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from lima_blocks import frame

from blissdata.testing.servers import free_port

__all__ = ["LONG_S", "Camera", "Files", "wait_until"]

LONG_S = 60.0

SETTINGS = {
    "slots": 4,
    "shape": [6, 8],
    "dtype": "uint16",
    "header_version": 4,
    "acq_mode": "SINGLE",
    "acq_trigger_mode": "EXTERNAL_TRIGGER",
    "lima_version": "1.10.0",
    "offset": 0,
    "gate": "",
}


class Camera:
    """A Tango device server with a ring of frames, in a process of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"tango://127.0.0.1:{self.port}/test/camera/1#dbase=no"
        program = str(Path(__file__).parent / "lima_camera.py")
        self._process = subprocess.Popen(
            [sys.executable, program, str(self.port)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TANGO_HOST": "127.0.0.1:1"},
        )
        assert self._process.stdout is not None
        assert "Ready" in self._process.stdout.readline()
        import tango

        self.device = tango.DeviceProxy(self.url)
        self.device.set_timeout_millis(int(LONG_S * 1000))

    def reset(self) -> None:
        """As it was at the start: no frame taken."""
        self.device.settings(json.dumps(SETTINGS))

    def set(self, **settings: Any) -> None:
        """Changes settings; no frame is taken then."""
        self.device.settings(json.dumps(settings))

    def acquire(self, frames: int) -> None:
        """Takes frames."""
        self.device.acquire(frames)

    def prepare(self) -> None:
        """Begins another acquisition."""
        self.device.prepareAcq()

    @contextmanager
    def held(self, gate: Path) -> Iterator[Path]:
        """While it lasts, the device holds back what it is asked for. Gives the file that is there
        once it was asked."""
        gate.touch()
        self.device.gate(str(gate))
        try:
            yield Path(f"{gate}.reached")
        finally:
            gate.unlink()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(LONG_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Files:
    """Files as the detector of these tests saves them."""

    def __init__(self, directory: Path, frames_per_file: int = 5) -> None:
        self.directory = directory
        self.frames_per_file = frames_per_file
        self.saving = {
            "file_path": str(directory / "img_%04d.h5"),
            "data_path": "/entry_0000/measurement/data",
            "file_format": "HDF5",
            "file_offset": 0,
            "frames_per_file": frames_per_file,
        }

    @property
    def lima_info(self) -> dict[str, Any]:
        """As in a stream's `lima_info`."""
        info = dict(self.saving)
        info["frame_per_file"] = info.pop("frames_per_file")
        return info

    def save(self, number: int, frames: int | None = None, acquisition: int = 0) -> Path:
        """The file with that number, for a scan of one acquisition."""
        first = number * self.frames_per_file
        count = self.frames_per_file if frames is None else frames
        images = [frame(acquisition, first + i) for i in range(count)]
        path = self.directory / f"img_{number:04d}.h5"
        with h5py.File(path, "w") as file:
            file["/entry_0000/measurement/data"] = np.stack(images)
        return path


def wait_until(condition: Any) -> None:
    """Returns once it is true."""
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)
