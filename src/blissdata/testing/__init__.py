"""The public test kit: a backend in memory, and the suites that every backend and every plugin passes.

Needs pytest. Nothing at run time imports it.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("blissdata.testing.backend_suite", "blissdata.testing.plugin_suite")

from blissdata.testing.backend_suite import BackendTests  # noqa: E402 — its asserts explain themselves
from blissdata.testing.memory import MemoryBackend  # noqa: E402
from blissdata.testing.plugin_suite import PluginTests  # noqa: E402

__all__ = ["BackendTests", "MemoryBackend", "PluginTests"]
