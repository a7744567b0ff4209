"""Commands as they travel, for batches of thousands of keys: packed at once, not one by one.

Keys of scans under one prefix are equally long, so that what is between two of them is always the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis

__all__ = ["packed", "packed_for_each", "packed_with_many"]


def packed(*commands: Sequence[Any]) -> bytes:
    """Some commands, whatever they are."""
    return b"".join(hiredis.pack_command(tuple(command)) for command in commands)


def packed_with_many(command: Sequence[str], *groups: Sequence[str]) -> bytes:
    """One command whose last arguments are these texts, group after group."""
    count = len(command) + sum(map(len, groups))
    return b"".join([b"*%d\r\n" % count, _arguments(command), *map(_many_arguments, groups)])


def packed_for_each(before: Sequence[str], texts: Sequence[str], after: Sequence[str]) -> bytes:
    """One command for each text, which stands between the same arguments."""
    size = _common_size(texts)
    if size is None:
        return packed(*((*before, text, *after) for text in texts))
    count = len(before) + 1 + len(after)
    head = b"*%d\r\n%b$%d\r\n" % (count, _arguments(before), size)
    tail = b"\r\n%b" % _arguments(after)
    between = (tail + head).decode()
    return b"%b%b%b" % (head, between.join(texts).encode(), tail)


def _many_arguments(texts: Sequence[str]) -> bytes:
    size = _common_size(texts)
    if size is None:
        return _arguments(texts)
    between = f"\r\n${size}\r\n"
    return f"${size}\r\n{between.join(texts)}\r\n".encode()


def _arguments(texts: Sequence[str]) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(t), t) for t in map(str.encode, texts))


def _common_size(texts: Sequence[str]) -> int | None:
    """The length of each [bytes]; None if they differ, or might."""
    sizes = set(map(len, texts))
    return sizes.pop() if len(sizes) == 1 and all(map(str.isascii, texts)) else None
