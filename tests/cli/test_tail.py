"""`blissdata tail`: the points of a scan as they come, until it ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from blissdata import DataStore, Scan
from blissdata.cli import tail
from blissdata.exceptions import IndexNoMoreThereError
from blissdata.streams import heartbeat
from blissdata.testing.servers import TestServer

NPOINTS = 200
DIODE = np.linspace(-1, 1, NPOINTS) ** 3
SPECTRA = (np.arange(NPOINTS * 5, dtype="u4") * 7).reshape(NPOINTS, 5)


def new_scan(store: DataStore, **info: Any) -> Scan:
    return store.create_scan({"name": "s", "number": 1, "data_policy": "none"}, info)


def started(store: DataStore, **info: Any) -> tuple[Scan, Any, Any]:
    scan = new_scan(store, **info)
    diode = scan.create_stream("diode", dtype="f8")
    mca = scan.create_stream("mca", dtype="u4", shape=(5,))
    scan.prepare()
    scan.start()
    return scan, diode, mca


def by_stream(text: str) -> dict[str, list[Any]]:
    """The data of each stream, in order; fails if an index is missing, twice or out of order."""
    found: dict[str, list[Any]] = {}
    for line in text.splitlines():
        one = json.loads(line)
        points = found.setdefault(one["stream"], [])
        assert one["index"] == len(points)
        points.append(one["data"])
    return found


# ---------------------------------------------------------------------------------- the numbers


def test_before_during_and_after_the_same_numbers(
    start: Callable[..., subprocess.Popen[str]], run: Callable, store: DataStore
) -> None:
    before = start("tail", "last", "--json")
    following = start("tail", "next", "--json")
    for process, which in ((before, "first"), (following, "next")):
        assert process.stderr.readline() == f"blissdata: waiting for the {which} scan\n"
    scan, diode, mca = started(store)
    with scan:
        diode.send(DIODE[:50])
        mca.send(SPECTRA[:7])
        diode.join()
        during = start("tail", "1", "--json")
        first = during.stdout.readline()
        diode.send(DIODE[50:51])
        mca.send(SPECTRA[7:])
        diode.send(DIODE[51:])
        scan.stop()
    expected = {"diode": DIODE.tolist(), "mca": SPECTRA.tolist()}
    for process, read in ((before, ""), (following, ""), (during, first)):
        assert by_stream(read + process.stdout.read()) == expected
        assert process.wait(60) == 0
        assert process.stderr.read() == ""
    after = run("tail", "last", "--json")
    assert after.code == 0
    assert after.err == ""
    assert by_stream(after.out) == expected


def test_lines_for_people(run: Callable, store: DataStore) -> None:
    with new_scan(store) as scan:
        streams = {
            "diode": scan.create_stream("diode", dtype="f4"),
            "image": scan.create_stream("image", dtype="u2", shape=(3, 4)),
            "log": scan.create_stream("log", dtype="json"),
            "ragged": scan.create_stream("ragged", dtype="i8", shape=(-1,)),
        }
        scan.prepare()
        scan.start()
        streams["diode"].send(np.array([0.1, np.nan], "f4"))
        streams["image"].send(np.arange(12, dtype="u2").reshape(3, 4))
        streams["log"].send({"a": 1})
        streams["ragged"].send(np.arange(3))
        streams["ragged"].send(np.arange(1))
    assert run("tail", "last").out.splitlines() == [
        "diode[0]  0.1",
        "image[0]  (3×4) uint16, min 0, max 11",
        'log[0]  {"a": 1}',
        "ragged[0]  [0 1 2]",
        "diode[1]  nan",
        "ragged[1]  [0]",
    ]


def test_nan_and_infinities_are_null(run: Callable, store: DataStore) -> None:
    scan, diode, _ = started(store)
    with scan:
        diode.send([1.5, np.nan, np.inf, -np.inf])
    assert by_stream(run("tail", "last", "--json").out) == {"diode": [1.5, None, None, None]}


def test_only_the_streams_asked_for(run: Callable, store: DataStore) -> None:
    scan, diode, mca = started(store)
    with scan:
        diode.send(DIODE)
        mca.send(SPECTRA)
    assert set(by_stream(run("tail", "last", "d*", "--json").out)) == {"diode"}
    assert set(by_stream(run("tail", "last", "mca", "diode", "--json").out)) == {"diode", "mca"}
    shown = run("tail", "last", "dioed")
    assert shown.code == 3
    assert shown.err.endswith("there are: diode, mca (was 'diode' meant?)\n")


def test_streams_asked_for_that_end_before_their_scan_end_it(
    run: Callable, store: DataStore
) -> None:
    scan, diode, mca = started(store)
    with scan:
        diode.send(DIODE)
        diode.seal()
        shown = run("tail", "last", "diode", "--json")
        assert shown.code == 0
        assert by_stream(shown.out) == {"diode": DIODE.tolist()}
        mca.seal()
        assert run("tail", "last", "--json", "--timeout", "0").code == 4  # the scan goes on


def test_streams_that_come_later_are_followed_too(run: Callable, store: DataStore) -> None:
    scan, diode, _ = started(store)
    late = scan.create_stream("late", dtype="i8")  # readers learn of it when the scan stops
    late.send(np.arange(3))
    diode.send(1.0)
    reader = threading.Thread(target=lambda: shown.append(run("tail", "last", "--json")))
    shown: list[Any] = []
    reader.start()
    scan.stop()
    reader.join(60)
    assert by_stream(shown[0].out) == {"diode": [1.0], "late": [0, 1, 2]}
    scan.close()


def test_only_new_points(run: Callable, store: DataStore) -> None:
    scan, diode, mca = started(store)
    with scan:
        diode.send(DIODE)
        diode.join()
        assert run("tail", "last", "--new", "--timeout", "0").out == ""
        diode.send(5.0)
        mca.send(SPECTRA[:1])
    assert run("tail", "last", "--new").out == ""
    assert run("tail", "last", "--from-start", "--new").code == 2


def test_new_points_are_those_after_now(
    start: Callable[..., subprocess.Popen[str]], store: DataStore
) -> None:
    scan, diode, mca = started(store)
    with scan:
        diode.send([1.0, 2.0])
        diode.join()
        process = start("tail", "last", "--new", "--json")
        sent = 2
        while not _has_output(process):  # it says nothing until something new comes
            sent += 1
            diode.send(float(sent))
        mca.send(SPECTRA[:1])
    out, _ = process.communicate(timeout=60)
    found = [json.loads(line) for line in out.splitlines()]
    diodes = [one for one in found if one["stream"] == "diode"]
    mcas = [one for one in found if one["stream"] == "mca"]
    assert [one["data"] for one in diodes] == [one["index"] + 1.0 for one in diodes]
    assert diodes[0]["index"] >= 2
    assert diodes[-1]["data"] == sent
    assert mcas == [{"stream": "mca", "index": 0, "data": SPECTRA[0].tolist()}]


def _has_output(process: subprocess.Popen[str]) -> bool:
    import select

    return bool(select.select([process.stdout], [], [], 0.05)[0])


def test_points_that_left_the_server_are_mentioned(run: Callable, store: DataStore) -> None:
    scan, diode, _ = started(store)
    with scan:
        for i in range(5):
            diode.send(float(i))
            diode.join()
        store.event_log.trim({diode.key: 3})
    shown = run("tail", "last", "--json")
    assert shown.objects == [
        {"stream": "diode", "index": 0, "expired": 3},
        {"stream": "diode", "index": 3, "data": 3.0},
        {"stream": "diode", "index": 4, "data": 4.0},
    ]
    assert run("tail", "last").out.splitlines() == [
        "diode[0–2]  expired: no longer in the server's memory",
        "diode[3]  3.0",
        "diode[4]  4.0",
    ]
    store.event_log.trim({diode.key: 5})
    assert run("tail", "last", "--json").objects == [{"stream": "diode", "index": 0, "expired": 5}]


# ---------------------------------------------------------------------------------- how it ends


@pytest.mark.parametrize("state", ["created", "started"])
def test_the_time_is_up_when_nothing_comes(run: Callable, store: DataStore, state: str) -> None:
    scan = new_scan(store) if state == "created" else started(store)[0]
    for timeout in ("0", "0.05"):
        shown = run("tail", "last", "--timeout", timeout)
        assert shown.code == 4
        assert f"in {timeout} s" in shown.err
        assert len(shown.err.splitlines()) == 1
    scan.close()


@pytest.mark.parametrize("timeout", ["-1", "soon", "nan"])
def test_a_timeout_that_is_none_is_wrong_usage(run: Callable, timeout: str) -> None:
    assert run("tail", "last", f"--timeout={timeout}").code == 2


def test_a_scan_closed_before_it_had_streams(run: Callable, store: DataStore) -> None:
    new_scan(store).close()
    shown = run("tail", "last")
    assert (shown.code, shown.out, shown.err) == (0, "", "")


OFTEN = "from blissdata.cli import tail; tail.LOOK_S = 0.02"
"""What a program does first that looks after its scan often."""


def test_a_scan_deleted_meanwhile_is_exit_code_3(
    start: Callable[..., subprocess.Popen[str]], store: DataStore
) -> None:
    scan, diode, _ = started(store)
    diode.send(1.0)
    process = start("tail", "last", prelude=OFTEN)
    assert process.stdout.readline() == "diode[0]  1.0\n"
    store.delete_scan(scan.key, force=True)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "deleted" in err
    assert len(err.splitlines()) == 1


def test_a_scan_that_vanishes_is_exit_code_3(
    start: Callable[..., subprocess.Popen[str]], store: DataStore, server: TestServer
) -> None:
    _, diode, _ = started(store)
    diode.send(1.0)
    process = start("tail", "last", prelude=OFTEN)
    process.stdout.readline()
    with server.client() as client:
        client.flushall()
    _, err = process.communicate(timeout=60)
    assert process.returncode in (1, 3)  # deleted, or a server that lost its points
    assert err.startswith("blissdata: ")
    assert "Traceback" not in err


@pytest.fixture
def very_impatient(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become hundredths."""
    monkeypatch.setattr(heartbeat, "LOST_AFTER_S", 0.1)
    monkeypatch.setattr(tail, "LOOK_S", 0.02)
    monkeypatch.setattr(tail, "QUIET_S", 0.3)


