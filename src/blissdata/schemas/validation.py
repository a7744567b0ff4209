"""Complaints about what a scan says about itself.

    info ─► shape: each field's kind and range ─► references ─► moments ─► device tree ─► complaints
            (fields.record(ScanInfoDict))         names, times met on the way

Nothing here raises, whatever the info is: it may come from anybody. Work grows with the size of
the info, the answer does not (`MAX_COMPLAINTS`).
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from blissdata.schemas.fields import (
    Anything,
    Flag,
    Kind,
    ListOf,
    Number,
    OneOf,
    OneRecordOf,
    Record,
    TableOf,
    Text,
    record,
)
from blissdata.schemas.scan_info import ScanInfoDict

__all__ = ["MAX_COMPLAINTS", "Complaint", "Severity", "validate"]

MAX_COMPLAINTS = 100
"""As many are told, errors before warnings; one more says how many were left out."""

MAX_DEPTH = 100
"""Deepest nesting below a key that is nobody's; programs that recurse give up a little later."""

MAX_SHOWN = 60
"""Longest value or key that a complaint repeats [characters]."""

MAX_CANDIDATES = 1000
"""Among more names than these, none is looked for that might have been meant."""

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is wrong with a scan's info, for people."""

    path: str
    """Where, e.g. `channels["diode"].dim`; empty for the info as a whole."""

    message: str
    """What was found, what was expected, and what to do."""

    severity: Severity = "error"
    """`error`: readers will fail or show something wrong. `warning`: they may."""

    def __str__(self) -> str:
        return f"{self.severity}: {self.path or 'scan info'}: {self.message}"


def validate(info: object) -> list[Complaint]:
    """What is wrong with a scan's info: nothing, if the list is empty.

    Errors come before warnings, each in the order of the fields; after `MAX_COMPLAINTS` a last one
    says how many more there are. Keys that no schema knows are allowed. Never raises; asks no
    server. Tuples and numpy values count as what they are stored as."""
    report = _shape(info)
    if isinstance(info, Mapping):
        _references(info, report)
        _moments(info, report)
        _device_tree(info, report)
        number = _plain(info.get("scan_nb"))
        if type(number) is int and number == 0:
            report.warn("scan_nb", "found 0; scans are numbered from 1 in each dataset")
    return report.complaints()


# ----------------------------------------------------------------------------------- the report


@dataclass(frozen=True, slots=True)
class _Seen:
    """A text that was met, whose meaning is judged later."""

    kind: Text
    text: str
    path: str


@dataclass(slots=True)
class _Report:
    """Complaints so far, and the texts to look at again."""

    kept: dict[Severity, list[Complaint]] = field(
        default_factory=lambda: {"error": [], "warning": []}
    )
    count: dict[Severity, int] = field(default_factory=lambda: {"error": 0, "warning": 0})
    texts: list[_Seen] = field(default_factory=list)

    def error(self, path: str, message: str) -> None:
        self.add("error", path, message)

    def warn(self, path: str, message: str) -> None:
        self.add("warning", path, message)

    def add(self, severity: Severity, path: str, message: str) -> None:
        self.count[severity] += 1
        if self.wants(severity):
            self.kept[severity].append(Complaint(path, message, severity))

    def wants(self, severity: Severity) -> bool:
        """Whether one more of these would be told."""
        return len(self.kept[severity]) < MAX_COMPLAINTS

    def complaints(self) -> list[Complaint]:
        told = (self.kept["error"] + self.kept["warning"])[:MAX_COMPLAINTS]
        errors = self.count["error"] - sum(one.severity == "error" for one in told)
        warnings = self.count["warning"] - sum(one.severity == "warning" for one in told)
        if errors + warnings == 0:
            return told
        message = f"and {errors} more errors, {warnings} more warnings; correct these first"
        return [*told, Complaint("", message, "error" if errors else "warning")]


# ------------------------------------------------------------------------------------ the shape


def _shape(info: object) -> _Report:
    """What JSON Schema says too, and warnings about odd values."""
    report = _Report()
    _check(record(ScanInfoDict), info, "", False, report)
    return report


