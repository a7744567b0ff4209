"""VIDEO_IMAGE blocks, built byte by byte.

grey        Y8 … Y64, as they are
colour      RGB as it is; the others against what they mean, worked out by hand (OpenCV converts)
no frame    frame number -1
refused     each field that may lie, every wrong length, modes that nobody converts
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from lima_blocks import video_block

from blissdata.exceptions import MissingExtraError
from blissdata.lima.image_utils import (
    VIDEO_MODES,
    ImageFormatNotSupported,
    decode_devencoded_video,
    decode_rgb_data,
)

RED, GREEN, BLUE = 200, 100, 52

ROUNDING = 2
"""Of conversions between colour spaces, per channel."""


def picture(pixels: bytes, width: int, height: int, mode: VIDEO_MODES) -> Any:
    """The array that a block with these pixels decodes to."""
    image = decode_devencoded_video(
        ("VIDEO_IMAGE", video_block(pixels, width, height, mode.value, 5))
    )
    assert image is not None
    assert (image.frame_id, image.acq_tag) == (5, None)
    image.array[:1] = image.array[:1]  # writable
    return image.array


@pytest.mark.parametrize(
    ("mode", "dtype"),
    [("Y8", "uint8"), ("Y16", "uint16"), ("Y32", "int32"), ("Y64", "int64")],
)
def test_grey_comes_as_it_is(mode: str, dtype: str) -> None:
    array = np.arange(-3, 9).reshape(3, 4).astype(dtype)
    found = picture(array.tobytes(), 4, 3, VIDEO_MODES[mode])
    np.testing.assert_array_equal(found, array, strict=True)


@pytest.mark.parametrize(("mode", "channels"), [("RGB24", 3), ("RGB32", 4)])
def test_rgb_comes_as_it_is(mode: str, channels: int) -> None:
    array = np.arange(3 * 4 * channels, dtype=np.uint8).reshape(3, 4, channels)
    found = picture(array.tobytes(), 4, 3, VIDEO_MODES[mode])
    np.testing.assert_array_equal(found, array, strict=True)
    alone = decode_rgb_data(b"xy" + array.tobytes(), 4, 3, VIDEO_MODES[mode], 2)
    np.testing.assert_array_equal(alone, array, strict=True)


def test_bgr_is_turned_round() -> None:
    array = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    found = picture(array.tobytes(), 4, 3, VIDEO_MODES.BGR24)
    np.testing.assert_array_equal(found, array[..., ::-1], strict=True)


def mosaic(first_row: tuple[int, int], second_row: tuple[int, int], dtype: str) -> bytes:
    """A sensor of 8 × 6 pixels behind colour filters, all of one colour."""
    return np.tile(np.array([first_row, second_row], dtype), (3, 4)).tobytes()


@pytest.mark.parametrize(
    ("mode", "rows", "dtype"),
    [
        ("BAYER_RG8", ((RED, GREEN), (GREEN, BLUE)), "u1"),
        ("BAYER_BG8", ((BLUE, GREEN), (GREEN, RED)), "u1"),
        ("BAYER_RG16", ((RED << 4, GREEN << 4), (GREEN << 4, BLUE << 4)), "<u2"),
        ("BAYER_BG16", ((BLUE << 4, GREEN << 4), (GREEN << 4, RED << 4)), "<u2"),
    ],
)
def test_a_mosaic_of_one_colour_is_that_colour(mode: str, rows: Any, dtype: str) -> None:
    found = picture(mosaic(*rows, dtype), 8, 6, VIDEO_MODES[mode])
    expected = np.full((6, 8, 3), (RED, GREEN, BLUE), np.uint8)
    np.testing.assert_array_equal(found, expected, strict=True)


def luma_and_chroma() -> tuple[int, int, int]:
    """The colour in ITU-R BT.601, studio swing."""
    y = 16 + 0.257 * RED + 0.504 * GREEN + 0.098 * BLUE
    u = 128 - 0.148 * RED - 0.291 * GREEN + 0.439 * BLUE
    v = 128 + 0.439 * RED - 0.368 * GREEN - 0.071 * BLUE
    return round(y), round(u), round(v)


def test_a_planar_yuv_picture_of_one_colour_is_that_colour() -> None:
    y, u, v = luma_and_chroma()
    planes = bytes([y] * 48 + [u] * 12 + [v] * 12)
    found = picture(planes, 8, 6, VIDEO_MODES.I420)
    assert (found.shape, found.dtype) == ((6, 8, 3), np.uint8)
    assert np.abs(found.astype(int) - (RED, GREEN, BLUE)).max() <= ROUNDING


def test_a_packed_yuv_picture_of_one_colour_is_that_colour() -> None:
    y, u, v = luma_and_chroma()
    found = picture(bytes([u, y, v, y] * 24), 8, 6, VIDEO_MODES.YUV422PACKED)
    assert (found.shape, found.dtype) == ((6, 8, 3), np.uint8)
    assert np.abs(found.astype(int) - (RED, GREEN, BLUE)).max() <= ROUNDING


def test_a_yuv_picture_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ImageFormatNotSupported):
        picture(bytes(7 * 5 + 7 * 2), 7, 5, VIDEO_MODES.I420)


def test_a_detector_without_frames_has_no_picture() -> None:
    assert decode_devencoded_video(video_block(b"", 0, 0, 77, -1, endianness=9)) is None


SUPPORTED = {
    "Y8 Y16 Y32 Y64 RGB24 RGB32 BGR24 BAYER_RG8 BAYER_RG16 BAYER_BG8 BAYER_BG16 I420 YUV422PACKED"
}


def test_modes_that_nobody_converts_are_refused() -> None:
    supported = set(" ".join(SUPPORTED).split())
    others = [mode for mode in VIDEO_MODES if mode.name not in supported]
    assert len(others) == 8
    for mode in others:
        with pytest.raises(ImageFormatNotSupported, match=f"mode {mode.name} is not supported"):
            decode_devencoded_video(video_block(bytes(96), 8, 6, mode.value))
        with pytest.raises(ValueError, match="not supported"):
            decode_rgb_data(bytes(96), 8, 6, mode)


def test_grey_is_no_colour() -> None:
    with pytest.raises(ValueError, match="those in colour are RGB24"):
        decode_rgb_data(bytes(48), 8, 6, VIDEO_MODES.Y8)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"magic": 1}, "0x1"),
        ({"version": 0}, "version 0"),
        ({"version": 2}, "version 2"),
        ({"endianness": 1}, "endianness 1"),
        ({"header_size": 31}, "31 bytes"),
        ({"header_size": 40}, "88 bytes of pixels, expected 96"),
        ({"header_size": 60000}, "60000 bytes"),
    ],
    ids=str,
)
def test_a_field_that_lies_is_refused(changed: dict[str, int], why: str) -> None:
    with pytest.raises(ImageFormatNotSupported, match=why):
        decode_devencoded_video(video_block(bytes(96), 8, 6, VIDEO_MODES.Y16.value, **changed))


@pytest.mark.parametrize(("width", "height"), [(-8, 6), (8, -6), (-8, -6), (2**31 - 1, 2**31 - 1)])
def test_a_size_that_lies_is_refused(width: int, height: int) -> None:
    for mode in (VIDEO_MODES.Y16, VIDEO_MODES.RGB24):
        with pytest.raises(ImageFormatNotSupported):
            decode_devencoded_video(video_block(bytes(96), width, height, mode.value))


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ImageFormatNotSupported, match="mode 21"):
        decode_devencoded_video(video_block(bytes(96), 8, 6, 21))


@pytest.mark.parametrize("mode", ["Y16", "YUV422PACKED"])
def test_a_block_of_any_other_length_is_refused(mode: str) -> None:
    block = video_block(bytes(96), 8, 6, VIDEO_MODES[mode].value)
    for length in range(len(block)):
        with pytest.raises(ImageFormatNotSupported):
            decode_devencoded_video(block[:length])
    with pytest.raises(ImageFormatNotSupported):
        decode_devencoded_video(block + b"x")


def test_a_pair_of_another_kind_is_refused() -> None:
    with pytest.raises(ImageFormatNotSupported, match="VIDEO_IMAGE, not DATA_ARRAY"):
        decode_devencoded_video(("DATA_ARRAY", video_block(bytes(96), 8, 6, 1)))


def test_without_opencv_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"blissdata\[video\]"):
        decode_devencoded_video(video_block(bytes(144), 8, 6, VIDEO_MODES.BGR24.value))
    assert decode_devencoded_video(video_block(bytes(144), 8, 6, VIDEO_MODES.RGB24.value))
