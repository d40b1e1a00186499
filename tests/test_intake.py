"""What a request may become: counted before work is done, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import intake
from collector.contracts import (
    MOST_EVENTS,
    Form,
    PendingBatch,
    Request,
    RequestKey,
    Tally,
    TooManyBytes,
    TooManyEvents,
    Written,
)
from collector.errors import DeliveryError
from collector.filter import Filter
from collector.filter.text import has_more_lines
from collector.intake import Acceptor
from collector.schema import load_schema
from tests.filter.otlp_bombs import logs
from tests.support.calling import accepted
from tests.support.deadline import wait_until
from tests.support.raising import raises
from tests.support.rows import for_each

CONFERENCING = Filter(load_schema("conferencing"))
PARTICIPANTS = Filter(load_schema("participants-qos"))
ADDRESS = b'{"ip":"203.0.113.7"}'
RECORD = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7"%b}'
_MOST = 1000
_CHOICES = """
schema: survey
version: 1.0.0
title: A survey
owner: tests
consent: choices
purposes:
  service: {use: essential.service.operations, basis: contract, reason: A test}
  planning:
    use: analytics.reporting.system.performance
    basis: consent
    reason: A test
    optional: true
fields:
  client.address:
    kind: ip
    category: user.device.ip_address
    from: [ip]
    purposes: [service]
    retention: 30d
    reason: A test
