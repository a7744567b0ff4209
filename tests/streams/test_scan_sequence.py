"""A stream of scans: readers get the scans themselves; a child that is gone keeps its place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from blissdata import DataStore, Scan, ScanState
from blissdata.exceptions import (
    IndexNotYetThereError,
    NoWritePermission,
    PayloadError,
    ScanLoadError,
    ScanNotFoundError,
)
from blissdata.schemas import validate
from blissdata.streams import CursorGroup
from blissdata.streams.default import Stream
from blissdata.streams.scan_sequence import (
    MissingScan,
    ScanStream,
    ScanView,
    SequenceProgress,
    parent_of,
)
from blissdata.streams.scan_sequence.progress import Child, child_of, progress_of, scan_count_of

IDENTITY = {"name": "ascan", "data_policy": "none"}


@pytest.fixture
def children(store: DataStore) -> Iterator[list[Scan]]:
    scans = [store.create_scan({**IDENTITY, "number": i}) for i in range(4)]
    yield scans
    for scan in scans:
        store.delete_scan(scan.key, force=True)


@pytest.fixture
def parent(store: DataStore, children: list[Scan]) -> Iterator[Scan]:
    with store.create_scan({**IDENTITY, "number": 100}) as scan:
        stream = scan.create_stream(ScanStream.make_definition("SUBSCANS", {"more": 1}))
        scan.prepare()
        scan.start()
        for i, child in enumerate(children):
            stream.send({"key": child.key, "scan_number": f"{i}.1"})
        stream.join()
        yield scan


@pytest.fixture
def stream(store: DataStore, parent: Scan) -> ScanStream:
    found = store.load_scan(parent.key).streams["SUBSCANS"]
    assert isinstance(found, ScanStream)
    return found


def keys(scans: Any) -> list[str]:
    assert isinstance(scans, list)
    return [scan.key for scan in scans]


def test_it_says_what_it_is(stream: ScanStream) -> None:
    assert (stream.kind, stream.plugin, stream.dtype, stream.shape) == (
        "scan",
        "scan_sequence",
        object,
        (),
    )
    assert stream.info == {"more": 1, "format": "subscan", "plugin": "scan_sequence"}
    assert stream.event_stream.encoding == {"type": "json"}
    assert len(stream) == 4


def test_the_points_are_read_only_scans(stream: ScanStream, children: list[Scan]) -> None:
    for i, child in enumerate(children):
        found = stream[i]
        assert isinstance(found, Scan)
        assert found.key == child.key
        assert found.number == i
    with pytest.raises(NoWritePermission):
        stream[0].prepare()
    with pytest.raises(IndexNotYetThereError):
        stream[4]
    children[1].prepare()
    assert stream[1].state == ScanState.PREPARED


@pytest.mark.parametrize("selection", [slice(None), slice(1, 3), slice(0, 9, 2), slice(3, 3)])
def test_slices_are_lists(stream: ScanStream, children: list[Scan], selection: slice) -> None:
    assert keys(stream[selection]) == [c.key for c in children][selection]


def test_once_sealed_slices_may_count_from_the_end(
    stream: ScanStream, parent: Scan, children: list[Scan]
) -> None:
    parent.stop()
    assert stream[-1].key == children[-1].key
    assert keys(stream[::-1]) == [c.key for c in children][::-1]


def test_cursors_give_views_of_scans(stream: ScanStream, children: list[Scan]) -> None:
    view = stream.cursor().read()
    assert isinstance(view, ScanView)
    assert (view.index, len(view)) == (0, 4)
    assert keys(view.get_data()) == keys(list(view)) == [c.key for c in children]
    assert keys(view.get_data(1, 3)) == [c.key for c in children[1:3]]
    newest = CursorGroup([stream]).read(last_only=True)[stream]
    assert (newest.index, keys(newest.get_data())) == (3, [children[3].key])


def test_the_whole_stream_is_followed_to_its_end(
    stream: ScanStream, parent: Scan, children: list[Scan]
) -> None:
    parent.stop()
    assert keys(list(stream)) == [c.key for c in children]


def test_a_deleted_child_is_an_error_of_its_own_and_does_not_break_the_rest(
    store: DataStore, stream: ScanStream, children: list[Scan]
) -> None:
    view = stream.cursor().read()
    assert view is not None
    store.delete_scan(children[1].key, force=True)
    with pytest.raises(ScanNotFoundError, match=rf"index 1: scan {children[1].key}.*deleted"):
        stream[1]
    assert stream[2].key == children[2].key
    for scans, at in ((stream[:], 1), (view.get_data(), 1), (stream[1:3], 0), (list(view), 1)):
        assert keys(scans) == [c.key for c in children][1 - at :][: len(scans)]
        assert isinstance(scans[at], MissingScan)
        assert sum(isinstance(scan, Scan) for scan in scans) == len(scans) - 1
    missing = stream[:][1]
    for name in ("streams", "info", "update"):
        with pytest.raises(ScanNotFoundError, match="index 1"):
            getattr(missing, name)
    assert children[1].key in repr(missing)
    assert copy.copy(missing).key == children[1].key


@pytest.mark.parametrize(
    "point", [3, {"kay": 1}, [{"key": "x"}], {"key": 3}, {"key": ""}, {"key": "no:scan:of:ours"}]
)
def test_a_point_that_is_no_scan_does_not_break_the_rest(
    store: DataStore, children: list[Scan], point: Any
) -> None:
    with store.create_scan({**IDENTITY, "number": 100}) as scan:
        definition = Stream.make_definition("SUBSCANS", "json", info={"plugin": "scan_sequence"})
        written = scan.create_stream(definition)
        scan.prepare()
        scan.start()
        for value in ({"key": children[0].key}, point, {"key": children[1].key}):
            written.event_stream.send(value)  # as a publisher that checks nothing
        written.join()
        stream = scan.streams["SUBSCANS"]
        found = stream[:]
        assert [found[0].key, found[2].key] == [children[0].key, children[1].key]
        assert isinstance(found[1], MissingScan)
        with pytest.raises((PayloadError, ScanLoadError, RuntimeError), match="index 1"):
            stream[1]


def test_a_publisher_learns_at_once_that_it_sent_no_scan(
    parent: Scan, children: list[Scan]
) -> None:
    stream = parent.get_writer_stream("SUBSCANS")
    for wrong in (3, {"kay": 1}, [], {"key": 7}):
        with pytest.raises(ValueError, match="'key' of a scan"):
            stream.send(wrong)
    with pytest.raises(TypeError, match=r"give \{'key': scan\.key\}"):
        stream.send(children[0])


def test_sequences_of_older_publishers_are_known_by_their_format(
    store: DataStore, children: list[Scan]
) -> None:
    with store.create_scan({**IDENTITY, "number": 100}) as scan:
        scan.create_stream(Stream.make_definition("SUBSCANS", "json", info={"format": "subscan"}))
        scan.create_stream(Stream.make_definition("other", "json", info={"format": "subscan_v9"}))
        scan.create_stream(Stream.make_definition("numbers", "f8", info={"format": "subscan"}))
        scan.prepare()
        scan.start()
        writer = scan.get_writer_stream("SUBSCANS")
        writer.send({"key": children[0].key})
        writer.join()
        read = store.load_scan(scan.key).streams
        assert isinstance(read["SUBSCANS"], ScanStream)
        assert read["SUBSCANS"][0].key == children[0].key
        assert type(read["other"]) is Stream
        assert type(read["numbers"]) is Stream


def test_many_children_are_loaded_in_one_round_trip(
    store: DataStore, stream: ScanStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    really = store.catalog.load_many

    def counting(wanted: Any) -> Any:
        calls.append(len(wanted))
        return really(wanted)

    monkeypatch.setattr(store.catalog, "load_many", counting)
    assert len(stream[::2]) == 2
    assert len(stream[:]) == 4
    assert calls == [2, 4]


# ------------------------------------------------------------------------------ parent and children


def attempt(store: DataStore, sequence: ScanStream, end: str | None, **info: Any) -> Scan:
    """One child of a sequence, which ends like that (None: it goes on)."""
    child = store.create_scan({**IDENTITY, "number": 1}, {**sequence.child_info(**info)})
    sequence.send({"key": child.key})
    if end is not None:
        child.info["end_reason"] = end
        child.close()
    return child


@pytest.fixture
def sequence(store: DataStore) -> Iterator[ScanStream]:
    info = {"is_scan_sequence": True, "sequence_info": {"scan_count": 6}}
    with store.create_scan({**IDENTITY, "number": 100}, info) as scan:
        stream = scan.create_stream(ScanStream.make_definition("SUBSCANS"))
        scan.prepare()
        scan.start()
        assert isinstance(stream, ScanStream)
        yield stream


def test_children_are_tied_to_their_parent_by_group_and_place(
    store: DataStore, sequence: ScanStream
) -> None:
    parent = sequence.event_stream.scan_key
    children = [attempt(store, sequence, "SUCCESS") for _ in range(3)]
    again = attempt(store, sequence, "SUCCESS", retry_nb=1)
    after = attempt(store, sequence, "SUCCESS")
    ties = [
        {k: v for k, v in store.load_scan(child.key).info.items() if k != "end_reason"}
        for child in [*children, again, after]
    ]
    assert ties == [
        {"group": parent, "index_in_sequence": 0},
        {"group": parent, "index_in_sequence": 1},
        {"group": parent, "index_in_sequence": 2},
        {"group": parent, "index_in_sequence": 2, "retry_nb": 1},
        {"group": parent, "index_in_sequence": 3},
    ]
    complaints = " ".join(str(complaint) for complaint in validate(ties[3]))
    assert not [name for name in ties[3] if name in complaints]
    found = parent_of(store.load_scan(after.key))
    assert (found.key, found.number) == (parent, 100)
    assert parent_of(found) is None


def test_a_child_of_nothing_is_said(store: DataStore) -> None:
    with (
        store.create_scan({**IDENTITY, "number": 1}, {"group": "nonsense"}) as child,
        pytest.raises(ScanLoadError, match="part of 'nonsense'"),
    ):
        parent_of(child)
    with store.create_scan({**IDENTITY, "number": 2}) as parent:
        info = {"group": parent.key}
    store.delete_scan(parent.key)
    with (
        store.create_scan({**IDENTITY, "number": 1}, info) as child,
        pytest.raises(ScanNotFoundError),
    ):
        parent_of(child)


def test_only_what_was_tried_can_be_tried_again(sequence: ScanStream, store: DataStore) -> None:
    with pytest.raises(ValueError, match="no scan yet"):
        sequence.child_info(retry_nb=1)
    reader = store.load_scan(sequence.event_stream.scan_key or "").streams["SUBSCANS"]
    assert isinstance(reader, ScanStream)
    with pytest.raises(NoWritePermission):
        reader.child_info()


def test_progress_counts_places_of_the_sequence(store: DataStore, sequence: ScanStream) -> None:
    reader = store.load_scan(sequence.event_stream.scan_key or "").streams["SUBSCANS"]
    assert isinstance(reader, ScanStream)
    assert reader.progress() == SequenceProgress(6, done=0, failed=0, running=0, gone=0)
    attempt(store, sequence, "SUCCESS")
    attempt(store, sequence, "FAILURE")
    sequence.join()
    assert reader.progress() == SequenceProgress(6, done=1, failed=1, running=0, gone=0)
    attempt(store, sequence, "SUCCESS", retry_nb=1)
    deleted = attempt(store, sequence, "SUCCESS")
    running = attempt(store, sequence, None)
    sequence.join()
    store.delete_scan(deleted.key)
    found = reader.progress()
    assert found == SequenceProgress(6, done=2, failed=0, running=1, gone=1)
    assert (found.begun, found.fraction) == (4, 0.5)
    assert str(found) == "2 of 6 scans done, 1 running, 1 deleted"
    running.close()
    assert reader.progress().done == 3


def test_children_that_are_over_are_not_loaded_again(
    store: DataStore, sequence: ScanStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        attempt(store, sequence, "SUCCESS")
    running = attempt(store, sequence, None)
    sequence.join()
    reader = store.load_scan(sequence.event_stream.scan_key or "").streams["SUBSCANS"]
    assert isinstance(reader, ScanStream)
    calls: list[int] = []
    really = store.load_scans
    monkeypatch.setattr(
        store, "load_scans", lambda wanted: calls.append(len(wanted)) or really(wanted)
    )
    for _ in range(3):
        assert reader.progress().running == 1
    assert calls == [4, 1, 1]
    running.close()


def test_progress_of_a_sequence_whose_first_keys_left_the_server(
    store: DataStore, sequence: ScanStream
) -> None:
    for _ in range(3):
        attempt(store, sequence, "SUCCESS")
        sequence.join()
    store.event_log.trim({sequence.key: 2})
    reader = store.load_scan(sequence.event_stream.scan_key or "").streams["SUBSCANS"]
    assert isinstance(reader, ScanStream)
    assert reader.progress() == SequenceProgress(6, done=1, failed=0, running=0, gone=2)
    assert sequence.progress().begun == 3


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({}, None),
        ({"sequence_info": {"scan_count": 3}}, 3),
        ({"sequence_info": {"scan_count": "3"}}, None),
        ({"sequence_info": {"scan_count": -1}}, None),
        ({"sequence_info": [3]}, None),
    ],
)
def test_how_many_scans_there_will_be(info: dict[str, Any], expected: int | None) -> None:
    assert scan_count_of(info) == expected


def test_a_sequence_without_an_end_has_no_fraction() -> None:
    children = {0: Child(0, state=4), 1: Child(1, state=4, end_reason="USER_ABORT")}
    found = progress_of(children, 2, None)
    assert (found.done, found.failed, found.fraction) == (1, 1, None)
    assert str(found) == "1 scans done, 1 failed"


def test_a_length_that_lies_costs_no_memory() -> None:
    found = progress_of({10**15: Child(state=2), 10**15 + 1: Child(state=4)}, 2**62, 6)
    assert (found.done, found.running, found.gone) == (1, 1, 2**62 - 2)


def test_the_info_of_a_child_may_say_anything() -> None:
    odd = {"index_in_sequence": "x", "retry_nb": True, "end_reason": 7}
    assert child_of(odd, 2) == Child(None, 0, 2, None)
