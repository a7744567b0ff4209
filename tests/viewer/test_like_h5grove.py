"""The same questions to ours and to h5grove, which serves the file that our writer made: same answers.

h5grove runs as it is delivered, with its own routes. Compared are status and body, JSON by its values.
How a file is stored (`chunks`, `filters`) is the file's business, and not known of a scan that runs;
where h5grove fails (500), ours says what is wrong (4xx).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import anyio
import h5grove.fastapi_utils
import h5py
import httpx2 as httpx
import numpy as np
import pytest
from fastapi import FastAPI
from tests.h5api.layout_files import write_layout
from tests.h5api.live import external, group, new_scan, root, send, soft, started, stream
from tests.viewer.browser import Viewer, looking
from tests.viewer.conftest import Open
from tests.writer.kit import running

from blissdata import DataStore
from blissdata.streams.lima import LimaStream

POINTS = {
    "energy": np.linspace(8900.0, 9100.0, 7),
    "counts": np.arange(7, dtype="u4") * 1000,
    "odd": np.array([np.nan, np.inf, -np.inf, 0.0, -1.5, 2.0, 3.0]),
    "big": np.array([0, 1, 2**63, 5, 6, 7, 8], dtype="u8"),
    "flags": np.array([True, False, True, True, False, False, True]),
    "waves": np.exp(1j * np.arange(7)),
    "spectra": np.arange(7 * 4, dtype="f4").reshape(7, 4),
    "images": np.arange(7 * 6, dtype="u2").reshape(7, 2, 3),
    "short": np.array([1, 2, 3, 4, 5, 6, 7], dtype="f2"),
}

LAYOUT = group(
    {"NX_class": "NXentry", "default": "plot", "number": 3, "ok": True, "list": [1.5, 2.5]},
    title="a title with ü",
    words=["one", "two"],
    plot=group(
        {"NX_class": "NXdata", "signal": "counts", "axes": ["energy"]},
        energy=stream("energy", units="eV"),
        counts=stream("counts"),
    ),
    all=group({}, **{name: stream(name) for name in POINTS}),
    link=soft("/1.1/plot/energy"),
    lost=soft("/1.1/nothing"),
    none=group(),
)

PATHS = [
    "/",
    "/1.1",
    "/1.1/plot",
    "/1.1/title",
    "/1.1/words",
    "/1.1/link",
    "/1.1/lost",
    "/1.1/none",
    "/1.1/nothing",
    "/nothing",
    *(f"/1.1/all/{name}" for name in POINTS),
]

SELECTIONS = ["0", "-1", "1:3", "::2", "2:99", ":", "0,0", "1,:,0", "99", "x", "1:2:0", "5:2"]


def questions() -> Iterator[str]:
    for path in PATHS:
        where = quote(path, safe="")
        yield f"meta?path={where}"
        yield f"meta?path={where}&resolve_links=none"
        yield f"meta?path={where}&resolve_links=all"
        yield f"attr?path={where}"
        yield f"paths?path={where}"
        yield f"stats?path={where}"
        yield f"data?path={where}"
        yield f"data?path={where}&dtype=safe"
    yield "attr?path=%2F1.1&attr_keys=number&attr_keys=ok"
    yield "attr?path=%2F1.1&attr_keys=unknown"
    yield "meta"
    for name in ("energy", "flags", "waves", "images"):
        where = quote(f"/1.1/all/{name}", safe="")
        for selection in SELECTIONS:
            yield f"data?path={where}&selection={quote(selection)}"
            yield f"data?path={where}&selection={quote(selection)}&flatten=true"
            yield f"data?path={where}&selection={quote(selection)}&format=bin&dtype=safe"
            yield f"stats?path={where}&selection={quote(selection)}"
        for form in ("bin", "npy", "csv", "tiff", "xml"):
            yield f"data?path={where}&format={form}"
        yield f"data?path={where}&selection=0&format=tiff"
    yield "data?path=%2F1.1%2Fall%2Fcounts&dtype=unknown"
    yield from as_h5web_asks()


def as_h5web_asks(paths: Iterable[str] = ()) -> Iterator[str]:
    """What H5Web's h5grove provider sends: numbers as bytes that JavaScript has, all else as JSON; with a
    slash behind the question."""
    for path in paths or PATHS:
        where = quote(path, safe="")
        yield f"meta/?path={where}"
        yield f"attr/?path={where}"
        yield f"paths/?path={where}&resolve_links=none"
        for selection in ("", "&selection=1", "&selection=0%3A2", "&selection=%3A%2C1"):
            yield f"data/?path={where}{selection}&flatten=true&format=bin&dtype=safe"
            yield f"data/?path={where}{selection}&flatten=true"
            yield f"stats/?path={where}{selection}"


def without_storage(answer: Any) -> Any:
    """The answer without how the file is stored."""
    if isinstance(answer, dict):
        left = {k: without_storage(v) for k, v in answer.items() if k not in ("chunks", "filters")}
        for name in ("attributes", "children"):  # HDF5 sorts them as the file's maker wished
            if isinstance(left.get(name), list):
                left[name] = sorted(left[name], key=lambda one: str(one["name"]))
        return left
    return [without_storage(one) for one in answer] if isinstance(answer, list) else answer


def outcome(answer: httpx.Response) -> Any:
    if answer.status_code >= 400:
        return "refused"
    if answer.headers["content-type"].startswith("application/json"):
        return without_storage(json.loads(answer.content))
    return answer.headers["content-type"], answer.content


@pytest.fixture
def h5grove_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    app = FastAPI()
    app.include_router(h5grove.fastapi_utils.router)
    monkeypatch.setattr(h5grove.fastapi_utils.settings, "base_dir", str(tmp_path))
    return app


def differences(
    opened: Open,
    app: FastAPI,
    file: Path,
    theirs_of: Path | None = None,
    asked: Callable[[], Iterable[str]] = questions,
) -> list[str]:
    """The questions that are answered in another way; h5grove is asked of `theirs_of`, if that is another
    file."""
    found = []

    async def compare() -> None:
        theirs = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            opened() as ours,
            httpx.AsyncClient(
                transport=theirs, base_url="http://localhost", follow_redirects=True
            ) as h5grove_client,
        ):
            for question in asked():
                mark = "&" if "?" in question else "?"
                a = await ours.get(f"/h5/{question}{mark}file={quote(str(file), safe='')}")
                b = await h5grove_client.get(f"/{question}{mark}file={(theirs_of or file).name}")
                assert a.status_code < 500, f"{question}: {a.text}"
                if outcome(a) != outcome(b):
                    found.append(
                        f"{question}\n  ours {a.status_code} {a.content[:3000]!r}\n  h5grove {b.status_code} {b.content[:3000]!r}"
                    )

    anyio.run(compare)
    return found


def test_a_running_scan_is_served_as_its_file_will_be(
    opened: Open, h5grove_app: FastAPI, tmp_path: Path, plain_store: DataStore
) -> None:
    file = tmp_path / "scan.h5"
    shapes = {name: (points.dtype, points.shape[1:]) for name, points in POINTS.items()}
    scan, streams = started(plain_store, LAYOUT, 1, str(file), **shapes)
    with scan:
        for name, points in POINTS.items():
            send(streams[name], points)
        # The file that it promises to become lies under another name, where only h5grove finds it.
        promised = tmp_path / "promised.h5"
        write_layout(promised, root(**{"1.1": LAYOUT}), POINTS)
        with h5py.File(promised, "a") as f:
            f.attrs["NX_class"] = "NXroot"
            f.attrs["default"] = "1.1"
        found = differences(opened, h5grove_app, file, promised)
        scan.stop()
    assert found == [], "\n".join(found)


MORE = [
    "/1.1/text",
    "/1.1/cam",
    "/1.1/varies",
    "/1.1/elsewhere",
    "/1.1/nowhere",
    "/1.1/null",
    "/1.1/both",
]
"""What is in the writer's file besides."""


