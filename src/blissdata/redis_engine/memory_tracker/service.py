"""The memory tracker as a program: rounds, as often as memory grows, and what it says of them.

Other programs read what it says on stdout: the texts are part of what clients of blissdata 2.x rely on.
"""

from __future__ import annotations

import logging
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic

from blissdata.exceptions import (
    ServerFullError,
    ServerRefusedError,
    StoreConnectionError,
    StoreError,
)
from blissdata.redis_engine.backends.abstract import ServerInfo
from blissdata.redis_engine.memory_tracker.options import Options
from blissdata.redis_engine.memory_tracker.policy import Watch, efforts
from blissdata.redis_engine.memory_tracker.report import MOST_ALARMS, Alarm, Report
from blissdata.redis_engine.memory_tracker.sizes import human_size
from blissdata.redis_engine.memory_tracker.tracker import MemoryTracker, NoFreeableMemoryError
from blissdata.redis_engine.store import DataStore

__all__ = ["Service"]

_logger = logging.getLogger("blissdata.redis_engine.memory_tracker")

ROLE = "tracker"

NOTHING_TO_FREE_S = 1.0
"""Pause when nothing may be forgotten [s]."""

SERVER_FULL_S = 0.5
"""Pause when the server takes nothing at all [s]."""

SERVER_AWAY_S = 1.0
"""Pause when nobody answers [s]."""

STAND_BY_S = 2.0
"""How often a tracker that stands by asks whether the other is still there [s]."""

PATIENCE_S = 60.0
"""A tracker that has said nothing to the server for so long, beyond its period, is passed over [s]."""

LAST_RESORT = 0.9
"""From this part of `maxmemory` on, a tracker that may do so goes into the protected history."""

NOT_YET_S = 0.05
"""How often memory, and pins, are looked at while nothing may be forgotten yet [s]."""

HELD_ROUND_S = 1.0
"""A round is due after so long [s] while memory is above the threshold and pins hold what is there."""


