"""The plain layout, byte for byte as `docs/reference/wire.md` has it.

Written by us, looked at with a bare client; and written with a bare client, read by us. Every expected
value here was written by hand from that page: if a test fails, the layout has changed, and other
programs that share the server will notice.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import msgpack
import numpy as np
import pytest

import blissdata.redis_engine.backends.event_log as event_log
from blissdata import DataStore
from blissdata.testing.servers import TestServer

IDENTITY = {"name": "LoopScan", "number": 7, "data_policy": "none", "session": "ihr"}
SEAL = b"18446744073709551615-18446744073709551615"


def a_closed_scan(store: DataStore) -> str:
    with store.create_scan(IDENTITY, {"title": "t", "bad": float("nan")}) as scan:
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
        scan.info["end_reason"] = "SUCCESS"
        scan.info["end_time"] = "2026-01-01T00:00:00+00:00"
        scan.close()
    return scan.key


class TestWritten:
    def test_keys(self, plain_store: DataStore, server: TestServer) -> None:
        key = a_closed_scan(plain_store)
        pk = key.removeprefix("esrf:scan:{").removesuffix("}")
        assert len(pk) == 26
        with server.client() as client:
            document = json.loads(client.get(key))
            streams = {d["pk"] for d in document["data_streams"].values()}
            expected = {
                "_PROTOCOL_VERSION_": b"string",
                f"esrf:scan:{{{pk}}}": b"string",
                f"esrf:stream:{{{pk}}}:{pk}": b"stream",
                **{f"esrf:stream:{{{pk}}}:{stream}": b"stream" for stream in streams},
                f"esrf:streams:{{{pk}}}": b"set",
                "_SCAN_HISTORY_": b"stream",
                "esrf:index:@states": b"zset",
                "esrf:index:created": b"zset",
                "esrf:index:name": b"zset",
                "esrf:index:number": b"zset",
                "esrf:index:data_policy": b"zset",
                "esrf:index:session": b"zset",
            }
            assert {k.decode(): client.type(k) for k in client.scan_iter()} == expected
            assert client.get("_PROTOCOL_VERSION_") == b"1001"
            assert client.smembers(f"esrf:streams:{{{pk}}}") == {
                f"esrf:stream:{{{pk}}}:{stream}".encode() for stream in streams
            }

    def test_document(self, plain_store: DataStore, server: TestServer) -> None:
        key = a_closed_scan(plain_store)
        pk = key.removeprefix("esrf:scan:{").removesuffix("}")
        with server.client() as client:
            found = json.loads(client.get(key))
        for stream in found["data_streams"].values():
            assert len(stream.pop("pk")) == 26
        nothing = dict.fromkeys(["proposal", "collection", "dataset", "path"])
        assert found == {
            "pk": pk,
            "id": {"pk": pk, **IDENTITY, **nothing},
            "info": {
                "title": "t",
                "bad": None,
                "end_reason": "SUCCESS",
                "end_time": "2026-01-01T00:00:00+00:00",
            },
            "state_stream": {"pk": pk, "encoding": None, "info": None},
            "data_streams": {
                "diode": {
                    "encoding": {"type": "numeric", "dtype_str": "<f8", "shape": []},
                    "info": {"unit": "A", "dtype": "float64", "shape": []},
                },
                "spectrum": {
                    "encoding": {"type": "numeric", "dtype_str": "<u2", "shape": [-1]},
                    "info": {"dtype": "uint16", "shape": [-1]},
                },
                "log": {"encoding": {"type": "json"}, "info": {}},
            },
        }

    def test_entries(self, plain_store: DataStore, server: TestServer) -> None:
        key = a_closed_scan(plain_store)
        streams = plain_store.load_scan(key).streams
        with server.client() as client:
            assert client.xrange(streams["diode"].key) == [
                (b"0-1", {b"payload": struct.pack("<d", 1.5)}),
                (b"1-1", {b"payload": struct.pack("<2d", 2.5, 3.5), b"len": b"2"}),
                (SEAL, {b"id": b"3"}),
            ]
            assert client.xrange(streams["spectrum"].key) == [
                (b"0-1", {b"payload": msgpack.packb([[3], struct.pack("<3H", 1, 2, 3)])}),
                (SEAL, {b"id": b"1"}),
            ]
            assert client.xrange(streams["log"].key) == [
                (b"0-1", {b"payload": b'{"a": [1, NaN]}'}),
                (SEAL, {b"id": b"1"}),
            ]

    def test_states_history_and_index(self, plain_store: DataStore, server: TestServer) -> None:
        key = a_closed_scan(plain_store)
        pk = key.removeprefix("esrf:scan:{").removesuffix("}")
        with server.client() as client:
            states = client.xrange(f"esrf:stream:{{{pk}}}:{pk}")
            assert [fields[b"state"] for _, fields in states] == [b"0", b"1", b"2", b"3", b"4"]
            ((timetag, fields),) = client.xrange("_SCAN_HISTORY_")
            assert fields == {b"key": key.encode()}
            ms, n = map(int, timetag.split(b"-"))
            assert client.zrange("esrf:index:@states", 0, -1, withscores=True) == [
                (pk.encode(), 4.0)
            ]
            assert client.zrange("esrf:index:created", 0, -1, withscores=True) == [
                (f"{ms:016}-{n:010}:{pk}".encode(), 0.0)
            ]
            assert client.zrange("esrf:index:name", 0, -1, withscores=True) == [
                (f"loopscan\0{pk}".encode(), 0.0)
            ]
            assert client.zrange("esrf:index:number", 0, -1, withscores=True) == [
                (pk.encode(), 7.0)
            ]

    def test_deletion(self, plain_store: DataStore, server: TestServer) -> None:
        key = a_closed_scan(plain_store)
        pk = key.removeprefix("esrf:scan:{").removesuffix("}")
        plain_store.delete_scan(key)
        with server.client() as client:
            for name in client.keys(f"*{{{pk}}}*"):
                assert 0 < client.ttl(name) <= 10, name

    def test_the_index_forgets_what_is_deleted(
        self, plain_store: DataStore, server: TestServer
    ) -> None:
        kept, deleted, planned = (a_closed_scan(plain_store) for _ in range(3))
        pks = [
            k.removeprefix("esrf:scan:{").removesuffix("}").encode()
            for k in (kept, deleted, planned)
        ]
        plain_store.delete_scan(deleted)
        plain_store.catalog.expire(planned, 1000)
        with server.client() as client:
            for index in ("@states", "name", "number", "session", "data_policy"):
                members = client.zrange(f"esrf:index:{index}", 0, -1)
                assert [member[-26:] for member in members] == [pks[0], pks[2]], index
            assert len(client.zrange("esrf:index:created", 0, -1)) == 3
            ((member, when),) = client.zrange("esrf:index:@expiring", 0, -1, withscores=True)
            assert member == pks[2]
            assert 0 < when / 1000 - client.time()[0] <= 1001


def test_a_scan_written_with_a_bare_client_is_read(
    plain_store: DataStore, server: TestServer
) -> None:
    pk, stream_pk = "01J0000000000000000000000A", "01J0000000000000000000000B"
    key, stream = f"esrf:scan:{{{pk}}}", f"esrf:stream:{{{pk}}}:{stream_pk}"
    document = {
        "pk": pk,
        "id": {"pk": pk, **IDENTITY, "proposal": None, "from a newer version": 1},
        "info": {"title": "by hand"},
        "state_stream": {"pk": pk, "encoding": None, "info": None},
        "data_streams": {
            "d": {"pk": stream_pk, "encoding": {"type": "numeric", "dtype_str": ">i4", "shape": [2]},
                  "info": {}}
        },
        "from a newer version": [],
    }  # fmt: skip
    with server.client() as client:
        timetag = client.xadd("_SCAN_HISTORY_", {"key": key})
        ms, n = map(int, timetag.split(b"-"))
        client.set(key, json.dumps(document))
        for state in "01234":
            client.xadd(f"esrf:stream:{{{pk}}}:{pk}", {"state": state, "later": "field"})
        client.zadd("esrf:index:created", {f"{ms:016}-{n:010}:{pk}": 0})
        client.zadd("esrf:index:name", {f"loopscan\0{pk}": 0})
        client.xadd(stream, {"len": "2", "payload": struct.pack(">4i", 1, 2, 3, 4)}, id="5-1")
        client.xadd(stream, {"payload": struct.pack(">2i", 5, 6), "later": "field"}, id="7-1")
        client.execute_command("XADD", stream, SEAL, "id", 8)
    assert plain_store.search_existing_scans(name="loopSCAN")[1] == [key]
    assert plain_store.get_last_scan() == (timetag.decode(), key)
    scan = plain_store.load_scan(key)
    assert (scan.name, scan.number, scan.state.name) == ("LoopScan", 7, "CLOSED")
    found = scan.streams["d"]
    assert len(found) == 8
    assert found[5:].tolist() == [[1, 2], [3, 4], [5, 6]]
    view = found.cursor().read()
    assert (view.index, len(view), view.get_data(5).tolist()) == (0, 8, [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize(
    ("name", "file", "sum_"),
    [
        (
            "blissdata_3",
            "blissdata.lua",
            "4ce274757b25c9bc15a0a5e89fe50a8a06e09b241b1b5611e6c0725a3c8bbe2c",
        ),
        (
            "blissdata_plain_3",
            "blissdata_plain.lua",
            "638d95cf6e74b87b7531bf7683c2f2e56055c6e6b5165f6a33994852003c8b5d",
        ),
    ],
)
def test_functions_change_their_name_when_they_change(name: str, file: str, sum_: str) -> None:
    """Programs of different age share a server, and each brings its functions only if they are
    missing. When this fails, give the library and its functions the next number, everywhere, and
    write the new sum here."""
    text = (Path(event_log.__file__).parent / "functions" / file).read_bytes()
    assert text.startswith(b"#!lua name=%b\n" % name.encode())
    assert hashlib.sha256(text).hexdigest() == sum_
