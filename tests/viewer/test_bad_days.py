"""What may go wrong under a viewer that is looked at: the server leaves, comes back, or comes back with less;
scans are deleted and trimmed; one stream is broken; there are very many scans.

    the server    test_a_server_that_leaves…, test_a_server_that_comes_back_with_nothing…
    a scan        deleted: test_app.py; trimmed, cut short by a restart, with a broken stream: here
    points        NaN, ±inf, none, one, complex, booleans, strings, of varying length: test_app.py, here
    the list      a hundred thousand scans: here
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.h5api.live import group, new_scan, send, started, stream
from tests.viewer.test_app import heard, talking

from blissdata import DataStore
from blissdata.redis_engine.documents import ScanDocument
from blissdata.redis_engine.keys import new_ulid
from blissdata.testing.servers import TestServer

DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("live", "watched"):
        monkeypatch.setattr(f"blissdata.viewer.{module}.RETRY_S", 0.02)


def until(look: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not wanted(found := look()):
        assert time.monotonic() < deadline, f"still {found!r}"
        time.sleep(0.01)
    return found


@contextmanager
def measured_on(server: TestServer, path: Path) -> Iterator[tuple[DataStore, Any, Any]]:
    """A store of the server, and a scan that has five points."""
    with DataStore(server.url, init_db=True) as store:
        scan, streams = started(store, group(x=stream("x")), 1, str(path), x=("f8", ()))
        send(streams["x"], np.arange(5.0))
        yield store, scan, streams["x"]


def watch(socket: Any, key: str) -> None:
    socket.send_text(json.dumps({"type": "watch", "keys": [key]}))


def length_is(count: int) -> Callable[[dict[str, Any]], bool]:
    return lambda message: message.get("lengths", {}).get("x", [None])[0] == count


def test_a_server_that_leaves_and_comes_back_is_told_of_and_followed_again(tmp_path: Path) -> None:
    options = {"appendonly": "yes", "appendfsync": "always"}
    with (
        TestServer(**options) as server,
        measured_on(server, tmp_path / "a.h5") as (_, scan, x),
    ):
        with DataStore(server.url) as other, talking(other) as (client, socket):
            watch(socket, scan.key)
            heard(socket, length_is(5))
            assert client.get("/health", headers={"authorization": ""}).status_code == 200
            server.kill()
            told = heard(socket, lambda m: m["type"] == "store")
            assert told["problem"]
            assert client.get("/health", headers={"authorization": ""}).status_code == 503
            assert client.get("/api/scan", params={"key": scan.key}).status_code in (200, 503)
            server.start()
            heard(socket, lambda m: m["type"] == "store" and m["problem"] is None)
            assert client.get("/health").json() == {"status": "ok"}
            send(x, np.arange(5.0, 9.0))
            heard(socket, length_is(9))
            answer = client.get("/api/points", params={"key": scan.key, "stream": "x"})
            assert np.frombuffer(answer.content, "<f8").tolist() == list(range(9))
        scan.stop()
        scan.close()


def test_a_server_that_comes_back_with_nothing_has_no_scans(tmp_path: Path) -> None:
    with (
        TestServer() as server,
        DataStore(server.url, init_db=True) as store,
        talking(store) as (client, socket),
    ):
        new_scan(store, 1).close()
        heard(socket, lambda m: bool(m.get("scan_new")))
        server.kill()
        heard(socket, lambda m: m["type"] == "store" and m["problem"])
        server.start()
        DataStore(server.url, init_db=True).close()
        heard(socket, lambda m: m["type"] == "scans" and m["everything"])
        found = until(lambda: client.get("/api/scans").json(), lambda a: "scans" in a)
        assert found["scans"] == []


def test_points_that_were_trimmed_are_told_of_with_where_the_others_begin(
    plain_store: DataStore, tmp_path: Path
) -> None:
    scan, streams = started(plain_store, group(), 1, str(tmp_path / "a.h5"), x=("f8", ()))
    with scan, talking(plain_store) as (client, socket):
        for start in range(0, 40, 10):
            send(streams["x"], np.arange(start, start + 10.0))
        plain_store.event_log.trim({streams["x"].key: 20})
        watch(socket, scan.key)
        heard(socket, length_is(40))
        about = {"key": scan.key, "stream": "x"}
        answer = client.get("/api/points", params={**about, "selection": "0:30"})
        assert (answer.status_code, answer.json()["first"]) == (410, 20)
        body = client.get("/api/more", params={**about, "from": "0"}).content
        told = json.loads(body[4 : 4 + int.from_bytes(body[:4], "little")])
        assert told[0]["first"] == 20
        kept = client.get("/api/points", params={**about, "selection": "20:"})
        assert np.frombuffer(kept.content, "<f8").tolist() == list(range(20, 40))
        scan.stop()


def test_a_stream_whose_plugin_is_missing_costs_the_others_nothing(
    plain_store: DataStore, tmp_path: Path
) -> None:
    scan = new_scan(plain_store, 1, str(tmp_path / "a.h5"))
    with scan, talking(plain_store) as (client, socket):
        x = scan.create_stream("x", dtype="f8")
        document = scan._document
        document.streams["odd"] = plain_store.catalog.new_stream(
            document.pk, document.streams["x"].encoding, {"plugin": "nobody's"}
        )
        scan.prepare()
        scan.start()
        send(x, np.arange(3.0))
        watch(socket, scan.key)
        heard(socket, length_is(3))
        assert client.get("/api/last", params={"key": scan.key}).json() == {"values": {"x": 2.0}}
        rows = client.get("/api/scan", params={"key": scan.key}).json()["streams"]
        assert {row["name"]: row["problem"] is None for row in rows} == {"x": True, "odd": False}
        about = {"key": scan.key, "stream": "odd", "selection": "0:1"}
        assert client.get("/api/points", params=about).status_code in (200, 422)
        scan.stop()


def test_no_point_is_read_before_somebody_asks_for_it(tmp_path: Path) -> None:
    with TestServer() as server, measured_on(server, tmp_path / "a.h5") as (store, scan, x):
        with talking(store) as (client, socket), server.client() as raw:
            watch(socket, scan.key)
            heard(socket, length_is(5))
            send(x, np.random.default_rng(1).normal(size=500_000))
            before = raw.info("stats")["total_net_output_bytes"]
            send(x, np.random.default_rng(2).normal(size=500_000))
            heard(socket, length_is(1_000_005))
            assert raw.info("stats")["total_net_output_bytes"] - before < 2_000_000
            answer = client.get(
                "/api/points", params={"key": scan.key, "stream": "x", "selection": "5:"}
            )
            assert len(answer.content) == 8_000_000
        scan.stop()
        scan.close()


@pytest.mark.slow
def test_a_hundred_thousand_scans_are_listed_a_screenful_at_a_time() -> None:
    count, screenful = 100_000, 100
    identity = {"name": "s", "data_policy": "none"}
    with (
        TestServer() as server,
        DataStore(server.url, init_db=True) as store,
        talking(store) as (client, socket),
        server.client() as raw,
    ):
        for number in range(count):
            pk = new_ulid()
            info = {**identity, "number": number}
            store.catalog.create(ScanDocument(pk, info, {}, store.catalog.new_state_pk(pk)))
        # Who could not be told of each of them is told to look anew.
        assert heard(socket, lambda m: m.get("everything", False))["scan_state"] == {}
        until(lambda: client.get("/api/scans").json()["total"], lambda total: total == count)
        before, seen, asked = None, [], raw.info("stats")
        for _ in range(5):
            options = {"limit": screenful} | ({"before": before} if before else {})
            answer = client.get("/api/scans", params=options)
            assert len(answer.content) < 1000 * screenful
            found = answer.json()
            before = found["next"]
            seen += [row["identity"]["number"] for row in found["scans"]]
        assert seen == list(range(count - 1, count - 1 - 5 * screenful, -1))
        read = raw.info("stats")["total_net_output_bytes"] - asked["total_net_output_bytes"]
        assert read < 2000 * len(seen)  # nothing was read of the others
        oldest = client.get("/api/scans", params={"number": 0}).json()
        assert [row["identity"]["number"] for row in oldest["scans"]] == [0]
