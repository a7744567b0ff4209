"""The code in the documentation runs, block after block, and prints what it promises.

A block that cannot run here says so in the line above its fence: `<!-- not run: reason -->`. One
that goes on where the block before it ended has `<!-- goes on -->` there.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from blissdata import DataStore
from blissdata.testing.servers import TestServer

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?(<!-- goes on -->\n)?```python\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run(
    page: Path, plain_store: DataStore, server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLISSDATA_URL", server.url)
    names: dict[str, object] = {}
    for skipped, goes_on, code in BLOCK.findall(page.read_text()):
        if not skipped:
            names = names if goes_on else {"__name__": "__main__"}
            exec(compile(code, str(page), "exec"), names)  # noqa: S102


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


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
    assert printed.startswith("100 0.0 [1.")  # diode point i is i / 10
    assert "0 4.95" in printed  # the mean of 0, 0.1, … 9.9, in one view from index 0
