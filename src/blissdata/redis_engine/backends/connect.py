"""Chooses the kind of backend for a server, by looking at it.

| database                     | modules on the server | kind  |
| ---------------------------- | --------------------- | ----- |
| protocol 1001                | any                   | plain |
| protocol 1                   | both                  | stack |
| protocol 1                   | one missing           | error |
| not prepared, to be prepared | both                  | stack |
| not prepared, to be prepared | neither               | plain |
| not prepared, to be prepared | one missing           | error |
| anything else                |                       | error |
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import redis

from blissdata.exceptions import ProtocolVersionError, ServerNotEmptyError, StoreConnectionError
from blissdata.redis_engine.backends.abstract import Backend
from blissdata.redis_engine.backends.client import (
    RedisStoreConnectionError,
    RedisStoreTimeoutError,
    make_client,
    redacted,
    socket_timeout,
    translated_errors,
)
from blissdata.redis_engine.backends.event_log import execute
from blissdata.redis_engine.backends.plain import PlainBackend
from blissdata.redis_engine.backends.server import version_from
from blissdata.redis_engine.backends.stack import StackBackend
from blissdata.redis_engine.keys import PLAIN_PROTOCOL, PROTOCOL, STACK_PROTOCOL

__all__ = ["Layout", "layout_of", "open_backend"]

MAX_BLOCK_S = 5.0
"""No call blocks on the server for longer than this [s]."""

STACK_MODULES = {"ReJSON": "RedisJSON", "search": "RediSearch"}
"""What protocol 1 needs on the server: how each module calls itself, and how people call it."""

VALKEY_JSON = "json"
"""Valkey's own JSON module. Its search module calls itself `search` too, but is not RediSearch."""


def open_backend(url: str, *, prepare: bool = False, prepare_if_empty: bool = False) -> Backend:
    """The backend for the server at `url`; the table above tells of which kind.

    `prepare` prepares an empty server, and raises `ServerNotEmptyError` for one in use;
    `prepare_if_empty` does so for servers that are our own. Raises `StoreConnectionError` when
    nobody answers, `ProtocolVersionError` for a database that is not prepared, of another version,
    or of one that the server has not the modules for. Blocks for a few round trips.
    """
    client = make_client(url)
    address = redacted(url)
    max_block = min(MAX_BLOCK_S, socket_timeout(url) / 2)
    try:
        found, modules = _look(client)
        to_prepare = prepare or (found is None and prepare_if_empty)
        if found is None and not to_prepare:
            raise ProtocolVersionError(f"{address}: {_complaint(found)}")
        stack, why = _choice(client, found, modules)
        kind = StackBackend if stack else PlainBackend
        backend = kind(client, address, why, max_block)
        expected = STACK_PROTOCOL if stack else PLAIN_PROTOCOL
        if to_prepare:
            backend.initialise()
            found = backend.protocol()
        if found != expected:
            raise ProtocolVersionError(f"{address}: {_complaint(found)}")
        if isinstance(backend, StackBackend):
            backend.bring_functions()
    except ServerNotEmptyError as error:
        _close(client)
        raise ServerNotEmptyError(f"{address}: {error}") from error
    except _UnsuitedError as error:
        _close(client)
        raise ProtocolVersionError(f"{address}: {error}") from error
    except StoreConnectionError as error:
        _close(client)
        flavour = (
            RedisStoreTimeoutError
            if isinstance(error, RedisStoreTimeoutError)
            else RedisStoreConnectionError
        )
        reason = str(error.__cause__ or error)
        if "authenticat" in reason.lower() or "password" in reason.lower():
            raise flavour(
                f"The server at {address} wants a password, or another one ({reason}). Give it "
                "in the URL, as in redis://:password@host:port or unix://:password@/path"
            ) from error
        raise flavour(
            f"No blissdata server answers at {address} ({reason}). Is it "
            "running, is the address right? `blissdata serve` starts one on this machine"
        ) from error
    except BaseException:
        _close(client)
        raise
    return backend


@dataclass(frozen=True, slots=True)
class Layout:
    """How a server stores scans."""

    kind: str | None
    """`plain` or `stack`; None if it is not prepared, or cannot be used."""

    why: str
    """Why it is this kind, or none."""

    protocol: int | str | None
    """Version of the database; a text if that is no number, None if it is not prepared."""


