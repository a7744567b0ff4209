"""Protocol 1 on real servers with RedisJSON and RediSearch keeps the contract."""

from __future__ import annotations

import pytest
from tests.contract.real_servers import RealServerTests

from blissdata.redis_engine.backends.stack import StackBackend
from blissdata.testing.servers import StackServer


class TestStackOnValkey(RealServerTests):
    kind = StackBackend

    @pytest.fixture(autouse=True)
    def given_server(self, stack_server: StackServer) -> None:
        self.server = stack_server


class TestStackOnRedis(RealServerTests):
    kind = StackBackend

    @pytest.fixture(autouse=True)
    def given_server(self, redis_stack_server: StackServer) -> None:
        self.server = redis_stack_server
