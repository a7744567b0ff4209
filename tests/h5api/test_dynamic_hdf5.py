"""A file that another process is writing: what is not there is waited for, as the table says.

                                not there yet     time up               scan finished
group[name], attrs[key]         wait              KeyError              KeyError at once
iterate group, attributes       wait for more     stop                  stop
iterate dataset                 wait for more     stop                  stop after the last
dataset[i], [list]              wait              RetryTimeoutError     IndexError at once
dataset[a:b], len()             what is there     0
dtype shape size ndim           wait              RetryTimeoutError
virtual, last source not open   wait              as above              IndexError; iterate: wait
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from silx.utils.retry import RetryError as SilxRetryError
from silx.utils.retry import RetryTimeoutError as SilxRetryTimeoutError
from tests.h5api.conftest import SimulatedTime
from tests.h5api.writing import DEADLINE_S, Watched, Writer

from blissdata.exceptions import DataFileError
from blissdata.h5api import dynamic_hdf5
from blissdata.h5api.utils.bliss import BlissDynamicHDF5Handler
from blissdata.h5api.utils.file_state import FileState
from blissdata.h5api.utils.hdf5 import DynamicHDF5Handler
from blissdata.h5api.utils.hdf5_retry import RetryError, RetryTimeoutError

Meanwhile = Callable[..., Any]

CREATE = """
file = h5py.File("scan.h5", "w")
scan = file.create_group("1.1")
scan.attrs["NX_class"] = "NXentry"
diode = scan.create_dataset("measurement/diode", data=np.arange(3.0), maxshape=(None,), chunks=(4,))
file.flush()
"""

GROW = """
diode.resize((len(diode) + 2,))
diode[-2:] = len(diode) + np.arange(-2, 0)
file.flush()
"""

FINISH = """
scan["end_time"] = "2026-11-25T12:00:00"
file.flush()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scan.h5"


def wait_until_at_rest(path: Path) -> None:
    """Until the file has not changed for so long that what is in it is believed at once."""
    while not FileState.of(str(path)).settled:
        time.sleep(0.001)


@pytest.fixture
def patient(path: Path) -> Iterator[dynamic_hdf5.File]:
    """The file, read by somebody who waits longer than any test should take."""
    with dynamic_hdf5.File(path, hdf5_retry_handler=Watched, retry_timeout=DEADLINE_S) as file:
        yield file


@pytest.fixture
def hasty(path: Path) -> Iterator[dynamic_hdf5.File]:
    """The file, read by somebody who looks once."""
    with dynamic_hdf5.File(path, hdf5_retry_handler=Watched, retry_timeout=0) as file:
        yield file


# --------------------------------------------------------------------------- not there yet


READS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "group": (lambda file: file["1.1"].name, "/1.1"),
    "dataset": (lambda file: file["1.1/measurement/diode"][1], 1.0),
    "in": (lambda file: "1.1" in file, True),
    "get": (lambda file: file.get("1.1/measurement/diode").shape, (3,)),
    "attribute": (lambda file: file["1.1"].attrs["NX_class"], "NXentry"),
    "length": (len, 1),
    "iteration": (lambda file: next(iter(file)), "1.1"),
    "link": (lambda file: type(file.get("1.1", getlink=True)), h5py.HardLink),
}


@pytest.mark.parametrize("name", READS)
def test_a_file_that_comes_late_is_waited_for(
    name: str, patient: dynamic_hdf5.File, writer: Writer, meanwhile: Meanwhile
) -> None:
    read, expected = READS[name]
    assert meanwhile(patient, lambda: read(patient), lambda: writer(CREATE)) == expected


def test_a_file_that_is_no_hdf5_yet_is_waited_for(
    patient: dynamic_hdf5.File, writer: Writer, meanwhile: Meanwhile, path: Path
) -> None:
    path.write_bytes(b"")
    assert meanwhile(patient, lambda: "1.1" in patient, lambda: writer(CREATE)) is True


def test_names_and_attributes_that_come_late_are_waited_for(
    patient: dynamic_hdf5.File, writer: Writer, meanwhile: Meanwhile
) -> None:
    writer(CREATE)
    late = meanwhile(
        patient,
        lambda: patient["1.1/instrument/eiger"].name,
        lambda: writer('scan.create_group("instrument"); file.flush()'),
        lambda: writer('scan.create_group("instrument/eiger"); file.flush()'),
    )
    assert late == "/1.1/instrument/eiger"
    attribute = meanwhile(
        patient,
        lambda: patient["1.1"].attrs["title"],
        lambda: writer('scan.attrs["title"] = "ascan"; file.flush()'),
    )
    assert attribute == "ascan"


