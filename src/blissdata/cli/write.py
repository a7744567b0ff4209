"""`blissdata write`: every scan into its HDF5 file, as it comes."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blissdata.cli.exits import BROKEN_PIPE, INTERRUPTED, UsageError, forget_stdout
from blissdata.cli.names import add_server_option, store_to_read
from blissdata.cli.text import printable

if TYPE_CHECKING:
    from types import FrameType

    from blissdata.cli.progress import ProgressBars
    from blissdata.data_roots import DataRoots
    from blissdata.writer.report import Event
    from blissdata.writer.service import Writer

__all__ = ["add_to"]

SHOW_CURSOR = b"\x1b[?25h"
"""What a terminal needs that bars were on."""

_DESCRIPTION = """\
Write every scan of a server into the HDF5 file that it names, while it is published, until Ctrl-C. The
file has what the live file has: the scan's layout, or NeXus made of its streams. It can be read at every
instant, by any HDF5 reader, and is complete up to a second ago.

Files are made and changed below the roots alone. A file that this writer did not begin is never touched.
What is not written yet stays on the server (a pin named `writer`). Ctrl-C ends it within seconds: what it
has read is written, and the next writer goes on; so it does after a kill. A scan that cannot be written is
told of, here and by `blissdata status`, and stops no other one; its data stay on the server until you have
mended what is wrong and try again (--retry), or remove the pin (`blissdata pins`).

On a terminal there is a bar for each scan: points in the file, of those that there will be."""

_EXAMPLES = """\
examples:
  blissdata write --roots /data/visitor --url redis://host:6379
  BLISSDATA_DATA_ROOTS=/data/visitor blissdata write
  blissdata write --roots /data --retry           those that have failed are tried again
  blissdata write --roots /data --retry KEY       this one alone; `blissdata status` has the keys. Where
                                                  another writer is at work, that one is asked to
  blissdata write --roots /data --all             also scans that ended before any writer ran: it says
                                                  how many of them have no file when it begins
  blissdata write --roots /data --json | jq -r 'select(.event == "failed") | .reason'
                                                  what went wrong, for scripts

in JSON, each line is an object: `event` (begun, progress, written, failed, stopped), `at` [Unix time, s],
`scan` (its key), `number`, `files`, `points` (in the file, of all streams), `behind`, `expected` (null if
the scan does not say), `reason`, `remarks` (items that were left out); what people read is on stderr

exit codes: 0 it was told to end (SIGTERM), 1 it could not begin (the reason is on stderr), 2 wrong usage,
130 Ctrl-C, 141 whoever read the output has left
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "write",
        help="write every scan into its HDF5 file",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_server_option(parser)
    parser.add_argument(
        "--roots",
        metavar="DIRS",
        help=f"directories below which files may be written, separated by '{os.pathsep}' "
        "(default: $BLISSDATA_DATA_ROOTS; without either it does not begin)",
    )
    parser.add_argument(
        "--compression",
        choices=("auto", "none", "gzip", "bitshuffle"),
        default="auto",
        help="how images and long spectra are stored; auto: gzip where it keeps up with the scan",
    )
    parser.add_argument(
        "--retry",
        nargs="*",
        metavar="KEY",
        help="try scans again that have failed: those with these keys, or all",
    )
    parser.add_argument(
        "--all", action="store_true", help="also scans that were closed before any writer ran"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object for each event")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from blissdata.cli.progress import progress_bars
    from blissdata.writer.service import Writer, freeze_what_is_loaded

    roots = _roots(arguments.roots)
    retry = arguments.retry
    with store_to_read(arguments.url) as store, progress_bars() as bars:
        shown = _Shown(bars, as_json=arguments.json)
        writer = Writer(
            store,
            roots,
            compression=arguments.compression,
            retry=() if retry is None else (retry or True),
            all_scans=arguments.all,
            say=shown.say,
            watch=shown.event,
        )
        shown.stop = writer.stop
        with _warnings_on_stderr(bars), _ended_by_signals(writer) as signals:
            freeze_what_is_loaded()
            writer.run()
    if shown.nobody_reads:
        forget_stdout()
        return BROKEN_PIPE
    return INTERRUPTED if signal.SIGINT in signals else 0


class _Shown:
    """What people, or programs, see of the writer. When nobody reads any more, the writer is told to end:
    that is no trouble of any scan's."""

    def __init__(self, bars: ProgressBars, *, as_json: bool) -> None:
        self._bars = bars
        self._as_json = as_json
        self.nobody_reads = False
        self.stop: Callable[[], None] = lambda: None

    def say(self, text: str) -> None:
        """A line for people, from any thread."""
        if self._as_json:
            self._bars.say(text)
        else:
            self._print(printable(text))

    def event(self, event: Event) -> None:
        """What has become of a scan."""
        if self._as_json:
            self._print(event.to_json())
        scan = event.scan
        if event.kind in ("begun", "progress"):
            title = printable(", ".join(map(_short, scan.files)))
            self._bars.at(scan.scan, title, scan.points, event.expected, scan.behind)
        else:
            self._bars.end(scan.scan)

    def _print(self, text: str) -> None:
        if self.nobody_reads:
            return
        try:
            self._bars.print(text)
        except BrokenPipeError:
            self.nobody_reads = True
            self.stop()
        except OSError:  # the disk that has this output is full: no trouble of the scan's either
            pass


def _short(where: str) -> str:
    """A file and the entry in it, without the file's directory."""
    file, _, entry = where.rpartition("::")
    return f"{os.path.basename(file)}::{entry}"


def _roots(given: str | None) -> DataRoots:
    from blissdata.data_roots import ROOTS_VARIABLE, DataRoots

    text = os.environ.get(ROOTS_VARIABLE, "") if given is None else given
    directories = [os.path.abspath(one) for one in text.split(os.pathsep) if one]
    if not directories:
        raise UsageError(
            "the writer needs to know below which directories it may make files: give --roots, or "
            f"set ${ROOTS_VARIABLE}"
        )
    missing = [one for one in directories if not os.path.isdir(one)]
    if missing:
        raise UsageError(f"{missing[0]} is not a directory")
    return DataRoots(tuple(directories), f"${ROOTS_VARIABLE}" if given is None else "--roots")


@contextmanager
def _warnings_on_stderr(bars: ProgressBars) -> Iterator[None]:
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            bars.say(record.getMessage())

    handler = Handler(logging.WARNING)
    logger = logging.getLogger("blissdata")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def _ended_by_signals(writer: Writer) -> Iterator[list[int]]:
    """The signals that came. The first one makes the writer end; at another one the program ends at once, as
    at a kill, which costs no file anything."""
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if came:
            if sys.stderr is not None and sys.stderr.isatty():
                os.write(sys.stderr.fileno(), SHOW_CURSOR)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        came.append(number)
        writer.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
