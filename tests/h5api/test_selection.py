"""Every index selects what h5py selects, or is refused where h5py refuses it.

datasets    scalar · text scalar · compound scalar · 1-D · text · compound · empty · 2-D · 3-D
indices     integers (python, numpy, negative, out of range) · slices (steps, open, crossed,
            clipped) · ... · lists, arrays, ranges · masks of an axis, of the whole · tuples ·
            () · fields · what is no index
against     the same index on the same data in a real HDF5 file, through h5py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blissdata.h5api.selection import parse

TEXT = h5py.string_dtype()
PAIR = np.dtype([("a", "i4"), ("b", "f8"), ("c", "i2", (2,))])

DATA = {
    "scalar": np.array(7),
    "text scalar": np.array(b"alone", dtype=TEXT),
    "compound scalar": np.array((1, 2.5, (3, 4)), dtype=PAIR),
    "line": np.arange(5) * 10,
    "text": np.array([b"a", b"bc", b"def"], dtype=TEXT),
    "compound": np.array([(1, 2.0, (3, 4)), (5, 6.0, (7, 8)), (9, 1.0, (2, 3))], dtype=PAIR),
    "no point": np.zeros((0, 3)),
    "no column": np.zeros((3, 0)),
    "plane": np.arange(12).reshape(4, 3),
    "cube": np.arange(60).reshape(5, 4, 3),
}


class Two:
    def __index__(self) -> int:
        return 2


ANY_AXES = [
    *((), ..., (...,), (..., ...), None, (None,), "a", ("a", "b"), "nope", ("b", "a"), ("a", "a")),
    *(b"a", 1.0, {1}, object, np.float64(1)),
]

ONE_AXIS = [
    *(0, 2, -1, -3, 4, 5, -5, -6, True, False, Two(), np.int8(-1), np.uint64(1), np.array(2)),
    *(np.True_, np.array(True), np.array(2.0)),
    *(slice(None), slice(1, 3), slice(1, None), slice(None, -1), slice(-2, None), slice(3, 1)),
    *(slice(None, None, 2), slice(1, 99, 3), slice(-99, 99), slice(7, 9), slice(2, 2), slice(0, 0)),
    *(slice(Two(), None), slice(np.int64(1), np.int64(2)), slice(None, None, -1), slice(1, 2, 0)),
    *(slice(1.0, 2), slice("a"), slice(None, None, 1)),
    *([], [0], [0, 2], [-1], [0, -1], [1, 1], [2, 1], [-1, 0], [0, 99], [-99], [1, True]),
    *([1.0, 2.0], [1, 2.5], ["a"], [None], [slice(1, 2)], [[0, 1]], [[0], [1]], ["a", "b"]),
    *(np.array([0, 2]), np.array([], int), np.array([], float), np.array([[0, 1]])),
    *(np.array([1], np.uint8), range(1, 3), range(0), [np.uint8(1), 2]),
    *(np.zeros(5, bool), np.ones(5, bool), np.array([True, False, True]), np.ones(4, bool)),
    *(np.zeros(3, bool), np.zeros(0, bool), np.arange(5) % 2 == 0),
]

TWO_AXES = [
    *((0, 0), (0, -3), (0, 3), (-1, 1), (slice(None), 0), (slice(None), [0, 2]), ([0, 2], 0)),
    *(([0, 2], slice(None)), ([0, 2], [0, 1]), ([0], [0]), ([], []), ([], 0), (0, [])),
    *((..., 0), (0, ...), (0, ..., 1), (..., 0, 0), (0, 0, ...), (..., 0, 0, ...), (..., [0, 2])),
    *((0, None), (0, 1.5), (np.array(1), 0), (0, True), (slice(0, 0), slice(0, 0))),
    *((slice(None, None, 2), slice(1, None)), (slice(None), np.array([True, False, True]))),
    *((np.array([True, False, True, False]), slice(1)), (slice(None), np.ones(3, bool))),
    *(np.arange(12).reshape(4, 3) % 3 == 0, np.zeros((4, 3), bool), np.ones((3, 3), bool)),
    *((np.ones((4, 3), bool), 0), np.ones((4, 2), bool), np.zeros((0, 3), bool)),
    [[True] * 3] * 4,
]

THREE_AXES = [
    *((0, 1, 2), (0, 1, 3), (0, slice(None), [0, 2]), (slice(None), 1, [0, 2]), (0, 0, 0, 0)),
    *(([0, 3], slice(None), 1), (slice(None), [1, 2], 0), (..., 1, [0]), (0, ..., [1, 2])),
    *((slice(1, 4, 2), ..., -1), (0, 0, ..., 0), (slice(None), slice(None), slice(None, None, 2))),
    *((0, np.array([True, False, True, False]), 1), np.arange(60).reshape(5, 4, 3) % 7 == 0),
    np.ones((5, 4), bool),
]

CASES = [
    (name, index)
    for name in DATA
    for index in [*ANY_AXES, *ONE_AXIS, *TWO_AXES, *THREE_AXES, ("a", 0), (1, "b"), ("c", ..., 0)]
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[h5py.File]:
    """The data in a real file, open."""
    path: Path = tmp_path_factory.mktemp("selection") / "data.h5"
    with h5py.File(path, "w") as file:
        for name, array in DATA.items():
            file[name] = array
    with h5py.File(path) as file:
        yield file


def ours(array: np.ndarray[Any, Any], index: Any) -> Any:
    """The selection, given no more than the points that it asked for."""
    selection = parse(index, array.ndim, array.dtype).resolve(array.shape)
    found = selection.apply(array[np.asarray(selection.points, int)] if array.ndim else array)
    if not array.dtype.names:
        assert np.shape(found) == selection.shape
    return found


def same(ours: Any, theirs: Any) -> bool:
    """Equal in type, dtype, shape and values."""
    if type(ours) is not type(theirs):
        return False
    if isinstance(theirs, bytes):
        return bool(ours == theirs)
    return (
        ours.dtype == theirs.dtype and ours.shape == theirs.shape and np.array_equal(ours, theirs)
    )


@pytest.mark.parametrize("name", DATA)
def test_an_index_selects_what_h5py_selects(written: h5py.File, name: str) -> None:
    dataset, array = written[name], written[name][...]
    accepted = 0
    for index in [index for case, index in CASES if case == name]:
        if is_mask_that_h5py_stumbles_on(index, array.ndim):
            continue  # tested below
        try:
            expected = dataset[index]
        except Exception as refusal:
            with pytest.raises(same_kind(refusal, index, array)):
                ours(array, index)
        else:
            accepted += 1
            assert same(ours(array, index), expected), f"{name}[{index!r}]: {expected!r}"
    assert accepted


def is_mask_that_h5py_stumbles_on(index: Any, ndim: int) -> bool:
    """On one axis, h5py takes masks only as arrays, only alone, and stumbles on some of them
    ("Use other code for boolean selection on 1D dataset")."""
    args = index if isinstance(index, tuple) else (index,)
    masks = [arg for arg in args if isinstance(arg, list | np.ndarray) and len(np.shape(arg)) == 1]
    return ndim == 1 and any(np.asarray(mask).dtype == bool for mask in masks)


def same_kind(refusal: Exception, index: Any, array: np.ndarray) -> tuple[type[Exception], ...]:
    """What may be raised where h5py raises that: it has several types for one mistake, and of two
    mistakes either may be told."""
    out_of_range = isinstance(refusal, IndexError | OSError)  # OSError: a list beyond the end
    if out_of_range and isinstance(index, tuple) and (len(index) > array.ndim or not array.size):
        return (IndexError, TypeError, ValueError)
    return (IndexError,) if out_of_range else (TypeError, ValueError)


@pytest.mark.parametrize("kind", [list, np.array], ids=["list", "array"])
@pytest.mark.parametrize("length", [0, 1, 5])
def test_masks_of_one_axis_select_what_numpy_selects(kind: Any, length: int) -> None:
    array = np.arange(length) * 10
    for bits in range(2**length):
        mask = np.array([bits >> place & 1 for place in range(length)], bool)
        assert same(ours(array, kind(mask.tolist() or mask)), array[mask])
        assert same(ours(array, (..., mask)), array[mask])
    for wrong in (length + 1, length + 3):
        with pytest.raises(TypeError, match="A mask of"):
            ours(array, np.ones(wrong, bool))


def test_a_list_of_booleans_is_a_mask_on_one_axis_too() -> None:
    line = DATA["line"]
    assert ours(line, [True, False, True, False, False]).tolist() == [0, 20]
    assert ours(DATA["plane"], [True, False, True, False]).tolist() == [[0, 1, 2], [6, 7, 8]]


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (5, "Index 5 is out of range on axis 0: there are 0 to 4"),
        ([1, 7], "Index 7 is out of range on axis 0: there are 0 to 4"),
        (-6, "Index -6 is out of range on axis 0: there are 0 to 4"),
    ],
    ids=str,
)
def test_the_error_names_index_and_axis(index: Any, said: str) -> None:
    with pytest.raises(IndexError, match=said):
        ours(DATA["line"], index)


# ------------------------------------------------------------------------------ random ones


def axis_index(length: int) -> st.SearchStrategy[Any]:
    """An index of one axis that is in range."""
    ends = st.none() | st.integers(-length - 3, length + 3)
    slices = st.builds(slice, ends, ends, st.none() | st.integers(1, 4))
    if not length:
        return slices
    return st.integers(-length, length - 1) | slices


def vector_index(length: int) -> st.SearchStrategy[Any]:
    """A list or mask of one axis that is in range."""
    lists = st.sets(st.integers(0, length - 1), max_size=length) if length else st.just(set())
    return lists.map(sorted) | st.lists(st.booleans(), min_size=length, max_size=length).map(
        lambda mask: np.array(mask, bool)
    )


@st.composite
def shapes_and_indices(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    shape = tuple(draw(st.lists(st.integers(0, 6), min_size=1, max_size=3)))
    vector = draw(st.none() | st.integers(0, len(shape) - 1))
    index = [
        draw(vector_index(length) if number == vector else axis_index(length))
        for number, length in enumerate(shape)
    ]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(index)))
        index[at : draw(st.integers(at, len(index)))] = [...]
    return shape, tuple(index)


@given(shapes_and_indices())
def test_random_indices_select_what_h5py_selects(case: tuple[Any, Any]) -> None:
    shape, index = case
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    with h5py.File("random.h5", "w", driver="core", backing_store=False) as file:
        file["x"] = array
        stumbles = is_mask_that_h5py_stumbles_on(index, array.ndim)
        expected = array[index] if stumbles else file["x"][index]
        assert same(ours(array, index), expected)


# ------------------------------------------------------------------------------ growing


@pytest.mark.parametrize(
    ("index", "needed"),
    [
        *((0, 1), (4, 5), (-1, None), (np.int8(3), 4)),
        *((slice(2, 6), 6), (slice(None, 6), 6), (slice(1, 6, 2), 6), (slice(1, 6, 3), 5)),
        *((slice(2, None), None), (slice(None), None), (slice(-2, None), None)),
        *((slice(2, -1), None), (slice(-4, 6), None), (slice(6, 2), 0), (slice(2, 2), 0)),
        *(([1, 4], 5), ([1, -1], None), ([], 0), (range(3), 3), (np.arange(3), 3)),
        *((np.ones(4, bool), 4), (np.ones((4, 3), bool), 4)),
        *(
            ((), 0),
            (..., 0),
            ((..., 0), 0),
            ((..., 1, 0), 2),
            ((slice(None), 1), None),
            ((3, ...), 4),
        ),
    ],
    ids=str,
)
def test_an_index_says_how_many_points_it_waits_for(index: Any, needed: int | None) -> None:
    assert parse(index, 2, np.dtype(int)).needed == needed


@given(shapes_and_indices(), st.integers(0, 5))
def test_once_the_needed_points_are_there_more_of_them_change_nothing(
    case: tuple[Any, Any], more: int
) -> None:
    shape, index = case
    parsed = parse(index, len(shape), np.dtype(int))
    if parsed.needed is None or parsed.needed > shape[0] or not parsed.first_is_named:
        return
    array = np.arange(np.prod((shape[0] + more, *shape[1:]), dtype=int))
    array = array.reshape((shape[0] + more, *shape[1:]))

    def with_points(count: int) -> Any:
        selection = parsed.resolve((count, *shape[1:]), growing=True)
        return selection.apply(array[np.asarray(selection.points, int)])

    assert same(with_points(parsed.needed), with_points(shape[0] + more))


def test_a_mask_selects_nothing_beyond_its_end_while_the_dataset_grows() -> None:
    mask = np.array([True, False, True])
    index = parse(mask, 1, np.dtype(int))
    assert index.resolve((5,), growing=True).points.tolist() == [0, 2]  # type: ignore[union-attr]
    with pytest.raises(TypeError, match="A mask of 3 for axis 0, which has 5"):
        index.resolve((5,))
    with pytest.raises(TypeError, match="A mask of 3 for axis 0, which has 2"):
        index.resolve((2,), growing=True)


def test_the_callers_mask_may_change_afterwards() -> None:
    mask = np.array([True, False])
    index = parse(mask, 1, np.dtype(int))
    mask[:] = True
    assert index.resolve((2,)).shape == (1,)


@pytest.mark.parametrize(
    ("index", "gap", "runs"),
    [
        *((3, 0, [(3, 4)]), (slice(2, 6), 0, [(2, 6)]), (slice(6, 2), 0, []), ([], 0, [])),
        *((slice(0, 7, 3), 0, [(0, 1), (3, 4), (6, 7)]), (slice(0, 7, 3), 2, [(0, 7)])),
        *(([1, 2, 3, 7, 8], 0, [(1, 4), (7, 9)]), ([1, 2, 3, 7, 8], 3, [(1, 9)])),
        (np.arange(9) % 4 == 0, 0, [(0, 1), (4, 5), (8, 9)]),
    ],
    ids=str,
)
def test_points_are_read_in_as_few_runs_as_the_gap_allows(index: Any, gap: int, runs: Any) -> None:
    selection = parse(index, 1, np.dtype(int)).resolve((9,))
    assert selection.runs(gap) == [range(*run) for run in runs]
