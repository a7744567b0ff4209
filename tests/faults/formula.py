"""What each point of the fault tests is, from its stream and its index alone.

Publisher, readers and judge compute it apart from each other. Nothing is imported but numpy: programs
of other versions use this file as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["KINDS", "Author", "check", "from_payload", "points", "salt"]

KINDS = {
    "fast": ("int64", ()),
    "slow": ("float64", ()),
    "array": ("int64", (37,)),
    "frame": ("int64", (2048,)),
    "json": ("json", None),
}
"""Name of the kind: dtype and shape of a point."""


def salt(scan: int, name: str, writer: int = 0) -> int:
    """Tells streams apart, of one scan and of several, and who wrote a point: the publisher, or another."""
    return scan * 1_000_003 + sum(map(ord, name)) * 7919 + writer * 10**12


def points(kind: str, number: int, start: int, stop: int) -> Any:
    """The points of a stream from index `start` to `stop` (exclusive)."""
    scalars = np.arange(start, stop, dtype=np.int64) * 2_654_435_761 + number
    if kind == "json":
        return [
            {"index": i, "value": int(v)} for i, v in zip(range(start, stop), scalars, strict=True)
        ]
    dtype, shape = KINDS[kind]
    if not shape:
        return scalars.astype(dtype)
    return scalars[:, np.newaxis] + np.arange(shape[0], dtype=np.int64)


def check(kind: str, number: int, start: int, found: Any) -> int | None:
    """The index of the first of the points, which begin at `start`, that is not as it must be."""
    if not len(found):
        return None
    wanted = points(kind, number, start, start + len(found))
    if kind == "json":
        same = [w == f for w, f in zip(wanted, found, strict=True)]
    else:
        found = np.asarray(found)
        if found.shape != wanted.shape:
            return start
        same = (found == wanted).reshape(len(found), -1).all(axis=1).tolist()
    return None if all(same) else start + same.index(False)


class Author:
    """Who wrote the points of one stream, as it is read from its start: the publisher, and from some index
    on, for good, the other writer if there was one."""

    def __init__(self, scan: int, name: str, *, contested: bool = False) -> None:
        self._name = name
        self._salts = [salt(scan, name, writer) for writer in range(2 if contested else 1)]
        self.changed_at: int | None = None

    def check(self, start: int, found: Any) -> int | None:
        """As `check`, for points that have been looked at before as well."""
        at = start
        if self.changed_at is None:
            bad = check(self._name, self._salts[0], start, found)
            if bad is None or len(self._salts) == 1:
                return bad
            self.changed_at = at = bad
        elif start < self.changed_at:
            before = found[: self.changed_at - start]
            bad = check(self._name, self._salts[0], start, before)
            at = min(self.changed_at, start + len(found))
            if bad is not None:
                return bad
        return check(self._name, self._salts[1], at, found[at - start :])


def from_payload(kind: str, payload: bytes, count: int) -> Any:
    """The points in an entry, as protocol 1 has them."""
    if kind == "json":
        import json

        return [json.loads(payload)]
    dtype, shape = KINDS[kind]
    return np.frombuffer(payload, dtype).reshape(count, *shape)
