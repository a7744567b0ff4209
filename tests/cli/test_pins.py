"""`blissdata pins`: who keeps what, and the end of that."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.cli.conftest import Outcome

from blissdata import DataStore, Scan
from blissdata.exceptions import PinGoneError


@pytest.fixture
def scan(store: DataStore) -> Scan:
    with store.create_scan({"name": "ascan", "number": 7, "data_policy": "none"}) as scan:
        stream = scan.create_stream("diode", dtype="f8")
        scan.prepare()
        for i in range(10):
            stream.send(float(i))
    return scan


def test_pins_are_listed(run: Callable[..., Outcome], scan: Scan) -> None:
    assert run("pins") == Outcome(0, "", "blissdata: no pin\n")
    assert run("pins", "--json").objects == []
    with scan.pin("writer", {"diode": 4}, lasting=True), scan.pin("plot", streams=[]):
        plot, writer = run("pins", "--json").objects
        assert (writer["name"], writer["scan"]) == ("writer", scan.key)
        assert (writer["points_behind"], writer["lasting"]) == (6, True)
        assert (plot["name"], plot["points_behind"]) == ("plot", 0)
        shown = run("pins").out
        assert scan.key in shown
        assert "writer" in shown
        assert "holds" in shown


def test_a_pin_is_removed(run: Callable[..., Outcome], store: DataStore, scan: Scan) -> None:
    pin = scan.pin("writer", lasting=True)
    done = run("pins", "--remove", "last", "writer")
    assert (done.code, done.out) == (0, "")
    assert "not kept for 'writer' any more" in done.err
    assert store.pins() == []
    with pytest.raises(PinGoneError, match="removed"):
        pin.sync()


def test_a_pin_that_is_not_there_is_told(run: Callable[..., Outcome], scan: Scan) -> None:
    with scan.pin("plot"):
        done = run("pins", "--remove", "7", "writer")
    assert done.code == 3
    assert f"Scan {scan.key} has no pin 'writer', only: plot" in done.err
    assert run("pins", "--remove", "8", "writer").code == 3
    assert run("pins", "--remove", "last").code == 2
