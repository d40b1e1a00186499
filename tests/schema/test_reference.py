"""docs/schema.md is true: its examples load, its tables are those of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from ruamel.yaml import YAML

from collector.filter.schema_test import run_tests
from collector.schema.kinds import KINDS, FieldBase
from collector.schema.model import Basis, DocumentHead, Purpose, Trial
from collector.schema.policy import CONTENT, FIELD_CATEGORIES, USES
from tests.schema.conftest import Loader
from tests.support.make_schemas import canonical, field, with_field
from tests.support.rows import for_each

_TEXT = (Path(__file__).parents[2] / "docs" / "schema.md").read_text("utf-8")
_PARTS = dict(re.findall(r"^##+ (.*?)\n(.*?)(?=^##|\Z)", _TEXT, re.MULTILINE | re.DOTALL))
_DOCUMENTS = re.findall(r"```yaml\n(schema:.*?)```", _TEXT, re.DOTALL)


def _rows(part: str, heading: str) -> list[list[str]]:
    """The rows of the first table of a part whose first column is called so."""
    table = re.search(rf"^\| {heading} \|.*\n\| ---.*\n((?:\|.*\n)+)", part, re.MULTILINE)
    assert table is not None
    return [re.split(r" \| ", row.strip("| ")) for row in table[1].splitlines()]


def _keys(part: str, heading: str) -> set[str]:
    return {key for row in _rows(part, heading) for key in re.findall(r"`(\w+)`", row[0])}


def _options(model: Any) -> set[str]:
    return {info.alias or name for name, info in model.model_fields.items()}


def _required(model: Any) -> set[str]:
    return {i.alias or name for name, i in model.model_fields.items() if i.is_required()}


@for_each("text", _DOCUMENTS)
def test_documents_load_and_pass_their_tests(load: Loader, text: str) -> None:
    """A whole document is one, and its own tests pass."""
    outcomes = list(run_tests(load(text)))
    assert outcomes
    assert all(outcome.passed for outcome in outcomes), outcomes


def test_every_example_is_checked() -> None:
    """A YAML block is a whole document or the field of a kind."""
    blocks = re.findall(r"```yaml\n(.*?)```", _TEXT, re.DOTALL)
    fields = [
        part for kind in KINDS for part in re.findall(r"```yaml\n(.*?)```", _PARTS[kind], re.DOTALL)
    ]
    assert sorted(blocks) == sorted([*_DOCUMENTS, *fields])
    assert len(fields) == len(KINDS)


@for_each("kind", KINDS)
def test_kinds(load: Loader, kind: str) -> None:
    """The example of a kind loads, and each value of its table becomes what it says."""
    (text,) = re.findall(r"```yaml\n(.*?)```", _PARTS[kind], re.DOTALL)
    name, field = list(load(with_field(text)).fields.items())[-1]
    assert f"  {name}:\n    kind: {kind}\n" in text
    if kind == "pseudonym":
        return
    make = canonical(field)
    rows = _rows(_PARTS[kind], "value")
    assert len(rows) >= 3
    for value, result in rows:
        written = orjson.loads(value.strip("`"))
        made = make(written) if type(written) in field.reads() else None
        assert (f"`{orjson.dumps(made).decode()}`" if made is not None else "refused") == result


def test_numbers_in_text() -> None:
    """The options, the units and the examples of numbers in text."""
    part = _PARTS["Numbers in text"]
    assert _keys(part, "option") == {"text", "unit"}
    annotation = KINDS["integer"].model_fields["unit"].annotation
    units = get_args(get_args(annotation)[0])
    listed = [re.findall('`"?([A-Za-z%]+)"?`', row[1]) for row in _rows(part, "quantity")]
    assert [unit for quantity in listed for unit in quantity] == [*units]
    found = re.search("`(kind: integer, [^`]*)`", part)
    assert found is not None
    options = YAML(typ="safe").load(f"{{{found[1]}}}")
    make = canonical(field(options.pop("kind"), **options))
    for value, result in _rows(part, "text"):
        made = make(orjson.loads(value.strip("`")))
        assert ("refused" if made is None else f"`{made}`") == result


@for_each("kind", KINDS)
def test_options_of_kinds(kind: str) -> None:
    """Each option of each kind is in its table, and no other."""
    own = _options(KINDS[kind]) - _options(FieldBase) - {"kind"}
    assert (_keys(_PARTS[kind], "option") if own else set()) == own


@pytest.mark.parametrize(
    ("part", "model"),
    [("The document", DocumentHead), ("Purposes", Purpose), ("Fields", KINDS["boolean"])],
)
def test_keys(part: str, model: Any) -> None:
    """Each key is in the table of its part, and marked if it is needed."""
    assert _keys(_PARTS[part], "key") == _options(model)
    needed = {row[0].strip("`") for row in _rows(_PARTS[part], "key") if row[1] == "yes"}
    assert needed == _required(model)


def test_keys_of_tests() -> None:
    """A test needs a name, an event, and one of the others."""
    rows = _rows(_PARTS["Tests and samples"], "key")
    assert {row[0].strip("`"): row[1] for row in rows} == {
        key: "yes" if key in _required(Trial) else "one of them" for key in _options(Trial)
    }


def test_closed_lists() -> None:
    """Uses, bases, categories and content names are those of the code."""
    uses = set(re.findall(r"`((?:essential|functional|analytics)[\w.]*)`", _PARTS["Purposes"]))
    below = {use for use in uses if use.startswith("essential.service")}
    assert uses - below == {use for use in USES if "*" not in use}
    assert {f"`{key}`" for key in FIELD_CATEGORIES} <= set(
        re.findall(r"`[\w.]+`", _PARTS["Fields"])
    )
    assert all(f"`{basis}`" in _PARTS["Purposes"] for basis in get_args(Basis))
    names = {
        row[0].strip("`"): re.findall(r"`(\w+)`", row[1])
        for row in _rows(_PARTS["Content"], "category")
    }
    assert names == {category: list(listed) for category, listed in CONTENT.items()}
