"""`python -m tests.acquisition`: acquisitions of four times the server's memory, and what each reader saw.

At full speed, with a memory tracker, a file writer (undisturbed, or killed and restarted half-way; with a pin,
or within the protected history alone), two readers from the start, one that begins at the end and one that
comes afterwards. The exit code is 1 if one point was wrong or missed, or memory was exceeded.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import tempfile
from pathlib import Path

from tests.acquisition.run import MB, Plan, acquire


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.acquisition", description=__doc__)
    parser.add_argument(
        "--limit", type=int, default=256, metavar="MB", help="memory (default %(default)s)"
    )
    parser.add_argument("--stack", action="store_true", help="on a server of protocol 1")
    arguments = parser.parse_args()
    logging.getLogger("blissdata").addHandler(logging.NullHandler())  # a full server is no news
    faults = 0
    for pin, kill in itertools.product((False, True), (False, True)):
        with tempfile.TemporaryDirectory(prefix="bd-") as directory:
            plan = Plan(arguments.limit * MB, pin, kill, stack=arguments.stack)
            outcome = acquire(plan, Path(directory))
        print(outcome.report(), flush=True)
        faults += len(outcome.faults())
    print(f"{faults} faults")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
