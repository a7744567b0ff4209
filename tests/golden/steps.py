"""What is published for the captures of protocol 1: by blissdata 2.4.5 once, by ours in every test.

    python steps.py redis://…      prints what the scans are called, as JSON

It uses names alone that both have, and waits after every point, so that each `send` is one entry. The
server must be empty. `tests/golden/capture.py` runs it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import numpy as np

__all__ = ["PLUGINS", "POINTS", "STEPS", "publish_all"]

POINTS: dict[str, tuple[Any, list[Any]]] = {
    "f8": (("<f8", ()), [np.float64(1.5), np.array([2.5, np.nan, -np.inf])]),
    "i4_big_endian": ((">i4", ()), [np.array([-1, 2**31 - 1], ">i4")]),
    "u1": (("u1", ()), [np.arange(256, dtype="u1")]),
    "bool": (("?", ()), [np.array([True, False, True])]),
    "c16": (("<c16", ()), [np.array([1 + 2j, -3.5j])]),
    "vector": (("<f4", (3,)), [np.arange(3, dtype="<f4"), np.arange(6, dtype="<f4").reshape(2, 3)]),
    "image": (("<u2", (2, 2)), [np.arange(8, dtype="<u2").reshape(2, 2, 2)]),
    "varying": (("<i8", (-1,)), [np.arange(3), np.arange(4).reshape(2, 2), np.arange(1)]),
    "varying_image": (("<i2", (-1, 2)), [np.arange(6, dtype="<i2").reshape(3, 2)]),
    "empty": (("<f8", ()), []),
}
"""For each numeric stream of the scan `kinds` its dtype and shape, and what is sent: points and
batches of points."""

JSON_POINTS: list[Any] = [
    {
        "text": "Grüße 測定 \N{MICROSCOPE}",
        "nan": float("nan"),
        "inf": [float("inf"), -float("inf")],
    },
    [1, 2.5, None, True],
    "text",
]

INFO = {"title": "Cu foil – 298 K", "nan": float("nan"), "nested": {"a": [1, 2.5, None, True, {}]}}

PLUGINS = {"sequence": "scan_sequence", "lima": "lima", "file_backed": "hdf5_fallback"}
"""The scans that need a plugin to be published."""


def identity(number: int, **others: str) -> dict[str, Any]:
    """Who a scan is."""
    return {"name": "ascan", "number": number, "data_policy": "esrf", **others}


def kinds(store: Any) -> Any:
    """Every kind of point, published to the end."""
    from blissdata.streams.default import Stream

    scan = store.create_scan(
        identity(
            1,
            session="ihr 12|a\\b",
            proposal="ma1234",
            collection="Grüße",
            dataset="sample_0001",
            path="/data/visitor/ma1234/bm23/sample_0001.h5",
        ),
        info=dict(INFO),
    )
    streams = {
        name: scan.create_stream(
            Stream.make_definition(name, np.dtype(dtype), shape, {"unit": "V"})
        )
        for name, ((dtype, shape), _) in POINTS.items()
    }
    streams["json"] = scan.create_stream(Stream.make_definition("json", "json"))
    scan.prepare()
    scan.start()
    for name, (_, sent) in POINTS.items():
        for points in sent:
            streams[name].send(points)
            streams[name].join()
    for point in JSON_POINTS:
        streams["json"].send(point)
        streams["json"].join()
    scan.stop()
    scan.info["end_reason"] = "SUCCESS"
    scan.close()
    return scan


def left_in(step: int) -> Callable[[Any], Any]:
    """A scan that was left after so many steps, one stream of it with a point in it."""

    def publish(store: Any) -> Any:
        from blissdata.streams.default import Stream

        scan = store.create_scan(identity(10 + step))
        stream = scan.create_stream(Stream.make_definition("s", np.float64))
        for each in (scan.prepare, scan.start, scan.stop)[:step]:
            each()
        if step in (1, 2):
            stream.send(np.float64(step))
            stream.join()
        return scan

    return publish


def closed_at_once(store: Any) -> Any:
    """A scan that was closed before it began."""
    scan = store.create_scan(identity(20))
    scan.close()
    return scan


def trimmed(store: Any) -> Any:
    """Two streams that will be trimmed as the memory tracker does: one sealed, one not."""
    from blissdata.streams.default import Stream

    scan = store.create_scan(identity(30))
    sealed, still_open = (
        scan.create_stream(Stream.make_definition(name, np.int64)) for name in ("sealed", "open")
    )
    scan.prepare()
    scan.start()
    for start in range(0, 6, 2):
        for stream in (sealed, still_open):
            stream.send(np.arange(start, start + 2))
            stream.join()
    sealed.seal()
    return scan


def deleted(store: Any) -> Any:
    """A scan that was closed and deleted."""
    from blissdata.streams.default import Stream

    scan = store.create_scan(identity(40))
    stream = scan.create_stream(Stream.make_definition("s", np.float64))
    scan.prepare()
    scan.start()
    stream.send(np.ones(2))
    stream.join()
    scan.stop()
    scan.close()
    store.delete_scan(scan.key)
    return scan


def _definition(plugin: str, *args: Any, **kwargs: Any) -> Any:
    (entry,) = entry_points(group="blissdata", name=plugin)
    return entry.load().stream_cls.make_definition(*args, **kwargs)


def sequence(store: Any) -> Any:
    """A scan of scans: its points are the keys of others."""
    scan = store.create_scan(identity(50))
    stream = scan.create_stream(_definition("scan_sequence", "scans", info={"unit": "scans"}))
    scan.prepare()
    scan.start()
    for number in (51, 52):
        sub = store.create_scan(identity(number))
        sub.close()
        stream.send({"key": sub.key})
        stream.join()
    scan.stop()
    scan.close()
    return scan


def lima(store: Any) -> Any:
    """A detector with files, and one without."""
    scan = store.create_scan(identity(60))
    common = {
        "dtype": np.dtype("<u2"),
        "shape": (4, 6),
        "server_url": "tango://host:10000/id00/limaccds/simulator",
        "buffer_max_number": 10,
        "frames_per_acquisition": 4,
        "acquisition_offset": 0,
    }
    saving = {
        "file_path": "/data/scan0001/image_%04d.h5",
        "data_path": "/entry_0000/measurement/data",
        "file_format": "hdf5",
        "file_offset": 0,
        "frames_per_file": 2,
    }
    saved = scan.create_stream(_definition("lima", "saved", saving=saving, **common))
    live = scan.create_stream(_definition("lima", "live", info={"dim": 2}, **common))
    scan.prepare()
    scan.start()
    for status in (
        {"last_index": 0, "last_index_saved": -1},
        {"last_index": 3, "last_index_saved": 3},
    ):
        for stream in (saved, live):
            stream.send(dict(status))
            stream.join()
    scan.stop()
    scan.close()
    return scan


def file_backed(store: Any) -> Any:
    """A stream whose points a file has, too."""
    scan = store.create_scan(identity(70), info={"save": True})
    definition = _definition(
        "hdf5_fallback", "s", "/data/scan.h5", "/1.1/measurement/s", np.float64, info={"unit": "A"}
    )
    stream = scan.create_stream(definition)
    scan.prepare()
    scan.start()
    stream.send(np.arange(3.0))
    stream.join()
    scan.stop()
    scan.close()
    return scan


STEPS: dict[str, Callable[[Any], Any]] = {
    "kinds": kinds,
    "created": left_in(0),
    "prepared": left_in(1),
    "started": left_in(2),
    "stopped": left_in(3),
    "closed_at_once": closed_at_once,
    "trimmed": trimmed,
    "deleted": deleted,
    "sequence": sequence,
    "lima": lima,
    "file_backed": file_backed,
}


def publish_all(url: str) -> dict[str, str]:
    """Prepares the server and publishes everything; the scans' keys by name."""
    from blissdata.redis_engine.store import DataStore

    store = DataStore(url, init_db=True)
    return {name: publish(store).key for name, publish in STEPS.items()}


if __name__ == "__main__":
    print(json.dumps(publish_all(sys.argv[1])))
