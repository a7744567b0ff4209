"""The process that keeps one Valkey running for as long as it is wanted.

    start ── lock on the data is free ──► start Valkey ─┐
       └──── somebody holds it ──► adopt that Valkey ───┤
                                                        ▼
                            ┌──────────────────────► watching ◄── SIGUSR1: a person wants it to stay
                            │                           │
          Valkey ended, or its socket is gone:          ├── SIGTERM, SIGINT, SIGHUP ──► shut down
          start again, a few times ◄────────────────────┤
                                                        └── on demand, nobody there ──► shut down

Waiting is for events: signals, the end of Valkey. Only who is connected has to be asked for.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from blissdata.exceptions import LocalServerError, StoreError
from blissdata.redis_engine.local_server import valkey
from blissdata.redis_engine.local_server.options import ServerOptions
from blissdata.redis_engine.local_server.place import Place, Record, StartedBy, unlock
from blissdata.redis_engine.local_server.tracker import TrackerProcess
from blissdata.redis_engine.local_server.writer import WriterProcess

__all__ = ["Supervisor"]

_LOG = logging.getLogger(__name__)

PROBE_PATIENCE_S = 0.5
"""Others hold our locks for microseconds, to see whether they are free [s]."""

SUPERVISORS_PATIENCE_S = 5.0
"""The same for the lock of supervisors [s]. It is taken only after a look whether there is one, so whoever
holds it looks as well, and a busy machine may keep him from going on."""

ORPHANS_PATIENCE_S = 10.0
"""What a killed Valkey leaves behind was killed too; its lock is free when it is gone [s]."""

ANSWER_POLL_S = 0.01
"""While Valkey starts, it can only be asked whether it is ready [s]."""

SILENCE_LIMIT_S = 60.0
"""A Valkey that runs but says nothing at all for so long did not come up [s]. One that is loading
its data says so, and is waited for."""

CHECK_PERIOD_S = 5.0
"""How often we look at who is connected, and at the socket's file [s]; at a short idle time more
often."""

CHECKS_PER_IDLE = 4

RESTARTS_ALLOWED = 5
RESTART_WINDOW_S = 60.0
"""More than so many restarts within that time [s] are a fault that restarting does not mend."""

SHUTDOWN_PATIENCE_S = 60.0
"""How long Valkey may take to write and sync its data when it is asked to leave [s]."""


UNWANTED_IDLE_S = 1.0
"""How long a server stays whose starter was gone before it was ready, unless somebody comes [s]."""


class Supervisor:
    """One local server's life, in the main thread of a process (it handles signals)."""

    def __init__(
        self,
        place: Place,
        options: ServerOptions,
        started_by: StartedBy,
        ready: Callable[[], bool] = lambda: True,
        told: int | None = None,
    ) -> None:
        """`ready` is called once it answers; `told` is the file descriptor that is told what the file writer
        has to say."""
        self._place = place
        self._options = options
        self._started_by = started_by
        self._ready = ready
        self._signals = _Signals()
        self._restarts: list[float] = []
        self._tracker = TrackerProcess(place)
        self._writer = WriterProcess(place, told)

    @property
    def interrupted(self) -> bool:
        """True if it was Ctrl-C that told it to leave."""
        return self._signals.interrupted

    def run(self) -> None:
        """Serve until told to leave, or until nobody needs the server. Calls `ready` once it
        answers, which says whether somebody waited for that. Blocks. Raises `LocalServerError` if it does not come up, or not again."""
        place = self._place
        with self._signals:
            held = place.lock_for_supervisor(SUPERVISORS_PATIENCE_S)
            if held is None:
                raise LocalServerError(f"The local server in {place.directory} is running already")
            try:
                self._run()
            finally:
                unlock(held)

    def _run(self) -> None:
        place = self._place
        record = self._new_record()
        data_lock = place.lock(place.data_lock, PROBE_PATIENCE_S)
        serving = self._adopt() if data_lock is None else self._start(data_lock, record)
        if serving is None:  # told to leave before it was up
            return
        self._tracker.keep(serving.url, serving.record.pin_limit)
        self._writer.write(serving.url, serving.record.write)
        try:
            with self._announce(serving):
                serving.unwanted = not self._ready()
                self._watch(serving)
        except LocalServerError as error:
            with suppress(LocalServerError):  # the disk may be full: then only the log says it
                place.write_record(replace(serving.record, server_pid=None, error=str(error)))
            raise
        else:
            place.forget_record()
        finally:
            self._writer.stop()
            self._tracker.stop()
            serving.hang_up()
            self._shut_down(serving.process)

    # ------------------------------------------------------------------------------ coming up

    def _start(self, data_lock: int, record: Record) -> _Serving | None:
        """A new Valkey on our data; nobody else has one, since we hold the lock. None if we were
        told to leave before it was up."""
        place = self._place
        try:
            program = valkey.find_program()
            record = replace(record, socket=str(place.new_socket()), server_pid=None)
            Path(record.socket).unlink(missing_ok=True)  # whoever made it is gone
            place.write_privately(place.config, valkey.configuration(place, record))
            log_start = place.log.stat().st_size if place.log.exists() else 0
            place.write_record(record)  # before: whoever comes after a kill must find it
            process = valkey.start(place, program, data_lock)
        finally:
            os.close(data_lock)  # without unlocking: Valkey holds it now
        record = replace(record, server_pid=process.pid)
        serving = _Serving(
            record, process, place.url(record.socket, password=bool(record.port)), log_start
        )
        try:
            place.write_record(record)
            answers = self._wait_until_it_answers(serving)
        except BaseException:
            self._shut_down(process)
            raise
        if not answers:
            self._shut_down(process)
            place.forget_record()
            return None
        _LOG.info("Valkey (process %d) serves %s", process.pid, place.directory)
        return serving

    def _new_record(self) -> Record:
        try:
            fsync, maxmemory, port, bind, idle_s = self._options.resolved()
        except ValueError as error:
            raise LocalServerError(str(error)) from error
        return Record(
            host=socket.gethostname(),
            server_pid=None,
            socket="",
            started_by=self._started_by,
            fsync=fsync,
            maxmemory=maxmemory,
            port=port,
            bind=bind,
            idle_s=idle_s,
            beacon=self._options.beacon or "",
            beacon_files=self._options.beacon_files or "",
            pin_limit=self._options.pin_limit or "",
            write=self._options.write or "",
        )

    def _wait_until_it_answers(self, serving: _Serving) -> bool:
        """Whether it came up; False if we were told to leave meanwhile."""
        process = serving.process
        silent_since = time.monotonic()
        while not self._signals.leave:
            if process.ended():
                raise self._explain(serving, f"did not start: it {process.how_it_ended()}")
            try:
                with valkey.Connection(serving.url, "supervisor") as server:
                    if not server.loading():
                        return True
                    silent_since = time.monotonic()
            except StoreError as error:
                _LOG.debug("not yet: %s", error)
            if time.monotonic() - silent_since > SILENCE_LIMIT_S:
                raise self._explain(serving, f"did not answer for {SILENCE_LIMIT_S:.0f} s")
            self._signals.wait(ANSWER_POLL_S, process)
        return False

    def _announce(self, serving: _Serving) -> AbstractContextManager[object]:
        """Answers in Beacon's place while it is open, if that was asked for. Whoever comes that way
        cannot know that the server is ours to prepare, so it is prepared."""
        record = serving.record
        if not record.beacon:
            return nullcontext()
        from blissdata.beacon.responder import Responder
        from blissdata.redis_engine.backends.connect import open_backend

        try:
            open_backend(serving.url, prepare_if_empty=True).close()
            responder = Responder(lambda: serving.url, record.beacon, record.beacon_files or None)
        except (OSError, ValueError, StoreError) as error:
            raise LocalServerError(
                f"Nobody can be answered in Beacon's place at {record.beacon}: {error}"
            ) from error
        serving.record = replace(record, beacon=responder.address)
        self._place.write_record(serving.record)
        _LOG.info("answers in Beacon's place at %s", responder.address)
        return responder

    def _explain(self, serving: _Serving, what: str) -> LocalServerError:
        return valkey.explain(self._place, serving.record, serving.log_start, what)

    def _adopt(self) -> _Serving | None:
        """The Valkey that runs on our data although its supervisor is gone."""
        place = self._place
        old = place.record()
        if old is None or old.host != socket.gethostname():
            where = f"on host {old.host}" if old else "somewhere"
            raise LocalServerError(
                f"A server runs already with the data in {place.directory}, {where}, and cannot be "
                "reached from here. Stop it there, or use another directory"
            )
        url = place.url(old.socket, password=bool(old.port))
        deadline = time.monotonic() + SILENCE_LIMIT_S
        while not self._signals.leave:
            try:
                with valkey.Connection(url, "supervisor") as server:
                    pid = int(server.info()["process_id"])
                    directory = server.settings("dir")["dir"]
                    if not server.loading():
                        break
                    deadline = time.monotonic() + SILENCE_LIMIT_S
            except StoreError as error:
                if time.monotonic() > deadline:
                    raise LocalServerError(
                        f"A server (process {old.server_pid}) runs with the data in "
                        f"{place.directory}, but does not answer at {old.socket} ({error}). End that "
                        f"process, then try again; log: {place.log}"
                    ) from error
            self._signals.wait(ANSWER_POLL_S)
        else:
            return None
        if os.path.realpath(directory) != str(place.directory):
            raise LocalServerError(
                f"The server at {old.socket} keeps its data in {directory}, not in "
                f"{place.directory}: it is not ours. Remove {place.directory / 'server.json'} if it "
                "was copied from another place"
            )
        started_by: StartedBy = (
            "person" if "person" in (old.started_by, self._started_by) else "demand"
        )
        record = replace(old, server_pid=pid, started_by=started_by, error=None)
        place.write_record(record)
        _LOG.warning("adopted Valkey (process %d), whose supervisor had gone", pid)
        return _Serving(record, valkey.Process(pid), url, 0)

    # ------------------------------------------------------------------------------ watching

    def _watch(self, serving: _Serving) -> None:
        """Until it is time to leave."""
        while True:
            if self._signals.stay:
                self._signals.stay = False
                serving.record = replace(serving.record, started_by="person")
                _LOG.info("a person wants the server: it stays")
                try:
                    self._place.write_record(serving.record)
                except LocalServerError as error:  # no reason to end a server that serves
                    _LOG.error("%s", error)
            if self._signals.leave:
                _LOG.info("told to leave")
                return
            if serving.process.ended():
                _LOG.error("Valkey %s", serving.process.how_it_ended())
            elif not Path(serving.record.socket).exists():
                _LOG.error("the socket %s is gone", serving.record.socket)
                if serving.record.started_by == "demand" and serving.somebody_there() is False:
                    return  # who needs it next starts it where a socket can be made
                self._shut_down(serving.process)
            else:
                if serving.nobody_for_a_while() and self._leave_unless_somebody_comes(serving):
                    return
                look_again = min(serving.check_period, self._tracker.look(), self._writer.look())
                self._signals.wait(look_again, serving.process)
                continue
            if not self._restart(serving):
                return

    def _leave_unless_somebody_comes(self, serving: _Serving) -> bool:
        """Whether we left. While the gate is ours nobody can find the server and hope to use it;
        whoever did just before has left a trace in its count of connections."""
        gate = self._place.try_lock(self._place.gate)
        if gate is None:
            return False
        try:
            if not serving.nobody_for_a_while():
                return False
            _LOG.info("nobody has been connected for %g s: leaving", serving.idle_limit)
            self._writer.stop()
            self._tracker.stop()
            serving.hang_up()
            self._shut_down(serving.process)
            self._place.forget_record()
            return True
        finally:
            unlock(gate)

    def _restart(self, serving: _Serving) -> bool:
        """Valkey again, with its data; False if we were told to leave meanwhile."""
        self._writer.stop()
        self._tracker.stop()
        serving.hang_up()
        serving.process.close()
        now = time.monotonic()
        self._restarts = [then for then in self._restarts if now - then < RESTART_WINDOW_S] + [now]
        if len(self._restarts) > RESTARTS_ALLOWED:
            what = f"ended {len(self._restarts)} times within {RESTART_WINDOW_S:.0f} s"
            raise self._explain(serving, what)
        data_lock = self._place.lock(self._place.data_lock, ORPHANS_PATIENCE_S)
        if data_lock is None:
            raise LocalServerError(
                f"Valkey ended, but something still holds {self._place.data_lock}: not started again"
            )
        again = self._start(data_lock, serving.record)
        if again is None:
            return False
        serving.record, serving.process = again.record, again.process
        serving.url, serving.log_start = again.url, again.log_start
        self._tracker.keep(serving.url, serving.record.pin_limit)
        self._writer.write(serving.url, serving.record.write)
        return True

    def _shut_down(self, process: valkey.Process) -> None:
        """Valkey ends with everything on disk; killed only if it does not, which loses nothing
        that `fsync always` had acknowledged."""
        process.ask_to_leave()
        if not _wait_for_the_end(process, SHUTDOWN_PATIENCE_S):
            _LOG.error("Valkey did not leave within %.0f s: killing it", SHUTDOWN_PATIENCE_S)
            process.kill()
            _wait_for_the_end(process, SHUTDOWN_PATIENCE_S)
        process.close()


