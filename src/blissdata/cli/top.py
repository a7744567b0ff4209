"""`blissdata top`: running scans, and the curve of a channel, in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from blissdata.cli import exits
from blissdata.cli.names import (
    SCAN_HELP,
    add_server_option,
    find,
    fits,
    no_such,
    short_key,
    store_to_read,
)
from blissdata.cli.tables import Painted, missing_extra, painted
from blissdata.cli.text import age, compact_json, of_many, plain, printable, size
from blissdata.exceptions import BlissdataError, StoreConnectionError

if TYPE_CHECKING:
    from blissdata import DataStore, Scan
    from blissdata.cli.overview import ScanRow
    from blissdata.redis_engine.backends.abstract import ServerInfo
    from blissdata.viewer.live import Hub
    from blissdata.viewer.watched import Watched

__all__ = ["Look", "add_to", "curve", "frame", "thinned"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_DESCRIPTION = """\
Show which scans run, how fast their points come, how long their publishers were silent, how full the
server is, and the curve of one channel of the newest scan, in a terminal, so also through SSH.

A channel that the scan does not have is told of; with --once that ends it.

Keys: n and p take the next and the previous channel, q or Ctrl-C ends it."""

_EXAMPLES = f"""\
examples:
  blissdata top                         follow the newest scan
  blissdata top 7 --channel diode       this channel of the scan with the number 7
  blissdata top --once                  one look, for people
  blissdata top --json                  for scripts: an object per line, twice a second; --once: one
  blissdata top --json | jq '[.memory, (.scans[] | .points_per_second)]'

