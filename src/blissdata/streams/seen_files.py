"""Which of a stream's numbered files were seen to be there: looked for when they are asked for, but never
all of very many at once. How many there should be is what a publisher claims.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import islice

from blissdata.exceptions import DataFileError, DataFileRefusedError
from blissdata.streams.availability import NOTHING, Looks, Ranges

__all__ = ["SeenFiles"]

LOOK_AGAIN_S = 5.0
"""How long a file that was seen to be there is not looked at again [s]."""

FEW_FILES, MOST_FILES = 1000, 100_000
"""How many files are looked for in one question: one of many, or one that is asked for itself."""


class SeenFiles:
    """The files of one stream, by their number from 0 on."""

    def __init__(self, look: Callable[[int], object]) -> None:
        """`look` raises `DataFileError` or `ValueError` for the number of a file that is not there, or
        must not be opened."""
        self._look = look
        self._there = NOTHING
        self._since = -math.inf
        self.refused = False
        """True if the last question met a file that must not be opened."""

    def among(self, files: int, looks: Looks) -> tuple[Ranges, str | None]:
        """The numbers of those of the first `files` files that are there, and why others are not (None:
        there are no others, or they were not looked for yet)."""
        now = time.monotonic()
        if now - self._since >= LOOK_AGAIN_S:
            self._there, self._since = NOTHING, now
        wanted = Ranges.between(0, files)
        unseen = (n for start, stop in wanted - self._there for n in range(start, stop))
        found: list[tuple[int, int]] = []
        why: str | None = None
        self.refused = False
        for number in islice(unseen, MOST_FILES if looks.may_look(0.0) else FEW_FILES):
            try:
                self._look(number)
            except (DataFileError, ValueError) as error:
                why = why or str(error)
                self.refused = self.refused or isinstance(error, DataFileRefusedError)
            else:
                found.append((number, number + 1))
        self._there |= Ranges.of(found)
        return self._there & wanted, why
