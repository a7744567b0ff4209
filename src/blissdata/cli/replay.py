"""`blissdata replay`: measured files and recorded scans, published as if they were measured now."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blissdata.cli.exits import UsageError, ending_at_sigterm, note
from blissdata.cli.names import add_server_option
from blissdata.cli.text import printable

if TYPE_CHECKING:
    from blissdata import DataStore, Scan
    from blissdata.cli.progress import ProgressLine
    from blissdata.replay import Played
    from blissdata.replay.pacing import Pace

__all__ = ["add_to"]

_DESCRIPTION = """\
Publish measured data as running scans: SPEC and NeXus/HDF5 files, everything else that silx opens,
plain columns of numbers, and what `blissdata record` wrote. Each entry of a file becomes a scan, one
after another; files are told apart by what is in them. Ctrl-C closes the scan as USER_ABORT.

Everything is read through, and what is wrong is said, before the first scan begins. One line is
printed for each scan when it is over; its number and key are on stderr when it begins."""

_EXAMPLES = """\
examples:
  blissdata replay EXAFS_Cu.dat                     50 points per second
  blissdata replay chopper.nxs --pace 10            10 points per second
  blissdata replay run.h5 --entry 7.1 --as-recorded at the times in its channel elapsed_time
  blissdata replay *.nxs --fast --session test1     as fast as the server takes it
  blissdata replay scan.jsonl.gz                    a recording, at its own pace
  blissdata replay run.h5 --fast --json | jq .key   an object per scan

then, in another shell:
  blissdata tail last

exit codes: 0 everything was published, 1 failed (stderr says why), 2 wrong usage, 130 Ctrl-C
"""

DEFAULT_PACE = 50.0
"""Points per second of a measured file: slow enough to be watched, and a scan is over in a minute."""

REFRESH_S = 0.1
"""How often the progress bar is drawn [s]."""

IDENTITY = ("session", "proposal", "collection", "dataset", "path")
"""Identity fields that are texts and have an option of the same name."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "replay",
        help="publish measured files, or recordings, as running scans",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help="in this order")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        "--pace",
        type=_pace,
        metavar="N",
        help=f"points per second (default for measured files: {DEFAULT_PACE:g})",
    )
    pace.add_argument(
        "--as-recorded",
        dest="pace",
        action="store_const",
        const="as-recorded",
        help="at the times that are in the file (default for recordings)",
    )
    pace.add_argument(
        "--fast", dest="pace", action="store_const", const="fast", help="without waiting"
    )
    parser.add_argument("--entry", metavar="NAME", help="only this entry of a file, as in `7.1`")
    parser.add_argument(
        "--repeat", type=_count, default=1, metavar="N", help="everything N times (%(default)s)"
    )
    parser.add_argument(
        "--renumber",
        action="store_true",
        help="publish a recording although points are missing in it: those behind them move up",
    )
    identity = parser.add_argument_group(
        "identity", "what the scans are called; recordings keep theirs where nothing is said"
    )
    identity.add_argument("--name", help="(default: the name of the file)")
    identity.add_argument(
        "--number",
        type=_number,
        metavar="N",
        help="number of the first scan; it counts up (default: after the newest scan's)",
    )
    for name in IDENTITY:
        identity.add_argument(
            f"--{name}", help='(default: "replay")' if name == "session" else None
        )
    identity.add_argument("--data-policy", help='(default: "none")')
    parser.add_argument("--json", action="store_true", help="one JSON object per scan")
    add_server_option(parser)
    parser.set_defaults(run=_run)


def _pace(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"expected points per second, a number > 0, not {text!r}")
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or int(text[:18]) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, not {text!r}")
    return int(text)


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 999999999, not {text!r}")
    return int(text)


# ---------------------------------------------------------------------------------- the command


def _run(arguments: argparse.Namespace) -> int:
    from blissdata import DataStore
    from blissdata.cli.overview import quiet_library

    for path in dict.fromkeys(arguments.files):
        for text in _look_through(path, arguments):
            note(text)
    with quiet_library(), ending_at_sigterm(), DataStore(arguments.url) as store:
        numbers = _Numbers(store, arguments.number)
        for turn in range(arguments.repeat):
            for path in arguments.files:
                for job in _jobs(path, arguments, numbers, again=turn > 0):
                    _play(store, job, as_json=arguments.json)
    return 0


