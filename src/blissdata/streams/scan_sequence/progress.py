"""How far a sequence of scans is: pure rules over what is known of its children.

    index_in_sequence   0          1          1            2        3 …  scan_count - 1
    retry_nb            0          0          1            0
    child               SUCCESS    FAILURE    SUCCESS      running  to come

A child that is tried again keeps its place in the sequence; the last attempt counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Child", "SequenceProgress", "child_of", "places", "progress_of", "scan_count_of"]

CLOSED = 4

SUCCEEDED = (None, "SUCCESS")
"""What `end_reason` says of a scan that went well; older publishers say nothing."""


@dataclass(frozen=True, slots=True)
class Child:
    """One attempt at one place of the sequence."""

    place: int | None = None
    """`index_in_sequence`; None if it is not known."""

    retry: int = 0
    """How often it was tried before."""

    state: int | None = None
    """How far it is; None if it was deleted."""

    end_reason: str | None = None
    """How it ended, if it says so."""


@dataclass(frozen=True, slots=True)
class SequenceProgress:
    """How many places of a sequence are how far. `done + failed + gone + running` are begun."""

    scan_count: int | None
    """How many scans the sequence will have; None if that is not known."""

    done: int
    """Closed, and not as a failure."""

    failed: int
    """Closed as a failure, or aborted, and not tried again yet."""

    running: int
    """Not closed."""

    gone: int
    """Deleted: how they ended is not known any more."""

    @property
    def begun(self) -> int:
        """How many were begun."""
        return self.done + self.failed + self.running + self.gone

    @property
    def fraction(self) -> float | None:
        """How much of the sequence is over, from 0 to 1; None if its end is not known."""
        if not self.scan_count:
            return None
        return min(1.0, (self.begun - self.running) / self.scan_count)

    def __str__(self) -> str:
        of_many = "" if self.scan_count is None else f" of {self.scan_count}"
        parts = {"failed": self.failed, "running": self.running, "deleted": self.gone}
        more = "".join(f", {count} {word}" for word, count in parts.items() if count)
        return f"{self.done}{of_many} scans done{more}"


def child_of(info: Mapping[str, Any], state: int | None) -> Child:
    """What the info of a child says."""
    place, retry, reason = (
        info.get(name) for name in ("index_in_sequence", "retry_nb", "end_reason")
    )
    return Child(
        place if _is_number(place) else None,
        int(retry) if retry is not None and _is_number(retry) else 0,
        state,
        reason if isinstance(reason, str) else None,
    )


def places(children: Mapping[int, Child]) -> dict[int, int]:
    """The place of each child, by the index of its point: where it says none, the one behind that of
    the child before, or its index."""
    found: dict[int, int] = {}
    for index in sorted(children):
        place = children[index].place
        found[index] = found.get(index - 1, index - 1) + 1 if place is None else place
    return found


def progress_of(
    children: Mapping[int, Child], length: int, scan_count: int | None
) -> SequenceProgress:
    """How far a sequence of `length` points is, of which these children are known by their index; the
    keys of the others have left the server."""
    last: dict[int, Child] = {}
    for index, place in places(children).items():
        child, before = children[index], last.get(place)
        if before is None or child.retry >= before.retry or child.state is None:
            last[place] = child
    counts = {"done": 0, "failed": 0, "running": 0, "gone": length - len(children)}
    for child in last.values():
        counts[_word(child)] += 1
    return SequenceProgress(scan_count, **counts)


def _word(child: Child) -> str:
    if child.state is None:
        return "gone"
    if child.state < CLOSED:
        return "running"
    return "done" if child.end_reason in SUCCEEDED else "failed"


def scan_count_of(info: Mapping[str, Any]) -> int | None:
    """How many scans the info of a sequence announces; None if it does not."""
    about = info.get("sequence_info")
    found = about.get("scan_count") if isinstance(about, Mapping) else None
    return found if _is_number(found) else None


def _is_number(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and found >= 0
