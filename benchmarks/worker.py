"""The work that is measured, for any package that is called blissdata: ours and 2.x run the same file.

Started with a server's URL; reads one JSON object a line, `{"work": name, …arguments}`, and answers
with one: `{"value": …}` or `{"error": …}`. Imports nothing of this repository.
"""

import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import threading
import time

import numpy as np

from blissdata.exceptions import EndOfStream
from blissdata.redis_engine.store import DataStore
from blissdata.streams import CursorGroup
from blissdata.streams.default import Stream

FRAME = (1024, 1024)
FRAME_NBYTES = 2 * 2**20
FIRST_NUMBER = 1_000_000
"""Number of the first scan that is made to be found; no other scan has such a one."""


class Worker:
    """What one package does on one server."""

    def __init__(self, url):
        self.url = url
        self.store = DataStore(url)
        self.kept = {}

    def prepared(self, streams, dtype="float64", shape=(), number=1, name="bench"):
        """A started scan with so many streams."""
        identity = {"name": name, "number": number, "data_policy": "none"}
        scan = self.store.create_scan(identity, info={})
        made = [
            scan.create_stream(Stream.make_definition(f"s{i}", dtype, shape))
            for i in range(streams)
        ]
        scan.prepare()
        scan.start()
        return scan, made

    def forget(self, scan):
        """Ends a scan, and frees the server's memory at once."""
        keys = [stream.key for stream in scan.streams.values()]
        if scan.state < 4:
            scan.close()
        self.store.delete_scan(scan.key)
        for i in range(0, len(keys), 500):
            self.store._redis.unlink(*keys[i : i + 500])

    # ------------------------------------------------------------------------------ publishing

    def send(self, streams, points):
        """Scalar sends per second, one after the other over all streams, until all have arrived."""
        scan, made = self.prepared(streams)
        sends = [stream.send for stream in made]
        value = np.float64(1.5)
        begin = time.perf_counter()
        for _ in range(points // streams):
            for send in sends:
                send(value)
        for stream in made:
            stream.join()
        took = time.perf_counter() - begin
        self.forget(scan)
        return points / took

    def bytes_per_point(self, points):
        """Memory that the server needs for a scalar point sent at full rate, beyond the 8 bytes that
        the point has [bytes]."""
        scan, (stream,) = self.prepared(1)
        value = np.float64(1.5)
        for _ in range(points):
            stream.send(value)
        stream.join()
        used = self.store._redis.memory_usage(stream.key, samples=0)
        self.forget(scan)
        return used / points - value.nbytes

    def write_frames(self, frames):
        """Frames of 2 MiB through the event, until all have arrived [MB/s]."""
        scan, (stream,) = self.prepared(1, "uint16", FRAME)
        frame = np.arange(FRAME[0] * FRAME[1], dtype="uint16").reshape(FRAME)
        begin = time.perf_counter()
        for _ in range(frames):
            stream.send(frame)
        stream.join()
        took = time.perf_counter() - begin
        self.forget(scan)
        return frames * FRAME_NBYTES / took / 1e6

    def many_streams(self, streams):
        """A scan of many streams: open, one point each, close [s]; threads and connections more."""
        threads, connections = threading.active_count(), self.connections()
        value = np.float64(1.5)
        begin = time.perf_counter()
        scan, made = self.prepared(streams)
        for stream in made:
            stream.send(value)
        more = (threading.active_count() - threads, self.connections() - connections)
        scan.stop()
        scan.close()
        took = time.perf_counter() - begin
        self.forget(scan)
        return {"seconds": took, "threads": more[0], "connections": more[1]}

    def connections(self):
        """How many sockets this process has open."""
        links = os.listdir("/proc/self/fd")
        found = 0
        for link in links:
            with contextlib.suppress(OSError):
                found += os.readlink(f"/proc/self/fd/{link}").startswith("socket:")
        return found

    def memory(self, streams):
        """What a publisher needs for many open streams with one point each, a new process [MB]."""
        return child(self.url, {"work": "memory_here", "streams": streams})

    def memory_here(self, streams):
        """As `memory`, in this process."""
        before = resident()
        scan, made = self.prepared(streams)
        for stream in made:
            stream.send(np.float64(1.5))
        for stream in made:
            stream.join()
        used = resident() - before
        self.forget(scan)
        return used / 1e6

    # ------------------------------------------------------------------------------ reading

    def keep(self, name, streams, points, dtype="float64", shape=()):
        """Publishes a scan, one `send` a point, for others to read; gives its key."""
        scan, made = self.prepared(streams, dtype, shape)
        if shape:
            values = [np.full(shape, i, dtype) for i in range(points)]
        else:
            values = np.arange(points, dtype=dtype)
        for value in values:
            for stream in made:
                stream.send(value)
        scan.stop()
        scan.close()
        self.kept[name] = scan
        return scan.key

    def drop(self, name):
        """Forgets what `keep` made."""
        self.forget(self.kept.pop(name))

    def slice(self, key):
        """A slice over everything [points/s]."""
        (stream,) = self.store.load_scan(key).streams.values()
        begin = time.perf_counter()
        points = stream[:]
        took = time.perf_counter() - begin
        check(points)
        return len(points) / took

    def cursor(self, key):
        """A cursor from the first to the last point [points/s]."""
        (stream,) = self.store.load_scan(key).streams.values()
        cursor = stream.cursor()
        views = []
        begin = time.perf_counter()
        try:
            while True:
                views.append(cursor.read().get_data())
        except EndOfStream:
            pass
        took = time.perf_counter() - begin
        points = np.concatenate(views)
        check(points)
        return len(points) / took

    def group(self, key):
        """A cursor group from the first to the last point of all streams [points/s]."""
        streams = self.store.load_scan(key).streams
        group = CursorGroup(streams)
        points = 0
        begin = time.perf_counter()
        try:
            while True:
                for view in group.read().values():
                    points += len(view.get_data())
        except EndOfStream:
            pass
        return points / (time.perf_counter() - begin)

    def index(self, key, reads):
        """Single points by index, at random [reads/s]."""
        (stream,) = self.store.load_scan(key).streams.values()
        rng = random.Random(1)
        length = len(stream)
        wanted = [rng.randrange(length) for _ in range(reads)]
        begin = time.perf_counter()
        found = [stream[i] for i in wanted]
        took = time.perf_counter() - begin
        if found != wanted:
            raise ValueError("wrong points")
        return reads / took

    def read_frames(self, key):
        """Frames of 2 MiB by a cursor [MB/s]."""
        (stream,) = self.store.load_scan(key).streams.values()
        cursor = stream.cursor()
        nbytes = seen = 0
        begin = time.perf_counter()
        try:
            while True:
                frames = cursor.read().get_data()
                nbytes += frames.nbytes
                for frame in frames:
                    if frame[-1, -1] != seen:
                        raise ValueError(f"frame {seen} is another one")
                    seen += 1
        except EndOfStream:
            pass
        return nbytes / (time.perf_counter() - begin) / 1e6

    # ------------------------------------------------------------------------------ latency

    def latency(self, points, period):
        """From `send` to a blocked reader in another process [ms], a send every `period` [s]."""
        scan, (stream,) = self.prepared(1)
        reader = begun(self.url, {"work": "follow", "key": scan.key})
        reader.stdout.readline()  # it is about to read
        for _ in range(points):
            time.sleep(period)
            stream.send(np.float64(time.monotonic()))
        scan.stop()
        scan.close()
        answer = json.loads(reader.stdout.readline())
        end(reader)
        self.forget(scan)
        return answer["value"]

    def follow(self, key):
        """Reads until the end; how long points took that hold the time of their sending [ms]."""
        (stream,) = self.store.load_scan(key).streams.values()
        cursor = stream.cursor()
        say({"value": "ready"})
        took = []
        try:
            while True:
                view = cursor.read()
                now = time.monotonic()
                took += [now - sent for sent in view.get_data()]
        except EndOfStream:
            pass
        took.sort()
        return {"p50": took[len(took) // 2] * 1e3, "p99": took[int(len(took) * 0.99)] * 1e3}

    def load(self, rate, streams):
        """Publishes at a rate [sends/s] until the next line comes."""
        scan, made = self.prepared(streams)
        say({"value": "ready"})
        stop = threading.Event()

        def wait():
            sys.stdin.readline()
            stop.set()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        sends = [stream.send for stream in made]
        value = np.float64(1.5)
        begin = time.perf_counter()
        sent = 0
        while not stop.is_set():
            due = int((time.perf_counter() - begin) * rate)
            while sent < due:
                sends[sent % streams](value)
                sent += 1
            time.sleep(0.001)
        took = time.perf_counter() - begin
        self.forget(scan)
        return sent / took

    # ------------------------------------------------------------------------------ scans

    def life(self, scans):
        """Scans from create to close, without streams [scans/s]."""
        keys = []
        begin = time.perf_counter()
        for i in range(scans):
            identity = {"name": "life", "number": i, "data_policy": "none"}
            scan = self.store.create_scan(identity, info={"title": "life"})
            scan.prepare()
            scan.start()
            scan.stop()
            scan.close()
            keys.append(scan.key)
        took = time.perf_counter() - begin
        self.remove(keys)
        return scans / took

    def remove(self, keys):
        """Deletes scans, and removes them from the server at once."""
        for key in keys:
            self.store.delete_scan(key)
        for i in range(0, len(keys), 500):
            self.store._redis.unlink(*keys[i : i + 500])

    def make_scans(self, scans):
        """Scans to be found; none of them has a stream."""
        self.kept_scans = []
        for i in range(scans):
            identity = {
                "name": f"scan{i % 7}",
                "number": FIRST_NUMBER + i,
                "data_policy": "none",
                "session": f"s{i % 10}",
            }
            scan = self.store.create_scan(identity, info={"title": "scan"})
            scan.prepare()
            scan.start()
            scan.stop()
            scan.close()
            self.kept_scans.append(scan.key)
        return self.kept_scans

    def remove_scans(self):
        """Removes what `make_scans` made."""
        self.remove(self.kept_scans)

    def load_scans(self, keys):
        """Scans loaded one after the other [scans/s]."""
        begin = time.perf_counter()
        for key in keys:
            self.store.load_scan(key)
        return len(keys) / (time.perf_counter() - begin)

    def states(self, keys, times):
        """The states of many scans at once [scans/s]."""
        begin = time.perf_counter()
        for _ in range(times):
            states = self.store.get_scans_state(keys)
        took = time.perf_counter() - begin
        if len(states) != len(keys):
            raise ValueError(f"{len(states)} states of {len(keys)} scans")
        return len(keys) * times / took

    def search(self, times, found):
        """Searches among the scans of `make_scans` [searches/s]: that find a tenth of them, asked for the
        first time and again and again; and that find one."""
        begin = time.perf_counter()
        for i in range(10):
            _, keys = self.store.search_existing_scans(session=f"s{i}")
        new = 10 / (time.perf_counter() - begin)
        begin = time.perf_counter()
        for _ in range(times):
            _, keys = self.store.search_existing_scans(session="s3")
        again = times / (time.perf_counter() - begin)
        if len(keys) != found:
            raise ValueError(f"found {len(keys)} scans, expected {found}")
        begin = time.perf_counter()
        for i in range(times):
            _, keys = self.store.search_existing_scans(number=FIRST_NUMBER + i)
            if len(keys) != 1:
                raise ValueError(f"found {len(keys)} scans, expected one")
        one = times / (time.perf_counter() - begin)
        return {"search": again, "search_new": new, "search_one": one}


def check(points):
    """The points are those that `keep` published."""
    if not np.array_equal(points, np.arange(len(points))):
        raise ValueError("wrong points")


def resident():
    """Memory of this process [bytes]."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def begun(url, request):
    """Another process like this one, at work."""
    process = subprocess.Popen(
        [sys.executable, __file__, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return process


def end(process):
    """Waits for the end of one that `begun` began."""
    process.stdin.close()
    process.wait()
    process.stdout.close()


def child(url, request):
    """What another process like this one answers."""
    process = begun(url, request)
    answer = json.loads(process.stdout.readline())
    end(process)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["value"]


def say(answer):
    """One line to whoever asked."""
    print(json.dumps(answer), flush=True)


def main():
    """Answers until there are no more questions."""
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        try:
            say({"value": getattr(worker, request.pop("work"))(**request)})
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
