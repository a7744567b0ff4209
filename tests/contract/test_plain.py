"""The plain layout on a real server keeps the contract."""

from __future__ import annotations

import pytest
from tests.contract.real_servers import RealServerTests

from blissdata.redis_engine.backends.plain import PlainBackend
from blissdata.testing.servers import TestServer


class TestPlain(RealServerTests):
    kind = PlainBackend

    @pytest.fixture(autouse=True)
    def given_server(self, server: TestServer) -> None:
        self.server = server
