"""The client beside the bytes of a real Beacon server, and beside servers that misbehave.

The bytes are in `tests/golden/beacon/exchanges.json`, and how they were taken in `capture.py` there.

answers      every reply of the real server is understood
requests     the bytes that it sends are those that 2.4.5's client sends
connections  closed by the server, by us; silent; lying; nobody there
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blissdata.beacon.data import BeaconData
from blissdata.beacon.files import BeaconFiles
from blissdata.exceptions import (
    BeaconConnectionError,
    BeaconError,
    BeaconRefusedError,
    BeaconTimeoutError,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "beacon" / "exchanges.json"
EXCHANGES: dict[str, Any] = json.loads(GOLDEN.read_text())["exchanges"]

Make = Callable[[Callable[[int, bytes], Any]], Any]


def as_captured(number: int, payload: bytes) -> Any:
    """The real server's reply to a request, under the key that was asked with."""
    key, _, arguments = payload.decode("latin-1").partition("|")
    for one in EXCHANGES.values():
        captured_key, bar, captured = one["payload"].partition("|")
        if one["request"] == number and captured == arguments and (bar or not payload):
            reply = one["reply"]
            if reply.get("closed"):
                return None
            if reply.get("silent"):
                return ...
            data = reply["payload"]
            if captured_key and number != 30:
                data = key + data.removeprefix(captured_key)
            return reply["answer"], data.encode("latin-1")
    raise AssertionError(f"not captured: {number} {payload!r}")


@pytest.fixture
def data(scripted: Make) -> Any:
    with BeaconData("127.0.0.1", scripted(as_captured).port) as client:
        yield client


@pytest.fixture
def files(scripted: Make) -> Any:
    with BeaconFiles("127.0.0.1", scripted(as_captured).port) as client:
        yield client


class TestAnswers:
    def test_the_addresses_of_the_databases(self, data: BeaconData) -> None:
        assert data.get_redis_db() == "redis://localhost:27101"
        assert data.get_redis_data_db() == "redis://localhost:27102"

    def test_values(self, data: BeaconData) -> None:
        assert data.get("fruit") == "apple"
        assert data.get("fruit", "pear") == "apple"
        assert data.set("color", "red") is None
        assert data.get("color") == "red"
        data.set("line", "a|b")
        assert data.get("line") == "a|b"
        data.set("empty", "")
        assert data.get("empty") == ""

    def test_an_undefined_key_is_the_default_or_a_key_error(self, data: BeaconData) -> None:
        assert data.get("nothing", "default") == "default"
        assert data.get("nothing", None) is None
        with pytest.raises(KeyError, match="Beacon key 'nothing' is undefined"):
            data.get("nothing")

    def test_files(self, files: BeaconFiles) -> None:
        assert files.get_file("x.yml") == b"a: [1, 2]\n"
        assert files.get_file("sub/y.dat") == b"b"
        assert files.get_tree() == {"x.yml": None, "sub": {"y.dat": None}}
        assert files.get_tree("sub") == {"y.dat": None}

    def test_a_failure_is_a_runtime_error_with_the_server_s_text(self, files: BeaconFiles) -> None:
        for path in ("none.yml", "sub"):
            with pytest.raises(RuntimeError, match=r"^File doesn't exist$"):
                files.get_file(path)
        with pytest.raises(RuntimeError, match=r"^Failed to get tree"):
            files.get_tree("none")

    def test_where_the_server_hangs_up_on_a_question_it_is_not_asked_for_ever(
        self, files: BeaconFiles
    ) -> None:
        with pytest.raises(BeaconConnectionError, match="closed the connection"):
            files.get_file("../outside.txt")
        assert files.get_file("x.yml")


@pytest.mark.parametrize(
    ("reply", "url"),
    [
        ((34, b"1|host|6379"), "redis://host:6379"),
        ((34, b"1|host|/tmp/redis.sock"), "unix:///tmp/redis.sock"),
        ((34, b"1|::1|6379"), "redis://[::1]:6379"),
    ],
)
def test_a_database_may_be_at_a_socket(scripted: Make, reply: Any, url: str) -> None:
    with BeaconData("127.0.0.1", scripted(lambda *_: reply).port) as client:
        assert client.get_redis_data_db() == url


