"""The public test kit: a backend in memory, and the suite that every backend passes.

Needs pytest. Nothing at run time imports it.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("blissdata.testing.backend_suite")

from blissdata.testing.backend_suite import BackendTests  # noqa: E402 — its asserts explain themselves
from blissdata.testing.memory import MemoryBackend  # noqa: E402

__all__ = ["BackendTests", "MemoryBackend"]
