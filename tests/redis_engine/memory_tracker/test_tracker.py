"""Rounds of the memory tracker, on every kind of server.

journal     where streams ended at each round, as protocol 1 has it
reclaim     the oldest goes, the protected stays, lengths stay, whatever the server has room for
scans       closed ones expire, dead ones are closed and deleted, what cannot be read is set aside
upkeep      no round trip per stream or scan; an earlier tracker's journal is taken over
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel
from tests.pulses import last_heard
from tests.redis_engine.memory_tracker.rounds import (
    DAY,
    IDENTITY,
    Clock,
    first_there,
    journal,
    new_tracker,
    publish,
)
from tests.round_trips import round_trips

from blissdata import DataStore, Scan, ScanState
from blissdata.exceptions import (
    ScanNotFoundError,
    ServerFullError,
    UnauthorizeStateTransition,
)
from blissdata.redis_engine.memory_tracker import MemoryTracker, NoFreeableMemoryError, policy
from blissdata.redis_engine.memory_tracker import tracker as tracker_module
from blissdata.streams.entries import MAX_INDEX
from blissdata.testing.servers import TestServer

# ------------------------------------------------------------------------------ the journal


def test_a_round_records_where_the_streams_end(store: DataStore, scan: Scan) -> None:
    a, b = (scan.get_writer_stream(name) for name in "ab")
    tracker = new_tracker(store)
    tracker.update()
    assert journal(store) == []
    publish(a, 0, 3)
    tracker.update()
    publish(a, 3, 4)
    publish(b, 0, 1)
    tracker.update()
    a.seal()
    tracker.update()
    assert journal(store) == (
        [{a.key: 2}, {a.key: 3, b.key: 0}, {a.key: MAX_INDEX, b.key: 0}]
        if store.backend.upkeep.complete_records
        else [{a.key: 2}, {a.key: 3, b.key: 0}, {a.key: MAX_INDEX}]
    )


def test_the_journal_on_the_server_is_that_of_protocol_1(
    stack_store: DataStore, stack_server: TestServer
) -> None:
    with stack_store.create_scan(IDENTITY) as scan:
        stream = scan.create_stream("a", dtype="f8")
        scan.prepare()
        scan.start()
        stream.send(np.arange(3.0))
        stream.join()
        tracker = new_tracker(stack_store)
        tracker.update()
        tracker.update()  # nothing new, and recorded again
        stream.seal()
        tracker.update()
        with stack_server.client() as client:
            found = [fields for _, fields in client.xrange("_MEMORY_TRACKING_")]
        seal = b"18446744073709551615-18446744073709551615"
        key = stream.key.encode()
        assert found == [{key: b"0-1"}, {key: b"0-1"}, {key: seal}]


def test_streams_of_a_scan_that_is_not_prepared_are_not_known_yet(store: DataStore) -> None:
    scan = store.create_scan(IDENTITY)
    stream = scan.create_stream("s", dtype="f8", shape=(1000,))
    tracker = new_tracker(store)
    tracker.update()
    scan.prepare()
    publish(stream, 0, 1)
    tracker.update()
    assert journal(store) == [{stream.key: 0}]
    scan.close()


# ------------------------------------------------------------------------------ forgetting


def test_what_was_there_at_the_last_round_may_go_and_the_rest_stays(
    store: DataStore, scan: Scan
) -> None:
    a, b = (scan.get_writer_stream(name) for name in "ab")
    publish(a, 0, 5)
    publish(b, 0, 1)
    tracker = new_tracker(store)
    tracker.update()
    publish(a, 5, 8)
    tracker.reclaim_memory(0)
    assert first_there(scan.streams["a"]) == 4  # where it ended then: the last entry stays
    assert first_there(scan.streams["b"]) == 0
    assert [len(scan.streams[name]) for name in ("a", "b", "empty")] == [8, 1, 0]
    np.testing.assert_array_equal(scan.streams["a"][4:][:, 0], [4, 5, 6, 7])


def test_of_a_sealed_stream_nothing_stays_but_its_length(store: DataStore, scan: Scan) -> None:
    a = scan.get_writer_stream("a")
    publish(a, 0, 5)
    a.seal()
    tracker = new_tracker(store)
    tracker.update()
    tracker.reclaim_memory(0)
    stream = store.load_scan(scan.key).streams["a"]
    assert (len(stream), stream.is_sealed(), first_there(stream)) == (5, True, 5)


def test_points_joined_in_entries_are_forgotten_by_entries(store: DataStore) -> None:
    with store.create_scan(IDENTITY) as scan:
        stream = scan.create_stream("a", dtype="f8", shape=(160,))
        scan.prepare()
        tracker = new_tracker(store)
        for i in range(4):
            stream.send(np.full((3, 160), float(i)))
            stream.join()
        tracker.update()
        assert journal(store) == [{stream.key: 9}]
        tracker.reclaim_memory(0)
        assert first_there(stream) == 9
        assert len(stream) == 12


def test_time_goes_slice_by_slice_and_the_protected_stays(
    store: DataStore, scan: Scan, clock: Clock
) -> None:
    a = scan.get_writer_stream("a")
    tracker = new_tracker(store, slice_=25)
    for i in range(9):
        publish(a, i, i + 1)
        tracker.update()
        clock.now += 10
    # Rounds at ages 90, 80, … 10; of 90 s a quarter is 22.5 s: ages from 67.5 s on.
    tracker.reclaim_memory(35)
    assert first_there(scan.streams["a"]) == 2
    tracker.reclaim_memory(35)  # of 60 s: from 45 s on
    assert first_there(scan.streams["a"]) == 4
    tracker.reclaim_memory(35)  # 40 s, of which 35 are protected
    assert first_there(scan.streams["a"]) == 5
    with pytest.raises(NoFreeableMemoryError, match=r"too recent.*protected_history: 35 seconds"):
        tracker.reclaim_memory(35)
    assert first_there(scan.streams["a"]) == 5
    assert len(journal(store)) == 3


def test_without_a_journal_nothing_may_go(store: DataStore) -> None:
    tracker = new_tracker(store)
    with pytest.raises(NoFreeableMemoryError):
        tracker.reclaim_memory(0)
    tracker.update()
    with pytest.raises(NoFreeableMemoryError):
        tracker.reclaim_memory(0)


def test_the_oldest_of_all_scans_goes_first(store: DataStore, clock: Clock) -> None:
    scans = [store.create_scan({**IDENTITY, "number": n}) for n in range(3)]
    streams = [scan.create_stream("s", dtype="f8", shape=(1000,)) for scan in scans]
    tracker = new_tracker(store, slice_=50)
    for scan, stream in zip(scans, streams, strict=True):
        scan.prepare()
        scan.start()
        publish(stream, 0, 4)
        scan.stop()
        tracker.update()
        clock.now += 10
    tracker.reclaim_memory(0)  # of 30 s: the rounds at 30 and 20 s
    assert [first_there(s) for s in streams] == [4, 4, 0]
    assert [len(s) for s in streams] == [4, 4, 4]
    for scan in scans:
        scan.close()


def test_a_full_server_is_no_reason_not_to_forget(
    plain_store: DataStore, server: TestServer, clock: Clock
) -> None:
    with plain_store.create_scan(IDENTITY) as scan:
        stream = scan.create_stream("a", dtype="f8", shape=(1000,))
        scan.prepare()
        scan.start()
        publish(stream, 0, 300)
        tracker = new_tracker(plain_store)
        with server.client() as admin:
            admin.config_set("maxmemory", 1)
            for _ in range(3):
                tracker.update()  # nothing can be written into the journal
                clock.now += 10
            assert journal(plain_store) == []
            tracker.reclaim_memory(5)
            assert first_there(scan.streams["a"]) == 299
            admin.config_set("maxmemory", 0)
        publish(stream, 300, 301)
        tracker.update()
        assert journal(plain_store) == [{stream.key: 300}]


def test_what_the_full_server_did_not_record_is_recorded_later(
    memory_store: DataStore, clock: Clock
) -> None:
    with memory_store.create_scan(IDENTITY) as scan:
        a, b = (scan.create_stream(n, dtype="f8", shape=(1000,)) for n in "ab")
        scan.prepare()
        scan.start()
        publish(a, 0, 3)
        publish(b, 0, 2)
        tracker = new_tracker(memory_store)
        backend: Any = memory_store.backend
        backend.full = True
        tracker.update()
        backend.full = False
        publish(b, 2, 3)
        clock.now += 10
        tracker.update()
        assert journal(memory_store) == [{a.key: 2, b.key: 2}]
        tracker.reclaim_memory(5)
        assert [first_there(scan.streams[n]) for n in "ab"] == [2, 1]


def test_a_journal_that_nobody_uses_up_stays_as_long_as_it_takes_scans_to_expire(
    store: DataStore, clock: Clock
) -> None:
    """The open scan's stream, whose only record is dropped, is recorded anew and can be forgotten."""
    tracker = new_tracker(store, inactive=1000 * DAY)
    idle, *others = (store.create_scan({**IDENTITY, "number": n}) for n in range(4))
    stream = idle.create_stream("s", dtype="f8", shape=(1000,))
    idle.prepare()
    publish(stream, 0, 3)
    tracker.update()
    for scan in others:
        other = scan.create_stream("s", dtype="f8", shape=(1000,))
        scan.prepare()
        publish(other, 0, 2)
        clock.now += 3 * DAY
        tracker.update()
        scan.close()
        tracker.update()
    # Days 0, 3, 6, 9: records older than seven days go.
    clock.now += 1000
    tracker.update()
    ages = [record.ends for record in store.backend.upkeep.records()]
    if not store.backend.upkeep.complete_records:
        (said,) = (n for n, ends in enumerate(ages) if stream.key in ends)
        assert said > 0
        assert ages[said][stream.key] == 2
    assert len(ages) == 6 + store.backend.upkeep.complete_records  # the last round had no news
    clock.now += 10
    tracker.reclaim_memory(0)
    assert first_there(idle.streams["s"]) == 2
    idle.close()


