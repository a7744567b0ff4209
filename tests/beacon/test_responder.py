"""The responder: answers as the real server does, never outside its directory, whatever it is sent.

replies     beside the bytes of a real Beacon server (tests/golden/beacon/exchanges.json)
stores      which can be announced, and at which addresses
files       links, devices, names; nothing from outside
hostile     garbage, lying lengths, silence, many connections, long replies that nobody takes
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import blissdata.beacon.responder as responder_module
from blissdata.beacon.data import BeaconData
from blissdata.beacon.files import BeaconFiles
from blissdata.beacon.responder import Answers, Responder, store_address
from blissdata.data_roots import DataRoots

GOLDEN = Path(__file__).parents[1] / "golden" / "beacon" / "exchanges.json"
EXCHANGES: dict[str, Any] = json.loads(GOLDEN.read_text())["exchanges"]
STORE = "redis://localhost:27101"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """As the real server's, when its answers were taken."""
    served = tmp_path / "served"
    (served / "sub").mkdir(parents=True)
    (served / "x.yml").write_text("a: [1, 2]\n")
    (served / "sub" / "y.dat").write_text("b")
    (tmp_path / "outside.txt").write_text("secret")
    return served


@pytest.fixture
def responder(directory: Path) -> Iterator[Responder]:
    with Responder(STORE, "127.0.0.1:0", directory, {"fruit": "apple"}) as responder:
        yield responder


def port(responder: Responder) -> int:
    return int(responder.address.rpartition(":")[2])


@pytest.fixture
def data(responder: Responder) -> Iterator[BeaconData]:
    with BeaconData("127.0.0.1", port(responder)) as client:
        yield client


@pytest.fixture
def files(responder: Responder) -> Iterator[BeaconFiles]:
    with BeaconFiles("127.0.0.1", port(responder)) as client:
        yield client


def ask(responder: Responder, number: int, payload: bytes) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port(responder)), 20) as connection:
        connection.sendall(struct.pack("<ii", number, len(payload)) + payload)
        return reply_on(connection)


def reply_on(connection: socket.socket) -> tuple[int, bytes]:
    number, length = struct.unpack("<ii", exactly(connection, 8))
    return number, exactly(connection, length)


def exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        assert part, "the connection was closed"
        found += part
    return found


# ------------------------------------------------------------------------------------- replies

OURS_TELL_MORE = {"no such file", "a directory as file", "tree of nothing", "tree of a file"}
"""The same failure, in other words."""

DIFFERENT = {
    "redis_data_db": (34, "1|localhost|27101"),  # one database for both
    "redis_data_db without bar": (34, "7|localhost|27101"),  # the real server is silent
    "a file above": (51, None),  # the real server hangs up
    "unknown request": (-1, None),  # the same number, with a reason
}


def test_every_reply_is_that_of_a_real_server(responder: Responder) -> None:
    for name, one in EXCHANGES.items():
        number, payload = ask(responder, one["request"], one["payload"].encode("latin-1"))
        found = payload.decode("latin-1")
        key = one["payload"].partition("|")[0]
        if name in DIFFERENT:
            expected, exact = DIFFERENT[name]
            assert number == expected, name
            assert found == exact if exact else found.startswith(f"{key}|"), name
        elif name in OURS_TELL_MORE:
            assert number == one["reply"]["answer"], name
            assert found.startswith(f"{key}|there is no "), name
        elif number == 88:
            assert json.loads(found.partition("|")[2]) == json.loads(
                one["reply"]["payload"].partition("|")[2]
            )
        else:
            assert (number, found) == (one["reply"]["answer"], one["reply"]["payload"]), name


def test_requests_may_come_in_pieces_or_many_at_once(responder: Responder) -> None:
    request = struct.pack("<ii", 143, 7) + b"1|fruit"
    with socket.create_connection(("127.0.0.1", port(responder)), 20) as connection:
        for byte in request:
            connection.sendall(bytes([byte]))
        assert reply_on(connection) == (144, b"1|apple")
        connection.sendall(request * 100)
        for _ in range(100):
            assert reply_on(connection) == (144, b"1|apple")


def test_what_one_sets_another_gets(data: BeaconData, responder: Responder) -> None:
    data.set("é", "a|ü\0\n")
    with BeaconData("127.0.0.1", port(responder)) as other:
        assert other.get("é") == "a|ü\0\n"


def test_values_are_limited_together(data: BeaconData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responder_module, "MAX_VALUES_NBYTES", 1000)
    data.set("a", "x" * 600)
    data.set("a", "y" * 600)
    with pytest.raises(RuntimeError, match="may take 1000 bytes"):
        data.set("b", "x" * 600)
    assert data.get("a") == "y" * 600
    assert data.get("b", None) is None


def test_without_a_directory_no_files_are_served() -> None:
    with (
        Responder(STORE, "127.0.0.1:0") as responder,
        BeaconFiles("127.0.0.1", port(responder)) as files,
    ):
        for call in (lambda: files.get_file("x"), files.get_tree):
            with pytest.raises(RuntimeError, match=r"no files are served.*--beacon-files"):
                call()


