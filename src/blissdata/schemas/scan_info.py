"""What a scan says about itself: the JSON header on top of its streams. Pure data.

    ScanInfoDict
    ├── acquisition_chain   {name: ChainDict}     who triggers whom: top_master ──► devices
    ├── devices             {name: DeviceDict}    … triggered_devices ──► devices, channels ──► channels
    ├── channels            {name: ChannelDict}   one per stream of numbers
    ├── sequence_info       SequenceDict          for scans made of scans
    └── plots               [PlotDict]            how to show it (scan_info_display)

Viewers and file writers need it "so they know what streams do represent and what to do with them"
(the Blissdata talk, slide "JSON format"). These are types and nothing else: calling one makes a
plain dict, and any further key may be added. `blissdata.schemas.validate` checks one.

The text below a field is its documentation: the JSON Schema and the reference page carry it.
"""

# No `from __future__ import annotations` here: NotRequired must be seen when the class is made.
# typing_extensions (it comes with pydantic): pydantic refuses typing.TypedDict below Python 3.12.

from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

from blissdata.schemas.marks import Deprecated, Known, Moment, Names, Range
from blissdata.schemas.scan_info_display import ChannelRef, DisplayExtraDict, PlotDict

__all__ = [
    "ChainDict",
    "ChannelDict",
    "DeviceDict",
    "ScanInfoDict",
    "SequenceDict",
]

DeviceRef: TypeAlias = Annotated[str, Names("devices")]
"""Name of a device: a key of the info's `devices`."""

_OLD = Deprecated("follow `top_master` and each device's `triggered_devices` and `channels`")


class ChainDict(TypedDict):
    """One trigger tree of the scan. A scan has one, or several that run side by side."""

    top_master: DeviceRef
    """The device that triggers all others of this chain, directly or not."""

    devices: NotRequired[Annotated[list[DeviceRef], _OLD]]
    """All devices of the chain, the top master first."""

    scalars: NotRequired[Annotated[list[ChannelRef], _OLD]]
    """The chain's 0-D channels that are not the top master's."""

    spectra: NotRequired[Annotated[list[ChannelRef], _OLD]]
    """The chain's 1-D channels that are not the top master's."""

    images: NotRequired[Annotated[list[ChannelRef], _OLD]]
    """The chain's 2-D channels that are not the top master's."""

    master: NotRequired[Annotated[dict[str, list[ChannelRef]], _OLD]]
    """The top master's own channels, under `scalars`, `spectra` and `images`."""


class ChannelDict(TypedDict):
    """One quantity that is measured at every point of the scan: one stream of numbers."""

    dim: Annotated[int, Range(0, 2)]
    """Dimensions of one point: 0 a number, 1 a spectrum, 2 an image."""

    display_name: NotRequired[str]
    """Short name for people, e.g. `diode`. Need not be unique; the key is the channel's name."""

    unit: NotRequired[str]
    """Unit of the values, as text, e.g. `mm` or `keV`; empty for a number without unit."""

    decimals: NotRequired[Annotated[int, Range(0)]]
    """Digits after the decimal point that are worth showing."""

    start: NotRequired[float]
    """First value that was asked for, e.g. of a motor [the channel's unit]."""

    stop: NotRequired[float]
    """Last value that was asked for [the channel's unit]."""

    min: NotRequired[float]
    """Smallest value to expect, so that a plot's axis need not grow [the channel's unit]."""

    max: NotRequired[float]
    """Largest value to expect [the channel's unit]."""

    points: NotRequired[Annotated[int, Range(0)]]
    """How many points to expect in all [points]."""

    axis_points: NotRequired[Annotated[int, Range(0)]]
    """How many points lie along this axis of a grid, e.g. of a map [points]."""

    axis_points_hint: NotRequired[Annotated[int, Range(0)]]
    """How many points lie roughly along this axis, where the scan is not quite a grid [points]."""

    axis_id: NotRequired[Annotated[int, Range(0)]]
    """Which axis of the grid this is, from 0, the one that moves fastest."""

    axis_kind: NotRequired[Literal["forth", "backnforth", "step"]]
    """How the axis moves: `forth` in one direction each time, `backnforth` in both in turn, `step`
    from one value to the next after the faster axes are through."""

    group: NotRequired[str]
    """Label of channels that belong together, point by point. Channels of one chain do anyhow."""


