"""The viewer's API as an OpenAPI document, for programs that read such: pure data."""

from __future__ import annotations

from typing import Any

__all__ = ["openapi"]

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_NULL = {"type": "null"}

_REFUSALS = {
    "401": "The token is missing or wrong",
    "403": "The file is not below the allowed directories",
    "404": "There is nothing of that name",
    "410": "These points have left the server; `first` says where those that are left begin",
    "413": "More is asked for than one answer may hold",
    "414": "The question is too long",
    "421": "The name in `Host` is not one of ours",
    "422": "The question makes no sense",
    "503": "The server, or the writer of the file, is busy or away",
}

_ROW = {
    "type": "object",
    "required": ["key", "state", "created", "npoints", "title", "identity"],
    "properties": {
        "key": _TEXT,
        "state": _TEXT,
        "created": {"type": ["number", "null"]},
        "npoints": {"type": ["integer", "null"]},
        "title": {"type": ["string", "null"]},
        "identity": {"type": "object"},
    },
}

_SCANS = {
    "type": "object",
    "required": ["scans", "total", "next", "version"],
    "properties": {
        "scans": {"type": "array", "items": _ROW},
        "total": _COUNT,
        "next": {"type": ["string", "null"]},
        "version": _COUNT,
    },
}

_STREAM = {
    "type": "object",
    "required": ["name", "kind", "dtype", "shape", "problem", "length", "sealed", "info"],
    "properties": {
        "name": _TEXT,
        "kind": {"type": ["string", "null"]},
        "dtype": {"type": ["string", "null"]},
        "shape": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, _NULL]},
        "problem": {"type": ["string", "null"]},
        "length": {"type": ["integer", "null"]},
        "sealed": {"type": ["boolean", "null"]},
        "info": {"type": "object"},
    },
}

_SCAN = {
    "type": "object",
    "required": [*_ROW["required"], "info", "streams", "problem"],
    "properties": {
        "info": {"type": "object"},
        "streams": {"type": "array", "items": _STREAM},
        "problem": {"type": ["string", "null"]},
    },
}

_VALUES = {
    "type": "object",
    "required": ["values"],
    "properties": {"values": {"type": "object"}},
}

_SNAPSHOT = {
    "type": "object",
    "required": ["version", "file"],
    "properties": {"version": _COUNT, "file": _TEXT},
}

_HEALTH = {"type": "object", "required": ["status"], "properties": {"status": _TEXT}}

_BYTES = "application/octet-stream"


def openapi() -> dict[str, Any]:
    """The document. Each route is a `GET`."""
    key = _asked("key", _TEXT, needed=True)
    stream = _asked("stream", _TEXT, needed=True)
    limit = _asked("limit", {"type": "integer", "minimum": 1, "maximum": 500})
    state = _asked("state", _TEXT)
    return {
        "openapi": "3.1.0",
        "info": {"title": "blissdata viewer", "version": "1"},
        "security": [{"token": []}],
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": {
            "/health": _health(),
            "/api/scans": _route(
                "Scans, the newest first",
                [
                    limit,
                    state,
                    _asked("before", _TEXT),
                    _asked("number", _COUNT),
                    _asked("name", _TEXT),
                ],
                {"application/json": _SCANS},
            ),
            "/api/scan": _route("One scan", [key], {"application/json": _SCAN}),
            "/api/last": _route(
                "The newest value of each channel", [key], {"application/json": _VALUES}
            ),
            "/api/points": _route(
                "Points of a stream",
                [
                    key,
                    stream,
                    _asked("selection", _TEXT),
                    _one_of("dtype", "safe", "float", "origin"),
                ],
                {_BYTES: {}, "application/json": {"type": "array"}},
            ),
            "/api/picture": _route(
                "An image, no larger than it is drawn",
                [key, stream, _asked("index", _TEXT, needed=True)]
                + [
                    _asked(name, {"type": "integer", "minimum": 1, "maximum": 100_000})
                    for name in ("rows", "columns")
                ],
                {_BYTES: {}},
            ),
            "/api/more": _route(
                "The next points of many streams",
                [key, _many("stream", _TEXT), _many("from", _COUNT)],
                {_BYTES: {}},
            ),
            "/api/snapshot": _route(
                "Freezes a file",
                [_asked("file", _TEXT, needed=True)],
                {"application/json": _SNAPSHOT},
            ),
            "/api/export": _route("A scan as an HDF5 file", [key], {"application/x-hdf5": {}}),
            **{f"/h5/{question}": _h5(question) for question in ("meta", "attr", "stats", "paths")},
            "/h5/data": _route(
                "What H5Web asks: data",
                [
                    *_PLACE,
                    _asked("selection", _TEXT),
                    _one_of("format", "json", "bin", "npy", "csv", "tiff"),
                    _one_of("dtype", "origin", "safe"),
                    _asked("flatten", {"type": "boolean"}),
                ],
                {
                    "application/json": {},
                    _BYTES: {},
                    "text/csv": {},
                    "image/tiff": {},
                },
            ),
        },
    }


def _health() -> dict[str, Any]:
    """Its 503 says the same as its 200."""
    found = _route("Whether the server can be asked", [], {"application/json": _HEALTH})
    found["get"]["responses"]["503"] = found["get"]["responses"]["200"]
    found["get"]["security"] = []
    return found


def _asked(name: str, schema: dict[str, Any], *, needed: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": needed, "schema": schema}


def _one_of(name: str, *texts: str) -> dict[str, Any]:
    return _asked(name, {"type": "string", "enum": list(texts)})


def _many(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    several = {"type": "array", "items": schema, "minItems": 1, "maxItems": 256}
    return {**_asked(name, several, needed=True), "explode": True}


_PLACE = (_asked("file", _TEXT, needed=True), _asked("path", _TEXT))


def _h5(question: str) -> dict[str, Any]:
    more = {
        "meta": [_one_of("resolve_links", "only_valid", "none", "all")],
        "attr": [{**_asked("attr_keys", {"type": "array", "items": _TEXT}), "explode": True}],
        "stats": [_asked("selection", _TEXT)],
    }
    schema = {"type": "array"} if question == "paths" else {"type": "object"}
    about = [*_PLACE, *more.get(question, [])]
    return _route(f"What H5Web asks: {question}", about, {"application/json": schema})


def _route(
    summary: str, parameters: list[dict[str, Any]], answers: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    message = {"type": "object", "required": ["message"], "properties": {"message": _TEXT}}
    good = {kind: {"schema": schema} for kind, schema in answers.items()}
    refused = {"application/json": {"schema": message}}
    responses: dict[str, Any] = {"200": {"description": "The answer", "content": good}}
    for status, why in _REFUSALS.items():
        responses[status] = {"description": why, "content": refused}
    return {"get": {"summary": summary, "parameters": parameters, "responses": responses}}
