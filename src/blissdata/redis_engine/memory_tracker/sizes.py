"""Sizes as services read them in what the memory tracker says."""

from __future__ import annotations

__all__ = ["human_size"]


def human_size(nbytes: float) -> str:
    """A size in its largest unit: `23MB`, `7.583MB`; units are powers of 1024."""
    units = ["TB", "GB", "MB", "KB", "B"]
    while nbytes >= 1024 and len(units) > 1:
        nbytes /= 1024
        units.pop()
    return f"{nbytes:.4g}{units[-1]}"
