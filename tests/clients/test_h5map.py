"""Layout items of 2.4.5, in its own environment: the capture that ours is compared with still holds,
and what ours writes of random layouts, 2.4.5 reads as the same."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.clients.environments import environment

from blissdata.h5map import Group, HDF5Item

GOLDEN = Path(__file__).parents[1] / "golden" / "h5map"

ECHO = """
import sys, blissdata.h5map as m
for line in sys.stdin:
    print(m.HDF5Item.validate_json(line).model_dump_json(), flush=True)
"""

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("peer_is_there")]


def test_the_capture_is_what_its_recipe_gives() -> None:
    done = subprocess.run(
        [environment("peer"), "-W", "ignore", str(GOLDEN / "capture.py")],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert (
        json.loads(done.stdout)["cases"] == json.loads((GOLDEN / "items.json").read_text())["cases"]
    )


TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4)
SHAPES = st.lists(st.integers(0, 5), max_size=3)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
    st.lists(st.integers(-9, 9) | st.floats(-1, 1), max_size=3),
    st.builds(lambda name: {"type": "stream", "stream": name}, TEXTS),
    st.builds(
        lambda value: {"type": "inline", "dtype": "complex128", "value": value},
        st.lists(st.sampled_from(["nan", "-inf", "(1+2j)", 3, 2.5]), max_size=3),
    ),
    st.just({"type": "inline_b64", "dtype": ">i2", "shape": [1, 2], "value": "AQACAA=="}),
    st.builds(
        lambda a, b: {"type": "compound", "columns": [["a", a], ["b", b]]}, TEXTS, st.integers(0, 9)
    ),
)
ATTRIBUTES = st.dictionaries(TEXTS, VALUES, max_size=2)
LEAVES = st.one_of(
    VALUES,
    st.builds(lambda a, v: {"type": "dataset", "attributes": a, "value": v}, ATTRIBUTES, VALUES),
    st.builds(lambda path: {"type": "soft_link", "target_path": path}, TEXTS),
    st.builds(
        lambda f, p: {"type": "external_link", "target_file": f, "target_path": p}, TEXTS, TEXTS
    ),
    st.builds(
        lambda shape, size: {
            "type": "external_binary_dataset",
            "dtype": "<f4",
            "shape": shape,
            "files": [{"name": "raw", "offset": 3, "size": size}],
        },
        SHAPES,
        st.none() | st.integers(0, 99),
    ),
    st.builds(
        lambda stride: {
            "type": "virtual_dataset",
            "dtype": "|u1",
            "shape": [9],
            "virtual_sources": [
                {
                    "vspace": {"start": [0], "stride": [stride], "count": [2]},
                    "src_file": "f",
                    "src_dataset": "d",
                    "src_space": {"start": [0], "count": [2], "block": [1]},
                }
            ],
        },
        st.integers(1, 3),
    ),
)
GROUPS = st.recursive(
    st.builds(
        lambda a, c: {"type": "group", "attributes": a, "children": c},
        ATTRIBUTES,
        st.dictionaries(TEXTS, LEAVES, max_size=3),
    ),
    lambda below: st.builds(
        lambda a, c: {"type": "group", "attributes": a, "children": c},
        ATTRIBUTES,
        st.dictionaries(TEXTS, below | LEAVES, max_size=3),
    ),
    max_leaves=3,
)


def test_random_layouts_are_written_alike() -> None:
    peer = subprocess.Popen(
        [environment("peer"), "-W", "ignore", "-c", ECHO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert peer.stdin
    assert peer.stdout
    stdin, stdout = peer.stdin, peer.stdout

    @settings(
        max_examples=150,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(GROUPS)
    def compare(layout: Any) -> None:
        ours = HDF5Item.validate_python(layout)
        assert isinstance(ours, Group)
        text = ours.model_dump_json()
        for line in (json.dumps(layout), text):
            stdin.write(line + "\n")
            stdin.flush()
            theirs = stdout.readline()
            assert list(items(json.loads(theirs))) == list(items(json.loads(text)))

    try:
        compare()
    finally:
        peer.communicate(timeout=20)
    assert peer.returncode == 0


def items(value: Any, path: str = "") -> Any:
    """Everything in JSON, in its order, the type of each number included."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from items(below, f"{path}/{key}")
    elif isinstance(value, list):
        yield path, len(value)
        for n, below in enumerate(value):
            yield from items(below, f"{path}/{n}")
    else:
        yield path, type(value).__name__, value
