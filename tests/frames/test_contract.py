"""The plugin `frames` keeps the contract of plugins: with a ring that has every frame, with files of every
kind alone, and through the frame server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fabio
import numpy as np
import pytest
from tests.frames.formula import frame

from blissdata.streams import BaseStream, StreamDefinition
from blissdata.streams.frames import FrameBuffer, FramesStream, Saving, stream
from blissdata.streams.frames.ring import RingUnreachableError
from blissdata.testing import PluginTests

SHAPE = (6, 8)


class TestRing(PluginTests):
    plugin = "frames"
    survives_trimming = True  # the ring tells how many frames there are

    @pytest.fixture(autouse=True)
    def close_buffers(self) -> Iterator[None]:
        with ExitStack() as self.buffers:
            yield

    def buffer(self, **options: Any) -> FrameBuffer:
        options = {"slots": 100, "serve": False} | options
        return self.buffers.enter_context(FrameBuffer(SHAPE, np.uint16, **options))

    def definition(self, name: str) -> StreamDefinition:
        return self.buffer().definition(name)

    def publish(self, stream: BaseStream, start: int, stop: int) -> None:
        for index in range(start, stop):
            stream.send(self.point(index))

    def point(self, index: int) -> Any:
        return frame(index, SHAPE)


class TestFiles(TestRing):
    """A TIFF file a frame, and a ring that has the newest one only."""

    def definition(self, name: str) -> StreamDefinition:
        pattern = str(self.directory / f"{name}_%04d.tif")
        saving = Saving(pattern, file_format="TIFF", frames_per_file=1, by="detector")
        return FramesStream.make_definition(self.buffer(slots=1, saving=saving), name)

    def publish(self, stream: BaseStream, start: int, stop: int) -> None:
        super().publish(stream, start, stop)
        for index in range(start, stop):
            path = Path(stream.info["frames"]["files"]["path"] % index)
            fabio.tifimage.TifImage(data=self.point(index)).write(str(path))
        assert isinstance(stream, FramesStream)
        stream._own_buffer().tell_saved(stop)


@pytest.mark.slow
class TestServer(TestRing):
    """As from another host: no ring can be reached."""

    survives_trimming = False

    @pytest.fixture(autouse=True)
    def hide_rings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def is_elsewhere(*_: Any) -> None:
            raise RingUnreachableError("it is elsewhere")

        monkeypatch.setattr(stream.RingReader, "open", is_elsewhere)

    def definition(self, name: str) -> StreamDefinition:
        return self.buffer(serve=True).definition(name)


@pytest.mark.slow
class TestSaver(TestRing):
    """The buffer saves, and has the newest frame only."""

    def definition(self, name: str) -> StreamDefinition:
        saving = Saving(self.directory / f"{name}_%02d.h5", frames_per_file=3)
        return self.buffer(slots=1, saving=saving).definition(name)

    def publish(self, stream: BaseStream, start: int, stop: int) -> None:
        super().publish(stream, start, stop)
        if isinstance(stream, FramesStream) and stream.event_stream.writable:
            stream._own_buffer().finish()
