"""The plain layout: any Valkey or Redis from 7 on, no modules. Written down in `docs/reference/wire.md`.

Documents are JSON texts, the search index is sorted sets, and every key of a scan carries one hash
tag. What must happen at one instant is a server function.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from blissdata.exceptions import (
    ScanNotFoundError,
    ScanValidationError,
    ServerNotEmptyError,
    UnauthorizeStateTransition,
)
from blissdata.redis_engine.backends.abstract import Announcement, LoadedScan
from blissdata.redis_engine.backends.beats import BEAT_OF_NOBODY, takes_beats
from blissdata.redis_engine.backends.catalog import RedisCatalog
from blissdata.redis_engine.backends.client import translated_errors
from blissdata.redis_engine.backends.event_log import Functions, is_missing_function
from blissdata.redis_engine.backends.packing import packed, packed_with_many
from blissdata.redis_engine.backends.search import Criterion, criteria, index_entries, score
from blissdata.redis_engine.backends.server import (
    CHECKED_AT_ONCE,
    PULSE_TTL_MS,
    RedisServer,
    globbed,
    in_chunks,
    living,
    not_found,
    raise_first,
    silence,
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

FEW = 64
"""So many scans are listed and looked at by one function, in one round trip; more go no detour through
Lua, which takes longer than the round trip that it saves."""

REPEATED = 8
"""What a search found is remembered if it is more than so many scans …"""

REMEMBERED = 4096
"""… and no more than these. Fewer are as quickly looked at anew."""

MOST_SEARCHES = 16
"""Of so many searches it is remembered what they found."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a search found the last time."""

    listed: Sequence[Sequence[bytes]]
    """The members of the index."""

    keys: list[str]
    """Those of the scans that were there."""

    count: bytes
    """The command that asks how many of them are there, packed."""


