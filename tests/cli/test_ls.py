"""`blissdata ls`: which scans there are."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from blissdata import DataStore, Scan
from blissdata.cli.ls import table_of
from blissdata.cli.names import short_key
from blissdata.cli.overview import ScanRow, lost_publishers, npoints_of
from blissdata.exceptions import ScanValidationError
from blissdata.streams import heartbeat
from blissdata.testing.servers import TestServer


def new_scan(store: DataStore, number: int, info: Any = None, **identity: str) -> Scan:
    identity = {"name": "loopscan", "data_policy": "none", **identity}
    return store.create_scan({**identity, "number": number}, info or {})


@pytest.fixture
def scans(store: DataStore) -> list[Scan]:
    """One CREATED, one STARTED with 3 of 10 points, one CLOSED; in this order."""
    created = new_scan(store, 1, session="ihr42")
    started = new_scan(store, 2, {"npoints": 10}, name="ascan", session="ihr42", dataset="d1")
    streams = [started.create_stream(name, dtype="f8") for name in ("diode", "slow")]
    started.prepare()
    started.start()
    streams[0].send([1.0, 2.0, 3.0])
    streams[1].send(1.0)
    for stream in streams:
        stream.join()
    closed = new_scan(store, 3, name="Loopscan", session="other")
    closed.close()
    yield [created, started, closed]
    for scan in (created, started):
        scan.close()


def test_json_has_an_object_per_line_newest_first(run: Callable, scans: list[Scan]) -> None:
    shown = run("ls", "--json")
    assert shown.code == 0
    assert shown.err == ""
    assert [found["key"] for found in shown.objects] == [s.key for s in reversed(scans)]
    closed, started, created = shown.objects
    assert started.pop("age") == pytest.approx(0, abs=60)
    assert started.pop("created")[:4].isdigit()
    assert started.pop("silence") == pytest.approx(0, abs=60)
    assert started == {
        "key": scans[1].key,
        "name": "ascan",
        "number": 2,
        "data_policy": "none",
        "session": "ihr42",
        "proposal": None,
        "collection": None,
        "dataset": "d1",
        "path": None,
        "state": "STARTED",
        "points": 3,
        "npoints": 10,
        "streams": ["diode", "slow"],
        "lost": False,
    }
    assert (closed["silence"], closed["lost"]) == (None, False)
    assert (closed["state"], closed["points"], closed["npoints"]) == ("CLOSED", 0, None)
    assert (created["state"], created["streams"]) == ("CREATED", [])


def test_the_table_of_a_pipe_is_complete_and_without_colours(
    run: Callable, scans: list[Scan]
) -> None:
    shown = run("ls")
    assert shown.code == 0
    head, *lines = [line.split() for line in shown.out.splitlines()]
    assert head == ["NR", "NAME", "STATE", "AGE", "POINTS", "STREAMS", "KEY"]
    ages = [line.pop(3) + line.pop(3) for line in lines]
    assert all(found.endswith(("s", "min")) for found in ages)
    assert lines == [
        ["3", "Loopscan", "CLOSED", "0", "0", scans[2].key],
        ["2", "ascan", "STARTED", "3/10", "2", scans[1].key],
        ["1", "loopscan", "CREATED", "0", "0", scans[0].key],
    ]
    assert "\x1b" not in shown.out


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ("--name loop*", [3, 1]),
        ("--name *SCAN", [3, 2, 1]),
        ("--number 2", [2]),
        ("--session ihr42 --name ascan", [2]),
        ("--dataset d*", [2]),
        ("--data-policy none", [3, 2, 1]),
        ("--state closed", [3]),
        ("--state RUNNING", [2, 1]),
        ("--state started --state created", [2, 1]),
        ("--state running --name loop*", [1]),
        ("-n 1", [3]),
        ("-n 1 --state running", [2]),
        ("-n 0", [3, 2, 1]),
        ("--number 99", []),
        ("--path *", [3, 2, 1]),
    ],
)
def test_filters(run: Callable, scans: list[Scan], options: str, numbers: list[int]) -> None:
    shown = run("ls", "--json", *options.split())
    assert shown.code == 0
    assert [found["number"] for found in shown.objects] == numbers


@pytest.fixture
def all_lost(store: DataStore, scans: list[Scan], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every publisher is taken for lost, however short it was silent."""
    store.heartbeat.close()
    monkeypatch.setattr(heartbeat, "LOST_AFTER_S", -1.0)


