"""A terminal for programs under test, and what they show on it."""

from __future__ import annotations

import os
import pty
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["terminal"]


@contextmanager
def terminal() -> Iterator[tuple[int, bytearray]]:
    """The end that programs write to, and what they have written: all of it once the block is left, in which
    they end."""
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read() -> None:
        try:
            while part := os.read(ours, 65536):
                shown.extend(part)
        except OSError:
            pass  # nobody writes any more

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield theirs, shown
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
