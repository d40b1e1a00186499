"""How many records a document may have, and the lists and elements that they are in."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import msgspec
import pytest

from collector import Filter
from collector.filter import records
from collector.filter.judge import AGENT_OUTSIDE, FROM_AGENT, OUTSIDE, sender_context
from collector.filter.records import TEXTS, decode_list, groups_within, has_many_commas
from tests.support.make_schemas import sample

OS = "  os.type: {kind: enum, values: [linux, windows], from: [o], REST}\n"
LINUX = {"o": "linux", "p": 1}


@pytest.fixture
def ten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document may have ten records, and longer texts are looked at first."""
    for name, value in {"MAX_ITEMS": 10, "_MAX_UNCOUNTED": 20, "_MAX_COMMAS": 30}.items():
        monkeypatch.setattr(records, name, value)
    monkeypatch.setattr("collector.filter.router.MAX_ITEMS", 10)


_SHAPES: dict[str, tuple[str, Any]] = {
    "list": ("records: list", lambda number: {"list": [LINUX] * number}),
    "members": (
        "records: by.*",
        lambda number: {"by": dict.fromkeys(map(str, range(number)), LINUX)},
    ),
    "map": ('records: "*"', lambda number: dict.fromkeys(map(str, range(number)), LINUX)),
    "nested": ("records: ['a[].b[]']", lambda number: {"a": [{"b": [LINUX] * number}]}),
    "both": ("records: ['a[].b[]']", lambda n: {"a": [{"b": [LINUX]}, {"b": [LINUX] * (n - 1)}]}),
}


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize("number", [10, 11])
def test_as_many_as_allowed(shape: str, number: int) -> None:
    more, make = _SHAPES[shape]
    tested, event = Filter(sample(OS, more)), make(number)
    for form in (event, json.dumps(event, separators=(",", ":")).encode()):
        found = tested.admit(form).tally
        counted = 1 if shape == "members" else number
        assert found.admitted == (number if number == 10 else 0)
        assert found.rejected == ({} if number == 10 else {"too_large": counted})


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize("number", [10, 11])
def test_as_many_events_as_allowed(number: int) -> None:
    found = Filter(sample(OS)).admit(json.dumps([LINUX] * number).encode()).tally
    assert found.admitted == (number if number == 10 else 0)


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize(
    ("text", "more"),
    [
        (b"[%s1" % (b"1," * 50), ""),
        (b'{"by":{%s}}' % (b'"a":,' * 50), "records: by.*"),
        (b"{%s}" % (b'"a":,' * 50), 'records: "*"'),
    ],
)
def test_a_long_text_is_malformed_before_it_is_too_large(text: bytes, more: str) -> None:
    found = Filter(sample(OS, more)).admit(text)
    assert found.tally.rejected == {"malformed": 1}


@pytest.mark.usefixtures("ten")
def test_long_lists_are_counted_undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: object) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(records, "_list", never)
    assert decode_list(memoryview(b"[%s1]" % (b"1," * 50))) == 51


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize(
    ("commas", "size", "expected"),
    [(20, 20, False), (10, 21, True), (9, 21, False), (12, 207, True), (11, 207, False)],
)
def test_many_commas(commas: int, size: int, expected: bool) -> None:
    assert has_many_commas(b"," * commas + b" " * (size - commas)) is expected


@pytest.mark.parametrize("commas", [29, 30])
@pytest.mark.usefixtures("ten")
def test_many_commas_in_a_very_long_text(commas: int) -> None:
    assert has_many_commas(b"," * commas + b" " * 1000) is (commas == 30)


def test_members_too_deep_to_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(_: object) -> NoReturn:
        raise RecursionError

    monkeypatch.setattr(records, "_object", deep)
    assert TEXTS.members(msgspec.Raw(b"{}")) == "too_deep"


