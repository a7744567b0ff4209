"""Every face of the page: `python -m tests.viewer.screenshots` puts a picture of each into `build/screenshots`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tests.viewer.browser import SCREENSHOTS, Viewer, colours, looking, shoot, until
from tests.viewer.scans import Acquisition

from blissdata import DataStore
from blissdata.testing.servers import TestServer

MOST_CURVES = 12


def drawn(page: Any, selector: str) -> None:
    """Waits until an element shows more than its background."""
    page.locator(selector).first.wait_for()
    until(lambda: colours(page, selector), lambda n: n > 2)


def tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def plots(page: Any, suffix: str = "") -> None:
    """Each kind of plot, in the colours and the size that the page has now."""
    for name, selector in (
        ("detectors", ".canvas canvas"),
        ("map", ".vis canvas"),
        ("Spectra", ".vis canvas"),
        ("camera", ".vis canvas"),
    ):
        tab(page, name)
        drawn(page, selector)
        shoot(page, f"{name.lower()}{suffix}")


def many_curves(store: DataStore) -> None:
    """A scan of many curves, closed."""
    names = [f"roi{i:02}" for i in range(MOST_CURVES)]
    items = [{"kind": "curve", "y": name} for name in names]
    info = {
        "title": "timescan 0.1",
        "plots": [{"kind": "curve-plot", "name": "all", "items": items}],
    }
    identity = {"name": "timescan", "number": 3, "data_policy": "none"}
    with store.create_scan(identity, info) as scan:
        streams = [scan.create_stream(name, dtype="f8") for name in names]
        scan.prepare()
        scan.start()
        for i, stream in enumerate(streams):
            stream.send(np.sin(np.arange(500) / (10 + 3 * i)) + i)
        scan.stop()


def shoot_all(store: DataStore, viewer: Viewer, directory: Path) -> None:
    file = str(directory / "sample.h5")
    with looking(viewer, directory / "profile") as page:
        page.get_by_text("No scan yet").first.wait_for()
        shoot(page, "empty")
        Acquisition(store, file, 1).end()
        many_curves(store)
        drawn(page, ".canvas canvas")
        shoot(page, "many-curves")
        acquisition = Acquisition(store, file)
        page.get_by_text("Waiting for the first point").wait_for()
        shoot(page, "waiting")
        acquisition.go_on(80)
        plots(page)
        page.emulate_media(color_scheme="dark")
        plots(page, "-dark")
        tab(page, "File")
        drawn(page, ".h5web canvas")
        shoot(page, "h5web-dark")
        page.emulate_media(color_scheme="light")
        drawn(page, ".h5web canvas")
        shoot(page, "h5web")
        page.get_by_role("button", name="Colours of the page").click()
        shoot(page, "h5web-dark-by-choice")
        page.set_viewport_size({"width": 400, "height": 800})
        tab(page, "Plots")
        plots(page, "-narrow")
        page.set_viewport_size({"width": 1280, "height": 720})
        viewer.stop()
        page.get_by_text("The viewer does not answer").wait_for()
        shoot(page, "away")
        viewer.start()
        acquisition.end()
    wrong = f"http://127.0.0.1:{viewer.port}/#token=wrong-but-long-enough"
    with looking(viewer, directory / "stranger", address=wrong) as page:
        page.get_by_text("The token is missing or wrong").wait_for()
        shoot(page, "refused")


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        TestServer(tcp=True) as server,
        DataStore(server.url, init_db=True) as store,
    ):
        viewer = Viewer(server.url, Path(directory))
        try:
            shoot_all(store, viewer, Path(directory))
        finally:
            viewer.stop()
    for picture in sorted(SCREENSHOTS.glob("*.png")):
        print(picture)


if __name__ == "__main__":
    main()
