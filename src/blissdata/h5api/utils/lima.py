"""A detector's own files, as the dataset that the scan's file does not have yet.

Lima saves images in files of its own, next to the scan's file, and only a finished scan links them.
Until then they are found by their names:

    {dirname}/scan{scan_number:04d}/{bliss_detector_name}_{{file_index}}.h5::/entry_0000/…/data
                                                          └ any digits: the number of the file

    file number      0          1          2 (last)
    points         0 1 2 3    4 5 6 7    8 9            the first file tells how many a full one has
"""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from blissdata.h5api.utils.file_state import FileState
from blissdata.h5api.utils.hdf5_retry import RetryError
from blissdata.h5api.utils.opening import open_hdf5

__all__ = ["LimaDataset", "lima_url_template"]

_log = logging.getLogger(__name__)

_NAME = re.compile(r"/?(?P<scan_number>\d+)\.\d+/[^/]+/(?P<detector>[^/]+)(/|$)")
_SEPARATOR = "::"
_INDEX = "{file_index}"


def lima_url_template(
    dirname: str,
    scan_number: int,
    bliss_detector_name: str,
    url_template: str | None = None,
    url_template_args: Mapping[str, str] | None = None,
) -> str:
    """`<file with {file_index}>::<path in the file>` of one detector in one scan.

    `url_template` is filled by `str.format` with `dirname`, `scan_number` (int),
    `bliss_detector_name` and `url_template_args`: texts, themselves filled with those three. None or
    empty: BLISS's own. Without `{{file_index}}` in it: `ValueError`; a name that nobody gives:
    `KeyError`.
    """
    given = {
        "dirname": dirname,
        "scan_number": scan_number,
        "bliss_detector_name": bliss_detector_name,
    }
    args = {
        name: str(text).format(**given)
        for name, text in (url_template_args or {}).items()
        if text is not None
    }
    if not url_template:
        url_template = _default_template(args)
    try:
        found = url_template.format(**{**args, **given})
    except KeyError as unknown:
        raise KeyError(
            f"The Lima template {url_template!r} asks for {unknown}; "
            f"given are {', '.join([*given, *args])}"
        ) from unknown
    if _INDEX not in found:
        raise ValueError(f"The Lima template {url_template!r} has no '{{{{file_index}}}}'")
    return found


