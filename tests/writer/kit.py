"""A writer at work in this process, and what is in a file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tests.hdf5_tree import walked

from blissdata import DataStore, Scan
from blissdata.data_roots import DataRoots
from blissdata.writer import follower, service
from blissdata.writer.nexus import MARKS
from blissdata.writer.report import Event, ScanReport, read_report
from blissdata.writer.service import Writer

LONG_S = 60.0

service.LISTEN_S = 0.05
service.REPORT_S = 0.2
follower.LOOK_S = 0.1
"""Tests end many writers, and each would sleep until it looks up."""

FILE_MARKS = ("creator",)
"""Root attributes that the writer adds."""


class Running:
    """A writer in a thread."""

    def __init__(self, store: DataStore, root: Path, **options: Any) -> None:
        self.said: list[str] = []
        self.events: list[Event] = []
        self.store = store
        self.writer = Writer(
            store,
            DataRoots((str(root),), "given by the test"),
            say=self.said.append,
            watch=self.events.append,
            **options,
        )
        self._thread = threading.Thread(target=self.writer.run, name="writer of the test")
        self._thread.start()
        self.wait("")  # scans that were closed before are not written

    def wait(self, *words: str) -> str:
        """Until it says a line with these words; the line."""
        deadline = time.monotonic() + LONG_S
        while True:
            for line in self.said:
                if all(word in line for word in words):
                    return line
            assert time.monotonic() < deadline, f"does not say {words}: {self.said}"
            time.sleep(0.005)

    def wait_reported(self) -> None:
        """Until the server has its report that it works."""
        deadline = time.monotonic() + LONG_S
        while not ((report := read_report(self.store)) and report.running):
            assert time.monotonic() < deadline, f"does not report: {report}, {self.said}"
            time.sleep(0.005)

    def wait_committed(self, key: str, points: int) -> None:
        """Until so many points of the stream are in its scan's file, and given free."""
        deadline = time.monotonic() + LONG_S
        while not any(pin.position(key) == points for pin in self.store.pins()):
            assert time.monotonic() < deadline, f"does not commit: {self.said}"
            time.sleep(0.01)

    def wait_written(self, scan: Scan) -> None:
        """Until it has written the scan, and given it free."""
        deadline = time.monotonic() + LONG_S
        path, number = scan.identity["path"], scan.identity["number"]
        self.wait("written", f"{path}::/{number}.1")
        while any(pin.scan_key == scan.key for pin in self.store.pins()):
            assert time.monotonic() < deadline, "is not given free"
            time.sleep(0.005)

    def wait_failed(self, scan: Scan) -> ScanReport:
        """Until the scan is reported failed."""
        deadline = time.monotonic() + LONG_S
        while True:
            report = read_report(self.store)
            if report is not None and scan.key in report.failed:
                return report.failed[scan.key]
            assert time.monotonic() < deadline, f"does not fail: {report}, {self.said}"
            time.sleep(0.02)

    def close(self) -> None:
        self.writer.stop()
        self._thread.join()


@contextmanager
def running(store: DataStore, root: Path, **options: Any) -> Iterator[Running]:
    """A writer that ends with the block."""
    writer = Running(store, root, **options)
    try:
        yield writer
    finally:
        writer.close()


def new_scan(store: DataStore, path: Path | str, number: int = 1, **info: Any) -> Scan:
    identity = {"name": "s", "number": number, "data_policy": "none", "path": str(path)}
    return store.create_scan(identity, info)


def contents(path: Path | str) -> dict[str, Any]:
    """Everything in a file, by path, in the order of its links, but for the writer's marks."""
    found: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        found["/"] = ("group", _attributes(file), list(file))
        for path_in_it, item in walked(file):
            if isinstance(item, h5py.Group):
                found[path_in_it] = ("group", _attributes(item), list(item))
            else:
                found[path_in_it] = item if isinstance(item, tuple) else _dataset(item)
    return found


def _dataset(dataset: h5py.Dataset) -> Any:
    sources = (
        [(s.file_name, s.dset_name) for s in dataset.virtual_sources()]
        if dataset.is_virtual
        else None
    )
    return (
        "dataset",
        _attributes(dataset),
        str(dataset.dtype),
        dataset.shape,
        dataset.maxshape,
        dataset.chunks,
        (dataset.compression, dataset.compression_opts, dataset.shuffle),
        dataset.external,
        sources,
        _plain(dataset[()]),
    )


def _attributes(item: h5py.HLObject) -> dict[str, Any]:
    return {
        name: _plain(value)
        for name, value in item.attrs.items()
        if not name.startswith(MARKS) and name not in FILE_MARKS
    }


def _plain(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind == "O" or array.dtype.names:
        return str(array.dtype), [_element(one) for one in array.reshape(-1).tolist()]
    return str(array.dtype), array.shape, array.tobytes()


def _element(one: Any) -> Any:
    if isinstance(one, tuple):
        return tuple(_element(part) for part in one)
    return (one.shape, one.tobytes()) if isinstance(one, np.ndarray) else one