@pytest.mark.parametrize(
    ("index", "expected"),
    [(4, 4.0), (-5, 0.0), ([0, 4], [0.0, 4.0]), (np.arange(5), np.arange(5.0))],
    ids=str,
)
def test_points_that_come_late_are_waited_for(
    index: Any,
    expected: Any,
    patient: dynamic_hdf5.File,
    writer: Writer,
    meanwhile: Meanwhile,
) -> None:
    writer(CREATE)
    dataset = patient["1.1/measurement/diode"]
    found = meanwhile(patient, lambda: dataset[index], lambda: writer(GROW))
    assert np.array_equal(found, expected)


def test_slices_lengths_and_shapes_are_those_of_now(
    hasty: dynamic_hdf5.File, writer: Writer
) -> None:
    writer(CREATE)
    dataset = hasty["1.1/measurement/diode"]
    assert dataset[1:99].tolist() == [1, 2]
    for length in (3, 5, 7, 9):
        shape = (dataset.shape, dataset.size, dataset.ndim, len(dataset), dataset.dtype)
        assert shape == ((length,), length, 1, length, np.float64)
        assert dataset[:].tolist() == list(range(length))
        assert dataset[()].tolist() == list(range(length))
        assert dataset[length:].tolist() == []
        writer(GROW)
    assert (dataset.maxshape, dataset.chunks) == ((None,), (4,))


def test_a_dataset_is_followed_until_its_scan_ends(
    patient: dynamic_hdf5.File, writer: Writer, meanwhile: Meanwhile
) -> None:
    writer(CREATE)
    followed = meanwhile(
        patient,
        lambda: list(map(float, patient["1.1/measurement/diode"])),
        *[lambda: writer(GROW)] * 3,
        lambda: writer(GROW + FINISH),
    )
    assert followed == list(range(11))


def test_the_last_points_are_not_lost_if_they_come_with_the_end(path: Path, writer: Writer) -> None:
    """The scan ends between the reader's look at the points and its look at `end_time`."""
    writer(CREATE)

    class Unlucky(BlissDynamicHDF5Handler):
        def _is_finished(self, item: Any) -> bool:
            if not done:
                done.append(True)
                writer(GROW + FINISH)
                return True
            return super()._is_finished(item)

    for read, expected in (
        (lambda file: [float(value) for value in file["1.1/measurement/diode"]], [0, 1, 2, 3, 4]),
        (lambda file: file["1.1/measurement/diode"][6], 6),
    ):
        done: list[bool] = []
        with dynamic_hdf5.File(path, hdf5_retry_handler=Unlucky, retry_timeout=DEADLINE_S) as file:
            if expected == 6:
                writer('del scan["end_time"]; file.flush()')
            wait_until_at_rest(path)
            assert read(file) == expected
        assert done


def test_names_are_followed_until_the_writer_says_that_it_runs(
    patient: dynamic_hdf5.File, writer: Writer, meanwhile: Meanwhile
) -> None:
    writer(CREATE)
    names = meanwhile(
        patient,
        lambda: list(iter(patient["1.1"])),
        lambda: writer('scan["writer/status"] = "STARTING"; file.flush()'),
        lambda: writer('scan.create_group("instrument"); file.flush()'),
        lambda: writer('scan["writer/status"][()] = "RUNNING"; scan["a"] = 1; file.flush()'),
    )
    assert sorted(names) == ["a", "instrument", "measurement", "writer"]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED", "FAILED"])
def test_a_group_is_complete_once_the_writer_runs_or_ran(
    status: str, patient: dynamic_hdf5.File, writer: Writer
) -> None:
    writer(CREATE + f'scan["writer/status"] = "{status}"; file.flush()')
    assert list(patient["1.1"]) == ["measurement", "writer"]
    assert list(patient["1.1/measurement"]) == ["diode"]
    assert dict(patient["1.1"].attrs) == {"NX_class": "NXentry"}


def test_the_root_is_never_complete(
    patient: dynamic_hdf5.File, writer: Writer, meanwhile: Meanwhile
) -> None:
    writer(CREATE + FINISH)
    names: list[str] = []

    def until_the_third() -> list[str]:
        for name in patient:
            names.append(name)
            if len(names) == 3:
                break
        return names

    found = meanwhile(
        patient,
        until_the_third,
        lambda: writer('file.create_group("2.1"); file.flush()'),
        lambda: writer('file.create_group("0.1"); file.flush()'),  # sorts before the others
    )
    assert found == ["1.1", "2.1", "0.1"]


# --------------------------------------------------------------------------- the time is up


def test_without_time_what_is_not_there_is_told_at_once(hasty: dynamic_hdf5.File) -> None:
    """No file at all."""
    with pytest.raises(KeyError, match=r"/1\.1 in .*scan.h5: not there after 0 s.*does not exist"):
        hasty["1.1"]
    with pytest.raises(KeyError, match="attribute 'title' of /"):
        hasty.attrs["title"]
    assert "1.1" not in hasty
    assert hasty.get("1.1", 3) == 3
    assert hasty.get("1.1", 3, getlink=True) == 3
    assert (len(hasty), len(hasty.attrs), list(hasty), list(hasty.attrs)) == (0, 0, [], [])


