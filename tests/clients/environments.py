"""Environments of other programs: blissdata 2.x and its clients, and ours with clients of every age.

    python = environment("peer")           # built on first use, some 30 s; afterwards at once
    python -m tests.clients.environments peer ours-oldest        # the same from the shell

They are kept in `$BLISSDATA_TEST_CACHE`, else in the user's cache directory, under a name that holds
a hash of what is in them. Where ours is in one, it is this checkout, installed editable: it follows
the source. Two processes that need the same one build it once; one that was interrupted half-way is
built anew. Nothing is imported here but the standard library.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["RECIPES", "EnvironmentUnavailableError", "Recipe", "environment"]

CHECKOUT = Path(__file__).parents[2]

HERE = "here"
"""The environment that this program runs in."""

FRESH_S = 30 * 86400.0
"""After this time [s] an environment that holds the newest of anything is built anew."""

STEP_TIMEOUT_S = 900.0
"""No step of pip takes longer than this [s]."""


class EnvironmentUnavailableError(RuntimeError):
    """pip cannot reach what an environment needs."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is in an environment."""

    steps: tuple[tuple[str, ...], ...]
    """What pip installs, one step after another. `OURS` stands for this checkout."""
    floating: bool = False
    """It holds the newest version of something."""

    def of_this_checkout(self) -> bool:
        """Whether ours is in it."""
        return any(OURS in step for step in self.steps)


OURS = "blissdata @ this checkout"

PEER = ("blissdata==2.4.5", "redis<8", "redis-om<1.3", "pydantic<2.14")
"""blissdata 2.4.5 asks for no upper bounds, and does not work above these."""

WRITER = "blisswriter==3.0.0"

PLUGINS = ("blissdata-lima2==2.0.2", "blissdata-mosca==2.0.5")
"""Packages that bring plugins for streams."""

NEIGHBOURS = (WRITER, "ewoksdata==2.2.1", *PLUGINS)
"""Programs that ask for a `blissdata` of these days, each with a range of its own."""

ASKER = ("schemathesis==4.32.5",)
"""What asks an HTTP API everything that its OpenAPI document allows, and more."""

NEXUS_READER = ("nexusformat==2.1.0",)
"""What people who know NeXus read files with."""

IDENTITIES = "redis-om<1.3"
"""What existing programs define identity models with."""


def floors() -> list[str]:
    """The oldest versions that pyproject.toml allows, as requirements; the server's is left out."""
    dependencies = [text for text in _project(CHECKOUT)["dependencies"] if ";" not in text]
    return [text.replace(">=", "==") for text in dependencies]


def _project(checkout: Path) -> dict[str, Any]:
    """What pip needs to know of ours."""
    project: dict[str, Any] = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    return project


RECIPES = {
    "peer": Recipe((PEER,)),
    "peer-tango": Recipe(((*PEER, "pytango>=10"),)),
    "peer-writer": Recipe(((*PEER, *NEIGHBOURS),)),
    "nexusformat": Recipe((NEXUS_READER,)),
    "schemathesis": Recipe((ASKER,)),
    "ours-oldest": Recipe(((OURS, *floors()),)),
    "ours-redis5": Recipe(((OURS, "redis==5.0.0"),)),
    "ours-redis7": Recipe(((OURS, "redis==7.*"),)),
    "ours-newest": Recipe(((OURS,),), floating=True),
    "ours-writer": Recipe(((OURS,), (*NEIGHBOURS, IDENTITIES)), floating=True),
}


def environment(name: str) -> Path:
    """The Python of that environment (a key of `RECIPES`, or `here`: this one); builds it if need be,
    and says so on stderr. Blocks while another process builds it.

    Raises `EnvironmentUnavailableError` when pip cannot reach what it needs, `KeyError` for an unknown
    name."""
    if name == HERE:
        return Path(sys.executable)
    if name in _unavailable:
        raise _unavailable[name]
    try:
        return built(name, RECIPES[name], cache_directory())
    except EnvironmentUnavailableError as error:
        _unavailable[name] = error
        raise


