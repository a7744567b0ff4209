"""`blissdata write` as a program: what it says, how it ends, when it does not begin, and a disk that is
full."""

from __future__ import annotations

import json
import os
import re
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
from tests.cli.terminal import terminal
from tests.writer.kit import new_scan, running

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
    server: TestServer,
    root: Path,
    *options: str,
    limit: int = -1,
    start: Sequence[str] = (),
    ends: signal.Signals = signal.SIGTERM,
) -> Iterator[Any]:
    """The program, with a limit to the size of files [bytes]; `start` is what starts it, `ends` is the signal
    that ends it."""

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
        assert process.poll() is None, root.with_suffix(".log").read_text()
        process.send_signal(ends)
        code = 130 if ends is signal.SIGINT else 0
        assert process.wait(LONG_S) == code, root.with_suffix(".log").read_text()


def waited(store: DataStore, condition: Any) -> Report:
    deadline = time.monotonic() + LONG_S
    while True:
        report = read_report(store)
        if report is not None and condition(report):
            return report
        assert time.monotonic() < deadline, report
        time.sleep(0.02)


def publish(
    store: DataStore, path: Path, number: int, mib: int, *, once_there: Path | None = None
) -> Any:
    """A scan of images. Its file appears early if the writer sees the scan before its end: that is waited for."""
    with new_scan(store, path, number) as scan:
        image = scan.create_stream("image", dtype="u1", shape=(1024, 1024))
        scan.prepare()
        scan.start()
        deadline = time.monotonic() + LONG_S
        while once_there is not None and not once_there.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
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
        large = publish(plain_store, path, 2, 12, once_there=path)
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


DISK_OF_ITS_OWN = ["unshare", "--map-root-user", "--mount"]
"""What starts a program that sees disks which nobody else sees."""


