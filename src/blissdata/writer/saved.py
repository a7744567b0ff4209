"""Which points of a scan are in the file that a writer made of it, although their streams name no file.

A plain stream knows the server alone: what left its memory is gone, as far as it can tell. The scan's
layout says at which path of which file a writer has put its points; here somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from blissdata.data_roots import DataRoots
from blissdata.exceptions import BlissdataError
from blissdata.streams.availability import NOTHING, EventBounds, Holding, Place
from blissdata.writer.plan import plan_of

if TYPE_CHECKING:
    from blissdata.redis_engine.scan import Scan
    from blissdata.streams import Availability, BaseStream

__all__ = ["with_saved"]


def with_saved(scan: Scan, found: Mapping[str, Availability]) -> dict[str, Availability]:
    """The same, by name of the stream, with the written file as a place of the streams that miss points
    and name no file themselves. A look at the file, if there are any; no round trip. Files are opened
    below `$BLISSDATA_DATA_ROOTS`, else below the directory of the scan's own file."""
    wanted = {name: one for name, one in found.items() if one.gone and not one.files}
    if not wanted or scan.info.get("save") is False:
        return dict(found)
    looked = dict(found)
    streams = scan.streams
    for name, file, entry, path in _places(scan):
        one = wanted.pop(name, None)
        if one is not None:
            holding = _holding(scan, streams[name], one, file, entry, path)
            if holding is not None:
                looked[name] = replace(one, holdings=(*one.holdings, holding))
    return looked


def _places(scan: Scan) -> Iterator[tuple[str, str, str, str]]:
    """Stream, file, entry, and path of a dataset that its points make."""
    from blissdata.writer.follower import files_of

    for file, layouts in files_of(scan).items():
        for entry, layout in layouts.items():
            plan = plan_of(entry, layout, set(scan.stream_names))
            for name, paths in plan.streams.items():
                yield name, file, entry, paths[0]


def _holding(
    scan: Scan, stream: BaseStream, found: Availability, file: str, entry: str, path: str
) -> Holding | None:
    """What the file has of the stream. Nothing is promised: what a writer has not had yet, its pin keeps
    in memory. None if nothing says that it should have any."""
    from blissdata.hdf5_handles import borrowed_file
    from blissdata.streams.hdf5_fallback.source import FileSource
    from blissdata.writer.nexus import SCAN_MARK, stored_as
    from blissdata.writer.plan import Points

    roots = DataRoots.choose(None, scan.identity.get("path"))
    try:
        with borrowed_file(file, roots) as written:
            owner = written.attributes(f"/{entry}").get(SCAN_MARK)
        if owner not in (None, scan.key):
            return Holding(Place.FILE, NOTHING, NOTHING, file, path, f"{entry} is of scan {owner}")
        points = Points(stream.dtype, tuple(stream.shape))
        dtype, shape = stored_as(points)
        source = FileSource(found.name, file, path, dtype, shape, lambda: roots)
        bounds = EventBounds(found.length, found.length, found.sealed)
        holding = replace(source.holding(bounds), coming=NOTHING, may_pass=False)
        return holding if owner is not None or holding.there else None
    except BlissdataError as error:
        if scan.info.get("save") is not True:
            return None
        return Holding(Place.FILE, NOTHING, NOTHING, file, path, str(error))
