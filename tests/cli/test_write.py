"""`blissdata write` as a program: what it says, when it does not begin, and a disk that is full."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.writer.kit import new_scan

from blissdata import DataStore
from blissdata.cli import main
from blissdata.testing.servers import TestServer
from blissdata.writer.report import Report, read_report

LONG_S = 60.0

PROGRAM = str(Path(sys.executable).with_name("blissdata"))


AS_ANYBODY = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
"""Programs that root starts so may write no more than permissions say."""


@contextmanager
def writing(
    server: TestServer, root: Path, *options: str, limit: int = -1, start: Sequence[str] = ()
) -> Iterator[Any]:
    """The program, with a limit to the size of files [bytes]; `start` is what starts it."""

    with open(root.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(
            [*start, PROGRAM, "write", "--url", server.url, "--roots", str(root), *options],
            stdout=log,
            stderr=log,
        )
    if limit >= 0:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.wait(LONG_S) == 0, root.with_suffix(".log").read_text()


def waited(store: DataStore, condition: Any) -> Report:
    deadline = time.monotonic() + LONG_S
    while True:
        report = read_report(store)
        if report is not None and condition(report):
            return report
        assert time.monotonic() < deadline, report
        time.sleep(0.02)


def publish(store: DataStore, path: Path, number: int, mib: int) -> Any:
    with new_scan(store, path, number) as scan:
        image = scan.create_stream("image", dtype="u1", shape=(1024, 1024))
        scan.prepare()
        scan.start()
        for i in range(mib):
            image.send(np.full((1024, 1024), i, "u1"))
    return scan


def test_a_full_disk_fails_the_scan_and_keeps_its_points_until_somebody_decides(
    server: TestServer, plain_store: DataStore, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    path = root / "large.h5"
    with writing(server, root, limit=6 << 20):
        waited(plain_store, lambda report: report.running)
        small = publish(plain_store, root / "small.h5", 1, 2)
        large = publish(plain_store, path, 2, 12)
        other = publish(plain_store, root / "other.h5", 3, 2)
        report = waited(plain_store, lambda r: large.key in r.failed and r.written == 2)
        assert "File too large" in report.failed[large.key].reason
    assert [pin.scan_key for pin in plain_store.pins()] == [large.key]
    with h5py.File(path) as file:  # as its last commit left it
        images = file["1.1" if "1.1" in file else "2.1"]["instrument/image/data"]
        assert all((images[i] == i).all() for i in range(len(images)))
    with writing(server, root, "--retry"):
        waited(plain_store, lambda report: report.written == 1 and not report.scans)
    with h5py.File(path) as file:
        images = file["2.1/instrument/image/data"]
        assert len(images) == 12
        assert all((images[i] == i).all() for i in range(12))
    assert plain_store.pins() == []
    assert {small.number, other.number} == {1, 3}
    log = root.with_suffix(".log").read_text()
    assert f"written {path}::/2.1: 12 points" in log


@pytest.mark.skipif(
    bool(AS_ANYBODY) and not shutil.which("setpriv"), reason="root may write everywhere"
)
def test_a_missing_permission_is_told_of_and_mended(
    server: TestServer, plain_store: DataStore, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    closed = root / "closed"
    closed.mkdir(parents=True)
    closed.chmod(0o500)
    with writing(server, root, start=AS_ANYBODY):
        waited(plain_store, lambda report: report.running)
        scan = publish(plain_store, closed / "a.h5", 1, 1)
        publish(plain_store, root / "b.h5", 2, 1)
        report = waited(plain_store, lambda r: scan.key in r.failed and r.written == 1)
        assert "Permission denied" in report.failed[scan.key].reason
    assert list(closed.iterdir()) == []
    closed.chmod(0o700)
    with writing(server, root, "--retry", start=AS_ANYBODY):
        waited(plain_store, lambda report: report.written == 1 and not report.scans)
    assert plain_store.pins() == []


def test_it_does_not_begin_without_roots(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BLISSDATA_DATA_ROOTS", raising=False)
    assert main(["write", "--url", str(tmp_path)]) == 2
    assert "BLISSDATA_DATA_ROOTS" in capsys.readouterr().err
    assert main(["write", "--roots", str(tmp_path / "missing"), "--url", str(tmp_path)]) == 2
    assert "not a directory" in capsys.readouterr().err
