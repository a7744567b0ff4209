"""The TypedDicts as values: which fields, of which kinds, under which rules.

`record(ScanInfoDict)` reads the annotations once; `validation`, `files` and `reference` walk
over what it gives, and none of them looks at Python types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from typing_extensions import get_type_hints, is_typeddict

from blissdata.schemas.marks import Deprecated, Known, Moment, Names, Range

__all__ = [
    "Anything",
    "Field",
    "Flag",
    "Kind",
    "ListOf",
    "Number",
    "OneOf",
    "OneRecordOf",
    "Record",
    "TableOf",
    "Text",
    "record",
]


@dataclass(frozen=True, slots=True)
class Text:
    """A text."""

    names: Names | None = None
    moment: Moment | None = None
    known: Known | None = None

    @property
    def words(self) -> str:
        """The kind in words, as in "expected …"."""
        if self.moment:
            return "a date and time as text (ISO 8601)"
        if self.names:
            return f"text, a key of {self.names.table}"
        return "text"


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number."""

    whole: bool
    """Whether it must be an integer; 3.0 is one, as in JSON Schema."""

    least: int | None = None
    """Inclusive."""

    most: int | None = None
    """Inclusive."""

    @property
    def words(self) -> str:
        """The kind in words."""
        noun = "an integer" if self.whole else "a number"
        if self.least is not None and self.most is not None:
            return f"{noun} from {self.least} to {self.most}"
        if self.least is not None:
            return f"{noun} not below {self.least}"
        return noun if self.most is None else f"{noun} not above {self.most}"


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    words = "true or false"


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these values."""

    values: tuple[str | bool, ...]
    """All of one type."""

    @property
    def words(self) -> str:
        """The kind in words."""
        texts = [str(v).lower() if isinstance(v, bool) else f"'{v}'" for v in self.values]
        return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list whose elements are all of one kind."""

    item: Kind
    words = "a list"


@dataclass(frozen=True, slots=True)
class TableOf:
    """An object with any keys, whose values are all of one kind."""

    value: Kind
    words = "an object"


@dataclass(frozen=True, slots=True)
class Anything:
    """An object that nobody but its reader knows."""

    words = "an object"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record."""

    name: str
    kind: Kind
    required: bool
    deprecated: Deprecated | None


@dataclass(frozen=True, slots=True)
class Record:
    """An object with these fields, and any others."""

    type: Any
    """The TypedDict."""

    fields: Mapping[str, Field]
    """By name, in the order of the class."""

    words = "an object"

    @property
    def name(self) -> str:
        """Name of the TypedDict."""
        return str(self.type.__name__)


@dataclass(frozen=True, slots=True)
class OneRecordOf:
    """One of several records; the field `kind` tells which."""

    records: Mapping[str, Record]
    """By the value of `kind`."""

    words = "an object"


Kind = Text | Number | Flag | OneOf | ListOf | TableOf | Anything | Record | OneRecordOf


@cache
def record(typed_dict: Any) -> Record:
    """The fields of a TypedDict."""
    hints = get_type_hints(typed_dict, include_extras=True)
    fields = {name: _field(name, hint) for name, hint in hints.items()}
    return Record(typed_dict, MappingProxyType(fields))


def _field(name: str, hint: Any) -> Field:
    required = get_origin(hint) is not NotRequired
    if get_origin(hint) in (NotRequired, Required):
        (hint,) = get_args(hint)
    marks = hint.__metadata__ if get_origin(hint) is Annotated else ()
    deprecated = next((mark for mark in marks if isinstance(mark, Deprecated)), None)
    return Field(name, _kind(hint), required, deprecated)


def _kind(hint: Any) -> Kind:
    marks: dict[type, Any] = {}
    if get_origin(hint) is Annotated:
        marks = {type(mark): mark for mark in hint.__metadata__}
        hint = get_args(hint)[0]
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is str:
        return Text(marks.get(Names), marks.get(Moment), marks.get(Known))
    if hint in (int, float):
        bounds = marks.get(Range, Range())
        return Number(hint is int, bounds.least, bounds.most)
    if hint is bool:
        return Flag()
    if origin is Literal:
        return OneOf(arguments)
    if origin is list:
        return ListOf(_kind(arguments[0]))
    if origin is dict:
        return Anything() if arguments[1] is Any else TableOf(_kind(arguments[1]))
    if origin in (Union, UnionType):
        return OneRecordOf(MappingProxyType({_tag(record(one)): record(one) for one in arguments}))
    if is_typeddict(hint):
        return record(hint)
    raise TypeError(f"a scan's info cannot have a field of type {hint!r}")


def _tag(one: Record) -> str:
    kind = one.fields["kind"].kind
    if not isinstance(kind, OneOf):
        raise TypeError(f"{one.name}.kind must be a Literal, it is {kind.words}")
    return str(kind.values[0])
