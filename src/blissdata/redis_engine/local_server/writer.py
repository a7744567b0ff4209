"""The file writer beside a local server, if a person asked for one: a child process of its supervisor, as
the memory tracker is."""

from __future__ import annotations

from typing import IO, ClassVar

from blissdata.redis_engine.local_server.place import Place
from blissdata.redis_engine.local_server.tracker import TrackerProcess

__all__ = ["WriterProcess"]


class WriterProcess(TrackerProcess):
    """The writer of one local server."""

    what: ClassVar[str] = "the file writer"
    program: ClassVar[str] = "blissdata.writer.beside"

    def __init__(self, place: Place, told: int | None = None) -> None:
        """`told` is the file descriptor of a terminal, or the like, that is told what becomes of scans."""
        super().__init__(place)
        self._told = told

    def stdout(self, log: IO[bytes]) -> IO[bytes] | int:
        """What people are told; everything is in the log."""
        return log if self._told is None else self._told

    @property
    def delay_s(self) -> float:
        """None: scans that are over before it begins are not written."""
        return 0.0

    @property
    def restart_s(self) -> float:
        """Soon: points wait for it in memory [s]."""
        return 5.0

    @property
    def patience_s(self) -> float:
        """Long: what it has read goes into the files [s]."""
        return 30.0

    def write(self, url: str, roots: str) -> None:
        """From now on the scans of the server at that address are written below these roots,
        separated as in `PATH`; empty: they are not."""
        if roots:
            self._run(url, ["--roots", roots, *(() if self._told is None else ("--tell",))])
