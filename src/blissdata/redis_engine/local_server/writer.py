"""The file writer beside a local server, if a person asked for one: a child process of its supervisor, as
the memory tracker is."""

from __future__ import annotations

from typing import ClassVar

from blissdata.redis_engine.local_server.tracker import TrackerProcess

__all__ = ["WriterProcess"]


class WriterProcess(TrackerProcess):
    """The writer of one local server."""

    what: ClassVar[str] = "the file writer"
    program: ClassVar[str] = "blissdata.writer.beside"
    delay_s: ClassVar[float] = 0.0
    """Scans that are over before it begins are not written [s]."""

    restart_s: ClassVar[float] = 5.0
    """One that ended is started again after so long [s]: points wait for it in memory."""

    patience_s: ClassVar[float] = 30.0
    """It may take so long to end [s]: what it has read goes into the files."""

    def write(self, url: str, roots: str) -> None:
        """From now on the scans of the server at that address are written below these roots,
        separated as in `PATH`; empty: they are not."""
        if roots:
            self._run(url, ["--roots", roots])
