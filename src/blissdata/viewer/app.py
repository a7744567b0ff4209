"""The viewer's web server: routes, and nothing that could be done without a web.

    /                    the page; it holds nothing secret
    /health              whether the server can be asked, for whoever watches over programs
    /api/openapi.json    all this, for programs
    /api/scans           the list, newest first; filters by identity field and state
    /api/scan            one scan: identity, info, streams with their lengths
    /api/last            the newest value of each channel
    /api/points          points of a stream, as raw bytes
    /api/picture         one image, no larger than it is drawn
    /api/more            the next points of many streams, for plots
    /api/snapshot        a file as it is now, to be asked by its version
    /api/export          a scan as an HDF5 file
    /h5/<version>/…      what H5Web asks (also /h5/…: of the newest snapshot)
    /api/live            websocket: scan_new, scan_state, lengths

Everything but the page and its health wants the token. Nothing here writes anything to the store.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from blissdata.exceptions import (
    BlissdataError,
    IndexNoMoreThereError,
    MissingExtraError,
    ScanKeyError,
    ScanLoadError,
    StoreConnectionError,
    StreamVanishedError,
)
from blissdata.redis_engine.keys import created_at
from blissdata.redis_engine.scan import ScanState
from blissdata.viewer.access import PROTOCOL, SECURITY_HEADERS, Gate
from blissdata.viewer.content import (
    MAX_SELECTION_NBYTES,
    BadQuestionError,
    NotNowError,
    NotThereError,
    TooLargeError,
    ViewerError,
    encoded,
)
from blissdata.viewer.export import export
from blissdata.viewer.live import GONE, Changes, Hub
from blissdata.viewer.openapi import openapi
from blissdata.viewer.points import for_plots
from blissdata.viewer.snapshots import Snapshot, Snapshots
from blissdata.viewer.watched import Watched

try:
    import anyio
    from anyio import to_thread
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.gzip import GZipMiddleware
    from starlette.requests import Request
    from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
    from starlette.routing import Mount, Route, WebSocketRoute
    from starlette.staticfiles import StaticFiles
    from starlette.websockets import WebSocket, WebSocketDisconnect
except ImportError as error:
    raise MissingExtraError(
        'starlette is not installed, and the viewer needs it: pip install "blissdata[web]"'
    ) from error

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from blissdata.redis_engine.scan import Scan
    from blissdata.redis_engine.store import DataStore

__all__ = ["PAGE", "page_is_built", "viewer_app"]

_logger = logging.getLogger(__name__)

T = TypeVar("T")

PAGE = Path(__file__).parent / "static"
"""Where the built page is."""

WORKERS = 8
"""How many questions are answered at a time."""

PERIOD_S = 0.1
"""A browser is told of what changed so often at most [s]."""

UNREAD = 4
"""So many messages may be under way to a browser that has not said that it read them."""

PATIENCE_S = 60.0
"""A browser that has read nothing for so long is left [s]."""

MOST_SCANS = 500
"""How many scans one answer lists."""

LOOKED_THROUGH = 5000
"""How many scans are looked at for some that are in the state asked for."""

MORE_STREAMS = 256
"""Of how many streams one question wants points."""

MORE_NBYTES = 2**24
"""How much the answer holds at most [bytes]; the page asks again for the rest."""

MOST_PIXELS = 100_000
"""A picture is asked for with so many rows and columns at most."""

QUESTIONS = ("/api/", "/h5/")
"""What programs ask begins so; everything else is the page."""

MOST_QUESTION_NBYTES = 2**16
"""How long a question may be, its headers included [bytes]."""

MOST_CLIENTS = 500
"""How many browsers are told at a time."""

MOST_TOLD = 1000
"""Of so many scans a browser is told what changed; of more, that it looks at the list anew."""

WATCHED_AT_ONCE = 8
"""How many scans one browser may watch."""


def page_is_built() -> bool:
    """True if this installation has the page."""
    return (PAGE / "index.html").is_file()


def viewer_app(
    store: DataStore,
    gate: Gate,
    *,
    roots: Iterable[str | os.PathLike[str]] | None = None,
) -> Starlette:
    """The ASGI application. `roots` are the directories below which files that no scan names may be
    opened (None: those of `$BLISSDATA_DATA_ROOTS`). It follows the store as long as it runs."""
    viewer = _Viewer(store, gate, roots)
    routes = [
        Route("/health", viewer.health),
        Route("/api/openapi.json", _openapi),
        Route("/api/scans", viewer.scans),
        Route("/api/scan", viewer.scan),
        Route("/api/last", viewer.last),
        Route("/api/points", viewer.points),
        Route("/api/picture", viewer.picture),
        Route("/api/more", viewer.more),
        Route("/api/snapshot", viewer.snapshot),
        Route("/api/export", viewer.export),
        WebSocketRoute("/api/live", viewer.live),
    ]
    for question in ("meta", "attr", "data", "stats", "paths"):
        answer = partial(viewer.h5, question)
        for path in (f"/h5/{question}", f"/h5/{{version:int}}/{question}"):
            routes += [Route(path, answer), Route(f"{path}/", answer)]
    if page_is_built():
        page = GZipMiddleware(StaticFiles(directory=PAGE, html=True), minimum_size=500)
        routes.append(Mount("/", page))
    else:
        routes.append(Route("/", _no_page))
    return Starlette(
        routes=routes,
        lifespan=viewer.lifespan,
        middleware=[Middleware(_Gatekeeper, gate=gate)],
        exception_handlers={ViewerError: _refusal, HTTPException: _nothing, Exception: _failure},
    )


def _openapi(request: Request) -> Response:
    return JSONResponse(openapi())


def _no_page(request: Request) -> Response:
    return PlainTextResponse(
        "The page was not built when blissdata was installed; `blissdata web` says why.\n"
        "The viewer's API works all the same.\n",
        503,
    )


def _refusal(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, ViewerError) else 500
    return JSONResponse({"message": str(error)}, status)


def _nothing(request: Request, error: Exception) -> Response:
    """For a path that is none of ours. Programs get JSON, as for every error."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = str(request.scope["path"])
    if path.startswith(QUESTIONS):
        message = f"There is nothing at {path}; /api/openapi.json says what can be asked"
        return JSONResponse({"message": message}, status)
    return PlainTextResponse("There is nothing here; the page is at /\n", status)


