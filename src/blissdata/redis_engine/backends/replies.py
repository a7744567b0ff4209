"""What a server's replies say of a stream: pure rules from raw replies to entries, ends and seals.

Nothing in a reply is trusted: what is not as protocol 1 says ("Events" in `docs/reference/wire.md`) is a
`PayloadError`, which names stream and entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeVar

from blissdata.exceptions import PayloadError
from blissdata.streams.encoding.base import Batches, EncodedBatch
from blissdata.streams.entries import MAX_INDEX, Entries, Entry, Tail
from blissdata.streams.event_log import Arrivals, Bounds, Span

__all__ = [
    "MAX_DIGITS",
    "SEAL_ID",
    "by_key",
    "or_damage",
    "to_arrivals",
    "to_bounds",
    "to_entry",
    "to_newest",
    "to_span",
    "to_tail",
]

SEAL_ID = f"{MAX_INDEX}-{MAX_INDEX}".encode()
"""The last possible entry id; its field `id` is the stream's length (protocol 1, "Events")."""

MAX_POINTS = 2**63 - 1
"""No stream has more points: beyond, a length is a lie, and `len()` could not tell it."""

MAX_DIGITS = 20
"""No number in a reply that is meant has more."""

T = TypeVar("T")


def by_key(reply: Any) -> dict[str, Any]:
    """The reply of XREAD: pairs under RESP2, a map under RESP3, nothing if nothing came."""
    if not reply:
        return {}
    pairs = reply.items() if isinstance(reply, dict) else reply
    return {key.decode(): entries for key, entries in pairs}


def to_arrivals(key: str, raw: Sequence[Any]) -> Arrivals | PayloadError:
    """From entries in ascending order, a seal behind them."""
    seal = damage = None
    if raw and raw[-1][0] == SEAL_ID:
        try:
            seal = _sealed_length(key, raw[-1])
        except PayloadError as error:
            damage = error
        raw = raw[:-1]
    entries, broken = _sound_entries(key, raw)
    damage = broken or damage
    if damage is not None:
        if not entries:
            return damage
        seal = None
    return Arrivals(entries, seal)


def _entries(key: str, raw: Sequence[Any]) -> Entries:
    """All entries. Raises `PayloadError` for one that is not as protocol 1 says."""
    entries, damage = _sound_entries(key, raw)
    if damage is not None:
        raise damage
    return entries


def _sound_entries(key: str, raw: Sequence[Any]) -> tuple[Entries, PayloadError | None]:
    """The entries in front of the first that is damaged, and what is wrong with that."""
    if not raw:
        return Entries((), Batches(())), None
    quick = _alone(*raw) if len(raw) == 1 else _alike(raw)
    if quick is not None:
        return quick, None
    found: list[Entry] = []
    for item in raw:
        try:
            found.append(to_entry(key, item))
        except PayloadError as error:
            return Entries.of(found), error
    return Entries.of(found), None


def _alone(item: Any) -> Entries | None:
    """As `_alike`, for one entry with one point."""
    ident, fields = item
    if len(fields) != 2 or fields[0] != b"payload" or not ident.endswith(b"-1"):
        return None
    start = int(ident[:-2])
    return Entries(range(start, start + 1), Batches(fields[1:])) if start < MAX_POINTS else None


def _alike(raw: Sequence[Any]) -> Entries | None:
    """Entries that all have the same fields, as publishers write them, without a look at each of
    them alone; None where something is not so, and each must be looked at."""
    idents = [item[0] for item in raw]
    fields = [item[1] for item in raw]
    count = len(raw)
    widths = set(map(len, fields))
    if not idents[0].endswith(b"-1") or {f[0] for f in fields if f} != {b"payload"}:
        return None
    start = int(idents[0][:-2])
    payloads = [f[1] for f in fields]
    if widths == {2}:
        if start + count <= MAX_POINTS and idents == [
            b"%d-1" % i for i in range(start, start + count)
        ]:
            return Entries(range(start, start + count), Batches(payloads))
        return None
    if widths != {4} or {f[2] for f in fields} != {b"len"}:
        return None
    lens = [f[3] for f in fields]
    if not all(map(bytes.isdigit, lens)) or max(map(len, lens)) > MAX_DIGITS:
        return None
    counts = list(map(int, lens))
    starts = [start, *accumulate(counts, initial=start)][1:-1]
    if (
        min(counts) < 1
        or start + sum(counts) > MAX_POINTS
        or idents != [b"%d-1" % i for i in starts]
    ):
        return None
    return Entries(starts, Batches(payloads, counts))


def to_entry(key: str, item: Any) -> Entry:
    """One entry. Raises `PayloadError` for one that is not as protocol 1 says."""
    ident, fields = item
    index, _, sequence = ident.partition(b"-")
    if sequence != b"1":
        raise PayloadError(f"the entry {ident.decode()} of {key} has an id that is not <index>-1")
    payload = count = None
    if len(fields) == 4 and fields[0] == b"payload" and fields[2] == b"len":
        _, payload, _, count = fields
    else:
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
        length = int(count) if count.isdigit() and len(count) <= MAX_DIGITS else 0
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
    length = int(found) if found.isdigit() and len(found) <= MAX_DIGITS else MAX_INDEX
    if length > MAX_POINTS:
        raise PayloadError(f"the seal of {key} says that it has {found[:40]!r} points")
    return length


def or_damage(read: Callable[..., T], *args: Any) -> T | PayloadError:
    """What `read` gives, or the `PayloadError` that it raises."""
    try:
        return read(*args)
    except PayloadError as error:
        return error


def to_span(key: str, parts: Sequence[Any]) -> Span:
    """From the newest entry, and the ranges."""
    tail, *ranges = parts
    return to_tail(key, tail), Entries.joined([_entries(key, items or ()) for items in ranges])


def to_newest(key: str, raw: Sequence[Any]) -> tuple[Tail, Entry | None]:
    """From the newest two entries, newest first."""
    return to_tail(key, raw), _last_entry(key, raw)


def to_tail(key: str, raw: Sequence[Any]) -> Tail:
    """From the newest entries, newest first; or from what the function `bd3_tail` says of the
    newest: id, `len`, and the `id` of a seal."""
    if not raw:
        return Tail(0, False)
    if type(raw[0]) is bytes:
        ident, count, length = raw
        if ident == SEAL_ID:
            return Tail(_sealed_length(key, (ident, [b"id", length])), True)
        fields = [b"payload", b"", b"len", count] if count else [b"payload", b""]
        return Tail(to_entry(key, (ident, fields)).end, False)
    if raw[0][0] == SEAL_ID:
        return Tail(_sealed_length(key, raw[0]), True)
    return Tail(to_entry(key, raw[0]).end, False)


def to_bounds(key: str, raw: Sequence[Any]) -> Bounds:
    """From the id of the first entry, and what `to_tail` takes of the last."""
    if not raw:
        return Bounds(0, Tail(0, False))
    tail = to_tail(key, raw[1:])
    if raw[0] == SEAL_ID:
        return Bounds(tail.length, tail)
    start = to_entry(key, (raw[0], [b"payload", b""])).index
    if start >= tail.length:
        raise PayloadError(f"{key} begins at index {start}, but its seal says {tail.length} points")
    return Bounds(start, tail)


def _last_entry(key: str, raw: Sequence[Any]) -> Entry | None:
    """From the newest two entries, newest first."""
    for item in raw:
        if item[0] != SEAL_ID:
            return to_entry(key, item)
    return None
