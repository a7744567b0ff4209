"""`blissdata where`: which points of a scan are where."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blissdata.cli.exits import HELP
from blissdata.cli.names import SCAN_HELP, add_server_option, load, seconds, selected, store_to_read
from blissdata.cli.text import compact_json, printable, value, wrapped

if TYPE_CHECKING:
    from blissdata import Scan
    from blissdata.cli.tables import Painted
    from blissdata.streams import Availability

__all__ = ["add_to", "map_of"]

_DESCRIPTION = """\
Show where the points of a scan are: in the server's memory, in a file (which), with the detector,
published but nowhere readable yet, or gone. A bar stands for the points of a stream from the first
one on, up to how many there will be if the scan says so. A character of which a single point is
nowhere shows that."""

_EXAMPLES = f"""\
examples:
  blissdata where last                      all streams of the newest scan
  blissdata where 7 diode 'mca*'            these streams of the scan with the number 7
  blissdata where last --watch              again every second, until the scan is closed
  blissdata where last --json | jq '.streams[] | select(.gone != [])'
                                            what was lost, for scripts

in JSON, ranges are [start, stop] with stop exclusive; --watch then gives a line for each change

exit codes: {HELP};
3 also if it is deleted while it is watched
"""

WIDTH = 48
"""How many characters a bar has where there is no terminal, and at most."""

NARROW = 12
"""How many it has at least."""

PERIOD_S = 1.0
"""How often `--watch` looks unless told otherwise [s]."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "where",
        help="show where the points of a scan are",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scan", metavar="SCAN", help=SCAN_HELP)
    parser.add_argument(
        "streams", nargs="*", metavar="STREAM", help="only these; * stands for anything"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--watch",
        type=seconds,
        nargs="?",
        const=PERIOD_S,
        metavar="S",
        help=f"show it again every S seconds ({PERIOD_S:g}), until the scan is closed",
    )
    add_server_option(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from blissdata.cli.overview import lost_publishers, quiet_library

    with quiet_library(), store_to_read(arguments.url) as store:
        scan = load(store, arguments.scan)
        shown: str | None = None
        for found in _looks(scan, arguments.streams, arguments.watch):
            lost = lost_publishers(store, [scan.key]).get(scan.key)
            text = _json(scan, found, lost) if arguments.json else _text(scan, found, lost)
            if text == shown:
                continue
            if shown is not None and not arguments.json:
                _make_room(shown)
            print(text, flush=True)
            shown = text
    return 0


def _looks(
    scan: Scan, wanted: Sequence[str], period: float | None
) -> Iterator[dict[str, Availability]]:
    """Where the points are: once, or again and again until the scan is closed. Raises
    `ScanNotFoundError` if it ends by being deleted."""
    from blissdata import ScanState
    from blissdata.cli.overview import check_not_deleted
    from blissdata.streams import availability_of

    while True:
        streams = scan.streams
        closed = scan.state >= ScanState.CLOSED
        names = selected(streams, wanted, scan.key) if closed or streams or period is None else []
        found = availability_of(streams[name] for name in names)
        yield {name: found[streams[name]] for name in names}
        if period is None:
            return
        if closed:
            return check_not_deleted(scan)
        _wait(scan, period)


def _wait(scan: Scan, period: float) -> None:
    """Until it is time for the next look, or the scan is in another state."""
    from blissdata.exceptions import PublisherLostError

    try:
        scan.update(timeout=max(period, 0.001))
    except PublisherLostError:
        time.sleep(period)


def _json(scan: Scan, found: Mapping[str, Availability], lost: float | None) -> str:
    whole: dict[str, Any] = {
        "key": scan.key,
        "name": scan.identity.get("name"),
        "number": scan.identity.get("number"),
        "state": scan.state.name,
        "lost": lost is not None,
        "streams": [one.as_json() for one in found.values()],
    }
    return compact_json(whole)


# ---------------------------------------------------------------------------------- for people


def _text(scan: Scan, found: Mapping[str, Availability], lost: float | None) -> str:
    from blissdata.cli.overview import lost_text, npoints_of
    from blissdata.cli.tables import painted, terminal_width

    room = terminal_width()
    who = f"{value(scan.identity.get('number'))} {value(scan.identity.get('name'))}".strip()
    title: Painted = [(f"{who}, {scan.state.name}, {printable(scan.key)}", "bold")]
    if lost is not None:
        # Without the time: a map that is shown again and again is shown when something changes.
        title.append((f", {lost_text(lost).partition(':')[0]}", "bold red"))
    lines = [title, [], *map_of(found, npoints_of(scan.info), room)]
    if not found:
        lines[1:] = [[("no streams yet" if scan.state == 0 else "no streams", "")]]
    return painted(lines, room)


def map_of(
    found: Mapping[str, Availability], npoints: int | None, room: int | None
) -> list[Painted]:
    """The lines of the map for a terminal of `room` characters (None: no terminal): for each stream its
    bar and the ranges in numbers; then what the marks mean, the files, and what is wrong."""
    from blissdata.cli.bars import bar, legend, pieces

    names = {name: printable(name) for name in found}
    margin = max(map(len, names.values()), default=0)
    if room is not None:
        margin = min(margin, max(room // 3, 8))
    width = WIDTH if room is None else max(NARROW, min(WIDTH, room - margin - 2))
    lines: list[Painted] = []
    bars = []
    for name, one in found.items():
        total = max(one.length, npoints or 0)
        cells = bar(one, total, width)
        bars.append(cells)
        lines.append([(f"{names[name][:margin]:<{margin}}  ", ""), *pieces(cells)])
        numbers = printable(one.problem) if one.problem else _numbers(one, npoints)
        lines += _indented(numbers, margin + 2, room)
    meanings = legend(bars)
    if meanings:
        marks: Painted = []
        for mark in meanings:
            marks += [("   " if marks else "", ""), (mark.character, mark.style)]
            marks.append((f" {mark.meaning}", ""))
        lines += [[], marks]
    return lines + [[(line, "")] for text in _files(found) for line in _fitted(text, room)]


def _numbers(found: Availability, npoints: int | None) -> str:
    from blissdata.cli.bars import ranges_text

    of_many = f" of {npoints}" if npoints and npoints > found.length else ""
    plural = "" if found.length == 1 and not of_many else "s"
    count = f"{found.length}{of_many} point{plural}{', sealed' if found.sealed else ''}"
    return "; ".join(filter(None, (count, ranges_text(found))))


def _indented(text: str, margin: int, room: int | None) -> list[Painted]:
    lines = [text] if room is None else wrapped(text, max(room - margin, NARROW))
    return [[(" " * margin + line, "dim")] for line in lines]


def _fitted(text: str, room: int | None) -> list[str]:
    return [text] if room is None or not text else wrapped(text, room)


def _files(found: Mapping[str, Availability]) -> Iterator[str]:
    """Which files there are, for which streams; and why points are not in them."""
    files: dict[str, list[str]] = {}
    reasons: list[str] = []
    for name, one in found.items():
        for holding in one.files:
            files.setdefault(printable(holding.path or ""), []).append(printable(name))
            if holding.why and (one.pending or one.gone or one.unknown):
                where = "" if (holding.path or "") in holding.why else f"{holding.path}: "
                reasons.append(f"{printable(name)}: {printable(where + holding.why)}")
    if files:
        yield ""
    for path, names in files.items():
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        yield f"file {path}: {', '.join(names[:8])}{more}"
    yield from reasons


def _make_room(shown: str) -> None:
    """Before the next map: on a terminal it takes the place of the one before."""
    from blissdata.cli.tables import terminal_width

    if terminal_width() is None:
        print()
    else:
        sys.stdout.write(f"\x1b[{shown.count(chr(10)) + 1}F\x1b[J")
