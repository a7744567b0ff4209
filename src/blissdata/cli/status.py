"""`blissdata status`: what a server is doing; an exit code and JSON for scripts."""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blissdata.cli.tables import terminal_width
from blissdata.cli.text import age, clock, printable, size, wrapped
from blissdata.exceptions import BlissdataError

if TYPE_CHECKING:
    from blissdata.redis_engine.local_server import ServerStatus
    from blissdata.redis_engine.memory_tracker.health import Health, PinBehind
    from blissdata.redis_engine.memory_tracker.options import Options
    from blissdata.writer.report import Report as WriterReport

__all__ = ["NOT_RUNNING", "add_to"]

NOT_RUNNING = 3
"""The exit code when nobody answers, as service managers have it (LSB: program is not running)."""

MARGIN = 11
"""Width of the names in front of what is known of the server."""

STARTING_S = 10
"""So long a local server's memory tracker may take to come up [s]; it is started behind the server."""

OBSERVER = "blissdata-local-status"
"""Connections of this name do not count as somebody who uses a local server."""

_DESCRIPTION = """\
Look at a server; starts and changes nothing. Says how full it is, since when all points are there, what
the memory tracker forgets next, which consumers pin what, and which publishers are dead; warns of what an
operator should do something about. Without an address: $BLISSDATA_URL, else the store that the Beacon
server at $BEACON_HOST names, else your local server."""

_EXAMPLES = """\
examples:
  blissdata status                          the server that DataStore() would use
  blissdata status --json | jq .clients     for scripts
  blissdata status --json | jq -r '.warnings[]'
  blissdata status --directory /data/run7   the local server that keeps its data there
  blissdata status --url redis://host:6379  any server

exit codes: 0 it is running, 3 it is not, 1 that could not be found out, 2 wrong usage
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "status",
        help="is it running, who uses it, how full is it",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("address", nargs="?", metavar="URL", help="the address of a server")
    which.add_argument("--url", metavar="URL", help="the same, as other commands have it")
    which.add_argument("--directory", metavar="D", help="the local server with its data there")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from blissdata.redis_engine import local_server

    found = _address(arguments)
    url: str | None
    if isinstance(found, str):
        seen, url = local_server.url_status(found), found
    else:
        seen, url = local_server.status(found), local_server.address(found)
    kept = _kept(url) if seen.running and seen.kind and url else _Kept()
    said = _warnings(seen, kept.health) if seen.running else []
    if arguments.json:
        print(json.dumps(_as_json(seen, kept, said), indent=2))
    else:
        print(_for_people(seen, kept, said))
    return 0 if seen.running else NOT_RUNNING


def _address(arguments: argparse.Namespace) -> str | Path | None:
    """A URL, or the directory of a local server's data; None: the user's own place."""
    from blissdata.redis_engine.store import server_url

    if arguments.directory is not None:
        return Path(arguments.directory)
    return server_url(arguments.address or arguments.url)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What programs beside the server say."""

    health: Health | None = None
    """How it is kept from filling up."""

    writing: WriterReport | None = None
    """What its scans' files are written by."""

    trouble: str | None = None
    """Why that could not be found out."""


def _kept(url: str) -> _Kept:
    """How the server is kept, and its scans written."""
    from blissdata import DataStore
    from blissdata.cli.overview import lost_publishers, quiet_library
    from blissdata.redis_engine.memory_tracker.health import look
    from blissdata.writer.report import read_report

    named = f"{url}{'&' if '?' in url else '?'}client_name={OBSERVER}"
    try:
        with quiet_library(), DataStore(named) as store:
            return _Kept(look(store, lost_publishers(store)), read_report(store))
    except BlissdataError as error:
        return _Kept(trouble=str(error))


def _warnings(seen: ServerStatus, health: Health | None) -> list[str]:
    from blissdata.redis_engine.memory_tracker.health import Setup, warnings

    starting = seen.supervisor_pid is not None and (seen.uptime_s or 0) < STARTING_S
    setup = Setup(
        seen.used_memory or 0, seen.maxmemory or 0, seen.policy, seen.append_only, starting
    )
    return warnings(setup, health)


