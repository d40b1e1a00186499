"""The schemas that are shipped: they load, are narrow, and hold no real address."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from pathlib import Path

import orjson

from collector.schema import load_schema, policy, resources
from collector.schema.model import record_bits
from tests.support.rows import for_each

_NAMES = resources.names()
_DOCUMENTS = sorted(
    [
        *(resources.shipped() / f"{name}.yaml" for name in _NAMES),
        *resources.shipped().glob("*.samples/*.json"),
    ]
)
_FICTIONAL = [
    ip_network(text)
    for text in (
        *("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "fe80::/10"),
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "127.0.0.0/8", "::1/128"),
    )
]
"""RFC 5737, RFC 3849, and addresses that belong to nobody."""


def test_what_is_shipped() -> None:
    assert {"conferencing", "conferencing-strict", "participants-qos"} <= set(_NAMES)


@for_each("name", _NAMES)
def test_each_loads_and_is_tested(name: str) -> None:
    schema = load_schema(name)
    assert schema.name == name
    assert schema.max_bits is not None
    assert record_bits(schema) <= schema.max_bits
    assert len(schema.tests) >= 2
    assert len({test.name for test in schema.tests}) == len(schema.tests)
    kept = [test.keeps for test in schema.tests]
    assert any(kept)
    assert any(test.never_contains for test in schema.tests)
    assert None not in kept
    samples = resources.samples(resources.shipped() / f"{name}.yaml")
    assert {path.suffixes[-2] for path in samples} == {".pass", ".fail"}
    assert all(type(orjson.loads(path.read_bytes())) in (dict, list) for path in samples)


@for_each("name", _NAMES)
def test_tests_of_shipped_schemas_plant_content(name: str) -> None:
    """The event of a test contains what the test forbids."""
    schema = load_schema(name)
    for test in schema.tests:
        event = orjson.dumps(test.event).decode()
        assert all(text in event for text in test.never_contains)
        for kept in test.keeps if isinstance(test.keeps, list) else [test.keeps or {}]:
            assert set(kept) <= set(schema.fields)
    assert any(
        policy.name_on(key, schema.content_names) or key == "participants"
        for test in schema.tests
        for key in (test.event if isinstance(test.event, dict) else {})
    )


@for_each(("name", "bits"), [("conferencing", 300), ("conferencing-strict", 110)])
def test_widths(name: str, bits: int) -> None:
    assert 50 < record_bits(load_schema(name)) < bits


def test_strict_is_narrower_than_the_default() -> None:
    """The strict schema has no field that the default has not, and less in each."""
    strict, default = load_schema("conferencing-strict"), load_schema("conferencing")
    assert set(strict.fields) < set(default.fields)
    assert all(field.size() <= default.fields[name].size() for name, field in strict.fields.items())


@for_each("path", _DOCUMENTS)
def test_no_real_address(path: Path) -> None:
    found = 0
    for word in re.findall(r"[0-9A-Fa-f:]*[.:][0-9A-Fa-f.:]*", path.read_text("utf-8")):
        try:
            address = ip_address(word.strip(".") if word.endswith(".") else word)
        except ValueError:
            continue
        found += 1
        assert any(
            address in network for network in _FICTIONAL if network.version == address.version
        )
    assert found or path.suffix == ".json"


@for_each("name", _NAMES)
def test_no_field_outlives_a_year(name: str) -> None:
    schema = load_schema(name)
    days = {field: part.retention.days for field, part in schema.fields.items()}
    assert 1 <= days["client.address"] == min(days.values())
    assert max(days.values()) <= 365


def test_the_taxonomy_names_its_source() -> None:
    taxonomy = orjson.loads((resources.shipped() / "taxonomy.json").read_bytes())
    assert re.search(r"fideslang \d+\.\d+\.\d+ .*CC BY 4\.0", taxonomy["source"])
    for key in ("data_categories", "data_uses"):
        assert taxonomy[key] == sorted(set(taxonomy[key]))
        assert all(name.rpartition(".")[0] in ("", *taxonomy[key]) for name in taxonomy[key])