def _failure(request: Request, error: Exception) -> Response:
    return JSONResponse({"message": f"{type(error).__name__}: {error}"}, 500)


class _Gatekeeper:
    """Lets nobody in by a strange name, and nobody without the token but to the page."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        host = headers.get("host")
        if scope["type"] == "websocket":
            ok = (
                self._gate.knows_host(host)
                and self._gate.same_origin(headers.get("origin"), host)
                and self._gate.knows_protocols(scope.get("subprotocols", ()))
            )
            if ok:
                await self._app(scope, receive, send)
            else:
                await WebSocket(scope, receive, send).close(1008)
            return
        refused = self._refused(scope, host, headers.get("authorization"))
        if refused is not None:
            await refused(scope, receive, _with_headers(send))
            return
        await self._app(scope, receive, _with_headers(send))

    def _refused(
        self, scope: Scope, host: str | None, authorization: str | None
    ) -> Response | None:
        if not self._gate.knows_host(host):
            message = f"This server is not called {host}; allow the name with --allow-host"
            return JSONResponse({"message": message}, 421)
        size = len(scope["query_string"]) + sum(len(k) + len(v) + 4 for k, v in scope["headers"])
        if size > MOST_QUESTION_NBYTES:
            message = f"A question has {MOST_QUESTION_NBYTES} bytes at most, not {size}"
            return JSONResponse({"message": message}, 414)
        if scope["method"] not in ("GET", "HEAD"):
            return JSONResponse({"message": "Nothing can be changed here"}, 405)
        if scope["path"].startswith(QUESTIONS):
            query = Request(scope).query_params.get("token")
            if not self._gate.knows_token(authorization, query):
                message = "The token is missing or wrong; it stands in the address that was printed"
                return JSONResponse({"message": message}, 401, {"www-authenticate": "Bearer"})
        return None


def _with_headers(send: Send) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            more = [(k.encode(), v.encode()) for k, v in SECURITY_HEADERS.items()]
            names = {name for name, _ in message["headers"]}
            if b"cache-control" not in names:
                more.append((b"cache-control", b"no-cache"))
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending


@dataclass(eq=False)
class _Client:
    """A browser that listens."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    read: asyncio.Event = field(default_factory=asyncio.Event)
    unread: int = 0
    seen: int = 0
    problem: str | None = None
    watched: dict[str, Watched] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    """For each scan that is watched, the version that was told."""


