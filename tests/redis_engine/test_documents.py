"""The scan document: its JSON is the written layout, and a damaged one says what is wrong with it.

to and from JSON    the layout, round trips, unknown fields, empty texts of older publishers
damaged             missing fields, wrong types, not JSON, nested too deep: the error names the
                    scan and the field
on a server         damaged documents and state streams, found by every way that loads a scan
info                what JSON cannot hold, where it is, and how large is too large
"""

from __future__ import annotations

import datetime
import enum
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import redis

from blissdata import DataStore
from blissdata.exceptions import ScanNotFoundError, ScanTooLargeError, ScanValidationError
from blissdata.redis_engine.documents import (
    MAX_INFO,
    SURE_DEPTH,
    ScanDocument,
    StreamDocument,
    info_text,
)
from blissdata.testing.servers import TestServer

KEY = "esrf:scan:{PK}"

WRITTEN: dict[str, Any] = {
    "pk": "PK",
    "id": {"pk": "PK", "name": "ascan", "number": 7, "session": None},
    "info": {"title": "x"},
    "state_stream": {"pk": "STATE", "encoding": None, "info": None},
    "data_streams": {
        "diode": {"pk": "S1", "encoding": {"type": "json"}, "info": {"unit": "A"}},
    },
}
"""The layout of the written specification (protocol 1, "Scan document")."""

DOCUMENT = ScanDocument(
    "PK",
    {"name": "ascan", "number": 7, "session": None},
    {"title": "x"},
    "STATE",
    {"diode": StreamDocument("S1", {"type": "json"}, {"unit": "A"}, "stream:S1", KEY)},
)


def loaded(written: Any) -> ScanDocument:
    text = written if isinstance(written, str | bytes) else json.dumps(written)
    return ScanDocument.from_json(KEY, text, lambda pk: f"stream:{pk}")


def without(*path: str) -> dict[str, Any]:
    return changed(path, None, remove=True)


def changed(path: tuple[str, ...], value: Any, *, remove: bool = False) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(WRITTEN))
    at = copy
    for name in path[:-1]:
        at = at[name]
    if remove:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return copy


# ---------------------------------------------------------------------------------- to and from JSON


def test_the_json_is_the_written_layout() -> None:
    assert json.loads(DOCUMENT.to_json()) == WRITTEN


def test_the_order_of_the_fields_is_the_written_one() -> None:
    assert list(json.loads(DOCUMENT.to_json())) == list(WRITTEN)


def test_a_document_is_read_as_it_was_written() -> None:
    assert loaded(DOCUMENT.to_json()) == DOCUMENT


def test_unknown_fields_are_ignored() -> None:
    newer = changed(("data_streams", "diode", "colour"), "red") | {"later": [1]}
    newer["state_stream"]["more"] = 1
    assert loaded(newer) == DOCUMENT


def test_a_stream_without_info_is_written_with_an_empty_one() -> None:
    streams = {"s": StreamDocument("S", {"type": "json"}, None, "k")}
    document = ScanDocument("PK", {}, {}, "STATE", streams)
    assert json.loads(document.to_json())["data_streams"]["s"]["info"] == {}


def test_an_info_that_is_a_text_is_in_the_document_as_it_is() -> None:
    document = DOCUMENT.with_texts(json.dumps(WRITTEN["info"]))
    assert document.to_json() == DOCUMENT.to_json() == json.dumps(WRITTEN)
    assert document == DOCUMENT


def test_what_is_changed_in_an_info_that_was_a_text_is_in_the_document() -> None:
    document = DOCUMENT.with_texts('{"title": "x"}')
    document.info["more"] = [1]
    assert json.loads(document.to_json())["info"] == {"title": "x", "more": [1]}
    document.info = {"other": 2}
    assert json.loads(document.to_json())["info"] == document.info == {"other": 2}


def test_all_who_ask_for_an_info_at_once_get_the_same() -> None:
    document = DOCUMENT.with_texts(json.dumps({"many": list(range(10_000))}))
    begin = threading.Barrier(4)

    def ask(_: int) -> int:
        begin.wait(10)
        return id(document.info)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ask, range(4))) == {id(document.info)}


@pytest.mark.parametrize(
    ("info", "says"),
    [({"save": True}, True), ({"save": 0}, False), ({"x": "save"}, False), ({}, False)],
    ids=repr,
)
@pytest.mark.parametrize("parsed", [False, True], ids=["text", "parsed"])
def test_an_info_says_what_it_has_and_is_not_empty(
    info: dict[str, Any], says: bool, parsed: bool
) -> None:
    document = DOCUMENT.with_texts(json.dumps(info))
    assert not parsed or document.info == info
    assert document.says("save") is says


@pytest.mark.parametrize("field", ["encoding", "info"])
@pytest.mark.parametrize("value", ["", None], ids=["empty text", "null"])
def test_the_empty_texts_of_older_publishers_mean_null(field: str, value: Any) -> None:
    document = loaded(changed(("data_streams", "diode", field), value))
    assert getattr(document.streams["diode"], field) is None


