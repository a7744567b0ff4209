"""Beacon and stores together: `DataStore()` asks it, `blissdata serve --beacon` answers in its place."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from blissdata import DataStore
from blissdata.beacon.data import BeaconData
from blissdata.beacon.files import BeaconFiles
from blissdata.beacon.responder import Responder
from blissdata.cli import main
from blissdata.exceptions import (
    LocalServerError,
    ProtocolVersionError,
    StoreConnectionError,
    StoreError,
)
from blissdata.redis_engine.local_server import ServerOptions, ensure_running, serve, status, stop
from blissdata.testing.servers import TestServer

IDENTITY = {"name": "loopscan", "number": 1, "data_policy": "none"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home for one test, and no other way to a store; what runs there is stopped."""
    with tempfile.TemporaryDirectory(prefix="bd-", dir="/tmp") as runtime:
        monkeypatch.setenv("BLISSDATA_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        monkeypatch.delenv("BLISSDATA_URL", raising=False)
        monkeypatch.delenv("BEACON_HOST", raising=False)
        yield tmp_path / "home"
        stop()


def announced(monkeypatch: pytest.MonkeyPatch) -> str:
    """What `$BEACON_HOST` is now."""
    address = status().beacon
    assert address
    monkeypatch.setenv("BEACON_HOST", address)
    return address


class TestDataStore:
    def test_beacon_names_the_store(
        self, plain_store: DataStore, server: TestServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = plain_store.create_scan(IDENTITY).key
        with Responder(server.url, "127.0.0.1:0") as responder:
            monkeypatch.setenv("BEACON_HOST", responder.address)
            with DataStore() as store:
                assert store.search_existing_scans()[1] == [key]
        assert not status().running

    def test_a_url_in_the_environment_comes_first(
        self, plain_store: DataStore, server: TestServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BEACON_HOST", "127.0.0.1:1")
        monkeypatch.setenv("BLISSDATA_URL", server.url)
        DataStore().close()

    def test_a_server_that_is_not_prepared_is_left_so_unless_asked(
        self, server: TestServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Responder(server.url, "127.0.0.1:0") as responder:
            monkeypatch.setenv("BEACON_HOST", responder.address)
            with pytest.raises(ProtocolVersionError, match="not prepared"):
                DataStore()
            DataStore(init_db=True).close()

    def test_a_beacon_that_does_not_answer_is_no_reason_to_use_another_store(
        self, scripted: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = scripted(lambda *_: None)
        monkeypatch.setenv("BEACON_HOST", f"127.0.0.1:{gone.port}")
        for kind in (StoreConnectionError, redis.ConnectionError, ConnectionError):
            with pytest.raises(kind, match=f"127.0.0.1:{gone.port}.*BLISSDATA_URL"):
                DataStore()
        assert not status().running

    def test_one_that_refuses_says_why(
        self, scripted: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refusing = scripted(lambda *_: (33, b"1|there is no database"))
        monkeypatch.setenv("BEACON_HOST", f"127.0.0.1:{refusing.port}")
        with pytest.raises(StoreError, match=r"there is no database.*BLISSDATA_URL"):
            DataStore()

    def test_an_address_that_is_none_is_named(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("BEACON_HOST", "nowhere")
        with pytest.raises(ValueError, match=r"BEACON_HOST.*'nowhere'"):
            DataStore()
        assert main(["ls"]) == 1
        assert capsys.readouterr().err.startswith(
            "blissdata: $BEACON_HOST variable not properly set"
        )


class TestServe:
    def test_who_knows_only_beacon_finds_the_local_server(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "x.yml").write_text("a: 1\n")
        arguments = ["serve", "--background", "--beacon", "127.0.0.1:0"]
        assert main([*arguments, "--beacon-files", str(tmp_path / "config")]) == 0
        address = announced(monkeypatch)
        assert f"export BEACON_HOST={address}" in capsys.readouterr().out
        with DataStore() as store:  # prepared, though no DataStore had made it so
            key = store.create_scan(IDENTITY).key
        with BeaconData() as data, BeaconFiles() as files:
            assert data.get_redis_db() == data.get_redis_data_db() == status().url
            assert files.get_file("x.yml") == b"a: 1\n"
        monkeypatch.delenv("BEACON_HOST")
        with DataStore() as store:
            assert store.search_existing_scans()[1] == [key]
        assert main(["status"]) == 0
        assert f"answers at {address}" in capsys.readouterr().out
        assert main(["status", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["beacon"] == address
        assert main(["stop"]) == 0
        with pytest.raises(ConnectionError):
            BeaconData(*_split(address)).get_redis_db()

    def test_after_a_crash_the_new_socket_is_announced(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        serve(background=True, options=ServerOptions(beacon="127.0.0.1:0"))
        address, before = announced(monkeypatch), status()
        os.kill(before.pid or 0, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while (now := status()).pid in (None, before.pid) or not now.running:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with BeaconData(*_split(address)) as data:
            while data.get_redis_data_db() != now.url:  # it answers a moment before that is told
                assert time.monotonic() < deadline
                time.sleep(0.02)
        DataStore().close()

    def test_a_server_without_it_has_to_be_stopped_first(self) -> None:
        ensure_running()
        with pytest.raises(
            LocalServerError,
            match=r"runs already, without --beacon, and .* is --beacon 127\.0\.0\.1:25000",
        ):
            serve(background=True, options=ServerOptions(beacon="127.0.0.1:25000"))

    def test_a_port_in_use_is_told_and_nothing_is_left_running(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert main(["serve", "--background", "--beacon", f"127.0.0.1:{port}"]) == 1
        assert (
            f"Cannot listen at 127.0.0.1:{port}: Address already in use" in capsys.readouterr().err
        )
        assert not status().running

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--beacon", "--port", "6380"], "a server at TCP has a password"),
            (["--beacon", "0.0.0.0:25000"], "other machines cannot reach"),
            (["--beacon", "nowhere"], "'nowhere'"),
            (["--beacon", "--beacon-files", "/no/such/place"], "/no/such/place is none"),
            (["--beacon-files", "/tmp"], "needs beacon"),
        ],
    )
    def test_what_cannot_be_is_refused_before_anything_starts(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["serve", *arguments])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
        assert not status().running


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
