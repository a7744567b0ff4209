"""What blissdata 2.4.5 puts on a server, as a file; and back onto a server.

    python -m tests.golden.capture      writes data/protocol_1_by_2.4.5.json anew

It builds an environment with blissdata 2.4.5 if there is none, starts a Valkey with RedisJSON and
RediSearch, lets 2.4.5 do the steps of `tests/golden/steps.py`, trims what the memory tracker would
trim (WIRE: `XTRIM … MINID`), and writes down every key. Bytes are texts, one character a byte.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import redis
from tests.clients.environments import environment

from blissdata.testing.servers import StackServer

__all__ = ["CAPTURE", "dump", "index_schema", "restore", "trim_as_the_tracker_does"]

CAPTURE = Path(__file__).parent / "data" / "protocol_1_by_2.4.5.json"

SEAL = "18446744073709551615-18446744073709551615"


def trim_as_the_tracker_does(client: redis.Redis, scan_key: str) -> None:
    """Trims the streams of the scan `trimmed`: a sealed one to its seal, the other, which must go on,
    up to its last entry."""
    document = json.loads(client.execute_command("JSON.GET", scan_key, "."))
    sealed, still_open = (
        f"esrf:stream:{document['data_streams'][name]['pk']}" for name in ("sealed", "open")
    )
    client.execute_command("XTRIM", sealed, "MINID", SEAL)
    client.execute_command("XTRIM", still_open, "MINID", "4-1")


def dump(client: redis.Redis) -> dict[str, dict[str, Any]]:
    """Every key: its type, its time to live [s] (-1: none) and its value. The set of pulses is left out:
    blissdata 2.x has none."""
    found: dict[str, dict[str, Any]] = {}
    for key in sorted(client.keys()):
        kind = client.type(key).decode()
        value: Any
        if kind == "set":
            continue
        if kind == "stream":
            entries = client.xrange(key)
            value = [[_text(i), {_text(k): _text(v) for k, v in f.items()}] for i, f in entries]
        elif kind == "ReJSON-RL":
            value = client.execute_command("JSON.GET", key, ".").decode()
        else:
            value = _text(client.get(key))
        found[key.decode()] = {"type": kind, "ttl": client.ttl(key), "value": value}
    return found


def restore(client: redis.Redis, keys: Mapping[str, Mapping[str, Any]]) -> None:
    """Puts a dump on a server. The index must be there already, or be made afterwards."""
    pipeline = client.pipeline(transaction=False)
    for key, found in keys.items():
        if found["type"] == "stream":
            for ident, fields in found["value"]:
                flat = [_bytes(text) for pair in fields.items() for text in pair]
                pipeline.execute_command("XADD", key, ident, *flat)
        elif found["type"] == "ReJSON-RL":
            pipeline.execute_command("JSON.SET", key, ".", found["value"])
        else:
            pipeline.set(key, _bytes(found["value"]))
        if found["ttl"] >= 0:
            pipeline.expire(key, found["ttl"])
    pipeline.execute()


def index_schema(client: redis.Redis, index: str) -> dict[str, Any]:
    """What an index covers: prefixes and attributes, as FT.INFO tells them."""
    client.set_response_callback("FT.INFO", lambda reply, **_: reply)
    info = _mapping(client.execute_command("FT.INFO", index))
    definition = _mapping(info[b"index_definition"])
    attributes = []
    for attribute in info[b"attributes"]:
        found = attribute if isinstance(attribute, dict) else _mapping(attribute)
        attributes.append({k.decode(): v.decode() for k, v in found.items() if k != b"flags"})
    return {
        "key_type": definition[b"key_type"].decode(),
        "prefixes": [prefix.decode() for prefix in definition[b"prefixes"]],
        "attributes": attributes,
    }


def _mapping(reply: Any) -> dict[bytes, Any]:
    if isinstance(reply, dict):
        return reply
    pairs: Sequence[Any] = reply
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


def main() -> None:
    steps = Path(__file__).parent / "steps.py"
    with StackServer("valkey") as server, server.client() as client:
        command = [str(environment("peer")), "-W", "ignore", str(steps), server.url]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120)
        scans = json.loads(done.stdout)
        trim_as_the_tracker_does(client, scans["trimmed"])
        captured = {
            "by": "blissdata 2.4.5",
            "scans": scans,
            "index": index_schema(client, "esrf:scan:index"),
            "keys": dump(client),
        }
    CAPTURE.write_text(json.dumps(captured, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
