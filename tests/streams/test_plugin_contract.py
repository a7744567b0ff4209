"""Our own plugins keep the contract of plugins. (`lima` is in `tests/lima`.)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import pytest

from blissdata import Scan, hdf5_handles
from blissdata.streams import BaseStream, StreamDefinition
from blissdata.streams.hdf5_fallback import Hdf5BackedStream
from blissdata.streams.scan_sequence import ScanStream
from blissdata.testing import PluginTests


class TestHdf5Fallback(PluginTests):
    plugin = "hdf5_fallback"
    survives_trimming = True

    @pytest.fixture(autouse=True)
    def close_files(self) -> Iterator[None]:
        yield
        hdf5_handles.close_files()

    def definition(self, name: str) -> StreamDefinition:
        path = str(self.directory / "scan.h5")
        return Hdf5BackedStream.make_definition(name, path, "/1.1/data", np.float32, (3,))

    def publish(self, stream: BaseStream, start: int, stop: int) -> None:
        points = np.stack([self.point(index) for index in range(start, stop)])
        stream.send(points)
        with h5py.File(self.directory / "scan.h5", "a") as file:
            data = (
                file.require_dataset("1.1/data", (start, 3), np.float32, maxshape=(None, 3))
                if (start == 0)
                else file["1.1/data"]
            )
            data.resize(stop, axis=0)
            data[start:stop] = points

    def point(self, index: int) -> Any:
        return (np.arange(3) + 10 * index).astype(np.float32)


class TestScanSequence(PluginTests):
    plugin = "scan_sequence"

    def definition(self, name: str) -> StreamDefinition:
        self.children: list[Scan] = []
        return ScanStream.make_definition(name)

    def publish(self, stream: BaseStream, start: int, stop: int) -> None:
        for number in range(start, stop):
            identity = {"name": "child", "number": number, "data_policy": "none"}
            child = self.store.create_scan(identity)
            child.close()
            self.children.append(child)
            stream.send({"key": child.key})

    def point(self, index: int) -> Any:
        return self.children[index]

    def check_point(self, found: Any, expected: Any) -> None:
        assert isinstance(found, Scan)
        assert (found.key, found.number) == (expected.key, expected.number)
