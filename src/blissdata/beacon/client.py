"""One connection to a Beacon server: made when it is needed, and again when the server closed it."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

from blissdata.beacon.config import get_beacon_address
from blissdata.beacon.messages import HEADER, MAX_KEY, Message, pack, unpack_header
from blissdata.exceptions import (
    BeaconConnectionError,
    BeaconRefusedError,
    BeaconTimeoutError,
)

__all__ = ["TIMEOUT_S", "BeaconClient", "argument", "text"]

TIMEOUT_S = 3.0
"""How long the server may be silent [s]."""

MAX_REPLY_NBYTES = 2**28
"""What a reply may hold [bytes]; configuration files are far smaller."""


class BeaconClient:
    """Asks one question after another; may be shared by threads.

    `host` and `port` default to those in `$BEACON_HOST`. `timeout` [s] is how long the server may
    stay silent while it is connected to or asked. Connects at the first question. A connection that
    the server closed in between is made again, once per question: all of them may be repeated.

    Raises `ValueError` where the address is not known.
    """

    def __init__(
        self, host: str | None = None, port: int | None = None, timeout: float = TIMEOUT_S
    ) -> None:
        if host is None or port is None:
            known = get_beacon_address()
            host, port = known[0] if host is None else host, known[1] if port is None else port
        self._address = (host, port)
        self._timeout = timeout
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._closed = False
        self._asked = 0

    def reconnect(self) -> None:
        """A new connection in the place of the old one, also after `close`."""
        with self._lock:
            self._hang_up()
            self._closed = False
            self._socket = self._connect()

    def close(self) -> None:
        """Hangs up. Asking again then is an error, until `reconnect`. Repeatable."""
        with self._lock:
            self._hang_up()
            self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_socket", None) is not None:
            self._hang_up()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._name}>"

    @property
    def _name(self) -> str:
        host, port = self._address
        return f"Beacon at {f'[{host}]' if ':' in host else host}:{port}"

    # ------------------------------------------------------------------------------------ asking

    def _ask(self, number: Message, *arguments: bytes) -> tuple[int, bytes | None]:
        """`(number of the reply, its data)`, None where it has none. One round trip.

        Raises `BeaconTimeoutError`, `BeaconConnectionError`, and `BeaconRefusedError` for a reply to
        some other question."""
        with self._lock:
            self._asked = self._asked % (MAX_KEY - 1) + 1
            key = str(self._asked).encode()
            found, payload = self._exchange(pack(number, key, *arguments))
            got, bar, data = payload.partition(b"|")
            if got != key:
                self._hang_up()
                raise BeaconRefusedError(
                    f"{self._name}: the reply {found} {payload[:60]!r} is to another question than "
                    f"{key.decode()!r}"
                )
            return found, data if bar else None

    def _ask_without_key(self, number: Message) -> tuple[int, bytes]:
        """`(number of the reply, its payload)`. One round trip."""
        with self._lock:
            return self._exchange(pack(number))

    def _exchange(self, request: bytes) -> tuple[int, bytes]:
        if self._closed:
            raise BeaconConnectionError(f"{self._name}: closed here; reconnect() opens it again")
        fresh = self._socket is None
        try:
            return self._send_and_receive(request)
        except (BeaconTimeoutError, BeaconRefusedError):
            self._hang_up()  # its reply must not be taken for that to the next question
            raise
        except (OSError, EOFError) as error:
            self._hang_up()
            if isinstance(error, BeaconConnectionError):  # it says why already
                raise
            if fresh:
                raise self._unreachable(error) from error
        try:
            return self._send_and_receive(request)
        except (BeaconTimeoutError, BeaconRefusedError):
            self._hang_up()
            raise
        except (OSError, EOFError) as error:
            self._hang_up()
            if isinstance(error, BeaconConnectionError):
                raise
            raise self._unreachable(error) from error

    def _send_and_receive(self, request: bytes) -> tuple[int, bytes]:
        if self._socket is None:
            self._socket = self._connect()
        try:
            self._socket.sendall(request)
            header = self._receive(self._socket, HEADER.size)
            try:
                number, length = unpack_header(header, MAX_REPLY_NBYTES)
            except BeaconRefusedError as error:
                raise BeaconRefusedError(f"{self._name}: {error}") from error
            return number, self._receive(self._socket, length)
        except TimeoutError as error:
            raise BeaconTimeoutError(
                f"{self._name} has said nothing for {self._timeout:g} s"
            ) from error

    @staticmethod
    def _receive(connection: socket.socket, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            part = connection.recv(min(size - len(received), 2**20))
            if not part:
                raise EOFError("it closed the connection in the middle of its reply")
            received += part
        return bytes(received)

    def _connect(self) -> socket.socket:
        try:
            return socket.create_connection(self._address, self._timeout)
        except TimeoutError as error:
            raise BeaconTimeoutError(
                f"{self._name} did not answer within {self._timeout:g} s"
            ) from error
        except (OSError, UnicodeError) as error:  # UnicodeError: no name that a host can have
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> BeaconConnectionError:
        return BeaconConnectionError(
            f"{self._name} cannot be asked ({error}). Is it running, and is $BEACON_HOST right?"
        )

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _refused(self, found: int, data: bytes | None, failure: Message) -> BeaconRefusedError:
        """What to raise for a reply that is not the one hoped for."""
        if found == failure:
            return BeaconRefusedError(text(data) or f"{self._name} refused, and does not say why")
        return BeaconRefusedError(f"{self._name}: Unexpected Beacon response type {found}")


def argument(value: str, what: str) -> bytes:
    """A text as an argument that others may follow. Raises `TypeError`, `ValueError`."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is a text, not {value!r}")
    if "|" in value:
        raise ValueError(
            f"{what} cannot contain '|', which Beacon puts between arguments: {value!r}"
        )
    return value.encode()


def text(data: bytes | None) -> str:
    """What a reply says, shown as it is even where it is not UTF-8."""
    return (data or b"").decode(errors="backslashreplace")
