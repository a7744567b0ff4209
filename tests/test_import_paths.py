"""Paths by which programs written for blissdata 2.x import: all that are only old paths, in one table.

Each gives the very objects of the new path, and says where that is (`FutureWarning`, as 2.x does), in
the line that imports.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

import blissdata
from blissdata import exceptions

SAYS_WHERE = {
    # old path: (new path as the warning names it, where the names really are, names)
    "blissdata.scan": ("blissdata", "blissdata", ["Scan"]),
    "blissdata.redis_engine.exceptions": (
        "blissdata.exceptions",
        "blissdata.exceptions",
        exceptions.__all__,
    ),
    "blissdata.redis_engine.event_stream": (
        "blissdata.streams.event_stream",
        "blissdata.streams.event_stream",
        ["EventStream"],
    ),
    "blissdata.redis_engine.encoding.json": (
        "blissdata.streams.encoding.json",
        "blissdata.streams.encoding.json",
        ["JsonStreamEncoder"],
    ),
    "blissdata.redis_engine.encoding.numeric": (
        "blissdata.streams.encoding.numeric",
        "blissdata.streams.encoding.numeric",
        ["NumericStreamEncoder"],
    ),
}

SILENT = {
    # Where 2.x warns, and we have our own: it is the home of what plugins build on.
    "blissdata.streams.base": {
        "blissdata.streams": [
            "BaseStream",
            "BaseView",
            "Cursor",
            "CursorGroup",
            "EventRange",
            "StreamDefinition",
        ],
        "blissdata.streams.default": [
            "BrokenPluginStream",
            "BrokenStream",
            "MissingPluginStream",
            "Stream",
            "View",
        ],
    },
}


def imported_anew(path: str) -> ModuleType:
    """The module, as its first import gives it."""
    sys.modules.pop(path, None)
    return importlib.import_module(path)


@pytest.mark.parametrize("old", SAYS_WHERE)
def test_an_old_path_gives_the_same_objects_and_says_where_they_are(old: str) -> None:
    said, home, names = SAYS_WHERE[old]
    with pytest.warns(
        FutureWarning, match=f"^'{old}' is deprecated, use '{said}' instead"
    ) as caught:
        module = imported_anew(old)
    assert len(caught) == 1
    for name in names:
        assert getattr(module, name) is getattr(importlib.import_module(home), name)
    assert sorted(module.__all__) == sorted(names)


@pytest.mark.parametrize("old", SAYS_WHERE)
def test_the_warning_points_at_the_line_that_imports(old: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"import sys\n\nimport {old}\n")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    assert f"{program}:3: FutureWarning" in done.stderr


@pytest.mark.parametrize("path", SILENT)
def test_a_path_that_stays_gives_all_names_without_a_word(path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = importlib.import_module(path)
        for home, names in SILENT[path].items():
            for name in names:
                assert getattr(module, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="NoSuchStream"):
        module.NoSuchStream  # noqa: B018


def test_no_other_module_calls_itself_an_old_path() -> None:
    root = Path(blissdata.__file__).parent
    moved = {
        "blissdata." + ".".join(file.relative_to(root).with_suffix("").parts)
        for file in root.rglob("*.py")
        if "moved(__name__" in file.read_text()
    }
    assert moved == set(SAYS_WHERE)
