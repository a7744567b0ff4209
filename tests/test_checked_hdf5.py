"""An HDF5 file is read as h5py reads it, but whatever it points at must lie below the data roots.

| | inside the roots | outside | missing or too short |
| --- | --- | --- | --- |
| external link | as h5py | refused | incomplete |
| external raw storage | as h5py | refused | incomplete (h5py: zeros) |
| virtual sources | as h5py | refused | incomplete (h5py: fill values) |
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from blissdata import checked_hdf5
from blissdata.checked_hdf5 import CheckedFile
from blissdata.data_roots import DataRoots
from blissdata.exceptions import (
    DataFileBusyError,
    DataFileContentError,
    DataFileIncompleteError,
    DataFileMissingError,
    DataFileRefusedError,
)

IMAGES = np.arange(6 * 4 * 5, dtype=np.uint16).reshape(6, 4, 5)


@pytest.fixture
def below(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    return root


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file beside the root, with a dataset that nobody is to see."""
    path = tmp_path / "outside.h5"
    with h5py.File(path, "w") as file:
        file["images"] = IMAGES
    return path


@pytest.fixture
def images(below: Path) -> Path:
    path = below / "images.h5"
    with h5py.File(path, "w") as file:
        file["entry/images"] = IMAGES
        file["entry/images"].attrs["interpretation"] = "image"
        file["entry/scalar"] = 7
    return path


@pytest.fixture
def opened(below: Path) -> Iterator[Callable[[Path | str], CheckedFile]]:
    """Opens files below the root."""
    files: list[CheckedFile] = []

    def open_(path: Path | str) -> CheckedFile:
        files.append(CheckedFile(path, DataRoots.choose([below])))
        return files[-1]

    yield open_
    for file in files:
        file.close()


Opened = Callable[[Path | str], CheckedFile]


def make_old(path: Path) -> None:
    """As if the file had been left alone for a while."""
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))


def with_link(path: Path, link: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["1.1/here"] = link
    return path


def with_sources(path: Path, sources: list[tuple[Any, str, str]], dataset: str = "all") -> Path:
    """A virtual dataset of the shape of IMAGES, with each source whole at its place."""
    layout = h5py.VirtualLayout(IMAGES.shape, IMAGES.dtype)
    for where, name, inside in sources:
        shape = np.empty(IMAGES.shape, bool)[where].shape
        layout[where] = h5py.VirtualSource(name, inside, shape)
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset(dataset, layout, fillvalue=9)
    return path


def with_raw(path: Path, files: list[tuple[str, int, int]], shape: tuple[int, ...]) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", shape, np.uint16, external=files)
    return path


# ------------------------------------------------------------------------------ plain files


def test_a_dataset_is_as_h5py_gives_it(images: Path, opened: Opened) -> None:
    found = opened(images).dataset("/entry/images")
    assert found.shape == IMAGES.shape
    assert (found.ndim, len(found), found.dtype) == (3, 6, IMAGES.dtype)
    assert dict(found.attributes) == {"interpretation": "image"}
    np.testing.assert_array_equal(found.rows(2, 5), IMAGES[2:5])
    np.testing.assert_array_equal(found[1, 2:, [0, 3]], IMAGES[1, 2:][:, [0, 3]])
    assert opened(images).dataset("entry/./scalar")[()] == 7


def test_groups_tell_their_names(images: Path, opened: Opened) -> None:
    file = opened(images)
    assert file.names("entry") == ["images", "scalar"]
    assert file.is_group("entry")
    assert not file.is_group("entry/images")
    assert dict(file.attributes("entry/images")) == {"interpretation": "image"}


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("entry/later", DataFileIncompleteError, r"no 'later' in /entry"),
        ("entry/images/x", DataFileContentError, "not a group"),
        ("entry", DataFileContentError, "not a dataset"),
        ("/", DataFileContentError, "not a dataset"),
        ("type", DataFileContentError, "neither"),
    ],
)
def test_what_is_not_a_dataset_is_said(
    images: Path, opened: Opened, path: str, error: type[Exception], words: str
) -> None:
    with h5py.File(images, "a") as file:
        file["type"] = np.dtype("f8")
    with pytest.raises(error, match=words) as found:
        opened(images).dataset(path)
    assert str(images) in str(found.value)


