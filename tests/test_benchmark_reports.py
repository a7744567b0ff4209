"""What benchmarks share: rounds take turns, ratios are above 1 where ours is better, a missed bound is told."""

from __future__ import annotations

import json

import pytest
from benchmarks.report import alternated, as_text, beside, command_line, finished, limited, noted


def test_every_other_round_begins_with_the_last_side():
    order = []
    sides = {name: lambda name=name: order.append(name) or len(order) for name in ("a", "b")}
    assert alternated(3, sides) == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert order == ["a", "b", "b", "a", "a", "b"]


@pytest.mark.parametrize(
    ("row", "ratio", "holds"),
    [
        (beside("rate", 30.0, "/s", "2.x", 2.0, 15), 15, True),
        (beside("rate", 29.0, "/s", "2.x", 2.0, 15), 14.5, False),
        (beside("time", 2.0, "s", "2.x", 30.0, 15, less=True), 15, True),
        (beside("time", 30.0, "s", "2.x", 2.0, 1, less=True), 1 / 15, False),
        (limited("trips", 5, "trips", most=5), 1, True),
        (limited("trips", 6, "trips", most=5), 5 / 6, False),
        (limited("frames", 6, "/s", least=5), 1.2, True),
        (limited("frames", 4, "/s", least=5), 0.8, False),
    ],
)
def test_a_ratio_is_above_one_where_ours_is_better(row, ratio, holds):
    assert row.ratio == pytest.approx(ratio)
    assert row.holds is holds
    assert ("MISSED" in as_text([row])) is not holds


def test_the_median_of_the_rounds_ratios_counts():
    row = beside("rate", [10.0, 20.0, 90.0], "/s", "2.x", [1.0, 10.0, 10.0])
    assert (row.ours, row.other, row.ratio) == (20.0, 10.0, 9.0)


def test_a_limit_is_one_of_both():
    with pytest.raises(ValueError, match="either `most` or `least`"):
        limited("frames", 6, "/s", least=5, most=7)
    with pytest.raises(ValueError, match="either `most` or `least`"):
        limited("frames", 6, "/s")


def test_a_missed_bound_is_told_and_ends_in_failure(tmp_path, capsys):
    rows = [beside("good", 2, "s", "", 2, 1), limited("bad", 9, "s", most=5), noted("told", 1, "s")]
    parse = command_line("benchmarks.example", "An example.", rounds=3).parse_args
    path = tmp_path / "example.json"
    assert finished(rows, parse(["--json", str(path)])) == 1
    assert "3 rows, 1 missed\n  missed: bad" in capsys.readouterr().out
    found = json.loads(path.read_text())
    assert [(row["title"], row["holds"]) for row in found["rows"]] == [
        ("good", True), ("bad", False), ("told", True)
    ]  # fmt: skip
    assert {"cores", "python", "ours", "server"} <= set(found["machine"])
    assert finished(rows, parse(["--quick"])) == 0
    assert finished(rows[::2], parse([])) == 0
