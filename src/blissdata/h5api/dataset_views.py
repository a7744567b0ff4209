"""A dataset given otherwise, as h5py's views do: as another dtype, as text, or some of its fields.

Each is indexed like its dataset and reads when it is indexed, so it waits where that waits. Where the
chunks of a dataset lie, and what its axes are called, is here too: all of it is made of what every
dataset has, wherever it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Any, Protocol, TypeAlias

import numpy as np

__all__ = [
    "AsType",
    "DatasetView",
    "Dimension",
    "Dimensions",
    "Fields",
    "StringReader",
    "chunk_slices",
]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


class Viewed(Protocol):
    """What a view needs of a dataset."""

    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, idx: Any, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class DatasetView(ABC):
    """A dataset of which each value is given otherwise."""

    def __init__(self, dataset: Viewed) -> None:
        self._dataset = dataset

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """dtype of what indexing gives."""

    @abstractmethod
    def _of(self, found: Any) -> Any:
        """What is given for something that the dataset gave."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The dataset's."""
        return self._dataset.shape

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many elements there are now."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: Any) -> Any:
        return self._of(self._dataset[idx])

    def __iter__(self) -> Iterator[Any]:
        return map(self._of, self._dataset)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(f"{self._dataset.name} is read: there is no array without a copy")
        return np.asarray(self[()], dtype)


class AsType(DatasetView):
    """A dataset, converted as numpy's `astype` does; made by `Dataset.astype`."""

    def __init__(self, dataset: Viewed, dtype: Any) -> None:
        super().__init__(dataset)
        self._dtype: np.dtype[Any] = np.dtype(dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    def _of(self, found: Any) -> Any:
        converted = np.asarray(found).astype(self._dtype)
        return converted if isinstance(found, np.ndarray) else converted[()]


class StringReader(DatasetView):
    """A dataset of text, read as `str`; made by `Dataset.asstr`."""

    def __init__(self, dataset: Viewed, encoding: str, errors: str) -> None:
        super().__init__(dataset)
        self.encoding = encoding
        """How the bytes are decoded."""
        self.errors = errors
        """What is done with bytes that are no text in it, as for `bytes.decode`."""

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(object)

    def _of(self, found: Any) -> Any:
        if isinstance(found, bytes):
            return found.decode(self.encoding, self.errors)
        decoded = np.empty(found.size, dtype=object)
        decoded[:] = [value.decode(self.encoding, self.errors) for value in found.flat]
        return decoded.reshape(found.shape)


class Fields(DatasetView):
    """Some fields of a compound dataset, or one of them; made by `Dataset.fields`."""

    def __init__(self, dataset: Viewed, names: str | Sequence[str]) -> None:
        super().__init__(dataset)
        self._one = isinstance(names, str)
        self._names = (names,) if isinstance(names, str) else tuple(names)
        there = dataset.dtype.names
        if there is None:
            raise ValueError(f"{dataset.name} holds {dataset.dtype}, which has no fields")
        unknown = [name for name in self._names if name not in there]
        if unknown:
            raise ValueError(f"{dataset.name} has no field {unknown[0]!r}; its fields are {there}")

    @property
    def dtype(self) -> np.dtype[Any]:
        whole = self._dataset.dtype
        if self._one:
            return np.dtype(whole[self._names[0]])
        return np.dtype([(name, whole[name]) for name in self._names])

    def __getitem__(self, idx: Any) -> Any:
        return self._of(self._dataset[idx])

    def _of(self, found: Any) -> Any:
        if self._one:
            return found[self._names[0]]
        chosen = np.empty(np.shape(found), self.dtype)
        for name in self._names:
            chosen[name] = found[name]
        return chosen if isinstance(found, np.ndarray) else chosen[()]


class Dimension:
    """One axis of a dataset. Scales are not looked for: links between objects exist in files alone."""

    def __init__(self, label: str) -> None:
        self.label = label
        """What `DIMENSION_LABELS` says of it; empty if nobody labelled it."""

    def __repr__(self) -> str:
        return f'<"{self.label}" dimension>'


class Dimensions(Sequence[Dimension]):
    """The axes of a dataset, with their labels."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._dimensions = [Dimension(label) for label in labels]

    def __getitem__(self, index: Any) -> Any:
        return self._dimensions[index]

    def __len__(self) -> int:
        return len(self._dimensions)


def chunk_slices(
    shape: tuple[int, ...], chunks: tuple[int, ...], selection: Any = None
) -> Iterator[tuple[slice, ...]]:
    """The selection (None: all) in parts that lie in one chunk each, in C order, as h5py's
    `iter_chunks`. `selection` is a slice or a tuple of slices, without a step; otherwise
    `ValueError`."""
    given = () if selection is None else selection if isinstance(selection, tuple) else (selection,)
    if len(given) > len(shape) or not all(isinstance(one, slice) for one in given):
        raise ValueError(f"{selection!r}: chunks are gone through by slices, {len(shape)} at most")
    axes = []
    whole = [*given, *[slice(None)] * (len(shape) - len(given))]
    for wanted, length, chunk in zip(whole, shape, chunks, strict=True):
        start, stop, step = wanted.indices(length)
        if step != 1:
            raise ValueError(f"{wanted}: chunks are gone through without a step")
        edges = [start, *range((start // chunk + 1) * chunk, stop, chunk), stop]
        axes.append([slice(a, b, 1) for a, b in pairwise(edges) if a < b])
    return product(*axes)
