"""How quick the viewer is: `python -m benchmarks.viewer` prints a report.

    latency   from `send` to changed pixels, 20 curves at 10 updates a second; beside it how late the
              film itself is: a square whose colour a timer of the page changes
    million   a curve of a million points: until it is drawn, a redraw after a zoom, and moving over it
    frames    images of 2 million pixels: how many a second are seen
    load      what a publisher loses while 50 browsers' websockets listen

What is seen is told by Chromium's own screencast: a picture of the page for each one that it puts on the
screen, with its time. Chromium draws in software here, so a browser with a graphics card does better.
"""

from __future__ import annotations

import base64
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tests.viewer.browser import Viewer, looking, until

from benchmarks.report import Row, command_line, finished, limited, noted, say
from benchmarks.viewer_load import load
from blissdata import DataStore
from blissdata.testing.servers import TestServer

CURVES = 20

WATCH = """(selector, name) => {
  window.seen = [];
  const note = () => {
    const found = document.querySelector(selector)?.getAttribute(name) ?? null;
    if (found !== null) window.seen.push([Number(found), Date.now()]);
  };
  note();
  new MutationObserver(note).observe(document.querySelector(selector), {attributeFilter: [name]});
}"""
"""Notes when an attribute changes; nothing runs meanwhile."""

BLINK = """() => {
  const square = document.createElement('div');
  square.id = 'blink';
  Object.assign(square.style, {
    position: 'fixed', left: '500px', top: '300px', width: '64px', height: '64px', background: 'black',
  });
  document.body.append(square);
  window.blinked = [];
  window.blinking = setInterval(() => {
    square.style.background = window.blinked.length % 2 ? 'black' : 'white';
    window.blinked.push(Date.now());
  }, 100);
}"""
"""A square that changes its colour ten times a second."""

ROUNDS = 10

_HAND = """
  const canvas = document.querySelector('.canvas');
  const over = canvas.querySelector('.u-over');
  const box = over.getBoundingClientRect();
  const mouse = (type, x, target = over) => target.dispatchEvent(new MouseEvent(type, {
    clientX: box.x + x, clientY: box.y + 50, movementX: 1, bubbles: true, button: 0,
  }));
  const frame = () => new Promise(done => requestAnimationFrame(done));
  const zoom = async (from, to) => {
    mouse('mousedown', from); mouse('mousemove', to); mouse('mouseup', to, document);
    await frame(); await frame();
  };
  const whole = async () => { mouse('dblclick', 50); await frame(); await frame(); };
  const took = [], seen = new Set();
"""

ZOOM = f"""async () => {{ {_HAND}
  let changes = 0, before = canvas.dataset.seen;
  const note = () => {{ changes += canvas.dataset.seen !== before; before = canvas.dataset.seen; }};
  for (let i = 0; i < {ROUNDS}; i++) {{
    const began = performance.now();
    await zoom(100 + i, 400);
    took.push(performance.now() - began);
    note();
    await whole();
    note();
  }}
  return [took, changes];
}}"""
"""Zooms in and out: how long each zoom took until two frames later, and how often what is seen changed."""

PAN = f"""async () => {{ {_HAND}
  await zoom(100, 400);
  let last = await frame();
  for (let i = 0; i < 120; i++) {{
    const deltaX = i % 60 < 30 ? 20 : -20;
    over.dispatchEvent(new WheelEvent('wheel', {{deltaX, bubbles: true, cancelable: true}}));
    const now = await frame();
    seen.add(canvas.dataset.seen);
    took.push(now - last);
    last = now;
  }}
  await whole();
  return [took, seen.size];
}}"""
"""Zooms in and moves to and fro, a step for each frame: how long each frame took, and how many places were seen."""


