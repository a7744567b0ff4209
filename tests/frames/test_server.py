"""The frame server and who asks it: what either makes of a partner that does not keep to what is agreed."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from tests.frames.formula import frame, is_right

from blissdata import DataStore, Scan
from blissdata.exceptions import ImageServerError
from blissdata.streams.frames import FrameBuffer, remote
from blissdata.streams.frames.layout import ServerAddress
from blissdata.streams.frames.remote import FrameConnection
from blissdata.streams.frames.wire import (
    REPLY_NBYTES,
    REQUEST_NBYTES,
    Reply,
    Request,
    Status,
)

SHAPE = (8, 16)
NBYTES = 256
TOKEN = "ab" * 16


@pytest.fixture
def served(memory_store: DataStore, scan: Scan) -> Iterator[ServerAddress]:
    """Where a server gives frames 2 to 5 of 6."""
    with FrameBuffer(SHAPE, np.uint16, 4) as made:
        scan.create_stream(made.definition("camera"))
        scan.prepare()
        scan.start()
        for index in range(6):
            made.put(frame(index, SHAPE))
        found = memory_store.load_scan(scan.key).streams["camera"].info["frames"]["server"]
        yield ServerAddress(**found)


def fetched(connection: FrameConnection, frames: list[int]) -> tuple[list[Any], dict[int, Reply]]:
    """The frames that came, and how the others stand."""
    places: dict[int, np.ndarray[Any, Any]] = {}

    def place(position: int) -> memoryview:
        places[position] = np.zeros(NBYTES, np.uint8)
        return places[position].data

    missing = connection.fetch(frames, place)
    return [places.get(at) for at in range(len(frames))], missing


def test_frames_come_in_any_order_and_the_others_are_told_of(served: ServerAddress) -> None:
    connection = FrameConnection(served, NBYTES)
    assert connection.held() == range(2, 6)
    found, missing = fetched(connection, [5, 0, 2, 3, 9])
    for position, index in ((0, 5), (2, 2), (3, 3)):
        assert is_right(found[position], index)
    assert {at: (reply.status, reply.index) for at, reply in missing.items()} == {
        1: (Status.GONE, 0),
        4: (Status.LATER, 9),
    }
    assert missing[1].taken == 4  # which took its place
    connection.close()


@pytest.mark.parametrize(
    "message",
    [
        b"GET / HTTP/1.1\r\nHost: detector.example\r\n\r\n" + bytes(8),
        Request(bytes(16), 1, 2, 1).pack(),
        Request(bytes.fromhex(TOKEN), 1, 2, 1).pack() * 100,
        bytes(2**14),
    ],
    ids=["http", "no token", "many of a wrong token", "zeros"],
)
def test_who_does_not_know_the_token_is_refused_and_nobody_else_minds(
    served: ServerAddress, message: bytes
) -> None:
    other = FrameConnection(served, NBYTES)
    assert other.held() == range(2, 6)
    with socket.create_connection(served.place, 10) as stranger:
        stranger.sendall(message)
        said = stranger.recv(REPLY_NBYTES, socket.MSG_WAITALL)
        assert Reply.parse(said).status == Status.REFUSED
        assert stranger.recv(1) == b""
    assert other.held() == range(2, 6)
    other.close()


@pytest.mark.parametrize(
    ("start", "count"), [(0, 65), (2**64 - 1, 3), (2**63, 1)], ids=["many", "end", "far"]
)
def test_a_request_that_means_nothing_is_refused(
    served: ServerAddress, start: int, count: int
) -> None:
    with socket.create_connection(served.place, 10) as reader:
        reader.sendall(Request(bytes.fromhex(served.token), 7, start, count).pack())
        reply = Reply.parse(reader.recv(REPLY_NBYTES, socket.MSG_WAITALL))
    assert (reply.status, reply.number) == (Status.REFUSED, 7)


def test_a_reader_that_does_not_take_its_frames_keeps_nobody_waiting(
    memory_store: DataStore, scan: Scan
) -> None:
    shape = (1024, 1024)
    with FrameBuffer(shape, np.uint16, 2) as made:
        scan.create_stream(made.definition("camera"))
        scan.prepare()
        scan.start()
        for index in range(2):
            made.put(frame(index, shape))
        info = memory_store.load_scan(scan.key).streams["camera"].info["frames"]["server"]
        server = ServerAddress(**info)
        asked = Request(bytes.fromhex(server.token), 1, 0, 2).pack()
        with socket.create_connection(server.place, 10) as lazy:
            lazy.sendall(asked * 64)  # more than any socket's buffer takes
            assert lazy.recv(REPLY_NBYTES, socket.MSG_WAITALL)[:4] == b"BDF1"
            other = FrameConnection(server, made.shape[0] * made.shape[1] * 2)
            place = np.empty(shape, np.uint16)
            assert other.fetch([1], lambda _: place.reshape(-1).view(np.uint8).data) == {}
            assert is_right(place, 1)
            other.close()


# ---------------------------------------------------------------------------------- servers that are none


@contextmanager
def answering(answer: Callable[[socket.socket, bytes], None]) -> Iterator[ServerAddress]:
    """A server that takes one request, and does with it what it likes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(30)
                answer(connection, connection.recv(REQUEST_NBYTES, socket.MSG_WAITALL))

        thread = threading.Thread(target=serve)
        thread.start()
        yield ServerAddress(f"tcp://127.0.0.1:{listener.getsockname()[1]}", TOKEN)
        thread.join()


