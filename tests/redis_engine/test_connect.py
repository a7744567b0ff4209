"""Which kind of server is chosen, and what is said of one that cannot be used.

database        not prepared, protocol 1, protocol 1001, in use by others
modules         both, neither, one of them, Valkey's own, not told
afterwards      functions that were missing, another database number, `blissdata status`
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis

from blissdata import DataStore
from blissdata.cli import main
from blissdata.exceptions import ProtocolVersionError, ServerNotEmptyError
from blissdata.redis_engine.backends.connect import layout_of, open_backend
from blissdata.redis_engine.store import reset_redis_db
from blissdata.testing.servers import StackServer, TestServer

IDENTITY = {"name": "ascan", "number": 7, "data_policy": "none"}


@pytest.fixture
def admin(stack_server: StackServer) -> Iterator[redis.Redis]:
    """Another program on the server with both modules."""
    with stack_server.client() as client:
        yield client


@pytest.fixture(params=["rejson", "redisearch"])
def half_server(request: pytest.FixtureRequest) -> Iterator[StackServer]:
    """A server with one of the two modules."""
    with StackServer(modules=[request.param]) as server:
        yield server


def opened(url: str, *, prepare: bool = False) -> tuple[str, str, int | None]:
    """Kind, reason and protocol of the backend for a server."""
    backend = open_backend(url, prepare=prepare)
    info = backend.info()
    backend.close()
    return info.kind, info.why, info.protocol


# ---------------------------------------------------------------------------------- choice


def test_an_empty_server_with_both_modules_is_shared_with_2x(stack_server: StackServer) -> None:
    kind, why, protocol = opened(stack_server.url, prepare=True)
    assert (kind, protocol) == ("stack", 1)
    assert "RedisJSON and RediSearch" in why
    kind, why, protocol = opened(stack_server.url)
    assert (kind, protocol) == ("stack", 1)
    assert "protocol 1" in why


def test_an_empty_server_without_modules_gets_the_plain_layout(server: TestServer) -> None:
    kind, why, protocol = opened(server.url, prepare=True)
    assert (kind, protocol) == ("plain", 1001)
    assert "neither RedisJSON nor RediSearch" in why
    assert opened(server.url)[0] == "plain"


def test_a_plain_database_stays_plain_beside_the_modules(
    stack_server: StackServer, admin: redis.Redis
) -> None:
    admin.set("_PROTOCOL_VERSION_", "1001")
    kind, why, protocol = opened(stack_server.url)
    assert (kind, protocol) == ("plain", 1001)
    assert "protocol 1001" in why
    assert opened(stack_server.url, prepare=True)[0] == "plain"
    with DataStore(stack_server.url) as store:
        key = store.create_scan(IDENTITY).key
        assert store.search_existing_scans(name="ascan")[1] == [key]


def test_one_module_alone_is_refused_with_what_is_missing(half_server: StackServer) -> None:
    with half_server.client() as client:
        names = {"ReJSON": "RedisJSON", "search": "RediSearch"}
        has = {module[b"name"].decode() for module in client.module_list()} & names.keys()
    (present,), (absent,) = ([names[n] for n in group] for group in (has, names.keys() - has))
    with pytest.raises(RuntimeError, match=f"has {present} but not {absent}") as caught:
        DataStore(half_server.url, init_db=True)
    assert half_server.url in str(caught.value)
    with pytest.raises(ProtocolVersionError, match="not prepared"):
        DataStore(half_server.url)


def test_a_database_of_2x_without_its_modules_is_refused(half_server: StackServer) -> None:
    with half_server.client() as client:
        client.set("_PROTOCOL_VERSION_", "1")
        client.set("esrf:scan:01", "{}")
        for init_db in (False, True):
            with pytest.raises(RuntimeError, match=r"protocol 1, .*2\.x.*lacks Redi") as caught:
                DataStore(half_server.url, init_db=init_db)
            assert half_server.url in str(caught.value)
        client.set("_PROTOCOL_VERSION_", "1001")
        assert opened(half_server.url)[0] == "plain"


@pytest.mark.parametrize("init_db", [False, True])
def test_a_server_that_others_use_is_refused_and_left_as_it_is(
    stack_server: StackServer, admin: redis.Redis, init_db: bool
) -> None:
    admin.set("theirs", "x")
    admin.execute_command("JSON.SET", "other:scan:1", ".", "{}")
    with pytest.raises(RuntimeError) as caught:
        DataStore(stack_server.url, init_db=init_db)
    assert stack_server.url in str(caught.value)
    assert isinstance(caught.value, ServerNotEmptyError if init_db else ProtocolVersionError)
    assert sorted(admin.keys()) == [b"other:scan:1", b"theirs"]
    assert admin.execute_command("FT._LIST") == []


def test_foreign_keys_beside_ours_do_no_harm(stack_server: StackServer, admin: redis.Redis) -> None:
    with DataStore(stack_server.url, init_db=True) as store:
        admin.set("esrf:scan:text", "x")
        admin.hset("esrf:scan:hash", "a", "b")
        admin.execute_command("JSON.SET", "esrf:scan:list", ".", "[1]")
        admin.execute_command("JSON.SET", "esrf:scan:other", ".", '{"id": 5, "state_stream": []}')
        admin.xadd("_SCAN_HISTORY_", {"key": "esrf:scan:text"})
        key = store.create_scan(IDENTITY).key
        assert store.search_existing_scans(name="ascan", number=7)[1] == [key]
        assert store.search_existing_scans(name="asc*")[1] == [key]
        assert store.get_last_scan()[1] == key
        for foreign in ("text", "hash", "list", "other"):
            with pytest.raises(ValueError, match=f"esrf:scan:{foreign} is not a scan"):
                store.load_scan(f"esrf:scan:{foreign}")
        states = store.catalog.states(["esrf:scan:text", "esrf:scan:list", key])
        assert states == {"esrf:scan:text": None, "esrf:scan:list": None, key: 0}
        assert list(store.load_scans(["esrf:scan:hash", key])) == ["esrf:scan:hash", key]


def test_the_search_index_lives_in_database_0_alone(stack_server: StackServer) -> None:
    kind, why, _ = opened(f"{stack_server.url}?db=3", prepare=True)
    assert kind == "plain"
    assert "database 0 only" in why


@pytest.mark.parametrize("names", [["json", "search"], ["json"], ["lua"], []], ids=str)
def test_valkeys_own_modules_are_not_those_of_2x(
    server: TestServer, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    """Valkey's search module has the name of RediSearch, but not its language."""
    monkeypatch.setattr(
        "blissdata.redis_engine.backends.connect._look", lambda client: (None, set(names))
    )
    with server.client() as client:
        assert "plain" in layout_of(client).why