@pytest.mark.parametrize("state", ["created", "started", "all streams sealed"])
@pytest.mark.parametrize(("option", "code"), [((), 1), (("--end-if-lost",), 0)], ids=str)
def test_a_publisher_that_is_lost_is_exit_code_1_or_an_end_by_choice(
    run: Callable, store: DataStore, very_impatient: None, state: str, option: tuple[str], code: int
) -> None:
    scan = new_scan(store)
    if state != "created":
        diode = scan.create_stream("diode", dtype="f8")
        scan.prepare()
        scan.start()
        diode.send(1.0)
        diode.join()
    if state == "all streams sealed":
        diode.seal()
    store.heartbeat.close()
    shown = run("tail", "last", *option)
    assert shown.code == code
    assert shown.out == ("" if state == "created" else "diode[0]  1.0\n")
    assert "no sign of life" in shown.err
    assert scan.key in shown.err
    assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize("state", ["created", "started", "all streams sealed"])
def test_a_publisher_of_which_nothing_is_known_is_mentioned_once(
    start: Callable[..., subprocess.Popen[str]],
    store: DataStore,
    server: TestServer,
    state: str,
) -> None:
    scan = new_scan(store)
    if state != "created":
        diode = scan.create_stream("diode", dtype="f8")
        scan.prepare()
        scan.start()
    if state == "all streams sealed":
        diode.seal()
    store.heartbeat.close()
    with server.client() as client:  # as if it were published by 2.x
        assert client.delete(*client.scan_iter("*pulse*")) == 1
    quick = "from blissdata.cli import tail; tail.QUIET_S, tail.LOOK_S = 0.1, 0.02"
    process = start("tail", "last", prelude=quick)
    first = process.stderr.readline()
    assert "gives no signs of life" in first
    assert "--timeout" in first
    assert scan.key in first
    scan.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == ""


