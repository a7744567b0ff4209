"""A finished file is read as h5py reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from silx.io import utils as silx_utils

from blissdata.h5api import abstract, static_hdf5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with some of everything."""
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        scan = file.create_group("1.1", track_order=True)
        scan.attrs["NX_class"] = "NXentry"
        scan["title"] = "ascan"
        scan["measurement/diode"] = np.arange(5.0)
        scan["measurement/diode"].attrs["units"] = "A"
        scan.create_dataset("images", (3, 4, 5), "u2", chunks=(1, 4, 5), compression="gzip")
        scan.create_dataset("grows", (3,), "f4", maxshape=(None,))
        scan["empty"] = np.zeros((0, 3))
        scan["link"] = h5py.SoftLink("measurement/diode")
        scan["broken"] = h5py.SoftLink("/nope")
        layout = h5py.VirtualLayout((5,), "f8")
        layout[:] = h5py.VirtualSource(".", "/1.1/measurement/diode", (5,))
        scan.create_virtual_dataset("virtual", layout)
        raw = [(str(tmp_path / "raw.bin"), 0, 24)]
        scan.create_dataset("raw", (3,), "i8", external=raw)
    return path


@pytest.fixture
def pair(path: Path) -> Iterator[tuple[static_hdf5.File, h5py.File]]:
    """The same file, through us and through h5py."""
    with h5py.File(path, locking=False) as theirs, static_hdf5.File(path) as ours:
        yield ours, theirs


def test_groups_and_attributes_are_h5py_s(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    assert isinstance(ours, abstract.File)
    assert list(ours) == list(theirs)
    assert list(ours["1.1"]) == list(theirs["1.1"])
    assert len(ours["1.1"]) == len(theirs["1.1"])
    assert dict(ours["1.1"].attrs) == dict(theirs["1.1"].attrs)
    assert ours["1.1/measurement"]["/1.1/title"].name == "/1.1/title"
    assert ("1.1/broken" in ours) == ("1.1/broken" in theirs)
    for missing in ("nope", "1.1/nope", "1.1/broken", "1.1/title/x"):
        with pytest.raises(KeyError):
            theirs[missing]
        with pytest.raises(KeyError):
            ours[missing]
    with pytest.raises(KeyError):
        ours.attrs["nope"]


def test_datasets_are_h5py_s(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    seen = 0
    for name in theirs["1.1"]:
        native = theirs["1.1"].get(name)
        if not isinstance(native, h5py.Dataset) or name == "raw":
            continue
        seen += 1
        mine = ours["1.1"][name]
        for attribute in ("shape", "dtype", "size", "ndim", "nbytes", "maxshape", "chunks"):
            assert getattr(mine, attribute) == getattr(native, attribute), (name, attribute)
        for attribute in ("compression", "compression_opts", "is_virtual", "external"):
            assert getattr(mine, attribute) == getattr(native, attribute), (name, attribute)
        assert np.array_equal(mine[()], native[()])
        assert np.array_equal(np.asarray(mine), native[()])
        if native.shape:
            assert len(mine) == len(native)
            assert all(map(np.array_equal, mine, native))
    assert seen == 6
    assert ours["1.1/raw"].external == theirs["1.1/raw"].external
    assert ours["1.1/title"].asstr()[()] == "ascan"
    with pytest.raises(TypeError):
        len(ours["1.1/title"])
    with pytest.raises(IndexError):
        ours["1.1/measurement/diode"][5]


def test_links_classes_and_visits_are_h5py_s(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    for name in ("1.1", "1.1/link", "1.1/broken", "1.1/title", "nope"):
        for how in ({"getclass": True}, {"getlink": True, "getclass": True}):
            if name == "1.1/broken" and "getlink" not in how:
                continue  # h5py has a RuntimeError for that
            assert ours.get(name, "default", **how) == theirs.get(name, "default", **how)
        link, expected = (file.get(name, getlink=True) for file in (ours, theirs))
        assert type(link) is type(expected)
        assert getattr(link, "path", None) == getattr(expected, "path", None)
    assert ours.get("1.1/title") == ours["1.1/title"]
    ours_visited: list[tuple[str, str]] = []
    theirs_visited: list[tuple[str, str]] = []
    ours.visititems(lambda name, node: ours_visited.append((name, node.name)))
    theirs.visititems(lambda name, node: theirs_visited.append((name, node.name)))
    assert ours_visited == theirs_visited
    assert ours.visit(lambda name: name if "diode" in name else None) == "1.1/measurement/diode"


def test_nodes_know_their_place(pair: tuple[Any, Any], path: Path) -> None:
    ours, _ = pair
    dataset = ours["1.1/measurement/diode"]
    assert dataset.parent == ours["1.1/measurement"]
    assert dataset.file is ours
    assert ours["1.1"].parent.name == "/"
    assert (ours.parent, ours.name, ours.file, ours.filename) == (None, "/", ours, str(path))
    assert ours["1.1/link"].name == "/1.1/link"
    assert silx_utils.is_file(ours)
    assert silx_utils.is_group(ours["1.1"])
    assert silx_utils.is_dataset(dataset)


@pytest.mark.parametrize("mode", ["r", "a", "w", "r+"])
def test_a_file_is_opened_to_be_read_whatever_mode_is_asked_for(path: Path, mode: str) -> None:
    before = path.read_bytes()
    with static_hdf5.File(path, mode=mode, locking=False) as file:
        assert file.mode == "r"
        assert file["1.1/title"][()] == b"ascan"
    assert path.read_bytes() == before


def test_what_cannot_be_opened_is_h5py_s_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        static_hdf5.File(tmp_path / "nope.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(OSError, match="signature"):
        static_hdf5.File(tmp_path / "text.h5")
    with pytest.raises(TypeError):
        static_hdf5.File(tmp_path / "text.h5", nope=3)


def test_a_closed_file_gives_nothing_more(path: Path) -> None:
    with static_hdf5.File(path) as file:
        dataset = file["1.1/measurement/diode"]
    with pytest.raises((KeyError, ValueError, OSError, RuntimeError)):
        dataset[0]
    with pytest.raises((KeyError, ValueError, OSError, RuntimeError)):
        file["1.1"]
    file.close()
    with h5py.File(path, "a") as again:  # nothing holds it
        again["2.1/x"] = 3
