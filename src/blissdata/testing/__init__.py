"""The public test kit: a backend in memory, and the suite that every backend passes.

Needs pytest. Nothing at run time imports it.
"""

from __future__ import annotations

from blissdata.testing.backend_suite import BackendTests
from blissdata.testing.memory import MemoryBackend

__all__ = ["BackendTests", "MemoryBackend"]
