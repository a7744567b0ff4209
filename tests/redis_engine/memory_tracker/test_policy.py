"""What may be forgotten, over all small journals.

| rule                         | cases                                                      |
| ---------------------------- | ---------------------------------------------------------- |
| nothing protected goes       | journals × protected × slices                              |
| the oldest goes first        | journals × protected × slices                              |
| something goes if it may     | journals × protected × slices                              |
| pins hold                    | journals × protected × slices × pins                       |
| and hold up nobody else      | the same                                                   |
| what they held goes later    | the same, a pin that moves on                              |
| in which order to try        | use of memory × limits                                     |
| clocks that step             | every order of ages                                        |
| when the next round is due   | rates of growth × periods                                  |
| whose publisher is dead      | silences × how long they were seen                         |
"""

from __future__ import annotations

import itertools

import pytest

from blissdata.redis_engine.memory_tracker.policy import (
    AgedRecord,
    Effort,
    Watch,
    efforts,
    has_lapsed,
    held_back,
    horizon,
    is_dead,
    plan,
    slowest,
    thinned,
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


PINS = [{"a": pin} for pin in (0, 1, 2, 4, 100)] + [{"a": 1, "b": 3}, {"b": 5, "unknown": 0}]


def reached_with(
    journal: list[AgedRecord], protected: float, part: float, pins: dict[str, int]
) -> tuple[dict[str, int], list[AgedRecord]]:
    """Forgets again and again, as the tracker does: how far that comes in each stream, and the records
    that are left."""
    left, reached, gone = list(journal), {}, {}
    while (found := plan(left, protected, part, pins, gone)) is not None:
        assert all(record.age >= protected for record in left[: found.used])
        assert found.used >= 1
        for key, end in {**found.ends, **found.held}.items():
            assert end <= pins.get(key, end)
            reached[key] = max(end, reached.get(key, 0))
        gone |= found.held
        left = held_back(left[: found.used], found.held) + left[found.used :]
    return reached, left


@pytest.mark.parametrize("pins", PINS)
def test_pins_hold_and_hold_up_no_other_stream(pins: dict[str, int]) -> None:
    for journal, protected, part in CASES:
        free, _ = reached_with(journal, protected, part, {})
        reached, _ = reached_with(journal, protected, part, pins)
        expected = {key: min(end, pins.get(key, end)) for key, end in free.items()}
        assert {key: end for key, end in reached.items() if end} == {
            key: end for key, end in expected.items() if end
        }


@pytest.mark.parametrize("pins", PINS)
def test_what_was_held_goes_once_the_pin_moves_on(pins: dict[str, int]) -> None:
    """As far as it would have gone without a pin, and at once: how old it is was not forgotten."""
    for journal, protected, part in CASES:
        free, _ = reached_with(journal, protected, part, {})
        reached, left = reached_with(journal, protected, part, pins)
        later, _ = reached_with(left, protected, part, {})
        both = {key: max(reached.get(key, 0), later.get(key, 0)) for key in free}
        assert both == free


def test_one_pin_does_not_make_others_go_faster() -> None:
    """What a pin holds does not count for where time begins: a slice of the rest goes."""
    journal = [AgedRecord(100 - n, {"a": n + 1}) for n in range(50)]
    journal += [AgedRecord(50 - n, {"b": n}) for n in range(50)]
    found = plan(journal, 0, 20, {"a": 0})
    assert found is not None
    assert found.ends == {"b": 10}  # the oldest 20 % of 50 s
    assert found.held == {"a": 0}


@pytest.mark.parametrize("pin", [0, 1, 2, 3, 4, 100])
def test_a_pin_stands_at_a_point_and_what_is_in_front_of_it_goes(pin: int) -> None:
    for journal in JOURNALS[1:]:
        free = plan(journal, 0, 100)
        found = plan(journal, 0, 100, {"a": pin, "unknown": 0})
        assert free is not None
        assert found is not None
        assert found.ends["b"] == free.ends["b"]
        assert found.used == free.used
        if pin < free.ends["a"]:
            assert found.held == {"a": pin}
            assert "a" not in found.ends
        else:
            assert found.held == {}
            assert found.ends["a"] == free.ends["a"]


def test_a_pin_holds_a_sealed_stream_too() -> None:
    found = plan([AgedRecord(1, {"a": MAX_INDEX})], 0, 100, {"a": 3})
    assert found is not None
    assert (found.ends, found.held) == ({}, {"a": 3})
    assert plan([AgedRecord(1, {"a": MAX_INDEX})], 0, 100, {"a": 3}, {"a": 3}) is None


def test_of_several_pins_the_slowest_counts() -> None:
    assert slowest([("a", 5), ("b", 1), ("a", 3), ("a", 9)]) == {"a": 3, "b": 1}
    assert slowest([]) == {}


@pytest.mark.parametrize("most", [4, 5, 10, 100])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 11, 1000])
def test_records_are_thinned_to_the_safe_side(count: int, most: int) -> None:
    """Nothing looks older than it is, nothing is lost, and the young ones stay as they are."""
    records = [AgedRecord(1000 - n, {f"s{n % 3}": n, "all": n}) for n in range(count)]
    found = thinned(records, most)
    assert len(found) <= max(most, min(count, most))
    ages = [record.age for record in found]
    assert ages == sorted(ages, reverse=True)
    for record in found:
        for key, end in record.ends.items():
            assert record.age <= 1000 - end
            assert key in ("all", f"s{end % 3}")
    for key in ("s0", "s1", "s2", "all"):
        ends = [record.ends[key] for record in records if key in record.ends]
        kept = [record.ends[key] for record in found if key in record.ends]
        assert kept[-1:] == ends[-1:]
    assert found[-1:] == records[-1:]


NO_LIMIT = float("inf")


@pytest.mark.parametrize(
    ("used", "limit", "yielding", "expected"),
    [
        (80, 90, False, [Effort(180)]),
        (89, 90, True, [Effort(180)]),
        (90, 90, False, [Effort(180), Effort(180, True)]),
        (90, 90, True, [Effort(180), Effort(0), Effort(180, True), Effort(0, True)]),
        (90, 95, True, [Effort(180), Effort(0)]),
        (86, 85, True, [Effort(180), Effort(180, True)]),
        (200, NO_LIMIT, False, [Effort(180)]),
        (200, NO_LIMIT, True, [Effort(180), Effort(0)]),
    ],
)
def test_pins_are_broken_last_and_only_beyond_their_limit(
    used: float, limit: float, yielding: bool, expected: list[Effort]
) -> None:
    assert efforts(used, limit, 90, 180, yielding) == expected


@pytest.mark.parametrize(
    ("lasting", "suspected", "lapsed"),
    [(False, None, False), (False, 0.0, False), (False, 5.0, True), (True, 1e9, False)],
    ids=["alive", "silent at the first look", "silent for long", "lasting"],
)
def test_a_pin_lapses_when_its_holder_is_silent(
    lasting: bool, suspected: float | None, lapsed: bool
) -> None:
    assert has_lapsed(lasting, suspected) is lapsed


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
