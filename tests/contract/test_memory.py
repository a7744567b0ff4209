"""The memory backend keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from blissdata.testing import BackendTests, MemoryBackend


class TestMemory(BackendTests):
    @pytest.fixture
    def backend(self) -> Iterator[MemoryBackend]:
        backend = MemoryBackend()
        backend.initialise()
        yield backend
        backend.close()

    @contextmanager
    def full(self, backend: MemoryBackend) -> Iterator[None]:
        backend.full = True
        yield
        backend.full = False

    @contextmanager
    def away(self, backend: MemoryBackend) -> Iterator[None]:
        backend.away = True
        yield
        backend.away = False
