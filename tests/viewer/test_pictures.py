"""An image as a screen shows it: numpy on the whole image says what is right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blissdata.viewer.pictures import Limits, limits_of, pictured, step_for


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 12),
    st.sampled_from(["u1", "u2", "u4", "i2", "i4", "f4", "f8", "?"]),
    st.integers(0, 2**32 - 1),
)
def test_each_pixel_is_the_highest_of_its_block(
    rows: int, columns: int, step: int, dtype: str, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 200, (rows, columns)).astype(dtype)
    found = pictured(image, step)
    expected = [
        [image[r : r + step, c : c + step].max() for c in range(0, columns, step)]
        for r in range(0, rows, step)
    ]
    assert found.pixels.tolist() == np.array(expected).tolist()
    assert found.pixels.dtype == image.dtype
    assert (found.rows, found.columns, found.step) == (rows, columns, step)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 3000), st.integers(1, 3000))
def test_what_is_made_fits_and_no_smaller_step_would_do(
    rows: int, columns: int, high: int, wide: int
) -> None:
    step = step_for((rows, columns), (high, wide))
    assert -(-rows // step) <= high
    assert -(-columns // step) <= wide
    assert step == 1 or -(-rows // (step - 1)) > high or -(-columns // (step - 1)) > wide


def test_the_limits_are_those_of_the_whole_image() -> None:
    image = np.zeros((64, 64), "i4")
    image[3, 5], image[60, 60] = -7, 100
    assert pictured(image, 8).limits == Limits(-7.0, 100.0, 100.0)


def test_what_is_not_finite_is_outside_the_limits_and_hides_nothing() -> None:
    image = np.array([[np.nan, 1.0, np.nan, np.nan], [2.0, -np.inf, np.nan, np.nan]])
    found = pictured(image, 2)
    assert found.limits == Limits(1.0, 2.0, 1.0)
    assert found.pixels[0, 0] == 2.0
    assert np.isnan(found.pixels[0, 1])


@pytest.mark.parametrize("image", [np.full((2, 2), np.nan), np.zeros((0, 4)), np.zeros((3, 0))])
def test_without_a_finite_number_there_are_no_limits(image: np.ndarray) -> None:
    assert limits_of(image) is None


def test_masked_pixels_are_neither_bright_nor_contagious() -> None:
    image = np.array([[2**32 - 1, 3], [4, 2**32 - 1]], "u4")
    assert pictured(image, 2).pixels.tolist() == [[4]]
    assert pictured(image, 1).limits == Limits(3.0, 4.0, 3.0)
    assert pictured(np.full((2, 2), 2**32 - 1, "u4"), 2).pixels.tolist() == [[2**32 - 1]]


def test_complex_numbers_are_drawn_by_their_magnitude() -> None:
    found = pictured(np.array([[3 + 4j, 0]]), 1)
    assert found.pixels.tolist() == [[5.0, 0.0]]
    assert found.limits == Limits(0.0, 5.0, 5.0)
