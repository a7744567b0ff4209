"""The benchmarks work: every side gives numbers, and the table judges them by their bounds.

No time is asserted: what a number is worth, `make bench` tells.
"""

from __future__ import annotations

import json

import pytest
from benchmarks import __main__ as bench
from benchmarks import files, where
from benchmarks.rows import ROWS, Bound, as_json, as_text, judged

TINY = dict.fromkeys(bench.FULL, 3) | {"kept": 200, "peer_kept": 50, "scans": 20, "settle": 0}


def test_every_side_does_the_work_that_is_measured():
    parts = ("sends", "reading", "groups", "frames", "scans", "memory")
    samples = bench.measure(1, TINY, parts, lambda text: None)
    results = judged(samples)
    measured = {r.row.name for r in results}
    assert measured == {row.name for row in ROWS} - {
        "idle_p50", "idle_p99", "busy_p50", "busy_p99", "open_1000", "memory_1000", "import"
    }  # fmt: skip
    json.dumps(as_json(results, samples, {}))


@pytest.mark.parametrize(
    ("ours", "other", "less", "ratio"), [(30, 2, False, 15), (2, 30, True, 15), (1, 2, False, 0.5)]
)
def test_a_ratio_is_above_one_where_ours_is_better(ours, other, less, ratio):
    row = next(row for row in ROWS if row.less is less and row.bounds[0].side == "peer")
    sides = {"ours": [ours], "peer": [other], "bare": [1]}
    (found,) = judged({row.name: sides})
    assert found.ratios[0] == pytest.approx(ratio)
    assert found.row.bounds[0] == Bound("peer", row.bounds[0].least)


def test_a_row_that_misses_its_bound_says_so():
    good, bad = {"ours": [150.0], "peer": [10.0]}, {"ours": [149.0], "peer": [10.0]}
    assert "MISSED" not in as_text(judged({"send_one": good}))
    assert "MISSED" in as_text(judged({"send_one": bad}))


def test_one_of_two_bounds_is_enough_where_the_row_says_so():
    only_bare = {"ours": [80.0], "peer": [79.0], "bare": [100.0]}
    neither = {"ours": [79.0], "peer": [79.0], "bare": [100.0]}
    assert judged({"index": only_bare})[0].holds
    assert not judged({"index": neither})[0].holds


def test_the_median_of_the_rounds_counts():
    (found,) = judged({"send_one": {"ours": [1.0, 100.0, 10000.0], "peer": [5.0, 1.0, 9.0]}})
    assert found.ratios == (20.0,)


def test_files_are_read_and_listed_by_both_sides():
    reads, lists, trips = files.measure(1, files.QUICK)
    every = [pair for rounds in (*reads.values(), *lists.values()) for pair in rounds]
    assert len(reads) == 5
    assert all(ours > 0 and theirs > 0 for ours, theirs in every)
    assert all(0 < count <= files.MOST_TRIPS for count in trips.values())


def test_where_is_asked_of_every_kind_of_stream(monkeypatch, tmp_path):
    monkeypatch.setattr(where, "STREAMS", 3)
    monkeypatch.setattr(where, "ROUNDS", 2)
    rows = list(where.measured(tmp_path / "scan.h5"))
    assert [row[0] for row in rows] == [
        "plain, a point",
        "the same, each by itself",
        "plain, entries of 16 KiB",
        "in a file that is being written",
        "in a file that is finished",
    ]
    assert all(len(row) == 4 and min(row[1:]) >= 0 for row in rows)
