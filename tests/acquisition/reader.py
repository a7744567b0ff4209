"""A reader that looks at every point of a scan: `python -m tests.acquisition.reader URL SCAN (start | end)`.

One that begins at the `end` follows from the newest points on, and reads the others when the scan is over.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.acquisition.points import STREAMS, wrong

from blissdata import DataStore
from blissdata.exceptions import EndOfStream
from blissdata.streams import CursorGroup

FILE_TIMEOUT_S = 120.0
"""Points that left the server may be so late in the file [s]."""

AT_ONCE = 64
"""So many old points are read in one slice."""


def main(url: str, key: str, when: str) -> None:
    """Says `open` once it follows, and at the end what it has seen, as JSON."""
    seen = dict.fromkeys(STREAMS, 0)
    mistakes = {"wrong": 0, "missed": 0}
    from_file = 0
    with DataStore(url) as store:
        streams: dict[str, Any] = {name: store.load_scan(key).streams[name] for name in STREAMS}
        for stream in streams.values():
            stream.file_timeout = FILE_TIMEOUT_S
        really = streams["images"]._read_file

        def counting(start: int, stop: int) -> Any:
            nonlocal from_file
            from_file += stop - start
            return really(start, stop)

        streams["images"]._read_file = counting
        print("open", flush=True)
        group = CursorGroup(streams)
        last_only = when == "end"
        firsts = dict.fromkeys(STREAMS, None if last_only else 0)
        expected = dict(firsts)
        while True:
            try:
                views = group.read(last_only=last_only)
            except EndOfStream:
                break
            for stream, view in views.items():
                name = stream.name
                if firsts[name] is None:
                    firsts[name] = expected[name] = view.index
                mistakes["missed"] += view.index != expected[name]
                mistakes["wrong"] += wrong(name, view.index, view.get_data())
                expected[name] = view.index + len(view)
                seen[name] += len(view)
            last_only = last_only and None in firsts.values()
        for name, stream in streams.items():
            for start in range(0, firsts[name] or 0, AT_ONCE):
                points = stream[start : min(start + AT_ONCE, firsts[name] or 0)]
                mistakes["wrong"] += wrong(name, start, points)
                seen[name] += len(points)
    print(json.dumps({"seen": seen, **mistakes, "from_file": from_file}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