def more_questions() -> Iterator[str]:
    yield from questions()
    for path in MORE:
        where = quote(path, safe="")
        for slash in ("", "/"):
            for question in ("meta", "attr", "data", "stats", "paths"):
                yield f"{question}{slash}?path={where}"
            for selection in ("0", "1:3", "::2", "0,1", "99", "x"):
                for options in (
                    "",
                    "&flatten=true",
                    "&dtype=safe",
                    "&flatten=true&format=bin&dtype=safe",
                ):
                    yield f"data{slash}?path={where}&selection={quote(selection)}{options}"
            for form in ("json", "npy", "csv", "tiff"):
                yield f"data{slash}?path={where}&format={form}"


def test_the_file_that_our_writer_made_is_served_as_h5grove_serves_it(
    opened: Open,
    h5grove_app: FastAPI,
    tmp_path: Path,
    plain_store: DataStore,
) -> None:
    file, raw = tmp_path / "scan.h5", tmp_path / "raw_0000.h5"
    frames = np.arange(5 * 4 * 3, dtype="u2").reshape(5, 4, 3)
    with h5py.File(raw, "w") as f:
        f["entry/data"] = frames
    layout = {**LAYOUT, "children": dict(LAYOUT["children"])}
    layout["children"] |= {
        "text": stream("text"),
        "varies": stream("varies"),
        "cam": stream("cam"),
        "elsewhere": external("raw_0000.h5", "/entry/data"),
        "nowhere": external("missing.h5", "/entry/data"),
        "both": {"type": "dataset", "value": ["a", "ß"], "attributes": {"units": "µm"}},
    }
    with running(plain_store, tmp_path) as writer:
        scan = new_scan(plain_store, 1, str(file))
        made = {
            n: scan.create_stream(n, dtype=p.dtype, shape=p.shape[1:]) for n, p in POINTS.items()
        }
        made["text"] = scan.create_stream("text", dtype="json")
        made["varies"] = scan.create_stream("varies", dtype="i4", shape=(-1,))
        saving = {
            "file_path": str(tmp_path / "raw_%04d.h5"),
            "data_path": "/entry/data",
            "file_format": "HDF5",
            "file_offset": 0,
            "frames_per_file": 5,
        }
        made["cam"] = scan.create_stream(
            LimaStream.make_definition(
                "cam", "u2", (4, 3), "tango://nobody", 9, 0, 0, saving=saving
            )
        )
        scan.info["h5maps"] = {str(file): root(**{"1.1": layout})}
        with scan:
            scan.prepare()
            scan.start()
            for name, points in POINTS.items():
                made[name].send(points)
            for text in ("one", "zwei ü", ""):
                made["text"].send(text)
            for count in (1, 3, 2):
                made["varies"].send(np.arange(count, dtype="i4"))
            made["cam"].send({"last_index": 4, "last_index_saved": 4})
            scan.stop()
        writer.wait_written(scan)
    with h5py.File(file, "a") as f:
        assert f["1.1/cam"].is_virtual
        assert np.array_equal(f["1.1/cam"][()], frames)
        f.create_dataset("1.1/null", data=h5py.Empty("f8"))
    # The scan on the server is its layout; what the writer adds to entries is in the file alone.
    own = {"/", "/1.1", "/1.1/null"}
    there = [q for q in as_h5web_asks([*PATHS, *MORE]) if path_of(q) not in own]
    found = differences(opened, h5grove_app, file, asked=lambda: there)
    plain_store.delete_scan(scan.key)  # from now on, the file is all there is
    found += differences(opened, h5grove_app, file, asked=more_questions)
    assert found == [], "\n".join(found)


