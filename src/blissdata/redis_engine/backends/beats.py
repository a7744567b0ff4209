"""Whether a server takes signs of life at all: where it refuses them, silence tells nothing."""

from __future__ import annotations

from typing import Any

from blissdata.redis_engine.backends.wire import Command
from blissdata.redis_engine.keys import NOBODY

__all__ = ["BEAT_OF_NOBODY", "takes_beats"]

BEAT_OF_NOBODY: Command = ("PEXPIRE", NOBODY, 1)
"""As beats are; there is no such key, so nothing comes of it."""

_REFUSED_TO_ALL = ("MISCONF", "NOREPLICAS", "READONLY")


def takes_beats(reply: Any) -> bool:
    """False if this is what a server answered to a `BEAT_OF_NOBODY` that refuses writes for a while: then
    publishers live, and cannot say so. Accounts that may only read are refused for another reason."""
    refused = isinstance(reply, Exception) and str(reply).startswith(_REFUSED_TO_ALL)
    return not refused
