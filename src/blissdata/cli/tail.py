"""`blissdata tail`: the points of a scan as they come, until it ends."""

from __future__ import annotations

import argparse
import heapq
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from blissdata.cli.exits import TimeUpError, note
from blissdata.cli.names import (
    SCAN_HELP,
    add_server_option,
    load,
    seconds,
    selected,
    store_to_read,
    wait_for,
)
from blissdata.cli.text import plain, points, printable, span_text
from blissdata.exceptions import (
    EndOfStream,
    IndexNoMoreThereError,
    PublisherLostError,
    StreamDeletedError,
    StreamError,
)

if TYPE_CHECKING:
    from blissdata import DataStore, Scan
    from blissdata.cli.progress import ProgressLine
    from blissdata.streams import BaseStream, BaseView, CursorGroup

__all__ = ["add_to", "human_lines", "json_lines", "merged"]

_DESCRIPTION = """\
Follow a scan: print the points of its streams as they come, and end with it. It may run, be over
already, or not have begun: the numbers are the same, from the first point on. Each stream's points
come in order; how those of several streams mix depends on when they came.

SCAN is `next` for the scan that is created next, and `last` for the newest one; where there is no
scan at all, `last` waits for the first. A frame is shown by its shape, smallest and largest value;
--json has every number. Progress appears on a terminal if the scan says how many points it will
have."""

_EXAMPLES = """\
examples:
  blissdata tail last                       all streams of the newest scan, to its end
  blissdata tail next diode 'mca*'          these streams of the next scan
  blissdata tail 7 --new                    only what comes from now on
  blissdata tail last diode --json | jq .data
                                            one object per line: stream, index, data
  blissdata tail next --timeout 60          give up when nothing comes for a minute
  blissdata tail last --end-if-lost         a publisher that was killed is an end like any other

in JSON, NaN and infinities are null, complex numbers [real, imaginary]; points that have left the
server's memory are one object {"stream": …, "index": first, "expired": how many}

A publisher that was killed, or is cut off, is noticed within seconds. One of blissdata 2.x gives no
signs of life: after half a minute without news stderr says so, and the command waits on.

exit codes: 0 the scan (or the streams asked for) ended, 1 failed (stderr says why) or its publisher is
lost, 2 wrong usage, 3 no such scan or stream, or deleted meanwhile, 4 --timeout passed, 130 Ctrl-C
"""

LINES_AT_ONCE = 1000
"""How many lines are written in one go."""

LOOK_S = 2.0
"""How often the state of a scan is looked at that waits for its end [s]; a change wakes earlier."""

QUIET_S = 30.0
"""After so long without news it is mentioned if nobody can tell whether the publisher still lives [s]."""

Line = tuple[int, str]
"""The index of the point it is about, and the text."""

Lines = Callable[[str, "BaseView"], Iterator[Line]]


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "tail",
        help="follow a scan: its points as they come",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scan", metavar="SCAN", help=f"{SCAN_HELP}; or `next`")
    parser.add_argument(
        "streams", nargs="*", metavar="STREAM", help="only these; * stands for anything"
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--from-start", action="store_true", help="from the first point on (this is the default)"
    )
    start.add_argument(
        "--new", action="store_true", help="only points that are published from now on"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line and point")
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", help="give up after S seconds without news"
    )
    parser.add_argument(
        "--end-if-lost",
        action="store_true",
        help="end well (exit code 0) if the publisher is lost; stderr says so",
    )
    add_server_option(parser)
    parser.set_defaults(run=_run)


# ---------------------------------------------------------------------------------- pure


def human_lines(stream: str, view: BaseView) -> Iterator[Line]:
    """A line for each point of the view."""
    name = printable(stream)
    gone, data = present(view)
    if gone:
        expired = span_text((view.index, view.index + gone))
        yield view.index, f"{name}[{expired}]  expired: {_why_gone(view)}\n"
    for index, text in enumerate(points(data), view.index + gone):
        yield index, f"{name}[{index}]  {text}\n"


def json_lines(stream: str, view: BaseView) -> Iterator[Line]:
    """A JSON object for each point of the view."""
    name = json.dumps(stream)
    gone, data = present(view)
    if gone:
        yield view.index, f'{{"stream": {name}, "index": {view.index}, "expired": {gone}}}\n'
    for index, found in enumerate(plain(data), view.index + gone):
        text = json.dumps(found, allow_nan=False)
        yield index, f'{{"stream": {name}, "index": {index}, "data": {text}}}\n'


def present(view: BaseView) -> tuple[int, Any]:
    """How many points at the start of the view have left the server, and the data of the rest."""
    try:
        return 0, view.get_data()
    except IndexNoMoreThereError:
        from blissdata.streams.views import gone_at_the_start

    low = gone_at_the_start(view)
    return low, view.get_data(low) if low < len(view) else []


def _why_gone(view: BaseView) -> str:
    """Why the first point of a view is not there any more: a plugin's may have been elsewhere."""
    from blissdata.streams.default import View

    if type(view) is not View:
        try:
            view.get_data(0, 1)
        except IndexNoMoreThereError as error:
            return printable(str(error))
    return "no longer in the server's memory"


def merged(parts: Iterable[Iterator[Line]]) -> Iterator[str]:
    """The lines of many streams, those about the same index side by side."""
    return (text for _, text in heapq.merge(*parts, key=lambda line: line[0]))


def chunks(lines: Iterator[str]) -> Iterator[str]:
    """The lines, many at once."""
    while taken := list(islice(lines, LINES_AT_ONCE)):
        yield "".join(taken)


# ---------------------------------------------------------------------------------- the server


