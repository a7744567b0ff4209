"""The plugin `lima` keeps the contract of plugins: with a ring that has every frame, with files alone
once the scan is over, and with files while it runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lima_blocks import frame
from lima_kit import Camera, Files

from blissdata.lima.client import prepare_next_lima_acquisition
from blissdata.streams import BaseStream, StreamDefinition
from blissdata.streams.lima import LimaStream
from blissdata.testing import PluginTests


class TestRing(PluginTests):
    plugin = "lima"

    @pytest.fixture(autouse=True)
    def give_camera(self, camera: Camera) -> None:
        self.camera = camera
        self.camera.set(slots=100)

    def definition(self, name: str) -> StreamDefinition:
        acquisition = prepare_next_lima_acquisition(self.store, self.camera.url)
        return LimaStream.make_definition(
            name, np.uint16, (6, 8), self.camera.url, 100, 0, acquisition
        )

    def publish(self, stream: BaseStream, start: int, stop: int) -> None:
        self.camera.acquire(stop - start)
        stream.send({"last_index": stop - 1})

    def point(self, index: int) -> Any:
        return frame(0, index)


class TestFiles(TestRing):
    survives_trimming = True

    def definition(self, name: str) -> StreamDefinition:
        acquisition = prepare_next_lima_acquisition(self.store, self.camera.url)
        saving = Files(self.directory, frames_per_file=1).saving
        return LimaStream.make_definition(
            name, np.uint16, (6, 8), self.camera.url, 1, 0, acquisition, saving
        )

    def publish(self, stream: BaseStream, start: int, stop: int) -> None:
        self.camera.acquire(stop - start)
        for number in range(start, stop):
            Files(self.directory, frames_per_file=1).save(number)
        stream.send({"last_index": stop - 1, "last_index_saved": stop - 1})
