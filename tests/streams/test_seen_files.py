"""Which of many numbered files are there: none is looked for twice in a moment, and never all of too many."""

from __future__ import annotations

import pytest

from blissdata.exceptions import DataFileMissingError
from blissdata.streams import seen_files
from blissdata.streams.availability import END, Looks, Ranges
from blissdata.streams.seen_files import SeenFiles

MANY, ONE = Looks(1.0, 0.01), Looks(-END, END)
"""A question about many streams, and one about this stream alone."""


class Disk:
    """Files with these numbers."""

    def __init__(self, *there: int) -> None:
        self.there = set(there)
        self.looked: list[int] = []

    def look(self, number: int) -> None:
        self.looked.append(number)
        if number not in self.there:
            raise DataFileMissingError(f"There is no file {number}")


def numbers(ranges: Ranges) -> list[int]:
    return [n for start, stop in ranges for n in range(start, stop)]


def test_files_that_are_there_are_looked_for_once() -> None:
    disk = Disk(0, 1, 3)
    files = SeenFiles(disk.look)
    there, why = files.among(4, MANY)
    assert (numbers(there), why) == ([0, 1, 3], "There is no file 2")
    disk.there |= {2, 4}
    there, why = files.among(5, MANY)
    assert (numbers(there), why) == ([0, 1, 2, 3, 4], None)
    assert disk.looked == [0, 1, 2, 3, 2, 4]
    assert numbers(files.among(2, MANY)[0]) == [0, 1]


def test_after_a_while_they_are_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(0, 1)
    files = SeenFiles(disk.look)
    files.among(2, MANY)
    disk.there.clear()
    monkeypatch.setattr(seen_files, "LOOK_AGAIN_S", 0.0)
    assert files.among(2, MANY) == (Ranges(), "There is no file 0")


@pytest.mark.parametrize(("looks", "most"), [(MANY, 5), (ONE, 20)], ids=["many", "one"])
def test_very_many_are_not_looked_for_at_once(
    monkeypatch: pytest.MonkeyPatch, looks: Looks, most: int
) -> None:
    monkeypatch.setattr(seen_files, "FEW_FILES", 5)
    monkeypatch.setattr(seen_files, "MOST_FILES", 20)
    disk = Disk(*range(50))
    files = SeenFiles(disk.look)
    there, why = files.among(2**60, looks)
    assert (numbers(there), why, len(disk.looked)) == (list(range(most)), None, most)
    there, _ = files.among(2**60, looks)  # the next question goes on
    assert numbers(there) == list(range(2 * most))