def test_a_stream_that_nobody_sealed_is_mentioned(
    run: Callable, store: DataStore, server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("cursor", "event_stream"):
        monkeypatch.setattr(f"blissdata.streams.{module}.WAIT_SLICE_S", 0.1)
    scan, diode, mca = started(store)
    diode.send(1.0)
    mca.seal()
    diode.join()
    with DataStore(server.url) as other:  # closes it as the memory tracker does, without sealing
        loaded = other.catalog.load(scan.key)
        other.catalog.advance(scan.key, loaded.state, 4, loaded.document)
    shown = run("tail", "last", "--json")
    assert shown.code == 0
    assert by_stream(shown.out) == {"diode": [1.0]}
    assert "nobody sealed 'diode'" in shown.err


def test_a_stream_that_cannot_be_read_is_left_out(run: Callable, store: DataStore) -> None:
    scan = new_scan(store)
    diode = scan.create_stream("diode", dtype="f8")
    streams, pk = scan._document.streams, scan._document.pk
    streams["future"] = store.catalog.new_stream(pk, {"type": "from the future"}, {})
    scan.prepare()
    scan.start()
    diode.send(1.0)
    scan.close()
    shown = run("tail", "last", "--json")
    assert shown.code == 0
    assert by_stream(shown.out) == {"diode": [1.0]}
    assert shown.err.startswith("blissdata: 'future' is left out: ")
    shown = run("tail", "last", "future")
    assert shown.code == 1
    assert "from the future" in shown.err


def test_a_damaged_entry_is_an_error_behind_the_points_before_it(
    run: Callable, store: DataStore, server: TestServer
) -> None:
    scan, diode, _ = started(store)
    diode.send(1.0)
    diode.join()
    with server.client() as client:
        client.xadd(diode.key, {"len": 1, "payload": b"short"}, id="1-1")
    shown = run("tail", "last", "diode", "--timeout", "60")
    assert shown.code == 1
    assert shown.out == "diode[0]  1.0\n"
    assert "Stream 'diode'" in shown.err
    assert len(shown.err.splitlines()) == 1
    store.delete_scan(scan.key, force=True)


def test_a_server_that_goes_away_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    from blissdata.cli import main

    with TestServer() as server, DataStore(server.url, init_db=True) as store:
        _, diode, _ = started(store)
        diode.send(1.0)
        diode.join()
        killer = threading.Timer(0.3, server.kill)
        killer.start()
        assert main(["tail", "last", "--url", server.url]) == 1
        killer.join()


def test_a_pipe_that_closes_ends_it_quietly(
    start: Callable[..., subprocess.Popen[str]], store: DataStore
) -> None:
    scan, diode, _ = started(store)
    with scan:
        diode.send(np.arange(50_000.0))
    process = start("tail", "last")
    assert process.stdout.readline() == "diode[0]  0.0\n"
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == ""


# ---------------------------------------------------------------------------------- a terminal


class Terminal:
    """A terminal of so many columns, with a program in it."""

    def __init__(self, columns: int) -> None:
        self.master, self.slave = os.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 10, columns, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.shown = b""

    @property
    def pipes(self) -> dict[str, Any]:
        environment = {**os.environ, "TERM": "xterm-256color", "PYTHONDEVMODE": "1"}
        for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
            environment.pop(name, None)
        return {**dict.fromkeys(("stdin", "stdout", "stderr"), self.slave), "env": environment}

    def read_until(self, text: bytes) -> None:
        while text not in self.shown:
            self.shown += os.read(self.master, 4096)

    def rest(self) -> bytes:
        """All it showed, once the program has ended."""
        assert termios.tcgetattr(self.slave) == self.before
        os.set_blocking(self.master, False)
        try:
            while chunk := os.read(self.master, 4096):
                self.shown += chunk
        except BlockingIOError:
            pass
        return self.shown


@contextmanager
def terminal(columns: int) -> Iterator[Terminal]:
    found = Terminal(columns)
    try:
        yield found
    finally:
        os.close(found.master)
        os.close(found.slave)


@pytest.mark.parametrize("columns", [20, 80])
def test_progress_on_a_terminal_is_gone_at_the_end(
    start: Callable[..., subprocess.Popen[str]], store: DataStore, columns: int
) -> None:
    scan, diode, _ = started(store, npoints=3)
    with terminal(columns) as screen, scan:
        process = start("tail", "last", **screen.pipes)
        for i in range(3):
            diode.send(float(i))
            screen.read_until(f"{i + 1}/3".encode())
        scan.stop()
        assert process.wait(60) == 0
        shown = screen.rest()
    for i in range(3):
        assert f"diode[{i}]  {float(i)}\r\n".encode() in shown
    assert ("━".encode() in shown) == (columns == 80)
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")  # the cursor is there again
    assert shown.endswith(b"\x1b[2K")  # and the line clear


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_what_ends_it_leaves_the_terminal_as_it_was(
    start: Callable[..., subprocess.Popen[str]],
    store: DataStore,
    number: signal.Signals,
    code: int,
) -> None:
    scan, diode, _ = started(store, npoints=3)
    with terminal(60) as screen, scan:
        process = start("tail", "last", **screen.pipes)
        diode.send(1.0)
        screen.read_until(b"1/3")
        process.send_signal(number)
        assert process.wait(60) == code
        shown = screen.rest()
    assert b"Traceback" not in shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")


def test_a_scan_that_does_not_say_how_many_has_no_progress(
    start: Callable[..., subprocess.Popen[str]], store: DataStore
) -> None:
    scan, diode, _ = started(store)
    with scan:
        diode.send(1.0)
    with terminal(60) as screen:
        assert start("tail", "last", **screen.pipes).wait(60) == 0
        assert screen.rest() == b"diode[0]  1.0\r\n"


def test_without_rich_there_is_no_progress_but_the_rest(
    run: Callable, store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, diode, _ = started(store, npoints=1)
    with scan:
        diode.send(1.0)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shown = run("tail", "last")
    assert (shown.code, shown.out) == (0, "diode[0]  1.0\n")


# ---------------------------------------------------------------------------------- pure


class View:
    """Points of which the first few have left the server."""

    def __init__(self, index: int, gone: int, data: list[Any]) -> None:
        self.index = index
        self._gone, self._data = gone, data

    def __len__(self) -> int:
        return self._gone + len(self._data)

    def get_data(self, start: int | None = None, stop: int | None = None) -> Any:
        first, last, _ = slice(start, stop).indices(len(self))
        if first < min(self._gone, last):
            raise IndexNoMoreThereError
        return self._data[first - self._gone : last - self._gone]


@pytest.mark.parametrize("gone", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("there", [0, 1, 5])
def test_what_is_left_of_a_view(gone: int, there: int) -> None:
    data = list(range(there))
    assert tail.present(View(3, gone, data)) == (gone, data)


def test_lines_about_the_same_index_stand_together() -> None:
    parts = [tail.human_lines(name, View(0, 0, [0, 1])) for name in "ab"]
    lines = ["a[0]  0\n", "b[0]  0\n", "a[1]  1\n", "b[1]  1\n"]
    assert list(tail.merged(parts)) == lines


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2000])
def test_chunks_lose_nothing(count: int) -> None:
    lines = [f"{i}\n" for i in range(count)]
    assert "".join(tail.chunks(iter(lines))) == "".join(lines)


def test_names_of_streams_do_not_reach_the_terminal_as_commands() -> None:
    ((_, text),) = tail.human_lines("a\x1b[2J", View(0, 0, ["b\x1b[2J"]))
    assert "\x1b" not in text
    ((_, text),) = tail.json_lines('a"\x1b', View(0, 0, [1]))
    assert json.loads(text)["stream"] == 'a"\x1b'
