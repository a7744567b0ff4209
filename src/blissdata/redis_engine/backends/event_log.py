"""Streams of entries on a Valkey or Redis server (7 or newer), the same on every layout.

Writing goes through server functions (`functions/blissdata.lua`), because an entry may only be added
where the stream ends: looking and adding must be one step.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import redis

from blissdata.exceptions import DurabilityUnavailableError, PayloadError
from blissdata.redis_engine.backends.client import (
    RedisConflictError,
    RedisNotDurableYetError,
    RedisRewoundError,
    RedisSealedError,
    RedisVanishedError,
    refusal,
    translated_errors,
)
from blissdata.redis_engine.backends.replies import (
    MAX_DIGITS,
    by_key,
    or_damage,
    to_arrivals,
    to_bounds,
    to_entry,
    to_newest,
    to_span,
    to_tail,
)
from blissdata.redis_engine.backends.wire import (
    LARGE,
    Ahead,
    Arena,
    Command,
    Link,
    Wire,
    was_let_go,
)
from blissdata.redis_engine.keys import DELETION_GRACE_S, PROTOCOL
from blissdata.streams.durability import Durability, disk_needs_waitaof, refusal_of
from blissdata.streams.entries import MAX_INDEX, READ_LIMIT, Entry, Tail
from blissdata.streams.event_log import (
    AppendRequest,
    Arrivals,
    Bounds,
    SealRequest,
    Span,
    SpanRequest,
)

__all__ = ["Functions", "RedisEventLog", "execute", "is_missing_function"]

MAX_PAYLOAD = 512 * 2**20 - 4096
"""`proto-max-bulk-len` of a server that was not told otherwise, less what goes around a payload."""

CLOSING_S = 0.2
"""How long the connection for appending is left to who uses it, before it is closed [s]."""

DURABLE_WAIT_MS = 2000
"""How long the server is asked to wait for its disk or a replica at once; then it is asked anew."""

DURABLE_CHANNEL = "_blissdata_durable_"
"""Nobody listens there; see `_wait_for`."""

_WHERE = {Durability.DISK: "its disk", Durability.REPLICA: "a replica"}

MAX_POSTED = 64 * 2**10
"""Requests above this size [bytes] are not posted: sending them could wait for the server."""

WINDOW = 16384
"""How many points of a long range are asked for at once: each may be an entry of its own."""

WINDOWS_AHEAD = 2
"""How many windows are on their way while one is taken apart."""

MOST_WINDOWS = 1024
"""Longer ranges are not asked for by windows of indices."""

BOUNDS_AT_ONCE = 64
"""For how many streams one call asks for their bounds: nobody else is served meanwhile."""

COSTLY_TAIL = 4 * 2**10
"""Points of this size and more [bytes] are not sent along to tell where their stream ends."""

_FUNCTIONS = Path(__file__).parent / "functions"

T = TypeVar("T")


class Functions:
    """Calls functions of one of our libraries on the server, and brings them there when they are
    missing."""

    def __init__(self, raw: Wire, file: str = "blissdata.lua") -> None:
        self._raw = raw
        self._file = _FUNCTIONS / file

    def name(self) -> str:
        """The name of the library, as its first line has it. Reads the file."""
        return self._file.read_text().partition("\n")[0].partition("name=")[2]

    def call(self, name: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """One call, one round trip. Raises what the client raises."""
        command = ("FCALL", name, len(keys), *keys, *args)
        try:
            return self._raw.execute_command(*command)
        except redis.exceptions.ResponseError as error:
            if not is_missing_function(error):
                raise
        self.load()
        return self._raw.execute_command(*command)

    def call_many(
        self,
        calls: Sequence[tuple[str, Sequence[str], Sequence[Any]]],
        link: Link | None = None,
        beside: Sequence[Command] = (),
    ) -> list[Any]:
        """Many calls in one round trip, through `link` if it is given, and other commands `beside`
        them; a refused one is an exception in its place."""
        ask = self._raw.execute if link is None else link.execute
        commands: list[Command] = [("FCALL", n, len(keys), *keys, *args) for n, keys, args in calls]
        commands += beside
        replies = ask(commands)
        if any(is_missing_function(reply) for reply in replies):
            self.load()
            missing = [i for i, reply in enumerate(replies) if is_missing_function(reply)]
            again = ask([commands[i] for i in missing])
            for i, reply in zip(missing, again, strict=True):
                replies[i] = reply
        return replies

    def load(self) -> None:
        """Brings the library to the server. Raises what the client raises."""
        self._raw.execute_command("FUNCTION", "LOAD", "REPLACE", self._file.read_text())


def execute(client: redis.Redis, commands: Iterable[Command]) -> list[Any]:
    """Commands in one round trip of the Redis client, which turns replies into Python's own types; a
    refused one is an exception in its place."""
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return list(pipeline.execute(raise_on_error=False))


def is_missing_function(reply: Any) -> bool:
    """True for what a server answers that has not our functions (yet)."""
    return isinstance(reply, redis.exceptions.ResponseError) and "Function not found" in str(reply)


class RedisEventLog:
    """`blissdata.streams.event_log.EventLog` over a Redis client."""

    def __init__(
        self,
        raw: Wire,
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
        # Connections for appending that nobody uses, and all there are. No lock: whoever takes one may
        # be interrupted anywhere (Ctrl-C), and then its connection is lost, but never one that is held.
        self._writers: list[Link] = []
        self._all_writers: weakref.WeakSet[Link] = weakref.WeakSet()
        self._pid = os.getpid()
        self._max_payload: int | None = None
        self._waitaof = False
        self.session = 0

    @property
    def max_payload(self) -> int:
        """Size of the largest payload that the server accepts [bytes]. Asks it the first time."""
        if self._max_payload is None:
            self._max_payload = MAX_PAYLOAD
            with suppress(redis.exceptions.RedisError, ValueError):
                found = _config(self._raw.execute_command("CONFIG", "GET", "proto-max-bulk-len"))
                self._max_payload = int(found["proto-max-bulk-len"]) - 4096
        return self._max_payload

    def require(self, durability: Durability) -> None:
        if durability is Durability.MEMORY:
            return
        with translated_errors("asking the server how durable it is"):
            server = self._ask_durability()
        why_not = refusal_of(durability, server)
        if why_not is not None:
            raise DurabilityUnavailableError(
                f"This server cannot give durability '{durability}': {why_not}"
            )
        if durability is Durability.DISK:
            self._waitaof = disk_needs_waitaof(server)

    def _ask_durability(self) -> dict[str, str]:
        """What `refusal_of` wants to know of the server. One round trip."""
        config, info = self._raw.execute([("CONFIG", "GET", "append*"), ("INFO",)])
        fields = {} if isinstance(config, Exception) else _config(config)
        if not isinstance(info, Exception):
            lines = info.decode(errors="replace").splitlines()
            found = dict(line.split(":", 1) for line in lines if ":" in line)
            fields["product"] = "valkey" if "valkey_version" in found else "redis"
            fields["version"] = found.get("valkey_version") or found.get("redis_version", "0")
            fields["replicas"] = found.get("connected_slaves", "0")
        return fields

    # ------------------------------------------------------------------------------ writing

    def append(self, requests: Mapping[str, AppendRequest]) -> dict[str, int | Exception]:
        self._after_fork()
        with translated_errors(_adding(requests)):
            link = self._take_writer() or self._new_writer()
            bare = {key for key, request in requests.items() if self._may_add(request)}
            return self._exchange(link, requests, bare)

    def post(self, key: str, request: AppendRequest) -> Callable[[], Any] | None:
        if not self._may_add(request) or len(request.batches[0].payload) > MAX_POSTED:
            return None
        self._after_fork()
        link = self._take_writer()
        if link is None:
            return None
        try:
            link.send_one(_xadd(key, request))
        except BaseException as error:
            self._drop(link)
            with translated_errors(_adding((key,))):
                raise error
        return partial(self._outcome_of_post, link, key, request)

    def _outcome_of_post(
        self, link: Link, key: str, request: AppendRequest
    ) -> dict[str, int | Exception]:
        with translated_errors(_adding((key,))):
            return self._exchange(link, {key: request}, {key}, posted=True)

    def _exchange(
        self,
        link: Link,
        requests: Mapping[str, AppendRequest],
        bare: set[str],
        *,
        posted: bool = False,
    ) -> dict[str, int | Exception]:
        """One round trip; a second one for what a bare XADD does not say, or where the server has no
        function library yet, and another one to wait for disk or replica."""
        try:
            if not posted:
                link.send(
                    [
                        _xadd(key, request) if key in bare else self._append_command(key, request)
                        for key, request in requests.items()
                    ]
                )
            replies = {key: link.receive() for key in requests}
            unclear = [
                key
                for key, reply in replies.items()
                if (_is_unclear(reply) if key in bare else is_missing_function(reply))
            ]
            if unclear:
                if not bare.issuperset(unclear):
                    self._functions.load()
                link.send([self._append_command(key, requests[key]) for key in unclear])
                replies |= {key: link.receive() for key in unclear}
                bare -= set(unclear)
                # The library may be missing for these as well: they had a bare XADD before.
                if any(is_missing_function(replies[key]) for key in unclear):
                    self._functions.load()
                    link.send([self._append_command(key, requests[key]) for key in unclear])
                    replies |= {key: link.receive() for key in unclear}
            late = self._wait_for(
                link,
                {request.durability for request in requests.values()},
                written=not any(request.repeat for request in requests.values()),
            )
        except BaseException:
            self._drop(link)
            raise
        self._writers.append(link)
        return self._settled(requests, bare, replies, late)

    def _wait_for(
        self, link: Link, durabilities: Collection[Durability], *, written: bool
    ) -> dict[Durability, Exception]:
        """Waits until what was written through this link is as durable; for each durability that
        did not come in time, the error. Without `written`, it may have been written through another
        link that was lost."""
        commands: dict[Durability, Command] = {}
        if Durability.REPLICA in durabilities:
            commands[Durability.REPLICA] = ("WAIT", 1, DURABLE_WAIT_MS)
        if Durability.DISK in durabilities and self._waitaof:
            commands[Durability.DISK] = ("WAITAOF", 1, 0, DURABLE_WAIT_MS)
        if not commands:
            return {}
        # WAIT and WAITAOF look at what their own connection wrote last (seen with Valkey 9.1 and Redis
        # 8.2). A message takes no memory, a full server passes it, and replicas get it like a write.
        first: list[Command] = [] if written else [("PUBLISH", DURABLE_CHANNEL, "")]
        link.send([*first, *commands.values()])
        for _ in first:
            link.receive()
        late: dict[Durability, Exception] = {}
        for durability in commands:
            reply = link.receive()
            done = reply[0] if isinstance(reply, list) else reply
            if isinstance(done, Exception) or done < 1:
                reason = f" ({done})" if isinstance(done, Exception) else ""
                late[durability] = RedisNotDurableYetError(
                    f"the server has the points, but {_WHERE[durability]} did not say so within "
                    f"{DURABLE_WAIT_MS / 1000:g} s{reason}"
                )
        return late

    def _settled(
        self,
        requests: Mapping[str, AppendRequest],
        bare: set[str],
        replies: Mapping[str, Any],
        late: Mapping[Durability, Exception],
    ) -> dict[str, int | Exception]:
        """For each key the index after its last point, or the error."""
        doing = _adding(requests)
        outcomes: dict[str, int | Exception] = {}
        for key, request in requests.items():
            if key in bare and type(replies[key]) is bytes:
                outcomes[key] = late.get(request.durability, request.end)
                continue
            outcome = _outcome(key, replies[key], doing)
            if request.repeat and isinstance(outcome, RedisConflictError | RedisSealedError):
                with translated_errors(doing):
                    outcome = self._settle_repeat(key, request, outcome)
            elif request.index:
                outcome = self._settle_vanished(key, outcome)
            if request.scan_key and isinstance(outcome, RedisSealedError):
                with translated_errors(doing):
                    outcome = self._settle_sealed(key, request.scan_key, outcome)
            if not isinstance(outcome, Exception):
                outcome = late.get(request.durability, outcome)
            outcomes[key] = outcome
        return outcomes

    def _after_fork(self) -> None:
        """In a fork, lock and connection are the parent's."""
        if self._pid != os.getpid():
            self._writers, self._pid = [], os.getpid()
            self._all_writers = weakref.WeakSet()

    def _take_writer(self) -> Link | None:
        """A connection for appending that nobody uses; None if there is none. What was known of where
        streams end was known on the newest one: an older one is of no use."""
        while self._writers:
            try:
                link = self._writers.pop()
            except IndexError:  # somebody else was faster
                return None
            if link.session == self.session and link.is_usable():
                return link
            self._drop(link)
        return None

    def _drop(self, link: Link) -> None:
        self._all_writers.discard(link)
        link.close()

    def _new_writer(self) -> Link:
        """A connection of its own for appending. What was known of where streams end was known on
        the one before."""
        link = self._raw.connect()
        self._all_writers.add(link)
        self.session += 1
        link.session = self.session
        return link

    def _may_add(self, request: AppendRequest) -> bool:
        """True where a bare XADD says all: the stream was seen to end at `index` on this very
        connection, so the server cannot have been restarted with less since. XADD refuses an index
        that somebody else used, or that the seal is behind; one entry leaves no hole."""
        return request.session == self.session and len(request.batches) == 1 and not request.repeat

    def close_writer(self) -> None:
        """Closes the connections for appending. Repeatable; the next append opens another."""
        self._after_fork()
        deadline = time.monotonic() + CLOSING_S
        while len(self._writers) < len(self._all_writers) and time.monotonic() < deadline:
            time.sleep(0.01)
        for link in list(self._all_writers):
            link.close()  # also under the hands of who waits for an outcome: he is told
            self._all_writers.discard(link)
        self._writers.clear()

    def _append_command(self, key: str, request: AppendRequest) -> Command:
        name, keys, args = self._append_call(key, request)
        return ("FCALL", name, len(keys), *keys, *args)

    def _append_call(
        self, key: str, request: AppendRequest
    ) -> tuple[str, Sequence[str], Sequence[Any]]:
        args: list[Any] = [request.index]
        for batch in request.batches:
            args += (batch.len, batch.payload)
        return "bd3_append", self._with_owner(key, request.scan_key), args

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
            found = [to_entry(key, item) for item in raw]
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

    def _settle_sealed(self, key: str, scan_key: str, outcome: Exception) -> Exception:
        """A stream that somebody else has sealed: did he delete the scan?"""
        ttl = self._raw.execute_command("PTTL", scan_key)
        gone = ttl == _NO_KEY or 0 <= ttl <= DELETION_GRACE_S * 1000
        return _error(b"VANISHED", key, "") if gone else outcome

    def seal(self, requests: Mapping[str, SealRequest]) -> dict[str, int | Exception]:
        calls = [
            (
                "bd3_seal",
                self._with_owner(key, request.scan_key),
                ["" if request.length is None else request.length],
            )
            for key, request in requests.items()
        ]
        durabilities = {request.durability for request in requests.values()}
        doing = f"sealing {len(requests)} streams"
        with translated_errors(doing), self._raw.link() as link:
            replies = self._functions.call_many(calls, link)
            late = self._wait_for(link, durabilities, written=False)
        outcomes = {
            key: late.get(request.durability, _outcome(key, reply, doing))
            for (key, request), reply in zip(requests.items(), replies, strict=True)
        }
        for key, request in requests.items():
            if request.length:
                outcomes[key] = self._settle_vanished(key, outcomes[key])
        return outcomes

    def trim(self, indices: Mapping[str, int]) -> dict[str, int | Exception]:
        calls = [("bd3_trim", [key], [index]) for key, index in indices.items()]
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
        nbytes: int = 0,
    ) -> dict[str, Arrivals | PayloadError]:
        if len(positions) == 1:
            (key,) = positions
            return self._read_one(key, positions, wait, max_entries, nbytes)
        if not positions:
            return {}
        with translated_errors(f"reading {len(positions)} streams"):
            groups = (
                _by_count(positions, max_entries)
                if isinstance(max_entries, Mapping)
                else {max_entries: list(positions)}
            )
            found: dict[str, Any] = {}
            if len(groups) > 1:
                # One command has one COUNT: streams of small and of large points ask separately.
                for reply in self._raw.execute(
                    [_xread(keys, positions, n) for n, keys in groups.items()]
                ):
                    found |= by_key(_raised(reply))
            if not found and (wait > 0 or len(groups) == 1):
                block = min(wait, self._max_block)
                command = _xread(list(positions), positions, min(groups), block)
                found = by_key(self._reply(command, nbytes))
        return {key: to_arrivals(key, items) for key, items in found.items()}

    def _read_one(
        self,
        key: str,
        positions: Mapping[str, int],
        wait: float,
        max_entries: int | Mapping[str, int],
        nbytes: int,
    ) -> dict[str, Arrivals | PayloadError]:
        """`read` of one stream, in as few steps as it takes: somebody waits for what it gives."""
        count = max_entries if isinstance(max_entries, int) else max_entries[key]
        command = _xread((key,), positions, count, min(wait, self._max_block))
        with translated_errors(f"reading {key}"):
            reply = self._reply(command, nbytes)
        if not reply:
            return {}
        ((_, items),) = reply.items() if isinstance(reply, dict) else reply
        return {key: to_arrivals(key, items)}

    def _reply(self, command: Command, nbytes: int) -> Any:
        """One round trip. If `nbytes` of large points are expected, they are received in place."""
        if nbytes < LARGE:
            return self._raw.execute_command(*command)
        link = self._raw.take()
        try:
            link.send((command,))
            reply = link.receive_into(Arena(nbytes))
        except BaseException:
            link.close()
            raise
        if was_let_go(reply):
            link.close()
            return None
        self._raw.give_back(link)
        return _raised(reply)

    def ahead(self) -> _ReadsAhead:
        return _ReadsAhead(Ahead(self._raw))

    def span(self, requests: Sequence[SpanRequest]) -> list[Span | PayloadError]:
        with translated_errors(f"reading {len(requests)} streams"):
            if len(requests) == 1 and not requests[0].only_tail:
                return [or_damage(self._long, requests[0])]
            plan = [_span_commands(request) for request in requests]
            commands = [command for part in plan for command in part]
            replies = iter(self._ask(commands))
            raw = [[_raised(next(replies)) for _ in part] for part in plan]
        return [
            or_damage(to_span, request.key, parts)
            for request, parts in zip(requests, raw, strict=True)
        ]

    def _long(self, request: SpanRequest) -> Span:
        return to_span(request.key, self._long_span(request))

    def _ask(self, commands: Sequence[Command]) -> list[Any]:
        """As `Wire.execute`, bringing the function library where it is missing."""
        replies = self._raw.execute(commands)
        if any(is_missing_function(reply) for reply in replies):
            self._functions.load()
            replies = self._raw.execute(commands)
        return replies

    def _long_span(self, request: SpanRequest) -> list[Any]:
        """The replies for where the stream ends, and for the range. One round trip if the range is
        short; a long one comes in windows, the next ones on their way while one is received. Two
        if points are large: how much memory they need is asked first."""
        size = request.point_nbytes or 0
        window = max(1, min(WINDOW, READ_LIMIT // max(size, 1)))
        start, last = request.start, _last(request)
        at_once = min(last, start + window)
        if size >= LARGE:
            parts = [_raised(part) for part in self._ask([_tail_command(request)])]
            last = min(last, to_tail(request.key, parts[0]).length - 1)
            commands = _range_commands(request.key, start, min(at_once, last))
            arena = Arena(size * max(0, last + 1 - start))
        else:
            arena = None
            commands = [_tail_command(request), *_range_commands(request.key, start, at_once)]
            parts = []
        with self._raw.link() as link:
            link.send(commands)
            parts += [_raised(_receive(link, arena)) for _ in commands]
            last = min(last, to_tail(request.key, parts[0]).length - 1)
            link_windows = _windows(link, request.key, at_once + 1, last, window, arena)
            parts += [_raised(reply) for reply in link_windows]
        return parts

    def holding(self, key: str, index: int, nbytes: int = 0) -> Entry | None:
        with translated_errors(f"reading index {index} of {key}"):
            raw = self._reply(("XREVRANGE", key, index, "-", "COUNT", 1), nbytes)
        if not raw:
            return None
        entry = to_entry(key, raw[0])
        return entry if entry.end > index else None

    def newest(self, keys: Sequence[str]) -> dict[str, tuple[Tail, Entry | None] | PayloadError]:
        with translated_errors(f"reading the newest points of {len(keys)} streams"):
            replies = self._raw.execute([("XREVRANGE", key, "+", "-", "COUNT", 2) for key in keys])
            found = {key: _raised(reply) or [] for key, reply in zip(keys, replies, strict=True)}
        return {key: or_damage(to_newest, key, raw) for key, raw in found.items()}

    def bounds(self, keys: Sequence[str]) -> dict[str, Bounds | PayloadError]:
        parts = [keys[i : i + BOUNDS_AT_ONCE] for i in range(0, len(keys), BOUNDS_AT_ONCE)]
        with translated_errors(f"looking where {len(keys)} streams begin and end"):
            replies = self._ask([("FCALL_RO", "bd3_bounds", len(part), *part) for part in parts])
            found = [raw for reply in replies for raw in _raised(reply)]
        return {key: or_damage(to_bounds, key, raw) for key, raw in zip(keys, found, strict=True)}


class _ReadsAhead:
    """See `ReadsAhead` in `blissdata.streams.event_log`."""

    def __init__(self, ahead: Ahead) -> None:
        self._ahead = ahead
        self._owner = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ahead.close()

    def ask(
        self, positions: Mapping[str, int], *, max_entries: Mapping[str, int], nbytes: int = 0
    ) -> Callable[[], dict[str, Arrivals | PayloadError] | None] | None:
        counts = {max_entries[key] for key in positions}
        if len(counts) != 1 or os.getpid() != self._owner:
            return None
        command = _xread(list(positions), positions, counts.pop())
        try:
            link = self._ahead.ask(command, is_large=nbytes >= LARGE)
        except (redis.RedisError, OSError):  # the read that comes tells of it
            return None
        return partial(self._answer, link, len(positions), nbytes)

    def _answer(
        self, link: Link, streams: int, nbytes: int
    ) -> dict[str, Arrivals | PayloadError] | None:
        # The reply belongs to the process that asked, and as long as this lasts.
        if os.getpid() != self._owner or not self._ahead.is_coming(link):
            return None
        with translated_errors(f"reading {streams} streams"):
            reply = self._ahead.receive(link, Arena(nbytes) if nbytes >= LARGE else None)
            found = by_key(_raised(reply))
        return {key: to_arrivals(key, items) for key, items in found.items()}


# ---------------------------------------------------------------------------------- commands


def _config(reply: Any) -> dict[str, str]:
    """The reply of CONFIG GET: names and values in turn under RESP2, a map under RESP3."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): value.decode(errors="replace") for name, value in pairs}


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


def _adding(requests: Collection[str]) -> str:
    return f"adding points to {len(requests)} streams"


def _xadd(key: str, request: AppendRequest) -> Command:
    (batch,) = request.batches
    ident = f"{request.index}-1"
    if batch.len == 1:
        return ("XADD", key, "NOMKSTREAM", ident, "payload", batch.payload)
    return ("XADD", key, "NOMKSTREAM", ident, "payload", batch.payload, "len", batch.len)


def _is_unclear(reply: Any) -> bool:
    """True for what a bare XADD answers where the stream is gone, sealed, or does not end as
    thought; not for what the server says of itself (memory full, loading, …)."""
    return reply is None or (
        isinstance(reply, redis.exceptions.ResponseError) and str(reply).startswith("ERR")
    )


def _last(request: SpanRequest) -> int:
    return (MAX_INDEX if request.stop is None else min(request.stop, MAX_INDEX)) - 1


def _span_commands(request: SpanRequest) -> list[Command]:
    if request.only_tail:
        return [_tail_command(request)]
    return [_tail_command(request), *_range_commands(request.key, request.start, _last(request))]


def _tail_command(request: SpanRequest) -> Command:
    if (request.point_nbytes or 0) >= COSTLY_TAIL:
        return ("FCALL_RO", "bd3_tail", 1, request.key)
    return ("XREVRANGE", request.key, "+", "-", "COUNT", 1)


def _range_commands(key: str, start: int, last: int) -> list[Command]:
    """For the points from `start` to `last` (inclusive): the entry that holds the first one may
    begin before it."""
    commands: list[Command] = []
    if last >= start:
        commands.append(("XREVRANGE", key, start, "-", "COUNT", 1))
    if last > start:
        commands.append(("XRANGE", key, start + 1, last))
    return commands


def _receive(link: Link, arena: Arena | None) -> Any:
    return link.receive() if arena is None else link.receive_into(arena)


def _windows(
    link: Link, key: str, start: int, last: int, window: int, arena: Arena | None
) -> Iterator[Any]:
    """Replies for the entries that begin from `start` to `last` (inclusive), `window` points or
    entries at a time, the next ones asked for while one is taken apart."""
    if last - start > window * MOST_WINDOWS:
        # Entries are long, or indices have large gaps: only a reply tells where to go on.
        while start <= last:
            link.send((("XRANGE", key, start, last, "COUNT", max(1, window // 16)),))
            reply = _receive(link, arena)
            yield reply
            if not reply or isinstance(reply, Exception):
                return
            start = int(reply[-1][0].partition(b"-")[0]) + 1
        return
    under_way = 0
    for at in range(start, last + 1, window):
        link.send((("XRANGE", key, at, min(at + window - 1, last)),))
        under_way += 1
        if under_way > WINDOWS_AHEAD:
            yield _receive(link, arena)
            under_way -= 1
    for _ in range(under_way):
        yield _receive(link, arena)


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
    b"VANISHED": (
        RedisVanishedError,
        "its scan was deleted from the server, by somebody or by the memory tracker",
    ),
}
_NO_KEY = -2
"""What PTTL says of a key that is not there."""


def _error(word: bytes, key: str, value: str) -> Exception:
    error, text = _ERRORS[word]
    outcome: Exception = error(f"{key}: {text.format(value)}")
    return outcome


def _outcome(key: str, reply: Any, doing: str) -> int | Exception:
    if isinstance(reply, Exception):
        return refusal(reply, doing)
    word, value = reply
    if word == b"OK":
        if not value.isdigit() or len(value) > MAX_DIGITS:
            return PayloadError(f"the seal of {key} says that it has {value[:40]!r} points")
        return int(value)
    return _error(word, key, value.decode())