# -------------------------------------------------------------------------------------- stores


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://host:6380", "redis://host:6380"),
        ("redis://host", "redis://host:6379"),
        ("valkey://host:6380/0", "redis://host:6380"),
        ("redis://[::1]:6380?db=0", "redis://[::1]:6380"),
        ("unix:///tmp/a%20b/s", "unix:///tmp/a b/s"),
    ],
)
def test_a_store_is_announced_twice(url: str, told: str) -> None:
    with (
        Responder(url, "127.0.0.1:0") as responder,
        BeaconData("127.0.0.1", port(responder)) as data,
    ):
        assert data.get_redis_db() == told
        assert data.get_redis_data_db() == told


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://:secret@host:6379", "wants a password"),
        ("redis://user:secret@host", "wants a password"),
        ("unix://:secret@/tmp/s", "wants a password"),
        ("redis://host?password=secret", "wants a password"),
        ("rediss://host", "begins with rediss://"),
        ("redis://host/3", "database 3"),
        ("redis://host?socket_timeout=3", "has options"),
        ("unix:///tmp/s?db=3", "has options"),
    ],
)
def test_a_store_that_beacon_cannot_tell_of_is_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"{why}.*cannot be announced") as caught:
        Responder(url, "127.0.0.1:0")
    assert "secret" not in str(caught.value)


def test_a_store_that_changes_is_told_as_it_is_then() -> None:
    urls = ["unix:///a"]
    with (
        Responder(lambda: urls[0], "127.0.0.1:0") as responder,
        BeaconData("127.0.0.1", port(responder)) as data,
    ):
        urls[0] = "unix:///b"
        assert data.get_redis_data_db() == "unix:///b"
        urls[0] = "redis://:secret@host"
        with pytest.raises(RuntimeError, match="wants a password"):
            data.get_redis_data_db()
        with pytest.raises(RuntimeError, match="Unexpected message type"):
            data.get_redis_db()


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "example.org"])  # noqa: S104
def test_a_socket_is_not_announced_to_other_machines(host: str) -> None:
    with pytest.raises(ValueError, match="other machines cannot reach"):
        Responder("unix:///s", f"{host}:0")


def test_it_listens_at_this_machine_alone_unless_told_otherwise() -> None:
    assert responder_module.DEFAULT_ADDRESS == "127.0.0.1:25000"


def test_an_address_that_is_taken_is_named(responder: Responder) -> None:
    with pytest.raises(OSError, match=f"Cannot listen at 127.0.0.1:{port(responder)}"):
        Responder(STORE, responder.address)


def test_a_directory_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is none"):
        Responder(STORE, "127.0.0.1:0", tmp_path / "none")


def test_close_may_be_repeated_and_hangs_up(responder: Responder) -> None:
    with socket.create_connection(("127.0.0.1", port(responder)), 20) as connection:
        connection.sendall(struct.pack("<ii", 143, 7) + b"1|fruit")
        reply_on(connection)
        responder.close()
        responder.close()
        assert connection.recv(1) == b""


# --------------------------------------------------------------------------------------- files

OUTSIDE = [
    "../outside.txt",
    "/../outside.txt",
    "sub/../../outside.txt",
    "//../outside.txt",
    "link",
    "dirlink/outside.txt",
    "..",
    ".",
    "",
    "/",
    "sub",
    "pipe",
    "loop",
    "x.yml/y",
    "a" * 5000,
    "a\0b",
    "../served_too/z",
]


@pytest.fixture
def traps(directory: Path) -> Path:
    """What leads out of the directory, or nowhere."""
    (directory / "link").symlink_to("../outside.txt")
    (directory / "dirlink").symlink_to("..")
    (directory / "loop").symlink_to("loop")
    (directory / "here").symlink_to(".")
    (directory / "inside").symlink_to("sub/y.dat")
    os.mkfifo(directory / "pipe")
    (directory.parent / "served_too").mkdir()
    (directory.parent / "served_too" / "z").write_text("secret")
    return directory


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_outside_is_given_and_nothing_of_it_is_told(
    traps: Path, files: BeaconFiles, path: str
) -> None:
    with pytest.raises(RuntimeError, match="there is no file") as caught:
        files.get_file(path)
    assert str(traps.parent) not in str(caught.value)


def test_links_that_stay_inside_are_followed(traps: Path, files: BeaconFiles) -> None:
    assert files.get_file("inside") == b"b"
    assert files.get_file("here/here/x.yml") == b"a: [1, 2]\n"


def test_a_tree_shows_what_could_be_read_and_ends(traps: Path, files: BeaconFiles) -> None:
    assert files.get_tree() == {"x.yml": None, "inside": None, "sub": {"y.dat": None}}


@pytest.mark.parametrize("path", ["..", "dirlink", "x.yml", "none", "loop", "../served_too"])
def test_a_tree_of_what_is_outside_is_refused(traps: Path, files: BeaconFiles, path: str) -> None:
    with pytest.raises(RuntimeError, match="there is no directory") as caught:
        files.get_tree(path)
    assert str(traps.parent) not in str(caught.value)