def _run(arguments: argparse.Namespace) -> int:
    from blissdata.cli.overview import npoints_of, quiet_library
    from blissdata.cli.progress import progress_line

    with quiet_library(), store_to_read(arguments.url) as store:
        key = wait_for(store, arguments.scan, arguments.timeout, note)
        scan = load(store, key)
        quiet = _Quiet(store, key, note)
        try:
            _wait_started(scan, arguments.timeout, quiet)
            title = f"{scan.identity.get('name')} {scan.identity.get('number')}"
            with progress_line(printable(title), npoints_of(scan.info)) as line:
                quiet.say = line.say
                _follow(store, scan, arguments, line, quiet)
        except PublisherLostError as error:
            if not arguments.end_if_lost:
                raise
            note(error)
    return 0


class _Quiet:
    """Says once, after a while without news, that nobody can tell whether the publisher still lives."""

    def __init__(self, store: DataStore, key: str, say: Callable[[str], None]) -> None:
        self.say = say
        self._store = store
        self._key = key
        self._since = time.monotonic()
        self._said = False

    def news(self) -> None:
        """Something came."""
        self._since = time.monotonic()

    def look(self) -> None:
        """Nothing came. One round trip at most."""
        if self._said or time.monotonic() - self._since < QUIET_S:
            return
        from blissdata import ScanState

        self.news()
        life = self._store.scan_lives([self._key])[self._key]
        if life.state is not None and life.state < ScanState.CLOSED and life.silence is None:
            self._said = True
            self.say(
                f"nothing came from scan {self._key} for {QUIET_S:g} s, and its publisher gives no signs "
                "of life (blissdata 2.x gives none), so nobody can tell whether it still runs. Waiting "
                "on; --timeout gives up, Ctrl-C ends this"
            )


def _wait_started(scan: Scan, timeout: float | None, quiet: _Quiet) -> None:
    """Until STARTED a publisher may add streams that readers do not know of yet."""
    from blissdata import ScanState

    while not scan.wait_state(ScanState.STARTED, LOOK_S if timeout is None else timeout):
        if timeout is not None:
            raise TimeUpError(
                f"Scan {scan.key} did not start in {timeout:g} s, it is {scan.state.name}"
            )
        quiet.look()


def _follow(
    store: DataStore,
    scan: Scan,
    arguments: argparse.Namespace,
    line: ProgressLine,
    quiet: _Quiet,
) -> None:
    """Prints what comes until the scan ends, or the streams that were asked for. Streams that
    become known only when the scan stops are read then."""
    from blissdata import ScanState
    from blissdata.cli.overview import check_not_deleted
    from blissdata.streams import CursorGroup

    lines: Lines = json_lines if arguments.json else human_lines
    followed: set[str] = set()
    only_new = arguments.new
    while True:
        streams = scan.streams
        names = selected(streams, arguments.streams, scan.key)
        added = _readable(
            {name: streams[name] for name in names if name not in followed},
            arguments.streams,
            line.say,
        )
        followed |= set(names)
        if added:
            group = CursorGroup(added)
            if only_new:
                _skip_to_now(group)
            _print_all(scan, group, lines, arguments.timeout, line, quiet)
            _say_unsealed(store, added, line.say)
        only_new = False
        if arguments.streams or scan.state >= ScanState.STOPPED:
            check_not_deleted(scan)
            if arguments.streams or set(scan.streams) <= followed:
                return
        else:
            _wait_for_change(scan, arguments.timeout, quiet)


def _readable(
    streams: Mapping[str, BaseStream], wanted: Sequence[str], say: Callable[[str], None]
) -> dict[str, BaseStream]:
    """Those of the streams that can be read here. One that was asked for and cannot is an error,
    another is mentioned."""
    readable = {}
    for name, stream in streams.items():
        try:
            _ = stream.dtype
        except Exception as error:
            if name in wanted:
                raise StreamError(f"Stream '{name}' cannot be read here: {error}") from error
            say(f"'{name}' is left out: {error}")
        else:
            readable[name] = stream
    return readable


def _skip_to_now(group: CursorGroup) -> None:
    try:
        group.read(block=False, last_only=True)
    except EndOfStream:
        return


def _print_all(
    scan: Scan,
    group: CursorGroup,
    lines: Lines,
    timeout: float | None,
    line: ProgressLine,
    quiet: _Quiet,
) -> None:
    while True:
        try:
            views = group.read(block=timeout != 0, timeout=timeout or LOOK_S)
        except StreamDeletedError:
            raise
        except EndOfStream:
            return
        if views:
            quiet.news()
            for chunk in chunks(merged(lines(stream.name, view) for stream, view in views.items())):
                line.print(chunk)
            line.at(max(group.position.values()))
        elif timeout is None:
            quiet.look()
        else:
            raise TimeUpError(f"Nothing new came from scan {scan.key} in {timeout:g} s")


def _say_unsealed(
    store: DataStore, streams: Mapping[str, BaseStream], say: Callable[[str], None]
) -> None:
    """A scan that was closed for its publisher may have streams without a seal: what there is was
    read, and whether that is all nobody knows."""
    from blissdata.streams.event_log import SpanRequest

    keys = {stream.key: name for name, stream in streams.items()}
    found = store.event_log.span([SpanRequest(key, only_tail=True) for key in keys])
    for name, one in zip(keys.values(), found, strict=True):
        if not isinstance(one, Exception) and not one[0].sealed:
            say(f"the scan is closed, but nobody sealed '{name}': there may have been more points")


def _wait_for_change(scan: Scan, timeout: float | None, quiet: _Quiet) -> None:
    if timeout == 0 or (not scan.update(timeout=timeout or LOOK_S) and timeout is not None):
        raise TimeUpError(f"Nothing new came from scan {scan.key} in {timeout:g} s")
    quiet.look()
