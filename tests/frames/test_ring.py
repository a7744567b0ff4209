"""The ring: what is read is whole, what is overwritten is said to be, nothing is left, nothing foreign is mapped."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.frames.formula import frame, is_right, number_of, words

from blissdata.exceptions import SharedMemoryError
from blissdata.streams.frames import ring as module
from blissdata.streams.frames.ring import (
    DIRECTORY_VARIABLE,
    Ring,
    RingReader,
    RingUnreachableError,
    leftovers,
    sweep,
)

NBYTES = 256


def put(ring: Ring, index: int) -> None:
    words(index, ring.nbytes, ring.begin(index).view(np.uint64))
    ring.commit(index)


def test_the_newest_frames_are_there_and_older_ones_are_not() -> None:
    ring = Ring(3, NBYTES)
    reader = RingReader.open(ring.name, 3, NBYTES)
    out = np.empty(NBYTES, np.uint8)
    for index in range(8):
        put(ring, index)
    assert reader.taken == 8
    assert reader.held() == range(5, 8)
    for index in range(9):
        there = reader.read_into(index, out)
        assert there == (5 <= index < 8)
        if there:
            assert is_right(out, index)
    by, when = reader.lost_since(4) or (0, 0.0)
    assert by == 7
    assert when > 1e9
    assert reader.lost_since(6) is None
    ring.close()


def test_a_fork_after_its_end_closes_nothing_of_others() -> None:
    with open(os.devnull, "rb") as other:
        ring = Ring(2, NBYTES)
        number = ring.fd
        ring.close()
        assert fcntl.fcntl(other, fcntl.F_DUPFD_CLOEXEC, number) == number  # somebody else's now
        child = os.fork()
        if not child:
            try:
                os.fstat(number)
            except OSError:
                os._exit(1)
            os._exit(0)
        os.close(number)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_frame_that_is_overwritten_while_it_is_read_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ring = Ring(2, NBYTES)
    reader = RingReader.open(ring.name, 2, NBYTES)
    put(ring, 0)
    copy = np.copyto

    def interrupted(out: np.ndarray, pixels: np.ndarray) -> None:
        copy(out[:128], pixels[:128])
        put(ring, 2)
        copy(out[128:], pixels[128:])

    out = np.empty(NBYTES, np.uint8)
    monkeypatch.setattr(module.np, "copyto", interrupted)
    assert not reader.read_into(0, out)
    monkeypatch.undo()
    assert number_of(out) is None  # it is torn indeed
    ring.close()


def test_a_frame_in_the_making_is_neither_the_old_one_nor_the_new_one() -> None:
    ring = Ring(2, NBYTES)
    reader = RingReader.open(ring.name, 2, NBYTES)
    put(ring, 0)
    put(ring, 1)
    ring.begin(2)
    out = np.empty(NBYTES, np.uint8)
    assert not reader.read_into(0, out)
    assert not reader.read_into(2, out)
    assert reader.held() == range(1, 2)
    ring.close()


def test_who_has_a_closed_ring_mapped_reads_nothing_of_it() -> None:
    ring = Ring(2, NBYTES)
    reader = RingReader.open(ring.name, 2, NBYTES)
    put(ring, 0)
    ring.close()
    ring.close()
    out = np.empty(NBYTES, np.uint8)
    assert not reader.is_open
    assert not reader.read_into(0, out)
    with pytest.raises(RingUnreachableError, match="not on this host, or gone"):
        RingReader.open(ring.name, 2, NBYTES)


def test_a_ring_in_use_is_not_swept_and_a_dead_one_is() -> None:
    ring = Ring(2, NBYTES)
    program = (
        "import os, signal\n"
        "from blissdata.streams.frames.ring import Ring\n"
        "ring = Ring(4, 4096)\n"
        "print(ring.name, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)  # noqa: PLW1510
    dead = done.stdout.strip()
    assert dead in leftovers()
    assert dead in sweep()
    assert dead not in leftovers()
    assert ring.name in leftovers()
    ring.close()


def test_a_ring_that_is_forgotten_goes_with_its_process() -> None:
    program = "from blissdata.streams.frames.ring import Ring; ring = Ring(4, 64); print(ring.name)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() not in leftovers()


@pytest.mark.parametrize("what", ["size", "permissions", "link", "content", "name"])
def test_what_is_not_as_it_should_be_is_not_mapped(what: str, tmp_path: Path) -> None:
    ring = Ring(2, NBYTES)
    path = Path(os.environ[DIRECTORY_VARIABLE], ring.name)
    name, slots = ring.name, 2
    if what == "size":
        slots = 64
    elif what == "permissions":
        path.chmod(0o644)
    elif what == "link":
        real = tmp_path / "elsewhere"
        real.write_bytes(path.read_bytes())
        path.unlink()
        path.symlink_to(real)
    elif what == "content":
        with path.open("r+b") as file:
            file.write(b"something")
    else:
        name = "../../etc/passwd"
    with pytest.raises(RingUnreachableError):
        RingReader.open(name, slots, NBYTES)
    ring.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")
def test_somebody_elses_ring_is_not_mapped() -> None:
    ring = Ring(2, NBYTES)
    os.chown(Path(os.environ[DIRECTORY_VARIABLE], ring.name), 65534, 65534)
    with pytest.raises(RingUnreachableError, match="no file of this user"):
        RingReader.open(ring.name, 2, NBYTES)
    ring.close()


def test_more_than_there_is_cannot_be_had() -> None:
    before = leftovers()
    with pytest.raises(
        SharedMemoryError, match=r"does not fit into /dev/shm/.*: .* bytes are free"
    ):
        Ring(2**20, 2**30)
    assert leftovers() == before


def test_no_shared_memory_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(SharedMemoryError, match="There is no shared memory on this machine"):
        Ring(2, NBYTES)


def test_the_frames_of_these_tests_tell_who_they_are() -> None:
    found = frame(7, (4, 8))
    assert number_of(found) == 7
    torn = found.copy()
    torn[2:] = frame(9, (4, 8))[2:]
    assert number_of(torn) is None