class PlainCatalog(RedisCatalog):
    """`Catalog` in the plain layout, under one prefix."""

    _keys: PlainKeys

    def __init__(
        self,
        raw: Wire,
        functions: Functions,
        prefix: str,
        identity_fields: Sequence[str],
        max_block: float,
    ) -> None:
        super().__init__(raw, functions, identity_fields, max_block)
        self._keys = PlainKeys(prefix)
        before, after = self._keys.scan("|").split("|")
        self._around_pk = [before, after]
        self._instant: Command = ("FCALL", "bdc3_instant", 2, HISTORY, self._keys.expiring)
        self._found: dict[tuple[Criterion, ...], _Answer] = {}

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
            self._keys.pulse(pk),
            *(self._keys.index(name) for name, _, _ in entries),
        ]
        args: list[Any] = [document.to_json(), pk, HISTORY_LENGTH, PULSE_TTL_MS]
        for _, number, member in entries:
            args += (number, member)
        with translated_errors(f"creating scan {keys[0]}"):
            state_id = self._functions.call("bdc3_create", keys, args)
        return LoadedScan(document, 0, state_id.decode())

    def _ask_for(self, keys: Sequence[str]) -> list[Any]:
        return self._functions.call_many([("bdc3_load", self._both(key), ()) for key in keys])

    def _document(self, key: str, text: bytes) -> ScanDocument:
        pk = self._keys.scan_pk(key)
        return ScanDocument.from_json(key, text, lambda s: self._keys.stream(pk, s))

    def _state_key(self, key: str) -> str:
        return self._keys.state(self._keys.scan_pk(key))

    def advance(
        self,
        key: str,
        from_state: int,
        to_state: int,
        document: ScanDocument,
        *,
        as_stored: bool = False,
    ) -> str:
        pk = self._keys.scan_pk(key)
        keys = [key, self._keys.state(pk), self._keys.states, self._keys.pulse(pk)]
        stored = "" if as_stored else document.to_json()
        args = [int(from_state), int(to_state), stored, os.urandom(8).hex(), pk]
        with translated_errors(f"advancing scan {key}"):
            try:
                word, value = self._functions.call("bdc3_advance", keys, args)
            except (redis.ConnectionError, redis.TimeoutError):
                # The reply may be lost, not the step: the token tells.
                word, value = self._functions.call("bdc3_advance", keys, args)
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
                pass  # its identity is not known; searches skip what is gone
            else:
                entries = index_entries(document.identity, pk)
                keys += [self._keys.states, *(self._keys.index(name) for name, _, _ in entries)]
                args += [pk, *(member for _, _, member in entries)]
        with translated_errors(f"deleting scan {key}"):
            self._functions.call("bdc3_expire", keys, args)

    # ------------------------------------------------------------------------------ many scans

    def expire_many(self, keys: Sequence[str], seconds: int) -> None:
        if seconds <= DELETION_GRACE_S:
            for key in keys:
                self.expire(key, seconds)
            return
        calls = [
            (
                "bdc3_expire",
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
        if not keys:
            return {}
        found: dict[str, int | None] = {}
        with translated_errors(f"asking for the states of {len(keys)} scans"):
            chunks = in_chunks(keys, CHECKED_AT_ONCE)
            replies = self._raw.transactions([self._listed_states(chunk) for chunk in chunks])
            for chunk, done in zip(chunks, replies, strict=True):
                known = self._known_states(chunk, done)
                found |= self._states(chunk)[0] if known is None else known
        return found

    def _listed_states(self, keys: Sequence[str]) -> list[bytes]:
        """What asks for all that `_known_states` wants to know, packed."""
        return [
            packed(self._instant),
            packed_with_many(("ZMSCORE", self._keys.states), self._pks(keys)),
            packed_with_many(("EXISTS",), keys),
        ]

    def _known_states(self, keys: Sequence[str], done: Any) -> dict[str, int | None] | None:
        """The states of scans which are all there, listed, and not about to expire. None if some are not:
        then each must be looked at."""
        if isinstance(done, Exception):
            raise done
        if any(isinstance(reply, Exception) for reply in done):
            return None
        (_, *doomed), scores, there = done
        if there != len(keys) or not set(self._keys_of(doomed)).isdisjoint(keys):
            return None
        try:
            return dict(zip(keys, map(int, scores), strict=True))
        except (TypeError, ValueError):  # one is not listed
            return None

    def _states(
        self, keys: Sequence[str], beside: Sequence[Command] = ()
    ) -> tuple[dict[str, int | None], list[Any]]:
        """The states, each scan being looked at, and the replies to commands that went beside."""
        if not keys:
            return {}, []
        call = (
            "bdc3_states",
            [self._keys.states, *keys],
            [self._keys.stream_prefix, *self._pks(keys)],
        )
        with translated_errors(f"asking for the states of {len(keys)} scans"):
            found, *others = self._functions.call_many([call], beside=beside)
            raise_first([found])
        states = {
            key: None if state < 0 else int(state) for key, state in zip(keys, found, strict=True)
        }
        return states, others

    def lives(self, keys: Sequence[str]) -> dict[str, Life]:
        if not keys:
            return {}
        asked: list[Command] = [("PTTL", self._keys.pulse(self._keys.scan_pk(key))) for key in keys]
        states, (*ttls, beaten) = self._states(keys, [*asked, BEAT_OF_NOBODY])
        heard = takes_beats(beaten)
        return {
            key: Life(
                state, silence(ttl) if heard and state is not None and state < CLOSED else None
            )
            for (key, state), ttl in zip(states.items(), ttls, strict=True)
        }

    def find(self, fields: Mapping[str, Any]) -> tuple[str, list[str]]:
        wanted = tuple(criteria(fields, self._fields))
        with translated_errors("searching scans"):
            if len(wanted) == 1 and (found := self._find_few(wanted)) is not None:
                return found
            if len(wanted) < 2 or not all(how in ("exact", "number") for _, how, _ in wanted):
                return self._find_listed(wanted)
            keys = [HISTORY, self._keys.expiring]
            keys += [self._keys.index(name) for name, _, _ in wanted]
            args: list[Any] = list(self._around_pk)
            for _, how, what in wanted:
                args += (how, what)
            timetag, lines = self._functions.call("bdc3_find", keys, args)
        return timetag.decode(), self._keys_of(lines.split(b"\n") if lines else ())

    def _find_few(self, wanted: tuple[Criterion, ...]) -> tuple[str, list[str]] | None:
        """What fulfils one criterion, if the index lists but a few scans for it. None if they are more, or
        were the last time, or if only a look at the whole index can tell."""
        if wanted in self._found or wanted[0][1] in ("suffix", "infix"):
            return None
        _, index, *which = self._listing(wanted[0])
        keys = [HISTORY, self._keys.expiring, index]
        found = self._functions.call("bdc3_few", keys, [*self._around_pk, FEW, *which])
        if not found:
            return None
        timetag, members = found
        keys = sorted(self._keys_of(_pks_of(wanted[0], members)))
        if len(keys) > REPEATED:
            self._remember(wanted, [members], keys)
        return timetag.decode(), keys.copy()

    def _find_listed(self, wanted: tuple[Criterion, ...]) -> tuple[str, list[str]]:
        """As the index lists them, with no detour through Lua. In the same round trip the server is asked
        whether those are there that were found the last time."""
        before = self._found.get(wanted)
        listings = [self._listing(criterion) for criterion in wanted]
        if not wanted:
            # Those that were deleted are listed as well, but without a state.
            listings = [
                ("ZRANGE", k, 0, -1) for k in (self._keys.index("created"), self._keys.states)
            ]
        asked = [packed(self._instant), *map(packed, listings)]
        if before is not None:
            asked.append(before.count)
        (done,) = self._raw.transactions([asked])
        if isinstance(done, Exception):
            raise done
        if is_missing_function(done[0]):
            self._functions.load()
            return self._find_listed(wanted)
        raise_first(done)
        (timetag, *dying), *listed = done
        known: Sequence[str] = ()
        if before is not None and listed.pop() == len(before.keys):
            known = before.keys
            if listed == before.listed and not dying:
                return timetag.decode(), before.keys.copy()
        doomed = set(self._keys_of(dying))
        keys = sorted(self._keys_of(_fitting_pks(wanted, listed)))
        if not wanted:
            doomed |= set(keys).difference(self._keys_of(listed[1]))
        there = set(known) - doomed
        there.update(living(self._raw, [key for key in keys if key not in there], doomed))
        keys = [key for key in keys if key in there]
        if 0 < len(keys) <= REMEMBERED and doomed.isdisjoint(keys):
            self._remember(wanted, listed, keys)
        return timetag.decode(), keys.copy()

    def _remember(
        self, wanted: tuple[Criterion, ...], listed: Sequence[Sequence[bytes]], keys: list[str]
    ) -> None:
        if len(self._found) >= MOST_SEARCHES:
            self._found = {}
        self._found[wanted] = _Answer(listed, keys, packed_with_many(("EXISTS",), keys))

    def _listing(self, criterion: Criterion) -> Command:
        """What lists the members of the index among which a criterion finds all that it asks for."""
        name, how, what = criterion
        index = self._keys.index(name)
        if how == "number":
            number = f"{score(what):.17g}"
            return ("ZRANGE", index, number, number, "BYSCORE")
        if how in ("suffix", "infix"):
            return ("ZRANGE", index, 0, -1)
        low = b"[" + what.encode() + (b"\0" if how == "exact" else b"")
        return ("ZRANGE", index, low, low + b"\xff", "BYLEX")

    def _keys_of(self, pks: Collection[bytes]) -> list[str]:
        """The scans with these primary keys."""
        if not pks:
            return []
        before, after = self._around_pk
        lines = b"\n".join(pks).decode("latin1").replace("\n", f"{after}\n{before}")
        return f"{before}{lines}{after}".split("\n")

    def _pks(self, keys: Sequence[str]) -> list[str]:
        """The primary keys of scans."""
        start, end = len(self._around_pk[0]), -len(self._around_pk[1])
        return [key[start:end] for key in keys]

    def newest(self, count: int = 1, before: str | None = None) -> list[Announcement]:
        args = [*self._around_pk, before or "", count]
        with translated_errors("asking for the newest scans"):
            found = self._functions.call("bdc3_newest", [self._keys.index("created")], args)
        return _announcements(found)

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
                "bdc3_announced", [self._keys.index("created")], args
            )
        return last.decode(), _announcements(found)

    # ------------------------------------------------------------------------------ names

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
        return [key, self._state_key(key)]

    def _members(self, key: str) -> str:
        return members_key(key)


def _fitting_pks(
    wanted: Sequence[Criterion], listed: Sequence[Sequence[bytes]]
) -> Collection[bytes]:
    """The primary keys of the scans that fulfil all criteria, from what the index lists for each; of all
    scans without any."""
    if not wanted:
        return [member[-PK_LENGTH:] for member in listed[0]]
    pks, *others = map(_pks_of, wanted, listed)
    return set(pks).intersection(*others) if others else pks


def _pks_of(criterion: Criterion, members: Sequence[bytes]) -> list[bytes]:
    """The primary keys of scans, from members of the index: `<text>\\0<pk>`, or the pk alone."""
    _, how, what = criterion
    text = str(what).encode()
    if how == "number":  # one that doubles cannot tell from its neighbours begins the member
        return [m[-PK_LENGTH:] for m in members if m[:-PK_LENGTH] in (b"", text + b"\0")]
    if how == "exact":
        length = len(text) + 1 + PK_LENGTH
        return [m[-PK_LENGTH:] for m in members if len(m) == length]
    end = -PK_LENGTH - 1
    if how == "prefix":
        return [m[-PK_LENGTH:] for m in members if m[:end].startswith(text)]
    if how == "suffix":
        return [m[-PK_LENGTH:] for m in members if m[:end].endswith(text)]
    return [m[-PK_LENGTH:] for m in members if text in m[:end]]


def _announcements(found: Sequence[bytes]) -> list[Announcement]:
    texts = [text.decode() for text in found]
    return [Announcement(*pair) for pair in zip(texts[::2], texts[1::2], strict=True)]


def members_key(scan_key: str) -> str:
    """The set that lists the streams of a scan which have begun."""
    prefix, _, tag = scan_key.rpartition(":scan:")
    return f"{prefix}:streams:{tag}"


class PlainBackend(RedisServer):
    """A server in the plain layout."""

    kind = "plain"

    def __init__(self, client: redis.Redis, address: str, why: str, max_block: float) -> None:
        super().__init__(client, address, why, max_block, ACQUISITION, members_key)
        self._catalog_functions = Functions(self._raw, "blissdata_plain.lua")

    def catalog(
        self, prefix: str, identity_fields: Sequence[str], numbers: Collection[str] = ("number",)
    ) -> PlainCatalog:
        return PlainCatalog(
            self._raw, self._catalog_functions, prefix, identity_fields, self._max_block
        )

    def initialise(self) -> None:
        with translated_errors("preparing the database"):
            self._functions.load()  # a server that is full would not take them any more
            reply = self._catalog_functions.call("bdc3_initialise", [PROTOCOL], [PLAIN_PROTOCOL])
        if reply != b"OK":
            raise ServerNotEmptyError(
                f"the server already holds {reply.decode()} keys, and only an empty one is prepared. "
                "Open it without init_db=True (--init-db) if it is a blissdata database; use another server or "
                "database otherwise"
            )
        self.pins.prepare()