def _check(kind: Kind, value: Any, path: str, optional: bool, report: _Report) -> None:
    """Complains where the value is not of the kind; collects the texts below it."""
    value = _plain(value)
    match kind:
        case Text() if isinstance(value, str):
            _check_text(kind, value, path, report)
        case Flag() if isinstance(value, bool):
            pass
        case OneOf() if any(_same(value, one) for one in kind.values):
            pass
        case Number() if _is_number(value, kind):
            pass
        case ListOf() if isinstance(value, list | tuple):
            for index, item in enumerate(value):
                _check(kind.item, item, f"{path}[{index}]", False, report)
        case TableOf() if isinstance(value, Mapping):
            for key, item in value.items():
                below = path + _bracketed(key)
                _check_key(key, below, report)
                _check(kind.value, item, below, False, report)
        case Anything() if isinstance(value, Mapping):
            _check_free(value, path, report)
        case Record() if isinstance(value, Mapping):
            _check_record(kind, value, path, report)
        case OneRecordOf() if isinstance(value, Mapping):
            _check_one_of(kind, value, path, report)
        case _:
            remedy = "correct it, or leave the key out" if optional else "correct it"
            report.error(path, f"found {_described(value)}, expected {kind.words}; {remedy}")


def _check_text(kind: Text, value: str, path: str, report: _Report) -> None:
    if kind.names or kind.moment:
        report.texts.append(_Seen(kind, value, path))
    if kind.known and value not in kind.known.values:
        known = ", ".join(kind.known.values)
        report.warn(
            path, f"found {_described(value)}, which readers do not know; they know {known}"
        )


def _check_record(kind: Record, value: Mapping[Any, Any], path: str, report: _Report) -> None:
    for name, one in kind.fields.items():
        below = f"{path}.{name}" if path else name
        if name in value:
            if one.deprecated:
                report.warn(below, f"deprecated; instead, {one.deprecated.instead}")
            _check(one.kind, value[name], below, not one.required, report)
        elif one.required:
            report.error(below, f"missing; expected {one.kind.words}; add it")
    others = {key: item for key, item in value.items() if key not in kind.fields}
    if others:
        _check_free(others, path, report)


def _check_one_of(kind: OneRecordOf, value: Mapping[Any, Any], path: str, report: _Report) -> None:
    tag = _plain(value.get("kind"))
    if isinstance(tag, str) and tag in kind.records:
        _check_record(kind.records[tag], value, path, report)
        return
    words = OneOf(tuple(kind.records)).words
    if "kind" in value:
        report.error(f"{path}.kind", f"found {_described(tag)}, expected {words}; correct it")
    else:
        report.error(f"{path}.kind", f"missing; expected {words}; add it")


def _check_free(value: Any, path: str, report: _Report) -> None:
    """What is nobody's business, as long as JSON can hold it."""
    met: set[int] = set()  # containers met, so that one that contains itself is no trap
    open_ends: list[tuple[Any, str, int]] = [(value, path, 0)]
    while open_ends:
        item, where, depth = open_ends.pop()
        if id(item) in met:
            continue
        met.add(id(item))
        if depth > MAX_DEPTH:
            where = f"{where[:MAX_SHOWN]}…"
            report.warn(where, f"nested deeper than {MAX_DEPTH} levels; not every reader follows")
            continue
        below = _children(item, where, report)
        open_ends.extend((child, step, depth + 1) for child, step in reversed(below))


def _children(value: Any, path: str, report: _Report) -> list[tuple[Any, str]]:
    """The containers in a container, after a look at everything else in it."""
    pairs: Iterable[tuple[Any, Any]]
    keyed = isinstance(value, Mapping)
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    below = []
    for key, item in pairs:
        if keyed:
            _check_key(key, path, report)
        if item is None or isinstance(item, str | bool | int) or _is_numpy(item):
            continue
        if isinstance(item, float) and math.isfinite(item):
            continue
        where = path + _dotted(key, path) if keyed else f"{path}[{key}]"
        if isinstance(item, Mapping | list | tuple):
            below.append((item, where))
        elif isinstance(item, float):
            report.warn(where, f"found {item}, which JSON cannot hold; it is stored as null")
        else:
            report.error(
                where, f"found {_described(item)}; write it as text, number, list or object"
            )
    return below


def _check_key(key: Any, path: str, report: _Report) -> None:
    if not isinstance(key, str):
        kind = type(key).__name__
        report.warn(path, f"found a key that is {kind}; JSON makes it text, make it text yourself")


def _is_number(value: Any, kind: Number) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(value, float) and not (
        math.isfinite(value) if not kind.whole else value.is_integer()
    ):
        return False
    return (kind.least is None or value >= kind.least) and (kind.most is None or value <= kind.most)


def _same(value: Any, one: str | bool) -> bool:
    """Equal and of one type: 1 is not True."""
    return value is one if isinstance(one, bool) else isinstance(value, str) and value == one


def _is_numpy(value: Any) -> bool:
    return type(value).__module__ == "numpy"


def _plain(value: Any) -> Any:
    """A numpy value as Python's own, without importing numpy."""
    return value.tolist() if _is_numpy(value) and hasattr(value, "tolist") else value


