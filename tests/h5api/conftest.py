"""A program that writes HDF5 files, and a way to read meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.h5api.writing import DEADLINE_S, Writer


class SimulatedTime:
    """Time that passes by sleeping only, however slow the machine is."""

    def __init__(self) -> None:
        self.now = time.time()

    def look(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> SimulatedTime:
    """The time of who tries again in this process."""
    found = SimulatedTime()
    for name in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, found.look)
    monkeypatch.setattr(time, "sleep", found.sleep)
    return found


@pytest.fixture(scope="session")
def writing_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    """One process for all tests: half a second is saved in each."""
    with contextlib.closing(Writer(tmp_path_factory.mktemp("writing"))) as writer:
        yield writer


@pytest.fixture
def writer(writing_process: Writer, tmp_path: Path) -> Iterator[Writer]:
    """A process that writes into the test's directory."""
    writing_process(f"os.chdir({str(tmp_path)!r})")
    yield writing_process
    writing_process(CLOSE_ALL)


CLOSE_ALL = """
for name, value in list(names.items()):
    if isinstance(value, h5py.File):
        value.close()
    if name not in known:
        del names[name]
"""


@pytest.fixture
def lockless_writer(tmp_path: Path) -> Iterator[Writer]:
    """… without locking its files."""
    with contextlib.closing(Writer(tmp_path, HDF5_USE_FILE_LOCKING="FALSE")) as writer:
        yield writer


@pytest.fixture
def meanwhile() -> Iterator[Callable[..., Any]]:
    """`meanwhile(file, read, *changes)` begins `read()` on a file with a `Watched` handler, does each
    change once the reader was seen to wait, and gives what was read."""
    with ThreadPoolExecutor(1, "reader") as pool:

        def run(file: Any, read: Callable[[], Any], *changes: Callable[[], Any]) -> Any:
            future = pool.submit(read)
            for change in changes:
                seen = file.handler.tries
                deadline = time.monotonic() + DEADLINE_S
                while file.handler.tries < seen + 3:
                    assert not future.done(), f"did not wait: {future.result()!r}"
                    assert time.monotonic() < deadline, "is not looking"
                    time.sleep(0.001)
                change()
            return future.result(DEADLINE_S)

        yield run
