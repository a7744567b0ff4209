"""What the demo's three processes do: one publishes, one follows, one reads again and compares."""

from __future__ import annotations

import datetime
import getpass
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blissdata import DataStore, Scan, ScanState, __version__
from blissdata.demo.measurement import NAMES, read_columns
from blissdata.demo.rings import SimulatedImages
from blissdata.exceptions import BlissdataError, EndOfStream
from blissdata.streams import BaseStream, CursorGroup

__all__ = ["Comparison", "follow", "publish", "read_again"]

if TYPE_CHECKING:
    from blissdata.streams.frames import FrameBuffer

CAMERA = "camera"
IMAGE_SHAPE = (256, 256)
POINTS_PER_IMAGE = 20

UNITS = {"energy": "eV", "absorption": ""}

Columns = Mapping[str, NDArray[np.float64]]
Show = Callable[[Columns], None]
"""Told which points of each column came."""


@dataclass
class Comparison:
    """Points that a reader got, and how many of them were not the file's."""

    points: dict[str, int] = field(default_factory=dict)
    """How many points each way of reading gave, both streams together."""

    differences: int = 0
    """How many points were missing, too many, or another number."""

    examples: list[str] = field(default_factory=list)
    """The first few of them, in words."""

    batches: int = 0
    """In how many portions they came."""

    def add(self, way: str, name: str, expected: NDArray[np.float64], found: Any) -> None:
        """Compares one column, bit for bit."""
        array = np.asarray(found, dtype=np.float64)
        self.points[way] = self.points.get(way, 0) + len(array)
        common = min(len(array), len(expected))
        wrong = np.flatnonzero(array[:common] != expected[:common])
        self.differences += len(wrong) + abs(len(array) - len(expected))
        for index in wrong[: max(0, 3 - len(self.examples))]:
            self.examples.append(
                f"{way}: {name}[{index}] is {array[index]!r}, the file says {expected[index]!r}"
            )
        if len(array) != len(expected) and len(self.examples) < 3:
            self.examples.append(f"{way}: {name} has {len(array)} points, not {len(expected)}")


