"""The viewer beside the demo, where the extra `web` and the page are there."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

__all__ = ["DemoViewer"]

PATIENCE_S = 5.0
"""How long it may take to end [s]."""


class DemoViewer:
    """`blissdata web` as a process; without it, nothing."""

    def __init__(self, process: subprocess.Popen[str] | None, address: str | None) -> None:
        self._process = process
        self.address = address
        """What to type into a browser; None without a viewer."""

    @classmethod
    def started(cls) -> DemoViewer:
        """Starts it, at any free port, and waits until it serves."""
        if any(
            find_spec(name) is None for name in ("starlette", "uvicorn", "websockets", "h5grove")
        ):
            return cls(None, None)
        from blissdata.viewer.app import page_is_built

        if not page_is_built():
            return cls(None, None)
        program = (
            "import sys; from blissdata.cli import main; sys.exit(main(['web', '--port', '0']))"
        )
        process = subprocess.Popen(  # noqa: S603 — this very program
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )
        found = cls(process, None)
        try:
            for line in process.stdout or ():
                if "://" in line:
                    found.address = line.strip()
                    return found
        except BaseException:
            found.end()
            raise
        found.end()
        return found

    def wait_for_the_user(self) -> None:
        """At a terminal: until Enter is pressed, so that there is time to look."""
        if self.address is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
            return
        try:
            input(f"\nThe scan is shown at {self.address}\nEnter ends that. ")
        except (EOFError, KeyboardInterrupt):
            print()

    def end(self) -> None:
        """Ends it. Repeatable."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._process = None
