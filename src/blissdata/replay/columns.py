"""Plain columns of numbers, the files that every program writes: a measurement without a header.

EXAFS_Ge.dat, copied from PyMca, is one: two columns, and nothing that says what they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blissdata.replay.rows import Table, number_in, read_lines

__all__ = ["read_columns"]


def read_columns(path: Path) -> tuple[list[str], NDArray[np.float64], list[str]] | None:
    """Names, numbers of shape `(points, columns)`, and notes, of a file of plain columns: rows of
    numbers separated by blanks, commas or semicolons, and comments behind `#`.

    None if the file is something else. Names are the words of the last comment before the numbers,
    or of a first row of words, if they are as many as there are columns; else `column_1`, …. Raises
    `SourceFileError` naming the row that does not fit those before it."""
    table = Table()
    heading: list[str] | None = None
    comment: list[str] = []
    notes: list[str] = []
    for line in read_lines(path):
        if not line.text:
            continue
        if line.text.startswith("#"):
            if not table.values:
                comment = _words(line.text.lstrip("#! ")) or comment
            continue
        words = _words(line.text.partition("#")[0])
        if not table.values:
            if heading is None and not any(number_in(word) is not None for word in words):
                heading = words
                continue
            if not all(number_in(word) is not None for word in words):
                return None
        table.add(line, words)
        if not line.ended:
            notes.append(line.may_be_cut)
    if not table.values or (heading is not None and len(heading) != table.columns):
        return None
    names = heading if heading is not None else comment
    if len(names) != table.columns or len(set(names)) != len(names) or not all(names):
        names = [f"column_{i + 1}" for i in range(table.columns)]
    count = "one column" if table.columns == 1 else f"{table.columns} columns"
    read_as = f"no '#S' line, so not SPEC: read as {count} of numbers, {', '.join(names)}"
    return names, table.as_array(), [read_as, *notes]


def _words(text: str) -> list[str]:
    for separator in ",;":
        if separator in text:
            return [word.strip().strip('"') for word in text.split(separator)]
    return text.split()
