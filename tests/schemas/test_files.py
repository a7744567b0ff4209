"""What is made of the types: the shipped JSON Schemas and the reference page.

fresh       the files are what the generator writes
sound       valid JSON Schema, draft 2020-12; every field has its text
in accord   what the schema accepts or refuses, the shape part of `validate` does too
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blissdata.schemas import __main__ as generator
from blissdata.schemas import files, json_schema, scan_info, scan_info_display, validate, validation

Info = dict[str, Any]


@pytest.fixture(scope="session")
def checker() -> jsonschema.Draft202012Validator:
    """The shipped schema, ready to use."""
    return jsonschema.Draft202012Validator(json_schema())


# ---------------------------------------------------------------------------------------- fresh


def test_the_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert generator.main(["--check"]) == 0, "run `python -m blissdata.schemas`"
    assert capsys.readouterr().out == ""


def test_the_checkout_has_schemas_beside_the_modules_and_a_page_in_the_docs() -> None:
    names = {path.name for path in generator.outputs()}
    assert names == {"scan_info.schema.json", "scan_info_display.schema.json", "scan_info.md"}


def test_stale_files_are_named_and_then_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale, missing = tmp_path / "stale.json", tmp_path / "missing.json"
    stale.write_text("old")
    monkeypatch.setattr(generator, "outputs", lambda: {stale: "new", missing: "also new"})
    assert generator.main(["--check"]) == 1
    assert stale.read_text() == "old"
    assert not missing.exists()
    told = capsys.readouterr().out
    assert f"stale: {stale}" in told
    assert f"stale: {missing}" in told
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    assert (stale.read_text(), missing.read_text()) == ("new", "also new")


# ---------------------------------------------------------------------------------------- sound


@pytest.mark.parametrize("name", files.FILES)
def test_a_file_is_json_schema_of_draft_2020_12(name: str) -> None:
    schema = json_schema(name)
    assert schema["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    jsonschema.Draft202012Validator.check_schema(schema)
    for reference in references(schema):
        assert reference.removeprefix("#/$defs/") in schema["$defs"]


def references(schema: Any) -> Iterator[str]:
    """Every `$ref` in a schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for below in schema.values():
            yield from references(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from references(below)


@pytest.mark.parametrize("name", files.FILES)
def test_every_field_and_every_type_has_its_text(name: str) -> None:
    schema = json_schema(name)
    for one in (schema, *schema["$defs"].values()):
        assert one["description"].endswith("."), one["title"]
        for key, field in one["properties"].items():
            assert field["description"].endswith("."), (one["title"], key)


def test_the_schema_has_exactly_the_fields_of_the_types() -> None:
    schema = json_schema()
    for one in (schema, *schema["$defs"].values()):
        home = scan_info if hasattr(scan_info, one["title"]) else scan_info_display
        typed_dict = getattr(home, one["title"])
        assert list(one["properties"]) == list(typed_dict.__annotations__)
        assert set(one.get("required", [])) == set(typed_dict.__required_keys__)


def test_deprecated_fields_are_marked_and_no_others() -> None:
    schema = json_schema()
    marked = {
        (one["title"], key)
        for one in (schema, *schema["$defs"].values())
        for key, field in one["properties"].items()
        if field.get("deprecated")
    }
    old = ("devices", "scalars", "spectra", "images", "master")
    assert marked == {("ChainDict", key) for key in old}


def test_a_schema_that_is_not_there_is_told_which_there_are() -> None:
    with pytest.raises(ValueError, match=r"'scan'.*scan_info, scan_info_display"):
        json_schema("scan")


def test_the_caller_owns_the_schema() -> None:
    json_schema().clear()
    assert json_schema()["title"] == "ScanInfoDict"


def test_a_field_without_a_text_is_not_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "undocumented.py").write_text(
        "from typing_extensions import TypedDict\n\n\nclass Bare(TypedDict):\n    x: int\n    y: int\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import undocumented  # type: ignore[import-not-found]

    with pytest.raises(ValueError, match=r"Bare\.x"):
        files.documentation(undocumented.Bare)


# ------------------------------------------------------------------------------------- in accord

KEYS = st.sampled_from(
    sorted(
        {"axis", "diode", "other", ""}.union(
            *(one["properties"] for one in (json_schema(), *json_schema()["$defs"].values()))
        )
    )
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.sampled_from([0.0, 1.0, -1.0, 2.5, 1e300])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
    | st.sampled_from(["scatter", "curve", "left", "step", "1d-plot", "table-plot", "SUCCESS"])
)
JSON = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4)
)


