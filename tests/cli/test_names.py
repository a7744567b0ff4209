"""What SCAN means on the command line."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from blissdata import DataStore
from blissdata.cli import main
from blissdata.cli.exits import NotThereError, TimeUpError
from blissdata.cli.names import (
    created_at,
    find,
    load,
    seconds,
    selected,
    server_to_read,
    short_key,
    wait_for,
)
from blissdata.redis_engine.local_server.place import Place

PK = "01ARYZ6S41TSV4RRFFQ69G5FAV"
"""The example of https://github.com/ulid/spec, which gives 1469918176385 ms for the first ten."""


def published(store: DataStore, number: int, **identity: str) -> str:
    identity = {"name": "loopscan", "data_policy": "none", **identity}
    with store.create_scan({**identity, "number": number}) as scan:
        return scan.key


@pytest.mark.parametrize("key", [f"esrf:scan:{{{PK}}}", f"esrf:scan:{PK}", PK])
def test_a_key_says_when_its_scan_was_created(key: str) -> None:
    assert created_at(key) == 1469918176.385
    assert short_key(key) == PK


@pytest.mark.parametrize("key", ["", "esrf:scan:{abc}", f"{PK}x", "Z" * 26])
def test_another_key_does_not(key: str) -> None:
    assert created_at(key) is None


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([], ["mca1", "mca2", "diode", "a*b"]),
        (["diode"], ["diode"]),
        (["mca*"], ["mca1", "mca2"]),
        (["diode", "mca2"], ["mca2", "diode"]),
        (["a*b"], ["a*b"]),
    ],
)
def test_streams_are_named_with_wildcards(wanted: list[str], found: list[str]) -> None:
    assert selected(["mca1", "mca2", "diode", "a*b"], wanted, "k") == found


def test_an_unknown_stream_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(
        NotThereError,
        match=r"has no stream 'dioed'; there are: diode, mca.* \(was 'diode' meant\?\)$",
    ):
        selected(["mca", "diode"], ["mca", "dioed"], "k")
    with pytest.raises(NotThereError, match="there are: none"):
        selected([], ["x"], "k")


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon", ""])
def test_a_timeout_is_a_number_of_seconds(text: str) -> None:
    assert seconds("0") == 0
    assert seconds("2.5") == 2.5
    with pytest.raises(argparse.ArgumentTypeError, match="seconds"):
        seconds(text)


def test_last_number_key_and_end_of_key(store: DataStore) -> None:
    first = published(store, 7)
    second = published(store, 8)
    assert find(store, "last") == second
    assert find(store, "7") == first
    for text in (first, short_key(first), "7"):
        assert load(store, text).key == first


def test_a_number_that_several_scans_have_is_an_error_that_lists_them(
    store: DataStore, run: Callable
) -> None:
    first = published(store, 7, session="old")
    second = published(store, 7, name="ascan", session="new")
    published(store, 8)
    shown = run("show", "7")
    assert shown.code == 3
    assert shown.out == ""
    head, *lines = shown.err.splitlines()
    assert head.startswith("blissdata: 2 scans have the number 7")
    assert [line.split() for line in lines] == [
        [second, "ascan", "CLOSED", "new"],
        [first, "loopscan", "CLOSED", "old"],
    ]


def test_many_scans_of_one_number_are_listed_up_to_ten(store: DataStore) -> None:
    keys = [published(store, 1) for _ in range(12)]
    with pytest.raises(NotThereError) as raised:
        find(store, "1")
    lines = str(raised.value).splitlines()
    assert lines[1].split()[0] == keys[-1]
    assert len(lines) == 12
    assert "2 older" in lines[-1]


@pytest.mark.parametrize("command", ["show", "tail"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9", "No scan has the number 9"),
        ("lsat", r"`blissdata ls` lists them (was 'last' meant?)"),
        ("nonsense", "names no scan: expected `last`, a number, or a key like esrf:scan:{…}"),
        ("1" * 30, "names no scan"),
        (f"esrf:scan:{{{PK}}}", "There is no scan"),
        (PK, "There is no scan"),
    ],
)
def test_what_names_no_scan_is_exit_code_3(
    run: Callable, command: str, text: str, message: str
) -> None:
    shown = run(command, text)
    assert shown.code == 3
    assert shown.out == ""
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1


def test_last_and_next_where_there_is_nothing_to_wait_for(run: Callable) -> None:
    assert run("show", "last").code == 3
    shown = run("show", "next")
    assert shown.code == 3
    assert "tail next" in shown.err


@pytest.mark.parametrize("text", ["last", "next"])
def test_waiting_ends_when_the_time_is_up(store: DataStore, text: str) -> None:
    said: list[str] = []
    before = time.monotonic()
    with pytest.raises(TimeUpError, match=r"0\.05 s"):
        wait_for(store, text, 0.05, said.append)
    assert time.monotonic() - before < 30  # and not for ever
    assert said == [f"waiting for the {'first' if text == 'last' else 'next'} scan"]


@pytest.mark.parametrize("text", ["last", "next"])
def test_a_scan_created_the_moment_the_wait_is_announced_is_found(
    store: DataStore, text: str
) -> None:
    if text == "next":
        published(store, 1)
    keys: list[str] = []
    found = wait_for(store, text, 60, lambda _: keys.append(published(store, 2)))
    assert [found] == keys


LOOKING = {
    "ls": [],
    "show": ["last"],
    "tail": ["next"],
    "where": ["last"],
    "delete": ["--oldest", "1"],
    "pins": [],
    "record": ["last", "x.jsonl"],
    "top": ["--json"],
    "track": [],
    "web": ["--port", "0"],
    "write": ["--roots", "/tmp"],
}


@pytest.mark.parametrize("command", LOOKING)
def test_what_only_looks_starts_no_server_in_a_new_place(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run8").mkdir()
    assert main([command, *LOOKING[command], "--url", str(tmp_path / "run8")]) == 3
    assert [entry.name for entry in tmp_path.rglob("*")] == ["run8"]
    said = capsys.readouterr().err
    assert (
        f"No server keeps its data in {tmp_path / 'run8'}: no server was ever started in it" in said
    )
    assert f"`blissdata serve --directory {tmp_path / 'run8'}`" in said
    assert "meant?" not in said


@pytest.mark.parametrize("name", ["gone", "file"])
def test_a_path_that_is_no_directory_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotThereError, match=rf"{name}: it is no directory\."):
        server_to_read(str(tmp_path / name))
    assert not (tmp_path / "gone").exists()


def test_a_mistyped_directory_beside_that_of_a_server_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Place.of(tmp_path / "run7")
    served.create()
    with served.gate_passed(time.monotonic() + 10):
        pass
    (tmp_path / "rnu8").mkdir()  # looks more like it, but there is no server
    monkeypatch.setenv("BLISSDATA_URL", str(tmp_path / "rnu7"))
    with pytest.raises(NotThereError, match=r"rnu7 \(\$BLISSDATA_URL\): .*was '.*/run7' meant\?"):
        server_to_read(None)
    assert server_to_read(str(tmp_path / "run7")) == tmp_path / "run7"
