"""What the benchmarks share: rounds that alternate, rows with their bounds, the table, the machine, the JSON.

A benchmark measures, makes rows, and ends with `finished`. Its JSON is kept beside it, and the documentation
shows it where a page says `<!-- results: NAME -->`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from blissdata.testing.servers import TestServer

__all__ = [
    "Row", "alternated", "as_text", "beside", "command_line", "finished", "limited", "machine",
    "noted", "number", "say", "write_json",
]  # fmt: skip

T = TypeVar("T")

PACKAGES = ("blissdata", "numpy", "redis", "hiredis", "h5py")
"""Whose versions are told."""

LOAD_BEFORE = os.getloadavg()[0]
"""How many programs wanted a processor before this one began."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table. `beside`, `limited` and `noted` make them."""

    title: str
    """For people."""

    ours: float
    """What was measured."""

    unit: str
    """Of both values."""

    other: float | None
    """What it is compared with; None where it is only told."""

    than: str
    """What that is."""

    ratio: float | None
    """Above 1 where ours is better, whether more or less is better."""

    least: float | None
    """What the ratio must reach."""

    rounds: Mapping[str, tuple[float, ...]]
    """What each round gave, `ours` and `other`; empty where one number is all there is."""

    @property
    def holds(self) -> bool:
        """Whether the ratio is good enough."""
        return self.ratio is None or self.least is None or self.ratio >= self.least


def beside(
    title: str,
    ours: float | Sequence[float],
    unit: str,
    than: str,
    other: float | Sequence[float],
    least: float | None = None,
    *,
    less: bool = False,
) -> Row:
    """Ours beside something else, numbers or what the rounds gave: then each side's median, and the median of
    the rounds' ratios, since a round is what both sides had in common. `less`: true if less is better.
    """
    sides = [tuple(v) if isinstance(v, Sequence) else (v,) for v in (ours, other)]
    ratio = median(_ratio(a, b, less) for a, b in zip(*sides, strict=True))
    rounds = {"ours": sides[0], "other": sides[1]} if len(sides[0]) > 1 else {}
    return Row(title, median(sides[0]), unit, median(sides[1]), than, ratio, least, rounds)


def limited(
    title: str, ours: float, unit: str, *, most: float | None = None, least: float | None = None
) -> Row:
    """A number that may be at most, or must be at least, so much; one of both is given."""
    limit = most if most is not None else least
    if limit is None or None not in (most, least):
        raise ValueError(f"{title}: either `most` or `least` is given")
    ratio = _ratio(ours, limit, most is not None)
    return Row(title, ours, unit, limit, "at most" if least is None else "at least", ratio, 1, {})


def noted(title: str, ours: float, unit: str) -> Row:
    """A number that nothing is asked of."""
    return Row(title, ours, unit, None, "", None, None, {})


def _ratio(ours: float, other: float, less: bool) -> float:
    over, under = (other, ours) if less else (ours, other)
    return over / under if under else float("inf")


def alternated(rounds: int, sides: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """What each side gave in each round; every other round the last side begins."""
    found: dict[str, list[T]] = {side: [] for side in sides}
    for turn in range(rounds):
        for side in reversed(sides) if turn % 2 else sides:
            found[side].append(sides[side]())
    return found


# ---------------------------------------------------------------------------------- the table


def number(value: float | None) -> str:
    """A number as a table has it."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def as_text(rows: Sequence[Row]) -> str:
    """The table, for people."""
    wide = max([28, *(len(f"{row.title} [{row.unit}]") for row in rows)])
    lines = [f"{'':{wide}} {'ours':>10} {'beside':>10} {'':22} {'ratio':>6}  (at least)"]
    lines.append("-" * len(lines[0]))
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
        least = "" if row.least is None else f"({row.least:g})"
        lines.append(
            f"{f'{row.title} [{row.unit}]':{wide}} {number(row.ours):>10} {number(row.other):>10} "
            f"{row.than:22} {ratio:>6}  {least}{'' if row.holds else '   MISSED'}".rstrip()
        )
    return "\n".join(lines)


# ---------------------------------------------------------------------------------- the machine


def machine(peer: Path | None = None) -> dict[str, Any]:
    """What was measured, and on what; with the other package's Python, also what is installed there."""
    cpu = "unknown"
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), cpu)
    found: dict[str, Any] = {
        "cores": os.cpu_count(), "processor": cpu, "system": platform.platform(),
        "python": platform.python_version(), "when": time.strftime("%Y-%m-%d"),
        "load before": round(LOAD_BEFORE, 1), "ours": _versions(), "server": _server_version(),
    }  # fmt: skip
    return found if peer is None else found | {"peer": _versions_of(peer)}


def _versions() -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in PACKAGES}


def _versions_of(python: Path) -> dict[str, str]:
    code = "import importlib.metadata as m, json, sys; print(json.dumps({p: m.version(p) for p in sys.argv[1:]}))"
    done = subprocess.run(
        [str(python), "-c", code, *PACKAGES], check=True, capture_output=True, text=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _server_version() -> str:
    with TestServer() as server, server.client() as client:
        return f"valkey {client.info()['valkey_version']}"


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Everything, for machines."""
    path.write_text(json.dumps(document, indent=1) + "\n")


# ---------------------------------------------------------------------------------- the command


def command_line(name: str, description: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options of every benchmark: `--rounds`, `--quick`, `--json`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds", type=int, default=rounds, help=f"alternating rounds (default: {rounds})"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything work?")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write everything that was measured"
    )
    return parser


def say(text: str) -> None:
    """How far it is, where nobody takes it for a result; an empty text wipes it from a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def finished(rows: Sequence[Row], options: argparse.Namespace, peer: Path | None = None) -> int:
    """Prints the table, writes the JSON; the exit code: 1 if a bound is missed, unless sizes were tiny."""
    say("")
    print(as_text(rows))
    missed = [row.title for row in rows if not row.holds]
    print(f"{len(rows)} rows, {len(missed)} missed" + "".join(f"\n  missed: {m}" for m in missed))
    if options.json:
        found = [asdict(row) | {"holds": row.holds} for row in rows]
        write_json(options.json, {"machine": machine(peer), "rows": found})
    return int(bool(missed) and not options.quick)
