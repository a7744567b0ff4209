"""Every name takes in our package what it takes in blissdata 2.4.5: one process of each is asked.

`tests/api_names.toml` lists the names, and those that differ with the reason. A difference that is no
longer there fails, too.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
from tests.api_names import DIFFERS, IDS, NAMES, TABLE, found_by, misfits, parameters
from tests.clients.environments import environment

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def ours() -> dict[tuple[str, str], dict[str, Any] | None]:
    """The names of our package."""
    return found_by(sys.executable)


@pytest.fixture(scope="module")
def theirs(peer_is_there: None) -> dict[tuple[str, str], dict[str, Any] | None]:
    """The names of blissdata 2.4.5."""
    return found_by(environment("peer"))


@pytest.mark.parametrize(("module", "name"), NAMES, ids=IDS)
def test_a_name_takes_what_it_takes_in_2x(
    ours: dict[tuple[str, str], Any], theirs: dict[tuple[str, str], Any], module: str, name: str
) -> None:
    id_ = f"{module}:{name}"
    old, new, written = theirs[module, name], ours[module, name], TABLE[module][name]
    if old is None:
        wrong = ["is not in 2.4.5"]
    elif written.startswith("("):
        wrong = misfits(parameters(old["takes"]), parameters(new["takes"]))
    elif written.startswith("items"):
        wrong = [f"has no {item}" for item in old["items"] if item not in new["items"]]
    else:
        wrong = [] if written == "attribute" or old["is"] == new["is"] else [f"was a {old['is']}"]
    if id_ in DIFFERS:
        assert wrong, f"{id_} is as in 2.4.5: take it off the list of differences"
    else:
        assert wrong == []
