"""`blissdata show`: a scan's header and streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from blissdata import DataStore, Scan
from blissdata.cli.overview import ScanRow, StreamRow, unit_of
from blissdata.cli.show import header_of, streams_of
from blissdata.schemas import Complaint
from blissdata.streams import heartbeat
from blissdata.streams.plugins import _entry_points
from blissdata.testing.servers import TestServer

INFO = {
    "title": "the title",
    "npoints": 5,
    "start_time": "2026-11-22T10:00:00+01:00",
    "user_name": "somebody",
    "publisher": "test",
    "publisher_version": "1",
    "channels": {"image": {"unit": "counts"}},
}


@pytest.fixture
def scan(store: DataStore) -> Iterator[Scan]:
    """A running scan with streams of every kind, and three that cannot be read here."""
    identity = {"name": "loopscan", "number": 7, "data_policy": "none", "session": "ihr42"}
    scan = store.create_scan(identity, INFO)
    diode = scan.create_stream("diode", dtype="float64", unit="A")
    image = scan.create_stream("image", dtype="uint16", shape=(4, 6))
    scan.create_stream("ragged", dtype="int32", shape=(-1,))
    scan.create_stream("log", dtype="json")
    streams, pk = scan._document.streams, scan._document.pk
    plain = streams["diode"].encoding
    streams["camera"] = store.catalog.new_stream(pk, plain, {"plugin": "nobody's"})
    streams["broken"] = store.catalog.new_stream(pk, plain, {"plugin": "breaks"})
    streams["future"] = store.catalog.new_stream(pk, {"type": "from the future"}, {})
    scan.prepare()
    scan.start()
    diode.send([1.0, 2.0, 3.0])
    image.send(np.zeros((1, 4, 6), "uint16"))
    diode.join()
    image.seal()
    yield scan
    scan.close()


@pytest.fixture(autouse=True)
def plugin_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point whose module cannot make a stream."""

    class Entry:
        def load(self) -> ModuleType:
            module = ModuleType("breaks")
            module.stream_cls = 1 / 1  # not callable
            return module

    monkeypatch.setitem(_entry_points(), "breaks", Entry())


def stream(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["streams"] if one["name"] == name)


def test_json_is_one_object_with_header_and_streams(run: Callable, scan: Scan) -> None:
    shown = run("show", "last", "--json")
    assert shown.code == 0
    assert shown.err == ""
    (found,) = shown.objects
    assert found["key"] == scan.key
    assert (found["name"], found["number"], found["session"]) == ("loopscan", 7, "ihr42")
    assert (found["state"], found["points"], found["npoints"]) == ("STARTED", 3, 5)
    assert found["info"] == INFO
    assert "complaints" not in found
    assert stream(found, "diode") == {
        "name": "diode",
        "key": scan.streams["diode"].key,
        "kind": "array",
        "dtype": "float64",
        "shape": [],
        "unit": "A",
        "points": 3,
        "sealed": False,
        "expired": None,
        "plugin": None,
        "problem": None,
    }
    image = stream(found, "image")
    assert (image["dtype"], image["shape"], image["unit"]) == ("uint16", [4, 6], "counts")
    assert (image["points"], image["sealed"]) == (1, True)
    assert stream(found, "ragged")["shape"] == [-1]
    assert stream(found, "log")["kind"] == "json"


def test_what_cannot_be_read_says_why_and_the_rest_is_shown(run: Callable, scan: Scan) -> None:
    (found,) = run("show", "7", "--json").objects
    camera, broken, future = (stream(found, name) for name in ("camera", "broken", "future"))
    assert camera["plugin"] == "nobody's"
    assert "needs the plugin 'nobody's', which is not installed" in camera["problem"]
    assert camera["kind"] is camera["dtype"] is camera["points"] is None
    assert "callable" in broken["problem"]
    assert "from the future" in future["problem"]
    assert (future["plugin"], future["points"]) == (None, 0)
    shown = run("show", "7")
    assert shown.code == 0
    assert shown.err == ""
    lines = shown.out.splitlines()
    assert any(line.split()[:2] == ["diode", "array"] for line in lines)
    assert any(line.startswith("camera: Stream 'camera' needs the plugin") for line in lines)
    assert any(line.startswith("future: ") for line in lines)


