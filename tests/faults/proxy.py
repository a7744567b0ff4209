"""A port between programs and a server, where everything can go wrong that goes wrong in networks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Proxy"]

CHUNK = 64 * 2**10


class _Pair:
    """Both ends of one connection."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server


class Proxy:
    """Listens on loopback, in a thread of its own; a context manager.

    `target` is the unix socket of the server; it may be changed, for connections to come."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.port = 0
        self.connections = 0
        """How many there were."""
        self._pairs: set[_Pair] = set()
        self._orphans: list[_Pair] = []
        self._refusing = False
        self._swallowing = False
        self._delay = 0.0
        self._left: dict[str, int | None] = {"up": None, "down": None}
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._thread.start()
        self._listener = self._do(self._listen())

    @property
    def url(self) -> str:
        """The server's address through this port."""
        return f"redis://127.0.0.1:{self.port}"

    # ------------------------------------------------------------------------------ what goes wrong

    def cut(self) -> None:
        """Every connection is reset."""
        self._do(self._cut())

    def cut_within(self, way: str, nbytes: int) -> None:
        """`nbytes` more go `up` (to the server) or `down`, over all connections; then all are reset."""
        self._left[way] = nbytes

    def heal(self) -> None:
        """Everything is well from now on."""
        self._do(self._heal())

    def stall(self) -> None:
        """Nothing goes either way, connections stay."""
        self._do(self._stall())

    def swallow_replies(self) -> None:
        """What the server says is thrown away; connections that were there then are of no use."""
        self._swallowing = True

    def stop_swallowing(self) -> None:
        """Connections out of which replies are missing are reset."""
        self._swallowing = False
        self.cut()

    def half_open(self) -> None:
        """The server's ends are closed, the clients are told nothing, now or ever."""
        self._do(self._half_open())

    def refuse(self) -> None:
        """Every connection is reset, and no new one is taken."""
        self._refusing = True
        self.cut()

    def delay(self, seconds: float) -> None:
        """Each piece waits so long in each direction."""
        self._delay = seconds

    # ------------------------------------------------------------------------------ inside

    def _do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _listen(self) -> asyncio.Server:
        self._flowing.set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _cut(self) -> None:
        for pair in self._pairs:
            pair.client.transport.abort()
            pair.server.transport.abort()

    async def _heal(self) -> None:
        self._refusing = False
        self._delay = 0.0
        self._left = {"up": None, "down": None}
        self._flowing.set()

    async def _stall(self) -> None:
        self._flowing.clear()

    async def _half_open(self) -> None:
        for pair in list(self._pairs):
            self._pairs.discard(pair)
            self._orphans.append(pair)
            pair.server.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refusing:
            client.transport.abort()
            return
        try:
            above, server = await asyncio.open_unix_connection(str(self.target))
        except OSError:
            client.transport.abort()
            return
        pair = _Pair(client, server)
        self._pairs.add(pair)
        self._start(self._pump("up", reader, server, pair))
        self._start(self._pump("down", above, client, pair))

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._flowing.wait()
                if self._delay:
                    await asyncio.sleep(self._delay)
                left = self._left[way]
                if left is not None:
                    self._left[way] = max(0, left - len(data))
                    data, whole = data[:left], len(data) <= left
                    writer.write(data)
                    if not whole:
                        with suppress(OSError):
                            await writer.drain()
                        self._left[way] = None
                        await self._cut()
                    continue
                if way == "down" and self._swallowing:
                    continue
                writer.write(data)
                await writer.drain()
        if pair in self._pairs:  # not half open
            await self._flowing.wait()
            self._pairs.discard(pair)
            pair.client.close()
            pair.server.close()

    async def _close(self) -> None:
        self._listener.close()
        for pair in [*self._pairs, *self._orphans]:
            pair.client.transport.abort()
            pair.server.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        """Closes all. Repeatable."""
        if not self._loop.is_closed():
            self._do(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
