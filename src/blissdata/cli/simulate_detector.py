"""`blissdata simulate-detector`: a scan with images of a detector that does not exist."""

from __future__ import annotations

import argparse
import math
import re
import time
from pathlib import Path

from blissdata.cli.exits import ending_at_sigterm, note
from blissdata.cli.names import add_server_option

__all__ = ["add_to"]

_DESCRIPTION = """\
Publish a scan of simulated images: powder rings and spots with noise, which nobody measured; the scan says
so. The images go into shared memory, and through a frame server to readers on other hosts; the server
of the scan gets counters alone. When it ends they are gone, unless --save keeps them.
Ctrl-C ends the scan as USER_ABORT."""

_EXAMPLES = """\
examples:
  blissdata simulate-detector                              512x512, 10 a second, 100 of them
  blissdata simulate-detector --shape 2048x2048 --rate 20 --frames 1000 --save /data/run.h5
  blissdata simulate-detector --rate max --host $(hostname) as fast as it can, for readers elsewhere

then, in another shell:
  blissdata where last
  blissdata tail last

exit codes: 0 done, 1 failed (stderr says why), 2 wrong usage, 130 Ctrl-C
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "simulate-detector",
        help="publish images of a detector that does not exist",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--shape", type=_shape, default=(512, 512), metavar="RxC", help="rows × columns (512x512)"
    )
    parser.add_argument(
        "--rate", type=_rate, default=10.0, metavar="N", help="frames per second, or `max` (10)"
    )
    parser.add_argument(
        "--frames", type=_count, default=100, metavar="N", help="how many (%(default)s)"
    )
    parser.add_argument(
        "--slots", type=_count, default=64, metavar="N", help="frames in the ring (%(default)s)"
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="save them to this HDF5 file, which must be new"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="name or address of this host for readers elsewhere (%(default)s: none)",
    )
    parser.add_argument("--no-server", action="store_true", help="for readers on this host alone")
    parser.add_argument("--name", default="simulation", help="of the scan (%(default)s)")
    parser.add_argument("--session", default="simulation", help="(%(default)s)")
    add_server_option(parser)
    parser.set_defaults(run=_run)


def _shape(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    shape = (int(found[1]), int(found[2])) if found else (0, 0)
    if min(shape) < 1:
        raise argparse.ArgumentTypeError(f"expected rows and columns as in 512x512, not {text!r}")
    return shape


def _rate(text: str) -> float:
    if text == "max":
        return math.inf
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(
            f"expected frames per second, a number > 0, or 'max', not {text!r}"
        )
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or int(text[:18]) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, not {text!r}")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    import os

    import numpy as np

    from blissdata import DataStore
    from blissdata.cli.exits import UsageError
    from blissdata.cli.overview import quiet_library
    from blissdata.demo.rings import SimulatedImages
    from blissdata.streams.frames import FrameBuffer, Saving

    if arguments.save is not None and os.path.lexists(arguments.save):
        raise UsageError(
            f"--save: {arguments.save} is there already; name a new file, or move it away"
        )
    saving = None if arguments.save is None else Saving(arguments.save.absolute())
    images = SimulatedImages(arguments.shape)
    identity = {
        "name": arguments.name,
        "number": 1,
        "data_policy": "none",
        "session": arguments.session,
    }
    if arguments.save is not None:
        identity["path"] = str(arguments.save.absolute().with_suffix(".scan.h5"))
    info = {
        "title": "Simulated detector: rings, spots and noise that nobody measured",
        "simulated": True,
        "type": "loopscan",
        "npoints": arguments.frames,
        "count_time": 0.0 if math.isinf(arguments.rate) else 1 / arguments.rate,
        "channels": {"camera": {"dim": 2, "display_name": "simulated camera"}},
        "devices": {"camera": {"name": "camera", "channels": ["camera"]}},
        "acquisition_chain": {"camera": {"top_master": "camera"}},
    }
    with (
        quiet_library(),
        ending_at_sigterm(),
        DataStore(arguments.url) as store,
        FrameBuffer(
            arguments.shape,
            np.uint16,
            arguments.slots,
            saving=saving,
            serve=not arguments.no_server,
            host=arguments.host,
        ) as buffer,
        store.create_scan(identity, info) as scan,
    ):
        scan.create_stream(buffer.definition("camera", {"simulated": True}))
        scan.prepare()
        scan.start()
        kept = (
            ""
            if saving
            else "; not saved: gone from its buffer when this ends, --save FILE keeps them"
        )
        note(f"simulated images, scan {scan.key}{kept}")
        begin = time.monotonic()
        for index in range(arguments.frames):
            time.sleep(max(0.0, begin + index / arguments.rate - time.monotonic()))
            with buffer.writing() as slot:
                images.image(index, slot)
        took = time.monotonic() - begin
        scan.stop()
        print(
            f"{scan.key}  {buffer.taken} simulated frames in {took:.1f} s"
            + (f", {buffer.saved} saved to {arguments.save}" if saving else ", not saved")
        )
    return 0
