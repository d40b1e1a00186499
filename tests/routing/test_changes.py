"""Changes of flows: each is found and has its verdict; nothing widens silently."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from collector.config import Config, load
from collector.config.sink_settings import PARTIES
from collector.errors import ConfigFaults
from collector.routing import Flows, flows
from collector.routing.changes import (
    RULES,
    Change,
    changes,
    document,
    reached,
    reasons,
    since,
    verdict,
)
from collector.schema import Schema, load_schema
from tests.routing.test_flows import schema

_ROOT = Path(__file__).parent.parent.parent
Sinks = dict[str, dict[str, object]]
_FILE: dict[str, object] = {"path": "a", "purposes": ["capacity_planning"]}
_PROCESSOR = _FILE | {"party": "processor", "recipient": "A"}
_LAW = "essential.legal_obligation"
_SCHEMA = (_ROOT / "schemas" / "conferencing.yaml").read_text()


def made(folder: Path, sinks: Sinks, schema: str = _SCHEMA, **about: str) -> Flows:
    """The flows of a configuration, under a schema beside it."""
    (folder / "collector.yaml").write_bytes(orjson.dumps({"sinks": sinks, "about": about}))
    return flows(load(folder / "collector.yaml"), _schema(folder, schema))


def _schema(folder: Path, text: str) -> Schema:
    """The same for the same text: it is read once."""
    if text not in _schemas:
        (folder / "conferencing.yaml").write_text(text)
        _schemas[text] = load_schema(folder / "conferencing.yaml")
    return _schemas[text]


_schemas: dict[str, Schema] = {}


_CASES: dict[str, tuple[Sinks, Sinks, set[str]]] = {
    "nothing": ({}, {"store": {"party": "first"}}, set()),
    "a new sink": ({}, {"ndjson": _FILE}, {"sink added", "flow added"}),
    "a sink less": ({"ndjson": _FILE}, {}, {"sink removed", "flow removed"}),
    "another instead": (
        {},
        {"store": {"enabled": False}, "ndjson": _FILE},
        {"sink added", "flow added", "sink removed", "flow removed"},
    ),
    "limited": (
        {},
        {"store": {"purposes": ["security", "capacity_planning"]}},
        {"limited", "used for less"},
    ),
    "limited to all that there is": (
        {},
        {"store": {"purposes": ["security", "capacity_planning", "service_operations"]}},
        {"limited"},
    ),
    "no longer": (
        {"store": {"purposes": ["security"]}},
        {},
        {"no longer limited", "flow added", "used for more"},
    ),
    "other purposes": (
        {"ndjson": _FILE},
        {"ndjson": _FILE | {"purposes": ["service_operations"]}},
        {"other purposes", "flow added", "flow removed", "used for more", "used for less"},
    ),
    "further away": (
        {"ndjson": _FILE},
        {"ndjson": _PROCESSOR},
        {"further away", "another recipient"},
    ),
    "nearer": ({"ndjson": _PROCESSOR}, {"ndjson": _PROCESSOR | {"party": "first"}}, {"nearer"}),
    "back to us": ({"ndjson": _PROCESSOR}, {"ndjson": _FILE}, {"nearer", "no recipient"}),
    "purposes in another order": (
        {"ndjson": _FILE | {"purposes": ["security", "capacity_planning"]}},
        {"ndjson": _FILE | {"purposes": ["capacity_planning", "security"]}},
        set(),
    ),
    "somebody else": (
        {"ndjson": _PROCESSOR},
        {"ndjson": _PROCESSOR | {"recipient": "B"}},
        {"another recipient"},
    ),
    "elsewhere": (
        {"ndjson": _PROCESSOR},
        {"ndjson": _PROCESSOR | {"country": "DE"}},
        {"another country"},
    ),
    "safeguarded": (
        {"ndjson": _PROCESSOR},
        {"ndjson": _PROCESSOR | {"safeguard": "clauses"}},
        {"safeguarded"},
    ),
    "no longer so": (
        {"ndjson": _PROCESSOR | {"safeguard": "clauses"}},
        {"ndjson": _PROCESSOR},
        {"another safeguard"},
    ),
    "another file": ({"ndjson": _FILE}, {"ndjson": _FILE | {"path": "b"}}, {"another place"}),
}


@pytest.mark.parametrize("case", _CASES)
def test_each_change_is_found(case: str, tmp_path: Path) -> None:
    """Exactly the changes that there are, by what they are called; what was written down of the old
    flows is enough for the verdict."""
    old, new, expected = _CASES[case]
    before, after = made(tmp_path, old), made(tmp_path, new)
    assert {change.what for change in changes(before, after)} == expected
    assert document(before) == document(made(tmp_path, old))
    verdicts = {RULES[what] for what in expected}
    wanted = next((one for one in ("widening", "narrowing") if one in verdicts), "neutral")
    found = since(document(before), after)
    assert verdict(found) == wanted
    assert bool(reasons(found)) is (wanted == "widening")


def test_every_field_of_a_new_sink_is_named(tmp_path: Path) -> None:
    """One flow for each, with the purposes and their uses, and all of them widening."""
    found = changes(made(tmp_path, {}), made(tmp_path, {"ndjson": _FILE}))
    reached = made(tmp_path, {"ndjson": _FILE}).to("ndjson")
    assert [change.field for change in found] == ["", *reached]
    assert {change.verdict for change in found} == {"widening"}
    assert found[0] == Change("sink added", "", "ndjson", None, ["first"])
    assert found[1].as_dict() == {
        "verdict": "widening",
        "what": "flow added",
        "field": "device.type",
        "sink": "ndjson",
        "old": None,
        "new": ["capacity_planning (analytics.reporting.system.performance)"],
    }


@pytest.mark.parametrize(
    ("pattern", "instead", "expected"),
    [
        ("title: .*", "title: Another", {"schema changed"}),
        ("kind: ip", "kind: ip\n    truncate: {ipv4: 24, ipv6: 48}", {"schema changed"}),
        ("retention: 30d", "retention: 31d", {"schema widened"}),
        (
            "use: essential.service.security",
            "use: essential.fraud_detection",
            {"schema widened", "used for more", "used for less"},
        ),
        (
            r"purposes: \[service_operations, security\]",
            "purposes: [service_operations, security, capacity_planning]",
            {"schema widened", "used for more"},
        ),
    ],
)
def test_changes_of_the_schema(
    pattern: str, instead: str, expected: set[str], tmp_path: Path
) -> None:
    """What the schema lets through is a flow too; a purpose with another use is another."""
    text, times = re.subn(pattern, instead, _SCHEMA, count=1)
    assert times == 1
    found = changes(made(tmp_path, {}), made(tmp_path, {}, text))
    assert {change.what for change in found} == expected


def test_the_third_party_is_the_furthest(tmp_path: Path) -> None:
    text = _SCHEMA.replace("use: analytics.reporting.system.performance", f"use: {_LAW}")
    old = made(tmp_path, {"ndjson": _PROCESSOR}, text)
    new = made(tmp_path, {"ndjson": _PROCESSOR | {"party": "third"}}, text)
    assert [(change.what, change.old, change.new) for change in changes(old, new)] == [
        ("further away", "processor", "third")
    ]
    assert [change.what for change in changes(new, old)] == ["nearer"]


def test_our_country_is_that_of_our_sinks(tmp_path: Path) -> None:
    sinks = {"ndjson": _PROCESSOR | {"country": "DE"}}
    old, new = (made(tmp_path, sinks, country=country) for country in ("DE", "US"))
    assert changes(old, new) == [Change("another country", "", "store", "DE", "US")]


_purposes = st.lists(st.sampled_from(["ops", "crash", "law"]), min_size=1, unique=True)
_stores = st.fixed_dictionaries(
    {}, optional={"enabled": st.booleans(), "purposes": _purposes, "country": st.just("DE")}
)
_files = st.fixed_dictionaries(
    {"path": st.just("a"), "purposes": _purposes, "recipient": st.sampled_from("AB")},
    optional={
        "party": st.sampled_from(PARTIES),
        "country": st.just("DE"),
        "safeguard": st.sampled_from("CD"),
    },
)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    """Fields for one purpose, for several, for what a law demands."""
    fields = {"a": ("ops",), "b": ("ops", "crash"), "c": ("crash", "law"), "d": ("law",)}
    return schema(tmp_path_factory.mktemp("sample"), fields)


@given(_stores, st.none() | _files, _stores, st.none() | _files)
def test_nothing_widens_silently(
    sample: Schema,
    store: dict[str, object],
    file: dict[str, object] | None,
    new_store: dict[str, object],
    new_file: dict[str, object] | None,
) -> None:
    """Any two configurations: if and only if a sink gets more, or another recipient gets it, or
    elsewhere, or less is promised of it, one of the changes is widening."""

    def made_of(store: dict[str, object], file: dict[str, object] | None) -> Flows:
        config = Config(sinks={"store": store} | ({"ndjson": file} if file else {}))
        try:
            return flows(config, sample)
        except ConfigFaults:
            reject()

    old, new = made_of(store, file), made_of(new_store, new_file)
    assert any(change.verdict == "widening" for change in changes(old, new)) == any(
        name not in old.sinks
        or not {(f, p) for f, all_ in new.to(name).items() for p in all_}
        <= {(f, p) for f, all_ in old.to(name).items() for p in all_}
        or PARTIES.index(sink.party) > PARTIES.index(old.sinks[name].party)
        or sink.recipient not in (None, old.sinks[name].recipient)
        or sink.country != old.sinks[name].country
        or old.sinks[name].safeguard not in (None, sink.safeguard)
        or (sink.purposes is None and old.sinks[name].purposes is not None)
        for name, sink in new.sinks.items()
    )


def test_the_reasons_are_the_flows_that_widen(tmp_path: Path) -> None:
    before = document(made(tmp_path, {"store": {"purposes": ["security"]}}))
    found = since(before, made(tmp_path, {"ndjson": _PROCESSOR | {"recipient": "canary"}}))
    told = reasons(found)
    assert told[:2] == ["store: no longer limited", "store: used for more client.address"]
    assert told[-2] == "ndjson: sink added"
    assert told[-1].startswith("ndjson: flow added device.type, ")
    assert "canary" not in str(told)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"\xff", b'{"sinks": {"store": 1}, "flows": []}']
)
def test_what_is_no_document(text: bytes, tmp_path: Path) -> None:
    """It tells nothing, and breaks nothing."""
    assert verdict(since(text, made(tmp_path, {}))) == "unknown"


def test_a_long_document_is_one(tmp_path: Path) -> None:
    """Eight schemas with many sinks have more values than a document that people write may have."""
    before = document(*[made(tmp_path, {"store": {}})] * 60)
    assert before.count(b'":') > 2_000
    assert set(reached(before)) == {"store"}


def test_the_document_has_the_table() -> None:
    """What docs/claims.md calls a change is one, with its verdict."""
    text = (_ROOT / "docs" / "claims.md").read_text()
    rows = re.findall(r"^\| `([a-z ]+)` \| (\w+) \|", text, re.MULTILINE)
    assert rows == list(RULES.items())
