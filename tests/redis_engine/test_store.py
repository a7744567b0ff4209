"""The entrance: which servers are let in, and what is said of the others.

address     nobody listening, no URL, clusters, something that is no Redis, a password, options
server      not prepared, foreign keys, other protocol versions, prepared and used ones
arguments   identity models, keys, timetags, info that is none
closing     stores end with everything delivered, and may be closed again
"""

from __future__ import annotations

import ast
import json
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
import redis
from pydantic import BaseModel, ValidationError

from blissdata import DataStore
from blissdata.exceptions import (
    BlissdataError,
    EndOfStream,
    PublishError,
    ScanKeyError,
    ScanValidationError,
    ServerNotEmptyError,
    StoreClosedError,
    StoreConnectionError,
    StoreError,
)
from blissdata.redis_engine.backends import client
from blissdata.redis_engine.keys import PLAIN_PROTOCOL
from blissdata.redis_engine.store import reset_redis_db
from blissdata.testing.servers import TestServer, free_port

IDENTITY = {"name": "ascan", "number": 1, "data_policy": "none"}


@pytest.fixture
def admin(server: TestServer) -> Iterator[redis.Redis]:
    """A client that goes behind the store's back."""
    with server.client() as client:
        yield client


# ---------------------------------------------------------------------------------- address


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_nobody_listens_there(scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}"
    with pytest.raises(StoreConnectionError, match=r"running.*blissdata serve") as caught:
        DataStore(url)
    assert url in str(caught.value)
    assert "refused" in str(caught.value)
    assert isinstance(caught.value, redis.ConnectionError)


