"""Protocol 1, byte for byte: as `docs/reference/wire.md` has it, and as blissdata 2.4.5 leaves it.

by hand     written by ours, looked at with a bare client; and the other way round
captured    what 2.4.5 left on a server (`data/`, made by `capture.py`) is read by ours; ours leaves
            the same bytes after the same steps (`steps.py`), but for times and primary keys
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import redis
from tests.golden import steps
from tests.golden.capture import CAPTURE, dump, index_schema, restore, trim_as_the_tracker_does

import blissdata.redis_engine.backends.event_log as event_log
from blissdata import DataStore, ScanState
from blissdata.exceptions import IndexNoMoreThereError, ScanNotFoundError
from blissdata.streams.default import Stream
from blissdata.testing.servers import StackServer

IDENTITY = {"name": "LoopScan", "number": 7, "data_policy": "none", "session": "ihr"}
SEAL = b"18446744073709551615-18446744073709551615"
ULID = re.compile(r"[0-9A-Z]{26}")


@pytest.fixture
def admin(stack_server: StackServer) -> Iterator[redis.Redis]:
    """A bare client."""
    with stack_server.client() as client:
        yield client


def document_text(admin: redis.Redis, key: str) -> str:
    """A document as the server gives it."""
    text: bytes = admin.execute_command("JSON.GET", key, ".")
    return text.decode()


# ---------------------------------------------------------------------------------- by hand


def a_closed_scan(store: DataStore) -> str:
    scan = store.create_scan(IDENTITY, {"title": "t", "bad": float("nan")})
    diode = scan.create_stream("diode", dtype="<f8", unit="A")
    spectrum = scan.create_stream("spectrum", dtype="<u2", shape=(-1,))
    log = scan.create_stream("log", dtype="json")
    scan.prepare()
    scan.start()
    diode.send(1.5)
    diode.join()
    diode.send(np.array([2.5, 3.5]))
    spectrum.send(np.array([1, 2, 3], "<u2"))
    log.send({"a": [1, float("nan")]})
    scan.stop()
    scan.close()
    return scan.key


class TestByHand:
    def test_keys(self, stack_store: DataStore, admin: redis.Redis) -> None:
        key = a_closed_scan(stack_store)
        assert re.fullmatch("esrf:scan:[0-9A-Z]{26}", key)
        document = json.loads(document_text(admin, key))
        streams = [document["state_stream"], *document["data_streams"].values()]
        assert {k.decode(): admin.type(k) for k in admin.scan_iter()} == {
            "_PROTOCOL_VERSION_": b"string",
            "_SCAN_HISTORY_": b"stream",
            key: b"ReJSON-RL",
            **{f"esrf:stream:{stream['pk']}": b"stream" for stream in streams},
            "esrf:scan:index:hash": b"string",
            "esrf:scan:index:schema": b"string",
        }
        assert admin.get("_PROTOCOL_VERSION_") == b"1"
        assert {admin.ttl(k) for k in admin.scan_iter()} == {-1}

    def test_document(self, stack_store: DataStore, admin: redis.Redis) -> None:
        key = a_closed_scan(stack_store)
        text = document_text(admin, key)
        pk = key.removeprefix("esrf:scan:")
        assert text.startswith(f'{{"pk":"{pk}","id":{{"pk":"{pk}",')
        assert ULID.sub("X", text) == (
            '{"pk":"X","id":{"pk":"X","name":"LoopScan","number":7,"data_policy":"none",'
            '"session":"ihr","proposal":null,"collection":null,"dataset":null,"path":null},'
            '"info":{"title":"t","bad":null},'
            '"state_stream":{"pk":"X","encoding":null,"info":null},'
            '"data_streams":{'
            '"diode":{"pk":"X","encoding":{"type":"numeric","dtype_str":"<f8","shape":[]},'
            '"info":{"unit":"A","dtype":"float64","shape":[]}},'
            '"spectrum":{"pk":"X","encoding":{"type":"numeric","dtype_str":"<u2","shape":[-1]},'
            '"info":{"dtype":"uint16","shape":[-1]}},'
            '"log":{"pk":"X","encoding":{"type":"json"},"info":{}}}}'
        )

    def test_entries(self, stack_store: DataStore, admin: redis.Redis) -> None:
        streams = stack_store.load_scan(a_closed_scan(stack_store)).streams
        assert admin.xrange(streams["diode"].key) == [
            (b"0-1", {b"payload": struct.pack("<d", 1.5)}),
            (b"1-1", {b"payload": struct.pack("<2d", 2.5, 3.5), b"len": b"2"}),
            (SEAL, {b"id": b"3"}),
        ]
        assert admin.xrange(streams["spectrum"].key) == [
            (b"0-1", {b"payload": msgpack.packb([[3], struct.pack("<3H", 1, 2, 3)])}),
            (SEAL, {b"id": b"1"}),
        ]
        assert admin.xrange(streams["log"].key) == [
            (b"0-1", {b"payload": b'{"a": [1, NaN]}'}),
            (SEAL, {b"id": b"1"}),
        ]

    def test_states_and_history(self, stack_store: DataStore, admin: redis.Redis) -> None:
        key = a_closed_scan(stack_store)
        document = json.loads(document_text(admin, key))
        entries = admin.xrange(f"esrf:stream:{document['state_stream']['pk']}")
        assert [fields for _, fields in entries] == [{b"state": b"%d" % n} for n in range(5)]
        ((timetag, fields),) = admin.xrange("_SCAN_HISTORY_")
        assert fields == {b"key": key.encode()}
        assert entries[0][0].split(b"-")[0] == timetag.split(b"-")[0]  # one instant

    def test_pulses_are_listed_while_there_are_any(
        self, stack_store: DataStore, admin: redis.Redis
    ) -> None:
        scans = [stack_store.create_scan(IDENTITY) for _ in range(2)]
        pulses = {scan.key.replace(":scan:", ":pulse:").encode() for scan in scans}
        assert admin.smembers("_PULSES_") == pulses
        assert all(86390 < admin.ttl(pulse) <= 86400 for pulse in pulses)
        scans[0].close()
        assert admin.smembers("_PULSES_") == {scans[1].key.replace(":scan:", ":pulse:").encode()}
        scans[1].close()
        assert not admin.exists("_PULSES_", *pulses)

    def test_a_stream_is_known_to_the_server_from_prepared_on(
        self, stack_store: DataStore, admin: redis.Redis
    ) -> None:
        scan = stack_store.create_scan(IDENTITY)
        scan.create_stream("s", dtype=float)
        assert json.loads(document_text(admin, scan.key))["data_streams"] == {}
        scan.prepare()
        assert list(json.loads(document_text(admin, scan.key))["data_streams"]) == ["s"]

    def test_deletion(self, stack_store: DataStore, admin: redis.Redis) -> None:
        key = a_closed_scan(stack_store)
        document = json.loads(document_text(admin, key))
        stack_store.delete_scan(key)
        streams = [document["state_stream"], *document["data_streams"].values()]
        for name in (key, *(f"esrf:stream:{stream['pk']}" for stream in streams)):
            assert 0 < admin.ttl(name) <= 10, name

    def test_deletion_by_force(self, stack_store: DataStore, admin: redis.Redis) -> None:
        scan = stack_store.create_scan(IDENTITY, {"a": 1})
        stream = scan.create_stream("s", dtype=float)
        scan.prepare()
        stream.send(1.0)
        stream.join()
        stack_store.delete_scan(scan.key, force=True)
        document = json.loads(document_text(admin, scan.key))
        assert document["info"] == {"a": 1, "end_reason": "DELETION"}
        states = admin.xrange(f"esrf:stream:{document['state_stream']['pk']}")
        assert [fields[b"state"] for _, fields in states] == [b"0", b"1", b"4"]
        assert admin.xrange(stream.key)[-1] == (SEAL, {b"id": b"1"})

    def test_a_detector_counts_under_its_own_name(
        self, stack_store: DataStore, admin: redis.Redis
    ) -> None:
        url = "tango://host:10000/id00/limaccds/simulator"
        assert stack_store.backend.current_acquisition(url) is None
        assert [stack_store.backend.begin_acquisition(url) for _ in range(2)] == [0, 1]
        assert admin.get(url) == b"1"

    def test_what_a_prepared_server_knows(self, stack_store: DataStore, admin: redis.Redis) -> None:
        tags = ["data_policy", "session", "proposal", "collection", "dataset", "path"]
        tag = {"type": "TAG", "SEPARATOR": "|"}
        assert index_schema(admin, "esrf:scan:index") == {
            "key_type": "JSON",
            "prefixes": ["esrf:scan:"],
            "attributes": [
                {"identifier": "$.pk", "attribute": "pk", **tag},
                {"identifier": "$.id.pk", "attribute": "id_pk", **tag},
                {"identifier": "$.id.name", "attribute": "id_name", **tag},
                {"identifier": "$.id.number", "attribute": "id_number", "type": "NUMERIC"},
                *({"identifier": f"$.id.{n}", "attribute": f"id_{n}", **tag} for n in tags),
                {"identifier": "$.state_stream.pk", "attribute": "state_stream_pk", **tag},
            ],
        }
        limit = admin.execute_command("FT.CONFIG", "GET", "MAXPREFIXEXPANSIONS")
        assert "2000" in str(limit)
        assert admin.execute_command("FCALL", "seal_stream", 1, "nothing") == 0

    def test_another_prefix_has_an_index_of_its_own(
        self, stack_store: DataStore, admin: redis.Redis
    ) -> None:
        catalog = stack_store.backend.catalog("other", ["sample", "run"], ["run"])
        from blissdata.redis_engine.documents import ScanDocument
        from blissdata.redis_engine.keys import new_ulid

        pk = new_ulid()
        catalog.create(ScanDocument(pk, {"sample": "Cu", "run": 3}, {}, new_ulid()))
        attributes = index_schema(admin, "other:scan:index")["attributes"]
        assert [(a["attribute"], a["type"]) for a in attributes] == [
            ("pk", "TAG"),
            ("id_pk", "TAG"),
            ("id_sample", "TAG"),
            ("id_run", "NUMERIC"),
            ("state_stream_pk", "TAG"),
        ]
        assert admin.exists(f"other:scan:{pk}") == 1


def test_a_scan_written_with_a_bare_client_is_read(
    stack_store: DataStore, admin: redis.Redis
) -> None:
    pk, state_pk, stream_pk = (f"01J000000000000000000000{n}A" for n in "123")
    key, stream = f"esrf:scan:{pk}", f"esrf:stream:{stream_pk}"
    document = {
        "pk": pk,
        "id": {"pk": state_pk, **IDENTITY, "proposal": None, "from a newer version": 1},
        "info": {"title": "by hand"},
        "state_stream": {"pk": state_pk, "encoding": "", "info": ""},
        "data_streams": {
            "d": {"pk": stream_pk, "encoding": {"type": "numeric", "dtype_str": ">i4", "shape": [2]},
                  "info": {}, "from a newer version": 2}
        },
        "from a newer version": [],
    }  # fmt: skip
    timetag = admin.xadd("_SCAN_HISTORY_", {"key": key})
    admin.execute_command("JSON.SET", key, ".", json.dumps(document))
    for state in "01234":
        admin.xadd(f"esrf:stream:{state_pk}", {"state": state})
    admin.xadd(stream, {"payload": struct.pack(">4i", 1, 2, 3, 4), "len": "2"}, id="5-1")
    admin.xadd(stream, {"payload": struct.pack(">2i", 5, 6)}, id="7-1")
    assert admin.execute_command("FCALL", "seal_stream", 1, stream) == 8
    assert stack_store.search_existing_scans(name="loopSCAN")[1] == [key]
    assert stack_store.get_last_scan() == (timetag.decode(), key)
    scan = stack_store.load_scan(key)
    assert (scan.name, scan.number, scan.state.name) == ("LoopScan", 7, "CLOSED")
    found = scan.streams["d"]
    assert len(found) == 8
    assert found[5:].tolist() == [[1, 2], [3, 4], [5, 6]]
    view = found.cursor().read()
    assert (view.index, len(view), view.get_data(5).tolist()) == (0, 8, [[1, 2], [3, 4], [5, 6]])


def test_functions_change_their_name_when_they_change() -> None:
    """As in `test_plain_wire.py`: give the library and its functions the next number, and write the
    new sum here."""
    text = (Path(event_log.__file__).parent / "functions" / "blissdata_json.lua").read_bytes()
    assert text.startswith(b"#!lua name=blissdata_json_3\n")
    assert (
        hashlib.sha256(text).hexdigest()
        == "372daf2dd2757bf5b5d1ee88153e364a19878a84a72917d332da32585d8d006a"
    )


# ---------------------------------------------------------------------------------- captured


@pytest.fixture(scope="module")
def captured() -> dict[str, Any]:
    """The file of `capture.py`."""
    found: dict[str, Any] = json.loads(CAPTURE.read_text())
    return found


@pytest.fixture
def theirs(stack_store: DataStore, admin: redis.Redis, captured: dict[str, Any]) -> DataStore:
    """Our store on a server with what 2.4.5 left."""
    restore(admin, captured["keys"])
    return stack_store


def expected_points(name: str) -> list[np.ndarray[Any, Any]]:
    """What was sent to a stream of the scan `kinds`, point by point."""
    (dtype, shape), sent = steps.POINTS[name]
    points: list[np.ndarray[Any, Any]] = []
    for batch in sent:
        points += [batch] if np.ndim(batch) == len(shape) else list(batch)
    return [np.asarray(point, dtype) for point in points]


class TestCaptured:
    @pytest.mark.parametrize("name", steps.POINTS)
    def test_numbers(self, theirs: DataStore, captured: dict[str, Any], name: str) -> None:
        stream = theirs.load_scan(captured["scans"]["kinds"]).streams[name]
        (dtype, shape), _ = steps.POINTS[name]
        assert (stream.dtype, stream.shape, stream.kind) == (np.dtype(dtype), shape, "array")
        assert stream.info["unit"] == "V"
        expected = expected_points(name)
        assert len(stream) == len(expected)
        assert stream.is_sealed()
        found = stream[:]
        assert len(found) == len(expected)
        assert all(
            part.dtype == np.dtype(dtype) for part in ([found] if -1 not in shape else found)
        )
        for point, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(point, wanted)
        if -1 not in shape and expected:
            np.testing.assert_array_equal(found, np.stack(expected))
            np.testing.assert_array_equal(stream.cursor().read().get_data(), np.stack(expected))

    def test_json(self, theirs: DataStore, captured: dict[str, Any]) -> None:
        stream = theirs.load_scan(captured["scans"]["kinds"]).streams["json"]
        assert repr(stream[:]) == repr(steps.JSON_POINTS)  # NaN is not equal to itself
        assert (stream.kind, stream.is_sealed()) == ("json", True)

    def test_the_scan_itself(self, theirs: DataStore, captured: dict[str, Any]) -> None:
        scan = theirs.load_scan(captured["scans"]["kinds"])
        assert scan.info == {**steps.INFO, "nan": None, "end_reason": "SUCCESS"}
        assert (scan.name, scan.number, scan.session) == ("ascan", 1, "ihr 12|a\\b")
        assert list(scan.streams) == [*steps.POINTS, "json"]

    @pytest.mark.parametrize(
        ("name", "state"),
        [("created", 0), ("prepared", 1), ("started", 2), ("stopped", 3), ("closed_at_once", 4)],
    )
    def test_every_state(
        self, theirs: DataStore, captured: dict[str, Any], name: str, state: int
    ) -> None:
        key = captured["scans"][name]
        scan = theirs.load_scan(key)
        assert scan.state == ScanState(state)
        assert theirs.get_scans_state([key]) == {key: ScanState(state)}
        assert list(scan.streams) == ([] if state in (0, 4) else ["s"])
        if state in (1, 2):
            assert scan.streams["s"][:].tolist() == [float(state)]
            assert not scan.streams["s"].is_sealed()
        if state == 3:
            assert (len(scan.streams["s"]), scan.streams["s"].is_sealed()) == (0, True)
        steps_taken = [step.state for step in theirs.catalog.steps(key)]
        assert steps_taken == ([0, 4] if state == 4 else list(range(state + 1)))

    def test_trimmed_streams(self, theirs: DataStore, captured: dict[str, Any]) -> None:
        streams = theirs.load_scan(captured["scans"]["trimmed"]).streams
        assert [len(streams[name]) for name in ("sealed", "open")] == [6, 6]
        assert streams["sealed"].is_sealed()
        assert streams["open"][4:].tolist() == np.arange(4, 6).tolist()
        for name, index in (("sealed", 5), ("open", 3)):
            with pytest.raises(IndexNoMoreThereError):
                streams[name][index]
        view = streams["open"].cursor().read()
        assert (view.index, len(view), view.get_data(4).tolist()) == (0, 6, [4, 5])

    def test_a_deleted_scan_is_gone(self, theirs: DataStore, captured: dict[str, Any]) -> None:
        key = captured["scans"]["deleted"]
        with pytest.raises(ScanNotFoundError):
            theirs.load_scan(key)
        assert key not in theirs.search_existing_scans()[1]
        assert key not in theirs.search_existing_scans(number=40)[1]
        assert key not in [a.key for a in theirs.catalog.announced("0-0")[1]]

    def test_scans_are_found(self, theirs: DataStore, captured: dict[str, Any]) -> None:
        scans = captured["scans"]
        history = captured["keys"]["_SCAN_HISTORY_"]["value"]
        keys = [fields["key"] for _, fields in history if fields["key"] != scans["deleted"]]
        timetag = history[-1][0]
        assert theirs.search_existing_scans() == (timetag, keys)
        assert theirs.search_existing_scans(name="ASCAN", number=1) == (timetag, [scans["kinds"]])
        for fields in (
            {"session": "ihr 12|a\\b"},
            {"session": "IHR*"},
            {"collection": "GRÜSSE"},
            {"path": "*/SAMPLE_0001.h5"},
            {"proposal": "*1234", "dataset": "sample_*", "number": 1},
        ):
            assert theirs.search_existing_scans(**fields)[1] == [scans["kinds"]], fields
        assert theirs.get_next_scan(0, block=False) == (history[0][0], keys[0])
        assert theirs.get_last_scan() == (timetag, keys[-1])

    def test_points_for_plugins_are_events(
        self, theirs: DataStore, captured: dict[str, Any]
    ) -> None:
        """As they are on the server, whatever a plugin makes of them."""
        streams = theirs.load_scan(captured["scans"]["sequence"]).streams
        points = Stream(streams["scans"].event_stream)[:]
        assert [theirs.load_scan(point["key"]).number for point in points] == [51, 52]
        assert streams["scans"].info["format"] == "subscan"
        streams = theirs.load_scan(captured["scans"]["lima"]).streams
        for name in ("saved", "live"):
            assert Stream(streams[name].event_stream)[:] == [
                {"last_index": 0, "last_index_saved": -1},
                {"last_index": 3, "last_index_saved": 3},
            ]
        streams = theirs.load_scan(captured["scans"]["file_backed"]).streams
        assert Stream(streams["s"].event_stream)[:].tolist() == [0.0, 1.0, 2.0]

    def test_our_publisher_goes_on_where_theirs_stopped(
        self, theirs: DataStore, captured: dict[str, Any]
    ) -> None:
        scan = theirs.load_scan(captured["scans"]["started"])
        writer = scan.get_writer_stream("s")
        writer.send(np.array([7.0, 8.0]))
        assert writer.seal() == 3
        assert scan.streams["s"][:].tolist() == [2.0, 7.0, 8.0]


def has_plugin(name: str) -> bool:
    """Whether a stream plugin is installed."""
    return name not in steps.PLUGINS or bool(
        entry_points(group="blissdata", name=steps.PLUGINS[name])
    )


def left_on(keys: Mapping[str, Mapping[str, Any]], scan_key: str) -> dict[str, Any]:
    """What a scan has left: its document, states and streams, without primary keys and times."""
    text = keys[scan_key]["value"]
    document = json.loads(text)

    def entries(pk: str) -> Any:
        found = keys.get(f"esrf:stream:{pk}")
        return found and (0 <= found["ttl"] <= 10, found["value"])

    _, states = entries(document["state_stream"]["pk"])
    return {
        "document": ULID.sub("X", text),
        "states": [fields for _, fields in states],
        "streams": {
            name: json.loads(ULID.sub("X", json.dumps(entries(stream["pk"]))))
            for name, stream in document["data_streams"].items()
        },
        "deleted": 0 <= keys[scan_key]["ttl"] <= 10,
    }


class TestTheSameSteps:
    @pytest.mark.parametrize("name", steps.STEPS)
    def test_ours_leaves_what_theirs_left(
        self,
        stack_store: DataStore,
        admin: redis.Redis,
        captured: dict[str, Any],
        name: str,
    ) -> None:
        if not has_plugin(name):
            pytest.skip(f"the plugin {steps.PLUGINS[name]} is not installed")
        scan = steps.STEPS[name](stack_store)
        if name == "trimmed":
            trim_as_the_tracker_does(admin, scan.key)
        ours = left_on(dump(admin), scan.key)
        assert ours == left_on(captured["keys"], captured["scans"][name])
        if name != "deleted":
            scan.close()  # with those who follow it

    def test_a_server_that_ours_prepared(
        self, stack_store: DataStore, admin: redis.Redis, captured: dict[str, Any]
    ) -> None:
        assert index_schema(admin, "esrf:scan:index") == captured["index"]
        prepared = dump(admin)
        assert sorted(prepared) == [
            "_PROTOCOL_VERSION_",
            "esrf:scan:index:hash",
            "esrf:scan:index:schema",
        ]
        assert prepared == {key: captured["keys"][key] for key in prepared}
