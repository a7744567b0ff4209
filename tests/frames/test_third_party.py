"""The plugin in docs/how-to/write-a-plugin.md is a package that keeps the contract of plugins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-plugin.md"
BLOCK = re.compile(r"```(?:python|toml)\n(.*?)```", re.DOTALL)


@pytest.mark.slow
def test_the_plugin_of_the_documentation_keeps_the_contract(tmp_path: Path) -> None:
    module, project, tests = BLOCK.findall(PAGE.read_text())
    (tmp_path / "tiff_references.py").write_text(module)
    (tmp_path / "test_tiff_references.py").write_text(tests)
    about = tomllib.loads(project)["project"]
    installed = tmp_path / f"tiff_references-{about['version']}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
    )
    points = "".join(f"{k} = {v}\n" for k, v in about["entry-points"]["blissdata"].items())
    (installed / "entry_points.txt").write_text(f"[blissdata]\n{points}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
    assert " failed" not in done.stdout
