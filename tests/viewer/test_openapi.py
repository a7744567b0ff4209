"""The OpenAPI document is true: it names every route, and schemathesis, which asks what it allows and what it
does not, finds no failure and no answer that it does not describe."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
from starlette.routing import Route
from tests.clients.environments import EnvironmentUnavailableError, environment
from tests.h5api.live import group, send, started, stream
from tests.viewer.browser import TOKEN, Viewer

from blissdata import DataStore
from blissdata.testing.servers import TestServer
from blissdata.viewer.access import Gate
from blissdata.viewer.app import viewer_app
from blissdata.viewer.openapi import openapi


def test_it_names_every_route(plain_store: DataStore) -> None:
    routes = {
        route.path
        for route in viewer_app(plain_store, Gate(TOKEN)).routes
        if isinstance(route, Route)
    }
    served = {path for path in routes if not path.endswith("/") and "{" not in path}
    assert served - set(openapi()["paths"]) == {"/api/openapi.json"}
    assert set(openapi()["paths"]) <= served


def test_it_is_for_who_has_the_token(ask: Callable[..., httpx.Response]) -> None:
    assert ask("/api/openapi.json", token=None).status_code == 401
    assert ask("/api/openapi.json").json() == openapi()


@pytest.mark.environments
def test_schemathesis_finds_no_failure(tmp_path: Path) -> None:
    try:
        program = environment("schemathesis").with_name("schemathesis")
    except EnvironmentUnavailableError as error:
        pytest.skip(str(error))
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    with TestServer() as server, DataStore(server.url, init_db=True) as store:
        file = str(tmp_path / "a.h5")
        kinds = {"x": ("f8", ()), "image": ("u2", (2, 3)), "text": ("json", ())}
        scan, streams = started(store, group(x=stream("x")), 1, file, **kinds)
        with scan:
            send(streams["x"], np.array([1.0, np.nan]))
            send(streams["image"], np.zeros((2, 2, 3), "u2"))
            send(streams["text"], {"a": 1})
            viewer = Viewer(server.url, tmp_path)
            (tmp_path / "schemathesis.toml").write_text(
                f'[parameters]\nkey = "{scan.key}"\nfile = "{file}"\n'
                'stream = "x"\npath = "/1.1/x"\nindex = "0"\n'
            )
            try:
                done = subprocess.run(
                    [
                        program,
                        "run",
                        f"http://127.0.0.1:{viewer.port}/api/openapi.json",
                        "-H",
                        f"Authorization: Bearer {TOKEN}",
                        "--checks",
                        checks,
                        "-n",
                        "20",
                        "--seed",
                        "1",
                        "--no-color",
                    ],
                    cwd=tmp_path,
                    check=False,
                    capture_output=True,
                    text=True,
                    env={**os.environ, "COLUMNS": "100"},
                )
            finally:
                viewer.stop()
            scan.stop()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
