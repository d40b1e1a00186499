"""Refusals: one closed table, and texts that hold nothing of a request."""

from __future__ import annotations

import re

import pytest

from collector.recording.refusals import REFUSALS, Refused


def test_a_refusal_is_its_row() -> None:
    """A status of a client's or the server's, and one sentence without an end mark."""
    for code in REFUSALS:
        refused = Refused(code)
        assert (refused.code, refused.status, refused.message) == (code, *REFUSALS[code])
        assert refused.next is None
        assert str(refused) == f"{code}: {refused.message}"
        assert 400 <= refused.status < 600
        assert re.fullmatch(r"[a-z][^.\n]{10,90}", refused.message)


def test_an_unknown_code_is_a_fault() -> None:
    """The table is closed."""
    with pytest.raises(KeyError):
        Refused("because")


def test_the_number_that_is_wanted() -> None:
    """It is an attribute, and not in the message."""
    refused = Refused("next", next=123456)
    assert refused.next == 123456
    assert "123456" not in repr(refused)