def _default_template(args: Mapping[str, str]) -> str:
    file = "{dirname}/scan{scan_number:04d}/{bliss_detector_name}_{{file_index}}.h5"
    if "instrument_name" not in args:
        return f"{file}::/entry_0000/measurement/data"
    detector = "{detector_name}" if "detector_name" in args else "{bliss_detector_name}"
    return f"{file}::/entry_0000/{{instrument_name}}/{detector}/data"


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the images lie in the files that there are."""

    first: int
    """Number of the first file."""

    files: int
    """How many there are without a gap, and can be read."""

    per_file: int
    """Points in a full file."""

    in_last: int
    """Points in the last one."""

    image: tuple[int, ...]
    """Shape of a point."""

    dtype: np.dtype[Any]

    @property
    def points(self) -> int:
        return (self.files - 1) * self.per_file + self.in_last


@dataclass(frozen=True, slots=True)
class _Open:
    """The file that was used last."""

    path: str
    state: FileState
    file: h5py.File
    dataset: h5py.Dataset


class LimaDataset(Sequence[Any]):
    """The images that a detector saved so far, as a dataset of shape `(points, …)`.

    `name` is the path that the dataset will have in the scan's file (`/1.1/instrument/eiger/data`),
    `dirname` the directory of that file; for the rest see `lima_url_template`. Each access looks at
    the files anew. While there are none, every access raises `RetryError` ("no lima files exist
    (yet)"), and so does a point whose file is not there.
    """

    def __init__(
        self,
        name: str,
        dirname: str,
        url_template: str | None = None,
        url_template_args: Mapping[str, str] | None = None,
    ) -> None:
        found = _NAME.match(name)
        if found is None:
            raise ValueError(f"{name!r} is not the path of a detector: /<n>.<m>/…/<detector>/data")
        self._name = name
        url = lima_url_template(
            dirname, int(found["scan_number"]), found["detector"], url_template, url_template_args
        )
        self._file_template, _, path = url.partition(_SEPARATOR)
        self._path = path or "/entry_0000/measurement/data"
        self._files: dict[int, str] = {}
        self._known: _Layout | None = None
        self._lengths: dict[int, tuple[FileState, tuple[int, tuple[int, ...], np.dtype[Any]]]] = {}
        self._open: _Open | None = None

    # ---- what a dataset has

    @property
    def name(self) -> str:
        """Its path in the scan's file."""
        return self._name

    @property
    def attrs(self) -> dict[str, Any]:
        """None: the detector's files have no attributes of the scan."""
        return {}

    @property
    def shape(self) -> tuple[int, ...]:
        """`(points, …)`."""
        layout = self._layout()
        return (layout.points, *layout.image)

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the images."""
        return self._layout().dtype

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self._layout().image) + 1

    @property
    def size(self) -> int:
        """How many elements there are."""
        return int(np.prod(self.shape, dtype=int))

    def __len__(self) -> int:
        return self._layout().points

    def __iter__(self) -> Iterator[Any]:
        """The images that there are."""
        at = 0
        while at < len(self):
            yield self[at]
            at += 1

    def __getitem__(self, idx: Any) -> Any:
        """Images: an integer, slice, list, mask or `...` for the points, then anything that h5py
        takes for the image. Negative ones count from the last image that is there."""
        layout = self._layout(idx if isinstance(idx, int) else -1)
        first, rest = _split(idx, len(layout.image) + 1)
        if isinstance(first, slice):
            return self._read_range(range(*first.indices(layout.points)), rest, layout)
        if np.ndim(first):
            parts = [
                np.asarray(self._read_point(at, rest, layout))[np.newaxis]
                for at in self._points_of(np.asarray(first), layout)
            ]
            return np.concatenate(parts) if parts else self._read_range(range(0), rest, layout)
        return self._read_point(self._in_range(int(first), layout), rest, layout)

    # ---- which files there are

    def search(self) -> None:
        """Looks which files there are."""
        parts = self._file_template.split(_INDEX)
        known, *others = [re.escape(part) for part in parts]
        numbered = re.compile(known + r"(?P<number>\d+)" + r"(?P=number)".join(others))
        pattern = "*".join(glob.escape(part) for part in parts)
        matches = [numbered.fullmatch(path) for path in sorted(glob.iglob(pattern))]
        self._files = {int(match["number"]): match[0] for match in matches if match}

    def has_files(self) -> bool:
        """True if there are images to be read."""
        try:
            self._layout()
        except RetryError:
            return False
        return True

    def reset(self) -> None:
        """Forgets what was found and closes what is open."""
        self._files = {}
        self._known = None
        self._lengths = {}
        self._close_file()

    def close(self) -> None:
        """Closes what is open."""
        self.reset()

    def _layout(self, point: int = -1) -> _Layout:
        """How the images lie. For a `point` that is known to be there, as it was found before."""
        if self._known is not None and 0 <= point < self._known.points:
            return self._known
        self.search()
        if not self._files:
            raise RetryError(f"no lima files exist (yet): {self._file_template}")
        first = min(self._files)
        files = 1
        while first + files in self._files:
            files += 1
        per_file, image, dtype = self._head(first)
        in_last = per_file
        if not per_file:  # of the first one, nothing is written yet
            files = 1
        while files > 1:
            try:
                in_last = self._head(first + files - 1)[0]
                break
            except RetryError:  # not to be opened yet: not to be read
                files -= 1
                in_last = per_file
        self._known = _Layout(first, files, per_file, in_last, image, dtype)
        return self._known

    def _head(self, number: int) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
        """Points, image shape and dtype of one file, opened only if it changed."""
        path = self._files[number]
        found = self._lengths.get(number)
        if found is not None and found[0].holds(path):
            return found[1]
        dataset = self._dataset(number)
        head = (len(dataset), dataset.shape[1:], dataset.dtype)
        if self._open is not None:
            self._lengths[number] = (self._open.state, head)
        return head

    # ---- reading

    def _in_range(self, at: int, layout: _Layout) -> int:
        point = at + layout.points if at < 0 else at
        if 0 <= point < layout.points:
            return point
        number = layout.first + (point // layout.per_file if layout.per_file else 0)
        what = "does not have it" if number in self._files else "does not exist"
        raise RetryError(f"{self._name}: image {at} is not there: lima file {number} {what} (yet)")

    def _points_of(self, array: np.ndarray[Any, Any], layout: _Layout) -> list[int]:
        if array.ndim != 1 or (array.size and array.dtype.kind not in "biu"):
            raise TypeError(f"{self._name}: points are chosen by integers or a mask, not {array!r}")
        if array.dtype.kind == "b":
            if len(array) != layout.points:
                raise TypeError(f"{self._name}: a mask of {len(array)} for {layout.points} points")
            array = np.flatnonzero(array)
        return [self._in_range(int(at), layout) for at in array]

    def _read_point(self, point: int, rest: tuple[Any, ...], layout: _Layout) -> Any:
        number, place = divmod(point, layout.per_file)
        return self._read(layout.first + number, place + 1, (place, *rest))

    def _read_range(self, points: range, rest: tuple[Any, ...], layout: _Layout) -> Any:
        """These points, file by file, one read for each."""
        if points.step < 0:
            return self._read_range(points[::-1], rest, layout)[::-1]
        parts = []
        while points:
            number, start = divmod(points[0], layout.per_file)
            here = points[: len(range(start, layout.per_file, points.step))]
            stop = start + here[-1] - here[0] + 1
            chosen = slice(start, stop, points.step)
            parts.append(self._read(layout.first + number, stop, (chosen, *rest)))
            points = points[len(here) :]
        if not parts:
            return self._read(layout.first, 0, (slice(0, 0), *rest))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read(self, number: int, needed: int, idx: tuple[Any, ...]) -> Any:
        """What `idx` selects in one file, which must have `needed` points."""
        dataset = self._dataset(number)
        if len(dataset) < needed:
            raise RetryError(f"lima file {number} has {len(dataset)} images, not {needed} (yet)")
        try:
            return dataset[idx]
        except (IndexError, TypeError, ValueError) as mistake:
            # Images do not change their shape: trying again would not help.
            raise type(mistake)(f"{self._name}: {mistake}") from mistake
        except Exception as error:
            raise RetryError(f"lima file {number} cannot be read (yet): {error}") from error

    def _dataset(self, number: int) -> h5py.Dataset:
        """The dataset of one file. The file that was used last stays open."""
        path = self._files.get(number)
        if path is None:
            raise RetryError(f"lima file {number} does not exist (yet)")
        if self._open is not None and self._open.path == path and self._open.state.holds(path):
            return self._open.dataset
        self._close_file()
        try:
            state = FileState.of(path)
            file = open_hdf5(path)
            try:
                dataset = file[self._path]
            except BaseException:
                file.close()
                raise
        except Exception as error:
            raise RetryError(f"lima file {number} cannot be opened (yet): {error}") from error
        self._open = _Open(path, state, file, dataset)
        return dataset

    def _close_file(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            try:
                opened.file.close()
            except Exception as error:  # noqa: BLE001 — whatever h5py says: it was to be closed
                _log.debug("Cannot close %s: %s", opened.path, error)


def _split(idx: Any, ndim: int) -> tuple[Any, tuple[Any, ...]]:
    """The index of the points, and what is left for the image."""
    args = idx if isinstance(idx, tuple) else (idx,)
    if any(arg is Ellipsis for arg in args) and len(args) > ndim:
        args = tuple(arg for arg in args if arg is not Ellipsis)  # it stands for no axis
    if not args:
        return slice(None), ()
    if args[0] is Ellipsis:
        return slice(None), args if len(args) > 1 else ()
    first, *rest = args
    if isinstance(first, slice) or (
        not isinstance(first, str | bytes) and isinstance(first, Sequence | np.ndarray)
    ):
        return first, tuple(rest)
    if isinstance(first, bool | np.bool_) or not hasattr(first, "__index__"):
        raise TypeError(f"Points are chosen by integers, slices or lists, not by {first!r}")
    return first, tuple(rest)
