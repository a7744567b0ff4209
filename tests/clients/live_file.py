"""A live file as another program sees it: publishes scans with a layout, or evaluates expressions.

    python live_file.py publish <url> <path>                a closed scan 1, a running scan 2
    python live_file.py look <url> <path>  < expressions     one line of JSON each: value or error

Runs in any environment with a blissdata 2.4, and imports only what is there. In the expressions, `f` is
the file, `d(name)` a dataset of the closed scan, `r(name)` one of the running scan.
"""

import contextlib
import json
import os
import sys

import numpy as np

from blissdata.redis_engine.store import DataStore
from blissdata.streams.default import Stream


def dataset(value, **attributes):
    return {"type": "dataset", "attributes": attributes, "value": value}


def group(*, attributes=None, **children):
    return {"type": "group", "attributes": attributes or {}, "children": children}


def soft(target):
    return {"type": "soft_link", "target_path": target}


def stream(name, **attributes):
    return dataset({"type": "stream", "stream": name}, **attributes)


def inline(dtype, value):
    return {"type": "inline", "dtype": dtype, "value": value}


def binary(path, shape):
    file = {"name": path, "offset": 8, "size": None}
    return {"type": "external_binary_dataset", "dtype": "<i4", "shape": shape, "files": [file]}


def layout(path):
    values = {
        "text": "é€",
        "texts": ["x", "yy"],
        "int": 3,
        "float": 2.5,
        "bool": True,
        "bools": [[True], [False]],
        "ints": [1, 2, 3],
        "empty": [],
        "no_text": "",
        "nan": inline("float32", ["nan", 1.0]),
        "half": inline("float16", 3.5),
        "complex": inline("complex128", ["(1+2j)", "inf"]),
        "large": inline("uint64", 2**63),
        "b64": {"type": "inline_b64", "dtype": "<f4", "shape": [1, 2], "value": "AACAPwAAAEA="},
    }
    return group(
        attributes={"NX_class": "NXentry", **values},
        **values,
        table={"type": "compound", "columns": [["a", [1, 2]], ["b", ["x", "y"]]]},
        diode=stream("diode", units="A"),
        cam=stream("cam"),
        none=stream("none"),
        g=group(
            sub=[1.0, 2.0],
            abs=soft("/1.1/diode"),
            rel=soft("./sub"),
            itself=soft("."),
            dangling=soft("/1.1/nothing"),
            first=soft("second"),
            second=soft("first"),
        ),
        short=soft("g"),
        nogroup=group(),
        raw=binary(os.path.join(os.path.dirname(path), "raw.bin"), [2, 3]),
        me={"type": "external_link", "target_file": path, "target_path": "/1.1/g"},
        there={"type": "external_link", "target_file": path + ".other", "target_path": "/a/b"},
    )


def publish(url, path):
    np.arange(8, dtype="i4").tofile(os.path.join(os.path.dirname(path), "raw.bin"))
    store = DataStore(url)
    for number in (1, 2):
        identity = {"name": "s", "number": number, "data_policy": "none", "path": path}
        scan = store.create_scan(identity)
        diode = scan.create_stream(Stream.make_definition("diode", "float64"))
        cam = scan.create_stream(Stream.make_definition("cam", "int32", (2, 3)))
        scan.create_stream(Stream.make_definition("none", "int16"))
        entries = {f"{number}.1": layout(path), f"{number}.2": group(other=soft("/1.1/int"))}
        scan.info["h5maps"] = {path: group(**entries)}
        scan.prepare()
        scan.start()
        diode.send(np.arange(5.0))
        cam.send(np.arange(24, dtype="int32").reshape(4, 2, 3))
        diode.join()
        cam.join()
        if number == 1:
            scan.stop()
            scan.close()
    return store


def told(value):
    if isinstance(value, np.ndarray):
        return ["array", value.dtype.str, list(value.shape), repr(value.tolist())]
    if isinstance(value, np.generic):
        return ["scalar", value.dtype.str, repr(value.item())]
    if isinstance(value, np.dtype):
        return ["dtype", value.str, repr(dict(value.metadata or {}))]
    if isinstance(value, (tuple, list)):
        return [type(value).__name__, [told(one) for one in value]]
    if isinstance(value, dict):
        return ["dict", [[key, told(one)] for key, one in value.items()]]
    if value is None or isinstance(value, (str, bytes, int, float)):
        return [type(value).__name__, repr(value)]
    return [type(value).__name__, getattr(value, "name", None)]


def look(url, path, expressions):
    from blissdata.h5api.redis_hdf5 import File

    store = DataStore(url)
    f = File(path, data_store=store)
    names = {
        "f": f,
        "d": lambda name: f["1.1/" + name],
        "r": lambda name: f["2.1/" + name],
        "np": np,
        "File": File,
        "store": store,
        "path": path,
    }
    for expression in expressions:
        try:
            answer = told(eval(expression, names))  # noqa: S307 — the tests' own
        except Exception as error:
            answer = ["raises", type(error).__name__, str(error)]
        print(json.dumps(answer), flush=True)
    with contextlib.suppress(AttributeError):  # 2.4.5 has none
        store.close()


if __name__ == "__main__":
    if sys.argv[1] == "publish":
        publish(*sys.argv[2:])
        print("published", flush=True)
        os._exit(0)  # scan 2 stays as it is
    look(*sys.argv[2:], sys.stdin.read().splitlines())
    os._exit(0)
