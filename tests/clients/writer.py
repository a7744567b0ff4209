"""blisswriter, unmodified, on 2.4.5 and on ours: the file that it writes from a scan.

The scan has streams of every kind and a file layout (`h5maps`) with every kind of item. Publisher and
writer are 2.4.5 or ours in every combination; the four files are the same but for times, and hold the
points of `kinds.py`.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from tests.clients.environments import environment
from tests.clients.kinds import ALL_KINDS, FRAMES_PER_FILE, POINTS, SAVED, StreamSpec
from tests.clients.programs import Program, ProgramError
from tests.hdf5_tree import walked

from blissdata.testing.servers import TestServer

__all__ = ["FileWriter", "contents", "differences", "saved", "wrong_fallback", "wrong_points"]

LONG_S = 60.0

SPECS: list[StreamSpec] = ALL_KINDS[SAVED]

WRITTEN = [s for s in SPECS if s.plugin == "lima" or (s.dtype != "json" and not s.varies)]
"""Those that blisswriter 3.0.0 can write: no JSON, no scans, no points of several shapes."""

HALF = 6

TIMES = {"file_time", "file_update_time"}
"""Attributes of a file's root that say when, not what."""


class FileWriter:
    """`blisswriter run` in an environment; a context manager. It listens once it is made."""

    def __init__(self, environment_name: str, url: str, log: Path) -> None:
        self._log = log
        self.name = environment_name
        command = environment(environment_name).with_name("blisswriter")
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                [command, "run", url, "--log-level", "DEBUG"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env={
                    k: v for k, v in os.environ.items() if not k.startswith(("BEACON", "BLISSDATA"))
                },
                start_new_session=True,
            )
        self.wait_until_it_says("Listening to")

    def wait_until_it_says(self, *words: str) -> None:
        """Until its log has a line with all of these words. Raises `ProgramError`."""
        deadline = time.monotonic() + LONG_S
        while not any(all(word in line for word in words) for line in self.log().splitlines()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ProgramError(f"blisswriter does not say {words}:\n{self.log()[-5000:]}")
            time.sleep(0.02)

    def log(self) -> str:
        """What it has said."""
        return self._log.read_text(errors="replace")

    def interrupt(self) -> int:
        """Ctrl-C; waits for its end and gives the exit status."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(LONG_S)

    def close(self) -> None:
        """Ends it. Repeatable."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


# ---------------------------------------------------------------------------------- the scan


def saved(publisher: Program, writer: FileWriter, directory: Path) -> Path:
    """Publishes a scan into `directory`, which the writer saves while it runs; the file, complete."""
    path = directory / "data.h5"
    (directory / "raw.bin").write_bytes(np.arange(12, dtype="<u2").tobytes())
    identity = {"name": "saved", "number": 1, "data_policy": "no_policy", "path": str(path)}
    children = publisher.tell("children", identity={**identity, "name": "child"})
    key = publisher.tell(
        "create",
        kind=SAVED,
        identity=identity,
        info=info(path),
        directory=str(directory),
        file=path.name,
    )
    publisher.tell("step", name="prepare")
    publisher.tell("step", name="start")
    publisher.tell("send", start=0, stop=HALF)
    publisher.tell("send_children", start=0, stop=HALF)
    writer.wait_until_it_says(key, "Saving", "stream(s)")
    _write_frames(directory)
    last = {"last_index": POINTS - 1, "last_index_saved": POINTS - 1}
    publisher.tell("send_events", events=[{"last_index": 3}, last])
    publisher.tell("send", start=HALF, stop=POINTS, batch=True)
    publisher.tell("send_children", start=HALF, stop=POINTS)
    publisher.tell("step", name="stop")
    final = layout(path)
    final["children"]["1.1"]["children"]["end_time"] = "2026-11-25T10:00:09+01:00"
    publisher.tell(
        "step", name="close", info={"h5maps": {str(path): final}, "end_reason": "SUCCESS"}
    )
    writer.wait_until_it_says(key, "Saving complete")
    assert len(children) == POINTS
    return path


def info(path: Path) -> dict[str, Any]:
    """What a scan says that is to be saved."""
    return {
        "save": True,
        "data_writer": "nexus",
        "title": "everything",
        "start_time": "2026-11-25T10:00:00+01:00",
        "npoints": POINTS,
        "h5maps": {str(path): layout(path)},
    }


def layout(path: Path) -> dict[str, Any]:
    """A file with every kind of item that the wire format has, but virtual datasets: blisswriter
    3.0.0 leaves them out. It also needs the size of a raw file."""
    streams = {spec.name: {"type": "stream", "stream": spec.name} for spec in WRITTEN}
    values = {
        "text": "Ångström",
        "number": 5,
        "real": 1.5,
        "flag": True,
        "table": [[1, 2, 3], [4, 5, 6]],
        "words": ["a", "bc", "µ"],
        "nan": {"type": "inline", "dtype": "float32", "value": ["nan", 1.25, "-inf"]},
        "complex": {"type": "inline", "dtype": "complex64", "value": "(1+2j)"},
        "small": {"type": "inline", "dtype": "int8", "value": [-1, 0, 1]},
        "image": {
            "type": "inline_b64",
            "dtype": "<u2",
            "shape": [2, 3],
            "value": base64.b64encode(np.arange(6, dtype="<u2").tobytes()).decode(),
        },
        "compound": {
            "type": "compound",
            "columns": [["x", [1, 2]], ["name", ["a", "b"]], ["y", [0.5, 1.5]]],
        },
        "with_units": {
            "type": "dataset",
            "attributes": {"units": "mm", "scale": 2.0},
            "value": 3.0,
        },
        "soft": {"type": "soft_link", "target_path": "number"},
        "soft_absolute": {"type": "soft_link", "target_path": "/1.1/values/table"},
        "outside": {
            "type": "external_link",
            "target_file": "frelon_0000.h5",
            "target_path": "/entry_0000/measurement/data",
        },
        "raw": {
            "type": "external_binary_dataset",
            "attributes": {"units": "counts"},
            "dtype": "<u2",
            "shape": [3, 4],
            "files": [{"name": "raw.bin", "offset": 0, "size": 24}],
        },
    }
    entry = {
        "type": "group",
        "attributes": {"NX_class": "NXentry", "default": "values"},
        "children": {
            **streams,
            "values": {
                "type": "group",
                "attributes": {"NX_class": "NXcollection"},
                "children": values,
            },
            "start_time": "2026-11-25T10:00:00+01:00",
        },
    }
    return {
        "type": "group",
        "attributes": {"NX_class": "NXroot", "creator": "beside 2.x"},
        "children": {"1.1": entry},
    }


def _write_frames(directory: Path) -> None:
    """What the detector saves."""
    (frames,) = (spec for spec in SPECS if spec.plugin == "lima")
    for first in range(0, POINTS, FRAMES_PER_FILE):
        points = frames.points(first, min(first + FRAMES_PER_FILE, POINTS))
        number = first // FRAMES_PER_FILE
        with h5py.File(directory / f"frelon_{number:04d}.h5", "w") as file:
            file["/entry_0000/measurement/data"] = np.stack(points)


# ---------------------------------------------------------------------------------- the file


def contents(path: Path) -> dict[str, Any]:
    """Everything in the file, by path: attributes, and dtype, shape and values of datasets, targets of
    links, files and sources of datasets that are elsewhere. Times of the file itself are left out."""
    found: dict[str, Any] = {}
    # HDF5 looks for raw files where the program is, not beside the file
    with contextlib.chdir(path.parent), h5py.File(path, "r", locking=False) as file:
        found["/"] = {k: v for k, v in _attributes(file).items() if k not in TIMES}
        for path_in_it, item in walked(file):
            if isinstance(item, h5py.Group):
                found[path_in_it] = ("group", _attributes(item))
            else:
                found[path_in_it] = item if isinstance(item, tuple) else _dataset(item)
    return found


def _dataset(dataset: h5py.Dataset) -> dict[str, Any]:
    return {
        "attributes": _attributes(dataset),
        "dtype": _dtype(dataset.dtype),
        "shape": dataset.shape,
        "maxshape": dataset.maxshape,
        "value": dataset[()],
        "files": dataset.external,
        "sources": [
            (s.file_name, s.dset_name, s.vspace.get_regular_hyperslab(), s.vspace.shape)
            for s in (dataset.virtual_sources() if dataset.is_virtual else [])
        ],
    }


def _attributes(item: h5py.HLObject) -> dict[str, Any]:
    return {name: (_dtype(item.attrs.get_id(name).dtype), item.attrs[name]) for name in item.attrs}


def _dtype(dtype: np.dtype) -> str:
    text = h5py.check_string_dtype(dtype)
    return repr(text or dtype)


def differences(one: Path, other: Path) -> list[str]:
    """What is not the same in both files, item by item."""
    first, second = contents(one), contents(other)
    wrong = [f"{path}: only in {one}" for path in first.keys() - second.keys()]
    wrong += [f"{path}: only in {other}" for path in second.keys() - first.keys()]
    for path in first.keys() & second.keys():
        if not same(first[path], second[path]):
            wrong.append(f"{path}: {first[path]} in {one}, {second[path]} in {other}")
    return sorted(wrong)


def same(one: Any, other: Any) -> bool:
    """Whether two descriptions are the same; NaN is NaN, 1 is not 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (np.ndarray, np.generic)):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
    return bool(one == other)


def wrong_points(path: Path) -> list[str]:
    """Streams whose dataset does not hold the points that were published."""
    wrong = []
    with h5py.File(path, "r", locking=False) as file:
        for spec in WRITTEN:
            expected = np.stack(spec.points(0, POINTS))
            found = file[f"/1.1/{spec.name}"][()]
            if not same(found, expected):
                wrong.append(f"{spec.name}: {found} in {path}, {expected} were published")
    return wrong


def wrong_fallback(reader: Program, server: TestServer) -> list[str]:
    """Streams that have lost their points in memory, read by another program, which finds them in the
    file: what is wrong with each, or an empty text."""
    reader.tell("load", key=reader.tell("last_scan")[1])
    told = reader.tell("streams")
    wrong = []
    for spec in WRITTEN:
        if spec.plugin == "hdf5_fallback":
            with server.client() as client:
                client.execute_command("XTRIM", told[spec.name]["key"], "MAXLEN", 1)
            found = reader.tell("read", stream=spec.name, index=[None, None])
            right = same(found, np.stack(spec.points(0, POINTS)))
            wrong.append("" if right else f"{reader.name} reads {spec.name} from the file: {found}")
    return wrong
