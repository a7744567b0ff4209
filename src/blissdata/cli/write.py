"""`blissdata write`: every scan into its HDF5 file, as it comes."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blissdata.cli.exits import UsageError, note
from blissdata.cli.names import add_server_option
from blissdata.cli.text import printable

if TYPE_CHECKING:
    from types import FrameType

    from blissdata.data_roots import DataRoots
    from blissdata.writer.service import Writer

__all__ = ["add_to"]

_DESCRIPTION = """\
Write every scan of a server into the HDF5 file that it names, while it is published, until Ctrl-C. The
file has what the live file has: the scan's layout, or NeXus made of its streams. It can be read at every
instant, by any HDF5 reader, and is complete up to a second ago.

Files are made and changed below the roots alone. A file that this writer did not begin is never touched.
What is not written yet stays on the server (a pin named `writer`). A writer that was killed goes on where
it was. A scan that cannot be written is told of, here and by `blissdata status`, and stops no other one;
its data stay on the server until you try again (--retry) or remove the pin (`blissdata pins`)."""

_EXAMPLES = """\
examples:
  blissdata write --roots /data/visitor --url redis://host:6379
  BLISSDATA_DATA_ROOTS=/data/visitor blissdata write
  blissdata write --roots /data --retry           those that have failed are tried again
  blissdata write --roots /data --all             also scans that ended before any writer ran: it says
                                                  how many of them have no file when it begins

exit codes: 0 it was told to end, 1 it could not begin (the reason is on stderr), 2 wrong usage
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
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from blissdata import DataStore
    from blissdata.writer.service import Writer

    roots = _roots(arguments.roots)
    retry = arguments.retry
    with DataStore(arguments.url) as store:
        writer = Writer(
            store,
            roots,
            compression=arguments.compression,
            retry=() if retry is None else (retry or True),
            all_scans=arguments.all,
            say=lambda text: print(printable(text), flush=True),
        )
        with _warnings_on_stderr(), _ended_by_signals(writer):
            writer.run()
    return 0


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
def _warnings_on_stderr() -> Iterator[None]:
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note(record.getMessage())

    handler = Handler(logging.WARNING)
    logger = logging.getLogger("blissdata")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def _ended_by_signals(writer: Writer) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        writer.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