def _as_json(seen: ServerStatus, kept: _Kept, said: list[str]) -> dict[str, Any]:
    health, trouble = kept.health, kept.trouble
    keeping = None if health is None else health.as_json()
    problem = {} if trouble is None else {"keeping_problem": trouble}
    writing = None if kept.writing is None else kept.writing.as_json(time.time())
    return {**seen.as_json(), "keeping": keeping, "writing": writing, **problem, "warnings": said}


def _for_people(seen: ServerStatus, kept: _Kept, said: list[str]) -> str:
    health, trouble = kept.health, kept.trouble
    if not seen.running:
        where = seen.url or f"with data in {seen.data_directory}"
        return f"No server is running ({where})" + (f": {seen.problem}" if seen.problem else "")
    rows: list[tuple[str, Any]] = [
        ("running", f"{seen.url} ({seen.version}, process {seen.pid})"),
        ("stores", f"{seen.kind}: {seen.why}" if seen.kind else seen.why),
        ("TCP", _tcp(seen)),
        ("Beacon", seen.beacon and f"answers at {seen.beacon}"),
        ("data", seen.data_directory),
        ("log", seen.log),
        ("since", f"{age(seen.uptime_s or 0)} ago"),
        ("clients", seen.clients),
        ("memory", _memory(seen)),
        ("fsync", seen.fsync if seen.append_only else "never: no append-only file"),
        ("stays", _stays(seen)),
    ]
    if seen.data_directory and seen.supervisor_pid is None:
        why = "none: it was killed; the next DataStore() or `serve` starts another"
        rows.append(("supervisor", why))
    if health is not None:
        rows += _keeping(health, kept.writing)
    if kept.writing is not None:
        rows += _writing(kept.writing, health)
    if trouble is not None:
        rows.append(("keeping", f"cannot be looked at: {trouble}"))
    rows += [("WARNING", text) for text in said]
    room = terminal_width()
    return "\n".join(_row(name, printable(str(v)), room) for name, v in rows if v is not None)


def _row(name: str, text: str, room: int | None) -> str:
    """A row of what is known, in a terminal of `room` characters (None: no terminal, one line)."""
    lines = [text] if room is None else wrapped(text, room - MARGIN)
    return f"{name:<{MARGIN}}" + f"\n{' ' * MARGIN}".join(lines)


def _memory(seen: ServerStatus) -> str:
    used, limit = seen.used_memory or 0, seen.maxmemory
    if not limit:
        return f"{size(used)} of any"
    return f"{size(used)} of {size(limit)} ({100 * used / limit:.0f} %)"


def _keeping(health: Health, writing: WriterReport | None = None) -> list[tuple[str, Any]]:
    """The rows about what keeps the server from filling up. How far the writer is its own rows tell."""
    told = _reached(writing, health) if writing else {}
    report = health.report
    rows: list[tuple[str, Any]] = []
    if report is not None:
        options = report.options
        rows.append(
            (
                "tracker",
                f"{report.who}, {age(health.now - report.time)} ago: follows {_counted(report.scans, 'scan')}, "
                f"forgets from {options.cleaning_threshold:g} % of memory on, {_youngest(options)}, "
                f"keeps pins up to {options.pin_limit}",
            )
        )
    if (history := _history(health)) is not None:
        rows.append(("history", history))
    if report is not None and report.next is not None:
        coming = report.next
        scans = ", ".join(coming.scans) + (f" and {coming.more} more" if coming.more else "")
        rows.append(
            (
                "goes next",
                f"what came before {clock(coming.until)} ({age(health.now - coming.until)} ago) in "
                f"{_counted(coming.streams, 'stream')}{f' of {scans}' if scans else ''}",
            )
        )
    rows += [
        ("pin", _pin(behind))
        for behind in health.pins
        if not behind.pin.lapsed and behind is not told.get(behind.pin.scan_key)
    ]
    if lapsed := sum(behind.pin.lapsed for behind in health.pins):
        rows.append(
            (
                "pins",
                f"{lapsed} lapsed and hold{'s' if lapsed == 1 else ''} nothing: `blissdata pins`",
            )
        )
    rows += [("lost", f"the publisher of {key}, {age(s)} ago") for key, s in health.dead.items()]
    return rows


