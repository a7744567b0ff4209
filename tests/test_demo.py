"""The demo compares every number, and says so by its exit code."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import psutil
import pytest

from blissdata import DataStore, ScanState
from blissdata.demo.__main__ import main
from blissdata.demo.curve import curve_lines
from blissdata.demo.measurement import COPPER, read_columns
from blissdata.testing.servers import TestServer

DEADLINE_S = 60.0

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


def test_the_curve_goes_through_its_points() -> None:
    lines = curve_lines([0, 1, 2, 3], [0, 1, float("nan"), 1], (0, 3), (0, 1), 40)
    canvas = [line.split("│")[1] for line in lines if "│" in line]
    assert all(len(row) == 30 for row in canvas)
    dots = [[column != "⠀" for column in row] for row in canvas]
    assert dots[-1][0]  # (0, 0) is at the bottom on the left
    assert any(dots[0][9:11])  # (1, 1) is at the top, a third of the way
    assert not any(any(row[12:28]) for row in dots)  # NaN leaves a gap
    assert max(map(len, lines)) <= 40


def test_the_curve_grows_on_a_terminal_and_leaves_it_as_it_was(server: TestServer) -> None:
    command = [sys.executable, "-m", "blissdata.demo", *FAST]
    printed = run_on_terminal(command, columns=60, rows=30)
    assert "following live 1461/1461" in printed
    assert "│" in printed
    assert printed.count("\x1b[?25l") == printed.count("\x1b[?25h")  # the cursor is shown again
    assert "every number is the file's" in printed


def test_a_narrow_terminal_gets_no_curve(server: TestServer) -> None:
    printed = run_on_terminal([sys.executable, "-m", "blissdata.demo", *FAST], columns=20, rows=30)
    assert "│" not in printed
    assert "following live" in printed


def run_on_terminal(command: list[str], columns: int, rows: int) -> str:
    """What a program writes to a terminal of that size; it must end with 0."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm"}
    ) as process:
        os.close(theirs)
        printed = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            printed += part
        os.close(ours)
        assert process.wait(60) == 0, printed.decode(errors="replace")
    return printed.decode()


@pytest.mark.parametrize(
    ("everybody", "options"),
    [
        pytest.param(True, ["--images"], id="at a terminal"),
        pytest.param(
            False, ["--images", "--web"], id="the demo alone is told", marks=pytest.mark.slow
        ),
    ],
)
def test_ctrl_c_leaves_nothing_behind(
    everybody: bool, options: list[str], plain_store: DataStore, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "blissdata.demo", "--pace", "100", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 — some runners ignore it
    ) as demo:
        processes: list[psutil.Process] = []
        try:
            _, key = plain_store.get_next_scan(since=0, timeout=DEADLINE_S)
            scan = plain_store.load_scan(key)
            assert scan.wait_state(ScanState.STARTED, DEADLINE_S)
            (ring,) = (
                stream.info["frames"]["ring"]
                for stream in scan.streams.values()
                if "frames" in stream.info
            )
            assert (Path("/dev/shm") / ring).exists()
            assert len(list(tmp_path.iterdir())) == 1
            processes = psutil.Process(demo.pid).children(recursive=True)
            assert len(processes) >= 3  # publisher, the saver of its images, follower
            (os.killpg if everybody else os.kill)(demo.pid, signal.SIGINT)
            out, _ = demo.communicate(timeout=DEADLINE_S)
            _, left = psutil.wait_procs(processes, DEADLINE_S)
        finally:
            demo.kill()
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
    assert demo.returncode == 130
    assert out.count("interrupted") == 1
    assert "Traceback" not in out
    assert left == []
    assert not (Path("/dev/shm") / ring).exists()
    assert list(tmp_path.iterdir()) == []
    assert scan.wait_state(ScanState.CLOSED, DEADLINE_S)


def test_images_come_beside_the_measurement(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--pace", "3000", "--json", "--images"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["simulated images"] == [74, 74]  # one for 20 of 1461 points
    assert report["differences"] == 0
