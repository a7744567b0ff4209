"""What is written later arrives in its order, whatever its places and whatever the disk does."""

from __future__ import annotations

import errno
import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blissdata.writer import write_queue
from blissdata.writer.write_queue import PAGE, WriteQueue


def write_all(descriptor: int, start: int, data: Any) -> None:
    view = memoryview(data).cast("B")
    while len(view):
        n = os.pwrite(descriptor, view, start)
        view, start = view[n:], start + n


def some_bytes(length: int, first: int) -> bytes:
    return bytes((first + 7 * i) % 251 for i in range(length))


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"BUFFER_NBYTES": 2, "LATE_PIECE": 1, "LATE_NBYTES": 1, "ROOM_NBYTES": 3}
    for name, pages in sizes.items():
        monkeypatch.setattr(write_queue, name, pages * PAGE)


def read(queue: WriteQueue, descriptor: int, start: int, length: int) -> bytes:
    """As a file does that is written through a queue."""
    found = bytearray(os.pread(descriptor, length, start).ljust(length, b"\0"))
    queue.overlay(start, memoryview(found))
    return bytes(found)


PLACES = st.integers(0, 8 * PAGE) | st.integers(0, 8).map(lambda page: page * PAGE) | st.none()
"""None: where the piece before ended."""

LENGTHS = (
    st.integers(1, 5 * PAGE)
    | st.integers(1, 100)
    | st.integers(1, 4).map(lambda pages: pages * PAGE)
)

STEPS = st.lists(
    st.tuples(PLACES, LENGTHS, st.sampled_from(["", "", "make_room", "drain"])),
    min_size=1,
    max_size=15,
)
"""Where, how long, and what is waited for then."""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_what_was_written_last_is_read_and_arrives(
    steps: list[tuple[int | None, int, str]], descriptor: int
) -> None:
    os.ftruncate(descriptor, 0)
    queue, expected, stop = WriteQueue(descriptor, write_all), bytearray(), 0
    for number, (place, length, wait) in enumerate(steps):
        start = stop if place is None else place
        stop = start + length
        piece = some_bytes(length, number)
        queue.put(start, memoryview(piece))
        expected.extend(bytes(max(0, stop - len(expected))))
        expected[start:stop] = piece
        if wait:
            getattr(queue, wait)()
        assert read(queue, descriptor, 0, len(expected)) == expected
        some = read(queue, descriptor, start + length // 3, length)
        assert some == expected[start + length // 3 : stop + length // 3].ljust(length, b"\0")
    queue.drain()
    assert os.pread(descriptor, len(expected) + 1, 0) == expected
    queue.close()


def test_only_what_is_left_of_a_page_goes_through_the_cache(descriptor: int) -> None:
    queue = WriteQueue(descriptor, write_all)
    content = some_bytes(9 * PAGE, 0)
    queue.put(100, content[: 4 * PAGE])
    queue.put(100 + 4 * PAGE, content[4 * PAGE :])
    queue.drain()
    if not queue._through_cache:  # a file system without direct writes
        assert queue.cached_nbytes == PAGE
    assert os.pread(descriptor, 9 * PAGE, 100) == content
    queue.close()


def test_what_a_file_system_does_not_write_directly_goes_through_the_cache(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "PAGE", 100)  # no disk has blocks of that size
    content = some_bytes(9 * PAGE, 3)
    queue = WriteQueue(descriptor, write_all)
    for start in range(0, len(content), 3 * PAGE):
        queue.put(start + 100, content[start : start + 3 * PAGE])
        queue.make_room()
    queue.drain()
    queue.close()
    assert queue.cached_nbytes == len(content)
    assert os.pread(descriptor, len(content), 100) == content


def test_a_slow_disk_is_written_through_the_cache(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "LEAST_SPEED", 1e18)
    monkeypatch.setattr(write_queue, "JUDGED_NBYTES", 4 * PAGE)
    content = some_bytes(40 * PAGE, 3)
    queue = WriteQueue(descriptor, write_all)
    for start in range(0, len(content), 4 * PAGE):
        queue.put(start, content[start : start + 4 * PAGE])
        queue.make_room()
    queue.drain()
    queue.close()
    assert queue.cached_nbytes >= 36 * PAGE
    assert os.pread(descriptor, len(content), 0) == content


@pytest.mark.parametrize("wait", ["make_room", "drain"])
def test_what_the_disk_refuses_is_told_from_then_on_until_it_is_forgotten(
    wait: str, descriptor: int
) -> None:
    def refuse(descriptor: int, start: int, data: Any) -> None:
        if start >= 4 * PAGE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_all(descriptor, start, data)

    def put_all() -> None:
        for start in range(0, 64 * PAGE, 4 * PAGE):
            queue.put(start, bytes(4 * PAGE))
            getattr(queue, wait)()

    queue = WriteQueue(descriptor, refuse)
    for attempt in (put_all, queue.drain, queue.drain):
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            attempt()
    queue.forget()
    queue.drain()
    queue.put(0, b"one")
    queue.drain()
    assert os.pread(descriptor, 4, 0) == b"one\0"
    assert os.fstat(descriptor).st_size == 4 * PAGE
    queue.close()
    queue.close()


def test_its_thread_may_need_the_lock_of_h5py(descriptor: int) -> None:
    """Python frees objects of h5py in whatever thread collects garbage."""

    def write(descriptor: int, start: int, data: Any) -> None:
        with h5py._objects.phil:
            gc.collect()
        written.set()
        write_all(descriptor, start, data)

    written = threading.Event()
    queue = WriteQueue(descriptor, write)
    content = some_bytes(40 * PAGE, 1)
    with h5py._objects.phil:  # as when HDF5 calls
        for start in range(0, len(content), PAGE):
            queue.put(start, content[start : start + PAGE])
        assert read(queue, descriptor, 0, len(content)) == content
        assert not written.is_set()
    queue.make_room()
    with h5py._objects.phil:
        queue.put(0, content)
        assert read(queue, descriptor, 0, len(content)) == content
    queue.drain()
    assert written.is_set()
    queue.close()
    assert os.pread(descriptor, len(content), 0) == content
