"""Answers in Beacon's place, so that programs which know only `$BEACON_HOST` find a store of ours.

    30, 32     the address of the store, both times: settings and scans are in one place
    140, 143   keys and values, kept in memory for as long as it runs
    50, 86     files below one directory, never outside of it, symlinks included

One thread serves all connections and never waits for one of them. Nobody is believed: messages,
connections, keys and files are limited, what is malformed is hung up on, and what cannot be answered
gets the reason as text. Beacon has neither passwords nor encryption, so a store with a password cannot be
announced, and whoever reaches the responder may read and set.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from blissdata.beacon.config import parse_address
from blissdata.beacon.messages import HEADER, Message, pack, unpack_header
from blissdata.data_roots import DataRoots
from blissdata.exceptions import BeaconRefusedError, DataFileError

__all__ = ["DEFAULT_ADDRESS", "Answers", "Responder", "check_announcement", "store_address"]

_LOG = logging.getLogger(__name__)

DEFAULT_ADDRESS = "127.0.0.1:25000"
"""25000 is where Beacon listens, unless told otherwise."""

MAX_REQUEST_NBYTES = 2**18
"""A request [bytes]: a path, or a key with its value."""

MAX_FILE_NBYTES = 2**26
"""A file that is sent [bytes]."""

MAX_VALUES_NBYTES = 2**24
"""All keys and values together [bytes]."""

MAX_NAMES = 10_000
"""Names in a tree."""

MAX_DEPTH = 32
"""Directories within each other in a tree."""

MAX_CONNECTIONS = 256
"""With one more, the one that was silent for longest is hung up on."""

MAX_PENDING_NBYTES = 2**27
"""What all connections together have still to take [bytes]; a long reply beyond it is refused."""

CHUNK_NBYTES = 2**16
"""What is read from a connection at once [bytes]."""

NO_DESCRIPTORS_PAUSE_S = 0.1
"""Where this process has no descriptors left, nothing tells when there are some again [s]."""


def store_address(url: str) -> tuple[str, str]:
    """`(host, port or path)` as Beacon tells it, for the URL of a store.

    Raises `ValueError` for what Beacon cannot tell: a password, TLS, another database than 0."""
    parts = urlsplit(url)
    cannot = "Beacon's protocol has no place for it, so this store cannot be announced"
    if parts.username or parts.password or "password=" in parts.query:
        raise ValueError(f"The store wants a password: {cannot}")
    if parts.scheme == "unix":
        if parts.query.replace("db=0", ""):
            raise ValueError(f"The store's URL has options ({parts.query}): {cannot}")
        return "localhost", unquote(parts.path)
    if parts.scheme not in ("redis", "valkey"):
        raise ValueError(f"The store's URL begins with {parts.scheme}://, not redis://: {cannot}")
    database = parts.path.strip("/") or "0"
    if database != "0" or parts.query.replace("db=0", ""):
        raise ValueError(f"The store's URL has options or names database {database}: {cannot}")
    return parts.hostname or "localhost", str(parts.port or 6379)


def _is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach what listens at that address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# ------------------------------------------------------------------------------------- answers


@dataclass(slots=True)
class Answers:
    """What is answered to each request; knows no sockets."""

    store: Callable[[], str]
    """The URL of the store at this moment."""

    files: DataRoots | None = None
    """The directory whose files are served."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    """Keys and values."""

    def reply(self, number: int, payload: bytes) -> bytes:
        """The message that answers a request. Raises nothing."""
        if number == Message.REDIS_DB:
            return self._redis_db(payload)
        key, _, data = payload.partition(b"|")
        try:
            match number:
                case Message.REDIS_DATA_DB:
                    host, port = store_address(self.store())
                    return pack(Message.REDIS_DATA_DB_OK, key, host.encode(), port.encode())
                case Message.GET:
                    if data not in self.values:
                        return pack(Message.GET_UNDEFINED, key)
                    return pack(Message.GET_OK, key, self.values[data])
                case Message.SET:
                    self._set(data)
                    return pack(Message.SET_OK, key)
                case Message.FILE:
                    return pack(Message.FILE_OK, key, self._file(data))
                case Message.TREE:
                    return pack(Message.TREE_OK, key, self._tree(data))
        except (ValueError, OSError) as error:
            return refusal(number, payload, str(error))
        return refusal(number, payload, f"request {number} is not known here")

    def _redis_db(self, payload: bytes) -> bytes:
        """The only request without a key; its reply has no place for a failure, so what cannot be
        told gets the one that nobody takes for an address."""
        try:
            host, port = store_address(self.store())
        except (ValueError, OSError) as error:
            return refusal(Message.REDIS_DB, payload, str(error))
        host = f"[{host}]" if ":" in host else host
        return pack(Message.REDIS_DB_OK, f"{host}:{port}".encode())

    def _set(self, data: bytes) -> None:
        name, bar, value = data.partition(b"|")
        if not bar:
            raise ValueError("there is no value: expected <name>|<value>")
        size = sum(len(k) + len(v) for k, v in self.values.items() if k != name)
        if size + len(name) + len(value) > MAX_VALUES_NBYTES:
            raise ValueError(
                f"keys and values together may take {MAX_VALUES_NBYTES} bytes, no more"
            )
        self.values[name] = value

    # ------------------------------------------------------------------------------ files

    def _root(self) -> tuple[DataRoots, str]:
        if self.files is None:
            raise ValueError("no files are served: `blissdata serve --beacon --beacon-files DIR`")
        return self.files, self.files.directories[0]

    def _path(self, data: bytes) -> tuple[DataRoots, str]:
        roots, root = self._root()
        return roots, os.path.join(root, os.fsdecode(data).lstrip("/"))

    def _file(self, data: bytes) -> bytes:
        roots, path = self._path(data)
        asked = os.fsdecode(data)[:200]
        try:
            with roots.open(path) as file:
                found = file.read(MAX_FILE_NBYTES + 1) or b""
                while part := file.read(MAX_FILE_NBYTES + 1 - len(found)):
                    found += part
        except DataFileError as error:  # whose text tells where the directory is
            _LOG.info("file %r is not served: %s", asked, error)
            raise ValueError(f"there is no file {asked!r}, or it is not served") from error
        if len(found) > MAX_FILE_NBYTES:
            raise ValueError(f"file {asked!r} has more than {MAX_FILE_NBYTES} bytes")
        return found

    def _tree(self, data: bytes) -> bytes:
        _, path = self._path(data)
        root, real = os.path.realpath(self._root()[1]), os.path.realpath(path)
        if not _is_below(real, root) or not os.path.isdir(real):
            raise ValueError(
                f"there is no directory {os.fsdecode(data)[:200]!r}, or it is not served"
            )
        return json.dumps(_names(real, root, [0], 0)).encode()


def _names(directory: str, root: str, count: list[int], depth: int) -> dict[str, Any]:
    """Files, then directories, each sorted; what leads out of the root, or round in a circle, is left
    out."""
    if depth > MAX_DEPTH:
        return {}
    files: dict[str, Any] = {}
    directories: dict[str, Any] = {}
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            count[0] += 1
            if count[0] > MAX_NAMES:
                raise ValueError(f"there are more than {MAX_NAMES} names")
            real = os.path.realpath(entry.path)
            if not _is_below(real, root):
                continue
            if os.path.isfile(real):
                files[entry.name] = None
            elif os.path.isdir(real) and not _is_below(os.path.realpath(directory), real):
                with contextlib.suppress(PermissionError):
                    directories[entry.name] = _names(entry.path, root, count, depth + 1)
    return files | directories


def _is_below(real: str, root: str) -> bool:
    return real == root or real.startswith(root.rstrip("/") + "/")


def refusal(number: int, payload: bytes, why: str) -> bytes:
    """The message that refuses a request, with the reason as text."""
    key = payload.partition(b"|")[0]
    return pack(_FAILURES.get(number, Message.UNKNOWN), key, why.encode(errors="backslashreplace"))


_FAILURES: dict[int, Message] = {
    Message.REDIS_DATA_DB: Message.REDIS_DATA_DB_FAILED,
    Message.GET: Message.GET_FAILED,
    Message.SET: Message.SET_FAILED,
    Message.FILE: Message.FILE_FAILED,
    Message.TREE: Message.TREE_FAILED,
}


# ----------------------------------------------------------------------------------- responder


@dataclass(slots=True, eq=False)
class _Peer:
    """One connection."""

    socket: socket.socket
    active: float
    """When it last sent or took something (monotonic) [s]."""
    received: bytearray = field(default_factory=bytearray)
    to_send: bytes = b""
    sent: int = 0
    """How much of that went out [bytes]."""

    @property
    def pending(self) -> int:
        """What it has still to take [bytes]."""
        return len(self.to_send) - self.sent


class Responder:
    """Listens at `address` and answers for the store at a URL, or at the URL that a function gives.

    `files` is the directory whose files are served; without it none are. `values` are keys to begin
    with. Port 0 is any free port. Serves from construction until `close`, in a thread of its own.

    Raises `ValueError` for a store that Beacon cannot announce, for a directory that is none, and for
    an address that others reach while the store is at a unix socket; `OSError` where it cannot
    listen.
    """

    def __init__(
        self,
        store: str | Callable[[], str],
        address: str = DEFAULT_ADDRESS,
        files: str | os.PathLike[str] | None = None,
        values: Mapping[str, str] | None = None,
    ) -> None:
        host, port = _to_listen_at(address)
        url = partial(str, store) if isinstance(store, str) else store
        _refuse_a_socket_for_others(store_address(url())[1], host)
        known = {key.encode(): value.encode() for key, value in (values or {}).items()}
        self._answers = Answers(url, None if files is None else _served(files), known)
        self._peers: set[_Peer] = set()
        self._listener = _listen(host, port)
        bound = self._listener.getsockname()
        self._address = f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="beacon responder", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it listens, as `$BEACON_HOST` takes it."""
        return self._address

    def close(self) -> None:
        """Hangs up on everybody. Repeatable; blocks until the thread has ended."""
        with contextlib.suppress(OSError):  # closed already
            self._wake.send(b"x")
        self._thread.join()
        self._wake.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Responder at {self._address}>"

    # ------------------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while True:
                for key, _ in self._selector.select():
                    if key.fileobj is self._woken:
                        return
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.data in self._peers:  # not hung up on a moment ago
                        self._serve(key.data)
        finally:
            for peer in list(self._peers):
                self._hang_up(peer)
            self._selector.close()
            self._listener.close()
            self._woken.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return  # it went away again
        except OSError as error:  # no descriptors left
            _LOG.warning("cannot accept a connection: %s", error)
            if not self._hang_up_on_the_most_silent():
                time.sleep(NO_DESCRIPTORS_PAUSE_S)
            return
        connection.setblocking(False)
        if len(self._peers) >= MAX_CONNECTIONS:
            self._hang_up_on_the_most_silent()
        peer = _Peer(connection, time.monotonic())
        self._peers.add(peer)
        self._selector.register(connection, selectors.EVENT_READ, peer)

    def _serve(self, peer: _Peer) -> None:
        """What can be done for one connection without waiting."""
        try:
            if peer.pending:
                self._send(peer)
            else:
                received = peer.socket.recv(CHUNK_NBYTES)
                if not received:
                    self._hang_up(peer)
                    return
                peer.active = time.monotonic()
                peer.received += received
            while not peer.pending and (request := self._next_request(peer)):
                peer.to_send, peer.sent = self._answer(*request), 0
                self._send(peer)
        except BlockingIOError:
            pass
        except (OSError, BeaconRefusedError) as error:
            _LOG.info("hung up on a connection: %s", error)
            self._hang_up(peer)
            return
        except Exception:  # noqa: BLE001 — one odd request must not end the service for the others
            _LOG.exception("hung up on a connection whose request failed")
            self._hang_up(peer)
            return
        waits_for = selectors.EVENT_WRITE if peer.pending else selectors.EVENT_READ
        self._selector.modify(peer.socket, waits_for, peer)

    def _next_request(self, peer: _Peer) -> tuple[int, bytes] | None:
        """The next request that has arrived as a whole."""
        if len(peer.received) < HEADER.size:
            return None
        number, length = unpack_header(bytes(peer.received[: HEADER.size]), MAX_REQUEST_NBYTES)
        end = HEADER.size + length
        if len(peer.received) < end:
            return None
        payload = bytes(peer.received[HEADER.size : end])
        del peer.received[:end]
        return number, payload

    def _answer(self, number: int, payload: bytes) -> bytes:
        reply = self._answers.reply(number, payload)
        pending = sum(peer.pending for peer in self._peers)
        if len(reply) > CHUNK_NBYTES and pending + len(reply) > MAX_PENDING_NBYTES:
            return refusal(number, payload, "too many long replies are under way: ask again")
        return reply

    def _send(self, peer: _Peer) -> None:
        while peer.pending:
            with memoryview(peer.to_send) as view:
                peer.sent += peer.socket.send(view[peer.sent :])
            peer.active = time.monotonic()
        peer.to_send, peer.sent = b"", 0

    def _hang_up_on_the_most_silent(self) -> bool:
        if not self._peers:
            return False
        self._hang_up(min(self._peers, key=lambda peer: peer.active))
        return True

    def _hang_up(self, peer: _Peer) -> None:
        self._peers.discard(peer)
        self._selector.unregister(peer.socket)
        peer.socket.close()


def check_announcement(address: str, files: str | os.PathLike[str] | None, url: str) -> None:
    """Raises the `ValueError` that a `Responder` would raise, and listens nowhere."""
    _refuse_a_socket_for_others(store_address(url)[1], _to_listen_at(address)[0])
    if files is not None:
        _served(files)


def _to_listen_at(address: str) -> tuple[str, int]:
    if address.endswith(":0"):  # any free port, which no Beacon server can be asked at
        return parse_address(f"{address}1")[0], 0
    return parse_address(address)


def _refuse_a_socket_for_others(at: str, host: str) -> None:
    if at.startswith("/") and not _is_loopback(host):
        raise ValueError(
            f"The store is at a unix socket, which other machines cannot reach: they have no use for "
            f"a Beacon address at {host}. Listen at 127.0.0.1"
        )


def _served(files: str | os.PathLike[str]) -> DataRoots:
    directory = os.path.abspath(os.path.expanduser(files))
    if not os.path.isdir(directory):
        raise ValueError(f"The files to be served are in a directory; {directory} is none")
    return DataRoots((directory,), "the directory whose files are served")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise OSError(error.errno, f"Cannot listen at {host}:{port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener
