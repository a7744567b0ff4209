"""What notebooks show of scans and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np

from blissdata import DataStore
from blissdata.h5api import static_hdf5
from blissdata.h5api.redis_hdf5 import File


def cells(html: str) -> list[str]:
    """The texts of all table cells; fails if the HTML is not well formed."""
    return ["".join(cell.itertext()) for cell in ElementTree.fromstring(html).iter("td")]  # noqa: S314 — ours


def html_of(thing: Any) -> str:
    return str(thing._repr_html_())


def test_a_scan_shows_identity_state_and_streams(memory_store: DataStore) -> None:
    identity = {"name": "ascan", "number": 3, "data_policy": "none"}
    with memory_store.create_scan(identity, {"title": "ascan samx 0 1"}) as scan:
        scan.create_stream("image", dtype="uint16", shape=(4, 5), unit="counts")
        assert "no stream yet" in html_of(memory_store.load_scan(scan.key))
        scan.prepare()
        html = html_of(memory_store.load_scan(scan.key))
    assert "ascan samx 0 1" in html
    assert "PREPARED" in html
    assert cells(html)[-4:] == ["image", "uint16", "4 × 5", "counts"]


def test_what_publishers_wrote_cannot_become_html(memory_store: DataStore) -> None:
    bad = "<script>alert(1)</script>"
    identity = {"name": bad, "number": 1, "data_policy": "none"}
    with memory_store.create_scan(identity, {"title": bad}) as scan:
        scan.create_stream(bad, dtype="json")
        scan.prepare()
        html = html_of(scan)
    assert "<script" not in html
    assert bad in cells(html)


def test_a_live_file_and_a_written_one_show_their_entries(
    memory_store: DataStore, tmp_path: Path
) -> None:
    path = str(tmp_path / "scan.h5")
    identity = {"name": "s", "number": 5, "data_policy": "none", "path": path}
    with memory_store.create_scan(identity, {"title": "a live one"}) as scan:
        scan.create_stream("x", dtype="f8")
        scan.prepare()
        live = html_of(File(path, data_store=memory_store, wait=False))
    assert cells(live)[:2] == ["5.1", "NXentry"]
    with h5py.File(path, "w") as f:
        f.create_group("1.1").attrs["NX_class"] = "NXentry"
        f["1.1/title"] = "a <written> one"
        f["numbers"] = np.arange(3)
    with static_hdf5.File(path) as written:
        assert cells(html_of(written)) == [
            *("1.1", "NXentry", "a <written> one"),
            *("numbers", "dataset", ""),
        ]
