"""The format of recordings: written and read back, and every lie in one found at its line."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blissdata.exceptions import RecordingError
from blissdata.replay import is_recording, open_recording
from blissdata.replay.recording import (
    EntryEvent,
    Event,
    GapEvent,
    Header,
    RecordingWriter,
    SealEvent,
    StateEvent,
    StreamHeader,
    StreamsEvent,
    write_atomically,
)
from blissdata.streams.encoding import EncodedBatch

FLOATS = StreamHeader({"type": "numeric", "dtype_str": "<f8", "shape": []}, {"unit": "A"})
HEADER = Header({"name": "x", "number": 1}, {"npoints": 2}, {"a": FLOATS}, "key", "now")


def _events() -> list[Event]:
    """A scan of two streams with everything that can occur."""
    return [
        StateEvent(0.1, False, 0, "PREPARED"),
        StreamsEvent(0.2, False, 0, {"b": FLOATS}),
        StateEvent(0.2, False, 0, "STARTED"),
        GapEvent(0.3, True, 0, "b", 0, 3),
        EntryEvent(0.3, True, 0, "a", 0, EncodedBatch(b"\0\xff" * 8, 2)),
        EntryEvent(0.4, False, 0, "b", 3, EncodedBatch(b"12345678")),
        SealEvent(0.5, False, 0, "a", 2),
        SealEvent(0.5, False, 0, "b", 4),
        StateEvent(0.6, False, 0, "STOPPED"),
        StateEvent(0.7, False, 0, "CLOSED", {"npoints": 2, "end_reason": "SUCCESS"}),
    ]


def write(path: Path, events: list[Event], **end: Any) -> Path:
    with write_atomically(path, overwrite=True) as file:
        writer = RecordingWriter(file, HEADER)
        for event in events:
            writer.write(event)
        writer.end(**({"complete": True} | end))
    return path


@pytest.mark.parametrize("name", ["scan.jsonl", "scan.jsonl.gz"])
def test_what_was_written_is_read(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, _events())
    assert is_recording(path)
    recording = open_recording(path)
    assert recording.header == HEADER
    found = list(recording.events())
    assert [type(event) for event in found[:-1]] == [type(event) for event in _events()]
    assert [event.line for event in found] == list(range(2, 13))
    assert found[4].batch == EncodedBatch(b"\0\xff" * 8, 2)  # type: ignore[union-attr]
    summary = recording.check()
    assert (summary.points, summary.gaps) == ({"a": 2, "b": 1}, {"b": 3})
    assert (summary.entries, summary.events, summary.complete) == (2, 10, True)
    assert (summary.estimated, summary.seconds) == (True, 0.7)


def test_it_is_json_lines_that_anybody_can_read(tmp_path: Path) -> None:
    lines = write(tmp_path / "scan.jsonl", _events()).read_text("ascii").splitlines()
    objects = [json.loads(line) for line in lines]
    assert lines[0].startswith('{"format": "blissdata recording", "version": 1,')
    assert objects[6] == {
        "event": "entry",
        "at": 0.4,
        "stream": "b",
        "index": 3,
        "len": 1,
        "payload": base64.b64encode(b"12345678").decode(),
    }


@given(st.binary(min_size=1), st.integers(1, 10**6), st.floats(0, 1e6), st.text(min_size=1))
def test_any_payload_and_name_survives(
    tmp_path_factory: pytest.TempPathFactory, payload: bytes, length: int, at: float, name: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "scan.jsonl"
    header = Header({}, {}, {name: FLOATS})
    with write_atomically(path, overwrite=True) as file:
        writer = RecordingWriter(file, header)
        writer.write(EntryEvent(at, False, 0, name, 0, EncodedBatch(payload, length)))
        writer.end(complete=False)
    entry, _ = open_recording(path).events()
    assert isinstance(entry, EntryEvent)
    assert (entry.batch, entry.stream) == (EncodedBatch(payload, length), name)
    assert abs(entry.at - at) < 1e-6


def test_nan_in_an_info_becomes_null(tmp_path: Path) -> None:
    header = Header({}, {"limit": [float("nan"), 1.5]}, {})
    with write_atomically(tmp_path / "scan.jsonl", overwrite=True) as file:
        RecordingWriter(file, header).end(complete=False)
    assert open_recording(tmp_path / "scan.jsonl").header.info == {"limit": [None, 1.5]}


def test_time_does_not_run_backwards(tmp_path: Path) -> None:
    events = [StateEvent(0.5, False, 0, "PREPARED"), StateEvent(0.4, False, 0, "CLOSED")]
    recording = open_recording(write(tmp_path / "scan.jsonl", events))
    assert [event.at for event in recording.events()] == [0.5, 0.5, 0.5]


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "scan.jsonl"

    def fail() -> None:
        with write_atomically(path, overwrite=False) as file:
            file.write(b"half")
            raise ValueError("the disk is full")

    with pytest.raises(ValueError, match="the disk is full"):
        fail()
    assert list(tmp_path.iterdir()) == []
    write(path, _events())
    before = path.read_bytes()
    with (
        pytest.raises(RecordingError, match="exists already"),
        write_atomically(path, overwrite=False),
    ):
        pass
    assert path.read_bytes() == before
    with (
        pytest.raises(RecordingError, match="is a directory"),
        write_atomically(tmp_path, overwrite=True),
    ):
        pass


# ---------------------------------------------------------------------------------- damage


def _changed(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    """Rewrites the file with its objects changed."""

    def apply(path: Path) -> None:
        objects = [json.loads(line) for line in path.read_text().splitlines()]
        change(objects)
        path.write_text("".join(json.dumps(one) + "\n" for one in objects))

    return apply


def _text(change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda path: path.write_text(change(path.read_text())) and None


def _set(line: int, **fields: Any) -> Callable[[Path], None]:
    return _changed(lambda objects: objects[line - 1].update(fields))


_DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut in a line": (_text(lambda t: t[:-30]), "line 12: .*without a line end"),
    "cut behind a line": (_changed(lambda o: o.pop()), "ends after line 11 without the event 'end'"),
    "a line is missing": (_changed(lambda o: o.pop(8)), "line 11: .*lines are missing"),
    "an entry is missing": (_changed(lambda o: o.pop(5)), "line 7: found index 2 of 'a', expected 0"),
    "a line twice": (_changed(lambda o: o.insert(6, o[6])), "line 8: found index 3 of 'b', expected 4"),
    "a line behind the end": (_changed(lambda o: o.append(o[-1])), "line 13: found a line after the end"),
    "no JSON": (_text(lambda t: t.replace('{"event": "seal"', '{"event": seal', 1)), "line 8: .*expected JSON"),
    "a list": (_text(lambda t: t.replace('{"event": "state", "at": 0.1', '[1]\n{"event": "state", "at": 0.1', 1)), "line 2: found a list"),
    "deep JSON": (_text(lambda t: t.replace("\n", "\n" + "[" * 100_000 + "\n", 1)), "line 2: "),
    "binary": (_text(lambda t: t[:300] + "\x00\x01" + t[302:]), "line"),
    "newer": (_set(1, version=2), "line 1: found version 2 .*update it"),
    "no version": (_changed(lambda o: o[0].pop("version")), "line 1: found None as 'version'"),
    "no identity": (_set(1, identity=[]), "line 1: found list as 'identity', expected an object"),
    "streams of numbers": (_set(1, streams={"a": 1}), "line 1: found no object for the stream 'a'"),
    "half a character": (_set(1, streams={"\ud800": {}}), "line 1: found half a character"),
    "unknown event": (_set(3, event="dance"), "line 3: found the event 'dance', expected one of"),
    "event of no kind": (_set(3, event=[1]), "line 3: found the event"),
    "late": (_set(3, at=1e300), "line 3: .*as 'at', expected seconds from 0"),
    "NaN": (_text(lambda t: t.replace('"at": 0.2', '"at": NaN', 1)), "line 3: .*NaN is no JSON"),
    "true is no time": (_set(3, at=True), "line 3: found True as 'at'"),
    "before the start": (_set(3, at=-1), "line 3: found -1 as 'at'"),
    "earlier than before": (_set(6, at=0.15), "line 6: found 0.15 as 'at', but the event before has 0.3"),
    "unknown stream": (_set(6, stream="c"), "line 6: found the stream 'c', which no header names"),
    "stream of no text": (_set(6, stream=1), "line 6: found int as 'stream', expected a text"),
    "a hole": (_set(7, index=5), "line 7: found index 5 of 'b', expected 3"),
    "an overlap": (_set(7, index=2), "line 7: found index 2 of 'b', expected 3"),
    "negative index": (_set(6, index=-1), "line 6: found -1 as 'index'"),
    "an index too far": (_set(6, index=2**80), "line 6: found .* as 'index'"),
    "huge number": (_text(lambda t: t.replace('"index": 3', '"index": 3' + "0" * 5000, 1)), "line 7: .*expected JSON"),
    "no points": (_set(6, len=0), "line 6: found 0 as 'len'"),
    "points of no number": (_set(6, len="2"), "line 6: found 2 as 'len', expected a whole number"),
    "no base64": (_set(6, payload="***"), "line 6: found a payload that is no base64"),
    "no payload": (_changed(lambda o: o[5].pop("payload")), "line 6: found NoneType as 'payload'"),
    "short seal": (_set(8, len=1), "line 8: found index 1 of 'a', expected 2"),
    "sealed twice": (_set(9, stream="a", len=2), "line 9: found points of 'a' after its seal"),
    "state unknown": (_set(2, state="READY"), "line 2: found the state 'READY'"),
    "state skipped": (_set(2, state="STARTED"), "line 2: found the state STARTED after CREATED"),
    "info too early": (_set(4, info={}), "line 4: found an 'info' with STARTED"),
    "a stream twice": (_set(3, streams={"a": {"encoding": {}, "info": {}}}), "line 3: found the stream 'a' a second time"),
    "points behind the stop": (_changed(lambda o: o.insert(9, o.pop(8) | {"at": 0.6})), "line 10: found points of 'b' after STOPPED"),
    "another number of events": (_set(12, events=11), "line 12: found 10 events before the end, which says 11"),
    "complete without CLOSED": (_changed(lambda o: (o.pop(10), o[-1].update(events=9))), "line 11: found the end of a complete recording after STOPPED"),
    "complete of no truth": (_set(12, complete=1), "line 12: found no 'complete'"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "complaint"), _DAMAGE.values(), ids=_DAMAGE.keys())
def test_damage_is_found_at_its_line(
    damage: Callable[[Path], None], complaint: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "scan.jsonl", _events())
    damage(path)
    with pytest.raises(RecordingError, match=complaint) as caught:
        open_recording(path).check()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95])
def test_a_compressed_file_that_is_cut_short(keep: float, tmp_path: Path) -> None:
    path = write(tmp_path / "scan.jsonl.gz", _events())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(RecordingError, match="line"):
        open_recording(path).check()


def test_a_compressed_file_with_a_wrong_byte(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.jsonl.gz", _events())
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(RecordingError, match="line"):
        open_recording(path).check()


def test_a_line_without_end_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blissdata.replay.recording.MAX_HEADER", 2**16)
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb") as file:
        file.write(b'{"format": "blissdata recording", "x": "')
        for _ in range(64):
            file.write(b" " * 2**20)
    assert is_recording(path)
    with pytest.raises(RecordingError, match="more than 65536 bytes without a line end"):
        open_recording(path)


@pytest.mark.parametrize(
    "content", [b"", b"1 2\n", b"\x1f\x8b\x08junk", b'{"format": "other"}\n', b"\x89HDF\r\n\x1a\n"]
)
def test_other_files_are_no_recordings(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "some.file"
    path.write_bytes(content)
    assert not is_recording(path)
    with pytest.raises(RecordingError):
        open_recording(path)


def test_files_that_are_not_there_are_no_recordings(tmp_path: Path) -> None:
    assert not is_recording(tmp_path)
    assert not is_recording(tmp_path / "none")
    with pytest.raises(RecordingError, match="cannot be read"):
        open_recording(tmp_path / "none")


def test_the_documented_example_is_a_recording(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "recording.md"
    example = page.read_text().split("```json\n")[1].split("```")[0]
    path = tmp_path / "example.jsonl"
    path.write_text(example)
    recording = open_recording(path)
    assert recording.check().points == {"diode": 3}
    payloads = [e.batch.payload for e in recording.events() if isinstance(e, EntryEvent)]
    assert np.frombuffer(b"".join(payloads), "<f8").tolist() == [1, 2, 3]
