"""The pipeline: accepted records are on disk, and reach every sink, once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any

import orjson
import pytest

from collector.contracts import (
    Batch,
    Earlier,
    Form,
    KeyUsed,
    Layout,
    PendingBatch,
    Request,
    Scalar,
    Subject,
    Tally,
)
from collector.drain import FieldsFor, all_fields
from collector.errors import DeliveryError, InputError, Unacceptable, Unreachable
from collector.filter import Filter
from collector.filter.redaction import Rule
from collector.ledger import opened
from collector.pipeline import Pipeline
from collector.retention.upkeep import clear
from collector.schema import Schema, load_schema
from collector.sinks.sink import Sink
from collector.sinks.store import Store
from collector.spool import Spool
from collector.spool.recover import try_open
from collector.spool.tables import aside_batches
from collector.synthetic import events
from tests.support.calling import accepted
from tests.support.deadline import WAIT_SECONDS, stays, wait_until
from tests.support.make_schemas import HEAD, REST
from tests.support.programs import threads
from tests.support.raising import raises
from tests.support.rows import for_each

SCHEMA = load_schema("conferencing")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery thread waits for short times only."""
    monkeypatch.setattr("collector.drain._GATHER_SECONDS", 0.01)
    monkeypatch.setattr("collector.drain._POLL_SECONDS", 0.05)
    monkeypatch.setattr("collector.drain._FIRST_PAUSE", 0.02)
    monkeypatch.setattr("collector.drain._LONGEST_PAUSE", 0.1)


