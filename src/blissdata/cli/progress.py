"""How far a scan is, as one line under what is printed: on a terminal, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blissdata.cli.exits import ending_at_sigterm, note

__all__ = ["ProgressLine", "progress_line"]


class ProgressLine:
    """A bar in the last line of the terminal that stderr is; without a bar, prints only."""

    def __init__(self, bar: Any = None, task: Any = None) -> None:
        self._bar = bar
        self._task = task

    def print(self, text: str) -> None:
        """Writes text that ends a line to stdout, above the bar."""
        if sys.stdout is not None and sys.stdout.isatty():
            self._make_room()
        print(text, end="", flush=True)

    def say(self, text: str) -> None:
        """Says something on stderr, above the bar."""
        self._make_room()
        note(text)

    def _make_room(self) -> None:
        """Clears the bar's line; the next `at` draws it again, one line further down."""
        if self._bar is not None:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()

    def at(self, points: int) -> None:
        """So many points are there."""
        if self._bar is not None:
            self._bar.update(self._task, completed=points, refresh=True)


@contextmanager
def progress_line(title: str, total: int | None) -> Iterator[ProgressLine]:
    """A bar that ends at `total`, if that is known, stderr is a terminal and rich is installed.
    It is gone afterwards, however that comes about, and the cursor is there again."""
    bar = _bar() if total and sys.stderr is not None and sys.stderr.isatty() else None
    if bar is None:
        yield ProgressLine()
        return
    with ending_at_sigterm(), bar:
        yield ProgressLine(bar, bar.add_task(title, total=total))


def _bar() -> Any:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        return None
    console = Console(stderr=True)
    columns: list[Any] = [BarColumn(bar_width=None), MofNCompleteColumn()]
    if console.width >= 60:
        columns.insert(0, TextColumn("{task.description}", markup=False))
    if console.width < 30:
        columns = [MofNCompleteColumn()]
    return Progress(
        *columns,
        console=console,
        transient=True,
        expand=console.width >= 30,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
