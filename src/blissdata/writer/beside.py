"""The writer beside a local server: `python -m blissdata.writer.beside --roots DIRS`.

Its supervisor writes the server's URL to its stdin, and keeps that open: when it is gone, so is this. With
`--tell`, its stdout is the terminal of whoever started that supervisor.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType

from blissdata.data_roots import DataRoots
from blissdata.exceptions import StoreError
from blissdata.redis_engine.store import DataStore
from blissdata.writer.service import Writer, freeze_what_is_loaded

__all__ = ["main"]

_logger = logging.getLogger("blissdata.writer")

STDOUT = 1
"""Its file descriptor."""

CLIENT_NAME = "blissdata-local-upkeep"
"""Connections of this name do not count as somebody who uses the server."""


def main() -> int:
    """The exit code: 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--roots", required=True)
    parser.add_argument("--tell", action="store_true")
    arguments = parser.parse_args()
    roots = DataRoots(tuple(arguments.roots.split(os.pathsep)), "serve --write")
    url = sys.stdin.readline().strip()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(process)d:writer %(asctime)s %(levelname)s %(message)s",
    )
    _logger.setLevel(logging.INFO)
    if not url:
        return 0
    try:
        store = _opened(url)
    except StoreError as error:
        _logger.error("%s", error)
        return 1
    with store:
        writer = Writer(store, roots, say=_tell if arguments.tell else _logger.info)

        def stop(number: int, frame: FrameType | None) -> None:
            writer.stop()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, stop)
        threading.Thread(target=_stop_at_the_end, args=[writer], daemon=True).start()
        freeze_what_is_loaded()
        writer.run()
    return 0


def _tell(text: str) -> None:
    """For the log, and for people. Where nobody reads any more, nobody is waited for: the scans are more
    important."""
    _logger.info("%s", text)
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
    with suppress(OSError):
        if select.select([], [STDOUT], [], 0)[1]:
            os.write(STDOUT, f"{shown}\n".encode(errors="backslashreplace"))


def _opened(url: str) -> DataStore:
    named = f"{url}{'&' if '?' in url else '?'}client_name={CLIENT_NAME}"
    try:
        return DataStore(named, init_db=False)
    except StoreError:  # nobody has prepared the server yet
        return DataStore(named, init_db=True)


def _stop_at_the_end(writer: Writer) -> None:
    """Waits for the supervisor's end. Daemonic: it waits for nothing else."""
    sys.stdin.read()
    writer.stop()


if __name__ == "__main__":
    sys.exit(main())
