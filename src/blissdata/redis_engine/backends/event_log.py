"""Streams of entries on a Valkey or Redis server (7 or newer), the same on every layout.

Writing goes through server functions (`functions/blissdata.lua`), because an entry may only be added
where the stream ends: looking and adding must be one step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import redis

from blissdata.exceptions import PayloadError
from blissdata.redis_engine.backends.client import (
    RedisConflictError,
    RedisRewoundError,
    RedisSealedError,
    RedisVanishedError,
    refusal,
    translated_errors,
)
from blissdata.redis_engine.keys import PROTOCOL
from blissdata.streams.encoding import EncodedBatch
from blissdata.streams.entries import MAX_INDEX, Entry, Tail
from blissdata.streams.event_log import AppendRequest, Arrivals, SealRequest, Span, SpanRequest

__all__ = ["Functions", "RedisEventLog", "raw_client"]

MAX_PAYLOAD = 512 * 2**20 - 4096
"""`proto-max-bulk-len` of a server that was not told otherwise, less what goes around a payload."""

SEAL_ID = f"{MAX_INDEX}-{MAX_INDEX}".encode()
"""The last possible entry id; its field `id` is the stream's length (protocol 1, "Events")."""

MAX_POINTS = 2**63 - 1
"""No stream has more points: beyond, a length is a lie, and `len()` could not tell it."""

_MAX_DIGITS = 20

_RAW_COMMANDS = ("XREAD", "XRANGE", "XREVRANGE", "XADD", "FCALL", "FCALL_RO")

_FUNCTIONS = Path(__file__).parent / "functions"

Command = tuple[Any, ...]

T = TypeVar("T")


def raw_client(client: redis.Redis) -> redis.Redis:
    """A client on the same connections that gives stream replies as the server sends them."""
    raw = redis.Redis(connection_pool=client.connection_pool)
    for command in _RAW_COMMANDS:
        raw.set_response_callback(command, _as_is)
    return raw


def _as_is(reply: Any, **_: Any) -> Any:
    return reply