# --------------------------------------------------------------------------- names, times, trees


def _references(info: Mapping[Any, Any], report: _Report) -> None:
    """Texts that must be keys of another table. A table that is missing or no object was already
    complained of."""
    for seen in report.texts:
        names = seen.kind.names
        table = info.get(names.table) if names else None
        if names is None or not isinstance(table, Mapping) or seen.text in table:
            continue
        severity: Severity = "error" if names.strict else "warning"
        hint = _hint(seen.text, table, names.table) if report.wants(severity) else ""
        message = f"found {_described(seen.text)}, which is not in {names.table}; {hint}"
        report.add(severity, seen.path, message)


def _hint(text: str, table: Mapping[Any, Any], name: str) -> str:
    """What to do about a name that is not there."""
    if len(table) <= MAX_CANDIDATES and len(text) <= MAX_SHOWN:
        names = [key for key in table if isinstance(key, str) and len(key) <= MAX_SHOWN]
        for meant in difflib.get_close_matches(text, names, 1):
            return f"was {_quoted(meant)} meant?"
    return f"add it to {name}, or correct the name"


def _moments(info: Mapping[Any, Any], report: _Report) -> None:
    """Dates and times that are none; an end before its start."""
    found: dict[str, datetime] = {}
    for seen in report.texts:
        if not seen.kind.moment:
            continue
        moment = _moment(seen.text)
        if moment is None:
            message = (
                f"found {_described(seen.text)}, expected {seen.kind.words}, "
                "as datetime.now().astimezone().isoformat() writes it"
            )
            report.error(seen.path, message)
            continue
        found[seen.path] = moment
        if moment.tzinfo is None:
            report.warn(seen.path, "the offset from UTC is missing; add it, e.g. '+01:00'")
    start, end = found.get("start_time"), found.get("end_time")
    if start and end and (start.tzinfo is None) == (end.tzinfo is None) and end < start:
        report.warn("end_time", f"{end.isoformat()} is before start_time; check the clock")


def _moment(text: str) -> datetime | None:
    """ISO 8601 date and time; a date alone is none."""
    if "T" not in text:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _device_tree(info: Mapping[Any, Any], report: _Report) -> None:
    """A device that triggers itself, over others or not: readers that walk down never arrive."""
    devices = info.get("devices")
    if not isinstance(devices, Mapping):
        return
    triggered = {name: _triggered(device) for name, device in devices.items()}
    done: set[Any] = set()
    for root in triggered:
        on_the_way = {root: None}  # a set that remembers the order
        stack = [] if root in done else [(root, iter(triggered[root]))]
        while stack:
            name, below = stack[-1]
            index, child = next(below, (-1, None))
            if child is None:
                stack.pop()
                del on_the_way[name]
                done.add(name)
            elif child in on_the_way:
                path = f"devices{_bracketed(name)}.triggered_devices[{index}]"
                report.error(path, f"{_quoted(child)} triggers itself in the end; break the circle")
            elif child in triggered and child not in done:
                on_the_way[child] = None
                stack.append((child, iter(triggered[child])))


def _triggered(device: Any) -> list[tuple[int, str]]:
    """The devices that one names, as far as they are names, and where each stands."""
    names = device.get("triggered_devices") if isinstance(device, Mapping) else None
    if not isinstance(names, list | tuple):
        return []
    return [(index, name) for index, name in enumerate(names) if isinstance(name, str)]


# ----------------------------------------------------------------------------------- in words


def _described(value: Any) -> str:
    """A value in a few words; safe to print, short whatever it is."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return _quoted(value)
        case int():
            big = value.bit_length() > 200  # Python refuses to write very long ones
            return f"an integer of {value.bit_length()} bits" if big else str(int(value))
        case float():
            finite = math.isfinite(value)
            return repr(float(value)) if finite else f"{value!r}, which JSON cannot hold"
        case list() | tuple():
            return f"a list of {len(value)}"
        case Mapping():
            return f"an object of {len(value)} keys"
        case _:
            return f"a {type(value).__name__}, which JSON cannot hold"


def _quoted(text: str) -> str:
    """A text in double quotes, shortened, without control characters or broken ones."""
    short = text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
    return json.dumps(short, ensure_ascii=not short.isprintable())


def _bracketed(key: Any) -> str:
    return f"[{_quoted(key) if isinstance(key, str) else _described(key)}]"


def _dotted(key: Any, path: str) -> str:
    """The step to a key below a path: short names with a dot, others in brackets."""
    if isinstance(key, str) and key.isidentifier() and key.isascii() and len(key) <= MAX_SHOWN:
        return f".{key}" if path else key
    return _bracketed(key)
