"""The registry of plugins, with packages that are really installed on the path.

found       a package's entry point is loaded on first use, for publishers and readers
missing     no such entry point: the error names it and what to install
broken      a module that does not import, has no stream_cls, or whose class raises
alone       the scan's other streams work, whatever happens to one
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blissdata import DataStore, Scan
from blissdata.exceptions import MissingPluginException
from blissdata.redis_engine.documents import ScanDocument
from blissdata.redis_engine.keys import new_ulid
from blissdata.streams import BaseStream, plugins
from blissdata.streams.default import (
    BrokenPluginStream,
    BrokenStream,
    MissingPluginStream,
    Stream,
    View,
)

IDENTITY = {"name": "ascan", "number": 1, "data_policy": "none"}

GOOD = """
from blissdata.streams.default import Stream, View

class GoodStream(Stream):
    @property
    def kind(self): return "good"
    @property
    def plugin(self): return "good"

stream_cls, view_cls = GoodStream, View
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs a package with one plugin, for this test."""
    modules = set(sys.modules)

    def install(name: str, code: str) -> None:
        info = tmp_path / f"plugin_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: plugin-{name}\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[blissdata]\n{name} = plugin_{name}\n")
        (tmp_path / f"plugin_{name}.py").write_text(code)
        plugins._entry_points.cache_clear()

    monkeypatch.syspath_prepend(tmp_path)
    yield install
    plugins._entry_points.cache_clear()
    for module in set(sys.modules) - modules:
        if module.startswith("plugin_"):
            del sys.modules[module]


def loaded_scan(store: DataStore, plugin: Any) -> Scan:
    """A scan as a program that has the plugin would publish it."""
    pk = new_ulid()
    document = ScanDocument(pk, dict(IDENTITY), {}, store.catalog.new_state_pk(pk))
    for name, info in (("plain", {}), ("special", {"plugin": plugin, "colour": "red"})):
        document.streams[name] = store.catalog.new_stream(pk, {"type": "json"}, info)
    store.catalog.create(document)
    key = store.catalog.scan_key(pk)
    store.catalog.advance(key, 0, 1, document)
    return store.load_scan(key)


def test_a_plugin_is_loaded_on_first_use(
    memory_store: DataStore, install: Callable[..., None]
) -> None:
    install("good", GOOD)
    assert "good" in plugins.plugin_names()
    assert "plugin_good" not in sys.modules
    scan = memory_store.create_scan(IDENTITY)
    writer = scan.create_stream("special", dtype="json", plugin="good")
    assert (writer.kind, writer.plugin) == ("good", "good")
    scan.prepare()
    writer.send({"a": 1})
    writer.join()
    copy = memory_store.load_scan(scan.key)
    assert type(copy.streams["special"]) is type(writer)
    assert copy.streams["special"][0] == {"a": 1}
    assert type(copy.get_writer_stream("special")) is type(writer)
    view = copy.streams["special"].cursor().read()
    assert isinstance(view, View)


@pytest.mark.parametrize(
    ("plugin", "hint"),
    [
        ("nowhere", "install the package that provides 'nowhere'"),
        ("lima2", r"blissdata\[lima2\]"),
        ("mosca", "blissdata-mosca"),
    ],
)
def test_a_missing_plugin_says_what_to_install(
    memory_store: DataStore,
    plugin: str,
    hint: str,
    install: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    scan = memory_store.create_scan(IDENTITY)
    with pytest.raises(MissingPluginException, match=hint) as caught:
        scan.create_stream("special", dtype="json", plugin=plugin)
    assert (caught.value.stream_name, caught.value.plugin_name) == ("special", plugin)
    with caplog.at_level(logging.WARNING, "blissdata"):
        stream = loaded_scan(memory_store, plugin).streams["special"]
    assert isinstance(stream, MissingPluginStream)
    assert plugin in caplog.text
    assert "special" in caplog.text
    with pytest.raises(MissingPluginException, match=hint):
        len(stream)


BROKEN = {
    "syntax": ("stream_cls = (", SyntaxError),
    "import": ("import no_such_module_at_all", ImportError),
    "empty": ("", AttributeError),
    "exit": ("raise RuntimeError('at import')", RuntimeError),
    "constructor": (
        "class S:\n    def __init__(self, events): raise ValueError('no ' + events.name)\n"
        "stream_cls = view_cls = S",
        ValueError,
    ),
    "abstract": (
        "from blissdata.streams import BaseStream\nclass S(BaseStream): ...\nstream_cls = S",
        TypeError,
    ),
    "nostream": ("stream_cls = view_cls = dict.fromkeys\n", TypeError),
    "number": ("stream_cls = view_cls = 5\n", TypeError),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_fails_alone(
    memory_store: DataStore,
    install: Callable[..., None],
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    code, error = BROKEN[name]
    install(name, code)
    scan = memory_store.create_scan(IDENTITY)
    with pytest.raises(error):
        scan.create_stream("special", dtype="json", plugin=name)
    scan.create_stream("special", dtype="json")  # the name is free
    with caplog.at_level(logging.WARNING, "blissdata"):
        copy = loaded_scan(memory_store, name)
        stream = copy.streams["special"]
    assert "'special'" in caplog.text
    assert f"'{name}'" in caplog.text
    assert isinstance(stream, BrokenPluginStream)
    assert not isinstance(stream, MissingPluginStream)
    assert (stream.name, stream.plugin, stream.info["colour"]) == ("special", name, "red")
    uses: list[Callable[[], Any]] = [
        lambda: stream.dtype,
        lambda: stream.shape,
        lambda: len(stream),
        lambda: stream[0],
        lambda: stream.cursor().read(block=False),
        lambda: list(stream),
    ]
    for use in uses:
        with pytest.raises(error):
            use()
    assert copy.streams["plain"][:] == []
    assert copy.streams["special"] is stream
    assert Stream(stream.event_stream)[:] == []


@pytest.mark.parametrize("plugin", [None, "", 5, ["good"], {}], ids=repr)
def test_a_plugin_that_is_no_name_means_a_plain_stream(
    memory_store: DataStore, plugin: Any
) -> None:
    assert type(loaded_scan(memory_store, plugin).streams["special"]) is Stream


def test_stand_ins_are_streams_of_one_family() -> None:
    assert issubclass(MissingPluginStream, BrokenStream)
    assert issubclass(BrokenPluginStream, BrokenStream)
    assert issubclass(BrokenStream, BaseStream)
