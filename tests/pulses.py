"""Publishers that have been silent for as long as a test likes, without waiting for it."""

from __future__ import annotations

from blissdata import DataStore, Scan
from blissdata.redis_engine.backends.server import PULSE_TTL_MS
from blissdata.testing import MemoryBackend


def last_heard(store: DataStore, scan: Scan, ago: float) -> None:
    """The scan's publisher gave its last sign of life so long ago [s]."""
    if isinstance(store.backend, MemoryBackend):
        store.backend.scans[scan.key].pulse -= ago
        return
    pk = scan.key.rsplit(":", 1)[-1]
    (pulse,) = store._redis.scan_iter(f"*:pulse:{pk}")
    assert store._redis.pexpire(pulse, round(PULSE_TTL_MS - ago * 1000))
