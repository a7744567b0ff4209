"""Configuration from every place that a URL may name, by every parser of YAML."""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blissdata.beacon import files
from blissdata.beacon.files import read_config
from blissdata.beacon.responder import Responder
from blissdata.exceptions import MissingExtraError


@pytest.fixture
def beacon(tmp_path: Path) -> Iterator[Responder]:
    """Serves one file."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "x.yml").write_text("a: [1, 2]\n")
    with Responder("unix:///s", "127.0.0.1:0", tmp_path / "served") as responder:
        yield responder


def test_from_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "a b.yml"
    path.write_text("a: {b: [1, 2.5, x]}\n")
    for url in (str(path), f"file://{path}", f"file:{path}"):
        assert read_config(url) == {"a": {"b": [1, 2.5, "x"]}}
    with pytest.raises(FileNotFoundError):
        read_config(str(tmp_path / "none.yml"))


def test_from_beacon(beacon: Responder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEACON_HOST", beacon.address)
    for url in (
        "beacon:///x.yml",
        f"beacon://{beacon.address}/x.yml",
        f"beacon://{beacon.address}//x.yml",
    ):
        assert read_config(url) == {"a": [1, 2]}
    with pytest.raises(RuntimeError, match=r"none\.yml"):
        read_config("beacon:///none.yml")


@pytest.mark.parametrize(
    "url", ["http://host/x.yml", "beacon://host/x.yml", "beacon://host:x/x.yml"]
)
def test_from_nowhere(url: str) -> None:
    with pytest.raises(ValueError, match="host"):
        read_config(url)


def test_without_beacon_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEACON_HOST", raising=False)
    with pytest.raises(ValueError, match="BEACON_HOST"):
        read_config("beacon:///x.yml")


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text("!!python/object/apply:os.system ['touch /nothing']\n")
    with pytest.raises(Exception, match="python/object"):
        read_config(str(tmp_path / "x.yml"))


@pytest.mark.parametrize(
    ("missing", "module"), [((), "ruamel"), (("ruamel",), "yaml"), (("ruamel", "yaml"), None)]
)
def test_the_parser_is_ruamel_yaml_else_pyyaml_else_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: tuple[str, ...], module: str | None
) -> None:
    (tmp_path / "x.yml").write_text("a: [1, 2]\n")
    used: list[str] = []
    real = builtins.__import__

    def fake(name: str, *rest: Any, **others: Any) -> Any:
        top = name.partition(".")[0]
        if top in missing:
            raise ImportError(name)
        if top in ("ruamel", "yaml"):
            used.append(top)
        return real(name, *rest, **others)

    with monkeypatch.context() as patched:
        for name in [one for one in sys.modules if one.partition(".")[0] in ("ruamel", "yaml")]:
            patched.delitem(sys.modules, name)
        patched.setattr(builtins, "__import__", fake)
        load = files._find_loader()
        assert used[:1] == ([module] if module else [])
        if load is not None:
            assert load(b"a: [1, 2]\n") == {"a": [1, 2]}
    monkeypatch.setattr(files, "yaml_load", load)
    if load is None:
        with pytest.raises(MissingExtraError, match=r"blissdata\[beacon\]"):
            read_config(str(tmp_path / "x.yml"))
        with pytest.raises(ImportError):
            read_config(str(tmp_path / "x.yml"))
    else:
        assert read_config(str(tmp_path / "x.yml")) == {"a": [1, 2]}
    importlib.invalidate_caches()
