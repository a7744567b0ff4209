"""A writer that is killed at random instants leaves the file that it would have left otherwise."""

from __future__ import annotations

import pytest
from tests.writer_kills import measure


@pytest.mark.slow
def test_a_killed_writer_leaves_the_same_file() -> None:
    found = measure(kills=8, seed=7)
    assert (found.wrong, found.different) == (0, []), found
    # A reader that the writer passes between opening and reading may be told that an address is behind the
    # end that it knows; who opens the file again reads on (see docs/how-to/write-files.md).
    assert found.torn <= found.looks / 100, found
    assert all("addr overflow" in one for one in found.said if one.startswith("OSError")), found
    assert found.kills == 8
    assert found.looks > 100