def test_without_time_a_running_scan_has_what_is_there(
    hasty: dynamic_hdf5.File, writer: Writer
) -> None:
    writer(CREATE)
    dataset = hasty["1.1/measurement/diode"]
    assert list(hasty["1.1"]) == ["measurement"]
    assert [float(value) for value in dataset] == [0, 1, 2]
    assert list(dataset.attrs) == []
    for index in (3, -4, [0, 3], np.ones(4, bool)):
        with pytest.raises(RetryTimeoutError, match=r"of /1\.1/measurement/diode in .*scan.h5"):
            dataset[index]
    with pytest.raises(KeyError):
        hasty["1.1/nope"]
    with pytest.raises(KeyError):
        hasty["1.1"].attrs["nope"]
    assert "nope" not in hasty["1.1"].attrs


def test_a_dataset_whose_file_went_away_is_waited_for_then_given_up(
    hasty: dynamic_hdf5.File, writer: Writer, path: Path
) -> None:
    writer(CREATE + "file.close()")
    dataset = hasty["1.1/measurement/diode"]
    assert dataset[2] == 2
    path.unlink()
    for attribute in ("dtype", "shape", "size", "ndim"):
        with pytest.raises(RetryTimeoutError, match=f"{attribute} of /1.1/measurement/diode"):
            getattr(dataset, attribute)
    with pytest.raises(RetryTimeoutError, match="does not exist"):
        dataset[0]
    assert (len(dataset), list(dataset), list(hasty)) == (0, [], [])
    writer(CREATE)
    assert dataset[2] == 2


def test_errors_are_those_of_silx_and_have_their_cause(hasty: dynamic_hdf5.File) -> None:
    assert RetryTimeoutError is SilxRetryTimeoutError
    assert RetryError is SilxRetryError
    with pytest.raises(KeyError) as caught:
        hasty["1.1"]
    assert isinstance(caught.value.__cause__, SilxRetryTimeoutError)
    assert isinstance(caught.value.__cause__.__cause__, SilxRetryError)


def test_a_waiting_reader_looks_now_and_then(path: Path, simulated: SimulatedTime) -> None:
    """The number of looks is bounded by time over pause, however quick or slow the machine is."""
    for period, at_most in ((None, 12), (0.2, 5)):
        with dynamic_hdf5.File(
            path, hdf5_retry_handler=Watched, retry_timeout=0.5, retry_period=period
        ) as file:
            assert "1.1" not in file
            assert 2 <= file.handler.tries <= at_most  # type: ignore[attr-defined]


# --------------------------------------------------------------------------- finished


def test_what_a_finished_scan_lacks_is_told_at_once(
    patient: dynamic_hdf5.File, writer: Writer
) -> None:
    writer(CREATE + FINISH)
    dataset = patient["1.1/measurement/diode"]
    for index in (3, -4, [0, 3], [-4], np.ones(4, bool)):
        with pytest.raises(IndexError, match="nobody writes there any more"):
            dataset[index]
    for name in ("1.1/nope", "1.1/nope/deeper", "1.1/measurement/diode/x"):
        with pytest.raises(KeyError, match="nobody writes there any more"):
            patient[name]
    with pytest.raises(KeyError, match="has no attribute 'nope'"):
        patient["1.1"].attrs["nope"]
    assert patient["1.1"].get("nope") is None
    assert [float(value) for value in dataset] == [0, 1, 2]
    assert sorted(patient["1.1"]) == ["end_time", "measurement"]


def test_links_to_nowhere_in_a_finished_scan_are_told_at_once(
    patient: dynamic_hdf5.File, hasty: dynamic_hdf5.File, writer: Writer
) -> None:
    writer(
        CREATE
        + 'h5py.File("other.h5", "w").close()\n'
        + 'scan["soft"] = h5py.SoftLink("/1.1/nope"); scan["cycle"] = h5py.SoftLink("/1.1/cycle")\n'
        + 'scan["relative"] = h5py.SoftLink("measurement/nope")\n'
        + 'scan["good"] = h5py.SoftLink("measurement/diode")\n'
        + 'scan["outside"] = h5py.ExternalLink("other.h5", "/nope")\n'
        + FINISH
    )
    for name in ("soft", "relative", "cycle", "outside"):
        with pytest.raises(KeyError, match="nobody writes there any more"):
            patient["1.1"][name]
    assert patient["1.1/good"][2] == 2
    assert patient["1.1/good"].name == "/1.1/good"
    assert patient["1.1"].get("good", getlink=True).path == "measurement/diode"
    assert patient["1.1"].get("good", getlink=True, getclass=True) is h5py.SoftLink
    assert patient["1.1"].get("good", getclass=True) is h5py.Dataset


