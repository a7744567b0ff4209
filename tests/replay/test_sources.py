"""What files are read into: every number as the file has it, and a clear word about a file that
cannot be read.

Expected values come from h5py, numpy, or the text of the file itself.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from blissdata.demo.measurement import COPPER
from blissdata.exceptions import MissingExtraError, SourceFileError
from blissdata.replay import Channel, Measurement, open_source

DATA = Path(__file__).parent.parent / "data"
SPEC_HEAD = "#F x.dat\n#D Mon Jun 04 14:15:57 2012\n#O0 samy  sam z\n\n"
SPEC_SCAN = "#S 1 ascan x 0 1 3 1\n#P0 1.5 -2\n#N 2\n#L x  y\n"


def only(path: Path) -> tuple[Measurement, dict[str, Any]]:
    """The only measurement in a file, and all of its data."""
    with open_source(path) as source:
        (measurement,) = source.measurements
        return measurement, {c.name: c.read(0, c.points) for c in measurement.channels}


def channel(measurement: Measurement, name: str) -> Channel:
    return next(c for c in measurement.channels if c.name == name)


@pytest.fixture
def text(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a file and gives its path."""

    def write(content: str) -> Path:
        path = tmp_path / "some.dat"
        path.write_text(content)
        return path

    return write


@pytest.fixture
def hdf5(tmp_path: Path) -> h5py.File:
    with h5py.File(tmp_path / "some.h5", "w") as file:
        yield file


# ---------------------------------------------------------------------------------- SPEC


def test_spec_columns_are_exact_not_rounded_to_float32() -> None:
    measurement, data = only(COPPER)
    expected = np.loadtxt(COPPER)
    assert list(data) == ["Column 1", "Column 2"]
    np.testing.assert_array_equal(np.stack(list(data.values()), axis=1), expected)
    assert (measurement.name, measurement.number, measurement.npoints) == ("1.1", 1, 1461)
    assert measurement.start_time == "2012-06-04T14:15:57"
    assert list(measurement.axes) == ["Column 1"]


def test_spec_scans_follow_each_other_with_positions_and_spectra(
    text: Callable[[str], Path],
) -> None:
    spectra = "1 2\n@A 1 2 3\\\n4 5\n3 4\n@A 6 7 8 9 10\n"
    again = "#S 2 mesh x 0 1 1 y 0 1 1 1\n#N 3\n#L x y det\n1 2 3\n\n#S 1 ct\n#N 1\n#L y\n7\n"
    path = text(SPEC_HEAD + SPEC_SCAN + spectra + "\n" + again)
    with open_source(path) as source:
        first, second, third = source.measurements
        assert [m.name for m in source.measurements] == ["1.1", "2.1", "1.2"]
        assert first.positioners == {"samy": 1.5, "sam z": -2}
        assert first.start_time == "2012-06-04T14:15:57"  # the file's, as it has none of its own
        mca = channel(first, "mca_0")
        assert mca.read(0, 2).tolist() == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
        assert second.axes == ["x", "y"]  # the labels are separated by one blank only
        assert third.channels[0].read(0, 1).tolist() == [7]


def test_spec_nan_is_kept(text: Callable[[str], Path]) -> None:
    _, data = only(text(SPEC_HEAD + SPEC_SCAN + "1 nan\n2 inf\n3 4\n"))
    np.testing.assert_array_equal(data["y"], [np.nan, np.inf, 4])


def test_spec_scan_without_points_is_left_out_and_named(text: Callable[[str], Path]) -> None:
    path = text(SPEC_HEAD + SPEC_SCAN + "\n#S 2 ct\n#N 1\n#L y\n7\n")
    with open_source(path) as source:
        assert [m.name for m in source.measurements] == ["2.1"]
        assert source.empty == ("1.1",)
        with pytest.raises(SourceFileError, match="no points"):
            source.select("1.1")


def test_a_last_line_without_an_end_is_read_and_mentioned(text: Callable[[str], Path]) -> None:
    measurement, data = only(text(SPEC_HEAD + SPEC_SCAN + "1 2\n3 4.25"))
    assert data["y"].tolist() == [2, 4.25]
    assert "4.25, may be cut" in measurement.notes[0]


# ---------------------------------------------------------------------------------- plain columns


def test_columns_without_a_spec_header_are_named_by_their_place() -> None:
    measurement, data = only(DATA / "EXAFS_Ge.dat")
    assert list(data) == ["column_1", "column_2"]
    expected = np.loadtxt(DATA / "EXAFS_Ge.dat")
    np.testing.assert_array_equal(np.stack(list(data.values()), axis=1), expected)
    assert "no '#S' line" in measurement.notes[0]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("# taken at night\n# energy mu\n1 2\n3 4\n", ["energy", "mu"]),
        ("energy,mu\n1,2\n3,4\n", ["energy", "mu"]),
        ("# one two three\n1 2\n3 4\n", ["column_1", "column_2"]),
        ("1;2\n3;4 # not bad\n", ["column_1", "column_2"]),
        ("# x x\n1\t2\n\n3\t4\n", ["column_1", "column_2"]),
    ],
    ids=["last comment", "heading", "too many words", "semicolons", "the same name twice"],
)
def test_names_of_plain_columns(
    content: str, names: list[str], text: Callable[[str], Path]
) -> None:
    _, data = only(text(content))
    assert list(data) == names
    assert [column.tolist() for column in data.values()] == [[1, 3], [2, 4]]


