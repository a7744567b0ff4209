"""Measured data as running scans: files are replayed, scans are recorded and replayed again.

sources      a file's entries as measurements: spec, columns, tree (HDF5 and whatever silx reads)
measurement  channels and titles, as values
header       what a replayed measurement says about itself
pacing       when its points are due
player       publishes it
recording    the file format of a recorded scan
recorder     writes one, from a scan that runs or is over
"""

from __future__ import annotations

from blissdata.replay.measurement import Channel, Measurement
from blissdata.replay.player import Played, play, play_recording
from blissdata.replay.recorder import record
from blissdata.replay.recording import Recording, is_recording, open_recording
from blissdata.replay.sources import Source, open_source

__all__ = [
    "Channel",
    "Measurement",
    "Played",
    "Recording",
    "Source",
    "is_recording",
    "open_recording",
    "open_source",
    "play",
    "play_recording",
    "record",
]
