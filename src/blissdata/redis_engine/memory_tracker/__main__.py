"""`python -m blissdata.redis_engine.memory_tracker`: the script `memory_tracker`."""

from __future__ import annotations

import sys

from blissdata.redis_engine.memory_tracker.program import main

sys.exit(main())
