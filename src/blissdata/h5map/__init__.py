"""The file that a scan promises to become, as pure data: its groups, datasets, links and values.

    data_items    values: numbers and texts as JSON, base64, compounds, references to streams
    hdf5_items    groups, datasets, links, external and virtual datasets
    tree          a layout as a whole: paths, links, streams; every mistake with its path
    mapping       the talk's notation, nested dicts and tuples, made into items
    nexus         the layout of a scan that says nothing of its file

A scan's `info["h5maps"]` holds such a tree per file. Nothing here opens a file or asks a server.
"""

from __future__ import annotations

from blissdata.h5map.data_items import (
    Compound,
    DataItem,
    DataItemType,
    Inline,
    InlineBase64,
    InlineRaw,
    Stream,
)
from blissdata.h5map.hdf5_items import (
    Dataset,
    ExternalBinaryDataset,
    ExternalBinaryFile,
    ExternalLink,
    Group,
    HDF5Item,
    HDF5ItemType,
    SoftLink,
    SpaceSelection,
    VirtualDataset,
    VirtualSource,
)
from blissdata.h5map.mapping import RAW, STREAM

__all__ = [
    "RAW",
    "STREAM",
    "Compound",
    "DataItem",
    "DataItemType",
    "Dataset",
    "ExternalBinaryDataset",
    "ExternalBinaryFile",
    "ExternalLink",
    "Group",
    "HDF5Item",
    "HDF5ItemType",
    "Inline",
    "InlineBase64",
    "InlineRaw",
    "SoftLink",
    "SpaceSelection",
    "Stream",
    "VirtualDataset",
    "VirtualSource",
]
