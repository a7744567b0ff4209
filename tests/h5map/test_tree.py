"""A layout as a whole, and what is found wrong in it, with the path of each.

reads    names that are paths; several layouts of one file; both notations of a scan's info
walks    order, streams
checks   streams, two items at one path, links, attributes, values, virtual and external data
h5py     what the checks refuse, h5py cannot write either; what they pass, it writes
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from blissdata.exceptions import LayoutError
from blissdata.h5map import (
    RAW,
    STREAM,
    Compound,
    Dataset,
    ExternalBinaryDataset,
    ExternalLink,
    Group,
    InlineRaw,
    SoftLink,
    Stream,
    VirtualDataset,
)
from blissdata.h5map.tree import (
    check_info,
    check_layout,
    check_prepared,
    has_layout,
    layouts,
    read_layout,
    streams_of,
    walk,
)


def told(group: Any, streams: Any = ("diode", "timer")) -> list[str]:
    """The mistakes in a layout as text."""
    return [str(one) for one in check_layout(read_layout(group), streams)]


def group(**children: Any) -> Group:
    return Group(children=children)


# --------------------------------------------------------------------------------------- reads


class TestReading:
    def test_a_layout_is_read_from_json_and_from_models(self) -> None:
        made = Group(children={"1.1": group(a=1)})
        assert read_layout(json.loads(made.model_dump_json())) == made
        assert read_layout(made) is made

    def test_a_name_that_is_a_path_makes_groups(self) -> None:
        found = read_layout(
            Group(
                children={
                    "1.1/measurement/diode": Stream(stream="diode"),
                    "/1.1/title/": "loopscan",
                    "1.1": Group(attributes={"NX_class": "NXentry"}, children={"a//b": 1}),
                }
            )
        )
        entry = Group(
            attributes={"NX_class": "NXentry"},
            children={
                "measurement": group(diode=Stream(stream="diode")),
                "title": "loopscan",
                "a": group(b=1),
            },
        )
        assert found == Group(children={"1.1": entry})

    def test_every_misfit_names_the_path_of_its_item(self) -> None:
        layout = {
            "type": "group",
            "children": {
                "1.1": {
                    "type": "group",
                    "attributes": {"u": None},
                    "children": {"diode": None, "link": {"type": "soft_link"}, "x": {"type": "y"}},
                }
            },
        }
        with pytest.raises(LayoutError) as caught:
            read_layout(layout)
        lines = str(caught.value).splitlines()
        assert [line.split(": ")[0] for line in lines] == [
            "/1.1, attribute 'u'",
            "/1.1/diode",
            "/1.1/link",
            "/1.1/x",
        ]
        assert "found null" in lines[1]
        assert "target_path: Field required" in lines[2]

    @pytest.mark.parametrize(
        ("children", "path"),
        [
            ({"a/b": 1, "a": Group(children={"b": 2})}, "/a/b"),
            ({"a/b": 1, "a//b": 2}, "/a/b"),
            ({"a": 1, "a/": 2}, "/a"),
            ({"a/b": 1, "a": 2}, "/a"),
        ],
    )
    def test_two_items_at_one_path_are_refused(self, children: Any, path: str) -> None:
        with pytest.raises(LayoutError, match=f"(?m)^{path}: two items at one path"):
            read_layout(Group(children=children))

    def test_an_item_below_a_dataset_is_refused(self) -> None:
        with pytest.raises(LayoutError, match=r"^/a/b: /a is a dataset, not a group"):
            read_layout(Group(children={"a": 1, "a/b": 2}))

    @pytest.mark.parametrize("name", ["", ".", "..", "a/../b", "/", "a\0"])
    def test_names_that_hdf5_does_not_have_are_refused(self, name: str) -> None:
        with pytest.raises(LayoutError, match="no items of the name"):
            read_layout(Group(children={name: 1}))

    def test_a_long_list_of_mistakes_is_cut(self) -> None:
        with pytest.raises(LayoutError, match="… and 80 more"):
            read_layout({"type": "group", "children": {str(n): None for n in range(100)}})


class TestInfo:
    def test_nothing_promised_is_fine(self) -> None:
        assert not has_layout({"title": "t"})
        assert layouts({"title": "t"}) == {}
        assert check_info({}, []) == []

    def test_h5maps_are_given_by_file(self) -> None:
        info = {"h5maps": {"/data/a.h5": {"type": "group", "children": {"1.1": {"type": "group"}}}}}
        assert has_layout(info)
        assert layouts(info) == {"/data/a.h5": Group(children={"1.1": Group()})}

    def test_the_talk_s_mapping_is_an_entry_of_the_scan_s_file(self) -> None:
        info = {"mapping": {"NX_class": "NXentry", "diode": ({}, STREAM, "diode")}}
        entry = Group(
            attributes={"NX_class": "NXentry"}, children={"diode": Stream(stream="diode")}
        )
        assert has_layout(info)
        assert layouts(info, "/data/a.h5", "7.1") == {"/data/a.h5": Group(children={"7.1": entry})}

    def test_both_notations_make_one_file(self) -> None:
        info = {
            "h5maps": {"f.h5": {"type": "group", "children": {"1.1": {"type": "group"}, "2.1": 1}}},
            "mapping": {"x": ({}, RAW, 1)},
        }
        found = layouts(info, "f.h5", "3.1")
        assert found == {"f.h5": Group(children={"1.1": Group(), "2.1": 1, "3.1": group(x=1)})}
        with pytest.raises(LayoutError, match=r"^f\.h5::/2\.1: two items at one path"):
            layouts(info, "f.h5", "2.1")

    def test_mistakes_name_the_file_too(self) -> None:
        info = {
            "h5maps": {"/a.h5": {"type": "group", "children": {"1.1": {"type": "soft_link"}}}},
            "mapping": {"x": ({}, STREAM, "none"), "y": 3},
        }
        found = [str(one) for one in check_info(info, ["diode"], "/b.h5")]
        assert [one.split(": ")[0] for one in found] == [
            "/a.h5::/1.1",
            "/b.h5::/1.1/y",
            "/b.h5::/1.1/x",
        ]

    @pytest.mark.parametrize("h5maps", [[1], "text", 3])
    def test_h5maps_of_another_kind_are_a_mistake(self, h5maps: Any) -> None:
        (mistake,) = check_info({"h5maps": h5maps}, [])
        assert "h5maps is" in str(mistake)


# --------------------------------------------------------------------------------------- walks


def test_a_walk_gives_a_group_before_what_is_in_it() -> None:
    root = group(a=group(x=1, y=group(z=2)), b=SoftLink(target_path="a"), c=3)
    assert [path for path, _ in walk(root)] == ["/a", "/a/x", "/a/y", "/a/y/z", "/b", "/c"]


def test_the_streams_of_a_layout_with_their_paths() -> None:
    root = group(
        a=Stream(stream="diode"),
        b=Group(attributes={"s": Stream(stream="timer")}, children={"c": Stream(stream="diode")}),
    )
    assert streams_of(root) == {"diode": ["/a", "/b/c"], "timer": ["/b"]}


# -------------------------------------------------------------------------------------- checks


class TestChecks:
    def test_a_sound_layout_has_no_mistakes(self) -> None:
        assert (
            told(group(diode=Stream(stream="diode"), title="t", link=SoftLink(target_path="title")))
            == []
        )

    def test_a_stream_that_the_scan_does_not_have(self) -> None:
        (one,) = told(group(a=group(d=Stream(stream="doide"))))
        assert one == "/a/d: the scan has no stream 'doide'; it has 'diode', 'timer'"

    def test_as_an_attribute_too(self) -> None:
        (one,) = told(Group(attributes={"s": Stream(stream="x")}), streams=())
        assert one == "/, attribute 's': the scan has no stream 'x'; it has none"

    def test_many_streams_are_not_all_listed(self) -> None:
        (one,) = told(group(d=Stream(stream="x")), streams=[f"s{n:02}" for n in range(50)])
        assert one.endswith("'s09' and 40 more")

    def test_a_value_that_is_not_of_its_dtype(self) -> None:
        (one,) = told(group(d={"type": "inline", "dtype": "int8", "value": 300}))
        assert one.startswith("/d: A value does not fit into int8: 300")

    def test_a_column_without_name(self) -> None:
        (one,) = told(group(d=Compound(columns=[("a", Compound(columns=[("", 1)]))])))
        assert one.startswith("/d: HDF5 wants a name for each column")

    @pytest.mark.parametrize("name", ["", "a\0"])
    def test_an_attribute_without_name(self, name: str) -> None:
        (one,) = told(Group(attributes={name: 1}))
        assert "no attributes of the name" in one

    def test_an_attribute_that_is_too_large(self) -> None:
        (one,) = told(group(d=Dataset(value=1, attributes={"big": list(range(10_000))})))
        assert one.startswith("/d, attribute 'big': 80000 bytes are too many")
        assert told(group(d=list(range(10_000)))) == []

    def test_a_name_of_an_attribute_that_is_too_long(self) -> None:
        (one,) = told(group(d=Dataset(value=1, attributes={"é" * 33_000: 1})))
        assert one.endswith("names of attributes up to 65000 bytes, not of 66000")
        (one,) = told(Group(attributes={"n" * 40_000: list(range(4_000))}))
        assert "32000 bytes are too many for an attribute of HDF5" in one
        assert told(Group(attributes={"n" * 60_000: 1}, children={"n" * 70_000: 1})) == []

    def test_an_attribute_of_no_hdf5_type(self) -> None:
        (one,) = told(group(d=Dataset(value=1, attributes={"t": "a\0b"})))
        assert one.startswith("/d, attribute 't': HDF5 cannot hold text with a NUL")


class TestLinks:
    TREE = group(
        a=group(b=group(c=1)),
        to_b=SoftLink(target_path="/a/b"),
        elsewhere=ExternalLink(target_file="f.h5", target_path="/x"),
    )

    @pytest.mark.parametrize(
        "target",
        [
            "c",
            "../b/c",
            "/a/b/c",
            "/a/../a/b",
            "../../to_b/c",
            "/elsewhere/anything",
            "/2.1/x",
            "./c",
            "/",
        ],
    )
    def test_links_that_lead_somewhere_or_out_of_the_layout(self, target: str) -> None:
        tree = self.TREE.model_copy(deep=True)
        tree.children["a"].children["b"].children["link"] = SoftLink(target_path=target)
        assert told(tree) == []

    @pytest.mark.parametrize(
        ("target", "reason"),
        [
            ("x", "there is no '/a/b/x'"),
            ("/a/x/y", "there is no '/a/x'"),
            ("c/d", "'/a/b/c' is a dataset, not a group"),
            ("../../to_b/d", "there is no '/a/b/d'"),
            ("../../../..", "there is nothing above the root"),
            ("link", "found link cycle"),
            ("", "an empty path is no target"),
        ],
    )
    def test_links_to_nowhere(self, target: str, reason: str) -> None:
        tree = self.TREE.model_copy(deep=True)
        tree.children["a"].children["b"].children["link"] = SoftLink(target_path=target)
        assert told(tree) == [f"/a/b/link: links to {target!r}: {reason}"]

    def test_links_in_a_circle(self) -> None:
        tree = group(
            a=group(x=SoftLink(target_path="/b/y")), b=group(y=SoftLink(target_path="../a/x"))
        )
        assert [one.split(": ")[-1] for one in told(tree)] == ["found link cycle"] * 2

    def test_a_deep_chain_is_followed_in_reasonable_time(self) -> None:
        """Each link doubles the way: a naive walk would never end."""
        tree = group(l0=group())
        for n in range(1, 60):
            tree.children[f"l{n}"] = SoftLink(target_path=f"/l{n - 1}/../l{n - 1}/../l{n - 1}")
        assert any("cycle" in one for one in told(tree))


def selection(**lists: Any) -> dict[str, Any]:
    return {"start": [0], "count": [1], **lists}


def virtual(shape: list[int], vspace: Any, src_space: Any) -> VirtualDataset:
    source = {"vspace": vspace, "src_file": "f.h5", "src_dataset": "/d", "src_space": src_space}
    return VirtualDataset(dtype="<i2", shape=shape, virtual_sources=[source])


class TestSources:
    @pytest.mark.parametrize(
        ("shape", "vspace", "src_space", "reason"),
        [
            ([2, 3], selection(), selection(), "selects in 1 dimensions, the dataset has 2"),
            (
                [3],
                selection(start=[2], block=[2]),
                selection(block=[2]),
                "fills up to [4], the dataset ends at [3]",
            ),
            ([9], selection(count=[3], stride=[4], block=[2]), selection(block=[6]), "up to [10]"),
            ([4], selection(block=[4]), selection(count=[3]), "gives 3 points for 4"),
        ],
    )
    def test_a_virtual_source_that_does_not_fit(
        self, shape: Any, vspace: Any, src_space: Any, reason: str
    ) -> None:
        (one,) = told(group(d=virtual(shape, vspace, src_space)))
        assert one.startswith("/d: source 0 (f.h5::/d) ")
        assert reason in one

    def test_virtual_sources_that_fit(self) -> None:
        space = selection(count=[3], stride=[4], block=[2])
        assert told(group(d=virtual([10], space, selection(block=[6])))) == []
        assert told(group(d=virtual([0], selection(count=[0]), selection(count=[0])))) == []

    def test_external_files_that_are_too_short(self) -> None:
        item = external([(0, 4), (0, 7)])
        (one,) = told(group(d=item))
        assert one == "/d: its files hold 11 bytes, <i2 of shape [2, 3] needs 12"

    def test_an_endless_file_before_another(self) -> None:
        (one,) = told(group(d=external([(0, None), (0, 12)])))
        assert one.startswith("/d: only the last of its files")

    def test_external_files_that_fit(self) -> None:
        assert told(group(d=external([(0, 4), (2, 8)]), e=external([(0, 4), (2, None)]))) == []


def external(parts: list[tuple[int, int | None]]) -> ExternalBinaryDataset:
    files = [{"name": "raw", "offset": offset, "size": size} for offset, size in parts]
    return ExternalBinaryDataset(dtype="<i2", shape=[2, 3], files=files)


# ---------------------------------------------------------------------------------------- h5py


class TestBesideH5py:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Iterator[h5py.File]:
        with h5py.File(tmp_path / "f.h5", "w") as file:
            yield file

    @pytest.mark.parametrize(
        ("values", "fits"),
        [([0] * 8_124, True), ([0] * 8_300, False), ([1j], True)],
        ids=["", "large", "z"],
    )
    def test_attributes(self, file: h5py.File, values: Any, fits: bool) -> None:
        value: Any = (
            values
            if 1j not in values
            else {"type": "inline", "dtype": "complex64", "value": ["1j"]}
        )
        item = Dataset(value=1, attributes={"x": value})
        assert (told(group(d=item)) == []) is fits
        if fits:
            file.attrs["x"] = item.attributes["x"].decode()
        else:
            with pytest.raises(OSError, match="too large"):
                file.attrs["x"] = item.attributes["x"].decode()

    def test_texts(self, file: h5py.File) -> None:
        with pytest.raises(ValueError, match="embedded NULL"):
            file["x"] = InlineRaw("a\0b").root.item()

    @pytest.mark.parametrize("name", ["", ".", "/"])
    def test_names(self, file: h5py.File, name: str) -> None:
        with pytest.raises(ValueError, match="create group"):
            file.create_group(name)

    def test_long_names(self, file: h5py.File) -> None:
        file.create_group("n" * 70_000).attrs["a" * 60_000] = 1
        assert dict(file["n" * 70_000].attrs) == {"a" * 60_000: 1}
        with pytest.raises((OSError, KeyError)):
            file.attrs["a" * 65_600] = 1

    def test_external_files(self, file: h5py.File) -> None:
        with pytest.raises(ValueError, match="external"):
            file.create_dataset("x", (2, 3), "<i2", external=[("raw", 0, 11)])
        with pytest.raises((ValueError, OSError)):
            file.create_dataset(
                "y", (2, 3), "<i2", external=[("a", 0, h5py.h5f.UNLIMITED), ("b", 0, 9)]
            )
        file.create_dataset("z", (2, 3), "<i2", external=[("raw", 0, 12)])

    def test_hyperslabs_end_where_we_say(self, file: h5py.File) -> None:
        space = h5py.h5s.create_simple((20,))
        space.select_hyperslab((1,), (3,), (4,), (2,))
        (bounds,) = [space.get_select_bounds()[1]]
        assert (
            told(
                group(
                    d=virtual(
                        [bounds[0]],
                        {"start": [1], "count": [3], "stride": [4], "block": [2]},
                        selection(block=[6]),
                    )
                )
            )
            != []
        )
        assert (
            told(
                group(
                    d=virtual(
                        [bounds[0] + 1],
                        {"start": [1], "count": [3], "stride": [4], "block": [2]},
                        selection(block=[6]),
                    )
                )
            )
            == []
        )
        assert space.get_select_npoints() == 6

    def test_numbers_of_every_kind_can_be_attributes(self, file: h5py.File) -> None:
        for dtype in ("bool", "int8", "float16", "float128", "complex64", "complex256"):
            file.attrs[dtype] = np.zeros(2, dtype)
            assert file.attrs[dtype].dtype == dtype


# ------------------------------------------------------------------------------------- prepared


@pytest.mark.parametrize("depth", [300, 1200])
def test_an_endless_layout_is_told_of(depth: int) -> None:
    deep: dict[str, Any] = {"type": "group"}
    for _ in range(depth):
        deep = {"type": "group", "children": {"a": deep}}
    assert len(check_prepared({"h5maps": {"/data/f.h5": deep}}, [])) == 1


def test_only_a_mapping_is_refused() -> None:
    h5maps = {"/f.h5": group(**{"2.1": group(x=Stream(stream="nobody"))})}
    mapping = {"x": ({}, RAW, 1)}
    found = check_prepared({"h5maps": h5maps, "mapping": mapping}, ["diode"], "/f.h5", "1.1")
    assert [one.path for one in found] == ["/2.1/x"]
    with pytest.raises(LayoutError, match=r"^/f\.h5::/1\.1/x: the scan has no stream 'y'[^\n]*$"):
        check_prepared({"h5maps": h5maps, "mapping": {"x": ({}, STREAM, "y")}}, [], "/f.h5", "1.1")
