"""How events become data: streams, views, cursors. Knows no Redis client."""

from __future__ import annotations

from blissdata.streams.availability import Availability, Place, Ranges
from blissdata.streams.base import BaseStream, StreamDefinition
from blissdata.streams.cursor import Cursor, CursorGroup
from blissdata.streams.event_stream import EventStream
from blissdata.streams.views import BaseView, EventRange
from blissdata.streams.where import availability_of

__all__ = [
    "Availability",
    "BaseStream",
    "BaseView",
    "Cursor",
    "CursorGroup",
    "EventRange",
    "EventStream",
    "Place",
    "Ranges",
    "StreamDefinition",
    "availability_of",
]
