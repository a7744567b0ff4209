"""The runs of `python -m tests.frames`, in short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.frames import runs

from blissdata.testing.servers import TestServer


@pytest.mark.slow
def test_every_reader_gets_every_frame_right(server: TestServer, tmp_path: Path) -> None:
    url = runs.prepared(server.url)
    run = runs.everybody_reads(url, tmp_path / "run.h5", 60, (64, 64), slots=8)
    for name, got in run.readers.items():
        assert (got["right"], got["wrong"], got["gone"], got["end"]) == (60, 0, 0, "EndOfStream"), (
            name
        )
    assert set(run.readers["afterwards"]["sources"]) - {"ring", "server"} == {"file"}
    assert run.readers["remote"]["sources"].get("ring", 0) == 0


@pytest.mark.parametrize(("frames", "nbytes"), [(3000, 2**14), (400, 2**20)])
def test_no_frame_is_torn(frames: int, nbytes: int) -> None:
    found = runs.hunt(frames, nbytes, readers=1)
    assert found["torn"] == 0
    assert found["accepted"] + found["overrun"] > 0


@pytest.mark.slow
def test_the_benchmark_measures_every_row() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.frames", "--quick", "--rounds", "1"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    for row in ("memcpy", "through events", "put without", "bare socket", "3 × bare", "at most"):
        assert row in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_detector_that_is_killed_leaves_nobody_waiting(
    server: TestServer, tmp_path: Path, seed: int
) -> None:
    found = runs.kill(runs.prepared(server.url), tmp_path, seed)
    assert (found["wrong"], found["left"]) == (0, 0)
    assert set(found["ends"]) <= {"PublisherLostError"}