# ---------------------------------------------------------------------------------- NeXus, HDF5


def test_chopper_one_point_is_one_spectrum() -> None:
    measurement, data = only(DATA / "chopper.nxs")
    with h5py.File(DATA / "chopper.nxs") as file:
        entry = file["entry"]
        expected = {
            "polar_angle": entry["data/polar_angle"][()],
            "data": entry["data/data"][()],
            "detector:distance": entry["instrument/detector/distance"][()],
            "time_of_flight": entry["data/time_of_flight"][()][None],
            "monitor1": entry["monitor1/data"][()][None],
            "monitor1:time_of_flight": entry["monitor1/time_of_flight"][()][None],
            "monitor2": entry["monitor2/data"][()][None],
            "monitor2:time_of_flight": entry["monitor2/time_of_flight"][()][None],
        }
        edges = entry["data/time_of_flight"][()].astype(float)
    assert set(data) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(data[name], array, err_msg=name)
        assert data[name].dtype == array.dtype
    assert (measurement.npoints, measurement.number) == (148, 3701)
    assert measurement.axes == ["polar_angle"]
    spectra = channel(measurement, "data")
    assert (spectra.points, spectra.shape, spectra.unit) == (148, (750,), "counts")
    assert spectra.x_axis is not None
    assert (spectra.x_axis.edges, spectra.x_axis.unit) == (True, "microseconds")
    np.testing.assert_array_equal(spectra.x_axis.values, (edges[1:] + edges[:-1]) / 2)
    assert channel(measurement, "polar_angle").display_name == "Polar Angle"


def _entry(file: h5py.File, name: str = "entry") -> h5py.Group:
    entry = file.create_group(name)
    entry.attrs["NX_class"] = "NXentry"
    return entry


def test_bliss_entries_in_the_order_of_their_numbers(hdf5: h5py.File) -> None:
    for name in ("10.1", "2.1"):
        entry = _entry(hdf5, name)
        entry["title"] = f"ascan {name}"
        entry["instrument/positioners/samy"] = np.arange(3.0)
        entry["instrument/positioners/samz"] = 2.5
        measurement = entry.create_group("measurement")
        measurement["diode"] = np.arange(3, dtype=">f4")
        measurement["image"] = np.arange(18, dtype="u1").reshape(3, 2, 3)
        measurement["samy"] = h5py.SoftLink(f"/{name}/instrument/positioners/samy")
    hdf5.flush()
    with open_source(hdf5.filename) as source:
        assert [(m.name, m.number, m.title) for m in source.measurements] == [
            ("2.1", 2, "ascan 2.1"),
            ("10.1", 10, "ascan 10.1"),
        ]
        found = source.measurements[0]
        assert found.axes == ["samy"]
        assert found.positioners == {"samz": 2.5}
        assert channel(found, "diode").dtype == np.dtype(">f4")
        assert channel(found, "image").read(1, 2).tolist() == [[[6, 7, 8], [9, 10, 11]]]
        assert source.select("10") == (source.measurements[1],)
        with pytest.raises(SourceFileError, match=r"no entry '3\.1'; there are: 2\.1, 10\.1"):
            source.select("3.1")


def test_texts_ragged_rows_and_what_cannot_be_a_channel(hdf5: h5py.File) -> None:
    measurement = _entry(hdf5).create_group("measurement")
    measurement["text"] = ["a", "é"]
    ragged = measurement.create_dataset("ragged", (2,), h5py.vlen_dtype("i4"))
    ragged[1] = [1, 2, 3]
    measurement["record"] = np.zeros(2, [("a", "i4"), ("b", "f4")])
    measurement["lost"] = h5py.ExternalLink("nowhere.h5", "/x")
    measurement["circle"] = h5py.SoftLink("/entry/measurement")
    hdf5.flush()
    found, data = only(Path(hdf5.filename))
    assert data["text"] == ["a", "é"]
    assert [point.tolist() for point in data["ragged"]] == [[], [1, 2, 3]]
    assert channel(found, "ragged").shape == (-1,)
    assert sorted(data) == ["ragged", "text"]
    assert "record is left out" in " ".join(found.notes)
    assert "lost is left out: its link leads nowhere" in found.notes


