"""Who wants in, out of the allowed directories, or more than the viewer can bear: a real `blissdata web`, asked
over a socket as attackers ask, and its rules where no socket is needed.

    in      token (missing, wrong, cookie, odd bytes), Host, Origin, methods
    out     `..`, percent signs once and twice, NUL, symlinks, links inside files (test_app.py)
    more    selections, questions, messages, connections without end
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import h5py
import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect
from tests.viewer.browser import DEADLINE_S, TOKEN, Viewer
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from blissdata import DataStore
from blissdata.cli.web import impatient
from blissdata.testing.servers import TestServer
from blissdata.viewer.access import Gate
from blissdata.viewer.app import viewer_app

BEARER = f"Authorization: Bearer {TOKEN}"

SECRET = b"nobody may read this"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that may be read, with a file, beside one that may not."""
    root = tmp_path_factory.mktemp("viewer") / "allowed"
    root.mkdir()
    (root.parent / "secret.h5").touch()
    with h5py.File(root.parent / "secret.h5", "w") as file:
        file["x"] = np.bytes_(SECRET)
    with h5py.File(root / "a.h5", "w") as file:
        file["x"] = np.arange(3)
        file["out"] = h5py.ExternalLink("../secret.h5", "/x")
        file.create_dataset("raw", (20,), "u1", external=[("../secret.h5", 0, 20)])
    (root / "link.h5").symlink_to(root.parent / "secret.h5")
    (root / "up").symlink_to(root.parent)
    return root


@pytest.fixture(scope="module")
def viewer(root: Path) -> Iterator[Viewer]:
    with TestServer() as server, DataStore(server.url, init_db=True):
        found = Viewer(server.url, root)
        try:
            yield found
        finally:
            found.stop()


def answer(viewer: Viewer, *lines: str, host: str | None = None) -> tuple[int, bytes]:
    """Status and everything that the server says to these lines, sent as they are."""
    with socket.create_connection(("127.0.0.1", viewer.port), timeout=20) as connection:
        said = [lines[0], f"Host: {host or f'127.0.0.1:{viewer.port}'}", *lines[1:]]
        connection.sendall("\r\n".join([*said, "Connection: close", "", ""]).encode("latin-1"))
        found = b""
        while part := connection.recv(65536):
            found += part
    return int(found.split(b" ", 2)[1]), found


class TestIn:
    @pytest.mark.parametrize(
        "header",
        [
            "X-Nothing: 1",
            "Authorization: Bearer",
            "Authorization: Bearer wrong",
            f"Authorization: Basic {TOKEN}",
            f"Authorization: Bearer {TOKEN}x",
            f"Authorization: Bearer {TOKEN[:-1]}",
            "Authorization: Bearer \xff\xfe",
            f"Cookie: token={TOKEN}",
        ],
    )
    def test_only_the_whole_token_lets_in_and_no_cookie(self, viewer: Viewer, header: str) -> None:
        status, said = answer(viewer, "GET /api/scans HTTP/1.1", header)
        assert status == 401
        assert b"set-cookie" not in said.lower()

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "[::1].evil.example",
            "evil.example:8050",
            "127.0.0.1:8050@evil.example",
            "0x7f.1.evil",
            "[::1",
            "[evil]",
            " ",
        ],
    )
    def test_a_name_that_is_not_ours_is_refused_before_the_token_is_looked_at(
        self, viewer: Viewer, host: str
    ) -> None:
        status, said = answer(viewer, "GET /api/scans HTTP/1.1", BEARER, host=host)
        assert status in (400, 421)
        assert b'"scans"' not in said

    @pytest.mark.parametrize(
        "path", ["/api/scans", "//api/scans", "/%61pi/scans", "/api//scans", "/./api/scans"]
    )
    def test_no_way_of_writing_a_path_leads_around_the_token(
        self, viewer: Viewer, path: str
    ) -> None:
        status, said = answer(viewer, f"GET {path} HTTP/1.1")
        assert status in (401, 404)
        assert b'"scans"' not in said

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X"])
    @pytest.mark.parametrize("path", ["/api/scans", "/h5/meta", "/"])
    def test_there_is_nothing_but_get(self, viewer: Viewer, method: str, path: str) -> None:
        assert answer(viewer, f"{method} {path} HTTP/1.1", BEARER)[0] == 405

    def test_head_gives_no_more_than_get(self, viewer: Viewer) -> None:
        assert answer(viewer, "HEAD /api/scans HTTP/1.1")[0] == 401
        status, said = answer(viewer, "HEAD /api/scans HTTP/1.1", BEARER)
        assert status == 200
        assert said.endswith(b"\r\n\r\n")

    @pytest.mark.parametrize(
        ("origin", "host", "ours"),
        [
            (None, "localhost:8050", True),
            ("http://localhost:8050", "localhost:8050", True),
            ("https://[::1]:8050", "[::1]:8050", True),
            ("null", "localhost:8050", False),
            ("", "localhost:8050", False),
            ("file://", "localhost:8050", False),
            ("http://localhost:8051", "localhost:8050", False),
            ("http://localhost", "localhost:8050", False),
            ("http://127.0.0.1:8050", "localhost:8050", False),
            ("http://localhost:8050.evil.example", "localhost:8050", False),
            ("http://evil.example/localhost:8050", "localhost:8050", False),
            ("localhost:8050", "localhost:8050", False),
            ("null", None, False),
            ("", None, False),
        ],
    )
    def test_a_websocket_is_for_our_own_page(
        self, origin: str | None, host: str | None, ours: bool
    ) -> None:
        assert Gate(TOKEN).same_origin(origin, host) is ours

    def test_each_answer_forbids_scripts_from_elsewhere(self, viewer: Viewer) -> None:
        for path in ("/", "/api/scans", "/nothing", "/api/nothing"):
            said = answer(viewer, f"GET {path} HTTP/1.1", BEARER)[1].lower()
            assert b"script-src 'self';" in said
            assert b"unsafe-eval" not in said
            assert b"access-control-allow-origin" not in said


