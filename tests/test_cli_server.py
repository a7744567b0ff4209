"""`blissdata serve | status | stop` as a shell sees them: exit codes, output, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from blissdata import DataStore
from blissdata.cli import main
from blissdata.redis_engine.local_server import ensure_running, status, stop
from blissdata.testing.servers import TestServer
from blissdata.writer.report import read_report


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home and a socket directory for one test; what runs there is stopped."""
    with tempfile.TemporaryDirectory(prefix="bd-", dir="/tmp") as runtime:
        monkeypatch.setenv("BLISSDATA_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        yield tmp_path / "home"
        stop()
        stop(tmp_path / "private")


def _default_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def foreground(home: Path) -> Iterator[subprocess.Popen[str]]:
    """`blissdata serve` in the foreground, ready."""
    with served() as process:
        for line in process.stdout:
            if "Ctrl-C" in line:
                break
        yield process


@contextmanager
def served(*options: str) -> Iterator[subprocess.Popen[str]]:
    """`blissdata serve` in the foreground, with these options."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from blissdata.cli import main; sys.exit(main())",
            "serve",
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_default_signals,  # noqa: PLW1509 — some runners, and nohup, have them ignored
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_serve_runs_until_it_is_told_to_end_and_leaves_nothing(
    foreground: subprocess.Popen[str], number: signal.Signals
) -> None:
    seen = status()
    assert seen.running
    assert seen.started_by == "person"
    assert seen.supervisor_pid == foreground.pid
    foreground.send_signal(number)
    out, err = foreground.communicate(timeout=60)
    assert foreground.returncode == (130 if number == signal.SIGINT else 0)
    assert "Stopped" in out
    assert err == ""
    assert not status().running
    assert not seen.socket.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(seen.pid, 0)


def test_stop_ends_a_serve_in_the_foreground(foreground: subprocess.Popen[str]) -> None:
    assert main(["stop"]) == 0
    assert foreground.wait(60) == 0


def test_serve_in_the_foreground_leaves_alone_what_was_running(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ensure_running()
    before = status()
    assert main(["serve"]) == 0
    assert "stays" in capsys.readouterr().out
    after = status()
    assert (after.pid, after.supervisor_pid) == (before.pid, before.supervisor_pid)
    assert after.started_by == "person"


def test_serve_in_the_background_status_and_stop(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 3
    assert "No server is running" in capsys.readouterr().out
    assert main(["serve", "--background", "--fsync", "everysec", "--maxmemory", "100mb"]) == 0
    assert "Serving unix://" in capsys.readouterr().out
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    assert "everysec" in shown
    assert "of 100 MB" in shown
    assert "until it is stopped" in shown
    assert main(["stop"]) == 0
    assert "Stopped" in capsys.readouterr().out
    assert main(["stop"]) == 0
    assert "No server was running" in capsys.readouterr().out


def test_stop_takes_the_address_of_a_local_server_and_no_other(
    server: TestServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = tmp_path / "private"
    assert main(["stop", "--url", server.url]) == 2
    assert "is not the address of your local server" in capsys.readouterr().err
    assert main(["stop", "--url", "redis://:secret@127.0.0.1:1"]) == 2
    assert "secret" not in capsys.readouterr().err
    with server.client() as client:
        assert client.ping()
    for wanted in ([], ["--directory", str(private)]):
        assert main(["serve", "--background", *wanted]) == 0
    url = status().url
    assert url is not None
    capsys.readouterr()
    for wanted in (url, str(private)):
        assert main(["stop", "--url", wanted]) == 0
        assert "Stopped" in capsys.readouterr().out
    assert not status().running
    assert not status(private).running


def test_stop_says_whom_it_leaves_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with DataStore():
        assert main(["stop"]) == 0
    assert "Programs were connected (" in capsys.readouterr().out


def test_status_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["running"] is False
    private = tmp_path / "private"
    assert main(["serve", "--background", "--directory", str(private)]) == 0
    capsys.readouterr()

    def seen() -> dict[str, Any]:
        assert main(["status", "--json", "--directory", str(private)]) == 0
        return dict(json.loads(capsys.readouterr().out))

    found = seen()
    assert found["running"] is True
    assert found["data_directory"] == str(private)
    assert found["fsync"] == "always"
    waited(lambda: seen()["clients"] == 0)  # one that was just closed is still listed for a moment
    assert main(["stop", "--directory", str(private)]) == 0


def test_status_of_a_server_that_wants_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    with TestServer() as server, server.client() as admin:
        admin.config_set("requirepass", "right")
        assert main(["status", server.url]) == 1
        admin.config_set("requirepass", "")
    assert "wants a password, or another one. Give it in the URL" in capsys.readouterr().err


def test_status_of_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    url = ensure_running()
    assert main(["status", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pid"] == status().pid
    stop()
    assert main(["status", url]) == 3


def test_no_password_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "redis://:secret@127.0.0.1:1"]) == 3
    assert main(["status", "nonsense://:secret@127.0.0.1:1"]) == 1
    shown = capsys.readouterr()
    assert "secret" not in shown.out + shown.err
    assert "***" in shown.out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["serve", "--fsync", "often"],
        ["serve", "--maxmemory", "lots"],
        ["serve", "--port", "70000"],
        ["serve", "--bind", "0.0.0.0"],  # noqa: S104 — nothing is bound, that is what is tested
        ["status", "redis://localhost", "--directory", "there"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_failure_is_exit_code_1_and_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BLISSDATA_HOME", str(tmp_path / "file"))
    assert main(["serve", "--background"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("blissdata: The local server keeps its data in")
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("command", ["serve", "status", "stop", ""])
def test_help_teaches_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert "exit codes:" in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("blissdata ")


def test_serve_can_write_every_scan_into_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--background", "--write", str(root)])
    assert "directories" in capsys.readouterr().err
    root.mkdir()
    with served("--write", str(root)) as process:
        assert f"below {root}; `blissdata status` tells" in said(process, "Ctrl-C stops it.")
        writes_what_it_can_and_tells_of_the_rest(root, process)


def said(process: subprocess.Popen[str], *parts: str) -> str:
    """What a program says until all of it was in one line."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if all(part in line for part in parts):
            return "".join(lines)
    pytest.fail(f"no line has {parts}: {''.join(lines)}")


def writes_what_it_can_and_tells_of_the_rest(root: Path, process: subprocess.Popen[str]) -> None:
    with DataStore() as store:
        waited(lambda: read_report(store))
        refused = {"name": "s", "number": 2, "data_policy": "none", "path": "/nowhere/b.h5"}
        with store.create_scan(refused) as scan:
            key = scan.key
        line = said(process, "FAILED", "/nowhere/b.h5").splitlines()[-1]
        assert f"(scan {key}): /nowhere/b.h5 is not below" in line
        assert f"blissdata write --retry {key} --roots {root}" in line
        with store.create_scan({"name": "s", "number": 3, "data_policy": "none"}) as scan:
            pass
        said(process, f"scan {scan.key} is not written: it names no file")
        identity = {"name": "s", "number": 1, "data_policy": "none", "path": str(root / "a.h5")}
        with store.create_scan(identity) as scan:
            diode = scan.create_stream("diode", dtype="f8")
            scan.prepare()
            scan.start()
            diode.send(np.arange(5.0))
        said(process, f"written {root}/a.h5::/1.1: 5 points")
        assert [pin.scan_key for pin in store.pins()] == [key]
        with h5py.File(root / "a.h5") as file:
            assert file["1.1/instrument/diode/data"][:].tolist() == [0, 1, 2, 3, 4]
        waited(lambda: (report := read_report(store)) and report.written == 1)
    assert main(["stop"]) == 0


def waited(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
