"""What is special about protocol 1: others write there too, and RediSearch is not always right.

others      points, seals and steps of blissdata 2.x, made with the commands that it sends
search      an index that is missing, of other fields, incomplete, or that passes scans over
lifetime    lost replies, planned expiry, streams that no document lists yet
client      RESP2 and RESP3
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis

from blissdata import DataStore, Scan
from blissdata.exceptions import (
    ScanNotFoundError,
    StreamConflictError,
    StreamSealedError,
    UnauthorizeStateTransition,
)
from blissdata.redis_engine.backends.stack import StackCatalog
from blissdata.redis_engine.keys import DELETION_GRACE_S
from blissdata.testing.servers import StackServer

IDENTITY = {"name": "ascan", "number": 7, "data_policy": "esrf"}
SEAL = "18446744073709551615-18446744073709551615"


@pytest.fixture
def admin(stack_server: StackServer) -> Iterator[redis.Redis]:
    """A bare client."""
    with stack_server.client() as client:
        yield client


def document(admin: redis.Redis, key: str) -> dict[str, Any]:
    """A scan's document."""
    found: dict[str, Any] = json.loads(admin.execute_command("JSON.GET", key, "."))
    return found


def step_of_2x(admin: redis.Redis, key: str, state: int, **info: Any) -> None:
    """A step as blissdata 2.x takes it: without looking."""
    found = document(admin, key)
    found["info"].update(info)
    pipeline = admin.pipeline(transaction=True)
    pipeline.execute_command("JSON.SET", key, ".", json.dumps(found))
    pipeline.xadd(f"esrf:stream:{found['state_stream']['pk']}", {"state": state})
    pipeline.execute()


# ---------------------------------------------------------------------------------- others


class TestOthers:
    def test_points_of_2x_are_a_conflict_for_ours(
        self, stack_store: DataStore, admin: redis.Redis
    ) -> None:
        scan = stack_store.create_scan(IDENTITY)
        stream = scan.create_stream("s", dtype=float)
        scan.prepare()
        admin.xadd(stream.key, {"payload": np.arange(2.0).tobytes(), "len": 2}, id="0-1")
        stream.send(5.0)
        with pytest.raises(StreamConflictError, match="index 2"):
            stream.join()
        assert scan.streams["s"][:].tolist() == [0.0, 1.0]
        assert stream.seal() == 2
        scan.close()

    def test_points_of_ours_are_a_conflict_for_2x(
        self, stack_store: DataStore, admin: redis.Redis
    ) -> None:
        scan = stack_store.create_scan(IDENTITY)
        stream = scan.create_stream("s", dtype=float)
        stream.send(np.arange(3.0))
        stream.join()
        with pytest.raises(redis.ResponseError, match="equal or smaller"):
            admin.xadd(stream.key, {"payload": b"x" * 8}, id="0-1")
        scan.close()

    def test_each_sees_the_seal_of_the_other(
        self, stack_store: DataStore, admin: redis.Redis
    ) -> None:
        scan = stack_store.create_scan(IDENTITY)
        ours, theirs = (scan.create_stream(name, dtype=float) for name in ("ours", "theirs"))
        scan.prepare()
        for stream in (ours, theirs):
            stream.send(np.arange(3.0))
            stream.join()
        assert ours.seal() == 3
        with pytest.raises(redis.ResponseError, match="is already sealed"):
            admin.execute_command("FCALL", "seal_stream", 1, ours.key)
        with pytest.raises(redis.ResponseError):
            admin.xadd(ours.key, {"payload": b"x" * 8}, id="3-1")
        assert admin.execute_command("FCALL", "seal_stream", 1, theirs.key) == 3
        assert theirs.is_sealed()
        theirs.send(1.0)
        with pytest.raises(StreamSealedError):
            theirs.join()
        assert theirs.seal() == 3
        scan.close()

    def test_a_step_of_2x_is_a_conflict_for_ours(
        self, stack_store: DataStore, admin: redis.Redis
    ) -> None:
        scan = stack_store.create_scan(IDENTITY)
        scan.prepare()
        step_of_2x(admin, scan.key, 4, end_reason="DELETION")
        with pytest.raises(UnauthorizeStateTransition):
            scan.start()
        assert stack_store.load_scan(scan.key).info == {"end_reason": "DELETION"}

    def test_a_scan_that_2x_closes_twice_is_closed(
        self, stack_store: DataStore, admin: redis.Redis
    ) -> None:
        scan = stack_store.create_scan(IDENTITY)
        for _ in range(2):
            step_of_2x(admin, scan.key, 4)
        loaded = stack_store.load_scan(scan.key)
        assert loaded.state.name == "CLOSED"
        assert not loaded.update()


