"""Tables for people: which columns fit, and how they look. `rich` is met here and in `progress`."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blissdata.exceptions import MissingExtraError

__all__ = ["Column", "Painted", "fitting", "missing_extra", "painted", "table", "terminal_width"]

Painted = list[tuple[str, str]]
"""One line, as pieces of text with their styles."""

GAP = 2
"""Blanks between two columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    """What stands over it."""

    importance: int = 0
    """Where the terminal is too narrow, the column with the smallest number goes first."""

    right: bool = False
    """True for numbers."""

    styles: Mapping[str, str] = field(default_factory=dict)
    """The colour of cells that hold these texts."""


def fitting(widths: Sequence[int], importance: Sequence[int], room: int | None) -> list[int]:
    """Which of the columns stay so that all fit side by side into `room`: the least important go
    first, the most important one stays in any case. `room` None: all stay."""
    kept = list(range(len(widths)))
    while room is not None and len(kept) > 1 and _width(widths, kept) > room:
        kept.remove(min(kept, key=lambda column: (importance[column], -column)))
    return kept


def _width(widths: Sequence[int], columns: Sequence[int]) -> int:
    return sum(widths[column] for column in columns) + GAP * (len(columns) - 1)


def terminal_width() -> int | None:
    """How many characters fit into a line of the terminal that stdout is; None if it is none."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    room: int | None,
    *,
    never_drop: bool = False,
) -> str | None:
    """The table as text, with colours if `room` says that there is a terminal (which may refuse
    them: `NO_COLOR`, `TERM=dumb`). Columns without anything in them are left out, and those that
    do not fit; with `never_drop` the answer is None if not all fit.

    Raises `MissingExtraError` without rich."""
    try:
        from rich.cells import cell_len
        from rich.table import Table
        from rich.text import Text
    except ImportError as error:
        raise missing_extra("the tables of this command (--json does without)", "rich") from error

    used = [i for i, column in enumerate(columns) if any(row[i] for row in rows) or not rows]
    widths = [
        max(cell_len(text) for text in (columns[i].title, *(r[i] for r in rows))) for i in used
    ]
    kept = fitting(widths, [columns[i].importance for i in used], room)
    if never_drop and len(kept) < len(used):
        return None
    shown = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for place in kept:
        column = columns[used[place]]
        shown.add_column(
            Text(column.title), justify="right" if column.right else "left", no_wrap=True,
            overflow="ellipsis",
        )  # fmt: skip
    for row in rows:
        cells = [(columns[used[place]], row[used[place]]) for place in kept]
        shown.add_row(*(Text(text, style=column.styles.get(text, "")) for column, text in cells))
    width = max(_width(widths, kept), 1)
    return _rendered([shown], width if room is None else min(width, max(room, 1)), room)


def painted(lines: Sequence[Painted], room: int | None) -> str:
    """The lines as text, with their styles if `room` says that there is a terminal; longer ones are
    broken there. Raises `MissingExtraError` without rich."""
    try:
        from rich.cells import cell_len
        from rich.text import Text
    except ImportError as error:
        raise missing_extra("this command's maps (--json does without)", "rich") from error

    width = max((sum(cell_len(text) for text, _ in line) for line in lines), default=1)
    texts = [Text.assemble(*line, no_wrap=room is None) for line in lines]
    return _rendered(texts, max(width if room is None else room, 1), room)


def _rendered(shown: Sequence[Any], width: int, room: int | None) -> str:
    """What rich makes of it, `width` characters wide."""
    from rich.console import Console

    console = Console(
        file=io.StringIO(),
        width=width,
        height=25,  # without one, a terminal that calls itself dumb counts as 80 columns wide
        force_terminal=room is not None,
        legacy_windows=False,
        emoji=False,
    )
    with console.capture() as captured:
        for one in shown:
            console.print(one)
    lines = captured.get().splitlines()
    return "\n".join(lines if room is not None else [line.rstrip() for line in lines])


def missing_extra(what: str, package: str) -> MissingExtraError:
    """The error for an optional package of the command line that is not installed."""
    return MissingExtraError(
        f'{package} is not installed, and {what} need it: pip install "blissdata[cli]"'
    )
