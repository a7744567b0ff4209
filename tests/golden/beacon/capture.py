"""Recipe of `exchanges.json`: what a Beacon server answers, byte for byte.

    pip install bliss==2.4.0                       # into an environment of its own; brings beacon-server
    mkdir config logs; printf 'a: [1, 2]\\n' > config/x.yml; mkdir config/sub; printf 'b' > config/sub/y.dat
    valkey-server --port 27101 --bind 127.0.0.1 --loadmodule …rejson.so --loadmodule …redisearch.so &
    valkey-server --port 27102 --bind 127.0.0.1 --loadmodule …rejson.so --loadmodule …redisearch.so &
    beacon-server --db-path config --log-output-folder logs --port 27103 --key fruit=apple \\
        --redis-address redis://localhost:27101 --redis-data-address redis://localhost:27102 \\
        --homepage-port 0 --log-server-port 0 --log-viewer-port 0 &
    python tests/golden/beacon/capture.py localhost 27103 > tests/golden/beacon/exchanges.json

Needs nothing but Python. Each exchange is one request and the answer to it, as latin-1 texts.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from typing import Any

REQUESTS = {
    "redis_db": (30, b""),
    "redis_db with key": (30, b"1|"),
    "redis_data_db": (32, b"1|"),
    "redis_data_db without bar": (32, b"7"),
    "get": (143, b"1|fruit"),
    "get undefined": (143, b"2|nothing"),
    "set": (140, b"3|color|red"),
    "get what was set": (143, b"4|color"),
    "set with a bar": (140, b"5|line|a|b"),
    "get a value with a bar": (143, b"6|line"),
    "set empty": (140, b"7|empty|"),
    "get empty": (143, b"8|empty"),
    "get with a bar": (143, b"9|a|b"),
    "file": (50, b"10|x.yml"),
    "file below": (50, b"11|sub/y.dat"),
    "file with a leading slash": (50, b"12|/x.yml"),
    "no such file": (50, b"13|none.yml"),
    "a directory as file": (50, b"14|sub"),
    "a file above": (50, b"15|../outside.txt"),
    "tree": (86, b"16|"),
    "tree below": (86, b"17|sub"),
    "tree of nothing": (86, b"18|none"),
    "tree of a file": (86, b"19|x.yml"),
    "unknown request": (999, b"20|"),
}

PATIENCE_S = 2.0


def ask(address: tuple[str, int], number: int, payload: bytes) -> dict[str, Any]:
    """One request on a connection of its own."""
    with socket.create_connection(address, PATIENCE_S) as connection:
        connection.settimeout(PATIENCE_S)
        connection.sendall(struct.pack("<ii", number, len(payload)) + payload)
        found = b""
        try:
            while len(found) < 8 or len(found) < 8 + struct.unpack_from("<ii", found)[1]:
                received = connection.recv(65536)
                if not received:
                    return {"closed": True}
                found += received
        except TimeoutError:
            return {"silent": True}
    answer, _ = struct.unpack_from("<ii", found)
    return {"answer": answer, "payload": found[8:].decode("latin-1")}


def main(host: str, port: str) -> None:
    exchanges = {
        name: {"request": number, "payload": payload.decode("latin-1")}
        | {"reply": ask((host, int(port)), number, payload)}
        for name, (number, payload) in REQUESTS.items()
    }
    json.dump(
        {"origin": "beacon-server of bliss 2.4.0", "exchanges": exchanges}, sys.stdout, indent=1
    )
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