def layout_of(client: redis.Redis) -> Layout:
    """What `open_backend` would choose; changes nothing. One round trip."""
    found, modules = _look(client)
    try:
        stack, why = _choice(client, found, modules)
    except _UnsuitedError as error:
        return Layout(None, str(error), found)
    kind = "stack" if stack else "plain"
    if found is None:
        return Layout(None, f"not prepared yet; if it is empty it can be {kind}: {why}", found)
    if found not in (PLAIN_PROTOCOL, STACK_PROTOCOL):
        return Layout(None, _complaint(found), found)
    return Layout(kind, why, found)


class _UnsuitedError(Exception):
    """The server has not what the database needs."""


def _look(client: redis.Redis) -> tuple[int | str | None, set[str] | None]:
    """The version of the database, and the names of the server's modules; None if it does not tell.
    One round trip."""
    with translated_errors("asking for the version of the database"):
        version, modules = execute(client, [("GET", PROTOCOL), ("MODULE", "LIST")])
        if isinstance(version, Exception):
            raise version
    if isinstance(modules, Exception):  # forbidden to this user, or renamed
        return version_from(version), None
    return version_from(version), {_name(module) for module in modules}


def _name(module: Any) -> str:
    """From pairs in a list under RESP2, a map under RESP3; the client may have turned bytes into
    texts."""
    pairs = (
        module if isinstance(module, dict) else dict(zip(module[::2], module[1::2], strict=True))
    )
    name = pairs.get(b"name", pairs.get("name", b""))
    return name.decode() if isinstance(name, bytes) else str(name)


def _choice(
    client: redis.Redis, found: int | str | None, modules: Collection[str] | None
) -> tuple[bool, str]:
    """Whether protocol 1 it is, and why. Raises `_UnsuitedError`."""
    if found == PLAIN_PROTOCOL:
        return False, f"the database has protocol {PLAIN_PROTOCOL}, which needs no modules"
    if found not in (None, STACK_PROTOCOL):
        return False, "of no known protocol"
    missing = [name for name in STACK_MODULES if modules is not None and name not in modules]
    if found == STACK_PROTOCOL:
        if missing:
            raise _UnsuitedError(
                f"this database has protocol {STACK_PROTOCOL}, that of blissdata 2.x, for which the "
                f"server needs the modules RedisJSON and RediSearch, but it lacks {_named(missing)}. "
                "Load what is missing (--loadmodule), or use another server: an empty one without "
                f"modules gets protocol {PLAIN_PROTOCOL}"
            )
        return True, f"the database has protocol {STACK_PROTOCOL}, which blissdata 2.x shares"
    if modules is None:
        return False, "the server does not tell which modules it has"
    if len(missing) == len(STACK_MODULES):
        return False, "the server has neither RedisJSON nor RediSearch, and this needs no modules"
    if VALKEY_JSON in modules:
        return False, "the server has Valkey's modules, not RedisJSON and RediSearch"
    if missing:
        has = _named([name for name in STACK_MODULES if name not in missing])
        raise _UnsuitedError(
            f"the server has {has} but not {_named(missing)}: blissdata 2.x could not share it. Load "
            "both modules, or use a server without them; an empty one of either sort is prepared"
        )
    if client.connection_pool.connection_kwargs.get("db"):
        return False, "RediSearch serves database 0 only, and this is another"
    return True, "the server has RedisJSON and RediSearch, so blissdata 2.x can share it"


def _named(modules: Collection[str]) -> str:
    return " and ".join(STACK_MODULES[name] for name in modules)


def _close(client: redis.Redis) -> None:
    client.close()
    client.connection_pool.disconnect()


def _complaint(found: int | str | None) -> str:
    if found is None:
        return (
            "this server is not prepared for blissdata (it has no _PROTOCOL_VERSION_). "
            "DataStore(url, init_db=True), or in a shell `blissdata track --init-db --url URL`, prepares an "
            "empty one"
        )
    newer = isinstance(found, int) and found > PLAIN_PROTOCOL
    advice = (
        "install a newer blissdata: pip install --upgrade blissdata"
        if newer
        else "use another server, or an empty database"
    )
    return (
        f"this database has protocol {found}, this version needs {STACK_PROTOCOL} or "
        f"{PLAIN_PROTOCOL}: {advice}"
    )
