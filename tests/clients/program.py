"""A publisher and reader for any blissdata 2.4: told by lines of JSON on stdin, answers on stdout.

    {"do": "read", "stream": "diode", "index": [0, 5]}   →   {"value": {"array": ["<f8", [5], …]}}
                                                         or  {"error": ["IndexError", …], "text": …}

It runs in another environment and imports only what it finds there: numpy, h5py, blissdata, and
`kinds.py` beside it. It judges nothing. An error is answered by the names of its classes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
import traceback
from pathlib import Path

import kinds
import numpy as np

from blissdata.redis_engine.store import DataStore
from blissdata.streams import CursorGroup
from blissdata.streams.default import Stream


class Programme:
    """Its methods are what it can be told to do."""

    def __init__(self):
        self.store = None
        self.scan = None
        self.specs = {}
        self.writers = {}
        self.cursors = {}
        self.subscans = []

    # ------------------------------------------------------------------------------ the store

    def versions(self):
        """Who speaks."""
        from importlib.metadata import version

        names = ["blissdata", "redis", "hiredis", "numpy", "pydantic", "msgpack", "h5py"]
        return {name: version(name) for name in names}

    def open(self, url, init_db=False):
        self.store = DataStore(url, init_db=init_db)

    def close_store(self):
        if hasattr(self.store, "close"):  # 2.4.5 has none
            self.store.close()
        self.store = None

    def next_scan(self, since, block=True, timeout=20):
        return list(self.store.get_next_scan(since=since, block=block, timeout=timeout))

    def last_scan(self):
        return list(self.store.get_last_scan())

    def timetag(self):
        return self.store.get_last_scan_timetag()

    def search(self, **fields):
        timetag, keys = self.store.search_existing_scans(**fields)
        return [timetag, list(keys)]

    def states(self, keys):
        return {key: int(state) for key, state in self.store.get_scans_state(keys).items()}

    def delete(self, key, force=False):
        self.store.delete_scan(key, force=force)

    # ------------------------------------------------------------------------------ publishing

    def create(self, kind, identity, info, directory, file="fallback.h5"):
        """A scan with the streams of that kind; its key. `file` is where streams with a fallback
        will be."""
        self.specs = {spec.name: spec for spec in kinds.ALL_KINDS[kind]}
        self.directory = Path(directory)
        self.file = self.directory / file
        self.scan = self.store.create_scan(identity, info)
        self.writers = {}
        for spec in self.specs.values():
            self.writers[spec.name] = self.scan.create_stream(self.definition(spec))
        return self.scan.key

    def definition(self, spec):
        info = dict(spec.info)
        if spec.plugin is None:
            if spec.dtype == "json":
                return Stream.make_definition(spec.name, "json", info=info)
            return Stream.make_definition(spec.name, np.dtype(spec.dtype), spec.shape, info)
        if spec.plugin == "hdf5_fallback":
            from blissdata.streams.hdf5_fallback import stream_cls

            return stream_cls.make_definition(
                spec.name,
                str(self.file),
                f"/1.1/{spec.name}",
                np.dtype(spec.dtype),
                spec.shape,
                info,
            )
        if spec.plugin == "scan_sequence":
            from blissdata.streams.scan_sequence import stream_cls

            return stream_cls.make_definition(spec.name, info)
        from blissdata.lima.client import prepare_next_lima_acquisition
        from blissdata.streams.lima import stream_cls

        url = f"tango://nowhere:10000/id00/limaccds/{spec.name}"
        return stream_cls.make_definition(
            spec.name,
            np.dtype(spec.dtype),
            spec.shape,
            url,
            buffer_max_number=5,
            frames_per_acquisition=kinds.POINTS,
            acquisition_offset=prepare_next_lima_acquisition(self.store, url),
            saving={
                "file_path": str(self.directory / "frelon_%04d.h5"),
                "data_path": "/entry_0000/measurement/data",
                "file_format": "HDF5",
                "file_offset": 0,
                "frames_per_file": kinds.FRAMES_PER_FILE,
            },
            info=info,
        )

    def register(self, identity, state):
        """A scan without streams, brought to that state; its key."""
        scan = self.store.create_scan(identity)
        for step in ("prepare", "start", "stop", "close")[:state]:
            getattr(scan, step)()
        return scan.key

    def step(self, name, info=None):
        """prepare, start, stop or close; `info` is added first."""
        self.scan.info.update(info or {})
        getattr(self.scan, name)()
        return int(self.scan.state)

    def send(self, start, stop, batch=False):
        """The points `start` … `stop` - 1 of every stream, one by one or in one batch; waits until
        the server has them."""
        for name, stream in self.writers.items():
            spec = self.specs[name]
            if spec.plugin in ("lima", "scan_sequence"):
                continue
            points = spec.points(start, stop)
            if batch and spec.dtype != "json" and not spec.varies:
                stream.send(np.stack(points))
            else:
                for point in points:
                    stream.send(point)
        self.join()

    def children(self, identity):
        """As many scans as there are points, prepared; their keys. They become the points."""
        made = [self.store.create_scan({**identity, "number": n}) for n in range(kinds.POINTS)]
        for child in made:
            child.prepare()
            child.close()
        self.subscans = [child.key for child in made]
        return self.subscans

    def send_children(self, start, stop):
        for key in self.subscans[start:stop]:
            self.writers["subscans"].send({"key": key})
        self.join()

    def send_as_another(self, stream, start, stop):
        """Into a stream of the scan that was loaded, as its second publisher."""
        writer = self.scan.get_writer_stream(stream)
        spec = {spec.name: spec for spec in kinds.ALL_KINDS[kinds.SAVED]}[stream]
        for point in spec.points(start, stop):
            writer.send(point)
        writer.join()
        return writer.seal()

    def send_events(self, events):
        """These very events of every detector."""
        for name, stream in self.writers.items():
            if name not in self.specs or self.specs[name].plugin == "lima":
                for event in events:
                    stream.send(event)
        self.join()

    def join(self):
        for stream in self.writers.values():
            stream.join()

    def seal(self):
        return {name: stream.seal() for name, stream in self.writers.items()}

    # ------------------------------------------------------------------------------ reading

    def load(self, key):
        self.scan = self.store.load_scan(key)
        self.cursors = {}
        return int(self.scan.state)

    def update(self, block=True, timeout=20):
        changed = self.scan.update(block=block, timeout=timeout)
        return [bool(changed), int(self.scan.state)]

    def identity(self, names):
        return {name: getattr(self.scan, name) for name in names}

    def info(self):
        return wrapped(self.scan.info)

    def streams(self):
        return {
            name: {
                "kind": stream.kind,
                "plugin": stream.plugin,
                "dtype": None if stream.dtype is None else np.dtype(stream.dtype).str,
                "shape": list(stream.shape),
                "info": stream.info,
                "key": stream.key,
            }
            for name, stream in self.scan.streams.items()
        }

    def length(self, stream):
        return len(self.scan.streams[stream])

    def sealed(self, stream):
        return bool(self.scan.streams[stream].is_sealed())

    def wait_seal(self, stream, timeout=20):
        return bool(self.scan.streams[stream].wait_seal(timeout))

    def read(self, stream, index):
        """By an index, or by a slice [start, stop, step]."""
        if isinstance(index, list):
            index = slice(*index)
        return wrapped(self.scan.streams[stream][index])

    def references(self, stream, index):
        found = self.scan.streams[stream].get_references(
            slice(*index) if isinstance(index, list) else index
        )
        parts = ("format", "file_path", "data_path", "index")
        references = found if isinstance(index, list) else [found]
        return [[getattr(reference, part) for part in parts] for reference in references]

    def cursor(self, name, stream):
        self.cursors[name] = self.scan.streams[stream].cursor()

    def group(self, name):
        self.cursors[name] = CursorGroup(self.scan.streams)

    def cursor_read(self, name, block=True, timeout=20, last_only=False, data=True):
        cursor = self.cursors[name]
        got = cursor.read(block=block, timeout=timeout, last_only=last_only)
        if isinstance(cursor, CursorGroup):
            views = {stream.name: seen(view, data) for stream, view in got.items()}
            position = {stream.name: at for stream, at in cursor.position.items()}
        else:
            views = None if got is None else seen(got, data)
            position = cursor.position
        return {"views": views, "position": position}

    def iterate(self, stream):
        """All points, until the seal."""
        return [wrapped(point) for point in self.scan.streams[stream]]


def seen(view, data):
    """A view, with its data or what kept them away."""
    told = {"index": view.index, "last_index": view.last_index, "len": len(view)}
    if data:
        try:
            told["data"] = wrapped(view.get_data())
        except IndexError as error:
            told["error"] = class_names(error)
    return told


def wrapped(value):
    """A value as JSON can carry it, without loss."""
    if hasattr(value, "key") and hasattr(value, "streams"):
        return {"scan": value.key, "state": int(value.state)}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind != "O":
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"array": [value.dtype.str, list(value.shape), data]}
    if isinstance(value, (list, np.ndarray)):
        return {"list": [wrapped(item) for item in value]}
    return {"json": value}


def class_names(error):
    return [kind.__name__ for kind in type(error).__mro__[:-1]]


def places(error):
    """Where it was raised: file, line and function, the innermost last."""
    frames = traceback.extract_tb(error.__traceback__, limit=-3)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def main():
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anybody prints is not an answer
    programme = Programme()
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = {"value": getattr(programme, order.pop("do"))(**order)}
        except Exception as error:
            answer = {"error": class_names(error), "text": str(error), "at": places(error)}
        out.write(json.dumps(answer) + "\n")
        out.flush()
    with contextlib.suppress(Exception):
        programme.close_store()


if __name__ == "__main__":
    main()
