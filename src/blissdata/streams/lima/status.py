"""What an event of a Lima stream says: `{"last_index": n, "last_index_saved": m}`.

Both count from 0 and only ever grow; either may be missing, which means -1: none yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["LimaStatus"]

MAX_INDEX = 2**62
"""Nobody takes more frames; beyond, a number is a lie."""

_LAST_INDEX = "last_index"
_LAST_SAVED = "last_index_saved"


@dataclass(frozen=True, slots=True)
class LimaStatus:
    """How far a detector is."""

    last_index: int = -1
    """The newest frame that was taken."""

    last_index_saved: int = -1
    """The newest frame that was saved."""

    @classmethod
    def parse(cls, event: Any) -> LimaStatus:
        """Out of an event; what else is in there is ignored. Raises `ValueError`."""
        if not isinstance(event, dict):
            raise ValueError(
                f"found a {type(event).__name__}, expected an object with '{_LAST_INDEX}' and "
                f"'{_LAST_SAVED}'"
            )
        return cls(_number(event, _LAST_INDEX), _number(event, _LAST_SAVED))

    @classmethod
    def check(cls, event: Any) -> LimaStatus:
        """As `parse`, for one that is to be published: every reader must understand it, also those
        that know these two fields and no other. Raises `ValueError`."""
        status = cls.parse(event)
        unknown = sorted(str(name) for name in set(event) - {_LAST_INDEX, _LAST_SAVED})
        if unknown:
            raise ValueError(f"readers do not know {', '.join(map(repr, unknown))}")
        return status


def _number(event: dict[str, Any], name: str) -> int:
    value = event.get(name, -1)
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= MAX_INDEX:
        raise ValueError(f"found {name} = {value!r}, expected a whole number from -1 on")
    return value
