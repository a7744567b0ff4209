"""Configuration files: from Beacon or from the disk, YAML parsed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from blissdata.beacon.client import BeaconClient, argument
from blissdata.beacon.config import parse_address
from blissdata.beacon.messages import Message
from blissdata.exceptions import BeaconRefusedError, MissingExtraError

__all__ = ["BeaconFiles", "read_config", "yaml_load"]


def _find_loader() -> Callable[[Any], Any] | None:
    """Parses YAML, text or bytes or a stream, into plain objects: by ruamel.yaml, else by PyYAML."""
    try:
        from ruamel.yaml import YAML
    except ImportError:
        try:
            from yaml import safe_load
        except ImportError:
            return None
        return safe_load  # type: ignore[no-any-return]

    def load(source: Any) -> Any:
        return YAML(typ="safe", pure=True).load(source)

    return load


yaml_load: Callable[[Any], Any] | None = _find_loader()
"""Parses YAML into plain objects; None where neither ruamel.yaml nor PyYAML is installed."""


class BeaconFiles(BeaconClient):
    """The files of a Beacon server. Each method is one round trip, and raises as those of
    `BeaconData`."""

    def get_file(self, file_path: str) -> bytes:
        """What a file holds; its path is relative to Beacon's directory."""
        found, data = self._ask(Message.FILE, argument(file_path, "A path"))
        if found != Message.FILE_OK:
            raise self._refused(found, data, Message.FILE_FAILED)
        return data or b""

    def get_tree(self, base_path: str = "") -> dict[str, Any]:
        """The names below a directory: directories map to such a dict again, files to None."""
        found, data = self._ask(Message.TREE, argument(base_path, "A path"))
        if found != Message.TREE_OK:
            raise self._refused(found, data, Message.TREE_FAILED)
        try:
            tree = json.loads(data or b"")
            if not isinstance(tree, dict):
                raise ValueError(f"a {type(tree).__name__}, not an object")
        except (ValueError, RecursionError) as error:
            raise BeaconRefusedError(f"{self!r} gave a tree that is none: {error}") from error
        return tree


def read_config(url: str) -> Any:
    """The parsed YAML of a file: `/path`, `file:///path`, `beacon:///path` (at the server that
    `$BEACON_HOST` names) or `beacon://host:port/path`.

    Raises `ValueError` for another scheme, `MissingExtraError` (an `ImportError`) where no YAML
    parser is installed, `FileNotFoundError` or what `BeaconFiles` raises where there is no such
    file, and the parser's own error for one that is no YAML."""
    parts = urlsplit(url)
    if parts.scheme not in ("", "file", "beacon"):
        raise ValueError(
            f"Configuration URL scheme {parts.scheme!r} is not supported (Full URL: {url}): "
            "expected /path, file:///path, beacon:///path or beacon://host:port/path"
        )
    if yaml_load is None:
        raise MissingExtraError(
            "Reading YAML needs ruamel.yaml or PyYAML: pip install 'blissdata[beacon]'"
        )
    if parts.scheme == "beacon":
        host, port = parse_address(parts.netloc) if parts.netloc else (None, None)
        with BeaconFiles(host, port) as files:
            return yaml_load(files.get_file(parts.path.lstrip("/")))
    path = url if not parts.scheme else parts.netloc + parts.path
    with open(path, "rb") as file:
        return yaml_load(file)
