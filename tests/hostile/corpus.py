"""Entries that no honest publisher writes, as data: what is put on the server, field by field.

`DAMAGED`: id → (kind of stream, entries written after three good points, as (entry id, fields)).
The good points have the indices 0, 1 and 2, one entry each; nothing of what follows may ever be
read as a number.
`CONTRADICTING`: id → the same, but each entry alone is sound: only together they cannot be.
"""

from __future__ import annotations

import struct

import msgpack

SEAL = "18446744073709551615-18446744073709551615"


def doubles(*values: float) -> bytes:
    """Points of the stream `scalars`."""
    return struct.pack(f"<{len(values)}d", *values)


def entry(payload: bytes, length: bytes | None = None, ident: str = "3-1") -> list:
    """One entry behind the good ones."""
    fields = {b"payload": payload}
    if length is not None:
        fields[b"len"] = length
    return [(ident, fields)]


def ragged(shape: object, data: bytes) -> bytes:
    """The payload of the stream `ragged`."""
    return msgpack.packb([shape, data])


def claims(head: bytes, size: int) -> bytes:
    """Msgpack that claims `size` elements and has none."""
    return head + size.to_bytes(4, "big")


LENGTHS = {
    "zero": b"0",
    "negative": b"-1",
    "very negative": b"-10000000000000000000",
    "ten to the 19": b"10000000000000000000",
    "all points there can be": b"18446744073709551614",
    "the index of the seal": b"18446744073709551615",
    "beyond 64 bits": b"18446744073709551616",
    "5000 digits": b"9" * 5000,
    "a sign": b"+1",
    "a blank": b" 1",
    "hexadecimal": b"0x1",
    "an exponent": b"1e0",
    "a fraction": b"1.0",
    "infinity": b"inf",
    "nan": b"nan",
    "nothing": b"",
    "a word": b"two",
    "superscript two": "²".encode(),
    "a null byte": b"1\0",
}

