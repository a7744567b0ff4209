"""The program that gives the frames of a ring to readers on other hosts, in a process of its own.

It is a reader of the ring like others, so nobody who takes frames waits for it. Each of its own readers has
a connection, a thread, and memory for one frame: a frame is copied there and checked before it is sent, and
a reader that is slow keeps only its own thread waiting. Who asks must know the token. See `wire` for what
is said.
"""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from blissdata.streams.frames.arrays import ArrayMemory
from blissdata.streams.frames.companion import Desk
from blissdata.streams.frames.layout import MAX_INDEX
from blissdata.streams.frames.ring import RingReader
from blissdata.streams.frames.sockets import prepare, receive_exactly, send_reply
from blissdata.streams.frames.wire import REQUEST_NBYTES, Reply, Request, Status, most_frames

__all__ = ["main"]

MOST_READERS = 256
"""So many connections at a time; others are closed at once."""

FIRST_S = 10.0
"""How long somebody may be connected before he shows the token [s]."""

MOST_UNHEARD = 2**16
"""What somebody who was refused may still say [bytes]."""

Pixels = NDArray[np.uint8]


def main() -> None:
    """Serves until the detector is done, or dead."""
    desk = Desk()
    try:
        _serve(desk)
    except Exception as error:  # noqa: BLE001 — whatever it is, who runs the buffer must know
        desk.say("failed", error or type(error).__name__)


def _serve(desk: Desk) -> None:
    job = desk.job
    ring = RingReader.inherited(job["fd"], job["slots"], job["nbytes"])
    with _listener(job["host"]) as listener:
        known_as, port = job["known_as"], listener.getsockname()[1]
        desk.say("ready", f"tcp://{f'[{known_as}]' if ':' in known_as else known_as}:{port}")
        service = _Service(ring, bytes.fromhex(job["token"]))
        while not desk.ended:
            ready, _, _ = select.select([0, listener.fileno()], [], [])
            if 0 in ready:
                desk.take()
            if listener.fileno() in ready:
                with suppress(OSError):  # who asked may have gone again
                    service.welcome(listener.accept()[0])
    if job["removes"]:
        ring.remove(job["ring"])


def _listener(host: str) -> socket.socket:
    """Takes connections at that name or address of this host, at any port."""
    family, _, _, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    everywhere = address[0] == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((address[0], 0), family=family, dualstack_ipv6=everywhere)


def _hear_out(connection: socket.socket) -> None:
    """Lets a refusal arrive: who closes what still has something to say takes back what he said."""
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(FIRST_S)
    left = MOST_UNHEARD
    while left > 0 and (said := connection.recv(4096)):
        left -= len(said)


class _Service:
    """The frames of a ring, for who knows the token."""

    def __init__(self, ring: RingReader, token: bytes) -> None:
        self._ring = ring
        self._token = token
        self._most = most_frames(ring.nbytes)
        self._free = threading.BoundedSemaphore(MOST_READERS)

    def welcome(self, connection: socket.socket) -> None:
        """Answers on that connection, in a thread, until it is closed."""
        if not self._free.acquire(blocking=False):
            connection.close()
            return
        threading.Thread(
            target=self._answer_all, args=(connection,), name="blissdata-frames-reader", daemon=True
        ).start()  # daemonic: readers do not keep this process alive

    def _answer_all(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError, EOFError):  # it is the reader's affair when he goes
                prepare(connection)
                connection.settimeout(FIRST_S)
                memory = ArrayMemory().empty((self._ring.nbytes,), np.dtype(np.uint8))
                message = bytearray(REQUEST_NBYTES)
                receive_exactly(connection, message)
                while self._answer(connection, Request.parse(message), memory):
                    connection.settimeout(None)
                    receive_exactly(connection, message)
                _hear_out(connection)
        finally:
            self._free.release()

    def _answer(self, connection: socket.socket, request: Request | None, memory: Pixels) -> bool:
        """False for who is refused."""
        if request is None or not self._may(request):
            number = request.number if request else 0
            send_reply(connection, Reply(Status.REFUSED, number, 0))
            return False
        if not request.count:
            held = self._ring.held()
            send_reply(connection, Reply(Status.HELD, request.number, held.start, held.stop))
        for index in range(request.start, request.start + request.count):
            self._give(connection, request.number, index, memory)
        return True

    def _may(self, request: Request) -> bool:
        sensible = request.count <= self._most and request.start <= MAX_INDEX
        return request.may(self._token) and sensible

    def _give(self, connection: socket.socket, number: int, index: int, memory: Pixels) -> None:
        ring = self._ring
        taken = ring.taken
        if index >= taken:
            send_reply(connection, Reply(Status.LATER, number, index, taken))
        elif ring.read_into(index, memory):
            reply = Reply(Status.FRAME, number, index, taken, 0, ring.nbytes)
            send_reply(connection, reply, memory.data)
        else:
            by, when = ring.lost_since(index) or (taken, 0.0)
            send_reply(connection, Reply(Status.GONE, number, index, by, int(when * 1e9)))


if __name__ == "__main__":
    main()
