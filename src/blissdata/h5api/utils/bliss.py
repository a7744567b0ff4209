"""The same for files as BLISS writes them: scans that begin and end, detectors with files of their own.

/1.1                        a scan: `/<n>.<m>`
    end_time                there once it is finished
    writer/status           STARTING, then RUNNING (all groups are made), SUCCEEDED or FAILED
    instrument/<lima>/data  images: virtual, and often only made when the scan ends
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import h5py

from blissdata.h5api.utils.hdf5 import DynamicHDF5Handler, Item
from blissdata.h5api.utils.lima import LimaDataset

__all__ = ["BlissDynamicHDF5Handler"]

_SCAN = re.compile(r"\d+\.\d+")
_IMAGES = re.compile(r"/\d+\.\d+/instrument/(?P<lima>[^/]+)/data")
_INITIALIZED = ("RUNNING", "SUCCEEDED", "FAILED")


class BlissDynamicHDF5Handler(DynamicHDF5Handler):
    """Reads a file while BLISS writes it.

    A scan `/<n>.<m>` is finished once it has `end_time`; what is outside of scans never is. Names are
    complete once the scan is finished or `writer/status` says that it runs or ran.

    `lima_names`: detectors whose own files stand in for `/<n>.<m>/instrument/<lima>/data` while that
    is not in the file, or always, with `prioritize_non_native_h5items`; see
    `blissdata.h5api.utils.lima` for `lima_url_template` and its args. `instrument_name` is
    deprecated: it is one of these args.
    """

    def __init__(
        self,
        *args: Any,
        lima_names: Sequence[str] = (),
        instrument_name: str | None = None,
        lima_url_template: str | None = None,
        lima_url_template_args: Mapping[str, str] | None = None,
        prioritize_non_native_h5items: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        template_args = dict(lima_url_template_args or {})
        if instrument_name:
            warnings.warn(
                "`instrument_name` is deprecated: put it into `lima_url_template_args`",
                DeprecationWarning,
                stacklevel=4,
            )
            template_args.setdefault("instrument_name", instrument_name)
        self._lima_names = {lima_names} if isinstance(lima_names, str) else set(lima_names)
        self._template = lima_url_template
        self._template_args = template_args
        self._files_first = prioritize_non_native_h5items
        self._lima: dict[str, LimaDataset] = {}

    def reset(self) -> None:
        super().reset()
        with self._lock:
            for dataset in self._lima.values():
                dataset.reset()

    def _is_initialized(self, item: Item) -> bool:
        scan = self._scan_of(item)
        if scan is None:
            return False
        return "end_time" in scan or self._writer_status(scan) in _INITIALIZED

    def _is_finished(self, item: Item) -> bool:
        scan = self._scan_of(item)
        return scan is not None and "end_time" in scan

    def _scan_of(self, item: Item) -> h5py.Group | None:
        """The scan that the item is in; None outside of scans."""
        name = (item.name or "/").lstrip("/").partition("/")[0]
        if not _SCAN.fullmatch(name):
            return None
        file = self._file() if isinstance(item, LimaDataset) else item.file
        scan = file.get(name)
        return scan if isinstance(scan, h5py.Group) else None

    @staticmethod
    def _writer_status(scan: h5py.Group) -> str | None:
        status = scan.get("writer/status")
        if not isinstance(status, h5py.Dataset) or status.shape != ():
            return None
        text = status[()]
        return text.decode(errors="replace") if isinstance(text, bytes) else str(text)

    def _find(self, name: str) -> Item:
        if self._files_first and self._is_images(name):
            self._file()  # no scans, no images
            return self._images(name)
        try:
            return super()._find(name)
        except KeyError:
            where, target = self._where_it_ends(name)
            if where is None or not self._is_images(target):
                raise
            images = self._images(target)
            if self._is_finished(where) and not images.has_files():
                raise
            return images

    def _is_images(self, name: str) -> bool:
        found = _IMAGES.fullmatch(name)
        return found is not None and found["lima"] in self._lima_names

    def _images(self, name: str) -> LimaDataset:
        dataset = self._lima.get(name)
        if dataset is None:
            dirname = os.path.dirname(self._path)
            dataset = LimaDataset(name, dirname, self._template, self._template_args)
            self._lima[name] = dataset
        return dataset
