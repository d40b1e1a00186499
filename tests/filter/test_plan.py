"""What a plan says about a schema, and the shapes and readers that are made of it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from collector import Filter, Schema
from collector.filter.plan import Plan, compile_plan, next_expiry
from collector.schema.kinds import Circumstances
from collector.testing.laws import fixed_key
from tests.support.make_schemas import sample

DAY = date(2026, 6, 1)
OS = "  os.type: {kind: enum, values: [linux, windows], REST}\n"
PEER = "  client.address: {kind: ip, source: peer, REST}\n"
DERIVED = OS.replace("REST", "derive: user_agent, REST")


def plan_of(schema: Schema, day: date = DAY) -> Plan:
    now = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return compile_plan(schema, None, day, Circumstances(lambda: now, fixed_key))


@pytest.mark.parametrize(("fields", "uses"), [(OS, False), (DERIVED, True), (PEER, True)])
def test_whether_the_sender_counts(fields: str, uses: bool) -> None:
    assert plan_of(sample(fields)).uses_sender is uses


def test_the_next_day_to_compile() -> None:
    """The day on which a field ends has been compiled already."""
    schema = sample(OS.replace("REST", "expires: 2026-06-01, REST"))
    assert next_expiry(schema, DAY - timedelta(days=1)) == DAY
    assert next_expiry(schema, DAY) is None
    assert next_expiry(schema, DAY + timedelta(days=1)) is None


@pytest.mark.parametrize("records", ["", "records: {path: ., when: {a: linux}}\n"])
def test_an_event_that_is_a_record_is_admitted_at_once(records: str) -> None:
    tested = Filter(sample(OS, records))
    assert not tested.plan.records
    assert tested.router.single is not None


def test_paths_of_conditions_are_read() -> None:
    fields = OS.replace("REST", "from: [{path: a.c, when: {b: x}}], REST")
    assert {("a", "b"), ("a.b",)} <= set(plan_of(sample(fields)).paths)


def test_a_reader_shows_no_event() -> None:
    reader = Filter(sample(OS)).router.readers.objects
    assert repr(reader) == "<Reader of sample/1.0.0>"


class _Key(str):
    """Not exactly ``str``."""

    __slots__ = ()


def test_lists_beside_keys_of_other_classes() -> None:
    """They are read member by member."""
    fields = OS.replace("REST", "from: ['a[0].b', a.c], REST")
    tested = Filter(sample(fields))
    for found in ([{"b": "linux"}], ({"b": "linux"}, 5), {"c": "linux"}):
        event: dict[Any, Any] = {_Key("z"): 1, "a": found, 5: 6}
        assert tested.admit(event).records == [{"schema": "sample/1.0.0", "os.type": "linux"}]


@pytest.mark.parametrize(
    "event", [{"a": [{"b": [{"o": "linux"}]}]}, {"a": ({"b": ({"o": "linux"},)},)}]
)
def test_records_below_an_element(event: Any) -> None:
    fields = OS.replace("REST", "from: [o], REST")
    tested = Filter(sample(fields, "records: ['a[0].b']"))
    assert tested.admit(event).tally.admitted == 1
