"""A file that is written is what its last commit made of it: at every write, and after a kill at any.

The program is stopped at each of its writes in turn. What the disk has then is looked at with h5py, as any
reader does; a second program takes over, goes on, and comes to the same file.
"""

from __future__ import annotations

import errno
import io
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.writer.kit import contents

from blissdata.data_roots import DataRoots
from blissdata.exceptions import FileWriteError, FileWriteRefusedError
from blissdata.h5map.data_items import TEXT
from blissdata.writer import committed_file, write_queue
from blissdata.writer.nexus import NexusFile
from blissdata.writer.plan import Pace, Points, plan_of
from blissdata.writer.write_queue import PAGE

STREAMS = {
    "a": Points(np.dtype("f8")),
    "b": Points(np.dtype("i4"), (40, 60)),  # a chunk each
    "t": Points(TEXT),
    "v": Points(np.dtype("u2"), (-1,)),
    "w": Points(np.dtype("u2"), (-1, 2)),
}

ENTRY = {
    "type": "group",
    "attributes": {"NX_class": "NXentry"},
    "children": {
        "title": "committed",
        **{name: {"type": "stream", "stream": name} for name in STREAMS},
        "link": {"type": "soft_link", "target_path": "a"},
    },
}

STEPS = 3
PER_STEP = 1300  # scalars: a chunk has 2048


KILLED, CUT = 9, 10
"""Exit codes of programs that were killed, between two writes or in the middle of one."""


def block(name: str, start: int, stop: int) -> Any:
    numbers = range(start, stop)
    match name:
        case "a":
            return np.arange(start, stop, dtype="f8") + 1
        case "b":
            return np.stack([np.full((40, 60), i + 1, "i4") for i in numbers])
        case "t":
            return [f"text {i}".encode() for i in numbers]
        case "v":
            return [np.arange(i % 5, dtype="u2") + i for i in numbers]
        case _:
            return [np.full((i % 3, 2), i, "u2") for i in numbers]


def count(name: str) -> int:
    return PER_STEP if name == "a" else 3


def write(path: Path, numbers: Sequence[int] = (1, 2)) -> None:
    """Goes on where the file ends, one scan after the other, to the end."""
    file = NexusFile(str(path), DataRoots((str(path.parent),), "given by the test"))
    try:
        for number in numbers:
            entry = file.entry(f"{number}.1", f"scan {number}", STREAMS, Pace())
            plan = plan_of(f"{number}.1", ENTRY, set(STREAMS))
            assert not entry.carry_out(plan)
            file.commit()
            for step in range(STEPS):
                for name in STREAMS:
                    path_in_file = f"/{number}.1/{name}"
                    length = entry.lengths()[path_in_file]
                    stop = (step + 1) * count(name)
                    if length < stop:
                        entry.append(path_in_file, [block(name, length, stop)])
                file.commit()
            entry.carry_out(plan, state="SUCCEEDED")
            file.commit()
    finally:
        file.close()


def look(path: Path) -> int:
    """Reads the file as anybody does, and checks what is there; how many points there are."""
    total = 0
    with h5py.File(path, "r") as file:
        for entry in file.values():
            assert next(iter(entry)) == "title"
            assert entry["title"][()] == b"committed"
            for name in STREAMS:
                length = len(entry[name])
                total += length
                expected = block(name, 0, length) if length else []
                found = entry[name][:]
                if name == "w":
                    found = [one["data"].reshape(one["shape"]) for one in found]
                if name in "ab":
                    assert np.array_equal(found, expected) or not length
                else:
                    for one, other in zip(found, expected, strict=True):
                        assert np.array_equal(one, other)
    return total


def test_it_can_be_read_at_every_instant_and_only_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    seen = [0]

    def before(number: int) -> None:
        if path.exists():
            seen.append(look(path))
            assert seen[-1] >= seen[-2]

    monkeypatch.setattr(committed_file, "_write_all", counted(before))
    write(path)
    assert look(path) == 2 * STEPS * sum(count(name) for name in STREAMS)
    assert len(set(seen)) > 2 * STEPS
    assert os.listdir(tmp_path) == ["a.h5"]


WAYS = {
    "late": {},
    "early": {"LATE_NBYTES": PAGE, "ROOM_NBYTES": 0},  # a thread writes at once
    "direct": {"LATE_PIECE": 2 * PAGE, "ROOM_NBYTES": 0},  # points of "b" are large
}


