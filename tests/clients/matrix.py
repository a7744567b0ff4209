"""Which program understands which: publisher × reader × server × protocol × kind of stream, a line each.

    make matrix                                   # all of it
    python -m tests.clients.matrix --quick        # one pair for each direction, oldest and newest
    python -m tests.clients.matrix --only 2.4.5 --only lima --json

2.4.5 and ours (with newest clients) meet as publisher and reader on each server, with every kind of
stream, in RESP2 and RESP3; clients of other ages meet so that every two of publisher, reader, server and
protocol come together once. 2.4.5 speaks RESP2 alone, redis-py 4.6 too. Then blisswriter, on 2.4.5 and on
ours, writes the files of scans by either, which must be the same; the memory tracker of either is beside
scans of the other; and packages that ask for blissdata are installed after ours. Exit status 1 if a line
fails.
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
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path

from tests.clients import writer
from tests.clients.environments import EnvironmentUnavailableError
from tests.clients.neighbours import after_ours
from tests.clients.programs import Program, ProgramError, Raised
from tests.clients.scenarios import SCENARIOS, play
from tests.clients.trackers import crowded_server, tracked

from blissdata.testing.servers import StackServer, TestServer

__all__ = ["Line", "Pair", "meet", "pairs"]

PEER = "2.4.5"
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

ENVIRONMENTS = {PEER: "peer"}
"""Where one is called otherwise than its environment."""

WRITERS = {"blisswriter on 2.4.5": "peer-writer", "blisswriter on ours": "ours-writer"}


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

    def words(self) -> list[str]:
        """What it is about; those that `--only` chooses from."""
        resp = "-" if self.resp is None else f"RESP{self.resp}"
        return [self.publisher, self.reader, self.server, resp, self.what]

    def text(self) -> str:
        """As a row, and what was wrong below it."""
        result = f"FAILED ({len(self.wrong)})" if self.wrong else "ok"
        row = _row([*self.words(), str(self.looked), result])
        return "\n    ".join([row, *self.wrong[:10]])


def _row(cells: Sequence[str]) -> str:
    widths = (12, 27, 15, 6, 14, 6, 0)
    return " ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))


HEAD = _row(["publisher", "reader", "server", "", "what", "looks", "result"])


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
def meet(
    pair: Pair, make_server: Callable[[], TestServer] | None = None
) -> Iterator[tuple[Program, Program, TestServer]]:
    """Publisher and reader on a server of their own."""
    with ExitStack() as stack:
        server = stack.enter_context((make_server or SERVERS[pair.server])())
        publisher = stack.enter_context(Program(ENVIRONMENTS.get(pair.publisher, pair.publisher)))
        reader = stack.enter_context(Program(ENVIRONMENTS.get(pair.reader, pair.reader)))
        for name, program in ((pair.publisher, publisher), (pair.reader, reader)):
            options = "" if name in RESP2_ONLY else f"?protocol={pair.resp}"
            program.tell("open", url=server.url + options, init_db=program is publisher)
        yield publisher, reader, server


def lines_of(pair: Pair, scenarios: Sequence[str]) -> Iterator[Line]:
    """What comes of the meeting, scenario by scenario."""
    row = astuple(pair)
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


def file_lines(words: Sequence[str]) -> Iterator[Line]:
    """The files that blisswriter makes, each compared with that of 2.4.5 by and for itself; then the
    points in them, read through streams whose memory is gone, by the program that did not publish."""
    chosen = []
    for publisher, name in itertools.product((PEER, NEWEST), WRITERS):
        line = Line(publisher, name, SHARED[0], 2, "file")
        if _has_all(line, words):
            chosen.append(line)
    if not chosen:
        return
    with tempfile.TemporaryDirectory() as directory:
        model = Line(PEER, next(iter(WRITERS)), SHARED[0], 2, "file")
        lines = [model, *(line for line in chosen if line.words() != model.words())]
        for number, line in enumerate(lines):
            place = Path(directory) / str(number)
            place.mkdir()
            began = time.monotonic()
            try:
                _write_file(line, place, Path(directory) / "0")
            except (ProgramError, Raised) as error:
                line.wrong.append(str(error))
            line.seconds = time.monotonic() - began
            yield line


def _write_file(line: Line, place: Path, model: Path) -> None:
    reader = NEWEST if line.publisher == PEER else PEER
    with (
        meet(Pair(line.publisher, reader, line.server, 2)) as (publisher, other, server),
        writer.FileWriter(WRITERS[line.reader], server.url, place / "log") as file_writer,
    ):
        path = writer.saved(publisher, file_writer, place)
        status = file_writer.interrupt()
        line.looked, line.wrong = 1 + len(writer.contents(path)), writer.wrong_points(path)
        if status:
            line.wrong.append(f"blisswriter ends with {status} at Ctrl-C")
        line.wrong += writer.differences(model / path.name, path)
        fallback = writer.wrong_fallback(other, server)
        line.looked += len(fallback)
        line.wrong += [text for text in fallback if text]


def tracker_lines(words: Sequence[str]) -> Iterator[Line]:
    """The memory tracker of one beside the scan of the other, read by the first."""
    for publisher, name in ((NEWEST, PEER), (PEER, NEWEST)):
        line = Line(publisher, f"memory_tracker, {name}", SHARED[0], 2, "tracker")
        if not _has_all(line, words):
            continue
        began = time.monotonic()
        pair = Pair(publisher, name, SHARED[0], 2)
        try:
            with (
                meet(pair, crowded_server) as (program, reader, server),
                tempfile.TemporaryDirectory() as directory,
            ):
                environment_name = ENVIRONMENTS.get(name, name)
                found = tracked(program, reader, environment_name, server, Path(directory))
                line.looked, line.wrong = found.looked, found.wrong
        except (ProgramError, Raised) as error:
            line.wrong.append(str(error))
        line.seconds = time.monotonic() - began
        yield line


def neighbour_lines(words: Sequence[str]) -> Iterator[Line]:
    """Packages that ask for blissdata, installed after ours."""
    line = Line("-", "ours", "-", None, "neighbours")
    if _has_all(line, words):
        began = time.monotonic()
        line.looked, line.wrong = after_ours()
        line.seconds = time.monotonic() - began
        yield line


def _has_all(line: Line, words: Sequence[str]) -> bool:
    return all(word in line.words() for word in words)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.clients.matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one pair for each direction")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORD",
        help="lines with this cell, as 2.4.5, lima, RESP3; more than once: with all of them",
    )
    parser.add_argument("--json", action="store_true", help="the lines as JSON, on stdout")
    options = parser.parse_args()
    out = sys.stderr if options.json else sys.stdout
    lines: list[Line] = []
    began = time.monotonic()
    print(HEAD, file=out)
    try:
        for line in _lines(options.quick, options.only):
            print(line.text(), file=out, flush=True)
            lines.append(line)
    except EnvironmentUnavailableError as error:
        sys.exit(str(error))
    if options.json:
        json.dump([asdict(line) for line in lines], sys.stdout, indent=1)
        print()
    failed = sum(bool(line.wrong) for line in lines)
    looks = sum(line.looked for line in lines)
    print(f"{looks} looks in {time.monotonic() - began:.0f} s", file=out)
    print(f"{len(lines) - failed} passed, {failed} failed", file=out)
    if not lines:
        sys.exit(f"No line has all of these: {', '.join(options.only)}")
    sys.exit(bool(failed))


def _lines(quick: bool, words: Sequence[str]) -> Iterator[Line]:
    for pair in quick_pairs() if quick else pairs():
        wanted = [Line(*astuple(pair), scenario) for scenario in SCENARIOS]
        wanted = [line for line in wanted if _has_all(line, words)]
        if wanted:
            yield from lines_of(pair, [line.what for line in wanted])
    yield from file_lines(words)
    yield from tracker_lines(words)
    yield from neighbour_lines(words)


if __name__ == "__main__":
    main()