def test_links_out_of_a_finished_scan_may_come_true(
    patient: dynamic_hdf5.File, writer: Writer, meanwhile: Meanwhile
) -> None:
    writer(
        CREATE
        + 'scan["next"] = h5py.SoftLink("/2.1/x"); scan["file"] = h5py.ExternalLink("b.h5", "x")\n'
        + FINISH
    )
    change = 'file["2.1/x"] = 5; file.flush()'
    assert meanwhile(patient, lambda: patient["1.1/next"][()], lambda: writer(change)) == 5
    change = 'h5py.File("b.h5", "w", track_order=True)["x"] = 6'
    assert meanwhile(patient, lambda: patient["1.1/file"][()], lambda: writer(change)) == 6


def test_a_file_without_scans_is_finished_for_the_plain_handler(path: Path, writer: Writer) -> None:
    writer(CREATE)
    plain = dynamic_hdf5.File(path, hdf5_retry_handler=DynamicHDF5Handler, retry_timeout=DEADLINE_S)
    with plain as file:
        assert list(file) == ["1.1"]
        assert [float(value) for value in file["1.1/measurement/diode"]] == [0, 1, 2]
        with pytest.raises(KeyError):
            file["2.1"]
        with pytest.raises(IndexError):
            file["1.1/measurement/diode"][3]


def test_subclasses_say_what_is_complete_and_finished(
    path: Path, writer: Writer, meanwhile: Meanwhile
) -> None:
    class Marked(Watched):
        """A file of another kind: `done` at the top tells that nobody writes any more."""

        def _is_initialized(self, item: Any) -> bool:
            return self._is_finished(item)

        def _is_finished(self, item: Any) -> bool:
            return "done" in item.file

    writer(CREATE)
    with dynamic_hdf5.File(path, hdf5_retry_handler=Marked, retry_timeout=DEADLINE_S) as file:
        names = meanwhile(
            file,
            lambda: list(iter(file)),
            lambda: writer('file["x"] = 1; file["done"] = 1; file.flush()'),
        )
        assert sorted(names) == ["1.1", "done", "x"]


# --------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "index",
    [None, 1.5, "x", (0, 0), slice(None, None, -1), [1, 0], [[0]], np.ones(2, bool)],
    ids=str,
)
def test_an_index_that_no_growth_can_mend_is_refused_at_once(
    index: Any, patient: dynamic_hdf5.File, writer: Writer
) -> None:
    writer(CREATE)
    with pytest.raises((TypeError, ValueError)):
        patient["1.1/measurement/diode"][index]


def test_scalars_have_no_length_and_no_points(patient: dynamic_hdf5.File, writer: Writer) -> None:
    writer(CREATE + 'scan["title"] = "ascan"; scan["nb"] = 3; file.flush()')
    title = patient["1.1/title"]
    assert title[()] == b"ascan"
    assert title.asstr()[()] == "ascan"
    assert patient["1.1/nb"][()] == 3
    with pytest.raises(TypeError, match="len"):
        len(title)
    with pytest.raises(TypeError, match="iterate"):
        list(iter(title))
    with pytest.raises(ValueError, match="scalar"):
        title[0]


@pytest.mark.parametrize(
    "options",
    [
        *({"nope": 3}, {"libver": "nope"}, {"retry_timeout": -1}, {"retry_period": "x"}),
        *({"mode": "a"}, {"lima_url_template": "x", "lima_name": "y"}),
    ],
    ids=str,
)
def test_wrong_options_are_told_at_once(
    options: dict[str, Any], path: Path, writer: Writer
) -> None:
    writer(CREATE)
    with (
        pytest.raises((TypeError, ValueError)),
        dynamic_hdf5.File(path, **{"retry_timeout": DEADLINE_S, **options}) as file,
    ):
        file["1.1"]


@pytest.mark.parametrize("key", [0, None, 1.5])
def test_names_are_text(key: Any, patient: dynamic_hdf5.File) -> None:
    with pytest.raises(TypeError, match="bytes or str"):
        patient[key]


def test_an_empty_name_is_the_group_itself(patient: dynamic_hdf5.File, writer: Writer) -> None:
    writer(CREATE)
    assert patient[""] == patient["/"]
    assert patient["1.1"][""] == patient["1.1"]["."] == patient["1.1"]


# --------------------------------------------------------------------------- nodes


def test_paths_are_resolved_and_nodes_know_their_place(
    hasty: dynamic_hdf5.File, writer: Writer
) -> None:
    writer(CREATE)
    group = hasty["1.1"]
    for path in (
        "/1.1/measurement/diode",
        "//1.1/./measurement//diode/",
        b"/1.1/measurement/diode",
    ):
        assert hasty[path].name == group[path].name == "/1.1/measurement/diode"
    dataset = group["measurement"]["diode"]
    assert dataset == hasty["1.1/measurement/diode"]
    assert dataset.file is hasty
    assert dataset.parent == group["measurement"]
    assert group.parent == hasty["/"]
    assert hasty.parent is None
    assert (hasty.name, hasty["/"].name) == ("/", "/")
    assert hasty.filename.endswith("scan.h5")
    visited: list[str] = []
    hasty.visit(visited.append)
    assert visited == ["1.1", "1.1/measurement", "1.1/measurement/diode"]


