"""Files are read beside blissdata 2.4.5: the same files, the same expressions, the same answers.

| file               | what is in it                                        |
| ------------------ | ---------------------------------------------------- |
| running, finished  | a scan as BLISS writes it, without and with its end   |
| virtual…           | images of a detector, its last file there or not      |
| lima…              | a scan without images, the detector's files beside it |
| missing, text      | no file; a file that is no HDF5                       |

Where ours is meant to differ, both answers stand in `BETTER`, so that neither changes unseen.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.clients.environments import environment

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("peer_is_there")]

PROGRAM = Path(__file__).with_name("file_reads.py")

TREE = [
    *(
        "f['1.1']",
        "f['/1.1/measurement']",
        "f['1.1/measurement/diode']",
        "f['1.1']['measurement/']",
    ),
    *("f['1.1/alias']", "f['1.1'].parent", "f['1.1/measurement/diode'].parent", "f.parent"),
    *("f.name", "f['/'].name", "f['1.1']['/2.1'].name", "len(f['1.1'])", "len(f)"),
    *("[n for n in f['1.1/measurement']]", "[n for n in f['1.1']]", "[n for n in f]"),
    *("[n for n in f['1.1'].attrs]", "dict(f['1.1'].attrs)", "f['1.1'].attrs['NX_class']"),
    *("f.attrs['list']", "len(f['1.1'].attrs)", "f['1.1'].attrs.get('nope', 3)"),
    *(
        "f['nope']",
        "f['1.1/nope']",
        "f['1.1/nope/x']",
        "f['1.1/title/x']",
        "f['1.1'].attrs['nope']",
    ),
    *("'1.1' in f", "'nope' in f", "f.get('nope', 3)", "'nope' in f['1.1'].attrs", "f['../1.1']"),
]

DIODE = "f['1.1/measurement/diode']"

DATA = [
    *(f"{DIODE}.{name}" for name in ("shape", "dtype", "size", "ndim", "name")),
    *(f"len({DIODE})", f"[v for v in {DIODE}]", f"np.asarray({DIODE})", f"2.0 in {DIODE}"),
    *(
        f"{DIODE}[{index}]"
        for index in ("0", "-1", "1:3", "()", "...", "[0, 2]", "1:99", "4:", "::2")
    ),
    *(
        f"{DIODE}[{index}]"
        for index in ("[]", "np.array([1, 2])", "np.arange(5) > 2", "np.int8(1)")
    ),
    *("f['1.1/title'][()]", "f['1.1/title'].dtype", "f['1.1/title'].shape", "f['1.1/words'][1]"),
    *("f['1.1/words'][:]", "f['1.1/mca'][1]", "f['1.1/mca'][:, 2]", "f['1.1/mca'][1, 2]"),
    *("f['1.1/mca'].shape", "[len(v) for v in f['1.1/mca']]", "len(f['1.1/title'])"),
    *("f['1.1/none'].shape", "f['1.1/none'][()]", "[v for v in f['1.1/none']]"),
]

PAST = [f"{DIODE}[{index}]" for index in ("5", "-6", "[1, 9]", "99")]

MISTAKES = [
    *(f"{DIODE}[{index}]" for index in ("None", "1.5", "'x'", "(0, 0)", "::-1", "[2, 1]")),
    *("f['1.1/title'][0]", "[v for v in f['1.1/title']]", "f[0]"),
]

IMAGES = "f['1.1/instrument/eiger/data']"

DETECTOR = [
    *(f"{IMAGES}.{name}" for name in ("shape", "dtype", "ndim", "name")),
    *(f"{IMAGES}", f"len({IMAGES})", f"[v[0, 0] for v in {IMAGES}]", f"{IMAGES}.attrs.get('x')"),
    *(f"{IMAGES}[{index}]" for index in ("0", "3", "0:2", "[0, 3]", "1, 0", "1, 0, 1", ":, 0, 1")),
    *("'1.1/instrument/other/data' in f", "[n for n in f['1.1/instrument']]"),
]

AFTER = [f"{IMAGES}[{index}]" for index in ("8", "99", "[0, 99]")]

DYNAMIC: dict[str, Any] = {"retry_timeout": 0}
LIMA = {**DYNAMIC, "lima_names": ["eiger"]}

CASES: dict[str, tuple[str, str, dict[str, Any], list[str]]] = {
    "static": ("static_hdf5", "finished.h5", {}, [*TREE, *DATA, *PAST, *MISTAKES]),
    "running": ("dynamic_hdf5", "running.h5", DYNAMIC, [*TREE, *DATA, *PAST, *MISTAKES]),
    "finished": ("dynamic_hdf5", "finished.h5", DYNAMIC, [*TREE, *DATA, *PAST, *MISTAKES]),
    "missing": ("dynamic_hdf5", "missing.h5", DYNAMIC, TREE),
    "text": ("dynamic_hdf5", "text.h5", DYNAMIC, TREE),
    "virtual, running": ("dynamic_hdf5", "virtual.h5", DYNAMIC, DETECTOR + AFTER),
    "virtual, finished": ("dynamic_hdf5", "virtual_end.h5", DYNAMIC, DETECTOR + AFTER),
    "virtual, no source": ("dynamic_hdf5", "virtual_none.h5", DYNAMIC, DETECTOR + AFTER),
    "virtual, no source, finished": ("dynamic_hdf5", "virtual_none_end.h5", DYNAMIC, DETECTOR),
    "lima": ("dynamic_hdf5", "lima.h5", LIMA, DETECTOR + AFTER),
    "lima, none": ("dynamic_hdf5", "nolima/lima.h5", LIMA, DETECTOR),
    "lima first": (
        "dynamic_hdf5",
        "virtual_end.h5",
        {**LIMA, "prioritize_non_native_h5items": True},
        DETECTOR + AFTER,
    ),
}

TIME_UP = "raises RetryTimeoutError"

AT_ONCE = {
    **{f"{DIODE}[{index}]": (TIME_UP, "raises TypeError") for index in ("None", "1.5", "[2, 1]")},
    **{f"{DIODE}[{index}]": (TIME_UP, "raises ValueError") for index in ("'x'", "(0, 0)", "::-1")},
    "f['1.1/title'][0]": (TIME_UP, "raises ValueError"),
    "[v for v in f['1.1/title']]": ("list of []", "raises TypeError"),
    "f[0]": ("raises AttributeError", "raises TypeError"),
}
"""Mistakes, which 2.4.5 tries again until the time is up, if ever: ours tells them, as h5py does."""

BETTER: dict[str, dict[str, tuple[str, str]]] = {
    "running": AT_ONCE,
    "finished": {**AT_ONCE, **dict.fromkeys(PAST, (TIME_UP, "raises IndexError"))},
    "virtual, finished": dict.fromkeys(AFTER, (TIME_UP, "raises IndexError")),
}
"""What is meant to differ: case, expression, 2.4.5's answer, ours."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files."""
    directory = tmp_path_factory.mktemp("files")
    (directory / "nolima").mkdir()
    for name in ("running", "finished"):
        with h5py.File(directory / f"{name}.h5", "w") as file:
            scan(file)
            if name == "finished":
                finish(file)
    (directory / "text.h5").write_text("no HDF5")
    for scan_directory, sources in (("scan0001", 2), ("scan0002", 1)):
        (directory / scan_directory).mkdir()
        for number in range(sources):
            path = directory / scan_directory / f"eiger_{number:04d}.h5"
            with h5py.File(path, "w") as file:
                images = np.arange(4 * 6, dtype="u2").reshape(4, 2, 3) + 100 * number
                file["entry_0000/measurement/data"] = images
    for name, scan_directory in (
        ("virtual", "scan0001"),
        ("virtual_end", "scan0001"),
        ("virtual_none", "scan0002"),
        ("virtual_none_end", "scan0002"),
    ):
        layout = h5py.VirtualLayout((8, 2, 3), "u2")
        for number in range(2):
            source = f"{scan_directory}/eiger_{number:04d}.h5"
            layout[4 * number : 4 * number + 4] = h5py.VirtualSource(
                source, "entry_0000/measurement/data", (4, 2, 3)
            )
        with h5py.File(directory / f"{name}.h5", "w") as file:
            scan(file).create_virtual_dataset("instrument/eiger/data", layout)
            if name.endswith("end"):
                finish(file)
    for name in ("lima.h5", "nolima/lima.h5"):
        with h5py.File(directory / name, "w") as file:
            scan(file)
    return directory


