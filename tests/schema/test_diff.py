"""What changes between two documents, and what each change is called.

Every rule of ``verdict.RULES`` has a case. Where a rule is not obvious, an event shows that the new
document really lets something through that the old one does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from datetime import date
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from collector.filter import Filter
from collector.schema import Schema, load_schema, resources
from collector.schema.diff import Comparison, SchemaChange, changes, compare
from collector.schema.kinds import KINDS
from collector.schema.model import Purpose
from collector.schema.verdict import RULES
from tests.schema.conftest import Loader
from tests.schema.test_diff_kinds import _cases as kind_cases
from tests.support.rows import for_each

Document = dict[str, Any]

BASE: Document = {
    "schema": "sample",
    "version": "1.2.3",
    "title": "A sample",
    "owner": "privacy",
    "purposes": {
        "ops": {"use": "essential.service.operations", "basis": "contract", "reason": "Keep it up"},
        "plan": {
            "use": "analytics.reporting.system.performance",
            "basis": "consent",
            "reason": "Decide what to test on",
            "optional": True,
        },
    },
    "fields": {
        "os.type": {
            "kind": "enum",
            "values": ["linux", "ios"],
            "from": ["os.type", "os", "system"],
            "category": "user.device",
            "purposes": ["ops", "plan"],
            "retention": "30d",
            "reason": "Media capture differs",
            "expires": "2030-01-01",
        },
        "device.battery": {
            "kind": "boolean",
            "from": ["battery"],
            "category": "user.device",
            "purposes": ["ops"],
            "retention": "1w",
            "reason": "Encoders are chosen by power",
            "required": True,
        },
    },
    "content": {"chat": ["backchannel", "whisper"]},
    "max_bits": 500,
    "tests": [
        {
            "name": "chat",
            "event": {"os": "ios", "battery": True, "chat": ["canary one"]},
            "keeps": {"os.type": "ios", "device.battery": True},
            "never_contains": ["canary one"],
        }
    ],
}

OS, BATTERY = ("fields", "os.type"), ("fields", "device.battery")
GONE = object()


class Edit(NamedTuple):
    """A place of a document and what is to stand there; ``GONE`` takes it out."""

    place: tuple[str | int, ...]
    value: Any

    def made(self, document: Document) -> Document:
        """The document with the edit in it."""
        document = deepcopy(document)
        part: Any = document
        *way, last = self.place
        for key in way:
            part = part[key]
        if self.value is GONE:
            del part[last]
        else:
            part[last] = self.value
        return document


def edited(*edits: tuple[Any, Any]) -> Document:
    """The base with edits."""
    document = BASE
    for place, value in edits:
        document = Edit(place if isinstance(place, tuple) else (place,), value).made(document)
    return document


@pytest.fixture
def read(load: Loader) -> Callable[[Document], Schema]:
    """Loads a document from its values."""
    return lambda document: load(json.dumps(document, ensure_ascii=False))


def said(comparison: Comparison) -> list[tuple[str, str]]:
    return [(change.at, change.what) for change in comparison.changes]


def _reversed(part: Document) -> Document:
    return dict(reversed(part.items()))


TEST = BASE["tests"][0]
NEW_FIELD = BASE["fields"]["os.type"] | {"from": ["platform"]}
NEW_PURPOSE = BASE["purposes"]["ops"] | {"use": "essential.service.security"}
DERIVED = ((*OS, "derive"), "user_agent")
ADDRESS = ("fields", "client.address")
ADDRESSED = (
    ADDRESS,
    {key: word for key, word in BASE["fields"]["os.type"].items() if key not in ("from", "values")}
    | {"kind": "ip", "from": ["client.address", "ip"]},
)
FILLED = ((*ADDRESS, "source"), "peer")

ONE: tuple[tuple[Any, Any, str, str], ...] = (
    # place, value, where the change is, what it is called from the base on
    ("schema", "other", "schema", "another schema"),
    ("version", "1.2.4", "version", "another version"),
    ("title", "Another", "title", "reworded"),
    ("owner", "somebody", "owner", "reworded"),
    ("records", "items", "records", "records are found elsewhere"),
    ("records", ".", "records", "written differently"),
    ("records", {"path": ".", "when": {"kind": "x"}}, "records", "only selected records"),
    ("records", {"path": "a", "when": {"kind": "x"}}, "records", "records are found elsewhere"),
    ("consent", "prefs", "consent", "choices are read"),
    ("max_bits", 501, "max_bits", "ceiling raised"),
    ("max_bits", GONE, "max_bits", "ceiling raised"),
    ("max_bits", 499, "max_bits", "ceiling lowered"),
    ("content", GONE, "content", "content name removed"),
    (("content", "chat"), ["whisper"], "content", "content name removed"),
    (("content", "chat"), ["backchannel", "whisper", "x"], "content", "content name added"),
    (("content", "chat"), ["whisper", "backchannel"], "content", "written differently"),
    ("content", {"audio": ["backchannel", "whisper"]}, "content", "content name counted elsewhere"),
    ("purposes", _reversed(BASE["purposes"]), "purposes", "written differently"),
    ("fields", _reversed(BASE["fields"]), "fields", "written differently"),
    (("purposes", "new"), NEW_PURPOSE, "purposes.new", "purpose added"),
    (("purposes", "ops", "use"), "essential.service.security", "purposes.ops.use", "another use"),
    (("purposes", "ops", "basis"), "consent", "purposes.ops.basis", "another legal basis"),
    (("purposes", "ops", "optional"), True, "purposes.ops.optional", "can be refused"),
    (("purposes", "plan", "optional"), GONE, "purposes.plan.optional", "cannot be refused"),
    (("purposes", "ops", "reason"), "Other words", "purposes.ops.reason", "reworded"),
    (("fields", "os.name"), NEW_FIELD, "fields.os.name", "field added"),
    ((*OS, "category"), "system", "fields.os.type.category", "another category"),
    ((*OS, "purposes"), ["ops"], "fields.os.type.purposes", "used for less"),
    ((*OS, "purposes"), ["plan", "ops"], "fields.os.type.purposes", "written differently"),
    ((*BATTERY, "purposes"), ["plan"], "fields.device.battery.purposes", "used for more"),
    ((*OS, "retention"), "31d", "fields.os.type.retention", "kept longer"),
    ((*OS, "retention"), "29d", "fields.os.type.retention", "kept shorter"),
    ((*OS, "expires"), GONE, "fields.os.type.expires", "collected longer"),
    ((*OS, "expires"), "2030-01-02", "fields.os.type.expires", "collected longer"),
    ((*OS, "expires"), "2029-12-31", "fields.os.type.expires", "collected shorter"),
    ((*BATTERY, "expires"), "2029-12-31", "fields.device.battery.expires", "collected shorter"),
    ((*BATTERY, "required"), False, "fields.device.battery.required", "no longer required"),
    ((*OS, "required"), True, "fields.os.type.required", "required"),
    ((*OS, "reason"), "Other words", "fields.os.type.reason", "reworded"),
    ((*OS, "derive"), "user_agent", "fields.os.type.derive", "derived"),
    ((*OS, "from"), ["os.type", "os"], "fields.os.type.from", "source removed"),
    (
        (*OS, "from"),
        [{"path": path, "when": {"kind": "x"}} for path in ("os.type", "os", "system")],
        "fields.os.type.from",
        "only under a condition",
    ),
    (
        (*OS, "from"),
        [{"path": path, "when": {"kind": "x"}} for path in ("os.type", "system")],
        "fields.os.type.from",
        "source added",
    ),
    ((*OS, "from"), ["os.type", "system"], "fields.os.type.from", "deciding source removed"),
    ((*OS, "from"), ["os", "system"], "fields.os.type.from", "sources in another order"),
    ((*OS, "from"), ["os.type", "os", "system", "platform"], "fields.os.type.from", "source added"),
    ((*BATTERY, "from"), GONE, "fields.device.battery.from", "deciding source removed"),
    (
        (*BATTERY, "from"),
        ["battery", "device.battery"],
        "fields.device.battery.from",
        "written differently",
    ),
    ((*BATTERY, "kind"), "pseudonym", "fields.device.battery.kind", "another kind"),
    ("tests", GONE, "tests", "test removed"),
    ("tests", [TEST, TEST | {"name": "more"}], "tests", "test added"),
    ("tests", [TEST | {"name": "other name"}], "tests", "test renamed"),
    ("tests", [TEST | {"event": {"os": "ios", "battery": True}}], "tests", "test weakened"),
    (("tests", 0, "never_contains"), GONE, "tests", "test weakened"),
    (("tests", 0, "never_contains"), ["canary one too"], "tests", "test weakened"),
    (("tests", 0, "never_contains"), ["canary"], "tests", "test strengthened"),
    (("tests", 0, "keeps"), GONE, "tests", "test weakened"),
    (("tests", 0, "keeps"), {"os.type": "ios"}, "tests", "test strengthened"),
    (("tests", 0, "keeps"), {"os.type": "linux", "device.battery": True}, "tests", "test weakened"),
    (("tests", 0, "keeps"), {}, "tests", "test strengthened"),
    (("tests", 0, "keeps"), [TEST["keeps"]] * 2, "tests", "test weakened"),
)


@pytest.mark.parametrize(("place", "value", "at", "what"), ONE)
def test_one_change(
    read: Callable[[Document], Schema], place: Any, value: Any, at: str, what: str
) -> None:
    options = {"key": "env:A", "rotate": "1d"} if value == "pseudonym" else {}
    more = [((*BATTERY, option), word) for option, word in options.items()]
    old, new = read(BASE), read(edited((place, value), *more))
    found = compare(old, new)
    assert said(found) == [(at, what)]
    assert found.widening == (RULES[what] == "widening")
    assert found.changes[0].verdict == RULES[what]
    assert compare(old, old).changes == compare(new, new).changes == ()


_SAID = ("also_collected", {"a": "We measure calls"})
SEVERAL: tuple[tuple[list[Any], list[Any], tuple[str, str]], ...] = (
    # edits of the old document, further ones of the new one, a change among others
    ([], [(OS, GONE), ("tests", GONE)], ("fields.os.type", "field removed")),
    ([], [(BATTERY, GONE), ("tests", GONE)], ("fields.device.battery", "required field removed")),
    (
        [((*OS, "purposes"), ["ops"])],
        [(("purposes", "plan"), GONE)],
        ("purposes.plan", "purpose removed"),
    ),
    ([DERIVED], [((*OS, "derive"), GONE)], ("fields.os.type.derive", "no longer derived")),
    ([ADDRESSED], [FILLED], ("fields.client.address.source", "filled from the peer")),
    (
        [ADDRESSED, FILLED],
        [((*ADDRESS, "source"), GONE)],
        ("fields.client.address.source", "no longer filled"),
    ),
    (
        [ADDRESSED, FILLED],
        [((*ADDRESS, "from"), GONE)],
        ("fields.client.address.from", "deciding source removed"),
    ),
    ([("consent", "a")], [("consent", GONE)], ("consent", "choices are read no longer")),
    (
        [("records", {"path": "items", "when": {"kind": "x"}})],
        [("records", {"path": "items", "when": {"kind": ["x", "y"]}})],
        ("records", "records are selected otherwise"),
    ),
    ([("consent", "a")], [("consent", "b")], ("consent", "choices are found elsewhere")),
    ([DERIVED], [("user_agent", ["agent"])], ("user_agent", "user agent is found elsewhere")),
    (
        [DERIVED, ("user_agent", ["agent"])],
        [("user_agent", ["agent", "user_agent.original"])],
        ("user_agent", "written differently"),
    ),
    (
        [DERIVED, ("user_agent", ["agent"])],
        [("user_agent", GONE), ((*OS, "derive"), GONE)],
        ("user_agent", "written differently"),
    ),
    (
        [DERIVED],
        [((*OS, "from"), ["os.type", "os"])],
        ("fields.os.type.from", "deciding source removed"),
    ),
    (
        [("records", "items")],
        [((*OS, "from"), ["os.type", "os"])],
        ("fields.os.type.from", "deciding source removed"),
    ),
    ([], [_SAID], ("also_collected.a", "sentence added")),
    (
        [_SAID],
        [("also_collected", {"a": "We count them"})],
        ("also_collected.a", "sentence changed"),
    ),
    ([_SAID], [("also_collected", GONE)], ("also_collected.a", "sentence removed")),
    ([_SAID], [((*OS, "also"), "a")], ("fields.os.type.also", "another sentence")),
)


@pytest.mark.parametrize(("before", "after", "expected"), SEVERAL)
def test_several_changes(
    read: Callable[[Document], Schema],
    before: list[Any],
    after: list[Any],
    expected: tuple[str, str],
) -> None:
    assert expected in said(compare(read(edited(*before)), read(edited(*before, *after))))


def test_every_rule_has_a_case() -> None:
    tried = {what for _, _, _, what in ONE} | {what for _, _, (_, what) in SEVERAL}
    tried |= {what for case in kind_cases() for what in case.values[3].values()}
    assert set(RULES) - tried == {"not understood"}


def test_what_nobody_understands_is_widening() -> None:
    (found,) = changes("fields.x", [], {"known": 1, "new": 1}, {"known": 1, "new": 2}, "because")
    assert found == SchemaChange("fields.x", "new", "not understood", 1, 2, "because")
    assert found.verdict == "widening"


def test_every_key_is_understood(read: Callable[[Document], Schema]) -> None:
    """Each key of a document, a purpose and a field has a case, except `language`, which has one
    value."""
    keys = {place[-1] if isinstance(place, tuple) else place for place, *_ in ONE}
    keys |= {at.rpartition(".")[2] for _, _, (at, _) in SEVERAL}
    keys |= {at.partition(".")[0] for _, _, (at, _) in SEVERAL}
    keys |= {option.partition(".")[0] for case in kind_cases() for option in case.values[3]}
    models: tuple[type[BaseModel], ...] = (Schema, Purpose, *KINDS.values())
    for model in models:
        assert {info.alias or name for name, info in model.model_fields.items()} <= {
            *keys,
            "language",
        }


AS_OF = date(2026, 6, 1)


def _record(schema: Schema, event: Any) -> dict[str, Any] | None:
    """The one record of an event, without its schema."""
    records = Filter(schema, as_of=AS_OF).admit(json.dumps(event)).records
    assert len(records) <= 1
    return {key: value for key, value in records[0].items() if key != "schema"} if records else None


SUBTLE: tuple[tuple[list[Any], list[Any], Any], ...] = (
    # edits of the old document, further ones of the new one, an event that gives more under it
    ([], [((*OS, "from"), ["os", "system"])], {"os": "ios", "os.type": "linux", "battery": True}),
    (
        [],
        [((*OS, "from"), ["os.type", "system"])],
        {"os": "a sentence", "system": "ios", "battery": True},
    ),
    ([], [((*BATTERY, "from"), GONE)], {"battery": "no", "device": {"battery": True}}),
    ([], [((*BATTERY, "required"), False)], {"os": "ios"}),
    ([], [(BATTERY, GONE), ("tests", GONE)], {"os": "ios"}),
    (
        [("records", "items")],
        [((*OS, "from"), ["os.type", "os"])],
        {"items": [{"battery": True, "system": "a sentence"}], "os": "ios"},
    ),
    (
        [DERIVED],
        [((*OS, "from"), ["os.type", "os"])],
        {
            "system": "a sentence",
            "battery": True,
            "user_agent.original": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X)",
        },
    ),
)


@pytest.mark.parametrize(("before", "after", "event"), SUBTLE)
def test_subtle_widenings_are_real(
    read: Callable[[Document], Schema], before: list[Any], after: list[Any], event: Any
) -> None:
    old, new = read(edited(*before)), read(edited(*before, *after))
    was, made = _record(old, event), _record(new, event)
    assert made is not None
    assert was is None or any(was.get(name) != value for name, value in made.items())
    assert compare(old, new).widening


@pytest.mark.parametrize(
    ("version", "newer"),
    [("1.2.3", False), ("1.2.2", False), ("0.9.9", False), ("1.2.10", True), ("10.0.0", True)],
)
def test_widening_needs_a_higher_version(
    read: Callable[[Document], Schema], version: str, newer: bool
) -> None:
    """The numbers of a version are compared as numbers."""
    wider = edited(((*OS, "retention"), "31d"), ("version", version))
    narrower = edited(((*OS, "retention"), "29d"), ("version", version))
    old = read(BASE)
    assert compare(old, read(wider)).allowed == newer
    assert compare(old, read(narrower)).allowed


def test_the_reason_stands_beside_a_change(read: Callable[[Document], Schema]) -> None:
    """Widening for the same reason as before is reported."""
    wider: list[tuple[Any, Any]] = [
        ((*OS, "retention"), "31d"),
        (("purposes", "plan", "optional"), False),
    ]
    wider += [((*BATTERY, "purposes"), ["ops", "plan"]), (("fields", "os.name"), NEW_FIELD)]
    reason = "Encoders are chosen by power, and tested by it"
    reworded = ((*BATTERY, "reason"), reason)
    same = ((*OS, "reason"), "Media  capture\ndiffers")
    found = compare(read(BASE), read(edited(*wider, reworded, same)))
    reasons = {change.at: change.reason for change in found.changes}
    assert reasons["fields.device.battery.purposes"] == reason
    assert reasons["fields.os.name"] == NEW_FIELD["reason"]
    assert reasons["purposes.plan.optional"] == "Decide what to test on"
    assert found.unexplained == ("purposes.plan", "fields.os.type")


def test_a_field_is_not_taken_for_its_neighbour(read: Callable[[Document], Schema]) -> None:
    """``os`` and ``os.type`` are two fields."""
    both = edited((("fields", "os"), NEW_FIELD))
    found = compare(read(both), read(Edit((*OS, "retention"), "31d").made(both)))
    assert found.unexplained == ("fields.os.type",)


def test_values_of_tests_are_not_shown(read: Callable[[Document], Schema]) -> None:
    """Events of tests may be somebody's data."""
    new = edited(("tests", [TEST | {"event": {"secret": "canary two"}, "keeps": {}}]))
    for pair in ((BASE, new), (new, BASE)):
        found = compare(*map(read, pair))
        assert "canary" not in repr(found.changes)
        assert "secret" not in repr(found.changes)


