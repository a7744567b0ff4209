"""What the memory tracker keeps because somebody asked it to, on every kind of server.

hold        points in front of a pin may go, those behind it stay, also inside an entry
            what was held keeps its age, and goes as soon as the pin moves on
limit       past it pins are broken: the holder, the log and the next report say so
holders     dead ones lapse, lasting ones do not; a doubted one has time to be heard
scans       closed ones do not expire, idle ones are not deleted, pins of deleted ones are removed
others      a tracker that follows takes them over; one of blissdata 2.x is noticed
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from tests.redis_engine.memory_tracker.rounds import (
    DAY,
    IDENTITY,
    Clock,
    first_there,
    new_tracker,
    publish,
)
from tests.round_trips import round_trips

from blissdata import DataStore, Scan
from blissdata.exceptions import BlissdataError, PinBrokenError, PinGoneError, ScanNotFoundError
from blissdata.redis_engine.backends.abstract import PIN_LAPSES_AFTER_S
from blissdata.redis_engine.keys import PULSE_TTL_S, pin_key
from blissdata.redis_engine.memory_tracker import NoFreeableMemoryError
from blissdata.redis_engine.memory_tracker.policy import DOUBTED_S
from blissdata.testing import MemoryBackend
from blissdata.testing.servers import TestServer

LOGGER = "blissdata.redis_engine.memory_tracker.tracker"


def pin_of_another_program(store: DataStore, scan: Scan, lasting: bool = False, **at: int) -> str:
    """A pin named `other` that nobody gives signs of life for; its key."""
    keys = {name: stream.key for name, stream in scan.streams.items()}
    return store.backend.pins.take(
        scan.key,
        "other",
        "its token",
        holder="process 1 on elsewhere",
        lasting=lasting,
        everything=True,
        begins={},
        positions={keys[name]: index for name, index in at.items()},
        keys=[],
    ).key


def silence(store: DataStore, key: str, seconds: float) -> None:
    """Nothing was heard of the holder for so long."""
    if isinstance(store.backend, MemoryBackend):
        store.backend.pinned[key].beat -= seconds
    else:
        left = store.backend.client.pttl(key)
        assert store.backend.client.pexpire(key, int(left - seconds * 1000))


# ------------------------------------------------------------------------------ hold


def test_a_pin_holds_what_it_points_at_until_it_moves_on(
    store: DataStore, scan: Scan, clock: Clock
) -> None:
    a, b = (scan.get_writer_stream(name) for name in "ab")
    publish(a, 0, 6)
    publish(b, 0, 6)
    tracker = new_tracker(store)
    with scan.pin("writer", {"a": 2, "b": 6}) as pin:
        tracker.update()
        clock.now += 100
        tracker.reclaim_memory(50)
        assert (first_there(scan.streams["a"]), first_there(scan.streams["b"])) == (2, 5)
        with pytest.raises(NoFreeableMemoryError, match="pinned: 'writer' of scan") as raised:
            tracker.reclaim_memory(50)
        assert [held.name for held in raised.value.pins] == ["writer"]
        tracker.update()
        pin.move({"a": 4})
        pin.sync()
        tracker.reclaim_memory(50)  # what was held is as old as ever
        assert first_there(scan.streams["a"]) == 4
    tracker.reclaim_memory(50)
    assert first_there(scan.streams["a"]) == 5
    assert [len(scan.streams[name]) for name in "ab"] == [6, 6]


def test_everything_is_held_from_the_start_on_also_what_comes_later(
    store: DataStore, scan: Scan
) -> None:
    a = scan.get_writer_stream("a")
    with scan.pin("writer"):
        tracker = new_tracker(store)
        publish(a, 0, 3)
        late = scan.create_stream("late", dtype="f8", shape=(1000,))
        publish(late, 0, 3)
        scan.stop()
        tracker.update()
        with pytest.raises(NoFreeableMemoryError, match="pinned"):
            tracker.reclaim_memory(0)
        assert first_there(scan.streams["a"]) == 0
        assert first_there(scan.streams["late"]) == 0


def test_a_plain_reader_and_other_scans_are_free(store: DataStore, scan: Scan) -> None:
    publish(scan.get_writer_stream("a"), 0, 3)
    with store.create_scan({**IDENTITY, "number": 2}) as other, scan.pin("writer"):
        stream = other.create_stream("a", dtype="f8", shape=(1000,))
        other.prepare()
        publish(stream, 0, 3)
        tracker = new_tracker(store)
        tracker.update()
        tracker.reclaim_memory(0)
        assert first_there(scan.streams["a"]) == 0
        assert first_there(stream) == 2


@pytest.mark.parametrize("position", range(13))
def test_the_entry_in_which_a_pin_stands_stays(store: DataStore, position: int) -> None:
    with store.create_scan(IDENTITY) as scan:
        stream = scan.create_stream("a", dtype="f8", shape=(160,))
        scan.prepare()
        for start in range(0, 12, 3):  # four entries of three points
            stream.send(np.arange(start, start + 3.0).repeat(160).reshape(3, 160))
            stream.join()
        tracker = new_tracker(store)
        with scan.pin("writer", {"a": position}):
            tracker.update()
            try:
                tracker.reclaim_memory(0)
            except NoFreeableMemoryError:
                assert position == 0
            assert first_there(stream) == min(position // 3 * 3, 9)
            assert stream[position:12][:, 0].tolist() == list(range(position, 12))


def test_of_a_sealed_stream_what_is_pinned_stays(store: DataStore, scan: Scan) -> None:
    a = scan.get_writer_stream("a")
    publish(a, 0, 5)
    a.seal()
    with scan.pin("writer", {"a": 3}) as pin:
        tracker = new_tracker(store)
        tracker.update()
        tracker.reclaim_memory(0)
        assert first_there(scan.streams["a"]) == 3
        pin.move({"a": 5})
        pin.sync()
        tracker.reclaim_memory(0)
        assert first_there(scan.streams["a"]) == 5
        assert len(scan.streams["a"]) == 5
        with pytest.raises(NoFreeableMemoryError):
            tracker.reclaim_memory(0)


def test_the_slowest_pin_counts(store: DataStore, scan: Scan) -> None:
    a = scan.get_writer_stream("a")
    publish(a, 0, 8)
    tracker = new_tracker(store)
    tracker.update()
    with scan.pin("fast", {"a": 7}), scan.pin("peaks", {"a": 4}, streams=["a"]):
        with scan.pin("slow", {"a": 2}):
            tracker.reclaim_memory(0)
            assert first_there(scan.streams["a"]) == 2
        tracker.reclaim_memory(0)
        assert first_there(scan.streams["a"]) == 4


def test_a_pin_taken_between_rounds_counts(store: DataStore, scan: Scan) -> None:
    publish(scan.get_writer_stream("a"), 0, 4)
    tracker = new_tracker(store)
    tracker.update()
    with scan.pin("writer", {"a": 1}):
        tracker.reclaim_memory(0)
    assert first_there(scan.streams["a"]) == 1


def test_points_that_a_pin_does_not_stand_before_go_by_age_all_the_same(
    store: DataStore, scan: Scan, clock: Clock
) -> None:
    a = scan.get_writer_stream("a")
    tracker = new_tracker(store, slice_=25)
    with scan.pin("writer", {"a": 100}):
        for i in range(9):
            publish(a, i, i + 1)
            tracker.update()
            clock.now += 10
        tracker.reclaim_memory(35)
        assert first_there(scan.streams["a"]) == 2  # as without a pin


# ------------------------------------------------------------------------------ the limit


def test_past_the_limit_a_pin_is_broken_and_its_holder_is_told(
    store: DataStore, scan: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = (scan.get_writer_stream(name) for name in "ab")
    publish(a, 0, 6)
    publish(b, 0, 4)
    b.seal()
    tracker = new_tracker(store)
    with scan.pin("writer", {"a": 2, "b": 1}) as pin, scan.pin("fast", {"a": 6, "b": 4}) as fast:
        tracker.update()
        with caplog.at_level(logging.INFO, LOGGER):
            tracker.reclaim_memory(0, past_pins=True)
        assert (first_there(scan.streams["a"]), first_there(scan.streams["b"])) == (5, 4)
        (record,) = caplog.records
        assert record.levelname == "CRITICAL"
        said = record.getMessage()
        assert f"Pin 'writer' of scan {scan.key} is BROKEN" in said
        assert "6 points of 2 streams were forgotten" in said
        assert tracker.take_alarms() == [said]
        assert tracker.take_alarms() == []
        with pytest.raises(PinBrokenError, match="a: 2 to 4; b: 1 to 3"):
            pin.sync()
        assert pin.broken == {"a": [(2, 5)], "b": [(1, 4)]}
        fast.sync()
        assert fast.broken == {}
        publish(a, 6, 8)
        tracker.update()
        tracker.reclaim_memory(0)  # it holds on from there
        assert first_there(scan.streams["a"]) == 5


def test_past_the_limit_the_oldest_goes_first_and_the_protected_stays(
    store: DataStore, scan: Scan, clock: Clock
) -> None:
    a = scan.get_writer_stream("a")
    tracker = new_tracker(store)
    with scan.pin("writer"):
        for i in range(9):
            publish(a, i, i + 1)
            tracker.update()
            clock.now += 10
        for expected in (0, 1, 2, 3, 4, 5):  # a twentieth of the time at once: a record
            tracker.reclaim_memory(35, past_pins=True)
            assert first_there(scan.streams["a"]) == expected
        with pytest.raises(NoFreeableMemoryError, match="too recent"):
            tracker.reclaim_memory(35, past_pins=True)


# ------------------------------------------------------------------------------ holders


def test_the_pin_of_a_dead_program_lapses(
    store: DataStore, scan: Scan, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    publish(scan.get_writer_stream("a"), 0, 6)
    key = pin_of_another_program(store, scan, a=2)
    tracker = new_tracker(store)
    tracker.update()
    silence(store, key, PIN_LAPSES_AFTER_S + 1)
    caplog.set_level(logging.INFO, LOGGER)
    tracker.update()  # seen to be silent, and given time: the server may have been away
    assert [pin.name for pin in tracker.pins] == ["other"]
    clock.now += DOUBTED_S + 1
    tracker.update()
    assert tracker.pins == []
    assert "Pin 'other' of scan" in caplog.text
    assert "has lapsed: nothing was heard of process 1 on elsewhere" in caplog.text
    tracker.reclaim_memory(0)
    assert first_there(scan.streams["a"]) == 5
    (left,) = store.pins()  # whoever comes back is told
    assert left.lapsed
    assert left.lost == {scan.streams["a"].key: ((2, 5),)}


def test_a_closed_scan_under_a_lapsed_pin_expires_and_is_let_go_once(
    store: DataStore, scan: Scan, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    key = pin_of_another_program(store, scan)
    tracker = new_tracker(store)
    scan.close()
    tracker.update()
    assert not expires(store, scan)
    silence(store, key, PIN_LAPSES_AFTER_S + 1)
    caplog.set_level(logging.INFO, LOGGER)
    for _ in range(4):
        tracker.update()
        clock.now += DOUBTED_S + 1
    assert expires(store, scan)
    assert caplog.text.count("is terminated, expiration set") == 1
    assert caplog.text.count("has lapsed") == 1
    assert "Start tracking" not in caplog.text
    scan.pin("other")
    tracker.update()
    assert not expires(store, scan)


def test_a_holder_that_is_heard_again_holds_again(
    store: DataStore, scan: Scan, clock: Clock
) -> None:
    publish(scan.get_writer_stream("a"), 0, 6)
    key = pin_of_another_program(store, scan, a=2)
    tracker = new_tracker(store)
    silence(store, key, PIN_LAPSES_AFTER_S + 1)
    tracker.update()
    clock.now += DOUBTED_S + 1
    tracker.update()
    assert tracker.pins == []
    scan.pin("other")
    tracker.update()
    tracker.reclaim_memory(0)
    assert first_there(scan.streams["a"]) == 2


def test_a_lasting_pin_stays_until_somebody_decides(
    store: DataStore, scan: Scan, clock: Clock
) -> None:
    publish(scan.get_writer_stream("a"), 0, 6)
    key = pin_of_another_program(store, scan, lasting=True, a=2)
    tracker = new_tracker(store)
    silence(store, key, 30 * PULSE_TTL_S)
    for _ in range(3):
        tracker.update()
        clock.now += DAY / 4
    (pin,) = store.pins()
    assert pin.silence >= 30 * PULSE_TTL_S
    assert pin.silent
    assert not pin.lapsed
    tracker.reclaim_memory(0)
    assert first_there(scan.streams["a"]) == 2
    assert store.remove_pin(scan.key, "other")
    tracker.reclaim_memory(0)
    assert first_there(scan.streams["a"]) == 5


# ------------------------------------------------------------------------------ scans


def expires(store: DataStore, scan: Scan) -> bool:
    if isinstance(store.backend, MemoryBackend):
        return store.backend.scans[scan.key].expires is not None
    keys = [scan.key, *(stream.key for stream in scan.streams.values())]
    return any(store.backend.client.ttl(key) >= 0 for key in keys)


def test_a_closed_scan_does_not_expire_before_its_pin_is_released(
    store: DataStore, scan: Scan, clock: Clock
) -> None:
    publish(scan.get_writer_stream("a"), 0, 6)
    tracker = new_tracker(store)
    pin = scan.pin("writer", lasting=True)
    scan.close()
    for _ in range(2):
        tracker.update()
        assert not expires(store, scan)
        clock.now += 1000
    with pytest.raises(NoFreeableMemoryError, match="pinned"):
        tracker.reclaim_memory(0)
    pin.release()
    tracker.update()
    assert expires(store, scan)


def test_a_closed_scan_that_was_let_go_of_is_kept_for_a_pin_that_comes_late(
    store: DataStore, scan: Scan
) -> None:
    publish(scan.get_writer_stream("a"), 0, 6)
    tracker = new_tracker(store)
    scan.close()
    tracker.update()
    assert expires(store, scan)
    pin = scan.pin("analysis", {"a": 3})
    assert not expires(store, scan)
    tracker.update()
    assert not expires(store, scan)
    tracker.reclaim_memory(0)
    assert first_there(scan.streams["a"]) == 3
    pin.release()
    tracker.update()
    assert expires(store, scan)


def test_a_pin_that_comes_just_when_a_scan_is_to_expire_counts(
    store: DataStore, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the tracker's look at pins and its word that the scan expires."""
    tracker = new_tracker(store)
    scan.close()
    look = tracker._look_at_pins

    def look_and_be_late() -> None:
        look()
        if not store.pins():
            scan.pin("writer", lasting=True)

    monkeypatch.setattr(tracker, "_look_at_pins", look_and_be_late)
    tracker.update()
    assert expires(store, scan)
    tracker.update()
    assert not expires(store, scan)
    assert store.remove_pin(scan.key, "writer")


