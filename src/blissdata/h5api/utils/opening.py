"""HDF5 files are opened by silx: it knows which locks a reader must not take."""

from __future__ import annotations

import os
from typing import Any

import h5py

from blissdata.exceptions import DataFileError, MissingExtraError

try:
    from silx.io import h5py_utils
except ImportError as _missing:
    raise MissingExtraError(
        "Reading HDF5 files needs silx. It comes with blissdata; here it was left out: "
        'pip install "blissdata[files]"'
    ) from _missing

__all__ = ["is_h5py_exception", "open_hdf5"]

is_h5py_exception = h5py_utils.is_h5py_exception


def open_hdf5(path: str | os.PathLike[str], **openargs: Any) -> h5py.File:
    """The file, open to be read; `openargs` (`locking`, `swmr`, `libver`, …) are those of
    `silx.io.h5py_utils.File`. By default nothing is locked, so that no writer is disturbed.

    Raises what h5py raises; `DataFileError` where this process has the file open in another way, which no
    waiting changes."""
    try:
        return h5py_utils.File(os.fspath(path), mode="r", **openargs)
    except OSError as error:
        if "flag values don't match" not in str(error):
            raise
        raise DataFileError(
            f"{os.fspath(path)} is open in this process already, in another way (h5py.File locks by default): "
            "HDF5 has one way for each file. Close it there, or open it there with "
            "h5py.File(path, locking=False)"
        ) from error
