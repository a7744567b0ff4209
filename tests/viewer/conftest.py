"""A viewer's application on a store, asked as a browser asks, without a socket; and a real one for a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2 as httpx
import pytest
from tests.viewer.browser import Viewer, chromium

from blissdata import DataStore
from blissdata.testing.servers import TestServer
from blissdata.viewer.access import Gate
from blissdata.viewer.app import viewer_app

TOKEN = "a-token-that-nobody-guesses"  # noqa: S105 — of a test

Open = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(autouse=True)
def quick_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A viewer that ends waits for its thread, which looks up a few times a second."""
    monkeypatch.setattr("blissdata.viewer.live.STATES_PERIOD_S", 0.02)
    monkeypatch.setattr("blissdata.viewer.watched.WAIT_S", 0.02)


@pytest.fixture
def there(server: TestServer, tmp_path: Path) -> Iterator[tuple[DataStore, Viewer]]:
    """A store, and the viewer that a browser can look at it with."""
    chromium()
    with DataStore(server.url, init_db=True) as store:
        viewer = Viewer(server.url, tmp_path)
        try:
            yield store, viewer
        finally:
            viewer.stop()


@pytest.fixture
def opened(plain_store: DataStore, tmp_path: Path) -> Open:
    """`async with opened() as client`: asks the viewer of the store."""

    @asynccontextmanager
    async def open_(token: str | None = TOKEN, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        app = viewer_app(plain_store, Gate(TOKEN), roots=options.get("roots", [tmp_path]))
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app, raise_app_exceptions=False),
                base_url=options.get("base_url", "http://localhost"),
                headers=headers,
            ) as client,
        ):
            yield client

    return open_


@pytest.fixture
def ask(opened: Open) -> Callable[..., httpx.Response]:
    """Asks one question: `ask("/api/scans", limit=3)`."""

    def question(path: str, /, token: str | None = TOKEN, **params: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            async with opened(token) as client:
                return await client.get(path, params=params or None)

        return anyio.run(run)

    return question
