"""Where 2.4.5 does badly and ours does better: the same program in both, and what each makes of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.clients.environments import environment

from blissdata import DataStore
from blissdata.testing.servers import StackServer

pytestmark = pytest.mark.interop

PROGRAM = Path(__file__).with_name("better_program.py")

CASES = {
    # case: (what 2.4.5 makes of it, what ours does)
    "tiny_timeout": (False, True),  # a timeout below 1 ms: for ever, or over at once
    "forced_deletion": (False, True),  # its streams are sealed
    "changed_info": (["AssertionError", "STARTED"], ["ScanInfoError", "PREPARED"]),
    "info_of_no_json": (["TypeError", "CLOSED"], ["TypeError", "STOPPED"]),
    "group_read": ([], ["second"]),  # a read that waits for ever gives something
    "context_manager": ("TypeError", "CLOSED"),
    "other_identity": (False, True),  # its scans are found by fields of its own
}


def found_by(environment_name: str, server: StackServer, seconds: float) -> dict[str, Any]:
    with server.client() as client:
        client.flushall()
    DataStore(server.url, init_db=True).close()
    command = [environment(environment_name), "-W", "ignore", PROGRAM, server.url, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def found(
    peer_is_there: None, shared_stack_server: StackServer
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What 2.4.5 makes of each case, and what ours does."""
    # Where theirs goes on for ever, it is not waited for long; ours has the time that it needs.
    return found_by("peer", shared_stack_server, 2), found_by("here", shared_stack_server, 60)


@pytest.mark.parametrize("case", CASES)
def test_ours_does_better(found: tuple[dict[str, Any], dict[str, Any]], case: str) -> None:
    theirs, ours = found
    assert (theirs[case], ours[case]) == CASES[case]


def test_every_case_is_looked_at(found: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert set(found[0]) == set(found[1]) == set(CASES)
