"""The interface makes the rest of h5py's reading API from what a subclass defines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import pytest
from silx.io import utils as silx_utils

from blissdata.h5api import abstract

TEXT = h5py.string_dtype()


class Attributes(abstract.Attributes):
    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Node(abstract.Node):
    def __init__(self, file: File, name: str) -> None:
        self._file = file
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    @property
    def attrs(self) -> Attributes:
        return Attributes({})

    @property
    def parent(self) -> abstract.Group:
        return self._file

    @property
    def file(self) -> File:
        return self._file


class Group(Node, abstract.Group):
    def _names(self) -> dict[str, Any]:
        found = self._file.tree
        for part in self._name.strip("/").split("/"):
            found = found[part] if part else found
        return found

    def __getitem__(self, key: str) -> Any:
        found = self._names()
        for part in key.split("/"):
            found = found[part]
        name = f"{self._name.rstrip('/')}/{key}"
        return (Group if isinstance(found, dict) else Dataset)(self._file, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())


class Dataset(Node, abstract.Dataset):
    def _value(self) -> Any:
        found: Any = self._file.tree
        for part in self._name.strip("/").split("/"):
            found = found[part]
        return found

    @property
    def dtype(self) -> Any:
        return self._value().dtype

    @property
    def shape(self) -> Any:
        return self._value().shape

    @property
    def size(self) -> Any:
        return self._value().size

    @property
    def ndim(self) -> Any:
        return self._value().ndim

    def __len__(self) -> int:
        return len(self._value())

    def __getitem__(self, idx: Any) -> Any:
        return self._value()[idx]


class File(Group, abstract.File):
    def __init__(self, tree: dict[str, Any], filename: str = "a.h5") -> None:
        super().__init__(self, "/")
        self.tree = tree
        self.closed = False
        self._filename = filename

    @property
    def filename(self) -> str:
        return self._filename

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def file() -> File:
    names = np.array([b"diode", b"camera"], dtype=TEXT)
    return File(
        {
            "1.1": {"measurement": {"x": np.arange(6).reshape(3, 2)}, "names": names},
            "one": np.array(b"alone", dtype=TEXT),
        }
    )


def test_a_group_is_a_mapping_and_a_dataset_a_sequence() -> None:
    assert issubclass(abstract.Group, Mapping)
    assert issubclass(abstract.File, abstract.Group)
    assert issubclass(abstract.Attributes, Mapping)
    assert issubclass(abstract.Dataset, Sequence)


ABSTRACT = {
    abstract.Node: {"name", "attrs", "parent", "file"},
    abstract.Attributes: {"__getitem__", "__iter__", "__len__"},
    abstract.Group: {"name", "attrs", "parent", "file", "__getitem__", "__iter__", "__len__"},
    abstract.Dataset: {
        *("name", "attrs", "parent", "file", "__getitem__", "__len__"),
        *("dtype", "shape", "size", "ndim"),
    },
    abstract.File: {
        *("name", "attrs", "parent", "file", "__getitem__", "__iter__", "__len__"),
        *("filename", "close"),
    },
}
"""What a subclass has to define; as in 2.4.5, so that others' subclasses go on working."""


@pytest.mark.parametrize("kind", ABSTRACT, ids=lambda kind: kind.__name__)
def test_a_subclass_defines_what_it_always_had_to(kind: Any) -> None:
    assert kind.__abstractmethods__ == ABSTRACT[kind]


def test_leaving_the_with_block_closes_the_file(file: File) -> None:
    with file as inside:
        assert inside is file
        assert not file.closed
    assert file.closed


def test_get_gives_the_default_for_what_is_not_there(file: File) -> None:
    assert file.get("nope") is None
    assert file.get("nope", 3) == 3
    assert file.get("1.1") == file["1.1"]
    assert file.get("1.1/nope", getclass=True) is None


def test_get_tells_classes_and_links(file: File) -> None:
    assert file.get("1.1", getclass=True) is h5py.Group
    assert file.get("one", getclass=True) is h5py.Dataset
    assert isinstance(file.get("one", getlink=True), h5py.HardLink)
    assert file.get("one", getlink=True, getclass=True) is h5py.HardLink


def test_nodes_are_equal_by_file_and_path(file: File) -> None:
    assert file["1.1"] == file["1.1"]
    assert len({file["1.1"], file["1.1"], file["one"]}) == 2
    assert file["1.1"] != file["1.1/measurement"]
    assert file["1.1"] == File(file.tree)["1.1"]
    assert file["1.1"] != File(file.tree, "b.h5")["1.1"]
    assert file["1.1"] != "/1.1"


def test_what_is_there_is_true_even_if_it_is_empty() -> None:
    file = File({"empty": {}, "none": np.zeros(0), "scalar": np.array(0)})
    assert file["empty"]
    assert file["none"]
    assert file["scalar"]


def test_visiting_goes_depth_first_and_stops_at_the_first_answer(file: File) -> None:
    visited: list[str] = []
    assert file.visit(visited.append) is None
    assert visited == ["1.1", "1.1/measurement", "1.1/measurement/x", "1.1/names", "one"]

    def first_dataset(name: str, node: Any) -> str | None:
        return name if isinstance(node, abstract.Dataset) else None

    assert file.visititems(first_dataset) == "1.1/measurement/x"


def test_numpy_takes_a_dataset_for_an_array(file: File) -> None:
    expected = np.arange(6).reshape(3, 2)
    assert np.array_equal(np.asarray(file["1.1/measurement/x"]), expected)
    assert np.asarray(file["1.1/measurement/x"], dtype="f4").dtype == "f4"
    assert file["1.1/measurement/x"].nbytes == expected.nbytes


def test_text_is_read_as_str_on_demand(file: File) -> None:
    names = file["1.1/names"].asstr()
    assert names[()].tolist() == ["diode", "camera"]
    assert names[1] == "camera"
    assert len(names) == 2
    with pytest.raises(TypeError, match=r"/1\.1/measurement/x holds int64, not text"):
        file["1.1/measurement/x"].asstr()


def test_silx_knows_what_is_what(file: File) -> None:
    assert silx_utils.is_file(file)
    assert silx_utils.is_group(file)
    assert silx_utils.is_group(file["1.1"])
    assert not silx_utils.is_file(file["1.1"])
    assert silx_utils.is_dataset(file["one"])
    assert silx_utils.get_h5py_class(file["one"]) is h5py.Dataset