_unavailable: dict[str, EnvironmentUnavailableError] = {}
"""What could not be built is not tried again by this process."""


def cache_directory() -> Path:
    """Where environments are kept."""
    chosen = os.environ.get("BLISSDATA_TEST_CACHE")
    if chosen:
        return Path(chosen)
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "blissdata-tests"


def built(name: str, recipe: Recipe, cache: Path) -> Path:
    """The Python of the environment of that recipe in that cache; see `environment`."""
    place = _place(name, recipe, cache)
    with _locked(place.with_name(place.name + ".lock")):
        if not _is_finished(place, recipe):
            _forget_others(name, place)
            _build(name, recipe, place)
    return place / "bin" / "python"


def _place(name: str, recipe: Recipe, cache: Path) -> Path:
    parts = [sys.version, json.dumps(recipe.steps)]
    if recipe.of_this_checkout():
        parts += [str(CHECKOUT), json.dumps(_project(CHECKOUT))]
    return cache / f"{name}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:12]}"


def _is_finished(place: Path, recipe: Recipe) -> bool:
    try:
        age = time.time() - (place / "finished").stat().st_mtime
    except FileNotFoundError:
        return False
    return not recipe.floating or age < FRESH_S


def _build(name: str, recipe: Recipe, place: Path) -> None:
    began = time.monotonic()
    _say(f"building environment {name} in {place} …")
    shutil.rmtree(place, ignore_errors=True)
    venv = [sys.executable, "-m", "venv", str(place)]
    _run(venv if recipe.steps else [*venv, "--without-pip"], name)
    if recipe.of_this_checkout():
        (place / "checkout").write_text(str(CHECKOUT))
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    pip += ["--disable-pip-version-check", "--no-input", "--retries", "2"]
    for step in recipe.steps:
        _run([*pip, *_arguments(step)], name)
    marker = place / "finished"
    marker.with_suffix(".new").touch()
    marker.with_suffix(".new").rename(marker)
    _say(f"environment {name} is built, {time.monotonic() - began:.0f} s")


def _arguments(step: tuple[str, ...]) -> Iterator[str]:
    for requirement in step:
        if requirement == OURS:
            yield "--editable"
            yield str(CHECKOUT)
        else:
            yield requirement


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=STEP_TIMEOUT_S,
        check=False,
    )
    if done.returncode == 0:
        return
    # pip warns of each place where it found nothing, once for every package
    said = [line for line in done.stdout.splitlines() if not line.startswith("WARNING: Location")]
    raise EnvironmentUnavailableError(
        f"Environment {name} cannot be built. Is the package index reachable?\n"
        f"$ {' '.join(command)}\n" + "\n".join(said[-15:])
    )


def _forget_others(name: str, place: Path) -> None:
    """Removes the environments of checkouts that are no longer there, and what environment `name` of
    this checkout was before it goes into `place`."""
    for note in place.parent.glob("*/checkout"):
        other, checkout = note.parent, Path(note.read_text())
        superseded = checkout == CHECKOUT and other.name.rpartition("-")[0] == name
        gone = not (checkout / "pyproject.toml").exists()
        if other != place and (superseded or gone):
            with _locked(other.with_name(other.name + ".lock")) as lock:
                shutil.rmtree(other, ignore_errors=True)
                lock.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[Path]:
    """Alone among all processes of this machine; blocks while another one holds the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open(path, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_same_file(path, lock.fileno()):
                continue  # it was removed meanwhile, and another process may hold the new one
            yield path
            return


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Builds those that are named, and prints where their Pythons are."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients.environments")
    parser.add_argument("names", nargs="+", choices=list(RECIPES), metavar="NAME")
    for name in parser.parse_args().names:
        try:
            print(environment(name))
        except EnvironmentUnavailableError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
