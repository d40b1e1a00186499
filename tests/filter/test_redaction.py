"""Records with less in them: what is to go, no more, and every other byte as it was."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.contracts import Part, Record, Subject
from collector.filter import redaction
from collector.filter.redaction import Rule
from collector.schema import load_schema
from tests.filter.test_laws import changed

_NOW = datetime(2026, 11, 24, 10, 20, tzinfo=UTC)
_SPANS = {"client.address": timedelta(days=30), "os.type": timedelta(days=90)}
_SUBJECT = Subject("client.address", "10.0.0.1", "2026-11-01T00:00:00Z", "2026-11-08T00:00:00Z")


def _expiry(now: datetime = _NOW) -> Rule:
    return Rule.expiry_by_name({"s": _SPANS}, now)


class _Left(NamedTuple):
    payload: bytes
    records: int
    unruled: tuple[str, ...]


def redact(payload: bytes, rule: Rule, minute: str | None = None) -> _Left:
    """What a rule leaves, and what it counts."""
    left, (done,) = redaction.redact(payload, [rule], minute)
    return _Left(left, done.records, done.unruled)


def _minute(**ago: float) -> str:
    return (_NOW - timedelta(**ago)).strftime("%Y-%m-%dT%H:%M:00Z")


def _lines(*records: Record) -> bytes:
    return b"".join(orjson.dumps({"schema": "s/1.0.0"} | record) + b"\n" for record in records)


_BOTH: Record = {"client.address": "10.0.0.1", "os.type": "linux", "count": 3}


def test_the_minutes_of_a_part() -> None:
    """It overlaps a range if one of its minutes is the part's, and covers it if all are."""
    for start, end, first, last in product("0123", repeat=4):
        if start < end and first <= last:
            part, minutes = Part(start=start, end=end), range(int(first), int(last) + 1)
            concerned = [int(start) <= minute < int(end) for minute in minutes]
            assert part.overlaps(first, last) == any(concerned)
            assert part.covers(first, last) == all(concerned)


def test_one_rule_of_several() -> None:
    """It has the parts of each, by schema, and for others those of each for others."""
    one, two, three = Part(frozenset(["a"])), Part(frozenset(["b"])), Part(frozenset(["c"]))
    rule = Rule.any_of([Rule({"s": [one]}, [two]), Rule({"s": [three]}, None)])
    assert rule.parts("s/1.0.0") == [one, three]
    assert rule.parts("t") == [two]


def test_a_field_goes_when_its_time_is_over() -> None:
    expiry = _expiry()
    lines = _lines(_BOTH)
    assert redact(lines, expiry, _minute(days=30)).payload is lines
    left = redact(lines, expiry, _minute(days=30, minutes=1))
    assert left.payload == _lines({"os.type": "linux", "count": 3})
    assert left.records == 1
    assert redact(lines, expiry, _minute(days=90, minutes=1)).payload == b""


def test_what_is_not_in_the_schema_goes_with_the_first() -> None:
    """A field that a schema lists no longer has no right to stay longer than any other."""
    left = redact(_lines(_BOTH | {"gone": 1}), _expiry(), _minute(days=31))
    assert left.payload == _lines({"os.type": "linux", "count": 3})


def test_each_schema_has_its_own_retention() -> None:
    """A record goes by that of its schema, whatever the version; of another, by the shortest."""
    days = {"first": 30, "second": 5}
    schemas = []
    for name, number in days.items():
        schema = load_schema("conferencing")
        span = {"retention": timedelta(days=number)}
        fields = {each: one.model_copy(update=span) for each, one in schema.fields.items()}
        schemas.append(changed(schema, fields, name=name))
    records: list[Record] = [
        {"schema": name, "os.type": "linux"}
        for name in ("first/1.0.0", "first/9", "second/1.0.0", "third/1.0.0", "first.x/1")
    ]
    lines = _lines(*records, {"os.type": "linux"})
    for age, left in ((5, 6), (6, 2), (30, 2), (31, 0)):
        found = redact(lines, Rule.expiry(schemas, _NOW), _minute(days=age))
        assert found.payload == (lines if left == 6 else _lines(*records[:left])), age


