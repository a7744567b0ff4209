"""Where the Beacon server is."""

from __future__ import annotations

import os
import re

from blissdata.exceptions import BeaconAddressError

__all__ = ["get_beacon_address", "parse_address"]


def get_beacon_address() -> tuple[str, int]:
    """`(host, port)` from `$BEACON_HOST`, which is read at each call. Raises `ValueError` (`BeaconAddressError`
    for something that is no address)."""
    given = os.environ.get("BEACON_HOST")
    if not given:
        raise ValueError("$BEACON_HOST is not specified: it names a Beacon server, 'host:port'")
    try:
        return parse_address(given)
    except ValueError as error:
        raise BeaconAddressError(f"$BEACON_HOST variable not properly set. {error}") from error


def parse_address(text: str) -> tuple[str, int]:
    """`(host, port)` of a text `host:port`, or `[address]:port` for IPv6. Raises `ValueError`."""
    found = re.fullmatch(
        r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s:/\[\]]+)):(\d{1,5})", text.strip(), re.A
    )
    if not found or not 0 < int(found[3]) < 65536:
        raise ValueError(f"Expected: 'hostname:port'. Found: {text!r}.")
    return found[1] or found[2], int(found[3])
