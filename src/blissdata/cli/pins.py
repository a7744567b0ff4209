"""`blissdata pins`: what consumers keep the memory tracker from forgetting; and the end of that."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from blissdata.cli.exits import NotThereError, note
from blissdata.cli.names import add_server_option, find, store_to_read
from blissdata.cli.text import age, compact_json, printable

if TYPE_CHECKING:
    from blissdata.redis_engine.memory_tracker.health import PinBehind

__all__ = ["add_to"]

_DESCRIPTION = """\
List the pins on a server: a consumer that must not miss anything, such as a file writer, pins a scan, and the
memory tracker does not forget what it has not had yet. A pin whose program ended lapses after half a minute,
unless it was taken to last: then it waits for its program to be started again, or for you to remove it.
What it held may be forgotten then, and is lost if no file has it."""

_EXAMPLES = """\
examples:
  blissdata pins                            who keeps what
  blissdata pins --json                     the same, one object per line
  blissdata pins --remove last writer       the newest scan is kept for no writer any more

exit codes: 0 done (also if there is none), 1 failed, 2 wrong usage, 3 no such pin, 130 Ctrl-C
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "pins",
        help="what must not be forgotten, and for whom",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--remove",
        nargs=2,
        metavar=("SCAN", "NAME"),
        help="remove the pin of that name from that scan, whoever holds it",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line and pin")
    add_server_option(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from blissdata.cli.overview import quiet_library
    from blissdata.redis_engine.memory_tracker.health import look

    with quiet_library(), store_to_read(arguments.url) as store:
        if arguments.remove:
            scan, name = arguments.remove
            key = find(store, scan)
            if not store.remove_pin(key, name):
                there = ", ".join(p.name for p in store.pins() if p.scan_key == key) or "none"
                raise NotThereError(f"Scan {key} has no pin '{name}', only: {there}")
            note(f"scan {key} is not kept for '{name}' any more")
            return 0
        pins = look(store, {}).pins
    if arguments.json:
        for behind in pins:
            print(compact_json(behind.as_json()))
    elif pins:
        print(_table(pins))
    else:
        note("no pin")
    return 0


def _table(pins: Sequence[PinBehind]) -> str:
    from blissdata.cli.tables import Column, table, terminal_width

    columns = [
        Column("NAME", 7),
        Column("SCAN", 6),
        Column("BEHIND", 5, right=True),
        Column("STATE", 4, styles={"holds": "green", "lapsed": "dim", "waits": "yellow"}),
        Column("HEARD", 3, right=True),
        Column("HOLDER", 2),
        Column("LOST", 1, right=True),
    ]
    return table(columns, [_cells(behind) for behind in pins], terminal_width()) or ""


def _cells(behind: PinBehind) -> list[str]:
    pin = behind.pin
    lost = sum(stop - start for ranges in pin.lost.values() for start, stop in ranges)
    return [
        printable(pin.name),
        printable(pin.scan_key),
        "?" if behind.points is None else str(behind.points),
        "lapsed" if pin.lapsed else ("waits" if pin.silent else "holds"),
        f"{age(pin.silence)} ago",
        printable(pin.holder),
        str(lost) if lost else "",
    ]
