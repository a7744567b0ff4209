"""`blissdata delete`: scans that a server forgets, and those that it does not."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Outcome

from blissdata import DataStore, Scan
from blissdata.cli.delete import Doomed, chosen
from blissdata.cli.overview import ScanRow
from blissdata.exceptions import BlissdataError
from blissdata.testing.servers import TestServer

Run = Callable[..., Outcome]

SENT = 200_000
"""Bytes in each scan, random ones: nothing makes less of them."""


def closed_scan(store: DataStore, number: int, path: str | None = None) -> Scan:
    identity = {"name": "ascan", "number": number, "data_policy": "none", "path": path}
    with store.create_scan(identity) as scan:
        stream = scan.create_stream("bytes", dtype="u1")
        scan.prepare()
        scan.start()
        stream.send(np.frombuffer(os.urandom(SENT), "u1"))
    return scan


@pytest.fixture
def scans(store: DataStore) -> list[Scan]:
    return [closed_scan(store, number) for number in range(4)]


@pytest.fixture
def running(store: DataStore, scans: list[Scan]) -> Iterator[Scan]:
    """A scan that is the newest, and runs."""
    scan = store.create_scan({"name": "timescan", "number": 9, "data_policy": "none"})
    scan.create_stream("time", dtype="f8")
    scan.prepare()
    scan.start()
    yield scan
    with contextlib.suppress(BlissdataError):  # some tests delete it
        scan.close()


def left(store: DataStore) -> list[int]:
    """The numbers of the scans that are there, oldest first."""
    keys = store.search_existing_scans()[1]
    return [store.load_scan(key).identity["number"] for key in keys]


def test_scans_are_deleted_by_number_key_and_last(
    run: Run, store: DataStore, scans: list[Scan]
) -> None:
    shown = run("delete", "0", scans[1].key, "last", "last", "--yes")
    assert (shown.code, left(store)) == (0, [2])
    assert [line.split()[0] for line in shown.out.splitlines()] == [scans[i].key for i in (0, 1, 3)]
    assert "deleted 3 scans, about " in shown.err


def test_what_each_gives_back_is_told_as_json(run: Run, scans: list[Scan]) -> None:
    shown = run("delete", "2", "--yes", "--json")
    (told,) = shown.objects
    assert SENT <= told.pop("bytes") < 2 * SENT
    assert told.pop("key") == scans[2].key
    assert (told["name"], told["number"], told["state"], told["pins"]) == ("ascan", 2, "CLOSED", [])


def test_files_are_not_touched(run: Run, store: DataStore, tmp_path: Path) -> None:
    file = tmp_path / "scan.h5"
    file.write_bytes(b"saved")
    closed_scan(store, 1, str(file))
    assert run("delete", "last", "--yes").code == 0
    assert (left(store), file.read_bytes()) == ([], b"saved")


def test_a_scan_that_is_not_there_costs_no_other(
    run: Run, store: DataStore, scans: list[Scan]
) -> None:
    gone = scans[0].key
    store.delete_scan(gone)
    for name in (gone, "77"):
        shown = run("delete", "1", name, "--yes")
        assert (shown.code, shown.out, left(store)) == (3, "", [1, 2, 3])


def test_a_running_scan_is_deleted_only_if_told(run: Run, store: DataStore, running: Scan) -> None:
    shown = run("delete", "1", "last", "--yes")
    assert (shown.code, left(store)) == (1, [0, 1, 2, 3, 9])
    assert f"Scan {running.key} is STARTED" in shown.err
    assert "--running" in shown.err
    assert run("delete", "last", "--running", "--yes").code == 0
    assert left(store) == [0, 1, 2, 3]
    stream = running.get_writer_stream("time")
    stream.send(1.0)
    with pytest.raises(BlissdataError, match="deleted"):
        stream.join()


def test_a_pinned_scan_is_deleted_only_if_told(
    run: Run, store: DataStore, scans: list[Scan]
) -> None:
    with scans[3].pin("writer"):
        shown = run("delete", "3", "--yes")
        assert (shown.code, left(store)) == (1, [0, 1, 2, 3])
        assert "is pinned by 'writer'" in shown.err
        assert "--pinned" in shown.err
        assert run("delete", "3", "--pinned", "--yes").code == 0
    assert left(store) == [0, 1, 2]


def test_the_oldest_go_that_nobody_needs(
    run: Run, store: DataStore, running: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blissdata.cli.delete.AT_ONCE", 2)
    with store.load_scan(store.search_existing_scans(number=0)[1][0]).pin("writer"):
        assert run("delete", "--oldest", "2", "--yes").code == 0
        assert left(store) == [0, 3, 9]
        assert run("delete", "--oldest", "5", "--yes").code == 0
        assert left(store) == [0, 9]
        shown = run("delete", "--oldest", "5", "--yes")
        assert (shown.code, left(store)) == (0, [0, 9])
        assert "no scan may be deleted" in shown.err
        assert run("delete", "--oldest", "5", "--yes", "--pinned").code == 0
    assert left(store) == [9]


def test_those_that_are_pinned_come_last() -> None:
    def scan(key: str, state: str = "CLOSED", lost: bool = False, pins: str = "") -> Doomed:
        return Doomed(ScanRow(key, {}, state, lost=lost), tuple(pins))

    there = [
        scan("pinned", pins="w"),
        scan("runs", "STARTED"),
        scan("lost", "STARTED", lost=True),
        scan("damaged", "?"),
        scan("closed"),
    ]

    def keys(count: int, running: bool = False, pinned: bool = False) -> list[str]:
        return [d.row.key for d in chosen(there, count, running=running, pinned=pinned)]

    assert keys(9) == ["lost", "damaged", "closed"]
    assert keys(2) == ["lost", "damaged"]
    assert keys(9, running=True) == ["runs", "lost", "damaged", "closed"]
    assert keys(9, pinned=True) == ["lost", "damaged", "closed", "pinned"]


def test_a_full_server_deletes(
    run: Run, store: DataStore, running: Scan, server: TestServer
) -> None:
    with server.client() as client:
        client.config_set("maxmemory", 1)
        shown = run("delete", "0", "9", "--running", "--yes")
        client.config_set("maxmemory", 0)
    assert (shown.code, shown.err.count("\n"), left(store)) == (0, 1, [1, 2, 3])


# ------------------------------------------------------------------------------ asking


@pytest.mark.parametrize("argv", [(), ("--json",)])
def test_where_nobody_can_be_asked_yes_must_be_said(
    run: Run, store: DataStore, scans: list[Scan], argv: tuple[str, ...]
) -> None:
    shown = run("delete", "last", *argv)
    assert (shown.code, shown.out, left(store)) == (2, "", [0, 1, 2, 3])
    assert "--yes" in shown.err


@pytest.mark.parametrize(
    ("answer", "code", "there"),
    [("y", 0, [0, 1, 2]), ("YES", 0, [0, 1, 2]), ("n", 1, [0, 1, 2, 3]), ("", 1, [0, 1, 2, 3])],
)
def test_on_a_terminal_one_is_asked(
    run: Run,
    store: DataStore,
    scans: list[Scan],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
    there: list[int],
) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(ours, "wb", 0) as keyboard, os.fdopen(theirs) as terminal:
        keyboard.write(f"{answer}\n".encode())
        monkeypatch.setattr(sys, "stdin", terminal)
        shown = run("delete", "last")
    assert (shown.code, left(store)) == (code, there)
    assert scans[3].key in shown.err
    assert "Delete 1 scan, about " in shown.err


@pytest.mark.parametrize(
    "argv", [(), ("last", "--oldest", "1"), ("--oldest", "0"), ("--oldest", "x")]
)
def test_which_scans_must_be_said_in_one_way(
    run: Run, store: DataStore, scans: list[Scan], argv: tuple[str, ...]
) -> None:
    assert run("delete", "--yes", *argv).code == 2
    assert left(store) == [0, 1, 2, 3]
