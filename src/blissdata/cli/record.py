"""`blissdata record`: what a server holds of a scan, as a file that `replay` publishes again."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from blissdata.cli.exits import HELP, ending_at_sigterm, note
from blissdata.cli.names import SCAN_HELP, add_server_option, load, store_to_read, wait_for
from blissdata.cli.text import printable

if TYPE_CHECKING:
    from blissdata.cli.progress import ProgressLine
    from blissdata.replay.recording import Summary

__all__ = ["add_to"]

_DESCRIPTION = """\
Record a scan: its header, its streams, every entry as it is on the server. A scan that runs is
followed to its end. Ctrl-C keeps what was recorded so far, as a recording that says that it is not
complete.

The format is open: JSON Lines, compressed if FILE ends in .gz (docs/reference/recording.md)."""

_EXAMPLES = f"""\
examples:
  blissdata record last scan.jsonl          the newest scan
  blissdata record next scan.jsonl.gz       wait for the next one, compress
  blissdata record 7 scan.jsonl --force     overwrite the file if there is one
  blissdata replay scan.jsonl               publish it again

exit codes: {HELP}
"""

REFRESH_S = 0.1
"""How often the progress bar is drawn [s]."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "record",
        help="write a scan into a file that can be replayed",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scan", metavar="SCAN", help=f"{SCAN_HELP}; or `next`")
    parser.add_argument("file", metavar="FILE", type=Path, help="compressed if it ends in .gz")
    parser.add_argument("--force", action="store_true", help="overwrite FILE if it is there")
    parser.add_argument("--json", action="store_true", help="one JSON object when it is done")
    add_server_option(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from blissdata.cli.overview import npoints_of, quiet_library
    from blissdata.cli.progress import progress_line
    from blissdata.replay import record

    with quiet_library(), ending_at_sigterm(), store_to_read(arguments.url) as store:
        scan = load(store, wait_for(store, arguments.scan, None, note))
        title = printable(f"{scan.identity.get('name')} {scan.identity.get('number')}")
        with progress_line(title, npoints_of(scan.info)) as line:
            progress = _Throttle(line).at
            try:
                summary = record(scan, arguments.file, overwrite=arguments.force, progress=progress)
            except KeyboardInterrupt:
                if arguments.file.exists():
                    line.say(f"{arguments.file} holds what came so far")
                raise
            line.print(_as_json(scan.key, arguments.file, summary) if arguments.json else "")
        if not arguments.json:
            print(_for_people(title, arguments.file, summary))
        if summary.gaps:
            points, streams = sum(summary.gaps.values()), ", ".join(summary.gaps)
            note(
                f"{points} points had left the server's memory (of {streams}): the recording can be "
                "replayed with --renumber only"
            )
    return 0


class _Throttle:
    def __init__(self, line: ProgressLine) -> None:
        self._line = line
        self._last = -math.inf

    def at(self, summary: Summary) -> None:
        now = time.monotonic()
        if now - self._last >= REFRESH_S:
            self._last = now
            self._line.at(max(summary.points.values(), default=0))


def _as_json(key: str, file: Path, summary: Summary) -> str:
    found = {
        "key": key,
        "file": str(file),
        "bytes": file.stat().st_size,
        "streams": summary.points,
        "entries": summary.entries,
        "gaps": summary.gaps,
        "seconds": round(summary.seconds, 6),
        "estimated": summary.estimated,
    }
    return json.dumps(found) + "\n"


def _for_people(title: str, file: Path, summary: Summary) -> str:
    points = max(summary.points.values(), default=0)
    size = file.stat().st_size
    return (
        f"{title}: {points} points in {len(summary.points)} streams, {summary.entries} entries, "
        f"{size} bytes in {printable(str(file))}"
    )
