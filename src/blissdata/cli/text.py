"""Values as people and JSON read them: pure functions, no server and no terminal in here."""

from __future__ import annotations

import datetime
import json
import math
import re
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = [
    "age",
    "clock",
    "compact_json",
    "moment",
    "of_many",
    "plain",
    "point",
    "points",
    "printable",
    "size",
    "span_text",
    "value",
    "wrapped",
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROL_BUT_NEWLINE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

SHORT = 8
"""An array of so many numbers is written out, a longer one is summarised."""


def printable(text: str, *, lines: bool = False) -> str:
    """The text with control characters escaped: what a publisher wrote must not move the cursor or
    colour the terminal of whoever looks. `lines` keeps line ends."""
    pattern = _CONTROL_BUT_NEWLINE if lines else _CONTROL
    return pattern.sub(lambda found: ascii(found.group())[1:-1], text)


def value(found: Any) -> str:
    """A value of a header: texts as they are, everything else as JSON, None as nothing."""
    if found is None:
        return ""
    return printable(found if isinstance(found, str) else compact_json(found))


def compact_json(found: Any) -> str:
    """One line of JSON: NaN and infinities are null, numpy values plain ones."""
    return json.dumps(plain(found), allow_nan=False)


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` characters; what is longer by itself, as keys and paths
    are, stays whole, so that it can be copied."""
    return textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False)


# ---------------------------------------------------------------------------------- times


def age(seconds: float) -> str:
    """How long ago, in its two largest units at most: `12 s`, `5 min`, `3 h 20 min`, `4 d 2 h`."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{rest} s"


def moment(unix_s: float | None) -> str | None:
    """A Unix time for JSON: as ISO 8601 in the local time zone, to the millisecond."""
    if unix_s is None:
        return None
    then = datetime.datetime.fromtimestamp(unix_s, datetime.UTC).astimezone()
    return then.isoformat(timespec="milliseconds")


def clock(found: float | str | None) -> str:
    """A time for people, as all commands show it: `2026-03-07 14:05:09`, in the local time zone. From a
    Unix time [s], or a text in ISO 8601 (one without a time zone is taken to be local); another text
    stays as it is, None is nothing."""
    if found is None:
        return ""
    try:
        if isinstance(found, str):
            then = datetime.datetime.fromisoformat(found)
        else:
            then = datetime.datetime.fromtimestamp(found, datetime.UTC)
        return f"{then.astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return printable(str(found))


# ---------------------------------------------------------------------------------- counts


def of_many(points: int, npoints: int | None) -> str:
    """`12`, or `12/100` where it is known how many there will be."""
    return f"{points}/{npoints}" if npoints else str(points)


def span_text(span: tuple[int, int] | None) -> str:
    """A range of indices for people, both ends included: `0–99`; empty for none."""
    if span is None or span[0] >= span[1]:
        return ""
    return f"{span[0]}–{span[1] - 1}" if span[1] > span[0] + 1 else str(span[0])


def size(nbytes: float) -> str:
    """An amount of memory in its largest unit: `23.4 MB`; units are powers of 1024, as in `maxmemory`."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1024:
            return f"{nbytes:.4g} {unit}" if nbytes >= 1000 else f"{nbytes:.3g} {unit}"
        nbytes /= 1024
    return f"{nbytes:.3g} TB"


# ---------------------------------------------------------------------------------- points


def plain(found: Any) -> Any:
    """The value as JSON can say it: arrays as lists, complex numbers as `[real, imaginary]`, NaN
    and infinities as None, a scan by its key, what JSON does not know as text."""
    if found is None or isinstance(found, str | bool | int):
        return found
    if isinstance(found, float):
        return found if math.isfinite(found) else None
    if isinstance(found, np.ndarray | np.generic):
        return _plain_array(np.asarray(found))
    if isinstance(found, Mapping):
        return {str(name): plain(item) for name, item in found.items()}
    if isinstance(found, list | tuple):
        return [plain(item) for item in found]
    key = getattr(found, "key", None)
    return {"key": key} if isinstance(key, str) else str(found)


def _plain_array(array: np.ndarray[Any, Any]) -> Any:
    if array.dtype.kind == "O":
        return [plain(item) for item in array] if array.ndim else plain(array.item())
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag], axis=-1)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            array = array.astype(np.float64)  # JSON's numbers; longdouble has no other
        finite = np.isfinite(array)
        if not finite.all():
            array = array.astype(object)
            array[~finite] = None
    return array.tolist()


def points(data: Any) -> list[str]:
    """Each of the points in `data` (its first axis counts them), for people."""
    if isinstance(data, np.ndarray) and data.ndim == 1 and data.dtype.kind != "O":
        return [str(item) for item in data]
    return [point(item) for item in data]


def point(found: Any) -> str:
    """One point for people: numbers and short arrays in full, frames by shape, smallest and
    largest value, JSON as it is, a scan by its key."""
    if not isinstance(found, np.ndarray):
        if isinstance(found, np.generic):
            return str(found)
        shown = plain(found)
        if isinstance(shown, dict) and set(shown) == {"key"}:
            return printable(str(shown["key"]))
        return compact_json(shown)
    if found.ndim == 1 and found.size <= SHORT:
        return f"[{' '.join(str(item) for item in found)}]"
    shape = "×".join(str(n) for n in found.shape)
    return f"({shape}) {found.dtype.name}{_extent(found)}"


def _extent(array: np.ndarray[Any, Any]) -> str:
    if not array.size or array.dtype.kind not in "biuf":
        return ""
    if array.dtype.kind == "f":
        numbers = array[~np.isnan(array)]
        if not numbers.size:
            return ", all NaN"
        some = f", {array.size - numbers.size} NaN" if numbers.size < array.size else ""
        return f", min {numbers.min()!s}, max {numbers.max()!s}{some}"
    return f", min {array.min()!s}, max {array.max()!s}"
