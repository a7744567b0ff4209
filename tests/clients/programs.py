"""Programs of other environments, held on a line: what they are told, what they answer.

    with Program("peer") as reader:
        reader.tell("open", url=server.url)
        waiting = reader.begin("next_scan", since=0)   # it waits there; we go on
        key = waiting()[1]

`Answer` values come back as numpy arrays where they were some. What the program raised is raised here
as `Raised`, with the names of its classes.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from tests.clients.environments import environment

__all__ = ["Program", "ProgramError", "Raised", "Scan"]

HERE = Path(__file__).parent

ANSWER_S = 60.0
"""An answer that takes longer than this [s] never comes."""

LEAVE_S = 10.0
"""A program that has been told to leave and is still there after this [s] is ended."""


class ProgramError(RuntimeError):
    """The program died, or says nothing."""


class Raised(Exception):  # noqa: N818 — not an error of ours
    """What the program raised: `names` of the classes, innermost first, and the text."""

    def __init__(self, names: list[str], text: str, places: list[str]) -> None:
        super().__init__(f"{names[0]}: {text} ({'; '.join(places)})")
        self.names = names
        self.text = text


class Scan:
    """A scan that was a point of a stream: its key and state."""

    def __init__(self, key: str, state: int) -> None:
        self.key = key
        self.state = state

    def __repr__(self) -> str:
        return f"Scan({self.key!r}, {self.state})"


class Program:
    """A program in an environment, as a process of its own; a context manager.

    `environment_name` is a key of `environments.RECIPES`; `program` the name of a file beside this
    one; `variables` are added to its surroundings.
    """

    def __init__(
        self, environment_name: str, program: str = "program.py", **variables: str
    ) -> None:
        self.name = environment_name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 — closed by close()
        surroundings = {
            k: v for k, v in os.environ.items() if not k.startswith(("BEACON", "BLISSDATA_"))
        }
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [environment(environment_name), "-u", str(HERE / program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**surroundings, **variables},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in: IO[bytes] = self._process.stdin
        self._out = self._process.stdout.fileno()
        self._read = b""

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def tell(self, do: str, **arguments: Any) -> Any:
        """Has it done, and gives the answer. Raises `Raised` or `ProgramError`."""
        return self.begin(do, **arguments)()

    def begin(self, do: str, **arguments: Any) -> Callable[[], Any]:
        """Has it begun; the answer comes from calling what is returned, before anything else."""
        self._in.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        self._in.flush()
        return self._answer

    def _answer(self) -> Any:
        answer = json.loads(self._line())
        if "error" in answer:
            raise Raised(answer["error"], answer["text"], answer["at"])
        return _unwrapped(answer["value"])

    def _line(self) -> bytes:
        deadline = time.monotonic() + ANSWER_S
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise ProgramError(
                    f"{self.name} gives no answer for {ANSWER_S:.0f} s.\n{self.said()}"
                )
            part = os.read(self._out, 1 << 20)
            if not part:
                raise ProgramError(f"{self.name} ended ({self._process.wait()}).\n{self.said()}")
            self._read += part
        line, _, self._read = self._read.partition(b"\n")
        return line

    def said(self) -> str:
        """What it has printed."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-3000:]

    def close(self) -> None:
        """Tells it to leave, and ends it if it does not. Repeatable."""
        if not self._in.closed:
            self._in.close()
        try:
            self._process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _unwrapped(value: Any) -> Any:
    """What `program.wrapped` made, anywhere in an answer, as it was."""
    if isinstance(value, list):
        return [_unwrapped(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"array": [dtype, shape, data]}:
            return np.frombuffer(base64.b64decode(data), dtype).reshape(shape)
        case {"scan": key, "state": state}:
            return Scan(key, state)
        case {"list": items}:
            return [_unwrapped(item) for item in items]
        case {"json": plain} if len(value) == 1:
            return plain
    return {key: _unwrapped(item) for key, item in value.items()}
