"""Files that change under their reader, beside blissdata 2.4.5: what comes step by step is the same, or better.

A writer in a process of its own and a reader take turns. Behind each step stands what the writer does
before the reader is told to go on, what it does while the reader waits, and what must come of it.

appears     a file, a scan, a dataset, an attribute that is not there yet
grows       indices and iteration over points to come, to the scan's end
ends        what is asked of a scan that has `end_time`
locked      a writer that keeps HDF5's lock until it has finished
replaced    another file at the same path; a file that is cut, deleted, and comes again
lima        images of a detector beside the file, then in it
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.clients.environments import environment
from tests.h5api.writing import Writer

pytestmark = [
    pytest.mark.interop,
    pytest.mark.environments,
    pytest.mark.usefixtures("peer_is_there"),
]

PROGRAM = Path(__file__).with_name("file_follower.py")

PATIENT: dict[str, Any] = {"retry_timeout": 30, "retry_period": 0.01}
HASTY: dict[str, Any] = {"retry_timeout": 0.2, "retry_period": 0.01}

CREATE = """
file = h5py.File("scan.h5", "w")
scan = file.create_group("1.1")
scan.attrs["NX_class"] = "NXentry"
d = scan.create_dataset("measurement/d", data=np.arange(2.0), maxshape=(None,), chunks=(4,))
file.flush()
"""

GROW = "d.resize((len(d) + 1,)); d[-1] = len(d) - 1; file.flush()"

FINISH = 'scan["end_time"] = "2026-11-25T12:00:00"; file.flush()'

OTHER = """
with h5py.File("other.h5", "w") as other:
    other["1.1/measurement/d"] = np.arange(3.0) + 100
os.replace("other.h5", "scan.h5")
"""

IMAGES = """
os.makedirs("scan0001", exist_ok=True)
number = len(os.listdir("scan0001"))
with h5py.File("part", "w") as images:
    images["entry_0000/measurement/data"] = np.full((2, 1, 1), number, "u2")
os.replace("part", f"scan0001/eiger_{number:04d}.h5")
"""

LINK_IMAGES = """
layout = h5py.VirtualLayout((4, 1, 1), "u2")
for number in range(2):
    layout[2 * number : 2 * number + 2] = h5py.VirtualSource(
        f"scan0001/eiger_{number:04d}.h5", "entry_0000/measurement/data", (2, 1, 1))
