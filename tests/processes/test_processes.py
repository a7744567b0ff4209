"""Real programs around one server: they read while others write, end, crash, fork, are interrupted.

| program                                     | promise                                          |
| ------------------------------------------- | ------------------------------------------------ |
| one writes, three read meanwhile            | all get the same numbers                         |
| ends without close(): normally, by sys.exit,| what was sent is there, and the program ends      |
|   by an exception; a child of multiprocessing |                                                |
| ends without a server                       | ends, and says that points were lost             |
| is killed                                   | readers can leave                                |
| publishes a scan that somebody deletes      | says so, once                                    |
| forks with open streams                     | the child is told, and may open its own; both end|
| gets Ctrl-C in send, join, read, wait       | ends; the scan is closed as USER_ABORT           |

Programs say on stdout how far they are; waiting for that has a deadline, and nothing sleeps.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from blissdata import DataStore, ScanState
from blissdata.exceptions import EndOfStream
from blissdata.testing.servers import TestServer

LONG_S = 60.0
IDENTITY = {"name": "processes", "number": 1, "data_policy": "none"}

PRELUDE = f"""
import json, os, signal, sys
from blissdata import DataStore
from blissdata.streams import CursorGroup, sink

signal.signal(signal.SIGINT, signal.default_int_handler)
url, *arguments = sys.argv[1:]
IDENTITY = {IDENTITY!r}

def say(word):
    print(word, flush=True)

def hear():
    return sys.stdin.readline().strip()

def new_scan(store, *names, dtype="int64"):
    scan = store.create_scan(IDENTITY)
    streams = [scan.create_stream(name, dtype=dtype) for name in names]
    scan.prepare()
    scan.start()
    say(scan.key)
    return scan, *streams
"""


class Program:
    """A Python program of its own; ended at the end of the block, whatever happens."""

    def __init__(self, directory: Path, url: str, source: str, *arguments: str) -> None:
        path = directory / f"program{len(list(directory.iterdir()))}.py"
        path.write_text(PRELUDE + textwrap.dedent(source))
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error::ResourceWarning", str(path), url, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._errors: list[str] = []
        self._threads = [
            threading.Thread(target=self._collect, args=[self._process.stdout, self._lines.put]),
            threading.Thread(
                target=self._collect, args=[self._process.stderr, self._errors.append]
            ),
        ]
        for thread in self._threads:
            thread.start()

    def _collect(self, pipe: Any, take: Callable[[str], None]) -> None:
        for line in pipe:
            take(line.rstrip("\n"))

    @property
    def pid(self) -> int:
        return self._process.pid

    def line(self) -> str:
        """The next line that it prints."""
        try:
            return self._lines.get(timeout=LONG_S)
        except queue.Empty:
            pytest.fail(f"the program says nothing: {self._errors}")

    def tell(self, word: str) -> None:
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> tuple[int, str]:
        """Waits for its end: exit code, and what it printed on stderr."""
        try:
            code = self._process.wait(LONG_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the program does not end: {self._errors}")
        for thread in self._threads:
            thread.join()
        return code, "\n".join(self._errors)

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its forks, too
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            pipe.close()


@pytest.fixture
def run(plain_store, server, tmp_path):
    """Starts programs."""
    programs: list[Program] = []

    def start(source: str, *arguments: str, url: str | None = None) -> Program:
        programs.append(Program(tmp_path, url or server.url, source, *arguments))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


# ---------------------------------------------------------------------------------- side by side

WRITER = """
    with DataStore(url) as store:
        scan, x, j = new_scan(store, "x", "j")
        say("prepared")
        hear()
        for i in range(3000):
            x.send(i * i)
            if i % 7 == 0:
                j.send(-i)
            if i % 500 == 0:
                x.join()
        scan.stop()
        scan.close()