class Functions:
    """Calls functions of one of our libraries on the server, and brings them there when they are
    missing."""

    def __init__(self, raw: redis.Redis, file: str = "blissdata.lua") -> None:
        self._raw = raw
        self._file = _FUNCTIONS / file

    def name(self) -> str:
        """The name of the library, as its first line has it. Reads the file."""
        return self._file.read_text().partition("\n")[0].partition("name=")[2]

    def call(self, name: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """One call, one round trip. Raises what the client raises."""
        (reply,) = self.call_many([(name, keys, args)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def call_many(self, calls: Sequence[tuple[str, Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Many calls in one round trip; a refused one is an exception in its place."""
        commands = [("FCALL", name, len(keys), *keys, *args) for name, keys, args in calls]
        replies = execute(self._raw, commands)
        if any(_is_missing_function(reply) for reply in replies):
            self.load()
            missing = [i for i, reply in enumerate(replies) if _is_missing_function(reply)]
            again = execute(self._raw, [commands[i] for i in missing])
            for i, reply in zip(missing, again, strict=True):
                replies[i] = reply
        return replies

    def load(self) -> None:
        """Brings the library to the server. Raises what the client raises."""
        self._raw.execute_command("FUNCTION", "LOAD", "REPLACE", self._file.read_text())


def execute(raw: redis.Redis, commands: Iterable[Command]) -> list[Any]:
    """Commands in one round trip; a refused one is an exception in its place."""
    pipeline = raw.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return list(pipeline.execute(raise_on_error=False))


def _is_missing_function(reply: Any) -> bool:
    return isinstance(reply, redis.exceptions.ResponseError) and "Function not found" in str(reply)


class RedisEventLog:
    """`blissdata.streams.event_log.EventLog` over a Redis client."""

    max_payload = MAX_PAYLOAD

    def __init__(
        self,
        raw: redis.Redis,
        functions: Functions,
        max_block: float,
        members_key: Callable[[str], str] | None = None,
    ) -> None:
        """`max_block` [s] bounds each blocking call; `members_key` names the set in which a scan's
        streams are listed as they begin, where the layout has one."""
        self._raw = raw
        self._functions = functions
        self._max_block = max_block
        self._members_key = members_key

    # ------------------------------------------------------------------------------ writing

    def append(self, requests: Mapping[str, AppendRequest]) -> dict[str, int | Exception]:
        calls = [self._append_call(key, request) for key, request in requests.items()]
        doing = f"adding points to {len(requests)} streams"
        with translated_errors(doing):
            replies = self._functions.call_many(calls)
        outcomes = {
            key: _outcome(key, reply, doing) for key, reply in zip(requests, replies, strict=True)
        }
        for key, request in requests.items():
            if request.repeat and isinstance(outcomes[key], RedisConflictError | RedisSealedError):
                with translated_errors(doing):
                    outcomes[key] = self._settle_repeat(key, request, outcomes[key])
            elif request.index:
                outcomes[key] = self._settle_vanished(key, outcomes[key])
        return outcomes

    def _append_call(
        self, key: str, request: AppendRequest
    ) -> tuple[str, Sequence[str], Sequence[Any]]:
        args: list[Any] = [request.index]
        for batch in request.batches:
            args += (batch.len, batch.payload)
        return "bd1_append", self._with_owner(key, request.scan_key), args

    def _with_owner(self, key: str, scan_key: str | None) -> list[str]:
        if scan_key is None:
            return [key]
        if self._members_key is None:
            return [key, scan_key]
        return [key, scan_key, self._members_key(scan_key)]

    def _settle_repeat(
        self, key: str, request: AppendRequest, outcome: int | Exception
    ) -> int | Exception:
        """After a lost reply: are the very same entries there, or somebody else's? The first of
        them may have been trimmed meanwhile."""
        last = min(request.end, MAX_INDEX) - 1
        raw = self._raw.execute_command("XRANGE", key, request.index, last)
        try:
            found = [_entry(key, item) for item in raw]
        except PayloadError:
            return outcome
        ours, index = [], request.index
        for batch in request.batches:
            ours.append(Entry(index, batch))
            index += batch.len
        return request.end if found and found == ours[-len(found) :] else outcome

    def _settle_vanished(self, key: str, outcome: int | Exception) -> int | Exception:
        """A stream with points that vanished: was its scan deleted, or did the server lose all?"""
        if not isinstance(outcome, RedisVanishedError):
            return outcome
        with translated_errors(f"looking for {key}"):
            if self._raw.execute_command("EXISTS", PROTOCOL):
                return outcome
        return RedisRewoundError(
            f"{key}: the server has nothing at all: it was restarted without the data that it had "
            "confirmed, or was emptied"
        )

    def seal(self, requests: Mapping[str, SealRequest]) -> dict[str, int | Exception]:
        calls = [
            (
                "bd1_seal",
                self._with_owner(key, request.scan_key),
                ["" if request.length is None else request.length],
            )
            for key, request in requests.items()
        ]
        outcomes = self._each("sealing", list(requests), calls)
        for key, request in requests.items():
            if request.length:
                outcomes[key] = self._settle_vanished(key, outcomes[key])
        return outcomes

    def trim(self, indices: Mapping[str, int]) -> dict[str, int | Exception]:
        calls = [("bd1_trim", [key], [index]) for key, index in indices.items()]
        return self._each("trimming", list(indices), calls)

    def _each(
        self, verb: str, keys: Sequence[str], calls: Sequence[tuple[str, list[str], list[Any]]]
    ) -> dict[str, int | Exception]:
        doing = f"{verb} {len(keys)} streams"
        with translated_errors(doing):
            replies = self._functions.call_many(calls)
        return {key: _outcome(key, reply, doing) for key, reply in zip(keys, replies, strict=True)}

    # ------------------------------------------------------------------------------ reading

    def read(
        self,
        positions: Mapping[str, int],
        *,
        wait: float = 0.0,
        max_entries: int | Mapping[str, int],
    ) -> dict[str, Arrivals | PayloadError]:
        if not positions:
            return {}
        counts = (
            max_entries
            if isinstance(max_entries, Mapping)
            else dict.fromkeys(positions, max_entries)
        )
        with translated_errors(f"reading {len(positions)} streams"):
            groups = _by_count(positions, counts)
            found: dict[str, Any] = {}
            if len(groups) > 1:
                # One command has one COUNT: streams of small and of large points ask separately.
                for reply in execute(
                    self._raw, [_xread(keys, positions, n) for n, keys in groups.items()]
                ):
                    found |= _by_key(_raised(reply))
            if not found and (wait > 0 or len(groups) == 1):
                block = min(wait, self._max_block)
                command = _xread(list(positions), positions, min(groups), block)
                found = _by_key(self._raw.execute_command(*command))
        return {key: _arrivals(key, items) for key, items in found.items()}

    def span(self, requests: Sequence[SpanRequest]) -> list[Span | PayloadError]:
        plan = [_span_commands(request) for request in requests]
        with translated_errors(f"reading {len(requests)} streams"):
            replies = iter(execute(self._raw, [command for part in plan for command in part]))
            raw = [[_raised(next(replies)) for _ in part] for part in plan]
        return [
            _or_damage(_span, request.key, parts)
            for request, parts in zip(requests, raw, strict=True)
        ]

    def holding(self, key: str, index: int) -> Entry | None:
        with translated_errors(f"reading index {index} of {key}"):
            raw = self._raw.execute_command("XREVRANGE", key, index, "-", "COUNT", 1)
        if not raw:
            return None
        entry = _entry(key, raw[0])
        return entry if entry.end > index else None

    def newest(self, keys: Sequence[str]) -> dict[str, tuple[Tail, Entry | None] | PayloadError]:
        with translated_errors(f"reading the newest points of {len(keys)} streams"):
            replies = execute(self._raw, [("XREVRANGE", key, "+", "-", "COUNT", 2) for key in keys])
            found = {key: _raised(reply) or [] for key, reply in zip(keys, replies, strict=True)}
        return {key: _or_damage(_newest, key, raw) for key, raw in found.items()}


# ---------------------------------------------------------------------------------- commands


def _by_count(positions: Iterable[str], counts: Mapping[str, int]) -> dict[int, list[str]]:
    groups: dict[int, list[str]] = {}
    for key in positions:
        groups.setdefault(counts[key], []).append(key)
    return groups


def _xread(
    keys: Sequence[str], positions: Mapping[str, int], count: int, block: float = 0.0
) -> Command:
    # A position `5` means `5-0`, so the entry `5-1` comes after it.
    blocking = ("BLOCK", math.ceil(block * 1000)) if block > 0 else ()
    return ("XREAD", "COUNT", count, *blocking, "STREAMS", *keys, *(positions[key] for key in keys))


def _span_commands(request: SpanRequest) -> list[Command]:
    key, start = request.key, request.start
    commands: list[Command] = [("XREVRANGE", key, "+", "-", "COUNT", 1)]
    if request.only_tail:
        return commands
    last = MAX_INDEX - 1 if request.stop is None else min(request.stop, MAX_INDEX) - 1
    if last >= start:
        commands.append(("XREVRANGE", key, start, "-", "COUNT", 1))
    if last > start:
        commands.append(("XRANGE", key, start + 1, last))
    return commands


# ---------------------------------------------------------------------------------- replies


def _raised(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply


_ERRORS = {
    b"CONFLICT": (RedisConflictError, "somebody else wrote there, the stream goes to index {}"),
    b"SEALED": (RedisSealedError, "it is sealed with {} points"),
    b"REWOUND": (
        RedisRewoundError,
        "the server has only {} points: it lost some that it had confirmed",
    ),
    b"VANISHED": (RedisVanishedError, "its scan was deleted from the server"),
}


def _outcome(key: str, reply: Any, doing: str) -> int | Exception:
    if isinstance(reply, Exception):
        return refusal(reply, doing)
    word, value = reply
    if word == b"OK":
        if not value.isdigit() or len(value) > _MAX_DIGITS:
            return PayloadError(f"the seal of {key} says that it has {value[:40]!r} points")
        return int(value)
    error, text = _ERRORS[word]
    outcome: Exception = error(f"{key}: {text.format(value.decode())}")
    return outcome


def _by_key(reply: Any) -> dict[str, Any]:
    """The reply of XREAD: pairs under RESP2, a map under RESP3, nothing if nothing came."""
    if not reply:
        return {}
    pairs = reply.items() if isinstance(reply, dict) else reply
    return {key.decode(): entries for key, entries in pairs}


def _arrivals(key: str, raw: Sequence[Any]) -> Arrivals | PayloadError:
    entries: list[Entry] = []
    seal = None
    for item in raw:
        try:
            if item[0] == SEAL_ID:
                seal = _sealed_length(key, item)
            else:
                entries.append(_entry(key, item))
        except PayloadError as error:
            if not entries:
                return error
            break
    return Arrivals(tuple(entries), seal)


def _entry(key: str, item: Any) -> Entry:
    """One entry. Raises `PayloadError` for one that is not as protocol 1 says."""
    ident, fields = item
    index, _, sequence = ident.partition(b"-")
    if sequence != b"1":
        raise PayloadError(f"the entry {ident.decode()} of {key} has an id that is not <index>-1")
    payload = count = None
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name == b"payload":
            payload = value
        elif name == b"len":
            count = value
    if payload is None:
        names = b", ".join(fields[::2]).decode(errors="replace")
        raise PayloadError(f"the entry {ident.decode()} of {key} has no payload, only: {names}")
    length = 1
    if count is not None:
        length = int(count) if count.isdigit() and len(count) <= _MAX_DIGITS else 0
        if not 1 <= length <= MAX_POINTS:
            raise PayloadError(
                f"the entry {ident.decode()} of {key} says that it holds {count[:40]!r} points"
            )
    entry = Entry(int(index), EncodedBatch(payload, length))
    if entry.end > MAX_POINTS:
        raise PayloadError(f"the entry {ident.decode()} of {key} reaches to index {entry.end}")
    return entry


def _sealed_length(key: str, item: Any) -> int:
    _, fields = item
    found = dict(zip(fields[::2], fields[1::2], strict=True)).get(b"id", b"")
    length = int(found) if found.isdigit() and len(found) <= _MAX_DIGITS else MAX_INDEX
    if length > MAX_POINTS:
        raise PayloadError(f"the seal of {key} says that it has {found[:40]!r} points")
    return length


def _or_damage(read: Callable[[str, Any], T], key: str, raw: Any) -> T | PayloadError:
    try:
        return read(key, raw)
    except PayloadError as error:
        return error


def _span(key: str, parts: Sequence[Any]) -> Span:
    """From the newest entry, and the ranges."""
    tail, *ranges = parts
    return _tail(key, tail), tuple(_entry(key, item) for items in ranges for item in items or ())


def _newest(key: str, raw: Sequence[Any]) -> tuple[Tail, Entry | None]:
    return _tail(key, raw), _last_entry(key, raw)


def _tail(key: str, raw: Sequence[Any]) -> Tail:
    """From the newest entries, newest first."""
    if not raw:
        return Tail(0, False)
    if raw[0][0] == SEAL_ID:
        return Tail(_sealed_length(key, raw[0]), True)
    return Tail(_entry(key, raw[0]).end, False)


def _last_entry(key: str, raw: Sequence[Any]) -> Entry | None:
    """From the newest two entries, newest first."""
    for item in raw:
        if item[0] != SEAL_ID:
            return _entry(key, item)
    return None
