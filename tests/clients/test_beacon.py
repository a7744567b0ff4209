"""The Beacon client of 2.4.5, in its own environment, asks our responder."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.clients.environments import environment

from blissdata.beacon.responder import Responder

PROGRAM = """
import json, sys
from blissdata.beacon.data import BeaconData
from blissdata.beacon.files import BeaconFiles, read_config

def told(call):
    try:
        found = call()
    except Exception as error:
        return {"error": [kind.__name__ for kind in type(error).__mro__], "text": str(error)}
    return found.decode() if isinstance(found, bytes) else found

data, files = BeaconData(), BeaconFiles()
print(json.dumps({
    "settings": told(data.get_redis_db),
    "scans": told(data.get_redis_data_db),
    "given": told(lambda: data.get("fruit")),
    "set": told(lambda: data.set("line", "a|b é")),
    "set then": told(lambda: data.get("line")),
    "undefined": told(lambda: data.get("nothing")),
    "default": told(lambda: data.get("nothing", "default")),
    "file": told(lambda: files.get_file("sub/x.yml")),
    "outside": told(lambda: files.get_file("../outside.txt")),
    "tree": told(files.get_tree),
    "no tree": told(lambda: files.get_tree("none")),
    "config": told(lambda: read_config("beacon:///sub/x.yml")),
}))
"""


@pytest.mark.usefixtures("peer_is_there")
@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("unix:///tmp/some.sock", "unix:///tmp/some.sock"),
        ("redis://localhost:6380", "redis://localhost:6380"),
    ],
)
def test_it_understands_every_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str, told: str
) -> None:
    (tmp_path / "config" / "sub").mkdir(parents=True)
    (tmp_path / "config" / "sub" / "x.yml").write_text("a: [1, 2]\n")
    (tmp_path / "outside.txt").write_text("secret")
    with Responder(store, "127.0.0.1:0", tmp_path / "config", {"fruit": "apple"}) as responder:
        monkeypatch.setenv("BEACON_HOST", responder.address)
        done = subprocess.run(
            [environment("peer"), "-W", "ignore", "-c", PROGRAM],
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        )
    found = json.loads(done.stdout)
    undefined, outside, no_tree = (found.pop(name) for name in ("undefined", "outside", "no tree"))
    assert found == {
        "settings": told,
        "scans": told,
        "given": "apple",
        "set": None,
        "set then": "a|b é",
        "default": "default",
        "file": "a: [1, 2]\n",
        "tree": {"sub": {"x.yml": None}},
        "config": {"a": [1, 2]},
    }
    assert undefined["error"][0] == "KeyError"
    assert outside["error"][0] == "RuntimeError"
    assert outside["text"] == "there is no file '../outside.txt', or it is not served"
    assert no_tree["text"] == "there is no directory 'none', or it is not served"
