"""What notebooks show of a scan and of a file: HTML that works in dark and light, without scripts.

Everything that comes from a server or a file is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["file_html", "scan_html"]

MOST_ROWS = 100
"""How many streams, or entries of a file, are listed."""

MOST_TEXT = 200
"""Longer values are cut."""


def scan_html(
    key: str,
    state: str,
    identity: Mapping[str, Any],
    info: Mapping[str, Any],
    streams: Sequence[tuple[str, str, str, str]],
) -> str:
    """A scan as a table of its identity and one of its streams: name, dtype, shape, unit."""
    number, name = identity.get("number"), identity.get("name")
    title = info.get("title") or " ".join(str(one) for one in (number, name) if one is not None)
    about = {**{k: v for k, v in identity.items() if v is not None}, "key": key}
    return _whole(
        f"Scan {_text(title)}",
        _text(state),
        _table(None, [(f"<b>{_text(k)}</b>", _text(v)) for k, v in about.items()]),
        _listed(("stream", "dtype", "shape of a point", "unit"), streams),
    )


def file_html(filename: str, entries: Iterable[tuple[str, str, str]]) -> str:
    """A file as a table of what is at its top: name, class, title."""
    return _whole(f"File {_text(filename)}", "", "", _listed(("entry", "class", "title"), entries))


def _whole(title: str, badge: str, about: str, rows: str) -> str:
    mark = f' <span style="border:1px solid;border-radius:6px;padding:0 6px">{badge}</span>'
    return f"<div><p><b>{title}</b>{mark if badge else ''}</p>{about}{rows}</div>"


def _listed(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    every = list(rows)
    shown = [tuple(_text(cell) for cell in row) for row in every[:MOST_ROWS]]
    if len(every) > MOST_ROWS:
        shown.append((f"… and {len(every) - MOST_ROWS} more", *[""] * (len(names) - 1)))
    if not shown:
        return f"<p>no {_text(names[0])} yet</p>"
    table = _table(names, shown)
    if len(shown) <= 10:
        return table
    return f"<details><summary>{len(every)} rows</summary>{table}</details>"


def _table(names: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> str:
    head = "" if names is None else "".join(f"<th>{_text(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"
    )


def _text(value: Any) -> str:
    text = str(value)
    return escape(text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…")
