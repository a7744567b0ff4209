"""Puts what programs print into the pages of the site: `<!-- help: ls -->` becomes that help, and
`<!-- speed table -->` the newest results of `make bench`, and `<!-- results: files -->` those of
`python -m benchmarks.files`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

MARK = re.compile(r"<!-- help: ([a-z-]*) -->")
SPEED = "<!-- speed table -->"
TOP = "<!-- top -->"
RESULTS = re.compile(r"<!-- results: ([a-z]+) -->")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    markdown = MARK.sub(lambda found: f"```text\n{help_text(found[1])}```", markdown)
    markdown = RESULTS.sub(lambda found: results_table(found[1]), markdown)
    if TOP in markdown:
        markdown = markdown.replace(TOP, f"```text\n{top_screen()}\n```")
    return markdown.replace(SPEED, speed_table()) if SPEED in markdown else markdown


def help_text(command: str) -> str:
    """What `blissdata COMMAND --help` prints, 80 columns wide; the whole command line's for ''."""
    from blissdata.cli import command_line_parser
    from blissdata.demo.__main__ import demo_parser

    os.environ["COLUMNS"] = "80"
    parser = command_line_parser()
    if not command:
        return parser.format_help()
    if command == "demo":
        return demo_parser().format_help()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return commands.choices[command].format_help()


def top_screen() -> str:
    """What `blissdata top` shows in a terminal of 80 columns, of two scans."""
    import numpy as np

    from blissdata.cli.overview import ScanRow
    from blissdata.cli.top import Look, frame
    from blissdata.redis_engine.backends.abstract import ServerInfo

    places = np.linspace(-4, 4, 160)
    peak = 1e4 * np.exp(-(places**2)) + 300 * np.cos(9 * places) + 400
    server = ServerInfo("plain", "", 1001, "valkey 9.1", 210_000_000, 4_000_000_000, 7, 0.0)
    scans = [
        (
            ScanRow(
                "a",
                {"name": "ascan", "number": 12},
                "STARTED",
                points=320,
                npoints=802,
                silence=0.1,
            ),
            20.0,
        ),
        (
            ScanRow("b", {"name": "loopscan", "number": 11}, "STARTED", points=90_000, silence=0.1),
            1000.0,
        ),
    ]
    lines = frame(Look(server, scans, "12 ascan: diode", peak), 80, 24)
    return "\n".join("".join(text for text, _ in line) for line in lines)


def speed_table() -> str:
    """The results of the benchmarks: a row each, its ratios and what they must reach."""
    results = _results("results")
    if results is None:
        return "Not measured yet: `make bench` does."
    lines = [
        "| workload | ours | 2.4.5 | bare | ratio (at least) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in results["rows"]:
        values = [_number(row["medians"].get(side)) for side in ("ours", "peer", "bare")]
        word = " or " if row["one_bound_is_enough"] else ", "
        names = {"peer": "2.4.5", "bare": "bare"}
        ratios = word.join(
            f"{r['ratio']:.3g} × {names[r['beside']]} ({r['least']:g})" for r in row["ratios"]
        )
        title = f"{row['title']} [{row['unit']}]"
        lines.append(f"| {title} | {' | '.join(values)} | {ratios}{_missed(row)} |")
    return "\n".join([*lines, "", _measured_on(results)])


def results_table(name: str) -> str:
    """What `python -m benchmarks.NAME --json benchmarks/NAME.json` measured."""
    results = _results(name)
    if results is None:
        return (
            f"Not measured yet: `python -m benchmarks.{name} --json benchmarks/{name}.json` does."
        )
    lines = ["| workload | ours | beside | | ratio (at least) |", "| --- | --- | --- | --- | --- |"]
    for row in results["rows"]:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}"
        least = "" if row["least"] is None else f" ({row['least']:g})"
        values = f"{_number(row['ours'])} | {row['than']} | {_number(row['other'])}"
        title = f"{row['title']} [{row['unit']}]"
        lines.append(f"| {title} | {values} | {ratio}{least}{_missed(row)} |")
    return "\n".join([*lines, "", _measured_on(results)])


def _results(name: str) -> dict[str, Any] | None:
    path = BENCHMARKS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _missed(row: dict[str, Any]) -> str:
    return "" if row["holds"] else " **missed**"


def _measured_on(results: dict[str, Any]) -> str:
    def told(value: Any) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{package} {version}" for package, version in value.items())
        return str(value)

    return f"Measured on: {'; '.join(f'{k}: {told(v)}' for k, v in results['machine'].items())}."
