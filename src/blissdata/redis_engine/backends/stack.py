"""Protocol 1: a server with RedisJSON and RediSearch, shared with deployed blissdata 2.x.

Written down in `docs/reference/wire.md`. Documents are RedisJSON, found through RediSearch. Reading
needs the modules alone. What changes a scan is a server function of ours, which leaves the keys and
entries that 2.x leaves, but only where the scan is in the state that it is said to be in.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import redis

from blissdata.exceptions import (
    ServerNotEmptyError,
    ServerRefusedError,
    UnauthorizeStateTransition,
)
from blissdata.redis_engine.backends.abstract import Announcement, LoadedScan
from blissdata.redis_engine.backends.beats import BEAT_OF_NOBODY, takes_beats
from blissdata.redis_engine.backends.catalog import RedisCatalog
from blissdata.redis_engine.backends.client import translated_errors
from blissdata.redis_engine.backends.event_log import Functions
from blissdata.redis_engine.backends.packing import packed, packed_for_each, packed_with_many
from blissdata.redis_engine.backends.search import Criterion, criteria, matches
from blissdata.redis_engine.backends.server import (
    PULSE_TTL_MS,
    RedisServer,
    are_alive,
    as_mapping,
    in_chunks,
    is_gone,
    not_found,
    raise_first,
    silence,
    state_number,
)
from blissdata.redis_engine.backends.stack_index import ScanIndex, index_text
from blissdata.redis_engine.backends.wire import Command, Wire
from blissdata.redis_engine.documents import ScanDocument, StreamDocument
from blissdata.redis_engine.keys import (
    DELETION_GRACE_S,
    HISTORY,
    HISTORY_LENGTH,
    KEEPER,
    PINS,
    PROTOCOL,
    PULSES,
    STACK_PROTOCOL,
    StackKeys,
    new_ulid,
)
from blissdata.streams.heartbeat import CLOSED, Life

__all__ = ["StackBackend", "StackCatalog"]

logger = logging.getLogger(__name__)

ESRF_PREFIX = "esrf"
"""The prefix whose index every server has: blissdata 2.x searches no other."""

ESRF_FIELDS = (
    "name",
    "number",
    "data_policy",
    "session",
    "proposal",
    "collection",
    "dataset",
    "path",
)

MAX_PREFIX_EXPANSIONS = 2000
"""How many texts a search with `*` of blissdata 2.x may find (RediSearch's default is 200); ours does
not depend on it."""

ANNOUNCED_AT_ONCE = 256
"""How many announcements are looked at in one round trip."""

LOADED_AT_ONCE = 64
"""How many documents are asked for in one transaction: others wait meanwhile."""

FETCHED_AT_ONCE = 1000
"""From how many documents one command asks for a part: others wait meanwhile."""

REMEMBERED = 16384
"""Of how many scans it is remembered which state stream they have, and which state."""

MOST_COMPARED = 150_000
"""Of how many scans it is remembered whether they fit a search, over all searches."""

MOST_SEARCHES = 16
"""Of so many searches it is remembered what they found."""

_INTEGERS = range(-(2**63), 2**64)
"""Those that RedisJSON keeps as they are."""


class StackCatalog(RedisCatalog):
    """`Catalog` of protocol 1, under one prefix."""

    _keys: StackKeys

    def __init__(
        self,
        raw: Wire,
        functions: Functions,
        keys: StackKeys,
        identity_fields: Sequence[str],
        numbers: Collection[str],
        max_block: float,
        database: int,
    ) -> None:
        super().__init__(raw, functions, identity_fields, max_block)
        self._keys = keys
        self._numbers = frozenset(numbers)
        self._state_keys: dict[str, str] = {}
        self._states: dict[str, tuple[int, int | None]] = {}
        self._states_of = 0
        self._compared: dict[tuple[Criterion, ...], dict[str, bool]] = {}
        self._steady: Command = ("FCALL", "bdj3_steady", 3, KEEPER, PULSES, PINS, database)
        self._index = ScanIndex(raw, keys, self._fields, self._numbers, self._steady)
        self._answers: dict[tuple[Criterion, ...], tuple[Sequence[str], list[str]]] = {}
        self._older_scans: tuple[str | None, Sequence[Announcement]] = (None, ())

    # ------------------------------------------------------------------------------ one scan

    def create(self, document: ScanDocument) -> LoadedScan:
        _check_identity(document.identity)
        key, state_key = self.scan_key(document.pk), self._keys.stream(document.state_pk)
        with translated_errors(f"creating scan {key}"):
            self._index.make_sure()
            state_id = self._functions.call(
                "bdj3_create",
                [key, state_key, HISTORY, self._keys.pulse(document.pk), PULSES],
                [document.to_json(), HISTORY_LENGTH, PULSE_TTL_MS],
            )
        self._remember(key, state_key)
        return LoadedScan(document, 0, state_id.decode())

    def _ask_for(self, keys: Sequence[str]) -> list[Any]:
        try:
            replies = self._functions.call_many([self._loading(key) for key in keys])
        except redis.exceptions.ResponseError as error:  # they may not be brought
            logger.debug("bdj3_load: %s", error)
            return self._load_by_commands(keys)
        forbidden = any(_is_forbidden(reply) for reply in replies)
        return self._load_by_commands(keys) if forbidden else replies

    def _loading(self, key: str) -> tuple[str, list[str], list[str]]:
        state_key = self._state_keys.get(key)
        keys = [key] if state_key is None else [key, state_key]
        return "bdj3_load", keys, [self._keys.stream("")]

    def _load_by_commands(self, keys: Sequence[str]) -> list[Any]:
        """The same without our functions, for users who may not call them."""
        state_keys = self._find_state_keys(keys)
        found: list[Any] = []
        for chunk in in_chunks(keys, LOADED_AT_ONCE):
            replies = self._raw.transaction([c for key in chunk for c in _load(key, state_keys)])
            for ttl, text, newest in zip(replies[::3], replies[1::3], replies[2::3], strict=True):
                refused = [r for r in (ttl, text, newest) if isinstance(r, Exception)]
                if refused or is_gone(ttl) or text is None:
                    found.append(refused[0] if refused else [])
                elif not newest:
                    found.append([text])
                else:
                    ident, fields = newest[0]
                    found.append([text, ident, _field(fields, b"state")])
        return found

    def _document(self, key: str, text: bytes) -> ScanDocument:
        document = ScanDocument.from_json(key, text, self._keys.stream)
        self._remember(key, self._keys.stream(document.state_pk))
        return document

    def advance(
        self,
        key: str,
        from_state: int,
        to_state: int,
        document: ScanDocument,
        *,
        as_stored: bool = False,
    ) -> str:
        pulse = self._keys.pulse(self._keys.scan_pk(key))
        args = [int(from_state), int(to_state), "" if as_stored else document.to_json()]
        again = False
        with translated_errors(f"advancing scan {key}"):
            known = self._state_keys.get(key) or self._state_key(key)
            state_key = known or self._keys.stream(document.state_pk)
            keys = [key, state_key, pulse, PULSES]
            try:
                word, value = self._functions.call("bdj3_advance", keys, args)
            except (redis.ConnectionError, redis.TimeoutError):
                again = True
                word, value = self._functions.call("bdj3_advance", keys, args)
        if word == b"VANISHED":
            self._expire_unlisted(document)
            raise not_found(key)
        if word == b"CONFLICT":
            # The reply may have been lost, not the step: then all is as it would be now.
            if again and value == str(args[1]).encode():
                loaded = self.load(key)
                if loaded.state == to_state and _same_on_server(loaded.document, document):
                    return loaded.state_id
            raise UnauthorizeStateTransition(
                value.decode(),
                str(to_state),
                f"somebody else moved scan {key}, this publisher had left it in state {from_state}",
            )
        text: str = value.decode()
        return text

    def _expire_unlisted(self, document: ScanDocument) -> None:
        """Streams may begin before the document on the server lists them; whoever deleted the scan
        meanwhile did not know of them."""
        keys = [stream.key() for stream in document.streams.values()]
        with translated_errors("deleting streams"):
            self._raw.execute([("EXPIRE", key, DELETION_GRACE_S, "LT") for key in keys])

    def expire(self, key: str, seconds: int) -> None:
        with translated_errors(f"deleting scan {key}"):
            self._functions.call("bdj3_expire", [key], [seconds, self._keys.stream("")])

    def expire_many(self, keys: Sequence[str], seconds: int) -> None:
        calls = [("bdj3_expire", [key], [seconds, self._keys.stream("")]) for key in keys]
        with translated_errors(f"letting {len(keys)} scans expire"):
            raise_first(self._functions.call_many(calls))

    def sweep(self) -> int:
        return 0  # RediSearch forgets what has expired

    # ------------------------------------------------------------------------------ state streams

    def _state_key(self, key: str) -> str | None:
        """The key of a scan's state stream, which only its document tells; None if it does not."""
        return self._find_state_keys([key]).get(key)

    def _remember(self, key: str, state_key: str) -> None:
        if len(self._state_keys) >= REMEMBERED:
            self._state_keys.clear()
        self._state_keys[key] = state_key

    def _find_state_keys(self, keys: Iterable[str]) -> dict[str, str]:
        """The same for many scans; those that are gone are left out."""
        known = {key: self._state_keys.get(key) for key in keys}
        missing = [key for key, state_key in known.items() if state_key is None]
        if missing:
            found = self._fetch(missing, "state_stream.pk")
            for key, pk in zip(missing, found, strict=True):
                if isinstance(pk, str):
                    known[key] = state_key = self._keys.stream(pk)
                    self._remember(key, state_key)
        return {key: state_key for key, state_key in known.items() if state_key is not None}

    # ------------------------------------------------------------------------------ many scans

    def states(self, keys: Sequence[str]) -> dict[str, int | None]:
        if not keys:
            return {}
        found: dict[str, int | None] = dict.fromkeys(keys)
        with translated_errors(f"asking for the states of {len(keys)} scans"):
            state_keys = self._find_state_keys(found)
            scans, streams = list(state_keys), list(state_keys.values())
            connected = self._raw.connected
            steady, there, *lengths = self._raw.execute_packed(
                packed(self._steady)
                + packed_with_many(("EXISTS",), scans or [""])
                + packed_for_each(("XLEN",), streams, ()),
                2 + len(streams),
            )
            if self._raw.connected != self._states_of:
                # The server may be another one, or have been restarted from an older state.
                self._states, self._states_of = {}, connected
            everyone = steady == 1 and there == len(scans)
            alive = [True] * len(scans) if everyone else are_alive(self._raw, scans)
            known = self._states
            newer = {
                key: stream
                for key, stream, length in zip(scans, streams, lengths, strict=True)
                if known.get(stream, _NOT_KNOWN)[0] != length
            }
            seen = self._look_at_states(newer) if newer else {}
        for key, stream, is_alive in zip(scans, streams, alive, strict=True):
            if is_alive:
                found[key] = (seen.get(stream) or known.get(stream, _NOT_KNOWN))[1]
        return found

    def _look_at_states(self, streams: Mapping[str, str]) -> dict[str, tuple[int, int | None]]:
        """For the state stream of each of these scans how many steps it holds, and the newest state; they
        are remembered: as long as a stream holds no more, that is its state."""
        names = list(streams.values())
        replies = self._raw.execute_packed(
            packed_for_each(("XLEN",), names, ())
            + packed_for_each(("XREVRANGE",), names, ("+", "-", "COUNT", "1")),
            2 * len(names),
        )
        lengths, newest = replies[: len(names)], replies[len(names) :]
        found: dict[str, tuple[int, int | None]] = {}
        for (key, stream), length, entries in zip(streams.items(), lengths, newest, strict=True):
            # Another type where the state stream should be costs no other scan its state.
            there = entries and not isinstance(entries, Exception)
            found[stream] = (length, _state(key, entries[0][1]) if there else None)
        if len(self._states) + len(found) > REMEMBERED:
            self._states = {}
        if len(found) <= REMEMBERED:
            self._states.update(found)
        return found

    def lives(self, keys: Sequence[str]) -> dict[str, Life]:
        if not keys:
            return {}
        found = dict.fromkeys(keys, Life(None, None))
        with translated_errors(f"asking for signs of life of {len(keys)} scans"):
            state_keys = self._find_state_keys(found)
            commands: list[Command] = []
            for key, state_key in state_keys.items():
                pulse = self._keys.pulse(self._keys.scan_pk(key))
                commands += [("PTTL", key), _newest_of(state_key), ("PTTL", pulse)]
            *replies, beaten = self._raw.execute([*commands, BEAT_OF_NOBODY])
        heard = takes_beats(beaten)
        asked = zip(state_keys, replies[::3], replies[1::3], replies[2::3], strict=True)
        for key, ttl, newest, pttl in asked:
            if not is_gone(ttl) and newest and not isinstance(newest, Exception):
                state = _state(key, newest[0][1])
                found[key] = Life(state, silence(pttl) if heard and state < CLOSED else None)
        return found

    def find(self, fields: Mapping[str, Any]) -> tuple[str, list[str]]:
        wanted = tuple(criteria(fields, self._fields))
        with translated_errors("searching scans"):
            found = self._index.search(wanted)
            keys, fitting = self._answers.get(wanted, (None, []))
            if found.steady and keys is found.keys:
                return found.timetag, fitting.copy()
            keys = found.keys
            if not found.steady:
                alive = are_alive(self._raw, keys)
                keys = [key for key, is_alive in zip(keys, alive, strict=True) if is_alive]
            fitting = keys if found.exact else self._fitting(keys, wanted)
            if found.steady:
                if len(self._answers) >= MOST_SEARCHES:
                    self._answers = {}
                self._answers[wanted] = (keys, fitting)
        return found.timetag, fitting.copy()

    def _fitting(self, keys: list[str], wanted: tuple[Criterion, ...]) -> list[str]:
        """Those of the scans that are what was asked for. Who a scan is never changes, so only those are
        asked for that were not compared before."""
        compared = self._compared.get(wanted, {})
        missing = [key for key in keys if key not in compared]
        if missing:
            compared |= zip(missing, self._compare(missing, wanted), strict=True)
            self._compared[wanted] = compared
            if sum(map(len, self._compared.values())) > MOST_COMPARED:
                self._compared = {wanted: compared} if len(compared) <= MOST_COMPARED else {}
        return [key for key in keys if compared[key]]

    def _compare(self, keys: Sequence[str], wanted: Sequence[Criterion]) -> list[bool]:
        """For each scan whether it is what was asked for, by what its document says."""
        (name, _, _), *others = wanted
        if others or not name.isascii():
            found = self._fetch(keys, "id")
            return [matches(i if isinstance(i, dict) else {}, wanted) for i in found]
        values = self._fetch(keys, f"id.{name}")
        fits = {v: matches({name: v}, wanted) for v in values if isinstance(v, str)}  # few
        return [fits[v] if isinstance(v, str) else matches({name: v}, wanted) for v in values]

    def _fetch(self, keys: Sequence[str], path: str) -> list[Any]:
        """One part of each document; None where there is none. One round trip."""
        chunks = in_chunks(keys, FETCHED_AT_ONCE)
        replies = self._raw.execute([("JSON.MGET", *chunk, path) for chunk in chunks])
        raise_first(replies)
        texts = [b"null" if text is None else text for reply in replies for text in reply]
        found: list[Any] = json.loads(b"[" + b",".join(texts) + b"]")
        return found

    def newest(self, count: int = 1, before: str | None = None) -> list[Announcement]:
        found: list[Announcement] = []
        last = "+" if before is None else f"({before}"
        with translated_errors("asking for the newest scans"):
            while len(found) < count:
                looked_at = max(count - len(found), ANNOUNCED_AT_ONCE)
                raw = self._raw.execute_command("XREVRANGE", HISTORY, last, "-", "COUNT", looked_at)
                if not raw:
                    found += self._newest_older(count - len(found), before)
                    break
                found += self._alive([a for item in raw if (a := self._announcement(item))])
                last = f"({raw[-1][0].decode()}"
        return found[:count]

    def _newest_older(self, count: int, before: str | None) -> list[Announcement]:
        """The newest of the scans that the history does not hold any more."""
        older = self._older()
        end = len(older) if before is None else bisect_left(older, _parts(before), key=_order)
        found: list[Announcement] = []
        while end > 0 and len(found) < count:
            start = max(0, end - max(count, ANNOUNCED_AT_ONCE))
            found += self._alive(older[start:end][::-1])
            end = start
        return found[:count]

    def announced(self, since: str, *, wait: float = 0.0) -> tuple[str, list[Announcement]]:
        with translated_errors("asking for the next scan"):
            found = self._announced(since)
        if wait <= 0 or found[1] or found[0] != since:
            return found
        block = max(1, math.ceil(min(wait, self._max_block) * 1000))
        command = ("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", HISTORY, since)
        with translated_errors("waiting for the next scan"):
            if not self._raw.execute_command(*command):
                return found
            return self._announced(since)

    def _announced(self, since: str) -> tuple[str, list[Announcement]]:
        first, raw = self._raw.execute(
            [
                ("XRANGE", HISTORY, "-", "+", "COUNT", 1),
                ("XRANGE", HISTORY, f"({since}", "+", "COUNT", ANNOUNCED_AT_ONCE),
            ],
        )
        for reply in (first, raw):
            if isinstance(reply, Exception):
                raise reply
        upto, some = since, list[Announcement]()
        if first and _parts(since) < _parts(first[0][0].decode()):
            older = self._older()
            start = bisect_right(older, _parts(since), key=_order)
            some = list(older[start : start + ANNOUNCED_AT_ONCE])
            if some:
                upto = some[-1].timetag
        if len(some) < ANNOUNCED_AT_ONCE:
            some += [found for item in raw if (found := self._announcement(item))]
            upto = raw[-1][0].decode() if raw else upto
        return upto, self._alive(some)

    def _announcement(self, item: Any) -> Announcement | None:
        """From an entry of the history; None for a scan of another prefix."""
        ident, fields = item
        key = dict(zip(fields[::2], fields[1::2], strict=True)).get(b"key", b"").decode()
        return Announcement(ident.decode(), key) if self.is_scan_key(key) else None

    def _alive(self, announcements: Sequence[Announcement]) -> list[Announcement]:
        alive = are_alive(self._raw, [a.key for a in announcements])
        return [a for a, is_alive in zip(announcements, alive, strict=True) if is_alive]

    def _older(self) -> Sequence[Announcement]:
        """The scans that the history does not hold any more, deleted or not: by the time of their first
        state, on the same clock and in the same transaction as their entry was. Costs time for each scan
        there is, but only where the history has lost its oldest entries since.

        Their timetags are below the history's, in order of creation. Where some share a millisecond, one
        may be announced twice to a reader that stands between them, but none is passed over."""
        first = self._raw.execute_command("XRANGE", HISTORY, "-", "+", "COUNT", 1)
        begin = first[0][0].decode() if first else None
        known_begin, older = self._older_scans
        if begin is None or begin != known_begin:
            older = self._find_older()
            self._older_scans = (begin, older)
        return older

    def _find_older(self) -> Sequence[Announcement]:
        history = self._raw.execute_command("XRANGE", HISTORY, "-", "+")
        known = {a.key for item in history if (a := self._announcement(item))}
        found = self._index.search(()).keys
        state_keys = self._find_state_keys(sorted(set(found) - known))
        streams = list(state_keys.values())
        firsts = self._raw.execute_packed(
            packed_for_each(("XRANGE",), streams, ("-", "+", "COUNT", "1")), len(streams)
        )
        limit = _parts(history[0][0].decode()) if history else (2**62, 2**62)
        created = sorted(
            (min(_parts(steps[0][0].decode())[0], limit[0]), key)
            for key, steps in zip(state_keys, firsts, strict=True)
            if steps and not isinstance(steps, Exception)
        )
        older: list[Announcement] = []
        for ms, group in itertools.groupby(created, lambda pair: pair[0]):
            keys = [key for _, key in group]
            top = limit[1] if ms == limit[0] else 2**32
            first_n = max(top - len(keys), 0)
            older += [Announcement(f"{ms}-{n}", key) for n, key in enumerate(keys, first_n)]
        return older

    # ------------------------------------------------------------------------------ names

    def new_stream(
        self, scan_pk: str, encoding: dict[str, Any], info: dict[str, Any]
    ) -> StreamDocument:
        pk = new_ulid()
        return StreamDocument(pk, encoding, info, self._keys.stream(pk), self.scan_key(scan_pk))

    def new_state_pk(self, scan_pk: str) -> str:
        return new_ulid()

    def keys_of(self, document: ScanDocument) -> list[str]:
        streams = [stream.key() for stream in document.streams.values()]
        return [self._keys.scan(document.pk), self._keys.stream(document.state_pk), *streams]


# ---------------------------------------------------------------------------------- documents


def _check_identity(identity: Mapping[str, Any]) -> None:
    """Raises `ValueError` for an integer that would become another number on the server."""
    for name, value in identity.items():
        if isinstance(value, int) and value not in _INTEGERS:
            raise ValueError(
                f"The {name} of a scan cannot be {str(value)[:40]}: on this server (protocol 1) "
                "integers go from -2**63 to 2**64 - 1"
            )


def _same_on_server(found: ScanDocument, sent: ScanDocument) -> bool:
    """True if a document is what the server makes of another."""
    return bool(_kept(json.loads(found.to_json())) == _kept(json.loads(sent.to_json())))


def _kept(value: Any) -> Any:
    """A value as RedisJSON keeps it: integers beyond 64 bits become floats."""
    if isinstance(value, dict):
        return {key: _kept(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_kept(v) for v in value]
    if isinstance(value, int) and value not in _INTEGERS:
        return float(value)
    return value


# ---------------------------------------------------------------------------------- replies


def _field(fields: Sequence[bytes], name: bytes) -> bytes:
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(name, b"")


def _state(key: str, fields: Sequence[bytes]) -> int:
    usual = _USUAL_STATES.get(fields[1]) if fields[0] == b"state" else None
    return state_number(key, _field(fields, b"state")) if usual is None else usual


_NOT_KNOWN = (-1, None)

_USUAL_STATES = {b"%d" % n: n for n in range(CLOSED + 1)}


def _is_forbidden(reply: Any) -> bool:
    """True for what a server says to those who may not call functions."""
    return isinstance(reply, Exception) and str(reply).startswith("NOPERM")


def _load(key: str, state_keys: Mapping[str, str]) -> list[Command]:
    """What asks for one scan; where its document tells of no state stream, that alone is asked for."""
    state_key = state_keys.get(key)
    newest: Command = ("ECHO", "") if state_key is None else _newest_of(state_key)
    return [("PTTL", key), ("JSON.GET", key, "."), newest]


def _newest_of(stream: str) -> Command:
    return ("XREVRANGE", stream, "+", "-", "COUNT", 1)


def _order(announcement: Announcement) -> tuple[int, int]:
    return _parts(announcement.timetag)


def _parts(timetag: str) -> tuple[int, int]:
    ms, _, n = timetag.partition("-")
    return int(ms), int(n or 0)


# ---------------------------------------------------------------------------------- the backend


class StackBackend(RedisServer):
    """A server of protocol 1."""

    kind = "stack"
    complete_records = (
        True  # as protocol 1 has them: a tracker of blissdata 2.x may go on with them
    )

    def __init__(self, client: redis.Redis, address: str, why: str, max_block: float) -> None:
        super().__init__(client, address, why, max_block, acquisition_prefix="")
        self._json_functions = Functions(self._raw, "blissdata_json.lua")
        self._seal_of_2x = Functions(self._raw, "mylib.lua")

    def catalog(
        self, prefix: str, identity_fields: Sequence[str], numbers: Collection[str] = ("number",)
    ) -> StackCatalog:
        keys = StackKeys(prefix)
        return StackCatalog(
            self._raw,
            self._json_functions,
            keys,
            identity_fields,
            numbers,
            self._max_block,
            self._client.connection_pool.connection_kwargs.get("db") or 0,
        )

    def initialise(self) -> None:
        keys = StackKeys(ESRF_PREFIX)
        text = index_text(keys, ESRF_FIELDS, {"number"})
        ours = {
            PROTOCOL: str(STACK_PROTOCOL),
            keys.index_schema: text,
            keys.index_hash: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(),
        }
        with translated_errors("preparing the database"):
            size, there = self._raw.execute([("DBSIZE",), ("EXISTS", *ours)])
            for reply in (size, there):
                if isinstance(reply, Exception):
                    raise reply
            if size > there:
                raise _not_empty(size)
            ScanIndex(self._raw, keys, ESRF_FIELDS, {"number"}).make_sure()
            self._raise_expansions()
            self._seal_of_2x.load()
            reply = self._json_functions.call("bdj3_initialise", list(ours), list(ours.values()))
        if reply != b"OK":
            raise _not_empty(reply.decode())

    def flush(self) -> None:
        # SYNC: RedisJSON's documents must not be freed by a thread, as Valkey does by default.
        with translated_errors("emptying the database"):
            self._raw.execute_command("FLUSHALL", "SYNC")

    def _raise_expansions(self) -> None:
        commands = (
            ("CONFIG", "SET", "search-max-prefix-expansions", MAX_PREFIX_EXPANSIONS),
            ("FT.CONFIG", "SET", "MAXPREFIXEXPANSIONS", MAX_PREFIX_EXPANSIONS),
        )
        for command in commands:
            try:
                self._raw.execute_command(*command)
            except redis.exceptions.ResponseError as error:
                refused = error
            else:
                return
        logger.warning("Searches of blissdata 2.x with a '*' may miss scans: %s", refused)

    def bring_functions(self) -> None:
        """Brings the server the functions that it lacks: the one that blissdata 2.x seals with, and
        ours, which a server that is full would not take any more. A refusal is no error: reading
        needs none of them."""
        try:
            with translated_errors("bringing functions to the server"):
                libraries = self._raw.execute_command("FUNCTION", "LIST")
                names = {as_mapping(library)[b"library_name"].decode() for library in libraries}
                ours = (self._json_functions, self._functions, self._pins.functions)
                for functions in (self._seal_of_2x, *ours):
                    if functions.name() not in names:
                        functions.load()
        except ServerRefusedError as error:
            logger.debug("%s", error)


def _not_empty(size: int | str) -> ServerNotEmptyError:
    return ServerNotEmptyError(
        f"the server already holds {size} keys, and only an empty one is prepared. "
        "Open it without init_db=True (--init-db) if it is a blissdata database; use another server otherwise"
    )
