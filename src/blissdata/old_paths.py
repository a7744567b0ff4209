"""Says where a name lives now, to who imports it by a path of blissdata 2.x."""

from __future__ import annotations

import warnings

__all__ = ["moved"]


def moved(old: str, new: str) -> None:
    """Called by the module that is left at the old path, when it is imported."""
    warnings.warn(
        f"'{old}' is deprecated, use '{new}' instead. It will be removed in version 3.",
        FutureWarning,
        stacklevel=3,  # whoever imports the old path
    )