def test_rows_beyond_the_end_may_come(images: Path, opened: Opened) -> None:
    with pytest.raises(DataFileIncompleteError, match=r"has 6 points, not 5 to 6 \(yet\)"):
        opened(images).dataset("entry/images").rows(5, 7)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", DataFileIncompleteError),
        (b"no HDF5" * 100, DataFileContentError),
    ],
)
def test_what_is_no_hdf5_file_is_said(
    below: Path, opened: Opened, content: bytes, error: type[Exception]
) -> None:
    (below / "strange.h5").write_bytes(content)
    if content:  # what is written at this moment may become one
        with pytest.raises(DataFileBusyError, match=r"strange\.h5"):
            opened(below / "strange.h5")
    make_old(below / "strange.h5")
    with pytest.raises(error, match=r"strange\.h5"):
        opened(below / "strange.h5")


def test_a_file_that_was_cut_off_is_incomplete(images: Path, opened: Opened) -> None:
    os.truncate(images, images.stat().st_size // 2)
    with pytest.raises(DataFileIncompleteError, match="cut off"):
        opened(images)


WRITER = """
import sys, h5py
with h5py.File(sys.argv[1], "a", locking=True, libver="latest") as file:
    file.create_dataset("new", data=1)
    file.flush()
    print("open", flush=True)
    input()
"""


@pytest.mark.parametrize("kind", ["earliest", "latest"])
def test_a_file_that_another_process_has_open_is_seen_as_far_as_it_was_flushed(
    below: Path, opened: Opened, kind: str
) -> None:
    path = below / "written.h5"
    with h5py.File(path, "w", libver=kind) as file:
        file["old"] = 1
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        make_old(path)
        assert opened(path).names() == ["new", "old"]
        assert opened(path).being_written()
        writer.communicate("\n")
    make_old(path)
    assert not opened(path).being_written()


def test_a_reader_keeps_no_writer_out(images: Path, opened: Opened) -> None:
    found = opened(images).dataset("entry/images")
    with h5py.File(images, "a", locking=True) as file:  # this process or another, locked or not
        file["entry/new"] = 1
        file.flush()
        assert opened(images).dataset("entry/new")[()] == 1
    np.testing.assert_array_equal(found[...], IMAGES)


def test_a_file_that_is_appended_to_in_swmr_mode_is_followed(below: Path, opened: Opened) -> None:
    path = below / "swmr.h5"
    with h5py.File(path, "w", libver="latest") as writer:
        points = writer.create_dataset("points", (2,), "i8", maxshape=(None,), chunks=(4,))
        points[:] = [0, 1]
        writer.swmr_mode = True
        found = opened(path).dataset("points")
        assert found.rows(0, 2).tolist() == [0, 1]
        points.resize((3,))
        points[2] = 2
        points.flush()
        assert found.rows(0, 3, written_only=True).tolist() == [0, 1, 2]


@pytest.mark.parametrize("chunks", [(4,), None])
def test_points_that_nobody_wrote_can_be_told_from_fill_values(
    below: Path, opened: Opened, chunks: tuple[int, ...] | None
) -> None:
    path = below / "preallocated.h5"
    with h5py.File(path, "w") as file:
        points = file.create_dataset("points", (12,), "i8", chunks=chunks)
        if chunks:
            points[:5] = range(5)
    found = opened(path).dataset("points")
    assert found.rows(0, 12).tolist() == [0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0][
        : 12 * bool(chunks)
    ] or (not chunks and not found.rows(0, 12).any())
    if chunks:
        assert found.rows(0, 5, written_only=True).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(DataFileIncompleteError, match="nobody has written"):
        found.rows(3, 12, written_only=True)


# ------------------------------------------------------------------------------ links


def test_links_inside_the_roots_are_followed(below: Path, images: Path, opened: Opened) -> None:
    (below / "sub").mkdir()
    path = below / "sub" / "links.h5"
    with h5py.File(path, "w") as file:
        file["1.1/external"] = h5py.ExternalLink("../images.h5", "/entry")
        file["1.1/soft"] = h5py.SoftLink("external/images")
        file["absolute"] = h5py.SoftLink("/1.1/soft")
        file["whole"] = h5py.ExternalLink(str(images), "/entry/images")
    for name in ("1.1/external/images", "1.1/soft", "absolute", "whole"):
        np.testing.assert_array_equal(opened(path).dataset(name).rows(0, 6), IMAGES)


@pytest.mark.parametrize("depth", [1, 2])
def test_an_external_link_out_of_the_roots_is_refused(
    below: Path, outside: Path, opened: Opened, depth: int
) -> None:
    path = with_link(below / "1.h5", h5py.ExternalLink(str(outside), "/images"))
    if depth == 2:
        path = with_link(below / "2.h5", h5py.ExternalLink("1.h5", "1.1/here"))
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["1.1/here"], IMAGES)  # h5py would show it
    with pytest.raises(DataFileRefusedError, match=r"1\.h5 points at.*outside\.h5"):
        opened(path).dataset("1.1/here")


