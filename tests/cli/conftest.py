"""The command line as tests use it: called in this process, or as a program of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from blissdata import DataStore
from blissdata.cli import main

SOURCE = "import sys; from blissdata.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[Any]:
        """Its output as JSON, an object per line."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def store(plain_store: DataStore, server: Any, monkeypatch: pytest.MonkeyPatch) -> DataStore:
    """A store on the server that the commands find."""
    monkeypatch.setenv("BLISSDATA_URL", server.url)
    monkeypatch.delenv("BEACON_HOST", raising=False)
    return plain_store


@pytest.fixture
def run(store: DataStore, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs a command in this process, without a terminal."""

    def run(*argv: str) -> Outcome:
        capsys.readouterr()
        try:
            code = main(argv)
        except SystemExit as ended:
            code = ended.code
        shown = capsys.readouterr()
        return Outcome(code, shown.out, shown.err)

    return run


@pytest.fixture
def start(store: DataStore) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the program in a process of its own; what still runs at the end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def start(*argv: str, prelude: str = "", **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(
            [sys.executable, "-c", f"{prelude}\n{SOURCE}", *argv],
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 — some runners ignore it
            **{**pipes, "env": {**os.environ, "PYTHONDEVMODE": "1"}, **options},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
