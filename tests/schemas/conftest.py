"""A scan's info with every field that there is, as BLISS would publish it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def info() -> dict[str, Any]:
    """The info, new for each test, so that it can be spoilt."""
    return published()


@pytest.fixture(scope="session")
def make_info() -> Callable[[], dict[str, Any]]:
    """Makes a new info at each call, for tests that need many."""
    return published


def published() -> dict[str, Any]:
    """A map with two motors, a diode, a camera with regions of interest, and a spectrum analyser."""
    return {
        "acquisition_chain": {"axis": {"top_master": "axis"}},
        "devices": {
            "axis": {
                "name": "axis",
                "channels": ["axis:sx", "axis:sy"],
                "triggered_devices": ["timer"],
            },
            "timer": {
                "name": "timer",
                "channels": ["timer:elapsed_time"],
                "triggered_devices": ["diode", "eiger", "fluo"],
            },
            "diode": {"name": "diode", "channels": ["diode"], "metadata": {"gain": 1e6}},
            "eiger": {
                "name": "eiger",
                "type": "lima2",
                "channels": ["eiger:image"],
                "triggered_devices": ["eiger:roi_counters"],
            },
            "eiger:roi_counters": {"name": "roi_counters", "channels": ["eiger:roi1"]},
            "fluo": {
                "name": "fluo",
                "type": "mca",
                "channels": ["fluo:det0", "fluo:energy"],
                "xaxis_channel": "fluo:energy",
                "xaxis_array": [0, 0.5, 1.0],
                "xaxis_array_label": "energy",
                "xaxis_array_unit": "keV",
            },
        },
        "channels": {
            "axis:sx": {
                "dim": 0,
                "display_name": "sx",
                "unit": "mm",
                "decimals": 4,
                "start": -1,
                "stop": 1.0,
                "min": -1.0,
                "max": 1.0,
                "points": 1271,
                "axis_points": 41,
                "axis_id": 0,
                "axis_kind": "backnforth",
            },
            "axis:sy": {
                "dim": 0,
                "display_name": "sy",
                "unit": "mm",
                "axis_points_hint": 31,
                "axis_id": 1,
                "axis_kind": "step",
                "group": "map",
            },
            "timer:elapsed_time": {"dim": 0, "unit": "s", "display_name": "elapsed_time"},
            "diode": {"dim": 0, "display_name": "diode", "unit": ""},
            "eiger:image": {"dim": 2},
            "eiger:roi1": {"dim": 0},
            "fluo:det0": {"dim": 1},
            "fluo:energy": {"dim": 1, "unit": "keV"},
        },
        "sequence_info": {"scan_count": 12},
        "group": "esrf:scan:01JQ0000000000000000000000",
        "start_time": "2025-03-14T09:26:53.589793+01:00",
        "scan_nb": 7,
        "index_in_sequence": 0,
        "retry_nb": 0,
        "is_scan_sequence": True,
        "type": "amesh",
        "title": "amesh sx -1 1 40 sy -1 1 30 0.1 diode eiger",
        "npoints": 1271,
        "count_time": 0.1,
        "sleep_time": 0,
        "stab_time": 0.0,
        "data_policy": "ESRF",
        "data_writer": "nexus",
        "writer_options": {"chunk_options": {"compression_scheme": None}},
        "publisher": "bliss",
        "publisher_version": "2.1.0",
        "save": True,
        "session_name": "id00",
        "user_name": "opid00",
        "plots": [
            {
                "kind": "scatter-plot",
                "name": "map",
                "items": [{"kind": "scatter", "x": "axis:sx", "y": "axis:sy", "value": "diode"}],
            },
            {
                "kind": "curve-plot",
                "name": "counters",
                "items": [
                    {"kind": "curve", "x": "timer:elapsed_time", "y": "diode", "y_axis": "left"},
                    {"kind": "curve", "y": "eiger:roi1", "y_axis": "right"},
                    {"kind": "curve"},
                ],
            },
            {
                "kind": "1d-plot",
                "name": "fluo",
                "x": "fluo:energy",
                "items": [{"kind": "curve", "y": "fluo:det0"}],
            },
            {"kind": "table-plot", "name": "all"},
        ],
        "display_extra": {
            "displayed_channels": ["diode"],
            "plotselect": ["simulator:other"],
            "plotselect_time": 1741940813.5,
        },
        "end_time": "2025-03-14T09:31:02+01:00",
        "end_reason": "SUCCESS",
        # What no schema knows, and BLISS adds:
        "positioners": {"positioners_start": {"sx": 0.0}, "positioners_units": {"sx": "mm"}},
        "filename": "/data/id00/inhouse/sample.h5",
        "_preset": [["deep", {"er": [None, True]}]],
    }
