"""Measurements as running scans: the same numbers, a valid header, the chosen pace, a closed scan."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from blissdata import DataStore, ScanState
from blissdata.demo.measurement import COPPER
from blissdata.exceptions import SourceFileError
from blissdata.replay import Channel, Measurement, open_source, play
from blissdata.replay.header import scan_info
from blissdata.replay.pacing import Clock, Pace, recorded_times, schedule
from blissdata.replay.player import next_number
from blissdata.schemas import validate

DATA = Path(__file__).parent.parent / "data"
IDENTITY = {"name": "replayed", "number": 7, "data_policy": "none"}


class SimulatedClock(Clock):
    """Time that passes by sleeping only, and notes the sleeps."""

    def __init__(self, each_look: float = 0.0) -> None:
        self.time = 0.0
        self.each_look = each_look
        super().__init__(self._look, self._sleep)

    def _look(self) -> float:
        self.time += self.each_look
        return self.time

    def _sleep(self, seconds: float) -> None:
        self.time += seconds


def _channel(name: str, values: Any, **more: Any) -> Channel:
    array = np.asarray(values)
    shape = array.shape[1:]
    return Channel(
        name, len(array), array.dtype, shape, lambda start, stop: array[start:stop], **more
    )


def _measurement(*channels: Channel, axes: tuple[str, ...] = ()) -> Measurement:
    return Measurement("some.dat", "1.1", "ascan x 0 1 3 1", channels, axes=axes)


# ---------------------------------------------------------------------------------- the numbers


def test_chopper_read_back_equals_the_file(plain_store: DataStore) -> None:
    with open_source(DATA / "chopper.nxs") as source:
        played = play(plain_store, source.measurements[0], IDENTITY)
    scan = plain_store.load_scan(played.key)
    with h5py.File(DATA / "chopper.nxs") as file:
        entry = file["entry"]
        whole = {
            "polar_angle": entry["data/polar_angle"],
            "data": entry["data/data"],
            "detector:distance": entry["instrument/detector/distance"],
        }
        once = {
            "time_of_flight": entry["data/time_of_flight"],
            "monitor1": entry["monitor1/data"],
            "monitor1:time_of_flight": entry["monitor1/time_of_flight"],
            "monitor2": entry["monitor2/data"],
            "monitor2:time_of_flight": entry["monitor2/time_of_flight"],
        }
        assert set(scan.streams) == {*whole, *once}
        for name, dataset in whole.items():
            np.testing.assert_array_equal(scan.streams[name][:], dataset[()], err_msg=name)
            assert scan.streams[name].dtype == dataset.dtype
        for name, dataset in once.items():
            assert len(scan.streams[name]) == 1
            np.testing.assert_array_equal(scan.streams[name][0], dataset[()], err_msg=name)
    assert scan.state == ScanState.CLOSED
    assert all(stream.is_sealed() for stream in scan.streams.values())
    assert scan.info["end_reason"] == "SUCCESS"
    assert sum(played.points.values()) == 3 * 148 + 5


@pytest.mark.parametrize("path", [COPPER, DATA / "EXAFS_Ge.dat"], ids=["copper", "germanium"])
def test_absorption_read_back_equals_numpys_columns(path: Path, plain_store: DataStore) -> None:
    with open_source(path) as source:
        played = play(plain_store, source.measurements[0], IDENTITY)
    streams = plain_store.load_scan(played.key).streams
    found = np.stack([stream[:] for stream in streams.values()], axis=1)
    np.testing.assert_array_equal(found, np.loadtxt(path))


def test_every_kind_of_channel_arrives(store: DataStore, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "kinds.h5", "w") as file:
        group = file.create_group("1.1/measurement")
        group.parent.attrs["NX_class"] = "NXentry"
        group["big_endian"] = np.arange(5, dtype=">f4")
        group["cube"] = np.arange(40, dtype="i2").reshape(5, 2, 2, 2)
        group["complex"] = np.arange(5) * 1j
        group["flag"] = np.array([True, False, True, False, True])
        group["short"] = np.arange(2)
        group["text"] = ["a", "b", "ç", "", "e"]
        ragged = group.create_dataset("ragged", (5,), h5py.vlen_dtype("f8"))
        ragged[1], ragged[4] = [1.5], [2.5, np.nan]
        with open_source(file.filename) as source:
            played = play(store, source.measurements[0], IDENTITY)
        streams = store.load_scan(played.key).streams
        for name in ("big_endian", "cube", "complex", "flag", "short"):
            np.testing.assert_array_equal(streams[name][:], group[name][()])
            assert streams[name].dtype == group[name].dtype
        assert streams["text"][:] == ["a", "b", "ç", "", "e"]
        found = streams["ragged"][:]
        assert [len(point) for point in found] == [0, 1, 0, 0, 2]
        np.testing.assert_array_equal(found[4], [2.5, np.nan])
    assert validate(store.load_scan(played.key).info) == []


def test_a_file_is_read_in_blocks(store: DataStore) -> None:
    reads = []

    def read(start: int, stop: int) -> np.ndarray:
        reads.append((start, stop))
        return np.full((stop - start, 1024), start, "f8")

    big = Channel("big", 2000, np.dtype("f8"), (1024,), read, block=100)
    play(store, _measurement(big), IDENTITY)
    assert reads[0] == (0, 600)  # 4 MiB of 8 KiB points are 512, and the file has chunks of 100
    assert reads[-1] == (1800, 2000)
    assert [start for start, _ in reads] == [0, 600, 1200, 1800]


# ---------------------------------------------------------------------------------- what it says


@pytest.mark.parametrize(
    "path", [COPPER, DATA / "EXAFS_Ge.dat", DATA / "chopper.nxs"], ids=lambda path: path.name
)
def test_the_header_is_valid(path: Path) -> None:
    with open_source(path) as source:
        assert validate(scan_info(source.measurements[0], IDENTITY)) == []


def test_the_header_of_chopper_tells_the_axis_of_its_spectra() -> None:
    with open_source(DATA / "chopper.nxs") as source:
        info = scan_info(source.measurements[0], IDENTITY)
    device = info["devices"]["data"]
    assert len(device["xaxis_array"]) == 750
    assert device["xaxis_array_unit"] == "microseconds"
    assert device["metadata"]["x_axis"] == {"channel": "time_of_flight", "edges": True}
    assert info["channels"]["data"]["dim"] == 1
    assert (
        info["channels"]["polar_angle"] | {"points": 148, "unit": "degrees", "axis_id": 0}
        == (info["channels"]["polar_angle"])
    )
    assert {plot["kind"] for plot in info["plots"]} == {"curve-plot", "1d-plot"}
    assert (info["title"], info["npoints"]) == ("MgB2 PDOS 43.37g 8K 120meV E0@240Hz T0@120Hz", 148)


@pytest.mark.parametrize(
    ("axes", "kind", "item"),
    [
        (("x",), "curve-plot", {"kind": "curve", "x": "x", "y": "i", "y_axis": "left"}),
        (("x", "y"), "scatter-plot", {"kind": "scatter", "x": "x", "y": "y", "value": "i"}),
    ],
    ids=["one axis", "two axes"],
)
def test_plots_follow_from_the_axes(axes: tuple[str, ...], kind: str, item: dict[str, Any]) -> None:
    channels = [_channel(name, np.arange(4.0)) for name in ("x", "y", "i")]
    info = scan_info(_measurement(*channels, axes=axes), IDENTITY)
    assert info["plots"][0]["kind"] == kind
    assert item in info["plots"][0]["items"]
    assert info["type"] == "ascan"
    assert validate(info) == []


def test_numbers_count_up(store: DataStore) -> None:
    assert next_number(store) == 1
    play(store, _measurement(_channel("x", [1.0])), IDENTITY)
    assert next_number(store) == 8


# ---------------------------------------------------------------------------------- the pace


def _when(pace: Pace, times: Any = None, each_look: float = 0.0) -> list[tuple[float, int, int]]:
    clock = SimulatedClock(each_look)
    due = schedule(10, 4, pace, None if times is None else np.asarray(times, float), clock)
    return [(round(clock.time, 9), start, stop) for start, stop in due]


def test_each_point_is_due_at_its_own_time() -> None:
    assert _when(2.0) == [(i / 2, i, i + 1) for i in range(10)]


def test_what_is_late_is_sent_together_and_delays_nothing() -> None:
    found = _when(10.0, each_look=0.125)  # a look takes longer than a point
    assert found[-1][2] == 10
    assert all(stop - start <= 4 for _, start, stop in found)
    assert found[-1][0] < 10 * 0.125 * 2


def test_fast_waits_for_nothing() -> None:
    assert _when("fast") == [(0, 0, 4), (0, 4, 8), (0, 8, 10)]


def test_recorded_times_are_kept() -> None:
    times = [0, 0, 1, 1.5, 5, 5, 5, 5, 5, 9]
    assert _when("as-recorded", times) == [
        (0, 0, 2),
        (1, 2, 3),
        (1.5, 3, 4),
        (5, 4, 8),
        (5, 8, 9),
        (9, 9, 10),
    ]


@pytest.mark.parametrize(
    ("name", "values", "unit", "expected"),
    [
        ("elapsed_time", [10.0, 10.5, 12.0], None, [0, 0.5, 2]),
        ("timer:epoch", [1.7e9, 1.7e9 + 1, 1.7e9 + 1], "s", [0, 1, 1]),
        ("Time", [0, 500, 1000], "ms", [0, 0.5, 1]),
    ],
)
def test_where_recorded_times_are(
    name: str, values: list[float], unit: str | None, expected: list[float]
) -> None:
    measurement = _measurement(_channel("x", [1.0, 2, 3]), _channel(name, values, unit=unit))
    assert recorded_times(measurement).tolist() == expected


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        ("diode", [0.0, 1.0], "no recorded times: found the channels diode"),
        ("epoch", [1.0, 0.0], "do not grow"),
        ("epoch", [0.0, np.nan], "do not grow"),
    ],
    ids=["none", "backwards", "NaN"],
)
def test_recorded_times_that_are_none(name: str, values: list[float], complaint: str) -> None:
    with pytest.raises(SourceFileError, match=complaint):
        recorded_times(_measurement(_channel(name, values)))


@pytest.mark.parametrize("pace", [0, -1, float("nan"), float("inf"), "slow", True])
def test_what_is_no_pace(pace: Any, memory_store: DataStore) -> None:
    with pytest.raises(ValueError, match="A pace is"):
        play(memory_store, _measurement(_channel("x", [1.0])), IDENTITY, pace=pace)
    assert memory_store.search_existing_scans()[1] == []


def test_a_replay_takes_the_time_that_its_pace_says(plain_store: DataStore) -> None:
    measurement = _measurement(_channel("x", np.arange(51.0)))
    began = time.monotonic()
    played = play(plain_store, measurement, IDENTITY, pace=100.0)
    assert 0.5 <= played.seconds <= time.monotonic() - began


# ---------------------------------------------------------------------------------- trouble


def test_ctrl_c_closes_the_scan(store: DataStore) -> None:
    def interrupt(points: int, npoints: int) -> None:
        if points >= 5:
            raise KeyboardInterrupt

    measurement = _measurement(_channel("x", np.arange(10.0)))
    with pytest.raises(KeyboardInterrupt):
        play(store, measurement, IDENTITY, pace=1e3, progress=interrupt)
    scan = store.load_scan(store.get_last_scan()[1])
    assert (scan.state, scan.info["end_reason"]) == (ScanState.CLOSED, "USER_ABORT")
    assert scan.streams["x"].is_sealed()
    assert validate(scan.info) == []


@pytest.mark.parametrize(
    "read",
    [lambda a, b: np.arange(1.0), lambda a, b: np.arange(b - a)[[99]]],
    ids=["short", "raises"],
)
def test_a_file_that_fails_while_it_is_read_is_named(read: Any, store: DataStore) -> None:
    def failing(start: int, stop: int) -> Any:
        try:
            return read(start, stop)
        except IndexError as error:
            raise OSError("no more") from error

    channel = Channel("x", 10, np.dtype("f8"), (), failing)
    with pytest.raises(SourceFileError, match=r"some\.dat::1\.1: x"):
        play(store, _measurement(channel), IDENTITY)
    scan = store.load_scan(store.get_last_scan()[1])
    assert (scan.state, scan.info["end_reason"]) == (ScanState.CLOSED, "FAILURE")
