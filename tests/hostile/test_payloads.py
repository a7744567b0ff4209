"""What a broken or malicious publisher writes never becomes a wrong number, a hang or a crash.

| reads             | damaged entry                          | the points in front of it |
| ----------------- | -------------------------------------- | ------------------------- |
| index             | `PayloadError`, stream and index named | readable                  |
| slice             | the same                               | readable                  |
| cursor, view      | the same, after the points in front    | readable                  |
| cursor, last_only | the same                               | –                         |
| cursor group      | the same                               | readable, other streams too |

The entries are written by a raw client onto a real server; they are listed in `corpus.py`.
"""

from __future__ import annotations

import json
import resource
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from blissdata import DataStore
from blissdata.exceptions import (
    IndexNoMoreThereError,
    IndexNotYetThereError,
    IndexWontBeThereError,
    PayloadError,
    StreamRewoundError,
    UnknownEncodingError,
)
from blissdata.streams import CursorGroup

CORPUS = runpy.run_path(str(Path(__file__).with_name("corpus.py")))
DAMAGED, CONTRADICTING = CORPUS["DAMAGED"], CORPUS["CONTRADICTING"]
SEAL = CORPUS["SEAL"]

IDENTITY = {"name": "hostile", "number": 1, "data_policy": "none"}
FEW_BYTES = 64 * 2**20

STREAMS = {
    "scalars": ("float64", None),
    "pairs": ("float64", (2,)),
    "hollow": ("float64", (0,)),
    "ragged": ("float64", (-1,)),
    "ragged images": ("float64", (-1, -1)),
    "json": ("json", None),
    "good": ("float64", None),
}


def good_payload(name: str, i: int) -> tuple[bytes, object]:
    """Point `i` as protocol 1 writes it, and its value."""
    raw = np.full(2, float(i)).tobytes()
    if name == "json":
        return b"%d" % i, i
    if name == "ragged":
        return CORPUS["ragged"]([2], raw), np.full(2, float(i))
    if name == "ragged images":
        return CORPUS["ragged"]([1, 2], raw), np.full((1, 2), float(i))
    if name == "pairs":
        return raw, np.full(2, float(i))
    if name == "hollow":
        return b"", np.zeros(0)
    return raw[:8], float(i)


class Scene:
    """A scan on a real server, with a stream of each kind: three good points, then the damage."""

    def __init__(self, store, server) -> None:
        self.server = server
        scan = store.create_scan(IDENTITY)
        for name, (dtype, shape) in STREAMS.items():
            scan.create_stream(name, dtype=dtype, shape=shape)
        scan.prepare()
        self.scan = scan
        self.streams = store.load_scan(scan.key).streams
        for name in STREAMS:
            self.write(name, [(f"{i}-1", {b"payload": good_payload(name, i)[0]}) for i in range(3)])

    def write(self, name, entries) -> None:
        with self.server.client() as client:
            for ident, fields in entries:
                client.xadd(self.streams[name].key, fields, id=ident)

    def is_damage(self, name, read, index=None) -> None:
        """`read` is refused as damage, in the name of the stream, and of the index if given."""
        with pytest.raises(PayloadError) as caught:
            read()
        message = str(caught.value)
        assert f"'{name}'" in message
        assert len(message) < 1000
        if index is not None:
            assert f"{index}" in message.replace(self.streams[name].key, "")

    def expect_good(self, name, found, start, stop) -> None:
        """These are the good points from `start` to `stop`."""
        assert len(found) == stop - start
        for i, value in enumerate(found, start):
            assert np.array_equal(value, good_payload(name, i)[1])


@pytest.fixture(scope="module")
def hostile_store(shared_server):
    """One store for all of these scenes."""
    with shared_server.client() as client:
        client.flushall()
    # One scan is open all the time, so that the store's thread for signs of life is no test's own.
    with DataStore(shared_server.url, init_db=True) as store, store.create_scan(IDENTITY):
        yield store


@pytest.fixture
def scene(hostile_store, shared_server):
    return Scene(hostile_store, shared_server)


@pytest.fixture(autouse=True)
def little_memory():
    """Fails a test that took more memory than all payloads together could justify."""
    before = peak_memory()
    yield
    assert peak_memory() - before < FEW_BYTES


