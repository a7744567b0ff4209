"""The page as it is built: how much a browser loads first, and a build that cannot make it."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from blissdata.viewer.app import PAGE, page_is_built
from blissdata.viewer.build_note import why_not_built

ROOT = Path(__file__).parents[2]

FIRST_LOAD_NBYTES = 600_000
"""Compressed, without H5Web."""

IN_A_PACKAGE = ["src", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE", "changes"]


def test_the_first_load_is_small_and_without_h5web() -> None:
    if not page_is_built():
        pytest.skip(f"the page was not built: {why_not_built()}")
    html = (PAGE / "index.html").read_text()
    loaded = [PAGE / one for one in re.findall(r'(?:src|href)="\./([^"]+)"', html)]
    assert any(one.suffix == ".js" for one in loaded)
    scripts = [one.read_bytes() for one in loaded]
    assert sum(len(gzip.compress(one)) for one in [html.encode(), *scripts]) <= FIRST_LOAD_NBYTES
    assert not any(b"h5grove" in one or b"WebGLRenderer" in one for one in scripts)


@pytest.mark.slow
def test_where_node_fails_the_package_has_no_page_and_says_why(tmp_path: Path) -> None:
    source, programs = tmp_path / "source", tmp_path / "programs"
    source.mkdir()
    for name in IN_A_PACKAGE:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("static", "static.why", "__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "web", source / "web", ignore=shutil.ignore_patterns("node_modules"))
    programs.mkdir()
    for name, said in (
        ("node", "echo v22.13.0"),
        ("npm", "echo 'npm error: the registry is not to be reached' >&2; exit 1"),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{said}\n")
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, source]
    environment = {**os.environ, "PATH": path, "BLISSDATA_PAGE": ""}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert not any("viewer/static/" in name for name in names)
        note = archive.read("blissdata/viewer/static.why").decode()
    assert "the registry is not to be reached" in note
    environment["BLISSDATA_PAGE"] = "required"
    refused = subprocess.run(command, check=False, env=environment, capture_output=True)
    assert refused.returncode != 0
