"""`blissdata top`: what it shows, and how it leaves the terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blissdata import DataStore
from blissdata.cli import main, top
from blissdata.cli.overview import ScanRow
from blissdata.cli.top import LABEL, Look, curve, frame, thinned
from blissdata.redis_engine.backends.abstract import ServerInfo
from blissdata.testing.servers import TestServer
from blissdata.viewer.watched import Watched

INFO = ServerInfo("plain", "", 1001, "valkey 9.1", 950, 1000, 7, 0.0)

ROW = ScanRow(
    "key", {"name": "ascan", "number": 12}, "STARTED", points=40, npoints=100, silence=1.0
)

DEADLINE_S = 60.0


def text_of(look: Look, columns: int = 80, rows: int = 30) -> list[str]:
    return ["".join(text for text, _ in line) for line in frame(look, columns, rows)]


class TestFrame:
    def test_tells_of_server_scans_and_curve(self) -> None:
        values = np.sin(np.linspace(0, 6, 500))
        lines = text_of(Look(INFO, [(ROW, 8.5)], "12 ascan: diode", values, behind=3))
        assert "memory 950 B of 1000 B (95 %)" in lines[0]
        assert any("12 ascan" in line and "40/100" in line and "8.5" in line for line in lines)
        assert any(
            "12 ascan: diode" in line and "500 points" in line and "3 behind" in line
            for line in lines
        )
        assert sum("│" in line for line in lines) > 5

    @pytest.mark.parametrize(("columns", "rows"), [(20, 8), (80, 24), (200, 60)])
    def test_fits_into_the_terminal(self, columns: int, rows: int) -> None:
        scans = [(ROW, 1.0)] * 100
        lines = text_of(Look(INFO, scans, "a: b", np.arange(50.0)), columns, rows)
        assert len(lines) <= max(rows, 12)
        assert all(len(line) <= columns for line in lines if "│" in line or "└" in line)

    def test_says_when_the_server_is_away(self) -> None:
        assert "server away" in text_of(Look(None, problem="nobody answers"))[0]

    def test_names_cannot_move_the_cursor(self) -> None:
        row = ScanRow("k", {"name": "\x1b[2J", "number": 1}, "STARTED")
        assert not any("\x1b" in line for line in text_of(Look(INFO, [(row, None)])))


class TestCurve:
    def test_of_a_million_points_keeps_the_extremes(self) -> None:
        values = np.zeros(1_000_000)
        values[123_456], values[777_777] = 5.0, -3.0
        places, drawn = thinned(values, 70)
        assert len(places) == len(drawn) == 140
        assert (drawn.max(), drawn.min()) == (5.0, -3.0)

    @pytest.mark.parametrize(
        "values", [[], [1.0], [np.nan], [np.inf, 2.0], [3.0, 3.0], [np.nan] * 50 + [1.0]], ids=str
    )
    def test_of_odd_points_is_drawn_all_the_same(self, values: Any) -> None:
        lines = curve(np.array(values), 0, 60, 8)
        assert bool(lines) == bool(np.isfinite(values).any())


def test_one_look_for_scripts(
    plain_store: DataStore, server: TestServer, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = {"name": "loopscan", "number": 4, "data_policy": "none"}
    with plain_store.create_scan(identity, {"npoints": 100}) as scan:
        diode = scan.create_stream("diode", dtype="f8")
        scan.prepare()
        scan.start()
        diode.send(np.sin(np.arange(50) / 5))
        diode.join()
        assert main(["top", "--once", "--url", server.url]) == 0
    printed = capsys.readouterr().out
    assert "loopscan" in printed
    assert "50/100" in printed
    assert "\x1b" not in printed


def test_the_first_look_waits_for_the_curve(
    measured: None,
    server: TestServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """However long it takes to count its points."""
    awaited = threading.Event()
    really_count, really_wait = Watched._count, Watched.wait_counted

    def count(self: Watched) -> bool:
        assert awaited.wait(DEADLINE_S)
        return really_count(self)

    def wait(self: Watched, timeout: float) -> bool:
        awaited.set()
        return really_wait(self, DEADLINE_S)

    monkeypatch.setattr(Watched, "_count", count)
    monkeypatch.setattr(Watched, "wait_counted", wait)
    assert main(["top", "--once", "--json", "--url", server.url]) == 0
    curve = json.loads(capsys.readouterr().out)["curve"]
    assert (curve["of"], curve["points"], curve["behind"]) == ("4 loopscan: alpha", 20, 0)


def test_a_channel_that_is_not_there_is_told(
    plain_store: DataStore,
    server: TestServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(top, "PERIOD_S", 0.01)
    identity = {"name": "loopscan", "number": 4, "data_policy": "none"}
    with plain_store.create_scan(identity) as scan:
        for name in ("alpha", "beta"):
            scan.create_stream(name, dtype="f8")
        scan.create_stream("image", dtype="u2", shape=(4, 6))
        asked = ["top", "--once", "--json", "--url", server.url, "--channel"]
        assert main([*asked, "bta"]) == 0  # it may come: the streams are not known yet
        scan.prepare()
        assert main([*asked, "bta"]) == 3
        assert (
            "has no channel 'bta'; there are: alpha, beta (was 'beta' meant?)"
            in capsys.readouterr().err
        )
        assert main([*asked, "image"]) == 3
        assert (
            "are of shape (4, 6), and a curve is drawn of single numbers" in capsys.readouterr().err
        )
        assert main([*asked, "b*"]) == 0
    assert json.loads(capsys.readouterr().out)["curve"]["of"] == "4 loopscan: beta"


def test_another_channel_can_be_taken_where_there_is_not_the_one_that_was_asked_for(
    measured: None, server: TestServer
) -> None:
    command = ["top", "--url", server.url, "--channel", "nope"]
    seen = on_terminal(command, ["has no channel 'nope'", "loopscan: alpha"], ["n", "q"])
    assert "loopscan: no curve" in seen


def test_looks_as_json_until_it_is_ended(plain_store: DataStore, server: TestServer) -> None:
    identity = {"name": "loopscan", "number": 4, "data_policy": "none"}
    program = str(Path(sys.executable).with_name("blissdata"))
    with plain_store.create_scan(identity, {"npoints": 100}) as scan:
        diode = scan.create_stream("diode", dtype="f8")
        scan.prepare()
        scan.start()
        diode.send(np.array([1.0, 2.5]))
        diode.join()
        with subprocess.Popen(
            [program, "top", "--json", "--url", server.url], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
            diode.send(np.nan)
            diode.join()
            later = (json.loads(line) for line in process.stdout)
            last = next(look for look in later if look["curve"]["points"] == 3)
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE_S) == 130
    (row,) = first["scans"]
    assert (row["key"], row["npoints"], row["points"]) == (scan.key, 100, 2)
    assert first["curve"] == {"of": "4 loopscan: diode", "points": 2, "last": 2.5, "behind": 0}
    assert first["memory"] > 0
    assert first["problem"] is None
    assert last["curve"]["last"] is None  # JSON has no NaN


def test_the_terminal_is_left_as_it_was(plain_store: DataStore, server: TestServer) -> None:
    identity = {"name": "loopscan", "number": 4, "data_policy": "none"}
    with plain_store.create_scan(identity) as scan:
        streams = [scan.create_stream(name, dtype="f8") for name in ("alpha", "beta")]
        scan.prepare()
        scan.start()
        for stream in streams:
            stream.send(np.arange(20.0))
            stream.join()
        seen = on_terminal(
            ["top", "--url", server.url], ["loopscan: alpha", "loopscan: beta"], ["n", "q"]
        )
    assert seen.count("\x1b[?1049h") == seen.count("\x1b[?1049l") == 1
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h")


@pytest.fixture
def measured(plain_store: DataStore) -> Iterator[None]:
    """A scan that is running, with a curve."""
    identity = {"name": "loopscan", "number": 4, "data_policy": "none"}
    with plain_store.create_scan(identity) as scan:
        alpha = scan.create_stream("alpha", dtype="f8")
        scan.prepare()
        scan.start()
        alpha.send(np.arange(20.0))
        alpha.join()
        yield


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, 143, id="terminated", marks=pytest.mark.slow),
    ],
)
def test_the_terminal_is_left_as_it_was_whoever_ends_it(
    measured: None, server: TestServer, number: signal.Signals, code: int
) -> None:
    def end(process: subprocess.Popen[bytes], terminal: int) -> None:
        process.send_signal(number)

    seen = on_terminal(["top", "--url", server.url], ["loopscan: alpha"], [end], code=code)
    assert seen.count("\x1b[?1049h") == seen.count("\x1b[?1049l") == 1
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h")


def test_it_takes_the_room_that_there_is(measured: None, server: TestServer) -> None:
    def narrow(process: subprocess.Popen[bytes], terminal: int) -> None:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 50, 0, 0))

    rule = "└" + "─" * (90 - LABEL - 3) + " "
    narrower = "└" + "─" * (50 - LABEL - 3) + " "
    seen = on_terminal(["top", "--url", server.url], [rule, narrower], [narrow, "q"])
    assert seen.index(rule) < seen.rindex(narrower)


def test_a_dumb_terminal_gets_one_look(measured: None, server: TestServer) -> None:
    seen = on_terminal(["top", "--url", server.url], [], [], term="dumb")
    assert "TERM=dumb" in seen
    assert "loopscan: alpha" in seen
    assert "\x1b" not in seen


Press = str | Callable[["subprocess.Popen[bytes]", int], None]


def on_terminal(
    command: list[str],
    awaited: list[str],
    keys: Sequence[Press],
    term: str = "xterm",
    code: int = 0,
) -> str:
    """What the command writes to a terminal, on which each key is pressed, or something done, once a text
    was seen; it must end with that code, and the terminal's settings must be what they were."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
    before = termios.tcgetattr(theirs)
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    program = [str(Path(sys.executable).with_name("blissdata")), *command]
    printed = bytearray()
    with subprocess.Popen(
        program, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": term}
    ) as process:
        os.set_blocking(ours, False)
        deadline = time.monotonic() + DEADLINE_S
        waiting = list(zip(awaited, keys, strict=True))
        while process.poll() is None:
            if not read_more(ours, printed):
                time.sleep(0.01)
            if waiting and waiting[0][0].encode() in printed:
                key = waiting.pop(0)[1]
                if isinstance(key, str):
                    os.write(ours, key.encode())
                else:
                    key(process, theirs)
            assert time.monotonic() < deadline, printed[-2000:]
        while read_more(ours, printed):
            pass
        assert process.returncode == code, printed[-2000:]
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
    return printed.decode(errors="replace")  # Ctrl-C may come in the middle of a character


def read_more(terminal: int, printed: bytearray) -> bool:
    """Whether there was something: a terminal gives a few kB at a time."""
    with contextlib.suppress(BlockingIOError):
        printed += os.read(terminal, 65536)
        return True
    return False
