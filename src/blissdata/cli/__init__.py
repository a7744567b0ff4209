"""`blissdata` on the command line: one file per subcommand.

`serve`, `status`, `stop`, `track` and `write` work with the core dependencies alone; others name the extra that they
miss. What was asked for goes to stdout, what went wrong to stderr as one message; a traceback is a
fault of ours.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from importlib import metadata

from blissdata.cli import exits
from blissdata.exceptions import BlissdataError

__all__ = ["command_line_parser", "main"]

_EXAMPLES = """\
examples:
  blissdata serve                   run a server for your scans here, until Ctrl-C
  blissdata serve --background      the same, and give the prompt back
  blissdata status                  is it running, who uses it, how full is it
  blissdata stop                    stop it; the data are there again at the next start
  blissdata track --url URL         keep another server from filling up
  blissdata pins                    what must not be forgotten, and for whom
  blissdata write --roots /data     write every scan into its HDF5 file, as it comes
  blissdata demo                    publish a measured scan, follow it live, read it again
  blissdata ls                      which scans there are, the newest first
  blissdata show last               the newest: its header, its streams
  blissdata tail last               its points, as they come, until it ends
  blissdata where last              which points are in memory, in a file, gone
  blissdata delete --oldest 10      make room: forget scans that nobody needs any more
  blissdata web                     scans in the browser
  blissdata top                     running scans and a curve in the terminal
  blissdata replay scan.nxs         publish a measured file as a running scan
  blissdata record last scan.jsonl  write a scan into a file that can be replayed
  blissdata simulate-detector       publish images of a detector that does not exist
  eval "$(blissdata completion bash)"   teach this shell to complete all this

`blissdata COMMAND --help` says more. Programs need none of this: DataStore() starts a server by
itself when there is none.

exit codes:
  0    done
  1    failed (the reason is on stderr)
  2    wrong usage
  3    not there: no such scan or stream; `status`: no server is running
  4    `--timeout` passed
  130  Ctrl-C; 141 whoever read the output has left (`| head`)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; usage errors and `--help` raise `SystemExit`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["demo"]:  # it has arguments of its own
        from blissdata.demo.__main__ import main as demo

        return _exit_code(lambda: demo(arguments[1:]))
    parsed = _parsed(arguments)
    return _exit_code(lambda: parsed.run(parsed))


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """As argparse understands it; streams may be named behind an option as well."""
    parser = command_line_parser()
    parsed, left = parser.parse_known_args(arguments)
    if left:
        if not hasattr(parsed, "streams") or any(word.startswith("-") for word in left):
            parsed.parser.error(f"unrecognized arguments: {' '.join(left)}")
        parsed.streams = [*parsed.streams, *left]
    return parsed


def _exit_code(command: Callable[[], int | None]) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # no terminal is too old for a name
    try:
        code = command() or 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        exits.forget_stdout()
        return exits.BROKEN_PIPE
    except (BlissdataError, OSError) as error:
        exits.note(exits.told(error))
        return exits.code_for(error)
    except KeyboardInterrupt:
        exits.note("interrupted")
        return exits.INTERRUPTED
    return code


def command_line_parser() -> argparse.ArgumentParser:
    """The whole command line, as `argparse` knows it."""
    from blissdata.cli import (
        completion,
        delete,
        ls,
        pins,
        record,
        replay,
        serve,
        show,
        simulate_detector,
        status,
        stop,
        tail,
        top,
        track,
        web,
        where,
        write,
    )

    parser = argparse.ArgumentParser(
        prog="blissdata",
        description="Publish acquisition data once; follow it live or read it again.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"blissdata {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (
        serve,
        status,
        stop,
        track,
        pins,
        write,
        ls,
        show,
        tail,
        where,
        delete,
        web,
        top,
        replay,
        record,
        simulate_detector,
        completion,
    ):
        command.add_to(commands)
    commands.add_parser("demo", help="publish a measured scan, follow it live, read it again")
    for command_parser in commands.choices.values():
        command_parser.set_defaults(parser=command_parser)  # its own usage is what errors show
    return parser


def _version() -> str:
    try:
        return metadata.version("blissdata")
    except metadata.PackageNotFoundError:
        return "(not installed: run from its sources)"
