"""What breaks: each fault strikes a running scene, lasts for a while, and is over when it returns."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.faults.refusals import disk_full, full, no_replicas, read_only, script_running

if TYPE_CHECKING:
    from tests.faults.harness import Scene

__all__ = ["NETWORK", "REFUSALS", "REPLY_S", "Fault", "until"]

REPLY_S = 2.0
"""`socket_timeout` of our programs [s]: what is silent for longer is taken for lost."""

BEGIN_S = 120.0
"""How long a new program may take to begin [s]."""

LOADING = {"key_load_delay": 100}
"""What makes a server load its data slowly: so long for each command [µs]."""

Fault = Callable[["Scene"], None]


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Waits for it. Raises `TimeoutError`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        time.sleep(0.01)


# ---------------------------------------------------------------------------------- the network


def cut(scene: Scene) -> None:
    scene.proxy.cut()


def cut_request(scene: Scene) -> None:
    scene.proxy.cut_within("up", scene.random.randrange(20_000))
    scene.wait(0.1, 0.4)
    scene.proxy.heal()


def cut_reply(scene: Scene) -> None:
    scene.proxy.cut_within("down", scene.random.randrange(3000))
    scene.wait(0.1, 0.4)
    scene.proxy.heal()


def refuse(scene: Scene) -> None:
    scene.proxy.refuse()
    scene.wait(0.1, 1.0)
    scene.proxy.heal()


def stall(scene: Scene) -> None:
    scene.proxy.stall()
    scene.wait(0.1, 1.0 if scene.random.random() < 0.8 else 1.5 * REPLY_S)
    scene.proxy.heal()


def swallow_replies(scene: Scene) -> None:
    scene.proxy.swallow_replies()
    scene.wait(0.02, 0.5)
    scene.proxy.stop_swallowing()


def half_open(scene: Scene) -> None:
    scene.proxy.half_open()
    scene.wait(0.1, 0.5)


def delay(scene: Scene) -> None:
    scene.proxy.delay(scene.random.uniform(0.001, 0.1))
    scene.wait(0.2, 0.8)
    scene.proxy.heal()


# ---------------------------------------------------------------------------------- programs that stand still


def stop_server(scene: Scene) -> None:
    scene.server.pause()
    scene.wait(0.1, 1.0 if scene.random.random() < 0.8 else 1.5 * REPLY_S)
    scene.server.resume()


def stop_publisher(scene: Scene) -> None:
    scene.publisher.signal(signal.SIGSTOP)
    scene.wait(0.1, 1.0)
    scene.publisher.signal(signal.SIGCONT)


def stop_publisher_until_it_is_taken_for_lost(scene: Scene) -> None:
    """It comes back when every reader was told, and goes on. Between two scans nobody is told."""
    told = [reader.words().count('"PublisherLostError"') for reader in scene.readers]
    scene.publisher.signal(signal.SIGSTOP)
    with suppress(TimeoutError):
        until(
            lambda: all(
                reader.words().count('"PublisherLostError"') > before
                for reader, before in zip(scene.readers, told, strict=True)
            ),
            15.0,
        )
    scene.publisher.signal(signal.SIGCONT)


def stop_reader(scene: Scene) -> None:
    reader = scene.random.choice(scene.readers)
    reader.signal(signal.SIGSTOP)
    scene.wait(0.1, 1.5)
    reader.signal(signal.SIGCONT)


# ---------------------------------------------------------------------------------- a server that refuses


def fill_memory(scene: Scene) -> None:
    with full(scene.server, scene.random.randrange(2**20)):
        scene.wait(0.2, 1.0)


def fill_disk(scene: Scene) -> None:
    with disk_full(scene.server):
        scene.wait(0.1, 0.8)


def make_read_only(scene: Scene) -> None:
    with read_only(scene.server):
        scene.wait(0.1, 0.8)


def want_replicas(scene: Scene) -> None:
    with no_replicas(scene.server):
        scene.wait(0.1, 0.8)


def run_script(scene: Scene) -> None:
    with script_running(scene.server):
        scene.wait(0.1, 0.6)


# ---------------------------------------------------------------------------------- ends


def kill_server(scene: Scene) -> None:
    scene.server.kill()
    scene.wait(0.0, 0.5)
    scene.server.start()


def kill_server_that_loads_slowly(scene: Scene) -> None:
    """It answers LOADING for a while."""
    scene.server.kill()
    scene.server.start(**LOADING)


def kill_server_and_cut_file(scene: Scene) -> None:
    """The last kB that the server wrote never came to the disk."""
    scene.server.kill()
    newest = max(scene.server.directory.glob("appendonlydir/*.incr.aof"), key=os.path.getmtime)
    size = newest.stat().st_size
    os.truncate(newest, max(0, size - scene.random.randrange(1, 4096)))
    scene.server.start()


def kill_publisher(scene: Scene) -> None:
    """It never comes back; another one begins new scans."""
    scene.publisher.kill()
    scene.wait(0.0, 0.5)
    scene.start_publisher()
    until(lambda: '"scan"' in scene.publisher.words(), BEGIN_S)


def promote_replica(scene: Scene) -> None:
    """The server is gone for good, its replica takes over, and gets a replica of its own."""
    assert scene.replica is not None
    scene.server.kill()
    with scene.replica.client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
    scene.wait(0.0, 0.5)
    scene.server = scene.replica
    scene.proxy.target = scene.server.socket
    scene.proxy.cut()
    scene.replica = scene.new_replica()


# ---------------------------------------------------------------------------------- another writer


def write_beside(scene: Scene) -> None:
    """A second program writes into a stream of the running scan."""
    scene.rival.ask()
    scene.wait(0.1, 0.5)


NETWORK: tuple[Fault, ...] = (
    cut,
    cut_request,
    cut_reply,
    refuse,
    stall,
    swallow_replies,
    half_open,
    delay,
    stop_server,
    stop_publisher,
    stop_reader,
)

REFUSALS: tuple[Fault, ...] = (fill_memory, fill_disk, make_read_only, want_replicas, run_script)
