"""Programs that know h5py alone: silx, xarray and dask, on a live file while its scan goes on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import dask.array
import h5py
import numpy as np
import pytest
import silx.io
import xarray
from silx.io.dictdump import h5todict, nxtodict
from silx.io.nxdata import NXdata, get_default
from silx.io.utils import h5ls
from tests.h5api.layout_files import write_layout
from tests.h5api.live import group, root, send, soft, started, stream

from blissdata import DataStore
from blissdata.h5api.redis_hdf5 import File

POINTS = np.arange(40.0)
FRAMES = np.arange(40 * 12, dtype="uint16").reshape(40, 3, 4)

LAYOUT = group(
    {"NX_class": "NXentry", "default": "plot"},
    title="tools",
    instrument=group(
        {"NX_class": "NXinstrument"},
        cam=group({"NX_class": "NXdetector"}, data=stream("cam", interpretation="image")),
    ),
    measurement=group(
        {"NX_class": "NXcollection"},
        x=stream("x", units="mm"),
        d=stream("d", units="A"),
        cam=soft("/1.1/instrument/cam/data"),
    ),
    plot=group(
        {"NX_class": "NXdata", "signal": "d", "axes": ["x"]},
        x=soft("/1.1/measurement/x"),
        d=soft("/1.1/measurement/d"),
    ),
    images=group(
        {"NX_class": "NXdata", "signal": "data", "axes": ["x", ".", "."]},
        x=soft("/1.1/measurement/x"),
        data=soft("/1.1/instrument/cam/data"),
    ),
)


@pytest.fixture(autouse=True)
def threads_of_our_own() -> Iterator[None]:
    """dask's would outlive the test."""
    with ThreadPoolExecutor(2) as pool, dask.config.set(pool=pool):
        yield


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "sample.h5")


@pytest.fixture
def live(plain_store: DataStore, path: str) -> Iterator[File]:
    """A file of a scan that goes on: the axis is a little ahead of what is measured."""
    shapes: dict[str, Any] = {"x": (float, ()), "d": (float, ()), "cam": ("uint16", (3, 4))}
    scan, streams = started(plain_store, LAYOUT, path=path, **shapes)
    send(streams["x"], POINTS / 10)
    send(streams["d"], POINTS[:36] ** 2)
    send(streams["cam"], FRAMES[:35])
    with File(path, data_store=plain_store, wait=False) as file:
        yield file
    scan.close()


# -------------------------------------------------------------------------------------------- silx


def test_silx_knows_what_is_what(live: File) -> None:
    entry = live["1.1"]
    data = entry["measurement/d"]
    assert [silx.io.is_file(one) for one in (live, entry, data)] == [True, False, False]
    assert [silx.io.is_group(one) for one in (live, entry, data)] == [True, True, False]
    assert [silx.io.is_dataset(one) for one in (live, entry, data)] == [False, False, True]
    link = entry["measurement"].get("cam", getlink=True)
    assert silx.io.is_softlink(link)
    shown = h5ls(live)
    assert "+1.1" in shown
    assert '"d": shape (36,), type "<f8"' in shown or '"d": shape (_,), type "<f8"' in shown


def test_silx_finds_what_to_plot(live: File) -> None:
    frozen = live.snapshot()
    plot = get_default(frozen)
    assert plot is not None
    assert plot.is_valid
    assert (plot.signal_dataset_name, plot.axes_dataset_names) == ("d", ["x"])
    # One length for what is plotted together; the axis is that of the images, too.
    assert np.array_equal(plot.signal, POINTS[:35] ** 2)
    assert np.array_equal(plot.axes[0], POINTS[:35] / 10)
    images = NXdata(frozen["1.1/images"])
    assert images.is_valid
    assert images.interpretation == "image"
    assert images.signal.shape == (35, 3, 4)
    assert np.array_equal(images.signal[-1], FRAMES[34])
    assert len(images.axes[0]) == 35


def test_silx_gets_the_same_data_from_the_written_file(live: File, path: str) -> None:
    points = {"x": POINTS / 10, "d": POINTS[:36] ** 2, "cam": FRAMES[:35]}
    write_layout(path, root(**{"1.1": LAYOUT}), points)
    for name in ("d", "x", "cam"):
        expected = silx.io.get_data(f"silx:{path}?path=/1.1/measurement/{name}")
        found = live[f"1.1/measurement/{name}"][()]
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
    sliced = silx.io.get_data(f"silx:{path}?path=/1.1/measurement/cam&slice=3,:,1")
    assert np.array_equal(live["measurement/cam"][3, :, 1], sliced)