@pytest.mark.parametrize(("event", "reason"), [(5, "not_an_object"), ([LINUX], "nothing_admitted")])
def test_a_map_of_events_is_an_object(event: Any, reason: str) -> None:
    tested = Filter(sample(OS.replace("[o]", "['[0]']"), 'records: "*"'))
    assert tested.admit(event).tally.rejected == {reason: 1}


def test_elements_are_entered_once() -> None:
    """The outermost first; those within an unreadable one are not."""
    a, b, c = {"a": 1}, {"b": 1}, {"c": 1}
    entered: list[Any] = []

    def enter(around: str, element: Any) -> str | None:
        entered.append(element)
        return None if element is c else around + next(iter(element))

    groups = [
        ((a, b), [1]),
        ((a, b), [2]),
        ((a, c, a), [3]),
        ((a, a), [4]),
        ((b, a), [5]),
        ((), [6]),
    ]
    found = [*groups_within(groups, "", enter)]
    assert found == [("ab", [1]), ("ab", [2]), (None, [3]), ("aa", [4]), ("ba", [5]), ("", [6])]
    assert list(map(id, entered)) == list(map(id, [a, b, c, a, b, a]))


def test_a_drop_of_the_document_reaches_nested_records() -> None:
    tested = Filter(sample(f"{OS}  x: {{kind: boolean, REST}}\n", "records: ['a[].b[]']"))
    event = {"o": 5, "a": [{"c": 1, "b": [{"x": True}]}]}
    for form in (event, json.dumps(event).encode()):
        found = tested.admit(form).tally
        assert (found.admitted, found.dropped) == (1, {"os.type": {"wrong_type": 1}})


_TOLD = """
  os.type: {kind: enum, values: [linux, windows], from: [a, b], derive: user_agent, REST}
  c: {kind: boolean, from: [d, e], expires: 2026-01-01, REST}
"""
_AGENT = {"user_agent.original": "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"}


@pytest.mark.parametrize(
    ("around", "event", "source", "value", "reason"),
    [
        ({}, {"a": "linux", "b": "windows"}, 0, "linux", None),
        ({}, {"b": "linux"}, 1, "linux", None),
        ({}, {"b": "plan9"}, 1, None, "invalid_value"),
        ({}, {"b": 5}, 1, None, "wrong_type"),
        ({"a": "linux"}, {}, OUTSIDE, "linux", None),
        ({"a": "plan9"}, {}, OUTSIDE, None, "invalid_value"),
        ({"a": "linux"}, _AGENT, OUTSIDE, "linux", None),
        ({}, _AGENT, FROM_AGENT, "windows", None),
        (_AGENT, {}, AGENT_OUTSIDE, "windows", None),
        (_AGENT, {"b": "linux"}, 1, "linux", None),
    ],
)
def test_where_a_value_is_from(
    around: Any, event: Any, source: int, value: str | None, reason: str | None
) -> None:
    (sources, _), (values, _), (reasons, _) = _told(around, event)
    assert (sources, values, reasons) == (source, value, reason)


@pytest.mark.parametrize(
    ("around", "event", "source"),
    [
        *(({}, {"d": 1}, 0), ({}, {"e": 1}, 1), ({}, {"d": 1, "e": 1}, 0)),
        *(({"e": 1}, {}, OUTSIDE), ({"e": 1}, {"e": 1}, 1)),
    ],
)
def test_where_a_withheld_value_is(around: Any, event: Any, source: int) -> None:
    (_, sources), (_, values), (_, reasons) = _told(around, event)
    assert (sources, values, reasons) == (source, None, "expired")


def test_where_no_withheld_value_is() -> None:
    (_, source), (_, value), (_, reason) = _told({}, {})
    assert (source, value, reason) == (0, None, None)


def _told(around: Any, event: Any) -> Any:
    """What the judge tells of an event and of the document around it."""
    router = Filter(sample(_TOLD)).router
    reader, told = router.readers.objects, list[Any]()
    context = reader.surround(reader.of_object(around), sender_context(router.plan, None), None)
    reader.judge("told")((reader.of_object(event),), [], [], [], context, told.append)
    return told[0]
