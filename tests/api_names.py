"""The table of names (`api_names.toml`), and when a signature does for who knows another one."""

from __future__ import annotations

import ast
import json
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.describe_names import REQUIRED

HERE = Path(__file__).parent

TABLE: dict[str, dict[str, str]] = tomllib.loads((HERE / "api_names.toml").read_text())
DIFFERS = TABLE.pop("differs")
NAMES = [(module, name) for module, names in TABLE.items() for name in names]
IDS = [f"{module}:{name}" for module, name in NAMES]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a call."""

    name: str
    kind: str
    default: str

    @property
    def required(self) -> bool:
        return self.default == REQUIRED


def found_by(python: str | Path) -> dict[tuple[str, str], dict[str, Any] | None]:
    """What each name is in that environment."""
    done = subprocess.run(
        [str(python), "-W", "ignore", str(HERE / "describe_names.py")],
        input=json.dumps(NAMES),
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(NAMES, json.loads(done.stdout), strict=True))


def parameters(takes: list[list[str]]) -> list[Parameter]:
    return [Parameter(*fields) for fields in takes]


def written_parameters(text: str) -> list[Parameter]:
    """The parameters in a signature, `...` standing for any default."""
    (function,) = ast.parse(f"def f{text}: ...").body
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
    found = [
        Parameter(
            argument.arg,
            "POSITIONAL_OR_KEYWORD",
            REQUIRED if default is None else ast.unparse(default),
        )
        for argument, default in zip(arguments.args, defaults, strict=True)
    ]
    for kind, argument in (("VAR_POSITIONAL", arguments.vararg), ("VAR_KEYWORD", arguments.kwarg)):
        if argument is not None:
            found.append(Parameter(argument.arg, kind, REQUIRED))
    return found


def misfits(given: list[Parameter], takes: list[Parameter]) -> list[str]:
    """What a caller who knows the first signature cannot do with the second."""
    wrong = []
    variable = {p.kind for p in takes if p.kind.startswith("VAR")}
    by_name = {p.name: p for p in takes}
    for position, parameter in enumerate(given):
        if parameter.kind.startswith("VAR"):
            if parameter.kind not in variable:
                wrong.append(f"takes no {parameter.kind.lower()} {parameter.name}")
            continue
        taken = by_name.get(parameter.name)
        if taken is None or taken.kind.startswith("VAR"):
            if "VAR_KEYWORD" not in variable or parameter.kind != "KEYWORD_ONLY":
                wrong.append(f"takes no {parameter.name}")
            continue
        if parameter.kind != "KEYWORD_ONLY" and takes.index(taken) != position:
            wrong.append(f"{parameter.name} has another position")
        if not parameter.required and taken.required:
            wrong.append(f"{parameter.name} has no default")
        elif not parameter.required and not _same_default(parameter.default, taken.default):
            wrong.append(f"{parameter.name} is {taken.default} by default")
    known = {p.name for p in given}
    needed = [p.name for p in takes if p.name not in known and p.required]
    wrong += [f"needs {n}" for n in needed if not by_name[n].kind.startswith("VAR")]
    return wrong


def _same_default(one: str, other: str) -> bool:
    if one == "..." or {one, other} <= {"{}", "None"}:  # nothing, by the one word or the other
        return True
    try:
        return bool(ast.literal_eval(one) == ast.literal_eval(other))
    except (ValueError, SyntaxError):
        return True  # an object of its own: a class, a marker
