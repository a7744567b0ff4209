"""An acquisition of four times the server's memory: nobody who reads it notices.

`make acquisition` runs all of them, larger.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.acquisition.run import MB, Plan, acquire


def test_readers_notice_neither_a_small_memory_nor_a_writer_that_was_killed(tmp_path: Path) -> None:
    """What the writer has not saved is pinned."""
    outcome = acquire(Plan(20 * MB, pin=True, kill=True), tmp_path)
    print(outcome.report())
    assert outcome.faults() == []
    assert outcome.readers["afterwards"]["from_file"] > outcome.plan.points // 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pin", "kill"), [(False, True), (True, False)], ids=["protected-killed", "pinned-undisturbed"]
)
def test_readers_of_an_acquisition_larger_than_memory_notice_nothing(
    pin: bool, kill: bool, tmp_path: Path
) -> None:
    # What is not pinned is promised for so many seconds alone: a writer that needs longer to be there again
    # on a slow machine would rightly miss points.
    outcome = acquire(Plan(64 * MB, pin, kill, protected=5), tmp_path)
    print(outcome.report())
    assert outcome.faults() == []
