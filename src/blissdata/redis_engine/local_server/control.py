"""Find, start, look at, stop: what everybody but the supervisor does with a local server."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blissdata.exceptions import LocalServerError, ServerBusyError, StoreConnectionError, StoreError
from blissdata.redis_engine.local_server import valkey
from blissdata.redis_engine.local_server.options import ServerOptions
from blissdata.redis_engine.local_server.place import Place, StartedBy, unlock
from blissdata.redis_engine.local_server.supervisor import Supervisor

__all__ = ["ServerStatus", "address", "ensure_running", "serve", "status", "stop", "url_status"]

POLL_S = 0.02
"""How often we look at what another process is doing, where nothing can wake us [s]."""

GOING_S = 2.0
"""How long a server that nobody knows the address of is given to end by itself [s]."""

TELL_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """What one look at a server showed. Holds no password."""

    running: bool
    """Whether it answers."""
    problem: str | None = None
    """Why it does not, where that is known."""
    url: str | None = None
    """Its address, without the password."""
    socket: Path | None = None
    data_directory: Path | None = None
    log: Path | None = None
    password_file: Path | None = None
    """Where the password is, if it needs one."""
    pid: int | None = None
    supervisor_pid: int | None = None
    """None while nobody supervises it: the next who needs it mends that."""
    started_by: StartedBy | None = None
    """A `person`'s server stays; one started on `demand` leaves when nobody needs it."""
    idle_s: float | None = None
    """After how long without anybody one started on demand leaves [s]."""
    clients: int | None = None
    """Connections, without the supervisor's and the one that asked."""
    used_memory: int | None = None
    """[bytes]"""
    maxmemory: int | None = None
    """[bytes]; 0: no limit."""
    policy: str | None = None
    """What it does at its memory limit, `noeviction` or what it evicts."""
    append_only: bool | None = None
    """Whether it writes what it gets into a file."""
    fsync: str | None = None
    """When data reach the disk: always, everysec or no."""
    port: int | None = None
    """The port for TCP; 0: none."""
    bind: str | None = None
    beacon: str | None = None
    """Where it answers in Beacon's place, as `$BEACON_HOST` takes it."""
    write: str | None = None
    """Below which directories its scans are written into files, separated as in `PATH`."""
    uptime_s: int | None = None
    """Since Valkey was (re)started [s]."""
    version: str | None = None
    """Such as `valkey 9.1.2`."""
    kind: str | None = None
    """How it stores scans: `plain` or `stack`; None if it is not prepared, or cannot be used."""
    why: str | None = None
    """Why it is this kind, or none."""
    protocol: int | str | None = None
    """Version of the database; None if it is not prepared."""

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON values, paths as texts."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}


def ensure_running(
    directory: Path | str | None = None,
    *,
    timeout: float = 20.0,
    options: ServerOptions | None = None,
) -> str:
    """The URL of the user's local server, or of the private one in `directory`; started if need be.

    Any number of processes may ask at the same instant: there will be one server. One that lost its
    supervisor gets a new one and goes on serving. Usually two round trips; blocks up to `timeout`
    [s] while a server starts. A server started here leaves by itself when nobody has been
    connected for a while, and has its data again at the next start. `options` count only when it
    is started; what they leave open is as the last `serve` had it (`options.LASTING`).

    The URL may contain a password: show it only through `client.redacted`. Raises
    `LocalServerError` if the server does not come up.
    """
    deadline = time.monotonic() + timeout
    place = Place.of(directory)
    if place.exists():
        with place.gate_passed(deadline, shared=True):
            if url := _url_if_serving(place):
                return url
    place.create()
    with place.gate_passed(deadline):
        if url := _url_when_serving(place, deadline):
            return url
        return _start(place, _as_last_served(place, options), "demand", deadline)


def serve(
    directory: Path | str | None = None,
    *,
    background: bool = False,
    options: ServerOptions | None = None,
    timeout: float = 20.0,
    ready: Callable[[ServerStatus], None] | None = None,
    told: int | None = None,
) -> ServerStatus:
    """Run the server because a person wants it: it stays until it is stopped.

    If it is running already, it is told to stay, and that is all (`LocalServerError` if it runs
    otherwise than `options` demand). What `options` say of how data are kept holds from then on also when
    a program starts it. Otherwise, in the background: returns once it serves, after at
    most `timeout` [s]. In the foreground: calls `ready` when it serves, and blocks until SIGTERM,
    SIGINT, SIGHUP or `stop`; only in the main thread, and signals are handled meanwhile. What its file
    writer has to say goes to the file descriptor `told` too, as long as somebody reads there.

    Returns what the server looked like when it was ready. After SIGINT it raises `KeyboardInterrupt` instead,
    once the server has stopped.
    """
    options = options or ServerOptions()
    deadline = time.monotonic() + timeout
    place = Place.of(directory)
    place.create()
    with ExitStack() as gate:
        gate.enter_context(place.gate_passed(deadline))
        if _url_when_serving(place, deadline):
            _refuse_other_options(place, options)
            _make_it_stay(place, deadline)
            place.write_lasting_options({**place.lasting_options(), **options.lasting()})
        elif background:
            _start(place, options, "person", deadline)
            place.write_lasting_options(options.lasting())
        else:
            return _serve_here(place, options, gate, ready, told)
        return status(place.directory)


