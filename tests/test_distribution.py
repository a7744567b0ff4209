"""What is released: the wheel out of the source distribution is the wheel out of the tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


def tree(directory: Path) -> Path:
    """A copy of what is, or could be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # and not deleted meanwhile
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, directory / name)
    return directory


def built(source: Path, target: str, into: Path) -> Path:
    """The sdist or wheel of a tree, without the page: that one is built and served by
    `python -m tests.viewer.wheel`."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", into],
        cwd=source,
        env={**os.environ, "BLISSDATA_PAGE": "skip"},
        capture_output=True,
        check=True,
    )
    (made,) = into.iterdir()
    return made


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no checkout")
def test_the_wheel_of_the_sdist_is_the_wheel_of_the_tree(tmp_path: Path) -> None:
    source = tree(tmp_path / "tree")
    direct = contents(built(source, "wheel", tmp_path / "direct"))
    with tarfile.open(built(source, "sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again = contents(built(unpacked, "wheel", tmp_path / "again"))
    assert sorted(again) == sorted(direct)
    assert [name for name in direct if again[name] != direct[name]] == []
    # and it is the whole package, with what is no Python
    package = {
        str(path.relative_to(source / "src"))
        for path in (source / "src" / "blissdata").rglob("*")
        if path.is_file()
    }
    assert package <= set(direct)
    # whoever has the sdist can build the page, and run the tests
    for part in ("web", "tests", "benchmarks", "docs"):
        there = {str(p.relative_to(source)) for p in (source / part).rglob("*") if p.is_file()}
        assert [name for name in sorted(there) if not (unpacked / name).exists()] == []
