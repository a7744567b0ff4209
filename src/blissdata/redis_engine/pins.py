"""Pins: how a consumer that must not miss anything tells how far it has come.

    points      0 ········ position ······················ end
    plain readers          │ free: the tracker may forget what is protected by nobody
    a pin       may go ◄───┤ stays, up to the operator's limit

A pin is moved in memory; one thread tells the server of all pins of the process, a few times a second
at most, and gives signs of life. What went wrong there is raised at the next move.
"""

from __future__ import annotations

import logging
import operator
import os
import socket
import threading
import uuid
import weakref
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from types import TracebackType

from blissdata.exceptions import PinBrokenError, PinError, PinGoneError, StoreError
from blissdata.redis_engine.backends.abstract import PinLosses, PinMove, Pins, PinState
from blissdata.streams.heartbeat import CLOSING_S, PERIOD_S

__all__ = ["Pin", "PinKeeper"]

_logger = logging.getLogger(__name__)

GATHERING_S = 0.1
"""Moves of so long [s] go to the server together."""


class Pin:
    """What a consumer of one scan asks the memory tracker not to forget (`Scan.pin`).

    Safe to use from several threads. As a context manager it is released at the end; a lasting one only
    where nothing went wrong."""

    def __init__(
        self,
        keeper: PinKeeper,
        state: PinState,
        token: str,
        streams: Callable[[], Mapping[str, str]],
    ) -> None:
        """`streams` gives the keys of the scan's streams by name."""
        self._keeper = keeper
        self._state = state
        self._token = token
        self._streams = streams
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()
        self._pending: dict[str, int] = {}
        self._reached = dict(state.positions)
        self._lost: PinLosses = state.lost
        self._told: PinLosses = state.lost
        self._failure: PinError | None = None
        self._released = False

    @property
    def name(self) -> str:
        """What the consumer calls it."""
        return self._state.name

    @property
    def scan_key(self) -> str:
        """The scan."""
        return self._state.scan_key

    @property
    def lasting(self) -> bool:
        """True if it outlives its program."""
        return self._state.lasting

    @property
    def positions(self) -> dict[str, int]:
        """By name of a stream, the index from which on its points are held; streams that were never
        moved are left out. After a restart of the consumer, where it had told to be."""
        names = {key: name for name, key in self._streams().items()}
        with self._lock:
            return {names[key]: i for key, i in self._reached.items() if key in names}

    @property
    def broken(self) -> dict[str, list[tuple[int, int]]]:
        """By name of a stream, ranges of points (end exclusive) that were forgotten although they were
        held, as far as the server has told; nothing if all is well."""
        names = {key: name for name, key in self._streams().items()}
        with self._lock:
            return {names.get(key, key): list(ranges) for key, ranges in self._lost.items()}

    def move(self, positions: Mapping[str, int]) -> None:
        """Says how far the consumer has come: by name of a stream, the index of the next point that it
        needs. Points in front of it may be forgotten. A pin never moves back.

        Does not wait: the server is told within a fraction of a second, of all streams at once. Raises
        `PinBrokenError`, once for each loss, if points that the pin held were forgotten (the move counts
        all the same, and the pin holds on); `PinGoneError` if the pin, or its scan, is not there any
        more; `KeyError` for a name that no stream of the scan has."""
        keys = self._keys(positions)
        with self._lock:
            for key, index in keys.items():
                if index > self._reached.get(key, -1):
                    self._reached[key] = self._pending[key] = index
            pending = bool(self._pending)
        self._raise_what_was_told()
        if pending:
            self._keeper.wake()

    def sync(self) -> None:
        """Tells the server at once how far the consumer has come. One round trip. Raises as `move`
        does, `StoreConnectionError`, and `ServerRefusedError` if it takes no words now."""
        self._raise_what_was_told()
        self._keeper.tell([self])
        self._raise_what_was_told()

    def release(self) -> None:
        """Holds nothing any more. Repeatable. One round trip; raises `StoreConnectionError`."""
        if self._released:
            return
        self._keeper.release(self)
        self._released = True

    def __enter__(self) -> Pin:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None or not self.lasting:
            self.release()

    def __repr__(self) -> str:
        return f"Pin({self.name!r}, scan {self.scan_key})"

    def _keys(self, positions: Mapping[str, int]) -> dict[str, int]:
        if not positions.keys() <= self._known.keys():
            self._known = dict(self._streams())
        for name in positions:
            if name not in self._known:
                known = ", ".join(self._known) or "none"
                raise KeyError(f"Scan {self.scan_key} has no stream {name!r}, only: {known}")
        return {self._known[name]: checked_index(name, i) for name, i in positions.items()}

    def _raise_what_was_told(self) -> None:
        with self._lock:
            if self._failure is not None:
                raise type(self._failure)(*self._failure.args)
            if self._released:
                raise PinGoneError(f"{self!r} was released")
            if self._lost == self._told:
                return
            self._told = self._lost
        ranges = "; ".join(
            f"{name}: {', '.join(f'{start} to {stop - 1}' for start, stop in ranges)}"
            for name, ranges in sorted(self.broken.items())
        )
        raise PinBrokenError(
            f"{self!r} could not be kept: the memory tracker had to forget points that it held ({ranges}). "
            "Memory went beyond the operator's limit for pins, or nothing was heard of this program for "
            "half a minute. Points of a file-backed stream can be read from its file"
        )

    # ------------------------------------------------------------------------------ for the keeper

    def next_move(self) -> PinMove:
        """What to tell the server."""
        with self._lock:
            pending, self._pending = self._pending, {}
        state = self._state
        return PinMove(state.key, state.scan_key, self._token, state.lasting, pending)

    def take_back(self, move: PinMove) -> None:
        """The server may not have been told."""
        with self._lock:
            self._pending = {**move.positions, **self._pending}

    def answered(self, reply: PinLosses | Exception) -> bool:
        """What the server said; False if the pin is over."""
        with self._lock:
            if isinstance(reply, PinError):
                self._failure = reply
            elif not isinstance(reply, Exception):
                self._lost = reply
        return self._failure is None

    @property
    def has_moved(self) -> bool:
        """True if the server is to be told."""
        return bool(self._pending)

    @property
    def token(self) -> str:
        """By which this holder took the pin."""
        return self._token

    @property
    def key(self) -> str:
        """The pin's key on the server."""
        return self._state.key

    def left_behind(self) -> None:
        """In a child process: it stays the parent's."""
        self._lock = threading.Lock()
        self._failure = PinGoneError(
            f"{self!r} belongs to the process that took it, and this is a child of that. Take another "
            "one, under a name of its own"
        )