def _serve_here(
    place: Place,
    options: ServerOptions,
    gate: ExitStack,
    ready: Callable[[ServerStatus], None] | None,
    told: int | None,
) -> ServerStatus:
    """Be the supervisor; the gate opens when the server is ready."""
    seen: list[ServerStatus] = []

    def is_ready() -> bool:
        place.write_lasting_options(options.lasting())
        gate.close()
        seen.append(status(place.directory))
        if ready is not None:
            ready(seen[-1])
        return True

    place.trim_log()
    supervisor = Supervisor(place, options, "person", is_ready, told)
    supervisor.run()
    if supervisor.interrupted:
        raise KeyboardInterrupt
    return seen[0] if seen else status(place.directory)


def stop(directory: Path | str | None = None, *, timeout: float = 20.0) -> bool:
    """Stop the local server with everything on disk; whether one was running.

    Blocks until it is gone, at most `timeout` [s]; repeating it is harmless. Raises
    `LocalServerError` if it is still there then.
    """
    deadline = time.monotonic() + timeout
    place = Place.of(directory)
    if not place.exists():
        return False
    with place.gate_passed(deadline):
        found = False
        if place.is_locked(place.supervisor_lock):
            found = True
            _end_supervisor(place, deadline)
        if place.is_locked(place.data_lock):  # its supervisor was killed
            found = True
            if place.record() is None and _is_about_to_go(place):
                return found
            _shut_down_orphan(place)
            _wait_until_free(place, place.data_lock, deadline)
            place.forget_record()
        return found


def status(directory: Path | str | None = None) -> ServerStatus:
    """What the user's local server, or the private one in `directory`, is doing.

    Starts nothing. A few round trips; raises nothing because of a server that does not answer.
    """
    place = Place.of(directory)
    here: dict[str, Any] = {"data_directory": place.directory, "log": place.log}
    if not place.exists() or (record := place.record()) is None:
        return ServerStatus(running=False, **here)
    if record.error:
        return ServerStatus(running=False, problem=record.error, **here)
    supervisor = place.supervisor()
    try:
        seen = _look_at(place.url(record.socket, password=bool(record.port)))
    except StoreError as error:
        return ServerStatus(running=False, problem=str(error) if supervisor else None, **here)
    return ServerStatus(
        running=True,
        socket=Path(record.socket),
        password_file=place.password_file if record.port else None,
        supervisor_pid=supervisor[0] if supervisor else None,
        started_by=record.started_by,
        idle_s=record.idle_s,
        bind=record.bind if record.port else None,
        beacon=record.beacon or None,
        write=record.write or None,
        **here,
        **seen,
    )


def address(directory: Path | str | None = None) -> str | None:
    """The URL of the user's local server, or of the private one in `directory`, if there is one; with
    its password, to be shown only through `client.redacted`. Asks nobody, starts nothing."""
    place = Place.of(directory)
    record = place.record() if place.exists() else None
    return None if record is None else place.url(record.socket, password=bool(record.port))


def url_status(url: str) -> ServerStatus:
    """What the server at a URL is doing. A few round trips; raises `StoreError` for a URL that is
    none, or if the server refuses to say."""
    from blissdata.redis_engine.backends.client import redacted

    try:
        return ServerStatus(running=True, **_look_at(url))
    except StoreConnectionError as error:
        if "authenticat" in str(error).lower() or "password" in str(error).lower():
            raise StoreError(
                f"The server at {redacted(url)} wants a password, or another one. Give it in the URL, "
                "as in redis://:password@host:port"
            ) from error
        return ServerStatus(running=False, url=redacted(url), problem=str(error))
    except ServerBusyError as error:
        return ServerStatus(running=False, url=redacted(url), problem=str(error))


# ---------------------------------------------------------------------------------- looking