@pytest.mark.parametrize("way", WAYS)
def test_a_kill_at_any_write_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    for name, value in WAYS[way].items():
        monkeypatch.setattr(write_queue, name, value)
    kill_at(range(list(WAYS).index(way), 10**6, 29), tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_kill_at_each_write_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    for name, value in WAYS[way].items():
        monkeypatch.setattr(write_queue, name, value)
    kill_at(range(10**6), tmp_path, monkeypatch)


def kill_at(numbers: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills the writer at the writes with these numbers, each time from the start."""
    whole = tmp_path / "whole" / "a.h5"
    writes: list[int] = []
    with monkeypatch.context() as counting:
        counting.setattr(committed_file, "_write_all", counted(writes.append))
        write(whole)
    expected, total = contents(whole), len(writes)
    path = tmp_path / "killed" / "a.h5"
    for at in range(numbers.start, total, numbers.step):
        code = in_a_child(lambda at=at: write_and_die(path, at))
        assert code in (KILLED, CUT)
        # A block that is cut reads as damaged until a writer finishes it, from its journal.
        seen = look(path) if path.exists() and code == KILLED else 0
        write(path)
        assert contents(path) == expected, f"killed at write {at} of {total}, with {seen} points"
        assert os.listdir(path.parent) == ["a.h5"]
        path.unlink()


@pytest.mark.parametrize("way", ["late", "direct"])
def test_what_a_disk_refuses_once_another_scan_is_begun_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The writer closes the file then, and another one goes on."""
    for name, value in WAYS[way].items():
        monkeypatch.setattr(write_queue, name, value)
    whole, path = tmp_path / "whole" / "a.h5", tmp_path / "refused" / "a.h5"
    whole.parent.mkdir()
    path.parent.mkdir()
    write(whole, (1,))
    finished = whole.read_bytes()
    writes: list[int] = []
    with monkeypatch.context() as counting:
        counting.setattr(committed_file, "_write_all", counted(writes.append))
        write(whole)
    expected = contents(whole)

    def refuse_from(number: int, at: int) -> None:
        if number >= at:
            raise OSError(errno.EIO, "the disk refuses")

    for at in range(list(WAYS).index(way), len(writes), 7):
        path.write_bytes(finished)
        with monkeypatch.context() as refusing:
            refuse = partial(refuse_from, at=at)
            refusing.setattr(committed_file, "_write_all", counted(refuse))
            with suppress(OSError, FileWriteError, RuntimeError, SystemError):  # as HDF5 says it
                write(path)
        write(path)
        assert contents(path) == expected, f"refused from write {at} of {len(writes)} on"


def counted(before: Callable[[int], None]) -> Callable[[int, int, Any], None]:
    """Writes to the disk after a call with the running number."""
    number, real = 0, committed_file._write_all

    def write_all(descriptor: int, start: int, data: Any) -> None:
        nonlocal number
        before(number)
        number += 1
        real(descriptor, start, data)

    return write_all


def write_and_die(path: Path, at: int) -> None:
    """Writes, and is killed in the middle of one write."""
    number, real = 0, committed_file._write_all

    def write_all(descriptor: int, start: int, data: Any) -> None:
        nonlocal number
        number += 1
        if number > at:
            # Linux cuts a write where a page ends: it looks for signals from page to page.
            first = PAGE - start % PAGE
            if len(data) <= first:
                os._exit(KILLED)
            real(descriptor, start, memoryview(data)[:first])
            os._exit(CUT)
        real(descriptor, start, data)

    committed_file._write_all = write_all
    write(path)


def in_a_child(work: Callable[[], None]) -> int:
    """The exit code of a process that does the work."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # threads of pytest are not needed there
        child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_who_has_the_file_open_may_go_on_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    file = NexusFile(str(path), DataRoots((str(tmp_path),), "given by the test"))
    first = file.entry("1.1", "scan 1", STREAMS, Pace())
    plan = plan_of("1.1", ENTRY, set(STREAMS))
    first.carry_out(plan)
    file.commit()
    readers = []
    for step in range(6):
        # Within one process HDF5 would open a file but once: each reader has it in its own way.
        opened = io.FileIO(path)
        readers.append((opened, h5py.File(opened, "r")))
        for name in STREAMS:
            n = count(name)
            first.append(f"/1.1/{name}", [block(name, step * n, (step + 1) * n)])
        other = file.entry(f"{step + 2}.1", f"scan {step + 2}", STREAMS, Pace())
        other.carry_out(plan_of(f"{step + 2}.1", ENTRY, set(STREAMS)))
        first.carry_out(plan)
        file.commit()
    file.close()
    for step, (opened, reader) in enumerate(readers):
        with opened, reader:
            assert list(reader) == [f"{n}.1" for n in range(1, step + 2)]
            assert reader.attrs["default"] == f"{step + 1}.1"
            for entry in reader.values():
                assert entry.attrs["NX_class"] == "NXentry"
            a = reader["1.1/a"][:]
            assert np.array_equal(a, block("a", 0, len(a)))
            assert len(a) >= step * PER_STEP
            assert np.array_equal(reader["1.1/link"][:10], a[:10])


def test_who_opens_a_finished_file_that_gets_another_scan_may_go_on_reading_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.h5"
    readers = []
    for number in (1, 2, 3):
        name = f"{number}.1"
        file = NexusFile(str(path), DataRoots((str(tmp_path),), "given by the test"))
        entry = file.entry(name, f"scan {number}", STREAMS, Pace())
        entry.carry_out(plan_of(name, ENTRY, set(STREAMS)))
        file.commit()
        opened = io.FileIO(path)
        readers.append((opened, h5py.File(opened, "r")))
        for step in range(2):
            entry.append(f"/{name}/a", [block("a", step * PER_STEP, (step + 1) * PER_STEP)])
            file.commit()
        file.close()
        size = path.stat().st_size
        # Who only looks whether there is something to do leaves the file as it is.
        file = NexusFile(str(path), DataRoots((str(tmp_path),), "given by the test"))
        assert file.state_of(name, f"scan {number}") == "RUNNING"
        file.close()
        assert path.stat().st_size == size
    for number, (opened, reader) in enumerate(readers, 1):
        with opened, reader:
            assert list(reader) == [f"{n}.1" for n in range(1, number + 1)]
            for n in range(1, number + 1):
                found = reader[f"{n}.1/a"][:]
                assert np.array_equal(found, block("a", 0, len(found)))
            assert len(found) == 2 * PER_STEP


def test_a_file_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    roots = DataRoots((str(tmp_path),), "given by the test")
    for name, options in (("old.h5", {}), ("new.h5", {"libver": "v110"})):
        path = tmp_path / name
        with h5py.File(path, "w", **options) as file:
            file["mine"] = np.arange(10)
        before = path.read_bytes()
        with pytest.raises(FileWriteRefusedError, match="stays as it is"):
            NexusFile(str(path), roots)
        assert path.read_bytes() == before
    (tmp_path / "no.h5").write_text(
        "not HDF5 at all, but long enough to have a superblock of its own"
    )
    with pytest.raises(FileWriteRefusedError, match="stays as it is"):
        NexusFile(str(tmp_path / "no.h5"), roots)
    assert sorted(os.listdir(tmp_path)) == ["new.h5", "no.h5", "old.h5"]


def test_two_writers_of_one_file_are_one_too_many(tmp_path: Path) -> None:
    roots = DataRoots((str(tmp_path),), "given by the test")
    path = str(tmp_path / "a.h5")
    first = NexusFile(path, roots)
    with pytest.raises(FileWriteRefusedError, match="Another writer"):
        NexusFile(path, roots)
    first.commit()
    with pytest.raises(FileWriteRefusedError, match="Another writer"):
        NexusFile(path, roots)
    with pytest.raises(OSError, match="lock"):
        h5py.File(path, "r+")
    with h5py.File(path, "r") as reader:
        assert reader.attrs["NX_class"] == "NXroot"
    first.close()
    NexusFile(path, roots).close()


def test_a_file_that_was_replaced_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    file = NexusFile(str(path), DataRoots((str(tmp_path),), "given by the test"))
    file.commit()
    path.unlink()
    path.write_text("somebody's own")
    with pytest.raises(FileWriteError, match="replaced"):
        file.commit()
    file.close()
    assert path.read_text() == "somebody's own"
