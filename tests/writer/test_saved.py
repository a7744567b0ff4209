"""Points that left the server's memory, and that a writer has saved before: `blissdata where`, and what
programs get."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.writer.kit import new_scan, running

from blissdata import DataStore, Scan
from blissdata.cli import main
from blissdata.exceptions import IndexNoMoreThereError
from blissdata.testing.servers import TestServer

POINTS = 20
LEFT = 12
"""The first point that is still in memory."""


def written_scan(store: DataStore, path: Path) -> Scan:
    """A scan that a writer has saved, and whose first points have left the memory."""
    with running(store, path.parent) as writer:
        with new_scan(store, path, save=True) as scan:
            streams = {
                "number": scan.create_stream("number", dtype="f8"),
                "spectrum": scan.create_stream("spectrum", dtype="i4", shape=(3,)),
                "text": scan.create_stream("text", dtype="json"),
                "varying": scan.create_stream("varying", dtype="u1", shape=(-1,)),
            }
            scan.prepare()
            scan.start()
            for i in range(POINTS):
                streams["number"].send(float(i))
                streams["spectrum"].send(np.full(3, i, "i4"))
                streams["text"].send({"i": i})
                streams["varying"].send(np.arange(1 + i % 5, dtype="u1"))
                for stream in streams.values():
                    stream.join()
        writer.wait_written(scan)
    store.event_log.trim(dict.fromkeys((one.key for one in scan.streams.values()), LEFT))
    return scan


def where(server: TestServer, scan: Scan, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(["where", scan.key, "--json", "--url", server.url]) == 0
    return {one["name"]: one for one in json.loads(capsys.readouterr().out)["streams"]}


def test_points_that_a_writer_saved_are_in_the_file_and_not_gone(
    server: TestServer,
    plain_store: DataStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "a.h5"
    scan = written_scan(plain_store, path)
    for name, one in where(server, scan, capsys).items():
        assert one["memory"] == [[LEFT, POINTS]], name
        assert one["file"] == [[0, POINTS]], one
        assert one["gone"] == one["pending"] == [], name
        (file,) = one["files"]
        assert file["path"] == str(path)
        with h5py.File(path) as written:
            assert len(written[file["item"]]) == POINTS
    assert main(["where", scan.key, "--url", server.url]) == 0
    assert f"file {path}: " in capsys.readouterr().out


def test_programs_get_the_same_answer_and_read_the_points_there(
    plain_store: DataStore, tmp_path: Path
) -> None:
    scan = plain_store.load_scan(written_scan(plain_store, tmp_path / "a.h5").key)
    expected: dict[str, list[Any]] = {
        "number": [float(i) for i in range(POINTS)],
        "spectrum": [[i] * 3 for i in range(POINTS)],
        "text": [{"i": i} for i in range(POINTS)],
        "varying": [list(range(1 + i % 5)) for i in range(POINTS)],
    }
    for found in scan.availability().values():
        assert (found.file.spans, found.memory.spans) == (((0, POINTS),), ((LEFT, POINTS),)), found
    for name, stream in scan.streams.items():
        assert stream.availability().where(0) == "file"
        assert stream.wait_available(0, timeout=0).where(0) == "file"
        assert plain(stream[:]) == plain(list(stream)) == expected[name]
        assert plain(stream[2:17:3]) == expected[name][2:17:3]
        assert plain([stream[3], stream[-POINTS]]) == [expected[name][3], expected[name][0]]
        view = stream.cursor().read()
        assert view is not None
        assert plain(view.get_data(5, 15)) == expected[name][5:15]


def plain(points: Any) -> list[Any]:
    return [one.tolist() if isinstance(one, np.ndarray) else one for one in points]


def test_who_may_not_open_the_file_is_told_where_it_is_and_what_to_do(
    plain_store: DataStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    key = written_scan(plain_store, path).key
    monkeypatch.setenv("BLISSDATA_DATA_ROOTS", "/elsewhere")
    stream = plain_store.load_scan(key).streams["number"]
    found = stream.availability()
    assert found.where(0) == "unknown"
    told = (
        f"not below the data roots: /elsewhere .*export BLISSDATA_DATA_ROOTS=/elsewhere:{tmp_path}$"
    )
    assert re.search(told, str(found.files[0].why))
    with pytest.raises(IndexNoMoreThereError, match=rf"'number'.*index 0 .*{path}::/1.1/.*{told}"):
        stream[0]
    assert stream[LEFT] == LEFT


def test_a_file_that_does_not_say_whose_it_is_counts_only_if_the_publisher_does(
    plain_store: DataStore, tmp_path: Path
) -> None:
    path = tmp_path / "a.h5"
    key = written_scan(plain_store, path).key
    with h5py.File(path, "r+") as file:
        del file["1.1"].attrs["blissdata_scan"]
    stream = plain_store.load_scan(key).streams["number"]
    assert stream.availability().where(0) == "gone"
    with pytest.raises(
        IndexNoMoreThereError, match=r"says that it is of this scan.*h5py show the file"
    ):
        stream[0]


def test_fill_values_are_never_taken_for_points(plain_store: DataStore, tmp_path: Path) -> None:
    with new_scan(plain_store, tmp_path / "a.h5") as scan:
        stream = scan.create_stream("a", dtype="f8")
        scan.prepare()
        scan.start()
        for i in range(10):
            stream.send(float(i + 1))
            stream.join()
        plain_store.event_log.trim({stream.key: 4})
        with running(plain_store, tmp_path) as writer:
            reader = plain_store.load_scan(scan.key).streams["a"]
            writer.wait_committed(stream.key, 10)
            check_lost(plain_store, reader)
        with running(plain_store, tmp_path) as writer:  # another writer knows it from the file
            scan.stop()
            scan.close()
            writer.wait_failed(scan)
    check_lost(plain_store, plain_store.load_scan(scan.key).streams["a"])


def check_lost(store: DataStore, stream: Any) -> None:
    """Points 0 to 3 were gone before they were written, 4 to 6 are in the file alone."""
    store.event_log.trim({stream.key: 7})
    found = stream.availability()
    assert (found.gone.spans, found.file.spans) == (((0, 4),), ((4, 10),))
    assert stream[4:].tolist() == [5, 6, 7, 8, 9, 10]
    with pytest.raises(IndexNoMoreThereError, match="gone before they could be written"):
        stream[3:]


def test_what_no_file_has_is_gone_and_the_reason_is_told(
    server: TestServer,
    plain_store: DataStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "a.h5"
    scan = written_scan(plain_store, path)
    with h5py.File(path, "r+") as file:
        file["1.1"].attrs["blissdata_scan"] = "another"
    for words in ("is of scan another", "a.h5"):
        for one in where(server, scan, capsys).values():
            assert one["gone"] == [[0, LEFT]]
            assert one["file"] == []
            assert words in one["files"][0]["why"]
        path.unlink(missing_ok=True)
