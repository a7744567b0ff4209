"""A server that says, byte by byte, what a test tells it to."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blissdata.beacon.client import BeaconClient

Script = Callable[[int, bytes], Any]


class Scripted:
    """Answers each request by what `script(number, payload)` gives: bytes to send as they are, a pair
    `(number, payload)`, None to close the connection, or `...` to say nothing."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.heard: list[Any] = []
        """`"connected"`, and each request."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.heard.append("connected")
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=[connection])
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while len(header := _read(stream, 8)) == 8:
                number, length = struct.unpack("<ii", header)
                payload = _read(stream, length)
                self.heard.append((number, payload))
                reply = self.script(number, payload)
                if reply is None:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                if isinstance(reply, tuple):
                    reply = struct.pack("<ii", reply[0], len(reply[1])) + reply[1]
                if isinstance(reply, bytes):
                    connection.sendall(reply)

    def hang_up(self) -> None:
        """Closes every connection."""
        for connection in self._connections:
            with contextlib.suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join()


def _read(stream: Any, size: int) -> bytes:
    try:
        return bytes(stream.read(size))
    except OSError:
        return b""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not say how long waits for a minute: the machine may be busy."""
    monkeypatch.setattr(BeaconClient.__init__, "__defaults__", (None, None, 60.0))


@pytest.fixture
def scripted() -> Iterator[Callable[[Script], Scripted]]:
    """Makes such servers."""
    servers: list[Scripted] = []

    def make(script: Script) -> Scripted:
        servers.append(Scripted(script))
        return servers[-1]

    yield make
    for server in servers:
        server.close()
