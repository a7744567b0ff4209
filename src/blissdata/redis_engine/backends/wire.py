"""The fast path to the server: commands packed, replies parsed, with as little as possible in between.

The Redis client makes the connections (address, password, TLS, protocol); from then on a `Link` owns
the socket. A reply's large texts, frames of images, are received straight into the memory where the
caller wants them (`Arena`), everything else is parsed by hiredis.

A link that was interrupted inside a reply is closed, never used again.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import hiredis
import numpy as np
import redis

__all__ = ["Ahead", "Arena", "Link", "Wire", "was_let_go"]

Command = Sequence[Any]

RECEIVE = 256 * 2**10
"""How much is asked of the socket at once [bytes]."""

LARGE = 32 * 2**10
"""Texts of this size and more [bytes] are sent from where they are, and received where they go."""

_WRITING = frozenset({"XADD", "FCALL"})
"""The commands that carry points."""

_WAIT_ALL = getattr(socket, "MSG_WAITALL", 0)

_PUSH: Any = getattr(hiredis, "PushNotification", ())


class Arena:
    """Memory that large texts of replies are received into, one behind the other.

    `nbytes` is how much is expected in all; what does not fit gets memory of its own."""

    def __init__(self, nbytes: int) -> None:
        try:
            self._memory: np.ndarray[Any, np.dtype[np.uint8]] = np.empty(nbytes, np.uint8)
        except (MemoryError, ValueError):  # more than there is: each text gets memory of its own
            self._memory = np.empty(0, np.uint8)
        self._used = 0

    def take(self, nbytes: int) -> memoryview:
        """The next `nbytes` bytes, writable."""
        start, end = self._used, self._used + nbytes
        if end > len(self._memory):
            return memoryview(bytearray(nbytes))
        self._used = end
        return memoryview(self._memory)[start:end]  # type: ignore[arg-type]


class Link:
    """One connection to the server, used by one caller at a time."""

    def __init__(self, connection: Any) -> None:
        """`connection` is one of the Redis client, connected."""
        self._connection = connection
        self._socket = connection._sock  # noqa: SLF001 — there is no public name for it
        # A link that nobody closed is closed without a word, in whatever order things are collected.
        weakref.finalize(self, self._socket.close).atexit = False
        self._reader = hiredis.Reader(
            protocolError=redis.exceptions.InvalidResponse,
            replyError=redis.exceptions.ResponseError,
        )
        self._received = bytearray(RECEIVE)
        self._gather = hasattr(self._socket, "sendmsg") and not hasattr(self._socket, "context")
        self._poll = select.poll()
        self._poll.register(self._socket.fileno(), select.POLLIN)
        self._blocks = _can_block(self._socket)
        self._large = _Parser(self._socket, _WAIT_ALL if self._blocks else 0)
        self.pid = os.getpid()
        self.session = 0
        """For who keeps it: which of its connections it was."""
        self.timeout: float | None = None
        """How long a reply may take [s]; None: for ever."""
        self.set_timeout(None)

    @property
    def can_be_polled(self) -> bool:
        """Whether the system knows if something has come: with TLS it does not."""
        return self._blocks

    def fileno(self) -> int:
        """Of the socket."""
        return int(self._socket.fileno())

    def set_timeout(self, seconds: float | None) -> None:
        """How long a reply may take [s]; None: as the client has it."""
        if seconds is None:
            seconds = self._connection.socket_timeout
        self.timeout = seconds
        if not self._blocks:
            self._socket.settimeout(seconds)
            return
        # The kernel keeps the time: Python's own timeouts cost a system call more for every piece that
        # is sent or received, and cut large ones into many.
        limit = _timeval(seconds)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def is_usable(self) -> bool:
        """False if the server closed it, or this process is a fork of the one that opened it."""
        large = self._large
        return not (large.at < len(large.buffer) or self._poll.poll(0) or self.pid != os.getpid())

    def close(self) -> None:
        """Closes it. Repeatable."""
        if self.pid == os.getpid():
            self._connection.disconnect()

    # ------------------------------------------------------------------------------ sending

    def send(self, commands: Iterable[Command]) -> None:
        """Sends commands; `receive` gives the reply to each, in order."""
        parts: list[Any] = []
        for command in commands:
            if _is_large(command):
                parts += _pieces(command)
            else:
                parts.append(hiredis.pack_command(tuple(command)))
        try:
            self._send(parts)
        except OSError as error:
            raise _lost(error) from error

    def send_one(self, command: Command) -> None:
        """Sends one command."""
        if _is_large(command):
            self.send((command,))
            return
        try:
            self._socket.sendall(hiredis.pack_command(tuple(command)))
        except OSError as error:
            raise _lost(error) from error

    def _send(self, parts: list[Any]) -> None:
        """Small parts joined, large ones from where they are."""
        small: list[bytes] = []
        for part in parts:
            if len(part) < LARGE:
                small.append(part)
                continue
            head = b"".join(small)
            small = []
            if self._gather and head:
                sent = self._socket.sendmsg([head, part])
                if sent < len(head):
                    self._socket.sendall(head[sent:])
                    sent = len(head)
                rest = memoryview(part)[sent - len(head) :]
                if rest:
                    self._socket.sendall(rest)
            else:
                if head:
                    self._socket.sendall(head)
                self._socket.sendall(part)
        if small:
            self._socket.sendall(b"".join(small) if len(small) > 1 else small[0])

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Many commands in one round trip; a refused one is an exception in its place."""
        self.send(commands)
        return [self.receive() for _ in commands]

    def execute_packed(self, packed: bytes, count: int) -> list[Any]:
        """As `execute`, for `count` commands that are packed already."""
        try:
            self._socket.sendall(packed)
        except OSError as error:
            raise _lost(error) from error
        replies: list[Any] = []
        gets = self._reader.gets
        while len(replies) < count:
            replies.append(self.receive())  # waits
            while len(replies) < count and (reply := gets()) is not False:  # has come with it
                if not isinstance(reply, _PUSH):
                    replies.append(reply)
        return replies

    # ------------------------------------------------------------------------------ receiving

    def receive(self) -> Any:
        """The next reply; a refusal is an exception that is given, not raised."""
        while (reply := self.received()) is False:
            self.receive_some()
        return reply

    def received(self) -> Any:
        """The next reply, if it has come as a whole, else False."""
        reply = self._reader.gets()
        while isinstance(reply, _PUSH):
            reply = self._reader.gets()
        return reply

    def receive_some(self) -> None:
        """Takes what has come; waits until there is something."""
        try:
            got = self._socket.recv_into(self._received)
        except OSError as error:
            raise _lost(error) from error
        if not got:
            raise redis.ConnectionError("Connection closed by server.")
        self._reader.feed(self._received, 0, got)  # type: ignore[arg-type] # any buffer

    def receive_into(self, arena: Arena) -> Any:
        """As `receive`, for a reply with large texts, which are received into `arena` and given as
        memoryviews. All replies that are on their way at the time are received so."""
        try:
            return self._large.reply(arena)
        except OSError as error:
            raise _lost(error) from error


