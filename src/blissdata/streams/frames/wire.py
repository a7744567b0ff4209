"""What the frame server of a buffer and its readers say to each other: messages, and their checks. Pure.

    reader ──▶ Request, 44 bytes: which frames, token
    server ──▶ Reply, 48 bytes: which frame, how it stands; then its bytes, if it is there

A reply for each frame, in the order in which they were asked for; requests need not wait for replies. All
numbers are little-endian. A request for no frames is answered with the frames that there are.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "MAX_FRAMES",
    "REPLY_NBYTES",
    "REQUEST_NBYTES",
    "Reply",
    "Request",
    "Status",
    "most_frames",
]

MAGIC = b"BDF1"

MAX_FRAMES = 64
"""Frames that one request may ask for."""

_MOST_NBYTES = 2**22
"""What one request of several frames may bring [bytes]."""

_REQUEST = struct.Struct("<4s16sQQQ")
_REPLY = struct.Struct("<4sIQQqqQ")

REQUEST_NBYTES = _REQUEST.size
REPLY_NBYTES = _REPLY.size


class Status(IntEnum):
    """How a frame stands."""

    FRAME = 1
    """Here it is."""

    GONE = 2
    """It was overwritten."""

    LATER = 3
    """It is not taken yet."""

    REFUSED = 4
    """The token is wrong, or the request means nothing."""

    HELD = 5
    """The frames that there are: from `index` to `taken`."""


def most_frames(nbytes: int) -> int:
    """How many frames of that size [bytes] one request may ask for."""
    return max(1, min(MAX_FRAMES, _MOST_NBYTES // max(1, nbytes)))


@dataclass(frozen=True, slots=True)
class Request:
    """Frames that a reader wants."""

    token: bytes
    number: int
    """The reader's own; each reply has it."""

    start: int
    count: int
    """0: which frames are there?"""

    def pack(self) -> bytes:
        """As bytes."""
        return _REQUEST.pack(MAGIC, self.token, self.number, self.start, self.count)

    @classmethod
    def parse(cls, message: bytes | bytearray) -> Request | None:
        """None for what is no request."""
        if len(message) != _REQUEST.size or message[:4] != MAGIC:
            return None
        return cls(*_REQUEST.unpack(message)[1:])

    def may(self, token: bytes) -> bool:
        """Whether it has the right token; takes as long for every wrong one."""
        return hmac.compare_digest(self.token, token)


@dataclass(frozen=True, slots=True)
class Reply:
    """How one frame stands; its bytes follow if it is there."""

    status: Status
    number: int
    """That of the request."""

    index: int
    """The frame."""

    taken: int = 0
    """How many frames were taken; for `GONE`: which frame took its place."""

    when: int = 0
    """For `GONE`: when [ns since 1970]."""

    nbytes: int = 0
    """How much follows: the frame, if it is there [bytes]."""

    def pack(self) -> bytes:
        """As bytes."""
        numbers = (self.number, self.index, self.taken, self.when, self.nbytes)
        return _REPLY.pack(MAGIC, self.status, *numbers)

    @classmethod
    def parse(cls, message: bytes | bytearray) -> Reply:
        """Raises `ValueError` for what is no reply."""
        if len(message) != _REPLY.size:
            raise ValueError(f"found {len(message)} bytes, a reply has {_REPLY.size}")
        magic, status, *rest = _REPLY.unpack(message)
        if magic != MAGIC:
            raise ValueError(f"found {magic!r}, a reply begins with {MAGIC!r}")
        return cls(Status(status), *rest)
