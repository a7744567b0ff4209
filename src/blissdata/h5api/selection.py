"""What an index selects in a dataset whose first axis grows: h5py's rules, as pure functions.

    parse(index, ndim, dtype)   what can be checked before the length is known; mistakes end here
      → Index.needed            how many points must be there before the answer is decided
      → Index.resolve(shape)    the selection in a dataset of that shape; out of range ends here
        → Selection.points      the points that are to be read, no others
        → Selection.apply(a)    the result, from an array of just these points

    index   0   1   2   3   4   5   6            d[1:6:2]: needed 6, points range(1, 6, 2)
            ─   x   ─   x   ─   x   ─  …         apply takes an array of 3 points

An index is what h5py takes: integers (also numpy's, negative), slices with a step ≥ 1, `...`, lists,
arrays and ranges of increasing integers (on one axis), masks (of one axis, or of the whole dataset),
tuples of these, `()`, and names of fields. A list of booleans is a mask on any dataset; h5py takes
it on those of two axes and more.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Index", "Selection", "parse"]

IntArray: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Mask: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
Axis: TypeAlias = "int | slice | IntArray | Mask"

_ALL = slice(None)


def parse(index: Any, ndim: int, dtype: np.dtype[Any]) -> Index:
    """The index, checked as far as that is possible without the length of the axes.

    `ndim` and `dtype` are the dataset's. No growth can make right what is refused here: `ValueError`
    for too many axes, two ellipses, a step below 1, unknown fields and anything but `()` and `...`
    on a scalar; `TypeError` for what is no index at all, None, floats, two lists.
    """
    given = index if isinstance(index, tuple) else (index,)
    fields = tuple(arg for arg in given if isinstance(arg, str))
    _check_fields(fields, dtype)
    args = [arg for arg in given if not isinstance(arg, str)]
    if any(arg is None for arg in args):
        raise TypeError("Indexing with None (or numpy.newaxis) is not supported")
    dots = [place for place, arg in enumerate(args) if arg is Ellipsis]
    if ndim == 0:
        if args and (len(args) > 1 or not dots):
            raise ValueError(f"A scalar dataset takes [()] and [...] only, not [{index!r}]")
        return Index((), fields=fields, keep_array=bool(dots))
    if len(dots) > 1:
        raise ValueError("Only one ellipsis may be used in an index")
    if len(args) == 1 and ndim > 1 and _is_full_mask(args[0], ndim):
        return Index((), fields=fields, mask=np.array(args[0]))
    return Index(*_spread(args, dots, ndim), fields=fields)


def _check_fields(fields: tuple[str, ...], dtype: np.dtype[Any]) -> None:
    if not fields:
        return
    if dtype.names is None:
        raise ValueError(f"Field names {fields} are for compound types only, not for {dtype}")
    unknown = [name for name in fields if name not in dtype.names]
    if unknown:
        raise ValueError(f"No field {unknown[0]!r} in this type; its fields are {dtype.names}")
    if len(set(fields)) != len(fields):
        raise ValueError(f"A field occurs more than once in {fields}")


def _is_full_mask(arg: Any, ndim: int) -> bool:
    return isinstance(arg, np.ndarray) and arg.dtype.kind == "b" and arg.ndim == ndim


def _spread(args: list[Any], dots: list[int], ndim: int) -> tuple[tuple[Axis, ...], bool]:
    """One entry per axis, and whether the first one was named by the caller."""
    named = len(args) - len(dots)
    if named > ndim:
        raise ValueError(f"{named} indexing arguments for {ndim} dimensions")
    at = dots[0] if dots else len(args)
    left = [_axis(arg) for arg in args[:at]]
    right = [_axis(arg) for arg in args[at + 1 :]]
    axes = (*left, *[_ALL] * (ndim - named), *right)
    if sum(isinstance(axis, np.ndarray) for axis in axes) > 1:
        raise TypeError("Only one list, array or mask is allowed in an index")
    return axes, bool(left) or named == ndim


def _axis(arg: Any) -> Axis:
    if isinstance(arg, slice):
        return _slice(arg)
    if isinstance(arg, np.ndarray) and arg.ndim == 0 and arg.dtype.kind in "iu":
        return int(arg)
    if isinstance(arg, np.ndarray | Sequence) and not isinstance(arg, bytes | bytearray):
        return _vector(arg)
    try:
        if isinstance(arg, np.bool_):
            raise TypeError
        return operator.index(arg)
    except TypeError:
        raise TypeError(f"A dataset cannot be indexed with {arg!r}") from None


def _slice(given: slice) -> slice:
    try:
        start, stop, step = (
            None if part is None else operator.index(part)
            for part in (given.start, given.stop, given.step)
        )
    except TypeError:
        raise TypeError(f"{given}: slices are made of integers or None") from None
    if step is not None and step < 1:
        raise ValueError(f"{given}: the step must be 1 or more")
    return slice(start, stop, step)


def _vector(given: Any) -> IntArray | Mask:
    try:
        array = np.asarray(given)
    except ValueError:
        raise TypeError(f"A dataset cannot be indexed with {given!r}") from None
    if array.ndim != 1:
        raise TypeError(f"An axis takes a list or array of one dimension, not of {array.ndim}")
    if array.dtype.kind == "b":
        return array.copy()
    if array.size == 0 and not isinstance(given, np.ndarray):
        return np.zeros(0, np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"An axis takes integers or booleans, not {array.dtype}")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise IndexError(f"Index {array.max()} is out of range")
    return array.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Index:
    """An index that makes sense; made by `parse`."""

    axes: tuple[Axis, ...]
    """One entry per axis; empty for a scalar and for a mask of the whole dataset."""

    first_is_named: bool = False
    """Whether the caller said something about the first axis: not in `()`, `...`, `[..., 0]`."""

    fields: tuple[str, ...] = ()
    """The fields wanted; none: all."""

    mask: Mask | None = None
    """A mask of the whole dataset, of two axes or more."""

    keep_array: bool = False
    """Whether a scalar comes as an array of no axes (`[...]`) instead of a value (`[()]`)."""

    @property
    def needed(self) -> int | None:
        """How many points the first axis must have before more of them change nothing; None if only
        the end of the dataset decides (negative, `[a:]`, `[:]`). 0 where the caller said nothing
        about the first axis (`()`, `...`): it takes what is there."""
        if self.mask is not None:
            return len(self.mask)
        if not self.axes or not self.first_is_named:
            return 0
        first = self.axes[0]
        if isinstance(first, int):
            return first + 1 if first >= 0 else None
        if isinstance(first, slice):
            start = first.start or 0
            if first.stop is None or first.stop < 0 or start < 0:
                return None
            chosen = range(start, first.stop, first.step or 1)
            return chosen[-1] + 1 if chosen else 0
        if first.dtype.kind == "b":
            return len(first)
        if not first.size:
            return 0
        return int(first.max()) + 1 if first.min() >= 0 else None

    def resolve(self, shape: tuple[int, ...], growing: bool = False) -> Selection:
        """What it selects in a dataset of that shape.

        Raises `IndexError` for an integer, alone or in a list, that is out of range; slices end
        where the axis does. `TypeError` for a list that does not increase and for a mask of another
        length; with `growing`, a mask of the first axis may be shorter than the axis: nothing is
        selected beyond it.
        """
        if self.mask is not None:
            return self._resolve_mask(self.mask, shape, growing)
        if len(shape) != len(self.axes):
            raise ValueError(f"An index for {len(self.axes)} axes in a dataset of shape {shape}")
        resolved = [
            _resolve_axis(axis, length, number, growing and number == 0)
            for number, (axis, length) in enumerate(zip(self.axes, shape, strict=True))
        ]
        if not resolved:
            return Selection(range(0), (), (), self.fields, keep_array=self.keep_array)
        points, *inner = (range(a, a + 1) if isinstance(a, int) else a for a in resolved)
        return Selection(
            points,
            of_block=(_ALL, *map(_numpy_axis, inner)),
            shape=tuple(len(axis) for axis in resolved if not isinstance(axis, int)),
            fields=self.fields,
            dropped=tuple(0 if isinstance(axis, int) else _ALL for axis in resolved),
        )

    def _resolve_mask(self, mask: Mask, shape: tuple[int, ...], growing: bool) -> Selection:
        fits = mask.shape[1:] == shape[1:] and (
            len(mask) <= shape[0] if growing else len(mask) == shape[0]
        )
        if not fits:
            raise TypeError(f"A mask of shape {mask.shape} for a dataset of shape {shape}")
        points = np.flatnonzero(mask.any(axis=tuple(range(1, mask.ndim))))
        chosen = mask[points]
        return Selection(points, (chosen,), (int(chosen.sum()),), self.fields)


def _resolve_axis(axis: Axis, length: int, number: int, growing: bool) -> int | range | IntArray:
    if isinstance(axis, int):
        return _in_range(axis, length, number)
    if isinstance(axis, slice):
        return range(*axis.indices(length))
    if axis.dtype.kind == "b":
        if len(axis) > length or (len(axis) < length and not growing):
            raise TypeError(f"A mask of {len(axis)} for axis {number}, which has {length}")
        return np.flatnonzero(axis)
    outside = axis[(axis < -length) | (axis >= length)]
    if outside.size:
        _in_range(int(outside[0]), length, number)
    chosen = np.where(axis < 0, axis + length, axis)
    if np.any(np.diff(chosen) <= 0):
        raise TypeError("The integers of a list must increase, each one once")
    return chosen


def _in_range(index: int, length: int, number: int) -> int:
    if -length <= index < length:
        return index + length if index < 0 else index
    there = f"0 to {length - 1}" if length else "none"
    raise IndexError(f"Index {index} is out of range on axis {number}: there are {there}")


def _numpy_axis(axis: range | IntArray) -> Any:
    return slice(axis.start, axis.stop, axis.step) if isinstance(axis, range) else axis


@dataclass(frozen=True, slots=True)
class Selection:
    """What an index selects in a dataset of one shape; made by `Index.resolve`."""

    points: range | IntArray
    """The points to read, increasing, each once; none for a scalar dataset."""

    of_block: tuple[Any, ...]
    """The numpy index into an array of these points, all axes kept."""

    shape: tuple[int, ...]
    """Shape of the result, without what a field's own shape adds."""

    fields: tuple[str, ...] = ()
    """The fields wanted; none: all."""

    dropped: tuple[Any, ...] = ()
    """The second numpy index, which drops the axes that were indexed by one integer. (In one step
    with a list, numpy would put the axes in another order than h5py.)"""

    keep_array: bool = False
    """Whether a scalar comes as an array of no axes instead of a value."""

    def runs(self, max_gap: int = 0) -> list[range]:
        """`points` as contiguous ranges, joined over gaps of up to `max_gap` points: what to read
        from a source that gives ranges best."""
        points = self.points
        if isinstance(points, range) and points and points.step - 1 <= max_gap:
            return [range(points[0], points[-1] + 1)]
        found = np.asarray(points, np.int64)
        if not found.size:
            return []
        ends = np.flatnonzero(np.diff(found) > max_gap + 1)
        starts = [int(found[0]), *(int(found[end + 1]) for end in ends)]
        stops = [*(int(found[end]) + 1 for end in ends), int(found[-1]) + 1]
        return [range(start, stop) for start, stop in zip(starts, stops, strict=True)]

    def apply(self, block: np.ndarray[Any, Any]) -> Any:
        """The result, as h5py gives it: a scalar (text: `bytes`) where no axis is left, else an array.

        `block` holds the points of `points`, no others, in that order: shape
        `(len(points), …)`; for a scalar dataset the array of no axes. The result may share memory
        with it.
        """
        block = self._chosen(block)
        if self.keep_array:
            return block[...]
        found = block[self.of_block]
        return found[self.dropped] if self.dropped else found

    def of_parts(self, block: np.ndarray[Any, Any]) -> Any:
        """The same, from a block to which `of_block` was applied already."""
        found = self._chosen(block)
        return found[self.dropped] if self.dropped else found

    def _chosen(self, block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if len(self.fields) == 1:
            return block[self.fields[0]]
        return _with_fields(block, self.fields) if self.fields else block


def _with_fields(block: np.ndarray[Any, Any], fields: tuple[str, ...]) -> np.ndarray[Any, Any]:
    """These fields, packed, in that order."""
    dtype = np.dtype([(name, block.dtype[name]) for name in fields])
    found = np.empty(block.shape, dtype)
    for name in fields:
        found[name] = block[name]
    return found
