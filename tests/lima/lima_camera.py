"""A Tango device that serves images from a ring, as a Lima server does; run as a program.

It needs no Tango database, listens on loopback only, and does what tests tell it: `acquire` takes
frames, `prepareAcq` begins another acquisition, `settings` says how it behaves.

    python lima_camera.py PORT
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import tango
from tango.server import Device, attribute, command, run

sys.path.insert(0, str(Path(__file__).parent))

from lima_blocks import frame, image_block, video_block

NAME = "test/camera/1"

GATE_S = 30.0


class Camera(Device):
    """A detector with a ring of `slots` frames."""

    def init_device(self) -> None:
        super().init_device()
        self._lock = threading.Lock()
        self._settings = {
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
        self._acquisition = 0
        self._taken = 0
        self._last_asked = 0

    # ---- what a Lima server has

    @command(dtype_in=int, dtype_out="DevEncoded")
    def readImage(self, index: int) -> tuple[str, bytes]:  # noqa: N802 — Lima's name
        """A frame of the current acquisition, -1: the newest."""
        self._last_asked = index
        self._pass_the_gate()
        with self._lock:
            found = self._taken - 1 if index == -1 else index
            if found >= self._taken or found < 0:
                raise RuntimeError(f"Frame {index} not available yet")
            if found < self._taken - self._settings["slots"]:
                raise RuntimeError(f"Frame {index} is no longer in the buffer")
            array = self._frame(found)
            version = self._settings["header_version"]
            frame_id = found + self._settings["offset"]
        return "DATA_ARRAY", image_block(array, version, frame_id, acq_tag=self._acquisition)

    @attribute(dtype="DevEncoded")
    def video_last_image(self) -> tuple[str, bytes]:
        """The newest frame as video."""
        with self._lock:
            if not self._taken:
                return "VIDEO_IMAGE", video_block(b"", 0, 0, 0, -1)
            array = self._frame(self._taken - 1).astype("uint16")
            rows, columns = array.shape
            return "VIDEO_IMAGE", video_block(array.tobytes(), columns, rows, 1, self._taken - 1)

    @attribute(dtype=int)
    def last_image_ready(self) -> int:
        """Index of the newest frame, -1: none."""
        return self._taken - 1

    @attribute(dtype=str)
    def acq_mode(self) -> str:
        return str(self._settings["acq_mode"])

    @attribute(dtype=str)
    def acq_trigger_mode(self) -> str:
        return str(self._settings["acq_trigger_mode"])

    @attribute(dtype=str)
    def lima_version(self) -> str:
        return str(self._settings["lima_version"])

    @command
    def prepareAcq(self) -> None:  # noqa: N802 — Lima's name
        """Another acquisition begins; the frames of the one before are gone."""
        with self._lock:
            self._acquisition += 1
            self._taken = 0

    # ---- what tests tell it

    @attribute(dtype=int)
    def last_asked(self) -> int:
        """What `readImage` was last asked for."""
        return self._last_asked

    @command(dtype_in=int)
    def acquire(self, frames: int) -> None:
        """Takes frames."""
        with self._lock:
            self._taken += frames

    @command(dtype_in=str)
    def settings(self, text: str) -> None:
        """Changes settings (JSON); the first acquisition is number 0 again, without frames."""
        with self._lock:
            self._settings.update(json.loads(text))
            self._acquisition = self._taken = 0

    @command(dtype_in=str)
    def gate(self, path: str) -> None:
        """While that file exists, `readImage` makes `<path>.reached` and waits."""
        self._settings["gate"] = path

    def _pass_the_gate(self) -> None:
        gate = self._settings["gate"]
        if not gate or not Path(gate).exists():
            return
        Path(f"{gate}.reached").touch()
        deadline = time.monotonic() + GATE_S
        while Path(gate).exists() and time.monotonic() < deadline:
            time.sleep(0.002)

    def _frame(self, index: int):  # type: ignore[no-untyped-def]
        shape = tuple(self._settings["shape"])
        return frame(self._acquisition, index, shape, self._settings["dtype"])


def free_running(_server: object = None) -> None:
    """Commands must not wait for each other: a test reaches the device while a read waits."""
    tango.Util.instance().set_serial_model(tango.SerialModel.NO_SYNC)


if __name__ == "__main__":
    endpoint = f"giop:tcp:127.0.0.1:{sys.argv[1]}"
    arguments = ["Camera", "tests", "-nodb", "-ORBendPoint", endpoint, "-dlist", NAME]
    run((Camera,), args=arguments, post_init_callback=free_running)
