"""Signs of life: when a publisher is taken for lost, who beats, and what waiting readers are told.

| the publisher                                | a reader that waits              |
| -------------------------------------------- | -------------------------------- |
| beats                                        | waits                            |
| is silent at one look                        | waits                            |
| is silent at two looks in a row              | is told, or at the end, by choice|
| gives no signs of life at all (2.x)          | waits                            |
| has closed the scan                          | is told of that                  |
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.pulses import last_heard

from blissdata import DataStore, ScanState
from blissdata.exceptions import (
    EndOfStream,
    PublisherLostError,
    StoreConnectionError,
    StreamAbandonedError,
)
from blissdata.streams import CursorGroup, heartbeat
from blissdata.streams.heartbeat import LOST_AFTER_S, Heartbeat, Life, Suspicion

LONG_S = 30.0
IDENTITY = {"name": "heartbeat", "number": 1, "data_policy": "none"}
SILENT = Life(2, LOST_AFTER_S + 1)
BEATING = Life(2, LOST_AFTER_S - 1)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# ---------------------------------------------------------------------------------- the rule


def test_a_publisher_is_lost_that_was_silent_at_two_looks_in_a_row() -> None:
    suspicion = Suspicion()
    assert suspicion.lost({"a": SILENT, "b": BEATING}) == set()
    assert suspicion.lost({"a": SILENT, "b": SILENT}) == {"a"}
    assert suspicion.lost({"a": BEATING, "b": SILENT}) == {"b"}
    assert suspicion.lost({"a": SILENT, "b": BEATING}) == set()


def test_news_end_a_suspicion() -> None:
    suspicion = Suspicion()
    suspicion.lost({"a": SILENT})
    suspicion.forget()
    assert suspicion.lost({"a": SILENT}) == set()


@pytest.mark.parametrize("life", [Life(2, None), Life(4, None), Life(None, None)])
def test_of_a_publisher_without_signs_of_life_nothing_is_known(life: Life) -> None:
    suspicion = Suspicion()
    assert not suspicion.lost({"a": life})
    assert not suspicion.lost({"a": life})


# ---------------------------------------------------------------------------------- who beats


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become hundredths."""
    monkeypatch.setattr(heartbeat, "PERIOD_S", 0.01)
    monkeypatch.setattr(heartbeat, "IDLE_S", 0.05)


class Beats:
    """Takes the beats of a heartbeat."""

    def __init__(self) -> None:
        self.taken: list[list[str]] = []
        self.error: Exception | None = None

    def __call__(self, keys: Any) -> None:
        self.taken.append(list(keys))
        if self.error is not None:
            raise self.error


@pytest.fixture
def beats() -> Beats:
    return Beats()


@pytest.fixture
def beating(quick: None, beats: Beats) -> Iterator[Heartbeat]:
    found = Heartbeat(beats)
    yield found
    found.close()


class Writer:
    scan_key: str | None = "w"
    sealed: int | None = None
    failure: Exception | None = None


def test_all_open_scans_of_a_process_beat_together(beating: Heartbeat, beats: Beats) -> None:
    beating.begin("b")
    beating.begin("a")
    until(lambda: ["a", "b"] in beats.taken)
    beating.end("a")
    until(lambda: beats.taken[-1] == ["b"])


def test_a_writer_beats_until_its_stream_is_sealed(beating: Heartbeat, beats: Beats) -> None:
    writer = Writer()
    beating.follow(writer)
    until(lambda: ["w"] in beats.taken)
    writer.sealed = 3
    assert beating.keys() == []


def test_a_writer_that_nobody_holds_beats_no_more(beating: Heartbeat) -> None:
    writer = Writer()
    beating.follow(writer)
    assert beating.keys() == ["w"]
    del writer
    gc.collect()
    assert beating.keys() == []


def test_a_server_that_is_away_does_not_end_the_beats(beating: Heartbeat, beats: Beats) -> None:
    beats.error = StoreConnectionError("away")
    beating.begin("a")
    until(lambda: len(beats.taken) > 3)


