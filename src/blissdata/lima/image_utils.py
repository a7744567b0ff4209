"""Images of Lima detectors, from wherever they are: the names that programs import.

detector ──readImage──────────▶ DATA_ARRAY   decode_devencoded_image ──▶ ImageData
         ──video_last_image───▶ VIDEO_IMAGE  decode_devencoded_video ──▶ ImageData
file     ─────────────────────────────────── image_from_file ──────────▶ array
"""

from __future__ import annotations

from typing import Any

from blissdata.exceptions import ImageFormatNotSupported, ImageServerError, NoImageAvailable
from blissdata.lima.array_block import IMAGE_MODES, decode_devencoded_image
from blissdata.lima.image_data import ImageData
from blissdata.lima.image_files import image_from_file
from blissdata.lima.video_block import VIDEO_MODES, decode_devencoded_video, decode_rgb_data

__all__ = [
    "IMAGE_MODES",
    "VIDEO_MODES",
    "ImageData",
    "ImageFormatNotSupported",
    "NoImageAvailable",
    "decode_devencoded_image",
    "decode_devencoded_video",
    "decode_rgb_data",
    "image_from_file",
    "image_from_server",
    "read_video_last_image",
]

_NOT_YET = "not available yet"
"""What a Lima server says of a frame that it has not taken."""


def image_from_server(proxy: Any, image_index: int) -> ImageData:
    """A frame of the detector's current acquisition, -1: the newest. One round trip to it; `proxy`
    is a Tango `DeviceProxy` of a Lima server.

    Raises `NoImageAvailable` for a frame that is not taken yet, `ImageServerError` (both
    `RuntimeError`) if the server refuses otherwise or nobody answers, `ImageFormatNotSupported`."""
    try:
        raw = proxy.readImage(image_index)
    except Exception as error:
        said = tango_description(error)
        if said is None:
            raise
        if _NOT_YET in said:
            raise NoImageAvailable(
                f"The detector has no image {image_index} yet: {said}"
            ) from error
        raise ImageServerError(f"The detector gives no image {image_index}: {said}") from error
    return decode_devencoded_image(raw)


def read_video_last_image(proxy: Any) -> ImageData | None:
    """The detector's newest picture for the eye; None if it has taken no frame yet. One round trip;
    `proxy` is a Tango `DeviceProxy` of a Lima server."""
    return decode_devencoded_video(proxy.video_last_image)


def tango_description(error: Exception) -> str | None:
    """What a Tango error says, None for any other error. (Tango itself need not be imported.)

    A proxy whose device is away raises an `AttributeError`; Tango's own is its cause."""
    while True:
        said = getattr(error.args[0], "desc", None) if error.args else None
        if isinstance(said, str):
            return said.strip()
        if not isinstance(error.__cause__, Exception):
            return None
        error = error.__cause__
