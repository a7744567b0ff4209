"""Lima's tests: blocks built by hand, and a camera that serves them through Tango."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lima_kit import LONG_S, Camera, Files

from blissdata.lima import device


@pytest.fixture(scope="session")
def camera_server() -> Iterator[Camera]:
    camera = Camera()
    yield camera
    camera.close()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera is waited for: Tango gives one that is silent for 3 s up, and the machine may be busy."""
    as_ever = device._tango

    def patiently() -> tuple[Any, Any]:
        proxy_class, source = as_ever()

        def proxy(url: str) -> Any:
            made = proxy_class(url)
            made.set_timeout_millis(int(LONG_S * 1000))
            return made

        return proxy, source

    monkeypatch.setattr(device, "_tango", patiently)


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