class Summed(Pipeline):
    """A pipeline that adds up the tallies of the requests that it stored."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.total = Tally()

    async def accept(self, request: Request) -> Tally:
        """Filter a request on an event loop."""
        self.total += (found := await accepted(self._acceptor.accept, request))
        return found

    def accept_now(self, request: Request) -> Tally:
        self.total += (found := super().accept_now(request))
        return found


_SLICE = 1 << 18


def ndjson(number: int, seed: int = 1) -> bytes:
    return b"".join(orjson.dumps(event) + b"\n" for event in events(number, seed=seed))


@contextmanager
def running(
    folder: Path,
    sinks: dict[str, Sink] | None = None,
    *,
    limit: int = 1 << 30,
    schema: Schema = SCHEMA,
    fields_for: FieldsFor = all_fields,
) -> Iterator[tuple[Summed, Tally]]:
    """A pipeline into a real store, and the tally of all that it stored."""
    store = Store(folder / "store.db", schema)
    chosen: dict[str, Sink] = {"store": store} if sinks is None else sinks
    spool = Spool(folder / "spool.db", sinks=tuple(chosen), limit=limit)
    pipeline = Summed(Filter(schema), spool, chosen, fields_for)
    pipeline.start()
    try:
        yield pipeline, pipeline.total
    finally:
        pipeline.close(60)
        spool.close()
        store.close()


def stored(folder: Path) -> int:
    db = sqlite3.connect(folder / "store.db")
    try:
        return int(db.execute("SELECT coalesce(sum(count), 0) FROM conferencing").fetchone()[0])
    finally:
        db.close()


BODIES: dict[str, tuple[Form, Callable[[], bytes]]] = {
    "one document": ("json", lambda: orjson.dumps(next(iter(events(1, seed=3))))),
    "an array": ("json", lambda: orjson.dumps(list(events(700, seed=3)))),
    "lines": ("ndjson", lambda: ndjson(3)),
    "many slices": ("ndjson", lambda: ndjson(1_000)),
    "no newline at the end": ("ndjson", lambda: ndjson(400).rstrip()),
    "a line longer than a slice": (
        "ndjson",
        lambda: (
            ndjson(2) + orjson.dumps({"ip": "::1", "chat": "x" * 3 * _SLICE}) + b"\n" + ndjson(2)
        ),
    ),
    "lines with bad ones": ("ndjson", lambda: ndjson(200) + b"{\n[]\n5\n" + ndjson(200)),
    "garbage": ("json", lambda: b"\xff\x00" * 100_000),
    "nothing": ("ndjson", lambda: b""),
}


@for_each("body", BODIES)
@for_each("waits", [False, True])
def test_a_request_gives_what_the_filter_gives(tmp_path: Path, body: str, waits: bool) -> None:
    """In slices or whole, from an event loop or a thread: the same tally, and all of it stored."""
    form, made = BODIES[body]
    payload = made()
    filter_ = Filter(SCHEMA)
    expected = filter_.admit_lines(payload) if form == "ndjson" else filter_.admit(payload)
    with running(tmp_path) as (pipeline, total):
        request = Request(form, payload)
        tally = pipeline.accept_now(request) if waits else asyncio.run(pipeline.accept(request))
        got, wanted = tally.as_dict(), expected.tally.as_dict()
        assert abs(tally.bytes_in - expected.tally.bytes_in) <= 3  # a byte order mark
        assert {**got, "bytes_in": 0} == {**wanted, "bytes_in": 0}
        assert total == tally
        wait_until(lambda: stored(tmp_path) == tally.admitted)
    assert stored(tmp_path) == tally.admitted


LONG = orjson.dumps({"device": {"type": "phone"}, "chat": "x" * 2 * _SLICE})


@for_each("waits", [False, True])
@for_each("around", [b"%s", b"\n%s", b"%s\r\n\n", b"%s\n%s"])
def test_only_of_a_single_event_the_sender_is_told(
    tmp_path: Path, around: bytes, waits: bool
) -> None:
    lines = around.count(b"%s")
    path = tmp_path / "filled.yaml"
    path.write_text(
        f"{HEAD}fields:\n"
        f"  client.address: {{kind: ip, source: peer, {REST}}}\n"
        f"  device.type: {{kind: enum, values: [phone], {REST}}}\n"
    )
    sink = Moody()
    sink.takes.set()
    request = Request("ndjson", around.replace(b"%s", LONG), peer="203.0.113.7")
    with running(tmp_path, {"moody": sink}, schema=load_schema(path)) as (pipeline, _):
        tally = pipeline.accept_now(request) if waits else asyncio.run(pipeline.accept(request))
        assert tally.admitted == lines
        wait_until(lambda: len(sink.records) == lines)
    told = {"client.address": "203.0.113.7"} if lines == 1 else {}
    expected = {"schema": "sample/1.0.0", "device.type": "phone"} | told
    assert list(map(dict, sink.records)) == [expected] * lines


# -- records of an SDK ----------------------------------------------------------------------------

_KEY = b"k" * 16


def _ago(minutes: int) -> str:
    moment = datetime.now(UTC) - timedelta(minutes=minutes)
    return moment.strftime("%Y-%m-%dT%H:%M:00Z")


def _records(number: int, *minutes: str) -> bytes:
    """So many records that stand for two events each, of each minute in turn."""
    admitted = Filter(SCHEMA).admit_lines(ndjson(number)).records
    more = [{"count": 2, "received": minutes[at % len(minutes)]} for at in range(number)]
    listed = [record | one for record, one in zip(admitted, more, strict=True)]
    return b"".join(orjson.dumps(record) + b"\n" for record in listed)


def _rows(folder: Path) -> dict[str, int]:
    """How many events of each minute the store has."""
    db = sqlite3.connect(folder / "store.db")
    try:
        query = "SELECT received, sum(count) FROM conferencing GROUP BY 1"
        return {str(minute): int(times) for minute, times in db.execute(query)}
    finally:
        db.close()


@for_each("waits", [False, True])
@for_each("number", [4, 400, 4000])
def test_records_keep_minute_and_count(tmp_path: Path, number: int, waits: bool) -> None:
    late, early = _ago(1), _ago(1500)
    request = Request("records", _records(number, late, early))
    with running(tmp_path) as (pipeline, total):
        tally = pipeline.accept_now(request) if waits else asyncio.run(pipeline.accept(request))
        assert (tally.received, tally.admitted, tally.rejected) == (2 * number, 2 * number, {})
        assert total == tally
        assert tally.bytes_in == len(request.body)
        wait_until(lambda: stored(tmp_path) == 2 * number)
    hour = f"{early[:13]}:00:00Z"
    assert _rows(tmp_path) == {late: number, hour: number}
    with opened(tmp_path / "spool.db") as ledger:
        minutes = [receipt.minute for receipt in ledger.receipts() if receipt.received]
        assert minutes == [late, hour]  # those of parts count nothing
        assert not ledger.verify().flaws


def test_records_that_come_again_change_nothing(tmp_path: Path) -> None:
    """Each copy is told the counts of the first, and everything is there once: also of copies at
    the same time, from an event loop and from threads, and after a restart. Another body under the
    key is told so, and another key is another body."""
    request = Request("records", _records(50, _ago(3)) + b"{\n", key=_KEY)
    with running(tmp_path) as (pipeline, total):

        async def copies() -> list[Tally | BaseException]:
            others = [asyncio.to_thread(pipeline.accept_now, request) for _ in range(5)]
            here = [pipeline.accept(request) for _ in range(5)]
            return await asyncio.gather(*others, *here, return_exceptions=True)

        answers = asyncio.run(copies())
        (first,) = (each for each in answers if isinstance(each, Tally))
        assert (first, first.received, first.admitted) == (total, 101, 100)
        counts = Tally(101, 100, Counter({"malformed": 1}))
        told = [each.earlier for each in answers if isinstance(each, KeyUsed)]
        assert told == [Earlier(counts, is_same=True)] * 9
    with running(tmp_path) as (pipeline, total):
        for body in (request.body, request.body[:-2], b""):
            for accept in (pipeline.accept_now, lambda r: asyncio.run(pipeline.accept(r))):
                with raises("E435", KeyUsed) as caught:
                    accept(replace(request, body=body))
                assert caught.value.earlier == Earlier(counts, is_same=body == request.body)
        assert total == Tally()
        pipeline.accept_now(replace(request, key=b"o" * 16))
        assert total == first
        wait_until(lambda: stored(tmp_path) == 200)
    with opened(tmp_path / "spool.db") as ledger:
        found = ledger.verify()
    assert (found.receipts, found.received, found.flaws) == (4, 202, [])


@for_each("number", [1, 1000])
def test_records_of_another_schema_leave_nothing(tmp_path: Path, number: int) -> None:
    """Nothing is kept or counted, whichever of them it was; the key is as good as new."""
    body = _records(number, _ago(0))
    other = body + body.replace(b"conferencing/", b"web/", 1)
    with running(tmp_path) as (pipeline, total):
        for accept in (pipeline.accept_now, lambda r: asyncio.run(pipeline.accept(r))):
            with raises("E429", InputError):
                accept(Request("records", other, key=_KEY))
        assert total == Tally()
        assert pipeline.accept_now(Request("records", body, key=_KEY)) == total


@for_each("number", [1, 1000])
def test_records_of_another_version_are_filtered_by_todays(tmp_path: Path, number: int) -> None:
    body = _records(number, _ago(0))
    other = body + body.replace(b"1.0.0", b"0.9.0", 1)
    with running(tmp_path) as (pipeline, total):
        for accept in (pipeline.accept_now, lambda r: asyncio.run(pipeline.accept(r))):
            tally = accept(Request("records", other))
            assert (tally.received, tally.admitted) == (4 * number, 4 * number)
        assert total.admitted == 8 * number
        wait_until(lambda: stored(tmp_path) == 8 * number)


def test_requests_of_many_senders_at_once(tmp_path: Path) -> None:
    """Event loop and threads together: every event is counted once and stored once."""
    with running(tmp_path) as (pipeline, total):

        async def some() -> None:
            requests = [Request("ndjson", ndjson(20, seed)) for seed in range(20)]
            await asyncio.gather(*map(pipeline.accept, requests))

        def others() -> None:
            for seed in range(20, 30):
                pipeline.accept_now(Request("ndjson", ndjson(20, seed)))

        with threads(*[others] * 4):
            asyncio.run(some())
        assert total.admitted == 20 * (20 + 4 * 10)
        wait_until(lambda: stored(tmp_path) == total.admitted)


class Moody(Sink):
    """A sink that refuses until it is told to take."""

    def __init__(self) -> None:
        self.takes = Event()
        self.taken: list[bytes] = []
        self.records: list[Mapping[str, Scalar]] = []
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True

    def deliver(self, *batches: Batch) -> None:
        if not self.takes.is_set():
            raise DeliveryError("E503", "not now")
        self.taken += [batch.id for batch in batches]
        self.records += [record for batch in batches for record in batch.records]

    def idle(self) -> None:
        self.deliver()


def test_a_sink_gets_the_fields_that_it_may_have(tmp_path: Path) -> None:
    store, all_, some = Store(tmp_path / "store.db", SCHEMA), Moody(), Moody()
    all_.takes.set()
    some.takes.set()
    sinks: dict[str, Sink] = {"store": store, "all": all_, "some": some}
    limits = {"store": {"os.type", "os.version"}, "some": frozenset({"os.type"})}
    lines = ndjson(300) + b'{"ip": "203.0.113.7"}\n'

    def fields_for(sink: str, *_: object) -> Container[str] | None:
        return limits.get(sink)

    with running(tmp_path, sinks, fields_for=fields_for) as (pipeline, total):
        pipeline.accept_now(Request("ndjson", lines))
        wait_until(lambda: all(one.delivered for one in pipeline.deliveries().values()))
    store.close()
    assert len(all_.records) == total.admitted == 301
    kept = [record for record in all_.records if "os.type" in record]
    assert some.records == [{key: one[key] for key in ("schema", "os.type")} for one in kept]
    assert 0 < len(some.records) < 301
    with closing(sqlite3.connect(tmp_path / "store.db")) as db:
        rows = db.execute("SELECT * FROM conferencing_view")
        names = [column[0] for column in rows.description]
        found = [{k for k, v in zip(names, row, strict=True) if v is not None} for row in rows]
    assert set().union(*found) == {"received", "count", "os_type", "os_version"}
    assert len(found) == len([one for one in all_.records if {"os.type", "os.version"} & {*one}])


class _Talking(Sink):
    """Says what a server said, where the code of its answer belongs."""

    def deliver(self, *batches: Batch) -> None:
        error = DeliveryError("E503", "no", "denied", "HTTP 403 canary")
        assert error.answer == ""
        error.answer = "HTTP 403 canary"
        raise error


def test_only_the_code_of_an_answer_is_kept(tmp_path: Path) -> None:
    """What a sink of a package says besides is dropped; its failures are counted by their cause."""
    with running(tmp_path, {"talking": _Talking()}) as (pipeline, _):
        pipeline.accept_now(Request("ndjson", ndjson(1, 1)))
        state = pipeline.deliveries()["talking"]
        wait_until(lambda: state.failures > 1)
        assert (state.cause, state.answer) == ("denied", "")
        assert set(state.causes) == {"denied"}
        assert state.reason() == {"cause": "denied"}
        pipeline.close(0)  # it takes nothing, however long one waits


def test_a_sink_that_fails_holds_up_nobody(tmp_path: Path) -> None:
    """The store gets everything meanwhile; the other gets it all, in order, when it takes again."""
    moody = Moody()
    store = Store(tmp_path / "store.db", SCHEMA)
    with running(tmp_path, {"store": store, "moody": moody}) as (pipeline, _):
        for seed in range(3):
            pipeline.accept_now(Request("ndjson", ndjson(10, seed)))
            wait_until(lambda: stored(tmp_path) == 10 * (seed + 1))  # noqa: B023
        wait_until(lambda: pipeline.deliveries()["moody"].failing)
        assert pipeline.deliveries()["moody"].failures >= 1
        assert not pipeline.deliveries()["store"].failing
        moody.takes.set()
        wait_until(lambda: len(moody.taken) == pipeline.deliveries()["store"].delivered)
        wait_until(lambda: not pipeline.deliveries()["moody"].failing)
    store.close()
    assert len(set(moody.taken)) == len(moody.taken)


def test_a_sink_does_not_recover_while_the_spool_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moody, is_away, tried = Moody(), Event(), Event()

    def opened_later(*given: Any, **named: Any) -> Any:
        if is_away.is_set():
            tried.set()
            return None
        return try_open(*given, **named)

    monkeypatch.setattr("collector.spool.spool.try_open", opened_later)
    monkeypatch.setattr(moody, "idle", lambda: None)
    with Spool(tmp_path / "spool.db", sinks=("moody",)) as spool, ExitStack() as stack:
        pipeline = Pipeline(Filter(SCHEMA), spool, {"moody": moody})
        pipeline.start()
        stack.callback(pipeline.close, 1)
        pipeline.accept_now(Request("ndjson", ndjson(10)))
        state = pipeline.deliveries()["moody"]
        wait_until(lambda: state.failing)
        is_away.set()
        with suppress(DeliveryError):
            spool.submit(lambda _: 1 / 0).result(WAIT_SECONDS)
        assert tried.wait(WAIT_SECONDS)
        stays(lambda: state.failing, 0.5)
        is_away.clear()
        moody.takes.set()
        wait_until(lambda: state.delivered == 1 and not state.failing)


class Faulty(Moody):
    """A sink whose code has an error in it, which shows so many times; also when nothing waits, if
    it is told so."""

    def __init__(self, error: BaseException, times: int, *, idle: bool = False) -> None:
        super().__init__()
        self.takes.set()
        self.left = times
        self._error, self._idle = error, idle

    def deliver(self, *batches: Batch) -> None:
        if self.left and (batches or self._idle):
            self.left -= 1
            raise self._error
        super().deliver(*batches)


class Tidy(Moody):
    """A sink that counts how often it may tidy up."""

    def __init__(self) -> None:
        super().__init__()
        self.takes.set()
        self.times = 0

    def idle(self) -> None:
        self.times += 1


def test_a_sink_under_load_has_time_to_tidy_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spool, "wait", lambda *_: True)
    sink = Tidy()
    monkeypatch.setattr("collector.drain._IDLE_SECONDS", 0)
    with running(tmp_path, {"tidy": sink}):
        wait_until(lambda: sink.times > 1)


class Counting(Moody):
    """A sink that counts how often it is called with batches."""

    def __init__(self) -> None:
        super().__init__()
        self.takes.set()
        self.calls = 0

    def deliver(self, *batches: Batch) -> None:
        self.calls += bool(batches)
        super().deliver(*batches)


def test_batches_that_keep_coming_are_delivered_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sink that has taken everything is not called again before more could gather."""
    sink, gather = Counting(), 0.25
    monkeypatch.setattr("collector.drain._GATHER_SECONDS", gather)
    began = monotonic()
    with running(tmp_path, {"sink": sink}) as (pipeline, _):
        for seed in range(40):
            pipeline.accept_now(Request("ndjson", ndjson(1, seed)))
            sleep(0.02)
        calls, seconds = sink.calls, monotonic() - began
    assert calls <= seconds / gather + 1
    assert len(sink.records) == 40


