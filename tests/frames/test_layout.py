"""What a stream's info says of its frames, and what makes no sense in it."""

from __future__ import annotations

from typing import Any

import pytest

from blissdata.streams.frames.layout import FrameFiles, FramesInfo, frame_point

RING = "blissdata-frames-" + "0" * 32
INFO = {
    "version": 1,
    "ring": RING,
    "slots": 64,
    "server": {"address": "tcp://detector.example:40000", "token": "ab" * 16},
    "files": {"path": "/data/img_%04d.h5", "data_path": "/entry/data", "frames_per_file": 3},
}


def test_what_is_written_is_read_again() -> None:
    info = FramesInfo.from_info(INFO)
    assert FramesInfo.from_info(info.as_json()) == info
    assert info.server is not None
    assert info.server.place == ("detector.example", 40000)


def test_a_token_is_shown_to_nobody() -> None:
    assert "ab" * 16 not in repr(FramesInfo.from_info(INFO))


def test_frames_are_numbered_through_their_files() -> None:
    files = FrameFiles("/data/img_%04d.h5", "/entry/data", "HDF5", 3, 10)
    found = [(files.reference(i).file_path, files.reference(i).index) for i in (0, 2, 3, 7)]
    assert found == [
        ("/data/img_0010.h5", 0),
        ("/data/img_0010.h5", 2),
        ("/data/img_0011.h5", 0),
        ("/data/img_0012.h5", 1),
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("version", True),
        ("ring", "../../etc/passwd"),
        ("ring", None),
        ("slots", 0),
        ("slots", "64"),
        ("server", {"address": "ipc:///tmp/x", "token": "ab" * 16}),
        ("server", {"address": "tcp://host:1", "token": "short"}),
        ("server", "tcp://host:1"),
        ("files", {"path": "relative_%04d.h5", "data_path": "/x", "frames_per_file": 1}),
        ("files", {"path": "/data/no_number.h5", "data_path": "/x", "frames_per_file": 1}),
        ("files", {"path": "/data/two_%d_%d.h5", "data_path": "/x", "frames_per_file": 1}),
        ("files", {"path": "/data/%s%d.h5", "data_path": "/x", "frames_per_file": 1}),
        ("files", {"path": "/data/a.h5", "data_path": None}),
        ("files", {"path": "/data/a.png", "file_format": "PNG"}),
        ("files", {"path": "/data/a\0.h5", "data_path": "/x"}),
        ("files", {"path": "/data/a.h5", "data_path": "/x", "frames_per_file": -1}),
        ("files", {"data_path": "/x"}),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"expected|below|place|from 0|read from|need|address"):
        FramesInfo.from_info(INFO | {field: value})


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((), "u2"),
        ((0, 4), "u2"),
        ((4, 4), object),
        ((4, 4), "U3"),
        ("ab", "u2"),
        ((2, 2), "nonsense"),
    ],
    ids=str,
)
def test_what_no_frame_can_be_is_refused(shape: Any, dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"frame|dtype"):
        frame_point(shape, dtype)
