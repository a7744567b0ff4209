"""A small file writer: saves every point of a scan, and goes on with a file that is there.

`python -m tests.acquisition.writer URL SCAN FILE (pin | free)`: with `pin`, nothing is forgotten before it is
in the file.
"""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import h5py
from tests.acquisition.points import STREAMS

from blissdata import DataStore, Scan
from blissdata.exceptions import EndOfStream
from blissdata.streams import CursorGroup


def main(url: str, key: str, path: str, how: str) -> None:
    """Until the end of the scan; says `open` once it follows, and `complete` at the end."""
    with DataStore(url) as store, h5py.File(path, "a") as file:
        scan = store.load_scan(key)
        pinned: Any = scan.pin("writer", lasting=True) if how == "pin" else nullcontext()
        with pinned as pin:
            saved = {name: dataset(file, scan, name) for name in STREAMS}
            file.flush()
            print("open", flush=True)
            group = CursorGroup({name: scan.streams[name] for name in STREAMS})
            while True:
                try:
                    views = group.read()
                except EndOfStream:
                    break
                with changing(path):
                    for stream, view in views.items():
                        save(saved[stream.name], view)
                    file.flush()
                if pin is not None:
                    pin.move({name: len(data) for name, data in saved.items()})
    print("complete", flush=True)


@contextmanager
def changing(path: str) -> Iterator[None]:
    """While the file changes: whoever kills the writer comes in here first. What HDF5 itself leaves of a file
    when it is killed between two writes is nobody's promise."""
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def dataset(file: h5py.File, scan: Scan, name: str) -> h5py.Dataset:
    """Where the points of a stream go; a new one if it is not there yet."""
    shape: tuple[int, ...] = tuple(scan.streams[name].shape)
    if name not in file:
        chunks = (1, *shape) if shape else (1024,)
        file.create_dataset(name, (0, *shape), "f8", maxshape=(None, *shape), chunks=chunks)
    return file[name]


def save(saved: h5py.Dataset, view: Any) -> None:
    """Adds what is not there yet."""
    start = max(len(saved) - view.index, 0)
    if start < len(view):
        points = view.get_data(start)
        saved.resize(view.index + len(view), axis=0)
        saved[view.index + start :] = points


if __name__ == "__main__":
    main(*sys.argv[1:])
