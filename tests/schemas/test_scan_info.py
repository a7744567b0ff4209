"""The types: fields as clients of blissdata 2.x know them, readable by pydantic, cheap to import."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pydantic
import pytest
from typing_extensions import is_typeddict

from blissdata.schemas import scan_info, scan_info_display

REQUIRED = {
    "ScanInfoDict": "acquisition_chain channels devices start_time scan_nb type title data_policy "
    "data_writer publisher publisher_version save session_name user_name",
    "ChainDict": "top_master",
    "ChannelDict": "dim",
    "DeviceDict": "name",
    "SequenceDict": "",
    "ScatterItemDict": "kind",
    "ScatterPlotDict": "kind items",
    "CurveItemDict": "kind",
    "CurvePlotDict": "kind items",
    "TablePlotDict": "kind",
    "OneDimItemDict": "kind",
    "OneDimPlotDict": "kind items",
    "DisplayExtraDict": "",
}
OPTIONAL = {
    "ScanInfoDict": "sequence_info group index_in_sequence retry_nb is_scan_sequence npoints "
    "count_time sleep_time stab_time writer_options plots display_extra end_time end_reason",
    "ChainDict": "devices scalars spectra images master",
    "ChannelDict": "display_name unit decimals start stop min max points axis_points "
    "axis_points_hint axis_id axis_kind group",
    "DeviceDict": "channels triggered_devices type xaxis_channel xaxis_array xaxis_array_label "
    "xaxis_array_unit metadata",
    "SequenceDict": "scan_count",
    "ScatterItemDict": "x y value",
    "ScatterPlotDict": "name",
    "CurveItemDict": "x y y_axis",
    "CurvePlotDict": "name",
    "TablePlotDict": "name",
    "OneDimItemDict": "y",
    "OneDimPlotDict": "name x",
    "DisplayExtraDict": "displayed_channels plotselect plotselect_time",
}
TYPES = {
    name: value
    for module in (scan_info, scan_info_display)
    for name, value in vars(module).items()
    if is_typeddict(value)
}


def test_the_types_are_those_of_the_table() -> None:
    assert set(TYPES) == set(REQUIRED) == set(OPTIONAL)
    public = set(scan_info.__all__) | set(scan_info_display.__all__)
    assert public == set(TYPES) | {"ChannelRef", "PlotDict"}


@pytest.mark.parametrize("name", REQUIRED)
def test_each_type_has_its_fields(name: str) -> None:
    assert set(TYPES[name].__required_keys__) == set(REQUIRED[name].split())
    assert set(TYPES[name].__optional_keys__) == set(OPTIONAL[name].split())


@pytest.mark.parametrize("name", REQUIRED)
def test_calling_a_type_makes_a_dict_with_any_keys(name: str) -> None:
    made = TYPES[name](dim=0, anything="else")
    assert type(made) is dict
    assert made == {"dim": 0, "anything": "else"}


def test_pydantic_reads_the_types(info: dict[str, Any]) -> None:
    adapter = pydantic.TypeAdapter(scan_info.ScanInfoDict)
    known = {
        key: value for key, value in info.items() if key in TYPES["ScanInfoDict"].__annotations__
    }
    assert adapter.validate_python(info) == known
    del info["title"]
    with pytest.raises(pydantic.ValidationError, match="title"):
        adapter.validate_python(info)


@pytest.mark.parametrize(
    "module",
    ["blissdata.schemas.scan_info", "blissdata.schemas.scan_info_display", "blissdata.schemas"],
)
def test_importing_the_types_is_cheap(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "heavy = {'pydantic', 'numpy', 'redis', 'h5py', 'json', 'annotated_types'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "print(sorted(m for m in sys.modules if m.startswith('blissdata.') and 'schemas' not in m))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