# ---------------------------------------------------------------------------------- search


class TestSearch:
    @pytest.fixture
    def keys(self, stack_store: DataStore) -> list[str]:
        """Three scans."""
        return [stack_store.create_scan({**IDENTITY, "number": n}).key for n in range(3)]

    def finds(self, store: DataStore, keys: list[str]) -> None:
        """All of them are found, and each by its number."""
        assert store.search_existing_scans()[1] == keys
        assert store.search_existing_scans(name="asc*")[1] == keys
        assert store.search_existing_scans(name="ASCAN", number=1)[1] == [keys[1]]
        assert store.search_existing_scans(name="nothing")[1] == []

    def test_without_index_all_keys_are_looked_at(
        self, stack_store: DataStore, stack_server: StackServer, admin: redis.Redis, keys: list[str]
    ) -> None:
        admin.execute_command("FT.DROPINDEX", "esrf:scan:index")
        self.finds(stack_store, keys)
        assert admin.execute_command("FT._LIST") == []  # who reads changes nothing
        with DataStore(stack_server.url) as publisher:
            keys.append(publisher.create_scan({**IDENTITY, "number": 9}).key)
        assert admin.execute_command("FT._LIST") == [b"esrf:scan:index"]
        self.finds(stack_store, keys)

    def test_an_index_of_other_fields(
        self, stack_store: DataStore, admin: redis.Redis, keys: list[str]
    ) -> None:
        admin.execute_command("FT.DROPINDEX", "esrf:scan:index")
        schema = ("SCHEMA", "$.pk", "AS", "pk", "TAG")
        admin.execute_command(
            "FT.CREATE", "esrf:scan:index", "ON", "JSON", "PREFIX", 1, "esrf:scan:", *schema
        )
        self.finds(stack_store, keys)

    def test_a_document_that_cannot_be_indexed_hides_no_other(
        self, stack_store: DataStore, admin: redis.Redis, keys: list[str]
    ) -> None:
        found = document(admin, keys[0])
        found["id"]["number"] = "x"
        admin.execute_command("JSON.SET", keys[0], ".", json.dumps(found))
        assert stack_store.search_existing_scans()[1] == keys
        assert stack_store.search_existing_scans(name="ascan", number=1)[1] == [keys[1]]

    def test_more_results_than_the_server_gives_at_once(
        self, stack_store: DataStore, admin: redis.Redis, keys: list[str]
    ) -> None:
        admin.execute_command("FT.CONFIG", "SET", "MAXSEARCHRESULTS", 2)
        try:
            self.finds(stack_store, keys)
        finally:
            admin.execute_command("FT.CONFIG", "SET", "MAXSEARCHRESULTS", 1_000_000)

    def test_very_many_texts_behind_a_wildcard(self, stack_store: DataStore) -> None:
        """RediSearch stops at MAXPREFIXEXPANSIONS, 2000 on a prepared server, and does not tell."""
        keys = [
            stack_store.create_scan({**IDENTITY, "path": f"/data/{n}.h5"}).key for n in range(2100)
        ]
        for path in ("/data/*", "*.h5", "*data*"):
            assert stack_store.search_existing_scans(path=path)[1] == keys

    @pytest.mark.parametrize(
        ("stored", "wanted"),
        [
            ("a|b", "a|b"),
            ("a|b", "A|B"),
            (" blank ", " blank "),
            ("|", "|"),
            ("", ""),
            ("\t", "\t"),
            ("Straße", "STRASSE"),
            ("ss|ß", "ßssss"[2:3] + "s|ss"),
            ("back\\", "BACK\\"),
            ("a\\|b", "a\\|b"),
            ("$x -y", "$X -Y"),
            ("x" * 6000, "X" * 6000),
        ],
    )
    def test_texts_are_found_as_they_are_and_no_others(
        self, stack_store: DataStore, stored: str, wanted: str
    ) -> None:
        key = stack_store.create_scan({**IDENTITY, "session": stored}).key
        for other in ("a", "b", "blank", "|b", "a| b", "x", None, "ssb", "s"):
            stack_store.create_scan({**IDENTITY, "session": other})
        assert stack_store.search_existing_scans(session=wanted)[1] == [key]

    def test_scans_behind_the_history_when_all_in_it_are_deleted(
        self, stack_store: DataStore, admin: redis.Redis, keys: list[str]
    ) -> None:
        admin.xtrim("_SCAN_HISTORY_", maxlen=1, approximate=False)
        stack_store.delete_scan(keys[2], force=True)
        timetag, key = stack_store.get_last_scan()
        assert key == keys[1]
        since, found = 0, []
        for _ in range(2):
            since, key = stack_store.get_next_scan(since, block=False)
            found.append(key)
        assert found == keys[:2]
        assert int(since.split("-")[0]) <= int(stack_store.get_last_scan_timetag().split("-")[0])
        assert timetag == since

    def test_a_scan_that_2x_deletes_is_found_no_more_at_once(
        self, stack_store: DataStore, admin: redis.Redis, keys: list[str]
    ) -> None:
        assert admin.scard("_PULSES_") == 3  # the scans are open: theirs is the only time to live
        self.finds(stack_store, keys)
        admin.expire(keys[2], DELETION_GRACE_S)
        for fields in ({}, {"name": "ascan"}, {"number": 2}):
            assert keys[2] not in stack_store.search_existing_scans(**fields)[1]
        assert stack_store.scan_states(keys) == {keys[0]: 0, keys[1]: 0, keys[2]: None}
        admin.delete("_PULSES_")  # now nobody knows which time to live is a pulse's
        assert stack_store.search_existing_scans()[1] == keys[:2]
        admin.persist(keys[2])
        self.finds(stack_store, keys)

    def test_pulses_of_publishers_that_died_are_forgotten(
        self, stack_store: DataStore, admin: redis.Redis
    ) -> None:
        admin.sadd("_PULSES_", *(f"esrf:pulse:{n}" for n in range(100)))
        for _ in range(40):  # a new scan looks at some of them, by chance
            stack_store.create_scan(IDENTITY).close()
        assert admin.scard("_PULSES_") <= 64

    def test_a_user_who_may_only_read(
        self, stack_store: DataStore, stack_server: StackServer, admin: redis.Redis, keys: list[str]
    ) -> None:
        stack_store.delete_scan(keys[0], force=True)
        allowed = ("+@read", "+@connection", "+@transaction", "+ft.search", "+ft.info", "+json.get",
                   "+json.mget", "+module|list")  # fmt: skip
        admin.acl_setuser("reader", enabled=True, nopass=True, keys="*", commands=allowed)
        reader = f"unix://reader:x@{stack_server.socket}"
        with DataStore(reader) as store:
            for _ in range(2):
                assert store.search_existing_scans(name="ascan", number=2)[1] == keys[2:]
                assert store.search_existing_scans()[1] == keys[1:]
            assert store.scan_states(keys) == {keys[0]: None, keys[1]: 0, keys[2]: 0}
            assert store.load_scan(keys[1]).number == 1
            with pytest.raises(ScanNotFoundError):
                store.load_scan(keys[0])
            assert [key for _, key in store.newest_scans(5)] == keys[:0:-1]

    def test_the_history_itself_may_be_gone(
        self, stack_store: DataStore, admin: redis.Redis, keys: list[str]
    ) -> None:
        admin.delete("_SCAN_HISTORY_")
        assert stack_store.get_last_scan()[1] == keys[2]
        self.finds(stack_store, keys)


