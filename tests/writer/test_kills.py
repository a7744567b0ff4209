"""A writer that is killed at random instants leaves the file that it would have left otherwise."""

from __future__ import annotations

import pytest
from tests.writer_kills import measure


@pytest.mark.slow
def test_a_killed_writer_leaves_the_same_file() -> None:
    found = measure(kills=8, seed=7)
    assert found.good, found
    assert found.kills == 8
    assert found.looks > 100
