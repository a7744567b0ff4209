"""The scan document: what a scan is on the server, as values, and its JSON.

{"pk", "id": {"pk", identity fields…}, "info": {…},
 "state_stream": {"pk", "encoding": null, "info": null},
 "data_streams": {name: {"pk", "encoding": {…}, "info": {…}}}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blissdata.exceptions import ScanTooLargeError, ScanValidationError

__all__ = ["MAX_INFO", "ScanDocument", "StreamDocument", "info_text"]

MAX_INFO = 2**20
"""Longest JSON text of a scan's info [characters]; every reader loads it at every change."""

_encode = json.JSONEncoder(allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class StreamDocument:
    """One data stream, as the scan document describes it."""

    pk: str
    """Primary key."""

    encoding: dict[str, Any] | None
    """What the stream's encoder says of itself."""

    info: dict[str, Any] | None
    """The stream's metadata."""

    stream_key: str
    """The stream's key on the server."""

    scan_key: str | None = None
    """Key of the scan that owns it."""

    scan_path: str | None = None
    """The file that the scan says it is saved to; not stored with the stream."""

    scan_saves: bool = False
    """True if the scan says that it is saved; not stored with the stream."""

    def key(self) -> str:
        """The stream's key on the server."""
        return self.stream_key


@dataclass(slots=True)
class ScanDocument:
    """A scan as the server stores it."""

    pk: str
    """Primary key, a ULID."""

    identity: dict[str, Any]
    """The searchable fields."""

    info: dict[str, Any]
    """What the publisher says about the scan."""

    state_pk: str
    """Primary key of the state stream."""

    streams: dict[str, StreamDocument] = field(default_factory=dict)
    """The data streams by name."""

    text: str | None = field(default=None, repr=False, compare=False)
    """What `to_json` gives, for who asked and changes nothing any more."""

    def to_json(self) -> str:
        """The document's text. The info must be plain (see `info_text`)."""
        if self.text is not None:
            return self.text
        return _encode(
            {
                "pk": self.pk,
                "id": {"pk": self.pk, **self.identity},
                "info": self.info,
                "state_stream": {"pk": self.state_pk, "encoding": None, "info": None},
                "data_streams": {
                    name: {"pk": s.pk, "encoding": s.encoding, "info": s.info or {}}
                    for name, s in self.streams.items()
                },
            }
        )

    @classmethod
    def from_json(
        cls, key: str, text: str | bytes, stream_key: Callable[[str], str]
    ) -> ScanDocument:
        """The document in a text; `stream_key` makes a key of a stream's primary key. Unknown
        fields are ignored. Raises `ScanValidationError`, naming what is wrong."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ScanValidationError(
                f"{key} is not a scan: its document is not JSON ({error})"
            ) from error
        try:
            info = _expect(raw, "info", dict)
            identity = dict(_expect(raw, "id", dict))
            identity.pop("pk", None)
            path = identity.get("path")
            streams = {
                name: StreamDocument(
                    pk=_expect(stream, "pk", str, f"stream '{name}': "),
                    encoding=_object_or_none(stream.get("encoding")),
                    info=_object_or_none(stream.get("info")),
                    stream_key=stream_key(stream["pk"]),
                    scan_key=key,
                    scan_path=path if isinstance(path, str) else None,
                    scan_saves=bool(info.get("save")),
                )
                for name, stream in _expect(raw, "data_streams", dict).items()
            }
            return cls(
                pk=_expect(raw, "pk", str),
                identity=identity,
                info=info,
                state_pk=_expect(_expect(raw, "state_stream", dict), "pk", str),
                streams=streams,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ScanValidationError(
                f"{key} is not a scan that can be understood: {error.args[0]}"
            ) from error


def _expect(raw: Any, name: str, kind: type, where: str = "") -> Any:
    if not isinstance(raw, dict):
        raise TypeError(f"{where}expected an object with '{name}', found {type(raw).__name__}")
    if name not in raw:
        raise KeyError(f"{where}'{name}' is missing")
    if not isinstance(raw[name], kind):
        found = type(raw[name]).__name__
        raise TypeError(f"{where}'{name}' is a {found}, expected {kind.__name__}")
    return raw[name]


def _object_or_none(value: Any) -> dict[str, Any] | None:
    """Older publishers may have stored an empty text for null."""
    return value if isinstance(value, dict) else None


def info_text(info: Mapping[str, Any]) -> str:
    """The info as JSON: tuples become lists, NaN and ±infinity null, numpy values plain ones.

    Raises `TypeError` naming the path of what JSON cannot hold, `ScanTooLargeError` above
    `MAX_INFO` characters."""
    try:
        text = _encode(_plain(info, "info"))
    except RecursionError as error:
        raise TypeError("scan info is nested too deep for JSON, or contains itself") from error
    except ValueError as error:  # an integer of thousands of digits
        raise TypeError(f"scan info holds what JSON cannot: {error}") from error
    if len(text) > MAX_INFO:
        sizes = sorted(((len(json.dumps(_plain(v, k))), k) for k, v in info.items()), reverse=True)
        largest = ", ".join(f"{k!r} {n}" for n, k in sizes[:3])
        raise ScanTooLargeError(
            f"Scan metadata is taking {len(text)} characters of JSON, the limit is {MAX_INFO} "
            f"(largest: {largest}). Put data into streams, or into a file that info names"
        )
    return text


def _plain(value: Any, path: str) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float | np.floating):
        number = float(value)  # also of a longdouble, whose own item() is one again
        return number if math.isfinite(number) else None
    if isinstance(value, Mapping):
        return {_plain_key(k, path): _plain(v, f"{path}[{k!r}]") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, f"{path}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), path)
    raise TypeError(f"scan {path} is a {type(value).__name__}, which JSON cannot hold")


def _plain_key(key: Any, path: str) -> str:
    if isinstance(key, np.generic):
        key = key.item()
    if isinstance(key, str):
        return str(key)
    if key is None or isinstance(key, bool | int | float):
        return str(next(iter(json.loads(json.dumps({key: 0})))))
    raise TypeError(f"scan {path} has the key {key!r}, a {type(key).__name__}; JSON keys are texts")