exit codes: {exits.HELP};
3 also if --once finds no such channel
"""

PERIOD_S = 0.5
"""How often it looks [s]."""

FIRST_S = 10.0
"""How long the first look at a scan waits for its curve [s]."""

MOST_SCANS = 50
"""How many of the newest scans are looked through for running ones."""

LABEL = 9
"""Characters for the numbers on the left of the curve."""

LEAST_CURVE = 6
"""With fewer lines left there is no curve."""

CURVE_POINTS = 1_000_000
"""A longer curve shows its newest points."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is shown."""

    server: ServerInfo | None
    """What the server says of itself; None while it is away."""

    scans: Sequence[tuple[ScanRow, float | None]] = ()
    """Running scans, the newest first, and how many points a second came."""

    curve_of: str | None = None
    """The scan and the channel that the curve is of, in words."""

    values: Array = field(default_factory=lambda: np.empty(0))
    """The channel's points, shape `(points,)`."""

    first: int = 0
    """Index of the first of them."""

    behind: int = 0
    """How many points of it the server has that are not shown yet."""

    problem: str | None = None
    """What is wrong at present."""

    missing: str | None = None
    """Why there is no curve of the channel that was asked for; None if there is one, or nobody asked."""

    def as_json(self) -> dict[str, Any]:
        """For `--json`; of the curve its newest point and how many there are, for `blissdata tail` gives
        points."""
        server = self.server
        return {
            "server": None if server is None else server.server,
            "memory": None if server is None else server.used_memory,
            "memory_limit": None if server is None else server.max_memory or None,
            "connections": None if server is None else server.clients,
            "scans": [{**row.as_json(), "points_per_second": rate} for row, rate in self.scans],
            "curve": {
                "of": self.curve_of,
                "points": self.first + len(self.values),
                "last": plain(self.values[-1]) if len(self.values) else None,
                "behind": self.behind,
            }
            if self.curve_of is not None
            else None,
            "problem": self.problem,
        }


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "top",
        help="show running scans and a curve in the terminal",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scan", nargs="?", metavar="SCAN", help=f"draw this one: {SCAN_HELP}")
    parser.add_argument(
        "--channel", metavar="STREAM", help="draw this channel; * stands for anything"
    )
    parser.add_argument("--once", action="store_true", help="one look, then end")
    parser.add_argument("--json", action="store_true", help="one JSON object per line and look")
    add_server_option(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if not arguments.json:
        _need_terminal_packages()
    from blissdata.cli.overview import quiet_library
    from blissdata.viewer.live import Hub

    with quiet_library(), store_to_read(arguments.url) as store:
        chosen = None if arguments.scan is None else find(store, arguments.scan)
        hub = Hub(store)
        hub.start()
        try:
            source = _Source(store, hub, chosen, arguments.channel)
            if arguments.json:
                _tell(source, once=arguments.once)
                return 0
            dumb = os.environ.get("TERM", "dumb") == "dumb"
            if dumb and sys.stdout.isatty() and not arguments.once:
                exits.note("this terminal cannot be drawn on (TERM=dumb): one look, as with --once")
            if arguments.once or dumb or not sys.stdout.isatty():
                _once(source)
            else:
                with exits.ending_at_sigterm():
                    _follow(source)
        except KeyboardInterrupt:
            return exits.INTERRUPTED
        finally:
            hub.close()
    return 0


def _need_terminal_packages() -> None:
    try:
        import plotille  # noqa: F401 — asked for here, used in `curve`
        import rich  # noqa: F401
    except ImportError as error:
        raise missing_extra("`blissdata top`", error.name or "rich") from error


def _tell(source: _Source, *, once: bool) -> None:
    """Prints looks as JSON, until it is ended or nobody reads them."""
    source.look()
    while True:
        time.sleep(PERIOD_S)  # a rate is the difference of two looks
        look = source.look()
        if once:
            _check(look)
        print(compact_json(look.as_json()), flush=True)
        if once:
            return


def _once(source: _Source) -> None:
    source.look()
    time.sleep(PERIOD_S)  # a rate is the difference of two looks
    columns, rows = shutil.get_terminal_size((100, 40))
    look = source.look()
    _check(look)
    print(painted(frame(look, columns, rows), columns if sys.stdout.isatty() else None))


def _check(look: Look) -> None:
    """Raises `NotThereError` for a channel that is not there: with one look, it does not come."""
    if look.missing is not None:
        raise exits.NotThereError(look.missing)


def _follow(source: _Source) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    with (
        _keys() as pressed,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            columns, rows = console.size
            lines = frame(source.look(), columns, rows)[:rows]
            texts = [Text.assemble(*line, no_wrap=True, overflow="ellipsis") for line in lines]
            live.update(Text("\n").join(texts), refresh=True)
            key = pressed(PERIOD_S)
            if key == "q":
                return
            source.step({"n": 1, "p": -1}.get(key, 0))


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Gives a function that waits for a key, some seconds at most, and gives it; the terminal is as it was
    afterwards. Without a terminal there are no keys."""
    import termios
    import tty

    if not sys.stdin.isatty():

        def asleep(seconds: float) -> str:
            time.sleep(seconds)
            return ""

        yield asleep
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return sys.stdin.read(1) if ready else ""

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


# ---------------------------------------------------------------------------------- the server


class _Source:
    """Looks at the server."""

    def __init__(self, store: DataStore, hub: Hub, chosen: str | None, channel: str | None) -> None:
        self._store = store
        self._hub = hub
        self._chosen = chosen
        self._channel = channel
        self._watched: Watched | None = None
        self._before: dict[str, tuple[float, int]] = {}

    def step(self, by: int) -> None:
        """Takes another channel of the scan."""
        if by and self._watched is not None:
            names = self._channels(self._watched)
            if names:
                shown = self._shown(names)
                at = names.index(shown) if shown else (-1 if by > 0 else 0)
                self._channel = names[(at + by) % len(names)]

    def _shown(self, names: Sequence[str]) -> str | None:
        """Which of the channels is drawn: the one that was asked for, else the first."""
        if self._channel is None:
            return next(iter(names), None)
        return next((name for name in names if fits(name, self._channel)), None)

    def look(self) -> Look:
        """What there is to show now. A few round trips."""
        from blissdata.cli.overview import scan_rows

        try:
            server = self._store.backend.info()
            keys = self._hub.keys()[-MOST_SCANS:]
            known = self._hub.scans(keys[::-1])
            scans = [one for one in known.values() if not isinstance(one, Exception)]
            running = [one for one in scans if one.state < one.state.CLOSED]
            rows = [(row, self._rate(row)) for row in scan_rows(self._store, running)]
            newest = next(iter(running or scans), None)
            key = self._chosen or (None if newest is None else newest.key)
            return self._curve(server, rows, key)
        except StoreConnectionError as error:
            return Look(None, problem=f"the server does not answer: {error}")
        except BlissdataError as error:
            return Look(None, problem=str(error))

    def _rate(self, row: ScanRow) -> float | None:
        now = time.monotonic()
        before, self._before[row.key] = self._before.get(row.key), (now, row.points)
        if before is None or now <= before[0]:
            return None
        return (row.points - before[1]) / (now - before[0])

    def _curve(
        self, server: ServerInfo, rows: Sequence[tuple[ScanRow, float | None]], key: str | None
    ) -> Look:
        if key is None:
            return Look(server, rows)
        if self._watched is None or self._watched.key != key:
            if self._watched is not None:
                self._hub.unwatch(self._watched)
            self._watched = self._hub.watch(key)
            self._watched.wait_counted(FIRST_S)
        watched = self._watched
        names = self._channels(watched)
        name = self._shown(names)
        identity = watched.scan.identity
        who = f"{identity.get('number', '')} {identity.get('name', '')}".strip() or short_key(key)
        if name is None:
            wanted = self._channel if watched.scan.state >= watched.scan.state.PREPARED else None
            missing = None if wanted is None else _missing(wanted, watched.scan, names)
            title = f"{who}: no channel of numbers yet" if missing is None else f"{who}: no curve"
            return Look(server, rows, title, problem=watched.problem or missing, missing=missing)
        length = watched.lengths()[name].length
        selection = f"{max(length - CURVE_POINTS, 0)}:"
        block = watched.points(name, selection, 2**31)
        points = np.empty(0) if block is None else block.points
        values = np.abs(points) if np.iscomplexobj(points) else np.asarray(points, float)
        stream = watched.scan.streams[name].key
        bounds = self._store.event_log.bounds([stream])[stream]
        published = length if isinstance(bounds, Exception) else bounds.tail.length
        return Look(
            server,
            rows,
            f"{who}: {name}",
            values,
            0 if block is None else block.start,
            max(published - length, 0),
            watched.problem,
        )

    def _channels(self, watched: Watched) -> list[str]:
        streams = watched.scan.streams
        return [
            name
            for name in watched.lengths()
            if name in streams and streams[name].dtype.kind in "biufc" and streams[name].shape == ()
        ]


# ---------------------------------------------------------------------------------- pure


def _missing(wanted: str, scan: Scan, names: Sequence[str]) -> str:
    """What to say of a channel that cannot be drawn."""
    stream = scan.streams.get(wanted)
    if stream is None:
        return no_such("channel", wanted, names, scan.key)
    what = "no numbers" if stream.shape == () else f"of shape {tuple(stream.shape)}"
    there = ", ".join(printable(name) for name in sorted(names)) or "none"
    return (
        f"The points of '{printable(wanted)}' of scan {scan.key} are {what}, and a curve is drawn of single "
        f"numbers; there are: {there}"
    )


def frame(look: Look, columns: int, rows: int) -> list[Painted]:
    """The lines for a terminal of that size."""
    lines = [_head(look)]
    if look.problem:
        lines.append([(printable(look.problem), "yellow")])
    lines += [[], *_scans(look.scans, columns, max(rows // 3, 3))]
    left = rows - len(lines) - 4
    if look.curve_of is not None:
        title = [(f"{printable(look.curve_of)}", "bold")]
        if len(look.values):
            title.append(
                (f"   last {look.values[-1]:.6g}, {look.first + len(look.values)} points", "")
            )
        if look.behind:
            title.append((f"   {look.behind} behind", "yellow"))
        lines += [[], title]
        if left >= LEAST_CURVE:
            lines += [[(line, "")] for line in curve(look.values, look.first, columns, left - 2)]
    return lines


def _head(look: Look) -> Painted:
    if look.server is None:
        return [("blissdata top", "bold"), ("   server away", "bold red")]
    used, limit = look.server.used_memory, look.server.max_memory
    share = f" of {size(limit)} ({100 * used / limit:.0f} %)" if limit else ""
    full = "bold red" if limit and used > 0.9 * limit else ""
    return [
        ("blissdata top", "bold"),
        (f"   {look.server.server}   memory {size(used)}{share}", full),
        (f"   {look.server.clients} connections", ""),
    ]


def _scans(
    scans: Sequence[tuple[ScanRow, float | None]], columns: int, most: int
) -> Iterator[Painted]:
    if not scans:
        yield [("no scan is running", "dim")]
        return
    yield [(f"{'':>6} {'name':<20} {'state':<9} {'points':>16} {'points/s':>10}  silence", "bold")]
    for row, rate in scans[:most]:
        name = printable(str(row.identity.get("name", "")))[:20]
        number = str(row.identity.get("number", ""))[:6]
        points = of_many(row.points, row.npoints or 0) if row.npoints else str(row.points)
        speed = "" if rate is None else f"{rate:.4g}"
        silence = "" if row.silence is None else age(row.silence)
        text = f"{number:>6} {name:<20} {row.state:<9} {points:>16} {speed:>10}  {silence}"
        yield [(text[:columns], "red" if row.lost else "")]
    if len(scans) > most:
        yield [(f"… and {len(scans) - most} more", "dim")]


def thinned(values: Array, buckets: int) -> tuple[Array, Array]:
    """Places and values to draw of a long curve: for each of the buckets the lowest and the highest; all
    of a short one. Both of shape `(n,)`, `n` ≤ 2 × buckets; without what is not finite."""
    places = np.arange(len(values), dtype=float)
    good = np.isfinite(values)
    values, places = values[good], places[good]
    if len(values) <= 2 * buckets:
        return places, values
    edges = np.linspace(0, len(values), buckets + 1).astype(int)[:-1]
    low, high = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
    return np.repeat(places[edges], 2), np.stack([low, high], axis=1).reshape(-1)


def curve(values: Array, first: int, columns: int, height: int) -> list[str]:
    """The curve in braille dots, with its axes, at most `columns` wide."""
    import plotille

    width = columns - LABEL - 3
    places, drawn = thinned(values, max(width, 1))
    if width < 10 or height < 2 or not len(drawn):
        return []
    low, high = float(drawn.min()), float(drawn.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    last = max(len(values) - 1, 1)
    canvas = plotille.Canvas(width, height, xmin=0, xmax=last, ymin=low, ymax=high)
    for i in range(len(drawn) - 1):
        canvas.line(places[i], drawn[i], places[i + 1], drawn[i + 1])
    if len(drawn) == 1:
        canvas.point(places[0], drawn[0])
    rows = canvas.plot().splitlines()
    labels = {0: f"{high:.4g}", height - 1: f"{low:.4g}"}
    lines = [f"{labels.get(i, ''):>{LABEL}} │{row}" for i, row in enumerate(rows)]
    left, right = str(first), str(first + len(values) - 1)
    lines.append(f"{'':>{LABEL}} └{'─' * width}")
    lines.append(f"{'':>{LABEL}}  {left}{right:>{max(width - len(left), 0)}}")
    return lines
