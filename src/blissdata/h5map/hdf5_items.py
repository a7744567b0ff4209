"""Items of a layout: groups, datasets and links, as HDF5 will have them.

Each is tagged by its `type`. A bare value is a dataset without attributes, and such a dataset is written
as its value; a group without attributes or children leaves them out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    SerializerFunctionWrapHandler,
    Tag,
    TypeAdapter,
    model_serializer,
    model_validator,
)

from blissdata.h5map.data_items import BINARY_DTYPE, DataItemType, type_of_value

__all__ = [
    "Dataset",
    "ExternalBinaryDataset",
    "ExternalBinaryFile",
    "ExternalLink",
    "Group",
    "HDF5Item",
    "HDF5ItemType",
    "SoftLink",
    "SpaceSelection",
    "VirtualDataset",
    "VirtualSource",
    "type_of_item",
]


class _WithoutEmpty(BaseModel):
    """Leaves out attributes and children where there are none."""

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        return {
            name: value
            for name, value in found.items()
            if value or name not in ("attributes", "children")
        }


class Group(_WithoutEmpty):
    """A group: attributes, and items by their names."""

    type: Literal["group"] = "group"

    attributes: dict[str, DataItemType] = Field(default_factory=dict)
    """Values by name."""

    children: dict[str, HDF5ItemType] = Field(default_factory=dict)
    """Items by name, in the order of creation."""


class Dataset(BaseModel):
    """A dataset whose value is in the layout, or in a stream of the scan."""

    type: Literal["dataset"] = "dataset"

    attributes: dict[str, DataItemType] = Field(default_factory=dict)
    """Values by name."""

    value: DataItemType
    """What it holds."""

    @model_validator(mode="before")
    @classmethod
    def _take_bare_value(cls, given: Any) -> Any:
        """A value alone is a dataset without attributes."""
        if isinstance(given, dict):
            typed = given.get("type", "dataset") != "dataset"
            return {"value": given} if typed else given
        return given if isinstance(given, Dataset) else {"value": given}

    @model_serializer(mode="wrap")
    def _as_bare_value(self, dump: SerializerFunctionWrapHandler) -> Any:
        found: dict[str, Any] = dump(self)
        if not self.attributes and "value" in found:
            return found["value"]
        return found


class ExternalBinaryFile(BaseModel):
    """A part of a file that holds bytes of a dataset."""

    name: str
    """Path of the file, absolute or relative to the HDF5 file's directory."""

    offset: NonNegativeInt
    """Where the bytes begin [bytes]."""

    size: NonNegativeInt | None = None
    """How many there are [bytes]; null: to the end of the file."""


class ExternalBinaryDataset(_WithoutEmpty):
    """A dataset whose bytes are in other files, one part after another, in C order."""

    type: Literal["external_binary_dataset"] = "external_binary_dataset"

    attributes: dict[str, DataItemType] = Field(default_factory=dict)
    """Values by name."""

    dtype: str = Field(pattern=BINARY_DTYPE)
    """Array-interface text, as that of `InlineBase64`."""

    shape: list[NonNegativeInt]
    """`[]`: a scalar."""

    files: list[ExternalBinaryFile] = Field(min_length=1)
    """At least one."""


class SpaceSelection(BaseModel):
    """A hyperslab of HDF5: `count` blocks of `block` points in each dimension, `stride` apart."""

    start: list[NonNegativeInt]
    """First point, per dimension."""

    stride: list[PositiveInt] | None = None
    """From the begin of a block to the begin of the next; null: 1 everywhere."""

    count: list[NonNegativeInt]
    """Number of blocks."""

    block: list[NonNegativeInt] | None = None
    """Points of a block; null: 1 everywhere."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        lengths = {
            name: len(values)
            for name in ("start", "stride", "count", "block")
            if (values := getattr(self, name)) is not None
        }
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ValueError(
                f"a selection has one number per dimension in each list, found {found}"
            )
        # All ones is what null says; set past __setattr__, which would count them as given.
        for name in ("stride", "block"):
            values = getattr(self, name)
            if values is not None and all(one == 1 for one in values):
                self.__dict__[name] = None
        return self


class VirtualSource(BaseModel):
    """A part of a virtual dataset, and where it comes from."""

    vspace: SpaceSelection
    """The part of the virtual dataset."""

    src_file: str
    """Path of the file; `.` is the layout's own file."""

    src_dataset: str
    """Path of the dataset in it."""

    src_space: SpaceSelection
    """The part of that dataset."""


class VirtualDataset(_WithoutEmpty):
    """A dataset put together from parts of others."""

    type: Literal["virtual_dataset"] = "virtual_dataset"

    attributes: dict[str, DataItemType] = Field(default_factory=dict)
    """Values by name."""

    dtype: str = Field(pattern=BINARY_DTYPE)
    """Array-interface text, as that of `InlineBase64`."""

    shape: list[NonNegativeInt]
    """Its own."""

    virtual_sources: list[VirtualSource] = Field(min_length=1)
    """At least one."""


class SoftLink(BaseModel):
    """Another name of an item in the same file."""

    type: Literal["soft_link"] = "soft_link"

    target_path: str
    """Absolute, or relative to the group that holds the link."""


class ExternalLink(BaseModel):
    """A name for an item in another file."""

    type: Literal["external_link"] = "external_link"

    target_file: str
    """Path of the file, absolute or relative to the layout's file's directory."""

    target_path: str
    """Path of the item in it."""


_ITEMS: dict[str, type[BaseModel]] = {
    "group": Group,
    "external_binary_dataset": ExternalBinaryDataset,
    "virtual_dataset": VirtualDataset,
    "soft_link": SoftLink,
    "external_link": ExternalLink,
}


def type_of_item(item: Any) -> str:
    """Which kind of item this is, by its `type`; a dataset, if nothing else."""
    tag = type_of_value(item)
    return tag if tag in _ITEMS else "dataset"


HDF5ItemType: TypeAlias = Annotated[
    Annotated[Group, Tag("group")]
    | Annotated[Dataset, Tag("dataset")]
    | Annotated[ExternalBinaryDataset, Tag("external_binary_dataset")]
    | Annotated[SoftLink, Tag("soft_link")]
    | Annotated[ExternalLink, Tag("external_link")]
    | Annotated[VirtualDataset, Tag("virtual_dataset")],
    Discriminator(type_of_item),
]
"""Any item: what is no link, group or special dataset is a `Dataset`."""

Group.model_rebuild()

HDF5Item: TypeAdapter[
    Group | Dataset | ExternalBinaryDataset | SoftLink | ExternalLink | VirtualDataset
] = TypeAdapter(HDF5ItemType)
"""Validates any item: `HDF5Item.validate_python(…)`, `HDF5Item.validate_json(…)`."""
