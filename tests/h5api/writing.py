"""A program that writes HDF5 files, in a process of its own, and a handler that tells of its looks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from blissdata.h5api.utils.bliss import BlissDynamicHDF5Handler

DEADLINE_S = 30.0

_PROGRAM = """
import os, sys, time
import h5py, numpy as np

names = {"h5py": h5py, "np": np, "os": os, "time": time}
names.update(names=names, known={*names, "names", "known", "__builtins__", "name", "value"})
for line in sys.stdin:
    try:
        exec(eval(line), names)
    except BaseException as error:
        print(repr(error), flush=True)
    else:
        print("done", flush=True)
"""


class Writer:
    """Another process, which executes one statement after the other in a directory. It knows h5py,
    numpy as `np`, `os` and `time`; what it names, it keeps."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            cwd=directory,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, statements: str) -> None:
        """Executes them, and returns when that is done."""
        assert self.process.stdin
        assert self.process.stdout
        print(repr(statements), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().strip()
        assert answer == "done", answer

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(DEADLINE_S)
        self.process.stdout.close()


class Watched(BlissDynamicHDF5Handler):
    """A handler that counts how often it looked for something."""

    tries = 0

    def _item(self, name: str) -> Any:
        self.tries += 1
        return super()._item(name)
