"""The contract on a real server: other connections, a full server, one that is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from blissdata.redis_engine.backends.abstract import Backend
from blissdata.redis_engine.backends.connect import open_backend
from blissdata.testing import BackendTests
from blissdata.testing.servers import TestServer


class RealServerTests(BackendTests):
    """What a backend has to do, on `server`, which a subclass gives."""

    server: TestServer

    kind: type[Backend]
    """What is opened there."""

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        backend = open_backend(self.server.url, prepare=True)
        assert type(backend) is self.kind
        yield backend
        backend.close()

    def second(self, backend: Backend) -> Backend:
        return open_backend(self.server.url)

    @contextmanager
    def full(self, backend: Backend) -> Iterator[None]:
        with self.server.client() as admin:
            admin.config_set("maxmemory", 1)
            try:
                yield
            finally:
                admin.config_set("maxmemory", 0)

    @contextmanager
    def away(self, backend: Backend) -> Iterator[None]:
        """The socket is not where it was, and every connection is cut."""
        hidden = self.server.socket.with_suffix(".hidden")
        with self.server.client() as admin:
            admin.ping()
            self.server.socket.rename(hidden)
            try:
                admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                yield
            finally:
                hidden.rename(self.server.socket)
