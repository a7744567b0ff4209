"""Rows of numbers in text files: read line by line, every one looked at.

Readers of such files commonly drop a line that they do not understand, round to float32, or stop at
a `nan`. A replay must publish what the file says, or say why it cannot.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blissdata.exceptions import SourceFileError

__all__ = ["Line", "Table", "looks_like_text", "number_in", "read_lines"]

SAMPLE = 4096
"""How much of a file is looked at to tell what it is [bytes]."""

MAX_LINE = 2**24
"""Longest line of a text file [characters]: a spectrum of a million channels may stand in one."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a text file."""

    path: Path
    """The file."""

    number: int
    """From 1."""

    text: str
    """Without blanks around it."""

    ended: bool
    """False for a last line without a line end: the file may have been cut there."""

    def __str__(self) -> str:
        return f"{self.path}, line {self.number}"

    @property
    def cut(self) -> str:
        """What to add to a complaint about this line."""
        return "" if self.ended else "; the file ends in the middle of this line"

    @property
    def may_be_cut(self) -> str:
        """What to say of a last line that looks right, but has no end."""
        last = self.text.split()[-1][:40]
        return f"line {self.number}, the last one, has no line end: its last number, {last}, may be cut"


@dataclass
class Table:
    """Rows of numbers that all have the same number of columns."""

    columns: int = 0
    """How many; 0: not known yet."""

    values: array[float] = field(default_factory=lambda: array("d"))
    """Row after row."""

    def as_array(self) -> NDArray[np.float64]:
        """Shape `(points, columns)`."""
        return np.frombuffer(self.values, np.float64).reshape(-1, max(self.columns, 1))

    def add(self, line: Line, words: Sequence[str], of: str = "") -> None:
        """One more row. Raises `SourceFileError` naming the line whose words are no numbers, or not
        as many as there are columns; `of` says to what the line belongs."""
        found = numbers(line, words, of)
        if not self.columns:
            self.columns = len(found)
        if len(found) != self.columns:
            count = "1 number" if len(found) == 1 else f"{len(found)} numbers"
            raise SourceFileError(
                f"{line}{of}: found {count}, expected {self.columns}, one for each column"
                f"{line.cut}. Complete or remove the line"
            )
        self.values.extend(found)


def numbers(line: Line, words: Sequence[str], of: str = "") -> list[float]:
    """The words as numbers. Raises `SourceFileError` naming the one that is none."""
    found: list[float] = []
    for word in words:
        value = number_in(word)
        if value is None:
            raise SourceFileError(
                f"{line}{of}: found {word[:40]!r}, expected a number{line.cut}. "
                "Correct or remove the line"
            )
        found.append(value)
    return found


def number_in(word: str) -> float | None:
    """The number that a word is, `nan` and `inf` included; None if it is none."""
    try:
        return None if "_" in word else float(word)
    except ValueError:
        return None


def looks_like_text(path: Path) -> bool:
    """True if the beginning of the file is text."""
    with open(path, "rb") as file:
        head = file.read(SAMPLE)
    return all(byte >= 32 or byte in b"\t\n\r\f\x1a" for byte in head)


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a text file, in any encoding that contains ASCII."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        number = 0
        while text := file.readline(MAX_LINE):
            number += 1
            if len(text) == MAX_LINE:
                raise SourceFileError(
                    f"{path}, line {number}: found {MAX_LINE} characters without a line end, "
                    "expected a row of numbers"
                )
            clean = text.strip().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            yield Line(path, number, clean, text.endswith("\n"))
