"""A detector's own files are one dataset, while they come; and stand in for the scan's.

file      0 … 3     4 … 7     8, 9 …          four images in a file, the last one not full
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.h5api.writing import DEADLINE_S, Watched, Writer

from blissdata.h5api import dynamic_hdf5
from blissdata.h5api.utils.hdf5_retry import RetryError, RetryTimeoutError
from blissdata.h5api.utils.lima import LimaDataset, lima_url_template

NAME = "/1.1/instrument/eiger/data"
PER_FILE = 4
IMAGES = np.arange(10 * 2 * 3, dtype="u2").reshape(10, 2, 3)


def save(directory: Path, number: int, images: Any = None, path: str = "measurement") -> Path:
    """Writes one file as Lima does: whole, under its name at once."""
    (directory / "scan0001").mkdir(exist_ok=True)
    if images is None:
        images = IMAGES[number * PER_FILE : (number + 1) * PER_FILE]
    saved = directory / "scan0001" / f"eiger_{number:04d}.h5"
    with h5py.File(saved.with_suffix(".tmp"), "w") as file:
        file[f"entry_0000/{path}/data"] = images
    return saved.with_suffix(".tmp").rename(saved)


@pytest.fixture
def images(tmp_path: Path) -> Iterator[LimaDataset]:
    """The dataset of a scan whose detector has saved nothing yet."""
    with contextlib.closing(LimaDataset(NAME, str(tmp_path))) as dataset:
        yield dataset


@pytest.fixture
def saved(tmp_path: Path, images: LimaDataset) -> LimaDataset:
    """… has saved ten images."""
    for number in range(3):
        save(tmp_path, number)
    return images


# --------------------------------------------------------------------------- templates

GIVEN: dict[str, Any] = {"dirname": "/data", "scan_number": 3, "bliss_detector_name": "eiger"}


@pytest.mark.parametrize(
    ("template", "args", "expected"),
    [
        (None, None, "/data/scan0003/eiger_{file_index}.h5::/entry_0000/measurement/data"),
        ("", {}, "/data/scan0003/eiger_{file_index}.h5::/entry_0000/measurement/data"),
        (
            None,
            {"instrument_name": "ESRF-ID00"},
            "/data/scan0003/eiger_{file_index}.h5::/entry_0000/ESRF-ID00/eiger/data",
        ),
        (
            None,
            {
                "instrument_name": "ESRF-ID00",
                "detector_name": "{bliss_detector_name}-{scan_number}",
            },
            "/data/scan0003/eiger_{file_index}.h5::/entry_0000/ESRF-ID00/eiger-3/data",
        ),
        (
            None,
            {"detector_name": "alone"},
            "/data/scan0003/eiger_{file_index}.h5::/entry_0000/measurement/data",
        ),
        (
            "{dirname}/{run}/{{file_index}}/x.h5::/a/{scan_number}",
            {"run": "{bliss_detector_name}_{scan_number:03d}"},
            "/data/eiger_003/{file_index}/x.h5::/a/3",
        ),
    ],
)
def test_a_template_is_filled(template: str | None, args: Any, expected: str) -> None:
    assert lima_url_template(**GIVEN, url_template=template, url_template_args=args) == expected


def test_a_template_without_file_index_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\{file_index\}"):
        lima_url_template(**GIVEN, url_template="{dirname}/x.h5::/a")


def test_a_template_that_asks_for_more_than_is_given_is_refused() -> None:
    with pytest.raises(
        KeyError, match=r"visit.*given are dirname, scan_number, bliss_detector_name"
    ):
        lima_url_template(**GIVEN, url_template="{dirname}/{visit}_{{file_index}}.h5::/a")


@pytest.mark.parametrize("name", ["eiger", "/x/instrument/eiger/data", "/1.1", ""])
def test_the_path_must_name_scan_and_detector(name: str) -> None:
    with pytest.raises(ValueError, match="path of a detector"):
        LimaDataset(name, "/data")


def test_the_template_says_where_the_files_are(tmp_path: Path) -> None:
    odd = tmp_path / "x[1]*"  # names that look like patterns
    for number in (7, 10, 9, 8, 11):
        directory = odd / f"run{number}"
        directory.mkdir(parents=True)
        with h5py.File(directory / f"det-{number}.h5", "w") as file:
            file["a/b"] = np.full((1, 2), number)
    (odd / "run12").mkdir()
    (odd / "run12" / "det-13.h5").write_text("another number")
    (odd / "runx").mkdir()
    template = "{dirname}/{odd}/run{{file_index}}/det-{{file_index}}.h5::/a/b"
    dataset = LimaDataset(NAME, str(tmp_path), template, {"odd": "x[1]*"})
    assert [image[0] for image in dataset] == [7, 8, 9, 10, 11]
    dataset.close()


# --------------------------------------------------------------------------- reading

ACCESSES: dict[str, Callable[[LimaDataset], Any]] = {
    "shape": lambda images: images.shape,
    "dtype": lambda images: images.dtype,
    "ndim": lambda images: images.ndim,
    "size": lambda images: images.size,
    "len": len,
    "index": lambda images: images[0],
    "slice": lambda images: images[:],
    "iteration": list,
}


@pytest.mark.parametrize("access", ACCESSES)
def test_without_files_every_access_says_so_and_works_later(
    access: str, images: LimaDataset, tmp_path: Path
) -> None:
    with pytest.raises(RetryError, match=r"no lima files exist \(yet\)"):
        ACCESSES[access](images)
    save(tmp_path, 0)
    found = ACCESSES[access](images)
    expected = IMAGES[:PER_FILE] if access != "iteration" else list(IMAGES[:PER_FILE])
    assert np.array_equal(found, ACCESSES[access](expected))


def test_files_are_one_dataset(saved: LimaDataset) -> None:
    assert (saved.name, saved.attrs) == (NAME, {})
    assert (saved.shape, saved.dtype, saved.ndim, saved.size, len(saved)) == (
        (10, 2, 3),
        np.dtype("u2"),
        3,
        60,
        10,
    )
    assert np.array_equal(np.array(list(saved)), IMAGES)


INDICES = [
    *(0, 3, 4, 9, -1, -10, np.int64(5), np.uint8(8), np.array(2)),
    *(
        slice(None),
        slice(2, 9),
        slice(3, None, 2),
        slice(0, 10, 4),
        slice(None, None, 5),
        slice(8, 99),
    ),
    *(slice(5, 2), slice(10, 12), slice(-3, None), slice(None, None, -1), slice(8, 1, -3)),
    *([0, 9], [9, 0], [3, 3, 4], [-1, 0], [], np.array([2, 7]), np.arange(10) % 3 == 0),
    *(..., (...,), (), (..., 0), (..., 0, slice(None)), (slice(None), ...), (0, ...), (0, ..., 1)),
    *((0, 1), (0, 1, 2), (-1, 1), (slice(None), 1, 2), (slice(2, 9, 3), slice(None), [0, 2])),
    *(([0, 9], 1), ([0, 9], 1, 2), ([], 0), (slice(5, 2), 1, 2), (..., 0, 0, 0), (0, 0, 0, ...)),
    (np.arange(10) % 3 == 0, slice(1), [1, 2]),
    [bool(number % 3 == 0) for number in range(10)],
]


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_an_index_selects_what_numpy_selects(index: Any, saved: LimaDataset) -> None:
    found = saved[index]
    expected = IMAGES
    if isinstance(index, tuple) and len(index) == 3 and not isinstance(index[0], int | type(...)):
        # numpy mixes lists of several axes; here, as in h5py, each axis is for itself
        for axis in (2, 1, 0):
            expected = expected[(*[slice(None)] * axis, index[axis])]
    else:
        expected = expected[index]
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


def test_a_list_of_images_takes_anything_for_the_image(saved: LimaDataset) -> None:
    assert np.array_equal(saved[[1, 8], [0, 1], 2], IMAGES[[1, 8]][:, [0, 1], 2])
    assert np.array_equal(saved[[8, 1], 0, [0, 2]], IMAGES[[8, 1]][:, 0, [0, 2]])


@pytest.mark.parametrize("index", [10, 12, -11, [0, 10], (99, 1)], ids=repr)
def test_images_that_are_not_there_may_come(index: Any, saved: LimaDataset) -> None:
    with pytest.raises(RetryError, match=r"lima file -?\d+ does not (exist|have it) \(yet\)"):
        saved[index]


def test_a_missing_later_file_may_come(saved: LimaDataset, tmp_path: Path) -> None:
    with pytest.raises(RetryError, match="lima file 3 does not exist"):
        saved[13]
    assert len(saved) == 10
    save(tmp_path, 2, np.repeat(IMAGES[8:9], PER_FILE, axis=0))
    save(tmp_path, 3, IMAGES[:2])
    assert len(saved) == 14
    assert np.array_equal(saved[13], IMAGES[1])


def test_a_gap_is_not_read_over(tmp_path: Path, images: LimaDataset) -> None:
    """Files may come out of order: what lies behind the gap would have other numbers."""
    save(tmp_path, 0)
    save(tmp_path, 2)
    assert len(images) == 4
    with pytest.raises(RetryError, match="lima file 1 does not exist"):
        images[5]
    save(tmp_path, 1)
    assert np.array_equal(images[:], IMAGES)


def test_a_last_file_that_cannot_be_opened_yet_is_not_read(
    saved: LimaDataset, tmp_path: Path
) -> None:
    (tmp_path / "scan0001" / "eiger_0003.h5").write_bytes(b"")
    assert len(saved) == 10
    assert np.array_equal(saved[-1], IMAGES[-1])
    with pytest.raises(RetryError):
        saved[12]


def test_a_file_that_ends_early_in_the_middle_may_be_completed(
    saved: LimaDataset, tmp_path: Path
) -> None:
    save(tmp_path, 1, IMAGES[4:6])
    assert np.array_equal(saved[5], IMAGES[5])
    for index in (7, slice(None)):
        with pytest.raises(RetryError, match="lima file 1 has 2 images"):
            saved[index]
    save(tmp_path, 1)
    assert np.array_equal(saved[:], IMAGES)


def test_a_file_that_grows_is_followed(tmp_path: Path, images: LimaDataset, writer: Writer) -> None:
    (tmp_path / "scan0001").mkdir()
    writer(
        'file = h5py.File("scan0001/eiger_0000.h5", "w")\n'
        'data = file.create_dataset("entry_0000/measurement/data", (0, 2, 3), "u2",'
        " maxshape=(None, 2, 3)); file.flush()"
    )
    assert len(images) == 0
    for length in range(1, 5):
        writer("data.resize(len(data) + 1, axis=0); data[-1] = len(data); file.flush()")
        assert images[-1][0, 0] == len(images) == length


@pytest.mark.parametrize(
    "index", ["x", None, 1.5, True, [0.5], [[0]], (0, 9), (0, 0, 0, 0), (0, "x")]
)
def test_an_index_that_no_file_can_mend_is_refused(index: Any, saved: LimaDataset) -> None:
    with pytest.raises((TypeError, ValueError, IndexError)) as caught:
        saved[index]
    assert not isinstance(caught.value, RetryError)


def test_images_in_another_place_wait_for_the_right_one(
    tmp_path: Path, images: LimaDataset
) -> None:
    save(tmp_path, 0, path="elsewhere")
    with pytest.raises(RetryError, match="lima file 0 cannot be opened"):
        images[0]
    save(tmp_path, 0)
    assert np.array_equal(images[0], IMAGES[0])


# --------------------------------------------------------------------------- in a scan's file

SCAN = """
file = h5py.File("scan.h5", "w")
scan = file.create_group("1.1")
scan["instrument/diode/data"] = np.arange(3)
scan["measurement/eiger"] = h5py.SoftLink("/1.1/instrument/eiger/data")
scan["writer/status"] = "RUNNING"
file.flush()
"""

FINISH = 'scan["end_time"] = "now"; file.flush()'

LINK = """
layout = h5py.VirtualLayout((10, 2, 3), "u2")
for number, length in enumerate((4, 4, 2)):
    source = h5py.VirtualSource(
        f"scan0001/eiger_{number:04d}.h5", "entry_0000/measurement/data", (length, 2, 3)
    )
    layout[number * 4 : number * 4 + length] = source