def _youngest(options: Options) -> str:
    """Below which age points stay."""
    kept = f"{options.protected_history:g} s"
    if options.yielding:
        return f"what is younger than {kept} only where publishers would have to wait otherwise"
    return f"nothing younger than {kept}"


def _history(health: Health) -> str | None:
    """Since when all points are there; None where nobody knows."""
    if health.oldest is None:
        return None
    since = f"every point since {clock(health.oldest)} ({age(health.now - health.oldest)})"
    if health.report is None or health.report.forgot:
        return since
    return f"{since}, and what was there when the tracker began: it has forgotten nothing"


def _reached(report: WriterReport, health: Health) -> dict[str, PinBehind]:
    """By key of a scan that is written, the writer's pin: it says how far the writer is now, where its report
    may be seconds old."""
    from blissdata.writer.report import PIN

    written = {scan.scan for scan in report.scans if scan.outcome != "failed"}
    return {
        behind.pin.scan_key: behind
        for behind in health.pins
        if behind.pin.name == PIN
        and behind.pin.scan_key in written
        and not behind.pin.silent
        and behind.points is not None
    }


def _writing(report: WriterReport, health: Health | None) -> list[tuple[str, Any]]:
    """The rows about files that scans are written into."""
    from blissdata.writer.report import PIN, what_now

    reached = {} if health is None else _reached(report, health)
    pins = () if health is None else health.pins
    held = {behind.pin.scan_key for behind in pins if behind.pin.name == PIN}
    now = time.time()
    alive = report.alive(now)
    below, ago = ", ".join(report.roots), age(max(now - report.at, 0))
    state = "" if alive else f", not running: heard of {ago} ago"
    rows: list[tuple[str, Any]] = [
        (
            "writer",
            f"{report.writer}{state}: writes below {below}, {_counted(report.written, 'scan')} written",
        )
    ]
    for scan in report.scans:
        where = ", ".join(scan.files) or scan.scan
        if scan.outcome == "failed":
            mendable = os.path.isabs(where)
            advice = what_now(
                scan.scan, report.roots, pinned=scan.scan in held, can_be_mended=mendable
            )
            rows.append(("FAILED", f"{where} (scan {scan.scan}): {scan.reason}. {advice}"))
        else:
            points, behind = scan.points, scan.behind
            if scan.scan in reached:
                points = sum(reached[scan.scan].pin.positions.values())
                behind = reached[scan.scan].points or 0
            far = f"{_counted(points, 'point')} written, {behind} behind"
            rows.append(
                ("writes", f"{where}: {far if scan.outcome == 'writing' else 'waits for it'}")
            )
        rows += [("left out", remark) for remark in scan.remarks]
    return rows


def _pin(behind: PinBehind) -> str:
    pin = behind.pin
    far = (
        "its scan cannot be read"
        if behind.points is None
        else f"{_counted(behind.points, 'point')} behind"
    )
    state = "lapsed" if pin.lapsed else ("its program is gone" if pin.silent else "")
    return ", ".join(
        filter(None, [f"{pin.name!r} of {pin.scan_key}: {far}", state, f"held by {pin.holder}"])
    )


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _tcp(seen: ServerStatus) -> str | None:
    if not (seen.port and seen.password_file):
        return None
    return f"{seen.bind}:{seen.port}, password in {seen.password_file}"


def _stays(seen: ServerStatus) -> str | None:
    if seen.started_by is None:
        return None
    if seen.started_by == "person":
        return "until it is stopped"
    return f"until nobody has been connected for {seen.idle_s:g} s"
