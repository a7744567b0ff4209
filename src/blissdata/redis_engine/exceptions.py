"""An old path: the names are in `blissdata.exceptions`."""

from __future__ import annotations

from blissdata.exceptions import *  # noqa: F403 — all of them
from blissdata.exceptions import __all__  # noqa: F401 — of the same names
from blissdata.old_paths import moved

moved(__name__, "blissdata.exceptions")
