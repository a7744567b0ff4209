"""Numbers that detectors count their acquisitions with, on a Redis server: one key per detector."""

from __future__ import annotations

from collections.abc import Callable

from blissdata.exceptions import StoreError
from blissdata.redis_engine.backends.client import translated_errors
from blissdata.redis_engine.backends.wire import Wire

__all__ = ["AcquisitionCounters"]

_MAX_DIGITS = 19


class AcquisitionCounters:
    """What `Backend` promises of acquisitions; `key` names the key of a detector."""

    def __init__(self, raw: Wire, key: Callable[[str], str]) -> None:
        self._raw = raw
        self._key = key

    def current(self, detector: str) -> int | None:
        """The number of the acquisition that was begun last; None if there was none."""
        with translated_errors(f"asking for the acquisition of {detector}"):
            found = self._raw.execute_command("GET", self._key(detector))
        if found is None:
            return None
        digits = found.removeprefix(b"-")
        if not digits.isdigit() or len(digits) > _MAX_DIGITS:
            text = found[:40].decode(errors="replace")
            raise StoreError(
                f"The number of the acquisition of {detector} is '{text}', which is no number"
            )
        return int(found)

    def begin(self, detector: str) -> int:
        """Begins the next acquisition and gives its number; in one MULTI (protocol 1, "Streams with
        plugins")."""
        key = self._key(detector)
        with translated_errors(f"beginning an acquisition of {detector}"):
            replies = self._raw.transaction([("SETNX", key, -1), ("INCR", key)])
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return int(replies[-1])
