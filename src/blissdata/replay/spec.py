"""SPEC files: scans of columns and spectra, one after another in a text file.

The format is that of https://certif.com/spec_help/scans.html: `#S` begins a scan, `#D` says when it
was, `#L` names its columns, `@A` lines hold the spectra of the point before or after them. Motors
that did not move stand in `#P` lines, their names in the `#O` lines of the file's header.

silx reads these files too, but drops lines, ends a scan at a `nan`, rounds columns to float32, and
writes its complaints to stdout.
"""

from __future__ import annotations

import datetime
import re
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from blissdata.exceptions import SourceFileError
from blissdata.replay.measurement import Channel, Measurement, table_channels
from blissdata.replay.rows import Line, Table, numbers, read_lines

__all__ = ["is_spec", "read_spec"]

_GRIDS = ("mesh", "amesh", "dmesh", "hklmesh")
"""Commands whose first two columns are the motors."""


@dataclass
class _Scan:
    number: int
    name: str
    command: str
    motors: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    start_time: str | None = None
    """Its own, or else that of the file."""
    dated: bool = False
    positions: list[float] = field(default_factory=list)
    table: Table = field(default_factory=Table)
    spectra: list[array[float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def of(self) -> str:
        return f" (scan {self.name})"


def is_spec(path: Path) -> bool:
    """True if one of the text's lines begins a scan."""
    return any(line.text.startswith("#S ") for line in read_lines(path))


def read_spec(path: Path) -> list[Measurement]:
    """The scans in the file's order, named by their number and how many times it occurred: `7.1`.
    Raises `SourceFileError` naming the line that is not a row of numbers, or not of as many as the
    scan has columns."""
    scans: list[_Scan] = []
    motors: dict[int, list[str]] = {}
    counts: dict[int, int] = {}
    began: str | None = None
    spectrum: array[float] | None = None  # one that goes on in the next line
    for line in read_lines(path):
        text = line.text
        if spectrum is not None and scans:
            spectrum = _more(spectrum, line, text, scans[-1])
        elif text.startswith("#S "):
            scans.append(_begun(line, counts))
            scans[-1].motors = [name for i in sorted(motors) for name in motors[i]]
            scans[-1].start_time = began
        elif text.startswith("#O") and (row := re.match(r"#O(\d+)\s*(.*)", text)):
            if row[1] == "0":
                motors = {}
            motors[int(row[1])] = _separated(row[2])
        elif text.startswith("#D"):
            when = _iso(text[2:].strip())
            if scans and not scans[-1].dated:
                scans[-1].start_time, scans[-1].dated = when, True
            elif not scans:
                began = when
        elif not scans or not text:
            continue
        elif text.startswith("@"):
            spectrum = _more(array("d"), line, re.sub(r"^@\S*", "", text), scans[-1])
        elif text.startswith("#"):
            _read_header_line(scans[-1], text)
        else:
            scans[-1].table.add(line, text.split(), scans[-1].of)
            if not line.ended:
                scans[-1].notes.append(line.may_be_cut)
    return [_measurement(path, scan, index) for index, scan in enumerate(scans)]


def _begun(line: Line, counts: dict[int, int]) -> _Scan:
    words = line.text[3:].split(maxsplit=1)
    if not words or not words[0].isdecimal() or len(words[0]) > 9:
        raise SourceFileError(
            f"{line}: found {line.text[:60]!r}, expected '#S', a number and a command{line.cut}"
        )
    number = int(words[0])
    counts[number] = counts.get(number, 0) + 1
    return _Scan(number, f"{number}.{counts[number]}", "".join(words[1:]))


def _read_header_line(scan: _Scan, text: str) -> None:
    if text.startswith("#N"):
        declared = text[2:].split()
        if declared and declared[0].isdecimal():
            scan.table.columns = int(declared[0])
    elif text.startswith("#L"):
        scan.labels = _separated(text[2:])
    elif re.match(r"#P\d", text):
        words = text.split()[1:]
        try:
            scan.positions += [float(word) for word in words]
        except ValueError:
            scan.notes.append(f"positions that are no numbers are left out: {text[:60]!r}")


def _separated(text: str) -> list[str]:
    """Names are separated by two blanks, so that they may contain one."""
    return [name for name in re.split(r"\s{2,}|\t", text.strip()) if name]


def _more(spectrum: array[float], line: Line, text: str, scan: _Scan) -> array[float] | None:
    """Adds a line to a spectrum; None if that was its last."""
    goes_on = text.endswith("\\")
    spectrum.extend(numbers(line, text.rstrip("\\").split(), scan.of))
    if goes_on:
        return spectrum
    scan.spectra.append(spectrum)
    return None


def _iso(text: str) -> str | None:
    try:
        return datetime.datetime.strptime(text, "%a %b %d %H:%M:%S %Y").isoformat()
    except ValueError:
        return text or None


# ---------------------------------------------------------------------------------- as measurements


def _measurement(path: Path, scan: _Scan, index: int) -> Measurement:
    table = scan.table.as_array()
    channels = table_channels(_labels(scan), table) if scan.table.values else []
    words = scan.command.split()
    count = 2 if words and words[0].lower() in _GRIDS else 1
    axes = [channel.name for channel in channels[:count]] if len(channels) > 1 else []
    channels += _spectra(scan, len(table), {channel.name for channel in channels})
    return Measurement(
        source=str(path),
        name=scan.name,
        title=scan.command or scan.name,
        channels=channels,
        number=scan.number,
        index=index,
        start_time=scan.start_time,
        axes=axes,
        positioners=_positioners(scan),
        notes=tuple(scan.notes),
    )


def _labels(scan: _Scan) -> list[str]:
    """As many as there are columns. Names with single blanks between them are told apart if that
    makes as many."""
    words = " ".join(scan.labels).split()
    if len(scan.labels) != scan.table.columns == len(words):
        return words
    extra = [f"column_{i + 1}" for i in range(len(scan.labels), scan.table.columns)]
    return [*scan.labels[: scan.table.columns], *extra]


def _positioners(scan: _Scan) -> Mapping[str, Any]:
    return dict(zip(scan.motors, scan.positions, strict=False))


def _spectra(scan: _Scan, rows: int, taken: set[str]) -> list[Channel]:
    """Channels `mca_0`, …: as many as each point has spectra."""
    if not scan.spectra:
        return []
    points = rows or len(scan.spectra)
    count, rest = divmod(len(scan.spectra), points)
    if rest:
        scan.notes.append(
            f"its {len(scan.spectra)} spectra are left out: that many do not belong to {points} points"
        )
        return []
    found = []
    for i in range(count):
        name = f"mca_{i}"
        lengths = {len(spectrum) for spectrum in scan.spectra[i::count]}
        if len(lengths) != 1 or 0 in lengths or name in taken:
            scan.notes.append(
                f"{name} is left out: its spectra have the lengths {sorted(lengths)[:8]}"
            )
            continue
        data = np.array(scan.spectra[i::count], np.float64)
        found.append(Channel(name, points, data.dtype, data.shape[1:], _reader(data), device=name))
    return found


def _reader(data: Any) -> Callable[[int, int], Any]:
    return lambda start, stop: data[start:stop]
