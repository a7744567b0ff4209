"""What may be forgotten, over all small journals.

| rule                         | cases                                                      |
| ---------------------------- | ---------------------------------------------------------- |
| nothing protected goes       | journals × protected × slices                              |
| the oldest goes first        | journals × protected × slices                              |
| something goes if it may     | journals × protected × slices                              |
| pins hold                    | journals × pins                                            |
| clocks that step             | every order of ages                                        |
| when the next round is due   | rates of growth × periods                                  |
| whose publisher is dead      | silences × how long they were seen                         |
"""

from __future__ import annotations

import itertools

import pytest

from blissdata.redis_engine.memory_tracker.policy import (
    AgedRecord,
    Watch,
    horizon,
    is_dead,
    plan,
)
from blissdata.streams.entries import MAX_INDEX

AGES = [0.0, 1.0, 2.0, 5.0, 10.0, 100.0]
JOURNALS = [
    [AgedRecord(age, {"a": i, "b": 2 * i}) for i, age in enumerate(sorted(ages, reverse=True))]
    for n in range(len(AGES) + 1)
    for ages in itertools.combinations(AGES, n)
]
PROTECTED = [0.0, 0.5, 1.0, 4.0, 50.0, 1000.0]
SLICES = [1, 20, 50, 99, 100]
CASES = list(itertools.product(JOURNALS, PROTECTED, SLICES))


def test_nothing_that_is_protected_goes() -> None:
    for journal, protected, part in CASES:
        found = plan(journal, protected, part)
        if found is not None:
            assert all(record.age >= protected for record in journal[: found.used])


def test_something_goes_if_and_only_if_the_oldest_record_is_old_enough() -> None:
    for journal, protected, part in CASES:
        found = plan(journal, protected, part)
        may = bool(journal) and journal[0].age >= protected
        assert (found is not None) == may
        if found is not None:
            assert found.used >= 1


def test_exactly_the_slice_of_the_time_goes() -> None:
    """horizon = min(t0 + slice % of (now - t0), now - protected) on a clock that reads 0 now."""
    for journal, protected, part in CASES:
        found = plan(journal, protected, part)
        if found is None:
            continue
        t0 = -journal[0].age
        until = min(t0 + (0 - t0) * part / 100, 0 - protected)
        used = [record for record in journal if -record.age <= until + 1e-9]
        assert found.used == len(used)
        assert found.ends == used[-1].ends


def test_a_full_slice_without_protection_is_everything() -> None:
    for journal in JOURNALS[1:]:
        found = plan(journal, 0, 100)
        assert found is not None
        assert found.used == len(journal)
        assert found.ends == journal[-1].ends


def test_repeating_it_reaches_whatever_may_go() -> None:
    for journal, protected, part in CASES:
        left, reached = list(journal), {}
        while (found := plan(left, protected, part)) is not None:
            reached |= found.ends
            left = left[found.used :]
        may_go = [record for record in journal if record.age >= protected]
        assert len(left) == len(journal) - len(may_go)
        assert reached == (may_go[-1].ends if may_go else {})


def test_streams_that_a_record_does_not_name_keep_what_an_older_one_said() -> None:
    journal = [
        AgedRecord(9, {"a": 3, "sealed": MAX_INDEX}),
        AgedRecord(8, {"b": 4}),
        AgedRecord(7, {"a": 5}),
        AgedRecord(0, {"a": 99, "b": 99}),
    ]
    found = plan(journal, 1, 100)
    assert found is not None
    assert found.ends == {"a": 5, "b": 4, "sealed": MAX_INDEX}


def test_an_older_record_never_takes_back_what_a_newer_one_said() -> None:
    found = plan([AgedRecord(2, {"a": 7}), AgedRecord(1, {"a": 5})], 0, 100)
    assert found is not None
    assert found.ends == {"a": 7}


