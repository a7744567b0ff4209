"""Puts what `--help` prints into the pages of the site: `<!-- help: ls -->` becomes that text."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any

MARK = re.compile(r"<!-- help: ([a-z]*) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    return MARK.sub(lambda found: f"```text\n{help_text(found[1])}```", markdown)


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
