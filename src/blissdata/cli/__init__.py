"""`blissdata` on the command line: one file per subcommand.

Every subcommand works with the core dependencies alone. What a person reads goes to stdout, what
went wrong to stderr as one message; a traceback is a fault of ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import metadata

from blissdata.exceptions import BlissdataError

__all__ = ["main"]

_EXAMPLES = """\
examples:
  blissdata serve                   run a server for your scans here, until Ctrl-C
  blissdata serve --background      the same, and give the prompt back
  blissdata status                  is it running, who uses it, how full is it
  blissdata stop                    stop it; the data are there again at the next start
  blissdata demo                    publish a measured scan, follow it live, read it again

`blissdata COMMAND --help` says more. Programs need none of this: DataStore() starts a server by
itself when there is none.

exit codes:
  0  done          1  failed (the reason is on stderr)
  2  wrong usage   3  `status`: no server is running
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; usage errors and `--help` raise `SystemExit`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["demo"]:  # it has arguments of its own
        from blissdata.demo.__main__ import main as demo

        return _exit_code(lambda: demo(arguments[1:]))
    parsed = _parser().parse_args(arguments)
    return _exit_code(lambda: parsed.run(parsed))


def _exit_code(command: Callable[[], int | None]) -> int:
    try:
        return command() or 0
    except BlissdataError as error:
        print(f"blissdata: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `blissdata … | head`
        sys.stdout = None  # nothing is left to flush it to
        return 1
    except KeyboardInterrupt:
        print("blissdata: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    from blissdata.cli import serve, status, stop

    parser = argparse.ArgumentParser(
        prog="blissdata",
        description="Publish acquisition data once; follow it live or read it again.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"blissdata {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (serve, status, stop):
        command.add_to(commands)
    commands.add_parser("demo", help="publish a measured scan, follow it live, read it again")
    return parser


def _version() -> str:
    try:
        return metadata.version("blissdata")
    except metadata.PackageNotFoundError:
        return "(not installed: run from its sources)"