COARSER: tuple[tuple[dict[str, Any], dict[str, Any], Any, Any], ...] = (
    ({"kind": "version"}, {"kind": "version", "parts": 1}, "1.2", "1"),
    ({"kind": "ip"}, {"kind": "ip", "truncate": {"ipv4": 24}}, "192.0.2.1", "192.0.2.0"),
    (
        {"kind": "time", "precision": "hour"},
        {"kind": "time", "precision": "day"},
        "2020-02-02T02:00:00Z",
        "2020-02-02T00:00:00Z",
    ),
    (
        {"kind": "integer", "minimum": 0, "maximum": 9, "step": 1},
        {"kind": "integer", "minimum": 0, "maximum": 9, "step": 3},
        5,
        3,
    ),
)


@pytest.mark.parametrize(("old", "new", "was", "made"), COARSER)
def test_a_test_follows_its_field(
    read: Callable[[Document], Schema],
    old: dict[str, Any],
    new: dict[str, Any],
    was: Any,
    made: Any,
) -> None:
    """A coarser value in ``keeps`` is what the field now makes of the old one."""
    common = {"category": "system", "purposes": ["ops"], "retention": "1d", "reason": "because"}

    def document(kind: dict[str, Any], kept: Any) -> Schema:
        tests = [{"name": "one", "event": {"a": was, "battery": True}, "keeps": {"a": kept}}]
        return read(edited((("fields", "a"), kind | common), ("tests", tests)))

    assert not compare(document(old, was), document(new, made)).widening
    assert said(compare(document(new, made), document(new, was))) == [("tests", "test weakened")]


@for_each("name", resources.names())
def test_shipped_schemas_differ_from_themselves_in_nothing(name: str) -> None:
    assert compare(load_schema(name), load_schema(name)).changes == ()


def test_the_strict_schema_is_the_narrower_one() -> None:
    wide, strict = load_schema("conferencing"), load_schema("conferencing-strict")
    own = {"schema", "tests"}
    narrowed = [c for c in compare(wide, strict).changes if c.at not in own]
    assert {change.verdict for change in narrowed} == {"narrowing", "neutral"}
    assert {c.at for c in compare(strict, wide).changes if c.verdict == "widening"} > own
