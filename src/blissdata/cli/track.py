"""`blissdata track`: keep a server from filling up."""

from __future__ import annotations

import argparse

from blissdata.cli.names import server_to_read

__all__ = ["add_to"]

_DESCRIPTION = """\
Keep a blissdata server from filling up: when its memory is used up to a threshold, the oldest points of
all scans are forgotten (file-backed streams are then read from their files); closed scans expire; open
scans in which nothing happens any more are closed and deleted. What consumers pin stays until they have had
it, while memory is below --pin-limit.

A local server has its own. Several may run for one server: one works, the others stand by. The server
needs a memory limit (`maxmemory`). It says what it does, round by round, until Ctrl-C."""

_EXAMPLES = """\
examples:
  blissdata track --url redis://host:6379   (without: $BLISSDATA_URL, else your local server)
  blissdata track --url redis://host:6379 --protected-history 60 --cleaning-threshold 70
  blissdata track --url redis://host:6379 --pin-limit 95%
  memory_tracker --redis-url redis://host:6379      the same, under the name that blissdata 2.x has

exit codes: 0 told to end (SIGTERM), 1 it could not begin (the reason is printed), 2 wrong usage, 130 Ctrl-C
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    from blissdata.redis_engine.memory_tracker.options import add_arguments

    parser = commands.add_parser(
        "track",
        help="keep a server from filling up",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser, everywhere=True)
    parser.set_defaults(run=lambda arguments: _run(arguments, parser))


def _run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from blissdata.redis_engine.memory_tracker.options import options_from
    from blissdata.redis_engine.memory_tracker.program import say_on_stdout, track

    try:
        options = options_from(arguments)
    except ValueError as error:
        parser.error(str(error))
    server = server_to_read(arguments.redis_url)
    with say_on_stdout():
        return track(None if server is None else str(server), options, arguments.init_db)
