"""Who a scan is: the searchable fields, as pydantic models that users may replace by their own."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = [
    "ESRFIdentityModel",
    "identity_fields",
    "identity_numbers",
    "identity_prefix",
    "misfit",
    "validated_identity",
]


class ESRFIdentityModel(BaseModel):
    """The fields by which the ESRF finds its scans; unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore")

    name: str
    """What kind of scan, for example `loopscan`."""

    number: int
    """Number of the scan in its dataset, from 1."""

    data_policy: str
    """`esrf`, `none`, …: which rules the file names follow."""

    session: str | None = None
    """Name of the acquisition session."""

    proposal: str | None = None
    """Name of the proposal."""

    collection: str | None = None
    """Name of the collection in the proposal."""

    dataset: str | None = None
    """Name of the dataset in the collection."""

    path: str | None = None
    """The file that the scan is, or would be, saved to."""

    class Meta:
        """Where such scans are stored."""

        global_key_prefix: ClassVar[str] = "esrf"


def identity_prefix(model: type[BaseModel]) -> str:
    """The prefix of all keys of scans with this identity model. Raises `TypeError` without one."""
    prefix = getattr(getattr(model, "Meta", None), "global_key_prefix", None)
    if not isinstance(prefix, str) or not prefix or set(prefix) & set("{}*"):
        raise TypeError(
            f"{model.__name__} cannot be an identity model: its Meta.global_key_prefix must be the "
            f"text that its keys begin with, not {prefix!r}"
        )
    return prefix


def identity_fields(model: type[BaseModel]) -> list[str]:
    """The names of the searchable fields."""
    return [name for name in model.model_fields if name != "pk"]


def identity_numbers(model: type[BaseModel]) -> list[str]:
    """The names of the searchable fields that hold numbers."""
    return [
        name
        for name, field in model.model_fields.items()
        if name != "pk" and _kinds(field.annotation) and _kinds(field.annotation) <= {int, float}
    ]


def _kinds(annotation: Any) -> set[Any]:
    """The types that a field may have, without None."""
    if get_origin(annotation) in (Union, UnionType):
        return {kind for part in get_args(annotation) for kind in _kinds(part)}
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    return set() if annotation is NoneType else {annotation}


def validated_identity(model: type[BaseModel], identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity as JSON gives it back. Raises `pydantic.ValidationError` for a misfit; a note says
    what is missing, and gives an example."""
    fields = identity_fields(model)
    try:
        values: dict[str, Any] = model.model_validate(dict(identity)).model_dump(mode="json")
    except ValidationError as error:
        error.add_note(_what_it_needs(model, identity))
        raise
    return {name: values.get(name) for name in fields}


def misfit(error: ValueError) -> str:
    """What is wrong with an identity, in one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, one['loc'])) or 'the whole'}: {one['msg']}"
        + ("" if one["type"] == "missing" else f", found {one['input']!r}"[:100])
        for one in error.errors(include_url=False)
    )


_EXAMPLES = {"name": "ascan", "data_policy": "none"}


def _what_it_needs(model: type[BaseModel], identity: Mapping[str, Any]) -> str:
    numbers = identity_numbers(model)
    needed = [name for name in identity_fields(model) if model.model_fields[name].is_required()]
    missing = [name for name in needed if name not in identity]
    example = {name: 1 if name in numbers else _EXAMPLES.get(name, "…") for name in needed}
    lacks = f"missing: {', '.join(missing)}" if missing else "none is missing, but a value misfits"
    return (
        f"The identity of a scan needs {', '.join(needed) or 'nothing'}; {lacks}. For example: "
        f"create_scan({example})"
    )
