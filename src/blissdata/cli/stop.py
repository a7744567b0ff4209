"""`blissdata stop`: stop the user's local server, with everything on disk."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from blissdata.cli.exits import UsageError

__all__ = ["add_to"]

_EXAMPLES = """\
examples:
  blissdata stop                            your local server
  blissdata stop --directory /data/run7     the server that keeps its data there

exit codes: 0 none is running now, 1 it could not be stopped (the reason is on stderr), 2 wrong usage
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "stop",
        help="stop the server; its data are there again at the next start",
        description="Stop a local server. Programs that are connected to it lose it; data do not.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--directory", metavar="D", help="the local server with its data there")
    which.add_argument(
        "--url",
        metavar="URL",
        help="the same, as other commands have it; a server that is not local is refused",
    )
    parser.add_argument(
        "--timeout", type=float, default=20.0, metavar="S", help="how long to wait for it [s] (20)"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from blissdata.redis_engine import local_server

    directory = arguments.directory
    if arguments.url is not None:
        directory = _directory_of(arguments.url)
    clients = local_server.status(directory).clients
    stopped = local_server.stop(directory, timeout=arguments.timeout)
    for name in ("BLISSDATA_URL", "BEACON_HOST"):
        if os.environ.get(name) and arguments.directory is None and arguments.url is None:
            print(
                f"${name} names another server, which is not touched: this is about your local one",
                file=sys.stderr,
            )
    print(
        "Stopped; the data are there again at the next start."
        if stopped
        else "No server was running."
    )
    if stopped and clients:
        print(
            f"Programs were connected ({clients} connection{'s' if clients > 1 else ''}). Whoever publishes "
            "waits for it, for a minute unless told otherwise; the next DataStore() or `blissdata serve` "
            "starts it."
        )
    return 0


def _directory_of(url: str) -> Path | None:
    """Where the local server at that URL keeps its data; None: in the user's own place. Raises
    `UsageError` if it is none of ours."""
    from blissdata.redis_engine import local_server
    from blissdata.redis_engine.backends.client import redacted
    from blissdata.redis_engine.store import server_url

    found = server_url(url)
    if isinstance(found, Path):
        return found
    if url in (local_server.address(), local_server.status().url):
        return None
    raise UsageError(
        f"{redacted(url)} is not the address of your local server, and only local ones are stopped from "
        "here: yours, or with --directory D the one that keeps its data in D. Another server is ended by "
        "whoever runs it"
    )
