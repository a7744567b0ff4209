"""Marks: what a field's rule says beyond its Python type.

They stand in `Annotated[…]` of the TypedDicts, so that each rule is written once: the JSON Schema,
the reference page and `validate` all read it there.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Deprecated", "Known", "Moment", "Names", "Range"]


@dataclass(frozen=True, slots=True)
class Range:
    """The number is not below `least` and not above `most`."""

    least: int | None = None
    """Inclusive."""

    most: int | None = None
    """Inclusive."""


@dataclass(frozen=True, slots=True)
class Names:
    """The text is a key of another table of the scan's info."""

    table: str
    """Top-level key of that table: `channels` or `devices`."""

    strict: bool = True
    """A name that is not there is an error; else a warning."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The text is a date and a time, ISO 8601."""


@dataclass(frozen=True, slots=True)
class Known:
    """The values that readers know; others are allowed, and mean nothing to them."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deprecated:
    """The field will go; new programs do not read it."""

    instead: str
    """What to use, as the end of a sentence."""
