"""How a scan asks to be shown: its plots, and what the user selected. Pure data.

A plot says *what kind* of picture and *which channels*; how it looks is the viewer's business.
Viewers make plots of their own for channels that no plot mentions.

    plots ─┬─ scatter-plot ── scatter (x, y, value) …
           ├─ curve-plot ──── curve (x, y, y_axis) …
           ├─ 1d-plot (x) ─── curve (y) …
           └─ table-plot

The text below a field is its documentation: the JSON Schema and the reference page carry it.
"""

# No `from __future__ import annotations` here: NotRequired must be seen when the class is made.
# typing_extensions (it comes with pydantic): pydantic refuses typing.TypedDict below Python 3.12.

from typing import Annotated, Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

from blissdata.schemas.marks import Names

__all__ = [
    "ChannelRef",
    "CurveItemDict",
    "CurvePlotDict",
    "DisplayExtraDict",
    "OneDimItemDict",
    "OneDimPlotDict",
    "PlotDict",
    "ScatterItemDict",
    "ScatterPlotDict",
    "TablePlotDict",
]

ChannelRef: TypeAlias = Annotated[str, Names("channels")]
"""Name of a channel: a key of the info's `channels`."""


class ScatterItemDict(TypedDict):
    """Points in a plane, coloured by a value."""

    kind: Literal["scatter"]
    """Always `scatter`."""

    x: NotRequired[ChannelRef]
    """Channel on the horizontal axis. Without it the user is asked to choose."""

    y: NotRequired[ChannelRef]
    """Channel on the vertical axis. Without it the user is asked to choose."""

    value: NotRequired[ChannelRef]
    """Channel that colours the points. Without it the user is asked to choose."""


class ScatterPlotDict(TypedDict):
    """A plane of points, e.g. a map scanned with two motors."""

    kind: Literal["scatter-plot"]
    """Always `scatter-plot`."""

    name: NotRequired[str]
    """What the plot is called. A viewer recognises it by this name in the next scan."""

    items: list[ScatterItemDict]
    """What it shows; may be empty."""


class CurveItemDict(TypedDict):
    """One 0-D channel against another."""

    kind: Literal["curve"]
    """Always `curve`."""

    x: NotRequired[ChannelRef]
    """Channel on the horizontal axis. Without it the viewer takes the index of the points."""

    y: NotRequired[ChannelRef]
    """Channel on the vertical axis. Without it only the horizontal axis is chosen."""

    y_axis: NotRequired[Literal["left", "right"]]
    """The vertical axis that the curve belongs to; the left one unless said."""


class CurvePlotDict(TypedDict):
    """Curves that grow with the scan, a point at a time."""

    kind: Literal["curve-plot"]
    """Always `curve-plot`."""

    name: NotRequired[str]
    """What the plot is called. A viewer recognises it by this name in the next scan."""

    items: list[CurveItemDict]
    """What it shows; may be empty."""


class TablePlotDict(TypedDict):
    """The numbers themselves, a row per point. It has no items: all 0-D channels are in it."""

    kind: Literal["table-plot"]
    """Always `table-plot`."""

    name: NotRequired[str]
    """What the plot is called. A viewer recognises it by this name in the next scan."""


class OneDimItemDict(TypedDict):
    """One 1-D channel: a whole curve at each point of the scan."""

    kind: Literal["curve"]
    """Always `curve`."""

    y: NotRequired[ChannelRef]
    """The 1-D channel. Without it the user is asked to choose."""


class OneDimPlotDict(TypedDict):
    """The latest curve of 1-D channels, e.g. spectra, over a common axis."""

    kind: Literal["1d-plot"]
    """Always `1d-plot`."""

    name: NotRequired[str]
    """What the plot is called. A viewer recognises it by this name in the next scan."""

    x: NotRequired[ChannelRef]
    """1-D channel with the positions along the horizontal axis. Without it: the index."""

    items: list[OneDimItemDict]
    """What it shows; may be empty."""


PlotDict: TypeAlias = ScatterPlotDict | CurvePlotDict | TablePlotDict | OneDimPlotDict
"""One plot; `kind` tells which."""


class DisplayExtraDict(TypedDict):
    """What the user, not the scan, wants to see."""

    displayed_channels: NotRequired[list[Annotated[str, Names("channels", strict=False)]]]
    """Channels to show, whatever was shown in the scan before."""

    plotselect: NotRequired[list[str]]
    """Names that the user selected for this session. Not all of them need be in this scan."""

    plotselect_time: NotRequired[float]
    """When they were selected, so that the latest choice wins [Unix s]."""