@pytest.mark.parametrize("pin", [0, 1, 2, 3, 4, 100])
def test_a_pin_holds_its_stream_and_no_other(pin: int) -> None:
    for journal in JOURNALS[1:]:
        free = plan(journal, 0, 100)
        found = plan(journal, 0, 100, {"a": pin, "unknown": 0})
        assert free is not None
        assert found is not None
        assert found.ends["b"] == free.ends["b"]
        assert found.ends["a"] == min(free.ends["a"], pin)
        assert found.held == ({"a"} if pin < free.ends["a"] else frozenset())
        assert found.used == free.used


def test_a_pin_holds_a_sealed_stream_too() -> None:
    found = plan([AgedRecord(1, {"a": MAX_INDEX})], 0, 100, {"a": 3})
    assert found is not None
    assert (found.ends, found.held) == ({"a": 3}, {"a"})


def test_records_that_look_younger_than_those_behind_them_are_not() -> None:
    """As after a step of the server's clock: the journal is in order, its times are not."""
    for ages in itertools.permutations([0.0, 1.0, 5.0, 10.0]):
        journal = [AgedRecord(age, {"a": i}) for i, age in enumerate(ages)]
        for protected in (0.5, 2.0, 7.0):
            found = plan(journal, protected, 100)
            last_old = max((i for i, age in enumerate(ages) if age >= protected), default=None)
            assert last_old is not None
            assert found is not None
            assert found.used == last_old + 1


def test_the_horizon_of_the_command_line() -> None:
    assert horizon(1000, 180, 20) == 800
    assert horizon(200, 180, 20) == 180
    assert horizon(180, 180, 20) == 180
    assert horizon(179.9, 180, 20) is None


# ------------------------------------------------------------------------------ when to look


MB = 1 << 20


@pytest.mark.parametrize("period", [0.5, 30.0])
@pytest.mark.parametrize("rate", [0.0, 0.1, 10.0, 300.0, 3000.0])
def test_rounds_come_in_time_for_any_publisher(rate: float, period: float) -> None:
    """Memory grows by `rate` [MB/s] from 20 to 100 MB: rounds are due at each 5 MB, or at the end of
    the period, and what is published between growing so far and noticing it is little."""
    watch = Watch(100 * MB, period)
    started = elapsed = 0.0
    used_then = used = 20.0
    rounds: list[float] = []
    looks = 0
    while used < 100 and started + elapsed < 3 * period:
        if watch.due(elapsed, int(used_then * MB), int(used * MB)):
            rounds.append(used - used_then)
            started, elapsed, used_then = started + elapsed, 0.0, used
        pause = watch.look_again(elapsed, int(used_then * MB), int(used * MB))
        assert 0 < pause <= 1.0 or elapsed >= period
        looks += 1
        elapsed += max(pause, 1e-6)
        used = 20 + rate * (started + elapsed)
    assert watch.due(elapsed, int(used_then * MB), 100 * MB)
    late = 5 + max(5.0, rate * 2 * watch.shortest)
    assert all(grown <= late for grown in rounds)
    assert looks <= 3 * period / watch.longest + 20 + 40 * (len(rounds) + 1)


def test_a_round_is_due_at_the_threshold_at_once() -> None:
    watch = Watch(100 * MB, 30)
    assert watch.due(0.0, 99 * MB, 100 * MB)
    assert not watch.due(0.0, 98 * MB, 99 * MB)
    assert watch.due(30.0, 5 * MB, 5 * MB)


@pytest.mark.parametrize(
    ("silence", "suspected", "dead"),
    [(None, 1e6, False), (5.0, 1e6, False), (30.0, 5.0, True), (1e6, 0.0, False), (1e6, 5.0, True)],
    ids=["no signs of life", "slow", "dead", "seen for the first time", "dead for long"],
)
def test_a_publisher_is_dead_after_a_long_silence_that_the_tracker_saw(
    silence: float | None, suspected: float, dead: bool
) -> None:
    assert is_dead(silence, suspected) is dead
