"""The rows of the table: which ratio of which measurements must reach what. Pure rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.report import number

__all__ = ["ROWS", "Bound", "Result", "Row", "judged"]

Samples = Mapping[str, Mapping[str, list[float]]]
"""For each measurement and each side (`ours`, `peer`, `bare`) what the rounds gave."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a ratio must reach: ours over another side, or the other over ours where less is better."""

    side: str
    """`peer` (blissdata 2.4.5) or `bare` (the server alone)."""

    least: float
    """The smallest ratio that is good enough; above 1 means better than the other side."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    """Of the measurement."""

    title: str
    """For people."""

    unit: str
    """Of the values."""

    bounds: tuple[Bound, ...]
    """Each must hold, or with `any_bound` one of them."""

    less: bool = False
    """True if less is better."""

    any_bound: bool = False
    """True if one of the bounds is enough."""


@dataclass(frozen=True, slots=True)
class Result:
    """A row with its numbers."""

    row: Row
    medians: Mapping[str, float]
    """For each side the median of its rounds."""

    ratios: tuple[float, ...]
    """For each bound the ratio, above 1 where ours is better."""

    holds: bool
    """True if the row is as it must be."""


def peer(least: float) -> Bound:
    """Against blissdata 2.4.5."""
    return Bound("peer", least)


def bare(least: float) -> Bound:
    """Against the server alone."""
    return Bound("bare", least)


ROWS = (
    Row("send_one", "scalar sends, one stream", "/s", (peer(15),)),
    Row("send_100", "scalar sends, 100 streams", "/s", (peer(15),)),
    Row("idle_p50", "send to blocked reader, idle, p50", "ms", (peer(50), bare(0.5)), less=True),
    Row("idle_p99", "send to blocked reader, idle, p99", "ms", (peer(50),), less=True),
    Row("busy_p50", "the same under 50 k sends/s, p50", "ms", (peer(50), bare(0.5)), less=True),
    Row("busy_p99", "the same under 50 k sends/s, p99", "ms", (peer(50),), less=True),
    Row("open_1000", "1000 streams: open, a point each, close", "s", (peer(10),), less=True),
    Row("slice_own", "slice, 1 M points sent one by one", "points/s", (peer(50),)),
    Row("cursor_own", "cursor, 1 M points sent one by one", "points/s", (peer(30),)),
    Row("slice_peer", "slice over entries of 2.4.5", "points/s", (peer(1.5),)),
    Row("cursor_peer", "cursor over entries of 2.4.5", "points/s", (peer(1.5),)),
    Row(
        "group_1000",
        "cursor group, 1000 streams",
        "points/s",
        (peer(10), bare(0.7)),
        any_bound=True,
    ),
    Row("index", "single random index", "/s", (peer(1.5), bare(0.8)), any_bound=True),
    Row("write_frames", "2 MiB frames written", "MB/s", (peer(2),)),
    Row("read_frames", "2 MiB frames read", "MB/s", (peer(1.8),)),
    Row("life", "scan life cycles (stack)", "/s", (peer(2),)),
    Row("life_plain", "scan life cycles (plain)", "/s", (peer(2),)),
    Row("load", "scans loaded (stack)", "/s", (peer(2),)),
    Row("load_plain", "scans loaded (plain)", "/s", (peer(2),)),
    Row("states", "states of 3000 scans (stack)", "scans/s", (peer(2),)),
    Row("states_plain", "states of 3000 scans (plain)", "scans/s", (peer(5),)),
    Row("search", "search among 3000 (stack)", "/s", (peer(1),)),
    Row("search_plain", "search among 3000 (plain)", "/s", (peer(1),)),
    Row("search_new", "the same, for the first time (stack)", "/s", (peer(0),)),
    Row("search_new_plain", "the same, for the first time (plain)", "/s", (peer(0),)),
    Row("search_one", "search that finds one scan (stack)", "/s", (peer(1),)),
    Row("search_one_plain", "search that finds one scan (plain)", "/s", (peer(1),)),
    Row("memory_1000", "publisher's memory, 1000 streams", "MB", (peer(2),), less=True),
    Row(
        "bytes_per_point",
        "server's memory beyond a point's 8 bytes",
        "bytes",
        (peer(4),),
        less=True,
    ),
    Row("import", "import of DataStore, numpy included", "s", (peer(1),), less=True),
)
"""Every row; a `_plain` row compares ours on the plain layout with 2.4.5 on its own."""


def judged(samples: Samples) -> list[Result]:
    """Every row that was measured on ours and on all sides that its bounds name."""
    results = []
    for row in ROWS:
        found = {side: median(v) for side, v in samples.get(row.name, {}).items() if v}
        if "ours" not in found or any(bound.side not in found for bound in row.bounds):
            continue
        ratios = tuple(_ratio(found["ours"], found[b.side], row.less) for b in row.bounds)
        reached = [ratio >= b.least for ratio, b in zip(ratios, row.bounds, strict=True)]
        results.append(Result(row, found, ratios, any(reached) if row.any_bound else all(reached)))
    return results


def _ratio(ours: float, other: float, less: bool) -> float:
    if less:
        return other / ours if ours else float("inf")
    return ours / other if other else float("inf")


def as_json(results: list[Result], samples: Samples, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, for machines."""
    return {
        "machine": dict(machine),
        "rows": [
            {
                "name": r.row.name,
                "title": r.row.title,
                "unit": r.row.unit,
                "less_is_better": r.row.less,
                "medians": dict(r.medians),
                "ratios": [
                    {"beside": b.side, "ratio": ratio, "least": b.least}
                    for b, ratio in zip(r.row.bounds, r.ratios, strict=True)
                ],
                "one_bound_is_enough": r.row.any_bound,
                "holds": r.holds,
            }
            for r in results
        ],
        "samples": {name: {side: list(v) for side, v in s.items()} for name, s in samples.items()},
    }


def as_text(results: list[Result]) -> str:
    """The table, for people."""
    head = f"{'':38} {'ours':>12} {'2.4.5':>12} {'bare':>12}  ratio (at least)"
    lines = [head, "-" * len(head)]
    for r in results:
        values = [number(r.medians.get(side)) for side in ("ours", "peer", "bare")]
        ratios = (" or " if r.row.any_bound else ", ").join(
            f"{ratio:.3g} × {_SIDES[b.side]} ({b.least:g})"
            for b, ratio in zip(r.row.bounds, r.ratios, strict=True)
        )
        mark = "" if r.holds else "   MISSED"
        title = f"{r.row.title} [{r.row.unit}]"
        lines.append(f"{title:38} {values[0]:>12} {values[1]:>12} {values[2]:>12}  {ratios}{mark}")
    return "\n".join(lines)


_SIDES = {"peer": "2.4.5", "bare": "bare"}
