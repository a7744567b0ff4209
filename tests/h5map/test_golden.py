"""Items beside those of blissdata 2.4.5: same JSON, same decoded arrays, refused alike.

Its answers are in `tests/golden/h5map/items.json`, and how they were taken in `capture.py` beside it.
What is meant to differ is listed in `test_better.py`; nothing of that is among these cases.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import blissdata.h5map as m

GOLDEN = Path(__file__).parents[1] / "golden" / "h5map"


def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("h5map_capture", GOLDEN / "capture.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CAPTURE = recipe()
CASES: dict[str, dict[str, Any]] = json.loads((GOLDEN / "items.json").read_text())["cases"]


def test_the_capture_holds_every_case_of_its_recipe() -> None:
    assert list(CASES) == CAPTURE.expressions()
    assert len(CASES) > 200


@pytest.mark.parametrize("case", list(CASES))
def test_an_item_is_what_it_is_in_2_4(case: str) -> None:
    expected, found = dict(CASES[case]), CAPTURE.told(case, m)
    # Whatever was caught must still be; ours may be more besides.
    caught = set(expected.pop("undecodable", ()))
    assert caught <= set(found.pop("undecodable", ()))
    assert found == expected
