"""What is no file that may be read is not opened, and is told of; as a user who is not root."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest

_PROGRAM = """
import os, sys
from blissdata import DataStore
from blissdata.h5api.redis_hdf5 import File
from blissdata.testing import MemoryBackend

backend = MemoryBackend()
backend.initialise()
store = DataStore(backend=backend)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
with File(sys.argv[1], data_store=store, wait=False) as file:
    assert list(file.keys()) == []
    assert "1.1" not in file
    try:
        file.require_file("/1.1")
    except OSError as error:
        print(type(error).__name__, error)
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that others may look into."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)  # noqa: S103 — the reader is somebody else
        yield Path(made)


def told(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_without_permission_is_told(directory: Path) -> None:
    path = directory / "f.h5"
    with h5py.File(path, "w") as file:
        file["1.1/d"] = 1
    path.chmod(0)
    assert told(path).startswith(f"DataFileRefusedError {path} cannot be opened for reading: Perm")


def test_what_is_no_regular_file_is_not_opened(directory: Path) -> None:
    os.mkfifo(directory / "fifo.h5")
    assert "fifo.h5 is a FIFO, not a regular file" in told(directory / "fifo.h5")


@pytest.mark.parametrize("target", ["/proc/self/mem", "/dev/zero"])
def test_a_symbolic_link_to_what_the_kernel_makes_up_is_refused(
    directory: Path, target: str
) -> None:
    (directory / "link.h5").symlink_to(target)
    assert "is not below the data roots" in told(directory / "link.h5")
