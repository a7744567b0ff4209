"""`python -m tests.frames.detector`: a detector whose frames say which they are; prints the scan's key."""

from __future__ import annotations

import argparse
import time

import numpy as np
from tests.frames.formula import words

from blissdata import DataStore
from blissdata.streams.frames import FrameBuffer, Saving

IDENTITY = {"name": "camera", "number": 1, "data_policy": "none"}


def main() -> None:
    """Takes frames, as fast as it can or at a rate, and says `key`, then `done` with how long it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--shape", type=int, nargs=2, default=(64, 64))
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--save", default=None)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--no-server", action="store_true")
    options = parser.parse_args()
    saving = None if options.save is None else Saving(options.save)
    with (
        DataStore(options.url) as store,
        FrameBuffer(
            options.shape,
            np.uint16,
            options.slots,
            saving=saving,
            serve=not options.no_server,
            host="127.0.0.1",
        ) as buffer,
        store.create_scan(IDENTITY) as scan,
    ):
        scan.create_stream(buffer.definition("camera"))
        scan.prepare()
        scan.start()
        print("key", scan.key, flush=True)
        input()  # readers are there
        begin = time.monotonic()
        for index in range(options.frames):
            if options.rate:
                time.sleep(max(0.0, begin + index / options.rate - time.monotonic()))
            with buffer.writing() as slot:
                words(index, slot.nbytes, slot.reshape(-1).view(np.uint64))
        took = time.monotonic() - begin
        scan.stop()
        print("done", took, flush=True)
        input()  # readers have read


if __name__ == "__main__":
    main()