DAMAGED: dict[str, tuple[str, list]] = {
    **{
        f"length is {what}": ("scalars", entry(doubles(3.0), text))
        for what, text in LENGTHS.items()
    },
    "length says more than there is": ("scalars", entry(doubles(3.0), b"2")),
    "length says less than there is": ("scalars", entry(doubles(3.0, 4.0), b"1")),
    "length is missing": ("scalars", entry(doubles(3.0, 4.0))),
    "length in a json stream": ("json", entry(b"[1, 2]", b"2")),
    "huge length in a json stream": ("json", entry(b"1", b"9000000000000000000")),
    "huge length of pairs": ("pairs", entry(doubles(3, 3), b"1000000000000000000")),
    "payload cut": ("scalars", entry(doubles(3.0)[:7])),
    "payload one byte too long": ("scalars", entry(doubles(3.0) + b"\0")),
    "payload empty": ("scalars", entry(b"")),
    "half a pair": ("pairs", entry(doubles(3.0))),
    "no payload": ("scalars", [("3-1", {b"len": b"1"})]),
    "no payload but another field": ("scalars", [("3-1", {b"\xff\xfe": b"1"})]),
    "no payload in a json stream": ("json", [("3-1", {b"data": b"1"})]),
    "points without bytes, too many": ("hollow", entry(b"", b"9000000000000000000")),
    "another id than index and one": ("scalars", entry(doubles(3.0), None, "3-2")),
    "an index near the end of all indices": (
        "scalars",
        entry(doubles(3.0), None, "18446744073709551614-1"),
    ),
    "the index of the seal": ("scalars", entry(doubles(3.0), None, "18446744073709551615-1")),
    "msgpack cut": ("ragged", entry(ragged([2], doubles(3, 3))[:-1])),
    "msgpack with a tail": ("ragged", entry(ragged([2], doubles(3, 3)) + b"\0")),
    "msgpack empty": ("ragged", entry(b"")),
    "msgpack never used byte": ("ragged", entry(b"\xc1")),
    "msgpack map": ("ragged", entry(msgpack.packb({"shape": [2], "data": doubles(3, 3)}))),
    "msgpack map as shape": ("ragged", entry(ragged({0: 2}, doubles(3, 3)))),
    "msgpack number": ("ragged", entry(msgpack.packb(3))),
    "msgpack null": ("ragged", entry(msgpack.packb(None))),
    "msgpack one element": ("ragged", entry(msgpack.packb([[2]]))),
    "msgpack three elements": ("ragged", entry(msgpack.packb([[2], doubles(3, 3), 1]))),
    "msgpack text for bytes": ("ragged", entry(msgpack.packb([[2], "x" * 16]))),
    "msgpack text that is not UTF-8": ("ragged", entry(b"\x92\x91\x02\xa2\xff\xff")),
    "msgpack list for bytes": ("ragged", entry(msgpack.packb([[2], [3.0, 3.0]]))),
    "msgpack ext": ("ragged", entry(msgpack.packb(msgpack.ExtType(5, doubles(3, 3))))),
    "msgpack ext for bytes": (
        "ragged",
        entry(msgpack.packb([[2], msgpack.ExtType(5, doubles(3, 3))])),
    ),
    "msgpack timestamp": ("ragged", entry(msgpack.packb([[2], msgpack.Timestamp(1, 1)]))),
    "msgpack nested bomb": ("ragged", entry(b"\x91" * 100_000)),
    "msgpack nested bomb with claims": (
        "ragged",
        entry(claims(b"\xdd", 2**16) * 20_000),
    ),
    "msgpack list that claims 4 G elements": ("ragged", entry(claims(b"\xdd", 2**32 - 1))),
    "msgpack map that claims 4 G elements": ("ragged", entry(claims(b"\xdf", 2**32 - 1))),
    "msgpack bytes that claim 4 GB": (
        "ragged",
        entry(b"\x92\x91\x02" + claims(b"\xc6", 2**32 - 1)),
    ),
    "msgpack bomb as shape": ("ragged", entry(b"\x92" + b"\x91" * 1000 + b"\x02\xc4\x00")),
    "shape of other dimensions": ("ragged", entry(ragged([2, 1], doubles(3, 3)))),
    "shape of no dimensions": ("ragged", entry(ragged([], doubles(3)))),
    "shape negative": ("ragged", entry(ragged([-2], doubles(3, 3)))),
    "shape minus one": ("ragged", entry(ragged([-1], doubles(3, 3)))),
    "shape twice negative": ("ragged images", entry(ragged([-1, -2], doubles(3, 3)))),
    "shape too large": ("ragged", entry(ragged([3], doubles(3, 3)))),
    "shape huge": ("ragged", entry(ragged([2**62], doubles(3, 3)))),
    "shape whose size is a multiple of 2**64": (
        "ragged images",
        entry(ragged([2**32, 2**32], b"")),
    ),
    "shape zero and huge": ("ragged images", entry(ragged([0, 2**63], b""))),
    "shape zero and beyond memory": ("ragged images", entry(ragged([0, 2**62], b""))),
    "shape of booleans": ("ragged", entry(ragged([True], doubles(3)))),
    "shape of floats": ("ragged", entry(ragged([2.0], doubles(3, 3)))),
    "shape of texts": ("ragged", entry(ragged(["2"], doubles(3, 3)))),
    "shape is null": ("ragged", entry(ragged(None, doubles(3, 3)))),
    "shape zero, points without end": ("ragged", entry(ragged([0], b""), b"9000000000000000000")),
    "json cut": ("json", entry(b'{"a": 1')),
    "json empty": ("json", entry(b"")),
    "json with a tail": ("json", entry(b"1 2")),
    "json nested ten thousand deep": ("json", entry(b"[" * 10_000 + b"]" * 10_000)),
    "json objects ten thousand deep": ("json", entry(b'{"a":' * 10_000 + b"1" + b"}" * 10_000)),
    "json deep and cut": ("json", entry(b"[" * 100_000)),
    "json integer of 5000 digits": ("json", entry(b"7" * 5000)),
    "json text that is not UTF-8": ("json", entry(b'"\xff\xfe\xfa"')),
    "json lone continuation byte": ("json", entry(b'"\x80"')),
    "json as pickle": ("json", entry(b"\x80\x04K\x03.")),
    "json raw control character": ("json", entry(b'"\x00"')),
    "seal that states a word": ("scalars", [(SEAL, {b"id": b"three"})]),
    "seal that states a negative number": ("scalars", [(SEAL, {b"id": b"-3"})]),
    "seal that states nothing": ("scalars", [(SEAL, {b"id": b""})]),
    "seal that states 5000 digits": ("scalars", [(SEAL, {b"id": b"3" * 5000})]),
    "seal that states all there can be": ("scalars", [(SEAL, {b"id": b"18446744073709551615"})]),
    "seal without a number": ("scalars", [(SEAL, {b"payload": doubles(3.0)})]),
    "seal shorter than the entries": ("scalars", [(SEAL, {b"id": b"2"})]),
    "seal of nothing": ("scalars", [(SEAL, {b"id": b"0"})]),
}

CONTRADICTING: dict[str, tuple[str, list]] = {
    "entries that overlap": (
        "scalars",
        [*entry(doubles(3.0, 4.0, 5.0), b"3"), *entry(doubles(40.0, 50.0), b"2", "4-1")],
    ),
    "an entry over many": (
        "scalars",
        [
            *entry(doubles(*range(3, 9)), b"6"),
            *entry(doubles(40.0), None, "4-1"),
            *entry(doubles(9.0), None, "9-1"),
        ],
    ),
    "a seal inside an entry": (
        "scalars",
        [*entry(doubles(3.0, 4.0, 5.0), b"3"), (SEAL, {b"id": b"4"})],
    ),
}
