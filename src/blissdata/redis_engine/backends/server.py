"""What every layout asks of a Redis server in the same way, and how its answers are understood."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any, TypeVar

import redis

from blissdata.exceptions import ScanNotFoundError, ScanValidationError
from blissdata.redis_engine.backends.abstract import ServerInfo, Step
from blissdata.redis_engine.backends.client import close_client, translated_errors
from blissdata.redis_engine.backends.counters import AcquisitionCounters
from blissdata.redis_engine.backends.event_log import Functions, RedisEventLog, execute
from blissdata.redis_engine.backends.packing import packed_for_each, packed_with_many
from blissdata.redis_engine.backends.pins import RedisPins
from blissdata.redis_engine.backends.upkeep import RedisUpkeep
from blissdata.redis_engine.backends.wire import Wire
from blissdata.redis_engine.keys import DELETION_GRACE_S, PROTOCOL, PULSE_TTL_S

__all__ = [
    "CHECKED_AT_ONCE",
    "PULSE_TTL_MS",
    "RedisServer",
    "are_alive",
    "as_mapping",
    "globbed",
    "in_chunks",
    "is_gone",
    "living",
    "not_found",
    "pulses_renewed",
    "raise_first",
    "silence",
    "state_number",
    "step_from",
    "version_from",
]

T = TypeVar("T")

_MAX_STATE_DIGITS = 3

BEAT_TIMEOUT_S = 3.0
"""A beat that has no answer in this time goes out again on another connection [s]."""

PULSE_TTL_MS = PULSE_TTL_S * 1000

NO_TTL = -1
"""What PTTL says of a key that is there for good."""

CHECKED_AT_ONCE = 4096
"""How many keys one command asks for: others wait meanwhile."""


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
        close_client(self._client, self._address)


def pulses_renewed(raw: Wire, keys: Iterable[str]) -> None:
    """Another beat; those that are gone stay so. Raises what the client raises."""
    raw.execute_soon([("PEXPIRE", key, PULSE_TTL_MS) for key in keys], BEAT_TIMEOUT_S)


def silence(pttl: Any) -> float | None:
    """How long ago the last beat was [s], from what PTTL says of the pulse; None if there is none."""
    if not isinstance(pttl, int) or pttl < 0:
        return None
    return max(0.0, (PULSE_TTL_MS - pttl) / 1000)


def is_gone(ttl: Any) -> bool:
    """True for the time to live [ms] of a key that is gone, or counts as deleted."""
    return not isinstance(ttl, int) or ttl == -2 or bool(0 <= ttl <= DELETION_GRACE_S * 1000)


def are_alive(raw: Wire, keys: Sequence[str]) -> list[bool]:
    """For each scan whether it is there, and does not count as deleted. One round trip. Raises what the
    client raises."""
    if not keys:
        return []
    ttls = raw.execute_packed(packed_for_each(("PTTL",), keys, ()), len(keys))
    if ttls.count(NO_TTL) == len(keys):  # nearly always
        return [True] * len(keys)
    return [not is_gone(ttl) for ttl in ttls]


def living(raw: Wire, keys: Sequence[str], doomed: Set[str]) -> list[str]:
    """Those of the scans that are there and do not count as deleted, which only the `doomed` can while they
    are there. One round trip, and another one where some are gone or doomed."""
    if not keys:
        return []
    chunks = in_chunks(keys, CHECKED_AT_ONCE)
    counts = raw.execute_packed(
        b"".join(packed_with_many(("EXISTS",), chunk) for chunk in chunks), len(chunks)
    )
    raise_first(counts)
    found: list[str] = []
    for chunk, count in zip(chunks, counts, strict=True):
        if count == len(chunk) and (not doomed or doomed.isdisjoint(chunk)):
            found += chunk
        else:
            alive = are_alive(raw, chunk)
            found += [key for key, is_alive in zip(chunk, alive, strict=True) if is_alive]
    return found


def in_chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """The items, so many at once."""
    return [items[start : start + size] for start in range(0, len(items), size)]


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


def as_mapping(reply: Any) -> dict[bytes, Any]:
    """Pairs in a list under RESP2, a map under RESP3."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


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
        "`blissdata ls`, or search_existing_scans(), lists those that are there"
    )
