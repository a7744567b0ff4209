"""What a search means: the pure rules, and the server's function against them.

criteria    which comparison a value asks for; what is refused
matches     exact, prefix, suffix, infix, numbers, case, unset fields
server      the same scans for random texts as by the pure rules
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blissdata import DataStore
from blissdata.redis_engine.backends.search import criteria, index_entries, matches
from blissdata.redis_engine.documents import ScanDocument
from blissdata.redis_engine.keys import new_ulid
from blissdata.redis_engine.store import reset_redis_db

FIELDS = ["name", "number", "session"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("abc", [("exact", "abc")]),
        ("ABC", [("exact", "abc")]),
        ("abc*", [("prefix", "abc")]),
        ("*abc", [("suffix", "abc")]),
        ("*abc*", [("infix", "abc")]),
        ("*", []),
        ("", [("exact", "")]),
        ("Straße", [("exact", "strasse")]),
        (7, [("number", 7)]),
        (1.5, [("number", 1.5)]),
    ],
    ids=repr,
)
def test_a_value_asks_for_a_comparison(value: Any, expected: list[tuple[str, Any]]) -> None:
    assert criteria({"name": value}, FIELDS) == [("name", *e) for e in expected]


def test_nothing_is_asked_without_fields() -> None:
    assert criteria({}, FIELDS) == []


@pytest.mark.parametrize("value", ["a*b", "*a*b", "a**b", "**a", "*a**"])
def test_a_wildcard_inside_is_refused_with_an_explanation(value: str) -> None:
    with pytest.raises(ValueError, match=r"name=.*start and at the end") as caught:
        criteria({"name": value}, FIELDS)
    assert value in str(caught.value)


def test_an_unknown_field_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"'colour'.*name, number, session"):
        criteria({"colour": "red"}, FIELDS)


@pytest.mark.parametrize("value", [None, True, ["a"], b"a", {"a"}], ids=repr)
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"texts and numbers.*name="):
        criteria({"name": value}, FIELDS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=repr)
def test_numbers_that_no_scan_has_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="number="):
        criteria({"number": value}, FIELDS)


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        ("ihr_1", "IHR_1", True),
        ("ihr_1", "ihr_", False),
        ("ihr_1", "ihr*", True),
        ("ihr_1", "*_1", True),
        ("ihr_1", "*r_*", True),
        ("ihr_1", "*ihr_1*", True),
        ("ihr_1", "*", True),
        ("7", 7, False),
        (7, 7, True),
        (7, 7.0, True),
        (7, "7", False),
        (7, 8, False),
        (None, "none", False),
        (None, "x*", False),
        ("", "", True),
        ("ΣΑΣ", "σας", True),
    ],
    ids=repr,
)
def test_matches(stored: Any, wanted: Any, expected: bool) -> None:
    assert matches({"name": stored}, criteria({"name": wanted}, FIELDS)) is expected


def test_unset_fields_are_not_indexed() -> None:
    entries = index_entries({"name": "A", "number": 7, "session": None}, "PK")
    assert entries == [("name", 0, "a\0PK"), ("number", 7, "PK")]


texts = st.text(st.sampled_from("aAsS \0ßé|\\-{}"), max_size=4)
wanted_texts = st.tuples(st.sampled_from(["", "*"]), texts, st.sampled_from(["", "*"])).map("".join)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(texts, st.integers(-2, 2)), max_size=6), wanted_texts, st.integers(-2, 2))
def test_the_server_finds_what_the_rules_say(
    store: DataStore, scans: list[tuple[str, int]], text: str, number: int
) -> None:
    reset_redis_db(store)
    catalog = store.catalog
    identities = {}
    for name, n in scans:
        pk = new_ulid()
        identity = {"name": name, "number": n, "data_policy": "none"}
        catalog.create(ScanDocument(pk, identity, {}, pk))
        identities[catalog.scan_key(pk)] = identity
    for fields in ({"name": text}, {"number": number}, {"name": text, "number": number}):
        rules = criteria(fields, ["name", "number"])
        expected = [key for key, identity in identities.items() if matches(identity, rules)]
        assert catalog.find(fields)[1] == expected


@pytest.mark.parametrize("number", [2**53 - 1, 2**53 + 1, 2**63, -(2**63), 2**64 - 1], ids=repr)
def test_numbers_are_found_exactly(store: DataStore, number: int) -> None:
    scan = store.create_scan({"name": "a", "number": number, "data_policy": "none"})
    for other in (1, number - 1 if number > 0 else number + 1):
        store.create_scan({"name": "a", "number": other, "data_policy": "none"})
    assert store.load_scan(scan.key).number == number
    assert store.search_existing_scans(number=number)[1] == [scan.key]


@pytest.mark.parametrize("number", [-(2**80), 10**400], ids=["80", "400 digits"])
@pytest.mark.parametrize("kind", ["memory", "plain"])
def test_a_scan_may_have_any_number(request: pytest.FixtureRequest, kind: str, number: int) -> None:
    store: DataStore = request.getfixturevalue(f"{kind}_store")
    scan = store.create_scan({"name": "a", "number": number, "data_policy": "none"})
    store.create_scan({"name": "a", "number": 1, "data_policy": "none"})
    assert store.load_scan(scan.key).number == number
    assert store.search_existing_scans(number=number)[1] == [scan.key]


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**400], ids=["64", "-63", "400 digits"])
def test_protocol_1_refuses_numbers_that_it_would_change(
    stack_store: DataStore, number: int
) -> None:
    with pytest.raises(ValueError, match=r"number .*cannot be -?[0-9]{5}.*64"):
        stack_store.create_scan({"name": "a", "number": number, "data_policy": "none"})
    assert stack_store.search_existing_scans() == ("0-0", [])
