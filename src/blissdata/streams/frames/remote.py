"""Frames from a detector on another host: one connection to its frame server, many frames in flight."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from blissdata.exceptions import ImageServerError
from blissdata.streams.frames.layout import ServerAddress
from blissdata.streams.frames.sockets import prepare, receive_exactly
from blissdata.streams.frames.wire import REPLY_NBYTES, Reply, Request, Status, most_frames

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
        self._head = bytearray(REPLY_NBYTES)
        self._socket: socket.socket | None = None
        self._pid = 0
        self._down: tuple[float, str] = (0.0, "")

    def held(self) -> range:
        """The frames that the detector has now. Raises `ImageServerError`."""
        with self._conversation():
            number = self._ask(0, 0)
            reply = self._reply({number})
            return range(reply.index, reply.taken)

    def fetch(self, frames: Sequence[int], place: Callable[[int], memoryview]) -> dict[int, Reply]:
        """Receives each of `frames` that comes into the memory that `place(position)` gives for it. Gives how
        those stand that are not there, by position. Raises `ImageServerError` if the server does not
        answer, or not as it should, or refuses."""
        missing: dict[int, Reply] = {}
        with self._conversation():
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
                reply = self._reply(waiting)
                expected = waiting[reply.number]
                position = expected.pop(reply.index, None)
                if position is None:
                    raise self._broken(f"it sent frame {reply.index}, which nobody asked for")
                if not expected:
                    del waiting[reply.number]
                flying -= 1
                if reply.status == Status.FRAME:
                    self._receive(place(position))
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

    @contextmanager
    def _conversation(self) -> Iterator[None]:
        """One at a time; one that does not come to its end, for whatever reason, ends the connection: what
        is still on its way is for nobody."""
        with self._lock:
            try:
                self._look_at_connection()
                yield
            except BaseException:
                self._hang_up()
                raise

    def _look_at_connection(self) -> None:
        """One that was closed while nobody asked is forgotten, and so is one that speaks unasked."""
        if self._socket is None or self._pid != os.getpid():
            return
        self._socket.settimeout(0)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self._socket.settimeout(ANSWER_S)
            return
        except OSError:
            pass
        self._hang_up()

    def _ask(self, start: int, count: int) -> int:
        number = next(self._numbers)
        request = Request(bytes.fromhex(self._server.token), number, start, count)
        connection = self._connected()
        try:
            connection.sendall(request.pack())
        except OSError as error:
            raise self._broken(_said(error)) from error
        return number

    def _reply(self, wanted: Collection[int]) -> Reply:
        """The next reply, which is to one of the wanted requests."""
        self._receive(self._head)
        try:
            reply = Reply.parse(self._head)
        except ValueError as error:
            raise self._broken(f"it is no frame server: {error}") from error
        if reply.status == Status.REFUSED:
            raise self._broken("it refuses: the token of this stream is not its own")
        if reply.number not in wanted:
            raise self._broken(f"it answers request {reply.number}, which nobody made")
        expected = self._nbytes if reply.status == Status.FRAME else 0
        if reply.nbytes != expected:
            raise self._broken(f"it sends {reply.nbytes} bytes, expected {expected}")
        return reply

    def _receive(self, memory: memoryview | bytearray) -> None:
        try:
            receive_exactly(self._connected(), memory)
        except (OSError, EOFError) as error:
            raise self._broken(_said(error)) from error

    def _connected(self) -> socket.socket:
        if self._socket is not None and self._pid == os.getpid():
            return self._socket
        until, why = self._down
        if time.monotonic() < until:
            raise ImageServerError(why)
        try:
            found = socket.create_connection(self._server.place, CONNECT_S)
        except OSError as error:
            raise self._broken(f"nobody answers: {error.strerror or error}") from error
        prepare(found)
        found.settimeout(ANSWER_S)
        self._end = weakref.finalize(self, found.close)
        self._end.atexit = False
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


def _said(error: Exception) -> str:
    """What is wrong with the connection."""
    if isinstance(error, TimeoutError):
        return f"it does not answer within {ANSWER_S:g} s"
    return f"the connection broke: {getattr(error, 'strerror', None) or error}"
