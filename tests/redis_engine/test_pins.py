"""Pins as programs hold them: threads, processes, trouble on the way to the server.

thread      moves go by themselves, trouble is told at the next move, nothing is left behind
process     a child does not hold its parent's pins; a killed program's pin lapses
server      restarted with its data: the pin is there; without: it is gone, and that is said
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.faults.refusals import REFUSALS

from blissdata import DataStore, Scan
from blissdata.exceptions import PinBrokenError, PinGoneError, ServerRefusedError, StoreError
from blissdata.redis_engine.memory_tracker import MemoryTracker
from blissdata.testing.servers import TestServer

IDENTITY = {"name": "ascan", "number": 1, "data_policy": "none"}
LONG_S = 30.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def with_stream(store: DataStore) -> Scan:
    scan = store.create_scan(IDENTITY)
    scan.create_stream("s", dtype="f8")
    scan.prepare()
    return scan


@pytest.fixture
def scan(plain_store: DataStore) -> Iterator[Scan]:
    scan = with_stream(plain_store)
    yield scan
    scan.close()


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "blissdata-pins"]


def test_one_thread_speaks_for_all_pins_and_ends_with_them(
    scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blissdata.redis_engine.pins.PERIOD_S", 0.1)
    assert threads() == []
    pins = [scan.pin(f"consumer {n}") for n in range(5)]
    assert threads() == ["blissdata-pins"]
    for pin in pins:
        pin.release()
    until(lambda: threads() == [])
    with scan.pin("again"):
        assert threads() == ["blissdata-pins"]


def test_what_the_thread_was_told_is_raised_at_the_next_move(
    plain_store: DataStore, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody calls `sync`, and the thread speaks when something has moved."""
    monkeypatch.setattr("blissdata.redis_engine.pins.PERIOD_S", 3600.0)
    pin = scan.pin("writer")
    key = scan.streams["s"].key
    (seen,) = plain_store.pins()
    plain_store.backend.pins.lose({seen.key: {key: 3}})
    pin.move({"s": 1})
    until(lambda: pin.broken == {"s": [(0, 3)]})
    with pytest.raises(PinBrokenError, match="s: 0 to 2"):
        pin.move({"s": 4})
    pin.move({"s": 5})  # told once; the move before counted as well
    until(lambda: plain_store.pins()[0].position(key) == 5)
    assert plain_store.remove_pin(scan.key, "writer")
    pin.move({"s": 6})
    with pytest.raises(PinGoneError, match="removed"):
        until(lambda: bool(pin.move({"s": 7})))


def test_closing_the_store_releases_what_is_not_to_last(server: TestServer) -> None:
    with DataStore(server.url, init_db=True) as observer:
        with DataStore(server.url) as store:
            scan = with_stream(store)
            lasting, other = scan.pin("writer", lasting=True), scan.pin("plot")
            lasting.move({"s": 2})
            scan.close()
        (left,) = observer.pins()
        assert (left.name, list(left.positions.values())) == ("writer", [2])
        with pytest.raises(PinGoneError):
            other.move({"s": 1})


def test_a_child_does_not_hold_its_parents_pins(plain_store: DataStore, scan: Scan) -> None:
    pin = scan.pin("writer")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            pin.move({"s": 100})
            said = "moved"
        except PinGoneError as error:
            said = str(error)
        except BaseException as error:
            said = repr(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert b"belongs to the process that took it" in pipe.read()
    os.waitpid(child, 0)
    pin.move({"s": 2})
    pin.sync()
    assert plain_store.pins()[0].position(scan.streams["s"].key) == 2
    pin.release()


def test_a_server_that_comes_back_with_its_data_has_the_pin() -> None:
    with (
        TestServer(appendonly="yes", appendfsync="always") as server,
        DataStore(server.url, init_db=True) as store,
    ):
        scan = with_stream(store)
        pin = scan.pin("writer")
        pin.move({"s": 4})
        pin.sync()
        server.kill()
        pin.move({"s": 5})  # waits for nobody
        with pytest.raises(StoreError):
            pin.sync()
        server.start()
        pin.sync()
        assert store.pins()[0].position(scan.streams["s"].key) == 5
        pin.release()
        scan.close()


def test_a_server_that_comes_back_without_its_data_has_no_pin() -> None:
    with TestServer() as server, DataStore(server.url, init_db=True) as store:
        scan = with_stream(store)
        pin = scan.pin("writer")
        server.kill()
        server.start()
        with pytest.raises(PinGoneError, match="deleted"):
            pin.sync()
        scan._writers.clear()
        store.heartbeat.end(scan.key)


@pytest.mark.parametrize("word", ["MISCONF", "READONLY", "NOREPLICAS"])
def test_while_a_server_refuses_words_no_pin_lapses_and_none_is_lost(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blissdata.redis_engine.pins.PERIOD_S", LONG_S)  # its thread is silent
    with TestServer() as server, DataStore(server.url, init_db=True) as store:
        scan = with_stream(store)
        pin = scan.pin("writer")
        (seen,) = store.pins()
        with server.client() as admin:
            assert admin.pexpire(seen.key, (86400 - 40) * 1000)
        assert store.pins()[0].silence >= 40
        store.pin_keeper.close()  # no thread any more; and it is released
        pin = store.load_scan(scan.key).pin("other")
        key = store.pins()[0].key
        with REFUSALS[word](server):
            pin.move({"s": 7})
            with pytest.raises(ServerRefusedError, match=word):
                pin.sync()
            assert store.pins()[0].silence == 0
        with server.client() as admin:
            assert admin.pexpire(key, (86400 - 40) * 1000)
        assert store.pins()[0].lapsed
        pin.sync()
        assert list(store.pins()[0].positions.values()) == [7]
        assert not store.pins()[0].lapsed
        pin.release()
        scan.close()


HOLDER = """
import sys, time
from blissdata import DataStore
with DataStore(sys.argv[1]) as store:
    scan = store.load_scan(sys.argv[2])
    pins = [scan.pin("lapsing"), scan.pin("lasting", lasting=True)]
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_of_a_program_that_is_killed_one_pin_lapses_and_a_lasting_one_stays(
    plain_store: DataStore, server: TestServer, scan: Scan
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, server.url, scan.key], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    tracker = MemoryTracker(plain_store, 86400, 604800, 20)

    def holding() -> list[str]:
        tracker.update()
        return sorted(pin.name for pin in tracker.pins)

    with holder.stdout as out:
        assert out.readline() == b"held\n"
        assert holding() == ["lapsing", "lasting"]
        holder.kill()
        holder.wait()
    deadline = time.monotonic() + 60
    while len(holding()) == 2:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert holding() == ["lasting"]
    assert [(pin.name, pin.silent, pin.lapsed) for pin in plain_store.pins()] == [
        ("lapsing", True, True),
        ("lasting", True, False),
    ]
    with scan.pin("lapsing"):
        assert holding() == ["lapsing", "lasting"]
    assert plain_store.remove_pin(scan.key, "lasting")
    assert holding() == []
