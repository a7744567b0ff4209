"""How often something is sent to a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from blissdata.redis_engine.backends.wire import Link


@contextmanager
def round_trips() -> Iterator[list[int]]:
    """One more item each time that this thread sends something. Other threads give signs of life meanwhile,
    which on a slow machine may be at any time."""
    found: list[int] = []
    here = threading.get_ident()

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def send(self: Link, commands: Any) -> None:
            if threading.get_ident() == here:
                found.append(1)
            original(self, commands)

        return send

    with pytest.MonkeyPatch.context() as patch:
        for name in ("send", "send_one"):
            patch.setattr(Link, name, counting(getattr(Link, name)))
        yield found
