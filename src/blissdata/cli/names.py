"""What SCAN and STREAM mean on the command line: `last`, `next`, a number, a key; names with `*`."""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from blissdata.cli.exits import NotThereError, TimeUpError
from blissdata.cli.text import printable
from blissdata.exceptions import NoScanAvailable, ScanKeyError, ScanLoadError
from blissdata.redis_engine.keys import ULID_DIGITS, created_at

if TYPE_CHECKING:
    from blissdata import DataStore, Scan

__all__ = [
    "SCAN_HELP",
    "add_server_option",
    "created_at",
    "find",
    "fits",
    "load",
    "no_such",
    "seconds",
    "selected",
    "server_to_read",
    "short_key",
    "store_to_read",
    "wait_for",
]

SCAN_HELP = "`last`, its number, or its key (or the 26 characters at the end of that)"

CANDIDATES = 10
"""How many of several scans with the same number an error lists."""

_PK = re.compile(f"[{ULID_DIGITS}]{{26}}")
_PK_OF_KEY = re.compile(rf"({_PK.pattern})\}}?$")
_LONGEST_NUMBER = 18
"""More digits than that are no number of a scan."""


# ---------------------------------------------------------------------------------- pure


def short_key(key: str) -> str:
    """The part of a scan's key that is its own: enough to name it."""
    found = _PK_OF_KEY.search(key)
    return found[1] if found else key


def selected(names: Iterable[str], wanted: Sequence[str], scan_key: str) -> list[str]:
    """Those of the streams' names that were asked for, `*` standing for anything; without a wish,
    all. Raises `NotThereError` for a wish that none fulfils."""
    names = list(names)
    for pattern in wanted:
        if not any(fits(name, pattern) for name in names):
            raise NotThereError(no_such("stream", pattern, names, scan_key))
    return [name for name in names if not wanted or any(fits(name, p) for p in wanted)]


def no_such(kind: str, wanted: str, names: Sequence[str], scan_key: str) -> str:
    """What an error says of a stream, or the like, that the scan does not have."""
    there = ", ".join(printable(name) for name in sorted(names)) or "none"
    return f"Scan {scan_key} has no {kind} '{wanted}'; there are: {there}{_meant(wanted, names)}"


def _meant(text: str, names: Sequence[str]) -> str:
    """A question behind an error, if one of the names looks much like the text; empty if none does."""
    found = get_close_matches(text, names, 1)
    return f" (was '{printable(found[0])}' meant?)" if found else ""


def fits(name: str, pattern: str) -> bool:
    """Whether that is the name; in the pattern, `*` stands for anything."""
    return name == pattern or fnmatchcase(name, pattern)


