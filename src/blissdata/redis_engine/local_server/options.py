"""How a local server is to run: what a person may choose, and what it is otherwise."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from blissdata.redis_engine.limits import PinLimit

__all__ = ["IDLE_S", "Fsync", "ServerOptions", "add_arguments", "from_arguments"]

Fsync = Literal["always", "everysec", "no"]

IDLE_S = 300.0
"""A server that was started on demand leaves when nobody has been connected for this long [s]:
long enough to restart a kernel or to edit a script between two runs; `$BLISSDATA_IDLE_S` changes it."""

MEMORY_SHARE = 4
"""`maxmemory` is one part in so many of the machine's memory, unless it is chosen."""

SMALLEST_MEMORY = 16 << 20
"""Less for data [bytes] is refused: the server itself and its clients' buffers take a few MB, and with
8 MB a publisher of small images was seen to wait for most of its time."""

LASTING = ("fsync", "maxmemory", "pin_limit", "write")
"""What the last `serve` in a place chose of these holds as well when a program starts the server there
again: they say how data are kept. Where others can reach it (TCP, Beacon) is asked for each time."""

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What was asked for; None means: whatever a running server has, else the default.

    Raises `ValueError` for values that no server takes.
    """

    fsync: Fsync | None = None
    """When data reach the disk: `always` before a write is acknowledged (default), `everysec`
    within about a second, `no` when the operating system likes."""
    maxmemory: int | None = None
    """The memory that data may take [bytes], 16 MiB or more; default: a quarter of the machine's. 0: no
    limit."""
    port: int | None = None
    """Serve TCP as well, with a password; default 0: the socket only."""
    bind: str | None = None
    """The address to listen at for TCP; default 127.0.0.1, this machine only."""
    pin_limit: str | None = None
    """Up to which use of memory its memory tracker keeps pins, as `90%` (default) or `4gb`."""
    write: str | None = None
    """Write scans into their files below these directories, separated as in `PATH`; default: do not."""
    idle_s: float | None = None
    """After how long without anybody a server started on demand leaves [s]."""
    beacon: str | None = None
    """Answer in Beacon's place at this address, `host:port` of this machine alone; default: do not."""
    beacon_files: str | None = None
    """The directory whose files are given to those who ask Beacon for files; default: none."""

    def __post_init__(self) -> None:
        if self.fsync is not None and self.fsync not in get_args(Fsync):
            raise ValueError(f"fsync is {self.fsync!r}; expected one of {get_args(Fsync)}")
        if self.maxmemory is not None and not (
            self.maxmemory == 0 or self.maxmemory >= SMALLEST_MEMORY
        ):
            raise ValueError(
                f"maxmemory is {self.maxmemory} bytes; expected {SMALLEST_MEMORY >> 20}mb "
                f"({SMALLEST_MEMORY} bytes) or more, since the server itself takes a few MB of it; or 0 "
                "for no limit"
            )
        if self.port is not None and not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}; expected 1 to 65535, or 0 for no TCP")
        if self.bind is not None and not re.fullmatch(r"[\w.:%*-]+", self.bind):
            raise ValueError(f"bind is {self.bind!r}; expected an address such as 127.0.0.1")
        if self.pin_limit is not None:
            PinLimit.of(self.pin_limit)
        if self.idle_s is not None and not self.idle_s > 0:
            raise ValueError(f"idle_s is {self.idle_s}; expected a time above 0 s")
        for directory in (self.write or "").split(os.pathsep):
            if self.write is not None and not os.path.isdir(directory):
                raise ValueError(
                    f"write is {self.write!r}; expected directories below which files may be written, "
                    f"separated by {os.pathsep!r}, and {directory!r} is none"
                )
        self._check_beacon()

    def _check_beacon(self) -> None:
        if self.beacon is None:
            if self.beacon_files is not None:
                raise ValueError(
                    "beacon_files needs beacon: files are given to those who ask there"
                )
            return
        if self.port:
            raise ValueError(
                f"port {self.port} and beacon cannot go together: a server at TCP has a password, and "
                "Beacon's protocol has no place for one. Without port, programs of this machine find "
                "the server's socket through beacon"
            )
        from blissdata.beacon.responder import check_announcement

        check_announcement(self.beacon, self.beacon_files, "unix:///socket")

    def resolved(self) -> tuple[Fsync, int, int, str, float]:
        """(fsync, maxmemory [bytes], port, bind, idle_s [s]) for a server that starts now."""
        return (
            self.fsync or "always",
            _default_memory() if self.maxmemory is None else self.maxmemory,
            self.port or 0,
            self.bind or "127.0.0.1",
            self.idle_s or _default_idle(),
        )

    def lasting(self) -> dict[str, str | int]:
        """What of this also holds when a program starts the server again, as plain JSON values."""
        found = {name: getattr(self, name) for name in LASTING}
        return {name: value for name, value in found.items() if value is not None}

    def over(self, lasting: Mapping[str, Any]) -> ServerOptions:
        """These options, and for what they leave open the lasting ones of another time, as `lasting`
        gave them. Raises `ValueError` for those that are not valid (any more)."""
        known = {name: lasting[name] for name in LASTING if lasting.get(name) is not None}
        for name, value in known.items():
            if type(value) is not (int if name == "maxmemory" else str):
                raise ValueError(f"{name} is {value!r}")
        chosen = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}
        return ServerOptions(**{**known, **chosen})

    def arguments(self) -> list[str]:
        """The command line that `from_arguments` turns back into these options."""
        return [
            f"--{name.replace('_', '-')}={value}"
            for name in (
                "fsync",
                "maxmemory",
                "port",
                "bind",
                "pin_limit",
                "write",
                "idle_s",
                "beacon",
                "beacon_files",
            )
            if (value := getattr(self, name)) is not None
        ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command line choose the options."""
    parser.add_argument(
        "--fsync",
        choices=get_args(Fsync),
        help="when data reach the disk: before a write is acknowledged (always, the default), "
        "within about a second, or when the operating system likes",
    )
    parser.add_argument(
        "--maxmemory",
        type=_size,
        metavar="SIZE",
        help="memory for data, such as 4gb or 500mb, from 16mb on; 0: no limit (default: a quarter of the "
        "machine's)",
    )
    parser.add_argument(
        "--port",
        type=int,
        metavar="N",
        help="serve TCP at this port as well, with a password (default: a unix socket only)",
    )
    parser.add_argument(
        "--bind",
        metavar="ADDR",
        help="the address for TCP (default 127.0.0.1: this machine only; 0.0.0.0: everybody)",
    )
    parser.add_argument(
        "--pin-limit",
        type=PinLimit.argument,
        metavar="LIMIT",
        help="use of memory up to which pins are kept, as 95%% or 4gb; 100%%: always, publishers wait "
        "instead (default 90%%)",
    )
    parser.add_argument(
        "--beacon",
        nargs="?",
        const="127.0.0.1:25000",
        metavar="HOST:PORT",
        help="answer in Beacon's place, so that programs of this machine that know only $BEACON_HOST "
        "find the server (default 127.0.0.1:25000)",
    )
    parser.add_argument(
        "--beacon-files",
        metavar="DIR",
        help="give the files in that directory, and nothing outside of it, to those who ask Beacon "
        "for files",
    )
    parser.add_argument(
        "--write",
        metavar="DIRS",
        help="write every scan into its HDF5 file, as `blissdata write` does, below these directories "
        f"(separated by '{os.pathsep}')",
    )
    parser.add_argument("--idle-s", type=float, metavar="S", help=argparse.SUPPRESS)


def from_arguments(arguments: argparse.Namespace) -> ServerOptions:
    """The options that a command line chose. Raises `ValueError`."""
    return ServerOptions(
        fsync=arguments.fsync,
        maxmemory=arguments.maxmemory,
        port=arguments.port,
        bind=arguments.bind,
        pin_limit=None if arguments.pin_limit is None else str(arguments.pin_limit),
        write=_absolute(arguments.write),
        idle_s=arguments.idle_s,
        beacon=arguments.beacon,
        beacon_files=arguments.beacon_files
        and os.path.abspath(os.path.expanduser(arguments.beacon_files)),
    )


def _absolute(directories: str | None) -> str | None:
    if directories is None:
        return None
    each = directories.split(os.pathsep)
    return os.pathsep.join(os.path.abspath(os.path.expanduser(one)) for one in each if one)


def _size(text: str) -> int:
    """`4gb`, `500mb`, `1048576` in bytes; units are powers of 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 4gb or 500mb")
    return int(float(match[1]) * _UNITS[match[2]])


def _default_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEMORY_SHARE


def _default_idle() -> float:
    given = os.environ.get("BLISSDATA_IDLE_S", "")
    if not given:
        return IDLE_S
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ValueError(f"$BLISSDATA_IDLE_S is {given!r}; expected a number of seconds above 0")
    return seconds