def test_there_is_no_such_socket(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/nobody"
    with pytest.raises(redis.ConnectionError, match="nobody"):
        DataStore(url)


@pytest.mark.parametrize(
    "url", ["http://localhost", "localhost:6379", "redis:localhost", "nonsense", "://x"]
)
def test_that_is_no_url_of_a_server(url: str) -> None:
    with pytest.raises(StoreError, match="redis://") as caught:
        DataStore(url)
    assert url in str(caught.value)


@pytest.mark.parametrize("url", ["redis://localhost:port", "redis://localhost?socket_timeout=soon"])
def test_a_url_that_cannot_be_understood_is_shown(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        DataStore(url)
    assert url in str(caught.value)


@pytest.mark.parametrize("scheme", ["redis+cluster", "valkey+cluster"])
def test_clusters_are_refused_with_what_to_do(scheme: str) -> None:
    with pytest.raises(StoreError, match=r"not supported yet.*single server"):
        DataStore(f"{scheme}://localhost")


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n", b""]
)
def test_something_else_answers_there(greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(greeting)

        other = threading.Thread(target=answer)
        other.start()
        with pytest.raises(StoreConnectionError, match=f"127.0.0.1:{port}"):
            DataStore(f"redis://127.0.0.1:{port}")
        other.join()


def test_a_server_that_does_not_answer_in_time_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(redis.TimeoutError, match=f"127.0.0.1:{port}"):
            DataStore(f"redis://127.0.0.1:{port}?socket_timeout=0.05")


def test_no_message_shows_a_password(server: TestServer, admin: redis.Redis) -> None:
    admin.config_set("requirepass", "right")
    try:
        with pytest.raises(StoreConnectionError, match="password") as caught:
            DataStore(f"unix://:sesame@{server.socket}")
        messages, error = "", caught.value
        while error is not None:
            messages += f"{error!r} {error}"
            error = error.__cause__ or error.__context__  # type: ignore[assignment]
        assert "sesame" not in messages
    finally:
        admin.config_set("requirepass", "")


def test_a_client_in_need_of_a_password_is_told_so(server: TestServer, admin: redis.Redis) -> None:
    admin.config_set("requirepass", "right")
    try:
        with pytest.raises(StoreConnectionError, match=r"wants a password.*:password@"):
            DataStore(server.url)
        with DataStore(f"unix://:right@{server.socket}", init_db=True) as store:
            assert "right" not in repr(store)
    finally:
        admin.config_set("requirepass", "")


def test_the_clients_options_may_stand_in_the_url(server: TestServer) -> None:
    for options in ("socket_timeout=30", "protocol=3", "decode_responses=true", "protocol=2"):
        with DataStore(f"{server.url}?{options}", init_db=True) as store:
            scan = store.create_scan(IDENTITY)
            stream = scan.create_stream("s", dtype=float)
            scan.prepare()
            stream.send(1.5)
            scan.close()
            assert store.load_scan(scan.key).streams["s"][:].tolist() == [1.5]
            assert store.get_next_scan(0)[1] == scan.key
            assert list(store.load_scan(scan.key).streams["s"]) == [1.5]
            reset_redis_db(store)


# ---------------------------------------------------------------------------------- server


def test_a_server_that_is_not_prepared_is_refused(server: TestServer) -> None:
    with pytest.raises(RuntimeError, match=r"_PROTOCOL_VERSION_.*init_db=True") as caught:
        DataStore(server.url)
    assert server.url in str(caught.value)


def test_a_server_of_somebody_else_is_left_alone(server: TestServer, admin: redis.Redis) -> None:
    admin.set("theirs", "x")
    with pytest.raises(RuntimeError, match="not prepared"):
        DataStore(server.url)
    with pytest.raises(ServerNotEmptyError, match=r"1 key.*another server") as caught:
        DataStore(server.url, init_db=True)
    assert server.url in str(caught.value)
    assert isinstance(caught.value, RuntimeError)
    assert admin.keys() == [b"theirs"]


@pytest.mark.parametrize(
    ("version", "found", "advice"),
    [
        ("1", "protocol 1,", r"blissdata 2\.x.*RedisJSON.*[Aa]nother server"),
        ("1002", "protocol 1002,", "newer blissdata.*pip install"),
        ("0", "protocol 0,", "another server"),
        ("1000", "protocol 1000,", "another server"),
        ("abc", "protocol abc,", "another server"),
        ("", "protocol ,", "another server"),
        ("-1", "protocol -1,", "another server"),
        ("1001.5", r"protocol 1001\.5,", "another server"),
        (b"\xff", "protocol �,", "another server"),
        ("9" * 5000, "protocol 999", "another server"),
    ],
)
@pytest.mark.parametrize("init_db", [False, True])
def test_another_protocol_version_is_refused(
    server: TestServer,
    admin: redis.Redis,
    version: Any,
    found: str,
    advice: str,
    init_db: bool,
) -> None:
    admin.set("_PROTOCOL_VERSION_", version)
    admin.set("esrf:scan:01", "{}")
    with pytest.raises(RuntimeError) as caught:
        DataStore(server.url, init_db=init_db)
    assert server.url in str(caught.value)
    if not init_db:
        caught.match(found)
        caught.match(advice)
        caught.match(str(PLAIN_PROTOCOL))
    assert admin.dbsize() == 2


def test_a_protocol_version_of_another_type_is_refused(
    server: TestServer, admin: redis.Redis
) -> None:
    admin.lpush("_PROTOCOL_VERSION_", "1001")
    with pytest.raises(StoreError) as caught:
        DataStore(server.url)
    assert "WRONGTYPE" in str(caught.value)


def test_publishers_try_with_init_db_and_then_without(server: TestServer) -> None:
    with DataStore(server.url, init_db=True) as first:
        key = first.create_scan(IDENTITY).key
    with pytest.raises(RuntimeError, match=r"without init_db=True"):
        DataStore(server.url, init_db=True)
    with DataStore(server.url) as second:
        assert second.load_scan(key).name == "ascan"


def test_a_prepared_server_without_scans_may_be_prepared_by_two(server: TestServer) -> None:
    with DataStore(server.url, init_db=True), DataStore(server.url, init_db=True):
        pass


def test_the_written_version_is_the_one_that_2x_refuses(
    plain_store: DataStore, admin: redis.Redis
) -> None:
    assert admin.get("_PROTOCOL_VERSION_") == b"1001"


def test_functions_that_the_server_lost_are_brought_again(
    plain_store: DataStore, admin: redis.Redis
) -> None:
    admin.execute_command("FUNCTION", "FLUSH")
    scan = plain_store.create_scan(IDENTITY)
    stream = scan.create_stream("s", dtype=float)
    scan.prepare()
    admin.execute_command("FUNCTION", "FLUSH")
    stream.send(1.0)
    assert stream.seal() == 1


# ---------------------------------------------------------------------------------- arguments


def model_with(prefix: Any) -> type[BaseModel]:
    class Strange(BaseModel):
        name: str

        class Meta:
            global_key_prefix: ClassVar[Any] = prefix

    return Strange


@pytest.mark.parametrize("prefix", [None, "", 5, "a{b", "a*"], ids=repr)
def test_an_identity_model_needs_a_prefix(prefix: Any) -> None:
    with pytest.raises(TypeError, match=r"Strange.*global_key_prefix"):
        DataStore("redis://nowhere", identity_model_cls=model_with(prefix))


@pytest.mark.parametrize(
    "key",
    ["", "x", "esrf:scan", "scan:esrf:scan:x", "ESRF:SCAN:x", None, 5, b"esrf:scan:x"],
    ids=repr,
)
def test_what_cannot_be_a_key_is_refused(memory_store: DataStore, key: Any) -> None:
    for call in (
        memory_store.load_scan,
        memory_store.delete_scan,
        lambda k: memory_store.get_scans_state([k]),
    ):
        with pytest.raises(ScanKeyError, match=r"should be like 'esrf:scan:") as caught:
            call(key)
        assert repr(key) in str(caught.value)


@pytest.mark.parametrize("info", [[1], "x", 5], ids=repr)
def test_info_is_a_mapping(memory_store: DataStore, info: Any) -> None:
    with pytest.raises(TypeError, match=r"info.*dict.*" + type(info).__name__):
        memory_store.create_scan(IDENTITY, info)


@pytest.mark.parametrize("identity", [None, 5, "x", [1]], ids=repr)
def test_an_identity_is_a_mapping(memory_store: DataStore, identity: Any) -> None:
    with pytest.raises(TypeError, match=f"is a dict, not a {type(identity).__name__}"):
        memory_store.create_scan(identity)


@pytest.mark.parametrize("timeout", [-1, -0.001])
def test_a_timeout_is_not_negative(memory_store: DataStore, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        memory_store.get_next_scan(timeout=timeout)


def test_what_the_caller_passed_stays_as_it_was(memory_store: DataStore) -> None:
    identity, info = {**IDENTITY, "colour": "red"}, {"a": {"b": (1, 2)}}
    scan = memory_store.create_scan(identity, info)
    scan.info["a"]["b"].append(3)
    assert identity == {**IDENTITY, "colour": "red"}
    assert info == {"a": {"b": (1, 2)}}


def test_an_identity_that_does_not_fit_is_told_in_one_line(
    server: TestServer, plain_store: DataStore
) -> None:
    scan = plain_store.create_scan(IDENTITY)
    with server.client() as client:
        document = json.loads(client.get(scan.key))
        document["id"]["number"] = "many"
        client.set(scan.key, json.dumps(document))
    with pytest.raises(
        ScanValidationError, match=r"ESRFIdentityModel: number: .*'many'$"
    ) as caught:
        plain_store.load_scan(scan.key)
    assert "\n" not in str(caught.value)
    assert "http" not in str(caught.value)


# ---------------------------------------------------------------------------------- closing


def test_a_closed_store_has_delivered_everything(server: TestServer) -> None:
    with DataStore(server.url, init_db=True) as store:
        scan = store.create_scan(IDENTITY)
        stream = scan.create_stream("s", dtype=float)
        scan.prepare()
        for value in range(100):
            stream.send(float(value))
    store.close()
    with pytest.raises(PublishError, match=r"'s'.*closed"):
        stream.send(1.0)
    with DataStore(server.url) as reader:
        assert len(reader.load_scan(scan.key).streams["s"]) == 100


@pytest.mark.parametrize(
    "use",
    [
        lambda store, scan: store.get_last_scan(),
        lambda store, scan: store.get_next_scan(timeout=0.01),
        lambda store, scan: store.search_existing_scans(),
        lambda store, scan: store.create_scan(IDENTITY),
        lambda store, scan: store.load_scan(scan.key),
        lambda store, scan: store.get_scans_state([scan.key]),
        lambda store, scan: store.pins(),
        lambda store, scan: store._redis.ping(),
        lambda store, scan: scan.update(block=False),
        lambda store, scan: scan.pin("writer"),
        lambda store, scan: scan.availability(),
        lambda store, scan: len(scan.streams["s"]),
        lambda store, scan: scan.streams["s"][0],
        lambda store, scan: scan.streams["s"].cursor().read(),
    ],
    ids=[
        *("last scan", "next scan", "search", "create", "load", "states", "pins", "client"),
        *("update", "pin", "availability", "len", "index", "cursor"),
    ],
)
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_what_was_closed_says_so(
    server: TestServer, plain_store: DataStore, use: Callable[..., Any], used: bool
) -> None:
    with plain_store.create_scan(IDENTITY) as scan:
        stream = scan.create_stream("s", dtype=float)
        scan.prepare()
        stream.send(1.0)
    store = DataStore(server.url)
    found = store.load_scan(scan.key)
    if used:
        assert found.streams["s"][0] == 1.0
    store.close()
    with pytest.raises(StoreClosedError, match=r"127\.0\.0\.1|unix.*was closed.*open another"):
        use(store, found)
    store.close()


def test_who_waits_while_another_thread_closes_the_store_is_told(
    server: TestServer, plain_store: DataStore
) -> None:
    with plain_store.create_scan(IDENTITY) as scan, ThreadPoolExecutor(1) as threads:
        scan.create_stream("s", dtype=float)
        scan.prepare()
        store = DataStore(server.url)
        cursor = store.load_scan(scan.key).streams["s"].cursor()
        waiting = threads.submit(cursor.read)
        with server.client() as client:
            deadline = time.monotonic() + 60
            while client.info("clients")["blocked_clients"] < 1:
                assert time.monotonic() < deadline
        store.close()
        scan.close()
        with pytest.raises((StoreClosedError, EndOfStream, StoreConnectionError)):
            waiting.result(60)


def test_the_client_is_at_hand_and_may_be_set(server: TestServer) -> None:
    with DataStore(server.url, init_db=True) as store:
        client: Any = store._redis
        assert isinstance(client, redis.Redis)
        assert client.get("_PROTOCOL_VERSION_") == b"1001"
        store._redis = None
        store.create_scan(IDENTITY)


# ---------------------------------------------------------------------------------- errors

FLAVOURS = [
    found
    for found in vars(client).values()
    if isinstance(found, type)
    and issubclass(found, BlissdataError)
    and found.__module__ == client.__name__
]


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.__name__)
def test_errors_of_the_server_are_the_clients_too_and_show_their_message(
    flavour: type[Exception],
) -> None:
    error = flavour("what went wrong")
    assert isinstance(error, redis.RedisError)
    assert str(error) == "what went wrong"
    assert "what went wrong" in repr(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
    assert set(vars(redis.RedisError("x"))) <= set(dir(error))


def test_an_empty_text_names_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="names no server"):
        DataStore("")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_in_the_url_is_named() -> None:
    with pytest.raises(StoreError, match="foo"):
        DataStore("redis://127.0.0.1:1?foo=1")


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ({}, "needs name, number, data_policy; missing: name, number, data_policy."),
        ({"name": "a"}, "missing: number, data_policy."),
        ({"name": "a", "number": "x", "data_policy": "n"}, "none is missing, but a value misfits."),
    ],
)
def test_an_identity_that_lacks_something_says_what_with_an_example(
    memory_store: DataStore, identity: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError) as found:
        memory_store.create_scan(identity)
    (note,) = found.value.__notes__
    assert words in note
    example = note.partition("create_scan(")[2].rstrip(")")
    memory_store.create_scan(ast.literal_eval(example)).close()
