"""A scan for browsers to look at: motors, diodes, a spectrum and a camera; it goes on when it is told to."""

from __future__ import annotations

from typing import Any

import numpy as np

from blissdata import DataStore, Scan
from blissdata.streams import BaseStream

NPOINTS = 200

INFO: dict[str, Any] = {
    "title": "amesh samx 0 10 20 samy 0 10 10",
    "npoints": NPOINTS,
    "plots": [
        {
            "kind": "curve-plot",
            "name": "detectors",
            "items": [
                {"kind": "curve", "x": "samx", "y": "diode"},
                {"kind": "curve", "x": "samx", "y": "monitor", "y_axis": "right"},
                {"kind": "curve", "x": "samx", "y": "no such channel"},
            ],
        },
        {
            "kind": "scatter-plot",
            "name": "map",
            "items": [{"kind": "scatter", "x": "samx", "y": "samy", "value": "diode"}],
        },
    ],
}


class Acquisition:
    """A scan that goes on when it is told to."""

    def __init__(self, store: DataStore, path: str, number: int = 7) -> None:
        identity = {"name": "amesh", "number": number, "data_policy": "none", "path": path}
        self.scan: Scan = store.create_scan({**identity, "session": "ihr", "dataset": "cu"}, INFO)
        self.streams: dict[str, BaseStream] = {
            name: self.scan.create_stream(name, dtype="f8", unit=unit)
            for name, unit in {"samx": "mm", "samy": "mm", "diode": "A", "monitor": "A"}.items()
        }
        self.streams["mca"] = self.scan.create_stream("mca", dtype="u4", shape=(256,))
        self.streams["camera"] = self.scan.create_stream("camera", dtype="u2", shape=(120, 160))
        self.scan.prepare()
        self.scan.start()
        self.count = 0

    def go_on(self, points: int) -> None:
        """Publishes so many more points of everything, and waits until they are there."""
        rows, columns = np.mgrid[0:120, 0:160]
        for i in range(self.count, self.count + points):
            self.streams["samx"].send(i / 10)
            self.streams["samy"].send(float(i % 20))
            self.streams["diode"].send(1.2 + np.sin(i / 15))
            self.streams["monitor"].send(100 + 10 * np.cos(i / 25))
            self.streams["mca"].send(
                (1000 * np.exp(-(((np.arange(256) - i) / 20) ** 2))).astype("u4")
            )
            spot = np.exp(-((columns - i) ** 2 + (rows - 60) ** 2) / 300)
            self.streams["camera"].send((4000 * spot).astype("u2"))
        self.count += points
        for stream in self.streams.values():
            stream.join()

    def end(self) -> None:
        """Stops and closes the scan."""
        self.scan.stop()
        self.scan.close()
