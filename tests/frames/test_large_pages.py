"""Shared memory in large pages: as much as the kernel gives, and never more than there is room for."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from blissdata.streams.frames.large_pages import reserve_large_pages
from blissdata.streams.frames.ring import DIRECTORY_VARIABLE
from blissdata.streams.large_pages import LARGE_PAGE

MIB = 2**20
SIZE = 2 * LARGE_PAGE + MIB


def pages_refused() -> int:
    """How often the kernel had no large page to make of small ones: its memory may be in pieces."""
    told = Path("/proc/vmstat")
    counted = re.search(
        r"^thp_collapse_alloc_failed (\d+)$",
        told.read_text() if told.exists() else "",
        re.MULTILINE,
    )
    return int(counted[1]) if counted else 0


def test_memory_is_reserved_and_empty() -> None:
    path = Path(os.environ[DIRECTORY_VARIABLE], "file")
    with path.open("w+b") as file:
        path.unlink()
        refused = pages_refused()
        reserve_large_pages(file.fileno(), SIZE)
        refused = pages_refused() - refused
        found = os.fstat(file.fileno())
        assert found.st_size == SIZE
        version = re.match(r"(\d+)\.(\d+)", platform.release())
        assert version is not None
        if tuple(map(int, version.groups())) >= (6, 1):
            assert found.st_blocks * 512 == 2 * LARGE_PAGE or refused
        assert file.read() == bytes(SIZE)


def test_small_files_are_left_alone() -> None:
    path = Path(os.environ[DIRECTORY_VARIABLE], "file")
    with path.open("w+b") as file:
        path.unlink()
        reserve_large_pages(file.fileno(), LARGE_PAGE - 1)
        assert os.fstat(file.fileno()).st_size == 0


@pytest.mark.parametrize("nbytes", [MIB, 8 * MIB], ids=["small pages", "large pages"])
def test_memory_that_ends_while_a_ring_is_made_is_an_error(nbytes: int) -> None:
    """A limit of the process, which is met as late as one of the machine."""
    program = (
        "import resource\n"
        "from blissdata.exceptions import SharedMemoryError\n"
        "from blissdata.streams.frames.ring import Ring, leftovers\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({nbytes // 2}, resource.RLIM_INFINITY))\n"
        "try:\n"
        f"    Ring(1, {nbytes})\n"
        "except SharedMemoryError as error:\n"
        "    print(error)\n"
        "print(leftovers())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "does not fit into" in done.stdout
    assert "File too large" in done.stdout
    assert done.stdout.endswith("[]\n")
