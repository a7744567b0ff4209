"""A program that knows NeXus opens what the writer wrote, and finds what is to be plotted."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tests.clients.environments import environment
from tests.writer.kit import new_scan, running

from blissdata import DataStore

READER = """
import json, sys
from nexusformat.nexus import nxload
with nxload(sys.argv[1]) as root:
    entry = root[root.attrs["default"]]
    plot = entry[entry.attrs["default"]]
    print(json.dumps({
        "class": [root.nxclass, entry.nxclass, plot.nxclass],
        "title": str(entry.nxtitle),
        "signal": [plot.nxsignal.nxname, plot.nxsignal.nxdata.tolist()],
        "axes": [[axis.nxname, axis.nxdata.tolist()] for axis in plot.nxaxes],
        "units": entry["instrument/diode/data"].attrs["units"],
        "image": list(entry["instrument/camera/data"].shape),
        "plottable": plot.is_plottable(),
        "end": bool(str(entry["end_time"])),
    }))
"""


@pytest.mark.environments
def test_nexusformat_opens_the_file(plain_store: DataStore, tmp_path: Path) -> None:
    path = tmp_path / "a.nxs"
    x, y = np.linspace(0, 1, 11), np.linspace(0, 1, 11) ** 2
    with running(plain_store, tmp_path) as writer:
        info = {
            "title": "ascan sx 0 1 10",
            "channels": {"axis:sx": {"dim": 0, "unit": "mm"}, "diode": {"dim": 0, "unit": "A"}},
        }
        with new_scan(plain_store, path, **info) as scan:
            sx = scan.create_stream("axis:sx", dtype="f8")
            diode = scan.create_stream("diode", dtype="f8")
            camera = scan.create_stream("camera", dtype="u2", shape=(8, 9))
            scan.prepare()
            scan.start()
            sx.send(x)
            diode.send(y)
            camera.send(np.zeros((11, 8, 9), "u2"))
        writer.wait_written(scan)
    command = [str(environment("nexusformat")), "-c", READER, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {
        "class": ["NXroot", "NXentry", "NXdata"],
        "title": "ascan sx 0 1 10",
        "signal": ["diode", y.tolist()],
        "axes": [["sx", x.tolist()]],
        "units": "A",
        "image": [11, 8, 9],
        "plottable": True,
        "end": True,
    }