# ---------------------------------------------------------------------------------- lifetime


class _LostReply:
    """Functions whose first reply is lost on the way, after they were carried out."""

    def __init__(self, functions: Any) -> None:
        self._functions = functions
        self.calls = 0

    def call(self, *args: Any, **named: Any) -> Any:
        reply = self._functions.call(*args, **named)
        self.calls += 1
        if self.calls == 1:
            raise redis.ConnectionError("the reply was lost")
        return reply

    def call_many(self, *args: Any, **named: Any) -> Any:
        return self._functions.call_many(*args, **named)


class TestLifetime:
    def test_a_step_whose_reply_was_lost_is_taken_once(
        self, stack_store: DataStore, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = {"float": 0.1, "big": 2**70, "text": "ü\u0000", "deep": {"a": [1.0, None, []]}}
        scan = stack_store.create_scan(IDENTITY, info)
        scan.create_stream("s", dtype=float)
        catalog = stack_store.catalog
        assert isinstance(catalog, StackCatalog)
        functions = _LostReply(catalog._functions)
        monkeypatch.setattr(catalog, "_functions", functions)
        scan.prepare()
        assert functions.calls == 2
        assert [step.state for step in catalog.steps(scan.key)] == [0, 1]
        scan.start()
        scan.close()

    def test_a_lost_reply_hides_no_conflict(
        self, stack_store: DataStore, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scan = stack_store.create_scan(IDENTITY)
        catalog = stack_store.catalog
        assert isinstance(catalog, StackCatalog)
        step_of_2x(admin, scan.key, 1, theirs=True)
        monkeypatch.setattr(catalog, "_functions", _LostReply(catalog._functions))
        with pytest.raises(UnauthorizeStateTransition):
            scan.prepare()
        assert stack_store.load_scan(scan.key).info == {"theirs": True}

    def test_a_scan_created_with_a_lost_reply_is_announced_once(
        self, stack_store: DataStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scan = stack_store.create_scan(IDENTITY)
        catalog = stack_store.catalog
        loaded = catalog.load(scan.key)
        assert catalog.create(loaded.document) == loaded
        assert [a.key for a in catalog.announced("0-0")[1]] == [scan.key]

    def test_a_step_keeps_a_planned_expiry(
        self, stack_store: DataStore, admin: redis.Redis
    ) -> None:
        scan = stack_store.create_scan(IDENTITY)
        stack_store.catalog.expire(scan.key, 1000)
        stream = scan.create_stream("s", dtype=float)
        stream.send(1.0)
        scan.prepare()
        stream.join()
        state = f"esrf:stream:{document(admin, scan.key)['state_stream']['pk']}"
        for key in (scan.key, state, stream.key):
            assert 900 < admin.ttl(key) <= 1000
        scan.close()

    def test_streams_that_no_document_lists_go_with_their_scan(
        self, stack_store: DataStore, admin: redis.Redis
    ) -> None:
        scan = stack_store.create_scan(IDENTITY)
        stream = scan.create_stream("s", dtype=float)
        stream.send(1.0)
        stream.join()
        stack_store.delete_scan(scan.key, force=True)
        assert admin.ttl(stream.key) == -1
        with pytest.raises(ScanNotFoundError):
            scan.prepare()
        assert 0 < admin.ttl(stream.key) <= DELETION_GRACE_S

    def test_a_full_server_deletes_by_force(
        self, stack_store: DataStore, admin: redis.Redis
    ) -> None:
        scan = stack_store.create_scan(IDENTITY)
        stream = scan.create_stream("s", dtype=float)
        scan.prepare()
        stream.send(1.0)
        stream.join()
        admin.config_set("maxmemory", 1)
        stack_store.delete_scan(scan.key, force=True)
        assert admin.xrevrange(stream.key, count=1) == [(SEAL.encode(), {b"id": b"1"})]
        assert stack_store.search_existing_scans(name="ascan")[1] == []


class TestStates:
    @pytest.fixture
    def scans(self, stack_store: DataStore) -> list[Scan]:
        """Three scans, prepared, whose states were asked for before."""
        scans = [stack_store.create_scan({**IDENTITY, "number": n}) for n in range(3)]
        for scan in scans:
            scan.prepare()
        self.states(stack_store, scans, [1, 1, 1])
        return scans

    def states(self, store: DataStore, scans: list[Scan], expected: list[int | None]) -> None:
        keys = [scan.key for scan in scans]
        assert list(store.scan_states(keys).values()) == expected

    def test_what_came_since_they_were_asked_for_the_last_time(
        self, stack_store: DataStore, admin: redis.Redis, scans: list[Scan]
    ) -> None:
        scans[0].close()
        scans[1].start()
        scans[1].stop()
        self.states(stack_store, scans, [4, 3, 1])
        step_of_2x(admin, scans[0].key, 3)  # it does not look at what was before
        self.states(stack_store, scans, [3, 3, 1])
        scans[2].close()
        stack_store.delete_scan(scans[2].key)
        self.states(stack_store, scans, [3, 3, None])
        later = stack_store.create_scan(IDENTITY)
        self.states(stack_store, [later, *scans], [0, 3, 3, None])
        later.close()
        scans[1].close()

    def test_another_type_in_the_place_of_a_state_stream(
        self, stack_store: DataStore, admin: redis.Redis, scans: list[Scan]
    ) -> None:
        state = f"esrf:stream:{document(admin, scans[1].key)['state_stream']['pk']}"
        admin.set(state, "x")
        for _ in range(2):
            self.states(stack_store, scans, [1, None, 1])
        for scan in (scans[0], scans[2]):
            scan.close()
        self.states(stack_store, scans, [4, None, 4])
        admin.delete(scans[1].key)

    def test_a_server_that_was_restarted_from_an_older_state(self) -> None:
        with StackServer() as server, DataStore(server.url, init_db=True) as store:
            scans = [store.create_scan({**IDENTITY, "number": n}) for n in range(3)]
            with server.client() as admin:
                admin.save()
            for scan in scans:
                scan.close()
            self.states(store, scans, [4, 4, 4])
            server.kill()
            server.start()
            self.states(store, scans, [0, 0, 0])


# ---------------------------------------------------------------------------------- client


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("kind", ["stack_server", "redis_stack_server"])
def test_either_protocol_of_the_client(
    request: pytest.FixtureRequest, kind: str, protocol: int
) -> None:
    server: StackServer = request.getfixturevalue(kind)
    if int(redis.__version__.partition(".")[0]) < 5:
        pytest.skip("this redis-py speaks RESP2 alone")
    with DataStore(f"{server.url}?protocol={protocol}", init_db=True) as store:
        scans = [store.create_scan({**IDENTITY, "number": n, "session": "a|b"}) for n in range(3)]
        keys = [scan.key for scan in scans]
        scans[0].prepare()
        assert store.search_existing_scans()[1] == keys
        assert store.search_existing_scans(number=1, session="A|B")[1] == [keys[1]]
        assert store.search_existing_scans(session="a*")[1] == keys
        assert list(store.get_scans_state(keys).values()) == [1, 0, 0]
        assert store.get_next_scan(0, block=False)[1] == keys[0]
        assert store.load_scan(keys[0]).number == 0
        assert store.backend.info().kind == "stack"
        scans[0].close()
