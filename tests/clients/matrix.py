"""Which program understands which: publisher × reader × server × protocol × kind of stream, a line each.

    make matrix                                   # all of it
    python -m tests.clients.matrix --quick        # one pair for each direction, oldest and newest
    python -m tests.clients.matrix --only 2.4.5 --only lima --json

2.4.5 and ours (with newest clients) meet as publisher and reader on each server, with every kind of
stream, in RESP2 and RESP3; clients of other ages meet so that every two of publisher, reader, server and
protocol come together once. 2.4.5 speaks RESP2 alone, redis-py 4.6 too. Exit status 1 if a line fails.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.clients.environments import EnvironmentUnavailableError
from tests.clients.programs import Program, ProgramError, Raised
from tests.clients.scenarios import SCENARIOS, play

from blissdata.testing.servers import StackServer, TestServer

__all__ = ["Line", "Pair", "meet", "pairs"]

PEER = "peer"
NEWEST = "ours-newest"
AGES = ("ours-oldest", "ours-redis5", "ours-redis7", NEWEST)

RESP2_ONLY = {PEER, "ours-oldest"}

SERVERS: dict[str, Callable[[], TestServer]] = {
    "valkey+modules": lambda: StackServer("valkey", tcp=True),
    "redis+modules": lambda: StackServer("redis", tcp=True),
    "valkey": lambda: TestServer(tcp=True),
    "redis": lambda: StackServer("redis", modules=(), tcp=True),
}
SHARED = ("valkey+modules", "redis+modules")
"""Those that 2.4.5 can use."""

NAMES = {PEER: "2.4.5"}


@dataclass(frozen=True, slots=True)
class Pair:
    """Who publishes, who reads, where, and in which protocol."""

    publisher: str
    reader: str
    server: str
    resp: int

    def possible(self) -> bool:
        """Whether both can speak that protocol on that server."""
        both = {self.publisher, self.reader}
        return (self.resp == 2 or not both & RESP2_ONLY) and (
            self.server in SHARED or PEER not in both
        )


@dataclass(slots=True)
class Line:
    """One line of the table."""

    publisher: str
    reader: str
    server: str
    resp: int | None
    what: str
    looked: int = 0
    """How many things were looked at."""
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def text(self) -> str:
        """As a row."""
        result = f"FAILED ({len(self.wrong)})" if self.wrong else "ok"
        resp = "" if self.resp is None else f"RESP{self.resp}"
        names = [NAMES.get(name, name) for name in (self.publisher, self.reader)]
        row = f"{names[0]:<12} {names[1]:<24} {self.server:<15} {resp:<6} {self.what:<14}"
        return "\n    ".join([f"{row} {self.looked:>5}  {result}", *self.wrong[:10]])


HEAD = f"{'publisher':<12} {'reader':<24} {'server':<15} {'':<6} {'what':<14} looks"


def pairs() -> list[Pair]:
    """Those of the whole matrix."""
    main = map(
        Pair, *zip(*itertools.product((PEER, NEWEST), (PEER, NEWEST), SERVERS, (2, 3)), strict=True)
    )
    found = [pair for pair in main if pair.possible()]
    everybody = (PEER, *AGES)
    return found + pairwise([everybody, everybody, tuple(SERVERS), (2, 3)], found)


def pairwise(factors: Sequence[Sequence[object]], have: Sequence[Pair]) -> list[Pair]:
    """Pairs to add so that every two values of two factors, where they are possible together, meet in
    one; greedy."""
    rows = [Pair(*row) for row in itertools.product(*factors)]  # type: ignore[arg-type]
    rows = [row for row in rows if row.possible()]
    missing = {two for row in rows for two in _twos(row)}
    for pair in have:
        missing -= _twos(pair)
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(_twos(row) & missing))
        chosen.append(best)
        missing -= _twos(best)
    return chosen


def _twos(pair: Pair) -> set[tuple[tuple[str, object], ...]]:
    return set(itertools.combinations(asdict(pair).items(), 2))


def quick_pairs() -> list[Pair]:
    """One for each direction with the oldest clients and one with the newest, and ours among itself."""
    return [
        Pair(PEER, "ours-oldest", "valkey+modules", 2),
        Pair("ours-oldest", PEER, "redis+modules", 2),
        Pair(PEER, NEWEST, "redis+modules", 2),
        Pair(NEWEST, PEER, "valkey+modules", 2),
        Pair(NEWEST, NEWEST, "valkey", 3),
        Pair("ours-oldest", "ours-oldest", "redis", 2),
    ]


@contextmanager
def meet(pair: Pair) -> Iterator[tuple[Program, Program, TestServer]]:
    """Publisher and reader on a server of their own."""
    with ExitStack() as stack:
        server = stack.enter_context(SERVERS[pair.server]())
        both = [stack.enter_context(Program(name)) for name in (pair.publisher, pair.reader)]
        for program in both:
            version = 2 if program.name in RESP2_ONLY else pair.resp
            options = "" if program.name in RESP2_ONLY else f"?protocol={version}"
            program.tell("open", url=server.url + options, init_db=program is both[0])
        yield both[0], both[1], server


def lines_of(pair: Pair, scenarios: Sequence[str]) -> Iterator[Line]:
    """What comes of the meeting, scenario by scenario."""
    row = (pair.publisher, pair.reader, pair.server, pair.resp)
    left = list(scenarios)
    while left:
        try:
            with meet(pair) as (publisher, reader, server):
                while left:
                    line = Line(*row, left.pop(0))
                    began = time.monotonic()
                    with tempfile.TemporaryDirectory() as directory:
                        try:
                            found = play(line.what, publisher, reader, server, Path(directory))
                            line.looked, line.wrong = found.looked, found.wrong
                        except ProgramError as error:
                            line.wrong = [str(error)]
                    line.seconds = time.monotonic() - began
                    yield line
                    if line.wrong:  # nothing of it may reach the next: new programs, new server
                        break
        except (ProgramError, Raised) as error:
            yield Line(*row, "meeting", wrong=[str(error)])
            return


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients.matrix", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one pair for each direction")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORD",
        help="lines in which this word occurs; more than once: all of them",
    )
    parser.add_argument("--json", action="store_true", help="the lines as JSON, on stdout")
    parser.add_argument("--list", action="store_true", help="which lines there are")
    options = parser.parse_args()
    out = sys.stderr if options.json else sys.stdout
    lines = []
    began = time.monotonic()
    try:
        for line in _lines(options.quick, options.only, options.list):
            print(HEAD if not lines else "", end="\n" if not lines else "", file=out)
            print(line.text(), file=out, flush=True)
            lines.append(line)
    except EnvironmentUnavailableError as error:
        sys.exit(str(error))
    if options.json:
        json.dump([asdict(line) for line in lines], sys.stdout, indent=1)
        print()
    failed = sum(bool(line.wrong) for line in lines)
    print(
        f"{len(lines) - failed} passed, {failed} failed, {sum(line.looked for line in lines)} looks, "
        f"{time.monotonic() - began:.0f} s",
        file=out,
    )
    sys.exit(bool(failed) or not lines)


def _lines(quick: bool, only: Sequence[str], names_alone: bool) -> Iterator[Line]:
    for pair in quick_pairs() if quick else pairs():
        row = (pair.publisher, pair.reader, pair.server, pair.resp)
        wanted = [Line(*row, scenario) for scenario in SCENARIOS]
        wanted = [line for line in wanted if all(word in line.text().split() for word in only)]
        if names_alone:
            yield from wanted
        elif wanted:
            yield from lines_of(pair, [line.what for line in wanted])


if __name__ == "__main__":
    main()
