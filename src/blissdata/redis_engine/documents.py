"""The scan document: what a scan is on the server, as values, and its JSON.

{"pk", "id": {"pk", identity fields…}, "info": {…},
 "state_stream": {"pk", "encoding": null, "info": null},
 "data_streams": {name: {"pk", "encoding": {…}, "info": {…}}}}
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from blissdata.exceptions import ScanTooLargeError, ScanValidationError

__all__ = ["MAX_INFO", "SURE_DEPTH", "ScanDocument", "StreamDocument", "info_text"]

MAX_INFO = 2**20
"""Longest JSON text of a scan's info [characters]; every reader loads it at every change."""

SURE_DEPTH = 100
"""Values that are nested no deeper than this are written without a look at each of them."""

_encode = json.JSONEncoder(allow_nan=False).encode
_KEY_OF_NUMBER = re.compile(r'"(?:-?[0-9][^"]*|true|false|null)": ')
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))


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


class ScanDocument:
    """A scan as the server stores it. What its publisher says about it stays a text until somebody asks for
    it: most steps of a scan leave it as it is."""

    __slots__ = ("_info_text", "_parsed", "_streams_text", "identity", "pk", "state_pk", "streams")

    def __init__(
        self,
        pk: str,
        identity: dict[str, Any],
        info: dict[str, Any] | str,
        state_pk: str,
        streams: dict[str, StreamDocument] | None = None,
    ) -> None:
        """`info` is plain (see `info_text`), or the text that `info_text` gave."""
        self.pk = pk
        """Primary key, a ULID."""
        self.identity = identity
        """The searchable fields."""
        self.state_pk = state_pk
        """Primary key of the state stream."""
        self.streams: dict[str, StreamDocument] = {} if streams is None else streams
        """The data streams by name."""
        # Not an attribute: whichever of several threads comes first, all get the same info.
        self._parsed: dict[str, dict[str, Any]] = {} if isinstance(info, str) else {"info": info}
        self._info_text = info if isinstance(info, str) else ""
        self._streams_text: str | None = None

    @property
    def info(self) -> dict[str, Any]:
        """What the publisher says about the scan: the same object each time, to be changed in place."""
        try:
            return self._parsed["info"]
        except KeyError:
            return self._parsed.setdefault("info", json.loads(self._info_text))

    @info.setter
    def info(self, info: dict[str, Any]) -> None:
        self._parsed["info"] = info

    def says(self, name: str) -> bool:
        """True if the info has a field of that name, and it is not empty."""
        if not self._parsed and f'"{name}"' not in self._info_text:
            return False
        return bool(self.info.get(name))

    def plain_info(self) -> str:
        """The text of the info, whatever it has become. Raises as `info_text` does."""
        return info_text(self.info) if self._parsed else self._info_text

    def info_json(self) -> str:
        """The text of the info, which must be plain (see `info_text`)."""
        return _encode(self.info) if self._parsed else self._info_text

    def streams_json(self) -> str:
        """The text of what the document says about its streams."""
        if not self.streams:
            return "{}"
        return _encode(
            {
                name: {"pk": s.pk, "encoding": s.encoding, "info": s.info or {}}
                for name, s in self.streams.items()
            }
        )

    def to_json(self) -> str:
        """The document's text. The info must be plain (see `info_text`)."""
        identity = _encode({"pk": self.pk, **self.identity})
        streams = self.streams_json() if self._streams_text is None else self._streams_text
        return (
            f'{{"pk": {_encode(self.pk)}, "id": {identity}, "info": {self.info_json()}, '
            f'"state_stream": {{"pk": {_encode(self.state_pk)}, "encoding": null, "info": null}}, '
            f'"data_streams": {streams}}}'
        )

    def with_texts(self, info: str, streams: str | None = None) -> ScanDocument:
        """The same scan with that info, as `plain_info` gave it. With `streams`, as `streams_json` gave
        them, that is what the document says about them, whatever comes."""
        document = ScanDocument(self.pk, self.identity, info, self.state_pk, self.streams)
        document._streams_text = streams
        return document

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ScanDocument):
            return NotImplemented
        return self._parts() == other._parts()

    __hash__ = None  # type: ignore[assignment] # it may be changed

    def __repr__(self) -> str:
        return f"<ScanDocument {self.pk}: {self.identity}, streams: {', '.join(self.streams) or 'none'}>"

    def _parts(self) -> tuple[Any, ...]:
        return self.pk, self.identity, self.info, self.state_pk, self.streams

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
    text = _quick_text(info)
    if text is None:
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


def _quick_text(info: Mapping[str, Any]) -> str | None:
    """The text of an info that is plain JSON already, as nearly all are. None for any other: then each value
    must be looked at."""
    try:
        text = _encode(info)
    except (TypeError, ValueError, RecursionError):
        return None
    # A number that is a key may become the same text as another key.
    return text if _is_shallow(text) and not _KEY_OF_NUMBER.search(text) else None


def _is_shallow(text: str) -> bool:
    """True if nothing in a JSON text is nested deeper than `SURE_DEPTH`. (Not always, if there are brackets
    in its strings.)"""
    brackets = text.encode().translate(None, _ALL_BUT_BRACKETS)
    for _ in range(SURE_DEPTH):
        if not brackets:
            return True
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return False


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
        return str.__str__(key)  # of an enumeration the text that it is, as JSON has it
    if key is None or isinstance(key, bool | int | float):
        return str(next(iter(json.loads(json.dumps({key: 0})))))
    raise TypeError(f"scan {path} has the key {key!r}, a {type(key).__name__}; JSON keys are texts")
