"""Every name that programs written for blissdata 2.x rely on is there, and takes what they give it.

The names stand in `api_names.toml`, written by hand from what such programs use. The comparison with
2.4.5 itself is in `clients/test_names_beside_2x.py`.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
from tests.api_names import (
    DIFFERS,
    IDS,
    NAMES,
    TABLE,
    found_by,
    misfits,
    parameters,
    written_parameters,
)


@pytest.fixture(scope="session")
def ours() -> dict[tuple[str, str], dict[str, Any] | None]:
    """The names of our package, in a process that has imported nothing before."""
    return found_by(sys.executable)


# ---------------------------------------------------------------------------------- ours


@pytest.mark.parametrize(("module", "name"), NAMES, ids=IDS)
def test_a_name_is_there_and_is_what_it_should_be(
    ours: dict[tuple[str, str], Any], module: str, name: str
) -> None:
    found = ours[module, name]
    assert found is not None, f"{module} has no {name}"
    written = TABLE[module][name]
    word, _, rest = written.partition(": ")
    if word == "items":
        assert sorted(found["items"]) == sorted(rest.split())
    elif word == "value":
        assert found["is"] == written
    elif word in ("class", "property"):
        assert found["is"] == word
    elif word != "attribute":
        assert misfits(written_parameters(written), parameters(found["takes"])) == []


def test_the_order_of_numbered_names_is_kept(ours: dict[tuple[str, str], Any]) -> None:
    for module, name in (
        ("blissdata", "ScanState"),
        ("blissdata.lima.image_utils", "VIDEO_MODES"),
        ("blissdata.lima.image_utils", "IMAGE_MODES"),
    ):
        assert ours[module, name]["items"] == TABLE[module][name].partition(": ")[2].split()


def test_only_names_of_the_table_differ() -> None:
    assert set(DIFFERS) <= set(IDS)


# ---------------------------------------------------------------------------------- the comparison


@pytest.mark.parametrize(
    ("given", "takes", "wrong"),
    [
        ("(a, b=1)", "(a, b=1)", []),
        ("(a, b=1)", "(a, b=1, c=2)", []),
        ("(a, b={})", "(a, b=None)", []),
        ("(a)", "(a, c)", ["needs c"]),
        ("(a)", "(b)", ["takes no a", "needs b"]),
        ("(a, b)", "(b, a)", ["a has another position", "b has another position"]),
        ("(a, b=1)", "(a, b)", ["b has no default"]),
        ("(a, b=1)", "(a, b=2)", ["b is 2 by default"]),
        ("(**f)", "(*a)", ["takes no var_keyword f"]),
    ],
)
def test_misfits_are_found(given: str, takes: str, wrong: list[str]) -> None:
    assert misfits(written_parameters(given), written_parameters(takes)) == wrong
