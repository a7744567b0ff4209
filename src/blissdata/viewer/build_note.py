"""Why this installation has no page; the package build leaves a note."""

from __future__ import annotations

from pathlib import Path

__all__ = ["NOTE", "why_not_built"]

NOTE = Path(__file__).parent / "static.why"
"""What the package build leaves where it could not build the page."""


def why_not_built() -> str:
    """The reason, in one line."""
    try:
        return NOTE.read_text(encoding="utf-8").strip() or "no reason was given"
    except OSError:
        return "it was installed without its build step"
