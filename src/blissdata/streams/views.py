"""What a cursor gives: events as a plugin gets them, and the view that it makes of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from blissdata.exceptions import IndexNoMoreThereError

__all__ = ["BaseView", "EventRange", "gone_at_the_start"]


@dataclass
class EventRange:
    """Consecutive events of a stream, as a plugin gets them."""

    index: int
    """Index of the first event."""

    nb_expired: int
    """How many at the start have left the server."""

    data: Any
    """The rest, decoded: an array (or list) whose first axis counts events."""

    end_of_stream: bool
    """True if the seal stands right behind them."""

    def __len__(self) -> int:
        """How many events, expired ones included."""
        return self.nb_expired + len(self.data)


class BaseView(ABC):
    """Points that a cursor has passed, readable as often as needed.

    index                          last_index
    │ expired points │ points there │
    0                               len(view)      ← what get_data counts in
    """

    @property
    @abstractmethod
    def index(self) -> int:
        """Index in the stream of the view's first point."""

    @abstractmethod
    def __len__(self) -> int:
        """How many points, expired ones included."""

    @abstractmethod
    def get_data(self, start: int | None = None, stop: int | None = None) -> Any:
        """The points from `start` to `stop` (exclusive), relative to the view, by slice rules.

        Raises `IndexNoMoreThereError` if one of them has left the server."""

    @property
    def last_index(self) -> int:
        """Index in the stream of the view's last point."""
        return self.index + len(self) - 1

    def __iter__(self) -> Iterator[Any]:
        return iter(self.get_data())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of points {self.index} to {self.last_index}>"


def gone_at_the_start(view: BaseView) -> int:
    """How many points at the start of a view have left the server, found by halving: reads some points."""
    low, high = 0, len(view)  # the point before `low` is gone, the one at `high` is not
    while low < high:
        middle = (low + high) // 2
        try:
            view.get_data(middle, middle + 1)
        except IndexNoMoreThereError:
            low = middle + 1
        else:
            high = middle
    return low