def _can_block(sock: Any) -> bool:
    """True for a socket that the kernel may let wait: not for TLS, nor under gevent."""
    return (
        type(sock) is socket.socket
        and socket.socket.__module__ == "socket"
        and hasattr(socket, "SO_RCVTIMEO")
    )


def _timeval(seconds: float | None) -> bytes:
    """As the kernel takes it; 0: for ever."""
    micros = 0 if seconds is None else max(1, round(seconds * 1e6))
    return struct.pack("@ll", *divmod(micros, 1_000_000))


def _lost(error: OSError) -> Exception:
    """The Redis client's error for one of the socket."""
    if isinstance(error, TimeoutError | BlockingIOError):  # by Python, or by the kernel
        return redis.TimeoutError(f"Timeout on the socket: {error}")
    return redis.ConnectionError(f"Error on the socket: {error}")


def _is_large(command: Command) -> bool:
    """True for a command that is not packed, but sent in pieces: one that writes large texts."""
    if command[0] not in _WRITING:
        return False
    for argument in command:
        kind = type(argument)
        if kind is memoryview or (kind is bytes and len(argument) >= LARGE):
            return True
    return False


def _pieces(command: Command) -> list[Any]:
    """A command as it travels, its large texts apart and not copied."""
    pieces: list[Any] = []
    small: list[bytes] = [b"*%d\r\n" % len(command)]
    for argument in command:
        if isinstance(argument, bytes | memoryview):
            text: Any = argument
        elif isinstance(argument, str):
            text = argument.encode()
        else:
            text = str(argument).encode()
        small.append(b"$%d\r\n" % len(text))
        if len(text) >= LARGE:
            pieces += (b"".join(small), text)
            small = []
        else:
            small.append(bytes(text))
        small.append(b"\r\n")
    pieces.append(b"".join(small))
    return pieces


