"""The program that saves the frames of a ring to HDF5 files, in a process of its own.

Each frame is one chunk of a dataset that grows; the file is written in SWMR mode, so it may be read at
any time. After each batch the detector is told how many frames are safe with the system.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

import numpy as np

from blissdata.streams.frames.companion import Desk
from blissdata.streams.frames.layout import FrameFiles, FramePoint, frame_point
from blissdata.streams.frames.ring import RingReader

__all__ = ["main"]

BATCH_NBYTES = 2**25
"""Frames of that size are saved at once [bytes], then told of."""

BATCH_FRAMES = 256

NAP_S = 0.5
"""How long it sleeps before it looks by itself [s]; the detector wakes it."""


def main() -> None:
    """Saves until the detector is done, or dead, and every frame that it took is saved."""
    desk = Desk()
    job = desk.job
    point = frame_point(job["shape"], job["dtype"])
    ring = RingReader.inherited(job["fd"], job["slots"], point.nbytes)
    try:
        _save(desk, ring, FrameFiles(**job["files"]), point, job["compression"])
    except Exception as error:  # noqa: BLE001 — whatever it is, who takes the frames must know
        desk.say("failed", f"frame {ring.saved} cannot be saved: {error or type(error).__name__}")
    while not desk.ended:
        desk.wait(NAP_S)
    ring.remove(job["ring"])


def _save(
    desk: Desk, ring: RingReader, files: FrameFiles, point: FramePoint, compression: str | None
) -> None:
    batch = max(1, min(BATCH_FRAMES, BATCH_NBYTES // point.nbytes))
    frame = np.empty(point.nbytes, np.uint8)
    saved = 0
    with _Output(files, point, compression) as output:
        output.file_of(0)
        desk.say("ready")
        while True:
            taken = ring.taken
            if taken == saved:
                if desk.ended and ring.taken == saved:
                    return
                ring.sleep_until(lambda: desk.wait(NAP_S), saved)
                continue
            stop = min(taken, saved + batch)
            for index in range(saved, stop):
                if not ring.read_into(index, frame):
                    raise RuntimeError("it was overwritten before")
                output.write(index, frame)
            output.flush()
            saved = stop
            ring.tell_saved(saved)
            desk.say("saved", saved)


class _Output:
    """The file that is being written."""

    def __init__(self, files: FrameFiles, point: FramePoint, compression: str | None) -> None:
        self._files = files
        self._point = point
        self._filters = _filters(compression)
        self._number = -1
        self._file: Any = None
        self._dataset: Any = None

    def file_of(self, frame: int) -> int:
        """Opens the file that the frame goes to, unless it is open; gives the frame's index in it."""
        number, index = self._files.place(frame)
        if number != self._number:
            self.close()
            self._open(self._files.file_path(number))
            self._number = number
        return index

    def _open(self, path: str) -> None:
        import h5py

        os.makedirs(os.path.dirname(path), exist_ok=True)
        shape = self._point.shape
        self._file = h5py.File(path, "x", libver=("v110", "v110"))
        self._dataset = self._file.create_dataset(
            self._files.data_path,
            (0, *shape),
            self._point.dtype,
            chunks=(1, *shape),
            maxshape=(self._files.frames_per_file or None, *shape),
            **self._filters,
        )
        self._dataset.attrs["interpretation"] = "image"
        self._file.swmr_mode = True

    def write(self, frame: int, data: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        """Appends a frame."""
        index = self.file_of(frame)
        self._dataset.resize(index + 1, axis=0)
        shape = self._point.shape
        if self._filters:
            self._dataset[index] = data.view(self._point.dtype).reshape(shape)
        else:
            self._dataset.id.write_direct_chunk((index, *(0 for _ in shape)), data)

    def flush(self) -> None:
        """What was written is with the system."""
        if self._dataset is not None:
            self._dataset.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
        self._file = self._dataset = None

    def __enter__(self) -> _Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _filters(compression: str | None) -> dict[str, Any]:
    if compression is None:
        return {}
    if compression in ("gzip", "lzf"):
        return {"compression": compression}
    import hdf5plugin

    return dict({"bitshuffle": hdf5plugin.Bitshuffle, "lz4": hdf5plugin.LZ4}[compression]())


if __name__ == "__main__":
    main()
