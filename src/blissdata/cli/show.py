"""`blissdata show`: what a scan says about itself, and its streams."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blissdata.cli.exits import FAILED, HELP
from blissdata.cli.names import SCAN_HELP, add_server_option, load, store_to_read
from blissdata.cli.text import (
    age,
    clock,
    compact_json,
    of_many,
    printable,
    span_text,
    value,
    wrapped,
)

if TYPE_CHECKING:
    from blissdata import Scan
    from blissdata.cli.overview import ScanRow, StreamRow
    from blissdata.schemas import Complaint

__all__ = ["add_to", "header_of", "streams_of"]

_DESCRIPTION = """\
Show a scan: who it is, how far it is, whether its publisher still lives, and its streams with their
points. A stream that cannot be read here (its plugin is not installed, its encoding is unknown) says
why; the others are shown."""

_EXAMPLES = f"""\
examples:
  blissdata show last                       the newest scan
  blissdata show 7                          the scan with the number 7, if there is but one
  blissdata show esrf:scan:{{01KAXWZ3M5S0J7Q2B8N4C6D9EF}}
  blissdata show last --json | jq .info     the whole header, for scripts
  blissdata show last --check               is the header what readers rely on

exit codes: {HELP};
with --check 1 also for a header with errors, while warnings alone are 0. A header that names no
acquisition_chain, channels or devices may leave out what else programs of BLISS expect
"""

MARGIN = 12
"""Width of the names in front of the header's values."""

_HOW_IT_WAS_MEASURED = ("acquisition_chain", "channels", "devices")
"""A header with one of these means to be one of BLISS, and has to be complete."""

