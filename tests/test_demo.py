"""The demo compares every number, and says so by its exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from blissdata import DataStore
from blissdata.demo.__main__ import main
from blissdata.demo.measurement import COPPER, read_columns
from blissdata.testing.servers import TestServer

FAST = ["--pace", "20000"]


@pytest.fixture(autouse=True)
def on_the_test_server(
    plain_store: DataStore, server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLISSDATA_URL", server.url)


def test_every_number_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FAST, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["published"] == report["followed live"] == 2 * 1461
    assert report["read again"] == dict.fromkeys(["slice", "index", "cursor", "cursor group"], 2922)
    assert report["differences"] == 0


def test_one_changed_number_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = tmp_path / "changed.dat"
    changed.write_text(COPPER.read_text().replace("9978.284  2.262075", "9978.284  2.262076"))
    assert main([*FAST, "--compare-with", str(changed)]) == 1
    printed = capsys.readouterr().out
    assert "absorption[1460] is 2.262075" in re.sub(r"np\.float64\((.*?)\)", r"\1", printed)
    assert "NOT the same numbers" in printed


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "shape"), ("1 2 3\n", "shape"), ("1 two\n", "two columns"), ("1 2\n3\n", "two columns")],
    ids=["empty", "three columns", "text", "a line cut short"],
)
@pytest.mark.filterwarnings("ignore:loadtxt. input contained no data")
def test_a_bad_file_is_named(
    text: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.dat"
    bad.write_text(text)
    assert main([*FAST, "--compare-with", str(bad)]) == 1
    printed = capsys.readouterr().err
    assert str(bad) in printed
    assert complaint in printed


def test_the_copy_of_the_measurement_is_whole() -> None:
    columns = read_columns(COPPER)
    assert {name: len(column) for name, column in columns.items()} == {
        "energy": 1461,
        "absorption": 1461,
    }
    assert (columns["energy"][0], columns["absorption"][0]) == (8002.894, 0.5249888)
    assert (COPPER.parent / "LICENSE.MIT").exists()


def test_a_failing_process_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BLISSDATA_URL", "redis://127.0.0.1:1")
    assert main(FAST) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_it_is_a_module_with_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "blissdata.demo", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "--compare-with" in done.stdout
