"""`python -m benchmarks`: the table of ratios, every row against its bound.

All sides work on one Valkey with RedisJSON and RediSearch (blissdata 2.4.5 needs them), a plain one
beside it for our plain layout, in alternating rounds. Only ratios mean anything: the machine is
whatever it is, but it is the same for all sides within a round.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.clients.environments import environment

from benchmarks.bare import Bare
from benchmarks.report import command_line, machine, say, write_json
from benchmarks.rows import ROWS, as_json, as_text, judged
from blissdata import DataStore
from blissdata.testing.servers import StackServer, TestServer

WORKER = Path(__file__).with_name("worker.py")

FULL = {
    "sends": 400_000, "peer_sends": 40_000, "frames": 100, "streams": 1000, "kept": 1_000_000,
    "peer_kept": 100_000, "group_points": 100, "reads": 3000, "latencies": 400, "lives": 200,
    "scans": 3000, "loads": 400, "memory": 400_000, "peer_memory": 40_000, "searches": 5, "queries": 400,
    "settle": 15,
}  # fmt: skip
"""How much is done in one round."""

QUICK = {name: max(2, size // 50) for name, size in FULL.items()} | {
    "streams": 20,
    "searches": 1,
    "settle": 0,
}
"""Enough to see that everything works, too little to mean anything."""


class Side:
    """One package at work on one server, in a process of its own."""

    def __init__(self, python: Path, url: str) -> None:
        self._process = subprocess.Popen(
            [str(python), str(WORKER), url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, work: str, **arguments: Any) -> Any:
        """What the work gives. Raises what went wrong."""
        self.begin(work, **arguments)
        return self.answer()

    def begin(self, work: str, **arguments: Any) -> None:
        """Begins a work; `answer` waits for what it gives."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"work": work, **arguments}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What the work gives."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with status {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["value"]

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class Bench:
    """The servers, the sides, and what they measured."""

    def __init__(self, sizes: dict[str, int], peer: Path, stack: TestServer, plain: TestServer):
        self.sizes = sizes
        self.peer_python = peer
        self.stack, self.plain = stack, plain
        self.samples: dict[str, dict[str, list[float]]] = {}

    @contextmanager
    def at_work(self) -> Iterator[Bench]:
        """With ours, 2.4.5, ours on the plain layout, and the bare server, each at work."""
        with ExitStack() as stack:
            self.ours = Side(Path(sys.executable), self.stack.url)
            stack.callback(self.ours.close)
            self.peer = Side(self.peer_python, self.stack.url)
            stack.callback(self.peer.close)
            self.ours_plain = Side(Path(sys.executable), self.plain.url)
            stack.callback(self.ours_plain.close)
            self.bare = Bare(self.stack.port)
            stack.callback(self.bare.close)
            yield self

    def keep(self, name: str, side: str, value: float) -> None:
        """Books what a round gave."""
        self.samples.setdefault(name, {}).setdefault(side, []).append(value)

    # ------------------------------------------------------------------------------ the rows

    def sends(self) -> None:
        """Rows `send_*`."""
        n = self.sizes
        ours, peer, bare = self.ours, self.peer, self.bare
        for name, streams in (("send_one", 1), ("send_100", min(100, n["streams"]))):
            self.keep(name, "ours", ours("send", streams=streams, points=n["sends"]))
            self.keep(name, "peer", peer("send", streams=streams, points=n["peer_sends"]))
            self.keep(name, "bare", bare.send(streams, n["peer_sends"]))

    def latencies(self) -> None:
        """Rows `idle_*` and `busy_*`."""
        ours, peer, bare = self.ours, self.peer, self.bare
        self._latencies("idle", ours, peer, bare)
        load = Side(Path(sys.executable), self.stack.url)
        try:
            load("load", rate=50_000, streams=20)
            self._latencies("busy", ours, peer, bare)
            load.begin("stop")
            load.answer()
        finally:
            load.close()

    def _latencies(self, name: str, ours: Side, peer: Side, bare: Bare) -> None:
        points = self.sizes["latencies"]
        for side, measured in (
            ("ours", ours("latency", points=points, period=0.005)),
            ("peer", peer("latency", points=points, period=0.005)),
            ("bare", bare.latency(points, 0.005)),
        ):
            for part in ("p50", "p99"):
                self.keep(f"{name}_{part}", side, measured[part])

    def many_streams(self) -> None:
        """Rows `open_1000` and `memory_1000`."""
        ours, peer = self.ours, self.peer
        for name, side in (("ours", ours), ("peer", peer)):
            found = side("many_streams", streams=self.sizes["streams"])
            self.keep("open_1000", name, found["seconds"])
            self.keep("open_1000_threads", name, found["threads"])
            self.keep("open_1000_connections", name, found["connections"])
            self.keep("memory_1000", name, side("memory", streams=self.sizes["streams"]))

    def reading(self) -> None:
        """Rows `slice_* cursor_* index`."""
        n = self.sizes
        ours, peer, bare = self.ours, self.peer, self.bare
        own = ours("keep", name="own", streams=1, points=n["kept"])
        theirs = peer("keep", name="peer", streams=1, points=n["peer_kept"])
        for work in ("slice", "cursor"):
            self.keep(f"{work}_own", "ours", ours(work, key=own))
            self.keep(f"{work}_own", "peer", peer(work, key=theirs))
            self.keep(f"{work}_peer", "ours", ours(work, key=theirs))
            self.keep(f"{work}_peer", "peer", peer(work, key=theirs))
        stream = _stream_keys(self.stack.url, own)[0]
        self.keep("index", "ours", ours("index", key=own, reads=n["reads"]))
        self.keep("index", "peer", peer("index", key=theirs, reads=n["reads"]))
        self.keep("index", "bare", bare.index(stream, n["kept"], n["reads"]))
        ours("drop", name="own")
        peer("drop", name="peer")

    def groups(self) -> None:
        """Row `group_1000`."""
        streams, points = self.sizes["streams"], self.sizes["group_points"]
        ours, peer, bare = self.ours, self.peer, self.bare
        own = ours("keep", name="own", streams=streams, points=points)
        theirs = peer("keep", name="peer", streams=streams, points=points)
        self.keep("group_1000", "ours", ours("group", key=own))
        self.keep("group_1000", "peer", peer("group", key=theirs))
        keys = _stream_keys(self.stack.url, own)
        self.keep("group_1000", "bare", bare.group(keys, streams * points))
        ours("drop", name="own")
        peer("drop", name="peer")

    def frames(self) -> None:
        """Rows `*_frames`."""
        frames = self.sizes["frames"]
        ours, peer, bare = self.ours, self.peer, self.bare
        bare.write_frames(frames)  # whoever is first pays for memory that the server never touched
        for name, side in (("ours", ours), ("peer", peer)):
            self.keep("write_frames", name, side("write_frames", frames=frames))
        self.keep("write_frames", "bare", bare.write_frames(frames))
        shape = {"dtype": "uint16", "shape": (1024, 1024)}
        for name, side in (("ours", ours), ("peer", peer)):
            key = side("keep", name="frames", streams=1, points=frames, **shape)
            self.keep("read_frames", name, side("read_frames", key=key))
            if name == "ours":
                stream = _stream_keys(self.stack.url, key)[0]
                self.keep("read_frames", "bare", bare.read_frames(stream))
            side("drop", name="frames")

    def scans(self) -> None:
        """Rows `life load states search`."""
        n = self.sizes
        ours, peer, plain = self.ours, self.peer, self.ours_plain
        keys = ours("make_scans", scans=n["scans"])
        plain_keys = plain("make_scans", scans=n["scans"])
        self.settle()
        found = len([i for i in range(n["scans"]) if i % 10 == 3])
        arguments: dict[str, Callable[[Sequence[str]], dict[str, Any]]] = {
            "load": lambda k: {"work": "load_scans", "keys": k[: n["loads"]]},
            "states": lambda k: {"work": "states", "keys": k, "times": n["searches"]},
            "search": lambda k: {
                "work": "search", "times": min(n["queries"], n["scans"]), "found": found
            },
        }  # fmt: skip
        for name, request in arguments.items():
            measured = {
                "peer": peer(**request(keys)),
                "ours": ours(**request(keys)),
                "plain": plain(**request(plain_keys)),
            }
            for side, values in measured.items():
                for row, value in (values if name == "search" else {name: values}).items():
                    if side == "plain":
                        self.keep(f"{row}_plain", "ours", value)
                    else:
                        self.keep(row, side, value)
                    if side == "peer":
                        self.keep(f"{row}_plain", side, value)
        ours("remove_scans")
        plain("remove_scans")
        for side in (ours, peer, plain):
            side("life", scans=5)
        for name, side in (("ours", ours), ("peer", peer)):
            self.keep("life", name, side("life", scans=n["lives"]))
        self.keep("life_plain", "ours", plain("life", scans=n["lives"]))
        self.keep("life_plain", "peer", self.samples["life"]["peer"][-1])

    def settle(self) -> None:
        """Waits until the server has forgotten what the rounds before have deleted."""
        deadline = time.monotonic() + self.sizes["settle"]
        with self.stack.client() as client:
            while client.info("keyspace")["db0"]["expires"] and time.monotonic() < deadline:
                time.sleep(0.1)

    def memory(self) -> None:
        """Row `bytes_per_point`."""
        ours, peer = self.ours, self.peer
        n = self.sizes
        self.keep("bytes_per_point", "ours", ours("bytes_per_point", points=n["memory"]))
        self.keep("bytes_per_point", "peer", peer("bytes_per_point", points=n["peer_memory"]))

    def imports(self) -> None:
        """Row `import`."""
        for name, python in (("ours", Path(sys.executable)), ("peer", self.peer_python)):
            begin = time.perf_counter()
            subprocess.run([str(python), "-c", "from blissdata import DataStore"], check=True)
            self.keep("import", name, time.perf_counter() - begin)


PARTS = (
    "imports",
    "sends",
    "latencies",
    "many_streams",
    "reading",
    "groups",
    "frames",
    "scans",
    "memory",
)


def measure(
    rounds: int, sizes: dict[str, int], parts: Sequence[str], say: Callable[[str], None]
) -> dict[str, dict[str, list[float]]]:
    """What so many rounds give."""
    peer = environment("peer")
    options = {"save": "", "appendonly": "no"}
    with StackServer(tcp=True, **options) as stack, TestServer(tcp=True, **options) as plain:
        for server in (stack, plain):
            DataStore(server.url, init_db=True).close()
        with Bench(sizes, peer, stack, plain).at_work() as bench:
            for i in range(rounds):
                for part in parts:
                    say(f"round {i + 1} of {rounds}: {part}")
                    getattr(bench, part)()
            return bench.samples


def _stream_keys(url: str, scan: str) -> list[str]:
    with DataStore(url) as store:
        return [stream.key for stream in store.load_scan(scan).streams.values()]


def main() -> None:
    """The command line."""
    parser = command_line("benchmarks", __doc__, rounds=5)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some parts alone")
    options = parser.parse_args()
    peer = environment("peer")
    samples = measure(options.rounds, QUICK if options.quick else FULL, options.only, say)
    say("")
    results = judged(samples)
    print(as_text(results))
    for what in ("threads", "connections"):
        found = samples.get(f"open_1000_{what}")
        if found:
            print(
                f"{what} more for 1000 streams: ours {max(found['ours']):g}, 2.4.5 {max(found['peer']):g}"
            )
    if options.json:
        write_json(options.json, as_json(results, samples, machine(peer)))
    missed = [r.row.title for r in results if not r.holds]
    print(
        f"{len(results)} of {len(ROWS)} rows measured, {len(missed)} missed"
        + "".join(f"\n  missed: {m}" for m in missed)
    )
    if missed and not options.quick:
        sys.exit(1)


if __name__ == "__main__":
    main()
