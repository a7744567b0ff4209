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
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import redis

from blissdata.exceptions import (
    ScanLoadError,
    ScanValidationError,
    ServerNotEmptyError,
    ServerRefusedError,
    UnauthorizeStateTransition,
)
from blissdata.redis_engine.backends.abstract import Announcement, LoadedScan, Step
from blissdata.redis_engine.backends.client import translated_errors
from blissdata.redis_engine.backends.event_log import Functions
from blissdata.redis_engine.backends.search import criteria, matches
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
    DELETION_GRACE_S,
    HISTORY,
    HISTORY_LENGTH,
    PROTOCOL,
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

USUAL_RESULTS = 10_000
"""The index sets memory aside for as many results as it may give: only who needs more asks for all."""

ALL_RESULTS = 1_000_000
"""More than RediSearch gives unless it is told otherwise; `find` notices if some are missing."""

ANNOUNCED_AT_ONCE = 256
"""How many announcements are looked at in one round trip."""

LONGEST_TAG = 1000
"""Longer texts are not searched for through the index: RediSearch cuts long tags [characters]."""

LOADED_AT_ONCE = 64
"""How many documents are asked for in one transaction: others wait meanwhile."""

MAX_SPELLINGS = 16
"""Texts with more spellings than this are not searched for through the index."""

REMEMBERED = 4096
"""Of how many scans state stream and identity are remembered."""

INDEX_TRUST_S = 2.0
"""How long an index that was found whole is taken to be whole [s]: asking costs more than a search."""

_ALIVE = ord("1")

_DELETION_GRACE_MS = DELETION_GRACE_S * 1000

_INTEGERS = range(-(2**63), 2**64)
"""Those that RedisJSON keeps as they are."""


