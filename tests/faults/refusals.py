"""What a server may answer instead of taking points, each brought about on a real one.

Each is a context manager over a `TestServer`: inside the block the server refuses, after it all is well.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from blissdata.testing.servers import TestServer

__all__ = ["REFUSALS", "disk_full", "full", "no_replicas", "read_only", "script_running"]

LONG_S = 30.0

_SPIN = """
local function now() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end
local over = now() + ARGV[1]
repeat until now() > over
"""


def _until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the server did not do what it was told")
        time.sleep(0.005)


@contextmanager
def full(server: TestServer, below: int = 0) -> Iterator[None]:
    """OOM: it may use `below` bytes less than it does."""
    with server.client() as client:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", max(1, used - below))
        yield
        client.config_set("maxmemory", 0)


@contextmanager
def disk_full(server: TestServer) -> Iterator[None]:
    """MISCONF: its snapshots cannot be written."""
    obstacle = server.directory / "dump.rdb"

    def saved() -> str:
        return str(client.info("persistence")["rdb_last_bgsave_status"])

    with server.client() as client:
        client.config_set("save", "3600 1")
        obstacle.unlink(missing_ok=True)
        (obstacle / "in-the-way").mkdir(parents=True)
        client.bgsave(schedule=True)
        _until(lambda: saved() == "err")
        yield
        (obstacle / "in-the-way").rmdir()
        obstacle.rmdir()
        client.bgsave(schedule=True)
        _until(lambda: saved() == "ok")
        client.config_set("save", "")


@contextmanager
def read_only(server: TestServer) -> Iterator[None]:
    """READONLY: it is the replica of a server that is not there. Whoever waited on it is let go."""
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def no_replicas(server: TestServer) -> Iterator[None]:
    """NOREPLICAS: it wants more replicas than it has."""
    with server.client() as client:
        client.config_set("min-replicas-to-write", 9)
        yield
        client.config_set("min-replicas-to-write", 0)


@contextmanager
def script_running(server: TestServer) -> Iterator[None]:
    """BUSY: somebody's script runs and runs."""
    with server.client() as client, server.client() as other:
        client.config_set("busy-reply-threshold", 10)
        spinning = threading.Thread(target=_spin, args=[other])
        spinning.start()
        _until(lambda: _is_busy(client))
        yield
        client.execute_command("SCRIPT", "KILL")
        spinning.join()


def _spin(client: Any) -> None:
    try:
        client.execute_command("EVAL", _SPIN, 0, LONG_S * 1000)
    except Exception as error:
        if "killed" not in str(error):
            raise


def _is_busy(client: Any) -> bool:
    try:
        client.ping()
    except Exception as error:
        return str(error).startswith("BUSY")
    return False


REFUSALS = {
    "OOM": full,
    "MISCONF": disk_full,
    "READONLY": read_only,
    "NOREPLICAS": no_replicas,
    "BUSY": script_running,
}
"""By what the server says."""
