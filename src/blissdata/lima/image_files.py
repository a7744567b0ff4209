"""Files that images were saved to: HDF5 through h5py, EDF, CBF and TIFF through fabio.

A file is opened below the data roots alone, and so is whatever it points at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from blissdata.data_roots import ROOTS_VARIABLE, DataRoots
from blissdata.exceptions import (
    DataFileContentError,
    DataFileError,
    DataFileIncompleteError,
    MissingExtraError,
)

__all__ = ["ImageFile", "image_from_file", "open_images", "register_filters", "roots_of_a_caller"]

_HDF5 = "HDF5"

_FABIO = {
    "EDF": ("edfimage", "EdfImage"),
    "CBF": ("cbfimage", "CbfImage"),
    "TIF": ("tifimage", "TifImage"),
}
"""What formats begin with that fabio reads, and its class for them. Its `open` is not asked: it would
read any format that it finds, with whatever links those have."""

_EXTERNAL_BINARY = "EDF_BINARYFILENAME"
"""The field of an EDF header that says the pixels are in another file."""


_CBF_BEGIN = b"\x0c\x1a\x04\xd5"
"""What pixels in a CBF file begin with."""

_CBF_HEAD_NBYTES = 2**20
"""How far into a CBF file they begin at most [bytes]."""


class ImageFile(Protocol):
    """An open file of images; a context manager."""

    def __len__(self) -> int:
        """How many images it has."""
        ...

    def image(self, index: int) -> NDArray[Any]:
        """One image, `(rows, columns)`, writable. Raises `DataFileIncompleteError` if there is none
        with that index (yet), `DataFileContentError` if it cannot be read."""
        ...

    def images(self, start: int, stop: int) -> NDArray[Any]:
        """The images from `start` to `stop` (exclusive), `(images, rows, columns)`."""
        ...

    def __enter__(self) -> ImageFile: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def open_images(
    path: str, path_in_file: str | None, file_format: str, roots: DataRoots
) -> ImageFile:
    """The images in a file. `file_format` is one of Lima's names (`HDF5`, `HDF5BS`, `EDF`, `EDFGZ`,
    `CBF`, `TIFF`, …), in any case; `path_in_file` is the dataset in an HDF5 file.

    Raises `RuntimeError` for another format, a `DataFileError` for a file that is not there, may not
    be opened or is something else, and `MissingExtraError` without fabio."""
    family = _family(file_format)
    if family is None:
        raise RuntimeError(
            f"{file_format!r} format not supported: images are read from HDF5, EDF, CBF and TIFF "
            f"files (this one is {path})"
        )
    if family == _HDF5:
        return _Hdf5Images(path, path_in_file, roots)
    return _FabioImages(path, family, roots)


def image_from_file(
    filename: str | os.PathLike[str],
    path_in_file: str | None,
    image_index: int,
    file_format: str,
    roots: DataRoots | None = None,
) -> NDArray[Any]:
    """One image of a file, `(rows, columns)`; see `open_images`. `image_index` counts from 0.

    Who names a file may open it: without `roots`, those of `$BLISSDATA_DATA_ROOTS` hold if that is
    set, and every file is allowed otherwise."""
    path = os.path.abspath(filename)
    if roots is None:
        roots = roots_of_a_caller()
    with open_images(path, path_in_file, file_format, roots) as file:
        return file.image(image_index)


def roots_of_a_caller() -> DataRoots:
    """Those of `$BLISSDATA_DATA_ROOTS` if it is set, else everywhere: the caller names the file."""
    if os.environ.get(ROOTS_VARIABLE):
        return DataRoots.choose()
    return DataRoots(("/",), "the caller named the file")


def _family(file_format: str) -> str | None:
    upper = str(file_format).upper()
    return next((name for name in (_HDF5, *_FABIO) if upper.startswith(name)), None)


class _Hdf5Images:
    """A dataset of shape `(images, rows, columns)`, or one image, `(rows, columns)`."""

    def __init__(self, path: str, path_in_file: str | None, roots: DataRoots) -> None:
        from blissdata.checked_hdf5 import CheckedFile

        register_filters()
        if not isinstance(path_in_file, str) or not path_in_file:
            raise DataFileContentError(f"{path}: the path of the dataset in the file is not known")
        self._file = CheckedFile(path, roots)
        try:
            self._dataset = self._file.dataset(path_in_file)
            self._ndim = len(self._dataset.shape)
            if self._ndim not in (2, 3):
                raise DataFileContentError(
                    f"{path}::{path_in_file} has {self._ndim} dimensions, expected images"
                )
        except BaseException:
            self._file.close()
            raise
        self._what = f"{path}::{path_in_file}"

    def __len__(self) -> int:
        return 1 if self._ndim == 2 else int(self._dataset.shape[0])

    def image(self, index: int) -> NDArray[Any]:
        image: NDArray[Any] = self.images(index, index + 1)[0]
        return image

    def images(self, start: int, stop: int) -> NDArray[Any]:
        _check_range(self._what, start, stop, len(self))
        with _explained(self._what):
            if self._ndim == 2:
                return self._dataset.rows(0, self._dataset.shape[0])[np.newaxis]
            return self._dataset.rows(start, stop)

    def __enter__(self) -> _Hdf5Images:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


class _FabioImages:
    """A file that fabio reads."""

    def __init__(self, path: str, family: str, roots: DataRoots) -> None:
        module, name = _FABIO[family]
        try:
            import fabio
        except ImportError as error:
            raise MissingExtraError(
                f'{path} is read with fabio: pip install "blissdata[files]"'
            ) from error
        from importlib import import_module

        self._path = path
        self._roots = roots
        real = roots.real_path(path)
        reader = getattr(import_module(f"{fabio.__name__}.{module}"), name)
        if family == "CBF":
            _require_whole_cbf(path, real)
        self._file = self._reading(lambda: reader().read(real))
        self._family = family
        self._real = real

    def __len__(self) -> int:
        return int(self._file.nframes)

    def image(self, index: int) -> NDArray[Any]:
        _check_range(self._path, index, index + 1, len(self))
        is_first = not index and self._family != "EDF"  # other formats are their own first image
        frame = self._reading(lambda: self._file if is_first else self._file.get_frame(index))
        pixels = self._file_of_pixels(frame)
        if self._family == "EDF":
            self._reading(lambda: self._require_whole(frame, index, pixels))
        data = self._reading(lambda: frame.data)
        if data is None or data.ndim != 2:
            raise DataFileContentError(f"{self._path}: image {index} has no rows and columns")
        return np.array(data)

    def images(self, start: int, stop: int) -> NDArray[Any]:
        images = [self.image(index) for index in range(start, stop)]
        return np.stack(images) if images else np.empty((0, 0, 0))

    def _require_whole(self, frame: Any, index: int, pixels: str | None) -> None:
        """fabio puts zeros where the pixels of an EDF file are missing."""
        if pixels is not None:
            whole = os.path.getsize(pixels) >= frame.blobsize
        else:
            frame.file.seek(frame.start + frame.blobsize - 1)
            whole = bool(frame.file.read(1))
        if not whole:
            raise DataFileIncompleteError(f"{self._path} ends in the middle of image {index} (yet)")

    def _file_of_pixels(self, frame: Any) -> str | None:
        """The pixels may be in yet another file: then that one is bound by the roots as well."""
        for name, value in dict(getattr(frame, "header", None) or {}).items():
            if str(name).upper() == _EXTERNAL_BINARY:
                where = os.path.join(os.path.dirname(self._real), str(value).strip())
                return self._roots.real_path(where)
        return None

    def _reading(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except DataFileError:
            raise
        except Exception as error:  # fabio lets anything out that a damaged file brings about
            raise DataFileContentError(f"fabio cannot read {self._path}: {error!r}") from error

    def __enter__(self) -> _FabioImages:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(Exception):  # it was only read
            self._file.close()


def _require_whole_cbf(path: str, real: str) -> None:
    """fabio looks for ever for the begin of pixels that are not there. They begin with four bytes, and a field
    before says how many there are (imgCIF, https://www.bernstein-plus-sons.com/software/CBF/doc/CBFlib.html)."""
    with open(real, "rb") as file:
        head = file.read(_CBF_HEAD_NBYTES)
        size = os.fstat(file.fileno()).st_size
    begin = head.find(_CBF_BEGIN)
    if begin < 0:
        raise DataFileIncompleteError(f"{path} has no pixels (yet)")
    told = re.search(rb"X-Binary-Size:\s*(\d+)", head[:begin], re.IGNORECASE)
    if told is None or int(told[1]) > size - begin - len(_CBF_BEGIN):
        raise DataFileIncompleteError(f"{path} has not all of its pixels (yet)")


def _check_range(what: str, start: int, stop: int, length: int) -> None:
    if start < 0 or stop > length:
        raise DataFileIncompleteError(
            f"{what} has {length} images, not {start} to {stop - 1} (yet)"
        )


@cache
def register_filters() -> None:
    """What HDF5 files may be compressed with, besides what h5py brings along."""
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401 — importing it is what registers its filters


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except DataFileContentError as error:
        if "filter" in str(error) or "plugin" in str(error):
            error.add_note(
                f'{what} may be compressed in a way that needs hdf5plugin: pip install "blissdata[files]"'
            )
        raise
