"""Frames under gevent, monkey-patched before anything else: greenlets go on while one waits for a frame, a saver
or a server, and one that is ended in the middle leaves nothing behind that others could get."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from blissdata import DataStore
from blissdata.testing.servers import TestServer

PROGRAM = """
from gevent import monkey
monkey.patch_all()

import json, sys
import gevent
import numpy as np
from blissdata import DataStore
from blissdata.streams.frames import FrameBuffer, Saving
from tests.frames.formula import frame, is_right

SHAPE, FRAMES = (256, 256), 60
said = {"ring": 0, "server": 0, "file": 0}
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0)
gevent.spawn(tick)

store = DataStore(sys.argv[1])
saving = Saving(sys.argv[2], compression="gzip")
with FrameBuffer(SHAPE, np.uint16, 32, saving=saving, host="127.0.0.1") as buffer:
    before = ticks
    definition = buffer.definition("camera")
    said["while saver and server start"] = ticks > before
    with store.create_scan({"name": "gevent", "number": 1, "data_policy": "none"}) as scan:
        scan.create_stream(definition)
        scan.prepare()
        scan.start()
        key = scan.key

        def follow():
            stream = store.load_scan(key).streams["camera"]
            return sum(
                is_right(one, view.index + i) for view in stream.cursor() for i, one in enumerate(view)
            )

        def put():
            for index in range(FRAMES):
                buffer.put(frame(index, SHAPE))
                gevent.sleep(0)

        reader = gevent.spawn(follow)
        with gevent.Timeout(60):
            gevent.spawn(put).get()
            before = ticks
            scan.stop()
            said["while frames are saved"] = ticks > before
            said["followed"] = reader.get()
        here = store.load_scan(key).streams["camera"]
        said["ring"] = sum(is_right(here[i], i) for i in range(FRAMES - 32, FRAMES))
        elsewhere = store.load_scan(key).streams["camera"]
        elsewhere._no_ring = "it is elsewhere"
        before = ticks
        said["server"] = sum(is_right(elsewhere[i], i) for i in range(FRAMES - 32, FRAMES))
        said["while the server answers"] = ticks > before
        for _ in range(20):  # ended anywhere in the middle
            victim = gevent.spawn(lambda: elsewhere[FRAMES - 30:])
            gevent.sleep(0)
            victim.kill()
            said["server"] -= not is_right(elsewhere[FRAMES - 1], FRAMES - 1)
        said["from the server"] = elsewhere.fetched["server"] >= 32
later = store.load_scan(key).streams["camera"]
said["file"] = sum(is_right(one, i) for i, one in enumerate(later))
store.close()
print(json.dumps(said))
"""


@pytest.mark.slow
def test_frames_are_put_saved_served_and_read_among_greenlets(
    server: TestServer, tmp_path: Path
) -> None:
    DataStore(server.url, init_db=True).close()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, server.url, str(tmp_path / "run.h5")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "while saver and server start": True,
        "while frames are saved": True,
        "while the server answers": True,
        "followed": 60,
        "ring": 32,
        "server": 32,
        "from the server": True,
        "file": 60,
    }
    assert not done.stderr