def test_scans_whose_publisher_is_lost_say_so(
    run: Callable, store: DataStore, scans: list[Scan], all_lost: None
) -> None:
    assert [found["lost"] for found in run("ls", "--json").objects] == [False, True, True]
    lines = run("ls").out.splitlines()
    assert ["publisher is lost" in line for line in lines] == [False, False, True, True]
    assert [one["number"] for one in run("ls", "--json", "--state", "lost").objects] == [2, 1]
    assert set(lost_publishers(store)) == {scans[0].key, scans[1].key}
    assert set(lost_publishers(store, [scans[1].key, scans[2].key])) == {scans[1].key}


def test_publishers_that_live_or_give_no_signs_of_life_are_not_lost(
    run: Callable, store: DataStore, scans: list[Scan], server: TestServer
) -> None:
    assert lost_publishers(store) == {}
    store.heartbeat.close()  # it would give another sign of life
    with server.client() as client:
        for pulse in client.scan_iter("*pulse*"):
            client.delete(pulse)
    assert lost_publishers(store) == {}
    assert run("ls", "--state", "lost").out == ""
    assert run("ls", "--json").objects[1]["silence"] is None


def test_a_damaged_scan_does_not_hide_lost_publishers(
    stack_store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "LOST_AFTER_S", -1.0)
    scans = [new_scan(stack_store, number) for number in range(5)]
    stack_store._redis.xadd(f"esrf:stream:{scans[2]._document.state_pk}", {"state": "nonsense"})
    with pytest.raises(ScanValidationError):
        stack_store.scan_lives([scan.key for scan in scans])
    assert set(lost_publishers(stack_store)) == {scan.key for scan in scans} - {scans[2].key}


def test_no_scan_is_said_on_stderr(run: Callable, scans: list[Scan]) -> None:
    shown = run("ls", "--name", "nix")
    assert (shown.code, shown.out) == (0, "")
    assert shown.err == "blissdata: no scan is what was asked for\n"


def test_older_ones_that_are_not_shown_are_mentioned(run: Callable, scans: list[Scan]) -> None:
    shown = run("ls", "-n", "1")
    assert len(shown.out.splitlines()) == 2
    assert "older ones are not shown" in shown.err


@pytest.mark.parametrize(
    "options",
    ["--name a*b", "--number x", "--state asleep", "-n -1", "-n x", "--nothing", "extra"],
)
def test_wrong_usage_is_exit_code_2(run: Callable, options: str) -> None:
    shown = run("ls", *options.split())
    assert shown.code == 2
    assert shown.out == ""
    assert shown.err