def test_the_directory_itself_may_be_a_link(directory: Path) -> None:
    (directory.parent / "config").symlink_to(directory)
    with (
        Responder(STORE, "127.0.0.1:0", directory.parent / "config") as responder,
        BeaconFiles("127.0.0.1", port(responder)) as files,
    ):
        assert files.get_file("x.yml") == b"a: [1, 2]\n"
        assert files.get_tree("sub") == {"y.dat": None}


def test_any_bytes_are_a_file(directory: Path, files: BeaconFiles) -> None:
    content = bytes(range(256)) * 10_000
    (directory / "b").write_bytes(content)
    (directory / "empty").touch()
    assert files.get_file("b") == content
    assert files.get_file("empty") == b""


def test_files_and_trees_are_limited(
    directory: Path, files: BeaconFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responder_module, "MAX_FILE_NBYTES", 10)
    monkeypatch.setattr(responder_module, "MAX_NAMES", 3)
    (directory / "long").write_bytes(b"x" * 11)
    with pytest.raises(RuntimeError, match="more than 10 bytes"):
        files.get_file("long")
    (directory / "one more").touch()
    with pytest.raises(RuntimeError, match="more than 3 names"):
        files.get_tree()


# ------------------------------------------------------------------------------------- hostile

GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    struct.pack("<ii", 143, -1),
    struct.pack("<ii", 143, -(2**31)),
    struct.pack("<ii", 143, 2**31 - 1),
    struct.pack("<ii", 143, 2**18 + 1),
    b"\xff" * 8,
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda one: repr(one[:12]))
def test_garbage_is_hung_up_on_and_others_are_served(
    responder: Responder, data: BeaconData, garbage: bytes
) -> None:
    data.get("fruit")
    with socket.create_connection(("127.0.0.1", port(responder)), 20) as connection:
        connection.sendall(garbage)
        with contextlib.suppress(ConnectionResetError):  # it had not read all of that
            assert connection.recv(1) == b""
    assert data.get("fruit") == "apple"


@given(
    number=st.sampled_from([30, 32, 50, 86, 140, 143, 0, -1, 999]), payload=st.binary(max_size=40)
)
def test_whatever_is_asked_has_one_reply(number: int, payload: bytes) -> None:
    answers = Answers(lambda: STORE, DataRoots((str(Path(__file__).parent),), "test"), {b"a": b"b"})
    reply = answers.reply(number, payload)
    answer, length = struct.unpack("<ii", reply[:8])
    assert len(reply) == 8 + length
    if number != 30:
        assert reply[8:].split(b"|")[0] == payload.split(b"|")[0]
    assert answer in (-1, 31, 33, 34, 51, 52, 87, 88, 141, 142, 144, 145, 146)


def test_connections_that_say_nothing_hinder_nobody(
    responder: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responder_module, "MAX_CONNECTIONS", 8)
    silent = [socket.create_connection(("127.0.0.1", port(responder)), 20) for _ in range(20)]
    try:
        for connection in silent[10:12]:
            connection.send(b"\x8f\0")  # the begin of a request, and no end
        with BeaconData("127.0.0.1", port(responder)) as data:
            assert data.get("fruit") == "apple"
        assert silent[0].recv(1) == b""  # hung up on: the most silent
    finally:
        for connection in silent:
            connection.close()


def test_a_long_reply_that_nobody_takes_hinders_nobody(
    directory: Path, responder: Responder, data: BeaconData, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "long").write_bytes(bytes(2**24))
    monkeypatch.setattr(responder_module, "MAX_PENDING_NBYTES", 2**25)
    request = struct.pack("<ii", 50, 6) + b"1|long"
    with (
        socket.create_connection(("127.0.0.1", port(responder)), 20) as lazy,
        socket.create_connection(("127.0.0.1", port(responder)), 20) as lazier,
    ):
        lazy.sendall(request * 3)
        until_pending(responder)
        assert data.get("fruit") == "apple"
        lazier.sendall(request)
        assert reply_on(lazier)[0] in (51, 52)
        for _ in range(3):
            assert reply_on(lazy) == (52, b"1|" + bytes(2**24))
    assert data.get("fruit") == "apple"


def until_pending(responder: Responder) -> None:
    deadline = time.monotonic() + 60
    while not any(peer.pending for peer in list(responder._peers)):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_too_many_long_replies_are_refused_with_a_reason(
    directory: Path, responder: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "long").write_bytes(bytes(2**20))
    monkeypatch.setattr(responder_module, "MAX_PENDING_NBYTES", 2**19)
    assert ask(responder, 50, b"1|long") == (
        51,
        b"1|too many long replies are under way: ask again",
    )


def test_a_connection_that_is_cut_in_the_middle_hinders_nobody(
    responder: Responder, data: BeaconData
) -> None:
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", port(responder)), 20)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(struct.pack("<ii", 143, 100) + b"1|")
        connection.close()  # with a reset
    assert data.get("fruit") == "apple"


def test_store_address_tells_host_and_port() -> None:
    assert store_address("redis://host:1") == ("host", "1")
    assert store_address("unix:///path") == ("localhost", "/path")
