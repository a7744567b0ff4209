"""What a scan says about itself: types, JSON Schema, and a check.

    scan_info, scan_info_display   the TypedDicts: pure data, the only place where rules are written
    marks                          what a field's type cannot say: ranges, references, deprecation
    fields                         the TypedDicts as values, for the three below
    validation                     complaints, with the path of each
    files, reference               what is made of them and shipped (python -m blissdata.schemas)

The names below are loaded on first use: importing the types costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blissdata.schemas.files import json_schema
    from blissdata.schemas.validation import Complaint, validate

__all__ = ["Complaint", "json_schema", "validate"]

_HOMES = {"Complaint": "validation", "json_schema": "files", "validate": "validation"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