def test_records_of_a_schema_of_which_nothing_is_known() -> None:
    """Stay whole where those of several programs may lie, and are counted once they are old."""
    names = ("first", "second", "third")
    records: list[Record] = [{"schema": f"{name}/1.0.0", "os.type": "linux"} for name in names]
    lines = _lines(*records)
    spans = {"first": timedelta(days=30), "second": timedelta(days=5)}
    rule = {name: {"os.type": span} for name, span in spans.items()}
    for age, left, unruled in ((5, 3, ()), (6, 2, ("",)), (31, 1, ("",))):
        expiry = Rule.expiry_by_name(rule, _NOW)
        found = redact(lines, expiry, _minute(days=age))
        kept = names if left == 3 else ("first", "third")[2 - left :]
        assert [orjson.loads(line)["schema"] for line in found.payload.splitlines()] == [
            f"{name}/1.0.0" for name in kept
        ]
        assert found.unruled == unruled
    parts = Rule.expiry_by_name(rule, _NOW).parts("third", lambda: {"os.type": timedelta(days=1)})
    assert parts
    stated = Rule({"third": parts})
    line = _lines({"schema": "third/2", "os.type": "x"})
    assert not redact(line, stated, _minute(days=2)).payload


def test_lines_of_a_file_have_their_own_minute() -> None:
    """``received`` says it, and stays; a line that does not say it came too long ago."""
    old, new = _minute(days=31), _minute(days=1)
    lines = _lines(_BOTH | {"received": old}, _BOTH | {"received": new}, _BOTH)
    left = redact(lines, _expiry())
    shortened: Record = {"os.type": "linux", "count": 3, "received": old}
    assert left.payload == _lines(shortened, _BOTH | {"received": new})
    assert left.records == 2


def test_records_of_a_person_go_within_the_window() -> None:
    """The first minute is in it, the last is not; a value that only begins alike is another."""
    others = _lines({"client.address": "10.0.0.10"}, {"os.type": "10.0.0.1"})
    lines = _lines(_BOTH) + others
    for minute, left in (
        ("2026-10-31T23:59:00Z", lines),
        ("2026-11-01T00:00:00Z", others),
        ("2026-11-07T23:59:00Z", others),
        ("2026-11-08T00:00:00Z", lines),
    ):
        assert redact(lines, Rule.removal(_SUBJECT, None), minute).payload == left


def test_an_objection_takes_its_fields_from_records_of_one() -> None:
    """What else they hold stays."""
    lines = _lines(_BOTH, {"client.address": "10.0.0.2", "os.type": "linux"})
    left = redact(lines, Rule.removal(_SUBJECT, ["os.type", "device.type"]), _SUBJECT.start)
    assert left.records == 1
    assert left.payload == _lines(
        {"client.address": "10.0.0.1", "count": 3},
        {"client.address": "10.0.0.2", "os.type": "linux"},
    )


def test_a_line_that_cannot_be_read_goes_if_it_may_be_meant() -> None:
    """It might be a record of that person; others stay, whatever they are."""
    damaged = b'{"client.address":"10.0.0.1\n"10.0.0.1"}\n{"torn\n'
    assert redact(damaged, Rule.removal(_SUBJECT, None), _SUBJECT.start).payload == (
        b'{"client.address":"10.0.0.1\n{"torn\n'
    )
    assert redact(damaged, _expiry(), _minute(days=0)).payload == b""


_values = st.one_of(st.text(), st.integers(-(1 << 53), 1 << 53), st.booleans())
_records = st.lists(
    st.dictionaries(st.sampled_from(["client.address", "os.type", "x"]), _values, min_size=1)
)


@given(_records, st.data())
def test_the_law_of_erasing(records: list[Record], data: st.DataObject) -> None:
    texts = [text for record in records for text in record.values() if isinstance(text, str)]
    value = data.draw(st.sampled_from(texts or ["x"]))
    left = redact(
        _lines(*records),
        Rule.removal(Subject("client.address", value, "", "~"), None),
        _SUBJECT.start,
    )
    expected = [record for record in records if record.get("client.address") != value]
    assert left.payload == _lines(*expected)
    assert left.records == len(records) - len(expected)


