"""Beside blissdata 2.4.5, unmodified, in another process: it reads what we publish, we what it does.

| publisher | reader | server                              | streams      |
| --------- | ------ | ----------------------------------- | ------------ |
| ours      | 2.4.5  | Valkey with RedisJSON and RediSearch | every kind  |
| 2.4.5     | ours   | the same                            | every kind   |

Ours runs in the environment of the tests. All other pairs are in `make matrix`. What is looked at
stands in `scenarios.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.clients.matrix import PEER, Pair, meet
from tests.clients.programs import Program
from tests.clients.scenarios import SCENARIOS, play

from blissdata.testing.servers import TestServer

pytestmark = pytest.mark.interop

DIRECTIONS = {
    "2.4.5 reads ours": Pair("here", PEER, "valkey+modules", 2),
    "ours reads 2.4.5": Pair(PEER, "here", "valkey+modules", 2),
}


@pytest.fixture(scope="module", params=DIRECTIONS)
def meeting(
    request: pytest.FixtureRequest, peer_is_there: None
) -> Iterator[tuple[Program, Program, TestServer]]:
    with meet(DIRECTIONS[request.param]) as met:
        yield met


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scan_from_one_to_the_other(meeting, scenario, tmp_path):
    publisher, reader, server = meeting
    found = play(scenario, publisher, reader, server, tmp_path)
    assert found.wrong == []
    assert found.looked > 20
