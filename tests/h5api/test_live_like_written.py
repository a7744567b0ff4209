"""Whatever the layout, the writer puts on disk what the live file shows.

Random layouts are published while a writer is at work. Then the live file, the same from the written
file alone once the scan has expired, and h5py on it are compared: names, links, attributes, dtypes,
shapes, random selections.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.h5api.test_live_like_h5py import TREES, Tree, _groups, assert_same_tree, publish, send
from tests.h5api.test_live_like_h5py import some as some_examples
from tests.writer.kit import Running, running

from blissdata import DataStore
from blissdata.h5api.redis_hdf5 import File
from blissdata.testing import MemoryBackend
from blissdata.writer.nexus import MARKS


class AttributesWithoutMarks(dict[str, Any]):
    """Attributes without those of the writer."""

    def __init__(self, attrs: h5py.AttributeManager) -> None:
        super().__init__({k: v for k, v in attrs.items() if not k.startswith(MARKS)})
        self.get_id = attrs.get_id


class WithoutMarks:
    """An entry without what the writer adds: its marks, and the time when the scan ended."""

    def __init__(self, entry: Any, ends: bool) -> None:
        self._entry = entry
        self._ends = ends

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entry, name)

    @property
    def attrs(self) -> Mapping[str, Any]:
        return AttributesWithoutMarks(self._entry.attrs)

    def __iter__(self) -> Any:
        return (name for name in self._entry if self._ends or name != "end_time")

    def __len__(self) -> int:
        return len(list(iter(self)))

    def keys(self) -> Any:
        return list(iter(self))

    def __getitem__(self, name: str) -> Any:
        return self._entry[name]

    def __contains__(self, name: str) -> bool:
        return name in self._entry


def compare(
    tree: Any, part: float, data: st.DataObject, store: DataStore, writer: Running, root: Path
) -> None:
    with tempfile.TemporaryDirectory(dir=root) as directory:
        whole = Tree(tree, directory)
        ends = "end_time" in tree[2]
        scan, streams = publish(store, whole)
        send(streams, whole.points, 0, part)
        send(streams, whole.points, part, 1)
        scan.stop()
        scan.close()
        writer.wait_written(scan)
        os.utime(whole.file, (0, 0))  # nobody is writing any more: zeros are what was measured
        with (
            h5py.File(whole.file, "r") as file,
            File(whole.file, data_store=store) as live,
        ):
            there = WithoutMarks(file["1.1"], ends)
            entry = live["1.1"]
            assert_same_tree(entry, there, data)
            store.event_log.trim(
                {streams[name].key: len(points) for name, points in whole.points.items()}
            )
            assert_same_tree(entry, there, data)
            store.catalog.expire(scan.key, 0)
            assert_same_tree(entry, there, data)
        with (
            h5py.File(whole.file, "r") as file,
            File(whole.file, data_store=store) as alone,
        ):
            assert list(alone.keys()) == list(file.keys())
            assert dict(alone.attrs) == {**file.attrs, "default": "1.1"}
            assert_same_tree(alone["1.1"], file["1.1"], data)


def compare_many(examples: int, root: Path) -> None:
    backend = MemoryBackend()
    backend.initialise()
    with DataStore(backend=backend) as store, running(store, root) as writer:
        writer.wait("writing scans below")

        @given(_groups(TREES), st.floats(0, 1), st.data())
        @some_examples(examples)
        def check(tree: Any, part: float, data: st.DataObject) -> None:
            compare(tree, part, data, store, writer, root)

        check()


def test_what_is_written_is_what_is_shown(tmp_path: Path) -> None:
    compare_many(5, tmp_path)


@pytest.mark.slow
def test_what_is_written_is_what_is_shown_for_many_layouts(tmp_path: Path) -> None:
    compare_many(40, tmp_path)
