"""Large pieces of a file arrive, whatever their places and whatever the disk does."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blissdata.writer import past_the_cache
from blissdata.writer.past_the_cache import PAGE, PastCache


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


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_the_cache, "BUFFER_NBYTES", 2 * PAGE)


PLACES = st.integers(0, 8 * PAGE) | st.integers(0, 8).map(lambda page: page * PAGE) | st.none()
"""None: where the piece before ended."""

LENGTHS = st.integers(1, 5 * PAGE) | st.integers(1, 4).map(lambda pages: pages * PAGE)

PIECES = st.lists(st.tuples(PLACES, LENGTHS, st.booleans()), min_size=1, max_size=12)
"""Where, how long, and whether it is small, and so written at once by somebody else."""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=PIECES)
def test_the_file_has_what_was_written_last(
    pieces: list[tuple[int | None, int, bool]], descriptor: int, small_buffers: None
) -> None:
    os.ftruncate(descriptor, 0)
    large, expected, stop = PastCache(descriptor, write_all), bytearray(), 0
    for number, (place, length, is_small) in enumerate(pieces):
        start = stop if place is None else place
        stop = start + length
        piece = some_bytes(length, number)
        if is_small:
            if large.holds(start, stop):
                large.settle()
            write_all(descriptor, start, piece)
        else:
            large.put(start, piece)
        expected.extend(bytes(max(0, stop - len(expected))))
        expected[start:stop] = piece
    large.settle()
    assert not large.holds(0, len(expected))
    assert os.pread(descriptor, len(expected) + 1, 0) == expected
    large.close()


def test_only_what_is_left_of_a_page_goes_through_the_cache(
    descriptor: int, small_buffers: None
) -> None:
    large = PastCache(descriptor, write_all)
    if large._gave_up:
        pytest.skip("a file system without direct writes")
    content = some_bytes(9 * PAGE, 0)
    large.put(100, content[: 4 * PAGE])
    large.put(100 + 4 * PAGE, content[4 * PAGE :])
    assert large.holds(100 + 8 * PAGE, 100 + 9 * PAGE)
    large.settle()
    assert large.cached_nbytes == PAGE
    assert os.pread(descriptor, 9 * PAGE, 100) == content
    large.close()


def test_what_a_file_system_does_not_write_directly_goes_through_the_cache(
    descriptor: int, small_buffers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_the_cache, "PAGE", 100)  # no disk has blocks of that size
    content = some_bytes(9 * PAGE, 3)
    large = PastCache(descriptor, write_all)
    for start in range(0, len(content), 3 * PAGE):
        large.put(start + 100, content[start : start + 3 * PAGE])
    large.settle()
    large.close()
    assert large.cached_nbytes == len(content)
    assert os.pread(descriptor, len(content), 100) == content


def test_a_slow_disk_is_written_through_the_cache(
    descriptor: int, small_buffers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_the_cache, "LEAST_SPEED", 1e18)
    monkeypatch.setattr(past_the_cache, "JUDGED_NBYTES", 4 * PAGE)
    content = some_bytes(40 * PAGE, 3)
    large = PastCache(descriptor, write_all)
    for start in range(0, len(content), 4 * PAGE):
        large.put(start, content[start : start + 4 * PAGE])
        large.settle()
    large.close()
    assert large.cached_nbytes >= 36 * PAGE
    assert os.pread(descriptor, len(content), 0) == content


def test_what_the_disk_refuses_is_told_at_one_of_the_next_calls(
    descriptor: int, small_buffers: None
) -> None:
    def refuse(descriptor: int, start: int, data: Any) -> None:
        if start >= 4 * PAGE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_all(descriptor, start, data)

    def put_all() -> None:
        for start in range(0, 64 * PAGE, 4 * PAGE):
            large.put(start, bytes(4 * PAGE))

    large = PastCache(descriptor, refuse)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        put_all()
    large.forget()
    large.settle()
    large.close()
    large.close()
    assert os.fstat(descriptor).st_size == 4 * PAGE
