"""What the page shows of scans that are not as they should be, and how it is used without a mouse.

what comes        nothing, one point, no `plots`, values that no plot has a place for, strange names
what goes         the store, a scan, its oldest points
who looks         without a mouse, without good eyes, on a narrow screen, at a hundred thousand scans
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.viewer.browser import Viewer, attribute, chromium, looking, pixels, until
from tests.viewer.scans import Acquisition

from blissdata import DataStore
from blissdata.redis_engine.documents import ScanDocument
from blissdata.redis_engine.keys import new_ulid
from blissdata.testing.servers import TestServer

pytestmark = pytest.mark.browser

ROW_PX = 46
"""How high a row of the list is."""

AXE = Path("web/node_modules/axe-core/axe.min.js")


@contextmanager
def scan(
    store: DataStore, streams: dict[str, Any], info: dict[str, Any] | None = None, **identity: Any
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A scan of streams of these types, running."""
    known = {"name": "odd", "number": 1, "data_policy": "none", **identity}
    with store.create_scan(known, info or {}) as found:
        made = {name: found.create_stream(name, **how) for name, how in streams.items()}
        found.prepare()
        found.start()
        yield found, made
        found.stop()


def curve_of(page: Any, points: int) -> None:
    """Waits until the curves have so many points and show more than axes."""
    until(lambda: attribute(page, ".canvas", "data-points"), lambda n: n == points)


# ------------------------------------------------------------------------------------ what comes


def test_a_scan_of_one_point_and_without_plots_is_drawn(
    there: tuple[DataStore, Viewer], tmp_path: Path
) -> None:
    store, viewer = there
    with looking(viewer, tmp_path / "p") as page:
        with scan(store, {"diode": {"dtype": "f8"}}) as (_, streams):
            streams["diode"].send(3.0)
            curve_of(page, 1)
            until(lambda: has_colour(page, ".canvas canvas", "#2f7ed8"), bool)
        page.locator(".state.stopped, .state.closed").first.wait_for()
        assert page.locator(".problem").count() == 0


