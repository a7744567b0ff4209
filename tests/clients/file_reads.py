"""Reads files through `blissdata.h5api`, whichever blissdata it is run with, and says what came.

Given as JSON on stdin: `[[module, file, options, [expression, …]], …]`; the expressions see the open
file as `f`, and numpy as `np`. The answer, as JSON on stdout, has one text per expression.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from typing import Any

import numpy as np


def told(value: Any) -> str:
    """What a value is, in a form that two processes can compare."""
    if isinstance(value, np.ndarray):
        return f"array {value.dtype} {value.shape} {value.tolist()}"
    if isinstance(value, np.generic):
        return f"{value.dtype} {value.item()!r}"
    if isinstance(value, np.dtype):
        return f"dtype {value}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {[told(one) for one in value]}"
    if type(value).__module__.startswith("blissdata"):
        return f"{type(value).__name__} {value.name}"
    return repr(value)


def result(expression: str, names: dict[str, Any]) -> str:
    """What evaluating gives or raises."""
    try:
        return told(eval(expression, dict(names)))  # noqa: S307 — the test's own expressions
    except Exception as error:
        return f"raises {type(error).__name__}"


def main() -> None:
    """Answers one question."""
    answers = []
    warnings.simplefilter("ignore")
    for module, path, options, expressions in json.load(sys.stdin):
        kind = importlib.import_module(f"blissdata.h5api.{module}")
        found = []
        for expression in expressions:
            with kind.File(path, **options) as file:
                found.append(result(expression, {"f": file, "np": np}))
        answers.append(found)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