class Service:
    """Keeps one server from filling up, until it is told to stop. Of several on one server, one works
    and the others stand by."""

    def __init__(
        self, data_store: DataStore, options: Options, ends_with: int | None = None
    ) -> None:
        """`ends_with` is a descriptor at whose end it stops: nobody writes to it any more."""
        self._ends_with = ends_with
        self._store = data_store
        self._options = options
        self._stopping = False
        self._woken, self._wakes = os.pipe()
        self._tracker: MemoryTracker | None = None
        self._candidate = data_store.backend.upkeep.candidate(ROLE)
        self._standing_by = False
        self._who = f"process {os.getpid()} on {socket.gethostname()}"
        self._alarms: list[Alarm] = []
        self._holding: frozenset[str] = frozenset()

    def stop(self) -> None:
        """Makes `run` return soon. May be called from anywhere, a signal handler too."""
        self._stopping = True
        with suppress(OSError):
            os.write(self._wakes, b"\0")

    def announce(self, info: ServerInfo) -> None:
        """Says what it will do."""
        _logger.info("INIT | Redis max. memory: %s", human_size(info.max_memory))
        threshold = f"{self._options.cleaning_threshold:g}%"
        size = human_size(self._threshold(info))
        _logger.info("INIT | Mem. usage to trigger cleanup: %s (%s)", threshold, size)
        protected = f"{self._options.protected_history:g}"
        _logger.info("INIT | Protected history length: %s seconds", protected)
        limit = self._options.pin_limit
        size = "always: publishers wait" if limit.nbytes(info.max_memory) == inf else str(limit)
        _logger.info("INIT | Pins are kept up to: %s", size)
        if limit.nbytes(info.max_memory) <= self._threshold(info):
            _logger.warning(
                "Pins are kept up to %s, and points are forgotten from %s on: pins hold nothing. Choose a "
                "--pin-limit above --cleaning-threshold",
                limit,
                threshold,
            )

    def run(self) -> None:
        """Round after round, until `stop`. What goes wrong is said and tried again."""
        try:
            while not self._stopping:
                pause = self._guarded(self._round)
                if pause:
                    self._pause(pause)
        finally:
            self._candidate.close()
            os.close(self._wakes)
            os.close(self._woken)

    def _pause(self, seconds: float) -> None:
        """So long [s], or until `stop`."""
        if self._stopping:
            return
        watched = [self._woken] + ([] if self._ends_with is None else [self._ends_with])
        ready, _, _ = select.select(watched, [], [], max(0.0, seconds))
        if self._ends_with in ready and not os.read(self._ends_with, 4096):
            self._stopping = True

    def _guarded(self, work: Callable[[], float]) -> float:
        """The pause [s] that the work asks for, or that its trouble needs."""
        try:
            return work()
        except ServerFullError:
            _logger.critical("Redis is out of memory, monitoring routine can't run, retry...")
            return SERVER_FULL_S
        except StoreConnectionError as error:
            _logger.error("%s", error)
            self._tracker = None  # who comes back may have other data
            return SERVER_AWAY_S
        except StoreError as error:
            _logger.error("%s", error)
            return SERVER_AWAY_S

    # ------------------------------------------------------------------------------ one round

    def _round(self) -> float:
        """One round, and the wait for the next one; gives a pause [s] that is due before that."""
        options = self._options
        if not self._candidate.leads(options.monitoring_period + PATIENCE_S):
            if not self._standing_by:
                _logger.info("Another memory tracker keeps this server: standing by")
            self._standing_by, self._tracker = True, None
            return STAND_BY_S
        if self._standing_by:
            _logger.info("The other memory tracker is gone: taking over")
            self._standing_by = False
        if self._tracker is None:
            self._tracker = MemoryTracker(
                self._store,
                options.inactive_scan_deletion,
                options.closed_scan_deletion,
                options.cleaning_time_slice,
            )
        self._tracker.update()
        info = self._store.backend.info()
        _logger.info("Memory usage: %s", human_size(info.used_memory))
        self._tell(self._tracker, info)
        if info.max_memory and info.used_memory >= self._threshold(info):
            return self._reclaim(self._tracker, info)
        self._holding = frozenset()
        self._wait(info)
        return 0.0

    def _reclaim(self, tracker: MemoryTracker, info: ServerInfo) -> float:
        """Makes room; the pause [s] that is due if there is none to be made."""
        try:
            self._make_room(tracker, info.used_memory, info.max_memory)
        except NoFreeableMemoryError as error:
            return self._nothing_to_free(tracker, info, error)
        self._say_trimmed()
        return 0.0

    def _make_room(self, tracker: MemoryTracker, used: int, max_memory: int) -> None:
        """By the first effort that frees anything. Raises the first `NoFreeableMemoryError` if none
        does."""
        options = self._options
        limit, resort = options.pin_limit.nbytes(max_memory), LAST_RESORT * max_memory
        refused: NoFreeableMemoryError | None = None
        for effort in efforts(used, limit, resort, options.protected_history, options.yielding):
            try:
                tracker.reclaim_memory(effort.protected, effort.past_pins)
            except NoFreeableMemoryError as error:
                refused = refused or error
                continue
            if effort.protected < options.protected_history:
                _logger.warning(
                    "Memory is nearly full: points of the protected history are forgotten"
                )
            return
        raise refused or NoFreeableMemoryError("There was nothing to try")

    def _nothing_to_free(
        self, tracker: MemoryTracker, info: ServerInfo, error: NoFreeableMemoryError
    ) -> float:
        options = self._options
        self._say_what_is_held(error, info)
        if error.pins:
            if info.used_memory >= LAST_RESORT * info.max_memory:
                self._alarm(info, "Unable to free memory ! %s", str(error))
            self._until_it_pays(tracker, info)
            return 0.0
        if options.yielding and info.used_memory < LAST_RESORT * info.max_memory:
            return NOT_YET_S
        if options.yielding:
            self._alarm(info, "Unable to free memory ! %s", str(error))
        else:
            self._alarm(
                info,
                "Unable to free memory ! Remaining data is too recent to be freed "
                "(protected_history: %s seconds)",
                f"{options.protected_history:g}",
            )
        return NOTHING_TO_FREE_S

    def _alarm(self, info: ServerInfo, text: str, *what: str) -> None:
        """Says it, and again in the next reports."""
        _logger.critical(text, *what)
        self._note(Alarm(info.time, text % what))

    def _note(self, alarm: Alarm) -> None:
        """The same one again, though of other numbers, takes the place of that before."""
        what = alarm.text.partition(": ")[0]
        others = [known for known in self._alarms if known.text.partition(": ")[0] != what]
        self._alarms = [*others, alarm][-MOST_ALARMS:]

    def _say_what_is_held(self, error: NoFreeableMemoryError, info: ServerInfo) -> None:
        """Says which pins are in the way, once."""
        holding = frozenset(pin.key for pin in error.pins)
        for pin in error.pins:
            if pin.key not in self._holding:
                _logger.warning(
                    "Pin %r of scan %s (%s) holds what is old enough to be forgotten: memory usage is %s, "
                    "it is kept up to %s",
                    pin.name,
                    pin.scan_key,
                    pin.holder,
                    human_size(info.used_memory),
                    self._options.pin_limit,
                )
        self._holding = holding

    def _until_it_pays(self, tracker: MemoryTracker, then: ServerInfo) -> None:
        """While pins hold what might go: makes room whenever one moves on, or memory grows up to their
        limit, until the next round is due."""
        began = monotonic()
        watch = Watch(self._threshold(then), HELD_ROUND_S)
        busy = 0.0
        while not self._stopping and monotonic() - began < HELD_ROUND_S:
            self._pause(max(NOT_YET_S, 4 * busy))  # many streams take long to look at
            looked = monotonic()
            now = self._store.backend.used_memory()
            if now < watch.threshold or (now - then.used_memory) * watch.parts >= watch.threshold:
                return
            beyond = now >= self._options.pin_limit.nbytes(then.max_memory)
            if tracker.pins_have_moved() or beyond:
                with suppress(NoFreeableMemoryError):
                    self._make_room(tracker, now, then.max_memory)
            busy = monotonic() - looked

    def _say_trimmed(self) -> None:
        part = f"{self._options.cleaning_time_slice:g}%"
        _logger.info("Trimmed off the oldest %s of stream history", part)

    def _wait(self, then: ServerInfo) -> None:
        """Until the next round is due, looking at memory meanwhile."""
        began = monotonic()
        period = self._options.monitoring_period
        if not then.max_memory:
            self._pause(period)
            return
        watch = Watch(self._threshold(then), period)
        used = then.used_memory
        while not self._stopping:
            elapsed = monotonic() - began
            if watch.due(elapsed, then.used_memory, used):
                return
            self._pause(watch.look_again(elapsed, then.used_memory, used))
            used = self._store.backend.used_memory()

    def _tell(self, tracker: MemoryTracker, info: ServerInfo) -> None:
        """Says on the server what there is to say. Trouble with that is no reason not to go on."""
        for text in tracker.take_alarms():
            self._note(Alarm(info.time, text))
        report = Report(
            time=info.time,
            who=self._who,
            options=self._options,
            scans=tracker.followed,
            oldest=tracker.oldest(info.time),
            forgot=tracker.forgot,
            next=tracker.coming(info.time, self._options.protected_history),
            foreign=tracker.foreign,
            alarms=tuple(self._alarms),
        )
        try:
            period = self._options.monitoring_period + PATIENCE_S
            self._store.backend.pins.tell(report.as_texts(), period)
        except ServerRefusedError as error:
            _logger.debug("%s", error)

    def _threshold(self, info: ServerInfo) -> int:
        return int(info.max_memory * self._options.cleaning_threshold / 100)
