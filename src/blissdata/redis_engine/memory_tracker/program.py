"""The command line of the memory tracker, as blissdata 2.x has it."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from blissdata.exceptions import ServerNotEmptyError, StoreError
from blissdata.redis_engine.memory_tracker.options import Options, add_arguments, options_from
from blissdata.redis_engine.memory_tracker.service import Service
from blissdata.redis_engine.store import DataStore

__all__ = ["main", "say_on_stdout", "track"]

_logger = logging.getLogger("blissdata.redis_engine.memory_tracker")

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 + SIGINT, as shells say it."""

FORMAT = "%(asctime)s %(levelname)s: %(message)s"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until it is interrupted; the exit code: 1 if it cannot begin."""
    parser = argparse.ArgumentParser(
        prog="memory_tracker",
        description="Keep a blissdata server from filling up: forget the oldest points, let closed "
        "scans expire, delete dead ones.",
    )
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    try:
        options = options_from(arguments)
    except ValueError as error:
        parser.error(str(error))
    with say_on_stdout():
        return track(arguments.redis_url, options, arguments.init_db)


def track(url: str | None, options: Options, init_db: bool) -> int:
    """Keeps the server at `url` until SIGTERM or SIGINT; the exit code, after SIGINT that of shells."""
    try:
        store = _open(url, init_db)
    except StoreError as error:
        _logger.error("%s", error)
        return 1
    with store:
        info = store.backend.info()
        if not info.max_memory:
            _logger.error(
                "Redis database has no 'maxmemory' configured, please update Redis configuration."
            )
            return 1
        service = Service(store, options)
        service.announce(info)
        with _ended_by_signals(service) as came:
            service.run()
    return INTERRUPTED if signal.SIGINT in came else 0


def _open(url: str | None, init_db: bool) -> DataStore:
    if not init_db:
        return DataStore(url)
    try:
        return DataStore(url, init_db=True)
    except ServerNotEmptyError:  # prepared by somebody before, and in use
        return DataStore(url)


@contextmanager
def say_on_stdout() -> Iterator[None]:
    """What the tracker says goes to stdout, line by line, as services read it."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(FORMAT))
    level, propagate = _logger.level, _logger.propagate
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
    try:
        yield
    finally:
        _logger.removeHandler(handler)
        _logger.setLevel(level)
        _logger.propagate = propagate


@contextmanager
def _ended_by_signals(service: Service) -> Iterator[list[int]]:
    """The signals that came."""
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        service.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
