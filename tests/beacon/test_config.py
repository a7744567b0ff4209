"""Where Beacon is: the texts that name an address, and those that do not."""

from __future__ import annotations

import pytest

from blissdata.beacon.config import get_beacon_address
from blissdata.exceptions import BeaconAddressError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:25000", ("localhost", 25000)),
        ("id00.esrf.fr:1", ("id00.esrf.fr", 1)),
        ("my_host:65535", ("my_host", 65535)),
        ("192.0.2.1:25000", ("192.0.2.1", 25000)),
        (" host:25000 ", ("host", 25000)),
        ("[::1]:25000", ("::1", 25000)),
    ],
)
def test_an_address_is_host_and_port(
    monkeypatch: pytest.MonkeyPatch, text: str, address: tuple[str, int]
) -> None:
    monkeypatch.setenv("BEACON_HOST", text)
    assert get_beacon_address() == address


@pytest.mark.parametrize(
    "text",
    [
        "host",
        "host:",
        ":25000",
        "host:x",
        "a:b:1",
        "host:0",
        "host:65536",
        "host:-1",
        "::1:25000",
        "a b:1",
        "host:١",
    ],
)
def test_what_is_none_is_named_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("BEACON_HOST", text)
    with pytest.raises(
        BeaconAddressError, match=r"\$BEACON_HOST.*not properly set.*Found"
    ) as caught:
        get_beacon_address()
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", [None, ""])
def test_without_the_variable_it_says_so(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    monkeypatch.delenv("BEACON_HOST", raising=False)
    if text is not None:
        monkeypatch.setenv("BEACON_HOST", text)
    with pytest.raises(ValueError, match=r"^\$BEACON_HOST is not specified"):
        get_beacon_address()
