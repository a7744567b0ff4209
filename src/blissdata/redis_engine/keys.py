"""Every key name, hash tag and version number on the server; written down in `docs/reference/wire.md`."""

from __future__ import annotations

import os
import re
import threading
import time

__all__ = [
    "ACQUISITION",
    "DELETION_GRACE_S",
    "HISTORY",
    "HISTORY_LENGTH",
    "KEEPER",
    "LASTING_TTL_S",
    "NOBODY",
    "PINS",
    "PLAIN_PROTOCOL",
    "PROTOCOL",
    "PULSES",
    "PULSE_TTL_S",
    "STACK_PROTOCOL",
    "TRACKING",
    "ULID_DIGITS",
    "WRITER",
    "PlainKeys",
    "StackKeys",
    "created_at",
    "new_ulid",
    "pin_key",
]

PROTOCOL = "_PROTOCOL_VERSION_"
"""Holds the version of the layout of the whole database."""

PLAIN_PROTOCOL = 1001
"""Our layout, for servers without modules. blissdata 2.x refuses it with a clear message."""

STACK_PROTOCOL = 1
"""The layout that deployed blissdata 2.x shares, which needs RedisJSON and RediSearch."""

HISTORY = "_SCAN_HISTORY_"
"""A stream with one entry per created scan, field `key`; an entry's id is the scan's timetag."""

TRACKING = "_MEMORY_TRACKING_"
"""The memory tracker's journal: a stream of where data streams ended, and when."""

PINS = "_PINS_"
"""A set: the keys of all pins, under any prefix."""

KEEPER = "_MEMORY_TRACKER_"
"""A hash: what the memory tracker that works says of itself; it expires when nothing is said any more."""

WRITER = "_FILE_WRITER_"
"""A hash: what the file writer says of itself."""

NOBODY = "_NOBODY_"
"""A key that is never there: whether a server takes signs of life is tried with it."""

ACQUISITION = "_ACQUISITION_:"
"""Followed by a detector's address: the number of its current acquisition, in the plain layout. In
protocol 1 the address alone is the key."""

HISTORY_LENGTH = 2048
"""How many entries the history keeps, about. Older scans are found through the index."""

DELETION_GRACE_S = 10
"""A key that expires within this time [s] counts as deleted for every reader (protocol 1)."""

PULSES = "_PULSES_"
"""A set of the keys of all pulses, on servers of protocol 1: whether anything else is about to expire is
then asked at once."""

PULSE_TTL_S = 86400
"""Time to live of a scan's pulse after each beat of its publisher [s]. What is missing of it is the time
since the last beat, so that it need not be written, only renewed, which a full server allows."""

LASTING_TTL_S = 100 * 366 * PULSE_TTL_S
"""The same for pins that outlive their programs [s]: for ever, and yet it tells of the last beat."""


def pin_key(scan_key: str, name: str) -> str:
    """A pin of a scan, in every layout: it has the scan's hash tag, where the scan has one."""
    prefix, _, tag = scan_key.rpartition(":scan:")
    return f"{prefix}:pin:{tag}:{name}"


class PlainKeys:
    """Key names of the plain layout under one prefix. All keys of one scan carry the same hash tag,
    so that a cluster keeps a scan in one slot."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.scan_prefix = f"{prefix}:scan:"
        self.stream_prefix = f"{prefix}:stream:"
        self.states = self.index("@states")
        """A sorted set with the state of every scan. No identity field has an @ in its name."""
        self.expiring = self.index("@expiring")
        """A sorted set with the time at which scans expire, of those that were told to [ms]."""

    def scan(self, pk: str) -> str:
        """The scan document."""
        return f"{self.scan_prefix}{{{pk}}}"

    def is_scan(self, key: str) -> bool:
        """True if the key has the prefix of scans; there need not be one."""
        return key.startswith(self.scan_prefix)

    def scan_pk(self, key: str) -> str:
        """The primary key in a scan's key."""
        return key.removeprefix(self.scan_prefix).removeprefix("{").removesuffix("}")

    def stream(self, scan_pk: str, pk: str) -> str:
        """A data stream of a scan."""
        return f"{self.prefix}:stream:{{{scan_pk}}}:{pk}"

    def state(self, scan_pk: str) -> str:
        """The state stream of a scan: it has the scan's own primary key."""
        return self.stream(scan_pk, scan_pk)

    def pulse(self, scan_pk: str) -> str:
        """The pulse of a scan's publisher."""
        return f"{self.prefix}:pulse:{{{scan_pk}}}"

    def index(self, name: str) -> str:
        """One sorted set of the search index: `created`, or the name of an identity field."""
        return f"{self.prefix}:index:{name}"


class StackKeys:
    """Key names of protocol 1 under one prefix: no hash tags, and a stream's key says nothing about
    its scan."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.scan_prefix = f"{prefix}:scan:"

    def scan(self, pk: str) -> str:
        """The scan document."""
        return f"{self.scan_prefix}{pk}"

    def is_scan(self, key: str) -> bool:
        """True if the key has the prefix of scans; there need not be one."""
        return key.startswith(self.scan_prefix)

    def scan_pk(self, key: str) -> str:
        """The primary key in a scan's key."""
        return key.removeprefix(self.scan_prefix)

    def stream(self, pk: str) -> str:
        """A data stream, or the state stream of a scan."""
        return f"{self.prefix}:stream:{pk}"

    def pulse(self, scan_pk: str) -> str:
        """The pulse of a scan's publisher; blissdata 2.x knows nothing of it."""
        return f"{self.prefix}:pulse:{scan_pk}"

    @property
    def index(self) -> str:
        """The search index (the name of an index is no key)."""
        return f"{self.scan_prefix}index"

    @property
    def index_schema(self) -> str:
        """What the index was made from, as text; blissdata 2.x writes it and never reads it."""
        return f"{self.index}:schema"

    @property
    def index_hash(self) -> str:
        """The SHA-1 of that text."""
        return f"{self.index}:hash"


ULID_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""What a primary key is made of."""

_PK_OF_KEY = re.compile(rf"([{ULID_DIGITS}]{{26}})\}}?$")
_PAIRS = [a + b for a in ULID_DIGITS for b in ULID_DIGITS]
_lock = threading.Lock()
_last = 0


def new_ulid() -> str:
    """A primary key: 26 characters that sort by time of creation, strictly within a process.

    The form is that of https://github.com/ulid/spec: 48 bits of milliseconds, 80 of chance."""
    global _last
    with _lock:
        value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
        if value <= _last:
            value = _last + 1
        _last = value
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])


def created_at(key: str) -> float | None:
    """When the scan was created, Unix time [s] on its publisher's clock: its key says so (the
    first 48 bits of a ULID are milliseconds). None for a key of another form."""
    found = _PK_OF_KEY.search(key)
    if found is None:
        return None
    ms = 0
    for digit in found[1][:10]:
        ms = ms << 5 | ULID_DIGITS.index(digit)
    return ms / 1000 if ms < 1 << 47 else None