def test_a_user_who_may_not_list_modules_still_reads(
    stack_server: StackServer, admin: redis.Redis
) -> None:
    with DataStore(stack_server.url, init_db=True) as store:
        key = store.create_scan(IDENTITY).key
    admin.execute_command("ACL", "SETUSER", "guest", "on", "nopass", "~*", "&*", "+@all")
    admin.execute_command("ACL", "SETUSER", "guest", "-module", "-function")
    try:
        with DataStore(f"{stack_server.url}?username=guest&password=x") as store:
            assert store.backend.info().kind == "stack"
            assert store.load_scan(key).number == 7
            assert store.search_existing_scans(name="a*")[1] == [key]
    finally:
        admin.execute_command("ACL", "DELUSER", "guest")


# ---------------------------------------------------------------------------------- preparing


def libraries(client: redis.Redis) -> set[str]:
    """The names of the function libraries on a server."""
    found = client.execute_command("FUNCTION", "LIST")
    flat = [lib if isinstance(lib, dict) else dict(zip(lib[::2], lib[1::2])) for lib in found]  # noqa: B905
    return {lib[b"library_name"].decode() for lib in flat}


def test_missing_functions_are_brought(stack_server: StackServer, admin: redis.Redis) -> None:
    DataStore(stack_server.url, init_db=True).close()
    admin.execute_command("FUNCTION", "FLUSH")
    with DataStore(stack_server.url) as store:
        assert libraries(admin) == {"mylib", "blissdata_3", "blissdata_json_3", "blissdata_pins_1"}
        scan = store.create_scan(IDENTITY)
        admin.execute_command("FUNCTION", "FLUSH")  # also behind the back of an open store
        scan.close()


