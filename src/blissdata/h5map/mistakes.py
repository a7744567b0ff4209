"""What is wrong in a layout, and where: the path of the item, as h5py would spell it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from blissdata.exceptions import LayoutError

__all__ = ["Mistake", "explain", "joined", "listed", "refuse"]

_ITEM_TAGS = frozenset(
    [
        "group",
        "dataset",
        "external_binary_dataset",
        "virtual_dataset",
        "soft_link",
        "external_link",
    ]
)
_VALUE_TAGS = frozenset(["raw", "inline", "inline_b64", "compound", "stream"])
_SHOWN = 20
"""Mistakes that a message lists; of more it gives the number."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong."""

    path: str
    """Of the item, from the root of the file."""

    message: str
    """What was found, and what was expected."""

    attribute: str | None = None
    """The attribute of the item that it is about."""

    file: str | None = None
    """The file whose layout it is."""

    def __str__(self) -> str:
        where = (
            self.path if self.attribute is None else f"{self.path}, attribute {self.attribute!r}"
        )
        return (
            f"{where}: {self.message}"
            if self.file is None
            else f"{self.file}::{where}: {self.message}"
        )

    def of_file(self, file: str) -> Mistake:
        """The same, told of that file."""
        return replace(self, file=file)


def joined(base: str, *names: object) -> str:
    """A path below another."""
    return "/".join([base.rstrip("/"), *(str(name).strip("/") for name in names)]) or "/"


def explain(error: ValidationError, base: str = "/") -> list[Mistake]:
    """What pydantic found, each with the path of the item; `base` is where the validated item
    stands."""
    return [_mistake(one["loc"], one["msg"], base) for one in error.errors(include_url=False)]


def _mistake(steps: Sequence[int | str], message: str, base: str) -> Mistake:
    """pydantic's location of an item alternates `[tag] children name`; then come a field's own
    steps."""
    path, attribute, rest = base, None, list(steps)
    while rest:
        if rest[0] in _ITEM_TAGS:
            rest.pop(0)
        if rest[:1] == ["children"] and len(rest) > 1:
            path = joined(path, rest[1])
            del rest[:2]
        elif rest[:1] == ["attributes"] and len(rest) > 1:
            attribute = str(rest[1])
            del rest[:2]
            break
        else:
            break
    # `stream` is a tag, and also the field of a stream: then it stands last.
    last = rest[-1:] if rest[-1:] == ["stream"] else []
    field = ".".join(str(step) for step in [s for s in rest if s not in _VALUE_TAGS] + last)
    message = message.removeprefix("Value error, ")
    if message.startswith("Unable to extract tag"):
        message = 'an object says by its "type" what it is: inline, inline_b64, compound or stream'
    return Mistake(path, f"{field}: {message}" if field else message, attribute)


def listed(mistakes: Iterable[Mistake]) -> str:
    """A line for each, the first ones if there are many."""
    found = [str(one) for one in mistakes]
    if len(found) > _SHOWN:
        found[_SHOWN:] = [f"… and {len(found) - _SHOWN} more"]
    return "\n".join(found)


def refuse(mistakes: Iterable[Mistake]) -> None:
    """Raises `LayoutError` naming all of them, if there are any."""
    found = listed(mistakes)
    if found:
        raise LayoutError(found)
