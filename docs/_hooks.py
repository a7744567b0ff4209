"""Puts what programs print into the pages of the site: `<!-- help: ls -->` becomes that help, and
`<!-- speed table -->` the newest results of the benchmarks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

MARK = re.compile(r"<!-- help: ([a-z]*) -->")
SPEED = "<!-- speed table -->"
RESULTS = Path(__file__).parent.parent / "benchmarks" / "results.json"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    markdown = MARK.sub(lambda found: f"```text\n{help_text(found[1])}```", markdown)
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


def speed_table() -> str:
    """The results of the benchmarks: a row each, its ratios and what they must reach."""
    if not RESULTS.exists():
        return "Not measured yet: `make bench` does."
    results = json.loads(RESULTS.read_text())
    lines = [
        "| workload | ours | 2.4.5 | bare | ratio (at least) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in results["rows"]:
        values = [row["medians"].get(side) for side in ("ours", "peer", "bare")]
        texts = ["" if v is None else f"{v:,.0f}" if v >= 1000 else f"{v:.3g}" for v in values]
        word = " or " if row["one_bound_is_enough"] else ", "
        names = {"peer": "2.4.5", "bare": "bare"}
        ratios = word.join(
            f"{r['ratio']:.3g} × {names[r['beside']]} ({r['least']:g})" for r in row["ratios"]
        )
        missed = "" if row["holds"] else " **missed**"
        lines.append(f"| {row['title']} [{row['unit']}] | {' | '.join(texts)} | {ratios}{missed} |")
    machine = ", ".join(f"{name}: {value}" for name, value in results["machine"].items())
    return "\n".join([*lines, "", f"Measured on: {machine}."])