@pytest.mark.parametrize("read", [nxtodict, h5todict], ids=lambda read: str(read.__name__))
def test_silx_reads_the_same_dictionary_from_the_written_file(
    live: File, path: str, read: Any
) -> None:
    points = {"x": POINTS / 10, "d": POINTS[:36] ** 2, "cam": FRAMES[:35]}
    write_layout(path, root(**{"1.1": LAYOUT}), points)
    options = {} if read is nxtodict else {"include_attributes": True}
    found, expected = read(live, path="/1.1", **options), read(path, path="/1.1", **options)
    assert found["measurement"]["x@units" if read is nxtodict else ("x", "units")] == "mm"
    np.testing.assert_equal(found, expected)


# ------------------------------------------------------------------------------------------ xarray


def test_xarray_takes_datasets_as_arrays(live: File) -> None:
    frozen = live.snapshot()["1.1/plot"]
    array = xarray.DataArray(frozen["d"], coords={"x": frozen["x"]}, dims=["x"])
    assert array.name == "/1.1/measurement/d"
    assert np.array_equal(array.values, POINTS[:35] ** 2)
    assert float(array.sel(x=0.5)) == 25
    whole = xarray.Dataset({name: ("x", frozen[name]) for name in ("x", "d")})
    assert dict(whole.sizes) == {"x": 35}
    assert np.array_equal(whole.d.values, POINTS[:35] ** 2)


def test_xarray_and_dask_read_what_is_selected(live: File) -> None:
    frozen = live.snapshot()["1.1/images"]
    lazy = dask.array.from_array(frozen["data"], chunks=(8, -1, -1))
    array = xarray.DataArray(lazy, coords={"x": frozen["x"]}, dims=["x", "row", "column"])
    found = array.sel(x=slice(0.95, 1.25)).mean(["row", "column"])
    assert np.allclose(found.values, FRAMES[10:13].mean(axis=(1, 2)))


# -------------------------------------------------------------------------------------------- dask


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_dask_computes_with_a_live_dataset(live: File, scheduler: str) -> None:
    frames = dask.array.from_array(live["measurement/cam"], chunks=(4, 3, 2))
    assert (frames.shape, frames.dtype) == ((35, 3, 4), np.dtype("uint16"))
    with dask.config.set(scheduler=scheduler):
        assert np.array_equal(frames.compute(), FRAMES[:35])
        assert np.array_equal(frames[5:20:3, 1].compute(), FRAMES[5:20:3, 1])
        assert int(frames.sum().compute()) == int(FRAMES[:35].sum())


def test_dask_takes_the_chunks_that_a_dataset_names(live: File) -> None:
    dataset = live["measurement/cam"]
    assert dataset.chunks is not None
    frames = dask.array.from_array(dataset)
    assert np.array_equal(frames.max(axis=0).compute(), FRAMES[:35].max(axis=0))


def test_what_comes_later_does_not_change_what_dask_began(
    plain_store: DataStore, path: str
) -> None:
    scan, streams = started(plain_store, group(d=stream("d")), path=path, d=(float, ()))
    send(streams["d"], POINTS[:10])
    with File(path, data_store=plain_store, wait=False) as file:
        array = dask.array.from_array(file["d"], chunks=3)
        send(streams["d"], POINTS[10:])
        assert np.array_equal(array.compute(), POINTS[:10])
        assert file["d"].shape == (40,)
    scan.close()


def test_h5py_s_programs_may_ask_for_classes(live: File) -> None:
    def kinds(group: Any) -> dict[str, Any]:
        return {name: group.get(name, getclass=True) for name in group}

    assert kinds(live["1.1"]) == {
        "title": h5py.Dataset,
        "instrument": h5py.Group,
        "measurement": h5py.Group,
        "plot": h5py.Group,
        "images": h5py.Group,
    }
    assert live["1.1/title"].asstr()[()] == "tools"
    seen: list[str] = []
    live["1.1"].visititems(lambda name, node: seen.append(name))
    assert "instrument/cam/data" in seen
    assert "measurement/cam" not in seen  # a link