scan.create_virtual_dataset("instrument/eiger/data", layout)
scan["instrument/eiger/data"].attrs["interpretation"] = "image"
file.flush()
"""


def opened(tmp_path: Path, timeout: float = DEADLINE_S, **options: Any) -> dynamic_hdf5.File:
    return dynamic_hdf5.File(
        tmp_path / "scan.h5",
        hdf5_retry_handler=Watched,
        retry_timeout=timeout,
        **{"lima_names": ["eiger"], **options},
    )


def test_the_detector_s_files_stand_in_until_the_scan_has_them(
    tmp_path: Path, writer: Writer, meanwhile: Callable[..., Any]
) -> None:
    writer(SCAN)
    with opened(tmp_path) as file:
        dataset = file[NAME]
        read = meanwhile(
            file,
            lambda: dataset[5],
            *(lambda number=number: save(tmp_path, number) for number in (0, 1)),
        )
        assert np.array_equal(read, IMAGES[5])
        assert (dataset.shape, dataset.dtype, len(dataset)) == ((8, 2, 3), np.dtype("u2"), 8)
        assert dict(dataset.attrs) == {}
        assert not dataset.is_virtual
        assert dataset.parent.name == "/1.1/instrument/eiger"
        assert np.array_equal(file["1.1/measurement/eiger"][5], IMAGES[5])
        save(tmp_path, 2)
        writer(LINK + FINISH)
        assert np.array_equal(dataset[:], IMAGES)
        assert dataset.is_virtual
        assert dict(dataset.attrs) == {"interpretation": "image"}


def test_images_are_followed_over_files_into_the_scan_s_own(
    tmp_path: Path, writer: Writer, meanwhile: Callable[..., Any]
) -> None:
    writer(SCAN)
    with opened(tmp_path) as file:
        followed = meanwhile(
            file,
            lambda: list(file[NAME]),
            *(lambda number=number: save(tmp_path, number) for number in range(3)),
            lambda: writer(LINK + FINISH),
        )
    assert np.array_equal(followed, IMAGES)


@pytest.mark.parametrize("linked", [False, True], ids=["not linked", "linked"])
def test_files_of_a_finished_scan_are_read_to_their_end(
    linked: bool, tmp_path: Path, writer: Writer
) -> None:
    for number in range(3):
        save(tmp_path, number)
    writer(SCAN + (LINK if linked else "") + FINISH)
    with opened(tmp_path) as file:
        assert np.array_equal(list(file[NAME]), IMAGES)
        for index in (10, -11, [0, 10]):
            with pytest.raises(IndexError, match="nobody writes there any more"):
                file[NAME][index]


def test_a_finished_scan_without_images_has_none(tmp_path: Path, writer: Writer) -> None:
    writer(SCAN + FINISH)
    with opened(tmp_path) as file:
        for name in (NAME, "1.1/measurement/eiger"):
            with pytest.raises(KeyError, match="nobody writes there any more"):
                file[name]


def test_when_the_time_is_up_there_are_no_images(tmp_path: Path, writer: Writer) -> None:
    writer(SCAN)
    with opened(tmp_path, timeout=0) as file:
        dataset = file[NAME]
        for read in (lambda: dataset[0], lambda: dataset.shape, lambda: dataset.dtype):
            with pytest.raises(RetryTimeoutError, match="no lima files exist"):
                read()
        assert (len(dataset), list(dataset)) == (0, [])
        save(tmp_path, 0)
        assert len(dataset) == PER_FILE
        with pytest.raises(RetryTimeoutError, match="lima file 1 does not exist"):
            dataset[4]
        assert len(list(dataset)) == PER_FILE


def test_only_detectors_that_are_named_have_files(tmp_path: Path, writer: Writer) -> None:
    writer(SCAN)
    save(tmp_path, 0)
    with opened(tmp_path, timeout=0, lima_names=("pilatus", "basler")) as file:
        assert NAME not in file
        assert file["1.1/instrument/pilatus/data"].name == "/1.1/instrument/pilatus/data"
        assert "1.1/measurement/pilatus" not in file
        assert "1.1/instrument/pilatus/data/x" not in file


def test_the_detector_s_files_come_first_if_that_is_asked_for(
    tmp_path: Path, writer: Writer
) -> None:
    writer(SCAN + 'scan["instrument/eiger/data"] = np.full((1, 2, 3), 77)' + "\n" + FINISH)
    for number in range(3):
        save(tmp_path, number)
    with opened(tmp_path) as file:
        assert file[NAME].shape == (1, 2, 3)
    with opened(tmp_path, prioritize_non_native_h5items=True) as file:
        assert file[NAME].shape == (10, 2, 3)
        assert np.array_equal(list(file[NAME]), IMAGES)
        assert file["1.1/instrument/diode/data"].shape == (3,)


def test_files_first_ends_too_when_the_scan_has_none(tmp_path: Path, writer: Writer) -> None:
    writer(SCAN + 'scan["instrument/eiger/data"] = np.full((1, 2, 3), 77)' + "\n" + FINISH)
    with opened(tmp_path, prioritize_non_native_h5items=True) as file:
        assert list(iter(file[NAME])) == []
        with pytest.raises(IndexError, match="no lima files exist"):
            file[NAME][0]


def test_the_instrument_s_name_belongs_into_the_args_of_the_template(
    tmp_path: Path, writer: Writer
) -> None:
    writer(SCAN)
    save(tmp_path, 0, path="ESRF-ID00/eiger")
    args = {"instrument_name": "ESRF-ID00"}
    with opened(tmp_path, lima_url_template_args=args) as file:
        assert np.array_equal(file[NAME][3], IMAGES[3])
    with pytest.warns(DeprecationWarning, match="lima_url_template_args") as caught:
        file = opened(tmp_path, instrument_name="ESRF-ID00")
    assert caught[0].filename == __file__
    with file:
        assert np.array_equal(file[NAME][3], IMAGES[3])
    template = "{dirname}/scan{scan_number:04d}/eiger_{{file_index}}.h5::/entry_0000/{x}/data"
    with opened(tmp_path, lima_url_template=template, lima_url_template_args={"x": "y"}) as file:
        save(tmp_path, 0, path="y")
        assert np.array_equal(file[NAME][3], IMAGES[3])
