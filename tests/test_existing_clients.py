"""What programs written for blissdata 2.x do that new ones need not: the names with an underscore that
they touch, the arguments of old releases, and the order of things that they rely on.

scans       the document repaired after a failed close; info assigned before each step; old arguments
streams     a stream of no scan; streams wrapped anew; views made by hand
cursors     one stream taken out of a group; positions set from outside
store       the client taken away; keys by their old argument names
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import redis

from blissdata import DataStore, Scan, ScanState
from blissdata.exceptions import EndOfStream, IndexNoMoreThereError, ScanNotFoundError
from blissdata.streams import CursorGroup, EventRange, EventStream
from blissdata.streams.default import Stream, View
from blissdata.streams.encoding import StreamEncoder
from blissdata.streams.encoding.json import JsonStreamEncoder
from blissdata.streams.encoding.numeric import NumericStreamEncoder

IDENTITY = {"name": "ascan", "number": 1, "data_policy": "none"}


@pytest.fixture
def scan(store: DataStore) -> Scan:
    """A scan that was just created."""
    return store.create_scan(IDENTITY, {"title": "ascan x"})


# ---------------------------------------------------------------------------------- scans


def test_a_close_that_failed_is_repaired_from_the_server(store: DataStore, scan: Scan) -> None:
    scan.prepare()
    scan.start()
    scan.stop()
    scan.info["result"] = {1, 2}
    with pytest.raises(TypeError, match="result"):
        scan.close()
    assert scan.state == ScanState.STOPPED
    scan._model = scan._model.get(scan._model.pk)
    assert scan.info == {"title": "ascan x"}
    scan.info["end_reason"] = "FAILURE"
    scan.close()
    assert store.load_scan(scan.key).info == {"title": "ascan x", "end_reason": "FAILURE"}


def test_the_document_knows_its_key_and_what_is_gone(store: DataStore, scan: Scan) -> None:
    assert scan._model.pk in scan.key
    assert scan._model.info is scan.info
    with pytest.raises(ScanNotFoundError):
        scan._model.get("01J00000000000000000000000")


def test_an_equal_info_is_assigned_before_each_step(store: DataStore, scan: Scan) -> None:
    mine: dict[str, Any] = {"title": "ascan x", "range": (0, 1), "gap": np.nan, "at": np.arange(2)}
    for step in (scan.prepare, scan.start, scan.stop):
        scan.info = mine
        assert scan.info is mine
        step()
        assert scan.info == {"title": "ascan x", "range": [0, 1], "gap": None, "at": [0, 1]}
        assert isinstance(mine["range"], tuple)
    scan.info = mine
    scan.info["h5maps"] = {}
    assert mine["h5maps"] == {}
    scan.close()
    assert store.load_scan(scan.key).info["h5maps"] == {}


@pytest.mark.parametrize("steps", range(4))
def test_the_final_info_is_assigned_in_any_state(store: DataStore, scan: Scan, steps: int) -> None:
    for step in (scan.prepare, scan.start, scan.stop)[:steps]:
        step()
    scan.info = {"end_reason": "FAILURE"}
    scan.close()
    assert store.load_scan(scan.key).info == {"end_reason": "FAILURE"}


def test_a_local_change_of_a_read_only_info_stays_local(store: DataStore, scan: Scan) -> None:
    scan.info["h5maps"] = {"/a.h5": 1, "/b.h5": 2}
    scan.prepare()
    copy = store.load_scan(scan.key)
    del copy.info["h5maps"]["/a.h5"]
    assert copy.info["h5maps"] == {"/b.h5": 2}
    assert store.load_scan(scan.key).info["h5maps"] == {"/a.h5": 1, "/b.h5": 2}


def test_a_stream_is_created_as_1x_does(scan: Scan) -> None:
    encoder = NumericStreamEncoder("uint16", (2,))
    first = scan.create_stream("image", encoder, {"unit": "counts"})
    second = scan.create_stream("events", JsonStreamEncoder())
    third = scan.create_stream("x", encoder=NumericStreamEncoder(float), info={"a": 1})
    assert (first.name, first.dtype, first.shape) == ("image", np.uint16, (2,))
    assert first.info == {"unit": "counts"}
    assert (second.kind, second.info, third.info) == ("json", {}, {"a": 1})


def test_a_stream_is_created_by_the_old_argument_name(scan: Scan) -> None:
    create: Any = scan.create_stream
    stream = create(stream_definition=Stream.make_definition("x", float))
    assert (stream.name, stream.dtype) == ("x", np.float64)


def test_a_publisher_may_write_by_name_before_it_prepares(scan: Scan) -> None:
    scan.create_stream("x", dtype=float)
    writer = scan.get_writer_stream("x")
    with pytest.raises(KeyError, match="no stream 'y', only: x"):
        scan.get_writer_stream("y")
    writer.send(1.5)
    writer.join()
    scan.prepare()
    assert list(scan.streams["x"][:]) == [1.5]


def test_streams_are_the_keys_of_dictionaries(store: DataStore, scan: Scan) -> None:
    scan.create_stream("x", dtype=float)
    scan.create_stream("y", dtype=float)
    scan.prepare()
    copy = store.load_scan(scan.key)
    seen = {stream: name for name, stream in copy.streams.items()}
    assert [seen[copy.streams[name]] for name in ("x", "y")] == ["x", "y"]
    assert copy.streams["x"] != scan.streams["x"]
    copy.streams.clear()
    assert set(copy.streams) == {"x", "y"}


# ---------------------------------------------------------------------------------- streams


def test_a_stream_of_no_scan_writes_and_reads(store: DataStore) -> None:
    encoder = NumericStreamEncoder("int32", (2,))
    model = store._stream_model(encoding=encoder.info(), info={"unit": "mm", "range": (0, 1)})
    assert model.pk in model.key()
    assert (model.encoding["type"], model.info) == ("numeric", {"unit": "mm", "range": [0, 1]})
    writer = EventStream.create(store, "free", model)
    points = np.arange(6, dtype="int32").reshape(3, 2)
    writer.send(points)
    assert writer.seal() == 3
    reader = EventStream.open(store, "free", model)
    assert reader._data_store is store
    assert isinstance(reader._encoder, NumericStreamEncoder)
    assert (reader.name, reader.key, reader.info["unit"]) == ("free", model.key(), "mm")
    np.testing.assert_array_equal(reader[:], points)
    np.testing.assert_array_equal(Stream(reader)[1], points[1])
    assert store._stream_model(encoding=encoder.info(), info={}).key() != model.key()


def test_a_view_is_made_by_hand(store: DataStore, scan: Scan) -> None:
    stream = scan.create_stream("x", dtype=float)
    events = EventRange(3, 1, np.array([4.0, 5.0]), False)
    for view in (
        stream._build_view_from_events(0, events, last_only=False),
        View(event_range=events),
    ):
        assert (view.index, view.last_index, len(view)) == (3, 5, 3)
        assert list(view.get_data(1)) == [4.0, 5.0]
        assert list(view.get_data(-1)) == [5.0]
        with pytest.raises(IndexNoMoreThereError):
            view.get_data()


def test_an_encoder_needs_the_four_methods_of_2x_only() -> None:
    class OldEncoder(StreamEncoder):
        dtype, shape = np.dtype(object), ()

        def info(self) -> dict[str, Any]:
            return {"type": "old"}

        @classmethod
        def from_info(cls, info: dict[str, Any]) -> OldEncoder:
            return cls()

        def encode(self, data: Any) -> Any:
            raise NotImplementedError

        def decode(self, batches: Any) -> list[Any]:
            return [batch.payload for batch in batches]

    assert OldEncoder().empty() == []


# ---------------------------------------------------------------------------------- cursors


def test_a_stream_is_taken_out_of_a_group(store: DataStore, scan: Scan) -> None:
    x, y = (scan.create_stream(name, dtype=float) for name in "xy")
    scan.prepare()
    streams = store.load_scan(scan.key).streams
    group = CursorGroup(streams)
    x.send(1.0)
    y.send(2.0)
    x.join()
    y.join()
    assert set(group._active_cursors) == {x.key, y.key}
    assert group._active_cursors[x.key].position == 0
    del group._active_cursors[x.key]
    assert set(group.read()) == {streams["y"]}
    assert group.position == {streams["y"]: 1}
    y.seal()
    with pytest.raises(EndOfStream):
        group.read()
    assert group.position == {streams["y"]: 1}


def test_the_place_of_a_cursor_is_set_from_outside(scan: Scan) -> None:
    stream = scan.create_stream("x", dtype=float)
    for points in (np.arange(3.0), np.arange(3.0, 5.0)):
        stream.send(points)
        stream.join()
    cursor = stream.cursor()
    cursor._hl_index = cursor._ll_index = 3
    assert cursor.position == 3
    view = cursor.read()
    assert view is not None
    assert (view.index, list(view.get_data())) == (3, [3.0, 4.0])
    assert (cursor.position, cursor._ll_index) == (5, 5)


# ---------------------------------------------------------------------------------- store


def test_scans_are_named_by_the_old_argument_names(store: DataStore, scan: Scan) -> None:
    old: Any = store
    assert old.get_scans_state(scan_keys=[scan.key]) == {scan.key: ScanState.CREATED}
    scan.close()
    old.delete_scan(scan_key=scan.key)
    with pytest.raises(ScanNotFoundError):
        store.load_scan(scan.key)
    with pytest.raises(TypeError):
        old.delete_scan(scan.key, scan_key=scan.key)


def test_the_client_may_be_used_and_taken_away(plain_store: DataStore) -> None:
    client = plain_store._redis
    assert isinstance(client, redis.Redis)
    assert client.get("_PROTOCOL_VERSION_") == b"1001"
    plain_store._redis = None
    scan = plain_store.create_scan(IDENTITY)
    stream = scan.create_stream("x", dtype=float)
    stream.send(1.0)
    assert stream.seal() == 1
    scan.close()
    assert plain_store.get_last_scan()[1] == scan.key
