"""The writer beside a local server: `python -m blissdata.writer.beside --roots DIRS`.

Its supervisor writes the server's URL to its stdin, and keeps that open: when it is gone, so is this.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from types import FrameType

from blissdata.data_roots import DataRoots
from blissdata.exceptions import StoreError
from blissdata.redis_engine.store import DataStore
from blissdata.writer.service import Writer, freeze_what_is_loaded

__all__ = ["main"]

CLIENT_NAME = "blissdata-local-upkeep"
"""Connections of this name do not count as somebody who uses the server."""


def main() -> int:
    """The exit code: 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--roots", required=True)
    roots = DataRoots(tuple(parser.parse_args().roots.split(os.pathsep)), "serve --write")
    url = sys.stdin.readline().strip()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(process)d:writer %(asctime)s %(levelname)s %(message)s",
    )
    logger = logging.getLogger("blissdata.writer")
    logger.setLevel(logging.INFO)
    if not url:
        return 0
    try:
        store = _opened(url)
    except StoreError as error:
        logger.error("%s", error)
        return 1
    with store:
        writer = Writer(store, roots)

        def stop(number: int, frame: FrameType | None) -> None:
            writer.stop()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, stop)
        threading.Thread(target=_stop_at_the_end, args=[writer], daemon=True).start()
        freeze_what_is_loaded()
        writer.run()
    return 0


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
