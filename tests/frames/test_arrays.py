"""Memory of arrays: nobody's while somebody has any part of it, and used again afterwards."""

from __future__ import annotations

import gc
import os
import threading

import numpy as np
import pytest

from blissdata.streams.frames import arrays
from blissdata.streams.frames.arrays import ArrayMemory

SHAPE = (512, 1024)
DTYPE = np.dtype("u2")


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


@pytest.mark.parametrize("shape", [(2, 3), SHAPE, (2, *SHAPE), (2**14, 2**10), (0, 4)], ids=str)
def test_an_array_is_like_any_other(shape: tuple[int, ...]) -> None:
    found = ArrayMemory().empty(shape, DTYPE)
    assert (found.shape, found.dtype) == (shape, DTYPE)
    assert found.flags.writeable
    assert found.flags.c_contiguous
    found[...] = 7
    assert (found == 7).all()


def test_no_two_arrays_share_memory() -> None:
    memory = ArrayMemory()
    found = [memory.empty(SHAPE, DTYPE) for _ in range(5)]
    for number, array in enumerate(found):
        array[...] = number
    assert [int(array.min()) for array in found] == list(range(5))
    assert [int(array.max()) for array in found] == list(range(5))


def test_memory_is_kept_while_there_is_a_view_of_it_and_used_again_afterwards() -> None:
    memory = ArrayMemory()
    first = memory.empty(SHAPE, DTYPE)
    first[...] = 7
    place, view = address(first), first[3:5, ::2]
    del first
    gc.collect()
    second = memory.empty(SHAPE, DTYPE)
    second[...] = 8
    assert address(second) != place
    assert (view == 7).all()
    del view
    gc.collect()
    assert address(memory.empty(SHAPE, DTYPE)) == place


def test_not_more_than_so_much_is_kept_and_of_the_size_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = 2**20
    monkeypatch.setattr(arrays, "IDLE_NBYTES", 3 * size)
    memory = ArrayMemory()
    several = [memory.empty(SHAPE, DTYPE) for _ in range(5)]
    del several
    gc.collect()
    assert memory._nbytes <= 3 * size
    large = memory.empty((2, *SHAPE), DTYPE)
    place = address(large)
    del large
    gc.collect()
    assert address(memory.empty((2, *SHAPE), DTYPE)) == place


def test_many_threads_take_and_let_go() -> None:
    memory, wrong = ArrayMemory(), []

    def work(number: int) -> None:
        for _ in range(200):
            found = memory.empty(SHAPE, DTYPE)
            found[::100, ::100] = number
            if (found[::100, ::100] != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_fork_does_not_write_into_its_parents_arrays() -> None:
    found = ArrayMemory().empty(SHAPE, DTYPE)
    found[...] = 1
    child = os.fork()
    if not child:
        found[...] = 2
        os._exit(0)
    os.waitpid(child, 0)
    assert (found == 1).all()
