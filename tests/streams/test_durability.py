"""What a server can promise of a point, over the servers that there are.

| server                              | disk                    | replica             |
| ----------------------------------- | ----------------------- | ------------------- |
| writes nothing to disk              | no: appendonly          | with a replica      |
| appendfsync always                  | yes                     | …                   |
| appendfsync everysec, Redis ≥ 7.2   | yes, asking WAITAOF     |                     |
| appendfsync everysec, Valkey        | no: seen to answer early|                     |
| does not tell                       | no                      |                     |
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from blissdata import DataStore
from blissdata.exceptions import (
    DurabilityUnavailableError,
    NotDurableYetError,
    PublishTimeoutError,
)
from blissdata.streams.durability import Durability, disk_needs_waitaof, refusal_of
from blissdata.testing.servers import TestServer

LONG_S = 60.0

ALWAYS = {"appendonly": "yes", "appendfsync": "always"}
EVERYSEC = {"appendonly": "yes", "appendfsync": "everysec"}
VALKEY = {"product": "valkey", "version": "9.1.2", "replicas": "0"}
REDIS = {"product": "redis", "version": "8.2.3", "replicas": "0"}


@pytest.mark.parametrize(
    ("wanted", "server", "reason"),
    [
        ("memory", {}, None),
        ("disk", {}, "does not tell"),
        ("disk", {**VALKEY, "appendonly": "no", "appendfsync": "always"}, "appendonly yes"),
        ("disk", {**VALKEY, **ALWAYS}, None),
        ("disk", {**VALKEY, **EVERYSEC}, "appendfsync always"),
        ("disk", {**REDIS, **ALWAYS}, None),
        ("disk", {**REDIS, **EVERYSEC}, None),
        ("disk", {**REDIS, **EVERYSEC, "version": "7.0.15"}, "appendfsync always"),
        ("disk", {**REDIS, "appendonly": "yes", "appendfsync": "no"}, "appendfsync always"),
        ("replica", {**VALKEY}, "replicaof"),
        ("replica", {**VALKEY, "replicas": "2"}, None),
    ],
)
def test_what_a_server_can_give(wanted, server, reason):
    found = refusal_of(Durability(wanted), server)
    if reason is None:
        assert found is None
    else:
        assert reason in found


def test_the_disk_is_asked_only_where_the_reply_does_not_say():
    assert not disk_needs_waitaof(ALWAYS)
    assert disk_needs_waitaof(EVERYSEC)


def test_a_word_that_is_no_durability_is_refused(store):
    with pytest.raises(ValueError, match="paper"):
        store.create_scan({"name": "s", "number": 1, "data_policy": "none"}, durability="paper")


@pytest.mark.parametrize("durability", ["disk", "replica"])
def test_a_durability_that_the_server_cannot_give_is_refused_before_there_is_a_scan(
    store, durability
):
    with pytest.raises(DurabilityUnavailableError, match=durability):
        store.create_scan({"name": "s", "number": 1, "data_policy": "none"}, durability=durability)
    assert store.search_existing_scans()[1] == []


def publish(store: DataStore, durability: str, points: int) -> str:
    identity = {"name": "durable", "number": 1, "data_policy": "none"}
    with store.create_scan(identity, durability=durability) as scan:
        stream = scan.create_stream("x", dtype="int64")
        scan.prepare()
        scan.start()
        for i in range(points):
            stream.send(i)
        stream.join()
    return scan.key


def test_points_on_disk_survive_the_end_of_the_server():
    with TestServer(appendonly="yes", appendfsync="always") as server:
        with DataStore(server.url, init_db=True) as store:
            identity = {"name": "durable", "number": 1, "data_policy": "none"}
            scan = store.create_scan(identity, durability="disk")
            stream = scan.create_stream("x", dtype="int64")
            scan.prepare()
            for i in range(5000):
                stream.send(i)
            stream.join()
            server.kill()
            server.start()
            stream.send(5000)  # it goes on
            scan.close()
        with DataStore(server.url) as store:
            np.testing.assert_array_equal(store.load_scan(scan.key).streams["x"][:], range(5001))


@pytest.fixture
def pair():
    """A server and its replica."""
    at_once = {"repl_diskless_sync_delay": 0}  # else it waits 5 s for more replicas to come
    with TestServer(tcp=True, **at_once) as main, TestServer(tcp=True) as replica:
        with replica.client() as client:
            client.replicaof("127.0.0.1", main.port)
        with main.client() as client:
            client.publish("anything", "to be waited for")
            deadline = time.monotonic() + LONG_S
            while not client.wait(1, 100):
                assert time.monotonic() < deadline, "the replica does not follow"
        yield main, replica


def test_points_on_a_replica_are_there_when_it_takes_over(pair):
    main, replica = pair
    with DataStore(main.url, init_db=True) as store:
        key = publish(store, "replica", 5000)
    main.kill()
    with replica.client() as client:
        client.replicaof("NO", "ONE")
    with DataStore(replica.url) as store:
        np.testing.assert_array_equal(store.load_scan(key).streams["x"][:], range(5000))


def test_points_that_no_replica_has_are_not_confirmed_and_said_to_be_there_once_one_has(
    pair, monkeypatch
):
    from blissdata.redis_engine.backends import event_log

    monkeypatch.setattr(event_log, "DURABLE_WAIT_MS", 50)
    main, replica = pair
    impatient = DataStore(main.url, init_db=True, publish_timeout=LONG_S)
    patient = DataStore(main.url, publish_timeout=LONG_S)
    identity = {"name": "durable", "number": 1, "data_policy": "none"}
    with impatient, patient:
        scans = [
            store.create_scan(identity, durability="replica") for store in (impatient, patient)
        ]
        a, b = (scan.create_stream("x", dtype="int64") for scan in scans)
        for scan in scans:
            scan.prepare()
        replica.pause()
        impatient.publisher.publish_timeout = 0.5
        a.send(7)
        with pytest.raises(PublishTimeoutError, match="a replica"):
            a.join()
        impatient.publisher.publish_timeout = LONG_S  # a seal waits for the replica as well
        b.send(8)
        replica.resume()
        b.join()
        assert b[0] == 8
        for scan in scans:
            scan.close()


def test_a_replica_is_waited_for_also_by_what_is_sent_again_through_another_connection(pair):
    """The first connection was lost with the reply; WAIT on the next one looks at what that one wrote."""
    main, replica = pair
    with DataStore(main.url, init_db=True) as store:
        scan = store.create_scan(
            {"name": "durable", "number": 1, "data_policy": "none"}, durability="replica"
        )
        stream = scan.create_stream("x", dtype="int64")
        scan.prepare()
        stream.send(0)
        stream.join()
        replica.pause()
        try:
            stream.send(1)
            deadline = time.monotonic() + 30
            while len(scan.streams["x"]) < 2:
                assert time.monotonic() < deadline
            with main.client() as client:
                client.client_kill_filter(_type="normal", skipme=True)
            # It is on the server, and found there again; but no replica has it.
            until_repeated(stream)
            assert stream.event_stream.sink.confirmed == 1
        finally:
            replica.resume()
        stream.join()
        with replica.client() as client:
            assert len(client.xrange(stream.key)) == 2
        scan.close()


def until_repeated(stream):
    """Waits until the point was offered again, and the server was asked for its replica."""
    deadline = time.monotonic() + 30
    publisher = stream.event_stream.sink._publisher
    while not isinstance(publisher._last_trouble, NotDurableYetError):
        assert stream.event_stream.sink.confirmed == 1
        assert time.monotonic() < deadline
        time.sleep(0.01)
