"""Many faults, and what they did: `python -m tests.faults --faults 200 --seed 7`. Exit status 1 if a promise broke.

With `--peer`, 2.4.5 takes part: each fault `--faults` times (5), one after the other, and a table.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict

from tests.clients.environments import environment
from tests.faults.compare import ROLES, as_table, compare
from tests.faults.harness import SETTINGS, Report, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--faults", type=int, metavar="N", help="how many (200)")
    parser.add_argument("--seed", type=int, help="which ones come when (default: by chance)")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="these settings; with --peer these faults, roles",
    )
    parser.add_argument("--peer", action="store_true", help="compare with blissdata 2.4.5")
    parser.add_argument("--json", metavar="FILE", help="writes the report there, too")
    arguments = parser.parse_args()
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", file=sys.stderr, flush=True)
    if arguments.peer:
        return _compare(seed, arguments.faults or 5, arguments.only)
    names = arguments.only or list(SETTINGS)
    if unknown := set(names) - set(SETTINGS):
        parser.error(f"no settings: {', '.join(unknown)}; there are: {', '.join(SETTINGS)}")
    report = run(seed, arguments.faults or 200, names, tell=_tell)
    print(as_text(report), flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(as_json(report), file, indent=2)
    return 0 if report.total.good else 1


def _compare(seed: int, each: int, only: Sequence[str] | None) -> int:
    peer = str(environment("peer"))
    words = set(only or ())

    def wanted(fault: str, role: str) -> bool:
        return not words or {fault, role} <= words or (fault in words and not words & set(ROLES))

    rows = compare(peer, seed, each, wanted, _tell)
    print(as_table(rows))
    return 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def as_json(report: Report) -> dict[str, object]:
    """The report for machines."""
    return {
        "seed": report.seed,
        "faults": dict(report.faults),
        "settings": {name: asdict(verdict) for name, verdict in report.verdicts.items()},
        "total": asdict(report.total),
    }


COLUMNS = {
    "scans": "scans",
    "confirmed": "confirmed",
    "lost": "lost",
    "lost_and_told": "lost, told",
    "repeated": "repeated",
    "out_of_order": "out of order",
    "wrong": "wrong",
    "gave_up": "gave up",
    "conflicts": "conflicts told",
    "hung": "hung",
    "longest_stall": "longest stall [s]",
    "longest_beyond": "… beyond faults [s]",
}


def as_text(report: Report) -> str:
    """The report for people."""
    lines = [f"{sum(report.faults.values())} faults, seed {report.seed}:"]
    lines += [f"  {n:4d} {kind}" for kind, n in sorted(report.faults.items())]
    lines.append("")
    width = max(map(len, report.verdicts), default=0)
    lines.append(" " * width + "".join(f"  {title}" for title in COLUMNS.values()))
    for name, verdict in [*report.verdicts.items(), ("total", report.total)]:
        found = [getattr(verdict, column) for column in COLUMNS]
        cells = [f"{one:.1f}" if isinstance(one, float) else str(one) for one in found]
        cells = [f"{c:>{len(t)}}" for c, t in zip(cells, COLUMNS.values(), strict=True)]
        lines.append(f"{name:{width}}" + "".join(f"  {cell}" for cell in cells))
    lines += ["", "longest times without a word of a program:"]
    for name, verdict in report.verdicts.items():
        lines += [f"  {name}: {stall}" for stall in verdict.stalls]
    trouble = report.total.trouble
    lines += ["", f"{len(trouble)} broken promises:" if trouble else "every promise was kept"]
    lines += [f"  {text}" for text in trouble]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
