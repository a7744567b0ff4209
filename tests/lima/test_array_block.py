"""DATA_ARRAY blocks, built byte by byte.

versions      1 to 5 and a far one: what each tells of the frame
types         every pixel type
containers    bytes, bytearray, memoryview, Tango's pair
refused       each field that may lie, and every length that is too short or too long
"""

from __future__ import annotations

import numpy as np
import pytest
from lima_blocks import DATA_TYPES, frame, image_block

from blissdata.exceptions import BlissdataError
from blissdata.lima.image_utils import (
    IMAGE_MODES,
    ImageData,
    ImageFormatNotSupported,
    decode_devencoded_image,
)


@pytest.mark.parametrize(
    ("version", "frame_id", "acq_tag"),
    [
        (1, None, None),
        (2, None, None),
        (3, 2**40, None),
        (4, 2**40, 2**50),
        (5, 2**40, 2**50),
        (999, 2**40, 2**50),
    ],
)
def test_each_version_tells_what_it_knows_of_the_frame(
    version: int, frame_id: int | None, acq_tag: int | None
) -> None:
    block = image_block(frame(0, 1), version, 2**40, 2**50)
    image = decode_devencoded_image(("DATA_ARRAY", block))
    assert isinstance(image, ImageData)
    assert (image.frame_id, image.acq_tag) == (frame_id, acq_tag)
    np.testing.assert_array_equal(image.array, np.arange(48).reshape(6, 8) + 1000)


@pytest.mark.parametrize("dtype", DATA_TYPES)
def test_every_type_of_pixel(dtype: str) -> None:
    array = np.arange(-6, 6).reshape(3, 4).astype(dtype)
    image = decode_devencoded_image(image_block(array)).array
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image, array, strict=True)


def test_the_types_are_numbered_as_lima_numbers_them() -> None:
    assert [mode.name for mode in IMAGE_MODES] == [f"DARRAY_{name.upper()}" for name in DATA_TYPES]
    assert [mode.value for mode in IMAGE_MODES] == list(range(10))


@pytest.mark.parametrize("container", [bytes, bytearray, memoryview])
def test_the_bytes_may_be_in_any_container(container: type) -> None:
    block = container(image_block(frame(0, 3)))
    for raw in (block, ("DATA_ARRAY", block)):
        np.testing.assert_array_equal(decode_devencoded_image(raw).array, frame(0, 3))


def test_the_array_is_ones_own() -> None:
    block = bytearray(image_block(frame(0, 3)))
    image = decode_devencoded_image(block).array
    block[80:] = bytes(96)
    np.testing.assert_array_equal(image, frame(0, 3))
    image[:] = 0


def test_the_pixels_begin_where_the_header_says() -> None:
    block = image_block(frame(0, 3), header_size=100)
    block = block[:80] + bytes(20) + block[80:]
    np.testing.assert_array_equal(decode_devencoded_image(block).array, frame(0, 3))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"version": 0}, "version 0"),
        ({"magic": 0x44544158}, "0x44544158"),
        ({"endianness": 1}, "endianness 1"),
        ({"dimensions": 1}, "1 dimensions"),
        ({"dimensions": 3}, "3 dimensions"),
        ({"data_type": 10}, "data type 10"),
        ({"header_size": 70}, "states 70"),
        ({"header_size": 0}, "states 0"),
        ({"header_size": 65535}, "states 65535"),
        ({"height": 7}, "96 bytes of pixels, expected 112"),
        ({"width": 7}, "96 bytes of pixels, expected 84"),
        ({"height": 65535, "width": 65535}, "96 bytes of pixels, expected 8589672450"),
    ],
    ids=str,
)
def test_a_field_that_lies_is_refused(changed: dict[str, int], why: str) -> None:
    with pytest.raises(ImageFormatNotSupported, match=why):
        decode_devencoded_image(image_block(frame(0, 1), **changed))


def test_a_category_of_any_kind_is_fine() -> None:
    image = decode_devencoded_image(image_block(frame(0, 1), category=7))
    np.testing.assert_array_equal(image.array, frame(0, 1))


@pytest.mark.parametrize("version", [1, 3, 4])
def test_a_block_that_is_cut_anywhere_is_refused(version: int) -> None:
    block = image_block(frame(0, 1), version)
    for length in range(len(block)):
        with pytest.raises(ImageFormatNotSupported):
            decode_devencoded_image(block[:length])
    with pytest.raises(ImageFormatNotSupported, match="97 bytes of pixels"):
        decode_devencoded_image(block + b"x")


def test_a_pair_of_another_kind_is_refused() -> None:
    with pytest.raises(ImageFormatNotSupported, match="DATA_ARRAY, not VIDEO_IMAGE"):
        decode_devencoded_image(("VIDEO_IMAGE", image_block(frame(0, 1))))


@pytest.mark.parametrize("raw", [None, "DATA_ARRAY", 5])
def test_what_is_no_bytes_is_a_type_error(raw: object) -> None:
    with pytest.raises(TypeError):
        decode_devencoded_image(raw)  # type: ignore[arg-type]


def test_the_error_is_caught_as_ours_and_as_a_value_error() -> None:
    assert issubclass(ImageFormatNotSupported, BlissdataError)
    assert issubclass(ImageFormatNotSupported, ValueError)