def test_after_closing_everything_is_a_runtime_error(path: Path, writer: Writer) -> None:
    writer(CREATE)
    with dynamic_hdf5.File(path, retry_timeout=0) as file:
        group, dataset = file["1.1"], file["1.1/measurement/diode"]
        iteration = iter(dataset)
        assert next(iteration) == 0
    uses: list[Callable[[], Any]] = [
        *(
            lambda: file["1.1"],
            lambda: "1.1" in file,
            lambda: file.get("1.1"),
            lambda: file.filename,
        ),
        *(lambda: list(file), lambda: len(file), lambda: group["x"], lambda: list(group.attrs)),
        *(lambda: dataset[0], lambda: len(dataset), lambda: dataset.shape, lambda: list(dataset)),
        *(lambda: dataset.dtype, lambda: group.attrs["x"], lambda: len(group.attrs)),
    ]
    for use in uses:
        with pytest.raises(RuntimeError, match="File was closed"):
            use()
    assert dataset.name == "/1.1/measurement/diode"
    file.close()


def test_closing_ends_a_wait(path: Path) -> None:
    file = dynamic_hdf5.File(path, hdf5_retry_handler=Watched)
    handler: Any = file.handler
    raised: list[Exception] = []

    def wait() -> None:
        try:
            file["1.1"]
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=wait, name="waiting reader")
    thread.start()
    while handler.tries < 3:
        time.sleep(0.001)
    file.close()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert [str(error)[:15] for error in raised] == ["File was closed"]


# --------------------------------------------------------------------------- one file, many readers


def test_files_of_one_real_path_share_a_handler_until_the_last_is_closed(
    tmp_path: Path, path: Path, writer: Writer
) -> None:
    writer(CREATE)
    (tmp_path / "link.h5").symlink_to(path)
    first = dynamic_hdf5.File(path, retry_timeout=0)
    second = dynamic_hdf5.File(
        tmp_path / "link.h5", retry_timeout=DEADLINE_S
    )  # the first one's hold
    assert first.handler is second.handler
    with pytest.raises(KeyError, match="after 0 s"):
        second["2.1"]
    assert second.filename.endswith("link.h5")
    first.close()
    first.close()
    assert second["1.1/measurement/diode"][1] == 1
    with pytest.raises(RuntimeError):
        first["1.1"]
    second.close()
    with (
        dynamic_hdf5.File(path, retry_timeout=0.1) as third,
        pytest.raises(KeyError, match=r"0\.1 s"),
    ):
        third["2.1"]


def test_handlers_are_counted(path: Path, writer: Writer) -> None:
    writer(CREATE)
    first, second = (BlissDynamicHDF5Handler(path, retry_timeout=0) for _ in range(2))
    assert first is second
    first.close()
    assert second.is_group("/1.1")
    assert second.filename == str(path)
    second.close()
    with pytest.raises(RuntimeError, match="File was closed"):
        second.is_group("/1.1")
    with pytest.raises(RuntimeError, match="File was closed"):
        _ = second.filename


def test_who_asks_for_another_kind_of_handler_gets_it(path: Path) -> None:
    with (
        contextlib.closing(DynamicHDF5Handler(path)) as plain,
        contextlib.closing(BlissDynamicHDF5Handler(path)) as bliss,
        contextlib.closing(DynamicHDF5Handler(path)) as again,
    ):
        assert isinstance(bliss, BlissDynamicHDF5Handler)
        assert not isinstance(plain, BlissDynamicHDF5Handler)
        assert again is plain


def test_a_failed_constructor_leaves_no_handler_behind(path: Path) -> None:
    with pytest.raises(ValueError, match="retry_timeout"):
        DynamicHDF5Handler(path, retry_timeout=-1)
    with contextlib.closing(DynamicHDF5Handler(path, retry_timeout=0)) as handler:
        assert handler.len_item("/") == 0


