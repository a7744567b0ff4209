"""`python -m tests.frames`: frames in earnest, and a report of who got what."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.frames import runs

from blissdata.data_roots import ROOTS_VARIABLE
from blissdata.testing.servers import TestServer

AT_ONCE = 5
"""Detectors that live, and are killed, beside one another."""

RUNS = ((10_000, (512, 512), 0.0), (500, (2048, 2048), 0.0), (2000, (512, 512), 100.0))
"""Frames, their shape, how many per second: as many as the machine allows, which leaves readers behind the ring,
and so few that they keep up."""


def main() -> None:
    """Runs all parts, or those that are named; exit code 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.frames", description=__doc__)
    parser.add_argument("parts", nargs="*", default=["readers", "torn", "kills"])
    parser.add_argument(
        "--scale", type=float, default=1.0, help="a part of everything (default: 1)"
    )
    parser.add_argument("--directory", help="where files go, and are removed from")
    options = parser.parse_args()
    wrong = 0
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}", flush=True)
    with (
        tempfile.TemporaryDirectory(dir=options.directory) as name,
        TestServer(tcp=True, save="", appendonly="no") as server,
    ):
        os.environ[ROOTS_VARIABLE] = name
        url, directory = runs.prepared(server.url), Path(name)
        if "readers" in options.parts:
            for frames, shape, rate in RUNS:
                count = max(10, int(frames * options.scale))
                file = directory / "run.h5"
                run = runs.everybody_reads(url, file, count, shape, rate=rate)
                print(run, flush=True)
                file.unlink()
                wrong += sum(got["wrong"] + got["gone"] for got in run.readers.values())
                wrong += sum(got["right"] != count for got in run.readers.values())
        if "torn" in options.parts:
            for frames, nbytes in ((1_000_000, 2**14), (2000, 2**23)):
                found = runs.hunt(max(10, int(frames * options.scale)), nbytes)
                print(f"torn-frame hunt, frames of {nbytes} bytes: {found}", flush=True)
                wrong += found["torn"]
        if "kills" in options.parts:
            begin = time.monotonic()
            seeds = range(max(2, int(30 * options.scale)))
            with ThreadPoolExecutor(AT_ONCE) as pool:
                killed = list(pool.map(partial(runs.kill, url, directory), seeds))
            for one in killed:
                print(f"killed: {one}")
                wrong += one["wrong"] + one["left"]
            print(f"{len(killed)} detectors killed in {time.monotonic() - begin:.0f} s", flush=True)
    print("everything was right" if not wrong else f"WRONG: {wrong}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
