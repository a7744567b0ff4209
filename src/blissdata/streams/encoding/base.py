"""What turns points into payloads and back: the port that every encoding implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Any, overload

import numpy as np

__all__ = ["Batches", "EncodedBatch", "StreamEncoder", "as_batches"]


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """One or more consecutive points as they travel in one entry."""

    payload: bytes | memoryview
    """The points, as the stream's encoding writes them."""

    len: int = 1
    """How many points the payload holds, at least 1."""

    def __post_init__(self) -> None:
        if self.len < 1:
            raise ValueError(f"A batch holds at least one point, not {self.len}")

    def todict(self) -> dict[str, bytes | memoryview | int]:
        """The fields of the entry on the server: `payload`, and `len` unless it is 1."""
        if self.len == 1:
            return {"payload": self.payload}
        return {"payload": self.payload, "len": self.len}


class Batches(Sequence[EncodedBatch]):
    """Consecutive batches in columns: a million points of one entry each are two lists, not a
    million objects. Never changed once made."""

    __slots__ = ("lens", "payloads", "points")

    def __init__(self, payloads: Sequence[Any], lens: Sequence[int] | None = None) -> None:
        """One payload a batch (bytes or memoryview); `lens` says how many points each holds, None:
        one each."""
        self.payloads = payloads
        self.lens = lens
        self.points = len(payloads) if lens is None else sum(lens)

    @classmethod
    def of(cls, batches: Iterable[EncodedBatch]) -> Batches:
        """The same batches in columns."""
        if isinstance(batches, Batches):
            return batches
        found = list(batches)
        return cls([b.payload for b in found], [b.len for b in found])

    def __len__(self) -> int:
        return len(self.payloads)

    @overload
    def __getitem__(self, key: int) -> EncodedBatch: ...
    @overload
    def __getitem__(self, key: slice) -> Batches: ...
    def __getitem__(self, key: int | slice) -> EncodedBatch | Batches:
        lens = self.lens
        if isinstance(key, slice):
            return Batches(self.payloads[key], None if lens is None else lens[key])
        return EncodedBatch(self.payloads[key], 1 if lens is None else lens[key])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Batches: {self.points} points in {len(self)} payloads>"


class StreamEncoder(ABC):
    """Encodes points into payloads and decodes them, for one dtype and shape of point."""

    dtype: np.dtype[Any]
    """dtype of a point; `object` for JSON."""

    shape: tuple[int, ...]
    """Shape of one point; -1 for a dimension that varies from point to point."""

    joinable: bool = False
    """True if the payloads of consecutive batches can be concatenated into one payload."""

    point_nbytes: int | None = None
    """Size of the payload of one point [bytes], if it is the same for every point."""

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """The encoding as the scan document describes it (JSON)."""

    @classmethod
    @abstractmethod
    def from_info(cls, info: dict[str, Any]) -> StreamEncoder:
        """The encoder for what `info()` gave. Raises `ValueError` for a description that no
        encoder can have."""

    @abstractmethod
    def encode(self, data: Any) -> EncodedBatch:
        """One point, or a batch with one more leading dimension, as a payload.

        Raises `ValueError` for empty data or another shape, `TypeError` for another dtype."""

    def encode_in(self, data: Any, allocate: Callable[[int], memoryview]) -> EncodedBatch:
        """As `encode`. A large payload may be written into memory that `allocate` gives for a size
        [bytes]; its caller takes it back when the payload has arrived."""
        return self.encode(data)

    @abstractmethod
    def decode(self, batches: EncodedBatch | Iterable[EncodedBatch]) -> Any:
        """The points of consecutive batches, in one array (or list): first axis = points.

        Raises `PayloadError` if a payload is not what the encoding says."""

    def empty(self) -> Any:
        """No point at all, in the type that `decode` gives."""
        return self.decode(())

    def decode_range(self, batches: Sequence[EncodedBatch], start: int, stop: int) -> Any:
        """Points `start` to `stop` (exclusive) of the points in `batches`, in memory of their own."""
        return self.decode(batches)[start:stop]

    @property
    def quick_types(self) -> tuple[type | None, type | None]:
        """The type whose instances are one point as they are (immutable, their buffer the payload),
        and a builtin that it converts without loss; None where there is none."""
        return None, None

    def decode_point(self, batch: EncodedBatch, offset: int) -> Any:
        """The single point at `offset` in the batch, in memory of its own."""
        return self.decode(batch)[offset]


def as_batches(batches: EncodedBatch | Iterable[EncodedBatch]) -> Batches:
    """One batch or several, in columns."""
    if isinstance(batches, EncodedBatch):
        return Batches((batches.payload,), (batches.len,))
    return Batches.of(batches)
