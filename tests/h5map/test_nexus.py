"""The layout of a scan that says nothing of its file, made of its streams and its info.

what is moved, what is measured    plots, channels, BLISS's names
names                              short, unique, fit for HDF5
fields                             title, times, who; what has the wrong form is left out
NXdata                             asked for by plots, or obvious; silx finds it
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import silx.io
from hypothesis import given, settings
from hypothesis import strategies as st
from silx.io.nxdata import get_default

from blissdata import DataStore
from blissdata.h5api.redis_hdf5 import File
from blissdata.h5map import Dataset, Group, SoftLink, Stream
from blissdata.h5map.nexus import nexus_entry, nexus_layout
from blissdata.h5map.tree import check_layout, walk

FLOAT = np.dtype(float)


@dataclass
class OneStream:
    name: str
    shape: tuple[int, ...] = ()
    dtype: Any = FLOAT
    info: dict[str, Any] = field(default_factory=dict)


class Broken:
    name = "broken"
    info: dict[str, Any] = {}  # noqa: RUF012

    @property
    def dtype(self) -> np.dtype[Any]:
        raise RuntimeError("its plugin is not installed")

    shape = dtype


def items(layout: Group) -> dict[str, Any]:
    return dict(walk(layout))


def plain(item: Any) -> Any:
    return json.loads(item.model_dump_json())


def classes(layout: Group) -> dict[str, str]:
    found = {path: item for path, item in items(layout).items() if isinstance(item, Group)}
    return {path: plain(item)["attributes"]["NX_class"] for path, item in found.items()}


def stream_at(layout: Group, path: str) -> str:
    item = items(layout)[path]
    assert isinstance(item, Dataset)
    assert isinstance(item.value, Stream)
    return item.value.stream


SCAN = {
    "title": "ascan sx 0 1 10 0.1",
    "start_time": "2026-11-25T10:00:00+01:00",
    "user_name": "jane",
    "publisher": "bliss",
    "publisher_version": "2.3",
    "channels": {
        "axis:sx": {"dim": 0, "display_name": "sx", "unit": "mm"},
        "sim:diode": {"dim": 0, "display_name": "diode", "unit": "A"},
        "eiger:image": {"dim": 2, "display_name": "image"},
        "mca:spectrum": {"dim": 1},
    },
    "devices": {
        "axis": {"name": "axis", "channels": ["axis:sx"], "triggered_devices": ["eiger"]},
        "eiger": {"name": "eiger", "type": "lima", "channels": ["eiger:image"]},
        "mca": {
            "name": "mca",
            "type": "mca",
            "channels": ["mca:spectrum"],
            "xaxis_array": [1.0, 2.0, 3.0],
            "xaxis_array_label": "energy",
            "xaxis_array_unit": "keV",
        },
    },
    "positioners": {
        "positioners_start": {"sy": 1.5, "odd": {"a": 1}, "mode": "fast", "none": None},
        "positioners_units": {"sy": "mm"},
    },
    "end_time": "2026-11-25T10:01:00+01:00",
    "end_reason": "SUCCESS",
}

STREAMS = [
    OneStream("axis:sx"),
    OneStream("sim:diode"),
    OneStream("timer:epoch", info={"unit": "s"}),
    OneStream("eiger:image", (4, 6), np.dtype("uint16")),
    OneStream("mca:spectrum", (3,), np.dtype("uint32")),
    OneStream("notes", dtype=np.dtype(object)),
]


def test_the_tree_is_that_of_nexus() -> None:
    layout = nexus_layout(SCAN, STREAMS, 7)
    assert classes(layout) == {
        "/7.1": "NXentry",
        "/7.1/user": "NXuser",
        "/7.1/instrument": "NXinstrument",
        "/7.1/instrument/sx": "NXpositioner",
        "/7.1/instrument/diode": "NXdetector",
        "/7.1/instrument/epoch": "NXpositioner",
        "/7.1/instrument/eiger": "NXdetector",
        "/7.1/instrument/spectrum": "NXdetector",
        "/7.1/instrument/positioners_start": "NXcollection",
        "/7.1/measurement": "NXcollection",
        "/7.1/records": "NXcollection",
        "/7.1/plot": "NXdata",
        "/7.1/plot_eiger": "NXdata",
        "/7.1/plot_spectrum": "NXdata",
    }
    assert not check_layout(layout, [stream.name for stream in STREAMS])
    for path, stream in {
        "instrument/sx/value": "axis:sx",
        "instrument/epoch/value": "timer:epoch",
        "instrument/diode/data": "sim:diode",
        "instrument/eiger/data": "eiger:image",
        "instrument/spectrum/data": "mca:spectrum",
        "records/notes": "notes",
    }.items():
        assert stream_at(layout, f"/7.1/{path}") == stream
    measured = items(layout)["/7.1/measurement"]
    assert {name: link.target_path for name, link in measured.children.items()} == {
        "sx": "/7.1/instrument/sx/value",
        "diode": "/7.1/instrument/diode/data",
        "epoch": "/7.1/instrument/epoch/value",
        "eiger": "/7.1/instrument/eiger/data",
        "spectrum": "/7.1/instrument/spectrum/data",
    }


def test_fields_come_from_the_info_and_the_end_stands_last() -> None:
    entry = nexus_entry(SCAN, STREAMS)
    names = list(entry.children)
    assert names[:4] == ["title", "start_time", "program_name", "user"]
    assert names[-2:] == ["end_reason", "end_time"]
    found = plain(entry)["children"]
    assert found["title"] == "ascan sx 0 1 10 0.1"
    assert found["end_time"] == "2026-11-25T10:01:00+01:00"
    assert found["program_name"] == {
        "type": "dataset",
        "attributes": {"version": "2.3"},
        "value": "bliss",
    }
    instrument = found["instrument"]["children"]
    assert instrument["sx"]["children"]["value"]["attributes"] == {"units": "mm"}
    assert instrument["epoch"]["children"]["value"]["attributes"] == {"units": "s"}
    assert instrument["diode"]["children"]["local_name"] == "sim:diode"
    assert instrument["eiger"]["children"]["type"] == "lima"
    assert instrument["eiger"]["children"]["data"]["attributes"] == {
        "long_name": "image",
        "interpretation": "image",
    }
    assert instrument["spectrum"]["children"]["energy"] == {
        "type": "dataset",
        "attributes": {"units": "keV"},
        "value": [1.0, 2.0, 3.0],
    }
    assert instrument["positioners_start"]["children"] == {
        "sy": {"type": "dataset", "attributes": {"units": "mm"}, "value": 1.5},
        "mode": "fast",
    }


def test_what_is_plotted_is_obvious_without_plots() -> None:
    entry = plain(nexus_entry(SCAN, STREAMS))
    assert entry["attributes"] == {"NX_class": "NXentry", "default": "plot"}
    plot, image, spectrum = (
        entry["children"][name] for name in ("plot", "plot_eiger", "plot_spectrum")
    )
    assert plot["attributes"] == {"NX_class": "NXdata", "signal": "diode", "axes": ["sx"]}
    assert list(plot["children"]) == ["sx", "diode"]
    assert image["attributes"]["axes"] == ["sx", ".", "."]
    assert spectrum["attributes"]["axes"] == ["sx", "energy"]
    assert spectrum["children"]["energy"]["target_path"] == "/1.1/instrument/spectrum/energy"


def test_plots_say_what_is_plotted_and_what_was_moved() -> None:
    streams = [OneStream(name) for name in ("x", "y", "a", "b")] + [OneStream("s", (3,))]
    curve = {"kind": "curve-plot", "name": "my plot"}
    curve["items"] = [  # type: ignore[assignment]
        {"kind": "curve", "x": "x", "y": "a"},
        {"kind": "curve", "x": "x", "y": "b", "y_axis": "right"},
        {"kind": "curve", "x": "x", "y": "nobody"},
        {"kind": "curve", "y": "s"},
        "wrong",
    ]
    scatter = {
        "kind": "scatter-plot",
        "items": [{"kind": "scatter", "x": "x", "y": "y", "value": "b"}],
    }
    spectra = {"kind": "1d-plot", "name": "s", "items": [{"kind": "curve", "y": "s"}]}
    info = {"plots": [{"kind": "table-plot"}, curve, scatter, spectra, {"kind": "new"}, 3]}
    layout = nexus_layout(info, streams)
    assert classes(layout)["/1.1/instrument/x"] == "NXpositioner"
    assert classes(layout)["/1.1/instrument/y"] == "NXpositioner"
    assert classes(layout)["/1.1/instrument/a"] == "NXdetector"
    entry = plain(layout)["children"]["1.1"]
    assert entry["attributes"]["default"] == "my_plot"
    plots = {
        name: {k: v for k, v in item["attributes"].items() if k != "NX_class"}
        for name, item in entry["children"].items()
        if isinstance(item, dict) and item["attributes"]["NX_class"] == "NXdata"
    }
    assert plots == {
        "my_plot": {"signal": "a", "auxiliary_signals": ["b"], "axes": ["x"]},
        "plot": {"signal": "b", "axes": ["x", "y"]},
        "s": {"signal": "s"},
    }


@pytest.mark.parametrize(
    "told", [{"axis_id": 0}, {"start": 1.0, "stop": 2.0}, {"axis_kind": "step"}], ids=str
)
def test_a_channel_may_say_that_it_was_moved(told: dict[str, Any]) -> None:
    layout = nexus_layout({"channels": {"m": told}}, [OneStream("m"), OneStream("d")])
    assert classes(layout)["/1.1/instrument/m"] == "NXpositioner"
    assert plain(layout)["children"]["1.1"]["children"]["plot"]["attributes"]["axes"] == ["m"]


def test_names_are_short_as_long_as_nobody_else_has_them() -> None:
    streams = [OneStream(name) for name in ("a:roi", "b:roi", "c:sum", "d/e f", "..", "a_roi")]
    streams += [OneStream("\ud800"), OneStream("end_time"), OneStream("plot")]
    layout = nexus_layout({}, streams)
    measured = items(layout)["/1.1/measurement"].children
    by_stream = {
        stream_at(layout, link.target_path): name
        for name, link in measured.items()
        if isinstance(link, SoftLink)
    }
    assert by_stream == {
        "a:roi": "a_roi",
        "b:roi": "b_roi",
        "c:sum": "sum",
        "d/e f": "d_e_f",
        "..": "stream",
        "a_roi": "a_roi_2",
        "\ud800": "?",
        "end_time": "end_time",
        "plot": "plot",
    }


def test_a_plot_takes_no_fields_place() -> None:
    names = ("title", "end_time", "end_time", "instrument")
    curve = {"items": [{"kind": "curve", "y": "d"}], "kind": "curve-plot"}
    info = {"title": "t", "end_time": "now", "plots": [{**curve, "name": name} for name in names]}
    children = plain(nexus_entry(info, [OneStream("d")]))["children"]
    assert children["title"] == "t"
    assert children["end_time"] == "now"
    assert list(children)[3:] == [
        "title_2",
        "end_time_2",
        "end_time_2_2",
        "instrument_2",
        "end_time",
    ]
    assert children["instrument"]["attributes"]["NX_class"] == "NXinstrument"


def test_points_of_varying_shape_are_measured_but_not_plotted() -> None:
    layout = nexus_layout({}, [OneStream("v", (-1,)), OneStream("d")])
    assert stream_at(layout, "/1.1/instrument/v/data") == "v"
    assert [path for path, nx in classes(layout).items() if nx == "NXdata"] == ["/1.1/plot"]


def test_a_stream_of_which_nothing_is_known_is_a_record() -> None:
    assert stream_at(nexus_layout({}, [Broken()]), "/1.1/records/broken") == "broken"


JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inside: st.one_of(
        st.lists(inside, max_size=3), st.dictionaries(st.text(max_size=4), inside, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from([*sorted(SCAN), "plots"]), JSON),
    st.lists(
        st.builds(OneStream, st.text(min_size=1), st.sampled_from([(), (2,), (-1,)])),
        unique_by=lambda stream: stream.name,
    ),
)
@settings(max_examples=50)
def test_whatever_the_info_it_gives_a_layout_without_mistakes(
    info: dict[str, Any], streams: list[OneStream]
) -> None:
    before = json.dumps(info)
    layout = nexus_layout(info, streams)
    names = [stream.name for stream in streams]
    assert not check_layout(layout, names)
    pointed = [
        item.value.stream
        for item in items(layout).values()
        if isinstance(item, Dataset) and isinstance(item.value, Stream)
    ]
    assert sorted(pointed) == sorted(names)  # every stream has its place, once
    assert json.dumps(info) == before


# ------------------------------------------------------------------------------------ with streams


def test_a_publisher_takes_it_for_its_own_layout(store: DataStore) -> None:
    path = "/data/sample.h5"
    identity = {"name": "s", "number": 3, "data_policy": "none", "path": path}
    with store.create_scan(identity, {"title": "by itself"}) as scan:
        diode = scan.create_stream("sim:diode", dtype="float32", unit="A")
        scan.info["h5maps"] = {path: nexus_layout(scan.info, [diode], 3).model_dump(mode="json")}
        scan.prepare()
        scan.start()
        diode.send(np.arange(4, dtype="float32"))
        diode.join()
        f = File(path, data_store=store, wait=False)
        assert f["3.1/title"][()] == b"by itself"
        assert f["3.1/measurement/diode"].attrs["units"] == "A"
        assert f["3.1/measurement/diode"][()].tolist() == [0, 1, 2, 3]


def test_a_scan_that_says_nothing_is_a_nexus_file_all_the_same(
    store: DataStore, tmp_path: Path
) -> None:
    path = str(tmp_path / "sample.h5")
    identity = {"name": "s", "number": 2, "data_policy": "none", "path": path}
    with store.create_scan(identity, {"title": "unsaid"}) as scan:
        sx = scan.create_stream("axis:sx", dtype=float)
        diode = scan.create_stream("sim:diode", dtype=float)
        scan.prepare()
        scan.start()
        sx.send(np.arange(4.0))
        diode.send(np.arange(3.0) ** 2)
        f = File(path, data_store=store)
        assert list(f.keys()) == ["2.1"]
        assert f["/measurement/diode"][0:3].tolist() == [0, 1, 4]
        assert "end_time" not in f["2.1"]
        with f.snapshot() as frozen:
            plot = get_default(frozen["2.1"])
            assert plot is not None
            assert plot.is_valid
            assert plot.signal_name == "diode"
            assert plot.axes_names == ["sx"]
            assert np.array_equal(plot.signal, [0, 1, 4])
            assert np.array_equal(plot.axes[0], [0, 1, 2])
            assert silx.io.is_group(frozen["2.1/instrument"])
    end_time = scan.info["end_time"]
    closed = File(path, data_store=store)
    assert closed["2.1/end_reason"][()] == b"SUCCESS"
    assert closed["2.1/end_time"][()] == end_time.encode()
    assert list(closed["2.1"])[-1] == "end_time"


def test_silx_plots_a_file_written_to_it(tmp_path: Path) -> None:
    layout = nexus_layout(SCAN, STREAMS, 7)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for path, item in walk(layout):
            if isinstance(item, Group):
                node = file.create_group(path)
            elif isinstance(item, SoftLink):
                file[path] = h5py.SoftLink(item.target_path)
                continue
            elif isinstance(item.value, Stream):
                one = next(s for s in STREAMS if s.name == item.value.stream)
                text = one.dtype == object
                data = ["x"] * 5 if text else np.zeros((5, *one.shape), one.dtype)
                node = file.create_dataset(path, data=data)
            else:
                value = item.value.decode()
                node = file.create_dataset(path, value.shape, value.dtype, data=value)
            for name, value in item.attributes.items():
                found = value.decode()
                node.attrs.create(name, found, found.shape, found.dtype)
        for plot, signal, axes in (
            ("plot", "diode", ["sx"]),
            ("plot_eiger", "eiger", ["sx", None, None]),
            ("plot_spectrum", "spectrum", ["sx", "energy"]),
        ):
            found = get_default(file[f"7.1/{plot}"])
            assert found is not None
            assert (found.is_valid, found.signal_dataset_name, found.axes_dataset_names) == (
                True,
                signal,
                axes,
            )
        assert get_default(file["7.1"]).signal_dataset_name == "diode"
        assert found.interpretation == "spectrum"
