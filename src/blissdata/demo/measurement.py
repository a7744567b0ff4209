"""The measurement that the demo replays, as columns of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["COPPER", "read_columns"]

COPPER = Path(__file__).parent / "data" / "EXAFS_Cu.dat"
"""1461 points: energy [eV] and absorption of a copper foil around its K edge."""

NAMES = ("energy", "absorption")


def read_columns(path: Path) -> Mapping[str, NDArray[np.float64]]:
    """`energy` [eV] and `absorption`, each of shape `(points,)`, from a file of two columns with
    `#` comments. Raises `ValueError` for a file of another form, `OSError` for one that is not
    there."""
    try:
        table = np.loadtxt(path, comments="#", ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path} is not two columns of numbers: {error}") from error
    if table.shape[1:] != (len(NAMES),) or not len(table):
        raise ValueError(f"{path} has a table of shape {table.shape}, expected (points, 2)")
    return dict(zip(NAMES, table.T.copy(), strict=True))
