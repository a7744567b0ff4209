"""Frame buffers stay on this machine, and leave nothing in shared memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from blissdata import DataStore, Scan
from blissdata.data_roots import ROOTS_VARIABLE
from blissdata.streams.frames import remote
from blissdata.streams.frames.buffer import HOST_VARIABLE
from blissdata.streams.frames.ring import DIRECTORY, DIRECTORY_VARIABLE


@pytest.fixture(autouse=True)
def nothing_stays_in_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Fails a test that leaves a ring behind; buffers serve here alone; files are below `tmp_path`."""
    monkeypatch.setenv(HOST_VARIABLE, "127.0.0.1")
    monkeypatch.setenv(ROOTS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(remote, "ANSWER_S", 60.0)  # the machine may be busy
    with tempfile.TemporaryDirectory(dir=DIRECTORY, prefix="blissdata-tests-") as rings:
        monkeypatch.setenv(DIRECTORY_VARIABLE, rings)
        yield
        assert not os.listdir(rings), "left in shared memory"


@pytest.fixture
def scan(memory_store: DataStore) -> Iterator[Scan]:
    """A scan that is not prepared yet, in memory."""
    with memory_store.create_scan({"name": "camera", "number": 1, "data_policy": "none"}) as scan:
        yield scan
