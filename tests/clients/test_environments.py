"""Environments of other programs are built once, whole, and kept.

| happens                                | then                                       |
| -------------------------------------- | ------------------------------------------ |
| first use, second use                  | built, not touched                         |
| two processes at once                  | one builds, the other waits                |
| the building was interrupted           | built anew                                 |
| other requirements, another pyproject  | another environment                        |
| the newest of something is 30 days old | built anew                                 |
| the checkout is gone, or has another   | its environments of before go at the next  |
| pyproject                              | building                                   |
| pip reaches nothing                    | an error that says so, nothing is finished |

The package in them is one of ours, two lines long: no index is asked.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.clients import environments
from tests.clients.environments import (
    CHECKOUT,
    OURS,
    RECIPES,
    EnvironmentUnavailableError,
    Recipe,
    built,
    floors,
)

NOTHING = Recipe(())


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def mark(python: Path) -> Path:
    """Something in the environment that is gone when it is built anew."""
    path = python.parents[1] / "mark"
    path.touch()
    return path


def test_an_environment_is_built_once(cache, capsys):
    python = built("empty", NOTHING, cache)
    assert subprocess.run([python, "-c", "import sys; sys.exit(3)"], check=False).returncode == 3
    left = mark(python)
    assert built("empty", NOTHING, cache) == python
    assert left.exists()
    assert capsys.readouterr().err.count("is built") == 1


def test_two_processes_build_it_once(cache):
    program = (
        "import sys; from pathlib import Path; from tests.clients import environments as e\n"
        "print(e.built('empty', e.Recipe(()), Path(sys.argv[1])))"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, cache],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert sum(err.count("is built") for _, err in said) == 1


def test_a_half_built_one_is_built_anew(cache):
    python = built("empty", NOTHING, cache)
    left = mark(python)
    (python.parents[1] / "finished").unlink()
    assert built("empty", NOTHING, cache) == python
    assert not left.exists()


def test_one_that_holds_the_newest_is_built_anew_after_a_while(cache):
    floating = Recipe((), floating=True)
    python = built("floating", floating, cache)
    left = mark(python)
    built("floating", floating, cache)
    assert left.exists()
    long_ago = (python.parents[1] / "finished").stat().st_mtime - environments.FRESH_S - 1
    os.utime(python.parents[1] / "finished", (long_ago, long_ago))
    built("floating", floating, cache)
    assert not left.exists()


def test_environments_of_a_checkout_that_is_gone_are_removed(cache, tmp_path):
    python = built("empty", NOTHING, cache)
    (python.parents[1] / "checkout").write_text(str(tmp_path / "gone"))
    stays = built("one", Recipe((), floating=True), cache)
    assert stays.exists()
    assert not python.parents[1].exists()


def test_what_an_environment_of_this_checkout_was_before_is_removed(cache, monkeypatch):
    before, other = (built(name, NOTHING, cache).parents[1] for name in ("one", "other"))
    for place in (before, other):
        (place / "checkout").write_text(str(CHECKOUT))
    monkeypatch.setattr(sys, "version", "another")
    now = built("one", NOTHING, cache).parents[1]
    assert now != before
    assert now.exists()
    assert other.exists()
    assert not before.exists()


def test_the_name_follows_what_is_in_it(cache, monkeypatch, tmp_path):
    def places() -> list[Path]:
        return [environments._place(name, RECIPES[name], cache) for name in RECIPES]

    before = places()
    assert len(set(before)) == len(RECIPES)
    assert before == places()
    monkeypatch.setattr(environments, "CHECKOUT", tmp_path)
    project = (CHECKOUT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(project.replace('"msgpack>=', '"msgpack>'))
    changed = [name for name, a, b in zip(RECIPES, before, places(), strict=True) if a != b]
    assert changed == [name for name, recipe in RECIPES.items() if recipe.of_this_checkout()]


def test_pip_that_reaches_nothing_is_an_error_that_says_so(cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    recipe = Recipe((("blissdata==2.4.5",),))
    with pytest.raises(EnvironmentUnavailableError) as caught:
        built("unreachable", recipe, cache)
    assert "Is the package index reachable?" in str(caught.value)
    assert "blissdata==2.4.5" in str(caught.value)
    assert "WARNING: Location" not in str(caught.value)
    assert not environments._is_finished(environments._place("unreachable", recipe, cache), recipe)


def test_the_oldest_clients_are_the_floors_of_the_project():
    oldest = RECIPES["ours-oldest"].steps[0]
    assert oldest[0] == OURS
    assert list(oldest[1:]) == floors()
    assert {text.partition("==")[0] for text in floors()} >= {"numpy", "redis", "hiredis", "h5py"}
