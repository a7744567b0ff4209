"""Several programs and one stream: a writer goes on where the stream ends, and of two only one writes.

| whose entry comes second | he is told              | stored of his   | the other one |
| ------------------------ | ----------------------- | --------------- | ------------- |
| the publisher's          | a conflict at its index | nothing more    | goes on       |
| another writer's         | a conflict at its index | nothing more    | goes on       |
| both, in a race          | one of them, as above   | nothing more    | has it all    |
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from blissdata import DataStore, Scan
from blissdata.exceptions import StreamConflictError

IDENTITY = {"name": "writers", "number": 1, "data_policy": "none"}
LONG_S = 30.0

KINDS: dict[str, dict[str, Any]] = {
    "numbers": {"dtype": "int64"},
    "frames": {"dtype": "int64", "shape": (1000,)},
    "words": {"dtype": "json"},
}


def points(kind: str, who: int, start: int, stop: int) -> list[Any]:
    """Points that tell who has written them."""
    numbers = [who * 1_000_000 + i for i in range(start, stop)]
    if kind == "frames":
        return [np.full(1000, n) for n in numbers]
    return numbers


def send(stream: Any, kind: str, who: int, start: int, stop: int) -> None:
    for point in points(kind, who, start, stop):
        stream.send(point)


def found(scan: Scan, kind: str) -> list[Any]:
    data = scan.streams[kind][:]
    return [frame[0] for frame in data] if kind == "frames" else list(data)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def scan(store: DataStore, kind: str) -> Scan:
    scan = store.create_scan(IDENTITY)
    scan.create_stream(kind, **KINDS[kind])
    scan.prepare()
    scan.start()
    return scan


def test_a_writer_goes_on_where_the_stream_ends(store: DataStore, scan: Scan, kind: str) -> None:
    for who in range(3):
        writer = store.load_scan(scan.key).get_writer_stream(kind)
        send(writer, kind, who, who * 4, who * 4 + 4)
        writer.join()
    expected = [who * 1_000_000 + i for who in range(3) for i in range(who * 4, who * 4 + 4)]
    assert found(store.load_scan(scan.key), kind) == expected
    scan.close()
    assert len(store.load_scan(scan.key).streams[kind]) == 12


@pytest.mark.parametrize("first", [0, 1], ids=["the publisher is second", "the other is second"])
def test_who_comes_second_is_told_at_which_index_and_writes_no_more(
    store: DataStore, scan: Scan, kind: str, first: int
) -> None:
    publisher = scan.get_writer_stream(kind)
    send(publisher, kind, 0, 0, 3)
    publisher.join()
    writers = [publisher, store.load_scan(scan.key).get_writer_stream(kind)]
    faster, slower = writers if first == 0 else writers[::-1]
    send(faster, kind, 7, 3, 5)
    faster.join()
    with pytest.raises(StreamConflictError, match=f"'{kind}'.* points 3 to ") as caught:  # noqa: PT012 — whichever comes first after the server's answer
        send(slower, kind, 8, 3, 40)
        slower.join()
    assert scan.key in str(caught.value)
    with pytest.raises(StreamConflictError, match="points 3 to "):
        slower.send(points(kind, 8, 40, 41)[0])
    send(faster, kind, 7, 5, 20)
    faster.join()
    expected = [0, 1, 2, *(7_000_000 + i for i in range(3, 20))]
    assert found(store.load_scan(scan.key), kind) == expected
    scan.close()


def test_of_two_writers_at_once_one_has_it_all(store: DataStore, scan: Scan, kind: str) -> None:
    begin = threading.Barrier(2)
    outcomes: dict[int, str] = {}

    def write(who: int) -> None:
        writer = store.load_scan(scan.key).get_writer_stream(kind)
        begin.wait(LONG_S)
        try:
            for start in range(0, 200, 10):
                send(writer, kind, who, start, start + 10)
                writer.join()
        except StreamConflictError as error:
            outcomes[who] = str(error)
        else:
            outcomes[who] = "all"

    threads = [threading.Thread(target=write, args=[who]) for who in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    (winner,) = (who for who, outcome in outcomes.items() if outcome == "all")
    (told,) = (outcome for outcome in outcomes.values() if outcome != "all")
    assert "points 0 to " in told
    expected = [winner * 1_000_000 + i for i in range(200)]
    assert found(store.load_scan(scan.key), kind) == expected
    scan.close()