def peak_memory() -> int:
    """The most that this process ever had [bytes]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def read_to_damage(read):
    """What `read()` gives until it raises damage; how many reads that took is bounded."""
    found = []
    for _ in range(10):
        try:
            view = read()
        except PayloadError as error:
            return found, error
        assert view is not None, "neither points nor an error: a reader would wait for ever"
        found.append(view)
    pytest.fail("no damage was reported")


def is_a_seal(entries) -> bool:
    return entries[0][0] == SEAL


@pytest.mark.parametrize("case", DAMAGED)
class TestDamage:
    def test_by_index_and_slice(self, scene, case):
        name, entries = DAMAGED[case]
        scene.write(name, entries)
        stream = scene.streams[name]
        scene.expect_good(name, [stream[i] for i in range(3)], 0, 3)
        for selection in (slice(None), slice(1, None), slice(0, 10**20)):
            with pytest.raises(PayloadError, match=f"'{name}'"):
                stream[selection]
        scene.is_damage(name, lambda: stream[:])
        if is_a_seal(entries):
            # The seal is looked at only where no entry holds the index.
            for index in (3, 100):
                with pytest.raises((PayloadError, IndexWontBeThereError), match=f"'{name}'"):
                    stream[index]
            return
        scene.is_damage(name, lambda: stream[1:4:2])
        scene.is_damage(name, lambda: stream[3:])
        scene.is_damage(name, lambda: stream[3])
        index = int(entries[0][0].split("-")[0])
        if index < 2**63:
            scene.is_damage(name, lambda: stream[index], index)

    def test_by_cursor(self, scene, case):
        name, entries = DAMAGED[case]
        late = scene.streams[name].cursor()
        assert len(late.read()) == 3
        scene.write(name, entries)

        # All points: those in front of the damage first, then the damage, and never past it.
        cursor = scene.streams[name].cursor()
        views, error = read_to_damage(lambda: cursor.read(timeout=5))
        found = [point for view in views for point in view]
        scene.expect_good(name, found, 0, len(found) if is_a_seal(entries) else 3)
        assert cursor.position == len(found)
        assert f"'{name}'" in str(error)
        scene.is_damage(name, lambda: cursor.read(timeout=5))
        for view in views:
            scene.expect_good(name, view.get_data(), view.index, view.index + len(view))

        # From the end of the good points: a seal may also say that they were never there.
        with pytest.raises((PayloadError, StreamRewoundError), match=f"'{name}'"):
            late.read(timeout=5)

        # To the newest point.
        jumping = scene.streams[name].cursor()
        for _ in range(2):
            scene.is_damage(name, lambda: jumping.read(timeout=5, last_only=True))
        assert jumping.position == 0

    def test_by_group_beside_others(self, scene, case):
        name, entries = DAMAGED[case]
        scene.write(name, entries)
        both = [scene.streams[name], scene.streams["good"]]
        groups = {last_only: CursorGroup(both) for last_only in (False, True)}
        good = {False: [], True: []}
        errors = []
        for i in range(3, 6):
            for last_only, group in groups.items():
                for _ in range(4):
                    try:
                        views = group.read(block=False, last_only=last_only)
                    except PayloadError as error:
                        errors.append(str(error))
                        continue
                    good[last_only] += list(views.get(both[1], ()))
            scene.write("good", [(f"{i}-1", {b"payload": good_payload("good", i)[0]})])
        assert good == {False: [0.0, 1.0, 2.0, 3.0, 4.0], True: [2.0, 3.0, 4.0]}
        assert errors
        assert all(f"'{name}'" in error for error in errors)

    def test_by_availability(self, scene, case):
        """No payload is looked at, but lengths, ids and seals that lie are told; the good points are
        where they are, and who waits is told or served, and waits for nothing."""
        name, entries = DAMAGED[case]
        scene.write(name, entries)
        stream = scene.streams[name]
        try:
            found = stream.availability()
        except PayloadError:
            scene.is_damage(name, stream.availability)
            scene.is_damage(name, lambda: stream.wait_available(1, timeout=5))
        else:
            assert found.length < 2**63
            if not is_a_seal(
                entries
            ):  # it says how many there are, and only a read can contradict it
                assert all(index in found.memory for index in range(3))
            assert stream.wait_available(0, timeout=5).length == found.length
        assert scene.streams["good"].availability().length == 3

    def test_the_scan_closes_all_the_same(self, scene, case):
        name, entries = DAMAGED[case]
        scene.write(name, entries)
        told = None
        try:
            scene.scan.close()
        except Exception as error:
            told = str(error)
            scene.scan.close()
        assert told is None or scene.streams[name].key in told
        assert scene.scan.state.name == "CLOSED"
        assert scene.streams["good"].is_sealed()


@pytest.mark.parametrize("case", CONTRADICTING)
class TestContradiction:
    """Each entry is sound, so one of them alone gives its points; all of them together cannot be."""

    def test_by_index_a_point_is_what_its_entry_says(self, scene, case):
        name, entries = CONTRADICTING[case]
        scene.write(name, entries)
        stated = {i: {float(i)} for i in range(3)}
        for ident, fields in entries:
            if ident == SEAL:
                continue
            values = np.frombuffer(fields[b"payload"])
            for i, value in enumerate(values, int(ident.split("-")[0])):
                stated.setdefault(i, set()).add(value)
        for i in range(12):
            try:
                found = scene.streams[name][i]
            except PayloadError:
                continue
            except IndexError as error:
                kinds = (IndexNotYetThereError, IndexWontBeThereError, IndexNoMoreThereError)
                assert isinstance(error, kinds)  # noqa: PT017 — which of them depends on the case
                continue
            assert found in stated[i]

    def test_by_slice(self, scene, case):
        name, entries = CONTRADICTING[case]
        scene.write(name, entries)
        scene.is_damage(name, lambda: scene.streams[name][:])
        scene.is_damage(name, lambda: scene.streams[name][2:6])

    def test_by_cursor(self, scene, case):
        name, entries = CONTRADICTING[case]
        scene.write(name, entries)
        cursor = scene.streams[name].cursor()
        views, error = read_to_damage(lambda: cursor.read(timeout=5))
        scene.expect_good(name, [point for view in views for point in view], 0, cursor.position)
        assert f"'{name}'" in str(error)


BAD_ENCODINGS = {
    "objects": {"type": "numeric", "dtype_str": "|O", "shape": []},
    "objects in a structure": {"type": "numeric", "dtype_str": "O,f8", "shape": []},
    "a structure": {"type": "numeric", "dtype_str": "f8,f8", "shape": []},
    "nonsense": {"type": "numeric", "dtype_str": "__import__('os').abort()", "shape": []},
    "a huge text": {"type": "numeric", "dtype_str": "<f8" * 100_000, "shape": []},
    "no dtype": {"type": "numeric"},
    "a shape beyond memory": {"type": "numeric", "dtype_str": "<f8", "shape": [2**40, 2**40]},
    "an unknown type": {"type": "pickle"},
    "null": None,
    "a list": [],
    "a number": 7,
}


@pytest.mark.parametrize("encoding", BAD_ENCODINGS.values(), ids=BAD_ENCODINGS)
@pytest.mark.filterwarnings("ignore")
def test_an_encoding_that_cannot_be_costs_its_own_stream_only(scene, hostile_store, encoding):
    with scene.server.client() as client:
        document = json.loads(client.get(scene.scan.key))
        document["data_streams"]["scalars"]["encoding"] = encoding
        client.set(scene.scan.key, json.dumps(document))
    streams = hostile_store.load_scan(scene.scan.key).streams
    bad, good = streams["scalars"], streams["good"]
    for read in (
        lambda: bad[0],
        lambda: bad[:],
        lambda: len(bad),
        lambda: bad.dtype,
        lambda: bad.cursor().read(block=False),
        lambda: next(iter(bad)),
    ):
        with pytest.raises(UnknownEncodingError, match="'scalars'"):
            read()
    assert good[:].tolist() == [0.0, 1.0, 2.0]
    group = CursorGroup(streams)
    seen, errors = {}, 0
    for _ in range(4):
        try:
            seen |= {s.name: list(v) for s, v in group.read(block=False).items()}
        except UnknownEncodingError:
            errors += 1
    assert errors
    assert set(seen) == set(STREAMS) - {"scalars"}
    assert seen["good"] == [0.0, 1.0, 2.0]


def test_a_gap_is_reported_as_points_that_are_gone(scene):
    scene.write("good", CORPUS["entry"](CORPUS["doubles"](5.0), None, "5-1"))
    stream = scene.streams["good"]
    cursor = stream.cursor()
    assert list(cursor.read()) == [0.0, 1.0, 2.0]
    view = cursor.read()
    assert (view.index, len(view)) == (3, 3)
    assert view.get_data(2).tolist() == [5.0]
    for read in (lambda: view.get_data(1), lambda: stream[3], lambda: stream[2:6]):
        with pytest.raises(IndexError, match="left"):
            read()
    assert stream[5] == 5.0


def test_what_else_an_entry_carries_is_ignored(scene):
    fields = {b"later": b"\xff", b"payload": CORPUS["doubles"](3.0), b"crc": b"1"}
    scene.write("good", [("3-1", fields)])
    assert scene.streams["good"][:].tolist() == [0.0, 1.0, 2.0, 3.0]