# ---------------------------------------------------------------------------------- damaged


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        (without("pk"), "'pk' is missing"),
        (without("id"), "'id' is missing"),
        (without("info"), "'info' is missing"),
        (without("state_stream"), "'state_stream' is missing"),
        (without("state_stream", "pk"), "'pk' is missing"),
        (without("data_streams"), "'data_streams' is missing"),
        (without("data_streams", "diode", "pk"), r"diode.*'pk' is missing"),
        (changed(("pk",), 5), "'pk' is a int, expected str"),
        (changed(("id",), "x"), "'id' is a str, expected dict"),
        (changed(("info",), [1]), "'info' is a list, expected dict"),
        (changed(("info",), None), "'info' is a NoneType, expected dict"),
        (changed(("state_stream",), 1), "'state_stream' is a int, expected dict"),
        (changed(("data_streams",), ["diode"]), "'data_streams' is a list, expected dict"),
        (changed(("data_streams", "diode"), "x"), r"diode.*expected an object.*str"),
        (changed(("data_streams", "diode", "pk"), None), r"diode.*'pk' is a NoneType"),
        ([WRITTEN], "expected an object.*found list"),
        ("5", "expected an object.*found int"),
        ("null", "expected an object.*found NoneType"),
        ("", "not JSON"),
        ('{"pk": ', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        ("[" * 10_000 + "]" * 10_000, "not JSON"),
        ('{"info": ' * 10_000, "not JSON"),
        ('{"pk": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_a_damaged_document_names_the_scan_and_what_is_wrong(written: Any, complaint: str) -> None:
    with pytest.raises(ScanValidationError, match=complaint) as caught:
        loaded(written)
    assert KEY in str(caught.value)


# ---------------------------------------------------------------------------------- on a server


@pytest.fixture
def admin(server: TestServer) -> Iterator[redis.Redis]:
    """A client that goes behind the store's back."""
    with server.client() as client:
        yield client


@pytest.fixture
def keys(plain_store: DataStore) -> tuple[str, str]:
    """A scan with one stream, PREPARED: its key and that of its state stream."""
    scan = plain_store.create_scan({"name": "ascan", "number": 1, "data_policy": "none"})
    scan.create_stream("s", dtype=float)
    scan.prepare()
    pk = scan.key.partition("{")[2].removesuffix("}")
    return scan.key, f"esrf:stream:{{{pk}}}:{pk}"


def rewritten(admin: redis.Redis, key: str, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads(admin.get(key) or "")  # type: ignore[arg-type]
    change(document)
    admin.set(key, json.dumps(document))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda admin, key, state: admin.set(key, "no JSON"), "not JSON"),
        (lambda admin, key, state: admin.set(key, ""), "not JSON"),
        (lambda admin, key, state: admin.set(key, "[" * 10_000), "not JSON"),
        (lambda admin, key, state: (admin.delete(key), admin.lpush(key, "x")), "another type"),
        (lambda admin, key, state: rewritten(admin, key, lambda d: d.pop("info")), "'info'"),
        (
            lambda admin, key, state: rewritten(admin, key, lambda d: d["id"].pop("name")),
            "name",
        ),
        (
            lambda admin, key, state: rewritten(admin, key, lambda d: d["id"].update(number="x")),
            "number",
        ),
        (lambda admin, key, state: admin.delete(state), "state"),
        (lambda admin, key, state: (admin.delete(state), admin.set(state, "x")), "state"),
        (lambda admin, key, state: admin.xadd(state, {"other": "1"}), "state"),
        (lambda admin, key, state: admin.xadd(state, {"state": "x"}), r"state.*x"),
        (lambda admin, key, state: admin.xadd(state, {"state": "7"}), r"state.*7"),
        (lambda admin, key, state: admin.xadd(state, {"state": "9" * 5000}), "state"),
    ],
    ids=[
        "no JSON",
        "empty",
        "nested too deep",
        "a list",
        "no info",
        "identity without its name",
        "identity of another type",
        "no state stream",
        "state stream of another type",
        "state without state",
        "state that is no number",
        "unknown state",
        "endless state",
    ],
)
def test_a_damaged_scan_is_reported_and_can_be_deleted(
    plain_store: DataStore,
    admin: redis.Redis,
    keys: tuple[str, str],
    damage: Callable[[redis.Redis, str, str], Any],
    complaint: str,
) -> None:
    key, state = keys
    damage(admin, key, state)
    with pytest.raises(ScanValidationError, match=complaint) as caught:
        plain_store.load_scan(key)
    assert key in str(caught.value)
    other = plain_store.create_scan({"name": "b", "number": 2, "data_policy": "none"})
    assert other.key in plain_store.search_existing_scans()[1]  # one bad scan costs no other
    with pytest.raises((ScanValidationError, RuntimeError)):
        plain_store.delete_scan(key)
    plain_store.delete_scan(key, force=True)
    with pytest.raises(ScanNotFoundError):
        plain_store.load_scan(key)
    assert plain_store.search_existing_scans()[1] == [other.key]