class Refusing(Moody):
    """A sink that never takes the batches with one record, and says so, or fails."""

    def __init__(self, *, says_so: bool) -> None:
        super().__init__()
        self.takes.set()
        self._says_so = says_so

    def deliver(self, *batches: Batch) -> None:
        for batch in batches:
            if len(batch.records) == 1:
                raise Unacceptable(batch.id) if self._says_so else RuntimeError("canary")
        super().deliver(*batches)


@pytest.mark.parametrize("says_so", [True, False])
def test_a_batch_that_is_never_taken_is_set_aside(
    tmp_path: Path, says_so: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Refusing(says_so=says_so)
    monkeypatch.setattr("collector.drain._LONGEST_PAUSE", 0.02)
    with running(tmp_path, {"refusing": sink}) as (pipeline, _):
        for number in (2, 1, 3):
            pipeline.accept_now(Request("ndjson", ndjson(number)))
        delivery = pipeline.deliveries()["refusing"]
        wait_until(lambda: len(aside_batches(tmp_path / "spool.db")) == 1)
        wait_until(lambda: delivery.delivered == 2)
        assert delivery.failures >= (1 if says_so else 11)
    assert {len(sink.records)} <= {5, 8}, "another is tried to see who is at fault"
    (refused,) = aside_batches(tmp_path / "spool.db")
    assert (refused.sink, refused.batch.payload.count(b"\n")) == ("refusing", 1)


class RefusingLate(Sink):
    """A sink that refuses its batch when a test says so."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.has_read, self.goes_on = Event(), Event()

    def deliver(self, *batches: Batch) -> None:
        self.batches.extend(batches)
        self.has_read.set()
        self.goes_on.wait(WAIT_SECONDS)
        raise Unacceptable(batches[0].id)


@pytest.mark.parametrize("number", [1, 20])
def test_a_person_erased_while_a_sink_refuses(tmp_path: Path, number: int) -> None:
    """What is set aside is what is left of the batch then, not what was handed over."""
    sink = RefusingLate()
    with Spool(tmp_path / "spool.db", sinks=("refusing",)) as spool, ExitStack() as stack:
        pipeline = Pipeline(Filter(SCHEMA), spool, {"refusing": sink})
        pipeline.start()
        stack.callback(pipeline.close, 60)
        pipeline.accept_now(Request("ndjson", ndjson(number)))
        assert sink.has_read.wait(WAIT_SECONDS)
        address = str(sink.batches[0].records[0]["client.address"])
        person = Subject("client.address", address, "2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z")
        clear(spool, [Rule.removal(person, None)], wait=1)
        sink.goes_on.set()
        wait_until(lambda: not spool.state().batches)
    left = [each.batch.payload for each in aside_batches(tmp_path / "spool.db")]
    assert len(left) == (number > 1)
    assert address.encode() not in b"".join(left)
    files = [path for path in tmp_path.iterdir() if path.name.startswith("spool")]
    assert not any(address.encode() in path.read_bytes() for path in files)


def test_a_sink_that_fails_ten_times_gets_it_all(tmp_path: Path) -> None:
    """Nothing is set aside as long as the sink itself is at fault; the store is not held up."""
    faulty, store = Faulty(RuntimeError("canary"), 10), Store(tmp_path / "store.db", SCHEMA)
    with running(tmp_path, {"faulty": faulty, "store": store}) as (pipeline, total):
        for seed in range(3):
            pipeline.accept_now(Request("ndjson", ndjson(10, seed)))
        wait_until(lambda: len(faulty.records) == total.admitted)
        delivery = pipeline.deliveries()["faulty"]
        assert (delivery.failures, aside_batches(tmp_path / "spool.db")) == (10, [])
        wait_until(lambda: stored(tmp_path) == total.admitted)
    store.close()


@for_each("error", [RuntimeError("canary"), KeyError("canary"), SystemExit(1), MemoryError()])
def test_whatever_a_sink_raises_is_counted_and_asked_again(
    tmp_path: Path, error: BaseException
) -> None:
    """It gets all in the end; the store beside it is not held up, and no thread ends."""
    faulty, store = Faulty(error, 3), Store(tmp_path / "store.db", SCHEMA)
    with running(tmp_path, {"store": store, "faulty": faulty}) as (pipeline, _):
        pipeline.accept_now(Request("ndjson", ndjson(10)))
        wait_until(lambda: stored(tmp_path) == 10)
        wait_until(lambda: len(faulty.records) == 10)
        wait_until(lambda: not pipeline.deliveries()["faulty"].failing)
        assert pipeline.deliveries()["faulty"].failures == 3
        pipeline.accept_now(Request("ndjson", ndjson(10, 2)))
        wait_until(lambda: len(faulty.records) == 20)
        assert pipeline.close(WAIT_SECONDS)
    store.close()


class _Quoting(DeliveryError):
    """An error of another package that says why in a text of its own."""

    cause = "canary"  # type: ignore[assignment]

    def __init__(self) -> None:
        Exception.__init__(self)


class _Silent(DeliveryError):
    """One that was not made as its base wants it."""

    def __init__(self) -> None:
        Exception.__init__(self)


@for_each(
    ("error", "cause"),
    [
        (DeliveryError("E503", "canary", "full"), "full"),
        (DeliveryError("E503", "canary"), "disk"),
        (Unreachable("canary"), "unreachable"),
        (Unreachable("canary", "denied"), "denied"),
        (Unacceptable(b"another"), "batch"),
        (RuntimeError("canary"), "failed"),
        (_Quoting(), "failed"),
        (_Silent(), "failed"),
    ],
)
def test_a_failure_has_a_cause_of_the_closed_list(
    tmp_path: Path, error: BaseException, cause: str
) -> None:
    faulty = Faulty(error, 1)
    with running(tmp_path, {"faulty": faulty}) as (pipeline, _):
        pipeline.accept_now(Request("ndjson", ndjson(10)))
        wait_until(lambda: pipeline.deliveries()["faulty"].delivered)
        assert pipeline.deliveries()["faulty"].cause == cause


class Hanging(Moody):
    """A sink that does not answer until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked = Event()

    def deliver(self, *batches: Batch) -> None:
        self.is_asked.set()
        assert self.takes.wait(WAIT_SECONDS)
        super().deliver(*batches)


def test_a_sink_that_hangs_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is late until it answers, without a failure."""
    monkeypatch.setattr("collector.contracts._HUNG_SECONDS", 0.1)
    hanging = Hanging()
    with running(tmp_path, {"hanging": hanging}) as (pipeline, _):
        pipeline.accept_now(Request("ndjson", ndjson(10)))
        wait_until(lambda: pipeline.deliveries()["hanging"].is_late)
        assert not pipeline.deliveries()["hanging"].failing
        hanging.takes.set()
        wait_until(lambda: len(hanging.records) == 10)
        wait_until(lambda: not pipeline.deliveries()["hanging"].is_late)


def test_a_sink_that_hangs_is_removed(tmp_path: Path) -> None:
    """Nothing waits for it for long: it is closed when it has answered, and gets nothing more. What
    it had not taken waits until a sink of that name is there again."""
    hanging, after = Hanging(), Moody()
    after.takes.set()
    with running(tmp_path, {"one": hanging}) as (pipeline, _):
        pipeline.accept_now(Request("ndjson", ndjson(10)))
        assert hanging.is_asked.wait(WAIT_SECONDS)
        (drain,) = pipeline._drains.values()
        pipeline.remove("one")
        assert pipeline.deliveries() == {}
        pipeline.add("one", lambda: after, all_fields)
        wait_until(lambda: len(after.records) == 10)
        hanging.takes.set()
        drain.join(WAIT_SECONDS)
        assert hanging.is_closed
        pipeline.accept_now(Request("ndjson", ndjson(5)))
        wait_until(lambda: len(after.records) == 15)
        assert len(hanging.records) == 10


def test_a_sink_that_fails_while_it_rests_goes_on(tmp_path: Path) -> None:
    faulty = Faulty(RuntimeError("canary"), 2, idle=True)
    with running(tmp_path, {"faulty": faulty}) as (pipeline, _):
        wait_until(lambda: pipeline.deliveries()["faulty"].failures == 2)
        wait_until(lambda: not pipeline.deliveries()["faulty"].failing)
        pipeline.accept_now(Request("ndjson", ndjson(10)))
        wait_until(lambda: len(faulty.records) == 10)


def test_what_waits_is_delivered_after_a_restart(tmp_path: Path) -> None:
    """A sink that was not there takes what the spool kept for it."""
    moody = Moody()
    with running(tmp_path, {"moody": moody}) as (pipeline, _):
        pipeline.accept_now(Request("ndjson", ndjson(10)))
        assert not pipeline.close(0.5)
    moody.takes.set()
    with running(tmp_path, {"moody": moody}) as (pipeline, _):
        wait_until(lambda: len(moody.taken) == 1)
        assert pipeline.close(WAIT_SECONDS)


def test_what_cannot_be_kept_is_not_counted(tmp_path: Path) -> None:
    """A full spool refuses; the sender sends again, and it counts once."""
    moody = Moody()
    with running(tmp_path, {"moody": moody}, limit=20_000) as (pipeline, total):
        codes: Counter[str] = Counter()
        for seed in range(200):
            try:
                pipeline.accept_now(Request("ndjson", ndjson(10, seed)))
            except DeliveryError as error:
                codes[error.code] += 1
        assert set(codes) == {"E505"}
        assert total.received == 10 * (200 - codes["E505"]) > 0
        moody.takes.set()
        assert pipeline.close(WAIT_SECONDS)
        counts = [int(record.get("count", 1)) for record in moody.records]
        assert sum(counts) == total.admitted


def test_a_cursor_moves_when_the_sink_has_the_batch(tmp_path: Path) -> None:
    seen = list[int]()

    class Looking(Sink):
        def deliver(self, *batches: Batch) -> None:
            seen.append(spool.delivered_up_to)

    spool = Spool(tmp_path / "spool.db", sinks=("looking",))
    pipeline = Pipeline(Filter(SCHEMA), spool, {"looking": Looking()}, all_fields)
    pipeline.start()
    try:
        pipeline.accept_now(Request("ndjson", ndjson(3)))
        wait_until(lambda: spool.delivered_up_to == spool.last > 0)
    finally:
        pipeline.close(60)
        spool.close()
    assert seen[0] == 0


def test_it_shows_nothing() -> None:
    """No value is in the name of what goes through it."""
    minute, payload = "2026-11-24T10:20:00Z", b'{"os.name":"canary"}\n'
    for each in (
        Request("json", b"canary", user_agent="canary", peer="canary"),
        PendingBatch(Layout("os/1", "", "os", ()), minute, payload, Tally(1, 1)),
        Batch(bytes(16), minute, [{"os.name": "canary"}], payload=payload),
        Subject("client.address", "canary", minute, minute),
    ):
        assert "canary" not in repr(each)


def test_while_nothing_comes_the_store_is_settled(tmp_path: Path) -> None:
    log, store = tmp_path / "store.db-wal", Store(tmp_path / "store.db", SCHEMA)
    with running(tmp_path, {"store": store}) as (pipeline, _):
        pipeline.accept_now(Request("ndjson", ndjson(20)))
        wait_until(lambda: stored(tmp_path) == 20)
        assert log.stat().st_size
        store.reorder.due = 0.0
        wait_until(lambda: log.stat().st_size == 0)
        assert stored(tmp_path) == 20
    store.close()