def test_a_tracker_that_follows_keeps_a_closed_scan_that_is_to_expire(
    store: DataStore, scan: Scan
) -> None:
    pin = scan.pin("writer")
    scan.close()
    store.catalog.expire(scan.key, 10_000)  # by the one before, in the same moment
    assert expires(store, scan)
    tracker = new_tracker(store)
    tracker.update()
    assert not expires(store, scan)
    pin.release()
    tracker.update()
    assert expires(store, scan)


def test_an_open_scan_in_which_nothing_happens_is_not_deleted_under_a_pin(
    store: DataStore, scan: Scan, clock: Clock
) -> None:
    tracker = new_tracker(store, inactive=1000)
    pin = scan.pin("writer")
    tracker.update()
    clock.now += 2000
    tracker.update()
    assert store.load_scan(scan.key).state == scan.state
    pin.release()
    tracker.update()
    with pytest.raises(ScanNotFoundError):
        store.load_scan(scan.key)


def test_a_scan_that_cannot_be_read_any_more_is_held_all_the_same(
    plain_store: DataStore, server: TestServer
) -> None:
    with suppress(BlissdataError), plain_store.create_scan(IDENTITY) as scan:
        stream = scan.create_stream("a", dtype="f8", shape=(1000,))
        scan.prepare()
        publish(stream, 0, 6)
        tracker = new_tracker(plain_store)
        tracker.update()
        with scan.pin("writer"):
            with server.client() as client:
                client.set(scan.key, "no JSON")
            scan_key = scan.key
            tracker._set_aside(scan_key, "as a round would that looks at it again")
            tracker.update()
            with pytest.raises(NoFreeableMemoryError, match="pinned"):
                tracker.reclaim_memory(0)
            assert first_there(stream) == 0
        tracker.reclaim_memory(0)
        assert first_there(stream) == 5
        plain_store.delete_scan(scan_key, force=True)


