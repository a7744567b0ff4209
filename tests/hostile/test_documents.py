"""What a scan's document may say on a server that other programs share: the rest stays readable.

| the document, or the server, has            | that stream                       | the others |
| ------------------------------------------- | --------------------------------- | ---------- |
| an encoding that is null, unknown, nonsense | `UnknownEncodingError`            | readable   |
| no info                                     | readable                          | readable   |
| a plugin that nobody installed, or broken   | a stand-in; `Stream(…)` wraps anew | readable   |
| fields of a newer version                   | readable                          | readable   |
| a stream that expired before its scan       | says so                           | readable   |

On real servers, in both layouts; the documents are changed with a bare client.
"""

from __future__ import annotations

import contextlib
import json
import sys
import types
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
import redis

from blissdata import DataStore, Scan
from blissdata.exceptions import (
    IndexNoMoreThereError,
    MissingPluginException,
    StreamAbandonedError,
    StreamError,
    UnknownEncodingError,
)
from blissdata.streams import CursorGroup
from blissdata.streams.default import BrokenPluginStream, BrokenStream, MissingPluginStream, Stream

IDENTITY = {"name": "hostile", "number": 1, "data_policy": "none"}
GOOD = np.arange(3.0)

Change = Callable[[Callable[[dict[str, Any]], None]], None]


@pytest.fixture(params=["plain", "stack"])
def store(request: pytest.FixtureRequest) -> DataStore:
    """A store on a real server of either layout."""
    found: DataStore = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture
def admin(store: DataStore) -> redis.Redis:
    """A bare client of the same server."""
    client: redis.Redis = store.backend.client
    return client


@pytest.fixture
def scan(store: DataStore) -> Iterator[Scan]:
    """A scan with two streams, `good` and `bad`, of three points each; closed at the end."""
    scan = store.create_scan(IDENTITY, {"title": "t"})
    streams = [scan.create_stream(name, dtype=float) for name in ("good", "bad")]
    scan.prepare()
    for stream in streams:
        stream.send(GOOD)
        stream.join()
    yield scan
    with contextlib.suppress(StreamError):  # a stream that was deleted cannot be sealed
        scan.close()


@pytest.fixture
def change(store: DataStore, scan: Scan, admin: redis.Redis) -> Change:
    """Changes the scan's document behind everybody's back."""

    def change(edit: Callable[[dict[str, Any]], None]) -> None:
        stack = store.backend.info().kind == "stack"
        get = ("JSON.GET", scan.key, ".") if stack else ("GET", scan.key)
        document = json.loads(admin.execute_command(*get))
        edit(document)
        text = json.dumps(document)
        admin.execute_command(*(("JSON.SET", scan.key, ".") if stack else ("SET", scan.key)), text)

    return change


def set_on_bad(field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """An edit of one field of the stream `bad`; of `plugin`, in its info."""

    def edit(document: dict[str, Any]) -> None:
        stream = document["data_streams"]["bad"]
        if field == "plugin":
            stream["info"]["plugin"] = value
        elif value is ...:
            del stream[field]
        else:
            stream[field] = value

    return edit


def is_readable(stream: Any) -> None:
    """The stream has its points, by every way."""
    assert stream[:].tolist() == GOOD.tolist()
    view = stream.cursor().read(block=False)
    assert view.get_data().tolist() == GOOD.tolist()


def raises_everywhere(stream: Any, error: type[Exception], *words: str) -> None:
    """Every way to the points raises, saying these words."""
    uses: list[Callable[[], Any]] = [
        lambda: stream[0],
        lambda: stream[:],
        lambda: stream.cursor().read(block=False),
        lambda: CursorGroup([stream]).read(block=False),
    ]
    for use in uses:
        with pytest.raises(error) as caught:
            use()
        for word in words:
            assert word in str(caught.value), str(caught.value)


# ---------------------------------------------------------------------------------- encodings


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        (None, "None"),
        ("", "None"),
        (..., "None"),
        ([1], "None"),
        ({}, "{}"),
        ({"type": "avro", "schema": "x"}, "avro"),
        ({"type": "numeric"}, "dtype"),
        ({"type": "numeric", "dtype_str": "nonsense", "shape": []}, "nonsense"),
        ({"type": "numeric", "dtype_str": "|O", "shape": []}, "object"),
        ({"type": "numeric", "dtype_str": "<f8", "shape": "x"}, "shape"),
    ],
    ids=str,
)
def test_an_encoding_that_cannot_be_read(
    store: DataStore, scan: Scan, change: Change, encoding: Any, said: str
) -> None:
    change(set_on_bad("encoding", encoding))
    found = store.load_scan(scan.key)
    assert found.info == {"title": "t"}
    is_readable(found.streams["good"])
    bad = found.streams["bad"]
    assert isinstance(bad, BrokenStream)
    assert (bad.name, bad.info["dtype"]) == ("bad", "float64")
    raises_everywhere(bad, UnknownEncodingError, "'bad'", said)
    assert store.search_existing_scans(name="hostile")[1] == [scan.key]


@pytest.mark.parametrize("info", [None, "", ..., [1]], ids=str)
def test_a_stream_without_info(store: DataStore, scan: Scan, change: Change, info: Any) -> None:
    change(set_on_bad("info", info))
    found = store.load_scan(scan.key)
    for name in ("good", "bad"):
        is_readable(found.streams[name])
    assert found.streams["bad"].info == {}