def test_an_external_link_through_a_symlink_out_of_the_roots_is_refused(
    below: Path, outside: Path, opened: Opened
) -> None:
    (below / "innocent.h5").symlink_to(outside)
    path = with_link(below / "1.h5", h5py.ExternalLink("innocent.h5", "/images"))
    with pytest.raises(DataFileRefusedError, match=r"innocent\.h5.*outside\.h5"):
        opened(path).dataset("1.1/here")


def test_a_linked_file_that_is_not_there_yet_is_missing(below: Path, opened: Opened) -> None:
    path = with_link(below / "1.h5", h5py.ExternalLink("later.h5", "/images"))
    with pytest.raises(DataFileMissingError, match=r"later\.h5"):
        opened(path).dataset("1.1/here")


def test_links_in_a_circle_end(below: Path, opened: Opened) -> None:
    path = with_link(below / "1.h5", h5py.SoftLink("/1.1/here"))
    with pytest.raises(DataFileContentError, match="circle"):
        opened(path).dataset("1.1/here")
    with_link(below / "a.h5", h5py.ExternalLink("b.h5", "1.1/here"))
    with_link(below / "b.h5", h5py.ExternalLink("a.h5", "1.1/here"))
    with pytest.raises(DataFileContentError, match="circle"):
        opened(below / "a.h5").dataset("1.1/here")


# ------------------------------------------------------------------------------ raw storage


def test_raw_files_are_read_as_h5py_reads_them(
    below: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = IMAGES.tobytes()
    (below / "a.raw").write_bytes(b"head" + data[:100])
    (below / "b.raw").write_bytes(data[100:])
    rest = h5py.h5f.UNLIMITED
    path = with_raw(below / "1.h5", [("a.raw", 4, 100), ("b.raw", 0, rest)], IMAGES.shape)
    monkeypatch.chdir(below)  # where h5py seeks them
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["raw"], IMAGES)
    monkeypatch.chdir("/")
    found = opened(path).dataset("raw")
    for start in range(7):
        for stop in range(start, 7):
            np.testing.assert_array_equal(found.rows(start, stop), IMAGES[start:stop])
    np.testing.assert_array_equal(found[...], IMAGES)
    np.testing.assert_array_equal(found[()], IMAGES)
    np.testing.assert_array_equal(found[-1, 1:3], IMAGES[-1, 1:3])
    np.testing.assert_array_equal(found[1::2, 0], IMAGES[1::2, 0])
    np.testing.assert_array_equal(found[[0, 4]], IMAGES[[0, 4]])


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "link"])
def test_raw_files_out_of_the_roots_are_refused(below: Path, opened: Opened, name: str) -> None:
    (below.parent / "secret").write_bytes(bytes(1000))
    (below / "link").symlink_to(below.parent / "secret")
    path = with_raw(below / "1.h5", [(name, 0, 8)], (4,))
    with pytest.raises(DataFileRefusedError, match=name.rpartition("/")[2]):
        opened(path).dataset("raw").rows(0, 4)
    with pytest.raises(DataFileRefusedError):
        opened(path).dataset("raw")[...]


