"""A real server behind a proxy, programs around it, and faults at random instants; then the judge.

    publisher ──▶ proxy ──▶ server ◀── (killed, stopped, filled, cut short, replaced)
    readers   ──▶ ─┘

One number, the seed, decides which faults come when. What the machine does in between it does not.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.judge import Entries, Journal, Stream, Verdict, judge, read_journal
from tests.faults.proxy import Proxy

from blissdata import DataStore
from blissdata.testing.servers import StackServer, TestServer

__all__ = ["SETTINGS", "Report", "Setting", "run"]

HERE = Path(__file__).parent
END_S = 120.0
"""How long programs have to end once nothing is broken any more; a reader that takes longer hung."""
HEARTBEAT_S = (0.5, 4.0)
"""How often our publishers beat, and after which silence they are lost [s]: quicker than by default, and
slower than any stall here lasts."""
REPLY_S = 2.0
"""`socket_timeout` of our programs [s]: what is silent for longer is taken for lost."""


class _Program:
    """A publisher or reader, with its journal."""

    def __init__(self, directory: Path, name: str, file: str, python: str, options: Any) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self.errors = directory / f"{name}.err"
        options = {**options, "log": str(self.log)}
        with open(self.errors, "ab") as errors:
            self.process = subprocess.Popen(
                [python, "-W", "ignore", str(HERE / file), json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
            )

    def tell(self) -> None:
        """It shall come to its end."""
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def ends(self, deadline: float) -> bool:
        """Whether it ended by itself in time."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, deadline - time.monotonic()))
        return self.process.poll() is not None

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def signal(self, number: int) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, number)

    def words(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


class Scene:
    """One server and its programs, for as long as the faults of one setting last."""

    def __init__(
        self, stack: ExitStack, setting: Setting, seed: int, publisher: str, reader: str
    ) -> None:
        self.random = random.Random(seed)
        self.setting = setting
        self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bd-faults-")))
        self._stack = stack
        self._python = {"publisher": publisher, "reader": reader}
        self.server = self.new_server()
        with DataStore(f"unix://{self.server.socket}", init_db=True):
            pass
        self.replica: TestServer | None = None
        if setting.durability == "replica":
            self.replica = self.new_replica()
        self.proxy = stack.enter_context(Proxy(self.server.socket))
        self.publishers: list[_Program] = []
        self.readers: list[_Program] = []
        self.start_publisher()
        for mode in setting.readers:
            self.readers.append(
                self._start("reader", f"reader-{mode}", mode=mode, seed=self.random.random())
            )

    @property
    def publisher(self) -> _Program:
        return self.publishers[-1]

    def new_server(self) -> TestServer:
        make = StackServer if self.setting.stack else TestServer
        return self._stack.enter_context(make(**self.setting.options))

    def new_replica(self) -> TestServer:
        """Another server that has all that this one has, once it returns."""
        replica = self.new_server()
        with replica.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", self.server.port)
            until(lambda: client.info("replication")["master_link_status"] == "up")
        return replica

    def start_publisher(self) -> None:
        count = len(self.publishers)
        self.publishers.append(
            self._start(
                "publisher",
                f"publisher{count}",
                streams=list(self.setting.streams),
                durability=None if self._is_peer("publisher") else self.setting.durability,
                scan_s=(1.0, 5.0),
                first=1 + 100_000 * count,
                seed=self.random.random(),
            )
        )

    def _is_peer(self, role: str) -> bool:
        return self._python[role] != sys.executable

    def _start(self, role: str, name: str, **options: Any) -> _Program:
        # A program for 2.4.5 gives redis-py no timeout, so it has none here.
        url = self.proxy.url + ("" if self._is_peer(role) else f"?socket_timeout={REPLY_S}")
        python = self._python[role]
        program = _Program(
            self.directory,
            name,
            f"{role}.py",
            python,
            {"url": url, "heartbeat": HEARTBEAT_S, **options},
        )
        self._stack.callback(program.kill)
        return program

    def wait(self, low: float, high: float) -> None:
        time.sleep(self.random.uniform(low, high))

    def command(self, *words: Any) -> Any:
        with self.server.client() as client:
            return client.execute_command(*words)

    # ------------------------------------------------------------------------------ the end

    def finish(self) -> Verdict:
        """Tells all to end, and judges."""
        deadline = time.monotonic() + END_S
        self.publisher.tell()
        self.publisher.ends(deadline)
        for reader in self.readers:
            reader.tell()
        for reader in self.readers:
            reader.ends(deadline)
        publishers = [read_journal(p.name, [p.log]) for p in self.publishers]
        for journal in publishers[:-1]:
            journal.over = True  # it was killed
        readers = [read_journal(r.name, [r.log]) for r in self.readers]
        verdict = judge(
            publishers,
            readers,
            self._content([*publishers, *readers]),
            may_lose=self.setting.may_lose,
            killed=len(publishers) > 1,
        )
        for program in (self.publisher, *self.readers):
            said = program.errors.read_text()
            if "Traceback" in said:
                verdict.trouble.append(f"{program.name}: {said[-1500:]}")
        return verdict

    def _content(self, journals: Sequence[Journal]) -> dict[Stream, Entries]:
        """The streams of all scans, as they are on the server."""
        found: dict[Stream, Entries] = {}
        keys = {key for journal in journals for key in journal.scans}
        with DataStore(f"unix://{self.server.socket}") as store, self.server.client() as client:
            for key, loaded in store.catalog.load_many(sorted(keys)).items():
                if isinstance(loaded, Exception):
                    continue
                for name, stream in loaded.document.streams.items():
                    found[key, name] = client.xrange(stream.key())
        return found


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        time.sleep(0.01)


# ---------------------------------------------------------------------------------- faults

Fault = Callable[[Scene], None]


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


def stop_server(scene: Scene) -> None:
    scene.server.pause()
    scene.wait(0.1, 1.0 if scene.random.random() < 0.8 else 1.5 * REPLY_S)
    scene.server.resume()


def stop_publisher(scene: Scene) -> None:
    scene.publisher.signal(signal.SIGSTOP)
    scene.wait(0.1, 1.0)
    scene.publisher.signal(signal.SIGCONT)


def stop_reader(scene: Scene) -> None:
    reader = scene.random.choice(scene.readers)
    reader.signal(signal.SIGSTOP)
    scene.wait(0.1, 1.5)
    reader.signal(signal.SIGCONT)


def fill_memory(scene: Scene) -> None:
    used = int(scene.command("INFO", "memory").get("used_memory", 0))
    scene.command("CONFIG", "SET", "maxmemory", max(1, used - scene.random.randrange(2**20)))
    scene.wait(0.2, 1.0)
    scene.command("CONFIG", "SET", "maxmemory", 0)


def refuse_writes(scene: Scene) -> None:
    """NOREPLICAS: another refusal that passes, as MISCONF and READONLY are."""
    scene.command("CONFIG", "SET", "min-replicas-to-write", 9)
    scene.wait(0.1, 0.8)
    scene.command("CONFIG", "SET", "min-replicas-to-write", 0)


def busy(scene: Scene) -> None:
    """A script that somebody else runs blocks the server: BUSY."""
    scene.command("CONFIG", "SET", "busy-reply-threshold", 20)
    body = "local t = redis.call('TIME') local e = t[1] * 1000 + t[2] / 1000 + ARGV[1] repeat t = redis.call('TIME') until t[1] * 1000 + t[2] / 1000 > e"
    scene.command("EVAL", body, 0, scene.random.randrange(100, 600))


def kill_server(scene: Scene) -> None:
    scene.server.kill()
    scene.wait(0.0, 0.5)
    scene.server.start()


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
    until(lambda: '"scan"' in scene.publisher.words(), END_S)


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

REFUSALS: tuple[Fault, ...] = (fill_memory, refuse_writes, busy)


@dataclass(frozen=True)
class Setting:
    """A kind of server, what is published, and the faults that come."""

    faults: tuple[Fault, ...]
    options: dict[str, Any] = field(default_factory=dict)
    durability: str = "memory"
    may_lose: bool = False
    """Whether the durability allows the loss of confirmed points."""
    streams: tuple[str, ...] = ("fast", "slow", "array", "frame", "json")
    readers: tuple[str, ...] = ("cursor", "group", "slices")
    stack: bool = False


_AOF = {"appendonly": "yes", "auto-aof-rewrite-percentage": 0}

SETTINGS = {
    "network": Setting((*NETWORK, *REFUSALS)),
    "network, protocol 1": Setting((*NETWORK, *REFUSALS), stack=True),
    "killed server, fsync always": Setting(
        (kill_server, kill_server, cut, cut_reply, stop_server, swallow_replies),
        {**_AOF, "appendfsync": "always"},
        "disk",
    ),
    "killed server, fsync every second": Setting(
        (kill_server, kill_server_and_cut_file),
        {**_AOF, "appendfsync": "everysec"},
        may_lose=True,
    ),
    "killed publisher": Setting((kill_publisher, kill_publisher, cut)),
    "promoted replica": Setting(
        (promote_replica, promote_replica, cut, swallow_replies),
        {"tcp": True, "repl-diskless-sync-delay": 0},
        "replica",
    ),
}


# ---------------------------------------------------------------------------------- a run


@dataclass
class Report:
    """What a run found."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    @property
    def total(self) -> Verdict:
        total = Verdict()
        for verdict in self.verdicts.values():
            total.add(verdict)
        return total


def run(
    seed: int,
    faults: int,
    names: Sequence[str] = tuple(SETTINGS),
    *,
    publisher: str = sys.executable,
    reader: str = sys.executable,
    tell: Callable[[str], None] = lambda text: None,
) -> Report:
    """So many faults, over the settings of these names."""
    report = Report(seed)
    for i, name in enumerate(names):
        count = faults // len(names) + (i < faults % len(names))
        verdict = _play(name, f"{seed}:{name}", count, report.faults, publisher, reader, tell)
        report.verdicts[name] = verdict
    return report


def _play(
    name: str,
    seed: str,
    faults: int,
    counts: Counter[str],
    publisher: str,
    reader: str,
    tell: Callable[[str], None],
) -> Verdict:
    began = time.monotonic()
    number = int.from_bytes(seed.encode(), "big")
    setting = SETTINGS[name]
    with ExitStack() as stack:
        scene = Scene(stack, setting, number, publisher, reader)
        until(lambda: '"confirmed"' in scene.publisher.words(), END_S)
        rest: list[Fault] = []
        for n in range(faults):
            rest = rest or scene.random.sample(setting.faults, len(setting.faults))
            fault = rest.pop()
            scene.wait(0.05, 0.8)
            tell(f"{name}: {n + 1} of {faults}: {fault.__name__.replace('_', ' ')}")
            fault(scene)
            counts[fault.__name__] += 1
        scene.wait(0.1, 0.5)
        verdict = scene.finish()
        if verdict.trouble:
            keep = Path(tempfile.mkdtemp(prefix="bd-faults-kept-"))
            for file in scene.directory.iterdir():
                (keep / file.name).write_bytes(file.read_bytes())
            verdict.trouble.append(f"the journals are in {keep}")
    tell(
        f"{name}: {faults} faults in {time.monotonic() - began:.0f} s, "
        f"{verdict.confirmed} points confirmed, {len(verdict.trouble)} troubles"
    )
    return verdict
