"""`blissdata replay` and `record`: what they publish and print, how they end."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.cli.terminal import terminal

from blissdata import DataStore, ScanState
from blissdata.demo.measurement import COPPER
from blissdata.schemas import validate

DATA = Path(__file__).parent.parent / "data"
CHOPPER, GERMANIUM = str(DATA / "chopper.nxs"), str(DATA / "EXAFS_Ge.dat")
DEADLINE_S = 60.0

Run = Callable[..., Any]


# ---------------------------------------------------------------------------------- replay


def test_files_become_scans_one_after_another(run: Run, store: DataStore) -> None:
    done = run("replay", str(COPPER), CHOPPER, "--fast", "--json")
    assert done.code == 0
    copper, chopper = done.objects
    assert [(o["name"], o["number"], o["points"]) for o in (copper, chopper)] == [
        ("EXAFS_Cu", 1, 1461),
        ("chopper", 2, 148),
    ]
    assert store.search_existing_scans()[1] == [copper["key"], chopper["key"]]
    for found in (copper, chopper):
        scan = store.load_scan(found["key"])
        assert scan.state == ScanState.CLOSED
        assert validate(scan.info) == []
        assert {name: len(stream) for name, stream in scan.streams.items()} == found["streams"]
    spectra = store.load_scan(chopper["key"]).streams["data"][:]
    with h5py.File(CHOPPER) as file:
        np.testing.assert_array_equal(spectra, file["entry/data/data"][()])


def test_for_people_a_line_per_scan(run: Run) -> None:
    done = run("replay", CHOPPER, "--fast")
    assert done.code == 0
    assert done.out.startswith("chopper 1: 148 points in 8 streams, ")
    assert done.out.count("\n") == 1
    assert done.err.startswith("blissdata: replaying chopper 1, esrf:scan:{")


def test_what_is_not_obvious_is_said(run: Run) -> None:
    done = run("replay", GERMANIUM, "--fast")
    assert done.code == 0
    assert "no '#S' line, so not SPEC: read as 2 columns of numbers" in done.err


def test_identity_and_repeats(run: Run, store: DataStore) -> None:
    options = ["--name", "copper", "--number", "5", "--session", "hg7", "--proposal", "p1"]
    options += ["--collection", "c", "--dataset", "d", "--path", "/x.h5", "--data-policy", "esrf"]
    done = run("replay", str(COPPER), "--fast", "--repeat", "2", "--json", *options)
    assert [one["number"] for one in done.objects] == [5, 6]
    assert store.load_scan(done.objects[1]["key"]).identity == {
        "name": "copper",
        "number": 6,
        "session": "hg7",
        "proposal": "p1",
        "collection": "c",
        "dataset": "d",
        "path": "/x.h5",
        "data_policy": "esrf",
    }


def test_one_entry_at_its_recorded_times(run: Run, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        for name in ("1.1", "2.1"):
            file.create_group(name).attrs["NX_class"] = "NXentry"
            file[f"{name}/measurement/elapsed_time"] = [0.0, 0.1, 0.3]
    path = str(tmp_path / "run.h5")
    began = time.monotonic()
    done = run("replay", path, "--entry", "2.1", "--as-recorded", "--json")
    took = time.monotonic() - began
    (only,) = done.objects
    assert (only["entry"], only["points"]) == ("2.1", 3)
    assert 0.3 <= only["seconds"] <= took
    assert run("replay", path, "--entry", "7.1").err.strip().endswith("there are: 1.1, 2.1")


@pytest.mark.parametrize(
    ("argv", "code", "complaint"),
    [
        (["nowhere.dat"], 1, "nowhere.dat does not exist, expected a file"),
        (["."], 1, "is a directory, expected a file"),
        ([CHOPPER, "--entry", "x"], 1, "has no entry 'x'; there are: entry"),
        ([CHOPPER, "--as-recorded"], 1, "has no recorded times"),
        ([], 2, "FILE"),
        ([CHOPPER, "--pace", "0"], 2, "points per second"),
        ([CHOPPER, "--pace", "fast"], 2, "points per second"),
        ([CHOPPER, "--pace", "5", "--fast"], 2, "not allowed with"),
        ([CHOPPER, "--repeat", "0"], 2, "from 1 on"),
        ([CHOPPER, "--number", "-1"], 2, "expected"),
        ([CHOPPER, "--url", "redis://127.0.0.1:1"], 1, "127.0.0.1:1"),
    ],
    ids=lambda value: " ".join(map(os.path.basename, value)) if isinstance(value, list) else None,
)
def test_what_goes_wrong_is_one_line(
    argv: list[str], code: int, complaint: str, run: Run, store: DataStore
) -> None:
    done = run("replay", *argv)
    assert done.code == code
    assert complaint in done.err
    assert done.out == ""
    if code == 1:
        assert done.err.startswith("blissdata: ")
        assert done.err.count("\n") == 1
    assert store.search_existing_scans()[1] == []


def test_a_bad_file_is_found_before_a_good_one_is_published(
    run: Run, store: DataStore, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.dat"
    bad.write_text("1 2\n3 x\n")
    done = run("replay", CHOPPER, str(bad), "--fast")
    assert (done.code, "line 2: found 'x'" in done.err) == (1, True)
    assert store.search_existing_scans()[1] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_replay_closes_its_scan(
    number: signal.Signals, start: Callable[..., subprocess.Popen[str]], store: DataStore
) -> None:
    process = start("replay", str(COPPER), "--pace", "20")
    _, key = store.get_next_scan(since=0, timeout=DEADLINE_S)
    scan = store.load_scan(key)
    assert scan.wait_state(ScanState.STARTED, DEADLINE_S)
    deadline = time.monotonic() + DEADLINE_S
    while len(scan.streams["Column 1"]) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == 128 + number
    scan.update(block=False)
    assert scan.state == ScanState.CLOSED
    assert scan.info["end_reason"] == {2: "USER_ABORT", 15: "FAILURE"}[number]
    assert 3 <= len(scan.streams["Column 1"]) < 1461
    assert all(stream.is_sealed() for stream in scan.streams.values())


@pytest.mark.parametrize("columns", [20, 80])
def test_progress_is_shown_on_a_terminal(
    columns: int, start: Callable[..., subprocess.Popen[str]], store: DataStore
) -> None:
    pytest.importorskip("rich")
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    with terminal() as (screen, shown):
        process = start("replay", CHOPPER, "--pace", "200", stderr=screen, env=environment)
        assert process.wait(DEADLINE_S) == 0
    assert "/148" in shown.decode()
    assert "\x1b[?25h" in shown.decode()  # the cursor is there again


# ---------------------------------------------------------------------------------- record


def test_record_and_replay_again(run: Run, store: DataStore, tmp_path: Path) -> None:
    run("replay", CHOPPER, "--fast")
    file = tmp_path / "scan.jsonl.gz"
    done = run("record", "last", str(file), "--json")
    assert done.code == 0
    (said,) = done.objects
    assert said["streams"]["data"] == 148
    assert said["bytes"] == file.stat().st_size
    assert gzip.decompress(file.read_bytes()).startswith(b'{"format": "blissdata recording"')
    again = run("replay", str(file), "--json")
    assert again.code == 0
    (played,) = again.objects
    assert (played["name"], played["number"]) == ("chopper", 1)  # as recorded
    a, b = store.load_scan(said["key"]), store.load_scan(played["key"])
    assert a.info == b.info
    for name, stream in a.streams.items():
        np.testing.assert_array_equal(stream[:], b.streams[name][:])


def test_a_recording_under_another_identity(run: Run, store: DataStore, tmp_path: Path) -> None:
    run("replay", CHOPPER, "--fast")
    file = str(tmp_path / "scan.jsonl")
    assert run("record", "1", file).out.startswith("chopper 1: 148 points in 8 streams")
    done = run("replay", file, "--number", "9", "--name", "copy", "--fast", "--json")
    assert [(o["name"], o["number"], o["session"]) for o in done.objects] == [("copy", 9, "replay")]


def test_record_says_what_goes_wrong(run: Run, store: DataStore, tmp_path: Path) -> None:
    file = tmp_path / "scan.jsonl"
    assert run("record", "7", str(file)).code == 3
    run("replay", CHOPPER, "--fast")
    file.write_text("precious")
    done = run("record", "last", str(file))
    assert (done.code, "exists already" in done.err) == (1, True)
    assert run("record", "last", str(file), "--force").code == 0
    assert run("record", "last", str(tmp_path / "no" / "scan.jsonl")).code == 1
    assert run("record", "last").code == 2
    damaged = json.loads(file.read_text().splitlines()[0])
    file.write_text(json.dumps(damaged) + "\n")
    done = run("replay", str(file))
    assert (done.code, "cut short" in done.err, done.err.count("\n")) == (1, True, 1)
    assert run("replay", str(file), "--entry", "1.1").code == 2


def test_ctrl_c_keeps_what_was_recorded(
    start: Callable[..., subprocess.Popen[str]], store: DataStore, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "scan.jsonl"
    with store.create_scan({"name": "x", "number": 1, "data_policy": "none"}) as scan:
        stream = scan.create_stream("x", dtype="f8")
        scan.prepare()
        scan.start()
        stream.send(np.arange(100_000.0))
        stream.join()
        process = start("record", scan.key, str(file))
        deadline = time.monotonic() + DEADLINE_S
        # A megabyte of base64: at least 90 000 points are there.
        while not any(part.stat().st_size > 10**6 for part in tmp_path.glob(".*.part")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 130
    assert process.stderr is not None
    assert "holds what came so far" in process.stderr.read()
    done = run("replay", str(file), "--json")
    (played,) = done.objects
    assert (done.code, 90_000 <= played["points"] <= 100_000) == (0, True)
    assert "is not complete" in done.err
    again = store.load_scan(played["key"])
    assert again.info["end_reason"] == "FAILURE"
    np.testing.assert_array_equal(again.streams["x"][:], np.arange(float(played["points"])))


@pytest.mark.parametrize("command", ["replay", "record"])
def test_help_teaches_with_examples(command: str, run: Run) -> None:
    done = run(command, "--help")
    assert done.code == 0
    assert f"blissdata {command} " in done.out
    assert "exit codes: 0" in done.out
