"""The contract of plugins: what every stream must do, whatever path its data take.

A plugin proves itself by subclassing `PluginTests`. It says its name, how to define a stream, how
points come to be, and what they should be read as:

    class TestMyPlugin(PluginTests):
        plugin = "mine"                                  # the entry point in the group "blissdata"

        def definition(self, name):
            return MyStream.make_definition(name, path=self.directory / "points.dat")

        def publish(self, stream, start, stop):          # points start … stop - 1; not sealed
            write_points(self.directory / "points.dat", start, stop)
            stream.send(…)

        def point(self, index):
            return np.arange(4) + index

`self.store` is a data store in memory, `self.directory` a fresh directory (below the data roots);
override the fixture `store` to run on a real server.

The matrix:

    registry    entry point, classes, constructor of one argument, what breaks breaks alone
    definition  names the plugin, is JSON, copies what it is given
    describes   kind, plugin, dtype, shape, name, key, info: the same for publisher and reader
    index       every point, slices, what is not there yet, never will be, is no index
    cursor      views that join without a hole, newest only, groups, woken, the end
    writing     not by readers
    where       the places of points: what is said to be readable is; who waits is woken, or told
    forgotten   events that have left the server: read from elsewhere, or a clear error
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from blissdata import DataStore, Scan
from blissdata.data_roots import ROOTS_VARIABLE
from blissdata.exceptions import (
    DataTimeoutError,
    EndOfStream,
    IndexNoMoreThereError,
    IndexNotYetThereError,
    IndexWontBeThereError,
    NoWritePermission,
)
from blissdata.redis_engine.documents import info_text
from blissdata.streams import (
    Availability,
    BaseStream,
    BaseView,
    CursorGroup,
    Place,
    StreamDefinition,
    availability_of,
)
from blissdata.streams.default import Stream
from blissdata.streams.encoding import StreamEncoder
from blissdata.streams.entries import MAX_INDEX
from blissdata.testing.memory import MemoryBackend

__all__ = ["PluginTests"]

LONG_S = 60.0
"""What never takes so long [s]: tests fail after it instead of hanging."""

IDENTITY = {"name": "ascan", "number": 7, "data_policy": "none"}

STREAM = "special"


class PluginTests:
    """Subclass it and give `plugin`, `definition`, `publish` and `point`."""

    plugin: ClassVar[str]
    """The plugin's name: that of its entry point."""

    survives_trimming: ClassVar[bool] = False
    """True if a finished stream can be read after its events have left the server."""

    store: DataStore
    directory: Path

    # ---- to be given

    def definition(self, name: str) -> StreamDefinition:
        """The definition of a new stream of that name."""
        raise NotImplementedError(f"{type(self).__name__} needs a method 'definition'")

    def publish(self, stream: BaseStream, start: int, stop: int) -> None:
        """Makes the points from `start` to `stop` (exclusive), and tells readers of them."""
        raise NotImplementedError(f"{type(self).__name__} needs a method 'publish'")

    def point(self, index: int) -> Any:
        """What a reader should get as that point."""
        raise NotImplementedError(f"{type(self).__name__} needs a method 'point'")

    # ---- to be changed where it does not fit

    def check_point(self, found: Any, expected: Any) -> None:
        """Fails if a point that was read is not as it should be."""
        np.testing.assert_array_equal(found, expected, strict=isinstance(expected, np.ndarray))

    @pytest.fixture(name="store")
    def make_store(self) -> Iterator[DataStore]:
        """The store that the streams are on."""
        backend = MemoryBackend()
        backend.initialise()
        with DataStore(backend=backend) as store:
            yield store

    @pytest.fixture(autouse=True)
    def give_store_and_directory(
        self, store: DataStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Sets `self.store` and `self.directory`."""
        monkeypatch.setenv(ROOTS_VARIABLE, str(tmp_path))
        self.store = store
        self.directory = tmp_path

    # ---- the words of the tests

    def started(self) -> tuple[Scan, BaseStream]:
        """A running scan with one stream, for writing."""
        scan = self.store.create_scan(IDENTITY)
        stream = scan.create_stream(self.definition(STREAM))
        scan.prepare()
        scan.start()
        return scan, stream

    def opened(self, scan: Scan) -> BaseStream:
        """The stream as somebody else reads it."""
        return self.store.load_scan(scan.key).streams[STREAM]

    def tell(self, stream: BaseStream, start: int, stop: int) -> None:
        """Publishes points, and waits until the server has what was sent."""
        self.publish(stream, start, stop)
        stream.join()

    def check_points(self, found: Any, indices: range) -> None:
        """Fails if these are not the points at these indices."""
        assert len(found) == len(indices)
        for point, index in zip(found, indices, strict=True):
            self.check_point(point, self.point(index))

    # ---- registry

    def test_the_entry_point_is_a_module_with_stream_and_view(self) -> None:
        found = [entry for entry in entry_points(group="blissdata") if entry.name == self.plugin]
        assert len(found) == 1, f"no entry point {self.plugin!r} in the group 'blissdata'"
        module: Any = found[0].load()
        assert issubclass(module.stream_cls, BaseStream)
        assert issubclass(module.view_cls, BaseView)

    def test_publishers_and_readers_get_the_class_of_the_plugin(self) -> None:
        scan, writer = self.started()
        (entry,) = (e for e in entry_points(group="blissdata") if e.name == self.plugin)
        stream_cls: Any = entry.load().stream_cls
        assert type(writer) is stream_cls
        assert type(self.opened(scan)) is stream_cls
        assert type(self.store.load_scan(scan.key).get_writer_stream(STREAM)) is stream_cls

    def test_a_stream_is_made_of_its_events_alone(self) -> None:
        scan, writer = self.started()
        self.tell(writer, 0, 2)
        again = type(writer)(self.opened(scan).event_stream)
        self.check_points(again[:], range(2))

    def test_a_stream_that_lacks_its_metadata_takes_nothing_with_it(self) -> None:
        scan = self.store.create_scan(IDENTITY)
        plain = scan.create_stream("plain", dtype="float64")
        definition = self.definition(STREAM)
        bare = StreamDefinition(STREAM, {}, definition.encoder)
        scan.create_stream(bare)
        scan.prepare()
        document = self.store.catalog.load(scan.key).document
        stored = document.streams[STREAM]
        assert stored.info is not None
        stored.info.clear()
        stored.info["plugin"] = self.plugin
        self.store.catalog.advance(scan.key, 1, 2, document)
        plain.send(1.5)
        plain.join()
        streams = self.store.load_scan(scan.key).streams
        assert set(streams) == {"plain", STREAM}
        assert isinstance(streams[STREAM], BaseStream)
        assert streams[STREAM].name == STREAM
        assert streams["plain"][0] == 1.5

    # ---- definition

    def test_a_definition_names_the_plugin_and_is_json(self) -> None:
        definition = self.definition(STREAM)
        assert isinstance(definition, StreamDefinition)
        assert definition.name == STREAM
        assert definition.info["plugin"] == self.plugin
        assert isinstance(definition.encoder, StreamEncoder)
        assert json.loads(info_text(definition.info))["plugin"] == self.plugin

    def test_two_definitions_share_nothing(self) -> None:
        first, second = self.definition("first"), self.definition("second")
        first.info["touched"] = True
        assert "touched" not in second.info

    # ---- what it says about itself

    def test_publisher_and_reader_see_the_same_stream(self) -> None:
        scan, writer = self.started()
        reader = self.opened(scan)
        for stream in (writer, reader):
            assert stream.name == STREAM
            assert stream.plugin == self.plugin
            assert isinstance(stream.kind, str)
            assert stream.kind
            assert stream.dtype is None or isinstance(stream.dtype, np.dtype)
            assert isinstance(stream.shape, tuple)
            assert all(isinstance(length, int) for length in stream.shape)
        for about in ("kind", "dtype", "shape", "key", "info"):
            assert getattr(writer, about) == getattr(reader, about)

    def test_points_are_as_dtype_and_shape_say(self) -> None:
        scan, writer = self.started()
        self.tell(writer, 0, 2)
        reader = self.opened(scan)
        if reader.kind != "array":
            pytest.skip(f"its points are of the kind '{reader.kind}'")
        found = np.asarray(reader[1])
        assert found.dtype == reader.dtype
        assert found.ndim == len(reader.shape)
        pairs = zip(found.shape, reader.shape, strict=True)
        assert all(length == said or said == -1 for length, said in pairs)

    # ---- index

    def test_an_empty_stream(self) -> None:
        scan, writer = self.started()
        for stream in (writer, self.opened(scan)):
            assert len(stream) == 0
            assert len(stream[:]) == 0
            assert not stream.is_sealed()
            with pytest.raises(IndexNotYetThereError):
                stream[0]

    def test_every_point_of_a_running_stream(self) -> None:
        scan, writer = self.started()
        reader = self.opened(scan)
        for start, stop in ((0, 1), (1, 4), (4, 6)):
            self.tell(writer, start, stop)
            for stream in (writer, reader):
                assert len(stream) == stop
                for index in range(stop):
                    self.check_point(stream[index], self.point(index))
                with pytest.raises(IndexNotYetThereError):
                    stream[stop]

    SLICES: ClassVar = [
        slice(None),
        slice(2, 5),
        slice(3, None),
        slice(None, 3),
        slice(4, 100),
        slice(6, 9),
        slice(3, 3),
        slice(4, 2),
        slice(None, None, 2),
        slice(1, 6, 3),
    ]

    @pytest.mark.parametrize("selection", SLICES, ids=str)
    def test_slices_are_those_of_a_list(self, selection: slice) -> None:
        scan, writer = self.started()
        reader = self.opened(scan)
        self.tell(writer, 0, 6)
        self.check_points(reader[selection], range(6)[selection])
        writer.seal()
        self.check_points(reader[selection], range(6)[selection])

    @pytest.mark.parametrize(
        "selection",
        [slice(-2, None), slice(None, -1), slice(None, None, -1), slice(-1, -4, -2)],
        ids=str,
    )
    def test_a_sealed_stream_counts_from_its_end(self, selection: slice) -> None:
        scan, writer = self.started()
        self.tell(writer, 0, 6)
        writer.seal()
        reader = self.opened(scan)
        self.check_points(reader[selection], range(6)[selection])
        for index in (-1, -6):
            self.check_point(reader[index], self.point(6 + index))
        with pytest.raises(IndexError):
            reader[-7]

    def test_what_will_never_be_there(self) -> None:
        scan, writer = self.started()
        self.tell(writer, 0, 3)
        writer.seal()
        with pytest.raises(IndexWontBeThereError):
            self.opened(scan)[3]

    @pytest.mark.parametrize("selection", [1.0, "1", None, (0, 1), [0]], ids=repr)
    def test_indices_are_integers_and_slices(self, selection: Any) -> None:
        scan, writer = self.started()
        self.tell(writer, 0, 2)
        with pytest.raises(TypeError):
            self.opened(scan)[selection]

    def test_any_integer_is_an_index(self) -> None:
        scan, writer = self.started()
        self.tell(writer, 0, 3)
        index: Any = np.int64(1)
        self.check_point(self.opened(scan)[index], self.point(1))

    def test_a_finished_stream_is_read_by_who_comes_later(self) -> None:
        scan, writer = self.started()
        self.tell(writer, 0, 4)
        self.tell(writer, 4, 7)
        scan.stop()
        scan.close()
        reader = self.opened(scan)
        assert len(reader) == 7
        assert reader.is_sealed()
        assert reader.wait_seal(timeout=LONG_S)
        self.check_points(reader[:], range(7))
        self.check_points(list(reader), range(7))

    # ---- cursor

    def test_views_join_without_a_hole(self) -> None:
        scan, writer = self.started()
        cursor = self.opened(scan).cursor()
        assert cursor.read(block=False) is None
        position = 0
        for start, stop in ((0, 1), (1, 4), (4, 5), (5, 9)):
            self.tell(writer, start, stop)
            while position < stop:
                view = cursor.read(timeout=LONG_S)
                assert isinstance(view, BaseView)
                assert view.index == position
                assert view.last_index == position + len(view) - 1
                position += len(view)
                assert cursor.position == position
                self.check_points(view.get_data(), range(view.index, position))
                self.check_points(list(view), range(view.index, position))
            assert cursor.read(block=False) is None
        writer.seal()
        with pytest.raises(EndOfStream):
            cursor.read(timeout=LONG_S)

    def test_a_view_is_sliced_from_its_own_start(self) -> None:
        scan, writer = self.started()
        reader = self.opened(scan)
        cursor = reader.cursor()
        self.tell(writer, 0, 2)
        assert cursor.read(timeout=LONG_S) is not None
        self.tell(writer, 2, 8)
        view = cursor.read(timeout=LONG_S)
        assert view is not None
        indices = range(view.index, view.index + len(view))
        for start, stop in ((None, None), (1, 3), (None, -1), (-2, None), (2, 100), (3, 1)):
            self.check_points(view.get_data(start, stop), indices[start:stop])

    def test_newest_only_is_one_point(self) -> None:
        scan, writer = self.started()
        cursor = self.opened(scan).cursor()
        for start, stop in ((0, 3), (3, 8)):
            self.tell(writer, start, stop)
            view = cursor.read(timeout=LONG_S, last_only=True)
            assert view is not None
            assert (view.index, len(view), cursor.position) == (stop - 1, 1, stop)
            self.check_points(view.get_data(), range(stop - 1, stop))
            assert cursor.read(block=False, last_only=True) is None

    def test_a_cursor_that_begins_after_the_end(self) -> None:
        scan, writer = self.started()
        self.tell(writer, 0, 5)
        writer.seal()
        seen = 0
        for view in self.opened(scan).cursor():
            assert view.index == seen
            self.check_points(view.get_data(), range(seen, seen + len(view)))
            seen += len(view)
        assert seen == 5

    def test_an_empty_stream_ends_at_once(self) -> None:
        scan, writer = self.started()
        assert writer.seal() == 0
        with pytest.raises(EndOfStream):
            self.opened(scan).cursor().read(block=False)
        assert list(self.opened(scan)) == []

    def test_cursors_do_not_know_each_other(self) -> None:
        scan, writer = self.started()
        reader = self.opened(scan)
        first, second = reader.cursor(), reader.cursor()
        self.tell(writer, 0, 3)
        assert first.read(timeout=LONG_S) is not None
        assert second.position == 0
        view = second.read(timeout=LONG_S)
        assert view is not None
        assert view.index == 0

    def test_a_waiting_cursor_is_woken(self) -> None:
        scan, writer = self.started()
        cursor = self.opened(scan).cursor()
        with ThreadPoolExecutor(1, "contract") as pool:
            reading = pool.submit(cursor.read, timeout=LONG_S)
            self.tell(writer, 0, 1)
            view = reading.result(LONG_S)
        assert view is not None
        self.check_points(view.get_data(), range(1))

    def test_a_group_reads_it_beside_a_plain_stream(self) -> None:
        scan = self.store.create_scan(IDENTITY)
        special = scan.create_stream(self.definition(STREAM))
        plain = scan.create_stream(Stream.make_definition("plain", float))
        scan.prepare()
        scan.start()
        streams = self.store.load_scan(scan.key).streams
        group = CursorGroup(streams)
        self.tell(special, 0, 3)
        plain.send(np.arange(4.0))
        scan.stop()
        seen = dict.fromkeys(streams, 0)
        for views in group:
            for stream, view in views.items():
                assert view.index == seen[stream.name]
                seen[stream.name] += len(view)
        assert seen == {STREAM: 3, "plain": 4}
        scan.close()

    # ---- where

    def check_availability(self, stream: BaseStream, length: int) -> Availability:
        """Fails if something is said of where the points are that is not so; gives what is said."""
        found = stream.availability()
        assert (found.length, found.sealed) == (length, stream.is_sealed())
        assert json.loads(json.dumps(found.as_json()))["length"] == length
        counted = {word: ranges.count for word, ranges in found.sets().items()}
        nowhere = counted["pending"] + counted["gone"] + counted["unknown"]
        assert found.readable.count + nowhere == length
        for index in range(length):
            assert (index in found.readable) == (found.where(index) in list(Place))
            if index in found.readable:
                self.check_point(stream[index], self.point(index))
            elif index in found.gone:
                with pytest.raises((IndexNoMoreThereError, LookupError)):
                    stream[index]
        again = availability_of([stream])[stream]
        assert (again.length, again.problem) == (length, None)
        return found

    def test_an_empty_stream_has_no_points_anywhere(self) -> None:
        scan, writer = self.started()
        for stream in (writer, self.opened(scan)):
            assert self.check_availability(stream, 0).where(0) == "later"

    def test_what_is_said_to_be_readable_is(self) -> None:
        scan, writer = self.started()
        reader = self.opened(scan)
        for start, stop in ((0, 1), (1, 4), (4, 6)):
            self.tell(writer, start, stop)
            self.check_availability(reader, stop)
        scan.stop()
        found = self.check_availability(reader, 6)
        assert found.where(6) == "never"
        assert not found.gone
        scan.close()

    def test_who_waits_for_a_point_is_woken(self) -> None:
        scan, writer = self.started()
        reader = self.opened(scan)
        self.tell(writer, 0, 2)
        assert reader.wait_available(1, timeout=LONG_S).length == 2
        with ThreadPoolExecutor(1, "contract") as pool:
            waiting = pool.submit(reader.wait_available, range(1, 5), timeout=LONG_S)
            self.tell(writer, 2, 5)
            found = waiting.result(LONG_S)
        assert found.length == 5
        self.check_point(reader[4], self.point(4))

    def test_who_waits_for_a_place_finds_the_point_there(self) -> None:
        scan, writer = self.started()
        self.tell(writer, 0, 3)
        scan.stop()
        reader = self.opened(scan)
        found = reader.availability()
        for place in found.places:
            for start, stop in found.at(place):
                again = reader.wait_available(range(start, stop), place, timeout=LONG_S)
                assert start in again.at(place)
        for place in set(Place) - set(found.places):
            with pytest.raises(ValueError, match=place):
                reader.wait_available(0, place)
        scan.close()

    def test_who_waits_in_vain_is_told(self) -> None:
        scan, writer = self.started()
        self.tell(writer, 0, 2)
        reader = self.opened(scan)
        with pytest.raises(DataTimeoutError):
            reader.wait_available(2, timeout=0)
        scan.stop()
        with pytest.raises(IndexWontBeThereError):
            reader.wait_available(2)
        scan.close()

    # ---- writing

    def test_readers_do_not_write(self) -> None:
        scan, writer = self.started()
        with pytest.raises(NoWritePermission):
            self.publish(self.opened(scan), 0, 1)
        writer.join()
        assert len(self.opened(scan).event_stream) == 0

    def test_sealing_again_gives_the_length_again(self) -> None:
        _, writer = self.started()
        self.tell(writer, 0, 3)
        assert writer.seal() == writer.seal()

    # ---- forgotten

    def test_a_finished_stream_whose_events_were_forgotten(self) -> None:
        scan, writer = self.started()
        for index in range(5):
            self.tell(writer, index, index + 1)
        scan.stop()
        scan.close()
        self.store.event_log.trim({writer.key: MAX_INDEX})
        reader = self.opened(scan)
        if self.survives_trimming:
            assert self.check_availability(reader, 5).readable.count == 5
            assert len(reader) == 5
            self.check_points(reader[:], range(5))
            self.check_point(reader[0], self.point(0))
            (view,) = list(reader.cursor())
            assert (view.index, len(view)) == (0, 5)
            self.check_points(view.get_data(), range(5))
        else:
            for selection in (0, slice(1, 3)):
                with pytest.raises(IndexNoMoreThereError):
                    reader[selection]

    def test_a_running_stream_whose_older_events_were_forgotten(self) -> None:
        scan, writer = self.started()
        for index in range(5):
            self.tell(writer, index, index + 1)
        self.store.event_log.trim({writer.key: MAX_INDEX})
        reader = self.opened(scan)
        self.check_availability(reader, 5)
        assert len(reader) == 5
        self.check_point(reader[4], self.point(4))
        view = reader.cursor().read(timeout=LONG_S)
        assert view is not None
        assert (view.index, view.last_index) == (0, 4)
        self.check_points(view.get_data(4), range(4, 5))