def test_another_server_and_none(
    run: Callable, scans: list[Scan], server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLISSDATA_URL", "redis://:secret@127.0.0.1:1")
    shown = run("ls")
    assert shown.code == 1
    assert "No blissdata server answers" in shown.err
    assert "secret" not in shown.err
    assert "Traceback" not in shown.err
    assert len(run("ls", "--json", "--url", server.url).objects) == 3


def test_a_server_of_another_version(run: Callable, server: TestServer) -> None:
    with server.client() as client:
        client.set("_PROTOCOL_VERSION_", "1002")
    shown = run("ls")
    assert shown.code == 1
    assert "1002" in shown.err
    assert len(shown.err.splitlines()) == 1


def test_a_damaged_scan_does_not_hide_the_others(
    run: Callable, scans: list[Scan], server: TestServer
) -> None:
    with server.client() as client:
        client.set(scans[2].key, "{nonsense")
    damaged, started, _ = run("ls", "--json").objects
    assert damaged["state"] == "?"
    assert "not JSON" in damaged["problem"]
    assert started["points"] == 3
    shown = run("ls")
    assert shown.code == 0
    assert "not JSON" in shown.out


def test_a_deleted_scan_is_not_listed(run: Callable, store: DataStore, scans: list[Scan]) -> None:
    store.delete_scan(scans[2].key)
    assert [found["number"] for found in run("ls", "--json").objects] == [2, 1]


def test_few_round_trips_for_many_scans(
    run: Callable, store: DataStore, server: TestServer
) -> None:
    for number in range(300):
        new_scan(store, number).close()
    with server.client() as client:
        before = client.info("stats")["total_commands_processed"]
        shown = run("ls", "--json", "-n", "5", "--state", "closed")
        after = client.info("stats")["total_commands_processed"]
    assert [found["number"] for found in shown.objects] == [299, 298, 297, 296, 295]
    # Commands inside server functions count as well: two for each state, some for each document.
    assert after - before < 2 * 300 + 60 + 300


def test_without_rich_the_extra_is_named_and_json_goes_on(
    run: Callable, scans: list[Scan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich.cells", None)
    shown = run("ls")
    assert shown.code == 1
    assert shown.out == ""
    assert 'pip install "blissdata[cli]"' in shown.err
    assert len(shown.err.splitlines()) == 1
    assert len(run("ls", "--json").objects) == 3
    assert run("show", "2").code == 1
    assert run("show", "2", "--json").code == 0


def test_a_pipe_that_closes_ends_it_quietly(
    start: Callable[..., subprocess.Popen[str]], store: DataStore
) -> None:
    for number in range(600):
        store.create_scan({"name": "n" * 200, "number": number, "data_policy": "none"})
    process = start("ls", "--json", "-n", "0")
    assert '"number": 599' in process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == ""


# ---------------------------------------------------------------------------------- pure

KEY = "esrf:scan:{01ARYZ6S41TSV4RRFFQ69G5FAV}"


def row(**changes: Any) -> ScanRow:
    given = {
        "key": KEY,
        "identity": {"name": "loopscan", "number": 7},
        "state": "CLOSED",
        "age": 5.0,
        "points": 100,
        "npoints": 100,
        "streams": ("a", "b"),
    }
    return ScanRow(**{**given, **changes})


@pytest.mark.parametrize("room", [1, 10, 20, 40, 60, 80, 120])
def test_a_table_fits_into_its_terminal(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    lines = table_of([row(), row(identity={"name": "x" * 30, "number": 12})], room).splitlines()
    assert len(lines) == 3
    assert all(len(line) <= room for line in lines)


def test_80_columns_keep_the_end_of_the_key_which_names_the_scan_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    shown = table_of([row()], 80)
    assert KEY not in shown
    assert short_key(KEY) in shown
    assert KEY in table_of([row()], 100)


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[2mCLOSED" in table_of([row()], 120)
    assert "\x1b" not in table_of([row()], None)
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in table_of([row()], 120)


def test_names_do_not_reach_the_terminal_as_commands() -> None:
    name = "[red]a\x1b[31mb\nc[/red]"
    shown = table_of([row(identity={"name": name, "number": 1})], None)
    assert "[red]a\\x1b[31mb\\nc[/red]" in shown
    assert len(shown.splitlines()) == 2


@pytest.mark.parametrize(
    ("info", "npoints"),
    [({}, None), ({"npoints": 10}, 10), ({"npoints": 0}, None), ({"npoints": -1}, None)]
    + [({"npoints": found}, None) for found in ("10", 1.5, True, None, [1])],
)
def test_how_many_points_there_will_be(info: dict[str, Any], npoints: int | None) -> None:
    assert npoints_of(info) == npoints


def test_ages_grow(run: Callable, scans: list[Scan]) -> None:
    first = run("ls", "--json").objects[0]["age"]
    deadline = time.monotonic() + 30
    while run("ls", "--json").objects[0]["age"] <= first:
        assert time.monotonic() < deadline