def test_the_header_for_people(run: Callable, scan: Scan) -> None:
    shown = run("show", scan.key)
    fields = dict(line.split(None, 1) for line in shown.out.split("\n\n")[0].splitlines())
    assert fields["scan"] == "7 loopscan"
    assert fields["state"] == "STARTED"
    assert fields["points"] == "3/5"
    assert fields["title"] == "the title"
    assert fields["session"] == "ihr42"
    assert fields["publisher"] == "test 1"
    assert fields["key"] == scan.key
    assert "ago)" in fields["created"]
    assert "\x1b" not in shown.out


def test_a_publisher_that_is_lost_is_mentioned(
    run: Callable, store: DataStore, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "lost" not in run("show", "last").out
    store.heartbeat.close()
    monkeypatch.setattr(heartbeat, "LOST_AFTER_S", -1.0)
    assert "STARTED (its publisher is lost: no sign of life for " in run("show", "last").out
    assert run("show", "last", "--json").objects[0]["lost"] is True


def test_points_that_left_the_server_are_shown(
    run: Callable, store: DataStore, server: TestServer
) -> None:
    with store.create_scan({"name": "s", "number": 1, "data_policy": "none"}) as scan:
        streams = {n: scan.create_stream(n, dtype="int64") for n in ("half", "all", "none", "open")}
        scan.prepare()
        scan.start()
        for i in range(4):
            for one in streams.values():
                one.send(i)
                one.join()
        for name in ("half", "all", "none"):
            streams[name].seal()
        keys = {name: one.key for name, one in streams.items()}
        store.event_log.trim({keys["half"]: 2, keys["all"]: 4, keys["open"]: 4})
        (found,) = run("show", "last", "--json").objects
        shown = run("show", "last").out
    assert {one["name"]: one["expired"] for one in found["streams"]} == {
        "half": [0, 2],
        "all": [0, 4],
        "none": None,
        "open": [0, 3],
    }
    assert {one["points"] for one in found["streams"]} == {4}
    assert "0–1" in shown
    assert "0–3" in shown


def test_a_damaged_entry_is_the_trouble_of_its_stream_alone(
    run: Callable, scan: Scan, server: TestServer
) -> None:
    with server.client() as client:
        client.xadd(scan.streams["diode"].key, {"len": "many", "payload": "x"}, id="3-1")
    (found,) = run("show", "last", "--json").objects
    assert stream(found, "diode")["points"] is None
    assert stream(found, "diode")["problem"]
    assert stream(found, "image")["points"] == 1


def test_a_scan_without_streams(run: Callable, store: DataStore) -> None:
    scan = store.create_scan({"name": "s", "number": 1, "data_policy": "none"})
    assert "no streams yet" in run("show", "last").out
    scan.close()
    shown = run("show", "last").out
    assert "no streams\n" in shown
    assert "yet" not in shown


def test_a_deleted_scan_is_exit_code_3(run: Callable, store: DataStore, scan: Scan) -> None:
    store.delete_scan(scan.key, force=True)
    shown = run("show", scan.key)
    assert shown.code == 3
    assert shown.out == ""
    assert "deleted" in shown.err
    assert run("show", "last").code == 3
    scan._state = 4  # the server's: nothing is left to close


def test_a_missing_argument_is_wrong_usage(run: Callable) -> None:
    assert run("show").code == 2


# ---------------------------------------------------------------------------------- --check


def test_check_lists_complaints_with_their_paths_and_fails(run: Callable, store: DataStore) -> None:
    info = {"npoints": "many", "title": 7}
    store.create_scan({"name": "s", "number": 1, "data_policy": "none"}, info).close()
    shown = run("show", "last", "--check")
    assert shown.code == 1
    assert "npoints" in shown.out.split("header:")[1]
    assert "title" in shown.out.split("header:")[1]
    shown = run("show", "last", "--check", "--json")
    assert shown.code == 1
    (found,) = shown.objects
    assert {"npoints", "title"} <= {
        complaint["path"].lstrip("$.") for complaint in found["complaints"]
    }
    assert all(complaint["message"] for complaint in found["complaints"])
    assert run("show", "last").code == 0


@pytest.mark.parametrize("info", [{}, {"title": "a first try", "npoints": 5}], ids=["none", "some"])
def test_check_of_a_header_that_does_not_mean_to_be_one_of_bliss(
    run: Callable, store: DataStore, info: dict[str, Any]
) -> None:
    """As the README's first scan has it."""
    store.create_scan({"name": "s", "number": 1, "data_policy": "none"}, info).close()
    shown = run("show", "last", "--check")
    assert shown.code == 0
    (complaint,) = shown.out.split("header: 1 complaint\n")[1].splitlines()
    assert complaint.startswith(
        "  warning: scan info: programs of BLISS expect acquisition_chain, "
    )
    assert "blissdata itself needs none" in complaint
    assert ("title" in complaint) is ("title" not in info)


@pytest.mark.parametrize("name", ["acquisition_chain", "channels", "devices"])
def test_check_of_a_header_of_bliss_that_is_incomplete(
    run: Callable, store: DataStore, name: str
) -> None:
    store.create_scan({"name": "s", "number": 1, "data_policy": "none"}, {name: {}}).close()
    shown = run("show", "last", "--check")
    assert shown.code == 1
    assert "error: start_time: missing" in shown.out
    assert f"error: {name}:" not in shown.out


def test_warnings_alone_are_no_failure(
    run: Callable, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    warning = Complaint("title", "is odd", "warning")
    monkeypatch.setattr("blissdata.schemas.validate", lambda info: [warning], raising=False)
    shown = run("show", "last", "--check")
    assert shown.code == 0
    assert "warning: title: is odd" in shown.out


def test_check_of_a_header_as_documented(
    run: Callable, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blissdata.schemas.validate", lambda info: [], raising=False)
    shown = run("show", "last", "--check")
    assert shown.code == 0
    assert "header: as documented" in shown.out
    assert run("show", "last", "--check", "--json").objects[0]["complaints"] == []


# ---------------------------------------------------------------------------------- pure


def test_a_unit_is_the_streams_own_or_its_channels() -> None:
    channels = {"channels": {"a": {"unit": "mm"}, "b": 3}}
    assert unit_of("a", {"unit": "A"}, channels) == "A"
    assert unit_of("a", {}, channels) == "mm"
    assert unit_of("a", {"unit": ""}, {"channels": None}) is None
    assert unit_of("b", {}, channels) is None
    assert unit_of("c", {"unit": 3}, channels) is None


ROW = ScanRow("esrf:scan:{01ARYZ6S41TSV4RRFFQ69G5FAV}", {"name": "loopscan", "number": 7}, "CLOSED")


@pytest.mark.parametrize("room", [None, 1, 20, 40, 80])
@pytest.mark.parametrize(
    "info",
    [
        {},
        {"title": None, "npoints": {}, "end_time": 3, "publisher": [1]},
        {"title": "a\x1b[2J\nb " * 20, "count_time": "x", "user_name": {"a": 1}},
    ],
    ids=["empty", "odd", "hostile"],
)
def test_any_header_is_shown(room: int | None, info: dict[str, Any]) -> None:
    lines = header_of(ROW, info, room)
    assert ROW.key in "\n".join(lines)
    assert all(line.isprintable() for line in lines)


def test_a_narrow_terminal_keeps_names_and_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    rows = [
        StreamRow("diode", "k", "array", "float64", (), "A", 1000, True),
        StreamRow("image", "k", "array", "uint16", (2048, 2048), None, 3, False),
    ]
    assert streams_of(rows, 16).split() == ["STREAM", "POINTS", "diode", "1000", "image", "3"]
    assert "2048×2048" in streams_of(rows, 80)
    assert "EXPIRED" not in streams_of(rows, 80)
    assert streams_of([], 80) == ""


def test_a_stream_that_cannot_be_looked_at_has_question_marks() -> None:
    line = streams_of([StreamRow("x", "k", problem="why")], None).splitlines()
    assert line[1].split() == ["x", "?", "?", "?", "?", "?"]
    assert line[-1] == "x: why"
