"""Does what 2.4.5 does badly, and prints what happens; runs in any environment.

python better_program.py URL SECONDS

What is not over after so many seconds is taken to go on for ever.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from blissdata import DataStore
from blissdata.streams import CursorGroup
from blissdata.streams.default import Stream

IDENTITY = {"name": "better", "number": 1, "data_policy": "none"}


def told(call: Callable[[], Any]) -> Any:
    """What the call gives; the name of the error that it raises."""
    try:
        return call()
    except Exception as error:
        return type(error).__name__


def ends(call: Callable[[], Any]) -> bool:
    """Whether the call comes back."""
    thread = threading.Thread(target=told, args=[call], daemon=True)
    thread.start()
    thread.join(float(sys.argv[2]))
    return not thread.is_alive()


def new_scan(store: DataStore, *names: str) -> Any:
    scan = store.create_scan(IDENTITY)
    streams = [scan.create_stream(Stream.make_definition(name, float)) for name in names]
    scan.prepare()
    return scan, *streams


def tiny_timeout(store: DataStore) -> Any:
    return ends(lambda: store.get_next_scan(timeout=0.0004))


def forced_deletion(store: DataStore) -> Any:
    scan, writer = new_scan(store, "x")
    writer.send(1.0)
    writer.join()
    reader = store.load_scan(scan.key).streams["x"]
    store.delete_scan(scan.key, force=True)
    return reader.is_sealed()


def changed_info(store: DataStore) -> Any:
    (scan,) = new_scan(store)
    scan.info["late"] = True
    return [told(scan.start), scan.state.name]


def info_of_no_json(store: DataStore) -> Any:
    (scan,) = new_scan(store)
    scan.start()
    scan.stop()
    scan.info["late"] = object()
    return [told(scan.close), scan.state.name]


def group_read(store: DataStore) -> Any:
    scan, first, second = new_scan(store, "first", "second")
    group = CursorGroup(store.load_scan(scan.key).streams)
    first.seal()
    over = threading.Event()

    def blocked() -> int:
        found: int = store._redis.info("clients")["blocked_clients"]
        return found

    before = blocked()

    def send_once_it_waits() -> None:
        while not over.wait(0.01) and blocked() <= before:
            pass
        second.send(1.0)

    sender = threading.Thread(target=send_once_it_waits)
    sender.start()
    names = sorted(stream.name for stream in group.read())
    over.set()
    sender.join()
    return names


def context_manager(store: DataStore) -> Any:
    def used() -> Any:
        with store.create_scan(IDENTITY) as scan:
            scan.prepare()
        return scan.state.name

    return told(used)


def other_identity(store: DataStore, url: str) -> Any:
    try:
        from redis_om import Field, HashModel
    except ImportError:
        from pydantic import BaseModel as HashModel
        from pydantic import Field

    class Beamline(HashModel):
        name: str = Field(index=True)

        class Meta:
            global_key_prefix = "bl99"

    other = DataStore(url, identity_model_cls=Beamline)
    key = other.create_scan({"name": "tomo"}).key
    return told(lambda: other.search_existing_scans(name="tomo")[1] == [key])


def main() -> None:
    """Prints one line of JSON; leaves at once, whatever still waits."""
    code = 1
    try:
        url = sys.argv[1]
        store = DataStore(url)
        found = {
            case.__name__: case(store)
            for case in (
                tiny_timeout,
                forced_deletion,
                changed_info,
                info_of_no_json,
                group_read,
                context_manager,
            )
        }
        found["other_identity"] = other_identity(store, url)
        print(json.dumps(found), flush=True)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
