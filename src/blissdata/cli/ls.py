"""`blissdata ls`: which scans there are."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blissdata.cli.exits import UsageError, note
from blissdata.cli.names import add_server_option, short_key, store_to_read
from blissdata.cli.text import age, compact_json, of_many, printable, value

if TYPE_CHECKING:
    from blissdata import DataStore
    from blissdata.cli.overview import ScanRow

__all__ = ["add_to", "table_of"]

FIELDS = ("name", "session", "proposal", "collection", "dataset", "path", "data_policy")
"""The identity fields that are texts."""

STATES = ("CREATED", "PREPARED", "STARTED", "STOPPED", "CLOSED")

RUNNING = "RUNNING"
"""Not a state, but what people ask for: any but CLOSED."""

LOST = "LOST"
"""Neither, but what people ask for as well: those whose publisher gives no sign of life any more."""

SHOWN = 20
"""How many scans are shown unless told otherwise: they fit on a screen."""

AT_ONCE = 256
"""How many scans are looked at before the first is printed."""

_DESCRIPTION = """\
List the scans on a server, the newest first (with --json, `head -1` is the last one). A text may begin or
end with *, which stands for anything, and upper and lower case are the same. Points are those of
the scan's longest stream, and how many there will be if the scan says so. A scan whose publisher was
killed, or is cut off, is listed with that as its problem; publishers of blissdata 2.x give no signs of
life, of them nothing is known."""

_EXAMPLES = f"""\
examples:
  blissdata ls                              the newest {SHOWN}
  blissdata ls --state running              those that are not closed yet
  blissdata ls --state lost                 those of them whose publisher is gone
  blissdata ls --name 'loop*' --session ihr42 -n 0
                                            all that fit, however many
  blissdata ls --number 7                   which scans have the number 7
  blissdata ls --json | head -1             the newest, for scripts: one object per line
  blissdata ls --json -n 0 | jq -r 'select(.points == 0).key'
  blissdata ls --url redis://host:6379      those of another server

exit codes: 0 done (also if there is none), 1 failed (stderr says why), 2 wrong usage, 130 Ctrl-C
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "ls",
        help="list scans, newest first",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_argument_group("which scans")
    for field in FIELDS:
        flag = f"--{field.replace('_', '-')}"
        which.add_argument(flag, metavar="TEXT", help=f"{field.replace('_', ' ')}, * at its ends")
    which.add_argument("--number", type=int, metavar="N", help="number of the scan")
    which.add_argument(
        "--state",
        type=str.upper,
        choices=(RUNNING, LOST, *STATES),
        action="append",
        help="in this state; RUNNING is any but CLOSED, LOST one whose publisher is gone; may be given "
        "again",
    )
    which.add_argument(
        "-n", type=_count, default=SHOWN, metavar="N", help="at most so many (%(default)s; 0: all)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line and scan")
    add_server_option(parser)
    parser.set_defaults(run=_run)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number ≥ 0, not {text!r}")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    from blissdata.cli.overview import quiet_library

    with quiet_library(), store_to_read(arguments.url) as store:
        keys = _keys(store, arguments)
        count = arguments.n or len(keys)
        if arguments.json:
            _print_json(store, keys[:count])
        else:
            asked = bool(_asked(arguments) or arguments.state)
            _print_table(store, keys[:count], more=len(keys) > count, asked=asked)
    return 0


def _keys(store: DataStore, arguments: argparse.Namespace) -> list[str]:
    """The scans that were asked for, newest first. At most two round trips; where nothing in particular
    was asked for, no more than one scan too many, which tells that there are more."""
    wanted = _asked(arguments)
    if not wanted and not arguments.state and arguments.n:
        return [key for _, key in store.newest_scans(arguments.n + 1)]
    try:
        keys = store.search_existing_scans(**wanted)[1][::-1]
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not arguments.state:
        return keys
    states = store.scan_states(keys)
    lost = _lost(store, states) if LOST in arguments.state else {}
    return [key for key in keys if key in lost or _is_in(states[key], arguments.state)]


def _asked(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields of the identity that were asked for."""
    return {
        field: found
        for field in (*FIELDS, "number")
        if (found := getattr(arguments, field)) is not None
    }


def _lost(store: DataStore, states: Mapping[str, int | None]) -> Mapping[str, float]:
    from blissdata.cli.overview import lost_publishers

    return lost_publishers(
        store, [key for key, state in states.items() if _is_in(state, [RUNNING])]
    )


def _is_in(state: int | None, wanted: Sequence[str]) -> bool:
    name = STATES[state] if state is not None and 0 <= state < len(STATES) else None
    return name in wanted or (RUNNING in wanted and name is not None and name != "CLOSED")


def _print_json(store: DataStore, keys: Sequence[str]) -> None:
    from blissdata.cli.overview import rows_of

    for start in range(0, len(keys), AT_ONCE):
        for row in rows_of(store, keys[start : start + AT_ONCE]):
            print(compact_json(row.as_json()), flush=start + AT_ONCE < len(keys))


def _print_table(store: DataStore, keys: Sequence[str], *, more: bool, asked: bool) -> None:
    from blissdata.cli.overview import rows_of
    from blissdata.cli.tables import terminal_width

    rows = rows_of(store, keys)
    if not rows:
        note("no scan is what was asked for" if asked else "no scan")
        return
    print(table_of(rows, terminal_width()))
    if more:
        note("older ones are not shown: -n 0 shows all")


# ---------------------------------------------------------------------------------- for people


def table_of(rows: Sequence[ScanRow], room: int | None) -> str:
    """The list as a table that fits into `room` characters (None: no terminal, all of it)."""
    from blissdata.cli.tables import Column, table

    styles = {"STARTED": "green", "CREATED": "yellow", "PREPARED": "yellow", "?": "red"}
    columns = [
        Column("NR", 6, right=True),
        Column("NAME", 7),
        Column("STATE", 5, styles={**styles, "CLOSED": "dim"}),
        Column("AGE", 2, right=True),
        Column("POINTS", 4, right=True),
        Column("STREAMS", 1, right=True),
        Column("KEY", 3),
        Column("PROBLEM", 0),
    ]
    whole = table(columns, [_cells(row, row.key) for row in rows], room, never_drop=True)
    if whole is not None:
        return whole
    return table(columns, [_cells(row, short_key(row.key)) for row in rows], room) or ""


def _cells(row: ScanRow, key: str) -> list[str]:
    return [
        value(row.identity.get("number")),
        value(row.identity.get("name")),
        row.state,
        "" if row.age is None else age(row.age),
        of_many(row.points, row.npoints),
        str(len(row.streams)),
        printable(key),
        printable(row.problem or ""),
    ]