class DeviceDict(TypedDict):
    """Something that publishes channels, or that triggers devices which do."""

    name: str
    """Name for people, e.g. `eiger` or `roi_counters`. Need not be unique; the key is."""

    channels: NotRequired[list[ChannelRef]]
    """Channels that the device publishes."""

    triggered_devices: NotRequired[list[DeviceRef]]
    """Devices that this one triggers."""

    type: NotRequired[Annotated[str, Known(("lima", "lima2", "mca", "mosca"))]]
    """Kind of device, where viewers and file writers treat it specially: `lima` and `lima2`
    cameras, `mca` and `mosca` spectrum analysers. Others are allowed; nobody knows them."""

    xaxis_channel: NotRequired[ChannelRef]
    """1-D channel with the positions along the axis of this device's spectra."""

    xaxis_array: NotRequired[list[float]]
    """The positions themselves, where they are known before the scan, e.g. energies."""

    xaxis_array_label: NotRequired[str]
    """What `xaxis_array` is, for people, e.g. `energy`."""

    xaxis_array_unit: NotRequired[str]
    """Unit of `xaxis_array`, as text."""

    metadata: NotRequired[dict[str, Any]]
    """What else is known of the device; file writers store it beside the data."""


class SequenceDict(TypedDict):
    """About a scan that is made of scans."""

    scan_count: NotRequired[Annotated[int, Range(0)]]
    """How many scans the sequence will have, where that is known."""


class ScanInfoDict(TypedDict):
    """What a scan says about itself, `scan.info` (the Blissdata talk, slide "JSON format"; the fields
    are those of blissdata 2.x, as BLISS publishes them). Publishers may add any key; readers ignore
    those that they do not know. NaN and infinities are stored as `null`, which no field here
    accepts: leave the field out."""

    acquisition_chain: dict[str, ChainDict]
    """Trigger trees by name."""

    channels: dict[str, ChannelDict]
    """Channels by name."""

    devices: dict[str, DeviceDict]
    """Devices by name."""

    sequence_info: NotRequired[SequenceDict]
    """More about a scan that is made of scans."""

    group: NotRequired[str]
    """Key of the scan that this one is part of."""

    start_time: Annotated[str, Moment()]
    """When the scan started, ISO 8601 with the offset from UTC."""

    scan_nb: Annotated[int, Range(0)]
    """Number of the scan for people, from 1 in each dataset. Not unique: the key is."""

    index_in_sequence: NotRequired[Annotated[int, Range(0)]]
    """Place in the sequence that the scan is part of, from 0. A scan that is tried again keeps
    it."""

    retry_nb: NotRequired[Annotated[int, Range(0)]]
    """How often this scan was tried before, from 0, where a sequence tries again."""

    is_scan_sequence: NotRequired[Literal[True]]
    """Present, and true, for a scan that is made of scans."""

    type: str
    """What kind of scan it is, e.g. `ascan` or `loopscan`."""

    title: str
    """One line for people, usually the command, e.g. `ascan sx 0 1 10 0.1 diode`."""

    npoints: NotRequired[Annotated[int, Range(0)]]
    """How many points the scan will have; 0 for one that goes on until it is stopped [points]."""

    count_time: NotRequired[float]
    """Exposure of one point [s]."""

    sleep_time: NotRequired[float]
    """Pause after each point [s]."""

    stab_time: NotRequired[float]
    """Pause between the end of a movement and the exposure [s]."""

    data_policy: str
    """Rules by which files are placed and named, e.g. `ESRF`; `none` without."""

    data_writer: str
    """Who writes the file, e.g. `nexus`; `null` when nobody does."""

    writer_options: NotRequired[dict[str, Any]]
    """What the file writer is asked for, by its own rules."""

    publisher: str
    """Program that publishes the scan, e.g. `bliss`."""

    publisher_version: str
    """Its version."""

    save: bool
    """Whether the scan goes into a file."""

    session_name: str
    """Session of the program that publishes."""

    user_name: str
    """Account of the person who started the scan."""

    plots: NotRequired[list[PlotDict]]
    """How to show the scan."""

    display_extra: NotRequired[DisplayExtraDict]
    """What the user wants to see."""

    end_time: NotRequired[Annotated[str, Moment()]]
    """When the scan ended, ISO 8601 with the offset from UTC. Absent as long as it runs."""

    end_reason: NotRequired[Literal["SUCCESS", "FAILURE", "USER_ABORT", "DELETION"]]
    """Why it ended: as planned, by a failure, by the user, or because somebody deleted it. Absent
    as long as it runs."""