def test_the_function_of_2x_is_left_as_it_is(stack_server: StackServer, admin: redis.Redis) -> None:
    DataStore(stack_server.url, init_db=True).close()
    theirs = (
        "#!lua name=mylib\n"
        "redis.register_function('seal_stream', function(keys, args) return 'theirs' end)"
    )
    admin.execute_command("FUNCTION", "LOAD", "REPLACE", theirs)
    with DataStore(stack_server.url) as store:
        store.create_scan(IDENTITY).close()
    assert admin.execute_command("FCALL", "seal_stream", 1, "s") == b"theirs"
    with DataStore(stack_server.url) as store:
        reset_redis_db(store)  # preparing replaces it, as 2.x does
        assert admin.execute_command("FCALL", "seal_stream", 1, "s") == 0


def test_the_function_of_2x_seals_as_it_should(
    stack_server: StackServer, admin: redis.Redis
) -> None:
    with DataStore(stack_server.url, init_db=True):
        admin.xadd("s", {"payload": b"abc", "len": 3}, id="0-1")
        admin.xadd("s", {"payload": b"d"}, id="3-1")
        admin.xadd("t", {"payload": b"abc", "len": 3}, id="7-1")
        admin.config_set("maxmemory", 1)
        for stream, length in (("s", 4), ("t", 10), ("empty", 0)):
            assert admin.execute_command("FCALL", "seal_stream", 1, stream) == length
            (last,) = admin.xrevrange(stream, count=1)
            seal = b"18446744073709551615-18446744073709551615"
            assert last == (seal, {b"id": str(length).encode()})
            with pytest.raises(redis.ResponseError, match=f"{stream} is already sealed"):
                admin.execute_command("FCALL", "seal_stream", 1, stream)
        admin.config_set("maxmemory", 0)


# ---------------------------------------------------------------------------------- telling


def status(url: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, object], str]:
    """What `blissdata status` says, for programs and for people."""
    assert main(["status", url, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["status", url]) == 0
    return found, capsys.readouterr().out


def test_status_tells_the_kind_and_why(
    stack_server: StackServer, admin: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    found, text = status(stack_server.url, capsys)
    assert (found["kind"], found["protocol"]) == (None, None)
    assert "not prepared yet; if it is empty it can be stack" in text
    DataStore(stack_server.url, init_db=True).close()
    found, text = status(stack_server.url, capsys)
    assert (found["kind"], found["protocol"]) == ("stack", 1)
    assert "stack: the database has protocol 1, which blissdata 2.x shares" in text
    admin.set("_PROTOCOL_VERSION_", "1001")
    found, text = status(stack_server.url, capsys)
    assert (found["kind"], found["protocol"]) == ("plain", 1001)
    admin.set("_PROTOCOL_VERSION_", "1002")
    found, text = status(stack_server.url, capsys)
    assert (found["kind"], found["protocol"]) == (None, 1002)
    assert "install a newer blissdata" in text


def test_status_tells_what_is_missing(
    server: TestServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with server.client() as client:
        client.set("_PROTOCOL_VERSION_", "1")
    found, text = status(server.url, capsys)
    assert (found["kind"], found["protocol"]) == (None, 1)
    assert "lacks RedisJSON and RediSearch" in text
