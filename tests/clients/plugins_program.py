"""Drives the streams of other packages' plugins, and prints what they give; runs in any environment.

    python plugins_program.py URL DIRECTORY [where]

The plugins are those of blissdata-lima2 and blissdata-mosca. Their detectors are not there, so this is
as far as they go without: a conductor that knows nothing but its version (lima2 asks for it as soon as
a stream is made) and a file that holds the frames (lima2 reads it once the stream is sealed).
"""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import blissdata_lima2
import blissdata_mosca
import h5py
import numpy as np

from blissdata import DataStore
from blissdata.streams import CursorGroup
from blissdata.streams.default import Stream

VERSION = "4.3.2"
"""Of the conductor; the client wants one like its own."""

FRAMES = np.arange(4 * 2 * 3, dtype="uint16").reshape(4, 2, 3)


class Conductor(http.server.BaseHTTPRequestHandler):
    """Tells its version; has no frame."""

    def do_GET(self) -> None:
        if not self.path.endswith("/version/conductor"):
            self.send_error(404)
            return
        answer = json.dumps(VERSION).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


def told(call: Callable[[], Any]) -> Any:
    """What the call gives, as JSON; the name of the error that it raises."""
    try:
        return shown(call())
    except Exception as error:
        return type(error).__name__


def shown(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), value.tolist()]
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value


def seen(view: Any) -> Any:
    """A view, and its points."""
    if view is None:
        return None
    return [type(view).__name__, view.index, len(view), told(view.get_data)]


def drive(url: str, directory: str, where: str = "") -> dict[str, Any]:
    path = os.path.join(directory, "frames.h5")
    with h5py.File(path, "w") as file:
        file["/entry/data"] = FRAMES
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Conductor)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    store = DataStore(url)
    scan = store.create_scan({"name": "plugins", "number": 1, "data_policy": "none"})
    lima2 = scan.create_stream(
        blissdata_lima2.stream_cls.make_definition(
            name="lima2",
            source_name="frame",
            conductor_hostname="127.0.0.1",
            conductor_port=server.server_port,
            acq_uuid="e1a1d1b0-0000-0000-0000-000000000000",
            master_file=(path, "/entry/data"),
            dtype="uint16",
            shape=(2, 3),
        )
    )
    saving = {
        "points_per_file": 10,
        "saving_enabled": True,
        "enabled_detectors": [0],
        "file_path": directory,
        "file_prefix": "spectra",
        "file_format": "hdf5",
        "data_path": "/entry/data",
    }
    mosca = scan.create_stream(
        blissdata_mosca.stream_cls.make_definition(
            "mosca", "det", 0, "uint32", (4,), "localhost:1/a/b/c", 0, saving, {}
        )
    )
    scan.prepare()
    scan.start()
    streams = store.load_scan(scan.key).streams
    found: dict[str, Any] = {
        name: [
            *(type(stream).__name__, stream.kind, stream.plugin, str(stream.dtype)),
            [list(stream.shape), {k: v for k, v in stream.info.items() if k != "conductor_port"}],
            [told(lambda s=stream: s[0]), seen(stream.cursor().read(block=False))],
            seen(stream.cursor().read(block=False, last_only=True)),
        ]
        for name, stream in streams.items()
    }
    cursors = {name: stream.cursor() for name, stream in streams.items()}
    group = CursorGroup(streams)
    for count in (2, 3):
        lima2.send(np.uint32(count))
        mosca.send({"last_read_index": count, "last_saved_index": -1})
        lima2.join()
        mosca.join()
        for name, cursor in cursors.items():
            view = cursor.read(block=False)
            found[f"{name} {count}"] = [seen(view), cursor.position, cursor._ll_index]
        views = group.read(block=False)
        found[f"group {count}"] = sorted([s.name, v.index, len(v)] for s, v in views.items())
    for name, stream in streams.items():
        found[f"{name} now"] = [
            told(lambda s=stream: len(s)),
            *(told(lambda s=stream, k=key: s[k]) for key in (0, slice(0, 2), -1)),
            seen(stream.cursor().read(block=False, last_only=True)),
            told(lambda s=stream: Stream(s.event_stream)[:]),
        ]
    if where:  # a question that 2.x does not know
        found = {
            name: one.as_json() for name, one in store.load_scan(scan.key).availability().items()
        }
        for name, stream in streams.items():
            found[f"{name} waited"] = told(lambda s=stream: s.wait_available(2, None, 0).length)
            found[f"{name} missed"] = told(lambda s=stream: s.wait_available(99, None, 0))
        scan.close()
        return found
    scan.stop()
    scan.close()
    for name, stream in streams.items():
        found[f"{name} sealed"] = [
            told(lambda c=cursors[name]: c.read(block=False)),
            [stream.is_sealed(), told(lambda s=stream: len(s))],
            *(told(lambda s=stream, k=key: s[k]) for key in (-1, slice(1, 3))),
        ]
    found["group sealed"] = told(lambda: group.read(block=False))
    return found


def main() -> None:
    """Prints one line of JSON; leaves at once, whatever still runs."""
    code = 1
    try:
        print(json.dumps(drive(*sys.argv[1:])), flush=True)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