NARROW = 40
"""Below that many characters a line, values stand under their names."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "show",
        help="show a scan: its header, its streams",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scan", metavar="SCAN", help=SCAN_HELP)
    parser.add_argument(
        "--check", action="store_true", help="compare the header with its documented form as well"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_server_option(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from blissdata.cli.overview import quiet_library, scan_row, stream_rows

    with quiet_library(), store_to_read(arguments.url) as store:
        scan = load(store, arguments.scan)
        streams = stream_rows(store, scan)
        life = store.scan_lives([scan.key])[scan.key]
    points = max((row.points or 0 for row in streams), default=0)
    row = scan_row(scan, points, time.time(), life)
    complaints = _complaints(scan) if arguments.check else []
    if arguments.json:
        print(compact_json(_as_json(scan, row, streams, complaints if arguments.check else None)))
    else:
        _print(scan, row, streams)
        if arguments.check:
            _print_complaints(complaints)
    return FAILED if any(one.severity == "error" for one in complaints) else 0


def _complaints(scan: Scan) -> list[Complaint]:
    from blissdata.schemas import validate

    return _leniently(validate(scan.info), scan.info)


def _leniently(found: Iterable[Complaint], info: Mapping[str, Any]) -> list[Complaint]:
    """The same complaints; of a header that does not tell how it was measured, what is missing is one
    warning: blissdata itself needs none of it."""
    from blissdata.schemas import Complaint
    from blissdata.schemas.fields import record
    from blissdata.schemas.scan_info import ScanInfoDict

    if any(name in info for name in _HOW_IT_WAS_MEASURED):
        return list(found)
    fields = record(ScanInfoDict).fields
    missing = [name for name, one in fields.items() if one.required and name not in info]
    kept = [one for one in found if one.path not in missing]
    if not missing:
        return kept
    message = (
        f"programs of BLISS expect {', '.join(missing)} as well; blissdata itself needs none of them. "
        "`blissdata.schemas` documents each"
    )
    return [*kept, Complaint("", message, "warning")]


def _as_json(
    scan: Scan, row: ScanRow, streams: Sequence[StreamRow], complaints: Sequence[Complaint] | None
) -> dict[str, Any]:
    found = row.as_json() | {"streams": [s.as_json() for s in streams], "info": scan.info}
    if complaints is not None:
        found["complaints"] = [dataclasses.asdict(one) for one in complaints]
    return found


# ---------------------------------------------------------------------------------- for people


def _print(scan: Scan, row: ScanRow, streams: Sequence[StreamRow]) -> None:
    from blissdata.cli.tables import terminal_width

    room = terminal_width()
    shown = streams_of(streams, room)  # first: without rich nothing is half printed
    print("\n".join(header_of(row, scan.info, room)))
    print(
        f"\n{shown}" if shown else "\nno streams yet" if row.state == "CREATED" else "\nno streams"
    )


def _print_complaints(complaints: Sequence[Complaint]) -> None:
    from blissdata.cli.tables import terminal_width

    if not complaints:
        print("\nheader: as documented")
        return
    room = terminal_width()
    print(f"\nheader: {len(complaints)} complaint{'s' if len(complaints) > 1 else ''}")
    for complaint in complaints:
        text = printable(str(complaint))
        print("  " + "\n    ".join([text] if room is None else wrapped(text, room - 4)))


def header_of(row: ScanRow, info: dict[str, Any], room: int | None) -> list[str]:
    """The lines over the streams: what is known of the scan, without what is not set."""
    identity = {name: value(found) for name, found in row.identity.items()}
    created = clock(row.created)
    ended = [_clock(info.get("end_time")), info.get("end_reason")]
    publisher = [info.get("publisher"), info.get("publisher_version")]
    fields = {
        "scan": f"{identity.pop('number', '')} {identity.pop('name', '')}".strip(),
        "title": value(info.get("title")),
        "type": value(info.get("type")),
        "state": f"{row.state} ({row.problem})" if row.lost else row.state,
        "points": of_many(row.points, row.npoints),
        "created": f"{created} ({age(row.age or 0)} ago)" if created else "",
        "started": _clock(info.get("start_time")),
        "ended": ", ".join(value(found) for found in ended if found),
        "count time": f"{value(info['count_time'])} s" if info.get("count_time") else "",
        **{name.replace("_", " "): found for name, found in identity.items()},
        "user": value(info.get("user_name")),
        "publisher": " ".join(value(found) for found in publisher if found),
        "key": printable(row.key),
    }
    return [line for name, found in fields.items() if found for line in _field(name, found, room)]


def _clock(found: Any) -> str:
    """A time in a header, which may be anything."""
    return clock(found) if isinstance(found, str) else value(found)


def _field(name: str, found: str, room: int | None) -> list[str]:
    if room is None:
        return [f"{name:<{MARGIN}}{found}"]
    margin = MARGIN if room >= NARROW else 2
    lines = wrapped(found, room - margin) or [""]
    if room < NARROW:
        return [name, *(f"  {line}" for line in lines)]
    return [f"{name if i == 0 else '':<{MARGIN}}{line}" for i, line in enumerate(lines)]


def streams_of(rows: Sequence[StreamRow], room: int | None) -> str:
    """The streams as a table that fits into `room` characters (None: no terminal, all of it), and
    under it what is wrong with some of them."""
    from blissdata.cli.tables import Column, table

    if not rows:
        return ""
    columns = [
        Column("STREAM", 9),
        Column("KIND", 3),
        Column("DTYPE", 5),
        Column("SHAPE", 6),
        Column("UNIT", 4),
        Column("POINTS", 8, right=True),
        Column("SEALED", 7, styles={"open": "green"}),
        Column("EXPIRED", 2),
        Column("PLUGIN", 1),
    ]
    shown = table(columns, [_cells(row) for row in rows], room) or ""
    problems = [f"{printable(row.name)}: {printable(row.problem)}" for row in rows if row.problem]
    if room is not None:
        problems = [line for text in problems for line in wrapped(text, room)]
    return "\n".join([shown, *([""] if problems else []), *problems])


def _cells(row: StreamRow) -> list[str]:
    return [
        printable(row.name),
        printable(row.kind or "?"),
        printable(row.dtype or "?"),
        "?" if row.shape is None else "×".join(str(n) if n >= 0 else "…" for n in row.shape),
        printable(row.unit or ""),
        "?" if row.points is None else str(row.points),
        {True: "sealed", False: "open", None: "?"}[row.sealed],
        span_text(row.expired),
        printable(row.plugin or ""),
    ]