# ---------------------------------------------------------------------------------- plugins


def test_a_plugin_that_nobody_installed(
    store: DataStore, scan: Scan, change: Change, caplog: pytest.LogCaptureFixture
) -> None:
    change(set_on_bad("plugin", "of_tomorrow"))
    found = store.load_scan(scan.key)
    is_readable(found.streams["good"])
    bad = found.streams["bad"]
    assert isinstance(bad, MissingPluginStream)
    raises_everywhere(bad, MissingPluginException, "'bad'", "of_tomorrow")
    assert "of_tomorrow" in caplog.text
    is_readable(Stream(bad.event_stream))


@pytest.mark.parametrize("how", ["no module", "no class", "raises", "refuses"])
def test_a_plugin_that_does_not_work(
    store: DataStore,
    scan: Scan,
    change: Change,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    module = types.ModuleType("blissdata_broken_plugin")

    def refuse(event_stream: Any) -> None:
        raise ValueError("not such a stream")

    if how == "refuses":
        module.stream_cls = refuse  # type: ignore[attr-defined]
    if how != "no module":
        monkeypatch.setitem(sys.modules, module.__name__, module)
    value = module.__name__ + (":nothing" if how == "raises" else "")
    entry = EntryPoint("broken", value, "blissdata")
    monkeypatch.setattr("blissdata.streams.plugins._entry_points", lambda: {"broken": entry})
    change(set_on_bad("plugin", "broken"))
    found = store.load_scan(scan.key)
    is_readable(found.streams["good"])
    bad = found.streams["bad"]
    assert isinstance(bad, BrokenPluginStream)
    assert not isinstance(bad, MissingPluginStream)
    for word in ("'bad'", "'broken'", "does not work"):
        assert word in caplog.text
    expected = {"no module": ImportError, "refuses": ValueError}.get(how, AttributeError)
    raises_everywhere(bad, expected)
    is_readable(Stream(bad.event_stream))


@pytest.mark.parametrize("plugin", [5, ["lima"], {}], ids=str)
def test_a_plugin_that_is_no_name(
    store: DataStore, scan: Scan, change: Change, plugin: Any
) -> None:
    change(set_on_bad("plugin", plugin))
    found = store.load_scan(scan.key)
    for name in ("good", "bad"):
        is_readable(found.streams[name])


# ---------------------------------------------------------------------------------- newer versions


def test_fields_of_a_newer_version(store: DataStore, scan: Scan, change: Change) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["later"] = {"a": 1}
        document["id"]["later"] = "x"
        document["state_stream"]["later"] = 1
        document["data_streams"]["bad"]["later"] = []
        document["data_streams"]["bad"]["encoding"]["later"] = None
        document["data_streams"]["bad"]["info"]["later"] = True

    change(edit)
    found = store.load_scan(scan.key)
    for name in ("good", "bad"):
        is_readable(found.streams[name])
    assert (found.name, found.number) == ("hostile", 1)
    assert found.streams["bad"].info["later"] is True


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda d: d.pop("state_stream"), "state_stream"),
        (lambda d: d.update(state_stream={"pk": 5}), "pk"),
        (lambda d: d.update(data_streams=[]), "data_streams"),
        (lambda d: d["data_streams"].update(bad={"info": {}}), "'bad'"),
        (lambda d: d.update(info=None), "info"),
        (lambda d: d["id"].update(number="x"), "number"),
    ],
    ids=["no state", "state without key", "streams", "stream without key", "info", "identity"],
)
def test_a_document_that_is_no_scan_says_what_is_wrong(
    store: DataStore, scan: Scan, change: Change, edit: Any, said: str
) -> None:
    other = store.create_scan(IDENTITY)
    change(edit)
    with pytest.raises(ValueError, match=said) as caught:
        store.load_scan(scan.key)
    assert scan.key in str(caught.value)
    assert store.load_scan(other.key).number == 1
    assert other.key in store.search_existing_scans(name="hostile")[1]
    assert sorted(store.load_scans([scan.key, other.key])) == sorted([scan.key, other.key])
    other.close()


# ---------------------------------------------------------------------------------- expired streams


@pytest.mark.parametrize("closed", [False, True], ids=["open scan", "closed scan"])
@pytest.mark.usefixtures("impatient")
def test_a_stream_that_expired_before_its_scan(
    store: DataStore, scan: Scan, admin: redis.Redis, closed: bool
) -> None:
    if closed:
        scan.close()
    found = store.load_scan(scan.key)
    bad = found.streams["bad"]
    admin.delete(bad.key)
    is_readable(found.streams["good"])
    assert (bad.name, bad.dtype, len(bad)) == ("bad", np.dtype(float), 0)
    assert CursorGroup(found.streams).read(block=False).keys() == {found.streams["good"]}
    if closed:
        with pytest.raises(IndexNoMoreThereError, match=r"'bad'.*expired before its scan"):
            bad[0]
        with pytest.raises(StreamAbandonedError, match=r"'bad'.*expired before its scan"):
            bad.cursor().read()
    else:
        assert bad.cursor().read(block=False) is None


def test_a_publisher_learns_that_its_stream_is_gone(
    store: DataStore, scan: Scan, admin: redis.Redis
) -> None:
    stream = scan.create_stream("late", dtype=float)
    stream.send(1.0)
    stream.join()
    admin.delete(stream.key)
    stream.send(2.0)
    with pytest.raises(redis.exceptions.ResponseError, match="'late'"):
        stream.join()
