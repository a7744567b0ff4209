"""The one place that makes Redis clients, and turns their errors into ours.

Every error that leaves the engine is one of `blissdata.exceptions` *and* the Redis client's own
class, because existing programs catch `redis.ConnectionError` and `redis.exceptions.ResponseError`.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Mapping
from functools import cache
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from blissdata.exceptions import (
    NotDurableYetError,
    ServerBusyError,
    ServerFullError,
    ServerRefusedError,
    StoreClosedError,
    StoreConnectionError,
    StoreError,
    StreamConflictError,
    StreamRewoundError,
    StreamSealedError,
    StreamVanishedError,
)

__all__ = [
    "RedisConflictError",
    "RedisNotDurableYetError",
    "RedisRewoundError",
    "RedisSealedError",
    "RedisServerBusyError",
    "RedisServerFullError",
    "RedisServerRefusedError",
    "RedisStoreConnectionError",
    "RedisStoreTimeoutError",
    "RedisVanishedError",
    "close_client",
    "make_client",
    "redacted",
    "refusal",
    "translated_errors",
]

_logger = logging.getLogger(__name__)

SOCKET_TIMEOUT_S = 30.0
"""How long a reply may take before the connection counts as lost [s]; `?socket_timeout=` in the
URL changes it. Blocking reads ask the server for less than this."""

CONNECT_TIMEOUT_S = 10.0

_NOT_NOW = ("LOADING", "MISCONF", "READONLY", "BUSY", "TRYAGAIN", "MASTERDOWN", "NOREPLICAS")


def _known(*names: str) -> tuple[type[Exception], ...]:
    """Those of the client's error classes that its version has."""
    classes = (getattr(redis.exceptions, name, None) for name in names)
    return tuple(cls for cls in classes if cls is not None)


# redis-py strips the word that an error begins with where it has a class for it.
_FULL_ERRORS = _known("OutOfMemoryError")
_NOT_NOW_ERRORS = _known("BusyLoadingError", "MasterDownError", "ReadOnlyError", "TryAgainError")

_AGAIN = "Is the server running? Once it is back, what reads and publishes goes on where it was"

_NEEDS_CARE = redis.VERSION < (5, 1)
"""Before, connections to a unix socket have the faults that `_UnixConnection` mends."""


def _no_notifications() -> dict[str, Any]:
    """Some versions ask for news of maintenance as soon as they speak RESP3, and fail where the
    connection has no host."""
    try:
        from redis.maint_notifications import MaintNotificationsConfig
    except ImportError:
        return {}
    return {"maint_notifications_config": MaintNotificationsConfig(enabled=False)}


_NO_NOTIFICATIONS = _no_notifications()
"""Options for connections to a unix socket."""


@cache
def _driver_info() -> dict[str, Any]:
    """What the client calls itself to the server. Newer versions ask the installed packages for it, at
    every connection and for longer than a connection takes, unless they are told."""
    try:
        from redis.driver_info import DriverInfo
    except ImportError:
        return {}
    return {"driver_info": DriverInfo()}


_KNOWS_PROTOCOLS = redis.VERSION >= (5,)
"""Earlier ones speak RESP2, and have no option for it."""

_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
}


class _FlavourError(Exception):
    """The first base of each: where a builtin stands before the client's class, the client's own
    constructor is never called, and its newer versions rely on what that sets, even in `repr`."""

    error_type: Any = getattr(getattr(redis.exceptions, "ExceptionType", None), "SERVER", None)
    status_code: Any = None

    def __repr__(self) -> str:
        return BaseException.__repr__(self)


class RedisStoreConnectionError(_FlavourError, StoreConnectionError, redis.ConnectionError):
    """Also a `redis.ConnectionError`."""


class RedisStoreTimeoutError(_FlavourError, StoreConnectionError, redis.TimeoutError):
    """Also a `redis.TimeoutError`."""


class RedisServerRefusedError(_FlavourError, ServerRefusedError, redis.exceptions.ResponseError):
    """Also a `redis.exceptions.ResponseError`."""


class RedisServerFullError(_FlavourError, ServerFullError, redis.exceptions.ResponseError):
    """Also a `redis.exceptions.ResponseError`."""


class RedisServerBusyError(_FlavourError, ServerBusyError, redis.exceptions.ResponseError):
    """Also a `redis.exceptions.ResponseError`."""


class RedisNotDurableYetError(_FlavourError, NotDurableYetError, redis.exceptions.ResponseError):
    """Also a `redis.exceptions.ResponseError`."""


class RedisConflictError(_FlavourError, StreamConflictError, redis.exceptions.ResponseError):
    """Also a `redis.exceptions.ResponseError`."""


class RedisSealedError(_FlavourError, StreamSealedError, redis.exceptions.ResponseError):
    """Also a `redis.exceptions.ResponseError`."""


class RedisRewoundError(_FlavourError, StreamRewoundError, redis.exceptions.ResponseError):
    """Also a `redis.exceptions.ResponseError`."""


class RedisVanishedError(_FlavourError, StreamVanishedError, redis.exceptions.ResponseError):
    """Also a `redis.exceptions.ResponseError`."""


