"""What Beacon knows: the addresses of the databases, and keys with values."""

from __future__ import annotations

from typing import Any, Final

from blissdata.beacon.client import BeaconClient, argument, text
from blissdata.beacon.messages import Message
from blissdata.exceptions import BeaconRefusedError, BeaconUndefinedError

__all__ = ["BeaconData"]


class _Undefined:
    """No default was given."""

    def __repr__(self) -> str:
        return "<undefined>"


_UNDEFINED: Final[Any] = _Undefined()


class BeaconData(BeaconClient):
    """The addresses of the databases, and keys with values. Each method is one round trip.

    Raises `BeaconConnectionError` (a `ConnectionError`), `BeaconTimeoutError` (a `TimeoutError`), and
    `BeaconRefusedError` (a `RuntimeError`) with the server's text where it refuses.
    """

    def get_redis_db(self) -> str:
        """The URL of the database with BLISS's settings: `redis://host:port` or `unix:///path`."""
        found, payload = self._ask_without_key(Message.REDIS_DB)
        if found != Message.REDIS_DB_OK:
            raise BeaconRefusedError(f"{self!r}: Unexpected message type '{found}'")
        host, bar, port = text(payload).partition(":")
        if not port.startswith("/"):
            host, bar, port = text(payload).rpartition(":")  # the host may be an IPv6 address
        return self._url(host, port if bar else "")

    def get_redis_data_db(self) -> str:
        """The URL of the database with the scans: `redis://host:port` or `unix:///path`."""
        found, data = self._ask(Message.REDIS_DATA_DB, b"")
        if found != Message.REDIS_DATA_DB_OK:
            raise self._refused(found, data, Message.REDIS_DATA_DB_FAILED)
        host, _, port = text(data).partition("|")
        return self._url(host, port)

    def _url(self, host: str, port: str) -> str:
        if port.startswith("/"):
            return f"unix://{port}"
        if host and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
            host = f"[{host}]" if ":" in host and not host.startswith("[") else host
            return f"redis://{host}:{port}"
        raise BeaconRefusedError(
            f"{self!r} gave host {host!r} and port {port!r} as the address of a database"
        )

    def get(self, key: str, default: Any = _UNDEFINED) -> Any:
        """The value of a key, a text; `default` where it is not defined. Raises `KeyError` without
        one."""
        found, data = self._ask(Message.GET, argument(key, "A key"))
        if found == Message.GET_OK:
            return (data or b"").decode()
        if found != Message.GET_UNDEFINED:
            raise self._refused(found, data, Message.GET_FAILED)
        if default is _UNDEFINED:
            raise BeaconUndefinedError(f"Beacon key {key!r} is undefined")
        return default

    def set(self, key: str, value: str) -> None:
        """Gives a key a value, which may hold any text. Setting it again changes nothing."""
        if not isinstance(value, str):
            raise TypeError(f"A value is a text, not {value!r}")
        found, data = self._ask(Message.SET, argument(key, "A key"), value.encode())
        if found != Message.SET_OK:
            raise self._refused(found, data, Message.SET_FAILED)
