"""What a scan says to those who use it wrongly; what others do to it while it is used.

create_stream   definitions and arguments that make none; late; unknown encodings
steps           a scan that was deleted, closed by somebody else, or cannot be sealed
info            what is no info; what is not JSON, at creation and at each step
reading         stand-ins for streams that cannot be read here; attributes
with            errors inside, errors at the end
layouts         what prepare() finds wrong in them
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import numpy as np
import pytest

from blissdata import DataStore, Scan, ScanState
from blissdata.exceptions import (
    IndexNoMoreThereError,
    LayoutError,
    ScanInfoError,
    ScanNotFoundError,
    ScanTooLargeError,
    StreamConflictError,
    StreamRewoundError,
    StreamVanishedError,
    UnauthorizeStateTransition,
    UnknownEncodingError,
)
from blissdata.redis_engine.documents import ScanDocument
from blissdata.redis_engine.keys import new_ulid
from blissdata.streams import BaseStream
from blissdata.streams.default import BrokenPluginStream, BrokenStream, Stream
from blissdata.streams.encoding.json import JsonStreamEncoder
from blissdata.streams.event_log import SealRequest
from blissdata.testing import MemoryBackend
from blissdata.testing.servers import TestServer

IDENTITY = {"name": "ascan", "number": 1, "data_policy": "none"}


@pytest.fixture
def scan(store: DataStore) -> Scan:
    """A scan that was just created."""
    return store.create_scan(IDENTITY)


def nested(depth: int) -> dict[str, Any]:
    info: dict[str, Any] = {}
    for _ in range(depth):
        info = {"in": info}
    return info


# ---------------------------------------------------------------------------------- create_stream


def test_a_stream_by_name_needs_a_dtype(scan: Scan) -> None:
    with pytest.raises(TypeError, match=r"'diode'.*dtype"):
        scan.create_stream("diode")


def test_a_definition_stands_alone(scan: Scan) -> None:
    definition = Stream.make_definition("diode", float)
    for extra in ({"dtype": float}, {"unit": "A"}, {"encoder": JsonStreamEncoder()}, {"info": {}}):
        with pytest.raises(TypeError, match="definition"):
            scan.create_stream(definition, **extra)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["O", "U5", "S3", "M8[s]", "V8", [("a", "f8")], "nonsense"])
def test_a_stream_holds_numbers_or_json(scan: Scan, dtype: Any) -> None:
    with pytest.raises(ValueError, match="diode"):
        scan.create_stream("diode", dtype=dtype)
    scan.prepare()
    assert scan.streams == {}


@pytest.mark.parametrize("shape", [(1.5,), (-2,), "ab", 3], ids=repr)
def test_a_shape_is_a_sequence_of_sizes(scan: Scan, shape: Any) -> None:
    with pytest.raises(ValueError, match="diode"):
        scan.create_stream("diode", dtype=float, shape=shape)


def test_json_has_no_shape(scan: Scan) -> None:
    with pytest.raises(ValueError, match=r"diode.*no shape"):
        scan.create_stream("diode", dtype="json", shape=(2,))


@pytest.mark.parametrize(
    ("info", "error"),
    [
        ({"bad": object()}, TypeError),
        (nested(10_000), TypeError),
        ({"big": "x" * 2**20}, ScanTooLargeError),
    ],
    ids=["not JSON", "nested too deep", "too large"],
)
def test_the_info_of_a_stream_is_json_of_moderate_size(
    scan: Scan, info: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        scan.create_stream("diode", dtype=float, info=info)
    scan.create_stream("diode", dtype=float)


def test_the_info_of_a_stream_becomes_plain(scan: Scan) -> None:
    given = {"limits": (np.float32(0.5), np.nan)}
    stream = scan.create_stream("diode", dtype=float, info=given)
    assert stream.info["limits"] == [0.5, None]
    assert isinstance(given["limits"], tuple)


@pytest.mark.parametrize("state", [ScanState.STOPPED, ScanState.CLOSED])
def test_a_scan_that_stopped_takes_no_more_streams(scan: Scan, state: ScanState) -> None:
    scan.prepare()
    scan.start()
    scan.stop()
    if state == ScanState.CLOSED:
        scan.close()
    with pytest.raises(UnauthorizeStateTransition, match="no more streams") as caught:
        scan.create_stream("late", dtype=float)
    assert scan.key in str(caught.value)


@pytest.mark.parametrize("state", [ScanState.PREPARED, ScanState.STARTED])
def test_a_late_stream_is_known_with_the_next_step(
    store: DataStore, scan: Scan, state: ScanState, caplog: pytest.LogCaptureFixture
) -> None:
    """As blissdata 2.x has it; and the publisher is told."""
    scan.create_stream("early", dtype=float)
    scan.prepare()
    if state == ScanState.STARTED:
        scan.start()
    assert not caplog.records
    late = scan.create_stream("late", dtype=float)
    assert f"'late' comes late: scan {scan.key} is {state.name}" in caplog.text
    late.send(1.5)
    late.join()
    reader = store.load_scan(scan.key)
    assert list(reader.streams) == list(scan.streams) == ["early"]
    scan.start() if state == ScanState.PREPARED else scan.stop()
    assert reader.update(timeout=10)
    assert list(reader.streams) == list(scan.streams) == ["early", "late"]
    assert reader.streams["late"][0] == 1.5
    scan.close()


def test_an_encoder_is_no_text(scan: Scan) -> None:
    with pytest.raises(TypeError, match=r"expected an encoder.*dtype='float64'"):
        scan.create_stream("diode", "float64")  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------- steps


@pytest.mark.parametrize("step", ["prepare", "close"])
def test_a_deleted_scan_takes_no_step(store: DataStore, scan: Scan, step: str) -> None:
    store.catalog.expire(scan.key, 1)
    with pytest.raises(ScanNotFoundError, match="deleted") as caught:
        getattr(scan, step)()
    assert scan.key in str(caught.value)
    assert scan.state == ScanState.CREATED


def test_a_step_that_somebody_else_took_is_explained(store: DataStore, scan: Scan) -> None:
    document = store.catalog.load(scan.key).document
    store.catalog.advance(scan.key, 0, 4, document)
    with pytest.raises(UnauthorizeStateTransition, match="somebody else"):
        scan.prepare()
    assert scan.state == ScanState.CLOSED  # it knows now
    scan.close()  # and has nothing left to do


@pytest.mark.parametrize("step", ["stop", "close"])
@pytest.mark.parametrize(
    "tidied", [False, True], ids=["open again", "sealed by somebody meanwhile"]
)
def test_points_that_were_sealed_and_lost_are_reported_by_the_scan(step: str, tidied: bool) -> None:
    with TestServer() as server, DataStore(server.url, init_db=True) as store:
        scan = store.create_scan(IDENTITY)
        early, late, sound = (scan.create_stream(name, dtype=float) for name in "abc")
        scan.prepare()
        scan.start()
        for stream in (early, late, sound):
            stream.send([0.0, 1.0])
            stream.join()
        sound.seal()
        with server.client() as client:
            client.save()
        for stream in (early, late):
            stream.send([2.0, 3.0, 4.0])
        assert early.seal() == 5
        late.join()
        server.kill()
        server.start()
        if tidied:
            assert store.event_log.seal({early.key: SealRequest(None)}) == {early.key: 2}
        with pytest.raises(StreamRewoundError) as caught:
            getattr(scan, step)()
        said = "\n".join([str(caught.value), *caught.value.__notes__])
        assert re.search(r"Stream 'a' .*\b2\b", said)
        assert re.search(r"Stream 'b' .*only 2 points", said)
        assert "'c'" not in said
        scan.close()
        assert [len(scan.streams[name]) for name in "abc"] == [2, 2, 2]
        assert all(scan.streams[name].is_sealed() for name in "abc")


@pytest.mark.parametrize("step", ["stop", "close"])
def test_a_server_that_forgot_steps_is_brought_up_to_date(
    step: str, caplog: pytest.LogCaptureFixture
) -> None:
    with TestServer() as server, DataStore(server.url, init_db=True) as store:
        scan = store.create_scan(IDENTITY)
        scan.create_stream("s", dtype=float)
        with server.client() as client:
            client.save()
        scan.prepare()
        scan.start()
        server.kill()
        server.start()
        reader = store.load_scan(scan.key)
        assert reader.state == ScanState.CREATED
        getattr(scan, step)()
        assert "restarted from an older state" in caplog.text
        assert reader.update()
        assert reader.state == scan.state
        assert reader.streams["s"].is_sealed()
        scan.close()
        reader.update(block=False)
        assert reader.state == ScanState.CLOSED


def test_what_went_wrong_with_points_is_raised_once_by_stop(store: DataStore, scan: Scan) -> None:
    stream = scan.create_stream("s", dtype=float)
    other = scan.create_stream("other", dtype=float)
    scan.prepare()
    scan.start()
    rival = store.load_scan(scan.key).get_writer_stream("s")
    rival.send(1.0)
    rival.join()
    stream.send(2.0)
    other.send(3.0)
    with pytest.raises(StreamConflictError):
        stream.join()
    scan.stop()  # a conflict is a warning there
    assert [s.is_sealed() for s in scan.streams.values()] == [True, True]
    assert scan.streams["other"][:].tolist() == [3.0]


def test_points_that_the_server_lost_are_reported_by_seal(caplog: pytest.LogCaptureFixture) -> None:
    backend = MemoryBackend()
    backend.initialise()
    with DataStore(backend=backend) as store:
        scan = store.create_scan(IDENTITY)
        stream = scan.create_stream("s", dtype=float)
        scan.prepare()
        scan.start()
        for value in range(3):
            stream.send(float(value))
            stream.join()
        lossy = backend.streams[stream.key]
        lossy.entries, lossy.end = lossy.entries[:1], lossy.entries[0].end
        with pytest.raises(StreamRewoundError, match=r"'s'.*2 were confirmed.*only 1 points"):
            scan.stop()
        assert scan.state == ScanState.STARTED
        scan.stop()
        assert len(scan.streams["s"]) == 1
        assert scan.streams["s"].is_sealed()
    assert "index discrepancy" not in caplog.text


def test_a_reader_that_waits_learns_that_the_scan_was_deleted(
    store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blissdata.redis_engine.scan.WAIT_SLICE_S", 0.05)
    monkeypatch.setattr("blissdata.streams.event_stream.WAIT_SLICE_S", 0.05)
    monkeypatch.setattr("blissdata.streams.cursor.WAIT_SLICE_S", 0.05)
    scan = store.create_scan(IDENTITY)
    scan.create_stream("s", dtype=float)
    scan.prepare()
    copy = store.load_scan(scan.key)
    stream = copy.streams["s"]
    store.catalog.expire(scan.key, 1)
    with pytest.raises(ScanNotFoundError):
        copy.update()
    with pytest.raises(StreamVanishedError, match="'s'"):
        stream.wait_seal()
    with pytest.raises(StreamVanishedError, match="'s'"):
        stream.cursor().read()


# ---------------------------------------------------------------------------------- info


@pytest.mark.parametrize("info", [None, [1], "x", 5], ids=repr)
def test_info_is_a_dict(scan: Scan, info: Any) -> None:
    with pytest.raises(TypeError, match=r"dict.*" + type(info).__name__):
        scan.info = info
    assert scan.info == {}


@pytest.mark.parametrize(
    ("info", "error"),
    [
        ({"bad": object()}, TypeError),
        (nested(10_000), TypeError),
        ({"big": "x" * 2**20}, ScanTooLargeError),
    ],
    ids=["not JSON", "nested too deep", "too large"],
)
def test_an_info_that_cannot_be_stored_creates_and_changes_nothing(
    store: DataStore, info: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        store.create_scan(IDENTITY, info)
    assert store.search_existing_scans()[1] == []
    scan = store.create_scan(IDENTITY, {"fine": 1})
    scan.info.update(info)
    with pytest.raises(error):
        scan.prepare()
    assert scan.state == ScanState.CREATED
    assert store.load_scan(scan.key).info == {"fine": 1}


def test_a_late_change_says_what_changed_and_when_it_may(scan: Scan) -> None:
    scan.info["kept"] = 1
    scan.prepare()
    scan.info.update(late=1, other=2)
    with pytest.raises(ScanInfoError, match=r"START.*late, other.*prepare\(\)") as caught:
        scan.start()
    assert scan.key in str(caught.value)
    assert "kept" not in str(caught.value)


# ---------------------------------------------------------------------------------- reading


def scan_with_streams(store: DataStore, **streams: tuple[Any, dict[str, Any]]) -> Scan:
    """A prepared scan, as another program might have described it."""
    pk = new_ulid()
    document = ScanDocument(pk, dict(IDENTITY), {}, store.catalog.new_state_pk(pk))
    for name, (encoding, info) in streams.items():
        document.streams[name] = store.catalog.new_stream(pk, encoding, info)
    store.catalog.create(document)
    key = store.catalog.scan_key(pk)
    store.catalog.advance(key, 0, 1, document)
    return store.load_scan(key)


@pytest.mark.parametrize(
    "encoding",
    [
        None,
        {},
        {"type": "zfp"},
        {"type": 5},
        {"type": ["numeric"]},
        {"type": "numeric"},
        {"type": "numeric", "dtype_str": "O", "shape": []},
        {"type": "numeric", "dtype_str": "|S5", "shape": []},
        {"type": "numeric", "dtype_str": "nonsense", "shape": []},
        {"type": "numeric", "dtype_str": "<f8,<f8", "shape": []},
        {"type": "numeric", "dtype_str": 5, "shape": []},
        {"type": "numeric", "dtype_str": "<f8", "shape": "3"},
        {"type": "numeric", "dtype_str": "<f8", "shape": [-5]},
        {"type": "numeric", "dtype_str": "<f8", "shape": [1.5]},
        {"type": "numeric", "dtype_str": "<f8", "shape": [1] * 1000},
    ],
    ids=repr,
)
@pytest.mark.parametrize("plugin", [None, "no_such_plugin"])
def test_an_encoding_that_is_unknown_fails_alone(
    store: DataStore, encoding: Any, plugin: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    info = {"unit": "A"} if plugin is None else {"unit": "A", "plugin": plugin}
    scan = scan_with_streams(store, strange=(encoding, info), fine=({"type": "json"}, {}))
    with caplog.at_level(logging.WARNING, "blissdata"):
        stream = scan.streams["strange"]
    assert isinstance(stream, BrokenStream)
    assert not isinstance(stream, BrokenPluginStream)
    assert "'strange'" in caplog.text
    assert (stream.name, stream.info["unit"], stream.plugin) == ("strange", "A", plugin)
    for use in (
        lambda: stream.dtype,
        lambda: stream.shape,
        lambda: len(stream),
        lambda: stream[0],
        lambda: stream.cursor().read(block=False),
    ):
        with pytest.raises(UnknownEncodingError, match="'strange'"):
            use()
    assert scan.streams["fine"][:] == []


def test_an_unknown_encoding_cannot_be_written(store: DataStore) -> None:
    scan = scan_with_streams(store, strange=({"type": "zfp"}, {}))
    with pytest.raises(UnknownEncodingError, match=r"'strange'.*zfp.*json, numeric"):
        scan.get_writer_stream("strange")


def test_an_unknown_writer_stream_is_named_with_those_there_are(scan: Scan) -> None:
    scan.create_stream("a", dtype=float)
    scan.create_stream("b", dtype=float)
    scan.prepare()
    with pytest.raises(KeyError, match=r"'nowhere'.*a, b"):
        scan.get_writer_stream("nowhere")


def test_attributes_that_are_none_are_attribute_errors(scan: Scan) -> None:
    assert not hasattr(scan, "colour")
    assert "number" in dir(scan)
    assert "streams" in dir(scan)
    with pytest.raises(AttributeError):
        scan.key = "x"  # type: ignore[misc]


def test_the_repr_of_a_scan_names_its_key(scan: Scan) -> None:
    assert scan.key in repr(scan)


# ---------------------------------------------------------------------------------- with


def test_an_error_at_the_end_of_a_with_block_is_raised(store: DataStore) -> None:
    with pytest.raises(TypeError, match="bad"), store.create_scan(IDENTITY) as scan:
        scan.info["bad"] = object()
    assert scan.state == ScanState.CREATED
    del scan.info["bad"]
    scan.close()


def test_an_error_inside_a_with_block_is_not_hidden_by_one_at_its_end(
    store: DataStore, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ZeroDivisionError), store.create_scan(IDENTITY) as scan:  # noqa: PT012
        scan.info["bad"] = object()
        _ = 1 / 0
    assert scan.key in caplog.text


def test_a_with_block_around_a_loaded_scan_changes_nothing(store: DataStore, scan: Scan) -> None:
    with store.load_scan(scan.key) as copy:
        assert copy.state == ScanState.CREATED
    assert store.load_scan(scan.key).state == ScanState.CREATED


def test_what_the_block_says_of_its_end_is_kept(store: DataStore) -> None:
    with store.create_scan(IDENTITY) as scan:
        scan.info["end_reason"] = "USER_ABORT"
    assert json.loads(json.dumps(store.load_scan(scan.key).info))["end_reason"] == "USER_ABORT"


class TestLostPoints:
    """What a scan says when its publisher could not deliver everything."""

    def conflict(self, store: DataStore, scan: Scan, stream: BaseStream) -> None:
        """Somebody else writes the first point, then we do."""
        other = store.load_scan(scan.key).get_writer_stream(stream.name)
        other.send(1.0)
        other.join()
        stream.send(2.0)

    def test_leaving_the_block_raises_and_the_scan_ends_as_a_failure(
        self, store: DataStore
    ) -> None:
        scan = store.create_scan(IDENTITY)
        stream = scan.create_stream("d", dtype="float64")
        scan.prepare()
        scan.start()
        with pytest.raises(StreamConflictError, match="'d'"), scan:
            self.conflict(store, scan, stream)
        found = store.load_scan(scan.key)
        assert found.state is ScanState.CLOSED
        assert found.info["end_reason"] == "FAILURE"
        assert found.streams["d"][:].tolist() == [1.0]

    def test_stop_tells_of_a_conflict_that_nobody_was_told_of_and_then_stops(
        self, store: DataStore
    ) -> None:
        scan = store.create_scan(IDENTITY)
        stream = scan.create_stream("d", dtype="float64")
        scan.prepare()
        scan.start()
        self.conflict(store, scan, stream)
        with pytest.raises(StreamConflictError):
            scan.stop()
        assert scan.state is ScanState.STARTED
        scan.stop()
        scan.close()
        assert store.load_scan(scan.key).state is ScanState.CLOSED

    def test_a_stream_that_another_process_wrote_is_sealed_where_it_ends(
        self, store: DataStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        with store.create_scan(IDENTITY) as scan:
            scan.create_stream("d", dtype="float64")
            scan.prepare()
            scan.start()
            other = store.load_scan(scan.key).get_writer_stream("d")
            other.send(np.array([1.0, 2.0]))
            other.join()
            scan.stop()
        assert scan.streams["d"][:].tolist() == [1.0, 2.0]
        assert scan.streams["d"].is_sealed()
        assert caplog.text == ""


class TestNames:
    def test_a_stream_that_is_not_known_yet_is_a_key_error_that_says_why(
        self, store: DataStore
    ) -> None:
        with store.create_scan(IDENTITY) as scan:
            scan.create_stream("d", dtype="float64")
            with pytest.raises(KeyError, match=r"CREATED.*from PREPARED on"):
                scan.streams["d"]
            scan.prepare()
            with pytest.raises(KeyError, match=r"PREPARED.*no stream 'e', only: d"):
                scan.streams["e"]
            assert scan.streams.get("e") is None

    @pytest.mark.parametrize("name", ["", 3, None], ids=repr)
    def test_a_stream_has_a_text_as_its_name(self, store: DataStore, name: object) -> None:
        with (
            store.create_scan(IDENTITY) as scan,
            pytest.raises((TypeError, ValueError), match=repr(name)),
        ):
            scan.create_stream(name, dtype="float64")

    def test_points_that_left_memory_may_be_in_the_file_of_their_scan(
        self, store: DataStore
    ) -> None:
        with store.create_scan({**IDENTITY, "path": "/data/s.h5"}, info={"save": True}) as scan:
            stream = scan.create_stream("d", dtype="float64")
            scan.prepare()
            scan.start()
            stream.send(np.arange(3.0))
        store.event_log.trim({stream.key: 3})
        with pytest.raises(IndexNoMoreThereError, match=r"from /data/s\.h5::/1\.1/.*no file"):
            store.load_scan(scan.key).streams["d"][1]

    def test_points_of_a_deleted_scan_are_said_to_be_deleted(self, store: DataStore) -> None:
        with store.create_scan(IDENTITY) as scan:
            stream = scan.create_stream("d", dtype="float64")
            scan.prepare()
            scan.start()
            stream.send(np.arange(3.0))
        store.event_log.trim({stream.key: 3})
        with pytest.raises(IndexNoMoreThereError, match="left the server's memory"):
            scan.streams["d"][1]
        store.delete_scan(scan.key)
        with pytest.raises(IndexNoMoreThereError, match="deleted"):
            scan.streams["d"][0:2]


# ------------------------------------------------------------------------------------ layouts

DIODE = ({"units": "A"}, "STREAM", "diode")


def test_a_layout_without_mistakes_is_prepared(
    scan: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    scan.create_stream("diode", dtype=float)
    scan.info["mapping"] = {"NX_class": "NXentry", "measurement": {"diode": DIODE}}
    entry = {"type": "group", "children": {"a": {"type": "stream", "stream": "diode"}}}
    scan.info["h5maps"] = {"/data/f.h5": {"type": "group", "children": {"1.1": entry}}}
    scan.prepare()
    assert scan.state == ScanState.PREPARED
    assert not caplog.records


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        (
            {"m": {"diode": ({}, "STREAM", "dioda")}},
            r"/7\.1/m/diode: the scan has no stream 'dioda'",
        ),
        ({"m": {"a/b": DIODE}, "m/a": {"b": DIODE}}, r"/7\.1/m/a/b: two items at one path"),
        ({"m": ({"a": {"x": 1}}, {})}, r"/7\.1/m, attribute 'a': "),
        ({"m": ({"a": None}, {})}, r"/7\.1/m, attribute 'a': .*null"),
        ({"m": ({}, "FILE", 1)}, r"/7\.1/m: expected RAW or STREAM, found 'FILE'"),
        ([1], r"/7\.1: expected a dict"),
    ],
    ids=["unknown stream", "two at one path", "attribute", "null", "kind", "no mapping"],
)
def test_a_mistake_in_a_mapping_names_its_path_and_nothing_is_prepared(
    store: DataStore, mapping: Any, told: str
) -> None:
    scan = store.create_scan({**IDENTITY, "number": 7, "path": "/data/f.h5"})
    scan.create_stream("diode", dtype=float)
    scan.info["mapping"] = mapping
    with pytest.raises(LayoutError, match=f"^/data/f.h5::{told}"):
        scan.prepare()
    assert store.load_scan(scan.key).state == scan.state == ScanState.CREATED
    scan.info["mapping"] = {"diode": DIODE}
    scan.prepare()
    assert scan.state == ScanState.PREPARED


def test_mistakes_in_h5maps_are_told_and_the_scan_is_prepared(
    scan: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    scan.info["h5maps"] = {
        "/data/f.h5": {
            "type": "group",
            "children": {
                "1.1": {
                    "type": "group",
                    "attributes": {"none": None},
                    "children": {
                        "d": {"type": "stream", "stream": "nobody"},
                        "l": {"type": "soft_link", "target_path": "/1.1/nowhere"},
                    },
                }
            },
        },
        "/data/g.h5": 3,
    }
    scan.info["mapping"] = {"title": ({}, "RAW", "this one is right")}
    scan.prepare()
    assert scan.state == ScanState.PREPARED
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for told in ("/1.1, attribute 'none': ", "/data/g.h5::/: "):
        assert told in record.getMessage()


def test_what_h5maps_and_mapping_both_have_is_a_mistake(store: DataStore) -> None:
    scan = store.create_scan({**IDENTITY, "path": "/data/f.h5"})
    entry = {"type": "group", "children": {"title": "one"}}
    scan.info["h5maps"] = {"/data/f.h5": {"type": "group", "children": {"1.1": entry}}}
    scan.info["mapping"] = {"title": ({}, "RAW", "another")}
    with pytest.raises(LayoutError, match=r"/data/f.h5::/1\.1: two items at one path"):
        scan.prepare()
