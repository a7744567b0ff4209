"""The page in a real browser, on a real server, with a scan that grows meanwhile.

`python -m tests.viewer.screenshots` takes a picture of each of its faces.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.viewer.browser import Viewer, attribute, colours, looking, picture, until
from tests.viewer.scans import INFO, Acquisition

from blissdata import DataStore

pytestmark = pytest.mark.browser


@contextmanager
def acquiring(store: DataStore, tmp_path: Path, number: int = 7) -> Iterator[Acquisition]:
    found = Acquisition(store, str(tmp_path / "sample.h5"), number)
    try:
        yield found
    finally:
        found.end()


def test_curves_grow_and_scans_are_listed(there: tuple[DataStore, Viewer], tmp_path: Path) -> None:
    store, viewer = there
    with acquiring(store, tmp_path, 1) as first:
        first.go_on(3)
    with acquiring(store, tmp_path) as acquisition, looking(viewer, tmp_path / "p") as page:
        acquisition.go_on(30)
        until(lambda: attribute(page, ".canvas", "data-points"), lambda n: n == 30)
        assert page.locator("[role=option]").count() == 2
        acquisition.go_on(50)
        until(lambda: attribute(page, ".canvas", "data-points"), lambda n: n == 80)
        until(lambda: page.locator(".progress").inner_text(), lambda text: "80 of 200" in text)
        page.get_by_role("button", name="samy [mm]").click()
        page.reload()  # what was chosen is remembered
        pressed = page.get_by_role("button", name="samy [mm]").get_attribute("aria-pressed")
        assert pressed == "true"
        page.emulate_media(color_scheme="dark")
        page.wait_for_selector(".canvas[data-points]")
        page.set_viewport_size({"width": 400, "height": 800})
        page.get_by_role("listbox").press("ArrowDown")
        until(lambda: page.locator(".scan h2").inner_text(), lambda text: text.startswith("1 "))


def test_the_latest_scan_is_followed(there: tuple[DataStore, Viewer], tmp_path: Path) -> None:
    store, viewer = there
    with looking(viewer, tmp_path / "p") as page:
        page.get_by_text("No scan yet").wait_for()
        with acquiring(store, tmp_path, 1) as first:
            first.go_on(2)
            until(
                lambda: page.locator(".scan h2").all_inner_texts(),
                lambda t: t[:1] == [f"1 {INFO['title']}"],
            )
        page.locator(".scan > header .state.closed").wait_for()
        with acquiring(store, tmp_path, 2):
            until(lambda: page.locator(".scan h2").inner_text(), lambda text: text.startswith("2 "))
            page.get_by_text("Waiting for the first point").wait_for()


def test_images_spectra_and_scatters_are_drawn(
    there: tuple[DataStore, Viewer], tmp_path: Path
) -> None:
    store, viewer = there
    with acquiring(store, tmp_path) as acquisition, looking(viewer, tmp_path / "p") as page:
        acquisition.go_on(40)
        page.get_by_role("tab", name="camera").click()
        until(lambda: attribute(page, ".picture", "data-image"), lambda n: n == 39)
        page.locator(".vis canvas").wait_for()
        before = picture(page, ".vis canvas")
        acquisition.go_on(40)
        until(lambda: attribute(page, ".picture", "data-image"), lambda n: n == 79)
        until(lambda: picture(page, ".vis canvas"), lambda seen: seen != before)
        assert colours(page, ".vis canvas") > 30
        page.get_by_role("tab", name="map").click()
        until(lambda: attribute(page, ".picture", "data-points"), lambda n: n == 80)
        until(lambda: colours(page, ".vis canvas"), lambda n: n > 30)
        page.get_by_role("tab", name="Spectra").click()
        until(lambda: attribute(page, ".picture", "data-image"), lambda n: n == 79)


def test_h5web_opens_a_running_scan(there: tuple[DataStore, Viewer], tmp_path: Path) -> None:
    store, viewer = there
    with acquiring(store, tmp_path) as acquisition, looking(viewer, tmp_path / "p") as page:
        page.get_by_role("tab", name="File").click()
        page.get_by_text("Waiting for the first point").wait_for()
        acquisition.go_on(40)
        page.locator(".h5web").get_by_text("measurement").wait_for()
        until(lambda: page.locator(".h5web canvas").count(), lambda n: n > 0)
        page.get_by_label("by itself").uncheck()
        version = attribute(page, ".tree", "data-version")
        acquisition.go_on(40)
        page.get_by_role("button", name="New data").click()
        until(lambda: attribute(page, ".tree", "data-version"), lambda n: n > version)


def test_the_page_comes_back_when_the_viewer_does(
    there: tuple[DataStore, Viewer], tmp_path: Path
) -> None:
    store, viewer = there
    with acquiring(store, tmp_path) as acquisition, looking(viewer, tmp_path / "p") as page:
        acquisition.go_on(10)
        until(lambda: attribute(page, ".canvas", "data-points"), lambda n: n == 10)
        viewer.stop()
        page.get_by_text("The viewer does not answer").wait_for()
        acquisition.go_on(10)
        viewer.start()
        until(lambda: attribute(page, ".canvas", "data-points"), lambda n: n == 20)
        assert page.get_by_text("The viewer does not answer").count() == 0


def test_without_the_token_there_is_nothing(
    there: tuple[DataStore, Viewer], tmp_path: Path
) -> None:
    store, viewer = there
    wrong = f"http://127.0.0.1:{viewer.port}/#token=wrong-but-long-enough"
    with acquiring(store, tmp_path), looking(viewer, tmp_path / "p", address=wrong) as page:
        page.get_by_text("The token is missing or wrong").wait_for()
        assert page.locator("[role=option]").count() == 0
