"""`python -m tests.frames.overrun`: reads a ring whose writer is faster, and checks what it accepted."""

from __future__ import annotations

import select
import sys

import numpy as np
from tests.frames.formula import is_right

from blissdata.streams.frames.ring import RingReader


def main(name: str, slots: int, nbytes: int, stride: int) -> None:
    """Says `ready`, reads until a line comes and once more, then prints what it accepted, what was torn among
    it, and how often it saw that a frame was overwritten under its hands."""
    ring = RingReader.open(name, slots, nbytes)
    out = np.empty(nbytes, np.uint8)
    accepted = torn = overrun = 0
    print("ready", flush=True)
    last = False
    while not last:
        last = bool(
            select.select([0], [], [], 0)[0]
        )  # then the writer has ended: what is there is read
        taken = ring.taken
        for index in range(max(0, taken - slots), taken, stride):
            if ring.read_into(index, out):
                accepted += 1
                torn += not is_right(out, index)
            else:
                overrun += 1
    print(accepted, torn, overrun, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
