"""Frames from a detector on another host: one connection to its frame server, many frames in flight."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from blissdata.exceptions import ImageServerError, MissingExtraError
from blissdata.streams.frames.layout import ServerAddress
from blissdata.streams.frames.wire import Reply, Request, Status, most_frames

__all__ = ["FrameConnection"]

ANSWER_S = 10.0
"""How long a server may be silent while an answer is due [s]."""

CONNECT_S = 3.0
"""How long connecting may take [s]."""

DOWN_S = 2.0
"""A server that did not answer is not asked again for that long [s]."""

IN_FLIGHT_NBYTES = 2**25
"""Frames asked for before the first of them has come [bytes]."""

MOST_IN_FLIGHT = 512


class FrameConnection:
    """To the frame server of one buffer; connects when it is first asked. For any thread, one at a time."""

    def __init__(self, server: ServerAddress, nbytes: int) -> None:
        """`nbytes` is the size of a frame [bytes]."""
        self._server = server
        self._nbytes = nbytes
        self._together = most_frames(nbytes)
        self._in_flight = max(4, min(MOST_IN_FLIGHT, IN_FLIGHT_NBYTES // nbytes))
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._socket: Any = None
        self._pid = 0
        self._down: tuple[float, str] = (0.0, "")

    def held(self) -> range:
        """The frames that the detector has now. Raises `ImageServerError`."""
        with self._lock:
            number = self._ask(0, 0)
            reply, _ = self._receive({number})
            return range(reply.index, reply.taken)

    def fetch(
        self, frames: Sequence[int], take: Callable[[int, memoryview], object]
    ) -> dict[int, Reply]:
        """Calls `take(position, bytes)` for each of `frames` that comes, with memory that is the caller's. Gives
        how those stand that are not there, by position. Raises `ImageServerError` if the server does
        not answer, or not as it should, or refuses."""
        missing: dict[int, Reply] = {}
        with self._lock:
            waiting: dict[int, dict[int, int]] = {}
            requests = self._requests(frames)
            flying = 0
            while True:
                while flying < self._in_flight and (run := next(requests, None)):
                    number = self._ask(frames[run[0]], len(run))
                    waiting[number] = {frames[position]: position for position in run}
                    flying += len(run)
                if not waiting:
                    return missing
                reply, data = self._receive(waiting)
                expected = waiting[reply.number]
                position = expected.pop(reply.index, None)
                if position is None:
                    raise self._broken(f"it sent frame {reply.index}, which nobody asked for")
                if not expected:
                    del waiting[reply.number]
                flying -= 1
                if reply.status == Status.FRAME:
                    if len(data) != self._nbytes:
                        raise self._broken(f"it sent {len(data)} bytes, a frame has {self._nbytes}")
                    take(position, data)
                else:
                    missing[position] = reply

    def close(self) -> None:
        """Closes the connection. Repeatable."""
        with self._lock:
            self._hang_up()

    def _requests(self, frames: Sequence[int]) -> Iterator[range]:
        """Positions of frames that follow one another, as many as one request may ask for."""
        start = 0
        for end in range(1, len(frames) + 1):
            full = end - start == self._together
            if end == len(frames) or full or frames[end] != frames[end - 1] + 1:
                yield range(start, end)
                start = end

    # ------------------------------------------------------------------------------ under the lock

    def _ask(self, start: int, count: int) -> int:
        number = next(self._numbers)
        request = Request(bytes.fromhex(self._server.token), number, start, count)
        self._connected().send(request.pack())
        return number

    def _receive(self, wanted: Any) -> tuple[Reply, memoryview]:
        """The next reply to one of the wanted requests, and what comes with it."""
        due = time.monotonic() + ANSWER_S
        while True:
            left = due - time.monotonic()
            if left <= 0 or not self._connected().poll(int(left * 1000) + 1):
                raise self._broken(f"it does not answer within {ANSWER_S:g} s")
            parts = self._socket.recv_multipart(copy=False)
            try:
                reply = Reply.parse(parts[0].bytes)
            except ValueError as error:
                raise self._broken(f"it is no frame server: {error}") from error
            if len(parts) != 2:
                raise self._broken(f"it is no frame server: a reply has {len(parts)} parts")
            if reply.number in wanted:
                if reply.status == Status.REFUSED:
                    raise self._broken("it refuses: the token of this stream is not its own")
                return reply, parts[1].buffer

    def _connected(self) -> Any:
        if self._socket is not None and self._pid == os.getpid():
            return self._socket
        until, why = self._down
        if time.monotonic() < until:
            raise ImageServerError(why)
        try:
            import zmq
        except ImportError as error:
            raise MissingExtraError(
                'Frames of a detector on another host need pyzmq: pip install "blissdata[frames]"'
            ) from error
        host, port = self._server.place
        try:
            socket.create_connection(
                (host, port), CONNECT_S
            ).close()  # zmq itself would wait and see
        except OSError as error:
            raise self._broken(f"nobody answers: {error.strerror or error}") from error
        found: Any = zmq.Context.instance().socket(zmq.DEALER)
        found.set(zmq.LINGER, 0)
        found.set(zmq.RCVHWM, 0)  # what is in flight is bounded by what was asked for
        found.set(zmq.MAXMSGSIZE, max(self._nbytes, 4096))
        if ":" in host:
            found.set(zmq.IPV6, 1)
        found.connect(self._server.address)
        self._end = weakref.finalize(self, _close, found, os.getpid())
        self._socket, self._pid = found, os.getpid()
        return found

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._end()
            self._socket = None

    def _broken(self, why: str) -> ImageServerError:
        """What was asked for is given up; the connection as well, with whatever is still on its way."""
        self._hang_up()
        text = f"The frame server at {self._server.address}: {why}"
        self._down = (time.monotonic() + DOWN_S, text)
        return ImageServerError(text)


def _close(found: Any, pid: int) -> None:
    if os.getpid() == pid:
        found.close(0)
