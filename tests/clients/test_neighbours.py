"""Programs of other packages, installed after ours by pip as they are: what they ask for, and use.

pins          pip keeps ours for each of them, and finds nothing broken
imports       every module of theirs imports, and none by an old path
plugins       streams of lima2 and mosca give with ours what they give with 2.4.5
identities    a redis-om HashModel names scans on every kind of server
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.clients.environments import environment

from blissdata import DataStore, __version__
from blissdata.testing.servers import TestServer

pytestmark = [
    pytest.mark.interop,
    pytest.mark.environments,
]

FOR_OTHER_VERSIONS = {
    "ewoksdata.data.blissdata.blissdatav0",
    "ewoksdata.data.blissdata.blissdatav1",
}
"""Modules that are imported where blissdata 0.x or 1.x is installed, and with no 2.x."""

HERE = Path(__file__).parent

PACKAGES = ["blisswriter", "ewoksdata", "blissdata-lima2", "blissdata-mosca"]


@pytest.fixture(scope="module")
def neighbours() -> Path:
    """The Python of an environment with ours and the neighbours."""
    return environment("ours-writer")


def run(python: Path, *arguments: str) -> str:
    """What the program prints."""
    done = subprocess.run(
        [python, *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    return done.stdout


# ---------------------------------------------------------------------------------- pins, imports

DISTRIBUTIONS = """
import importlib.metadata as metadata, json, sys
from packaging.requirements import Requirement
ours = metadata.distribution("blissdata")
pins = {}
for package in sys.argv[1:]:
    for text in metadata.requires(package):
        asked = Requirement(text)
        if asked.name == "blissdata":
            extras = set(ours.metadata.get_all("Provides-Extra"))
            pins[f"{package}: {text}"] = [
                asked.specifier.contains(ours.version), sorted(asked.extras - extras)]
print(json.dumps({"version": ours.version, "pins": pins}))
"""

IMPORTS = """
import importlib, json, pkgutil, sys, warnings
failed = {}
for package in sys.argv[1:]:
    top = importlib.import_module(package.replace("-", "_"))
    for module in pkgutil.walk_packages(top.__path__, top.__name__ + "."):
        if "tests" in module.name:
            continue
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "'blissdata", FutureWarning)
                importlib.import_module(module.name)
        except BaseException as error:
            failed[module.name] = repr(error)
print(json.dumps(failed))
"""


def test_pip_keeps_ours_for_each_of_them(neighbours: Path) -> None:
    found = json.loads(run(neighbours, "-c", DISTRIBUTIONS, *PACKAGES))
    assert found["version"] == __version__
    assert {text.partition(":")[0] for text in found["pins"]} == set(PACKAGES)
    assert set(map(json.dumps, found["pins"].values())) == {"[true, []]"}
    assert "No broken requirements found" in run(neighbours, "-m", "pip", "check")


def test_every_module_of_theirs_imports(neighbours: Path) -> None:
    failed = json.loads(run(neighbours, "-W", "ignore", "-c", IMPORTS, *PACKAGES))
    assert set(failed) == FOR_OTHER_VERSIONS


# ---------------------------------------------------------------------------------- plugins


@pytest.fixture(scope="module")
def with_2x(shared_stack_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What streams of the plugins give with 2.4.5."""
    python = environment("peer-writer")
    with shared_stack_server.client() as client:
        client.flushall()
    DataStore(shared_stack_server.url, init_db=True).close()
    return driven(python, shared_stack_server, tmp_path_factory.mktemp("peer"))


def driven(python: Path, server: TestServer, directory: Path) -> Any:
    program = str(HERE / "plugins_program.py")
    text = run(python, "-W", "ignore", program, server.url, str(directory))
    return json.loads(text.replace(str(directory), "DIRECTORY"))


@pytest.mark.parametrize("kind", ["server", "stack_server"])
def test_streams_of_other_plugins_give_what_they_give_with_2x(
    with_2x: Any,
    neighbours: Path,
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    server: TestServer = request.getfixturevalue(kind)
    DataStore(server.url, init_db=True).close()
    found = driven(neighbours, server, tmp_path)
    assert found == with_2x
    # … and that is what was sent, and saved.
    assert found["group 2"] == [["lima2", 0, 2], ["mosca", 0, 3]]
    assert found["lima2 now"][0] == 3
    last_frame = [[12, 13, 14], [15, 16, 17]]
    assert found["lima2 sealed"][2] == ["uint16", [2, 3], last_frame]


def test_streams_of_other_plugins_are_asked_where_their_points_are(
    neighbours: Path, server: TestServer, tmp_path: Path
) -> None:
    """They know nothing of places. How many points there are is all that can be said; where the plugin
    must ask a detector for that, and it does not answer, not even that."""
    DataStore(server.url, init_db=True).close()
    program = str(HERE / "plugins_program.py")
    found = json.loads(run(neighbours, "-W", "ignore", program, server.url, str(tmp_path), "where"))
    lima2, mosca = found["lima2"], found["mosca"]
    assert (lima2["length"], lima2["problem"]) == (3, None)
    assert lima2["unknown"] == [[0, 3]]
    assert not any(lima2[place] for place in ("memory", "file", "detector", "pending", "gone"))
    assert (found["lima2 waited"], found["lima2 missed"]) == (3, "DataTimeoutError")
    assert mosca["problem"]
    assert mosca["length"] == 0
    assert found["mosca waited"] == "ConnectionFailed"


# ---------------------------------------------------------------------------------- identities


@pytest.mark.parametrize("kind", ["server", "stack_server"])
def test_a_redis_om_model_is_an_identity(
    neighbours: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    server: TestServer = request.getfixturevalue(kind)
    DataStore(server.url, init_db=True).close()
    found = json.loads(run(neighbours, str(HERE / "identities_program.py"), server.url))
    assert found == {
        "prefixes": [["bl99", "scan"], ["bl99", "scan"]],
        "fields": ["tomo", 8, "steel", None],
        "refused": [["number"]],
        "number": True,
        "sample": True,
        "all": True,
        "newest": True,
    }