def test_many_threads_read_one_file_while_it_grows(
    patient: dynamic_hdf5.File, writer: Writer
) -> None:
    writer(CREATE)
    found: list[list[float]] = []

    def follow() -> None:
        found.append([float(value) for value in patient["1.1/measurement/diode"]])

    threads = [threading.Thread(target=follow, name=f"reader {number}") for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        writer(GROW)
    writer(FINISH)
    for thread in threads:
        thread.join(DEADLINE_S)
    assert found == [list(range(43))] * 4


# --------------------------------------------------------------------------- what writers do


@pytest.mark.parametrize("locking", ["TRUE", "FALSE"])
@pytest.mark.parametrize("reader_locks", [None, False, True, "best-effort"], ids=str)
def test_writers_and_readers_may_lock_the_file_or_not(
    locking: str, reader_locks: Any, tmp_path: Path, path: Path, meanwhile: Meanwhile
) -> None:
    """A reader that locks has to wait until the writer lets go of the file."""
    openargs = {} if reader_locks is None else {"locking": reader_locks}
    with contextlib.closing(Writer(tmp_path, HDF5_USE_FILE_LOCKING=locking)) as writer:
        writer(CREATE)
        file = dynamic_hdf5.File(
            path, hdf5_retry_handler=Watched, retry_timeout=DEADLINE_S, **openargs
        )
        with file:
            waits = locking == "TRUE" and reader_locks in (True, "best-effort")
            changes = [lambda: writer("file.close()")] if waits else []
            read = meanwhile(file, lambda: file["1.1/measurement/diode"][2], *changes)
    assert read == 2


def test_a_file_that_this_process_has_open_in_another_way_is_told_at_once(
    path: Path, writer: Writer, patient: dynamic_hdf5.File
) -> None:
    writer(CREATE)
    writer("file.close()")
    with (
        h5py.File(path, locking=True),
        pytest.raises(DataFileError, match=r"scan\.h5 is open in this process.*locking=False"),
    ):
        patient["1.1/measurement/diode"]
    with h5py.File(path, locking=False):
        assert patient["1.1/measurement/diode"][2] == 2


def test_a_swmr_writer_is_followed(path: Path, writer: Writer, meanwhile: Meanwhile) -> None:
    """In SWMR mode nothing but points can be added: `end_time` comes after it was reopened."""
    writer(
        'file = h5py.File("scan.h5", "w", libver="latest")\n'
        'file.create_dataset("1.1/x", shape=(0,), maxshape=(None,), chunks=(4,), dtype=int)\n'
        "file.swmr_mode = True; x = file['1.1/x']"
    )
    grow = partial(writer, "x.resize((len(x) + 3,)); x[-3:] = len(x) + np.arange(-3, 0); x.flush()")
    for options in ({}, {"swmr": True, "libver": "latest"}):
        with dynamic_hdf5.File(
            path, hdf5_retry_handler=Watched, retry_timeout=DEADLINE_S, **options
        ) as file:
            x = file["1.1/x"]
            next_ones = [len(x), len(x) + 2]
            assert meanwhile(file, partial(x.__getitem__, next_ones), grow).tolist() == next_ones
    end = """
file.close()
for _ in range(3000):  # a reader that looks just now has locked the file
    try:
        file = h5py.File("scan.h5", "a")
        break
    except OSError:
        time.sleep(0.01)
file["1.1/end_time"] = "now"
file.close()
"""
    with dynamic_hdf5.File(path, hdf5_retry_handler=Watched, retry_timeout=DEADLINE_S) as file:
        values = meanwhile(
            file,
            lambda: [int(value) for value in file["1.1/x"]],
            grow,
            lambda: writer(end),
        )
    assert values == list(range(9))


def test_a_file_that_is_replaced_is_read_anew(
    patient: dynamic_hdf5.File, writer: Writer, meanwhile: Meanwhile
) -> None:
    writer(CREATE)
    dataset = patient["1.1/measurement/diode"]
    assert dataset[0] == 0
    replace = """
file.close()
with h5py.File("new.h5", "w") as new:
    new["1.1/measurement/diode"] = np.arange(7) + 100
os.replace("new.h5", "scan.h5")
"""
    assert meanwhile(patient, lambda: dataset[6], lambda: writer(replace)) == 106
    assert dataset.dtype == int


def test_a_truncated_file_is_waited_for(
    patient: dynamic_hdf5.File, writer: Writer, meanwhile: Meanwhile, path: Path
) -> None:
    writer(CREATE + "file.close()")
    dataset = patient["1.1/measurement/diode"]
    whole = path.read_bytes()
    assert dataset[1] == 1
    os.truncate(path, 100)
    point = meanwhile(patient, lambda: dataset[2], lambda: path.write_bytes(whole))
    assert point == 2


def test_a_damaged_file_is_an_error_when_the_time_is_up(
    hasty: dynamic_hdf5.File, writer: Writer, path: Path
) -> None:
    writer(CREATE + "file.close()")
    dataset = hasty["1.1/measurement/diode"]
    path.write_bytes(b"nothing of HDF5" * 1000)
    with pytest.raises(RetryTimeoutError, match="signature not found"):
        dataset[0]
    with pytest.raises(KeyError):
        hasty["1.1"]
    assert list(dataset) == []


def test_a_deleted_file_may_come_again(
    patient: dynamic_hdf5.File, writer: Writer, meanwhile: Meanwhile, path: Path
) -> None:
    writer(CREATE + "file.close()")
    dataset = patient["1.1/measurement/diode"]
    assert dataset[1] == 1
    path.unlink()
    assert meanwhile(patient, lambda: dataset[1], lambda: writer(CREATE)) == 1


def test_a_writer_that_is_killed_leaves_a_reader_that_can_be_ended(
    tmp_path: Path, path: Path
) -> None:
    writer = Writer(tmp_path)
    writer(CREATE)
    writer.process.kill()
    writer.process.wait(DEADLINE_S)
    writer.close()
    with dynamic_hdf5.File(path, retry_timeout=0.2) as file:
        assert [float(value) for value in file["1.1/measurement/diode"]] == [0, 1, 2]


def test_growth_in_another_file_is_seen_through_a_link(
    tmp_path: Path, lockless_writer: Writer, meanwhile: Meanwhile
) -> None:
    """BLISS's collection file links to the scans in the files of the datasets. (Without locks: only
    newer versions of HDF5 open a linked file as they were told to open the file with the link.)"""
    lockless_writer(CREATE)
    with h5py.File(tmp_path / "all.h5", "w") as collection:
        collection["sample_1.1"] = h5py.ExternalLink("scan.h5", "/1.1")
    file = dynamic_hdf5.File(
        tmp_path / "all.h5", hdf5_retry_handler=Watched, retry_timeout=DEADLINE_S
    )
    with file:
        dataset = file["sample_1.1/measurement/diode"]
        assert len(dataset) == 3
        lockless_writer(GROW)
        assert len(dataset) == 5
        values = meanwhile(
            file,
            lambda: [float(value) for value in dataset],
            lambda: lockless_writer(GROW),
            lambda: lockless_writer(FINISH),
        )
        assert values == list(range(7))
        with pytest.raises(KeyError, match="nobody writes there any more"):
            file["sample_1.1/nope"]


# --------------------------------------------------------------------------- in the middle of a flush


class InAFlush(Watched):
    """A handler whose second look comes after the writer's next statements."""

    then: Callable[[], Any]

    def _item(self, name: str) -> Any:
        if self.tries == self.looks_before:
            self.then()
        return super()._item(name)

    looks_before = -1


LONGER = "diode.resize((9,)); file.flush()"
"""The file as a flush leaves it half-way: longer, its new chunks nowhere."""

FILLED = "diode[3:] = np.arange(3, 9); file.flush()"


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda diode: diode[7], 7.0),
        (lambda diode: diode[:9].tolist(), list(range(9))),
        (lambda diode: [float(v) for _, v in zip(range(9), diode, strict=False)], list(range(9))),
    ],
    ids=["index", "slice", "iteration"],
)
def test_points_whose_chunks_are_not_there_yet_are_looked_at_again(
    read: Callable[[Any], Any], expected: Any, path: Path, writer: Writer
) -> None:
    writer(CREATE)
    file = dynamic_hdf5.File(path, hdf5_retry_handler=InAFlush, retry_timeout=DEADLINE_S)
    with file:
        diode = file["1.1/measurement/diode"]
        handler: Any = file.handler
        writer(LONGER)
        handler.then = lambda: writer(FILLED)
        handler.looks_before = handler.tries + 1
        assert read(diode) == expected


