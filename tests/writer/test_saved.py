"""`blissdata where` of points that left the server's memory, and that a writer has saved before."""

from __future__ import annotations

import json
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
    with pytest.raises(IndexNoMoreThereError, match=f"{path}.*redis_hdf5.File reads it there"):
        plain_store.load_scan(scan.key).streams["number"][0]


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
