"""Arrays compared as h5py's users would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def same(found: Any, expected: Any) -> None:
    """Same dtype (text is text), same shape, same values, nan included."""
    assert isinstance(found, np.ndarray)
    expected = np.asarray(expected)
    assert kind(found.dtype) == kind(expected.dtype)
    assert found.shape == expected.shape
    for name in found.dtype.names or ():
        same(found[name], expected[name])  # as a whole, structures with nan are never equal
    if not found.dtype.names:
        np.testing.assert_array_equal(found, expected)


def kind(dtype: np.dtype[Any]) -> Any:
    """A dtype without its offsets, with what h5py keeps in its metadata."""
    if dtype.fields:
        return [(name, kind(dtype.fields[name][0])) for name in dtype.names or ()]
    return (dtype.metadata or {}).get("vlen", dtype.str)


@pytest.fixture
def assert_same() -> Callable[[Any, Any], None]:
    """Compares what was found with what was expected."""
    return same
