"""Packed commands are what the Redis client would have sent, whatever the keys are."""

from __future__ import annotations

import hiredis
import pytest

from blissdata.redis_engine.backends.packing import packed, packed_for_each, packed_with_many

TEXTS = [
    ["a"],
    ["esrf:scan:1", "esrf:scan:2", "esrf:scan:3"],
    ["short", "and longer"],
    ["", ""],
    ["ü1", "ü2"],
    ["ü", "xy", "ab"],
    ["\r\n", "$1"],
]


def apart(*commands: tuple[str, ...]) -> bytes:
    return b"".join(hiredis.pack_command(command) for command in commands)


@pytest.mark.parametrize("texts", TEXTS, ids=repr)
def test_one_command_with_many_arguments(texts: list[str]) -> None:
    assert packed_with_many(("ZMSCORE", "ü"), texts) == apart(("ZMSCORE", "ü", *texts))


def test_groups_of_arguments_may_be_of_different_lengths() -> None:
    groups = ["s1", "s2"], ["1-0", "22-0"], ["x"]
    expected = apart(("XREAD", "s1", "s2", "1-0", "22-0", "x"))
    assert packed_with_many(("XREAD",), *groups) == expected


@pytest.mark.parametrize("texts", [*TEXTS, []], ids=repr)
def test_one_command_for_each_text(texts: list[str]) -> None:
    expected = apart(*(("XRANGE", text, "-", "+") for text in texts))
    assert packed_for_each(("XRANGE",), texts, ("-", "+")) == expected


def test_any_commands() -> None:
    assert packed(("PING",), ("SET", "k", 1)) == apart(("PING",), ("SET", "k", "1"))
