"""A real server behind a proxy, programs around it, and faults at random instants; then the judge.

    publisher ──▶ proxy ──▶ server ◀── (killed, stopped, filled, cut short, replaced)
    readers   ──▶ ─┤
    rival     ──▶ ─┘

One number, the seed, decides which faults come when. What the machine does in between it does not.
"""

from __future__ import annotations

import json
import os
import random
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

from tests.faults import breaking
from tests.faults.breaking import NETWORK, REFUSALS, REPLY_S, Fault, until
from tests.faults.judge import Broken, Entries, Journal, Stream, Verdict, judge, read_journal
from tests.faults.proxy import Proxy

from blissdata import DataStore
from blissdata.testing.servers import StackServer, TestServer

__all__ = ["AOF", "SETTINGS", "Report", "Setting", "named", "play", "run", "shares"]

HERE = Path(__file__).parent
END_S = 120.0
"""How long programs have to end once nothing is broken any more; a reader that takes longer hung."""
HEARTBEAT_S = (0.5, 4.0)
"""How often our publishers beat, and after which silence they are lost [s]: quicker than by default, and
slower than any stall here lasts."""
TOO_SHORT_HEARTBEAT_S = (0.2, 1.0)
"""So that a publisher need not stand still for long until it is taken for lost."""


class _Program:
    """A publisher, reader or rival, with its journal."""

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
                # Each Python has a blissdata of its own, and shall find no other.
                env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            )

    def tell(self) -> None:
        """It shall come to its end."""
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def ask(self) -> None:
        """It shall do once more what it is for."""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

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
        self.patience = END_S
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
        self.broken: list[Broken] = []
        self.start_publisher()
        for mode in setting.readers:
            self.readers.append(
                self._start(
                    "reader",
                    f"reader-{mode}",
                    mode=mode,
                    patient=setting.patient,
                    contested=setting.contested,
                    seed=self.random.random(),
                )
            )
        self._rival = self._start("rival", "rival", seed=1) if setting.contested else None

    @property
    def publisher(self) -> _Program:
        """The one that publishes now."""
        return self.publishers[-1]

    @property
    def rival(self) -> _Program:
        """The one that writes beside it."""
        assert self._rival is not None
        return self._rival

    def strike(self, fault: Fault) -> None:
        """Breaks something, and takes the time."""
        begin = time.monotonic()
        fault(self)
        self.broken.append(Broken(named(fault), begin, time.monotonic()))

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
        return self._python.get(role, sys.executable) != sys.executable

    def _start(self, role: str, name: str, **options: Any) -> _Program:
        # A program for 2.4.5 gives redis-py no timeout, so it has none here.
        url = self.proxy.url + ("" if self._is_peer(role) else f"?socket_timeout={REPLY_S}")
        python = self._python.get(role, sys.executable)
        program = _Program(
            self.directory,
            name,
            f"{role}.py",
            python,
            {"url": url, "heartbeat": self.setting.heartbeat, **options},
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
        deadline = time.monotonic() + self.patience
        for programs in ([self._rival] if self._rival else [], [self.publisher], self.readers):
            for program in programs:
                program.tell()
            for program in programs:
                program.ends(deadline)
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
            rival=read_journal("rival", [self._rival.log]) if self._rival else None,
            broken=self.broken,
        )
        for program in [self.publisher, *self.readers, *([self._rival] if self._rival else [])]:
            said = program.errors.read_text()
            if program.process.poll():
                verdict.crashed.append(program.name)
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
    contested: bool = False
    """Whether a second program writes into the streams."""
    patient: bool = False
    """Whether readers wait on for a publisher that is lost."""
    heartbeat: tuple[float, float] = HEARTBEAT_S
    """How often publishers beat, and after which silence they are lost [s]."""
    weight: float = 1.0
    """How many of a run's faults come here, beside other settings: some take long."""


AOF = {"appendonly": "yes", "auto-aof-rewrite-percentage": 0}

SETTINGS = {
    "network": Setting((*NETWORK, *REFUSALS)),
    "network, protocol 1": Setting((*NETWORK, *REFUSALS), stack=True),
    "killed server, fsync always": Setting(
        (
            breaking.kill_server,
            breaking.kill_server,
            breaking.kill_server_that_loads_slowly,
            breaking.cut,
            breaking.cut_reply,
            breaking.stop_server,
            breaking.swallow_replies,
        ),
        {**AOF, "appendfsync": "always"},
        "disk",
    ),
    "killed server, fsync every second": Setting(
        (breaking.kill_server, breaking.kill_server_and_cut_file),
        {**AOF, "appendfsync": "everysec"},
        may_lose=True,
    ),
    "killed publisher": Setting(
        (breaking.kill_publisher, breaking.kill_publisher, breaking.cut), weight=0.7
    ),
    "stopped publisher": Setting(
        (breaking.stop_publisher_until_it_is_taken_for_lost, breaking.cut),
        patient=True,
        heartbeat=TOO_SHORT_HEARTBEAT_S,
        weight=0.4,
    ),
    "promoted replica": Setting(
        (
            breaking.promote_replica,
            breaking.promote_replica,
            breaking.cut,
            breaking.swallow_replies,
        ),
        {"tcp": True, "repl-diskless-sync-delay": 0},
        "replica",
    ),
    "two writers": Setting(
        (breaking.write_beside, breaking.write_beside, breaking.write_beside, breaking.cut),
        contested=True,
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
    tell: Callable[[str], None] = lambda text: None,
) -> Report:
    """So many faults, over the settings of these names."""
    report = Report(seed)
    for name, count in zip(names, shares(faults, [SETTINGS[n].weight for n in names]), strict=True):
        if not count:
            continue
        report.verdicts[name] = play(
            f"{seed}:{name}", SETTINGS[name], count, report.faults, tell=tell
        )
    return report


def shares(total: int, weights: Sequence[float]) -> list[int]:
    """A whole number split by weights, to the last one."""
    reached, given, found = 0.0, 0, []
    for weight in weights:
        reached += weight
        found.append(round(total * reached / sum(weights)) - given)
        given += found[-1]
    return found


def named(fault: Fault) -> str:
    """A fault in words."""
    return fault.__name__.replace("_", " ")


def play(
    seed: str,
    setting: Setting,
    faults: int,
    counts: Counter[str],
    *,
    publisher: str = sys.executable,
    reader: str = sys.executable,
    patience: float = END_S,
    tell: Callable[[str], None] = lambda text: None,
) -> Verdict:
    """One scene with so many faults. `publisher` and `reader` are the Pythons of these programs;
    `patience` [s] is what they have to end in."""
    began = time.monotonic()
    name = seed.partition(":")[2]
    with ExitStack() as stack:
        scene = Scene(stack, setting, int.from_bytes(seed.encode(), "big"), publisher, reader)
        scene.patience = patience
        until(lambda: '"confirmed"' in scene.publisher.words(), END_S)
        rest: list[Fault] = []
        for n in range(faults):
            rest = rest or scene.random.sample(setting.faults, len(setting.faults))
            fault = rest.pop()
            scene.wait(0.05, 0.8)
            tell(f"{name}: {n + 1} of {faults}: {named(fault)}")
            scene.strike(fault)
            counts[named(fault)] += 1
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
