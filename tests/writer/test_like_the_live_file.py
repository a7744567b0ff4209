"""What the writer puts on disk is the tree of the live file, whatever the layout.

A random layout and its points are published, once as `h5maps` and once in the talk's notation. The written
file is read with h5py, the scan as the live file: names in their order, links, classes, attributes, dtypes,
shapes, values are the same. Another time the writer finds the scan half done.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.h5api.test_live_like_h5py import (
    TREES,
    Tree,
    _groups,
    assert_same_tree,
    publish,
    same,
    send,
)
from tests.writer.kit import new_scan, running

from blissdata import DataStore
from blissdata.h5api.redis_hdf5 import File
from blissdata.h5map import RAW, STREAM
from blissdata.testing import MemoryBackend
from blissdata.writer.nexus import MARKS


@given(_groups(TREES), st.floats(0, 1), st.data())
@settings(
    max_examples=8,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=tuple(HealthCheck),
)
def test_a_written_file_is_the_live_file(
    tmp_path: Path, tree: Any, part: float, data: st.DataObject
) -> None:
    directory = tmp_path / uuid.uuid4().hex
    directory.mkdir()
    whole = Tree(tree, str(directory))
    backend = MemoryBackend()
    backend.initialise()
    with DataStore(backend=backend) as store:
        scan, streams = publish(store, whole)
        send(streams, whole.points, 0, part)
        with running(store, directory, all_scans=True) as writer:
            send(streams, whole.points, part, 1)
            scan.stop()
            scan.close()
            writer.wait_written(scan)
        with h5py.File(whole.file) as there, File(whole.file, data_store=store, wait=False) as live:
            same_entry(live["1.1"], there["1.1"], data)


def same_entry(live: Any, there: h5py.Group, data: st.DataObject) -> None:
    """The entry has marks of the writer; below it everything is the same."""
    attributes = {name: v for name, v in there.attrs.items() if not name.startswith(MARKS)}
    assert sorted(live.attrs) == sorted(attributes)
    for name, value in attributes.items():
        assert same(live.attrs[name], value), name
    names = [name for name in there if name != "end_time" or name in live]
    assert list(live) == names
    for name in names:
        link = there.get(name, getlink=True)
        if isinstance(link, h5py.HardLink):
            assert_same_tree(live[name], there[name], data)
        else:
            assert live.get(name, getlink=True).path == link.path


MAPPING = {
    "NX_class": "NXentry",
    "title": ({}, RAW, "the talk"),
    "instrument": {
        "NX_class": "NXinstrument",
        "diode": (
            {"NX_class": "NXdetector"},
            {"data": ({"units": "A"}, STREAM, "diode"), "type": ({}, RAW, "photodiode")},
        ),
        "my_camera": ({"NX_class": "NXdetector"}, {"data": ({}, STREAM, "camera")}),
    },
    "numbers": ({}, {"list": ({"n": 3}, RAW, [1, 2, 3]), "flag": ({}, RAW, True)}),
    "notes": ({}, STREAM, "notes"),
}


@given(st.data())
@settings(max_examples=1, suppress_health_check=tuple(HealthCheck))
def test_so_it_is_in_the_talks_notation_and_without_any(
    tmp_path: Path, data: st.DataObject
) -> None:
    directory = tmp_path / uuid.uuid4().hex
    directory.mkdir()
    path = directory / "a.h5"
    backend = MemoryBackend()
    backend.initialise()
    with DataStore(backend=backend) as store, running(store, directory) as writer:
        for number, mapping in ((1, MAPPING), (2, None)):
            with new_scan(store, path, number, title="a scan") as scan:
                diode = scan.create_stream("diode", dtype="f8")
                camera = scan.create_stream("camera", dtype="u2", shape=(3, 4))
                notes = scan.create_stream("notes", dtype="json")
                if mapping:
                    scan.info["mapping"] = mapping
                scan.prepare()
                scan.start()
                diode.send(np.array([1.5, np.nan, np.inf, -np.inf]))
                camera.send(np.arange(24, dtype="u2").reshape(2, 3, 4))
                for note in ("é", {"a": [1, None]}, 3):
                    notes.send(note)
            writer.wait_written(scan)
        with h5py.File(path) as there:
            live = File(path, data_store=store, wait=False)
            assert list(there) == ["1.1", "2.1"] == list(live.keys())
            assert there.attrs["default"] == live.attrs["default"] == "2.1"
            assert there.attrs["NX_class"] == live.attrs["NX_class"]
            for entry in ("1.1", "2.1"):
                assert there[entry]["end_time"][()] == live[entry]["end_time"][()]
                assert list(there[entry])[-1] == "end_time"
                same_entry(live[entry], there[entry], data)
            assert there["1.1/instrument/diode/data"][0] == 1.5
            assert [bytes(one) for one in there["1.1/notes"]] == [
                rb'"\u00e9"',
                b'{"a": [1, null]}',
                b"3",
            ]