def test_a_raw_file_that_is_too_short_is_incomplete_and_not_zeros(
    below: Path, opened: Opened
) -> None:
    (below / "a.raw").write_bytes(bytes(6))
    found = opened(with_raw(below / "1.h5", [("a.raw", 0, 8)], (4,))).dataset("raw")
    assert found.rows(0, 3).tolist() == [0, 0, 0]
    with pytest.raises(DataFileIncompleteError, match="ends at byte 6, before byte 8"):
        found.rows(0, 4)


# ------------------------------------------------------------------------------ virtual datasets


@pytest.fixture
def parts(below: Path) -> Path:
    """Two files with a half each; the second one in a link and in raw storage."""
    with h5py.File(below / "a.h5", "w") as file:
        file["images"] = IMAGES[:3]
    (below / "b.raw").write_bytes(IMAGES[3:].tobytes())
    with_raw(below / "c.h5", [(str(below / "b.raw"), 0, IMAGES[3:].nbytes)], IMAGES[3:].shape)
    with h5py.File(below / "b.h5", "w") as file:
        file["images"] = h5py.ExternalLink("c.h5", "/raw")
    return with_sources(
        below / "1.h5",
        [(np.s_[:3], "a.h5", "images"), (np.s_[3:], "b.h5", "images")],
    )


def test_virtual_datasets_are_put_together_as_h5py_does(parts: Path, opened: Opened) -> None:
    with h5py.File(parts) as file:
        np.testing.assert_array_equal(file["all"], IMAGES)
    found = opened(parts).dataset("all")
    for start in range(7):
        for stop in range(start, 7):
            np.testing.assert_array_equal(
                found.rows(start, stop, written_only=True), IMAGES[start:stop]
            )
    np.testing.assert_array_equal(found[2:4, ..., 1], IMAGES[2:4, ..., 1])


def selections() -> Iterator[tuple[str, Callable[[h5py.VirtualLayout, Any], None]]]:
    def place(where: Any, taken: Any) -> Callable[[h5py.VirtualLayout, Any], None]:
        def into(layout: h5py.VirtualLayout, source: Any) -> None:
            layout[where] = source if taken is None else source[taken]

        return into

    yield "whole", place(np.s_[:, :, :], None)
    yield "part", place(np.s_[1:4, 1:3, :], np.s_[2:5, 0:2, :])
    yield "steps", place(np.s_[::2, :, ::2], np.s_[1:4, :, 2:5])
    yield "steps in the source", place(np.s_[0:3, 0:2, 0:2], np.s_[::2, ::2, 1::2])
    yield "one image", place(np.s_[4, :, :], np.s_[1, :, :])
    yield "rows become columns", place(np.s_[0:4, 0, 0:5], np.s_[3, :, :])
    yield "images from lines", place(np.s_[:, 2, :], np.s_[:, 1, :])
    yield "another split", place(np.s_[0:2, 0:3, :], np.s_[0:3, 0:2, :])


@pytest.mark.parametrize("case", list(selections()), ids=lambda case: case[0])
def test_any_regular_selection_is_as_h5py_gives_it(
    below: Path, images: Path, opened: Opened, case: Any
) -> None:
    layout = h5py.VirtualLayout(IMAGES.shape, np.float64)
    case[1](layout, h5py.VirtualSource(str(images), "entry/images", IMAGES.shape))
    with h5py.File(below / "1.h5", "w") as file:
        expected = file.create_virtual_dataset("all", layout, fillvalue=-1)[...]
    assert (expected >= 0).any()
    found = opened(below / "1.h5").dataset("all")
    np.testing.assert_array_equal(found[...], expected)
    for start in range(6):
        np.testing.assert_array_equal(found.rows(start, start + 1), expected[start : start + 1])