def _look_through(path: Path, arguments: argparse.Namespace) -> list[str]:
    """What a person should know about a file. Raises for one that cannot be replayed."""
    from blissdata.replay import is_recording, open_recording, open_source
    from blissdata.replay.pacing import recorded_times

    if is_recording(path):
        if arguments.entry is not None:
            raise UsageError(f"--entry: {path} is a recording, which has no entries")
        summary = open_recording(path).check()
        if summary.complete:
            return []
        return [f"{path} is not complete ({summary.reason}): its scan will end as FAILURE"]
    with open_source(path) as source:
        measurements = source.select(arguments.entry)
        notes = [f"{m.label}: {text}" for m in measurements for text in m.notes]
        if source.empty and arguments.entry is None:
            notes.append(f"{path}: without points, left out: {', '.join(source.empty[:20])}")
        if arguments.pace == "as-recorded":
            for measurement in measurements:
                recorded_times(measurement)
    return notes


@dataclass(frozen=True, slots=True)
class _Job:
    """One scan to publish."""

    title: str
    """For the progress bar."""

    file: Path
    """Where it comes from."""

    entry: str | None
    """And from which entry."""

    play: Callable[[DataStore, Callable[[int, int], None], Callable[[Scan], None]], Played]
    """Publishes it."""

    npoints: int
    """Points of its longest stream."""


class _Numbers:
    """The numbers of the scans, counting up."""

    def __init__(self, store: DataStore, first: int | None) -> None:
        self._store = store
        self.chosen = first is not None
        self._next = first

    def take(self) -> int:
        from blissdata.replay.player import next_number

        number = next_number(self._store) if self._next is None else self._next
        self._next = number + 1
        return number


def _jobs(
    path: Path, arguments: argparse.Namespace, numbers: _Numbers, *, again: bool
) -> Iterator[_Job]:
    """The scans in a file, which is open while they are published."""
    from blissdata.replay import is_recording, open_recording, open_source, play, play_recording

    stated = _stated_identity(arguments)
    if is_recording(path):
        recording = open_recording(path)
        pace: Pace = arguments.pace or "as-recorded"
        if numbers.chosen or again:
            stated["number"] = numbers.take()
        fields = {**recording.header.identity, **stated}
        longest = max(recording.check().points.values(), default=0)
        yield _Job(
            f"{fields.get('name')} {fields.get('number')}",
            path,
            None,
            lambda store, progress, began: play_recording(
                store,
                recording,
                stated,
                pace=pace,
                renumber=arguments.renumber,
                progress=progress,
                began=began,
            ),
            longest,
        )
        return
    pace = arguments.pace or DEFAULT_PACE
    with open_source(path) as source:
        for measurement in source.select(arguments.entry):
            identity = {"name": path.stem, "session": "replay", "data_policy": "none", **stated}
            identity["number"] = numbers.take()
            yield _Job(
                f"{identity['name']} {identity['number']}",
                path,
                measurement.name,
                lambda store, progress, began, m=measurement, i=identity: play(  # type: ignore[misc]
                    store, m, i, pace=pace, progress=progress, began=began
                ),
                measurement.npoints,
            )


def _stated_identity(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("name", *IDENTITY, "data_policy")
    return {name: found for name in names if (found := getattr(arguments, name)) is not None}


def _play(store: DataStore, job: _Job, *, as_json: bool) -> None:
    from blissdata.cli.progress import progress_line

    with progress_line(printable(job.title), job.npoints) as line:

        def began(scan: Scan) -> None:
            if not as_json:
                line.say(f"replaying {job.title}, {scan.key}")

        played = job.play(store, _Throttle(line).at, began)
        line.print(_as_json(job, played) if as_json else _for_people(played))


class _Throttle:
    """Draws the progress bar now and then only."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line
        self._last = -math.inf

    def at(self, points: int, npoints: int) -> None:
        now = time.monotonic()
        if now - self._last >= REFRESH_S or points >= npoints:
            self._last = now
            self._line.at(points)


def _as_json(job: _Job, played: Played) -> str:
    found: Mapping[str, Any] = {
        "key": played.key,
        **dict(played.identity),
        "file": str(job.file),
        "entry": job.entry,
        "points": max(played.points.values(), default=0),
        "streams": dict(played.points),
        "seconds": round(played.seconds, 6),
    }
    return json.dumps(found) + "\n"


def _for_people(played: Played) -> str:
    points: Sequence[int] = list(played.points.values())
    return (
        printable(
            f"{played.identity.get('name')} {played.identity.get('number')}: "
            f"{_counted(max(points, default=0), 'point')} in {_counted(len(points), 'stream')}, "
            f"{played.seconds:.1f} s, {played.key}"
        )
        + "\n"
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
