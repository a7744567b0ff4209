"""How points become payloads and payloads become points again; knows nothing of servers."""

from __future__ import annotations

from typing import Any

from blissdata.exceptions import UnknownEncodingError
from blissdata.streams.encoding.base import EncodedBatch, StreamEncoder
from blissdata.streams.encoding.json import JsonStreamEncoder
from blissdata.streams.encoding.numeric import NumericStreamEncoder

__all__ = ["EncodedBatch", "StreamEncoder", "encoder_from_info"]

_ENCODERS: dict[str, type[StreamEncoder]] = {
    "numeric": NumericStreamEncoder,
    "json": JsonStreamEncoder,
}


def encoder_from_info(info: Any, stream_name: str) -> StreamEncoder:
    """The encoder that a scan document describes. Raises `UnknownEncodingError`, naming the
    stream, for a description that this version cannot read."""
    kind = info.get("type") if isinstance(info, dict) else None
    cls = _ENCODERS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise UnknownEncodingError(
            f"Stream '{stream_name}' has the encoding {str(info)[:200]}; "
            f"this version knows {', '.join(sorted(_ENCODERS))}"
        )
    try:
        return cls.from_info(info)
    except ValueError as error:
        raise UnknownEncodingError(
            f"Stream '{stream_name}' has an encoding that cannot be: {error}"
        ) from error