def has_colour(page: Any, selector: str, colour: str) -> bool:
    """True if an element shows that colour, nearly."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (5, 3, 1)])
    return bool((np.abs(pixels(page, selector).astype(int) - wanted).max(axis=-1) < 12).any())


def test_what_has_no_place_on_a_plot_leaves_gaps(
    there: tuple[DataStore, Viewer], tmp_path: Path
) -> None:
    store, viewer = there
    streams = {
        "bad": {"dtype": "f8"},
        "flag": {"dtype": "?"},
        "wave": {"dtype": "c16"},
        "only_nan": {"dtype": "f8"},
        "note": {"dtype": "json"},
    }
    items = [{"kind": "curve", "y": name} for name in streams]
    info = {"plots": [{"kind": "curve-plot", "name": "all", "items": items}]}
    with (
        looking(viewer, tmp_path / "p") as page,
        scan(store, streams, info) as (_, made),
    ):
        for value in (1.0, np.nan, np.inf, -np.inf, 2.0, 3.0):
            made["bad"].send(value)
            made["flag"].send(value == 2.0)
            made["wave"].send(3 + 4j)
            made["only_nan"].send(np.nan)
            made["note"].send({"text": "no number"})
        curve_of(page, 6)
        last = until(lambda: page.locator(".values").all_inner_texts(), lambda t: len(t) > 0)[0]
        assert "nan" in last
        assert "3.00000 + 4" in last or "3 + 4i" in last
        assert page.get_by_role("button", name="note").count() == 0
        page.get_by_label("log").check()  # zero and below have no place there either
        curve_of(page, 6)
        assert page.locator(".problem").count() == 0


def test_names_from_all_over_the_world(there: tuple[DataStore, Viewer], tmp_path: Path) -> None:
    store, viewer = there
    title = 'Ωmega <b>λ</b> 走査 🔬 & "quotes"'
    with (
        looking(viewer, tmp_path / "p") as page,
        scan(store, {"θ_2": {"dtype": "f8"}, "計数 & co": {"dtype": "f8"}}, {"title": title}) as (
            _,
            streams,
        ),
    ):
        for stream in streams.values():
            stream.send(np.arange(3.0))
        curve_of(page, 3)
        assert page.locator(".scan h2").inner_text() == f"1 {title}"
        assert page.get_by_role("button", name="計数 & co").count() == 1


def test_an_image_larger_than_the_screen_comes_whole_when_it_stands_still(
    there: tuple[DataStore, Viewer], tmp_path: Path
) -> None:
    store, viewer = there
    image = np.zeros((1500, 3000), "u2")
    image[700, 1400], image[3, 3] = 60_000, 7
    with (
        looking(viewer, tmp_path / "p") as page,
        scan(store, {"camera": {"dtype": "u2", "shape": image.shape}}) as (_, streams),
    ):
        streams["camera"].send(image)
        until(lambda: attribute(page, ".picture", "data-step"), lambda n: n > 1)
        told = page.locator(".picture").get_attribute("data-limits")
        assert told == "[0,60000,7]"
        until(lambda: attribute(page, ".picture", "data-step"), lambda n: n == 1)
        page.get_by_label("Colour map").select_option("Greys")
        page.get_by_label("Scale").select_option("log")
        page.reload()
        assert page.get_by_label("Colour map").input_value() == "Greys"
        until(lambda: attribute(page, ".picture", "data-step"), lambda n: n == 1)


# ------------------------------------------------------------------------------------ what goes


def test_the_page_says_that_the_store_is_away_and_comes_back_with_it(tmp_path: Path) -> None:
    chromium()
    away = "This page goes on when it is back"
    with (
        TestServer(tcp=True, appendonly="yes", appendfsync="always") as server,
        DataStore(server.url, init_db=True) as store,
    ):
        viewer = Viewer(server.url, tmp_path)
        try:
            with (
                looking(viewer, tmp_path / "p") as page,
                scan(store, {"diode": {"dtype": "f8"}}) as (_, streams),
            ):
                streams["diode"].send(np.arange(5.0))
                curve_of(page, 5)
                server.kill()
                page.get_by_text(away).wait_for()
                assert attribute(page, ".canvas", "data-points") == 5  # what was drawn stays
                server.start()
                until(lambda: page.get_by_text(away).count(), lambda n: n == 0)
                streams["diode"].send(np.arange(2.0))
                curve_of(page, 7)
        finally:
            viewer.stop()


def test_a_scan_that_is_deleted_is_said_to_be_gone(
    there: tuple[DataStore, Viewer], tmp_path: Path
) -> None:
    store, viewer = there
    with looking(viewer, tmp_path / "p") as page:
        with scan(store, {"diode": {"dtype": "f8"}}) as (found, streams):
            streams["diode"].send(np.arange(4.0))
            curve_of(page, 4)
        store.delete_scan(found.key)
        page.get_by_text("This scan is not on the server any more").wait_for()
        assert attribute(page, ".canvas", "data-points") == 4  # what was drawn stays


def test_points_that_have_left_the_server_are_missed_aloud(
    there: tuple[DataStore, Viewer], tmp_path: Path
) -> None:
    store, viewer = there
    with scan(store, {"diode": {"dtype": "f8"}}) as (_, streams):
        for i in range(20):
            streams["diode"].send(float(i))
            streams["diode"].join()
        store.event_log.trim({streams["diode"].key: 10})
        with looking(viewer, tmp_path / "p") as page:
            curve_of(page, 20)
            page.get_by_text("points 0 to 9 have left the server").wait_for()


# ------------------------------------------------------------------------------------ who looks


def test_everything_can_be_done_with_the_keyboard(
    there: tuple[DataStore, Viewer], tmp_path: Path
) -> None:
    store, viewer = there
    Acquisition(store, str(tmp_path / "a.h5"), 1).end()
    acquisition = Acquisition(store, str(tmp_path / "a.h5"), 2)
    acquisition.go_on(5)
    heading = ".scan h2"
    with looking(viewer, tmp_path / "p") as page:
        until(lambda: page.locator(heading).all_inner_texts(), lambda t: t != [])
        page.keyboard.press("/")
        page.keyboard.type("1")
        until(lambda: page.locator("[role=option]").count(), lambda n: n == 1)
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")
        until(lambda: page.locator(heading).inner_text(), lambda text: text.startswith("1 "))
        assert not page.get_by_label("Follow the latest scan").is_checked()
        page.keyboard.press("f")
        until(lambda: page.get_by_label("Follow the latest scan").is_checked(), bool)
        page.get_by_role("tab", name="detectors").focus()
        page.keyboard.press("ArrowRight")
        page.get_by_role("tab", name="map", selected=True).wait_for()
        assert page.evaluate("document.activeElement.textContent") == "map"
        page.get_by_role("tab", name="Plots").focus()
        page.keyboard.press("ArrowRight")
        page.get_by_role("tab", name="File", selected=True).wait_for()
    acquisition.end()


def test_a_curve_is_zoomed_and_moved_over_without_a_mouse_and_with_the_wheel(
    there: tuple[DataStore, Viewer], tmp_path: Path
) -> None:
    store, viewer = there

    def seen() -> list[float]:
        found: list[float] = json.loads(page.locator(".canvas").get_attribute("data-seen"))
        return found

    with (
        looking(viewer, tmp_path / "p") as page,
        scan(store, {"diode": {"dtype": "f8"}}) as (_, streams),
    ):
        streams["diode"].send(np.arange(101.0))
        curve_of(page, 101)
        until(seen, lambda s: s == [0, 100])
        page.locator(".canvas").press("ArrowRight")  # all is seen: nowhere to go
        page.locator(".canvas").press("+")
        until(seen, lambda s: s == [25, 75])
        page.locator(".canvas").press("ArrowRight")
        until(seen, lambda s: s == [35, 85])
        page.locator(".u-over").hover()
        page.mouse.wheel(-10_000, 0)
        until(seen, lambda s: s == [0, 50])
        streams["diode"].send(np.arange(10.0))
        curve_of(page, 111)
        assert seen() == [0, 50]  # what comes does not take it away
        page.locator(".u-over").dblclick()
        until(seen, lambda s: s == [0, 110])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_keeps_anybody_from_using_it(
    there: tuple[DataStore, Viewer], tmp_path: Path, scheme: str, width: int
) -> None:
    """axe-core, the rules of WCAG 2 A and AA; H5Web's own widgets are its authors' matter."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make web")
    store, viewer = there
    acquisition = Acquisition(store, str(tmp_path / "a.h5"))
    acquisition.go_on(20)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    with looking(viewer, tmp_path / "p", bypass_csp=True, **options) as page:
        page.add_script_tag(path=str(AXE))
        for tab in ("detectors", "map", "Spectra", "camera"):
            page.get_by_role("tab", name=tab, exact=True).click()
            until(lambda: page.locator("canvas").count(), lambda n: n > 0)
            found = page.evaluate(
                """() => axe.run({exclude: [['.vis *']]}, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa']})
                    .then(({violations}) => violations
                        .filter((one) => ['serious', 'critical'].includes(one.impact))
                        .map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(' ')}`))"""
            )
            assert found == [], tab
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    acquisition.end()


