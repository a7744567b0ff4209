"""The memory tracker beside a local server: a child process of its supervisor, and ends with it.

It is a program of its own because it builds on layers above this one, and because a supervisor has
nothing to do with scans.
"""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import time
from contextlib import suppress
from typing import IO, ClassVar

from blissdata.redis_engine.local_server.place import Place

__all__ = ["TrackerProcess"]

_LOG = logging.getLogger(__name__)

DELAY_S = 3.0
"""How long after the server the tracker starts [s]: many servers live shorter, and none fills up or has
scans that are over so soon."""

RESTART_S = 60.0
"""A tracker that ended is started again after so long [s]."""

PATIENCE_S = 10.0
"""How long a tracker may take to end [s]; it has nothing to save."""


class TrackerProcess:
    """The tracker of one local server."""

    what: ClassVar[str] = "the memory tracker"
    """For the log."""

    program: ClassVar[str] = "blissdata.redis_engine.memory_tracker.beside"
    """The module that is run."""

    @property
    def delay_s(self) -> float:
        """How long after the server it starts [s]."""
        return DELAY_S

    @property
    def restart_s(self) -> float:
        """It is started again so long after it has ended [s]."""
        return RESTART_S

    @property
    def patience_s(self) -> float:
        """How long it may take to end [s]."""
        return PATIENCE_S

    def __init__(self, place: Place) -> None:
        self._place = place
        self._url = ""
        self._arguments: list[str] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._due = math.inf

    def stdout(self, log: IO[bytes]) -> IO[bytes] | int:
        """Where what it prints goes."""
        return log

    def keep(self, url: str, pin_limit: str = "") -> None:
        """From now on there is a server to keep, at that address; pins up to that limit (empty: the
        default)."""
        self._run(url, ["--pin-limit", pin_limit] if pin_limit else [])

    def _run(self, url: str, arguments: list[str]) -> None:
        self._url = url
        self._arguments = arguments
        self._due = time.monotonic() + self.delay_s

    def look(self) -> float:
        """Starts it when it is due, and again when it has ended; gives in which time [s] to look
        again at the latest."""
        if self._child is not None:
            code = self._child.poll()
            if code is None:
                return self.restart_s
            _LOG.error("%s ended with code %s", self.what, code)
            self._let_go()
            self._due = time.monotonic() + self.restart_s
        left = self._due - time.monotonic()
        if left > 0:
            return min(left, self.restart_s)
        self._start()
        return self.restart_s

    def _start(self) -> None:
        try:
            with self._place.open_log() as log:
                child = subprocess.Popen(  # noqa: S603 — this Python, our own module
                    [sys.executable, "-P", "-m", self.program, *self._arguments],
                    cwd=self._place.directory,
                    stdin=subprocess.PIPE,
                    stdout=self.stdout(log),
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            _LOG.error("%s cannot be started: %s", self.what, error)
            self._due = time.monotonic() + self.restart_s
            return
        self._child = child
        if child.stdin is not None:
            with suppress(BrokenPipeError):  # it has ended already, and said why
                child.stdin.write(self._url.encode() + b"\n")  # it may hold a password
                child.stdin.flush()

    def stop(self) -> None:
        """Ends it, until `keep` is called again. Repeatable."""
        self._due = math.inf
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(self.patience_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._let_go()

    def _let_go(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.stdin is not None:
            with suppress(BrokenPipeError):
                child.stdin.close()
