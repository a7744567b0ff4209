"""`blissdata delete`: make a server forget scans; files are not touched."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from blissdata.cli.exits import FAILED, HELP, NotThereError, UsageError, note
from blissdata.cli.names import SCAN_HELP, add_server_option, find, store_to_read
from blissdata.cli.text import compact_json, plain, printable, size
from blissdata.exceptions import BlissdataError

if TYPE_CHECKING:
    from blissdata import DataStore
    from blissdata.cli.overview import ScanRow

__all__ = ["Doomed", "RefusedError", "add_to", "chosen", "refusals"]

AT_ONCE = 256
"""How many scans are looked at in one round trip."""

_DESCRIPTION = """\
Make the server forget scans, to make room or to tidy up. Nobody finds them any more at once, and their
memory is free within ten seconds. Files are never touched: what was saved stays saved, what was not is
lost. Scans that nobody pins go first. You are asked before, on a terminal."""

_EXAMPLES = f"""\
examples:
  blissdata delete last                     the newest scan
  blissdata delete 7 8 9                    those with these numbers
  blissdata delete --oldest 10              the ten oldest that are closed and not pinned
  blissdata delete --oldest 10 --yes --json from a script: an object per line and scan
  blissdata delete last --running           although it is running: its publisher fails
  blissdata pins                            who pins what

exit codes: {HELP};
1 also if you said no, or if a scan runs or is pinned: then none was deleted
"""


class RefusedError(BlissdataError):
    """What is not deleted unless one says so."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """A scan that somebody wants to be deleted."""

    row: ScanRow
    """What a list says about it."""

    pins: tuple[str, ...] = ()
    """Who still holds it."""

    nbytes: int = 0
    """About how much of the server's memory it takes [bytes]; 0 if that is not known."""

    @property
    def running(self) -> bool:
        """True if somebody may be publishing it."""
        return self.row.state not in ("CLOSED", "?") and not self.row.lost

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        identity = {str(name): plain(found) for name, found in self.row.identity.items()}
        return {
            "key": self.row.key,
            **identity,
            "state": self.row.state,
            "pins": list(self.pins),
            "bytes": self.nbytes,
        }


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "delete",
        help="make the server forget scans",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scans", nargs="*", metavar="SCAN", help=SCAN_HELP)
    parser.add_argument(
        "--oldest",
        type=_count,
        metavar="N",
        help="instead of SCAN: the N oldest that may be deleted",
    )
    parser.add_argument(
        "--running", action="store_true", help="also scans that are running; their publishers fail"
    )
    parser.add_argument(
        "--pinned",
        action="store_true",
        help="also scans that a consumer pins; it loses what it lacks",
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="one JSON object per line and scan")
    add_server_option(parser)
    parser.set_defaults(run=_run)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number ≥ 1, not {text!r}")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    from blissdata.cli.overview import quiet_library

    if bool(arguments.scans) == (arguments.oldest is not None):
        raise UsageError("Say which scans: SCAN …, or --oldest N")
    with quiet_library(), store_to_read(arguments.url) as store:
        doomed = _found(store, arguments)
        if not doomed:
            note("no scan may be deleted: see `blissdata ls` and `blissdata pins`")
            return 0
        if not arguments.yes and not _agreed(doomed):
            note("nothing was deleted")
            return FAILED
        _delete(store, doomed, as_json=arguments.json)
    return 0


# ---------------------------------------------------------------------------------- pure


def chosen(
    candidates: Sequence[Doomed], count: int, *, running: bool, pinned: bool
) -> list[Doomed]:
    """The first `count` of the scans (oldest first) that may be deleted; those that are pinned come last."""
    allowed = [scan for scan in candidates if not refusals([scan], running=running, pinned=pinned)]
    return sorted(allowed, key=lambda scan: bool(scan.pins))[:count]