class StackCatalog:
    """`Catalog` of protocol 1, under one prefix."""

    def __init__(
        self,
        raw: Wire,
        functions: Functions,
        keys: StackKeys,
        identity_fields: Sequence[str],
        numbers: Collection[str],
        max_block: float,
    ) -> None:
        self._raw = raw
        self._functions = functions
        self._keys = keys
        self._fields = tuple(identity_fields)
        self._numbers = frozenset(numbers)
        self._max_block = max_block
        self._state_keys: dict[str, str] = {}
        self._identities: dict[str, dict[str, Any]] = {}
        self._index_info: Mapping[bytes, Any] | None = None
        self._index_trusted_until = 0.0
        self._index_is_there = False

    # ------------------------------------------------------------------------------ one scan

    def create(self, document: ScanDocument) -> LoadedScan:
        _check_identity(document.identity)
        key, state_key = self.scan_key(document.pk), self._keys.stream(document.state_pk)
        with translated_errors(f"creating scan {key}"):
            if not self._index_is_there:
                create_index(self._raw, self._keys, self._fields, self._numbers)
                self._index_is_there = True
            state_id = self._functions.call(
                "bdj1_create",
                [key, state_key, HISTORY],
                [document.to_json(), HISTORY_LENGTH],
                beside=[pulse_begun(self._keys.pulse(document.pk))],
            )
        self._remember(key, state_key)
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
            state_keys = self._find_state_keys(wanted)
            chunks = [
                wanted[start : start + LOADED_AT_ONCE]
                for start in range(0, len(wanted), LOADED_AT_ONCE)
            ]
            asked = [[c for key in chunk for c in _load(key, state_keys)] for chunk in chunks]
            replies = iter(self._transactions(asked))
            for key in wanted:
                try:
                    found[key] = self._loaded(key, [next(replies) for _ in range(3)])
                except ScanLoadError as error:
                    found[key] = error
        return found

    def _loaded(self, key: str, replies: Sequence[Any]) -> LoadedScan:
        """The scan in the replies. Raises what is in there, if it is another error than of this
        scan alone."""
        for reply in replies:
            _raise_unless_readable(key, reply)
        ttl, text, newest = replies
        if _is_gone(ttl) or text is None:
            raise not_found(key)
        document = ScanDocument.from_json(key, text, self._keys.stream)
        if not newest:
            raise ScanValidationError(f"{key} is not a scan: it has no state stream")
        ident, fields = newest[0]
        return LoadedScan(document, _state(key, fields), ident.decode())

    def advance(self, key: str, from_state: int, to_state: int, document: ScanDocument) -> str:
        args = [int(from_state), int(to_state), document.to_json()]
        again = False
        pulse = self._keys.pulse(self._keys.scan_pk(key))
        over: list[Command] = [("DEL", pulse)] if to_state == CLOSED else []
        with translated_errors(f"advancing scan {key}"):
            keys = [key, self._find_state_key(key) or self._keys.stream(document.state_pk)]
            try:
                word, value = self._functions.call("bdj1_advance", keys, args, beside=over)
            except (redis.ConnectionError, redis.TimeoutError):
                again = True
                word, value = self._functions.call("bdj1_advance", keys, args, beside=over)
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

    def wait_state(self, key: str, state_id: str, wait: float) -> bool:
        block = max(1, math.ceil(min(wait, self._max_block) * 1000))
        blocking = ("BLOCK", block) if wait > 0 else ()
        with translated_errors(f"waiting for scan {key}"):
            state_key = self._find_state_key(key)
            if state_key is None:
                raise not_found(key)
            command = ("XREAD", "COUNT", 1, *blocking, "STREAMS", state_key, state_id)
            return bool(self._raw.execute_command(*command))

    def steps(self, key: str) -> list[Step]:
        with translated_errors(f"asking for the steps of scan {key}"):
            state_key = self._find_state_key(key)
            found = state_key and self._raw.execute_command("XRANGE", state_key, "-", "+")
        if not found:
            raise not_found(key)
        return [step_from(key, item) for item in found]

    def expire(self, key: str, seconds: int) -> None:
        with translated_errors(f"deleting scan {key}"):
            self._functions.call("bdj1_expire", [key], [seconds, self._keys.stream("")])

    def expire_many(self, keys: Sequence[str], seconds: int) -> None:
        calls = [("bdj1_expire", [key], [seconds, self._keys.stream("")]) for key in keys]
        with translated_errors(f"letting {len(keys)} scans expire"):
            raise_first(self._functions.call_many(calls))

    def sweep(self) -> int:
        return 0  # RediSearch forgets what has expired

    # ------------------------------------------------------------------------------ state streams

    def _find_state_key(self, key: str) -> str | None:
        """The key of a scan's state stream, which only its document tells; None if it does not."""
        return self._find_state_keys([key]).get(key)

    def _state_key_from(self, key: str, text: bytes | None) -> str | None:
        pk = None if text is None else json.loads(text)
        if not isinstance(pk, str):
            return None
        state_key = self._keys.stream(pk)
        self._remember(key, state_key)
        return state_key

    def _remember(self, key: str, state_key: str) -> None:
        if len(self._state_keys) >= REMEMBERED:
            self._state_keys.clear()
        self._state_keys[key] = state_key

    def _find_state_keys(self, keys: Iterable[str]) -> dict[str, str]:
        """The same for many scans; those that are gone are left out."""
        known = {key: self._state_keys.get(key) for key in keys}
        missing = [key for key, state_key in known.items() if state_key is None]
        if missing:
            found = self._raw.execute_command("JSON.MGET", *missing, "state_stream.pk")
            for key, text in zip(missing, found, strict=True):
                known[key] = self._state_key_from(key, text)
        return {key: state_key for key, state_key in known.items() if state_key is not None}

    # ------------------------------------------------------------------------------ many scans

    def states(self, keys: Sequence[str]) -> dict[str, int | None]:
        if not keys:
            return {}
        found: dict[str, int | None] = dict.fromkeys(keys)
        with translated_errors(f"asking for the states of {len(keys)} scans"):
            state_keys = self._find_state_keys(found)
            replies = self._raw.execute([_newest_of(state) for state in state_keys.values()])
            alive = self._are_alive(list(state_keys))
        for key, is_alive, newest in zip(state_keys, alive, replies, strict=True):
            # Another type where the state stream should be costs no other scan its state.
            if is_alive and newest and not isinstance(newest, Exception):
                found[key] = _state(key, newest[0][1])
        return found

    def beat(self, keys: Collection[str]) -> None:
        pulses = [self._keys.pulse(self._keys.scan_pk(key)) for key in keys]
        with translated_errors("giving a sign of life"):
            pulses_renewed(self._raw, pulses)

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
            replies = self._raw.execute(commands)
        asked = zip(state_keys, replies[::3], replies[1::3], replies[2::3], strict=True)
        for key, ttl, newest, pttl in asked:
            if not _is_gone(ttl) and newest and not isinstance(newest, Exception):
                state = _state(key, newest[0][1])
                found[key] = Life(state, silence(pttl) if state < CLOSED else None)
        return found

    def _are_alive(self, keys: Sequence[str]) -> list[bool]:
        """For each scan whether it is there, and does not count as deleted. Asked of a server
        function where there is one: it takes a tenth of the time of as many commands."""
        if not keys:
            return []
        try:
            return [found == _ALIVE for found in self._functions.call("bdj1_alive", keys)]
        except redis.exceptions.ResponseError as error:  # it may not be called, or not be brought
            logger.debug("bdj1_alive: %s", error)
        return [not _is_gone(ttl) for ttl in self._raw.execute([("PTTL", key) for key in keys])]

    def find(self, fields: Mapping[str, Any]) -> tuple[str, list[str]]:
        wanted = criteria(fields, self._fields)
        query = " ".join(_narrowing(wanted, self._numbers)) or "*"
        with translated_errors("searching scans"):
            timetag, keys = self._search(query)
            if wanted:
                found = self._find_identities(keys)
                keys = [key for key in keys if matches(found.get(key, {}), wanted)]
            alive = self._are_alive(keys)
        return timetag, sorted(key for key, is_alive in zip(keys, alive, strict=True) if is_alive)

    def _find_identities(self, keys: Sequence[str]) -> Mapping[str, dict[str, Any]]:
        """Who these scans are. That never changes, so only those are asked for that are new."""
        missing = [key for key in keys if key not in self._identities]
        if len(missing) + len(self._identities) > REMEMBERED:
            self._identities.clear()
            missing = list(keys)
            if len(missing) > REMEMBERED:
                return self._fetch_identities(missing)
        if missing:
            self._identities.update(self._fetch_identities(missing))
        return self._identities

    def _search(self, query: str, *, whole: bool = False) -> tuple[str, list[str]]:
        """The newest timetag, and the keys of the scans that the index finds, at one instant; of all
        scans where there is no index, or not a complete one."""
        limit = ALL_RESULTS if whole else USUAL_RESULTS
        how = ("NOCONTENT", "DIALECT", 2, "LIMIT", 0, limit, "TIMEOUT", 0)
        commands: list[Command] = [
            _newest_of(HISTORY),
            ("FT.SEARCH", self._keys.index, query, *how),
        ]
        info: Any = self._index_info if time.monotonic() < self._index_trusted_until else None
        if info is None:
            commands.append(("FT.INFO", self._keys.index))
        history, reply, *asked = self._raw.transaction(commands)
        if isinstance(history, Exception):
            raise history
        timetag = history[0][0].decode() if history else "0-0"
        if asked:
            (info,) = asked
            self._index_trusted_until = 0.0
            if isinstance(info, Exception):
                if not _is_missing_index(info):
                    raise info
                logger.debug("%s is missing: all keys are looked at", self._keys.index)
                return timetag, self._scan_all()
            self._index_info = info = _as_mapping(info)
        if isinstance(reply, Exception):  # of an index that others made from other fields
            logger.debug("%s cannot be searched (%s)", self._keys.index, reply)
            self._index_trusted_until = 0.0
            return timetag, self._scan_all()
        total, found = _search_results(reply)
        if total > len(found) == USUAL_RESULTS and not whole:
            return self._search(query, whole=True)
        if total > len(found) or not self._is_complete(info, query):
            return timetag, self._scan_all()
        if asked:
            self._index_trusted_until = time.monotonic() + INDEX_TRUST_S
        return timetag, found

    def _is_complete(self, info: Mapping[bytes, Any], query: str) -> bool:
        """False while the index is being made, for ever once it could not take a document, and where
        others made it without a field of the query, by which it would find nothing."""
        if int(info.get(b"indexing", 0)) or int(info.get(b"hash_indexing_failures", 0)):
            return False
        attributes = [_as_mapping(_pairs(found)) for found in info[b"attributes"]]
        there = {(found[b"attribute"].decode(), found[b"type"].decode()) for found in attributes}
        asked = set(re.findall(r"(?<!\\)@(\w+):", query))
        known = index_fields(self._fields, self._numbers)
        return there.issuperset((name, kind) for _, name, kind in known if name in asked)

    def _scan_all(self) -> list[str]:
        """The keys of all scans, without the index."""
        keys: set[str] = set()
        cursor = b"0"
        while True:
            cursor, some = self._raw.execute_command(
                "SCAN", cursor, "MATCH", f"{globbed(self._keys.scan_prefix)}*", "COUNT", 1000,
                "TYPE", "ReJSON-RL",
            )  # fmt: skip
            keys.update(key.decode() for key in some)
            if int(cursor) == 0:
                return sorted(keys)

    def _fetch_identities(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Who these scans are, from their documents."""
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(keys), 1000):
            chunk = keys[start : start + 1000]
            texts = self._raw.execute_command("JSON.MGET", *chunk, "id")
            found |= {k: _identity(text) for k, text in zip(chunk, texts, strict=True) if text}
        return found

    def timetag(self) -> str:
        with translated_errors("asking for the newest scan"):
            raw = self._raw.execute_command(*_newest_of(HISTORY))
        return raw[0][0].decode() if raw else "0-0"

    def newest(self) -> Announcement | None:
        last = "+"
        with translated_errors("asking for the newest scan"):
            while True:
                raw = self._raw.execute_command(
                    "XREVRANGE", HISTORY, last, "-", "COUNT", ANNOUNCED_AT_ONCE
                )
                if not raw:
                    older = self._alive(self._older())
                    return older[-1] if older else None
                some = [found for item in raw if (found := self._announcement(item))]
                if living := self._alive(some):
                    return living[0]
                last = f"({raw[-1][0].decode()}"

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
        upto, some = since, []
        if first and _parts(since) < _parts(first[0][0].decode()):
            older = [a for a in self._older() if _parts(a.timetag) > _parts(since)]
            some = older[:ANNOUNCED_AT_ONCE]
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
        ttls = self._raw.execute([("PTTL", a.key) for a in announcements])
        return [a for a, ttl in zip(announcements, ttls, strict=True) if not _is_gone(ttl)]

    def _older(self) -> list[Announcement]:
        """The scans that the history does not hold any more: by the time of their first state, on
        the same clock and in the same transaction as their entry was.

        Their timetags are below the history's, in order of creation. Where some share a millisecond, one
        may be announced twice to a reader that stands between them, but none is passed over."""
        history = self._raw.execute_command("XRANGE", HISTORY, "-", "+")
        known = {a.key for item in history if (a := self._announcement(item))}
        _, found = self._search("*")
        state_keys = self._find_state_keys(sorted(set(found) - known))
        firsts = self._raw.execute(
            [("XRANGE", state, "-", "+", "COUNT", 1) for state in state_keys.values()]
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

    def is_scan_key(self, key: str) -> bool:
        return self._keys.is_scan(key)

    def scan_key(self, pk: str) -> str:
        return self._keys.scan(pk)

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

    # ------------------------------------------------------------------------------ commands

    def _transactions(self, groups: Sequence[Sequence[Command]]) -> list[Any]:
        """Groups of commands, each group at one instant, all in one round trip; a refused command is
        an exception in its place."""
        commands = [c for group in groups for c in (("MULTI",), *group, ("EXEC",))]
        replies = iter(self._raw.execute(commands))
        found: list[Any] = []
        for group in groups:
            done = [next(replies) for _ in range(len(group) + 2)][-1]
            found += [done] * len(group) if isinstance(done, Exception) else done
        return found


# ---------------------------------------------------------------------------------- the index


def index_fields(fields: Sequence[str], numbers: Collection[str]) -> list[tuple[str, str, str]]:
    """What an index holds: for each attribute its path in the document, its name and its type."""
    identity = [("$.id.pk", "id_pk", "TAG")]
    for name in fields:
        identity.append((f"$.id.{name}", f"id_{name}", "NUMERIC" if name in numbers else "TAG"))
    return [("$.pk", "pk", "TAG"), *identity, ("$.state_stream.pk", "state_stream_pk", "TAG")]


def create_index(
    raw: Wire, keys: StackKeys, fields: Sequence[str], numbers: Collection[str]
) -> None:
    """Makes the index of a prefix, if it is missing. Raises what the client raises."""
    schema: list[str] = []
    for path, name, kind in index_fields(fields, numbers):
        schema += [path, "AS", name, kind, *(("SEPARATOR", "|") if kind == "TAG" else ())]
    try:
        raw.execute_command("FT.INFO", keys.index)
    except redis.exceptions.ResponseError as error:
        if not _is_missing_index(error):
            raise
    else:
        return
    on = ("ON", "JSON", "PREFIX", 1, keys.scan_prefix)
    try:
        raw.execute_command("FT.CREATE", keys.index, *on, "SCHEMA", *schema)
    except redis.exceptions.ResponseError as error:
        if "already exists" not in str(error):  # another publisher was quicker
            raise


def _index_text(keys: StackKeys, fields: Sequence[str], numbers: Collection[str]) -> str:
    """What the index was made from, as blissdata 2.x notes it down."""
    texts = [
        f"{path} AS {name} {kind} " + ("SEPARATOR | " if kind == "TAG" else "")
        for path, name, kind in index_fields(fields, numbers)
    ]
    identity, state = "".join(texts[:-1]), texts[-1]
    return f"ON JSON PREFIX 1 {keys.scan_prefix} SCHEMA {identity} {state}"


def _is_missing_index(error: Exception) -> bool:
    text = str(error).lower()
    return "unknown index" in text or "no such index" in text


def _narrowing(wanted: Sequence[tuple[str, str, Any]], numbers: Collection[str]) -> Iterable[str]:
    """Parts of a query that leave out only scans which are not wanted.

    Texts are tags: cut at `|`, without the blanks around, small letters for the capitals of ASCII.
    So only whole texts in ASCII are looked up; all others are told by what the scans say themselves,
    as are texts with a `*`, of which RediSearch passes over some once they are very many."""
    for name, how, what in wanted:
        if how == "number" and name in numbers:
            number = repr(float(what)) if abs(what) < 2**1023 else ("inf" if what > 0 else "-inf")
            yield f"@id_{name}:[{number} {number}]"
        elif how == "exact" and name not in numbers and _TAGS.fullmatch(what):
            for tag in filter(None, (part.strip() for part in what.split("|"))):
                spellings = _spellings(tag)
                if spellings:
                    yield f"@id_{name}:{{{' | '.join(_escaped(s) for s in spellings)}}}"


def _spellings(tag: str) -> list[str]:
    """All texts that `ss` in a text may stand for, where case does not matter: `ß` becomes it.
    Nothing if they are too many."""
    found = [""]
    for part in re.split("(ss)", tag):
        found = [
            before + way for before in found for way in ((part, "ß") if part == "ss" else (part,))
        ]
        if len(found) > MAX_SPELLINGS:
            return []
    return found


_TAGS = re.compile(rf"[ -~]{{1,{LONGEST_TAG}}}")


def _escaped(tag: str) -> str:
    """With a backslash before every character that could mean something in a query."""
    return re.sub(r"([^0-9A-Za-z_ß])", r"\\\1", tag)


def _search_results(reply: Any) -> tuple[int, list[str]]:
    """How many there are, and their keys: from a list under RESP2, a map under RESP3."""
    if isinstance(reply, dict):
        return int(reply[b"total_results"]), [r[b"id"].decode() for r in reply[b"results"]]
    total, *keys = reply
    return int(total), [key.decode() for key in keys]


def _identity(text: bytes | None) -> dict[str, Any]:
    found = json.loads(text) if text else None
    return found if isinstance(found, dict) else {}


def _pairs(attribute: Any) -> Any:
    """An attribute without the flags behind its pairs, which RESP2 gives as single words."""
    if isinstance(attribute, dict):
        return attribute
    return attribute[: attribute.index(b"type") + 2]


def _as_mapping(reply: Any) -> dict[bytes, Any]:
    """Pairs in a list under RESP2, a map under RESP3."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


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


def _is_gone(ttl: Any) -> bool:
    """True for the time to live [ms] of a key that is gone, or counts as deleted."""
    return not isinstance(ttl, int) or ttl == -2 or bool(0 <= ttl <= _DELETION_GRACE_MS)


def _state(key: str, fields: Sequence[bytes]) -> int:
    return state_number(key, dict(zip(fields[::2], fields[1::2], strict=True)).get(b"state", b""))


def _load(key: str, state_keys: Mapping[str, str]) -> list[Command]:
    """What asks for one scan; where its document tells of no state stream, that alone is asked for."""
    state_key = state_keys.get(key)
    newest: Command = ("ECHO", "") if state_key is None else _newest_of(state_key)
    return [("PTTL", key), ("JSON.GET", key, "."), newest]


def _newest_of(stream: str) -> Command:
    return ("XREVRANGE", stream, "+", "-", "COUNT", 1)


def _raise_unless_readable(key: str, reply: Any) -> None:
    """Raises what a refusal means for the scan."""
    if not isinstance(reply, Exception):
        return
    text = str(reply)
    if "WRONGTYPE" in text or "wrong Redis type" in text or "wrong kind of value" in text:
        raise ScanValidationError(
            f"{key} is not a scan: there, or where its state stream should be, is a value of another "
            "type"
        ) from reply
    raise reply


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
            self._raw, self._json_functions, keys, identity_fields, numbers, self._max_block
        )

    def initialise(self) -> None:
        keys = StackKeys(ESRF_PREFIX)
        text = _index_text(keys, ESRF_FIELDS, {"number"})
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
            create_index(self._raw, keys, ESRF_FIELDS, {"number"})
            self._raise_expansions()
            self._seal_of_2x.load()
            reply = self._json_functions.call("bdj1_initialise", list(ours), list(ours.values()))
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
                names = {_as_mapping(library)[b"library_name"].decode() for library in libraries}
                ours = (self._json_functions, self._functions, self._pins.functions)
                for functions in (self._seal_of_2x, *ours):
                    if functions.name() not in names:
                        functions.load()
        except ServerRefusedError as error:
            logger.debug("%s", error)


def _not_empty(size: int | str) -> ServerNotEmptyError:
    return ServerNotEmptyError(
        f"the server already holds {size} keys, and only an empty one is prepared. "
        "Open it without init_db=True if it is a blissdata database; use another server otherwise"
    )