def test_a_long_list_is_in_the_page_only_where_it_is_seen(
    there: tuple[DataStore, Viewer], tmp_path: Path
) -> None:
    store, viewer = there
    for number in range(1, 331):
        store.create_scan({"name": "many", "number": number, "data_policy": "none"}).close()
    with looking(viewer, tmp_path / "p") as page:
        page.get_by_text("330 scans").wait_for()
        assert page.locator("[role=option]").count() < 60
        oldest = page.locator("[role=option][aria-posinset='330']")
        down = "document.querySelector('.rows').scrollTop = 1e9"
        until(lambda: page.evaluate(down) and oldest.count(), lambda n: n == 1)
        assert page.locator("[role=option]").count() < 60
        oldest.click()
        until(lambda: page.locator(".scan h2").inner_text(), lambda text: text.startswith("1 "))
        store.create_scan({"name": "new", "number": 999, "data_policy": "none"}).close()
        page.get_by_text("331 scans").wait_for()  # a new one does not take the others away
        page.locator("[role=option][aria-posinset='331'].selected").wait_for()


def _scrolled_to(page: Any, scroll: str, row: Any) -> int:
    page.evaluate(scroll)
    return int(row.count())


@pytest.mark.slow
def test_a_hundred_thousand_scans_are_walked_through(
    there: tuple[DataStore, Viewer], tmp_path: Path
) -> None:
    store, viewer = there
    count = 100_000
    identity = {"name": "many", "data_policy": "none"}
    for number in range(1, count + 1):
        pk = new_ulid()
        info = {**identity, "number": number}
        store.catalog.create(ScanDocument(pk, info, {}, store.catalog.new_state_pk(pk)))
    with looking(viewer, tmp_path / "p") as page:
        page.get_by_text("100,000 scans").wait_for()
        for place in (1200, 400, 2000, 1000):
            row = page.locator(f"[role=option][aria-posinset='{place}']")
            there_yet = f"document.querySelector('.rows').scrollTop = {place} * {ROW_PX} - 200"
            until(partial(_scrolled_to, page, there_yet, row), bool)
            assert page.locator("[role=option]").count() < 60
        page.get_by_label("Name or number").fill("54321")
        found = page.locator("[role=option]")
        until(found.count, lambda n: n == 1)
        found.click()
        heading = page.locator(".scan h2")
        until(heading.all_inner_texts, lambda t: t != [] and t[0].startswith("54321 "))
