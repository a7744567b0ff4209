"""When a wait must end: made once at the public edge, then passed down."""

from __future__ import annotations

import time

__all__ = ["Deadline"]


class Deadline:
    """A moment on the monotonic clock. `Deadline(None)` never comes, `Deadline(0)` is now."""

    __slots__ = ("_at",)

    def __init__(self, timeout: float | None) -> None:
        self._at = None if timeout is None else time.monotonic() + timeout

    @classmethod
    def from_2x(cls, block: bool, timeout: float) -> Deadline:
        """From the arguments of names that blissdata 2.x has, where a timeout of 0 is for ever."""
        if timeout < 0:
            raise ValueError(f"A timeout is a number of seconds ≥ 0 (0: for ever), not {timeout}")
        return cls(0) if not block else cls(timeout or None)

    def remaining(self, at_most: float) -> float:
        """Seconds left, from 0 to `at_most`."""
        if self._at is None:
            return at_most
        return max(0.0, min(at_most, self._at - time.monotonic()))

    @property
    def passed(self) -> bool:
        """True when the time is up."""
        return self._at is not None and time.monotonic() >= self._at
