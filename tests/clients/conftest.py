"""Tests that need environments of other programs.

Without a package index they are skipped, except where `CI` is set: it must not miss them.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from tests.clients.environments import EnvironmentUnavailableError, environment


@pytest.fixture(scope="session")
def peer_is_there() -> None:
    """Builds the environment of 2.4.5 before a test is timed that starts it more than once."""
    environment("peer")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """What a fixture could not build."""
    return (yield from _skipped_without_an_index())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """What the test itself could not build."""
    return (yield from _skipped_without_an_index())


def _skipped_without_an_index() -> Generator[None, object, object]:
    try:
        return (yield)
    except EnvironmentUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
