"""The memory tracker beside a local server: `python -m blissdata.redis_engine.memory_tracker.beside
[--pin-limit LIMIT]`.

Its supervisor writes the server's URL to its stdin, and keeps that open: when it is gone, so is this.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from types import FrameType

from blissdata.exceptions import StoreError
from blissdata.redis_engine.limits import PinLimit
from blissdata.redis_engine.memory_tracker.options import Options
from blissdata.redis_engine.memory_tracker.service import Service
from blissdata.redis_engine.store import DataStore

__all__ = ["main"]

CLIENT_NAME = "blissdata-local-upkeep"
"""Connections of this name do not count as somebody who uses the server."""


def main() -> int:
    """The exit code: 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pin-limit", type=PinLimit.argument, default=Options().pin_limit)
    options = Options(yielding=True, pin_limit=parser.parse_args().pin_limit)
    url = sys.stdin.readline().strip()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(process)d:tracker %(asctime)s %(levelname)s %(message)s",
    )
    if not url:
        return 0
    try:
        store = DataStore(_named(url), init_db=False)
    except StoreError:
        return _prepared(url, options)
    with store:
        _keep(store, options)
    return 0


def _prepared(url: str, options: Options) -> int:
    """Nobody has prepared the server yet: it is ours to prepare."""
    try:
        store = DataStore(_named(url), init_db=True)
    except StoreError as error:
        logging.getLogger(__name__).error("%s", error)
        return 1
    with store:
        _keep(store, options)
    return 0


def _keep(store: DataStore, options: Options) -> None:
    service = Service(store, options, ends_with=sys.stdin.fileno())

    def stop(number: int, frame: FrameType | None) -> None:
        service.stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    service.run()


def _named(url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}client_name={CLIENT_NAME}"


if __name__ == "__main__":
    sys.exit(main())
