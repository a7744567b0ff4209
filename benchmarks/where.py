"""`python -m benchmarks.where`: where the points of a thousand streams are, asked as a display asks.

Processor time, that of the asking program and that of the server, for one question about all streams and
for putting the answer into JSON. Asked ten times a second, 100 ms of either would be a whole processor; a
question may take half of one, and a quarter of the server's. For comparison, each stream asked by itself.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np

from blissdata import DataStore
from blissdata.streams import availability_of
from blissdata.streams.hdf5_fallback import Hdf5BackedStream
from blissdata.testing.servers import TestServer

STREAMS = 1000
ROUNDS = 20
MOST_OURS_MS = 50.0
MOST_SERVER_MS = 25.0

IDENTITY = {"name": "benchmark", "number": 1, "data_policy": "none"}


def main() -> int:
    """The exit code: 1 if a question costs more than it may."""
    print(f"{STREAMS} streams, one question, processor time")
    print(f"{'streams':38}{'asking [ms]':>12}{'JSON [ms]':>11}{'server [ms]':>13}")
    worst = [0.0, 0.0]
    with tempfile.TemporaryDirectory() as directory:
        for name, ours, as_json, server in measured(Path(directory) / "scan.h5"):
            print(f"{name:38}{ours:12.1f}{as_json:11.1f}{server:13.1f}", flush=True)
            if "by itself" not in name:
                worst = [max(worst[0], ours + as_json), max(worst[1], server)]
    return int(worst[0] > MOST_OURS_MS or worst[1] > MOST_SERVER_MS)


def measured(path: Path) -> Any:
    """For each kind of streams the name, and milliseconds a question."""
    with TestServer() as server, DataStore(server.url, init_db=True) as store:
        with store.create_scan(IDENTITY) as scan:
            writers = [scan.create_stream(f"s{i}", dtype="f8") for i in range(STREAMS)]
            scan.prepare()
            publish(writers, 1.0)
            streams = list(store.load_scan(scan.key).streams.values())
            yield "plain, a point", *asked(store, streams)
            yield "the same, each by itself", *asked(store, streams, one_by_one, rounds=3)
            for _ in range(5):
                publish(writers, np.arange(2000.0))
            yield "plain, entries of 16 KiB", *asked(store, streams)
        with store.create_scan({**IDENTITY, "path": str(path)}) as scan:
            make = Hdf5BackedStream.make_definition
            writers = [
                scan.create_stream(make(f"s{i}", path, f"/1.1/s{i}", "f8")) for i in range(STREAMS)
            ]
            scan.prepare()
            publish(writers, np.arange(100.0))
            streams = list(store.load_scan(scan.key).streams.values())
            with h5py.File(path, "w") as file:
                for i in range(STREAMS):
                    file.create_dataset(
                        f"/1.1/s{i}", data=np.arange(1.0, 51), maxshape=(None,), chunks=(512,)
                    )
                file.flush()

                def go_on() -> None:
                    file["/1.1/s0"].resize((len(file["/1.1/s0"]) + 1,))
                    file.flush()
                    time.sleep(0.1)

                yield "in a file that is being written", *asked(store, streams, before=go_on)
            os.utime(path, (0, 0))
            one_by_one(streams)  # each looks at it once more
            yield "in a file that is finished", *asked(store, streams)


def publish(writers: list[Any], points: Any) -> None:
    for writer in writers:
        writer.send(points)
    for writer in writers:
        writer.join()


def one_by_one(streams: list[Any]) -> dict[Any, Any]:
    return {stream: stream.availability() for stream in streams}


def asked(
    store: DataStore,
    streams: list[Any],
    ask: Callable[[list[Any]], dict[Any, Any]] = availability_of,
    before: Callable[[], None] | None = None,
    rounds: int = ROUNDS,
) -> tuple[float, float, float]:
    """Milliseconds of our processor for the question and for the JSON, and of the server's."""
    found = ask(streams)
    ours, as_json, servers = [], [], []
    for _ in range(rounds):
        if before is not None:
            before()
        began, used = time.process_time(), processor(store)
        found = ask(streams)
        ours.append(time.process_time() - began)
        servers.append(processor(store) - used)
        began = time.process_time()
        json.dumps([one.as_json() for one in found.values()])
        as_json.append(time.process_time() - began)
    # The server counts its processor's time in steps: their mean is meant.
    return 1000 * median(ours), 1000 * median(as_json), 1000 * sum(servers) / rounds


def processor(store: DataStore) -> float:
    """The server's processor time so far [s]."""
    found = store._redis.info("cpu")
    return float(found["used_cpu_user"] + found["used_cpu_sys"])


if __name__ == "__main__":
    sys.exit(main())