"""
"""A schema with an optional purpose, which an event may refuse."""


def _nested(number: int) -> bytes:
    """A document of records, each of which gets the address of the document."""
    return b'{"ip_address":"203.0.113.7","participants":[%b]}' % b",".join([b"{}"] * number)


def _items(number: int) -> bytes:
    return b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b]}]}]}' % b",".join([b"{}"] * number)


MAKERS: dict[str, tuple[Filter, Form, Callable[[int], bytes]]] = {
    "lines": (CONFERENCING, "ndjson", lambda n: (ADDRESS + b"\n") * n),
    "blank lines": (CONFERENCING, "ndjson", lambda n: b"\n \r\n" + (ADDRESS + b"\n\t\n") * n),
    "lines of garbage": (CONFERENCING, "ndjson", lambda n: b"x\n" * n),
    "an array": (CONFERENCING, "json", lambda n: b"[%b]" % b",".join([ADDRESS] * n)),
    "a nested list": (PARTICIPANTS, "json", _nested),
    "nested lists": (PARTICIPANTS, "json", lambda n: b"[%b,%b]" % (_nested(300), _nested(n - 300))),
    "lists in lines": (PARTICIPANTS, "ndjson", lambda n: _nested(300) + b"\n" + _nested(n - 300)),
    "lists in slices": (
        PARTICIPANTS,
        "ndjson",
        lambda n: (_nested(1) + b"\n") * 600 + _nested(n - 600),
    ),
    "records": (CONFERENCING, "records", lambda n: (RECORD % b"" + b"\n") * n),
    "records for many events": (
        CONFERENCING,
        "records",
        lambda n: (
            (RECORD % b',"count":1023' + b"\n") * (n // 10) + (RECORD % b"" + b"\n") * (n % 10)
        ),
    ),
    "items": (CONFERENCING, "logs", _items),
    "items, protobuf": (CONFERENCING, "logs", lambda n: logs(b"\x12\x00" * n)),
}


class _Kept:
    """A queue that keeps the batches of a request."""

    batches: Sequence[PendingBatch] = ()

    def put(self, *batches: PendingBatch, key: RequestKey | None = None) -> Written:
        """Note that they are stored."""
        assert key is None
        self.batches = batches
        future: Written = Future()
        future.set_result(None)
        return future


def _batches(
    filter_: Filter, request: Request, most: int = _MOST, *, waits: bool
) -> Sequence[PendingBatch]:
    """What becomes of a request."""
    kept = _Kept()
    with closing(Acceptor([filter_], kept, most_events=most)) as acceptor:
        if waits:
            acceptor.accept_now(request)
        else:
            asyncio.run(accepted(acceptor.accept, request))
    return kept.batches


def _filtered(filter_: Filter, request: Request, *, waits: bool) -> tuple[Tally, list[bytes]]:
    """The tally and the records of a request."""
    found = _batches(filter_, request, waits=waits)
    total = sum((batch.tally for batch in found), Tally())
    return total, [batch.payload for batch in found]


@for_each("waits", [False, True])
@for_each("form", MAKERS)
def test_events_are_counted_together(form: str, waits: bool) -> None:
    filter_, kind, make = MAKERS[form]
    protobuf = "protobuf" in form
    tally, _ = _filtered(filter_, Request(kind, make(_MOST), protobuf=protobuf), waits=waits)
    assert tally.received >= _MOST
    with raises("E416", TooManyEvents):
        _filtered(filter_, Request(kind, make(_MOST + 1), protobuf=protobuf), waits=waits)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("form", ["lines", "an array", "lists in lines", "records", "items"])
def test_bytes_of_records_are_bounded(
    form: str, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    filter_, kind, make = MAKERS[form]
    body = make(_MOST)
    if kind == "logs":
        item = b'{"attributes":[{"key":"os.build_id","value":{"stringValue":"21E%d"}}]}'
        body = _items(1).replace(b"{}", b",".join(item % n for n in range(100, 500)))
    request = Request(kind, body)
    _, payloads = _filtered(filter_, request, waits=waits)
    size = sum(map(len, payloads))
    monkeypatch.setattr(intake, "MOST_BYTES", size)
    assert _filtered(filter_, request, waits=waits)[1] == payloads
    monkeypatch.setattr(intake, "MOST_BYTES", size - 1)
    with raises("E416", TooManyBytes):
        _filtered(filter_, request, waits=waits)


@for_each("waits", [False, True])
def test_a_request_is_one_batch_for_each_set_of_purposes(tmp_path: Path, waits: bool) -> None:
    path = tmp_path / "survey.yaml"
    path.write_text(_CHOICES)
    lines = (ADDRESS[:-1] + b',"choices":{"planning":%b}}\n' % word for word in (b"true", b"false"))
    body = b"".join(lines) * (MOST_EVENTS // 2)
    found = _batches(Filter(load_schema(path)), Request("ndjson", body), MOST_EVENTS, waits=waits)
    half = MOST_EVENTS // 2
    assert [(each.granted, each.record_count) for each in found] == [
        (None, half),
        (("service",), half),
    ]
    assert [each.tally.admitted for each in found] == [half, half]


@given(st.lists(st.sampled_from([b"\n", b" ", b"\t\r", b"x", b"{}", b"x" * 50])), st.integers(0, 9))
def test_lines_that_are_not_blank_are_counted(parts: list[bytes], most: int) -> None:
    """In pieces of any size."""
    payload = b"".join(parts)
    number = sum(bool(line.strip(b" \t\r")) for line in payload.split(b"\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collector.filter.text.PIECE", 7)
        assert has_more_lines(payload, most) is (number > most)


def test_no_call_counts_much_of_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold the interpreter's lock, and others up; enough lines end both counts, of line
    ends and of lines that are not blank."""
    counted: list[int] = []

    class Body(bytes):
        def __getitem__(self, part: Any) -> Any:
            counted.append(len(range(len(self))[part]))
            return super().__getitem__(part)

        def count(self, *_: Any) -> int:
            raise AssertionError

    monkeypatch.setattr("collector.filter.text.PIECE", 1000)
    assert has_more_lines(Body(b"x\n" * 50_000), 5_000)
    assert (max(counted), sum(counted)) == (1000, 10_000 + 11_000)
    assert not has_more_lines(Body(b"x" * 50_000), 5_000)
    assert max(counted) == 1000