"""

READERS = {
    "slice": """
        from blissdata.streams import Cursor
        with DataStore(url) as store:
            streams = store.load_scan(arguments[0]).streams
            say("ready")
            found = {}
            for name, stream in streams.items():
                found[name] = []
                for view in stream.cursor():  # woken up; then read by slices of another size
                    while len(part := stream[len(found[name]):len(found[name]) + 113]):
                        found[name] += part.tolist()
            say(json.dumps(found))
    """,
    "cursor": """
        with DataStore(url) as store:
            streams = store.load_scan(arguments[0]).streams
            say("ready")
            found = {n: [int(p) for p in s] for n, s in streams.items()}
            say(json.dumps(found))
    """,
    "group": """
        with DataStore(url) as store:
            streams = store.load_scan(arguments[0]).streams
            group = CursorGroup(streams)
            say("ready")
            found = {name: [] for name in streams}
            for views in group:
                for stream, view in views.items():
                    found[stream.name] += view.get_data().tolist()
            say(json.dumps(found))
    """,
}


def test_all_readers_of_a_running_scan_get_the_same_numbers(run, plain_store):
    writer = run(WRITER)
    key = writer.line()
    assert writer.line() == "prepared"
    readers = [run(source, key) for source in READERS.values()]
    for reader in readers:
        assert reader.line() == "ready"
    writer.tell("go")
    expected = {"x": [i * i for i in range(3000)], "j": [-i for i in range(0, 3000, 7)]}
    for reader in readers:
        assert json.loads(reader.line()) == expected
        assert reader.end() == (0, "")
    assert writer.end() == (0, "")
    assert plain_store.get_scans_state([key]) == {key: ScanState.CLOSED}


# ---------------------------------------------------------------------------------- the end

ENDINGS = {
    "normally": ("", 0),
    "by sys.exit": ("sys.exit(3)", 3),
    "by an exception": ("raise ZeroDivisionError", 1),
}


@pytest.mark.parametrize(("ending", "code"), ENDINGS.values(), ids=ENDINGS)
def test_a_program_that_ends_without_closing_delivers_what_it_sent(run, plain_store, ending, code):
    program = run(f"""
        store = DataStore(url)
        scan, x = new_scan(store, "x")
        for i in range(2000):
            x.send(i)
        {ending}
    """)
    key = program.line()
    assert program.end()[0] == code
    assert plain_store.load_scan(key).streams["x"][:].tolist() == list(range(2000))


def test_a_program_that_sends_at_its_very_end_is_told_or_served(run, plain_store):
    """The idle publisher has no thread then, and a new one cannot be had everywhere."""
    program = run("""
        import atexit

        @atexit.register
        def last_words():
            while store.publisher._thread is not None:
                pass
            try:
                x.send(1)
                x.join()
                say("served")
            except RuntimeError as error:
                say("told")

        sink.IDLE_S = 0.01
        store = DataStore(url)
        scan, x = new_scan(store, "x")
        x.send(0)
        x.join()
    """)
    key = program.line()
    word = program.line()
    code, errors = program.end()
    assert code == 0
    assert errors.splitlines()[1:] == []
    assert errors.startswith(f"Scan {key} is left in state STARTED")
    found = plain_store.load_scan(key).streams["x"][:].tolist()
    assert found == {"served": [0, 1], "told": [0]}[word]


def test_a_program_ends_without_a_server_and_says_what_was_lost(run):
    with TestServer() as server:
        with DataStore(server.url, init_db=True):
            pass
        program = run(
            """
            sink.EXIT_GRACE_S = 0.3
            store = DataStore(url)
            scan, x = new_scan(store, "x")
            x.send(1)
            x.join()
            say("joined")
            hear()
            x.send(2)
            """,
            url=server.url,
        )
        program.line()
        assert program.line() == "joined"
        server.kill()
        program.tell("go")
        code, errors = program.end()
        assert code == 0
        assert "Points were lost at the end of the program" in errors
        assert "points 1 to 1" in errors


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_multiprocessing_delivers_what_it_sent(run, plain_store, method):
    program = run(f"""
        import multiprocessing

        def write(url, key):
            store = DataStore(url)
            stream = store.load_scan(key).get_writer_stream("x")
            for i in range(2000):
                stream.send(i)

        if __name__ == "__main__":
            store = DataStore(url)
            scan, x = new_scan(store, "x")
            context = multiprocessing.get_context({method!r})
            child = context.Process(target=write, args=[url, scan.key])
            child.start()
            child.join()
            length = len(scan.streams["x"])  # before close() waits for anything
            scan.close()
            say(str(length))
            sys.exit(child.exitcode)
    """)
    key = program.line()
    assert program.line() == "2000"
    code, errors = program.end()
    assert (code, errors) == (0, "")
    assert plain_store.load_scan(key).streams["x"][:].tolist() == list(range(2000))


def test_a_killed_program_leaves_readers_that_can_leave(run, plain_store):
    program = run("""
        store = DataStore(url)
        scan, x, y = new_scan(store, "x", "y")
        for i in range(100):
            x.send(i)
        x.join()
        say("sent")
        while True:
            y.send(1)
    """)
    key = program.line()
    assert program.line() == "sent"
    program.kill()
    assert program.end()[0] == -signal.SIGKILL
    scan = plain_store.load_scan(key)
    cursor = scan.streams["x"].cursor()
    assert cursor.read().get_data().tolist() == list(range(100))
    assert cursor.read(timeout=0.01) is None
    assert scan.streams["x"].wait_seal(timeout=0.01) is False
    assert scan.update(timeout=0.01) is False
    # Somebody tidies up: whoever waits is told.
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(EndOfStream):
            cursor.read()
        ended.set()

    reader = threading.Thread(target=wait)
    reader.start()
    plain_store.delete_scan(key, force=True)
    reader.join(LONG_S)
    assert ended.is_set()
    y = scan.streams["y"]
    assert y[:].tolist() == [1] * len(y)


@pytest.mark.parametrize("way", ["with scan:", "if True:"], ids=["in a block", "without"])
def test_a_program_whose_scan_is_deleted_says_so_and_nothing_else(run, plain_store, way):
    program = run(f"""
        store = DataStore(url)
        scan, x = new_scan(store, "x")
        {way}
            hear()
            while True:
                x.send(1)
    """)
    key = program.line()
    plain_store.delete_scan(key, force=True)
    program.tell("go")
    code, errors = program.end()
    assert code == 1
    assert errors.splitlines()[0].startswith("Traceback")
    assert errors.splitlines()[-1].startswith("blissdata.")
    assert "its scan was deleted from the server" in errors.splitlines()[-1]
    for misleading in ("discrepancy", "left in state", "sealed with", "and then:"):
        assert misleading not in errors


# ---------------------------------------------------------------------------------- forks


def test_a_fork_is_told_and_may_open_the_stream_anew(run, plain_store):
    program = run("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, from 3.12 on
        store = DataStore(url)
        scan, x, y = new_scan(store, "x", "y")
        for i in range(100):
            x.send(i)
        child = os.fork()
        if not child:
            try:
                x.send(-1)
            except RuntimeError as error:
                say(f"told: {error}")
            for write in (x.join, x.seal, scan.close):
                try:
                    write()
                except RuntimeError:
                    say("told")
            y = scan.get_writer_stream("y")
            for i in range(50):
                y.send(i)
            sys.exit(5)  # without close
        say(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
        x.send(100)
        x.join()
        say("joined")
        scan.close()
    """)
    key = program.line()
    told = program.line()
    assert f"process {program.pid}" in told
    assert "scan.get_writer_stream('x')" in told
    assert [program.line() for _ in range(3)] == ["told"] * 3
    assert program.line() == "5"
    assert program.line() == "joined"
    code, errors = program.end()
    assert code == 0
    # The parent had y open as well, but wrote nothing: it is sealed where the child ended.
    assert errors == ""
    streams = plain_store.load_scan(key).streams
    assert streams["x"][:].tolist() == list(range(101))
    assert streams["y"][:].tolist() == list(range(50))
    assert streams["x"].is_sealed()
    assert streams["y"].is_sealed()


