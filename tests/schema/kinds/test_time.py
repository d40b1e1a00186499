"""``time``: RFC 3339 and Unix time, truncated, within a window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from math import inf, nan
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collector.filter.sdk_records import HOUR_SPAN
from collector.schema.kinds.time import TimeField
from tests.support.make_schemas import NOW, canonical, field, refuses
from tests.support.rows import for_each

_STEPS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PRECISIONS = st.sampled_from(sorted(_STEPS))
_ZONES = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda m: timezone(timedelta(minutes=m)))
_MOMENTS = st.datetimes(_EPOCH.replace(tzinfo=None) - timedelta(days=9999), timezones=_ZONES)


def _cut(moment: datetime, precision: str) -> str | None:
    """In whole seconds since 1970, by arithmetic."""
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    if not 0 <= seconds <= 253_402_300_799:  # the last second of the year 9999
        return None
    whole = _EPOCH + timedelta(seconds=seconds - seconds % _STEPS[precision])
    return whole.replace(tzinfo=None).isoformat() + "Z"


@given(_MOMENTS, _PRECISIONS, st.sampled_from("Tt "))
def test_written_moments(moment: datetime, precision: str, between: str) -> None:
    make = canonical(field("time", precision=precision))
    found = make(moment.isoformat(between))
    assert found == _cut(moment, precision)
    assert found is None or make(found) == found


@given(st.integers(0, 10**11 - 1), st.integers(0, 10**9 - 1), _PRECISIONS)
def test_counted_moments(seconds: int, fraction: int, precision: str) -> None:
    make = canonical(field("time", precision=precision))
    expected = _cut(_EPOCH + timedelta(seconds=seconds), precision)
    assert make(seconds) == make(float(seconds)) == expected
    if seconds >= 10**8:
        assert make(seconds * 1000 + fraction // 10**6) == expected
        assert make(seconds * 10**9 + fraction) == expected


@given(st.integers() | st.floats() | st.text() | st.text(alphabet="0123456789-:TZ+. ", max_size=30))
def test_anything(value: str | float) -> None:
    make = canonical(field("time", within="±7d"))
    found = make(value)
    assert found is None or make(found) == found


@for_each(
    "text",
    [
        *("", "2026-11-24T10:20:30 +01:00", "2026-11-24T10:20:30Z\n"),
        *(" 2026-11-24T10:20:30Z", "2026-11-24T10:20:30z "),
        *"2026-11-24 10:20:30 2026-11-24T10:20:30 2026-11-24T10:20Z 20261124T102030Z".split(),
        *"2026-11-24T24:00:00Z 2026-11-24T10:60:00Z 2026-11-24T10:20:60Z".split(),
        *"2026-13-01T00:00:00Z 2026-02-29T00:00:00Z 0000-01-01T00:00:00Z".split(),
        *"1969-12-31T23:59:59Z 1970-01-01T00:00:00+00:01 2026-11-24T10:20:30+24:00".split(),
        *"2026-11-24T10:20:30+14:60 2026-11-24T10:20:30+1:00 2026-11-24T10:20:30+0100".split(),
        *"2026-11-24T10:20:30.Z 2026-11-24T10:20:30.1234567890Z 2026-11-24T10:20:30,5Z".split(),
        *"２０２６-11-24T10:20:30Z +2026-11-24T10:20:30Z 12026-11-24T10:20:30Z".split(),
        *"1795515630 9999-12-31T23:59:59-00:01 2026-11-24T10:20:3٠Z".split(),
    ],
)
def test_refused_texts(text: str) -> None:
    assert canonical(field("time"))(text) is None


@for_each(
    "number",
    [-1, -0.5, nan, inf, -inf, 10**14, 10**17 - 1, 10**20, 10**400, 1e20, 1e300, -(10**400)],
)
def test_refused_numbers(number: float) -> None:
    """Microseconds are refused, and whatever lies beyond the year 5138."""
    assert canonical(field("time"))(number) is None


@for_each(
    ("value", "result"),
    [
        ("2026-11-24T10:20:30Z", "2026-11-24T10:20:30Z"),
        ("2026-11-24t10:20:30.999999999z", "2026-11-24T10:20:30Z"),
        ("2026-11-24 10:20:30-00:00", "2026-11-24T10:20:30Z"),
        ("2026-11-24T23:59:59-05:30", "2026-11-25T05:29:59Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        (0, "1970-01-01T00:00:00Z"),
        (1_795_515_630, "2026-11-24T10:20:30Z"),
        (1_795_515_630.9, "2026-11-24T10:20:30Z"),
        (1_795_515_630_999, "2026-11-24T10:20:30Z"),
        (1_795_515_630_999_999_999, "2026-11-24T10:20:30Z"),
        (10**11 - 1, "5138-11-16T09:46:39Z"),
        (10**11, "1973-03-03T09:46:40Z"),
        (10**14 - 1, "5138-11-16T09:46:39Z"),
        (10**20 - 1, "5138-11-16T09:46:39Z"),
    ],
)
def test_accepted(value: str | float, result: str) -> None:
    assert canonical(field("time"))(value) == result


@for_each(
    ("within", "precision", "early", "late"),
    [
        ("±7d", "second", "2026-11-17T10:20:30Z", "2026-12-01T10:20:30Z"),
        ("±7d", "day", "2026-11-17T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("±90s", "minute", "2026-11-24T10:19:00Z", "2026-11-24T10:22:00Z"),
        ("±1h", "day", "2026-11-24T00:00:00Z", "2026-11-24T00:00:00Z"),
        ("±99999w", "hour", "1970-01-01T00:00:00Z", "3943-06-01T10:00:00Z"),
    ],
)
def test_windows(within: str, precision: str, early: str, late: str) -> None:
    """The window counts in whole steps: its first and last step pass, their neighbours do not."""
    make = canonical(field("time", within=within, precision=precision))
    step = timedelta(seconds=_STEPS[precision])
    assert (make(early), make(late)) == (early, late)
    for edge, beyond in ((early, -step), (late, step)):
        moment = datetime.fromisoformat(edge) + beyond
        assert make(moment.isoformat()) is None


@for_each(("within", "precision"), [("±1s", "second"), ("±45s", "minute"), ("±2m", "minute")])
def test_the_size_of_a_window_around_an_hour(within: str, precision: str) -> None:
    """A sender of records says the hour, so values in the window of any of its moments pass."""
    of, step = field("time", within=within, precision=precision), _STEPS[precision]
    assert isinstance(of, TimeField)
    hour = NOW.replace(minute=0, second=0, microsecond=0)
    make = of.stored_between(hour, hour + HOUR_SPAN)
    around = range(-600 // step, 4200 // step)
    moments = (hour + timedelta(seconds=step * number) for number in around)
    passed = {make(each.replace(tzinfo=None).isoformat() + "Z") for each in moments} - {None}
    assert of.size() < len(passed) <= of.size_between(HOUR_SPAN) <= len(passed) + 1


@for_each("precision", sorted(_STEPS))
def test_the_size_without_a_window(precision: str) -> None:
    first, last = _EPOCH, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    seconds = round((last - first).total_seconds())
    assert field("time", precision=precision).size() == seconds // _STEPS[precision] + 1


@for_each("year", [1, 9999])
def test_at_the_ends_of_the_calendar(year: int) -> None:
    of, present = field("time", within="±99999w"), datetime(year, 12, 31, tzinfo=UTC)
    make = canonical(of, present)
    assert make("2026-11-26T10:20:00Z") is None
    stored = of.stored_between(present, present)
    assert stored("2026-11-26T10:20:00Z") is None
    assert make("9999-12-31T23:59:59Z") == ("9999-12-31T23:59:59Z" if year > 1 else None)


def test_the_clock_is_read_each_time() -> None:
    of = field("time", within="±1h")
    text = NOW.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    assert canonical(of, NOW + timedelta(minutes=59))(text) == text
    assert canonical(of, NOW + timedelta(minutes=61))(text) is None


@for_each(
    ("options", "code"),
    [
        *(({"precision": precision}, "literal_error") for precision in ("week", 1)),
        *(({"within": within}, "E107") for within in ("7", 7, "+7d")),
        ({"within": "7d"}, None),
    ],
)
def test_options(options: dict[str, Any], code: str | None) -> None:
    assert refuses("time", **options) == code


def test_a_column_has_days_of_the_calendar() -> None:
    check = field("time").column_check(NOW, NOW)
    assert check(["2024-02-29T10:00:00Z", None])
    for text in ("2026-02-29T10:00:00Z", "2026-06-31T10:00:00Z", "0000-01-01T00:00:00Z"):
        assert not check([text])
