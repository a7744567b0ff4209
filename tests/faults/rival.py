"""A program that writes into streams that somebody else is writing, and writes down what it was told.

    python rival.py '{"url": …, "log": …, "seed": …}'

For each line on its standard input it opens one stream of the newest scan at its present end, waits for an
instant, and sends on from there. Its journal, one JSON list a line:

    ["opened", key, name, n]          it begins at index n
    ["confirmed", key, name, n]       join() returned: the stream has at least n points
    ["told", key, name, type, text]   what it was told instead
"""

from __future__ import annotations

import json
import os
import random
import sys
import time

from formula import KINDS, points, salt

from blissdata import DataStore, ScanState
from blissdata.exceptions import BlissdataError

options = json.loads(sys.argv[1])
random.seed(options["seed"])
log = os.open(options["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def say(*words: object) -> None:
    os.write(log, (json.dumps([round(time.monotonic(), 3), *words]) + "\n").encode())


def write_beside(store: DataStore, taken: set[tuple[str, str]]) -> None:
    scan = store.load_scan(store.get_last_scan()[1])
    if not ScanState.PREPARED <= scan.state <= ScanState.STARTED:
        return
    free = [name for name in scan.streams if name in KINDS and (scan.key, name) not in taken]
    if not free:
        return
    name = random.choice(free)
    stream = scan.get_writer_stream(name)
    at = stream.event_stream.sink.accepted
    taken.add((scan.key, name))
    say("opened", scan.key, name, at)
    time.sleep(random.choice((0, 0, random.uniform(0, 0.05))))
    number = salt(scan.info["number"], name, writer=1)
    try:
        for _ in range(random.randint(1, 5)):
            count = random.randint(1, 50)
            for point in points(name, number, at, at + count):
                stream.send(point)
            at += count
            stream.join()
            say("confirmed", scan.key, name, at)
    except Exception as error:
        say("told", scan.key, name, type(error).__name__, str(error))


with DataStore(options["url"]) as store:
    taken: set[tuple[str, str]] = set()
    say("ready")
    for _ in sys.stdin:
        try:
            write_beside(store, taken)
        except BlissdataError as error:  # the scan is over, or gone
            say("again", type(error).__name__)
say("over")
os._exit(0)
