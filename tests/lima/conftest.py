"""Lima's tests: blocks built by hand, and a camera that serves them through Tango."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
