"""Chooses the kind of backend for a server, by looking at it."""

from __future__ import annotations

from blissdata.exceptions import ProtocolVersionError, ServerNotEmptyError, StoreConnectionError
from blissdata.redis_engine.backends.abstract import Backend
from blissdata.redis_engine.backends.client import (
    RedisStoreConnectionError,
    RedisStoreTimeoutError,
    make_client,
    redacted,
    socket_timeout,
)
from blissdata.redis_engine.backends.plain import PlainBackend
from blissdata.redis_engine.keys import PLAIN_PROTOCOL, STACK_PROTOCOL

__all__ = ["open_backend"]

MAX_BLOCK_S = 5.0
"""No call blocks on the server for longer than this [s]."""


def open_backend(url: str, *, prepare: bool = False, prepare_if_empty: bool = False) -> Backend:
    """The backend for the server at `url`.

    `prepare` prepares an empty server, and raises `ServerNotEmptyError` for one in use;
    `prepare_if_empty` does so for servers that are our own. Raises `StoreConnectionError` when
    nobody answers, `ProtocolVersionError` for a database that is not prepared or of another version.
    """
    client = make_client(url)
    max_block = min(MAX_BLOCK_S, socket_timeout(url) / 2)
    backend = PlainBackend(client, redacted(url), "the server needs no modules for it", max_block)
    try:
        found = backend.protocol()
        if prepare or (found is None and prepare_if_empty):
            backend.initialise()
            found = backend.protocol()
        if found != PLAIN_PROTOCOL:
            raise ProtocolVersionError(f"{redacted(url)}: {_complaint(found)}")
    except ServerNotEmptyError as error:
        backend.close()
        raise ServerNotEmptyError(f"{redacted(url)}: {error}") from error
    except StoreConnectionError as error:
        backend.close()
        flavour = (
            RedisStoreTimeoutError
            if isinstance(error, RedisStoreTimeoutError)
            else RedisStoreConnectionError
        )
        reason = str(error.__cause__ or error)
        if "authenticat" in reason.lower() or "password" in reason.lower():
            raise flavour(
                f"The server at {redacted(url)} wants a password, or another one ({reason}). Give it "
                "in the URL, as in redis://:password@host:port or unix://:password@/path"
            ) from error
        raise flavour(
            f"No blissdata server answers at {redacted(url)} ({reason}). Is it "
            "running, is the address right? `blissdata serve` starts one on this machine"
        ) from error
    except BaseException:
        backend.close()
        raise
    return backend


def _complaint(found: int | str | None) -> str:
    if found is None:
        return (
            "this server is not prepared for blissdata (it has no _PROTOCOL_VERSION_). "
            "DataStore(url, init_db=True) prepares an empty one"
        )
    if found == STACK_PROTOCOL:
        return (
            f"this database has protocol {found}, that of blissdata 2.x on RedisJSON and RediSearch, "
            f"which this version cannot use; it needs {PLAIN_PROTOCOL}. Use another server, or an "
            "empty database"
        )
    newer = isinstance(found, int) and found > PLAIN_PROTOCOL
    advice = (
        "install a newer blissdata: pip install --upgrade blissdata"
        if newer
        else "use another server, or an empty database"
    )
    return f"this database has protocol {found}, this version needs {PLAIN_PROTOCOL}: {advice}"
