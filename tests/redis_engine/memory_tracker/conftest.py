"""Stores of every kind for the memory tracker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blissdata import DataStore
from blissdata.testing.servers import StackServer


@pytest.fixture
def stack_store(stack_server: StackServer) -> Iterator[DataStore]:
    """A store on an empty server of protocol 1."""
    with DataStore(stack_server.url, init_db=True) as store:
        yield store


@pytest.fixture(params=["memory", "plain", "stack"])
def store(request: pytest.FixtureRequest) -> DataStore:
    """A store of every kind."""
    found: DataStore = request.getfixturevalue(f"{request.param}_store")
    return found
