"""The plain layout on a real server keeps the contract."""

from __future__ import annotations

import pytest
from tests.contract.real_servers import RealServerTests

from blissdata.redis_engine.backends.abstract import Backend, Catalog
from blissdata.redis_engine.backends.plain import FEW, PlainBackend
from blissdata.testing.backend_suite import FIELDS, new_scan
from blissdata.testing.servers import TestServer


class TestPlain(RealServerTests):
    kind = PlainBackend

    @pytest.fixture(autouse=True)
    def given_server(self, server: TestServer) -> None:
        self.server = server

    @pytest.mark.parametrize("count", [1, 3, 20, FEW, FEW + 1])
    def test_the_index_may_list_scans_that_are_gone(
        self, backend: Backend, catalog: Catalog, count: int
    ) -> None:
        """However many it lists: few are looked at by the server itself, more are asked for."""
        keys = [new_scan(catalog, session="here", number=1) for _ in range(count)]
        new_scan(catalog, session="elsewhere", number=2)
        searches = ({"session": "HERE"}, {"session": "he*"}, {"number": 1})
        both = {"session": "here", "number": 1}
        for fields in (*searches, both, *searches):
            assert catalog.find(fields) == (catalog.timetag(), keys)
        catalog.expire_many(keys[-1:], 11)
        with self.server.client() as client:
            client.unlink(keys[0])
            client.pexpire(keys[-1], 9000)  # as if two seconds had passed
        for asked in (catalog, backend.catalog("esrf", FIELDS)):  # the second remembers nothing
            for fields in (*searches, both, *searches):
                assert asked.find(fields) == (catalog.timetag(), keys[1:-1])