def was_let_go(reply: Any) -> bool:
    """True for what those are told who wait on a server that becomes a replica: nothing came for them.
    The server closes their connection."""
    return isinstance(reply, redis.exceptions.ResponseError) and str(reply).startswith("UNBLOCKED")


_NOWHERE = Arena(0)


class _Parser:
    """Reads replies off a socket, RESP2 or RESP3 (https://redis.io/docs/latest/develop/reference/
    protocol-spec), its large texts into an arena."""

    def __init__(self, sock: Any, flags: int) -> None:
        """`flags` are for receiving into memory."""
        self._socket = sock
        self._flags = flags
        self._arena = _NOWHERE
        self.buffer = b""
        self.at = 0

    def reply(self, arena: Arena) -> Any:
        """The whole next reply."""
        self._arena = arena
        found = self._value()
        while isinstance(found, _Push):
            found = self._value()
        self._arena = _NOWHERE
        return found

    def _more(self) -> None:
        data = self._socket.recv(RECEIVE)
        if not data:
            raise redis.ConnectionError("Connection closed by server.")
        self.buffer = self.buffer[self.at :] + data if self.at < len(self.buffer) else data
        self.at = 0

    def _line(self) -> bytes:
        while (end := self.buffer.find(b"\r\n", self.at)) < 0:
            self._more()
        line = self.buffer[self.at : end]
        self.at = end + 2
        return line

    def _value(self) -> Any:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return self._text(int(rest))
        if kind in b"*~>%":
            count = int(rest)
            if count < 0:
                return None
            items = [self._value() for _ in range(2 * count if kind == b"%" else count)]
            if kind == b"%":
                return dict(zip(items[::2], items[1::2], strict=True))
            return _Push(items) if kind == b">" else items
        if kind == b":":
            return int(rest)
        if kind == b"-":
            return redis.exceptions.ResponseError(rest.decode(errors="replace"))
        if kind == b"_":
            return None
        if kind in b"+,#(":
            return rest
        raise redis.exceptions.InvalidResponse(f"Protocol error: {line[:40]!r}")

    def _text(self, size: int) -> Any:
        if size < 0:
            return None
        if size >= LARGE:
            memory = self._arena.take(size)
            self._fill(memory)
            found: Any = memory
        else:
            while len(self.buffer) - self.at < size:
                self._more()
            found = self.buffer[self.at : self.at + size]
            self.at += size
        if self._line():
            raise redis.exceptions.InvalidResponse("Protocol error: a text of another length")
        return found

    def _fill(self, memory: memoryview) -> None:
        there = min(len(self.buffer) - self.at, len(memory))
        memory[:there] = self.buffer[self.at : self.at + there]
        self.at += there
        while there < len(memory):
            got = self._socket.recv_into(memory[there:], 0, self._flags)
            if not got:
                raise redis.ConnectionError("Connection closed by server.")
            there += got


class _Push(list[Any]):
    """What a server sends without being asked; nobody here asked for it."""


