"""`validate`: each rule, where it complains, and what it says.

shape        every field: missing, another kind, out of range, not one of the values
names        channels and devices that are referred to exist
times        ISO 8601, with offset, end after start
tree         no device triggers itself
the rest     deprecated and unknown keys, what JSON cannot hold
the answer   bounded, ordered, readable
"""

from __future__ import annotations

import copy
import datetime
import enum
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from blissdata.schemas import Complaint, validate
from blissdata.schemas.fields import (
    Anything,
    Flag,
    Kind,
    ListOf,
    Number,
    OneOf,
    OneRecordOf,
    Record,
    TableOf,
    record,
)
from blissdata.schemas.scan_info import ScanInfoDict
from blissdata.schemas.validation import MAX_COMPLAINTS

Info = dict[str, Any]
Path = tuple[str | int, ...]


def at(info: Any, path: Path) -> Any:
    for step in path:
        info = info[step]
    return info


def spoilt(info: Info, path: Path, value: Any) -> Info:
    """The info with another value at a path; new tables and lists on the way are not made."""
    at(info, path[:-1])[path[-1]] = value
    return info


def errors(info: Any) -> list[Complaint]:
    return [one for one in validate(info) if one.severity == "error"]


def paths(found: list[Complaint]) -> list[str]:
    return [one.path for one in found]


def places(
    kind: Kind, value: Any, path: Path = (), text: str = ""
) -> Iterator[tuple[Path, str, Kind]]:
    """Every place of an info that has a kind, with its path as `validate` writes it."""
    yield path, text, kind
    match kind:
        case ListOf():
            for index, item in enumerate(value):
                yield from places(kind.item, item, (*path, index), f"{text}[{index}]")
        case TableOf():
            for key, item in value.items():
                yield from places(kind.value, item, (*path, key), f'{text}["{key}"]')
        case OneRecordOf():
            yield from places(kind.records[value["kind"]], value, path, text)
        case Record():
            for name, field in kind.fields.items():
                if name in value:
                    dotted = f"{text}.{name}" if text else name
                    yield from places(field.kind, value[name], (*path, name), dotted)


# ------------------------------------------------------------------------------------ the shape


def test_an_info_as_bliss_publishes_it_is_valid(info: Info) -> None:
    assert validate(info) == []


def test_the_example_has_every_field_that_is_not_deprecated(info: Info) -> None:
    shown: set[tuple[str, str]] = set()
    known: dict[str, Record] = {}
    for path, _, kind in places(record(ScanInfoDict), info):
        if isinstance(kind, Record):
            known[kind.name] = kind
            shown |= {(kind.name, name) for name in kind.fields if name in at(info, path)}
    missing = {
        (name, field.name)
        for name, one in known.items()
        for field in one.fields.values()
        if not field.deprecated
    } - shown
    assert missing == set()
    assert len(known) == 13


def test_validate_changes_nothing(info: Info) -> None:
    before = copy.deepcopy(info)
    validate(info)
    assert info == before


