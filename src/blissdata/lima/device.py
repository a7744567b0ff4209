"""A detector's Lima server, asked through Tango. It is met at the first question, not before.

Under gevent's monkey-patching it is Tango's own cooperative client that asks.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from blissdata.exceptions import ImageServerError, MissingExtraError
from blissdata.lima.image_data import ImageData
from blissdata.lima.image_utils import image_from_server, tango_description

__all__ = ["LimaDevice"]

_LAST_INDEX_SINCE = (1, 10, 0)
"""From this version of Lima on, `readImage(-1)` is right in accumulation too."""

_ACCUMULATION = "ACCUMULATION"
_INTERNAL_TRIGGER = "INTERNAL_TRIGGER"


class LimaDevice:
    """One Lima server. Each question is a round trip to it, or several.

    What it refuses is an `ImageServerError`; so is silence. `MissingExtraError` without PyTango."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._proxy: Any = None
        self._knows_last_index: bool | None = None

    @property
    def proxy(self) -> Any:
        """Tango's `DeviceProxy`, which asks the device itself, not Tango's polling buffer."""
        if self._proxy is None:
            proxy_class, source = _tango()
            try:
                proxy = proxy_class(self._url)
                proxy.set_source(source)
            except Exception as error:
                said = tango_description(error)
                if said is None:
                    raise
                raise ImageServerError(
                    f"The detector at {self._url} cannot be reached: {said}"
                ) from error
            self._proxy = proxy
        return self._proxy

    def image(self, index: int) -> ImageData:
        """The frame with that index in the detector's current acquisition."""
        try:
            return image_from_server(self.proxy, index)
        except AttributeError as error:
            raise ImageServerError(
                f"The device at {self._url} has no command 'readImage': it is no Lima server"
            ) from error

    def newest(self, last_index: int) -> ImageData:
        """The newest frame, of whatever the detector acquires now. `last_index` is the newest that
        is known of. Raises `NoImageAvailable` before the first."""
        index = -1
        if not self._has_last_index() and self._attribute("acq_mode") == _ACCUMULATION:
            index = int(self._attribute("last_image_ready"))
        image = self.image(index)
        frame_id = image.frame_id
        if (
            frame_id == 0
            and last_index != 0
            and self._attribute("acq_trigger_mode") == _INTERNAL_TRIGGER
        ):
            frame_id = None  # it may as well be that this detector does not count
        return ImageData(image.array, frame_id, None)

    def acq_trigger_mode(self) -> str:
        """How the detector is triggered."""
        return str(self._attribute("acq_trigger_mode"))

    def _has_last_index(self) -> bool:
        if self._knows_last_index is None:
            try:
                version = str(self._attribute("lima_version"))
            except ImageServerError:
                version = ""  # older than the attribute
            numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
            self._knows_last_index = numbers >= _LAST_INDEX_SINCE[: max(1, len(numbers))]
        return self._knows_last_index

    def _attribute(self, name: str) -> Any:
        proxy = self.proxy
        try:
            return getattr(proxy, name)
        except Exception as error:
            said = tango_description(error)
            if said is None and not isinstance(error, AttributeError):
                raise
            why = said or "it has no such attribute"
            raise ImageServerError(
                f"The detector at {self._url} does not tell its '{name}': {why}"
            ) from error


def _tango() -> tuple[Any, Any]:
    """The class of proxies, and the source to ask."""
    try:
        import tango
    except ImportError as error:
        raise MissingExtraError(
            'The buffer of a Lima detector is read through Tango: pip install "blissdata[tango]"'
        ) from error
    if _patched_by_gevent():
        from tango.gevent import DeviceProxy

        return DeviceProxy, tango.DevSource.DEV
    return tango.DeviceProxy, tango.DevSource.DEV


def _patched_by_gevent() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))
