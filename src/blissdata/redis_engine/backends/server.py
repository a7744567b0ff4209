"""What every layout asks of a Redis server in the same way, and how its answers are understood."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import redis

from blissdata.exceptions import ScanNotFoundError, ScanValidationError
from blissdata.redis_engine.backends.abstract import ServerInfo, Step
from blissdata.redis_engine.backends.client import translated_errors
from blissdata.redis_engine.backends.counters import AcquisitionCounters
from blissdata.redis_engine.backends.event_log import Functions, RedisEventLog, execute
from blissdata.redis_engine.backends.pins import RedisPins
from blissdata.redis_engine.backends.upkeep import RedisUpkeep
from blissdata.redis_engine.backends.wire import Command, Wire
from blissdata.redis_engine.keys import PROTOCOL, PULSE_TTL_S

__all__ = [
    "RedisServer",
    "globbed",
    "not_found",
    "pulse_begun",
    "pulses_renewed",
    "raise_first",
    "silence",
    "state_number",
    "step_from",
    "version_from",
]

_MAX_STATE_DIGITS = 3

BEAT_TIMEOUT_S = 3.0
"""A beat that has no answer in this time goes out again on another connection [s]."""

_PULSE_TTL_MS = PULSE_TTL_S * 1000


class RedisServer:
    """The part of a `Backend` that does not depend on how scans are stored."""

    kind = ""
    """The name of the layout."""

    complete_records = False
    """True if each record of the tracker's journal must name every stream."""

    def __init__(
        self,
        client: redis.Redis,
        address: str,
        why: str,
        max_block: float,
        acquisition_prefix: str,
        members_key: Callable[[str], str] | None = None,
    ) -> None:
        """`address` is the server for messages, without secrets; `why` says how this kind came to
        be chosen; `max_block` [s] bounds each blocking call; `acquisition_prefix` is what comes
        before a detector's name in the key of its counter; `members_key` names the set in which a
        scan's streams are listed, where the layout has one."""
        self._client = client
        self._address = address
        self._why = why
        self._max_block = max_block
        self._raw = Wire(client.connection_pool)
        self._functions = Functions(self._raw)
        self._event_log = RedisEventLog(self._raw, self._functions, max_block, members_key)
        self._pins = RedisPins(self._raw)
        self._upkeep = RedisUpkeep(self._raw, self.complete_records)
        self._acquisitions = AcquisitionCounters(
            self._raw, lambda detector: f"{acquisition_prefix}{detector}"
        )

    def __repr__(self) -> str:
        return f"{self.kind} layout at {self._address}"

    @property
    def event_log(self) -> RedisEventLog:
        return self._event_log

    @property
    def upkeep(self) -> RedisUpkeep:
        return self._upkeep

    @property
    def pins(self) -> RedisPins:
        return self._pins

    @property
    def client(self) -> redis.Redis:
        return self._client

    def info(self) -> ServerInfo:
        with translated_errors("asking the server about itself"):
            info, protocol, now = execute(self._client, [("INFO",), ("GET", PROTOCOL), ("TIME",)])
            for reply in (info, protocol, now):
                if isinstance(reply, Exception):
                    raise reply
        name = info.get("server_name", "redis")
        version = info.get("valkey_version") or info.get("redis_version", "?")
        found = version_from(protocol)
        return ServerInfo(
            kind=self.kind,
            why=self._why,
            protocol=found if isinstance(found, int) else None,
            server=f"{name} {version}",
            used_memory=int(info["used_memory"]),
            max_memory=int(info.get("maxmemory", 0)),
            clients=int(info["connected_clients"]),
            time=now[0] + now[1] / 1e6,
        )

    def used_memory(self) -> int:
        with translated_errors("asking the server for its use of memory"):
            text = bytes(self._raw.execute_command("INFO", "memory"))
        return int(text.partition(b"used_memory:")[2].partition(b"\r")[0])

    def protocol(self) -> int | str | None:
        with translated_errors("asking for the version of the database"):
            found = self._raw.execute_command("GET", PROTOCOL)
        return version_from(found)

    def current_acquisition(self, detector: str) -> int | None:
        return self._acquisitions.current(detector)

    def begin_acquisition(self, detector: str) -> int:
        return self._acquisitions.begin(detector)

    def flush(self) -> None:
        with translated_errors("emptying the database"):
            self._raw.execute_command("FLUSHALL")

    def close(self) -> None:
        self._event_log.close_writer()
        self._raw.close()
        self._client.close()
        self._client.connection_pool.disconnect()


def pulse_begun(key: str) -> Command:
    """The first beat."""
    return ("SET", key, "", "PX", _PULSE_TTL_MS)


def pulses_renewed(raw: Wire, keys: Iterable[str]) -> None:
    """Another beat; those that are gone stay so. Raises what the client raises."""
    raw.execute_soon([("PEXPIRE", key, _PULSE_TTL_MS) for key in keys], BEAT_TIMEOUT_S)


def silence(pttl: Any) -> float | None:
    """How long ago the last beat was [s], from what PTTL says of the pulse; None if there is none."""
    if not isinstance(pttl, int) or pttl < 0:
        return None
    return max(0.0, (_PULSE_TTL_MS - pttl) / 1000)


def globbed(text: str) -> str:
    """A text for MATCH that stands for itself."""
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", text)


def raise_first(replies: Iterable[Any]) -> None:
    """Raises the first refusal among the replies."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply


def version_from(text: bytes | None) -> int | str | None:
    """The version of the database; a text if that is no number, None if there is none."""
    if text is None:
        return None
    return int(text) if text.isdigit() and len(text) < 20 else text[:40].decode(errors="replace")


def step_from(key: str, item: Any) -> Step:
    """From an entry of the state stream, whose id begins with the server's time in ms."""
    ident, fields = item
    state = dict(zip(fields[::2], fields[1::2], strict=True)).get(b"state", b"")
    return Step(state_number(key, state), ident.decode(), int(ident.partition(b"-")[0]) / 1000)


def state_number(key: str, text: bytes) -> int:
    """The number of a state. Raises `ScanValidationError` if the text is none."""
    if not text.isdigit() or len(text) > _MAX_STATE_DIGITS:
        found = text[:40].decode(errors="replace")
        raise ScanValidationError(f"Scan {key} has the state '{found}', expected a number")
    return int(text)


def not_found(key: str) -> ScanNotFoundError:
    """The error for a scan that is not there."""
    return ScanNotFoundError(
        f"There is no scan {key}: it was deleted, it expired, or the key is wrong. "
        "search_existing_scans() lists those that are there"
    )
