"""What is in an HDF5 file, for tests that compare files."""

from __future__ import annotations

from collections.abc import Iterator

import h5py

__all__ = ["walked"]

Item = tuple[str, ...] | h5py.Group | h5py.Dataset
"""A link as the words that say where to, else the thing itself."""


def walked(group: h5py.Group) -> Iterator[tuple[str, Item]]:
    """Everything below a group, with its path, in the order of the links."""
    for name in group:
        path = f"{group.name.rstrip('/')}/{name}"
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.SoftLink):
            yield path, ("soft link", link.path)
        elif isinstance(link, h5py.ExternalLink):
            yield path, ("external link", link.filename, link.path)
        else:
            yield path, group[name]
            if isinstance(group[name], h5py.Group):
                yield from walked(group[name])