def test_late_lines_are_told_by_their_end() -> None:
    """Lines of files end with their minute; wherever else it stands it is read."""
    line = _lines(_BOTH | {"received": _minute(days=1)})
    other = _lines({"received": _minute(days=1), **_BOTH})
    for each in (line, other):
        assert redact(each, _expiry()).payload == each
        assert redact(each, _expiry(_NOW + timedelta(days=30))).records == 1


def test_lines_of_one_form_are_judged_by_their_own_minutes() -> None:
    old, new = ({"received": _minute(days=age), **_BOTH} for age in (31, 1))
    shortened = {"received": old["received"], "os.type": "linux", "count": 3}
    for lines, left in (((old, new), (shortened, new)), ((new, old), (new, shortened))):
        assert redact(_lines(*lines), _expiry()).payload == _lines(*left)


def test_values_are_compared_by_their_hashes() -> None:
    part = Part(start=_SUBJECT.start, end=_SUBJECT.end, field="client.address", value="ab")
    hashed = {("client.address", "10.0.0.1"): "ab"}
    rule = Rule({"s": [part]}, hashed=lambda name, value: hashed.get((name, value), ""))
    other: Record = {"client.address": "ab"}
    assert redact(_lines(_BOTH, other), rule, _SUBJECT.start).payload == _lines(other)
    person = Rule.removal(_SUBJECT, None)
    for each, known, unknown in ((rule, _BOTH, other), (person, _BOTH, other)):
        record = {"schema": "s/1.0.0", **known}
        assert set(each.fields_to_remove(record, _SUBJECT.start) or ()) == {
            *("client.address", "os.type")
        }
        assert not each.fields_to_remove(record | unknown, _SUBJECT.start)


def test_a_rule_of_people_leaves_what_it_does_not_know() -> None:
    person = Part(start=_SUBJECT.start, end=_SUBJECT.end, field="client.address", value="10.0.0.1")
    rule = Rule({"s": [person]}, None)
    unknown = _lines({"schema": "t/1.0.0", "client.address": "10.0.0.2"})
    assert redact(_lines(_BOTH) + unknown, rule, _SUBJECT.start) == (unknown, 1, ("",))
    both = _lines(_BOTH) + unknown
    assert [*redaction.matching(both, rule, _SUBJECT.start)] == [{"schema": "s/1.0.0"} | _BOTH]
    assert len([*redaction.matching(both, rule.with_unknown, _SUBJECT.start)]) == 2
    assert len([*redaction.matching(unknown, rule.with_unknown, _SUBJECT.end)]) == 0
    assert person in rule.with_unknown.parts("s")  # type: ignore[operator]
    known = Rule.removal(_SUBJECT, None)
    assert known.with_unknown is known
    assert (known.has_people, rule.has_people, _expiry().has_people) == (True, True, False)


def test_rules_say_no_value() -> None:
    for each in (Rule.removal(_SUBJECT, None), Part(field="client.address", value="10.0.0.1")):
        assert "10.0.0.1" not in repr(each)


def test_a_field_of_as_many_values_as_addresses_identifies(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of fewer does not; what is said of a field that is not there can be passed on."""
    schema, window = load_schema("conferencing"), ("2026-11-24", "2026-11-24")
    assert redaction.MIN_IDENTIFYING_VALUES == 1 << 32
    size = schema.fields["os.build_id"].size()
    for least, found in ((size, True), (size + 1, False)):
        monkeypatch.setattr(redaction, "MIN_IDENTIFYING_VALUES", least)
        if found:
            subject = redaction.find_subject(schema, "os.build_id", "22631.3447", *window)
            assert subject.value == "22631.3447"
        else:
            with pytest.raises(redaction.NoPersonError, match="coarse"):
                redaction.find_subject(schema, "os.build_id", "22631.3447", *window)
    for name, hint in (("client.adress", "client.address"), ("zzz", "there are client.address,")):
        with pytest.raises(redaction.NoPersonError, match=hint) as caught:
            redaction.find_subject(schema, name, "1", *window)
        copied = pickle.loads(pickle.dumps(caught.value))
        assert (type(copied), str(copied)) == (type(caught.value), str(caught.value))
