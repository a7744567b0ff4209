"""How far scans are, as lines under what is printed: on a terminal, and nowhere else."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blissdata.cli.exits import ending_at_sigterm, note

__all__ = ["ProgressBars", "ProgressLine", "progress_bars", "progress_line"]

MOST_BARS = 8
"""So many scans have a bar at once; of others it is said how many there are."""


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


class ProgressBars:
    """A bar for each of several scans, in the last lines of the terminal that stderr is; without a
    terminal, prints only. May be used from any thread."""

    def __init__(self, bars: Any = None) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}
        self._more: Any = None
        self._lock = threading.RLock()

    def print(self, text: str) -> None:
        """Writes a line to stdout, above the bars."""
        with self._lock:
            if sys.stdout is not None and sys.stdout.isatty():
                self._make_room()
            print(text, flush=True)

    def say(self, text: str) -> None:
        """Says something on stderr, above the bars."""
        with self._lock:
            self._make_room()
            note(text)

    def at(self, key: str, title: str, done: int, total: int | None, behind: int) -> None:
        """The scan of that key has so many points, of so many (None: nobody knows), and is so many
        behind."""
        with self._lock:
            if self._bars is None:
                return
            late = f"{behind} behind" if behind else ""
            total = max(total or 0, done + behind) or None
            if key not in self._tasks:
                visible = len(self._tasks) < MOST_BARS
                self._tasks[key] = self._bars.add_task(
                    title, total=total, visible=visible, behind=late
                )
            self._bars.update(self._tasks[key], completed=done, total=total, behind=late)
            self._show()

    def end(self, key: str) -> None:
        """Takes its bar away."""
        with self._lock:
            task = self._tasks.pop(key, None)
            if task is not None:
                self._bars.remove_task(task)
                self._show()

    def _show(self) -> None:
        for number, task in enumerate(self._tasks.values()):
            self._bars.update(task, visible=number < MOST_BARS)
        if self._more is not None:
            self._bars.remove_task(self._more)
            self._more = None
        if len(self._tasks) > MOST_BARS:
            title = f"and {len(self._tasks) - MOST_BARS} more scans"
            self._more = self._bars.add_task(title, total=None, behind="")
        self._bars.start()
        self._bars.refresh()

    def _make_room(self) -> None:
        """Takes the bars away; the next `at` or `end` draws them again, further down."""
        if self._bars is not None:
            self._bars.stop()


@contextmanager
def progress_bars() -> Iterator[ProgressBars]:
    """Bars, if stderr is a terminal and rich is installed. They are gone afterwards, however that comes
    about, and the cursor is there again."""
    bars = _several() if sys.stderr is not None and sys.stderr.isatty() else None
    try:
        yield ProgressBars(bars)
    finally:
        if bars is not None:
            bars.stop()


def _several() -> Any:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        return None
    console = Console(stderr=True)
    if console.is_dumb_terminal:
        return None
    columns: list[Any] = [TextColumn("{task.description}", markup=False), MofNCompleteColumn()]
    if console.width >= 60:
        columns.insert(1, BarColumn(bar_width=None))
        columns.append(TextColumn("{task.fields[behind]}", markup=False))
    return Progress(*columns, **_quiet(console))


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
    return Progress(*columns, **_quiet(console))


def _quiet(console: Any) -> dict[str, Any]:
    """How bars leave alone what they need not touch."""
    return {
        "console": console,
        "transient": True,
        "expand": console.width >= 30,
        "auto_refresh": False,
        "redirect_stdout": False,
        "redirect_stderr": False,
    }