class TestOut:
    @pytest.mark.parametrize(
        "file",
        [
            "{root}/../secret.h5",
            "{root}/up/secret.h5",
            "{root}/link.h5",
            "{root}/./../secret.h5",
            "{root}//..//secret.h5",
            "{root}/%2e%2e/secret.h5",
            "{root}/a.h5/../../secret.h5",
            "{root}/a.h5\0",
            "{root}",
            "/proc/self/environ",
            "secret.h5",
            "file://{root}/a.h5",
            "~/secret.h5",
            "",
        ],
    )
    def test_no_file_outside_is_opened(self, viewer: Viewer, root: Path, file: str) -> None:
        name = file.format(root=root)
        for sent in (quote(name, safe=""), quote(quote(name, safe=""), safe="")):
            for question in ("h5/data", "h5/meta", "api/snapshot"):
                query = f"file={sent}&path=/x"
                status, said = answer(viewer, f"GET /{question}?{query} HTTP/1.1", BEARER)
                assert status in (403, 404, 422), said
                assert SECRET not in said

    @pytest.mark.parametrize("path", ["/out", "/raw"])
    def test_no_link_inside_a_file_leads_outside(
        self, viewer: Viewer, root: Path, path: str
    ) -> None:
        status, said = answer(viewer, f"GET /h5/data?file={root}/a.h5&path={path} HTTP/1.1", BEARER)
        assert status in (403, 404, 422)
        assert SECRET not in said

    @pytest.mark.parametrize(
        "path",
        [
            "/../secret.h5",
            "/%2e%2e/secret.h5",
            "/..%2fsecret.h5",
            "/assets/../../app.py",
            "/app.py",
        ],
    )
    def test_the_page_is_all_that_is_served_beside(self, viewer: Viewer, path: str) -> None:
        assert answer(viewer, f"GET {path} HTTP/1.1")[0] == 404