class _Viewer:
    """The answers."""

    def __init__(
        self, store: DataStore, gate: Gate, roots: Iterable[str | os.PathLike[str]] | None
    ) -> None:
        self._store = store
        self._gate = gate
        self._hub = Hub(store)
        self._snapshots = Snapshots(store, roots)
        self._clients: set[_Client] = set()
        self._waking = False
        self._ticked = 0.0
        self._version = 0
        self._frames: dict[tuple[str, int, int], str] = {}

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Follows the store as long as the application runs."""
        self._limiter = anyio.CapacityLimiter(WORKERS)
        self._loop = asyncio.get_running_loop()
        await self._work(self._hub.start)
        end = self._hub.subscribe(self._changed)
        try:
            yield
        finally:
            end()
            await self._work(self._hub.close)
            await self._work(self._snapshots.close)

    async def _work(self, work: Callable[[], T]) -> T:
        """Does it in a thread; what goes wrong becomes an answer."""
        try:
            return await to_thread.run_sync(work, limiter=self._limiter)
        except ViewerError:
            raise
        except StoreConnectionError as error:
            raise NotNowError(f"The server does not answer: {error}") from error
        except (ScanLoadError, ScanKeyError, StreamVanishedError) as error:
            raise NotThereError(str(error)) from error
        except IndexNoMoreThereError as error:
            raise _GoneError(str(error)) from error
        except BlissdataError as error:
            raise BadQuestionError(str(error)) from error

    async def health(self, request: Request) -> Response:
        """Whether the server can be asked at present; why not is for those who have the token."""
        problem = self._hub.changes(self._hub.version).problem
        told = {"status": "ok" if problem is None else "the server cannot be asked"}
        return JSONResponse(told, 200 if problem is None else 503)

    # ------------------------------------------------------------------------------ scans

    async def scans(self, request: Request) -> Response:
        """`limit`, `before` (the key in front of which to go on), `state`, and identity fields."""
        query = dict(request.query_params)
        query.pop("token", None)
        limit = _number(query.pop("limit", "50"), 1, MOST_SCANS, "limit")
        before, state = query.pop("before", None), query.pop("state", None)
        states = _states(state)
        fields: dict[str, Any] = {name: value for name, value in query.items() if value}
        if "number" in fields:
            fields["number"] = _number(fields["number"], 0, 2**53, "number")
        return JSONResponse(await self._work(lambda: self._list(fields, states, before, limit)))

    def _list(
        self, fields: Mapping[str, Any], states: range | None, before: str | None, limit: int
    ) -> dict[str, Any]:
        keys = self._matching(fields)
        end = len(keys)
        if before is not None:
            if before not in keys:
                raise NotThereError(f"Scan {before} is not there any more: begin at the newest")
            end = len(keys) - 1 - keys[::-1].index(before)
        rows: list[dict[str, Any]] = []
        looked, more = 0, end > 0
        while len(rows) < limit and end > 0 and looked < LOOKED_THROUGH:
            step = keys[max(end - max(limit, 50), 0) : end]
            found = self._hub.scans(step)
            for key in reversed(step):
                end, looked = end - 1, looked + 1
                scan = found[key]
                if isinstance(scan, ScanLoadError):
                    continue
                if states is None or int(scan.state) in states:
                    rows.append(_row(scan))
                if len(rows) == limit:
                    break
            more = end > 0
        next_key = keys[end] if more and end < len(keys) else None
        return {"scans": rows, "total": len(keys), "next": next_key, "version": self._hub.version}

    def _matching(self, fields: Mapping[str, Any]) -> list[str]:
        if not fields:
            return self._hub.keys()
        try:
            return self._hub.find(fields)
        except ValueError as error:
            raise BadQuestionError(str(error)) from error

    async def scan(self, request: Request) -> Response:
        """One scan, by its `key`."""
        key = _required(request, "key")
        return JSONResponse(await self._work(lambda: self._whole(key)))

    def _whole(self, key: str) -> dict[str, Any]:
        scan = self._hub.scan(key)
        watched = self._hub.watched(key)
        lengths = {} if watched is None else watched.lengths()
        streams = []
        for name, stream in scan.streams.items():
            known = lengths.get(name)
            streams.append(
                {
                    "name": name,
                    **_described(stream),
                    "length": None if known is None else known.length,
                    "sealed": None if known is None else known.sealed,
                    "info": {k: v for k, v in stream.info.items() if k not in ("dtype", "shape")},
                }
            )
        return {
            **_row(scan),
            "info": scan.info,
            "streams": streams,
            "problem": None if watched is None else watched.problem,
        }

    async def last(self, request: Request) -> Response:
        """The newest value of each channel of a scan that somebody watches, by `key`."""
        watched = self._hub.watched(_required(request, "key"))
        found = {} if watched is None else await self._work(watched.last)
        values = {name: _finite(value) for name, value in found.items()}
        return JSONResponse({"values": values})

    # ------------------------------------------------------------------------------ points

    async def points(self, request: Request) -> Response:
        """Points of the stream `stream` of the scan `key`, by `selection=a:b`. With `dtype=float` (for
        plots) float64, with `safe` (default) a type that JavaScript has, with `origin` as they are."""
        key, stream = _required(request, "key"), _required(request, "stream")
        selection = request.query_params.get("selection")
        dtype = request.query_params.get("dtype", "safe")
        return await self._work(lambda: self._points(key, stream, selection, dtype))

    def _points(self, key: str, stream: str, selection: str | None, dtype: str) -> Response:
        try:
            with _refusals(key, stream):
                block = self._hub.points(key, stream, selection, MAX_SELECTION_NBYTES)
        except IndexNoMoreThereError as error:
            return self._gone(key, stream, error)
        about = {"x-start": str(block.start), "x-length": str(block.length)}
        points = block.points
        if not isinstance(points, np.ndarray) or points.dtype.kind not in "biufc":
            values = [one.tolist() if isinstance(one, np.ndarray) else _text(one) for one in points]
            return JSONResponse(_json_safe(values), headers=about)
        if dtype == "float":
            points = for_plots(points)
        elif dtype == "safe":
            from h5grove.utils import convert

            points = convert(points, "safe")
        elif dtype != "origin":
            raise BadQuestionError(f"dtype is float, safe or origin, not {dtype!r}")
        about |= {"x-dtype": points.dtype.str, "x-shape": json.dumps(points.shape)}
        return Response(points.tobytes(), media_type="application/octet-stream", headers=about)

    def _gone(self, key: str, stream: str, error: IndexNoMoreThereError) -> Response:
        first = self._hub.first(key, stream)
        return JSONResponse({"message": str(error), "first": first}, _GoneError.status)

    async def picture(self, request: Request) -> Response:
        """The image `index` of the stream `stream` of the scan `key`, as raw bytes of a type that
        JavaScript has. With `rows` and `columns` no larger than that: each pixel is then the highest one
        of a block of the image, of as many rows and columns as `x-step` says."""
        key, stream = _required(request, "key"), _required(request, "stream")
        index, query = _required(request, "index"), request.query_params
        room = None
        if "rows" in query or "columns" in query:
            room = (
                _number(query.get("rows", ""), 1, MOST_PIXELS, "rows"),
                _number(query.get("columns", ""), 1, MOST_PIXELS, "columns"),
            )
        return await self._work(lambda: self._picture(key, stream, index, room))

    def _picture(self, key: str, stream: str, index: str, room: tuple[int, int] | None) -> Response:
        try:
            with _refusals(key, stream):
                block, found = self._hub.picture(key, stream, index, room, MAX_SELECTION_NBYTES)
        except IndexNoMoreThereError as error:
            return self._gone(key, stream, error)
        from h5grove.utils import convert

        pixels, limits = convert(found.pixels, "safe"), found.limits
        told = limits and [limits.lowest, limits.highest, limits.lowest_above_zero]
        about = {
            "x-start": str(block.start),
            "x-length": str(block.length),
            "x-dtype": pixels.dtype.str,
            "x-shape": json.dumps(pixels.shape),
            "x-step": str(found.step),
            "x-whole": json.dumps([found.rows, found.columns]),
            "x-limits": json.dumps(told),
        }
        return Response(pixels.tobytes(), media_type="application/octet-stream", headers=about)

    async def more(self, request: Request) -> Response:
        """For each `stream` of the scan `key` the points from its `from` on, as plots take them: the
        length of a JSON text as 4 bytes (little-endian), the text, blanks up to a multiple of 8, then
        the float64 of all streams. The text says of each its `start`, `count` and `length`, or what its
        `problem` is (and where those that are left begin, as `first`)."""
        key = _required(request, "key")
        streams = request.query_params.getlist("stream")
        starts = [_number(text, 0, 2**62, "from") for text in request.query_params.getlist("from")]
        if len(streams) != len(starts) or not 0 < len(streams) <= MORE_STREAMS:
            raise BadQuestionError(f"Each stream needs a from=, and {MORE_STREAMS} are the most")
        return await self._work(lambda: self._more(key, list(zip(streams, starts, strict=True))))

    def _more(self, key: str, wanted: list[tuple[str, int]]) -> Response:
        self._hub.fetch(key, [stream for stream, _ in wanted])
        told, parts = [], []
        most = MORE_NBYTES // 8 // len(wanted)
        for stream, start in wanted:
            about, points = self._next_points(key, stream, start, most)
            told.append(about)
            parts.append(points)
        text = json.dumps(told).encode()
        text += b" " * (-(len(text) + 4) % 8)
        body = b"".join([len(text).to_bytes(4, "little"), text, *parts])
        return Response(body, media_type="application/octet-stream")

    def _next_points(
        self, key: str, stream: str, start: int, most: int
    ) -> tuple[dict[str, Any], bytes]:
        try:
            block = self._hub.points(key, stream, f"{start}:{start + most}", MAX_SELECTION_NBYTES)
            if not isinstance(block.points, np.ndarray) or block.points.dtype.kind not in "biufc":
                return {"problem": f"{stream} holds no numbers"}, b""
            points = for_plots(block.points)
        except IndexNoMoreThereError as error:
            return {"problem": str(error), "first": self._hub.first(key, stream)}, b""
        except KeyError:
            return {"problem": f"There is no stream {stream!r}"}, b""
        except (ValueError, OverflowError, BlissdataError) as error:
            if isinstance(error, StoreConnectionError):
                raise
            return {"problem": str(error)}, b""
        about = {"start": block.start, "count": len(points), "length": block.length}
        return about, points.tobytes()

    # ------------------------------------------------------------------------------ files

    async def snapshot(self, request: Request) -> Response:
        """Freezes a `file` and gives the version to ask."""
        file = _required(request, "file")
        found = await self._work(lambda: self._snapshots.take(file))
        return JSONResponse({"version": found.version, "file": found.file})

    async def h5(self, question: str, request: Request) -> Response:
        """What H5Web asks."""
        version = request.path_params.get("version")
        file = _required(request, "file")
        query = request.query_params

        def work() -> Response:
            if version is None:
                snapshot = self._snapshots.take(file)
            else:
                snapshot = self._snapshots.get(version, file)
            answer = _answer(snapshot, question, query)
            found = encoded(answer, query.get("format") if question == "data" else "json")
            return Response(found.body, headers=dict(found.headers))

        return await self._work(work)

    async def export(self, request: Request) -> Response:
        """The scan `key` as an HDF5 file."""
        key = _required(request, "key")
        path, name = await self._work(lambda: self._exported(key))
        return FileResponse(
            path,
            media_type="application/x-hdf5",
            filename=name,
            background=BackgroundTask(os.unlink, path),
        )

    def _exported(self, key: str) -> tuple[str, str]:
        scan = self._hub.scan(key)
        file = scan.identity.get("path")
        if not isinstance(file, str) or scan.state < ScanState.PREPARED:
            raise NotThereError(f"Scan {key} has no file, or no streams yet")
        snapshot = self._snapshots.take(file)
        entries = _entries_of(snapshot, scan)
        descriptor, path = tempfile.mkstemp(suffix=".h5", prefix="blissdata-")
        os.close(descriptor)
        os.unlink(path)
        try:
            with snapshot._lock:  # noqa: SLF001 — one question at a time
                export(snapshot.tree, entries, path)
        except BaseException:
            if os.path.exists(path):
                os.unlink(path)
            raise
        stem = os.path.splitext(os.path.basename(file))[0]
        return path, f"{stem}_{scan.identity.get('number')}.h5"

    # ------------------------------------------------------------------------------ what is told

    def _changed(self) -> None:
        """Called by the hub's threads."""
        if not self._waking:
            self._waking = True
            try:
                self._loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # the loop has ended
                self._waking = False

    def _wake(self) -> None:
        """All are told at the same time, so that what they are told is made once."""
        since = self._loop.time() - self._ticked
        self._loop.call_later(max(PERIOD_S - since, 0.0), self._tick)

    def _tick(self) -> None:
        self._waking = False
        self._ticked = self._loop.time()
        self._version = self._hub.version
        self._frames.clear()
        for client in self._clients:
            client.wake.set()

    async def live(self, socket: WebSocket) -> None:
        """Tells a browser what changes; it says what it watches, and what it has read."""
        if len(self._clients) >= MOST_CLIENTS:
            await socket.close(1013, f"{MOST_CLIENTS} browsers are told already")
            return
        client = _Client()
        self._clients.add(client)  # counted before anything is awaited: many may come at once
        try:
            await socket.accept(subprotocol=PROTOCOL)
            client.seen = self._hub.version
            client.problem = self._hub.changes(client.seen).problem
            hello = {"type": "hello", "version": client.seen, "problem": client.problem}
            await socket.send_text(json.dumps(hello))
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(self._tell(socket, client))
                try:
                    await self._listen(socket, client)
                finally:
                    telling.cancel()
        except* (WebSocketDisconnect, RuntimeError, TimeoutError):
            pass  # it has left
        finally:
            self._clients.discard(client)
            for watched in client.watched.values():
                self._hub.unwatch(watched)

    async def _listen(self, socket: WebSocket, client: _Client) -> None:
        while True:
            message = _message(await socket.receive())
            if message is None:
                await socket.close(1003, "That makes no sense here")
                return
            if message.get("type") == "read":
                client.unread = max(client.unread - 1, 0)
                client.read.set()
            elif message.get("type") == "watch":
                keys = message.get("keys")
                wanted = (
                    [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
                )
                await self._watch(client, wanted[:WATCHED_AT_ONCE])
                client.wake.set()

    async def _watch(self, client: _Client, keys: list[str]) -> None:
        for key in [key for key in client.watched if key not in keys]:
            self._hub.unwatch(client.watched.pop(key))
        for key in keys:
            if key not in client.watched:
                try:
                    client.watched[key] = await self._work(partial(self._hub.watch, key))
                except ViewerError as error:
                    _logger.info("Cannot watch %s: %s", key, error)
                    continue
            client.told[key] = 0

    async def _tell(self, socket: WebSocket, client: _Client) -> None:
        while True:
            await client.wake.wait()
            client.wake.clear()
            while client.unread >= UNREAD:
                client.read.clear()
                async with asyncio.timeout(PATIENCE_S):
                    await client.read.wait()
            for text in self._news(client):
                client.unread += 1
                await socket.send_text(text)

    def _news(self, client: _Client) -> list[str]:
        """What this browser does not know yet, as messages."""
        changes = self._hub.changes(client.seen)
        since, client.seen = client.seen, changes.version
        texts = []
        if changes.everything or changes.states or changes.new:
            texts.append(self._frame("", since, changes.version, lambda: _news_of_scans(changes)))
        for key, watched in client.watched.items():
            before = client.told.get(key, 0)
            now = max(self._version, before)
            text = self._frame(key, before, now, partial(_news_of_lengths, key, watched, before))
            client.told[key] = now
            if text:
                texts.append(text)
        if changes.problem != client.problem:
            client.problem = changes.problem
            texts.append(json.dumps({"type": "store", "problem": changes.problem}))
        return texts

    def _frame(
        self, what: str, since: int, now: int, make: Callable[[], dict[str, Any] | None]
    ) -> str:
        """A message as text, made once for all who need the same; empty if there is none."""
        found = self._frames.get((what, since, now))
        if found is None:
            message = make()
            found = "" if message is None else json.dumps(message)
            self._frames[what, since, now] = found
        return found


class _GoneError(ViewerError):
    """Points that have left the server, and are nowhere else."""

    status = 410


# ---------------------------------------------------------------------------------- small rules


@contextmanager
def _refusals(key: str, stream: str) -> Iterator[None]:
    """What is asked of a stream and cannot be had, as answers."""
    try:
        yield
    except KeyError as error:
        if isinstance(error, BlissdataError):
            raise
        raise NotThereError(f"Scan {key} has no stream {stream!r}") from error
    except ValueError as error:
        raise BadQuestionError(str(error)) from error
    except OverflowError as error:
        raise TooLargeError(str(error)) from error


def _message(received: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a browser says; None if it makes no sense. Raises `WebSocketDisconnect` when it has left."""
    if received["type"] != "websocket.receive":
        raise WebSocketDisconnect(received.get("code", 1000))
    try:
        found = json.loads(received.get("text") or "")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _news_of_scans(changes: Changes) -> dict[str, Any]:
    """What changed in the list; of very much only that, and which scan is the newest."""
    if changes.everything or len(changes.states) > MOST_TOLD:
        newest = list(changes.new[-1:])
        return {"type": "scans", "everything": True, "scan_new": newest, "scan_state": {}}
    return {
        "type": "scans",
        "everything": False,
        "scan_new": list(changes.new),
        "scan_state": {key: _state_name(state) for key, state in changes.states.items()},
    }


def _news_of_lengths(key: str, watched: Watched, since: int) -> dict[str, Any] | None:
    found = watched.lengths(since)
    if not found and since:
        return None
    told = {name: [one.length, one.sealed] for name, one in found.items()}
    return {"type": "lengths", "key": key, "lengths": told}


def _state_name(state: int) -> str:
    return "GONE" if state == GONE else ScanState(state).name


def _row(scan: Scan) -> dict[str, Any]:
    return {
        "key": scan.key,
        "state": scan.state.name,
        "created": created_at(scan.key),
        "npoints": _npoints(scan.info.get("npoints")),
        "title": scan.info.get("title") if isinstance(scan.info.get("title"), str) else None,
        "identity": scan.identity,
    }


def _npoints(found: Any) -> int | None:
    """How many points the scan's info announces; None if it does not, or says 0 for endless."""
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None


def _described(stream: Any) -> dict[str, Any]:
    try:
        kind, dtype, shape = stream.kind, str(stream.dtype), list(stream.shape)
    except Exception as error:  # noqa: BLE001 — a plugin may be missing, or fail in any way
        return {"kind": None, "dtype": None, "shape": None, "problem": str(error)}
    return {"kind": kind, "dtype": dtype, "shape": shape, "problem": None}


def _entries_of(snapshot: Snapshot, scan: Scan) -> list[str]:
    """The entries of a file that belong to a scan."""
    number = scan.identity.get("number")
    found = [name for name in list(snapshot.tree.keys()) if name.partition(".")[0] == str(number)]
    if not found:
        raise NotThereError(f"{snapshot.file} has no entry of scan {scan.key} (yet)")
    return found


def _answer(snapshot: Snapshot, question: str, query: Any) -> Any:
    path, selection = query.get("path", "/"), query.get("selection")
    if question == "meta":
        return snapshot.ask(lambda content: content.meta(path, query.get("resolve_links")))
    if question == "attr":
        names = query.getlist("attr_keys") or None
        return snapshot.ask(lambda content: content.attr(path, names))
    if question == "data":
        flatten = _flag(query.get("flatten"))
        dtype = query.get("dtype")
        return snapshot.ask(lambda content: content.data(path, selection, dtype, flatten))
    if question == "stats":
        return snapshot.ask(lambda content: content.stats(path, selection))
    return snapshot.ask(lambda content: content.paths(path))


def _required(request: Request, name: str) -> str:
    found = request.query_params.get(name)
    if not found:
        raise BadQuestionError(f"{request.url.path} needs {name}=")
    return found


def _number(text: str, least: int, most: int, what: str) -> int:
    try:
        found = int(text)
    except ValueError:
        found = least - 1
    if not least <= found <= most:
        raise BadQuestionError(f"{what} is a number from {least} to {most}, not {text!r}")
    return found


def _flag(text: str | None) -> bool:
    found = {None: False, "": False, "false": False, "0": False, "true": True, "1": True}.get(text)
    if found is None:
        raise BadQuestionError(f"flatten is true or false, not {text!r}")
    return found


def _states(text: str | None) -> range | None:
    """The states that a filter lets through."""
    if not text:
        return None
    if text == "running":
        return range(int(ScanState.CLOSED))
    if text == "finished":
        return range(int(ScanState.CLOSED), int(ScanState.CLOSED) + 1)
    try:
        state = int(ScanState[text.upper()])
    except KeyError:
        raise BadQuestionError(
            f"state is running, finished or one of a scan's, not {text!r}"
        ) from None
    return range(state, state + 1)


def _finite(value: Any) -> Any:
    """A number as JSON has it: NaN and infinities as text, of complex ones the parts."""
    if np.iscomplexobj(value):
        return [_finite(value.real), _finite(value.imag)]
    found = value.item()
    if isinstance(found, float) and not np.isfinite(found):
        return str(found)
    return found


def _text(value: Any) -> Any:
    return value.key if hasattr(value, "key") else value


def _json_safe(value: Any) -> Any:
    """JSON has no NaN and no infinities."""
    if isinstance(value, list):
        return [_json_safe(one) for one in value]
    if isinstance(value, dict):
        return {name: _json_safe(one) for name, one in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