def test_a_thread_without_work_ends_and_another_begins(beating: Heartbeat, beats: Beats) -> None:
    beating.begin("a")
    beating.end("a")
    until(lambda: not any(t.name == "blissdata-heartbeat" for t in threading.enumerate()))
    beating.begin("b")
    until(lambda: ["b"] in beats.taken)


def test_a_heartbeat_that_nobody_holds_ends(quick: None, beats: Beats) -> None:
    found = Heartbeat(beats)
    found.begin("a")
    del found
    gc.collect()
    until(lambda: not any(t.name == "blissdata-heartbeat" for t in threading.enumerate()))


def test_a_fork_does_not_beat_for_its_parent(beating: Heartbeat) -> None:
    beating.begin("a")
    child = os.fork()
    if not child:
        os._exit(len(beating.keys()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert beating.keys() == ["a"]


# ---------------------------------------------------------------------------------- scans and readers


def test_a_scan_beats_from_its_creation_to_its_end(store: DataStore) -> None:
    scan = store.create_scan(IDENTITY)
    assert store.heartbeat.keys() == [scan.key]
    with pytest.raises(PermissionError):
        store.load_scan(scan.key).close()
    assert store.heartbeat.keys() == [scan.key]
    scan.close()
    assert store.heartbeat.keys() == []
    assert store.scan_lives([scan.key]) == {scan.key: Life(4, None)}


def test_a_writer_stream_beats_for_its_scan(store: DataStore) -> None:
    scan = store.create_scan(IDENTITY)
    scan.create_stream("x", dtype=float)
    scan.prepare()
    store.heartbeat.end(scan.key)
    writer = store.load_scan(scan.key).get_writer_stream("x")
    assert store.heartbeat.keys() == [scan.key]
    writer.seal()
    assert store.heartbeat.keys() == []


@pytest.fixture
def lost(store: DataStore, impatient: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """A scan with two streams whose publisher is silent, and readers that look often."""
    monkeypatch.setattr(heartbeat, "LOST_AFTER_S", 0.1)
    scan = store.create_scan(IDENTITY)
    streams = [scan.create_stream(name, dtype=float) for name in "xy"]
    scan.prepare()
    for stream in streams:
        stream.send(1.0)
        stream.join()
    store.heartbeat.close()
    return scan.key


WAITS = {
    "a cursor": lambda scan: list(scan.streams["x"].cursor()),
    "a group": lambda scan: list(CursorGroup(scan.streams)),
    "a group that jumps": lambda scan: [
        CursorGroup(scan.streams).read(last_only=True),
        *iter(CursorGroup(scan.streams).read, 0),
    ],
    "an iteration": lambda scan: list(scan.streams["x"]),
    "wait_seal": lambda scan: scan.streams["x"].wait_seal(),
    "update": lambda scan: scan.update(),
    "wait_state": lambda scan: scan.wait_state(ScanState.CLOSED),
}


@pytest.mark.parametrize("wait", WAITS)
def test_who_waits_for_a_lost_publisher_is_told(store: DataStore, lost: str, wait: str) -> None:
    with pytest.raises(PublisherLostError, match="no sign of life") as caught:
        WAITS[wait](store.load_scan(lost))
    assert lost in str(caught.value)


def test_a_reader_may_wait_on_and_gets_what_comes(store: DataStore, lost: str) -> None:
    scan = store.load_scan(lost)
    cursor = scan.streams["x"].cursor()
    cursor.read()
    for _ in range(2):
        with pytest.raises(PublisherLostError):
            cursor.read()
    writer = scan.get_writer_stream("x")
    writer.send(2.0)
    writer.join()
    assert cursor.read().get_data().tolist() == [2.0]


ENDS = {
    "a cursor": lambda streams: [v.get_data().tolist() for v in streams["x"].cursor()] == [[1.0]],
    "an iteration": lambda streams: list(streams["x"]) == [1.0],
    "a group": lambda streams: {s.name for views in CursorGroup(streams) for s in views} == {*"xy"},
}


@pytest.mark.parametrize("read", ENDS)
def test_a_reader_may_choose_that_a_lost_publisher_means_the_end(
    store: DataStore, lost: str, read: str, caplog: pytest.LogCaptureFixture
) -> None:
    choosing = DataStore(backend=store.backend, lost_publisher="end")
    assert ENDS[read](choosing.load_scan(lost).streams)
    assert "no sign of life" in caplog.text
    assert lost in caplog.text


def test_each_cursor_may_choose_for_itself(store: DataStore, lost: str) -> None:
    streams = store.load_scan(lost).streams
    cursor = streams["x"].cursor(lost_publisher="end")
    cursor.read()
    with pytest.raises(EndOfStream) as caught:
        cursor.read()
    assert type(caught.value) is EndOfStream
    group = CursorGroup(streams, lost_publisher="end")
    assert {stream.name for views in group for stream in views} == {"x", "y"}
    choosing = DataStore(backend=store.backend, lost_publisher="end")
    told = choosing.load_scan(lost).streams["x"].cursor(lost_publisher="error")
    told.read()
    with pytest.raises(PublisherLostError):
        told.read()
    with pytest.raises(StreamAbandonedError, match="lost"):
        choosing.load_scan(lost).streams["x"].wait_seal()


def test_another_choice_is_refused(store: DataStore, lost: str) -> None:
    streams = store.load_scan(lost).streams
    with pytest.raises(ValueError, match="wait"):
        streams["x"].cursor(lost_publisher="wait")
    with pytest.raises(ValueError, match="wait"):
        CursorGroup(streams, lost_publisher="wait")
    with pytest.raises(ValueError, match="wait"):
        DataStore(backend=store.backend, lost_publisher="wait")


@pytest.mark.parametrize("together", [False, True], ids=["a cursor", "a group"])
def test_a_reader_whose_every_wait_is_cut_off_is_told_all_the_same(
    store: DataStore, lost: str, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    streams = store.load_scan(lost).streams
    reader = CursorGroup(streams) if together else streams["x"].cursor()
    for _ in range(4):  # all that there is
        reader.read(block=False)
    whole = type(store.event_log).read

    def cut_off(self: Any, positions: Any, *, wait: float = 0.0, **limits: Any) -> Any:
        if wait > 0:
            raise StoreConnectionError("cut")
        return whole(self, positions, wait=wait, **limits)

    monkeypatch.setattr(type(store.event_log), "read", cut_off)

    def told() -> bool:
        try:
            reader.read(timeout=LONG_S)
        except StoreConnectionError:
            return False
        except PublisherLostError:
            return True
        pytest.fail("there was news")

    until(told)


def test_a_time_limit_comes_before_the_news_of_a_loss(
    store: DataStore, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("cursor", "event_stream"):  # it is no time to look yet, however slow the machine
        monkeypatch.setattr(f"blissdata.streams.{module}.WAIT_SLICE_S", LONG_S)
    cursor = store.load_scan(lost).streams["x"].cursor()
    cursor.read()
    assert cursor.read(block=False) is None
    assert cursor.read(timeout=0.001) is None


def test_a_group_is_told_once_of_one_lost_publisher_among_others(
    store: DataStore, impatient: None
) -> None:
    publisher = DataStore(backend=store.backend)
    lost = publisher.create_scan(IDENTITY)
    streams = [lost.create_stream(name, dtype=float) for name in "xy"]
    lost.prepare()
    for silent in streams:
        silent.send(1.0)
        silent.join()
    publisher.heartbeat.close()  # and no beat is on its way any more
    other = store.create_scan(IDENTITY)  # goes on beating
    stream = other.create_stream("z", dtype=float)
    other.prepare()
    group = CursorGroup([*store.load_scan(lost.key).streams.values(), other.streams["z"]])
    while sum(group.position.values()) < 2:
        group.read()
    last_heard(store, lost, ago=2 * LOST_AFTER_S)
    with pytest.raises(PublisherLostError, match=r"'[xy]'"):
        group.read()
    assert group.read(timeout=0.3) == {}
    stream.send(1.0)
    assert [s.name for s in group.read()] == ["z"]
    lost.close()
    publisher.publisher.close()
    other.close()
