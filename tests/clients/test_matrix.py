"""The matrix leaves no pair out, and its judge notices what is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import astuple

import numpy as np
import pytest
from tests.clients import scenarios
from tests.clients.kinds import KINDS, POINTS, StreamSpec
from tests.clients.matrix import (
    AGES,
    PEER,
    SERVERS,
    SHARED,
    Line,
    Pair,
    meet,
    pairs,
    quick_pairs,
)
from tests.clients.programs import Program, Scan
from tests.clients.scenarios import same

from blissdata.testing.servers import TestServer


def test_every_two_values_meet_where_they_can():
    everybody = (PEER, *AGES)
    possible = [
        pair
        for pair in itertools.starmap(
            Pair, itertools.product(everybody, everybody, SERVERS, (2, 3))
        )
        if pair.possible()
    ]
    for first, second in itertools.combinations(range(4), 2):
        can = {(astuple(pair)[first], astuple(pair)[second]) for pair in possible}
        do = {(astuple(pair)[first], astuple(pair)[second]) for pair in pairs()}
        assert do == can


@pytest.mark.parametrize("server", SHARED)
@pytest.mark.parametrize(("publisher", "reader"), [(PEER, "ours"), ("ours", PEER)])
def test_2x_and_ours_meet_in_both_directions_on_each_shared_server(publisher, reader, server):
    def is_one(pair: Pair) -> bool:
        return (
            pair.publisher.startswith(publisher)
            and pair.reader.startswith(reader)
            and pair.server == server
        )

    assert any(map(is_one, pairs()))
    assert any(map(is_one, quick_pairs()))


def test_2x_is_never_sent_where_it_cannot_go():
    assert not Pair(PEER, "ours-newest", "valkey", 2).possible()
    assert not Pair("ours-newest", PEER, "valkey+modules", 3).possible()
    assert not Pair("ours-oldest", "ours-newest", "valkey", 3).possible()


@pytest.mark.parametrize(
    ("found", "expected", "are_same"),
    [
        (np.arange(3), np.arange(3), True),
        (np.arange(3), np.arange(3, dtype="i4"), False),
        (np.arange(3), [0, 1, 2], False),
        (np.arange(3), list(np.arange(3)), True),
        (np.arange(3.0), [np.float64(0), np.float64(1), np.float64(3)], False),
        (np.array([np.nan]), np.array([np.nan]), True),
        (np.float64(1), np.asarray(1.0), True),
        (np.ones((1, 2)), np.ones((2, 1)), False),
        (np.array(1, ">i4"), np.array(1, "<i4"), False),
        ([], np.empty((0, 3)), False),
        (1.0, 1, False),
        (True, 1, False),
        ({"a": [None]}, {"a": [None]}, True),
        (Scan("a", 4), Scan("a", 0), True),
        (Scan("a", 4), Scan("b", 4), False),
        (None, [], False),
    ],
    ids=str,
)
def test_sameness(found, expected, are_same):
    assert same(found, expected) is are_same


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "json"])
def test_points_differ_from_each_other(kind):
    for spec in KINDS[kind]:
        points = [np.asarray(point).tobytes() for point in spec.points(0, POINTS)]
        few = 2 if spec.dtype == "|b1" else 7 if spec.dtype == "json" else POINTS - 2
        assert len(set(points)) >= few, spec.name


@pytest.fixture(scope="module")
def among_ourselves() -> Iterator[tuple[Program, Program, TestServer]]:
    with meet(Pair("here", "here", "valkey", 2)) as met:
        yield met


@pytest.mark.parametrize(
    ("index", "wrong"), [(0, "group: n"), (7, "group: n"), (POINTS - 1, "iterated")]
)
def test_one_wrong_point_is_found(index, wrong, among_ourselves, monkeypatch, tmp_path):
    right = StreamSpec.point

    def point(spec: StreamSpec, i: int) -> object:
        return right(spec, i + 1) if i == index else right(spec, i)

    monkeypatch.setattr(StreamSpec, "point", point)
    found = scenarios.play("numbers", *among_ourselves, tmp_path)
    assert any(wrong in text for text in found.wrong)


def test_a_failed_line_says_what_was_wrong():
    line = Line(PEER, "ours-newest", "valkey", 2, "numbers", 3, ["x: found 1, expected 2"])
    assert line.text().splitlines()[0].split() == [
        *("2.4.5", "ours-newest", "valkey", "RESP2", "numbers", "3", "FAILED", "(1)")
    ]
    assert line.text().splitlines()[1].strip() == "x: found 1, expected 2"