# ------------------------------------------------------------------------------ one after another


def test_a_new_tracker_goes_on_with_the_journal_of_the_one_before(
    store: DataStore, scan: Scan
) -> None:
    a = scan.get_writer_stream("a")
    publish(a, 0, 5)
    new_tracker(store).update()
    publish(a, 5, 9)
    other = new_tracker(store)
    other.reclaim_memory(0)
    assert first_there(scan.streams["a"]) == 4
    other.update()
    other.reclaim_memory(0)
    assert first_there(scan.streams["a"]) == 8


def test_the_age_of_a_journal_is_told_by_the_servers_clock(store: DataStore, scan: Scan) -> None:
    publish(scan.get_writer_stream("a"), 0, 5)
    new_tracker(store).update()
    with pytest.raises(NoFreeableMemoryError):
        new_tracker(store).reclaim_memory(60)
    assert first_there(scan.streams["a"]) == 0


def test_a_server_whose_clock_steps_forward_keeps_what_is_protected(
    store: DataStore, scan: Scan, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ages are told by the tracker's own clock, once it has seen something."""
    a = scan.get_writer_stream("a")
    tracker = new_tracker(store)
    publish(a, 0, 5)
    tracker.update()
    clock.now += 10
    really = store.backend.info

    def a_day_later() -> Any:
        info = really()
        return type(info)(
            **{name: getattr(info, name) for name in info.__slots__} | {"time": info.time + DAY}
        )

    monkeypatch.setattr(store.backend, "info", a_day_later)
    tracker.update()
    with pytest.raises(NoFreeableMemoryError):
        tracker.reclaim_memory(60)
    assert scan.state == ScanState.STARTED
    assert store.get_scans_state([scan.key]) == {scan.key: ScanState.STARTED}


# ------------------------------------------------------------------------------ the end of scans


def time_to_live(store: DataStore, key: str, server: TestServer) -> int:
    with server.client() as client:
        return int(client.ttl(key))


@pytest.mark.parametrize("kind", ["plain", "stack"])
def test_a_closed_scan_expires_with_all_its_streams(
    kind: str, request: pytest.FixtureRequest
) -> None:
    store: DataStore = request.getfixturevalue(f"{kind}_store")
    server: TestServer = request.getfixturevalue("server" if kind == "plain" else "stack_server")
    with store.create_scan(IDENTITY) as scan:
        stream = scan.create_stream("a", dtype="f8")
        scan.prepare()
        stream.send(1.0)
        tracker = new_tracker(store)
        tracker.update()
        assert time_to_live(store, scan.key, server) == -1
    tracker.update()
    expected = pytest.approx(7 * DAY, abs=60)
    with server.client() as client:
        mine = [k.decode() for k in client.keys("esrf:stream*") + client.keys("esrf:scan:*")]
    mine = [key for key in mine if ":index:" not in key]
    assert {scan.key, stream.key} <= set(mine)
    for key in mine:
        assert time_to_live(store, key, server) == expected, key
    store.load_scan(scan.key)


def test_a_closed_scan_is_let_go_and_said_once(
    store: DataStore, scan: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = new_tracker(store)
    with caplog.at_level(logging.INFO, "blissdata"):
        tracker.update()
        publish(scan.get_writer_stream("a"), 0, 2)
        scan.close()
        for _ in range(3):
            tracker.update()
    assert [record.getMessage() for record in caplog.records] == [
        f"Start tracking {scan.key}",
        f"Scan {scan.key} is terminated, expiration set to 7 days, 0:00:00 seconds",
    ]
    assert journal(store)[-1] == dict.fromkeys(
        [stream.key for stream in scan.streams.values()], MAX_INDEX
    )
    tracker.reclaim_memory(0)
    assert first_there(store.load_scan(scan.key).streams["a"]) == 2


def test_a_scan_in_which_nothing_happens_is_closed_and_deleted(
    store: DataStore, scan: Scan, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    publish(scan.get_writer_stream("a"), 0, 2)
    tracker = new_tracker(store, inactive=3600)
    reader = store.load_scan(scan.key)
    tracker.update()
    clock.now += 3599
    tracker.update()
    assert store.get_scans_state([scan.key]) == {scan.key: ScanState.STARTED}
    clock.now += 1
    with caplog.at_level(logging.INFO, "blissdata"):
        tracker.update()
    assert f"Open scan {scan.key} was inactive for 1:00:00 seconds, deleting now" in caplog.text
    with pytest.raises(ScanNotFoundError):
        store.load_scan(scan.key)
    assert reader.streams["a"].is_sealed()
    caplog.clear()
    with caplog.at_level(logging.INFO, "blissdata"):
        tracker.update()
    assert caplog.records == []


def test_a_scan_lives_as_long_as_points_or_steps_come(
    store: DataStore, scan: Scan, clock: Clock
) -> None:
    a = scan.get_writer_stream("a")
    tracker = new_tracker(store, inactive=3600)
    tracker.update()
    for i in range(4):
        clock.now += 3000
        publish(a, i, i + 1)
        tracker.update()
    clock.now += 3000
    scan.stop()
    tracker.update()
    clock.now += 3599
    tracker.update()
    assert store.get_scans_state([scan.key]) == {scan.key: ScanState.STOPPED}


def test_a_tracker_that_has_just_begun_takes_no_scan_for_dead(
    store: DataStore, scan: Scan, clock: Clock
) -> None:
    """What it did not see, or a clock that stepped, is no reason."""
    clock.now += 100 * DAY
    tracker = new_tracker(store, inactive=3600)
    tracker.update()
    clock.now += 299
    tracker.update()
    assert store.get_scans_state([scan.key]) == {scan.key: ScanState.STARTED}


def test_a_scan_that_somebody_deletes_is_forgotten(
    store: DataStore, scan: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = new_tracker(store)
    tracker.update()
    store.delete_scan(scan.key, force=True)
    with caplog.at_level(logging.INFO, "blissdata"):
        tracker.update()
        tracker.update()
    assert [r.getMessage() for r in caplog.records if "deleted" in r.getMessage()] == [
        f"Scan {scan.key} has been deleted, stop tracking"
    ]


@pytest.mark.parametrize("damage", ["not json", "{}", '{"pk": 1}'])
def test_a_scan_that_cannot_be_read_is_set_aside_reported_and_retried(
    plain_store: DataStore,
    server: TestServer,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    store = plain_store
    with store.create_scan(IDENTITY) as good, store.create_scan(IDENTITY) as bad:
        streams = [s.create_stream("a", dtype="f8", shape=(1000,)) for s in (good, bad)]
        for scan, stream in zip((good, bad), streams, strict=True):
            scan.prepare()
            publish(stream, 0, 2)
        with server.client() as client:
            document = client.get(bad.key)
            client.set(bad.key, damage)
            tracker = new_tracker(store)
            with caplog.at_level(logging.WARNING, "blissdata"):
                for _ in range(5):
                    tracker.update()
            assert len(caplog.records) == 1
            assert bad.key in caplog.text
            assert journal(store) == [{streams[0].key: 1}]
            client.set(bad.key, document)
        clock.now += tracker_module.RETRY_LONGEST_S
        tracker.update()
        assert journal(store)[-1] == {streams[1].key: 1}


def test_scans_under_another_prefix_are_kept_too(store: DataStore) -> None:
    class SampleModel(BaseModel):
        sample: str

        class Meta:
            global_key_prefix = "lab"

    with DataStore(identity_model_cls=SampleModel, backend=store.backend) as lab:
        scan = lab.create_scan({"sample": "x"})
        stream = scan.create_stream("a", dtype="f8", shape=(1000,))
        scan.prepare()
        publish(stream, 0, 3)
        tracker = new_tracker(store)
        tracker.update()
        assert journal(store) == [{stream.key: 2}]
        scan.close()
        tracker.update()
        tracker.reclaim_memory(0)
        assert first_there(stream) == 3


def test_the_index_of_expired_scans_is_swept(
    plain_store: DataStore, server: TestServer, clock: Clock
) -> None:
    scans = [plain_store.create_scan({**IDENTITY, "number": n, "session": "s"}) for n in range(3)]
    for scan in scans:
        scan.close()
    tracker = new_tracker(plain_store)
    tracker.update()
    gone, *kept = scans
    with server.client() as client:
        client.delete(gone.key)  # as it would be when its time is over
        clock.now += tracker_module.RESYNC_PERIOD_S
        tracker.update()
        indices = client.keys("esrf:index:*")
        names = {index.removeprefix(b"esrf:index:").decode() for index in indices}
        assert names == {
            "@states", "@expiring", "created", "name", "number", "data_policy", "session"
        }  # fmt: skip
        for index in indices:
            members = b" ".join(client.zrange(index, 0, -1)).decode()
            assert gone.key[-27:-1] not in members
            assert all(scan.key[-27:-1] in members for scan in kept)
    assert plain_store.search_existing_scans()[1] == sorted(scan.key for scan in kept)


# ------------------------------------------------------------------------------ cost


def test_round_trips_do_not_grow_with_streams_and_scans(plain_store: DataStore) -> None:
    def trips_of(scans: int) -> int:
        made = [plain_store.create_scan({**IDENTITY, "number": n}) for n in range(scans)]
        for scan in made:
            for name in "abcdefgh":
                scan.create_stream(name, dtype="f8").send(1.0)
            scan.prepare()
            scan.start()
        for scan in made:
            for stream in scan._writers.values():
                stream.join()
        tracker = new_tracker(plain_store)
        tracker.update()
        with round_trips() as trips:
            tracker.update()
            tracker.reclaim_memory(0)
        for scan in made:
            scan.close()
        return len(trips)

    one, many = trips_of(1), trips_of(30)
    assert many <= one + 2 <= 15


# ------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((-1, 1, 20), "inactive"),
        ((1, -1, 20), "closed"),
        ((1, 1, 0), "slice"),
        ((1, 1, 101), "slice"),
    ],
)
def test_what_makes_no_sense_is_refused(
    memory_store: DataStore, arguments: tuple[float, float, float], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        MemoryTracker(memory_store, *arguments)


def test_a_full_memory_server_refuses_records(memory_store: DataStore) -> None:
    backend: Any = memory_store.backend
    backend.full = True
    with pytest.raises(ServerFullError):
        backend.upkeep.record({"s": 1})
    assert journal(memory_store) == []


# ------------------------------------------------------------------------------ dead publishers


def test_a_scan_whose_publisher_is_dead_is_closed_as_a_failure(
    store: DataStore, scan: Scan, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    publish(scan.get_writer_stream("a"), 0, 3)
    store.heartbeat.close()
    reader = store.load_scan(scan.key)
    tracker = new_tracker(store)
    tracker.update()
    last_heard(store, scan, ago=2 * policy.DEAD_AFTER_S)
    tracker.update()
    assert store.load_scan(scan.key).state == ScanState.STARTED  # it has just begun to doubt
    clock.now += policy.DOUBTED_S
    tracker.update()
    assert f"The publisher of scan {scan.key} has given no sign of life" in caplog.text
    found = store.load_scan(scan.key)
    assert found.state == ScanState.CLOSED
    assert found.info["end_reason"] == "FAILURE"
    streams = reader.streams
    assert {name: streams[name].is_sealed() for name in "ab"} == {"a": True, "b": True}
    assert len(list(streams["a"])) == 3
    tracker.update()
    with pytest.raises(UnauthorizeStateTransition):
        scan.stop()


def test_a_publisher_that_comes_back_keeps_its_scan(
    store: DataStore, scan: Scan, clock: Clock
) -> None:
    store.heartbeat.close()
    tracker = new_tracker(store)
    last_heard(store, scan, ago=2 * policy.DEAD_AFTER_S)
    tracker.update()
    store.catalog.beat([scan.key])
    tracker.update()
    last_heard(store, scan, ago=2 * policy.DEAD_AFTER_S)
    clock.now += policy.DOUBTED_S
    tracker.update()  # the doubt begins anew
    assert store.load_scan(scan.key).state == ScanState.STARTED
    scan.stop()


def test_a_publisher_without_signs_of_life_is_never_dead(
    stack_store: DataStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (tracker_module, policy):
        monkeypatch.setattr(module, "DEAD_AFTER_S", 0.0)
    scan = stack_store.create_scan(IDENTITY)
    stack_store.heartbeat.close()
    stack_store._redis.delete(scan.key.replace(":scan:", ":pulse:"))  # as 2.x leaves it
    tracker = new_tracker(stack_store)
    for _ in range(3):
        tracker.update()
        clock.now += policy.DOUBTED_S
    assert stack_store.load_scan(scan.key).state == ScanState.CREATED