class TestMore:
    def test_ten_gigabytes_are_refused_before_they_are_made(
        self, viewer: Viewer, root: Path
    ) -> None:
        with h5py.File(root / "large.h5", "w") as file:
            file.create_dataset("x", (5000, 2**18), "f8", chunks=(1, 2**18))
        before = _peak_kb(viewer)
        for query in ("path=/x", "path=/x&selection=:", "path=/x&selection=0:5000:1&format=npy"):
            for question in ("data", "stats"):
                line = f"GET /h5/{question}?file={root}/large.h5&{query} HTTP/1.1"
                assert answer(viewer, line, BEARER)[0] == 413
        assert _peak_kb(viewer) < before + 100_000

    @pytest.mark.parametrize(
        "lines",
        [
            [f"GET /api/scans?name={'x' * 100_000} HTTP/1.1", BEARER],
            ["GET /api/scans HTTP/1.1", BEARER, f"X: {'x' * 200_000}"],
            ["GET /api/scans HTTP/1.1", BEARER, *["X: 1"] * 20_000],
        ],
        ids=["query", "header", "headers"],
    )
    def test_a_question_without_end_is_refused(self, viewer: Viewer, lines: list[str]) -> None:
        with contextlib.suppress(ConnectionError):  # it may not even listen to the end
            assert answer(viewer, *lines)[0] in (400, 414, 431)
        assert answer(viewer, "GET /api/scans HTTP/1.1", BEARER)[0] == 200

    @pytest.mark.parametrize(
        "message",
        ["x", "[]", "7", '"watch"', "{", '{"type": 7}', "[" * 50_000, b"\xff\x00"],
        ids=lambda m: str(m)[:8],
    )
    def test_a_message_that_makes_no_sense_ends_at_most_its_own_conversation(
        self, plain_store: DataStore, message: str | bytes
    ) -> None:
        app = viewer_app(plain_store, Gate(TOKEN), roots=[])
        headers = {"authorization": f"Bearer {TOKEN}"}
        protocols = ["blissdata.viewer", f"token.{TOKEN}"]
        with (
            TestClient(app, base_url="http://localhost", headers=headers) as client,
            client.websocket_connect("ws://localhost/api/live", protocols) as other,
        ):
            with client.websocket_connect("ws://localhost/api/live", protocols) as socket_:
                if isinstance(message, bytes):
                    socket_.send_bytes(message)
                else:
                    socket_.send_text(message)
            assert json.loads(other.receive_text())["type"] == "hello"
            other.send_text('{"type": "watch", "keys": ["no key"]}')
            assert client.get("/api/scans").status_code == 200

    def test_one_browser_too_many_is_sent_away_until_another_leaves(
        self, plain_store: DataStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("blissdata.viewer.app.MOST_CLIENTS", 2)
        app = viewer_app(plain_store, Gate(TOKEN), roots=[])
        protocols = ["blissdata.viewer", f"token.{TOKEN}"]

        def one_more(client: TestClient) -> contextlib.AbstractContextManager[WebSocketTestSession]:
            return client.websocket_connect("ws://localhost/api/live", protocols)

        with TestClient(app, base_url="http://localhost") as client, one_more(client) as first:
            assert json.loads(first.receive_text())["type"] == "hello"
            with one_more(client) as second:
                assert json.loads(second.receive_text())["type"] == "hello"
                with pytest.raises(WebSocketDisconnect) as refused, one_more(client):
                    pass
                assert refused.value.code == 1013
            with one_more(client) as third:
                assert json.loads(third.receive_text())["type"] == "hello"

    def test_a_flood_of_messages_from_who_never_reads_costs_nobody_memory(
        self, viewer: Viewer
    ) -> None:
        before = _peak_kb(viewer)
        protocols = [Subprotocol("blissdata.viewer"), Subprotocol(f"token.{TOKEN}")]
        with connect(f"ws://127.0.0.1:{viewer.port}/api/live", subprotocols=protocols) as flood:
            keys = json.dumps({"type": "watch", "keys": [f"no key {i}" for i in range(3000)]})
            for _ in range(200):
                flood.send(keys)
            for _ in range(5000):
                flood.send('{"type": "read"}')
            assert answer(viewer, "GET /api/scans HTTP/1.1", BEARER)[0] == 200
            with pytest.raises(ConnectionClosedError) as ended:
                _say_and_hear(flood, "x" * 100_000)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1009  # too big
        assert _peak_kb(viewer) - before < 100_000

    def test_who_says_nothing_for_long_keeps_nobody_from_being_answered(
        self, viewer: Viewer
    ) -> None:
        slow = [socket.create_connection(("127.0.0.1", viewer.port)) for _ in range(300)]
        try:
            for one in slow:
                one.sendall(b"GET /api/scans HTTP/1.1\r\nHost: 127.0.0.1\r\nX-")
            assert answer(viewer, "GET /api/scans HTTP/1.1", BEARER)[0] == 200
        finally:
            for one in slow:
                one.close()

    def test_who_begins_a_question_and_does_not_end_it_is_let_go(self) -> None:
        async def run() -> bytes:
            config = uvicorn.Config(Starlette(), log_config=None)
            config.load()
            loop = asyncio.get_running_loop()
            state = uvicorn.server.ServerState()
            kind = impatient(0.05)
            server = await loop.create_server(lambda: kind(config, state, {}), "127.0.0.1", 0)
            async with server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
                found = await asyncio.wait_for(reader.read(), DEADLINE_S)
                writer.close()
                await writer.wait_closed()
                return found

        assert asyncio.run(run()) == b""


def _say_and_hear(connection: ClientConnection, text: str) -> None:
    """Until the other side ends it."""
    connection.send(text)
    while True:
        connection.recv(DEADLINE_S)


def _peak_kb(viewer: Viewer) -> int:
    """How much memory the viewer has had at most [kB]."""
    with open(f"/proc/{viewer.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def test_it_can_be_encrypted(root: Path, tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    with TestServer() as server, DataStore(server.url, init_db=True):
        viewer = Viewer(server.url, root, certificate=certificate, key=key)
        try:
            assert viewer.address.startswith("https://")
            context = ssl.create_default_context(cafile=str(certificate))
            with (
                socket.create_connection(("127.0.0.1", viewer.port), timeout=20) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as safe,
            ):
                said = ["GET /api/scans HTTP/1.1", "Host: 127.0.0.1", BEARER, "Connection: close"]
                safe.sendall("\r\n".join([*said, "", ""]).encode())
                assert safe.recv(65536).startswith(b"HTTP/1.1 200")
        finally:
            viewer.stop()
