"""The live file beside that of blissdata 2.4.5, on the same scans, whichever of the two published them.

SAME      what clients of 2.x rely on: value or error, word for word
SIMILAR   the same kind of error, in other words
BETTER    what 2.x refuses, or answers by None: both sides are shown
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.clients.environments import environment

from blissdata.redis_engine.store import DataStore
from blissdata.testing.servers import StackServer

pytestmark = pytest.mark.interop

PROGRAM = str(Path(__file__).parent / "live_file.py")

VALUES = [
    *("text", "texts", "int", "float", "bool", "bools", "ints", "empty", "no_text", "nan", "half"),
    *("complex", "large", "b64", "diode", "cam", "none"),
]

SAME = [
    *(f"d('{name}')[()]" for name in VALUES),
    *(
        f"d('{name}').{what}"
        for name in VALUES
        for what in ("dtype", "shape", "ndim", "size", "name")
    ),
    *(f"f['1.1'].attrs['{name}']" for name in VALUES[:-3]),
    *(f"d('{name}').external" for name in ("int", "diode", "raw")),
    *(f"d('{name}').is_virtual" for name in ("int", "diode", "raw")),
    *(f"list(f['{path}'])" for path in ("1.1", "1.1/g", "1.1/short", "1.1/nogroup", "2.1", "2.2")),
    *(f"f['{path}'].name" for path in ("/", ".", "1.1", "/1.1", "1.1/", "1.1//g", "1.1/./g")),
    *(f"f['{path}'].name" for path in ("1.1/short", "1.1/short/sub", "1.1/g/abs", "1.1/g/rel")),
    *(
        f"f['{path}'].name"
        for path in ("1.1/g/itself/itself/sub", "2.2/other", "1.1/me", "1.1/me/sub")
    ),
    *(f"f['{path}']" for path in ("nope", "3.1", "1.3", "1.1/abc/X", "1.1/g/X", "1.1/short/X")),
    *(f"f['{path}']" for path in ("1.1/text/none", "1.1/text/a/b", "1.1/g/dangling", "1.1/there")),
    *(
        f"'{path}' in f"
        for path in ("1.1", "/1.1", "1.1/g/abs", "nope", "3.1", "1.1/X", "1.1/g/first")
    ),
    *(
        "sorted(f.keys())",
        "len(f)",
        "f.attrs['NX_class']",
        "f.filename == path",
        "f.file is f",
        "f.name",
    ),
    *(
        "next(iter(f))",
        "f.parent.name",
        "len(f['1.1'])",
        "f['1.1/g'].parent.name",
        "f['1.1'].file is f",
    ),
    *("f['1.1'].get('none_there')", "f['1.1'].get('none_there', 3)", "f['1.1'].attrs.get('z')"),
    *(
        "dict(f['1.1'].attrs)",
        "len(f['1.1'].attrs)",
        "f['1.1'].attrs['z']",
        "d('diode').attrs['units']",
    ),
    *("len(d('diode'))", "d('diode')[1]", "d('diode')[-1]", "d('diode')[0:3]", "d('diode')[0:9]"),
    *("d('diode')[:]", "d('diode')[-2:]", "d('diode')[::2]", "d('diode')[4:1]", "list(d('diode'))"),
    *("d('cam')[0]", "d('cam')[1:3]", "list(d('cam'))", "list(d('none'))", "d('none')[:]"),
    *("len(r('diode'))", "r('diode')[()]", "r('diode')[4]", "r('diode')[1:4]", "r('diode')[0:5:2]"),
    *("r('cam').shape", "r('cam')[3]", "r('cam')[0:4]", "r('none')[()]", "next(iter(r('diode')))"),
    *("d('ints')[1]", "d('ints')[-1]", "d('ints')[0:9]", "d('ints')[[0, 2]]", "d('ints')[...]"),
    *(
        "list(d('ints'))",
        "d('ints')[np.array([True, False, True])]",
        "d('texts')[0]",
        "list(d('texts'))",
    ),
    *("d('raw')[()]", "d('raw')[1]", "d('raw')[0:1]", "d('raw')[1, 2]", "list(d('raw'))"),
    *("d('table')['a']", "d('table').shape", "d('diode').count(2.0)", "d('diode').index(2.0)"),
    *(
        "2.0 in d('diode')",
        "list(reversed(d('diode')))",
        "np.asarray(d('diode'))",
        "np.array(d('cam'))",
    ),
    *("list(File('/nowhere.h5', data_store=store).keys())", "len(File(path, 'r', store))"),
]

SIMILAR = [
    *("f['1.1/g/first']", "len(d('int'))", "list(d('int'))", "d('int')[0]", "d('ints')[5]"),
    *(
        "d('diode')[7]",
        "d('diode')[-7]",
        "d('none')[0]",
        "d('none')[-1]",
        "d('diode')[0:2:0]",
        "f[1]",
    ),
    *("1 in f['1.1']", "File(path, 'a', store)", "File(path, 'r+', store)"),
]

NONE = ["NoneType", "None"]

BETTER: dict[str, tuple[Any, Any]] = {
    "d('diode')[...]": (NONE, ["array", "<f8", [5], "[0.0, 1.0, 2.0, 3.0, 4.0]"]),
    "d('diode')[np.int64(1)]": (NONE, ["scalar", "<f8", "1.0"]),
    "d('diode')[[0, 2]]": (NONE, ["array", "<f8", [2], "[0.0, 2.0]"]),
    "d('diode')[np.arange(5) > 2]": (NONE, ["array", "<f8", [2], "[3.0, 4.0]"]),
    "d('diode')['a']": (NONE, "ValueError"),
    "d('diode')[1.5]": (NONE, "TypeError"),
    "d('cam')[0, 1]": ("NotImplementedError", ["array", "<i4", [3], "[3, 4, 5]"]),
    "d('cam')[0, 1, 2]": ("NotImplementedError", ["scalar", "<i4", "5"]),
    "d('cam')[..., 0, 0]": ("NotImplementedError", ["array", "<i4", [4], "[0, 6, 12, 18]"]),
    "f['1.1/g/../int'].name": ("KeyError", ["str", "'/1.1/int'"]),
    "d('int')[...]": ("ValueError", ["array", "<i8", [], "3"]),
    "f['1.1/g'] == f['1.1/g']": ("KeyError", ["bool", "True"]),
    "d('diode') == d('diode')": (["bool", "False"], ["bool", "True"]),
    "dict(f.attrs)": (
        ["dict", [["NX_class", ["str", "'NXroot'"]]]],
        ["dict", [["NX_class", ["str", "'NXroot'"]], ["default", ["str", "'2.1'"]]]],
    ),
    "f.mode": ("AttributeError", ["str", "'r'"]),
    "f['text'].name": ("KeyError", ["str", "'/2.1/text'"]),
    "len(File(store, path))": ("ValueError", ["int", "4"]),
}


def run(python: str, *arguments: str, expressions: str = "") -> str:
    done = subprocess.run(
        [python, PROGRAM, *arguments],
        input=expressions,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["2.4.5", "ours"])
def answers(
    request: pytest.FixtureRequest, peer_is_there: None, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Any, Any]]:
    """For each expression the answers of 2.4.5 and of ours, on scans that one of them published."""
    peer = environment("peer")
    path = str(tmp_path_factory.mktemp("data") / "f.h5")
    expressions = [*SAME, *SIMILAR, *BETTER]
    with StackServer(tcp=True) as server:
        DataStore(server.url, init_db=True).close()
        publisher = peer if request.param == "2.4.5" else sys.executable
        assert run(publisher, "publish", server.url, path) == "published\n"
        found = [
            run(python, "look", server.url, path, expressions="\n".join(expressions)).splitlines()
            for python in (peer, sys.executable)
        ]
    pairs = zip(*[[json.loads(line) for line in lines] for lines in found], strict=True)
    return dict(zip(expressions, pairs, strict=True))


def test_what_clients_rely_on_is_the_same(answers: dict[str, tuple[Any, Any]]) -> None:
    differing = {e: answers[e] for e in SAME if answers[e][0] != answers[e][1]}
    assert not differing


def test_refusals_are_of_the_same_kind(answers: dict[str, tuple[Any, Any]]) -> None:
    for expression in SIMILAR:
        theirs, ours = answers[expression]
        assert (theirs[0], ours[0]) == ("raises", "raises"), expression
        assert theirs[1] == ours[1], expression
    assert "found link cycle" in answers["f['1.1/g/first']"][1][2]


def test_what_2x_refuses_or_ignores_is_answered(answers: dict[str, tuple[Any, Any]]) -> None:
    for expression, expected in BETTER.items():
        for found, side in zip(answers[expression], expected, strict=True):
            if isinstance(side, str):
                assert found[:2] == ["raises", side], expression
            else:
                assert found == side, expression
