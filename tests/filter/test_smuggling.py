"""Smuggling: everything that is no telemetry, put into every field of every schema."""

from __future__ import annotations

import json

import pytest

from tests.filter.canonical import good
from tests.filter.schema_cases import EVERY_FIELD, HOLE, in_json, outcome, schema_case
from tests.filter.smuggled import TABLE, Written, damaged, written

pytestmark = pytest.mark.long


def spellings(case: Written) -> set[bytes]:
    """The value as JSON text: as it is, and with every character of a string as an escape."""
    if not isinstance(case.value, str):
        return {case.text}
    units = case.value.encode("utf-16-be").hex()
    escapes = "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    return {case.text, f'"{escapes}"'.encode()}


@pytest.mark.parametrize(("schema", "name"), EVERY_FIELD)
def test_smuggling(schema: str, name: str) -> None:
    made_case = schema_case(schema)
    starts = good(made_case.schema.fields[name])
    nearly = [written(value) for start in starts for value in damaged(start)]
    admitted = 0
    for field_path in made_case.field_paths(name):
        for case in (*TABLE, *nearly):
            expected = made_case.expected(field_path, case)
            admitted += len(expected[0]) > 0
            events = list(made_case.documents(field_path.event(HOLE)))
            for payload in (in_json(event, text) for event in events for text in spellings(case)):
                assert outcome(made_case.filter.admit(payload)) == expected, payload[:200]
                assert outcome(made_case.filter.admit_lines(payload)) == expected, payload[:200]
            for event in made_case.documents(field_path.event(case.value)):
                assert outcome(made_case.filter.admit(event)) == expected, case.text[:200]
    assert admitted, "the table must hold good values too, or it proves nothing"


@pytest.mark.parametrize(("schema", "name"), EVERY_FIELD)
def test_lone_surrogates(schema: str, name: str) -> None:
    """A text that is no Unicode makes JSON malformed, and is refused as a value of a mapping."""
    made_case = schema_case(schema)
    malformed = b"", {"received": 1, "admitted": 0, "rejected": {"malformed": 1}}
    for field_path in made_case.field_paths(name):
        for text in ("\ud800", "phone\udfff", "\ud83d", "\udf02\ud83c"):
            spelled = json.dumps(text).encode(), b'"%b"' % text.encode("utf-8", "surrogatepass")
            events = list(made_case.documents(field_path.event(HOLE)))
            for payload in (in_json(event, one) for event in events for one in spelled):
                assert outcome(made_case.filter.admit(payload)) == malformed
                assert outcome(made_case.filter.admit_lines(payload)) == malformed
            expected = made_case.expected(field_path, Written(b"", text, str))
            for event in made_case.documents(field_path.event(text)):
                assert outcome(made_case.filter.admit(event)) == expected
