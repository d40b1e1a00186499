"""Whom a request is about: what may be asked by, how a value is read, and what a window holds."""

from __future__ import annotations

import orjson
import pytest

from collector.errors import InputError
from collector.filter.redaction import find_subject, minute_window
from collector.schema import Schema, load_schema
from tests.support.make_schemas import sample
from tests.support.raising import raises


@pytest.fixture(scope="module")
def schema() -> Schema:
    return load_schema("conferencing")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
    ],
)
def test_a_value_is_read_as_that_of_an_event_is(schema: Schema, written: str, meant: str) -> None:
    found = find_subject(schema, "client.address", written, "2026-11-24", "2026-11-24")
    assert (found.field, found.value) == ("client.address", meant)


def test_a_private_address_may_be_looked_for() -> None:
    """An earlier version of the schema, without a scope, may have kept it."""
    schema = load_schema("webrtc")
    found = find_subject(schema, "client.address", "192.168.1.7", "2026-11-24", "2026-11-24")
    assert found.value == "192.168.1.7"


def test_a_value_that_is_none_is_refused_and_not_said(schema: Schema) -> None:
    """The message holds no value, nor does what led to it."""
    with raises("E107", InputError) as caught:
        find_subject(schema, "client.address", "canary", "2026-11-24", "2026-11-24")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"kind": "ip", "truncate": {"ipv4": 24, "ipv6": 48}}, "truncated"),
        ({"kind": "ip", "truncate": {"ipv4": 31}}, "truncated"),
        ({"kind": "pseudonym", "key": "env:KEY", "rotate": "1d"}, "pseudonym"),
        ({"kind": "enum", "values": ["a", "b"]}, "coarse"),
        ({"kind": "boolean"}, "coarse"),
        ({"kind": "time", "precision": "second"}, "coarse"),
        ({"kind": "token", "pattern": "[0-9]{9}"}, "coarse"),
        ({"kind": "token", "pattern": "[0-9a-e][0-9a-f]{7}"}, "coarse"),
        ({"kind": "version", "parts": 4, "maximum": [99999] * 4}, "coarse"),
    ],
)
def test_a_field_of_many_is_refused_with_the_reason(options: dict[str, object], why: str) -> None:
    with raises("E404", InputError, match=why):
        find_subject(_schema(options), "some.field", "1", "2026-11-24", "2026-11-24")


def test_a_token_of_as_many_values_as_addresses_will_do() -> None:
    """It can be one person's."""
    schema = _schema({"kind": "token", "pattern": "[0-9]{10}"})
    found = find_subject(schema, "some.field", "0123456789", "2026-11-24", "2026-11-24")
    assert found.value == "0123456789"


def test_a_field_that_is_not_there_is_said(schema: Schema) -> None:
    with raises("E404", InputError, match=r"client\.address"):
        find_subject(schema, "client.adress", "203.0.113.7", "2026-11-24", "2026-11-24")


@pytest.mark.parametrize(
    ("since", "until", "start", "end"),
    [
        ("2026-11-24", "2026-11-24", "2026-11-24T00:00", "2026-11-25T00:00"),
        ("2026-11-24T10:20:30Z", "2026-11-24T10:20:40Z", "2026-11-24T10:20", "2026-11-24T10:21"),
        ("2026-11-24T10:20+02:00", "2026-11-30", "2026-11-24T08:20", "2026-12-01T00:00"),
        ("2026-11-24t10:20:00.5z", "2026-11-24", "2026-11-24T10:20", "2026-11-25T00:00"),
        ("1000-01-01", "9998-12-31", "1000-01-01T00:00", "9999-01-01T00:00"),
    ],
)
def test_a_window_has_both_its_ends(since: str, until: str, start: str, end: str) -> None:
    """A day is all of it, a moment all of its minute: what came then is kept by the minute."""
    assert minute_window(since, until) == (f"{start}:00Z", f"{end}:00Z")


@pytest.mark.parametrize(
    ("since", "until"),
    [
        *(("yesterday", "2026-11-24"), ("2026-11-24", ""), ("2026-11-24T10:20:00", "2026-11-24")),
        *(("2026-02-30", "2026-11-24"), ("2026-11-24", "2026-11-23"), ("20261124", "2026-11-24")),
        *(("2026-11-24T25:00:00Z", "2026-11-25"), ("2026-11-24", "9999-12-31")),
        *(("0999-12-31", "2026-11-25"), ("2026-11-24", "9999-01-01")),
        ("٢٠٢٦-11-24", "2026-11-25"),
    ],
)
def test_what_is_no_window_is_refused(since: str, until: str) -> None:
    """A moment without an offset may be any of a day's."""
    with raises("E107", InputError):
        minute_window(since, until)


def _schema(options: dict[str, object]) -> Schema:
    return sample(f"  some.field: {{{orjson.dumps(options).decode()[1:-1]}, REST}}")