def test_a_scan_that_becomes_damaged_is_reported_at_the_next_update(
    plain_store: DataStore, admin: redis.Redis, keys: tuple[str, str]
) -> None:
    key, state = keys
    copy = plain_store.load_scan(key)
    rewritten(admin, key, lambda d: d.pop("info"))
    admin.xadd(state, {"state": "2"})
    with pytest.raises(ScanValidationError, match="info") as caught:
        copy.update(block=False)
    assert key in str(caught.value)


def test_the_states_of_damaged_scans_are_refused(
    plain_store: DataStore, admin: redis.Redis, keys: tuple[str, str]
) -> None:
    key, state = keys
    admin.xadd(state, {"state": "7"})
    admin.zadd("esrf:index:@states", {key[-27:-1]: 7})
    with pytest.raises(ScanValidationError, match="7") as caught:
        plain_store.get_scans_state([key])
    assert key in str(caught.value)


# ---------------------------------------------------------------------------------- info


class Colour(enum.IntEnum):
    RED = 3


class Motor(str, enum.Enum):  # noqa: UP042 — whose str() is not its text
    TH = "th"


class Own(Mapping[str, Any]):
    """A mapping that is no dict."""

    def __getitem__(self, key: str) -> Any:
        return {"a": 1}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return "Own"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (-math.inf, None),
        ((1, (2,)), [1, [2]]),
        (np.float64(1.5), 1.5),
        (np.longdouble(1.5), 1.5),
        (np.longdouble("nan"), None),
        (np.array([1.5, np.inf], "longdouble"), [1.5, None]),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.array(5), 5),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.bool_(False), False),
        (np.zeros((0, 3)), []),
        ({1: 2, None: 3, 1.5: 4}, {"1": 2, "null": 3, "1.5": 4}),
        ({True: 5}, {"true": 5}),
        ({np.int64(1): 2}, {"1": 2}),
        (Colour.RED, 3),
        (Motor.TH, "th"),
        ({Motor.TH: 1}, {"th": 1}),
        ({Motor.TH: math.nan}, {"th": None}),
        ({"deep": [OrderedDict(b=1, a=(2,))]}, {"deep": [{"b": 1, "a": [2]}]}),
        (Own(), {"a": 1}),
        ({1: "number", "1": "text"}, {"1": "text"}),
        ({"true": "text", True: "bool"}, {"true": "bool"}),
        ("\ud800", "\ud800"),
        (10**100, 10**100),
    ],
    ids=repr,
)
def test_info_becomes_plain(value: Any, expected: Any) -> None:
    assert json.loads(info_text({"x": value})) == {"x": expected}


def test_a_name_stands_but_once_in_the_text() -> None:
    assert info_text({"x": {1: "number", "1": "text"}}) == '{"x": {"1": "text"}}'


@pytest.mark.parametrize("other", [0, math.nan, np.int64(1)], ids=repr)
@pytest.mark.parametrize("opening", ["[[[{{", "]]", '\\"[', '": {'], ids=repr)
def test_brackets_and_quotes_in_texts_mean_nothing(opening: str, other: Any) -> None:
    info = {opening * 200: [opening * 200], "other": other}
    found = json.loads(info_text(info))
    assert found == {opening * 200: [opening * 200], "other": found["other"]}


@pytest.mark.parametrize("depth", [SURE_DEPTH - 2, SURE_DEPTH, SURE_DEPTH + 2, 2 * SURE_DEPTH])
def test_info_that_is_nested_deep_is_written(depth: int) -> None:
    inner, text = ["x"], '["x"]'
    for _ in range(depth):
        inner, text = [inner], f"[{text}]"  # type: ignore[list-item]
    assert info_text({"in": inner}) == f'{{"in": {text}}}'


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        b"bytes",
        1j,
        np.complex128(1),
        datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
        np.datetime64("2020-01-01"),
        {("a", "b"): 1},
        lambda: 1,
        10**5000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_named_with_its_place(value: Any) -> None:
    with pytest.raises(TypeError, match="scan info") as caught:
        info_text({"fine": 1, "outer": [0, {"inner": value}]})
    if not isinstance(value, int):
        assert all(part in str(caught.value) for part in ("outer", "1", "inner"))
        assert "JSON" in str(caught.value)


@pytest.mark.parametrize("depth", [5_000, 10_000])
def test_info_that_is_nested_too_deep_is_refused(depth: int) -> None:
    info: dict[str, Any] = {}
    for _ in range(depth):
        info = {"in": info}
    with pytest.raises(TypeError, match="too deep"):
        info_text(info)


def test_info_that_contains_itself_is_refused() -> None:
    info: dict[str, Any] = {}
    info["self"] = info
    with pytest.raises(TypeError, match="itself"):
        info_text(info)


def test_the_limit_is_exact_and_its_error_says_what_is_large() -> None:
    rest = len('{"small": 1, "large": ""}')
    info = {"small": 1, "large": "x" * (MAX_INFO - rest)}
    assert len(info_text(info)) == MAX_INFO == 2**20
    info["large"] += "x"
    with pytest.raises(ScanTooLargeError, match=r"metadata is taking 1048577 .*limit") as caught:
        info_text(info)
    assert "'large'" in str(caught.value)
