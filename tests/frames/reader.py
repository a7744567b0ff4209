"""`python -m tests.frames.reader`: reads a camera in its own way, checks every frame, prints what it got."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

from tests.frames.formula import is_right

from blissdata import DataStore
from blissdata.exceptions import EndOfStream, IndexNoMoreThereError, PublisherLostError
from blissdata.streams.frames import stream as plugin
from blissdata.streams.frames.ring import RingUnreachableError

SLOW_S = 0.05
"""What a slow reader does with each view [s]."""


@dataclass
class Got:
    """What a reader got."""

    right: int = 0
    wrong: int = 0
    gone: int = 0
    sources: dict[str, int] = field(default_factory=dict)
    end: str = ""

    def add(self, stream: plugin.FramesStream, start: int, stop: int) -> None:
        """Reads these frames one by one and checks them."""
        frames = iter(stream.each(range(start, stop)))
        index = start
        while index < stop:
            try:
                found = next(frames)
            except IndexNoMoreThereError:
                self.gone += 1
                frames = iter(stream.each(range(index + 1, stop)))
            else:
                self.right += is_right(found, index)
                self.wrong += not is_right(found, index)
            index += 1


def main() -> None:
    """Says `ready`, reads until the end, then prints `Got` as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--remote", action="store_true", help="as from another host: no ring")
    options = parser.parse_args()
    if options.remote:
        plugin.RingReader.open = unreachable  # type: ignore[method-assign,assignment]
    got = Got()
    with DataStore(options.url) as store:
        stream = store.load_scan(options.key).streams["camera"]
        assert isinstance(stream, plugin.FramesStream)
        cursor = stream.cursor()
        print("ready", flush=True)
        try:
            while True:
                view = cursor.read()
                if view is not None:
                    if options.slow:
                        time.sleep(SLOW_S)
                    got.add(stream, view.index, view.index + len(view))
        except (EndOfStream, PublisherLostError) as error:
            got.end = type(error).__name__
        got.sources = dict(Counter(stream.fetched))
    print(json.dumps(asdict(got)), flush=True)


def unreachable(*_: object) -> plugin.RingReader:
    """Where no ring is."""
    raise RingUnreachableError("as if it were on another host")


if __name__ == "__main__":
    main()