@contextmanager
def scan(store: DataStore, number: int, **streams: tuple[Any, tuple[int, ...]]) -> Iterator[Any]:
    identity = {"name": "bench", "number": number, "data_policy": "none"}
    with store.create_scan(identity) as found:
        made = {n: found.create_stream(n, dtype=d, shape=s) for n, (d, s) in streams.items()}
        found.prepare()
        found.start()
        yield found, made
        found.stop()


def points(page: Any, selector: str = ".canvas", name: str = "data-points") -> int:
    found = page.locator(selector).first
    return int(found.get_attribute(name) or -1) if found.count() else -1


def watch(page: Any, selector: str, name: str) -> None:
    page.evaluate(f"([a, b]) => ({WATCH})(a, b)", [selector, name])


FILM = {"format": "jpeg", "quality": 40, "maxWidth": 640, "maxHeight": 360}
"""Small pictures: making them is work for the browser that is measured."""


class Film:
    """What the browser puts on the screen at one element, picture by picture; a context manager."""

    def __init__(self, page: Any, selector: str) -> None:
        self._page = page
        self._box = page.locator(selector).first.bounding_box()
        self._session = page.context.new_cdp_session(page)
        self._taken: list[tuple[float, str]] = []

    def __enter__(self) -> Film:
        self._session.on("Page.screencastFrame", self._take)
        self._session.send("Page.startScreencast", dict(FILM))
        return self

    def __exit__(self, *_: object) -> None:
        self._session.remove_listener("Page.screencastFrame", self._take)
        self._session.send("Page.stopScreencast")
        self._session.detach()

    def _take(self, frame: Any) -> None:
        self._taken.append((frame["metadata"]["timestamp"], frame["data"]))
        self._session.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})

    def wait(self, seconds: float) -> None:
        """Goes on filming for so long."""
        self._page.wait_for_timeout(max(seconds, 0) * 1000)

    def changes(self) -> list[float]:
        """When something else was seen there than before [ms since 1970]."""
        found, before = [], None
        width = self._page.viewport_size["width"]
        for at, data in self._taken:
            seen = cv2.imdecode(np.frombuffer(base64.b64decode(data), "u1"), cv2.IMREAD_COLOR)
            scale = seen.shape[1] / width
            x, y, w, h = (round(self._box[key] * scale) for key in ("x", "y", "width", "height"))
            seen = seen[y : y + h, x : x + w].astype("i2")
            if before is not None and np.abs(seen - before).max() > 48:  # not the JPEG's own noise
                found.append(at * 1000)
            before = seen
        return found


def film_itself(page: Any) -> Iterator[Row]:
    """How late the film sees what it is told of."""
    page.evaluate(BLINK)
    with Film(page, "#blink") as film:
        film.wait(5)
    blinked = page.evaluate(
        "clearInterval(window.blinking), document.querySelector('#blink').remove(), window.blinked"
    )
    waits = late(film.changes(), blinked)
    what = "… the film itself: from a page's own change to its picture"
    yield noted(f"{what}, p50", statistics.median(waits), "ms")
    yield noted(f"{what}, p95", sorted(waits)[int(0.95 * len(waits))], "ms")


def late(seen: Sequence[float], changed: Sequence[float]) -> list[float]:
    """How long after each change something else was seen; changes at the end that the film lacks are left out."""
    return [next(one for one in seen if one >= at) - at for at in changed if at <= seen[-1]]


