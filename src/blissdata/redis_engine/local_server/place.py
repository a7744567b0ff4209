"""Where a local server keeps its things, who holds its locks, what runs there now.

    <home>/server/<host>-<uid>/     the data directory (0700), or the directory that was asked for
        appendonlydir/              Valkey's data
        valkey.conf                 written at each start (0600)
        server.log                  what the supervisor and Valkey said
        server.json                 what runs now: pid, socket, options; no secret
        options.json                what the last `serve` chose of what is to last
        password                    once TCP was asked for (0600)
        gate.lock                   held for moments by whoever looks for, starts or stops the server
        supervisor.lock             held by the supervisor for its life; holds its pid and host
        data.lock                   inherited by Valkey and held for *its* life, so that two never
                                    write the same data, whatever became of their supervisors
    $XDG_RUNTIME_DIR/blissdata/<hash of the data directory>.sock
                                    or below /tmp/blissdata-<uid>: the path of a unix socket ends at
                                    108 bytes, and homes are longer than that

Homes are shared over NFS: the directory is per host, because two hosts must never append to one
file. Processes of one user may disagree about $XDG_RUNTIME_DIR (cron, `su`), therefore a running
server is found by what `server.json` says, and the rule above only counts when one is started.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal, get_args
from urllib.parse import quote

from blissdata.exceptions import LocalServerError

__all__ = ["Place", "Record", "StartedBy", "socket_directory"]

SOCKET_PATH_LIMIT = 103
"""The longest socket path [bytes] that every system takes (108 on Linux and 104 on macOS, with the
closing zero)."""

LOCK_POLL_S = 0.01
"""flock cannot wait with a deadline, so we ask this often [s]; locks are held for milliseconds,
or for the time that a server needs to start."""

SHORT_ROOT = Path("/tmp")  # noqa: S108 — the name must be the same in every process, and short; what is found there is checked
"""Where the socket goes when there is no usable $XDG_RUNTIME_DIR."""

LOG_LIMIT = 8 << 20
"""A log above this size [bytes] is put aside as `server.log.1` at the next start."""

StartedBy = Literal["person", "demand"]


@dataclass(frozen=True, slots=True)
class Record:
    """`server.json`: what runs in a place, written by its supervisor."""

    host: str
    """Where it runs; pids mean something only there."""
    server_pid: int | None
    """None until Valkey was started."""
    socket: str
    started_by: StartedBy
    """A person's server stays; one started on demand leaves when nobody needs it."""
    fsync: str
    maxmemory: int
    """[bytes]"""
    port: int
    """0: no TCP."""
    bind: str
    idle_s: float
    """How long nobody must have been connected before a server started on demand leaves [s]."""
    error: str | None = None
    """Why the supervisor gave up, if it did; then nothing runs."""
    beacon: str = ""
    """Where it answers in Beacon's place; empty: nowhere."""
    beacon_files: str = ""
    """The directory whose files it gives there; empty: none."""
    pin_limit: str = ""
    """Up to which use of memory its tracker keeps pins; empty: the default."""
    write: str = ""
    """Below which directories its scans are written into files, separated as in `PATH`; empty: they
    are not."""


