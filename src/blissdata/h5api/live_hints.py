"""What a path that is not there may have meant: names that there are, and look like it.

Nothing here changes what an error says: programs compare its text. A hint is a note on the error, which Python
shows below it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blissdata.redis_engine.store import DataStore

__all__ = ["OtherFiles", "entries_hint", "named"]

NEWEST = 500
"""The files of how many scans, the newest ones, are compared with a path that no scan has."""

FRESH_S = 10.0
"""How long these are remembered [s]: a program may try many names."""

MOST = 3
"""How many names a hint gives at most as looking like what was sought."""

LISTED = 10
"""How many names it gives at most where none does."""


class OtherFiles:
    """The files that scans of a store belong to, for one that none belongs to."""

    def __init__(self, store: DataStore, filename: str) -> None:
        self._store = store
        self._filename = filename
        self._asked = -FRESH_S
        self._paths: list[str] = []

    def told(self) -> str:
        """What to say of the file: that no scan has it, and which ones have a similar one. Two round trips
        or three, if it was not asked a moment ago; what they cost does not grow with the number of scans."""
        if time.monotonic() - self._asked >= FRESH_S:
            self._paths = self._look()
            self._asked = time.monotonic()
        return (
            f"No scan of this store is saved to {self._filename}, and there is no such file. "
            + (_files(self._filename, self._paths))
        )

    def similar(self) -> list[str]:
        """Paths that look like it, the most similar first."""
        self.told()
        return _similar(self._filename, self._paths)

    def _look(self) -> list[str]:
        keys = [key for _, key in self._store.newest_scans(NEWEST)]
        found = self._store.load_scans(keys) if keys else {}
        scans = [scan for key in keys if not isinstance(scan := found[key], Exception)]
        paths = (scan.identity.get("path") for scan in scans)
        return list(dict.fromkeys(path for path in paths if isinstance(path, str) and path))


def _files(wanted: str, paths: Sequence[str]) -> str:
    similar = _similar(wanted, paths)
    if similar:
        return f"Similar ones that scans are saved to: {named(similar)}"
    if paths:
        return f"The newest scans are saved to: {named(paths[:MOST])}"
    return "No scan of it names a file (its `path`)"


def _similar(wanted: str, paths: Sequence[str]) -> list[str]:
    """Those of that name elsewhere, and those of which the whole path looks much the same."""
    close = get_close_matches(wanted, paths, MOST, cutoff=0.8)
    name = os.path.basename(wanted)
    return list(dict.fromkeys([*close, *(p for p in paths if os.path.basename(p) == name)]))[:MOST]


def entries_hint(group: str, name: str, names: Iterable[str]) -> str:
    """What to say of a name that is not in a group: what looks like it, or else what there is."""
    there = list(names)
    similar = get_close_matches(name, there, MOST)
    if similar:
        return f"'{group}' has {named(similar)}"
    if not there:
        return f"'{group}' has nothing in it (yet)"
    more = f" and {len(there) - LISTED} more" if len(there) > LISTED else ""
    return f"'{group}' has {named(there[:LISTED])}{more}"


def named(names: Sequence[str]) -> str:
    """The names in quotes."""
    return ", ".join(f"'{name}'" for name in names)
