"""Programs under gevent, monkey-patched before anything else, as BLISS and its clients run.

One program with real gevent does all that a beamline's does, and tells what it saw: while a greenlet
waits in any of our calls the others go on; greenlets that are ended or timed out leave the connections
as they should be; a fork at a quiet moment writes and ends; what was sent is there when the program has ended.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from blissdata import DataStore
from blissdata.testing.servers import TestServer

PROGRAM = """
from gevent import monkey
monkey.patch_all()

import json, os, sys
import gevent
import numpy as np
from blissdata import DataStore
from blissdata.streams import CursorGroup
from blissdata.streams.default import Stream

IDENTITY = {"name": "gevent", "number": 1, "data_policy": "none"}
LONG = 60
store = DataStore(sys.argv[1])
said = {}

def until(condition):
    with gevent.Timeout(LONG):
        while not condition():
            gevent.sleep(0.001)

ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0)

def waiting(call):
    # A greenlet in a call that waits, once all others have been seen to go on beside it.
    greenlet = gevent.spawn(call)
    start = ticks
    until(lambda: ticks > start + 50)
    assert not greenlet.dead
    return greenlet

gevent.spawn(tick)

next_scan = waiting(lambda: store.get_next_scan(since="0-0", timeout=LONG))
scan = store.create_scan(IDENTITY)
said["next_scan"] = next_scan.get()[1] == scan.key
x, y = (scan.create_stream(Stream.make_definition(name, float)) for name in "xy")
created = store.load_scan(scan.key)
update = waiting(lambda: created.update(timeout=LONG))
scan.prepare()
said["update"] = update.get()

copy = store.load_scan(scan.key)
cursor, group = copy.streams["x"].cursor(), CursorGroup(copy.streams)
reading = [waiting(lambda: len(cursor.read(timeout=LONG)) > 0),
           waiting(lambda: [s.name for s in group.read(timeout=LONG)])]

def send(value):
    for _ in range(100):
        x.send(np.full(5, value))
        gevent.sleep(0)

gevent.joinall([gevent.spawn(send, float(i)) for i in range(4)], raise_error=True)
x.join()
said["reading"] = [greenlet.get() for greenlet in reading]
said["counts"] = np.unique(copy.streams["x"][:], return_counts=True)[1].tolist()

# Ended in the middle of a call that waits: the connection must not give its late reply to another.
for _ in range(5):
    victim = waiting(lambda: store.get_next_scan(timeout=LONG))
    victim.kill()
    assert store.get_scans_state([scan.key]) == {scan.key: 1}
with gevent.Timeout(0.05, False):
    y.cursor().read()
said["states"] = list(store.get_scans_state([scan.key]).values())

# A fork copies the greenlets too: one that waits on a socket would go on in both processes. So
# programs fork while none waits.
pid = os.fork()
if pid == 0:
    try:
        with DataStore(sys.argv[1]) as other:
            writer = other.load_scan(scan.key).get_writer_stream("y")
            writer.send(5.0)
            writer.join()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
said["fork"] = os.waitpid(pid, 0)[1]
said["y"] = copy.streams["y"][:].tolist()

sealed = waiting(lambda: copy.streams["x"].wait_seal(LONG))
scan.start()
scan.stop()
said["sealed"] = sealed.get()
scan.close()
last = store.create_scan(IDENTITY)
last.create_stream(Stream.make_definition("late", float)).send(np.arange(1000.0))
last.prepare()
said["last"] = last.key
print(json.dumps(said), flush=True)
"""


def run(url: str) -> dict[str, Any]:
    """What the program says of itself."""
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", PROGRAM, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("kind", ["server", "stack_server"])
def test_a_program_under_gevent_publishes_and_reads(
    kind: str, request: pytest.FixtureRequest
) -> None:
    server: TestServer = request.getfixturevalue(kind)
    with DataStore(server.url, init_db=True) as store:
        said = run(server.url)
        last = store.load_scan(said.pop("last"))
        assert len(last.streams["late"]) == 1000, "points were lost at the end of the program"
    assert said == {
        "next_scan": True,
        "update": True,
        "reading": [True, ["x"]],
        "counts": [500, 500, 500, 500],
        "states": [1],
        "fork": 0,
        "y": [5.0],
        "sealed": True,
    }
