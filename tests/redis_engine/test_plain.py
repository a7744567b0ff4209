"""What the plain backend says of its server."""

from __future__ import annotations

from blissdata.redis_engine.backends.connect import open_backend
from blissdata.testing.servers import TestServer


def test_the_server_is_named_with_its_own_version(server: TestServer) -> None:
    with server.client() as client:
        raw = client.info("server")
    backend = open_backend(server.url, prepare=True)
    try:
        info = backend.info()
    finally:
        backend.close()
    assert info.server == f"{raw['server_name']} {raw['valkey_version']}"
    assert (info.kind, info.protocol) == ("plain", 1001)