def refusals(scans: Sequence[Doomed], *, running: bool, pinned: bool) -> list[str]:
    """Why scans are not deleted unless one says so, a line each."""
    lines = []
    for scan in scans:
        if scan.running and not running:
            lines.append(
                f"Scan {scan.row.key} is {scan.row.state}: its publisher would fail. `--running` deletes it "
                "all the same"
            )
        if scan.pins and not pinned:
            who = ", ".join(f"'{name}'" for name in scan.pins)
            lines.append(
                f"Scan {scan.row.key} is pinned by {who}, which may not have all of it. `--pinned` deletes "
                "it all the same"
            )
    return lines


# ---------------------------------------------------------------------------------- the server


def _found(store: DataStore, arguments: argparse.Namespace) -> list[Doomed]:
    """Those to be deleted, in that order. Raises `RefusedError`, and `NotThereError` for a scan that was
    named and is not there."""
    may = {"running": arguments.running, "pinned": arguments.pinned}
    if arguments.oldest is not None:
        return _measured(store, _oldest(store, arguments.oldest, **may))
    keys = list(dict.fromkeys(find(store, text) for text in arguments.scans))
    found = _looked_at(store, keys, _pins(store))
    missing = set(keys) - {scan.row.key for scan in found}
    if missing:
        raise NotThereError(
            f"There is no scan {', '.join(sorted(missing))}; nothing was deleted. `blissdata ls` lists those "
            "there are"
        )
    if refused := refusals(found, **may):
        raise RefusedError("\n".join([*refused, "Nothing was deleted"]))
    return _measured(store, sorted(found, key=lambda scan: bool(scan.pins)))


def _oldest(store: DataStore, count: int, *, running: bool, pinned: bool) -> list[Doomed]:
    """As `chosen`, of all scans on the server; looks at no more of them than it takes."""
    keys, seen, pins = store.search_existing_scans()[1], list[Doomed](), _pins(store)
    for start in range(0, len(keys), AT_ONCE):
        seen += _looked_at(store, keys[start : start + AT_ONCE], pins)
        found = chosen(seen, count, running=running, pinned=pinned)
        if len(found) == count and not any(scan.pins for scan in found):
            return found
    return chosen(seen, count, running=running, pinned=pinned)


def _pins(store: DataStore) -> dict[str, list[str]]:
    """The names of the pins that hold each scan, by its key."""
    pins: dict[str, list[str]] = {}
    for pin in store.pins():
        if not pin.lapsed:
            pins.setdefault(pin.scan_key, []).append(pin.name)
    return pins


def _looked_at(
    store: DataStore, keys: Sequence[str], pins: Mapping[str, Sequence[str]]
) -> list[Doomed]:
    from blissdata.cli.overview import rows_of

    return [Doomed(row, tuple(pins.get(row.key, ()))) for row in rows_of(store, keys)]


def _measured(store: DataStore, scans: Sequence[Doomed]) -> list[Doomed]:
    sizes: Mapping[str, int] = store.scan_sizes([scan.row.key for scan in scans])
    return [replace(scan, nbytes=sizes[scan.row.key]) for scan in scans]


def _agreed(scans: Sequence[Doomed]) -> bool:
    """Asks on the terminal. Raises `UsageError` where there is none."""
    from blissdata.cli.ls import table_of

    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask on: `--yes` deletes without asking")
    print(table_of([scan.row for scan in scans], None), file=sys.stderr)
    print(
        f"Delete {_sum(scans)}? Files are not touched. [y/N] ", end="", file=sys.stderr, flush=True
    )
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _delete(store: DataStore, scans: Sequence[Doomed], *, as_json: bool) -> None:
    for scan in scans:
        store.delete_scan(scan.row.key, force=scan.row.state != "CLOSED")
        if as_json:
            print(compact_json(scan.as_json()), flush=True)
        else:
            name = printable(str(scan.row.identity.get("name", "")))
            print(f"{scan.row.key}  {name}  {size(scan.nbytes)}".rstrip(), flush=True)
    note(f"deleted {_sum(scans)}; within 10 s the server has that memory again")


def _sum(scans: Sequence[Doomed]) -> str:
    many = "1 scan" if len(scans) == 1 else f"{len(scans)} scans"
    return f"{many}, about {size(sum(scan.nbytes for scan in scans))}"
