"""2.4.5 meets what it does not know, and ours leaves nothing that it does not know where it looks.

| 2.4.5 meets                                | and                                            |
| ------------------------------------------ | ---------------------------------------------- |
| our plain layout                           | refuses it by its own words, changes nothing   |
| a shared server after ours published on it | finds the keys of protocol 1 and no others     |
| a scan of ours that it deletes             | closes and deletes it; our reader is told      |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clients.kinds import KINDS
from tests.clients.matrix import PEER, Pair, meet
from tests.clients.programs import Program, Raised

from blissdata import DataStore
from blissdata.exceptions import ScanNotFoundError
from blissdata.testing.servers import StackServer, TestServer

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("peer_is_there")]

IDENTITY = {"name": "company", "number": 1, "data_policy": "none"}

ULID = "[0-9A-HJKMNP-TV-Z]{26}"
PROTOCOL_1 = re.compile(
    rf"_PROTOCOL_VERSION_|_SCAN_HISTORY_|_MEMORY_TRACKING_|esrf:scan:{ULID}|esrf:stream:{ULID}"
    r"|esrf:scan:index:(hash|schema)|tango://nowhere:10000/id00/limaccds/frelon"
)
"""All keys of the wire format; the last is where a detector counts its acquisitions."""


@pytest.fixture
def peer() -> Iterator[Program]:
    with Program("peer") as program:
        yield program


@pytest.mark.parametrize("init_db", [False, True], ids=["open", "prepare"])
def test_it_refuses_the_plain_layout_by_its_own_words(init_db, peer):
    with TestServer(tcp=True) as server:
        with DataStore(server.url, init_db=True) as store, store.create_scan(IDENTITY) as scan:
            scan.create_stream("x", dtype="int8")
            scan.prepare()
        before = everything(server)
        with pytest.raises(Raised) as caught:
            peer.tell("open", url=server.url, init_db=init_db)
        assert everything(server) == before
    assert caught.value.names[0] == "RuntimeError"
    said = caught.value.text
    if init_db:
        assert said.startswith("Cannot re-index a non-empty Redis database")
    else:
        assert "protocol 1001" in said
        assert "only version 1 is supported" in said
        assert server.url in said


def everything(server: TestServer) -> dict[bytes, bytes]:
    """Every key with what it holds."""
    with server.client() as client:
        return {key: client.dump(key) for key in client.scan_iter()}


@pytest.mark.parametrize("publisher", ["here", PEER])
def test_only_keys_of_protocol_1_are_on_a_shared_server(publisher, tmp_path):
    with meet(Pair(publisher, "here", "valkey+modules", 2)) as (program, _, server):
        for kind in KINDS:
            program.tell("children", identity=IDENTITY)
            arguments = {"kind": kind, "identity": IDENTITY, "info": {}, "directory": str(tmp_path)}
            program.tell("create", **arguments)
            for step in ("prepare", "start"):
                program.tell("step", name=step)
            program.tell("send", start=0, stop=3)
            program.tell("seal")
            for step in ("stop", "close"):
                program.tell("step", name=step)
        keys = [key.decode() for key in everything(server)]
    assert [key for key in keys if not PROTOCOL_1.fullmatch(key)] == []
    assert {key.partition(":")[0] for key in keys} >= {"_PROTOCOL_VERSION_", "esrf", "tango"}


def test_a_running_scan_of_ours_that_2x_deletes_ends_for_our_readers_too(peer, tmp_path: Path):
    with StackServer(tcp=True) as server, DataStore(server.url, init_db=True) as store:
        peer.tell("open", url=server.url)
        scan = store.create_scan(IDENTITY)
        x = scan.create_stream("x", dtype="int64")
        scan.prepare()
        scan.start()
        x.send(7)
        x.join()
        reader = store.load_scan(scan.key)
        peer.tell("delete", key=scan.key, force=True)
        with pytest.raises(ScanNotFoundError, match="deleted"):
            reader.update(timeout=20)
        assert reader.streams["x"][0] == 7
        with pytest.raises(ScanNotFoundError, match="deleted"):
            scan.stop()