def _look_at(url: str) -> dict[str, Any]:
    """What a server says about itself, in our words."""
    with valkey.Connection(url, "status") as server:
        info = server.info()
        if int(info.get("loading", 0)):
            done = info.get("loading_loaded_perc", "?")
            raise ServerBusyError(f"the server is loading its data ({done} % done)")
        settings = server.settings("maxmemory", "appendfsync", "port")
        clients = server.clients()
        layout = server.layout()
    name = info.get("server_name", "redis")
    return {
        "url": _without_password(url),
        "pid": int(info["process_id"]),
        "clients": clients,
        "used_memory": int(info["used_memory"]),
        "maxmemory": int(settings["maxmemory"]),
        "policy": info.get("maxmemory_policy"),
        "append_only": bool(int(info.get("aof_enabled", 0))),
        "fsync": settings["appendfsync"],
        "port": int(settings["port"]),
        "uptime_s": int(info["uptime_in_seconds"]),
        "version": f"{name} {info.get(f'{name}_version', '?')}",
        "kind": layout.kind,
        "why": layout.why,
        "protocol": layout.protocol,
    }


def _without_password(url: str) -> str:
    """For people to copy: nothing stands where the password stood."""
    from blissdata.redis_engine.backends.client import redacted

    return redacted(url).replace("://:***@", "://")


def _url_if_serving(place: Place) -> str | None:
    """The URL if a supervised server answers here. Raises `LocalServerError` if the place is in
    use on another host."""
    supervisor = place.supervisor()
    record = place.record()
    if supervisor is None or record is None:
        return None
    pid, host = supervisor
    if host != socket.gethostname():
        raise LocalServerError(
            f"The server with the data in {place.directory} runs on host {host} (process {pid}), "
            "and this is another host. Use it there, or give another directory here"
        )
    url = place.url(record.socket, password=bool(record.port))
    try:
        with valkey.Connection(url, "finder") as server:
            return None if server.loading() else url
    except StoreConnectionError:
        return None


def _url_when_serving(place: Place, deadline: float) -> str | None:
    """The same, once a server that is on its way up (or down) has arrived; None: there is none."""
    while place.is_locked(place.supervisor_lock):
        if url := _url_if_serving(place):
            return url
        if time.monotonic() > deadline:
            raise _late(place)
        time.sleep(POLL_S)
    return None


def _late(place: Place) -> LocalServerError:
    problem = status(place.directory).problem
    return LocalServerError(
        f"The local server in {place.directory} is not ready in the time allowed"
        f"{f' ({problem})' if problem else ''}. It goes on starting (much data takes long to load): "
        f"try again in a moment, or see {place.log}"
    )


# ---------------------------------------------------------------------------------- starting


def _as_last_served(place: Place, options: ServerOptions | None) -> ServerOptions:
    """The options for a server that a program needs: its own, else what the last `serve` chose."""
    options = options or ServerOptions()
    kept = place.lasting_options()
    try:
        return options.over(kept)
    except ValueError as error:  # such as a directory that is gone
        raise LocalServerError(
            f"The local server in {place.directory} cannot run as the last `blissdata serve` had it: "
            f"{error}. Say again how it is to run: `blissdata serve --background`, with what you want"
        ) from error


def _start(place: Place, options: ServerOptions, started_by: StartedBy, deadline: float) -> str:
    """Start a supervisor that outlives us, and wait for its server. We hold the gate."""
    if not sys.executable:
        raise LocalServerError(
            "This program does not know where its Python is, and cannot start a server: run "
            "`blissdata serve`, or give a URL in $BLISSDATA_URL"
        )
    place.trim_log()
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as reports:
        try:
            arguments = ["--started-by", started_by, *options.arguments()]
            launcher = _launch(place, arguments, writing)
        finally:
            os.close(writing)
        try:
            _wait_for_report(place, reading, deadline)
        finally:
            reports.close()  # a supervisor that finds it closed before it began leaves at once
            launcher.wait()  # ends as soon as the supervisor, its child, is there
    if url := _url_if_serving(place):
        return url
    raise LocalServerError(
        f"The local server in {place.directory} came up and left; see {place.log}"
    )


def _launch(place: Place, arguments: list[str], report_to: int) -> subprocess.Popen[bytes]:
    """A process that leaves a supervisor behind, with nothing of ours but that descriptor."""
    command = [sys.executable, "-P", "-m", "blissdata.redis_engine.local_server"]
    command += ["--directory", str(place.directory), "--report-fd", str(report_to)]
    try:
        with place.open_log() as log:
            return subprocess.Popen(  # noqa: S603 — our own module, run by our own Python
                command + arguments,
                cwd=place.directory,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[report_to],
                start_new_session=True,
            )
    except OSError as error:
        raise LocalServerError(f"{sys.executable} cannot be run: {error.strerror}") from error


