"""Whatever is asked, the viewer answers: never a failure of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.h5api.live import group, send, soft, started, stream
from tests.viewer.conftest import Open

from blissdata import DataStore

PATHS = [
    "api/scans",
    "api/scan",
    "api/last",
    "api/points",
    "api/more",
    "api/snapshot",
    "api/export",
]
PATHS += [f"h5/{q}{s}" for q in ("meta", "attr", "data", "stats", "paths") for s in ("", "/")]
PATHS += ["h5/0/meta", "h5/-1/data", "h5/x/data", "api/", "h5/", "api/nothing"]

NAMES = [
    "key",
    "stream",
    "selection",
    "dtype",
    "file",
    "path",
    "format",
    "flatten",
    "from",
    "limit",
]
NAMES += ["before", "state", "number", "name", "attr_keys", "resolve_links"]

TEXTS = st.one_of(
    st.sampled_from(
        ["", "0", "-1", "1:3", "::2", "0,0", ":", "*", "json", "bin", "npy", "tiff", "csv"]
    ),
    st.sampled_from(
        ["/", "/1.1", "/1.1/x", "/1.1/lost", "/1.1/image", "//", "..", "safe", "float"]
    ),
    st.sampled_from(["x", "image", "text", "none", "running", "true", "all", "9" * 30, "-" * 5]),
    st.text(max_size=20),
)

QUESTIONS = st.lists(
    st.tuples(
        st.sampled_from(PATHS),
        st.lists(st.tuples(st.sampled_from(NAMES), st.one_of(TEXTS, st.just("KNOWN"))), max_size=6),
    ),
    min_size=20,
    max_size=60,
)


@pytest.mark.slow
@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(QUESTIONS)
def test_every_question_has_an_answer(
    opened: Open, plain_store: DataStore, tmp_path: Path, questions: Any
) -> None:
    file = str(tmp_path / "scan.h5")
    if not (tmp_path / "other.h5").exists():
        with h5py.File(tmp_path / "other.h5", "w") as f:
            f["1.1/x"] = np.arange(3)
    kinds = {"x": ("f8", ()), "image": ("u2", (2, 3)), "text": ("json", ()), "none": ("f8", ())}
    layout = group(x=stream("x"), image=stream("image"), lost=soft("/nowhere"))
    scan, streams = started(plain_store, layout, 1, file, **kinds)
    known = {"key": scan.key, "before": scan.key, "file": file, "stream": "x", "path": "/1.1/x"}

    async def ask() -> None:
        async with opened() as client:
            for path, query in questions:
                params = [(n, known.get(n, "1") if v == "KNOWN" else v) for n, v in query]
                answer = await client.get(f"/{path}", params=params)
                assert answer.status_code < 500 or answer.status_code == 503, (
                    f"{path} {params}: {answer.text}"
                )

    with scan:
        send(streams["x"], np.array([1.0, np.nan]))
        send(streams["image"], np.zeros((2, 2, 3), "u2"))
        send(streams["text"], {"a": 1})
        anyio.run(ask)
        scan.stop()
    plain_store.delete_scan(scan.key)
