"""What turns points into payloads and back: the port that every encoding implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["EncodedBatch", "StreamEncoder"]


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """One or more consecutive points as they travel in one entry."""

    payload: bytes
    """The points, as the stream's encoding writes them."""

    len: int = 1
    """How many points the payload holds, at least 1."""

    def __post_init__(self) -> None:
        if self.len < 1:
            raise ValueError(f"A batch holds at least one point, not {self.len}")

    def todict(self) -> dict[str, bytes | int]:
        """The fields of the entry on the server: `payload`, and `len` unless it is 1."""
        if self.len == 1:
            return {"payload": self.payload}
        return {"payload": self.payload, "len": self.len}


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

    def decode_point(self, batch: EncodedBatch, offset: int) -> Any:
        """The single point at `offset` in the batch, in memory of its own."""
        return self.decode(batch)[offset]


def as_batches(batches: EncodedBatch | Iterable[EncodedBatch]) -> Sequence[EncodedBatch]:
    """One batch or several, as a sequence."""
    if isinstance(batches, EncodedBatch):
        return (batches,)
    return batches if isinstance(batches, Sequence) else tuple(batches)