def scan(file: h5py.File) -> h5py.Group:
    """A scan as BLISS has it."""
    group: h5py.Group = file.create_group("1.1")
    file.create_group("2.1")
    file.attrs["list"] = [1, 2]
    group.attrs["NX_class"] = "NXentry"
    group.create_dataset("measurement/diode", data=np.arange(5.0), maxshape=(None,), chunks=(4,))
    group["alias"] = h5py.SoftLink("measurement/diode")
    group["instrument/diode/data"] = h5py.SoftLink("/1.1/measurement/diode")
    group["writer/status"] = "RUNNING"
    group["title"] = "ascan"
    group["words"] = ["a", "bc"]
    group["mca"] = np.arange(12).reshape(3, 4)
    group["none"] = np.zeros((0, 4), "f4")
    return group


def finish(file: h5py.File) -> None:
    """… which has ended."""
    file["1.1/end_time"] = "2026-11-25T12:00:00"


def answers(python: Path, directory: Path) -> dict[str, dict[str, str]]:
    """What that blissdata says to every case."""
    question = [
        [module, str(directory / path), options, expressions]
        for module, path, options, expressions in CASES.values()
    ]
    done = subprocess.run(
        [python, "-W", "error", PROGRAM],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {
        name: dict(zip(case[3], found, strict=True))
        for (name, case), found in zip(CASES.items(), json.loads(done.stdout), strict=True)
    }


@pytest.fixture(scope="module")
def both(directory: Path) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """2.4.5's answers, and ours."""
    return answers(environment("peer"), directory), answers(environment("here"), directory)


@pytest.mark.parametrize("case", CASES)
def test_files_are_read_as_2x_reads_them_or_better(case: str, both: tuple[Any, Any]) -> None:
    theirs, ours = both[0][case], both[1][case]
    differ = {
        expression: (theirs[expression], ours[expression])
        for expression in theirs
        if theirs[expression] != ours[expression]
    }
    assert differ == BETTER.get(case, {})
    assert len(differ) < len(theirs) / 2
