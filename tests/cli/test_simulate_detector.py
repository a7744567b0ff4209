"""`blissdata simulate-detector` publishes images that say they are simulated, and that follow from their number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blissdata import DataStore
from blissdata.data_roots import ROOTS_VARIABLE
from blissdata.demo.rings import SimulatedImages
from blissdata.testing.servers import TestServer


def test_images_are_published_and_saved(
    run: Callable,
    plain_store: DataStore,
    server: TestServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ROOTS_VARIABLE, str(tmp_path))
    shown = run(
        "simulate-detector", "--url", server.url, "--shape", "40x60", "--rate", "max", "--frames", "9",
        "--slots", "4", "--no-server", "--save", str(tmp_path / "run.h5"),
    )  # fmt: skip
    assert shown.code == 0, shown.err
    assert "9 simulated frames" in shown.out
    assert "9 saved to" in shown.out
    (key,) = plain_store.search_existing_scans(session="simulation")[1]
    scan = plain_store.load_scan(key)
    assert scan.info["simulated"] is True
    assert "nobody measured" in scan.info["title"]
    camera = SimulatedImages((40, 60))
    expected = np.stack([camera.image(index) for index in range(9)])
    np.testing.assert_array_equal(scan.streams["camera"][:], expected)
    assert len({image.tobytes() for image in expected}) == 9


def test_images_that_are_not_saved_are_said_to_be_gone(
    run: Callable, plain_store: DataStore, server: TestServer
) -> None:
    shown = run(
        "simulate-detector", "--shape", "4x6", "--rate", "max", "--frames", "3", "--no-server"
    )
    assert shown.code == 0
    assert "not saved: gone from its buffer when this ends, --save FILE keeps them" in shown.err
    assert "3 simulated frames" in shown.out
    assert shown.out.endswith("not saved\n")
    told = run("tail", "last")
    assert told.out.startswith("camera[0–2]  expired: ")
    assert "were in the detector's buffer alone, they are not saved" in told.out
    assert "server's memory" not in told.out


@pytest.mark.parametrize(
    "wrong", [["--shape", "512"], ["--shape", "0x4"], ["--rate", "0"], ["--frames", "-1"]], ids=str
)
def test_what_makes_no_sense_is_a_usage_error(run: Callable, wrong: list[str]) -> None:
    shown = run("simulate-detector", *wrong)
    assert shown.code == 2
    assert "expected" in shown.err


def test_a_file_that_is_there_is_not_touched(
    run: Callable, plain_store: DataStore, server: TestServer, tmp_path: Path
) -> None:
    there = tmp_path / "run.h5"
    there.write_bytes(b"somebody's data")
    shown = run("simulate-detector", "--url", server.url, "--save", str(there))
    assert shown.code == 2
    assert f"{there} is there already" in shown.err
    assert there.read_bytes() == b"somebody's data"
    assert plain_store.search_existing_scans()[1] == []


def test_rings_are_where_they_are_said_to_be() -> None:
    image = SimulatedImages((400, 400)).image(3).astype(float)
    rows, columns = np.indices(image.shape) - 199.5
    radius = np.hypot(rows, columns)
    on = np.median(image[np.abs(radius - 0.42 * 200) < 1])
    beside = np.median(image[np.abs(radius - 0.48 * 200) < 1])
    assert on > 3 * beside