@for_each("waits", [False, True])
def test_a_list_beyond_all_limits(waits: bool) -> None:
    """It is refused as any other request that is too much, though the filter counts its elements
    only."""
    body = b"[%b{}]" % (b"{}," * 50_000)
    with raises("E416", TooManyEvents):
        _filtered(CONFERENCING, Request("json", body), waits=waits)


class _Held:
    """A queue that stores nothing until it is let go."""

    def __init__(self) -> None:
        self.waiting: list[Written] = []

    def put(self, *_: PendingBatch, key: RequestKey | None = None) -> Written:
        """Have a request wait."""
        assert key is None
        self.waiting.append(Future())
        return self.waiting[-1]

    def store(self) -> None:
        """Note that all that waits is stored."""
        while self.waiting:
            self.waiting.pop().set_result(None)


def _lines(number: int, size: int = 1000) -> Request:
    line = b'{"ip": "203.0.113.7", "note": "%s"}\n' % (b"x" * size)
    return Request("ndjson", line * number)


def test_many_requests_share_a_commit() -> None:
    """Requests of a few hundred events do not wait for one another's commit, whatever their size:
    small ones are filtered at once, others in turn."""
    number, held = 40, _Held()

    async def run(request: Request) -> None:
        with closing(Acceptor([CONFERENCING], held)) as acceptor:
            tasks = [asyncio.create_task(accepted(acceptor.accept, request)) for _ in range(number)]
            await asyncio.wait_for(_until(lambda: len(held.waiting) == number), 30)
            held.store()
            assert {tally.admitted for tally in await asyncio.gather(*tasks)} == {300}

    for size in (10, 1000):
        asyncio.run(run(_lines(300, size)))


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_others_have_their_turn_between_two_requests() -> None:
    turns: list[int] = []

    async def run() -> None:
        held = _Held()
        with closing(Acceptor([CONFERENCING], held)) as acceptor:
            for _ in range(5):
                acceptor.accept(_lines(300), turns.append)  # type: ignore[arg-type]
            assert not held.waiting
            for number in range(1, 6):
                await asyncio.sleep(0)
                turns.append(len(held.waiting))
                assert len(held.waiting) == number

    asyncio.run(run())
    assert turns == [1, 2, 3, 4, 5]


def test_an_answer_that_fails_stops_no_turn() -> None:
    """The requests behind one whose answer raises have their turns."""
    told: list[object] = []

    def fail(outcome: object) -> None:
        told.append(outcome)
        raise ValueError

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        with closing(Acceptor([CONFERENCING], _Held(), most_events=10)) as acceptor:
            for _ in range(3):
                acceptor.accept(_lines(300), fail)
            for _ in range(5):
                await asyncio.sleep(0)

    asyncio.run(run())
    assert len(told) == 3


@for_each("padding", [100, 400])
def test_a_thread_with_many_records_waits_until_they_are_stored(padding: int) -> None:
    line = b'{"ip": "203.0.%d.%d", "os": {"name": "Ubuntu"}, "x": "%s"}\n'
    parts = (line % (*divmod(number, 250), b"x" * padding) for number in range(5000))
    bulky = Request("ndjson", b"".join(parts))
    held, told = _Held(), list[object]()

    async def run() -> None:
        with closing(Acceptor([CONFERENCING], held)) as acceptor:
            for _ in range(3):
                acceptor.accept(bulky, told.append)
            await asyncio.to_thread(wait_until, lambda: bool(held.waiting))
            acceptor.accept(_lines(1), told.append)
            assert len(held.waiting) == 2
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(intake, "_BUSY_SECONDS", 0.01)
                with pytest.raises(DeliveryError, match="E425"):
                    await asyncio.to_thread(acceptor.accept_now, bulky)
            while len(told) < 4:
                held.store()
                await asyncio.sleep(0.001)

    asyncio.run(run())
    assert all(isinstance(each, Tally) for each in told)
