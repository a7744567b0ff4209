"""The benchmark of writing works, whatever its numbers are worth."""

from __future__ import annotations

from pathlib import Path

from benchmarks.writer import images, measured, numbers


def test_every_side_writes_what_it_should(tmp_path: Path) -> None:
    for name, data in (("numbers", numbers(3, 3000)), ("images", images(3))):
        place = tmp_path / name
        place.mkdir()
        in_memory, from_server, memory = measured(name, data, place, 1)
        assert in_memory.ratio
        assert from_server.ratio
        assert memory.ours > 10
