"""What every test is held to: no warning, no leaked thread, no leaked process, no hang."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import hypothesis
import psutil
import pytest

from blissdata import DataStore
from blissdata.testing import MemoryBackend
from blissdata.testing.servers import TestServer

GRACE_S = 5.0

# No deadlines: the machine may be busy. What fails can be repeated: by the blob that is printed, or,
# where CI is set, by running again.
hypothesis.settings.register_profile(
    "blissdata", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
hypothesis.settings.load_profile("blissdata")


@pytest.fixture(autouse=True)
def nothing_is_left_behind(shared_server: TestServer) -> Iterator[None]:
    """Fails a test that leaves a thread or a child process behind."""
    threads = set(threading.enumerate())
    children = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    deadline = time.monotonic() + GRACE_S
    while True:
        left = [t.name for t in threading.enumerate() if t not in threads and t.is_alive()]
        left += [
            f"{c.pid} {c.name()} ({c.status()})"
            for c in psutil.Process().children(recursive=True)
            if c.pid not in children and c.is_running()
        ]
        if not left:
            return
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {', '.join(left)}")
        time.sleep(0.01)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[TestServer]:
    """One server for all tests that do nothing to it but use it."""
    with TestServer() as server:
        yield server


@pytest.fixture
def server(shared_server: TestServer) -> TestServer:
    """A running server, empty and not prepared."""
    with shared_server.client() as client:
        client.flushall()
        client.config_set("maxmemory", 0)
    return shared_server


@pytest.fixture
def plain_store(server: TestServer) -> Iterator[DataStore]:
    """A store on an empty server in the plain layout."""
    with DataStore(server.url, init_db=True) as store:
        yield store


@pytest.fixture
def memory_store() -> Iterator[DataStore]:
    """A store in memory."""
    backend = MemoryBackend()
    backend.initialise()
    with DataStore(backend=backend) as store:
        yield store


@pytest.fixture(params=["memory", "plain"])
def store(request: pytest.FixtureRequest) -> DataStore:
    """A store of every kind."""
    found: DataStore = request.getfixturevalue(f"{request.param}_store")
    return found
