"""What is said of a schema's own tests, and of the samples beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from collector import Filter
from collector.filter.schema_test import CaseResult, run_samples, run_tests
from collector.schema.model import Schema
from tests.support.make_schemas import sample

_FIELDS = """\
  os.type: {kind: enum, values: [linux, windows], from: [o], REST}
  app.name: {kind: enum, values: ['say "hi"', b], from: [a], REST}
"""


def faults(case: dict[str, Any], more: str = "") -> list[str]:
    """The faults of one test of a schema."""
    case = {"name": "one", **case}
    (result,) = run_tests(sample(_FIELDS, f"{more}\ntests: [{json.dumps(case)}]"))
    assert (result.schema, result.name, result.passed) == ("sample", "one", not result.faults)
    return [*result.faults]


LINUX = {"o": "linux"}


@pytest.mark.parametrize(
    ("keeps", "said"),
    [
        ({"os.type": "linux"}, []),
        ({"os.type": "windows"}, ["record 1 has another value of `os.type`"]),
        ({"os.type": "linux", "app.name": "b"}, ["record 1 lacks `app.name`"]),
        (
            {"app.name": "b"},
            ["record 1 lacks `app.name`", "record 1 has `os.type`, which `keeps` does not list"],
        ),
        ({}, ["expected 0 records, but the filter made 1"]),
    ],
)
def test_the_fields_of_a_record(keeps: object, said: list[str]) -> None:
    assert faults({"event": LINUX, "keeps": keeps}) == said


def test_the_records_of_a_document() -> None:
    event = {"list": [LINUX, {"o": "windows"}, LINUX]}
    keeps = [{"os.type": each} for each in ("linux", "linux", "windows")]
    assert faults({"event": event, "keeps": keeps}, "records: list") == [
        "record 2 has another value of `os.type`",
        "record 3 has another value of `os.type`",
    ]
    assert faults({"event": event, "keeps": keeps[:1]}, "records: list") == [
        "expected 1 records, but the filter made 3"
    ]


def test_texts_that_must_not_come_out() -> None:
    event = {"a": 'say "hi"'}
    said = "text {} of `never_contains` is in the records".format
    texts = ["linux", 'say "hi"', "say", '\\"hi', '"hi"', "none", '"app.name":', 'x"hi', 'hi"x']
    assert faults({"event": event, "never_contains": texts}) == [
        said(number) for number in (2, 3, 4, 5, 7)
    ]


def test_other_records_of_a_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Filter.admit

    def admit(filter_: Filter, event: Any, **more: Any) -> Any:
        return given(filter_, {"o": "windows"} if type(event) is dict else event, **more)

    monkeypatch.setattr(Filter, "admit", admit)
    assert faults({"event": LINUX, "keeps": {"os.type": "linux"}}) == [
        "as a mapping, the event gives other records than as JSON"
    ]
    assert faults({"event": [LINUX], "keeps": {"os.type": "linux"}}) == []


def of_sample(name: str, text: str, directory: Path, schema: Schema | None = None) -> list[str]:
    """The faults of one sample of a schema."""
    path = directory / name
    path.write_text(text)
    (result,) = run_samples(schema or sample(_FIELDS), [path])
    assert result == CaseResult("sample", name, result.faults)
    return [*result.faults]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.pass.json", '{"o":"linux"}', []),
        ("a.b.pass.json", '{"o":"linux"}', []),
        ("a.pass.json", "{}", ["nothing was admitted", "1 rejected: nothing_admitted"]),
        (
            "a.pass.json",
            '[{"o":"linux"},1,{}]',
            ["1 rejected: not_an_object", "1 rejected: nothing_admitted"],
        ),
        ("a.pass.json", '{"o":"linux","a":1}', ["`app.name` dropped 1 times: wrong_type"]),
        ("a.fail.json", '{"o":"linux","a":1}', []),
        ("a.fail.json", "{}", []),
        ("a.fail.json", '{"o":"linux"}', ["nothing was rejected or dropped"]),
        ("pass.json", "{}", ["a sample is called <case>.pass.json or <case>.fail.json"]),
        ("a.pass.b.json", "{}", ["a sample is called <case>.pass.json or <case>.fail.json"]),
        ("a.json", "{}", ["a sample is called <case>.pass.json or <case>.fail.json"]),
    ],
)
def test_samples(name: str, text: str, said: list[str], tmp_path: Path) -> None:
    assert of_sample(name, text, tmp_path) == said


def test_a_sample_that_cannot_be_read(tmp_path: Path) -> None:
    (result,) = run_samples(sample(_FIELDS), [tmp_path / "a.pass.json"])
    assert result.faults == ("nothing was admitted", "1 rejected: malformed")