def test_channels_of_unequal_length_are_mentioned(hdf5: h5py.File) -> None:
    measurement = _entry(hdf5).create_group("measurement")
    measurement["a"], measurement["b"] = np.arange(5), np.arange(3)
    hdf5.flush()
    found, data = only(Path(hdf5.filename))
    assert [len(column) for column in data.values()] == [5, 3]
    assert "unequal length, each ends where its data end: a 5, b 3" in found.notes[0]


def test_old_nexus_says_its_signal_at_the_dataset(hdf5: h5py.File) -> None:
    group = _entry(hdf5).create_group("scatter")
    group.attrs["NX_class"] = "NXdata"
    for name in ("I", "x", "y"):
        group[name] = np.arange(4.0)
    group["I"].attrs.update(signal=1, axes="x:y")
    hdf5.flush()
    found, _ = only(Path(hdf5.filename))
    assert [c.name for c in found.channels] == ["x", "y", "I"]
    assert found.axes == ["x", "y"]


def test_hdf5_without_nexus_gives_every_array(hdf5: h5py.File) -> None:
    hdf5["group/x"] = np.arange(3)
    hdf5["y"] = np.eye(3)
    hdf5["group/circle"] = h5py.SoftLink("/")
    hdf5.flush()
    _, data = only(Path(hdf5.filename))
    assert sorted(data) == ["group:x", "y"]


def test_only_what_is_asked_for_is_read(hdf5: h5py.File, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (
        _entry(hdf5)
        .create_group("measurement")
        .create_dataset("big", (10**6, 1000), "f8", chunks=(100, 1000), compression="gzip")
    )  # eight gigabytes, of which nothing is written
    data[123_456] = np.arange(1000)
    hdf5.flush()
    with open_source(hdf5.filename) as source:
        (big,) = source.measurements[0].channels
        assert (big.points, big.block) == (10**6, 100)
        np.testing.assert_array_equal(big.read(123_456, 123_457), [np.arange(1000)])


# ---------------------------------------------------------------------------------- by silx


def test_images_come_through_silx(tmp_path: Path) -> None:
    fabio = pytest.importorskip("fabio")
    pytest.importorskip("silx")
    frames = np.arange(24, dtype="uint16").reshape(2, 3, 4)
    image = fabio.edfimage.EdfImage(data=frames[0])
    image.append_frame(data=frames[1])
    image.write(str(tmp_path / "image.edf"))
    _, data = only(tmp_path / "image.edf")
    ((_, array),) = data.items()
    np.testing.assert_array_equal(array, frames)


def test_silx_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_silx(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "silx":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_silx)
    path = tmp_path / "image.cbf"
    path.write_bytes(b"###CBF: VERSION 1.5\0\0\0")
    with (
        pytest.raises(MissingExtraError, match=r'pip install "blissdata\[files\]"'),
        open_source(path),
    ):
        pass


# ---------------------------------------------------------------------------------- bad input

_BAD = {
    "empty": (b"", "is empty, expected"),
    "unknown": (bytes(range(256)) * 4, "of no known format: it begins with"),
    "prose": (b"Dear reader,\nthis is 1 letter.\n", "of no known format"),
    "cut in a line": ((SPEC_SCAN + "1 2\n3").encode(), r"line 6 .*found 1 number, expected 2.*ends in the middle"),
    "a longer row": ((SPEC_SCAN + "1 2\n3 4 5\n").encode(), r"line 6 .*found 3 numbers, expected 2"),
    "a text": ((SPEC_SCAN + "1 2\n3 four\n").encode(), r"line 6 .*found 'four', expected a number"),
    "a spectrum with a text": ((SPEC_SCAN + "1 2\n@A 1 x\n").encode(), "line 6 .*found 'x'"),
    "a scan without number": (b"#S one ascan\n", r"line 1: found '#S one ascan'"),
    "no points at all": (SPEC_SCAN.encode(), "no point in any"),
    "columns of unequal length": (b"1 2\n3 4\n5\n", "line 3: found 1 number, expected 2"),
    "a text among columns": (b"1 2\n3 x\n", "line 2: found 'x'"),
    "columns cut in a line": (b"1 2\n3 4\n5 ", "line 3: .*ends in the middle"),
    "HDF5 cut short": (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "HDF5 but cannot be opened"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "complaint"), _BAD.values(), ids=_BAD.keys())
def test_a_bad_file_is_named_with_what_was_found(
    content: bytes, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.dat"
    path.write_bytes(content)
    with pytest.raises(SourceFileError, match=complaint) as caught, open_source(path):
        pass
    assert str(path) in str(caught.value)


def test_a_nexus_file_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.nxs"
    path.write_bytes((DATA / "chopper.nxs").read_bytes()[:100_000])
    with pytest.raises(SourceFileError, match="truncated file"), open_source(path):
        pass


def test_a_directory_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceFileError, match="is a directory"), open_source(tmp_path):
        pass
    with pytest.raises(SourceFileError, match="does not exist"), open_source(tmp_path / "no"):
        pass
