"""What an exception still refers to after a call has failed."""

from __future__ import annotations

from traceback import walk_tb
from types import TracebackType

import pytest

from collector.filter.frames import clear, clearing

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
    return repr([frame.f_locals for frame, _ in walk_tb(traceback.tb_next)])


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
