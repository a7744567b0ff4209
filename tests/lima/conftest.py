"""Lima's tests: blocks built by hand, and a camera that serves them through Tango."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lima_kit import Camera, Files


@pytest.fixture(scope="session")
def camera_server() -> Iterator[Camera]:
    camera = Camera()
    yield camera
    camera.close()


@pytest.fixture
def camera(camera_server: Camera) -> Camera:
    """A detector that has taken no frame yet, and keeps 4."""
    camera_server.reset()
    return camera_server


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """A directory for the detector's files, which readers may open."""
    monkeypatch.setenv("BLISSDATA_DATA_ROOTS", str(tmp_path))
    return Files(tmp_path)