def test_blocks_are_as_h5py_gives_them(below: Path, images: Path, opened: Opened) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    target = h5py.h5s.create_simple((8, 4, 5))
    target.select_hyperslab((0, 0, 0), (2, 1, 1), (4, 1, 1), (3, 4, 5))
    source = h5py.h5s.create_simple(IMAGES.shape)
    plist.set_virtual(target, str(images).encode(), b"entry/images", source)
    with h5py.File(below / "1.h5", "w") as file:
        space = h5py.h5s.create_simple((8, 4, 5))
        h5py.h5d.create(file.id, b"all", h5py.h5t.NATIVE_UINT16, space, plist)
        expected = file["all"][...]
    assert expected[4:7].tolist() == IMAGES[3:6].tolist()
    np.testing.assert_array_equal(opened(below / "1.h5").dataset("all")[...], expected)


def test_a_source_in_the_same_file_is_found(images: Path, opened: Opened) -> None:
    with_sources(images, [(np.s_[...], ".", "entry/images")], "entry/all")
    np.testing.assert_array_equal(opened(images).dataset("entry/all").rows(0, 6), IMAGES)


@pytest.mark.parametrize("how", ["source", "symlink", "link in the source", "raw in the source"])
def test_virtual_sources_out_of_the_roots_are_refused(
    below: Path, outside: Path, opened: Opened, how: str
) -> None:
    name, inside = str(outside), "images"
    if how == "symlink":
        (below / "s.h5").symlink_to(outside)
        name = "s.h5"
    elif how == "link in the source":
        name = str(with_link(below / "s.h5", h5py.ExternalLink(str(outside), "images")))
        inside = "1.1/here"
    elif how == "raw in the source":
        (below.parent / "secret").write_bytes(IMAGES.tobytes())
        name = str(with_raw(below / "s.h5", [("../secret", 0, IMAGES.nbytes)], IMAGES.shape))
        inside = "raw"
    path = with_sources(below / "1.h5", [(np.s_[...], name, inside)])
    with pytest.raises(DataFileRefusedError, match="not below the data roots"):
        opened(path).dataset("all").rows(0, 1)


def test_a_source_that_is_missing_is_an_error_where_h5py_gives_fill_values(
    parts: Path, below: Path, opened: Opened
) -> None:
    (below / "c.h5").unlink()
    with h5py.File(parts) as file:
        assert (file["all"][3:] == 9).all()
    found = opened(parts).dataset("all")
    np.testing.assert_array_equal(found.rows(0, 3), IMAGES[:3])
    with pytest.raises(DataFileMissingError, match=r"c\.h5"):
        found.rows(2, 4)


@pytest.mark.parametrize(
    ("taken", "there", "words"),
    [
        (None, IMAGES[:2], "40 elements are taken of it, for a place of 60"),
        (np.s_[3:6], IMAGES[:5], "has 5 points, not 3 to 5"),
        (np.s_[0:3, 0:4], IMAGES[:3, :2], "smaller than what is taken"),
    ],
)
def test_a_source_that_is_too_short_is_incomplete(
    below: Path, opened: Opened, taken: Any, there: Any, words: str
) -> None:
    layout = h5py.VirtualLayout((3, 4, 5), IMAGES.dtype)
    if taken is None:
        layout[:] = h5py.VirtualSource("a.h5", "images", (3, 4, 5))
    else:
        layout[:] = h5py.VirtualSource("a.h5", "images", IMAGES.shape)[taken]
    with h5py.File(below / "1.h5", "w") as file:
        file.create_virtual_dataset("all", layout)
    with h5py.File(below / "a.h5", "w") as file:
        file["images"] = there
    with pytest.raises(DataFileIncompleteError, match=words):
        opened(below / "1.h5").dataset("all").rows(0, 3)


def test_rows_that_no_source_covers_are_told_from_fill_values(
    below: Path, images: Path, opened: Opened
) -> None:
    layout = h5py.VirtualLayout(IMAGES.shape, IMAGES.dtype)
    layout[:3] = h5py.VirtualSource(images, "entry/images", IMAGES.shape)[:3]
    path = below / "1.h5"
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("all", layout, fillvalue=9)
    found = opened(path).dataset("all")
    assert (found.rows(5, 6) == 9).all()
    with pytest.raises(DataFileIncompleteError, match=r"points 3 to 3 .*nobody has written"):
        found.rows(0, 6, written_only=True)


