"""The flow matrix: where purposes meet, what is refused, and that nothing else is delivered."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.config import load
from collector.contracts import Batch
from collector.errors import ConfigFaults
from collector.filter.stored import project, read
from collector.routing import (
    LEGAL,
    Flow,
    all_flows,
    entitled,
    flows,
    is_abroad,
    is_unprotected,
    reaching,
)
from collector.schema import Schema, load_schema

_PURPOSES = ("ops", "crash", "law")
_USES = {"ops": "essential.service.operations", "crash": "functional.service.improve", "law": LEGAL}
_KINDS = ("boolean", "ip", "integer, minimum: 0, maximum: 9, step: 1")
_FIELDS: dict[str, tuple[str, ...]] = {
    "a": ("ops",),
    "b.c": ("ops", "crash"),
    "d": ("crash",),
    "e": ("law",),
}


def schema(folder: Path, fields: dict[str, tuple[str, ...]]) -> Schema:
    """A schema whose fields are for these purposes."""
    lines = ["schema: sample", "version: 1.0.0", "title: A sample", "owner: privacy", "purposes:"]
    for name, use in _USES.items():
        lines.append(f"  {name}: {{use: {use}, basis: contract, reason: It has to be}}")
    lines.append("fields:")
    for at, (name, purposes) in enumerate(fields.items()):
        lines.append(
            f"  {name}: {{kind: {_KINDS[at % 3]}, category: system, retention: 1d,"
            f" purposes: [{', '.join(purposes)}], reason: Because of this}}"
        )
    path = folder / "sample.yaml"
    path.write_text("\n".join(lines))
    return load_schema(path)


def written(folder: Path, **sinks: Mapping[str, object]) -> Path:
    """A configuration file with these sinks."""
    path = folder / "collector.yaml"
    path.write_bytes(orjson.dumps({"sinks": sinks}))
    return path


def faults(folder: Path, **sinks: Mapping[str, object]) -> list[tuple[str, str]]:
    """Setting and code of all that is wrong with the sinks."""
    with pytest.raises(ConfigFaults) as caught:
        flows(load(written(folder, **sinks)), schema(folder, _FIELDS))
    return [(fault.field, fault.code) for fault in caught.value.faults]


def test_without_settings_all_goes_into_the_store() -> None:
    """One sink, ours, every field, for all that the schema says."""
    conferencing = load_schema("conferencing")
    found = flows(load(), conferencing)
    assert found.to("store") == {
        name: field.purposes for name, field in conferencing.fields.items()
    }
    assert len(found.flows) == len(conferencing.fields)
    assert found.reaching("store") is None
    assert found.reaching("store", ("security",)) is None


def test_a_field_goes_where_the_purposes_meet(tmp_path: Path) -> None:
    sinks: dict[str, Mapping[str, object]] = {
        "store": {"purposes": ["law", "ops"]},
        "ndjson": {"path": "a", "party": "processor", "recipient": "A", "purposes": ["crash"]},
    }
    found = flows(load(written(tmp_path, **sinks)), schema(tmp_path, _FIELDS))
    assert found.flows == (
        Flow("a", "store", ("ops",)),
        Flow("b.c", "store", ("ops",)),
        Flow("b.c", "ndjson", ("crash",)),
        Flow("d", "ndjson", ("crash",)),
        Flow("e", "store", ("law",)),
    )
    assert found.reaching("store") == frozenset({"a", "b.c", "e"})
    assert found.reaching("ndjson") == frozenset({"b.c", "d"})
    assert found.reaching("store", ("law", "crash")) == frozenset({"e"})
    assert found.reaching("ndjson", ("law",)) == frozenset()
    kept = load(written(tmp_path, **sinks)).model_copy(update={"data": tmp_path / "data"})
    assert flows(kept, schema(tmp_path, _FIELDS)).places["store"].startswith(str(kept.data))
    plain = found.as_dict()
    assert plain["sinks"]["ndjson"]["recipient"] == "A"
    assert plain["flows"][3] == {
        "field": "d",
        "category": "system",
        "sink": "ndjson",
        "purposes": {"crash": "functional.service.improve"},
    }


def test_what_a_third_party_may_have(tmp_path: Path) -> None:
    """What a law demands; anything besides is refused, and a processor is not."""
    third: dict[str, object] = {"path": "a", "party": "third", "recipient": "Court"}
    config = load(written(tmp_path, ndjson=third | {"purposes": ["law"]}))
    assert flows(config, schema(tmp_path, _FIELDS)).to("ndjson") == {"e": ("law",)}
    for purposes in (["ops"], ["law", "crash"], ["crash", "law"]):
        sink = third | {"purposes": purposes}
        assert faults(tmp_path, ndjson=sink) == [("sinks.ndjson.party", "E309")]
    config = load(written(tmp_path, ndjson=third | {"party": "processor", "purposes": ["ops"]}))
    assert list(flows(config, schema(tmp_path, _FIELDS)).to("ndjson")) == ["a", "b.c"]


def test_a_refusal_names_the_claims(tmp_path: Path) -> None:
    """The public sentences that would not be true any more."""
    sink = {"path": "a", "party": "third", "recipient": "Ads", "purposes": ["ops"]}
    with pytest.raises(ConfigFaults, match="`no-third-party-ads` and `no-sale` would not hold"):
        flows(load(written(tmp_path, ndjson=sink)), schema(tmp_path, _FIELDS))


def test_every_fault_at_once(tmp_path: Path) -> None:
    sink = {"path": "a", "party": "third", "recipient": "A", "purposes": ["ops", "x", "y"]}
    assert faults(tmp_path, store={"purposes": ["opss"]}, ndjson=sink) == [
        ("sinks.store.purposes", "E132"),
        ("sinks.ndjson.purposes", "E132"),
        ("sinks.ndjson.purposes", "E132"),
        ("sinks.ndjson.party", "E309"),
    ]


def test_a_fault_says_where_it_is_and_what_there_is(tmp_path: Path) -> None:
    """It has no line, as the settings may come from anywhere; a name that is nearly right is named,
    for any other all names; and how many schemas there are."""
    config = load(written(tmp_path, store={"purposes": ["opss", "elephants"]}))
    sample = schema(tmp_path, _FIELDS)
    for schemas, have in (([sample], "the schema has"), ([sample, sample], "the schemas have")):
        with pytest.raises(ConfigFaults) as caught:
            all_flows(config, schemas)
        near, far = caught.value.faults
        assert near[:4] == ("settings", 0, 0, "sinks.store.purposes")
        assert near.message.startswith(f"{have} no such purpose")
        assert ("`ops`" in near.message, "crash" in near.message) == (True, False)
        assert "there are ops, crash, law" in far.message


def test_several_schemas_each_reach_sinks_by_their_own_purposes(tmp_path: Path) -> None:
    """The matrix of a schema is found by its name; a sink without purposes gets all."""
    sinks: dict[str, Mapping[str, object]] = {"ndjson": {"path": "a", "purposes": ["crash"]}}
    one, other = schema(tmp_path, _FIELDS), load_schema("conferencing")
    matrices = all_flows(load(written(tmp_path, store={}, **sinks)), [one, other])
    for order in (matrices, matrices[::-1], matrices[:1]):
        find = reaching(order)
        assert find("ndjson", "sample", None) == frozenset({"b.c", "d"})
        assert find("ndjson", "sample", ("ops",)) == frozenset()
        assert find("store", "sample", ("ops",)) is None
    assert reaching(matrices)("ndjson", "conferencing", None) == frozenset()
    with pytest.raises(LookupError):
        reaching(matrices[:1])("ndjson", "conferencing", None)


@pytest.mark.parametrize(
    ("home", "there", "safeguard", "expected"),
    [
        ("DE", None, None, (False, False)),
        ("DE", "DE", None, (False, False)),
        ("DE", "FR", None, (True, False)),
        ("DE", "US", None, (True, True)),
        ("DE", "US", "standard clauses", (True, False)),
        ("US", "DE", None, (True, True)),
        ("US", "US", None, (False, False)),
        (None, "US", None, (False, False)),
    ],
)
def test_what_leaves_the_country(
    tmp_path: Path,
    home: str | None,
    there: str | None,
    safeguard: str | None,
    expected: tuple[bool, bool],
) -> None:
    """Abroad is another country, where both are known; unprotected, unless both are in the EEA or a
    safeguard is stated."""
    sink: dict[str, object] = {"path": "a", "party": "processor", "recipient": "A"}
    sink |= {"purposes": ["ops"], "country": there, "safeguard": safeguard}
    sink = {key: value for key, value in sink.items() if value is not None}
    path = tmp_path / "collector.yaml"
    about = {} if home is None else {"country": home}
    path.write_bytes(orjson.dumps({"about": about, "sinks": {"ndjson": sink}}))
    config = load(path)
    found = config.sinks.on()["ndjson"]
    assert (is_abroad(found, config.about), is_unprotected(found, config.about)) == expected


def test_a_sink_for_nothing(tmp_path: Path) -> None:
    """Purposes that no field is for are refused: the sink would only learn that records come."""
    config = load(written(tmp_path, store={"purposes": ["crash"]}))
    sample = schema(tmp_path, {"a": ("ops",)})
    with pytest.raises(ConfigFaults) as caught:
        flows(config, sample)
    (fault,) = caught.value.faults
    assert (fault.field, fault.code) == ("sinks.store.purposes", "E122")


def test_what_is_not_granted_goes_nowhere(tmp_path: Path) -> None:
    sample = schema(tmp_path, _FIELDS)
    assert entitled(sample, None, ["crash"]) == {"b.c": ("crash",), "d": ("crash",)}
    assert entitled(sample, ["ops"], ["crash"]) == {}
    assert entitled(sample, ["nonsense"], None) == entitled(sample, None, []) == {}


_some = st.lists(st.sampled_from(_PURPOSES), unique=True)
_NAMES = ("a", "b", "c.d", "c.e", "f", "count.of", "schema.id")
_VALUES = dict(
    zip(_NAMES, cycle([st.booleans(), st.ip_addresses().map(str), st.integers(0, 9)]), strict=False)
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    """A schema of all the names, whose purposes are still to be drawn."""
    return schema(tmp_path_factory.mktemp("whole"), dict.fromkeys(_NAMES, _PURPOSES))


@given(
    st.dictionaries(st.sampled_from(_NAMES), _some.filter(bool).map(tuple), min_size=1),
    st.none() | _some,
    st.none() | _some,
    st.data(),
)
def test_a_sink_receives_nothing_beyond_the_meeting(
    whole: Schema,
    fields: dict[str, tuple[str, ...]],
    purposes: list[str] | None,
    granted: list[str] | None,
    data: st.DataObject,
) -> None:
    """Any schema, sink and grant: each field that is delivered has a purpose of all three, each
    that has one is delivered with its very value, and less granted never adds anything."""
    parts = {
        name: whole.fields[name].model_copy(update={"purposes": listed})
        for name, listed in fields.items()
    }
    sample = whole.model_copy(update={"fields": parts})
    present = st.sets(st.sampled_from(list(fields)), min_size=1)
    records = [
        {"schema": sample.id}
        | {name: data.draw(_VALUES[name]) for name in fields if name in names}
        | ({"count": 2} if data.draw(st.booleans()) else {})
        for names in data.draw(st.lists(present, max_size=3))
    ]
    payload = b"".join(orjson.dumps(record) + b"\n" for record in records)
    spooled = Batch(b"i" * 16, "2026-11-24T10:20:00Z", layout=sample.layout, payload=payload)
    everybody = set(_PURPOSES)
    common = everybody & set(everybody if purposes is None else purposes)
    common &= everybody if granted is None else set(granted)
    expected = [_kept(record, fields, common) for record in records]
    batch = read(project(spooled, entitled(sample, purposes, granted)))
    assert [dict(record) for record in batch.records] == [one for one in expected if one]
    assert batch.rows is not None
    assert batch.layout is not None
    columns = [name for name, _ in batch.layout.columns]
    assert columns == [name for name in fields if common & set(fields[name])]
    assert batch.rows() == [
        (*map(record.get, columns), record.get("count", 1)) for record in batch.records
    ]
    less = data.draw(st.sets(st.sampled_from(sorted(common)))) if common else set[str]()
    fewer = project(spooled, entitled(sample, purposes, less)).payload
    assert len(fewer) <= len(batch.payload or b"")


def _kept(
    record: dict[str, Any], fields: dict[str, tuple[str, ...]], common: set[str]
) -> dict[str, Any]:
    """What is left of a record, as plainly as can be said; nothing if no field is."""
    others = {"schema", "count"}
    kept = {key: value for key, value in record.items() if key in others or common & {*fields[key]}}
    return kept if kept.keys() - others else {}
