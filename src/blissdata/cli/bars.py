"""Where the points of a stream are, as a bar of one character for so many points: pure functions.

    █ memory and a file   ▀ memory   ▄ a file   ◆ the detector   ◈ the detector and a file
    ░ nowhere yet   × gone   ? not known   · to come   (blank: never)

One point that is gone, or nowhere yet, marks its whole character: it is what people look for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from blissdata.streams.availability import Availability, Ranges

__all__ = ["LEGEND", "Mark", "bar", "legend", "pieces", "ranges_text"]


@dataclass(frozen=True, slots=True)
class Mark:
    """One character of a bar."""

    character: str
    style: str
    meaning: str


GONE = Mark("×", "bold red", "gone")
PENDING = Mark("░", "yellow", "nowhere yet")
UNKNOWN = Mark("?", "magenta", "not known")
TO_COME = Mark("·", "dim", "to come")
NEVER = Mark(" ", "", "never")
MEMORY = Mark("▀", "cyan", "memory")
FILE = Mark("▄", "blue", "file")
MEMORY_AND_FILE = Mark("█", "green", "memory and file")
DETECTOR = Mark("◆", "cyan", "detector")
DETECTOR_AND_FILE = Mark("◈", "green", "detector and file")

LEGEND = (
    MEMORY_AND_FILE,
    MEMORY,
    FILE,
    DETECTOR_AND_FILE,
    DETECTOR,
    PENDING,
    GONE,
    UNKNOWN,
    TO_COME,
)
"""All marks, in the order of the legend."""

MOST_RANGES = 3
"""How many ranges of one set are written out."""


def bar(found: Availability, total: int, width: int) -> list[Mark]:
    """`width` characters for the points from 0 to `total` (exclusive), fewer if there are fewer points
    than characters."""
    width = min(width, total)
    sets = _layers(found)
    cells = []
    for cell in range(width):
        piece = Ranges.between(cell * total // width, (cell + 1) * total // width)
        cells.append(_mark(piece, sets, NEVER if found.sealed else TO_COME))
    return cells


def _layers(found: Availability) -> list[tuple[Mark, Ranges]]:
    """The sets of points for each mark, none twice, in the order in which they are looked for."""
    files, held = found.file, found.detector
    here = found.memory - held
    return [
        (GONE, found.gone),
        (PENDING, found.pending),
        (UNKNOWN, found.unknown),
        (MEMORY_AND_FILE, here & files),
        (DETECTOR_AND_FILE, held & files),
        (MEMORY, here - files),
        (DETECTOR, held - files),
        (FILE, files - here - held),
    ]


def _mark(piece: Ranges, sets: Sequence[tuple[Mark, Ranges]], unpublished: Mark) -> Mark:
    """The mark of a few points: that of the trouble if one of them has some, else of the most."""
    most, best = 0, unpublished
    for mark, ranges in sets:
        count = (piece & ranges).count
        if count and mark in (GONE, PENDING, UNKNOWN):
            return mark
        if count > most:
            most, best = count, mark
    return best


def pieces(cells: Sequence[Mark]) -> list[tuple[str, str]]:
    """The bar as text: for each run of equal characters the text and its style."""
    return [
        ("".join(mark.character for mark in run), style)
        for style, run in groupby(cells, key=lambda mark: mark.style)
    ]


def legend(bars: Iterable[Sequence[Mark]]) -> list[Mark]:
    """The marks that these bars have, each once."""
    used = {mark for one in bars for mark in one}
    return [mark for mark in LEGEND if mark in used]


def ranges_text(found: Availability) -> str:
    """The ranges in numbers, both ends included: `memory 600–999, file 0–899`."""
    words = {"pending": "nowhere yet", "unknown": "not known"}
    parts = []
    for word, ranges in found.sets().items():
        if ranges:
            shown = Ranges(ranges.spans[:MOST_RANGES])
            more = len(ranges.spans) - MOST_RANGES
            rest = f" and {more} more ranges" if more > 0 else ""
            parts.append(f"{words.get(word, word)} {shown}{rest}")
    return "; ".join(parts)
