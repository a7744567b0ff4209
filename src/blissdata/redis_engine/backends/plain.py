"""The plain layout: any Valkey or Redis from 7 on, no modules. Written down in `docs/reference/wire.md`.

Documents are JSON texts, the search index is sorted sets, and every key of a scan carries one hash
tag. What must happen at one instant is a server function.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from secrets import token_hex
from typing import Any

import redis

from blissdata.exceptions import (
    ScanLoadError,
    ScanNotFoundError,
    ScanValidationError,
    ServerNotEmptyError,
    UnauthorizeStateTransition,
)
from blissdata.redis_engine.backends.abstract import Announcement, LoadedScan, Step
from blissdata.redis_engine.backends.client import translated_errors
from blissdata.redis_engine.backends.event_log import Functions
from blissdata.redis_engine.backends.search import criteria, index_entries
from blissdata.redis_engine.backends.server import (
    RedisServer,
    globbed,
    not_found,
    pulse_begun,
    pulses_renewed,
    raise_first,
    silence,
    state_number,
    step_from,
)
from blissdata.redis_engine.backends.wire import Command, Wire
from blissdata.redis_engine.documents import ScanDocument, StreamDocument
from blissdata.redis_engine.keys import (
    ACQUISITION,
    DELETION_GRACE_S,
    HISTORY,
    HISTORY_LENGTH,
    PLAIN_PROTOCOL,
    PROTOCOL,
    PlainKeys,
    new_ulid,
)
from blissdata.streams.heartbeat import CLOSED, Life

__all__ = ["PlainBackend", "PlainCatalog"]

SWEPT_AT_ONCE = 1000
"""How many keys or members are looked at in one round trip."""

PK_LENGTH = 26
"""Every member of the index ends with the primary key of its scan."""

ANNOUNCED_AT_ONCE = 256
"""How many announcements are looked at in one round trip."""


class PlainCatalog:
    """`Catalog` in the plain layout, under one prefix."""

    def __init__(
        self,
        raw: Wire,
        functions: Functions,
        prefix: str,
        identity_fields: Sequence[str],
        max_block: float,
    ) -> None:
        self._raw = raw
        self._functions = functions
        self._keys = PlainKeys(prefix)
        self._fields = tuple(identity_fields)
        self._max_block = max_block
        before, after = self._keys.scan("|").split("|")
        self._around_pk = [before, after]

    # ------------------------------------------------------------------------------ one scan

    def create(self, document: ScanDocument) -> LoadedScan:
        pk = document.pk
        entries = index_entries(document.identity, pk)
        keys = [
            self._keys.scan(pk),
            self._keys.state(pk),
            HISTORY,
            self._keys.index("created"),
            self._keys.states,
            *(self._keys.index(name) for name, _, _ in entries),
        ]
        args: list[Any] = [document.to_json(), pk, HISTORY_LENGTH]
        for _, score, member in entries:
            args += (score, member)
        with translated_errors(f"creating scan {keys[0]}"):
            state_id = self._functions.call(
                "bd2_create", keys, args, beside=[pulse_begun(self._keys.pulse(pk))]
            )
        return LoadedScan(document, 0, state_id.decode())

    def load(self, key: str) -> LoadedScan:
        found = self.load_many([key])[key]
        if isinstance(found, ScanLoadError):
            raise found
        return found

    def load_many(self, keys: Sequence[str]) -> dict[str, LoadedScan | ScanLoadError]:
        wanted = list(dict.fromkeys(keys))
        doing = f"loading scan {wanted[0]}" if len(wanted) == 1 else f"loading {len(wanted)} scans"
        found: dict[str, LoadedScan | ScanLoadError] = {}
        with translated_errors(doing):
            replies = self._functions.call_many(
                [("bd2_load", self._both(key), ()) for key in wanted]
            )
            for key, reply in zip(wanted, replies, strict=True):
                try:
                    found[key] = self._loaded(key, reply)
                except ScanLoadError as error:
                    found[key] = error
        return found

    def _loaded(self, key: str, reply: Any) -> LoadedScan:
        """The scan in a reply. Raises the reply, if it is another error than of this scan alone."""
        if isinstance(reply, Exception):
            if "WRONGTYPE" not in str(reply):
                raise reply
            raise ScanValidationError(
                f"{key} is not a scan: there, or where its state stream should be, is a value of "
                "another type"
            ) from reply
        if not reply:
            raise not_found(key)
        if len(reply) < 3:
            raise ScanValidationError(f"{key} is not a scan: it has no state stream")
        text, state_id, state = reply
        pk = self._keys.scan_pk(key)
        document = ScanDocument.from_json(key, text, lambda s: self._keys.stream(pk, s))
        return LoadedScan(document, state_number(key, state), state_id.decode())

    def advance(self, key: str, from_state: int, to_state: int, document: ScanDocument) -> str:
        pk = self._keys.scan_pk(key)
        keys = [*self._both(key), self._keys.states]
        args = [int(from_state), int(to_state), document.to_json(), token_hex(8), pk]
        over: list[Command] = [("DEL", self._keys.pulse(pk))] if to_state == CLOSED else []
        with translated_errors(f"advancing scan {key}"):
            try:
                word, value = self._functions.call("bd2_advance", keys, args, beside=over)
            except (redis.ConnectionError, redis.TimeoutError):
                # The reply may be lost, not the step: the token tells.
                word, value = self._functions.call("bd2_advance", keys, args, beside=over)
        if word == b"VANISHED":
            raise not_found(key)
        if word == b"CONFLICT":
            raise UnauthorizeStateTransition(
                value.decode(),
                str(to_state),
                f"somebody else moved scan {key}, this publisher had left it in state {from_state}",
            )
        text: str = value.decode()
        return text

    def wait_state(self, key: str, state_id: str, wait: float) -> bool:
        state_key = self._both(key)[1]
        block = max(1, math.ceil(min(wait, self._max_block) * 1000))
        blocking = ("BLOCK", block) if wait > 0 else ()
        command = ("XREAD", "COUNT", 1, *blocking, "STREAMS", state_key, state_id)
        with translated_errors(f"waiting for scan {key}"):
            return bool(self._raw.execute_command(*command))

    def steps(self, key: str) -> list[Step]:
        with translated_errors(f"asking for the steps of scan {key}"):
            found = self._raw.execute_command("XRANGE", self._both(key)[1], "-", "+")
        if not found:
            raise not_found(key)
        return [step_from(key, item) for item in found]

    def expire(self, key: str, seconds: int) -> None:
        pk = self._keys.scan_pk(key)
        keys = [*self._both(key), self._members(key), self._keys.expiring]
        args: list[Any] = [seconds, pk]
        if seconds <= DELETION_GRACE_S:
            try:
                document = self.load(key).document
            except ScanNotFoundError:
                return
            except ScanValidationError:
                entries = []  # its identity is not known; `find` skips what is gone
            else:
                entries = index_entries(document.identity, pk)
            keys += [self._keys.index(name) for name, _, _ in entries]
            args += [member for _, _, member in entries]
        with translated_errors(f"deleting scan {key}"):
            self._functions.call("bd2_expire", keys, args)

    # ------------------------------------------------------------------------------ many scans

    def expire_many(self, keys: Sequence[str], seconds: int) -> None:
        if seconds <= DELETION_GRACE_S:
            for key in keys:
                self.expire(key, seconds)
            return
        calls = [
            (
                "bd2_expire",
                [*self._both(key), self._members(key), self._keys.expiring],
                [seconds, self._keys.scan_pk(key)],
            )
            for key in keys
        ]
        with translated_errors(f"letting {len(keys)} scans expire"):
            raise_first(self._functions.call_many(calls))

    def sweep(self) -> int:
        gone = 0
        with translated_errors("sweeping the index of scans"):
            for index in self._indices():
                cursor = b"0"
                while True:
                    cursor, found = self._raw.execute_command(
                        "ZSCAN", index, cursor, "COUNT", SWEPT_AT_ONCE
                    )
                    gone += self._drop_gone(index, found[::2])
                    if cursor == b"0":
                        break
        return gone

    def _indices(self) -> list[bytes]:
        """The sorted sets of the search index, also those of fields that this program knows not."""
        pattern = f"{globbed(self._keys.index(''))}*"
        found: set[bytes] = set()
        cursor = b"0"
        while True:
            cursor, some = self._raw.execute_command(
                "SCAN", cursor, "MATCH", pattern, "COUNT", SWEPT_AT_ONCE, "TYPE", "zset"
            )
            found.update(some)
            if cursor == b"0":
                return sorted(found)

    def _drop_gone(self, index: bytes, members: Sequence[bytes]) -> int:
        """Takes those members out of one index whose scan is gone. A scan never comes back."""
        scans = [self._keys.scan(member[-PK_LENGTH:].decode("latin1")) for member in members]
        there = self._raw.execute([("EXISTS", scan) for scan in scans])
        dead = [member for member, n in zip(members, there, strict=True) if n == 0]
        return int(self._raw.execute_command("ZREM", index, *dead)) if dead else 0

    def states(self, keys: Sequence[str]) -> dict[str, int | None]:
        return self._states(keys)[0]

    def _states(
        self, keys: Sequence[str], beside: Sequence[Command] = ()
    ) -> tuple[dict[str, int | None], list[Any]]:
        """The states, and the replies to commands that went beside."""
        if not keys:
            return {}, []
        pks = map(self._keys.scan_pk, keys)
        call = ("bd2_states", [self._keys.states, *keys], [self._keys.stream_prefix, *pks])
        with translated_errors(f"asking for the states of {len(keys)} scans"):
            found, *others = self._functions.call_many([call], beside=beside)
            raise_first([found])
        states = {
            key: None if state < 0 else int(state) for key, state in zip(keys, found, strict=True)
        }
        return states, others

    def beat(self, keys: Collection[str]) -> None:
        pulses = [self._keys.pulse(self._keys.scan_pk(key)) for key in keys]
        with translated_errors("giving a sign of life"):
            pulses_renewed(self._raw, pulses)

    def lives(self, keys: Sequence[str]) -> dict[str, Life]:
        asked = [("PTTL", self._keys.pulse(self._keys.scan_pk(key))) for key in keys]
        states, ttls = self._states(keys, asked)
        return {
            key: Life(state, silence(ttl) if state is not None and state < CLOSED else None)
            for (key, state), ttl in zip(states.items(), ttls, strict=True)
        }

    def find(self, fields: Mapping[str, Any]) -> tuple[str, list[str]]:
        wanted = criteria(fields, self._fields)
        keys = [
            HISTORY,
            self._keys.index("created"),
            self._keys.expiring,
            *(self._keys.index(name) for name, _, _ in wanted),
        ]
        args: list[Any] = list(self._around_pk)
        for _, how, what in wanted:
            args += (how, what)
        with translated_errors("searching scans"):
            timetag, *found = self._functions.call("bd2_find", keys, args)
        return timetag.decode(), [key.decode() for key in found]

    def timetag(self) -> str:
        with translated_errors("asking for the newest scan"):
            raw = self._raw.execute_command("XREVRANGE", HISTORY, "+", "-", "COUNT", 1)
        return raw[0][0].decode() if raw else "0-0"

    def newest(self) -> Announcement | None:
        with translated_errors("asking for the newest scan"):
            found = self._functions.call(
                "bd2_newest", [self._keys.index("created")], self._around_pk
            )
        return Announcement(found[0].decode(), found[1].decode()) if found else None

    def announced(self, since: str, *, wait: float = 0.0) -> tuple[str, list[Announcement]]:
        found = self._announced(since)
        if wait <= 0 or found[1] or found[0] != since:
            return found
        block = max(1, math.ceil(min(wait, self._max_block) * 1000))
        command = ("XREAD", "COUNT", ANNOUNCED_AT_ONCE, "BLOCK", block, "STREAMS", HISTORY, since)
        with translated_errors("waiting for the next scan"):
            came = self._raw.execute_command(*command)
        if not came:
            return found
        found = self._announced(since)
        if found[1] or found[0] != since:
            return found
        # Scans of another prefix share the history: the next wait begins behind them.
        ((_, entries),) = came.items() if isinstance(came, dict) else came
        return entries[-1][0].decode(), []

    def _announced(self, since: str) -> tuple[str, list[Announcement]]:
        args = [*self._around_pk, since, ANNOUNCED_AT_ONCE]
        with translated_errors("asking for the next scan"):
            last, *found = self._functions.call(
                "bd2_announced", [self._keys.index("created")], args
            )
        texts = [text.decode() for text in found]
        pairs = zip(texts[::2], texts[1::2], strict=True)
        return last.decode(), [Announcement(timetag, key) for timetag, key in pairs]

    # ------------------------------------------------------------------------------ names

    def is_scan_key(self, key: str) -> bool:
        return self._keys.is_scan(key)

    def scan_key(self, pk: str) -> str:
        return self._keys.scan(pk)

    def new_stream(
        self, scan_pk: str, encoding: dict[str, Any], info: dict[str, Any]
    ) -> StreamDocument:
        pk = new_ulid()
        key = self._keys.stream(scan_pk, pk)
        return StreamDocument(pk, encoding, info, key, self._keys.scan(scan_pk))

    def new_state_pk(self, scan_pk: str) -> str:
        return scan_pk

    def keys_of(self, document: ScanDocument) -> list[str]:
        key = self._keys.scan(document.pk)
        streams = [stream.key() for stream in document.streams.values()]
        return [*self._both(key), self._members(key), *streams]

    def _both(self, key: str) -> list[str]:
        return [key, self._keys.state(self._keys.scan_pk(key))]

    def _members(self, key: str) -> str:
        return members_key(key)


def members_key(scan_key: str) -> str:
    """The set that lists the streams of a scan which have begun."""
    prefix, _, tag = scan_key.rpartition(":scan:")
    return f"{prefix}:streams:{tag}"


class PlainBackend(RedisServer):
    """A server in the plain layout."""

    kind = "plain"

    def __init__(self, client: redis.Redis, address: str, why: str, max_block: float) -> None:
        super().__init__(client, address, why, max_block, ACQUISITION, members_key)

    def catalog(
        self, prefix: str, identity_fields: Sequence[str], numbers: Collection[str] = ("number",)
    ) -> PlainCatalog:
        return PlainCatalog(self._raw, self._functions, prefix, identity_fields, self._max_block)

    def initialise(self) -> None:
        with translated_errors("preparing the database"):
            reply = self._functions.call("bd2_initialise", [PROTOCOL], [PLAIN_PROTOCOL])
        if reply != b"OK":
            raise ServerNotEmptyError(
                f"the server already holds {reply.decode()} keys, and only an empty one is prepared. "
                "Open it without init_db=True if it is a blissdata database; use another server or "
                "database otherwise"
            )
        self.pins.prepare()