def _wait_for_the_end(process: valkey.Process, patience: float) -> bool:
    """Whether the process ended in that time [s]."""
    deadline = time.monotonic() + patience
    while not process.ended():
        if time.monotonic() > deadline:
            return False
        select.select(process.descriptors(), [], [], ANSWER_POLL_S)
    return True


@dataclass(slots=True)
class _Serving:
    """A Valkey that is up, and since when nobody was there."""

    record: Record
    process: valkey.Process
    url: str
    log_start: int
    """Where the log of this Valkey begins [bytes]."""
    connection: valkey.Connection | None = None
    connections: int = -1
    """How many Valkey had ever accepted when we last looked."""
    alone_since: float = 0.0
    unwanted: bool = False
    """True until somebody comes, if whoever started it on demand was gone when it was ready."""

    @property
    def idle_limit(self) -> float:
        """How long nobody must have been there before it leaves [s]."""
        return min(UNWANTED_IDLE_S, self.record.idle_s) if self.unwanted else self.record.idle_s

    @property
    def check_period(self) -> float:
        """[s]"""
        if self.record.started_by == "person":
            return CHECK_PERIOD_S
        return min(CHECK_PERIOD_S, self.idle_limit / CHECKS_PER_IDLE)

    def nobody_for_a_while(self) -> bool:
        """Whether nobody was connected, nor came and went, during the idle time. One round trip."""
        if self.record.started_by == "person":
            return False
        first_look = self.connections < 0
        if self.somebody_there() is not False:
            self.alone_since = time.monotonic()
            self.unwanted = self.unwanted and first_look
            return False
        return time.monotonic() - self.alone_since >= self.idle_limit

    def somebody_there(self) -> bool | None:
        """Whether anybody but us is connected, or came since the last look; None: Valkey is busy."""
        try:
            if self.connection is None:
                self.connection = valkey.Connection(self.url, "supervisor")
            found = self.connection.info()
            clients = self.connection.clients()
        except StoreError as error:
            _LOG.debug("cannot see who is connected: %s", error)
            self.hang_up()
            return None
        before, self.connections = self.connections, int(found["total_connections_received"])
        return clients > 0 or self.connections != before

    def hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection, self.connections = None, -1