class Ahead:
    """Replies that are on their way, each on a link of its own. Who waits for one takes in what comes of the
    others: a server has room for little of a reply that nobody takes, and so goes on. Used by one thread;
    `close` it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._links: dict[int, Link] = {}
        self._failures: dict[int, Exception] = {}
        self._poll = select.poll()

    def ask(self, command: Command, *, is_large: bool = False) -> Link:
        """Sends a command on a link of its own, for `receive`; `is_large`: that will have an arena."""
        link = self._wire.take()
        try:
            link.send_one(command)
            number = link.fileno()
        except BaseException:
            link.close()
            raise
        self._links[number] = link
        if link.can_be_polled and not is_large:
            self._poll.register(number, select.POLLIN)
        return link

    def receive(self, link: Link, arena: Arena | None = None) -> Any:
        """The reply on that link, which is then free again; a refusal is an exception that is given, not
        raised."""
        number = link.fileno()
        try:
            reply = link.receive_into(arena) if arena else self._receive(link, number)
        except BaseException:
            self._forget(number)
            link.close()
            raise
        self._forget(number)
        if was_let_go(reply):
            link.close()
            return None
        self._wire.give_back(link)
        return reply

    def _receive(self, link: Link, number: int) -> Any:
        if not link.can_be_polled:
            return link.receive()
        while (reply := link.received()) is False:
            if number in self._failures:
                raise self._failures.pop(number)
            ready = self._poll.poll(None if link.timeout is None else 1000 * link.timeout)
            if not ready:
                raise redis.TimeoutError("Timeout on the socket: nothing came")
            for one, _ in ready:
                try:
                    self._links[one].receive_some()
                except redis.RedisError as error:
                    self._poll.unregister(one)
                    self._failures[one] = error
        return reply

    def is_coming(self, link: Link) -> bool:
        """Whether the reply on that link can be received."""
        return link in self._links.values()

    def _forget(self, number: int) -> None:
        self._failures.pop(number, None)
        if self._links.pop(number, None) is not None:
            with suppress(KeyError):
                self._poll.unregister(number)

    def close(self) -> None:
        """Whatever is still on its way is lost. Repeatable."""
        for number, link in list(self._links.items()):
            self._forget(number)
            link.close()


class Wire:
    """Links to one server, as many as there are callers at once."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        """`pool` knows how to connect; none of its own connections is used."""
        self._pool = pool
        self._idle: list[Link] = []
        self.connected = 0
        """How many connections were made so far: with a new one, the server may be another, or have been
        restarted from an older state."""

    def connect(self, seconds: float | None = None) -> Link:
        """A new link, which the caller owns; `seconds` are for connecting. Raises what the Redis client
        raises."""
        options = dict(self._pool.connection_kwargs)
        if seconds is not None and "socket_connect_timeout" in options:
            options["socket_connect_timeout"] = seconds
        connection = self._pool.connection_class(**options)
        connection.connect()
        self.connected += 1
        return Link(connection)

    def take(self) -> Link:
        """A link for a while; `give_back` it, or `close` it after a failure."""
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                return self.connect()
            if link.is_usable():
                return link
            link.close()

    def give_back(self, link: Link) -> None:
        """The link has no reply under way."""
        self._idle.append(link)

    @contextmanager
    def link(self) -> Iterator[Link]:
        """A link for a while; closed if anything goes wrong."""
        link = self.take()
        try:
            yield link
        except BaseException:
            link.close()
            raise
        self.give_back(link)

    def execute_command(self, *command: Any) -> Any:
        """One command, one round trip. Raises a refusal; None for who waited and was let go."""
        link = self.take()
        try:
            link.send_one(command)
            reply = link.receive()
        except BaseException:
            link.close()
            raise
        if was_let_go(reply):
            link.close()
            return None
        self._idle.append(link)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Many commands in one round trip; a refused one is an exception in its place."""
        if not commands:
            return []
        with self.link() as link:
            return link.execute(commands)

    def execute_packed(self, packed: bytes, count: int) -> list[Any]:
        """As `execute`, for `count` commands that are packed already (see `packing`)."""
        with self.link() as link:
            return link.execute_packed(packed, count)

    def execute_soon(self, commands: Sequence[Command], seconds: float) -> list[Any]:
        """As `execute`, for what is of no use later: gives a server `seconds` to answer, and then one
        more chance on a new connection."""
        try:
            return self._execute_within(self.take(), commands, seconds)
        except (redis.ConnectionError, redis.TimeoutError):
            return self._execute_within(self.connect(seconds), commands, seconds)

    def _execute_within(self, link: Link, commands: Sequence[Command], seconds: float) -> list[Any]:
        try:
            link.set_timeout(seconds)
            replies = link.execute(commands)
            link.set_timeout(None)
        except BaseException:
            link.close()
            raise
        self.give_back(link)
        return replies

    def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """Commands at one instant, in MULTI and EXEC; a refused one is an exception in its place.
        Raises what refuses them all."""
        *queued, replies = self.execute([("MULTI",), *commands, ("EXEC",)])
        if isinstance(replies, Exception):
            raise next((reply for reply in queued if isinstance(reply, Exception)), replies)
        return list(replies)

    def transactions(self, groups: Sequence[Sequence[bytes]]) -> list[Any]:
        """Groups of commands that are packed already, each group at one instant, all in one round trip. For
        each group the replies, where a refused command is an exception; or what refuses them all."""
        begin, end = hiredis.pack_command(("MULTI",)), hiredis.pack_command(("EXEC",))
        packed = b"".join(b"".join((begin, *group, end)) for group in groups)
        replies = iter(self.execute_packed(packed, sum(len(group) + 2 for group in groups)))
        found: list[Any] = []
        for group in groups:
            *queued, done = (next(replies) for _ in range(len(group) + 2))
            if isinstance(done, Exception):
                done = next((reply for reply in queued if isinstance(reply, Exception)), done)
            found.append(done)
        return found

    def close(self) -> None:
        """Closes the links that nobody uses. Repeatable."""
        while self._idle:
            self._idle.pop().close()