def test_forks_in_the_middle_of_publishing_do_no_harm(run, plain_store):
    program = run("""
        import threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        store = DataStore(url)
        scan, x, y = new_scan(store, "x", "y")

        def publish(stream):
            for i in range(5000):
                stream.send(i)

        def fork():
            for _ in range(10):
                child = os.fork()
                if not child:
                    try:
                        x.join()
                        os._exit(1)
                    except RuntimeError:
                        os._exit(0)
                codes.append(os.waitpid(child, 0)[1])

        codes = []
        threads = [threading.Thread(target=publish, args=[s]) for s in (x, y)]
        threads += [threading.Thread(target=fork) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        say(str(codes))
        scan.close()
        store.close()
    """)
    key = program.line()
    assert program.line() == str([0] * 20)
    assert program.end() == (0, "")
    for stream in plain_store.load_scan(key).streams.values():
        assert stream[:].tolist() == list(range(5000))


# ---------------------------------------------------------------------------------- Ctrl-C

WAITS = {
    "in send": "while True: x.send(1)",
    "in send, with a full queue": "store.publisher.max_queued = 9; [x.send(1) for _ in iter(int, 1)]",
    "in join": "x.send(1); x.join()",
    "in a read": "scan.streams['x'].cursor().read()",
    "in a read of a group": "CursorGroup(scan.streams).read()",
    "in an iteration": "list(scan.streams['x'])",
    "in wait_seal": "x.wait_seal()",
    "in update": "store.load_scan(scan.key).update()",
    "in get_next_scan": "store.get_next_scan()",
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_the_program_and_closes_the_scan(run, plain_store, wait):
    with TestServer() as server, DataStore(server.url, init_db=True) as store:
        program = run(
            f"""
            store = DataStore(url)
            scan, x = new_scan(store, "x")
            with scan:
                say("waiting")
                hear()
                {WAITS[wait]}
            """,
            url=server.url,
        )
        key = program.line()
        assert program.line() == "waiting"
        stuck = "join" in wait or "queue" in wait
        if stuck:
            server.pause()
        try:
            program.tell("go")
            if not stuck and "send" not in wait:
                until(lambda: store._redis.info("clients")["blocked_clients"])
            program.interrupt()
        finally:
            if stuck:
                server.resume()
        code, errors = program.end()
        assert code in (-signal.SIGINT, 130)
        assert errors.splitlines()[-1].startswith("KeyboardInterrupt")
        scan = store.load_scan(key)
        assert scan.state == ScanState.CLOSED, errors
        assert scan.info["end_reason"] == "USER_ABORT"
        x = scan.streams["x"]
        assert x.is_sealed()
        assert x[:].tolist() == [1] * len(x)


def test_ctrl_c_while_the_server_is_away_ends_the_program(run):
    with TestServer() as server:
        with DataStore(server.url, init_db=True):
            pass
        program = run(
            """
            sink.EXIT_GRACE_S = 0.3
            store = DataStore(url)
            scan, x = new_scan(store, "x")
            say("waiting")
            hear()
            x.send(1)
            x.join()
            """,
            url=server.url,
        )
        program.line()
        assert program.line() == "waiting"
        server.kill()
        program.tell("go")
        program.interrupt()
        code, errors = program.end()
        assert code in (-signal.SIGINT, 130)
        assert "KeyboardInterrupt" in errors


def test_a_program_that_leaves_its_scan_open_says_so(run, plain_store):
    program = run("""
        store = DataStore(url)
        scan, x = new_scan(store, "x")
        x.send(1)
    """)
    key = program.line()
    code, errors = program.end()
    assert code == 0
    assert errors.startswith(f"Scan {key} is left in state STARTED")
    assert plain_store.load_scan(key).streams["x"][:].tolist() == [1]
