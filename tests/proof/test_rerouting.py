"""Changes of flows: each is found and has its verdict; nothing widens silently."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from collector.config import load
from collector.proof.flows import Flows, flows
from collector.proof.rerouting import RULES, changes, document, verdict
from collector.schema import load_schema

_ROOT = Path(__file__).parent.parent.parent
Sinks = dict[str, dict[str, object]]
_FILE: dict[str, object] = {"path": "a", "purposes": ["capacity_planning"]}
_PROCESSOR = _FILE | {"party": "processor", "recipient": "A"}
_LAW = "essential.legal_obligation"
_SCHEMA = (_ROOT / "schemas" / "conferencing.yaml").read_text()


def made(folder: Path, sinks: Sinks, schema: str = _SCHEMA) -> Flows:
    """The flows of a configuration, under a schema beside it."""
    (folder / "conferencing.yaml").write_text(schema)
    (folder / "collector.yaml").write_bytes(orjson.dumps({"sinks": sinks}))
    return flows(load(folder / "collector.yaml"), load_schema(folder / "conferencing.yaml"))


_CASES: dict[str, tuple[Sinks, Sinks, set[str]]] = {
    "nothing": ({}, {"store": {"party": "first"}}, set()),
    "a new sink": ({}, {"ndjson": _FILE}, {"flow added"}),
    "a sink less": ({"ndjson": _FILE}, {}, {"flow removed"}),
    "another instead": (
        {},
        {"store": {"enabled": False}, "ndjson": _FILE},
        {"flow added", "flow removed"},
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
        {"flow added", "flow removed", "used for more", "used for less"},
    ),
    "further away": (
        {"ndjson": _FILE},
        {"ndjson": _PROCESSOR},
        {"further away", "another recipient"},
    ),
    "nearer": (
        {"ndjson": _PROCESSOR},
        {"ndjson": _PROCESSOR | {"party": "first"}},
        {"nearer"},
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
    "another file": ({"ndjson": _FILE}, {"ndjson": _FILE | {"path": "b"}}, {"another place"}),
}


@pytest.mark.parametrize("case", _CASES)
def test_each_change_is_found(case: str, tmp_path: Path) -> None:
    """Exactly the changes that there are, by what they are called."""
    old, new, expected = _CASES[case]
    found = changes(made(tmp_path, old), made(tmp_path, new))
    assert {change.what for change in found} == expected


def test_every_field_of_a_new_sink_is_named(tmp_path: Path) -> None:
    """One flow for each, with the purposes and their uses, and all of them widening."""
    found = changes(made(tmp_path, {}), made(tmp_path, {"ndjson": _FILE}))
    reached = made(tmp_path, {"ndjson": _FILE}).to("ndjson")
    assert [change.field for change in found] == list(reached)
    assert {change.verdict for change in found} == {"widening"}
    assert found[0].as_dict() == {
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
    """From a processor to a third party is widening."""
    text = _SCHEMA.replace("use: analytics.reporting.system.performance", f"use: {_LAW}")
    old = made(tmp_path, {"ndjson": _PROCESSOR}, text)
    new = made(tmp_path, {"ndjson": _PROCESSOR | {"party": "third"}}, text)
    assert [(change.what, change.old, change.new) for change in changes(old, new)] == [
        ("further away", "processor", "third")
    ]
    assert [change.what for change in changes(new, old)] == ["nearer"]


@pytest.mark.parametrize("case", _CASES)
def test_a_document_is_enough_to_tell(case: str, tmp_path: Path) -> None:
    """What was written down of the old flows gives the verdict that comparing them gives."""
    old, new, expected = _CASES[case]
    before = document(made(tmp_path, old))
    assert before == document(made(tmp_path, old))
    verdicts = {RULES[what] for what in expected}
    wanted = next((one for one in ("widening", "narrowing") if one in verdicts), "neutral")
    assert verdict(before, made(tmp_path, new)) == wanted


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"\xff", b'{"sinks": {"store": 1}, "flows": []}']
)
def test_what_is_no_document(text: bytes, tmp_path: Path) -> None:
    """It tells nothing, and breaks nothing."""
    assert verdict(text, made(tmp_path, {})) == "unknown"


def test_the_document_has_the_table() -> None:
    """What docs/flows.md calls a change is one, with its verdict."""
    text = (_ROOT / "docs" / "flows.md").read_text()
    rows = re.findall(r"^\| `([a-z ]+)` \| (\w+) \|", text, re.MULTILINE)
    assert rows == list(RULES.items())


def test_each_rule_has_a_case() -> None:
    """Every change of the table comes up in these tests."""
    source = Path(__file__).read_text()
    assert not [what for what in RULES if source.count(f'"{what}"') < 1]
