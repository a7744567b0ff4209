"""`blissdata status`: how a server is kept, as people and scripts read it.

found       `--url`, a bare URL, `$BLISSDATA_URL`, a directory: as `ls` and `track` find theirs
keeping     the tracker's words, since when all is there, what goes next, pins, dead publishers
warnings    no limit, eviction, no file, nearly full, no tracker, one of 2.x, pins, points too large
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blissdata import DataStore
from blissdata.cli import command_line_parser, main
from blissdata.cli.status import _address, _keeping, _writing
from blissdata.exceptions import BlissdataError
from blissdata.redis_engine.backends.abstract import PIN_LAPSES_AFTER_S, PinState
from blissdata.redis_engine.memory_tracker.health import (
    Frame,
    Health,
    PinBehind,
    Setup,
    warnings,
)
from blissdata.redis_engine.memory_tracker.options import Options
from blissdata.redis_engine.memory_tracker.report import FOREIGN_S, Alarm, Next, Report
from blissdata.redis_engine.memory_tracker.service import Service
from blissdata.testing.servers import StackServer, TestServer
from blissdata.writer.report import Report as WriterReport
from blissdata.writer.report import ScanReport

IDENTITY = {"name": "ascan", "number": 1, "data_policy": "none"}
MB = 1 << 20


# ------------------------------------------------------------------------------ found


@pytest.mark.parametrize(
    ("argv", "environment", "expected"),
    [
        ([], None, None),
        ([], "redis://here:1", "redis://here:1"),
        ([], "/data/run7", Path("/data/run7")),
        (["redis://there:1"], "redis://here:1", "redis://there:1"),
        (["--url", "redis://there:1"], "redis://here:1", "redis://there:1"),
        (["--url", "/data/run7"], None, Path("/data/run7")),
        (["--directory", "run7"], "redis://here:1", Path("run7")),
    ],
)
def test_the_server_is_found_as_other_commands_find_it(
    argv: list[str], environment: str | None, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BEACON_HOST", raising=False)
    monkeypatch.delenv("BLISSDATA_URL", raising=False)
    if environment is not None:
        monkeypatch.setenv("BLISSDATA_URL", environment)
    assert _address(command_line_parser().parse_args(["status", *argv])) == expected


@pytest.mark.parametrize("command", ["ls", "status", "track", "pins"])
def test_every_command_takes_the_same_word_for_the_server(command: str) -> None:
    parsed = command_line_parser().parse_args([command, "--url", "redis://there:1"])
    assert "redis://there:1" in (parsed.__dict__.get("url"), parsed.__dict__.get("redis_url"))
    command_line_parser().parse_args([command])  # without: found


def test_two_addresses_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["status", "redis://a", "--url", "redis://b"])
    assert "not allowed with" in capsys.readouterr().err


# ------------------------------------------------------------------------------ keeping


def one_round(store: DataStore, options: Options) -> Service:
    """What a tracker does and tells in a round; it has no time to wait for the next."""
    service = Service(store, options)
    service._pause = lambda seconds: service.stop()  # type: ignore[method-assign]
    service.run()
    return service


@pytest.mark.parametrize("kind", ["plain", "stack"])
def test_what_is_kept_and_what_goes_next(
    kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    store: DataStore = request.getfixturevalue(f"{kind}_store")
    server: TestServer = request.getfixturevalue("server" if kind == "plain" else "stack_server")
    with server.client() as client:
        client.config_set("maxmemory", 500 * MB)
    with store.create_scan(IDENTITY) as scan:
        streams = [scan.create_stream(name, dtype="f8", shape=(1000,)) for name in "ab"]
        scan.prepare()
        for stream in streams:
            stream.send(np.zeros((5, 1000)))
            stream.join()
        pin = scan.pin("writer", {"a": 4})
        one_round(store, Options(protected_history=0, cleaning_threshold=70))
        assert main(["status", "--url", server.url]) == 0
        shown = capsys.readouterr().out
        assert main(["status", "--url", server.url, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
    tracker = found["keeping"]["tracker"]
    assert (tracker["scans"], tracker["cleaning_threshold"], tracker["pin_limit"]) == (1, 70, "90%")
    assert found["maxmemory"] == 500 * MB
    assert abs(found["keeping"]["complete_since"] - found["keeping"]["now"]) < 60
    coming = found["keeping"]["next"]
    assert (coming["streams"], coming["scans"]) == (1, [scan.key])  # stream b is held as a whole
    (told,) = found["keeping"]["pins"]
    assert (told["name"], told["scan"], told["points_behind"]) == ("writer", scan.key, 1 + 5)
    assert (told["lapsed"], told["lost"]) == (False, {})
    assert found["keeping"]["pins_can_be_kept"] is True
    assert found["keeping"]["dead_publishers"] == []
    assert [text for text in found["warnings"] if "append-only" not in text] == []
    assert "forgets from 70 % of memory on" in shown
    assert f"in 1 stream of {scan.key}" in shown
    assert f"'writer' of {scan.key}: 6 points behind" in shown
    assert "every point since" in shown
    pin.release()


def test_a_dead_publisher_is_named(
    store: DataStore, server: TestServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with store.create_scan(IDENTITY) as scan:
        scan.data_store.heartbeat.close()  # and no beat is on its way any more
        pulse = scan.key.replace(":scan:", ":pulse:")
        with server.client() as client:
            assert client.pexpire(pulse, (86400 - 35) * 1000)
        assert main(["status", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        (dead,) = found["keeping"]["dead_publishers"]
        assert dead["scan"] == scan.key
        assert 35 <= dead["silence_s"] < 35 + 60
        assert any("no sign of life" in text and scan.key in text for text in found["warnings"])


def test_a_server_that_is_not_prepared_has_no_keeping(
    server: TestServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", server.url, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["keeping"] is None
    with server.client() as client:
        assert client.dbsize() == 0  # it looked, and changed nothing
    assert any("no memory limit" in text for text in found["warnings"])


def test_a_tracker_of_2x_is_told_from_ours(
    stack_store: DataStore, stack_server: StackServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the journal: nobody of this version says anything."""
    with stack_store.create_scan(IDENTITY) as scan:
        stream = scan.create_stream("a", dtype="f8")
        scan.prepare()
        stream.send(1.0)
        stream.join()
        with stack_server.client() as client:
            client.xadd("_MEMORY_TRACKING_", {stream.key: "0-1"})
        assert main(["status", stack_server.url, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["keeping"]["pins_can_be_kept"] is False
    assert any("blissdata 2.x is at work" in text for text in found["warnings"])


def test_the_writer_is_as_far_as_its_pin_says_now() -> None:
    """Its report may be two seconds old, in which points came and were written."""
    pin = PinState("key", "esrf:scan:x", "writer", "process 7", True, 0.0, positions={"s:a": 3})
    health = Health(1000.0, "plain", pins=(PinBehind(pin, 7),))
    scan = ScanReport("esrf:scan:x", 1, ["/data/a.h5::/1.1"], "writing", points=2, behind=0)
    report = WriterReport("process 7", ["/data"], scans=[scan])
    assert (
        dict(_writing(report, health))["writes"] == "/data/a.h5::/1.1: 3 points written, 7 behind"
    )
    assert "pin" not in dict(_keeping(health, report))
    assert "7 points behind" in dict(_keeping(health, None))["pin"]
    assert "2 points written, 0 behind" in dict(_writing(report, None))["writes"]


def test_a_scan_that_is_not_written_is_told_with_what_to_do() -> None:
    pin = PinState("key", "esrf:scan:x", "writer", "process 7", True, 1e5)
    health = Health(1000.0, "plain", pins=(PinBehind(pin, 7),))
    scan = ScanReport("esrf:scan:x", 1, ["/data/a.h5"], "failed", reason="/data/a.h5: no space")
    told = dict(_writing(WriterReport("process 7", ["/data", "/tmp"], scans=[scan]), health))
    assert told["FAILED"] == (
        "/data/a.h5 (scan esrf:scan:x): /data/a.h5: no space. What is not written stays on the server: mend "
        "that, then blissdata write --retry esrf:scan:x --roots /data:/tmp; or blissdata record esrf:scan:x "
        "FILE; or give the points up: blissdata pins --remove esrf:scan:x writer"
    )


def test_a_damaged_scan_hides_nothing(
    store: DataStore, server: TestServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with suppress(BlissdataError), store.create_scan(IDENTITY) as scan:
        scan.create_stream("a", dtype="f8")
        scan.prepare()
        with scan.pin("writer"), server.client() as client:
            client.set(scan.key, "no JSON")
            assert main(["status", "--json"]) == 0
            found = json.loads(capsys.readouterr().out)
            (told,) = found["keeping"]["pins"]
            assert (told["name"], told["points_behind"]) == ("writer", None)
        store.delete_scan(scan.key, force=True)


# ------------------------------------------------------------------------------ warnings


GOOD = Setup(10 * MB, 100 * MB, "noeviction", append_only=True)
REPORT = Report(1000.0, "process 1 on here", Options())
KEPT = Health(1000.0, "stack", REPORT, recorded=999.0)


def pinned(silence: float = 0.0, lasting: bool = False, **lost: Any) -> PinBehind:
    return PinBehind(
        PinState("key", "esrf:scan:x", "writer", "process 7", lasting, silence, lost=lost), 5
    )


CASES: list[tuple[str, Setup, Health | None, list[str]]] = [
    ("all is well", GOOD, KEPT, []),
    ("not prepared", GOOD, None, []),
    ("no limit", Setup(1, 0, "noeviction", True), KEPT, ["no memory limit"]),
    ("evicts", Setup(1, 100, "allkeys-lru", True), KEPT, ["allkeys-lru", "noeviction"]),
    ("no file", Setup(1, 100, "noeviction", False), KEPT, ["append-only file"]),
    ("not told", Setup(1, 100, None, None), KEPT, []),
    ("nearly full", Setup(96, 100, None, None), KEPT, ["nearly full"]),
    ("no tracker", GOOD, Health(1000.0, "plain"), ["no memory tracker"]),
    (
        "a tracker that is on its way",
        Setup(10 * MB, 100 * MB, "noeviction", True, starting=True),
        Health(1000.0, "plain"),
        [],
    ),
    ("no tracker, no limit", Setup(1, 0, None, None), Health(0, "plain"), ["no memory limit"]),
    ("plain has none of 2.x", GOOD, Health(1000.0, "plain", recorded=999.0), ["no memory tracker"]),
    ("one of 2.x", GOOD, Health(1000.0, "stack", recorded=999.0), ["2.x is at work"]),
    (
        "one of 2.x that has gone",
        GOOD,
        Health(1000.0, "stack", recorded=999.0 - FOREIGN_S),
        ["no memory tracker"],
    ),
    (
        "one of 2.x beside ours",
        GOOD,
        Health(1000.0, "stack", Report(999.0, "x", Options(), foreign=990.0)),
        ["2.x is at work"],
    ),
    (
        "alarms",
        GOOD,
        Health(1000.0, "stack", Report(999.0, "x", Options(), alarms=(Alarm(990.0, "Ouch"),))),
        ["10 s ago the memory tracker said: Ouch"],
    ),
    ("a pin that holds", GOOD, Health(1.0, "stack", REPORT, pins=(pinned(),)), []),
    (
        "a pin that lapsed",
        GOOD,
        Health(1.0, "stack", REPORT, pins=(pinned(PIN_LAPSES_AFTER_S + 1),)),
        [],  # it holds nothing, and nobody has to do anything
    ),
    (
        "a pin that waits",
        GOOD,
        Health(1.0, "stack", REPORT, pins=(pinned(1e5, lasting=True),)),
        ["outlived its program", "--remove"],
    ),
    (
        "a broken pin",
        GOOD,
        Health(1.0, "stack", REPORT, pins=(pinned(a=((0, 5), (7, 9))),)),
        ["is broken: 7 points"],
    ),
    (
        "a dead publisher",
        GOOD,
        Health(1.0, "stack", REPORT, dead={"esrf:scan:y": 40.0}),
        ["the publisher of scan esrf:scan:y gives no sign of life any more, for 40 s"],
    ),
    (
        "a frame that does not fit",
        GOOD,
        Health(1.0, "stack", REPORT, largest=Frame("esrf:scan:y", "images", 6 * MB)),
        ["one point of stream 'images'", "6MB", "100MB"],
    ),
    (
        "a frame that fits",
        GOOD,
        Health(1.0, "stack", REPORT, largest=Frame("esrf:scan:y", "images", 5 * MB)),
        [],
    ),
]


@pytest.mark.parametrize(
    ("setup", "health", "parts"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_an_operator_is_warned(setup: Setup, health: Health | None, parts: list[str]) -> None:
    said = warnings(setup, health)
    assert len(said) == (1 if parts else 0), said
    for part in parts:
        assert part in said[0]


def rows(health: Health) -> list[tuple[str, Any]]:
    return _keeping(health)


@pytest.mark.parametrize(
    ("yielding", "told"),
    [
        (False, "nothing younger than 180 s, keeps"),
        (
            True,
            "what is younger than 180 s only where publishers would have to wait otherwise, keeps",
        ),
    ],
    ids=["one of its own", "beside a local server"],
)
def test_what_is_forgotten_last_is_told(yielding: bool, told: str) -> None:
    report = Report(999.0, "x", Options(yielding=yielding))
    assert told in dict(rows(Health(1000.0, "plain", report)))["tracker"]


@pytest.mark.parametrize("forgot", [False, True])
def test_history_is_not_cut_where_the_tracker_began(forgot: bool) -> None:
    report = Report(999.0, "x", Options(), oldest=900.0, forgot=forgot)
    assert Report.from_texts(report.as_texts()) == report
    told = dict(rows(Health(1000.0, "plain", report, oldest=900.0)))["history"]
    assert "(1 min)" in told
    assert ("has forgotten nothing" in told) is not forgot


def test_lapsed_pins_are_counted_and_the_others_named() -> None:
    pins = (pinned(), *[pinned(PIN_LAPSES_AFTER_S + 1)] * 3, pinned(1e5, lasting=True))
    told = rows(Health(1000.0, "plain", None, pins=pins))
    assert [name for name, _ in told] == ["pin", "pin", "pins"]
    assert told[-1][1] == "3 lapsed and hold nothing: `blissdata pins`"


def test_rows_fit_into_a_terminal_and_are_one_line_elsewhere() -> None:
    from blissdata.cli.status import _row

    text = "process 7 on here follows 3 scans and forgets from 80 % of memory on"
    assert _row("tracker", text, None) == f"tracker    {text}"
    first, *others = _row("tracker", text, 40).splitlines()
    assert first.startswith("tracker    process 7")
    assert len(others) > 1
    assert all(
        line.startswith(" " * 11) and len(line) <= 40 for line in (*others, " " * 11 + first[11:])
    )
    assert " ".join([first[11:], *(line.strip() for line in others)]) == text


def test_next_is_told_with_what_is_not_named() -> None:
    health = Health(
        1000.0,
        "stack",
        Report(999.0, "x", Options(), next=Next(900.0, 12, ("esrf:scan:a", "esrf:scan:b"), 3)),
    )
    rows = dict(_keeping(health))
    assert "12 streams of esrf:scan:a, esrf:scan:b and 3 more" in rows["goes next"]
    assert "(1 min ago)" in rows["goes next"]
