"""The supervisor as a process: `python -m blissdata.redis_engine.local_server`.

Run by hand it serves in the foreground, as `blissdata serve` does. `ensure_running` runs it with
`--report-fd`: it then leaves its parent, tells its pid through that descriptor, and, once that is
known, whether the server is ready.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, get_args

from blissdata.exceptions import BlissdataError
from blissdata.redis_engine.local_server import serve
from blissdata.redis_engine.local_server.options import (
    ServerOptions,
    add_arguments,
    from_arguments,
)
from blissdata.redis_engine.local_server.place import Place, StartedBy
from blissdata.redis_engine.local_server.supervisor import Supervisor

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m blissdata.redis_engine.local_server", description="Run a local server."
    )
    parser.add_argument(
        "--directory", help="where it keeps its data (default: the user's own place)"
    )
    parser.add_argument("--started-by", choices=get_args(StartedBy), help=argparse.SUPPRESS)
    parser.add_argument("--report-fd", type=int, help=argparse.SUPPRESS)
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    try:
        options = from_arguments(arguments)
    except ValueError as error:
        parser.error(str(error))
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(process)d:supervisor %(asctime)s %(message)s",
    )
    try:
        if arguments.report_fd is None:
            serve(arguments.directory, options=options)
        else:
            _serve_detached(
                Place.of(arguments.directory),
                options,
                arguments.started_by or "demand",
                arguments.report_fd,
            )
    except (BlissdataError, BrokenPipeError) as error:
        logging.getLogger(__name__).error("%s", error)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # as shells say it
    return 0


def _serve_detached(
    place: Place, options: ServerOptions, started_by: StartedBy, descriptor: int
) -> None:
    """Let the parent's child end, so that it has no zombie, and go on without it."""
    if os.fork():
        os._exit(0)

    def report(**what: Any) -> None:
        os.write(descriptor, json.dumps(what).encode() + b"\n")

    report(pid=os.getpid())  # a broken pipe: nobody waits any more, nothing was started
    answered = False

    def ready() -> bool:
        nonlocal answered
        answered = True
        try:
            report(ready=True)
        except BrokenPipeError:  # whoever wanted it was interrupted
            return False
        finally:
            os.close(descriptor)
        return True

    try:
        Supervisor(place, options, started_by, ready).run()
    except (BlissdataError, OSError) as error:
        if not answered:
            if isinstance(error, OSError) and not isinstance(error, BlissdataError):
                error = place.unusable(error)
            with suppress(BrokenPipeError):
                report(error=str(error))
        raise


if __name__ == "__main__":
    sys.exit(main())
