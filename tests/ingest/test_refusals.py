"""Refusals: one table, one code and status each, all of constants."""

from __future__ import annotations

import json
import pickle
import re

import pytest

from collector.errors import CODES, DeliveryError, InputError, Overloaded, SpoolFull
from collector.ingest import refusals
from collector.ingest.refusals import REFUSALS, Refusal, RequestRefused
from collector.ingest.responses import EVENTS, Dialect, refusal_response
from collector.ops.requests import REFUSAL_CODES
from tests.support.rows import for_each

_EACH = pytest.mark.parametrize(
    "refusal", REFUSALS, ids=lambda refusal: f"{refusal.code}-{refusal.message[:30]}"
)


def test_the_table_is_whole() -> None:
    """Every refusal of the module is in it, by code; the codes are those that are ours."""
    named = [value for value in vars(refusals).values() if isinstance(value, Refusal)]
    assert sorted(named) == sorted(REFUSALS)
    assert sorted({refusal.code for refusal in REFUSALS}) == sorted(REFUSAL_CODES)
    assert set(REFUSAL_CODES) <= set(CODES)


@for_each(
    ("error", "told"),
    [
        (SpoolFull(), "E505"),
        (DeliveryError("E506", "not now"), "E506"),
        (Overloaded("not now"), "E425"),
        (DeliveryError("E503", "not now"), "E506"),
    ],
)
def test_a_sender_is_told_why_nothing_was_stored(error: DeliveryError, told: str) -> None:
    """A full spool, a full disk and too much at once are three refusals; each is 503, to be sent
    again."""
    refusal = refusals.refusal_of(error)
    assert (refusal.code, refusal.status) == (told, 503)
    assert refusal.headers == refusals.RETRY


@_EACH
def test_a_refusal_in_our_words(refusal: Refusal) -> None:
    """``{"error": {"code", "message"}}``, which needs no escapes."""
    answer = refusal_response(refusal, EVENTS)
    assert json.loads(answer.body) == {"error": {"code": refusal.code, "message": refusal.message}}
    assert re.fullmatch(r"[a-zA-Z0-9 .,:;/-]+", refusal.message)
    assert answer.status == refusal.status
    assert 400 <= refusal.status < 600


@_EACH
def test_a_refusal_in_the_words_of_otlp(refusal: Refusal) -> None:
    """``google.rpc.Status`` as protobuf and as JSON, read by the library that defines it."""
    status_pb2 = pytest.importorskip("google.rpc.status_pb2")
    said = status_pb2.Status.FromString(refusal_response(refusal, Dialect("logs", True)).body)
    assert (said.code, said.message) == (refusal.rpc, f"{refusal.message} [{refusal.code}]")
    text = refusal_response(refusal, Dialect("logs")).body
    json_format = pytest.importorskip("google.protobuf.json_format")
    said = json_format.Parse(text, status_pb2.Status(), ignore_unknown_fields=True)
    assert (said.code, said.message) == (refusal.rpc, refusal.message)
    assert json.loads(text)["error"]["code"] == refusal.code


def test_only_what_may_be_sent_again_says_when() -> None:
    """OTLP clients send again after 429, 502, 503 and 504 only, and want to know when."""
    for refusal in REFUSALS:
        assert (refusal.status == 503) == (b"retry-after" in dict(refusal.headers))


@_EACH
def test_refused(refusal: Refusal) -> None:
    """The exception is an ``InputError`` that can be sent to other processes."""
    error = RequestRefused(refusal)
    assert isinstance(error, InputError)
    other = pickle.loads(pickle.dumps(error))
    assert (other.code, other.message, other.refusal) == (refusal.code, refusal.message, refusal)
