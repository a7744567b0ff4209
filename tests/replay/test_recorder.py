"""Recording a scan and replaying it: the same header, streams, entries and times, whenever the
recorder comes; and what is left of it when it cannot go on.

                    scan over   scan runs   scan to come
    plain server        ×           ×            ×
    memory              ×           ×            ×
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blissdata import DataStore, Scan, ScanState
from blissdata.exceptions import (
    MissingPluginException,
    RecordingError,
    ScanNotFoundError,
    UnknownEncodingError,
)
from blissdata.replay import open_recording, play_recording, record, recording
from blissdata.replay.recording import EntryEvent
from blissdata.streams.event_log import SpanRequest

IDENTITY = {"name": "recorded", "number": 3, "data_policy": "none", "session": "s"}
DEADLINE_S = 60.0


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_keys_and_times(path: Path) -> list[dict[str, Any]]:
    return [
        {name: one[name] for name in one if name not in ("key", "recorded", "at", "estimated")}
        for one in objects(path)
    ]


def publish(store: DataStore, *, close: bool = True) -> Scan:
    """A scan with every kind of stream, and entries of several lengths."""
    scan = store.create_scan(IDENTITY, {"title": "t", "npoints": 30})
    scalar = scan.create_stream("scalar", dtype="f8", unit="A")
    image = scan.create_stream("image", dtype=">u2", shape=(2, 3))
    ragged = scan.create_stream("ragged", dtype="i4", shape=(-1,))
    text = scan.create_stream("text", dtype="json")
    scan.create_stream("empty", dtype="f4")
    scan.prepare()
    scan.start()
    for i in range(10):
        scalar.send(np.arange(3.0) + i)
        scalar.join()  # an entry of its own
        image.send(np.full((2, 3), i, ">u2"))
        ragged.send(np.arange(i + 1, dtype="i4"))
        text.send({"i": i, "nan": float("nan")})
    if close:
        scan.stop()
        scan.info["end_reason"] = "SUCCESS"
        scan.close()
    return scan


def entries_of(store: DataStore, key: str) -> dict[str, Any]:
    """Each stream's entries as the server has them."""
    streams = store.load_scan(key).streams
    spans = store.event_log.span([SpanRequest(stream.key) for stream in streams.values()])
    return dict(zip(streams, spans, strict=True))


