"""The viewer's API, asked as a browser would: what it gives, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import httpx2 as httpx
import numpy as np
import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from tests.h5api.live import group, new_scan, send, started, stream
from tests.viewer.conftest import TOKEN

from blissdata import DataStore
from blissdata.viewer.access import Gate
from blissdata.viewer.app import UNREAD, viewer_app

Ask = Callable[..., httpx.Response]


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "sample.h5")


@contextmanager
def talking(store: DataStore, **headers: str) -> Iterator[Any]:
    """A browser's websocket, and the client for other questions."""
    app = viewer_app(store, Gate(TOKEN), roots=[])
    with TestClient(
        app, base_url="http://localhost", headers={"authorization": f"Bearer {TOKEN}"}
    ) as client:
        protocols = ["blissdata.viewer", f"token.{TOKEN}"]
        with client.websocket_connect(
            "ws://localhost/api/live", protocols, headers=headers
        ) as socket:
            yield client, socket


def heard(socket: Any, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The next message that is wanted; each one is acknowledged, as the page does."""
    while True:
        message: dict[str, Any] = json.loads(socket.receive_text())
        socket.send_text('{"type": "read"}')
        if wanted(message):
            return message


class TestWhoMayAsk:
    @pytest.mark.parametrize(
        "path", ["/api/scans", "/api/points", "/h5/meta", "/h5/3/data", "/api/x"]
    )
    @pytest.mark.parametrize("token", [None, "wrong", ""])
    def test_nobody_without_the_token(self, ask: Ask, path: str, token: str | None) -> None:
        assert ask(path, token=token).status_code == 401

    def test_a_query_may_carry_it(self, ask: Ask) -> None:
        answer = ask(f"/api/scans?token={TOKEN}", token=None)
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example"]
    )
    def test_a_foreign_name_is_refused(self, host: str) -> None:
        assert not Gate(TOKEN).knows_host(host)
        assert not Gate(TOKEN).knows_host(f"{host}:8050")

    @pytest.mark.parametrize(
        "host", ["localhost", "localhost:8050", "127.0.0.1:1", "[::1]:8050", "LocalHost"]
    )
    def test_our_own_names_are_known(self, host: str) -> None:
        assert Gate(TOKEN).knows_host(host)

    def test_a_foreign_page_gets_no_websocket(self, plain_store: DataStore) -> None:
        with (
            pytest.raises(WebSocketDisconnect),
            talking(plain_store, origin="http://evil.example"),
        ):
            pass

    def test_a_websocket_needs_the_token(self, plain_store: DataStore) -> None:
        app = viewer_app(plain_store, Gate(TOKEN))
        with (
            TestClient(app, base_url="http://localhost") as client,
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect(
                "ws://localhost/api/live", ["blissdata.viewer", "token.wrong"]
            ),
        ):
            pass

    def test_nothing_can_be_changed(self, plain_store: DataStore) -> None:
        app = viewer_app(plain_store, Gate(TOKEN))
        with TestClient(app, base_url="http://localhost") as client:
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                answer = client.request(
                    method, "/api/scans", headers={"authorization": f"Bearer {TOKEN}"}
                )
                assert answer.status_code == 405

    def test_answers_tell_browsers_to_be_strict(self, ask: Ask) -> None:
        headers = ask("/api/scans").headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


class TestScans:
    def test_the_newest_comes_first(self, ask: Ask, plain_store: DataStore) -> None:
        made = [new_scan(plain_store, number) for number in (1, 2, 3)]
        found = ask("/api/scans", limit=2).json()
        assert [row["identity"]["number"] for row in found["scans"]] == [3, 2]
        assert found["total"] == 3
        rest = ask("/api/scans", limit=2, before=found["next"]).json()
        assert [row["identity"]["number"] for row in rest["scans"]] == [1]
        assert rest["next"] is None
        for scan in made:
            scan.close()

    def test_filters_by_state_and_by_fields(self, ask: Ask, plain_store: DataStore) -> None:
        new_scan(plain_store, 1).close()
        with new_scan(plain_store, 2):
            running = ask("/api/scans", state="running").json()["scans"]
            finished = ask("/api/scans", state="finished").json()["scans"]
            named = ask("/api/scans", number="1").json()["scans"]
        assert [row["identity"]["number"] for row in running] == [2]
        assert [row["identity"]["number"] for row in finished] == [1]
        assert [row["identity"]["number"] for row in named] == [1]

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ({"limit": "0"}, 422),
            ({"limit": "x"}, 422),
            ({"state": "asleep"}, 422),
            ({"unknown": "1"}, 422),
            ({"name": "a*b"}, 422),
            ({"before": "no-key"}, 404),
        ],
        ids=str,
    )
    def test_questions_that_make_no_sense(self, ask: Ask, query: Any, status: int) -> None:
        answer = ask("/api/scans", **query)
        assert answer.status_code == status
        assert answer.json()["message"]

    def test_an_unknown_scan(self, ask: Ask, plain_store: DataStore) -> None:
        gone = plain_store.catalog.scan_key("01ARZ3NDEKTSV4RRFFQ69G5FAV")
        assert ask("/api/scan", key=gone).status_code == 404
        assert ask("/api/scan", key="nonsense").status_code == 404
        assert ask("/api/scan").status_code == 422


class TestPoints:
    @pytest.fixture
    def key(self, plain_store: DataStore, file: str) -> Iterator[str]:
        kinds = {
            "x": ("f8", ()),
            "n": ("i8", ()),
            "z": ("c16", ()),
            "on": ("bool", ()),
            "text": ("json", ()),
            "varies": ("i4", (-1,)),
            "image": ("u2", (2, 3)),
            "none": ("f8", ()),
        }
        scan, streams = started(plain_store, group(x=stream("x")), 1, file, **kinds)
        with scan:
            send(streams["x"], np.array([0.5, np.nan, -np.inf, 3.0]))
            send(streams["n"], np.array([1, 2**53 + 1, 3, 4]))
            send(streams["z"], np.array([3 + 4j]))
            send(streams["on"], np.array([True, False]))
            for value in ({"a": 1}, "b"):
                send(streams["text"], value)
            for count in (1, 2):
                send(streams["varies"], np.arange(count, dtype="i4"))
            send(streams["image"], np.arange(18, dtype="u2").reshape(3, 2, 3))
            yield scan.key
            scan.stop()

    def test_come_as_bytes_with_their_type(self, ask: Ask, key: str) -> None:
        answer = ask("/api/points", key=key, stream="x", selection="0:3")
        found = np.frombuffer(answer.content, answer.headers["x-dtype"])
        assert found.shape == (3,)
        assert np.array_equal(found, [0.5, np.nan, -np.inf], equal_nan=True)
        assert (answer.headers["x-start"], answer.headers["x-length"]) == ("0", "4")

    @pytest.mark.parametrize(
        ("selection", "start", "count"),
        [
            ("", 0, 4),
            ("1:", 1, 3),
            (":2", 0, 2),
            ("-2:", 2, 2),
            ("3", 3, 1),
            ("-1", 3, 1),
            ("2:99", 2, 2),
        ],
    )
    def test_are_chosen_as_python_chooses(
        self, ask: Ask, key: str, selection: str, start: int, count: int
    ) -> None:
        answer = ask("/api/points", key=key, stream="x", selection=selection)
        assert len(answer.content) == 8 * count
        assert answer.headers["x-start"] == str(start)

    def test_of_many_streams_come_in_one_answer(self, ask: Ask, key: str) -> None:
        wanted = [("x", 1), ("n", 0), ("unknown", 0), ("text", 0), ("z", 0), ("none", 0)]
        query = "&".join(f"stream={name}&from={start}" for name, start in wanted)
        body = ask(f"/api/more?key={key}&{query}").content
        size = int.from_bytes(body[:4], "little")
        told = json.loads(body[4 : 4 + size])
        values = np.frombuffer(body[4 + size :], "<f8")
        assert (4 + size) % 8 == 0
        assert [one.get("count") for one in told] == [3, 4, None, None, 1, 0]
        assert all(told[i]["problem"] for i in (2, 3))
        assert (told[0]["start"], told[0]["length"]) == (1, 4)
        expected = [np.nan, -np.inf, 3.0, 1.0, 2.0**53, 3.0, 4.0, 5.0]
        assert np.array_equal(values, expected, equal_nan=True)

    @pytest.mark.parametrize("query", ["", "stream=x", "stream=x&from=-1", "stream=x&from=y"])
    def test_more_of_nothing_is_refused(self, ask: Ask, key: str, query: str) -> None:
        assert ask(f"/api/more?key={key}&{query}").status_code == 422

    def test_images_keep_their_shape(self, ask: Ask, key: str) -> None:
        answer = ask("/api/points", key=key, stream="image", selection="-1")
        assert json.loads(answer.headers["x-shape"]) == [1, 2, 3]
        assert np.frombuffer(answer.content, answer.headers["x-dtype"]).tolist() == list(
            range(12, 18)
        )

    def test_pictures_are_no_larger_than_they_are_drawn(self, ask: Ask, key: str) -> None:
        answer = ask("/api/picture", key=key, stream="image", index="1", rows=2, columns=2)
        told = {name: answer.headers[f"x-{name}"] for name in ("step", "shape", "whole", "limits")}
        assert told == {
            "step": "2",
            "shape": "[1, 2]",
            "whole": "[2, 3]",
            "limits": "[6.0, 11.0, 6.0]",
        }
        assert np.frombuffer(answer.content, answer.headers["x-dtype"]).tolist() == [10, 11]
        answer = ask("/api/picture", key=key, stream="image", index="-1")
        assert (answer.headers["x-start"], answer.headers["x-step"]) == ("2", "1")

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ({"stream": "image", "index": "3"}, 422),
            ({"stream": "image", "index": "0:2"}, 422),
            ({"stream": "image", "index": "0", "rows": "0", "columns": "1"}, 422),
            ({"stream": "image", "index": "0", "rows": "10"}, 422),
            ({"stream": "image"}, 422),
            ({"stream": "x", "index": "0"}, 422),
            ({"stream": "text", "index": "0"}, 422),
            ({"stream": "unknown", "index": "0"}, 404),
        ],
    )
    def test_what_is_no_picture_is_refused(
        self, ask: Ask, key: str, query: dict[str, str], status: int
    ) -> None:
        assert ask("/api/picture", key=key, **query).status_code == status

    @pytest.mark.parametrize(
        ("name", "expected"),
        [("z", [5.0]), ("on", [1.0, 0.0]), ("n", [1.0, 2.0**53, 3.0, 4.0])],
    )
    def test_as_plots_want_them(self, ask: Ask, key: str, name: str, expected: Any) -> None:
        answer = ask("/api/points", key=key, stream=name, dtype="float")
        assert np.frombuffer(answer.content, "<f8").tolist() == expected

    def test_what_is_no_array_comes_as_json(self, ask: Ask, key: str) -> None:
        assert ask("/api/points", key=key, stream="text").json() == [{"a": 1}, "b"]
        assert ask("/api/points", key=key, stream="varies").json() == [[0], [0, 1]]

    def test_none_yet(self, ask: Ask, key: str) -> None:
        answer = ask("/api/points", key=key, stream="none")
        assert (answer.status_code, answer.content) == (200, b"")

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ({"stream": "unknown"}, 404),
            ({"stream": "x", "selection": "99"}, 422),
            ({"stream": "x", "selection": "a:b"}, 422),
            ({"stream": "x", "selection": "0:1:2:3"}, 422),
            ({"stream": "x", "dtype": "f4"}, 422),
            ({}, 422),
        ],
        ids=str,
    )
    def test_questions_that_make_no_sense(
        self, ask: Ask, key: str, query: Any, status: int
    ) -> None:
        assert ask("/api/points", key=key, **query).status_code == status


class TestLive:
    def test_a_browser_is_told_what_happens(self, plain_store: DataStore, file: str) -> None:
        with talking(plain_store) as (client, socket):
            assert heard(socket, lambda m: True)["type"] == "hello"
            scan, streams = started(plain_store, group(x=stream("x")), 1, file, x=("f8", ()))
            heard(socket, lambda m: scan.key in m.get("scan_new", ()))
            socket.send_text(json.dumps({"type": "watch", "keys": [scan.key]}))
            send(streams["x"], np.arange(5.0))
            heard(socket, lambda m: m.get("lengths", {}).get("x", [0])[0] == 5)
            answer = client.get("/api/points", params={"key": scan.key, "stream": "x"})
            assert np.frombuffer(answer.content, "<f8").tolist() == [0, 1, 2, 3, 4]
            assert client.get("/api/last", params={"key": scan.key}).json() == {
                "values": {"x": 4.0}
            }
            scan.stop()
            scan.close()
            heard(socket, lambda m: m.get("scan_state", {}).get(scan.key) == "CLOSED")
            plain_store.delete_scan(scan.key)
            heard(socket, lambda m: m.get("scan_state", {}).get(scan.key) == "GONE")
            gone = client.get("/api/scan", params={"key": scan.key})
            assert gone.status_code == 404

    def test_large_points_are_told_by_their_number_alone(
        self, plain_store: DataStore, file: str
    ) -> None:
        scan, streams = started(plain_store, group(), 1, file, image=("f4", (200, 200)))
        with scan, talking(plain_store) as (_, socket):
            socket.send_text(json.dumps({"type": "watch", "keys": [scan.key]}))
            send(streams["image"], np.zeros((2, 200, 200), "f4"))
            heard(socket, lambda m: m.get("lengths", {}).get("image", [0])[0] == 2)
            scan.stop()
        # closed: the length is final

    def test_who_never_reads_is_not_told_more_and_then_only_the_newest(
        self, plain_store: DataStore, file: str
    ) -> None:
        scan, streams = started(plain_store, group(), 1, file, x=("f8", ()))
        watch = json.dumps({"type": "watch", "keys": [scan.key]})
        protocols = ["blissdata.viewer", f"token.{TOKEN}"]
        with (
            scan,
            talking(plain_store) as (client, silent),
            client.websocket_connect("ws://localhost/api/live", protocols) as reader,
        ):
            for socket in (silent, reader):
                socket.send_text(watch)
            for count in range(1, 3 * UNREAD):
                send(streams["x"], np.arange(1.0))
                heard(reader, lambda m, n=count: m.get("lengths", {}).get("x", [0])[0] == n)
            told = [json.loads(silent.receive_text()) for _ in range(1 + UNREAD)]
            assert max(m.get("lengths", {}).get("x", [0])[0] for m in told) < 3 * UNREAD - 1
            for _ in told:
                silent.send_text('{"type": "read"}')
            newest = heard(silent, lambda m: "x" in m.get("lengths", {}))
            assert newest["lengths"]["x"][0] == 3 * UNREAD - 1  # what was in between is left out
            scan.stop()

    def test_nonsense_ends_the_conversation_and_nothing_else(self, plain_store: DataStore) -> None:
        with talking(plain_store) as (client, socket):
            socket.send_text('{"type": "watch", "keys": ["no key", 7]}')
            socket.send_text('{"type": "read"}')
            assert client.get("/api/scans").status_code == 200


class TestFiles:
    def test_what_no_scan_names_is_not_opened(self, ask: Ask, tmp_path: Path) -> None:
        outside = tmp_path.parent / f"{tmp_path.name}-outside"
        outside.mkdir()
        with h5py.File(outside / "secret.h5", "w") as f:
            f["x"] = 1
        (tmp_path / "link.h5").symlink_to(outside / "secret.h5")
        with h5py.File(tmp_path / "inside.h5", "w") as f:
            f["ok"] = 2
            f["out"] = h5py.ExternalLink(str(outside / "secret.h5"), "/x")
            f["up"] = h5py.ExternalLink(f"../{outside.name}/secret.h5", "/x")
            layout = h5py.VirtualLayout((1,), "i8")
            layout[0:1] = h5py.VirtualSource(str(outside / "secret.h5"), "x1", (1,))
            f.create_virtual_dataset("virtual", layout)
        inside = str(tmp_path / "inside.h5")
        assert ask("/h5/data", file=inside, path="/ok").json() == 2
        for file in (
            outside / "secret.h5",
            tmp_path / "link.h5",
            f"{tmp_path}/../{outside.name}/secret.h5",
            "secret.h5",
            f"{inside}\0",
            "/etc/passwd",
            str(tmp_path),
        ):
            assert ask("/h5/data", file=str(file), path="/x").status_code in (403, 404), file
        told = ask("/h5/data", file=str(outside / "secret.h5"), path="/x").json()["message"]
        assert (
            f"is not below the data roots: {tmp_path} (--root). No scan on the server names it"
            in told
        )
        assert told.endswith("blissdata web --root DIRECTORY")
        for path in ("/out", "/up", "/virtual"):
            assert ask("/h5/data", file=inside, path=path).status_code in (403, 404, 422), path
        kinds = {
            c["name"]: c["kind"] for c in ask("/h5/meta", file=inside, path="/").json()["children"]
        }
        assert kinds["out"] == kinds["up"] == "external_link"

    @pytest.mark.parametrize(
        "path", ["/api/nothing", "/api/scan/more", "/h5/nothing", "/h5/x/meta"]
    )
    def test_a_path_of_nobody_is_told_in_the_form_of_other_errors(
        self, ask: Ask, path: str
    ) -> None:
        answer = ask(path)
        assert answer.status_code == 404
        told = f"There is nothing at {path}; /api/openapi.json says what can be asked"
        assert answer.json() == {"message": told}
        assert ask(path, token=None).status_code == 401

    @pytest.mark.parametrize("sent", ["%2e%2e%2f", "..%2F", "%252e%252e%252f", "%00"])
    def test_percent_signs_lead_nowhere(self, ask: Ask, tmp_path: Path, sent: str) -> None:
        answer = ask(f"/h5/meta?file={tmp_path}/{sent}etc/passwd&path=/")
        assert answer.status_code in (403, 404)
        assert ask(f"/{sent}pyproject.toml", token=None).status_code in (404, 503)

    def test_too_much_at_once(self, ask: Ask, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "large.h5", "w") as f:
            f.create_dataset(
                "x", (5000, 2**18), "f8", chunks=(1, 2**18)
            )  # 10 GB, none of it written
        file = str(tmp_path / "large.h5")
        assert ask("/h5/data", file=file, path="/x").status_code == 413
        assert ask("/h5/stats", file=file, path="/x").status_code == 413
        assert ask("/h5/data", file=file, path="/x", selection="7,3:5").json() == [0, 0]

    def test_a_snapshot_does_not_change(
        self, ask: Ask, plain_store: DataStore, file: str, opened: Any
    ) -> None:
        import anyio

        scan, streams = started(plain_store, group(x=stream("x")), 1, file, x=("i4", ()))

        async def look() -> list[Any]:
            async with opened() as client:
                send(streams["x"], np.arange(3, dtype="i4"))
                version = (await client.get("/api/snapshot", params={"file": file})).json()[
                    "version"
                ]
                where = {"file": file, "path": "/1.1/x"}
                before = (await client.get(f"/h5/{version}/data", params=where)).json()
                send(streams["x"], np.arange(3, dtype="i4"))
                after = (await client.get(f"/h5/{version}/data", params=where)).json()
                lost = await client.get(f"/h5/{version + 1}/data", params=where)
                return [before, after, lost.status_code]

        with scan:
            assert anyio.run(look) == [[0, 1, 2], [0, 1, 2], 404]
            scan.stop()

    def test_a_scan_can_be_taken_home(
        self, ask: Ask, plain_store: DataStore, file: str, tmp_path: Path
    ) -> None:
        layout = group({"NX_class": "NXentry"}, x=stream("x", units="mm"), image=stream("image"))
        kinds = {"x": ("f8", ()), "image": ("u2", (2, 3))}
        scan, streams = started(plain_store, layout, 4, file, **kinds)
        image = np.arange(12, dtype="u2").reshape(2, 2, 3)
        with scan:
            send(streams["x"], np.array([1.0, np.nan]))
            send(streams["image"], image)
            answer = ask("/api/export", key=scan.key)
            scan.stop()
        assert 'filename="sample_4.h5"' in answer.headers["content-disposition"]
        (tmp_path / "taken.h5").write_bytes(answer.content)
        with h5py.File(tmp_path / "taken.h5") as f:
            assert f["4.1"].attrs["NX_class"] == "NXentry"
            assert f["4.1/x"].attrs["units"] == "mm"
            assert np.array_equal(f["4.1/x"][()], [1.0, np.nan], equal_nan=True)
            assert f["4.1/image"].dtype == "u2"
            assert np.array_equal(f["4.1/image"][()], image)