scan.create_virtual_dataset("instrument/eiger/data", layout)
"""


class Step(NamedTuple):
    """One step of the reader."""

    expected: str
    """What must come."""

    meanwhile: str = ""
    """What the writer does while the reader is on it."""

    before: str = ""
    """What the writer has done before."""

    by_2x: str | None = None
    """What comes of 2.4.5, where ours is meant to differ: it goes on with the file as it opened it, until
    something is missing, and knows no end of an index."""


D = "f['1.1/measurement/d']"
IMAGE = "array uint16 (1, 1) [[%d]]"
OPEN = Step("open")

SCENARIOS: dict[str, tuple[dict[str, Any], list[str], list[Step]]] = {
    "a file appears": (
        PATIENT,
        [f"{D}[1]", "f['1.1'].attrs['NX_class']"],
        [OPEN, Step("float64 1.0", CREATE), Step("'NXentry'")],
    ),
    "a scan, a dataset and an attribute appear": (
        PATIENT,
        ["f['2.1'].name", "f['2.1/late'][()]", "f['2.1'].attrs['title']"],
        [
            OPEN,
            Step("'/2.1'", "scan = file.create_group('2.1'); file.flush()", CREATE),
            Step("int64 5", "scan['late'] = 5; file.flush()"),
            Step("'x'", "scan.attrs['title'] = 'x'; file.flush()"),
        ],
    ),
    "nothing appears in time": (
        HASTY,
        ["f['1.1']", "'1.1' in f", f"{D}[7]", "*f"],
        [
            OPEN,
            Step("raises KeyError"),
            Step("False"),
            Step("raises RetryTimeoutError", before=CREATE),
            Step("'1.1'"),
            Step("end"),
        ],
    ),
    "a dataset grows under an index": (
        PATIENT,
        [f"{D}[2]", f"{D}[[0, 3]]", f"{D}[1:9]", f"len({D})"],
        [
            OPEN,
            Step("float64 2.0", GROW, CREATE),
            Step("array float64 (2,) [0.0, 3.0]", GROW),
            Step("array float64 (3,) [1.0, 2.0, 3.0]"),
            Step("5", before=GROW, by_2x="4"),
        ],
    ),
    "a dataset is followed to the scan's end": (
        PATIENT,
        [f"*{D}", "'end_time' in f['1.1']"],
        [
            OPEN,
            Step("float64 0.0", CREATE),
            Step("float64 1.0"),
            Step("float64 2.0", GROW),
            Step("float64 3.0", f"{GROW}; {FINISH}"),
            Step("end"),
            Step("True"),
        ],
    ),
    "names are followed to the writer's sign": (
        PATIENT,
        ["*f['1.1']"],
        [
            OPEN,
            Step("'measurement'", CREATE),
            Step("'other'", "scan['other'] = 1; file.flush()"),
            Step("'writer'", "scan['writer/status'] = 'RUNNING'; file.flush()"),
            Step("end"),
        ],
    ),
    "a scan has ended": (
        HASTY,
        ["f['1.1/nope']", "f['1.1'].attrs['nope']", f"{D}[1]", f"{D}[2]", f"*{D}"],
        [
            OPEN,
            Step("raises KeyError", before=CREATE + FINISH),
            Step("raises KeyError"),
            Step("float64 1.0"),
            Step("raises IndexError", by_2x="raises RetryTimeoutError"),
            Step("float64 0.0"),
            Step("float64 1.0"),
            Step("end"),
        ],
    ),
    "a writer keeps the lock": (
        PATIENT,
        [f"{D}[1]"],
        [OPEN, Step("float64 1.0", "file.close()", CREATE.replace('"w"', '"w", locking=True'))],
    ),
    "a file is replaced": (
        PATIENT,
        [f"d = {D}", "d[0]", "d[0]", f"{D}[2]", f"{D}.shape"],
        [
            OPEN,
            Step("kept", before=CREATE),
            Step("float64 0.0"),
            Step("float64 100.0", before=f"file.close()\n{OTHER}", by_2x="float64 0.0"),
            Step("float64 102.0"),
            Step("tuple of ['3']"),
        ],
    ),
    "a file is cut and written again": (
        PATIENT,
        [f"{D}[1]", f"{D}[1]"],
        [
            OPEN,
            Step("float64 1.0", before=f"{CREATE}file.close()"),
            Step("float64 101.0", OTHER, "os.truncate('scan.h5', 100)", "float64 1.0"),
        ],
    ),
    "a file is deleted and comes again": (
        PATIENT,
        [f"{D}[1]", f"{D}[1]"],
        [
            OPEN,
            Step("float64 1.0", before=f"{CREATE}file.close()"),
            Step("float64 101.0", OTHER, "os.remove('scan.h5')", "float64 1.0"),
        ],
    ),
    "images beside the file": (
        {**PATIENT, "lima_names": ["eiger"]},
        ["*f['1.1/instrument/eiger/data']"],
        [
            OPEN,
            Step(IMAGE % 0, IMAGES, CREATE),
            Step(IMAGE % 0),
            Step(IMAGE % 1, IMAGES),
            Step(IMAGE % 1),
            Step("end", LINK_IMAGES + FINISH),
        ],
    ),
}


class Pair:
    """A reader with some blissdata, and a writer beside it."""

    def __init__(self, python: Path, directory: Path) -> None:
        self._directory = directory
        self._writer = Writer(directory)
        self._reader = subprocess.Popen(
            [python, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def follow(self, scenario: str) -> list[str]:
        """What came of each step."""
        options, expressions, steps = SCENARIOS[scenario]
        directory = self._directory / scenario.replace(" ", "_")
        directory.mkdir()
        self._writer(f"os.chdir({str(directory)!r})")
        self._tell(json.dumps([str(directory / "scan.h5"), options, expressions]))
        found = []
        for step in steps:
            if step.before:
                self._writer(step.before)
            self._tell("")
            if step.meanwhile:
                self._writer(step.meanwhile)
            assert self._reader.stdout
            found.append(self._reader.stdout.readline().strip())
        return found

    def _tell(self, line: str) -> None:
        assert self._reader.stdin
        print(line, file=self._reader.stdin, flush=True)

    def close(self) -> None:
        self._reader.communicate(timeout=30)
        self._writer.close()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, Pair]]:
    """Ours, and 2.4.5's."""
    ours = Pair(environment("here"), tmp_path_factory.mktemp("ours"))
    theirs = Pair(environment("peer"), tmp_path_factory.mktemp("theirs"))
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_file_is_followed_as_2x_follows_it_or_better(
    scenario: str, pairs: tuple[Pair, Pair]
) -> None:
    steps = SCENARIOS[scenario][2]
    ours, theirs = (pair.follow(scenario) for pair in pairs)
    assert ours == [step.expected for step in steps]
    assert theirs == [step.by_2x or step.expected for step in steps]
