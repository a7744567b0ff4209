"""Each promise in the documentation names a test that there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "guarantees.md"
NAMED = re.compile(r"`((?:tests|src/blissdata/testing)/[\w/]+\.py)::(\w+)`")
PROMISES = [line for line in PAGE.read_text().splitlines() if re.match(r"\| (?!promise|---)", line)]


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_names_tests_that_there_are(promise: str) -> None:
    named = NAMED.findall(promise)
    assert named, "a promise without a test"
    for file, name in named:
        functions = {
            node.name
            for node in ast.walk(ast.parse((ROOT / file).read_text()))
            if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, f"{file} has no {name}"


def test_there_are_promises() -> None:
    assert len(PROMISES) > 30
