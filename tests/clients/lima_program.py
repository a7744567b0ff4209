"""`program.py`, which can also be told to publish and read what a Lima detector has in its ring.

Runs in environments that have PyTango.
"""

from __future__ import annotations

import numpy as np
import program

from blissdata.lima.client import acquisition_on_server, prepare_next_lima_acquisition
from blissdata.streams.lima import stream_cls


class LimaProgramme(program.Programme):
    """Its methods are what it can be told to do."""

    def create_lima(self, identity, url, ring, saving):
        """A running scan with the stream `camera`; its key, and the detector's acquisition."""
        acquisition = prepare_next_lima_acquisition(self.store, url)
        definition = stream_cls.make_definition(
            "camera",
            np.uint16,
            (6, 8),
            url,
            buffer_max_number=ring,
            frames_per_acquisition=100,
            acquisition_offset=acquisition,
            saving=saving,
        )
        self.scan = self.store.create_scan(identity)
        self.writers = {"camera": self.scan.create_stream(definition)}
        self.scan.prepare()
        self.scan.start()
        return [self.scan.key, acquisition]

    def next_acquisition(self, url):
        return prepare_next_lima_acquisition(self.store, url)

    def acquisition(self, url):
        return acquisition_on_server(self.store, url)

    def live(self, stream):
        image = self.scan.streams[stream].get_last_live_image()
        return [program.wrapped(image.array), image.frame_id, image.acq_tag]


if __name__ == "__main__":
    program.Programme = LimaProgramme
    program.main()