def samples(schema: Info, whole: Info) -> st.SearchStrategy[Any]:
    """Values that a schema accepts, by a generator that knows nothing of ours."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        return st.deferred(lambda: samples(whole["$defs"][name], whole))
    if "anyOf" in schema:
        return st.one_of(*(samples(one, whole) for one in schema["anyOf"]))
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    least, most = schema.get("minimum"), schema.get("maximum")
    match schema["type"]:
        case "string":
            return st.text(max_size=5)
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(least, most)
        case "number":
            return st.floats(allow_nan=False, allow_infinity=False) | st.integers()
        case "array":
            return st.lists(samples(schema["items"], whole), max_size=2)
        case _ if "properties" in schema:
            required = schema.get("required", [])
            fields = {key: samples(one, whole) for key, one in schema["properties"].items()}
            optional = {key: one for key, one in fields.items() if key not in required}
            return st.fixed_dictionaries({key: fields[key] for key in required}, optional=optional)
        case _:
            below = schema.get("additionalProperties")
            return st.dictionaries(KEYS, samples(below, whole) if below else JSON, max_size=2)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path below a value."""
    pairs = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for step, below in pairs:
        yield (*path, step)
        yield from places(below, (*path, step))


def shape_is_right(info: Any) -> bool:
    report = validation._shape(info)
    return report.count["error"] == 0


@settings(max_examples=100, deadline=None)
@given(sample=samples(json_schema(), json_schema()))
def test_what_the_schema_describes_is_of_the_right_shape(
    checker: jsonschema.Draft202012Validator, sample: Any
) -> None:
    assert checker.is_valid(sample)
    assert shape_is_right(sample)
    validate(sample)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_after_any_change_both_still_agree(
    checker: jsonschema.Draft202012Validator, make_info: Callable[[], Info], data: st.DataObject
) -> None:
    info = make_info()
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(places(info))))
        owner = info
        for step in path[:-1]:
            owner = owner[step]
        if data.draw(st.booleans()):
            owner[path[-1]] = data.draw(JSON)
        else:
            del owner[path[-1]]
    assert shape_is_right(info) == checker.is_valid(info)


@settings(max_examples=150, deadline=None)
@given(value=JSON)
def test_both_agree_on_any_json(checker: jsonschema.Draft202012Validator, value: Any) -> None:
    assert shape_is_right(value) == checker.is_valid(value)


def test_both_agree_on_the_example_and_name_the_same_place(
    checker: jsonschema.Draft202012Validator, info: Info
) -> None:
    assert checker.is_valid(info)
    info["channels"]["diode"]["dim"] = 3
    (theirs,) = checker.iter_errors(info)
    (ours,) = validate(info)
    assert list(theirs.absolute_path) == ["channels", "diode", "dim"]
    assert ours.path == 'channels["diode"].dim'


def test_the_display_schema_checks_the_display_part_alone(info: Info) -> None:
    display = jsonschema.Draft202012Validator(json_schema("scan_info_display"))
    assert display.is_valid({})
    assert display.is_valid(info)
    assert not display.is_valid({"plots": [{"kind": "scatter-plot"}]})
    assert not display.is_valid({"display_extra": {"plotselect": "diode"}})
