"""The memory tracker as a program, beside real servers and real publishers.

stdout      the lines that services read, in their form and order
pins        a slow consumer misses nothing; past the operator's limit it is broken, and that is said
memory      a publisher that sends more than the server holds never fails; the limit holds
trouble     no memory limit, nobody there, server killed, server full; another tracker
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blissdata import DataStore, ScanState
from blissdata.exceptions import IndexNoMoreThereError, PinBrokenError, PublishTimeoutError
from blissdata.redis_engine.limits import PinLimit
from blissdata.redis_engine.memory_tracker import program
from blissdata.redis_engine.memory_tracker.health import Setup, look, warnings
from blissdata.redis_engine.memory_tracker.options import Options
from blissdata.redis_engine.memory_tracker.report import Alarm, Next, Report
from blissdata.redis_engine.memory_tracker.service import Service
from blissdata.redis_engine.memory_tracker.sizes import human_size
from blissdata.testing.servers import StackServer, TestServer

IDENTITY = {"name": "ascan", "number": 1, "data_policy": "none"}
LONG_S = 60.0

LINE = re.compile(
    r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL): (.*)$"
)


class Tracker:
    """A tracker in a process of its own, and what it says."""

    def __init__(self, url: str, *options: str, command: str = "memory_tracker") -> None:
        words = [str(Path(sys.executable).with_name(word)) for word in command.split()[:1]]
        self._process = subprocess.Popen(
            [*words, *command.split()[1:], "--redis-url", url, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[tuple[str, str]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = LINE.match(line)
            self.lines.append((found[1], found[2]) if found else ("", line))

    def wait_for(self, pattern: str, since: int = 0) -> int:
        """Waits for a line; gives how many lines there are up to it."""
        deadline = time.monotonic() + LONG_S
        while True:
            for i, (_, text) in enumerate(self.lines[since:], since + 1):
                if re.search(pattern, text):
                    return i
            assert time.monotonic() < deadline, (pattern, self.lines)
            assert self._process.poll() is None, (pattern, self.lines, self.ended())
            time.sleep(0.01)

    def said(self, pattern: str) -> bool:
        return any(re.search(pattern, text) for _, text in list(self.lines))

    def ended(self) -> tuple[int, str]:
        """Waits for its end: exit code and stderr."""
        assert self._process.stderr is not None
        code = self._process.wait(LONG_S)
        self._reader.join()
        with self._process.stdout or self._process.stderr, self._process.stderr as errors:
            return code, errors.read()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self._process.send_signal(number)
        return self.ended()


Start = Callable[..., Tracker]


@pytest.fixture
def start() -> Iterator[Start]:
    made: list[Tracker] = []

    def start(*arguments: str, **how: str) -> Tracker:
        made.append(Tracker(*arguments, **how))
        return made[-1]

    yield start
    for tracker in made:
        if tracker._process.poll() is None:
            tracker.stop(signal.SIGKILL)


@pytest.fixture
def limited() -> Iterator[TestServer]:
    """A server with a memory limit, prepared in the plain layout."""
    with TestServer(maxmemory="40mb", appendonly="yes", appendfsync="everysec") as server:
        with DataStore(server.url, init_db=True):
            pass
        yield server


@contextmanager
def set_limit(server: TestServer, limit: str) -> Iterator[None]:
    with server.client() as admin:
        admin.config_set("maxmemory", limit)
    try:
        yield
    finally:
        with server.client() as admin:
            admin.config_set("maxmemory", 0)


# ------------------------------------------------------------------------------ what it says


@pytest.mark.parametrize("command", ["memory_tracker", "blissdata track"])
def test_it_says_what_services_read(limited: TestServer, start: Start, command: str) -> None:
    with limited.client() as admin:
        admin.config_set("maxmemory", "23mb")
    options = ("--cleaning-threshold", "72", "--protected-history", "321")
    tracker = start(
        limited.url,
        *options,
        "--monitoring-period",
        "1",
        "--closed-scan-deletion",
        "100000",
        command=command,
    )
    tracker.wait_for("Memory usage")
    assert tracker.lines[:3] == [
        ("INFO", "INIT | Redis max. memory: 23MB"),
        ("INFO", "INIT | Mem. usage to trigger cleanup: 72% (16.56MB)"),
        ("INFO", "INIT | Protected history length: 321 seconds"),
    ]
    with DataStore(limited.url) as store:
        with store.create_scan(IDENTITY) as scan:
            scan.prepare()
            tracker.wait_for(f"^Start tracking {re.escape(scan.key)}$")
        tracker.wait_for(
            rf"^Scan {re.escape(scan.key)} is terminated, "
            r"expiration set to 1 day, 3:46:40 seconds$"
        )
        other = store.create_scan(IDENTITY)
        tracker.wait_for(f"^Start tracking {re.escape(other.key)}$")
        store.delete_scan(other.key, force=True)
        tracker.wait_for(f"^Scan {re.escape(other.key)} has been deleted, stop tracking$")
    assert tracker.stop() == (0, "")
    assert {level for level, _ in tracker.lines} == {"INFO"}


def test_a_scan_without_news_is_deleted(limited: TestServer, start: Start) -> None:
    with DataStore(limited.url) as store:
        scan = store.create_scan(IDENTITY)
        tracker = start(limited.url, "--monitoring-period", "1", "--inactive-scan-deletion", "2")
        at = tracker.wait_for(
            rf"^Open scan {re.escape(scan.key)} was inactive for 0:\d\d:\d\d seconds, deleting now$"
        )
        assert tracker.lines[at - 1][1] > f"Open scan {scan.key} was inactive for 0:00:02"
        assert tracker.stop() == (0, "")
        assert store.search_existing_scans()[1] == []


def test_a_server_without_a_limit_is_an_error(server: TestServer, start: Start) -> None:
    tracker = start(server.url, "--init-db")
    code, _ = tracker.ended()
    assert code == 1
    assert tracker.lines == [
        (
            "ERROR",
            "Redis database has no 'maxmemory' configured, please update Redis configuration.",
        )
    ]


def test_a_server_that_is_not_prepared_is_an_error_unless_told(
    server: TestServer, start: Start
) -> None:
    with set_limit(server, "30mb"):
        assert start(server.url).ended()[0] == 1
        tracker = start(server.url, "--init-db")
        tracker.wait_for("Memory usage")
        assert tracker.stop()[0] == 0
        again = start(server.url, "--init-db")  # it is prepared already
        again.wait_for("Memory usage")
        assert again.stop(signal.SIGINT)[0] == 130


def test_nobody_there_is_an_error(tmp_path: Path, start: Start) -> None:
    tracker = start(f"unix://{tmp_path}/nothing")
    assert tracker.ended()[0] == 1
    assert tracker.lines[0][0] == "ERROR"


OPTIONS = [
    "--redis-url",
    "--cleaning-threshold",
    "--protected-history",
    "--monitoring-period",
    "--inactive-scan-deletion",
    "--closed-scan-deletion",
    "--cleaning-time-slice",
    "--pin-limit",
    "--init-db",
]


def test_the_options_are_those_of_existing_services(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["--help"])
    text = capsys.readouterr().out
    assert re.findall(r"^  (--[\w-]+)", text, re.MULTILINE) == OPTIONS
    defaults = Options()
    assert (defaults.cleaning_threshold, defaults.protected_history) == (80, 180)
    assert (defaults.monitoring_period, defaults.cleaning_time_slice) == (30, 20)
    assert (defaults.inactive_scan_deletion, defaults.closed_scan_deletion) == (86400, 604800)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--redis-url", "redis://h", "--cleaning-threshold", "0"],
        ["--redis-url", "redis://h", "--cleaning-time-slice", "101"],
        ["--redis-url", "redis://h", "--monitoring-period", "-1"],
        ["--redis-url", "redis://h", "--monitoring-period", "0"],
        ["--redis-url", "redis://h", "--protected-history", "1.5"],
    ],
)
def test_what_makes_no_sense_is_wrong_usage(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(wrong)
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1KB"),
        (23 << 20, "23MB"),
        (7_951_000, "7.583MB"),
        (41_930_000, "39.99MB"),
        (3 << 29, "1.5GB"),
        (5 << 40, "5TB"),
        (5 << 52, "2.048e+04TB"),
    ],
)
def test_sizes_are_written_as_services_read_them(nbytes: int, text: str) -> None:
    assert human_size(nbytes) == text


# ------------------------------------------------------------------------------ memory


@pytest.mark.parametrize("kind", ["plain", "stack"])
def test_a_publisher_of_more_than_memory_never_fails_and_the_limit_holds(
    kind: str, request: pytest.FixtureRequest, start: Start
) -> None:
    server: TestServer = request.getfixturevalue("server" if kind == "plain" else "stack_server")
    total, step = 160, 4  # MB
    image = np.zeros((step, 1 << 17))
    with DataStore(server.url, init_db=True) as store, set_limit(server, "40mb"):
        tracker = start(server.url, "--protected-history", "0")
        tracker.wait_for("Memory usage")
        most = 0
        with store.create_scan(IDENTITY) as scan:
            stream = scan.create_stream("images", dtype="f8", shape=(1 << 17,))
            scan.prepare()
            scan.start()
            reader = store.load_scan(scan.key).streams["images"]
            for at in range(0, total, step):
                image[:, 0] = range(at, at + step)
                stream.send(image)
                stream.join()
                most = max(most, store.backend.used_memory())
            assert len(reader) == total
            newest: Any = reader[total - 1]
            assert newest[0] == total - 1
            with pytest.raises(IndexNoMoreThereError):
                reader[0]
            scan.stop()
        assert most <= (40 + 8) << 20
        tracker.wait_for("Trimmed off the oldest 20% of stream history")
        assert tracker.stop() == (0, "")


def test_what_is_protected_is_not_forgotten_and_that_is_said(
    limited: TestServer, start: Start
) -> None:
    with DataStore(limited.url, publish_timeout=1) as store:
        tracker = start(limited.url, "--protected-history", "1000")
        tracker.wait_for("Memory usage")
        scan = store.create_scan(IDENTITY)
        stream = scan.create_stream("images", dtype="f8", shape=(1 << 17,))
        scan.prepare()
        for i in range(34):
            stream.send(np.full(1 << 17, float(i)))
        stream.join()
        at = tracker.wait_for(r"^Unable to free memory ! Remaining data is too recent to be freed ")
        assert tracker.lines[at - 1] == (
            "CRITICAL",
            "Unable to free memory ! Remaining data is too recent to be freed "
            "(protected_history: 1000 seconds)",
        )
        first: Any = stream[0]
        assert first[0] == 0
        scan.close()
        assert tracker.stop() == (0, "")


# ------------------------------------------------------------------------------ pins


@pytest.mark.parametrize("kind", ["plain", "stack"])
def test_a_pinned_consumer_that_is_late_misses_nothing_and_the_publisher_waits(
    kind: str, request: pytest.FixtureRequest, start: Start
) -> None:
    server: TestServer = request.getfixturevalue("server" if kind == "plain" else "stack_server")
    total = 80  # MB
    with (
        DataStore(server.url, init_db=True, publish_timeout=LONG_S) as store,
        DataStore(server.url) as elsewhere,
        set_limit(server, "40mb"),
    ):
        tracker = start(server.url, "--protected-history", "0", "--pin-limit", "100%")
        tracker.wait_for("^INIT . Pins are kept up to: always: publishers wait$")
        with store.create_scan(IDENTITY) as scan:
            stream = scan.create_stream("images", dtype="f8", shape=(1 << 17,))
            scan.prepare()
            reader = elsewhere.load_scan(scan.key)
            seen: list[float] = []

            def consume() -> None:
                with reader.pin("writer") as pin:
                    begun.set()
                    tracker.wait_for("^Pin 'writer' of scan .* holds what is old enough")
                    for view in reader.streams["images"].cursor():
                        seen.extend(view.get_data()[:, 7])
                        pin.move({"images": view.last_index + 1})

            begun = threading.Event()
            consumer = threading.Thread(target=consume)
            consumer.start()
            assert begun.wait(LONG_S)
            for i in range(total):
                stream.send(np.full(1 << 17, float(i)))
            scan.close()
            consumer.join(LONG_S)
            assert not consumer.is_alive()
        assert seen == list(range(total))
        assert not tracker.said("BROKEN")
        assert tracker.stop() == (0, "")


def test_past_its_limit_a_pin_is_broken_and_everybody_is_told(
    limited: TestServer, start: Start
) -> None:
    with DataStore(limited.url) as store:
        tracker = start(limited.url, "--protected-history", "0", "--pin-limit", "85%")
        tracker.wait_for("^INIT . Pins are kept up to: 85%$")
        with store.create_scan(IDENTITY) as scan:
            stream = scan.create_stream("images", dtype="f8", shape=(1 << 17,))
            scan.prepare()
            pin = scan.pin("slow")
            for i in range(80):  # MB
                stream.send(np.full(1 << 17, float(i)))
                stream.join()
            at = tracker.wait_for(f"^Pin 'slow' of scan {re.escape(scan.key)} is BROKEN")
            assert tracker.lines[at - 1][0] == "CRITICAL"
            with pytest.raises(PinBrokenError, match="images: 0 to"):
                pin.sync()
            deadline = time.monotonic() + LONG_S
            while True:
                (lost,) = pin.broken["images"]
                assert lost[0] == 0
                try:
                    first: Any = stream[lost[1]]
                    break
                except (
                    IndexNoMoreThereError
                ):  # more had to be forgotten meanwhile, and is told as well
                    assert time.monotonic() < deadline
                with suppress(PinBrokenError):
                    pin.sync()
            assert first[0] == lost[1]
            while True:
                report = Report.from_texts(store.backend.pins.told())
                if report is not None and any("BROKEN" in alarm.text for alarm in report.alarms):
                    break
                assert time.monotonic() < deadline
            assert report.options.pin_limit == PinLimit(85)
        assert tracker.stop() == (0, "")


@pytest.mark.parametrize(
    ("text", "limit", "nbytes"),
    [
        ("90", PinLimit(90), 900),
        ("12.5%", PinLimit(12.5), 125),
        ("100%", PinLimit(100), float("inf")),
        ("0", PinLimit(0), 0),
        ("3kb", PinLimit(3072, percent=False), 3072),
        ("2 GiB", PinLimit(2**31, percent=False), 2**31),
        ("500b", PinLimit(500, percent=False), 500),
    ],
)
def test_the_limit_for_pins_is_a_part_or_a_size(text: str, limit: PinLimit, nbytes: float) -> None:
    assert PinLimit.of(text) == limit
    assert limit.nbytes(1000) == nbytes
    assert PinLimit.of(str(limit)) == limit


@pytest.mark.parametrize("text", ["", "much", "101", "-1", "200%", "4gb%"])
def test_what_is_no_limit_is_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(["--redis-url", "redis://h", f"--pin-limit={text}"])
    assert ended.value.code == 2
    assert "--pin-limit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("limit", "warned"),
    [("90%", False), ("100%", False), ("80", True), ("20mb", True), ("39mb", False)],
)
def test_a_limit_below_the_threshold_is_warned_of(
    limited: TestServer, caplog: pytest.LogCaptureFixture, limit: str, warned: bool
) -> None:
    with DataStore(limited.url) as store:
        service = Service(store, Options(pin_limit=PinLimit.of(limit)))
        service.announce(store.backend.info())
        service.stop()
        service.run()
    assert ("pins hold nothing" in caplog.text) is warned


def test_what_a_tracker_tells_is_read_again() -> None:
    whole = Report(
        12.5,
        "process 1 on here",
        Options(cleaning_threshold=70, pin_limit=PinLimit(4096, percent=False), yielding=True),
        scans=3,
        oldest=1.25,
        next=Next(2.5, 7, ("esrf:scan:x",), 2),
        foreign=11.0,
        alarms=(Alarm(12.0, 'it is "full"'),),
    )
    for report in (whole, Report(1.0, "x", Options())):
        assert Report.from_texts(report.as_texts()) == report
    for texts in ({}, {"time": "1"}, whole.as_texts() | {"time": "x"}, {"time": "null"}):
        assert Report.from_texts(texts) is None


# ------------------------------------------------------------------------------ trouble


def test_a_point_that_does_not_fit_fails_alone_and_status_says_so(limited: TestServer) -> None:
    """A point of 48 MB, and a limit of 40 MB."""
    with DataStore(limited.url, publish_timeout=0.3) as store:
        with store.create_scan(IDENTITY) as scan:
            huge = scan.create_stream("huge", dtype="f8", shape=(6 << 20,))
            small = scan.create_stream("small", dtype="f8")
            scan.prepare()
            found = look(store, {})
            info = store.backend.info()
            said = warnings(Setup(info.used_memory, info.max_memory, None, None), found)
            assert any("one point of stream 'huge'" in text and "48MB" in text for text in said)
            huge.send(np.zeros(6 << 20))
            with pytest.raises(PublishTimeoutError, match=r"huge.*memory limit"):
                huge.join()
            small.send(1.0)
            small.join()
            assert (len(small), len(huge)) == (1, 0)
        assert store.load_scan(scan.key).state == ScanState.CLOSED


def test_a_limit_that_is_taken_away_meanwhile_harms_nothing(
    limited: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "blissdata.redis_engine.memory_tracker")
    with DataStore(limited.url) as store, limited.client() as admin:
        service = Service(store, Options(monitoring_period=0.05))
        thread = threading.Thread(target=service.run)
        thread.start()
        try:
            for limit in (0, "40mb", 0):
                admin.config_set("maxmemory", limit)
                with store.create_scan(IDENTITY) as scan:
                    deadline = time.monotonic() + LONG_S
                    while f"Start tracking {scan.key}" not in caplog.text:
                        assert time.monotonic() < deadline
                        time.sleep(0.01)
        finally:
            service.stop()
            thread.join()


def test_it_goes_on_when_the_server_comes_back(limited: TestServer, start: Start) -> None:
    tracker = start(limited.url, "--monitoring-period", "1")
    seen = tracker.wait_for("Memory usage")
    limited.kill()
    tracker.wait_for("connection failed|No answer|Connection", seen)
    limited.start()
    seen = len(tracker.lines)
    with DataStore(limited.url) as store, store.create_scan(IDENTITY) as scan:
        tracker.wait_for(f"Start tracking {re.escape(scan.key)}", seen)
    assert tracker.stop() == (0, "")


@pytest.mark.parametrize("kind", ["plain", "stack"])
def test_of_two_trackers_one_works_and_the_other_takes_over(
    kind: str, start: Start, server: TestServer, stack_server: StackServer
) -> None:
    chosen = server if kind == "plain" else stack_server
    with DataStore(chosen.url, init_db=True), set_limit(chosen, "40mb"):
        first = start(chosen.url, "--monitoring-period", "1")
        first.wait_for("Memory usage")
        second = start(chosen.url, "--monitoring-period", "1")
        second.wait_for("standing by")
        assert not second.said("Memory usage")
        first.stop(signal.SIGKILL)
        seen = second.wait_for("taking over")
        second.wait_for("Memory usage", seen)
        assert not second.said("blissdata 2.x")
        assert second.stop() == (0, "")
