"""Records out of the spool with some of their columns: the same bytes, or nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from collector.contracts import Batch, Layout
from collector.errors import DeliveryError
from collector.filter.stored import foreign_lines, project, read, values
from collector.filter.text import PIECE
from tests.support.raising import raises

_COLUMNS = (("a.b", "TEXT"), ("n", "REAL"), ("is", "INTEGER"))
_LAYOUT = Layout("x/1.0.0", "ab" * 32, "x", _COLUMNS)


def spooled(payload: bytes) -> Batch:
    """A batch as it lies in the spool."""
    return Batch(b"i" * 16, "2026-11-24T10:20:00Z", layout=_LAYOUT, payload=payload)


def test_values_stay_the_bytes_that_they_are() -> None:
    lines = (
        rb'{"schema":"x/1.0.0","a.b":"\u00e9","n":1.50,"is":true,"count":3}' + b"\n"
        rb'{"schema":"x/1.0.0","n":1e+2,"is":false}' + b"\n"
        rb'{"schema":"x/1.0.0","is":true}' + b"\n"
        rb'{"schema":"x/1.0.0","a.b":"","count":2}' + b"\n"
    )
    found = project(spooled(lines), {"n", "a.b", "others"})
    assert found.payload == (
        rb'{"schema":"x/1.0.0","a.b":"\u00e9","n":1.50,"count":3}' + b"\n"
        rb'{"schema":"x/1.0.0","n":1e+2}' + b"\n"
        rb'{"schema":"x/1.0.0","a.b":"","count":2}' + b"\n"
    )
    assert found.layout == Layout("x/1.0.0", "ab" * 32, "x", _COLUMNS[:2])
    assert (found.id, found.received) == (b"i" * 16, "2026-11-24T10:20:00Z")
    for batch in (read(found), read(spooled(lines), {"n", "a.b"})):
        assert batch.rows is not None
        assert batch.rows() == [("é", 1.5, 3), (None, 100.0, 1), ("", None, 2)]


def test_a_sink_of_all_columns_gets_the_batch_itself() -> None:
    """Nothing is read, so it costs nothing."""
    batch = spooled(b"not even records")
    assert project(batch, {"is", "a.b", "n", "more"}) is batch


def test_rows_that_are_there_stay() -> None:
    """They are not decoded anew."""
    given = replace(spooled(b"not even records"), rows=list)
    assert read(given).rows is list


def test_a_sink_of_none() -> None:
    """No record is left, nor a column."""
    found = project(spooled(b'{"schema":"x/1.0.0","n":1.0}\n'), ())
    assert (found.payload, list(read(found).records)) == (b"", [])
    assert found.layout == Layout("x/1.0.0", "ab" * 32, "x", ())


@pytest.mark.parametrize("payload", [b"{", b"[]\n", b"5\n", b'{"n":1}\n'])
def test_what_is_no_record(payload: bytes) -> None:
    """It is E507, as it is for those who get all columns, and without a context."""
    with raises("E507", DeliveryError) as caught:
        read(project(spooled(payload), {"n"})).rows()  # type: ignore[misc]
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)


def test_rows_of_many_lines() -> None:
    """All of them in their order, however the text is taken apart; the last needs no end."""
    filling = "é" * 100
    lines = [f'{{"schema":"x/1.0.0","a.b":"{filling}","n":{at}}}\n' for at in range(1000)]
    for ends in ("\n", "\r\n"):
        text = "".join(lines).replace("\n", ends).encode()
        assert len(text) > 3 * PIECE
        for payload in (text, text[: -len(ends)]):
            rows = read(spooled(payload)).rows
            assert rows is not None
            assert rows() == [(filling, float(at), None, 1) for at in range(1000)]
    rows = read(spooled(text + b"[]")).rows
    assert rows is not None
    with raises("E507", DeliveryError):
        rows()


def test_a_text_that_is_no_text() -> None:
    """It is E507 in rows as in records."""
    batch = read(spooled(b'{"schema":"x/1.0.0","a.b":"\xff"}\n'))
    for decode in (batch.rows, lambda: [*batch.records]):
        assert decode is not None
        with raises("E507", DeliveryError) as caught:
            decode()
        assert (caught.value.__context__, caught.value.__cause__) == (None, None)


def test_the_values_of_records() -> None:
    """The different ones of each member, by schema; one without a name has none."""
    text = (
        b'{"schema":"x/1.0.0","n":1.0,"os":"a"}\n{"schema":"y/1.0.0","n":2.0}\n'
        b'{"schema":"x/1.0.0","n":1.0,"os":"b"}\n{"n":3}\n'
    )
    assert [*values(text)] == [
        ("x/1.0.0", {"n": {1.0}, "os": {"a", "b"}}),
        ("y/1.0.0", {"n": {2.0}}),
        ("", {"n": {3}}),
    ]
    with raises("E507", DeliveryError):
        [*values(b"[]\n")]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b'{"n":1}\n{"n":1}\n', 0),
        (b'{"n":1}\n{"n":1,"n":1}\n{"n": 1}\n', 2),
        (b'{"n":1}\n{"n":1,"n":2}\n{"n":2}\n', 1),
        (b'{"n":1}', 1),
        (b'{"n":1}\n\n', 1),
        (b"", 0),
    ],
)
def test_lines_that_no_filter_writes(text: bytes, number: int) -> None:
    assert foreign_lines(text) == number
