"""Packages that ask for blissdata, installed after ours from the index: pip keeps ours, they import.

Ours is there as a wheel, as a user has it, in an environment of its own that nobody else uses.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clients.environments import (
    CHECKOUT,
    NEIGHBOURS,
    EnvironmentUnavailableError,
    environment,
)

__all__ = ["after_ours"]

PACKAGES = [requirement.partition("==")[0].replace("-", "_") for requirement in NEIGHBOURS]

LIST = """
import importlib, json, pkgutil, sys
found = {}
for package in sys.argv[1:]:
    names = [package]
    top = importlib.import_module(package)
    names += [m.name for m in pkgutil.walk_packages(top.__path__, package + ".", onerror=str)]
    for name in names:
        if "test" not in name:
            try:
                importlib.import_module(name)
                found[name] = "imported"
            except BaseException as error:
                found[name] = f"{type(error).__name__}: {error}"
json.dump(found, sys.stdout)
"""

VERSIONS = """
import json, sys
from importlib.metadata import distribution, distributions
import blissdata
d = distribution("blissdata")
found = {"version": d.version, "module": blissdata.__version__, "file": blissdata.__file__,
         "origin": json.loads(d.read_text("direct_url.json") or "{}").get("url", ""),
         "how many": sum(x.metadata["Name"] == "blissdata" for x in distributions())}
json.dump(found, sys.stdout)
"""


def after_ours() -> tuple[int, list[str]]:
    """How many things were looked at, and what was wrong.

    Every module that imports beside 2.4.5 must import beside ours."""
    with _ours_from_a_wheel() as (python, wheel):
        before = _json(python, VERSIONS)
        _pip(python, "install", *NEIGHBOURS)
        after = _json(python, VERSIONS)
        wrong = []
        if before != after:
            wrong.append(f"pip replaced ours: {before} before, {after} after")
        if after["how many"] != 1 or wheel not in str(after["origin"]):
            wrong.append(f"what is installed is not our wheel {wheel}: {after}")
        checked = _run([python, "-m", "pip", "check"])
        if checked.returncode:
            wrong.append(f"pip check: {checked.stdout}")
        beside_2x = _json(environment("peer-writer"), LIST, *PACKAGES)
        beside_ours = _json(python, LIST, *PACKAGES)
        wrong += [
            f"import {name}: {beside_ours.get(name)}"
            for name, result in beside_2x.items()
            if result == "imported" and beside_ours.get(name) != "imported"
        ]
    return 4 + len(beside_2x), wrong


@contextmanager
def _ours_from_a_wheel() -> Iterator[tuple[Path, str]]:
    """An environment's Python, and the name of the wheel in it."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        _required([Path(sys.executable), "-m", "venv", str(place / "v")])
        python = place / "v" / "bin" / "python"
        _pip(python, "wheel", "--no-deps", "--wheel-dir", str(place), str(CHECKOUT))
        (wheel,) = place.glob("blissdata-*.whl")
        _pip(python, "install", str(wheel))
        yield python, wheel.name


def _pip(python: Path, command: str, *arguments: str) -> None:
    _required([python, "-m", "pip", command, "--quiet", "--no-input", *arguments])


def _required(command: list[Path | str]) -> None:
    done = _run(command)
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if not line.startswith("WARNING: Loc")]
        raise EnvironmentUnavailableError("\n".join([" ".join(map(str, command)), *said[-15:]]))


def _json(python: Path, program: str, *arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [python, "-c", program, *arguments],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _run(command: list[Path | str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