@contextlib.contextmanager
def recording_in_background(scan: Scan, path: Path, **options: Any) -> Iterator[Callable[[], Any]]:
    """Records in a thread; calling what it gives waits for the end."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(record(scan, path, **options))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def wait() -> Any:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
        return outcome[0]

    yield wait
    thread.join(DEADLINE_S)


# ---------------------------------------------------------------------------------- there and back


def test_record_replay_record_differs_in_keys_and_times_only(
    store: DataStore, tmp_path: Path
) -> None:
    scan = publish(store)
    first = record(store.load_scan(scan.key), tmp_path / "first.jsonl")
    played = play_recording(store, open_recording(tmp_path / "first.jsonl"), pace="fast")
    record(store.load_scan(played.key), tmp_path / "second.jsonl")
    assert without_keys_and_times(tmp_path / "first.jsonl") == without_keys_and_times(
        tmp_path / "second.jsonl"
    )
    assert played.key != scan.key
    assert entries_of(store, played.key) == entries_of(store, scan.key)
    assert first.points == {"scalar": 30, "image": 10, "ragged": 10, "text": 10, "empty": 0}
    assert (first.complete, first.estimated, first.gaps) == (True, True, {})


def test_the_replayed_scan_reads_like_the_recorded_one(store: DataStore, tmp_path: Path) -> None:
    original = publish(store)
    record(store.load_scan(original.key), tmp_path / "scan.jsonl.gz")
    play_recording(store, open_recording(tmp_path / "scan.jsonl.gz"), {"number": 4}, pace="fast")
    a, b = store.load_scan(original.key), store.load_scan(store.get_last_scan()[1])
    assert a.info == b.info
    assert {**a.identity, "number": 4} == b.identity
    for name, stream in a.streams.items():
        assert stream.info == b.streams[name].info
        assert stream.event_stream.encoding == b.streams[name].event_stream.encoding
        if name in ("scalar", "image", "empty"):
            np.testing.assert_array_equal(stream[:], b.streams[name][:])
        else:
            assert repr(stream[:]) == repr(b.streams[name][:])
        assert b.streams[name].is_sealed()


def test_a_running_scan_is_followed_to_its_end(store: DataStore, tmp_path: Path) -> None:
    """What was there before the recorder has estimated times, what came after seen ones."""
    scan = publish(store, close=False)
    seen = threading.Event()
    path = tmp_path / "live.jsonl"
    with recording_in_background(
        store.load_scan(scan.key), path, progress=lambda summary: seen.set()
    ) as wait:
        assert seen.wait(DEADLINE_S)
        stream = scan.get_writer_stream("scalar")  # goes on where it ends
        for i in range(5):
            stream.send(float(i))
            stream.join()
        stream.seal()
        scan.stop()
        scan.info["end_reason"] = "SUCCESS"
        scan.close()
        summary = wait()
    assert (summary.complete, summary.points["scalar"]) == (True, 35)
    entries = [e for e in open_recording(path).events() if isinstance(e, EntryEvent)]
    scalars = [e for e in entries if e.stream == "scalar"]
    assert scalars[0].estimated
    assert not scalars[-1].estimated
    header, *_, closed, end = objects(path)
    assert "end_reason" not in header["info"]
    assert closed["info"]["end_reason"] == "SUCCESS"
    assert end["complete"] is True


def test_a_scan_is_recorded_from_its_creation_on(store: DataStore, tmp_path: Path) -> None:
    """Streams that come with a later step are recorded as well."""
    scan = store.create_scan(IDENTITY, {"title": "early"})
    path = tmp_path / "scan.jsonl"
    with recording_in_background(store.load_scan(scan.key), path) as wait:
        first = scan.create_stream("first", dtype="f8")
        scan.prepare()
        first.send(1.0)
        second = scan.create_stream("second", dtype="f8")
        scan.start()
        third = scan.create_stream("third", dtype="f8")
        second.send(2.0)
        third.send(3.0)
        scan.stop()
        scan.close()
        summary = wait()
    assert summary.points == {"first": 1, "second": 1, "third": 1}
    played = play_recording(store, open_recording(path), pace="fast")
    assert {name: s[:].tolist() for name, s in store.load_scan(played.key).streams.items()} == {
        "first": [1.0],
        "second": [2.0],
        "third": [3.0],
    }


def test_live_twice_gives_the_same_events_stream_by_stream(
    plain_store: DataStore, tmp_path: Path
) -> None:
    publish(plain_store)
    record(plain_store.load_scan(plain_store.get_last_scan()[1]), tmp_path / "a.jsonl")
    timetag = plain_store.get_last_scan_timetag()
    recording = open_recording(tmp_path / "a.jsonl")
    player = threading.Thread(target=lambda: play_recording(plain_store, recording))
    player.start()
    _, key = plain_store.get_next_scan(since=timetag, timeout=DEADLINE_S)
    record(plain_store.load_scan(key), tmp_path / "b.jsonl")
    player.join(DEADLINE_S)
    a, b = (without_keys_and_times(tmp_path / name) for name in ("a.jsonl", "b.jsonl"))
    assert a[0] == b[0]
    for stream in recording.header.streams:
        assert [o for o in a if o.get("stream") == stream] == [
            o for o in b if o.get("stream") == stream
        ]


def test_the_pace_of_a_recording_is_kept(plain_store: DataStore, tmp_path: Path) -> None:
    path = tmp_path / "scan.jsonl"
    scan = plain_store.create_scan(IDENTITY)
    stream = scan.create_stream("x", dtype="f8")
    recorded: queue.SimpleQueue[int] = queue.SimpleQueue()
    with recording_in_background(
        plain_store.load_scan(scan.key),
        path,
        progress=lambda summary: recorded.put(summary.points.get("x", 0)),
    ) as wait:
        scan.prepare()
        scan.start()
        for i in range(4):
            stream.send(float(i))
            while recorded.get(timeout=DEADLINE_S) <= i:
                pass
            time.sleep(0.15)  # from when the point was noted: the next one is noted later than that
        scan.stop()
        scan.close()
        assert wait().seconds >= 0.6
    ats = [e.at for e in open_recording(path).events() if isinstance(e, EntryEvent)]
    assert len(ats) == 4
    assert all(later - earlier > 0.149 for earlier, later in itertools.pairwise(ats))
    timetag = plain_store.get_last_scan_timetag()
    began = time.monotonic()
    player = threading.Thread(target=lambda: play_recording(plain_store, open_recording(path)))
    player.start()
    _, key = plain_store.get_next_scan(since=timetag, timeout=DEADLINE_S)
    again = plain_store.load_scan(key)
    assert again.wait_state(ScanState.PREPARED, DEADLINE_S)
    repeated = []
    for view in again.streams["x"].cursor():
        repeated += [time.monotonic() - began] * len(view)
    player.join(DEADLINE_S)
    # No point comes before its time; later where the machine was busy, so that is not compared.
    assert len(repeated) == 4
    assert np.all(np.array(repeated) >= ats)


def test_a_scan_that_never_ran(store: DataStore, tmp_path: Path) -> None:
    scan = store.create_scan(IDENTITY, {"title": "nothing"})
    scan.close()
    summary = record(store.load_scan(scan.key), tmp_path / "scan.jsonl")
    assert (summary.complete, summary.points) == (True, {})
    played = play_recording(store, open_recording(tmp_path / "scan.jsonl"))
    assert store.load_scan(played.key).state == ScanState.CLOSED


# ---------------------------------------------------------------------------------- gaps


def test_points_that_left_the_server_are_a_gap(store: DataStore, tmp_path: Path) -> None:
    scan = publish(store)
    stream = store.load_scan(scan.key).streams["scalar"]
    store.event_log.trim({stream.key: 6})
    path = tmp_path / "scan.jsonl"
    summary = record(store.load_scan(scan.key), path)
    assert (summary.gaps, summary.points["scalar"]) == ({"scalar": 6}, 24)
    gaps = [one for one in objects(path) if one.get("event") == "gap"]
    assert [(one["stream"], one["index"], one["len"]) for one in gaps] == [("scalar", 0, 6)]
    before = store.get_last_scan()
    with pytest.raises(RecordingError, match=r"6 points were no longer .*'scalar'.*--renumber"):
        play_recording(store, open_recording(path), pace="fast")
    assert store.get_last_scan() == before
    played = play_recording(store, open_recording(path), pace="fast", renumber=True)
    found = store.load_scan(played.key).streams["scalar"]
    np.testing.assert_array_equal(found[:], stream[6:])


def test_a_stream_of_which_everything_left(store: DataStore, tmp_path: Path) -> None:
    scan = publish(store)
    stream = store.load_scan(scan.key).streams["image"]
    store.event_log.trim({stream.key: 10})
    summary = record(store.load_scan(scan.key), tmp_path / "scan.jsonl")
    assert (summary.gaps, summary.points["image"]) == ({"image": 10}, 0)


# ---------------------------------------------------------------------------------- trouble


def test_ctrl_c_keeps_what_was_recorded(store: DataStore, tmp_path: Path) -> None:
    scan = publish(store, close=False)

    def interrupt(summary: Any) -> None:
        if summary.entries == 5:
            raise KeyboardInterrupt

    path = tmp_path / "scan.jsonl"
    with pytest.raises(KeyboardInterrupt):
        record(store.load_scan(scan.key), path, progress=interrupt)
    scan.close()
    assert list(tmp_path.iterdir()) == [path]
    recording = open_recording(path)
    summary = recording.check()
    assert (summary.complete, summary.reason, summary.entries) == (False, "KeyboardInterrupt", 5)
    played = play_recording(store, recording, pace="fast")
    found = store.load_scan(played.key)
    assert (found.state, found.info["end_reason"]) == (ScanState.CLOSED, "FAILURE")
    assert sum(played.points.values()) == sum(summary.points.values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_what_comes_in_the_middle_of_an_event_waits_for_its_end(
    memory_store: DataStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    scan, written, real = publish(memory_store, close=False), [], recording.base64.b64encode

    def strike(payload: bytes) -> bytes:
        written.append(payload)
        if len(written) == 4:
            os.kill(os.getpid(), number)
        return real(payload)

    monkeypatch.setattr(recording.base64, "b64encode", strike)
    before = signal.signal(number, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            record(memory_store.load_scan(scan.key), tmp_path / "scan.jsonl")
        assert signal.getsignal(number) is interrupted
    finally:
        signal.signal(number, before)
    scan.close()
    summary = open_recording(tmp_path / "scan.jsonl").check()
    assert (summary.complete, summary.entries) == (False, 4)


def test_a_scan_that_is_deleted_meanwhile(store: DataStore, tmp_path: Path) -> None:
    scan = publish(store, close=False)
    seen = threading.Event()
    path = tmp_path / "scan.jsonl"
    with recording_in_background(
        store.load_scan(scan.key), path, progress=lambda summary: seen.set()
    ) as wait:
        assert seen.wait(DEADLINE_S)
        scan.close()
        store.delete_scan(scan.key)
        outcome = wait()
    summary = open_recording(path).check()
    if isinstance(outcome, ScanNotFoundError):  # it was gone before its end was seen
        assert (summary.complete, "deleted" in (summary.reason or "")) == (False, True)
    else:
        assert summary.complete


def test_a_file_that_exists_is_not_overwritten(store: DataStore, tmp_path: Path) -> None:
    scan = publish(store)
    path = tmp_path / "scan.jsonl"
    path.write_text("precious")
    with pytest.raises(RecordingError, match="exists already"):
        record(store.load_scan(scan.key), path)
    assert path.read_text() == "precious"
    record(store.load_scan(scan.key), path, overwrite=True)
    assert open_recording(path).check().complete


def _edited(path: Path, line: int, **fields: Any) -> Path:
    found = objects(path)
    found[line - 1] |= fields
    path.write_text("".join(json.dumps(one) + "\n" for one in found))
    return path


_HEADER = {"type": "numeric", "dtype_str": "<f8", "shape": []}


@pytest.mark.parametrize(
    ("fields", "error", "complaint"),
    [
        ({"identity": {"name": "x"}}, RecordingError, "identity .* is not one of this store"),
        (
            {"streams": {"x": {"encoding": {"type": "zip"}, "info": {}}}},
            UnknownEncodingError,
            "zip",
        ),
        (
            {"streams": {"x": {"encoding": _HEADER, "info": {"plugin": "no-such"}}}},
            MissingPluginException,
            "no-such",
        ),
        (
            {"streams": {"x": {"encoding": _HEADER | {"shape": [2]}, "info": {}}}},
            RecordingError,
            "line 4: the payload for stream 'x' is not what its encoding says",
        ),
    ],
    ids=["identity", "encoding", "plugin", "payload"],
)
def test_what_cannot_be_published_is_said_before_anything_is(
    fields: dict[str, Any],
    error: type[Exception],
    complaint: str,
    store: DataStore,
    tmp_path: Path,
) -> None:
    with store.create_scan(IDENTITY) as scan:
        stream = scan.create_stream("x", dtype="f8")
        scan.prepare()
        scan.start()
        stream.send(1.0)
    path = tmp_path / "scan.jsonl"
    record(store.load_scan(scan.key), path)
    recording = open_recording(_edited(path, 1, **fields))
    with pytest.raises(error, match=complaint):
        play_recording(store, recording, pace="fast")
    assert store.get_last_scan()[1] == scan.key


def test_an_interrupted_replay_closes_its_scan(store: DataStore, tmp_path: Path) -> None:
    scan = publish(store)
    record(store.load_scan(scan.key), tmp_path / "scan.jsonl")

    def interrupt(points: int, npoints: int) -> None:
        raise KeyboardInterrupt

    recording = open_recording(tmp_path / "scan.jsonl")
    with pytest.raises(KeyboardInterrupt):
        play_recording(store, recording, pace="fast", progress=interrupt)
    found = store.load_scan(store.get_last_scan()[1])
    assert found.key != scan.key
    assert (found.state, found.info["end_reason"]) == (ScanState.CLOSED, "USER_ABORT")
