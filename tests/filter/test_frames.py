"""What an exception still refers to after a call has failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from traceback import walk_tb
from types import TracebackType
from typing import NoReturn

import pytest

from collector import Filter, load_schema
from collector.filter.explain import explain
from collector.filter.frames import clear, clearing
from collector.filter.recheck import Recheck
from collector.filter.router import EventRouter

CANARY = "canary-of-frames"


def _fail(value: str) -> None:
    """Raises an error while another one is handled."""
    try:
        raise ValueError(value)
    except ValueError:
        raise LookupError from None


@clearing
def fail(value: str, *, also: str = "") -> str:
    """Raise an error."""
    kept = value + also
    if kept:
        _fail(kept)
    return kept + "none"


def test_a_call_that_does_not_fail() -> None:
    assert (fail(""), fail.__name__) == ("none", "fail")


def variables(traceback: TracebackType | None) -> str:
    """The variables of a call that failed, and of its inner calls."""
    assert traceback is not None
    values = (v for frame, _ in walk_tb(traceback.tb_next) for v in frame.f_locals.values())
    return repr([getattr(value, "payload", value) for value in values])


@pytest.mark.parametrize("stops", [LookupError, KeyboardInterrupt, SystemExit])
def test_nothing_of_a_failed_call_is_left(stops: type[BaseException]) -> None:
    @clearing
    def stop(value: str) -> None:
        try:
            _fail(value)
        except LookupError:
            raise stops from None

    with pytest.raises(stops) as caught:
        stop(CANARY)
    assert caught.value.__context__ is None
    assert CANARY not in variables(caught.tb)


def test_every_way_into_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stops it, the filter clears what it was given."""

    def stop(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    schema = load_schema("conferencing")
    filter_, check = Filter(schema), Recheck(schema)
    (batch,) = filter_.admit_records(
        b'{"schema":"%b","os.type":"linux"}\n' % schema.id.encode(),
    )
    event = b'{"ip":"%b"}' % CANARY.encode()
    monkeypatch.setattr(Filter, "_admissions", stop)
    monkeypatch.setattr(Filter, "minutes", stop)
    monkeypatch.setattr(EventRouter, "add_lines", stop)
    monkeypatch.setattr(Recheck, "_demand_payload", stop)
    ways: list[Callable[[], object]] = [
        partial(filter_.admit, [event]),
        partial(filter_.admit_lines, event),
        partial(filter_.admit_by_grant, "ndjson", event),
        partial(filter_.admit_otlp, "logs", event, protobuf=False),
        partial(filter_.admit_records, event),
        partial(explain, filter_.router, event, lines=True),
        partial(check.check, replace(batch, payload=event)),
        partial(check.check_delayed, replace(batch, payload=event)),
    ]
    for way in ways:
        with pytest.raises(KeyboardInterrupt) as caught:
            way()
        assert CANARY not in variables(caught.tb)


def test_what_the_caller_handles_is_kept() -> None:
    outer = KeyError("of the caller")
    try:
        raise outer
    except KeyError:
        with pytest.raises(LookupError) as caught:
            fail(CANARY, also=CANARY)
    assert caught.value.__context__ is outer
    assert CANARY not in variables(caught.tb)


def test_an_error_that_was_never_raised_is_kept() -> None:
    error, given = LookupError(), ValueError()
    error.__context__ = given
    clear(error)
    assert error.__context__ is given
