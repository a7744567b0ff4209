"""A program that reads scan after scan as they come and checks every point.

    python reader.py '{"url": …, "log": …, "mode": "cursor" | "group" | "slices", "seed": …}'

It runs with any blissdata from 2.4 on, and ends when its standard input has ended and every scan was read.
With `"patient": true` it waits on for a publisher that is lost; with `"contested": true` somebody else may go
on in a stream.
Its journal, one JSON list a line:

    ["scan", key, number]
    ["at", key, name, n]                  the first n points were read, and are right
    ["end", key, name, n]                 read to its end: n points
    ["wrong", key, name, index, text]     a point that is not as it must be, missing, or twice
    ["told", key, name, type, text]       the reader was told that there is no more
    ["again", type]                       a call that failed and was repeated
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from contextlib import suppress

from formula import KINDS, Author

from blissdata.redis_engine.store import DataStore
from blissdata.streams import CursorGroup

options = json.loads(sys.argv[1])
with suppress(ImportError):
    from blissdata.streams import heartbeat

    heartbeat.PERIOD_S, heartbeat.LOST_AFTER_S = options["heartbeat"]
random.seed(options["seed"])
log = os.open(options["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
over = threading.Event()
PATIENCE_S = 1.0


def say(*words: object) -> None:
    os.write(log, (json.dumps([round(time.monotonic(), 3), *words]) + "\n").encode())


def wait_for_the_end() -> None:
    sys.stdin.read()
    over.set()


class WrongError(Exception):
    """It was written down what is wrong."""


class RewoundError(Exception):
    """The stream is shorter than it was: seen by who reads slices, whom no cursor tells."""


def is_passing(error) -> bool:
    names = {cls.__name__ for cls in type(error).__mro__}
    passing = {"ConnectionError", "TimeoutError", "ServerBusyError"}
    if options.get("patient"):
        passing.add("PublisherLostError")
    return bool(names & passing) or str(error).startswith(("BUSY", "LOADING", "UNBLOCKED"))


def insist(call, *arguments, **named):
    """Repeats a call that may be repeated, as a careful program would."""
    while True:
        try:
            return call(*arguments, **named)
        except Exception as error:
            if not is_passing(error):
                raise
            say("again", type(error).__name__)
            time.sleep(0.05)


class Following:
    """How far one stream was read."""

    def __init__(self, key, number, name) -> None:
        self.key, self.name = key, name
        self.author = Author(number, name, contested=options.get("contested", False))
        self.at, self.said = 0, 0.0

    def take(self, index, data) -> None:
        if index != self.at:
            say("wrong", self.key, self.name, self.at, f"points from {index} came")
            raise WrongError
        bad = self.author.check(index, data)
        if bad is not None:
            found = str(data[bad - index])[:80]
            say("wrong", self.key, self.name, bad, f"it is {found}")
            raise WrongError
        self.at += len(data)
        if len(data) and time.monotonic() - self.said > 0.05:
            self.said = time.monotonic()
            say("at", self.key, self.name, self.at)

    def end(self) -> None:
        say("at", self.key, self.name, self.at)
        say("end", self.key, self.name, self.at)

    def told(self, error) -> None:
        say("at", self.key, self.name, self.at)
        say("told", self.key, self.name, type(error).__name__, str(error))


def by_cursor(streams, following) -> None:
    lost = None
    for name, stream in streams.items():
        cursor, state = stream.cursor(), following[name]
        try:
            while True:
                view = insist(cursor.read, block=lost is None, timeout=PATIENCE_S)
                if view is None and lost is not None:
                    raise lost
                if view is not None:
                    state.take(view.index, view.get_data())
        except WrongError:
            pass
        except Exception as error:
            state.end() if type(error).__name__ == "EndOfStream" else state.told(error)
            if type(error).__name__ == "PublisherLostError":
                lost = error  # of the other streams, there is what there is


def by_group(streams, following) -> None:
    group = CursorGroup(streams)
    left = dict(streams)
    try:
        while True:
            for stream, view in insist(group.read, timeout=PATIENCE_S).items():
                following[stream.name].take(view.index, view.get_data())
    except WrongError:
        pass
    except Exception as error:
        over = type(error).__name__ == "EndOfStream"
        for name in left:
            following[name].end() if over else following[name].told(error)


def check_length(stream, at) -> None:
    length = insist(len, stream)
    if length < at:
        raise RewoundError(f"sealed with {length} points, {at} were read")


def by_slices(streams, following) -> None:
    lost = None
    for name, stream in streams.items():
        state = following[name]
        waker = stream.cursor()
        try:
            while True:
                some = random.randint(1, 3000)
                data = insist(stream.__getitem__, slice(state.at, state.at + some))
                if len(data):
                    state.take(state.at, data)
                    k = random.randrange(state.at)  # one that was read already is still the same
                    again = insist(stream.__getitem__, slice(k, k + 1))
                    if not len(again):
                        raise RewoundError(f"index {k} was read before")
                    if state.author.check(k, again) is not None:
                        say("wrong", state.key, name, k, "another point than before")
                        raise WrongError
                elif insist(stream.is_sealed) and len(stream) <= state.at:
                    check_length(stream, state.at)
                    state.end()
                    break
                elif lost is not None:
                    raise lost
                else:
                    # nothing there: the cursor waits, and is told what slices cannot tell
                    insist(waker.read, timeout=PATIENCE_S, last_only=True)
        except WrongError:
            pass
        except Exception as error:
            if type(error).__name__ != "EndOfStream":
                state.told(error)
                if type(error).__name__ == "PublisherLostError":
                    lost = error
            else:
                try:
                    rest = insist(stream.__getitem__, slice(state.at, None))
                    state.take(state.at, rest)
                    check_length(stream, state.at)
                    state.end()
                except WrongError:
                    pass
                except Exception as later:
                    state.told(later)


def follow(store, key) -> None:
    scan = insist(store.load_scan, key)
    while scan.state.value < 1:
        insist(scan.update, timeout=PATIENCE_S)
    number = scan.info["number"]
    say("scan", key, number)
    streams = {name: scan.streams[name] for name in scan.streams if name in KINDS}
    following = {name: Following(key, number, name) for name in streams}
    {"cursor": by_cursor, "group": by_group, "slices": by_slices}[options["mode"]](
        streams, following
    )


threading.Thread(target=wait_for_the_end, daemon=True).start()
store = insist(DataStore, options["url"])
since = 0
while True:
    ending = over.is_set()  # before the look: what is not there then will not come
    try:
        since, key = insist(store.get_next_scan, since=since, timeout=PATIENCE_S)
    except Exception as error:
        if type(error).__name__ != "NoScanAvailable":
            say("told", None, None, type(error).__name__, str(error))
            time.sleep(0.1)
        elif ending:
            break
        continue
    try:
        follow(store, key)
    except Exception as error:
        say("told", key, None, type(error).__name__, str(error))
say("over")
os._exit(0)
