"""A few faults in every run of the tests, of the network and of another kind; `make faults` has hundreds.

They are the same each time; `NEW_EXAMPLES=1 make test` has others. The seed is printed where a promise broke:
`python -m tests.faults --seed …` brings the same faults again. The judge is judged first.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.faults.__main__ import as_json, as_text
from tests.faults.compare import Row, as_table
from tests.faults.formula import points, salt
from tests.faults.harness import SETTINGS, Report, run, shares
from tests.faults.judge import (
    SEAL,
    Broken,
    Entries,
    Journal,
    Verdict,
    judge,
    read_journal,
    worst_stalls,
)

KEY, NAME = "scan", "fast"
STREAM = (KEY, NAME)


def entries(*lengths: int, sealed: int | None = None, start: int = 0, writer: int = 0) -> Entries:
    """A stream that is as it must be, in entries of these lengths."""
    found: list[Any] = []
    for length in lengths:
        payload = points(NAME, salt(1, NAME, writer), start, start + length).tobytes()
        fields = {b"payload": payload, b"len": str(length).encode()}
        found.append((f"{start}-1".encode(), fields))
        start += length
    if sealed is not None:
        found.append((SEAL, {b"id": str(sealed).encode()}))
    return found


def journal(name: str, reached: int, ended: int | None = None, told: str | None = None) -> Journal:
    found = Journal(name, {KEY: 1}, {STREAM: reached}, over=True)
    if ended is not None:
        found.ended[STREAM] = ended
    if told is not None:
        found.told[STREAM] = (told, "")
    return found


def verdict(
    publisher: Journal, reader: Journal, there: Entries, *, may_lose: bool = False
) -> Verdict:
    return judge([publisher], [reader], {STREAM: there}, may_lose=may_lose)


def test_the_judge_is_content_with_what_is_right() -> None:
    found = verdict(journal("p", 5, 6), journal("r", 6, 6), entries(1, 2, 3, sealed=6))
    assert found.good
    assert found.confirmed == 6


def other_point(there: Entries) -> Entries:
    ident, fields = there[-1]
    payload = np.frombuffer(fields[b"payload"], "int64").copy()
    payload[-1] += 1
    return [*there[:-1], (ident, {**fields, b"payload": payload.tobytes()})]


BROKEN = {
    "a confirmed point is not there": (journal("p", 6), journal("r", 5), entries(5), "lost"),
    "an entry is missing": (
        journal("p", 6),
        journal("r", 6),
        [*entries(2), *entries(3, start=3)],
        "lost",
    ),
    "an entry is there twice": (
        journal("p", 5),
        journal("r", 5),
        [*entries(5), *entries(2, start=3)],
        "repeated",
    ),
    "another point": (journal("p", 5), journal("r", 5), other_point(entries(5)), "wrong"),
    "a seal that lies": (journal("p", 5), journal("r", 5), entries(5, sealed=6), "out_of_order"),
    "a reader ended early": (journal("p", 5), journal("r", 4, 4), entries(5, sealed=5), "lost"),
    "a publisher gave up": (
        journal("p", 5, told="PublishError"),
        journal("r", 5),
        entries(5),
        "gave_up",
    ),
    "a reader hung": (
        journal("p", 5),
        Journal("r", {KEY: 1}, {STREAM: 5}),
        entries(5),
        "hung",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_the_judge_finds(broken: str) -> None:
    publisher, reader, there, count = BROKEN[broken]
    found = verdict(publisher, reader, there)
    assert not found.good
    assert getattr(found, count) > 0


REWOUND = "StreamRewoundError"


@pytest.mark.parametrize(
    ("publisher", "reader", "good"),
    [(REWOUND, REWOUND, True), (None, REWOUND, False), (REWOUND, None, False)],
    ids=["both were told", "the publisher was not", "the reader was not"],
)
def test_what_a_server_may_lose_must_be_told(
    publisher: str | None, reader: str | None, good: bool
) -> None:
    found = verdict(
        journal("p", 6, told=publisher), journal("r", 6, told=reader), entries(5), may_lose=True
    )
    assert found.good is good
    assert (found.lost_and_told, found.lost) == ((1, 0) if good else (0, 1))


def test_a_scan_that_nobody_knows_he_created_may_be_left() -> None:
    for known, good in ((False, True), (True, False)):
        publisher = Journal("p", {KEY: 1} if known else {}, over=True)
        reader = Journal("r", {KEY: 1}, over=True)
        reader.told[KEY, None] = ("PublisherLostError", "")
        assert judge([publisher], [reader], {}, may_lose=False).good is good


def conflict(index: int) -> str:
    return f"Stream 'fast': points {index} to 99 were not confirmed: somebody else wrote there"


def rival(first: int, reached: int, told: tuple[str, str] | None = None) -> Journal:
    found = Journal("rival", reached={STREAM: reached}, opened={STREAM: first}, over=True)
    if told is not None:
        found.told[STREAM] = told
    return found


OURS, THEIRS = entries(2, 3), [*entries(2, 3), *entries(2, start=5, writer=1)]
"""Five points of the publisher; and two of somebody else behind them."""

WRITERS = {
    "the second one is faster": (THEIRS, (5, conflict(5)), rival(5, 7), True),
    "the publisher is faster": (
        OURS,
        (5, None),
        rival(3, 3, ("StreamConflictError", conflict(3))),
        True,
    ),
    "the publisher had nothing more to send": (THEIRS, (5, None), rival(5, 7), True),
    "the stream is sealed meanwhile": (
        OURS,
        (5, None),
        rival(5, 5, ("StreamSealedError", "")),
        True,
    ),
    "the publisher is told another index": (THEIRS, (5, conflict(6)), rival(5, 7), False),
    "the publisher had more confirmed": (THEIRS, (6, conflict(5)), rival(5, 7), False),
    "both are told": (THEIRS, (5, conflict(5)), rival(5, 7, ("StreamConflictError", "")), False),
    "the second one is told another index": (
        OURS,
        (5, None),
        rival(3, 3, ("StreamConflictError", conflict(4))),
        False,
    ),
    "points of the second one are not there": (THEIRS, (5, conflict(5)), rival(5, 8), False),
    "the publisher's come behind them": (
        [*THEIRS, *entries(1, start=7)],
        (5, conflict(5)),
        rival(5, 7),
        False,
    ),
    "the second one is confirmed what is not there": (OURS, (5, None), rival(3, 4), False),
}


@pytest.mark.parametrize("case", WRITERS)
def test_of_two_writers_the_second_is_told_and_writes_no_more(case: str) -> None:
    there, (reached, told), other, good = WRITERS[case]
    publisher = journal("p", reached)
    if told is not None:
        publisher.told[STREAM] = ("RedisConflictError", told)
    found = judge([publisher], [journal("r", 5)], {STREAM: there}, may_lose=False, rival=other)
    assert found.good is good, found


def test_a_stall_is_explained(tmp_path: Path) -> None:
    """Times [s]: the words at 10, 11 and 19; broken from 12 to 15, and from 18 on."""
    words = [
        [10.0, "scan", KEY, 1],
        [11.0, "at", KEY, NAME, 7],
        [13.0, "again", "StoreConnectionError"],
        [14.0, "again", "StoreConnectionError"],
        [19.0, "at", KEY, NAME, 9],
        [29.0, "over"],
    ]
    log = tmp_path / "log"
    log.write_text("".join(json.dumps(line) + "\n" for line in words))
    broken = [Broken("cut", 5, 6), Broken("stall", 12, 15), Broken("stall", 18, 20)]
    (stall,) = worst_stalls([read_journal("reader", [log])], broken)
    assert (stall.seconds, stall.beyond) == (8, 4)
    assert str(stall).startswith("8.0 s, 4.0 s of it with nothing broken: reader between at fast 7")
    assert "2 × StoreConnectionError" in str(stall)
    report = Report(7, Counter(stall=2), {"network": Verdict(stalls=[stall])})
    said = json.loads(json.dumps(as_json(report)))
    assert said["total"]["stalls"][0]["gap"]["again"] == {"StoreConnectionError": 2}
    assert str(stall) in as_text(report)


def test_a_comparison_counts_what_was_survived_and_says_what_was_not() -> None:
    row = Row("cut", "publishes")
    row.take(Verdict())
    row.take(Verdict(lost=7, trouble=["…"]))
    stuck = ["publisher0", "reader-cursor", "reader-group"]
    row.take(Verdict(trouble=["…"], stuck=stuck, crashed=["reader-group"]))
    table = as_table([row, Row("cut", "neither", 3, 3), Row("stall", "reads", 2, 2)])
    assert table.splitlines()[2:] == [
        "| cut | 1 of 3: confirmed points are missing (1); the publisher hangs (1); "
        "readers ended with an error (1) |  | 3 of 3 |",
        "| stall |  | 2 of 2 |  |",
    ]


@pytest.mark.parametrize("total", [0, 1, 4, 7, 200])
def test_faults_are_shared_out_to_the_last_one(total: int) -> None:
    weights = [1.0, 0.5, 1.0, 0.2]
    found = shares(total, weights)
    assert sum(found) == total
    for share, weight in zip(found, weights, strict=True):
        assert abs(share - total * weight / sum(weights)) <= 1


@pytest.mark.timeout(900)  # its programs have two minutes to end alone
def test_promises_are_kept_whatever_breaks() -> None:
    seed = random.randrange(10**6) if os.environ.get("NEW_EXAMPLES") else 1
    others = [name for name in SETTINGS if name != "network"]
    names = ["network", random.Random(seed).choice(others)]
    report = run(seed, 4, names)
    total = report.total
    assert total.good, f"--seed {seed}: {names}: {total}"
    assert all(verdict.confirmed for verdict in report.verdicts.values())
    assert sum(report.faults.values()) == 4
