"""`blissdata status`: what a server is doing; an exit code and JSON for scripts."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from blissdata.cli.text import age

if TYPE_CHECKING:
    from blissdata.redis_engine.local_server import ServerStatus

__all__ = ["NOT_RUNNING", "add_to"]

NOT_RUNNING = 3
"""The exit code when nobody answers, as service managers have it (LSB: program is not running)."""

_EXAMPLES = """\
examples:
  blissdata status                          your local server
  blissdata status --json | jq .clients     for scripts
  blissdata status --directory /data/run7   the server that keeps its data there
  blissdata status redis://host:6379        any server

exit codes: 0 it is running, 3 it is not, 1 that could not be found out, 2 wrong usage
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "status",
        help="is it running, who uses it, how full is it",
        description="Look at a server; starts and changes nothing.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("url", nargs="?", metavar="URL", help="the address of a server")
    which.add_argument("--directory", metavar="D", help="the local server with its data there")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from blissdata.redis_engine import local_server

    if arguments.url:
        seen = local_server.url_status(arguments.url)
    else:
        seen = local_server.status(arguments.directory)
    print(json.dumps(seen.as_json(), indent=2) if arguments.json else _for_people(seen))
    return 0 if seen.running else NOT_RUNNING


def _for_people(seen: ServerStatus) -> str:
    if not seen.running:
        where = seen.url or f"with data in {seen.data_directory}"
        return f"No server is running ({where})" + (f": {seen.problem}" if seen.problem else "")
    memory = f"{_size(seen.used_memory)} of {_size(seen.maxmemory) if seen.maxmemory else 'any'}"
    rows = {
        "running": f"{seen.url} ({seen.version}, process {seen.pid})",
        "stores": f"{seen.kind}: {seen.why}" if seen.kind else seen.why,
        "TCP": _tcp(seen),
        "Beacon": seen.beacon and f"answers at {seen.beacon}",
        "data": seen.data_directory,
        "log": seen.log,
        "since": f"{age(seen.uptime_s or 0)} ago",
        "clients": seen.clients,
        "memory": memory,
        "fsync": seen.fsync,
        "stays": _stays(seen),
    }
    if seen.data_directory and seen.supervisor_pid is None:
        rows["supervisor"] = "none: it was killed; the next DataStore() or `serve` starts another"
    return "\n".join(f"{name:<11}{value}" for name, value in rows.items() if value is not None)


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


def _size(found: int | None) -> str:
    size = float(found or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TB"
