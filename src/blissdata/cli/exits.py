"""How a command ends: exit codes, the errors that have one of their own, notes on stderr."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from blissdata.cli.text import printable
from blissdata.exceptions import (
    BlissdataError,
    NoScanAvailable,
    ScanKeyError,
    ScanNotFoundError,
    StreamDeletedError,
    StreamVanishedError,
)

__all__ = [
    "BROKEN_PIPE",
    "FAILED",
    "HELP",
    "INTERRUPTED",
    "NOT_THERE",
    "TERMINATED",
    "TIME_UP",
    "NotThereError",
    "TimeUpError",
    "UsageError",
    "code_for",
    "ending_at_sigterm",
    "forget_stdout",
    "note",
    "told",
]

FAILED = 1
"""It went wrong; stderr says why."""

USAGE = 2
"""The command line is not understood (argparse's own code)."""

NOT_THERE = 3
"""What the command line names does not exist, or not any more."""

TIME_UP = 4
"""`--timeout` passed."""

INTERRUPTED = 130
"""128 + SIGINT, as shells say it."""

BROKEN_PIPE = 141
"""128 + SIGPIPE: whoever read the output has left, as in `blissdata ls | head -1`."""

TERMINATED = 143
"""128 + SIGTERM."""

HELP = "0 done, 1 failed (stderr says why), 2 wrong usage, 3 no such scan, 130 Ctrl-C"
"""What the help of a command that names a scan says at least."""


class NotThereError(BlissdataError):
    """What the command line names is not there, or is not one thing."""


class TimeUpError(BlissdataError):
    """Nothing came in the time that `--timeout` allows."""


class UsageError(BlissdataError):
    """A value on the command line that only the server's side could judge."""


_CODES: tuple[tuple[type[BlissdataError], int], ...] = (
    (UsageError, USAGE),
    (TimeUpError, TIME_UP),
    (NotThereError, NOT_THERE),
    (ScanNotFoundError, NOT_THERE),
    (StreamVanishedError, NOT_THERE),
    (StreamDeletedError, NOT_THERE),
    (NoScanAvailable, NOT_THERE),
    (ScanKeyError, NOT_THERE),
)


def code_for(error: Exception) -> int:
    """The exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def told(error: Exception) -> str:
    """An error, as it is said to people: of one of the system the words, without its number."""
    if isinstance(error, BlissdataError) or not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def note(text: object) -> None:
    """Says something on stderr, under the program's name."""
    print(f"blissdata: {printable(str(text), lines=True)}", file=sys.stderr, flush=True)


def forget_stdout() -> None:
    """Lets the interpreter end quietly although nobody reads stdout any more: what is still in its
    buffer goes nowhere. The recipe is that of Python's documentation of SIGPIPE."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):
        sys.stdout = None


@contextmanager
def ending_at_sigterm() -> Iterator[None]:
    """Lets SIGTERM end the program as an exception does, so that what is open is closed and the
    terminal is tidied. May be nested."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
