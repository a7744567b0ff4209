"""`blissdata serve`: run the user's local server because a person wants it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from blissdata.cli.exits import INTERRUPTED

if TYPE_CHECKING:
    from blissdata.redis_engine.local_server import ServerStatus

__all__ = ["add_to"]

_DESCRIPTION = """\
Run a server for your scans. It is a real Valkey that only you can reach, through a unix socket; it
keeps its data on disk, and they are there again at the next start.

In the foreground it runs until Ctrl-C (or `blissdata stop`). A server that DataStore() had already
started goes on serving and is told to stay; nothing else happens then.

What you say of --fsync, --maxmemory, --pin-limit and --write is kept beside the data, and holds also when
DataStore() starts the server there by itself; the next `blissdata serve` says it anew. --port and
--beacon hold for this once."""

_STOPPED = "Stopped; the data are there again at the next start."

_EXAMPLES = """\
examples:
  blissdata serve                        until Ctrl-C
  blissdata serve --background           until `blissdata stop`
  blissdata serve --maxmemory 4gb        data may take so much memory; a publisher waits when it is full
  blissdata serve --write /data/visitor  scans are written into their HDF5 files, below that directory
  blissdata serve --port 6380 --bind 0.0.0.0
                                         reachable from other machines, with a password
  blissdata serve --beacon               programs that know only $BEACON_HOST find it at port 25000
  blissdata serve --directory /data/run7
                                         a server of its own; DataStore("/data/run7") finds it
  blissdata serve --fsync everysec       faster on slow disks; a power cut may lose the last second

exit codes: 0 it ran (or runs), 1 it could not (the reason is on stderr), 2 wrong usage, 130 Ctrl-C
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    from blissdata.redis_engine.local_server.options import add_arguments

    parser = commands.add_parser(
        "serve",
        help="run a server for your scans",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--directory",
        metavar="D",
        help="keep the data there (default: your own place on this host)",
    )
    parser.add_argument(
        "--background", action="store_true", help="return once it serves; it stays until stopped"
    )
    add_arguments(parser)
    parser.set_defaults(run=lambda arguments: _run(arguments, parser))


def _run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from blissdata.redis_engine import local_server
    from blissdata.redis_engine.local_server.options import from_arguments

    try:
        options = from_arguments(arguments)
    except ValueError as error:
        parser.error(str(error))
    if options.bind is not None and not options.port:
        parser.error("--bind needs --port: without it there is no TCP to listen at")
    in_foreground = False

    def ready(seen: ServerStatus) -> None:
        nonlocal in_foreground
        in_foreground = True
        print(_greeting(seen), "Ctrl-C stops it.", sep="\n", flush=True)

    try:
        seen = local_server.serve(
            arguments.directory,
            background=arguments.background,
            options=options,
            ready=ready,
            told=_stdout(),
        )
    except KeyboardInterrupt:
        if not in_foreground:
            raise
        print(_STOPPED)
        return INTERRUPTED
    if in_foreground or not seen.running:
        print(_STOPPED)
    else:
        print(_greeting(seen), "It stays until `blissdata stop`.", sep="\n")
    return 0


def _stdout() -> int | None:
    try:
        return sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _greeting(seen: ServerStatus) -> str:
    lines = [f"Serving {seen.url}", f"data in {seen.data_directory}"]
    if seen.port:
        lines.append(f"TCP at {seen.bind}:{seen.port}, password in {seen.password_file}")
    if seen.write:
        lines.append(
            f"scans are written into files below {seen.write}; `blissdata status` tells how far that is"
        )
    if seen.beacon:
        lines.append(f"in Beacon's place at {seen.beacon}: export BEACON_HOST={seen.beacon}")
    return "\n".join(lines)
