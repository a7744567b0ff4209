"""What all commands have in common: help, completion, ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from blissdata import DataStore, ScanState
from blissdata.cli import exits
from blissdata.exceptions import StoreConnectionError

COMMANDS = [
    "completion",
    "delete",
    "ls",
    "pins",
    "record",
    "replay",
    "serve",
    "show",
    "simulate-detector",
    "status",
    "stop",
    "tail",
    "top",
    "track",
    "web",
    "where",
    "write",
]


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_help_teaches_with_examples(run: Callable, command: str) -> None:
    shown = run(*command.split(), "--help")
    assert shown.code == 0
    assert "examples:" in shown.out
    assert "exit codes:" in shown.out
    assert [line for line in shown.out.splitlines() if len(line) > 110] == []


def test_the_help_of_the_program_names_every_command(run: Callable) -> None:
    shown = run("--help").out
    listed = set(re.findall(r"^ {4}(\S+)", shown, re.MULTILINE))
    assert {*COMMANDS, "demo"} == listed


def test_what_went_wrong_is_said_in_words_of_the_shell(
    run: Callable, store: DataStore, tmp_path: Path
) -> None:
    with store.create_scan({"name": "a", "number": 1, "data_policy": "none"}):
        pass
    gone = run("show", store.catalog.scan_key("0" * 26))
    assert gone.code == 3
    assert "`blissdata ls`" in gone.err
    file = tmp_path / "nowhere" / "x.jsonl"
    assert run("record", "last", str(file)).err == f"blissdata: {file}: No such file or directory\n"
    away = run("ls", "--url", "unix:///nowhere.sock")
    assert "`blissdata serve` starts one" in away.err
    assert "object" not in away.err


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(28, "No space left on device", "/data/x"), "/data/x: No space left on device"),
        (OSError(98, "Cannot listen at 127.0.0.1"), "Cannot listen at 127.0.0.1"),
        (OSError("odd"), "odd"),
        (StoreConnectionError("away"), "away"),  # it is an OSError as well
    ],
    ids=str,
)
def test_an_error_of_the_system_is_told_without_its_number(error: Exception, text: str) -> None:
    assert exits.told(error) == text


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_names_every_command(run: Callable, shell: str) -> None:
    shown = run("completion", shell)
    assert shown.code == 0
    assert shown.err == ""
    assert all(command in shown.out for command in COMMANDS)
    program = shutil.which(shell)
    if program and shell != "tcsh":
        checked = subprocess.run(
            [program, "-n"], input=shown.out, text=True, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")


def test_bash_completes_commands_and_options(run: Callable) -> None:
    script = run("completion", "bash").out
    ask = """
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        function_name=$(complete -p blissdata | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        "$function_name" blissdata "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        echo "${COMPREPLY[@]}"
    """

    def completed(*words: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", script + ask, "bash", "blissdata", *words],
            text=True,
            capture_output=True,
            check=True,
        )
        return done.stdout.split()

    assert set(completed("s")) == {"serve", "status", "stop", "show", "simulate-detector"}
    assert completed("tail", "--fr") == ["--from-start"]


def test_completion_of_another_shell_is_wrong_usage(run: Callable) -> None:
    assert run("completion", "fish").code == 2


def test_completion_without_shtab_names_the_extra(
    run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    shown = run("completion", "bash")
    assert shown.code == 1
    assert shown.out == ""
    assert 'pip install "blissdata[cli]"' in shown.err
    assert len(shown.err.splitlines()) == 1


def test_the_server_commands_need_no_extra() -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('rich', 'shtab')))\n"
        "from blissdata.cli import main\n"
        "sys.exit(main(['status', 'redis://127.0.0.1:1']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")


def test_a_terminal_that_knows_no_unicode(
    start: Callable[..., subprocess.Popen[str]], store: DataStore
) -> None:
    with store.create_scan({"name": "größe試", "number": 1, "data_policy": "none"}):
        pass
    process = start("ls", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "gr\\xf6\\xdfe\\u8a66" in out


@pytest.mark.slow
def test_ctrl_c_ends_whatever_runs_long_with_130(
    start: Callable[..., subprocess.Popen[str]], store: DataStore
) -> None:
    """What the tests of `serve`, `track`, `write`, `tail`, `top`, `replay`, and `record` do not see. All at once:
    most of the time goes into starting them."""
    commands = {
        "next": start("tail", "next"),
        "web": start("web", "--port", "0"),
        "detector": start("simulate-detector", "--shape", "8x8", "--frames", "9999", "--no-server"),
    }
    try:
        _, key = store.get_next_scan(since=0, timeout=60)
        assert store.load_scan(key).wait_state(ScanState.STARTED, 60)
        commands["where"] = start("where", key, "--watch", "0.1")
        assert commands["where"].stdout.readline()
        assert "http" in commands["web"].stdout.read(60)
        assert "waiting" in commands["next"].stderr.readline()
    finally:
        for process in commands.values():
            process.send_signal(signal.SIGINT)
    for name, process in commands.items():
        _, err = process.communicate(timeout=60)
        assert (name, process.returncode) == (name, 130), err
        assert "Traceback" not in err
