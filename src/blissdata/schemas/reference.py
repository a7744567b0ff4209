"""The reference page of the fields, from the same texts as the JSON Schema."""

from __future__ import annotations

from typing import Any

from blissdata.schemas import scan_info, scan_info_display
from blissdata.schemas.fields import (
    Anything,
    Field,
    Kind,
    ListOf,
    OneRecordOf,
    Record,
    TableOf,
    Text,
    record,
)
from blissdata.schemas.files import documentation

__all__ = ["page"]

HEAD = """\
# What a scan says about itself

<!-- written by `python -m blissdata.schemas`: change the texts in src/blissdata/schemas instead -->

`scan.info` is the scan's header: plain JSON on top of its streams. Viewers and file writers need it
to know what the streams are. These are the keys with a meaning; a publisher may add any others.

The types are in `blissdata.schemas.scan_info` and `blissdata.schemas.scan_info_display`, the JSON
Schemas (draft 2020-12) beside them: `blissdata.schemas.json_schema("scan_info")` or
`json_schema("scan_info_display")` gives one. Both check kinds, ranges and what is required.
`validate` checks in addition that names of channels and devices lead somewhere, that times are
times, and that no device triggers itself; it says what to do about each:

```python
from blissdata.schemas import validate

info = {"channels": {"diode": {"dim": 3}}}
for complaint in validate(info)[:2]:
    print(complaint)
# error: acquisition_chain: missing; expected an object; add it
# error: channels["diode"].dim: found 3, expected an integer from 0 to 2; correct it
```

A valid info gives an empty list. A complaint has a `path`, a `message` and a `severity`: with an
`error` readers fail or show something wrong, with a `warning` they may.

NaN and infinities are no JSON: they are stored as `null`, which no field below accepts. Leave such
a field out.
"""


def page() -> str:
    """The page, in Markdown."""
    info = [scan_info.ScanInfoDict, scan_info.ChainDict, scan_info.DeviceDict]
    info += [scan_info.ChannelDict, scan_info.SequenceDict]
    display = [
        scan_info_display.ScatterPlotDict,
        scan_info_display.ScatterItemDict,
        scan_info_display.CurvePlotDict,
        scan_info_display.CurveItemDict,
        scan_info_display.OneDimPlotDict,
        scan_info_display.OneDimItemDict,
        scan_info_display.TablePlotDict,
        scan_info_display.DisplayExtraDict,
    ]
    return "\n".join([HEAD, *(_section(record(one)) for one in [*info, *display])])


def _section(one: Record) -> str:
    own, texts = documentation(one.type)
    rows = [_row(field, texts[name]) for name, field in one.fields.items()]
    table = ["| key | value | required | meaning |", "| --- | --- | --- | --- |", *rows]
    return "\n".join([f"## {one.name}", "", own, "", *table, ""])


def _row(field: Field, text: str) -> str:
    if field.deprecated:
        text += f" **Deprecated**; instead, {field.deprecated.instead}."
    required = "yes" if field.required else ""
    return f"| `{field.name}` | {_words(field.kind)} | {required} | {_cell(text)} |"


def _words(kind: Kind) -> str:
    match kind:
        case Record():
            return _link(kind)
        case OneRecordOf():
            return " or ".join(_link(one) for one in kind.records.values())
        case ListOf(Text(names)) if names:
            return f"list of keys of `{names.table}`"
        case ListOf():
            return f"list of {_words(kind.item)}"
        case TableOf():
            return f"object of {_words(kind.value)}"
        case Anything():
            return "object"
        case Text(names=None):
            return "date and time" if kind.moment else "text"
        case Text():
            return f"key of `{kind.names.table}`" if kind.names else "text"
        case _:
            return kind.words.replace("'", "`")


def _link(one: Record) -> str:
    return f"[{one.name}](#{one.name.lower()})"


def _cell(text: Any) -> str:
    return str(text).replace("|", r"\|")
