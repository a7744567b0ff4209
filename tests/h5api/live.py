"""Scans with a layout, for tests of the live file."""

from __future__ import annotations

from typing import Any

from blissdata import DataStore, Scan
from blissdata.streams import BaseStream

PATH = "/data/visitor/id00/sample.h5"


def group(attributes: dict[str, Any] | None = None, /, **children: Any) -> dict[str, Any]:
    return {"type": "group", "attributes": attributes or {}, "children": children}


def stream(name: str, **attributes: Any) -> dict[str, Any]:
    return {
        "type": "dataset",
        "attributes": attributes,
        "value": {"type": "stream", "stream": name},
    }


def soft(target: str) -> dict[str, Any]:
    return {"type": "soft_link", "target_path": target}


def external(file: str, target: str) -> dict[str, Any]:
    return {"type": "external_link", "target_file": file, "target_path": target}


def root(**entries: Any) -> dict[str, Any]:
    return {"type": "group", "children": entries}


def new_scan(store: DataStore, number: int = 1, path: str = PATH, **info: Any) -> Scan:
    identity = {"name": "s", "number": number, "data_policy": "none", "path": path}
    return store.create_scan(identity, info)


def started(
    store: DataStore,
    layout: dict[str, Any],
    number: int = 1,
    path: str = PATH,
    **streams: tuple[Any, tuple[int, ...]],
) -> tuple[Scan, dict[str, BaseStream]]:
    """A scan that points are coming of; its one entry has the layout, `streams` are dtype and shape
    by name."""
    scan = new_scan(store, number, path)
    made = {
        name: scan.create_stream(name, dtype=dtype, shape=None if dtype == "json" else shape)
        for name, (dtype, shape) in streams.items()
    }
    scan.info["h5maps"] = {path: root(**{f"{number}.1": layout})}
    scan.prepare()
    scan.start()
    return scan, made


def send(stream: BaseStream, data: Any) -> None:
    stream.send(data)
    stream.join()
