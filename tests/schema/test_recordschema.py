"""The JSON Schema of records, by the reference validator: it takes what the filter makes, and as
little else as it can."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from collector.filter import Filter
from collector.schema import Schema, load_schema, resources
from collector.schema.jsonschema import record_schema
from collector.testing._values import values
from tests.strategies import events, schemas
from tests.support.make_schemas import NOW, canonical, field, one
from tests.support.rows import for_each

_FEW = settings(max_examples=max(1, settings().max_examples // 4))


def _records_of(schema: Schema) -> Validator:
    document = record_schema([schema])
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


def _filter(schema: Schema) -> Filter:
    return Filter(schema, keys=lambda _reference, _period: bytes(32))


@_FEW
@given(schemas(), st.data())
def test_records_of_the_filter_are_valid(schema: Schema, data: st.DataObject) -> None:
    validator, filter_ = _records_of(schema), _filter(schema)
    for event in data.draw(st.lists(events(schema, plain=True), max_size=3)):
        for record in filter_.admit(event).records:
            complaints = [error.message for error in validator.iter_errors(record)]
            assert complaints == []
            assert validator.is_valid({**record, "received": "2026-11-24T10:20:00Z", "count": 2})


@for_each("name", resources.names())
def test_records_of_shipped_samples(name: str) -> None:
    schema = load_schema(name)
    validator, filter_ = _records_of(schema), _filter(schema)
    samples = resources.samples(resources.shipped() / f"{name}.yaml")
    records = [r for path in samples for r in filter_.admit(path.read_bytes()).records]
    assert records
    for record in records:
        assert validator.is_valid(record)
        assert not validator.is_valid({**record, "chat": "canary"})
        assert not validator.is_valid({**record, "schema": "other/1.0.0"})
        assert not validator.is_valid({"schema": schema.id})
        for key in record.keys() - {"schema"}:
            assert not validator.is_valid({**record, key: "a sentence, which is none of them"})


def _only(kind: str, **options: Any) -> tuple[Any, Validator]:
    """A field, and the validator of its values."""
    of = field(kind, **options)
    parts: dict[str, Any] = {"name": "a", "version": "1.0.0", "title": "A", "fields": {"x": of}}
    document = record_schema([Schema.model_construct(**parts)])
    return of, Draft202012Validator(document["properties"]["x"])


_EXACT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ip", {"truncate": {"ipv4": 32, "ipv6": 48}}),
    ("ip", {"truncate": {"ipv4": 12, "ipv6": 16}}),
    ("ip", {"truncate": {"ipv4": 27, "ipv6": 128}}),
    ("enum", {"values": ["a", "é 1"], "aliases": {"b": "a"}}),
    ("version", {}),
    ("version", {"parts": 2, "maximum": [10, 250]}),
    ("version", {"parts": 4, "maximum": [0, 9, 99, 1234]}),
    ("token", {"pattern": '[a-c]{1,3}|x\\.y\\-z|\\"\\{|[+\\-,]'}),
    ("token", {"catalogue": "os-names"}),
    ("integer", {"minimum": -7, "maximum": 91, "step": 7}),
    ("number", {"minimum": 0, "maximum": 1, "step": 0.1}),
    ("number", {"minimum": -0.3, "maximum": 0.35, "step": 0.1}),
    ("number", {"minimum": 0, "maximum": 100, "step": 0.01}),
    ("number", {"minimum": 0, "maximum": 1e300, "step": 1e290}),
    ("number", {"minimum": -10, "maximum": 5001, "step": 2}),
    ("integer", {"minimum": 0, "maximum": 90, "step": 5, "text": True}),
    ("number", {"minimum": 0, "maximum": 10, "step": 0.5, "unit": "ms"}),
    ("boolean", {}),
    ("time", {"precision": "second"}),
    ("time", {"precision": "hour"}),
    ("time", {"precision": "day", "within": "±7d"}),
    ("pseudonym", {"key": "env:A", "rotate": "1d"}),
)


@pytest.mark.parametrize(("kind", "options"), _EXACT)
@_FEW
@given(data=st.data())
def test_values_of_each_kind(kind: str, options: dict[str, Any], data: st.DataObject) -> None:
    """A JSON Schema sees an IPv6 address and a fine fraction only by their form."""
    of, validator = _only(kind, **options)
    value = data.draw(values(of, NOW))
    make = canonical(of)
    made = make(value) if type(value) in of.reads() else None
    if made is not None:
        assert validator.is_valid(made), made
    loose = (
        kind == "pseudonym"
        or (kind == "ip" and ":" in str(value))
        or (kind == "time" and options.get("within"))
        or (kind == "number" and options["step"] in (0.01, 1e290))
    )
    same = made == value and type(value) in of.wire
    whole = isinstance(value, float) and value.is_integer() and kind == "integer"
    if not loose and not whole and "\n" not in str(value) and validator.is_valid(value):
        assert same, value


@pytest.mark.parametrize("kept", [16, 32, 48, 64, 96, 128])
@given(number=st.integers(0, 2**128 - 1), zeros=st.integers(0, 127))
@_FEW
def test_ipv6_by_its_form(kept: int, number: int, zeros: int) -> None:
    """Runs of zeros may stand anywhere."""
    of, validator = _only("ip", truncate={"ipv6": kept})
    address = IPv6Address(number & ~((1 << zeros) - 1))
    made = canonical(of)(str(address))
    if not isinstance(made, str):
        return
    assert validator.is_valid(made), made
    for other in (f"{made}%eth0", f"{made}:1:1:1:1:1:1:1:1", f" {made}", made.replace("::", ":::")):
        assert other == made or not validator.is_valid(other), other
    if ":" in made:
        assert not validator.is_valid(address.exploded.replace("0", "A", 1))


def test_several_schemas() -> None:
    names = ["conferencing", "conferencing-strict"]
    validator = Draft202012Validator(record_schema([load_schema(name) for name in names]))
    for name in names:
        assert validator.is_valid({"schema": load_schema(name).id, "os.type": "linux"})
    assert not validator.is_valid({"schema": "other/1.0.0", "os.type": "linux"})


def test_required_fields_are_required(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(one("kind: boolean, required: true"))
    validator = _records_of(load_schema(path))
    assert validator.is_valid({"schema": "sample/1.0.0", "os.name": True})
    assert not validator.is_valid({"schema": "sample/1.0.0", "os.type": "linux"})