@dataclass(frozen=True, slots=True)
class Place:
    """The data directory of one local server."""

    directory: Path
    """Absolute and without symbolic links."""
    private: bool
    """Whether the user named it (then it is left as it is), or it is our own below the home."""

    @classmethod
    def of(cls, directory: Path | str | None = None) -> Place:
        """The user's own place on this host, or that directory. Nothing is created."""
        name = re.sub(r"[^\w.-]", "_", socket.gethostname()) or "localhost"
        own = Path(os.path.realpath(_home() / "server" / f"{name}-{os.getuid()}"))
        if directory is None:
            return cls(own, False)
        asked = Path(os.path.realpath(Path(directory).expanduser()))
        return cls(asked, asked != own)

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def config(self) -> Path:
        return self.directory / "valkey.conf"

    @property
    def password_file(self) -> Path:
        return self.directory / "password"

    @property
    def gate(self) -> Path:
        return self.directory / "gate.lock"

    @property
    def supervisor_lock(self) -> Path:
        return self.directory / "supervisor.lock"

    @property
    def data_lock(self) -> Path:
        return self.directory / "data.lock"

    def exists(self) -> bool:
        """Whether a server was ever started here."""
        return os.path.exists(self.gate)  # False also where we may not look

    def create(self) -> None:
        """Make the directory, for this user alone. Raises `LocalServerError` if it cannot be used."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.private:
                self.directory.chmod(0o700)
        except OSError as error:
            raise self.unusable(error) from error

    def unusable(self, error: OSError) -> LocalServerError:
        """The error for a directory that refuses to be written, with what to do about it."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            found = "the disk (or your quota) is full"
        elif error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
            found = "its file system gives no locks"
        else:
            found = error.strerror or str(error)
        setting = "another directory" if self.private else "$BLISSDATA_HOME to another directory"
        return LocalServerError(
            f"The local server keeps its data in {self.directory}, and cannot write there: {found}. "
            f"Mend that, or set {setting} (best on a local disk), or give the URL of a server in "
            "$BLISSDATA_URL"
        )

    # ------------------------------------------------------------------------------ the record

    def record(self) -> Record | None:
        """What the last supervisor wrote; None if there is nothing that can be understood."""
        try:
            return _as_record(json.loads((self.directory / "server.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def write_record(self, record: Record) -> None:
        """Replace the record in one step."""
        self.write_privately(self.directory / "server.json", json.dumps(asdict(record), indent=1))

    def forget_record(self) -> None:
        (self.directory / "server.json").unlink(missing_ok=True)

    def lasting_options(self) -> dict[str, Any]:
        """What the last `serve` here chose, as `ServerOptions.lasting` gave it; empty if nothing, or if
        that cannot be understood."""
        try:
            found = json.loads((self.directory / "options.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_lasting_options(self, options: Mapping[str, Any]) -> None:
        """Replace them in one step."""
        self.write_privately(self.directory / "options.json", json.dumps(dict(options), indent=1))

    def write_privately(self, path: Path, text: str) -> None:
        """Replace a file in one step, readable by this user alone."""
        temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
        try:
            with suppress(FileNotFoundError):
                temporary.unlink()
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            temporary.replace(path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise self.unusable(error) from error

    def open_log(self) -> IO[bytes]:
        """The log, to be written to at its end. Raises `LocalServerError`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            return open(os.open(self.log, flags, 0o600), "ab")
        except OSError as error:
            raise self.unusable(error) from error

    def trim_log(self) -> None:
        """Put a long log aside; only while nobody writes to it."""
        with suppress(OSError):
            if self.log.stat().st_size > LOG_LIMIT:
                self.log.replace(self.log.with_name("server.log.1"))

    # ------------------------------------------------------------------------------ address

    def url(self, socket_path: str, *, password: bool) -> str:
        """The URL of a server here; with its password, therefore never to be logged as it is."""
        secret = f":{quote(self.password(), safe='')}@" if password else ""
        return f"unix://{secret}{quote(socket_path)}"

    def password(self) -> str:
        """The server's password, made at the first call."""
        try:
            found = self.password_file.read_text().strip()
        except FileNotFoundError:
            found = ""
        except OSError as error:
            raise LocalServerError(
                f"The password of the local server in {self.password_file} cannot be read: "
                f"{error.strerror}"
            ) from error
        if not found:
            found = secrets.token_urlsafe(24)
            self.write_privately(self.password_file, found + "\n")
        return found

    def new_socket(self) -> Path:
        """Where a server that starts now puts its socket. Its directory is made, and checked."""
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        return socket_directory() / f"{digest}.sock"

    # ------------------------------------------------------------------------------ locks

    def try_lock(self, path: Path, *, shared: bool = False) -> int | None:
        """A descriptor that holds the lock, or None if somebody else does. To be `unlock`ed."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self.unusable(error) from error
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise self.unusable(error) from error
        return descriptor

    def lock(self, path: Path, patience: float, *, shared: bool = False) -> int | None:
        """As `try_lock`, after waiting up to `patience` [s]."""
        deadline = time.monotonic() + patience
        while (descriptor := self.try_lock(path, shared=shared)) is None:
            if time.monotonic() >= deadline:
                return None
            time.sleep(LOCK_POLL_S)
        return descriptor

    def is_locked(self, path: Path) -> bool:
        """Whether somebody holds that lock."""
        descriptor = self.try_lock(path, shared=True)
        if descriptor is None:
            return True
        unlock(descriptor)
        return False

    def lock_for_supervisor(self, patience: float) -> int | None:
        """As `lock` on `supervisor_lock`, and say there who holds it."""
        descriptor = self.lock(self.supervisor_lock, patience)
        if descriptor is not None:
            try:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
            except OSError as error:
                unlock(descriptor)
                raise self.unusable(error) from error
        return descriptor

    def supervisor(self) -> tuple[int, str] | None:
        """(pid, host) of the supervisor; None if there is none, or it says so in a moment."""
        if not self.is_locked(self.supervisor_lock):
            return None
        try:
            pid, host = self.supervisor_lock.read_text().split()
            return (int(pid), host) if int(pid) > 1 else None
        except (OSError, ValueError):
            return None

    @contextmanager
    def gate_passed(self, deadline: float, *, shared: bool = False) -> Iterator[None]:
        """Nobody else starts or stops the server meanwhile. `deadline` is of `time.monotonic`."""
        descriptor = self.lock(self.gate, deadline - time.monotonic(), shared=shared)
        if descriptor is None:
            raise LocalServerError(
                f"Another process has been starting or stopping the local server in "
                f"{self.directory} for longer than we were told to wait; see {self.log}"
            )
        try:
            yield
        finally:
            unlock(descriptor)


def unlock(descriptor: int) -> None:
    """Let go of a lock, also for a child that was forked meanwhile and inherited the descriptor."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def socket_directory() -> Path:
    """A short directory that belongs to this user alone; made if missing.

    A $XDG_RUNTIME_DIR that is not ours (as `su` leaves it behind) or too long is passed over. What
    stands at the other place is never trusted: anybody may write below /tmp. Raises
    `LocalServerError` if it is not a directory of ours with mode 0700.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        directory = Path(runtime) / "blissdata"
        short = len(os.fsencode(directory)) + len("/0123456789abcdef.sock") <= SOCKET_PATH_LIMIT
        if short and _is_ours(Path(runtime)):
            return _own_directory(directory)
    return _own_directory(SHORT_ROOT / f"blissdata-{os.getuid()}")


def _own_directory(path: Path) -> Path:
    with suppress(FileExistsError):
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            raise
        except OSError as error:
            raise LocalServerError(
                f"The local server needs the directory {path} for its socket, which cannot be made: "
                f"{error.strerror}. Set $XDG_RUNTIME_DIR to a directory of your own"
            ) from error
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        wrong = "it is a symbolic link"
    elif not stat.S_ISDIR(found.st_mode):
        wrong = "it is not a directory"
    elif found.st_uid != os.getuid():
        wrong = f"it belongs to user {found.st_uid}, not to you ({os.getuid()})"
    elif found.st_mode & 0o077:
        wrong = f"others may enter it (mode {stat.S_IMODE(found.st_mode):04o}, expected 0700)"
    else:
        return path
    raise LocalServerError(
        f"The local server will not put its socket into {path}: {wrong}. Somebody else may have made "
        "it; have it removed, or set $XDG_RUNTIME_DIR to a directory of your own with mode 0700"
    )


def _is_ours(path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _home() -> Path:
    if given := os.environ.get("BLISSDATA_HOME"):
        return Path(given).expanduser()
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if os.path.isabs(state) else Path.home() / ".local/state") / "blissdata"


def _as_record(found: Any) -> Record:
    """The record, if it has the types that it should have; otherwise `ValueError`, `TypeError`."""
    record = Record(**found)
    texts = [record.host, record.socket, record.fsync, record.bind, record.error or ""]
    texts += [record.beacon, record.beacon_files, record.pin_limit, record.write]
    if (
        not (record.server_pid is None or isinstance(record.server_pid, int))
        or not all(isinstance(text, str) for text in texts)
        or not isinstance(record.maxmemory, int)
        or not isinstance(record.port, int)
        or not isinstance(record.idle_s, (int, float))
        or record.started_by not in get_args(StartedBy)
    ):
        raise ValueError("not a record of ours")
    return record
