"""A process beside a detector: it saves or serves the frames of a ring, and costs who takes them nothing.

The detector's process starts it and holds one end of its standard input:

    detector ──▶ its job, one JSON object; then a byte when there is work for who sleeps
             ◀── lines: `ready …`, `saved N`, `failed why`
    end of input: the detector is done, or dead. It finishes what is begun, and ends.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from blissdata.exceptions import BlissdataError

__all__ = ["Companion", "Desk"]

READY_S = 60.0
"""How long a companion may take to start [s]; a machine may be busy."""

MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
}
"""What glibc is told in a companion: memory of frames is used again, not given back and asked for anew, which
takes longer than copying them."""

END_S = 10.0
"""How long one without work may take to end [s]."""


class Companion:
    """The companion as the detector's process sees it. Starts at once, `wait_ready` waits for it."""

    def __init__(
        self, module: str, job: dict[str, Any], fd: int, told: Callable[[str, str], None]
    ) -> None:
        """`module` has a `main`; `fd` is the ring's; `told(word, text)` is called, in a thread, with each
        line, and with `ended` when there will be no more."""
        self.name = module.rpartition(".")[2]
        self._told = told
        self._ready = threading.Event()
        self.problem: str | None = None
        """Why it does not work (any more)."""
        self.answer = ""
        """What it said with `ready`."""
        # A duplicate, since a fork closes the ring's own: gevent starts processes by a whole fork.
        handed = os.dup(fd)
        try:
            self._process = subprocess.Popen(  # noqa: S603 — this very interpreter
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(handed,),
                env={**MEMORY, **os.environ},
                start_new_session=True,  # Ctrl-C is for the detector's program
            )
        finally:
            os.close(handed)
        if self._process.stdin is None or self._process.stdout is None:
            raise BlissdataError(f"the {self.name} of a frame buffer has no pipes")
        self._input, self._output = self._process.stdin, self._process.stdout
        with suppress(OSError):  # it ended at once: its output says so
            self._input.write(json.dumps({**job, "fd": handed}).encode() + b"\n")
            self._input.flush()
        os.set_blocking(self._input.fileno(), False)
        self._thread = threading.Thread(
            target=self._listen, name=f"blissdata-frames-{self.name}", daemon=True
        )  # daemonic: it ends with the companion, and that with this process
        self._thread.start()

    def wait_ready(self) -> str:
        """What it said when it was ready. Raises `BlissdataError` if it will not be."""
        if not self._ready.wait(READY_S):
            self.problem = f"it did not start in {READY_S:g} s"
        if self.problem:
            raise BlissdataError(f"The {self.name} of a frame buffer does not work: {self.problem}")
        return self.answer

    def wake(self) -> None:
        """There is work."""
        with suppress(OSError):
            os.write(self._input.fileno(), b".")

    def end(self, timeout: float) -> bool:
        """Tells it that there will be no more, and waits until it is done, `timeout` [s] at most; one that
        is not done by then is killed, and False."""
        with suppress(OSError):
            self._input.close()
        done = True
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            done = False
        self._thread.join(END_S)
        self._output.close()
        return done

    def forget(self) -> None:
        """In a forked child: the companion is the parent's."""
        with suppress(OSError):
            self._input.close()

    def _listen(self) -> None:
        for line in self._output:
            word, _, text = line.decode(errors="replace").strip().partition(" ")
            if word == "ready":
                self.answer = text
                self._ready.set()
            elif word == "failed":
                self.problem = text
                self._ready.set()
            self._told(word, text)
        if not self._ready.is_set():
            self.problem = self.problem or "its process ended before it was ready"
            self._ready.set()
        self._told("ended", self.problem or "")


class Desk:
    """The other side: what the companion's own program has of its detector."""

    def __init__(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        line = bytearray()
        while not line.endswith(b"\n"):
            piece = os.read(0, 1)  # no buffer: what follows is for `select`
            if not piece:
                raise SystemExit(0)
            line += piece
        self.job: dict[str, Any] = json.loads(line)
        self.ended = False
        """True once the detector is done, or dead."""

    def say(self, word: str, text: object = "") -> None:
        """Tells the detector; it may be dead."""
        with suppress(OSError):
            os.write(1, f"{word} {' '.join(str(text).split())}".encode() + b"\n")

    def take(self) -> None:
        """Takes the bytes that woke this process."""
        if not os.read(0, 4096):
            self.ended = True

    def wait(self, timeout: float) -> None:
        """Waits to be woken, `timeout` [s] at most."""
        if not self.ended and select.select([0], [], [], timeout)[0]:
            self.take()
