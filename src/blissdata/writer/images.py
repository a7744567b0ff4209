"""Where the images of a stream are that its detector saves: parts of HDF5 files, to be put together. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from blissdata.lima.layout import LimaLayout
from blissdata.streams.frames.layout import FramesInfo

__all__ = ["ImageSource", "saved_images", "without_unsaved"]

ImageSource: TypeAlias = tuple[str, str, int]
"""Where consecutive images are: file, dataset, and how many from its first on."""


def saved_images(info: Mapping[str, Any], frames: int, directory: str) -> list[ImageSource] | None:
    """The sources of the first `frames` images of a stream with that info; files below `directory`
    are named from there. None if a detector does not save them as HDF5: they must be copied."""
    lima_info = info.get("lima_info")
    if not isinstance(lima_info, Mapping):
        return _saved_frames(info, frames, directory) if info.get("plugin") == "frames" else None
    try:
        layout = LimaLayout.from_info(lima_info)
        if layout.files is None or not layout.files.format.upper().startswith("HDF5"):
            return None
        if not layout.files.data_path:
            return None
        return _sources(layout, layout.files.frames, frames, directory)
    except (ValueError, RuntimeError):
        return None


def without_unsaved(
    sources: Sequence[ImageSource], rows: Sequence[int]
) -> tuple[list[ImageSource], list[range]]:
    """The sources without the images at their end that were never saved, and the ranges of all images that are
    in no file. `rows` is how many images each source really has. Where later ones are saved, those that are not
    keep their place."""
    kept: list[ImageSource] = []
    unsaved: list[range] = []
    at = 0
    for number, (source, there) in enumerate(zip(sources, rows, strict=True)):
        file, dataset, count = source
        if there < count:
            start = at + there
            if unsaved and unsaved[-1].stop == start:
                start = unsaved.pop().start
            unsaved.append(range(start, at + count))
        if there:
            kept = [*sources[:number], (file, dataset, min(there, count))]
        at += count
    return kept, unsaved


def _saved_frames(info: Mapping[str, Any], frames: int, directory: str) -> list[ImageSource] | None:
    """The same for a stream of frame buffers."""
    try:
        files = FramesInfo.from_info(info.get("frames")).files
        if files is None or not files.is_hdf5:
            return None
        starts = range(0, frames, files.frames_per_file or max(frames, 1))
        return [
            (
                _from(directory, files.reference(start).file_path),
                str(files.data_path),
                min(starts.step, frames - start),
            )
            for start in starts
        ]
    except ValueError:
        return None


def _sources(layout: LimaLayout, per_file: int, frames: int, directory: str) -> list[ImageSource]:
    found: list[ImageSource] = []
    frame = 0
    while frame < frames:
        reference = layout.reference(frame)
        place = layout.place(frame)
        left = [frames - frame, per_file - reference.index]
        if layout.per_acquisition:
            left.append(layout.per_acquisition - place.index)
        number = min(left)
        name = _from(directory, reference.file_path)
        found.append((name, str(reference.data_path), number))
        frame += number
    return found


def _from(directory: str, path: str) -> str:
    inside = directory.rstrip("/") + "/"
    return os.path.relpath(path, directory) if path.startswith(inside) else path
