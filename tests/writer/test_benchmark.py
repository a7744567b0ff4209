"""The benchmark of writing works, whatever its numbers are worth."""

from __future__ import annotations

from pathlib import Path

from benchmarks.writer import frames, measured, scalars


def test_every_side_writes_what_it_should(tmp_path: Path) -> None:
    for name, data in (("scalars", scalars(3, 3000)), ("frames", frames(3))):
        place = tmp_path / name
        place.mkdir()
        assert measured(name, lambda data=data: data, place, 1)["ratios"].keys() == {
            "bare",
            "writer",
            "whole",
            "read",
        }
