"""`blissdata where`: which points are where, as a map and as JSON."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from blissdata import DataStore, Scan, hdf5_handles
from blissdata.cli.bars import bar, legend, pieces, ranges_text
from blissdata.cli.where import map_of
from blissdata.exceptions import ScanNotFoundError
from blissdata.lima.client import prepare_next_lima_acquisition
from blissdata.streams import Availability, Place, Ranges, heartbeat
from blissdata.streams.availability import EventBounds, Holding
from blissdata.streams.hdf5_fallback import Hdf5BackedStream
from blissdata.streams.lima import LimaStream

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "where-is-my-data.md"
LONG_S = 60.0


def make_old(path: Path) -> None:
    """As if the file had been left alone for a while."""
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))


class Acquisition:
    """A scan of 1000 points, of which the server forgets the oldest: a diode that is saved, a clock that
    is not, a camera that keeps 50 frames and saves 100 a file."""

    def __init__(self, store: DataStore, directory: Path) -> None:
        self.store = store
        self.directory = directory
        self.path = directory / "scan.h5"
        identity = {
            "name": "timescan", "number": 7, "data_policy": "none", "path": str(self.path)
        }  # fmt: skip
        self.scan: Scan = store.create_scan(identity, {"npoints": 1000})
        number = prepare_next_lima_acquisition(store, "tango://camera")
        saving = {
            "file_path": str(directory / "camera_%04d.h5"),
            "data_path": "/entry_0000/measurement/data",
            "file_format": "HDF5",
            "file_offset": 0,
            "frames_per_file": 100,
        }
        make = self.scan.create_stream
        self.diode = make(Hdf5BackedStream.make_definition("diode", self.path, "/1.1/diode", "f8"))
        self.clock = make("elapsed_time", dtype="float64")
        self.camera = make(
            LimaStream.make_definition(
                "camera", "u2", (8, 8), "tango://camera", 50, 1000, number, saving
            )
        )
        self.scan.prepare()
        self.scan.start()

    def publish(self, points: int) -> None:
        """Up to so many points, ten an entry."""
        for start in range(len(self.clock), points, 10):
            self.diode.send(np.arange(start, start + 10.0) + 1)
            self.clock.send(np.arange(start, start + 10) / 10)
            for stream in (self.diode, self.clock):
                stream.join()

    def take(self, frames: int, saved: int) -> None:
        """The camera took and saved so many frames."""
        self.camera.send({"last_index": frames - 1, "last_index_saved": saved - 1})
        self.camera.join()
        for number in range(-(-saved // 100)):
            (self.directory / f"camera_{number:04d}.h5").touch()

    def save(self, points: int) -> None:
        with h5py.File(self.path, "w") as file:
            file["/1.1/diode"] = np.arange(points) + 1.0

    def forget(self, points: int) -> None:
        self.store.event_log.trim({self.diode.key: points, self.clock.key: points})


@pytest.fixture
def acquisition(store: DataStore, tmp_path: Path) -> Iterator[Acquisition]:
    made = Acquisition(store, tmp_path)
    yield made
    with suppress(ScanNotFoundError):
        made.scan.close()
    hdf5_handles.close_files()


@pytest.fixture
def half_way(acquisition: Acquisition) -> Acquisition:
    acquisition.publish(700)
    acquisition.take(690, 660)
    acquisition.save(500)
    acquisition.forget(400)
    return acquisition


# ------------------------------------------------------------------------------ the command


def as_in_the_page(shown: str, acquisition: Acquisition) -> str:
    """With the names that the page uses."""
    shown = shown.replace(str(acquisition.directory), "/data/visitor")
    return shown.replace(acquisition.scan.key, "esrf:scan:{01KAXWZ3M5S0J7Q2B8N4C6D9EF}")


def test_during_and_after_an_acquisition_as_the_page_shows_it(
    run: Callable, half_way: Acquisition
) -> None:
    blocks = re.findall(r"```text\n\$ blissdata where last\n(.*?)```", PAGE.read_text(), re.DOTALL)
    during = run("where", "last")
    half_way.publish(1000)
    half_way.take(1000, 1000)
    half_way.save(1000)
    half_way.scan.close()
    half_way.forget(1000)
    make_old(half_way.path)
    after = run("where", "last")
    assert during.code == after.code == 0
    assert during.err == after.err == ""
    assert [as_in_the_page(one.out, half_way) for one in (during, after)] == blocks


def test_json_says_the_same(run: Callable, half_way: Acquisition) -> None:
    (found,) = run("where", "7", "--json").objects
    assert (found["key"], found["number"], found["state"]) == (half_way.scan.key, 7, "STARTED")
    diode, clock, camera = found["streams"]
    assert (diode["length"], diode["memory"], diode["file"]) == (700, [[400, 700]], [[0, 500]])
    assert (diode["pending"], diode["gone"]) == ([], [])
    assert diode["files"][0]["path"] == str(half_way.path)
    assert (clock["memory"], clock["gone"]) == ([[400, 700]], [[0, 400]])
    assert (camera["detector"], camera["file"]) == ([[640, 690]], [[0, 600]])
    assert camera["pending"] == [[600, 640]]


def test_only_the_streams_that_were_asked_for(run: Callable, half_way: Acquisition) -> None:
    (found,) = run("where", "last", "cam*", "diode", "--json").objects
    assert [one["name"] for one in found["streams"]] == ["diode", "camera"]
    missing = run("where", "last", "nothing")
    assert missing.code == 3
    assert "has no stream 'nothing'; there are: camera, diode, elapsed_time" in missing.err


def test_streams_may_be_named_behind_an_option(run: Callable, half_way: Acquisition) -> None:
    (found,) = run("where", "last", "--json", "diode", "cam*").objects
    assert [one["name"] for one in found["streams"]] == ["diode", "camera"]


@pytest.mark.parametrize(
    ("words", "left"),
    [("--nonsense", "--nonsense"), ("--json diode --nonsense", "diode --nonsense")],
)
def test_what_is_not_understood_brings_the_usage_of_the_command(
    run: Callable, words: str, left: str
) -> None:
    shown = run("where", "last", *words.split())
    assert shown.code == 2
    assert shown.err.startswith("usage: blissdata where ")
    assert f"unrecognized arguments: {left}" in shown.err


def test_a_lost_publisher_is_told_of(
    run: Callable, half_way: Acquisition, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("where", "last", "--json").objects[0]["lost"] is False
    half_way.store.heartbeat.close()
    monkeypatch.setattr(heartbeat, "LOST_AFTER_S", -1.0)
    assert run("where", "last", "--json").objects[0]["lost"] is True
    assert "STARTED" in (title := run("where", "last").out.splitlines()[0])
    assert title.endswith(", its publisher is lost")


def test_a_stream_that_cannot_be_asked_says_why(run: Callable, store: DataStore) -> None:
    with store.create_scan({"name": "s", "number": 1, "data_policy": "none"}) as scan:
        plain = scan.create_stream("plain", dtype="f8")
        document = scan._document
        encoding = document.streams["plain"].encoding
        info = {"plugin": "nobody's"}
        document.streams["camera"] = store.catalog.new_stream(document.pk, encoding, info)
        scan.prepare()
        plain.send(1.0)
        plain.join()
        shown = run("where", "last")
    assert shown.code == 0
    assert "needs the plugin 'nobody's', which is not installed" in shown.out
    assert "1 point; memory 0" in shown.out


def test_a_scan_without_streams(run: Callable, store: DataStore) -> None:
    with store.create_scan({"name": "s", "number": 1, "data_policy": "none"}):
        assert "no streams yet" in run("where", "last").out
    assert run("where", "last").out.endswith("no streams\n")
    assert run("where", "99").code == 3
    assert run("where").code == 2


def test_watching_goes_on_until_the_scan_is_closed(
    run: Callable, start: Callable, half_way: Acquisition
) -> None:
    assert run("where", "last", "clock", "elapsed*", "--watch").code == 3  # no stream `clock`
    program: subprocess.Popen[str] = start("where", "last", "elapsed*", "--json", "--watch", "0.05")
    assert program.stdout is not None
    assert '"length": 700' in program.stdout.readline()
    half_way.publish(710)
    assert '"length": 710' in program.stdout.readline()
    half_way.scan.close()
    rest, errors = program.communicate(timeout=LONG_S)
    assert program.returncode == 0
    assert '"state": "CLOSED"' in rest.splitlines()[-1]
    assert errors == ""


@pytest.mark.parametrize("force", [False, True], ids=["closed before", "by force"])
def test_a_scan_that_is_deleted_while_it_is_watched_did_not_end(
    start: Callable, half_way: Acquisition, store: DataStore, force: bool
) -> None:
    program: subprocess.Popen[str] = start("where", "last", "--json", "--watch", "0.05")
    assert program.stdout is not None
    program.stdout.readline()
    if not force:
        program.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, program.pid, os.WSTOPPED | os.WNOWAIT)
        half_way.scan.close()
    store.delete_scan(half_way.scan.key, force=force)
    program.send_signal(signal.SIGCONT)
    _, errors = program.communicate(timeout=LONG_S)
    assert program.returncode == 3
    (line,) = errors.splitlines()
    assert half_way.scan.key in line
    assert "deleted" in line


class Terminal:
    """A terminal in which the command runs, 50 characters wide."""

    def __init__(self, start: Callable, *argv: str) -> None:
        self._ours, theirs = pty.openpty()
        environment = {**os.environ, "COLUMNS": "50", "TERM": "xterm", "PYTHONDEVMODE": "1"}
        environment.pop("NO_COLOR", None)
        self.program = start(*argv, stdout=theirs, env=environment)
        os.close(theirs)
        self.shown = ""

    def read_until(self, word: str | None) -> None:
        """Until the word was shown, or (None) to the end."""
        while word is None or word not in self.shown:
            try:
                part = os.read(self._ours, 1 << 16)
            except OSError:  # the other end is closed
                part = b""
            if not part:
                break
            self.shown += part.decode(errors="replace")
        if word is None:
            os.close(self._ours)
            assert self.program.wait(LONG_S) == 0


def test_on_a_terminal_it_is_coloured_and_fits(start: Callable, half_way: Acquisition) -> None:
    terminal = Terminal(start, "where", "last")
    terminal.read_until(None)
    assert "\x1b[32m█" in terminal.shown
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in terminal.shown.splitlines()]
    # What cannot be broken, a key or a path, is broken by force; bars and numbers fit.
    assert max(map(len, lines)) <= 50


def test_on_a_terminal_the_next_map_takes_the_place_of_the_one_before(
    start: Callable, half_way: Acquisition
) -> None:
    terminal = Terminal(start, "where", "last", "elapsed*", "--watch", "0.05")
    terminal.read_until("700 of 1000")
    terminal.read_until("come")  # the last line
    lines = terminal.shown.rstrip().count("\n") + 1
    half_way.publish(710)
    terminal.read_until("710 of 1000")
    assert f"\x1b[{lines}F\x1b[J" in terminal.shown
    half_way.scan.close()
    terminal.read_until(None)
    assert "CLOSED" in terminal.shown


def test_without_rich_the_extra_is_named_and_json_goes_on(
    run: Callable, half_way: Acquisition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich.cells", None)
    shown = run("where", "last")
    assert shown.code == 1
    assert 'pip install "blissdata[cli]"' in shown.err
    assert run("where", "last", "--json").code == 0


# ------------------------------------------------------------------------------ pure


def of(*holdings: Holding, length: int = 100, sealed: bool = False, **more: Any) -> Availability:
    return Availability("diode", "k", length, sealed, holdings, **more)


def text(found: Availability, total: int, width: int) -> str:
    return "".join(one for one, _ in pieces(bar(found, total, width)))


def test_a_bar_shows_places_by_their_marks() -> None:
    memory = EventBounds(40, 100, False).in_memory()
    file = Holding(Place.FILE, Ranges.between(0, 60), Ranges.between(60, 10**6), "/f")
    assert text(of(memory, file), 100, 10) == "▄▄▄▄██▀▀▀▀"
    assert text(of(memory, file), 200, 10) == "▄▄█▀▀·····"
    detector = Holding(Place.DETECTOR, Ranges.between(50, 100))
    assert text(of(detector, file), 100, 10) == "▄▄▄▄▄◈◆◆◆◆"
    assert [mark.meaning for mark in legend([bar(of(memory, file), 200, 10)])] == [
        "memory and file",
        "memory",
        "file",
        "to come",
    ]


def test_one_point_that_is_gone_is_seen() -> None:
    memory = Holding(Place.MEMORY, Ranges.of([(0, 555), (556, 1000)]))
    assert text(of(memory, length=1000), 1000, 10) == "▀▀▀▀▀×▀▀▀▀"
    file = Holding(Place.FILE, Ranges.of([(0, 995)]), Ranges.between(995, 2000))
    assert text(of(file, length=1000), 1000, 10) == "▄▄▄▄▄▄▄▄▄░"
    assert text(of(file, length=1000, complete=False), 1000, 10) == "▄▄▄▄▄▄▄▄▄░"
    assert text(of(length=1000, complete=False), 1000, 4) == "????"


def test_few_points_have_a_character_each_and_what_never_comes_none() -> None:
    memory = Holding(Place.MEMORY, Ranges.between(0, 3))
    assert text(of(memory, length=3), 3, 48) == "▀▀▀"
    assert text(of(memory, length=3, sealed=True), 6, 48) == "▀▀▀   "
    assert text(of(length=0), 0, 48) == ""


def test_numbers_stop_where_nobody_reads_on() -> None:
    spotted = Holding(Place.MEMORY, Ranges.of((i, i + 1) for i in range(0, 20, 2)))
    assert ranges_text(of(spotted, length=20, complete=False)) == (
        "memory 0, 2, 4 and 7 more ranges; not known 1, 3, 5 and 7 more ranges"
    )


@pytest.mark.parametrize("room", [None, 20, 40, 80, 200])
def test_any_names_are_shown(room: int | None) -> None:
    odd = Holding(Place.FILE, Ranges.between(0, 3), path="/data/\x1b[2J.h5", why="no\nway")
    found = {
        "a\x1b[2Jb" * 5: of(odd, length=5, sealed=True),
        "c": of(length=0, problem="gone \x07"),
    }
    for line in map_of(found, 10, room):
        shown = "".join(one for one, _ in line)
        assert shown.isprintable()