def test_chunks_that_a_resting_file_does_not_have_are_meant(
    hasty: dynamic_hdf5.File, writer: Writer
) -> None:
    """A dataset that was made as long as the scan will be, and is filled point by point."""
    writer(CREATE + LONGER)
    diode = hasty["1.1/measurement/diode"]
    assert diode[:].tolist() == [0, 1, 2, 0, 0, 0, 0, 0, 0]
    assert diode[8] == 0


def test_a_dataset_that_is_written_over_all_the_time_is_read_nevertheless(
    hasty: dynamic_hdf5.File, tmp_path: Path
) -> None:
    with contextlib.closing(Writer(tmp_path)) as busy:
        busy(CREATE)
        busy(
            "import threading\n"
            "def write(file=file, diode=diode, names=names):\n"
            "    number = 0.0\n"
            "    while not names.get('stop'):\n"
            "        number += 1; diode[:] = number; file.flush()\n"
            "thread = threading.Thread(target=write); thread.start()"
        )
        values = hasty["1.1/measurement/diode"][:]
        assert len(values) == 3
        busy("stop = True; thread.join()")


# --------------------------------------------------------------------------- virtual datasets


VIRTUAL = """
layout = h5py.VirtualLayout((6, 2), "i4")
for number in range(3):
    layout[2 * number : 2 * number + 2] = h5py.VirtualSource(f"source{number}.h5", "data", (2, 2))
file = h5py.File("scan.h5", "w")
file.create_virtual_dataset("1.1/images", layout, fillvalue=-1)
file.flush()
"""

