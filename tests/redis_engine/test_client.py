"""Clients of every age of redis-py: what some versions forget holds with all of them.

timeouts    a server that stands still is noticed, on a unix socket too (5.0.0 and 5.0.1 forget them)
sockets     a connection that fails leaves none open (before 5.1 they did)
RESP        `?protocol=2` and `?protocol=3` are accepted (before 5 there is no such option)
"""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import redis

from blissdata import DataStore
from blissdata.redis_engine.backends.client import make_client
from blissdata.streams import CursorGroup
from blissdata.testing.servers import TestServer

IDENTITY = {"name": "ascan", "number": 1, "data_policy": "none"}


@pytest.fixture(params=["plain", "stack"])
def any_server(request: pytest.FixtureRequest) -> TestServer:
    """A server of each kind, empty."""
    name = {"plain": "server", "stack": "stack_server"}[request.param]
    found: TestServer = request.getfixturevalue(name)
    return found


@pytest.fixture
def silent_server() -> Iterator[TestServer]:
    """A server that accepts connections and never answers."""
    with TestServer() as server:
        server.pause()
        yield server


def test_a_silent_server_is_noticed(silent_server: TestServer) -> None:
    client = make_client(f"{silent_server.url}?socket_timeout=0.05")
    with pytest.raises(redis.TimeoutError):
        client.execute_command("PING")
    client.connection_pool.disconnect()


def test_nobody_there_leaves_no_socket_open(tmp_path: Path) -> None:
    client = make_client(f"unix://{tmp_path}/none")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(redis.ConnectionError):
            client.execute_command("PING")
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


@pytest.mark.parametrize("protocol", [2, 3])
def test_every_command_does_the_same_in_resp2_and_resp3(
    any_server: TestServer, protocol: int, caplog: pytest.LogCaptureFixture
) -> None:
    DataStore(any_server.url, init_db=True).close()
    with (
        caplog.at_level(logging.INFO, "blissdata"),
        DataStore(f"{any_server.url}?protocol={protocol}") as store,
    ):
        old = redis.VERSION < (5,)
        assert ("RESP2 alone" in caplog.text) is (old and protocol == 3)
        tag = store.get_last_scan_timetag()
        scan = store.create_scan(IDENTITY, {"title": "ascan"})
        assert store.get_next_scan(since=tag, timeout=5)[1] == scan.key
        x = scan.create_stream("x", dtype=float)
        y = scan.create_stream("y", dtype="json")
        scan.prepare()
        copy = store.load_scan(scan.key)
        group = CursorGroup(copy.streams)
        x.send(np.arange(3.0))
        x.join()
        (view,) = group.read(timeout=5).values()
        assert list(view.get_data()) == [0.0, 1.0, 2.0]
        assert copy.streams["x"].wait_available(2, "memory", 5).memory.spans == ((0, 3),)
        y.send({"a": [1]})
        scan.start()
        scan.stop()
        assert copy.update(timeout=5)
        assert copy.streams["y"][:] == [{"a": [1]}]
        assert list(copy.streams["x"][-2:]) == [1.0, 2.0]
        assert store.event_log.trim({x.key: 3}) == {x.key: 1}
        scan.close()
        assert store.search_existing_scans(name="asc*", number=1)[1] == [scan.key]
        assert set(store.get_scans_state([scan.key]).values()) == {copy.state + 1}
        assert store.backend.info().used_memory > 0
        assert [step.state for step in store.catalog.steps(scan.key)] == [0, 1, 2, 3, 4]
        store.delete_scan(scan.key)
        assert store.search_existing_scans()[1] == []
