"""The life of a scan between two programs: what the reader must find at every step.

    created ── prepared ── one point ── a batch ── single points ── stopped ── closed ── trimmed ── deleted

The publisher is told each step, the reader is asked after it, and where something is to be waited
for, before it. Expected are the points of `kinds.py` and the words of the API; nothing is taken from
a program's answer. Every deviation is collected: one does not hide the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tests.clients.kinds import BREAKS, FRAMES_PER_FILE, KINDS, POINTS, StreamSpec
from tests.clients.programs import Program, Raised, Scan

from blissdata.testing.servers import TestServer

__all__ = ["SCENARIOS", "Findings", "play"]

SEAL = "18446744073709551615-18446744073709551615"

IDENTITY_FIELDS = (
    "name",
    "number",
    "data_policy",
    "session",
    "proposal",
    "collection",
    "dataset",
    "path",
)

INFO = {
    "title": "ascan µ 0 1",
    "npoints": POINTS,
    "start_time": "2026-11-25T10:00:00+01:00",
    "nested": {"list": [1, 2.5, "x", None, True], "": {}},
    "not a number": float("nan"),
}
PUBLISHED_INFO = {**INFO, "not a number": None}

_numbers = itertools.count(1)


@dataclass
class Findings:
    """What was looked at, and what was not as it must be."""

    looked: int = 0
    wrong: list[str] = field(default_factory=list)

    def equal(self, what: str, found: Any, expected: Any) -> None:
        """Notes it if they differ: arrays in a dtype, a shape or a bit; anything else by ==."""
        self.looked += 1
        if not same(found, expected):
            self.wrong.append(f"{what}: found {_short(found)}, expected {_short(expected)}")

    @contextmanager
    def raises(self, what: str, *names: str) -> Iterator[None]:
        """Notes it if none of these errors comes out of the program."""
        self.looked += 1
        try:
            yield
        except Raised as error:
            if error.names[0] not in names:
                self.wrong.append(f"{what}: raised {error}, expected {' or '.join(names)}")
        else:
            self.wrong.append(f"{what}: no error, expected {' or '.join(names)}")


GONE = ("IndexNoMoreThereError", "PointsNotInFileError")
"""What is raised for points that left the memory. The second one is a kind of the first: where a scan names a
file, ours looks there, and says why it found nothing."""


def same(found: Any, expected: Any) -> bool:
    """Whether they are the same, NaN like NaN; an array may be a list of its points."""
    if isinstance(expected, Scan):
        return isinstance(found, Scan) and found.key == expected.key
    if isinstance(expected, list) and isinstance(found, (list, np.ndarray)):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, (np.ndarray, np.generic)):
        # what a numpy array gives as its item, too
        if not isinstance(found, (np.ndarray, np.generic)):
            return False
        return (
            found.dtype.str == expected.dtype.str
            and found.shape == expected.shape
            and np.array_equal(found, expected, equal_nan=expected.dtype.kind in "fc")
        )
    return bool(type(found) is type(expected) and found == expected)


def _short(value: Any) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) < 200 else text[:200] + "…"


# ---------------------------------------------------------------------------------- a kind of stream


@dataclass
class Play:
    """One scan with the streams of a kind, between two programs."""

    kind: str
    publisher: Program
    reader: Program
    server: TestServer
    directory: Path
    findings: Findings = field(default_factory=Findings)
    subscans: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.specs = KINDS.get(self.kind, [])
        self.number = next(_numbers)
        self.identity = {
            "name": f"{self.kind} scan",
            "number": self.number,
            "data_policy": "no_policy",
            "session": "id00",
            "proposal": "blc-1234",
            "collection": "sample",
            "dataset": f"sample_{self.kind}.1 (b)",
            "path": str(self.directory / "x y.h5"),  # data files lie below its directory
        }

    # ------------------------------------------------------------------------------ expected

    def points(self, spec: StreamSpec, start: int, stop: int) -> list[Any]:
        """The points that readers find there."""
        if self.kind == "scan_sequence":
            return [Scan(key, 4) for key in self.subscans[start:stop]]
        return spec.points(start, stop)

    def empty(self, spec: StreamSpec) -> Any:
        """What a slice without points is."""
        if spec.dtype == "json" or spec.varies:
            return []
        return np.empty((0, *spec.shape), spec.dtype)

    # ------------------------------------------------------------------------------ steps

    def send(self, start: int, stop: int, batch: bool = False) -> None:
        """The publisher sends these points of every stream, and waits until they have arrived."""
        if self.kind == "scan_sequence":
            self.publisher.tell("send_children", start=start, stop=stop)
        else:
            self.publisher.tell("send", start=start, stop=stop, batch=batch)

    def expect_points(self, start: int, stop: int, index: Any, what: str) -> None:
        """Every stream gives these points for that index."""
        for spec in self.specs:
            found = self.reader.tell("read", stream=spec.name, index=index)
            expected = self.points(spec, start, stop)
            if not isinstance(index, list):
                expected = expected[0]
            self.findings.equal(f"{what}: {spec.name}[{_index_text(index)}]", found, expected)

    def expect_error(self, index: Any, what: str, *names: str) -> None:
        """Every stream raises one of these for that index."""
        for spec in self.specs:
            with self.findings.raises(f"{what}: {spec.name}[{_index_text(index)}]", *names):
                self.reader.tell("read", stream=spec.name, index=index)

    def follow(self, cursor: str, start: int, stop: int, answer: Any = None) -> None:
        """The group cursor `cursor` gives every stream's points from `start` to `stop`, in views that
        join; `answer` is its first answer if it has been asked already."""
        came: dict[str, list[Any]] = {spec.name: [] for spec in self.specs}
        while any(len(points) < stop - start for points in came.values()):
            try:
                answer = answer or self.reader.tell("cursor_read", name=cursor)
            except Raised as error:
                self.findings.equal(f"{cursor} ends early", error.names[0], "no error")
                return
            self.findings.equal(f"{cursor} has news", bool(answer["views"]), True)
            if not answer["views"]:
                return
            for name, view in answer["views"].items():
                at = start + len(came[name])
                self.findings.equal(f"{cursor}, {name}: index of the view", view["index"], at)
                self.findings.equal(
                    f"{cursor}, {name}: last_index", view["last_index"], at + view["len"] - 1
                )
                if "data" not in view:
                    self.findings.equal(f"{cursor}, {name}: data", view["error"], "data")
                    return
                came[name] += list(view["data"])
                self.findings.equal(
                    f"{cursor}, {name}: position", answer["position"][name], start + len(came[name])
                )
            answer = None
        for spec in self.specs:
            self.findings.equal(
                f"{cursor}: {spec.name} from {start} to {stop}",
                came[spec.name],
                self.points(spec, start, stop),
            )

    # ------------------------------------------------------------------------------ the acts

    def created(self) -> None:
        """The reader waits for the scan, and finds it empty."""
        timetag = self.publisher.tell("timetag")
        if self.kind == "scan_sequence":
            self.subscans = self.publisher.tell("children", identity=self.identity)
            timetag = self.publisher.tell("timetag")
        waiting = self.reader.begin("next_scan", since=timetag)
        self.key = self.publisher.tell(
            "create",
            kind=self.kind,
            identity=self.identity,
            info=INFO,
            directory=str(self.directory),
        )
        tag, key = waiting()
        self.findings.equal("get_next_scan", key, self.key)
        self.findings.equal("get_last_scan", self.reader.tell("last_scan"), [tag, self.key])
        self.findings.equal("state once created", self.reader.tell("load", key=self.key), 0)
        self.findings.equal("info once created", self.reader.tell("info"), PUBLISHED_INFO)
        self.findings.equal("streams once created", self.reader.tell("streams"), {})
        self.findings.equal(
            "identity", self.reader.tell("identity", names=IDENTITY_FIELDS), self.identity
        )

    def prepared(self) -> None:
        """The reader waits for the next state, and learns of the streams."""
        waiting = self.reader.begin("update")
        self.publisher.tell("step", name="prepare", info={"prepared": True})
        self.findings.equal("update", waiting(), [True, 1])
        self.findings.equal("info", self.reader.tell("info"), {**PUBLISHED_INFO, "prepared": True})
        streams = self.reader.tell("streams")
        self.findings.equal("stream names", sorted(streams), sorted(s.name for s in self.specs))
        for spec in self.specs:
            told = streams[spec.name]
            kind = {"scan_sequence": "scan", "json": "json"}.get(self.kind, "array")
            dtype = "|O" if spec.dtype == "json" else spec.dtype
            self.findings.equal(f"{spec.name}: kind", told["kind"], kind)
            self.findings.equal(f"{spec.name}: plugin", told["plugin"], spec.plugin)
            self.findings.equal(f"{spec.name}: dtype", told["dtype"], dtype)
            self.findings.equal(f"{spec.name}: shape", told["shape"], list(spec.shape))
            own = {name: told["info"].get(name) for name in spec.info}
            self.findings.equal(f"{spec.name}: info", own, spec.info)
            self.findings.equal(f"{spec.name}: length", self._length(spec), 0)
        self.publisher.tell("step", name="start")
        self.findings.equal("update", self.reader.tell("update"), [True, 2])

    def running(self) -> None:
        """Points come one by one and in batches; the reader follows, looks back and jumps ahead."""
        reader, look = self.reader, self.findings.equal
        first, batch, singles = BREAKS
        self.expect_error(0, "before the first point", "IndexNotYetThereError")
        for name in ("group", "late"):
            reader.tell("group", name=name)
        reader.tell("cursor", name="tail", stream=self.specs[0].name)
        nothing = reader.tell("cursor_read", name="group", block=False)
        look("a group that does not wait", nothing["views"], {})
        nothing = reader.tell("cursor_read", name="tail", block=False)
        look("a cursor that does not wait", nothing, {"views": None, "position": 0})

        waiting = reader.begin("cursor_read", name="group")
        self.send(0, first)
        self.follow("group", 0, first, waiting())

        self.send(first, batch, batch=True)
        self.follow("group", first, batch)
        for spec in self.specs:
            look(f"{spec.name}: length while running", self._length(spec), batch)
            look(f"{spec.name}: sealed", reader.tell("sealed", stream=spec.name), False)
        self.expect_points(0, batch, [0, batch], "running")
        self.expect_points(0, batch, [None, None], "running")
        self.expect_points(2, batch, [2, 100], "running")
        self.expect_points(3, 4, 3, "running")
        for spec in self.specs:
            found = reader.tell("read", stream=spec.name, index=[100, 200])
            look(f"running: {spec.name}[100:200]", found, self.empty(spec))
        self.expect_error(batch, "running", "IndexNotYetThereError")
        self.expect_error(-1, "running", "IndexNotYetThereError")
        self._tail("running", batch)

        self.send(batch, singles)
        self.follow("late", 0, singles)
        self.follow("group", batch, singles)
        self._tail("running", singles)

    def stopped(self) -> None:
        """The last points come with the seal; then every stream ends, for every reader."""
        reader, look = self.reader, self.findings.equal
        waiting = reader.begin("cursor_read", name="group")
        self.send(BREAKS[-1], POINTS)
        self.publisher.tell("step", name="stop")
        self.follow("group", BREAKS[-1], POINTS, waiting())
        self.follow("late", BREAKS[-1], POINTS)
        self._tail("stopped", POINTS)
        for cursor in ("group", "late", "tail"):
            with self.findings.raises(f"{cursor} at the end", "EndOfStream"):
                reader.tell("cursor_read", name=cursor)
        look("update", reader.tell("update"), [True, 3])
        for spec in self.specs:
            name = spec.name
            look(f"{name}: sealed", reader.tell("sealed", stream=name), True)
            look(f"{name}: wait_seal", reader.tell("wait_seal", stream=name), True)
            look(f"{name}: final length", self._length(spec), POINTS)
            look(
                f"{name}: iterated",
                reader.tell("iterate", stream=name),
                self.points(spec, 0, POINTS),
            )
        self.expect_points(0, POINTS, [None, None], "stopped")
        self.expect_points(POINTS - 3, POINTS, [-3, None], "stopped")
        self.expect_points(5, 9, [5, 9], "stopped")
        self.expect_points(POINTS - 1, POINTS, -1, "stopped")
        self.expect_error(POINTS, "stopped", "IndexWontBeThereError")
        self.expect_error(-POINTS - 1, "stopped", "IndexError")

    def closed(self) -> None:
        """The reader waits for the last state, and has the final info."""
        waiting = self.reader.begin("update")
        self.publisher.tell("step", name="close", info={"end_reason": "SUCCESS"})
        self.findings.equal("update", waiting(), [True, 4])
        self.findings.equal("update of a closed scan", self.reader.tell("update"), [False, 4])
        final = {**PUBLISHED_INFO, "prepared": True, "end_reason": "SUCCESS"}
        self.findings.equal("final info", self.reader.tell("info"), final)
        states = self.reader.tell("states", keys=[self.key])
        self.findings.equal("get_scans_state", states, {self.key: 4})
        for fields in ({"number": self.number}, {"dataset": self.identity["dataset"]}):
            _, keys = self.reader.tell("search", name=f"{self.kind}*", **fields)
            self.findings.equal(f"search {fields}", self.key in keys, True)

    def trimmed(self) -> None:
        """What memory has lost is an error, or comes from the file; the rest stays readable."""
        gone = BREAKS[-1]
        in_file = self.kind == "hdf5_fallback"
        if in_file:
            self._write_file()
        self._trim(f"{gone}-1")
        self.expect_points(gone, POINTS, [gone, None], "trimmed")
        self.expect_points(gone, gone + 1, gone, "trimmed")
        for spec in self.specs:
            self.findings.equal(f"trimmed: length of {spec.name}", self._length(spec), POINTS)
        if in_file:
            self._all_from_the_file("trimmed")
        else:
            self.expect_error(gone - 1, "trimmed", *GONE)
            self.expect_error([gone - 2, None], "trimmed", *GONE)
            self._gone("half")

        self._trim(SEAL)
        for spec in self.specs:
            self.findings.equal(f"all trimmed: length of {spec.name}", self._length(spec), POINTS)
            found = self.reader.tell("sealed", stream=spec.name)
            self.findings.equal(f"all trimmed: {spec.name} is sealed", found, True)
        if in_file:
            self._all_from_the_file("all trimmed")
        else:
            self.expect_error(POINTS - 1, "all trimmed", *GONE)
            self.expect_error(-1, "all trimmed", *GONE)
            self._gone("all")

    def deleted(self) -> None:
        """Nobody finds it any more."""
        self.publisher.tell("delete", key=self.key)
        with self.findings.raises("load_scan of a deleted scan", "ScanNotFoundError"):
            self.reader.tell("load", key=self.key)
        self.findings.equal(
            "a deleted scan is not the last",
            self.key in _last(self.reader),
            False,
        )
        self.publisher.tell("delete", key=self.key)

    # ------------------------------------------------------------------------------ details

    def _length(self, spec: StreamSpec) -> int:
        length: int = self.reader.tell("length", stream=spec.name)
        return length

    def _tail(self, what: str, end: int) -> None:
        """`last_only` jumps to the newest point."""
        view = self.reader.tell("cursor_read", name="tail", last_only=True)["views"]
        told = [view["index"], view["last_index"], view["len"]]
        self.findings.equal(f"{what}: last_only", told, [end - 1, end - 1, 1])
        expected = self.points(self.specs[0], end - 1, end)
        self.findings.equal(f"{what}: last_only, data", list(view["data"]), expected)

    def _gone(self, how_much: str) -> None:
        """Views over trimmed points count them, and raise when they are asked for."""
        self.reader.tell("group", name=how_much)
        views = self._read_to_the_end(how_much)
        for spec in self.specs:
            mine = [view[spec.name] for view in views if spec.name in view]
            self.findings.equal(f"{how_much} trimmed: {spec.name}, index", mine[0]["index"], 0)
            counted = sum(view["len"] for view in mine)
            self.findings.equal(f"{how_much} trimmed: {spec.name}, length", counted, POINTS)
            error = mine[0].get("error", ["no error"])
            told = f"{how_much} trimmed: {spec.name}, get_data"
            self.findings.equal(f"{told} ({error[0]})", GONE[0] in error, True)

    def _read_to_the_end(self, cursor: str) -> list[dict[str, Any]]:
        views = []
        while True:
            try:
                views.append(self.reader.tell("cursor_read", name=cursor)["views"])
            except Raised as error:
                self.findings.equal(f"{cursor} ends", error.names[0], "EndOfStream")
                return views

    def _all_from_the_file(self, what: str) -> None:
        self.expect_points(0, POINTS, [None, None], what)
        self.expect_points(3, POINTS - 2, [3, POINTS - 2], what)
        self.expect_points(0, 1, 0, what)
        self.reader.tell("group", name=what)
        self.follow(what, 0, POINTS)

    def _write_file(self) -> None:
        """What a file writer would have written meanwhile."""
        with h5py.File(self.directory / "fallback.h5", "w") as file:
            for spec in self.specs:
                file[f"/1.1/{spec.name}"] = np.stack(spec.points(0, POINTS))

    def _trim(self, until: str) -> None:
        """As the memory tracker does, to the entry."""
        streams = self.reader.tell("streams")
        with self.server.client() as client:
            for told in streams.values():
                client.execute_command("XTRIM", told["key"], "MINID", until)


class LimaPlay(Play):
    """Frames of a detector: events say how far it is, the frames are in its files."""

    def running(self) -> None:
        """The frames of closed files are there."""
        reader, look = self.reader, self.findings.equal
        (spec,) = self.specs
        there = 2 * FRAMES_PER_FILE
        reader.tell("group", name="group")
        waiting = reader.begin("cursor_read", name="group", data=False)
        self._write_files(0, there)
        status = {"last_index": there - 1, "last_index_saved": there - 1}
        self.publisher.tell("send_events", events=[{"last_index": 2}, status])
        waiting()
        look("running: length", self._length(spec), there)
        self.expect_points(0, FRAMES_PER_FILE, [0, FRAMES_PER_FILE], "running")
        self.expect_points(2, 3, 2, "running")
        reference = reader.tell("references", stream=spec.name, index=2)
        path = "/entry_0000/measurement/data"
        look("reference", reference, [["HDF5", str(self.directory / "frelon_0000.h5"), path, 2]])
        self.expect_error(POINTS + 5, "running", "IndexNotYetThereError", "IndexWontBeThereError")

    def stopped(self) -> None:
        """Once the stream is sealed, every file is closed."""
        reader, look = self.reader, self.findings.equal
        (spec,) = self.specs
        self._write_files(2 * FRAMES_PER_FILE, POINTS)
        status = {"last_index": POINTS - 1, "last_index_saved": POINTS - 1}
        self.publisher.tell("send_events", events=[status])
        self.publisher.tell("step", name="stop")
        look("update", reader.tell("update"), [True, 3])
        look("final length", self._length(spec), POINTS)
        self.expect_points(0, POINTS, [None, None], "stopped")
        self.expect_points(7, 13, [7, 13], "stopped")
        self.expect_error(POINTS, "stopped", "IndexWontBeThereError")
        look("iterated", reader.tell("iterate", stream=spec.name), self.points(spec, 0, POINTS))
        reader.tell("group", name="late")
        self.follow("late", 0, POINTS)
        references = reader.tell("references", stream=spec.name, index=[4, 6])
        files = [["frelon_0000.h5", 4], ["frelon_0001.h5", 0]]
        expected = [
            ["HDF5", str(self.directory / f), "/entry_0000/measurement/data", i] for f, i in files
        ]
        look("references", references, expected)

    def trimmed(self) -> None:
        """The frames stay where they are: only the newest event counts."""

    def _write_files(self, start: int, stop: int) -> None:
        """What the detector saves."""
        (spec,) = self.specs
        for first in range(start, stop, FRAMES_PER_FILE):
            frames = spec.points(first, min(first + FRAMES_PER_FILE, stop))
            number = first // FRAMES_PER_FILE
            with h5py.File(self.directory / f"frelon_{number:04d}.h5", "w") as file:
                file["/entry_0000/measurement/data"] = np.stack(frames)


def _last(reader: Program) -> Sequence[str]:
    try:
        found: list[str] = reader.tell("last_scan")
    except Raised as error:
        return [error.names[0]]
    return found


def _index_text(index: Any) -> str:
    if isinstance(index, list):
        return ":".join("" if part is None else str(part) for part in index)
    return str(index)


class Register(Play):
    """Many scans: found, waited for, searched, told apart by their state, deleted by either side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.session = f"s{self.number}-α"

    def _register(self, n: int, state: int = 0, **fields: Any) -> str:
        identity = {
            "name": f"scan {n}",
            "number": n,
            "data_policy": "none",
            "session": self.session,
        }
        key: str = self.publisher.tell("register", identity={**identity, **fields}, state=state)
        return key

    def announced(self) -> None:
        """They come in their order, one by one."""
        look = self.findings.equal
        before = self.reader.tell("timetag")
        waiting = self.reader.begin("next_scan", since=before)
        first = self._register(0)
        look("get_next_scan, waiting", waiting()[1], first)
        self.keys = [first, *(self._register(n, state=n) for n in range(1, 5))]
        came, timetag = [], before
        for _ in self.keys:
            timetag, key = self.reader.tell("next_scan", since=timetag)
            came.append(key)
        look("get_next_scan, one after another", came, self.keys)
        look("get_last_scan", self.reader.tell("last_scan"), [timetag, self.keys[-1]])
        look("get_last_scan_timetag", self.reader.tell("timetag"), timetag)
        with self.findings.raises("get_next_scan without waiting", "NoScanAvailable"):
            self.reader.tell("next_scan", since=timetag, block=False)
        with self.findings.raises("get_next_scan, the time is up", "NoScanAvailable"):
            self.reader.tell("next_scan", since=timetag, timeout=0.01)

    def told_apart(self) -> None:
        """Their states come in one answer."""
        states = self.reader.tell("states", keys=self.keys)
        expected = {key: state for state, key in enumerate(self.keys)}
        self.findings.equal("get_scans_state", states, expected)
        self.findings.equal("get_scans_state of none", self.reader.tell("states", keys=[]), {})

    def searched(self) -> None:
        """By every field: exactly, or with a star at either end."""
        odd = self._register(
            7, name="ascan(samx, 0.1) - <a>&{b}", dataset="d@1.5%+~", proposal="XY-12"
        )
        even = self._register(8, name="loop 8", path="/data/visitor/a b/c=d.h5", collection="[c]")
        look = self.findings.equal
        newest = self.reader.tell("timetag")
        cases: list[tuple[dict[str, Any], list[str]]] = [
            ({}, [*self.keys, odd, even]),
            ({"name": "scan*"}, self.keys),
            ({"name": "scan 2"}, [self.keys[2]]),
            ({"name": "*n 2"}, [self.keys[2]]),
            ({"name": "*an 3*"}, [self.keys[3]]),
            ({"name": "SCAN 3"}, [self.keys[3]]),
            ({"number": 4}, [self.keys[4]]),
            ({"number": 4, "name": "scan 3"}, []),
            ({"name": "ascan(samx, 0.1) - <a>&{b}"}, [odd]),
            ({"name": "ascan(samx*"}, [odd]),
            ({"dataset": "d@1.5%+~"}, [odd]),
            ({"proposal": "xy-*"}, [odd]),
            ({"path": "/data/visitor/a b/*"}, [even]),
            ({"path": "*/c=d.h5"}, [even]),
            ({"collection": "[c]"}, [even]),
            ({"collection": "nobody's"}, []),
        ]
        for fields, expected in cases:
            timetag, keys = self.reader.tell("search", session=self.session, **fields)
            look(f"search {fields}", sorted(keys), sorted(expected))
            look(f"search {fields}, timetag", timetag, newest)
        self.keys = [*self.keys, odd, even]

    def deleted(self) -> None:
        """By the one or the other: whoever looks next does not find it."""
        by_publisher = self._register(20, state=4)
        by_reader = self._register(21, state=4)
        self.publisher.tell("delete", key=by_publisher)
        self.reader.tell("delete", key=by_reader)
        for who, key in ((self.reader, by_publisher), (self.publisher, by_reader)):
            with self.findings.raises(f"{who.name} loads a deleted scan", "ScanNotFoundError"):
                who.tell("load", key=key)
            last = _last(who)
            self.findings.equal(f"{who.name}: a deleted scan is the last", key in last, False)
        with self.findings.raises("deleting an open scan", "RuntimeError", "ScanNotClosedError"):
            self.reader.tell("delete", key=self.keys[2])

    def deleted_by_force(self) -> None:
        """A scan under way is closed, and its readers learn why."""
        key = self._start_a_scan("json")
        self.send(0, 3)
        self.findings.equal("state", self.reader.tell("load", key=key), 2)
        waiting = self.reader.begin("update")
        self.publisher.tell("delete", key=key, force=True)
        try:
            self.findings.equal("update of a scan deleted by force", waiting(), [True, 4])
            reason = self.reader.tell("info").get("end_reason")
            self.findings.equal("end_reason", reason, "DELETION")
        except Raised as error:  # it looked after the deletion, not between closing and deletion
            found = error.names[0]
            self.findings.equal("update after the deletion", found, "ScanNotFoundError")
        if self.publisher.name.startswith("ours"):  # 2.4.5 leaves its streams open
            for spec in self.specs:
                sealed = self.reader.tell("wait_seal", stream=spec.name)
                self.findings.equal(f"{spec.name} is sealed", sealed, True)
        with self.findings.raises("load_scan", "ScanNotFoundError"):
            self.reader.tell("load", key=key)

    def written_elsewhere(self) -> None:
        """The reader writes a stream of the publisher's scan."""
        key = self._start_a_scan("json")
        self.reader.tell("load", key=key)
        spec = self.specs[0]
        length = self.reader.tell("send_as_another", stream=spec.name, start=0, stop=7)
        self.findings.equal("length by the second publisher's seal", length, 7)
        self.publisher.tell("step", name="stop")
        found = self.reader.tell("read", stream=spec.name, index=[None, None])
        self.findings.equal("points of the second publisher", found, spec.points(0, 7))
        self.publisher.tell("step", name="close")

    def _start_a_scan(self, kind: str) -> str:
        self.specs = KINDS[kind]
        key: str = self.publisher.tell(
            "create", kind=kind, identity=self.identity, info={}, directory=str(self.directory)
        )
        self.publisher.tell("step", name="prepare")
        self.publisher.tell("step", name="start")
        return key


SCENARIOS = [*KINDS, "register"]
"""A scan with the streams of each kind, and what concerns many scans."""

LIFE = ("created", "prepared", "running", "stopped", "closed", "trimmed", "deleted")
MANY = ("announced", "told_apart", "searched", "deleted", "deleted_by_force", "written_elsewhere")


def play(
    scenario: str, publisher: Program, reader: Program, server: TestServer, directory: Path
) -> Findings:
    """Plays it; both programs have the server open."""
    kind = {"lima": LimaPlay, "register": Register}.get(scenario, Play)
    scan = kind(scenario, publisher, reader, server, directory)
    for act in MANY if kind is Register else LIFE:
        try:
            getattr(scan, act)()
        except Raised as error:
            scan.findings.wrong.append(f"{act}: {error}")
            break
    return scan.findings