def _replies(*replies: Reply, data: bytes = b"") -> Callable[[socket.socket, bytes], None]:
    return lambda connection, _: connection.sendall(b"".join(r.pack() for r in replies) + data)


FRAME = Reply(Status.FRAME, 1, 3, 6, 0, NBYTES)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (_replies(data=b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(40)), "it is no frame server"),
        (_replies(data=b"BDF1" + bytes(44)), "it is no frame server"),
        (_replies(data=b"BDF1"), "closed the connection"),
        (_replies(), "closed the connection"),
        (_replies(FRAME, data=bytes(NBYTES - 1)), "closed the connection"),
        (
            _replies(Reply(Status.FRAME, 1, 3, 6, 0, 2**40)),
            rf"sends {2**40} bytes, expected {NBYTES}",
        ),
        (_replies(Reply(Status.GONE, 1, 3, 6, 0, 1)), "sends 1 bytes, expected 0"),
        (
            _replies(Reply(Status.FRAME, 2, 3, 6, 0, NBYTES)),
            "answers request 2, which nobody made",
        ),
        (_replies(Reply(Status.GONE, 1, 4)), "sent frame 4, which nobody asked for"),
        (_replies(Reply(Status.REFUSED, 1, 0)), "refuses: the token"),
    ],
    ids=[
        "http",
        "status",
        "piece",
        "nothing",
        "half a frame",
        "large",
        "more",
        "number",
        "other frame",
        "refused",
    ],
)
def test_a_server_that_is_none_is_told_of(
    monkeypatch: pytest.MonkeyPatch, answer: Any, message: str
) -> None:
    monkeypatch.setattr(remote, "DOWN_S", 3600.0)
    with answering(answer) as server:
        connection = FrameConnection(server, NBYTES)
        with pytest.raises(ImageServerError, match=message):
            fetched(connection, [3])
        with pytest.raises(ImageServerError, match=message):  # it is not asked again for a while
            fetched(connection, [3])


def test_a_server_that_says_nothing_is_not_awaited_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "ANSWER_S", 0.05)
    with answering(lambda connection, _: connection.recv(1)) as server:  # type: ignore[arg-type,return-value]
        connection = FrameConnection(server, NBYTES)
        with pytest.raises(ImageServerError, match=r"does not answer within 0\.05 s"):
            fetched(connection, [3])


def test_what_was_asked_for_before_an_interruption_is_not_taken_for_something_else(
    served: ServerAddress,
) -> None:
    connection = FrameConnection(served, NBYTES)

    def interrupt(position: int) -> memoryview:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        connection.fetch([2, 3, 4], interrupt)
    found, missing = fetched(connection, [5])
    assert not missing
    assert is_right(found[0], 5)
    connection.close()


def test_a_connection_that_was_closed_meanwhile_is_made_again(served: ServerAddress) -> None:
    connection = FrameConnection(served, NBYTES)
    assert connection.held() == range(2, 6)
    assert connection._socket is not None
    connection._socket.shutdown(socket.SHUT_RDWR)
    assert connection.held() == range(2, 6)
    connection.close()


def test_a_fork_has_a_connection_of_its_own(served: ServerAddress) -> None:
    connection = FrameConnection(served, NBYTES)
    assert connection.held() == range(2, 6)
    child = os.fork()
    if not child:
        try:
            found, _ = fetched(connection, [2])
            os._exit(0 if is_right(found[0], 2) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    found, _ = fetched(connection, [5])
    assert is_right(found[0], 5)
    connection.close()