def publish(path: Path, pace: float, images: Path | None = None) -> int:
    """Replays the measurement as a running scan, `pace` points a second; gives how many points
    (both streams together) the server confirmed. With `images`, a directory, simulated ones of a
    camera come beside it, one for `POINTS_PER_IMAGE` points, and are saved there."""
    columns = read_columns(path)
    npoints = len(columns["energy"])
    identity = {"name": "exafs", "number": 1, "data_policy": "none", "session": "demo"}
    with ExitStack() as stack:
        store = stack.enter_context(DataStore())
        buffer = None if images is None else stack.enter_context(_buffer(images))
        scan = stack.enter_context(store.create_scan(identity, _header(npoints)))
        streams = {
            name: scan.create_stream(name, dtype="float64", unit=UNITS[name]) for name in NAMES
        }
        if buffer is not None:
            scan.create_stream(buffer.definition(CAMERA, {"simulated": True}))
        camera = SimulatedImages(IMAGE_SHAPE)
        scan.prepare()
        scan.start()
        start = time.monotonic()
        for index in range(npoints):
            for name, stream in streams.items():
                stream.send(columns[name][index])
            if buffer is not None and index % POINTS_PER_IMAGE == 0:
                buffer.put(camera.image(index // POINTS_PER_IMAGE))
            time.sleep(max(0.0, start + (index + 1) / pace - time.monotonic()))
        scan.stop()
        return sum(len(stream) for stream in streams.values())


def _buffer(images: Path) -> FrameBuffer:
    from blissdata.streams.frames import FrameBuffer, Saving

    saving = Saving(images / "camera.h5")
    return FrameBuffer(IMAGE_SHAPE, np.uint16, 16, saving=saving, serve=False)


def _header(npoints: int) -> dict[str, Any]:
    channels = {
        name: {"dim": 0, "display_name": name, "unit": UNITS[name], "points": npoints}
        for name in NAMES
    }
    return {
        "title": "X-ray absorption of a copper foil (measured data, replayed)",
        "type": "exafs",
        "scan_nb": 1,
        "start_time": datetime.datetime.now(datetime.UTC).astimezone().isoformat(),
        "npoints": npoints,
        "save": False,
        "session_name": "demo",
        "data_policy": "none",
        "data_writer": "null",
        "user_name": getpass.getuser(),
        "publisher": "blissdata demo",
        "publisher_version": __version__,
        "acquisition_chain": {"replay": {"top_master": "replay"}},
        "devices": {"replay": {"name": "replay", "channels": list(NAMES)}},
        "channels": channels,
        "plots": [
            {
                "kind": "curve-plot",
                "name": "absorption",
                "items": [{"kind": "curve", "x": "energy", "y": "absorption", "y_axis": "left"}],
            }
        ],
    }


def follow(path: Path, since: str, show: Show) -> Comparison:
    """Waits for the scan after `since` and follows it until it ends; compares what came, images as
    well if there are any."""
    columns = read_columns(path)
    result = Comparison()
    parts: dict[str, list[Any]] = {name: [] for name in NAMES}
    with DataStore() as store:
        _, key = store.get_next_scan(since=since, timeout=60)
        scan = store.load_scan(key)
        scan.wait_state(ScanState.PREPARED, timeout=60)
        images = _Images(result, "images followed live")
        group = CursorGroup(scan.streams)
        while True:
            try:
                views = group.read()
            except EndOfStream:
                break
            result.batches += 1
            came = {}
            for stream, view in views.items():
                if stream.name in NAMES:
                    came[stream.name] = view.get_data()
                else:
                    images.check(view.index, view)
            for name, data in came.items():
                parts[name].append(data)
            if came:
                show(came)
    for name in NAMES:
        result.add("followed live", name, columns[name], _joined(parts[name]))
    return result


def read_again(path: Path, since: str) -> Comparison:
    """Reads the scan after `since` in every way there is, and compares every number."""
    columns = read_columns(path)
    result = Comparison()
    with DataStore() as store:
        _, key = store.get_next_scan(since=since, block=False)
        scan = store.load_scan(key)
        for name in NAMES:
            for way, read in WAYS.items():
                result.add(way, name, columns[name], read(scan.streams[name]))
        for name, data in _by_group(scan).items():
            result.add("cursor group", name, columns[name], data)
        if CAMERA in scan.streams:
            images = _Images(result, "images read again")
            images.check(0, scan.streams[CAMERA])
    return result


class _Images:
    """Compares images with the formula that they come from."""

    def __init__(self, result: Comparison, way: str) -> None:
        self._result = result
        self._way = way
        self._camera = SimulatedImages(IMAGE_SHAPE)

    def check(self, index: int, images: Iterable[Any]) -> None:
        """Those from `index` on."""
        result, way = self._result, self._way
        for i, image in enumerate(images, index):
            result.points[way] = result.points.get(way, 0) + 1
            if not np.array_equal(image, self._camera.image(i)):
                result.differences += 1
                result.examples.append(f"{way}: image {i} is another one")


def _by_index(stream: BaseStream) -> list[Any]:
    return [stream[index] for index in range(len(stream))]


def _by_cursor(stream: BaseStream) -> NDArray[np.float64]:
    return _joined([view.get_data() for view in stream.cursor()])


def _by_group(scan: Scan) -> dict[str, NDArray[np.float64]]:
    parts: dict[str, list[Any]] = {name: [] for name in NAMES}
    for views in CursorGroup({name: scan.streams[name] for name in NAMES}):
        for stream, view in views.items():
            parts[stream.name].append(view.get_data())
    return {name: _joined(found) for name, found in parts.items()}


WAYS: dict[str, Callable[[BaseStream], Any]] = {
    "slice": lambda stream: stream[:],
    "index": _by_index,
    "cursor": _by_cursor,
}


def _joined(parts: list[Any]) -> NDArray[np.float64]:
    return np.concatenate(parts) if parts else np.empty(0)


def newest_timetag() -> tuple[str, str]:
    """The timetag of the newest scan, and the server in words. Starts the local server."""
    with DataStore() as store:
        info = store.backend.info()
        return store.get_last_scan_timetag(), f"{info.server}, layout {info.kind}"


def last_key(since: str) -> str:
    """The key of the scan after `since`."""
    with DataStore() as store:
        try:
            return store.get_next_scan(since=since, block=False)[1]
        except BlissdataError:
            return "?"
