"""What every test is held to: no warning, no leaked thread, no leaked process, no hang."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TypeVar

import hypothesis
import psutil
import pytest

from blissdata import DataStore
from blissdata.testing import MemoryBackend
from blissdata.testing.servers import StackServer, TestServer

GRACE_S = 30.0

# A shell that starts us in the background has us ignore Ctrl-C, and so would every program of a test.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Where this is set, each of the many programs that tests start would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

LONG_TESTS = ("interop", "environments", "slow", "browser")
LONG_TEST_S = 900
"""How long a test may take that is long by itself, or needs another environment: pip builds it on first use,
or another test does and is waited for."""

_shared_pids: set[int] = set()
"""Servers that stay for the session, started by the first test that needs them."""

# No deadlines, and no complaint that examples are made slowly: the machine may be busy. Chance takes the same
# turns each time, so that what fails does so because something was changed; `NEW_EXAMPLES=1 make test` looks for
# what nobody has met yet, and prints a blob by which it can be repeated.
hypothesis.settings.register_profile(
    "blissdata",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
    derandomize=not os.environ.get("NEW_EXAMPLES"),
)
hypothesis.settings.load_profile("blissdata")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives long tests the time that they need on a slow machine."""
    for item in items:
        if any(map(item.get_closest_marker, LONG_TESTS)) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_TEST_S))


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fails a test that leaves a thread or a child process behind."""
    threads = set(threading.enumerate())
    children = descendants()
    yield
    if handles := sys.modules.get("blissdata.hdf5_handles"):
        handles.close_files()  # else they are kept for a second
    deadline = time.monotonic() + GRACE_S
    while True:
        left = [t.name for t in threading.enumerate() if t not in threads and t.is_alive()]
        left += [described(pid) for pid in descendants() - children - _shared_pids]
        if not left:
            return
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {', '.join(left)}")
        time.sleep(0.01)


def descendants() -> set[int]:
    """The processes below this one. Read off the kernel's lists where it has them: psutil looks at
    every process of the machine, and this is asked twice a test."""
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return {child.pid for child in psutil.Process().children(recursive=True)}
    found: set[int] = set()
    new = {os.getpid()}
    while new:
        children = {child for pid in new for child in _children(pid)}
        new = children - found
        found |= children
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as text:
                children += map(int, text.read().split())
    return children


def described(pid: int) -> str:
    """A process in words."""
    try:
        process = psutil.Process(pid)
        return f"{pid} {process.name()} ({process.status()})"
    except psutil.NoSuchProcess:
        return f"{pid} (ended meanwhile)"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits looks after its scan at every turn, not after seconds."""
    for name, module in list(sys.modules.items()):
        if name.startswith("blissdata.") and hasattr(module, "WAIT_SLICE_S"):
            monkeypatch.setattr(module, "WAIT_SLICE_S", 0.02)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[TestServer]:
    """One server for all tests that do nothing to it but use it."""
    with TestServer() as server:
        _shared_pids.add(server.pid)
        yield server


@pytest.fixture
def server(shared_server: TestServer) -> TestServer:
    """A running server, empty and not prepared."""
    return _emptied(shared_server)


_AnyServer = TypeVar("_AnyServer", bound=TestServer)


def _emptied(server: _AnyServer) -> _AnyServer:
    with server.client() as client:
        client.flushall()
        client.config_set("maxmemory", 0)
    return server


@pytest.fixture(scope="session")
def shared_stack_server() -> Iterator[StackServer]:
    """One Valkey with RedisJSON and RediSearch for all tests that do nothing to it but use it."""
    with StackServer("valkey") as server:
        _shared_pids.add(server.pid)
        yield server


@pytest.fixture
def stack_server(shared_stack_server: StackServer) -> StackServer:
    """A running Valkey with both modules, empty and not prepared."""
    return _emptied(shared_stack_server)


@pytest.fixture(scope="session")
def shared_redis_stack_server() -> Iterator[StackServer]:
    """The same with Redis 8."""
    with StackServer("redis") as server:
        _shared_pids.add(server.pid)
        yield server


@pytest.fixture
def redis_stack_server(shared_redis_stack_server: StackServer) -> StackServer:
    """A running Redis 8 with both modules, empty and not prepared."""
    return _emptied(shared_redis_stack_server)


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
