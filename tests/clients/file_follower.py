"""Reads a file that somebody is writing, with whichever blissdata it is run with, one step at a time.

A line of JSON on stdin, `[file, options, [expression, …]]`, says which. For each empty line behind it
the program takes one step: opens the file, evaluates the next expression, or takes its next item; and
says on stdout what came of it. An expression sees the open file as `f`; behind a `*` it is iterated, and
behind `d = ` it is kept as `d`.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from file_reads import told


def steps(path: str, options: dict[str, Any], expressions: list[str]) -> Iterator[str]:
    """What each step gives."""
    kind = importlib.import_module("blissdata.h5api.dynamic_hdf5")
    with kind.File(path, **options) as file:
        names: dict[str, Any] = {"f": file, "np": np}
        yield "open"
        for expression in expressions:
            try:
                if expression.startswith("*"):
                    for item in eval(expression[1:], names):  # noqa: S307 — the test's own
                        yield told(item)
                    yield "end"
                elif expression.startswith("d = "):
                    names["d"] = eval(expression[4:], names)  # noqa: S307
                    yield "kept"
                else:
                    yield told(eval(expression, names))  # noqa: S307
            except Exception as error:
                yield f"raises {type(error).__name__}"


def main() -> None:
    """Begins anew for each `[file, options, [expression, …]]`; one step for each empty line."""
    warnings.simplefilter("ignore")
    steps_left: Iterator[str] = iter(())
    for line in sys.stdin:
        if line.strip():
            steps_left = steps(*json.loads(line))
        else:
            print(next(steps_left, "nothing more"), flush=True)


if __name__ == "__main__":
    main()
