"""The arithmetic of frames, against plain counting.

places       every frame of several acquisitions, one by one
files        numbers and indices, against a list of files that is filled frame by frame
closed       which files are complete, for every pair of frame and last saved one
ring         its two ends
refused      each field of `lima_info` that is missing or makes no sense
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from blissdata.lima.client import number_of_files
from blissdata.lima.layout import ImageReference, LimaLayout, Place

INFO: dict[str, Any] = {
    "protocol_version": 1,
    "server_url": "tango://host/id00/camera/1",
    "buffer_max_number": 4,
    "frame_per_acquisition": 7,
    "acquisition_offset": 3,
    "file_path": "/data/img_%04d.h5",
    "data_path": "/entry/data",
    "file_format": "HDF5",
    "file_offset": 10,
    "frame_per_file": 3,
}


def layout(**changed: Any) -> LimaLayout:
    return LimaLayout.from_info({**INFO, **changed})


def written(
    per_acquisition: int, per_file: int, frames: int
) -> Iterator[tuple[int, int, int, int]]:
    """As a detector saves: for each frame its acquisition, its index there, file, index in that."""
    acquisition = index = file = in_file = 0
    for _ in range(frames):
        if index == per_acquisition > 0:  # the next acquisition begins a new file
            acquisition, index, file, in_file = acquisition + 1, 0, file + 1, 0
        elif in_file == per_file:
            file, in_file = file + 1, 0
        yield acquisition, index, file, in_file
        index, in_file = index + 1, in_file + 1


SIZES = [(7, 3), (6, 3), (1, 1), (4, 10), (5, 1), (0, 3), (0, 1), (1, 5)]


@pytest.mark.parametrize(("per_acquisition", "per_file"), SIZES)
def test_frames_are_where_a_detector_puts_them(per_acquisition: int, per_file: int) -> None:
    found = layout(frame_per_acquisition=per_acquisition, frame_per_file=per_file)
    for n, (acquisition, index, file, in_file) in enumerate(written(per_acquisition, per_file, 50)):
        assert found.place(n) == Place(n, acquisition, index)
        assert found.acquisition_number(found.place(n)) == acquisition + 3
        assert found.file_index(n) == (file, in_file)
        path = f"/data/img_{file + 10:04d}.h5"
        assert found.reference(n) == ImageReference("HDF5", path, "/entry/data", in_file)


@pytest.mark.parametrize(("per_acquisition", "per_file"), SIZES)
def test_a_file_is_closed_once_a_frame_of_a_later_one_is_saved(
    per_acquisition: int, per_file: int
) -> None:
    found = layout(frame_per_acquisition=per_acquisition, frame_per_file=per_file)
    file_of = [file for _, _, file, _ in written(per_acquisition, per_file, 20)]
    for saved in range(-1, 20):
        for n in range(20):
            expected = n <= saved and file_of[saved] > file_of[n]
            assert found.is_closed(n, saved, sealed=False) == expected
            assert found.is_closed(n, saved, sealed=True) == (n <= saved)


@pytest.mark.parametrize(("per_acquisition", "per_file"), SIZES)
def test_full_files_tell_how_many_frames_there_are(per_acquisition: int, per_file: int) -> None:
    found = layout(frame_per_acquisition=per_acquisition, frame_per_file=per_file)
    places = list(written(per_acquisition, per_file, 50))
    for n, (_, _, file, in_file) in enumerate(places):
        assert found.frames_of_files(file + 1, in_file + 1) == n + 1


def test_the_ring_holds_the_newest_frames() -> None:
    assert [n for n in range(20) if layout().in_ring(n, 9)] == [6, 7, 8, 9]
    assert not any(layout(buffer_max_number=0).in_ring(n, 9) for n in range(20))
    assert not layout().in_ring(0, -1)


def test_frames_that_are_not_saved_are_in_no_file() -> None:
    unsaved = layout(file_path=None)
    assert unsaved.files is None
    assert not unsaved.is_closed(0, 10, sealed=True)
    with pytest.raises(RuntimeError, match="not saved"):
        unsaved.reference(0)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/data/img_%d.h5", "/data/img_10.h5"),
        ("/data/img_%03d.h5", "/data/img_010.h5"),
        ("/data/100%%/%s.edf", "/data/100%/10.edf"),
        ("/data/%06i.edf", "/data/000010.edf"),
    ],
)
def test_the_number_of_a_file_goes_into_its_name(path: str, expected: str) -> None:
    assert layout(file_path=path).reference(0).file_path == expected


@pytest.mark.parametrize(
    "path",
    ["/data/img.h5", "/%d/%d.h5", "/%(n)d.h5", "/%x.h5", "/%999999999d.h5", "/50%/%d.h5", "/a\0%d"],
)
def test_a_name_without_one_place_for_the_number_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path of the files"):
        layout(file_path=path).reference(0)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"protocol_version": 2}, "found version 2"),
        ({"protocol_version": None}, "found version None"),
        ({"protocol_version": True}, "found version True"),
        ({"server_url": None}, "server_url"),
        ({"server_url": ""}, "server_url"),
        ({"buffer_max_number": "4"}, "buffer_max_number"),
        ({"buffer_max_number": -1}, "buffer_max_number"),
        ({"frame_per_acquisition": None}, "frame_per_acquisition"),
        ({"acquisition_offset": 1.5}, "acquisition_offset"),
        ({"file_path": 5}, "file_path"),
        ({"file_format": None}, "file_format"),
        ({"file_offset": -2}, "file_offset"),
        ({"frame_per_file": 0}, "frame_per_file"),
        ({"frame_per_file": 2**70}, "frame_per_file"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        layout(**changed)


def test_unknown_fields_are_ignored() -> None:
    assert layout(colour="red") == layout()


@pytest.mark.parametrize("files", [0, 1, 2, 3, 4, 5, 7, 8, 9, 100, 1000])
def test_files_are_counted_in_few_looks(files: int) -> None:
    looks = []

    def is_there(number: int) -> bool:
        looks.append(number)
        return number < files

    assert number_of_files(is_there) == files
    assert len(looks) <= 2 * max(files, 1).bit_length() + 1
    assert min(looks) == 0
