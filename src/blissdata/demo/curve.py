"""A curve that grows in the terminal, drawn with braille dots."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["GrowingCurve", "curve_lines"]

MAX_WIDTH = 72
HEIGHT = 12
LABEL = 8
"""Columns for the numbers on the left."""

MIN_COLUMNS = 30
"""Narrower terminals get no curve."""

Limits = tuple[float, float]


def curve_lines(
    x: Sequence[float] | NDArray[Any],
    y: Sequence[float] | NDArray[Any],
    x_limits: Limits,
    y_limits: Limits,
    columns: int,
) -> list[str]:
    """The curve through the points as lines of text, at most `columns` wide; NaN leaves a gap.

    Needs plotille (extra `cli`)."""
    import plotille

    width = min(MAX_WIDTH, columns) - LABEL - 2
    canvas = plotille.Canvas(
        width, HEIGHT, xmin=x_limits[0], xmax=x_limits[1], ymin=y_limits[0], ymax=y_limits[1]
    )
    good = np.isfinite(x) & np.isfinite(y)
    points = list(zip(np.asarray(x, float), np.asarray(y, float), good, strict=True))
    for (x0, y0, ok0), (x1, y1, ok1) in itertools.pairwise(points):
        if ok0 and ok1:
            canvas.line(x0, y0, x1, y1)
    if len(points) == 1 and points[0][2]:
        canvas.point(points[0][0], points[0][1])
    rows = canvas.plot().splitlines()
    labels = {0: f"{y_limits[1]:.4g}", HEIGHT - 1: f"{y_limits[0]:.4g}"}
    lines = [f"{labels.get(i, ''):>{LABEL}} │{row}" for i, row in enumerate(rows)]
    left, right = f"{x_limits[0]:.6g}", f"{x_limits[1]:.6g}"
    lines.append(f"{'':>{LABEL}} └{'─' * width}")
    lines.append(f"{'':>{LABEL}}  {left}{right:>{max(width - len(left), 0)}}")
    return lines


class GrowingCurve:
    """Shows a curve on stderr while its points come; a context manager. Where there is no terminal,
    or rich and plotille are missing, it shows nothing."""

    def __init__(self, title: str, total: int, x_limits: Limits, y_limits: Limits) -> None:
        self._title, self._total = title, total
        self._limits = x_limits, y_limits
        self._x: list[float] = []
        self._y: list[float] = []
        self._live: Live | None = None

    def __enter__(self) -> GrowingCurve:
        with contextlib.suppress(ImportError):
            import plotille  # noqa: F401 — asked for here, used in curve_lines
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True, highlight=False, markup=False)
            if console.is_terminal and not console.is_dumb_terminal:
                self._live = Live(console=console, auto_refresh=False)
                self._live.__enter__()
                self._draw()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)

    def add(self, x: Sequence[float], y: Sequence[float]) -> None:
        """Points that came."""
        self._x += x
        self._y += y
        self._draw()

    def _draw(self) -> None:
        if self._live is None:
            return
        from rich.text import Text

        columns = shutil.get_terminal_size().columns - 1
        lines = []
        if columns >= MIN_COLUMNS:
            lines = curve_lines(self._x, self._y, *self._limits, columns)
        lines.append(f"{self._title} {len(self._x)}/{self._total}"[:columns])
        self._live.update(Text("\n".join(lines), no_wrap=True, overflow="crop"), refresh=True)