def seconds(text: str) -> float:
    """A time on the command line. Raises `argparse.ArgumentTypeError`."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds, a number ≥ 0, not {text!r}")
    return found


def add_server_option(parser: argparse.ArgumentParser) -> None:
    """`--url`, as every command that looks at scans has it."""
    parser.add_argument(
        "--url",
        metavar="URL",
        help="another server: redis://host:port, unix:///path, or the directory of its data "
        "(default: $BLISSDATA_URL, else your local server, which is started if need be)",
    )


# ---------------------------------------------------------------------------------- the server


def store_to_read(url: str | None) -> DataStore:
    """The store of a command that only looks. As `DataStore(url)`, but a directory in which no server was
    ever started is a mistake, and gets none. Raises `NotThereError` for it."""
    from blissdata import DataStore

    return DataStore(server_to_read(url))


def server_to_read(url: str | None) -> str | Path | None:
    """What `DataStore` finds the server by: a URL, a directory, or None for the user's local one. Raises
    `NotThereError` for a directory in which no server was ever started."""
    from blissdata.redis_engine.local_server.place import Place
    from blissdata.redis_engine.store import server_url

    found = server_url(url)
    if not isinstance(found, Path) or Place.of(found).exists():
        return found
    directory = Place.of(found).directory
    named = "" if url is not None else " ($BLISSDATA_URL)"
    why = "no server was ever started in it" if directory.is_dir() else "it is no directory"
    raise NotThereError(
        f"No server keeps its data in {directory}{named}: {why}{_meant_beside(directory)}. Commands that only "
        f"look start none in a new place; `blissdata serve --directory {shlex.quote(str(directory))}` does. The "
        "address of another server begins with redis:// or unix://"
    )


def _meant_beside(directory: Path) -> str:
    """As `_meant`: a directory beside it in which a server was started."""
    from blissdata.redis_engine.local_server.place import Place

    try:
        beside = os.listdir(directory.parent)
    except OSError:
        return ""
    looks_like_it = (directory.parent / name for name in get_close_matches(directory.name, beside))
    found = next((str(one) for one in looks_like_it if Place.of(one).exists()), None)
    return "" if found is None else f" (was '{printable(found)}' meant?)"


def find(store: DataStore, text: str) -> str:
    """The key of the scan that `text` names, now. Raises `NotThereError`, also for a number that
    several scans have, which it lists. For a key it asks nobody."""
    if text == "last":
        return store.get_last_scan()[1]
    if text == "next":
        raise NotThereError(
            "'next' is a scan that is not there yet: `blissdata tail next` waits for it"
        )
    if text.isdecimal() and len(text) <= _LONGEST_NUMBER:
        return _numbered(store, int(text))
    return store.catalog.scan_key(text) if _PK.fullmatch(text) else text


def load(store: DataStore, text: str) -> Scan:
    """The scan that `text` names. Raises as `find` does, and `ScanLoadError`."""
    key = find(store, text)
    try:
        return store.load_scan(key)
    except ScanKeyError as error:
        example = store.catalog.scan_key("…")
        raise NotThereError(
            f"'{text}' names no scan: expected `last`, a number, or a key like {example}; "
            f"`blissdata ls` lists them{_meant(text, ('last',))}"
        ) from error


def wait_for(store: DataStore, text: str, timeout: float | None, say: Callable[[str], None]) -> str:
    """As `find`, but `next` waits for the scan that is created next, and `last` for the first one
    where there is none yet: says so, and waits `timeout` [s] at most (None: for ever). Raises
    `TimeUpError`."""
    if text == "last":
        try:
            return store.get_last_scan()[1]
        except NoScanAvailable:
            since, which = "0-0", "first"
    elif text == "next":
        since, which = store.get_last_scan_timetag(), "next"
    else:
        return find(store, text)
    say(f"waiting for the {which} scan")  # whoever reads this may create it: none is missed
    try:
        return store.get_next_scan(since=since, block=timeout != 0, timeout=timeout or 0)[1]
    except NoScanAvailable as error:
        raise TimeUpError(f"No scan was created in {timeout:g} s") from error


def _numbered(store: DataStore, number: int) -> str:
    keys = store.search_existing_scans(number=number)[1]
    if not keys:
        raise NotThereError(
            f"No scan has the number {number}; `blissdata ls` lists those there are"
        )
    if len(keys) == 1:
        return keys[0]
    lines = [_candidate(store, key) for key in reversed(keys[-CANDIDATES:])]
    more = len(keys) - len(lines)
    raise NotThereError(
        "\n".join(
            [
                f"{len(keys)} scans have the number {number}; say which by its key, newest first:",
                *lines,
                *(
                    [f"  … and {more} older ones: blissdata ls -n 0 --number {number}"]
                    if more
                    else []
                ),
            ]
        )
    )


def _candidate(store: DataStore, key: str) -> str:
    try:
        scan = store.load_scan(key)
    except ScanLoadError:
        return f"  {key}"
    where = " ".join(
        str(scan.identity[name]) for name in ("session", "dataset") if scan.identity.get(name)
    )
    return printable(f"  {key}  {scan.identity.get('name')}  {scan.state.name}  {where}".rstrip())
