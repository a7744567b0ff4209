"""Any JSON value as a point: one point to an entry, as Python's `json` writes it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from blissdata.exceptions import PayloadError
from blissdata.streams.encoding.base import EncodedBatch, StreamEncoder, as_batches

__all__ = ["JsonStreamEncoder"]


class JsonStreamEncoder(StreamEncoder):
    """Encoder of JSON values; NaN and ±Infinity are allowed (protocol 1, "Events")."""

    dtype = np.dtype(object)
    shape = ()

    def info(self) -> dict[str, Any]:
        return {"type": "json"}

    @classmethod
    def from_info(cls, info: dict[str, Any]) -> JsonStreamEncoder:
        return cls()

    def encode(self, data: Any) -> EncodedBatch:
        """One point. Raises `TypeError` for what JSON cannot hold."""
        try:
            return EncodedBatch(json.dumps(data).encode("ascii"))
        except (ValueError, RecursionError) as error:
            raise TypeError(f"JSON cannot hold this value: {error}") from error

    def empty(self) -> list[Any]:
        return []

    def decode(self, batches: EncodedBatch | Iterable[EncodedBatch]) -> list[Any]:
        """A list with one value a batch."""
        found = as_batches(batches)
        for count in found.lens or ():
            if count != 1:
                raise PayloadError(f"found {count} JSON points in one entry, expected 1")
        return [_load(payload) for payload in found.payloads]


def _load(payload: bytes | memoryview) -> Any:
    try:
        return json.loads(bytes(payload))
    except RecursionError as error:
        raise PayloadError("found JSON that is nested too deep to be read") from error
    except ValueError as error:
        raise PayloadError(f"found {len(payload)} bytes that are not JSON ({error})") from error
