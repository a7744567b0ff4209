"""The bytes of Beacon's protocol: how messages are framed, and what numbers mean.

    message    <ii number, length of payload | payload
    request    payload <key>|<argument>|…      key: counts the requests of a connection
    reply      payload <key>|<data>, or <key> alone

The one request without a key is REDIS_DB, with an empty payload; its reply has none either.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from blissdata.exceptions import BeaconRefusedError

__all__ = ["HEADER", "MAX_KEY", "Message", "pack", "unpack_header"]

HEADER = struct.Struct("<ii")

MAX_KEY = 100_000
"""Keys count from 1 and begin again there."""


class Message(IntEnum):
    """The numbers of requests, and of the replies to each."""

    UNKNOWN = -1
    REDIS_DB = 30
    REDIS_DB_OK = 31
    REDIS_DATA_DB = 32
    REDIS_DATA_DB_FAILED = 33
    REDIS_DATA_DB_OK = 34
    FILE = 50
    FILE_FAILED = 51
    FILE_OK = 52
    TREE = 86
    TREE_FAILED = 87
    TREE_OK = 88
    SET = 140
    SET_OK = 141
    SET_FAILED = 142
    GET = 143
    GET_OK = 144
    GET_FAILED = 145
    GET_UNDEFINED = 146


def pack(number: int, *parts: bytes) -> bytes:
    """A message whose payload is these parts with bars between them."""
    payload = b"|".join(parts)
    return HEADER.pack(number, len(payload)) + payload


def unpack_header(header: bytes, limit: int) -> tuple[int, int]:
    """`(number, length of the payload [bytes])`. Raises `BeaconRefusedError` for a length that is
    negative or above the limit: what sent it does not speak this protocol."""
    number, length = HEADER.unpack(header)
    if not 0 <= length <= limit:
        raise BeaconRefusedError(
            f"a message of {length} bytes was announced, at most {limit} are taken: "
            "is that a Beacon server?"
        )
    return number, length