def may_have_a_disk() -> bool:
    """Whether this machine lets a program have one."""
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        return False
    mount = ["sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]
    done = subprocess.run([*DISK_OF_ITS_OWN, *mount], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.slow
def test_a_disk_that_was_full_and_has_room_again_takes_the_rest(
    server: TestServer, plain_store: DataStore, tmp_path: Path
) -> None:
    if not may_have_a_disk():
        pytest.skip("no program may have a disk of its own here")
    root = tmp_path / "data"
    root.mkdir()
    mounted = ["sh", "-c", 'mount -t tmpfs -o size=8m none "$0" && exec "$@"', str(root)]
    with writing(server, root, start=[*DISK_OF_ITS_OWN, *mounted]) as process:
        seen = Path(f"/proc/{process.pid}/root{root}/large.h5")
        waited(plain_store, lambda report: report.running)
        scan = publish(plain_store, root / "large.h5", 1, 12, once_there=seen)
        report = waited(plain_store, lambda r: scan.key in r.failed)
        assert "No space left on device" in report.failed[scan.key].reason
        assert [pin.scan_key for pin in plain_store.pins()] == [scan.key]
        with h5py.File(seen) as file:
            images = file["1.1/instrument/image/data"]
            assert all((images[i] == i).all() for i in range(len(images)))
        inside = ["nsenter", "--target", str(process.pid), "--user", "--mount"]
        larger = ["mount", "-o", "remount,size=64m", str(root)]
        subprocess.run([*inside, "--preserve-credentials", *larger], check=True)
        with DataStore(server.url) as other, running(other, root, retry=True) as second:
            second.wait("asked to try")
            waited(plain_store, lambda report: report.written == 1 and not report.scans)
        with h5py.File(seen) as file:
            images = file["1.1/instrument/image/data"]
            assert len(images) == 12
            assert all((images[i] == i).all() for i in range(12))
        assert os.listdir(seen.parent) == ["large.h5"]
    assert plain_store.pins() == []
    assert os.listdir(root) == []  # it was on the other disk


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
    with writing(server, root, start=AS_ANYBODY, ends=signal.SIGINT):
        waited(plain_store, lambda report: report.running)
        scan = publish(plain_store, closed / "a.h5", 1, 1)
        publish(plain_store, root / "b.h5", 2, 1)
        report = waited(plain_store, lambda r: scan.key in r.failed and r.written == 1)
        assert "Permission denied" in report.failed[scan.key].reason
    assert list(closed.iterdir()) == []
    closed.chmod(0o700)
    with running(plain_store, root, retry=True) as writer:
        writer.wait_written(scan)
    assert plain_store.pins() == []


@contextmanager
def telling(server: TestServer, root: Path, *options: str, **popen: Any) -> Iterator[Any]:
    """The program with `--json`."""
    root.mkdir(exist_ok=True)
    command = [PROGRAM, "write", "--url", server.url, "--roots", str(root), "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **popen) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: Any, kind: str) -> dict[str, Any]:
    """The next event of that kind."""
    while True:
        event = json.loads(process.stdout.readline())
        if event["event"] == kind:
            return event


def test_scans_have_bars_on_a_terminal_and_programs_read_events_as_long_as_they_like(
    server: TestServer, plain_store: DataStore, tmp_path: Path
) -> None:
    pytest.importorskip("rich")
    root = tmp_path / "data"
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    with (
        terminal() as (screen, shown),
        telling(server, root, stderr=screen, env=environment) as process,
    ):
        waited(plain_store, lambda report: report.running)
        scan = new_scan(plain_store, root / "a.h5", npoints=30)
        counters = [scan.create_stream(name, dtype="i8") for name in ("a", "b")]
        scan.prepare()
        scan.start()
        begun = told(process, "begun")
        for counter in counters:
            counter.send(np.arange(20))
            counter.join()
        assert told(process, "progress")["expected"] == 2 * 30
        scan.stop()
        scan.close()
        written = told(process, "written")
        failed_scan = publish(plain_store, Path("/nowhere/b.h5"), 2, 0)
        failed = told(process, "failed")
        process.stdout.close()  # nobody reads any more
        other = publish(plain_store, root / "c.h5", 3, 1)
        assert process.wait(LONG_S) == 141
    assert (begun["scan"], begun["files"], begun["points"]) == (scan.key, [f"{root}/a.h5::/1.1"], 0)
    assert (written["scan"], written["points"], written["behind"]) == (scan.key, 40, 0)
    assert failed["scan"] == failed_scan.key
    assert "/nowhere/b.h5 is not below the data roots" in failed["reason"]
    report = read_report(plain_store)
    assert report is not None
    assert other.key not in report.failed
    text = shown.decode()
    assert re.search(r"(?<!/)a\.h5::/1\.1 ", text)  # without its directory, before the bar
    assert "/60" in text
    assert f"written {root}/a.h5::/1.1: 40 points" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") > 0  # the cursor is shown again


@pytest.mark.slow
def test_ctrl_c_amid_a_large_backlog_leaves_a_whole_file_that_the_next_writer_finishes(
    server: TestServer, plain_store: DataStore, tmp_path: Path
) -> None:
    images, root = 100, tmp_path / "data"
    noise = np.random.default_rng(1).integers(0, 256, (1024, 1024), "u1")
    scan = new_scan(plain_store, root / "a.h5")
    stream = scan.create_stream("image", dtype="u1", shape=noise.shape)
    scan.prepare()
    scan.start()
    for i in range(images):
        stream.send(noise + np.uint8(i))
    stream.join()
    with telling(server, root, "--compression", "gzip") as process:
        told(process, "begun")
        process.send_signal(signal.SIGINT)
        stopped = told(process, "stopped")
        assert process.wait(LONG_S) == 130
    assert os.listdir(root) == ["a.h5"]  # no journal, nothing half done
    assert [pin.scan_key for pin in plain_store.pins()] == [scan.key]
    with h5py.File(root / "a.h5") as file:
        there = file["1.1/instrument/image/data"]
        assert len(there) == stopped["points"] < images
        assert all(np.array_equal(there[i], noise + np.uint8(i)) for i in range(len(there)))
    scan.stop()
    scan.close()
    with telling(server, root, "--compression", "gzip") as process:
        assert told(process, "written")["points"] == images
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG_S) == 0
    with h5py.File(root / "a.h5") as file:
        there = file["1.1/instrument/image/data"]
        assert all(np.array_equal(there[i], noise + np.uint8(i)) for i in range(images))
    assert plain_store.pins() == []


def test_it_does_not_begin_without_roots(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BLISSDATA_DATA_ROOTS", raising=False)
    assert main(["write", "--url", str(tmp_path)]) == 2
    assert "BLISSDATA_DATA_ROOTS" in capsys.readouterr().err
    assert main(["write", "--roots", str(tmp_path / "missing"), "--url", str(tmp_path)]) == 2
    assert "not a directory" in capsys.readouterr().err
