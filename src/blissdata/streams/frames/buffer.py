"""What a detector's program embeds: frames go into a ring, counters go through the server.

    detector ──▶ FrameBuffer.put ──▶ ring ◀──────────── readers on this host
                      │               ▲ ▲
                      │               │ └── server ◀──── readers elsewhere
                      │               └──── saver ──▶ HDF5 files
                      └──▶ [taken, saved] ──▶ stream of the scan

`put` never waits for readers. It waits for the saver alone, so that no frame is lost unsaved. Saver and
server are processes of their own: they take no time from the detector's interpreter.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from blissdata.exceptions import (
    BlissdataError,
    FileWriteError,
    MissingExtraError,
    PublishError,
    StreamSealedError,
)
from blissdata.streams.base import StreamDefinition
from blissdata.streams.encoding.numeric import NumericStreamEncoder
from blissdata.streams.event_stream import EventStream
from blissdata.streams.frames.companion import Companion
from blissdata.streams.frames.layout import (
    TOKEN_NBYTES,
    FrameFiles,
    FramesInfo,
    ServerAddress,
    frame_point,
)
from blissdata.streams.frames.ring import Ring

__all__ = ["FrameBuffer", "Saving", "buffer_of"]

PLUGIN = "frames"

SLOTS = 64
"""How many frames a ring holds if nothing is said."""

NEWS_PERIOD_S = 0.002
"""How often readers are told of new frames at most [s]: at any rate of frames, a few hundred events a
second."""

HOST_VARIABLE = "BLISSDATA_FRAMES_HOST"
"""Name or address of this host, under which readers elsewhere reach its frame servers."""

_MODULES = __name__.rpartition(".")[0]
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 — only who asks for it listens everywhere
_COMPRESSIONS = (None, "gzip", "lzf", "lz4", "bitshuffle")


@dataclass(frozen=True, slots=True)
class Saving:
    """Where frames are saved, and by whom."""

    path: str | os.PathLike[str]
    """The file; with a conversion such as `%04d` for its number, if there are many. No file is ever
    overwritten."""

    data_path: str | None = "/entry/data/data"
    """The dataset in each HDF5 file."""

    file_format: str = "HDF5"
    """Others (`EDF`, `CBF`, `TIFF`) are for `by="detector"`."""

    frames_per_file: int = 0
    """0: all in one file."""

    first_number: int = 0
    """Number of the first file."""

    by: Literal["buffer", "detector"] = "buffer"
    """`buffer`: in the background, a chunk a frame. `detector`: the program, or the detector, saves frames
    itself, and says so with `FrameBuffer.tell_saved`."""

    compression: Literal["gzip", "lzf", "lz4", "bitshuffle"] | None = None
    """Of what the buffer saves; the last two need `blissdata[files]`, for readers as well."""

    @property
    def needs_plugins(self) -> bool:
        """True if h5py alone cannot write these files."""
        return self.by == "buffer" and self.compression in ("lz4", "bitshuffle")

    @property
    def files(self) -> FrameFiles:
        """As readers are told. Raises `ValueError` for what makes no sense."""
        data_path = self.data_path if self.file_format.upper().startswith("HDF5") else None
        files = FrameFiles(
            os.fspath(self.path),
            data_path,
            self.file_format,
            self.frames_per_file,
            self.first_number,
        )
        files.check()
        if self.by not in ("buffer", "detector"):
            raise ValueError(f"Frames are saved by 'buffer' or 'detector', not {self.by!r}")
        if self.by == "buffer" and not files.is_hdf5:
            raise ValueError(
                f"The buffer saves HDF5 files, not {self.file_format}: with by='detector' the program "
                "saves frames itself"
            )
        if self.compression not in _COMPRESSIONS:
            raise ValueError(
                f"Frames are compressed with one of {_COMPRESSIONS[1:]}, not {self.compression!r}"
            )
        return files


class FrameBuffer:
    """The frames of one stream, in shared memory. A context manager.

        with FrameBuffer((512, 512), np.uint16, slots=64) as buffer:
            camera = scan.create_stream(buffer.definition("camera"))
            ...
            buffer.put(frame)

    `shape` and `dtype` are those of a frame; the ring has `slots` of them, or as many as fit into `memory`
    [bytes]. `saving` says where frames are saved (None: nowhere; then a frame that is overwritten is
    gone). `serve` runs a frame server for readers on other hosts, which reach it at `host`: a name or
    address of this host (default: `$BLISSDATA_FRAMES_HOST`, else the address it uses towards others;
    `0.0.0.0`: that as well, but it listens on all of them).
    `patience` [s] is how long `put` waits for a saver that is behind.

    Raises `ValueError` for a buffer that cannot be, `SharedMemoryError` if there is not so much memory,
    `MissingExtraError` without what compressing needs.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DTypeLike,
        slots: int | None = None,
        *,
        memory: int | None = None,
        saving: Saving | None = None,
        serve: bool = True,
        host: str | None = None,
        patience: float = 60.0,
    ) -> None:
        self._point = frame_point(shape, dtype)
        self._slots = _slots(slots, memory, self._point.nbytes)
        self._saving = saving
        self._files = None if saving is None else saving.files
        self._patience = patience
        if saving is not None and saving.needs_plugins and find_spec("hdf5plugin") is None:
            raise MissingExtraError(
                f"Frames are compressed with {saving.compression} by hdf5plugin, which is not installed: "
                'pip install "blissdata[files]"'
            )
        self._lock = threading.Condition()
        self._news_lock = threading.Lock()
        self._late = threading.Event()
        self._next_news = 0.0
        self._told = (0, 0)
        self._taken = self._saved = 0
        self._open_slot: NDArray[Any] | None = None
        self._events: EventStream | None = None
        self._trouble: BaseException | None = None
        self._trouble_told = False
        self._news: threading.Thread | None = None
        self._closing = self._closed = False
        self._ring = Ring(self._slots, self._point.nbytes)
        self._saver: Companion | None = None
        self._server: Companion | None = None
        self._address: ServerAddress | None = None
        try:
            self._start(serve, host)
        except BaseException:
            self.close()
            raise
        _buffers[self._ring.name] = self

    def _start(self, serve: bool, host: str | None) -> None:
        point, fd = self._point, self._ring.fd
        job = {"ring": self._ring.name, "slots": self._slots, "nbytes": point.nbytes}
        saves = self._saving is not None and self._saving.by == "buffer"
        if saves and self._saving is not None and self._files is not None:
            of_saver = {
                "shape": point.shape,
                "dtype": point.dtype.str,
                "files": asdict(self._files),
                "compression": self._saving.compression,
            }
            self._ring.leave_to_the_saver()
            self._saver = Companion(f"{_MODULES}.saver", job | of_saver, fd, self._heard_of_saver)
        if serve:
            self._token = secrets.token_hex(TOKEN_NBYTES)
            at = host or os.environ.get(HOST_VARIABLE) or _own_address()
            of_server = {
                "token": self._token,
                "host": at,
                "known_as": _own_address() if at in _EVERYWHERE else at,
                "removes": not saves,
            }
            self._server = Companion(f"{_MODULES}.server", job | of_server, fd, lambda *_: None)

    # ------------------------------------------------------------------------------ what it is

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a frame."""
        return self._point.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a frame."""
        return self._point.dtype

    @property
    def slots(self) -> int:
        """How many frames the ring holds."""
        return self._slots

    @property
    def taken(self) -> int:
        """How many frames were put."""
        return self._taken

    @property
    def saved(self) -> int:
        """How many of them are saved, as far as is known."""
        return self._saved

    def definition(self, name: str, info: Mapping[str, Any] | None = None) -> StreamDefinition:
        """What to give `scan.create_stream` for the stream of these frames; one stream a buffer. `info` is
        copied. Waits until saver and server have started. Raises `FileWriteError` if frames cannot be saved,
        `BlissdataError` if the server does not start."""
        try:
            if self._saver is not None:
                self._wait_for_saver(self._saver)
            if self._server is not None:
                self._address = ServerAddress(self._server.wait_ready(), self._token)
        except BlissdataError:
            self.close()
            raise
        frames = FramesInfo(self._ring.name, self._slots, self._address, self._files)
        described = {
            **(info or {}),
            "plugin": PLUGIN,
            "dtype": self._point.dtype.str,
            "shape": list(self._point.shape),
            "frames": frames.as_json(),
        }
        return StreamDefinition(name, described, NumericStreamEncoder(np.int64, (2,)))

    @staticmethod
    def _wait_for_saver(saver: Companion) -> None:
        try:
            saver.wait_ready()
        except BlissdataError as error:
            raise FileWriteError(str(error)) from error

    def bind(self, events: EventStream) -> None:
        """The stream that tells of these frames: the first one for writing that is made of the definition.
        Called by the stream itself."""
        with self._lock:
            if self._events is None:
                self._events = events

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self._taken} taken, {self._saved} saved"
        return f"<FrameBuffer of {self._slots} frames {self.shape} {self.dtype}: {state}>"

    # ------------------------------------------------------------------------------ frames

    def put(self, frame: NDArray[Any]) -> int:
        """Takes the next frame; gives its index. `frame` is copied, once.

        Never waits for readers. If the buffer saves frames, waits for the saver while the slot has a
        frame that is not saved, `patience` [s] at most. Raises `TypeError` for another dtype, `ValueError`
        for another shape, `FileWriteError` if frames cannot be saved, and what went wrong with telling
        readers (`StreamSealedError`, `PublishError`, …); the frame is not taken then, except that
        one which could not be told of is."""
        self._check(frame)
        with self._lock:
            np.copyto(self._begin(), frame)
            return self._commit()

    def next_slot(self) -> NDArray[Any]:
        """The memory of the next frame, to be written in place; `commit` takes it. Its old content is
        lost. Waits and raises as `put` does. One thread at a time."""
        with self._lock:
            if self._open_slot is None:
                self._open_slot = self._begin()
            return self._open_slot

    def commit(self) -> int:
        """Takes the frame that was written into `next_slot`; gives its index."""
        with self._lock:
            if self._open_slot is None:
                raise RuntimeError("There is no slot to commit: next_slot() gives one")
            return self._commit()

    @contextmanager
    def writing(self) -> Iterator[NDArray[Any]]:
        """The memory of the next frame; the frame is taken when the block ends without an error."""
        yield self.next_slot()
        self.commit()

    def tell_saved(self, saved: int) -> None:
        """Says that the first `saved` frames are saved, for who saves them itself. They must be readable
        by then."""
        if self._saving is None or self._saving.by != "detector":
            raise ValueError(
                "Only where frames are saved by='detector' the program says how many are"
            )
        if not self._saved <= saved <= self._taken:
            raise ValueError(
                f"{saved} frames cannot be saved: {self._saved} were before, {self._taken} were taken"
            )
        self._saved = saved
        self._ring.tell_saved(saved)
        self._tell()

    def finish(self, timeout: float | None = None) -> None:
        """Waits until every frame that was put is saved, if the buffer saves them, `timeout` [s] at most
        (None: while there is progress), and until readers can know.

        Raises `FileWriteError` for frames that are not saved, once; and as `stream.join` does."""
        self.settle(timeout)
        if self._events is not None:
            self._events.join()

    def settle(self, timeout: float | None = None) -> None:
        """As `finish`, but readers will know in a moment. `scan.stop()` does it."""
        if self._trouble_told:
            return
        if self._saver is not None:
            patience = self._patience if timeout is None else timeout
            self._wait_saved(self._taken, patience, timeout is None)
        self.flush()

    def flush(self) -> None:
        """Tells readers now of what they were not told yet. Returns at once."""
        with self._news_lock:
            self._send_news()
        self._raise_trouble()

    def close(self) -> None:
        """The end: what is not saved yet is saved, and the memory is given back; readers that are slow
        find frames in files or not at all. Repeatable. Raises as `finish` does, after closing."""
        if self._closing:
            return
        self._closing = True
        try:
            if not self._ring.forked and self._events is not None:
                with suppress(StreamSealedError):
                    self.settle()
        finally:
            self._closed = True
            _buffers.pop(self._ring.name, None)
            self._late.set()
            if self._news is not None:
                self._news.join()
            for companion in (self._server, self._saver):
                if companion is not None and not self._ring.forked:
                    companion.end(self._patience)
            self._ring.close()

    def __enter__(self) -> FrameBuffer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def forget(self) -> None:
        """In a forked child: the buffer is its parent's."""
        for companion in (self._server, self._saver):
            if companion is not None:
                companion.forget()

    # ------------------------------------------------------------------------------ inside

    def _check(self, frame: NDArray[Any]) -> None:
        if not isinstance(frame, np.ndarray):
            raise TypeError(f"{self._what}: expected an array, received a {type(frame).__name__}")
        if frame.dtype != self._point.dtype:
            raise TypeError(
                f"{self._what}: expected numpy.{self._point.dtype}, received numpy.{frame.dtype}"
            )
        if frame.shape != self._point.shape:
            raise ValueError(
                f"{self._what}: expected shape {self._point.shape}, received {frame.shape}"
            )

    def _begin(self) -> NDArray[Any]:
        """The memory of the next frame."""
        if self._ring.forked:
            raise PublishError(f"{self._what} belongs to the process of which this one is a fork")
        if self._closing:
            raise PublishError(f"{self._what} is closed: it takes no more frames")
        if self._events is None:
            raise PublishError(
                f"{self._what} belongs to no stream yet: scan.create_stream(buffer.definition(name))"
            )
        self._raise_trouble()
        if self._saver is not None and self._taken - self._saved >= self._slots:
            self._wait_saved(self._taken - self._slots + 1, self._patience, False)
        pixels = self._ring.begin(self._taken)
        return pixels.view(self._point.dtype).reshape(self._point.shape)

    def _commit(self) -> int:
        index = self._taken
        self._ring.commit(index)
        self._taken = index + 1
        self._open_slot = None
        if self._saver is not None and self._ring.sleeper():
            self._saver.wake()
        self._tell()
        return index

    def _heard_of_saver(self, word: str, text: str) -> None:
        with self._lock:
            if word == "saved":
                self._saved = int(text)
            elif word in ("failed", "ended") and self._trouble is None and not self._closed:
                self._trouble = FileWriteError(
                    f"{self._what}: frames from {self._saved} on are not saved: "
                    f"{text or 'the process that saves them ended'}"
                )
            self._lock.notify_all()
        if word == "saved":
            self._late.set()

    def _wait_saved(self, wanted: int, patience: float, while_progress: bool) -> None:
        """Waits until so many frames are saved."""
        with self._lock:
            before, since = self._saved, time.monotonic()
            while self._saved < wanted:
                self._raise_trouble()
                if while_progress and self._saved != before:
                    before, since = self._saved, time.monotonic()
                left = since + patience - time.monotonic()
                if left <= 0:
                    raise FileWriteError(
                        f"{self._what}: saving is behind: {self._saved} of {self._taken} frames are "
                        f"saved, the ring holds {self._slots}, and {patience:g} s were not enough. Take "
                        "more slots, fewer frames a second, or a faster disk"
                    )
                self._lock.wait(left)

    def _raise_trouble(self) -> None:
        if self._trouble is not None:
            self._trouble_told = True
            raise type(self._trouble)(str(self._trouble)) from self._trouble

    # ------------------------------------------------------------------------------ news

    def _tell(self) -> None:
        """Readers shall know of it: now, or in a moment if they were told just before."""
        if time.monotonic() >= self._next_news and self._news_lock.acquire(blocking=False):
            try:
                self._send_news()
            finally:
                self._news_lock.release()
        elif not self._late.is_set():
            if self._news is None:
                self._news = threading.Thread(
                    target=self._tell_late, name="blissdata-frames-news", daemon=True
                )  # daemonic: `close` ends it, and who forgets that has nothing to be told of
                self._news.start()
            self._late.set()

    def _send_news(self) -> None:
        self._next_news = time.monotonic() + NEWS_PERIOD_S
        if not self._closed:
            self._late.clear()
        counters = (self._taken, self._saved)
        if self._events is not None and counters != self._told:
            self._events.send(np.array(counters, np.int64))
            self._told = counters

    def _tell_late(self) -> None:
        while True:
            self._late.wait()
            if self._closed:
                return
            pause = self._next_news - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            try:
                with self._news_lock:
                    self._send_news()
            except Exception as error:  # noqa: BLE001 — reaches the caller at the next put, flush or finish
                self._trouble = error
                return

    @property
    def _what(self) -> str:
        """The buffer as messages name it."""
        if self._events is None:
            return f"A buffer of {self._slots} frames {self.shape}"
        return f"The buffer of {self._events.what}"


def _slots(slots: int | None, memory: int | None, nbytes: int) -> int:
    if slots is not None and memory is not None:
        raise ValueError("Either the slots of a buffer are given, or its memory, not both")
    if memory is not None:
        if memory < nbytes:
            raise ValueError(
                f"A buffer of {memory} bytes is smaller than one frame, which has {nbytes}"
            )
        return int(memory // nbytes)
    found = SLOTS if slots is None else slots
    if isinstance(found, bool) or not hasattr(found, "__index__") or not 1 <= found <= 2**32:
        raise ValueError(f"A buffer has at least one slot, not {found!r}")
    return int(found)


def _own_address() -> str:
    """The address of this host on the interface that leads to others; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: nobody's
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


_buffers: weakref.WeakValueDictionary[str, FrameBuffer] = weakref.WeakValueDictionary()


def buffer_of(ring: str) -> FrameBuffer | None:
    """The buffer of this process that has that ring."""
    return _buffers.get(ring)


def _after_fork_in_child() -> None:
    for buffer in list(_buffers.values()):
        buffer.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)
