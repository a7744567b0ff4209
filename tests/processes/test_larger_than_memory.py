"""An acquisition of four times the server's memory: nobody who reads it notices.

    publisher ──► server (limit) ──► reader from the start, reader that begins at the end
                    │   ▲                 ▲
                    ▼   │ tracker         │ old points
                  writer ──► HDF5 file ───┘◄── reader that comes afterwards
                  (killed and started again half-way)

Points are protected for some seconds, in which the writer must save them; the publisher waits where the
limit would not allow it to go on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blissdata import DataStore
from blissdata.streams.hdf5_fallback import Hdf5BackedStream
from blissdata.testing.servers import TestServer

MB = 1 << 20
LIMIT_MB = int(os.environ.get("BLISSDATA_TEST_LIMIT_MB", "64"))
POINT = 1 << 16  # float64: half a megabyte
POINTS = 4 * LIMIT_MB * MB // (POINT * 8)
PROTECTED_S = 2
LONG_S = 300.0

WRITER = """
import sys, h5py, numpy as np
from blissdata import DataStore
url, key, path = sys.argv[1:]
with DataStore(url) as store:
    stream = store.load_scan(key).streams["images"]
    with h5py.File(path, "a") as file:
        if "images" not in file:
            shape = stream.shape
            file.create_dataset("images", (0, *shape), "f8", maxshape=(None, *shape), chunks=(1, *shape))
        saved = file["images"]
        print("open", flush=True)
        cursor = stream.cursor()
        for view in cursor:
            have = len(saved)
            if view.last_index < have:
                continue
            start = max(have - view.index, 0)
            points = view.get_data(start)
            saved.resize(view.last_index + 1, axis=0)
            saved[view.index + start:] = points
            file.flush()
print("complete", flush=True)
"""

READER = """
import json, sys, numpy as np
from blissdata import DataStore
from blissdata.streams.hdf5_fallback import stream as module
url, key, when = sys.argv[1:]
from_file = 0
with DataStore(url) as store:
    scan = store.load_scan(key)
    stream = scan.streams["images"]
    stream.file_timeout = 120
    really = stream._read_file
    def counting(start, stop):
        global from_file
        from_file += stop - start
        return really(start, stop)
    stream._read_file = counting
    print("open", flush=True)
    cursor = stream.cursor()
    wrong = seen = first = 0
    if when == "end":
        first = cursor.read(last_only=True).index
        seen = 1
    for view in cursor:
        points = view.get_data()
        expected = np.arange(view.index, view.index + len(view), dtype=float)
        wrong += int((points[:, 0] != expected).sum() + (points[:, -1] != expected).sum())
        seen += len(view)
    old = stream[: first]
    wrong += int((old[:, 0] != np.arange(first)).sum())
    seen += len(old)
print(json.dumps({"seen": seen, "wrong": wrong, "from_file": from_file}), flush=True)
"""


def run(program: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def result(process: subprocess.Popen[str]) -> Any:
    out, _ = process.communicate(timeout=LONG_S)
    assert process.returncode == 0
    return json.loads(out)


@pytest.mark.slow
@pytest.mark.timeout(LONG_S)
def test_readers_of_an_acquisition_larger_than_memory_notice_nothing(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    identity = {"name": "timescan", "number": 1, "data_policy": "none", "path": str(path)}
    began = time.monotonic()
    with (
        TestServer(maxmemory=f"{LIMIT_MB}mb") as server,
        DataStore(server.url, init_db=True, publish_timeout=LONG_S) as store,
    ):
        command = [sys.executable, "-m", "blissdata.redis_engine.memory_tracker"]
        options = ["--redis-url", server.url, "--protected-history", str(PROTECTED_S)]
        tracker = subprocess.Popen(command + options, stdout=subprocess.PIPE, text=True)
        most = 0
        with store.create_scan(identity) as scan:
            stream = scan.create_stream(
                Hdf5BackedStream.make_definition("images", path, "/images", "f8", (POINT,))
            )
            scan.prepare()
            scan.start()
            writer = run(WRITER, server.url, scan.key, str(path))
            readers = {"start": run(READER, server.url, scan.key, "start")}
            image = np.empty(POINT)
            for i in range(POINTS):
                image[:] = i
                stream.send(image)
                if i % 8 == 0:
                    stream.join()
                    most = max(most, store.backend.used_memory())
                if i == POINTS // 2:
                    writer.kill()
                    writer.communicate()
                    writer = run(WRITER, server.url, scan.key, str(path))
                    readers["end"] = run(READER, server.url, scan.key, "end")
            scan.stop()
        out, _ = writer.communicate(timeout=LONG_S)
        assert out == "complete\n"
        readers["afterwards"] = run(READER, server.url, scan.key, "start")
        found = {name: result(reader) for name, reader in readers.items()}
        tracker.send_signal(signal.SIGTERM)
        said, _ = tracker.communicate(timeout=60)
    print(
        f"{POINTS} points, {POINTS * POINT * 8 // MB} MB, limit {LIMIT_MB} MB, at most "
        f"{most / MB:.1f} MB used, {time.monotonic() - began:.1f} s, "
        f"{said.count('Trimmed')} times trimmed; {found}"
    )
    for name, what in found.items():
        assert what["wrong"] == 0, name
        assert what["seen"] == POINTS, name
    assert found["afterwards"]["from_file"] > POINTS // 2
    assert most <= (LIMIT_MB + 8) * MB
    assert "Trimmed" in said
