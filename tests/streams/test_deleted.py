"""A scan that is deleted by force while it runs: everybody who holds it is told, once, and of that.

| who                                   | is told                                             |
| ------------------------------------- | --------------------------------------------------- |
| reads a stream to its end             | `StreamDeletedError`, an `EndOfStream`              |
| iterates over it                      | the same: a loop does not end as if all were well   |
| waits in a stream without points      | `StreamVanishedError`                               |
| sends, joins                          | `StreamVanishedError`, which names the lost points  |
| takes the scan a step further         | `ScanNotFoundError`                                 |
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blissdata import DataStore, Scan
from blissdata.exceptions import (
    EndOfStream,
    ScanNotFoundError,
    StreamDeletedError,
    StreamVanishedError,
)
from blissdata.streams import CursorGroup

IDENTITY = {"name": "deleted", "number": 1, "data_policy": "none"}


@pytest.fixture
def published(store: DataStore) -> Iterator[tuple[Scan, Any]]:
    """A running scan, and its stream of two points."""
    scan = store.create_scan(IDENTITY)
    stream = scan.create_stream("x", dtype=float)
    scan.create_stream("empty", dtype=float)
    scan.prepare()
    scan.start()
    stream.send([1.0, 2.0])
    stream.join()
    return scan, stream


def drained(cursor: Any) -> Any:
    while True:
        cursor.read()


READERS: dict[str, Callable[[Scan], Any]] = {
    "a cursor": lambda scan: drained(scan.streams["x"].cursor()),
    "a loop over a cursor": lambda scan: list(scan.streams["x"].cursor()),
    "a loop over the points": lambda scan: list(scan.streams["x"]),
    "a group": lambda scan: drained(CursorGroup([scan.streams["x"]])),
    "a loop over a group": lambda scan: list(CursorGroup([scan.streams["x"]])),
}


@pytest.mark.parametrize("reader", READERS)
def test_who_reads_to_the_end_is_told(
    store: DataStore, published: tuple[Scan, Any], reader: str
) -> None:
    scan, _ = published
    copy = store.load_scan(scan.key)
    store.delete_scan(scan.key, force=True)
    with pytest.raises(StreamDeletedError, match="deleted, and these may not be all") as caught:
        READERS[reader](copy)
    assert isinstance(caught.value, EndOfStream)
    assert scan.key in str(caught.value)


def test_who_waits_for_a_first_point_is_told(
    store: DataStore, published: tuple[Scan, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("cursor", "event_stream"):
        monkeypatch.setattr(f"blissdata.streams.{module}.WAIT_SLICE_S", 0.02)
    scan, _ = published
    copy = store.load_scan(scan.key)
    store.delete_scan(scan.key, force=True)
    with pytest.raises(StreamVanishedError, match=r"'empty'.* deleted"):
        copy.streams["empty"].cursor().read()


def test_a_scan_that_ended_well_ends_well(store: DataStore, published: tuple[Scan, Any]) -> None:
    scan, _ = published
    copy = store.load_scan(scan.key)
    scan.close()
    assert list(copy.streams["x"]) == [1.0, 2.0]
    with pytest.raises(EndOfStream) as caught:
        drained(CursorGroup(copy.streams))
    assert type(caught.value) is EndOfStream


def test_the_publisher_is_told_once_and_of_that(
    store: DataStore, published: tuple[Scan, Any], caplog: pytest.LogCaptureFixture
) -> None:
    scan, stream = published
    store.delete_scan(scan.key, force=True)
    stream.send([3.0, 4.0])
    with pytest.raises(StreamVanishedError, match=r"'x'.* points 2 to 3 .*deleted") as caught:
        stream.join()
    assert scan.key in str(caught.value)
    with pytest.raises(StreamVanishedError):
        stream.send(5.0)
    for step in (scan.stop, scan.close, scan.close):
        with pytest.raises(ScanNotFoundError, match="deleted"):
            step()
    scan.tell_if_left_open()
    assert store.heartbeat.keys() == []
    assert caplog.records == []


@pytest.mark.parametrize("joins", [True, False], ids=["in the block", "by its end"])
def test_a_with_block_says_it_once(
    store: DataStore, published: tuple[Scan, Any], caplog: pytest.LogCaptureFixture, joins: bool
) -> None:
    scan, stream = published

    def publish() -> None:
        with scan:
            store.delete_scan(scan.key, force=True)
            stream.send(3.0)
            if joins:
                stream.join()

    with pytest.raises(StreamVanishedError, match="points 2 to 2") as caught:
        publish()
    scan.tell_if_left_open()
    assert not hasattr(caught.value, "__notes__")
    assert caplog.records == []


def test_a_with_block_that_sent_nothing_more_says_it_once(
    store: DataStore, published: tuple[Scan, Any], caplog: pytest.LogCaptureFixture
) -> None:
    scan, _ = published
    with pytest.raises(ScanNotFoundError) as caught, scan:
        store.delete_scan(scan.key, force=True)
    scan.tell_if_left_open()
    assert not hasattr(caught.value, "__notes__")
    assert caplog.records == []


def test_another_writer_of_a_stream_is_told(
    store: DataStore, published: tuple[Scan, Any], caplog: pytest.LogCaptureFixture
) -> None:
    scan, _ = published
    writer = store.load_scan(scan.key).get_writer_stream("x")
    store.delete_scan(scan.key, force=True)
    writer.send(3.0)
    with caplog.at_level(logging.WARNING), pytest.raises(StreamVanishedError):
        writer.seal()
    assert writer.seal() == 2
    assert caplog.records == []


def test_a_stream_that_only_somebody_sealed_is_said_to_be_sealed(
    store: DataStore, published: tuple[Scan, Any]
) -> None:
    from blissdata.exceptions import StreamSealedError
    from blissdata.streams.event_log import SealRequest

    scan, stream = published
    store.event_log.seal({stream.key: SealRequest(2)})
    stream.send(3.0)
    with pytest.raises(StreamSealedError):
        stream.join()
    scan.close()
