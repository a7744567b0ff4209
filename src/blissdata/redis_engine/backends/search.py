"""What a search means: pure rules that every catalogue shares.

Texts ignore case, as TAG fields of blissdata 2.x do; `*` at their start or end stands for anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["BEYOND_DOUBLES", "Criterion", "criteria", "index_entries", "matches", "score"]

Criterion = tuple[str, str, Any]
"""Name of a field, how to compare (`number`, `exact`, `prefix`, `suffix`, `infix`), and with what."""

BEYOND_DOUBLES = 2**53
"""From here on doubles cannot tell an integer from its neighbours."""


def criteria(fields: Mapping[str, Any], known: Sequence[str]) -> list[Criterion]:
    """What is asked for; a text that is `*` alone asks for nothing and is left out.

    Raises `ValueError` for an unknown field or a `*` inside a text, `TypeError` for another type."""
    wanted: list[Criterion] = []
    for name, value in fields.items():
        if name not in known:
            raise ValueError(
                f"Scans cannot be searched by '{name}'; the fields are {', '.join(known)}"
            )
        if isinstance(value, str):
            if value.strip("*") or not value:
                wanted.append((name, *_text_criterion(name, value)))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(score(value)) and not isinstance(value, int):
                raise ValueError(f"{name}={value!r} is not a number that a scan can have")
            wanted.append((name, "number", _exact(value)))
        else:
            raise TypeError(
                f"Scans are searched by texts and numbers, not {name}={value!r}; "
                "leave a field out to allow anything"
            )
    return wanted


def _text_criterion(name: str, text: str) -> tuple[str, str]:
    before, after = text.startswith("*"), text.endswith("*")
    inner = text[before : len(text) - after]
    if "*" in inner:
        raise ValueError(
            f"{name}={text!r}: a '*' may stand at the start and at the end of a text, not inside"
        )
    how = {
        (False, False): "exact",
        (False, True): "prefix",
        (True, False): "suffix",
        (True, True): "infix",
    }[before, after]
    return how, inner.casefold()


def index_entries(identity: Mapping[str, Any], pk: str) -> list[tuple[str, float | int, str]]:
    """For each field that is set: its name, and the score and member under which it is found in a
    sorted set. Numbers are scores; texts, case folded, begin the member, and so do numbers of
    2**53 and more, which a score cannot tell apart."""
    entries: list[tuple[str, float | int, str]] = []
    for name, value in identity.items():
        if value is None:
            continue
        if isinstance(value, int | float) and not isinstance(value, bool):
            exact = _exact(value)
            member = pk if abs(exact) < BEYOND_DOUBLES else f"{exact}\0{pk}"
            entries.append((name, score(exact), member))
        else:
            entries.append((name, 0, f"{str(value).casefold()}\0{pk}"))
    return entries


def _exact(value: float) -> float:
    """The number, as an integer if it is one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def score(value: float) -> float:
    """The number as a sorted set holds it: a double."""
    try:
        return value if abs(value) < BEYOND_DOUBLES else float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def matches(identity: Mapping[str, Any], wanted: Sequence[Criterion]) -> bool:
    """True if an identity is what all criteria ask for."""
    for name, how, what in wanted:  # noqa: SIM110 — a generator costs as much as the work
        if not _matches(identity.get(name), how, what):
            return False
    return True


def _matches(value: Any, how: str, what: Any) -> bool:
    if how == "exact" and type(value) is str:  # by far the most frequent
        return bool(value == what or value.casefold() == what)
    if value is None:
        return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        return how == "number" and value == what
    text = str(value).casefold()
    comparisons: dict[str, Callable[[str], bool]] = {
        "exact": text.__eq__,
        "prefix": text.startswith,
        "suffix": text.endswith,
        "infix": text.__contains__,
    }
    return how != "number" and comparisons[how](what)
