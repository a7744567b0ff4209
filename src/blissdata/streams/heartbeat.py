"""Signs of life of publishers: what readers conclude from them, and the thread that gives them.

    last beat        LOST_AFTER_S          two looks in a row
    ──┼────────────────────┼──────────────────┼──▶ silence
      alive, perhaps slow    suspected          lost

Every scan that is published has a pulse on the server, renewed every few seconds. A scan without one
was published by a program that gives none (blissdata 2.x): of its publisher nothing is known.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from blissdata.exceptions import PublisherLostError, StoreError

__all__ = [
    "CLOSED",
    "LOST_AFTER_S",
    "PERIOD_S",
    "Heartbeat",
    "Life",
    "LostPublisher",
    "Suspicion",
    "publisher_lost",
]

_logger = logging.getLogger(__name__)

CLOSED = 4
"""The state of a scan that takes no more points (protocol 1, "Life of a scan")."""

PERIOD_S = 2.0
"""Time between two beats [s]."""

LOST_AFTER_S = 10.0
"""A publisher that was silent for longer is taken for lost [s]: five beats, so that one that was held
up for a moment is not."""

IDLE_S = 2.0
"""The thread ends when it has had nothing to do for so long [s]."""

CLOSING_S = 10.0
"""How long closing waits for a beat that is on its way [s]."""


class LostPublisher(StrEnum):
    """What a publisher that is lost means to who reads its streams."""

    ERROR = "error"
    """`PublisherLostError` is raised. Reading may be tried again: the publisher may come back."""

    END = "end"
    """Its streams end where they are."""


@dataclass(frozen=True, slots=True)
class Life:
    """What the server knows of a scan and its publisher at one instant."""

    state: int | None
    """The scan's state, None if it is gone."""

    silence: float | None
    """Time since its publisher's last sign of life [s]; None if it gives none, or ended well, or the server
    takes no signs of life at the moment."""

    @property
    def silent(self) -> bool:
        """True if the publisher of an open scan should have been heard of."""
        return self.silence is not None and self.silence > LOST_AFTER_S


class Suspicion:
    """Which publishers are lost: those that were silent at two looks in a row. One look may come just
    after the server was away, before they were able to reach it again."""

    def __init__(self) -> None:
        self._suspected: frozenset[str] = frozenset()

    def forget(self) -> None:
        """There was news."""
        self._suspected = frozenset()

    def lost(self, lives: Mapping[str, Life]) -> frozenset[str]:
        """Takes another look, and tells which of these scans have lost their publisher."""
        silent = frozenset(key for key, life in lives.items() if life.silent)
        lost = silent & self._suspected
        self._suspected = silent
        return lost


def publisher_lost(what: str, life: Life) -> PublisherLostError:
    """The error for who waits for a publisher that is lost."""
    return PublisherLostError(
        f"{what}: its publisher has given no sign of life for {life.silence or 0:.0f} s; it was killed, "
        "or cannot reach the server. What was read so far is all there is for now. Read again to wait "
        "on; the memory tracker closes the scan if nobody does"
    )


class Writer(Protocol):
    """Somebody who writes a stream of a scan: `blissdata.streams.sink.StreamSink`."""

    scan_key: str | None
    sealed: int | None
    failure: Exception | None


class Heartbeat:
    """Gives signs of life for the scans that this process publishes, from one thread."""

    def __init__(self, beat: Callable[[Collection[str]], None]) -> None:
        """`beat` renews the pulses of the scans of these keys; one round trip."""
        self._beat = beat
        self._scans: set[str] = set()
        self._writers: weakref.WeakSet[Writer] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        _heartbeats.add(self)

    def begin(self, scan_key: str) -> None:
        """This process publishes the scan from now on; its first pulse is there already."""
        with self._lock:
            self._scans.add(scan_key)
            self._start()

    def end(self, scan_key: str) -> None:
        """The scan is over."""
        with self._lock:
            self._scans.discard(scan_key)

    def follow(self, writer: Writer) -> None:
        """This process writes one stream of a scan that it may not have created, until that stream is
        sealed, or fails, or nobody holds the writer any more."""
        with self._lock:
            self._writers.add(writer)
            self._start()

    def _start(self) -> None:
        if self._thread is None and not self._stop.is_set():
            thread = threading.Thread(
                target=_run, args=[weakref.ref(self), self._stop], name="blissdata-heartbeat"
            )
            thread.daemon = True
            try:
                thread.start()
            except RuntimeError as error:  # the interpreter is about to end
                _logger.debug("no heartbeat: %s", error)
                return
            self._thread = thread

    def keys(self) -> Sequence[str]:
        """The scans that are published by this process now."""
        with self._lock:
            return sorted(self._keys())

    def _keys(self) -> set[str]:
        writing = [w.scan_key for w in self._writers if w.sealed is None and w.failure is None]
        return self._scans | {key for key in writing if key}

    def beat(self) -> bool:
        """One beat; False if there was nothing to tell."""
        keys = self.keys()
        if keys:
            try:
                self._beat(keys)
            except StoreError as error:
                _logger.debug("no sign of life for %d scans: %s", len(keys), error)
        return bool(keys)

    def leave(self, idle: float) -> bool:
        """True if the thread, which had nothing to do for `idle` [s], shall end."""
        with self._lock:
            if idle < IDLE_S or self._keys():
                return False
            self._thread = None
            return True

    def close(self) -> None:
        """Ends the thread: open scans of this process will be taken for lost. Repeatable."""
        with self._lock:
            self._stop.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSING_S)

    def after_fork_in_child(self) -> None:
        """The scans are the parent's, and so is the thread."""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = None
        self._scans = set()
        self._writers = weakref.WeakSet()


def _run(ref: weakref.ref[Heartbeat], stop: threading.Event) -> None:
    """Beats until told to stop, or the heartbeat is gone, or has had nothing to do for a while."""
    idle = 0.0
    while not stop.wait(PERIOD_S):
        heartbeat = ref()
        if heartbeat is None:
            return
        idle = 0.0 if heartbeat.beat() else idle + PERIOD_S
        if heartbeat.leave(idle):
            return
        del heartbeat


_heartbeats: weakref.WeakSet[Heartbeat] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for heartbeat in list(_heartbeats):
        heartbeat.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
