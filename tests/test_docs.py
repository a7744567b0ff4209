"""The code in the documentation runs, block after block, and prints what it promises.

A block that cannot run here says so in the line above its fence: `<!-- not run: reason -->`. One
that goes on where the block before it ended has `<!-- goes on -->` there.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from blissdata import DataStore
from blissdata.demo import roles
from blissdata.demo.measurement import COPPER
from blissdata.redis_engine.local_server import stop
from blissdata.streams import heartbeat, sink
from blissdata.testing.servers import TestServer

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(<!-- not run: [^\n]+ -->\n)?(<!-- goes on -->\n)?```python\n(.*?)```", re.DOTALL
)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


NEED_A_SCAN = {"watch-a-measurement.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run(
    page: Path,
    plain_store: DataStore,
    server: TestServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("BLISSDATA_URL", server.url)
    monkeypatch.setattr(
        sink, "IDLE_S", 0.1
    )  # not all of them close their store: its thread ends soon
    monkeypatch.setattr(heartbeat, "IDLE_S", 0.1)
    monkeypatch.chdir(tmp_path)  # what they keep, they keep there
    if page.name in NEED_A_SCAN:
        roles.publish(COPPER, pace=1e6)
    names: dict[str, object] = {}
    try:
        for skipped, goes_on, code in BLOCK.findall(page.read_text()):
            if not skipped:
                names = names if goes_on else {"__name__": "__main__"}
                exec(compile(code, str(page), "exec"), names)  # noqa: S102
    finally:
        for place in tmp_path.glob("*/gate.lock"):  # a server of its own would stay for minutes
            stop(place.parent)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_page_of_the_command_line_has_the_help_of_every_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    hooks = runpy.run_path(str(ROOT / "docs" / "_hooks.py"))
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    shown = hooks["on_page_markdown"](page)
    assert "<!--" not in shown
    listed = re.findall(r"^ {4}([a-z-]+)(?: |$)", hooks["help_text"](""), re.MULTILINE)
    assert re.findall(r"^## (\S+)$", page, re.MULTILINE) == listed
    for command in listed:
        assert f"```text\nusage: blissdata {command} " in shown


SHELL = re.compile(
    r"(<!-- not run: [^\n]+ -->\n)?(<!-- in the background -->\n)?```sh\n(.*?)```", re.DOTALL
)


def test_watch_a_measurement(plain_store: DataStore, server: TestServer, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "tutorials" / "watch-a-measurement.md").read_text()
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    command = bin_directory / "blissdata"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nfrom blissdata.cli import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    environment = {
        **os.environ,
        "BLISSDATA_URL": server.url,
        "PATH": f"{bin_directory}:{os.environ['PATH']}",
    }
    background: list[subprocess.Popen[str]] = []
    printed = ""
    try:
        for skipped, behind, code in SHELL.findall(page):
            if skipped:
                continue
            code = code.replace("--pace 50", "--pace 1000")
            shell = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", code],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if behind:
                background.append(shell)
                plain_store.get_next_scan(since=0, timeout=30)
                continue
            out, _ = shell.communicate(timeout=60)
            printed += out
            assert shell.returncode == 0, f"{code}\n{out}"
    finally:
        for shell in background:
            out, _ = shell.communicate(timeout=60)
            assert shell.returncode == 0, out
    assert "8002.894" in printed
    assert "2.262075" in printed
    first, second = plain_store.search_existing_scans()[1]
    for name, stream in plain_store.load_scan(first).streams.items():
        again = plain_store.load_scan(second).streams[name]
        assert np.array_equal(stream[:], again[:])
        assert len(stream) == 1461


def test_readme_reads_what_it_publishes(
    plain_store: DataStore,
    server: TestServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BLISSDATA_URL", server.url)
    for _, _, code in BLOCK.findall((ROOT / "README.md").read_text()):
        exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out
    assert printed.startswith("100 [0.  0.1 0.2")  # diode point i is i / 10
    assert "0 4.95" in printed  # the mean of 0, 0.1, … 9.9, in one view from index 0