@pytest.mark.browser
def test_all_that_h5web_asks_is_answered_as_h5grove_answers(
    there: tuple[DataStore, Viewer], opened: Open, h5grove_app: FastAPI, tmp_path: Path
) -> None:
    """H5Web itself asks, in a browser, while every item of the tree is opened and inspected."""
    store, viewer = there
    file = tmp_path / "scan.h5"
    with running(store, tmp_path) as writer:
        scan = new_scan(store, 1, str(file))
        made = {
            n: scan.create_stream(n, dtype=p.dtype, shape=p.shape[1:]) for n, p in POINTS.items()
        }
        scan.info["h5maps"] = {str(file): root(**{"1.1": LAYOUT})}
        with scan:
            scan.prepare()
            scan.start()
            for name, points in POINTS.items():
                made[name].send(points)
            scan.stop()
        writer.wait_written(scan)
    asked: list[str] = []
    with looking(viewer, tmp_path / "profile") as page:
        page.on("request", lambda request: asked.append(request.url))
        page.get_by_role("tab", name="File").click()
        items = page.locator(".h5web [role=treeitem]")
        for name in ("all", *POINTS, "plot", "link", "title", "words"):
            items.get_by_text(name, exact=True).first.click()
            page.wait_for_load_state("networkidle")
        page.get_by_role("tab", name="Inspect").click()
        page.wait_for_load_state("networkidle")
    captured = {as_question(url) for url in asked if "/h5/" in url}
    assert {"meta", "data", "attr"} <= {one.partition("?")[0].strip("/") for one in captured}
    assert {f"/1.1/all/{name}" for name in POINTS} <= {path_of(one) for one in captured}
    store.delete_scan(scan.key)  # from now on, the file is all there is
    found = differences(opened, h5grove_app, file, asked=lambda: sorted(captured))
    assert found == [], "\n".join(found)


def as_question(url: str) -> str:
    """What H5Web asked, without which file and which snapshot of it."""
    place, _, query = url.partition("/h5/")[2].partition("?")
    kept = [one for one in query.split("&") if not one.startswith("file=")]
    return f"{place.partition('/')[2]}?{'&'.join(kept)}"


def path_of(question: str) -> str:
    return parse_qs(question.partition("?")[2]).get("path", ["/"])[0]
