"""A server that refuses for a while: publishers wait and resume, readers go on.

| it says                    | because                              | points | reading            |
| -------------------------- | ------------------------------------ | ------ | ------------------ |
| OOM                        | its memory is full                   | wait   | goes on            |
| MISCONF                    | its disk is full                     | wait   | goes on            |
| READONLY                   | it became a replica                  | wait   | goes on, who waited waits on |
| NOREPLICAS                 | too few replicas                     | wait   | goes on            |
| BUSY                       | a script runs                        | wait   | raises             |
| LOADING                    | it was restarted                     | wait   | raises             |

A seal, and a step of a scan, wait as points do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tests.faults.refusals import REFUSALS, read_only

from blissdata import DataStore, ScanState
from blissdata.exceptions import (
    PublisherLostError,
    PublishTimeoutError,
    ServerBusyError,
    ServerFullError,
)
from blissdata.streams import heartbeat
from blissdata.streams.heartbeat import Life
from blissdata.testing.servers import StackServer, TestServer

IDENTITY = {"name": "refusals", "number": 1, "data_policy": "none"}
LONG_S = 30.0


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


@pytest.fixture(scope="module", params=[TestServer, StackServer], ids=["plain", "stack"])
def refusing(request: pytest.FixtureRequest) -> Iterator[TestServer]:
    """A server of this module's own, prepared."""
    with request.param() as server, DataStore(server.url, init_db=True):
        yield server


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as found:
        yield found


@pytest.mark.parametrize("word", REFUSALS)
def test_points_a_seal_and_a_step_wait_and_arrive(
    refusing: TestServer, pool: ThreadPoolExecutor, word: str
) -> None:
    with DataStore(refusing.url) as store:
        scan = store.create_scan(IDENTITY)
        numbers = scan.create_stream("numbers", dtype="int64")
        words = scan.create_stream("words", dtype="json")
        sealed = scan.create_stream("sealed", dtype="int64")
        scan.prepare()
        scan.start()
        numbers.send(0)
        sealed.send(0)
        numbers.join()
        sealed.join()
        with REFUSALS[word](refusing):
            for i in range(1, 100):
                numbers.send(i)
                words.send({"i": i})
            until(lambda: store.publisher._last_trouble)
            trouble = store.publisher._last_trouble
            waiting = pool.submit(sealed.seal)
        assert isinstance(trouble, ServerFullError if word == "OOM" else ServerBusyError), trouble
        assert waiting.result(LONG_S) == 1
        numbers.join()
        words.join()
        scan.close()
        assert numbers[:].tolist() == list(range(100))
        assert words[:] == [{"i": i} for i in range(1, 100)]
        assert store.load_scan(scan.key).state == ScanState.CLOSED


@pytest.mark.parametrize("word", ["MISCONF", "READONLY", "NOREPLICAS"])
def test_a_publisher_that_cannot_give_signs_of_life_is_not_taken_for_lost(
    refusing: TestServer, impatient: None, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr(heartbeat, "LOST_AFTER_S", 0.1)
    monkeypatch.setattr(heartbeat, "PERIOD_S", 0.02)
    with DataStore(refusing.url) as store:
        scan = store.create_scan(IDENTITY)
        stream = scan.create_stream("x", dtype="int64")
        scan.prepare()
        reader = store.load_scan(scan.key).streams["x"].cursor()
        with REFUSALS[word](refusing):
            assert reader.read(timeout=0.4) is None
            assert store.scan_lives([scan.key]) == {scan.key: Life(1, None)}
        stream.send(7)
        stream.join()  # what is there is read before anybody is taken for lost
        assert reader.read().get_data().tolist() == [7]
        until(lambda: (store.scan_lives([scan.key])[scan.key].silence or 1) < 0.1)
        store.heartbeat.close()
        with pytest.raises(PublisherLostError):
            reader.read()
        scan.close()


WAITS = {
    "a cursor": lambda scan: scan.streams["numbers"].cursor().read().get_data().tolist() == [0],
    "a cursor of frames": lambda scan: len(scan.streams["frames"].cursor().read()) == 1,
    "a seal": lambda scan: scan.streams["numbers"].wait_seal(),
    "update": lambda scan: scan.update(),
    "next scan": lambda scan: bool(scan.data_store.get_next_scan()),
}


@pytest.mark.parametrize("wait", WAITS)
def test_who_waits_on_a_server_that_becomes_a_replica_waits_on(
    refusing: TestServer, pool: ThreadPoolExecutor, wait: str
) -> None:
    with DataStore(refusing.url) as store, refusing.client() as client:
        scan = store.create_scan(IDENTITY)
        numbers = scan.create_stream("numbers", dtype="int64")
        frames = scan.create_stream("frames", dtype="int64", shape=(2**15,))
        scan.prepare()
        waiting = pool.submit(WAITS[wait], store.load_scan(scan.key))
        until(lambda: client.info("clients")["blocked_clients"])
        let_go = client.info("stats")["total_error_replies"]
        with read_only(refusing):
            until(lambda: client.info("stats")["total_error_replies"] > let_go)
        assert not waiting.done()
        numbers.send(0)
        frames.send(np.zeros(2**15, "int64"))
        scan.close()
        store.create_scan(IDENTITY).close()
        assert waiting.result(LONG_S)


def test_a_server_that_loads_its_data_is_waited_for() -> None:
    with (
        TestServer(appendonly="yes", appendfsync="always") as server,
        DataStore(server.url, init_db=True) as store,
    ):
        scan = store.create_scan(IDENTITY)
        stream = scan.create_stream("x", dtype="json")
        scan.prepare()
        for i in range(30_000):
            stream.send(i)
        stream.join()
        server.kill()
        stream.send(30_000)
        # [µs], for each command: five seconds, or until the publisher has heard of it.
        starting = threading.Thread(target=server.start, kwargs={"key_load_delay": 100})
        starting.start()
        until(
            lambda: (
                isinstance(trouble := store.publisher._last_trouble, ServerBusyError)
                and "loading" in str(trouble).lower()
            )
        )
        with server.client() as client:
            client.config_set("key-load-delay", 0)
        starting.join()
        stream.join()
        scan.close()
        assert stream[:] == list(range(30_001))


def test_all_waiting_ends_after_the_publishers_timeout_and_names_what_is_missing(
    refusing: TestServer,
) -> None:
    with DataStore(refusing.url, publish_timeout=0.2) as store:
        scan = store.create_scan(IDENTITY)
        stream = scan.create_stream("x", dtype="int64")
        scan.prepare()
        stream.send(np.arange(5))
        stream.join()
        with read_only(refusing):
            stream.send(np.arange(5, 12))
            with pytest.raises(PublishTimeoutError, match=r"'x'.* points 5 to 11 .*READONLY"):
                stream.join()
            with pytest.raises(ServerBusyError, match="READONLY"):
                scan.start()
            with pytest.raises(ServerBusyError, match="READONLY"):
                store.create_scan(IDENTITY)  # nothing was promised yet: this does not wait
        store.publisher.publish_timeout = LONG_S
        scan.close()
        assert len(stream) == 5
