"""`python -m blissdata.demo`: three processes around one server, and a report."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blissdata.data_roots import ROOTS_VARIABLE
from blissdata.demo import roles
from blissdata.demo.curve import GrowingCurve
from blissdata.demo.measurement import COPPER, NAMES, read_columns
from blissdata.demo.viewer import DemoViewer
from blissdata.exceptions import BlissdataError

__all__ = ["demo_parser", "main"]

PACE = 300.0
"""Points per second of the replay: the scan takes about five seconds."""

PROGRESS_S = 0.1
"""A process reports its progress at most this often [s]."""

INTERRUPTED_S = 1.0
"""A Ctrl-C at a terminal reaches all processes: they end by themselves within this [s]."""

CLOSING_S = 5.0
"""How long a process that was told to end may take to close its scan [s]."""

PATIENCE_S = 30.0
"""How long the processes may take longer than the replay itself [s]."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; 0 if every number was right, 1 if not or if something failed, 130 after
    Ctrl-C."""
    arguments = demo_parser().parse_args(argv)
    try:
        if arguments.file:
            print(COPPER)
            return 0
        if arguments.role:
            return _play(arguments)
        if not arguments.images:
            return _demo(arguments)
        with tempfile.TemporaryDirectory(prefix="blissdata-demo-") as directory:
            arguments.images_in = Path(directory)
            return _demo(arguments)
    except KeyboardInterrupt:
        if not arguments.role:  # the demo says it for its processes
            print("\ninterrupted", file=sys.stderr)
        return 130
    except (BlissdataError, OSError, ValueError) as error:
        print(f"blissdata demo: {error}", file=sys.stderr)
        return 1


def demo_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="blissdata demo",
        description="Replay the measured X-ray absorption of copper as a running scan, follow it "
        "live from a second process, read it again from a third in every way there is, and compare "
        "every number with the file.",
        epilog="The server is the one that DataStore() finds: $BLISSDATA_URL, else your local one, "
        "which is started if need be. Exit code 0: every number was right.",
    )
    parser.add_argument(
        "--pace", type=_positive, default=PACE, metavar="N", help="points per second (%(default)g)"
    )
    parser.add_argument(
        "--compare-with",
        type=Path,
        default=COPPER,
        metavar="FILE",
        help="compare what was read with this file instead of the one that was published",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--web",
        action="store_true",
        help="show it in the browser as well (extra `web`); at a terminal until Enter",
    )
    parser.add_argument(
        "--file", action="store_true", help="print the path of the measurement, and do nothing else"
    )
    parser.add_argument(
        "--images",
        action="store_true",
        help="simulated images of a camera beside the measured points",
    )
    parser.add_argument("--images-in", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--role", choices=["publish", "follow", "read"], help=argparse.SUPPRESS)
    parser.add_argument("--since", default="0-0", help=argparse.SUPPRESS)
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected a number of points per second > 0, not {text}")
    return value


# ---------------------------------------------------------------------------------- a process


def _play(arguments: argparse.Namespace) -> int:
    """One of the three processes: says how far it is and what it found, a JSON object a line."""
    outbox = _Outbox()
    if arguments.role == "publish":
        result: dict[str, Any] = {
            "points": roles.publish(COPPER, arguments.pace, arguments.images_in)
        }
    elif arguments.role == "follow":
        found = roles.follow(arguments.compare_with, arguments.since, outbox.add)
        result = dataclasses.asdict(found)
    else:
        result = dataclasses.asdict(roles.read_again(arguments.compare_with, arguments.since))
    outbox.send()
    print(json.dumps({"result": result}), flush=True)
    return 0


class _Outbox:
    """Tells the demo which points came, a few times a second."""

    def __init__(self) -> None:
        self._points: dict[str, list[float]] = {name: [] for name in NAMES}
        self._sent = 0.0

    def add(self, came: Mapping[str, Any]) -> None:
        for name, data in came.items():
            self._points[name] += data.tolist()
        if time.monotonic() - self._sent > PROGRESS_S:
            self.send()

    def send(self) -> None:
        """The points that came in full: those of a column that runs ahead wait for the other."""
        self._sent = time.monotonic()
        count = min(len(points) for points in self._points.values())
        if count:
            print(json.dumps({"came": {n: p[:count] for n, p in self._points.items()}}), flush=True)
            self._points = {name: points[count:] for name, points in self._points.items()}


def _environment(images: Path | None) -> dict[str, str]:
    """That of a process: where images are saved, they may be read."""
    found = dict(os.environ)
    if images is not None:
        before = found.get(ROOTS_VARIABLE)
        found[ROOTS_VARIABLE] = os.pathsep.join([str(images), *([before] if before else [])])
    return found


class _Process:
    """One of the processes, seen from the demo."""

    def __init__(self, role: str, since: str, arguments: argparse.Namespace) -> None:
        self.role = role
        command = [sys.executable, "-m", "blissdata.demo", "--role", role, "--since", since]
        if arguments.images_in is not None:
            command += ["--images-in", str(arguments.images_in)]
        command += ["--pace", str(arguments.pace), "--compare-with", str(arguments.compare_with)]
        self._process = subprocess.Popen(  # noqa: S603 — this very program
            command, stdout=subprocess.PIPE, text=True, env=_environment(arguments.images_in)
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def result(self, curve: GrowingCurve | None = None) -> dict[str, Any]:
        """Waits for its end and gives what it found. Raises `BlissdataError` if it failed."""
        found: dict[str, Any] | None = None
        for line in self._process.stdout or ():
            message = json.loads(line)
            found = message.get("result", found)
            if curve and "came" in message:
                curve.add(message["came"]["energy"], message["came"]["absorption"])
        code = self._process.wait(PATIENCE_S)
        if code or found is None:
            raise BlissdataError(f"the process that should {self.role} ended with exit code {code}")
        return found

    def end(self) -> None:
        """Makes sure that it is gone."""
        if not (self._has_ended(INTERRUPTED_S) or self._has_ended(CLOSING_S, signal.SIGINT)):
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def _has_ended(self, patience: float, told: signal.Signals | None = None) -> bool:
        if told is not None:
            self._process.send_signal(told)
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return False
        return True


# ---------------------------------------------------------------------------------- the whole


def _demo(arguments: argparse.Namespace) -> int:
    read_columns(arguments.compare_with)  # a bad file is reported before anything starts
    since, server = roles.newest_timetag()
    viewer = DemoViewer.started() if arguments.web else DemoViewer(None, None)
    try:
        return _show(arguments, since, server, viewer)
    finally:
        viewer.end()


def _show(arguments: argparse.Namespace, since: str, server: str, viewer: DemoViewer) -> int:
    columns = read_columns(COPPER)
    npoints = len(columns["energy"])
    limits = [(float(column.min()), float(column.max())) for column in columns.values()]
    say = sys.stderr if arguments.json else sys.stdout
    print(f"X-ray absorption of copper: {npoints} points of energy and absorption", file=say)
    print(f"server: {server}", file=say)
    if viewer.address:
        print(f"in the browser: {viewer.address}", file=say)
    print(file=say, flush=True)
    processes: list[_Process] = []
    try:
        follower = _Process("follow", since, arguments)
        processes.append(follower)
        publisher = _Process("publish", since, arguments)
        processes.append(publisher)
        with GrowingCurve("following live", npoints, *limits) as curve:
            followed = follower.result(curve)
        published = publisher.result()
        reader = _Process("read", since, arguments)
        processes.append(reader)
        read = reader.result()
    finally:
        for process in processes:
            process.end()
    report = {
        "scan": roles.last_key(since),
        "published": published["points"],
        "expected": 2 * npoints,
        "followed live": followed["points"].get("followed live", 0),
        "followed in": followed["batches"],
        "read again": read["points"],
        "differences": followed["differences"] + read["differences"],
        "examples": followed["examples"] + read["examples"],
    }
    right = not report["differences"] and report["published"] == report["expected"]
    if arguments.images_in is not None:
        seen = [
            followed["points"].get("images followed live", 0),
            report["read again"].pop("images read again", 0),
        ]
        report["simulated images"] = seen
        right = right and seen == [-(-npoints // roles.POINTS_PER_IMAGE)] * 2
    if arguments.json:
        print(json.dumps(report))
    else:
        _print_report(report, [publisher.pid, follower.pid, reader.pid])
        viewer.wait_for_the_user()
    return 0 if right else 1


def _print_report(report: dict[str, Any], pids: Sequence[int]) -> None:
    portions = f", in {report['followed in']} portions"
    rows = [
        ("published", report["published"], f"process {pids[0]}"),
        ("followed live", report["followed live"], f"process {pids[1]}{portions}"),
        *(
            (f"read by {way}", count, f"process {pids[2]}")
            for way, count in report["read again"].items()
        ),
    ]
    print(f"scan                  {report['scan']}")
    for what, count, who in rows:
        print(f"{what:20} {count:6} points   ({who})")
    if "simulated images" in report:
        live, again = report["simulated images"]
        print(
            f"{'simulated images':20} {live:6} followed live, {again} read again, from ring and file"
        )
    print(f"{'differences':20} {report['differences']:6}")
    for example in report["examples"]:
        print(f"  {example}")
    verdict = "every number is the file's" if not report["differences"] else "NOT the same numbers"
    print(f"\n{verdict}")


if __name__ == "__main__":
    sys.exit(main())
