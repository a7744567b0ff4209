"""The memory tracker beside that of blissdata 2.4.5, on servers of protocol 1.

beside       each on a server of its own with the same scans: the same entries go, the same keys expire
in turns     on one server, one after the other: each goes on with the other's journal
pins         that of 2.4.5 passes over them and does not keep them; ours notices that it is there
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.clients.environments import environment

from blissdata import DataStore
from blissdata.redis_engine.memory_tracker import MemoryTracker
from blissdata.redis_engine.memory_tracker.health import look
from blissdata.testing.servers import StackServer

pytestmark = pytest.mark.interop

IDENTITY = {"name": "ascan", "number": 1, "data_policy": "none"}
SEAL = b"18446744073709551615-18446744073709551615"

ROUND = """
import logging, sys
from blissdata.redis_engine.store import DataStore
from blissdata.redis_engine.memory_tracker import MemoryTracker
url, *steps = sys.argv[1:]
store = DataStore(url)
tracker = MemoryTracker(store, 86400, 1000, 100)
for step in steps:
    if step == "update":
        tracker.update()
    elif step == "load all":
        _, keys = store.search_existing_scans(name="ascan")
        assert len([store.load_scan(key) for key in keys]) == 3
    else:
        tracker.reclaim_memory(protected_history=0)
print("done")
"""


def run(who: str, url: str, *steps: str) -> None:
    """Rounds of a new tracker, in a process of its own."""
    python = Path(sys.executable) if who == "ours" else environment("peer")
    done = subprocess.run(
        [python, "-c", ROUND, url, *steps], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.endswith("done\n"), done.stderr


@pytest.fixture
def servers(peer_is_there: None) -> Iterator[dict[str, StackServer]]:
    with ExitStack() as stack:
        yield {who: stack.enter_context(StackServer("valkey")) for who in ("ours", "2.4.5")}


def publish(url: str) -> dict[str, str]:
    """An open scan and a closed one; by name, the keys of all streams and scans."""
    keys: dict[str, str] = {}
    with DataStore(url, init_db=True) as store:
        scans = {}
        for number, name in enumerate(("open", "closed")):
            scan = store.create_scan({**IDENTITY, "number": number})
            image = scan.create_stream("images", dtype="f8", shape=(1000,))
            scalars = scan.create_stream("scalars", dtype="f8")
            single = scan.create_stream("single", dtype="f8")
            sealed = scan.create_stream("sealed", dtype="f8", shape=(1000,))
            empty = scan.create_stream("empty", dtype="f8")
            scan.prepare()
            scan.start()
            for i in range(5):
                for stream in (image, sealed):
                    stream.send(np.full(1000, float(i)))
                    stream.join()
            for i in range(450):
                scalars.send(float(i))
                scalars.join()
            single.send(1.0)
            single.join()
            sealed.seal()
            for stream in (image, scalars, single, sealed, empty):
                keys[f"{name} {stream.name}"] = stream.key
            keys[name] = scan.key
            scans[name] = scan
        scans["closed"].close()
        with store.create_scan({**IDENTITY, "number": 2}) as scan:
            keys["unprepared"] = scan.key
            scan.info["end_reason"] = "SUCCESS"
        publishers.append(scans["open"])
    return keys


publishers: list[Any] = []
"""Scans that stay open: nobody tells of them at the end."""


@pytest.fixture(autouse=True)
def open_scans() -> Iterator[None]:
    yield
    publishers.clear()


def state(server: StackServer, keys: dict[str, str]) -> dict[str, Any]:
    """By name: of streams, the ids that are left; of all keys, whether they expire in 1000 s."""
    found: dict[str, Any] = {}
    with server.client() as client:
        for name, key in keys.items():
            ttl = client.ttl(key)
            assert ttl in (-1, -2) or 900 < ttl <= 1000  # -2: an empty stream is no key
            kind = client.type(key)
            ids = [ident for ident, _ in client.xrange(key)] if kind == b"stream" else None
            found[name] = (ids, ttl > 0)
    return found


def journal(server: StackServer, keys: dict[str, str]) -> list[dict[str, bytes]]:
    names = {key.encode(): name for name, key in keys.items()}
    with server.client() as client:
        records = [fields for _, fields in client.xrange("_MEMORY_TRACKING_")]
    return [{names[key]: ident for key, ident in fields.items()} for fields in records]


def test_the_same_entries_go_and_the_same_keys_expire(servers: dict[str, StackServer]) -> None:
    keys = {who: publish(server.url) for who, server in servers.items()}
    journals, states = {}, {}
    for who, server in servers.items():
        run(who, server.url, "update")
        journals[who] = journal(server, keys[who])
        run(who, server.url, "update", "reclaim")
        states[who] = state(server, keys[who])
    assert journals["ours"][0] == journals["2.4.5"][0]
    assert states["ours"] == states["2.4.5"]
    # … and not because nothing was done:
    found = states["ours"]
    assert found["open images"] == ([b"4-1"], False)
    assert found["open sealed"] == ([SEAL], False)
    assert found["closed images"] == ([SEAL], True)
    assert found["closed"] == (None, True)
    assert found["open"] == (None, False)
    assert len(found["open scalars"][0]) < 450


@pytest.mark.parametrize("turns", [("ours", "2.4.5"), ("2.4.5", "ours")])
def test_each_goes_on_with_the_others_journal(
    servers: dict[str, StackServer], turns: tuple[str, str]
) -> None:
    first, second = turns
    server = servers["ours"]
    keys = publish(server.url)
    run(first, server.url, "update")
    run(second, server.url, "reclaim")
    found = state(server, keys)
    assert found["open images"] == ([b"4-1"], False)
    assert found["open sealed"] == ([SEAL], False)
    assert found["closed images"] == ([SEAL], True)
    run(second, server.url, "update")
    run(first, server.url, "update", "reclaim")
    assert state(server, keys) == found


def test_a_tracker_of_2x_does_not_keep_pins_and_is_noticed(servers: dict[str, StackServer]) -> None:
    server = servers["ours"]
    keys = publish(server.url)
    with DataStore(server.url) as store:
        tracker = MemoryTracker(store, 86400, 1000, 100)
        scan = store.load_scan(keys["open"])
        with scan.pin("writer") as pin:
            tracker.update()
            tracker.reclaim_memory(0)
            assert len(state(server, keys)["open images"][0]) == 5
            assert state(server, keys)["closed images"] == ([SEAL], True)
            assert tracker.foreign is None
            run("2.4.5", server.url, "load all", "update", "reclaim")
            assert state(server, keys)["open images"] == ([b"4-1"], False)
            tracker.update()
            run("2.4.5", server.url, "update")
            tracker.update()
            assert tracker.foreign is not None
            pin.sync()  # what another tracker forgets, nobody can tell it
            (seen,) = look(store, {}).pins
            assert (seen.pin.name, seen.pin.lost) == ("writer", {})
            assert not look(store, {}).pins_can_be_kept