@pytest.mark.parametrize(
    ("reply", "url"),
    [
        (b"host:6379", "redis://host:6379"),
        (b"host:/tmp/a:b.sock", "unix:///tmp/a:b.sock"),
        (b"::1:6379", "redis://[::1]:6379"),
    ],
)
def test_so_may_that_of_the_settings(scripted: Make, reply: bytes, url: str) -> None:
    with BeaconData("127.0.0.1", scripted(lambda *_: (31, reply)).port) as client:
        assert client.get_redis_db() == url


@pytest.mark.parametrize(
    "reply",
    [
        (33, b"1|no database"),
        (34, b"1|host"),
        (34, b"1|"),
        (34, b"1"),
        (34, b"1|host|port"),
        (34, b"1|a|b|c"),
        (34, b"1|host|0"),
        (34, b"1|host|70000"),
        (34, b"2|host|6379"),
        (34, b""),
        (99, b"1|host|6379"),
        struct.pack("<ii", 34, -5),
        struct.pack("<ii", 34, 2**31 - 1),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
    ids=repr,
)
def test_an_answer_that_means_nothing_is_refused_and_the_next_question_is_fresh(
    scripted: Make, reply: Any
) -> None:
    replies = iter([reply, (34, b"2|host|6379")])
    with BeaconData("127.0.0.1", scripted(lambda *_: next(replies)).port) as client:
        with pytest.raises(BeaconRefusedError):
            client.get_redis_data_db()
        assert client.get_redis_data_db() == "redis://host:6379"


@pytest.mark.parametrize(
    "tree", [b"not json", b"[1]", b"", b"[" * 100_000], ids=lambda tree: repr(tree[:9])
)
def test_a_tree_that_is_none_is_refused(scripted: Make, tree: bytes) -> None:
    with (
        BeaconFiles("127.0.0.1", scripted(lambda *_: (88, b"1|" + tree)).port) as client,
        pytest.raises(BeaconRefusedError, match="a tree that is none"),
    ):
        client.get_tree()


class TestRequests:
    """As 2.4.5's client was seen to send them."""

    @pytest.mark.parametrize(
        ("call", "request_bytes"),
        [
            (lambda data, _: data.get_redis_db(), (30, b"")),
            (lambda data, _: data.get_redis_data_db(), (32, b"1|")),
            (lambda data, _: data.get("k"), (143, b"1|k")),
            (lambda data, _: data.set("a", "c|d"), (140, b"1|a|c|d")),
            (lambda _, files: files.get_file("a/b.yml"), (50, b"1|a/b.yml")),
            (lambda _, files: files.get_tree(), (86, b"1|")),
            (lambda _, files: files.get_tree("x/"), (86, b"1|x/")),
        ],
    )
    def test_the_bytes(self, scripted: Make, call: Any, request_bytes: Any) -> None:
        server = scripted(lambda *_: (99, b"1|"))
        with (
            BeaconData("127.0.0.1", server.port) as data,
            BeaconFiles("127.0.0.1", server.port) as files,
            pytest.raises(BeaconError),
        ):
            call(data, files)
        assert server.heard == ["connected", request_bytes]

    def test_keys_count_and_begin_again(self, scripted: Make) -> None:
        server = scripted(lambda _, payload: (144, payload))
        with BeaconData("127.0.0.1", server.port) as client:
            client.get("a")
            client.get("a")
            client._asked = 99_998
            client.get("a")
            client.get("a")
        keys = [payload.partition(b"|")[0] for _, payload in server.heard[1:]]
        assert keys == [b"1", b"2", b"99999", b"1"]

    @pytest.mark.parametrize("key", ["a|b", "|"])
    def test_a_bar_in_a_key_is_refused(self, key: str) -> None:
        client = BeaconData("127.0.0.1", 1)
        for call in (lambda: client.get(key), lambda: client.set(key, "v")):
            with pytest.raises(ValueError, match="cannot contain"):
                call()

    def test_what_is_no_text_is_refused(self) -> None:
        with pytest.raises(TypeError, match="3"):
            BeaconData("127.0.0.1", 1).set("key", 3)  # type: ignore[arg-type]


class TestConnections:
    def test_nothing_is_connected_before_the_first_question(self, scripted: Make) -> None:
        server = scripted(as_captured)
        client = BeaconData("127.0.0.1", server.port)
        client.close()
        assert server.heard == []

    def test_the_address_may_come_from_the_environment(
        self, scripted: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = scripted(as_captured)
        monkeypatch.setenv("BEACON_HOST", f"127.0.0.1:{server.port}")
        with BeaconData() as client:
            assert client.get("fruit") == "apple"
        monkeypatch.setenv("BEACON_HOST", "127.0.0.1:1")
        with BeaconData(port=server.port) as client:
            assert client.get("fruit") == "apple"
        monkeypatch.delenv("BEACON_HOST")
        with pytest.raises(ValueError, match="BEACON_HOST"):
            BeaconData()

    def test_one_that_the_server_closed_is_made_again(self, scripted: Make) -> None:
        server = scripted(as_captured)
        with BeaconData("127.0.0.1", server.port) as client:
            client.get("fruit")
            server.hang_up()
            assert client.get("fruit") == "apple"
        assert server.heard.count("connected") == 2

    def test_one_that_is_closed_at_each_question_is_not_made_for_ever(self, scripted: Make) -> None:
        server = scripted(lambda *_: None)
        with (
            BeaconData("127.0.0.1", server.port) as client,
            pytest.raises(
                ConnectionError, match=f"127.0.0.1:{server.port} cannot be asked.*BEACON_HOST"
            ),
        ):
            client.get("fruit")
        assert server.heard.count("connected") == 1

    def test_a_silent_server_is_waited_for_no_longer_than_told(self, scripted: Make) -> None:
        replies = [(144, b"2|right"), ...]
        server = scripted(lambda *_: replies.pop())
        with BeaconData("127.0.0.1", server.port, timeout=0.05) as client:
            with pytest.raises(TimeoutError, match=r"said nothing for 0\.05 s"):
                client.get("fruit")
            deadline = time.monotonic() + 60
            while len(replies) == 2:  # until it has heard the question
                assert time.monotonic() < deadline
                time.sleep(0.001)
            client._timeout = 60
            assert client.get("fruit") == "right"
        assert server.heard.count("connected") == 2  # a late reply would have come on the first

    def test_half_a_reply_is_no_reply(self, scripted: Make) -> None:
        server = scripted(lambda *_: b"\x90\0\0\0")
        with (
            BeaconData("127.0.0.1", server.port, timeout=0.05) as client,
            pytest.raises(BeaconTimeoutError),
        ):
            client.get("fruit")

    def test_after_close_it_says_how_to_go_on(self, scripted: Make) -> None:
        client = BeaconData("127.0.0.1", scripted(as_captured).port)
        client.close()
        client.close()
        with pytest.raises(BeaconConnectionError, match="reconnect"):
            client.get("fruit")
        client.reconnect()
        assert client.get("fruit") == "apple"
        client.close()

    def test_nobody_there(self) -> None:
        with socket.socket() as kept:  # nobody else gets the port, and nobody listens
            kept.bind(("127.0.0.1", 0))
            port = kept.getsockname()[1]
            with pytest.raises(ConnectionError, match=f"127.0.0.1:{port} cannot be asked"):
                BeaconData("127.0.0.1", port).get("fruit")

    def test_a_host_that_is_none(self) -> None:
        with pytest.raises(BeaconConnectionError, match="cannot be asked"):
            BeaconData("a" * 300, 1).get("fruit")
