"""A program that publishes scan after scan and writes down what it was confirmed.

    python publisher.py '{"url": …, "log": …, "seed": …}'

It runs with any blissdata from 2.4 on. It ends its scan and itself when its standard input ends. The
journal has one JSON list a line, written before the next thing happens:

    ["scan", key, number]            a scan that has begun
    ["confirmed", key, name, n]      join() returned: the stream has at least n points
    ["sealed", key, name, n]         the stream has n points for good
    ["told", key, name, type, text]  what the publisher was told instead
    ["again", what, type]            a call that failed and was repeated
    ["closed", key]
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from contextlib import suppress

from formula import KINDS, points, salt

from blissdata.redis_engine.store import DataStore
from blissdata.streams.default import Stream

GIVE_UP_S = 90.0
PASSING = {
    "ConnectionError",
    "TimeoutError",
    "ServerFullError",
    "ServerBusyError",
    "OutOfMemoryError",
    "ReadOnlyError",
    "BusyLoadingError",
}
PASSING_WORDS = (
    "OOM",
    "command not allowed when used memory",
    "MISCONF",
    "READONLY",
    "NOREPLICAS",
    "BUSY",
    "LOADING",
)
"""What the server's own words for a trouble that passes begin with, where the client has no class for it."""

options = json.loads(sys.argv[1])
with suppress(ImportError):
    from blissdata.streams import heartbeat

    heartbeat.PERIOD_S, heartbeat.LOST_AFTER_S = options["heartbeat"]
random.seed(options["seed"])
log = os.open(options["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
over = threading.Event()


def say(*words: object) -> None:
    os.write(log, (json.dumps([round(time.monotonic(), 3), *words]) + "\n").encode())


def wait_for_the_end() -> None:
    sys.stdin.read()
    over.set()


def insist(what, call):
    """Repeats a call that may be repeated, as a careful program would."""
    deadline = time.monotonic() + GIVE_UP_S
    while True:
        try:
            return call()
        except Exception as error:
            if time.monotonic() > deadline or not is_passing(error):
                raise
            say("again", what, type(error).__name__)
            time.sleep(0.1)


def is_passing(error) -> bool:
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & PASSING) or str(error).startswith(PASSING_WORDS)


def publish(store, number: int) -> None:
    identity = {"name": "faults", "number": number, "data_policy": "none"}
    extra = {"durability": options["durability"]} if options.get("durability") else {}
    scan = insist("create", lambda: store.create_scan(identity, {"number": number}, **extra))
    streams, ends, salts = {}, {}, {}
    for name in options["streams"]:
        dtype, shape = KINDS[name]
        definition = Stream.make_definition(
            name, dtype, **({} if shape is None else {"shape": shape})
        )
        streams[name] = scan.create_stream(definition)
        ends[name], salts[name] = 0, salt(number, name)
    say("scan", scan.key, number)
    failed = set()
    try:
        for step in ("PREPARED", "STARTED"):
            advance(scan, step)
        send_all(scan, streams, ends, salts, failed)
        for name, stream in streams.items():
            if name not in failed and random.random() < 0.5:
                try:
                    say("sealed", scan.key, name, insist("seal", stream.seal))
                except Exception as error:
                    say("told", scan.key, name, type(error).__name__, str(error))
                    failed.add(name)
        advance(scan, "STOPPED")
        for name in streams:
            if name not in failed:
                say("sealed", scan.key, name, ends[name])
    except Exception as error:
        say("told", scan.key, None, type(error).__name__, str(error))
    try:
        advance(scan, "CLOSED")
        say("closed", scan.key)
    except Exception as error:
        say("told", scan.key, None, type(error).__name__, str(error))


STEPS = {"PREPARED": "prepare", "STARTED": "start", "STOPPED": "stop", "CLOSED": "close"}


def advance(scan, state: str) -> None:
    """A step whose reply was lost may have been done: the scan says so."""

    def step():
        if scan.state.name != state:
            try:
                getattr(scan, STEPS[state])()
            except Exception:
                if scan.state.name != state:
                    raise

    insist(STEPS[state], step)


def send_all(scan, streams, ends, salts, failed) -> None:
    until = time.monotonic() + random.uniform(*options["scan_s"])
    names = list(streams)
    while not over.is_set() and time.monotonic() < until and len(failed) < len(names):
        name = random.choice(names)
        if name in failed:
            continue
        try:
            burst = 1 if name in ("frame", "json") else random.choice((1, 1, 5, 50, 500))
            found = points(name, salts[name], ends[name], ends[name] + burst)
            if name not in ("fast", "slow", "json") and random.random() < 0.3:
                streams[name].send(found)  # a batch
                ends[name] += burst
            else:
                for point in found:
                    streams[name].send(point)
                    ends[name] += 1
            if random.random() < 0.15:
                streams[name].join()
                say("confirmed", scan.key, name, ends[name])
        except Exception as error:
            say("told", scan.key, name, type(error).__name__, str(error))
            failed.add(name)
        if random.random() < options.get("rest", 0.3):
            time.sleep(random.uniform(0, 0.01))


threading.Thread(target=wait_for_the_end, daemon=True).start()
store = insist("open", lambda: DataStore(options["url"]))
number = options.get("first", 1)
while not over.is_set():
    publish(store, number)
    number += 1
say("over")
if hasattr(store, "close"):
    try:
        store.close()
    except Exception as error:
        say("told", None, None, type(error).__name__, str(error))
