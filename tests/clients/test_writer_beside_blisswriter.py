"""The file that our writer makes of a scan, beside the one that blisswriter 3.0.0 makes of the same scan.

Everything is the same, item by item: names, links, attributes, dtypes, shapes, values, where images and raw
bytes are. `docs/how-to/write-files.md` says what is not, and why.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.clients import writer
from tests.clients.matrix import PEER, SHARED, Pair, meet
from tests.writer.kit import Running

from blissdata import DataStore

pytestmark = pytest.mark.environments

THEIR_ROOT = {"HDF5_Version", "h5py_version"}
OUR_ROOT = {"blissdata_writer", "default"}
BOTH_ROOT = {"creator"}
"""Attributes of the root that one of both has alone, and that say something else in both."""

OUR_ENTRY = {"blissdata_scan", "blissdata_state"}
"""Our marks of an entry."""


class Ours(Running):
    """Our writer, asked as blisswriter is."""

    def wait_until_it_says(self, *words: str) -> None:
        """What ours says for it."""
        self.wait("written /" if "Saving complete" in words else "writing /")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is in theirs, and in ours."""
    place = tmp_path_factory.mktemp("files")
    theirs, ours = place / "theirs", place / "ours"
    theirs.mkdir()
    ours.mkdir()
    pair = Pair(PEER, PEER, SHARED[0], 2)
    with (
        meet(pair) as (publisher, _, server),
        writer.FileWriter("peer-writer", server.url, place / "log") as blisswriter,
    ):
        their_file = writer.saved(publisher, blisswriter, theirs)
        assert blisswriter.interrupt() == 0
    with meet(pair) as (publisher, _, server), DataStore(server.url) as store:
        running = Ours(store, ours)
        try:
            our_file = writer.saved(publisher, running, ours)  # type: ignore[arg-type]
        finally:
            running.close()
    assert writer.wrong_points(their_file) == writer.wrong_points(our_file) == []
    return writer.contents(their_file), writer.contents(our_file)


def test_all_items_are_the_same_but_ours_may_grow(
    files: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    theirs, ours = files
    assert theirs.keys() == ours.keys()
    inside = theirs.keys() - {"/", "/1.1"}
    assert len(inside) > 30
    growing = 0
    for path in inside:
        their, our = theirs[path], ours[path]
        if isinstance(their, dict) and their["maxshape"] != our["maxshape"]:
            # Theirs stop growing at the end; images of a detector are put together at the end by ours.
            fixed, open_ended = (our, their) if our["sources"] else (their, our)
            assert fixed["maxshape"] == fixed["shape"]
            assert open_ended["maxshape"] == (None, *fixed["shape"][1:])
            their, our = ({**one, "maxshape": ()} for one in (their, our))
            growing += 1
        assert writer.same(their, our), (path, their, our)
    assert growing


def test_root_and_entry_have_the_marks_of_their_writers(
    files: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    theirs, ours = files
    assert theirs["/"].keys() - ours["/"].keys() == THEIR_ROOT
    assert ours["/"].keys() - theirs["/"].keys() == OUR_ROOT
    common = theirs["/"].keys() & ours["/"].keys() - BOTH_ROOT
    assert all(writer.same(theirs["/"][name], ours["/"][name]) for name in common)
    assert {"NX_class", "file_name"} & common
    their_entry, our_entry = theirs["/1.1"][1], ours["/1.1"][1]
    assert our_entry.keys() - their_entry.keys() == OUR_ENTRY
    assert all(writer.same(value, our_entry[name]) for name, value in their_entry.items())
