"""A live file of which the path, or a path in it, is mistyped: the hint says what there is."""

from __future__ import annotations

import logging

import pytest

from blissdata import DataStore
from blissdata.h5api.live_hints import entries_hint
from blissdata.h5api.redis_hdf5 import File

PATH, MISTYPED = "/data/visitor/scan.h5", "/data/visitor/sacn.h5"


def finished(store: DataStore, path: str = PATH, number: int = 1) -> None:
    identity = {"name": "t", "number": number, "data_policy": "none", "path": path}
    with store.create_scan(identity) as scan:
        for name in ("diode", "elapsed_time"):
            scan.create_stream(name, dtype="float64")
        scan.prepare()
        scan.start()
        scan.stop()


@pytest.fixture
def store(memory_store: DataStore) -> DataStore:
    finished(memory_store)
    finished(memory_store, "/data/other/else.h5", 2)
    return memory_store


def hint(file: File, path: str) -> str:
    with pytest.raises(KeyError) as caught:
        file[path]
    assert caught.value.args == (f"No such path: '/{path}'",)  # word for word as 2.x says it
    return "\n".join(getattr(caught.value, "__notes__", []))


@pytest.mark.parametrize("wait", [True, False])
def test_a_path_that_no_scan_has_is_told_with_similar_ones(store: DataStore, wait: bool) -> None:
    with File(MISTYPED, data_store=store, wait=wait) as file:
        assert list(file.keys()) == []
        assert f"No scan of this store is saved to {MISTYPED}" in hint(file, "1.1")
        assert f"'{PATH}'" in hint(file, "1.1")
        assert "else.h5" not in hint(file, "1.1")
        assert "no scan of it yet" in repr(file)
        assert f"'{PATH}'" in repr(file)
        assert file.get("1.1") is None
        assert "1.1" not in file


def test_where_none_looks_like_it_the_newest_are_named(store: DataStore) -> None:
    with File("/tmp/completely-different", data_store=store) as file:
        told = hint(file, "1.1")
    assert told.index("/data/other/else.h5") < told.index(PATH)


def test_the_same_name_in_another_directory_looks_like_it(store: DataStore) -> None:
    with File("/x/scan.h5", data_store=store) as file:
        assert hint(file, "1.1").endswith(f"Similar ones that scans are saved to: '{PATH}'")


def test_a_scan_that_comes_later_is_still_found(store: DataStore) -> None:
    with File(MISTYPED, data_store=store) as file:
        hint(file, "1.1")
        finished(store, MISTYPED)
        assert list(file.keys()) == ["1.1"]
        assert repr(file) == '<Live-HDF5 file "sacn.h5" (mode r)>'


@pytest.mark.parametrize("use", [lambda f: f.keys(), len, list, lambda f: f.snapshot()])
def test_who_does_not_wait_is_told_once(
    store: DataStore, caplog: pytest.LogCaptureFixture, use: object
) -> None:
    with File(MISTYPED, data_store=store, wait=False) as file, caplog.at_level(logging.WARNING):
        use(file)  # type: ignore[operator]
        use(file.snapshot() if use is len else file)  # type: ignore[operator]
    assert f"No scan of this store is saved to {MISTYPED}" in caplog.text
    assert PATH in caplog.text


def test_who_waits_and_who_has_a_scan_are_told_nothing(
    store: DataStore, caplog: pytest.LogCaptureFixture
) -> None:
    with File(MISTYPED, data_store=store) as file:
        assert list(file.keys()) == []
    with File(PATH, data_store=store, wait=False) as file:
        assert list(file) == list(file.snapshot().keys()) == ["1.1"]
    unprepared = {"name": "t", "number": 7, "data_policy": "none", "path": MISTYPED}
    with store.create_scan(unprepared), File(MISTYPED, data_store=store, wait=False) as file:
        assert list(file.snapshot().keys()) == []  # it is not prepared: that is no mistake
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("1.1/measurement/diodee", f"'{PATH}::/1.1/measurement' has 'diode'"),
        ("1.1/mesurement", f"'{PATH}::/1.1' has 'measurement'"),
        ("2.1", f"'{PATH}::/' has '1.1'"),
    ],
)
def test_a_path_in_the_file_is_told_with_what_the_group_has(
    store: DataStore, path: str, told: str
) -> None:
    with File(PATH, data_store=store) as file:
        assert hint(file, path).startswith(told)
        assert hint(file.snapshot(), path).startswith(told)


def test_names_of_a_full_group_are_not_all_listed() -> None:
    assert entries_hint("/1.1", "x", map(str, range(1, 14))).endswith("'10' and 3 more")
    assert entries_hint("/1.1", "x", []) == "'/1.1' has nothing in it (yet)"


def test_what_is_not_in_another_file_is_not_sought_in_this_one(memory_store: DataStore) -> None:
    link = {"type": "external_link", "target_file": "/data/other.h5", "target_path": "/1.1/nothing"}
    entry = {"type": "group", "children": {"there": link}}
    identity = {"name": "t", "number": 1, "data_policy": "none", "path": PATH}
    root = {"type": "group", "children": {"1.1": entry}}
    finished(memory_store, "/data/other.h5")
    with memory_store.create_scan(identity, info={"h5maps": {PATH: root}}) as scan:
        scan.prepare()
    with File(PATH, data_store=memory_store) as file, pytest.raises(KeyError) as caught:
        file["1.1/there"]
    assert not getattr(caught.value, "__notes__", [])
