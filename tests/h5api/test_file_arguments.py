"""One set of keywords serves every kind of file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import pytest

from blissdata.h5api import dynamic_hdf5, static_hdf5
from blissdata.h5api.file_arguments import ignore_file_arguments

DYNAMIC = {
    *("hdf5_retry_handler", "retry_timeout", "retry_period", "lima_names", "instrument_name"),
    *("lima_url_template", "lima_url_template_args", "prioritize_non_native_h5items"),
}


@pytest.mark.parametrize(
    ("context", "ignored"),
    [
        ("h5py", DYNAMIC),
        ("static_hdf5", {*DYNAMIC, "mode"}),
        ("dynamic_hdf5", {"mode"}),
        ("redis_hdf5", {*DYNAMIC, "mode"}),
        ("anything else", {*DYNAMIC, "mode"}),
    ],
)
def test_the_arguments_of_the_others_are_ignored(context: str, ignored: set[str]) -> None:
    assert ignore_file_arguments(context) == ignored


def test_the_answer_may_be_changed_without_harm() -> None:
    ignore_file_arguments("h5py").clear()
    assert ignore_file_arguments("h5py") == DYNAMIC


def test_one_set_opens_every_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["1.1/x"] = [1, 2, 3]
    arguments: dict[str, Any] = {
        "mode": "r",
        "retry_timeout": 0,
        "lima_names": ["eiger"],
        "locking": False,
    }

    def of(context: str) -> dict[str, Any]:
        ignored = ignore_file_arguments(context)
        return {name: value for name, value in arguments.items() if name not in ignored}

    for opened in (
        h5py.File(path, **of("h5py")),
        static_hdf5.File(path, **of("static_hdf5")),
        dynamic_hdf5.File(path, **of("dynamic_hdf5")),
    ):
        with opened as file:
            assert list(file["1.1/x"]) == [1, 2, 3]
