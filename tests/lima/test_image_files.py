"""Images out of files that h5py and fabio wrote.

formats       HDF5 (plain, gzip, bitshuffle), EDF with several frames, CBF, TIFF; names in any case
not there     file, dataset, index
not allowed   outside the roots: the file, a link, an external link, raw storage, the pixels of an EDF
damaged       cut, empty, of another format than promised
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fabio.cbfimage import CbfImage
from fabio.edfimage import EdfImage
from fabio.tifimage import TifImage

from blissdata.data_roots import DataRoots
from blissdata.exceptions import (
    DataFileContentError,
    DataFileError,
    DataFileIncompleteError,
    DataFileMissingError,
    DataFileRefusedError,
    MissingExtraError,
)
from blissdata.lima.image_files import open_images
from blissdata.lima.image_utils import image_from_file

IMAGES = np.arange(60, dtype=np.uint16).reshape(3, 4, 5) * 7


def roots(path: Path) -> DataRoots:
    return DataRoots((str(path),), "of this test")


def hdf5(path: Path, data: Any = IMAGES, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data", data=data, **options)
    return path


def edf(path: Path) -> Path:
    image = EdfImage(data=IMAGES[0])
    for more in IMAGES[1:]:
        image.append_frame(data=more)
    image.write(str(path))
    return path


@pytest.mark.parametrize("name", ["HDF5", "hdf5", "HDF5BS", "Hdf5Gz"])
@pytest.mark.parametrize("how", ["plain", "gzip", "bitshuffle"])
def test_an_image_of_an_hdf5_file(tmp_path: Path, name: str, how: str) -> None:
    import hdf5plugin

    options = {
        "plain": {},
        "gzip": {"compression": "gzip", "chunks": (1, 4, 5)},
        "bitshuffle": {**hdf5plugin.Bitshuffle(), "chunks": (1, 4, 5)},
    }
    path = hdf5(tmp_path / "a.h5", **options[how])
    for index in range(3):
        image = image_from_file(str(path), "/entry/data", index, name)
        np.testing.assert_array_equal(image, IMAGES[index], strict=True)
    image[:] = 0


@pytest.mark.parametrize("name", ["EDF", "edf", "EDFConcat"])
def test_an_image_of_an_edf_file(tmp_path: Path, name: str) -> None:
    path = edf(tmp_path / "a.edf")
    for index in (2, 0, 1):
        image = image_from_file(path, None, index, name)
        np.testing.assert_array_equal(image, IMAGES[index], strict=True)
    image[:] = 0


def test_an_image_of_a_compressed_edf_file(tmp_path: Path) -> None:
    packed = tmp_path / "a.edf.gz"
    packed.write_bytes(gzip.compress(edf(tmp_path / "a.edf").read_bytes()))
    np.testing.assert_array_equal(image_from_file(packed, None, 2, "EDFGZ"), IMAGES[2])


@pytest.mark.parametrize("name", ["CBF", "cbf", "CBFMiniHeader"])
def test_an_image_of_a_cbf_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.cbf"
    CbfImage(data=IMAGES[1].astype(np.int32)).write(str(path))
    np.testing.assert_array_equal(image_from_file(path, None, 0, name), IMAGES[1])


@pytest.mark.parametrize("name", ["TIFF", "tif"])
def test_an_image_of_a_tiff_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tif"
    TifImage(data=IMAGES[1]).write(str(path))
    np.testing.assert_array_equal(image_from_file(path, None, 0, name), IMAGES[1])


@pytest.mark.parametrize("name", ["RAW", "", "NXS", "h5"])
def test_another_format_is_a_runtime_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(RuntimeError, match="format not supported"):
        image_from_file(edf(tmp_path / "a.edf"), None, 0, name)


@pytest.mark.parametrize("name", ["HDF5", "EDF"])
def test_many_images_at_once(tmp_path: Path, name: str) -> None:
    path = hdf5(tmp_path / "a.h5") if name == "HDF5" else edf(tmp_path / "a.edf")
    with open_images(str(path), "entry/data", name, roots(tmp_path)) as file:
        assert len(file) == 3
        np.testing.assert_array_equal(file.images(1, 3), IMAGES[1:3], strict=True)


def test_a_dataset_of_two_dimensions_is_one_image(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", IMAGES[2])
    np.testing.assert_array_equal(image_from_file(path, "entry/data", 0, "HDF5"), IMAGES[2])
    with pytest.raises(DataFileIncompleteError, match="has 1 images"):
        image_from_file(path, "entry/data", 1, "HDF5")


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4, 5)])
def test_a_dataset_of_other_dimensions_holds_no_images(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = hdf5(tmp_path / "a.h5", np.zeros(shape))
    with pytest.raises(DataFileContentError, match=f"has {len(shape)} dimensions"):
        image_from_file(path, "entry/data", 0, "HDF5")


@pytest.mark.parametrize(("index", "found"), [(3, "3 images"), (-1, "3 images"), (10**12, "3")])
@pytest.mark.parametrize("name", ["HDF5", "EDF"])
def test_an_index_that_is_not_there(tmp_path: Path, name: str, index: int, found: str) -> None:
    path = hdf5(tmp_path / "a.h5") if name == "HDF5" else edf(tmp_path / "a.edf")
    with pytest.raises(DataFileIncompleteError, match=found):
        image_from_file(path, "entry/data", index, name)


@pytest.mark.parametrize("name", ["HDF5", "EDF", "CBF", "TIFF"])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.dat"):
        image_from_file(tmp_path / "nowhere.dat", "entry/data", 0, name)


def test_a_dataset_that_is_not_there(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5")
    with pytest.raises(LookupError, match="entry2"):
        image_from_file(path, "entry2/data", 0, "HDF5")
    with pytest.raises(DataFileContentError, match="is not known"):
        image_from_file(path, None, 0, "HDF5")
    with pytest.raises(DataFileContentError, match="group"):
        image_from_file(path, "entry", 0, "HDF5")


@pytest.mark.parametrize("name", ["HDF5", "EDF", "CBF", "TIFF"])
@pytest.mark.parametrize("content", ["empty", "text", "cut"])
def test_a_damaged_file_is_one_of_ours(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / "a.dat"
    if content == "cut":
        whole = {
            "HDF5": lambda: hdf5(tmp_path / "w"),
            "EDF": lambda: edf(tmp_path / "w"),
            "CBF": lambda: CbfImage(data=IMAGES[1].astype(np.int32)).write(str(tmp_path / "w")),
            "TIFF": lambda: TifImage(data=IMAGES[1]).write(str(tmp_path / "w")),
        }
        whole[name]()
        path.write_bytes((tmp_path / "w").read_bytes()[:100])
    else:
        path.write_bytes(b"" if content == "empty" else b"no image at all\n" * 10)
    with pytest.raises(DataFileError, match=r"a\.dat"):
        image_from_file(path, "entry/data", 0, name)


def test_the_roots_hold_for_the_file_and_for_what_it_points_at(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    secret = hdf5(outside / "secret.h5")
    (inside / "link.h5").symlink_to(secret)
    raw = outside / "raw.bin"
    raw.write_bytes(IMAGES.tobytes())
    with h5py.File(inside / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink(str(secret), "entry/data")
        file.create_dataset("raw", (3, 4, 5), "u2", external=[(str(raw), 0, 120)])
    for name, path_in_file in (
        (secret, "entry/data"),
        (inside / "link.h5", "entry/data"),
        (inside / "a.h5", "link"),
        (inside / "a.h5", "raw"),
    ):
        with pytest.raises(DataFileRefusedError, match="data roots"):
            image_from_file(name, path_in_file, 0, "HDF5", roots(inside))
        image_from_file(name, path_in_file, 0, "HDF5", roots(tmp_path))


def edf_of(pixels: Path) -> bytes:
    """The header of an EDF file whose pixels are in another file."""
    fields = {
        "EDF_DataBlockID": "1.Image.Psd",
        "EDF_BinaryFileName": pixels,
        "EDF_BinaryFilePosition": 0,
        "EDF_BinarySize": 40,
        "HeaderID": "EH:000001:000000:000000",
        "Image": 1,
        "ByteOrder": "LowByteFirst",
        "DataType": "UnsignedShort",
        "Dim_1": 5,
        "Dim_2": 4,
        "Size": 40,
    }
    text = "{\n" + "".join(f"{name} = {value} ;\n" for name, value in fields.items())
    return text.ljust(1022).encode() + b"}\n"


def test_the_roots_hold_for_the_pixels_of_an_edf_file(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    for directory in (inside, outside):
        (directory / "pixels.bin").write_bytes(IMAGES[1].tobytes())
    (inside / "good.edf").write_bytes(edf_of(inside / "pixels.bin"))
    (inside / "bad.edf").write_bytes(edf_of(outside / "pixels.bin"))
    good = image_from_file(inside / "good.edf", None, 0, "EDF", roots(inside))
    np.testing.assert_array_equal(good, IMAGES[1])
    with pytest.raises(DataFileRefusedError, match="data roots"):
        image_from_file(inside / "bad.edf", None, 0, "EDF", roots(inside))


def test_the_environment_bounds_every_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hdf5(tmp_path / "a.h5")
    monkeypatch.setenv("BLISSDATA_DATA_ROOTS", str(tmp_path / "elsewhere"))
    with pytest.raises(DataFileRefusedError, match="BLISSDATA_DATA_ROOTS"):
        image_from_file(path, "entry/data", 0, "HDF5")
    monkeypatch.setenv("BLISSDATA_DATA_ROOTS", str(tmp_path))
    image_from_file(path, "entry/data", 0, "HDF5")


def test_an_hdf5_file_is_not_taken_for_an_edf_file(tmp_path: Path) -> None:
    with pytest.raises(DataFileContentError):
        image_from_file(hdf5(tmp_path / "a.h5"), None, 0, "EDF")


def test_without_fabio_the_error_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = edf(tmp_path / "a.edf")
    monkeypatch.setitem(sys.modules, "fabio", None)
    with pytest.raises(MissingExtraError, match=r"blissdata\[files\]"):
        image_from_file(path, None, 0, "EDF")
    hdf5(tmp_path / "a.h5")
    np.testing.assert_array_equal(
        image_from_file(tmp_path / "a.h5", "entry/data", 0, "HDF5"), IMAGES[0]
    )


def test_a_missing_file_says_that_it_may_come(tmp_path: Path) -> None:
    with pytest.raises(DataFileMissingError, match="yet"):
        image_from_file(tmp_path / "later.h5", "entry/data", 0, "HDF5")