def _wait_for_report(place: Place, reading: int, deadline: float) -> None:
    """Until the supervisor says that it serves. It says its pid first, then how it went."""
    said = b""
    pid = None
    try:
        while True:
            readable = select.select([reading], [], [], max(deadline - time.monotonic(), 0))[0]
            if not readable:
                raise _late(place)
            piece = os.read(reading, 65536)
            said += piece
            *lines, said = said.split(b"\n")
            for line in lines:
                report = json.loads(line)
                pid = report.get("pid", pid)
                if report.get("ready"):
                    return
                if error := report.get("error"):
                    raise LocalServerError(error)
            if not piece:
                raise LocalServerError(
                    f"The supervisor of the local server in {place.directory} ended without a word. "
                    f"Log: {place.log}, which ends with:\n{valkey.log_tail(place)}"
                )
    except KeyboardInterrupt:  # nothing stays behind that nobody waited for
        if pid is None and select.select([reading], [], [], 0)[0]:
            pid = json.loads(os.read(reading, 4096).split(b"\n")[0] or b"{}").get("pid")
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        raise


def _environment() -> dict[str, str]:
    """Ours, with the package where the new process finds it, however it came to be found here."""
    root = str(Path(__file__).resolve().parents[3])
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    paths = known if root in known else [*known, root]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


# ---------------------------------------------------------------------------------- changing, stopping


def _refuse_other_options(place: Place, options: ServerOptions) -> None:
    record = place.record()
    for name in (
        "fsync",
        "maxmemory",
        "port",
        "bind",
        "beacon",
        "beacon_files",
        "pin_limit",
        "write",
    ):
        asked, found = getattr(options, name), getattr(record, name, None)
        if asked is not None and asked != found:
            option = f"--{name.replace('_', '-')}"
            now = f"with {option} {found}" if found else f"without {option}"
            raise LocalServerError(
                f"The local server in {place.directory} runs already, {now}, and what was asked for is {option} "
                f"{asked}: stop it (`blissdata stop`), then start it as you want it"
            )


def _make_it_stay(place: Place, deadline: float) -> None:
    while (record := place.record()) is None or record.started_by != "person":
        _tell_supervisor(place, signal.SIGUSR1)
        if time.monotonic() > deadline:
            raise LocalServerError(
                f"The local server in {place.directory} does not take note that it is to stay; "
                f"see {place.log}"
            )
        time.sleep(POLL_S)


def _tell_supervisor(place: Place, number: signal.Signals) -> None:
    supervisor = place.supervisor()
    if supervisor is None:
        return
    pid, host = supervisor
    if host != socket.gethostname():
        raise LocalServerError(
            f"The server with the data in {place.directory} runs on host {host} (process {pid}): "
            "do this there"
        )
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _end_supervisor(place: Place, deadline: float) -> None:
    while True:
        _tell_supervisor(place, signal.SIGTERM)  # again, for one that had not said its pid yet
        patience = min(deadline - time.monotonic(), TELL_AGAIN_S)
        if patience <= 0:
            raise _still_there(place)
        if (held := place.lock(place.supervisor_lock, patience, shared=True)) is not None:
            return unlock(held)


def _is_about_to_go(place: Place) -> bool:
    """True if the data are free after a moment: a server that ends holds its lock until it is gone."""
    held = place.lock(place.data_lock, GOING_S, shared=True)
    if held is not None:
        unlock(held)
    return held is not None


def _shut_down_orphan(place: Place) -> None:
    """End the Valkey that runs on our data without a supervisor."""
    record = place.record()
    try:
        if record is None:
            raise LocalServerError(f"{place.directory / 'server.json'} does not say where")
        with valkey.Connection(
            place.url(record.socket, password=bool(record.port)), "stop"
        ) as server:
            found = server.settings("dir")["dir"]
            if os.path.realpath(found) != str(place.directory):
                raise LocalServerError(f"the server at {record.socket} has its data in {found}")
            server.shut_down()
    except StoreError as error:
        pid = f" (process {record.server_pid})" if record else ""
        raise LocalServerError(
            f"A server{pid} runs with the data in {place.directory}, but cannot be reached: {error}. "
            "End that process by hand"
        ) from error


def _wait_until_free(place: Place, lock: Path, deadline: float) -> None:
    held = place.lock(lock, deadline - time.monotonic(), shared=True)
    if held is None:
        raise _still_there(place)
    unlock(held)


def _still_there(place: Place) -> LocalServerError:
    return LocalServerError(
        f"The local server in {place.directory} was told to stop and is still there; "
        f"see {place.log}"
    )
