"""Protocol 1 on real servers with RedisJSON and RediSearch keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from blissdata.redis_engine.backends.abstract import Backend
from blissdata.redis_engine.backends.connect import open_backend
from blissdata.redis_engine.backends.stack import StackBackend
from blissdata.testing import BackendTests
from blissdata.testing.servers import StackServer


class StackTests(BackendTests):
    server: StackServer

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        backend = open_backend(self.server.url, prepare=True)
        assert isinstance(backend, StackBackend)
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


class TestStackOnValkey(StackTests):
    @pytest.fixture(autouse=True)
    def given_server(self, stack_server: StackServer) -> None:
        self.server = stack_server


class TestStackOnRedis(StackTests):
    @pytest.fixture(autouse=True)
    def given_server(self, redis_stack_server: StackServer) -> None:
        self.server = redis_stack_server