@pytest.mark.parametrize(
    "value",
    [None, True, 0, 1.5, math.nan, "text", [], [{}], (), b"x", object(), {1, 2}],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_object_is_refused_as_a_whole(value: Any) -> None:
    (complaint,) = validate(value)
    assert complaint.path == ""
    assert "expected an object" in complaint.message
    assert str(complaint).startswith("error: scan info: found ")


def test_each_required_field_is_missed_with_its_path(info: Info) -> None:
    missed = 0
    for path, text, kind in list(places(record(ScanInfoDict), info)):
        for field in kind.fields.values() if isinstance(kind, Record) else ():
            if not field.required:
                continue
            changed = copy.deepcopy(info)
            del at(changed, path)[field.name]
            expected = f"{text}.{field.name}" if text else field.name
            found = next(one for one in errors(changed) if one.path == expected)
            assert found.message.startswith("missing; expected "), found
            missed += 1
    assert missed > 40


def test_each_optional_field_may_be_left_out(info: Info) -> None:
    for path, _, kind in list(places(record(ScanInfoDict), info)):
        for field in kind.fields.values() if isinstance(kind, Record) else ():
            if not field.required and field.name in at(info, path):
                changed = copy.deepcopy(info)
                del at(changed, path)[field.name]
                assert validate(changed) == [], (path, field.name)


def test_each_field_refuses_every_other_kind_of_value_with_its_path(info: Info) -> None:
    values: list[Any] = [
        None,
        True,
        7,
        0.5,
        math.nan,
        math.inf,
        "\ud800",
        [7],
        {"a": 7},
        b"",
        set(),
    ]
    for path, text, kind in list(places(record(ScanInfoDict), info)):
        for value in values if path else ():
            if accepts(kind, value):
                continue
            found = errors(spoilt(copy.deepcopy(info), path, value))
            assert any(one.path.startswith(text) and "expected" in one.message for one in found), (
                text,
                value,
                found,
            )


def accepts(kind: Kind, value: Any) -> bool:
    """By a shorter way: what the outermost level of a kind takes."""
    match kind:
        case Number(whole=True):
            return type(value) is int
        case Number():
            return type(value) in (int, float) and math.isfinite(value)
        case Flag():
            return type(value) is bool
        case OneOf():
            return any(value is one for one in kind.values)
        case ListOf():
            return value == [7] and isinstance(kind.item, Number)
        case Anything():
            return type(value) is dict
        case Record():
            required = any(field.required for field in kind.fields.values())
            return type(value) is dict and not required
        case TableOf() | OneRecordOf():
            return False
        case _:
            return type(value) is str


@pytest.mark.parametrize(
    ("path", "text", "good", "bad"),
    [
        (("channels", "diode", "dim"), 'channels["diode"].dim', [0, 1, 2, 2.0], [-1, 3, 1.5, "0"]),
        (("npoints",), "npoints", [0, 10**400], [-1, -(10**400), 0.5]),
        (("index_in_sequence",), "index_in_sequence", [0, 5], [-1]),
        (("retry_nb",), "retry_nb", [0], [-1]),
        (("scan_nb",), "scan_nb", [1], [-1, "1"]),
        (("sequence_info", "scan_count"), "sequence_info.scan_count", [0], [-1]),
        (("channels", "diode", "decimals"), 'channels["diode"].decimals', [0], [-1]),
        (("is_scan_sequence",), "is_scan_sequence", [True], [False, 1, "true"]),
        (("save",), "save", [True, False], [0, 1, "true"]),
        (
            ("end_reason",),
            "end_reason",
            ["SUCCESS", "FAILURE", "USER_ABORT", "DELETION"],
            ["success", "", None, "ABORT"],
        ),
        (
            ("channels", "axis:sx", "axis_kind"),
            'channels["axis:sx"].axis_kind',
            ["forth", "backnforth", "step"],
            ["back"],
        ),
        (
            ("plots", 1, "items", 0, "y_axis"),
            "plots[1].items[0].y_axis",
            ["left", "right"],
            ["top"],
        ),
        (("plots", 0, "items", 0, "kind"), "plots[0].items[0].kind", ["scatter"], ["curve"]),
        (("plots", 3, "kind"), "plots[3].kind", ["table-plot"], ["pie-plot", None, ["a"], {}]),
        (("devices", "fluo", "xaxis_array"), 'devices["fluo"].xaxis_array', [[], (1, 2.5)], ["a"]),
        (
            ("devices", "fluo", "xaxis_array", 1),
            'devices["fluo"].xaxis_array[1]',
            [3],
            [None, True],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_at_the_edge(
    info: Info, path: Path, text: str, good: list[Any], bad: list[Any]
) -> None:
    for value in good:
        assert validate(spoilt(info, path, value)) == []
    for value in bad:
        assert paths(errors(spoilt(info, path, value))) == [text]


def test_a_message_says_what_was_found_and_expected_and_what_to_do(info: Info) -> None:
    info["channels"]["diode"]["dim"] = 3
    info["npoints"] = "10"
    info["start_time"] = None
    del info["title"]
    assert [str(one) for one in validate(info)] == [
        'error: channels["diode"].dim: found 3, expected an integer from 0 to 2; correct it',
        "error: start_time: found null, expected a date and time as text (ISO 8601); correct it",
        "error: title: missing; expected text; add it",
        'error: npoints: found "10", expected an integer not below 0; correct it, or leave the key out',
    ]


@pytest.mark.parametrize("kind", ["scatter-plot", "curve-plot", "1d-plot"])
def test_a_plot_needs_items_and_may_have_none(info: Info, kind: str) -> None:
    info["plots"] = [{"kind": kind}]
    assert paths(validate(info)) == ["plots[0].items"]
    info["plots"] = [{"kind": kind, "items": []}]
    assert validate(info) == []


def test_a_plot_without_kind_is_told_which_there_are(info: Info) -> None:
    info["plots"] = [{"items": []}]
    (complaint,) = validate(info)
    assert complaint.path == "plots[0].kind"
    for kind in ("scatter-plot", "curve-plot", "1d-plot", "table-plot"):
        assert kind in complaint.message


# ------------------------------------------------------------------------------------- the names


@pytest.mark.parametrize(
    ("path", "text", "table"),
    [
        (("plots", 0, "items", 0, "x"), "plots[0].items[0].x", "channels"),
        (("plots", 0, "items", 0, "y"), "plots[0].items[0].y", "channels"),
        (("plots", 0, "items", 0, "value"), "plots[0].items[0].value", "channels"),
        (("plots", 1, "items", 2, "y"), "plots[1].items[2].y", "channels"),
        (("plots", 1, "items", 2, "x"), "plots[1].items[2].x", "channels"),
        (("plots", 2, "x"), "plots[2].x", "channels"),
        (("plots", 2, "items", 0, "y"), "plots[2].items[0].y", "channels"),
        (("devices", "axis", "channels", 1), 'devices["axis"].channels[1]', "channels"),
        (("devices", "fluo", "xaxis_channel"), 'devices["fluo"].xaxis_channel', "channels"),
        (
            ("devices", "timer", "triggered_devices", 2),
            'devices["timer"].triggered_devices[2]',
            "devices",
        ),
        (
            ("acquisition_chain", "axis", "top_master"),
            'acquisition_chain["axis"].top_master',
            "devices",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_name_that_leads_nowhere_is_an_error(
    info: Info, path: Path, text: str, table: str
) -> None:
    (complaint,) = validate(spoilt(info, path, "nowhere"))
    assert (complaint.path, complaint.severity) == (text, "error")
    assert complaint.message.startswith(f'found "nowhere", which is not in {table}; ')


@pytest.mark.parametrize("name", ["scalars", "spectra", "images"])
def test_deprecated_lists_of_a_chain_are_looked_at_too(info: Info, name: str) -> None:
    info["acquisition_chain"]["axis"][name] = ["nowhere"]
    info["acquisition_chain"]["axis"]["master"] = {name: ["neither"]}
    assert paths(errors(info)) == [
        f'acquisition_chain["axis"].{name}[0]',
        f'acquisition_chain["axis"].master["{name}"][0]',
    ]


def test_a_likely_name_is_proposed(info: Info) -> None:
    info["plots"][1]["items"][2]["y"] = "diod"
    (complaint,) = validate(info)
    assert complaint.message == 'found "diod", which is not in channels; was "diode" meant?'


def test_channels_to_display_may_be_elsewhere_with_a_warning(info: Info) -> None:
    info["display_extra"]["displayed_channels"] = ["nowhere"]
    (complaint,) = validate(info)
    assert (complaint.path, complaint.severity) == (
        "display_extra.displayed_channels[0]",
        "warning",
    )


@pytest.mark.parametrize("table", ["channels", "devices"])
def test_a_missing_table_is_one_complaint_not_one_for_each_name(info: Info, table: str) -> None:
    del info[table]
    assert paths(validate(info)) == [table]


# ------------------------------------------------------------------------------ times and the tree


@pytest.mark.parametrize("name", ["start_time", "end_time"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2025-03-14",
        "2025-13-14T00:00:00Z",
        "1741940813",
        "T",
        "\ud800T",
        "2025-03-14 09:26",
        "T" * 10**6,
    ],
    ids=lambda text: text[:20].encode("ascii", "replace").decode(),
)
def test_a_time_that_is_none_is_an_error(info: Info, name: str, text: str) -> None:
    info[name] = text
    (complaint,) = validate(info)
    assert (complaint.path, complaint.severity) == (name, "error")
    assert len(complaint.message) < 300


@pytest.mark.parametrize(
    "text",
    [
        "2025-03-14T09:26:53+01:00",
        "2025-03-14T09:26:53.5Z",
        "20250314T092653Z",
        datetime.datetime(2025, 3, 14, tzinfo=datetime.UTC).isoformat(),
    ],
)
def test_iso_8601_is_a_time(info: Info, text: str) -> None:
    del info["end_time"]
    assert validate(info | {"start_time": text}) == []


def test_a_time_without_offset_is_a_warning(info: Info) -> None:
    info["start_time"] = "2025-03-14T09:26:53"
    (complaint,) = validate(info)
    assert (complaint.path, complaint.severity) == ("start_time", "warning")
    assert "UTC" in complaint.message


def test_an_end_before_the_start_is_a_warning(info: Info) -> None:
    info["end_time"] = "2025-03-14T08:27:00Z"  # later than 09:26:53+01:00
    assert validate(info) == []
    info["end_time"] = "2025-03-14T09:27:00+02:00"
    (complaint,) = validate(info)
    assert (complaint.path, complaint.severity) == ("end_time", "warning")


def test_the_tree_of_devices_has_no_circles(info: Info) -> None:
    info["devices"]["eiger:roi_counters"]["triggered_devices"] = ["diode", "timer"]
    (complaint,) = validate(info)
    assert complaint.path == 'devices["eiger:roi_counters"].triggered_devices[1]'
    assert '"timer" triggers itself' in complaint.message


def test_a_device_that_triggers_itself_directly(info: Info) -> None:
    info["devices"]["diode"]["triggered_devices"] = ["diode"]
    assert paths(validate(info)) == ['devices["diode"].triggered_devices[0]']


def test_a_device_may_be_triggered_by_two(info: Info) -> None:
    info["devices"]["axis"]["triggered_devices"] = ["timer", "diode"]
    assert validate(info) == []


def test_devices_that_share_what_they_trigger_are_walked_once(info: Info) -> None:
    for step in range(60):
        below = [f"a{step + 1}", f"b{step + 1}"] if step < 59 else []
        for name in (f"a{step}", f"b{step}"):
            info["devices"][name] = {"name": name, "triggered_devices": below}
    assert validate(info) == []


def test_a_long_chain_of_devices_is_walked_to_its_end(info: Info) -> None:
    names = [f"d{i}" for i in range(20_000)]
    for name, below in zip(names, [*names[1:], "d0"], strict=True):
        info["devices"][name] = {"name": name, "triggered_devices": [below]}
    assert paths(validate(info)) == ['devices["d19999"].triggered_devices[0]']


# ------------------------------------------------------------------------------------ the rest


@pytest.mark.parametrize("name", ["devices", "scalars", "spectra", "images", "master"])
def test_deprecated_keys_are_a_warning_that_says_what_to_use(info: Info, name: str) -> None:
    info["acquisition_chain"]["axis"][name] = {} if name == "master" else []
    (complaint,) = validate(info)
    assert (complaint.path, complaint.severity) == (f'acquisition_chain["axis"].{name}', "warning")
    assert "top_master" in complaint.message


@pytest.mark.parametrize("known", ["lima", "lima2", "mca", "mosca"])
def test_known_types_of_devices(info: Info, known: str) -> None:
    info["devices"]["eiger"]["type"] = known
    assert validate(info) == []


def test_an_unknown_type_of_device_is_a_warning(info: Info) -> None:
    info["devices"]["eiger"]["type"] = "camera"
    (complaint,) = validate(info)
    assert (complaint.path, complaint.severity) == ('devices["eiger"].type', "warning")
    assert "lima" in complaint.message


def test_scan_number_0_is_a_warning(info: Info) -> None:
    info["scan_nb"] = 0
    (complaint,) = validate(info)
    assert (complaint.path, complaint.severity) == ("scan_nb", "warning")


def test_false_is_no_scan_number(info: Info) -> None:
    info["scan_nb"] = False
    assert [one.severity for one in validate(info)] == ["error"]


def test_unknown_keys_are_allowed_everywhere(info: Info) -> None:
    for path, _, kind in list(places(record(ScanInfoDict), info)):
        if isinstance(kind, Record):
            at(info, path)["what no schema knows"] = {"a": [1, None, "x", {"b": False}]}
    assert validate(info) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_what_becomes_null_is_told(info: Info, value: float) -> None:
    """An error where null has no place, a warning below a key that is nobody's."""
    info["count_time"] = value
    info["positioners"]["sx"] = [1.0, {"now": value}]
    first, second = validate(info)
    assert (first.path, first.severity) == ("count_time", "error")
    assert (second.path, second.severity) == ("positioners.sx[1].now", "warning")
    assert "null" in second.message


@pytest.mark.parametrize(
    "value",
    [b"x", {1}, object(), 1j, datetime.date(2025, 1, 1)],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_an_error(info: Info, value: Any) -> None:
    info["my key"] = value
    (complaint,) = validate(info)
    assert (complaint.path, complaint.severity) == ('["my key"]', "error")


def test_keys_that_are_no_text_are_a_warning(info: Info) -> None:
    info["extra"] = {3: "x"}
    info["channels"][3] = {"dim": 0}
    assert [(one.path, one.severity) for one in validate(info)] == [
        ("channels[3]", "warning"),
        ("extra", "warning"),
    ]


def test_numpy_values_count_as_what_they_are_stored_as(info: Info) -> None:
    info["npoints"] = np.int64(1271)
    info["save"] = np.bool_(True)
    info["count_time"] = np.float32(0.5)
    info["title"] = np.str_("title")
    info["devices"]["fluo"]["xaxis_array"] = np.linspace(0, 1, 5)
    info["scan_nb"] = np.uint8(3)
    info["extra"] = np.zeros((2, 2))
    assert validate(info) == []
    info["scan_nb"] = np.zeros(3)
    info["devices"]["fluo"]["xaxis_array"] = np.array([0.0, np.nan])
    assert paths(validate(info)) == ['devices["fluo"].xaxis_array[1]', "scan_nb"]


def test_texts_of_other_classes_are_texts(info: Info) -> None:
    class Reason(enum.StrEnum):
        FAILURE = "FAILURE"

    info["end_reason"] = Reason.FAILURE
    assert validate(info) == []


# ----------------------------------------------------------------------------------- the answer


def test_errors_come_first_and_the_answer_is_bounded(info: Info) -> None:
    for index in range(300):
        info["devices"][f"d{index}"] = {"name": f"d{index}", "type": "?", "channels": ["none", 1]}
    found = validate(info)
    assert len(found) == MAX_COMPLAINTS + 1
    assert {one.severity for one in found} == {"error"}
    assert found[-1].path == ""
    assert found[-1].message.startswith("and 500 more errors, 300 more warnings")


def test_warnings_fill_up_behind_errors(info: Info) -> None:
    for index in range(MAX_COMPLAINTS):
        info["devices"][f"d{index}"] = {"name": "d", "type": "?"}
    info["npoints"] = -1
    found = validate(info)
    assert [one.severity for one in found] == ["error"] + ["warning"] * MAX_COMPLAINTS
    assert found[-1].message.startswith("and 0 more errors, 1 more warnings")


def test_exactly_as_many_as_fit_need_no_last_word(info: Info) -> None:
    for index in range(MAX_COMPLAINTS):
        info["devices"][f"d{index}"] = {"name": "d", "type": "?"}
    assert len(validate(info)) == MAX_COMPLAINTS


def lists(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def tables(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a" * 1000: value}
    return value


@pytest.mark.parametrize("make", [lists, tables])
@pytest.mark.parametrize("where", [("deep",), ("channels", "deep"), ("writer_options", "deep")])
def test_depth_is_no_trap(info: Info, make: Callable[[int], Any], where: Path) -> None:
    found = validate(spoilt(info, where, make(100_000)))
    assert found
    assert all(len(str(one)) < 1000 for one in found)


def test_what_contains_itself_is_no_trap(info: Info) -> None:
    knot: list[Any] = []
    knot += [knot, knot]
    info["knot"] = knot
    info["writer_options"] = info
    info["devices"] = info["channels"]
    assert len(validate(info)) <= MAX_COMPLAINTS + 1


def test_shared_branches_are_walked_once(info: Info) -> None:
    branch: list[Any] = [math.nan]
    for _ in range(90):
        branch = [branch, branch]
    info["branch"] = branch
    assert len(validate(info)) == 1


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        "\ud800\x00\n" * 1000,
        10**5000,
        -(10**5000),
        [0] * 10**5,
        dict.fromkeys(range(1000)),
    ],
    ids=["long", "broken", "big", "small", "list", "object"],
)
def test_messages_are_short_and_printable_whatever_was_found(info: Info, value: Any) -> None:
    info["end_reason"] = value
    if isinstance(value, str):
        info["channels"][value] = value
        info["devices"]["diode"]["channels"] = [value[:-1]]
        info[value] = math.nan
    found = validate(info)
    assert found
    for one in found:
        assert len(str(one)) < 800  # 60 characters of a key, and as many of a value, escaped
        assert str(one).encode("utf-8").decode().isprintable()