def latency(store: DataStore, page: Any) -> Iterator[Row]:
    names = [f"c{i:02}" for i in range(CURVES)]
    info = {
        "kind": "curve-plot",
        "name": "all",
        "items": [{"kind": "curve", "y": n} for n in names],
    }
    identity = {"name": "latency", "number": 1, "data_policy": "none"}
    with store.create_scan(identity, {"plots": [info]}) as found:
        streams = [found.create_stream(name, dtype="f8") for name in names]
        found.prepare()
        found.start()
        for stream in streams:
            stream.send(0.0)
        until(lambda: points(page), lambda n: n == 1)
        watch(page, ".canvas", "data-points")
        sent = {}
        with Film(page, ".canvas canvas") as film:
            for i in range(2, 102):
                sent[i] = time.time() * 1000
                for stream in streams:
                    stream.send(np.sin(i / 10))
                film.wait(0.1)
            page.wait_for_function("() => window.seen.at(-1)?.[0] >= 101")
            film.wait(0.3)
        drawn = page.evaluate("() => window.seen")
        found.stop()
    seen, waits = film.changes(), []
    for i, then in sent.items():
        at = next(at for n, at in drawn if n >= i)  # by the page's own account
        waits.append(next((one for one in seen if one >= at), seen[-1]) - then)
    p50, p95 = statistics.median(waits), sorted(waits)[int(0.95 * len(waits))]
    what = f"send to changed pixels, {CURVES} curves at 10 updates/s"
    yield limited(f"{what}, p50", p50, "ms", most=150)
    yield noted(f"{what}, p95", p95, "ms")
    yield from film_itself(page)


def million(store: DataStore, page: Any) -> Iterator[Row]:
    with scan(store, 2, x=("f8", ()), y=("f8", ())) as (_, streams):
        streams["x"].send(np.arange(1_000_000.0))
        streams["y"].send(np.random.default_rng(1).normal(size=1_000_000).cumsum())
        for stream in streams.values():
            stream.join()
        began = time.monotonic()
        until(lambda: points(page), lambda n: n == 1_000_000)
        shown = time.monotonic() - began
        zoomed, places = page.evaluate(ZOOM)
        assert places == 2 * ROUNDS, places
        moved, places = page.evaluate(PAN)
        assert places > 20, places
    yield noted("a curve of 1 000 000 points, until it is shown", shown, "s")
    yield noted("… from a zoom to the new picture, p50", statistics.median(zoomed), "ms")
    yield noted("… moving over it, frames", 1000 * len(moved) / sum(moved), "/s")
    yield noted("… moving over it, the longest frame", max(moved), "ms")


def frames(store: DataStore, page: Any) -> Iterator[Row]:
    with scan(store, 3, camera=("u2", (1024, 2048))) as (_, streams):
        image = np.random.default_rng(1).integers(0, 60000, (1024, 2048), dtype="u2")
        streams["camera"].send(image)
        until(lambda: points(page, ".picture", "data-image"), lambda n: n == 0)
        page.locator(".vis canvas").first.wait_for()
        with Film(page, ".vis canvas") as film:
            began = time.monotonic()
            for i in range(80):
                image[400:600] = i % 8 * 8000
                streams["camera"].send(image)
                film.wait(0.1 * (i + 1) - (time.monotonic() - began))
            streams["camera"].join()
    seen = film.changes()
    span = (seen[-1] - seen[0]) / 1000
    yield limited("frames of 2 Mpx at 10 a second: seen", (len(seen) - 1) / span, "/s", least=5)


PARTS = {"latency": latency, "million": million, "frames": frames}


def measured(parts: Sequence[str], rounds: int) -> Iterator[Row]:
    """Every row of these parts; `rounds` are those of the load."""
    with (
        tempfile.TemporaryDirectory() as directory,
        TestServer(tcp=True) as server,
        DataStore(server.url, init_db=True) as store,
    ):
        viewer = Viewer(server.url, Path(directory))
        try:
            seen = [PARTS[part] for part in parts if part in PARTS]
            if seen:
                with looking(viewer, Path(directory) / "profile") as page:
                    for measure in seen:
                        yield from measure(store, page)
            if "load" in parts:
                yield from load(server, viewer, rounds)
        finally:
            viewer.stop()


def main() -> int:
    names = [*PARTS, "load"]
    parser = command_line("benchmarks.viewer", __doc__, 60)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="some parts alone")
    options = parser.parse_args()
    rows = []
    for row in measured(options.only, 4 if options.quick else options.rounds):
        say(row.title)
        rows.append(row)
    return finished(rows, options)


if __name__ == "__main__":
    sys.exit(main())