class _UnixConnection(redis.UnixDomainSocketConnection):
    """Keeps its timeout, which 5.0.0 and 5.0.1 forget, and closes what it cannot connect."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call] # redis-py's own has no types
        self.socket_timeout = kwargs.get("socket_timeout")

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self.socket_timeout)
            connection.connect(self.path)
        except BaseException:
            connection.close()
            raise
        return connection


def redacted(url: str) -> str:
    """The URL without its password, fit for messages and logs."""
    url = re.sub(r"(?<=://)([^/@]*):[^/@]*@", r"\1:***@", url)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", url)


def make_client(url: str, options: Mapping[str, Any] | None = None) -> redis.Redis:
    """A synchronous client with bytes replies for a `redis: rediss: valkey: valkeys: unix:` URL.

    Nothing is sent before the first command. The client never repeats a command by itself: whether
    a repeat is harmless is decided by whoever sent it. `options` are redis-py's connection options;
    those in the URL's query win. Raises `StoreError` for another scheme.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        if scheme in ("redis+cluster", "valkey+cluster"):
            raise StoreError(
                f"{redacted(url)}: clusters are not supported yet; "
                "give the URL of a single server (redis://, valkey://, unix://)"
            )
        raise StoreError(
            f"{redacted(url)!r} is not the URL of a server: expected one of "
            f"{', '.join(f'{s}://' for s in _SCHEMES)}, or the path of a directory"
        )
    url = f"{_SCHEMES[scheme]}://{rest}"
    kwargs: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "socket_timeout": SOCKET_TIMEOUT_S,
        **_driver_info(),
    }
    if _KNOWS_PROTOCOLS:
        # What every version of the client spoke once; searches answer five times as fast in it.
        kwargs["protocol"] = 2
    if scheme == "unix":
        kwargs.update(_NO_NOTIFICATIONS)
    else:
        kwargs["socket_keepalive"] = True
        kwargs["socket_connect_timeout"] = CONNECT_TIMEOUT_S
    kwargs.update(options or {})
    try:
        pool = redis.ConnectionPool.from_url(url, **kwargs)
    except ValueError as error:
        raise StoreError(f"{redacted(url)}: {error}") from error
    pool.connection_kwargs["decode_responses"] = False
    if _NEEDS_CARE and pool.connection_class is redis.UnixDomainSocketConnection:
        pool.connection_class = _UnixConnection
    if not _KNOWS_PROTOCOLS and pool.connection_kwargs.pop("protocol", None) == "3":
        _logger.info("%s: redis-py before 5 knows RESP2 alone; this uses it", redacted(url))
    try:
        pool.connection_class(
            **pool.connection_kwargs
        )  # connects to nothing, but checks the options
    except TypeError as error:
        raise StoreError(
            f"{redacted(url)}: the URL has an option that the Redis client does not know ({error})"
        ) from error
    return redis.Redis(connection_pool=pool)


def close_client(client: redis.Redis, address: str) -> None:
    """Closes its connections. Whoever needs one afterwards gets `StoreClosedError`, instead of a new one
    that nobody would ever close. Repeatable."""

    def refused(**_: Any) -> NoReturn:
        raise StoreClosedError(
            f"The data store at {address} was closed (by its `close`, or at the end of its `with`), and "
            "what was opened through it with it. Use it before that, or open another: DataStore(…)"
        )

    pool = client.connection_pool
    client.close()
    pool.disconnect()
    pool.reset()  # also those that would only connect again
    pool.connection_class = refused


def socket_timeout(url: str) -> float:
    """The reply timeout [s] that clients of this URL use."""
    given = parse_qs(urlsplit(url).query).get("socket_timeout")
    return float(given[-1]) if given else SOCKET_TIMEOUT_S


def refusal(error: Exception, doing: str) -> ServerRefusedError:
    """Our error for a refusal by the server, `doing` saying what was asked."""
    text = str(error)
    if text.startswith("OOM") or isinstance(error, _FULL_ERRORS):
        return RedisServerFullError(
            f"{doing}: the server has reached its memory limit and stored nothing. "
            "Delete scans (`blissdata delete --oldest 10`), or raise its `maxmemory`"
        )
    if text.startswith(_NOT_NOW) or isinstance(error, _NOT_NOW_ERRORS):
        return RedisServerBusyError(f"{doing}: the server cannot do it now: {text}")
    return RedisServerRefusedError(f"{doing}: the server refused: {text}")


class translated_errors:  # noqa: N801 — used as a function is, and quicker than a generator
    """Raises ours for whatever the Redis client raises inside; `doing` names the work."""

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any
    ) -> None:
        if error is not None:
            ours = _translated(error, self._doing)
            if ours is not None:
                raise ours from error


def _translated(error: BaseException, doing: str) -> Exception | None:
    """Our error for one of the Redis client; None for any other."""
    if isinstance(error, StoreError | StreamConflictError):
        return None
    if isinstance(error, redis.TimeoutError):
        return RedisStoreTimeoutError(f"{doing}: no answer in time ({error}). {_AGAIN}")
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return RedisServerBusyError(f"{doing}: the server is loading its data ({error})")
    if isinstance(error, redis.ConnectionError):
        return RedisStoreConnectionError(f"{doing}: connection failed ({error}). {_AGAIN}")
    if isinstance(error, redis.exceptions.InvalidResponse):
        return RedisStoreConnectionError(
            f"{doing}: what answers there does not speak the Redis protocol ({error})"
        )
    if isinstance(error, redis.exceptions.ResponseError):
        return refusal(error, doing)
    return None