def test_the_pin_of_a_deleted_scan_is_removed(
    store: DataStore, scan: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = new_tracker(store)
    tracker.update()
    pin = scan.pin("writer", lasting=True)
    store.delete_scan(scan.key, force=True)
    caplog.set_level(logging.INFO, LOGGER)
    tracker.update()
    assert store.pins() == []
    assert f"Pin 'writer' of scan {scan.key} is removed" in caplog.text
    with pytest.raises(PinGoneError, match="deleted"):
        pin.sync()


# ------------------------------------------------------------------------------ others


def test_a_tracker_that_follows_keeps_what_is_pinned_and_forgets_it_later(
    store: DataStore, scan: Scan, clock: Clock
) -> None:
    publish(scan.get_writer_stream("a"), 0, 6)
    with scan.pin("writer", {"a": 2}) as pin:
        first = new_tracker(store)
        first.update()
        first.reclaim_memory(0)
        first.update()
        second = new_tracker(store)
        second.update()
        second.reclaim_memory(0)  # up to the pin, where the first one has been
        with pytest.raises(NoFreeableMemoryError, match="pinned"):
            second.reclaim_memory(0)
        assert first_there(scan.streams["a"]) == 2
        pin.move({"a": 6})
        pin.sync()
        second.reclaim_memory(0)
        assert first_there(scan.streams["a"]) == 5


def test_a_pin_that_never_moves_costs_bounded_memory(
    memory_store: DataStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blissdata.redis_engine.memory_tracker.tracker.HELD_RECORDS", 20)
    with memory_store.create_scan(IDENTITY) as scan:
        held, free = (scan.create_stream(n, dtype="f8", shape=(1000,)) for n in ("held", "free"))
        scan.prepare()
        tracker = new_tracker(memory_store)
        with scan.pin("writer", streams=["held"]):
            for i in range(200):
                publish(held, i, i + 1)
                publish(free, i, i + 1)
                tracker.update()
                clock.now += 10
                tracker.reclaim_memory(0)
            assert (first_there(held), first_there(free)) == (0, 199)
            assert len(tracker._moments) <= 22
        tracker.reclaim_memory(5)
        assert first_there(held) == 199


def test_a_tracker_of_2x_is_noticed_by_what_it_writes(
    stack_store: DataStore, stack_server: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = new_tracker(stack_store)
    with stack_store.create_scan(IDENTITY) as scan:
        stream = scan.create_stream("a", dtype="f8")
        scan.prepare()
        stream.send(1.0)
        for _ in range(3):
            tracker.update()
        assert tracker.foreign is None
        with stack_server.client() as client:
            client.xadd("_MEMORY_TRACKING_", {stream.key: "0-1"})
            for _ in range(2):
                tracker.update()
            assert tracker.foreign is None  # one of ours, that led for a round
            client.xadd("_MEMORY_TRACKING_", {stream.key: "0-1"})
            for _ in range(2):
                tracker.update()
        assert tracker.foreign is not None
        assert abs(tracker.foreign - stack_store.backend.info().time) < 60
        assert caplog.text.count("A memory tracker of blissdata 2.x works on this server") == 1


def test_a_full_server_without_any_function_of_ours_is_kept_all_the_same(
    stack_store: DataStore, stack_server: TestServer
) -> None:
    """As one that was filled by programs of blissdata 2.x alone."""
    with stack_store.create_scan(IDENTITY) as scan:
        stream = scan.create_stream("a", dtype="f8", shape=(1000,))
        scan.prepare()
        publish(stream, 0, 200)
        with stack_server.client() as admin:
            admin.config_set("maxmemory", 1)
            admin.execute_command("FUNCTION", "FLUSH")
            try:
                tracker = new_tracker(stack_store)
                for _ in range(2):
                    tracker.update()
                tracker.reclaim_memory(0)
            finally:
                admin.config_set("maxmemory", 0)
        assert first_there(stream) > 100
        assert tracker.foreign is None


def test_what_goes_next_is_known(store: DataStore, scan: Scan, clock: Clock) -> None:
    tracker = new_tracker(store, slice_=50)
    assert tracker.oldest(1000.0) is None
    assert tracker.coming(1000.0, 0) is None
    for i in range(4):
        publish(scan.get_writer_stream("a"), i, i + 1)
        publish(scan.get_writer_stream("b"), i, i + 1)
        tracker.update()
        clock.now += 10
    assert tracker.oldest(1000.0) == pytest.approx(960)
    with scan.pin("writer", {"a": 0, "b": 9}):
        tracker.update()
        coming: Any = tracker.coming(1000.0, 0)
        assert (coming.until, coming.streams) == (pytest.approx(980), 1)
        assert (coming.scans, coming.more) == ((scan.key,), 0)
        assert tracker.coming(1000.0, 1000) is None
        tracker.reclaim_memory(0)
    assert tracker.oldest(1000.0) == pytest.approx(980)


# ------------------------------------------------------------------------------ cost


def test_round_trips_do_not_grow_with_pins_streams_and_moves(
    plain_store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trips_of(scans: int, streams: int) -> tuple[int, int, int]:
        """Of one move of all pins, of a round, and of forgetting up to them."""
        made = [plain_store.create_scan({**IDENTITY, "number": n}) for n in range(scans)]
        for scan in made:
            for n in range(streams):
                stream = scan.create_stream(f"s{n}", dtype="f8")
                stream.send(np.arange(5.0))
            scan.prepare()
            for stream in scan._writers.values():
                stream.join()
        pins = [scan.pin("writer") for scan in made]
        tracker = new_tracker(plain_store)
        tracker.update()
        found = []
        with monkeypatch.context() as patch, round_trips() as trips:
            patch.setattr(plain_store.pin_keeper, "wake", lambda: None)
            for pin in pins:
                for index in range(1, 100):
                    pin.move({f"s{n}": min(index, 3) for n in range(streams)})
            assert trips == []
            for work in (
                lambda: plain_store.pin_keeper.tell(pins),
                tracker.update,
                lambda: tracker.reclaim_memory(0),
            ):
                trips.clear()
                work()
                found.append(len(trips))
                trips.clear()
        for pin in pins:
            pin.release()
        for scan in made:
            scan.close()
        return (found[0], found[1], found[2])

    few, many = trips_of(1, 2), trips_of(20, 30)
    assert few[0] == many[0] == 1
    assert many[1] <= few[1] + 1 <= 12
    assert many[2] <= few[2] + 1 <= 10


def test_a_pin_key_carries_the_tag_of_its_scan() -> None:
    assert pin_key("esrf:scan:{X}", "w") == "esrf:pin:{X}:w"
    assert pin_key("esrf:scan:X", "a:b") == "esrf:pin:X:a:b"
