"""The tree of errors is the one that is drawn, and nothing is left out of it."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

from blissdata import exceptions
from blissdata.exceptions import (
    BlissdataError,
    MissingPluginException,
    ScanNotFoundError,
    UnauthorizeStateTransition,
)

ERRORS = {
    name: found
    for name, found in vars(exceptions).items()
    if inspect.isclass(found) and found.__module__ == exceptions.__name__
}

CLIENTS_IMPORT = [
    "EndOfStream",
    "IndexNoMoreThereError",
    "IndexNotYetThereError",
    "IndexWontBeThereError",
    "NoScanAvailable",
    "NoWritePermission",
    "ScanLoadError",
    "ScanNotFoundError",
    "ScanValidationError",
    "UnauthorizeStateTransition",
    "UnknownEncodingError",
    "EmptyViewException",
    "MissingPluginException",
]
"""The names that existing programs import from `blissdata.exceptions`."""


def drawn_tree() -> dict[str, tuple[str, str | None]]:
    """From the drawing: for each error its parent, and the builtin mixed in."""
    tree: dict[str, tuple[str, str | None]] = {}
    path: list[str] = []
    for line in (exceptions.__doc__ or "").splitlines():
        found = re.match(r"    ((?:[│ ]   )*)(?:[├└]── )?(\w+)\s*(?:\((\w+)\))?", line)
        if not found or "──" not in line:
            if line.strip() == "BlissdataError":
                path = ["BlissdataError"]
            continue
        depth = len(found[1]) // 4 + 1
        path[depth:] = [found[2]]
        tree[found[2]] = (path[depth - 1], found[3])
    return tree


def real_tree() -> dict[str, tuple[str, str | None]]:
    tree = {}
    for name, error in ERRORS.items():
        if error is BlissdataError:
            continue
        ours = [base.__name__ for base in error.__bases__ if issubclass(base, BlissdataError)]
        builtins = [base.__name__ for base in error.__bases__ if base.__module__ == "builtins"]
        assert len(ours) == 1, f"{name} hangs on {ours}"
        assert len(builtins) <= 1
        assert ours + builtins == [base.__name__ for base in error.__bases__]
        tree[name] = (ours[0], builtins[0] if builtins else None)
    return tree


def test_the_drawing_is_the_tree() -> None:
    assert drawn_tree() == real_tree()


def test_all_names_every_error() -> None:
    assert sorted(exceptions.__all__) == sorted(ERRORS)
    assert exceptions.__all__ == sorted(exceptions.__all__)


@pytest.mark.parametrize("name", CLIENTS_IMPORT)
def test_names_that_clients_import_are_there(name: str) -> None:
    assert issubclass(ERRORS[name], BlissdataError)


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_every_error_says_what_it_is_for(name: str) -> None:
    assert inspect.getdoc(ERRORS[name])


def made(error: type[Exception]) -> Exception:
    if error is UnauthorizeStateTransition:
        return UnauthorizeStateTransition("CREATED", "STOPPED", "hint")
    if error is MissingPluginException:
        return MissingPluginException("diode", "lima", "hint")
    return error("what went wrong")


@pytest.mark.parametrize("name", sorted(ERRORS))
@pytest.mark.parametrize("clone", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])  # noqa: S301
def test_errors_travel_between_processes(name: str, clone: Any) -> None:
    error = made(ERRORS[name])
    again = clone(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_messages_are_shown_as_they_were_written() -> None:
    assert str(ScanNotFoundError("no 'x'")) == "no 'x'"


def test_a_refused_step_keeps_both_states() -> None:
    error = UnauthorizeStateTransition(1, 2)
    assert (error.orig_state, error.dest_state) == (1, 2)
    assert str(error) == "Unauthorize scan transition from 1 to 2"


def test_a_missing_plugin_keeps_both_names() -> None:
    error = MissingPluginException("diode", "lima")
    assert (error.stream_name, error.plugin_name) == ("diode", "lima")
    assert "'diode'" in str(error)
    assert "'lima'" in str(error)
