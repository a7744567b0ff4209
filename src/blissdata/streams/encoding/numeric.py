"""Numbers as bytes: points of one dtype, of a fixed shape or with dimensions that vary.

Fixed shape: the payload is the C-order bytes of the points. A shape with `-1`: msgpack of
`[shape of one point, bytes]`; all points of one entry share that shape (protocol 1, "Events").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import msgpack
import numpy as np
from numpy.typing import DTypeLike

from blissdata.exceptions import PayloadError
from blissdata.streams.encoding.base import Batches, EncodedBatch, StreamEncoder, as_batches

__all__ = ["NumericStreamEncoder"]

_KINDS = "biufc"
_BUILTINS: dict[np.dtype[Any], type] = {np.asarray(x).dtype: type(x) for x in (1.0, 1, True, 1j)}
"""Python's own numbers, by the dtype that numpy gives them."""

REUSED = 256 * 2**10
"""Points of this size and more [bytes] are copied into memory that is used again."""

_MAX_NDIM = 32
_MAX_EMPTY_POINTS = 2**20
"""Points without a single byte are not bounded by their payload, so by this."""


class NumericStreamEncoder(StreamEncoder):
    """Encoder of numpy's kinds b, i, u, f and c, byte order included.

    `shape` is that of one point, `()` for a scalar; `-1` marks a dimension that varies. Raises
    `ValueError` for another kind of dtype (object, text, dates, structured) or a bad shape.
    """

    def __init__(self, dtype: DTypeLike, shape: Sequence[int] = ()) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype.kind not in _KINDS or self.dtype.subdtype is not None:
            raise ValueError(
                f"A numeric stream holds booleans, integers, floats or complex numbers, not {self.dtype}"
            )
        try:
            self.shape = tuple(_dimension(n) for n in shape)
        except TypeError:
            raise ValueError(
                f"The shape of a point is a sequence of integers, not {shape!r}"
            ) from None
        if len(self.shape) > _MAX_NDIM or any(n < -1 for n in self.shape):
            raise ValueError(
                f"The shape of a point has at most {_MAX_NDIM} dimensions, each ≥ 0 or -1, "
                f"not {str(self.shape)[:80]}"
            )
        try:
            self.empty()
        except (ValueError, OverflowError) as error:
            raise ValueError(
                f"The shape of a point must fit into an array of {self.dtype}, not {self.shape}: {error}"
            ) from error
        self._varies = -1 in self.shape
        self.joinable = not self._varies
        self.point_nbytes = None if self._varies else prod(self.shape) * self.dtype.itemsize

    @property
    def quick_types(self) -> tuple[type | None, type | None]:
        if self.shape or not self.dtype.isnative:
            return None, None
        return self.dtype.type, _BUILTINS.get(self.dtype)

    def info(self) -> dict[str, Any]:
        return {"type": "numeric", "dtype_str": self.dtype.str, "shape": list(self.shape)}

    @classmethod
    def from_info(cls, info: dict[str, Any]) -> NumericStreamEncoder:
        dtype_str = info.get("dtype_str")
        if not isinstance(dtype_str, str):
            raise ValueError(f"A numeric encoding names its dtype_str by a text, not {dtype_str!r}")
        try:
            dtype = np.dtype(dtype_str)
        except (TypeError, ValueError, SyntaxError) as error:
            raise ValueError(f"{dtype_str!r} is not a dtype that numpy knows: {error}") from error
        shape = info.get("shape", ())
        if not isinstance(shape, list | tuple):
            raise ValueError(f"A numeric encoding has a list as shape, not {shape!r}")
        return cls(dtype, shape)

    # ------------------------------------------------------------------------------ encode

    def encode(self, data: Any) -> EncodedBatch:
        array, npoints = self._checked(data)
        payload = array.tobytes()
        if self._varies:
            shape = list(array.shape[array.ndim - len(self.shape) :])
            payload = msgpack.packb([shape, payload], use_bin_type=True)
        return EncodedBatch(payload, npoints)

    def encode_in(self, data: Any, allocate: Callable[[int], memoryview]) -> EncodedBatch:
        """As `encode`; a large point is copied into memory that is used again and again: fresh
        memory costs more than the copy."""
        if (self.point_nbytes or 0) < REUSED:
            return self.encode(data)
        array, npoints = self._checked(data)
        if npoints > 1:
            return self.encode(array)
        memory = allocate(array.nbytes)
        place = np.frombuffer(memory, self.dtype).reshape(array.shape)
        np.copyto(place, array)
        return EncodedBatch(memory, 1)

    def _checked(self, data: Any) -> tuple[np.ndarray[Any, Any], int]:
        """The data as an array, and how many points they are. Raises what `encode` raises."""
        if isinstance(data, np.ma.MaskedArray) and np.ma.is_masked(data):
            raise ValueError(
                "Masked points would be sent as if they were not: fill them first, data.filled(…)"
            )
        array = np.asarray(data)
        if array.size == 0:
            raise ValueError("Cannot encode empty data")
        if array.dtype is not self.dtype and array.dtype != self.dtype:
            self._refuse_dtype(array.dtype)
        ndim = len(self.shape)
        batched = array.ndim == ndim + 1
        point_shape = array.shape[1:] if batched else array.shape
        if not self._fits(point_shape):
            raise ValueError(
                f"Expected shape {self.shape} or {(-1, *self.shape)}, but received {array.shape}"
            )
        return array, array.shape[0] if batched else 1

    def _refuse_dtype(self, dtype: np.dtype[Any]) -> None:
        if dtype.newbyteorder("=") == self.dtype.newbyteorder("="):
            words = {"<": "little", ">": "big"}
            received = words.get(dtype.str[0], "native")
            expected = words.get(self.dtype.str[0], "native")
            raise TypeError(
                f"Expected {expected} endian, received {received} endian: "
                f"convert with data.astype({self.dtype.str!r})"
            )
        raise TypeError(
            f"Expected numpy.{self.dtype.name}, received numpy.{_name(dtype)}: nothing is converted "
            f"silently, numpy.asarray(data, {self.dtype.name!r}) does"
        )

    def _fits(self, point_shape: tuple[int, ...]) -> bool:
        return len(point_shape) == len(self.shape) and all(
            expected in (-1, found) for expected, found in zip(self.shape, point_shape, strict=True)
        )

    # ------------------------------------------------------------------------------ decode

    def empty(self) -> np.ndarray[Any, Any]:
        return np.empty((0, *(max(n, 0) for n in self.shape)), self.dtype)

    def decode(self, batches: EncodedBatch | Iterable[EncodedBatch]) -> Any:
        """An array of shape `(points, *shape)`. With a `-1` dimension: the same where all points
        agree, else a list of arrays."""
        found = as_batches(batches)
        return self.decode_range(found, 0, found.points)

    def decode_range(self, batches: Sequence[EncodedBatch], start: int, stop: int) -> Any:
        """As `decode`, but copies only the points asked for; those that were received one behind
        the other into memory of their own are not copied at all."""
        found = Batches.of(batches)
        if not self._varies:
            return self._fixed(found, start, stop)
        # The shapes of the points that were not asked for do not matter: agree among the rest.
        wanted, at = [], 0
        for batch in found:
            part = self._unpack(batch)
            piece = part[max(start - at, 0) : max(stop - at, 0)]
            at += batch.len
            if len(piece):
                wanted.append(piece)
        if not wanted:
            return self.empty()
        return self._together(wanted)

    def _fixed(self, batches: Batches, start: int, stop: int) -> np.ndarray[Any, Any]:
        payloads, size = batches.payloads, self.point_nbytes or 0
        if batches.points == stop == 1 and len(payloads[0]) == size and not (start or self.shape):
            return np.frombuffer(bytearray(payloads[0]), self.dtype)
        self._check_fixed(batches)
        if type(payloads[0] if payloads else b"") is memoryview:
            whole = _adjacent(payloads)
            if whole is not None:
                piece = whole[start * size : stop * size]
                return piece.view(self.dtype).reshape(stop - start, *self.shape)
        if start or stop != batches.points:
            views = [memoryview(payload) for payload in payloads]
            if len(views) == 1:
                views[0] = views[0][start * size : stop * size]
            elif views:
                last = batches.points - (batches.lens[-1] if batches.lens else 1)
                views[-1] = views[-1][: (stop - last) * size]
                views[0] = views[0][start * size :]
            payloads = views
        joined = bytearray().join(payloads)
        return np.frombuffer(joined, self.dtype).reshape(stop - start, *self.shape)

    def _together(self, parts: Sequence[np.ndarray[Any, Any]]) -> Any:
        """Copies of all points: one array where their shapes agree, else a list of arrays."""
        if all(part.shape[1:] == parts[0].shape[1:] for part in parts):
            return np.concatenate(parts, dtype=self.dtype)  # keeps the byte order
        return [np.array(point) for part in parts for point in part]

    def decode_point(self, batch: EncodedBatch, offset: int) -> Any:
        """A numpy scalar for scalar points, else an array of shape `shape`."""
        if self._varies:
            return np.array(self._unpack(batch)[offset])
        size = self.point_nbytes or 0
        if len(batch.payload) != size * batch.len or not size:
            self._check_fixed(Batches((batch.payload,), (batch.len,)))
        if not self.shape:
            return np.frombuffer(batch.payload, self.dtype, 1, offset * size)[0]
        piece = memoryview(batch.payload)[offset * size : (offset + 1) * size]
        if batch.len > 1 or piece.readonly:
            piece = memoryview(bytearray(piece))
        return np.frombuffer(piece, self.dtype).reshape(self.shape)

    def _check_fixed(self, batches: Batches) -> None:
        """Raises for the first payload that is not as long as its points."""
        size, lens = self.point_nbytes or 0, batches.lens
        found = list(map(len, batches.payloads))
        expected = [size] * len(found) if lens is None else [n * size for n in lens]
        if found != expected:
            i = next(i for i, n in enumerate(found) if n != expected[i])
            raise PayloadError(
                f"found {found[i]} bytes, expected {expected[i]} for {lens[i] if lens else 1} "
                f"point(s) of {self.dtype} with shape {self.shape}"
            )
        if not size and max(lens or (0,)) > _MAX_EMPTY_POINTS:
            raise PayloadError(f"found {max(lens or (0,))} points without any bytes")

    def _unpack(self, batch: EncodedBatch) -> np.ndarray[Any, Any]:
        """The points of one entry with varying shape, read-only, first axis = points."""
        try:
            # Lists as long as a shape and no longer: what the payload claims must not cost memory.
            found = msgpack.unpackb(
                batch.payload,
                raw=False,
                max_array_len=max(2, len(self.shape)),
                max_ext_len=0,
                max_map_len=0,
            )
        except Exception as error:  # msgpack raises whatever the bytes provoke
            raise PayloadError(
                f"found {len(batch.payload)} bytes that are not msgpack ({error})"
            ) from error
        if not (isinstance(found, list) and len(found) == 2):
            raise PayloadError("found msgpack that is not [shape of one point, bytes]")
        shape, data = found
        if not (isinstance(shape, list) and all(type(n) is int for n in shape)):
            raise PayloadError("found msgpack with something else than a list of integers as shape")
        if not isinstance(data, bytes):
            raise PayloadError(f"found msgpack with {type(data).__name__} in the place of bytes")
        if any(n < 0 for n in shape) or not self._fits(tuple(shape)):
            raise PayloadError(f"found points of shape {shape}, expected {self.shape} (-1: any)")
        expected = batch.len * prod(shape) * self.dtype.itemsize
        if len(data) != expected:
            raise PayloadError(
                f"found {len(data)} bytes, expected {expected} "
                f"for {batch.len} point(s) of {self.dtype} with shape {tuple(shape)}"
            )
        if not expected and batch.len > _MAX_EMPTY_POINTS:
            raise PayloadError(f"found {batch.len} points without any bytes")
        try:
            return np.frombuffer(data, self.dtype).reshape(batch.len, *shape)
        except (ValueError, OverflowError) as error:  # no bytes at all, and dimensions beyond numpy
            raise PayloadError(f"found points of shape {shape}, which no array can have") from error


def _adjacent(payloads: Sequence[memoryview]) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """The bytes of all payloads as one array, if they lie one behind the other in one memory that
    is nobody else's; None if they do not."""
    owner = payloads[0].obj
    memory = np.frombuffer(memoryview(owner), np.uint8)
    origin = memory.__array_interface__["data"][0]
    start = end = None
    for payload in payloads:
        if payload.obj is not owner or payload.readonly:
            return None
        at = np.frombuffer(payload, np.uint8).__array_interface__["data"][0] - origin
        if end is not None and at != end:
            return None
        start, end = (at if start is None else start), at + len(payload)
    return memory[start:end]


def _dimension(n: Any) -> int:
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError
    return int(n.__index__())


def _name(dtype: np.dtype[Any]) -> str:
    return dtype.str if dtype.kind in "SUV" else dtype.name
