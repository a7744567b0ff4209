"""The index of RediSearch over scans (protocol 1): what it is made from, what it is asked, and how far its
answers can be trusted.

It finds too much rather than too little: who asks compares what the scans say themselves. Where it is
missing, or not whole, all documents are found.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import redis

from blissdata.redis_engine.backends.packing import packed
from blissdata.redis_engine.backends.search import BEYOND_DOUBLES, Criterion
from blissdata.redis_engine.backends.server import as_mapping, globbed
from blissdata.redis_engine.backends.wire import Command, Wire
from blissdata.redis_engine.keys import HISTORY, StackKeys

__all__ = ["Found", "ScanIndex", "index_text"]

logger = logging.getLogger(__name__)

USUAL_RESULTS = 10_000
"""The index sets memory aside for as many results as it may give: only who needs more asks for all."""

ALL_RESULTS = 1_000_000
"""More than RediSearch gives unless it is told otherwise; `find` notices if some are missing."""

LONGEST_TAG = 1000
"""Longer texts are not searched for through the index: RediSearch cuts long tags [characters]."""

MAX_SPELLINGS = 16
"""Texts with more spellings than this are not searched for through the index."""

INDEX_TRUST_S = 2.0
"""How long an index that was found whole is taken to be whole [s]: asking costs more than a search."""

REMEMBERED = 4096
"""An answer with so many scans at most is remembered, to see at once that nothing has changed."""

MOST_ANSWERS = 16
"""So many answers are remembered."""

_NEWEST = packed(("XREVRANGE", HISTORY, "+", "-", "COUNT", 1))


@dataclass(frozen=True, slots=True)
class Found:
    """What the index finds."""

    timetag: str
    """The newest timetag at the same instant."""

    keys: list[str]
    """The keys of the scans, sorted. The same object as the last time if nothing has changed; it must not
    be changed."""

    steady: bool
    """True if no scan on the server counts as deleted, or soon will."""

    exact: bool
    """True if all of them are what was asked for."""


class ScanIndex:
    """The index of the scans under one prefix."""

    def __init__(
        self,
        raw: Wire,
        keys: StackKeys,
        fields: Sequence[str],
        numbers: Collection[str],
        steady: Command | None = None,
    ) -> None:
        """`steady` asks whether no scan can be about to expire, and is answered by 1."""
        self._raw = raw
        self._keys = keys
        self._fields = tuple(fields)
        self._numbers = frozenset(numbers)
        self._steady = steady
        self._is_there = False
        self._names: frozenset[str] = frozenset()
        self._trusted_until = 0.0
        self._large: set[str] = set()
        self._answers: dict[str, tuple[Any, list[str]]] = {}

    def make_sure(self) -> None:
        """Makes the index, if it is missing. Raises what the client raises."""
        if self._is_there:
            return
        schema: list[str] = []
        for path, name, kind in index_fields(self._fields, self._numbers):
            schema += [path, "AS", name, kind, *(("SEPARATOR", "|") if kind == "TAG" else ())]
        try:
            self._raw.execute_command("FT.INFO", self._keys.index)
        except redis.exceptions.ResponseError as error:
            if not _is_missing_index(error):
                raise
        else:
            self._is_there = True
            return
        on = ("ON", "JSON", "PREFIX", 1, self._keys.scan_prefix)
        try:
            self._raw.execute_command("FT.CREATE", self._keys.index, *on, "SCHEMA", *schema)
        except redis.exceptions.ResponseError as error:
            if "already exists" not in str(error):  # another publisher was quicker
                raise
        self._is_there = True

    def search(self, wanted: tuple[Criterion, ...]) -> Found:
        """The scans that may be what is asked for. One round trip, unless the index is missing or not
        whole. Raises what the client raises."""
        query = _query(wanted, self._numbers)
        return self._search(query, ALL_RESULTS if query.text in self._large else USUAL_RESULTS)

    def _search(self, query: _Query, limit: int) -> Found:
        trusted = time.monotonic() < self._trusted_until and query.names <= self._names
        how = ("NOCONTENT", "DIALECT", 2, "LIMIT", 0, limit, "TIMEOUT", 0)
        commands = [_NEWEST, packed(("FT.SEARCH", self._keys.index, query.text, *how))]
        if self._steady is not None:
            commands.append(packed(self._steady))
        if not trusted:
            commands.append(packed(("FT.INFO", self._keys.index)))
        (done,) = self._raw.transactions([commands])
        if isinstance(done, Exception):
            if self._steady is not None and str(done).startswith("NOPERM"):
                self._steady = None  # who only reads may not be allowed to call functions
                return self._search(query, limit)
            raise done
        history, reply, *others = done
        if isinstance(history, Exception):
            raise history
        timetag = history[0][0].decode() if history else "0-0"
        steady = self._steady is not None and others.pop(0) == 1
        if others:
            self._look_at(others[0])
            trusted = query.names <= self._names
        if isinstance(reply, Exception):  # there is no index, or others made it from other fields
            logger.debug("%s cannot be searched (%s)", self._keys.index, reply)
            trusted = False
        else:
            total, keys = self._understood(query, reply)
            if total > len(keys) == limit == USUAL_RESULTS:
                self._large = (
                    {query.text, *self._large} if len(self._large) < MOST_ANSWERS else set()
                )
                return self._search(query, ALL_RESULTS)
            trusted = trusted and total == len(keys)
        if not trusted:
            self._trusted_until = 0.0
            keys, everything = self._scan_all(), query.text == EVERYTHING
            return Found(timetag, keys, steady, exact=query.is_exact and everything)
        return Found(timetag, keys, steady, query.is_exact)

    def _understood(self, query: _Query, reply: Any) -> tuple[int, list[str]]:
        """How many scans there are, and the keys of those that are named."""
        known, keys = self._answers.get(query.text, (None, []))
        if known == reply:
            return len(keys), keys
        total, keys = _search_results(reply)
        keys.sort()
        if total == len(keys) <= REMEMBERED:
            if len(self._answers) >= MOST_ANSWERS:
                self._answers = {}
            self._answers[query.text] = (reply, keys)
        return total, keys

    def _look_at(self, info: Any) -> None:
        """Takes note of what the index says of itself."""
        self._names = frozenset()
        if isinstance(info, Exception):
            if not _is_missing_index(info):
                raise info
            return
        self._names = self._complete_names(as_mapping(info))
        self._trusted_until = time.monotonic() + INDEX_TRUST_S

    def _complete_names(self, info: Mapping[bytes, Any]) -> frozenset[str]:
        """The names by which the index finds all scans. It does not while it is being made, for ever once
        it could not take a document, and where others made it without a field, or of another type."""
        if int(info.get(b"indexing", 0)) or int(info.get(b"hash_indexing_failures", 0)):
            return frozenset()
        attributes = [as_mapping(_pairs(found)) for found in info[b"attributes"]]
        there = {(found[b"attribute"].decode(), found[b"type"].decode()) for found in attributes}
        known = index_fields(self._fields, self._numbers)
        return frozenset({EVERYTHING, *(name for _, name, kind in known if (name, kind) in there)})

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


def index_fields(fields: Sequence[str], numbers: Collection[str]) -> list[tuple[str, str, str]]:
    """What an index holds: for each attribute its path in the document, its name and its type."""
    identity = [("$.id.pk", "id_pk", "TAG")]
    for name in fields:
        identity.append((f"$.id.{name}", f"id_{name}", "NUMERIC" if name in numbers else "TAG"))
    return [("$.pk", "pk", "TAG"), *identity, ("$.state_stream.pk", "state_stream_pk", "TAG")]


def index_text(keys: StackKeys, fields: Sequence[str], numbers: Collection[str]) -> str:
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


@dataclass(frozen=True, slots=True)
class _Query:
    """What the index is asked."""

    text: str
    """The query. It leaves out only scans that are not wanted."""

    names: frozenset[str]
    """What the index must have for it to be answered."""

    is_exact: bool
    """True if it leaves out all scans that are not wanted."""


EVERYTHING = "*"
"""The query that asks for nothing, and the name of an index that is complete."""


@lru_cache(maxsize=1024)
def _query(wanted: tuple[Criterion, ...], numbers: frozenset[str]) -> _Query:
    """Texts are tags: cut at `|`, without the blanks around, small letters for the capitals of ASCII.
    So only whole texts in ASCII are looked up; all others are told by what the scans say themselves,
    as are texts with a `*`, of which RediSearch passes over some once they are very many."""
    parts, names, is_exact = [], {EVERYTHING}, True
    for name, how, what in wanted:
        field = f"id_{name}"
        if how == "number" and name in numbers:
            number = repr(float(what)) if abs(what) < 2**1023 else ("inf" if what > 0 else "-inf")
            parts.append(f"@{field}:[{number} {number}]")
            names.add(field)
            is_exact &= isinstance(what, int) and abs(what) < BEYOND_DOUBLES
            continue
        is_exact = False
        if how == "exact" and name not in numbers and _TAGS.fullmatch(what):
            for tag in filter(None, (part.strip() for part in what.split("|"))):
                spellings = _spellings(tag)
                if spellings:
                    parts.append(f"@{field}:{{{' | '.join(_escaped(s) for s in spellings)}}}")
                    names.add(field)
    return _Query(" ".join(parts) or EVERYTHING, frozenset(names), is_exact)


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


def _pairs(attribute: Any) -> Any:
    """An attribute without the flags behind its pairs, which RESP2 gives as single words."""
    if isinstance(attribute, dict):
        return attribute
    return attribute[: attribute.index(b"type") + 2]
