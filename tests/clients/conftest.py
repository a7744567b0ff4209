"""Tests that need environments of other programs."""

from __future__ import annotations

import os

import pytest
from tests.clients.environments import EnvironmentUnavailableError, environment


@pytest.fixture(scope="session")
def peer_is_there() -> None:
    """Builds the environment of 2.4.5 before anything is timed; without a package index the tests
    are skipped, except where CI must not miss them."""
    try:
        environment("peer")
    except EnvironmentUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