class _Signals:
    """What we were told by signals, and a way to wait that they interrupt."""

    def __init__(self) -> None:
        self.leave = False
        self.stay = False
        self.interrupted = False
        self._before: dict[int, Any] = {}
        self._before_fd = -1
        self._pipe = (-1, -1)

    def __enter__(self) -> None:
        self._pipe = os.pipe()
        for descriptor in self._pipe:
            os.set_blocking(descriptor, False)
        handlers: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGTERM: self._told_to_leave,
            signal.SIGINT: self._told_to_leave,
            signal.SIGHUP: self._told_to_leave,
            signal.SIGUSR1: self._told_to_stay,
            signal.SIGCHLD: lambda *_: None,  # only to wake us
        }
        for number in (signal.SIGINT, signal.SIGHUP):  # `nohup`, or `&` in a script
            if signal.getsignal(number) is signal.SIG_IGN:
                del handlers[number]
        self._before = {
            number: signal.signal(number, handler) for number, handler in handlers.items()
        }
        self._before_fd = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._before_fd)
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for descriptor in self._pipe:
            os.close(descriptor)

    def wait(self, seconds: float, process: valkey.Process | None = None) -> None:
        """Until a signal comes, the process ends, or the time is up."""
        watched = [self._pipe[0], *(process.descriptors() if process else [])]
        select.select(watched, [], [], seconds)
        with suppress(BlockingIOError):
            while os.read(self._pipe[0], 4096):
                pass

    def _told_to_leave(self, number: int, _: FrameType | None) -> None:
        self.leave = True
        self.interrupted = self.interrupted or number == signal.SIGINT

    def _told_to_stay(self, *_: object) -> None:
        self.stay = True
