"""A detector's ring beside blissdata 2.4.5: same server, same Tango device, same files.

| publisher | reader |
| --------- | ------ |
| ours      | 2.4.5  |
| 2.4.5     | ours   |

Every frame that the camera of `tests/lima` takes is known by a formula, so either reader is held to
the same numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.clients.environments import environment
from tests.clients.programs import Program, Raised

from blissdata.testing.servers import TestServer

sys.path.insert(0, str(Path(__file__).parents[1] / "lima"))

from lima_blocks import frame
from lima_kit import Camera, Files

pytestmark = [pytest.mark.interop, pytest.mark.environments]

IDENTITY = {"name": "ascan", "number": 7, "data_policy": "none"}


@pytest.fixture(scope="module")
def camera_server() -> Iterator[Camera]:
    camera = Camera()
    yield camera
    camera.close()


@pytest.fixture(scope="module", params=["2.4.5 reads ours", "ours reads 2.4.5"])
def programs(
    request: pytest.FixtureRequest, camera_server: Camera
) -> Iterator[tuple[Program, Program]]:
    """Publisher and reader."""
    environment("peer-tango")
    names = ["here", "peer-tango"]
    if request.param == "ours reads 2.4.5":
        names.reverse()
    roots = {"BLISSDATA_DATA_ROOTS": "/"}
    with (
        Program(names[0], "lima_program.py", **roots) as publisher,
        Program(names[1], "lima_program.py", **roots) as reader,
    ):
        yield publisher, reader


def frames(start: int, stop: int) -> np.ndarray:
    return np.stack([frame(0, index) for index in range(start, stop)])


def test_a_ring_and_its_files(
    programs: tuple[Program, Program],
    camera_server: Camera,
    stack_server: TestServer,
    tmp_path: Path,
) -> None:
    publisher, reader = programs
    camera, files = camera_server, Files(tmp_path)
    camera.reset()
    publisher.tell("open", url=stack_server.url, init_db=True)
    reader.tell("open", url=stack_server.url)
    key, acquisition = publisher.tell(
        "create_lima", identity=IDENTITY, url=camera.url, ring=4, saving=files.saving
    )
    assert acquisition == publisher.tell("acquisition", url=camera.url) == 0
    assert reader.tell("acquisition", url=camera.url) == 0
    reader.tell("load", key=key)
    reader.tell("cursor", name="c", stream="camera")

    camera.acquire(6)
    publisher.tell("send_events", events=[{"last_index": 5}])
    assert reader.tell("length", stream="camera") == 6
    for index in range(2, 6):
        np.testing.assert_array_equal(
            reader.tell("read", stream="camera", index=index), frame(0, index), strict=True
        )
    some = reader.tell("read", stream="camera", index=[2, 50, None])
    np.testing.assert_array_equal(some, frames(2, 6), strict=True)
    camera.acquire(1)
    np.testing.assert_array_equal(reader.tell("read", stream="camera", index=-1), frame(0, 6))
    array, frame_id, acq_tag = reader.tell("live", stream="camera")
    np.testing.assert_array_equal(array, frame(0, 6))
    assert (frame_id, acq_tag) == (6, None)
    view = reader.tell("cursor_read", name="c", data=False)
    assert view == {"views": {"index": 0, "last_index": 5, "len": 6}, "position": 6}

    files.save(0)
    publisher.tell("send_events", events=[{"last_index": 6, "last_index_saved": 5}])
    whole = reader.tell("read", stream="camera", index=[0, 7, None])
    np.testing.assert_array_equal(whole, frames(0, 7), strict=True)
    assert reader.tell("references", stream="camera", index=[0, 7, None]) == [
        ["HDF5", files.saving["file_path"] % (n // 5), files.saving["data_path"], n % 5]
        for n in range(7)
    ]
    with pytest.raises(Raised) as caught:
        reader.tell("read", stream="camera", index=7)
    assert caught.value.names[0] == "IndexNotYetThereError"

    files.save(1, frames=2)
    camera.acquire(1)
    publisher.tell("send_events", events=[{"last_index": 7, "last_index_saved": 6}])
    publisher.tell("seal")
    assert publisher.tell("next_acquisition", url=camera.url) == 1
    camera.prepare()
    assert reader.tell("acquisition", url=camera.url) == 1
    whole = reader.tell("read", stream="camera", index=[0, 7, None])
    np.testing.assert_array_equal(whole, frames(0, 7), strict=True)
    for index, name in ((7, "IndexNoMoreThereError"), (8, "IndexWontBeThereError")):
        with pytest.raises(Raised) as caught:
            reader.tell("read", stream="camera", index=index)
        assert caught.value.names[0] == name
    view = reader.tell("cursor_read", name="c", data=False)
    assert view == {"views": {"index": 6, "last_index": 7, "len": 2}, "position": 8}
    with pytest.raises(Raised) as caught:
        reader.tell("cursor_read", name="c")
    assert "EndOfStream" in caught.value.names
    for program in programs:
        program.tell("close_store")
