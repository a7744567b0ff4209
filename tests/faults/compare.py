"""blissdata 2.4.5 in the same scenes, fault by fault: what it survives, and what happens where it does not.

Each scene has one server of protocol 1, one publisher, three readers and one fault. Publisher or readers
are of 2.4.5, the others of this package; or all are of this package, for comparison. The judge is the same.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.faults import breaking
from tests.faults.breaking import NETWORK, REFUSALS
from tests.faults.harness import AOF, Setting, named, play
from tests.faults.judge import Verdict

__all__ = ["ROLES", "Row", "as_table", "compare"]

PATIENCE_S = 15.0
"""How long programs have to end after their fault; one that takes longer hangs [s]."""

_ALWAYS = {**AOF, "appendfsync": "always"}
_EVERYSEC = {**AOF, "appendfsync": "everysec"}
_PAIR = {"tcp": True, "repl-diskless-sync-delay": 0}

SCENES = [
    *(Setting((fault,), stack=True) for fault in (*NETWORK, *REFUSALS)),
    Setting((breaking.kill_server,), _ALWAYS, "disk", stack=True),
    Setting((breaking.kill_server_that_loads_slowly,), _ALWAYS, "disk", stack=True),
    Setting((breaking.kill_server_and_cut_file,), _EVERYSEC, may_lose=True, stack=True),
    Setting((breaking.kill_publisher,), stack=True),
    Setting((breaking.promote_replica,), _PAIR, "replica", stack=True),
]

ROLES = {
    "publishes": ("peer", "this"),
    "reads": ("this", "peer"),
    "neither": ("this", "this"),
}
"""What 2.4.5 does, and so who is publisher and reader."""


@dataclass
class Row:
    """One fault, some times, with 2.4.5 in one role."""

    fault: str
    role: str
    scenes: int = 0
    survived: int = 0
    symptoms: Counter[str] = field(default_factory=Counter)
    """What happened where it was not survived, and in how many scenes."""

    def take(self, verdict: Verdict) -> None:
        """Counts one more scene."""
        self.scenes += 1
        self.survived += verdict.good
        self.symptoms.update(symptoms(verdict))


def symptoms(verdict: Verdict) -> Iterator[str]:
    """What went wrong in a scene, in words."""
    stuck = {name.rstrip("0123456789").partition("-")[0] for name in verdict.stuck}
    crashed = {name.rstrip("0123456789").partition("-")[0] for name in verdict.crashed}
    words = {
        "confirmed points are missing": verdict.lost > verdict.holes,
        "points are missing in front of others": verdict.holes,
        "points are there twice": verdict.repeated,
        "points are out of order": verdict.out_of_order,
        "a reader got wrong points": verdict.wrong,
        "the publisher was told of a failure": verdict.gave_up,
        "the publisher hangs": "publisher" in stuck and "publisher" not in crashed,
        "the publisher ended with an error": "publisher" in crashed,
        "readers were told of a failure": verdict.left,
        "readers hang": "reader" in stuck and "reader" not in crashed,
        "readers ended with an error": "reader" in crashed,
    }
    return (text for text, count in words.items() if count)


def compare(
    peer: str,
    seed: int,
    each: int,
    only: Callable[[str, str], bool] = lambda fault, role: True,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Each fault `each` times in each role; `peer` is the Python that has 2.4.5."""
    rows = []
    pythons = {"peer": peer, "this": sys.executable}
    for setting in SCENES:
        fault = named(setting.faults[0])
        for role, (publisher, reader) in ROLES.items():
            if not only(fault, role):
                continue
            row = Row(fault, role)
            for n in range(each):
                verdict = _scene(
                    f"{seed}:{fault}, 2.4.5 {role}, {n + 1} of {each}",
                    setting,
                    pythons[publisher],
                    pythons[reader],
                    tell,
                )
                row.take(verdict)
                for text in verdict.trouble:
                    tell(f"    {text.splitlines()[0][:200]}")
            rows.append(row)
    return rows


def _scene(
    seed: str, setting: Setting, publisher: str, reader: str, tell: Callable[[str], None]
) -> Verdict:
    try:
        return play(
            seed,
            setting,
            1,
            Counter(),
            publisher=publisher,
            reader=reader,
            patience=PATIENCE_S,
            tell=tell,
        )
    except TimeoutError as error:
        return Verdict(trouble=[str(error)], stuck=["publisher"])


def as_table(rows: list[Row]) -> str:
    """The rows as a table for the documentation."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row.fault, {})[row.role] = row
    titles = ["fault", "2.4.5 publishes", "2.4.5 reads", "neither"]
    lines = [" | ".join(["", *titles, ""]).strip(), "| --- | --- | --- | --- |"]
    for fault, by_role in found.items():
        cells = [fault, *(_cell(by_role, role) for role in ROLES)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(by_role: Mapping[str, Row], role: str) -> str:
    row = by_role.get(role)
    if row is None:
        return ""
    said = "; ".join(f"{text} ({n})" for text, n in row.symptoms.most_common())
    return f"{row.survived} of {row.scenes}" + (f": {said}" if said else "")
