"""What keeps a Redis server from filling up: the journal of where streams ended, and forgetting.

The journal is a stream (protocol 1, "Trimming"): a field per data stream, its key and the id of its
last entry at that time, under the time on the server's clock.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from blissdata.redis_engine.backends.abstract import Record
from blissdata.redis_engine.backends.client import refusal, translated_errors
from blissdata.redis_engine.backends.event_log import is_missing_function
from blissdata.redis_engine.backends.replies import SEAL_ID
from blissdata.redis_engine.backends.wire import Command, Link, Wire
from blissdata.redis_engine.keys import HISTORY, TRACKING
from blissdata.streams.entries import MAX_INDEX

__all__ = ["RedisCandidate", "RedisUpkeep"]

_MAX_DIGITS = 20

MAX_COMMANDS = 4096
"""How many commands go to the server at once; more wait until these are answered."""


class RedisUpkeep:
    """`Upkeep` on a Redis server."""

    def __init__(self, raw: Wire, complete_records: bool) -> None:
        self._raw = raw
        self._complete_records = complete_records

    @property
    def complete_records(self) -> bool:
        return self._complete_records

    # ------------------------------------------------------------------------------ streams

    def last_entries(self, keys: Sequence[str]) -> dict[str, int | None]:
        with translated_errors(f"asking where {len(keys)} streams end"):
            replies = self._execute([("FCALL_RO", "bd3_tail", 1, key) for key in keys])
            missing = [key for key, r in zip(keys, replies, strict=True) if is_missing_function(r)]
            found = dict(zip(keys, replies, strict=True))
            # A server without our functions, and perhaps too full to take them: it has this.
            commands = [("XREVRANGE", key, "+", "-", "COUNT", 1) for key in missing]
            for key, reply in zip(missing, self._execute(commands), strict=True):
                found[key] = reply[0] if isinstance(reply, list) and reply else reply
        return {key: _last_index(reply) for key, reply in found.items()}

    def sizes(self, keys: Sequence[str]) -> dict[str, int]:
        with translated_errors(f"asking how large {len(keys)} keys are"):
            replies = self._execute([("MEMORY", "USAGE", key) for key in keys])
        found = zip(keys, replies, strict=True)
        return {key: reply if isinstance(reply, int) else 0 for key, reply in found}

    def forget(self, ends: Mapping[str, int]) -> dict[str, int | Exception]:
        doing = f"forgetting the oldest points of {len(ends)} streams"
        with translated_errors(doing):
            lengths = dict(zip(ends, self._execute([("XLEN", key) for key in ends]), strict=True))
            trimmed = [key for key, n in lengths.items() if isinstance(n, int) and n > 1]
            replies = self._execute([_trim(key, ends[key], lengths[key]) for key in trimmed])
        outcomes: dict[str, int | Exception] = {
            key: refusal(n, doing) if isinstance(n, Exception) else 0 for key, n in lengths.items()
        }
        for key, reply in zip(trimmed, replies, strict=True):
            outcomes[key] = refusal(reply, doing) if isinstance(reply, Exception) else int(reply)
        return outcomes

    def _execute(self, commands: Sequence[Command]) -> list[Any]:
        replies: list[Any] = []
        for start in range(0, len(commands), MAX_COMMANDS):
            replies += self._raw.execute(commands[start : start + MAX_COMMANDS])
        return replies

    # ------------------------------------------------------------------------------ journal

    def record(self, ends: Mapping[str, int]) -> str:
        fields = [text for key, index in ends.items() for text in (key, _entry_id(index))]
        with translated_errors("writing the journal of streams"):
            ident: bytes = self._raw.execute_command("XADD", TRACKING, "*", *fields)
        return ident.decode()

    def records(self, after: str = "0-0", count: int | None = None) -> list[Record]:
        limit = () if count is None else ("COUNT", count)
        with translated_errors("reading the journal of streams"):
            found = self._raw.execute_command("XRANGE", TRACKING, f"({after}", "+", *limit)
        return [_record(ident.decode(), fields) for ident, fields in found]

    def newest_record(self) -> str | None:
        with translated_errors("asking for the newest record of the journal"):
            (reply,) = self._raw.execute([("FCALL_RO", "bdp1_newest", 1, TRACKING)])
            if is_missing_function(reply):  # a full server takes none
                (reply,) = self._raw.execute([("XINFO", "STREAM", TRACKING)])
                reply = (
                    b"" if isinstance(reply, Exception) else _mapping(reply)[b"last-generated-id"]
                )
            if isinstance(reply, Exception):
                raise reply
        return reply.decode() or None

    def forget_records(self, until: str) -> int:
        ms, _, n = until.partition("-")
        after = f"{ms}-{int(n or 0) + 1}"
        with translated_errors("shortening the journal of streams"):
            return int(self._raw.execute_command("XTRIM", TRACKING, "MINID", "=", after))

    # ------------------------------------------------------------------------------ scans

    def announced(self, since: str) -> tuple[str, list[str]]:
        with translated_errors("asking for new scans"):
            found = self._raw.execute_command("XRANGE", HISTORY, f"({since}", "+")
        keys = [
            value.decode(errors="replace")
            for _, fields in found
            for name, value in zip(fields[::2], fields[1::2], strict=True)
            if name == b"key"
        ]
        return (found[-1][0].decode() if found else since), keys

    # ------------------------------------------------------------------------------ who does it

    def candidate(self, role: str) -> RedisCandidate:
        return RedisCandidate(self._raw, role)


class RedisCandidate:
    """`Candidate`: of all connections of that name, the oldest one leads. A name needs no memory on the
    server, nobody else minds it, and it goes with the connection."""

    def __init__(self, raw: Wire, role: str) -> None:
        self._raw = raw
        self._name = f"blissdata-local-{role}-{uuid.uuid4().hex[:8]}"
        self._role = f"blissdata-local-{role}-"
        self._link: Link | None = None
        self._id = 0

    def leads(self, patience: float) -> bool:
        with translated_errors("asking who else keeps this server"):
            try:
                return self._leads(patience)
            except redis.exceptions.ResponseError:  # not told: then nobody else is known
                return True
            except BaseException:
                self.close()
                raise

    def _leads(self, patience: float) -> bool:
        if self._link is None or self._link.pid is None:
            self._link = self._raw.connect()
            self._ask("CLIENT", "SETNAME", self._name)
            self._id = int(self._ask("CLIENT", "ID"))
        text = self._ask("CLIENT", "LIST")
        if isinstance(text, dict):
            text = b"\n".join(text.values())
        others = [dict(_pairs(line)) for line in bytes(text).decode(errors="replace").splitlines()]
        return all(
            int(other["id"]) >= self._id or int(other.get("idle", 0)) > patience
            for other in others
            if other.get("name", "").startswith(self._role) and "id" in other
        )

    def _ask(self, *command: Any) -> Any:
        if self._link is None:
            raise redis.ConnectionError("closed")
        self._link.send([command])
        reply = self._link.receive()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def _mapping(reply: Any) -> dict[bytes, Any]:
    """Pairs in a list under RESP2, a map under RESP3."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def _pairs(line: str) -> list[tuple[str, str]]:
    parts = (part.partition("=") for part in line.split())
    return [(name, value) for name, _, value in parts]


def _trim(key: str, end: int, length: int) -> Command:
    """As blissdata 2.x trims (protocol 1, "Trimming"): whole nodes, and never the last entry of a
    stream that is not sealed."""
    if end >= MAX_INDEX:
        return ("XTRIM", key, "MINID", "=", _entry_id(end))
    return ("XTRIM", key, "MINID", "~", _entry_id(end), "LIMIT", length - 1)


def _entry_id(index: int) -> str:
    return SEAL_ID.decode() if index >= MAX_INDEX else f"{index}-1"


def _last_index(entry: Any) -> int | None:
    """From the stream's last entry, whose id comes first; None if there is none, or no stream."""
    if not isinstance(entry, list) or not entry:
        return None
    return _index(entry[0])


def _index(ident: Any) -> int | None:
    digits = bytes(ident).partition(b"-")[0]
    return int(digits) if digits.isdigit() and len(digits) <= _MAX_DIGITS else None


def _record(ident: str, fields: Sequence[bytes]) -> Record:
    ends = {
        key.decode(errors="replace"): index
        for key, value in zip(fields[::2], fields[1::2], strict=True)
        if (index := _index(value)) is not None
    }
    return Record(ident, ends)
