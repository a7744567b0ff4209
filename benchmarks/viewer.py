"""How quick the viewer is: `python -m benchmarks.viewer` prints a report.

    latency   from `send` to a drawn curve, 20 curves at 10 updates a second
    million   a curve of a million points: until it is drawn, and one redraw after a zoom
    frames    images of 2 million pixels: how many a second are drawn
    load      what a publisher loses while 50 browsers' websockets listen

Chromium draws in software here, so a browser with a graphics card does better.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tests.viewer.browser import TOKEN, Viewer, looking, until

from blissdata import DataStore
from blissdata.testing.servers import TestServer

CURVES = 20
CLIENTS = 50
ROUNDS = 3
LOAD_S = 4.0

WATCH = """(selector, name) => {
  window.seen = [];
  let last = null;
  const look = () => {
    const found = document.querySelector(selector)?.getAttribute(name) ?? null;
    if (found !== last) window.seen.push([Number(found), Date.now()]);
    last = found;
    requestAnimationFrame(look);
  };
  look();
}"""


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


def latency(store: DataStore, page: Any) -> str:
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
        for i in range(2, 102):
            sent[i] = time.time() * 1000
            for stream in streams:
                stream.send(np.sin(i / 10))
            time.sleep(0.1)
        until(lambda: points(page), lambda n: n == 101)
        drawn = page.evaluate("() => window.seen")
        found.stop()
    waits = [next(at for n, at in drawn if n >= i) - then for i, then in sent.items()]
    p50, p95 = statistics.median(waits), sorted(waits)[int(0.95 * len(waits))]
    return f"send to drawn, {CURVES} curves, 10/s: p50 {p50:.0f} ms, p95 {p95:.0f} ms"


def million(store: DataStore, page: Any) -> str:
    with scan(store, 2, x=("f8", ()), y=("f8", ())) as (_, streams):
        streams["x"].send(np.arange(1_000_000.0))
        streams["y"].send(np.random.default_rng(1).normal(size=1_000_000).cumsum())
        for stream in streams.values():
            stream.join()
        began = time.monotonic()
        until(lambda: points(page), lambda n: n == 1_000_000)
        shown = time.monotonic() - began
        took = page.evaluate("""async () => {
          const over = document.querySelector('.u-over');
          const box = over.getBoundingClientRect();
          const frames = [];
          const event = (type, x) => over.dispatchEvent(new MouseEvent(type, {bubbles: true, clientX: box.x + x, clientY: box.y + 50, button: 0}));
          for (let i = 0; i < 10; i++) {
            const before = performance.now();
            event('mousedown', 100 + i); event('mousemove', 400); document.dispatchEvent(new MouseEvent('mouseup', {bubbles: true, clientX: box.x + 400, clientY: box.y + 50}));
            await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
            frames.push(performance.now() - before);
            over.dispatchEvent(new MouseEvent('dblclick', {bubbles: true}));
            await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
          }
          return frames.sort((a, b) => a - b)[5];
        }""")
    return f"1 000 000 points: shown after {shown:.1f} s; zoom to new picture p50 {took:.0f} ms"


def frames(store: DataStore, page: Any) -> str:
    with scan(store, 3, camera=("u2", (1024, 2048))) as (_, streams):
        image = np.random.default_rng(1).integers(0, 60000, (1024, 2048), dtype="u2")
        streams["camera"].send(image)
        until(lambda: points(page, ".picture", "data-image"), lambda n: n == 0)
        watch(page, ".picture", "data-image")
        began = time.monotonic()
        for i in range(80):
            streams["camera"].send(np.roll(image, 10 * i, axis=1))
            time.sleep(max(0.1 * (i + 1) - (time.monotonic() - began), 0))
        streams["camera"].join()
        drawn = page.evaluate("() => window.seen")
    span = (drawn[-1][1] - drawn[0][1]) / 1000
    return f"2 Mpx frames published at 10/s: {(len(drawn) - 1) / span:.1f} drawn per second"


def publish(url: str, conn: Any) -> None:
    """A publisher of 20 streams, for the time that it is told, again and again."""
    with (
        DataStore(url) as store,
        scan(store, 4, **{f"c{i}": ("f8", ()) for i in range(20)}) as (
            found,
            streams,
        ),
    ):
        conn.send(found.key)
        for pause in iter(conn.recv, None):
            end, count = time.monotonic() + LOAD_S, 0
            while time.monotonic() < end:
                for stream in streams.values():
                    stream.send(float(count))
                count += 1
                if pause:
                    time.sleep(pause)
            for stream in streams.values():
                stream.join()
            conn.send(count / LOAD_S)


def listen(port: int, key: str, go: Any, stop: Any) -> None:
    """Browsers' websockets, while `go` is set."""
    from websockets.asyncio.client import connect

    async def one() -> None:
        protocols = ["blissdata.viewer", f"token.{TOKEN}"]
        async with connect(f"ws://127.0.0.1:{port}/api/live", subprotocols=protocols) as socket:
            await socket.send(json.dumps({"type": "watch", "keys": [key]}))
            while go.is_set():
                try:
                    async with asyncio.timeout(0.5):
                        await socket.recv()
                except TimeoutError:
                    continue
                await socket.send('{"type": "read"}')

    async def many() -> None:
        await asyncio.gather(*(one() for _ in range(CLIENTS)))

    while not stop.is_set():
        if go.wait(0.2):
            asyncio.run(many())


def load(server: TestServer, viewer: Viewer) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    publisher = context.Process(target=publish, args=(server.url, theirs))
    publisher.start()
    go, stop = context.Event(), context.Event()
    clients = context.Process(target=listen, args=(viewer.port, ours.recv(), go, stop))
    clients.start()
    for pause, what in ((0.005, "at 200 points/s"), (0.0, "as fast as it can")):
        rates: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(2 * ROUNDS):
            listening = turn % 2 == 1
            (go.set if listening else go.clear)()
            time.sleep(2)
            ours.send(pause)
            rates[listening].append(ours.recv())
        alone, heard = (statistics.median(rates[k]) for k in (False, True))
        yield (
            f"publisher of 20 streams {what}: {alone:.0f} points/s alone, {heard:.0f} with {CLIENTS} "
            f"websockets: {100 * (1 - heard / alone):+.1f} % lost"
        )
    go.clear()
    stop.set()
    clients.join()
    ours.send(None)
    publisher.join()


def main() -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start; medians")
    with (
        tempfile.TemporaryDirectory() as directory,
        TestServer(tcp=True) as server,
        DataStore(server.url, init_db=True) as store,
    ):
        viewer = Viewer(server.url, Path(directory))
        try:
            with looking(viewer, Path(directory) / "profile") as page:
                for measure in (latency, million, frames):
                    print(measure(store, page), flush=True)
            for line in load(server, viewer):
                print(line, flush=True)
        finally:
            viewer.stop()


if __name__ == "__main__":
    main()
