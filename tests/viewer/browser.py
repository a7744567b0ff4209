"""A real Chromium that looks at a real `blissdata web`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import pytest

from blissdata.testing.servers import free_port
from blissdata.viewer.app import page_is_built
from blissdata.viewer.build_note import why_not_built

T = TypeVar("T")

TOKEN = "a-token-for-browser-tests"  # noqa: S105 — of a test

SCREENSHOTS = Path("build/screenshots")

DEADLINE_S = 60.0

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str:
    """Debian's Chromium. Skips the test where there is none, or no page."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("there is no chromium on this machine: apt-get install chromium")
    if not page_is_built():
        pytest.skip(f"the page was not built: {why_not_built()}")
    return found


class Viewer:
    """`blissdata web` as a process; it can be ended and started again at the same address."""

    def __init__(
        self, server_url: str, root: Path, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        self.port = free_port()
        self._secure = certificate is not None
        self._command = [
            str(Path(sys.executable).with_name("blissdata")),
            "web",
            *("--url", server_url, "--port", str(self.port)),
            *("--token", TOKEN, "--root", str(root)),
            *(("--certfile", str(certificate), "--keyfile", str(key)) if certificate else ()),
        ]
        self._process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"http{'s' * self._secure}://127.0.0.1:{self.port}/#token={TOKEN}"

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if self.address in line:
                return
        raise AssertionError(f"it ended with {self._process.wait()} instead of serving")

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(DEADLINE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def looking(
    viewer: Viewer, profile: Path, *, address: str | None = None, **options: Any
) -> Iterator[Any]:
    """A page that shows the viewer. Fails if anything went wrong in the browser, a violation of the
    security policy among it."""
    from playwright.sync_api import sync_playwright

    wrong: list[str] = []
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=chromium(), args=FLAGS, **options
        )
        try:
            page = context.pages[0]
            page.set_default_timeout(DEADLINE_S * 1000)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on(
                "console",
                lambda said: (
                    wrong.append(said.text) if "Content Security Policy" in said.text else None
                ),
            )
            page.goto(address or viewer.address)
            yield page
        finally:
            context.close()
    assert not wrong, "\n".join(wrong)


def until(look: Callable[[], T], wanted: Callable[[T], bool]) -> T:
    """Looks until what is seen is wanted."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found = look()
        if wanted(found):
            return found
        assert time.monotonic() < deadline, f"still {found!r}"
        time.sleep(0.02)


def attribute(page: Any, selector: str, name: str) -> int:
    """A number that an element tells; -1 without it."""
    found = page.locator(selector).first
    return int(found.get_attribute(name) or -1) if found.count() else -1


_PLACE = """selector => {
  const element = document.querySelector(selector)
  if (!element) return null
  element.scrollIntoView({ block: 'nearest' })
  const { x, y, width, height } = element.getBoundingClientRect()
  return width && height ? { x, y, width, height } : null
}"""


def picture(page: Any, selector: str) -> bytes:
    """A PNG of the place where an element is (the first one that CSS selects): the page may put another one
    there meanwhile."""
    place = until(lambda: page.evaluate(_PLACE, selector), bool)
    return bytes(page.screenshot(clip=place))


def pixels(page: Any, selector: str) -> np.ndarray:
    """What is seen of an element: `(rows, columns, 3)`, blue, green, red."""
    seen = np.frombuffer(picture(page, selector), "u1")
    found = cv2.imdecode(seen, cv2.IMREAD_COLOR)
    assert found is not None
    return np.asarray(found)


def colours(page: Any, selector: str) -> int:
    """How many colours an element shows: one or two where nothing is drawn."""
    return len(np.unique(pixels(page, selector).reshape(-1, 3), axis=0))


def shoot(page: Any, name: str) -> None:
    """Keeps a screenshot."""
    os.makedirs(SCREENSHOTS, exist_ok=True)
    page.screenshot(path=str(SCREENSHOTS / f"{name}.png"))