def test_sources_that_lead_round_in_a_circle_end(below: Path, opened: Opened) -> None:
    with_sources(below / "a.h5", [(np.s_[...], "b.h5", "all")])
    with_sources(below / "b.h5", [(np.s_[...], "a.h5", "all")])
    with pytest.raises(DataFileContentError, match="circle"):
        opened(below / "a.h5").dataset("all").rows(0, 1)


def test_a_source_that_is_itself_is_a_circle(below: Path, opened: Opened) -> None:
    path = with_sources(below / "1.h5", [(np.s_[...], ".", "all")])
    with pytest.raises(DataFileContentError, match="circle"):
        opened(path).dataset("all").rows(0, 1)


@pytest.mark.parametrize("used", ["held", "forgotten", "borrowed"])
def test_a_program_that_closes_nothing_ends_well(images: Path, used: str) -> None:
    program = f"""
import sys
from blissdata.checked_hdf5 import CheckedFile
from blissdata.data_roots import DataRoots
from blissdata.hdf5_handles import borrowed_file
roots = DataRoots.choose([{str(images.parent)!r}])
if {used!r} == "borrowed":
    with borrowed_file({str(images)!r}, roots) as file:
        rows = file.dataset("entry/images").rows(0, 6)
else:
    file = CheckedFile({str(images)!r}, roots)
    dataset = file.dataset("entry/images")
    rows = dataset.rows(0, 6)
    if {used!r} == "forgotten":
        del file, dataset
print(rows.shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "(6, 4, 5)\n", "")


def test_many_sources_do_not_keep_many_files_open(below: Path, opened: Opened) -> None:
    layout = h5py.VirtualLayout((40, 2), "i8")
    for i in range(40):
        with h5py.File(below / f"{i}.h5", "w") as file:
            file["x"] = [i, -i]
        layout[i] = h5py.VirtualSource(f"{i}.h5", "x", (2,))
    with h5py.File(below / "all.h5", "w") as file:
        file.create_virtual_dataset("all", layout)
    file = opened(below / "all.h5")
    assert file.dataset("all").rows(0, 40).tolist() == [[i, -i] for i in range(40)]
    assert 0 < open_below(below) < 20
    file.close()
    assert open_below(below) == 0


def open_below(directory: Path) -> int:
    """How many descriptors this process has of files in there."""
    files = (os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd"))
    return sum(file.startswith(f"{directory}/") for file in files)


# ---------------------------------------------------------------------------------- extent


CHUNKED = [((40,), (3,)), ((40, 5), (3, 2)), ((40, 4), (1, 4)), ((17, 3), (50, 3))]


@pytest.mark.parametrize("one_by_one", [False, True], ids=["together", "one by one"])
@pytest.mark.parametrize(("shape", "chunks"), CHUNKED, ids=str)
def test_the_extent_is_what_rows_give(
    below: Path,
    opened: Opened,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    one_by_one: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever parts of a dataset were written: a row is in the extent if `rows` gives it."""
    if one_by_one:  # as with an HDF5 that cannot go through all chunks
        monkeypatch.setattr(checked_hdf5, "_first_rows", lambda dataset: None)
    chance = random.Random(7)
    for case in range(8):
        path = below / f"{case}.h5"
        with h5py.File(path, "w") as file:
            data = file.create_dataset("d", shape, "f8", chunks=chunks, maxshape=(None, *shape[1:]))
            for _ in range(case):
                start = chance.randrange(shape[0])
                columns = slice(None) if len(shape) == 1 or chance.random() < 0.7 else slice(0, 1)
                stop = min(shape[0], start + chance.randrange(1, 12))
                data[(slice(start, stop), columns)[: len(shape)]] = 1.0
        make_old(path)
        found = opened(path).dataset("d")
        there = [row for start, stop in found.extent().spans for row in range(start, stop)]
        for row in range(shape[0]):
            if row in there:
                found.rows(row, row + 1, written_only=True)
            else:
                with pytest.raises(DataFileIncompleteError):
                    found.rows(row, row + 1, written_only=True)
        with suppress(DataFileIncompleteError):
            found.rows(0, shape[0], written_only=True)
            assert there == list(range(shape[0]))
