"""A reader opens what lies below its roots, as the file that it really is, and nothing else."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from blissdata.data_roots import DataRoots
from blissdata.exceptions import DataFileMissingError, DataFileRefusedError


@pytest.fixture
def below(tmp_path: Path) -> Path:
    """The root; beside it lies a secret."""
    (tmp_path / "secret").write_text("root:x:0:0")
    (tmp_path / "secrets").mkdir()
    root = tmp_path / "data"
    root.mkdir()
    (root / "scan.h5").write_text("points")
    return root


@pytest.fixture
def roots(below: Path) -> DataRoots:
    return DataRoots.choose([below])


# ------------------------------------------------------------------------------ which roots


def test_roots_that_are_given_count_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLISSDATA_DATA_ROOTS", "/env")
    assert DataRoots.choose(["/a", Path("/b")], "/scan/file.h5").directories == ("/a", "/b")
    assert DataRoots.choose("/a").directories == ("/a",)
    assert DataRoots.choose([]).directories == ()


def test_else_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLISSDATA_DATA_ROOTS", os.pathsep.join(["/env", "", "/more"]))
    assert DataRoots.choose(None, "/scan/file.h5").directories == ("/env", "/more")


@pytest.mark.parametrize("value", ["", None])
def test_else_the_directory_of_the_scans_file(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv("BLISSDATA_DATA_ROOTS", raising=False)
    else:
        monkeypatch.setenv("BLISSDATA_DATA_ROOTS", value)
    assert DataRoots.choose(None, "/scan/file.h5").directories == ("/scan",)


@pytest.mark.parametrize("path", [None, "", "file.h5", "/a\0b/file.h5"])
def test_else_none(monkeypatch: pytest.MonkeyPatch, path: str | None, below: Path) -> None:
    monkeypatch.delenv("BLISSDATA_DATA_ROOTS", raising=False)
    roots = DataRoots.choose(None, path)
    assert roots.directories == ()
    with pytest.raises(DataFileRefusedError, match=r"roots: none.*BLISSDATA_DATA_ROOTS"):
        roots.real_path(below / "scan.h5")


def test_a_root_that_is_relative_is_a_mistake_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLISSDATA_DATA_ROOTS", "data")
    with pytest.raises(ValueError, match=r"'data'.*BLISSDATA_DATA_ROOTS"):
        DataRoots.choose()


# ------------------------------------------------------------------------------ which files


def test_a_file_below_a_root_is_opened(below: Path, roots: DataRoots) -> None:
    assert roots.real_path(below / "scan.h5") == str(below / "scan.h5")
    with roots.open(below / "scan.h5") as file:
        assert file.read() == b"points"


def test_the_root_of_everything_is_a_root(below: Path) -> None:
    assert DataRoots.choose(["/"]).real_path(below / "scan.h5") == str(below / "scan.h5")


def test_symlinks_are_followed_to_the_file_that_it_really_is(below: Path, roots: DataRoots) -> None:
    (below / "alias.h5").symlink_to("scan.h5")
    assert roots.real_path(below / "alias.h5") == str(below / "scan.h5")


def test_a_root_may_be_a_symlink(below: Path, tmp_path: Path) -> None:
    (tmp_path / "visitor").symlink_to(below)
    roots = DataRoots.choose([tmp_path / "visitor"])
    assert roots.real_path(tmp_path / "visitor" / "scan.h5") == str(below / "scan.h5")


@pytest.mark.parametrize(
    "path",
    [
        "{root}/../secret",
        "{root}/out",
        "{root}/through/secret",
        "/etc/passwd",
        "{root}s/x",
        "{root}/dangling",
        "{root}/../nothing",
    ],
)
def test_a_path_out_of_the_roots_is_refused_with_its_name_and_the_roots(
    below: Path, roots: DataRoots, path: str
) -> None:
    (below / "out").symlink_to(below.parent / "secret")
    (below / "through").symlink_to(below.parent)
    (below / "dangling").symlink_to(below.parent / "not there")
    path = path.format(root=below)
    for look in (roots.real_path, roots.open):
        with pytest.raises(DataFileRefusedError) as refused:
            look(path)
        assert path in str(refused.value)
        assert str(below) in str(refused.value)
        assert isinstance(refused.value, PermissionError)


@pytest.mark.parametrize("path", ["scan.h5", "./scan.h5", "", "/data\0/scan.h5"])
def test_a_path_that_is_none_is_refused(roots: DataRoots, path: str) -> None:
    with pytest.raises(DataFileRefusedError, match=r"relative|NUL"):
        roots.open(path)


@pytest.mark.parametrize("kind", ["directory", "FIFO", "socket", "circle", "device"])
def test_only_regular_files_are_opened(below: Path, kind: str) -> None:
    path = below / "strange"
    roots = DataRoots.choose([below, "/dev"])
    if kind == "directory":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            here = os.open(below, os.O_RDONLY)
            made.bind(f"/proc/self/fd/{here}/strange")
            os.close(here)
    elif kind == "circle":
        path.symlink_to(path)
    else:
        path = Path("/dev/null")
    with pytest.raises(DataFileRefusedError, match=kind):
        roots.open(path)


@pytest.mark.parametrize("name", ["later.h5", "no/such/directory/scan.h5", "scan.h5/inside"])
def test_a_file_that_is_not_there_yet_is_another_matter(
    below: Path, roots: DataRoots, name: str
) -> None:
    with pytest.raises(DataFileMissingError, match=name) as missing:
        roots.open(below / name)
    assert isinstance(missing.value, FileNotFoundError)


def test_a_path_of_absurd_length_is_refused(below: Path, roots: DataRoots) -> None:
    with pytest.raises(DataFileRefusedError):
        roots.open(f"{below}/{'x' * 5000}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused_with_the_reason(
    below: Path, roots: DataRoots
) -> None:
    (below / "scan.h5").chmod(0)
    with pytest.raises(DataFileRefusedError, match="Permission denied"):
        roots.open(below / "scan.h5")


def test_a_directory_swapped_for_a_symlink_between_check_and_opening_is_noticed(
    below: Path, roots: DataRoots, monkeypatch: pytest.MonkeyPatch
) -> None:
    (below / "run").mkdir()
    (below / "run" / "secret").write_text("harmless")
    really_open = os.open

    def swap_first(path: str, flags: int) -> int:
        (below / "run").rename(below / "moved")
        (below / "run").symlink_to(below.parent)
        return really_open(path, flags)

    monkeypatch.setattr(os, "open", swap_first)
    with pytest.raises(DataFileRefusedError, match="not below the data roots"):
        roots.open(below / "run" / "secret")


def test_a_file_to_be_written_need_not_be_there_but_must_lie_below_the_roots(
    tmp_path: Path,
) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "away").symlink_to(outside)
    roots = DataRoots((str(inside),), "given by the test")
    assert roots.place(inside / "new" / "a.h5") == str(inside / "new" / "a.h5")
    for wrong in (
        "a.h5",
        str(outside / "a.h5"),
        str(inside / "away" / "a.h5"),
        str(inside) + "/../a",
    ):
        with pytest.raises(DataFileRefusedError):
            roots.place(wrong)
    os.mkfifo(inside / "fifo")
    with pytest.raises(DataFileRefusedError, match="a FIFO"):
        roots.place(inside / "fifo")