class PinKeeper:
    """Tells the server of the pins that this process holds in one store, from one thread."""

    def __init__(self, pins: Callable[[], Pins]) -> None:
        """`pins` are the server's."""
        self._pins = pins
        self._held: dict[str, Pin] = {}
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        _keepers.add(self)

    def take(
        self,
        scan_key: str,
        name: str,
        streams: Callable[[], Mapping[str, str]],
        expiring: Collection[str],
        *,
        only: Collection[str] | None,
        positions: Mapping[str, int],
        lasting: bool,
    ) -> Pin:
        """A pin, as `Scan.pin` says. `streams` gives keys by name, `expiring` are all keys that expire
        with the scan. One round trip."""
        if not isinstance(name, str) or not name or len(name) > LONGEST_NAME:
            raise ValueError(
                f"A pin has a text of 1 to {LONGEST_NAME} characters as its name, not {name!r}"
            )
        known = streams()
        for stream in [*(only or ()), *positions]:
            if stream not in known:
                there = ", ".join(known) or "none"
                raise KeyError(f"Scan {scan_key} has no stream {stream!r}, only: {there}")
        token = uuid.uuid4().hex
        state = self._pins().take(
            scan_key,
            name,
            token,
            holder=_this_program(),
            lasting=lasting,
            everything=only is None,
            begins={known[stream]: 0 for stream in only or () if stream not in positions},
            positions={known[s]: checked_index(s, index) for s, index in positions.items()},
            keys=expiring,
        )
        pin = Pin(self, state, token, streams)
        with self._lock:
            self._held[pin.key] = pin
            self._start()
        return pin

    def release(self, pin: Pin) -> None:
        """Lets the server forget about it. One round trip."""
        with self._telling:
            self._pins().release(pin.key, pin.token)
        self._let_go(pin)

    def tell(self, pins: Collection[Pin]) -> None:
        """Tells the server where these are. One round trip; raises `StoreConnectionError`, and
        `ServerRefusedError` if it takes no words now: they go again with the next."""
        with self._telling:  # moves of one pin stay in order
            moves = [(pin, pin.next_move()) for pin in pins]
            try:
                replies = self._pins().move([move for _, move in moves]) if moves else []
            except StoreError:
                for pin, move in moves:
                    pin.take_back(move)
                raise
            refused: Exception | None = None
            for (pin, move), reply in zip(moves, replies, strict=True):
                if isinstance(reply, Exception) and not isinstance(reply, PinError):
                    refused = reply
                    pin.take_back(move)
                elif not pin.answered(reply):
                    self._let_go(pin)
        if refused is not None:
            raise refused

    def tell_all(self, *, beat: bool) -> None:
        """Tells of those that have moved, or of all if it is time for a sign of life."""
        with self._lock:
            pins = [pin for pin in self._held.values() if beat or pin.has_moved]
        try:
            self.tell(pins)
        except StoreError as error:
            _logger.debug("no sign of life for %d pins: %s", len(pins), error)

    def wake(self) -> None:
        """A pin has moved."""
        self._wake.set()

    def close(self) -> None:
        """Releases the pins that are not to last, and ends the thread. Repeatable."""
        with self._lock:
            self._stop.set()
            self._wake.set()
            thread, pins = self._thread, list(self._held.values())
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSING_S)
        for pin in pins:
            try:
                if pin.lasting:
                    self.tell([pin])
                else:
                    pin.release()
            except StoreError as error:
                _logger.debug("%r is left to lapse: %s", pin, error)

    def _let_go(self, pin: Pin) -> None:
        with self._lock:
            if self._held.get(pin.key) is pin:
                del self._held[pin.key]

    def _start(self) -> None:
        if self._thread is None and not self._stop.is_set():
            arguments = [weakref.ref(self), self._stop, self._wake]
            self._thread = threading.Thread(target=_run, args=arguments, name="blissdata-pins")
            self._thread.daemon = True
            self._thread.start()

    def leave(self) -> bool:
        """True if the thread shall end, for there is nothing to do."""
        with self._lock:
            if self._held:
                return False
            self._thread = None
            return True

    def after_fork_in_child(self) -> None:
        """The pins are the parent's, and so is the thread."""
        for pin in self._held.values():
            pin.left_behind()
        self._held = {}
        self._lock, self._telling = threading.Lock(), threading.Lock()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = None


LONGEST_NAME = 100
"""[characters]"""


def checked_index(name: str, index: int) -> int:
    """An index, as a plain number. Raises `TypeError` or `ValueError`."""
    found = operator.index(index)
    if found < 0:
        raise ValueError(f"A pin stands at index 0 of stream {name!r} or beyond, not at {found}")
    return found


def _this_program() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _run(ref: weakref.ref[PinKeeper], stop: threading.Event, wake: threading.Event) -> None:
    """Tells of moves soon and of life every few seconds, until told to stop, or nothing is held."""
    beaten = monotonic()
    while not stop.is_set():
        if wake.wait(max(0.0, beaten + PERIOD_S - monotonic())):
            stop.wait(GATHERING_S)  # more may come
            wake.clear()
        keeper = ref()
        if keeper is None:
            return
        beat = monotonic() - beaten >= PERIOD_S
        keeper.tell_all(beat=beat)
        if beat:
            beaten = monotonic()
            if keeper.leave():
                return
        del keeper


_keepers: weakref.WeakSet[PinKeeper] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for keeper in list(_keepers):
        keeper.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
