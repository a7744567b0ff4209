"""`blissdata stop`: stop the user's local server, with everything on disk."""

from __future__ import annotations

import argparse
import os
import sys

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
    parser.add_argument("--directory", metavar="D", help="the local server with its data there")
    parser.add_argument(
        "--timeout", type=float, default=20.0, metavar="S", help="how long to wait for it [s] (20)"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from blissdata.redis_engine import local_server

    clients = local_server.status(arguments.directory).clients
    stopped = local_server.stop(arguments.directory, timeout=arguments.timeout)
    for name in ("BLISSDATA_URL", "BEACON_HOST"):
        if os.environ.get(name) and arguments.directory is None:
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