SOURCE = """
with h5py.File("source{0}.h5", "w") as source:
    source["data"] = np.full((2, 2), {0}, "i4")
"""


def test_a_virtual_dataset_waits_until_its_last_source_opens(
    patient: dynamic_hdf5.File, writer: Writer, meanwhile: Meanwhile, tmp_path: Path
) -> None:
    writer(VIRTUAL)
    images = patient["1.1/images"]
    assert (images.shape, images.dtype, len(images)) == ((6, 2), np.int32, 6)
    assert images.is_virtual
    whole = meanwhile(
        patient,
        lambda: images[:],
        *(lambda number=number: writer(SOURCE.format(number)) for number in range(2)),
        lambda: (tmp_path / "source2.h5").write_bytes(b"\x89HDF\r\n\x1a\n, but not all of it"),
        lambda: writer(SOURCE.format(2)),
    )
    assert whole.tolist() == [[0, 0]] * 2 + [[1, 1]] * 2 + [[2, 2]] * 2
    assert images[-1].tolist() == [2, 2]


def test_a_virtual_dataset_without_its_source_ends_by_the_table(
    hasty: dynamic_hdf5.File, writer: Writer
) -> None:
    writer(VIRTUAL + SOURCE.format(0))
    images = hasty["1.1/images"]
    for index in (0, slice(0, 2), ()):
        with pytest.raises(RetryTimeoutError, match=r"cannot open '.*source2.h5'"):
            images[index]
    assert list(images) == []
    writer('file["1.1/end_time"] = "now"; file.flush()')
    for index in (0, slice(0, 2), ()):
        with pytest.raises(IndexError, match=r"cannot open '.*source2.h5'"):
            images[index]
    assert list(images) == []


def test_a_finished_virtual_dataset_is_still_waited_for_by_iteration(
    patient: dynamic_hdf5.File, writer: Writer, meanwhile: Meanwhile
) -> None:
    writer(VIRTUAL + 'file["1.1/end_time"] = "now"; file.flush()')
    sources = "".join(SOURCE.format(number) for number in range(3))
    points = meanwhile(patient, lambda: list(patient["1.1/images"]), lambda: writer(sources))
    assert [point[0] for point in points] == [0, 0, 1, 1, 2, 2]


# --------------------------------------------------------------------------- ends


@pytest.mark.parametrize("read", ["file['1.1']", "list(file)"], ids=["name", "list"])
def test_ctrl_c_ends_a_wait_without_end(read: str, tmp_path: Path, writer: Writer) -> None:
    writer('h5py.File("scan.h5", "w").close()')
    program = f"""
from blissdata.h5api import dynamic_hdf5
from blissdata.h5api.utils.bliss import BlissDynamicHDF5Handler

class Loud(BlissDynamicHDF5Handler):
    def _find(self, name):
        print("looking", flush=True)
        return super()._find(name)

file = dynamic_hdf5.File("scan.h5", hdf5_retry_handler=Loud)
try:
    {read}
except KeyboardInterrupt:
    print("interrupted")
    file.close()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    for _ in range(3):
        assert process.stdout.readline() == "looking\n"
    process.send_signal(signal.SIGINT)
    try:
        said, _ = process.communicate(timeout=DEADLINE_S / 3)
    except (
        subprocess.TimeoutExpired
    ):  # Python ignores what strikes inside a weak reference's callback
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=DEADLINE_S)
    assert said.splitlines()[-1] == "interrupted"
    assert process.returncode == 0


def test_an_iteration_may_be_left(patient: dynamic_hdf5.File, writer: Writer) -> None:
    writer(CREATE)
    for value in patient["1.1/measurement/diode"]:
        assert value == 0
        break
    for name in patient:
        assert name == "1.1"
        break


def test_big_points_are_iterated_one_by_one(hasty: dynamic_hdf5.File, writer: Writer) -> None:
    writer(
        'file = h5py.File("scan.h5", "w")\n'
        'file["1.1/images"] = np.arange(40, dtype="u2").repeat(500 * 500).reshape(40, 500, 500)\n'
        'file["1.1/words"] = [f"word {number}" for number in range(1000)]\n'
        'file["1.1/end_time"] = "now"; file.flush()'
    )
    images = list(hasty["1.1/images"])
    assert [(image.shape, image[0, 0]) for image in images] == [
        ((500, 500), number) for number in range(40)
    ]
    assert list(hasty["1.1/words"]) == [f"word {number}".encode() for number in range(1000)]


def test_a_file_that_nobody_closes_is_let_go_with_its_last_node(path: Path, writer: Writer) -> None:
    writer(CREATE)
    dataset = dynamic_hdf5.File(path, retry_timeout=0)["1.1/measurement/diode"]
    assert dataset[1] == 1
    handler: Any = dataset.file.handler
    del dataset
    with pytest.raises(RuntimeError, match="File was closed"):
        handler.is_group("/")
